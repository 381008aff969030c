//! Certificates and keys: PEM texts, or the DER inside.

use std::sync::LazyLock;

use naru_spec::{Certificate, DataSource, DownstreamTls, Invalid, PeerTests, UpstreamTls};
use naru_tests::Authority;
use naru_tests::certificates::Issued;
use naru_tls::{Connector, Terminator};

static OWN: LazyLock<Issued> = LazyLock::new(|| Authority::new().issue());

/// A text of PEM, or DER that begins with a sequence, as each thing that a side is built from: it is
/// taken, or the error says what it is about and repeats none of it.
pub fn certificate(bytes: &[u8]) {
    naru_tls::fuzz(bytes);
    let is_der = bytes.first() == Some(&0x30);
    let as_chain = if is_der { pem("CERTIFICATE", bytes) } else { bytes.to_vec() };
    let as_key = if is_der { pem("PRIVATE KEY", bytes) } else { bytes.to_vec() };
    let own_chain = || DataSource::Inline(OWN.chain.clone().into_bytes());
    let own_key = || DataSource::Inline(OWN.key.clone().into_bytes());
    let given = DataSource::Inline;
    let built = Terminator::build(&downstream(given(as_chain.clone()), own_key(), None)).map(drop);
    check(&as_chain, built, &["the certificate chain given inline", "the private key given inline"]);
    let built = Terminator::build(&downstream(own_chain(), given(as_key.clone()), None)).map(drop);
    check(&as_key, built, &["the private key given inline"]);
    let built =
        Terminator::build(&downstream(given(as_chain.clone()), given(as_key.clone()), None)).map(drop);
    check(&as_chain, built, &["the certificate chain given inline", "the private key given inline"]);
    // A client's trust and a server's are made differently.
    let trusted = || Some(given(as_chain.clone()));
    let built = Terminator::build(&downstream(own_chain(), own_key(), trusted())).map(drop);
    check(&as_chain, built, &["the trusted CA given inline"]);
    let built = Connector::build(&upstream(trusted())).map(drop);
    check(&as_chain, built, &["the trusted CA given inline"]);
}

/// What authorities say of certificates: an OCSP response, and a revocation list, PEM or the DER inside. It is taken, or the
/// error says what it is about and repeats none of it.
pub fn revoked(bytes: &[u8]) {
    let own = || {
        let inline = |pem: &str| DataSource::Inline(pem.as_bytes().to_vec());
        Certificate::new(inline(&OWN.chain), inline(&OWN.key))
    };
    let staple = Some(DataSource::Inline(bytes.to_vec()));
    let stapled = DownstreamTls::new(vec![Certificate { staple, ..own() }]);
    check(bytes, Terminator::build(&stapled).map(drop), &["the OCSP response given inline"]);
    let list = if bytes.first() == Some(&0x30) { pem("X509 CRL", bytes) } else { bytes.to_vec() };
    let trusted_ca = || Some(DataSource::Inline(OWN.chain.clone().into_bytes()));
    let peer = |of_leaf_only| PeerTests {
        crl: Some(DataSource::Inline(list.clone())),
        crl_of_leaf_only: of_leaf_only,
        ..PeerTests::default()
    };
    let asks =
        DownstreamTls { trusted_ca: trusted_ca(), peer: peer(true), ..DownstreamTls::new(vec![own()]) };
    check(
        &list,
        Terminator::build(&asks).map(drop),
        &["the revocation list given inline", "a revocation list "],
    );
    let calls = UpstreamTls { peer: peer(false), ..upstream(trusted_ca()) };
    check(
        &list,
        Connector::build(&calls).map(drop),
        &["the revocation list given inline", "a revocation list "],
    );
}

fn downstream(chain: DataSource, key: DataSource, trusted_ca: Option<DataSource>) -> DownstreamTls {
    DownstreamTls {
        alpn: vec!["h2".into()],
        require_client_certificate: trusted_ca.is_some(),
        trusted_ca,
        ..DownstreamTls::new(vec![Certificate::new(chain, key)])
    }
}

fn upstream(trusted_ca: Option<DataSource>) -> UpstreamTls {
    UpstreamTls { sni: Some("naru.test".into()), trusted_ca, ..UpstreamTls::default() }
}

/// Nobody looks for a secret in words that are shorter.
const WORD_MIN: usize = 16;

fn check(given: &[u8], built: Result<(), Invalid>, subjects: &[&str]) {
    let Err(invalid) = built else { return };
    let is_about = subjects.iter().any(|subject| invalid.message.starts_with(subject));
    assert!(is_about, "about what? {invalid}");
    let told = format!("{} {}", invalid.message, invalid.hint);
    let text = String::from_utf8_lossy(given);
    let words = text.split(|c: char| c.is_whitespace() || c == '-').filter(|word| word.len() >= WORD_MIN);
    for word in words {
        assert!(!told.contains(word), "it repeats '{word}' of what was given: {told}");
    }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in der.chunks(48) {
        for part in line.chunks(3) {
            let bits =
                part.iter().chain(&[0; 3]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            for at in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * at) & 0x3f) as usize];
                text.push(if at > part.len() { b'=' } else { digit });
            }
        }
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    text
}
