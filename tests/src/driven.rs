//! `naru proxy`, as a process, on the few lines by which it finds its control plane.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::control::bootstrap;
use crate::files::Directory;
use crate::program::program;
use crate::until;

/// A gateway that has all that it does from a control plane.
#[derive(Debug)]
pub struct Driven {
    child: Child,
    pub address: SocketAddr,
    files: Directory,
    config: PathBuf,
}

impl Driven {
    /// Waits until it listens there: what that needs is the control plane's to say.
    pub async fn start(xds: SocketAddr, id: &str, address: SocketAddr) -> Driven {
        let ip = address.ip().to_string();
        let lines =
            bootstrap(xds, &["--naru", "--gateway-address", &ip, "--id", id, "--admin", "127.0.0.1:0"]);
        let files = Directory::new();
        let config = files.write("bootstrap.yaml", &lines);
        let child = spawn(&files, &config);
        Driven { child, address, files, config }.listens().await
    }

    /// Waits until what it would begin with has these words in it: it is written down a moment after it has changed.
    pub async fn has_kept(&self, words: &str) {
        until(&format!("'{words}' to be kept"), async || {
            let kept = std::fs::read_dir(self.files.path("state/control-plane")).ok()?.flatten();
            // One that is being written is not there yet.
            let whole = kept.filter(|entry| entry.path().extension().is_some_and(|end| end == "state"));
            let mut texts = whole.filter_map(|entry| std::fs::read(entry.path()).ok());
            texts.any(|text| text.windows(words.len()).any(|part| part == words.as_bytes())).then_some(())
        })
        .await;
    }

    /// Ends it at once, and starts another one on what it has kept.
    pub async fn again(mut self) -> Driven {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.files, &self.config);
        self.listens().await
    }

    async fn listens(mut self) -> Driven {
        let address = self.address;
        until("naru proxy to listen", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.said());
            }
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        self
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.files.path("stderr")).unwrap()
    }
}

fn spawn(files: &Directory, config: &std::path::Path) -> Child {
    Command::new(program())
        .args(["proxy", "--workers", "1", "--config"])
        .arg(config)
        .arg("--state")
        .arg(files.path("state"))
        // Its takeover socket goes with the test.
        .env("XDG_RUNTIME_DIR", files.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(files.path("stderr")).unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Driven {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}
