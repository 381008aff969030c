//! What a `naru up` that runs says of its requests and of what was in force, and how it goes back.

use std::net::SocketAddr;

use http::Method;
use naru_tests::client::request;
use naru_tests::files::Directory;
use naru_tests::up::free_address;
use naru_tests::wait::until;
use naru_tests::{Client, Outbound, Speaks, Up, Upstream};

use crate::documents::{Said, naru};

fn documents(gate: SocketAddr, upstream: SocketAddr, paths: &[(&str, u16)]) -> String {
    let (ip, port) = (upstream.ip(), upstream.port());
    let mut out = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec: {{ servers: [{{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}] }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: a }}
spec: {{ hosts: [a.internal], ports: [{{ number: 80, name: http, protocol: HTTP }}], resolution: STATIC, endpoints: [{{ address: {ip}, ports: {{ http: {port} }} }}] }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: v }}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
  - name: jason
    match: [{{ headers: {{ end-user: {{ exact: jason }}, cookie: {{ regex: '.*secret.*' }} }} }}]
    directResponse: {{ status: 299 }}
",
        gate.port()
    );
    for (path, status) in paths {
        out.push_str(&format!(
            "  - {{ name: 'to {path}', match: [{{ uri: {{ prefix: {path} }} }}], directResponse: {{ status: {status} }} }}\n"
        ));
    }
    out.push_str(
        "  - { name: all, route: [{ destination: { host: a.internal } }], headers: { response: { set: { x-id: '%REQ(X-REQUEST-ID)%' } } } }\n",
    );
    out
}

