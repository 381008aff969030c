//! What is no request of HTTP/3: RFC 9114, sections 4, 6 and 7, and RFC 9204.

use naru_base::Reason;
use serde_json::{Value, json};

use super::peer::fields;
use super::start;

const MESSAGE_ERROR: u64 = 0x10e;

/// Fields of a request as they are said.
fn said(pairs: &[(&str, &str)]) -> Value {
    json!({ "headers": pairs })
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "naru.test"), (":path", "/")];

fn and(more: &[(&'static str, &'static str)]) -> Value {
    said(&[&GET[..], more].concat())
}

fn without(name: &str) -> Value {
    said(&GET.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>())
}

#[tokio::test]
async fn malformed_requests_are_reset_and_the_connection_goes_on() {
    let (authority, up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let cases = [
        // Section 4.2: what belongs to a connection of HTTP/1.
        and(&[("connection", "close")]),
        and(&[("transfer-encoding", "chunked")]),
        and(&[("keep-alive", "timeout=5")]),
        and(&[("proxy-connection", "keep-alive")]),
        and(&[("upgrade", "websocket")]),
        and(&[("te", "gzip")]),
        // Names and values.
        and(&[("X-Upper", "1")]),
        and(&[("x-space ", "1")]),
        and(&[("x-feed", "a\r\nb: c")]),
        and(&[("x-zero", "a\0b")]),
        // Section 4.3.1: pseudo headers.
        without(":method"),
        without(":scheme"),
        without(":path"),
        and(&[(":path", "/twice")]),
        and(&[(":unknown", "1")]),
        and(&[(":status", "200")]),
        said(&[("x-before", "1"), GET[0], GET[1], GET[2], GET[3]]),
        said(&[GET[0], GET[1], GET[2], (":path", "")]),
        said(&[GET[0], GET[1], GET[2], (":path", "no-slash")]),
        said(&[GET[0], GET[1], GET[2], (":path", "/a b")]),
        said(&[GET[0], GET[1], (":authority", "a@b c"), GET[3]]),
        // Section 4.1.2: a length that does not hold.
        and(&[("content-length", "5")]),
        and(&[("content-length", "0"), ("content-length", "0")]),
        and(&[("content-length", "+1")]),
        // Section 4.4.
        said(&[(":method", "CONNECT"), (":scheme", "https"), (":authority", "a:1"), (":path", "/")]),
    ];
    let count = cases.len() as u64;
    for case in cases {
        let outcome = peer.one(of, case.clone()).await;
        assert_eq!(outcome.reset(), Some(MESSAGE_ERROR), "{case} {outcome:?}");
    }
    let ended = naru.ended(count).await;
    assert!(ended.iter().all(|ending| *ending == (400, Reason::ClientProtocol)), "{ended:?}");
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    assert_eq!(up.requests(), 1, "the upstream has seen none of them");
}

#[tokio::test]
async fn what_can_be_answered_is_answered() {
    let (authority, up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    // Without an authority, with two that differ, with one that is none: it is a request, but for nobody.
    for case in [without(":authority"), and(&[("host", "other.test")])] {
        assert_eq!(peer.one(of, case.clone()).await.status(), 400, "{case}");
    }
    let value = "v".repeat(4_000);
    let large = json!({ "headers": fields("GET", "/", &[("x-large", &*value); 17]) });
    let many: Vec<(String, String)> = (0..200).map(|at| (format!("x-{at}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    let many = json!({ "headers": fields("GET", "/", &many) });
    for case in [large, many] {
        assert_eq!(peer.one(of, case).await.status(), 431);
    }
    let mut ended = naru.ended(4).await;
    ended.sort_unstable();
    let (bad, large) = ((400, Reason::BadHost), (431, Reason::HeadTooLarge));
    assert_eq!(ended, [bad, bad, large, large]);
    assert_eq!(up.requests(), 0);
}

#[tokio::test]
async fn bodies_that_are_not_what_their_head_says_are_refused() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let cases = [
        json!({ "headers": fields("POST", "/length", &[("content-length", "4")]), "body": "hello" }),
        json!({ "headers": fields("POST", "/length", &[("content-length", "9")]), "body": "hello" }),
        json!({ "headers": fields("POST", "/length", &[]), "body": "hello", "trailers": [[":path", "/"]] }),
        json!({ "headers": fields("POST", "/length", &[]), "body": "hello", "trailers": [["content-length", "5"]] }),
    ];
    for case in &cases {
        let outcome = peer.one(of, case.clone()).await;
        let is_refused = outcome.0["status"] == 400 || outcome.reset().is_some();
        assert!(is_refused, "{case} {outcome:?}");
    }
    naru.ended(cases.len() as u64).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
}

/// Streams of one direction that a well-behaved client begins with.
const SETTINGS: &[u8] = &[0x00, 0x04, 0x00];

#[tokio::test]
async fn mistakes_of_a_connection_close_it_by_their_codes() {
    let (authority, _up, naru, mut peer) = start().await;
    // Whether the stream is of one direction, its bytes, whether it ends, and the code.
    let cases: &[(&str, bool, &[u8], bool, u64)] = &[
        ("DATA before HEADERS", false, &[0x00, 0x01, b'a'], false, 0x105),
        ("SETTINGS on a request", false, &[0x04, 0x00], false, 0x105),
        ("PUSH_PROMISE of a client", false, &[0x05, 0x02, 0x00, 0x00], false, 0x105),
        ("a frame of HTTP/2", false, &[0x02, 0x00], false, 0x105),
        ("a frame that ends too soon", false, &[0x01, 0x05, 0x00], true, 0x106),
        ("a list that cannot be read", false, &[0x01, 0x03, 0x00, 0x00, 0x80], false, 0x200),
        ("a list that waits for a table", false, &[0x01, 0x03, 0x02, 0x00, 0x80], false, 0x200),
        ("no SETTINGS first", true, &[0x00, 0x07, 0x01, 0x00], false, 0x10a),
        ("SETTINGS twice", true, &[0x00, 0x04, 0x00, 0x04, 0x00], false, 0x105),
        ("a setting twice", true, &[0x00, 0x04, 0x04, 0x06, 0x01, 0x06, 0x01], false, 0x109),
        ("a setting of HTTP/2", true, &[0x00, 0x04, 0x02, 0x03, 0x01], false, 0x109),
        ("a setting that is not whole", true, &[0x00, 0x04, 0x01, 0x06], false, 0x106),
        ("DATA on the control stream", true, &[0x00, 0x04, 0x00, 0x00, 0x00], false, 0x105),
        ("HEADERS on the control stream", true, &[0x00, 0x04, 0x00, 0x01, 0x00], false, 0x105),
        ("a push that was not promised", true, &[0x00, 0x04, 0x00, 0x03, 0x01, 0x00], false, 0x108),
        (
            "MAX_PUSH_ID that shrinks",
            true,
            &[0x00, 0x04, 0x00, 0x0d, 0x01, 0x05, 0x0d, 0x01, 0x04],
            false,
            0x108,
        ),
        ("GOAWAY that is none", true, &[0x00, 0x04, 0x00, 0x07, 0x02, 0x00, 0x00], false, 0x106),
        ("a control stream that ends", true, SETTINGS, true, 0x104),
        ("a push stream of a client", true, &[0x01, 0x00], false, 0x103),
        ("an insertion into no table", true, &[0x02, 0x41, b'a', 0x00], false, 0x201),
        ("an acknowledgement of nothing", true, &[0x03, 0x81], false, 0x202),
    ];
    for (what, one_way, bytes, ends, code) in cases {
        let raw = peer.try_connect(naru.address, &authority, json!({ "raw": true })).await;
        let (of, _) = raw.unwrap();
        peer.open(of, *one_way, bytes, *ends).await;
        assert_eq!(peer.closed(of).await, *code, "{what}");
    }
    let raw = peer.try_connect(naru.address, &authority, json!({ "raw": true })).await;
    let (of, _) = raw.unwrap();
    peer.open(of, true, SETTINGS, false).await;
    peer.open(of, true, SETTINGS, false).await;
    assert_eq!(peer.closed(of).await, 0x103, "two control streams");
    naru.settles().await;
}

#[tokio::test]
async fn what_nobody_knows_is_passed_over() {
    let (authority, _up, naru, mut peer) = start().await;
    let raw = peer.try_connect(naru.address, &authority, json!({ "raw": true })).await;
    let (of, _) = raw.unwrap();
    // A stream type and a frame type of section 7.2.8, a setting of section 7.2.4.1, a capacity of nothing.
    peer.open(of, true, &[0x21, 0xff, 0xff], false).await;
    peer.open(of, true, &[0x00, 0x04, 0x02, 0x21, 0x05, 0x21, 0x03, 1, 2, 3], false).await;
    peer.open(of, true, &[0x02, 0x20], false).await;
    peer.open(of, true, &[0x03, 0x44], false).await;
    let head = [0x00, 0x00, 0xd1, 0xd7, 0x50, 0x01, b'a', 0xc1];
    let request = [&[0x21, 0x02, 9, 9, 0x01, head.len() as u8][..], &head, &[0x21, 0x00]].concat();
    let stream = peer.open(of, false, &request, true).await;
    naru.ended(1).await;
    drop(peer.tell(of, "close", json!({})).await);
    assert!(stream == 0);
}

#[tokio::test]
async fn requests_that_are_begun_to_be_cancelled_end_the_connection() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let is_closed = async {
        for _ in 0..20 {
            let open = json!({ "headers": fields("GET", "/slow/60000", &[]), "open": true });
            for stream in peer.begin(of, vec![open; 50]).await {
                peer.tell(of, "cancel", json!({ "stream": stream })).await;
            }
        }
        peer.closed(of).await
    };
    assert_eq!(is_closed.await, 0x107);
    let report = naru.report().await;
    assert_eq!(report.downstream.abuses.iter().sum::<u64>(), 1, "{:?}", report.downstream.abuses);
}
