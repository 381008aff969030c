//! Who asks, and may they: tokens and policies.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use naru_base::Json;
use naru_jose::{Algorithm, Jwks, SigningKey};
use naru_tests::files::{Directory, documents};
use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};

const LOG: &str = "code: '%RESPONSE_CODE%'\nflags: '%RESPONSE_FLAGS%'\ndetails: '%RESPONSE_CODE_DETAILS%'\n";
const ROUTES: &str = "- match: { prefix: / }\n  route: { cluster: up }\n";

struct Keys {
    rs: SigningKey,
    es: SigningKey,
    ed: SigningKey,
    hs: SigningKey,
    other: SigningKey,
}

impl Keys {
    fn new() -> Keys {
        let key = |algorithm, kid| SigningKey::generate(algorithm, kid).unwrap();
        Keys {
            rs: key(Algorithm::Rs256, "rs"),
            es: key(Algorithm::Es256, "es"),
            ed: key(Algorithm::EdDsa, "ed"),
            hs: key(Algorithm::Hs256, "hs"),
            other: key(Algorithm::Es256, "es"),
        }
    }

    fn set(&self) -> String {
        let keys = [&self.rs, &self.es, &self.ed].map(|key| key.public().clone());
        Jwks::of(keys.to_vec()).public()
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn claims(members: &[(&str, Json)]) -> Json {
    Json::Map(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn filter(name: &str, type_name: &str, lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("- name: {name}\n  typed_config:\n    \"@type\": type.googleapis.com/{type_name}\n{lines}")
}

fn jwt(lines: &str) -> String {
    let of = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
    filter("envoy.filters.http.jwt_authn", of, lines)
}

fn rbac(lines: &str) -> String {
    filter("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", lines)
}

/// A request: its target, and its headers as they are written.
type Ask = (String, String);

fn get(target: &str, headers: &str) -> Ask {
    (target.to_owned(), headers.to_owned())
}

fn bearer(token: &str) -> Ask {
    get("/", &format!("authorization: Bearer {token}\r\n"))
}

/// What is answered, and what the upstream got.
async fn ask(address: SocketAddr, asks: &[Ask]) -> Vec<String> {
    let mut seen = Vec::new();
    for (target, headers) in asks {
        let (method, target) = target.split_once(' ').unwrap_or(("GET", target));
        let mut client = Wire::connect(address).await;
        client.send(format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\n{headers}\r\n")).await;
        let answer = client.response().await;
        let got = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let told = match got {
            Some(got) => {
                let names =
                    ["authorization", "x-payload", "x-payload-two", "x-sub", "x-deep", "cookie", "x-token"];
                let headers: Vec<_> = names.iter().map(|name| header(&got, name)).collect();
                format!("{} {headers:?}", got["target"])
            }
            None => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let names = ["www-authenticate", "content-type"];
        let own: Vec<_> = names.iter().map(|name| answer.head.get(name)).collect();
        seen.push(format!("{} {told} {own:?}", answer.status()));
    }
    seen
}

async fn check(filters: &[String], asks: &[Ask]) {
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let of = |log: &str| {
        let bootstrap = Bootstrap::new(ROUTES).json_log(&files.path(log), LOG).cluster("up", up.address, "");
        filters.iter().fold(bootstrap, |bootstrap, filter| bootstrap.filter(filter.trim_end()))
    };
    let envoy = Envoy::start(&of("envoy").admin().text()).await;
    let naru = Naru::start(&of("naru"));
    let (by_envoy, by_naru) = (ask(envoy.address, asks).await, ask(naru.address, asks).await);
    let (logged, known) =
        (documents(&files.path("envoy"), asks.len()).await, documents(&files.path("naru"), asks.len()).await);
    for at in 0..asks.len() {
        let filters = filters.last();
        let headers = &asks[at].1;
        assert_eq!(by_envoy[at], by_naru[at], "request {at}: {} {headers}\n{filters:?}", asks[at].0);
        assert_eq!(logged[at], known[at], "request {at}: {} {headers}", asks[at].0);
    }
    naru.settles().await;
}

const PROVIDERS: &str = r#"
providers:
  one:
    issuer: https://one.example
    audiences: [shop, "https://cart.example/"]
    forward_payload_header: x-payload
    claim_to_headers: [{ header_name: x-sub, claim_name: sub }, { header_name: x-deep, claim_name: a.b }]
    payload_in_metadata: payload
    local_jwks: { inline_string: 'KEYS' }
  two:
    issuer: two
    forward: true
    pad_forward_payload_header: true
    forward_payload_header: x-payload-two
    from_headers: [{ name: x-token, value_prefix: "t:" }]
    from_params: [token]
    from_cookies: [session]
    clock_skew_seconds: 5
    local_jwks: { inline_string: 'KEYS' }
  any:
    local_jwks: { inline_string: 'KEYS' }
    require_expiration: true
    max_lifetime: 1000s
"#;

fn providers(keys: &Keys, rules: &str) -> String {
    jwt(&format!("{}{rules}", PROVIDERS.replace("KEYS", &keys.set()).trim_start_matches('\n')))
}

#[tokio::test]
async fn tokens_are_accepted_and_refused_alike() {
    let keys = Keys::new();
    let rules = r#"rules:
- match: { prefix: /two }
  requires: { provider_name: two }
- match: { prefix: /any }
  requires: { provider_name: any }
- match: { prefix: /audience }
  requires: { provider_and_audiences: { provider_name: one, audiences: [other] } }
- match: { prefix: /both }
  requires: { requires_all: { requirements: [{ provider_name: one }, { provider_name: two }] } }
- match: { prefix: /either }
  requires: { requires_any: { requirements: [{ provider_name: one }, { provider_name: two }] } }
- match: { prefix: /optional }
  requires: { requires_any: { requirements: [{ provider_name: one }, { allow_missing: {} }] } }
- match: { prefix: /lax }
  requires: { requires_any: { requirements: [{ provider_name: one }, { allow_missing_or_failed: {} }] } }
- match: { prefix: /present }
  requires: { allow_missing: {} }
- match: { prefix: /open }
- match: { prefix: / }
  requires: { provider_name: one }
"#;
    let good = [
        ("iss", Json::from("https://one.example")),
        ("sub", "me".into()),
        ("aud", Json::List(vec!["x".into(), "cart.example".into()])),
        ("exp", (now() + 600).into()),
        ("a", claims(&[("b", 7.into())])),
    ];
    let with = |name: &str, value: Json| {
        let others = good.iter().filter(|(known, _)| *known != name).cloned();
        let members: Vec<_> = others.chain([(name, value)]).collect();
        keys.es.sign(&claims(&members))
    };
    let one = keys.es.sign(&claims(&good));
    let two = keys.es.sign(&claims(&[("iss", "two".into()), ("sub", "you".into())]));
    let [head, payload, signature] = one.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let raw = |header: &str, payload: &str| keys.es.sign_text(header, payload.as_bytes());
    let es = r#"{"alg":"ES256","kid":"es"}"#;
    let at = |path: &str, token: &str| get(path, &format!("authorization: Bearer {token}\r\n"));
    let asks = [
        get("/", ""),
        bearer(&one),
        bearer(&keys.rs.sign(&claims(&good))),
        bearer(&keys.ed.sign(&claims(&good))),
        // Forged in many ways.
        bearer(&keys.other.sign(&claims(&good))),
        bearer(&keys.hs.sign(&claims(&good))),
        bearer(&keys.es.sign_text(
            r#"{"alg":"ES256","kid":"nobody"}"#,
            b"{\"iss\":\"https://one.example\",\"aud\":\"shop\"}",
        )),
        bearer(&raw(r#"{"alg":"none"}"#, "{}")),
        bearer(&raw(r#"{"alg":"ES257"}"#, "{}")),
        bearer(&raw(r#"{"kid":"es"}"#, "{}")),
        bearer(&raw(r#"{"alg":1}"#, "{}")),
        bearer(&raw(r#"{"alg":"ES256","kid":7}"#, "{}")),
        bearer(&raw("{", "{}")),
        bearer(&raw(es, "foo")),
        bearer(&raw(es, r#"{"iss":1}"#)),
        bearer(&raw(es, r#"{"sub":1}"#)),
        bearer(&raw(es, r#"{"exp":"1"}"#)),
        bearer(&raw(es, r#"{"exp":-1}"#)),
        bearer(&raw(es, r#"{"nbf":true}"#)),
        bearer(&raw(es, r#"{"iat":[]}"#)),
        bearer(&raw(es, r#"{"jti":1}"#)),
        bearer(&raw(es, r#"{"aud":1}"#)),
        bearer(&format!("{head}.{payload}")),
        bearer(&format!("{head}.{payload}.")),
        bearer(&format!("{head}..{signature}")),
        bearer(&format!("{one}.x")),
        bearer(&format!("*.{payload}.{signature}")),
        bearer(""),
        bearer(&format!("  {one}")),
        get("/", &format!("authorization: bearer {one}\r\n")),
        get("/", &format!("authorization: Basic {one}\r\n")),
        get("/", &format!("authorization: Bearer {one}\r\nauthorization: Bearer {two}\r\n")),
        get("/", "authorization: Bearer x\r\nx-sub: forged\r\nx-payload: forged\r\n"),
        get("/", &format!("authorization: Bearer {one}\r\nx-sub: forged\r\nx-payload: forged\r\n")),
        // Times, audiences, issuers.
        bearer(&with("exp", (now() - 30).into())),
        bearer(&with("exp", (now() - 120).into())),
        bearer(&with("nbf", (now() + 30).into())),
        bearer(&with("nbf", (now() + 120).into())),
        bearer(&with("aud", "shop".into())),
        bearer(&with("aud", "https://shop/".into())),
        bearer(&with("aud", "nobody".into())),
        bearer(&with("iss", "https://other.example".into())),
        bearer(&with("a", "text".into())),
        bearer(&with("sub", "".into())),
        at("/audience", &one),
        at("/audience", &with("aud", "other".into())),
        // Other places.
        get("/", &format!("x-token: t:{one}\r\n")),
        get(&format!("/?access_token={one}"), ""),
        get(&format!("/two?token={two}"), ""),
        get("/two", &format!("x-token: t:{two}\r\n")),
        get("/two", &format!("x-token: {two}\r\n")),
        get("/two", &format!("cookie: a=b; session={two}\r\n")),
        at("/two", &two),
        get("/two", &format!("x-token: t:{one}\r\n")),
        // Requirements that are joined.
        at("/either", &one),
        get("/either", &format!("x-token: t:{two}\r\n")),
        at("/either", &two),
        get("/either", ""),
        at("/either", &keys.other.sign(&claims(&good))),
        at("/both", &one),
        get("/both", &format!("authorization: Bearer {one}\r\nx-token: t:{two}\r\n")),
        get("/optional", ""),
        at("/optional", &one),
        at("/optional", &two),
        at("/optional", "x"),
        at("/lax", "x"),
        at("/lax", &one),
        get("/present", ""),
        at("/present", &one),
        at("/present", "x"),
        at("/present", &keys.other.sign(&claims(&good))),
        at("/open", "x"),
        // Tokens that have to end.
        at("/any", &with("exp", (now() + 600).into())),
        at("/any", &with("exp", (now() + 6_000).into())),
        at("/any", &two),
        get("OPTIONS /", "origin: http://b.example\r\naccess-control-request-method: PUT\r\n"),
    ];
    check(&[providers(&keys, rules)], &asks).await;
}

#[tokio::test]
async fn who_is_refused_may_be_told_nothing_and_browsers_may_ask_first() {
    let keys = Keys::new();
    let rules = "rules:\n- match: { prefix: / }\n  requires: { provider_name: one }\n\
                 bypass_cors_preflight: true\nstrip_failure_response: true\n";
    let asks = [
        get("/", ""),
        bearer("x"),
        get("OPTIONS /", "origin: http://b.example\r\naccess-control-request-method: PUT\r\n"),
        get("OPTIONS /", "origin: http://b.example\r\n"),
    ];
    check(&[providers(&keys, rules)], &asks).await;
}

#[tokio::test]
async fn policies_let_the_same_requests_through() {
    let policies = [
        r#"permissions: [{ url_path: { path: { prefix: /public } } }]
principals: [{ any: true }]"#,
        r#"permissions: [{ and_rules: { rules: [{ header: { name: ":method", string_match: { exact: POST } } }, { header: { name: x-a, string_match: { prefix: b } } }] } }]
principals: [{ direct_remote_ip: { address_prefix: 127.0.0.0, prefix_len: 8 } }]"#,
        r#"permissions: [{ not_rule: { or_rules: { rules: [{ url_path: { path: { prefix: / } } }] } } }]
principals: [{ any: true }]"#,
        r#"permissions: [{ uri_template: { name: t, typed_config: { "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "/t/*/x/**" } } }]
principals: [{ any: true }]"#,
        r#"permissions: [{ header: { name: ":authority", string_match: { exact: a.example } } }]
principals: [{ or_ids: { ids: [{ header: { name: x-role, string_match: { exact: admin } } }, { not_id: { header: { name: x-user, present_match: true } } }] } }]"#,
        r#"permissions: [{ any: true }]
principals: [{ authenticated: {} }, { remote_ip: { address_prefix: 10.0.0.0, prefix_len: 8 } }]"#,
    ];
    let asks = [
        get("/public/x?q=1", ""),
        get("/publi", "x-user: u\r\n"),
        get("POST /p", "x-a: bc\r\nx-user: u\r\ncontent-length: 0\r\n"),
        get("POST /p", "x-a: c\r\nx-user: u\r\ncontent-length: 0\r\n"),
        get("/t/a/x/", "x-user: u\r\n"),
        get("/t/a/x/b/c?d=e", "x-user: u\r\n"),
        get("/t/a/x", "x-user: u\r\n"),
        get("/t//x/", "x-user: u\r\n"),
        get("/any", "x-role: admin\r\nx-user: u\r\n"),
        get("/any", ""),
        get("/any", "x-user: u\r\nx-forwarded-for: 10.1.1.1\r\n"),
    ];
    for action in ["ALLOW", "DENY", "LOG"] {
        let named: String = policies
            .iter()
            .enumerate()
            .map(|(at, policy)| {
                let lines: String = policy.lines().map(|line| format!("      {line}\n")).collect();
                format!("    policy {at}:\n{lines}")
            })
            .collect();
        check(&[rbac(&format!("rules:\n  action: {action}\n  policies:\n{named}"))], &asks).await;
    }
    check(&[rbac("rules: { action: ALLOW }")], &asks[..2]).await;
    check(&[rbac("rules: { action: DENY }")], &asks[..2]).await;
    check(&[rbac("shadow_rules: { action: ALLOW }")], &asks[..2]).await;
}

#[tokio::test]
async fn policies_ask_for_what_tokens_claim() {
    let keys = Keys::new();
    let rules = "rules:\n- match: { prefix: / }\n  requires: { requires_any: { requirements: [{ provider_name: one }, { allow_missing: {} }] } }\n";
    let of = |test: &str| {
        let claim = "filter: envoy.filters.http.jwt_authn, path: [{ key: payload }, { key: ";
        rbac(&format!(
            "rules:\n  action: ALLOW\n  policies:\n    p:\n      permissions: [{{ any: true }}]\n      \
             principals: [{{ metadata: {{ {claim}{test} }} }}]\n"
        ))
    };
    let token = |members: &[(&str, Json)]| {
        let usual = [("iss", Json::from("https://one.example")), ("aud", "shop".into())];
        let members: Vec<_> = usual.into_iter().chain(members.iter().cloned()).collect();
        bearer(&keys.es.sign(&claims(&members)))
    };
    let list = |items: &[&str]| Json::List(items.iter().map(|item| Json::from(*item)).collect());
    let asks = [
        get("/", ""),
        token(&[]),
        token(&[("g", "x".into())]),
        token(&[("g", list(&["x", "yy"]))]),
        token(&[("g", 7.into())]),
        token(&[("g", Json::Real(7.5))]),
        token(&[("g", Json::Bool(true))]),
        token(&[("g", Json::Null)]),
        token(&[("g", claims(&[("h", "x".into())]))]),
    ];
    for test in [
        "g }], value: { string_match: { exact: x } }",
        "g }], value: { string_match: { exact: x } }, invert: true",
        "g }], value: { list_match: { one_of: { string_match: { exact: yy } } } }",
        "g }], value: { or_match: { value_matchers: [{ bool_match: true }, { double_match: { exact: 7 } }] } }",
        "g }], value: { double_match: { range: { start: 7, end: 8 } } }",
        "g }], value: { null_match: {} }",
        "g }], value: { present_match: true }",
        "g }], value: { present_match: false }",
        "g }, { key: h }], value: { string_match: { prefix: x } }",
    ] {
        check(&[providers(&keys, rules), of(test)], &asks).await;
    }
}

/// `docs/equality-with-envoy.md` explains it.
pub const DIFFERENCE: &str = "Tokens are read more strictly";

#[tokio::test]
async fn what_a_preflight_says_of_a_token_goes_nowhere() {
    let keys = Keys::new();
    let rules =
        "rules:\n- match: { prefix: / }\n  requires: { provider_name: one }\nbypass_cors_preflight: true\n";
    let up = Upstream::plain(Speaks::Http1).await;
    let filter = providers(&keys, rules);
    let bootstrap = Bootstrap::new(ROUTES).cluster("up", up.address, "").filter(filter.trim_end());
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let preflight = "origin: http://b.example\r\naccess-control-request-method: PUT\r\nx-sub: admin\r\nx-payload: all\r\n";
    let asks = [get("OPTIONS /", preflight)];
    let (by_envoy, by_naru) = (ask(envoy.address, &asks).await, ask(naru.address, &asks).await);
    assert!(by_envoy[0].starts_with("200 ") && !by_envoy[0].contains("admin"), "{by_envoy:?}");
    assert_eq!(by_envoy, by_naru);
    naru.settles().await;
}

#[tokio::test]
async fn tokens_that_envoy_reads_and_naru_does_not() {
    let keys = Keys::new();
    let rules = "rules:\n- match: { prefix: / }\n  requires: { provider_name: one }\n";
    let up = Upstream::plain(Speaks::Http1).await;
    let filter = providers(&keys, rules);
    let bootstrap = Bootstrap::new(ROUTES).cluster("up", up.address, "").filter(filter.trim_end());
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let raw = |header: &str, payload: &str| bearer(&keys.es.sign_text(header, payload.as_bytes()));
    let es = r#"{"alg":"ES256","kid":"es"}"#;
    let good = r#"{"iss":"https://one.example","aud":"shop"}"#;
    let long = format!(r#"{{"iss":"https://one.example","aud":"shop","x":"{}"}}"#, "x".repeat(20_000));
    let asks = [raw(r#"{"alg":"ES256","kid":"es","crit":["b64"],"b64":false}"#, good), raw(es, &long)];
    let (by_envoy, by_naru) = (ask(envoy.address, &asks).await, ask(naru.address, &asks).await);
    for at in 0..asks.len() {
        assert!(by_envoy[at].starts_with("200 "), "request {at}: {}", by_envoy[at]);
        assert!(by_naru[at].starts_with("401 "), "request {at}: {}", by_naru[at]);
    }
    assert!(ask(naru.address, &[raw(es, good)]).await[0].starts_with("200 "));
    naru.settles().await;
}
