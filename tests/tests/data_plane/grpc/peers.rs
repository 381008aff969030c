//! A gRPC client and a gRPC server that have nothing to do with naru: `tests/grpc/peers.py`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use naru_tests::within;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Both in one process.
pub struct Peers {
    child: Child,
    commands: ChildStdin,
    answers_rx: mpsc::UnboundedReceiver<String>,
    /// Where the server listens.
    pub server: SocketAddr,
}

impl Peers {
    pub async fn start() -> Peers {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/grpc/peers.py");
        let mut child = Command::new(python())
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python().display()));
        let commands = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (answers_tx, answers_rx) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // A test that is over wants no more.
                let _ = answers_tx.send(line);
            }
        });
        let mut peers = Peers { child, commands, answers_rx, server: ([127, 0, 0, 1], 0).into() };
        let port = peers.answer().await["port"].as_u64().unwrap();
        peers.server.set_port(port.try_into().unwrap());
        peers
    }

    async fn answer(&mut self) -> Value {
        let line = within("an answer of the gRPC peers", self.answers_rx.recv()).await;
        let line = line.expect("the gRPC peers have ended; above stands why");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn ask(&mut self, command: Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        self.answer().await
    }

    /// Makes one call on a connection of its own, to its end.
    pub async fn call(&mut self, to: SocketAddr, call: Value) -> Value {
        let mut results = self.calls(to, None, vec![call]).await;
        results.remove(0)
    }

    /// Makes calls at once on one connection, to the end of all; over TLS where there is an authority.
    pub async fn calls(&mut self, to: SocketAddr, ca: Option<String>, calls: Vec<Value>) -> Vec<Value> {
        let command = json!({ "do": "call", "to": to.to_string(), "ca": ca, "calls": calls });
        let Value::Array(results) = self.ask(command).await else { panic!("no results") };
        results
    }

    /// As [`Peers::calls`], with `proxy` as the environment of a workload names it, to any name and port.
    pub async fn calls_by(&mut self, proxy: SocketAddr, to: &str, calls: Vec<Value>) -> Vec<Value> {
        let proxy = format!("http://{proxy}");
        let command = json!({ "do": "call", "to": to, "proxy": proxy, "calls": calls });
        let Value::Array(results) = self.ask(command).await else { panic!("no results") };
        results
    }

    /// The first `count` calls that ended at the server.
    pub async fn seen(&mut self, count: usize) -> Vec<Value> {
        let Value::Array(seen) = self.ask(json!({ "do": "seen", "count": count })).await else {
            panic!("nothing was seen")
        };
        assert_eq!(seen.len(), count, "the server saw more calls: {seen:?}");
        seen
    }

    /// Ends the server, and not the client.
    pub async fn stop(&mut self) {
        self.ask(json!({ "do": "stop" })).await;
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // They may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cargo xtask setup` has made.
fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let python = target.join("tools/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `cargo xtask setup` once", python.display());
    python
}
