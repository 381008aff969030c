//! WebSocket by clients and servers that others have written, and frame by frame: what comes through naru is what comes
//! without it.

mod cases;
mod peers;
mod played;
mod utf8;

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::wire::End;
use naru_tests::{Authority, Bootstrap, Naru};
use serde_json::json;

use cases::{Case, cases};
use peers::{Package, Peers, Version};
use played::{Manner, Outcome, play_all};

const WEBSOCKET: &str = "upgrade_configs: [{ upgrade_type: websocket }]";

/// To the server of this package, by this version.
fn bootstrap(peers: &Peers, package: Package, version: Version) -> Bootstrap {
    let lines = if version == Version::Http2 { HTTP2 } else { "" };
    Bootstrap::new(TO_UP).cluster("up", peers.server(package, version), lines).manager(WEBSOCKET)
}

#[tokio::test]
async fn clients_and_servers_of_others_understand_each_other() {
    use Package::{Websockets, Ws};
    use Version::{Http1, Http2};
    let mut peers = Peers::start().await;
    let sizes = [0, 1, 125, 126, 65_535, 65_536, 1 << 20];
    for (server, of_server) in [(Websockets, Http1), (Ws, Http1), (Ws, Http2)] {
        for is_tls in [false, true] {
            let authority = Authority::new();
            let mut bootstrap = bootstrap(&peers, server, of_server);
            if is_tls {
                bootstrap = bootstrap.tls(&authority, &["h2", "http/1.1"]);
            }
            let naru = Naru::start(&bootstrap);
            for (client, of_client) in [(Websockets, Http1), (Ws, Http1), (Ws, Http2)] {
                for client_closes in [true, false] {
                    let ca = is_tls.then(|| authority.pem());
                    let of = (client, of_client);
                    let told = peers.talk(of, naru.address, ca, &sizes, client_closes).await;
                    let (code, reason) =
                        if client_closes { (4001, "enough ☺") } else { (4002, "no more ☺") };
                    // Compression is theirs to agree on; over HTTP/2 the package has no words for it.
                    let is_compressed = of_client == Http1 && of_server == Http1;
                    let expected = json!({
                        "echoed": 4 * sizes.len(), "pongs": sizes.len(), "protocol": "echo",
                        "compressed": is_compressed, "code": code, "reason": reason,
                    });
                    assert_eq!(told, expected, "{of:?} to {:?}, {is_tls}", (server, of_server));
                }
            }
            assert_eq!(naru.ended(6).await, [(101, Reason::Forwarded); 6]);
            naru.settles().await;
        }
    }
}

/// What comes of a case through naru is what comes of it without, and its connection is closed in good order.
fn compare(all: &[Case], direct: &[Outcome], outcomes: &[Outcome], what: &str) {
    let mut differences = Vec::new();
    for ((case, direct), outcome) in all.iter().zip(direct).zip(outcomes) {
        if outcome.bytes != direct.bytes || outcome.end != End::Closed {
            differences.push(format!("{}: {direct:?}, {what} {outcome:?}", case.name));
        }
    }
    assert!(differences.is_empty(), "{} cases:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn every_case_ends_as_without_a_proxy() {
    let all = cases();
    let peers = Peers::start().await;
    for (package, manner) in [
        (Package::Ws, Manner::AllAtOnce),
        (Package::Ws, Manner::StepByStep),
        (Package::Websockets, Manner::StepByStep),
    ] {
        let direct = play_all(peers.server(package, Version::Http1), Version::Http1, &all, manner).await;
        for (case, outcome) in all.iter().zip(&direct) {
            if package == Package::Ws {
                outcome.check(case);
            }
            assert_eq!(outcome.end, End::Closed, "{}", case.name);
        }
        for (client, upstream) in [
            (Version::Http1, Version::Http1),
            (Version::Http2, Version::Http1),
            (Version::Http1, Version::Http2),
            (Version::Http2, Version::Http2),
        ] {
            if upstream == Version::Http2 && package == Package::Websockets {
                continue;
            }
            let naru = Naru::start(&bootstrap(&peers, package, upstream));
            let outcomes = play_all(naru.address, client, &all, manner).await;
            compare(&all, &direct, &outcomes, &format!("{package:?} {manner:?} {client:?} {upstream:?}"));
            for (status, _) in naru.ended(all.len() as u64).await {
                assert_eq!(status, 101);
            }
            naru.settles().await;
        }
    }
}
