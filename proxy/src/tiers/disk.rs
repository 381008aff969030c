//! Answers on a disk of this process: a directory, bounded in bytes, that outlives the process.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held by the process that has the directory: another one waits for it, and does without |
//! | `seed` | what names of files are made with, so that nobody can choose URLs that meet |
//! | `boot` | which start of the machine these files are of: what the machine had not written yet is gone with it |
//! | `purges` | prefixes and tags that were purged ([`Purges`]): files say what was known when they were written |
//! | `cursor` | how far the log of the gateways was read, for [`super::shared`] |
//! | `XX/YYYY...` | an answer (`naru_cache::Packed`), by the hashes of its URL and of what tells it from others of the URL |
//!
//! A file is written beside its place and moved there. One that is torn is not read, and goes. Two threads read, one
//! writes: no worker touches a file. What takes too long is missed, and when that was so a few times the disk is left
//! alone for a while.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use naru_base::Instant;
use naru_cache::{Catalog, Key, Name, Object, Packed, Purge, Purges, Shards, choose, hash, pack_choice};
use naru_spec::{CacheDisk, defaults};
use tokio::sync::oneshot;

use super::{Seat, Tier, TierCounts, TierStatus, Waiting, millis, set_up};
use crate::clock::{self, Origin, wall_now};
use crate::shared_cache::count;

