//! Where what a control plane has said is kept, for a process that begins while it is away.
//!
//! One file for each bootstrap file and node, in a directory that nobody else may look into. It is written beside and
//! put in its place whole; what changes then is added to its end, until that is as much again. Private keys may be in it:
//! where a file system does not keep others out, secrets are left out, and a file that others may read is not believed.
//!
//! Whoever is killed while he writes leaves the file as it was, or one whose last record is not whole, which is passed
//! over by whoever reads it (`wire/xds/src/discovery/kept.rs`). Two processes that keep the same, as in a takeover, are in
//! nobody's way: each adds to a file that he has written himself, and only for as long as it is in its place.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// What others may do with a file.
const OTHERS: u32 = 0o077;
/// No configuration is larger; a file that is, is another.
const BYTES_MAX: u64 = 1 << 30;
/// As much may be added to a file that is smaller.
const ADDED_MIN: u64 = 64 << 10;

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
            is_private(&metadata),
            "{shown}: others may read or write it (mode {:o}); chmod 600",
            mode & 0o777
        );
        ensure!(metadata.len() <= BYTES_MAX, "{shown}: it is too large to be a configuration that was kept");
        Ok(Some(std::fs::read(&self.path).with_context(|| shown.to_string())?))
    }

    /// A file beside the one that is kept, in which nothing is yet.
    pub fn draft(&self) -> anyhow::Result<Draft> {
        let directory = self.path.parent().context("a file is in a directory")?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| directory.display().to_string())?;
        let next = self.path.with_extension(format!("next.{}", std::process::id()));
        // One that was left over by a process with the same number.
        let _ = std::fs::remove_file(&next);
        let opened = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next);
        let file = opened.with_context(|| next.display().to_string())?;
        let mut draft = Draft { file, next: Some(next), path: self.path.clone(), is_private: false };
        let metadata = draft.file.metadata().with_context(|| self.path.display().to_string())?;
        draft.is_private = is_private(&metadata);
        Ok(draft)
    }
}

fn is_private(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & OTHERS == 0
}

/// A file that nobody looks at yet. Where it is dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    file: File,
    next: Option<PathBuf>,
    path: PathBuf,
    is_private: bool,
}

impl Draft {
    /// Whether nobody else can read what is written: only then there may be secrets in it.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Writes it, and puts it in its place.
    pub fn put(mut self, bytes: &[u8]) -> anyhow::Result<Journal> {
        let mut put = || -> std::io::Result<(File, Metadata)> {
            self.file.write_all(bytes)?;
            self.file.sync_all()?;
            if let Some(next) = &self.next {
                std::fs::rename(next, &self.path)?;
            }
            self.next = None;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok((self.file.try_clone()?, self.file.metadata()?))
        };
        let (file, metadata) = put().with_context(|| self.path.display().to_string())?;
        let length = bytes.len() as u64;
        let (path, is_private) = (self.path.clone(), self.is_private);
        Ok(Journal { file, path, is_private, place: place(&metadata), length, room: length.max(ADDED_MIN) })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            let _ = std::fs::remove_file(next);
        }
    }
}

/// Which file it is, whatever it is called.
fn place(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The file that is kept, as this process has written it.
#[derive(Debug)]
pub struct Journal {
    /// At its end.
    file: File,
    path: PathBuf,
    is_private: bool,
    place: (u64, u64),
    length: u64,
    /// For what may be added, before all of it is to be written anew.
    room: u64,
}

impl Journal {
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Adds to its end. `None` where all of it is to be written anew: so much was added, or another file is in its place.
    pub fn add(mut self, bytes: &[u8]) -> anyhow::Result<Option<Journal>> {
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else { return Ok(None) };
        let is_there = std::fs::metadata(&self.path).is_ok_and(|metadata| {
            place(&metadata) == self.place
                && metadata.len() == self.length
                && is_private(&metadata) == self.is_private
        });
        if !is_there {
            return Ok(None);
        }
        let added = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        added.with_context(|| self.path.display().to_string())?;
        self.room = room;
        self.length += bytes.len() as u64;
        Ok(Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(name: &str) -> (PathBuf, Keeper) {
        let directory = std::env::temp_dir().join(format!("naru-keeper-{name}-{}", std::process::id()));
        let keeper = Keeper::new(&directory, Path::new("envoy.yaml"), "one");
        (directory, keeper)
    }

    fn mode(keeper: &Keeper, mode: u32) {
        std::fs::set_permissions(keeper.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_kept_is_read_again_by_its_owner_only() {
        let (directory, keeper) = keeper("read");
        assert!(keeper.read().unwrap().is_none());
        let draft = keeper.draft().unwrap();
        assert!(draft.is_private());
        assert!(keeper.read().unwrap().is_none(), "nobody looks at what is not written yet");
        draft.put(b"first").unwrap();
        drop(keeper.draft().unwrap());
        keeper.draft().unwrap().put(b"second").unwrap();
        assert_eq!(keeper.read().unwrap().unwrap(), b"second");
        let files = std::fs::read_dir(keeper.path().parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left over");
        mode(&keeper, 0o640);
        let error = keeper.read().unwrap_err().to_string();
        assert!(error.contains("others may read or write it (mode 640)"), "{error}");
        let other = Keeper::new(&directory, Path::new("envoy.yaml"), "two");
        assert!(other.read().unwrap().is_none(), "another node has another file");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_changes_is_added_until_it_is_as_much_again() {
        let (directory, keeper) = keeper("add");
        let first = vec![b'a'; 100_000];
        let journal = keeper.draft().unwrap().put(&first).unwrap();
        let inode = std::fs::metadata(keeper.path()).unwrap().ino();
        let journal = journal.add(b"one").unwrap().unwrap();
        let journal = journal.add(&vec![b'b'; 99_997]).unwrap().unwrap();
        let kept = keeper.read().unwrap().unwrap();
        assert_eq!((kept.len(), &kept[100_000..100_004]), (200_000, b"oneb".as_slice()));
        assert_eq!(std::fs::metadata(keeper.path()).unwrap().ino(), inode, "it is the same file");
        assert!(journal.add(b"x").unwrap().is_none());
        assert_eq!(keeper.read().unwrap().unwrap().len(), 200_000, "nothing is added then");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn nothing_is_added_to_the_file_of_somebody_else() {
        let (directory, keeper) = keeper("other");
        let journal = || keeper.draft().unwrap().put(b"mine").unwrap();
        let first = journal();
        // As a process does that takes over.
        let second = journal();
        assert!(first.add(b"more").unwrap().is_none());
        let second = second.add(b"and more").unwrap().unwrap();
        assert_eq!(keeper.read().unwrap().unwrap(), b"mineand more");
        mode(&keeper, 0o644);
        assert!(second.add(b"x").unwrap().is_none(), "others may read it from now on");
        let third = journal();
        OpenOptions::new().append(true).open(keeper.path()).unwrap().write_all(b"?").unwrap();
        assert!(third.add(b"x").unwrap().is_none());
        let fourth = journal();
        std::fs::remove_file(keeper.path()).unwrap();
        assert!(fourth.add(b"x").unwrap().is_none());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
