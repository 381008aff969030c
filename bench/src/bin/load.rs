//! bench-load
//! What comes back when so many ask, or when requests come at such a rate?
//!
//! Opens its connections, warms them, says `ready` on stdout and waits for a line on stdin, so that whoever started it
//! can read the proxy's clock between warming and measuring. Then it measures and prints a line of JSON, or one for each
//! turn.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "they are this program's interface")]

use std::io::stdin;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use naru_bench::load::closed::{Connection, Until};
use naru_bench::load::h1::{Fresh, Http1};
use naru_bench::load::h2::Http2;
use naru_bench::load::open::{Latencies, Offer, SideBySide, Turn};
use naru_bench::load::ticker::Tickers;
use naru_bench::load::{Asked, Dial, closed};
use naru_bench::worker::run_local;
use serde_json::{Map, Value, json};

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

#[derive(Parser)]
struct Options {
    /// Of several, with --rate, each is asked for a moment in turn.
    #[arg(long, required = true)]
    address: Vec<SocketAddr>,
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, value_enum, default_value_t = Protocol::H1)]
    protocol: Protocol,
    /// The one certificate that is trusted, for tls.
    #[arg(long, required_if_eq("protocol", "tls"))]
    certificate: Option<PathBuf>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of the body of each request, or of the message of each call.
    #[arg(long, default_value_t = 0)]
    upload: usize,
    /// A connection for each request, HTTP/1.1 only.
    #[arg(long)]
    fresh: bool,
    /// Each HTTP/1.1 connection asks once before the next one is made, so that a proxy needs but one upstream connection.
    #[arg(long)]
    one_by_one: bool,
    /// Sessions of TLS are resumed.
    #[arg(long)]
    resume: bool,
    /// In flight on each HTTP/2 connection.
    #[arg(long, default_value_t = 32)]
    streams: u32,
    /// Measure for so long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measure so many requests instead.
    #[arg(long, conflicts_with_all = ["seconds", "rate"])]
    requests: Option<u64>,
    /// Open loop: offer so many requests per second, whatever comes back, and record latencies.
    #[arg(long)]
    rate: Option<f64>,
    /// Record latencies so many times, and print a line each.
    #[arg(long, default_value_t = 1, requires = "rate")]
    turns: usize,
    #[arg(long, default_value_t = 0.5)]
    warm_up_seconds: f64,
    /// Warm up with so many requests instead.
    #[arg(long, conflicts_with = "warm_up_seconds")]
    warm_up_requests: Option<u64>,
    /// Measure at once instead of waiting for a line on stdin.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Protocol {
    H1,
    H2,
    Grpc,
    Tls,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.address.len() == 1 || options.rate.is_some(), "one address, or a rate");
    run_local(async move {
        let mut warm = Vec::new();
        for address in &options.address {
            let connections = open_connections(&options, *address).await?;
            let warm_up = until(options.warm_up_requests, options.warm_up_seconds);
            warm.push(closed::run(connections, warm_up).await?.0);
        }
        if !options.now {
            println!("ready");
            stdin().read_line(&mut String::new())?;
        }
        if let Some(rate) = options.rate {
            return measure_latencies(warm, rate, &options).await;
        }
        let until = until(options.requests, options.seconds);
        let connections = warm.into_iter().flatten().collect();
        println!("{}", measure_throughput(connections, until).await?);
        Ok(())
    })
}

async fn open_connections(options: &Options, address: SocketAddr) -> anyhow::Result<Vec<Connection>> {
    let certificate = options.certificate.as_deref().filter(|_| options.protocol == Protocol::Tls);
    let connector = certificate.map(|path| naru_bench::tls::connector(path, options.resume)).transpose()?;
    let dial = Dial { address, connector };
    let asked =
        Asked { authority: "bench.example".into(), path: options.path.clone(), upload: options.upload };
    let mut connections = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        if options.fresh {
            connections.push(Connection::Fresh(Fresh { dial: dial.clone(), asked: asked.clone() }));
            continue;
        }
        let stream = dial.connect().await?;
        connections.push(match options.protocol {
            Protocol::H1 | Protocol::Tls => {
                let mut http1 = Http1::new(stream, &asked);
                if options.one_by_one {
                    http1.exchange().await?;
                }
                Connection::Http1(http1)
            }
            protocol @ (Protocol::H2 | Protocol::Grpc) => {
                let is_grpc = protocol == Protocol::Grpc;
                Connection::Http2(Http2::new(stream, &asked, is_grpc, options.streams))
            }
        });
    }
    Ok(connections)
}

async fn measure_throughput(connections: Vec<Connection>, until: Until) -> anyhow::Result<Value> {
    let begin = Instant::now();
    let (_, requests) = closed::run(connections, until).await?;
    Ok(json!({ "requests": requests, "seconds": begin.elapsed().as_secs_f64() }))
}

/// Prints a line for each turn, with an entry for each address.
async fn measure_latencies(warm: Vec<Vec<Connection>>, rate: f64, options: &Options) -> anyhow::Result<()> {
    let offer = |connections: Vec<Connection>| {
        let http1 = connections.into_iter().map(|connection| match connection {
            Connection::Http1(http1) => Some(http1),
            Connection::Http2(_) | Connection::Fresh(_) => None,
        });
        Some(Offer::new(http1.collect::<Option<_>>()?, rate))
    };
    let offers: Option<Vec<_>> = warm.into_iter().map(offer).collect();
    let offers = offers.context("the open loop speaks HTTP/1.1 only")?;
    let tickers =
        Tickers::start().inspect_err(|error| eprintln!("whether a core is away is not known: {error:#}"));
    let mut all = SideBySide::new(offers, tickers.ok());
    for _ in 0..options.turns {
        let turn = all.run(Duration::from_secs_f64(options.seconds)).await?;
        let proxies = Value::from_iter(turn.latencies.iter().map(in_words));
        let Turn { slices, again, disturbed, .. } = turn;
        println!(
            "{}",
            json!({ "proxies": proxies, "slices": slices, "again": again, "disturbed": disturbed })
        );
    }
    Ok(())
}

fn in_words(latencies: &Latencies) -> Value {
    let in_us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    let answered = |quantile| json!(in_us(latencies.answered.value_at_quantile(quantile)));
    let latency_us: Map<_, _> =
        QUANTILES.into_iter().map(|(name, quantile)| (name.to_owned(), answered(quantile))).collect();
    json!({
        "requests": latencies.answered.len(),
        "latency_us": latency_us,
        "released_late_us_p99": in_us(latencies.released_late.value_at_quantile(0.99)),
    })
}

fn until(requests: Option<u64>, seconds: f64) -> Until {
    match requests {
        Some(count) => Until::Requests(count),
        None => Until::Moment(Instant::now() + Duration::from_secs_f64(seconds)),
    }
}
