//! `naru control`, as a process, and what proxies are started with that it tells of documents.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::files::Directory;
use crate::program::program;
use crate::up::{follow, free_address};
use crate::{client, until};

#[derive(Debug)]
pub struct Control {
    pub child: Child,
    pub directory: Directory,
    pub xds: SocketAddr,
    pub admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Control {
    /// On these files.
    pub async fn start(files: &[(&str, String)]) -> Control {
        let directory = Directory::new();
        for (name, text) in files {
            directory.write(name, text);
        }
        Control::on(directory, free_address()).await
    }

    /// On what is there, where somebody may have listened before.
    pub async fn on(directory: Directory, xds: SocketAddr) -> Control {
        let config = directory.path("").display().to_string();
        Control::run(directory, xds, &["--config", &config]).await
    }

    /// With these arguments; what it keeps is in the directory.
    pub async fn run(directory: Directory, xds: SocketAddr, arguments: &[&str]) -> Control {
        let control = Control::spawn(directory, xds, arguments);
        control.answers().await
    }

    /// As [`Control::run`], and it is not waited for.
    pub fn spawn(directory: Directory, xds: SocketAddr, arguments: &[&str]) -> Control {
        // Before an address is chosen: while it is built, others might take that.
        let program = program();
        let admin = free_address();
        let mut child = Command::new(program)
            .args(["control", "--address", &xds.to_string(), "--admin", &admin.to_string()])
            .args(arguments)
            // What is kept for the next one goes with the test.
            .env("XDG_STATE_HOME", directory.path(".state"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().unwrap(), Arc::clone(&said));
        follow(child.stderr.take().unwrap(), Arc::clone(&said));
        Control { child, directory, xds, admin, said }
    }

    /// Waits until its admin interface does.
    pub async fn answers(mut self) -> Control {
        let admin = self.admin;
        until("naru control to answer", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.said());
            }
            tokio::net::TcpStream::connect(admin).await.ok()
        })
        .await;
        self
    }

    /// Ends it at once, and starts another one in its place.
    pub async fn again(mut self, arguments: &[&str]) -> Control {
        self.kill();
        let directory = std::mem::take(&mut self.directory);
        Control::run(directory, self.xds, arguments).await
    }

    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has said this.
    pub async fn says(&self, words: &str) {
        until(&format!("{words:?} to be said"), async || self.said().contains(words).then_some(())).await;
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// As editors do: beside it, and over it.
    pub fn save(&self, file: &str, text: &str) {
        let new = self.directory.write(&format!(".{file}.new"), text);
        std::fs::rename(new, self.directory.path(file)).unwrap();
    }

    pub async fn status(&self) -> Value {
        status(self.admin).await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// What is known of proxies there.
pub async fn status(admin: SocketAddr) -> Value {
    client::get(admin, "/proxies").await.json()
}

/// Waits until a proxy with this id has everything; says what is known of it.
pub async fn is_current(admin: SocketAddr, id: &str) -> Value {
    until(&format!("{id} to have everything"), async || {
        let status = status(admin).await;
        let mut proxies = status["proxies"].as_array().unwrap().iter();
        proxies.find(|proxy| proxy["id"] == id && proxy["state"] == "current").cloned()
    })
    .await
}

/// What `naru config bootstrap` writes.
pub fn bootstrap(xds: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new(program())
        .args(["config", "bootstrap", "--xds", &xds.to_string()])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
