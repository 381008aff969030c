//! One worker: a thread, its runtime, and all that its requests use.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use naru_base::ClusterId;
use naru_journey::{ChainId, Snapshot};
use naru_spec::{Discovery, LogFormat};
use naru_tls::Terminator;
use slab::Slab;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::accept;
use crate::clock::{self, Clock, Origin};
use crate::cluster::{ClusterHere, Clusters, Connectors, EndpointSet};
use crate::log::{LogWriter, Logs, SinkId};
use crate::metrics::{ClusterReport, DownstreamReport, Metrics, Report};
use crate::timer::Timers;

/// How often idle upstream connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    Endpoints(ClusterId, EndpointSet),
    Report(oneshot::Sender<Report>),
    /// Take no more connections, finish the requests that have begun, then end.
    Drain,
}

/// What a worker begins with.
#[derive(Debug)]
pub struct Start {
    pub origin: Origin,
    pub seed: u64,
    pub prepared: Arc<Prepared>,
    /// By listener.
    pub sockets: Vec<TcpListener>,
    pub log: LogWriter,
    pub host_name: Arc<str>,
    pub messages_rx: mpsc::UnboundedReceiver<Message>,
}

/// A snapshot, and what was made of it once for all workers.
#[derive(Debug)]
pub struct Prepared {
    pub snapshot: Snapshot,
    /// By chain.
    pub terminators: Vec<Option<Terminator>>,
    /// By cluster.
    pub connectors: Vec<Option<Connectors>>,
}

/// A snapshot, and what one worker has made of it.
#[derive(Debug)]
pub struct Loaded {
    prepared: Arc<Prepared>,
    pub snapshot: SnapshotRef,
    pub core: RefCell<naru_journey::Worker>,
    pub clusters: Clusters,
    chains: Vec<LoadedChain>,
}

/// Reads like the snapshot itself.
#[derive(Debug)]
pub struct SnapshotRef(Arc<Prepared>);

impl std::ops::Deref for SnapshotRef {
    type Target = Snapshot;
    #[inline]
    fn deref(&self) -> &Snapshot {
        &self.0.snapshot
    }
}

/// What a worker keeps for a filter chain.
#[derive(Debug)]
pub struct LoadedChain {
    pub terminator: Option<Terminator>,
    pub logs: Vec<LoadedLog>,
}

#[derive(Debug)]
pub struct LoadedLog {
    pub sink: SinkId,
    pub format: LogFormat,
}

impl Loaded {
    fn new(prepared: &Arc<Prepared>, seed: u64, log: &LogWriter) -> Loaded {
        let snapshot = &prepared.snapshot;
        let chains = snapshot
            .chains()
            .iter()
            .zip(&prepared.terminators)
            .map(|(chain, terminator)| LoadedChain {
                terminator: terminator.clone(),
                logs: (chain.http.access_log.iter())
                    .filter_map(|access| {
                        Some(LoadedLog { sink: log.sink(&access.sink)?, format: access.format.clone() })
                    })
                    .collect(),
            })
            .collect();
        let clusters =
            prepared.connectors.iter().map(|connectors| ClusterHere::new(connectors.clone())).collect();
        Loaded {
            prepared: Arc::clone(prepared),
            snapshot: SnapshotRef(Arc::clone(prepared)),
            core: RefCell::new(naru_journey::Worker::new(snapshot, seed)),
            clusters: Clusters(clusters),
            chains,
        }
    }

    #[inline]
    pub fn chain(&self, id: ChainId) -> &LoadedChain {
        &self.chains[id.0 as usize]
    }

    fn set_endpoints(&self, cluster: ClusterId, set: &EndpointSet) {
        let is_logical =
            matches!(self.prepared.snapshot.cluster(cluster).discovery, Discovery::LogicalDns(_))
                && set.len() == 1;
        self.clusters.get(cluster).set_endpoints(set, is_logical);
        let weights: Vec<_> = set.iter().map(|endpoint| endpoint.weight).collect();
        self.core.borrow_mut().set_endpoints(&self.prepared.snapshot, cluster, &weights);
    }
}

#[derive(Debug)]
pub struct Worker {
    pub clock: Clock,
    pub timers: Rc<Timers>,
    pub metrics: Metrics,
    pub logs: Rc<Logs>,
    pub host_name: Arc<str>,
    loaded: Rc<Loaded>,
    connections: Cell<u64>,
    drain: Drain,
    has_pooled: Notify,
    is_sweeping: Cell<bool>,
}

/// The state of draining, and who waits for it.
#[derive(Debug, Default)]
struct Drain {
    is_draining: Cell<bool>,
    /// One for each connection that is open.
    open: RefCell<Slab<Option<Waker>>>,
    has_begun: Notify,
    last_closed: Notify,
}

/// Counts a connection as open.
#[derive(Debug)]
pub struct Open {
    worker: Rc<Worker>,
    key: usize,
    is_registered: Cell<bool>,
}

impl Open {
    /// Ready once the worker drains.
    #[inline]
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.worker.drain.is_draining.get() {
            return Poll::Ready(());
        }
        // A connection is one task, and its waker stays the same.
        if !self.is_registered.replace(true) {
            self.worker.drain.open.borrow_mut()[self.key] = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let drain = &self.worker.drain;
        drain.open.borrow_mut().remove(self.key);
        if drain.open.borrow().is_empty() {
            drain.last_closed.notify_one();
        }
    }
}

impl Worker {
    #[inline]
    pub fn loaded(&self) -> Rc<Loaded> {
        Rc::clone(&self.loaded)
    }

    pub fn next_connection(&self) -> u64 {
        crate::settle::count_up(&self.connections)
    }

