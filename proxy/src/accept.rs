//! A connection of a client, from its first byte to its last.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use naru_base::Instant;
use naru_journey::ChainId;
use naru_journey::edge::Peer;
use naru_spec::{Codec, Http};
use naru_tls::Hello;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::add;
use crate::codec::{Leave, Protocol, ServeError, serve};
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::settle::count_up;
use crate::stall::Stall;
use crate::timer::Timer;
use crate::worker::{Loaded, Open, Worker};
use crate::{engine, listen};

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A client that has not finished its TLS handshake by then is let go.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(15);
/// Out of descriptors: others may be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client's connection, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub worker: Rc<Worker>,
    pub chain: ChainId,
    pub peer: Peer,
    pub server_name: Option<String>,
    pub tls_version: Option<&'static str>,
    streams: Cell<u64>,
    active: Cell<u32>,
    unused_since: Cell<Instant>,
    pub stall: Rc<Stall>,
}

impl Connection {
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
}

/// Takes connections in until the worker drains; what waits to be accepted then is still taken.
pub async fn accept(worker: Rc<Worker>, listener: TcpListener, listener_at: usize) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = worker.drained() => break,
        };
        match accepted {
            Ok((stream, remote)) => take(&worker, stream, remote, listener_at),
            // The client was gone before it was let in; or there are no descriptors left.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Ok((stream, remote))) = listener.poll_accept(&mut cx) {
        take(&worker, stream, remote, listener_at);
    }
}

fn take(worker: &Rc<Worker>, stream: TcpStream, remote: SocketAddr, listener_at: usize) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let downstream = &worker.metrics.downstream;
        add(&downstream.connections_total, 1);
        add(&downstream.connections_active, 1);
        let open = worker.opened();
        serve_client(&worker, &open, stream, remote, listener_at).await;
        add(&downstream.connections_active, -1);
    });
}

async fn serve_client(
    worker: &Rc<Worker>,
    open: &Open,
    stream: TcpStream,
    remote: SocketAddr,
    listener_at: usize,
) {
    let downstream = &worker.metrics.downstream;
    let Ok(local) = stream.local_addr() else { return };
    if listen::prepare(&stream).is_err() {
        return;
    }
    let loaded = worker.loaded();
    let Ok(secured) = tokio::time::timeout(HANDSHAKE_TIME_MAX, secure(&loaded, stream, listener_at)).await
    else {
        add(&downstream.tls_errors, 1);
        return;
    };
    let mut secured = match secured {
        Ok(Some(secured)) => secured,
        Ok(None) => return,
        Err(_) => {
            add(&downstream.tls_errors, 1);
            return;
        }
    };
    let http = &loaded.snapshot.chain(secured.chain).http;
    let connection = Rc::new(Connection {
        id: worker.next_connection(),
        worker: Rc::clone(worker),
        chain: secured.chain,
        peer: Peer { remote, local, is_tls: secured.version.is_some() },
        server_name: secured.server_name,
        tls_version: secured.version,
        streams: Cell::new(0),
        active: Cell::new(0),
        unused_since: Cell::new(worker.clock.now()),
        stall: Stall::new(worker),
    });
    let mut stay = Stay::new(&connection, open, http);
    let protocol = match (http.codec, secured.alpn.as_deref()) {
        (Codec::Http1, _) | (Codec::Auto, Some(b"http/1.1")) => Protocol::Http1,
        (Codec::Http2, _) | (Codec::Auto, Some(b"h2")) => Protocol::Http2,
        (Codec::Auto, _) => {
            let mut detect = pin!(detect(&mut secured.conduit));
            let detected = poll_fn(|cx| match detect.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result.ok().flatten()),
                Poll::Pending => stay.poll_leave(cx).map(|_| None),
            });
            match detected.await {
                Some(protocol) => protocol,
                None => return,
            }
        }
    };
    let of_requests = Rc::clone(&connection);
    let service = move |request| engine::serve(Rc::clone(&of_requests), request);
    let leave = |cx: &mut Context<'_>| stay.poll_leave(cx);
    let client = Lingering::new(secured.conduit, worker);
    let result = serve(client, protocol, http, service, leave, &connection.stall).await;
    if let Err(ServeError::Protocol(reason)) = result {
        add(&downstream.protocol_errors, 1);
        engine::record_unreadable(&connection, reason);
    }
}

