//! The built program: how it starts, how it ends, and what it says of both.

use std::process::{Command, Output, Stdio};

use naru_tests::bootstrap::TO_UP;
use naru_tests::files::Directory;
use naru_tests::program::{self, program, run};
use naru_tests::wire::{End, WireListener, refusing_address};
use naru_tests::{Authority, Bootstrap, Program, Speaks, Upstream, Wire, until};
use rustix::process::Signal;

const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/simulation/scenario.yaml");

/// Runs the program with these words, which it answers by itself.
fn naru(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It does not start with this file, with exit code 1, and says all of these words.
async fn refuses(text: &str, words: &[&str]) {
    for arguments in [&[][..], &["--check"][..]] {
        let exit = run(text, arguments).await;
        assert_eq!(exit.status.code(), Some(1), "{arguments:?} {}", exit.stderr);
        assert_eq!(exit.stdout, "");
        for word in words {
            assert!(exit.stderr.contains(word), "{word:?} is not said: {}", exit.stderr);
        }
        assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    }
}

/// `file:line:column` of the only place in `text` where `word` stands.
fn place(text: &str, word: &str) -> String {
    let found: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.contains(word)).collect();
    let [(line, content)] = found[..] else { panic!("{word:?} stands {} times in {text}", found.len()) };
    format!("bootstrap.yaml:{}:{}", line + 1, content.find(word).unwrap() + 1)
}

