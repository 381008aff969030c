//! Programs that know of naru by their environment only: `http_proxy=http://127.0.0.1:PORT`.

use std::net::SocketAddr;
use std::process::Command;

use naru_base::Reason;
use naru_tests::bootstrap::HTTP2;
use naru_tests::files::Directory;
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, upstream};
use serde_json::{Value, json};

use crate::grpc::peers::Peers;

/// What curl prints of a transfer that goes well.
async fn curl(proxy: SocketAddr, arguments: &[&str]) -> String {
    let proxy = format!("http://{proxy}");
    let mut command = Command::new("curl");
    for name in ["no_proxy", "NO_PROXY", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command.env("http_proxy", &proxy).env("https_proxy", &proxy).env("HOME", "/nonexistent");
    command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
    // Its upstream is served by this thread.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("there is no curl: run `cargo xtask setup` once");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn reviews() -> Bootstrap {
    Bootstrap::with_virtual_hosts(
        "- name: reviews\n  domains: [\"reviews:9080\"]\n  routes:\n  - { match: { prefix: / }, route: { cluster: up } }\n",
    )
    .tunnels()
}

#[tokio::test]
async fn curl_asks_by_whole_urls_and_through_tunnels() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&reviews().cluster("up", up.address, ""));
    let url = "http://reviews:9080/describe/it?a=b";
    for through in [&[url][..], &["--proxytunnel", url], &["--proxytunnel", "--http2-prior-knowledge", url]] {
        let described: Value = serde_json::from_str(&curl(naru.address, through).await).unwrap();
        assert_eq!(described["target"], "/describe/it?a=b", "{described}");
        assert_eq!(upstream::header(&described, "host"), Some("reviews:9080"));
        assert_eq!(upstream::header(&described, "proxy-connection"), None);
    }
    let posted = curl(naru.address, &["--data", "what is said", "http://reviews:9080/length"]).await;
    assert_eq!(posted, "12 whole");
    naru.settles().await;
    let ended = naru.ended(6).await;
    assert_eq!(ended.iter().filter(|(_, reason)| *reason == Reason::TunnelServed).count(), 2, "{ended:?}");
}

#[tokio::test]
async fn curl_speaks_tls_with_whom_it_wants() {
    let files = Directory::new();
    let authority = Authority::new();
    let ca = files.write("ca.pem", &authority.pem());
    let up = Upstream::serve(Speaks::Http1Tls, &authority).await;
    let naru = Naru::start(
        &Bootstrap::with_virtual_hosts(
            "- name: shop\n  domains: [\"naru.test:443\"]\n  routes:\n  - { match: { prefix: / }, route: { cluster: up } }\n",
        )
        .tunnels()
        .cluster("up", up.address, ""),
    );
    let said = curl(naru.address, &["--cacert", ca.to_str().unwrap(), "https://naru.test/bytes/4"]).await;
    assert_eq!(said, "xxxx");
    // And where no rule leads.
    let there = format!("https://localhost:{}/bytes/3", up.address.port());
    assert_eq!(curl(naru.address, &["--insecure", &there]).await, "xxx");
    naru.settles().await;
    // A client that does not read its server's last words resets the connection.
    let fine = [(200, Reason::Forwarded), (200, Reason::ClientGone)];
    let ended = naru.ended(2).await;
    assert!(ended.iter().all(|ending| fine.contains(ending)), "{ended:?}");
}

#[tokio::test]
async fn grpcio_calls_by_its_environment() {
    let mut peers = Peers::start().await;
    let naru = Naru::start(
        &Bootstrap::with_virtual_hosts(
            "- name: shop\n  domains: [\"shop.test:50051\"]\n  routes:\n  - { match: { prefix: / }, route: { cluster: up } }\n",
        )
        .tunnels()
        .cluster("up", peers.server, HTTP2),
    );
    let calls = vec![
        json!({ "method": "Echo", "messages": ["hello"] }),
        json!({ "method": "Chat", "messages": ["one", "end"] }),
        json!({ "method": "Fail", "messages": ["5 not there"] }),
    ];
    let answers = peers.calls_by(naru.address, "shop.test:50051", calls).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["OK", "OK", "NOT_FOUND"], "{answers:?}");
    assert_eq!(answers[0]["messages"], json!(["hello"]));
    naru.settles().await;
    // Each call has its own line, and the tunnel has one.
    let report = naru.report().await;
    let told: Vec<_> = report
        .series
        .iter()
        .map(|series| (series.labels.reason, series.labels.grpc_status, series.requests()))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.contains(&(Reason::Forwarded, Some(0), 2)), "{told:?}");
    assert!(told.contains(&(Reason::Forwarded, Some(5), 1)), "{told:?}");
    assert!(told.contains(&(Reason::TunnelServed, None, 1)), "{told:?}");
}
