//! The client's side: requests in, responses out.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use naru_base::Reason;
use naru_journey::Chain;
use naru_spec::{Http2Limits, Http2Settings, PaceLimit};

use super::Answers;
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::stall::Stall;
use crate::worker::Worker;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Why a connection ended otherwise than in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// What the client sent is not HTTP, or more than is allowed. It was answered where it could be.
    Protocol(Reason),
    /// The connection broke, or was broken off.
    Broken,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The requests that have begun are finished, and no more are taken.
    Gently,
    /// The same, but a client of HTTP/1, who is told that the connection ends by a response only, may have sent a request
    /// before it could know: the next one is waited for, and is the last.
    Patiently,
    AtOnce,
}

/// What a connection begins with and keeps, whatever the configuration becomes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub(super) header_bytes_max: u32,
    pub(super) header_count_max: u32,
    pub(super) request_headers_timeout: Option<Duration>,
    /// Clients of HTTP/2 and HTTP/3 may ask for other protocols.
    pub(super) takes_extended: bool,
    pub(super) response_pace: Option<PaceLimit>,
    pub(super) http2: Http2Settings,
    pub(super) http2_limits: Http2Limits,
}

impl Terms {
    pub fn of(chain: &Chain) -> Terms {
        let http = &chain.http;
        Terms {
            takes_extended: chain.has_upgrades,
            header_bytes_max: http.header_bytes_max,
            header_count_max: http.header_count_max,
            request_headers_timeout: http.request_headers_timeout,
            response_pace: http.response_pace,
            http2: http.http2,
            http2_limits: http.http2_limits,
        }
    }
}

/// Serves one connection until it ends. `leave` is asked at every turn. A request that `stall` tells of is broken
/// off, and with it the connection (HTTP/1) or its stream (HTTP/2).
///
/// What is left of a connection of HTTP/1 is returned where it goes on as something else: a CONNECT was answered by 2xx,
/// or a request by 101.
pub async fn serve(
    client: Conduit,
    worker: &Rc<Worker>,
    protocol: Protocol,
    terms: Terms,
    answers: impl Answers + 'static,
    leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<Option<Conduit>, ServeError> {
    match protocol {
        Protocol::Http1 => super::http1::server::serve(client, worker, terms, &answers, leave, stall).await,
        Protocol::Http2 => {
            let client = Lingering::new(client, worker);
            // It is large.
            Box::pin(super::http2::server::serve(client, worker, terms, answers, leave, stall)).await?;
            Ok(None)
        }
    }
}
