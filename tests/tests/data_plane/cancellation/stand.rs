//! A naru and its upstreams, on which one plan after the other is carried out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_base::Reason;
use naru_tests::bootstrap::HTTP2;
use naru_tests::files::Directory;
use naru_tests::message::collect;
use naru_tests::wait::PATIENCE;
use naru_tests::wire::{WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Outbound, Wire, until};
use tokio::task::JoinSet;

use super::plan::{Ending, Limit, Plan, Protocol, STATUS, Target};

/// Limits that pass in these plans.
pub const ROUTE_TIMEOUT: Duration = Duration::from_millis(60);
const IDLE_TIMEOUT: Duration = Duration::from_millis(60);
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(80);
/// Longer than those, so that they pass before it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Stand {
    pub naru: Naru,
    http1: WireListener,
    http2: WireListener,
    files: Directory,
    /// How many requests have ended.
    count: Cell<u64>,
    /// Who has ended how.
    endings: RefCell<BTreeMap<String, (u16, Reason)>>,
}

fn name(target: Target, up: Protocol) -> String {
    let target = match target {
        Target::Up => "up",
        Target::Refusing => "refusing",
        Target::Silent => "silent",
    };
    format!("{target}-{}", if up == Protocol::Http1 { "one" } else { "two" })
}

/// Where a plan's request goes.
pub fn path(plan: &Plan) -> String {
    let limit = match plan.limit() {
        // The time for a request is that of the listener.
        Limit::None | Limit::Request => "free",
        Limit::Route => "timed",
        Limit::Idle => "idle",
    };
    format!("/{limit}/{}", name(plan.target, plan.up))
}

impl Stand {
    /// `silent` takes no notice of connections.
    pub async fn start(silent: SocketAddr, has_request_timeout: bool) -> Stand {
        let files = Directory::new();
        let (http1, http2) = (WireListener::bind().await, WireListener::bind().await);
        let mut routes = String::new();
        let seconds = |duration: Duration| format!("{}s", duration.as_secs_f64());
        let limits = [
            ("free", "timeout: 0s".to_owned()),
            ("timed", format!("timeout: {}", seconds(ROUTE_TIMEOUT))),
            ("idle", format!("timeout: 0s\n    idle_timeout: {}", seconds(IDLE_TIMEOUT))),
        ];
        let mut clusters = Vec::new();
        for (up, address, lines) in
            [(Protocol::Http1, http1.address, ""), (Protocol::Http2, http2.address, HTTP2)]
        {
            // Half of the requests go to an endpoint first that refuses them, and from there to the other.
            clusters.push((name(Target::Up, up), vec![refusing_address(), address], lines.to_owned()));
            clusters.push((name(Target::Refusing, up), vec![refusing_address()], lines.to_owned()));
            let lines = format!("connect_timeout: {}\n{lines}", seconds(CONNECT_TIMEOUT));
            clusters.push((name(Target::Silent, up), vec![silent], lines));
        }
        for (limit, settings) in &limits {
            for (cluster, addresses, _) in &clusters {
                let retries = addresses.len() - 1;
                routes.push_str(&format!(
                    "- match: {{ prefix: /{limit}/{cluster} }}\n  route:\n    cluster: {cluster}\n    {settings}\n    \
                     retry_policy: {{ retry_on: connect-failure, num_retries: {retries} }}\n"
                ));
            }
        }
        let log = files.path("log");
        let mut bootstrap = Bootstrap::new(&routes).logs(&format!(
            "- name: file\n  typed_config:\n    \"@type\": \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: {log:?}\n    \
             log_format: {{ text_format_source: {{ inline_string: \"%REQ(X-WALK)% %RESPONSE_CODE% %REASON%\\n\" }} }}\n"
        ));
        for (name, addresses, lines) in clusters {
            bootstrap = bootstrap.cluster_of(&name, &addresses, &lines);
        }
        if has_request_timeout {
            bootstrap = bootstrap.manager(&format!("request_timeout: {}", seconds(REQUEST_TIMEOUT)));
        }
        let naru = Naru::start(&bootstrap);
        Stand { naru, http1, http2, files, count: Cell::new(0), endings: RefCell::default() }
    }

