//! A call is what its server hears, and ends as its server says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_grpc::{Call, Connection, Ended, Misframed, Pings, Unframer, framed};

const PINGS: Pings =
    Pings { every: Duration::from_secs(10), time_max: Duration::from_secs(10), while_idle: false };

/// Frames, one after the other.
#[derive(Default)]
struct Said(VecDeque<Frame<Bytes>>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn fields(all: &[(&'static str, &'static str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// All that a client says until it says no more.
async fn heard(mut body: Incoming) -> Vec<Bytes> {
    let (mut unframer, mut all) = (Unframer::new(1_000), Vec::new());
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        unframer.push(&frame.unwrap().into_data().unwrap_or_default());
        while let Some(message) = unframer.message().unwrap() {
            all.push(message);
        }
    }
    all
}

/// What `/METHOD` says.
async fn answer(request: Request<Incoming>) -> Result<Response<Said>, Infallible> {
    let method = request.uri().path().to_owned();
    let mut response = Response::new(Said::default());
    let said: VecDeque<Frame<Bytes>> = match method.as_str() {
        "/echo" => {
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["x-more"], "yes");
            let heard = heard(request.into_body()).await;
            let messages = heard.iter().map(|message| Frame::data(framed(message)));
            messages.chain([Frame::trailers(fields(&[("grpc-status", "0")]))]).collect()
        }
        "/refused" => {
            *response.headers_mut() = fields(&[("grpc-status", "7"), ("grpc-message", "not you")]);
            VecDeque::new()
        }
        "/late" => {
            let trailers = fields(&[("grpc-status", "14"), ("grpc-message", "gone")]);
            [Frame::data(framed(b"one")), Frame::trailers(trailers)].into()
        }
        "/strange" => [Frame::trailers(fields(&[("grpc-status", "x")]))].into(),
        "/large" => [Frame::data(framed(&[b'x'; 101]))].into(),
        "/short" => [Frame::data(framed(b"whole").slice(..7))].into(),
        _ => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            VecDeque::new()
        }
    };
    *response.body_mut() = Said(said);
    Ok(response)
}

async fn connection() -> Connection {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(theirs), service_fn(answer)));
    Connection::open(ours, PINGS).await.unwrap()
}

/// What comes back where these messages are said, and how it ends.
async fn called(connection: &Connection, method: &str, messages: &[&[u8]]) -> (Vec<Bytes>, Ended) {
    let headers = [(HeaderName::from_static("x-more"), HeaderValue::from_static("yes"))];
    let call = Call { scheme: "http", authority: "somebody", method, headers: &headers, bytes_max: 100 };
    let mut stream = connection.call(&call).await.unwrap();
    messages.iter().for_each(|message| stream.send(message));
    stream.close();
    let mut came = Vec::new();
    loop {
        match stream.next().await {
            Ok(message) => came.push(message),
            Err(ended) => return (came, ended),
        }
    }
}

#[tokio::test]
async fn messages_go_and_come_and_the_end_is_told() {
    let connection = connection().await;
    let check = async |method: &str, messages: &[&[u8]], expected: &[&[u8]], ended: Ended| {
        let found = called(&connection, method, messages).await;
        assert_eq!(
            found,
            (expected.iter().copied().map(Bytes::copy_from_slice).collect(), ended),
            "{method}"
        );
    };
    check("/echo", &[b"one", b"", b"three"], &[b"one", b"", b"three"], Ended::Over).await;
    check("/echo", &[], &[], Ended::Over).await;
    check("/refused", &[b"a"], &[], Ended::Refused { code: 7, message: "not you".to_owned() }).await;
    check("/late", &[b"a"], &[b"one"], Ended::Refused { code: 14, message: "gone".to_owned() }).await;
    check("/strange", &[], &[], Ended::Refused { code: 2, message: String::new() }).await;
    check("/large", &[], &[], Ended::Misframed(Misframed::TooLarge { bytes: 101 })).await;
    // What never became a message is none.
    check("/short", &[], &[], Ended::Over).await;
    check("/nobody", &[], &[], Ended::Answered(StatusCode::NOT_FOUND)).await;
}

#[tokio::test]
async fn what_cannot_be_called_and_who_is_gone_is_told() {
    let connection = connection().await;
    let call = Call { scheme: "http", authority: "not a name", method: "/echo", headers: &[], bytes_max: 1 };
    let Err(Ended::Lost(why)) = connection.call(&call).await else { panic!("that is no authority") };
    assert!(why.contains("'not a name'"), "{why}");
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    drop(theirs);
    let opened = Connection::open(ours, PINGS).await;
    let ended = match opened {
        Ok(connection) => called(&connection, "/echo", &[]).await.1,
        Err(ended) => ended,
    };
    assert!(matches!(ended, Ended::Lost(_)), "{ended:?}");
}
