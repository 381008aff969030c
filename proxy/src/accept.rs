//! A connection of a client, from its first byte to its last.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use naru_base::{Instant, Reason};
use naru_journey::edge::Peer;
use naru_journey::gate::local_rate::ConnectionRates;
use naru_journey::proxied::Ends;
use naru_journey::record::Addresses;
use naru_journey::tunnel::HTTP2_PREFACE;
use naru_journey::{Arriving, ChainId, Milestone};
use naru_spec::defaults::HANDSHAKE_TIMEOUT;
use naru_spec::overload::{Relief, Timer as Timed};
use naru_spec::{Codec, Http};
use tokio::io::AsyncReadExt;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::certified::Certified;
use crate::cluster::add;
#[cfg(feature = "http3")]
use crate::codec::http3;
use crate::codec::{Answers, InBody, Interim, Leave, Output, Protocol, ServeError, Terms, Told, serve};
use crate::conduit::Conduit;
use crate::contain::Alarm;
use crate::greet::{Full, Refused, greet};
use crate::listen::{self, ListenerKey};
use crate::loaded::Loaded;
use crate::metrics::TurnedAway;
#[cfg(feature = "http3")]
use crate::quic;
use crate::seats::{Counted, OfSource};
use crate::settle::{Broken, OutBody, Passage, count_up};
use crate::socket::{Listening, Socket};
use crate::stall::Stall;
use crate::strain::Seat;
use crate::timer::Timer;
use crate::tunnel::{self, HttpInside, Waiting};
use crate::worker::{Open, Worker};
use crate::{engine, short, tcp, udp};

/// When a listener closes, and for this long nobody has finished a TCP handshake, nobody will.
const HANDSHAKE_PAUSE_MAX: Duration = Duration::from_millis(100);
const HANDSHAKES_TIME_MAX: Duration = Duration::from_secs(1);
/// Longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Out of descriptors: others may be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener, as one worker has it.
#[derive(Debug)]
pub struct ListenerHere {
    pub key: ListenerKey,
    /// The newest snapshot that has it.
    loaded: RefCell<Rc<Loaded>>,
    /// Where it stands there.
    at: Cell<usize>,
    is_closed: Cell<bool>,
    /// Another process accepts from the same socket, now or later.
    leaves_queue: Cell<bool>,
    /// Another process may have a handle to the same socket: what is done to the socket is done to that process.
    is_lent: Cell<bool>,
    closed: Notify,
}

impl ListenerHere {
    pub fn new(key: ListenerKey, at: usize, loaded: Rc<Loaded>) -> Rc<ListenerHere> {
        Rc::new(ListenerHere {
            key,
            loaded: RefCell::new(loaded),
            at: Cell::new(at),
            is_closed: Cell::new(false),
            leaves_queue: Cell::new(false),
            is_lent: Cell::new(false),
            closed: Notify::new(),
        })
    }

    pub fn go_on(&self, at: usize, loaded: &Rc<Loaded>) {
        let was_of_quic = self.is_of_quic();
        self.at.set(at);
        self.loaded.replace(Rc::clone(loaded));
        if self.is_of_quic() != was_of_quic {
            // Whoever reads begins anew.
            self.closed.notify_waiters();
        }
    }

    fn is_of_quic(&self) -> bool {
        let (loaded, at) = self.now();
        loaded.snapshot.listeners.get(at).is_some_and(|listener| listener.quic.is_some())
    }

    pub fn close(&self) {
        self.is_closed.set(true);
        self.closed.notify_waiters();
    }

    /// What waits to be accepted when it is closed is left to another process.
    pub fn leave_queue(&self) {
        self.leaves_queue.set(true);
    }

    pub fn set_lent(&self, is_lent: bool) {
        self.is_lent.set(is_lent);
    }

    pub async fn closed(&self) {
        if !self.is_closed.get() {
            self.closed.notified().await;
        }
    }

    fn loaded(&self) -> Rc<Loaded> {
        Rc::clone(&self.loaded.borrow())
    }

    /// The newest snapshot that has it, and where it stands there.
    pub fn now(&self) -> (Rc<Loaded>, usize) {
        (self.loaded(), self.at.get())
    }
}

