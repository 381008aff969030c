//! What is written down about a request: format strings, filled in.
//!
//! A [`Plan`] knows which headers the formats of a chain ask for, so that only those are kept while
//! the request's own headers travel on. [`Facts`] is everything known at the moment of writing;
//! what is not known yet, or never came to be, prints as `-` in a log and as nothing in a header.

mod form;

use std::net::SocketAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::text::number as write_number;
use naru_base::{Instant, IpText, Times, WallTime};
use naru_spec::format::{GrpcStatusForm, TimePiece};
use naru_spec::{
    AccessLog, Action, ClusterChoice, Format, HeaderOps, JsonField, LogFormat, Operator, Piece, RouteTable,
    Scheme,
};

use crate::Outcome;
use crate::edge::Peer;

pub use form::{Form, Known};

/// What the access logs of a chain need to be kept.
#[derive(Debug, Default)]
pub struct Plan {
    request: Vec<HeaderName>,
    response: Vec<HeaderName>,
    trailers: Vec<HeaderName>,
}

impl Plan {
    /// For these logs, and for the header operations of responses in these routes: they may ask for
    /// headers of the request, which are gone by then.
    pub fn of(logs: &[AccessLog], routes: &RouteTable) -> Plan {
        let mut plan = Plan::default();
        plan.add_ops(&routes.response_headers);
        for host in &routes.virtual_hosts {
            plan.add_ops(&host.response_headers);
            for rule in &host.rules {
                plan.add_ops(&rule.response_headers);
                if let Action::Forward(forward) = &rule.action
                    && let ClusterChoice::Weighted(clusters) = &forward.clusters
                {
                    clusters.iter().for_each(|cluster| plan.add_ops(&cluster.response_headers));
                }
            }
        }
        for log in logs {
            match &log.format {
                LogFormat::Text(format) => plan.add(format),
                LogFormat::Json(fields) => fields.iter().for_each(|(_, field)| plan.add_field(field)),
            }
        }
        plan
    }

    fn add_ops(&mut self, ops: &HeaderOps) {
        for op in &ops.add {
            self.add(&op.value);
        }
    }

    fn add_field(&mut self, field: &JsonField) {
        match field {
            JsonField::Value(format) => self.add(format),
            JsonField::Object(fields) => fields.iter().for_each(|(_, field)| self.add_field(field)),
            JsonField::List(fields) => fields.iter().for_each(|field| self.add_field(field)),
            JsonField::Literal(_) => {}
        }
    }

    fn add(&mut self, format: &Format) {
        for operator in format.operators() {
            let (list, name, alternative) = match operator {
                Operator::RequestHeader { name, alternative } => (&mut self.request, name, alternative),
                Operator::ResponseHeader { name, alternative } => (&mut self.response, name, alternative),
                Operator::Trailer { name, alternative } => (&mut self.trailers, name, alternative),
                _ => continue,
            };
            for name in [Some(name), alternative.as_ref()].into_iter().flatten() {
                // Pseudo headers are no header names, and are known anyway.
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                    && !list.contains(&name)
                {
                    list.push(name);
                }
            }
        }
    }

    #[inline]
    pub fn keep_request(&self, headers: &HeaderMap) -> Kept {
        Kept::of(&self.request, headers)
    }

    #[inline]
    pub fn keep_response(&self, headers: &HeaderMap) -> Kept {
        Kept::of(&self.response, headers)
    }

    #[inline]
    pub fn keep_trailers(&self, headers: &HeaderMap) -> Kept {
        Kept::of(&self.trailers, headers)
    }
}

/// Some headers of a message that has moved on.
#[derive(Debug, Default)]
pub struct Kept(Vec<(HeaderName, HeaderValue)>);

impl Kept {
    #[inline]
    fn of(names: &[HeaderName], headers: &HeaderMap) -> Kept {
        if names.is_empty() { Kept::default() } else { Kept::gather(names, headers) }
    }

    fn gather(names: &[HeaderName], headers: &HeaderMap) -> Kept {
        let mut kept = Vec::with_capacity(names.len());
        // To go over the headers once costs less than to look each name up.
        for (name, value) in headers {
            if names.contains(name) && !kept.iter().any(|(known, _)| known == name) {
                kept.push((name.clone(), value.clone()));
            }
        }
        Kept(kept)
    }
}

