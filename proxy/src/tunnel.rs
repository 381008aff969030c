//! A tunnel: what is left of a connection of HTTP/1 after a CONNECT was answered by 200.
//!
//! Its first bytes say what is in it. HTTP is served by the same chain, as a connection of its own;
//! everything else is passed through to where the journey says. The CONNECT is a request like others:
//! its passage lives as long as the tunnel, and so do its line in the log and its permit.
//!
//! A connection of TCP is passed through in the same way, see `crate::tcp`; nobody looks at its first bytes.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response};
use naru_base::{Instant, Reason, Side};
use naru_journey::edge::Upgrade;
use naru_journey::race::take_turns;
use naru_journey::tunnel::{Destination, Inside};
use naru_journey::{Action, AttemptEvent, Failure, Milestone, Sent, Stage};
use naru_route::Subject;
use naru_spec::defaults::{CONNECT_TIMEOUT, TUNNEL_FIRST_LINE_TIMEOUT, TUNNEL_SILENCE};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::accept::Connection;
use crate::clock::Origin;
use crate::codec::{InBody, Protocol};
use crate::conduit::{Conduit, Traffic};
use crate::dial::{self, DialFailure, Wire};
use crate::eyeballs::connect_first;
use crate::linger::{self, Lingering};
use crate::on_demand;
use crate::relay::Relay;
use crate::settle::{Broken, OutBody, Passage};
use crate::socket::Socket;
use crate::timer::Timer;
use crate::upgraded::Held;
use crate::worker::Worker;

/// What a connection becomes once its client was told.
#[derive(Debug)]
pub enum Waiting {
    /// A tunnel that was asked for.
    Tunnel { passage: Box<Passage>, headers: HeaderMap, destination: Destination },
    /// Another protocol, which an upstream speaks already, by a connection that is held for as long.
    Upgraded { passage: Box<Passage>, upstream: Conduit, held: Held },
}

/// A stream of a client's that has become something else than a request, once its answer is sent.
#[derive(Debug)]
pub struct Changed {
    pub client: InBody,
    pub waiting: Waiting,
}

/// What there is to tell of a tunnel.
#[derive(Debug, Default)]
pub struct Ledger {
    pub traffic: Rc<Traffic>,
    /// The address that it leads to, where that is no endpoint's.
    pub reached: Cell<Option<SocketAddr>>,
}

/// Tells a client that it has its tunnel.
#[cold]
pub fn open(
    connection: &Connection,
    mut passage: Box<Passage>,
    parts: Parts,
) -> Result<Response<OutBody>, Broken> {
    // Without it there would be no tunnel.
    let destination = Destination::of(&parts.uri).ok_or(Broken)?;
    let headers = parts.headers;
    let record = &passage.loaded.snapshot.chain(passage.journey.chain()).record;
    passage.kept_request = record.keep_request(&headers);
    passage.line.path = PathAndQuery::from_static("*");
    passage.tunnel = Some(Rc::default());
    connection.waiting.replace(Some(Box::new(Waiting::Tunnel { passage, headers, destination })));
    Ok(Response::new(OutBody::Empty))
}

/// A tunnel with HTTP in it, which is served as a connection of its own for as long as there is its passage.
#[derive(Debug)]
pub struct HttpInside {
    pub passage: Box<Passage>,
    pub conduit: Conduit,
    pub protocol: Protocol,
}

/// Serves a tunnel until it ends, or until it is known that there is HTTP in it.
pub async fn serve(conduit: Conduit, waiting: Waiting) -> Option<HttpInside> {
    let (passage, headers, destination) = match waiting {
        Waiting::Tunnel { passage, headers, destination } => (passage, headers, destination),
        Waiting::Upgraded { passage, upstream, held } => {
            let ledger = Rc::clone(passage.tunnel.as_ref()?);
            let client = conduit.counting(&ledger.traffic);
            let tether = Tether::new(&passage.connection);
            let is_gentle = passage.client.upgrade == Upgrade::Asked;
            let relay = Relay::new(client, upstream);
            let relay = if is_gentle { relay.gently() } else { relay };
            Tunnel { passage, ledger, tether, is_tls: false }.relay(relay).await;
            drop(held);
            return None;
        }
    };
    let ledger = Rc::clone(passage.tunnel.as_ref()?);
    let mut conduit = conduit.counting(&ledger.traffic);
    let is_tls = match first_bytes(&mut conduit).await? {
        Inside::Http1 => return Some(HttpInside { passage, conduit, protocol: Protocol::Http1 }),
        Inside::Http2 => return Some(HttpInside { passage, conduit, protocol: Protocol::Http2 }),
        Inside::Tls => true,
        Inside::Other => false,
    };
    let mut tunnel = Tunnel { tether: Tether::new(&passage.connection), passage, ledger, is_tls };
    tunnel.begin(&headers);
    tunnel.pass_through(conduit, Some(&destination)).await;
    None
}