/// A client's connection, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub worker: Rc<Worker>,
    pub peer: Peer,
    /// Who is at the other end of the wire, whoever it speaks for.
    pub direct: SocketAddr,
    pub server_name: Option<String>,
    pub tls_version: Option<&'static str>,
    /// The client has shown who it is.
    pub certified: Option<Rc<Certified>>,
    /// It began with TLS, wherever that ends.
    is_tls: bool,
    listener: Rc<ListenerHere>,
    /// What its next request is decided by, and the chain that it belongs to there.
    loaded: RefCell<Rc<Loaded>>,
    chain: Cell<ChainId>,
    limits: Cell<Limits>,
    is_leaving: Cell<bool>,
    /// A request that is on its way may still come.
    may_linger: Cell<bool>,
    /// A test wants to know what becomes of a panic.
    is_provoked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Tunnels, which have tasks of their own: see [`tunnel::Tether`].
    pub tethered: RefCell<Vec<Waker>>,
    streams: Cell<u64>,
    active: Cell<u32>,
    unused_since: Cell<Instant>,
    pub stall: Rc<Stall>,
    /// A tunnel that the client has asked for, until HTTP is over on the connection.
    pub waiting: RefCell<Option<Box<Waiting>>>,
    /// Of limits that each connection has for itself.
    pub rates: ConnectionRates,
    /// Where interim responses to the request that is being answered go.
    pub interim: RefCell<Option<Interim>>,
    /// The tunnel that it is in.
    tunnel: RefCell<Option<Box<Passage>>>,
    /// Its addresses, once a line was written of it.
    addresses: OnceCell<Box<Addresses>>,
}

/// How long its chain lets a connection stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    requests_max: u64,
    idle_timeout: Option<Duration>,
    drain_timeout: Duration,
}

/// Who has no request for so long is idle, where those who are idle are closed at once.
const IDLE_AT_ONCE: Duration = Duration::from_secs(1);

impl Limits {
    fn of(http: &Http, worker: &Worker) -> Limits {
        let usual = http.connection_idle_timeout;
        let mut idle_timeout = usual.map(|usual| worker.reduced(Timed::ConnectionIdle, usual));
        if worker.strain.is_saturated(&Relief::CloseIdleConnections) {
            idle_timeout = Some(idle_timeout.map_or(IDLE_AT_ONCE, |timeout| timeout.min(IDLE_AT_ONCE)));
        }
        Limits {
            requests_max: http.max_requests_per_connection.map_or(u64::MAX, u64::from),
            idle_timeout,
            drain_timeout: http.drain_timeout,
        }
    }
}

impl Connection {
    /// Of a client of whom nothing is known but where it is.
    pub fn begin(
        worker: &Rc<Worker>,
        listener: &Rc<ListenerHere>,
        loaded: Rc<Loaded>,
        chain: ChainId,
        peer: Peer,
    ) -> Connection {
        let limits = Limits::of(&loaded.snapshot.chain(chain).http, worker);
        Connection {
            id: worker.next_connection(),
            worker: Rc::clone(worker),
            peer,
            direct: peer.remote,
            server_name: None,
            tls_version: None,
            certified: None,
            is_tls: false,
            listener: Rc::clone(listener),
            loaded: RefCell::new(loaded),
            chain: Cell::new(chain),
            limits: Cell::new(limits),
            is_leaving: Cell::new(false),
            may_linger: Cell::new(true),
            is_provoked: Cell::new(false),
            waker: RefCell::new(None),
            tethered: RefCell::default(),
            streams: Cell::new(0),
            active: Cell::new(0),
            unused_since: Cell::new(worker.clock.now()),
            stall: Stall::new(worker),
            waiting: RefCell::new(None),
            rates: ConnectionRates::default(),
            interim: RefCell::new(None),
            tunnel: RefCell::new(None),
            addresses: OnceCell::new(),
        }
    }

    /// After a handshake.
    #[cfg(feature = "http3")]
    pub fn with_tls(self, agreed: naru_tls::Handshake, shown: Option<Box<naru_tls::Shown>>) -> Connection {
        let tls_version = Some(agreed.version);
        let certified = shown.map(|shown| Rc::new(Certified::new(shown)));
        Connection { server_name: agreed.server_name, tls_version, is_tls: true, certified, ..self }
    }

