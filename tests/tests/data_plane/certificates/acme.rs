//! Certificates from a server of ACME, by the real one that looks for itself.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use naru_tests::files::Directory;
use naru_tests::pebble::{Pebble, served};
use naru_tests::up::free_address;
use naru_tests::{Answer, Client, Outbound, Speaks, Up, Upstream, client, until};

/// A gateway of two addresses; what comes without TLS is sent there.
fn documents(plain: SocketAddr, tls: SocketAddr, hosts: &str, issuer: &str, up: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  servers:
  - {{ port: {{ number: {}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'], tls: {{ httpsRedirect: true }} }}
  - {{ port: {{ number: {}, name: https, protocol: HTTPS }}, bind: 127.0.0.1, hosts: {hosts}, tls: {{ mode: SIMPLE }} }}
---
apiVersion: naru.dev/v1alpha1
kind: AcmeIssuer
metadata: {{ name: edge }}
spec:
  targetRef: {{ kind: Gateway, name: edge }}
{issuer}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: up }}
spec:
  hosts: [up.test]
  ports: [{{ number: {}, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints: [{{ address: {} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: up }}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{ route: [{{ destination: {{ host: up.test, port: {{ number: {} }} }} }}] }}]
",
        plain.port(),
        tls.port(),
        up.port(),
        up.ip(),
        up.port(),
    )
}

fn issuer(pebble: &Pebble, challenge: &str) -> String {
    format!(
        "  server: {}\n  email: someone@naru.test\n  challenge: {challenge}\n  caCertificates: {}\n",
        pebble.url,
        pebble.trusted_ca()
    )
}

async fn start(documents: String, state: &Directory) -> Up {
    let state = state.path("state").display().to_string();
    Up::start(&[("edge.yaml", documents)], &["--state", &state, "--workers", "2"]).await
}

async fn get(client: &mut Client, path: &str) -> Answer {
    let mut get = client::request(http::Method::GET, path, Outbound::empty());
    get.headers_mut().insert("host", "a.naru.test".parse().unwrap());
    client.exchange(get).await
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_certificate_is_had_by_http_kept_over_restarts_and_renewed() {
    let (plain, tls) = (free_address(), free_address());
    let up = Upstream::plain(Speaks::Http1).await;
    let pebble = Pebble::start(plain.port(), 1, 30).await;
    let root = pebble.issuing_ca().await;
    let state = Directory::new();
    let text = documents(plain, tls, "[a.naru.test, b.naru.test]", &issuer(&pebble, "HTTP-01"), up.address);
    let naru = start(text.clone(), &state).await;
    let first = until("a certificate", async || served(tls, "a.naru.test", &root).await).await;
    assert_eq!(served(tls, "b.naru.test", &root).await, Some(first.clone()), "one for all names");
    // Nobody without TLS notices that something is proved there.
    let mut client = Client::plain(plain, Speaks::Http1).await;
    assert_eq!(get(&mut client, "/x").await.status, 301);
    let kept = state.path("state/acme/edge.default");
    for (path, expected) in
        [(kept.clone(), 0o700), (kept.join("account.json"), 0o600), (kept.join("certificate.pem"), 0o600)]
    {
        assert_eq!(mode(&path), expected, "{path:?}");
    }
    let account = std::fs::read(kept.join("account.json")).unwrap();
    drop(naru);
    let naru = start(text, &state).await;
    let again = until("the certificate of before", async || served(tls, "a.naru.test", &root).await).await;
    let second = until("another certificate", async || {
        served(tls, "a.naru.test", &root).await.filter(|number| *number != first)
    })
    .await;
    assert!(again == first || again == second);
    assert_eq!(std::fs::read(kept.join("account.json")).unwrap(), account, "by the same account");
    assert!(naru.said().contains("there is a certificate for a.naru.test, b.naru.test"), "{}", naru.said());
}

/// Whoever comes after a process that ended in the midst of it goes on with its order; and whoever comes beside one waits.
#[tokio::test]
async fn what_is_ordered_is_not_ordered_again_by_the_next_process() {
    let (plain, tls) = (free_address(), free_address());
    let up = Upstream::plain(Speaks::Http1).await;
    let pebble = Pebble::start(plain.port(), 1, 86_400).await;
    let root = pebble.issuing_ca().await;
    let state = Directory::new();
    let text = documents(plain, tls, "[a.naru.test]", &issuer(&pebble, "HTTP-01"), up.address);
    let kept = state.path("state/acme/edge.default");
    let has_ordered = async || {
        let (order, certificate) = (kept.join("order.json"), kept.join("certificate.pem"));
        (order.exists() || certificate.exists()).then_some(())
    };
    // Where it is quicker than we are there is nothing left to go on with.
    let naru = start(text.clone(), &state).await;
    until("an order", has_ordered).await;
    drop(naru);
    let account = std::fs::read(kept.join("account.json")).unwrap();
    let naru = start(text.clone(), &state).await;
    let addresses = (free_address(), free_address());
    let other = issuer(&pebble, "HTTP-01");
    let other = documents(addresses.0, addresses.1, "[a.naru.test]", &other, up.address);
    // Only the first can prove anything: it is at it already, or done.
    until("the first to be at it", has_ordered).await;
    let beside = start(other, &state).await;
    let number = until("a certificate", async || served(tls, "a.naru.test", &root).await).await;
    let same = until("the same", async || served(addresses.1, "a.naru.test", &root).await).await;
    assert_eq!(same, number);
    assert_eq!(pebble.orders(), 1, "{}\n{}", naru.said(), beside.said());
    assert_eq!(std::fs::read(kept.join("account.json")).unwrap(), account);
    assert!(!kept.join("order.json").exists());
}

#[tokio::test]
async fn a_certificate_is_had_by_tls_and_outlives_its_issuer() {
    let (plain, tls) = (free_address(), free_address());
    let up = Upstream::plain(Speaks::Http1).await;
    let pebble = Pebble::start(1, tls.port(), 86_400).await;
    let root = pebble.issuing_ca().await;
    let state = Directory::new();
    let text = documents(plain, tls, "[a.naru.test]", &issuer(&pebble, "TLS-ALPN-01"), up.address);
    let naru = start(text.clone(), &state).await;
    let first = until("a certificate", async || served(tls, "a.naru.test", &root).await).await;
    // Another host: the certificate of before serves until there is one for both.
    let both = text.replace("[a.naru.test]", "[a.naru.test, c.naru.test]");
    naru.save("edge.yaml", &both);
    let second = until("one for both", async || {
        assert!(served(tls, "a.naru.test", &root).await.is_some(), "never without");
        served(tls, "c.naru.test", &root).await
    })
    .await;
    assert_ne!(first, second);
    drop(naru);
    let root = state.write("root.pem", &std::fs::read_to_string(root).unwrap()).display().to_string();
    drop(pebble);
    let naru = start(both, &state).await;
    assert_eq!(served(tls, "a.naru.test", &root).await, Some(second), "nobody is asked for it");
    let connector = naru_tls::Connector::build(&naru_spec::UpstreamTls {
        sni: Some("a.naru.test".to_owned()),
        trusted_ca: Some(naru_spec::DataSource::File(root)),
        alpn: vec!["h2".to_owned()],
        ..naru_spec::UpstreamTls::default()
    })
    .unwrap();
    let (mut client, _) = Client::secured(tls, Speaks::Http2Tls, &connector).await.unwrap();
    assert_eq!(get(&mut client, "/bytes/3").await.text(), "xxx");
    drop(naru);
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_is_told_of_and_listeners_are_open_all_the_same() {
    let (plain, tls) = (free_address(), free_address());
    let up = Upstream::plain(Speaks::Http1).await;
    let state = Directory::new();
    let nobody = format!("  server: https://localhost:{}/dir\n", free_address().port());
    let naru = start(documents(plain, tls, "[a.naru.test]", &nobody, up.address), &state).await;
    until("it to be told", async || {
        naru.said().contains("error: no certificate for a.naru.test").then_some(())
    })
    .await;
    assert!(naru.said().contains("the next attempt is in"), "{}", naru.said());
    let anyone = naru_spec::UpstreamTls { sni: Some("a.naru.test".to_owned()), ..Default::default() };
    let connector = naru_tls::Connector::build(&anyone).unwrap();
    let (mut client, _) = Client::secured(tls, Speaks::Http1Tls, &connector).await.unwrap();
    assert_eq!(get(&mut client, "/bytes/3").await.text(), "xxx");
    assert!(!state.path("state/acme/edge.default/certificate.pem").exists());
}
