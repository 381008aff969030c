//! `naru up`: a directory of documents becomes processes, routes and a gateway, and follows its files.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use http::Method;
use naru_tests::client::{self, request};
use naru_tests::files::Directory;
use naru_tests::message::collect;
use naru_tests::program::program;
use naru_tests::wait::{until, within};
use naru_tests::{Client, Outbound, Speaks};
use rustix::process::{Pid, Signal, kill_process};

/// `naru up` in a directory of its own.
struct Up {
    child: Child,
    directory: Directory,
    said: Arc<Mutex<String>>,
    gateway: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

/// A page that calls reviews, in two versions; what is between them is up to each test.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: page }
spec: { selector: { app: page }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: reviews }
spec: { selector: { app: reviews }, ports: [{ name: http, port: 9080 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews }
spec:
  host: reviews
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
";

fn deployment(name: &str, labels: &str, replicas: u32, arguments: &str) -> String {
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

fn workloads(replicas: u32) -> String {
    let page = deployment("page", "app: page", 1, "--call, 'http://reviews:9080/'");
    let v1 = deployment("reviews-v1", "app: reviews, version: v1", replicas, "--version, v1");
    let v2 = deployment("reviews-v2", "app: reviews, version: v2", 1, "--version, v2");
    format!("{SERVICES}{page}{v1}{v2}")
}

fn gateway(port: u16) -> String {
    format!(
        "
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
  http: [{{ name: all, route: [{{ destination: {{ host: page }} }}] }}]
"
    )
}

/// All requests for reviews go to one version; Jason's always to v2.
fn routing(version: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: reviews }}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{{ headers: {{ end-user: {{ exact: jason }} }} }}]
    route: [{{ destination: {{ host: reviews, subset: v2 }} }}]
  - name: everybody
    route: [{{ destination: {{ host: reviews, subset: {version} }} }}]
"
    )
}

