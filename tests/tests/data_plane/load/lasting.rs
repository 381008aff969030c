//! Streams and connections that last, a message and its answer after another: through several changes of whatever changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use naru_tests::http2;
use naru_tests::journal::HEADER;
use naru_tests::wire::Transfer;
use naru_tests::{Wire, websocket, within};
use serde_json::json;
use tokio::net::TcpSocket;

use super::exchanges::{broken, connect};
use super::ledger::{Ledger, Seen};
use super::{Asker, CLIENTS, Kind};
use crate::grpc::peers::Peers;

/// Of one stream.
const MESSAGES: usize = 40;
const BETWEEN_MESSAGES: Duration = Duration::from_millis(10);
/// Of a message, as it is passed.
const LENGTH: usize = 25;

/// Which message of which request, framed as one of gRPC.
fn message(number: u64, at: usize) -> Vec<u8> {
    let text = format!("{number:>14}.{at:>5}");
    let mut message = vec![0, 0, 0, 0, text.len() as u8];
    message.extend(text.as_bytes());
    assert_eq!(message.len(), LENGTH);
    message
}

pub(super) async fn call(asker: &Asker) {
    let number = asker.begin();
    let seen = stream_of_messages(asker, number).await.unwrap_or_else(|seen| seen);
    asker.ledger.end(number, seen);
}

async fn stream_of_messages(asker: &Asker, number: u64) -> Result<Seen, Seen> {
    let Some(mut client) = connect(asker).await else {
        return Err(Seen::Broken("no connection".to_owned()));
    };
    let mut call = http2::post(asker.to.plain, "/echo");
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    call.headers_mut().insert(HEADER, HeaderValue::from(number));
    let (answer, mut onward) = client.try_request(call, false).await.map_err(|error| broken(&error))?;
    // The answer says how it ends.
    let _ = onward.send_data(message(number, 0).into(), false);
    let (head, mut back) = http2::response(answer).await.map_err(|error| broken(&error))?.into_parts();
    if head.headers.contains_key("grpc-status") || head.status != 200 {
        return Ok(Seen::Refused(head.status.as_u16()));
    }
    let mut come: Vec<u8> = Vec::new();
    for at in 0..MESSAGES {
        if at > 0 {
            let _ = onward.send_data(Bytes::from(message(number, at)), false);
        }
        while come.len() < LENGTH {
            let data = match within("an echo", back.data()).await {
                Some(data) => data.map_err(|error| Seen::Broken(error.to_string()))?,
                // It has ended before its time, with a status that says so.
                None => return Err(Seen::Broken("the stream has ended".to_owned())),
            };
            let _ = back.flow_control().release_capacity(data.len());
            come.extend_from_slice(&data);
        }
        let echoed: Vec<u8> = come.drain(..LENGTH).collect();
        if echoed != message(number, at) {
            return Ok(Seen::Wrong(format!("message {at}: {echoed:?}")));
        }
        asker.ledger.moves(Kind::Calls);
        tokio::time::sleep(BETWEEN_MESSAGES).await;
    }
    let _ = onward.send_data(Bytes::new(), true);
    let (rest, trailers) =
        http2::read(&mut back).await.map_err(|error| Seen::Broken(format!("at its end: {error}")))?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    if rest.is_empty() && status.is_some_and(|status| status == "0") {
        return Ok(Seen::Answered);
    }
    Err(Seen::Broken(format!("at its end: {trailers:?}")))
}

pub(super) async fn chat(asker: &Asker) {
    let number = asker.begin();
    let seen = websocket(asker, number).await.unwrap_or_else(|why| Seen::Broken(why.to_owned()));
    asker.ledger.end(number, seen);
}

