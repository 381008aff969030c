//! Bodies in content codings, on sockets: answers that are compressed, requests that are read out of theirs.

mod beside;
mod directions;

use std::net::SocketAddr;

use naru_base::Reason;
use naru_coding::{Coding, Decoder, Encoder};
use naru_proxy::Options;
use naru_spec::{
    Action, CachePolicy, Check, CheckKind, Coder, Compressor, Config, ContentCoding, Decompressor, GateChange,
};
use naru_tests::naru::config;
use naru_tests::wire::{Message, WireListener};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire};

pub fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let coding = match coding {
        "gzip" => Coding::Gzip,
        "br" => Coding::Brotli,
        "zstd" => Coding::Zstd,
        other => panic!("{other}"),
    };
    let (mut decoder, mut rest, mut all) = (Decoder::new(coding), bytes, Vec::new());
    let mut room = vec![0; 64 * 1_024];
    loop {
        let filled = decoder.read(&mut rest, &mut room).unwrap();
        all.extend_from_slice(&room[..filled]);
        if filled < room.len() {
            assert!(rest.is_empty() && decoder.is_whole());
            return all;
        }
    }
}

pub fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut encoder = match coding {
        Coding::Gzip => Encoder::gzip(None, 15),
        Coding::Brotli => Encoder::brotli(4, 18),
        Coding::Zstd => Encoder::zstd(3, 19, false),
    };
    let mut out = Vec::new();
    encoder.write(body, &mut out);
    encoder.finish(&mut out);
    out
}

fn compressors() -> Vec<Check> {
    let all = [ContentCoding::Gzip, ContentCoding::Brotli, ContentCoding::Zstd];
    let check = |coding: ContentCoding| {
        let mut made = Compressor::new(Coder::usual(coding));
        made.content_types = vec!["text/plain".into(), "text/event-stream".into(), "text/html".into()];
        Check { name: coding.name().into(), kind: CheckKind::Compress(Box::new(made)) }
    };
    all.into_iter().map(check).collect()
}

pub fn with(address: SocketAddr, checks: Vec<Check>) -> Config {
    let mut config = config(&Bootstrap::to(address));
    config.listeners[0].chains[0].http.gate.checks = checks;
    config
}

pub fn start(config: Config) -> Naru {
    Naru::start_on(config, &Options { workers: 1, seed: Some(1) })
}