impl Up {
    async fn start(workloads: &str) -> Up {
        let directory = Directory::new();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (gate, admin) = (free(), free());
        directory.write("workloads.yaml", workloads);
        directory.write("gateway.yaml", &gateway(gate.port()));
        directory.write("routing.yaml", &routing("v1"));
        let mut child = Command::new(program())
            .arg("up")
            .arg(directory.path(""))
            .args(["--admin", &admin.to_string(), "--workers", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().unwrap(), Arc::clone(&said));
        follow(child.stderr.take().unwrap(), Arc::clone(&said));
        let up = Up { child, directory, said, gateway: gate, admin };
        // Each process is called as soon as it is ready, the one before the other.
        for (headers, version) in [(&[][..], "v1"), (&[("end-user", "jason")][..], "v2")] {
            until("the page to be whole", async || {
                (up.version(headers).await.as_deref() == Some(version)).then_some(())
            })
            .await;
        }
        up
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn save(&self, file: &str, text: &str) -> PathBuf {
        // As editors do: beside it, and over it.
        let new = self.directory.write(&format!(".{file}.new"), text);
        let path = self.directory.path(file);
        std::fs::rename(new, &path).unwrap();
        path
    }

    /// Which version of reviews the page was given; nothing where anything failed.
    async fn version(&self, headers: &[(&str, &str)]) -> Option<String> {
        let stream = tokio::net::TcpStream::connect(self.gateway).await.ok()?;
        drop(stream);
        let mut client = Client::plain(self.gateway, Speaks::Http1).await;
        let mut get = request(Method::GET, "/", Outbound::empty());
        for (name, value) in headers {
            get.headers_mut()
                .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let (head, body) = client.send(get).await.ok()?.into_parts();
        let (body, _) = collect(body).await.ok()?;
        (head.status == 200).then_some(())?;
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        Some(page["calls"][0]["body"]["version"].as_str()?.to_owned())
    }

    /// How many processes of a version of reviews may be called.
    async fn ready(&self, version: &str) -> usize {
        let clusters = client::get(self.admin, "/clusters").await;
        let is_one = |line: &&str| {
            line.starts_with(&format!("outbound|9080|{version}|reviews."))
                && line.ends_with("::health_flags::healthy")
        };
        std::str::from_utf8(&clusters.body).unwrap().lines().filter(is_one).count()
    }

    /// Process ids of a workload.
    fn processes(&self, name: &str) -> Vec<Pid> {
        let naru = self.child.id().to_string();
        let read = |pid: &str, file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
        };
        let parent_of = |pid: &str| -> Option<String> {
            let stat = read(pid, "stat");
            stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let cmdline = read(&pid, "cmdline");
            let mut words = cmdline.split('\0');
            // Between naru and a process stands the guard, and the process is one itself at first.
            if words.clone().nth(1) != Some("__launch")
                && words.any(|word| word == name)
                && parent_of(&pid).and_then(|guard| parent_of(&guard)).as_ref() == Some(&naru)
            {
                found.extend(pid.parse().ok().and_then(Pid::from_raw));
            }
        }
        found
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

fn follow(mut from: impl std::io::Read + Send + 'static, said: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count) = from.read(&mut buffer)
            && count > 0
        {
            said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
}

#[tokio::test]
async fn a_save_takes_effect_and_one_that_cannot_be_changes_nothing() {
    let up = Up::start(&workloads(1)).await;
    assert_eq!(up.version(&[("end-user", "jason")]).await.as_deref(), Some("v2"));
    up.save("routing.yaml", &routing("v2"));
    until("the save to take effect", async || (up.version(&[]).await.as_deref() == Some("v2")).then_some(()))
        .await;
    let path = up.save("routing.yaml", &routing("v3"));
    until("the problem to be told", async || up.said().contains("unknown-subset").then_some(())).await;
    assert!(up.said().contains(&format!("{}:12:", path.display())), "{}", up.said());
    assert_eq!(up.version(&[]).await.as_deref(), Some("v2"));
    up.save("routing.yaml", "spec: [");
    until("the problem to be told", async || up.said().contains("error[syntax]").then_some(())).await;
    assert_eq!(up.version(&[]).await.as_deref(), Some("v2"));
    up.save("routing.yaml", &routing("v1"));
    until("the save to take effect", async || (up.version(&[]).await.as_deref() == Some("v1")).then_some(()))
        .await;
    // The log says which rule it was, and explain says the same.
    let log = up.said();
    let line = log.lines().rfind(|line| line.contains("\"GET reviews:9080/")).unwrap();
    let (_, origin) = line.rsplit_once(" at ").unwrap();
    let explained = Command::new(program())
        .args(["explain", "GET", "http://reviews:9080/", "--output", "json", "--config"])
        .arg(up.directory.path(""))
        .output()
        .unwrap();
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["verdict"]["rule"], "everybody");
    assert_eq!(explained["verdict"]["origin"], origin);
}

#[tokio::test]
async fn saves_under_load_lose_no_request() {
    let up = Up::start(&workloads(1)).await;
    let saver = async {
        for round in 0..10 {
            let version = if round % 2 == 0 { "v2" } else { "v1" };
            up.save("routing.yaml", &routing(version));
            let is_there = async || (up.version(&[]).await.as_deref() == Some(version)).then_some(());
            until("the save to take effect", is_there).await;
        }
    };
    let mut saver = std::pin::pin!(saver);
    let mut count = 0;
    loop {
        let load = futures_of(&up, 8);
        tokio::select! {
            () = saver.as_mut() => break,
            versions = load => {
                assert!(versions.iter().all(Option::is_some), "{versions:?}\n{}", up.said());
                count += versions.len();
            }
        }
    }
    assert!(count > 50, "{count} requests were made");
}

async fn futures_of(up: &Up, count: usize) -> Vec<Option<String>> {
    let mut versions = Vec::new();
    for _ in 0..count {
        versions.push(up.version(&[]).await);
    }
    versions
}

#[tokio::test]
async fn a_process_that_is_killed_is_replaced_and_others_serve() {
    let up = Up::start(&workloads(2)).await;
    until("both to be ready", async || (up.ready("v1").await == 2).then_some(())).await;
    let victim = up.processes("reviews-v1")[0];
    kill_process(victim, Signal::KILL).unwrap();
    for _ in 0..50 {
        assert_eq!(up.version(&[]).await.as_deref(), Some("v1"), "{}", up.said());
    }
    let replaced = async || {
        let now = up.processes("reviews-v1");
        (now.len() == 2 && !now.contains(&victim)).then_some(())
    };
    until("it to be replaced", replaced).await;
    assert!(up.said().contains("SIGKILL"), "{}", up.said());
}

#[tokio::test]
async fn processes_end_with_naru_gently_and_not() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut up = Up::start(&workloads(1)).await;
        let processes: Vec<Pid> =
            ["page", "reviews-v1", "reviews-v2"].iter().flat_map(|name| up.processes(name)).collect();
        assert_eq!(processes.len(), 3);
        kill_process(Pid::from_raw(i32::try_from(up.child.id()).unwrap()).unwrap(), signal).unwrap();
        let gone =
            |pid: &Pid| !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists() || is_zombie(*pid);
        until("all of them to end", async || processes.iter().all(gone).then_some(())).await;
        let status = within("naru to end", async {
            loop {
                if let Some(status) = up.child.try_wait().unwrap() {
                    break status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(status.success(), signal == Signal::TERM, "{}", up.said());
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_workload_that_cannot_run_is_told_and_the_rest_runs() {
    let broken = deployment("absent", "app: absent", 1, "")
        .replace("[naru, workload, --name, absent]", "[no-such-command]");
    let dying = deployment("dying", "app: dying", 1, "")
        .replace("[naru, workload, --name, dying]", "[sh, -c, 'echo I leave; exit 3']");
    let up = Up::start(&format!("{}{broken}{dying}", workloads(1))).await;
    until("both to be told", async || {
        let said = up.said();
        let is_told = said.contains("the command 'no-such-command' is not found")
            && said.contains("I leave")
            && said.contains("it ended at once, with status 3");
        is_told.then_some(())
    })
    .await;
    assert_eq!(up.version(&[]).await.as_deref(), Some("v1"));
}

/// A breaker for the route of the gate, which leads to a service that nobody serves, and what is tried instead.
const FALLBACK: &str = "
apiVersion: v1
kind: Service
metadata: { name: nobody }
spec: { selector: { app: nobody }, ports: [{ name: http, port: 80 }] }
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: { name: gate }
spec:
  targetRef: { kind: VirtualService, name: gate, sectionName: all }
  slidingWindowSize: 10
  fallback:
    steps:
    - destination: { host: page }
    - response: { status: 200, contentType: application/json, body: '[]' }
";

#[tokio::test]
async fn documents_say_what_is_tried_instead_and_the_breaker_is_shown() {
    let up = Up::start(&workloads(1)).await;
    up.save("fallback.yaml", FALLBACK);
    let elsewhere = gateway(up.gateway.port()).replace("host: page", "host: nobody");
    up.save("gateway.yaml", &elsewhere);
    let ask = async || client::get(up.gateway, "/").await;
    let answer = until("the save to take effect", async || {
        Some(ask().await).filter(|answer| answer.headers.contains_key("x-naru-fallback"))
    })
    .await;
    let page = "outbound|80||page.default.svc.cluster.local";
    let expected = format!("no-healthy-upstream; step=1; to=\"{page}\"");
    assert_eq!(
        (answer.status, answer.headers["x-naru-fallback"].as_bytes()),
        (http::StatusCode::OK, expected.as_bytes())
    );
    // Each of them has failed, to the route: with the tenth it opens.
    until("the breaker to open", async || {
        Some(ask().await.headers["x-naru-fallback"].to_str().unwrap().starts_with("breaker-open"))
            .filter(|is_open| *is_open)
    })
    .await;
    let whole = async |path| String::from_utf8(client::get(up.admin, path).await.body.to_vec()).unwrap();
    let stats = whole("/stats").await;
    let breaker = "load.circuit_breaker.VirtualService/default/gate/all";
    for line in [format!("{breaker}.state.OPEN: 1"), format!("{breaker}.calls.failed: 10")] {
        assert!(stats.lines().any(|known| known == line), "{line} is not in\n{stats}");
    }
    let metrics = whole("/metrics").await;
    let state = "naru_circuit_breaker_state{name=\"VirtualService/default/gate/all\",state=\"OPEN\"} 1";
    assert!(metrics.lines().any(|known| known == state), "{metrics}");
    let explained = Command::new(program())
        .args(["explain", "GET", &format!("http://{}/", up.gateway), "--config"])
        .arg(up.directory.path(""))
        .output()
        .unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    let line = format!("   fallback on breakerOpen, noHealthyUpstream, failure: {page}; else answered 200");
    assert!(explained.lines().any(|known| known == line), "{explained}");
}
