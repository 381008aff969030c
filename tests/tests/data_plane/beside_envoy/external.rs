//! Somebody else is asked whether requests may pass: servers of others (`tests/authz/server.py`), with Envoy's messages.

use std::net::SocketAddr;

use naru_tests::bootstrap::HTTP2;
use naru_tests::files::{Directory, documents};
use naru_tests::upstream::headers;
use naru_tests::{Bootstrap, Envoy, Foreign, Naru, Speaks, Upstream, Wire};
use serde_json::{Value, json};

const LOG: &str = "code: '%RESPONSE_CODE%'\nflags: '%RESPONSE_FLAGS%'\ndetails: '%RESPONSE_CODE_DETAILS%'\nroute: '%ROUTE_NAME%'\n";
const ROUTES: &str = r#"
- name: tenant
  match: { prefix: /, headers: [{ name: x-tenant, string_match: { exact: b } }] }
  route: { cluster: up }
- name: "off"
  match: { prefix: /off }
  route: { cluster: up }
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
      disabled: true
- name: context
  match: { prefix: /context }
  route: { cluster: up }
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
      check_settings: { context_extensions: { tenant: a, zone: b }, disable_request_body_buffering: true }
- name: small
  match: { prefix: /small }
  route: { cluster: up }
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
      check_settings: { with_request_body: { max_request_bytes: 4 } }
- name: direct
  match: { prefix: /direct }
  direct_response: { status: 200, body: { inline_string: direct } }
- name: all
  match: { prefix: / }
  route: { cluster: up }
"#;

fn filter(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "- name: envoy.filters.http.ext_authz\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\n    \
         transport_api_version: V3\n{lines}"
    )
}

/// A request as it is written: its target, the rest of its head, its body.
#[derive(Clone, Debug)]
struct Ask {
    target: String,
    headers: String,
    body: Vec<Vec<u8>>,
}

fn get(target: &str, headers: &str) -> Ask {
    Ask { target: target.into(), headers: headers.into(), body: Vec::new() }
}

fn does(word: &str, headers: &str) -> Ask {
    get("/a?a=1&b=2&c=3", &format!("x-do: {word}\r\n{headers}"))
}

fn post(target: &str, body: &[u8]) -> Ask {
    let target = format!("POST {target}");
    Ask { target, headers: format!("content-length: {}\r\n", body.len()), body: vec![body.to_vec()] }
}

const TOLD: [&str; 20] = [
    "x-do",
    "x-user",
    "x-set",
    "x-join",
    "x-join-new",
    "x-add",
    "x-absent",
    "x-absent-new",
    "x-over",
    "x-if",
    "x-if-new",
    "x-gone",
    "x-tenant",
    "x-hidden",
    "x-told",
    "x-evil",
    "authorization",
    "connection",
    "x-envoy-auth-failure-mode-allowed",
    "x-envoy-auth-partial-body",
];

