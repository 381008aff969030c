//! A gRPC client and a gRPC server that have nothing to do with naru: `tests/grpc/peers.py`.

use std::net::SocketAddr;

use naru_tests::Foreign;
use serde_json::{Value, json};

/// Both in one process.
pub struct Peers {
    foreign: Foreign,
    /// Where the server listens.
    pub server: SocketAddr,
}

impl Peers {
    pub async fn start() -> Peers {
        let mut foreign = Foreign::start("grpc/peers.py");
        let port = foreign.answer().await["port"].as_u64().unwrap();
        Peers { foreign, server: ([127, 0, 0, 1], port.try_into().unwrap()).into() }
    }

    /// Makes one call on a connection of its own, to its end.
    pub async fn call(&mut self, to: SocketAddr, call: Value) -> Value {
        let mut results = self.calls(to, None, vec![call]).await;
        results.remove(0)
    }

    /// Makes calls at once on one connection, to the end of all; over TLS where there is an authority.
    pub async fn calls(&mut self, to: SocketAddr, ca: Option<String>, calls: Vec<Value>) -> Vec<Value> {
        let command = json!({ "do": "call", "to": to.to_string(), "ca": ca, "calls": calls });
        let Value::Array(results) = self.foreign.ask(command).await else { panic!("no results") };
        results
    }

    /// As [`Peers::calls`], with `proxy` as the environment of a workload names it, to any name and port.
    pub async fn calls_by(&mut self, proxy: SocketAddr, to: &str, calls: Vec<Value>) -> Vec<Value> {
        let proxy = format!("http://{proxy}");
        let command = json!({ "do": "call", "to": to, "proxy": proxy, "calls": calls });
        let Value::Array(results) = self.foreign.ask(command).await else { panic!("no results") };
        results
    }

    /// The first `count` calls that ended at the server.
    pub async fn seen(&mut self, count: usize) -> Vec<Value> {
        let Value::Array(seen) = self.foreign.ask(json!({ "do": "seen", "count": count })).await else {
            panic!("nothing was seen")
        };
        assert_eq!(seen.len(), count, "the server saw more calls: {seen:?}");
        seen
    }

    /// Ends the server, and not the client.
    pub async fn stop(&mut self) {
        self.foreign.ask(json!({ "do": "stop" })).await;
    }
}
