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
use naru_base::{ClusterId, Instant, IpText, Reason, RetryEnd};
use naru_route::{Choice, CompiledAction, CompiledRule, RuleId, Subject, Table, Verdict};
use naru_spec::{CachePolicy, HostPort, Http};

use crate::edge::{self, Client, Peer};
use crate::record::{Line, Lookup};
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

    /// As [`edge::receive`] leaves it. Names are small.
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

/// What remains of a plain request that was given an answer from memory.
#[inline]
pub fn outcome(verdict: Verdict, rule: &ShortRule, status: u16, began: Instant, ended: Instant) -> Outcome {
    Outcome {
        reason: Reason::CacheHit,
        status,
        grpc_status: None,
        verdict,
        cluster: Some(rule.cluster),
        endpoint: None,
        attempts: 0,
        retry_end: RetryEnd::Open,
        is_delayed: false,
        began,
        request_ended: Some(began),
        head: Some(began),
        ended,
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::{Paths, RouteTable};

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
}
