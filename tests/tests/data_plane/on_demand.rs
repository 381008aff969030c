//! Endpoints that come with requests: by a header, as in Envoy, and by the host that is asked for.

use std::net::SocketAddr;

use http::{HeaderValue, Method, header};
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::bootstrap::TO_UP;
use naru_tests::client::request;
use naru_tests::wire::refusing_address;
use naru_tests::{Bootstrap, Client, Envoy, Naru, Outbound, Speaks, Upstream, until};

/// Asks with these headers; says the status.
async fn ask(client: &mut Client, headers: &[(&'static str, String)]) -> u16 {
    let mut request = request(Method::GET, "/status/204", Outbound::empty());
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::try_from(value).unwrap());
    }
    client.exchange(request).await.status.as_u16()
}

async fn ask_for(client: &mut Client, host: &str) -> u16 {
    ask(client, &[(header::HOST.as_str(), host.to_owned())]).await
}

#[tokio::test]
async fn a_header_says_the_address_as_in_envoy() {
    let ups = [Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await];
    let [one, other] = ups.each_ref().map(|up| up.address);
    let usual = "x-envoy-original-dst-host";
    let cases = [
        ("use_http_header: true", usual, None),
        ("use_http_header: true, http_header_name: x-to", "x-to", None),
        ("use_http_header: true, upstream_port_override: PORT", usual, Some(other)),
    ];
    for (config, name, moved) in cases {
        let config = config.replace("PORT", &other.port().to_string());
        let lines = format!("original_dst_lb_config: {{ {config} }}\n");
        let bootstrap = Bootstrap::new(TO_UP).on_demand_cluster("up", &lines);
        let values = [
            one.to_string(),
            other.to_string(),
            refusing_address().to_string(),
            one.ip().to_string(),
            format!("localhost:{}", one.port()),
            "nonsense".to_owned(),
        ];
        let mut seen = Vec::new();
        let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
        let naru = Naru::start(&bootstrap);
        for address in [envoy.address, naru.address] {
            let mut client = Client::plain(address, Speaks::Http1).await;
            let mut said = vec![(ask(&mut client, &[]).await, [0; 2])];
            for value in &values {
                let before = ups.each_ref().map(Upstream::requests);
                let status = ask(&mut client, &[(name, value.clone())]).await;
                let after = ups.each_ref().map(Upstream::requests);
                said.push((status, [after[0] - before[0], after[1] - before[1]]));
            }
            seen.push(said);
        }
        assert_eq!(seen[0], seen[1], "Envoy, and naru: {config}");
        let expected = if moved.is_some() { [0, 1] } else { [1, 0] };
        assert_eq!(seen[1][1], (204, expected));
        assert_eq!(seen[1][0].0, 503, "it says nothing");
        naru.settles().await;
    }
}

#[tokio::test]
async fn who_is_not_asked_any_more_is_forgotten() {
    let up = Upstream::plain(Speaks::Http1).await;
    let lines = "original_dst_lb_config: { use_http_header: true }\ncleanup_interval: 0.2s\n";
    let naru = Naru::start(&Bootstrap::new(TO_UP).on_demand_cluster("up", lines));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let to = [("x-envoy-original-dst-host", up.address.to_string())];
    for _ in 0..3 {
        assert_eq!(ask(&mut client, &to).await, 204);
        let known = naru.clusters()[0].endpoints.clone();
        assert_eq!(known.iter().map(|one| one.address).collect::<Vec<_>>(), [up.address]);
        until("the endpoint to be forgotten", async || naru.clusters()[0].endpoints.is_empty().then_some(()))
            .await;
        until("its connection to be closed", async || (naru.upstream_connections().await == 0).then_some(()))
            .await;
    }
    assert_eq!(up.connections(), 3);
}

#[tokio::test]
async fn a_change_of_the_configuration_keeps_endpoints_and_connections() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = |lines: &str| {
        let lines = format!("original_dst_lb_config: {{ use_http_header: true }}\n{lines}");
        Bootstrap::new(TO_UP).on_demand_cluster("up", &lines)
    };
    let naru = Naru::start(&bootstrap(""));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let to = [("x-envoy-original-dst-host", up.address.to_string())];
    assert_eq!(ask(&mut client, &to).await, 204);
    naru.update(&bootstrap("connect_timeout: 2s\n").text()).await;
    assert_eq!(ask(&mut client, &to).await, 204);
    assert_eq!((up.connections(), naru.clusters()[0].endpoints[0].requests_total), (1, 2));
    drop(client);
    naru.settles().await;
}

