//! What a request carries once it has crossed the edge: who the client is, what is no longer
//! believed, what every request must have.
//!
//! Envoy's `ConnectionManagerUtility::mutateRequestHeaders`, RFC 9110 section 7.6.1 (headers of one
//! hop), and nothing that depends on a route.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use naru_base::{Chance, IpText, Reason};
use naru_recover::deadline;
use naru_spec::{Http, Scheme};

use crate::client_cert::{self, X_FORWARDED_CLIENT_CERT};

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
pub const X_ENVOY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
pub const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub is_tls: bool,
    /// The client has shown a certificate.
    pub is_certified: bool,
    /// It is a tunnel through another connection of the same client.
    pub is_in_tunnel: bool,
}

impl Peer {
    /// What the connection itself says.
    pub fn scheme(&self) -> Scheme {
        if self.is_tls { Scheme::Https } else { Scheme::Http }
    }
}

/// Who asks, as far as it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The trusted client address; its port is 0 where it came from a header.
    pub address: SocketAddr,
    pub scheme: Scheme,
    /// In one of our own networks, with nobody between.
    pub is_internal: bool,
    pub timeout_ms: Option<u64>,
    /// How long the client says that it waits for its response.
    pub caller_timeout: Option<Duration>,
    /// It is trusted, and says something in headers of Envoy's.
    pub asks: bool,
    /// `content-type: application/grpc` and its kind.
    pub is_grpc: bool,
    /// The protocol that the client asks to change to.
    pub upgrade: Upgrade,
}

