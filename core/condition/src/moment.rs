//! Moments and spans of time: how are they written, what comes of them, and what are their parts?
//!
//! Moments are those of protobuf, from the year 1 to the year 9999; spans are no longer than ten thousand years. Whatever
//! would be beyond is a failure. A zone is an offset (`+09:00`) or `UTC`: names of places would need a database that
//! changes.
//!
//! Source: the CEL specification, "Abstract Types"; RFC 3339, section 5.6; Howard Hinnant, "chrono-Compatible Low-Level
//! Date Algorithms".

use crate::evaluate::Fail;

pub(crate) const SECOND: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z.
const FIRST: i128 = -62_135_596_800 * SECOND;
/// 9999-12-31T23:59:59.999999999Z.
const LAST: i128 = 253_402_300_800 * SECOND - 1;
const SPAN_MAX: i128 = 315_576_000_000 * SECOND;

/// Nanoseconds since 1970.
pub(crate) fn moment(nanos: i128) -> Result<i128, Fail> {
    if (FIRST..=LAST).contains(&nanos) { Ok(nanos) } else { Err(Fail::Range) }
}

pub(crate) fn span(nanos: i128) -> Result<i128, Fail> {
    if nanos.abs() <= SPAN_MAX { Ok(nanos) } else { Err(Fail::Range) }
}

/// `2026-11-22T09:30:00.5+09:00`.
pub(crate) fn read_moment(text: &str) -> Result<i128, Fail> {
    moment(date_time(text).ok_or(Fail::Range)?)
}

fn date_time(text: &str) -> Option<i128> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_of(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, zone) = rest.split_at_checked(end)?;
            (nanos_of(digits).filter(|_| end > 0)?, zone)
        }
        None => (0, rest),
    };
    let offset = match zone {
        "Z" | "z" => 0,
        _ => offset(zone).filter(|_| zone.starts_with(['+', '-']))?,
    };
    let seconds = i128::from(days_from_civil(year, month, day)) * 86_400
        + i128::from(hour * 3_600 + minute * 60 + second)
        - i128::from(offset);
    Some(seconds * SECOND + fraction)
}

/// Numbers of so many digits, with a letter between them.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut read = [0; 3];
    for (number, digits) in read.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

/// Of the digits behind a point. What is less than a nanosecond is left away.
fn nanos_of(digits: &str) -> Option<i128> {
    let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    nanos
        .map(|digit| char::from(digit).to_digit(10))
        .try_fold(0, |all, digit| Some(all * 10 + i128::from(digit?)))
}

/// `+09:00`, `-03:30`, `02:00` or `UTC`, in seconds.
pub(crate) fn offset(zone: &str) -> Option<i64> {
    if zone == "UTC" {
        return Some(0);
    }
    let (sign, clock) = match zone.strip_prefix('-') {
        Some(clock) => (-1, clock),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = clock.split_once(':')?;
    let number = |text: &str, max: i64| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_number && *number <= max)
    };
    Some(sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
}

/// `1h30m`, `-1.5s`, `250ms`; `0`.
pub(crate) fn read_span(text: &str) -> Result<i128, Fail> {
    span(units(text).ok_or(Fail::Range)?)
}

fn units(text: &str) -> Option<i128> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut all: i128 = 0;
    while !rest.is_empty() {
        let whole_end = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at_checked(whole_end)?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at_checked(after.bytes().take_while(u8::is_ascii_digit).count())?,
            None => ("", after),
        };
        // More digits than these are beyond any span that there may be.
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 24 {
            return None;
        }
        let unit_end = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(unit_end)?;
        let unit = match unit {
            "h" => 3_600 * SECOND,
            "m" => 60 * SECOND,
            "s" => SECOND,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? };
        let part = nanos_of(fraction)? * unit / SECOND;
        all = all.checked_add(whole.checked_mul(unit)?.checked_add(part)?)?;
        rest = after;
    }
    (!text.is_empty() && !text.ends_with(['+', '-'])).then_some(if is_negative { -all } else { all })
}

/// As RFC 3339 has it.
pub(crate) fn write_moment(nanos: i128) -> String {
    let at = Parts::of(nanos, 0);
    let whole = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    );
    format!("{whole}{}Z", fraction(at.nanos))
}

/// In seconds, as protobuf's JSON has it.
pub(crate) fn write_span(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.abs();
    format!("{sign}{}{}s", nanos / SECOND, fraction(nanos % SECOND))
}

fn fraction(nanos: i128) -> String {
    if nanos == 0 {
        return String::new();
    }
    let digits = format!("{nanos:09}");
    format!(".{}", digits.trim_end_matches('0'))
}

