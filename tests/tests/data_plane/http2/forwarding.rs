//! What an upstream of HTTP/1 is sent for a request of HTTP/2, byte for byte: nothing that a second reader could take
//! for another request.

use std::sync::{Arc, Mutex};

use naru_base::Reason;
use naru_tests::bootstrap::TO_UP;
use naru_tests::frames::*;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An upstream that keeps all that it is sent, and answers each head.
struct Recorder {
    naru: Naru,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn start() -> Recorder {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let bootstrap = Bootstrap::new(TO_UP).cluster("up", listener.local_addr().unwrap(), "");
        let naru = Naru::start(&bootstrap.manager("generate_request_id: false"));
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut read = [0; 65_536];
                    while let Ok(count @ 1..) = stream.read(&mut read).await {
                        kept.lock().unwrap().extend_from_slice(&read[..count]);
                        // Whatever is in one piece is one request here; but one that waits for its body.
                        let piece = String::from_utf8_lossy(&read[..count]);
                        let is_whole = piece.ends_with('!')
                            || piece.ends_with("\r\n\r\n") && !piece.contains("100-continue");
                        if is_whole
                            && stream
                                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                                .await
                                .is_err()
                        {
                            break;
                        }
                    }
                });
            }
        });
        Recorder { naru, seen }
    }

    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.seen.lock().unwrap())).into_owned()
    }

    /// What the upstream sees of a stream that is sent this.
    async fn forwards(&self, frames: &[Vec<u8>]) -> String {
        let mut peer = Peer::start(self.naru.address, None, &[]).await;
        peer.send(frames.concat()).await;
        let (head, _) = peer.answer(1).await.unwrap();
        assert_eq!(status(&head), 200);
        self.take()
    }

    /// How a request is refused of which the upstream sees nothing.
    async fn refuses(&self, count: u64, fields: &[(&[u8], &[u8])]) -> (String, Reason) {
        let mut peer = Peer::start(self.naru.address, None, &[]).await;
        peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(fields))).await;
        let told = peer.find(|frame| frame.stream == 1).await.unwrap();
        let told = match told.kind {
            RST_STREAM => format!("reset {}", told.number(0)),
            _ => format!("status {}", status(&told.payload)),
        };
        assert!(peer.is_alive().await);
        drop(peer);
        self.naru.settles().await;
        assert_eq!(self.take(), "", "{fields:?}");
        let report = until("a line", async || {
            let report = self.naru.report().await;
            let ended: u64 = report.series.iter().map(|series| series.requests()).sum();
            (ended == count).then_some(report)
        });
        let reasons = report.await.series;
        let reason =
            reasons.iter().find(|series| series.requests() > 0 && series.labels.reason != Reason::Forwarded);
        (told, reason.unwrap().labels.reason)
    }
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    headers(END_STREAM | END_HEADERS, 1, &[&request("GET", "/a")[..], more].concat())
}

const FIRST: &str = "GET /a HTTP/1.1\r\n";

#[tokio::test]
async fn a_request_becomes_one_of_http_1_and_no_other() {
    let recorder = Recorder::start().await;
    let host = "host: naru.test:80\r\n";
    let added = "x-forwarded-proto: http\r\n";
    assert_eq!(recorder.forwards(&[with(&[])]).await, format!("{FIRST}{host}{added}\r\n"));
    // What is odd, and allowed.
    let odd = [("x-empty", ""), ("x-colon", "a: b"), ("x-percent", "%0d%0aevil: 1"), ("x-text", "é\u{7f}")];
    let seen = recorder.forwards(&[with(&odd[..3])]).await;
    assert_eq!(
        seen,
        format!("{FIRST}x-empty: \r\nx-colon: a: b\r\nx-percent: %0d%0aevil: 1\r\n{host}{added}\r\n")
    );
    // Cookies are one field (RFC 9113, section 8.2.3).
    let cookies = [("cookie", "a=b"), ("x-between", "1"), ("cookie", "c=d")];
    let seen = recorder.forwards(&[with(&cookies)]).await;
    assert_eq!(seen, format!("{FIRST}x-between: 1\r\ncookie: a=b; c=d\r\n{host}{added}\r\n"));
    // A host of its own, where there is no authority.
    let by_host = [(":method", "GET"), (":scheme", "http"), (":path", "/a?b=c"), ("host", "other.test")];
    let seen = recorder.forwards(&[headers(END_STREAM | END_HEADERS, 1, &by_host)]).await;
    assert_eq!(seen, format!("GET /a?b=c HTTP/1.1\r\nhost: other.test\r\n{added}\r\n"));
}