async fn ask(wire: &mut Wire, lines: &str) -> Message {
    wire.send(format!("{lines}\r\nhost: naru.test\r\n\r\n")).await;
    wire.response().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_in_the_coding_that_its_client_wants() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, compressors()));
    for path in ["/bytes/300000", "/chunks/300000"] {
        let mut wire = Wire::connect(naru.address).await;
        let line = |said: &str| {
            format!("GET {path} HTTP/1.1\r\nx-reply: content-type: text/plain | etag: \"a\"{said}")
        };
        let plain = ask(&mut wire, &line("")).await;
        assert_eq!(plain.head.get("vary"), Some("Accept-Encoding"));
        assert_eq!((plain.head.get("content-encoding"), plain.head.get("etag")), (None, Some("\"a\"")));
        for coding in ["gzip", "br", "zstd"] {
            let answer = ask(&mut wire, &line(&format!("\r\naccept-encoding: {coding}"))).await;
            assert_eq!(answer.head.get("content-encoding"), Some(coding));
            assert_eq!(answer.head.get("content-length"), None);
            assert_eq!(answer.head.get("etag"), None, "its bytes are others");
            assert!(answer.body.len() < plain.body.len() / 10, "{}", answer.body.len());
            assert!(decoded(coding, &answer.body) == plain.body, "{path} {coding}");
        }
    }
    let codings = naru.codings();
    assert!(
        codings.iter().all(|status| status.answers == 2 && status.bytes_before == 600_000),
        "{codings:?}"
    );
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_piece_by_piece_arrives_piece_by_piece() {
    let up = WireListener::bind().await;
    let naru = start(with(up.address, compressors()));
    for (coding, named) in [(Coding::Gzip, "gzip"), (Coding::Brotli, "br"), (Coding::Zstd, "zstd")] {
        let mut client = Wire::connect(naru.address).await;
        client
            .send(format!("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: {named}\r\nte: trailers\r\n\r\n"))
            .await;
        let mut upstream = up.accept().await;
        upstream.request().await;
        upstream
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let head = client.head().await;
        assert_eq!(head.get("content-encoding"), Some(named));
        let mut decoder = Decoder::new(coding);
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            upstream.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            // The next is not sent before this one is here, whole.
            let (mut room, mut said) = ([0; 64], Vec::new());
            while said.len() < event.len() {
                let piece = client.chunk().await.unwrap();
                let filled = decoder.read(&mut &piece[..], &mut room).unwrap();
                said.extend_from_slice(&room[..filled]);
            }
            assert_eq!(String::from_utf8(said).unwrap(), event, "{named}");
        }
        upstream.send("0\r\nx-sum: 5\r\n\r\n").await;
        loop {
            let piece = client.chunk().await.unwrap();
            if piece.is_empty() {
                break;
            }
            decoder.read(&mut &piece[..], &mut [0; 64]).unwrap();
        }
        assert!(decoder.is_whole());
        assert_eq!(client.trailers().await.unwrap(), [("x-sum".to_owned(), "5".to_owned())], "{named}");
    }
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_body_or_a_coding_of_its_own_is_left_as_it_is() {
    let up = WireListener::bind().await;
    let naru = start(with(up.address, compressors()));
    let (mut client, mut upstream) = (Wire::connect(naru.address).await, None);
    for (method, answer, vary) in [
        ("HEAD", "200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n", true),
        ("GET", "304 Not Modified\r\ncontent-type: text/plain\r\netag: \"a\"\r\n\r\n", true),
        ("GET", "204 No Content\r\ncontent-type: text/plain\r\n\r\n", true),
        (
            "GET",
            "200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: x\r\ncontent-length: 40\r\n\r\n",
            false,
        ),
        ("GET", "206 Partial Content\r\ncontent-range: bytes 0-39/99\r\ncontent-length: 40\r\n\r\n", false),
        ("GET", "200 OK\r\ncontent-type: image/png\r\ncontent-length: 40\r\n\r\n", false),
        ("GET", "200 OK\r\ncache-control: no-transform\r\ncontent-length: 40\r\n\r\n", false),
        ("GET", "200 OK\r\ncontent-type: text/plain\r\ncontent-length: 29\r\n\r\n", false),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n")).await;
        if upstream.is_none() {
            upstream = Some(up.accept().await);
        }
        let peer = upstream.as_mut().unwrap();
        peer.request().await;
        let length = if method == "HEAD" || answer.contains("204") || answer.contains("304") {
            0
        } else if answer.contains("29") {
            29
        } else {
            40
        };
        peer.send(format!("HTTP/1.1 {answer}{}", "x".repeat(length))).await;
        let head = client.head().await;
        if length > 0 {
            assert_eq!(client.exactly(length).await.unwrap(), "x".repeat(length).into_bytes());
        }
        assert_eq!(
            head.get("content-encoding"),
            answer.contains("content-encoding").then_some("x"),
            "{answer}"
        );
        assert_eq!(head.get("vary").is_some(), vary, "{answer}");
        if method == "HEAD" {
            assert_eq!(head.get("content-length"), Some("1000"));
        }
    }
    drop((client, upstream));
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_kept_plain_and_given_to_each_as_it_wants_it() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut config = with(up.address, compressors());
    let rule = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0];
    let Action::Forward(forward) = &mut rule.action else { panic!() };
    forward.cache = Some(Box::new(CachePolicy::default()));
    let naru = start(config);
    let mut wire = Wire::connect(naru.address).await;
    let line = |said: &str| {
        format!(
            "GET /bytes/100000 HTTP/1.1\r\nx-reply: content-type: text/plain | cache-control: max-age=1000{said}"
        )
    };
    let first = ask(&mut wire, &line("\r\naccept-encoding: gzip")).await;
    let whole = decoded("gzip", &first.body);
    for coding in ["br", "gzip", "zstd"] {
        let answer = ask(&mut wire, &line(&format!("\r\naccept-encoding: {coding}"))).await;
        assert_eq!(answer.head.get("content-encoding"), Some(coding));
        assert!(answer.head.get("age").is_some());
        assert!(decoded(coding, &answer.body) == whole);
    }
    let plain = ask(&mut wire, &line("")).await;
    assert!(plain.head.get("content-encoding").is_none() && plain.body == whole);
    let part = ask(&mut wire, &line("\r\naccept-encoding: gzip\r\nrange: bytes=10-19")).await;
    assert_eq!((part.status(), part.head.get("content-encoding"), part.body.len()), (206, None, 10));
    assert_eq!(up.requests(), 1);
    drop(wire);
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_breaks_off_in_its_coding() {
    let up = WireListener::bind().await;
    let naru = start(with(up.address, compressors()));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}", "x".repeat(500))).await;
    let head = client.head().await;
    drop(upstream);
    let transfer = client.rest(head, true).await;
    assert!(matches!(transfer, naru_tests::wire::Transfer::Broken(_)), "{transfer:?}");
    assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
    naru.settles().await;
}

