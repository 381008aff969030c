//! A new connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use naru_base::{ClusterId, Reason};
use naru_journey::Stage;
use naru_spec::UpstreamProtocol;
use naru_tls::Connector;
use tokio::net::TcpStream;

use crate::cluster::{EndpointHere, EndpointShared, add};
use crate::codec::{Http1Client, Http2Client};
use crate::conduit::Conduit;
use crate::loaded::Loaded;
use crate::pool::{Http1Connection, Http2Connection, Http2Stream, Life};
use crate::worker::Worker;

/// A connection, or a place in one.
#[derive(Debug)]
pub enum Connected {
    Http1(Box<Http1Connection>),
    Http2(Http2Stream),
}

/// Why there is none.
#[derive(Debug)]
pub struct DialFailure {
    pub stage: Stage,
    pub reason: Reason,
    /// For `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub text: String,
}

/// What the upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Http1,
    Http2,
    Either,
}

impl Want {
    pub fn of(protocol: UpstreamProtocol, client_is_http2: bool) -> Want {
        match protocol {
            UpstreamProtocol::Http1 => Want::Http1,
            UpstreamProtocol::Http2 => Want::Http2,
            UpstreamProtocol::Alpn => Want::Either,
            UpstreamProtocol::Downstream if client_is_http2 => Want::Http2,
            UpstreamProtocol::Downstream => Want::Http1,
        }
    }
}

/// Makes a connection for one request. Those of HTTP/2 are left in the pool for others as well.
pub async fn dial(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    want: Want,
) -> Result<Connected, DialFailure> {
    if want != Want::Http2 {
        return connect(worker, loaded, cluster, endpoint, want).await;
    }
    // One connection carries many requests: whoever comes first makes it, in a task of its own, so
    // that it is there for the others even if that one leaves.
    let requests_max = loaded.snapshot.cluster(cluster).max_requests_per_connection;
    loop {
        let (shared, is_ours) = endpoint.pool.join_dial();
        if is_ours {
            let (worker, loaded, endpoint, shared) =
                (Rc::clone(worker), Rc::clone(loaded), Rc::clone(endpoint), Rc::clone(&shared));
            tokio::task::spawn_local(async move {
                let (place, failure) = match connect(&worker, &loaded, cluster, &endpoint, want).await {
                    Ok(Connected::Http2(stream)) => (Some(stream), None),
                    Ok(Connected::Http1(_)) => (None, None),
                    Err(failure) => (None, Some(failure.reason)),
                };
                endpoint.pool.end_dial(&shared, place, failure);
            });
        }
        if let Err(reason) = shared.wait().await {
            let stage = if reason == Reason::UpstreamTls { Stage::Secure } else { Stage::Connect };
            return Err(DialFailure { stage, reason, text: String::new() });
        }
        // Who made it has a place in it, even where the upstream takes no streams yet: so nobody
        // dials more than once.
        if is_ours && let Some(stream) = shared.take_place() {
            return Ok(Connected::Http2(stream));
        }
        if let Some(stream) = endpoint.pool.take_http2(worker, requests_max) {
            return Ok(Connected::Http2(stream));
        }
    }
}

async fn connect(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    want: Want,
) -> Result<Connected, DialFailure> {
    let shared = endpoint.shared();
    let established = establish(worker, loaded, cluster, endpoint, &shared, want);
    within_limit(loaded, cluster, &shared, established).await
}

/// A connection of a tunnel.
#[derive(Debug)]
pub struct Wire {
    pub conduit: Conduit,
    pub local: Option<SocketAddr>,
    /// Counts it at its endpoint, if it is to one.
    pub life: Option<Life>,
}

