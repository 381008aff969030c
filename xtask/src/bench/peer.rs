//! The proxies, and how each of them is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use super::template::{Values, render};
use super::{LOAD_CORE, PROXY_CORE, Protocol};
use crate::http::{free_ports, get, wait_for_200};
use crate::process::{Launch, Spawned};
use crate::setup::envoy;
use crate::workspace::{find_program, output, program, root, target};

const READY_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    Forwarder,
    Nginx,
    Haproxy,
    Envoy,
    Naru,
}

/// What a proxy is asked to be.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub workers: usize,
    /// Prefix routes before the one that takes everything.
    pub routes: usize,
    pub clusters: usize,
    pub upstream_h2: bool,
    /// With every policy that a request can meet.
    pub policies: bool,
    /// With a cache that answers.
    pub cached: bool,
}

impl Shape {
    pub const SMALL: Shape =
        Shape { workers: 1, routes: 0, clusters: 0, upstream_h2: false, policies: false, cached: false };
    pub const LARGE: Shape = Shape { routes: 10_000, clusters: 1_000, ..Shape::SMALL };
    pub const HUGE: Shape = Shape { routes: 100_000, ..Shape::LARGE };
}

/// What all proxies of one run have in common: an upstream and a certificate.
pub struct Site {
    directory: PathBuf,
    upstream_port: u16,
    _upstream: Spawned,
}

impl Site {
    pub fn prepare() -> anyhow::Result<Site> {
        let directory = target().join("bench");
        fs::create_dir_all(&directory)?;
        make_certificate(&directory)?;
        let [port] = free_ports()?;
        let mut upstream = Spawned::start(Launch {
            name: "the upstream",
            program: &program("bench-upstream"),
            arguments: vec![format!("--listen=127.0.0.1:{port}")],
            core: Some(LOAD_CORE),
            directory: &fresh_directory(&directory.join("upstream"))?,
            piped: false,
            unguarded: false,
        })?;
        wait_for_200(port, &mut upstream, Instant::now(), READY_PATIENCE)?;
        Ok(Site { directory, upstream_port: port, _upstream: upstream })
    }

    pub fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// An empty directory for one process.
    pub fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        fresh_directory(&self.directory.join(name))
    }

    /// What fills the holes of the configurations.
    pub fn values(&self, ports: &Ports, shape: &Shape, directory: &Path) -> Values {
        Values::from([
            ("h1", ports.h1.to_string()),
            ("h2", ports.h2.to_string()),
            ("tls", ports.tls.to_string()),
            ("tcp", ports.tcp.to_string()),
            ("admin", ports.admin.to_string()),
            ("upstream", self.upstream_port.to_string()),
            ("workers", shape.workers.to_string()),
            ("dir", directory.display().to_string()),
            ("certificate", self.certificate().display().to_string()),
            ("key", self.directory.join("key.pem").display().to_string()),
        ])
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub h1: u16,
    pub h2: u16,
    pub tls: u16,
    pub tcp: u16,
    pub admin: u16,
}

impl Ports {
    pub fn free() -> anyhow::Result<Ports> {
        let [h1, h2, tls, tcp, admin] = free_ports()?;
        Ok(Ports { h1, h2, tls, tcp, admin })
    }
}

/// How a proxy is started when it is not started as usual.
#[derive(Debug, Default)]
pub struct Manner {
    /// Tells its directory from those of others of its kind.
    pub suffix: String,
    /// See `Launch`.
    pub unguarded: bool,
    /// A program that runs it, with arguments.
    pub wrapper: Vec<String>,
    pub reads: Reads,
}

/// Which configuration naru is started with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The one that Envoy reads.
    #[default]
    Bootstrap,
    /// One that does nothing but route.
    RoutingOnly,
    /// Documents, by `naru up`: only they can say every policy.
    Documents,
}

/// A proxy that was started.
pub struct Running {
    pub process: Spawned,
    ports: Ports,
    begin: Instant,
    directory: PathBuf,
}

