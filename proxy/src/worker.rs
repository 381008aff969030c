//! One worker: a thread, its runtime, and all that its requests use.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use naru_base::ClusterId;
use naru_spec::defaults;
use naru_spec::overload::{self, Relief};
use slab::Slab;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::accept::{self, Connection, ListenerHere};
use crate::clock::{self, Clock, Origin};
use crate::cluster::{Balanced, add};
use crate::contain;
use crate::guarded::Guarded;
use crate::listen::ListenerKey;
use crate::loaded::Loaded;
use crate::log::{LogWriter, Logs};
use crate::lookup::Lookup;
use crate::metrics::{DownstreamReport, Metrics, Report};
use crate::names::NameId;
use crate::prepare::Prepared;
use crate::socket::{Bound, Listening};
use crate::strain::Strain;
use crate::timer::Timers;

/// How often idle upstream connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    Endpoints(ClusterId, Balanced),
    /// Endpoints that somebody guards are as fit as he says now.
    Fitness(Arc<Guarded>),
    Report(oneshot::Sender<Report>),
    /// Say, with its number, what has happened at the gateways.
    Pulse(usize, std::sync::mpsc::Sender<(usize, naru_surge::Counts)>),
    /// Something else is called for by how short the proxy runs; and memory is to be given back.
    Strain {
        gives_back: bool,
    },
    /// Say that it is there.
    Beat(oneshot::Sender<()>),
    /// Make these sockets ready for an update; give them back until it comes.
    Listen(Vec<(ListenerKey, Bound)>, oneshot::Sender<io::Result<Sockets>>),
    Update(Box<Update>),
    /// Begin to accept from sockets, which are those of the listeners in their order.
    Accept(Accept),
    /// Other handles to all listening sockets.
    Lend(oneshot::Sender<io::Result<Vec<(ListenerKey, OwnedFd)>>>),
    /// Nobody has those handles any more.
    TakeBack,
    /// Take no more connections, finish the requests that have begun, then end.
    Drain(Drain),
    /// End without waiting for anybody.
    Stop,
    /// For tests: every connection that is open panics.
    Provoke,
    /// For tests: the worker itself panics.
    Fall,
}

/// Of one worker, ready to accept from. A listener may have several.
pub type Sockets = Vec<(ListenerKey, Listening)>;

/// The sockets that a worker begins with.
#[derive(Debug)]
pub struct Accept {
    pub sockets: Vec<(ListenerKey, Bound)>,
    /// By listener.
    pub listeners: Vec<ListenerKey>,
    /// Of these, the sockets that somebody else keeps open.
    pub kept: Vec<ListenerKey>,
    pub done_tx: oneshot::Sender<io::Result<()>>,
}

/// How a worker is to end.
#[derive(Debug, Default)]
pub struct Drain {
    /// Another process accepts from these sockets: what waits in their queues is its.
    pub handed_over: Arc<[ListenerKey]>,
    /// Told once nothing is accepted any more.
    pub done_tx: Option<oneshot::Sender<()>>,
}

/// Another snapshot, for one worker.
#[derive(Debug)]
pub struct Update {
    pub prepared: Arc<Prepared>,
    /// By cluster.
    pub endpoints: Vec<Balanced>,
    /// By listener.
    pub listeners: Vec<ListenerKey>,
    /// Of those that are new.
    pub sockets: Sockets,
    /// Names that are counted for no more.
    pub forgotten: Vec<NameId>,
    pub done_tx: oneshot::Sender<()>,
}

/// What a worker begins with.
#[derive(Debug)]
pub struct Start {
    pub origin: Origin,
    pub seed: u64,
    pub prepared: Arc<Prepared>,
    /// By cluster.
    pub endpoints: Vec<Balanced>,
    pub log: LogWriter,
    pub host_name: Arc<str>,
    pub strain: Arc<Strain>,
    pub messages_rx: mpsc::UnboundedReceiver<Message>,
}

