//! gRPC-Web to a server of gRPC that others have written. What heads become is compared with Envoy's in
//! `beside_envoy/webs.rs`.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::http2::{H2Client, post, read, response};
use naru_tests::wire::refusing_address;
use naru_tests::{Bootstrap, Naru, Wire};

use super::peers::Peers;

const FILTER: &str = "- name: envoy.filters.http.grpc_web\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb }";

/// How a client calls.
#[derive(Clone, Copy, Debug)]
struct Way {
    is_http2: bool,
    is_text: bool,
}

const WAYS: [Way; 4] = [
    Way { is_http2: false, is_text: false },
    Way { is_http2: false, is_text: true },
    Way { is_http2: true, is_text: false },
    Way { is_http2: true, is_text: true },
];

/// What a client has read.
#[derive(Debug, Default)]
struct Answer {
    head: HeaderMap,
    messages: Vec<Vec<u8>>,
    /// Of the last frame; of the head where there is none.
    trailers: HeaderMap,
}

impl Answer {
    fn code(&self) -> &str {
        let all = if self.trailers.contains_key("grpc-status") { &self.trailers } else { &self.head };
        all["grpc-status"].to_str().unwrap()
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// Calls a method of the peers' server with these messages, in pieces of a few bytes.
async fn call(address: SocketAddr, way: Way, method: &str, messages: &[&[u8]]) -> (u16, Answer) {
    let mut body: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    if way.is_text {
        body = STANDARD.encode(body).into_bytes();
    }
    let kind = if way.is_text { "application/grpc-web-text" } else { "application/grpc-web+proto" };
    let path = format!("/naru.Test/{method}");
    let (status, head, body) = if way.is_http2 {
        let mut client = H2Client::connect(address).await;
        let mut request = post(address, &path);
        for (name, value) in
            [("content-type", kind), ("accept", kind), ("x-grpc-web", "1"), ("x-mine", "kept")]
        {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let (answer, mut send) = client.request(request, false).await;
        for piece in body.chunks(7) {
            send.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        }
        send.send_data(Bytes::new(), true).unwrap();
        let (head, mut receive) = response(answer).await.unwrap().into_parts();
        let (body, trailers) = read(&mut receive).await.unwrap();
        assert_eq!(trailers, None);
        client.close().await;
        (head.status.as_u16(), head.headers, body)
    } else {
        let mut client = Wire::connect(address).await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\naccept: {kind}\r\nx-grpc-web: 1\r\nx-mine: kept\r\ntransfer-encoding: chunked\r\n\r\n"
            ))
            .await;
        for piece in body.chunks(7) {
            client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
        }
        client.send("0\r\n\r\n").await;
        let answer = client.response().await;
        assert_eq!(answer.trailers, []);
        let pairs = answer.head.headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        (answer.status(), pairs.collect(), answer.body)
    };
    (status, understood(head, &body, way))
}

fn understood(head: HeaderMap, body: &[u8], way: Way) -> Answer {
    let expected = if way.is_text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
    assert_eq!(head["content-type"], expected);
    // Each frame is padded by itself.
    let bytes: Vec<u8> = match way.is_text {
        true => body.chunks(4).flat_map(|group| STANDARD.decode(group).unwrap()).collect(),
        false => body.to_vec(),
    };
    let mut answer = Answer { head, ..Answer::default() };
    let mut rest = &bytes[..];
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let (message, later) = after.split_at(length);
        if head[0] == 0x80 {
            assert!(later.is_empty(), "nothing follows trailers");
            for line in std::str::from_utf8(message).unwrap().split_terminator("\r\n") {
                let (name, value) = line.split_once(':').unwrap();
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                answer.trailers.append(name, HeaderValue::from_str(value).unwrap());
            }
        } else {
            answer.messages.push(message.to_vec());
        }
        rest = later;
    }
    assert!(rest.is_empty());
    answer
}

#[tokio::test]
async fn calls_are_made_and_answered_in_every_way() {
    let mut peers = Peers::start().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).filter(FILTER).cluster("up", peers.server, HTTP2));
    let large = vec![b'x'; 200_000];
    for (at, way) in WAYS.into_iter().enumerate() {
        for message in [&b"hello"[..], b"", b"ab", &large] {
            let (status, answer) = call(naru.address, way, "Echo", &[message]).await;
            assert_eq!((status, answer.code()), (200, "0"), "{way:?}");
            assert!(answer.messages == [message], "{way:?}");
            assert_eq!(
                (&answer.head["x-mine"], &answer.trailers["x-end"]),
                (&"kept".parse().unwrap(), &"of the call".parse().unwrap())
            );
            assert!(answer.trailers.contains_key("x-end-bin"));
        }
        let (_, answer) = call(naru.address, way, "Sizes", &[b"3 70000 0 512"]).await;
        let sizes: Vec<usize> = answer.messages.iter().map(Vec::len).collect();
        assert_eq!((sizes, answer.code()), (vec![3, 70_000, 0, 512], "0"), "{way:?}");
        let (_, answer) = call(naru.address, way, "Count", &[b"abc", b"", b"de"]).await;
        assert_eq!(
            (answer.messages, answer.trailers["grpc-status"].as_bytes()),
            (vec![b"5".to_vec()], &b"0"[..])
        );
        let (status, answer) = call(naru.address, way, "Fail", &[b"5 not there"]).await;
        assert_eq!((status, answer.code(), answer.messages.len()), (200, "5", 0), "{way:?} {answer:?}");
        let seen = &peers.seen(7 * (at + 1)).await;
        let last = &seen.last().unwrap()["metadata"];
        assert_eq!(super::value(last, "x-mine"), Some("kept"));
    }
    // The log and the numbers know them as gRPC.
    let ended = super::ended(&naru, 28).await;
    assert_eq!(ended[&(Reason::Forwarded, Some(0))], 24);
    assert_eq!(ended[&(Reason::Forwarded, Some(5))], 4);
}

#[tokio::test]
async fn an_error_of_narus_own_is_a_status() {
    let naru = Naru::start(&Bootstrap::new(TO_UP).filter(FILTER).cluster("up", refusing_address(), HTTP2));
    for way in WAYS {
        let (status, answer) = call(naru.address, way, "Echo", &[b"hello"]).await;
        assert_eq!((status, answer.code(), answer.messages.len()), (503, "14", 0), "{way:?}");
        assert!(answer.head["grpc-message"].to_str().unwrap().contains("connect"), "{answer:?}");
    }
    naru.settles().await;
}
