//! TLS: which chain takes a connection, whose certificates are believed, which versions are spoken.

use naru_base::Reason;
use naru_spec::TlsVersion;
use naru_tests::bootstrap::{TO_UP, upstream_tls};
use naru_tests::certificates::NAME;
use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Upstream, client, until};
use naru_tls::{Connector, Terminator};

const UNVERIFIED: &str = "      validation_context: { trusted_ca";

/// A filter chain that answers with its own name.
fn chain(name: &str, servers: &[&str], authority: &Authority) -> String {
    let bootstrap = Bootstrap::new(&format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200, body: {{ inline_string: {name} }} }}\n"
    ));
    let text = bootstrap.tls(authority, &["h2", "http/1.1"]).text();
    let (_, chain) = text.split_once("    filter_chains:\n").unwrap();
    let chain = chain.replacen("    - filters:", "      filters:", 1);
    if servers.is_empty() {
        return format!("    default_filter_chain:\n{chain}");
    }
    format!("    - filter_chain_match: {{ server_names: {servers:?} }}\n{chain}")
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_chooses_the_chain() {
    let authority = Authority::new();
    let exact = chain("exact", &[NAME, "also.test"], &authority);
    let wildcard = chain("wildcard", &["*.naru.test"], &authority);
    let longer = chain("longer", &["*.deep.naru.test"], &authority);
    let fallback = chain("fallback", &[], &authority);
    let head = Bootstrap::new(TO_UP).text();
    let (head, _) = head.split_once("    filter_chains:\n").unwrap();
    let inspector = "    listener_filters:\n    - name: tls_inspector\n      typed_config:\n        \"@type\": \
                     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\n";
    let listener = format!("{head}{inspector}    filter_chains:\n{exact}{wildcard}{longer}");
    for has_fallback in [true, false] {
        let naru = Naru::on(&if has_fallback { format!("{listener}{fallback}") } else { listener.clone() });
        for (name, expected) in [
            (Some(NAME), Some("exact")),
            (Some("also.test"), Some("exact")),
            (Some("a.naru.test"), Some("wildcard")),
            (Some("a.b.naru.test"), Some("wildcard")),
            (Some("a.deep.naru.test"), Some("longer")),
            (Some("other.test"), None),
            (None, None),
        ] {
            let mut caller = authority.caller(&["http/1.1"]);
            caller.sni = name.map(str::to_owned);
            caller.trusted_ca = None;
            let connector = Connector::build(&caller).unwrap();
            let connected = Client::secured(naru.address, Speaks::Http1Tls, &connector).await;
            match expected.or(has_fallback.then_some("fallback")) {
                Some(expected) => {
                    assert_eq!(connected.unwrap().0.get("/").await.text(), expected, "{name:?}");
                }
                None => assert!(connected.is_err(), "{name:?} was taken"),
            }
        }
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_authority_where_one_is_asked_for() {
    let authority = Authority::new();
    let clients = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let text = Bootstrap::to(up.address).tls(&authority, &["h2", "http/1.1"]).text();
    let text = text.replace(
        "          common_tls_context:\n            alpn_protocols",
        &format!(
            "          require_client_certificate: true\n          common_tls_context:\n            \
             validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}\n            alpn_protocols",
            clients.pem()
        ),
    );
    assert!(text.contains("require_client_certificate"), "{text}");
    let naru = Naru::on(&text);
    let mut refused = 0;
    for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
        for (certificate, is_taken) in [
            (Some(clients.issue_for("client.test")), true),
            (Some(Authority::new().issue_for("client.test")), false),
            (None, false),
        ] {
            let mut caller = authority.caller(&[speaks.alpn()]);
            caller.certificate = certificate.map(|issued| issued.certificate());
            let connector = Connector::build(&caller).unwrap();
            let mut client = Client::secured(naru.address, speaks, &connector).await.unwrap().0;
            let get = client::request(http::Method::GET, "/bytes/2", naru_tests::Outbound::empty());
            let answer = client.send(get).await;
            assert_eq!(answer.is_ok(), is_taken, "{speaks:?} {answer:?}");
            refused += u64::from(!is_taken);
            until("the refused handshakes to be counted", async || {
                (naru.report().await.downstream.tls_errors == refused).then_some(())
            })
            .await;
        }
    }
    assert_eq!(up.requests(), 2);
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_certificate_is_shown_the_clusters() {
    let authority = Authority::new();
    for (issued, status) in
        [(Some(authority.issue_for("naru.client")), 200), (Some(Authority::new().issue()), 503), (None, 503)]
    {
        let up = WireListener::bind().await;
        let mut tls = upstream_tls(&authority);
        if let Some(issued) = issued {
            let certificates = format!(
                "      tls_certificates:\n      - certificate_chain: {{ inline_string: {:?} }}\n        \
                 private_key: {{ inline_string: {:?} }}\n{UNVERIFIED}",
                issued.chain, issued.key
            );
            tls = tls.replace(UNVERIFIED, &certificates);
            assert!(tls.contains("tls_certificates"));
        }
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &tls));
        let terminator = Terminator::build(&naru_spec::DownstreamTls {
            trusted_ca: Some(naru_spec::DataSource::Inline(authority.pem().into_bytes())),
            require_client_certificate: true,
            ..naru_spec::DownstreamTls::new(vec![authority.issue().certificate()])
        })
        .unwrap();
        let serve = async {
            let Ok((mut stream, _)) = terminator.accept(up.accept_stream().await).await else { return };
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            // The head of the request is all that is sent; it need not be looked at.
            let mut sink = [0; 4096];
            while tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let answer = tokio::select! {
            answer = client::get(naru.address, "/") => answer,
            never = async { serve.await; std::future::pending().await } => never,
        };
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_name_in_the_upstreams_certificate_can_be_asked_for() {
    let authority = Authority::new();
    let up = Upstream::serve(Speaks::Http1Tls, &authority).await;
    for (name, status, reason) in [(NAME, 200, Reason::Forwarded), ("another.test", 503, Reason::UpstreamTls)]
    {
        let matching = format!(
            "      validation_context: {{ match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: \
             {name} }} }}], trusted_ca"
        );
        let tls = upstream_tls(&authority).replace(UNVERIFIED, &matching);
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &tls));
        assert_eq!(client::get(naru.address, "/bytes/1").await.status, status);
        assert_eq!(naru.ended(1).await, [(status, reason)]);
    }
}

#[tokio::test]
async fn versions_that_are_not_wanted_are_not_spoken() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let text = Bootstrap::to(up.address).tls(&authority, &["http/1.1"]).text();
    for (minimum, maximum, caller_maximum, is_spoken) in [
        ("TLSv1_2", "TLSv1_3", TlsVersion::V1_2, true),
        ("TLSv1_3", "TLSv1_3", TlsVersion::V1_2, false),
        ("TLSv1_3", "TLSv1_3", TlsVersion::V1_3, true),
        ("TLSv1_2", "TLSv1_2", TlsVersion::V1_3, true),
    ] {
        let params = format!(
            "            tls_params: {{ tls_minimum_protocol_version: {minimum}, tls_maximum_protocol_version: \
             {maximum} }}\n            alpn_protocols"
        );
        let naru = Naru::on(&text.replace("            alpn_protocols", &params));
        let mut caller = authority.caller(&["http/1.1"]);
        caller.version_max = caller_maximum;
        let connector = Connector::build(&caller).unwrap();
        let connected = Client::secured(naru.address, Speaks::Http1Tls, &connector).await;
        assert_eq!(connected.is_ok(), is_spoken, "{minimum} {maximum} {caller_maximum:?}");
        if let Ok((mut client, _)) = connected {
            assert_eq!(client.get("/bytes/3").await.text(), "xxx");
        }
    }
}