#[derive(Debug)]
pub struct Worker {
    pub clock: Clock,
    pub timers: Rc<Timers>,
    pub metrics: Metrics,
    pub logs: Rc<Logs>,
    pub host_name: Arc<str>,
    pub lookup: Lookup,
    pub strain: Arc<Strain>,
    /// No connections are accepted for now.
    is_paused: Cell<bool>,
    pause_changed: Notify,
    /// What is in force.
    loaded: RefCell<Rc<Loaded>>,
    /// Those before it, some of which requests may still use.
    older: RefCell<Vec<Weak<Loaded>>>,
    listeners: RefCell<Vec<Acceptor>>,
    connections: Cell<u64>,
    /// One for each connection that is open; known once its chain is.
    open: RefCell<Slab<Option<Rc<Connection>>>>,
    is_draining: Cell<bool>,
    /// Another process has taken the listening sockets over.
    is_succeeded: Cell<bool>,
    last_closed: Notify,
    has_pooled: Notify,
    is_sweeping: Cell<bool>,
}

/// A listener, and the task that accepts from it.
#[derive(Debug)]
struct Acceptor {
    listener: Rc<ListenerHere>,
    socket: Rc<Listening>,
    task: JoinHandle<()>,
}

/// Counts a connection as open.
#[derive(Debug)]
pub struct Open {
    worker: Rc<Worker>,
    key: usize,
}

impl Open {
    /// From now on it hears of changes.
    pub fn tell(&self, connection: &Rc<Connection>) {
        self.worker.open.borrow_mut()[self.key] = Some(Rc::clone(connection));
        if self.worker.is_draining.get() {
            connection.leave();
        } else {
            connection.follow();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        add(&self.worker.metrics.downstream.connections_active, -1);
        // Whatever goes with it may look at the others.
        let connection = self.worker.open.borrow_mut().remove(self.key);
        // Where it was broken off it may still have a tunnel, which has it.
        drop(connection.as_ref().and_then(|connection| connection.waiting.take()));
        drop(connection);
        if self.worker.open.borrow().is_empty() {
            self.worker.last_closed.notify_one();
        }
    }
}

impl Worker {
    fn loaded(&self) -> Rc<Loaded> {
        Rc::clone(&self.loaded.borrow())
    }

    pub fn next_connection(&self) -> u64 {
        crate::settle::count_up(&self.connections)
    }

    pub fn opened(self: &Rc<Self>) -> Open {
        add(&self.metrics.downstream.connections_active, 1);
        let key = self.open.borrow_mut().insert(None);
        Open { worker: Rc::clone(self), key }
    }

    fn accept_from(self: &Rc<Self>, key: ListenerKey, at: usize, socket: Listening) -> Rc<ListenerHere> {
        let (listener, socket) = (ListenerHere::new(key, at, self.loaded()), Rc::new(socket));
        let (worker, from, of) = (Rc::clone(self), Rc::clone(&socket), Rc::clone(&listener));
        let task = contain::keep_up(self, "a turn of a listener", move || {
            accept::accept(Rc::clone(&worker), Rc::clone(&from), Rc::clone(&of))
        });
        self.listeners.borrow_mut().push(Acceptor { listener: Rc::clone(&listener), socket, task });
        listener
    }

    fn begin_to_accept(self: &Rc<Self>, accept: Accept) {
        let Accept { sockets, listeners, kept, done_tx } = accept;
        let registered = register(sockets).map(|sockets| {
            for (key, socket) in sockets {
                if let Some(at) = listeners.iter().position(|listed| *listed == key) {
                    let here = self.accept_from(key, at, socket);
                    if kept.contains(&key) {
                        here.leave_queue();
                    }
                }
            }
        });
        // Who does not ask is not told.
        let _ = done_tx.send(registered);
    }

    fn lend(&self) -> io::Result<Vec<(ListenerKey, OwnedFd)>> {
        let listeners = self.listeners.borrow();
        let all = listeners.iter().map(|acceptor| {
            acceptor.listener.set_lent(true);
            Ok((acceptor.listener.key, acceptor.socket.as_fd().try_clone_to_owned()?))
        });
        all.collect()
    }