async fn until_refused(address: std::net::SocketAddr) {
    until("new connections to be refused", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_a_request_finish_and_takes_no_more() {
    for signal in [Signal::TERM, Signal::INT] {
        let up = WireListener::bind().await;
        let mut program = Program::start(&Bootstrap::to(up.address), &[]).await;
        let mut client = Wire::connect(program.address).await;
        client.send(GET).await;
        let mut upstream = up.accept().await;
        upstream.request().await;
        program.signal(signal);
        until_refused(program.address).await;
        assert!(!program.has_ended());
        upstream.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        assert_eq!(client.ends().await, End::Closed);
        let exit = program.ends().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        assert!(exit.stderr.contains("naru: draining"), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn sigterm_ends_an_idle_process_and_its_idle_clients() {
    let up = Upstream::plain(Speaks::Http1).await;
    let program = Program::start(&Bootstrap::to(up.address), &[]).await;
    let mut client = Wire::connect(program.address).await;
    client.send("GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "xx");
    program.signal(Signal::TERM);
    assert_eq!(client.ends().await, End::Closed);
    assert_eq!(program.ends().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let up = WireListener::bind().await;
    let program = Program::start(&Bootstrap::to(up.address), &[]).await;
    let mut client = Wire::connect(program.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    program.signal(Signal::TERM);
    until_refused(program.address).await;
    program.signal(Signal::TERM);
    let exit = program.ends().await;
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.stderr.contains("ended before all requests were finished"), "{}", exit.stderr);
    // Nobody was answered.
    assert_eq!(client.end().await.0, b"");
}

#[tokio::test]
async fn the_drain_time_ends_what_does_not_finish() {
    let up = WireListener::bind().await;
    let program = Program::start(&Bootstrap::to(up.address), &["--drain-time", "1"]).await;
    let mut client = Wire::connect(program.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    program.signal(Signal::TERM);
    let exit = program.ends().await;
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.stderr.contains("the drain time is over"), "{}", exit.stderr);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let foreign = WireListener::bind().await;
    let up = refusing_address();
    let naru = Program::start(&Bootstrap::to(up), &[]).await;
    for address in [foreign.address, naru.address] {
        let exit = run(&Bootstrap::to(up).listen_on(address).text(), &[]).await;
        assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
        assert!(exit.stderr.contains(&address.to_string()), "{}", exit.stderr);
        assert!(exit.stderr.contains("in use"), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn an_admin_address_in_use_is_named() {
    let foreign = WireListener::bind().await;
    let port = format!("port_value: {} }} }}\nstatic", foreign.address.port());
    let text = Bootstrap::to(refusing_address()).admin().text();
    let text = text.replacen("port_value: 0 } }\nstatic", &port, 1);
    let exit = run(&text, &[]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(&foreign.address.to_string()), "{}", exit.stderr);
}

#[tokio::test]
async fn an_unknown_field_is_refused_where_it_stands() {
    let text = Bootstrap::to(refusing_address()).manager("nonsense: 3").text();
    refuses(&text, &["nonsense", "unknown-field", &place(&text, "nonsense")]).await;
}

#[tokio::test]
async fn an_unknown_extension_is_refused_where_it_stands() {
    let name = "envoy.extensions.filters.http.nonsense.v3.Nonsense";
    let text = Bootstrap::to(refusing_address()).text();
    let text = text.replace("envoy.extensions.filters.http.router.v3.Router", name);
    let line = place(&text, name).rsplit_once(':').unwrap().0.to_owned();
    refuses(&text, &[name, &format!("{line}:")]).await;
}

#[tokio::test]
async fn a_route_to_a_missing_cluster_is_refused_where_it_stands() {
    let text = Bootstrap::new("- match: { prefix: / }\n  route: { cluster: nowhere }\n").text();
    let line = place(&text, "cluster: nowhere").rsplit_once(':').unwrap().0.to_owned();
    refuses(&text, &["nowhere", &format!("{line}:")]).await;
}

#[tokio::test]
async fn every_problem_is_said_at_once() {
    let routes = "- match: { prefix: / }\n  route: { cluster: up, wrong: 1 }\n";
    let bootstrap = Bootstrap::new(routes).cluster("up", refusing_address(), "twisted: 2\n");
    let text = bootstrap.manager("nonsense: 3").text();
    refuses(&text, &[&place(&text, "nonsense"), &place(&text, "twisted"), &place(&text, "wrong")]).await;
}

#[tokio::test]
async fn problems_are_said_as_json_to_who_asks() {
    let text = Bootstrap::to(refusing_address()).manager("nonsense: 3").text();
    let exit = run(&text, &["--check", "--output", "json"]).await;
    assert_eq!((exit.status.code(), exit.stderr.as_str()), (Some(1), ""));
    let problems: serde_json::Value = serde_json::from_str(&exit.stdout).unwrap();
    let problem = &problems[0];
    assert_eq!((&problem["code"], &problem["severity"]), (&"unknown-field".into(), &"error".into()));
    let file = problem["file"].as_str().unwrap();
    let told = format!("{file}:{}:{}", problem["line"], problem["column"]);
    assert!(told.ends_with(&place(&text, "nonsense")), "{problem}");
}

#[tokio::test]
async fn a_file_that_is_no_yaml_is_refused_where_it_breaks() {
    refuses("static_resources:\n  listeners: [\n", &["bootstrap.yaml:2:14"]).await;
    refuses("static_resources:\n\tlisteners: []\n", &["bootstrap.yaml:2:"]).await;
    refuses("- a\n- list\n", &["bootstrap.yaml"]).await;
}

#[test]
fn a_missing_file_is_named() {
    let directory = Directory::new();
    let missing = directory.path("missing.yaml");
    let missing = missing.to_str().unwrap();
    for arguments in [&["proxy", "--config", missing][..], &["simulate", missing]] {
        let output = naru(arguments);
        assert_eq!((output.status.code(), said(&output.stdout).as_str()), (Some(1), ""));
        assert!(said(&output.stderr).contains(missing), "{output:?}");
    }
}

#[tokio::test]
async fn a_bad_certificate_is_refused() {
    let bootstrap = Bootstrap::to(refusing_address()).tls(&Authority::new(), &[]);
    let text = bootstrap.text();
    let at = text.find("certificate_chain: ").unwrap();
    let end = at + text[at..].find('\n').unwrap();
    let bad = format!("{}certificate_chain: {{ inline_string: nonsense }}{}", &text[..at], &text[end..]);
    refuses(&bad, &["TLS of listener 'main'", "transport_socket", "given inline holds no certificate"]).await;
}

#[tokio::test]
async fn a_certificate_file_that_is_missing_is_named() {
    let directory = Directory::new();
    let missing = directory.path("missing.pem");
    let bootstrap = Bootstrap::to(refusing_address()).tls(&Authority::new(), &[]);
    let text = bootstrap.text();
    let at = text.find("certificate_chain: ").unwrap();
    let end = at + text[at..].find('\n').unwrap();
    let bad = format!("{}certificate_chain: {{ filename: {missing:?} }}{}", &text[..at], &text[end..]);
    refuses(&bad, &["TLS of listener 'main'", "transport_socket", missing.to_str().unwrap()]).await;
}

#[test]
fn a_usage_error_ends_with_code_2() {
    for arguments in [
        &[][..],
        &["proxy"],
        &["nonsense"],
        &["proxy", "--config", "a", "--workers", "0"],
        &["proxy", "--config", "a", "--nonsense"],
        &["version", "--output", "xml"],
    ] {
        let output = naru(arguments);
        assert_eq!((output.status.code(), said(&output.stdout).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            said(&output.stderr).contains("'--help'") || said(&output.stderr).contains("Usage: naru"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_fine_is_said_to_be() {
    let directory = Directory::new();
    // Its address is in use, which is nothing that a check looks at.
    let foreign = WireListener::bind().await;
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", refusing_address(), "").listen_on(foreign.address);
    let file = directory.write("fine.yaml", &bootstrap.tls(&Authority::new(), &["h2"]).text());
    let file = file.to_str().unwrap();
    let output = naru(&["proxy", "--check", "--config", file]);
    assert_eq!((output.status.code(), said(&output.stderr).as_str()), (Some(0), ""));
    assert_eq!(said(&output.stdout), format!("{file}: fine\n"));
}

#[test]
fn a_simulation_says_the_same_bytes_each_time() {
    for output in ["text", "json"] {
        let [first, second] = [(); 2].map(|()| naru(&["simulate", SCENARIO, "--output", output]));
        assert_eq!(first.status.code(), Some(0), "{}", said(&first.stderr));
        assert!(!first.stdout.is_empty());
        assert!(first.stdout == second.stdout, "two runs differ");
    }
    let another = naru(&["simulate", SCENARIO, "--seed", "2"]);
    assert!(another.stdout != naru(&["simulate", SCENARIO]).stdout, "the seed changes nothing");
}

#[test]
fn a_simulation_whose_expectation_fails_says_so_and_fails() {
    let directory = Directory::new();
    let scenario = |bound: &str| {
        format!(
            "duration: 2s\nload:\n  - {{ name: c, arrivals: {{ constant: 50/s }}, requests: [{{ path: /, host: a }}] }}\n\
             services:\n  - {{ name: a, connect: 0s, latency: 3ms, calls: [{{ host: b }}] }}\n  - {{ name: b, connect: 0s, latency: 4ms }}\n\
             expect: [{{ measure: p99, at_most: {bound} }}]\n"
        )
    };
    let (svg, trace) = (directory.path("t.svg"), directory.path("t.jsonl"));
    let play = |bound: &str| {
        let file = directory.write("scenario.yaml", &scenario(bound));
        let words = ["simulate", file.to_str().unwrap(), "--svg", svg.to_str().unwrap(), "--trace"];
        naru(&[&words[..], &[trace.to_str().unwrap()]].concat())
    };
    let fine = play("7ms");
    assert_eq!((fine.status.code(), said(&fine.stderr).as_str()), (Some(0), ""));
    assert!(said(&fine.stdout).contains("holds   p99 of all loads: expected at most 7ms, measured 7.000ms"));
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg "));
    assert_eq!(std::fs::read_to_string(&trace).unwrap().lines().count(), 2 * 99);
    let failed = play("6ms");
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(said(&failed.stderr), "error: p99 of all loads: expected at most 6ms, measured 7.000ms\n");
    assert!(said(&failed.stdout).contains("FAILED  p99 of all loads"));
}

#[test]
fn the_version_can_be_read_by_programs() {
    let output = naru(&["version", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(version["name"], "naru");
    let number = version["version"].as_str().unwrap();
    assert_eq!(said(&naru(&["version"]).stdout), format!("naru {number}\n"));
    assert_eq!(said(&naru(&["--version"]).stdout), format!("naru {number}\n"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in
        [&["simulate", SCENARIO][..], &["version"], &["--help"], &["simulate", SCENARIO, "--output", "json"]]
    {
        let mut child = Command::new(program::program())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), said(&output.stderr).as_str()), (Some(0), ""), "{arguments:?}");
    }
}
