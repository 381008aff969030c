//! `naru up`, as a process, on documents of a test's own.

use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::files::Directory;
use crate::program::program;
use crate::{client, until};

#[derive(Debug)]
pub struct Up {
    pub child: Child,
    pub directory: Directory,
    pub admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Up {
    /// Starts it on these files, and waits until its admin interface answers.
    pub async fn start(files: &[(&str, String)], arguments: &[&str]) -> Up {
        let directory = Directory::new();
        for (name, text) in files {
            directory.write(name, text);
        }
        Up::start_in(directory, arguments).await
    }

    /// Ends it at once, and starts another one on the same directory.
    pub async fn again(mut self, arguments: &[&str]) -> Up {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let directory = std::mem::take(&mut self.directory);
        Up::start_in(directory, arguments).await
    }

    /// On what these arguments say, and no directory; what it keeps goes with the test.
    pub async fn start_on(arguments: &[&str]) -> Up {
        Up::run(Directory::new(), None, arguments).await
    }

    /// As [`Up::again`], where it was started by [`Up::start_on`].
    pub async fn again_on(mut self, arguments: &[&str]) -> Up {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let directory = std::mem::take(&mut self.directory);
        Up::run(directory, None, arguments).await
    }

    async fn start_in(directory: Directory, arguments: &[&str]) -> Up {
        let documents = directory.path("");
        Up::run(directory, Some(documents), arguments).await
    }

    async fn run(directory: Directory, documents: Option<PathBuf>, arguments: &[&str]) -> Up {
        // Before an address is chosen: while it is built, others might take that.
        let program = program();
        let admin = free_address();
        let mut child = Command::new(program)
            .arg("up")
            .args(documents)
            .args(["--admin", &admin.to_string()])
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
        let mut up = Up { child, directory, admin, said };
        until("naru up to answer", async || {
            if let Some(status) = up.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", up.said());
            }
            tokio::net::TcpStream::connect(admin).await.ok()
        })
        .await;
        up
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// As editors do: beside it, and over it.
    pub fn save(&self, file: &str, text: &str) -> PathBuf {
        let new = self.directory.write(&format!(".{file}.new"), text);
        let path = self.directory.path(file);
        std::fs::rename(new, &path).unwrap();
        path
    }

    /// A page of the admin interface.
    pub async fn page(&self, path: &str) -> String {
        client::get(self.admin, path).await.text()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It ends its processes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// Keeps what a process says.
pub(crate) fn follow(mut from: impl std::io::Read + Send + 'static, said: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count) = from.read(&mut buffer)
            && count > 0
        {
            said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
}

/// One that nobody listens on. It is none that the kernel chooses by itself, which would be given to tests beside this one,
/// and each process begins elsewhere.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Those that naru and Istio listen on where nothing is said.
    const TAKEN: RangeInclusive<u32> = 15_000..=15_100;
    for _ in 0..10_000 {
        let at = std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + at % 10_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if !TAKEN.contains(&port) && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("somebody listens on each of ten thousand ports");
}

pub fn service(name: &str, port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: {name} }}, ports: [{{ name: http, port: {port} }}] }}
"
    )
}

/// Processes of `naru workload` with these arguments.
pub fn deployment(name: &str, labels: &str, replicas: u32, arguments: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ {labels} }} }}
  template:
    metadata: {{ labels: {{ {labels} }} }}
    spec:
      containers:
      - name: main
        command: [naru, workload, --name, {name}]
        args: [{arguments}]
        readinessProbe: {{ httpGet: {{ path: /healthz, port: 80 }}, periodSeconds: 1 }}
"
    )
}

/// A gateway that sends everything to one service, on this port of 127.0.0.1.
pub fn gateway(port: u16, to: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec:
  hosts: ['*']
  gateways: [gate]
  http: [{{ name: all, route: [{{ destination: {{ host: {to} }} }}] }}]
"
    )
}