    pub fn opened(self: &Rc<Self>) -> Open {
        let key = self.drain.open.borrow_mut().insert(None);
        Open { worker: Rc::clone(self), key, is_registered: Cell::new(false) }
    }

    pub async fn drained(&self) {
        if !self.drain.is_draining.get() {
            self.drain.has_begun.notified().await;
        }
    }

    /// There are upstream connections that may grow old.
    pub fn look_after_pools(&self) {
        if !self.is_sweeping.get() {
            self.has_pooled.notify_one();
        }
    }

    fn begin_drain(&self) {
        self.drain.is_draining.set(true);
        self.drain.has_begun.notify_waiters();
        for (_, waker) in self.drain.open.borrow().iter() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
    }

    fn report(&self) -> Report {
        let downstream = &self.metrics.downstream;
        let clusters = self.loaded.clusters.0.iter().map(|cluster| {
            let stats = &cluster.stats;
            ClusterReport {
                connections_active: stats.connections_active.get(),
                connections_total: stats.connections_total.get(),
                connect_failures: stats.connect_failures.get(),
                connect_timeouts: stats.connect_timeouts.get(),
                requests_active: stats.requests_active.get(),
                requests_total: stats.requests_total.get(),
                replays: stats.replays.get(),
                retries: stats.retries.get(),
                retries_exceeded: stats.retries_exceeded.get(),
            }
        });
        Report {
            series: self.metrics.series(),
            downstream: DownstreamReport {
                connections_active: downstream.connections_active.get(),
                connections_total: downstream.connections_total.get(),
                requests_active: downstream.requests_active.get(),
                requests_total: downstream.requests_total.get(),
                protocol_errors: downstream.protocol_errors.get(),
                tls_errors: downstream.tls_errors.get(),
                log_lines_dropped: self.logs.lines_dropped.get(),
            },
            clusters: clusters.collect(),
            timers: self.timers.len() as u64,
        }
    }

    /// Closes old upstream connections for as long as there are any.
    async fn sweep_pools(self: Rc<Self>) {
        loop {
            self.has_pooled.notified().await;
            self.is_sweeping.set(true);
            let mut has_more = true;
            while has_more {
                tokio::time::sleep(SWEEP_EVERY).await;
                has_more = self.sweep_once();
            }
            self.is_sweeping.set(false);
        }
    }

    fn sweep_once(&self) -> bool {
        let now = self.clock.now();
        let mut has_more = false;
        for (cluster, settings) in self.loaded.clusters.0.iter().zip(&self.loaded.snapshot.clusters) {
            for endpoint in cluster.endpoints() {
                has_more |= endpoint.pool.sweep(now, settings.idle_timeout);
            }
        }
        has_more
    }

    fn close_pools(&self) {
        for cluster in &self.loaded.clusters.0 {
            for endpoint in cluster.endpoints() {
                endpoint.pool.clear();
            }
        }
    }
}

/// Lets everything be read that clients have sent until now: they shall have an answer. The runtime looks at
/// its sockets once a turn. A connection that waits is accepted in the first and read in the second.
async fn look_at_sockets() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// Runs a worker on this thread until it has drained.
pub fn run(start: Start) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(clock::on_wake)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(work(start))
}

async fn work(start: Start) -> std::io::Result<()> {
    let clock = Clock::new(start.origin);
    let timers = Timers::new(clock.now());
    let worker = Rc::new(Worker {
        timers,
        metrics: Metrics::new(start.prepared.snapshot.clusters.len()),
        logs: Rc::new(Logs::new(start.log.clone())),
        host_name: start.host_name,
        loaded: Rc::new(Loaded::new(&start.prepared, start.seed, &start.log)),
        connections: Cell::new(0),
        drain: Drain::default(),
        has_pooled: Notify::new(),
        is_sweeping: Cell::new(false),
        clock,
    });
    tokio::task::spawn_local(Timers::drive(Rc::downgrade(&worker.timers), start.origin));
    tokio::task::spawn_local(Rc::clone(&worker.logs).flush_in_time());
    tokio::task::spawn_local(Rc::clone(&worker).sweep_pools());
    let mut acceptors = Vec::new();
    for (at, socket) in start.sockets.into_iter().enumerate() {
        let listener = tokio::net::TcpListener::from_std(socket)?;
        acceptors.push(tokio::task::spawn_local(accept::accept(Rc::clone(&worker), listener, at)));
    }
    let mut messages_rx = start.messages_rx;
    while let Some(message) = messages_rx.recv().await {
        match message {
            Message::Endpoints(cluster, set) => worker.loaded.set_endpoints(cluster, &set),
            // An asker that has gone away wants no answer.
            Message::Report(report_tx) => drop(report_tx.send(worker.report())),
            Message::Drain => {
                look_at_sockets().await;
                worker.begin_drain();
            }
        }
        if worker.drain.is_draining.get() {
            break;
        }
    }
    if !worker.drain.is_draining.get() {
        worker.begin_drain();
    }
    for acceptor in acceptors {
        // It ends by itself, or with the panic that ended it before.
        let _ = acceptor.await;
    }
    while !worker.drain.open.borrow().is_empty() {
        tokio::select! {
            biased;
            () = worker.drain.last_closed.notified() => {}
            message = messages_rx.recv() => match message {
                Some(Message::Report(report_tx)) => drop(report_tx.send(worker.report())),
                Some(Message::Endpoints(cluster, set)) => worker.loaded.set_endpoints(cluster, &set),
                Some(Message::Drain) => {}
                None => worker.drain.last_closed.notified().await,
            },
        }
    }
    worker.close_pools();
    worker.logs.flush();
    Ok(())
}