impl Client {
    /// Nothing of what it says can be believed.
    pub fn unknown(peer: &Peer) -> Client {
        Client {
            address: peer.remote,
            scheme: peer.scheme(),
            is_internal: false,
            timeout_ms: None,
            caller_timeout: None,
            asks: false,
            is_grpc: false,
            upgrade: Upgrade::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    None,
    /// One that the rules say more of. Its name stays in the headers.
    Asked,
    /// A tunnel, of which the rules say more.
    Connect,
}

/// Which headers stand in a request: one look at each name instead of one search for each question.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    connection: bool,
    hop: bool,
    te: bool,
    upgrade: bool,
    expect: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    request_id: bool,
    envoy: bool,
    content_type: bool,
    client_cert: bool,
    naru: bool,
    deadline: bool,
    cookies: u32,
    hosts: u32,
}

impl Seen {
    #[inline]
    fn of(headers: &HeaderMap) -> Seen {
        let mut seen = Seen::default();
        for (name, _) in headers {
            let name = name.as_str();
            match name.len() {
                2 if name == "te" => seen.te = true,
                4 if name == "host" => seen.hosts += 1,
                6 if name == "expect" => seen.expect = true,
                6 if name == "cookie" => seen.cookies += 1,
                7 if name == "upgrade" => seen.upgrade = true,
                10 if name == "connection" => seen.connection = true,
                10 if name == "keep-alive" => seen.hop = true,
                12 if name == "x-request-id" => seen.request_id = true,
                12 if name == "content-type" => seen.content_type = true,
                12 if name == "grpc-timeout" => seen.deadline = true,
                14 if name == "http2-settings" => seen.hop = true,
                14 if name == "x-naru-attempt" || name == "x-naru-retries" => seen.naru = true,
                15 if name == "x-forwarded-for" => seen.forwarded_for = true,
                16 if name == "proxy-connection" => seen.hop = true,
                17 if name == "transfer-encoding" => seen.hop = true,
                17 if name == "x-forwarded-proto" => seen.forwarded_proto = true,
                18 if name == "x-naru-deadline-ms" => seen.deadline = true,
                23 if name == "x-forwarded-client-cert" => seen.client_cert = true,
                10.. if name.starts_with("x-envoy-") => seen.envoy = true,
                _ => {}
            }
        }
        seen
    }
}

/// Brings the headers of a request into the form in which rules see it, and upstreams after them.
/// `names` is where new request ids come from.
///
/// # Errors
/// The reason for which the request must be refused.
#[inline]
pub fn receive(
    headers: &mut HeaderMap,
    http: &Http,
    peer: &Peer,
    names: &mut crate::Worker,
) -> Result<Client, Reason> {
    let mut seen = Seen::of(headers);
    if seen.hosts > 1 {
        return Err(Reason::BadHost);
    }
    let upgrade = if seen.upgrade { upgrade_of(headers) } else { Upgrade::None };
    if seen.connection || seen.hop || seen.te || seen.upgrade || seen.expect {
        let is_asked = upgrade == Upgrade::Asked;
        let protocol = if is_asked { headers.get(header::UPGRADE).cloned() } else { None };
        let has_named = remove_hop_by_hop(headers, &seen);
        crate::upgrade::keep(protocol, headers);
        if has_named {
            seen = Seen::of(headers);
        }
    }
    if seen.client_cert {
        // Whom a certificate names is not for any client to say.
        match http.forward_client_cert.keeps(peer.is_certified) {
            true => client_cert::join(headers),
            false => _ = headers.remove(X_FORWARDED_CLIENT_CERT),
        }
    }
    if seen.cookies > 1 {
        join_cookies(headers);
    }
    let address = client_address(headers, http, peer, &seen);
    let is_internal = is_internal(headers, http, address, &seen);
    let is_at_edge = http.use_remote_address && !is_internal;
    if seen.envoy {
        remove_untrusted(headers, is_internal, is_at_edge);
    }
    if seen.naru && !is_internal {
        naru_recover::layer::forget(headers);
    }
    if is_internal {
        headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    }
    if http.use_remote_address {
        let hop = IpText::of(peer.remote.ip().to_canonical());
        if !http.skip_xff_append {
            append_forwarded_for(headers, &hop, seen.forwarded_for);
        }
        if is_at_edge {
            let is_hop = address.ip() == peer.remote.ip();
            let external = if is_hop { hop } else { IpText::of(address.ip().to_canonical()) };
            headers.insert(X_ENVOY_EXTERNAL_ADDRESS, value_of(&external));
        }
    }
    let connection_scheme = peer.scheme();
    let trusts_proto = !http.use_remote_address || http.xff_num_trusted_hops > 0;
    let mut scheme = connection_scheme;
    if seen.forwarded_proto && trusts_proto {
        match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => scheme = Scheme::Https,
            Some(b"http") => scheme = Scheme::Http,
            _ => {}
        }
    } else {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(connection_scheme.as_str()));
    }
    if let Some(overwrite) = http.scheme_to_overwrite {
        scheme = overwrite;
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(overwrite.as_str()));
    }
    if http.generate_request_id {
        let is_forced = is_at_edge && !http.preserve_external_request_id;
        if is_forced || !seen.request_id {
            headers.insert(X_REQUEST_ID, request_id(&mut names.names));
        }
    }
    if !http.via.is_empty() {
        append_via(headers, &http.via);
    }
    let timeout_ms = if seen.envoy { asked_timeout(headers) } else { None };
    let says_deadline = seen.deadline || seen.envoy;
    let caller_timeout = if says_deadline { deadline::of_caller(headers) } else { None };
    let is_grpc = seen.content_type && is_grpc(headers);
    Ok(Client {
        address,
        scheme,
        is_internal,
        timeout_ms,
        caller_timeout,
        asks: seen.envoy,
        is_grpc,
        upgrade,
    })
}

/// Who asks, where a request says nothing that [`receive`] looks at.
#[inline]
pub(crate) fn plain_client(http: &Http, peer: &Peer) -> Client {
    let (nothing, seen) = (HeaderMap::new(), Seen::default());
    let address = client_address(&nothing, http, peer, &seen);
    let is_internal = is_internal(&nothing, http, address, &seen);
    let scheme = http.scheme_to_overwrite.unwrap_or(peer.scheme());
    Client { address, scheme, is_internal, ..Client::unknown(peer) }
}

