//! A new connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use naru_base::{ClusterId, Reason};
use naru_journey::Stage;
use naru_journey::proxied::{self, Ends};
use naru_spec::overload::Relief;
use naru_spec::{Address, Cluster, ProxyVersion, UpstreamProtocol};
use naru_tls::Connector;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{EndpointHere, EndpointShared, add};
use crate::codec::{Http1Client, Http2Client};
use crate::conduit::Conduit;
use crate::eyeballs::connect_first;
use crate::limited::Slot;
use crate::loaded::Loaded;
use crate::pool::{Http1Connection, Http2Connection, Http2Stream, Life, SharedDial};
use crate::socket::Socket;
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

/// A connection that the pool has, where nobody has waited for one longer.
#[inline]
pub fn take_from_pool(
    worker: &Rc<Worker>,
    endpoint: &EndpointHere,
    want: Want,
    settings: &Cluster,
) -> Option<Connected> {
    if endpoint.pool.line.is_empty() { take_next(worker, endpoint, want, settings) } else { None }
}

fn take_next(
    worker: &Rc<Worker>,
    endpoint: &EndpointHere,
    want: Want,
    settings: &Cluster,
) -> Option<Connected> {
    if want != Want::Http2
        && let Some(connection) = endpoint.pool.take_http1(settings, worker)
    {
        return Some(Connected::Http1(connection));
    }
    if want != Want::Http1 {
        return endpoint.pool.take_http2(worker, settings).map(Connected::Http2);
    }
    None
}

/// Makes a connection for one request, or waits for one where no more may be made; says whether it has served
/// others. Those of HTTP/2 are left in the pool for others as well.
pub async fn dial(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    want: Want,
    is_fresh: bool,
    ends: Option<Ends>,
) -> Result<(Connected, bool), DialFailure> {
    let settings = loaded.snapshot.cluster(cluster);
    if worker.strain.is_called_for() {
        let draw = loaded.core.borrow_mut().draw_request();
        if worker.strain.gives_up(&Relief::ShedUpstreamConnection, draw) {
            return Err(DialFailure::refused(Reason::Overflow));
        }
    }
    let _pending =
        loaded.clusters.get(cluster).limited.wait(&settings.limits).map_err(DialFailure::refused)?;
    if want != Want::Http2 {
        return match next(worker, loaded, cluster, endpoint, want, is_fresh).await? {
            Next::Connected(connected) => Ok((connected, true)),
            Next::Slot(slot) => {
                Ok((connect(worker, loaded, cluster, endpoint, want, slot, ends).await?, false))
            }
        };
    }
    // One connection carries many requests: whoever comes first makes it, in a task of its own, so
    // that it is there for the others even if that one leaves.
    loop {
        let mut leave = None;
        // Those who stand in line came before.
        if !endpoint.pool.is_dialling() || !endpoint.pool.line.is_empty() {
            match next(worker, loaded, cluster, endpoint, want, is_fresh).await? {
                Next::Connected(connected) => return Ok((connected, !is_fresh)),
                Next::Slot(slot) => leave = Some(slot),
            }
        }
        let (shared, is_new) = endpoint.pool.join_dial();
        let is_ours = is_new && leave.is_some();
        if let Some(slot) = leave.filter(|_| is_new) {
            let (worker, loaded, endpoint, shared) =
                (Rc::clone(worker), Rc::clone(loaded), Rc::clone(endpoint), Rc::clone(&shared));
            tokio::task::spawn_local(async move {
                let outcome = (None, Some(Reason::ConnectFailure));
                let mut dial = SharedDialling { endpoint: Rc::clone(&endpoint), shared, outcome };
                dial.outcome = match connect(&worker, &loaded, cluster, &endpoint, want, slot, None).await {
                    Ok(Connected::Http2(stream)) => (Some(stream), None),
                    Ok(Connected::Http1(_)) => (None, None),
                    Err(failure) => (None, Some(failure.reason)),
                };
            });
        }
        if let Err(reason) = shared.wait().await {
            let stage = if reason == Reason::UpstreamTls { Stage::Secure } else { Stage::Connect };
            return Err(DialFailure { stage, reason, text: String::new() });
        }
        // Who made it has a place in it, even where the upstream takes no streams yet: so nobody
        // dials more than once.
        if is_ours && let Some(stream) = shared.take_place() {
            return Ok((Connected::Http2(stream), false));
        }
        if let Some(stream) = endpoint.pool.take_http2(worker, settings) {
            return Ok((Connected::Http2(stream), false));
        }
    }
}

