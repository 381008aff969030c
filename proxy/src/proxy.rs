//! The whole data plane of a process: started, changed, asked, told to end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use naru_base::{Instant, WallTime};
use naru_journey::Snapshot;
use naru_spec::Invalid;
use naru_spec::config::Place;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::board::{Board, Found, Next};
use crate::clock::{self, Origin};
use crate::cluster::{Balanced, ClusterStatus};
use crate::contain::Watchman;
use crate::discover::{self, Follower};
use crate::gate::{LocalRateStatus, QuotaStatus, StoreStatus};
use crate::listen::{self, Inherited, ListenerKey, Listening, Opened, Sites};
use crate::log::LogWriter;
use crate::metrics::Report;
use crate::names::Names;
use crate::prepare::{self, Prepared, SnapshotRef};
use crate::sessions::{Provider, SessionStatus, SessionsEnded};
use crate::shared_cache::{CacheStatus, Purged};
use crate::shared_limits::NamedLimitStatus;
use crate::strain::{Strain, StrainStatus, Watch};
use crate::surge::{self, SurgeOrder, SurgeStatus};
use crate::watched::FileStatus;
use crate::worker::{self, Accept, Message, Start};

/// A worker that does not answer a scrape within this time is left out of it.
const REPORT_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two looks at whether names are looked up.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that carry requests.
    pub workers: usize,
    /// Of all chance; taken from the clock where there is none.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { workers: 1, seed: None }
    }
}

/// Why a data plane did not start, or does not take a configuration over.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be had.
    Listen {
        listener: String,
        address: SocketAddr,
        error: io::Error,
    },
    /// Nor the path of its Unix socket.
    Pipe {
        listener: String,
        path: String,
        error: io::Error,
    },
    /// Certificates or settings cannot be used: everything that is wrong with them.
    Config(Vec<(Place, Invalid)>),
    Log(io::Error),
    Thread(io::Error),
    /// A worker does not take its sockets.
    Accept(io::Error),
    /// It is told to end and takes nothing over any more.
    Draining,
}

impl StartError {
    /// Somebody else has an address. Nothing is wrong with the configuration, and it may be once that one has left.
    pub fn is_taken(&self) -> bool {
        match self {
            StartError::Listen { error, .. } | StartError::Pipe { error, .. } => {
                error.kind() == io::ErrorKind::AddrInUse
            }
            StartError::Config(_)
            | StartError::Log(_)
            | StartError::Thread(_)
            | StartError::Accept(_)
            | StartError::Draining => false,
        }
    }

    /// What is to be done about it; nothing where that is not known.
    pub fn hint(&self) -> &'static str {
        match self {
            StartError::Listen { .. } if self.is_taken() => {
                "stop that process, or choose another port (of a Gateway port.number, in Envoy's words port_value); \
                 'ss -ltnp' shows who it is"
            }
            StartError::Pipe { .. } if self.is_taken() => {
                "somebody listens there, or it is a file that is no socket"
            }
            _ => "",
        }
    }

    /// What it is, without the hint.
    pub fn message(&self) -> String {
        match self {
            StartError::Listen { listener, address, .. } if self.is_taken() => format!(
                "listener '{listener}' cannot have the address {address}: it is in use by another process"
            ),
            StartError::Listen { listener, address, error } => {
                format!("listener '{listener}' cannot listen on {address}: {error}")
            }
            StartError::Pipe { listener, path, error } => {
                format!("listener '{listener}' cannot listen on {path}: {error}")
            }
            StartError::Config(problems) => {
                let said: Vec<String> = problems.iter().map(|(_, invalid)| invalid.to_string()).collect();
                said.join("; ")
            }
            StartError::Log(error) => error.to_string(),
            StartError::Thread(error) => format!("a thread cannot be started: {error}"),
            StartError::Accept(error) => format!("a worker cannot accept connections: {error}"),
            StartError::Draining => "naru is draining and takes no new configuration".to_owned(),
        }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())?;
        if self.hint().is_empty() { Ok(()) } else { write!(f, "\n  help: {}", self.hint()) }
    }
}

