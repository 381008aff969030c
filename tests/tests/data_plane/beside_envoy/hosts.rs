//! What the host of a request becomes where a route, one of its clusters, or both of them say it.

use std::net::SocketAddr;

use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};
use serde_json::Value;

/// By the path that begins a route: what it says, and what its two clusters do.
const ROUTES: &[(&str, &str, [&str; 2])] = &[
    ("/none", "", ["", ""]),
    ("/both", "", ["host_rewrite_literal: one.test", "host_rewrite_literal: one.test"]),
    ("/first", "", ["host_rewrite_literal: one.test", ""]),
    ("/route", "host_rewrite_literal: route.test", ["host_rewrite_literal: one.test", ""]),
    ("/forwarded", "append_x_forwarded_host: true", ["host_rewrite_literal: one.test", ""]),
    (
        "/headers",
        "",
        [
            "host_rewrite_literal: 'one.test:81', request_headers_to_add: [{header: {key: x-a, value: '%REQ(:AUTHORITY)%'}}]",
            "",
        ],
    ),
];

fn routes() -> String {
    let written = ROUTES.iter().map(|(path, of_route, [first, second])| {
        let comma = |said: &str| if said.is_empty() { String::new() } else { format!(", {said}") };
        format!(
            "- match: {{ prefix: {path} }}\n  route: {{ weighted_clusters: {{ clusters: [{{ name: up, weight: 1{} }}, \
             {{ name: up, weight: 0{} }}] }}{} }}\n",
            comma(first),
            comma(second),
            comma(of_route)
        )
    });
    written.collect()
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut client = Wire::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")).await;
    let seen: Value = serde_json::from_slice(&client.response().await.body).unwrap();
    let names = ["host", "x-envoy-original-host", "x-forwarded-host", "x-a"];
    format!("{path}: {:?}", names.map(|name| header(&seen, name)))
}

#[tokio::test]
async fn a_host_is_that_of_the_route_or_else_of_the_cluster() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::new(&routes()).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    for (path, ..) in ROUTES {
        let (by_envoy, by_naru) = (ask(envoy.address, path).await, ask(naru.address, path).await);
        assert_eq!(by_envoy, by_naru);
        // Before a route makes another one of it, it is told as the one that was there.
        assert_eq!(by_naru.contains("one.test"), *path != "/none", "{by_naru}");
    }
}
