//! What routes, virtual hosts and tables say to filters: does the same one win as by Envoy?

use std::slice::from_ref;

use std::net::SocketAddr;

use naru_base::Json;
use naru_jose::{Algorithm, Jwks, SigningKey};
use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};

const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";

fn filter(name: &str, of: &str, lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let said = format!(
        "- name: envoy.filters.http.{name}\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.{name}.v3.{of}\n{lines}"
    );
    said.trim_end().to_owned()
}

/// One line of `typed_per_filter_config`.
fn says(name: &str, of: &str, said: &str) -> String {
    let comma = if said.is_empty() { "" } else { ", " };
    let of = format!("type.googleapis.com/envoy.extensions.filters.http.{name}.v3.{of}");
    format!("envoy.filters.http.{name}: {{ \"@type\": {of}{comma}{said} }}")
}

fn off(name: &str) -> String {
    format!("envoy.filters.http.{name}: {{ \"@type\": {ROUTE}, disabled: true }}")
}

fn route(path: &str, says: &[String]) -> String {
    let mut lines = format!("  - match: {{ prefix: \"{path}\" }}\n    route: {{ cluster: up }}\n");
    if !says.is_empty() {
        lines += "    typed_per_filter_config:\n";
        lines.extend(says.iter().map(|said| format!("      {said}\n")));
    }
    lines
}

fn host(name: &str, says: &[String], routes: &[String]) -> String {
    let mut lines = format!("- name: \"{name}\"\n  domains: [{name}.test]\n");
    if !says.is_empty() {
        lines += "  typed_per_filter_config:\n";
        lines.extend(says.iter().map(|said| format!("    {said}\n")));
    }
    lines + "  routes:\n" + &routes.concat()
}

async fn ask(address: SocketAddr, host: &str, path: &str, headers: &str) -> String {
    let mut client = Wire::connect(address).await;
    client
        .send(format!("GET {path} HTTP/1.1\r\nhost: {host}.test\r\n{headers}connection: close\r\n\r\n"))
        .await;
    let got = client.response().await;
    let body = match serde_json::from_slice::<serde_json::Value>(&got.body) {
        Ok(described) => {
            let names = ["x-user", "x-client", "x-key", "authorization"];
            format!("{:?}", names.map(|name| header(&described, name).map(str::to_owned)))
        }
        Err(_) => got.text(),
    };
    let told = ["www-authenticate", "access-control-allow-origin"].map(|name| got.head.get(name));
    format!("{host} {path} {headers:?}: {} {told:?} {body}", got.status())
}