/// Headers, whole or kept in part.
pub trait Lookup {
    fn get(&self, name: &str) -> Option<&[u8]>;
}

impl Lookup for HeaderMap {
    fn get(&self, name: &str) -> Option<&[u8]> {
        HeaderMap::get(self, name).map(HeaderValue::as_bytes)
    }
}

impl Lookup for Kept {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.as_bytes())
    }
}

impl Lookup for () {
    fn get(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// The first line of a request: as it came in, and from its sending on as it was sent.
#[derive(Clone, Debug)]
pub struct RequestLine {
    pub method: Method,
    pub path: PathAndQuery,
    pub authority: Option<HeaderValue>,
    pub scheme: Scheme,
    pub version: Version,
}

/// The same, to be written down.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub authority: Option<&'a [u8]>,
    pub scheme: Scheme,
    pub version: Version,
}

impl RequestLine {
    #[inline]
    pub fn view(&self) -> Line<'_> {
        Line {
            method: self.method.as_str(),
            path: self.path.as_str(),
            authority: self.authority.as_ref().map(HeaderValue::as_bytes),
            scheme: self.scheme,
            version: self.version,
        }
    }
}

impl Line<'_> {
    /// Whether there is none: see [`RequestLine::none`].
    fn is_none(&self) -> bool {
        self.version == Version::HTTP_09
    }
}

/// Addresses that many lines have, as they are written, with their ports.
#[derive(Clone, Debug)]
pub struct Addresses([(SocketAddr, Box<[u8]>); 2]);

impl Addresses {
    pub fn of(addresses: [SocketAddr; 2]) -> Addresses {
        Addresses(addresses.map(|of| {
            let mut text = Vec::new();
            write_address(of, true, &mut text);
            (of, text.into_boxed_slice())
        }))
    }

    #[inline]
    fn find(&self, address: SocketAddr) -> Option<&[u8]> {
        self.0.iter().find(|(of, _)| *of == address).map(|(_, text)| &**text)
    }
}

/// Everything that can be written about a request at one moment.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it is made of views that print nothing of their own")]
pub struct Facts<'a> {
    pub line: Line<'a>,
    pub request: &'a dyn Lookup,
    pub response: &'a dyn Lookup,
    pub trailers: &'a dyn Lookup,
    pub began: WallTime,
    /// Who writes it.
    pub times: &'a Times,
    /// Once there is a response, and at the end.
    pub outcome: Option<&'a Outcome>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub peer: &'a Peer,
    /// Those of the connection, where it has written them before.
    pub addresses: Option<&'a Addresses>,
    /// Who is at the other end of the wire, whoever it speaks for.
    pub direct: SocketAddr,
    /// The trusted client address.
    pub client: SocketAddr,
    pub server_name: Option<&'a str>,
    pub tls_version: Option<&'a str>,
    pub route: &'a str,
    pub route_origin: &'a str,
    pub virtual_host: &'a str,
    pub cluster: Option<&'a str>,
    pub upstream: Option<SocketAddr>,
    /// Of a Unix socket that is the upstream.
    pub upstream_path: Option<&'a str>,
    /// Our end of the upstream's connection.
    pub upstream_local: Option<SocketAddr>,
    pub upstream_failure: Option<&'a str>,
    /// Of a check that refused it.
    pub details: Option<&'a str>,
    pub connection: u64,
    pub stream: u64,
    pub host_name: &'a str,
}

/// Appends a format for a log: what is not known is `-`.
pub fn fill(format: &Format, facts: &Facts<'_>, out: &mut Vec<u8>) {
    write(format, facts, b"-", out);
}

/// Appends a format for a header: what is not known is nothing.
pub fn fill_header(format: &Format, facts: &Facts<'_>, out: &mut Vec<u8>) {
    write(format, facts, b"", out);
}

fn write(format: &Format, facts: &Facts<'_>, absent: &[u8], out: &mut Vec<u8>) {
    for piece in format.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Operator { operator, length_max } => {
                let from = out.len();
                if !write_operator(operator, facts, out) {
                    out.truncate(from);
                    out.extend_from_slice(absent);
                }
                if let Some(length) = length_max {
                    out.truncate(from + length);
                }
            }
        }
    }
}

