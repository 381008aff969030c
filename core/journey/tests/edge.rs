//! What a request carries once it has crossed the edge.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Reason;
use naru_journey::edge::{Peer, Upgrade, receive, remove_response_hop_by_hop};
use naru_journey::{Snapshot, Worker};
use naru_spec::{Config, Http, RouteTable, Scheme};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn values(map: &HeaderMap, name: &str) -> Vec<String> {
    map.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn at_edge() -> Http {
    Http { use_remote_address: true, ..Http::new("test", RouteTable::default()) }
}

fn inside() -> Http {
    Http::new("test", RouteTable::default())
}

fn peer() -> Peer {
    Peer {
        remote: ([203, 0, 113, 9], 5_555).into(),
        local: ([10, 0, 0, 1], 80).into(),
        is_tls: false,
        is_certified: false,
        is_in_tunnel: false,
    }
}

fn pass(http: &Http, map: &mut HeaderMap) -> Result<naru_journey::edge::Client, Reason> {
    let snapshot = Snapshot::compile(Config::default()).unwrap();
    receive(map, http, &peer(), &mut Worker::new(&snapshot, 1))
}

#[test]
fn headers_of_one_hop_go_no_further() {
    let mut map = headers(&[
        ("host", "a"),
        ("connection", "close, X-Secret , te"),
        ("x-secret", "1"),
        ("te", "gzip, trailers"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("x-kept", "1"),
    ]);
    pass(&inside(), &mut map).unwrap();
    for gone in ["connection", "x-secret", "keep-alive", "proxy-connection", "transfer-encoding", "expect"] {
        assert!(!map.contains_key(gone), "{gone}");
    }
    assert_eq!(values(&map, "te"), ["trailers"]);
    assert_eq!(values(&map, "x-kept"), ["1"]);
}

#[test]
fn what_nearly_every_connection_says_is_gone_as_well() {
    for value in ["keep-alive", "Keep-Alive", "close", "CLOSE", ""] {
        let mut map =
            headers(&[("host", "a"), ("connection", value), ("keep-alive", "timeout=5"), ("x-kept", "1")]);
        pass(&inside(), &mut map).unwrap();
        assert!(!map.contains_key("connection") && !map.contains_key("keep-alive"), "{value}");
        assert!(map.contains_key("x-kept"));
    }
    // One that comes twice is read as a whole.
    let mut map = headers(&[("host", "a"), ("connection", "close"), ("connection", "x-hop"), ("x-hop", "1")]);
    pass(&inside(), &mut map).unwrap();
    assert!(!map.contains_key("connection") && !map.contains_key("x-hop"));
}

#[test]
fn a_client_cannot_name_away_what_addresses_or_frames_a_message() {
    let mut map = headers(&[("host", "a"), ("content-length", "3"), ("connection", "host, content-length")]);
    pass(&inside(), &mut map).unwrap();
    assert_eq!(values(&map, "host"), ["a"]);
    assert_eq!(values(&map, "content-length"), ["3"]);
}

#[test]
fn the_client_is_the_peer_at_the_edge_and_the_one_who_was_forwarded_for_behind_it() {
    fn check(http: &Http, forwarded: &[&str], client: &str, appended: &[&str]) {
        let mut map = headers(&[("host", "a")]);
        for value in forwarded {
            map.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        let seen = pass(http, &mut map).unwrap();
        assert_eq!(seen.address.ip().to_string(), client, "{forwarded:?}");
        assert_eq!(values(&map, "x-forwarded-for"), appended);
    }
    check(&at_edge(), &[], "203.0.113.9", &["203.0.113.9"]);
    check(
        &at_edge(),
        &["1.1.1.1", "2.2.2.2, 3.3.3.3"],
        "203.0.113.9",
        &["1.1.1.1,2.2.2.2, 3.3.3.3,203.0.113.9"],
    );
    let one_hop = Http { xff_num_trusted_hops: 1, ..at_edge() };
    check(&one_hop, &["1.1.1.1, 2.2.2.2"], "2.2.2.2", &["1.1.1.1, 2.2.2.2,203.0.113.9"]);
    check(&one_hop, &["nonsense"], "203.0.113.9", &["nonsense,203.0.113.9"]);
    check(&inside(), &["1.1.1.1, 2.2.2.2"], "2.2.2.2", &["1.1.1.1, 2.2.2.2"]);
    check(&inside(), &[], "203.0.113.9", &[]);
    let silent = Http { skip_xff_append: true, ..at_edge() };
    check(&silent, &["1.1.1.1"], "203.0.113.9", &["1.1.1.1"]);
}

#[test]
fn a_request_id_is_kept_or_made_as_envoy_does() {
    fn id(http: &Http, sent: Option<&str>) -> Vec<String> {
        let mut map = headers(&[("host", "a")]);
        if let Some(sent) = sent {
            map.insert("x-request-id", HeaderValue::from_str(sent).unwrap());
        }
        pass(http, &mut map).unwrap();
        values(&map, "x-request-id")
    }
    let [made] = &id(&inside(), None)[..] else { panic!() };
    assert_eq!(made.len(), 36);
    assert_eq!(made.as_bytes()[14], b'4', "{made}");
    assert!(matches!(made.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{made}");
    assert_eq!(id(&inside(), Some("mine")), ["mine"]);
    assert_ne!(id(&at_edge(), Some("forged")), ["forged"]);
    assert_eq!(id(&Http { preserve_external_request_id: true, ..at_edge() }, Some("mine")), ["mine"]);
    assert!(id(&Http { generate_request_id: false, ..at_edge() }, None).is_empty());
}

#[test]
fn what_only_trusted_peers_may_say_is_believed_only_from_them() {
    let forged =
        [("host", "a"), ("x-envoy-upstream-rq-timeout-ms", "7"), ("x-envoy-original-path", "/admin")];
    let mut map = headers(&forged);
    assert_eq!(pass(&at_edge(), &mut map).unwrap().timeout_ms, None);
    assert!(!map.contains_key("x-envoy-original-path"));
    let mut map = headers(&forged);
    assert_eq!(pass(&inside(), &mut map).unwrap().timeout_ms, None);
    assert!(map.contains_key("x-envoy-original-path"), "told by an edge in front");
    let known = Http { internal_networks: vec!["203.0.113.0/24".parse().unwrap()], ..at_edge() };
    let mut map = headers(&forged);
    assert_eq!(pass(&known, &mut map).unwrap().timeout_ms, Some(7));
    assert_eq!(values(&map, "x-envoy-internal"), ["true"]);
}

#[test]
fn the_scheme_comes_from_whom_it_can_be_believed() {
    fn check(http: &Http, sent: Option<&str>, scheme: Scheme, forwarded: &str) {
        let mut map = headers(&[("host", "a")]);
        if let Some(sent) = sent {
            map.insert("x-forwarded-proto", HeaderValue::from_str(sent).unwrap());
        }
        assert_eq!(pass(http, &mut map).unwrap().scheme, scheme);
        assert_eq!(values(&map, "x-forwarded-proto"), [forwarded]);
    }
    check(&inside(), None, Scheme::Http, "http");
    check(&inside(), Some("https"), Scheme::Https, "https");
    check(&at_edge(), Some("https"), Scheme::Http, "http");
    let overwritten = Http { scheme_to_overwrite: Some(Scheme::Https), ..inside() };
    check(&overwritten, None, Scheme::Https, "https");
}

#[test]
fn two_hosts_are_refused_and_an_upgrade_is_seen() {
    assert_eq!(pass(&inside(), &mut headers(&[("host", "a"), ("host", "b")])), Err(Reason::BadHost));
    let upgrade = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")];
    let mut map = headers(
        &[("connection", "keep-alive, x-hop"), ("x-hop", "1")].into_iter().chain(upgrade).collect::<Vec<_>>(),
    );
    assert_eq!(pass(&inside(), &mut map).unwrap().upgrade, Upgrade::Asked);
    assert!(map["upgrade"] == "websocket" && map["connection"] == "upgrade", "{map:?}");
    assert_eq!((map.get_all("connection").iter().count(), map.get("x-hop")), (1, None));
    let h2c = [
        ("host", "a"),
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AA"),
    ];
    let mut map = headers(&h2c);
    assert_eq!(pass(&inside(), &mut map).unwrap().upgrade, Upgrade::None);
    assert!(!map.contains_key("upgrade") && !map.contains_key("http2-settings"));
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (content_type, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        let seen = pass(&inside(), &mut headers(&[("host", "a"), ("content-type", content_type)])).unwrap();
        assert_eq!(seen.is_grpc, expected, "{content_type}");
    }
}

#[test]
fn a_response_loses_the_headers_of_its_hop() {
    let mut map = headers(&[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "1"), ("server", "s")]);
    remove_response_hop_by_hop(&mut map);
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["server"]);
    let mut map = headers(&[("connection", "keep-alive"), ("server", "s")]);
    remove_response_hop_by_hop(&mut map);
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["server"]);
}
