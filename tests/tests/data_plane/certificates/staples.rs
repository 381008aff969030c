//! OCSP stapling: what clients that ask are shown.

use std::path::Path;

use naru_proxy::Options;
use naru_tests::certificates::Issued;
use naru_tests::files::Directory;
use naru_tests::openssl::{handshake, openssl, openssl_says};
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, until};
use rcgen::CustomExtension;

/// Writes what an authority says of a certificate, by OpenSSL's own responder.
async fn respond(files: &Directory, authority: &Authority, issued: &Issued, number: u64, to: &str) {
    let path = |name: &str| files.path(name).display().to_string();
    files.write("ca.pem", &authority.pem());
    files.write("ca.key", &authority.key());
    files.write("leaf.pem", &issued.chain);
    files.write("index.txt", &format!("V\t400101000000Z\t\t{number:02X}\tunknown\t/CN=leaf\n"));
    openssl_says(
        &[
            "ocsp",
            "-index",
            &path("index.txt"),
            "-CA",
            &path("ca.pem"),
            "-rsigner",
            &path("ca.pem"),
            "-rkey",
            &path("ca.key"),
            "-issuer",
            &path("ca.pem"),
            "-cert",
            &path("leaf.pem"),
            "-ndays",
            "2",
            "-no_nonce",
            "-respout",
            &path(to),
        ],
        "",
    )
    .await;
}

/// The same, as if it had been said long ago. Nobody but a client could see that it is not signed any more.
fn expire(from: &Path, to: &Path) {
    let mut bytes = std::fs::read(from).unwrap();
    let mut aged = 0;
    for at in 0..bytes.len() - 15 {
        // GeneralizedTime of fifteen octets.
        if bytes[at..].starts_with(&[0x18, 15]) {
            bytes[at + 2..at + 6].copy_from_slice(b"2001");
            aged += 1;
        }
    }
    assert!(aged >= 3);
    std::fs::write(to, bytes).unwrap();
}

fn numbered(authority: &Authority, number: u64) -> Issued {
    authority.issue_with(|params| params.serial_number = Some(number.into()))
}

/// RFC 7633.
fn must_have_one(authority: &Authority, number: u64) -> Issued {
    authority.issue_with(|params| {
        params.serial_number = Some(number.into());
        let id = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        params.custom_extensions.push(CustomExtension::from_oid_content(&id, vec![0x30, 3, 2, 1, 5]));
    })
}

fn bootstrap(up: &Upstream, issued: &Issued, staple: Option<&Path>, policy: &str) -> Bootstrap {
    let own = format!("ocsp_staple_policy: {policy}");
    let bootstrap = Bootstrap::to(up.address).tls_of(issued, &own, "");
    let Some(staple) = staple else { return bootstrap };
    let key = "        private_key:";
    bootstrap.tls_lines(
        key,
        &format!("        ocsp_staple: {{ filename: {:?} }}\n{key}", staple.display().to_string()),
    )
}

/// What a client that asks is shown; `None` where it is refused.
async fn shown(naru: &Naru) -> Option<bool> {
    let address = naru.address.to_string();
    let (is_agreed, said) = openssl(&["s_client", "-connect", &address, "-status"], "").await;
    is_agreed.then(|| {
        assert!(said.contains("OCSP response:"), "{said}");
        let is_good = said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good");
        assert!(is_good || said.contains("OCSP response: no response sent"), "{said}");
        is_good
    })
}

#[tokio::test]
async fn a_response_is_shown_for_as_long_as_it_holds_and_then_the_policy_decides() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let issued = numbered(&authority, 11);
    respond(&files, &authority, &issued, 11, "good.der").await;
    let (good, old) = (files.path("good.der"), files.path("old.der"));
    expire(&good, &old);
    for (policy, staple, expected) in [
        ("LENIENT_STAPLING", Some(&good), Some(true)),
        ("LENIENT_STAPLING", Some(&old), Some(false)),
        ("LENIENT_STAPLING", None, Some(false)),
        ("STRICT_STAPLING", Some(&good), Some(true)),
        ("STRICT_STAPLING", Some(&old), None),
        ("STRICT_STAPLING", None, Some(false)),
        ("MUST_STAPLE", Some(&good), Some(true)),
        ("MUST_STAPLE", Some(&old), None),
    ] {
        let naru = Naru::start(&bootstrap(&up, &issued, staple.map(|path| path.as_path()), policy));
        assert_eq!(shown(&naru).await, expected, "{policy} {staple:?}");
        if expected.is_some() {
            let (is_agreed, said) = handshake(naru.address, &["-tls1_2"]).await;
            assert!(is_agreed, "who does not ask is served: {said}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anybody_is_served() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let issued = numbered(&authority, 12);
    respond(&files, &authority, &issued, 12, "good.der").await;
    let good = files.path("good.der");
    let broken = files.write("broken.der", "nothing");
    let other = numbered(&authority, 13);
    let must = must_have_one(&authority, 12);
    for (issued, staple, expected) in [
        (&other, Some(&good), "is about another certificate"),
        (&issued, Some(&broken), "is no OCSP response"),
        (&issued, Some(&files.path("absent.der")), "cannot be read"),
        (&must, None, "must have an OCSP response"),
    ] {
        let bootstrap = bootstrap(&up, issued, staple.map(|path| path.as_path()), "LENIENT_STAPLING");
        let told = Naru::try_start(&bootstrap, &Options { workers: 1, seed: Some(1) })
            .err()
            .map(|error| error.to_string());
        assert!(told.as_ref().is_some_and(|told| told.contains(expected)), "{expected}: {told:?}");
    }
    // A certificate that says so itself is treated by MUST_STAPLE.
    let old = files.path("old.der");
    expire(&good, &old);
    let naru = Naru::start(&bootstrap(&up, &must, Some(&good), "LENIENT_STAPLING"));
    assert_eq!(shown(&naru).await, Some(true));
    let naru = Naru::start(&bootstrap(&up, &must, Some(&old), "LENIENT_STAPLING"));
    assert_eq!(shown(&naru).await, None);
}

#[tokio::test]
async fn a_response_that_changes_in_its_file_is_shown() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let issued = numbered(&authority, 14);
    respond(&files, &authority, &issued, 14, "good.der").await;
    let (good, staple) = (files.path("good.der"), files.path("staple.der"));
    expire(&good, &staple);
    let text = bootstrap(&up, &issued, Some(&staple), "LENIENT_STAPLING").text();
    let naru = Naru::on(&text);
    assert_eq!(shown(&naru).await, Some(false));
    std::fs::copy(&good, &staple).unwrap();
    naru.update(&text).await;
    until("the response to be shown", async || (shown(&naru).await == Some(true)).then_some(())).await;
}
