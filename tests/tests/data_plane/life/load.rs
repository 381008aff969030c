//! Clients that ask without pause, over everything that naru speaks, and a ledger of what came of it.
//!
//! A client takes what a server may do, and nothing else: a connection of HTTP/1 ends after a response that says so, one
//! of HTTP/2 after GOAWAY, whose streams go on. All else is a request that was lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body::Frame;
use naru_tests::client::request;
use naru_tests::http2::{self, H2Client};
use naru_tests::message::{collect, next_frame};
use naru_tests::wire::Transfer;
use naru_tests::{Authority, Client, Outbound, Speaks, Wire};
use naru_tls::Connector;
use serde_json::json;
use tokio::task::JoinSet;

use crate::grpc::peers::Peers;

/// Messages of a stream that is like a call of gRPC; it lasts through several changes.
const MESSAGES: usize = 40;
const BETWEEN_MESSAGES: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// HTTP/1, one connection for as long as it lasts.
    Kept,
    /// HTTP/1, a connection for each request.
    Fresh,
    /// HTTP/1 over TLS.
    Secured,
    /// HTTP/2, requests one after another.
    Streams,
    /// HTTP/2, streams in both directions that last, a message and its answer each.
    Calls,
    /// The same in gRPC, by a client and a server that others have written.
    Grpc,
    // WebSocket belongs here, once naru has it.
}

pub const KINDS: [Kind; 6] = [Kind::Kept, Kind::Fresh, Kind::Secured, Kind::Streams, Kind::Calls, Kind::Grpc];
/// Of one kind.
const CLIENTS: usize = 2;

#[derive(Debug, Default)]
pub struct Ledger {
    answered: [AtomicU64; KINDS.len()],
    is_over: AtomicBool,
    lost: Mutex<Vec<String>>,
}

impl Ledger {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn answered(&self, kind: Kind) {
        self.answered[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.answered[kind as usize].load(Ordering::Relaxed)
    }

    fn lost(&self, kind: Kind, why: String) {
        self.lost.lock().unwrap().push(format!("{kind:?}: {why}"));
    }
}

pub struct Load {
    pub ledger: Arc<Ledger>,
    clients: JoinSet<()>,
}

impl Load {
    /// `secured` is a listener with TLS; `peers` are called by themselves.
    pub fn start(plain: SocketAddr, secured: SocketAddr, authority: &Authority, peers: Peers) -> Load {
        let ledger = Arc::<Ledger>::default();
        let connector = authority.connector(&["http/1.1"]);
        let mut all = JoinSet::new();
        all.spawn(grpc(plain, peers, Arc::clone(&ledger)));
        for kind in KINDS {
            for _ in 0..CLIENTS {
                let (ledger, connector) = (Arc::clone(&ledger), connector.clone());
                all.spawn(async move {
                    while !ledger.is_over() {
                        let done = match kind {
                            Kind::Kept => kept(plain, &ledger).await,
                            Kind::Fresh => fresh(plain, &ledger).await,
                            Kind::Secured => over_tls(secured, &connector, &ledger).await,
                            Kind::Streams => streams(plain, &ledger).await,
                            Kind::Calls => calls(plain, &ledger).await,
                            Kind::Grpc => return,
                        };
                        if let Err(why) = done {
                            ledger.lost(kind, why);
                            return;
                        }
                    }
                });
            }
        }
        Load { ledger, clients: all }
    }

    /// Waits until every kind of client has been answered this often since.
    pub async fn goes_on(&self, count: u64) {
        let before = KINDS.map(|kind| self.ledger.count(kind));
        naru_tests::until("every kind of client to go on", async || {
            let lost = self.ledger.lost.lock().unwrap();
            assert!(lost.is_empty(), "{lost:#?}");
            KINDS
                .iter()
                .zip(before)
                .all(|(kind, before)| self.ledger.count(*kind) >= before + count)
                .then_some(())
        })
        .await;
    }

    /// Ends it; nothing may have been lost. Returns what was answered.
    pub async fn ends(mut self) -> Vec<(Kind, u64)> {
        self.ledger.is_over.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            if let Err(error) = client {
                self.ledger.lost.lock().unwrap().push(error.to_string());
            }
        }
        let lost = self.ledger.lost.lock().unwrap();
        assert!(lost.is_empty(), "{} requests were lost: {lost:#?}", lost.len());
        KINDS.iter().map(|kind| (*kind, self.ledger.count(*kind))).collect()
    }
}

/// One exchange; whether the connection is open for another.
async fn exchange(wire: &mut Wire, close: bool) -> Result<bool, String> {
    let close = if close { "connection: close\r\n" } else { "" };
    wire.send(format!("GET /bytes/100 HTTP/1.1\r\nhost: naru.test\r\n{close}\r\n")).await;
    let head = wire.try_head().await.map_err(|end| format!("no answer, the connection was {end:?}"))?;
    let is_open = head.get("connection") != Some("close");
    if head.status() != 200 {
        return Err(format!("{head:?}"));
    }
    match wire.rest(head, true).await {
        Transfer::Whole(message) if message.body.len() == 100 => Ok(is_open),
        other => Err(format!("{other:?}")),
    }
}