const READERS: usize = 2;
/// So many reads are under way: who comes after them does without.
const READING_MAX: u32 = 1_024;
/// Files take whole blocks.
const BLOCK: u64 = 4_096;
/// A file may be one of so many parts of the whole.
const FILE_PART: u64 = 4;
/// Until a directory that another process has is looked at again.
const LOCKED_AGAIN: Duration = Duration::from_secs(1);
const CURSOR_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Disk {
    settings: CacheDisk,
    shared: Arc<Inner>,
    reads_tx: mpsc::Sender<Reading>,
    writes_tx: mpsc::Sender<Task>,
    reading: Arc<Waiting>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct Reading {
    key: Key,
    request: HeaderMap,
    seat: Seat,
    done_tx: oneshot::Sender<Option<Object>>,
}

#[derive(Debug)]
enum Task {
    Keep(Arc<Object>, u64, Seat),
    /// What is not in the catalog any more.
    Remove(Vec<Name>),
    /// A URL was made worthless before: all that was written of it until now.
    Forget(u64),
    /// The purges have changed.
    Purges,
    Clear,
    Cursor(u64),
}

/// What the threads and those who ask have in common.
#[derive(Debug)]
struct Inner {
    root: PathBuf,
    bytes_max: u64,
    origin: Origin,
    counts: TierCounts,
    is_told: AtomicBool,
    state: Mutex<State>,
    /// How far the log of the gateways was read when it was opened.
    cursor: AtomicU64,
}

#[derive(Debug)]
struct State {
    catalog: Catalog,
    /// Nothing is asked of a directory that is another's, or not looked through yet.
    is_open: bool,
    seed: u64,
    shards: Shards,
    purges: Purges,
    /// How many purges there were.
    known: u64,
    /// URLs that were made worthless, while something older may still be written: how many times each.
    forgotten: BTreeMap<u64, u32>,
    has_failed: bool,
}

impl State {
    fn name(&self, url: &str, field: &[u8]) -> Name {
        Name { url: hash(self.seed, url.as_bytes()), object: hash(self.seed, field) }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: Name) -> PathBuf {
        self.root
            .join(format!("{:02x}", name.url >> 56))
            .join(format!("{:016x}{:016x}", name.url, name.object))
    }

    fn say(&self, why: Option<&str>) {
        set_up(&self.counts, &self.is_told, &format!("disk {}", self.root.display()), why);
    }

    fn count_held(&self, state: &State) {
        self.counts.objects.store(state.catalog.len() as u64, Ordering::Relaxed);
        self.counts.bytes.store(state.catalog.bytes(), Ordering::Relaxed);
    }
}

impl Disk {
    /// The directory is opened by a thread, again and again where it cannot be.
    pub fn start(settings: &CacheDisk, origin: Origin) -> io::Result<Arc<Disk>> {
        let inner = Arc::new(Inner {
            root: PathBuf::from(&settings.directory),
            bytes_max: settings.bytes_max,
            origin,
            counts: TierCounts::default(),
            is_told: AtomicBool::default(),
            state: Mutex::new(State {
                catalog: Catalog::new(settings.bytes_max),
                is_open: false,
                seed: 0,
                shards: Shards::new(1),
                purges: Purges::default(),
                known: 0,
                forgotten: BTreeMap::new(),
                has_failed: false,
            }),
            cursor: AtomicU64::new(0),
        });
        let (reads_tx, reads_rx) = mpsc::channel::<Reading>();
        let (writes_tx, writes_rx) = mpsc::channel();
        let reads_rx = Arc::new(Mutex::new(reads_rx));
        for _ in 0..READERS {
            let (of_thread, reads_rx, writes_tx) =
                (Arc::clone(&inner), Arc::clone(&reads_rx), writes_tx.clone());
            let thread = std::thread::Builder::new().name("naru-disk-read".to_owned());
            thread.spawn(move || {
                loop {
                    let next = reads_rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(reading) = next else { return };
                    let found = of_thread.read(&reading.key, &reading.request, &writes_tx);
                    // Who has asked may have gone.
                    let _ = reading.done_tx.send(found);
                    drop(reading.seat);
                }
            })?;
        }
        let of_thread = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("naru-disk-write".to_owned());
        thread.spawn(move || write(&of_thread, &writes_rx))?;
        Ok(Arc::new(Disk {
            settings: settings.clone(),
            shared: inner,
            reads_tx,
            writes_tx,
            reading: Waiting::new(READING_MAX),
            waiting: Waiting::new(defaults::CACHE_QUEUE),
        }))
    }

    /// What there is; and how many purges are known, where anything may be written later.
    pub async fn find(&self, key: &Key, request: &HeaderMap) -> (Option<Object>, Option<u64>) {
        let counts = &self.shared.counts;
        let known = {
            let mut state = self.shared.state();
            let now = self.shared.origin.elapsed();
            // One who asks tries it, once it was left alone for long enough.
            let is_asked = state.is_open && (state.shards.is_up(0) || !state.shards.due(now).is_empty());
            if !is_asked {
                count(&counts.unanswered);
                return (None, None);
            }
            let name = state.name(key.url(), key.beside().as_bytes());
            let is_forgotten = state.forgotten.contains_key(&name.url);
            if is_forgotten || !state.catalog.touch(name) {
                state.shards.on_answer(0);
                count(&counts.misses);
                return (None, (!is_forgotten).then_some(state.known));
            }
            state.known
        };
        let (done_tx, done_rx) = oneshot::channel();
        let reading = self.reading.take(0).map(|seat| Reading {
            key: key.clone(),
            request: request.clone(),
            seat,
            done_tx,
        });
        let is_sent = reading.is_some_and(|reading| self.reads_tx.send(reading).is_ok());
        let answer =
            if is_sent { tokio::time::timeout(self.settings.timeout, done_rx).await.ok() } else { None };
        let mut state = self.shared.state();
        let Some(found) = answer else {
            count(&counts.unanswered);
            state.shards.on_silence(0, self.shared.origin.elapsed());
            let is_up = state.shards.is_up(0);
            drop(state);
            if !is_up {
                self.shared.say(Some(&format!("no answer within {}", millis(self.settings.timeout))));
            }
            return (None, None);
        };
        state.shards.on_answer(0);
        let is_well = !state.has_failed;
        drop(state);
        if is_well {
            self.shared.say(None);
        }
        let found = found.unwrap_or_default();
        count(if found.is_some() { &counts.hits } else { &counts.misses });
        (found, Some(known))
    }

    pub fn keep(&self, object: &Arc<Object>, known: u64) {
        let counts = &self.shared.counts;
        match self.waiting.take(object.cost() as u64) {
            Some(seat) if self.shared.state().is_open => {
                let _ = self.writes_tx.send(Task::Keep(Arc::clone(object), known, seat));
            }
            _ => count(&counts.dropped),
        }
    }

    pub fn forget(&self, url: &str) {
        let mut state = self.shared.state();
        let hashed = state.name(url, b"").url;
        *state.forgotten.entry(hashed).or_default() += 1;
        drop(state);
        let _ = self.writes_tx.send(Task::Forget(hashed));
    }

    pub fn purge(&self, purge: &Purge) {
        if let Purge::Url(url) = purge {
            return self.forget(url);
        }
        let mut state = self.shared.state();
        state.known += 1;
        let known = state.known;
        state.purges.add(known, purge.clone());
        if *purge == Purge::All {
            state.catalog = Catalog::new(self.shared.bytes_max);
            self.shared.count_held(&state);
        }
        drop(state);
        let _ = self.writes_tx.send(Task::Purges);
        if *purge == Purge::All {
            let _ = self.writes_tx.send(Task::Clear);
        }
    }

    pub fn is_open(&self) -> bool {
        self.shared.state().is_open
    }

    pub fn is_empty(&self) -> bool {
        self.shared.state().catalog.is_empty()
    }

    /// How far the log of the gateways was read by whoever had the directory before; 0 where nobody knows.
    pub fn cursor(&self) -> u64 {
        self.shared.cursor.load(Ordering::Relaxed)
    }

    pub fn note_cursor(&self, cursor: u64) {
        let _ = self.writes_tx.send(Task::Cursor(cursor));
    }

    pub fn status(&self) -> TierStatus {
        self.shared.counts.status(Tier::Disk)
    }
}

impl Inner {
    fn read(&self, key: &Key, request: &HeaderMap, writes_tx: &mpsc::Sender<Task>) -> Option<Object> {
        let mut field = key.beside().as_bytes().to_vec();
        // By way of the fields that it was chosen by, if it was.
        for _ in 0..2 {
            let name = {
                let mut state = self.state();
                let name = state.name(key.url(), &field);
                if !state.catalog.touch(name) {
                    return None;
                }
                name
            };
            let packed = match fs::read(self.path(name)) {
                Ok(bytes) => Packed::read(&Bytes::from(bytes), self.origin.elapsed(), wall_now()),
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        self.fail(&error);
                    }
                    None
                }
            };
            match packed {
                Some(Packed::Choice(names)) => field = choose(key, &names, request)?,
                Some(packed) => {
                    let (object, known) = packed.into_object(key, request)?;
                    let state = self.state();
                    let is_void =
                        state.purges.is_void(known, &object) || state.forgotten.contains_key(&name.url);
                    return (!is_void).then_some(object);
                }
                // Torn, or not there any more.
                None => {
                    if self.state().catalog.remove(name) {
                        let _ = writes_tx.send(Task::Remove(vec![name]));
                    }
                    return None;
                }
            }
        }
        None
    }

    fn fail(&self, error: &io::Error) {
        self.state().has_failed = true;
        self.say(Some(&error.to_string()));
    }
}