impl std::error::Error for StartError {}

/// A running data plane. Dropping it drains it and waits for its threads.
#[derive(Debug)]
pub struct Proxy {
    board: Arc<Board>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    log: LogWriter,
    origin: Origin,
    /// Held by whoever changes the configuration.
    names: Mutex<Names>,
    /// Workers that a panic has ended.
    lost: Arc<AtomicU64>,
    strain: Arc<Strain>,
    watch: Watch,
    surge: surge::Watch,
}

/// Says what [`Proxy::start`] would say of the configuration itself, and opens no address.
pub fn check(snapshot: &Snapshot) -> Result<(), StartError> {
    let mut found = match prepare::check(snapshot) {
        Ok(()) => Vec::new(),
        Err(StartError::Config(found)) => found,
        Err(error) => return Err(error),
    };
    // Secrets by which people log in elsewhere.
    for (at, listener) in snapshot.listeners.iter().enumerate() {
        for auth in listener.chains.iter().flat_map(|chain| &chain.http.sessions) {
            let provider = auth.oidc.as_ref().map(|oidc| Provider::new(&auth.name, oidc, None)).transpose();
            found.extend(provider.err().map(|invalid| (Place::Listener(at), invalid)));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(StartError::Config(found)) }
}

impl Proxy {
    /// Opens all listeners, or none. Names are looked up on the runtime that this is called on.
    pub fn start(snapshot: Snapshot, options: &Options) -> Result<Proxy, StartError> {
        let Starting { proxy, opened, .. } = Proxy::begin(snapshot, options, Vec::new())?;
        proxy.tell_to_accept(opened);
        Ok(proxy)
    }

    /// As [`Proxy::start`], with sockets that listen already, and accepts nothing yet.
    pub fn begin(
        snapshot: Snapshot,
        options: &Options,
        inherited: Vec<Inherited>,
    ) -> Result<Starting, StartError> {
        let mut names = Names::default();
        let log = LogWriter::start().map_err(StartError::Thread)?;
        let origin = Origin::now();
        let prepared = Arc::new(Prepared::new(snapshot, None, &log, &mut names, origin)?);
        let snapshot = &prepared.snapshot;
        let workers = options.workers.max(1);
        let Sites { listening, opened, left } = listen::open(&snapshot.listeners, &[], inherited, workers)?;
        let found = snapshot.clusters.iter().map(|cluster| match Follower::of(cluster) {
            None => Found::Static(discover::static_endpoints(cluster, &Arc::default())),
            Some(follower) => Found::New { follower, set: Arc::default(), was_found: None },
        });
        let found: Vec<Found> = found.collect();
        let endpoints = snapshot.clusters.iter().zip(&found);
        let endpoints: Vec<Balanced> =
            endpoints.map(|(cluster, found)| Balanced::new(&cluster.load_balancing, found.set())).collect();
        let seed = options.seed.unwrap_or_else(clock::seed);
        let host_name: Arc<str> = host_name().into();
        let mut threads = Vec::new();
        let lost = Arc::<AtomicU64>::default();
        let strain = Arc::<Strain>::default();
        let mut senders = Vec::new();
        for at in 0..workers as u64 {
            let (messages_tx, messages_rx) = mpsc::unbounded_channel();
            let start = Start {
                origin,
                // The first worker has the seed itself, so that one worker can be followed exactly.
                seed: seed.wrapping_add(at),
                prepared: Arc::clone(&prepared),
                endpoints: endpoints.clone(),
                log: log.clone(),
                host_name: Arc::clone(&host_name),
                strain: Arc::clone(&strain),
                messages_rx,
            };
            let thread = std::thread::Builder::new().name(format!("naru-{at}"));
            let watchman = Watchman::new(at, &lost);
            let run = move || {
                let _watchman = watchman;
                worker::run(start)
            };
            threads.push(thread.spawn(run).map_err(StartError::Thread)?);
            senders.push(messages_tx);
        }
        let watch = Watch::new(Arc::clone(&strain), origin, senders.clone());
        watch.set(prepared.snapshot.overload.as_ref());
        let (surge, level) = (prepared.snapshot.surge.clone(), Arc::clone(prepared.surged.shared()));
        let board = Board::new(senders, prepared, clock::wall_now(), listening, found, endpoints);
        let of_surge = surge::Watch::new(origin, &board, &level);
        of_surge.set(surge.as_ref());
        let names = Mutex::new(names);
        let proxy = Proxy { board, threads, log, origin, names, lost, strain, watch, surge: of_surge };
        Ok(Starting { proxy, opened, left })
    }

    fn tell_to_accept(&self, opened: Vec<Opened>) -> Vec<oneshot::Receiver<io::Result<()>>> {
        let mut by_worker: Vec<Vec<_>> = self.board.workers().iter().map(|_| Vec::new()).collect();
        for Opened { key, sockets } in opened {
            for (of_worker, sockets) in by_worker.iter_mut().zip(sockets) {
                of_worker.extend(sockets.into_iter().map(|socket| (key, socket)));
            }
        }
        let listening = self.board.listening();
        let kept = listening.iter().filter(|listening| listening.is_kept).map(|listening| listening.key);
        let kept: Vec<ListenerKey> = kept.collect();
        let listeners: Vec<ListenerKey> = listening.iter().map(|listening| listening.key).collect();
        let mut answers = Vec::new();
        for (worker, sockets) in self.board.workers().iter().zip(by_worker) {
            let (done_tx, done_rx) = oneshot::channel();
            // One that has ended drops its sockets, and with them the answer.
            let (listeners, kept) = (listeners.clone(), kept.clone());
            let _ = worker.send(Message::Accept(Accept { sockets, listeners, kept, done_tx }));
            answers.push(done_rx);
        }
        answers
    }

    /// Puts another snapshot in force, whole: all of it or, with an error, nothing of it. Returns once every
    /// worker has it.
    ///
    /// Requests that have begun go on by the snapshot that they began with, to the last byte. A listener whose
    /// address stays keeps its sockets, and its clients their connections where the new snapshot would take
    /// them in alike; others are asked to leave. What is known of a cluster's endpoints stays by their
    /// addresses, connections to them as well. Names that are new are looked up first, for a second at most, and
    /// endpoints that are new are probed, where health checks are asked for, for another.
    ///
    /// The address of the admin interface is the caller's business.
    pub async fn update(&self, snapshot: Snapshot) -> Result<(), StartError> {
        let mut names = self.names.lock().await;
        let (older, listening) = self.board.before_change()?;
        let prepared = Arc::new(Prepared::new(snapshot, Some(&older), &self.log, &mut names, self.origin)?);
        let workers = self.board.workers().len();
        let listeners = &prepared.snapshot.listeners;
        let Sites { listening, opened, .. } = listen::open(listeners, &listening, Vec::new(), workers)?;
        let sockets = self.board.register(opened).await.map_err(StartError::Thread)?;
        let found = self.board.discover(&prepared).await;
        self.board.warm(&prepared, &older, &found).await;
        let balanced = self.board.balance(&prepared, &found).await;
        let overload = prepared.snapshot.overload.clone();
        let surge = prepared.snapshot.surge.clone();
        let next = Next { prepared, listening, sockets, found, balanced };
        let answers = self.board.commit(next, &mut names, clock::wall_now())?;
        self.watch.set(overload.as_ref());
        self.surge.set(surge.as_ref());
        for answer in answers {
            // A worker that ends before it answers has drained.
            let _ = answer.await;
        }
        Ok(())
    }

    /// Clusters that are in force, and do not look names up, have these endpoints from now on; of the rest of what is said
    /// of them here nothing is looked at. Connections, limits and what is known of all other endpoints stay.
    pub async fn set_endpoints(&self, clusters: &[naru_spec::Cluster]) {
        // Whoever puts another snapshot in force meanwhile would not know of them.
        let _names = self.names.lock().await;
        for cluster in clusters {
            self.board.set_endpoints(cluster).await;
        }
    }

    /// The one in force.
    pub fn snapshot(&self) -> SnapshotRef {
        SnapshotRef(self.board.current())
    }

    /// That one, and those that requests or connections from before still use.
    pub fn snapshots_in_use(&self) -> usize {
        self.board.snapshots_in_use()
    }

    /// Where the listeners listen, in their order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.board.addresses()
    }

    /// Whether every cluster was looked up at least once, and every endpoint probed that is to be.
    pub fn is_ready(&self) -> bool {
        self.board.is_ready()
    }

    /// When the configuration took effect.
    pub fn started(&self) -> WallTime {
        self.board.since()
    }

    pub fn uptime(&self) -> Duration {
        self.origin.elapsed().since(Instant::ZERO)
    }

    /// The numbers of all workers.
    pub async fn report(&self) -> Report {
        let mut answers = Vec::new();
        for worker in self.board.workers() {
            let (report_tx, report_rx) = oneshot::channel();
            if worker.send(Message::Report(report_tx)).is_ok() {
                answers.push(report_rx);
            }
        }
        let mut report = Report::default();
        for answer in answers {
            if let Ok(Ok(of_worker)) = tokio::time::timeout(REPORT_TIME_MAX, answer).await {
                report.add(of_worker);
            }
        }
        report.downstream.panics += self.lost.load(Ordering::Relaxed);
        report
    }

    pub fn clusters(&self) -> Vec<ClusterStatus> {
        self.board.clusters()
    }

    /// The named limits of routes and clusters.
    pub fn named_limits(&self) -> Vec<NamedLimitStatus> {
        self.board.named_limits()
    }

    /// What is kept of answers, where anything is.
    pub fn cache(&self) -> Option<CacheStatus> {
        let current = self.board.current();
        let mut status = current.cache.as_ref()?.status();
        status.tiers = current.tiers.as_ref().map(|tiers| tiers.status()).unwrap_or_default();
        Some(status)
    }

    /// Forgets answers. How many they were in memory, and whether gateways that share a Redis were told; `None` where
    /// none are kept.
    pub async fn purge(&self, purge: &naru_cache::Purge) -> Option<Purged> {
        let current = self.board.current();
        let (cache, tiers) = (current.cache.clone()?, current.tiers.clone());
        let mut purged = Purged { forgotten: 0, is_told: None };
        for purge in purge.of_queries(current.snapshot.caches.queries()) {
            purged.forgotten += cache.purge(&purge).await;
            // What comes from there meanwhile is not taken in: it is forgotten once more behind it.
            if let Some(tiers) = &tiers {
                if let Some(is_told) = tiers.purge(&purge).await {
                    purged.is_told = Some(purged.is_told.unwrap_or(true) && is_told);
                }
                cache.purge(&purge).await;
            }
        }
        Some(purged)
    }

    /// Login sessions, each once.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.board.current().session_statuses()
    }

    /// Ends the token or the session with this id, of the sessions of this name. Whether all gateways know of it, or
    /// will be told; `None` where there are no such sessions.
    pub async fn end_session(&self, name: &str, id: naru_session::Id) -> Option<bool> {
        let current = self.board.current();
        let service = Arc::clone(current.sessions_named(name)?);
        drop(current);
        Some(service.end_one(id).await)
    }

    /// Ends all sessions of somebody, of the sessions of this name; `None` where there are no such sessions.
    pub async fn end_subject(&self, name: &str, subject: String) -> Option<SessionsEnded> {
        let current = self.board.current();
        let service = Arc::clone(current.sessions_named(name)?);
        drop(current);
        Some(service.end_subject(subject).await)
    }

    /// The rate limits of clients.
    pub fn quotas(&self) -> Vec<QuotaStatus> {
        let current = self.board.current();
        current.quotas.status(current.origin.elapsed(), &current.snapshot.quotas)
    }

    /// Envoy's local rate limits, by their prefixes.
    pub fn local_rates(&self) -> Vec<LocalRateStatus> {
        let current = self.board.current();
        current.local_rates.status(&current.snapshot.local_rates)
    }

    /// What was put into codings and taken out of them.
    pub fn codings(&self) -> Vec<crate::CodingStatus> {
        self.board.current().codings.status()
    }

    /// What checks have said, and how often.
    pub fn checks(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.board.current().checks.all()
    }

    /// Files that are read again when they change: of keys, of passwords, of addresses.
    pub fn files(&self) -> Vec<FileStatus> {
        let current = self.board.current();
        let of_credentials = current.credentials.iter().flat_map(|shared| shared.status());
        let of_geo = current.geo.iter().flat_map(|(_, shared)| shared.status());
        let mut all: Vec<FileStatus> = of_credentials.chain(of_geo).collect();
        all.sort_by(|one, other| (&one.path, one.is_well).cmp(&(&other.path, other.is_well)));
        // What two read is well where both are.
        all.dedup_by(|later, first| later.path == first.path);
        all
    }

    /// The stores that counts are kept in.
    pub fn stores(&self) -> Vec<StoreStatus> {
        let current = self.board.current();
        current.stores.iter().map(|(name, store)| store.status(name)).collect()
    }

    /// What chains with a limit of connections are called, how many each has, and how many it has turned away.
    pub fn connection_limits(&self) -> Vec<(String, u64, u64)> {
        self.board.current().connection_limits()
    }

    /// How short it runs itself, and what is given up for it.
    pub fn strain(&self) -> StrainStatus {
        self.strain.status(self.board.current().snapshot.overload.as_ref())
    }

    /// How hard the load is, and what is given up for it; where a `Surge` says so.
    pub fn surge(&self) -> Option<SurgeStatus> {
        self.surge.status()
    }

    /// Holds the level of the `Surge`, or lets it go. `None` where there is none, or no such level.
    pub fn order_surge(&self, order: SurgeOrder) -> Option<SurgeStatus> {
        self.surge.order(order)
    }

    /// The level of the `Surge`, and each one after it.
    pub fn surge_levels(&self) -> tokio::sync::watch::Receiver<u32> {
        self.board.current().surged.shared().follow()
    }

    /// How a thread gives memory that it has freed back to the system.
    pub fn give_back_by(&self, give_back: fn()) {
        self.strain.give_back_by(give_back);
    }

    /// Takes no more connections; requests that have begun are finished.
    pub fn drain(&self) {
        self.board.drain();
    }

    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Other handles to all listening sockets, for another process. Nothing changes here.
    pub async fn lend(&self) -> io::Result<Vec<Lent>> {
        let listening = self.board.listening();
        let all = listening.into_iter().map(|Listening { key, name, wanted, address, is_kept, .. }| Lent {
            key,
            name,
            wanted,
            address,
            is_kept,
            sockets: Vec::new(),
        });
        let mut all: Vec<Lent> = all.collect();
        // Workers may share one.
        let mut known = BTreeSet::new();
        for worker in self.board.workers() {
            let (lent_tx, lent_rx) = oneshot::channel();
            // One that was ended by a panic has no sockets any more.
            let _ = worker.send(Message::Lend(lent_tx));
            let Ok(lent) = lent_rx.await else { continue };
            for (key, socket) in lent? {
                let stat = rustix::fs::fstat(&socket)?;
                if known.insert((stat.st_dev, stat.st_ino))
                    && let Some(lent) = all.iter_mut().find(|lent| lent.key == key)
                {
                    lent.sockets.push(socket);
                }
            }
        }
        Ok(all)
    }

    /// Whoever was given the handles of [`Proxy::lend`] is gone, and has not used them.
    pub fn take_back(&self) {
        for worker in self.board.workers() {
            // One that has ended has none.
            let _ = worker.send(Message::TakeBack);
        }
    }

    /// As [`Proxy::drain`], where another process accepts from these sockets already: what waits in their queues is its,
    /// and tunnels stay for as long as this process does. Returns once nothing is accepted any more.
    pub async fn hand_over(&self, keys: &[ListenerKey]) {
        for answer in self.board.hand_over(&keys.into()) {
            // A worker that ends before it answers accepts nothing either.
            let _ = answer.await;
        }
    }

    /// As [`Proxy::hand_over`], of all sockets.
    pub async fn leave_to_others(&self) {
        let all: Vec<ListenerKey> = self.board.listening().iter().map(|listening| listening.key).collect();
        self.hand_over(&all).await;
    }

    /// Whether every worker answers.
    pub async fn is_alive(&self) -> bool {
        let mut answers = Vec::new();
        for worker in self.board.workers() {
            let (beat_tx, beat_rx) = oneshot::channel();
            if worker.send(Message::Beat(beat_tx)).is_err() {
                return false;
            }
            answers.push(beat_rx);
        }
        let all = async {
            for answer in answers {
                if answer.await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(REPORT_TIME_MAX, all).await.unwrap_or(false)
    }

    /// Every connection of a client panics, as a bug would have it. For the test that this is contained.
    #[doc(hidden)]
    pub fn provoke_panics(&self) {
        self.board.provoke();
    }

    /// The first worker panics, outside of any connection.
    #[doc(hidden)]
    pub fn provoke_worker(&self) {
        if let Some(worker) = self.board.workers().first() {
            // One that has ended needs no panic.
            let _ = worker.send(Message::Fall);
        }
    }

    /// Breaks off whatever is under way. What there is to say of it is logged once the workers have ended.
    pub fn stop(&self) {
        self.board.stop();
    }

    /// As much of the last lines for [`naru_spec::LogSink::Recent`] is kept.
    pub fn keep_recent(&self, bytes_max: usize) {
        self.log.recent().keep(bytes_max);
    }

    /// What is kept of them, the oldest first. A line is there 200 ms after its request at the latest.
    pub fn recent_lines(&self) -> Vec<u8> {
        self.log.recent().lines()
    }

    /// Waits until what was logged is written.
    pub fn flush_logs(&self) {
        self.log.flush();
    }
}

/// A data plane that does not accept yet.
#[derive(Debug)]
pub struct Starting {
    proxy: Proxy,
    opened: Vec<Opened>,
    left: Vec<Inherited>,
}

impl Starting {
    /// Inherited sockets that no listener asks for.
    pub fn left_over(&mut self) -> Vec<Inherited> {
        std::mem::take(&mut self.left)
    }

    /// Waits until names are looked up and endpoints probed, but not for longer than this.
    pub async fn warm(&self, limit: Duration) {
        let ready = async {
            while !self.proxy.is_ready() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Who does not answer in time is waited for by nobody.
        let _ = tokio::time::timeout(limit, ready).await;
    }

    /// Begins to accept; returns once every worker does.
    pub async fn accept(self) -> Result<Proxy, StartError> {
        let Starting { proxy, opened, left: _ } = self;
        for answer in proxy.tell_to_accept(opened) {
            let ended = |_| io::Error::other("a worker has ended");
            answer.await.map_err(ended).and_then(|accepts| accepts).map_err(StartError::Accept)?;
        }
        Ok(proxy)
    }
}

/// The listening sockets of a listener, for another process.
#[derive(Debug)]
pub struct Lent {
    pub key: ListenerKey,
    /// What the listener is called.
    pub name: String,
    /// What was asked for: perhaps any free port.
    pub wanted: SocketAddr,
    pub address: SocketAddr,
    /// Somebody else keeps them open as well.
    pub is_kept: bool,
    pub sockets: Vec<OwnedFd>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.drain();
        self.board.stop_following();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so.
            let _ = thread.join();
        }
        for service in self.board.current().sessions.iter().flatten() {
            service.end();
        }
        self.log.flush();
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
