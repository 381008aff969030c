//! Calls between proxies, `ISTIO_MUTUAL`: naru and Envoy on either side, by certificates that the control plane issues.

use std::net::SocketAddr;

use http::{HeaderValue, Method, header};
use naru_spec::{Certificate, DataSource, UpstreamTls};
use naru_tests::client::request;
use naru_tests::control::{bootstrap, is_current, status};
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Authority, Client, Control, Envoy, Outbound, Speaks, Up, Upstream, until};
use naru_tls::Connector;
use tokio::net::TcpStream;

use super::free_port;
use super::ours::Proxy;

const NARU: [u8; 4] = [127, 0, 0, 2];
const ENVOY: [u8; 4] = [127, 0, 0, 3];
const SHOP: [u8; 4] = [127, 0, 0, 4];

/// A host that is called between proxies, each time by a connection of its own.
fn called(name: &str, address: SocketAddr, account: &str, mode: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {name} }}
spec:
  hosts: [{name}.test]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP, targetPort: {port} }}]
  endpoints: [{{ address: {ip}{account} }}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: {name} }}
spec:
  host: {name}.test
  trafficPolicy:
    tls: {{ mode: {mode} }}
    connectionPool: {{ http: {{ maxRequestsPerConnection: 1 }} }}
",
        ip = address.ip(),
        port = address.port(),
    )
}

/// A gateway that is called by others of the mesh only, and lets one account in.
fn gateway(port: u16, upstream: SocketAddr) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: inner }}
spec:
  selector: {{ istio: inner }}
  servers:
  - port: {{ number: {port}, name: https, protocol: HTTPS }}
    hosts: ['*']
    tls: {{ mode: ISTIO_MUTUAL }}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: inner }}
spec:
  selector: {{ matchLabels: {{ istio: inner }} }}
  rules: [{{ from: [{{ source: {{ principals: [cluster.local/ns/default/sa/web] }} }}] }}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: behind }}
spec:
  hosts: [behind.test]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP, targetPort: {} }}]
  endpoints: [{{ address: {} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: inner }}
spec:
  hosts: ['*']
  gateways: [inner]
  http: [{{ route: [{{ destination: {{ host: behind.test }} }}] }}]
",
        upstream.port(),
        upstream.ip(),
    )
}

/// What a call of a host says through the listener of a workload.
async fn calls(outbound: SocketAddr, host: &str) -> u16 {
    until("the workload's own proxy to listen", async || TcpStream::connect(outbound).await.ok()).await;
    let mut asked = request(Method::GET, "/describe", Outbound::empty());
    asked.headers_mut().insert(header::HOST, HeaderValue::try_from(format!("{host}.test")).unwrap());
    Client::plain(outbound, Speaks::Http1).await.exchange(asked).await.status.as_u16()
}

async fn all_accepted(control: &Control, ids: &[&str]) {
    for id in ids {
        let told = is_current(control.admin, id).await;
        for kind in told["resources"].as_array().unwrap() {
            assert!(kind["refused"].is_null(), "{told}");
        }
    }
}

/// Whoever is not of the mesh is served nothing there.
async fn refuses_strangers(at: SocketAddr) {
    let stranger = Authority::new().issue_with(|params| {
        let name = "spiffe://cluster.local/ns/default/sa/web";
        params.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    });
    let pem = |text: &str| DataSource::Inline(text.as_bytes().to_vec());
    for certificate in [None, Some(Certificate::new(pem(&stranger.chain), pem(&stranger.key)))] {
        let tls = UpstreamTls { certificate, sni: Some("a.test".to_owned()), ..UpstreamTls::default() };
        let connector = Connector::build(&tls).unwrap().with_alpn(&["http/1.1"]).unwrap();
        // In TLS 1.3 a client hears of it when it asks.
        let Ok((mut client, _)) = Client::secured(at, Speaks::Http1Tls, &connector).await else { continue };
        let asked = client.send(request(Method::GET, "/describe", Outbound::empty())).await;
        assert!(asked.is_err(), "{at}: {asked:?}");
    }
}

#[tokio::test]
async fn proxies_call_each_other_by_certificates_of_the_mesh() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let (port, inbound) = (free_port(), free_port());
    let shop = SocketAddr::from((SHOP, inbound));
    let hosts = [
        called("naru", (NARU, port).into(), "", "ISTIO_MUTUAL"),
        called("envoy", (ENVOY, port).into(), "", "ISTIO_MUTUAL"),
        called("shop", shop, ", serviceAccount: shop", "ISTIO_MUTUAL"),
        called("plain", shop, "", "DISABLE"),
        called("mistaken", shop, ", serviceAccount: bank", "ISTIO_MUTUAL"),
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{ name: shop }}
spec:
  workloadSelector: {{ labels: {{ app: shop }} }}
  ingress: [{{ port: {{ number: {inbound}, name: http, protocol: HTTP }}, defaultEndpoint: '{}' }}]
