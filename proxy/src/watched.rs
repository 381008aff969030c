//! Files that are read again when they change, while requests go on with what was there before.
//!
//! A thread for each looks at it every two seconds; so files that are replaced by a rename or by a link, as those of a
//! Secret, are seen as well. One that is gone, or that cannot be read any more, is said once, and what was read before
//! stays.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use naru_spec::defaults::FILES_WATCHED_EVERY;

/// What was read of files, for all workers.
#[derive(Debug)]
pub struct Watched<T> {
    paths: Vec<String>,
    now: Mutex<Arc<T>>,
    /// Another number whenever it is another one.
    version: AtomicU64,
    is_well: AtomicBool,
}

/// How files are seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    pub path: String,
    /// What is there is what was read.
    pub is_well: bool,
    /// How often it was read, with the first time.
    pub reads: u64,
}

/// By which a change is seen: which file, how long, and when it was written.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

fn stamp(paths: &[String]) -> Stamp {
    let of = |path: &String| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    paths.iter().map(of).collect()
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// `read` reads all of them. Without `is_kept` nobody looks again.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn new(
        paths: Vec<String>,
        is_kept: bool,
        read: impl Fn() -> Result<T, String> + Send + 'static,
    ) -> Result<Arc<Watched<T>>, String> {
        let first = stamp(&paths);
        let now = Mutex::new(Arc::new(read()?));
        let is_watched = is_kept && !paths.is_empty();
        let (version, is_well) = (AtomicU64::new(1), AtomicBool::new(true));
        let watched = Arc::new(Watched { paths, now, version, is_well });
        if is_watched {
            let weak = Arc::downgrade(&watched);
            let named = std::thread::Builder::new().name("naru-files".to_owned());
            let spawned = named.spawn(move || watch(&weak, first, &read));
            spawned.map_err(|error| format!("nobody can look after them: {error}"))?;
        }
        Ok(watched)
    }

    fn put(&self, read: Result<T, String>) {
        let paths = self.paths.join(", ");
        match read {
            Ok(read) => {
                *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                self.version.fetch_add(1, Ordering::Release);
                self.is_well.store(true, Ordering::Relaxed);
                naru_say::say!("naru: {paths} was read again; it is in effect");
            }
            Err(why) => {
                if self.is_well.swap(false, Ordering::Relaxed) {
                    naru_say::say!(
                        "naru: {paths} cannot be read again ({why}); what was there before goes on"
                    );
                }
            }
        }
    }
}

impl<T> Watched<T> {
    fn now(&self) -> Arc<T> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn status(&self) -> impl Iterator<Item = FileStatus> + '_ {
        let (is_well, reads) = (self.is_well.load(Ordering::Relaxed), self.version());
        self.paths.iter().map(move |path| FileStatus { path: path.clone(), is_well, reads })
    }
}

fn watch<T: Send + Sync + 'static>(
    weak: &Weak<Watched<T>>,
    mut known: Stamp,
    read: &impl Fn() -> Result<T, String>,
) {
    loop {
        std::thread::sleep(FILES_WATCHED_EVERY);
        let Some(watched) = weak.upgrade() else { return };
        let found = stamp(&watched.paths);
        if found != known {
            known = found;
            watched.put(read());
        }
    }
}

/// The same, as one worker sees it.
#[derive(Debug)]
pub struct WatchedHere<T> {
    shared: Arc<Watched<T>>,
    here: RefCell<Arc<T>>,
    version: Cell<u64>,
}

impl<T> WatchedHere<T> {
    pub fn new(shared: &Arc<Watched<T>>) -> WatchedHere<T> {
        let version = Cell::new(shared.version());
        WatchedHere { shared: Arc::clone(shared), here: RefCell::new(shared.now()), version }
    }

    /// What is there now, and its number.
    pub fn get(&self) -> (Arc<T>, u64) {
        let version = self.shared.version();
        if self.version.replace(version) != version {
            *self.here.borrow_mut() = self.shared.now();
        }
        (Arc::clone(&self.here.borrow()), version)
    }
}
