//! The packages `websockets` (`tests/websocket/peers.py`) and `ws` (`tests/websocket/peers.mjs`), a client and a server each.

use std::net::SocketAddr;

use naru_tests::Foreign;
use naru_tests::certificates::NAME;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// Of Python.
    Websockets,
    /// Of Node.js.
    Ws,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

pub struct Peers {
    websockets: Foreign,
    ws: Foreign,
    servers: [SocketAddr; 3],
}

impl Peers {
    pub async fn start() -> Peers {
        let mut websockets = Foreign::start("websocket/peers.py");
        let mut ws = Foreign::start("websocket/peers.mjs");
        let (first, second) = (websockets.answer().await, ws.answer().await);
        let servers = [&first["port"], &second["port"], &second["http2"]]
            .map(|port| ([127, 0, 0, 1], port.as_u64().unwrap().try_into().unwrap()).into());
        Peers { websockets, ws, servers }
    }

    pub fn server(&self, package: Package, version: Version) -> SocketAddr {
        match (package, version) {
            (Package::Websockets, Version::Http1) => self.servers[0],
            (Package::Websockets, Version::Http2) => panic!("it speaks no HTTP/2"),
            (Package::Ws, Version::Http1) => self.servers[1],
            (Package::Ws, Version::Http2) => self.servers[2],
        }
    }

    /// A conversation with messages of these sizes, from its beginning to its end, and what the client tells of it.
    pub async fn talk(
        &mut self,
        (package, version): (Package, Version),
        to: SocketAddr,
        ca: Option<String>,
        sizes: &[usize],
        client_closes: bool,
    ) -> Value {
        let command = json!({
            "to": to.to_string(), "name": NAME, "ca": ca, "http2": version == Version::Http2,
            "sizes": sizes, "client_closes": client_closes,
        });
        match package {
            Package::Websockets => self.websockets.ask(command).await,
            Package::Ws => self.ws.ask(command).await,
        }
    }
}