impl Running {
    /// Starts a proxy on its core and waits until it answers.
    pub fn start(site: &Site, peer: Peer, shape: Shape) -> anyhow::Result<Running> {
        let mut running = Running::exec(site, peer, shape, &Manner::default())?;
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Starts a proxy on its core and waits for nothing.
    pub fn exec(site: &Site, peer: Peer, shape: Shape, manner: &Manner) -> anyhow::Result<Running> {
        let directory = site.directory(&format!("{}{}", peer.name(), manner.suffix))?;
        let mut ports = Ports::free()?;
        if !peer.has_a_port_for_h2() {
            ports.h2 = ports.h1;
        }
        let values = site.values(&ports, &shape, &directory);
        fs::create_dir(directory.join("documents"))?;
        for (template, file) in peer.templates(manner.reads) {
            let text = fs::read_to_string(root().join("bench/config").join(template))?;
            fs::write(directory.join(file), render(&text, &values, &shape).context(*template)?)?;
        }
        if peer == Peer::Haproxy {
            let pem = [values["certificate"].as_str(), &values["key"]].map(fs::read_to_string);
            fs::write(directory.join("bundle.pem"), pem.into_iter().collect::<Result<String, _>>()?)?;
        }
        let mut words = manner.wrapper.clone();
        words.push(peer.program()?.display().to_string());
        words.extend(peer.arguments(&values, &shape, manner.reads));
        let launch = Launch {
            name: peer.name(),
            program: Path::new(&words[0]),
            arguments: words[1..].to_vec(),
            core: Some(PROXY_CORE),
            directory: &directory,
            piped: false,
            unguarded: manner.unguarded,
        };
        let begin = Instant::now();
        let process = Spawned::start(launch)?;
        Ok(Running { process, ports, begin, directory })
    }

    /// Waits for the first 200; says how long after the start it came.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<Duration> {
        wait_for_200(self.ports.h1, &mut self.process, self.begin, READY_PATIENCE)
    }

    /// Waits until so many requests in a row are answered 200: before the first health check has passed some are not, and
    /// admission control remembers that for a while.
    pub fn wait_until_steady(&mut self) -> anyhow::Result<()> {
        const IN_A_ROW: usize = 200;
        let mut good = 0;
        let called = Instant::now();
        while good < IN_A_ROW {
            ensure!(called.elapsed() < READY_PATIENCE, "it answers 200 now and then only");
            let (status, _) = get(self.ports.h1, "/")?;
            good = if status == 200 { good + 1 } else { 0 };
        }
        Ok(())
    }

    /// An error unless it does the work that all are compared at: a request gets its headers and a line in the log.
    pub fn ensure_does_the_work(mut self, peer: Peer) -> anyhow::Result<()> {
        if peer == Peer::Forwarder {
            return Ok(());
        }
        let (_, echo) = get(self.ports.h1, "/echo")?;
        let echo = echo.to_ascii_lowercase();
        for header in ["x-forwarded-for: ", "x-forwarded-proto: http", "x-request-id: "] {
            ensure!(echo.contains(&format!("\n{header}")), "{peer:?} sends no {header}: {echo}");
        }
        let directory = self.directory.clone();
        self.process.ensure_alive()?;
        // Some write their log only when they have enough of it, all when they end.
        drop(self);
        let log = fs::read_to_string(directory.join(peer.access_log()))?;
        ensure!(log.contains("/echo"), "{peer:?} does not log");
        Ok(())
    }