    fn take_back(&self) {
        for acceptor in self.listeners.borrow().iter() {
            acceptor.listener.set_lent(false);
        }
    }

    fn provoke(&self) {
        for (_, connection) in self.open.borrow().iter() {
            if let Some(connection) = connection {
                connection.provoke();
            }
        }
    }

    /// Gives up what is called for now, of what is not asked for by each request.
    pub fn relieve(&self, gives_back: bool) {
        let is_paused = self.strain.is_saturated(&Relief::StopAcceptingConnections);
        if self.is_paused.replace(is_paused) != is_paused {
            self.pause_changed.notify_waiters();
        }
        for (_, connection) in self.open.borrow().iter() {
            if let Some(connection) = connection {
                connection.hear_strain();
            }
        }
        if gives_back {
            self.strain.give_back();
        }
    }

    /// Waits until connections are accepted, or no more.
    pub async fn paused(&self, is_paused: bool) {
        while self.is_paused.get() != is_paused {
            self.pause_changed.notified().await;
        }
    }

    /// What a timeout is, so short as the proxy runs now.
    pub fn reduced(&self, timer: overload::Timer, usual: Duration) -> Duration {
        if !self.strain.is_called_for() {
            return usual;
        }
        self.strain.reduced(timer, usual, self.loaded().snapshot.overload.as_ref())
    }

    /// Whether another process serves new clients, so that nobody waits for this one to end.
    pub fn is_succeeded(&self) -> bool {
        self.is_succeeded.get()
    }

    /// Goes on by another snapshot. Nothing of it is seen half: between two awaits no request is looked at.
    async fn take_over(self: &Rc<Self>, update: Update) {
        // Connections that must leave close where they carry no request.
        look_at_sockets().await;
        let Update { prepared, endpoints, listeners, sockets, forgotten, done_tx } = update;
        self.metrics.take_over(prepared.names.len(), &forgotten);
        let newer = Loaded::succeed(&self.loaded(), &prepared, &endpoints, &self.metrics, &self.logs);
        let older = self.loaded.replace(Rc::clone(&newer));
        self.older.borrow_mut().retain(|older| older.strong_count() > 0);
        self.older.borrow_mut().push(Rc::downgrade(&older));
        drop(older);
        let place_of = |key: ListenerKey| listeners.iter().position(|listed| *listed == key);
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.listeners.take().into_iter().partition(|acceptor| place_of(acceptor.listener.key).is_some());
        for acceptor in &kept {
            if let Some(at) = place_of(acceptor.listener.key) {
                acceptor.listener.go_on(at, &newer);
            }
        }
        self.listeners.replace(kept);
        for (key, socket) in sockets {
            if let Some(at) = place_of(key) {
                self.accept_from(key, at, socket);
            }
        }
        for acceptor in &gone {
            acceptor.listener.close();
        }
        for (_, connection) in self.open.borrow().iter() {
            if let Some(connection) = connection {
                connection.follow();
            }
        }
        self.look_after_pools();
        for acceptor in gone {
            // It ends by itself, or with the panic that ended it before.
            let _ = acceptor.task.await;
        }
        self.logs.flush();
        // An asker that has gone away knows enough.
        let _ = done_tx.send(());
    }

    fn hear_guard(&self, guarded: &Arc<Guarded>) {
        self.loaded().hear_guard(guarded);
        // Their requests may still be retried.
        for older in self.older.borrow().iter().filter_map(Weak::upgrade) {
            older.hear_guard(guarded);
        }
    }

    /// There are upstream connections that may grow old.
    pub fn look_after_pools(&self) {
        if !self.is_sweeping.get() {
            self.has_pooled.notify_one();
        }
    }

