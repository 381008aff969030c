//! What is no HTTP is passed through, to an endpoint or to where the tunnel says.

use std::time::Duration;

use naru_base::Reason;
use naru_tests::bootstrap::upstream_tls;
use naru_tests::files::{Directory, documents};
use naru_tests::wire::{End, WireListener, refusing_address};
use naru_tests::{Authority, Client, Naru, Speaks, Upstream};

use super::{DB, logging, routed, tunnel, unrouted};

/// Nobody takes it for HTTP or TLS.
const HELLO: &[u8] = b"\x00hello";

#[tokio::test]
async fn where_no_rule_leads_the_tunnel_leads_to_its_own_address() {
    let files = Directory::new();
    let log = files.path("log");
    let authority = Authority::new();
    let up = Upstream::serve(Speaks::Http2Tls, &authority).await;
    let naru = logging(unrouted(), &log);
    let connector = authority.connector(&["h2"]);
    for host in ["127.0.0.1", "localhost"] {
        let destination = format!("{host}:{}", up.address.port());
        let mut client =
            Client::through(naru.address, &destination, Speaks::Http2Tls, Some(&connector)).await;
        assert_eq!(client.get("/bytes/9").await.text(), "xxxxxxxxx");
    }
    naru.settles().await;
    for line in documents(&log, 2).await {
        assert_eq!(
            (&line["method"], &line["path"], &line["status"]),
            (&"CONNECT".into(), &"*".into(), &200.into())
        );
        assert_eq!((&line["reason"], &line["flags"]), (&"Forwarded".into(), &"-".into()), "{line}");
        assert_eq!((&line["cluster"], &line["attempts"]), (&serde_json::Value::Null, &1.into()), "{line}");
        assert_eq!(line["host"], up.address.to_string());
        assert!(line["received"].as_u64().unwrap() > 100 && line["sent"].as_u64().unwrap() > 500, "{line}");
    }
}

#[tokio::test]
async fn a_rule_leads_to_its_cluster_and_the_server_may_speak_first() {
    let files = Directory::new();
    let log = files.path("log");
    let up = WireListener::bind().await;
    let naru = logging(routed("").cluster("up", up.address, ""), &log);
    let mut client = tunnel(&naru, DB).await;
    // The client says nothing: it is not asked to.
    let mut upstream = up.accept().await;
    upstream.send("220 welcome\r\n").await;
    client.expect(b"220 welcome\r\n").await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    upstream.expect(b"GET / HTTP/1.1\r\n\r\n").await;
    let counts = naru.report().await;
    assert_eq!((counts.downstream.requests_active, counts.clusters[0].requests_active), (1, 1));
    assert_eq!(naru.clusters()[0].endpoints[0].active, 1);
    drop(upstream);
    assert_eq!(client.ends().await, End::Closed);
    drop(client);
    naru.settles().await;
    let line = &documents(&log, 1).await[0];
    assert_eq!((&line["cluster"], &line["host"]), (&"up".into(), &up.address.to_string().into()));
    assert_eq!((&line["received"], &line["sent"]), (&18.into(), &13.into()), "{line}");
    assert_eq!((&line["reason"], &line["authority"]), (&"Forwarded".into(), &DB.into()));
}

#[tokio::test]
async fn another_endpoint_is_tried_where_no_connection_can_be_made() {
    let up = WireListener::bind().await;
    let retries = ", retry_policy: { retry_on: connect-failure, num_retries: 2 }";
    let addresses = [refusing_address(), refusing_address(), up.address];
    let naru = Naru::start(&routed(retries).cluster_of("up", &addresses, ""));
    for _ in 0..3 {
        let mut client = tunnel(&naru, DB).await;
        client.send(HELLO).await;
        up.accept().await.expect(HELLO).await;
    }
    naru.settles().await;
    assert!(naru.report().await.clusters[0].retries >= 3);
}

#[tokio::test]
async fn each_way_ends_by_itself() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&unrouted());
    for client_is_first in [true, false] {
        let mut client = tunnel(&naru, &up.address.to_string()).await;
        client.send(HELLO).await;
        let mut upstream = up.accept().await;
        upstream.expect(HELLO).await;
        let (first, second) =
            if client_is_first { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        first.send("last words").await;
        first.finish().await;
        let (heard, end) = second.end().await;
        assert_eq!((heard.as_slice(), end), (&b"last words"[..], End::Closed));
        second.send("and an answer").await;
        first.expect(b"and an answer").await;
        second.finish().await;
        assert_eq!(first.ends().await, End::Closed);
    }
    naru.settles().await;
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
}

#[tokio::test]
async fn who_takes_nothing_is_sent_nothing_and_nothing_is_lost() {
    const MANY: usize = 64 << 20;
    const PAUSE: Duration = Duration::from_millis(250);
    let up = WireListener::bind_narrow();
    let naru = Naru::start(&unrouted());
    let mut client = naru_tests::Wire::connect_narrow(naru.address).await;
    assert_eq!(client.ask_for_tunnel(&up.address.to_string()).await.status(), 200);
    client.send([0]).await;
    let mut upstream = up.accept().await;
    let up_taken = client.flood(MANY, PAUSE).await.expect("the upstream takes nothing");
    let down_taken = upstream.flood(MANY, PAUSE).await.expect("the client takes nothing");
    // What is on its way is in the buffers of the kernel, and in one of naru's for each way.
    client.finish().await;
    let (heard, _) = upstream.end().await;
    assert_eq!(heard.len(), up_taken + 1);
    upstream.finish().await;
    let (heard, _) = client.end().await;
    assert_eq!(heard.len(), down_taken);
    naru.settles().await;
    assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
}

#[tokio::test]
async fn a_cluster_with_tls_gets_it_from_the_client_or_from_naru() {
    let authority = Authority::new();
    let up = Upstream::serve(Speaks::Http1Tls, &authority).await;
    let naru = Naru::start(&routed("").cluster("up", up.address, &upstream_tls(&authority)));
    let connector = authority.connector(&["http/1.1"]);
    let mut client = Client::through(naru.address, DB, Speaks::Http1Tls, Some(&connector)).await;
    assert_eq!(client.get("/bytes/2").await.text(), "xx");
    drop(client);

    let mut client = tunnel(&naru, DB).await;
    // A line that is no HTTP here and an error there.
    client.send("hello\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 400);
    drop(client);
    naru.settles().await;
    assert_eq!(naru.report().await.clusters[0].connections_total, 2);
}

#[tokio::test]
async fn many_bytes_arrive_in_their_order() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&unrouted());
    let mut client = tunnel(&naru, &up.address.to_string()).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut sent = vec![0];
    sent.extend(&bytes);
    let upstream = async {
        let mut upstream = up.accept().await;
        let heard = upstream.exactly(sent.len()).await.unwrap();
        upstream.send(&heard).await;
        upstream
    };
    let ((), _upstream) = tokio::join!(client.send(&sent), upstream);
    assert!(client.exactly(sent.len()).await.unwrap() == sent, "other bytes came back");
    drop(client);
    drop(_upstream);
    naru.settles().await;
}
