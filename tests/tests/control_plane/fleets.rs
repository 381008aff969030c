//! Many proxies and many services: what they cost a control plane, how soon all of them hear of a change, and what one
//! configuration costs Envoy and naru.
//!
//! The ordinary tests play it with few of both. `cargo xtask control-plane --fleets-only` plays it with 1,000 proxies and
//! 10,000 services, on optimized processes, and writes what it has measured into `bench/FLEETS.md`.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use naru_tests::control::bootstrap;
use naru_tests::files::Directory;
use naru_tests::program::program;
use naru_tests::up::free_address;
use naru_tests::{Control, Fleet};
use serde_json::Value;

use super::{count, free_port};

/// In each file.
const SERVICES_PER_FILE: usize = 100;
/// Far longer than anything takes, also where there is much of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a route says after each change that is measured; in the short form, the first of them.
const SAYS: [&str; 5] = ["2", "3", "4", "5", "6"];

/// A service of two endpoints, and its route.
fn service(at: usize, port: u16, says: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: s{at} }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: s{at}-1, labels: {{ kubernetes.io/service-name: s{at} }} }}
addressType: IPv4
ports: [{{ name: http, port: {port} }}]
endpoints: [{{ addresses: ['127.0.0.1'] }}, {{ addresses: ['127.0.0.2'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: s{at} }}
spec:
  hosts: [s{at}.test]
  gateways: [gate]
  http:
  - name: s{at}
    match: [{{ uri: {{ prefix: /api/ }} }}]
    headers: {{ response: {{ set: {{ x-says: '{says}' }} }} }}
    route: [{{ destination: {{ host: s{at} }} }}]
"
    )
}

fn gateway(port: u16) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
"
    )
}

/// So many services, in files.
fn documents(services: usize, gate: u16) -> Directory {
    let directory = Directory::new();
    directory.write("gate.yaml", &gateway(gate));
    for first in (0..services).step_by(SERVICES_PER_FILE) {
        let all = first..services.min(first + SERVICES_PER_FILE);
        let text: String = all.map(|at| service(at, 9, "1")).collect();
        directory.write(&format!("of-{first}.yaml"), &text);
    }
    directory
}

/// What a process has in memory, in bytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
}

async fn patiently<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            // What it costs to ask is not to be measured.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Waits until so many have everything; says what is known of the first.
async fn are_current(control: &Control, wanted: usize) -> Value {
    patiently(&format!("{wanted} proxies to have everything"), async || {
        let status = control.status().await;
        let proxies = status["proxies"].as_array().unwrap();
        // Before the first response there is nothing that is not current.
        let has_all = |proxy: &&Value| {
            let routes = proxy["resources"].as_array().unwrap().iter().find(|kind| kind["kind"] == "routes");
            let accepted = routes.is_some_and(|routes| !routes["accepted"].is_null());
            proxy["state"] == "current" && accepted
        };
        (proxies.iter().filter(has_all).count() == wanted).then(|| proxies[0].clone())
    })
    .await
}

