//! A rate limit service counts: a server of others (`tests/ratelimit/server.py`), with Envoy's messages.

use std::net::SocketAddr;

use naru_tests::bootstrap::HTTP2;
use naru_tests::files::{Directory, documents};
use naru_tests::upstream::headers;
use naru_tests::{Bootstrap, Envoy, Foreign, Naru, Speaks, Upstream, Wire};
use serde_json::{Value, json};

const LOG: &str = "code: '%RESPONSE_CODE%'\nflags: '%RESPONSE_FLAGS%'\ndetails: '%RESPONSE_CODE_DETAILS%'\n";
const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";
const NAME: &str = "envoy.filters.http.ratelimit";

/// A filter that asks this cluster, with these fields.
fn filter(cluster: &str, fields: Value) -> Value {
    let mut all = json!({
        "@type": FILTER,
        "domain": "shop",
        "timeout": "20s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": { "cluster_name": cluster },
                "initial_metadata": [{ "key": "x-initial", "value": "here" }],
            },
        },
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "name": NAME, "typed_config": all })
}

fn literal(value: &str, fields: Value) -> Value {
    let mut rate = json!({ "actions": [{ "generic_key": { "descriptor_value": value } }] });
    rate.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    rate
}

/// What the service does stands in a header.
fn by_word() -> Value {
    json!([{ "actions": [{ "request_headers": { "header_name": "x-do", "descriptor_key": "do" } }] }])
}

fn host(routes: Value, rates: Value) -> String {
    format!("- {}\n", json!({ "name": "v", "domains": ["*"], "routes": routes, "rate_limits": rates }))
}

fn everything() -> String {
    host(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]), by_word())
}

/// A path, what the service is to do, and more lines of a head.
type Ask = (&'static str, &'static str, &'static str);

async fn play(address: SocketAddr, asks: &[Ask], foreign: &mut Foreign) -> Vec<String> {
    let mut seen = Vec::new();
    foreign.ask(json!({ "take": 0 })).await;
    for (path, word, own) in asks {
        let mut client = Wire::connect(address).await;
        let word = if word.is_empty() { String::new() } else { format!("x-do: {word}\r\n") };
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{word}{own}\r\n")).await;
        let got = client.response().await;
        let names = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-envoy-ratelimited",
            "retry-after",
            "x-told",
            "x-more",
            "content-type",
            "grpc-status",
            "grpc-message",
        ];
        let said: Vec<_> = names.iter().map(|name| got.head.all(name)).collect();
        let told = match serde_json::from_slice::<Value>(&got.body) {
            Ok(echo) if !echo["headers"].is_null() => {
                format!("{:?}", ["x-user", "content-length"].map(|name| headers(&echo, name)))
            }
            _ => got.text(),
        };
        let asked = foreign.ask(json!({ "take": 0 })).await;
        seen.push(format!("{path} {word:?}: {} {said:?} {told}\n  {asked}", got.status()));
    }
    seen
}

struct Both {
    foreign: Foreign,
    up: Upstream,
    grpc: SocketAddr,
}

impl Both {
    async fn start() -> Both {
        let mut foreign = Foreign::start("ratelimit/server.py");
        let port = foreign.answer().await["grpc"].as_u64().unwrap() as u16;
        Both { foreign, up: Upstream::plain(Speaks::Http1).await, grpc: ([127, 0, 0, 1], port).into() }
    }

    fn bootstrap(&self, filter: &Value, host: &str, log: &std::path::Path) -> Bootstrap {
        Bootstrap::with_virtual_hosts(host)
            .json_log(log, LOG)
            .manager("use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }")
            .cluster("up", self.up.address, "")
            .cluster("limits", self.grpc, HTTP2)
            .cluster("nobody", naru_tests::wire::refusing_address(), HTTP2)
            .filter(&format!("- {filter}"))
    }

