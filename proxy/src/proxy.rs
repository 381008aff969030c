//! The whole data plane of a process: started, asked, told to end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use naru_base::{ClusterId, Instant, WallTime};
use naru_journey::Snapshot;
use naru_spec::config::Place;
use naru_spec::{Invalid, UpstreamTls};
use naru_tls::{Connector, Terminator};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{self, Origin};
use crate::cluster::{ClusterStatus, Connectors, EndpointSet};
use crate::discover::{self, Pending};
use crate::listen;
use crate::log::LogWriter;
use crate::metrics::Report;
use crate::worker::{self, Message, Prepared, Start};

/// A worker that does not answer a scrape within this time is left out of it.
const REPORT_TIME_MAX: Duration = Duration::from_secs(2);

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

/// Why a data plane did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be had.
    Listen {
        listener: String,
        address: SocketAddr,
        error: io::Error,
    },
    /// Certificates or settings cannot be used: everything that is wrong with them.
    Config(Vec<(Place, Invalid)>),
    Log(io::Error),
    Thread(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Listen { listener, address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "listener '{listener}' cannot have the address {address}: it is in use by another process\n  help: stop that process, or change the listener's port_value; 'ss -ltnp' shows who it is"
                )
            }
            StartError::Listen { listener, address, error } => {
                write!(f, "listener '{listener}' cannot listen on {address}: {error}")
            }
            StartError::Config(problems) => {
                for (at, (_, invalid)) in problems.iter().enumerate() {
                    write!(f, "{}{invalid}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            StartError::Log(error) => write!(f, "{error}"),
            StartError::Thread(error) => write!(f, "a thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What all workers are told, and what is known of all of them.
#[derive(Debug)]
pub struct Board {
    workers: Vec<mpsc::UnboundedSender<Message>>,
    /// By cluster.
    endpoints: Mutex<Vec<EndpointSet>>,
}

impl Board {
    pub fn endpoints(&self, id: ClusterId) -> EndpointSet {
        let sets = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(id.index()).map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// Tells all workers, where anything changed.
    pub fn set_endpoints(&self, id: ClusterId, set: EndpointSet) {
        {
            let mut sets = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = sets.get_mut(id.index()) else { return };
            if known.len() == set.len() && known.iter().zip(set.iter()).all(|(a, b)| Arc::ptr_eq(a, b)) {
                return;
            }
            *known = Arc::clone(&set);
        }
        for worker in &self.workers {
            // A worker that has ended needs no endpoints.
            let _ = worker.send(Message::Endpoints(id, Arc::clone(&set)));
        }
    }
}

/// A running data plane. Dropping it drains it and waits for its threads.
#[derive(Debug)]
pub struct Proxy {
    prepared: Arc<Prepared>,
    board: Arc<Board>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    log: LogWriter,
    origin: Origin,
    started: WallTime,
    addresses: Vec<SocketAddr>,
    pending: Arc<Pending>,
}

/// Says what [`Proxy::start`] would say of the configuration itself, and opens no address.
pub fn check(snapshot: Snapshot) -> Result<(), StartError> {
    prepare(snapshot).map(|_| ())
}

impl Proxy {
    /// Opens all listeners, or none. Names are looked up on the runtime that this is called on.
    pub fn start(snapshot: Snapshot, options: &Options) -> Result<Proxy, StartError> {
        let prepared = Arc::new(prepare(snapshot)?);
        let snapshot = &prepared.snapshot;
        let workers = options.workers.max(1);
        let mut sockets: Vec<Vec<std::net::TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for listener in &snapshot.listeners {
            let failed = |error| StartError::Listen {
                listener: listener.name.clone(),
                address: listener.address,
                error,
            };
            let bound = listen::bind(listener.address, workers).map_err(failed)?;
            if let Some(first) = bound.first() {
                addresses.push(first.local_addr().map_err(failed)?);
            }
            for (of_worker, socket) in sockets.iter_mut().zip(bound) {
                of_worker.push(socket);
            }
        }
        let sinks = snapshot
            .chains()
            .iter()
            .flat_map(|chain| chain.http.access_log.iter().map(|log| log.sink.clone()));
        let log = LogWriter::start(sinks).map_err(StartError::Log)?;
        let origin = Origin::now();
        let seed = options.seed.unwrap_or_else(clock::seed);
        let host_name: Arc<str> = host_name().into();
        let mut threads = Vec::new();
        let mut senders = Vec::new();
        for (at, sockets) in (0u64..).zip(sockets) {
            let (messages_tx, messages_rx) = mpsc::unbounded_channel();
            let start = Start {
                origin,
                // The first worker has the seed itself, so that one worker can be followed exactly.
                seed: seed.wrapping_add(at),
                prepared: Arc::clone(&prepared),
                sockets,
                log: log.clone(),
                host_name: Arc::clone(&host_name),
                messages_rx,
            };
            let thread = std::thread::Builder::new().name(format!("naru-{at}"));
            threads.push(thread.spawn(move || worker::run(start)).map_err(StartError::Thread)?);
            senders.push(messages_tx);
        }
        let names: Vec<_> = (0u32..)
            .zip(&snapshot.clusters)
            .filter_map(|(id, cluster)| Some((ClusterId(id), cluster.clone(), discover::settings(cluster)?)))
            .collect();
        let pending = Pending::new(names.len());
        let empty = vec![Arc::from([]); snapshot.clusters.len()];
        let board = Arc::new(Board { workers: senders, endpoints: Mutex::new(empty) });
        for (id, cluster) in (0u32..).zip(&snapshot.clusters) {
            if discover::settings(cluster).is_none() {
                board.set_endpoints(ClusterId(id), discover::static_endpoints(cluster));
            }
        }
        for (id, cluster, settings) in names {
            tokio::spawn(discover::follow(Arc::clone(&board), id, cluster, settings, Arc::clone(&pending)));
        }
        Ok(Proxy { prepared, board, threads, log, origin, started: clock::wall_now(), addresses, pending })
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.prepared.snapshot
    }

    /// Where the listeners listen, in their order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether every cluster was looked up at least once.
    pub fn is_ready(&self) -> bool {
        self.pending.is_done()
    }

    /// When the configuration took effect.
    pub fn started(&self) -> WallTime {
        self.started
    }

    pub fn uptime(&self) -> Duration {
        self.origin.elapsed().since(Instant::ZERO)
    }

    /// The numbers of all workers.
    pub async fn report(&self) -> Report {
        let mut answers = Vec::new();
        for worker in &self.board.workers {
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
        report
    }

    pub fn clusters(&self) -> Vec<ClusterStatus> {
        (0u32..)
            .zip(&self.prepared.snapshot.clusters)
            .map(|(id, cluster)| ClusterStatus {
                name: cluster.name.clone(),
                endpoints: self
                    .board
                    .endpoints(ClusterId(id))
                    .iter()
                    .map(|endpoint| endpoint.status())
                    .collect(),
            })
            .collect()
    }

    /// Takes no more connections; requests that have begun are finished.
    pub fn drain(&self) {
        for worker in &self.board.workers {
            // One that has ended has nothing to drain.
            let _ = worker.send(Message::Drain);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.drain();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so.
            let _ = thread.join();
        }
        self.log.flush();
    }
}

/// Reads certificates and builds what TLS needs, once for all workers.
fn prepare(snapshot: Snapshot) -> Result<Prepared, StartError> {
    let mut problems = Vec::new();
    let mut found = |place, owner: String, mut invalid: Invalid| {
        invalid.message = format!("TLS of {owner}: {}", invalid.message);
        problems.push((place, invalid));
    };
    let mut terminators = Vec::new();
    for (listener_at, listener) in snapshot.listeners.iter().enumerate() {
        for (chain_at, chain) in listener.chains.iter().enumerate() {
            match chain.tls.as_ref().map(Terminator::build).transpose() {
                Ok(built) => terminators.push(built),
                Err(invalid) => found(
                    Place::ChainTls { listener: listener_at, chain: chain_at },
                    format!("listener '{}'", listener.name),
                    invalid,
                ),
            }
        }
    }
    let mut connectors = Vec::new();
    for (at, cluster) in snapshot.clusters.iter().enumerate() {
        match cluster.tls.as_ref().map(connect_with).transpose() {
            Ok(built) => connectors.push(built),
            Err(invalid) => {
                found(Place::ClusterTls(at), format!("cluster '{}'", cluster.name), invalid);
            }
        }
    }
    if problems.is_empty() {
        Ok(Prepared { snapshot, terminators, connectors })
    } else {
        Err(StartError::Config(problems))
    }
}

/// The protocol that a cluster speaks decides what is offered; what the context itself lists is
/// offered where the protocol leaves it open.
fn connect_with(tls: &UpstreamTls) -> Result<Connectors, Invalid> {
    let own = Connector::build(tls)?;
    Ok(Connectors {
        http1: if tls.alpn.is_empty() { own.clone() } else { own.with_alpn(&["http/1.1"])? },
        http2: own.with_alpn(&["h2"])?,
        either: own.with_alpn(&["h2", "http/1.1"])?,
    })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
