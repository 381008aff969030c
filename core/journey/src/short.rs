//! Which requests may be answered from memory the short way, and what does the edge make of one of them?
//!
//! Most answers from memory go to requests that say nothing but what they want ([`Plain`]), by rules that say nothing
//! but where they lead ([`rules_of`]). For those, all that [`crate::arrival`], [`crate::edge`], the gate and
//! [`crate::Journey::begin`] do until [`crate::Action::Lookup`], and [`crate::outgoing::kept`] behind it, comes to
//! what is here, without a map of fields. Whoever asks and is told `None` goes the ordinary way, and nothing has
//! happened yet.
//!
//! Everything that could make a difference has a request go the ordinary way, whether it makes one or not: checks of its
//! rule, sessions, tunnels, fields that anybody on the way looks at. `tests/tests/data_plane/cached/short.rs` holds the
//! two ways against each other.

use std::cell::OnceCell;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Version};
use naru_base::{ClusterId, Instant, IpText, Reason, RetryEnd, Times, WallTime};
use naru_route::{Choice, CompiledAction, CompiledRule, RuleId, Subject, Table, Verdict};
use naru_spec::{CachePolicy, HostPort, Http, Operator, Scheme};

use crate::edge::{self, Client, Peer};
use crate::record::{Facts, Form, Known, Line, Lookup};
use crate::snapshot::is_chosen_by_requests;
use crate::{ChainId, Outcome, Snapshot, Worker, arrival, path};

/// The name of a field as it was sent, and its value.
pub type Field<'a> = (&'a str, &'a [u8]);

/// A rule whose answers may be given the short way.
#[derive(Clone, Debug)]
pub struct ShortRule {
    pub policy: Arc<CachePolicy>,
    pub cluster: ClusterId,
    pub choice: Choice,
}

/// By rule; empty where no rule of the chain is one.
pub fn rules_of(snapshot: &Snapshot, chain: ChainId) -> Vec<Option<ShortRule>> {
    let here = snapshot.chain(chain);
    if snapshot.caches.is_empty() || here.is_tcp || !is_bare(&here.http) {
        return Vec::new();
    }
    let all: Vec<_> = here.table.rules().map(|(id, rule)| short_rule(snapshot, chain, id, rule)).collect();
    if all.iter().any(Option::is_some) { all } else { Vec::new() }
}

/// Whether a chain does nothing with a plain request and its answer but what [`Plain`] says. A setting that is added is
/// thought of here.
fn is_bare(http: &Http) -> bool {
    let Http {
        // They are looked at when a request is read, or said of each of them.
        stat_prefix: _,
        codec: _,
        routes: _,
        access_log: _,
        server_header: _,
        use_remote_address: _,
        xff_num_trusted_hops: _,
        skip_xff_append: _,
        internal_networks: _,
        generate_request_id: _,
        scheme_to_overwrite: _,
        paths: _,
        header_bytes_max: _,
        header_count_max: _,
        request_headers_timeout: _,
        response_pace: _,
        connection_idle_timeout: _,
        max_requests_per_connection: _,
        drain_timeout: _,
        // They are about fields that a plain request does not have, or about what is said to upstreams.
        preserve_external_request_id: _,
        forward_client_cert: _,
        client_cert_details: _,
        suppress_envoy_headers: _,
        tunnels: _,
        upgrades: _,
        grpc_web: _,
        // They are about bodies and waits.
        stream_idle_timeout: _,
        request_timeout: _,
        body_bytes_max: _,
        request_pace: _,
        // Each rule has its own by now.
        fault: _,
        gate: _,
        // They are about another protocol.
        http2: _,
        http2_limits: _,
        server_name,
        via,
        always_set_request_id_in_response,
        host_port,
        strip_trailing_host_dot,
        sessions,
        door,
    } = http;
    HeaderValue::from_str(server_name).is_ok()
        && via.is_empty()
        && !always_set_request_id_in_response
        && *host_port == HostPort::Keep
        && !strip_trailing_host_dot
        && sessions.is_empty()
        && door.is_none()
}

