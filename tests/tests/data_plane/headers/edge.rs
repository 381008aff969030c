//! Who is believed: the client's address, its scheme, the request's id, what only Envoy may say.

use std::collections::BTreeSet;

use naru_tests::upstream::{header, headers};
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Upstream};

use super::{Stand, ask};

const EDGE: &str = "use_remote_address: true";
const EDGE_BEHIND_ONE: &str = "use_remote_address: true\nxff_num_trusted_hops: 1";
const EDGE_BEHIND_TWO: &str = "use_remote_address: true\nxff_num_trusted_hops: 2";
const ONE_HOP: &str = "xff_num_trusted_hops: 1";

/// Tells the upstream what naru takes the client's address and the scheme for.
const TELLING: &str = r#"
- match: { prefix: / }
  route: { cluster: up }
  request_headers_to_add:
  - header: { key: x-address, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" }
  - header: { key: x-scheme, value: "%REQ(:SCHEME)%" }
"#;

async fn telling(manager: &str) -> Stand {
    Stand::of(Bootstrap::new(TELLING).manager(manager), Speaks::Http1).await
}

#[tokio::test]
async fn the_client_is_who_the_trusted_hops_say() {
    let skipping = format!("{EDGE}\nskip_xff_append: true");
    // For a client on the loopback, Envoy appends an address of its own machine instead.
    for (manager, sent, address, forwarded_for) in [
        ("", None, "127.0.0.1", None),
        ("", Some("1.1.1.1"), "1.1.1.1", Some("1.1.1.1")),
        ("", Some("1.1.1.1, 2.2.2.2"), "2.2.2.2", Some("1.1.1.1, 2.2.2.2")),
        ("", Some("::1"), "::1", Some("::1")),
        ("", Some("1.1.1.1, nonsense"), "127.0.0.1", Some("1.1.1.1, nonsense")),
        ("", Some("1.1.1.1:80"), "127.0.0.1", Some("1.1.1.1:80")),
        (ONE_HOP, Some("1.1.1.1"), "127.0.0.1", Some("1.1.1.1")),
        (ONE_HOP, Some("1.1.1.1, 2.2.2.2"), "1.1.1.1", Some("1.1.1.1, 2.2.2.2")),
        (ONE_HOP, Some("1.1.1.1, nonsense"), "1.1.1.1", Some("1.1.1.1, nonsense")),
        (EDGE, None, "127.0.0.1", Some("127.0.0.1")),
        (EDGE, Some("1.1.1.1"), "127.0.0.1", Some("1.1.1.1,127.0.0.1")),
        (EDGE, Some("nonsense"), "127.0.0.1", Some("nonsense,127.0.0.1")),
        (EDGE_BEHIND_ONE, Some("1.1.1.1, 2.2.2.2"), "2.2.2.2", Some("1.1.1.1, 2.2.2.2,127.0.0.1")),
        (EDGE_BEHIND_ONE, Some("1.1.1.1, nonsense"), "127.0.0.1", Some("1.1.1.1, nonsense,127.0.0.1")),
        (EDGE_BEHIND_TWO, Some("1.1.1.1, 2.2.2.2"), "1.1.1.1", Some("1.1.1.1, 2.2.2.2,127.0.0.1")),
        (EDGE_BEHIND_TWO, Some("1.1.1.1"), "127.0.0.1", Some("1.1.1.1,127.0.0.1")),
        (&skipping, Some("1.1.1.1"), "127.0.0.1", Some("1.1.1.1")),
        (&skipping, None, "127.0.0.1", None),
    ] {
        let stand = telling(manager).await;
        let sent: Vec<_> = sent.iter().map(|sent| ("x-forwarded-for", *sent)).collect();
        let seen = stand.sees(&sent).await;
        assert_eq!(header(&seen, "x-address"), Some(address), "{manager} {sent:?}");
        assert_eq!(header(&seen, "x-forwarded-for"), forwarded_for, "{manager} {sent:?}");
        let external = manager.starts_with(EDGE).then_some(address);
        assert_eq!(header(&seen, "x-envoy-external-address"), external, "{manager} {sent:?}");
    }
}

#[tokio::test]
async fn addresses_in_several_fields_are_one_list() {
    let sent = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2,3.3.3.3")];
    for (manager, address) in
        [("", "3.3.3.3"), (ONE_HOP, "2.2.2.2"), (EDGE_BEHIND_ONE, "3.3.3.3"), (EDGE_BEHIND_TWO, "2.2.2.2")]
    {
        let seen = telling(manager).await.sees(&sent).await;
        assert_eq!(header(&seen, "x-address"), Some(address), "{manager}");
        // Fields of one name and one field with commas are the same (RFC 9110, section 5.2).
        let list = headers(&seen, "x-forwarded-for").join(",");
        let added = if manager.starts_with(EDGE) { ",127.0.0.1" } else { "" };
        assert_eq!(list, format!("1.1.1.1,2.2.2.2,3.3.3.3{added}"));
    }
}

#[tokio::test]
async fn the_scheme_is_that_of_the_connection_unless_a_trusted_hop_says_otherwise() {
    for (manager, sent, forwarded, scheme) in [
        ("", None, "http", "http"),
        ("", Some("https"), "https", "https"),
        ("", Some("ftp"), "ftp", "http"),
        (EDGE, None, "http", "http"),
        (EDGE, Some("https"), "http", "http"),
        (EDGE_BEHIND_ONE, Some("https"), "https", "https"),
    ] {
        let sent: Vec<_> = sent.iter().map(|sent| ("x-forwarded-proto", *sent)).collect();
        let seen = telling(manager).await.sees(&sent).await;
        let found = (header(&seen, "x-forwarded-proto"), header(&seen, "x-scheme"));
        assert_eq!(found, (Some(forwarded), Some(scheme)), "{manager} {sent:?}");
    }
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::new(TELLING).manager(EDGE).cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap.tls(&authority, &["h2", "http/1.1"]));
    for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
        let mut client = Client::connect(naru.address, speaks, &authority).await;
        let seen = ask(&mut client, "/describe", &[("x-forwarded-proto", "http")]).await.json();
        let found = (header(&seen, "x-forwarded-proto"), header(&seen, "x-scheme"));
        assert_eq!(found, (Some("https"), Some("https")));
    }
}

