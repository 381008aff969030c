//! Who may come in, and what browsers are told: documents, on real sockets.

mod browser;
mod conditions;

use std::net::SocketAddr;

use naru_base::Reason;
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::files::Directory;
use naru_tests::foreign::Foreign;
use naru_tests::up::free_address;
use naru_tests::upstream::{header, headers};
use naru_tests::wire::Head;
use naru_tests::{Naru, Speaks, Upstream, Wire, until};

fn read(documents: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("edge.yaml", documents, &mut loaded);
    let surroundings = Surroundings {
        gateway_address: std::net::Ipv4Addr::LOCALHOST.into(),
        clients: Vec::new(),
        ..Surroundings::default()
    };
    let planned = plan(&loaded.resources, &surroundings);
    assert!(
        loaded.problems.is_empty() && !planned.has_errors(),
        "{:#?}{:#?}",
        loaded.problems,
        planned.problems
    );
    planned.config
}

/// A gateway on a port of its own with these routes, where `UP` is the upstream, and these documents.
fn planned(up: &Upstream, routes: &str, others: &str) -> Config {
    planned_at(free_address(), up, routes, others)
}

fn planned_at(address: SocketAddr, up: &Upstream, routes: &str, others: &str) -> Config {
    let (port, to) = (address.port(), up.address.port());
    let routes =
        routes.replace("UP", &format!("[{{ destination: {{ host: up.test, port: {{ number: {to} }} }} }}]"));
    read(&format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  servers:
  - {{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: shop }}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
{routes}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: up }}
spec:
  hosts: [up.test]
  resolution: STATIC
  ports: [{{ number: {to}, name: http, protocol: HTTP }}]
  endpoints: [{{ address: 127.0.0.1 }}]
---
{others}"
    ))
}

fn start(config: Config) -> Naru {
    Naru::start_on(config, &Options { workers: 2, seed: Some(1) })
}

/// An EdgePolicy with these lines.
fn policy(name: &str, lines: &str) -> String {
    format!(
        "---\napiVersion: naru.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{ name: {name} }}\nspec:\n{lines}\n"
    )
}

const TO_UP: &str = "  - { name: all, route: UP }";

struct Got {
    status: u16,
    head: Head,
    /// What the upstream saw, where it was asked.
    seen: serde_json::Value,
    text: String,
}

async fn ask(address: SocketAddr, method: &str, path: &str, lines: &str) -> Got {
    let mut client = Wire::connect(address).await;
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nhost: a.test\r\n{lines}content-length: 0\r\nconnection: close\r\n\r\n"
        ))
        .await;
    let got = client.response().await;
    let seen = serde_json::from_slice(&got.body).unwrap_or_default();
    Got { status: got.status(), seen, text: got.text(), head: got.head }
}

/// ann, with the password "password".
const ANN: &str = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
const AS_ANN: &str = "authorization: Basic YW5uOnBhc3N3b3Jk\r\n";
/// The SHA-256 of "abc".
const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn an_address_that_is_denied_is_answered_before_anybody_asks_anything() {
    let up = Upstream::plain(Speaks::Http1).await;
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: people }}\nstringData: {{ .htpasswd: '{ANN}' }}\n"
    );
    let lines = "  addresses: { deny: [127.0.0.0/8] }\n  basicAuth: { secret: people }";
    let naru = start(planned(&up, TO_UP, &(policy("edge", lines) + &secret)));
    let got = ask(naru.address, "GET", "/describe", "").await;
    assert_eq!((got.status, got.text.as_str()), (403, "address denied"));
    let counted = naru.checks();
    assert!(counted.contains(&("address", "denied", 1)), "{counted:?}");
    assert!(counted.contains(&("password", "denied", 0)), "{counted:?}");
    assert_eq!(up.requests(), 0);
    assert_eq!(naru.ended(1).await, [(403, Reason::AddressDenied)]);
    // Others come in, and are asked.
    let lines = "  addresses: { allow: [127.0.0.1], deny: [10.0.0.0/8] }\n  basicAuth: { secret: people }";
    naru.update_to(planned_at(naru.address, &up, TO_UP, &(policy("edge", lines) + &secret))).await;
    assert_eq!(ask(naru.address, "GET", "/describe", "").await.status, 401);
    assert_eq!(ask(naru.address, "GET", "/describe", AS_ANN).await.status, 200);
    naru.settles().await;
}

