//! A Redis of a test's own, which may be killed and started again.

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
