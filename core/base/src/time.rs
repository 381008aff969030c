//! Moments as plain numbers.
//!
//! [`Instant`] counts nanoseconds since the driver started (a process, or a simulated world);
//! [`WallTime`] counts nanoseconds since 1970-01-01 UTC. Neither can be read here: a moment is
//! always an argument.

use std::cell::Cell;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::text::two_digits;

/// Nanoseconds since the driver started. Monotonic; good for 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    pub const ZERO: Instant = Instant(0);

    /// The time that passed since `earlier`, or zero where `earlier` is in the future.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(rhs)))
    }
}

/// Seconds with microseconds, as transcripts print it: `12.000350s`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(f, "{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

impl Add<Duration> for WallTime {
    type Output = WallTime;
    fn add(self, rhs: Duration) -> WallTime {
        WallTime(self.0.saturating_add(nanos(rhs)))
    }
}

/// The parts of a [`WallTime`] in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub millis: u16,
}

impl WallTime {
    /// The proleptic Gregorian date and time of day in UTC.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    pub fn civil(self) -> Civil {
        let seconds = self.0 / 1_000_000_000;
        let days = seconds / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let in_day = seconds % 86_400;
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (in_day / 3_600) as u8,
            minute: (in_day / 60 % 60) as u8,
            second: (in_day % 60) as u8,
            millis: (self.0 / 1_000_000 % 1_000) as u16,
        }
    }
}

/// Writes times as logs have them: UTC, RFC 3339, with milliseconds. Most are of the same second as the one before, which
/// is not worked out again.
#[derive(Debug)]
pub struct Times(Cell<Second>);

/// A second since 1970, and how it is written, up to the point.
#[derive(Clone, Copy, Debug)]
struct Second {
    at: u64,
    text: [u8; 20],
}

impl Default for Times {
    fn default() -> Self {
        // No time is as late.
        Times(Cell::new(Second { at: u64::MAX, text: [0; 20] }))
    }
}

impl Times {
    /// Appends a time: `1994-11-06T08:49:37.000Z`.
    #[inline]
    pub fn write(&self, time: WallTime, out: &mut Vec<u8>) {
        let at = time.0 / 1_000_000_000;
        let mut second = self.0.get();
        if second.at != at {
            second = Second { at, text: up_to_second(time) };
            self.0.set(second);
        }
        let millis = (time.0 / 1_000_000 % 1_000) as u16;
        let [tens, ones] = two_digits((millis % 100) as u8);
        let mut whole = [b'Z'; 24];
        // At once: one piece after another costs several times as much.
        whole[..20].copy_from_slice(&second.text);
        whole[20..23].copy_from_slice(&[b'0' + (millis / 100) as u8, tens, ones]);
        out.extend_from_slice(&whole);
    }
}

#[cold]
fn up_to_second(time: WallTime) -> [u8; 20] {
    let c = time.civil();
    let [y0, y1] = two_digits((c.year / 100 % 100) as u8);
    let [y2, y3] = two_digits((c.year % 100) as u8);
    let [[mo0, mo1], [d0, d1]] = [two_digits(c.month), two_digits(c.day)];
    let [[h0, h1], [mi0, mi1], [s0, s1]] = [c.hour, c.minute, c.second].map(two_digits);
    [y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1, b'T', h0, h1, b':', mi0, mi1, b':', s0, s1, b'.']
}

impl WallTime {
    /// The form of HTTP's `Date` (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http_date(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        // 1970-01-01 was a Thursday.
        let weekday = DAYS[(self.0 / 86_400_000_000_000 % 7) as usize];
        let c = self.civil();
        let month = MONTHS[usize::from(c.month - 1)];
        format!(
            "{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT",
            c.day, c.year, c.hour, c.minute, c.second
        )
    }
}

/// RFC 3339 with milliseconds: `2026-11-21T05:43:42.000Z`, the form of `%START_TIME%`.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.millis
        )
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_known_dates() {
        fn check(seconds: u64, expected: &str) {
            assert_eq!(WallTime(seconds * 1_000_000_000).to_string(), expected);
        }
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn times_in_logs_are_those_of_dates() {
        let mut chance = crate::Chance::new(5);
        let times = Times::default();
        let mut at = WallTime(0);
        for _ in 0..20_000 {
            // Mostly a little later, sometimes anywhere up to the year 2500.
            at = match chance.below(8) {
                0 => WallTime(chance.below(16_725_225_600) * 1_000_000_000 + chance.below(1_000_000_000)),
                _ => at + Duration::from_micros(chance.below(400_000)),
            };
            let mut out = Vec::new();
            times.write(at, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), at.to_string());
        }
    }

    #[test]
    fn wall_time_prints_as_http_dates() {
        let example = WallTime(784_111_777 * 1_000_000_000);
        assert_eq!(example.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(WallTime(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        assert_eq!(Instant(5) - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant(5) + Duration::MAX, Instant(u64::MAX));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
    }
}