    pub fn listener(&self, up: Protocol) -> &WireListener {
        match up {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }

    /// Waits for the end of one more request, and says what it was.
    pub async fn next_ending(&self, id: &str) -> (u16, Reason) {
        let count = self.count.get();
        let after = self.naru.ended(count + 1).await;
        let mut before: Vec<_> = self.endings.borrow().values().copied().collect();
        before.sort();
        let at = before.iter().zip(&after).position(|(before, after)| before != after);
        let ending = after[at.unwrap_or(before.len())];
        self.count.set(count + 1);
        assert!(self.endings.borrow_mut().insert(id.to_owned(), ending).is_none(), "{id} ended twice");
        ending
    }

    /// No request has ended beside those that are known.
    pub async fn has_no_more_endings(&self) {
        self.naru.ended(self.count.get()).await;
    }

    /// One GET to an upstream, on a connection of its own. Who answers is for the caller to see to.
    pub async fn get(&self, up: Protocol, id: &str) -> u16 {
        let mut client = Wire::connect(self.naru.address).await;
        let path = format!("/free/{}", name(Target::Up, up));
        client.send(format!("GET {path} HTTP/1.1\r\nhost: naru.test\r\nx-walk: {id}\r\n\r\n")).await;
        client.response().await.status()
    }

    /// Takes every connection of the upstreams and answers whatever comes, until it is dropped: the
    /// connections are closed then.
    pub async fn relieve(&self) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Who waits in vain is someone else.
                () = tokio::time::sleep(PATIENCE / 3) => {}
                stream = self.http1.accept_stream() => {
                    connections.spawn(async move {
                        let io = TokioIo::new(stream);
                        // How it ends is for the proxy to see.
                        let _ = http1::Builder::new().serve_connection(io, service_fn(answer)).await;
                    });
                }
                stream = self.http2.accept_stream() => {
                    connections.spawn(async move {
                        let io = TokioIo::new(stream);
                        let _ = http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service_fn(answer))
                            .await;
                    });
                }
            }
        }
    }

    /// No connection to an upstream is left that the next plan could meet: not one that was made for a
    /// request that is over and that nobody has taken, and none of HTTP/2 whose end is not yet known.
    pub async fn has_no_streams(&self) {
        until("closed connections to be gone", async || {
            for listener in [&self.http1, &self.http2] {
                while listener.has_more().await {}
            }
            let report = self.naru.report().await;
            // Of the clusters, every second half speaks HTTP/2.
            let open: u64 = report.clusters[3..].iter().map(|cluster| cluster.connections_active).sum();
            (open == 0).then_some(())
        })
        .await;
    }

    /// Drains it, and says who ended how, by its log. Nothing may be left at any endpoint, and the log
    /// must say what was counted.
    pub async fn ends(self) -> BTreeMap<String, Ending> {
        let log: PathBuf = self.files.path("log");
        for cluster in self.naru.ends().await {
            for endpoint in cluster.endpoints {
                assert_eq!(endpoint.active, 0, "requests at {} {}", cluster.name, endpoint.address);
            }
        }
        let mut logged = BTreeMap::new();
        let mut unreadable = 0;
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [id, status, reason] = words[..] else { panic!("a strange line: {line}") };
            let reason = Reason::ALL.iter().find(|known| known.name() == reason).unwrap();
            let ending = Some((status.parse().unwrap(), *reason));
            // A head that could not be read has no name; of a body that could not, the request has one.
            if *reason == Reason::ClientProtocol && id == "-" {
                unreadable += 1;
                continue;
            }
            assert_eq!(logged.insert(id.to_owned(), ending), None, "{id} has ended twice");
        }
        for (id, ending) in self.endings.borrow().iter() {
            if ending.1 == Reason::ClientProtocol && !logged.contains_key(id) {
                unreadable -= 1;
                continue;
            }
            assert_eq!(logged.get(id), Some(&Some(*ending)), "{id} in the log");
        }
        assert!(unreadable >= 0, "requests that could not be read are missing in the log");
        logged
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Outbound>, Infallible> {
    // What is sent once more may be half a request.
    tokio::spawn(collect(request.into_body()));
    let mut response = Response::new(Outbound::sized("ok"));
    *response.status_mut() = StatusCode::from_u16(STATUS).unwrap();
    Ok(response)
}
