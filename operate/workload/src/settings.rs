//! What can be said of a workload on its command line.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::StatusCode;
use naru_base::Chance;

#[derive(Args, Clone, Debug)]
pub struct WorkloadArgs {
    /// What it calls itself
    #[arg(long, default_value = "workload")]
    pub name: String,
    /// Its version, beside the name in every answer
    #[arg(long, default_value = "")]
    pub version: String,
    /// Where it listens [default: the environment's PORT, else 8080]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub address: IpAddr,
    /// How long an answer takes: 20ms, 10ms..50ms, or p50=10ms,p99=200ms
    #[arg(long, default_value = "0ms", value_name = "TIME")]
    pub latency: Latency,
    /// The share of answers that fail, and how: 5%, 5%:500
    #[arg(long, default_value = "0%", value_name = "SHARE")]
    pub errors: Errors,
    /// The status of all other answers
    #[arg(long, default_value = "200", value_parser = parse_status)]
    pub status: StatusCode,
    /// The body of answers, or @FILE; JSON with what was asked where nothing is said
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// A header of answers: 'name: value'
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// An answer for one path: /path=404:body
    #[arg(long = "on", value_name = "PATH=STATUS:BODY")]
    pub on: Vec<OnPath>,
    /// A URL that is called for every request
    #[arg(long = "call", value_name = "URL")]
    pub calls: Vec<http::Uri>,
    /// A gRPC method that is called for every request: host:port/package.Service/Method
    #[arg(long = "call-grpc", value_name = "METHOD")]
    pub grpc_calls: Vec<String>,
    /// Answer 502 where a call fails
    #[arg(long)]
    pub strict: bool,
    /// How long a call may take
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub call_timeout: Length,
    /// A header of the request that goes on with calls, beside those that trace and identify
    #[arg(long = "forward-header", value_name = "NAME")]
    pub forward_headers: Vec<http::HeaderName>,
    /// Not ready before: /healthz answers 503
    #[arg(long, value_name = "TIME")]
    pub start_after: Option<Length>,
    /// Exits by itself
    #[arg(long, value_name = "TIME")]
    pub exit_after: Option<Length>,
    /// With this code
    #[arg(long, default_value_t = 1, value_name = "CODE")]
    pub exit_code: i32,
    /// Where chance comes from
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// A line for every request
    #[arg(long)]
    pub log: bool,
}

impl WorkloadArgs {
    /// # Errors
    /// The environment's PORT is no port.
    pub fn port(&self) -> anyhow::Result<u16> {
        match (self.port, std::env::var("PORT")) {
            (Some(port), _) => Ok(port),
            (None, Ok(text)) => text.parse().with_context(|| format!("PORT is '{text}', which is no port")),
            (None, Err(_)) => Ok(8_080),
        }
    }

    pub fn full_name(&self) -> String {
        if self.version.is_empty() { self.name.clone() } else { format!("{} {}", self.name, self.version) }
    }
}

fn parse_status(text: &str) -> Result<StatusCode, String> {
    text.parse().map_err(|_| format!("'{text}' is not a status"))
}

/// A length of time: `20ms`, `1.5s`, `100us`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        let wrong = || format!("'{text}' is not a length of time: write 20ms, 1.5s, 100us, 2m");
        let end = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let scale = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            _ => return Err(wrong()),
        };
        Duration::try_from_secs_f64(number * scale).map(Length).map_err(|_| wrong())
    }
}

/// How long answers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    Fixed(Duration),
    Between(Duration, Duration),
    /// Half of them up to the first, one in a hundred over the second; logarithms between.
    Quantiles {
        p50: Duration,
        p99: Duration,
    },
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Latency, String> {
        let length = |text: &str| Length::from_str(text.trim()).map(|length| length.0);
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (length(low)?, length(high)?);
            return if low <= high {
                Ok(Latency::Between(low, high))
            } else {
                Err(format!("'{text}' goes from the longer to the shorter"))
            };
        }
        if let Some((p50, p99)) = text.split_once(',') {
            let value = |part: &str, name: &str| {
                let value = part.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
                length(value.ok_or_else(|| format!("'{text}' is no latency: write p50=10ms,p99=200ms"))?)
            };
            let (p50, p99) = (value(p50, "p50")?, value(p99, "p99")?);
            return if p50 <= p99 && !p50.is_zero() {
                Ok(Latency::Quantiles { p50, p99 })
            } else {
                Err(format!("'{text}': p50 is above zero and not above p99"))
            };
        }
        length(text).map(Latency::Fixed)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::Fixed(length) => write!(f, "{length:?}"),
            Latency::Between(low, high) => write!(f, "{low:?}..{high:?}"),
            Latency::Quantiles { p50, p99 } => write!(f, "p50={p50:?},p99={p99:?}"),
        }
    }
}