    /// What is in a tunnel that was asked for on this connection, as a connection of its own.
    pub fn within(&self, tunnel: Box<Passage>) -> Connection {
        let peer = Peer { is_in_tunnel: true, ..self.peer };
        Connection {
            direct: self.direct,
            server_name: self.server_name.clone(),
            tls_version: self.tls_version,
            certified: self.certified.clone(),
            is_tls: self.is_tls,
            is_leaving: Cell::new(self.is_leaving.get()),
            may_linger: Cell::new(self.may_linger.get()),
            tunnel: RefCell::new(Some(tunnel)),
            ..Connection::begin(&self.worker, &self.listener, self.loaded(), self.chain(), peer)
        }
    }

    #[inline]
    pub fn loaded(&self) -> Rc<Loaded> {
        Rc::clone(&self.loaded.borrow())
    }

    /// Of what is loaded now: it may be another one after an await.
    #[inline]
    pub fn chain(&self) -> ChainId {
        self.chain.get()
    }

    /// As lines of logs have them.
    #[inline]
    pub fn addresses(&self) -> &Addresses {
        self.addresses.get_or_init(|| Box::new(Addresses::of([self.direct, self.peer.local])))
    }

    fn is_used(&self) -> bool {
        self.active.get() > 0
    }

    pub fn next_stream(&self) -> u64 {
        count_up(&self.streams)
    }

    pub fn on_request(&self) {
        self.active.set(self.active.get() + 1);
    }

    pub fn on_request_end(&self) {
        self.active.set(self.active.get() - 1);
        self.stall.look(None);
        self.unused_since.set(self.worker.clock.now());
    }

    /// A request came and was answered, and nothing was in between.
    #[inline]
    pub fn on_answered_at_once(&self, now: Instant) {
        self.stall.look(None);
        self.unused_since.set(now);
    }

    /// Goes on by the newest snapshot of its listener; or leaves, where that has no place for it. What it still
    /// asks is then decided by the last snapshot that had one.
    pub fn follow(&self) {
        if self.is_leaving.get() {
            return;
        }
        let (mine, newest) = (self.loaded(), self.listener.loaded());
        if self.listener.is_closed.get() {
            self.leave();
        } else if !Rc::ptr_eq(&mine, &newest) {
            let (at, server_name) = (self.listener.at.get(), self.server_name.as_deref());
            let client = Arriving { local: self.peer.local.ip(), server_name, is_tls: self.is_tls };
            match newest.snapshot.chain_after(at, &client, &mine.snapshot, self.chain.get()) {
                // It may be that such clients are let in no more.
                None => {
                    self.may_linger.set(false);
                    self.leave();
                }
                Some(chain) => self.go_on(newest, chain),
            }
        }
    }

    fn go_on(&self, newest: Rc<Loaded>, chain: ChainId) {
        if let Some(tunnel) = &mut *self.tunnel.borrow_mut() {
            tunnel.connection.go_on(Rc::clone(&newest), chain);
            tunnel.go_on(&newest, chain);
        }
        self.chain.set(chain);
        self.loaded.replace(newest);
        self.limit();
    }

    fn limit(&self) {
        let limits = Limits::of(&self.loaded().snapshot.chain(self.chain()).http, &self.worker);
        if self.limits.replace(limits) != limits {
            self.wake();
        }
    }

    /// The proxy runs shorter than before, or less so.
    pub fn hear_strain(&self) {
        self.limit();
        if self.worker.strain.is_saturated(&Relief::CloseIdleConnections) && !self.is_used() {
            self.may_linger.set(false);
            self.leave();
        }
    }

    /// It ends with the requests that it carries, so that others are served.
    #[cold]
    pub fn give_up(&self) {
        if !self.is_leaving.get() {
            add(&self.worker.metrics.downstream.keepalives_ended, 1);
            self.leave();
        }
    }

    /// Takes no more requests, and ends with those that have begun.
    pub fn leave(&self) {
        self.is_leaving.set(true);
        self.wake();
        self.tethered.take().into_iter().for_each(Waker::wake);
    }