/// RFC 9562, version 4.
fn is_random_uuid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    let is_hex = text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-'));
    let variant = text.as_bytes().get(19).is_some_and(|byte| b"89ab".contains(byte));
    lengths == [8, 4, 4, 4, 12] && is_hex && variant && text.as_bytes()[14] == b'4'
}

#[tokio::test]
async fn a_request_without_an_id_is_given_one_of_its_own() {
    let stand = Stand::new("").await;
    let mut ids = BTreeSet::new();
    for _ in 0..50 {
        let seen = stand.sees(&[]).await;
        let id = header(&seen, "x-request-id").unwrap().to_owned();
        assert!(is_random_uuid(&id), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn the_id_of_a_request_is_kept_but_not_at_the_edge() {
    let preserving = format!("{EDGE}\npreserve_external_request_id: true");
    for (manager, is_kept) in [("", true), (EDGE, false), (preserving.as_str(), true)] {
        let seen = Stand::new(manager).await.sees(&[("x-request-id", "mine")]).await;
        let id = header(&seen, "x-request-id").unwrap();
        assert!(if is_kept { id == "mine" } else { is_random_uuid(id) }, "{manager} {id}");
    }
    let silent = Stand::new("generate_request_id: false").await;
    assert_eq!(header(&silent.sees(&[]).await, "x-request-id"), None);
    assert_eq!(header(&silent.sees(&[("x-request-id", "mine")]).await, "x-request-id"), Some("mine"));
}

#[tokio::test]
async fn the_id_comes_back_to_who_wants_it() {
    let stand = Stand::new("always_set_request_id_in_response: true").await;
    assert_eq!(
        stand.get("/describe", &[("x-request-id", "mine")]).await.header("x-request-id"),
        Some("mine")
    );
    let answer = stand.get("/describe", &[]).await;
    assert_eq!(answer.header("x-request-id"), header(&answer.json(), "x-request-id"));
    assert_eq!(Stand::new("").await.get("/describe", &[]).await.header("x-request-id"), None);
}

#[tokio::test]
async fn what_only_envoy_may_say_is_not_taken_from_a_client_at_the_edge() {
    let names = [
        "x-envoy-internal",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
        "x-envoy-force-trace",
        "x-envoy-ip-tags",
        "x-envoy-original-path",
        "x-envoy-original-host",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
    ];
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 7s }\n";
    let stand = Stand::of(Bootstrap::new(routes).manager(EDGE), Speaks::Http1).await;
    let mut sent: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
    sent.extend([
        ("x-envoy-external-address", "9.9.9.9"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("x-mine", "kept"),
    ]);
    let seen = stand.sees(&sent).await;
    for name in names {
        assert_eq!(header(&seen, name), None);
    }
    assert_eq!(header(&seen, "x-envoy-external-address"), Some("127.0.0.1"));
    assert_eq!(header(&seen, "x-envoy-expected-rq-timeout-ms"), Some("7000"));
    assert_eq!(header(&seen, "x-mine"), Some("kept"));
}

#[tokio::test]
async fn headers_of_envoy_are_added_unless_they_are_suppressed() {
    let stand = Stand::new("").await;
    let answer = stand.get("/describe", &[]).await;
    let time: u32 = answer.header("x-envoy-upstream-service-time").unwrap().parse().unwrap();
    assert!(time < 30_000);
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let routes = "- match: { prefix: / }\n  route: { cluster: up, prefix_rewrite: /describe/ }\n";
    let text = Bootstrap::new(routes).cluster("up", stand.up.address, "").text();
    let text = text.replace(router, &format!("{router}\n              suppress_envoy_headers: true"));
    let naru = Naru::on(&text);
    let answer = naru_tests::client::get(naru.address, "/").await;
    assert_eq!(answer.header("x-envoy-upstream-service-time"), None);
    let seen = answer.json();
    assert_eq!(seen["target"], "/describe/");
    assert_eq!(header(&seen, "x-envoy-original-path"), None);
    assert_eq!(header(&seen, "x-envoy-expected-rq-timeout-ms"), None);
}