fn short_rule(snapshot: &Snapshot, chain: ChainId, id: RuleId, rule: &CompiledRule) -> Option<ShortRule> {
    let CompiledAction::Forward(forward) = &rule.action else { return None };
    let policy = snapshot.caches.of(chain, id)?;
    let here = snapshot.chain(chain);
    let mut choices = forward.choices();
    let (choice, _) = choices.next()?;
    let cluster = choice.cluster?;
    let is_bare = choices.next().is_none()
        && forward.groups.is_none()
        && forward.hash.is_empty()
        && !is_chosen_by_requests(snapshot.cluster(cluster))
        && !here.recovery(id).has_more
        && here.gate.as_ref().is_none_or(|gate| gate.checks(Some(id), &here.table, 0).is_empty())
        && rule.edits(Some(choice)).response.is_empty()
        && !here.table.asks_more(rule.virtual_host);
    is_bare.then(|| ShortRule { policy: Arc::clone(policy), cluster, choice })
}

/// A GET of HTTP/1.1 that says nothing that anybody on the way looks at, but what it wants and of whom.
#[derive(Debug)]
pub struct Plain<'a> {
    target: &'a str,
    host: &'a str,
    fields: &'a [Field<'a>],
    http: &'a Http,
    peer: &'a Peer,
    hop: OnceCell<IpText>,
    pub client: Client,
    /// It says what it wants of caches.
    pub asks_caches: bool,
    id: Option<[u64; 2]>,
    id_text: OnceCell<[u8; 36]>,
}

/// What somebody on the way makes of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    Nobodys,
    Host,
    /// Several are joined.
    Cookie,
    Caches,
    Somebodys,
}

impl Concern {
    /// Whole families are somebody's: those in which there are any.
    #[inline]
    fn of((name, value): &Field<'_>) -> Concern {
        let name = name.as_bytes();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let begins = |with: &str| {
            name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        let is_somebodys = match name.first().map_or(0, u8::to_ascii_lowercase) {
            b'h' if is("host") => return Concern::Host,
            b'h' => begins("http2-"),
            b'c' if is("cookie") => return Concern::Cookie,
            b'c' if is("cache-control") => return Concern::Caches,
            b'p' if is("pragma") => return Concern::Caches,
            // What it says is gone before anybody looks.
            b'c' if is("connection") => !value.eq_ignore_ascii_case(b"keep-alive"),
            b'c' => begins("content"),
            b'p' => begins("proxy"),
            b'a' => begins("authorization"),
            b'e' => is("expect"),
            b'g' => begins("grpc-"),
            b'i' => begins("if-"),
            b'k' => is("keep-alive"),
            b'r' => is("range"),
            b't' => is("te") || begins("trailer") || begins("transfer"),
            b'u' => is("upgrade"),
            b'x' => ["x-forwarded", "x-envoy", "x-naru", "x-request-id", "x-grpc"].into_iter().any(begins),
            _ => false,
        };
        if is_somebodys { Concern::Somebodys } else { Concern::Nobodys }
    }
}

/// What a field of a plain request is behind the edge.
enum Behind<'a> {
    /// Said by the edge.
    Said(&'a [u8]),
    Gone,
    AsSent,
}

/// The fields that [`Plain::behind`] says.
const OF_EDGE: [&str; 5] =
    ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-envoy-external-address", "x-envoy-internal"];

impl<'a> Plain<'a> {
    /// `target` is a path, perhaps with a query.
    #[inline]
    pub fn of(target: &'a str, fields: &'a [Field<'a>], http: &'a Http, peer: &'a Peer) -> Option<Plain<'a>> {
        let (mut host, mut has_cookie, mut asks_caches) = (None, false, false);
        if peer.is_certified || peer.is_in_tunnel || fields.len() > http.header_count_max as usize {
            return None;
        }
        for field in fields {
            let is_second = match Concern::of(field) {
                Concern::Nobodys => false,
                Concern::Host => host.replace(field.1).is_some(),
                Concern::Cookie => std::mem::replace(&mut has_cookie, true),
                Concern::Caches => {
                    asks_caches = true;
                    false
                }
                Concern::Somebodys => true,
            };
            if is_second {
                return None;
            }
        }
        let host = std::str::from_utf8(host.filter(|host| arrival::is_host(host))?).ok()?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if http.paths.is_active() && !path::is_plain(path.as_bytes()) {
            return None;
        }
        Some(Plain {
            target,
            host,
            fields,
            http,
            peer,
            hop: OnceCell::new(),
            client: edge::plain_client(http, peer),
            asks_caches,
            id: None,
            id_text: OnceCell::new(),
        })
    }

    /// The rule that takes it, and by which verdict. Meaningless where the rule is none of [`rules_of`].
    #[inline]
    pub fn find(&self, table: &Table) -> Option<(RuleId, Verdict)> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let subject = Subject {
            method: &Method::GET,
            authority: self.host,
            path,
            query,
            scheme: self.client.scheme,
            headers: &HeaderMap::new(),
            source: self.client.address.ip(),
            is_internal: self.client.is_internal,
            draw: 0,
            claims: None,
        };
        match table.find(&subject, &mut ()) {
            verdict @ Verdict::Rule { rule, .. } => Some((rule, verdict)),
            _ => None,
        }
    }

    /// It is answered: chance goes on as it would have gone on.
    #[inline]
    pub fn settle(&mut self, worker: &mut Worker) {
        worker.draw_request();
        self.id = self.http.generate_request_id.then(|| edge::draw_id(&mut worker.names));
    }

    pub fn line(&self) -> Line<'a> {
        Line {
            method: "GET",
            path: self.target,
            authority: Some(self.host.as_bytes()),
            scheme: self.client.scheme,
            version: Version::HTTP_11,
        }
    }

