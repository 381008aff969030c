//! Requests that are over soon: a GET of some bytes, or a POST that is echoed, each with its number in it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use naru_tests::client::request;
use naru_tests::http2::{self, H2Client};
use naru_tests::journal::HEADER;
use naru_tests::message::collect;
use naru_tests::wire::{Message, Transfer};
use naru_tests::{Client, Outbound, Speaks, Wire, within};
use tokio::net::TcpStream;

use super::ledger::Seen;
use super::{Asker, Kind};

/// What is asked under a number.
struct Ask {
    method: Method,
    path: String,
    body: String,
}

impl Ask {
    fn of(number: u64) -> Ask {
        let length = number * 37 % 3_000;
        if number.is_multiple_of(2) {
            return Ask { method: Method::GET, path: format!("/bytes/{length}"), body: String::new() };
        }
        let body = format!("{number} ").chars().cycle().take(length as usize).collect();
        Ask { method: Method::POST, path: "/echo".to_owned(), body }
    }

    /// The answer carries the number in a header, and in a body that is as it was asked for.
    fn judge(&self, number: u64, status: u16, headers: &[&str], body: &[u8]) -> Seen {
        if status != 200 {
            return Seen::Refused(status);
        }
        let is_right = if self.method == Method::GET {
            let length = number * 37 % 3_000;
            headers == [number.to_string()]
                && body.len() as u64 == length
                && body.iter().all(|byte| *byte == b'x')
        } else {
            body == self.body.as_bytes()
        };
        if is_right { Seen::Answered } else { Seen::Wrong(format!("{headers:?}, {} bytes", body.len())) }
    }
}

pub(super) async fn http1(asker: &Asker) {
    let mut wire = match Wire::try_connect(asker.to.plain).await {
        Ok(wire) => wire,
        Err(_) => return,
    };
    let (mut is_open, closes) = (true, asker.kind == Kind::Fresh);
    while is_open && !asker.ledger.is_over() {
        let number = asker.begin();
        let seen;
        (seen, is_open) = exchange(&mut wire, number, closes).await;
        asker.ledger.end(number, seen);
        if !asker.pause.is_zero() {
            tokio::time::sleep(asker.pause).await;
        }
    }
}

/// One exchange; whether the connection is open for another.
async fn exchange(wire: &mut Wire, number: u64, closes: bool) -> (Seen, bool) {
    let ask = Ask::of(number);
    let close = if closes { "connection: close\r\n" } else { "" };
    let length = match ask.method {
        Method::POST => format!("content-length: {}\r\n", ask.body.len()),
        _ => String::new(),
    };
    let text = format!(
        "{} {} HTTP/1.1\r\nhost: naru.test\r\n{HEADER}: {number}\r\nx-reply: {HEADER}: {number}\r\n{length}{close}\r\n{}",
        ask.method, ask.path, ask.body
    );
    // Where it cannot be sent there may be an answer that says why.
    let is_sent = wire.try_send(text).await;
    let head = match wire.try_head().await {
        Ok(head) => head,
        Err(end) => return (Seen::Broken(format!("no answer, the connection was {end:?}")), false),
    };
    let is_open = is_sent && !closes && head.get("connection") != Some("close");
    let Message { head, body, .. } = match wire.rest(head, true).await {
        Transfer::Whole(message) => message,
        Transfer::Broken(bytes) => return (Seen::Broken(format!("after {bytes} bytes")), false),
    };
    (ask.judge(number, head.status(), &head.all(HEADER), &body), is_open)
}

pub(super) async fn over_tls(asker: &Asker) {
    let connected = Client::secured(asker.to.secured, Speaks::Http1Tls, &asker.connector).await;
    let mut client = match connected {
        Ok((client, _)) => client,
        Err(error) => return asker.ledger.fault(format!("no handshake: {error}")),
    };
    // Not for ever, so that handshakes go on as well.
    for _ in 0..20 {
        let number = asker.begin();
        let (seen, is_open) = over_hyper(&mut client, number).await;
        asker.ledger.end(number, seen);
        if !is_open || asker.ledger.is_over() {
            break;
        }
        if !asker.pause.is_zero() {
            tokio::time::sleep(asker.pause).await;
        }
    }
}

async fn over_hyper(client: &mut Client, number: u64) -> (Seen, bool) {
    let ask = Ask::of(number);
    let body = if ask.body.is_empty() { Outbound::empty() } else { Outbound::sized(ask.body.clone()) };
    let mut request = request(ask.method.clone(), &ask.path, body);
    number_of(request.headers_mut(), number);
    let (head, body) = match client.send(request).await {
        Ok(answer) => answer.into_parts(),
        Err(error) => return (Seen::Broken(format!("no answer: {error:?}")), false),
    };
    match collect(body).await {
        Ok((body, _)) => {
            let is_open = head.headers.get("connection").is_none_or(|value| value != "close");
            (ask.judge(number, head.status.as_u16(), &values(&head.headers), &body), is_open)
        }
        Err(error) => (Seen::Broken(format!("not whole: {error:?}")), false),
    }
}

fn number_of(headers: &mut HeaderMap, number: u64) {
    headers.insert(HEADER, HeaderValue::from(number));
    headers.insert("x-reply", format!("{HEADER}: {number}").parse().unwrap());
}

fn values(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(HEADER).iter().map(|value| value.to_str().unwrap()).collect()
}

/// A connection of HTTP/2, where there is one to be had.
pub(super) async fn connect(asker: &Asker) -> Option<H2Client> {
    let stream = within("a connection", TcpStream::connect(asker.to.plain)).await;
    match stream {
        Ok(stream) => H2Client::over(stream).await.ok(),
        Err(error) if asker.is_relayed && error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn http2(asker: &Asker) {
    let Some(mut client) = connect(asker).await else { return };
    while !asker.ledger.is_over() {
        let number = asker.begin();
        let seen = stream(asker, &mut client, number).await;
        let is_over = matches!(seen, Seen::Broken(_) | Seen::Disclaimed);
        asker.ledger.end(number, seen);
        if is_over {
            return;
        }
        if !asker.pause.is_zero() {
            tokio::time::sleep(asker.pause).await;
        }
    }
}

/// What an error of HTTP/2 says of its stream.
pub(super) fn broken(error: &h2::Error) -> Seen {
    // What was sent after GOAWAY was not looked at, and it says so.
    if error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR) {
        return Seen::Disclaimed;
    }
    Seen::Broken(error.to_string())
}

async fn stream(asker: &Asker, client: &mut H2Client, number: u64) -> Seen {
    let ask = Ask::of(number);
    let uri = format!("http://{}{}", asker.to.plain, ask.path);
    let mut request = Request::builder().method(ask.method.clone()).uri(uri).body(()).unwrap();
    number_of(request.headers_mut(), number);
    let (answer, mut rest) = match client.try_request(request, ask.body.is_empty()).await {
        Ok(stream) => stream,
        // Nothing was sent: GOAWAY has come, or the connection is gone.
        Err(error) if error.is_io() => return Seen::Broken(error.to_string()),
        Err(_) => return Seen::Disclaimed,
    };
    if !ask.body.is_empty() {
        // How it ended, the answer says.
        let _ = rest.send_data(Bytes::from(ask.body.clone()), true);
    }
    let (head, mut body) = match http2::response(answer).await {
        Ok(answer) => answer.into_parts(),
        Err(error) => return broken(&error),
    };
    match http2::read(&mut body).await {
        Ok((body, _)) => ask.judge(number, head.status.as_u16(), &values(&head.headers), &body),
        Err(error) => Seen::Broken(format!("not whole: {error}")),
    }
}