impl Latency {
    pub fn draw(self, chance: &mut Chance) -> Duration {
        match self {
            Latency::Fixed(length) => length,
            Latency::Between(low, high) => low + (high - low).mul_f64(unit(chance)),
            Latency::Quantiles { p50, p99 } => {
                // A lognormal distribution; 2.3263 standard deviations are the last hundredth.
                let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / 2.326_347_9;
                let radius = (-2.0 * unit(chance).max(1e-12).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * unit(chance)).cos();
                Duration::try_from_secs_f64(p50.as_secs_f64() * (sigma * normal).exp()).unwrap_or(p99)
            }
        }
    }
}

/// At least 0, below 1.
fn unit(chance: &mut Chance) -> f64 {
    (chance.draw() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Which share of answers fails, and with which status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    pub share: f64,
    pub status: StatusCode,
}

impl FromStr for Errors {
    type Err = String;

    fn from_str(text: &str) -> Result<Errors, String> {
        let (share, status) = text.split_once(':').unwrap_or((text, "503"));
        let number = share.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let share = number.filter(|share| (0.0..=100.0).contains(share));
        let share = share.ok_or_else(|| format!("'{text}' is no share: write 5%, or 5%:500"))?;
        Ok(Errors { share: share / 100.0, status: parse_status(status.trim())? })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%:{}", self.share * 100.0, self.status.as_u16())
    }
}

impl Errors {
    pub fn strikes(self, chance: &mut Chance) -> bool {
        self.share > 0.0 && unit(chance) < self.share
    }
}

/// The answer for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnPath {
    pub path: String,
    pub status: StatusCode,
    pub body: String,
}

impl FromStr for OnPath {
    type Err = String;

    fn from_str(text: &str) -> Result<OnPath, String> {
        let wrong = || format!("'{text}' is no answer for a path: write /path=404:body");
        let (path, answer) =
            text.split_once('=').filter(|(path, _)| path.starts_with('/')).ok_or_else(wrong)?;
        let (status, body) = answer.split_once(':').unwrap_or((answer, ""));
        Ok(OnPath { path: path.to_owned(), status: parse_status(status)?, body: body.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn latencies_are_read_in_three_forms() {
        let check = |text: &str, expected: Option<Latency>| {
            assert_eq!(text.parse::<Latency>().ok(), expected, "{text}");
        };
        check("20ms", Some(Latency::Fixed(ms(20))));
        check("1.5s", Some(Latency::Fixed(ms(1_500))));
        check("10ms..50ms", Some(Latency::Between(ms(10), ms(50))));
        check("p50=10ms,p99=200ms", Some(Latency::Quantiles { p50: ms(10), p99: ms(200) }));
        for wrong in
            ["", "20", "ms", "-1ms", "50ms..10ms", "p50=0ms,p99=1s", "p50=2s,p99=1s", "1h", "p99=1s,p50=1s"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn shares_are_read_with_their_status() {
        let check = |text: &str, expected: Option<(f64, u16)>| {
            let found = text.parse::<Errors>().ok().map(|errors| (errors.share, errors.status.as_u16()));
            assert_eq!(found, expected, "{text}");
        };
        check("5%", Some((0.05, 503)));
        check("100%:500", Some((1.0, 500)));
        check("0.5%", Some((0.005, 503)));
        for wrong in ["5", "101%", "-1%", "5%:99999", "x%"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_drawn_is_what_was_asked_for() {
        let mut chance = Chance::new(7);
        let latency: Latency = "p50=10ms,p99=100ms".parse().unwrap();
        let mut drawn: Vec<Duration> = (0..20_000).map(|_| latency.draw(&mut chance)).collect();
        drawn.sort_unstable();
        let near = |found: Duration, expected: Duration| {
            (0.9..1.1).contains(&(found.as_secs_f64() / expected.as_secs_f64()))
        };
        assert!(near(drawn[10_000], ms(10)), "{:?}", drawn[10_000]);
        assert!((0.8..1.25).contains(&(drawn[19_800].as_secs_f64() / 0.1)), "{:?}", drawn[19_800]);
        let errors: Errors = "5%".parse().unwrap();
        let struck = (0..20_000).filter(|_| errors.strikes(&mut chance)).count();
        assert!((850..1_150).contains(&struck), "{struck}");
        assert!((0..1_000).all(|_| !"0%".parse::<Errors>().unwrap().strikes(&mut chance)));
        assert!((0..1_000).all(|_| "100%".parse::<Errors>().unwrap().strikes(&mut chance)));
    }
}
