//! Files: found, opened and read, on threads beside the worker.
//!
//! What a path may mean is decided by `naru_content`; here it is looked for. A disk may take its time, so nothing of it
//! is done by the worker: each look and each piece of a file is a job of one of [`READERS_MAX`] threads of its own, which
//! come when they are needed. A request waits for one job at a time, and one that nobody waits for any more is not begun.
//!
//! A name is resolved by the kernel below the root (`openat2`, `RESOLVE_BENEATH`), so that no link and no rename between
//! a look and the next leads out of it. Kernels that have none of it follow no links at all.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use naru_content::given::{Found, Piece};
use naru_journey::Action;
use naru_journey::gate::Answer;
use naru_journey::gate::files::{FileAsked, FileSaid};
use naru_spec::{ContentCoding, Links};
use rustix::fs::{self as sys, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use crate::settle::Passage;

/// Of one worker.
pub const READERS_MAX: usize = 16;
/// So much is read at a time; what is no larger is read where it is found.
const PIECE: u64 = 64 * 1_024;

/// A file that was found.
#[derive(Debug)]
pub struct Opened {
    file: Arc<OwnedFd>,
    /// All of it, where it is small.
    whole: Option<Bytes>,
}

/// What of a file stands in a body, as it is read.
#[derive(Debug)]
pub struct FileBody {
    opened: Opened,
    pieces: VecDeque<Piece>,
    length: u64,
    reading: Option<Job<io::Result<Vec<u8>>>>,
}

/// Work of another thread. Once nobody waits for it, it is not begun any more.
#[derive(Debug)]
struct Job<T>(JoinHandle<T>);

impl<T: Send + 'static> Job<T> {
    fn begin(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        Job(tokio::task::spawn_blocking(work))
    }

    /// `None` where it was broken off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Passage {
    /// Looks for a file, and keeps it for the answer. Returns what the journey asks for meanwhile.
    pub async fn find_file(&mut self, asked: FileAsked) -> Option<Action> {
        let reads = self.line.method == Method::GET;
        let mut job = Job::begin(move || find(&asked, reads));
        let found = poll_fn(|cx| match job.poll(cx) {
            Poll::Ready(found) => Poll::Ready(Ok(found)),
            Poll::Pending => self.poll_watch(cx).map(Err),
        });
        match found.await {
            Ok(found) => {
                let (said, opened) = found.unwrap_or((FileSaid::Unreadable, None));
                self.file = opened.map(Box::new);
                self.journey.on_answer(self.worker.clock.now(), Answer::File(said));
                None
            }
            Err(action) => Some(action),
        }
    }
}

impl FileBody {
    pub fn new(opened: Opened, pieces: Vec<Piece>) -> FileBody {
        let length = pieces.iter().map(Piece::length).sum();
        let pieces = pieces.into_iter().filter(|piece| piece.length() > 0).collect();
        FileBody { opened, pieces, length, reading: None }
    }

    /// Of what is left of it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next piece. There is one as long as [`FileBody::length`] is not none.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let piece = match &mut self.reading {
            Some(job) => {
                let Poll::Ready(read) = job.poll(cx) else { return Poll::Pending };
                self.reading = None;
                match read {
                    Some(Ok(read)) => Bytes::from(read),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
                }
            }
            None => match self.pieces.pop_front() {
                Some(Piece::Text(text)) => Bytes::from(text),
                Some(Piece::OfFile(mut range)) => {
                    if let Some(whole) = &self.opened.whole {
                        let (start, end) = (range.start as usize, range.end as usize);
                        match whole.get(start..end) {
                            Some(_) => whole.slice(start..end),
                            None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        }
                    } else {
                        let at = range.start;
                        let length = (range.end - at).min(PIECE);
                        range.start += length;
                        if range.start < range.end {
                            self.pieces.push_front(Piece::OfFile(range));
                        }
                        let file = Arc::clone(&self.opened.file);
                        self.reading = Some(Job::begin(move || read(&file, at, length)));
                        return self.poll_piece(cx);
                    }
                }
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            },
        };
        self.length = self.length.saturating_sub(piece.len() as u64);
        Poll::Ready(Ok(piece))
    }
}

/// Exactly so much: a file that became shorter is another one than was promised.
fn read(file: &OwnedFd, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::pread(file, room, at + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// The first of the candidates that is there.
fn find(asked: &FileAsked, reads: bool) -> (FileSaid, Option<Opened>) {
    let missing = (FileSaid::Missing, None);
    let unreadable = (FileSaid::Unreadable, None);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = sys::open(asked.files.root.as_str(), flags, Mode::empty()) else { return unreadable };
    for candidate in &asked.wanted.candidates {
        let (file, plain) = match look(&root, &candidate.path, asked.files.links) {
            Ok(Some(there)) => there,
            Ok(None) if candidate.is_asked => match is_directory(&root, &candidate.path, asked.files.links) {
                true => return (FileSaid::Directory, None),
                false => continue,
            },
            Ok(None) => continue,
            Err(_) => return unreadable,
        };
        let beside = asked.codings.iter().find_map(|coding| {
            let path = [&candidate.path[..], coding.ending().as_bytes()].concat();
            let (file, stat) = look(&root, &path, asked.files.links).ok()??;
            // One that is older is of another state.
            (stat.modified >= plain.modified).then_some((file, stat, *coding))
        });
        let (file, stat, coding): (_, _, Option<ContentCoding>) = match beside {
            Some((file, stat, coding)) => (file, stat, Some(coding)),
            None => (file, plain, None),
        };
        let found = Found {
            path: candidate.path.clone(),
            status: candidate.status,
            coding,
            length: stat.length,
            modified_seconds: stat.modified.0,
            modified_nanos: stat.modified.1,
        };
        let whole = match reads && stat.length <= PIECE {
            true => match read(&file, 0, stat.length) {
                Ok(whole) => Some(Bytes::from(whole)),
                Err(_) => return unreadable,
            },
            false => None,
        };
        return (FileSaid::Found(found), Some(Opened { file: Arc::new(file), whole }));
    }
    missing
}

#[derive(Clone, Copy)]
struct Stat {
    length: u64,
    modified: (u64, u32),
}

/// A file of this name. `None` where there is none that may be given.
///
/// # Errors
/// Whether there is one is not known.
fn look(root: &OwnedFd, path: &[u8], links: Links) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    // What is no file at all must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match open(root, path, flags, links) {
        Ok(file) => file,
        Err(error) if is_absence(error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = sys::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let modified = (seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Ok(Some((file, Stat { length: u64::try_from(stat.st_size).unwrap_or(0), modified })))
}

fn is_directory(root: &OwnedFd, path: &[u8], links: Links) -> bool {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, links).is_ok()
}

/// Whoever may not see a file is not told that it is there.
fn is_absence(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::ACCESS
            | Errno::PERM
            | Errno::LOOP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NXIO
            | Errno::NODEV
    )
}

fn open(root: &OwnedFd, path: &[u8], flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = match links {
        // No name has dots in it, so that nothing but a link leads elsewhere.
        Links::Followed => return sys::openat(root, path, flags, Mode::empty()),
        Links::Within => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    };
    // Whatever was renamed meanwhile is looked for again.
    for _ in 0..8 {
        match sys::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS | Errno::PERM) => return open_by_names(root, path, flags),
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Name by name, without any link.
fn open_by_names(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name == b"." || name == b".." {
            return Err(Errno::XDEV);
        }
        let here = directory.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        let flags = match names.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            None => flags,
        };
        let next = sys::openat(here, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if names.peek().is_none() {
            return Ok(next);
        }
        directory = Some(next);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests;
