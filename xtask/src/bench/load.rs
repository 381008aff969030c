//! How the proxy is asked: one run of bench-load, with the proxy's CPU time read around it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::LOAD_CORE;
use super::peer::{Running, Site};
use crate::process::{Launch, Spawned};
use crate::usage::cpu_ns;
use crate::workspace::program;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protocol {
    H1,
    /// With prior knowledge.
    H2,
    /// Calls over HTTP/2.
    Grpc,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/1.1 that its proxy takes for bytes.
    Tcp,
}

#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    pub protocol: Protocol,
    pub path: &'a str,
    /// Bytes of the body of each request.
    pub upload: usize,
    pub connections: usize,
    /// A connection for each request.
    pub fresh: Option<Fresh>,
    pub pace: Pace,
}

/// How TLS begins, where it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fresh {
    Whole,
    Resumed,
}

#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as it goes.
    Closed { seconds: f64 },
    /// A number of requests, one after another, after some to warm up.
    Counted { requests: u64, warm_up: u64 },
    /// One on each connection before the next is made, and one more.
    OneByOne,
}

pub struct Outcome {
    pub requests: f64,
    /// What was read of the proxy when all was warm, and when these requests were answered.
    pub before: u64,
    pub after: u64,
}

impl Outcome {
    /// Of what was read.
    pub fn per_request(&self) -> f64 {
        (self.after - self.before) as f64 / self.requests
    }
}

/// Requests over HTTP/1.1 that are due whatever comes back, offered to several proxies, to each for a moment in turn.
#[derive(Debug, Clone, Copy)]
pub struct Offered {
    pub rate: u32,
    pub connections: usize,
    /// Of each turn, for each proxy.
    pub seconds: f64,
    pub turns: usize,
}

const STREAMS: u32 = 32;
const WARM_UP_SECONDS: f64 = 0.5;

impl<'a> Load<'a> {
    pub fn new(protocol: Protocol, path: &'a str, connections: usize, pace: Pace) -> Load<'a> {
        Load { protocol, path, upload: 0, connections, fresh: None, pace }
    }

    /// With the proxy's CPU time in nanoseconds.
    pub fn run(&self, site: &Site, proxy: &mut Running) -> anyhow::Result<Outcome> {
        self.run_reading(site, proxy, cpu_ns)
    }

    /// With what `gauge` reads of the proxy's process.
    pub fn run_reading(
        &self,
        site: &Site,
        proxy: &mut Running,
        gauge: impl Fn(u32) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Outcome> {
        let port = proxy.port(self.protocol);
        let outcome =
            self.run_on(port, &site.directory("load")?, &site.certificate(), || gauge(proxy.process.pid()));
        proxy.process.ensure_alive()?;
        outcome
    }

    /// Runs against a port; `gauge` is read when everything is warm and again when everything is answered.
    pub fn run_on(
        &self,
        port: u16,
        directory: &Path,
        certificate: &Path,
        gauge: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Outcome> {
        let mut load = Warm::start(directory, self.arguments(port, certificate))?;
        let before = gauge()?;
        load.go()?;
        let said = load.says();
        let after = gauge()?;
        let said = said?;
        load.process.finish()?;
        let requests =
            said["requests"].as_f64().filter(|requests| *requests > 0.0).context("nothing was answered")?;
        Ok(Outcome { requests, before, after })
    }

    fn arguments(&self, port: u16, certificate: &Path) -> Vec<String> {
        let mut words = vec![
            format!("--address=127.0.0.1:{port}"),
            format!("--path={}", self.path),
            format!("--upload={}", self.upload),
            format!("--connections={}", self.connections),
            format!("--streams={STREAMS}"),
            format!("--certificate={}", certificate.display()),
        ];
        words.push(match self.protocol {
            Protocol::H1 | Protocol::Tcp => "--protocol=h1".into(),
            Protocol::H2 => "--protocol=h2".into(),
            Protocol::Grpc => "--protocol=grpc".into(),
            Protocol::Tls => "--protocol=tls".into(),
        });
        words.extend(self.fresh.map(|_| "--fresh".into()));
        words.extend((self.fresh == Some(Fresh::Resumed)).then(|| "--resume".into()));
        words.extend(match self.pace {
            Pace::Closed { seconds } => {
                vec![format!("--seconds={seconds}"), format!("--warm-up-seconds={WARM_UP_SECONDS}")]
            }
            Pace::Counted { requests, warm_up } => {
                vec![format!("--requests={requests}"), format!("--warm-up-requests={warm_up}")]
            }
            Pace::OneByOne => ["--one-by-one", "--requests=1", "--warm-up-requests=1"].map(Into::into).into(),
        });
        words
    }
}

impl Offered {
    /// `heard` takes what bench-load says after each turn.
    pub fn run(
        &self,
        site: &Site,
        proxies: &mut [&mut Running],
        mut heard: impl FnMut(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let of_each = proxies.iter().map(|proxy| format!("--address=127.0.0.1:{}", proxy.port(Protocol::H1)));
        let mut words: Vec<_> = of_each.collect();
        words.extend([
            format!("--connections={}", self.connections),
            format!("--rate={}", self.rate),
            format!("--seconds={}", self.seconds),
            format!("--turns={}", self.turns),
            format!("--warm-up-seconds={WARM_UP_SECONDS}"),
        ]);
        let mut load = Warm::start(&site.directory("load")?, words)?;
        load.go()?;
        for _ in 0..self.turns {
            heard(&load.says()?)?;
        }
        load.process.finish()?;
        proxies.iter_mut().try_for_each(|proxy| proxy.process.ensure_alive())
    }
}

/// bench-load, its connections made and warm.
struct Warm {
    process: Spawned,
    go: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Warm {
    fn start(directory: &Path, arguments: Vec<String>) -> anyhow::Result<Warm> {
        let mut process = Spawned::start(Launch {
            name: "the load generator",
            program: &program("bench-load"),
            arguments,
            core: Some(LOAD_CORE),
            directory,
            piped: true,
            unguarded: false,
        })?;
        let (go, said) = process.pipes()?;
        let mut load = Warm { process, go, lines: BufReader::new(said).lines() };
        let ready = load.lines.next().transpose()?;
        ensure!(ready.as_deref() == Some("ready"), "the load failed: {}", load.process.last_words());
        Ok(load)
    }

    fn go(&mut self) -> anyhow::Result<()> {
        Ok(writeln!(self.go, "go")?)
    }

    /// The next of its lines.
    fn says(&mut self) -> anyhow::Result<Value> {
        let line = self.lines.next().transpose()?;
        let line = line.with_context(|| format!("the load failed: {}", self.process.last_words()))?;
        Ok(serde_json::from_str(&line)?)
    }
}