#[tokio::test]
async fn a_route_may_be_for_fewer_addresses_than_its_gateway() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes =
        "  - { name: inner, match: [{ uri: { prefix: /inner } }], route: UP }\n  - { name: all, route: UP }";
    let target = |section: &str| format!("  targetRef: {{ kind: VirtualService, name: shop{section} }}\n");
    let inner = policy("inner", &(target(", sectionName: inner") + "  addresses: { allow: [10.0.0.0/8] }"));
    let all = policy("all", "  addresses: { allow: [127.0.0.0/8] }");
    let naru = start(planned(&up, routes, &(inner + &all)));
    assert_eq!(ask(naru.address, "GET", "/inner", "").await.status, 403);
    assert_eq!(ask(naru.address, "GET", "/describe", "").await.status, 200);
    naru.settles().await;
}

#[tokio::test]
async fn a_key_is_known_by_its_hash_and_its_client_goes_on_in_its_place() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let file = files.write("keys", &format!("# of the shop\nann:{OF_ABC}\n"));
    let lines = format!(
        "  apiKeys: {{ from: [{{ header: x-api-key }}, {{ query: key }}, {{ cookie: key }}], file: '{}', \
         keys: [{{ client: bob, sha256: '{}' }}] }}",
        file.display(),
        "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7" // hunter2
    );
    // A limit of its own for each client.
    let limit = "---\napiVersion: naru.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: clients }\nspec:\n  limits:\n  \
                 - { name: client, requests: 4, window: 36000s, algorithm: fixedWindow, key: [{ from: header, name: x-api-client }] }\n";
    let naru = start(planned(&up, TO_UP, &(policy("edge", &lines) + limit)));
    let got = ask(naru.address, "GET", "/describe?a=1", "").await;
    assert_eq!((got.status, got.text.as_str()), (401, "Client authentication failed."));
    let spoofed = "x-api-client: root\r\n";
    for (path, lines) in [
        ("/describe?a=1", "x-api-key: abc\r\n"),
        ("/describe?a=1&key=abc", ""),
        ("/describe?key=%61bc&a=1", ""),
        ("/describe?a=1", "cookie: b=2; key=abc\r\n"),
    ] {
        let got = ask(naru.address, "GET", path, &format!("{lines}{spoofed}")).await;
        assert_eq!(got.status, 200, "{path} {lines}: {}", got.text);
        assert_eq!(header(&got.seen, "x-api-client"), Some("ann"));
        assert_eq!((header(&got.seen, "x-api-key"), &got.seen["target"]), (None, &"/describe?a=1".into()));
        assert!(headers(&got.seen, "cookie").iter().all(|cookie| *cookie == "b=2"), "{}", got.seen);
    }
    assert_eq!(ask(naru.address, "GET", "/describe", "x-api-key: abc\r\n").await.status, 429);
    let bob = ask(naru.address, "GET", "/describe", "x-api-key: hunter2\r\n").await;
    assert_eq!((bob.status, header(&bob.seen, "x-api-client")), (200, Some("bob")));
    for wrong in ["abd", OF_ABC, "hunter"] {
        assert_eq!(
            ask(naru.address, "GET", "/describe", &format!("x-api-key: {wrong}\r\n")).await.status,
            401
        );
    }
    // Another list is in effect as soon as it is there, and one that is none is not.
    files.write("keys", "carl:nonsense\n");
    until("the broken list", async || naru.files().iter().any(|file| !file.is_well).then_some(())).await;
    assert_eq!(ask(naru.address, "GET", "/describe", "x-api-key: abc\r\n").await.status, 429);
    files.write("keys", &format!("carl:{OF_ABC}\n"));
    let carl = until("the new list", async || {
        let got = ask(naru.address, "GET", "/describe", "x-api-key: abc\r\n").await;
        (got.status == 200).then_some(got)
    })
    .await;
    assert_eq!(header(&carl.seen, "x-api-client"), Some("carl"));
    assert_eq!(naru.files().iter().map(|file| file.is_well).collect::<Vec<_>>(), [true]);
    naru.settles().await;
}

