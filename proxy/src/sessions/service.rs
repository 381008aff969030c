//! Who keeps the sessions of one `SessionAuth`: a thread with the store, beside the workers.
//!
//! `naru_session::Keeper` says what the store is asked; here it is asked. Workers look at what is [`Known`], which they
//! hear of by a number that is counted up, and never wait for it. Who logs in, refreshes or logs out is waited for: his
//! request asks this thread and is answered, or is told that the store is away.
//!
//! A store value is sealed before it leaves this thread, for the place where it stands.

mod listed;
mod over;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use naru_base::{Json, WallTime};
use naru_jose::secret;
use naru_session::login::Attempt;
use naru_session::{Action, Family, Id, Keeper, News, Pace, Presented, Revoked, Ring, Said, written};
use naru_spec::{DataSource, SESSION_BEGAN, Seal, SessionAuth, StorePlace, defaults};
use naru_store::{Away, RING, Store, Swapped, Write};
use tokio::sync::{Notify, mpsc, oneshot};

use self::listed::Listed;
pub use self::over::{Ended, SubjectKey};
use super::keys::{self, Keyset};
use crate::clock::{Origin, wall_now};

/// So many may wait for the store at once; who comes after them is told that it is away.
const WAITING_MAX: usize = 4_096;
/// A value that others write as well is tried so often.
const TRIES: usize = 8;

/// The sessions of one `SessionAuth`, for as long as any configuration has it.
#[derive(Debug)]
pub struct Service {
    name: String,
    place: StorePlace,
    seal: Seal,
    tasks_tx: mpsc::Sender<Task>,
    shared: Arc<Shared>,
}

/// What workers see.
#[derive(Debug, Default)]
struct Shared {
    /// Counted up with each change of what is known.
    version: AtomicU64,
    known: Mutex<Arc<Known>>,
    counts: SessionCounts,
    is_away: AtomicBool,
    /// There once the store could be opened.
    seal: OnceLock<Arc<secret::Seal>>,
}

/// What there is to judge tokens by.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Nothing was read yet.
    pub keys: Option<Arc<Keyset>>,
    /// All of it, and what came after that.
    revoked: Option<(Arc<Revoked>, Arc<Revoked>)>,
    /// There once the store could be opened.
    pub subjects: Option<Arc<SubjectKey>>,
}

impl Known {
    pub fn revoked(&self) -> impl Iterator<Item = &Revoked> + Clone {
        self.revoked.iter().flat_map(|(all, recent)| [&**all, &**recent])
    }
}

