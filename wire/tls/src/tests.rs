//! Both sides against each other, in memory, with certificates made on the spot.

use std::io;

use naru_spec::{
    Certificate, DataSource, DownstreamTls, PeerTests, SanMatch, StringMatch, TlsVersion, UpstreamTls,
    ValueTest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{ClientStream, Connector, Handshake, Hello, ServerStream, Terminator};

/// A certificate authority of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self) -> Option<DataSource> {
        Some(inline(self.0.pem()))
    }

    fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, |_| ())
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Certificate::new(inline(leaf.pem()), inline(key.serialize_pem()))
    }
}

fn alternative_name(text: &str) -> SanType {
    match text.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) if text.contains("://") => SanType::URI(text.try_into().unwrap()),
        Err(_) => SanType::DnsName(text.try_into().unwrap()),
    }
}

/// `openssl req -x509`: its own issuer, and marked as one.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["self.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    Certificate::new(inline(params.self_signed(&key).unwrap().pem()), inline(key.serialize_pem()))
}

fn inline(text: String) -> DataSource {
    DataSource::Inline(text.into_bytes())
}

fn downstream(certificate: Certificate) -> DownstreamTls {
    DownstreamTls::new(vec![certificate])
}

fn upstream() -> UpstreamTls {
    UpstreamTls { sni: Some("www.test".to_owned()), ..UpstreamTls::default() }
}

fn named(names: &[StringMatch]) -> PeerTests {
    PeerTests { names: names.iter().cloned().map(SanMatch::any_kind).collect(), ..PeerTests::default() }
}

type Served = io::Result<(ServerStream<DuplexStream>, Handshake)>;
type Called = io::Result<(ClientStream<DuplexStream>, Handshake)>;

async fn shake_built(terminator: &Terminator, connector: &Connector) -> (Served, Called) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    tokio::join!(terminator.accept(there), connector.connect(here))
}

async fn shake(down: &DownstreamTls, up: &UpstreamTls) -> (Served, Called) {
    shake_built(&Terminator::build(down).unwrap(), &Connector::build(up).unwrap()).await
}

/// Whether a byte comes through from the server, which in TLS 1.3 is when the client learns that it
/// was let in. The server's side is dropped afterwards.
async fn is_served(served: Served, called: Called) -> bool {
    let Ok((mut client, _)) = called else { return false };
    if let Ok((mut server, _)) = served {
        server.write_all(b"!").await.unwrap();
        server.flush().await.unwrap();
    }
    client.read_u8().await.is_ok_and(|byte| byte == b'!')
}

async fn check(down: &DownstreamTls, up: &UpstreamTls, expected: bool) {
    let (served, called) = shake(down, up).await;
    assert_eq!(is_served(served, called).await, expected, "{up:?}");
}