    fn begin_drain(&self, handed_over: &[ListenerKey]) {
        self.is_draining.set(true);
        self.is_succeeded.set(!handed_over.is_empty());
        for acceptor in self.listeners.borrow().iter() {
            if handed_over.contains(&acceptor.listener.key) {
                acceptor.listener.leave_queue();
            } else if !handed_over.is_empty() {
                // It was not wanted, and is given back.
                acceptor.listener.set_lent(false);
            }
            acceptor.listener.close();
        }
        for (_, connection) in self.open.borrow().iter() {
            if let Some(connection) = connection {
                connection.leave();
            }
        }
    }

    fn pulse(&self) -> naru_surge::Counts {
        let names = &self.loaded().prepared.names;
        self.metrics.pulse(names.iter().position(|name| **name == *defaults::MESH_STAT_PREFIX))
    }

    fn report(&self) -> Report {
        let downstream = &self.metrics.downstream;
        let loaded = self.loaded();
        let names = &loaded.prepared.names;
        Report {
            series: self.metrics.series(names),
            downstream: DownstreamReport {
                connections_active: downstream.connections_active.get(),
                connections_total: downstream.connections_total.get(),
                requests_active: downstream.requests_active.get(),
                requests_total: downstream.requests_total.get(),
                protocol_errors: downstream.protocol_errors.get(),
                abuses: downstream.abuses.each_ref().map(Cell::get),
                tls_errors: downstream.tls_errors.get(),
                panics: downstream.panics.get(),
                turned_away: downstream.turned_away.each_ref().map(Cell::get),
                keepalives_ended: downstream.keepalives_ended.get(),
                log_lines_dropped: self.logs.lines_dropped.get(),
                tcp_active: downstream.tcp_active.get(),
                tcp_total: downstream.tcp_total.get(),
            },
            clusters: self.metrics.clusters(names),
            mirrors: self.metrics.mirrors.report(),
            timeouts: loaded.core.borrow().learned_timeouts(&loaded.prepared.snapshot),
            copies_active: self.metrics.mirrors.active.get(),
            copies_bytes: self.metrics.mirrors.bytes_held(),
            timers: self.timers.len() as u64,
        }
    }

    /// Closes old upstream connections for as long as there are any.
    async fn sweep_pools(self: Rc<Self>) {
        loop {
            self.is_sweeping.set(false);
            self.has_pooled.notified().await;
            self.is_sweeping.set(true);
            let mut has_more = true;
            while has_more {
                tokio::time::sleep(SWEEP_EVERY).await;
                has_more = self.sweep_once();
            }
        }
    }

    fn sweep_once(&self) -> bool {
        let now = self.clock.now();
        let mut has_more = false;
        let loaded = self.loaded();
        for (cluster, settings) in loaded.clusters.all.iter().zip(&loaded.snapshot.clusters) {
            for endpoint in cluster.endpoints() {
                has_more |= endpoint.pool.sweep(now, settings);
            }
        }
        has_more
    }

