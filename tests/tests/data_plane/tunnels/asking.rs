//! Who gets a tunnel.

use naru_base::Reason;
use naru_tests::http2::{self, H2Client};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, bootstrap::TO_UP};

use super::{tunnel, unrouted};

#[tokio::test]
async fn without_tunnels_nobody_gets_one() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    assert_eq!(client.ask_for_tunnel(&up.address.to_string()).await.status(), 403);
    assert_eq!(naru.ended(1).await, [(403, Reason::UpgradeRefused)]);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_tunnel_leads_to_a_host_and_a_port_and_has_no_body() {
    let naru = Naru::start(&unrouted());
    let mut count = 0;
    for (request, status, reason) in [
        ("CONNECT a.test HTTP/1.1\r\nhost: a.test\r\n\r\n", 400, Reason::ClientProtocol),
        ("CONNECT a.test:0 HTTP/1.1\r\nhost: a.test:0\r\n\r\n", 400, Reason::ClientProtocol),
        ("CONNECT a@b.test:1 HTTP/1.1\r\nhost: b.test:1\r\n\r\n", 400, Reason::BadHost),
        ("CONNECT http://a.test:1/ HTTP/1.1\r\nhost: a.test:1\r\n\r\n", 400, Reason::ClientProtocol),
        (
            "CONNECT a.test:1 HTTP/1.1\r\nhost: a.test:1\r\ncontent-length: 2\r\n\r\nab",
            400,
            Reason::ClientProtocol,
        ),
        ("CONNECT a.test:1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, Reason::BadHost),
        (
            "CONNECT a.test:1 HTTP/1.1\r\nhost: a.test:1\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            403,
            Reason::UpgradeRefused,
        ),
    ] {
        let mut client = Wire::connect(naru.address).await;
        client.send(request).await;
        assert_eq!(client.head().await.status(), status, "{request}");
        count += 1;
        let ended = naru.ended(count).await;
        assert!(ended.contains(&(status, reason)), "{request}: {ended:?}");
    }
    naru.settles().await;
}

#[tokio::test]
async fn over_http2_and_in_a_tunnel_there_is_none() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, "").tunnels());
    let mut client = H2Client::connect(naru.address).await;
    let request = http::Request::builder().method("CONNECT").uri("a.test:80").body(()).unwrap();
    let (response, _stream) = client.request(request, false).await;
    assert_eq!(http2::response(response).await.unwrap().status(), 403);

    let mut nested = tunnel(&naru, "a.test:80").await;
    assert_eq!(nested.ask_for_tunnel("b.test:80").await.status(), 403);
    drop((client, nested));
    naru.settles().await;
    assert_eq!(
        naru.ended(3).await,
        [(200, Reason::TunnelServed), (403, Reason::UpgradeRefused), (403, Reason::UpgradeRefused)]
    );
}

#[tokio::test]
async fn an_older_client_and_one_without_a_host_get_one() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&unrouted());
    for request in [
        format!("CONNECT {} HTTP/1.0\r\n\r\n", up.address),
        format!("CONNECT {} HTTP/1.1\r\n\r\n", up.address),
    ] {
        let mut client = Wire::connect(naru.address).await;
        client.send(request).await;
        assert_eq!(client.head().await.status(), 200);
        client.send("\x01anything").await;
        let mut upstream = up.accept().await;
        upstream.expect(b"\x01anything").await;
    }
    naru.settles().await;
}