/// Appends the value; `false` where there is none, with `out` in any state behind its old end.
fn write_operator(operator: &Operator, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
    let outcome = facts.outcome;
    match operator {
        Operator::RequestHeader { name, alternative } => {
            write_request_header(name, facts, out)
                || alternative.as_ref().is_some_and(|name| write_request_header(name, facts, out))
        }
        Operator::ResponseHeader { name, alternative } => {
            write_response_header(name, facts, out)
                || alternative.as_ref().is_some_and(|name| write_response_header(name, facts, out))
        }
        Operator::Trailer { name, alternative } => {
            write_header(facts.trailers, name, out)
                || alternative.as_ref().is_some_and(|name| write_header(facts.trailers, name, out))
        }
        Operator::StartTime(None) => {
            facts.times.write(facts.began, out);
            true
        }
        Operator::StartTime(Some(format)) => {
            write_formatted_time(format.pieces(), facts.began, out);
            true
        }
        Operator::Protocol => !facts.line.is_none() && text(out, protocol(facts.line.version)),
        Operator::ResponseCode => number(out, outcome.map_or(0, |o| u64::from(o.status))),
        Operator::ResponseCodeDetails => {
            outcome.is_some_and(|o| text(out, facts.details.unwrap_or_else(|| o.reason.details())))
        }
        Operator::ResponseFlags => text(out, outcome.map_or("-", Outcome::flags)),
        Operator::Reason => outcome.is_some_and(|o| text(out, o.reason.name())),
        Operator::BytesReceived => number(out, facts.bytes_received),
        Operator::BytesSent => number(out, facts.bytes_sent),
        Operator::Duration => span(out, outcome.map(|o| (o.began, o.ended))),
        Operator::RequestDuration => span(out, outcome.and_then(|o| Some((o.began, o.request_ended?)))),
        Operator::ResponseDuration => span(out, outcome.and_then(|o| Some((o.began, o.head?)))),
        Operator::ResponseTxDuration => span(out, outcome.and_then(|o| Some((o.head?, o.ended)))),
        Operator::RouteName => text(out, facts.route),
        Operator::RouteOrigin => text(out, facts.route_origin),
        Operator::VirtualHostName => text(out, facts.virtual_host),
        Operator::UpstreamHost => match facts.upstream_path {
            Some(path) if facts.upstream.is_some() => text(out, path),
            _ => facts.upstream.is_some_and(|upstream| address(facts, upstream, true, out)),
        },
        Operator::UpstreamCluster | Operator::UpstreamClusterRaw => {
            facts.cluster.is_some_and(|name| text(out, name))
        }
        Operator::UpstreamLocalAddress => {
            facts.upstream_local.is_some_and(|local| address(facts, local, true, out))
        }
        Operator::ConnectionTerminationDetails => false,
        Operator::UpstreamTransportFailureReason => facts.upstream_failure.is_some_and(|why| text(out, why)),
        Operator::UpstreamRequestAttemptCount => number(out, outcome.map_or(1, |o| u64::from(o.attempts))),
        Operator::DownstreamRemoteAddress { port } => address(facts, facts.client, *port, out),
        Operator::DownstreamDirectRemoteAddress { port } => address(facts, facts.direct, *port, out),
        Operator::DownstreamLocalAddress { port } => address(facts, facts.peer.local, *port, out),
        Operator::DownstreamLocalPort => number(out, u64::from(facts.peer.local.port())),
        Operator::DownstreamTlsVersion => facts.tls_version.is_some_and(|version| text(out, version)),
        Operator::RequestedServerName => facts.server_name.is_some_and(|name| text(out, name)),
        Operator::GrpcStatus(form) => {
            outcome.and_then(|o| o.grpc_status).is_some_and(|status| write_grpc_status(*form, status, out))
        }
        Operator::GrpcStatusNumber => {
            outcome.and_then(|o| o.grpc_status).is_some_and(|status| number(out, u64::from(status)))
        }
        Operator::ConnectionId => number(out, facts.connection),
        Operator::StreamId => number(out, facts.stream),
        Operator::Hostname => text(out, facts.host_name),
    }
}

