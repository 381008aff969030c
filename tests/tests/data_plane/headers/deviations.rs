//! What Envoy 1.40 or an RFC does with headers that naru once did not.

use naru_tests::bootstrap::TO_UP;
use naru_tests::files::{Directory, documents};
use naru_tests::http2::{self, H2Client};
use naru_tests::upstream::{header, headers};
use naru_tests::{Bootstrap, Naru, Speaks, Wire};

use super::Stand;

#[tokio::test]
async fn who_a_client_certificate_names_is_not_taken_from_a_client() {
    // The default of `forward_client_cert_details` is SANITIZE.
    for manager in ["", "use_remote_address: true"] {
        let seen = Stand::new(manager).await.sees(&[("x-forwarded-client-cert", "By=spiffe://a")]).await;
        assert_eq!(header(&seen, "x-forwarded-client-cert"), None, "{manager}");
    }
}

#[tokio::test]
async fn the_external_address_is_told_also_where_the_router_adds_no_headers() {
    let up = naru_tests::Upstream::plain(Speaks::Http1).await;
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let text = Bootstrap::to(up.address).manager("use_remote_address: true").text();
    let text = text.replace(router, &format!("{router}\n              suppress_envoy_headers: true"));
    let naru = Naru::on(&text);
    let seen = naru_tests::client::get(naru.address, "/describe").await.json();
    assert_eq!(header(&seen, "x-envoy-external-address"), Some("127.0.0.1"));
}

