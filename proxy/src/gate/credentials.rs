//! Keys and passwords that requests show, held against those that are known.
//!
//! A key is looked up by its hash: at once. The hash of a password is made to take long, and so nobody waits for one at
//! a worker: a thread computes one after another, for whoever waits, and what it has found out is remembered by a
//! keyed hash that means nothing elsewhere. Whoever shows what is remembered is answered at once; who shows the same
//! as somebody who waits already waits with him; of all others so many may wait, and of one address fewer. So guessing
//! costs one processor at most, and whoever was let in before does not feel it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use naru_jose::secret;
use naru_journey::gate::credentials::{CredentialsId, Shown, Who};
use naru_known::{Effort, Keys, Passwords};
use naru_spec::defaults::{
    ARGON2_MEMORY_MAX, ARGON2_ROUNDS_MAX, BCRYPT_COST_MAX, PASSWORDS_KNOWN_MAX, PASSWORDS_WAITING_MAX,
    PASSWORDS_WAITING_PER_ADDRESS_MAX,
};
use naru_spec::{Credentials, DataSource, Hashes, Invalid, KeySource};
use tokio::sync::oneshot;

use crate::watched::{FileStatus, Watched, WatchedHere};

/// So many requests with the same password wait together for it.
const WAITING_TOGETHER_MAX: usize = 1_024;

/// The credentials of one place, for all workers.
#[derive(Debug)]
pub struct SharedCredentials {
    from: Credentials,
    /// No two have the same.
    number: u64,
    held: Arc<Watched<Held>>,
}

#[derive(Debug)]
enum Held {
    Keys(Keys),
    Passwords(Arc<Passwords>),
}

/// Those of a snapshot, by their ids.
pub type AllCredentials = Arc<[Arc<SharedCredentials>]>;

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// # Errors
/// Files that cannot be read, and lines that are wrong; by their ids.
pub fn share(
    all: &[Credentials],
    older: Option<&AllCredentials>,
    is_kept: bool,
) -> Result<AllCredentials, Vec<(usize, Invalid)>> {
    let (mut shared, mut problems) = (Vec::new(), Vec::new());
    for (at, from) in all.iter().enumerate() {
        let known = older.and_then(|older| older.iter().find(|known| known.from == *from));
        if let Some(known) = known {
            shared.push(Arc::clone(known));
            continue;
        }
        let said = from.clone();
        match Watched::new(files(from), is_kept, move || read(&said)) {
            Ok(held) => {
                let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                shared.push(Arc::new(SharedCredentials { from: from.clone(), number, held }));
            }
            Err(why) => problems.push((at, Invalid::new(why))),
        }
    }
    if problems.is_empty() { Ok(shared.into()) } else { Err(problems) }
}

impl SharedCredentials {
    pub fn status(&self) -> impl Iterator<Item = FileStatus> + '_ {
        self.held.status()
    }
}

fn files(from: &Credentials) -> Vec<String> {
    let of_source = |source: &DataSource| match source {
        DataSource::File(path) => Some(path.clone()),
        DataSource::Inline(_) | DataSource::Environment(_) => None,
    };
    match from {
        Credentials::Passwords { file, .. } => of_source(file).into_iter().collect(),
        Credentials::Keys(sources) => sources
            .iter()
            .filter_map(|source| match source {
                KeySource::File(path) => Some(path.clone()),
                KeySource::Key { key, .. } => of_source(key),
                KeySource::Sha256 { .. } => None,
            })
            .collect(),
    }
}

fn read(from: &Credentials) -> Result<Held, String> {
    match from {
        Credentials::Passwords { file, hashes } => {
            let effort = Effort {
                only_sha1: *hashes == Hashes::Sha1,
                bcrypt_max: BCRYPT_COST_MAX,
                argon2_memory_max: ARGON2_MEMORY_MAX,
                argon2_rounds_max: ARGON2_ROUNDS_MAX,
            };
            let (bytes, name) = bytes_of(file, "passwords")?;
            let passwords = Passwords::read(&bytes, effort).map_err(|fault| format!("{name}: {fault}"))?;
            Ok(Held::Passwords(Arc::new(passwords)))
        }
        Credentials::Keys(sources) => {
            let mut keys = Keys::default();
            for source in sources {
                match source {
                    KeySource::Sha256 { client, hash } => keys.add(client, *hash)?,
                    KeySource::File(path) => {
                        let (bytes, name) = bytes_of(&DataSource::File(path.clone()), "keys")?;
                        keys.read(&bytes).map_err(|fault| format!("{name}: {fault}"))?;
                    }
                    KeySource::Key { client, key } => {
                        let (bytes, _) = bytes_of(key, "keys")?;
                        // What an editor puts at the end of a file is no part of a key.
                        keys.add_plain(client, bytes.trim_ascii_end())?;
                    }
                }
            }
            Ok(Held::Keys(keys))
        }
    }
}