/// What a moment or a span is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    pub fn named(name: &str) -> Option<Part> {
        Some(match name {
            "getFullYear" => Part::FullYear,
            "getMonth" => Part::Month,
            "getDate" => Part::Date,
            "getDayOfMonth" => Part::DayOfMonth,
            "getDayOfWeek" => Part::DayOfWeek,
            "getDayOfYear" => Part::DayOfYear,
            "getHours" => Part::Hours,
            "getMinutes" => Part::Minutes,
            "getSeconds" => Part::Seconds,
            "getMilliseconds" => Part::Milliseconds,
            _ => return None,
        })
    }

    /// Of a moment, where clocks are ahead of UTC by so many seconds.
    pub fn of_moment(self, nanos: i128, offset: i64) -> i64 {
        let at = Parts::of(nanos, offset);
        match self {
            Part::FullYear => at.year,
            Part::Month => at.month - 1,
            Part::Date => at.day,
            Part::DayOfMonth => at.day - 1,
            // 1970 began on a Thursday.
            Part::DayOfWeek => (at.days + 4).rem_euclid(7),
            Part::DayOfYear => at.days - days_from_civil(at.year, 1, 1),
            Part::Hours => at.hour,
            Part::Minutes => at.minute,
            Part::Seconds => at.second,
            Part::Milliseconds => i64::try_from(at.nanos / 1_000_000).unwrap_or(0),
        }
    }

    /// Of a span: all of its hours, minutes or seconds; its milliseconds beside whole seconds.
    pub fn of_span(self, nanos: i128) -> Option<i64> {
        let whole = match self {
            Part::Hours => nanos / (3_600 * SECOND),
            Part::Minutes => nanos / (60 * SECOND),
            Part::Seconds => nanos / SECOND,
            Part::Milliseconds => nanos / 1_000_000 % 1_000,
            _ => return None,
        };
        i64::try_from(whole).ok()
    }
}

struct Parts {
    /// Since 1970.
    days: i64,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i128,
}

impl Parts {
    fn of(nanos: i128, offset: i64) -> Parts {
        let seconds = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or(0).saturating_add(offset);
        let (days, in_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Parts {
            days,
            year,
            month,
            day,
            hour: in_day / 3_600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            nanos: nanos.rem_euclid(SECOND),
        }
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_of_ten_thousand_years_is_itself_again() {
        let mut expected = (1, 1, 1);
        for days in -719_162..=2_932_896 {
            let found = civil_from_days(days);
            assert_eq!(found, expected);
            assert_eq!(days_from_civil(found.0, found.1, found.2), days);
            let (year, month, day) = found;
            expected = match (month, day == days_of(year, month)) {
                (_, false) => (year, month, day + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    #[test]
    fn what_is_written_is_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T09:30:00+09:00", 1_795_307_400),
            ("2000-02-29T23:59:59-01:00", 951_872_399),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(read_moment(text), Ok(seconds * SECOND), "{text}");
        }
        for nanos in [FIRST, -1, 0, 1, 500_000_000, LAST] {
            assert_eq!(read_moment(&write_moment(nanos)), Ok(nanos), "{}", write_moment(nanos));
        }
        for nanos in [-SPAN_MAX, -1, 0, 1, 90 * 60 * SECOND, SPAN_MAX] {
            assert_eq!(read_span(&write_span(nanos)), Ok(nanos), "{}", write_span(nanos));
        }
        assert_eq!(read_span("1h30m0.5s"), Ok(5_400 * SECOND + SECOND / 2));
        assert_eq!(read_span("-.5ms"), Ok(-500_000));
        assert_eq!(write_span(-1_500_000_000), "-1.5s");
        assert_eq!(write_moment(1), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "T",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+9:00",
            "2026-01-01T00:00:00UTC",
            "26-01-01T00:00:00Z",
            "2026-01-01T00:00:00é",
            "2026-01-01T00:00:0é",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(read_moment(text), Err(Fail::Range), "{text}");
        }
        for text in [
            "",
            "-",
            "+",
            "1",
            "s",
            ".s",
            "1x",
            "1 s",
            "1s-1s",
            "9999999999999999999999999s",
            "315576000001s",
            "1é",
        ] {
            assert_eq!(read_span(text), Err(Fail::Range), "{text}");
        }
        assert_eq!([offset("UTC"), offset("-03:30"), offset("02:00")], [Some(0), Some(-12_600), Some(7_200)]);
        for zone in ["", "Z", "Asia/Seoul", "+2:00", "+24:00", "+02:60", "++1:00"] {
            assert_eq!(offset(zone), None, "{zone}");
        }
    }
}
