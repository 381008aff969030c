//! Upstreams that are processes, at addresses that stay theirs while they are gone.

use std::io::BufRead as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;

use super::network::Network;

/// One process with HTTP/1, HTTP/2 and TCP.
pub struct Backend {
    pub http1: SocketAddr,
    pub http2: SocketAddr,
    pub bytes: SocketAddr,
    journal: PathBuf,
    network: Option<String>,
    /// Keep the ports, of this machine's own address.
    _held: Vec<socket2::Socket>,
    /// Held by whoever does something to it.
    child: Mutex<Child>,
}

impl Backend {
    pub fn start(journal: &Path) -> Backend {
        let held: Vec<socket2::Socket> = (0..3).map(|_| hold()).collect();
        let addresses: Vec<SocketAddr> =
            held.iter().map(|socket| socket.local_addr().unwrap().as_socket().unwrap()).collect();
        Backend::at(journal, [addresses[0], addresses[1], addresses[2]], None, held)
    }

    /// In a network namespace of its own, where nobody else takes ports.
    pub fn start_in(network: &Network, journal: &Path) -> Backend {
        let at = |port| SocketAddr::new(IpAddr::V4(network.there), port);
        Backend::at(journal, [at(8001), at(8002), at(8003)], Some(network.name.clone()), Vec::new())
    }

    fn at(
        journal: &Path,
        [http1, http2, bytes]: [SocketAddr; 3],
        network: Option<String>,
        held: Vec<socket2::Socket>,
    ) -> Backend {
        let journal = journal.to_owned();
        let child = Mutex::new(spawn(&journal, [http1, http2, bytes], network.as_deref()));
        Backend { http1, http2, bytes, journal, network, _held: held, child }
    }

    /// Killed, and started again after a while.
    pub async fn is_killed(&self, lasting: Duration) {
        let mut child = self.child.lock().await;
        child.kill().unwrap();
        child.wait().unwrap();
        tokio::time::sleep(lasting).await;
        *child = spawn(&self.journal, [self.http1, self.http2, self.bytes], self.network.as_deref());
    }

    /// Stopped for a while: connections are taken by the kernel, and nothing is answered.
    pub async fn is_paused(&self, lasting: Duration) {
        let child = self.child.lock().await;
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::STOP).unwrap();
        tokio::time::sleep(lasting).await;
        kill_process(pid, Signal::CONT).unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}

fn spawn(journal: &Path, addresses: [SocketAddr; 3], network: Option<&str>) -> Child {
    let program = env!("CARGO_BIN_EXE_upstream");
    let mut command = match network {
        None => Command::new(program),
        Some(network) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", network, program]);
            command
        }
    };
    let addresses = addresses.map(|address| address.to_string());
    let mut child = command.arg(journal).args(addresses).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("serves"), "the upstream ended");
    child
}

/// A port that nobody is given by accident, and that one may listen on who says that it reuses it.
fn hold() -> socket2::Socket {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&any.into()).unwrap();
    socket
}
