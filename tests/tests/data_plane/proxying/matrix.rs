//! Each kind of message, from each protocol to each.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};
use naru_tests::client::request;
use naru_tests::upstream::header;
use naru_tests::{Outbound, within};

use super::{Stand, between_all};

/// Bytes of which no two stretches are alike, so that none can stand in for another.
fn pattern(count: usize) -> Bytes {
    let words = (0_u64..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).take(count).collect()
}

#[tokio::test]
async fn a_get_passes_as_it_is() {
    between_all(async |stand: &mut Stand| {
        let mut get = request(Method::GET, "/describe/a%20b?q=1&q=2", Outbound::empty());
        get.headers_mut().insert("x-mine", HeaderValue::from_static("kept"));
        let answer = stand.client.exchange(get).await;
        assert_eq!(answer.status, 200);
        let told = answer.json();
        assert_eq!((&told["method"], &told["body"]), (&"GET".into(), &"".into()));
        assert_eq!(told["target"], "/describe/a%20b?q=1&q=2");
        assert_eq!(header(&told, "x-mine"), Some("kept"));
        assert_eq!(header(&told, "transfer-encoding"), None);
        assert!(matches!(header(&told, "content-length"), None | Some("0")), "{told}");
        // The name stands where the upstream's protocol wants it.
        let host = told["authority"].as_str().or(header(&told, "host"));
        assert_eq!(host, Some("naru.test"));
    })
    .await;
}

#[tokio::test]
async fn an_answer_has_the_version_of_its_client() {
    between_all(async |stand: &mut Stand| {
        let answer = stand.client.get("/bytes/3").await;
        assert!(matches!(answer.version, Version::HTTP_11 | Version::HTTP_2));
        assert_eq!((answer.header("content-length"), answer.text().as_str()), (Some("3"), "xxx"));
        assert_eq!(answer.header("transfer-encoding"), None);
        let answer = stand.client.get("/chunks/3").await;
        assert_eq!((answer.header("content-length"), answer.text().as_str()), (None, "xxx"));
        let is_chunked = answer.header("transfer-encoding") == Some("chunked");
        assert_eq!(is_chunked, answer.version == Version::HTTP_11);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_known_length_arrives_with_its_length() {
    between_all(async |stand: &mut Stand| {
        let post = request(Method::POST, "/describe", Outbound::sized("five!"));
        let told = stand.client.exchange(post).await.json();
        assert_eq!((&told["method"], &told["body"]), (&"POST".into(), &"five!".into()));
        assert_eq!(header(&told, "content-length"), Some("5"));
        assert_eq!(header(&told, "transfer-encoding"), None);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whole() {
    between_all(async |stand: &mut Stand| {
        let post = request(Method::POST, "/describe", Outbound::chunks(&["one", "two", "three"]));
        let told = stand.client.exchange(post).await.json();
        assert_eq!(told["body"], "onetwothree");
        assert_eq!(header(&told, "content-length"), None);
    })
    .await;
}

#[tokio::test]
async fn a_body_streams_both_ways_at_once() {
    between_all(async |stand: &mut Stand| {
        let (frames_tx, body) = Outbound::live();
        let sent = stand.client.send(request(Method::POST, "/echo", body)).await.unwrap();
        let mut body = sent.into_body();
        // Each piece comes back before the next is sent.
        for piece in ["one", "two", "three"] {
            frames_tx.send(Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))).await.unwrap();
            let mut echoed = Vec::new();
            while echoed.len() < piece.len() {
                let frame = within("the echo", naru_tests::message::next_frame(&mut body)).await;
                echoed.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
            }
            assert_eq!(echoed, piece.as_bytes());
        }
        drop(frames_tx);
        let rest = within("the end", naru_tests::message::collect(body)).await.unwrap();
        assert_eq!(rest.0, "");
    })
    .await;
}

#[tokio::test]
async fn an_empty_body_is_empty_on_the_other_side() {
    between_all(async |stand: &mut Stand| {
        let post = request(Method::POST, "/length", Outbound::empty());
        assert_eq!(stand.client.exchange(post).await.text(), "0 whole");
        let post = request(Method::POST, "/length", Outbound::chunks(&[]));
        assert_eq!(stand.client.exchange(post).await.text(), "0 whole");
        for path in ["/bytes/0", "/chunks/0"] {
            let answer = stand.client.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, ""));
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_has_no_body_leaves_the_connection_in_step() {
    between_all(async |stand: &mut Stand| {
        for (method, path, status) in [
            (Method::HEAD, "/bytes/7", 200),
            (Method::HEAD, "/status/404", 404),
            (Method::GET, "/status/204", 204),
            (Method::GET, "/status/304", 304),
        ] {
            let answer = stand.client.exchange(request(method, path, Outbound::empty())).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, ""), "{path}");
            assert_eq!(answer.header("transfer-encoding"), None, "{path}");
            // What comes next is the next answer, not what is left of this one.
            assert_eq!(stand.client.get("/bytes/2").await.text(), "xx");
        }
        assert_eq!((stand.up.connections(), stand.up.requests()), (1, 8));
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    between_all(async |stand: &mut Stand| {
        let trailers =
            HeaderMap::from_iter([("x-checksum".parse().unwrap(), HeaderValue::from_static("23"))]);
        for path in ["/describe", "/echo"] {
            let body = Outbound::chunks(&["one", "two"]).with_trailers(trailers.clone());
            let mut post = request(Method::POST, path, body);
            post.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            post.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
            let answer = stand.client.exchange(post).await;
            if path == "/describe" {
                let told = answer.json();
                assert_eq!(told["body"], "onetwo");
                assert_eq!(told["trailers"], serde_json::json!([["x-checksum", "23"]]), "{told}");
            } else {
                assert_eq!(answer.text(), "onetwo");
                assert_eq!(answer.trailers.as_ref(), Some(&trailers));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_body_arrives_byte_for_byte_both_ways() {
    let large = pattern(20_000_000);
    between_all(async |stand: &mut Stand| {
        let echo = request(Method::POST, "/echo", Outbound::sized(large.clone()));
        let answer = stand.client.exchange(echo).await;
        // Not by `assert_eq`, which would print them.
        assert!(answer.body == large, "{} bytes came back, not all the same", answer.body.len());
    })
    .await;
}

#[tokio::test]
async fn two_requests_share_a_connection_to_the_upstream() {
    between_all(async |stand: &mut Stand| {
        assert_eq!(stand.client.get("/bytes/1").await.text(), "x");
        assert_eq!(stand.client.get("/bytes/2").await.text(), "xx");
        assert_eq!((stand.up.connections(), stand.up.requests()), (1, 2));
        assert_eq!(stand.naru.report().await.downstream.connections_total, 1);
        assert_eq!(stand.naru.ended(2).await.len(), 2);
    })
    .await;
}
