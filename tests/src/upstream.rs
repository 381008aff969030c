//! An upstream that behaves well and says what it was sent.
//!
//! | path            | answer                                                          |
//! |-----------------|-----------------------------------------------------------------|
//! | `/describe...`  | the request, as JSON: see [`describe`]                          |
//! | `/echo`         | the request's body and trailers as they come                    |
//! | `/status/N`     | this status, with a short body where it may have one            |
//! | `/bytes/N`      | so many bytes, with a length                                    |
//! | `/chunks/N`     | so many bytes, without one                                      |
//! | `/trailers`     | a body and a trailer                                            |
//! | `/slow/N`       | after so many milliseconds                                      |
//! | `/early`        | 200 at once, whatever the request's body does                   |
//! | `/length`       | how many bytes the request's body had, and whether it was whole |
//! | `/chat`         | WebSocket: messages are echoed, over HTTP/1                     |
//!
//! What comes with an `x-number` is in its [`Journal`]. A gRPC call of `/echo` ends with status 0.
//!
//! An answer has the headers that the request's `x-reply` names: `server: mine | x-there: yes`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_tls::Terminator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::journal::{self, Journal};
use crate::message::{collect, next_frame};
use crate::{Authority, Outbound, Speaks, websocket};

/// Serves on the runtime that it was started on, for as long as that lasts.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    journal: Arc<Journal>,
}

impl Upstream {
    pub async fn plain(speaks: Speaks) -> Upstream {
        Upstream::serve(speaks, &Authority::new()).await
    }

    /// Its certificate, where it needs one, is from `authority`.
    pub async fn serve(speaks: Speaks, authority: &Authority) -> Upstream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Upstream::listen(listener, speaks, authority, Arc::default())
    }

    /// On a socket of its caller's, with a journal that others may write, too.
    pub fn listen(
        listener: TcpListener,
        speaks: Speaks,
        authority: &Authority,
        journal: Arc<Journal>,
    ) -> Upstream {
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts { journal, ..Counts::default() });
        let terminator = speaks.is_tls().then(|| authority.terminator(&[speaks.alpn()]));
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve_one(stream, speaks, terminator.clone(), Arc::clone(&counted)));
            }
        });
        Upstream { address, counts }
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.counts.journal)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }
}

/// Whoever connects says a number in a line of its own, and is sent back whatever it sends.
pub async fn echo_bytes(listener: TcpListener, journal: Arc<Journal>) {
    while let Ok((stream, _)) = listener.accept().await {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let (mut from, mut to) = stream.into_split();
            let (mut first, mut byte) = (Vec::new(), [0]);
            while !first.ends_with(b"\n") {
                if !matches!(from.read(&mut byte).await, Ok(1)) {
                    return;
                }
                first.extend(byte);
            }
            journal.saw(String::from_utf8(first.clone()).unwrap().trim().parse().unwrap());
            // How it ends is for the other side to look at.
            if to.write_all(&first).await.is_ok() && tokio::io::copy(&mut from, &mut to).await.is_ok() {
                let _ = to.shutdown().await;
            }
        });
    }
}

async fn serve_one(stream: TcpStream, speaks: Speaks, terminator: Option<Terminator>, counts: Arc<Counts>) {
    stream.set_nodelay(true).unwrap();
    match terminator {
        None => serve_over(TokioIo::new(stream), speaks, counts).await,
        Some(terminator) => {
            if let Ok((stream, _)) = terminator.accept(stream).await {
                serve_over(TokioIo::new(stream), speaks, counts).await;
            }
        }
    }
}

async fn serve_over<I>(io: I, speaks: Speaks, counts: Arc<Counts>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        counts.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = request.headers().get(journal::HEADER) {
            counts.journal.saw(number.to_str().unwrap().parse().unwrap());
        }
        async { Ok::<_, Infallible>(answer(request).await) }
    });
    // How a connection ends is for the other side to look at.
    if speaks.is_http2() {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}

