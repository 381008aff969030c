//! How is a connection decided about whose bytes are passed through? By the same tables as a request.
//!
//! A chain of TCP becomes one of HTTP with a single rule that takes everything: the choice of a cluster, its endpoints,
//! limits and guards, another attempt where no connection can be made and the log need no second mechanism. What is
//! made here is never read by a codec; see [`crate::Journey::tcp`].

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};
use naru_route::Subject;
use naru_spec::{
    Action, Backoff, Domain, Forward, HeaderOps, Http, Match, RetryOn, RetryPolicy, RouteTable, Rule,
    TcpProxy, TlsRequirement, VirtualHost, defaults,
};

use crate::edge::Peer;
use crate::record::RequestLine;

/// A chain of HTTP that decides as the proxy says.
pub(crate) fn lowered(tcp: &TcpProxy) -> Http {
    let mut forward = Forward::to("");
    forward.clusters = tcp.clusters.clone();
    forward.timeout = None;
    forward.hash = tcp.hash.clone();
    forward.retry =
        tcp.attempts_max.checked_sub(1).filter(|retries| *retries > 0).map(|retries| RetryPolicy {
            retries_max: retries,
            backoff: Backoff::Fixed { wait: defaults::TCP_ATTEMPTS_WAIT, jitter_percent: 0 },
            ..RetryPolicy::new(RetryOn::CONNECT_FAILURE)
        });
    let rule = Rule {
        gate: Vec::new(),
        name: String::new(),
        origin: tcp.origin.clone(),
        matches: vec![Match::default()],
        action: Action::Forward(Box::new(forward)),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let host = VirtualHost {
        name: String::new(),
        domains: vec![Domain::Any],
        rules: vec![rule],
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let routes = RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
    let mut http = Http::new(tcp.stat_prefix.clone(), routes);
    http.stream_idle_timeout = tcp.idle_timeout;
    http.request_timeout = tcp.duration_max;
    http.access_log = tcp.access_log.clone();
    http
}

/// The one rule that its connections are decided by.
pub fn routes(tcp: &TcpProxy) -> RouteTable {
    lowered(tcp).routes
}

impl RequestLine {
    /// Of a connection that carries no requests: there is nothing of it to be said.
    pub fn none(peer: &Peer) -> RequestLine {
        RequestLine {
            method: Method::GET,
            path: PathAndQuery::from_static("/"),
            authority: None,
            scheme: peer.scheme(),
            version: Version::HTTP_09,
        }
    }
}

/// What rules look at.
pub fn subject<'a>(
    line: &'a RequestLine,
    headers: &'a HeaderMap,
    client: SocketAddr,
    draw: u64,
) -> Subject<'a> {
    Subject {
        method: &line.method,
        authority: "tcp",
        path: "/",
        query: None,
        scheme: line.scheme,
        headers,
        source: client.ip(),
        is_internal: false,
        draw,
        claims: None,
    }
}