/// Makes a connection for all who wait for it, who hear what became of it, be it that this panics.
struct SharedDialling {
    endpoint: Rc<EndpointHere>,
    shared: Rc<SharedDial>,
    outcome: (Option<Http2Stream>, Option<Reason>),
}

impl Drop for SharedDialling {
    fn drop(&mut self) {
        let (place, failure) = std::mem::take(&mut self.outcome);
        self.endpoint.pool.end_dial(&self.shared, place, failure);
    }
}

/// What a request that needs a connection comes to.
enum Next {
    Connected(Connected),
    /// It may make one.
    Slot(Slot),
}

/// Waits for leave to make a connection, or for one that is free before.
async fn next(
    worker: &Rc<Worker>,
    loaded: &Loaded,
    cluster: ClusterId,
    endpoint: &EndpointHere,
    want: Want,
    is_fresh: bool,
) -> Result<Next, DialFailure> {
    let settings = loaded.snapshot.cluster(cluster);
    let (line, limited) = (&endpoint.pool.line, &loaded.clusters.get(cluster).limited);
    let counts = Arc::clone(&endpoint.shared().counts);
    let connect = || limited.connect(&settings.limits, &counts, line).map(Next::Slot);
    let look = || {
        if !is_fresh {
            let free = take_next(worker, endpoint, want, settings).map(Next::Connected);
            return free.or_else(connect);
        }
        loop {
            let leave = connect();
            // One that has served others must not be used: it makes room for another.
            if leave.is_some() || !endpoint.pool.close_one() {
                return leave;
            }
        }
    };
    if line.is_empty()
        && let Some(found) = look()
    {
        return Ok(found);
    }
    line.wait(look).await
}