async fn answer(request: Request<Incoming>) -> Response<Outbound> {
    let path = request.uri().path().to_owned();
    let is_head = request.method() == Method::HEAD;
    let wanted = request.headers().get("x-reply").map(|value| value.to_str().unwrap().to_owned());
    let number = || path.rsplit('/').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let mut response = Response::new(Outbound::empty());
    match path.split('/').nth(1).unwrap_or("") {
        "echo" => {
            response = echo(request);
            if wanted.is_none() {
                return response;
            }
        }
        "chat" if request.headers().contains_key("upgrade") => return chat(request),
        "status" => {
            // A server that leaves a body unread closes its connection, and who sends the next request may be too quick.
            let _ = collect(request.into_body()).await;
            *response.status_mut() = StatusCode::from_u16(number() as u16).unwrap();
            if !matches!(number(), 204 | 304) {
                *response.body_mut() = Outbound::sized("upstream says so");
            }
        }
        "slow" => tokio::time::sleep(std::time::Duration::from_millis(number())).await,
        "bytes" => *response.body_mut() = Outbound::filler(number(), true),
        "chunks" => *response.body_mut() = Outbound::filler(number(), false),
        "trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("17"));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
            *response.body_mut() = Outbound::chunks(&["one", "two"]).with_trailers(trailers);
        }
        "early" => {
            *response.body_mut() = Outbound::sized("early");
            // The body is read on, as a server does that has not closed.
            tokio::spawn(collect(request.into_body()));
        }
        "length" => *response.body_mut() = Outbound::sized(length(request).await),
        _ => *response.body_mut() = Outbound::sized(describe(request).await.to_string()),
    }
    for field in wanted.iter().flat_map(|fields| fields.split('|')) {
        let (name, value) = field.split_once(':').unwrap();
        let name: HeaderName = name.trim().parse().unwrap();
        response.headers_mut().append(name, value.trim().parse().unwrap());
    }
    if is_head {
        // hyper leaves it out of HTTP/1 by itself, and not out of HTTP/2.
        *response.body_mut() = Outbound::empty();
    }
    response
}

fn echo(request: Request<Incoming>) -> Response<Outbound> {
    let (frames_tx, body) = Outbound::live();
    let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    let mut incoming = request.into_body();
    let mut response = Response::new(body);
    if is_grpc {
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    }
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    if incoming.is_end_stream() {
        *response.body_mut() = Outbound::empty();
        return response;
    }
    tokio::spawn(async move {
        while let Some(frame) = next_frame(&mut incoming).await {
            let frame = frame.map_err(|_| crate::message::Abort);
            if frames_tx.send(frame).await.is_err() {
                return;
            }
        }
        if is_grpc {
            let status = HeaderMap::from_iter([(
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]);
            // Who is gone needs no status.
            let _ = frames_tx.send(Ok(Frame::trailers(status))).await;
        }
    });
    response
}

fn chat(mut request: Request<Incoming>) -> Response<Outbound> {
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            // How it ends is for the other side to look at.
            let _ = websocket::echo(TokioIo::new(upgraded)).await;
        }
    });
    let granted = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let granted = granted.header("connection", "Upgrade").header("upgrade", "websocket");
    granted.header("sec-websocket-accept", websocket::ACCEPT).body(Outbound::empty()).unwrap()
}

async fn length(request: Request<Incoming>) -> String {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = next_frame(&mut body).await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return format!("{bytes} broken"),
        }
    }
    format!("{bytes} whole")
}

/// What a request looks like when it arrives:
/// `{ "method", "target", "authority", "scheme", "version", "headers": [[name, value]...], "body", "trailers" }`.
async fn describe(request: Request<Incoming>) -> serde_json::Value {
    let (parts, body) = request.into_parts();
    let (body, trailers) = collect(body).await.unwrap_or_default();
    serde_json::json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map_or("", |target| target.as_str()),
        "authority": parts.uri.authority().map(|authority| authority.as_str()),
        "scheme": parts.uri.scheme_str(),
        "version": format!("{:?}", parts.version),
        "headers": pairs(&parts.headers),
        "body": String::from_utf8_lossy(&body),
        "trailers": trailers.as_ref().map(pairs),
    })
}

fn pairs(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect()
}

/// A header of a request that [`describe`] has told of: its only value, if there is one.
pub fn header<'a>(described: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    let all = headers(described, name);
    assert!(all.len() <= 1, "{name} stands more than once: {described}");
    all.first().copied()
}

pub fn headers<'a>(described: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let pairs = described["headers"].as_array().unwrap();
    pairs.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
}

/// Frames that are there already.
pub fn frames(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Outbound {
    Outbound::Frames { frames: VecDeque::from_iter(frames), has_length: false }
}