    pub fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    pub fn provoke(&self) {
        self.is_provoked.set(true);
        self.leave();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// How long a tunnel may stay when its connection is to leave. Where another process serves already it stays
    /// until this one ends.
    pub fn drain_timeout(&self) -> Duration {
        if self.worker.is_succeeded() { FOR_EVER } else { self.limits.get().drain_timeout }
    }

    /// Ready once it is to leave.
    // Forced: it is asked at every turn of a connection, and seldom elsewhere.
    #[inline(always)]
    pub fn poll_leaving(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_leaving.get() {
            return Poll::Ready(());
        }
        // A connection is one task, and its waker stays the same.
        if self.waker.borrow().is_none() {
            self.waker.replace(Some(cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Answers for Rc<Connection> {
    fn answer(&self, request: Request<InBody>) -> impl Future<Output = Result<Response<OutBody>, Broken>> {
        engine::serve(Rc::clone(self), request)
    }

    #[inline]
    fn answer_at_once(&self, head: &[u8], fields_max: usize, out: &mut Output) -> bool {
        short::answer(self, head, fields_max, out)
    }

    fn open(&self, interim: Interim) {
        self.interim.replace(Some(interim));
    }

    #[cold]
    fn hear(&self, told: Told) {
        match told {
            Told::Refused(reason) => engine::record_unreadable(self, reason),
            Told::Malformed => add(&self.worker.metrics.downstream.protocol_errors, 1),
            Told::Abuse(abuse) => self.worker.metrics.downstream.count_abuse(abuse),
        }
    }

    fn refuse(&self, reason: Reason, text: &'static str) -> Response<OutBody> {
        engine::refuse(self, reason, text)
    }
}

/// Takes connections in until the listener is closed; what waits to be accepted then is still taken, unless another
/// process takes it.
pub async fn accept(worker: Rc<Worker>, socket: Rc<Listening>, listener: Rc<ListenerHere>) {
    let socket = match &*socket {
        Listening::Udp(socket) => return datagrams(worker, socket, listener).await,
        Listening::Stream(socket) => socket,
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = listener.closed() => break,
            accepted = async {
                worker.paused(false).await;
                tokio::select! {
                    biased;
                    () = worker.paused(true) => None,
                    accepted = socket.accept() => Some(accepted),
                }
            } => accepted,
        };
        let Some(accepted) = accepted else { continue };
        match accepted {
            Ok((stream, remote)) => take(&worker, stream, remote, &listener),
            // The client was gone before it was let in; or there are no descriptors left.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    if listener.leaves_queue.get() {
        return;
    }
    if !listener.is_lent.get() && listen::begin_no_more(socket).is_ok() {
        let finished = async {
            while let Ok(accepted) = tokio::time::timeout(HANDSHAKE_PAUSE_MAX, socket.accept()).await {
                if let Ok((stream, remote)) = accepted {
                    take(&worker, stream, remote, &listener);
                }
            }
        };
        // None can begin, so this ends by itself.
        let _ = tokio::time::timeout(HANDSHAKES_TIME_MAX, finished).await;
    }
    // A task that has had its share of a turn is told that nothing waits, whatever does.
    tokio::task::unconstrained(async {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((stream, remote))) = socket.poll_accept(&mut cx) {
            take(&worker, stream, remote, &listener);
        }
    })
    .await;
}

/// What they are may change with the configuration.
async fn datagrams(worker: Rc<Worker>, socket: &Arc<UdpSocket>, listener: Rc<ListenerHere>) {
    loop {
        let (worker, socket, here) = (Rc::clone(&worker), Arc::clone(socket), Rc::clone(&listener));
        match listener.is_of_quic() {
            #[cfg(feature = "http3")]
            true => quic::serve(worker, socket, here).await,
            // It was refused when it was read.
            #[cfg(not(feature = "http3"))]
            true => here.closed().await,
            false => udp::serve(worker, socket, here).await,
        }
        if listener.is_closed.get() {
            return;
        }
    }
}

fn take(worker: &Rc<Worker>, stream: Socket, remote: SocketAddr, listener: &Rc<ListenerHere>) {
    let (worker, listener) = (Rc::clone(worker), Rc::clone(listener));
    let seats = match admit(&worker, &listener, remote) {
        Ok(seats) => seats,
        Err(why) => return turn_away(&worker, stream.local_addr().ok(), remote, &listener, why),
    };
    tokio::task::spawn_local(async move {
        let _seats = seats;
        add(&worker.metrics.downstream.connections_total, 1);
        let open = worker.opened();
        let _alarm = Alarm::new(&worker, FromClient(remote));
        serve_client(&worker, &open, stream, remote, listener).await;
    });
}

/// What a connection counts among.
pub struct Seats {
    _all: Seat,
    _listener: Option<Counted>,
    _source: Option<OfSource>,
}

/// Whether one more connection may be served.
pub fn admit(worker: &Worker, listener: &ListenerHere, remote: SocketAddr) -> Result<Seats, TurnedAway> {
    if worker.strain.is_called_for() {
        let draw = listener.loaded().core.borrow_mut().draw_request();
        if worker.strain.rejects(draw) {
            return Err(TurnedAway::Overload);
        }
    }
    let (loaded, at) = listener.now();
    let settings = loaded.snapshot.listeners.get(at);
    let limits = settings.map(|listener| listener.connections).unwrap_or_default();
    let all = worker.strain.seat(limits.ignores_global).ok_or(TurnedAway::Global)?;
    let mut seats = Seats { _all: all, _listener: None, _source: None };
    let Some(crowd) = loaded.prepared.crowd(at) else { return Ok(seats) };
    if let (Some(tally), Some(max)) = (&crowd.tally, limits.max) {
        seats._listener = Some(tally.take(max).ok_or(TurnedAway::Listener)?);
    }
    // Whoever speaks for others says so first.
    if settings.is_some_and(|listener| listener.proxy_protocol.is_none() && listener.pipe.is_none()) {
        seats._source = seat_of_source(&loaded, at, remote)?;
    }
    Ok(seats)
}

/// Counts a connection of an address, where there is a limit.
pub fn seat_of_source(
    loaded: &Loaded,
    at: usize,
    source: SocketAddr,
) -> Result<Option<OfSource>, TurnedAway> {
    let sources = loaded.prepared.crowd(at).and_then(|crowd| crowd.sources.as_ref());
    let listener = loaded.snapshot.listeners.get(at);
    match sources.zip(listener.and_then(|listener| listener.connections.max_per_source)) {
        Some((sources, max)) => sources.take(source.ip(), max).map(Some).ok_or(TurnedAway::Source),
        None => Ok(None),
    }
}

/// Closes a connection at once. It has a line in the log of the listener's first chain, as nothing was read of it.
#[cold]
pub fn turn_away(
    worker: &Rc<Worker>,
    local: Option<SocketAddr>,
    remote: SocketAddr,
    listener: &Rc<ListenerHere>,
    why: TurnedAway,
) {
    worker.metrics.downstream.count_turned_away(why);
    let (loaded, at) = listener.now();
    if let (Some(local), Some(chain)) = (local, loaded.snapshot.chain_id(at, 0)) {
        let peer = Peer { remote, local, is_tls: false, is_certified: false, is_in_tunnel: false };
        let connection = Rc::new(Connection::begin(worker, listener, loaded, chain, peer));
        engine::record_turned_away(&connection, why.reason());
    }
}

/// A connection for which its chain, or its source, has no place.
async fn wait_in_vain(worker: &Rc<Worker>, listener: &Rc<ListenerHere>, full: Full, remote: SocketAddr) {
    let Full { stream, loaded, chain, delay, why, source } = full;
    worker.metrics.downstream.count_turned_away(why);
    let Ok(local) = stream.local_addr() else { return };
    let peer = Peer { remote: source, local, is_tls: false, is_certified: false, is_in_tunnel: false };
    let connection =
        Connection { direct: remote, ..Connection::begin(worker, listener, loaded, chain, peer) };
    engine::record_turned_away(&Rc::new(connection), why.reason());
    if !delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = listener.closed() => {}
        }
    }
    drop(stream);
}

pub struct FromClient(pub SocketAddr);

impl fmt::Display for FromClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection of client {}", self.0)
    }
}

async fn serve_client(
    worker: &Rc<Worker>,
    open: &Open,
    stream: Socket,
    remote: SocketAddr,
    listener: Rc<ListenerHere>,
) {
    let downstream = &worker.metrics.downstream;
    let Ok(local) = stream.local_addr() else { return };
    if stream.prepare().is_err() {
        return;
    }
    let seen = Ends { source: remote, destination: local };
    let handshake_max = {
        let (loaded, at) = listener.now();
        loaded.prepared.crowd(at).map_or(HANDSHAKE_TIMEOUT, |crowd| crowd.handshake_max)
    };
    let handshake = worker.reduced(Timed::TransportConnect, handshake_max);
    let greeted = tokio::time::timeout(handshake, greet(&listener, stream, seen)).await;
    let mut secured = match greeted.unwrap_or(Err(Refused::Tls)) {
        Ok(secured) => secured,
        Err(Refused::NoChain) => return,
        Err(Refused::Header) => return add(&downstream.protocol_errors, 1),
        Err(Refused::Tls) => return add(&downstream.tls_errors, 1),
        Err(Refused::Full(full)) => return wait_in_vain(worker, &listener, *full, remote).await,
    };
    let _seats = (secured.in_chain.take(), secured.of_source.take());
    let chain = secured.loaded.snapshot.chain(secured.chain);
    let (http, is_tcp) = (&chain.http, chain.is_tcp);
    let (codec, terms, headers_timeout) = (http.codec, Terms::of(chain), http.request_headers_timeout);
    let Ends { source, destination } = secured.ends;
    let is_tls = secured.version.is_some();
    let is_certified = secured.shown.is_some();
    let peer = Peer { remote: source, local: destination, is_tls, is_certified, is_in_tunnel: false };
    let connection = Rc::new(Connection {
        direct: remote,
        server_name: secured.server_name,
        tls_version: secured.version,
        certified: secured.shown.map(|shown| Rc::new(Certified::new(shown))),
        is_tls: secured.is_tls,
        ..Connection::begin(worker, &listener, secured.loaded, secured.chain, peer)
    });
    open.tell(&connection);
    if is_tcp {
        // It is boxed so that those that carry requests need no room for it.
        return Box::pin(tcp::serve(connection, secured.conduit)).await;
    }
    let protocol = match (codec, secured.alpn.as_deref()) {
        (Codec::Http1, _) | (Codec::Auto, Some(b"http/1.1")) => Protocol::Http1,
        (Codec::Http2, _) | (Codec::Auto, Some(b"h2")) => Protocol::Http2,
        // It is of datagrams, and came another way.
        (Codec::Http3, _) => return,
        (Codec::Auto, _) => {
            let mut stay = Stay::new(&connection);
            let has_begun = Cell::new(false);
            let mut detect = pin!(detect(&mut secured.conduit, &has_begun));
            let mut late = None;
            let detected = poll_fn(|cx| {
                if let Poll::Ready(result) = detect.as_mut().poll(cx) {
                    return Poll::Ready(result.ok().flatten());
                }
                if has_begun.get()
                    && let Some(allowed) = headers_timeout
                {
                    let late = late.get_or_insert_with(|| {
                        let mut timer = Timer::new(&worker.timers);
                        timer.set(worker.clock.now() + allowed);
                        timer
                    });
                    if late.poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                }
                match stay.poll_leave(cx) {
                    Poll::Ready(Leave::Gently | Leave::AtOnce) => Poll::Ready(None),
                    Poll::Ready(Leave::Patiently) | Poll::Pending => Poll::Pending,
                }
            });
            match detected.await {
                Some(protocol) => protocol,
                None => return,
            }
        }
    };
    let mut next = Some((connection, secured.conduit, protocol));
    while let Some((connection, conduit, protocol)) = next.take() {
        let mut stay = Stay::new(&connection);
        let answers = Rc::clone(&connection);
        let leave = |cx: &mut Context<'_>| stay.poll_leave(cx);
        let result = serve(conduit, worker, protocol, terms, answers, leave, &connection.stall).await;
        if let Err(ServeError::Protocol(reason)) = result {
            engine::record_unreadable(&connection, reason);
        }
        if let Some(mut tunnel) = connection.tunnel.take() {
            tunnel.journey.on_response_body(worker.clock.now(), Milestone::End);
        }
        // Whatever became of the connection, a tunnel that was asked for is over with it.
        let waiting = connection.waiting.take();
        if let (Some(waiting), Ok(Some(conduit))) = (waiting, result) {
            // It is boxed so that those without one need no room for it.
            let inside = Box::pin(tunnel::serve(conduit, *waiting)).await;
            if let Some(HttpInside { passage, conduit, protocol }) = inside {
                let within = Rc::new(connection.within(passage));
                open.tell(&within);
                next = Some((within, conduit, protocol));
            }
        }
    }
}

/// The requests of a connection of QUIC.
#[cfg(feature = "http3")]
pub async fn serve_quic(connection: Rc<Connection>, open: &Open, quic: quic::Carrier) {
    let terms = {
        let loaded = connection.loaded();
        Terms::of(loaded.snapshot.chain(connection.chain()))
    };
    open.tell(&connection);
    let mut stay = Stay::new(&connection);
    let answers = Rc::clone(&connection);
    let leave = |cx: &mut Context<'_>| stay.poll_leave(cx);
    let served = http3::server::serve(quic, &connection.worker, terms, answers, leave, &connection.stall);
    if let Err(ServeError::Protocol(reason)) = Box::pin(served).await {
        engine::record_unreadable(&connection, reason);
    }
}

/// How long a connection stays.
struct Stay<'a> {
    connection: &'a Connection,
    timer: Timer,
    /// The idle timeout that the timer is set for.
    set_for: Option<Duration>,
    /// When it was asked to end.
    leaving_since: Option<Instant>,
}

