//! Endpoints that do to each request what the request itself says.
//!
//! `x-n` is the number of a request, `x-script` what is done to its attempts, in their order, at whichever endpoints:
//!
//! | word              | what the endpoint does                                       |
//! |-------------------|--------------------------------------------------------------|
//! | `503`, `503:a=b`  | answers with this status, and this header                    |
//! | `grpc14`          | answers with this status of gRPC, all in one head            |
//! | `late14`          | the same, after a body (HTTP/2)                              |
//! | `reset`, `close`  | tears the connection down, or closes it, before it answers   |
//! | `half`            | closes the connection within the body of its answer          |
//! | `torn`            | tears it down there                                          |
//! | `refuse`          | resets the stream as one that it has not looked at (HTTP/2)  |
//! | `cancel`          | resets the stream for another reason (HTTP/2)                |
//! | `silent`          | never answers                                                |
//! | `hold`            | answers 200 once the test says so                            |
//!
//! After the end of a script it answers 200.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use naru_tests::http2::{self, H2Server};
use naru_tests::{Wire, until};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// All endpoints listen on this port of addresses of their own, so that a hash chooses the same one in each run.
const PORT: u16 = 17_180;

pub struct Upstreams {
    block: u8,
    speaks_http2: bool,
    /// `None` while connections are refused.
    endpoints: Vec<Option<JoinHandle<()>>>,
    journal: Arc<Mutex<Journal>>,
    /// The last address of a block: as long as somebody listens there, the block is taken.
    _held: TcpListener,
}

#[derive(Default)]
struct Journal {
    /// Which endpoints each request came to.
    arrivals: BTreeMap<u64, Vec<usize>>,
    /// Requests of which the client has seen a head.
    seen: BTreeSet<u64>,
    released: BTreeSet<u64>,
}

impl Upstreams {
    /// So many; `wish` says which addresses, where they are free.
    pub async fn new(count: usize, speaks_http2: bool, wish: u64) -> Upstreams {
        // Each block of addresses is for one set of endpoints on this machine.
        for step in 0..250 {
            let block = 1 + ((wish + step) % 250) as u8;
            let Some(held) = listen(address(block, 250)) else { continue };
            let endpoints = (0..count).map(|_| None).collect();
            let journal = Arc::default();
            let mut upstreams = Upstreams { block, speaks_http2, endpoints, journal, _held: held };
            for endpoint in 0..count {
                upstreams.accept(endpoint).await;
            }
            return upstreams;
        }
        panic!("no addresses are left");
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.endpoints.len()).map(|endpoint| address(self.block, endpoint)).collect()
    }

    /// As after [`Upstreams::new`].
    pub async fn begin_anew(&mut self) {
        for endpoint in 0..self.endpoints.len() {
            self.refuse(endpoint).await;
            self.accept(endpoint).await;
        }
        *self.lock() = Journal::default();
    }

    async fn accept(&mut self, endpoint: usize) {
        // Whoever was there before may not be gone yet.
        let address = address(self.block, endpoint);
        let listener = until("an address to be free", async || listen(address)).await;
        let (journal, speaks_http2) = (Arc::clone(&self.journal), self.speaks_http2);
        self.endpoints[endpoint] = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let journal = Arc::clone(&journal);
                if speaks_http2 {
                    connections.spawn(async move {
                        serve_http2(H2Server::accept(stream).await, endpoint, &journal).await
                    });
                } else {
                    connections
                        .spawn(async move { serve_http1(Wire::new(stream), endpoint, &journal).await });
                }
            }
        }));
    }

    /// From now on connections are refused; those that stand are closed.
    pub async fn refuse(&mut self, endpoint: usize) {
        if let Some(task) = self.endpoints[endpoint].take() {
            task.abort();
            // Afterwards its sockets are closed.
            let _ = task.await;
        }
    }

    pub async fn take_again(&mut self, endpoint: usize) {
        if self.endpoints[endpoint].is_none() {
            self.accept(endpoint).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    pub fn arrivals(&self, n: u64) -> Vec<usize> {
        self.lock().arrivals.get(&n).cloned().unwrap_or_default()
    }

    /// Waits until so many attempts of a request are here.
    pub async fn has(&self, n: u64, attempts: usize) {
        until("a request to arrive", async || (self.arrivals(n).len() >= attempts).then_some(())).await;
    }

    /// The client has the head of its answer.
    pub fn saw_head(&self, n: u64) {
        self.lock().seen.insert(n);
    }

    pub fn release(&self, n: u64) {
        self.lock().released.insert(n);
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.endpoints.iter().flatten().for_each(JoinHandle::abort);
    }
}

fn address(block: u8, endpoint: usize) -> SocketAddr {
    (Ipv4Addr::new(127, 31, block, endpoint as u8 + 1), PORT).into()
}

fn listen(address: SocketAddr) -> Option<TcpListener> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).ok()?;
    socket.listen(64).ok()
}

