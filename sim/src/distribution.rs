//! How long something takes, when it does not always take the same.
//!
//! Distributions are written by lengths of time that people measure (a mean, a median, the 99th
//! percentile), never by a shape parameter. Every function beyond the four operations comes from
//! `libm`, which is the same software on every machine, so that equal draws give equal times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use naru_base::Chance;
use naru_base::chance::within;
use naru_spec::Invalid;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::quantity::{Share, Span};

/// Nothing that is simulated takes longer by itself: tails without an end are cut here.
pub const SAMPLE_MAX: Duration = Duration::from_secs(3_600);

/// What others than the simulator can draw, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Constant(Duration),
    Uniform { min: Duration, max: Duration },
    Lognormal { median: Duration, p99: Duration },
}

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// A length of time that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Constant(Duration),
    Uniform {
        min: Duration,
        max: Duration,
    },
    Exponential {
        mean_ns: f64,
    },
    /// The logarithm is normal.
    Lognormal {
        median_ns: f64,
        sigma: f64,
    },
    Pareto {
        min_ns: f64,
        inverse_alpha: f64,
    },
    /// What was measured: shares of all, in millionths, and what they do not exceed, in nanoseconds.
    /// Both rise, from none to all.
    Quantiles(Arc<[(u32, u64)]>),
}

impl Distribution {
    pub const fn constant(value: Duration) -> Distribution {
        Distribution(Kind::Constant(value))
    }

    /// Any time between two, both included.
    ///
    /// # Errors
    /// `max` is below `min`.
    pub fn uniform(min: Duration, max: Duration) -> Result<Distribution, Invalid> {
        if max < min {
            return Err(Invalid::new("the maximum is below the minimum"));
        }
        Ok(Distribution(Kind::Uniform { min, max }))
    }

    /// What is as likely to end now as at any time before.
    pub fn exponential(mean: Duration) -> Distribution {
        Distribution(Kind::Exponential { mean_ns: nanos(mean) })
    }

    /// # Errors
    /// The percentile is not above the median, or the median is zero.
    pub fn lognormal(median: Duration, p99: Duration) -> Result<Distribution, Invalid> {
        if median.is_zero() || p99 <= median {
            return Err(Invalid::new(
                "a lognormal distribution needs a median above zero and a p99 above the median",
            ));
        }
        let sigma = libm::log(nanos(p99) / nanos(median)) / Z99;
        Ok(Distribution(Kind::Lognormal { median_ns: nanos(median), sigma }))
    }

    /// # Errors
    /// The percentile is not above the minimum, or the minimum is zero.
    pub fn pareto(min: Duration, p99: Duration) -> Result<Distribution, Invalid> {
        if min.is_zero() || p99 <= min {
            return Err(Invalid::new(
                "a Pareto distribution needs a minimum above zero and a p99 above the minimum",
            ));
        }
        // The share that takes longer than x is (min / x) ^ alpha.
        let inverse_alpha = libm::log(nanos(p99) / nanos(min)) / libm::log(100.0);
        Ok(Distribution(Kind::Pareto { min_ns: nanos(min), inverse_alpha }))
    }

    /// What was measured: for some shares of all, what they do not exceed. Evenly between two of them.
    ///
    /// # Errors
    /// There is none for all, or times fall.
    pub fn quantiles(table: &BTreeMap<Share, Duration>) -> Result<Distribution, Invalid> {
        let rises = table.values().zip(table.values().skip(1)).all(|(one, next)| one <= next);
        let least = table.values().next().copied();
        let (Some(least), true, true) = (least, rises, table.contains_key(&Share::ALL)) else {
            return Err(Invalid::new("a table of quantiles rises, and ends with '100%'"));
        };
        let ns = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut points = vec![(0, ns(&least))];
        points.extend(table.iter().map(|(share, time)| (share.millionths(), ns(time))));
        Ok(Distribution(Kind::Quantiles(points.into())))
    }

