//! Listeners and their connections: which stay, which leave, and that a swap is whole or not at all.

use std::net::SocketAddr;

use naru_tests::http2::{self, H2Client};
use naru_tests::up::free_address;
use naru_tests::wire::End;
use naru_tests::{Authority, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, client, until};
use naru_tls::Connector;
use tokio::net::TcpStream;

use super::saying;

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";

/// A file of listeners that say words.
fn file(listeners: &[(&str, SocketAddr, &str)]) -> String {
    let mut text = String::new();
    for (name, address, word) in listeners {
        let own = saying(word).listen_on(*address).text().replace("- name: main", &format!("- name: {name}"));
        let (head, listener) = own.split_once("  listeners:\n").unwrap();
        if text.is_empty() {
            text = format!("{head}  listeners:\n");
        }
        text.push_str(listener);
    }
    text
}

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn a_listener_comes_and_goes_beside_one_that_stays() {
    let naru = Naru::on(&file(&[("stays", ANY.into(), "one")]));
    let mut stays = Client::plain(naru.address, Speaks::Http1).await;
    assert_eq!(stays.get("/").await.text(), "one");

    // In front of it, so that it stands at another place.
    naru.update(&file(&[("comes", ANY.into(), "new"), ("stays", ANY.into(), "two")])).await;
    let [comes, address] = naru.addresses()[..] else { panic!("{:?}", naru.addresses()) };
    assert_eq!(address, naru.address);
    assert_eq!(stays.get("/").await.text(), "two");
    assert_eq!(client::get(comes, "/").await.text(), "new");

    let mut idle = Wire::connect(comes).await;
    idle.send(GET).await;
    assert_eq!(idle.response().await.text(), "new");
    let mut asking = Wire::connect(comes).await;
    asking.send(&GET[..20]).await;
    let mut streams = H2Client::connect(comes).await;
    let (answer, _) = streams.request(http2::get(comes, "/"), true).await;
    http2::response(answer).await.unwrap();
    naru.update(&file(&[("stays", ANY.into(), "three")])).await;
    assert!(is_refused(comes).await);
    // What it sends before it could know is answered.
    idle.send(GET).await;
    let last = idle.response().await;
    assert_eq!((last.text().as_str(), last.head.get("connection")), ("new", Some("close")));
    assert_eq!(idle.ends().await, End::Closed);
    until("an HTTP/2 client to be told to go away", async || {
        match streams.try_request(http2::get(comes, "/"), true).await {
            Err(_) => Some(()),
            // What is asked before it hears so is answered, or known not to have been looked at.
            Ok((answer, _)) => match http2::response(answer).await {
                Ok(answer) => {
                    assert_eq!(answer.status(), 200);
                    None
                }
                Err(error) => {
                    assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{error}");
                    Some(())
                }
            },
        }
    })
    .await;
    asking.send(&GET[20..]).await;
    let last = asking.response().await;
    assert_eq!(last.text(), "new", "the last snapshot that had the listener decides");
    assert_eq!(last.head.get("connection"), Some("close"));
    assert_eq!(asking.ends().await, End::Closed);
    assert_eq!(stays.get("/").await.text(), "three");
    naru.forgets_old_snapshots().await;
    drop(stays);
    naru.settles().await;
}

#[tokio::test]
async fn a_listener_that_moves_listens_there_and_no_more_here() {
    for workers in [1, 3] {
        let naru = Naru::start_with(
            &saying("old").listen_on(ANY.into()),
            &naru_proxy::Options { workers, seed: Some(1) },
        );
        let old = naru.address;
        let mut idle = Wire::connect(old).await;
        idle.send(GET).await;
        idle.response().await;
        let new = free_address();
        naru.update(&saying("new").listen_on(new).text()).await;
        assert_eq!(naru.addresses(), [new]);
        assert!(is_refused(old).await);
        assert_eq!(idle.ends().await, End::Closed);
        assert_eq!(client::get(new, "/").await.text(), "new");
        // And back to where it was, in so many words.
        naru.update(&saying("back").listen_on(old).text()).await;
        assert!(is_refused(new).await);
        assert_eq!(client::get(old, "/").await.text(), "back");
    }
}

#[tokio::test]
async fn a_listener_that_is_renamed_keeps_its_sockets_and_not_its_clients() {
    let naru = Naru::on(&file(&[("old", ANY.into(), "old")]));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    client.response().await;
    naru.update(&file(&[("new", naru.address, "new")])).await;
    assert_eq!(client.ends().await, End::Closed);
    assert_eq!(client::get(naru.address, "/").await.text(), "new");
}

