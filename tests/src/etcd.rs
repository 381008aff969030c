//! An etcd of a test's own, as a process: one member, or several that agree.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::files::Directory;
use crate::until;
use crate::up::free_address;

/// So often a value is put at most until it is there.
const PUTS_MAX: usize = 4;

#[derive(Debug)]
pub struct Etcd {
    child: Option<Child>,
    pub address: SocketAddr,
    /// Beside what says where it is.
    arguments: Vec<String>,
    /// How `etcdctl` gets in.
    shown: Vec<String>,
    is_tls: bool,
    files: Directory,
}

impl Etcd {
    pub async fn start() -> Etcd {
        Etcd::start_with(&[], &[]).await
    }

    /// With more arguments; where they name a certificate it speaks TLS, and `etcdctl` is started with what is `shown`.
    pub async fn start_with(arguments: &[String], shown: &[String]) -> Etcd {
        let peer = free_address();
        let mut etcd = Etcd::new("one", peer, &format!("one=http://{peer}"), arguments, shown);
        etcd.again();
        etcd.answers().await;
        etcd
    }

    /// Members of one cluster.
    pub async fn cluster(size: usize) -> Vec<Etcd> {
        let peers: Vec<SocketAddr> = (0..size).map(|_| free_address()).collect();
        let named: Vec<String> =
            peers.iter().enumerate().map(|(at, peer)| format!("m{at}=http://{peer}")).collect();
        let all = named.join(",");
        let mut members: Vec<Etcd> = peers
            .iter()
            .enumerate()
            .map(|(at, peer)| Etcd::new(&format!("m{at}"), *peer, &all, &[], &[]))
            .collect();
        members.iter_mut().for_each(Etcd::again);
        for member in &members {
            member.answers().await;
        }
        members
    }

    fn new(name: &str, peer: SocketAddr, cluster: &str, arguments: &[String], shown: &[String]) -> Etcd {
        let peer = format!("http://{peer}");
        let own = [
            ["--name", name],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", cluster],
        ];
        let own = own.as_flattened().iter().map(|word| (*word).to_owned());
        let is_tls = arguments.iter().any(|word| word == "--cert-file");
        Etcd {
            child: None,
            address: free_address(),
            arguments: own.chain(arguments.iter().cloned()).collect(),
            shown: shown.to_vec(),
            is_tls,
            files: Directory::new(),
        }
    }

    /// Starts it where it was, with what it knew.
    pub fn again(&mut self) {
        let url = self.url();
        let child = Command::new("etcd")
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--logger", "zap", "--log-level", "error", "--data-dir"])
            .arg(self.files.path("data"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("etcd: {error}: run `cargo xtask setup` once"));
        self.child = Some(child);
    }

    /// Until it answers, and somebody leads it.
    pub async fn answers(&self) {
        until("etcd to answer", async || {
            let health = self.command(&["endpoint", "health"]).output().unwrap();
            health.status.success().then_some(())
        })
        .await;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it, and all that it knew is gone.
    pub fn forget(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.files.path("data")).unwrap();
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url()]).args(&self.shown).args(arguments);
        command
    }

    /// What `etcdctl` says to these words, with something on its standard input.
    pub fn ctl(&self, arguments: &[&str], input: &str) -> String {
        self.try_ctl(arguments, input).unwrap_or_else(|said| panic!("{arguments:?}: {said}"))
    }

    /// As [`Etcd::ctl`], where it may fail.
    fn try_ctl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("etcdctl: {error}: run `cargo xtask setup` once"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub fn put(&self, key: &str, value: &str) {
        // On a loaded machine it may find no leader in its time; twice does what once does.
        let mut said = Vec::new();
        while said.len() < PUTS_MAX {
            match self.try_ctl(&["put", key], value) {
                Ok(_) => return,
                Err(error) => said.push(error),
            }
        }
        panic!("{key} could not be put: {said:?}");
    }

    pub fn delete(&self, key: &str) {
        self.ctl(&["del", key], "");
    }

    /// Of the whole store.
    pub fn revision(&self) -> i64 {
        let told = self.ctl(&["get", "/", "--write-out", "json"], "");
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["header"]["revision"].as_i64().unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
