//! naru among processes that die, networks that break and changes of its own, and a ledger that balances.
//!
//! Clients of every [kind](crate::load::Kind) ask naru, half of them through a relay that breaks connections
//! ([`naru_tests::relay`]). Behind naru are processes that are killed and stopped, half of them behind such relays, and one
//! in a network namespace whose link is taken down. Meanwhile the file and the certificates change and other processes
//! take over. All of it is drawn from a seed. In the end every request was answered once or refused with a reason, clients,
//! access log and upstreams agree about it ([`crate::load::books`]), and nothing of it is left in naru.
//!
//! `cargo xtask soak` does it for ten minutes.

mod faults;
mod network;
mod remains;
mod upstreams;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use naru_tests::journal::Journal;
use naru_tests::{Bootstrap, Program, Relay};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::grpc::peers::Peers;
use crate::life::Stand;
use crate::load::books::{Log, differences};
use crate::load::file::{File, ROUTES};
use crate::load::{Listeners, Load};
use faults::{Change, Fault};
use network::Network;
use upstreams::Backend;

/// Of the test that always runs.
const SECONDS: u64 = 15;
const PAUSE: Duration = Duration::from_millis(20);
/// Whatever came over it was for a moment only: debug builds, and allocators that keep what they may need again.
const MEMORY_MORE_MAX: u64 = 48 << 20;

const MANAGER: &str = "stream_idle_timeout: 3s\nrequest_timeout: 6s\nrequest_headers_timeout: 3s\ndrain_timeout: 2s\n\
                       common_http_protocol_options: { idle_timeout: 3s }\n";
const RETRIES: &str = "timeout: 6s, retry_policy: { retry_on: \"5xx,reset,connect-failure,refused-stream\", \
                       num_retries: 2, per_try_timeout: 1.5s, retry_back_off: { base_interval: 0.01s } }";

/// Lines of a cluster whose idle connections do not stay.
fn lines(protocol: &str) -> String {
    format!(
        "connect_timeout: 0.5s\ncircuit_breakers: {{ thresholds: [{{ max_retries: 1000 }}] }}\n\
         typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
         common_http_protocol_options: {{ idle_timeout: 2s }}\n    explicit_http_config: {{ {protocol}: {{}} }}\n"
    )
}

/// What stands around naru, and may go wrong.
#[derive(Clone)]
struct Around {
    backends: Vec<Arc<Backend>>,
    /// Before clusters; and the one before naru itself comes last.
    relays: Vec<Arc<Relay>>,
    /// Outlives whoever might talk to it.
    network: Option<Arc<Network>>,
}

impl Around {
    async fn start(seed: u64, journal: &Path, peers: SocketAddr) -> Around {
        let network = Network::make().map(Arc::new);
        let mut backends = vec![Backend::start(journal), Backend::start(journal)];
        backends.extend(network.as_ref().map(|network| Backend::start_in(network, journal)));
        let mut relays = Vec::new();
        for (at, target) in (0..).zip([backends[0].http1, backends[1].http2, backends[1].bytes, peers]) {
            relays.push(Arc::new(Relay::start(target, seed.wrapping_mul(8) + at).await));
        }
        Around { backends: backends.into_iter().map(Arc::new).collect(), relays, network }
    }

    fn file(&self, file: &File) -> String {
        let all = |own: fn(&Backend) -> SocketAddr, relay: usize| {
            let mut all: Vec<SocketAddr> = self.backends.iter().map(|backend| own(backend)).collect();
            all.push(self.relays[relay].address);
            all
        };
        let (once, again) =
            ("{ cluster: up, timeout: 0s }\n  response", format!("{{ cluster: up, {RETRIES} }}\n  response"));
        let routes = ROUTES.replace(once, &again);
        assert_ne!(routes, ROUTES);
        let (http1, http2) = (lines("http_protocol_options"), lines("http2_protocol_options"));
        file.text("idle_timeout: 3s\nmax_connect_attempts: 3", || {
            Bootstrap::new(&routes)
                .manager(MANAGER)
                .cluster_of("up", &all(|backend| backend.http1, 0), &http1)
                .cluster_of("calls", &all(|backend| backend.http2, 1), &http2)
                .cluster_of("bytes", &all(|backend| backend.bytes, 2), "connect_timeout: 0.5s\n")
                .cluster("peers", self.relays[3].address, &http2)
        })
    }

    /// What lasts goes on by itself.
    async fn breaks(self, seed: u64, begun: Instant, until: Duration) -> u64 {
        let mut under_way = JoinSet::new();
        let mut at = 0;
        loop {
            let (after, fault) = Fault::draw(seed, at);
            tokio::time::sleep(after).await;
            if begun.elapsed() > until {
                break;
            }
            println!("seed {seed}, fault {at}, {:.1} s: {fault:?}", begun.elapsed().as_secs_f32());
            at += 1;
            let around = self.clone();
            under_way.spawn(async move { around.has(fault).await });
        }
        while let Some(ended) = under_way.join_next().await {
            ended.unwrap();
        }
        self.relays.iter().for_each(|relay| relay.behaves());
        at
    }

