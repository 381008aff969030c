//! Where a request goes: rewrites, redirects, and what a rule answers by itself.

use http::Method;
use naru_tests::client::request;
use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Wire, until};
use serde_json::Value;

use super::{Stand, ask};

/// One rule for what begins with /old.
fn rule(action: &str) -> String {
    format!("- match: {{ prefix: /old }}\n  {action}\n")
}

#[tokio::test]
async fn a_path_is_rewritten_and_the_old_one_told() {
    let prefix = "route: { cluster: up, prefix_rewrite: /describe }";
    let slash = "route: { cluster: up, prefix_rewrite: / }";
    let regex = r#"route: { cluster: up, regex_rewrite: { pattern: { regex: "^/old/([^/]+)" }, substitution: "/describe/\\1/x" } }"#;
    for (action, path, expected) in [
        (prefix, "/old?a=1", "/describe?a=1"),
        (prefix, "/old/b/c?a=1", "/describe/b/c?a=1"),
        (prefix, "/older", "/describeer"),
        (slash, "/old/b", "//b"),
        (slash, "/olddescribe", "/describe"),
        (regex, "/old/b/c?a=1", "/describe/b/x/c?a=1"),
    ] {
        let seen = Stand::with_routes(&rule(action)).await.get(path, &[]).await.json();
        assert_eq!(seen["target"], expected, "{action} {path}");
        assert_eq!(header(&seen, "x-envoy-original-path"), Some(path), "{action} {path}");
    }
    let seen = Stand::with_routes(&rule("route: { cluster: up }")).await.get("/old/b", &[]).await.json();
    assert_eq!((&seen["target"], header(&seen, "x-envoy-original-path")), (&"/old/b".into(), None));
}