    pub fn target(&self) -> &'a str {
        self.target
    }

    pub fn host(&self) -> &'a str {
        self.host
    }

    /// As [`edge::receive`] leaves it. Names are small, and those that are said stand in [`OF_EDGE`].
    #[inline]
    fn behind(&self, name: &str) -> Behind<'_> {
        let is_at_edge = self.http.use_remote_address && !self.client.is_internal;
        match name {
            "connection" => Behind::Gone,
            "x-request-id" => match self.id {
                Some(id) => Behind::Said(self.id_text.get_or_init(|| edge::id_text(id))),
                None => Behind::AsSent,
            },
            "x-forwarded-for" if self.http.use_remote_address && !self.http.skip_xff_append => {
                Behind::Said(self.hop())
            }
            "x-forwarded-proto" => Behind::Said(self.forwarded_proto()),
            "x-envoy-external-address" if is_at_edge => Behind::Said(self.hop()),
            "x-envoy-internal" if self.client.is_internal => Behind::Said(b"true"),
            _ => Behind::AsSent,
        }
    }

    fn hop(&self) -> &[u8] {
        self.hop.get_or_init(|| IpText::of(self.peer.remote.ip().to_canonical())).as_bytes()
    }

    /// It says nothing of it itself, so that its scheme is what is said.
    fn forwarded_proto(&self) -> &'static [u8] {
        self.client.scheme.as_str().as_bytes()
    }

    /// All that it says in fields of that name, behind the edge.
    #[inline]
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        let (said, is_as_sent) = match self.behind(name) {
            Behind::Said(value) => (Some(value), false),
            Behind::Gone => (None, false),
            Behind::AsSent => (None, true),
        };
        let sent = if is_as_sent { self.fields } else { &[] };
        let sent = sent.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        said.into_iter().chain(sent.map(|(_, value)| *value))
    }
}

impl Lookup for Plain<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        match self.behind(name) {
            Behind::Said(value) => Some(value),
            Behind::Gone => None,
            Behind::AsSent => self
                .fields
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value),
        }
    }
}

/// What remains of a plain request that was given an answer from memory: at once, as far as clocks can tell.
#[inline]
pub fn outcome(verdict: Verdict, cluster: Option<ClusterId>, status: u16, at: Instant) -> Outcome {
    Outcome {
        reason: Reason::CacheHit,
        status,
        grpc_status: None,
        verdict,
        cluster,
        endpoint: None,
        attempts: 0,
        retry_end: RetryEnd::Open,
        is_delayed: false,
        began: at,
        request_ended: Some(at),
        head: Some(at),
        ended: at,
    }
}

/// A line of an access log, for requests that are answered so: what all of them say alike stands in it.
pub fn form_of(form: &Form) -> Form {
    let nowhere = ([0, 0, 0, 0], 0).into();
    let peer =
        Peer { remote: nowhere, local: nowhere, is_tls: false, is_certified: false, is_in_tunnel: false };
    let (outcome, times) = (outcome(Verdict::NoVirtualHost, None, 200, Instant::ZERO), Times::default());
    let any = Facts {
        line: Line {
            method: "GET",
            path: "/",
            authority: None,
            scheme: Scheme::Http,
            version: Version::HTTP_11,
        },
        request: &(),
        response: &(),
        trailers: &(),
        began: WallTime(0),
        times: &times,
        outcome: Some(&outcome),
        bytes_received: 0,
        bytes_sent: 0,
        peer: &peer,
        addresses: None,
        direct: nowhere,
        client: nowhere,
        server_name: None,
        tls_version: None,
        route: "",
        route_origin: "",
        virtual_host: "",
        cluster: None,
        upstream: None,
        upstream_path: None,
        upstream_local: None,
        upstream_failure: None,
        details: None,
        connection: 0,
        stream: 0,
        host_name: "",
    };
    form.known(&any, known)
}