/// Both ends' last words.
async fn failures(down: &DownstreamTls, up: &UpstreamTls) -> (String, String) {
    let (served, called) = shake(down, up).await;
    let client = match called {
        Ok((mut client, _)) => client.read_u8().await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    (served.map(|_| ()).unwrap_err().to_string(), client)
}

async fn agreed(down: &DownstreamTls, up: &UpstreamTls) -> Handshake {
    let (served, called) = shake(down, up).await;
    let ((_, server), (_, client)) = (served.unwrap(), called.unwrap());
    assert_eq!(server, client);
    server
}

#[tokio::test]
async fn without_a_trusted_ca_any_certificate_is_believed() {
    let down = downstream(Authority::new().issue(&["elsewhere.test"]));
    check(&down, &upstream(), true).await;
    let expired = self_signed(|params| params.not_after = date_time_ymd(2001, 1, 1));
    check(&downstream(expired), &upstream(), true).await;
}

#[tokio::test]
async fn with_a_trusted_ca_the_chain_is_checked_and_the_name_is_not() {
    let authority = Authority::new();
    let up = UpstreamTls { trusted_ca: authority.trusted(), ..upstream() };
    check(&downstream(authority.issue(&["elsewhere.test"])), &up, true).await;
    check(&downstream(authority.issue(&[])), &up, true).await;
    check(&downstream(Authority::new().issue(&["www.test"])), &up, false).await;
    let expired = authority.issue_with(&["www.test"], |params| params.not_after = date_time_ymd(2001, 1, 1));
    check(&downstream(expired.clone()), &up, false).await;
    let (server, client) = failures(&downstream(expired), &up).await;
    assert!(client.contains("expired"), "{client}");
    assert!(server.contains("xpired"), "{server}");
}

#[tokio::test]
async fn a_chain_goes_through_intermediates() {
    let root = Authority::new();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    let between =
        Authority(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root.0).unwrap());
    let leaf = between.issue(&["www.test"]);
    let up = UpstreamTls { trusted_ca: root.trusted(), ..upstream() };
    check(&downstream(leaf.clone()), &up, false).await;
    let DataSource::Inline(mut chain) = leaf.chain else { unreachable!() };
    chain.extend_from_slice(between.0.pem().as_bytes());
    check(&downstream(Certificate::new(DataSource::Inline(chain), leaf.key)), &up, true).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_believed_where_it_is_the_trusted_one() {
    let own = self_signed(|_| ());
    let up = UpstreamTls { trusted_ca: Some(own.chain.clone()), ..upstream() };
    check(&downstream(own.clone()), &up, true).await;
    check(&downstream(self_signed(|_| ())), &up, false).await;
    let expired = self_signed(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let up = UpstreamTls { trusted_ca: Some(expired.chain.clone()), ..upstream() };
    check(&downstream(expired), &up, false).await;

    let down = DownstreamTls {
        trusted_ca: Some(own.chain.clone()),
        require_client_certificate: true,
        ..downstream(self_signed(|_| ()))
    };
    check(&down, &UpstreamTls { certificate: Some(own), ..upstream() }, true).await;
    check(&down, &UpstreamTls { certificate: Some(self_signed(|_| ())), ..upstream() }, false).await;
}

#[tokio::test]
async fn one_of_the_names_asked_for_must_be_carried() {
    let authority = Authority::new();
    let down = downstream(authority.issue(&["*.example.com", "spiffe://td/ns/a/sa/b", "10.0.0.9"]));
    let asking = |names: &[StringMatch]| UpstreamTls {
        trusted_ca: authority.trusted(),
        peer: named(names),
        ..upstream()
    };
    check(&down, &asking(&[StringMatch::exact("www.example.com")]), true).await;
    check(&down, &asking(&[StringMatch::exact("other"), StringMatch::exact("10.0.0.9")]), true).await;
    let prefix = |text: &str| StringMatch { test: ValueTest::Prefix(text.to_owned()), ignore_case: false };
    check(&down, &asking(&[prefix("spiffe://td/ns/a/")]), true).await;
    check(&down, &asking(&[prefix("spiffe://td/ns/b/")]), false).await;
    let (_, client) = failures(&down, &asking(&[StringMatch::exact("www.evil.com")])).await;
    let told = "none of its names (*.example.com, spiffe://td/ns/a/sa/b, 10.0.0.9) is asked for";
    assert_eq!(client, format!("invalid peer certificate: {told}"));
}

#[tokio::test]
async fn names_are_not_tested_where_the_issuer_is_not() {
    let up = UpstreamTls { peer: named(&[StringMatch::exact("a")]), ..upstream() };
    assert!(!Connector::build(&up).unwrap_err().hint.is_empty());
}

#[tokio::test]
async fn client_certificates_are_required_optional_or_not_asked_for() {
    let authority = Authority::new();
    let down = |is_required| DownstreamTls {
        trusted_ca: authority.trusted(),
        require_client_certificate: is_required,
        ..downstream(authority.issue(&["www.test"]))
    };
    let with = |certificate| UpstreamTls { certificate, ..upstream() };
    let known = Some(authority.issue(&["spiffe://td/ns/a/sa/b"]));
    let stranger = Some(Authority::new().issue(&["spiffe://td/ns/a/sa/b"]));
    for (is_required, certificate, expected) in [
        (true, &known, true),
        (true, &stranger, false),
        (true, &None, false),
        (false, &known, true),
        (false, &stranger, false),
        (false, &None, true),
    ] {
        check(&down(is_required), &with(certificate.clone()), expected).await;
        let old = UpstreamTls { version_max: TlsVersion::V1_2, ..with(certificate.clone()) };
        check(&down(is_required), &old, expected).await;
    }
    let indifferent = downstream(authority.issue(&["www.test"]));
    check(&indifferent, &with(stranger.clone()), true).await;
    let anyone = DownstreamTls { require_client_certificate: true, ..indifferent };
    check(&anyone, &with(stranger), true).await;
    check(&anyone, &with(None), false).await;
}

#[tokio::test]
async fn a_certificate_for_the_other_side_is_refused() {
    let authority = Authority::new();
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let up = UpstreamTls { trusted_ca: authority.trusted(), ..upstream() };
    check(&downstream(authority.issue_with(&["www.test"], for_clients)), &up, false).await;
}

#[tokio::test]
async fn versions_stay_within_their_bounds() {
    let down = downstream(self_signed(|_| ()));
    assert_eq!(agreed(&down, &upstream()).await.version, "TLSv1.3");
    let old = UpstreamTls { version_max: TlsVersion::V1_2, ..upstream() };
    assert_eq!(agreed(&down, &old).await.version, "TLSv1.2");
    let old_only = DownstreamTls { version_max: TlsVersion::V1_2, ..down.clone() };
    assert_eq!(agreed(&old_only, &upstream()).await.version, "TLSv1.2");
    let new_only = DownstreamTls { version_min: TlsVersion::V1_3, ..down.clone() };
    check(&new_only, &old, false).await;
    let upside_down = DownstreamTls { version_max: TlsVersion::V1_2, ..new_only };
    assert!(Terminator::build(&upside_down).is_err());
}

#[tokio::test]
async fn alpn_goes_by_the_servers_order_and_is_left_out_where_nothing_is_shared() {
    let alpn = |protocols: &[&str]| protocols.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
    let down = DownstreamTls { alpn: alpn(&["h2", "http/1.1"]), ..downstream(self_signed(|_| ())) };
    let terminator = Terminator::build(&down).unwrap();
    let connector = Connector::build(&UpstreamTls { alpn: alpn(&["http/1.1", "h2"]), ..upstream() }).unwrap();
    for (offered, expected) in [
        (connector.clone(), Some(b"h2".to_vec())),
        (connector.with_alpn(&["http/1.1"]).unwrap(), Some(b"http/1.1".to_vec())),
        (connector.with_alpn(&["http/0.9"]).unwrap(), None),
        (connector.with_alpn::<&str>(&[]).unwrap(), None),
    ] {
        let (served, called) = shake_built(&terminator, &offered).await;
        assert_eq!(served.unwrap().1.alpn, expected);
        assert_eq!(called.unwrap().1.alpn, expected);
    }
    assert!(connector.with_alpn(&[""]).is_err());
    assert!(connector.with_alpn(&["x".repeat(256)]).is_err());
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let authority = Authority::new();
    let down = DownstreamTls {
        certificates: vec![
            authority.issue(&["first.test"]),
            authority.issue(&["*.wild.test"]),
            authority.issue(&["exact.test", "b.wild.test"]),
        ],
        ..downstream(authority.issue(&[]))
    };
    for (asked, carried) in [
        (Some("first.test"), "first.test"),
        (Some("a.wild.test"), "*.wild.test"),
        (Some("b.wild.test"), "*.wild.test"),
        (Some("EXACT.test"), "exact.test"),
        (Some("elsewhere.test"), "first.test"),
        (None, "first.test"),
    ] {
        // The name the certificate is known by, as a suffix so that a star is not unfolded.
        let test = ValueTest::Suffix(carried.to_owned());
        let up = UpstreamTls {
            sni: asked.map(str::to_owned),
            trusted_ca: authority.trusted(),
            peer: named(&[StringMatch { test, ignore_case: false }]),
            ..upstream()
        };
        check(&down, &up, true).await;
    }
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_chain_and_is_told() {
    let authority = Authority::new();
    let of_a = downstream(authority.issue(&["a.test"]));
    let of_the_rest = downstream(authority.issue(&["rest.test"]));
    for (asked, carried) in [("a.test", "a.test"), ("outbound_.80_.v1_.b.test", "rest.test")] {
        let up = UpstreamTls {
            sni: Some(asked.to_owned()),
            trusted_ca: authority.trusted(),
            peer: named(&[StringMatch::exact(carried)]),
            ..upstream()
        };
        let connector = Connector::build(&up).unwrap();
        let (here, there) = tokio::io::duplex(64 * 1024);
        let serve = async {
            let hello = Hello::read(there).await.unwrap();
            let chosen = if hello.server_name() == Some("a.test") { &of_a } else { &of_the_rest };
            hello.finish(&Terminator::build(chosen).unwrap()).await.unwrap().1
        };
        let (served, called) = tokio::join!(serve, connector.connect(here));
        assert_eq!(served.server_name.as_deref(), Some(asked));
        assert_eq!(called.unwrap().1.server_name.as_deref(), Some(asked));
    }
}

#[tokio::test]
async fn no_name_is_sent_where_none_is_given_or_it_is_an_address() {
    let down = downstream(self_signed(|_| ()));
    for sni in [None, Some("10.0.0.1".to_owned())] {
        assert_eq!(agreed(&down, &UpstreamTls { sni, ..upstream() }).await.server_name, None);
    }
    assert!(Connector::build(&UpstreamTls { sni: Some("not a name".to_owned()), ..upstream() }).is_err());
    assert!(Connector::build(&UpstreamTls { sni: Some(String::new()), ..upstream() }).is_err());
}

#[tokio::test]
async fn a_session_is_taken_up_again() {
    for version_max in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for sni in [None, Some("www.test".to_owned())] {
            let terminator = Terminator::build(&downstream(self_signed(|_| ()))).unwrap();
            let up = UpstreamTls { version_max, sni, ..upstream() };
            let connector = Connector::build(&up).unwrap();
            for (connector, expected) in [
                (connector.clone(), false),
                (connector.clone(), true),
                (connector.with_alpn(&["h2"]).unwrap(), true),
            ] {
                let (served, called) = shake_built(&terminator, &connector).await;
                assert_eq!(served.as_ref().unwrap().1.resumed, expected);
                assert_eq!(called.as_ref().unwrap().1.resumed, expected);
                // Tickets come with the first bytes.
                assert!(is_served(served, called).await);
            }
            let stranger = Terminator::build(&downstream(self_signed(|_| ()))).unwrap();
            let (served, _called) = shake_built(&stranger, &connector).await;
            assert!(!served.unwrap().1.resumed);
        }
    }
}

#[tokio::test]
async fn a_session_outlives_a_certificate_and_not_a_change_of_trust() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for version_max in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let before = downstream(authority.issue(&["www.test"]));
        let older = Terminator::build(&before).unwrap();
        let sni = Some("www.test".to_owned());
        let up = UpstreamTls { version_max, sni, trusted_ca: authority.trusted(), ..upstream() };
        let connector = Connector::build(&up).unwrap();
        let (served, called) = shake_built(&older, &connector).await;
        assert!(is_served(served, called).await);

        let after = downstream(authority.issue(&["www.test"]));
        assert!(Terminator::trusts_alike(&before, &after));
        assert_eq!(Terminator::trust_stamp(&before), Terminator::trust_stamp(&after));
        let newer = Terminator::build_after(&after, &older).unwrap();
        let (served, called) = shake_built(&newer, &connector).await;
        assert!(served.as_ref().unwrap().1.resumed);
        assert!(is_served(served, called).await);
        // Who is new sees the new certificate, and goes back to no older one.
        let stranger = Connector::build(&up).unwrap();
        let (served, called) = shake_built(&newer, &stranger).await;
        assert!(!served.as_ref().unwrap().1.resumed);
        let (stream, _) = called.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let naru_spec::DataSource::Inline(pem) = &after.certificates[0].chain else { panic!() };
        let expected =
            <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(pem)
                .unwrap();
        assert_eq!(shown, expected);
        drop(served);

        let strict = DownstreamTls {
            trusted_ca: clients.trusted(),
            require_client_certificate: true,
            ..after.clone()
        };
        assert!(!Terminator::trusts_alike(&after, &strict));
        assert_ne!(Terminator::trust_stamp(&after), Terminator::trust_stamp(&strict));
    }
}