    fn close_pools(&self) {
        for cluster in &self.loaded().clusters.all {
            cluster.retire();
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
        // They read files.
        .max_blocking_threads(crate::files::READERS_MAX)
        .build_local(tokio::runtime::LocalOptions::default())?;
    let logs = runtime.block_on(work(start));
    // Requests that are broken off have lines, too.
    drop(runtime);
    logs.flush();
    Ok(())
}

async fn work(start: Start) -> Rc<Logs> {
    let Start { origin, seed, prepared, endpoints, log, host_name, strain, mut messages_rx } = start;
    let clock = Clock::new(origin);
    let timers = Timers::new(clock.now());
    let metrics = Metrics::default();
    metrics.take_over(prepared.names.len(), &[]);
    let logs = Rc::new(Logs::new(log));
    let loaded = Loaded::new(&prepared, &endpoints, seed, &metrics, &logs);
    drop(prepared);
    let worker = Rc::new(Worker {
        clock,
        timers,
        metrics,
        logs,
        host_name,
        lookup: Lookup::default(),
        strain,
        is_paused: Cell::new(false),
        pause_changed: Notify::new(),
        loaded: RefCell::new(loaded),
        older: RefCell::default(),
        listeners: RefCell::default(),
        connections: Cell::new(0),
        open: RefCell::default(),
        is_draining: Cell::new(false),
        is_succeeded: Cell::new(false),
        last_closed: Notify::new(),
        has_pooled: Notify::new(),
        is_sweeping: Cell::new(false),
    });
    let timers = Rc::downgrade(&worker.timers);
    contain::keep_up(&worker, "a turn of the timers", move || Timers::drive(timers.clone(), origin));
    let logs = Rc::clone(&worker.logs);
    contain::keep_up(&worker, "a turn of the logs", move || Rc::clone(&logs).flush_in_time());
    let sweeping = Rc::clone(&worker);
    contain::keep_up(&worker, "a look at idle connections", move || Rc::clone(&sweeping).sweep_pools());
    let mut end = Drain::default();
    while let Some(message) = messages_rx.recv().await {
        match message {
            Message::Endpoints(cluster, set) => worker.loaded().set_endpoints(cluster, &set),
            Message::Fitness(guarded) => worker.hear_guard(&guarded),
            // An asker that has gone away wants no answer.
            Message::Report(report_tx) => drop(report_tx.send(worker.report())),
            Message::Pulse(at, counts_tx) => drop(counts_tx.send((at, worker.pulse()))),
            Message::Beat(beat_tx) => drop(beat_tx.send(())),
            Message::Strain { gives_back } => worker.relieve(gives_back),
            // Nor any sockets: they close.
            Message::Listen(sockets, ready_tx) => drop(ready_tx.send(register(sockets))),
            Message::Update(update) => worker.take_over(*update).await,
            Message::Accept(accept) => worker.begin_to_accept(accept),
            // Nor does it want any handles.
            Message::Lend(lent_tx) => drop(lent_tx.send(worker.lend())),
            Message::TakeBack => worker.take_back(),
            Message::Drain(drain) => {
                look_at_sockets().await;
                end = drain;
                break;
            }
            Message::Provoke => worker.provoke(),
            Message::Fall => fall(),
            Message::Stop => return Rc::clone(&worker.logs),
        }
    }
    worker.begin_drain(&end.handed_over);
    for acceptor in worker.listeners.take() {
        // It ends by itself, or with the panic that ended it before.
        let _ = acceptor.task.await;
    }
    if let Some(done_tx) = end.done_tx {
        // An asker that has gone away knows enough.
        let _ = done_tx.send(());
    }
    while !worker.open.borrow().is_empty() {
        tokio::select! {
            biased;
            () = worker.last_closed.notified() => {}
            message = messages_rx.recv() => match message {
                Some(Message::Report(report_tx)) => drop(report_tx.send(worker.report())),
                Some(Message::Pulse(at, counts_tx)) => drop(counts_tx.send((at, worker.pulse()))),
                Some(Message::Beat(beat_tx)) => drop(beat_tx.send(())),
                Some(Message::Strain { gives_back }) => worker.relieve(gives_back),
                Some(Message::Endpoints(cluster, set)) => worker.loaded().set_endpoints(cluster, &set),
                Some(Message::Fitness(guarded)) => worker.hear_guard(&guarded),
                // Whoever changes a configuration asks first whether it may.
                Some(Message::Listen(..) | Message::Update(_) | Message::Accept(_)) => {}
                Some(Message::Lend(_) | Message::TakeBack | Message::Drain(_)) => {}
                Some(Message::Provoke | Message::Fall) => {}
                Some(Message::Stop) => break,
                None => worker.last_closed.notified().await,
            },
        }
    }
    worker.close_pools();
    worker.logs.flush();
    Rc::clone(&worker.logs)
}

#[expect(clippy::panic, reason = "a test has asked for it")]
fn fall() {
    panic!("a test has asked for this panic");
}

fn register(sockets: Vec<(ListenerKey, Bound)>) -> io::Result<Sockets> {
    sockets.into_iter().map(|(key, socket)| Ok((key, socket.register()?))).collect()
}