#[tokio::test]
async fn what_one_client_was_answered_no_other_is_given_from_memory() {
    let up = Upstream::plain(Speaks::Http1).await;
    let lines = format!(
        "  apiKeys: {{ from: [{{ header: x-api-key }}], keys: [{{ client: ann, sha256: '{OF_ABC}' }}] }}"
    );
    let cache = "---\napiVersion: naru.dev/v1alpha1\nkind: ResponseCache\nmetadata: { name: all }\nspec:\n  \
                 targetRef: { kind: VirtualService, name: shop }\n  ttl: 1h\n";
    let naru = start(planned(&up, TO_UP, &(policy("edge", &lines) + cache)));
    for _ in 0..3 {
        assert_eq!(ask(naru.address, "GET", "/describe", "x-api-key: abc\r\n").await.status, 200);
    }
    assert_eq!(up.requests(), 3);
    naru.settles().await;
}

#[tokio::test]
async fn passwords_are_held_against_slow_hashes_without_holding_anybody_else() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    // Of "password": by libxcrypt, and by the reference implementation of argon2.
    let bcrypt = "$2b$10$BeET95jlhfr.8OWbwgP./u1FuP96sW5EroIN4PJrnvPZv1JQK8qHy";
    let argon2 = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let file = files.write("htpasswd", &format!("bob:{bcrypt}\ncarl:{argon2}\n"));
    let lines = format!("  basicAuth: {{ file: '{}', realm: shop }}", file.display());
    let routes =
        "  - { name: open, match: [{ uri: { prefix: /open } }], route: UP }\n  - { name: all, route: UP }";
    let open = policy(
        "open",
        "  targetRef: { kind: VirtualService, name: shop, sectionName: open }\n  basicAuth: { disabled: true }",
    );
    let naru = start(planned(&up, routes, &(policy("edge", &lines) + &open)));
    let got = ask(naru.address, "GET", "/describe", "").await;
    assert_eq!((got.status, got.head.get("www-authenticate")), (401, Some("Basic realm=\"shop\"")));
    let shown = |who: &str| {
        let text = base64_of(who);
        format!("authorization: basic {text}\r\nx-auth-user: spoofed\r\n")
    };
    for who in ["bob", "carl"] {
        for _ in 0..3 {
            let got = ask(naru.address, "GET", "/describe", &shown(&format!("{who}:password"))).await;
            assert_eq!(got.status, 200, "{}", got.text);
            assert_eq!(header(&got.seen, "x-auth-user"), Some(who));
            assert_eq!(header(&got.seen, "authorization"), None);
        }
        assert_eq!(ask(naru.address, "GET", "/describe", &shown(&format!("{who}:wrong"))).await.status, 401);
    }
    assert_eq!(ask(naru.address, "GET", "/describe", &shown("nobody:password")).await.status, 401);
    // Where nobody has to say who he is, nobody is told who did.
    assert_eq!(ask(naru.address, "GET", "/open", "").await.status, 200);
    // Who guesses from one address is turned away beyond a few at a time; who was let in before is let in.
    let guesses = (0..40).map(|at| {
        let (address, shown) = (naru.address, shown(&format!("bob:guess-{at}")));
        tokio::spawn(async move { ask(address, "GET", "/describe", &shown).await })
    });
    let guesses: Vec<_> = guesses.collect();
    assert_eq!(ask(naru.address, "GET", "/describe", &shown("bob:password")).await.status, 200);
    let mut busy = 0;
    for guess in guesses {
        let got = guess.await.unwrap();
        match got.status {
            401 => {}
            503 => {
                busy += 1;
                assert_eq!(got.head.get("retry-after"), Some("1"));
            }
            status => panic!("{status}"),
        }
    }
    assert!(busy > 0, "nobody was turned away");
    naru.settles().await;
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let up = Upstream::plain(Speaks::Http1).await;
    let lines = "  csrf: { additionalOrigins: [{ exact: friend.test }] }";
    let naru = start(planned(&up, TO_UP, &policy("edge", lines)));
    for (method, origin, expected) in [
        ("GET", "http://evil.test", 200),
        ("POST", "http://evil.test", 403),
        ("POST", "http://a.test", 200),
        ("DELETE", "https://friend.test", 200),
        ("PATCH", "null", 403),
    ] {
        let got = ask(naru.address, method, "/describe", &format!("origin: {origin}\r\n")).await;
        assert_eq!(got.status, expected, "{method} {origin}");
    }
    assert_eq!(ask(naru.address, "POST", "/describe", "").await.status, 403);
    naru.settles().await;
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = "  - { name: none, match: [{ uri: { exact: /direct } }], directResponse: { status: 418 } }\n  \
                  - { name: own, match: [{ uri: { exact: /own } }], route: UP, headers: { response: { set: { x-frame-options: DENY } } } }\n  \
                  - { name: all, match: [{ uri: { prefix: /describe } }], route: UP }";
    let lines = "  securityHeaders: { permissionsPolicy: camera=(), referrerPolicy: '' }";
    let own = policy(
        "own",
        "  targetRef: { kind: VirtualService, name: shop, sectionName: own }\n  securityHeaders: { contentSecurityPolicy: \"default-src 'self'\", frameAncestors: [\"'none'\"], override: true }",
    );
    let cache = "---\napiVersion: naru.dev/v1alpha1\nkind: ResponseCache\nmetadata: { name: all }\nspec:\n  \
                 targetRef: { kind: VirtualService, name: shop }\n  ttl: 1h\n";
    let naru = start(planned(&up, routes, &(policy("edge", lines) + &own + cache)));
    let check = |got: &Got, csp: &str, frames: &str| {
        assert_eq!(got.head.get("x-content-type-options"), Some("nosniff"));
        assert_eq!(got.head.get("content-security-policy"), Some(csp));
        assert_eq!(got.head.get("x-frame-options"), Some(frames));
        // It came without TLS.
        assert_eq!(got.head.get("strict-transport-security"), None);
    };
    for (path, status) in [("/describe", 200), ("/describe", 200), ("/direct", 418), ("/nowhere", 404)] {
        let got = ask(naru.address, "GET", path, "").await;
        assert_eq!(got.status, status);
        check(&got, "frame-ancestors 'self'", "SAMEORIGIN");
        assert_eq!(got.head.get("permissions-policy"), Some("camera=()"));
        assert_eq!(got.head.get("referrer-policy"), None);
    }
    assert_eq!(up.requests(), 1, "the second was kept");
    let reply = "x-reply: content-security-policy: none | strict-transport-security: max-age=1\r\n";
    let got = ask(naru.address, "GET", "/own", reply).await;
    assert_eq!(got.head.get("content-security-policy"), Some("default-src 'self'; frame-ancestors 'none'"));
    assert_eq!(got.head.get("x-frame-options"), Some("DENY"));
    // What is no request is answered with them, too.
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    let got = client.response().await;
    assert_eq!((got.status(), got.head.get("x-content-type-options")), (400, Some("nosniff")));
    naru.settles().await;
}