async fn kept(address: SocketAddr, ledger: &Ledger) -> Result<(), String> {
    let mut wire = Wire::connect(address).await;
    let mut is_open = true;
    while is_open && !ledger.is_over() {
        is_open = exchange(&mut wire, false).await?;
        ledger.answered(Kind::Kept);
    }
    Ok(())
}

async fn fresh(address: SocketAddr, ledger: &Ledger) -> Result<(), String> {
    let mut wire = Wire::connect(address).await;
    exchange(&mut wire, true).await?;
    ledger.answered(Kind::Fresh);
    Ok(())
}

async fn over_tls(address: SocketAddr, connector: &Connector, ledger: &Ledger) -> Result<(), String> {
    let connected = Client::secured(address, Speaks::Http1Tls, connector).await;
    let (mut client, _) = connected.map_err(|error| format!("no handshake: {error}"))?;
    // Not for ever, so that handshakes go on as well.
    for _ in 0..20 {
        let answer = client.send(request(Method::GET, "/bytes/100", Outbound::empty())).await;
        let (head, body) = answer.map_err(|error| format!("no answer: {error:?}"))?.into_parts();
        let (body, _) = collect(body).await.map_err(|error| format!("no whole answer: {error:?}"))?;
        if head.status != 200 || body.len() != 100 {
            return Err(format!("{head:?}"));
        }
        ledger.answered(Kind::Secured);
        if head.headers.get("connection").is_some_and(|value| value == "close") || ledger.is_over() {
            break;
        }
    }
    Ok(())
}

async fn streams(address: SocketAddr, ledger: &Ledger) -> Result<(), String> {
    let mut client = H2Client::connect(address).await;
    while !ledger.is_over() {
        // GOAWAY has come.
        let Ok((answer, _)) = client.try_request(http2::get(address, "/bytes/100"), true).await else {
            break;
        };
        let answer = match http2::response(answer).await {
            Ok(answer) => answer,
            // What was sent after GOAWAY was not looked at, and it says so.
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => break,
            Err(error) => return Err(format!("no answer: {error}")),
        };
        let (head, mut body) = answer.into_parts();
        let (body, _) = http2::read(&mut body).await.map_err(|error| format!("no whole answer: {error}"))?;
        if head.status != 200 || body.len() != 100 {
            return Err(format!("{head:?}"));
        }
        ledger.answered(Kind::Streams);
    }
    Ok(())
}

/// Calls at once on one connection, and then on another.
async fn grpc(address: SocketAddr, mut peers: Peers, ledger: Arc<Ledger>) {
    let messages: Vec<String> =
        (0..MESSAGES).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
    let expected: Vec<String> = messages.iter().map(|message| format!("re: {message}")).collect();
    let call = json!({ "method": "Chat", "messages": messages, "lockstep": true });
    while !ledger.is_over() {
        for result in peers.calls(address, None, vec![call.clone(); CLIENTS]).await {
            if result["code"] != "OK" || result["messages"] != json!(expected) {
                return ledger.lost(Kind::Grpc, result.to_string());
            }
            ledger.answered(Kind::Grpc);
        }
    }
}

/// A stream of messages, each of which is answered before the next.
async fn calls(address: SocketAddr, ledger: &Ledger) -> Result<(), String> {
    let mut client = Client::plain(address, Speaks::Http2).await;
    let (messages_tx, messages) = Outbound::live();
    let mut call = request(Method::POST, "/echo", messages);
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let message = |number: usize| Bytes::from(format!("{number:>20}"));
    let send = |number| messages_tx.send(Ok(Frame::data(message(number))));
    // The first is there when the head is sent.
    let first = send(0);
    let (answer, sent) = tokio::join!(client.send(call), first);
    sent.map_err(|_| "nobody takes messages".to_owned())?;
    let mut echoed = answer.map_err(|error| format!("no answer: {error:?}"))?.into_body();
    for number in 0..MESSAGES {
        if number > 0 {
            send(number).await.map_err(|_| "nobody takes messages".to_owned())?;
        }
        let mut left = 20;
        while left > 0 {
            let frame = naru_tests::within("an echo", next_frame(&mut echoed)).await;
            let frame =
                frame.ok_or("the stream has ended")?.map_err(|error| format!("broken off: {error:?}"))?;
            left -= frame.into_data().map_err(|_| "trailers")?.len();
        }
        ledger.answered(Kind::Calls);
        tokio::time::sleep(BETWEEN_MESSAGES).await;
    }
    drop(messages_tx);
    while let Some(frame) = next_frame(&mut echoed).await {
        frame.map_err(|error| format!("broken off at its end: {error:?}"))?;
    }
    Ok(())
}