/// How long a connection stays.
struct Stay<'a> {
    connection: &'a Connection,
    open: &'a Open,
    http: &'a Http,
    timer: Timer,
    is_set: bool,
    /// When it was asked to end.
    leaving_since: Option<Instant>,
}

impl<'a> Stay<'a> {
    fn new(connection: &'a Connection, open: &'a Open, http: &'a Http) -> Stay<'a> {
        let timer = Timer::new(&connection.worker.timers);
        Stay { connection, open, http, timer, is_set: false, leaving_since: None }
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        if self.leaving_since.is_none() {
            ready!(self.poll_asked(cx));
        }
        let since = *self.leaving_since.get_or_insert(self.connection.worker.clock.now());
        Poll::Ready(self.leave(since, cx))
    }

    /// Ready when the connection should take no more requests: the worker drains, it had its share, or
    /// it has been unused for too long.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.connection;
        let requests_max = self.http.max_requests_per_connection.map_or(u64::MAX, u64::from);
        if self.open.poll_drain(cx).is_ready() || connection.streams.get() >= requests_max {
            return Poll::Ready(());
        }
        let Some(timeout) = self.http.connection_idle_timeout else { return Poll::Pending };
        // The timer is not moved at every request; when it fires, it is seen how long nothing came.
        while !self.is_set || self.timer.poll(cx).is_ready() {
            let now = connection.worker.clock.now();
            let deadline = if connection.is_used() { now } else { connection.unused_since.get() } + timeout;
            if now >= deadline && !connection.is_used() {
                return Poll::Ready(());
            }
            self.timer.set(deadline);
            self.is_set = true;
        }
        Poll::Pending
    }

    /// A client that was asked to end and carries no request may take a while, but not for ever: it
    /// may have stopped within a head, or never answer.
    fn leave(&mut self, since: Instant, cx: &mut Context<'_>) -> Leave {
        if self.connection.is_used() {
            return Leave::Gently;
        }
        let deadline = since.max(self.connection.unused_since.get()) + self.http.drain_timeout;
        loop {
            self.timer.set(deadline);
            if self.timer.poll(cx).is_pending() {
                return Leave::Gently;
            }
            if self.connection.worker.clock.now() >= deadline {
                return Leave::AtOnce;
            }
        }
    }
}

/// A connection whose chain is known.
struct Secured {
    conduit: Conduit,
    chain: ChainId,
    alpn: Option<Vec<u8>>,
    server_name: Option<String>,
    version: Option<&'static str>,
}

/// Finds the chain that takes a connection, and finishes its handshake where the chain has TLS.
/// `None` where no chain takes it.
async fn secure(loaded: &Loaded, stream: TcpStream, listener_at: usize) -> io::Result<Option<Secured>> {
    let Some(listener) = loaded.snapshot.listeners.get(listener_at) else { return Ok(None) };
    if listener.chains.iter().all(|chain| chain.tls.is_none()) {
        let Some(chain) = loaded.snapshot.chain_for(listener_at, None) else { return Ok(None) };
        let conduit = Conduit::plain(stream);
        return Ok(Some(Secured { conduit, chain, alpn: None, server_name: None, version: None }));
    }
    let hello = Hello::read(stream).await?;
    let Some(chain) = loaded.snapshot.chain_for(listener_at, hello.server_name()) else {
        return Ok(None);
    };
    let Some(terminator) = &loaded.chain(chain).terminator else { return Ok(None) };
    let (stream, handshake) = hello.finish(terminator).await?;
    Ok(Some(Secured {
        conduit: Conduit::server(stream),
        chain,
        alpn: handshake.alpn,
        server_name: handshake.server_name,
        version: Some(handshake.version),
    }))
}

/// Tells the protocol by the first bytes, which are then read again. `None` at the end of the stream.
async fn detect(conduit: &mut Conduit) -> io::Result<Option<Protocol>> {
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
    }
}