/// A proxy that is driven, as a process: what it has in memory once it has everything, and how long that took.
async fn driven(control: &Control, kind: &str) -> (u64, Duration) {
    let files = Directory::new();
    let text =
        bootstrap(control.xds, &[kind, "--id", kind.trim_start_matches('-'), "--admin", "127.0.0.1:0"]);
    let file = files.write("bootstrap.yaml", &text);
    let mut command = match kind {
        "--envoy" => {
            let mut command = Command::new(naru_tests::envoy::program());
            command
                .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
                .arg(file);
            command
        }
        _ => {
            let mut command = Command::new(program());
            command
                .args(["proxy", "--workers", "1", "--takeover-path", "none", "--state", "none", "-c"])
                .arg(file);
            command
        }
    };
    let began = Instant::now();
    let said = std::fs::File::create(files.path("stderr")).unwrap();
    let child = command.stdout(Stdio::null()).stderr(said).spawn().unwrap();
    let child = Ends(child);
    are_current(control, 1).await;
    let took = began.elapsed();
    let memory = memory(child.0.id());
    drop(child);
    patiently("it to be gone", async || {
        control.status().await["proxies"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    (memory, took)
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn seconds(span: Duration) -> String {
    match span.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1_000.0),
        long => format!("{long:.1} s"),
    }
}

#[tokio::test]
async fn a_fleet_is_told_and_told_of_changes() {
    let (proxies, services) = (count("NARU_PROXIES", 50), count("NARU_SERVICES", 200));
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |what: &str, measured: String| {
        println!("{what}: {measured}");
        rows.push((what.to_owned(), measured));
    };

    // One of almost nothing, for what a proxy costs before it has a configuration.
    let gate = free_port();
    let small = Control::on(documents(1, gate), free_address()).await;
    let bare: Vec<(u64, Duration)> = vec![driven(&small, "--envoy").await, driven(&small, "--naru").await];
    drop(small);

    let directory = documents(services, gate);
    let began = Instant::now();
    let control = Control::on(directory, free_address()).await;
    row("documents read and checked, until proxies may connect", seconds(began.elapsed()));
    let process = control.child.id();
    let before = memory(process);
    row("memory of the control plane before anybody connects", megabytes(before as f64));

    let began = Instant::now();
    let first = Fleet::start(control.xds, 1, &[]);
    let told = are_current(&control, 1).await;
    row("the first proxy: planned, encoded, sent, accepted", seconds(began.elapsed()));
    let bytes = told["bytes"].as_u64().unwrap();
    row("what there is for a proxy", megabytes(bytes as f64));
    drop(first);
    let with_one = memory(process);

    let began = Instant::now();
    let fleet = Fleet::start(control.xds, proxies, &[]);
    are_current(&control, proxies).await;
    row(&format!("{proxies} proxies at once have everything"), seconds(began.elapsed()));
    fleet.is_whole();
    // Clusters, endpoints and routes of each service, and the listener.
    let wanted = (proxies * (2 * services + 2)) as u64;
    assert!(fleet.resources() >= wanted, "{} of {wanted} resources", fleet.resources());
    let grown = memory(process).saturating_sub(with_one) as f64 / proxies as f64;
    row("memory of the control plane for each of them", format!("{:.0} KB", grown / 1e3));
    let of_routes = grown / services as f64;
    row("the same for each of a proxy's services", format!("{of_routes:.0} bytes"));

    let (mut firsts, mut lasts, mut sent) = (Vec::new(), Vec::new(), 0);
    let is_measured = std::env::var_os("NARU_FLEETS").is_some();
    let changes = if is_measured { SAYS.len() } else { 1 };
    for says in &SAYS[..changes] {
        let text: String = (0..services.min(SERVICES_PER_FILE))
            .map(|at| service(at, 9, if at == 0 { says } else { "1" }))
            .collect();
        let bytes = fleet.bytes();
        let saved = Instant::now();
        control.save("of-0.yaml", &text);
        let heard = patiently("all to hear of a route", async || {
            let heard = fleet.routes_after(saved);
            (heard.len() == proxies).then_some(heard)
        })
        .await;
        are_current(&control, proxies).await;
        firsts.push(heard.iter().min().unwrap().duration_since(saved));
        lasts.push(heard.iter().max().unwrap().duration_since(saved));
        sent += fleet.bytes() - bytes;
    }
    fleet.is_whole();
    firsts.sort();
    lasts.sort();
    row("one route has changed: the first has heard of it", seconds(firsts[changes / 2]));
    row("all have heard of it", seconds(lasts[changes / 2]));
    let each = sent as f64 / (changes * proxies) as f64;
    row("what each was sent for that", format!("{:.0} KB, {:.1} %", each / 1e3, each * 100.0 / bytes as f64));
    drop(fleet);
    patiently("all to be gone", async || {
        control.status().await["proxies"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    row("memory of the control plane when all have gone", megabytes(memory(process) as f64));

    let full = [driven(&control, "--envoy").await, driven(&control, "--naru").await];
    for (name, (bare, full)) in ["Envoy 1.40", "naru proxy"].iter().zip(bare.iter().zip(full)) {
        let route = full.0.saturating_sub(bare.0) as f64 / services as f64 / 1e3;
        let (memory, took) = (megabytes(full.0 as f64), seconds(full.1));
        row(
            &format!("{name} with this configuration"),
            format!("{memory}, {route:.1} KB for each service, after {took}"),
        );
    }
    // In the short form only what no load of the machine changes.
    assert!(grown < 8e6, "{grown} bytes for each proxy");
    assert!(full[1].0 < full[0].0, "naru needs more than Envoy: {full:?}");
    if let Ok(file) = std::env::var("NARU_FLEETS") {
        let mut text = format!(
            "# Fleets\n\n{proxies} proxies and {services} services of two endpoints and one route each, all for a gateway; \
             delta, each proxy a connection of its own. Written by `cargo xtask control-plane`; medians of {changes} \
             changes. What it says of memory is VmRSS.\n\n| | |\n|---|---|\n"
        );
        for (what, measured) in &rows {
            let _ = writeln!(text, "| {what} | {measured} |");
        }
        std::fs::write(file, text).unwrap();
    }
}