fn write_request_header(name: &str, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
    if facts.line.is_none() {
        return false;
    }
    match name {
        ":method" => text(out, facts.line.method),
        ":path" => text(out, facts.line.path),
        ":scheme" => text(out, facts.line.scheme.as_str()),
        ":authority" | "host" => facts.line.authority.is_some_and(|value| {
            out.extend_from_slice(value);
            true
        }),
        name => write_header(facts.request, name, out),
    }
}

fn write_response_header(name: &str, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
    match (name, facts.outcome) {
        (":status", Some(outcome)) if outcome.status != 0 => number(out, u64::from(outcome.status)),
        _ => write_header(facts.response, name, out),
    }
}

fn write_header(headers: &dyn Lookup, name: &str, out: &mut Vec<u8>) -> bool {
    let Some(value) = headers.get(name) else { return false };
    out.extend_from_slice(value);
    true
}

fn text(out: &mut Vec<u8>, text: &str) -> bool {
    out.extend_from_slice(text.as_bytes());
    !text.is_empty()
}

fn number(out: &mut Vec<u8>, value: u64) -> bool {
    write_number(out, value);
    true
}

/// A number with leading zeros.
fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let from = out.len();
    out.resize(from + width, b'0');
    let mut left = value;
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Whole milliseconds between two moments.
fn span(out: &mut Vec<u8>, moments: Option<(Instant, Instant)>) -> bool {
    moments.is_some_and(|(from, to)| number(out, to.since(from).as_millis() as u64))
}

fn address(facts: &Facts<'_>, address: SocketAddr, with_port: bool, out: &mut Vec<u8>) -> bool {
    match facts.addresses.and_then(|known| known.find(address)) {
        Some(text) if with_port => out.extend_from_slice(text),
        _ => write_address(address, with_port, out),
    }
    true
}

pub(crate) fn write_address(address: SocketAddr, with_port: bool, out: &mut Vec<u8>) {
    use std::io::Write as _;
    match address {
        // A vector takes everything.
        SocketAddr::V6(address) if with_port => drop(write!(out, "{address}")),
        _ => {
            out.extend_from_slice(IpText::of(address.ip()).as_bytes());
            if with_port {
                out.push(b':');
                write_number(out, u64::from(address.port()));
            }
        }
    }
}

pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// A time as logs have it: UTC, RFC 3339, with milliseconds.
pub fn time(time: WallTime) -> String {
    let mut out = Vec::new();
    Times::default().write(time, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn write_formatted_time(pieces: &[TimePiece], time: WallTime, out: &mut Vec<u8>) {
    let c = time.civil();
    for piece in pieces {
        match piece {
            TimePiece::Text(literal) => out.extend_from_slice(literal.as_bytes()),
            TimePiece::Year => padded(out, c.year, 4),
            TimePiece::Month => padded(out, u64::from(c.month), 2),
            TimePiece::Day => padded(out, u64::from(c.day), 2),
            TimePiece::Hour => padded(out, u64::from(c.hour), 2),
            TimePiece::Minute => padded(out, u64::from(c.minute), 2),
            TimePiece::Second => padded(out, u64::from(c.second), 2),
            TimePiece::Epoch => drop(number(out, time.0 / 1_000_000_000)),
            TimePiece::Fraction(digits) => {
                let digits = u32::from(*digits);
                padded(out, time.0 % 1_000_000_000 / 10u64.pow(9 - digits), digits as usize);
            }
            TimePiece::Offset => out.extend_from_slice(b"+0000"),
            TimePiece::Zone => out.extend_from_slice(b"UTC"),
        }
    }
}

/// The names of gRPC's status codes, in camel and in snake case.
const GRPC_NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

fn write_grpc_status(form: GrpcStatusForm, status: u8, out: &mut Vec<u8>) -> bool {
    let name = GRPC_NAMES.get(usize::from(status));
    match (form, name) {
        (GrpcStatusForm::Camel, Some((camel, _))) => text(out, camel),
        (GrpcStatusForm::Snake, Some((_, snake))) => text(out, snake),
        (GrpcStatusForm::Number, _) | (_, None) => number(out, u64::from(status)),
    }
}