/// What is to be done to this attempt.
fn next_word(
    headers: impl Fn(&str) -> Option<String>,
    endpoint: usize,
    journal: &Mutex<Journal>,
) -> (u64, String) {
    let n = headers("x-n").and_then(|n| n.parse().ok()).expect("a request without a number");
    let mut journal = journal.lock().unwrap();
    let arrivals = journal.arrivals.entry(n).or_default();
    arrivals.push(endpoint);
    let script = headers("x-script").unwrap_or_default();
    let word = script.split(' ').nth(arrivals.len() - 1).filter(|word| !word.is_empty());
    (n, word.unwrap_or("200").to_owned())
}

/// A status, and a header beside it.
fn status_of(word: &str) -> (u16, Option<(&str, &str)>) {
    let (status, rest) = word.split_once(':').unwrap_or((word, ""));
    (status.parse().unwrap_or_else(|_| panic!("no such word: {word}")), rest.split_once('='))
}

/// The play has an end, and whoever waits here ends with it.
async fn until_in(journal: &Mutex<Journal>, of: impl Fn(&Journal) -> bool) {
    while !of(&journal.lock().unwrap()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn serve_http1(mut wire: Wire, endpoint: usize, journal: &Mutex<Journal>) {
    while let Ok(head) = wire.try_head().await {
        let of_head = head.clone();
        wire.rest(head, false).await;
        let (n, word) = next_word(|name| of_head.get(name).map(str::to_owned), endpoint, journal);
        let answer = match word.as_str() {
            "reset" => return wire.reset(),
            "close" => return,
            "half" | "torn" => {
                wire.try_send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it").await;
                until_in(journal, |journal| journal.seen.contains(&n)).await;
                if word == "torn" {
                    wire.reset();
                }
                return;
            }
            "silent" => {
                wire.end().await;
                return;
            }
            "hold" => {
                until_in(journal, |journal| journal.released.contains(&n)).await;
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()
            }
            word => match word.strip_prefix("grpc") {
                Some(code) => format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {code}\r\ncontent-length: 0\r\n\r\n"
                ),
                None => {
                    let (status, header) = status_of(word);
                    let header = header.map_or(String::new(), |(name, value)| format!("{name}: {value}\r\n"));
                    format!("HTTP/1.1 {status} Said\r\n{header}content-length: 2\r\n\r\nok")
                }
            },
        };
        if !wire.try_send(answer).await {
            return;
        }
    }
}

async fn serve_http2(mut connection: H2Server, endpoint: usize, journal: &Mutex<Journal>) {
    // Streams that nobody answers stay open as long as somebody holds them.
    let mut silent = Vec::new();
    while let Some((request, mut respond)) = connection.request().await {
        let headers = request.headers().clone();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (n, word) = next_word(text, endpoint, journal);
        if word == "refuse" {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        if http2::read(&mut request.into_body()).await.is_err() {
            continue;
        }
        let mut response = Response::new(());
        match word.as_str() {
            "reset" => return connection.reset().await,
            "close" => return,
            "cancel" => respond.send_reset(h2::Reason::CANCEL),
            "silent" => silent.push(respond),
            "half" | "torn" => {
                if let Ok(mut body) = respond.send_response(response, false) {
                    let _ = body.send_data("half of it".into(), false);
                    until_in(journal, |journal| journal.seen.contains(&n)).await;
                    if word == "torn" {
                        return connection.reset().await;
                    }
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                }
            }
            "hold" => {
                until_in(journal, |journal| journal.released.contains(&n)).await;
                let _ = respond.send_response(response, true);
            }
            word => {
                if let Some(code) = word.strip_prefix("grpc") {
                    response.headers_mut().insert("grpc-status", code.parse().unwrap());
                    let _ = respond.send_response(response, true);
                } else if let Some(code) = word.strip_prefix("late") {
                    if let Ok(mut body) = respond.send_response(response, false) {
                        let _ = body.send_data(Bytes::from_static(b"\0\0\0\0\0"), false);
                        let trailers = [("grpc-status", code)];
                        let trailers =
                            trailers.map(|(name, code)| (name.parse().unwrap(), code.parse().unwrap()));
                        let _ = body.send_trailers(HeaderMap::from_iter(trailers));
                    }
                } else {
                    let (status, header) = status_of(word);
                    *response.status_mut() = status.try_into().unwrap();
                    if let Some((name, value)) = header {
                        let name: http::HeaderName = name.parse().unwrap();
                        response.headers_mut().insert(name, value.parse().unwrap());
                    }
                    if let Ok(mut body) = respond.send_response(response, false) {
                        let _ = body.send_data("ok".into(), true);
                    }
                }
            }
        }
    }
}