#[tokio::test]
async fn a_path_that_no_rule_changes_passes_as_it_was_sent() {
    let stand = Stand::new("").await;
    for path in ["//a//b/../c/./d%2fe%41?x=%20&&y", "/a/../b", "/%", "/a;b=1?", "/?a?b"] {
        let mut client = Wire::connect(stand.naru.address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let seen: Value = serde_json::from_slice(&client.response().await.body).unwrap();
        assert_eq!(seen["target"], path);
    }
}

#[tokio::test]
async fn a_host_is_rewritten_and_the_old_one_told() {
    let literal = "route: { cluster: up, host_rewrite_literal: new.test }";
    let forwarded = "route: { cluster: up, host_rewrite_literal: new.test, append_x_forwarded_host: true }";
    let by_header = "route: { cluster: up, host_rewrite_header: x-host }";
    for up in [Speaks::Http1, Speaks::Http2] {
        for (action, sent, host, original, forwarded_host) in [
            (literal, None, "new.test", Some("a.test"), None),
            (forwarded, None, "new.test", Some("a.test"), Some("a.test")),
            (by_header, Some("h.test"), "h.test", Some("a.test"), None),
            (by_header, None, "a.test", None, None),
        ] {
            let stand = Stand::of(Bootstrap::new(&rule(action)), up).await;
            let mut headers = vec![("host", "a.test")];
            headers.extend(sent.map(|sent| ("x-host", sent)));
            let seen = stand.get("/old", &headers).await.json();
            assert_eq!(seen["authority"].as_str().or(header(&seen, "host")), Some(host), "{action}");
            assert_eq!(header(&seen, "x-envoy-original-host"), original, "{action}");
            assert_eq!(header(&seen, "x-forwarded-host"), forwarded_host, "{action}");
        }
    }
}

#[tokio::test]
async fn a_host_is_rewritten_to_the_name_that_an_endpoint_was_found_by() {
    let stand = Stand::with_routes(&rule("route: { cluster: up }")).await;
    let port = stand.up.address.port();
    let lines = format!(
        "- name: named\n  type: STRICT_DNS\n  dns_lookup_family: V4_ONLY\n  load_assignment:\n    \
         cluster_name: named\n    endpoints:\n    - lb_endpoints:\n      - endpoint: {{ address: {{ \
         socket_address: {{ address: localhost, port_value: {port} }} }} }}\n"
    );
    let text = Bootstrap::new(&rule("route: { cluster: named, auto_host_rewrite: true }"))
        .cluster("other", stand.up.address, "")
        .text();
    let text = text.replace("  clusters:\n", &format!("  clusters:\n{}", indented(&lines)));
    let naru = Naru::on(&text);
    until("the name to be looked up", async || {
        naru.clusters().iter().any(|c| c.name == "named" && !c.endpoints.is_empty()).then_some(())
    })
    .await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let seen = ask(&mut client, "/old", &[("host", "a.test")]).await.json();
    assert_eq!(header(&seen, "host"), Some("localhost"));
    assert_eq!(header(&seen, "x-envoy-original-host"), Some("a.test"));
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[tokio::test]
async fn a_query_is_edited() {
    // In words of naru's own: Envoy's API has none.
    let routes = "
- match: { prefix: /describe }
  route: { cluster: up }
  metadata:
    filter_metadata:
      naru.route: { query: { remove: [gone], set: [[set, new]], add: [[added, a b]] } }
";
    let stand = Stand::with_routes(routes).await;
    for (path, expected) in [
        ("/describe", "/describe?set=new&added=a%20b"),
        ("/describe?gone=1&kept=%20&set=old&gone&set=2", "/describe?kept=%20&set=new&added=a%20b"),
        ("/describe?%67one=1&goner=2", "/describe?goner=2&set=new&added=a%20b"),
    ] {
        assert_eq!(stand.get(path, &[]).await.json()["target"], expected, "{path}");
    }
}

#[tokio::test]
async fn a_redirect_says_where() {
    let whole = "redirect: { scheme_redirect: https, host_redirect: c.test, port_redirect: 444, \
                 prefix_rewrite: /z, response_code: FOUND }";
    let regex = r#"redirect: { regex_rewrite: { pattern: { regex: "/old/(.*)" }, substitution: "/\\1/n" } }"#;
    for (action, host, status, location) in [
        ("redirect: { https_redirect: true }", "a.test", 301, "https://a.test/old/x?q=1"),
        ("redirect: { https_redirect: true }", "a.test:80", 301, "https://a.test/old/x?q=1"),
        ("redirect: { https_redirect: true }", "a.test:8080", 301, "https://a.test:8080/old/x?q=1"),
        ("redirect: { host_redirect: b.test }", "a.test:8080", 301, "http://b.test/old/x?q=1"),
        ("redirect: { port_redirect: 8443 }", "a.test:80", 301, "http://a.test:8443/old/x?q=1"),
        ("redirect: { port_redirect: 8443 }", "[::1]:80", 301, "http://[::1]:8443/old/x?q=1"),
        ("redirect: { path_redirect: /p }", "a.test:80", 301, "http://a.test:80/p?q=1"),
        ("redirect: { path_redirect: '/p?z=1' }", "a.test", 301, "http://a.test/p?z=1"),
        ("redirect: { path_redirect: /p, strip_query: true }", "a.test", 301, "http://a.test/p"),
        ("redirect: { prefix_rewrite: /n }", "a.test", 301, "http://a.test/n/x?q=1"),
        (regex, "a.test", 301, "http://a.test/x/n?q=1"),
        (whole, "a.test:8080", 302, "https://c.test:444/z/x?q=1"),
    ] {
        let stand = Stand::with_routes(&rule(action)).await;
        let answer = stand.get("/old/x?q=1", &[("host", host)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (status, Some(location)), "{action}");
        assert_eq!((answer.text().as_str(), stand.up.requests()), ("", 0));
    }
}

#[tokio::test]
async fn every_code_of_a_redirect_is_given() {
    for (name, status) in [
        ("MOVED_PERMANENTLY", 301),
        ("FOUND", 302),
        ("SEE_OTHER", 303),
        ("TEMPORARY_REDIRECT", 307),
        ("PERMANENT_REDIRECT", 308),
    ] {
        let action = format!("redirect: {{ path_redirect: /p, response_code: {name} }}");
        assert_eq!(Stand::with_routes(&rule(&action)).await.get("/old", &[]).await.status, status);
    }
}

#[tokio::test]
async fn a_virtual_host_that_requires_tls_sends_others_there() {
    let host = "- name: v\n  domains: ['*']\n  require_tls: ALL\n  routes:\n  \
                - match: { prefix: / }\n    route: { cluster: up }\n";
    let stand = Stand::of(Bootstrap::with_virtual_hosts(host), Speaks::Http1).await;
    let answer = stand.get("/x?y", &[("host", "a.test")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (301, Some("https://a.test/x?y")));
    assert_eq!(stand.up.requests(), 0);
}

#[tokio::test]
async fn a_rule_answers_by_itself() {
    let routes = r#"
- match: { path: /text }
  direct_response: { status: 418, body: { inline_string: "a teapot" } }
- match: { path: /json }
  direct_response: { status: 200, body: { inline_string: "{}" } }
  response_headers_to_add: [{ header: { key: content-type, value: application/json }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]
- match: { path: /nothing }
  direct_response: { status: 204 }
"#;
    let stand = Stand::with_routes(routes).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(stand.naru.address, speaks).await;
        for (method, path, status, kind, length, body) in [
            (Method::GET, "/text", 418, Some("text/plain"), Some("8"), "a teapot"),
            (Method::HEAD, "/text", 418, Some("text/plain"), Some("8"), ""),
            (Method::POST, "/text", 418, Some("text/plain"), Some("8"), "a teapot"),
            (Method::GET, "/json", 200, Some("application/json"), Some("2"), "{}"),
            (Method::GET, "/nothing", 204, None, None, ""),
        ] {
            let sent = if method == Method::POST { Outbound::sized("and more") } else { Outbound::empty() };
            let answer = client.exchange(request(method.clone(), path, sent)).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, body), "{method} {path}");
            assert_eq!(answer.header("content-type"), kind, "{method} {path}");
            if speaks == Speaks::Http1 {
                assert_eq!(answer.header("content-length"), length, "{method} {path}");
            }
        }
    }
    assert_eq!(stand.up.requests(), 0);
}