/// The bytes, and what they are called in a message.
fn bytes_of(source: &DataSource, what: &str) -> Result<(Vec<u8>, String), String> {
    match source {
        DataSource::Inline(bytes) => Ok((bytes.clone(), format!("the {what}"))),
        DataSource::File(path) => match std::fs::read(path) {
            Ok(bytes) => Ok((bytes, path.clone())),
            Err(error) => Err(format!("the {what} in {path} cannot be read: {error}")),
        },
        DataSource::Environment(name) => match std::env::var(name) {
            Ok(text) => Ok((text.into_bytes(), format!("the environment's {name}"))),
            Err(_) => Err(format!("the {what} are not in the environment, as {name}")),
        },
    }
}

/// The credentials of a snapshot, as one worker sees them.
#[derive(Debug)]
pub struct CredentialsHere {
    all: Vec<(u64, WatchedHere<Held>)>,
    desk: Arc<Desk>,
}

impl CredentialsHere {
    pub fn new(all: &AllCredentials, desk: &Arc<Desk>) -> CredentialsHere {
        let here = all.iter().map(|shared| (shared.number, WatchedHere::new(&shared.held)));
        CredentialsHere { all: here.collect(), desk: Arc::clone(desk) }
    }

    fn of(&self, id: CredentialsId) -> Option<(u64, Arc<Held>, u64)> {
        let (number, here) = self.all.get(id.index())?;
        let (held, version) = here.get();
        Some((*number, held, version))
    }

    /// Whose it is that is shown.
    pub async fn find(&self, shown: Shown) -> Who {
        let known = |client: Option<Arc<str>>| client.map_or(Who::Unknown, Who::Client);
        let Some((number, held, version)) = self.of(shown.of) else { return Who::Unknown };
        let secret = shown.secret.bytes();
        match (&*held, &shown.name) {
            (Held::Keys(keys), None) => known(keys.find(secret).cloned()),
            (Held::Passwords(passwords), Some(name)) if !passwords.is_slow() => {
                known(passwords.verify(name, secret))
            }
            (Held::Passwords(passwords), Some(name)) => {
                let digest = self.desk.digest(number, version, name, secret);
                let work =
                    Work { passwords: Arc::clone(passwords), name: name.clone(), secret: secret.into() };
                match self.desk.ask(digest, work, shown.address) {
                    Turn::Known(client) => known(client),
                    Turn::Wait(answer) => answer.await.map_or(Who::Busy, known),
                    Turn::Busy => Who::Busy,
                }
            }
            _ => Who::Unknown,
        }
    }
}

/// Where passwords are held against hashes that take long; one for the process.
pub struct Desk {
    /// Of the hashes by which is remembered what was found out.
    key: [u8; 32],
    book: Arc<Mutex<Book>>,
    /// Gone until somebody asks for the first time.
    jobs_tx: Mutex<Option<mpsc::Sender<Job>>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

type Digest = [u8; 32];
type Answer = Option<Arc<str>>;

#[derive(Default)]
struct Book {
    right: Remembered<Arc<str>>,
    wrong: Remembered<()>,
    waiting: HashMap<Digest, Vec<oneshot::Sender<Answer>>>,
    /// By client: so many of them.
    of_addresses: BTreeMap<IpAddr, usize>,
}

/// Those of late, and those before.
struct Remembered<T> {
    young: HashMap<Digest, T>,
    old: HashMap<Digest, T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<T: Clone> Remembered<T> {
    fn get(&mut self, digest: &Digest) -> Option<T> {
        if let Some(found) = self.young.get(digest) {
            return Some(found.clone());
        }
        let found = self.old.remove(digest)?;
        self.put(*digest, found.clone());
        Some(found)
    }

    fn put(&mut self, digest: Digest, what: T) {
        if self.young.len() >= PASSWORDS_KNOWN_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, what);
    }
}

struct Work {
    passwords: Arc<Passwords>,
    name: Box<str>,
    secret: Box<[u8]>,
}

struct Job {
    digest: Digest,
    work: Work,
    address: IpAddr,
}

enum Turn {
    Known(Answer),
    Wait(oneshot::Receiver<Answer>),
    Busy,
}

impl Desk {
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Desk, Invalid> {
        let key = secret::random().map_err(|_| Invalid::new("the system gives no randomness"))?;
        Ok(Desk { key, book: Arc::default(), jobs_tx: Mutex::default() })
    }

