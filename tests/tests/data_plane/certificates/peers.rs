//! Which clients are let in, and which upstreams are believed: names and hashes of certificates.

use std::net::SocketAddr;

use naru_spec::Certificate;
use naru_tests::bootstrap::{TO_UP, upstream_tls};
use naru_tests::certificates::Issued;
use naru_tests::openssl::openssl_says;
use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, client};
use naru_tls::{Connector, Terminator};
use rcgen::{CertificateParams, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whether a request of a client with this certificate is answered.
pub async fn is_served(address: SocketAddr, server: &Authority, certificate: Option<Certificate>) -> bool {
    let mut caller = server.caller(&["http/1.1"]);
    caller.certificate = certificate;
    let connector = Connector::build(&caller).unwrap();
    let Ok((mut client, _)) = Client::secured(address, Speaks::Http1Tls, &connector).await else {
        return false;
    };
    let get = client::request(http::Method::GET, "/bytes/2", Outbound::empty());
    client.send(get).await.is_ok()
}

/// What a request is answered with whose upstream is behind this terminator, and says 200 where it is believed.
pub async fn answered(naru: &Naru, up: &WireListener, terminator: &Terminator) -> http::StatusCode {
    let serve = async {
        loop {
            let Ok((mut stream, _)) = terminator.accept(up.accept_stream().await).await else { continue };
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let mut sink = [0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }
    };
    tokio::select! {
        answer = client::get(naru.address, "/") => answer.status,
        never = serve => never,
    }
}

/// With one name of each kind.
fn named(params: &mut CertificateParams) {
    params.subject_alt_names = vec![
        SanType::DnsName("client.naru.test".try_into().unwrap()),
        SanType::URI("spiffe://td/ns/shop/sa/cart".try_into().unwrap()),
        SanType::Rfc822Name("cart@naru.test".try_into().unwrap()),
        SanType::IpAddress("10.1.2.3".parse().unwrap()),
    ];
}

/// Of certificates, as OpenSSL's manuals say it is made.
pub async fn hashes(issued: &Issued) -> (String, String) {
    let said = openssl_says(&["x509", "-noout", "-fingerprint", "-sha256"], &issued.chain).await;
    let (_, hash) = said.trim().split_once('=').unwrap();
    let public = openssl_says(&["x509", "-pubkey", "-noout"], &issued.chain).await;
    let digest = "openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl enc -base64";
    let run = move || {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", digest]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = shell.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), public.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let key = tokio::task::spawn_blocking(run).await.unwrap();
    (hash.to_owned(), key.trim().to_owned())
}

#[tokio::test]
async fn a_client_is_let_in_by_a_name_of_the_kind_and_form_that_is_asked_for() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let own = clients.issue_with(named);
    for (matcher, is_taken) in [
        ("{ san_type: DNS, matcher: { exact: client.naru.test } }", true),
        ("{ san_type: DNS, matcher: { suffix: .naru.test } }", true),
        ("{ san_type: DNS, matcher: { prefix: server } }", false),
        ("{ san_type: URI, matcher: { prefix: 'spiffe://td/ns/shop/' } }", true),
        ("{ san_type: URI, matcher: { contains: /shop/ } }", true),
        ("{ san_type: URI, matcher: { safe_regex: { regex: 'spiffe://[^/]+/ns/[a-z]+/sa/cart' } } }", true),
        ("{ san_type: URI, matcher: { safe_regex: { regex: 'spiffe://' } } }", false),
        ("{ san_type: DNS, matcher: { prefix: 'spiffe://td/ns/shop/' } }", false),
        ("{ san_type: EMAIL, matcher: { exact: CART@naru.test, ignore_case: true } }", true),
        ("{ san_type: EMAIL, matcher: { exact: client.naru.test } }", false),
        ("{ san_type: IP_ADDRESS, matcher: { exact: 10.1.2.3 } }", true),
        (
            "{ san_type: DNS, matcher: { exact: no } }, { san_type: IP_ADDRESS, matcher: { prefix: '10.' } }",
            true,
        ),
    ] {
        let common = format!(
            "validation_context:\n  trusted_ca: {{ inline_string: {:?} }}\n  match_typed_subject_alt_names: [{matcher}]",
            clients.pem()
        );
        let required = "require_client_certificate: true";
        let naru = Naru::start(&Bootstrap::to(up.address).tls_of(&server.issue(), required, &common));
        let served = is_served(naru.address, &server, Some(own.clone().certificate())).await;
        assert_eq!(served, is_taken, "{matcher}");
        assert!(!is_served(naru.address, &server, None).await);
    }
}

#[tokio::test]
async fn a_client_is_let_in_by_the_hash_of_its_certificate_or_of_its_key() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let (own, other) = (clients.issue_for("own.test"), clients.issue_for("other.test"));
    let ((own_hash, own_key), (other_hash, other_key)) = (hashes(&own).await, hashes(&other).await);
    let plain = own_hash.replace(':', "").to_lowercase();
    for (pins, is_taken) in [
        (format!("verify_certificate_hash: ['{own_hash}']"), true),
        (format!("verify_certificate_hash: ['{plain}']"), true),
        (format!("verify_certificate_hash: ['{other_hash}']"), false),
        (format!("verify_certificate_spki: ['{other_key}', '{own_key}']"), true),
        (format!("verify_certificate_spki: ['{other_key}']"), false),
        (
            format!("verify_certificate_hash: ['{other_hash}']\n  verify_certificate_spki: ['{own_key}']"),
            true,
        ),
        (
            format!("verify_certificate_hash: ['{other_hash}']\n  verify_certificate_spki: ['{other_key}']"),
            false,
        ),
    ] {
        for authority in [String::new(), format!("\n  trusted_ca: {{ inline_string: {:?} }}", clients.pem())]
        {
            let common = format!("validation_context:\n  {pins}{authority}");
            let required = "require_client_certificate: true";
            let naru = Naru::start(&Bootstrap::to(up.address).tls_of(&server.issue(), required, &common));
            let served = is_served(naru.address, &server, Some(own.clone().certificate())).await;
            assert_eq!(served, is_taken, "{common}");
            assert!(!is_served(naru.address, &server, None).await, "{common}");
        }
    }
    // It needs no authority, but it needs the right one where there is one.
    let stranger = Authority::new();
    let common = format!(
        "validation_context: {{ verify_certificate_hash: ['{plain}'], trusted_ca: {{ inline_string: {:?} }} }}",
        stranger.pem()
    );
    let naru = Naru::start(&Bootstrap::to(up.address).tls_of(&server.issue(), "", &common));
    assert!(!is_served(naru.address, &server, Some(own.certificate())).await);
    assert!(is_served(naru.address, &server, None).await, "nobody has to have one");
}

#[tokio::test]
async fn an_upstream_is_believed_by_a_name_or_a_hash() {
    let authority = Authority::new();
    let issued = authority.issue_with(named);
    let (hash, key) = hashes(&issued).await;
    let (_, wrong) = hashes(&authority.issue()).await;
    let terminator =
        naru_tls::Terminator::build(&naru_spec::DownstreamTls::new(vec![issued.certificate()])).unwrap();
    let unverified = "validation_context: { trusted_ca";
    for (tests, status) in [
        (
            "match_typed_subject_alt_names: [{ san_type: EMAIL, matcher: { exact: cart@naru.test } }]"
                .to_owned(),
            200,
        ),
        (
            "match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: cart@naru.test } }]"
                .to_owned(),
            503,
        ),
        (format!("verify_certificate_hash: ['{hash}']"), 200),
        (format!("verify_certificate_spki: ['{key}']"), 200),
        (format!("verify_certificate_spki: ['{wrong}']"), 503),
    ] {
        let up = WireListener::bind().await;
        let tls = upstream_tls(&authority)
            .replace(unverified, &format!("validation_context: {{ {tests}, trusted_ca"));
        assert!(tls.contains(&tests));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &tls));
        assert_eq!(answered(&naru, &up, &terminator).await, status, "{tests}");
    }
}