impl<'a> Stay<'a> {
    fn new(connection: &'a Connection) -> Stay<'a> {
        let timer = Timer::new(&connection.worker.timers);
        Stay { connection, timer, set_for: None, leaving_since: None }
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        if self.leaving_since.is_none() {
            ready!(self.poll_asked(cx));
        }
        assert!(!self.connection.is_provoked.get(), "a test has asked for this panic");
        let since = *self.leaving_since.get_or_insert(self.connection.worker.clock.now());
        Poll::Ready(self.leave(since, cx))
    }

    /// Ready when the connection should take no more requests: it is told to leave, it had its share, or
    /// it has been unused for too long.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.connection;
        let limits = connection.limits.get();
        if connection.poll_leaving(cx).is_ready() || connection.streams.get() >= limits.requests_max {
            return Poll::Ready(());
        }
        let Some(timeout) = limits.idle_timeout else { return Poll::Pending };
        // The timer is not moved at every request; when it fires, it is seen how long nothing came.
        while self.set_for != Some(timeout) || self.timer.poll(cx).is_ready() {
            let now = connection.worker.clock.now();
            let deadline = if connection.is_used() { now } else { connection.unused_since.get() } + timeout;
            if now >= deadline && !connection.is_used() {
                return Poll::Ready(());
            }
            self.timer.set(deadline);
            self.set_for = Some(timeout);
        }
        Poll::Pending
    }

