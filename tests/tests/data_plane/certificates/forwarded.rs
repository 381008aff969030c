//! `x-forwarded-client-cert`, beside the real Envoy.

use std::net::SocketAddr;

use naru_tests::certificates::Issued;
use naru_tests::upstream::headers;
use naru_tests::{Authority, Bootstrap, Client, Envoy, Naru, Outbound, Speaks, Upstream, client};
use naru_tls::Connector;
use rcgen::{DnType, SanType};

const MODES: [&str; 5] =
    ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];

/// Who asks a proxy, and what they say.
struct Asker<'a> {
    server: &'a Authority,
    certificate: Option<&'a Issued>,
    says: &'a [&'static str],
}

impl Asker<'_> {
    /// What the upstream is told, twice on one connection.
    async fn ask(&self, address: SocketAddr) -> Vec<String> {
        let mut caller = self.server.caller(&["http/1.1"]);
        caller.certificate = self.certificate.map(|issued| issued.clone().certificate());
        let connector = Connector::build(&caller).unwrap();
        let (mut client, _) = Client::secured(address, Speaks::Http1Tls, &connector).await.unwrap();
        let mut told = Vec::new();
        for _ in 0..2 {
            let mut get = client::request(http::Method::GET, "/describe", Outbound::empty());
            for value in self.says {
                get.headers_mut().append("x-forwarded-client-cert", value.parse().unwrap());
            }
            let described = client.exchange(get).await.json();
            told.push(headers(&described, "x-forwarded-client-cert").join(" | "));
        }
        assert_eq!(told[0], told[1]);
        told
    }
}

#[tokio::test]
async fn upstreams_are_told_of_client_certificates_what_envoy_tells_them() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let many = clients.issue_with(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("client.naru.test".try_into().unwrap()),
            SanType::URI("spiffe://td/ns/shop/sa/cart".try_into().unwrap()),
            SanType::URI("https://cart.naru.test/".try_into().unwrap()),
            SanType::DnsName("*.naru.test".try_into().unwrap()),
        ];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "KR");
        params.distinguished_name.push(DnType::OrganizationName, "나루, \"Inc.\"; #1");
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "unknown");
        params.distinguished_name.push(DnType::CommonName, "cart+1 ");
    });
    let bare = clients.issue_with(|params| {
        params.subject_alt_names.clear();
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    // What a client sends with its certificate is part of its chain.
    let chained = Issued { chain: format!("{}{}", many.chain, clients.pem()), key: many.key.clone() };
    let own = server.issue_with(|params| {
        params.subject_alt_names.push(SanType::URI("spiffe://td/ns/edge/sa/naru".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("spiffe://td/other".try_into().unwrap()));
    });
    let nothing = "set_current_client_cert_details: {}";
    let names = "set_current_client_cert_details: { subject: true, dns: true, uri: true }";
    let all =
        "set_current_client_cert_details: { subject: true, cert: true, chain: true, dns: true, uri: true }";
    let mut told_anything = 0;
    for mode in MODES {
        for details in [nothing, names, all] {
            let common =
                format!("validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}", clients.pem());
            let manager = format!("forward_client_cert_details: {mode}\n{details}\n");
            let bootstrap = Bootstrap::to(up.address).manager(&manager).tls_of(&own, "", &common).admin();
            let envoy = Envoy::start(&bootstrap.text()).await;
            let naru = Naru::start(&bootstrap);
            for certificate in [None, Some(&many), Some(&bare), Some(&chained)] {
                for says in [&[][..], &["By=x;Hash=1"], &["By=x;Hash=1", "By=y,By=z"]] {
                    let asker = Asker { server: &server, certificate, says };
                    let by_envoy = asker.ask(envoy.address).await;
                    let by_naru = asker.ask(naru.address).await;
                    assert_eq!(by_naru, by_envoy, "{mode} {details} {says:?}");
                    told_anything += usize::from(by_envoy[0].contains("Hash="));
                }
            }
            naru.settles().await;
        }
    }
    assert!(told_anything > 60, "{told_anything}");
}

#[tokio::test]
async fn a_connection_that_stays_tells_what_the_newest_configuration_wants() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let own = server.issue();
    let text = |manager: &str| {
        let common =
            format!("validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}", clients.pem());
        Bootstrap::to(up.address).manager(manager).tls_of(&own, "", &common).text()
    };
    let naru = Naru::on(&text("forward_client_cert_details: SANITIZE_SET\n"));
    let mut caller = server.caller(&["http/1.1"]);
    caller.certificate = Some(clients.issue_for("client.test").certificate());
    let connector = Connector::build(&caller).unwrap();
    let (mut client, _) = Client::secured(naru.address, Speaks::Http1Tls, &connector).await.unwrap();
    let told = async |client: &mut Client| {
        let described = client.get("/describe").await.json();
        headers(&described, "x-forwarded-client-cert").join("")
    };
    let first = told(&mut client).await;
    assert!(first.starts_with("Hash=") && !first.contains("DNS="), "{first}");
    naru.update(&text(
        "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: { dns: true }\n",
    ))
    .await;
    assert_eq!(told(&mut client).await, format!("{first};DNS=client.test"));
    naru.update(&text("")).await;
    assert_eq!(told(&mut client).await, "");
    // Who takes a session up again is known by it.
    naru.update(&text("forward_client_cert_details: SANITIZE_SET\n")).await;
    let (mut again, _) = Client::secured(naru.address, Speaks::Http1Tls, &connector).await.unwrap();
    assert_eq!(told(&mut again).await, first);
}