    async fn has(self, fault: Fault) {
        match fault {
            Fault::Kill(which, lasting) => {
                self.backends[which % self.backends.len()].is_killed(lasting).await
            }
            Fault::Pause(which, lasting) => {
                self.backends[which % self.backends.len()].is_paused(lasting).await
            }
            Fault::Break(which) => self.relays[which % self.relays.len()].break_all(),
            Fault::Freeze(which, lasting) => {
                let relay = &self.relays[which % self.relays.len()];
                relay.freeze();
                tokio::time::sleep(lasting).await;
                relay.thaw();
            }
            Fault::LinkDown(lasting) => {
                let Some(network) = self.network else { return };
                network.goes_down();
                tokio::time::sleep(lasting).await;
                network.comes_up();
            }
        }
    }
}

/// The process that serves, and those that it has taken over from.
struct Processes {
    file: File,
    text: String,
    stand: Stand,
    running: Program,
    ended: Vec<Program>,
    swaps: usize,
    /// Of the process that runs.
    swaps_here: usize,
    reloads_here: usize,
}

impl Processes {
    async fn start(file: File, text: String) -> Processes {
        let stand = Stand::new(&text);
        let running = stand.first(&["--workers", "2"]).await;
        Processes { file, text, stand, running, ended: Vec::new(), swaps: 0, swaps_here: 0, reloads_here: 0 }
    }

    async fn change(&mut self, seed: u64, begun: Instant, until: Duration) {
        for at in 0.. {
            let (after, change) = Change::draw(seed, at);
            tokio::time::sleep(after).await;
            // Nobody takes over near the end, so that the last process has had some of it.
            if begun.elapsed() > until.mul_f32(0.8) {
                return;
            }
            println!("seed {seed}, change {at}, {:.1} s: {change:?}", begun.elapsed().as_secs_f32());
            match change {
                Change::Swap => {
                    self.swaps += 1;
                    self.swaps_here += 1;
                    self.stand.save(&self.text.replace("number 0", &format!("number {}", self.swaps)));
                    self.running.signal(Signal::HUP);
                    self.running.says("was read again; it is in effect", self.swaps_here).await;
                }
                Change::Certificates => {
                    self.reloads_here += 1;
                    self.file.issue();
                    let words = "certificates have changed; they are in effect";
                    self.running.says(words, self.reloads_here).await;
                }
                Change::TakeOver(workers) => {
                    let next = self.stand.next(&["--workers", &workers.to_string()]).await;
                    self.ended.push(std::mem::replace(&mut self.running, next));
                    (self.swaps_here, self.reloads_here) = (0, 0);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_balances_whatever_breaks() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (seconds, seed) = (number("NARU_SOAK_SECONDS").unwrap_or(SECONDS), number("NARU_SEED").unwrap_or(1));
    let (file, peers) = (File::new(), Peers::start().await);
    let (log, journal) = (file.log(), file.path("journal"));
    let mut around = Around::start(seed, &journal, peers.server).await;
    if around.network.is_none() {
        println!("without a network namespace: only root may make one");
    }
    let text = around.file(&file);
    let mut processes = Processes::start(file, text).await;
    let relayed = Relay::start(processes.running.address, seed.wrapping_mul(8) + 7).await;
    let to = Listeners::of(&processes.running);
    let load = Load::through_faults(to, relayed.address, &processes.file.authority, PAUSE, peers);
    around.relays.push(Arc::new(relayed));
    let (begun, until) = (Instant::now(), Duration::from_secs(seconds));
    let (faults, ()) =
        tokio::join!(around.clone().breaks(seed, begun, until), processes.change(seed, begun, until));
    let memory_loaded = processes.running.memory();
    load.goes_on(3).await;
    let ledger = Arc::clone(&load.ledger);
    let answered = load.ends().await;
    remains::nothing_is_left_in(&processes.running).await;
    let memory = (memory_loaded, processes.running.memory(), processes.running.memory_max());
    let all = processes.ended.into_iter().chain([processes.running]);
    for program in all {
        program.signal(Signal::TERM);
        let exit = program.ends().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
    let (log, journal) = (Log::read(&log), Journal::of_file(&journal));
    let reasons = log.reasons();
    let requests = ledger.entries().len() as u64;
    println!("{faults} faults, {requests} requests; messages and requests answered: {answered:?}");
    println!("reasons: {reasons:?}");
    around.relays.iter().for_each(|relay| println!("a relay: {}", relay.told()));
    println!(
        "memory under load, after it, at most, in KiB: {:?}",
        [memory.0, memory.1, memory.2].map(|bytes| bytes >> 10)
    );
    let wrong = differences(&ledger, &log, &journal);
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} do not balance: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(30)]
    );
    assert!(memory.1 <= memory.0 + MEMORY_MORE_MAX, "{memory:?}");
    // It was a soak with faults, and naru was of use in it.
    let others: u64 =
        reasons.iter().filter(|(reason, _)| **reason != "Forwarded").map(|(_, count)| count).sum();
    assert!(others > 0 && others * 2 < requests, "{others} of {requests}");
}