",
            upstream.address
        ),
    ];
    let directory = Directory::new();
    directory.write("all.yaml", &(gateway(port, upstream.address) + &hosts.concat()));
    let config = directory.path("").display().to_string();
    let arguments = ["--config", &config, "--workload-cert-ttl", "10"];
    let control = Control::run(directory, free_address(), &arguments).await;
    let inner = ["--label", "istio=inner", "--gateway-address"];
    let _naru = Proxy::start(control.xds, &[&inner[..], &["127.0.0.2", "--id", "naru"]].concat());
    let envoy = ["--envoy", "--admin", "127.0.0.1:0", "--id", "envoy"];
    let _envoy = Envoy::start(&bootstrap(control.xds, &[&envoy, &inner[..], &["127.0.0.3"]].concat())).await;
    let sidecar = ["--role", "sidecar", "--outbound-address"];
    let [web, other, of_envoy, own] = [(); 4].map(|()| free_address());
    let texts = [web, other, of_envoy, own].map(|address| address.to_string());
    let account = |name: &'static str| ["--service-account", name, "--id"];
    let start = |text: &str, account: &[&str], id: &str, more: &[&str]| {
        Proxy::start(control.xds, &[&sidecar[..], &[text], account, &[id], more].concat())
    };
    let _web = start(&texts[0], &account("web"), "web", &[]);
    let _other = start(&texts[1], &account("other"), "other", &[]);
    let at_shop = ["--inbound-address", "127.0.0.4", "--label", "app=shop"];
    let _shop = start(&texts[3], &account("shop"), "shop", &at_shop);
    let calling = ["--envoy", "--admin", "127.0.0.1:0"];
    let calling = [&calling[..], &sidecar, &[&texts[2]], &account("web"), &["calling"]].concat();
    let _calling = Envoy::start(&bootstrap(control.xds, &calling)).await;
    all_accepted(&control, &["naru", "envoy", "web", "other", "shop", "calling"]).await;
    let has_taken = async || {
        let told = status(control.admin).await;
        let proxies = told["proxies"].as_array().unwrap();
        let naru = proxies.iter().find(|proxy| proxy["id"] == "naru").unwrap();
        let kinds = naru["resources"].as_array().unwrap();
        kinds.iter().find(|kind| kind["kind"] == "secrets").unwrap()["accepted"]["version"].clone()
    };
    for round in 0..2 {
        for ip in [NARU, ENVOY] {
            let at = SocketAddr::from((ip, port));
            until("the gateway to listen", async || TcpStream::connect(at).await.ok()).await;
            refuses_strangers(at).await;
        }
        until("the workload to listen", async || TcpStream::connect(shop).await.ok()).await;
        for (outbound, who) in [(web, "naru"), (of_envoy, "envoy")] {
            for host in ["naru", "envoy", "shop", "plain"] {
                assert_eq!(calls(outbound, host).await, 200, "{round}: {who} calls {host}");
            }
            // Whoever answers is somebody else than the documents say.
            assert_eq!(calls(outbound, "mistaken").await, 503, "{round}: {who}");
        }
        for host in ["naru", "envoy"] {
            assert_eq!(calls(other, host).await, 403, "{round}: {host}");
        }
        if round == 0 {
            let before = has_taken().await;
            until("another certificate", async || (has_taken().await != before).then_some(())).await;
        }
    }
    assert_eq!(upstream.requests(), 16);
}

/// Two control planes whose documents bring the same authority, or bring none.
#[tokio::test]
async fn proxies_of_two_control_planes_believe_each_other_by_one_authority() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let documents =
        gateway(port, upstream.address) + &called("naru", (NARU, port).into(), "", "ISTIO_MUTUAL");
    let made = std::process::Command::new(program()).args(["config", "authority"]).output().unwrap();
    let authority = String::from_utf8(made.stdout).unwrap();
    let gate = Control::start(&[("all.yaml", documents.clone())]).await;
    let of_web = Control::start(&[("all.yaml", documents)]).await;
    let _naru =
        Proxy::start(gate.xds, &["--label", "istio=inner", "--gateway-address", "127.0.0.2", "--id", "naru"]);
    let outbound = free_address();
    let text = outbound.to_string();
    let sidecar =
        ["--role", "sidecar", "--outbound-address", &text, "--service-account", "web", "--id", "web"];
    let _web = Proxy::start(of_web.xds, &sidecar);
    all_accepted(&gate, &["naru"]).await;
    all_accepted(&of_web, &["web"]).await;
    assert_eq!(calls(outbound, "naru").await, 503, "each has made an authority of its own");
    gate.save("cacerts.yaml", &authority);
    of_web.save("cacerts.yaml", &authority);
    until("both to be of one mesh", async || (calls(outbound, "naru").await == 200).then_some(())).await;
}

/// `naru up` is a gateway that is called so, and others are told of it.
#[tokio::test]
async fn what_is_up_is_called_so_too() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let (port, xds) = (free_port(), free_address());
    let here = SocketAddr::from((NARU, port));
    let text =
        gateway(port, upstream.address) + &called("inner", here, ", serviceAccount: naru", "ISTIO_MUTUAL");
    let text =
        text.replace("metadata: { name: inner }", "metadata: { name: inner, namespace: istio-system }");
    let up = Up::start(
        &[("all.yaml", text)],
        &["--gateway-address", "127.0.0.2", "--xds", &xds.to_string(), "--workload-cert-ttl", "10"],
    )
    .await;
    let outbound = free_address();
    let outbounds = outbound.to_string();
    let sidecar = ["--role", "sidecar", "--outbound-address", &outbounds, "--service-account", "web"];
    let _web = Proxy::start(xds, &[&sidecar[..], &["--id", "web"]].concat());
    is_current(up.admin, "web").await;
    refuses_strangers(here).await;
    assert_eq!(calls(outbound, "inner").await, 200, "{}", up.said());
    // A save that cannot be takes nothing away.
    up.save("wrong.yaml", "kind: [");
    until("it to be told", async || up.said().contains("wrong.yaml").then_some(())).await;
    // What was issued in the beginning holds no longer.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(calls(outbound, "inner").await, 200, "{}", up.said());
    assert_eq!(upstream.requests(), 2);
}
