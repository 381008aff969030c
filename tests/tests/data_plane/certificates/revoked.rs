//! Certificates that were revoked, on both sides.

use naru_tests::bootstrap::{TO_UP, upstream_tls};
use naru_tests::files::Directory;
use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, until};

use super::peers::{answered, is_served};

#[tokio::test]
async fn a_client_whose_certificate_was_revoked_is_not_let_in() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let numbered =
        |number: u64| clients.issue_with(|params| params.serial_number = Some(number.into())).certificate();
    let (good, revoked) = (numbered(7), numbered(8));
    let other = Authority::new();
    for (list, among_authorities, expected) in [
        (clients.revokes(&[8], true), false, (true, false)),
        (clients.revokes(&[8], true), true, (true, false)),
        (clients.revokes(&[], true), false, (true, true)),
        // One that does not hold any more says nothing, nor does one of somebody else.
        (clients.revokes(&[8], false), false, (false, false)),
        (other.revokes(&[], true), false, (false, false)),
    ] {
        let (ca, crl) = match among_authorities {
            true => (format!("{}{list}", clients.pem()), String::new()),
            false => (clients.pem(), format!("crl: {{ inline_string: {list:?} }}, ")),
        };
        let common = format!("validation_context: {{ {crl}trusted_ca: {{ inline_string: {ca:?} }} }}");
        let required = "require_client_certificate: true";
        let naru = Naru::start(&Bootstrap::to(up.address).tls_of(&server.issue(), required, &common));
        let served = (
            is_served(naru.address, &server, Some(good.clone())).await,
            is_served(naru.address, &server, Some(revoked.clone())).await,
        );
        assert_eq!(served, expected, "{common}");
    }
}

#[tokio::test]
async fn a_list_that_changes_in_its_file_holds_for_the_next_client_also_for_one_with_a_session() {
    let (server, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let list = files.write("crl.pem", &clients.revokes(&[], true));
    let common = format!(
        "validation_context: {{ crl: {{ filename: {:?} }}, trusted_ca: {{ inline_string: {:?} }} }}",
        list.display().to_string(),
        clients.pem()
    );
    let own = clients.issue_with(|params| params.serial_number = Some(9_u64.into())).certificate();
    let text =
        Bootstrap::to(up.address).tls_of(&server.issue(), "require_client_certificate: true", &common).text();
    let naru = Naru::on(&text);
    assert!(is_served(naru.address, &server, Some(own.clone())).await);
    files.write("crl.pem", &clients.revokes(&[9], true));
    naru.update(&text).await;
    until("the client to be refused", async || {
        (!is_served(naru.address, &server, Some(own.clone())).await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upstream_whose_certificate_was_revoked_is_not_asked() {
    let authority = Authority::new();
    let issued = authority.issue_with(|params| params.serial_number = Some(5_u64.into()));
    let terminator =
        naru_tls::Terminator::build(&naru_spec::DownstreamTls::new(vec![issued.certificate()])).unwrap();
    let named = "match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: elsewhere.test } }], ";
    for (list, more, status) in [
        (authority.revokes(&[5], true), "", 503),
        (authority.revokes(&[4], true), "", 200),
        (authority.revokes(&[4], true), "only_verify_leaf_cert_crl: true, ", 200),
        (authority.revokes(&[5], true), "only_verify_leaf_cert_crl: true, ", 503),
        (authority.revokes(&[4], false), "", 503),
        (authority.revokes(&[4], true), named, 503),
    ] {
        let up = WireListener::bind().await;
        // Nobody asks for the name that the cluster calls it by, as in Envoy.
        let tls = upstream_tls(&authority).replace("sni: naru.test", "sni: another.test").replace(
            "validation_context: { trusted_ca",
            &format!("validation_context: {{ {more}crl: {{ inline_string: {list:?} }}, trusted_ca"),
        );
        assert!(tls.contains("crl"));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &tls));
        assert_eq!(answered(&naru, &up, &terminator).await, status, "{more} {list}");
    }
}
