//! A Redis of a test's own, or a Cluster of three, which may be killed and started again.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::files::Directory;
use crate::until;
use crate::up::free_address;

#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    pub address: SocketAddr,
    files: Directory,
}

impl Redis {
    pub async fn start() -> Redis {
        let mut redis = Redis { child: None, address: free_address(), files: Directory::new() };
        redis.again().await;
        redis
    }

    /// Starts it where it was; it has forgotten everything.
    pub async fn again(&mut self) {
        let port = self.address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(self.files.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}: run `cargo xtask setup` once"));
        self.child = Some(child);
        let address = self.address;
        until("Redis to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The masters of a Cluster, each with a third of all slots; nobody stands in for one that is gone.
#[derive(Debug)]
pub struct Masters {
    children: Vec<Option<Child>>,
    pub addresses: Vec<SocketAddr>,
    files: Directory,
}

impl Masters {
    pub async fn start() -> Masters {
        let mut masters = Masters { children: Vec::new(), addresses: Vec::new(), files: Directory::new() };
        while masters.addresses.len() < 3 {
            // Ten thousand above it, where no test listens, is the port by which masters speak with each other.
            let address = free_address();
            std::fs::create_dir(masters.files.path(&address.port().to_string())).unwrap();
            masters.addresses.push(address);
            masters.children.push(None);
            masters.again(masters.addresses.len() - 1).await;
        }
        let first = masters.addresses[0];
        for (at, address) in masters.addresses.iter().enumerate() {
            let slots = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)][at];
            let added = say(*address, &format!("CLUSTER ADDSLOTSRANGE {} {}", slots.0, slots.1)).await;
            assert_eq!(added, "+OK\r\n");
            assert_eq!(say(*address, &format!("CLUSTER MEET 127.0.0.1 {}", first.port())).await, "+OK\r\n");
        }
        masters.know_each_other().await;
        masters
    }

    pub async fn know_each_other(&self) {
        for address in &self.addresses {
            until("the masters to know each other", async || {
                let slots = say(*address, "CLUSTER SLOTS").await;
                let state = say(*address, "CLUSTER INFO").await;
                (slots.starts_with("*3\r\n") && state.contains("cluster_state:ok")).then_some(())
            })
            .await;
        }
    }

    /// Starts one where it was: it knows its slots, and has forgotten all that was in them.
    pub async fn again(&mut self, at: usize) {
        let address = self.addresses[at];
        let child = Command::new("redis-server")
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"])
            .args(["--cluster-node-timeout", "2000"])
            .current_dir(self.files.path(&address.port().to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}: run `cargo xtask setup` once"));
        self.children[at] = Some(child);
        until("a master to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    }

    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.children[at].take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Which of them has a key.
    pub async fn owner(&self, key: &str) -> usize {
        let said = say(self.addresses[0], &format!("CLUSTER KEYSLOT {key}")).await;
        let slot: usize = said.trim_start_matches(':').trim().parse().unwrap();
        (slot / 5_461).min(2)
    }
}

impl Drop for Masters {
    fn drop(&mut self) {
        for at in 0..self.children.len() {
            self.kill(at);
        }
    }
}

/// What a Redis answers to a line.
async fn say(address: SocketAddr, line: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
