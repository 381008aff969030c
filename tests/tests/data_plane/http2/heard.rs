//! Peers that do not read: what they say meanwhile is heard all the same, and nobody waits for them for ever.

use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::frames::*;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};

/// More than the kernel takes for an upstream that reads nothing, in heads as large as they may be.
const REQUESTS: u32 = 100;
const LARGE: usize = 50_000;

/// naru reads no more while too much waits to be written. What has come by then is read once all of it is written, and
/// nothing else happens that would wake anybody.
#[tokio::test]
async fn an_upstream_that_answers_before_it_has_read_all_requests_is_heard() {
    let head = format!("GET / HTTP/1.1\r\nhost: naru.test\r\nx-large: {}\r\n\r\n", "v".repeat(LARGE));
    for _ in 0..4 {
        let up = WireListener::bind_narrow();
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
        let mut clients = Vec::new();
        for _ in 0..REQUESTS {
            let mut client = Wire::connect(naru.address).await;
            client.send(&head).await;
            clients.push(client);
        }
        let mut upstream = Peer::accepted(up.accept_stream().await);
        until("all requests to be on their way", async || {
            (naru.report().await.downstream.requests_active == u64::from(REQUESTS)).then_some(())
        })
        .await;
        let mut answers = settings(&[]);
        for number in 0..REQUESTS {
            answers.extend(headers(END_STREAM | END_HEADERS, 2 * number + 1, &[(":status", "200")]));
        }
        upstream.send(answers).await;
        upstream.preface().await;
        let mut heads = 0;
        while heads < REQUESTS {
            let frame = upstream.next().await.unwrap();
            heads +=
                u32::from(frame.flags & END_HEADERS != 0 && matches!(frame.kind, HEADERS | CONTINUATION));
        }
        for client in &mut clients {
            assert_eq!(client.response().await.status(), 200);
        }
        drop(clients);
        naru.settles().await;
    }
}

#[tokio::test]
async fn last_words_have_their_time_where_nobody_reads_them() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let wide = [(4, 0x7fff_ffff)];
    // What breaks a rule, and what is a flood of something that is answered.
    let pings = (0..2_000).flat_map(|_| frame(PING, 0, 0, [0; 8])).collect();
    for last in [frame(DATA, 0, 0, b"of no stream"), pings] {
        let mut peer = Peer::start(naru.address, None, &wide).await;
        let large = headers(END_STREAM | END_HEADERS, 1, &request("GET", "/bytes/100000000"));
        peer.send([window_update(0, 0x7fff_0000), large].concat()).await;
        // Long enough for all there is room for to be full; where it is not, nothing is shown, and nothing fails.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        peer.send(last).await;
        // The peer is still there, and has not closed.
        naru.settles().await;
        drop(peer);
    }
}