async fn websocket(asker: &Asker, number: u64) -> Result<Seen, &'static str> {
    let mut wire = Wire::try_connect(asker.to.plain).await.map_err(|_| "no connection")?;
    let ask = websocket::ASK;
    wire.try_send(format!("GET /chat HTTP/1.1\r\nhost: naru.test\r\n{HEADER}: {number}\r\n{ask}\r\n")).await;
    let head = wire.try_head().await.map_err(|_| "no answer")?;
    if head.status() != 101 {
        let status = head.status();
        return match wire.rest(head, true).await {
            Transfer::Whole(_) => Ok(Seen::Refused(status)),
            Transfer::Broken(_) => Err("no whole answer"),
        };
    }
    if head.get("sec-websocket-accept") != Some(websocket::ACCEPT) {
        return Ok(Seen::Wrong(format!("{head:?}")));
    }
    for at in 0..MESSAGES {
        let text = message(number, at);
        wire.try_send(websocket::frame(websocket::TEXT, &text)).await;
        let echoed = websocket::read(&mut wire).await.map_err(|_| "no echo")?;
        if echoed != (websocket::TEXT, text) {
            return Ok(Seen::Wrong(format!("message {at}: {echoed:?}")));
        }
        asker.ledger.moves(Kind::Chats);
        tokio::time::sleep(BETWEEN_MESSAGES).await;
    }
    wire.try_send(websocket::frame(websocket::CLOSE, b"")).await;
    let closed = websocket::read(&mut wire).await.map_err(|_| "no close")?;
    let (rest, end) = wire.end().await;
    if closed != (websocket::CLOSE, Vec::new()) || !rest.is_empty() || end != naru_tests::wire::End::Closed {
        return Err("not closed in good order");
    }
    Ok(Seen::Answered)
}

pub(super) async fn bytes(asker: &Asker) {
    let number = asker.begin();
    let seen = passed_through(asker, number).await.unwrap_or_else(|why| Seen::Broken(why.to_owned()));
    asker.ledger.end(number, seen);
}

/// Begins with a line with the number, for the journal.
async fn passed_through(asker: &Asker, number: u64) -> Result<Seen, &'static str> {
    // Its port is known also where it is reset at once.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    asker.ledger.came_from(number, socket.local_addr().unwrap().port());
    let connected = within("a connection", socket.connect(asker.to.passing)).await;
    let mut wire = Wire::new(connected.map_err(|_| "reset at once")?);
    let first = format!("{number}\n");
    wire.try_send(&first).await;
    if wire.exactly(first.len()).await.map_err(|_| "nothing came")? != first.as_bytes() {
        return Ok(Seen::Wrong("another first line".to_owned()));
    }
    for at in 0..MESSAGES {
        let text = message(number, at);
        wire.try_send(&text).await;
        let echoed = wire.exactly(LENGTH).await.map_err(|_| "no echo")?;
        if echoed != text {
            return Ok(Seen::Wrong(format!("message {at}: {echoed:?}")));
        }
        asker.ledger.moves(Kind::Bytes);
        tokio::time::sleep(BETWEEN_MESSAGES).await;
    }
    wire.finish().await;
    let (rest, end) = wire.end().await;
    if !rest.is_empty() || end != naru_tests::wire::End::Closed {
        return Err("not closed in good order");
    }
    Ok(Seen::Answered)
}

/// Calls at once on one connection, and then on another.
pub(super) async fn grpc(address: SocketAddr, mut peers: Peers, ledger: Arc<Ledger>) {
    let messages: Vec<String> =
        (0..MESSAGES).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
    let expected: Vec<String> = messages.iter().map(|message| format!("re: {message}")).collect();
    while !ledger.is_over() {
        let numbers: Vec<u64> = (0..CLIENTS).map(|_| ledger.begin(Kind::Grpc, false)).collect();
        let calls = numbers.iter().map(|number| {
            let metadata = [[HEADER, &number.to_string()]];
            json!({ "method": "Chat", "messages": messages, "lockstep": true, "metadata": metadata })
        });
        let results = peers.calls(address, None, calls.collect()).await;
        for (number, result) in numbers.into_iter().zip(results) {
            ledger.end(
                number,
                if is_unsent(&result) {
                    Seen::Disclaimed
                } else if result["code"] != "OK" {
                    Seen::Broken(result.to_string())
                } else if result["messages"] != json!(expected) {
                    Seen::Wrong(result.to_string())
                } else {
                    Seen::Answered
                },
            );
        }
    }
}

/// The client had chosen a connection for the call, and was told to open nothing more on it before it did
/// (grpc/grpc#19969). It asks once more by itself, and may be told the same. That naru knows nothing of the call is seen in
/// the books.
fn is_unsent(result: &serde_json::Value) -> bool {
    let details = result["details"].as_str().unwrap_or_default();
    result["code"] == "UNAVAILABLE"
        && details.contains("Stream removed")
        && details.contains("GOAWAY received; Error code: 0")
}