    async fn check(&mut self, filter: &Value, host: &str, asks: &[Ask]) {
        let files = Directory::new();
        let bootstrap = self.bootstrap(filter, host, &files.path("envoy"));
        let envoy = Envoy::start(&bootstrap.admin().text()).await;
        let by_envoy = play(envoy.address, asks, &mut self.foreign).await;
        let naru = Naru::start(&self.bootstrap(filter, host, &files.path("naru")));
        let by_naru = play(naru.address, asks, &mut self.foreign).await;
        let logged = documents(&files.path("envoy"), asks.len()).await;
        let known = documents(&files.path("naru"), asks.len()).await;
        let mut wrong = String::new();
        for at in 0..asks.len() {
            if by_envoy[at] != by_naru[at] || logged[at] != known[at] {
                wrong += &format!(
                    "envoy: {}\n  {}\nnaru:  {}\n  {}\n",
                    by_envoy[at], logged[at], by_naru[at], known[at]
                );
            }
        }
        assert!(wrong.is_empty(), "{filter}\n{wrong}");
        naru.settles().await;
    }
}

const GRPC: &str = "content-type: application/grpc\r\n";
const WORDS: [Ask; 10] = [
    ("/", "over", ""),
    ("/", "more", ""),
    ("/", "plain", ""),
    ("/", "unknown", ""),
    ("/", "body", ""),
    ("/", "ok", ""),
    ("/", "error", ""),
    ("/", "", ""),
    ("/", "over", GRPC),
    ("/", "error", GRPC),
];

#[tokio::test]
async fn its_answers_do_the_same() {
    let mut both = Both::start().await;
    let part = |numerator: u32| json!({ "default_value": { "numerator": numerator } });
    for fields in [
        json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03" }),
        json!({
            "failure_mode_deny": true,
            "rate_limited_as_resource_exhausted": true,
            "enable_retry_after_header": true,
            "disable_x_envoy_ratelimited_header": true,
            "rate_limited_status": { "code": 503 },
            "response_headers_to_add": [{ "header": { "key": "x-more", "value": "%REQ(x-do)%" } }],
        }),
        json!({ "enable_retry_after_header": true, "status_on_error": { "code": 404 },
            "failure_mode_deny_percent": part(100) }),
        json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true,
            "filter_enforced": part(0), "failure_mode_deny": true, "failure_mode_deny_percent": part(0) }),
        json!({ "rate_limited_status": { "code": 200 }, "filter_enabled": part(100) }),
    ] {
        both.check(&filter("limits", fields), &everything(), &WORDS).await;
    }
    let off = json!({ "filter_enabled": part(0) });
    both.check(&filter("limits", off), &everything(), &WORDS[..1]).await;
}

#[tokio::test]
async fn who_is_not_answered_is_refused_or_let_through_alike() {
    let mut both = Both::start().await;
    let slow: [Ask; 2] = [("/", "slow", ""), ("/", "slow", GRPC)];
    let closed = json!({ "timeout": "0.3s", "failure_mode_deny": true });
    both.check(&filter("limits", closed), &everything(), &slow).await;
    both.check(&filter("limits", json!({ "timeout": "0.3s" })), &everything(), &slow[..1]).await;
    let asks: [Ask; 2] = [("/", "over", ""), ("/", "", "")];
    for fields in [json!({}), json!({ "failure_mode_deny": true })] {
        both.check(&filter("nobody", fields), &everything(), &asks).await;
    }
}