/// Passes a connection through that was decided about.
pub async fn pass(passage: Box<Passage>, conduit: Conduit) {
    let Some(ledger) = passage.tunnel.clone() else { return };
    let conduit = conduit.counting(&ledger.traffic);
    let tether = Tether::new(&passage.connection);
    Tunnel { passage, ledger, tether, is_tls: false }.pass_through(conduit, None).await;
}

/// What a tunnel has in it, by its first bytes, which are then read again. `None` where there is nothing, nor will be.
async fn first_bytes(conduit: &mut Conduit) -> Option<Inside> {
    let mut start = BytesMut::with_capacity(1_024);
    let inside = match tokio::time::timeout(TUNNEL_SILENCE, conduit.read_buf(&mut start)).await {
        // The server speaks first.
        Err(_) => Inside::Other,
        Ok(Ok(0) | Err(_)) => return None,
        Ok(Ok(_)) => {
            let told = tokio::time::timeout(TUNNEL_FIRST_LINE_TIMEOUT, first_line(conduit, &mut start));
            told.await.unwrap_or(Inside::Other)
        }
    };
    conduit.unread(start.freeze());
    Some(inside)
}

async fn first_line(conduit: &mut Conduit, start: &mut BytesMut) -> Inside {
    loop {
        if let Some(inside) = Inside::of(start) {
            return inside;
        }
        // What ends or breaks before it is known what it was is for its other end to see.
        if conduit.read_buf(start).await.unwrap_or(0) == 0 {
            return Inside::Other;
        }
    }
}

/// A tunnel whose bytes are passed through.
struct Tunnel {
    passage: Box<Passage>,
    ledger: Rc<Ledger>,
    tether: Tether,
    /// The client speaks TLS with the other end.
    is_tls: bool,
}

impl Tunnel {
    /// Asks the core where it leads.
    fn begin(&mut self, headers: &HeaderMap) {
        let passage = &mut *self.passage;
        let loaded = Rc::clone(&passage.loaded);
        let mut core = loaded.core.borrow_mut();
        let draw = core.draw_request();
        let subject =
            Subject { path: "/", query: None, ..passage.line.subject(headers, &passage.client, draw) };
        let now = passage.worker.clock.now();
        passage.journey.pass_through(now, &loaded.snapshot, &subject, &mut core, &loaded.clusters, &mut ());
    }

    async fn pass_through(mut self, client: Conduit, destination: Option<&Destination>) {
        let mut asked = None;
        let mut wire = None;
        loop {
            let action = match asked.take().or_else(|| self.passage.journey.next_action()) {
                Some(action) => action,
                None if self.passage.journey.has_ended() => return,
                // It waits before the next attempt.
                None => poll_fn(|cx| self.poll_asked(cx)).await,
            };
            let (attempt, dialed) = match action {
                Action::Send { attempt, cluster, endpoint, cause } => {
                    let loaded = Rc::clone(&self.passage.loaded);
                    let Some(here) = loaded.clusters.get(cluster).endpoint(endpoint) else { return };
                    self.passage.hold(cause, cluster, endpoint, &here);
                    let ends = self.passage.ends();
                    (
                        attempt,
                        self.wait_for(dial::dial_wire(&loaded, cluster, &here, self.is_tls, ends)).await,
                    )
                }
                Action::Locate { cluster } => {
                    let worker = Rc::clone(&self.passage.worker);
                    let Some((host, port, limit)) = on_demand::sought(&self.passage, cluster) else { return };
                    match self.wait_for(on_demand::find(&worker, &host, port, limit)).await {
                        Ok(found) => self.passage.hear_located(found),
                        Err(action) => asked = Some(action),
                    }
                    continue;
                }
                Action::Reach { attempt } => {
                    let Some(destination) = destination else { return client.abort() };
                    let (worker, ledger) = (Rc::clone(&self.passage.worker), Rc::clone(&self.ledger));
                    let origin = self.passage.loaded.prepared.origin;
                    (attempt, self.wait_for(reach(&worker, origin, &ledger, destination)).await)
                }
                Action::Forward { .. } => {
                    let Some(Wire { conduit, life, .. }) = wire.take() else { return };
                    self.relay(Relay::new(client, conduit)).await;
                    return drop(life);
                }
                // An attempt ends with the call that waits for it.
                Action::Cancel { .. } => continue,
                Action::Due => {
                    self.passage.hear_due(true);
                    continue;
                }
                // No limit has a tunnel wait, and none has a gate.
                Action::Check | Action::Ask | Action::Wait { .. } | Action::Look => continue,
                Action::Break(_) | Action::Reply(_) | Action::Open => return client.abort(),
            };
            let event = match dialed {
                Ok(Ok(dialed)) => {
                    self.passage.upstream_local = dialed.local;
                    wire = Some(dialed);
                    AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: false }
                }
                Ok(Err(DialFailure { stage, reason, text })) => {
                    self.passage.upstream_failure = Some(text).filter(|text| !text.is_empty());
                    let (sent, is_reused, is_replayable) = (Sent::No, false, true);
                    AttemptEvent::Failed(Failure { stage, reason, sent, is_reused, is_replayable })
                }
                Err(action) => {
                    asked = Some(action);
                    continue;
                }
            };
            self.passage.hear_attempt(attempt, event);
        }
    }

    /// What comes of a dial, or what the journey asks for meanwhile.
    async fn wait_for<T>(&mut self, dialed: impl Future<Output = T>) -> Result<T, Action> {
        let mut dialed = pin!(dialed);
        poll_fn(|cx| match dialed.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => self.poll_asked(cx).map(Err),
        })
        .await
    }

    /// Moves bytes until both sides have ended, or one of them or the journey breaks it off.
    async fn relay(mut self, mut relay: Relay) {
        let traffic = Rc::clone(&self.ledger.traffic);
        let mut moved = 0;
        let ended = poll_fn(|cx| {
            let polled = relay.poll(cx);
            let now_moved = traffic.read.get() + traffic.written.get();
            if std::mem::replace(&mut moved, now_moved) != now_moved {
                self.passage.journey.on_progress(self.passage.worker.clock.now());
            }
            match polled {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending => self.poll_asked(cx).map(|_| None),
            }
        })
        .await;
        let now = self.passage.worker.clock.now();
        let milestone = match ended {
            Some(Ok(())) => Milestone::End,
            Some(Err(Side::Upstream)) => Milestone::Aborted,
            // That the client has gone is known when the passage is dropped.
            Some(Err(Side::Client | Side::Proxy)) | None => return relay.abort(),
        };
        self.passage.journey.on_response_body(now, milestone);
        let worker = Rc::clone(&self.passage.worker);
        drop(self);
        if milestone == Milestone::Aborted && !relay.is_gentle() {
            // What came before is not lost with it.
            let mut client = relay.into_client();
            linger::sent(&mut client).await;
            return client.abort();
        }
        if let Some(client) = relay.into_unread_client() {
            let mut lingering = Lingering::new(client, &worker);
            // It ends either way.
            let _ = poll_fn(|cx| Pin::new(&mut lingering).poll_shutdown(cx)).await;
        }
    }

    /// Ready once the journey asks for something: time has passed, or the connection is to leave.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        if self.tether.poll(self.passage.journey.last_progress(), cx).is_ready() {
            self.passage.journey.on_drained(self.passage.worker.clock.now());
            if let Some(action) = self.passage.journey.next_action() {
                return Poll::Ready(action);
            }
        }
        self.passage.poll_watch(cx)
    }
}

