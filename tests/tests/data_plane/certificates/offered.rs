//! Cipher suites and groups of key exchange, on both sides.

use naru_base::Reason;
use naru_spec::{CipherSuite, Curve, DownstreamTls, Offered, TlsVersion};
use naru_tests::bootstrap::{TO_UP, upstream_tls};
use naru_tests::openssl::handshake;
use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, client};
use naru_tls::Terminator;

const AES_128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const AES_256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
const CHACHA: &str = "ECDHE-ECDSA-CHACHA20-POLY1305";

/// A listener that offers this.
async fn offering(parameters: &str) -> (Naru, Upstream) {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let common = format!("tls_params: {{ {parameters} }}");
    let bootstrap = Bootstrap::to(up.address).tls_of(&authority.issue(), "", &common);
    (Naru::start(&bootstrap), up)
}

#[tokio::test]
async fn suites_are_taken_in_the_listeners_order_and_others_are_not_spoken() {
    let (naru, _up) = offering(&format!("cipher_suites: [{AES_256}, '{CHACHA}:AES128-SHA']")).await;
    for (offered, expected) in [
        (format!("{AES_128}:{CHACHA}:{AES_256}"), Some(AES_256)),
        (format!("{AES_128}:{CHACHA}"), Some(CHACHA)),
        (AES_128.to_owned(), None),
        ("AES128-SHA".to_owned(), None),
    ] {
        let (is_agreed, said) = handshake(naru.address, &["-tls1_2", "-cipher", &offered]).await;
        assert_eq!(is_agreed, expected.is_some(), "{offered}: {said}");
        if let Some(expected) = expected {
            assert!(said.contains(&format!("Ciphersuite: {expected}")), "{offered}: {said}");
        }
    }
    let (is_agreed, said) =
        handshake(naru.address, &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]).await;
    assert!(is_agreed && said.contains("TLS_AES_128_GCM_SHA256"), "those of TLS 1.3 stay: {said}");
}

#[tokio::test]
async fn among_suites_that_stand_together_the_clients_first_is_taken() {
    let group = format!("cipher_suites: ['[{AES_128}|{CHACHA}]', {AES_256}]");
    let (naru, _up) = offering(&group).await;
    for (offered, expected) in [
        (format!("{AES_128}:{CHACHA}"), AES_128),
        (format!("{CHACHA}:{AES_128}"), CHACHA),
        (format!("{AES_256}:{CHACHA}"), CHACHA),
        (AES_256.to_owned(), AES_256),
    ] {
        let (is_agreed, said) = handshake(naru.address, &["-tls1_2", "-cipher", &offered]).await;
        assert!(is_agreed && said.contains(&format!("Ciphersuite: {expected}")), "{offered}: {said}");
    }
}

#[tokio::test]
async fn only_the_groups_that_are_listed_are_used() {
    let (naru, _up) = offering("ecdh_curves: [P-384, X25519]").await;
    for (groups, expected) in
        [("P-256:P-384", Some("384 bits")), ("X25519:P-256", Some("X25519")), ("P-256:P-521", None)]
    {
        for version in ["-tls1_2", "-tls1_3"] {
            let (is_agreed, said) = handshake(naru.address, &[version, "-groups", groups]).await;
            assert_eq!(is_agreed, expected.is_some(), "{version} {groups}: {said}");
            if let Some(expected) = expected {
                assert!(said.contains(expected), "{version} {groups}: {said}");
            }
        }
    }
}

/// Answers one request in TLS that offers this.
async fn serve_once(up: &WireListener, authority: &Authority, offered: Offered) {
    let terminator = Terminator::build(&DownstreamTls {
        offered,
        version_max: TlsVersion::V1_2,
        ..DownstreamTls::new(vec![authority.issue().certificate()])
    })
    .unwrap();
    let Ok((mut stream, _)) = terminator.accept(up.accept_stream().await).await else { return };
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    let mut sink = [0; 4096];
    while tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn an_upstream_is_offered_what_its_cluster_lists() {
    let authority = Authority::new();
    let only = |suite, curve| Offered { suites: vec![vec![suite]], curves: vec![curve] };
    for (parameters, offered, status, reason) in [
        (
            format!("cipher_suites: [{AES_256}], ecdh_curves: [P-256]"),
            only(CipherSuite::EcdsaAes256, Curve::P256),
            200,
            Reason::Forwarded,
        ),
        (
            format!("cipher_suites: [{AES_256}]"),
            only(CipherSuite::EcdsaAes128, Curve::P256),
            503,
            Reason::UpstreamTls,
        ),
        (
            "ecdh_curves: [P-384]".to_owned(),
            only(CipherSuite::EcdsaAes128, Curve::P256),
            503,
            Reason::UpstreamTls,
        ),
    ] {
        let up = WireListener::bind().await;
        let context = "common_tls_context:\n";
        let said = format!("{context}      tls_params: {{ {parameters} }}\n");
        let tls = upstream_tls(&authority).replace(context, &said);
        assert!(tls.contains(&parameters));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &tls));
        let answer = tokio::select! {
            answer = client::get(naru.address, "/") => answer,
            never = async { loop { serve_once(&up, &authority, offered.clone()).await } } => never,
        };
        assert_eq!(answer.status, status, "{parameters}");
        assert_eq!(naru.ended(1).await, [(status, reason)], "{parameters}");
    }
}
