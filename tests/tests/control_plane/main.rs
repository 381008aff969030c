//! A control plane, and those who are driven by it: Envoy 1.40, clients of gRPC in two languages, and whoever means no
//! good.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what went on is read where a test has failed")]

mod accepted;
mod changed_route;
mod changes;
mod contained;
mod envoy;
mod etcd;
mod fleets;
mod grpc;
mod guests;
mod inbound;
mod joined;
mod mutual;
mod ours;
mod secured;

use naru_tests::up::{deployment, free_address, service};

/// How many, in a short form unless it is said otherwise.
fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// A service with three versions, each a process.
fn reviews(port_name: &str) -> String {
    let mut text = service("reviews", 9_080).replace("name: http,", &format!("name: {port_name},"));
    for version in ["v1", "v2", "v3"] {
        let name = format!("reviews-{version}");
        let labels = format!("app: reviews, version: {version}");
        let one = deployment(&name, &labels, 1, &format!("--version, {version}"));
        text.push_str(&one.replace(&format!("--name, {name}"), "--name, reviews"));
    }
    text.push_str(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews }
spec:
  host: reviews
  subsets:
  - { name: v1, labels: { version: v1 } }
  - { name: v2, labels: { version: v2 } }
  - { name: v3, labels: { version: v3 } }
",
    );
    text
}

/// Endpoints that are written down, and a gateway that leads to them.
fn written(gate: u16, endpoint: std::net::SocketAddr, says: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: shop }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: shop-1, labels: {{ kubernetes.io/service-name: shop }} }}
addressType: IPv4
ports: [{{ name: http, port: {port} }}]
endpoints: [{{ addresses: ['{ip}'] }}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {gate}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
  - name: all
    headers: {{ response: {{ set: {{ x-says: '{says}' }} }} }}
    route: [{{ destination: {{ host: shop }} }}]
",
        port = endpoint.port(),
        ip = endpoint.ip(),
    )
}

fn free_port() -> u16 {
    free_address().port()
}
