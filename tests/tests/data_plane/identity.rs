//! Tokens whose keys somebody else publishes, and documents of Istio, on real sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use naru_base::Json;
use naru_jose::{Algorithm, Jwks, SigningKey};
use naru_proxy::Options;
use naru_tests::files::{Directory, documents};
use naru_tests::up::free_address;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Speaks, Up, Upstream, Wire, naru, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TWO: Options = Options { workers: 2, seed: Some(1) };

fn key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Es256, kid).unwrap()
}

fn set(keys: &[&SigningKey]) -> String {
    Jwks::of(keys.iter().map(|key| key.public().clone()).collect()).public()
}

fn token(key: &SigningKey) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let claims = [("iss", Json::from("me")), ("sub", "ann".into()), ("exp", (now + 3_600).into())];
    key.sign(&Json::Map(claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// A request with this token is answered so.
async fn ask(address: std::net::SocketAddr, token: &str) -> String {
    let mut client = Wire::connect(address).await;
    client.send(format!("GET /bytes/2 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    let answer = client.response().await;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status() == 200 { "200".to_owned() } else { format!("{} {body}", answer.status()) }
}

fn bootstrap(up: &Upstream, keys: &WireListener, timeout: &str) -> Bootstrap {
    kept_for(up, keys, timeout, "600s")
}

/// Keys are too old after this time.
fn kept_for(up: &Upstream, keys: &WireListener, timeout: &str, cache: &str) -> Bootstrap {
    let filter = format!(
        "- name: envoy.filters.http.jwt_authn\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication\n    \
         providers:\n      one:\n        issuer: me\n        \
         remote_jwks: {{ http_uri: {{ uri: 'http://keys.example/set', cluster: keys, timeout: {timeout} }}, \
         cache_duration: {cache} }}\n    \
         rules: [{{ match: {{ prefix: / }}, requires: {{ provider_name: one }} }}]"
    );
    Bootstrap::new("- match: { prefix: / }\n  route: { cluster: up }")
        .filter(&filter)
        .cluster("up", up.address, "")
        .cluster("keys", keys.address, "")
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait_and_then_no_more() {
    let (up, keys) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let naru = Naru::start_on(naru::config(&bootstrap(&up, &keys, "30s")), &TWO);
    let (known, unknown) = (key("a"), key("b"));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (address, token) = (naru.address, token(&known));
            tokio::spawn(async move { ask(address, &token).await })
        })
        .collect();
    let mut asked = keys.accept().await;
    let request = asked.request().await;
    assert!(request.head.first.starts_with("GET /set "), "{}", request.head.first);
    assert_eq!(request.head.get("host"), Some("keys.example"));
    asked.send(answer(&set(&[&known]))).await;
    for one in waiting {
        assert_eq!(one.await.unwrap(), "200");
    }
    // One that nobody publishes has nobody ask again at once.
    let refused = "401 Jwks doesn't have key to match kid or alg from Jwt";
    for _ in 0..3 {
        assert_eq!(ask(naru.address, &token(&unknown)).await, refused);
    }
    assert_eq!(ask(naru.address, &token(&known)).await, "200");
    assert!(!keys.has_more().await);
    // Another configuration has them still.
    naru.update_to(naru::config(&bootstrap(&up, &keys, "30s"))).await;
    assert_eq!(ask(naru.address, &token(&known)).await, "200");
    assert!(!keys.has_more().await);
    naru.settles().await;
}

#[tokio::test]
async fn keys_are_looked_at_again_though_everybody_comes_with_a_token_that_is_known() {
    let (up, keys) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let naru = Naru::start_on(naru::config(&kept_for(&up, &keys, "30s", "1s")), &TWO);
    let mine = key("a");
    let known = token(&mine);
    let give = async || {
        let mut asked = keys.accept().await;
        asked.request().await;
        let body = set(&[&mine]);
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        asked.send(format!("{head}{body}")).await;
    };
    let (first, ()) = tokio::join!(ask(naru.address, &known), give());
    assert_eq!(first, "200");
    let again_and_again = async {
        loop {
            assert_eq!(ask(naru.address, &known).await, "200");
        }
    };
    tokio::select! {
        () = give() => {}
        _ = again_and_again => {}
    }
    naru.settles().await;
}

#[tokio::test]
async fn keys_that_hang_lie_or_grow_are_no_keys_and_hold_nobody_for_long() {
    let mine = key("a");
    let secret = r#"{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}]}"#;
    let forged = SigningKey::parse(secret.as_bytes().get(9..secret.len() - 2).unwrap()).unwrap();
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n{}", " ".repeat(600_000));
    for (said, token) in [
        // It hangs.
        (String::new(), token(&mine)),
        (answer("{\"keys\":[]}"), token(&mine)),
        (answer("<html>"), token(&mine)),
        ("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(), token(&mine)),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            token(&mine),
        ),
        ("garbage\r\n\r\n".to_owned(), token(&mine)),
        (huge, token(&mine)),
        // Who sends it could sign as anybody.
        (answer(secret), token(&forged)),
    ] {
        let (up, keys) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
        let naru = Naru::start_on(naru::config(&bootstrap(&up, &keys, "1s")), &TWO);
        let asking = tokio::spawn({
            let (address, token) = (naru.address, token.clone());
            async move { ask(address, &token).await }
        });
        let mut asked = keys.accept().await;
        asked.request().await;
        asked.try_send(&said).await;
        let begin = &said[..said.len().min(60)];
        assert_eq!(asking.await.unwrap(), "401 Jwks remote fetch is failed", "{begin:?}");
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_keys_are_fetched_leaves_nothing() {
    let (up, keys) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let files = Directory::new();
    let log = files.path("log");
    let fields = "{ code: \"%RESPONSE_CODE%\", why: \"%RESPONSE_CODE_DETAILS%\" }";
    let naru = Naru::start_on(naru::config(&bootstrap(&up, &keys, "30s").json_log(&log, fields)), &TWO);
    let mine = key("a");
    let mut client = Wire::connect(naru.address).await;
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", token(&mine))).await;
    let mut asked = keys.accept().await;
    asked.request().await;
    drop(client);
    let line = &documents(&log, 1).await[0];
    assert_eq!(
        (line["code"].as_i64(), line["why"].as_str()),
        (Some(0), Some("downstream_remote_disconnect"))
    );
    // What it had asked for is there for the next one.
    asked.send(answer(&set(&[&mine]))).await;
    assert_eq!(ask(naru.address, &token(&mine)).await, "200");
    assert!(!keys.has_more().await);
    naru.settles().await;
}

#[tokio::test]
async fn keys_that_are_none_are_told_and_nothing_changes() {
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let mine = key("a");
    let path = files.write("keys.json", &set(&[&mine]));
    let keys = WireListener::bind().await;
    let of_file = format!("local_jwks: {{ filename: {} }}", path.display());
    let text = |source: &str| {
        let text = bootstrap(&up, &keys, "1s").text();
        let at = text.find("remote_jwks:").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        format!("{}{source}{}", &text[..at], &text[end..])
    };
    let naru = Naru::on(&text(&of_file));
    assert_eq!(ask(naru.address, &token(&mine)).await, "200");
    files.write("keys.json", "{");
    let why = naru.try_update(&text(&of_file)).await.unwrap_err().to_string();
    assert_eq!(why, "the keys of tokens are none: Jwks is an invalid JSON");
    assert_eq!(ask(naru.address, &token(&mine)).await, "200");
    // Others are in force at once, and those before them are not.
    let other = key("b");
    files.write("keys.json", &set(&[&other]));
    naru.update(&text(&of_file)).await;
    assert_eq!(ask(naru.address, &token(&other)).await, "200");
    let refused = "401 Jwks doesn't have key to match kid or alg from Jwt";
    assert_eq!(ask(naru.address, &token(&mine)).await, refused);
}

#[tokio::test]
async fn what_only_a_token_may_say_is_taken_out_of_whatever_is_asked_for_none() {
    let (up, mine) = (Upstream::plain(Speaks::Http1).await, key("a"));
    let filter = format!(
        "- name: envoy.filters.http.jwt_authn\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication\n    \
         bypass_cors_preflight: true\n    providers:\n      one:\n        issuer: me\n        \
         local_jwks: {{ inline_string: '{}' }}\n        \
         claim_to_headers: [{{ header_name: x-user, claim_name: sub }}]\n    \
         rules: [{{ match: {{ prefix: / }}, requires: {{ requires_any: {{ requirements: \
         [{{ provider_name: one }}, {{ allow_missing: {{}} }}] }} }} }}]",
        set(&[&mine])
    );
    let bootstrap = Bootstrap::new("- match: { prefix: / }\n  route: { cluster: up }")
        .filter(&filter)
        .cluster("up", up.address, "");
    let naru = Naru::start_on(naru::config(&bootstrap), &TWO);
    let mut client = Wire::connect(naru.address).await;
    for head in [
        "GET /describe HTTP/1.1\r\n",
        "OPTIONS /describe HTTP/1.1\r\norigin: https://b\r\naccess-control-request-method: GET\r\n",
    ] {
        client.send(format!("{head}host: a\r\nx-user: eve\r\n\r\n")).await;
        let answer = client.response().await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status(), 200, "{head}");
        assert!(body.contains("describe") && !body.contains("eve"), "{head}: {body}");
    }
}

#[tokio::test]
async fn documents_of_istio_keep_out_who_may_not_come_in() {
    let mine = key("a");
    let gate = free_address();
    let documents = format!(
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
spec: {{ hosts: ['*'], gateways: [gate], http: [{{ directResponse: {{ status: 200, body: {{ string: 'in' }} }} }}] }}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{ name: tokens, namespace: istio-system }}
spec:
  selector: {{ matchLabels: {{ istio: ingressgateway }} }}
  jwtRules: [{{ issuer: me, jwks: '{}' }}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: known, namespace: istio-system }}
spec:
  selector: {{ matchLabels: {{ istio: ingressgateway }} }}
  rules:
  - to: [{{ operation: {{ paths: [/public*] }} }}]
  - from: [{{ source: {{ requestPrincipals: [me/ann] }} }}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: nobody }}
spec: {{ action: DENY, rules: [{{ to: [{{ operation: {{ paths: ['/{{*}}/secret/{{**}}'] }} }}] }}] }}
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: often }}
spec:
  limits: [{{ name: user, requests: 2, window: 10h, algorithm: fixedWindow, key: [{{ from: claim, name: sub }}] }}]
",
        gate.port(),
        set(&[&mine])
    );
    let up = Up::start(&[("edge.yaml", documents)], &[]).await;
    // Its socket is claimed before it is shared: whoever comes between is reset.
    until("the gateway to answer", async || {
        let mut stream = TcpStream::connect(gate).await.ok()?;
        stream.write_all(b"GET /public HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
        (stream.read(&mut [0; 64]).await.ok()? > 0).then_some(())
    })
    .await;
    let ask = async |path: &str, headers: &str| {
        let mut client = Wire::connect(gate).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        let answer = client.response().await;
        format!("{} {}", answer.status(), String::from_utf8_lossy(&answer.body))
    };
    let bearer = format!("authorization: Bearer {}\r\n", token(&mine));
    let forged = format!("authorization: Bearer {}\r\n", token(&key("a")));
    for (path, headers, expected) in [
        ("/", "", "403 RBAC: access denied"),
        ("/", bearer.as_str(), "200 in"),
        ("/", forged.as_str(), "401 Jwt verification fails"),
        ("/public/a", "", "200 in"),
        ("/public/a", forged.as_str(), "401 Jwt verification fails"),
        ("/a/secret/b", bearer.as_str(), "403 RBAC: access denied"),
        ("/a/./secret/b", bearer.as_str(), "403 RBAC: access denied"),
    ] {
        assert_eq!(ask(path, headers).await, expected, "{path} {headers}");
    }
    // Once was before; who is refused by a policy has used up nothing.
    assert_eq!(ask("/", &bearer).await, "200 in");
    assert_eq!(ask("/", &bearer).await, "429 ");
    assert_eq!(ask("/public/a", "").await, "200 in", "who is nobody is not counted");
    let page = until("the counts", async || {
        let page = up.page("/metrics").await;
        page.contains("naru_checks_total{check=\"token\",result=\"denied\"} 2").then_some(page)
    })
    .await;
    assert!(page.contains("naru_checks_total{check=\"policy\",result=\"denied\"} 3"), "{page}");
}