#[tokio::test]
async fn garbage_from_a_peer_is_an_error_on_either_side() {
    let terminator = Terminator::build(&downstream(self_signed(|_| ()))).unwrap();
    let connector = Connector::build(&upstream()).unwrap();
    let mut garbage = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\x16\x03\x01\xff\xff".to_vec(),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(),
        b"\x15\x03\x03\x00\x02\x02\x28".to_vec(),
        vec![],
        vec![0; 70_000],
        b"\x16\x03\x03\x40\x00".iter().copied().chain([1; 40_000]).collect(),
    ];
    let mut chance = naru_base::Chance::new(5);
    garbage.extend((0..200).map(|length| (0..length).map(|_| chance.draw() as u8).collect::<Vec<u8>>()));
    for bytes in garbage {
        for is_server in [true, false] {
            let (mut here, there) = tokio::io::duplex(128 * 1024);
            here.write_all(&bytes).await.unwrap();
            here.shutdown().await.unwrap();
            let is_error = match is_server {
                true => terminator.accept(there).await.is_err(),
                false => connector.connect(there).await.is_err(),
            };
            assert!(is_error, "{bytes:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_gets_an_alert() {
    let terminator = Terminator::build(&downstream(self_signed(|_| ()))).unwrap();
    let (mut here, there) = tokio::io::duplex(4096);
    here.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = terminator.accept(there).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut answer = Vec::new();
    here.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

mod material {
    //! What is said of bytes that cannot be used.
    use super::*;

    const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIMsecretsecretsecretsecretsecretsecretsecret";

    fn check(change: impl FnOnce(&mut DownstreamTls), parts: &[&str]) {
        let mut down = downstream(self_signed(|_| ()));
        change(&mut down);
        let invalid = Terminator::build(&down).unwrap_err();
        for part in parts {
            assert!(invalid.message.contains(part), "{invalid:?} does not say {part:?}");
        }
        assert!(!format!("{invalid:?}").contains("secretsecret"), "{invalid:?}");
    }

    fn text(text: &str) -> DataSource {
        DataSource::Inline(text.as_bytes().to_vec())
    }

    #[test]
    fn a_missing_file_or_variable_is_named() {
        let file = DataSource::File("/nowhere/chain.pem".to_owned());
        check(
            |d| d.certificates[0].chain = file.clone(),
            &["certificate chain", "'/nowhere/chain.pem'", "No such file"],
        );
        check(|d| d.certificates[0].key = file.clone(), &["private key", "'/nowhere/chain.pem'"]);
        check(|d| d.trusted_ca = Some(file), &["trusted CA", "'/nowhere/chain.pem'"]);
        let variable = DataSource::Environment("NARU_TEST_NOT_SET".to_owned());
        check(|d| d.certificates[0].key = variable, &["private key", "'NARU_TEST_NOT_SET'", "not set"]);
        check(|d| d.certificates[0].key = DataSource::File("/".to_owned()), &["cannot be read"]);
        check(|d| d.certificates[0].key = DataSource::File("/dev/zero".to_owned()), &["is larger than"]);
    }

    #[test]
    fn a_stamp_changes_with_the_content_of_files() {
        let path = std::env::temp_dir().join(format!("naru-tls-stamp-{}.pem", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let mut down = downstream(self_signed(|_| ()));
        let source = DataSource::File(path.display().to_string());
        let places: [fn(&mut DownstreamTls, DataSource); 3] = [
            |d, source| d.certificates[0].chain = source,
            |d, source| d.certificates[0].key = source,
            |d, source| d.trusted_ca = Some(source),
        ];
        for put in places {
            put(&mut down, source.clone());
            write("one");
            let one = Terminator::stamp(&down);
            assert_eq!(Terminator::stamp(&down), one);
            write("two");
            assert_ne!(Terminator::stamp(&down), one);
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_holds_no_certificate_or_no_key_says_so() {
        let own = self_signed(|_| ());
        check(|d| d.certificates[0].chain = text(""), &["certificate chain given inline", "no certificate"]);
        check(|d| d.certificates[0].chain = own.key.clone(), &["no certificate"]);
        check(|d| d.certificates[0].key = own.chain.clone(), &["private key given inline", "no private key"]);
        check(|d| d.trusted_ca = Some(text("nothing")), &["trusted CA", "no certificate"]);
        check(|d| d.certificates.clear(), &["at least one certificate"]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check(|d| d.certificates[0].key = text(encrypted), &["is encrypted"]);
    }

    #[test]
    fn broken_pem_is_told_without_repeating_it() {
        let unended = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n");
        check(|d| d.certificates[0].key = text(&unended), &["no END line"]);
        let unbroken = format!("-----BEGIN PRIVATE KEY-----\\n{SECRET}\\n-----END PRIVATE KEY-----");
        check(|d| d.certificates[0].key = text(&unbroken), &["not valid PEM"]);
        let no_base64 = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}?\n-----END PRIVATE KEY-----\n");
        check(|d| d.certificates[0].key = text(&no_base64), &["base64"]);
        let no_key = format!("-----BEGIN PRIVATE KEY-----\nAAAA{SECRET}\n-----END PRIVATE KEY-----\n");
        check(|d| d.certificates[0].key = text(&no_key), &["cannot be used"]);
        let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(|d| d.certificates[0].chain = text(no_der), &["certificate chain", "cannot be used"]);
        check(|d| d.trusted_ca = Some(text(no_der)), &["trusted CA", "number 1"]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let other = self_signed(|_| ());
        check(
            |d| d.certificates[0].key = other.key.clone(),
            &[
                "private key given inline",
                "does not belong to the first certificate of the certificate chain",
            ],
        );
        let authority = Authority::new();
        let mut up = UpstreamTls { certificate: Some(authority.issue(&[])), ..upstream() };
        assert!(Connector::build(&up).is_ok());
        up.certificate.as_mut().unwrap().key = other.key;
        assert!(Connector::build(&up).is_err());
    }

    #[test]
    fn a_revocation_list_is_not_ignored() {
        let authority = Authority::new();
        let DataSource::Inline(mut bytes) = authority.trusted().unwrap() else { unreachable!() };
        bytes.extend_from_slice(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        check(|d| d.trusted_ca = Some(DataSource::Inline(bytes)), &["revocation list"]);
    }

    #[test]
    fn random_bytes_are_refused_without_panic() {
        let mut chance = naru_base::Chance::new(2);
        let DataSource::Inline(good) = self_signed(|_| ()).chain else { unreachable!() };
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..8 {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.draw() as u8;
            }
            let mut down = downstream(self_signed(|_| ()));
            down.trusted_ca = Some(DataSource::Inline(bytes.clone()));
            let _ = Terminator::build(&down);
            down.certificates[0].chain = DataSource::Inline(bytes);
            assert!(Terminator::build(&down).is_err());
        }
    }

    #[test]
    fn neither_side_shows_its_key() {
        let down = downstream(self_signed(|_| ()));
        let DataSource::Inline(key) = &down.certificates[0].key else { unreachable!() };
        let up = UpstreamTls { certificate: Some(down.certificates[0].clone()), ..upstream() };
        for shown in [
            format!("{:?}", Terminator::build(&down).unwrap()),
            format!("{:?}", Connector::build(&up).unwrap()),
            format!("{down:?}"),
            format!("{up:?}"),
        ] {
            assert!(!shown.contains("PRIVATE"), "{shown}");
            assert!(!shown.contains(&format!("{:?}", &key[..8]).replace(['[', ']'], "")), "{shown}");
        }
    }
}

/// What a program says to these bytes.
pub(crate) fn through(mut program: std::process::Command, input: &[u8]) -> String {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
