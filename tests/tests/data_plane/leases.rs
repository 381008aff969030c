//! Limits that several proxies share by handing shares to each other: three processes, on sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use naru_tests::files::Directory;
use naru_tests::up::{Up, free_address};
use naru_tests::{Wire, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

struct Circle {
    _files: Directory,
    /// With where they take requests.
    members: Vec<(Up, SocketAddr)>,
    documents: Vec<String>,
}

fn documents(port: u16, members: &str, secret: &str, otherwise: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: edge }}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{ name: all, directResponse: {{ status: 200, body: {{ string: ok }} }} }}]
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: guide }}
spec:
  targetRef: {{ kind: Gateway, name: edge }}
  leases:
    members: [{members}]
    secret: {{ file: {secret} }}
    timeout: 4s
    otherwise: {otherwise}
  limits:
  - {{ name: user, requests: 100, window: 60s, key: [{{ from: header, name: x-user }}] }}
  - {{ name: ip, requests: 200, window: 60s, key: [{{ from: header, name: x-address }}] }}
  - {{ name: global, requests: 1000, window: 1s }}
"
    )
}

impl Circle {
    /// `count` of them are started.
    async fn start(count: usize, otherwise: &str) -> Circle {
        let files = Directory::new();
        let secret = files.write("secret", "what nobody who is not of the circle can guess\n");
        let members: Vec<String> = (0..3).map(|_| format!("'{}'", free_address())).collect();
        let mut circle = Circle { _files: files, members: Vec::new(), documents: Vec::new() };
        for at in 0..3 {
            let address = free_address();
            let secret = secret.display().to_string();
            circle.documents.push(documents(address.port(), &members.join(", "), &secret, otherwise));
            if at < count {
                let documents = circle.documents[at].clone();
                let up = Up::start(&[("edge.yaml", documents)], &["--workers", "2"]).await;
                // Its socket is claimed before it is shared: whoever comes between is reset.
                until("the gateway to answer", async || {
                    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
                    (stream.read(&mut [0; 64]).await.ok()? > 0).then_some(())
                })
                .await;
                circle.members.push((up, address));
            }
        }
        circle
    }

    /// Until each of them says this of its circle.
    async fn has(&self, name: &str, value: u32) {
        for (up, _) in &self.members {
            until(&format!("{name} to be {value}"), async || {
                let metrics = up.page("/metrics").await;
                let mut lines =
                    metrics.lines().filter(|line| line.starts_with(&format!("naru_store_{name}{{")));
                lines.all(|line| line.ends_with(&format!(" {value}"))).then_some(())?;
                metrics.contains(&format!("naru_store_{name}{{")).then_some(())
            })
            .await;
        }
    }
}

/// Asks so often, and counts who passed. Every answer is 200, or 429 with when to come again.
async fn ask(address: SocketAddr, user: &str, from: &str, count: usize) -> usize {
    let mut passed = 0;
    let mut wire = Wire::connect(address).await;
    for _ in 0..count {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\nx-address: {from}\r\n\r\n");
        wire.send(request).await;
        let response = wire.response().await;
        match response.status() {
            200 => passed += 1,
            429 => assert!(response.head.get("retry-after").is_some(), "{response:?}"),
            status => panic!("{status}: {response:?}"),
        }
    }
    passed
}

/// What a limit of so many in a minute lets pass since then, but for a twentieth.
fn assert_exact(what: &str, passed: usize, requests: usize, began: Instant) {
    let exact = requests as f64 * (1.0 + began.elapsed().as_secs_f64() / 60.0);
    assert!(passed as f64 <= exact * 1.05, "{what}: {passed} of {exact}");
    assert!(passed as f64 >= requests as f64 * 0.95, "{what}: {passed} of {requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_proxies_admit_what_the_limits_say_however_uneven_the_load_is() {
    let circle = Circle::start(3, "local").await;
    circle.has("parts", 3).await;
    circle.has("up", 1).await;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    // Users by how they are spread over the three: evenly, at one of them, and between.
    for (user, counts) in [("even", [60, 60, 60]), ("one", [180, 0, 0]), ("between", [10, 150, 20])] {
        for ((_, address), count) in circle.members.iter().zip(counts) {
            let (address, from) = (*address, format!("address-of-{user}"));
            clients.spawn(async move { (user, ask(address, user, &from, count).await) });
        }
    }
    // One address with many users.
    for (at, (_, address)) in circle.members.iter().enumerate() {
        let address = *address;
        clients.spawn(async move {
            let mut passed = 0;
            for user in 0..10 {
                passed += ask(address, &format!("{at}-{user}"), "crowd", [6, 20, 10][at]).await;
            }
            ("crowd", passed)
        });
    }
    let mut passed = std::collections::BTreeMap::new();
    while let Some(client) = clients.join_next().await {
        let (who, count) = client.unwrap();
        *passed.entry(who).or_insert(0) += count;
    }
    for (who, requests) in [("even", 100), ("one", 100), ("between", 100), ("crowd", 200)] {
        assert_exact(who, passed[who], requests, began);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_leaves_his_share_to_the_others_and_has_it_again_when_he_is_back() {
    let mut circle = Circle::start(3, "refuse").await;
    circle.has("up", 1).await;
    let (mut up, address) = circle.members.remove(1);
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    circle.has("parts", 2).await;
    let first = circle.members[0].1;
    let began = Instant::now();
    // Of the part that it had nothing is there yet.
    let passed = ask(first, "ann", "there", 140).await;
    assert!((60..=105).contains(&passed) || began.elapsed() > Duration::from_secs(10), "{passed}");
    let documents = circle.documents[1].clone();
    let again = Up::start(&[("edge.yaml", documents)], &["--workers", "2"]).await;
    circle.members.push((again, address));
    circle.has("parts", 3).await;
    circle.has("up", 1).await;
    // It has forgotten, and is not asked what it does not have.
    let left = ask(address, "ann", "there", 60).await;
    let allowed = 105.0 + began.elapsed().as_secs_f64() * 100.0 / 60.0 * 1.05;
    assert!((passed + left) as f64 <= allowed, "{passed} and {left} of {allowed}");
    // Alone it is no quorum, and has no share.
    circle.members.drain(..2);
    circle.has("up", 0).await;
    let mut wire = Wire::connect(address).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-user: bob\r\nx-address: b\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 500);
    let said = until("it to say so", async || {
        let said = circle.members[0].0.said();
        said.contains("too few of the others are heard").then_some(said)
    })
    .await;
    assert!(!said.contains("nobody who is not of the circle"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alone_counts_by_its_part_or_lets_all_pass() {
    for (otherwise, expected) in [("local", 33), ("allow", 60)] {
        let circle = Circle::start(1, otherwise).await;
        let began = Instant::now();
        let passed = ask(circle.members[0].1, "ann", "there", 60).await;
        let most = expected as f64 + began.elapsed().as_secs_f64() * 100.0 / 180.0 + 1.0;
        assert!(passed >= expected && passed as f64 <= most, "{otherwise}: {passed} of {expected}");
    }
}