/// Makes a connection for bytes that are none of ours to read. Where they are TLS already, none is put around them.
pub async fn dial_wire(
    loaded: &Loaded,
    cluster: ClusterId,
    endpoint: &EndpointHere,
    is_secured: bool,
) -> Result<Wire, DialFailure> {
    let shared = endpoint.shared();
    let established = async {
        let stream = connect_tcp(shared.address).await?;
        let local = stream.local_addr().ok();
        let connectors = loaded.clusters.get(cluster).connectors.as_ref().filter(|_| !is_secured);
        let conduit = match connectors {
            None => Conduit::plain(stream),
            Some(connectors) => secure(stream, &connectors.http1).await?.0,
        };
        let life = Life::begin(&loaded.clusters.get(cluster).stats, &shared);
        Ok(Wire { conduit, local, life: Some(life) })
    };
    within_limit(loaded, cluster, &shared, established).await
}

/// Waits no longer than the cluster allows, and counts what fails.
async fn within_limit<T>(
    loaded: &Loaded,
    cluster: ClusterId,
    shared: &EndpointShared,
    established: impl Future<Output = Result<T, DialFailure>>,
) -> Result<T, DialFailure> {
    let limit = loaded.snapshot.cluster(cluster).connect_timeout;
    let result = match tokio::time::timeout(limit, established).await {
        Ok(result) => result,
        Err(_) => {
            add(&loaded.clusters.get(cluster).stats.connect_timeouts, 1);
            Err(DialFailure::timeout())
        }
    };
    if result.is_err() {
        add(&loaded.clusters.get(cluster).stats.connect_failures, 1);
        shared.counts.connect_failures_total.fetch_add(1, Ordering::Relaxed);
    }
    result
}

async fn establish(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    shared: &EndpointShared,
    want: Want,
) -> Result<Connected, DialFailure> {
    let stream = connect_tcp(shared.address).await?;
    let local = stream.local_addr().ok();
    let mut is_http2 = want == Want::Http2;
    let conduit = match &loaded.clusters.get(cluster).connectors {
        None => Conduit::plain(stream),
        Some(connectors) => {
            let connector = match want {
                Want::Http1 => &connectors.http1,
                Want::Http2 => &connectors.http2,
                Want::Either => &connectors.either,
            };
            let (conduit, alpn) = secure(stream, connector).await?;
            if want == Want::Either {
                is_http2 = alpn.as_deref() == Some(b"h2");
            }
            conduit
        }
    };
    let at_start = |reason| DialFailure { stage: Stage::Connect, reason, text: String::new() };
    let life = Life::begin(&loaded.clusters.get(cluster).stats, shared);
    if !is_http2 {
        let client = Http1Client::start(conduit).await.map_err(at_start)?;
        return Ok(Connected::Http1(Http1Connection::new(client, local, life)));
    }
    let settings = loaded.snapshot.cluster(cluster);
    let client = Http2Client::start(conduit, settings.http2, Rc::new(life)).await.map_err(at_start)?;
    let connection = Http2Connection::new(client, local, worker.clock.now());
    let stream = connection.stream(worker);
    endpoint.pool.put_http2(&connection, settings.max_requests_per_connection);
    worker.look_after_pools();
    Ok(Connected::Http2(stream))
}

pub async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, DialFailure> {
    let at_connect = |error: io::Error| DialFailure {
        stage: Stage::Connect,
        reason: Reason::ConnectFailure,
        text: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(at_connect)?;
    stream.set_nodelay(true).map_err(at_connect)?;
    Ok(stream)
}

/// With the protocol that was agreed on, if one was.
async fn secure(stream: TcpStream, connector: &Connector) -> Result<(Conduit, Option<Vec<u8>>), DialFailure> {
    let (stream, handshake) = connector.connect(stream).await.map_err(|error| DialFailure {
        stage: Stage::Secure,
        reason: Reason::UpstreamTls,
        text: format!("TLS_error: {error}"),
    })?;
    Ok((Conduit::client(stream), handshake.alpn))
}

impl DialFailure {
    pub fn timeout() -> DialFailure {
        DialFailure {
            stage: Stage::Connect,
            reason: Reason::ConnectTimeout,
            text: "connect timeout".to_owned(),
        }
    }
}
