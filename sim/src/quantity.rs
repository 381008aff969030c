//! Times, rates and shares as people write them, read into whole numbers.

use std::time::Duration;

use naru_base::chance::within;
use naru_spec::Invalid;
use serde::Deserialize;

const SECOND: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

/// A length of time: `250ms`, `1.5s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A shorter interval would let a simulation stand still.
const INTERVAL_MIN: Duration = Duration::from_micros(1);

/// How often something happens: `50/s`, `90/m`, `0.5/s`. Above zero, and at most a million a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// Thousandths.
    count: u64,
    /// Nanoseconds.
    per: u64,
}

/// A part of all: `1%`, `0.05%`. In millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Share(u32);

/// How many times as much: `3x`, `0.5x`. In thousandths, above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Factor(u32);

/// A factor above this is a slip of the pen.
const FACTOR_MAX: u64 = 1_000_000;

impl TryFrom<String> for Span {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Span, Invalid> {
        let invalid = || {
            Invalid::new(format!("'{text}' is no length of time, which looks like '250ms', '1.5s' or '2m'"))
        };
        if text == "0" {
            return Ok(Span::default());
        }
        let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(unit_at);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        scaled(number, *nanos).map(|nanos| Span(Duration::from_nanos(nanos))).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Rate {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Rate, Invalid> {
        let invalid =
            || Invalid::new(format!("'{text}' is no rate, which looks like '50/s', '90/m' or '1000/h'"));
        let (number, unit) = text.split_once('/').ok_or_else(invalid)?;
        let (_, per) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let count = scaled(number, 1_000).ok_or_else(invalid)?;
        if count == 0 {
            return Err(Invalid::new(format!("the rate '{text}' is zero")));
        }
        let rate = Rate { count, per: *per };
        if rate.interval() < INTERVAL_MIN {
            return Err(Invalid::new(format!("the rate '{text}' is above a million a second")));
        }
        Ok(rate)
    }
}

impl TryFrom<String> for Share {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Share, Invalid> {
        let millionths = text.strip_suffix('%').and_then(|number| scaled(number, 10_000));
        match millionths.map(u32::try_from) {
            Some(Ok(millionths @ 0..=1_000_000)) => Ok(Share(millionths)),
            _ => Err(Invalid::new(format!(
                "'{text}' is no share, which looks like '1%' and is at most '100%'"
            ))),
        }
    }
}

impl TryFrom<String> for Factor {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Factor, Invalid> {
        match text.strip_suffix('x').and_then(|number| scaled(number, 1_000)) {
            Some(thousandths @ 1..=FACTOR_MAX) => Ok(Factor(thousandths as u32)),
            _ => Err(Invalid::new(format!(
                "'{text}' is no factor, which looks like '3x' or '0.5x' and is at most '1000x'"
            ))),
        }
    }
}

/// A decimal number times `unit`, exactly; digits below one are dropped.
pub fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u128 = part.parse::<u128>().ok()? * u128::from(unit) / 10_u128.pow(part.len() as u32);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

impl Rate {
    /// From one to the next, if they came evenly; rounded down to nanoseconds.
    pub fn interval(self) -> Duration {
        self.after(1)
    }

    /// How long `count` of them take, if they came evenly.
    pub fn after(self, count: u64) -> Duration {
        let nanos = u128::from(count) * u128::from(self.per) * 1_000 / u128::from(self.count);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Thousandths in an hour, for comparing one rate with another.
    pub fn hourly(self) -> u64 {
        let hourly = u128::from(self.count) * u128::from(3_600 * SECOND) / u128::from(self.per);
        u64::try_from(hourly).unwrap_or(u64::MAX)
    }
}

impl Factor {
    pub const ONE: Factor = Factor(1_000);

    pub fn of(self, duration: Duration) -> Duration {
        let nanos = duration.as_nanos() * u128::from(self.0) / 1_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// On the way from this factor to one, `part / whole` of which is done.
    pub fn fading(self, part: u64, whole: u64) -> Factor {
        let (part, whole) = (i128::from(part.min(whole)), i128::from(whole.max(1)));
        let way = i128::from(self.0) - i128::from(Factor::ONE.0);
        let now = i128::from(self.0) - way * part / whole;
        Factor(u32::try_from(now).unwrap_or(Factor::ONE.0))
    }
}

impl Share {
    pub const NONE: Share = Share(0);
    pub const ALL: Share = Share(1_000_000);

    /// At most all.
    pub const fn of_percent(percent: u32) -> Share {
        Share(if percent < 100 { percent * 10_000 } else { 1_000_000 })
    }

    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Whether a uniform draw falls into this share.
    pub fn takes(self, draw: u64) -> bool {
        within(draw, 1_000_000) < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_exactly() {
        fn check(text: &str, nanos: Option<u64>) {
            let read = Span::try_from(text.to_owned()).ok().map(|span| span.0);
            assert_eq!(read, nanos.map(Duration::from_nanos), "{text}");
        }
        check("250ms", Some(250_000_000));
        check("1.5s", Some(1_500_000_000));
        check("0.000000001s", Some(1));
        check("2m", Some(120_000_000_000));
        check("3us", Some(3_000));
        check("0", Some(0));
        check("5", None);
        check("", None);
        check("ms", None);
        check(".5s", None);
        check("1.s", None);
        check("1.2.3s", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("99999999999h", None);
    }

    #[test]
    fn rates_and_shares_are_whole_numbers_inside() {
        let rate = |text: &str| Rate::try_from(text.to_owned());
        assert_eq!(rate("50/s").map(Rate::interval), Ok(Duration::from_millis(20)));
        assert_eq!(rate("0.5/s").map(Rate::interval), Ok(Duration::from_secs(2)));
        assert_eq!(rate("90/m").map(|rate| rate.after(3)), Ok(Duration::from_secs(2)));
        assert_eq!(rate("1/s").map(Rate::hourly), Ok(3_600_000));
        assert!(rate("0/s").is_err());
        assert!(rate("5").is_err());
        assert!(rate("1000001/s").is_err() && rate("1000000/s").is_ok());
        let share = |text: &str| Share::try_from(text.to_owned()).map(Share::millionths);
        let factor = |text: &str| Factor::try_from(text.to_owned()).map(|factor| factor.of(SECONDS));
        const SECONDS: Duration = Duration::from_secs(10);
        assert_eq!(factor("1.5x"), Ok(Duration::from_secs(15)));
        assert_eq!(factor("0.001x"), Ok(Duration::from_millis(10)));
        assert!(factor("0x").is_err() && factor("2").is_err() && factor("1001x").is_err());
        assert_eq!([0, 5, 10, 11].map(|part| Factor(3_000).fading(part, 10).0), [3_000, 2_000, 1_000, 1_000]);
        assert_eq!([0, 5, 10].map(|part| Factor(500).fading(part, 10).0), [500, 750, 1_000]);
        assert_eq!(share("0.05%"), Ok(500));
        assert_eq!(share("100%"), Ok(1_000_000));
        assert!(share("100.1%").is_err());
        assert!(share("1").is_err());
    }
}