async fn connect(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    want: Want,
    slot: Slot,
    ends: Option<Ends>,
) -> Result<Connected, DialFailure> {
    let shared = endpoint.shared();
    let established = establish(worker, loaded, cluster, endpoint, &shared, want, slot, ends);
    let result = within_limit(loaded, cluster, &shared, established).await;
    if let Err(failure) = &result {
        endpoint.pool.line.fail(failure);
    }
    result
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
    ends: Ends,
) -> Result<Wire, DialFailure> {
    let shared = endpoint.shared();
    let settings = loaded.snapshot.cluster(cluster);
    // Nothing is given back that it could wait for.
    let slot = loaded.clusters.get(cluster).limited.connect_alone(&settings.limits, &shared.counts);
    let slot = slot.ok_or_else(|| DialFailure::refused(Reason::Overflow))?;
    let established = async {
        let mut stream = reach(loaded, &shared).await?;
        keep_alive(&stream, settings)?;
        introduce(&mut stream, settings.proxy_protocol, Some(ends)).await?;
        let local = stream.local_addr().ok();
        let connectors = loaded.clusters.get(cluster).connectors.as_ref().filter(|_| !is_secured);
        let conduit = match connectors {
            None => Conduit::plain(stream),
            Some(connectors) => secure(stream, &connectors.http1).await?.0,
        };
        let life = Life::begin(&loaded.clusters.get(cluster).stats, slot);
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

#[expect(clippy::too_many_arguments, reason = "this is all that a connection is made by")]
async fn establish(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    endpoint: &Rc<EndpointHere>,
    shared: &EndpointShared,
    want: Want,
    slot: Slot,
    ends: Option<Ends>,
) -> Result<Connected, DialFailure> {
    let settings = loaded.snapshot.cluster(cluster);
    let mut stream = reach(loaded, shared).await?;
    keep_alive(&stream, settings)?;
    introduce(&mut stream, settings.proxy_protocol, ends).await?;
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
    let life = Life::begin(&loaded.clusters.get(cluster).stats, slot);
    let now = worker.clock.now();
    if !is_http2 {
        let client = Http1Client::start(conduit);
        return Ok(Connected::Http1(Http1Connection::new(client, local, life, now)));
    }
    let keepalive = settings.limits.http2_keepalive;
    let client = Http2Client::start(conduit, worker, settings.http2, keepalive, life);
    let connection = Http2Connection::new(client, local, &endpoint.pool.line, now);
    let stream = connection.stream(worker);
    endpoint.pool.put_http2(&connection, settings, now);
    worker.look_after_pools();
    Ok(Connected::Http2(stream))
}

/// By the address of an endpoint, or by whichever of its addresses answers first.
async fn reach(loaded: &Loaded, shared: &EndpointShared) -> Result<Socket, DialFailure> {
    if let Address::Pipe(path) = &shared.settings.address {
        return Box::pin(Socket::connect_unix(path)).await.map_err(DialFailure::broken);
    }
    if shared.addresses.is_empty() {
        return connect_tcp(shared.address).await.map(Socket::Tcp);
    }
    let origin = loaded.prepared.origin;
    let first = connect_first(origin, &shared.addresses, DialFailure::timeout());
    // It is boxed so that those with one address need no room for it.
    Box::pin(first).await.map(|(stream, _)| Socket::Tcp(stream))
}

pub async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, DialFailure> {
    let stream = TcpStream::connect(address).await.map_err(DialFailure::broken)?;
    stream.set_nodelay(true).map_err(DialFailure::broken)?;
    Ok(stream)
}

/// Says for whom the connection was made, where that is asked for; without ends it is our own.
pub async fn introduce(
    stream: &mut (impl AsyncWrite + Unpin),
    version: Option<ProxyVersion>,
    ends: Option<Ends>,
) -> Result<(), DialFailure> {
    let header = match version {
        None => return Ok(()),
        Some(ProxyVersion::V1) => proxied::line(ends),
        Some(ProxyVersion::V2) => proxied::header(ends),
    };
    stream.write_all(&header).await.map_err(DialFailure::broken)?;
    stream.flush().await.map_err(DialFailure::broken)
}

/// The operating system asks a silent endpoint whether it is still there, where the cluster wants it to.
fn keep_alive(stream: &Socket, settings: &Cluster) -> Result<(), DialFailure> {
    let (Some(wanted), Socket::Tcp(stream)) = (settings.limits.tcp_keepalive, stream) else { return Ok(()) };
    let keepalive =
        TcpKeepalive::new().with_time(wanted.time).with_interval(wanted.interval).with_retries(wanted.probes);
    SockRef::from(stream).set_tcp_keepalive(&keepalive).map_err(DialFailure::broken)
}

/// With the protocol that was agreed on, if one was.
async fn secure(stream: Socket, connector: &Connector) -> Result<(Conduit, Option<Vec<u8>>), DialFailure> {
    let (stream, handshake) = connector.connect(stream).await.map_err(|error| DialFailure {
        stage: Stage::Secure,
        reason: Reason::UpstreamTls,
        text: format!("TLS_error: {error}"),
    })?;
    Ok((Conduit::client(stream), handshake.alpn))
}

impl DialFailure {
    /// None was tried.
    fn refused(reason: Reason) -> DialFailure {
        DialFailure { stage: Stage::Connect, reason, text: String::new() }
    }

    /// No connection came to be, or it broke at once.
    fn broken(error: io::Error) -> DialFailure {
        DialFailure { stage: Stage::Connect, reason: Reason::ConnectFailure, text: error.to_string() }
    }

    pub fn timeout() -> DialFailure {
        DialFailure {
            stage: Stage::Connect,
            reason: Reason::ConnectTimeout,
            text: "connect timeout".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::{Address, Endpoint};

    use super::*;
    use crate::cluster::EndpointShared;
    use crate::contain;

    #[tokio::test]
    async fn whoever_waits_for_a_connection_hears_that_its_dial_has_panicked() {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let endpoint = EndpointHere::new(Arc::new(EndpointShared {
            address,
            addresses: Box::default(),
            host_name: "".into(),
            settings: Endpoint::new(Address::Socket(address)),
            counts: Arc::default(),
        }));
        let (shared, is_new) = endpoint.pool.join_dial();
        let (joined, is_another) = endpoint.pool.join_dial();
        assert!(is_new && !is_another && endpoint.pool.is_dialling());
        let outcome = (None, Some(Reason::ConnectFailure));
        let dial = SharedDialling { endpoint: Rc::clone(&endpoint), shared, outcome };
        let (waited, ()) = tokio::join!(joined.wait(), async {
            let is_whole = contain::attempt(|| {
                let _dial = dial;
                panic!("while it dials");
            });
            assert!(!is_whole);
        });
        assert_eq!(waited, Err(Reason::ConnectFailure));
        assert!(!endpoint.pool.is_dialling(), "the next one dials anew");
        assert!(endpoint.pool.join_dial().1);
    }
}