/// HTTP/2 may send a cookie in pieces; nobody else knows them (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, whole);
    }
}

/// Whether a message is a gRPC one: `application/grpc`, alone or with `+` or `;` behind it.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    value
        .as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn upgrade_of(headers: &HeaderMap) -> Upgrade {
    let is_asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case(b"upgrade")));
    // An offer of h2c may be ignored (RFC 9113, section 3.1), and is.
    let is_h2c =
        headers.get_all(header::UPGRADE).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"h2c"));
    if is_asked && !is_h2c { Upgrade::Asked } else { Upgrade::None }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(|token| token.trim_ascii())
}

/// Removes what concerns one connection only, here the headers of a request. Says whether others may be gone as well,
/// which the client has named.
fn remove_hop_by_hop(headers: &mut HeaderMap, seen: &Seen) -> bool {
    if seen.te {
        let wants_trailers = headers
            .get_all(header::TE)
            .iter()
            .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")));
        headers.remove(header::TE);
        if wants_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    let has_named = seen.connection && remove_connection(headers);
    if seen.upgrade {
        headers.remove(header::UPGRADE);
    }
    if seen.expect {
        headers.remove(header::EXPECT);
    }
    if seen.hop {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
    }
    has_named
}

/// Removes `Connection` and what it names, and says whether it named anything. `te: trailers` stays, as it is new for
/// each hop; what frames or addresses a message is never taken away by a client's word.
fn remove_connection(headers: &mut HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONNECTION).iter();
    let is_common = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    // What nearly everybody says names nothing but what is gone anyway.
    if all.next().is_some_and(is_common) && all.next().is_none() {
        headers.remove(header::CONNECTION);
        return false;
    }
    let Entry::Occupied(entry) = headers.entry(header::CONNECTION) else { return false };
    let (_, values) = entry.remove_entry_mult();
    let named: Vec<HeaderName> = values
        .flat_map(|value| tokens(&value).filter_map(|t| HeaderName::from_bytes(t).ok()).collect::<Vec<_>>())
        .collect();
    for name in named {
        if ![header::TE, header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE].contains(&name) {
            headers.remove(name);
        }
    }
    true
}

