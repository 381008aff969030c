//! Where processes that take over from each other meet.

use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A path for a Unix socket.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: PathBuf,
    /// Somebody asked for it by name; then it has to be had.
    pub is_asked_for: bool,
}

/// The same for all processes that read the same file: in the directory that systemd gives the service
/// (`RUNTIME_DIRECTORY`), in the user's (`XDG_RUNTIME_DIR`), or in one below `/tmp` that is the user's alone.
pub fn default_place(config: &Path) -> Result<Place, String> {
    let of_service = std::env::var_os("RUNTIME_DIRECTORY");
    let of_service = of_service.as_ref().and_then(|all| all.as_bytes().split(|byte| *byte == b':').next());
    let of_service = of_service.filter(|first| !first.is_empty()).map(std::ffi::OsStr::from_bytes);
    let directory = match (of_service, std::env::var_os("XDG_RUNTIME_DIR")) {
        (Some(directory), _) => PathBuf::from(directory),
        (None, Some(directory)) if !directory.is_empty() => own(PathBuf::from(directory).join("naru"))?,
        _ => {
            let user = rustix::process::geteuid().as_raw();
            own(std::env::temp_dir().join(format!("naru-{user}")))?
        }
    };
    let config = std::fs::canonicalize(config).unwrap_or_else(|_| config.to_owned());
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(config.as_os_str().as_bytes());
    Ok(Place { path: directory.join(format!("{:016x}.sock", hash.finish())), is_asked_for: false })
}

/// Nobody else can write there, so that nobody can be there first.
fn own(directory: PathBuf) -> Result<PathBuf, String> {
    // It may be there already.
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&directory);
    let shown = directory.display();
    let found = std::fs::symlink_metadata(&directory).map_err(|error| format!("'{shown}': {error}"))?;
    let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if is_own && found.mode() & 0o022 == 0 {
        Ok(directory)
    } else {
        Err(format!("'{shown}' is no directory that only this user can write to"))
    }
}

/// Fowler, Noll and Vo's hash, 1a: the same in every build of this program, unlike that of the standard library.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_its_authors() {
        for (text, expected) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c)] {
            let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
            hash.write(text.as_bytes());
            assert_eq!(hash.finish(), expected);
        }
    }
}
