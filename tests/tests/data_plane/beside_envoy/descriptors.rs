//! Local rate limits by what requests are called: the same requests on both, and what is refused, told and passed on.

use std::net::SocketAddr;

use naru_tests::upstream::headers;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};
use serde_json::{Value, json};

const LOCAL: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const NAME: &str = "envoy.filters.http.local_ratelimit";

/// A path and its headers.
type Ask = (&'static str, &'static [(&'static str, &'static str)]);

struct Case {
    what: &'static str,
    filter: Value,
    host: Value,
    asks: Vec<Ask>,
    /// All come by one connection.
    by_one: bool,
}

/// A filter that acts, with these fields.
fn settings(fields: Value) -> Value {
    let mut all = json!({
        "@type": LOCAL,
        "stat_prefix": "s",
        "filter_enabled": { "default_value": { "numerator": 100 } },
        "filter_enforced": { "default_value": { "numerator": 100 } },
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    all
}

/// Of which none comes again while a test lasts.
fn bucket(tokens_max: u32, per_fill: u32) -> Value {
    json!({ "max_tokens": tokens_max, "tokens_per_fill": per_fill, "fill_interval": "86400s" })
}

fn descriptor(entries: &[(&str, &str)], bucket: Value) -> Value {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| match *value {
            "" => json!({ "key": key }),
            value => json!({ "key": key, "value": value }),
        })
        .collect();
    json!({ "entries": entries, "token_bucket": bucket })
}

fn shadow(mut descriptor: Value) -> Value {
    descriptor["shadow_mode"] = json!(true);
    descriptor
}

/// One rate of one action that names a header.
fn by_header(name: &str, key: &str) -> Value {
    json!({ "actions": [{ "request_headers": { "header_name": name, "descriptor_key": key } }] })
}

fn literal(value: &str) -> Value {
    json!({ "actions": [{ "generic_key": { "descriptor_value": value } }] })
}

fn a_and_b() -> Value {
    json!([by_header("x-a", "a"), by_header("x-b", "b")])
}

fn route(path: &str, fields: Value) -> Value {
    let mut route = json!({ "match": { "path": path }, "route": { "cluster": "up" } });
    route.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    route
}

/// A virtual host that sends everything on.
fn plain() -> Value {
    host(json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]), json!({}))
}

fn host(routes: Value, fields: Value) -> Value {
    let mut host = json!({ "name": "v", "domains": ["*"], "routes": routes });
    host.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    host
}

fn bootstrap(case: &Case, up: SocketAddr) -> Bootstrap {
    let filter = json!({ "name": NAME, "typed_config": case.filter });
    Bootstrap::with_virtual_hosts(&format!("- {}\n", case.host))
        .top("node: { id: here, cluster: mine }")
        .manager("use_remote_address: true")
        .filter(&format!("- {filter}"))
        .cluster("up", up, "")
        .cluster("other", up, "")
}

async fn play(address: SocketAddr, case: &Case) -> Vec<String> {
    let mut seen = Vec::new();
    let mut kept = None;
    for (path, own) in &case.asks {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Wire::connect(address).await,
        };
        let own: String = own.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{own}\r\n")).await;
        let got = client.response().await;
        let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "retry-after", "x-why", "content-type"];
        let said: Vec<_> = names.iter().map(|name| got.head.get(name)).collect();
        let reset = got.head.get("x-ratelimit-reset").map(|text| {
            // Whole hundreds of seconds: the test itself takes some.
            (text.parse::<u64>().unwrap() + 60) / 100
        });
        let told = match serde_json::from_slice::<Value>(&got.body) {
            Ok(echo) => format!("{:?}", ["x-unenforced", "x-a"].map(|name| headers(&echo, name))),
            Err(_) => got.text(),
        };
        seen.push(format!("{path} {own:?}: {} {said:?} {reset:?} {told}", got.status()));
        if case.by_one {
            kept = Some(client);
        }
    }
    seen
}

async fn check(cases: Vec<Case>) {
    let up = Upstream::plain(Speaks::Http1).await;
    for case in cases {
        let bootstrap = bootstrap(&case, up.address);
        let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
        let by_envoy = play(envoy.address, &case).await;
        let naru = Naru::start(&bootstrap);
        let by_naru = play(naru.address, &case).await;
        let differ: Vec<_> = by_envoy.iter().zip(&by_naru).filter(|(envoy, naru)| envoy != naru).collect();
        assert!(differ.is_empty(), "{}: {differ:#?}", case.what);
        assert_eq!((by_envoy.len(), by_naru.len()), (case.asks.len(), case.asks.len()), "{}", case.what);
        naru.settles().await;
    }
}

