//! A gateway between meshes: the server name of the client's TLS says which service, port and subset is meant.

use naru_spec::UpstreamTls;
use naru_tests::certificates::Authority;
use naru_tests::up::free_address;
use naru_tests::{Client, Speaks, Up, Upstream, until};
use naru_tls::Connector;

fn documents(gate: u16, versions: [&Upstream; 2]) -> String {
    let endpoint = |version: &str, upstream: &Upstream| {
        format!(
            "  - {{ address: 127.0.0.1, ports: {{ https: {} }}, labels: {{ version: {version} }} }}\n",
            upstream.address.port()
        )
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: cross }}
spec:
  servers:
  - port: {{ number: {gate}, name: tls, protocol: TLS }}
    bind: 127.0.0.1
    hosts: ['*.local']
    tls: {{ mode: AUTO_PASSTHROUGH }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: shop }}
spec:
  hosts: [shop.far.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{ number: 443, name: https, protocol: HTTPS }}]
  endpoints:
{}{}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: shop }}
spec:
  host: shop.far.local
  subsets: [{{ name: v1, labels: {{ version: v1 }} }}, {{ name: v2, labels: {{ version: v2 }} }}]
",
        endpoint("v1", versions[0]),
        endpoint("v2", versions[1]),
    )
}

#[tokio::test]
async fn the_server_name_says_which_service_port_and_subset_is_meant() {
    let authority = Authority::new();
    let v1 = Upstream::serve(Speaks::Http2Tls, &authority).await;
    let v2 = Upstream::serve(Speaks::Http2Tls, &authority).await;
    let gate = free_address();
    let _up = Up::start(&[("all.yaml", documents(gate.port(), [&v1, &v2]))], &[]).await;
    let connector = |name: &str| {
        let caller = authority.caller(&["h2"]);
        Connector::build(&UpstreamTls { sni: Some(name.to_owned()), ..caller }).unwrap()
    };
    until("the gateway", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    for _ in 0..4 {
        let of_v2 = connector("outbound_.443_.v2_.shop.far.local");
        let (mut client, _) = Client::secured(gate, Speaks::Http2Tls, &of_v2).await.unwrap();
        assert_eq!(client.get("/describe").await.status, 200);
    }
    assert_eq!((v1.requests(), v2.requests()), (0, 4));
    for _ in 0..4 {
        let of_all = connector("outbound_.443_._.shop.far.local");
        let (mut client, _) = Client::secured(gate, Speaks::Http2Tls, &of_all).await.unwrap();
        assert_eq!(client.get("/describe").await.status, 200);
    }
    assert!(v1.requests() > 0, "both versions are meant");
    for unknown in ["outbound_.80_._.shop.far.local", "outbound_.443_.v3_.shop.far.local", "shop.far.local"] {
        assert!(Client::secured(gate, Speaks::Http2Tls, &connector(unknown)).await.is_err(), "{unknown}");
    }
}
