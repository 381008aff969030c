//! The measurements, in groups that can be asked for by name.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustix::process::Signal;

use super::load::{Load, Pace, Protocol};
use super::peer::{Manner, Peer, Reads, Running, Shape, Site};
use super::samples::{Quantile, Quantity, Samples, Size, Spread};
use super::template::route_name;
use crate::usage::{family, resident_bytes};

const CONNECTIONS: usize = 64;
const CONNECTIONS_H2: usize = 8;
const RELOADS: usize = 10;
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);
const MEMORY_WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Measure {
    H1,
    H2,
    Tls,
    Latency,
    Routes,
    Policies,
    Start,
    Memory,
}

#[derive(Debug)]
pub struct Settings {
    pub rounds: usize,
    /// Of closed-loop load.
    pub seconds: f64,
    pub latency_seconds: f64,
    pub rates: [u32; 2],
    /// Before memory is read.
    pub settle: Duration,
    /// In each round.
    pub starts: usize,
}

impl Settings {
    pub const FULL: Settings = Settings {
        rounds: 5,
        seconds: 5.0,
        latency_seconds: 8.0,
        rates: [2_000, 8_000],
        settle: Duration::from_secs(30),
        starts: 5,
    };
    pub const QUICK: Settings = Settings {
        rounds: 2,
        seconds: 1.5,
        latency_seconds: 2.0,
        rates: [2_000, 8_000],
        settle: Duration::from_secs(3),
        starts: 2,
    };

    /// Memory hardly varies and takes a minute to read.
    pub fn rounds_of(&self, measure: Measure) -> usize {
        if measure == Measure::Memory { self.rounds.min(3) } else { self.rounds }
    }
}

impl Measure {
    /// Measures every proxy that can be asked, once.
    pub fn run(
        self,
        site: &Site,
        peers: &[Peer],
        settings: &Settings,
        samples: &mut Samples,
    ) -> anyhow::Result<()> {
        if self == Measure::Memory {
            return measure_memory(site, peers, settings, samples);
        }
        for &peer in peers {
            let measured = match self {
                Measure::H1 => {
                    cpu_of(site, peer, Shape::SMALL, settings, &[(Quantity::H1, Protocol::H1, "/")])
                }
                Measure::H2 => {
                    let ask = |quantity| [(quantity, Protocol::H2, "/")];
                    let upstream_h2 = Shape { upstream_h2: true, ..Shape::SMALL };
                    cpu_of(site, peer, Shape::SMALL, settings, &ask(Quantity::H2)).and_then(|mut values| {
                        values.extend(cpu_of(site, peer, upstream_h2, settings, &ask(Quantity::H2ToH2))?);
                        Ok(values)
                    })
                }
                Measure::Tls => {
                    cpu_of(site, peer, Shape::SMALL, settings, &[(Quantity::Tls, Protocol::Tls, "/")])
                }
                Measure::Latency => latencies(site, peer, settings),
                Measure::Routes => first_and_last_route(site, peer, settings),
                Measure::Policies => without_and_with_policies(site, peer, settings),
                Measure::Start => start_times(site, peer, settings),
                Measure::Memory => Ok(Vec::new()),
            };
            for (quantity, value) in measured.with_context(|| format!("measuring {peer:?} ({self:?})"))? {
                samples.add(quantity, peer, value);
            }
        }
        Ok(())
    }
}

type Values = Vec<(Quantity, f64)>;

/// CPU time per request in microseconds, for one way after another of asking the same process.
fn cpu_of(
    site: &Site,
    peer: Peer,
    shape: Shape,
    settings: &Settings,
    ways: &[(Quantity, Protocol, &str)],
) -> anyhow::Result<Values> {
    if !peer.can_be(&shape) {
        return Ok(Vec::new());
    }
    let mut proxy = Running::start(site, peer, shape)?;
    let mut values = Vec::new();
    for &(quantity, protocol, path) in ways {
        values.push((quantity, cpu_us(site, &mut proxy, settings, protocol, path)?));
    }
    Ok(values)
}

fn cpu_us(
    site: &Site,
    proxy: &mut Running,
    settings: &Settings,
    protocol: Protocol,
    path: &str,
) -> anyhow::Result<f64> {
    let connections = if protocol == Protocol::H2 { CONNECTIONS_H2 } else { CONNECTIONS };
    let pace = Pace::Closed { seconds: settings.seconds };
    let outcome = Load { protocol, path, connections, pace }.run(site, proxy)?;
    Ok(outcome.cpu_ns / outcome.requests / 1000.0)
}

/// Of naru alone: what every policy together costs.
fn without_and_with_policies(site: &Site, peer: Peer, settings: &Settings) -> anyhow::Result<Values> {
    let mut values = Vec::new();
    for (policies, quantity) in [(false, Quantity::WithoutPolicies), (true, Quantity::WithPolicies)] {
        if peer == Peer::Naru {
            let shape = Shape { policies, ..Shape::SMALL };
            let manner = Manner { reads: Reads::Documents, ..Manner::default() };
            let mut proxy = Running::exec(site, peer, shape, &manner)?;
            proxy.wait_until_ready()?;
            proxy.wait_until_steady()?;
            values.push((quantity, cpu_us(site, &mut proxy, settings, Protocol::H1, "/")?));
        }
    }
    Ok(values)
}