const A: Ask = ("/", &[("x-a", "1")]);
const B: Ask = ("/", &[("x-b", "1")]);
const BOTH: Ask = ("/", &[("x-a", "1"), ("x-b", "1")]);
const NONE: Ask = ("/", &[]);

#[tokio::test]
async fn buckets_are_asked_in_the_same_order() {
    let case = |what, filter, asks: &[Ask]| Case {
        what,
        filter: settings(filter),
        host: plain(),
        asks: asks.to_vec(),
        by_one: false,
    };
    let filter = json!({ "token_bucket": bucket(5, 30), "rate_limits": a_and_b(), "descriptors": [
        descriptor(&[("a", "1")], bucket(9, 9)), descriptor(&[("b", "1")], bucket(2, 1)),
    ] });
    check(vec![
        case("the slowest first", filter, &[BOTH, BOTH, BOTH, A, B, NONE, A, A, NONE, NONE]),
        case(
            "shadow",
            json!({ "token_bucket": bucket(9, 1), "rate_limits": a_and_b(), "descriptors": [
                shadow(descriptor(&[("a", "1")], bucket(1, 2))), descriptor(&[("b", "1")], bucket(2, 3)),
            ] }),
            &[BOTH, BOTH, BOTH, A, B, NONE],
        ),
        case(
            "only shadow, and then the bucket for all",
            json!({ "token_bucket": bucket(2, 1), "rate_limits": a_and_b(), "descriptors": [
                shadow(descriptor(&[("a", "1")], bucket(1, 2))), shadow(descriptor(&[("b", "1")], bucket(1, 3))),
            ] }),
            &[BOTH, BOTH, BOTH, NONE],
        ),
        case(
            "no bucket for all",
            json!({ "rate_limits": a_and_b(), "descriptors": [descriptor(&[("a", "1")], bucket(1, 1))] }),
            &[A, A, NONE, B],
        ),
        case(
            "the bucket for all only for the others",
            json!({ "token_bucket": bucket(1, 1), "always_consume_default_token_bucket": false,
                "rate_limits": a_and_b(), "descriptors": [descriptor(&[("a", "1")], bucket(3, 1))],
                "enable_retry_after_header": true }),
            &[A, A, A, A, NONE, NONE],
        ),
        case(
            "open values",
            json!({ "token_bucket": bucket(50, 1), "max_dynamic_descriptors": 2, "rate_limits": a_and_b(),
                "descriptors": [descriptor(&[("a", "")], bucket(1, 1)), descriptor(&[("a", "z")], bucket(2, 1))] }),
            &[
                A,
                A,
                ("/", &[("x-a", "2")]),
                A,
                ("/", &[("x-a", "3")]),
                ("/", &[("x-a", "2")]),
                A,
                ("/", &[("x-a", "z")]),
                ("/", &[("x-a", "z")]),
                ("/", &[("x-a", "z")]),
                ("/", &[("x-a", "3")]),
            ],
        ),
        case(
            "hits",
            json!({ "token_bucket": bucket(50, 1),
                "descriptors": [descriptor(&[("a", "1")], bucket(5, 1)), descriptor(&[("c", "1")], bucket(9, 1))],
                "rate_limits": [
                    { "actions": by_header("x-a", "a")["actions"], "hits_addend": { "number": 2 } },
                    { "actions": by_header("x-none", "a")["actions"], "hits_addend": { "number": 0 } },
                    { "actions": by_header("x-back", "a")["actions"],
                      "hits_addend": { "number": 1, "is_negative_hits": true } },
                    { "actions": by_header("x-c", "c")["actions"], "hits_addend": { "format": "%REQ(x-cost)%" } },
                ] }),
            &[
                A,
                A,
                A,
                ("/", &[("x-back", "1")]),
                A,
                ("/", &[("x-none", "1")]),
                ("/", &[("x-back", "1")]),
                ("/", &[("x-c", "1"), ("x-cost", "4.5")]),
                ("/", &[("x-c", "1"), ("x-cost", "6")]),
                ("/", &[("x-c", "1"), ("x-cost", "none")]),
                ("/", &[("x-c", "1")]),
                NONE,
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_said_of_it_is_the_same() {
    let case = |what, filter, asks: &[Ask]| Case {
        what,
        filter: settings(filter),
        host: plain(),
        asks: asks.to_vec(),
        by_one: false,
    };
    let not_enforced = json!({ "default_value": { "numerator": 0 } });
    check(vec![
        case(
            "descriptors that are told, and not",
            json!({ "enable_x_ratelimit_headers": "OFF", "token_bucket": bucket(5, 9),
                "descriptors": [descriptor(&[("a", "1")], bucket(2, 1)), descriptor(&[("b", "1")], bucket(3, 2))],
                "rate_limits": [
                    { "actions": by_header("x-a", "a")["actions"], "x_ratelimit_option": "DRAFT_VERSION_03" },
                    by_header("x-b", "b"),
                ] }),
            &[BOTH, B, A, BOTH, NONE],
        ),
        case(
            "descriptors that are not told",
            json!({ "token_bucket": bucket(5, 9), "descriptors": [descriptor(&[("a", "1")], bucket(2, 1))],
                "rate_limits": [{ "actions": by_header("x-a", "a")["actions"], "x_ratelimit_option": "OFF" }] }),
            &[A, A, A, NONE],
        ),
        case(
            "headers of those who are not refused",
            json!({ "token_bucket": bucket(1, 1), "filter_enforced": not_enforced,
                "request_headers_to_add_when_not_enforced": [
                    { "header": { "key": "x-unenforced", "value": "%REQ(x-b)% of %REQ(:method)% %PROTOCOL%" } },
                    { "header": { "key": "x-a", "value": "new" } },
                    { "header": { "key": "x-b", "value": "new" }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" },
                ] }),
            &[BOTH, BOTH, A, NONE],
        ),
        case(
            "headers of a refusal",
            json!({ "token_bucket": bucket(1, 1), "enable_retry_after_header": true, "response_headers_to_add": [
                { "header": { "key": "x-why", "value": "%REQ(x-a)%" } },
                { "header": { "key": "retry-after", "value": "7" } },
            ] }),
            &[A, A, NONE],
        ),
        case(
            "a status that is no 429",
            json!({ "token_bucket": bucket(1, 1), "enable_retry_after_header": true, "status": { "code": 503 } }),
            &[NONE, NONE],
        ),
    ])
    .await;
}

#[tokio::test]
async fn requests_are_called_the_same() {
    let matches = |kind: &str, fields: Value| json!({ "actions": [{ kind: fields }] });
    let headers_match = |fields: Value| matches("header_value_match", fields);
    let query_match = |fields: Value| matches("query_parameter_value_match", fields);
    let networks = json!({ "ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] });
    // Each has a bucket of another size, by which it is known.
    let rates = [
        (
            headers_match(json!({ "descriptor_value": "v", "headers": [
            { "name": "x-a", "string_match": { "exact": "1" } },
            { "name": ":path", "string_match": { "prefix": "/p" } },
        ] })),
            "header_match",
            "v",
        ),
        (
            headers_match(
                json!({ "descriptor_value": "v", "descriptor_key": "absent", "expect_match": false,
            "headers": [{ "name": "x-b", "present_match": true }] }),
            ),
            "absent",
            "v",
        ),
        (
            headers_match(json!({ "descriptor_value": "v", "descriptor_key": "not", "headers": [
            { "name": ":method", "string_match": { "exact": "POST" }, "invert_match": true },
            { "name": "x-n", "range_match": { "start": 3, "end": 9 } },
        ] })),
            "not",
            "v",
        ),
        (
            headers_match(json!({ "descriptor_value": "v", "descriptor_key": "no 1", "headers": [
            { "name": "x-a", "string_match": { "exact": "1" }, "invert_match": true },
        ] })),
            "no 1",
            "v",
        ),
        (
            query_match(json!({ "descriptor_value": "v", "query_parameters": [
            { "name": "q", "string_match": { "exact": "a b" } },
        ] })),
            "query_match",
            "v",
        ),
        (
            query_match(json!({ "descriptor_value": "v", "descriptor_key": "no q", "expect_match": false,
            "query_parameters": [{ "name": "q", "present_match": true }] })),
            "no q",
            "v",
        ),
        (matches("query_parameters", json!({ "query_parameter_name": "p", "descriptor_key": "p" })), "p", ""),
        (matches("remote_address", json!({})), "remote_address", "127.0.0.1"),
        (
            matches("masked_remote_address", json!({ "v4_prefix_mask_len": 8 })),
            "masked_remote_address",
            "127.0.0.0/8",
        ),
        (
            matches(
                "remote_address_match",
                json!({ "descriptor_value": "m%REQ(x-a)%", "address_matcher": networks }),
            ),
            "remote_address_match",
            "m1",
        ),
        (
            matches(
                "remote_address_match",
                json!({ "descriptor_value": "%REQ(x-a)%", "default_value": "d",
            "descriptor_key": "else", "address_matcher": networks }),
            ),
            "else",
            "d",
        ),
        (
            matches(
                "remote_address_match",
                json!({ "descriptor_value": "m", "descriptor_key": "out",
            "address_matcher": { "ranges": networks["ranges"], "invert_match": true } }),
            ),
            "out",
            "m",
        ),
        (by_header(":path", "path"), "path", "/q"),
        (by_header(":authority", "host"), "host", "a"),
        (by_header("x-a", "a"), "a", ""),
        (matches("destination_cluster", json!({})), "destination_cluster", "up"),
        (matches("source_cluster", json!({})), "source_cluster", "mine"),
        (
            matches(
                "metadata",
                json!({ "descriptor_key": "m", "default_value": "d",
            "metadata_key": { "key": "envoy.filters.http.jwt_authn", "path": [{ "key": "x" }] } }),
            ),
            "m",
            "d",
        ),
        (
            matches(
                "metadata",
                json!({ "descriptor_key": "m",
            "metadata_key": { "key": "envoy.filters.http.jwt_authn", "path": [{ "key": "x" }] } }),
            ),
            "m",
            "",
        ),
        (
            json!({ "actions": [by_header("x-a", "a")["actions"][0],
            { "request_headers": { "header_name": "x-b", "descriptor_key": "b", "skip_if_absent": true } }] }),
            "a",
            "1",
        ),
    ];
    let asks: Vec<Ask> = vec![
        ("/p?q=a%20b&p=a%20b&p=2", &[("x-a", "1"), ("x-n", "3")]),
        ("/p?q=2&p", &[("x-a", "1"), ("x-b", ""), ("x-n", "9")]),
        ("/q?x=&p=%zz", &[("x-a", ""), ("x-b", "1"), ("x-n", "x")]),
        ("/q", &[("x-n", "8")]),
        ("/p?q=a+b", &[("x-a", "2"), ("x-a", "1")]),
    ];
    let case = |(rate, key, value): (Value, &str, &str), host: Value| Case {
        what: "called",
        filter: settings(json!({
            "token_bucket": bucket(99, 99), "always_consume_default_token_bucket": false,
            "descriptors": [descriptor(&[(key, value)], bucket(20, 1))], "rate_limits": [rate],
        })),
        host,
        asks: asks.clone(),
        by_one: false,
    };
    let up = Upstream::plain(Speaks::Http1).await;
    for (rate, key, value) in rates {
        let case = case((rate.clone(), key, value), plain());
        let bootstrap = bootstrap(&case, up.address);
        let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
        let naru = Naru::start(&bootstrap);
        let (by_envoy, by_naru) = (play(envoy.address, &case).await, play(naru.address, &case).await);
        assert_eq!(by_naru, by_envoy, "{rate}");
        assert!(
            by_envoy.iter().any(|seen| seen.contains("Some(\"20\")")) || value.is_empty() || key == "out",
            "{rate}"
        );
    }
}

#[tokio::test]
async fn routes_and_hosts_say_the_same() {
    let own = |fields: Value| json!({ "typed_per_filter_config": { NAME: settings(fields) } });
    let rates = |own: &str, include: bool| json!({ "route": { "cluster": "up", "rate_limits": [literal(own)], "include_vh_rate_limits": include } });
    let weighted = json!({ "weighted_clusters": { "clusters": [
        { "name": "up", "weight": 0 }, { "name": "other", "weight": 1 },
    ] } });
    let direct = json!({ "match": { "path": "/direct" }, "direct_response": { "status": 200 } });
    let all = |option: &str| {
        settings(json!({ "token_bucket": bucket(90, 90), "vh_rate_limits": option, "descriptors": [
            descriptor(&[("generic_key", "host")], bucket(20, 1)),
            descriptor(&[("generic_key", "own")], bucket(30, 2)),
            descriptor(&[("generic_key", "late")], bucket(40, 3)),
        ] }))
    };
    let routes = json!([
        route("/none", json!({})),
        route("/own", rates("own", false)),
        route("/both", rates("own", true)),
        route(
            "/late",
            json!({ "route": { "cluster": "up", "rate_limits": [
            { "actions": literal("late")["actions"], "stage": 1 },
        ] } })
        ),
        direct,
    ]);
    let by_rates = |option: &str| Case {
        what: "options of the virtual host",
        filter: all(option),
        host: host(routes.clone(), json!({ "rate_limits": [literal("host")] })),
        asks: ["/none", "/own", "/both", "/late", "/direct", "/nowhere"].map(|path| (path, NONE.1)).to_vec(),
        by_one: false,
    };
    let limited = settings(json!({ "token_bucket": bucket(3, 1) }));
    let mut of_stage = by_rates("OVERRIDE");
    of_stage.filter["stage"] = json!(1);
    check(vec![
        by_rates("OVERRIDE"),
        by_rates("INCLUDE"),
        by_rates("IGNORE"),
        of_stage,
        Case {
            what: "a bucket of a virtual host, and one of a route",
            filter: settings(json!({ "token_bucket": bucket(2, 1) })),
            host: host(
                json!([
                    route("/a", json!({})),
                    route("/b", json!({})),
                    route("/c", own(json!({ "token_bucket": bucket(1, 1) }))),
                ]),
                json!({ "typed_per_filter_config": { NAME: limited } }),
            ),
            asks: ["/a", "/b", "/c", "/c", "/a", "/b", "/nowhere"].map(|path| (path, NONE.1)).to_vec(),
            by_one: false,
        },
        Case {
            what: "where it goes",
            filter: settings(json!({ "token_bucket": bucket(90, 90), "rate_limits": [
                { "actions": [{ "destination_cluster": {} }] },
            ], "descriptors": [
                descriptor(&[("destination_cluster", "other")], bucket(20, 1)),
                descriptor(&[("destination_cluster", "gone")], bucket(30, 1)),
            ] })),
            host: host(
                json!([
                    route("/weighted", json!({ "route": weighted })),
                    route("/up", json!({})),
                    { "match": { "path": "/direct" }, "direct_response": { "status": 200 } },
                ]),
                json!({}),
            ),
            asks: ["/weighted", "/up", "/direct", "/nowhere"].map(|path| (path, NONE.1)).to_vec(),
            by_one: false,
        },
        Case {
            what: "buckets of each connection",
            filter: settings(json!({ "token_bucket": bucket(50, 50), "rate_limits": a_and_b(),
                "local_rate_limit_per_downstream_connection": true,
                "descriptors": [descriptor(&[("a", "")], bucket(1, 1)), descriptor(&[("b", "1")], bucket(2, 1))] })),
            host: plain(),
            asks: vec![A, A, ("/", &[("x-a", "2")]), B, B, B, NONE],
            by_one: true,
        },
        Case {
            what: "each connection begins anew",
            filter: settings(json!({ "token_bucket": bucket(1, 1),
                "local_rate_limit_per_downstream_connection": true })),
            host: plain(),
            asks: vec![NONE, NONE],
            by_one: false,
        },
    ])
    .await;
}

/// `docs/equality-with-envoy.md` explains them.
pub const DIFFERENCES: [&str; 1] = ["Buckets of a connection"];

#[tokio::test]
async fn buckets_of_a_connection_that_naru_tells_apart() {
    let own = |tokens| {
        let fields =
            json!({ "token_bucket": bucket(tokens, 1), "local_rate_limit_per_downstream_connection": true });
        json!({ "typed_per_filter_config": { NAME: settings(fields) } })
    };
    let case = Case {
        what: "routes",
        filter: settings(json!({ "token_bucket": bucket(9, 1) })),
        host: host(json!([route("/a", own(2)), route("/b", own(3))]), json!({})),
        asks: ["/a", "/b", "/b", "/b", "/a"].map(|path| (path, NONE.1)).to_vec(),
        by_one: true,
    };
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = bootstrap(&case, up.address);
    let refused =
        |seen: Vec<String>| -> Vec<bool> { seen.iter().map(|seen| seen.contains(": 429 ")).collect() };
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    // Whichever comes first is for all of the connection.
    assert_eq!(refused(play(envoy.address, &case).await), [false, false, true, true, true]);
    let naru = Naru::start(&bootstrap);
    assert_eq!(refused(play(naru.address, &case).await), [false; 5]);
    naru.settles().await;
}
