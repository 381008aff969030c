//! bench-load
//! What comes back when so many ask, or when requests come at such a rate?
//!
//! Opens its connections, warms them, says `ready` on stdout and waits for a line on stdin, so that whoever started it
//! can read the proxy's clock between warming and measuring. Then it measures and prints one line of JSON.

#![allow(clippy::print_stdout, reason = "stdout is this program's interface")]

use std::io::stdin;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use naru_bench::load::closed::{Connection, Until};
use naru_bench::load::h1::{Fresh, Http1};
use naru_bench::load::h2::Http2;
use naru_bench::load::{Asked, Dial, closed, open};
use naru_bench::worker::run_local;
use serde_json::{Value, json};

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

#[derive(Parser)]
struct Options {
    #[arg(long)]
    address: SocketAddr,
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
    run_local(async move {
        let connections = open_connections(&options).await?;
        let warm_up = until(options.warm_up_requests, options.warm_up_seconds);
        let (connections, _) = closed::run(connections, warm_up).await?;
        if !options.now {
            println!("ready");
            stdin().read_line(&mut String::new())?;
        }
        let result = match options.rate {
            None => measure_throughput(connections, until(options.requests, options.seconds)).await?,
            Some(rate) => measure_latency(connections, rate, options.seconds).await?,
        };
        println!("{result}");
        Ok(())
    })
}

async fn open_connections(options: &Options) -> anyhow::Result<Vec<Connection>> {
    let certificate = options.certificate.as_deref().filter(|_| options.protocol == Protocol::Tls);
    let connector = certificate.map(|path| naru_bench::tls::connector(path, options.resume)).transpose()?;
    let dial = Dial { address: options.address, connector };
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

async fn measure_latency(connections: Vec<Connection>, rate: f64, seconds: f64) -> anyhow::Result<Value> {
    let connections: Vec<_> = connections
        .into_iter()
        .filter_map(|connection| match connection {
            Connection::Http1(http1) => Some(http1),
            Connection::Http2(_) | Connection::Fresh(_) => None,
        })
        .collect();
    ensure!(!connections.is_empty(), "the open loop speaks HTTP/1.1 only");
    let begin = Instant::now();
    let latencies = open::run(connections, rate, Duration::from_secs_f64(seconds)).await?;
    let latency_us: serde_json::Map<_, _> = QUANTILES
        .into_iter()
        .map(|(name, quantile)| {
            (name.to_owned(), json!(in_us(latencies.answered.value_at_quantile(quantile))))
        })
        .collect();
    Ok(json!({
        "requests": latencies.answered.len(),
        "seconds": begin.elapsed().as_secs_f64(),
        "latency_us": latency_us,
        "released_late_us_p99": in_us(latencies.released_late.value_at_quantile(0.99)),
    }))
}

fn until(requests: Option<u64>, seconds: f64) -> Until {
    match requests {
        Some(count) => Until::Requests(count),
        None => Until::Moment(Instant::now() + Duration::from_secs_f64(seconds)),
    }
}

fn in_us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}