fn first_and_last_route(site: &Site, peer: Peer, settings: &Settings) -> anyhow::Result<Values> {
    let [first, last] = first_and_last_path(Shape::LARGE.routes);
    let ways =
        [(Quantity::FirstRoute, Protocol::H1, first.as_str()), (Quantity::LastRoute, Protocol::H1, &last)];
    cpu_of(site, peer, Shape::LARGE, settings, &ways)
}

pub fn first_and_last_path(routes: usize) -> [String; 2] {
    [0, routes - 1].map(|number| format!("/route-{}/item", route_name(number)))
}

fn latencies(site: &Site, peer: Peer, settings: &Settings) -> anyhow::Result<Values> {
    let mut proxy = Running::start(site, peer, Shape::SMALL)?;
    let mut values = Vec::new();
    for rate in settings.rates {
        let pace = Pace::Open { seconds: settings.latency_seconds, rate };
        let load = Load { protocol: Protocol::H1, path: "/", connections: CONNECTIONS, pace };
        let said = load.run(site, &mut proxy)?.said;
        for (quantile, name) in [(Quantile::P50, "p50"), (Quantile::P99, "p99"), (Quantile::P999, "p999")] {
            let value = said["latency_us"][name].as_f64().context("the load says no latency")?;
            values.push((Quantity::Latency(rate, quantile), value));
        }
    }
    Ok(values)
}

fn start_times(site: &Site, peer: Peer, settings: &Settings) -> anyhow::Result<Values> {
    let mut values = Vec::new();
    for (size, shape) in [(Size::Small, Shape::SMALL), (Size::Large, Shape::LARGE)] {
        if !peer.can_be(&shape) {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..settings.starts {
            let mut proxy =
                Running::exec(site, peer, shape, &Manner { unguarded: true, ..Manner::default() })?;
            times.push(proxy.wait_until_ready()?.as_secs_f64() * 1000.0);
        }
        let spread = Spread::of(times).context("nothing was started")?;
        values.push((Quantity::Start(size), spread.median));
    }
    Ok(values)
}

/// All proxies of both sizes at once: none of them is asked anything, so none disturbs another.
fn measure_memory(
    site: &Site,
    peers: &[Peer],
    settings: &Settings,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let mut idle = Vec::new();
    for &peer in peers {
        for (size, shape) in [(Size::Small, Shape::SMALL), (Size::Large, Shape::LARGE)] {
            if peer.can_be(&shape) {
                let shape = Shape { workers: MEMORY_WORKERS, ..shape };
                let manner = Manner { suffix: format!("-{size:?}"), ..Manner::default() };
                let mut proxy = Running::exec(site, peer, shape, &manner)?;
                proxy.wait_until_ready()?;
                idle.push((peer, size, proxy));
            }
        }
    }
    sleep(settings.settle);
    for (peer, size, proxy) in &idle {
        samples.add(Quantity::Memory(*size), *peer, in_mb(resident_bytes(proxy.process.pid())?));
    }

    idle.retain(|(peer, _, _)| reload_signal(*peer).is_some());
    for (peer, _, proxy) in &mut idle {
        for _ in 0..RELOADS {
            reload(*peer, proxy).with_context(|| format!("reloading {peer:?}"))?;
        }
    }
    sleep(settings.settle);
    for (peer, size, proxy) in &idle {
        samples.add(Quantity::MemoryAfterReloads(*size), *peer, in_mb(resident_bytes(proxy.process.pid())?));
    }
    Ok(())
}

/// How a proxy is told to read its configuration again. Envoy's static bootstrap is read once, and naru cannot swap a
/// configuration yet.
fn reload_signal(peer: Peer) -> Option<Signal> {
    match peer {
        Peer::Nginx => Some(Signal::HUP),
        Peer::Haproxy => Some(Signal::USR2),
        Peer::Forwarder | Peer::Envoy | Peer::Naru => None,
    }
}

/// Reloads, and waits until no process of the old generation is left.
fn reload(peer: Peer, proxy: &mut Running) -> anyhow::Result<()> {
    let Some(signal) = reload_signal(peer) else { return Ok(()) };
    let master = proxy.process.pid();
    let workers = || anyhow::Ok(family(master)?.into_iter().filter(|pid| *pid != master).collect::<Vec<_>>());
    let old = workers()?;
    let begin = Instant::now();
    proxy.process.signal(signal)?;
    loop {
        let now = workers()?;
        if now.len() >= old.len() && !now.iter().any(|pid| old.contains(pid)) {
            proxy.wait_until_ready()?;
            return Ok(());
        }
        ensure!(begin.elapsed() < RELOAD_PATIENCE, "the old workers do not go: {old:?} {now:?}");
        sleep(Duration::from_millis(5));
    }
}

fn in_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
