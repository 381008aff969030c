//! A worker's connections to one endpoint.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use naru_base::{Instant, Reason};
use naru_spec::Cluster;
use tokio::sync::Notify;

use crate::cluster::{ClusterStats, add};
use crate::codec::{Http1Client, Http2Client};
use crate::limited::{Line, Slot};
use crate::worker::Worker;

/// Connections of HTTP/1 that wait for a request, and those of HTTP/2, which any number may use.
#[derive(Debug, Default)]
pub struct EndpointPool {
    /// The one used last is used next, so that the others may grow old and be closed.
    idle: RefCell<Vec<IdleHttp1>>,
    shared: RefCell<Vec<Rc<Http2Connection>>>,
    /// The HTTP/2 connection that is being made; those who come meanwhile wait for it.
    dial: RefCell<Option<Rc<SharedDial>>>,
    /// Who waits because no more connections may be made.
    pub line: Rc<Line>,
    is_retired: Cell<bool>,
}

#[derive(Debug)]
struct IdleHttp1 {
    connection: Box<Http1Connection>,
    since: Instant,
}

/// An HTTP/1 connection, in use or waiting.
#[derive(Debug)]
pub struct Http1Connection {
    pub client: Http1Client,
    pub requests: u32,
    pub local: Option<SocketAddr>,
    began: Instant,
    _life: Life,
}

/// An HTTP/2 connection and how many requests it carries.
#[derive(Debug)]
pub struct Http2Connection {
    pub client: Http2Client,
    local: Option<SocketAddr>,
    streams: Cell<usize>,
    requests: Cell<u32>,
    began: Instant,
    unused_since: Cell<Instant>,
    line: Rc<Line>,
}

/// The place of one request in an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Stream {
    connection: Rc<Http2Connection>,
    worker: Rc<Worker>,
}

/// A connection that several requests wait for.
#[derive(Debug, Default)]
pub struct SharedDial {
    /// In the new connection, for the one who made it.
    place: RefCell<Option<Http2Stream>>,
    failure: Cell<Option<Reason>>,
    is_done: Cell<bool>,
    done: Notify,
}

/// Counts a connection for as long as it stands.
#[derive(Debug)]
pub struct Life {
    slot: Slot,
    cluster: Rc<ClusterStats>,
}

