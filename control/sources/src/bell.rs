//! Who says at once that something in a directory is another? The kernel, by inotify.
//!
//! Deliberately not here: what has changed, and whether it is whole; that is looked at. Where there is no inotify, or the
//! file system is one that others write to over a network, looks are all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// One read of the kernel; a name has at most 255 bytes.
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Bell {
    socket: AsyncFd<OwnedFd>,
    directories: BTreeMap<PathBuf, i32>,
    /// Files that were written to and not closed since.
    open: BTreeSet<PathBuf>,
    /// Files that something happened to.
    touched: BTreeSet<PathBuf>,
}

impl Bell {
    /// # Errors
    /// There is no inotify, or a user may have no more of it. Also where no runtime runs.
    pub fn new() -> io::Result<Bell> {
        let socket = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what is owned stays open for as long as it is here; its successor is unsafe"
        )]
        let socket = AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)?;
        let (open, touched) = (BTreeSet::new(), BTreeSet::new());
        Ok(Bell { socket, directories: BTreeMap::new(), open, touched })
    }

    /// Hears of these directories, and of no others.
    ///
    /// # Errors
    /// A user may watch no more directories.
    pub fn watch(&mut self, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
        let gone: Vec<PathBuf> =
            self.directories.keys().filter(|known| !wanted.contains(*known)).cloned().collect();
        for path in gone {
            if let Some(number) = self.directories.remove(&path)
                && !self.directories.values().any(|known| *known == number)
            {
                // One that is not there any more is watched no longer.
                let _ = inotify::remove_watch(&self.socket, number);
            }
        }
        let events = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for path in wanted {
            // Also of one that is known: another directory may be there by now.
            match inotify::add_watch(&self.socket, path.as_path(), events) {
                Ok(number) => {
                    self.directories.insert(path.clone(), number);
                }
                // It went away since it was listed.
                Err(error) if error == rustix::io::Errno::NOENT || error == rustix::io::Errno::NOTDIR => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until something has happened. May be dropped and called again.
    pub async fn rings(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            ready.clear_ready();
            drop(ready);
            if self.has_rung()? {
                return Ok(());
            }
        }
    }

    /// Whether something has happened since this was asked last; does not wait.
    pub fn has_rung(&mut self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(self.socket.get_ref(), &mut buffer);
        let mut has_rung = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(has_rung),
                Err(error) if error == rustix::io::Errno::INTR => continue,
                Err(error) => return Err(error.into()),
            };
            let (number, what) = (event.wd(), event.events());
            if what.contains(ReadFlags::IGNORED) {
                self.directories.retain(|_, known| *known != number);
                continue;
            }
            has_rung = true;
            let Some(name) = event.file_name() else { continue };
            let name = OsString::from_vec(name.to_bytes().to_vec());
            for (directory, _) in self.directories.iter().filter(|(_, known)| **known == number) {
                let path = directory.join(&name);
                if what.contains(ReadFlags::MODIFY) {
                    self.open.insert(path.clone());
                } else {
                    self.open.remove(&path);
                }
                self.touched.insert(path);
            }
        }
    }

    /// Whether a file is being written that nobody has closed.
    pub fn is_written(&self) -> bool {
        !self.open.is_empty()
    }

    /// What is still open is so for longer than is waited for.
    pub fn forget_open(&mut self) {
        self.open.clear();
    }

    /// The files that something happened to since they were forgotten.
    pub fn touched(&self) -> &BTreeSet<PathBuf> {
        &self.touched
    }

    pub fn forget_touched(&mut self) {
        self.touched.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::time::Duration;

    use super::Bell;

    #[tokio::test]
    async fn whatever_happens_in_a_directory_rings() {
        let directory = std::env::temp_dir().join(format!("naru-bell-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        let mut bell = Bell::new().unwrap();
        bell.watch(&BTreeSet::from([directory.clone()])).unwrap();
        assert!(!bell.has_rung().unwrap());
        type Step<'a> = (&'a str, &'a dyn Fn() -> std::io::Result<()>);
        let steps: [Step<'_>; 5] = [
            ("new", &|| fs::write(at("a"), "1")),
            ("written", &|| fs::write(at("a"), "2")),
            ("renamed", &|| fs::rename(at("a"), at("b"))),
            ("a link", &|| std::os::unix::fs::symlink("b", at("c"))),
            ("away", &|| fs::remove_file(at("b"))),
        ];
        for (what, step) in steps {
            step().unwrap();
            let rung = tokio::time::timeout(Duration::from_secs(60), bell.rings()).await;
            assert!(rung.is_ok_and(|rung| rung.is_ok()), "{what}");
            assert!(!bell.is_written(), "{what}: it was closed");
        }
        assert!(bell.touched().contains(&at("a")) && bell.touched().contains(&at("c")));
        let open = fs::OpenOptions::new().append(true).create(true).open(at("d")).unwrap();
        std::io::Write::write_all(&mut &open, b"half").unwrap();
        bell.rings().await.unwrap();
        assert!(bell.is_written());
        drop(open);
        bell.rings().await.unwrap();
        assert!(!bell.is_written());
        fs::remove_dir_all(&directory).unwrap();
    }
}