    /// `None` where only a simulator draws it.
    pub fn shape(&self) -> Option<Shape> {
        match &self.0 {
            Kind::Constant(value) => Some(Shape::Constant(*value)),
            Kind::Uniform { min, max } => Some(Shape::Uniform { min: *min, max: *max }),
            Kind::Lognormal { median_ns, sigma } => {
                let p99_ns = median_ns * libm::exp(sigma * Z99);
                let of = |ns: f64| Duration::from_nanos(ns as u64);
                Some(Shape::Lognormal { median: of(*median_ns), p99: of(p99_ns) })
            }
            Kind::Exponential { .. } | Kind::Pareto { .. } | Kind::Quantiles(_) => None,
        }
    }

    /// At most [`SAMPLE_MAX`]. Takes as many draws each time.
    pub fn sample(&self, chance: &mut Chance) -> Duration {
        self.sample_uncut(chance).min(SAMPLE_MAX)
    }

    /// However long it is.
    pub fn sample_uncut(&self, chance: &mut Chance) -> Duration {
        let sampled = match &self.0 {
            Kind::Constant(value) => return *value,
            Kind::Quantiles(points) => return at(points, chance.draw()),
            Kind::Uniform { min, max } => {
                let width = u64::try_from((*max - *min).as_nanos()).unwrap_or(u64::MAX - 1);
                return *min + Duration::from_nanos(chance.below(width + 1));
            }
            Kind::Exponential { mean_ns } => -mean_ns * libm::log(unit(chance)),
            Kind::Lognormal { median_ns, sigma } => median_ns * libm::exp(sigma * normal(chance)),
            Kind::Pareto { min_ns, inverse_alpha } => {
                min_ns * libm::exp(-inverse_alpha * libm::log(unit(chance)))
            }
        };
        // Too large a number becomes the largest one.
        Duration::from_nanos(sampled as u64)
    }
}

