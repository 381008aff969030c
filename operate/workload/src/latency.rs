//! How long answers take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use naru_base::Chance;

/// A distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    Fixed(Duration),
    Between(Duration, Duration),
    /// Half of them up to the first, one in a hundred over the second: lognormal.
    Quantiles {
        p50: Duration,
        p99: Duration,
    },
}

/// One in a hundred of a normal distribution lies so many standard deviations above its middle.
const DEVIATIONS_OF_P99: f64 = 2.326_347_9;

impl Latency {
    pub fn draw(self, chance: &mut Chance) -> Duration {
        match self {
            Latency::Fixed(length) => length,
            Latency::Between(low, high) => low + (high - low).mul_f64(unit(chance)),
            Latency::Quantiles { p50, p99 } => {
                let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / DEVIATIONS_OF_P99;
                // A normal draw by Box and Muller (1958).
                let radius = (-2.0 * unit(chance).max(1e-12).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * unit(chance)).cos();
                Duration::try_from_secs_f64(p50.as_secs_f64() * (sigma * normal).exp()).unwrap_or(p99)
            }
        }
    }
}

/// At least 0, below 1.
pub fn unit(chance: &mut Chance) -> f64 {
    (chance.draw() >> 11) as f64 / (1_u64 << 53) as f64
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
                Err(format!("'{text}': p50 must be above zero and not above p99"))
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

/// A length of time: `20ms`, `1.5s`, `100us`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        let wrong = || format!("'{text}' is no length of time: write 20ms, 1.5s, 100us, 2m");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let scale = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            _ => return Err(wrong()),
        };
        Duration::try_from_secs_f64(number * scale).map(Length).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_latency_has_three_forms() {
        let check = |text: &str, expected: Option<Latency>| {
            assert_eq!(text.parse::<Latency>().ok(), expected, "{text}");
        };
        check("20ms", Some(Latency::Fixed(ms(20))));
        check("1.5s", Some(Latency::Fixed(ms(1_500))));
        check("250us", Some(Latency::Fixed(Duration::from_micros(250))));
        check("2m", Some(Latency::Fixed(ms(120_000))));
        check("0ms", Some(Latency::Fixed(ms(0))));
        check("10ms..50ms", Some(Latency::Between(ms(10), ms(50))));
        check("10ms .. 10ms", Some(Latency::Between(ms(10), ms(10))));
        check("p50=10ms,p99=200ms", Some(Latency::Quantiles { p50: ms(10), p99: ms(200) }));
        check("p50=10ms, p99=10ms", Some(Latency::Quantiles { p50: ms(10), p99: ms(10) }));
        for wrong in [
            "",
            "20",
            "ms",
            "-1ms",
            "1e3s",
            "infs",
            "NaNs",
            "1.2.3s",
            "1h",
            "50ms..10ms",
            "10ms..",
            "..",
            "p50=0ms,p99=1s",
            "p50=2s,p99=1s",
            "p99=1s,p50=1s",
            "p50=1s",
            "99999999999999999999999s",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_latency_is_said_as_it_is_read() {
        for text in ["20ms", "1.5s", "250µs", "0ns", "10ms..50ms", "p50=10ms,p99=200ms"] {
            let read = text.parse::<Latency>();
            assert_eq!(read.map(|latency| latency.to_string()).as_deref().unwrap_or("0ns"), text);
        }
    }

    #[test]
    fn drawn_latencies_have_the_quantiles_that_were_asked_for() {
        let drawn = |text: &str| {
            let (latency, mut chance) = (text.parse::<Latency>().unwrap(), Chance::new(7));
            let mut drawn: Vec<_> = (0..20_000).map(|_| latency.draw(&mut chance).as_secs_f64()).collect();
            drawn.sort_by(f64::total_cmp);
            drawn
        };
        let lognormal = drawn("p50=10ms,p99=100ms");
        assert!((0.009..0.011).contains(&lognormal[10_000]), "{}", lognormal[10_000]);
        assert!((0.085..0.115).contains(&lognormal[19_800]), "{}", lognormal[19_800]);
        let uniform = drawn("10ms..50ms");
        assert!((0.010..0.0105).contains(&uniform[0]) && (0.0495..0.050).contains(&uniform[19_999]));
        assert!((0.029..0.031).contains(&uniform[10_000]), "{}", uniform[10_000]);
        assert!(drawn("20ms").iter().all(|seconds| *seconds == 0.020));
    }
}
