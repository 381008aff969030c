//! A Redis Cluster of three masters of a test's own, each of which may be killed and started again.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::files::Directory;
use crate::until;
use crate::up::free_address;

const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Master>,
    /// Whether all are to be there for any to answer: what a Redis does if nothing else is said.
    needs_all: bool,
}

#[derive(Debug)]
struct Master {
    child: Option<Child>,
    address: SocketAddr,
    /// Where the masters talk to each other.
    bus: SocketAddr,
    files: Directory,
}

impl RedisCluster {
    pub async fn start(needs_all: bool) -> RedisCluster {
        let masters = SLOTS.map(|_| Master {
            child: None,
            address: free_address(),
            bus: free_address(),
            files: Directory::new(),
        });
        let mut cluster = RedisCluster { masters: masters.into(), needs_all };
        for at in 0..SLOTS.len() {
            cluster.again(at).await;
        }
        let first = &cluster.masters[0];
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", first.address.port(), first.bus.port());
        for (master, (from, to)) in cluster.masters.iter().zip(SLOTS) {
            let slots = say(master.address, &format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await;
            let met = say(master.address, &meet).await;
            assert_eq!((slots.as_str(), met.as_str()), ("+OK\r\n", "+OK\r\n"));
        }
        cluster.is_whole().await;
        cluster
    }

    /// Starts one where it was; it has forgotten everything but its place in the cluster.
    pub async fn again(&mut self, at: usize) {
        let needs_all = if self.needs_all { "yes" } else { "no" };
        let master = &mut self.masters[at];
        let (port, bus) = (master.address.port().to_string(), master.bus.port().to_string());
        let child = Command::new("redis-server")
            .args(["--port", &port, "--cluster-port", &bus, "--bind", "127.0.0.1", "--save", ""])
            .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"])
            .args(["--cluster-require-full-coverage", needs_all])
            .current_dir(master.files.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}: run `cargo xtask setup` once"));
        master.child = Some(child);
        let address = master.address;
        until("a master to listen", async || TcpStream::connect(address).await.ok()).await;
    }

    /// All masters know that all are there.
    pub async fn is_whole(&self) {
        for master in &self.masters {
            until("the masters to know each other", async || {
                let slots = say(master.address, "CLUSTER SLOTS").await;
                let state = say(master.address, "CLUSTER INFO").await;
                (slots.starts_with("*3\r\n") && state.contains("cluster_state:ok")).then_some(())
            })
            .await;
        }
    }

    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.masters[at].child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn nodes(&self) -> Vec<String> {
        self.masters.iter().map(|master| master.address.to_string()).collect()
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        (0..SLOTS.len()).for_each(|at| self.kill(at));
    }
}

/// What a Redis answers to a line.
async fn say(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
