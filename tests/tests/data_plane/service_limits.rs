//! Who is counted by a RateLimit of a Service, on sockets: whoever calls it, and nobody who comes by a gateway.

use std::net::SocketAddr;

use naru_tests::up::{Up, deployment, free_address, gateway, service};
use naru_tests::{Wire, until};
use serde_json::Value;

/// Two who call a third, each behind a gateway of its own, as is the third.
struct Shop {
    up: Up,
    page: SocketAddr,
    clerk: SocketAddr,
    orders: SocketAddr,
}

fn limit(requests: u32) -> String {
    format!(
        "
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: orders }}
spec:
  targetRef: {{ kind: Service, name: orders }}
  limits:
  - {{ name: user, requests: {requests}, window: 1h, key: [{{ from: header, name: end-user }}] }}
"
    )
}

impl Shop {
    async fn start(limit: String) -> Shop {
        let (page, clerk, orders) = (free_address(), free_address(), free_address());
        let gate = |name: &str, address: SocketAddr| {
            gateway(address.port(), name)
                .replace("name: gate }", &format!("name: gate-{name} }}"))
                .replace("gateways: [gate]", &format!("gateways: [gate-{name}]"))
        };
        let call = "--call, 'http://orders:9080/'";
        let workloads = [
            service("page", 80),
            service("clerk", 80),
            service("orders", 9080),
            deployment("page", "app: page", 1, call),
            deployment("clerk", "app: clerk", 1, call),
            deployment("orders", "app: orders", 1, ""),
        ];
        let gates = [gate("page", page), gate("clerk", clerk), gate("orders", orders)];
        let files =
            [("workloads.yaml", workloads.concat()), ("gates.yaml", gates.concat()), ("limit.yaml", limit)];
        let shop = Shop { up: Up::start(&files, &["--workers", "2"]).await, page, clerk, orders };
        // Nobody who says who he is has asked yet.
        for address in [page, clerk] {
            until("a caller to be whole", async || {
                (asked(address, "").await?["calls"][0]["status"] == 200).then_some(())
            })
            .await;
        }
        until("the third to be there", async || asked(orders, "").await).await;
        shop
    }

    /// What each of so many calls of this user was answered.
    async fn calls(&self, by: SocketAddr, user: &str, count: usize) -> Vec<u64> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            let told = asked(by, user).await.expect("the caller itself is not limited");
            statuses.push(told["calls"][0]["status"].as_u64().expect("a status"));
        }
        statuses
    }
}

/// What a service tells of itself and its calls; nothing where it is not there.
async fn asked(address: SocketAddr, user: &str) -> Option<Value> {
    drop(tokio::net::TcpStream::connect(address).await.ok()?);
    let mut wire = Wire::connect(address).await;
    let user = if user.is_empty() { String::new() } else { format!("end-user: {user}\r\n") };
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{user}\r\n")).await;
    let response = wire.response().await;
    if response.status() != 200 {
        return None;
    }
    serde_json::from_slice(&response.body).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_callers_of_a_service_count_together_and_who_comes_by_a_gateway_does_not() {
    let shop = Shop::start(limit(6)).await;
    // Six of a user's calls pass, whoever makes them.
    assert_eq!(shop.calls(shop.page, "ann", 4).await, [200; 4]);
    assert_eq!(shop.calls(shop.clerk, "ann", 4).await, [200, 200, 429, 429]);
    assert_eq!(shop.calls(shop.page, "ann", 1).await, [429]);
    // Others are others, and who does not say who he is is not counted.
    assert_eq!(shop.calls(shop.page, "bob", 2).await, [200; 2]);
    assert_eq!(shop.calls(shop.page, "", 8).await, [200; 8]);
    // What a gateway sends there passes what the gateway says.
    for _ in 0..8 {
        assert!(asked(shop.orders, "ann").await.is_some());
    }
    let metrics = shop.up.page("/metrics").await;
    let refused: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("naru_rate_limit_refused_total{")).collect();
    assert!(matches!(refused[..], [one] if one.contains("orders") && one.ends_with(" 3")), "{refused:?}");

    // Another number is another limit, in force without a restart of anybody.
    shop.up.save("limit.yaml", &limit(2));
    // As long as the old one holds, more pass: each try is another user's.
    let mut tries = 0;
    until("the new limit to be in force", async || {
        tries += 1;
        (shop.calls(shop.page, &format!("cid-{tries}"), 3).await == [200, 200, 429]).then_some(())
    })
    .await;
}