#[tokio::test]
async fn requests_go_where_their_country_says_and_not_where_they_say() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let database = files.path("places.mmdb");
    let mut writer = Foreign::start("mmdb.py");
    let place = |country: &str| serde_json::json!({ "country": { "iso_code": country }, "continent": { "code": "EU" }, "city": { "names": { "en": "Zürich" } }, "autonomous_system_number": 64_500 });
    let mut write = async |country: &str, path: &str| {
        let networks = serde_json::json!([["127.0.0.0/8", place(country)], ["2001:db8::/32", place("DE")]]);
        writer.ask(serde_json::json!({ "path": path, "networks": networks })).await;
    };
    write("CH", &database.display().to_string()).await;
    let lines = format!(
        "  geo: {{ database: '{}', headers: {{ country: x-country, continent: x-continent, city: x-city, asn: x-asn, region: x-region }} }}",
        database.display()
    );
    let routes = "  - { name: swiss, match: [{ headers: { x-country: { exact: CH } } }], route: UP, headers: { request: { set: { x-route: swiss } } } }\n  \
                  - { name: all, route: UP, headers: { request: { set: { x-route: all } } } }";
    let naru = start(planned(&up, routes, &policy("edge", &lines)));
    let got = ask(naru.address, "GET", "/describe", "x-country: US\r\nx-region: CA\r\n").await;
    let said = ["x-route", "x-country", "x-continent", "x-city", "x-asn", "x-region"]
        .map(|name| header(&got.seen, name));
    assert_eq!(said, [Some("swiss"), Some("CH"), Some("EU"), Some("Z%C3%BCrich"), Some("64500"), None]);
    // Another database is in effect as soon as it is there.
    let other = files.path("other.mmdb");
    write("FR", &other.display().to_string()).await;
    std::fs::rename(&other, &database).unwrap();
    until("the new database", async || {
        let got = ask(naru.address, "GET", "/describe", "").await;
        (header(&got.seen, "x-country") == Some("FR") && header(&got.seen, "x-route") == Some("all"))
            .then_some(())
    })
    .await;
    // One that is gone tells so, and what was read goes on.
    std::fs::remove_file(&database).unwrap();
    until("the loss", async || naru.files().iter().any(|file| !file.is_well).then_some(())).await;
    let got = ask(naru.address, "GET", "/describe", "").await;
    assert_eq!(header(&got.seen, "x-country"), Some("FR"));
    naru.settles().await;
}