/// What is the same for all of them. An operator that is added is thought of here.
fn known(operator: &Operator) -> Known {
    match operator {
        Operator::RequestHeader { name, alternative } => known_of_field(name, alternative.as_deref()),
        Operator::Trailer { .. }
        | Operator::Protocol
        | Operator::ResponseCodeDetails
        | Operator::ResponseFlags
        | Operator::Reason
        | Operator::BytesReceived
        | Operator::Duration
        | Operator::RequestDuration
        | Operator::ResponseDuration
        | Operator::ResponseTxDuration
        | Operator::UpstreamHost
        | Operator::UpstreamLocalAddress
        | Operator::ConnectionTerminationDetails
        | Operator::UpstreamTransportFailureReason
        | Operator::UpstreamRequestAttemptCount
        | Operator::GrpcStatus(_)
        | Operator::GrpcStatusNumber => Known::Same,
        Operator::ResponseHeader { .. }
        | Operator::StartTime(_)
        | Operator::ResponseCode
        | Operator::BytesSent
        | Operator::RouteName
        | Operator::RouteOrigin
        | Operator::VirtualHostName
        | Operator::UpstreamCluster
        | Operator::UpstreamClusterRaw
        | Operator::DownstreamRemoteAddress { .. }
        | Operator::DownstreamDirectRemoteAddress { .. }
        | Operator::DownstreamLocalAddress { .. }
        | Operator::DownstreamLocalPort
        | Operator::DownstreamTlsVersion
        | Operator::RequestedServerName
        | Operator::ConnectionId
        | Operator::StreamId
        | Operator::Hostname => Known::Nothing,
    }
}

fn known_of_field(name: &str, alternative: Option<&str>) -> Known {
    let alone = |name: &str| Operator::RequestHeader { name: name.to_owned(), alternative: None };
    match name {
        ":method" => Known::Same,
        // They are always there.
        ":path" | ":authority" | "host" | ":scheme" if alternative.is_some() => Known::As(alone(name)),
        name if is_never_said(name) => match alternative.map(|other| (other, known_of_field(other, None))) {
            None => Known::Same,
            Some((other, Known::Nothing)) => Known::As(alone(other)),
            Some((_, known)) => known,
        },
        _ => Known::Nothing,
    }
}

/// Whether no plain request says anything in a field, nor the edge for it.
fn is_never_said(name: &str) -> bool {
    Concern::of(&(name, b"")) == Concern::Somebodys && !OF_EDGE.contains(&name)
}

#[cfg(test)]
mod tests {
    use naru_spec::{Format, JsonField, LogFormat, Paths, RouteTable};

    use super::*;

    fn peer(remote: &str) -> Peer {
        Peer {
            remote: remote.parse().expect("an address"),
            local: ([127, 0, 0, 1], 80).into(),
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        }
    }

