//! The admin interface of the built program: each page, and what its numbers are after requests that
//! are known.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use naru_tests::bootstrap::TO_UP;
use naru_tests::client::{self, request};
use naru_tests::wire::{End, WireListener, refusing_address};
use naru_tests::{Answer, Bootstrap, Client, Outbound, Program, Speaks, Upstream, Wire, until};

const ROUTES: &str = r#"
- match: { path: /gone }
  route: { cluster: gone }
- match: { prefix: /known }
  direct_response: { status: 418 }
- match: { prefix: /chunks }
  route: { cluster: up }
- match: { prefix: /status }
  route: { cluster: up }
"#;

async fn program(up: &Upstream, workers: &str) -> Program {
    let bootstrap = Bootstrap::new(ROUTES).cluster("up", up.address, "");
    let bootstrap = bootstrap.cluster("gone", refusing_address(), "").admin();
    Program::start(&bootstrap, &["--workers", workers]).await
}

async fn page(program: &Program, path: &str) -> Answer {
    client::get(program.admin.unwrap(), path).await
}

async fn ask(program: &Program, method: Method, path: &str) -> Answer {
    let mut client = Client::plain(program.admin.unwrap(), Speaks::Http1).await;
    client.exchange(request(method, path, Outbound::empty())).await
}

/// A sample of the Prometheus text format, version 0.0.4: its name with its labels, and its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a page strictly: every line is a comment of a known form or a sample of a family that has
/// been declared, and no sample stands twice.
fn samples(text: &str) -> Vec<Sample> {
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut all: Vec<Sample> = Vec::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name) && !words.is_empty(), "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(families.insert(name, kind), None, "declared twice: {line}");
            continue;
        }
        let (name, labels, value) = sample(line);
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_histogram = family.is_some_and(|family| families.get(family) == Some(&"histogram"));
        assert!(is_histogram || families.contains_key(name.as_str()), "not declared: {line}");
        assert!(!all.iter().any(|(n, l, _)| *n == name && *l == labels), "twice: {line}");
        all.push((name, labels, value));
    }
    all
}

fn sample(line: &str) -> Sample {
    let (left, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(value >= 0.0, "{line}");
    let Some((name, labels)) = left.split_once('{') else {
        assert!(is_name(left), "{line}");
        return (left.to_owned(), BTreeMap::new(), value);
    };
    assert!(is_name(name), "{line}");
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut found = BTreeMap::new();
    // No value here has a quote or a comma of its own.
    for label in labels.split(',') {
        let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = value.unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(key) && !value.contains('"'), "{line}");
        assert_eq!(found.insert(key.to_owned(), value.to_owned()), None, "{line}");
    }
    (name.to_owned(), found, value)
}

fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// The sum of what has this name and all of these labels.
fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |found: &BTreeMap<String, String>| {
        labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
    };
    samples.iter().filter(|(n, l, _)| n == name && fits(l)).map(|(_, _, value)| value).sum()
}