/// Counted by all workers together.
#[derive(Debug, Default)]
pub struct SessionCounts {
    pub logins: AtomicU64,
    /// Who was led to a provider.
    pub begun: AtomicU64,
    /// Who came back from there, and was not let in.
    pub refused_logins: AtomicU64,
    pub refreshes: AtomicU64,
    /// Of these, the ones that were answered with the same token again.
    pub repeats: AtomicU64,
    pub refused: AtomicU64,
    /// Refresh tokens that were used twice: whole sessions that were ended.
    pub reused: AtomicU64,
    pub logouts: AtomicU64,
    /// Tokens and sessions that an operator has ended.
    pub ended: AtomicU64,
    pub rotations: AtomicU64,
    pub store_failures: AtomicU64,
    /// How many the list has now.
    pub revoked: AtomicU64,
}

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// What is told of a service.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    pub name: String,
    /// Each with its name as metrics say it.
    pub counts: Vec<(&'static str, u64)>,
    pub revoked: u64,
    pub is_away: bool,
    pub ring_version: u64,
    /// Ids and phases of keys: never a key.
    pub keys: Vec<(String, &'static str)>,
    /// The issuer where people log in, and what is wrong with it.
    pub provider: Option<(String, Option<String>)>,
}

/// A pair of tokens.
pub struct Pair {
    pub access: String,
    pub access_lifetime: Duration,
    pub refresh: String,
    pub refresh_lifetime: Duration,
}

/// What comes of a refresh token.
pub enum Refreshed {
    Pair(Pair),
    /// One has to log in.
    Refused,
    Away,
}

enum Task {
    Login {
        auth: Arc<SessionAuth>,
        family: Family,
        done_tx: oneshot::Sender<Option<Pair>>,
    },
    Refresh {
        auth: Arc<SessionAuth>,
        token: String,
        done_tx: oneshot::Sender<Refreshed>,
    },
    /// Whether all gateways will know.
    Logout {
        auth: Arc<SessionAuth>,
        ids: Vec<Id>,
        token: Option<String>,
        done_tx: oneshot::Sender<bool>,
    },
    /// Somebody else wants it ended. Whether all gateways will know.
    End(Id, oneshot::Sender<bool>),
    /// And all sessions of whom this is.
    EndSubject(String, oneshot::Sender<Ended>),
    /// Whether nobody has ended it before.
    Attempt {
        state: Id,
        until: WallTime,
        done_tx: oneshot::Sender<Option<bool>>,
    },
    Configure(Arc<SessionAuth>),
    Close,
}

impl Service {
    /// The store is opened by the thread, and again and again where it cannot be.
    pub fn start(auth: &Arc<SessionAuth>, origin: Origin) -> std::io::Result<Arc<Service>> {
        let (tasks_tx, tasks_rx) = mpsc::channel(WAITING_MAX);
        let shared = Arc::<Shared>::default();
        let (of_thread, auth_of_thread) = (Arc::clone(&shared), Arc::clone(auth));
        let thread = std::thread::Builder::new().name("naru-sessions".to_owned());
        thread.spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, run(auth_of_thread, origin, of_thread, tasks_rx));
            }
        })?;
        let store = &auth.store;
        Ok(Arc::new(Service {
            name: auth.name.clone(),
            place: store.place.clone(),
            seal: store.seal.clone(),
            tasks_tx,
            shared,
        }))
    }

    /// Whether it is the one for these settings, as far as it cannot change while it runs.
    pub fn is_for(&self, auth: &SessionAuth) -> bool {
        self.name == auth.name && self.place == auth.store.place && self.seal == auth.store.seal
    }

    /// What can change while it runs has changed.
    pub fn configure(&self, auth: &Arc<SessionAuth>) {
        // Where it is full, requests bring their own settings.
        let _ = self.tasks_tx.try_send(Task::Configure(Arc::clone(auth)));
    }

    /// Gives its store back: the process carries no more requests.
    pub fn end(&self) {
        // Where it is full, it ends with its last owner.
        let _ = self.tasks_tx.try_send(Task::Close);
    }

    #[inline]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.shared.known())
    }

    pub fn count_login(&self) {
        count(&self.shared.counts.logins);
    }

    pub fn count_begun(&self) {
        count(&self.shared.counts.begun);
    }

    pub fn count_refused_login(&self) {
        count(&self.shared.counts.refused_logins);
    }

    /// Seals an attempt to log in for its browser. `None` where there is no seal yet.
    pub fn seal_attempt(&self, plain: &[u8]) -> Option<String> {
        let sealed = self.shared.seal.get()?.seal(self.attempt_context().as_bytes(), plain).ok()?;
        Some(secret::to_text(&sealed))
    }

    /// An attempt that one of us has sealed.
    pub fn open_attempt(&self, sealed: &str) -> Option<Attempt> {
        if sealed.len() > defaults::OIDC_ATTEMPT_BYTES_MAX {
            return None;
        }
        let sealed = secret::from_text(sealed)?;
        let plain = self.shared.seal.get()?.open(self.attempt_context().as_bytes(), &sealed).ok()?;
        Attempt::read(&plain).ok()
    }

    fn attempt_context(&self) -> String {
        format!("naru/{}/attempt", self.name)
    }

    /// Whether nobody has ended it before. `None` where the store is away.
    pub async fn end_attempt(&self, state: Id, until: WallTime) -> Option<bool> {
        let (done_tx, done_rx) = oneshot::channel();
        self.tasks_tx.try_send(Task::Attempt { state, until, done_tx }).ok()?;
        done_rx.await.ok()?
    }

    /// `None` where the store is away.
    pub async fn log_in(&self, auth: &Arc<SessionAuth>, family: Family) -> Option<Pair> {
        let (done_tx, done_rx) = oneshot::channel();
        self.tasks_tx.try_send(Task::Login { auth: Arc::clone(auth), family, done_tx }).ok()?;
        done_rx.await.ok()?
    }

    pub async fn refresh(&self, auth: &Arc<SessionAuth>, token: String) -> Refreshed {
        let (done_tx, done_rx) = oneshot::channel();
        let task = Task::Refresh { auth: Arc::clone(auth), token, done_tx };
        if self.tasks_tx.try_send(task).is_err() {
            return Refreshed::Away;
        }
        done_rx.await.unwrap_or(Refreshed::Away)
    }

    /// Whether all gateways will know.
    pub async fn log_out(&self, auth: &Arc<SessionAuth>, ids: Vec<Id>, token: Option<String>) -> bool {
        let (done_tx, done_rx) = oneshot::channel();
        let task = Task::Logout { auth: Arc::clone(auth), ids, token, done_tx };
        self.tasks_tx.try_send(task).is_ok() && done_rx.await.unwrap_or(false)
    }

    /// Ends the token or the session with this id. Whether all gateways will know at once.
    pub async fn end_one(&self, id: Id) -> bool {
        let (done_tx, done_rx) = oneshot::channel();
        self.tasks_tx.try_send(Task::End(id, done_tx)).is_ok() && done_rx.await.unwrap_or(false)
    }

    /// Ends all sessions of this subject that there are.
    pub async fn end_subject(&self, subject: String) -> Ended {
        let (done_tx, done_rx) = oneshot::channel();
        match self.tasks_tx.try_send(Task::EndSubject(subject, done_tx)) {
            Ok(()) => done_rx.await.unwrap_or(Ended::Not),
            Err(_) => Ended::Not,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn status(&self) -> SessionStatus {
        let counts = &self.shared.counts;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let known = self.known();
        let ring = known.keys.as_ref().map(|keys| &keys.ring);
        let phase = |ring: &Ring, id: Id| {
            if id == ring.current().id {
                "current"
            } else if id == ring.next().id {
                "next"
            } else {
                "past"
            }
        };
        let keys = ring.into_iter().flat_map(|ring| ring.keys().map(move |key| (ring, key)));
        SessionStatus {
            name: self.name.clone(),
            counts: vec![
                ("logins", read(&counts.logins)),
                ("begun_logins", read(&counts.begun)),
                ("refused_logins", read(&counts.refused_logins)),
                ("refreshes", read(&counts.refreshes)),
                ("repeated_refreshes", read(&counts.repeats)),
                ("refused_refreshes", read(&counts.refused)),
                ("reused_refresh_tokens", read(&counts.reused)),
                ("logouts", read(&counts.logouts)),
                ("ended_by_operators", read(&counts.ended)),
                ("key_rotations", read(&counts.rotations)),
                ("store_failures", read(&counts.store_failures)),
            ],
            revoked: read(&counts.revoked),
            is_away: self.shared.is_away.load(Ordering::Relaxed),
            ring_version: ring.map_or(0, Ring::version),
            keys: keys.map(|(ring, key)| (key.id.to_string(), phase(ring, key.id))).collect(),
            provider: None,
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says so once, when it begins and when it is over.
    fn set_away(&self, name: &str, away: Option<&str>) {
        if self.is_away.swap(away.is_some(), Ordering::Relaxed) == away.is_some() {
            return;
        }
        match away {
            Some(why) => naru_say::say!("naru: sessions '{name}': the store is away: {why}"),
            None => naru_say::say!("naru: sessions '{name}': the store is there"),
        }
    }
}

fn pace(auth: &SessionAuth) -> Pace {
    Pace {
        poll_every: auth.store.poll_every,
        retry_every: auth.store.poll_every.max(Duration::from_millis(250)).min(Duration::from_secs(1)),
        rotate_every: auth.keys.rotate_every,
    }
}

/// All of the thread.
async fn run(
    auth: Arc<SessionAuth>,
    origin: Origin,
    shared: Arc<Shared>,
    mut tasks_rx: mpsc::Receiver<Task>,
) {
    let (store, seal, subjects) = loop {
        match open(&auth) {
            Ok(opened) => break opened,
            Err(away) => {
                count(&shared.counts.store_failures);
                shared.set_away(&auth.name, Some(&away.0));
            }
        }
        let pause = tokio::time::sleep(pace(&auth).retry_every);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = &mut pause => break,
                // Its sender is dropped with it: the store is away.
                task = tasks_rx.recv() => if matches!(task, None | Some(Task::Close)) { return },
            }
        }
    };
    let seal = Arc::new(seal);
    // It is opened once.
    let _ = shared.seal.set(Arc::clone(&seal));
    let keeper = Keeper::new(pace(&auth), auth.store.revoked_max);
    let inner = Rc::new(Inner {
        origin,
        store,
        seal,
        subjects: Arc::new(subjects),
        left: RefCell::default(),
        keeper: RefCell::new(keeper),
        ring_there: RefCell::default(),
        listed: RefCell::new(Listed::new(auth.store.revoked_max)),
        published: Cell::new((0, 0)),
        wake: Notify::new(),
        auth: RefCell::new(auth),
        shared,
    });
    let keeping = tokio::task::spawn_local(keep(Rc::clone(&inner)));
    while let Some(task) = tasks_rx.recv().await {
        if matches!(task, Task::Close) {
            break;
        }
        let inner = Rc::clone(&inner);
        tokio::task::spawn_local(async move { inner.carry_out(task).await });
    }
    keeping.abort();
}

fn open(auth: &SessionAuth) -> Result<(Store, secret::Seal, SubjectKey), Away> {
    let key = match (&auth.store.seal, &auth.store.place) {
        (Seal::Given(source), _) => given(source)?,
        (Seal::Beside, StorePlace::Directory(path)) => beside(Path::new(path))?,
        (Seal::Beside, StorePlace::Redis { .. }) => return Err(Away("nothing seals it".to_owned())),
    };
    let key = secret::sha256(&key);
    let seal = secret::Seal::new(&key).map_err(|failed| Away(failed.to_string()))?;
    let store = Store::open(&auth.store.place, &auth.name, auth.store.timeout)?;
    Ok((store, seal, SubjectKey::of(&key)))
}

fn given(source: &DataSource) -> Result<Vec<u8>, Away> {
    let bytes = match source {
        DataSource::File(path) => fs::read(path).map_err(|error| Away(format!("{path}: {error}")))?,
        DataSource::Inline(bytes) => bytes.clone(),
        DataSource::Environment(name) => std::env::var_os(name)
            .ok_or_else(|| Away(format!("{name} is not in the environment")))?
            .into_encoded_bytes(),
    };
    let end = bytes.trim_ascii_end().len();
    if end < 32 {
        return Err(Away("what seals it has less than 32 bytes".to_owned()));
    }
    Ok(bytes.get(..end).unwrap_or_default().to_vec())
}

/// The file beside the store; it is made with it.
fn beside(directory: &Path) -> Result<Vec<u8>, Away> {
    let told = |error: std::io::Error| Away(format!("{}: {error}", directory.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(told)?;
    let path = directory.join("seal.key");
    let key: [u8; 32] = secret::random().map_err(|failed| Away(failed.to_string()))?;
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(secret::to_text(&key).as_bytes()).and_then(|()| file.sync_all()).map_err(told)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(told(error)),
    }
    given(&DataSource::File(path.display().to_string()))
}

struct Inner {
    origin: Origin,
    store: Store,
    seal: Arc<secret::Seal>,
    subjects: Arc<SubjectKey>,
    /// What the store was away for.
    left: RefCell<over::Left>,
    keeper: RefCell<Keeper>,
    /// The ring as it stands in the store.
    ring_there: RefCell<Option<Vec<u8>>>,
    listed: RefCell<Listed>,
    /// The version of the ring and the changes of the list, as workers know.
    published: Cell<(u64, u64)>,
    wake: Notify,
    auth: RefCell<Arc<SessionAuth>>,
    shared: Arc<Shared>,
}

/// Asks the store what the keeper wants to know.
async fn keep(inner: Rc<Inner>) {
    loop {
        let (now, wall) = (inner.origin.elapsed(), wall_now());
        let action = inner.keeper.borrow_mut().next_action(now, wall);
        if let Some(action) = action {
            inner.ask(action).await;
            continue;
        }
        let deadline = inner.keeper.borrow().deadline(now, wall);
        let pause = deadline.map_or(Duration::from_secs(1), |deadline| deadline.since(now));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = inner.wake.notified() => {}
        }
    }
}

impl Inner {
    async fn ask(&self, action: Action) {
        let outcome = match action {
            Action::Poll(cursor) => self.poll(cursor).await,
            Action::Restore(ring) => self.write_ring(ring).await,
            Action::Rotate(ring) => self.rotate(ring).await,
            Action::Tell(told) => {
                let outcome = self.store.tell(wall_now(), told.clone()).await;
                outcome.map(|()| self.keeper.borrow_mut().on_told(&told))
            }
        };
        if let Err(away) = &outcome {
            count(&self.shared.counts.store_failures);
            self.keeper.borrow_mut().on_away(self.origin.elapsed());
            self.shared.set_away(&self.auth.borrow().name, Some(&away.0));
        } else if self.keeper.borrow().away_since().is_none() {
            self.shared.set_away(&self.auth.borrow().name, None);
            self.tell_left().await;
        }
        self.publish();
    }

    async fn poll(&self, cursor: naru_session::Cursor) -> Result<(), Away> {
        let epoch = secret::random().map(u64::from_be_bytes).unwrap_or(1);
        let rows = self.store.news(cursor, epoch >> 1).await?;
        let ring = rows.ring.as_deref().map(|sealed| self.open_ring(sealed)).transpose()?;
        *self.ring_there.borrow_mut() = rows.ring;
        let revoked = rows.revoked.clone();
        let news = News { cursor: rows.cursor, revoked: rows.revoked, is_partial: rows.is_partial, ring };
        self.keeper.borrow_mut().on_news(self.origin.elapsed(), wall_now(), news);
        self.note(&revoked);
        Ok(())
    }

    async fn rotate(&self, from: Option<Ring>) -> Result<(), Away> {
        let auth = Arc::clone(&self.auth.borrow());
        let make = || keys::make(auth.keys.algorithm).map_err(Away);
        let ring = match from {
            Some(ring) => ring.rotated(wall_now(), make()?, auth.kept()),
            None => Ring::first(wall_now(), make()?, make()?),
        };
        self.write_ring(ring).await
    }

    async fn write_ring(&self, ring: Ring) -> Result<(), Away> {
        let value = self.seal(RING, &written::ring(&ring))?;
        let expected = self.ring_there.borrow().clone();
        let write = Write { name: RING.to_owned(), expected, value: value.clone(), until: None };
        let there = match self.store.swap(wall_now(), write).await? {
            Swapped::Done => {
                count(&self.shared.counts.rotations);
                *self.ring_there.borrow_mut() = Some(value);
                ring
            }
            Swapped::Beaten(there) => {
                let there = there.ok_or_else(|| Away("it has lost its keys".to_owned()))?;
                let ring = self.open_ring(&there)?;
                *self.ring_there.borrow_mut() = Some(there);
                ring
            }
        };
        self.keeper.borrow_mut().on_written(there);
        Ok(())
    }

    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Away> {
        self.seal.seal(self.context(name).as_bytes(), plain).map_err(|failed| Away(failed.to_string()))
    }

    fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, Away> {
        let opened = self.seal.open(self.context(name).as_bytes(), sealed);
        opened.map_err(|_| Away("what it holds was sealed by another key, or is damaged".to_owned()))
    }

    /// What is sealed for one place is nothing at another.
    fn context(&self, name: &str) -> String {
        format!("naru/{}/{name}", self.auth.borrow().name)
    }

    fn open_ring(&self, sealed: &[u8]) -> Result<Ring, Away> {
        let plain = self.unseal(RING, sealed)?;
        written::read_ring(&plain).map_err(|why| Away(format!("its keys cannot be read: {why}")))
    }

    /// They are in the whole list already.
    fn note(&self, revoked: &[(Id, WallTime)]) {
        self.listed.borrow_mut().note(self.keeper.borrow().revoked(), revoked);
    }

    /// Tells workers what is known, where that is news.
    fn publish(&self) {
        let keeper = self.keeper.borrow();
        let ring = keeper.ring();
        let listed = self.listed.borrow();
        self.shared.counts.revoked.store(keeper.revoked().len() as u64, Ordering::Relaxed);
        let now = (ring.map_or(0, Ring::version), listed.changes());
        let mut known = self.shared.known();
        let is_same_ring = known.keys.as_ref().map(|keys| &keys.ring) == ring;
        if is_same_ring && self.published.get() == now {
            return;
        }
        let keys =
            if is_same_ring { known.keys.clone() } else { ring.and_then(|ring| self.keyset(ring, &known)) };
        *known = Arc::new(Known {
            keys,
            revoked: Some(listed.parts()),
            subjects: Some(Arc::clone(&self.subjects)),
        });
        self.published.set(now);
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    fn keyset(&self, ring: &Ring, known: &Known) -> Option<Arc<Keyset>> {
        match Keyset::of(ring.clone(), known.keys.as_deref()) {
            Ok(keys) => Some(Arc::new(keys)),
            Err(why) => {
                self.shared.set_away(&self.auth.borrow().name, Some(&why));
                known.keys.clone()
            }
        }
    }

    async fn carry_out(&self, task: Task) {
        // Who has asked may have gone.
        match task {
            Task::Close => {}
            Task::Configure(auth) => {
                self.keeper.borrow_mut().set_pace(pace(&auth));
                *self.auth.borrow_mut() = auth;
                self.wake.notify_one();
            }
            Task::End(id, done_tx) => {
                let auth = Arc::clone(&self.auth.borrow());
                let is_everywhere = self.told(self.log_out(&auth, &[id]).await).is_ok();
                count(&self.shared.counts.ended);
                let _ = done_tx.send(is_everywhere);
            }
            Task::EndSubject(subject, done_tx) => {
                let auth = Arc::clone(&self.auth.borrow());
                let ended = self.end_subject(&auth, &subject).await;
                count(&self.shared.counts.ended);
                let _ = done_tx.send(ended);
            }
            Task::Attempt { state, until, done_tx } => {
                let write = Write {
                    name: format!("attempt:{state}"),
                    expected: None,
                    value: vec![1],
                    until: Some(until),
                };
                let swapped = self.told(self.store.swap(wall_now(), write).await);
                let _ = done_tx.send(swapped.ok().map(|swapped| swapped == Swapped::Done));
            }
            Task::Login { auth, family, done_tx } => {
                let pair = self.told(self.log_in(&auth, &family).await).ok();
                let _ = done_tx.send(pair);
            }
            Task::Refresh { auth, token, done_tx } => {
                let refreshed = self.told(self.refresh(&auth, &token).await).unwrap_or(Refreshed::Away);
                let number = match refreshed {
                    Refreshed::Pair(_) => &self.shared.counts.refreshes,
                    Refreshed::Refused | Refreshed::Away => &self.shared.counts.refused,
                };
                count(number);
                let _ = done_tx.send(refreshed);
            }
            Task::Logout { auth, mut ids, token, done_tx } => {
                let sid = token.and_then(|token| self.open_refresh(&token)).map(|(sid, _)| sid);
                ids.extend(sid);
                ids.sort_unstable();
                ids.dedup();
                let is_everywhere = self.told(self.log_out(&auth, &ids).await).is_ok();
                count(&self.shared.counts.logouts);
                let _ = done_tx.send(is_everywhere);
            }
        }
    }

    fn told<T>(&self, outcome: Result<T, Away>) -> Result<T, Away> {
        if outcome.is_err() {
            count(&self.shared.counts.store_failures);
        }
        outcome
    }

    async fn log_in(&self, auth: &SessionAuth, family: &Family) -> Result<Pair, Away> {
        let sid = keys::draw().map_err(Away)?;
        let name = family_name(sid);
        // The ring is read with it: no key that was replaced signs.
        let (ring, _) = self.store.read(&name).await?;
        self.hear_ring(ring)?;
        let family = self.begun(family).await?;
        let value = self.seal(&name, &written::family(&family))?;
        let write = Write { name, expected: None, value, until: Some(family.expires) };
        match self.store.swap(wall_now(), write).await? {
            Swapped::Done => self.issue(auth, sid, &family),
            Swapped::Beaten(_) => Err(Away("it knows a session that has just begun".to_owned())),
        }
    }

    async fn refresh(&self, auth: &SessionAuth, token: &str) -> Result<Refreshed, Away> {
        let Some((sid, generation)) = self.open_refresh(token) else { return Ok(Refreshed::Refused) };
        let name = family_name(sid);
        for _ in 0..TRIES {
            let (ring, there) = self.store.read(&name).await?;
            self.hear_ring(ring)?;
            let Some(there) = there else { return Ok(Refreshed::Refused) };
            let plain = self.unseal(&name, &there)?;
            let family = written::read_family(&plain).map_err(|why| Away(why.to_owned()))?;
            if !family.is_revoked && self.is_over(&family).await? {
                self.end(sid).await?;
                return Ok(Refreshed::Refused);
            }
            let next = match family.present(wall_now(), generation, auth.refresh.reuse_interval) {
                Presented::Rotated(next) => next,
                Presented::Repeated => {
                    count(&self.shared.counts.repeats);
                    return self.issue(auth, sid, &family).map(Refreshed::Pair);
                }
                Presented::Reused(revoked) => {
                    count(&self.shared.counts.reused);
                    let value = self.seal(&name, &written::family(&revoked))?;
                    let until = Some(family.expires);
                    let write = Write { name: name.clone(), expected: Some(there), value, until };
                    if self.store.swap(wall_now(), write).await? != Swapped::Done {
                        continue;
                    }
                    self.revoke(auth, &[sid]).await?;
                    return Ok(Refreshed::Refused);
                }
                Presented::Revoked | Presented::Expired => return Ok(Refreshed::Refused),
            };
            let value = self.seal(&name, &written::family(&next))?;
            let write = Write { name: name.clone(), expected: Some(there), value, until: Some(next.expires) };
            if self.store.swap(wall_now(), write).await? == Swapped::Done {
                return self.issue(auth, sid, &next).map(Refreshed::Pair);
            }
        }
        Err(Away("others write the same session again and again".to_owned()))
    }

    async fn log_out(&self, auth: &SessionAuth, ids: &[Id]) -> Result<(), Away> {
        let told = self.revoke(auth, ids).await;
        for sid in ids {
            // Of the ids, those of sessions have something to end.
            if let Err(away) = self.end(*sid).await {
                ids.iter().for_each(|id| self.left.borrow_mut().leave_session(*id));
                return Err(away);
            }
        }
        told
    }

    /// A session that is over cannot be refreshed.
    async fn end(&self, sid: Id) -> Result<(), Away> {
        let name = family_name(sid);
        for _ in 0..TRIES {
            let (_, Some(there)) = self.store.read(&name).await? else { return Ok(()) };
            let plain = self.unseal(&name, &there)?;
            let family = written::read_family(&plain).map_err(|why| Away(why.to_owned()))?;
            if family.is_revoked {
                return Ok(());
            }
            let value = self.seal(&name, &written::family(&family.revoked()))?;
            let until = Some(family.expires);
            let write = Write { name: name.clone(), expected: Some(there), value, until };
            if self.store.swap(wall_now(), write).await? == Swapped::Done {
                return Ok(());
            }
        }
        Err(Away("others write the same session again and again".to_owned()))
    }

    /// It holds here at once, and everywhere once the store knows.
    async fn revoke(&self, auth: &SessionAuth, ids: &[Id]) -> Result<(), Away> {
        let until = wall_now() + auth.remembered();
        let told: Vec<(Id, WallTime)> = ids.iter().map(|id| (*id, until)).collect();
        for (id, until) in &told {
            self.keeper.borrow_mut().on_revoked(*id, *until);
        }
        self.note(&told);
        self.publish();
        let outcome = self.store.tell(wall_now(), told.clone()).await;
        if outcome.is_ok() {
            self.keeper.borrow_mut().on_heard(&told);
        }
        outcome
    }

    fn hear_ring(&self, sealed: Option<Vec<u8>>) -> Result<(), Away> {
        let Some(sealed) = sealed else { return Ok(()) };
        if self.ring_there.borrow().as_ref() == Some(&sealed) {
            return Ok(());
        }
        let ring = self.open_ring(&sealed)?;
        let is_news = self.keeper.borrow().ring().is_none_or(|own| own.version() < ring.version());
        if is_news {
            self.keeper.borrow_mut().on_ring(ring);
            *self.ring_there.borrow_mut() = Some(sealed);
            self.publish();
        }
        Ok(())
    }

    fn issue(&self, auth: &SessionAuth, sid: Id, family: &Family) -> Result<Pair, Away> {
        let known = Arc::clone(&self.shared.known());
        let signer = known.keys.as_deref().and_then(Keyset::signer);
        let signer = signer.ok_or_else(|| Away("there is no key yet".to_owned()))?;
        let jti = keys::draw().map_err(Away)?;
        let now = wall_now();
        let left = Duration::from_nanos(family.expires.0.saturating_sub(now.0));
        let lifetime = auth.access.lifetime.min(left.max(Duration::from_secs(1)));
        let seconds = |at: WallTime| Json::from(i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX));
        let mut claims = vec![
            ("iss".to_owned(), Json::from(auth.issuer.as_str())),
            ("sub".to_owned(), Json::from(family.subject.as_str())),
        ];
        match auth.audiences.as_slice() {
            [] => {}
            [one] => claims.push(("aud".to_owned(), Json::from(one.as_str()))),
            several => {
                let all = several.iter().map(|one| Json::from(one.as_str())).collect();
                claims.push(("aud".to_owned(), Json::List(all)));
            }
        }
        claims.extend([
            ("iat".to_owned(), seconds(now)),
            ("nbf".to_owned(), seconds(now)),
            ("exp".to_owned(), seconds(now + lifetime)),
            ("jti".to_owned(), Json::from(jti.to_string().as_str())),
            ("sid".to_owned(), Json::from(sid.to_string().as_str())),
            (SESSION_BEGAN.to_owned(), seconds(family.began)),
        ]);
        let said = family.claims.iter().map(|(name, said)| match said {
            Said::Text(text) => (name.clone(), Json::from(text.as_str())),
            Said::Value(value) => (name.clone(), value.clone()),
        });
        claims.extend(said);
        let mut token = sid.0.to_be_bytes().to_vec();
        token.extend(family.generation.to_be_bytes());
        Ok(Pair {
            access: signer.sign(&Json::Map(claims)),
            access_lifetime: lifetime,
            refresh: secret::to_text(&self.seal("refresh", &token)?),
            refresh_lifetime: left,
        })
    }

    /// The session and the generation of a refresh token, where it is one of ours.
    fn open_refresh(&self, token: &str) -> Option<(Id, u64)> {
        if token.len() > defaults::SESSION_REFRESH_BYTES_MAX {
            return None;
        }
        let plain = self.unseal("refresh", &secret::from_text(token)?).ok()?;
        let (sid, generation) = plain.split_at_checked(16)?;
        let sid = Id(u128::from_be_bytes(sid.try_into().ok()?));
        Some((sid, u64::from_be_bytes(generation.try_into().ok()?)))
    }
}

fn family_name(sid: Id) -> String {
    format!("family:{sid}")
}
