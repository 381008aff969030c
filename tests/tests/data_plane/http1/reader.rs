//! Node.js as a reader of HTTP/1: `tests/http1/reader.mjs`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use naru_tests::within;
use serde_json::Value;
use tokio::sync::mpsc;

/// The reader, and what it tells.
pub struct Reader {
    child: Child,
    told_rx: mpsc::UnboundedReceiver<Value>,
    pub address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// It takes whatever it can.
    None,
    /// As it comes.
    Own,
}

impl Reader {
    pub async fn start(strictness: Strictness) -> Reader {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/http1/reader.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .args((strictness == Strictness::Own).then_some("strict"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js is needed as a second reader of HTTP/1");
        let said = BufReader::new(child.stdout.take().unwrap());
        let (told_tx, told_rx) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // A test that is over wants no more.
                let _ = told_tx.send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut reader = Reader { child, told_rx, address: ([127, 0, 0, 1], 0).into() };
        let port = reader.next().await["port"].as_u64().unwrap();
        reader.address.set_port(port.try_into().unwrap());
        reader
    }

    pub async fn next(&mut self) -> Value {
        let told = within("what the reader tells", self.told_rx.recv()).await;
        told.expect("the reader has ended; above stands why")
    }

    /// Everything up to the request with this target.
    pub async fn read_until(&mut self, target: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let told = self.next().await;
            if told["target"] == target {
                return all;
            }
            all.push(told);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
