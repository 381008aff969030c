//! Somebody else is asked whether requests may pass, as documents of Istio say; and rules that ask for claims.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use naru_base::Json;
use naru_jose::{Algorithm, Jwks, SigningKey};
use naru_tests::bootstrap::HTTP2;
use naru_tests::up::free_address;
use naru_tests::upstream::{header, headers};
use naru_tests::{Bootstrap, Foreign, Naru, Speaks, Up, Upstream, Wire, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A server that is asked, and its ports by gRPC and by HTTP.
async fn server() -> (Foreign, u16, u16) {
    let mut foreign = Foreign::start("authz/server.py");
    let ports = foreign.answer().await;
    let port = |name: &str| ports[name].as_u64().unwrap() as u16;
    (foreign, port("grpc"), port("http"))
}

async fn is_open(gate: SocketAddr) {
    // Its socket is claimed before it is shared: whoever comes between is reset.
    until("the gateway to answer", async || {
        let mut stream = TcpStream::connect(gate).await.ok()?;
        stream.write_all(b"GET /direct HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
        (stream.read(&mut [0; 64]).await.ok()? > 0).then_some(())
    })
    .await;
}

async fn ask(gate: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut client = Wire::connect(gate).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
    let answer = client.response().await;
    (answer.status(), String::from_utf8_lossy(&answer.body).into_owned())
}

fn gateway(gate: SocketAddr, rules: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  selector: {{ istio: ingressgateway }}
  servers: [{{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: all }}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
{rules}
",
        gate.port()
    )
}

fn direct(of: &str, matches: &str) -> String {
    format!("  - {matches}\n    directResponse: {{ status: 200, body: {{ string: '{of}' }} }}\n")
}

#[tokio::test]
async fn policies_of_istio_ask_a_provider_of_the_mesh() {
    let (mut foreign, grpc, http) = server().await;
    let up = Upstream::plain(Speaks::Http1).await;
    let gate = free_address();
    let entry = |name: &str, port: u16, protocol: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name} }}\n\
             spec: {{ hosts: [{name}.test], ports: [{{ number: {port}, name: {protocol}, protocol: {protocol} }}], \
             resolution: STATIC, endpoints: [{{ address: 127.0.0.1 }}] }}\n"
        )
    };
    let policy = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name} }}\n\
             spec: {spec}\n"
        )
    };
    let custom = |provider: &str, paths: &str| {
        format!(
            "{{ action: CUSTOM, provider: {{ name: {provider} }}, \
             rules: [{{ to: [{{ operation: {{ paths: [{paths}] }} }}] }}] }}"
        )
    };
    let deny = "{ action: DENY, rules: [{ to: [{ operation: { paths: [/http/secret] } }] }] }";
    let audit = "{ action: AUDIT, rules: [{ to: [{ operation: { paths: [/plain] } }] }] }";
    let documents = [
        gateway(
            gate,
            &format!(
                "{}  - route: [{{ destination: {{ host: up.test, port: {{ number: {} }} }} }}]\n",
                direct("direct", "match: [{ uri: { prefix: /direct } }]"),
                up.address.port()
            ),
        ),
        entry("up", up.address.port(), "HTTP"),
        entry("by-grpc", grpc, "GRPC"),
        entry("by-http", http, "HTTP"),
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio, namespace: istio-system }}\ndata:\n  \
             mesh: |\n    accessLogFile: /dev/stdout\n    extensionProviders:\n    - name: by-grpc\n      \
             envoyExtAuthzGrpc: {{ service: by-grpc.test, port: {grpc}, timeout: 20s }}\n"
        ),
        format!(
            "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{ name: i }}\nspec:\n  \
             profile: default\n  meshConfig:\n    extensionProviders:\n    - name: by-http\n      \
             envoyExtAuthzHttp:\n        service: by-http.test\n        port: {http}\n        timeout: 20s\n        \
             pathPrefix: /check\n        includeRequestHeadersInCheck: [x-do]\n        \
             includeAdditionalHeadersInCheck: {{ x-from: naru }}\n        headersToUpstreamOnAllow: [x-user, x-s*]\n        \
             headersToDownstreamOnDeny: ['*-why']\n        headersToDownstreamOnAllow: [x-told]\n"
        ),
        "---\napiVersion: naru.dev/v1alpha1\nkind: MeshConfig\nspec:\n  extensionProviders:\n  - name: nobody\n    \
         envoyExtAuthzHttp: { service: by-http.test, port: HTTP, timeout: 1ms, statusOnError: '503' }\n"
            .replace("HTTP,", &format!("{http},")),
        policy("grpc", &custom("by-grpc", "/grpc*, /both")),
        policy("http", &custom("by-http", "/http*, /both")),
        policy("deny", deny),
        policy("audit", audit),
    ];
    let running = Up::start(&[("edge.yaml", documents.concat())], &[]).await;
    is_open(gate).await;
    foreign.ask(json!({ "take": 0 })).await;
    // Nobody is asked about what no policy is for.
    let (status, got) = ask(gate, "/plain", "x-do: deny\r\n").await;
    assert_eq!((status, foreign.ask(json!({ "take": 0 })).await), (200, json!([])), "{got}");
    let (status, got) = ask(gate, "/grpc/a?b=c", "x-do: ok\r\nx-user: forged\r\nx-gone: 1\r\n").await;
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!((status, headers(&got, "x-user"), header(&got, "x-gone")), (200, vec!["me"], None));
    let asked = foreign.ask(json!({ "take": 1 })).await;
    assert_eq!(asked[0]["path"], "/grpc/a?b=c");
    assert_eq!(ask(gate, "/grpc", "x-do: deny\r\n").await.0, 401);
    assert_eq!(ask(gate, "/grpc", "x-do: error\r\n").await.0, 403);
    foreign.ask(json!({ "take": 2 })).await;
    let (status, got) = ask(gate, "/http/a", "x-do: ok\r\nx-user: forged\r\nx-add: old\r\n").await;
    let got: Value = serde_json::from_str(&got).unwrap();
    let told = ["x-user", "x-set", "x-add", "x-gone", "x-do"].map(|name| headers(&got, name));
    assert_eq!((status, told), (200, [vec!["me"], vec!["new"], vec!["old"], vec![], vec![]]));
    let asked = foreign.ask(json!({ "take": 1 })).await;
    assert_eq!(
        (&asked[0]["path"], &asked[0]["headers"]["x-from"]),
        (&json!("/check/http/a"), &json!(["naru"]))
    );
    assert_eq!(ask(gate, "/http", "x-do: deny\r\n").await, (401, "not you".to_owned()));
    // Who is asked is so before policies that deny.
    assert_eq!(ask(gate, "/http/secret", "").await.0, 403);
    foreign.ask(json!({ "take": 2 })).await;
    assert_eq!(ask(gate, "/both", "").await.0, 200);
    assert_eq!(foreign.ask(json!({ "take": 2 })).await.as_array().unwrap().len(), 2);
    let page = until("the counts", async || {
        let page = running.page("/metrics").await;
        page.contains("naru_checks_total{check=\"external\",result=\"denied\"} 2").then_some(page)
    })
    .await;
    for line in [
        "naru_checks_total{check=\"external\",result=\"failed\"} 1",
        "naru_checks_total{check=\"external\",result=\"allowed\"} 5",
        "naru_checks_total{check=\"audit\",result=\"matched\"} 1",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn a_rule_that_asks_for_claims_takes_whose_token_is_verified() {
    let gate = free_address();
    let key = SigningKey::generate(Algorithm::Es256, "a").unwrap();
    let other = SigningKey::generate(Algorithm::Es256, "a").unwrap();
    let rules = [
        direct("staff", "match: [{ headers: { '@request.auth.claims.groups': { exact: staff } } }]"),
        direct("deep", "match: [{ headers: { '@request.auth.claims[realm][roles]': { prefix: ro } } }]"),
        direct("named", "match: [{ headers: { x-sub: { regex: 'a.*' } } }]"),
        direct(
            "else",
            "match: [{ uri: { prefix: / }, withoutHeaders: { '@request.auth.claims.bad': { exact: 'yes' } } }]",
        ),
        direct("bad", "match: [{ uri: { prefix: / } }]"),
    ];
    let documents = format!(
        "{}---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t }}\nspec:\n  \
         jwtRules: [{{ issuer: me, jwks: '{}', outputClaimToHeaders: [{{ header: x-sub, claim: sub }}] }}]\n",
        gateway(gate, &rules.concat()),
        Jwks::of(vec![key.public().clone()]).public()
    );
    let running = Up::start(&[("edge.yaml", documents)], &[]).await;
    is_open(gate).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let claims = |more: &[(&str, Json)]| {
        let own = [("iss", Json::from("me")), ("exp", (now + 3_600).into())];
        let all = own.into_iter().chain(more.iter().cloned());
        Json::Map(all.map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let list = |texts: &[&str]| Json::List(texts.iter().map(|text| Json::from(*text)).collect());
    let realm = Json::Map(vec![("roles".to_owned(), list(&["x", "root"]))]);
    for (more, expected) in [
        (vec![], "else"),
        (vec![("groups", "staff".into())], "staff"),
        (vec![("groups", list(&["other", "staff"]))], "staff"),
        (vec![("groups", list(&["staffs"]))], "else"),
        (vec![("groups", 1.into())], "else"),
        (vec![("realm", realm)], "deep"),
        (vec![("sub", "ann".into())], "named"),
        (vec![("bad", "yes".into())], "bad"),
    ] {
        let token = key.sign(&claims(&more));
        let found = ask(gate, "/", &format!("authorization: Bearer {token}\r\n")).await;
        assert_eq!(found, (200, expected.to_owned()), "{more:?}");
    }
    // What a client says of itself is no claim.
    let forged = other.sign(&claims(&[("groups", "staff".into())]));
    for (headers, status) in [
        ("", 200),
        ("@request.auth.claims.groups: staff\r\n", 400),
        ("request.auth.claims.groups: staff\r\n", 200),
        (&format!("authorization: Bearer {forged}\r\n"), 401),
    ] {
        let (found, body) = ask(gate, "/", headers).await;
        assert_eq!(found, status, "{headers} {body}");
        assert!(!body.contains("staff"), "{headers} {body}");
    }
    drop(running);
}

#[tokio::test]
async fn what_frames_a_message_is_not_for_others_to_say() {
    let (_foreign, grpc, _) = server().await;
    let up = Upstream::plain(Speaks::Http1).await;
    let filter = "- name: envoy.filters.http.ext_authz\n  typed_config:\n    \
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\n    \
                  transport_api_version: V3\n    \
                  grpc_service: { envoy_grpc: { cluster_name: authz }, timeout: 20s }";
    let bootstrap = Bootstrap::new("- match: { prefix: / }\n  route: { cluster: up }")
        .cluster("up", up.address, "")
        .cluster("authz", ([127, 0, 0, 1], grpc).into(), HTTP2)
        .filter(filter);
    let naru = Naru::start(&bootstrap);
    let (status, got) = ask(naru.address, "/", "x-do: frame\r\n").await;
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(status, 200);
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(headers(&got, name), Vec::<&str>::new(), "{name}");
    }
    // A header with another one in it is no answer.
    assert_eq!(ask(naru.address, "/", "x-do: invalid\r\n").await.0, 500);
    naru.settles().await;
}