/// All of the thread that writes, until nobody can ask any more.
fn write(inner: &Inner, writes_rx: &mpsc::Receiver<Task>) {
    let mut last_cursor: Option<Instant> = None;
    let lock = loop {
        match inner.open() {
            Ok(Some(lock)) => break lock,
            Ok(None) => inner.say(Some("another process has it")),
            Err(error) => inner.fail(&error),
        }
        loop {
            match writes_rx.recv_timeout(LOCKED_AGAIN) {
                Ok(Task::Forget(url)) => inner.settle_forgotten(url),
                // Nothing is there yet.
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    inner.state().has_failed = false;
    inner.say(None);
    while let Ok(task) = writes_rx.recv() {
        let done = match task {
            Task::Keep(object, known, seat) => {
                let done = inner.keep(&object, known);
                drop(seat);
                done
            }
            Task::Remove(names) => inner.remove(&names),
            Task::Forget(url) => {
                let names = {
                    let mut state = inner.state();
                    let names = state.catalog.of_url(url);
                    names.iter().for_each(|name| {
                        state.catalog.remove(*name);
                    });
                    inner.count_held(&state);
                    names
                };
                let done = inner.remove(&names);
                inner.settle_forgotten(url);
                done
            }
            Task::Purges => inner.write_purges(),
            Task::Clear => inner.clear(),
            Task::Cursor(cursor) => {
                let now = inner.origin.elapsed();
                if last_cursor.is_none_or(|last| now.since(last) >= CURSOR_EVERY) {
                    last_cursor = Some(now);
                    inner.place("cursor", cursor.to_string().as_bytes())
                } else {
                    Ok(())
                }
            }
        };
        match done {
            Ok(()) => {
                let mut state = inner.state();
                if state.has_failed {
                    state.has_failed = false;
                    drop(state);
                    inner.say(None);
                }
            }
            Err(error) => inner.fail(&error),
        }
    }
    drop(lock);
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Inner {
    fn settle_forgotten(&self, url: u64) {
        let mut state = self.state();
        if let Some(times) = state.forgotten.get_mut(&url) {
            *times -= 1;
            if *times == 0 {
                state.forgotten.remove(&url);
            }
        }
    }

    /// The lock, held by being kept; `None` where somebody else has it.
    fn open(&self) -> io::Result<Option<File>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        let lock = open_new(&self.root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let seed = fs::read_to_string(self.root.join("seed")).ok();
        let seed = seed.and_then(|seed| u64::from_str_radix(seed.trim(), 16).ok());
        let purges = fs::read_to_string(self.root.join("purges"));
        let purges = match purges {
            Ok(text) => read_purges(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some((Purges::default(), 0)),
            Err(error) => return Err(error),
        };
        let is_of_now = fs::read(self.root.join("boot")).is_ok_and(|known| known == boot);
        let (seed, (purges, known)) = match (seed, purges) {
            (Some(seed), Some(purges)) if is_of_now => (seed, purges),
            _ => {
                self.clear()?;
                for name in ["purges", "cursor"] {
                    remove(&self.root.join(name))?;
                }
                let seed = hash(clock::seed(), self.root.as_os_str().as_encoded_bytes());
                self.place("seed", format!("{seed:016x}").as_bytes())?;
                self.place("boot", &boot)?;
                (seed, (Purges::default(), 0))
            }
        };
        let cursor = fs::read_to_string(self.root.join("cursor")).ok();
        let cursor = cursor.and_then(|cursor| cursor.trim().parse().ok()).unwrap_or(0);
        self.cursor.store(cursor, Ordering::Relaxed);
        let found = self.look_through()?;
        let mut gone = Vec::new();
        {
            let mut state = self.state();
            for (_, name, bytes) in found {
                gone.extend(state.catalog.put(name, bytes));
            }
            // What was purged while it was not open yet is purged now.
            let (_, meanwhile) = state.purges.all();
            let meanwhile: Vec<Purge> = meanwhile.map(|(_, purge)| purge.clone()).collect();
            let is_all = state.known > 0 && meanwhile.len() as u64 != state.known;
            (state.purges, state.known) = (purges, known);
            for purge in is_all.then_some(Purge::All).into_iter().chain(meanwhile) {
                state.known += 1;
                let known = state.known;
                state.purges.add(known, purge);
            }
            let forgotten: Vec<u64> = state.forgotten.keys().copied().collect();
            if !forgotten.is_empty() {
                // They were hashed without the seed: nobody knows which they are.
                state.known += 1;
                let known = state.known;
                state.purges.add(known, Purge::All);
            }
            state.seed = seed;
            state.is_open = true;
            self.count_held(&state);
        }
        self.write_purges()?;
        self.remove(&gone)?;
        Ok(Some(lock))
    }

    /// All files, those that were written first before the others. What is left of a write goes.
    fn look_through(&self) -> io::Result<Vec<(std::time::SystemTime, Name, u32)>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                let name = file.file_name().to_str().and_then(name_of);
                match name.filter(|name| self.path(*name) == file.path()) {
                    Some(name) => {
                        let about = file.metadata()?;
                        found.push((about.modified()?, name, taken_up(about.len())));
                    }
                    None => remove(&file.path())?,
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn keep(&self, object: &Object, known: u64) -> io::Result<()> {
        let url = object.key.url();
        let mut files = Vec::with_capacity(2);
        {
            let state = self.state();
            let is_void = state.purges.is_void(known, object)
                || state.forgotten.contains_key(&state.name(url, b"").url);
            if is_void {
                count(&self.counts.superseded);
                return Ok(());
            }
            if let Some(choice) = pack_choice(object) {
                files.push((state.name(url, object.key.beside().as_bytes()), choice));
            }
            files.push((state.name(url, &object.field()), Vec::new()));
        }
        if let Some((_, bytes)) = files.last_mut() {
            *bytes = object.pack(known, self.origin.elapsed(), wall_now());
        }
        if files.iter().any(|(_, bytes)| bytes.len() as u64 > self.bytes_max / FILE_PART) {
            count(&self.counts.dropped);
            return Ok(());
        }
        for (name, bytes) in &files {
            // There is room before it is written.
            let taken_up = taken_up(bytes.len() as u64);
            let gone = self.state().catalog.put(*name, taken_up);
            self.remove(&gone)?;
            if let Err(error) = self.write_file(*name, bytes) {
                self.state().catalog.remove(*name);
                count(&self.counts.failed);
                return Err(error);
            }
            let mut state = self.state();
            // A reader may have looked for it meanwhile.
            let gone = state.catalog.put(*name, taken_up);
            self.count_held(&state);
            drop(state);
            self.remove(&gone)?;
        }
        count(&self.counts.stored);
        Ok(())
    }

    fn write_file(&self, name: Name, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let beside = path.with_extension("new");
        let written = open_new(&beside).or_else(|error| match path.parent() {
            Some(folder) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                open_new(&beside)
            }
            _ => Err(error),
        });
        let moved =
            written.and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&beside, &path));
        if moved.is_err() {
            let _ = fs::remove_file(&beside);
        }
        moved
    }

    fn place(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = self.root.join(format!("{name}.new"));
        open_new(&beside)?.write_all(bytes)?;
        fs::rename(beside, self.root.join(name))
    }

    /// Those that have not come back meanwhile.
    fn remove(&self, names: &[Name]) -> io::Result<()> {
        names.iter().try_for_each(|name| remove(&self.path(*name)))
    }

    fn write_purges(&self) -> io::Result<()> {
        let text = {
            let state = self.state();
            if !state.is_open {
                return Ok(());
            }
            write_purges(&state.purges, state.known)
        };
        self.place("purges", text.as_bytes())
    }

    fn clear(&self) -> io::Result<()> {
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?;
            let is_ours = folder.file_name().to_str().is_some_and(|name| name.len() == 2);
            if is_ours && folder.file_type()?.is_dir() {
                fs::remove_dir_all(folder.path())?;
            }
        }
        // What was written before it was asked for is not there any more.
        self.state().catalog = Catalog::new(self.bytes_max);
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn taken_up(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK) * BLOCK).unwrap_or(u32::MAX)
}

fn name_of(text: &str) -> Option<Name> {
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let (url, object) = text.split_at_checked(16)?;
    Some(Name { url: u64::from_str_radix(url, 16).ok()?, object: u64::from_str_radix(object, 16).ok()? })
}

/// The number of the last, what they begin after, and a line for each: its number, its kind, and what it means.
fn write_purges(purges: &Purges, known: u64) -> String {
    let (floor, all) = purges.all();
    let mut out = format!("{known} {floor}\n");
    for (number, purge) in all {
        let (kind, value) = match purge {
            Purge::All => ("all", ""),
            Purge::Url(value) => ("url", value.as_str()),
            Purge::Prefix(value) => ("prefix", value.as_str()),
            Purge::Tag(value) => ("tag", value.as_str()),
        };
        let value: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        out.push_str(&format!("{number} {kind} {value}\n"));
    }
    out.push_str("end\n");
    out
}

/// `None` where it is torn.
fn read_purges(text: &str) -> Option<(Purges, u64)> {
    let mut lines = text.strip_suffix("end\n")?.lines();
    let (known, floor) = lines.next()?.split_once(' ')?;
    let mut purges = Purges::default();
    purges.forget(floor.parse().ok()?);
    for line in lines {
        let mut words = line.split(' ');
        let (number, kind, value) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        let bytes = value
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let value = String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()?;
        let purge = match kind {
            "all" => Purge::All,
            "url" => Purge::Url(value),
            "prefix" => Purge::Prefix(value),
            "tag" => Purge::Tag(value),
            _ => return None,
        };
        purges.add(number, purge);
    }
    Some((purges, known.parse().ok()?))
}

#[cfg(test)]
mod tests;
