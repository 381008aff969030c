//! Where what a control plane has said is kept, for a process that begins while it is away.
//!
//! One file for each bootstrap file and node, in a directory that nobody else may look into. It is written beside and
//! put in its place whole. Private keys may be in it: where a file system does not keep others out, secrets are left
//! out, and a file that others may read is not believed.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// What others may do with a file.
const OTHERS: u32 = 0o077;
/// No configuration is larger; a file that is, is another.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub struct Keeper {
    path: PathBuf,
}

impl Keeper {
    pub fn new(directory: &Path, config: &Path, node: &str) -> Keeper {
        let config = config.canonicalize().unwrap_or_else(|_| config.to_owned());
        let mut bytes = config.as_os_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(node.as_bytes());
        let name = format!("{:016x}.state", naru_balance::xxhash64(&bytes, 0));
        Keeper { path: directory.join("control-plane").join(name) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None` where nothing is kept.
    pub fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
        };
        let (shown, mode) = (self.path.display(), metadata.permissions().mode());
        ensure!(
            mode & OTHERS == 0,
            "{shown}: others may read or write it (mode {:o}); chmod 600",
            mode & 0o777
        );
        ensure!(metadata.len() <= BYTES_MAX, "{shown}: it is too large to be a configuration that was kept");
        Ok(Some(std::fs::read(&self.path).with_context(|| shown.to_string())?))
    }

    /// `bytes` says them, with secrets where nobody else can read them.
    pub fn write(&self, bytes: impl FnOnce(bool) -> Vec<u8>) -> anyhow::Result<()> {
        let directory = self.path.parent().context("a file is in a directory")?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| directory.display().to_string())?;
        let next = self.path.with_extension(format!("next.{}", std::process::id()));
        let written = || {
            // One that was left over by a process with the same number.
            let _ = std::fs::remove_file(&next);
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
            let is_private = file.metadata()?.permissions().mode() & OTHERS == 0;
            file.write_all(&bytes(is_private))?;
            file.sync_all()?;
            std::fs::rename(&next, &self.path)
        };
        let written: std::io::Result<()> = written();
        if written.is_err() {
            let _ = std::fs::remove_file(&next);
        }
        written.with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_by_its_owner_only() {
        let directory = std::env::temp_dir().join(format!("naru-keeper-{}", std::process::id()));
        let keeper = Keeper::new(&directory, Path::new("envoy.yaml"), "one");
        assert!(keeper.read().unwrap().is_none());
        let mut may_keep = None;
        let said = |is_private| {
            may_keep = Some(is_private);
            b"first".to_vec()
        };
        keeper.write(said).unwrap();
        assert_eq!(may_keep, Some(true));
        keeper.write(|_| b"second".to_vec()).unwrap();
        assert_eq!(keeper.read().unwrap().unwrap(), b"second");
        let files = std::fs::read_dir(keeper.path().parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left over");
        let mode =
            |mode| std::fs::set_permissions(keeper.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let error = keeper.read().unwrap_err().to_string();
        assert!(error.contains("others may read or write it (mode 640)"), "{error}");
        let other = Keeper::new(&directory, Path::new("envoy.yaml"), "two");
        assert!(other.read().unwrap().is_none(), "another node has another file");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