    pub fn port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::H1 => self.ports.h1,
            Protocol::H2 | Protocol::Grpc => self.ports.h2,
            Protocol::Tls => self.ports.tls,
            Protocol::Tcp => self.ports.tcp,
        }
    }
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Forwarder => "forwarder",
            Peer::Nginx => "nginx",
            Peer::Haproxy => "haproxy",
            Peer::Envoy => "envoy",
            Peer::Naru => "naru",
        }
    }

    pub fn is_there(self) -> bool {
        self.program().is_ok_and(|program| program.is_file())
    }

    pub fn version(self) -> anyhow::Result<String> {
        let text = match self {
            Peer::Forwarder => return Ok("bare hyper forwarder of this checkout".into()),
            Peer::Nginx => output(Command::new(self.program()?).arg("-v"))?,
            Peer::Haproxy => output(Command::new(self.program()?).arg("-v"))?,
            Peer::Envoy => output(Command::new(self.program()?).arg("--version"))?,
            Peer::Naru => {
                let describe = ["describe", "--always", "--dirty"];
                let commit = output(Command::new("git").args(describe).current_dir(root()));
                return Ok(format!("naru at commit {}", commit.as_deref().unwrap_or("unknown").trim()));
            }
        };
        let words = text.split(|letter: char| letter.is_whitespace() || letter == '/');
        let number = words
            .into_iter()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
        Ok(format!("{} {}", self.name(), number.unwrap_or(text.trim())))
    }

    /// Whether this is a question that can be put to it at all.
    pub fn can_be(self, shape: &Shape) -> bool {
        match self {
            // It has no routes.
            Peer::Forwarder => shape.routes == 0,
            // It speaks HTTP/2 to no upstream but gRPC's.
            Peer::Nginx => !shape.upstream_h2,
            // It goes through its routes one by one.
            Peer::Envoy => shape.routes <= Shape::LARGE.routes,
            Peer::Haproxy | Peer::Naru => true,
        }
    }

    /// The others recognise HTTP/2 by its first bytes.
    fn has_a_port_for_h2(self) -> bool {
        matches!(self, Peer::Forwarder | Peer::Nginx)
    }

    fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Peer::Forwarder => Ok(program("bench-forwarder")),
            Peer::Nginx | Peer::Haproxy => find_program(self.name()).context("not installed"),
            Peer::Envoy => envoy(),
            Peer::Naru => Ok(program("naru")),
        }
    }

    /// Which of the committed configurations becomes which file.
    fn templates(self, reads: Reads) -> &'static [(&'static str, &'static str)] {
        match self {
            Peer::Forwarder => &[],
            Peer::Nginx => &[("nginx.conf", "nginx.conf")],
            Peer::Haproxy => &[("haproxy.cfg", "haproxy.cfg"), ("haproxy.map", "routes.map")],
            Peer::Envoy => &[("envoy.yaml", "envoy.yaml")],
            Peer::Naru => match reads {
                Reads::Bootstrap => &[("envoy.yaml", "naru.yaml")],
                Reads::RoutingOnly => &[("route-only.yaml", "naru.yaml")],
                Reads::Documents => &[
                    ("documents/routing.yaml", "documents/routing.yaml"),
                    ("documents/policies.yaml", "documents/policies.yaml"),
                    ("documents/cached.yaml", "documents/cached.yaml"),
                ],
            },
        }
    }

    fn access_log(self) -> &'static str {
        match self {
            // It writes no files, but its standard output may be one.
            Peer::Haproxy => "stdout",
            Peer::Forwarder | Peer::Nginx | Peer::Envoy | Peer::Naru => "access.log",
        }
    }

    fn arguments(self, values: &Values, shape: &Shape, reads: Reads) -> Vec<String> {
        let directory = &values["dir"];
        let workers = &values["workers"];
        let address = |port: &str| format!("127.0.0.1:{}", values[port]);
        let words: Vec<String> = match self {
            Peer::Forwarder => {
                let mut words: Vec<String> = Vec::new();
                for port in ["h1", "h2", "tls", "upstream"] {
                    words.extend([format!("--{port}"), address(port)]);
                }
                for option in ["certificate", "key", "workers"] {
                    words.extend([format!("--{option}"), values[option].clone()]);
                }
                words.extend(shape.upstream_h2.then(|| "--upstream-h2".into()));
                words
            }
            Peer::Nginx => ["-e", "stderr", "-p", directory, "-c", &format!("{directory}/nginx.conf")]
                .map(Into::into)
                .into(),
            // With a master, because that is how it reloads.
            Peer::Haproxy => ["-W", "-f", &format!("{directory}/haproxy.cfg")].map(Into::into).into(),
            Peer::Envoy => {
                let file = format!("{directory}/envoy.yaml");
                ["-c", &file, "--concurrency", workers, "--disable-hot-restart", "--log-level", "warn"]
                    .map(Into::into)
                    .into()
            }
            Peer::Naru if reads == Reads::Documents => {
                let documents = format!("{directory}/documents");
                ["up", &documents, "--workers", workers, "--admin", &address("admin")].map(Into::into).into()
            }
            Peer::Naru => ["proxy", "-c", &format!("{directory}/naru.yaml"), "--workers", workers]
                .map(Into::into)
                .into(),
        };
        words
    }
}

fn fresh_directory(path: &Path) -> anyhow::Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    Ok(path.into())
}

fn make_certificate(directory: &Path) -> anyhow::Result<()> {
    output(Command::new("openssl").current_dir(directory).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        // Else a client that trusts exactly this certificate refuses it as an authority's.
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "certificate.pem",
    ]))?;
    Ok(())
}