fn inflating(bytes_max: u64) -> Check {
    let mut made = Decompressor::new(ContentCoding::ALL.to_vec());
    made.bytes_max = bytes_max;
    Check { name: "inflate".into(), kind: CheckKind::Decompress(Box::new(made)) }
}

async fn post(naru: &Naru, path: &str, coding: &str, body: &[u8]) -> Message {
    let mut wire = Wire::connect(naru.address).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // What it answers before it has all is an answer, too.
    wire.try_send([head.as_bytes(), body].concat()).await;
    wire.response().await
}

pub const CODINGS: [(Coding, &str); 3] =
    [(Coding::Gzip, "gzip"), (Coding::Brotli, "br"), (Coding::Zstd, "zstd")];

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_its_upstream_out_of_its_coding() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, vec![inflating(1 << 20)]));
    let mut state = 1u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + (state >> 40) as u8 % 23
    });
    let body: Vec<u8> = letters.take(200_000).collect();
    for (coding, named) in CODINGS {
        let answer = post(&naru, "/echo", named, &encoded(coding, &body)).await;
        assert!(answer.status() == 200 && answer.body == body, "{named}: {}", answer.status());
        let told = post(&naru, "/describe", named, &encoded(coding, b"small")).await.text();
        assert!(!told.to_lowercase().contains("content-encoding"), "{told}");
    }
    let other = post(&naru, "/echo", "deflate", b"as it is").await;
    assert_eq!(other.text(), "as it is", "what is not known goes on");
    naru.settles().await;
}

/// Much of nothing.
fn bomb(coding: Coding) -> Vec<u8> {
    let mut encoder = match coding {
        Coding::Gzip => Encoder::gzip(Some(9), 15),
        Coding::Brotli => Encoder::brotli(4, 22),
        Coding::Zstd => Encoder::zstd(3, 19, false),
    };
    let (zeros, mut bomb) = (vec![0; 1 << 20], Vec::new());
    for _ in 0..40 {
        encoder.write(&zeros, &mut bomb);
    }
    encoder.finish(&mut bomb);
    bomb
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, vec![inflating(10 << 20)]));
    let mut refused = 0;
    for (coding, named) in CODINGS {
        let bomb = bomb(coding);
        let answer = post(&naru, "/length", named, &bomb).await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "Payload Too Large"), "{named}");
        refused += 1;
    }
    let ended = naru.ended(refused).await;
    assert!(ended.iter().all(|end| *end == (413, Reason::InflatedTooLarge)), "{ended:?}");
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_its_coding_is_refused() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(with(up.address, vec![inflating(10 << 20)]));
    let mut refused = 0;
    for (coding, named) in CODINGS {
        let whole = encoded(coding, &b"a body of some length, and more of it".repeat(50));
        for body in
            [&b"this is in no coding at all"[..], &whole[..whole.len() - 3], &[&whole[..], b"tail"].concat()]
        {
            let answer = post(&naru, "/length", named, body).await;
            assert_eq!(answer.status(), 400, "{named} {}", answer.text());
            refused += 1;
        }
    }
    let ended = naru.ended(refused).await;
    assert!(ended.iter().all(|end| *end == (400, Reason::BodyCoding)), "{ended:?}");
    naru.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_says_how_large_a_body_may_be() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut limited = config(&Bootstrap::to(up.address));
    let limit = Check { name: "limit".into(), kind: CheckKind::BodyLimit(1_000) };
    let http = &mut limited.listeners[0].chains[0].http;
    http.routes.virtual_hosts[0].rules[0].gate = vec![GateChange::Also(limit)];
    let naru = start(limited);
    assert_eq!(post(&naru, "/length", "identity", &[b'x'; 1_000]).await.status(), 200);
    // It says itself that it is too large: nobody is asked.
    let mut wire = Wire::connect(naru.address).await;
    wire.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 413);
    assert_eq!(up.requests(), 1);
    drop(wire);
    let mut wire = Wire::connect(naru.address).await;
    wire.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n").await;
    wire.send([b'x'; 1_000]).await;
    wire.send("\r\n1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 413);
    drop(wire);
    assert_eq!(naru.ended(3).await.iter().filter(|end| **end == (413, Reason::BodyTooLarge)).count(), 2);
    naru.settles().await;
}