#[tokio::test]
async fn pieces_of_a_cookie_are_joined_for_http1() {
    // RFC 9113, section 8.2.3.
    let stand = Stand::new("").await;
    let mut client = H2Client::connect(stand.naru.address).await;
    let mut get = http2::get(stand.naru.address, "/describe");
    for piece in ["a=1", "b=2", "c=3"] {
        get.headers_mut().append("cookie", piece.parse().unwrap());
    }
    let (response, _) = client.request(get, true).await;
    let mut body = http2::response(response).await.unwrap().into_body();
    let seen = serde_json::from_slice(&http2::read(&mut body).await.unwrap().0).unwrap();
    assert_eq!(headers(&seen, "cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn a_value_that_is_not_there_is_empty_and_its_header_is_left_out() {
    let routes = r#"
- match: { prefix: / }
  route: { cluster: up }
  request_headers_to_add:
  - header: { key: x-none, value: "%REQ(X-NONE)%" }
  - { header: { key: x-kept, value: "%REQ(X-NONE)%" }, keep_empty_value: true }
  - header: { key: x-half, value: "%REQ(X-MINE)%/%REQ(X-NONE)%" }
  response_headers_to_add:
  - header: { key: x-back, value: "%RESP(X-NONE)%" }
"#;
    let stand = Stand::with_routes(routes).await;
    let answer = stand.get("/describe", &[("x-mine", "abc")]).await;
    let seen = answer.json();
    assert_eq!(header(&seen, "x-none"), None);
    assert_eq!(header(&seen, "x-kept"), Some(""));
    assert_eq!(header(&seen, "x-half"), Some("abc/"));
    assert_eq!(answer.header("x-back"), None);
}

#[tokio::test]
async fn a_value_in_an_answer_is_filled_in_from_that_answer() {
    let routes = r#"
- match: { prefix: / }
  route: { cluster: up }
  response_headers_to_add:
  - header: { key: x-code, value: "%RESPONSE_CODE%" }
  - header: { key: x-back, value: "%RESP(X-THERE)%" }
"#;
    let stand = Stand::with_routes(routes).await;
    let answer = stand.get("/status/404", &[("x-reply", "x-there: yes")]).await;
    assert_eq!((answer.header("x-code"), answer.header("x-back")), (Some("404"), Some("yes")));
}

#[tokio::test]
async fn a_scheme_that_is_overwritten_is_also_told() {
    let stand = Stand::new("scheme_header_transformation: { scheme_to_overwrite: https }").await;
    for sent in [&[][..], &[("x-forwarded-proto", "http")]] {
        assert_eq!(header(&stand.sees(sent).await, "x-forwarded-proto"), Some("https"));
    }
}

#[tokio::test]
async fn a_client_that_is_not_internal_sets_no_timeouts_and_no_retries() {
    // No address is internal unless `internal_address_config` says so.
    let stand = Stand::new("").await;
    for name in [
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
    ] {
        assert_eq!(header(&stand.sees(&[(name, "1")]).await, name), None, "{name}");
    }
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 7s }\n";
    let seen = Stand::with_routes(routes).await.sees(&[("x-envoy-upstream-rq-timeout-ms", "99000")]).await;
    assert_eq!(header(&seen, "x-envoy-expected-rq-timeout-ms"), Some("7000"));
}

#[tokio::test]
async fn a_host_is_not_rewritten_to_the_address_of_an_endpoint_without_a_name() {
    let routes = "- match: { prefix: / }\n  route: { cluster: up, auto_host_rewrite: true }\n";
    let seen = Stand::with_routes(routes).await.sees(&[("host", "a.test")]).await;
    assert_eq!((header(&seen, "host"), header(&seen, "x-envoy-original-host")), (Some("a.test"), None));
}

#[tokio::test]
async fn a_hop_that_is_trusted_may_say_that_tls_was_spoken() {
    let host = "- name: v\n  domains: ['*']\n  require_tls: ALL\n  routes:\n  \
                - match: { prefix: / }\n    route: { cluster: up }\n";
    let stand = Stand::of(Bootstrap::with_virtual_hosts(host), Speaks::Http1).await;
    assert_eq!(stand.get("/describe", &[("x-forwarded-proto", "https")]).await.status, 200);
    assert_eq!(stand.get("/describe", &[("x-forwarded-proto", "http")]).await.status, 301);
}

#[tokio::test]
async fn a_path_that_a_pattern_does_not_change_is_told_as_well() {
    let routes = r#"
- match: { prefix: / }
  route: { cluster: up, regex_rewrite: { pattern: { regex: "^/old" }, substitution: "/new" } }
"#;
    let seen = Stand::with_routes(routes).await.sees(&[]).await;
    assert_eq!(header(&seen, "x-envoy-original-path"), Some("/describe"));
}

#[tokio::test]
async fn a_host_that_is_none_is_answered_400() {
    // RFC 9112, section 3.2.
    for up in [Speaks::Http1, Speaks::Http2] {
        let stand = Stand::of(Bootstrap::new(TO_UP), up).await;
        for host in ["a b", "a/b", "a?b", "a#b", "a\tb", "<a>", "a\\b", "\"a\"", "a{b}", "a|b"] {
            let mut client = Wire::connect(stand.naru.address).await;
            client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            assert_eq!(client.response().await.status(), 400, "{host:?} to {up:?}");
        }
        assert_eq!(stand.up.requests(), 0);
    }
}

#[tokio::test]
async fn a_log_tells_the_head_that_was_forwarded_and_the_status_of_the_answer() {
    let directory = Directory::new();
    let log = directory.path("access.log");
    let fields = "path: '%REQ(:PATH)%'\nhost: '%REQ(:AUTHORITY)%'\noriginal: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%'\n\
                  status: '%RESP(:STATUS)%'\n";
    let routes = "
- match: { prefix: /old }
  route: { cluster: up, prefix_rewrite: /describe, host_rewrite_literal: new.test }
- match: { prefix: /own }
  direct_response: { status: 418 }
";
    let stand = Stand::of(Bootstrap::new(routes).json_log(&log, fields), Speaks::Http1).await;
    stand.get("/old", &[("host", "a.test")]).await;
    let forwarded = documents(&log, 1).await.remove(0);
    assert_eq!((&forwarded["path"], &forwarded["original"]), (&"/describe".into(), &"/old".into()));
    assert_eq!((&forwarded["host"], &forwarded["status"]), (&"new.test".into(), &"200".into()));
    stand.get("/own", &[("host", "a.test")]).await;
    let own = documents(&log, 2).await.remove(1);
    assert_eq!(
        (&own["path"], &own["host"], &own["status"]),
        (&"/own".into(), &"a.test".into(), &"418".into())
    );
}

#[tokio::test]
async fn a_client_of_an_internal_network_may_set_a_timeout() {
    let networks = "internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }";
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 7s }\n";
    let stand = Stand::of(Bootstrap::new(routes).manager(networks), Speaks::Http1).await;
    for (forwarded_for, is_internal) in [
        (Some("10.1.2.3"), true),
        (Some("11.1.2.3"), false),
        (Some("10.1.2.3, 10.1.2.4"), false),
        (None, false),
    ] {
        let mut sent = vec![("x-envoy-upstream-rq-timeout-ms", "99000"), ("x-envoy-internal", "yes")];
        sent.extend(forwarded_for.map(|value| ("x-forwarded-for", value)));
        let seen = stand.sees(&sent).await;
        let timeout = if is_internal { "99000" } else { "7000" };
        assert_eq!(header(&seen, "x-envoy-expected-rq-timeout-ms"), Some(timeout), "{forwarded_for:?}");
        assert_eq!(header(&seen, "x-envoy-internal"), is_internal.then_some("true"), "{forwarded_for:?}");
    }
}

#[tokio::test]
async fn an_internal_client_at_the_edge_is_not_an_external_one() {
    let networks = "internal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }";
    let stand = Stand::new(&format!("use_remote_address: true\n{networks}")).await;
    let seen = stand.sees(&[("x-envoy-original-path", "/a"), ("x-request-id", "mine")]).await;
    assert_eq!(header(&seen, "x-envoy-internal"), Some("true"));
    assert_eq!(header(&seen, "x-envoy-external-address"), None);
    assert_eq!(header(&seen, "x-envoy-original-path"), Some("/a"));
    assert_eq!(header(&seen, "x-request-id"), Some("mine"));
    // Somebody forwarded for it: who it is can no longer be known from the connection.
    let seen = stand.sees(&[("x-forwarded-for", "127.0.0.1")]).await;
    assert_eq!(header(&seen, "x-envoy-internal"), None);
    assert_eq!(header(&seen, "x-envoy-external-address"), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_target_that_is_no_path_is_answered_400() {
    let stand = Stand::new("").await;
    for target in ["a", "a:80", "*"] {
        let mut client = Wire::connect(stand.naru.address).await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(client.response().await.status(), 400, "{target}");
    }
    assert_eq!(stand.up.requests(), 0);
}
