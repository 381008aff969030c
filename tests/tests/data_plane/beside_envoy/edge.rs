//! CORS, CSRF, API keys and passwords: who is answered with what, and what responses say to pages of other origins.

use std::net::SocketAddr;

use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};

const CORS: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
const CSRF: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy";

/// The headers that are compared.
const NAMES: [&str; 9] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-private-network",
    "www-authenticate",
    "x-own",
];

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> String {
    let mut client = Wire::connect(address).await;
    client
        .send(format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"))
        .await;
    let got = client.response().await;
    let said: Vec<_> =
        NAMES.iter().filter_map(|name| Some(format!("{name}={}", got.head.get(name)?))).collect();
    let body = if got.status() == 200 { String::new() } else { got.text() };
    format!("{method} {path} {headers:?}: {} {said:?} {body:?}", got.status())
}

fn route(name: &str, filter: &str, policy: &str) -> String {
    format!(
        "- match: {{ path: \"/{name}\" }}\n  route: {{ cluster: up }}\n  typed_per_filter_config:\n    \
         {filter}: {{ {policy} }}\n"
    )
}

fn cors_routes() -> String {
    let all = "default_value: { numerator: 100 }";
    let none = "default_value: { numerator: 0 }";
    let cors = |name: &str, said: &str| route(name, "envoy.filters.http.cors", &format!("{CORS}, {said}"));
    [
        cors("exact", "allow_origin_string_match: [{ exact: 'https://page.test' }], allow_methods: 'GET,PUT', allow_headers: 'x-a,x-b', expose_headers: x-own, max_age: '60', allow_credentials: true"),
        cors("prefix", "allow_origin_string_match: [{ prefix: 'https://p' }], allow_methods: '*', allow_headers: '*'"),
        cors("regex", "allow_origin_string_match: [{ safe_regex: { regex: 'https://.*\\.test' } }], allow_private_network_access: true"),
        cors("star", "allow_origin_string_match: [{ exact: '*' }], max_age: '1'"),
        cors("none", "allow_methods: GET"),
        cors("ignore", "allow_origin_string_match: [{ exact: 'https://page.test' }], forward_not_matching_preflights: false, allow_methods: GET, allow_credentials: true"),
        cors("off", &format!("allow_origin_string_match: [{{ exact: '*' }}], filter_enabled: {{ {none} }}")),
        cors("shadow", &format!("allow_origin_string_match: [{{ exact: '*' }}], filter_enabled: {{ {none} }}, shadow_enabled: {{ {all} }}")),
        cors("own", "allow_credentials: false, expose_headers: x-of-route"),
        "- match: { path: \"/plain\" }\n  route: { cluster: up }\n".to_owned(),
    ]
    .concat()
}

async fn play_cors(address: SocketAddr) -> Vec<String> {
    let mut all = Vec::new();
    let preflights = [
        "access-control-request-method: PUT\r\n",
        "access-control-request-method: PUT\r\naccess-control-request-headers: x-a, x-c\r\naccess-control-request-private-network: true\r\n",
        "access-control-request-method: \r\n",
        "",
    ];
    for name in ["exact", "prefix", "regex", "star", "none", "ignore", "off", "shadow", "own", "plain"] {
        for origin in ["https://page.test", "https://other.example", "null", ""] {
            let origin = if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
            for asked in preflights {
                all.push(ask(address, "OPTIONS", &format!("/{name}"), &format!("{origin}{asked}")).await);
            }
            // What an upstream says of it itself gives way.
            let reply = "x-reply: access-control-allow-origin: https://theirs.test\r\n";
            all.push(ask(address, "GET", &format!("/{name}"), &origin).await);
            all.push(ask(address, "GET", &format!("/{name}"), &format!("{origin}{reply}")).await);
        }
    }
    all
}

fn compare(envoy: &[String], naru: &[String]) {
    let differences: Vec<_> = envoy.iter().zip(naru).filter(|(envoy, naru)| envoy != naru).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(envoy.len(), naru.len());
}

#[tokio::test]
async fn pages_of_other_origins_are_told_what_envoy_tells_them() {
    let up = Upstream::plain(Speaks::Http1).await;
    let of_host = format!(
        "  typed_per_filter_config:\n    envoy.filters.http.cors: {{ {CORS}, allow_origin_string_match: \
         [{{ exact: 'https://page.test' }}], allow_methods: HEAD, allow_credentials: true }}\n"
    );
    let filter = "- name: envoy.filters.http.cors\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors";
    for of_host in ["", &of_host] {
        let routes = cors_routes().lines().map(|line| format!("  {line}\n")).collect::<String>();
        let hosts = format!("- name: everything\n  domains: [\"*\"]\n{of_host}  routes:\n{routes}");
        let bootstrap = Bootstrap::with_virtual_hosts(&hosts).filter(filter).cluster("up", up.address, "");
        let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
        let by_envoy = play_cors(envoy.address).await;
        let naru = Naru::start(&bootstrap);
        compare(&by_envoy, &play_cors(naru.address).await);
        assert!(by_envoy.iter().any(|line| line.contains("access-control-max-age=60")), "{by_envoy:#?}");
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_refusal_behind_the_filter_can_be_read_by_its_page() {
    let up = Upstream::plain(Speaks::Http1).await;
    let cors = "- name: envoy.filters.http.cors\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors";
    let bootstrap = Bootstrap::new(&cors_routes()).filter(cors).filter(BASIC).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let origin = "origin: https://page.test\r\n";
    let by = async |address| {
        vec![
            ask(address, "GET", "/exact", origin).await,
            ask(address, "GET", "/plain", origin).await,
            ask(address, "OPTIONS", "/exact", &format!("{origin}access-control-request-method: PUT\r\n"))
                .await,
            ask(address, "GET", "/exact", "origin: https://other.test\r\n").await,
        ]
    };
    let by_envoy = by(envoy.address).await;
    compare(&by_envoy, &by(naru.address).await);
    assert!(
        by_envoy[0].contains("401") && by_envoy[0].contains("access-control-allow-origin="),
        "{by_envoy:#?}"
    );
    naru.settles().await;
}

#[tokio::test]
async fn what_other_pages_would_change_is_refused_as_by_envoy() {
    let up = Upstream::plain(Speaks::Http1).await;
    let all = "filter_enabled: { default_value: { numerator: 100 } }";
    let none = "filter_enabled: { default_value: { numerator: 0 } }";
    let csrf = |name: &str, said: &str| route(name, "envoy.filters.http.csrf", &format!("{CSRF}, {said}"));
    let routes = [
        csrf(
            "more",
            &format!("{all}, additional_origins: [{{ exact: friend.test }}, {{ suffix: .friends.test }}]"),
        ),
        csrf("off", none),
        csrf("shadow", &format!("{none}, shadow_enabled: {{ default_value: {{ numerator: 100 }} }}")),
        "- match: { prefix: \"/\" }\n  route: { cluster: up }\n".to_owned(),
    ]
    .concat();
    let filter = format!("- name: envoy.filters.http.csrf\n  typed_config:\n    {CSRF}\n    {all}");
    let bootstrap = Bootstrap::new(&routes).filter(&filter).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let by = async |address| {
        let mut said = Vec::new();
        for path in ["/more", "/off", "/shadow", "/all"] {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"] {
                for headers in [
                    "",
                    "origin: http://a.test\r\n",
                    "origin: https://a.test\r\n",
                    "origin: http://A.test\r\n",
                    "origin: http://a.test:80\r\n",
                    "origin: http://a.test:8080\r\n",
                    "origin: http://evil.test\r\n",
                    "origin: null\r\n",
                    "origin: a.test\r\n",
                    "origin: http://friend.test\r\n",
                    "origin: http://x.friends.test\r\n",
                    "origin: http://friend.test.evil.test\r\n",
                    "referer: http://a.test/page?q=http://evil.test\r\n",
                    "referer: http://evil.test/a.test\r\n",
                    "origin: http://evil.test\r\nreferer: http://a.test/\r\n",
                ] {
                    if method == "HEAD" {
                        continue;
                    }
                    said.push(ask(address, method, path, headers).await);
                }
            }
        }
        said
    };
    let by_envoy = by(envoy.address).await;
    compare(&by_envoy, &by(naru.address).await);
    assert!(
        by_envoy.iter().any(|line| line.contains("403") && line.contains("Invalid origin")),
        "{by_envoy:#?}"
    );
    naru.settles().await;
}

/// ann, with the password "password".
const BASIC: &str = r#"- name: envoy.filters.http.basic_auth
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.basic_auth.v3.BasicAuth
    users: { inline_string: "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=" }
    forward_username_header: x-user
"#;
const KEYS: &str = r#"- name: envoy.filters.http.api_key_auth
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
    credentials: [{ key: one-key, client: one }, { key: other-key, client: other }]
    key_sources: [{ header: x-key }, { query: key }, { cookie: key }]
    forwarding: { header: x-client, hide_credentials: true }
"#;

#[tokio::test]
async fn who_shows_a_password_is_answered_as_by_envoy() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = "- match: { prefix: \"/\" }\n  route: { cluster: up }\n";
    let bootstrap = Bootstrap::new(routes).filter(BASIC).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let by = async |address| {
        let mut said = Vec::new();
        for shown in [
            "",
            "Basic YW5uOnBhc3N3b3Jk",
            "Basic YW5uOnBhc3N3b3JkCg==",
            "Basic YW5uOndyb25n",
            "Basic Ym9iOnBhc3N3b3Jk",
            "Basic YW5u",
            "Basic ????",
            "Basic ",
            "Basic",
            "Bearer YW5uOnBhc3N3b3Jk",
        ] {
            let header = if shown.is_empty() { String::new() } else { format!("authorization: {shown}\r\n") };
            said.push(ask(address, "GET", "/bytes/2?a=1", &header).await);
        }
        said.push(
            told(address, "authorization: Basic YW5uOnBhc3N3b3Jk\r\nx-user: spoofed\r\n", "/describe").await,
        );
        said
    };
    let by_envoy = by(envoy.address).await;
    compare(&by_envoy, &by(naru.address).await);
    naru.settles().await;
}

#[tokio::test]
async fn who_shows_a_key_is_answered_as_by_envoy() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = "- match: { prefix: \"/\" }\n  route: { cluster: up }\n";
    let bootstrap = Bootstrap::new(routes).filter(KEYS).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let by = async |address| {
        let mut said = Vec::new();
        for (path, headers) in [
            ("/describe", ""),
            ("/describe", "x-key: one-key\r\n"),
            ("/describe", "x-key: Bearer one-key\r\nx-client: spoofed\r\n"),
            ("/describe", "x-key: none\r\n"),
            ("/describe?key=other-key&a=1", ""),
            ("/describe?a=1&key=other%2Dkey", ""),
            ("/describe?key=none", "x-key: one-key\r\n"),
            ("/describe?key=one-key", "x-key: none\r\n"),
            ("/describe", "cookie: a=1; key=one-key; b=2\r\n"),
            ("/describe", "cookie: key=one-key\r\n"),
        ] {
            said.push(told(address, headers, path).await);
        }
        said
    };
    let by_envoy = by(envoy.address).await;
    compare(&by_envoy, &by(naru.address).await);
    naru.settles().await;
}

/// What the upstream was told, where it was asked.
async fn told(address: SocketAddr, headers: &str, path: &str) -> String {
    let mut client = Wire::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{headers}connection: close\r\n\r\n")).await;
    let got = client.response().await;
    let body = if got.status() == 200 {
        let described: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        let names = ["x-user", "x-client", "x-key", "cookie", "authorization"];
        let told = names.map(|name| header(&described, name).map(str::to_owned));
        format!("{} {told:?}", described["target"])
    } else {
        got.text()
    };
    format!("{path} {headers:?}: {} {body}", got.status())
}
