//! naru and four others that read HTTP/1, each before an upstream that notes what it is sent. Node.js reads by itself.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use naru_tests::files::Directory;
use naru_tests::{Bootstrap, Envoy, Naru, Wire, until};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::recorder::{Notes, Recorder, Request};
use crate::http1::reader::{Reader, Strictness};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Naru,
    Envoy,
    Nginx,
    Haproxy,
    Node,
}

/// Those that naru is compared with.
pub const PEERS: [Peer; 4] = [Peer::Envoy, Peer::Nginx, Peer::Haproxy, Peer::Node];

/// Messages at a time.
const AT_ONCE: usize = 64;
/// A connection that stands for so long has no end: longer than any timeout here.
const GIVES_UP: Duration = Duration::from_secs(20);
/// Who waits for the rest of a message gives up by then.
const MANAGER: &str = "stream_idle_timeout: 2s\nrequest_headers_timeout: 2s\n";

#[expect(dead_code, reason = "they run as long as they are held")]
enum Running {
    Naru(Box<Naru>),
    Envoy(Envoy),
    Process(Process, Directory),
    Reader,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Stand {
    address: SocketAddr,
    recorder: Recorder,
    reader: Option<Reader>,
    _running: Running,
}

/// What came of one message.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the client got, one after another.
    pub statuses: Vec<u16>,
    /// The connection did not end.
    pub is_open: bool,
    /// The last words to the client.
    pub said: String,
    pub passed: Vec<Request>,
    /// As it was sent on.
    pub bytes: Vec<u8>,
}

impl Stand {
    pub async fn start(peer: Peer) -> Stand {
        let recorder = Recorder::start().await;
        let bootstrap = Bootstrap::to(recorder.address).manager(MANAGER);
        let mut reader = None;
        let (running, address) = match peer {
            Peer::Naru => {
                let naru = Naru::start(&bootstrap);
                let address = naru.address;
                (Running::Naru(Box::new(naru)), address)
            }
            Peer::Envoy => {
                let envoy = Envoy::start(&bootstrap.admin().text()).await;
                let address = envoy.address;
                (Running::Envoy(envoy), address)
            }
            Peer::Nginx => on_a_port("nginx", |files, port| nginx(files, port, recorder.address)).await,
            Peer::Haproxy => on_a_port("haproxy", |files, port| haproxy(files, port, recorder.address)).await,
            Peer::Node => {
                let started = Reader::start(Strictness::Own).await;
                let address = started.address;
                reader = Some(started);
                (Running::Reader, address)
            }
        };
        Stand { address, recorder, reader, _running: running }
    }

    /// Each message on a connection of its own; what came of them, in their order, and what has no number.
    pub async fn play(&mut self, messages: &[(u64, Vec<u8>)]) -> (Vec<Outcome>, Vec<String>) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut asking = JoinSet::new();
        for (at, (_, bytes)) in messages.iter().enumerate() {
            let leave = Arc::clone(&room).acquire_owned().await.unwrap();
            let (bytes, address) = (bytes.clone(), self.address);
            asking.spawn(async move {
                let mut client = Wire::connect(address).await;
                client.try_send(&bytes).await;
                let answer = tokio::time::timeout(GIVES_UP, client.end()).await;
                drop(leave);
                (at, answer.ok().map(|(answer, _)| answer))
            });
        }
        let mut outcomes = vec![Outcome::default(); messages.len()];
        while let Some(ended) = asking.join_next().await {
            let (at, answer) = ended.unwrap();
            outcomes[at].is_open = answer.is_none();
            let answer = answer.unwrap_or_default();
            let text = String::from_utf8_lossy(&answer);
            let lines = text.split("HTTP/1.1 ").skip(1);
            let statuses = lines.filter_map(|line| line.get(..3)?.parse().ok());
            // It says by itself that it goes on.
            outcomes[at].statuses = statuses.filter(|status| *status != 100).collect();
            outcomes[at].said = text.rsplit("\r\n\r\n").next().unwrap_or("").to_owned();
        }
        let mut notes = self.notes().await;
        for ((number, _), outcome) in messages.iter().zip(&mut outcomes) {
            outcome.passed = notes.requests.remove(number).unwrap_or_default();
            outcome.bytes = notes.bytes.remove(number).unwrap_or_default();
        }
        let strangers = notes.requests.into_values().map(|requests| format!("{requests:?}"));
        notes.strange.extend(strangers);
        (outcomes, notes.strange)
    }

    async fn notes(&mut self) -> Notes {
        let Some(reader) = &mut self.reader else { return self.recorder.notes() };
        let mut last = Wire::connect(self.address).await;
        last.send("GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        last.response().await;
        let mut notes = Notes::default();
        for told in reader.read_until("/last").await {
            let word = |name: &str| told[name].as_str().map(str::to_owned);
            if let (Some(method), Some(target), Some(body)) = (word("method"), word("target"), word("body")) {
                notes.add(Request { method, target, body }, b"");
            }
        }
        notes
    }
}

/// Programs that do not say which port the system gave them.
async fn on_a_port(name: &str, make: impl Fn(&Directory, u16) -> Command) -> (Running, SocketAddr) {
    loop {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let files = Directory::new();
        let mut command = make(&files, address.port());
        let output = File::create(files.path("output")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}, of `cargo xtask setup`: {error}"));
        let mut process = Process(child);
        let is_up = until(&format!("{name} to listen"), async || {
            if process.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            tokio::net::TcpStream::connect(address).await.ok().map(|_| true)
        })
        .await;
        if is_up {
            return (Running::Process(process, files), address);
        }
        // Somebody was quicker; all else is a fault of ours.
        let said = std::fs::read_to_string(files.path("output")).unwrap();
        assert!(said.to_lowercase().contains("address"), "{name} has ended: {said}");
    }
}

fn nginx(files: &Directory, port: u16, upstream: SocketAddr) -> Command {
    let root = files.path("");
    let root = root.to_str().unwrap();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {root}/{name};\n"))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/errors crit;\n\
         events {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n{paths}  client_header_timeout 2s;\n  \
         client_body_timeout 2s;\n  send_timeout 5s;\n  lingering_close off;\n  server {{\n    \
         listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://{upstream};\n      \
         proxy_http_version 1.1;\n    }}\n  }}\n}}\n"
    );
    let file = files.write("nginx.conf", &text);
    let mut command = Command::new("nginx");
    command.arg("-p").arg(root).arg("-e").arg(files.path("errors")).arg("-c").arg(file);
    command
}

fn haproxy(files: &Directory, port: u16, upstream: SocketAddr) -> Command {
    let text = format!(
        "global\n  maxconn 512\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 2s\n  timeout server 10s\n  \
         timeout http-request 2s\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend out\nbackend out\n  \
         server one {upstream}\n"
    );
    let file = files.write("haproxy.cfg", &text);
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(file);
    command
}
