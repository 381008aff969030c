//! The head of a request at the edge.
//!
//! A line of settings, each a word, then the headers, a line each:
//!
//! ```text
//! remote hops=1 tls method=POST target=http://shop.example/cart version=1
//! host: shop.example
//! connection: close, x-secret
//! ```

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use naru_base::Reason;
use naru_journey::arrival::{self, Wish};
use naru_journey::edge::{Client, Peer, Upgrade, receive, remove_response_hop_by_hop};
use naru_journey::short::{Field, Plain};
use naru_journey::{Snapshot, Worker};
use naru_spec::{Config, HostPort, Http, RouteTable, Scheme};

/// A request that may be answered the short way says there what it says by the ordinary one.
fn check_short(
    http: &Http,
    peer: &Peer,
    target: &str,
    sent: &HeaderMap,
    arrival: &arrival::Arrival,
    passed: &HeaderMap,
) {
    if !http.via.is_empty() || http.host_port != HostPort::Keep || http.strip_trailing_host_dot {
        // It goes no such way.
        return;
    }
    let fields: Vec<Field<'_>> = sent.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let Some(mut plain) = Plain::of(target, &fields, http, peer) else { return };
    let snapshot = Snapshot::compile(Config::default()).expect("nothing compiles");
    plain.settle(&mut Worker::new(&snapshot, 1));
    assert_eq!((arrival.wish, arrival.client), (Wish::Route, plain.client));
    let (line, short) = (arrival.line.view(), plain.line());
    assert_eq!((line.method, line.path, line.authority), (short.method, short.path, short.authority));
    assert_eq!((line.scheme, line.version), (short.scheme, short.version));
    for name in sent.keys().chain(passed.keys()) {
        let all: Vec<&[u8]> = passed.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(plain.all(name.as_str()).collect::<Vec<_>>(), all, "{name}");
    }
}

/// Headers that concern one connection, as RFC 9110, section 7.6.1, lists them.
const OF_ONE_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "expect",
    "http2-settings",
    "te",
];

/// Whatever a client says, nothing of one hop goes on, what is not refused has one host, and who the
/// client is comes from someone who is believed.
pub fn edge(bytes: &[u8]) {
    let text = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    let Some((first, lines)) = text.split_first() else { return };
    let Settings { http, peer, method, target, version } = Settings::read(&String::from_utf8_lossy(first));
    let sent = headers(lines);
    let snapshot = Snapshot::compile(Config::default()).expect("nothing compiles");
    let mut worker = Worker::new(&snapshot, 1);
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, target, version, sent.clone());
    let target = parts.uri.path_and_query().map(|target| target.as_str().to_owned());
    let is_absolute = parts.uri.authority().is_some();
    let arrival = arrival::receive(&mut parts, &http, &peer, &mut worker);
    let passed = parts.headers;
    let is_plain = arrival.line.method == Method::GET && version == Version::HTTP_11 && !is_absolute;
    if let Some(target) = target.filter(|target| is_plain && target.starts_with('/')) {
        check_short(&http, &peer, &target, &sent, &arrival, &passed);
    }
    let hosts = sent.get_all("host").iter().count();
    if hosts > 1 {
        assert_eq!(arrival.wish, Wish::Refuse(Reason::BadHost));
    } else {
        check_hops(&sent, &passed, arrival.client.upgrade);
        if !arrival.client.is_internal {
            assert_eq!(arrival.client.timeout_ms, None, "a stranger asks for a timeout");
        }
        if http.use_remote_address {
            check_edge(&http, &peer, &arrival.client, &sent, &passed);
        }
        if http.use_remote_address && http.xff_num_trusted_hops == 0 {
            assert_eq!(arrival.client.address, peer.remote);
        }
        assert_eq!(passed.get("content-length"), sent.get("content-length"));
        assert!(!http.generate_request_id || passed.contains_key("x-request-id"), "it has no id");
        assert!(passed.contains_key("x-forwarded-proto"), "nobody knows its scheme");
        if arrival.client.upgrade == Upgrade::Asked {
            assert!(sent.contains_key("upgrade") && sent.contains_key("connection"));
        }
        is_settled(&http, &peer, &passed, &mut worker);
    }
    if arrival.wish == Wish::Route {
        let all: Vec<_> = passed.get_all("host").iter().collect();
        assert!(all.len() == 1 && !all[0].is_empty() && all[0].to_str().is_ok(), "{all:?}");
        assert_eq!(arrival.line.authority.as_ref(), Some(all[0]));
        assert!(arrival.line.method != Method::CONNECT, "a tunnel");
        if http.host_port == HostPort::Keep && !is_absolute {
            assert_eq!(passed.get("host"), sent.get("host"));
        }
    }
    let subject = arrival.line.subject(&passed, &arrival.client, 0);
    assert!(!subject.path.contains('?') && !subject.path.is_empty());
    let mut answer = sent;
    remove_response_hop_by_hop(&mut answer);
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert!(!answer.contains_key(name), "{name} goes back to the client");
    }
}