#[tokio::test]
async fn the_same_is_asked_of_routes() {
    let mut both = Both::start().await;
    let route = |path: &str, rates: Value, per: Value, includes: bool| {
        let mut route = json!({ "match": { "path": path }, "route": { "cluster": "up", "rate_limits": rates,
            "include_vh_rate_limits": includes } });
        if !per.is_null() {
            let mut said = json!({ "@type": PER_ROUTE });
            said.as_object_mut().unwrap().extend(per.as_object().unwrap().clone());
            route["typed_per_filter_config"] = json!({ NAME: said });
        }
        route
    };
    let own = || json!([literal("own", json!({}))]);
    let per = json!([
        literal("per", json!({ "hits_addend": { "number": 3 } })),
        literal("back", json!({ "hits_addend": { "number": 2, "is_negative_hits": true } })),
        literal("zero", json!({ "hits_addend": { "number": 0 } })),
        literal("cost", json!({ "hits_addend": { "format": "%REQ(x-cost)%" } })),
        literal("limit", json!({ "limit": { "rate_limit": { "requests_per_unit": 5, "unit": "HOUR" } } })),
        { "actions": [{ "request_headers": { "header_name": "x-none", "descriptor_key": "a", "skip_if_absent": true } }] },
    ]);
    let limit = json!([
        literal("own", json!({ "limit": { "rate_limit": { "requests_per_unit": 5, "unit": "MONTH" } } })),
        literal("late", json!({ "stage": 1 })),
    ]);
    let routes = json!([
        route("/none", json!([]), Value::Null, false),
        route("/own", own(), Value::Null, false),
        route("/both", own(), Value::Null, true),
        route("/include", own(), json!({ "vh_rate_limits": "INCLUDE" }), false),
        route("/ignore", json!([]), json!({ "vh_rate_limits": "IGNORE" }), false),
        route("/ignore-own", own(), json!({ "vh_rate_limits": "IGNORE" }), false),
        route("/ignore-both", own(), json!({ "vh_rate_limits": "IGNORE" }), true),
        route("/domain", json!([]), json!({ "domain": "other" }), false),
        route("/per", own(), json!({ "rate_limits": per, "vh_rate_limits": "INCLUDE" }), false),
        route("/limit", limit, Value::Null, false),
        { "match": { "path": "/direct" }, "direct_response": { "status": 200 } },
    ]);
    let host = host(routes, json!([literal("host", json!({}))]));
    let paths = [
        "/none",
        "/own",
        "/both",
        "/include",
        "/ignore",
        "/ignore-own",
        "/ignore-both",
        "/domain",
        "/per",
        "/limit",
        "/direct",
        "/nowhere",
    ];
    let mut asks: Vec<Ask> = paths.map(|path| (path, "", "")).to_vec();
    asks.push(("/per", "", "x-cost: 7\r\n"));
    both.check(&filter("limits", json!({})), &host, &asks).await;
    both.check(&filter("limits", json!({ "stage": 1 })), &host, &asks).await;
    let said = json!({ "rate_limits": [literal("filter", json!({}))] });
    both.check(&filter("limits", said), &host, &asks).await;
    for kind in ["internal", "external", "both"] {
        let asks: [Ask; 3] = [
            ("/own", "", ""),
            ("/own", "", "x-envoy-internal: true\r\n"),
            ("/own", "", "x-forwarded-for: 8.8.8.8\r\n"),
        ];
        both.check(&filter("limits", json!({ "request_type": kind })), &host, &asks).await;
    }
    for told in ["OFF", "DRAFT_VERSION_03"] {
        let said = json!({ "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "rate_limits": [
            { "actions": by_word()[0]["actions"], "x_ratelimit_option": told },
        ] });
        let asks: [Ask; 2] = [("/own", "one", ""), ("/own", "more", "")];
        both.check(&filter("limits", said), &host, &asks).await;
    }
}

/// `docs/equality-with-envoy.md` explains them.
pub const DIFFERENCES: [&str; 1] = ["Headers of a rate limit service that frame a message"];

#[tokio::test]
async fn headers_of_a_service_that_naru_leaves_out() {
    let both = Both::start().await;
    let files = Directory::new();
    let bootstrap = both.bootstrap(&filter("limits", json!({})), &everything(), &files.path("log"));
    let ask = async |address: SocketAddr| {
        let mut client = Wire::connect(address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\nx-do: frame\r\ncontent-length: 3\r\n\r\nabc").await;
        let got = client.response().await;
        (got.status(), got.status() == 200 && got.text().contains("abc"))
    };
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    // What it then sends has two lengths.
    assert_ne!(ask(envoy.address).await, (200, true));
    let naru = Naru::start(&bootstrap);
    assert_eq!(ask(naru.address).await, (200, true));
    naru.settles().await;
}
