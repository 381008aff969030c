//! `naru up`: a directory of documents becomes processes, routes and a gateway, and follows its files.

use std::path::PathBuf;
use std::process::Command;

use http::Method;
use naru_tests::client::{self, request};
use naru_tests::message::collect;
use naru_tests::program::program;
use naru_tests::up::{deployment, free_address, gateway, service};
use naru_tests::wait::{until, within};
use naru_tests::{Client, Outbound, Speaks, Up};
use rustix::process::{Pid, Signal, kill_process};

/// `naru up` with a page behind a gateway.
struct Page {
    up: Up,
    gateway: std::net::SocketAddr,
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

fn workloads(replicas: u32) -> String {
    let page = deployment("page", "app: page", 1, "--call, 'http://reviews:9080/'");
    let v1 = deployment("reviews-v1", "app: reviews, version: v1", replicas, "--version, v1");
    let v2 = deployment("reviews-v2", "app: reviews, version: v2", 1, "--version, v2");
    format!("{SERVICES}{page}{v1}{v2}")
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

impl Page {
    async fn start(workloads: &str) -> Page {
        let gate = free_address();
        let files = [
            ("workloads.yaml", workloads.to_owned()),
            ("gateway.yaml", gateway(gate.port(), "page")),
            ("routing.yaml", routing("v1")),
        ];
        let page = Page { up: Up::start(&files, &["--workers", "1"]).await, gateway: gate };
        // Each process is called as soon as it is ready, the one before the other.
        for (headers, version) in [(&[][..], "v1"), (&[("end-user", "jason")][..], "v2")] {
            until("the page to be whole", async || {
                (page.version(headers).await.as_deref() == Some(version)).then_some(())
            })
            .await;
        }
        page
    }

    fn said(&self) -> String {
        self.up.said()
    }

    fn save(&self, file: &str, text: &str) -> PathBuf {
        self.up.save(file, text)
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
        let clusters = self.up.page("/clusters").await;
        let is_one = |line: &&str| {
            line.starts_with(&format!("outbound|9080|{version}|reviews."))
                && line.ends_with("::health_flags::healthy")
        };
        clusters.lines().filter(is_one).count()
    }

    /// Process ids of a workload.
    fn processes(&self, name: &str) -> Vec<Pid> {
        let naru = self.up.child.id().to_string();
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

#[tokio::test]
async fn a_save_takes_effect_and_one_that_cannot_be_changes_nothing() {
    let page = Page::start(&workloads(1)).await;
    assert_eq!(page.version(&[("end-user", "jason")]).await.as_deref(), Some("v2"));
    page.save("routing.yaml", &routing("v2"));
    until("the save to take effect", async || {
        (page.version(&[]).await.as_deref() == Some("v2")).then_some(())
    })
    .await;
    let path = page.save("routing.yaml", &routing("v3"));
    until("the problem to be told", async || page.said().contains("unknown-subset").then_some(())).await;
    assert!(page.said().contains(&format!("{}:12:", path.display())), "{}", page.said());
    assert_eq!(page.version(&[]).await.as_deref(), Some("v2"));
    page.save("routing.yaml", "spec: [");
    until("the problem to be told", async || page.said().contains("error[syntax]").then_some(())).await;
    assert_eq!(page.version(&[]).await.as_deref(), Some("v2"));
    page.save("routing.yaml", &routing("v1"));
    until("the save to take effect", async || {
        (page.version(&[]).await.as_deref() == Some("v1")).then_some(())
    })
    .await;
    // The log says which rule it was, and explain says the same.
    let log = page.said();
    let line = log.lines().rfind(|line| line.contains("\"GET reviews:9080/")).unwrap();
    let (origin, _) = line.rsplit_once(" at ").unwrap().1.split_once(" id ").unwrap();
    let explained = Command::new(program())
        .args(["explain", "GET", "http://reviews:9080/", "--output", "json", "--config"])
        .arg(page.up.directory.path(""))
        .output()
        .unwrap();
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["verdict"]["rule"], "everybody");
    assert_eq!(explained["verdict"]["origin"], origin);
}

#[tokio::test]
async fn saves_under_load_lose_no_request() {
    let page = Page::start(&workloads(1)).await;
    let saver = async {
        for round in 0..10 {
            let version = if round % 2 == 0 { "v2" } else { "v1" };
            page.save("routing.yaml", &routing(version));
            let is_there = async || (page.version(&[]).await.as_deref() == Some(version)).then_some(());
            until("the save to take effect", is_there).await;
        }
    };
    let mut saver = std::pin::pin!(saver);
    let mut count = 0;
    loop {
        let load = futures_of(&page, 8);
        tokio::select! {
            () = saver.as_mut() => break,
            versions = load => {
                assert!(versions.iter().all(Option::is_some), "{versions:?}\n{}", page.said());
                count += versions.len();
            }
        }
    }
    assert!(count > 50, "{count} requests were made");
}

async fn futures_of(page: &Page, count: usize) -> Vec<Option<String>> {
    let mut versions = Vec::new();
    for _ in 0..count {
        versions.push(page.version(&[]).await);
    }
    versions
}

#[tokio::test]
async fn a_process_that_is_killed_is_replaced_and_others_serve() {
    let page = Page::start(&workloads(2)).await;
    until("both to be ready", async || (page.ready("v1").await == 2).then_some(())).await;
    let victim = page.processes("reviews-v1")[0];
    kill_process(victim, Signal::KILL).unwrap();
    // A request that it takes until it is gone is lost with it: what may have been sent is not sent again.
    until("it to be gone", async || is_gone(victim).then_some(())).await;
    for _ in 0..50 {
        assert_eq!(page.version(&[]).await.as_deref(), Some("v1"), "{}", page.said());
    }
    let replaced = async || {
        let now = page.processes("reviews-v1");
        (now.len() == 2 && !now.contains(&victim)).then_some(())
    };
    until("it to be replaced", replaced).await;
    assert!(page.said().contains("SIGKILL"), "{}", page.said());
}

#[tokio::test]
async fn processes_end_with_naru_gently_and_not() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut page = Page::start(&workloads(1)).await;
        let processes: Vec<Pid> =
            ["page", "reviews-v1", "reviews-v2"].iter().flat_map(|name| page.processes(name)).collect();
        assert_eq!(processes.len(), 3);
        kill_process(Pid::from_raw(i32::try_from(page.up.child.id()).unwrap()).unwrap(), signal).unwrap();
        let are_gone = async || processes.iter().copied().all(is_gone).then_some(());
        until("all of them to end", are_gone).await;
        let status = within("naru to end", async {
            loop {
                if let Some(status) = page.up.child.try_wait().unwrap() {
                    break status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(status.success(), signal == Signal::TERM, "{}", page.said());
    }
}

/// Whether a process has ended, though nobody may have waited for it yet.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_zombie =
        |stat: String| stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'));
    stat.ok().is_none_or(is_zombie)
}

#[tokio::test]
async fn a_workload_that_cannot_run_is_told_and_the_rest_runs() {
    let broken = deployment("absent", "app: absent", 1, "")
        .replace("[naru, workload, --name, absent]", "[no-such-command]");
    let dying = deployment("dying", "app: dying", 1, "")
        .replace("[naru, workload, --name, dying]", "[sh, -c, 'echo I leave; exit 3']");
    let page = Page::start(&format!("{}{broken}{dying}", workloads(1))).await;
    until("both to be told", async || {
        let said = page.said();
        let is_told = said.contains("the command 'no-such-command' is not found")
            && said.contains("I leave")
            && said.contains("it ended at once, with status 3");
        is_told.then_some(())
    })
    .await;
    assert_eq!(page.version(&[]).await.as_deref(), Some("v1"));
}

/// What naru forbids itself to stay small is not forbidden to others.
#[tokio::test]
async fn processes_may_have_huge_pages_though_naru_has_none() {
    let asking = deployment("asking", "app: asking", 1, "").replace(
        "[naru, workload, --name, asking]",
        "[sh, -c, 'grep THP_enabled /proc/self/status; sleep 60']",
    );
    let page = Page::start(&format!("{}{asking}", workloads(1))).await;
    let allowed = "THP_enabled:\t1";
    until("the process to say it", async || page.said().contains(allowed).then_some(())).await;
    let of_naru = std::fs::read_to_string(format!("/proc/{}/status", page.up.child.id())).unwrap();
    assert!(of_naru.contains("THP_enabled:\t0"), "{of_naru}");
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
    let page = Page::start(&workloads(1)).await;
    page.save("fallback.yaml", FALLBACK);
    let elsewhere = gateway(page.gateway.port(), "nobody");
    page.save("gateway.yaml", &elsewhere);
    let ask = async || client::get(page.gateway, "/").await;
    let answer = until("the save to take effect", async || {
        Some(ask().await).filter(|answer| answer.headers.contains_key("x-naru-fallback"))
    })
    .await;
    let cluster = "outbound|80||page.default.svc.cluster.local";
    let expected = format!("no-healthy-upstream; step=1; to=\"{cluster}\"");
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
    let whole = async |path| page.up.page(path).await;
    let stats = whole("/stats").await;
    let breaker = "load.circuit_breaker.VirtualService/default/gate/all";
    for line in [format!("{breaker}.state.OPEN: 1"), format!("{breaker}.calls.failed: 10")] {
        assert!(stats.lines().any(|known| known == line), "{line} is not in\n{stats}");
    }
    let metrics = whole("/metrics").await;
    let state = "naru_circuit_breaker_state{name=\"VirtualService/default/gate/all\",state=\"OPEN\"} 1";
    assert!(metrics.lines().any(|known| known == state), "{metrics}");
    let explained = Command::new(program())
        .args(["explain", "GET", &format!("http://{}/", page.gateway), "--config"])
        .arg(page.up.directory.path(""))
        .output()
        .unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    let line =
        format!("   fallback on breakerOpen, noHealthyUpstream, failure: {cluster}; else answered 200");
    assert!(explained.lines().any(|known| known.starts_with(&line)), "{explained}");
}

#[tokio::test]
async fn a_save_that_leaves_nobody_behind_a_service_says_what_fails_since() {
    let (gate, replicas) = (free_address(), |replicas| {
        let service = naru_tests::up::service("page", 80);
        format!("{service}{}", deployment("page", "app: page", replicas, "--version, v1"))
    });
    let files = [("gate.yaml", gateway(gate.port(), "page")), ("page.yaml", replicas(1))];
    let up = Up::start(&files, &["--workers", "1"]).await;
    until("the gateway", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    until("the page", async || (client::get(gate, "/").await.status == 200).then_some(())).await;
    up.save("page.yaml", &replicas(0));
    until("what the save means", async || {
        let said = up.said();
        let is_told = said.contains("would newly fail: no endpoint is there in outbound|80||page");
        is_told.then_some(())
    })
    .await;
    assert!(!up.said().contains("would go where they went"), "{}", up.said());
}

#[tokio::test]
async fn an_address_that_somebody_has_is_taken_when_it_is_free() {
    let (gate, other) = (free_address(), free_address());
    let text = |port| format!("{}---{SERVICES}", gateway(port, "page"));
    let up = Up::start(&[("gate.yaml", text(gate.port()))], &["--workers", "1"]).await;
    let taken = std::net::TcpListener::bind(other).unwrap();
    up.save("gate.yaml", &text(other.port()));
    until("it to be told", async || up.said().contains("it is tried again").then_some(())).await;
    let line = text(other.port()).lines().position(|line| line.contains("servers:")).unwrap() + 1;
    assert!(up.said().contains(&format!("gate.yaml:{line}:")), "{}", up.said());
    assert_eq!(client::get(gate, "/").await.status, 503, "what was there before goes on");
    drop(taken);
    until("the change", async || up.said().contains("has changed; it is in effect").then_some(())).await;
    assert_eq!(client::get(other, "/").await.status, 503);
}

#[tokio::test]
async fn a_process_is_called_where_its_sidecar_leads() {
    let gate = free_address();
    let page = deployment("page", "app: page", 1, "");
    let page =
        page.replace("        readiness", "        ports: [{ containerPort: 8080 }]\n        readiness");
    let page = page.replace("path: /healthz, port: 80 }", "path: /healthz, port: 8080 }");
    let service = service("page", 80).replace("port: 80 }", "port: 80, targetPort: 9000 }");
    let files =
        [("page.yaml", page), ("service.yaml", service), ("gateway.yaml", gateway(gate.port(), "page"))];
    let up = Up::start(&files, &["--workers", "1"]).await;
    until("the gateway", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    // Nothing of it is at port 9000.
    let status = async || {
        let mut client = Client::plain(gate, Speaks::Http1).await;
        client.get("/").await.status.as_u16()
    };
    assert_eq!(status().await, 503);
    let sidecar = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: page }
spec:
  workloadSelector: { labels: { app: page } }
  ingress: [{ port: { number: 9000, name: http, protocol: HTTP }, defaultEndpoint: '127.0.0.1:8080' }]
";
    up.save("sidecar.yaml", sidecar);
    until("the page to be led to", async || (status().await == 200).then_some(())).await;
}
