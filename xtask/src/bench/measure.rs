//! The measurements, in groups that can be asked for by name.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustix::process::Signal;

use super::load::{Fresh, Load, Offered, Pace, Protocol};
use super::peer::{Manner, Peer, Reads, Running, Shape, Site};
use super::samples::{Quantile, Quantity, Samples, Size, Slices, Spread};
use super::template::route_name;
use crate::usage::{family, resident_bytes};

const CONNECTIONS: usize = 64;
const CONNECTIONS_H2: usize = 8;
/// Of large bodies: more would only wait for each other.
const CONNECTIONS_LARGE: usize = 8;
/// Memory for each idle connection is the slope between these.
const IDLE: [usize; 2] = [1_000, 15_000];
const MEGABYTE: usize = 1_000_000;
/// Of a call that is answered by many.
const MESSAGES: &str = "/messages/100";
const RELOADS: usize = 10;
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);
const MEMORY_WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Measure {
    H1,
    H2,
    Tls,
    Handshakes,
    Bodies,
    Grpc,
    Tcp,
    Latency,
    Routes,
    Policies,
    Cache,
    Start,
    Idle,
    Memory,
}

#[derive(Debug)]
pub struct Settings {
    pub rounds: usize,
    /// Of closed-loop load.
    pub seconds: f64,
    pub latency_seconds: f64,
    /// So many times in each round, every proxy in the same moments.
    pub latency_turns: usize,
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
        latency_seconds: 0.1,
        latency_turns: 120,
        rates: [2_000, 8_000],
        settle: Duration::from_secs(30),
        starts: 5,
    };
    pub const QUICK: Settings = Settings {
        rounds: 2,
        seconds: 1.5,
        latency_seconds: 0.1,
        latency_turns: 40,
        rates: [2_000, 8_000],
        settle: Duration::from_secs(3),
        starts: 2,
    };

    /// As fast as it goes.
    fn load<'a>(&self, protocol: Protocol, path: &'a str) -> Load<'a> {
        let is_h2 = matches!(protocol, Protocol::H2 | Protocol::Grpc);
        let connections = if is_h2 { CONNECTIONS_H2 } else { CONNECTIONS };
        Load::new(protocol, path, connections, Pace::Closed { seconds: self.seconds })
    }

    /// Memory hardly varies and takes a minute to read.
    pub fn rounds_of(&self, measure: Measure) -> usize {
        if matches!(measure, Measure::Memory | Measure::Idle) { self.rounds.min(3) } else { self.rounds }
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
        if self == Measure::Latency {
            return latencies(site, peers, settings, samples);
        }
        let closed = |protocol, path| settings.load(protocol, path);
        let upstream_h2 = Shape { upstream_h2: true, ..Shape::SMALL };
        let large = format!("/bytes/{MEGABYTE}");
        for &peer in peers {
            let cpu_of = |shape, ways: &[(Quantity, Load<'_>)]| cpu_of(site, peer, shape, ways);
            let measured = || match self {
                Measure::H1 => cpu_of(Shape::SMALL, &[(Quantity::H1, closed(Protocol::H1, "/"))]),
                Measure::H2 => {
                    let mut values = cpu_of(Shape::SMALL, &[(Quantity::H2, closed(Protocol::H2, "/"))])?;
                    let of_both = [(Quantity::H2ToH2, closed(Protocol::H2, "/"))];
                    values.extend(cpu_of(upstream_h2, &of_both)?);
                    Ok(values)
                }
                Measure::Tls => cpu_of(Shape::SMALL, &[(Quantity::Tls, closed(Protocol::Tls, "/"))]),
                Measure::Handshakes => {
                    let fresh = |fresh| Load { fresh: Some(fresh), ..closed(Protocol::Tls, "/") };
                    let ways = [
                        (Quantity::Handshake, fresh(Fresh::Whole)),
                        (Quantity::Resumption, fresh(Fresh::Resumed)),
                    ];
                    cpu_of(Shape::SMALL, &ways)
                }
                Measure::Bodies => {
                    let few =
                        |protocol, path| Load { connections: CONNECTIONS_LARGE, ..closed(protocol, path) };
                    let ways = [
                        (Quantity::Download, few(Protocol::H1, &large)),
                        (Quantity::Upload, Load { upload: MEGABYTE, ..few(Protocol::H1, "/") }),
                    ];
                    cpu_of(Shape::SMALL, &ways)
                }
                // It knows no bytes but those of HTTP, and h2 resets some of so many calls.
                Measure::Tcp | Measure::Grpc if peer == Peer::Forwarder => Ok(Vec::new()),
                Measure::Grpc => {
                    let unary = Load { upload: 16, ..closed(Protocol::Grpc, "/messages/1") };
                    let ways =
                        [(Quantity::Call, unary), (Quantity::Stream, Load { path: MESSAGES, ..unary })];
                    cpu_of(upstream_h2, &ways)
                }
                Measure::Tcp => {
                    let few = Load { connections: CONNECTIONS_LARGE, ..closed(Protocol::Tcp, &large) };
                    let ways = [(Quantity::Tcp, closed(Protocol::Tcp, "/")), (Quantity::TcpBytes, few)];
                    cpu_of(Shape::SMALL, &ways)
                }
                Measure::Routes => routes(site, peer, settings),
                Measure::Policies => {
                    let with = Shape { policies: true, ..Shape::SMALL };
                    let ways = [(Shape::SMALL, Quantity::WithoutPolicies), (with, Quantity::WithPolicies)];
                    of_documents(site, peer, settings, ways)
                }
                Measure::Cache => {
                    let with = Shape { cached: true, ..Shape::SMALL };
                    of_documents(
                        site,
                        peer,
                        settings,
                        [(Shape::SMALL, Quantity::Proxied), (with, Quantity::Cached)],
                    )
                }
                Measure::Start => start_times(site, peer, settings),
                // It starts only where it may have two descriptors for each connection.
                Measure::Idle if peer == Peer::Haproxy => Ok(Vec::new()),
                Measure::Idle => memory_of_idle_connections(site, peer),
                // Of all of them at once: above.
                Measure::Memory | Measure::Latency => Ok(Vec::new()),
            };
            for (quantity, value) in measured().with_context(|| format!("measuring {peer:?} ({self:?})"))? {
                samples.add(quantity, peer, value);
            }
        }
        Ok(())
    }
}

type Values = Vec<(Quantity, f64)>;

/// CPU time per request in microseconds, for one way after another of asking the same process.
fn cpu_of(site: &Site, peer: Peer, shape: Shape, ways: &[(Quantity, Load<'_>)]) -> anyhow::Result<Values> {
    if !peer.can_be(&shape) {
        return Ok(Vec::new());
    }
    let mut proxy = Running::start(site, peer, shape)?;
    let mut values = Vec::new();
    for &(quantity, load) in ways {
        values.push((quantity, cpu_us(site, &mut proxy, load)?));
    }
    Ok(values)
}

fn cpu_us(site: &Site, proxy: &mut Running, load: Load<'_>) -> anyhow::Result<f64> {
    Ok(load.run(site, proxy)?.per_request() / 1000.0)
}

/// What a connection costs that was used once and waits for the next request.
fn memory_of_idle_connections(site: &Site, peer: Peer) -> anyhow::Result<Values> {
    let mut proxy = Running::start(site, peer, Shape::SMALL)?;
    let mut resident = [0.0; 2];
    for (connections, bytes) in IDLE.into_iter().zip(&mut resident) {
        let load = Load::new(Protocol::H1, "/", connections, Pace::OneByOne);
        *bytes = load.run_reading(site, &mut proxy, resident_bytes)?.before as f64;
    }
    let slope = (resident[1] - resident[0]) / (IDLE[1] - IDLE[0]) as f64;
    Ok(vec![(Quantity::IdleConnection, slope / 1000.0)])
}

/// Of naru alone, by `naru up`: what a request costs with one set of documents and with another.
fn of_documents(
    site: &Site,
    peer: Peer,
    settings: &Settings,
    ways: [(Shape, Quantity); 2],
) -> anyhow::Result<Values> {
    let mut values = Vec::new();
    for (shape, quantity) in ways {
        if peer == Peer::Naru {
            let manner = Manner { reads: Reads::Documents, ..Manner::default() };
            let mut proxy = Running::exec(site, peer, shape, &manner)?;
            proxy.wait_until_ready()?;
            proxy.wait_until_steady()?;
            values.push((quantity, cpu_us(site, &mut proxy, settings.load(Protocol::H1, "/"))?));
        }
    }
    Ok(values)
}

fn routes(site: &Site, peer: Peer, settings: &Settings) -> anyhow::Result<Values> {
    let mut values = Vec::new();
    for (shape, quantities) in [
        (Shape::LARGE, [Quantity::FirstRoute, Quantity::LastRoute]),
        (Shape::HUGE, [Quantity::FirstOfHuge, Quantity::LastOfHuge]),
    ] {
        let paths = first_and_last_path(shape.routes);
        let ways = [0, 1].map(|at| (quantities[at], settings.load(Protocol::H1, &paths[at])));
        values.extend(cpu_of(site, peer, shape, &ways)?);
    }
    Ok(values)
}

pub fn first_and_last_path(routes: usize) -> [String; 2] {
    [0, routes - 1].map(|number| format!("/route-{}/item", route_name(number)))
}

/// A busy moment of the machine is a hundred times what a proxy takes, so every proxy is asked in the same moments.
fn latencies(site: &Site, peers: &[Peer], settings: &Settings, samples: &mut Samples) -> anyhow::Result<()> {
    let start = |peer: &Peer| Running::start(site, *peer, Shape::SMALL);
    let mut proxies = peers.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut proxies: Vec<_> = proxies.iter_mut().collect();
    for rate in settings.rates {
        let (seconds, turns) = (settings.latency_seconds, settings.latency_turns);
        let offered = Offered { rate, connections: CONNECTIONS, seconds, turns };
        offered.run(site, &mut proxies, |turn| {
            let count = |name: &str| turn[name].as_u64().context("the load counts no slices");
            samples.add_slices(Slices {
                counted: count("slices")?,
                again: count("again")?,
                disturbed: count("disturbed")?,
            });
            for (peer, said) in peers.iter().zip(turn["proxies"].as_array().into_iter().flatten()) {
                for (quantile, name) in
                    [(Quantile::P50, "p50"), (Quantile::P99, "p99"), (Quantile::P999, "p999")]
                {
                    let value = said["latency_us"][name].as_f64().context("the load says no latency")?;
                    samples.add(Quantity::Latency(rate, quantile), *peer, value);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
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

/// How a proxy is told to read its configuration again. Envoy's static bootstrap is read once.
fn reload_signal(peer: Peer) -> Option<Signal> {
    match peer {
        Peer::Nginx | Peer::Naru => Some(Signal::HUP),
        Peer::Haproxy => Some(Signal::USR2),
        Peer::Forwarder | Peer::Envoy => None,
    }
}

/// Reloads, and waits until no process of the old generation is left. naru stays the process that it is, and holds a
/// change up for a second at most.
fn reload(peer: Peer, proxy: &mut Running) -> anyhow::Result<()> {
    let Some(signal) = reload_signal(peer) else { return Ok(()) };
    let master = proxy.process.pid();
    let workers = || anyhow::Ok(family(master)?.into_iter().filter(|pid| *pid != master).collect::<Vec<_>>());
    let old = workers()?;
    let begin = Instant::now();
    proxy.process.signal(signal)?;
    if peer == Peer::Naru {
        sleep(Duration::from_secs(1));
    }
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