    /// A client that was asked to end and carries no request may take a while, but not for ever: it
    /// may have stopped within a head, or never answer.
    fn leave(&mut self, since: Instant, cx: &mut Context<'_>) -> Leave {
        if self.connection.is_used() {
            return Leave::Gently;
        }
        let deadline =
            since.max(self.connection.unused_since.get()) + self.connection.limits.get().drain_timeout;
        loop {
            self.timer.set(deadline);
            if self.timer.poll(cx).is_pending() {
                // Who leaves for another reason has been idle for long enough, or has been told so.
                let is_asked = self.connection.is_leaving.get() && self.connection.may_linger.get();
                return if is_asked { Leave::Patiently } else { Leave::Gently };
            }
            if self.connection.worker.clock.now() >= deadline {
                return Leave::AtOnce;
            }
        }
    }
}

/// Tells the protocol by the first bytes, which are then read again. `None` at the end of the stream.
async fn detect(conduit: &mut Conduit, has_begun: &Cell<bool>) -> io::Result<Option<Protocol>> {
    let mut start = BytesMut::with_capacity(1_024);
    loop {
        let has_ended = conduit.read_buf(&mut start).await? == 0;
        if has_ended && start.is_empty() {
            return Ok(None);
        }
        let compared = start.len().min(HTTP2_PREFACE.len());
        let is_preface = start[..compared] == HTTP2_PREFACE[..compared];
        if !is_preface || compared == HTTP2_PREFACE.len() || has_ended {
            conduit.unread(start.freeze());
            return Ok(Some(if is_preface { Protocol::Http2 } else { Protocol::Http1 }));
        }
        // Fewer bytes than the preface, and all of them fit it: the next ones will tell.
        has_begun.set(true);
    }
}
