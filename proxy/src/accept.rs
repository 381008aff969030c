//! A connection of a client, from its first byte to its last.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use naru_base::Instant;
use naru_journey::ChainId;
use naru_journey::edge::Peer;
use naru_spec::Codec;
use naru_tls::Hello;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::add;
use crate::codec::{Protocol, ServeError, serve};
use crate::conduit::Conduit;
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
    let mut idle =
        Idle { timer: Timer::new(&worker.timers), is_set: false, timeout: http.connection_idle_timeout };
    let requests_max = http.max_requests_per_connection.map_or(u64::MAX, u64::from);
    let protocol = match (http.codec, secured.alpn.as_deref()) {
        (Codec::Http1, _) | (Codec::Auto, Some(b"http/1.1")) => Protocol::Http1,
        (Codec::Http2, _) | (Codec::Auto, Some(b"h2")) => Protocol::Http2,
        (Codec::Auto, _) => {
            let mut detect = pin!(detect(&mut secured.conduit));
            let detected = poll_fn(|cx| match detect.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result.ok().flatten()),
                Poll::Pending => shutdown(&connection, open, &mut idle, u64::MAX, cx).map(|()| None),
            });
            match detected.await {
                Some(protocol) => protocol,
                None => return,
            }
        }
    };
    let of_requests = Rc::clone(&connection);
    let service = move |request| engine::serve(Rc::clone(&of_requests), request);
    let shutdown = |cx: &mut Context<'_>| shutdown(&connection, open, &mut idle, requests_max, cx);
    let result = serve(secured.conduit, protocol, http, service, shutdown, &connection.stall).await;
    if result == Err(ServeError::Protocol) {
        add(&downstream.protocol_errors, 1);
    }
}

/// How long a connection may be without a request.
struct Idle {
    timer: Timer,
    is_set: bool,
    timeout: Option<Duration>,
}

/// Ready when the connection should take no more requests: the worker drains, it had its share, or
/// it has been unused for too long.
fn shutdown(
    connection: &Connection,
    open: &Open,
    idle: &mut Idle,
    requests_max: u64,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let worker = &connection.worker;
    if open.poll_drain(cx).is_ready() || connection.streams.get() >= requests_max {
        return Poll::Ready(());
    }
    let Some(timeout) = idle.timeout else { return Poll::Pending };
    // The timer is not moved at every request; when it fires, it is seen how long nothing came.
    while !idle.is_set || idle.timer.poll(cx).is_ready() {
        let now = worker.clock.now();
        let is_used = connection.active.get() > 0;
        let deadline = if is_used { now } else { connection.unused_since.get() } + timeout;
        if now >= deadline && !is_used {
            return Poll::Ready(());
        }
        idle.timer.set(deadline);
        idle.is_set = true;
    }
    Poll::Pending
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
