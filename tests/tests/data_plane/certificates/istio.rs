//! TLS of Istio's documents: of servers of a Gateway, of DestinationRules.

use naru_base::Reason;
use naru_doc::Loaded;
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::Config;
use naru_tests::certificates::Issued;
use naru_tests::files::Directory;
use naru_tests::openssl::handshake;
use naru_tests::up::free_address;
use naru_tests::{Authority, Naru, Speaks, Upstream, client};

use super::peers::{hashes, is_served};

const OPTIONS: Options = Options { workers: 1, seed: Some(1) };

/// What documents make of a proxy.
fn planned(text: &str, surroundings: &Surroundings) -> Config {
    let mut loaded = Loaded::default();
    naru_doc::load("mesh.yaml", text, &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let planned = plan(&loaded.resources, surroundings);
    assert!(!planned.has_errors(), "{:?}", planned.problems);
    planned.config
}

/// A gateway whose one server says this of TLS.
fn gateway(files: &Directory, server: &Issued, up: &Upstream, tls: &str, documents: &str) -> Naru {
    let own = files.write("own.pem", &server.chain);
    let key = files.write("own.key", &server.key);
    let (address, ip, port) = (free_address(), up.address.ip(), up.address.port());
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n  \
         - port: {{number: {}, protocol: HTTPS, name: https}}\n    hosts: ['*']\n    tls:\n      \
         serverCertificate: {}\n      privateKey: {}\n{tls}---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: up}}\nspec:\n  \
         hosts: [up.test]\n  ports: [{{number: {port}, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: {ip}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: up}}\nspec:\n  hosts: ['*']\n  \
         gateways: [edge]\n  http: [{{route: [{{destination: {{host: up.test, port: {{number: {port}}}}}}}]}}]\n{documents}",
        address.port(),
        own.display(),
        key.display(),
    );
    let surroundings =
        Surroundings { clients: Vec::new(), gateway_address: address.ip(), ..Surroundings::default() };
    Naru::start_on(planned(&text, &surroundings), &OPTIONS)
}

#[tokio::test]
async fn servers_of_a_gateway_let_in_whom_they_say() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let numbered = |number: u64| clients.issue_with(|params| params.serial_number = Some(number.into()));
    let (own, other) = (numbered(3), clients.issue_for("other.test"));
    let (hash, key) = hashes(&own).await;
    let ca = files.write("ca.pem", &clients.pem()).display().to_string();
    let revoking_own = files.write("own.crl", &clients.revokes(&[3], true)).display().to_string();
    let mutual = format!("      mode: MUTUAL\n      caCertificates: {ca}\n");
    for (tls, expected) in [
        (mutual.clone(), (true, true, false)),
        (mutual.replace("MUTUAL", "OPTIONAL_MUTUAL"), (true, true, true)),
        (format!("{mutual}      subjectAltNames: [naru.test]\n"), (true, false, false)),
        (format!("{mutual}      verifyCertificateHash: ['{hash}']\n"), (true, false, false)),
        (format!("{mutual}      verifyCertificateSpki: ['{key}']\n"), (true, false, false)),
        (format!("{mutual}      caCrl: {revoking_own}\n"), (false, true, false)),
        (
            format!("      mode: OPTIONAL_MUTUAL\n      verifyCertificateHash: ['{hash}']\n"),
            (true, false, true),
        ),
    ] {
        let naru = gateway(&files, &server.issue(), &up, &tls, "");
        let served = (
            is_served(naru.address, &server, Some(own.clone().certificate())).await,
            is_served(naru.address, &server, Some(other.clone().certificate())).await,
            is_served(naru.address, &server, None).await,
        );
        assert_eq!(served, expected, "{tls}");
    }
}

#[tokio::test]
async fn a_secret_may_hold_what_was_revoked() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let issued = server.issue();
    let revoked = clients.issue_with(|params| params.serial_number = Some(3_u64.into()));
    let (list, ca) = (clients.revokes(&[3], true), clients.pem());
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: clients}}\nstringData:\n  ca.crt: {ca:?}\n  ca.crl: {list:?}\n"
    );
    let tls = "      mode: MUTUAL\n      caCertCredentialName: clients\n";
    let naru = gateway(&files, &issued, &up, tls, &secret);
    assert!(!is_served(naru.address, &server, Some(revoked.certificate())).await);
    assert!(is_served(naru.address, &server, Some(clients.issue().certificate())).await);
}

#[tokio::test]
async fn a_server_of_a_gateway_speaks_the_suites_and_versions_that_it_lists() {
    let (server, up, files) = (Authority::new(), Upstream::plain(Speaks::Http1).await, Directory::new());
    let suite = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let naru = gateway(
        &files,
        &server.issue(),
        &up,
        &format!("      mode: SIMPLE\n      cipherSuites: [{suite}]\n      maxProtocolVersion: TLSV1_2\n"),
        "",
    );
    let (is_agreed, said) = handshake(naru.address, &[]).await;
    assert!(is_agreed && said.contains(suite) && said.contains("TLSv1.2"), "{said}");
    let (is_agreed, _) = handshake(naru.address, &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]).await;
    assert!(!is_agreed);
    let newest = "      mode: SIMPLE\n      minProtocolVersion: TLSV1_3\n";
    let naru = gateway(&files, &server.issue(), &up, newest, "");
    assert!(!handshake(naru.address, &["-tls1_2"]).await.0);
    assert!(handshake(naru.address, &["-tls1_3"]).await.0);
}

#[tokio::test]
async fn a_destination_rule_may_name_a_file_of_what_was_revoked() {
    let authority = Authority::new();
    let up = Upstream::serve(Speaks::Http1Tls, &authority).await;
    let files = Directory::new();
    let ca = files.write("ca.pem", &authority.pem()).display().to_string();
    for (holds, status, reason) in [(true, 200, Reason::Forwarded), (false, 503, Reason::UpstreamTls)] {
        let list = files.write("ca.crl", &authority.revokes(&[], holds)).display().to_string();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: up}}\nspec:\n  \
             hosts: [naru.test]\n  ports: [{{number: {}, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
             endpoints: [{{address: {}}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up}}\nspec:\n  \
             host: naru.test\n  trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {ca}, caCrl: {list}}}}}\n",
            up.address.port(),
            up.address.ip(),
        );
        let naru = Naru::start_on(planned(&text, &Surroundings::default()), &OPTIONS);
        let mut plain = client::Client::plain(naru.address, Speaks::Http1).await;
        let mut get = client::request(http::Method::GET, "/bytes/1", naru_tests::Outbound::empty());
        let host = format!("naru.test:{}", up.address.port());
        get.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(plain.exchange(get).await.status, status, "{holds}");
        assert_eq!(naru.ended(1).await, [(status, reason)]);
    }
}
