//! Asks the endpoints of one cluster whether they are well, when their guard says so.
//!
//! In come a guard's orders: ask this endpoint, wait no longer for that one. Out go answers, as
//! [`ProbeResult`]s. A probe is one task, at most one for each endpoint; all end with the prober.
//! What an answer means, when the next probe is due and when one has taken too long is the guard's
//! business (`naru_guard`), and so nothing here waits for a time.
//!
//! A probe goes by a connection of its own, secured as those of requests are. Where the check says
//! so, it is kept for the next probe; it is not where the probe was cancelled, where the connection
//! broke, and where it is made otherwise now. A kept one that has ended meanwhile is replaced by a
//! new one; in Envoy a TCP check fails then.
//!
//! Source: Envoy's `health_checker_impl.cc` of http, tcp and grpc.

mod grpc;
mod http;
mod tcp;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use naru_guard::{EndpointKey, ProbeResult};
use naru_journey::proxied;
use naru_spec::{HealthCheck, Http2Settings, Probe, ProxyVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::Connectors;
use crate::codec::Inquirer;
use crate::socket::Socket;
pub use grpc::fuzz;
pub use http::X_ENVOY_IMMEDIATE_FAIL;

/// Whom probes call themselves: `user-agent`. Envoy says `Envoy/HC`.
const USER_AGENT: &str = "naru/HC";

/// How the endpoints of a cluster are asked.
#[derive(Debug)]
pub struct ProbeSettings {
    pub check: HealthCheck,
    pub cluster: String,
    pub connectors: Option<Arc<Connectors>>,
    pub http2: Http2Settings,
    /// Connections begin with a header that says that they are our own.
    pub proxy_protocol: Option<ProxyVersion>,
}

impl ProbeSettings {
    /// Whether a connection that was made by these may be used by the others.
    pub fn is_same(&self, other: &ProbeSettings) -> bool {
        let is_secured_alike = match (&self.connectors, &other.connectors) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_secured_alike
            && self.check == other.check
            && self.cluster == other.cluster
            && self.http2 == other.http2
            && self.proxy_protocol == other.proxy_protocol
    }
}

/// Where an endpoint is asked.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Of a Unix socket.
    pub path: Option<String>,
}

/// What is under way, and what is kept for later.
#[derive(Debug, Default)]
pub struct Prober {
    probes: JoinSet<Answer>,
    running: BTreeMap<EndpointKey, (u32, AbortHandle)>,
    answers: VecDeque<Answer>,
    kept: BTreeMap<EndpointKey, Kept>,
}

/// What came of a probe.
#[derive(Debug)]
pub struct Answer {
    pub endpoint: EndpointKey,
    pub number: u32,
    pub result: ProbeResult,
    kept: Option<Kept>,
}

/// A connection that waits for the next probe.
#[derive(Debug)]
struct Kept {
    settings: Arc<ProbeSettings>,
    line: Line,
}

/// What a probe goes by.
#[derive(Debug)]
enum Line {
    Http(Inquirer),
    Tcp(Box<dyn Stream>),
}

/// Bytes both ways, plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Stream for S {}

impl Prober {
    /// Asks an endpoint.
    pub fn begin(
        &mut self,
        endpoint: EndpointKey,
        number: u32,
        address: Target,
        settings: &Arc<ProbeSettings>,
    ) {
        self.stop(endpoint);
        let is_made_alike = |kept: &Kept| Arc::ptr_eq(&kept.settings, settings);
        let kept = self.kept.remove(&endpoint).filter(is_made_alike).map(|kept| kept.line);
        let settings = Arc::clone(settings);
        let task = self.probes.spawn(async move {
            let (result, line) = ask(&settings, &address, kept).await;
            let line = line.filter(|_| settings.check.reuse_connection);
            Answer { endpoint, number, result, kept: line.map(|line| Kept { settings, line }) }
        });
        self.running.insert(endpoint, (number, task));
    }