/// The status of an answer, and the id that the request had behind the gateway.
async fn answered(gate: SocketAddr, path: &str) -> (u16, Option<String>) {
    until("the gateway to listen", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    let mut client = Client::plain(gate, Speaks::Http1).await;
    let mut get = request(Method::GET, path, Outbound::empty());
    get.headers_mut().insert("cookie", "key=hidden".parse().unwrap());
    get.headers_mut().insert("end-user", "jason".parse().unwrap());
    let answer = client.exchange(get).await;
    let id = answer.headers.get("x-id").map(|id| id.to_str().unwrap().to_owned());
    (answer.status.as_u16(), id)
}

async fn status(gate: SocketAddr, path: &str) -> u16 {
    answered(gate, path).await.0
}

fn asked(up: &Up, arguments: &[&str]) -> Said {
    let admin = format!("http://{}", up.admin);
    naru(&Directory::new(), &[arguments, &["--admin", &admin]].concat())
}

/// The versions, and which of them is in force.
fn versions(up: &Up) -> (u64, Vec<u64>) {
    let json = asked(up, &["config", "history", "--output", "json"]).json();
    let all = json["versions"].as_array().unwrap().iter().map(|version| version["version"].as_u64().unwrap());
    (json["current"].as_u64().unwrap(), all.collect())
}

#[tokio::test]
async fn what_was_in_force_is_listed_shown_and_put_in_force_again_also_after_a_restart() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let gate = free_address();
    let one = documents(gate, upstream.address, &[]);
    let two = documents(gate, upstream.address, &[("/x", 418)]);
    let arguments = ["--workers", "1", "--access-log", "none"];
    let up = Up::start(&[("a.yaml", one.clone())], &arguments).await;
    assert_eq!(versions(&up), (1, vec![1]));
    let mut id = String::new();
    for _ in 0..5 {
        let answer = answered(gate, "/x").await;
        assert_eq!(answer.0, 200);
        id = answer.1.unwrap();
    }
    assert_eq!(status(gate, "/y").await, 200);

    // One of the last requests, by its id.
    let said = asked(&up, &["explain", "--id", &id]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let upstream_line = format!("by {} of outbound|80||a.internal in 1 attempt", upstream.address);
    for expected in [
        "answered 200 (Forwarded)",
        &upstream_line,
        "by the rule 'all' at ",
        "1. passed by  jason",
        "header 'cookie': expected",
        "it is not shown",
        "2. takes it   all",
        &format!("{}  weight 1, healthy", upstream.address),
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    assert!(!said.out.contains("hidden"), "{}", said.out);
    let json = asked(&up, &["explain", "--id", &id, "--output", "json"]).json();
    assert_eq!(json["recorded"]["response_code"], 200);
    assert!(!json.to_string().contains("hidden"), "{json}");
    let said = asked(&up, &["explain", "--id", "nobody"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("none of the requests that are kept has this id"), "{}", said.err);
    // One that somebody might send.
    let url = format!("http://{gate}/x");
    let said = asked(&up, &["explain", "GET", &url, "-H", "end-user: jason", "-H", "cookie: a=secret b"]);
    assert!(said.out.contains("1. takes it   jason") && said.out.contains("answered 299"), "{}", said.out);

    // A save, and what it means to the last requests.
    up.save("a.yaml", &two);
    until("the summary of the save", async || {
        let said = up.said();
        let expected = "of the last 6 requests 5 (83.3%) would go elsewhere, 5 (83.3%) would newly fail";
        (said.contains(expected) && said.contains("an answer of the rule, 418")).then_some(())
    })
    .await;
    assert_eq!(status(gate, "/x").await, 418);
    assert_eq!(versions(&up), (2, vec![1, 2]));
    // What the request met is not what is there now.
    let said = asked(&up, &["explain", "--id", &id]);
    assert!(said.out.contains("the configuration is another one since then"), "{}", said.out);
    let shown = asked(&up, &["config", "show", "2"]);
    assert!(shown.out.contains("status: 418"), "{}", shown.out);
    assert_eq!(asked(&up, &["config", "show", "7"]).code, Some(1));

    // Back, and the directory still says the other.
    let said = asked(&up, &["config", "rollback", "1"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("version 3 is in force"), "{}", said.out);
    assert_eq!(status(gate, "/x").await, 200);
    let up = up.again(&arguments).await;
    assert_eq!(status(gate, "/x").await, 200);
    assert_eq!(versions(&up), (3, vec![1, 2, 3]));
    let history = asked(&up, &["config", "history"]);
    assert!(history.out.contains("*    3 ") && history.out.contains("from version 1"), "{}", history.out);

    // A directory that cannot be: the last that could goes on.
    up.directory.write("a.yaml", &two.replace("418", "99"));
    let up = up.again(&arguments).await;
    assert!(up.said().contains("version 3, which was in force before, goes on"), "{}", up.said());
    assert_eq!(status(gate, "/x").await, 200);
    // A directory that says something else again is what counts.
    up.save("a.yaml", &two);
    until("the save", async || (status(gate, "/x").await == 418).then_some(())).await;

    // A batch: all of it or nothing.
    let files = Directory::new();
    files.write("good.yaml", &documents(gate, upstream.address, &[("/x", 419)]));
    let admin = format!("http://{}", up.admin);
    let apply =
        |more: &[&str]| naru(&files, &[&["config", "apply", "--admin", &admin, "good.yaml"], more].concat());
    files.write("bad.yaml", "kind: [");
    let said = apply(&["bad.yaml"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("it cannot be, and changes nothing") && said.err.contains("syntax"),
        "{}",
        said.err
    );
    assert_eq!(status(gate, "/x").await, 418);
    let said = apply(&[]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(status(gate, "/x").await, 419);
    let up = up.again(&arguments).await;
    assert_eq!(status(gate, "/x").await, 419);

    // A page in a browser changes nothing.
    let forged = std::process::Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-H", "origin: http://evil.test"])
        .arg(format!("http://{}/config/rollback?version=1", up.admin))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&forged.stdout), "403");
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let gate = free_address();
    let text = documents(gate, upstream.address, &[]);
    let up = Up::start(&[("a.yaml", text.clone())], &["--workers", "1", "--recent-requests", "0"]).await;
    let (code, id) = answered(gate, "/").await;
    assert_eq!(code, 200);
    let said = asked(&up, &["explain", "--id", &id.unwrap()]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("--recent-requests 0"), "{}", said.err);
    up.save("a.yaml", &text.replace("299", "298"));
    until("the save", async || up.said().contains("has changed; it is in effect").then_some(())).await;
    assert!(!up.said().contains("of the last"), "{}", up.said());
}