/// Each path of each host with each headers.
async fn check(
    filters: &[String],
    hosts: &str,
    names: &[&str],
    paths: &[&str],
    headers: &[&str],
) -> Vec<String> {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::with_virtual_hosts(hosts).cluster("up", up.address, "");
    let bootstrap = filters.iter().fold(bootstrap, |bootstrap, filter| bootstrap.filter(filter));
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let mut seen = Vec::new();
    let mut differences = Vec::new();
    for name in names {
        for path in paths {
            for headers in headers {
                let one = ask(envoy.address, name, path, headers).await;
                let other = ask(naru.address, name, path, headers).await;
                if one != other {
                    differences.push((one.clone(), other));
                }
                seen.push(one);
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    drop(envoy);
    naru.settles().await;
    seen
}

#[track_caller]
fn shows(seen: &[String], words: &[&str]) {
    let is_one = |line: &&String| words.iter().all(|word| line.contains(word));
    assert!(seen.iter().any(|line| is_one(&line)), "{words:?}: {seen:#?}");
}

/// ann and bob, both with the password "password".
const ANN: &str = "users: { inline_string: \"ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\" }";
const BOB: &str = "users: { inline_string: \"bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\" }";

#[tokio::test]
async fn keys_and_passwords_are_those_of_the_nearest() {
    let keys = "credentials: [{ key: one-key, client: one }, { key: two-key, client: two }]\n\
                key_sources: [{ header: x-key }]\nforwarding: { header: x-client, hide_credentials: true }";
    let filters = [
        filter("basic_auth", "BasicAuth", &format!("{ANN}\nforward_username_header: x-user")),
        filter("api_key_auth", "ApiKeyAuth", keys),
    ];
    let bob = says("basic_auth", "BasicAuthPerRoute", BOB);
    let ann = says("basic_auth", "BasicAuthPerRoute", ANN);
    let only = says("api_key_auth", "ApiKeyAuthPerRoute", "allowed_clients: [two]");
    let others = says(
        "api_key_auth",
        "ApiKeyAuthPerRoute",
        "credentials: [{ key: own-key, client: own }], key_sources: [{ query: k }, { header: x-own }]",
    );
    let told = says(
        "api_key_auth",
        "ApiKeyAuthPerRoute",
        "forwarding: { header: x-user, hide_credentials: false }, allowed_clients: [one, two]",
    );
    let (no_basic, no_keys) = (off("basic_auth"), off("api_key_auth"));
    let routes = |all: &[(&str, &[String])]| -> Vec<String> {
        all.iter().map(|(path, says)| route(path, says)).collect()
    };
    let hosts = host(
        "plain",
        &[],
        &routes(&[
            ("/bob", from_ref(&bob)),
            ("/only", &[only.clone(), no_basic.clone()]),
            ("/others", &[others.clone(), no_basic.clone()]),
            ("/told", &[told.clone(), no_basic.clone()]),
            ("/off", &[no_basic.clone(), no_keys.clone()]),
            ("/", &[]),
        ]),
    ) + &host(
        "bob",
        &[bob.clone(), only.clone()],
        &routes(&[
            ("/bob", from_ref(&ann)),
            ("/only", from_ref(&no_basic)),
            ("/others", from_ref(&others)),
            ("/off", &[no_basic.clone(), no_keys.clone()]),
            ("/", &[]),
        ]),
    ) + &host(
        "open",
        &[no_basic.clone(), no_keys.clone()],
        &routes(&[("/bob", from_ref(&bob)), ("/only", from_ref(&only)), ("/", &[])]),
    );
    // "ann:password", "bob:password".
    let (ann, bob) =
        ("authorization: Basic YW5uOnBhc3N3b3Jk\r\n", "authorization: Basic Ym9iOnBhc3N3b3Jk\r\n");
    let all: Vec<String> = ["", ann, bob]
        .iter()
        .flat_map(|shown| {
            ["", "x-key: one-key\r\n", "x-key: two-key\r\n", "x-own: own-key\r\n"]
                .map(|key| format!("{shown}{key}"))
        })
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let paths = [
        "/bob/describe",
        "/only/describe",
        "/others/describe",
        "/others?k=own-key",
        "/told/describe",
        "/off/describe",
        "/describe",
    ];
    let seen = check(&filters, &hosts, &["plain", "bob", "open"], &paths, &all).await;
    shows(&seen, &["plain /only", "one-key", "403", "Client is forbidden"]);
    shows(&seen, &["bob /bob", "YW5u", "two-key", " 200 "]);
    shows(&seen, &["open /describe \"\"", " 200 "]);
}

#[tokio::test]
async fn policies_and_tokens_are_those_of_the_nearest() {
    let (key, other) = (
        SigningKey::generate(Algorithm::Es256, "es").unwrap(),
        SigningKey::generate(Algorithm::Es256, "other").unwrap(),
    );
    let set = |key: &SigningKey| Jwks::of(vec![key.public().clone()]).public();
    let token = |key: &SigningKey, issuer: &str| {
        key.sign(&Json::Map(vec![("iss".into(), issuer.into()), ("sub".into(), "me".into())]))
    };
    let lines = format!(
        "providers:\n  one:\n    issuer: one\n    local_jwks: {{ inline_string: '{}' }}\n  two:\n    issuer: two\n    \
         local_jwks: {{ inline_string: '{}' }}\nrules:\n- match: {{ prefix: /free }}\n- match: {{ prefix: / }}\n  \
         requires: {{ provider_name: one }}\nrequirement_map:\n  of-two: {{ provider_name: two }}\n  any: {{ \
         requires_any: {{ requirements: [{{ provider_name: one }}, {{ provider_name: two }}] }} }}\n  maybe: {{ \
         allow_missing: {{}} }}",
        set(&key),
        set(&other)
    );
    let policy = |name: &str| {
        format!(
            "rules: {{ action: ALLOW, policies: {{ {name}: {{ permissions: [{{ any: true }}], principals: [{{ header: \
             {{ name: x-role, string_match: {{ exact: {name} }} }} }}] }} }} }}"
        )
    };
    let filters =
        [filter("jwt_authn", "JwtAuthentication", &lines), filter("rbac", "RBAC", &policy("admin"))];
    let needs = |name: &str| says("jwt_authn", "PerRouteConfig", &format!("requirement_name: {name}"));
    let rbac = |name: &str| says("rbac", "RBACPerRoute", &format!("rbac: {{ {} }}", policy(name)));
    let (no_tokens, no_policies) =
        (says("jwt_authn", "PerRouteConfig", "disabled: true"), says("rbac", "RBACPerRoute", ""));
    let hosts = host(
        "plain",
        &[],
        &[
            route("/two", &[needs("of-two"), rbac("user")]),
            route("/any", &[needs("any"), no_policies.clone()]),
            route("/maybe", &[needs("maybe"), off("rbac")]),
            route("/none", &[no_tokens.clone(), no_policies.clone()]),
            route("/free", &[]),
            route("/", &[]),
        ],
    ) + &host(
        "user",
        &[needs("of-two"), rbac("user")],
        &[
            route("/two", &[rbac("admin")]),
            route("/any", &[needs("any")]),
            route("/none", &[no_tokens.clone(), no_policies.clone()]),
            route("/free", &[]),
            route("/", &[]),
        ],
    ) + &host(
        "open",
        &[off("jwt_authn"), no_policies.clone()],
        &[route("/two", &[needs("of-two")]), route("/any", &[rbac("user")]), route("/", &[])],
    );
    let of = |name: &str, token: &str| match (name, token) {
        ("", "") => String::new(),
        ("", token) => format!("authorization: Bearer {token}\r\n"),
        (role, "") => format!("x-role: {role}\r\n"),
        (role, token) => format!("x-role: {role}\r\nauthorization: Bearer {token}\r\n"),
    };
    let tokens = [String::new(), token(&key, "one"), token(&other, "two"), token(&key, "two")];
    let all: Vec<String> =
        tokens.iter().flat_map(|token| ["", "admin", "user"].map(|role| of(role, token))).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let paths = [
        "/two/describe",
        "/any/describe",
        "/maybe/describe",
        "/none/describe",
        "/free/describe",
        "/describe",
    ];
    let seen = check(&filters, &hosts, &["plain", "user", "open"], &paths, &all).await;
    shows(&seen, &["plain /two", "x-role: user", " 200 "]);
    shows(&seen, &["user /two", "x-role: user", " 403 "]);
    shows(&seen, &["open /any", "\"\"", " 403 "]);
}

#[tokio::test]
async fn pages_and_codings_are_those_of_the_nearest() {
    let filters = [
        filter("cors", "Cors", ""),
        filter("csrf", "CsrfPolicy", "filter_enabled: { default_value: { numerator: 100 } }"),
    ];
    let cors = |origin: &str| {
        says("cors", "CorsPolicy", &format!("allow_origin_string_match: [{{ exact: '{origin}' }}]"))
    };
    let csrf = |share: u32| {
        says("csrf", "CsrfPolicy", &format!("filter_enabled: {{ default_value: {{ numerator: {share} }} }}"))
    };
    let hosts = host("plain", &[], &[route("/own", &[cors("https://b.test"), csrf(0)]), route("/", &[])])
        + &host(
            "page",
            &[cors("https://page.test"), csrf(0)],
            &[
                route("/own", &[cors("https://b.test"), csrf(100)]),
                route("/off", &[off("cors"), off("csrf")]),
                route("/", &[]),
            ],
        )
        + &host(
            "off",
            &[off("cors"), off("csrf")],
            &[route("/own", &[cors("https://b.test"), csrf(100)]), route("/", &[])],
        );
    let headers = ["", "origin: https://page.test\r\n", "origin: https://b.test\r\n"];
    let paths = ["/own/describe", "/off/describe", "/describe"];
    let seen = check(&filters, &hosts, &["plain", "page", "off"], &paths, &headers).await;
    shows(&seen, &["page /describe", "Some(\"https://page.test\")"]);
    shows(&seen, &["off /own", "Some(\"https://b.test\")"]);
}