/// Connects to where no rule leads: to the first address of the name that takes the connection.
async fn reach(
    worker: &Worker,
    origin: Origin,
    ledger: &Ledger,
    destination: &Destination,
) -> Result<Wire, DialFailure> {
    let Destination { host, port } = destination;
    let found = tokio::time::timeout(CONNECT_TIMEOUT, worker.lookup.find(host)).await.unwrap_or_default();
    let found: Vec<SocketAddr> = found.into_iter().map(|address| (address, *port).into()).collect();
    let found = take_turns(&found);
    ledger.reached.set(found.first().copied());
    let nobody = DialFailure {
        stage: Stage::Connect,
        reason: Reason::NameNotFound,
        text: format!("{host} has no address"),
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_first(origin, &found, nobody)).await;
    let (stream, address) = connected.unwrap_or_else(|_| Err(DialFailure::timeout()))?;
    ledger.reached.set(Some(address));
    let local = stream.local_addr().ok();
    Ok(Wire { conduit: Conduit::plain(Socket::Tcp(stream)), local, life: None })
}

/// How long a tunnel stays when its connection is to leave, and nothing moves: the proxy ends, or its listener goes.
#[derive(Debug)]
pub struct Tether {
    connection: Rc<Connection>,
    /// Whom its connection wakes when it is to leave.
    woken: Option<Waker>,
    timer: Timer,
    /// When it was asked to end.
    since: Option<Instant>,
}

impl Tether {
    pub fn new(connection: &Rc<Connection>) -> Tether {
        let timer = Timer::new(&connection.worker.timers);
        Tether { connection: Rc::clone(connection), woken: None, timer, since: None }
    }

    /// Ready once its time is over.
    pub fn poll(&mut self, last_progress: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let clock = &self.connection.worker.clock;
        if self.since.is_none() && !self.connection.is_leaving() {
            if !self.woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                self.let_go();
                self.connection.tethered.borrow_mut().push(cx.waker().clone());
                self.woken = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert(clock.now());
        let deadline = since.max(last_progress) + self.connection.drain_timeout();
        loop {
            self.timer.set(deadline);
            ready!(self.timer.poll(cx));
            if clock.now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

impl Tether {
    fn let_go(&mut self) {
        if let Some(mine) = self.woken.take() {
            self.connection.tethered.borrow_mut().retain(|waker| !waker.will_wake(&mine));
        }
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        self.let_go();
    }
}