/// Between the points around a uniform draw.
fn at(points: &[(u32, u64)], draw: u64) -> Duration {
    // Finer than the millionths of the table, so that none of its times comes up more often.
    const FINE: u64 = 1 << 32;
    let here = u128::from(within(draw, 1_000_000 * FINE));
    let scaled = |share: u32| u128::from(share) * u128::from(FINE);
    let next = points.partition_point(|(share, _)| scaled(*share) <= here).clamp(1, points.len() - 1);
    let ((low, from), (high, to)) = (points[next - 1], points[next]);
    let (passed, whole) = (here.saturating_sub(scaled(low)), scaled(high) - scaled(low));
    let ahead = u128::from(to - from) * passed / whole.max(1);
    Duration::from_nanos(from + u64::try_from(ahead).unwrap_or(0))
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Uniform, above 0 and up to 1.
fn unit(chance: &mut Chance) -> f64 {
    ((chance.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Standard normal (Box and Muller, 1958).
fn normal(chance: &mut Chance) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(unit(chance)));
    radius * libm::cos(std::f64::consts::TAU * unit(chance))
}

/// As written beside its kind: `{ exponential: { mean: 20ms } }`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Constant(Span),
    Uniform { min: Span, max: Span },
    Exponential { mean: Span },
    Lognormal { median: Span, p99: Span },
    Pareto { min: Span, p99: Span },
    Quantiles(BTreeMap<Share, Span>),
}

impl TryFrom<Written> for Distribution {
    type Error = Invalid;

    fn try_from(written: Written) -> Result<Distribution, Invalid> {
        match written {
            Written::Constant(value) => Ok(Distribution::constant(value.0)),
            Written::Uniform { min, max } => Distribution::uniform(min.0, max.0),
            Written::Exponential { mean } => Ok(Distribution::exponential(mean.0)),
            Written::Lognormal { median, p99 } => Distribution::lognormal(median.0, p99.0),
            Written::Pareto { min, p99 } => Distribution::pareto(min.0, p99.0),
            Written::Quantiles(table) => {
                Distribution::quantiles(&table.into_iter().map(|(share, span)| (share, span.0)).collect())
            }
        }
    }
}

/// A length of time alone is constant.
impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Distribution, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Distribution;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time, or a distribution such as '{ exponential: { mean: 20ms } }'")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Distribution, E> {
                let span = Span::deserialize(StrDeserializer::new(text))?;
                Ok(Distribution::constant(span.0))
            }

            /// Zero needs no unit.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Distribution, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Distribution, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Distribution, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                Distribution::try_from(written).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The sorted samples of a distribution, in nanoseconds.
    fn sorted(distribution: Result<Distribution, Invalid>) -> Vec<u64> {
        let distribution = distribution.expect("the parameters are valid");
        let mut chance = Chance::new(5);
        let mut samples: Vec<u64> =
            (0..100_000).map(|_| distribution.sample(&mut chance).as_nanos() as u64).collect();
        samples.sort_unstable();
        samples
    }

    fn mean(samples: &[u64]) -> u64 {
        samples.iter().sum::<u64>() / samples.len() as u64
    }

    fn check_near(actual: u64, expected: Duration, percent: u64) {
        let expected = expected.as_nanos() as u64;
        assert!(actual.abs_diff(expected) * 100 <= expected * percent, "{actual} is not near {expected}");
    }

    #[test]
    fn samples_have_the_mean_and_the_percentiles_that_were_asked_for() {
        let uniform = sorted(Distribution::uniform(10 * MS, 30 * MS));
        check_near(mean(&uniform), 20 * MS, 1);
        assert!(uniform[0] >= 10_000_000 && uniform[99_999] <= 30_000_000);
        let exponential = sorted(Ok(Distribution::exponential(20 * MS)));
        check_near(mean(&exponential), 20 * MS, 2);
        check_near(exponential[50_000], Duration::from_nanos(13_862_943), 2);
        let lognormal = sorted(Distribution::lognormal(20 * MS, 100 * MS));
        check_near(lognormal[50_000], 20 * MS, 2);
        check_near(lognormal[99_000], 100 * MS, 4);
        let pareto = sorted(Distribution::pareto(10 * MS, 100 * MS));
        check_near(pareto[99_000], 100 * MS, 6);
        assert!(pareto[0] >= 9_999_999);
    }

    #[test]
    fn equal_draws_give_equal_times_on_every_machine() {
        let mut chance = Chance::new(11);
        let mut samples = |distribution: Result<Distribution, Invalid>| {
            let distribution = distribution.expect("the parameters are valid");
            [(); 3].map(|()| distribution.sample(&mut chance).as_nanos())
        };
        let exponential = samples(Ok(Distribution::exponential(20 * MS)));
        let lognormal = samples(Distribution::lognormal(20 * MS, 100 * MS));
        let pareto = samples(Distribution::pareto(10 * MS, 100 * MS));
        assert_eq!(exponential, [3_021_506, 4_301_842, 729_050]);
        assert_eq!(lognormal, [18_948_434, 29_504_498, 31_912_029]);
        assert_eq!(pareto, [15_936_831, 12_233_044, 16_582_715]);
    }

    #[test]
    fn a_table_of_quantiles_gives_what_was_measured() {
        let table = |rows: &[(&str, u64)]| {
            let share = |text: &str| Share::try_from(text.to_owned()).unwrap();
            let table = rows.iter().map(|(text, ms)| (share(text), Duration::from_millis(*ms))).collect();
            Distribution::quantiles(&table)
        };
        let samples = sorted(table(&[("50%", 10), ("90%", 30), ("99%", 100), ("100%", 120)]));
        check_near(samples[0], 10 * MS, 1);
        check_near(samples[50_000], 10 * MS, 1);
        check_near(samples[70_000], 20 * MS, 2);
        check_near(samples[90_000], 30 * MS, 2);
        check_near(samples[99_000], 100 * MS, 5);
        assert!(samples[99_999] <= 120_000_000 && samples[99_999] > 119_000_000);
        let constant = sorted(table(&[("100%", 7)]));
        assert_eq!((constant[0], constant[99_999]), (7_000_000, 7_000_000));
        assert!(table(&[]).is_err() && table(&[("50%", 1)]).is_err());
        assert!(table(&[("50%", 2), ("100%", 1)]).is_err());
    }

    #[test]
    fn parameters_that_make_no_distribution_are_refused() {
        assert!(Distribution::uniform(2 * MS, MS).is_err());
        assert!(Distribution::lognormal(Duration::ZERO, MS).is_err());
        assert!(Distribution::lognormal(MS, MS).is_err());
        assert!(Distribution::pareto(MS, MS).is_err());
    }
}