/// Takes the headers of one hop out of a response.
#[inline]
pub fn remove_response_hop_by_hop(headers: &mut HeaderMap) {
    let (mut has_connection, mut has_other) = (false, false);
    for name in headers.keys() {
        let name = name.as_str();
        match name.len() {
            7 => has_other |= name == "upgrade",
            10 if name == "connection" => has_connection = true,
            10 => has_other |= name == "keep-alive",
            16 => has_other |= name == "proxy-connection",
            17 => has_other |= name == "transfer-encoding",
            _ => {}
        }
    }
    if has_connection {
        remove_connection(headers);
    }
    if has_other {
        for name in [header::UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
    }
}

/// Headers that ask Envoy for something: for a client of our own.
const CONTROLS: [&str; 13] = [
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

/// Headers that tell what an Envoy in front has found: none stands in front of an edge.
const FINDINGS: [&str; 7] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// Removes what this client may not say.
fn remove_untrusted(headers: &mut HeaderMap, is_internal: bool, is_at_edge: bool) {
    let controls = if is_internal { &[][..] } else { &CONTROLS };
    let findings = if is_at_edge { &FINDINGS[..] } else { &[] };
    for name in controls.iter().chain(findings) {
        headers.remove(*name);
    }
}

/// Whether a client is one of our own. At the edge nobody may have forwarded for it; behind an edge
/// it must have been forwarded for, once.
fn is_internal(headers: &HeaderMap, http: &Http, address: SocketAddr, seen: &Seen) -> bool {
    if http.internal_networks.is_empty() {
        return false;
    }
    let is_alone = if http.use_remote_address {
        !seen.forwarded_for
    } else {
        let mut values = headers.get_all(X_FORWARDED_FOR).iter();
        let is_one = values.next().is_some_and(|value| !value.as_bytes().contains(&b','));
        is_one && values.next().is_none() && http.xff_num_trusted_hops == 0
    };
    let ip = address.ip().to_canonical();
    is_alone && http.internal_networks.iter().any(|network| network.contains(&ip))
}

/// The address that rules and logs take for the client's.
fn client_address(headers: &HeaderMap, http: &Http, peer: &Peer, seen: &Seen) -> SocketAddr {
    // At the edge the last entry of a trusted chain was added by the nearest trusted proxy.
    let from_right = match (http.use_remote_address, http.xff_num_trusted_hops) {
        (true, 0) => return peer.remote,
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    if !seen.forwarded_for {
        return peer.remote;
    }
    forwarded_for(headers, from_right).map_or(peer.remote, |ip| SocketAddr::new(ip, 0))
}

/// The entry of X-Forwarded-For that stands `from_right` places from its end.
fn forwarded_for(headers: &HeaderMap, from_right: u32) -> Option<IpAddr> {
    let mut left = from_right;
    let values: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    for value in values.iter().rev() {
        for token in value.as_bytes().rsplit(|b| *b == b',') {
            if left == 0 {
                return std::str::from_utf8(token.trim_ascii()).ok()?.parse().ok();
            }
            left -= 1;
        }
    }
    None
}

/// The proxy sends something of its own.
pub(crate) fn append_hop(headers: &mut HeaderMap, own: IpAddr) {
    let is_there = headers.contains_key(X_FORWARDED_FOR);
    append_forwarded_for(headers, &IpText::of(own.to_canonical()), is_there);
}

fn append_forwarded_for(headers: &mut HeaderMap, hop: &IpText, is_there: bool) {
    if !is_there {
        headers.insert(X_FORWARDED_FOR, value_of(hop));
        return;
    }
    let mut all = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        all.extend_from_slice(value.as_bytes());
        all.extend_from_slice(b",");
    }
    all.extend_from_slice(hop.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(all)) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

fn value_of(address: &IpText) -> HeaderValue {
    HeaderValue::from_bytes(address.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Adds one entry to `Via`.
pub fn append_via(headers: &mut HeaderMap, via: &str) {
    if let Ok(value) = HeaderValue::from_str(via) {
        headers.append(header::VIA, value);
    }
}

fn asked_timeout(headers: &mut HeaderMap) -> Option<u64> {
    let asked = headers.remove(X_ENVOY_TIMEOUT)?;
    std::str::from_utf8(asked.as_bytes()).ok()?.parse().ok()
}

/// A random UUID (RFC 9562, version 4).
fn request_id(chance: &mut Chance) -> HeaderValue {
    HeaderValue::from_bytes(&id_text(draw_id(chance))).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// What a request id is made of.
#[inline]
pub(crate) fn draw_id(chance: &mut Chance) -> [u64; 2] {
    let high = chance.draw() & !0xf000 | 0x4000;
    [high, chance.draw() & !(0b11 << 62) | (0b10 << 62)]
}

#[inline]
pub(crate) fn id_text([high, low]: [u64; 2]) -> [u8; 36] {
    // Groups of 8, 4, 4, 4 and 12 digits.
    let ([a, b], [c, d]) = (digits(high), digits(low));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&a);
    text[9..13].copy_from_slice(&b[..4]);
    text[14..18].copy_from_slice(&b[4..]);
    text[19..23].copy_from_slice(&c[..4]);
    text[24..28].copy_from_slice(&c[4..]);
    text[28..].copy_from_slice(&d);
    text
}

/// The digits of a number to the base of 16, eight at once.
#[inline]
fn digits(number: u64) -> [[u8; 8]; 2] {
    [(number >> 32) as u32, number as u32].map(|half| {
        // One digit in each byte, the first one in the highest.
        let mut spread = u64::from(half);
        spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
        spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // From 10 on it is a letter.
        let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
    })
}
