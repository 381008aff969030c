//! Connections of QUIC: RFC 9000, carried by quinn.
//!
//! Each worker has a socket of its own at a listener's address, and an endpoint upon it; a connection stays with the worker
//! that its first datagram came to, wherever its client goes: `docs/adr/0021-http3-of-our-own-upon-quinn.md`.
//!
//! Deliberately not here: what is spoken upon it (`crate::codec::http3`).

pub mod crossing;
mod socket;
pub mod steer;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use naru_journey::Arriving;
use naru_journey::edge::Peer;
use naru_spec::Quic;
use naru_spec::defaults::{QUIC_HANDSHAKES_MAX, QUIC_UNPROVEN_MAX, QUIC_WAITING_BYTES_MAX};
use naru_spec::overload::Timer as Timed;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::net::UdpSocket;

use crate::accept::{self, Connection, ListenerHere};
use crate::cluster::add;
use crate::codec::http3::Code;
use crate::contain::Alarm;
use crate::metrics::TurnedAway;
use crate::worker::{Open, Worker};
use socket::Wire;
use steer::Ids;

/// A connection whose handshake is over.
pub type Carrier = quinn::Connection;

/// Streams of one direction that a client may open: three have a use (RFC 9114, section 6.2), and it may try more.
const ONE_WAY_STREAMS_MAX: u32 = 8;
/// Of a first message that comes in pieces.
const FIRST_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Datagrams of one who is not let in yet, and of all of them.
const UNHEARD_BYTES_MAX: u64 = 32 * 1024;
const UNHEARD_BYTES_OF_ALL_MAX: u64 = 8 << 20;
/// Turns of the runtime in which quinn's own tasks send what they were told.
const LAST_TURNS: usize = 4;

/// Takes connections in until the listener is closed. Those that are there go on until they end; but where another process
/// has the socket they end at once, as their datagrams would come to it.
pub async fn serve(worker: Rc<Worker>, socket: Arc<UdpSocket>, listener: Rc<ListenerHere>) {
    let (loaded, _) = listener.now();
    let Some(place) = loaded.prepared.crossings.of(listener.key).enter() else { return };
    drop(loaded);
    let number = place.number;
    let Ok(wire) = Wire::new(Arc::clone(&socket), place).map(Arc::new) else { return };
    let mut config = EndpointConfig::default();
    config.cid_generator(move || Box::new(Ids::of(number)));
    let base = server_config();
    let endpoint = Endpoint::new_with_abstract_socket(
        config,
        Some(base.clone()),
        Arc::<Wire>::clone(&wire),
        Arc::new(TokioRuntime),
    );
    let Ok(endpoint) = endpoint else { return };
    let handshakes = Rc::<Handshakes>::default();
    loop {
        let incoming = tokio::select! {
            biased;
            () = listener.closed() => break,
            incoming = endpoint.accept() => incoming,
        };
        // Its own task is gone: with the next turn of the listener there is another.
        let Some(incoming) = incoming else { return };
        let proven = incoming.remote_address_validated();
        if handshakes.all.get() >= QUIC_HANDSHAKES_MAX {
            incoming.refuse();
        } else if !proven && handshakes.unproven.get() >= QUIC_UNPROVEN_MAX && incoming.may_retry() {
            // It may, so this is no error.
            let _ = incoming.retry();
        } else {
            let handshake = Handshaking::begin(&handshakes, proven);
            take(&worker, &listener, &socket, incoming, &base, handshake);
        }
    }
    endpoint.set_server_config(None);
    if worker.is_succeeded() {
        endpoint.close(Code::NO_ERROR.number(), b"");
        wire.leave();
        last_turns().await;
    }
}

/// Lets quinn's own tasks say what they were told to.
async fn last_turns() {
    for _ in 0..LAST_TURNS {
        tokio::task::yield_now().await;
    }
}

/// Handshakes of one socket that are not over.
#[derive(Debug, Default)]
struct Handshakes {
    all: Cell<usize>,
    unproven: Cell<usize>,
}

#[derive(Debug)]
struct Handshaking {
    counts: Rc<Handshakes>,
    is_proven: bool,
}

impl Handshaking {
    fn begin(counts: &Rc<Handshakes>, is_proven: bool) -> Handshaking {
        counts.all.set(counts.all.get() + 1);
        counts.unproven.set(counts.unproven.get() + usize::from(!is_proven));
        Handshaking { counts: Rc::clone(counts), is_proven }
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        let Handshakes { all, unproven } = &*self.counts;
        all.set(all.get() - 1);
        unproven.set(unproven.get() - usize::from(!self.is_proven));
    }
}