#[tokio::test]
async fn a_page_reads_refusals_and_answers_that_were_kept() {
    let up = Upstream::plain(Speaks::Http1).await;
    let cors = "corsPolicy: { allowOrigins: [{ exact: 'https://page.test' }], allowMethods: [GET, PUT], allowHeaders: [x-api-key], exposeHeaders: [x-own], allowCredentials: true, maxAge: 60s }";
    let routes = format!(
        "  - {{ name: keyed, match: [{{ uri: {{ prefix: /keyed }} }}], route: UP, {cors} }}\n  - {{ name: all, route: UP, {cors} }}"
    );
    let lines = format!(
        "  targetRef: {{ kind: VirtualService, name: shop, sectionName: keyed }}\n  apiKeys: {{ keys: [{{ client: ann, sha256: '{OF_ABC}' }}] }}"
    );
    let others = "---\napiVersion: naru.dev/v1alpha1\nkind: ResponseCache\nmetadata: { name: all }\nspec:\n  \
                  targetRef: { kind: VirtualService, name: shop }\n  ttl: 1h\n---\napiVersion: naru.dev/v1alpha1\nkind: EdgePolicy\n\
                  metadata: { name: bounds }\nspec: { requests: { maxBodyBytes: 10 } }\n";
    let naru = start(planned(&up, &routes, &(policy("edge", &lines) + others)));
    let origin = "origin: https://page.test\r\n";
    let check = |got: &Got, status: u16| {
        assert_eq!(got.status, status, "{}", got.text);
        assert_eq!(got.head.get("access-control-allow-origin"), Some("https://page.test"));
        assert_eq!(got.head.get("access-control-allow-credentials"), Some("true"));
        assert_eq!(got.head.get("access-control-expose-headers"), Some("x-own"));
        assert_eq!(got.head.get("vary"), Some("Origin"));
    };
    check(&ask(naru.address, "GET", "/describe", origin).await, 200);
    check(&ask(naru.address, "GET", "/describe", origin).await, 200);
    assert_eq!(up.requests(), 1, "the second was kept");
    check(&ask(naru.address, "GET", "/keyed", origin).await, 401);
    check(&ask(naru.address, "GET", "/keyed", &format!("{origin}x-api-key: abc\r\n")).await, 200);
    // A preflight shows no key, and needs none.
    let preflight = format!(
        "{origin}access-control-request-method: PUT\r\naccess-control-request-headers: x-api-key\r\n"
    );
    let got = ask(naru.address, "OPTIONS", "/keyed", &preflight).await;
    check(&got, 200);
    assert_eq!(got.head.get("access-control-allow-methods"), Some("GET,PUT"));
    assert_eq!(got.head.get("access-control-max-age"), Some("60"));
    assert_eq!(up.requests(), 2);
    // One that no check has seen can be read as well.
    let mut client = Wire::connect(naru.address).await;
    client.send(format!("PUT /describe HTTP/1.1\r\nhost: a\r\n{origin}content-length: 11\r\n\r\n")).await;
    let got = client.response().await;
    assert_eq!((got.status(), got.head.get("access-control-allow-origin")), (413, Some("https://page.test")));
    // Others are told nothing, but that it depends on who asks.
    let got = ask(naru.address, "GET", "/keyed", "origin: https://evil.test\r\n").await;
    assert_eq!(
        (got.status, got.head.get("access-control-allow-origin"), got.head.get("vary")),
        (401, None, Some("Origin"))
    );
    let got = ask(naru.address, "GET", "/describe", "").await;
    assert_eq!(
        (got.status, got.head.get("access-control-allow-origin"), got.head.get("vary")),
        (200, None, Some("Origin"))
    );
    naru.settles().await;
    assert!(naru.ended(8).await.contains(&(200, Reason::CorsPreflight)));
}