#[tokio::test]
async fn each_page_answers_as_envoys_does() {
    let up = Upstream::plain(Speaks::Http1).await;
    let program = program(&up, "2").await;
    let ready = page(&program, "/ready").await;
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (200, "LIVE\n"));
    let info = page(&program, "/server_info").await.json();
    assert_eq!((&info["state"], &info["command_line_options"]["concurrency"]), (&"LIVE".into(), &2.into()));
    let dump = page(&program, "/config_dump").await;
    assert_eq!(dump.header("content-type"), Some("application/json"));
    assert!(!dump.json()["configs"].as_array().unwrap().is_empty());
    assert!(dump.text().contains(&up.address.port().to_string()));
    let listeners = page(&program, "/listeners").await.text();
    assert_eq!(listeners, format!("main::{}\n", program.address));
    for path in ["/", "/stats", "/stats?format=json", "/clusters?format=json", "/listeners?format=json"] {
        let answer = page(&program, path).await;
        assert_eq!(answer.status, 200, "{path}");
        if path.contains("json") {
            assert!(answer.json().is_object(), "{path}");
        }
    }
    for path in ["/nonsense", "/ready/", "/stats/nonsense"] {
        assert_eq!(page(&program, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(page(&program, "/stats?filter=(").await.status, StatusCode::BAD_REQUEST);
    for path in ["/ready", "/stats", "/config_dump"] {
        assert_eq!(ask(&program, Method::POST, path).await.status, StatusCode::METHOD_NOT_ALLOWED);
        let head = ask(&program, Method::HEAD, path).await;
        assert_eq!((head.status.as_u16(), head.text().as_str()), (200, ""));
    }
}

#[tokio::test]
async fn the_counts_of_all_workers_are_what_was_asked() {
    let up = Upstream::plain(Speaks::Http1).await;
    let program = program(&up, "2").await;
    // Each on a connection of its own: both workers have some.
    for (path, count) in [("/chunks/10", 16), ("/status/503", 3), ("/known", 4), ("/none", 2), ("/gone", 5)] {
        for _ in 0..count {
            client::get(program.address, path).await;
        }
    }
    let all = until("all requests to be counted", async || {
        let answer = page(&program, "/metrics").await;
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let all = samples(&answer.text());
        (sum(&all, "istio_requests_total", &[]) == 30.0).then_some(all)
    })
    .await;
    for (service, code, flags, reason, count) in [
        ("up", "200", "-", "Forwarded", 16.0),
        ("up", "503", "-", "Forwarded", 3.0),
        ("unknown", "418", "-", "DirectResponse", 4.0),
        ("unknown", "404", "NR", "NoRoute", 2.0),
        ("gone", "503", "UF", "ConnectFailure", 5.0),
    ] {
        let labels = [
            ("reporter", "source"),
            ("destination_service_name", service),
            ("request_protocol", "http"),
            ("response_code", code),
            ("response_flags", flags),
            ("reason", reason),
            ("connection_security_policy", "none"),
        ];
        assert_eq!(sum(&all, "istio_requests_total", &labels), count, "{labels:?}");
        for histogram in
            ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"]
        {
            assert_eq!(sum(&all, &format!("{histogram}_count"), &labels), count, "{histogram} {labels:?}");
            let everything = [&labels[..], &[("le", "+Inf")]].concat();
            assert_eq!(sum(&all, &format!("{histogram}_bucket"), &everything), count);
        }
    }
    let forwarded = [("destination_service_name", "up"), ("response_code", "200")];
    assert_eq!(sum(&all, "istio_response_bytes_sum", &forwarded), 160.0);
    assert_eq!(sum(&all, "envoy_http_downstream_rq_total", &[]), 30.0);
    assert_eq!(sum(&all, "envoy_cluster_upstream_rq_total", &[("envoy_cluster_name", "up")]), 19.0);

    let stats = page(&program, "/stats").await.text();
    for line in ["http.test.downstream_rq_2xx: 16", "http.test.no_route: 2", "cluster.up.upstream_rq_503: 3"]
    {
        assert!(stats.lines().any(|known| known == line), "{line} is not in {stats}");
    }
    let filtered = page(&program, "/stats?filter=no_route").await.text();
    assert_eq!(filtered, "http.test.no_route: 2\n");
    let clusters = page(&program, "/clusters").await.text();
    let line = format!("up::{}::rq_total::19", up.address);
    assert!(clusters.lines().any(|known| known == line), "{line} is not in {clusters}");
}

#[tokio::test]
async fn every_page_that_is_listed_is_there() {
    let up = Upstream::plain(Speaks::Http1).await;
    let program = program(&up, "1").await;
    let listed = page(&program, "/").await.text();
    assert!(listed.contains("/stats "), "{listed}");
    for line in listed.lines() {
        let (path, _) = line.split_once(' ').unwrap();
        assert_ne!(page(&program, path).await.status, 404, "{line}");
    }
    assert!(!listed.contains("/explain "), "nobody knows documents here: {listed}");
}

#[tokio::test]
async fn quitquitquit_ends_the_process_but_only_by_post() {
    let up = WireListener::bind().await;
    let mut program = Program::start(&Bootstrap::new(TO_UP).cluster("up", up.address, "").admin(), &[]).await;
    let refused = page(&program, "/quitquitquit").await;
    assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, Some("POST")));
    let mut client = Wire::connect(program.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    assert!(!program.has_ended());
    let answer = ask(&program, Method::POST, "/quitquitquit").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "OK\n"));
    // What has begun is finished first.
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(client.ends().await, End::Closed);
    assert_eq!(program.ends().await.status.code(), Some(0));
}