fn take(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerHere>,
    socket: &Arc<UdpSocket>,
    incoming: Incoming,
    base: &ServerConfig,
    handshake: Handshaking,
) {
    let remote = incoming.remote_address();
    let Ok(mut local) = socket.local_addr() else { return };
    if let Some(ip) = incoming.local_ip() {
        local.set_ip(ip);
    }
    let seats = match accept::admit(worker, listener, remote) {
        Ok(seats) => seats,
        Err(why) => {
            accept::turn_away(worker, Some(local), remote, listener, why);
            return incoming.refuse();
        }
    };
    let (worker, listener, base) = (Rc::clone(worker), Rc::clone(listener), base.clone());
    tokio::task::spawn_local(async move {
        let _seats = seats;
        add(&worker.metrics.downstream.connections_total, 1);
        let open = worker.opened();
        let _alarm = Alarm::new(&worker, accept::FromClient(remote));
        serve_client(&worker, &open, &listener, incoming, base, (remote, local), handshake).await;
        last_turns().await;
    });
}

async fn serve_client(
    worker: &Rc<Worker>,
    open: &Open,
    listener: &Rc<ListenerHere>,
    incoming: Incoming,
    mut config: ServerConfig,
    (remote, local): (SocketAddr, SocketAddr),
    handshake: Handshaking,
) {
    let (loaded, at) = listener.now();
    let Some(settings) = loaded.snapshot.listeners.get(at).and_then(|listener| listener.quic) else { return };
    // It is asked once, and what it belongs to stays as long as the connection.
    let snapshot = Mutex::new(Some(loaded.snapshot.clone()));
    config.crypto = naru_tls::quic::quic(move |server_name| {
        let snapshot = snapshot.lock().ok()?.take()?;
        let chain = snapshot.chain_for(at, &arriving(local, server_name))?;
        snapshot.0.terminator(chain).cloned()
    });
    config.transport_config(Arc::new(transport(&settings)));
    let handshake_max = worker.reduced(Timed::TransportConnect, settings.handshake_timeout);
    let refused = || add(&worker.metrics.downstream.tls_errors, 1);
    let Ok(connecting) = incoming.accept_with(Arc::new(config)) else { return refused() };
    let connected = tokio::time::timeout(handshake_max, connecting).await;
    drop(handshake);
    let Ok(Ok(quic)) = connected else { return refused() };
    let agreed = quic.handshake_data().and_then(|data| naru_tls::quic::agreed(data, quic.peer_identity()));
    let Some((agreed, shown)) = agreed else { return refused() };
    let Some(chain) = loaded.snapshot.chain_for(at, &arriving(local, agreed.server_name.as_deref())) else {
        return;
    };
    let Ok(_in_chain) = loaded.prepared.count_in_chain(at, chain) else {
        worker.metrics.downstream.count_turned_away(TurnedAway::Listener);
        return quic.close(Code::NO_ERROR.number(), b"");
    };
    let is_certified = shown.is_some();
    let peer = Peer { remote, local, is_tls: true, is_certified, is_in_tunnel: false };
    let connection = Connection::begin(worker, listener, loaded, chain, peer).with_tls(agreed, shown);
    accept::serve_quic(Rc::new(connection), open, quic).await;
}

fn arriving(local: SocketAddr, server_name: Option<&str>) -> Arriving<'_> {
    Arriving { local: local.ip(), server_name, is_tls: true }
}

/// What holds of all connections of an endpoint.
fn server_config() -> ServerConfig {
    // Nobody is served by it: each connection has its own.
    let mut config = ServerConfig::with_crypto(naru_tls::quic::quic(|_| None));
    config
        .max_incoming(QUIC_HANDSHAKES_MAX)
        .incoming_buffer_size(UNHEARD_BYTES_MAX)
        .incoming_buffer_size_total(UNHEARD_BYTES_OF_ALL_MAX);
    config
}

fn transport(settings: &Quic) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // The largest that there is waits for ever, almost.
    let idle = IdleTimeout::try_from(settings.idle_timeout).unwrap_or_else(|_| VarInt::MAX.into());
    transport
        .max_concurrent_bidi_streams(settings.max_concurrent_streams.into())
        .max_concurrent_uni_streams(ONE_WAY_STREAMS_MAX.into())
        .stream_receive_window(settings.stream_window.into())
        .receive_window(settings.connection_window.into())
        .send_window(QUIC_WAITING_BYTES_MAX)
        .crypto_buffer_size(FIRST_MESSAGE_BYTES_MAX)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle));
    transport
}
