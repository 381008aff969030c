//! Envoy itself, the version that naru is compared with, as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::files::Directory;
use crate::{client, until};

/// One worker, on a file with one listener and an admin interface.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// It writes what it has to say there.
    _files: Directory,
}

impl Envoy {
    /// Starts it and waits until it listens.
    pub async fn start(text: &str) -> Envoy {
        let files = Directory::new();
        let (config, told) = (files.write("bootstrap.yaml", text), files.path("admin"));
        let mut child = Command::new(program())
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"])
            .args(["--file-flush-interval-msec", "20", "--drain-time-s", "1", "--config-path"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&told)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(files.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let admin = until("Envoy's admin interface", async || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = std::fs::read_to_string(files.path("stderr")).unwrap();
                panic!("Envoy ended with {status}: {said}\n{text}");
            }
            std::fs::read_to_string(&told).ok()?.parse().ok()
        })
        .await;
        let address = until("Envoy to listen", async || {
            if client::get(admin, "/ready").await.status != 200 {
                return None;
            }
            let listeners = client::get(admin, "/listeners?format=json").await.json();
            let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
            let port = address["port_value"].as_u64().filter(|port| *port > 0)?;
            format!("{}:{port}", address["address"].as_str()?).parse().ok()
        })
        .await;
        Envoy { child, address, admin, _files: files }
    }
}

/// What Envoy says against a file; nothing where it would start on it.
pub fn validate(text: &str) -> Option<String> {
    let files = Directory::new();
    let config = files.write("bootstrap.yaml", text);
    let mut command = Command::new(program());
    command.args(["--mode", "validate", "--concurrency", "1", "--log-level", "error", "--config-path"]);
    let output = command.arg(config).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cargo xtask setup` has installed: a plain executable inside a Python package.
pub fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let libraries = std::fs::read_dir(target.join("tools/venv/lib")).into_iter().flatten().flatten();
    let mut found = libraries.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    found.find(|envoy| envoy.is_file()).expect("there is no Envoy: run `cargo xtask setup` once")
}