/// What is answered, what the upstream got, and what was asked meanwhile.
async fn ask(address: SocketAddr, asks: &[Ask], foreign: &mut Foreign) -> Vec<String> {
    let mut seen = Vec::new();
    foreign.ask(json!({ "take": 0 })).await;
    for Ask { target, headers: own, body } in asks {
        let (method, target) = target.split_once(' ').unwrap_or(("GET", target));
        let mut client = Wire::connect(address).await;
        client.send(format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\n{own}\r\n")).await;
        for part in body {
            client.send(part).await;
        }
        let answer = client.response().await;
        let told = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(got) => {
                let told: Vec<_> = TOLD.iter().map(|name| headers(&got, name)).collect();
                format!("{} {} {told:?} {}", got["method"], got["target"], got["body"])
            }
            Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let names = [
            "x-why",
            "set-cookie",
            "content-type",
            "www-authenticate",
            "location",
            "x-told",
            "x-told-set",
            "x-up",
            "x-up-absent",
            "x-up-if",
            "x-other",
            "grpc-status",
            "grpc-message",
        ];
        let own: Vec<_> = names.iter().map(|name| answer.head.all(name)).collect();
        let asked = foreign.ask(json!({ "take": 0 })).await;
        let asked: Vec<_> = asked.as_array().unwrap().iter().cloned().map(plain).collect();
        seen.push(format!("{} {told}\n  {own:?}\n  {}", answer.status(), json!(asked)));
    }
    seen
}

/// Without what is another each time.
fn plain(mut asked: Value) -> Value {
    if let Some(headers) = asked["headers"].as_object_mut() {
        // Of a message without a body naru does not say that it is empty.
        headers.retain(|name, value| {
            name != "x-request-id" && (name != "content-length" || value != &json!(["0"]))
        });
        if let Some(hops) = headers.get_mut("x-forwarded-for") {
            *hops = json!("hops");
        }
    }
    if let Some(listed) = asked["listed"].as_array_mut() {
        listed.retain(|pair| pair[0] != "x-request-id" && pair[0] != "x-forwarded-for");
    }
    asked
}

async fn check(lines: &str, asks: &[Ask]) {
    let mut foreign = Foreign::start("authz/server.py");
    let ports = foreign.answer().await;
    let port = |name: &str| -> SocketAddr { ([127, 0, 0, 1], ports[name].as_u64().unwrap() as u16).into() };
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let of = |log: &str| {
        Bootstrap::new(ROUTES)
            .json_log(&files.path(log), LOG)
            .cluster("up", up.address, "")
            .cluster("by-http", port("http"), "")
            .cluster("by-grpc", port("grpc"), HTTP2)
            .cluster("nobody", naru_tests::wire::refusing_address(), "")
            .filter(filter(lines).trim_end())
    };
    let envoy = Envoy::start(&of("envoy").admin().text()).await;
    let by_envoy = ask(envoy.address, asks, &mut foreign).await;
    let naru = Naru::start(&of("naru"));
    let by_naru = ask(naru.address, asks, &mut foreign).await;
    let logged = documents(&files.path("envoy"), asks.len()).await;
    let known = documents(&files.path("naru"), asks.len()).await;
    let mut wrong = String::new();
    for at in 0..asks.len() {
        if by_envoy[at] != by_naru[at] || logged[at] != known[at] {
            wrong += &format!(
                "== {:?}\nenvoy: {}\n  {}\nnaru:  {}\n  {}\n",
                asks[at], by_envoy[at], logged[at], by_naru[at], known[at]
            );
        }
    }
    assert!(wrong.is_empty(), "{lines}\n{wrong}");
    naru.settles().await;
}

/// `docs/equality-with-envoy.md` explains them.
pub const DIFFERENCES: [&str; 3] =
    ["What cannot be a header", "What frames a message", "Headers that are appended to a refusal"];

#[tokio::test]
async fn answers_that_naru_takes_otherwise() {
    let mut foreign = Foreign::start("authz/server.py");
    let ports = foreign.answer().await;
    let grpc = SocketAddr::from(([127, 0, 0, 1], ports["grpc"].as_u64().unwrap() as u16));
    let up = Upstream::plain(Speaks::Http1).await;
    let lines = "grpc_service: { envoy_grpc: { cluster_name: by-grpc }, timeout: 20s }\n";
    let bootstrap = Bootstrap::new("- match: { prefix: / }\n  route: { cluster: up }")
        .cluster("up", up.address, "")
        .cluster("by-grpc", grpc, HTTP2)
        .filter(filter(lines).trim_end());
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let ask = async |address: SocketAddr, word: &str| {
        let mut client = Wire::connect(address).await;
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-do: {word}\r\n\r\n");
        client.send(head).await;
        let answer = client.response().await;
        (answer.status(), answer.head.get("set-cookie").map(str::to_owned))
    };
    let cookie = Some("a=1".to_owned());
    for (word, by_envoy, by_naru) in [
        ("invalid", (503, None), (500, None)),
        ("frame", (400, None), (200, None)),
        ("cookie", (403, None), (403, cookie)),
    ] {
        assert_eq!(ask(envoy.address, word).await, by_envoy, "Envoy: {word}");
        assert_eq!(ask(naru.address, word).await, by_naru, "naru: {word}");
    }
    naru.settles().await;
}

const CLIENT: &str = "x-set: old\r\nx-join: old\r\nx-add: old\r\nx-absent: old\r\nx-over: old\r\nx-if: old\r\n\
                      x-gone: 1\r\nx-twice: a\r\nx-twice: b\r\nauthorization: Basic YTpi\r\n";

#[tokio::test]
async fn by_grpc_the_same_is_asked_and_done() {
    let lines = "grpc_service: { envoy_grpc: { cluster_name: by-grpc }, timeout: 20s, \
                 initial_metadata: [{ key: x-initial, value: here }] }\n";
    let asks = [
        get("/a?b=c", CLIENT),
        does("ok", CLIENT),
        get(
            "/a?b",
            "x-do: ok\r\nx-reply: x-up: old|x-up-absent: old|x-up-if: old|x-told: old|x-told-set: old\r\n",
        ),
        does("deny", CLIENT),
        does("deny", "content-type: application/grpc\r\n"),
        does("bare", ""),
        does("error", ""),
        does("own", ""),
        does("route", ""),
        does("query", ""),
        get("/off", "x-do: deny\r\n"),
        get("/off", ""),
        get("/context", "x-envoy-downstream-service-cluster: mine\r\n"),
        get("/direct", "x-do: ok\r\n"),
        post("/a", b"hello"),
    ];
    check(lines, &asks).await;
}

#[tokio::test]
async fn by_http_the_same_is_asked_and_done() {
    let service = "http_service:\n  server_uri: { uri: 'http://by-http', cluster: by-http, timeout: 20s }\n";
    let asks = [
        get("/a?b=c", CLIENT),
        does("ok", CLIENT),
        does("deny", CLIENT),
        does("deny", "content-type: application/grpc\r\n"),
        does("redirect", ""),
        does("error", ""),
        does("wrong", ""),
        get("/off", "x-do: deny\r\n"),
        get("/direct", "x-do: ok\r\n"),
        post("/a", b"hello"),
    ];
    check(&format!("{service}allowed_headers: {{ patterns: [{{ exact: x-do }}] }}\n"), &asks).await;
    let all = format!(
        "{service}  path_prefix: /check\n  authorization_request:\n    headers_to_add: [{{ key: x-add, value: own }}]\n  \
         authorization_response:\n    allowed_upstream_headers: {{ patterns: [{{ exact: x-user }}, {{ prefix: x-s }}] }}\n    \
         allowed_upstream_headers_to_append: {{ patterns: [{{ exact: x-add }}] }}\n    \
         allowed_client_headers: {{ patterns: [{{ exact: x-why }}] }}\n    \
         allowed_client_headers_on_success: {{ patterns: [{{ exact: x-told }}] }}\n\
         allowed_headers: {{ patterns: [{{ prefix: x- }}] }}\n\
         disallowed_headers: {{ patterns: [{{ exact: x-twice }}] }}\nstatus_on_error: {{ code: 503 }}\n"
    );
    check(&all, &asks).await;
    let over = format!(
        "{service}  path_override: /all\nencode_raw_headers: true\nallowed_headers: {{ patterns: [{{ prefix: X, ignore_case: true }}] }}\n"
    );
    check(&over, &asks[..3]).await;
}

#[tokio::test]
async fn who_gets_no_answer_is_refused_or_let_through_alike() {
    let grpc = |cluster: &str, timeout: &str, rest: &str| {
        format!("grpc_service: {{ envoy_grpc: {{ cluster_name: {cluster} }}, timeout: {timeout} }}\n{rest}")
    };
    let http = |cluster: &str, timeout: &str, rest: &str| {
        format!(
            "http_service: {{ server_uri: {{ uri: 'http://x', cluster: {cluster}, timeout: {timeout} }} }}\n\
             allowed_headers: {{ patterns: [{{ exact: x-do }}] }}\n{rest}"
        )
    };
    let open = "failure_mode_allow: true\nfailure_mode_allow_header_add: true\n";
    let slow = [does("slow", ""), does("slow", "content-type: application/grpc\r\n")];
    check(&grpc("by-grpc", "0.3s", "status_on_error: { code: 504 }\n"), &slow).await;
    check(&http("by-http", "0.3s", ""), &slow).await;
    let asks = [get("/", ""), does("error", ""), post("/", b"hello")];
    for lines in [
        grpc("nobody", "5s", ""),
        http("nobody", "5s", ""),
        grpc("nobody", "5s", open),
        http("nobody", "5s", open),
        grpc("by-grpc", "20s", open),
        http("by-http", "20s", "failure_mode_allow: true\n"),
    ] {
        check(&lines, &asks).await;
    }
}

#[tokio::test]
async fn bodies_are_told_alike() {
    let grpc = "grpc_service: { envoy_grpc: { cluster_name: by-grpc }, timeout: 20s }\n";
    let http = "http_service: { server_uri: { uri: 'http://x', cluster: by-http, timeout: 20s } }\n\
                allowed_headers: { patterns: [{ exact: x-do }] }\n";
    let chunked = |parts: &[&str]| Ask {
        target: "POST /chunked".into(),
        headers: "transfer-encoding: chunked\r\n".into(),
        body: parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len()).into_bytes()).collect(),
    };
    let asks = [
        get("/", ""),
        post("/", b""),
        post("/", b"12345678"),
        post("/", b"123456789"),
        post("/", &vec![b'x'; 100_000]),
        post("/", b"no \xff text"),
        chunked(&["1234", "5678", ""]),
        chunked(&["1234", "56789", ""]),
        chunked(&[""]),
        post("/context", b"123456789"),
        post("/small", b"1234"),
        post("/small", b"12345"),
        Ask { headers: "x-do: deny\r\ncontent-length: 5\r\n".into(), ..post("/", b"hello") },
    ];
    for service in [grpc, http] {
        check(&format!("{service}with_request_body: {{ max_request_bytes: 8 }}\n"), &asks).await;
        let partial = format!(
            "{service}with_request_body: {{ max_request_bytes: 8, allow_partial_message: true, pack_as_bytes: true }}\n"
        );
        // How much is there when it is asked is chance where it is more than one frame.
        let is_sure = |ask: &&Ask| !ask.target.contains("chunked") && !ask.headers.contains("100000");
        let sure: Vec<_> = asks.iter().filter(is_sure).cloned().collect();
        check(&partial, &sure).await;
    }
}