/// An outbound listener beside these documents.
fn outbound(documents: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("entries.yaml", documents, &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let problems: Vec<_> = loaded.problems.iter().chain(&planned.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");
    planned.config
}

fn entry(resolution: &str, port: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: outside }}\nspec:\n  \
         hosts: [localhost, 127.0.0.1, \"*.nowhere.invalid\"]\n  {resolution}\n  \
         ports: [{{ number: {}, name: http, protocol: HTTP }}]\n",
        port.port()
    )
}

async fn start(config: Config) -> (Naru, Client) {
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let client = Client::plain(naru.address, Speaks::Http1).await;
    (naru, client)
}

#[tokio::test]
async fn a_host_that_is_an_address_is_its_own_endpoint() {
    let up = Upstream::plain(Speaks::Http1).await;
    let (naru, mut client) = start(outbound("")).await;
    assert_eq!(ask_for(&mut client, &up.address.to_string()).await, 204);
    assert_eq!(ask_for(&mut client, &refusing_address().to_string()).await, 503);
    // So is a name that no document has, by where it leads: Istio's ALLOW_ANY.
    assert_eq!(ask_for(&mut client, &format!("localhost:{}", up.address.port())).await, 204);
    assert_eq!(ask_for(&mut client, "nobody.nowhere.invalid").await, 503);
    drop(client);
    // In a tunnel as well.
    let mut client = Client::through(naru.address, &up.address.to_string(), Speaks::Http1, None).await;
    assert_eq!(ask_for(&mut client, &up.address.to_string()).await, 204);
    drop(client);
    naru.settles().await;
    assert_eq!(up.requests(), 3);
}

#[tokio::test]
async fn whom_no_document_knows_is_not_called_where_the_mesh_says_so() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mesh = "apiVersion: naru.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: mesh }\n\
                spec: { outboundTrafficPolicy: { mode: REGISTRY_ONLY } }\n---\n";
    let known = entry("resolution: NONE", up.address);
    let (naru, mut client) = start(outbound(&format!("{mesh}{known}"))).await;
    // Istio's BlackHoleCluster.
    assert_eq!(ask_for(&mut client, &format!("127.0.0.2:{}", up.address.port())).await, 502);
    assert_eq!(ask_for(&mut client, "nobody.nowhere.invalid").await, 502);
    assert_eq!(ask_for(&mut client, &up.address.to_string()).await, 204, "what is known is called");
    drop(client);
    naru.settles().await;
    assert_eq!(up.requests(), 1);
}

#[tokio::test]
async fn a_request_is_not_sent_back_to_where_it_came_in() {
    let mut config = outbound("");
    config.listeners[0].address = refusing_address_that_is_free();
    let own = config.listeners[0].address;
    let (naru, mut client) = start(config).await;
    for host in [own.to_string(), format!("127.0.0.2:{}", own.port()), format!("0.0.0.0:{}", own.port())] {
        assert_eq!(ask_for(&mut client, &host).await, 404, "{host}");
    }
    drop(client);
    naru.settles().await;
}

/// An address that nobody listens on.
fn refusing_address_that_is_free() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_host_without_resolution_is_looked_up_by_the_name_that_is_asked_for() {
    let up = Upstream::plain(Speaks::Http1).await;
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: outside }\n\
                spec: { host: 127.0.0.1, trafficPolicy: { loadBalancer: { simple: PASSTHROUGH } } }\n";
    let fixed = "resolution: STATIC\n  endpoints: [{ address: 10.255.255.1 }]";
    for (resolution, rule) in [("resolution: NONE", ""), ("resolution: DYNAMIC_DNS", ""), (fixed, rule)] {
        let documents = format!("{}{rule}", entry(resolution, up.address));
        let (naru, mut client) = start(outbound(&documents)).await;
        let port = up.address.port();
        assert_eq!(ask_for(&mut client, &format!("127.0.0.1:{port}")).await, 204, "{resolution}");
        if rule.is_empty() {
            assert_eq!(ask_for(&mut client, &format!("localhost:{port}")).await, 204, "{resolution}");
            let nobody = format!("a.nowhere.invalid:{port}");
            assert_eq!(ask_for(&mut client, &nobody).await, 503, "{resolution}");
        }
        drop(client);
        naru.settles().await;
    }
}