impl Life {
    pub fn begin(cluster: &Rc<ClusterStats>, slot: Slot) -> Life {
        let endpoint = &slot.endpoint;
        add(&cluster.connections_active, 1);
        add(&cluster.connections_total, 1);
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        endpoint.connections_total.fetch_add(1, Ordering::Relaxed);
        Life { slot, cluster: Rc::clone(cluster) }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        add(&self.cluster.connections_active, -1);
        self.slot.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http1Connection {
    pub fn new(
        client: Http1Client,
        local: Option<SocketAddr>,
        life: Life,
        now: Instant,
    ) -> Box<Http1Connection> {
        Box::new(Http1Connection { client, requests: 0, local, began: now, _life: life })
    }
}

impl Http2Connection {
    pub fn new(
        client: Http2Client,
        local: Option<SocketAddr>,
        line: &Rc<Line>,
        now: Instant,
    ) -> Rc<Http2Connection> {
        Rc::new(Http2Connection {
            client,
            local,
            streams: Cell::new(0),
            requests: Cell::new(0),
            began: now,
            unused_since: Cell::new(now),
            line: Rc::clone(line),
        })
    }

    /// Takes a place in it.
    pub fn stream(self: &Rc<Self>, worker: &Rc<Worker>) -> Http2Stream {
        self.streams.set(self.streams.get() + 1);
        self.requests.set(self.requests.get() + 1);
        Http2Stream { connection: Rc::clone(self), worker: Rc::clone(worker) }
    }

    fn is_used_up(&self, settings: &Cluster, now: Instant) -> bool {
        is_used_up(settings, self.requests.get(), self.began, now)
    }
}

impl Http2Stream {
    pub fn client(&self) -> Http2Client {
        self.connection.client.clone()
    }

    pub fn local(&self) -> Option<SocketAddr> {
        self.connection.local
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.unused_since.set(self.worker.clock.now());
        self.connection.line.move_up();
    }
}

impl EndpointPool {
    /// A connection that waits. It may have been closed at the other end since it was looked at last;
    /// then the request comes back unsent.
    #[inline]
    pub fn take_http1(&self, settings: &Cluster, worker: &Worker) -> Option<Box<Http1Connection>> {
        loop {
            let connection = self.idle.borrow_mut().pop()?.connection;
            if settings.limits.connection_duration_max.is_none()
                || !is_used_up(settings, 0, connection.began, worker.clock.now())
            {
                return Some(connection);
            }
        }
    }

    /// Closes a connection that waits, where there is one.
    pub fn close_one(&self) -> bool {
        let idle = self.idle.borrow_mut().pop();
        idle.is_some()
    }

    /// Puts a connection back whose response was read to its end.
    #[inline]
    pub fn put_http1(&self, connection: Box<Http1Connection>, now: Instant, settings: &Cluster) {
        // It was made for one client.
        if settings.proxy_protocol.is_some() {
            return;
        }
        if !is_used_up(settings, connection.requests, connection.began, now) && !self.is_retired.get() {
            self.idle.borrow_mut().push(IdleHttp1 { connection, since: now });
            self.line.move_up();
        }
    }

    /// A place in a connection that has one.
    pub fn take_http2(&self, worker: &Rc<Worker>, settings: &Cluster) -> Option<Http2Stream> {
        let now = worker.clock.now();
        let mut shared = self.shared.borrow_mut();
        // One that is too old closes with its last request.
        shared.retain(|connection| !connection.client.is_closed() && !connection.is_used_up(settings, now));
        // The newest first: an old one may have been told to take no more requests.
        let has_room =
            |connection: &Rc<Http2Connection>| connection.streams.get() < connection.client.streams_max();
        let at = shared.iter().rposition(has_room)?;
        let stream = shared.get(at)?.stream(worker);
        // One that has had its share closes with its last request.
        if stream.connection.is_used_up(settings, now) {
            shared.remove(at);
        }
        Some(stream)
    }

    /// Leaves a connection to others, if it may carry more than it has.
    pub fn put_http2(&self, connection: &Rc<Http2Connection>, settings: &Cluster, now: Instant) {
        if !connection.is_used_up(settings, now) && !self.is_retired.get() {
            self.shared.borrow_mut().push(Rc::clone(connection));
            self.line.move_up();
        }
    }

    pub fn is_dialling(&self) -> bool {
        self.dial.borrow().is_some()
    }

    /// The dial under way, or a new one, which the caller then must carry out.
    pub fn join_dial(&self) -> (Rc<SharedDial>, bool) {
        let mut dial = self.dial.borrow_mut();
        if let Some(under_way) = &*dial {
            return (Rc::clone(under_way), false);
        }
        let new = Rc::new(SharedDial::default());
        *dial = Some(Rc::clone(&new));
        (new, true)
    }

    /// The dial is over; everyone who waits may look.
    pub fn end_dial(&self, dial: &SharedDial, place: Option<Http2Stream>, failure: Option<Reason>) {
        *self.dial.borrow_mut() = None;
        *dial.place.borrow_mut() = place;
        dial.failure.set(failure);
        dial.is_done.set(true);
        dial.done.notify_waiters();
    }

    /// Closes what is closed at the other end, what was idle for too long, and what is too old. Says whether anything
    /// is left to look after.
    pub fn sweep(&self, now: Instant, settings: &Cluster) -> bool {
        let is_old =
            |since: Instant| settings.idle_timeout.is_some_and(|timeout| now.since(since) >= timeout);
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            !is_old(idle.since)
                && !is_used_up(settings, 0, idle.connection.began, now)
                && idle.connection.client.check()
        });
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| {
            let is_used = connection.streams.get() > 0;
            !connection.client.is_closed()
                && !connection.is_used_up(settings, now)
                && (is_used || !is_old(connection.unused_since.get()))
        });
        !idle.is_empty() || !shared.is_empty()
    }

    /// Closes every connection that carries no request, and the others with their last one.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }
}

/// Whether a connection takes no more requests: it has carried its share, or is too old.
#[inline]
fn is_used_up(settings: &Cluster, requests: u32, began: Instant, now: Instant) -> bool {
    settings.max_requests_per_connection.is_some_and(|max| requests >= max)
        || settings.limits.connection_duration_max.is_some_and(|max| now.since(began) >= max)
}

impl SharedDial {
    pub fn take_place(&self) -> Option<Http2Stream> {
        self.place.borrow_mut().take()
    }

    /// Waits for the end of the dial.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn wait(&self) -> Result<(), Reason> {
        let done = self.done.notified();
        if !self.is_done.get() {
            done.await;
        }
        self.failure.get().map_or(Ok(()), Err)
    }
}