#[tokio::test]
async fn a_body_is_framed_by_its_length_or_by_chunks() {
    let recorder = Recorder::start().await;
    let sized = [&request("POST", "/a")[..], &[("content-length", "5")]].concat();
    let frames =
        [headers(END_HEADERS, 1, &sized), frame(DATA, 0, 1, b"four"), frame(DATA, END_STREAM, 1, b"!")];
    let seen = recorder.forwards(&frames).await;
    assert!(seen.starts_with("POST /a HTTP/1.1\r\n") && seen.contains("\r\ncontent-length: 5\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nfour!") && !seen.contains("transfer-encoding"), "{seen}");
    // A body that looks like a request is a body.
    let smuggled = b"0\r\n\r\nGET /evil HTTP/1.1\r\nhost: x\r\n\r\n";
    let frames = [
        headers(END_HEADERS, 1, &request("POST", "/a")),
        frame(DATA, PADDED, 1, [&[3][..], smuggled, &[0; 3]].concat()),
        frame(DATA, END_STREAM, 1, b""),
    ];
    let seen = recorder.forwards(&frames).await;
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{seen}");
    let smuggled = std::str::from_utf8(smuggled).unwrap();
    assert_eq!(body, format!("{:X}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()), "{seen}");
}

#[tokio::test]
async fn nothing_malformed_reaches_an_upstream() {
    type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;
    let base: Fields<'_> =
        vec![(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"naru.test")];
    let with = |more: &[(&'static [u8], &'static [u8])]| -> Fields<'_> { [&base[..], more].concat() };
    let but = |name: &'static [u8], value: &'static [u8]| -> Fields<'_> {
        base.iter().map(|(known, its)| (*known, if *known == name { value } else { *its })).collect()
    };
    let reset = "reset 1";
    let refused = "status 400";
    let cases: Vec<(Fields<'_>, &str, Reason)> = vec![
        (with(&[(b"x", b"a\r\nevil: 1")]), reset, Reason::ClientProtocol),
        (with(&[(b"x", b"a\nevil: 1")]), reset, Reason::ClientProtocol),
        (with(&[(b"x", b"a\rb")]), reset, Reason::ClientProtocol),
        (with(&[(b"x", b"a\0b")]), reset, Reason::ClientProtocol),
        (with(&[(b"x\r\nevil", b"1")]), reset, Reason::ClientProtocol),
        (with(&[(b"x: y", b"1")]), reset, Reason::ClientProtocol),
        (with(&[(b"x:", b"1")]), reset, Reason::ClientProtocol),
        (with(&[(b"x ", b"1")]), reset, Reason::ClientProtocol),
        (with(&[(b"\0", b"1")]), reset, Reason::ClientProtocol),
        (with(&[(b"transfer-encoding", b"chunked")]), reset, Reason::ClientProtocol),
        (with(&[(b"Transfer-Encoding", b"chunked")]), reset, Reason::ClientProtocol),
        (with(&[(b"transfer-encoding ", b"chunked")]), reset, Reason::ClientProtocol),
        (with(&[(b"connection", b"host")]), reset, Reason::ClientProtocol),
        (with(&[(b"transfer_encoding", b"chunked")]), reset, Reason::ClientProtocol),
        (with(&[(b"content_length", b"5")]), reset, Reason::ClientProtocol),
        (with(&[(b"upgrade", b"websocket")]), reset, Reason::ClientProtocol),
        (with(&[(b"http2-settings", b"x"), (b"connection", b"upgrade")]), reset, Reason::ClientProtocol),
        (with(&[(b"te", b"chunked")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"5")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"+0")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"-0")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"0, 0")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"0\n")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"")]), reset, Reason::ClientProtocol),
        (with(&[(b"content-length", b"0"), (b"content-length", b"0")]), reset, Reason::ClientProtocol),
        (but(b":path", b"/a b"), reset, Reason::ClientProtocol),
        (but(b":path", b"/ HTTP/1.1\r\nhost: x\r\n\r\nGET /evil"), reset, Reason::ClientProtocol),
        (but(b":path", b"/a#b"), reset, Reason::ClientProtocol),
        (but(b":path", b"/a\t"), reset, Reason::ClientProtocol),
        (but(b":path", b"a"), reset, Reason::ClientProtocol),
        (but(b":path", b"http://evil.test/"), reset, Reason::ClientProtocol),
        (but(b":path", b"*"), reset, Reason::ClientProtocol),
        (but(b":method", b"GET /evil HTTP/1.1\r\nx:"), reset, Reason::ClientProtocol),
        (but(b":method", b"GE T"), reset, Reason::ClientProtocol),
        (but(b":method", b""), reset, Reason::ClientProtocol),
        (but(b":scheme", b"http://evil.test/?"), reset, Reason::ClientProtocol),
        (but(b":scheme", b"file"), reset, Reason::ClientProtocol),
        (but(b":authority", b"naru.test\r\nevil: 1"), reset, Reason::ClientProtocol),
        (but(b":authority", b"naru.test/evil"), reset, Reason::ClientProtocol),
        (but(b":authority", b""), reset, Reason::ClientProtocol),
        // Those can be read, and are answered.
        (but(b":authority", b"user:secret@naru.test"), refused, Reason::BadHost),
        (with(&[(b"host", b"evil.test")]), refused, Reason::BadHost),
        (with(&[(b"host", b"naru.test"), (b"host", b"naru.test")]), refused, Reason::BadHost),
        (vec![(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a")], refused, Reason::BadHost),
        (vec![(b":method", b"CONNECT"), (b":authority", b"a:1")], "status 403", Reason::UpgradeRefused),
    ];
    let mut failed = Vec::new();
    for (fields, told, reason) in &cases {
        let recorder = Recorder::start().await;
        let found = recorder.refuses(1, fields).await;
        if found != ((*told).to_owned(), *reason) {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
                .collect();
            failed.push(format!("{fields:?}: {found:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// As over HTTP/1: who waits to be asked for its body is asked once somebody reads it (RFC 9110, section 10.1.1).
#[tokio::test]
async fn a_client_that_waits_to_go_on_is_told_to() {
    let recorder = Recorder::start().await;
    let mut peer = Peer::start(recorder.naru.address, None, &[]).await;
    let head = [&request("POST", "/a")[..], &[("content-length", "1"), ("expect", "100-continue")]].concat();
    peer.send(headers(END_HEADERS, 1, &head)).await;
    let told = peer.find(|frame| frame.stream == 1).await.unwrap();
    assert_eq!((told.kind, told.flags, status(&told.payload)), (HEADERS, END_HEADERS, 100));
    peer.send(frame(DATA, END_STREAM, 1, b"!")).await;
    let (head, _) = peer.answer(1).await.unwrap();
    assert_eq!(status(&head), 200);
}

#[tokio::test]
async fn a_request_has_ended_with_its_stream_and_not_with_its_length() {
    let up = WireListener::bind().await;
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 0.3s }\n";
    let naru = Naru::start(&Bootstrap::new(routes).cluster("up", up.address, ""));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    let mut fields = request("POST", "/");
    fields.push(("content-length", "5"));
    peer.send([headers(END_HEADERS, 1, &fields), frame(DATA, 0, 1, "hello")].concat()).await;
    let mut upstream = up.accept().await;
    assert_eq!(upstream.request().await.text(), "hello");
    // Its end comes by itself, and the time of the route runs from there.
    peer.send(frame(DATA, END_STREAM, 1, "")).await;
    let (head, _) = peer.answer(1).await.unwrap();
    assert_eq!(status(&head), 504);
    assert_eq!(naru.ended(1).await, [(504, Reason::RouteTimeout)]);
}
