//! Clients that ask without pause, over everything that naru speaks, and a ledger of what came of it.
//!
//! A client takes what a server may do, and nothing else: a connection of HTTP/1 ends after a response that says so, one
//! of HTTP/2 after GOAWAY, whose streams go on. Every request has a number, which stands in the ledger, in naru's access
//! log and in the journals of upstreams; [`books`] says whether the three agree.

pub mod ledger;
pub mod books;
pub mod file;
mod exchanges;
mod lasting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use naru_tests::Authority;
use naru_tls::Connector;
use tokio::task::JoinSet;

use crate::grpc::peers::Peers;
use ledger::Ledger;

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
    /// WebSocket over HTTP/1.1, the same.
    Chats,
    /// The same over TCP.
    Bytes,
    /// The same in gRPC, by a client and a server that others have written.
    Grpc,
}

pub const KINDS: [Kind; 8] = [
    Kind::Kept,
    Kind::Fresh,
    Kind::Secured,
    Kind::Streams,
    Kind::Calls,
    Kind::Chats,
    Kind::Bytes,
    Kind::Grpc,
];
/// Of one kind.
pub const CLIENTS: usize = 2;

/// Whether such a request may be carried out twice. Every other one of the short ones is a GET.
pub fn is_safe(kind: Kind, number: u64) -> bool {
    match kind {
        Kind::Kept | Kind::Fresh | Kind::Secured | Kind::Streams => number.is_multiple_of(2),
        Kind::Chats => true,
        Kind::Calls | Kind::Bytes | Kind::Grpc => false,
    }
}

/// Where to: see [`file`].
#[derive(Clone, Copy, Debug)]
pub struct Listeners {
    pub plain: SocketAddr,
    /// With TLS.
    pub secured: SocketAddr,
    /// Bytes are passed through.
    pub passing: SocketAddr,
}

/// How one client asks.
#[derive(Clone)]
struct Asker {
    kind: Kind,
    to: Listeners,
    is_relayed: bool,
    /// Between two requests of a client.
    pause: Duration,
    connector: Connector,
    ledger: Arc<Ledger>,
}

pub struct Load {
    pub ledger: Arc<Ledger>,
    /// Nothing may be lost.
    is_strict: bool,
    clients: JoinSet<()>,
}

impl Load {
    /// Nothing stands between these clients and naru, and nothing may be lost. `peers` are called by themselves.
    pub fn start(to: Listeners, authority: &Authority, peers: Peers) -> Load {
        let mut load = Load { ledger: Arc::default(), is_strict: true, clients: JoinSet::new() };
        load.add(to, None, authority, Duration::ZERO);
        load.clients.spawn(lasting::grpc(to.plain, peers, Arc::clone(&load.ledger)));
        load
    }

    /// The network and the upstreams are bad: clients go on after what is lost. `relayed` leads to the plain listener, and
    /// may break what passes.
    pub fn through_faults(
        to: Listeners,
        relayed: SocketAddr,
        authority: &Authority,
        pause: Duration,
        peers: Peers,
    ) -> Load {
        let mut load = Load { ledger: Arc::default(), is_strict: false, clients: JoinSet::new() };
        load.add(to, Some(relayed), authority, pause);
        load.add(to, None, authority, pause);
        load.clients.spawn(lasting::grpc(to.plain, peers, Arc::clone(&load.ledger)));
        load
    }

    fn add(&mut self, to: Listeners, relayed: Option<SocketAddr>, authority: &Authority, pause: Duration) {
        let connector = authority.connector(&["http/1.1"]);
        for kind in KINDS {
            // Who asks those two stands beside naru: their books are kept by port, and by its own client.
            if matches!(kind, Kind::Secured | Kind::Bytes) && relayed.is_some() || kind == Kind::Grpc {
                continue;
            }
            let to = Listeners { plain: relayed.unwrap_or(to.plain), ..to };
            let asker = Asker {
                kind,
                to,
                is_relayed: relayed.is_some(),
                pause,
                connector: connector.clone(),
                ledger: Arc::clone(&self.ledger),
            };
            for _ in 0..CLIENTS {
                self.clients.spawn(asker.clone().goes_on());
            }
        }
    }

    /// Waits until every kind of client has been answered this often since.
    pub async fn goes_on(&self, count: u64) {
        let before = KINDS.map(|kind| self.ledger.count(kind));
        naru_tests::until("every kind of client to go on", async || {
            if self.is_strict {
                let lost = self.ledger.lost();
                assert!(lost.is_empty(), "{lost:#?}");
            }
            KINDS
                .iter()
                .zip(before)
                .all(|(kind, before)| self.ledger.count(*kind) >= before + count)
                .then_some(())
        })
        .await;
    }

    /// Ends it. Returns what was answered, by kind.
    pub async fn ends(mut self) -> Vec<(Kind, u64)> {
        self.ledger.close();
        while let Some(client) = self.clients.join_next().await {
            if let Err(error) = client {
                self.ledger.fault(error.to_string());
            }
        }
        if self.is_strict {
            let lost = self.ledger.lost();
            assert!(lost.is_empty(), "{} requests were lost: {lost:#?}", lost.len());
        }
        KINDS.iter().map(|kind| (*kind, self.ledger.count(*kind))).collect()
    }
}

impl Asker {
    async fn goes_on(self) {
        while !self.ledger.is_over() {
            match self.kind {
                Kind::Kept | Kind::Fresh => exchanges::http1(&self).await,
                Kind::Secured => exchanges::over_tls(&self).await,
                Kind::Streams => exchanges::http2(&self).await,
                Kind::Calls => lasting::call(&self).await,
                Kind::Chats => lasting::chat(&self).await,
                Kind::Bytes => lasting::bytes(&self).await,
                Kind::Grpc => return,
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn begin(&self) -> u64 {
        self.ledger.begin(self.kind, self.is_relayed)
    }
}