#[tokio::test]
async fn what_is_told_and_what_may_be_said_is_bounded_alike() {
    let grpc =
        "grpc_service: { envoy_grpc: { cluster_name: by-grpc, authority: authz.example }, timeout: 20s }\n";
    let asks = [get("/a?b=c", CLIENT), does("ok", CLIENT), does("deny", "")];
    for more in [
        "allowed_headers: { patterns: [{ prefix: x- }, { exact: ':path' }] }\ndisallowed_headers: { patterns: [{ suffix: twice }] }\n",
        "encode_raw_headers: true\n",
        "validate_mutations: true\nmax_denied_response_body_bytes: 10\n",
        "include_peer_certificate: true\ninclude_tls_session: true\nmetadata_context_namespaces: [envoy.filters.http.jwt_authn]\n",
        "filter_enabled: { default_value: { numerator: 0, denominator: HUNDRED } }\n",
        "filter_enabled: { default_value: { numerator: 0, denominator: HUNDRED } }\nstatus_on_error: { code: 429 }\n\
         deny_at_disable: { default_value: true, runtime_key: x }\n",
    ] {
        check(&format!("{grpc}{more}"), &asks).await;
    }
}

#[tokio::test]
async fn another_rule_takes_what_was_changed() {
    let valid =
        "grpc_service: { envoy_grpc: { cluster_name: by-grpc }, timeout: 20s }\nvalidate_mutations: true\n";
    check(valid, &[does("invalid", ""), does("ok", "")]).await;
    let grpc =
        "grpc_service: { envoy_grpc: { cluster_name: by-grpc }, timeout: 20s }\nclear_route_cache: true\n";
    let asks = [
        get("/", ""),
        does("route", ""),
        get("/context", "x-do: route\r\n"),
        get("/direct", "x-do: route\r\n"),
        get("/off", "x-do: route\r\n"),
        does("ok", ""),
    ];
    check(grpc, &asks).await;
    let http = "http_service:\n  server_uri: { uri: 'http://x', cluster: by-http, timeout: 20s }\n  \
                authorization_response: { allowed_upstream_headers: { patterns: [{ exact: x-tenant }] } }\n\
                allowed_headers: { patterns: [{ exact: x-do }] }\nclear_route_cache: true\n";
    check(http, &asks).await;
}