/// What asks for another protocol says so to the next hop, and nothing else of its connection.
fn check_hops(sent: &HeaderMap, passed: &HeaderMap, upgrade: Upgrade) {
    for name in OF_ONE_HOP {
        match name {
            "te" => {
                let left: Vec<_> = passed.get_all("te").iter().collect();
                assert!(left.is_empty() || left == ["trailers"], "{left:?}");
            }
            "connection" if upgrade == Upgrade::Asked => {
                let left: Vec<_> = passed.get_all(name).iter().collect();
                assert_eq!(left, ["upgrade"]);
            }
            "upgrade" if upgrade == Upgrade::Asked => {
                assert_eq!(passed.get(name), sent.get(name));
                assert_eq!(passed.get_all(name).iter().count(), 1);
            }
            _ => assert!(!passed.contains_key(name), "{name} goes on"),
        }
    }
    let named = sent.get_all("connection").iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    for name in named.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()) {
        // What addresses and frames a message stays, and what the edge itself says.
        let stays = ["te", "host", "content-length", "content-type", "via"].contains(&name.as_str());
        let is_own = name.as_str().starts_with("x-forwarded-")
            || name == "x-request-id"
            || name == "x-envoy-external-address";
        let is_asked = upgrade == Upgrade::Asked && ["connection", "upgrade"].contains(&name.as_str());
        assert!(stays || is_own || is_asked || !passed.contains_key(&name), "{name} was named, and goes on");
    }
}

fn check_edge(http: &Http, peer: &Peer, client: &Client, sent: &HeaderMap, passed: &HeaderMap) {
    if !http.skip_xff_append {
        let all: Vec<_> = passed.get_all("x-forwarded-for").iter().collect();
        let [value] = all.as_slice() else { panic!("x-forwarded-for stands {} times", all.len()) };
        let last = value.as_bytes().rsplit(|b| *b == b',').next().unwrap_or_default();
        assert_eq!(last, peer.remote.ip().to_canonical().to_string().as_bytes());
    }
    if client.is_internal {
        assert_eq!(client.address, peer.remote, "somebody stands between");
        assert_eq!(passed.get("x-envoy-internal").map(|value| value.as_bytes()), Some(&b"true"[..]));
        return;
    }
    if !http.suppress_envoy_headers {
        let all: Vec<_> = passed.get_all("x-envoy-external-address").iter().collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].to_str().is_ok_and(|text| text.parse::<IpAddr>().is_ok()), "{all:?}");
    }
    if http.generate_request_id && !http.preserve_external_request_id {
        let ids: Vec<_> = passed.get_all("x-request-id").iter().collect();
        assert!(ids.len() == 1 && ids[0].len() == 36, "{ids:?}");
        assert!(!sent.get_all("x-request-id").iter().any(|id| id == ids[0]), "an id of the client's");
    }
    for forged in ["x-envoy-internal", "x-envoy-original-path", "x-envoy-upstream-rq-timeout-ms"] {
        assert!(!passed.contains_key(forged), "{forged} is believed");
    }
}

/// What has crossed one edge has nothing left that the next would take out.
fn is_settled(http: &Http, peer: &Peer, passed: &HeaderMap, worker: &mut Worker) {
    let mut again = passed.clone();
    let client = receive(&mut again, http, peer, worker).expect("what was taken once is taken again");
    check_hops(passed, &again, client.upgrade);
    assert_eq!(again.get("te"), passed.get("te"));
    assert!(again.keys_len() <= passed.keys_len() + 1);
}

struct Settings {
    http: Http,
    peer: Peer,
    method: Method,
    target: Uri,
    version: Version,
}

impl Settings {
    fn read(line: &str) -> Settings {
        let mut http = Http::new("fuzz", RouteTable::default());
        let (remote, local) = (([203, 0, 113, 9], 5_555).into(), ([10, 0, 0, 1], 80).into());
        let mut peer = Peer { remote, local, is_tls: false, is_certified: false, is_in_tunnel: false };
        let (mut method, mut target, mut version) = (Method::GET, Uri::from_static("/"), Version::HTTP_11);
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "remote" => http.use_remote_address = true,
                "hops" => http.xff_num_trusted_hops = value.parse().unwrap_or_default(),
                "internal" => http.internal_networks = value.parse().into_iter().collect(),
                "skip-append" => http.skip_xff_append = true,
                "preserve-id" => http.preserve_external_request_id = true,
                "no-id" => http.generate_request_id = false,
                "quiet" => http.suppress_envoy_headers = true,
                "via" => value.clone_into(&mut http.via),
                "scheme" if value == "http" => http.scheme_to_overwrite = Some(Scheme::Http),
                "scheme" => http.scheme_to_overwrite = Some(Scheme::Https),
                "strip" if value == "any" => http.host_port = HostPort::StripAny,
                "strip" => http.host_port = HostPort::StripMatching,
                "from" => peer.remote.set_ip(value.parse().unwrap_or(peer.remote.ip())),
                "tls" => peer.is_tls = true,
                "method" => method = value.parse().unwrap_or(method),
                "target" => target = value.parse().unwrap_or(target),
                "version" if value == "2" => version = Version::HTTP_2,
                _ => {}
            }
        }
        Settings { http, peer, method, target, version }
    }
}

/// Lines that are no headers are left out: a codec has refused them.
pub(crate) fn headers(lines: &[&[u8]]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines.iter().take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}