    fn digest(&self, number: u64, version: u64, name: &str, secret: &[u8]) -> Digest {
        let of = [number.to_be_bytes(), version.to_be_bytes()];
        secret::keyed(&self.key, &[of.as_flattened(), name.as_bytes(), secret])
    }

    fn ask(&self, digest: Digest, work: Work, address: IpAddr) -> Turn {
        let mut book = lock(&self.book);
        if let Some(client) = book.right.get(&digest) {
            return Turn::Known(Some(client));
        }
        if book.wrong.get(&digest).is_some() {
            return Turn::Known(None);
        }
        let (answer_tx, answer) = oneshot::channel();
        if let Some(others) = book.waiting.get_mut(&digest) {
            if others.len() >= WAITING_TOGETHER_MAX {
                others.retain(|other| !other.is_closed());
            }
            if others.len() >= WAITING_TOGETHER_MAX {
                return Turn::Busy;
            }
            others.push(answer_tx);
            return Turn::Wait(answer);
        }
        let address = whose(address);
        let own = book.of_addresses.get(&address).copied().unwrap_or(0);
        if book.waiting.len() >= PASSWORDS_WAITING_MAX || own >= PASSWORDS_WAITING_PER_ADDRESS_MAX {
            return Turn::Busy;
        }
        if !self.send(Job { digest, work, address }) {
            return Turn::Busy;
        }
        book.waiting.insert(digest, vec![answer_tx]);
        book.of_addresses.insert(address, own + 1);
        Turn::Wait(answer)
    }

    fn send(&self, job: Job) -> bool {
        let mut jobs_tx = self.jobs_tx.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs_tx.is_none() {
            let (tx, jobs) = mpsc::channel();
            let book = Arc::clone(&self.book);
            let named = std::thread::Builder::new().name("naru-passwords".to_owned());
            if named.spawn(move || work(&jobs, &book)).is_err() {
                return false;
            }
            *jobs_tx = Some(tx);
        }
        jobs_tx.as_ref().is_some_and(|tx| tx.send(job).is_ok())
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    // Nothing that holds it panics half-way.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of IPv6 what one customer is given (RFC 6177).
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Computes, until the desk is gone.
fn work(jobs: &mpsc::Receiver<Job>, book: &Mutex<Book>) {
    while let Ok(Job { digest, work, address }) = jobs.recv() {
        let has_gone =
            |book: &Book| book.waiting.get(&digest).is_none_or(|all| all.iter().all(|one| one.is_closed()));
        let verify = || work.passwords.verify(&work.name, &work.secret);
        // Whoever comes next is not to find nobody here.
        let found = if has_gone(&lock(book)) { None } else { catch_unwind(AssertUnwindSafe(verify)).ok() };
        let mut book = lock(book);
        match &found {
            Some(Some(client)) => book.right.put(digest, Arc::clone(client)),
            Some(None) => book.wrong.put(digest, ()),
            None => {}
        }
        if let Some(count) = book.of_addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                book.of_addresses.remove(&address);
            }
        }
        let waiting = book.waiting.remove(&digest).unwrap_or_default();
        drop(book);
        // Who came in the meantime is told to come again, where nobody has looked.
        if let Some(found) = found {
            for answer in waiting {
                _ = answer.send(found.clone());
            }
        }
    }
}
