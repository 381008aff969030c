//! Changes under load, with the built program: a ledger shows that each request was answered.
//!
//! `cargo xtask prove` does the same for longer.

use std::net::SocketAddr;

use naru_tests::bootstrap::HTTP2;
use naru_tests::files::Directory;
use naru_tests::{Authority, Bootstrap, Program, Speaks, Upstream};
use rustix::process::Signal;

use super::Stand;
use super::load::{KINDS, Load};
use crate::grpc::peers::Peers;

const ROUTES: &str = "
- match: { prefix: /echo }
  route: { cluster: calls, timeout: 0s }
- match: { prefix: /naru.Test/ }
  route: { cluster: peers, timeout: 0s }
- match: { prefix: / }
  route: { cluster: up, timeout: 0s }
  response_headers_to_add: [{ header: { key: x-snapshot, value: number 0 } }]
";

fn count(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// A listener without TLS and one with it, whose certificate is in files.
fn file(upstreams: [SocketAddr; 3], certificates: &Directory, authority: &Authority) -> String {
    let [up, calls, peers] = upstreams;
    let bootstrap = || {
        let bootstrap = Bootstrap::new(ROUTES).cluster("up", up, "").cluster("calls", calls, HTTP2);
        bootstrap.cluster("peers", peers, HTTP2).admin()
    };
    let secured = bootstrap().tls(authority, &["http/1.1"]).text();
    let (_, secured) = secured.split_once("  listeners:\n").unwrap();
    let (secured, _) = secured.split_once("  clusters:\n").unwrap();
    let mut listener = String::new();
    for line in secured.lines() {
        let (before, _) = line.split_once("{ inline_string: \"-----BEGIN").unwrap_or((line, ""));
        let file = match before.trim() {
            "- certificate_chain:" => Some(certificates.path("chain.pem")),
            "private_key:" => Some(certificates.path("key.pem")),
            _ => None,
        };
        match file {
            Some(file) => listener.push_str(&format!("{before}{{ filename: {file:?} }}\n")),
            None => listener.push_str(&format!("{line}\n")),
        }
    }
    let listener = listener.replace("- name: main", "- name: secured");
    bootstrap().text().replacen("  clusters:\n", &format!("{listener}  clusters:\n"), 1)
}

fn issue(certificates: &Directory, authority: &Authority) {
    let issued = authority.issue();
    certificates.write("chain.pem", &issued.chain);
    certificates.write("key.pem", &issued.key);
}

#[tokio::test]
async fn nothing_is_lost_whatever_changes() {
    let (swaps, reloads, takeovers) =
        (count("NARU_SWAPS", 50), count("NARU_RELOADS", 3), count("NARU_TAKEOVERS", 3));
    let (up, calls) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http2).await);
    let (authority, certificates) = (Authority::new(), Directory::new());
    issue(&certificates, &authority);
    let peers = Peers::start().await;
    let text = file([up.address, calls.address, peers.server], &certificates, &authority);
    let stand = Stand::new(&text);
    let mut running = stand.first(&["--workers", "2"]).await;
    let secured = address_of(&running, "secured");
    let load = Load::start(running.address, secured, &authority, peers);
    load.goes_on(4).await;
    let mut ended = Vec::new();
    let (mut swapped, mut reloaded) = (0, 0);
    for round in 1..=takeovers.max(1) {
        let (mut swaps_here, mut reloads_here) = (0, 0);
        while swapped < swaps * round / takeovers.max(1) {
            swapped += 1;
            swaps_here += 1;
            stand.save(&text.replace("number 0", &format!("number {swapped}")));
            running.signal(Signal::HUP);
            running.says("was read again; it is in effect", swaps_here).await;
        }
        while reloaded < reloads * round / takeovers.max(1) {
            reloaded += 1;
            reloads_here += 1;
            issue(&certificates, &authority);
            running.says("certificates have changed; they are in effect", reloads_here).await;
            load.goes_on(1).await;
        }
        if takeovers > 0 {
            let next = stand.next(&["--workers", &(1 + round % 3).to_string()]).await;
            ended.push(std::mem::replace(&mut running, next));
            load.goes_on(2).await;
        }
    }
    load.goes_on(4).await;
    let answered = load.ends().await;
    for old in ended {
        let exit = old.ends().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
    let total: u64 = answered.iter().map(|(_, count)| count).sum();
    println!(
        "{swapped} swaps, {reloaded} reloads, {takeovers} takeovers: {total} requests, all answered: {answered:?}"
    );
    assert!(answered.len() == KINDS.len() && answered.iter().all(|(_, count)| *count >= 10), "{answered:?}");
    // Every request that was answered here was seen there, and none of them twice.
    let whole: u64 = answered.iter().take(4).map(|(_, count)| count).sum();
    assert_eq!(up.requests(), whole);
}

fn address_of(program: &Program, listener: &str) -> std::net::SocketAddr {
    let said = program.stderr();
    let words = format!("naru: listener '{listener}' on ");
    said.lines().find_map(|line| line.strip_prefix(&words)).unwrap().parse().unwrap()
}
