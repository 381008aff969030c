//! `naru diff` names exactly the requests that two running proxies send to different places: random documents, random
//! requests, and the log that the first proxy writes of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use naru_base::Chance;
use naru_proxy::Options;
use naru_spec::{AccessLog, Config, Format, JsonField, LogFormat, LogSink};
use naru_tests::files::Directory;
use naru_tests::wait::until;
use naru_tests::{Naru, Speaks, Upstream};
use serde_json::Value;

use crate::documents::naru;
use crate::explained::{Asked, CLIENTS, Done, ask, documents, planned};

/// `NARU_PAIRS` asks for another number.
const PAIRS: u64 = 9;
const REQUESTS: usize = 200;
const HEADERS: [&str; 4] = ["cookie", "end-user", "x-a", "x-b"];

/// The same documents, where weights choose nothing by chance.
fn decided(text: &str) -> String {
    let line = |line: &str| match line.split_once(", weight: ") {
        Some((before, weight)) => {
            let first: u32 = weight.split(' ').next().unwrap().parse().unwrap();
            let to = if first > 50 { "s0" } else { "s1" };
            format!("{} }}]\n", before.replace("s0", to))
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// With a log of its own, of all that rules look at.
fn logged(text: &str, log: &std::path::Path) -> Config {
    let mut config = planned(text);
    config.listeners[0].address.set_port(0);
    let value = |text: &str| JsonField::Value(Format::parse(text).unwrap());
    let headers = HEADERS.iter().map(|name| ((*name).to_owned(), value(&format!("%REQ({name})%"))));
    let fields = vec![
        ("authority".to_owned(), value("%REQ(:AUTHORITY)%")),
        ("headers".to_owned(), JsonField::Object(headers.collect())),
        ("method".to_owned(), value("%REQ(:METHOD)%")),
        ("path".to_owned(), value("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%")),
    ];
    let sink = LogSink::File(log.display().to_string());
    config.listeners[0].chains[0].http.access_log = vec![AccessLog { sink, format: LogFormat::Json(fields) }];
    config
}

/// All that tells one request from another.
fn key_of(line: &Value) -> String {
    let mut key = format!("{} {} {}", line["method"], line["authority"], line["path"]);
    for name in HEADERS {
        let _ = write!(key, " {}", line["headers"][name]);
    }
    key
}

fn key(asked: &Asked) -> String {
    let headers: serde_json::Map<String, Value> =
        asked.headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    key_of(&serde_json::json!({
        "method": asked.method.as_str(),
        "authority": asked.host,
        "path": asked.target,
        "headers": headers,
    }))
}

/// Where it went: a cluster, or the answer that naru gave by itself.
fn place(done: &Done) -> String {
    match done.decision.as_deref().and_then(|decision| decision.rsplit('|').next()) {
        _ if done.decision.as_deref().is_some_and(|decision| decision.contains("outbound|")) => {
            let decision = done.decision.as_deref().unwrap();
            decision.split_once("outbound|").unwrap().1.to_owned()
        }
        _ => done.status.to_string(),
    }
}

async fn all(config: Config, asked: &Arc<Vec<Asked>>) -> BTreeMap<usize, Done> {
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let clients: Vec<_> =
        (0..CLIENTS).map(|first| tokio::spawn(ask(naru.address, Arc::clone(asked), first))).collect();
    let mut done = BTreeMap::new();
    for client in clients {
        done.extend(client.await.unwrap());
    }
    done
}

#[tokio::test]
async fn diff_names_exactly_the_requests_that_a_replay_sends_elsewhere() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let (mut moved, mut stayed, mut failed) = (0, 0, 0);
    let pairs = std::env::var("NARU_PAIRS").map_or(PAIRS, |pairs| pairs.parse().unwrap());
    for seed in 0..pairs {
        let mut chance = Chance::split(seed, "replayed");
        let old = decided(&documents(&mut chance, 80, upstream.address));
        // Another one altogether, or the same with one word changed.
        let new = match seed % 3 {
            0 => decided(&documents(&mut chance, 80, upstream.address)),
            1 => old.replacen("destination: { host: s0.internal", "destination: { host: s2.internal", 1),
            _ => old
                .replacen("- name: vs0-r0", "- name: first", 1)
                .replace("sectionName: vs0-r0", "sectionName: first")
                .replacen("prefix: /a", "prefix: /v", 1),
        };
        let directory = Directory::new();
        for (name, text) in [("old", &old), ("new", &new)] {
            std::fs::create_dir(directory.path(name)).unwrap();
            directory.write(&format!("{name}/drawn.yaml"), text);
        }
        let log = directory.path("access.log");
        let asked: Arc<Vec<Asked>> = Arc::new((0..REQUESTS).map(|_| Asked::draw(&mut chance)).collect());
        let before = all(logged(&old, &log), &asked).await;
        let after = all(planned_anywhere(&new), &asked).await;
        let lines = until("every request to have its line", async || {
            let text = std::fs::read_to_string(&log).unwrap();
            (text.lines().count() == REQUESTS).then_some(text)
        })
        .await;
        // What is alike is decided alike.
        let mut really: BTreeMap<String, bool> = BTreeMap::new();
        for (at, request) in asked.iter().enumerate() {
            really.insert(key(request), place(&before[&at]) != place(&after[&at]));
        }
        let said = naru(&directory, &["diff", "old", "new", "--replay", "access.log", "--output", "json"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let json = said.json();
        let replay = &json["replay"];
        assert_eq!((&replay["requests"], &replay["other_lines"]), (&REQUESTS.into(), &0.into()));
        let groups = replay["moved"].as_array().unwrap();
        let named: Vec<u64> = groups
            .iter()
            .flat_map(|group| group["lines"].as_array().unwrap())
            .map(|line| line.as_u64().unwrap())
            .collect();
        for (number, line) in (1..).zip(lines.lines()) {
            let line: Value = serde_json::from_str(line).unwrap();
            let is_elsewhere = really[&key_of(&line)];
            assert_eq!(
                named.contains(&number),
                is_elsewhere,
                "seed {seed}, {line}\n{replay:#}\n{old}\n===\n{new}"
            );
            if is_elsewhere { moved += 1 } else { stayed += 1 }
        }
        assert_eq!(replay["elsewhere"].as_f64().unwrap(), named.len() as f64);
        failed += u64::from(replay["newly_fail"].as_f64().unwrap() > 0.0);
    }
    assert!(moved > 100 && stayed > 100 && failed > 0, "{moved} {stayed} {failed}");
}

fn planned_anywhere(text: &str) -> Config {
    let mut config = planned(text);
    config.listeners[0].address.set_port(0);
    config
}

const GATE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec: { servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: a }
spec: { hosts: [a.internal], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: STATIC, endpoints: [{ address: 127.0.0.1, labels: { v: one } }, { address: 127.0.0.2, labels: { v: two } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: a }
spec: { host: a.internal, subsets: [{ name: one, labels: { v: one } }, { name: two, labels: { v: two } }] }
---
";

fn shares(one: u32, path: &str) -> String {
    format!(
        "{GATE}apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: v }}
spec:
  hosts: [shop.test]
  gateways: [gate]
  http:
  - name: split
    match: [{{ uri: {{ prefix: {path} }} }}]
    route:
    - {{ destination: {{ host: a.internal, subset: one }}, weight: {one} }}
    - {{ destination: {{ host: a.internal, subset: two }}, weight: {} }}
",
        100 - one
    )
}

/// Envoy's default format, as other proxies write it.
fn line(method: &str, path: &str, host: &str) -> String {
    format!(
        "[2026-01-01T00:00:00.000Z] \"{method} {path} HTTP/1.1\" 200 - 0 5 2 1 \"-\" \"curl/8\" \"id\" \"{host}\" \
         \"10.0.0.1:80\"\n"
    )
}

#[test]
fn weights_move_their_share_and_what_has_no_rule_any_more_newly_fails() {
    let directory = Directory::new();
    directory.write("old.yaml", &shares(90, "/"));
    directory.write("new.yaml", &shares(80, "/a"));
    let log = format!(
        "{}{}{}not a line\n",
        line("GET", "/a", "shop.test").repeat(50),
        line("GET", "/b", "shop.test").repeat(10),
        line("GET", "/a", "nobody.test").repeat(40)
    );
    directory.write("access.log", &log);
    let said = naru(&directory, &["diff", "old.yaml", "new.yaml", "--replay", "access.log"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for expected in [
        "routes    changed",
        "100 requests, 1 lines that are none",
        "15 (15.0%) would go elsewhere",
        "10 (10.0%) would newly fail",
        "5 of 50\n",
        "to 404: no rule takes it",
        "GET shop.test/b  (10 times)",
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    let same = naru(&directory, &["diff", "old.yaml", "old.yaml", "--replay", "access.log"]);
    assert!(same.out.contains("no listener, route or cluster differs"), "{}", same.out);
    assert!(same.out.contains("0 (0.0%) would go elsewhere"), "{}", same.out);
    // The same name for others is another place.
    directory.write("moved.yaml", &shares(90, "/").replace("127.0.0.2", "127.0.0.3"));
    let moved = naru(&directory, &["diff", "old.yaml", "moved.yaml", "--replay", "access.log"]);
    assert!(moved.out.contains("6 (6.0%) would go elsewhere"), "{}", moved.out);
    assert!(moved.out.contains("clusters  changed  outbound|80|two|a.internal"), "{}", moved.out);
    // A format of somebody's own.
    directory.write("own.log", "shop.test/b|GET\n");
    let format = ["--log-format", "%REQ(:AUTHORITY)%%REQ(:PATH)%|%REQ(:METHOD)%"];
    let own =
        naru(&directory, &[&["diff", "old.yaml", "new.yaml", "--replay", "own.log"][..], &format].concat());
    assert!(own.out.contains("1 (100.0%) would newly fail"), "{}{}", own.out, own.err);
    let unreadable = ["--log-format", "%PROTOCOL%%DURATION%"];
    let said = naru(
        &directory,
        &[&["diff", "old.yaml", "new.yaml", "--replay", "own.log"][..], &unreadable].concat(),
    );
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("nobody can tell where"), "{}", said.err);
}
