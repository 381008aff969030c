//! One address for many: TLS that is passed through by its server name, TLS that ends here, and what is none.

use naru_base::Reason;
use naru_tests::bootstrap::{downstream_tls, tcp_chain};
use naru_tests::certificates::NAME;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Authority, Bootstrap, Naru, Wire, within};
use naru_tls::{Connector, Terminator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::FIELDS;

/// Says a name, and who answers.
async fn asks(naru: &Naru, connector: &Connector) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(naru.address).await?;
    let (mut stream, _) = connector.connect(stream).await?;
    stream.write_all(b"who?").await?;
    stream.shutdown().await?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await?;
    Ok(said)
}

/// Answers each question by its own name, behind its own certificate.
async fn answers(up: &WireListener, terminator: &Terminator, name: &str) {
    loop {
        let stream = up.accept_stream().await;
        let (mut stream, _) = terminator.accept(stream).await.unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"who?");
        stream.write_all(name.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

fn asking(authority: &Authority, name: &str) -> Connector {
    let mut caller = authority.caller(&[]);
    caller.sni = Some(name.to_owned());
    Connector::build(&caller).unwrap()
}

#[tokio::test]
async fn a_server_name_leads_to_whoever_has_its_key() {
    let authority = Authority::new();
    let (a, b, ended, plain) = (
        WireListener::bind().await,
        WireListener::bind().await,
        WireListener::bind().await,
        WireListener::bind().await,
    );
    let files = naru_tests::files::Directory::new();
    let log = files.path("log");
    let logged = naru_tests::bootstrap::json_log(&log, FIELDS);
    let match_names = |names: &str| format!("filter_chain_match: {{ server_names: [{names}] }}\n");
    let chains = [
        tcp_chain(&match_names("a.test"), &format!("cluster: a\n{logged}")),
        tcp_chain(&match_names("\"*.b.test\""), "cluster: b\n"),
        tcp_chain(&format!("{}{}", match_names(NAME), downstream_tls(&authority, &[])), "cluster: ended\n"),
        tcp_chain("filter_chain_match: { transport_protocol: raw_buffer }\n", "cluster: plain\n"),
    ];
    let bootstrap = Bootstrap::of_chains(&chains.concat())
        .cluster("a", a.address, "")
        .cluster("b", b.address, "")
        .cluster("ended", ended.address, "")
        .cluster("plain", plain.address, "");
    let naru = Naru::start(&bootstrap);
    let of_naru = authority.connector(&[]);
    let (of_a, of_b) = (authority.terminator_for("a.test", &[]), authority.terminator_for("x.b.test", &[]));
    let served = async { tokio::join!(answers(&a, &of_a, "it is a"), answers(&b, &of_b, "it is b")) };
    let asked = async {
        assert_eq!(asks(&naru, &asking(&authority, "a.test")).await.unwrap(), b"it is a");
        assert_eq!(asks(&naru, &asking(&authority, "x.b.test")).await.unwrap(), b"it is b");
        // Its TLS ends at naru: the upstream sees what is inside.
        let (said, mut upstream) = tokio::join!(asks(&naru, &of_naru), async {
            let mut upstream = ended.accept().await;
            upstream.expect(b"who?").await;
            upstream.send("naru").await;
            upstream.finish().await;
            upstream
        });
        assert_eq!(said.unwrap(), b"naru");
        assert_eq!(upstream.ends().await, End::Closed);
        // Nobody has this name.
        assert!(asks(&naru, &asking(&authority, "b.test")).await.is_err());
        let mut client = Wire::connect(naru.address).await;
        client.send("PING\r\n").await;
        let mut upstream = plain.accept().await;
        upstream.expect(b"PING\r\n").await;
        drop(client);
        assert_eq!(upstream.end().await.1, End::Closed);
    };
    within("all to be answered", async {
        tokio::select! { _ = served => unreachable!("they serve for ever"), () = asked => {} }
    })
    .await;
    let line = naru_tests::files::documents(&log, 1).await.remove(0);
    assert_eq!(line["name"], "a.test", "{line}");
    naru.settles().await;
    assert_eq!(naru.ended(4).await, [(0, Reason::Forwarded); 4]);
}

#[tokio::test]
async fn what_a_client_said_before_its_chain_was_known_is_passed_on_whole() {
    let up = WireListener::bind().await;
    let chain = tcp_chain("filter_chain_match: { transport_protocol: tls }\n", "");
    let naru = Naru::start(&Bootstrap::of_chains(&chain).cluster("up", up.address, ""));
    // A hello in pieces, and something behind it at once.
    let hello = include_bytes!("../../../../fuzz/corpus/hello/alpn-unknown");
    let mut client = Wire::connect(naru.address).await;
    for piece in hello.chunks(7) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.send("behind").await;
    let mut upstream = up.accept().await;
    upstream.expect(hello).await;
    upstream.expect(b"behind").await;
    // What is no TLS finds no chain; what is broken is told so.
    let mut other = Wire::connect(naru.address).await;
    other.send("GET / HTTP/1.1\r\n\r\n").await;
    let (alert, _) = other.end().await;
    assert_eq!(alert.first(), Some(&0x15));
    let mut broken = Wire::connect(naru.address).await;
    broken.send([0x16, 3, 1, 0, 4, 9, 0, 0, 0]).await;
    assert_eq!(broken.ends().await, End::Closed);
    assert_eq!(naru.report().await.downstream.tls_errors, 2);
}

#[tokio::test]
async fn upstreams_are_spoken_to_by_tls_where_their_cluster_says_so() {
    let authority = Authority::new();
    let up = WireListener::bind().await;
    let bootstrap =
        Bootstrap::tcp("").cluster("up", up.address, &naru_tests::bootstrap::upstream_tls(&authority));
    let naru = Naru::start(&bootstrap);
    let terminator = authority.terminator(&[]);
    let mut client = Wire::connect(naru.address).await;
    client.send("plain").await;
    let (mut stream, handshake) = terminator.accept(up.accept_stream().await).await.unwrap();
    assert_eq!(handshake.server_name.as_deref(), Some(NAME));
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"plain");
    // Half of TLS ends as well: by its alert.
    client.finish().await;
    assert_eq!(stream.read(&mut said).await.unwrap(), 0);
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(client.end().await, (b"bye".to_vec(), End::Closed));
    drop(stream);
    naru.settles().await;
}