    /// Nobody waits for this answer any longer.
    pub fn cancel(&mut self, endpoint: EndpointKey, number: u32) {
        if self.running.get(&endpoint).is_some_and(|(running, _)| *running == number) {
            self.stop(endpoint);
        }
    }

    fn stop(&mut self, endpoint: EndpointKey) {
        if let Some((_, task)) = self.running.remove(&endpoint) {
            task.abort();
        }
    }

    /// These are the endpoints now, and this is how they are asked. What was kept for others is let go.
    pub fn keep(&mut self, is_known: impl Fn(EndpointKey) -> bool, settings: Option<&Arc<ProbeSettings>>) {
        let is_same = |known: &Arc<ProbeSettings>| settings.is_some_and(|now| Arc::ptr_eq(now, known));
        self.kept.retain(|endpoint, kept| is_known(*endpoint) && is_same(&kept.settings));
        self.running.retain(|endpoint, (_, task)| {
            let is_known = settings.is_some() && is_known(*endpoint);
            if !is_known {
                task.abort();
            }
            is_known
        });
    }

    /// Waits until there may be an answer: for ever where nothing is under way.
    pub async fn wait(&mut self) {
        if !self.answers.is_empty() {
            return;
        }
        match self.probes.join_next().await {
            Some(Ok(answer)) => self.answers.push_back(answer),
            // A probe that was cancelled says nothing.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// An answer that is there.
    pub fn next_answer(&mut self) -> Option<Answer> {
        while let Some(joined) = self.probes.try_join_next() {
            self.answers.extend(joined);
        }
        while let Some(mut answer) = self.answers.pop_front() {
            let Answer { endpoint, number, .. } = answer;
            // One that was cancelled while it ended is no answer.
            if self.running.get(&endpoint).is_none_or(|(running, _)| *running != number) {
                continue;
            }
            self.running.remove(&endpoint);
            if let Some(kept) = answer.kept.take() {
                self.kept.insert(endpoint, kept);
            }
            return Some(answer);
        }
        None
    }
}

/// One probe, from its beginning to its end; and its connection, where that may carry another one.
async fn ask(settings: &ProbeSettings, address: &Target, kept: Option<Line>) -> (ProbeResult, Option<Line>) {
    let answered = match &settings.check.probe {
        Probe::Http(check) => http::ask(settings, check, address, kept).await,
        Probe::Tcp(check) => tcp::ask(settings, check, address, kept).await,
        Probe::Grpc(check) => grpc::ask(settings, check, address, kept).await,
    };
    answered.unwrap_or((ProbeResult::Broken, None))
}

/// What is offered where the endpoint is spoken to by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

async fn dial(settings: &ProbeSettings, address: &Target, speaks: Speaks) -> io::Result<Box<dyn Stream>> {
    let mut stream = match &address.path {
        Some(path) => Socket::connect_unix(path).await?,
        None => Socket::Tcp(TcpStream::connect(address.address).await?),
    };
    stream.set_nodelay()?;
    match settings.proxy_protocol {
        None => {}
        Some(ProxyVersion::V1) => stream.write_all(&proxied::line(None)).await?,
        Some(ProxyVersion::V2) => stream.write_all(&proxied::header(None)).await?,
    }
    let Some(connectors) = &settings.connectors else { return Ok(Box::new(stream)) };
    let connector = match speaks {
        Speaks::Http1 => &connectors.http1,
        Speaks::Http2 => &connectors.http2,
    };
    let (stream, _) = connector.connect(stream).await?;
    Ok(Box::new(stream))
}

/// Whether nothing has come by a connection that waits, and it has not ended.
fn is_quiet(stream: &mut dyn Stream) -> bool {
    let mut byte = [0];
    let mut read = ReadBuf::new(&mut byte);
    let polled = std::pin::Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut read);
    matches!(polled, Poll::Pending)
}