    fn is_plain(target: &str, fields: &[Field<'_>], change: impl FnOnce(&mut Http)) -> bool {
        let mut http = Http::new("test", RouteTable::default());
        change(&mut http);
        Plain::of(target, fields, &http, &peer("1.2.3.4:5")).is_some()
    }

    #[test]
    fn a_field_that_anybody_looks_at_makes_a_request_another_one() {
        let host: Field<'_> = ("Host", b"a.example:80");
        assert!(is_plain("/", &[host], |_| {}));
        for name in ["accept", "Accept-Encoding", "cookie", "upgrade-insecure-requests", "x-requested-with"] {
            assert!(is_plain("/", &[host, (name, b"x")], |_| {}), "{name}");
        }
        assert!(is_plain("/", &[host, ("Connection", b"Keep-Alive")], |_| {}));
        for name in [
            "connection",
            "host",
            "te",
            "expect",
            "Upgrade",
            "keep-alive",
            "X-Request-Id",
            "content-type",
            "Content-Length",
            "content_length",
            "transfer-encoding",
            "Transfer_Encoding",
            "grpc-timeout",
            "HTTP2-Settings",
            "x-naru-attempt",
            "X-Forwarded-For",
            "proxy-connection",
            "x-forwarded-proto",
            "x-envoy-anything",
            "range",
            "If-None-Match",
            "if-range",
            "authorization",
            "proxy-authorization",
        ] {
            assert!(!is_plain("/", &[host, (name, b"x")], |_| {}), "{name}");
        }
        assert!(!is_plain("/", &[host, ("cookie", b"a"), ("Cookie", b"b")], |_| {}));
        assert!(!is_plain("/", &[], |_| {}) && !is_plain("/", &[("host", b"a/b")], |_| {}));
        assert!(!is_plain("/", &[host, ("a", b"")], |http| http.header_count_max = 1));
    }

    #[test]
    fn a_path_that_may_become_another_is_not_plain_where_paths_are_looked_at() {
        let host: Field<'_> = ("host", b"a");
        for (target, is_same) in
            [("/a.b/c?d=//%2f/..", true), ("/a//b", false), ("/./a", false), ("/%61", false)]
        {
            assert!(is_plain(target, &[host], |_| {}), "{target}");
            assert_eq!(is_plain(target, &[host], |http| http.paths = Paths::BASE), is_same, "{target}");
        }
    }

    #[test]
    fn it_says_behind_the_edge_what_the_edge_makes_of_it() {
        let fields: [Field<'_>; 4] =
            [("Host", b"a"), ("Accept", b"x"), ("accept", b"y"), ("connection", b"keep-alive")];
        for change in 0..32 {
            let mut http = Http::new("test", RouteTable::default());
            http.use_remote_address = change & 1 > 0;
            http.skip_xff_append = change & 2 > 0;
            http.generate_request_id = change & 4 > 0;
            if change & 8 > 0 {
                http.internal_networks = vec!["1.2.3.0/24".parse().expect("a network")];
            }
            if change & 16 > 0 {
                http.scheme_to_overwrite = Some(naru_spec::Scheme::Https);
            }
            for remote in ["1.2.3.4:5", "9.9.9.9:9", "[::ffff:1.2.3.4]:5", "[2001:db8::1]:5"] {
                let peer = peer(remote);
                let snapshot = Snapshot::compile(naru_spec::Config::default()).expect("nothing");
                let [mut here, mut there] = [(); 2].map(|()| Worker::new(&snapshot, 7));
                let mut plain = Plain::of("/", &fields, &http, &peer).expect("a plain one");
                plain.settle(&mut here);
                let mut headers = HeaderMap::new();
                for (name, value) in fields {
                    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
                    headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
                }
                let client = edge::receive(&mut headers, &http, &peer, &mut there).expect("a client");
                there.draw_request();
                assert_eq!(plain.client, client, "{change} {remote}");
                let names =
                    ["connection", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "accept", "b"];
                let more = ["x-envoy-external-address", "x-envoy-internal", "host", "via"];
                for name in names.into_iter().chain(more) {
                    let all: Vec<&[u8]> =
                        headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
                    assert_eq!(plain.all(name).collect::<Vec<_>>(), all, "{name}: {change} {remote}");
                    assert_eq!(Lookup::get(&plain, name), all.first().copied(), "{name}: {change} {remote}");
                }
                assert_eq!(
                    headers.keys().count(),
                    headers.keys().filter(|name| { Lookup::get(&plain, name.as_str()).is_some() }).count(),
                    "{headers:?}"
                );
                assert_eq!(here.draw_request(), there.draw_request());
                assert_eq!(here.names.draw(), there.names.draw());
            }
        }
    }

    /// Every operator, and fields that are said always, never, and by some.
    const OPERATORS: &str = "%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(:SCHEME)% %REQ(HOST)% %REQ(:STATUS)% \
        %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:PATH?ACCEPT)% %REQ(CONNECTION?TE)% %REQ(TE?ACCEPT)% \
        %REQ(AUTHORIZATION?:METHOD)% %REQ(RANGE?X-REQUEST-ID)% %REQ(IF-MATCH?CONTENT-TYPE)% %REQ(ACCEPT?HOST):3% \
        %REQ(COOKIE)% %REQ(X-REQUEST-ID)% %REQ(X-FORWARDED-FOR)% %REQ(X-FORWARDED-PROTO?:METHOD)% \
        %REQ(X-ENVOY-EXTERNAL-ADDRESS)% %REQ(X-ENVOY-INTERNAL)% %REQ(X-FORWARDED-HOST)% %REQ(PRAGMA)% \
        %REQ(CACHE-CONTROL)% %REQ(UPGRADE?:AUTHORITY):4% %REQ(X-NARU-A?HOST)% %RESP(A)% %RESP(B?:STATUS)% \
        %TRAILER(A)% %TRAILER(A?B):2% %START_TIME% %START_TIME(%s)% %PROTOCOL% %RESPONSE_CODE% \
        %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% %REASON% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
        %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %ROUTE_NAME% %ROUTE_ORIGIN% \
        %VIRTUAL_HOST_NAME% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
        %CONNECTION_TERMINATION_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_REQUEST_ATTEMPT_COUNT% \
        %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% \
        %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_TLS_VERSION% %REQUESTED_SERVER_NAME% %GRPC_STATUS% \
        %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER% %CONNECTION_ID% %STREAM_ID% %HOSTNAME%";

    #[test]
    fn what_all_lines_say_alike_is_what_each_would_say() {
        let text = Format::parse(OPERATORS).expect("a format");
        let fields = OPERATORS.split_whitespace().map(|operator| {
            let value = Format::parse(operator).expect("a format");
            (format!("\"{operator}"), JsonField::Value(value))
        });
        let fields = fields.chain([
            ("mixed".to_owned(), JsonField::Value(Format::parse("<%REASON%> %REQ(ACCEPT)%").expect("one"))),
            ("list".to_owned(), JsonField::List(vec![JsonField::Literal("1".to_owned())])),
        ]);
        let formats = [LogFormat::Text(text), LogFormat::Json(fields.collect())];
        let forms = formats.map(|format| {
            let form = Form::of(&format);
            (form_of(&form), form)
        });
        let (names, values) =
            (["accept", "Cookie", "cache-control", "pragma"], [&b"a\"\\b"[..], b"", b"\xff "]);
        let (mut chance, times) = (naru_base::Chance::new(3), Times::default());
        for _ in 0..500 {
            let mut fields: Vec<Field<'_>> = vec![("Host", b"a.example"), ("connection", b"keep-alive")];
            for name in names {
                if chance.below(2) > 0 {
                    fields.push((name, values[chance.below(3) as usize]));
                }
            }
            let mut http = Http::new("test", RouteTable::default());
            http.use_remote_address = chance.below(2) > 0;
            http.generate_request_id = chance.below(2) > 0;
            if chance.below(2) > 0 {
                http.internal_networks = vec!["1.2.3.0/24".parse().expect("a network")];
            }
            let peer = peer(if chance.below(2) > 0 { "1.2.3.4:5" } else { "[2001:db8::1]:5" });
            let snapshot = Snapshot::compile(naru_spec::Config::default()).expect("nothing");
            let mut plain = Plain::of("/a\\b", &fields, &http, &peer).expect("a plain one");
            plain.settle(&mut Worker::new(&snapshot, chance.draw()));
            let mut response = HeaderMap::new();
            if chance.below(2) > 0 {
                response.insert("a", HeaderValue::from_static("\"x"));
            }
            let status = [200, 404][chance.below(2) as usize];
            let outcome = outcome(Verdict::NoVirtualHost, None, status, Instant(chance.below(1 << 40)));
            let facts = Facts {
                line: plain.line(),
                request: &plain,
                response: &response,
                trailers: &(),
                began: WallTime(chance.below(1 << 62)),
                times: &times,
                outcome: Some(&outcome),
                bytes_received: 0,
                bytes_sent: chance.below(9_999),
                peer: &peer,
                addresses: None,
                direct: peer.remote,
                client: plain.client.address,
                server_name: (chance.below(2) > 0).then_some("s"),
                tls_version: (chance.below(2) > 0).then_some("TLSv1.3"),
                route: "r\u{1}",
                route_origin: "o",
                virtual_host: "v",
                cluster: Some("c"),
                upstream: None,
                upstream_path: None,
                upstream_local: None,
                upstream_failure: None,
                details: None,
                connection: chance.draw(),
                stream: chance.draw(),
                host_name: "h",
            };
            for (short, whole) in &forms {
                let [mut here, mut there] = [Vec::new(), Vec::new()];
                short.write(&facts, &mut here);
                whole.write(&facts, &mut there);
                assert_eq!(String::from_utf8_lossy(&here), String::from_utf8_lossy(&there));
            }
        }
        // And it is less to write.
        assert!(forms.iter().all(|(short, whole)| short.len() < whole.len() * 2 / 3));
    }
}
