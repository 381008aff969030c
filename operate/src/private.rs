//! Files that nobody else may read: keys, and what is kept with them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The directory, and those above it.
pub fn make_directory(directory: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| directory.display().to_string())
}

/// Puts the whole file in its place, or leaves the one before.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let next = draft(path, bytes)?;
    std::fs::rename(next, path).with_context(|| path.display().to_string())
}

/// Puts the file in its place where there is none, and says what is there then: of two processes one wins.
pub fn write_once(path: &Path, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let next = draft(path, bytes)?;
    let linked = std::fs::hard_link(&next, path);
    let _ = std::fs::remove_file(&next);
    match linked {
        Ok(()) => Ok(bytes.to_vec()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::read(path).with_context(|| path.display().to_string())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Beside it, where nobody looks.
fn draft(path: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let directory = path.parent().context("a file is in a directory")?;
    make_directory(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let next = directory.join(format!(".{name}.{}", std::process::id()));
    let written = || {
        let _ = std::fs::remove_file(&next);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().with_context(|| path.display().to_string())?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_write_wins_where_one_is_enough() {
        let directory = std::env::temp_dir().join(format!("naru-private-{}", std::process::id()));
        let path = directory.join("a/key.pem");
        assert_eq!(write_once(&path, b"first").unwrap(), b"first");
        assert_eq!(write_once(&path, b"second").unwrap(), b"first");
        write(&path, b"third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(directory.join("a")).unwrap().count(), 1, "nothing is left over");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