#[tokio::test]
async fn lists_that_cannot_be_read_change_nothing() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let naru = start(planned(&up, TO_UP, ""));
    let wrong = files.write("htpasswd", "ann:$apr1$x$y\n");
    for (lines, expected) in [
        (format!("  basicAuth: {{ file: '{}' }}", wrong.display()), "line 1: MD5"),
        ("  basicAuth: { file: /nowhere/htpasswd }".to_owned(), "/nowhere/htpasswd cannot be read"),
        ("  apiKeys: { file: /nowhere/keys }".to_owned(), "/nowhere/keys cannot be read"),
        (format!("  geo: {{ database: '{}' }}", wrong.display()), "it is no database of addresses"),
    ] {
        let config = planned_at(naru.address, &up, TO_UP, &policy("edge", &lines));
        let error = naru.try_update_to(config).await.unwrap_err();
        assert!(format!("{error:?}").contains(expected), "{error:?}");
    }
    assert_eq!(ask(naru.address, "GET", "/describe", "").await.status, 200);
    naru.settles().await;
}

#[tokio::test]
async fn what_sessions_refuse_can_be_read_where_a_policy_allows_it() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let cors = "corsPolicy: { allowOrigins: [{ exact: 'https://page.test' }], allowMethods: [GET], exposeHeaders: [x-own] }";
    let sessions = format!(
        "---\napiVersion: naru.dev/v1alpha1\nkind: SessionAuth\nmetadata: {{ name: login }}\nspec:\n  \
         targetRef: {{ kind: Gateway, name: edge }}\n  login: {{ paths: [/describe/login] }}\n  \
         store: {{ directory: {} }}\n",
        files.path("kept").display()
    );
    let naru = start(planned(&up, &format!("  - {{ name: all, route: UP, {cors} }}"), &sessions));
    let origin = "origin: https://page.test\r\n";
    let got = until("keys", async || {
        let got = ask(naru.address, "GET", "/describe", origin).await;
        (got.status == 401).then_some(got)
    })
    .await;
    assert_eq!(got.head.get("access-control-allow-origin"), Some("https://page.test"));
    let exposed = "x-own, X-Token-Refresh-Needed, X-Relogin-Required, Authorization";
    assert_eq!(got.head.get("access-control-expose-headers"), Some(exposed));
    assert_eq!(got.head.get("vary"), Some("Origin"));
    let preflight = format!("{origin}access-control-request-method: GET\r\n");
    let got = ask(naru.address, "OPTIONS", "/describe", &preflight).await;
    assert_eq!((got.status, got.head.get("access-control-allow-methods")), (200, Some("GET")));
    let got = ask(naru.address, "GET", "/describe", "origin: https://evil.test\r\n").await;
    assert_eq!((got.status, got.head.get("access-control-allow-origin")), (401, None));
    assert_eq!(up.requests(), 0);
    naru.settles().await;
}

#[tokio::test]
async fn who_asks_is_whom_trusted_proxies_name() {
    let up = Upstream::plain(Speaks::Http1).await;
    let lines = "  addresses: { deny: [203.0.113.0/24] }\n  requests: { trustedHops: 1 }";
    let naru = start(planned(&up, TO_UP, &policy("edge", lines)));
    for (said, expected) in [
        ("203.0.113.9", 403),
        ("192.0.2.1, 203.0.113.9", 403),
        // What stands before the last one is what a client says of itself.
        ("203.0.113.9, 192.0.2.1", 200),
    ] {
        let got = ask(naru.address, "GET", "/describe", &format!("x-forwarded-for: {said}\r\n")).await;
        assert_eq!(got.status, expected, "{said}");
    }
    let lines = "  addresses: { deny: [203.0.113.0/24] }";
    naru.update_to(planned_at(naru.address, &up, TO_UP, &policy("edge", lines))).await;
    let got = ask(naru.address, "GET", "/describe", "x-forwarded-for: 203.0.113.9\r\n").await;
    assert_eq!(got.status, 200, "nobody in front is trusted");
    naru.settles().await;
}