#[tokio::test]
async fn an_update_that_fails_changes_nothing() {
    let authority = Authority::new();
    let directory = naru_tests::files::Directory::new();
    let naru = Naru::on(&file(&[("main", ANY.into(), "old")]));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    client.get("/").await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (other.local_addr().unwrap(), free_address());
    let port = file(&[("main", ANY.into(), "new"), ("free", free, "new"), ("taken", taken, "new")]);
    let certificate = saying("new").tls(&authority, &[]).text();
    let (before_key, _) = certificate.split_once("private_key: {").unwrap();
    let certificate = format!("{before_key}private_key: {{ inline_string: nonsense }}\n");
    let log =
        saying("new").json_log(&directory.path("no/such/directory"), "code: \"%RESPONSE_CODE%\"\n").text();
    for (text, said) in [
        (&port, format!("listener 'taken' cannot have the address {}: it is in use", taken)),
        (&certificate, "the private key given inline holds no private key".to_owned()),
        (&log, "cannot be opened".to_owned()),
    ] {
        let error = naru.try_update(text).await.unwrap_err().to_string();
        assert!(error.contains(&said), "{error}");
        assert_eq!(client.get("/").await.text(), "old");
        assert_eq!(client::get(naru.address, "/").await.text(), "old");
        assert_eq!(naru.addresses(), [naru.address]);
        assert!(is_refused(free).await);
        assert_eq!(naru.snapshots_in_use(), 1);
    }
    drop(other);
    naru.update(&port).await;
    assert_eq!(client.get("/").await.text(), "new", "nothing is left in the way");
    assert_eq!(client::get(free, "/").await.text(), "new");
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).tls(&old, &["h2", "http/1.1"]));
    for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
        naru.update(&Bootstrap::to(up.address).tls(&old, &["h2", "http/1.1"]).text()).await;
        let mut before = Client::connect(naru.address, speaks, &old).await;
        before.get("/bytes/1").await;
        naru.update(&Bootstrap::to(up.address).tls(&new, &["h2", "http/1.1"]).text()).await;
        assert_eq!(before.get("/bytes/2").await.text(), "xx", "what stands may stay");
        let mut after = Client::connect(naru.address, speaks, &new).await;
        assert_eq!(after.get("/bytes/3").await.text(), "xxx");
        let refused = Client::secured(naru.address, speaks, &old.connector(&[speaks.alpn()])).await;
        assert!(refused.is_err(), "the old certificate is still shown");
    }
}

#[tokio::test]
async fn clients_that_are_to_show_who_they_are_come_in_anew() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let up = Upstream::plain(Speaks::Http1).await;
    let open = Bootstrap::to(up.address).tls(&authority, &["http/1.1"]).text();
    let strict = open.replace(
        "          common_tls_context:\n",
        &format!(
            "          require_client_certificate: true\n          common_tls_context:\n            \
             validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}\n",
            clients.pem()
        ),
    );
    assert_ne!(open, strict);
    let naru = Naru::on(&open);
    let mut anybody = Client::connect(naru.address, Speaks::Http1Tls, &authority).await;
    anybody.get("/bytes/1").await;
    naru.update(&strict).await;
    let get = client::request(http::Method::GET, "/bytes/1", Outbound::empty());
    assert!(anybody.send(get).await.is_err(), "the connection was closed");
    let mut caller = authority.caller(&["http/1.1"]);
    caller.certificate = Some(clients.issue_for("client.test").certificate());
    let connector = Connector::build(&caller).unwrap();
    let mut known = Client::secured(naru.address, Speaks::Http1Tls, &connector).await.unwrap().0;
    assert_eq!(known.get("/bytes/2").await.text(), "xx");
    // Without another change it stays.
    naru.update(&strict).await;
    assert_eq!(known.get("/bytes/3").await.text(), "xxx");
}

#[tokio::test]
async fn a_shorter_idle_timeout_is_for_connections_that_stand_as_well() {
    let naru = Naru::start(&saying("old"));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    client.response().await;
    naru.update(&saying("new").manager("common_http_protocol_options: { idle_timeout: 0.05s }").text()).await;
    assert_eq!(client.ends().await, End::Closed);
    naru.settles().await;
}
