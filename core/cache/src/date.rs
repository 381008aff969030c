//! Dates of HTTP (RFC 9110, section 5.6.7), as seconds since 1970.

use naru_base::WallTime;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const LONG_DAYS: [&[u8]; 7] =
    [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];

/// Any of the three forms. One with two digits for its year is of the century that is no more than 50 years ahead.
pub fn parse(value: &[u8], now: WallTime) -> Option<u64> {
    match value.get(3)? {
        b',' => imf_fixdate(value),
        b' ' => asctime(value),
        _ => rfc850(value, now),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<u64> {
    let [d0, d1, d2, b',', b' ', date @ .., b' ', b'G', b'M', b'T'] = value else { return None };
    is_day(&[*d0, *d1, *d2])?;
    let [a, b, b' ', m0, m1, m2, b' ', y @ .., b' ', h0, h1, b':', i0, i1, b':', s0, s1] = date else {
        return None;
    };
    let year: &[u8; 4] = y.try_into().ok()?;
    let day = digits(&[*a, *b])?;
    at(digits(year)?, month(&[*m0, *m1, *m2])?, day, [&[*h0, *h1], &[*i0, *i1], &[*s0, *s1]])
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8], now: WallTime) -> Option<u64> {
    let comma = value.iter().position(|byte| *byte == b',')?;
    let (name, rest) = value.split_at_checked(comma)?;
    LONG_DAYS.contains(&name).then_some(())?;
    let [
        b',',
        b' ',
        a,
        b,
        b'-',
        m0,
        m1,
        m2,
        b'-',
        y0,
        y1,
        b' ',
        h0,
        h1,
        b':',
        i0,
        i1,
        b':',
        s0,
        s1,
        b' ',
        b'G',
        b'M',
        b'T',
    ] = rest
    else {
        return None;
    };
    let this_year = now.civil().year;
    let mut year = this_year - this_year % 100 + digits(&[*y0, *y1])?;
    if year > this_year + 50 {
        year -= 100;
    }
    let day = digits(&[*a, *b])?;
    at(year, month(&[*m0, *m1, *m2])?, day, [&[*h0, *h1], &[*i0, *i1], &[*s0, *s1]])
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<u64> {
    let [d0, d1, d2, b' ', m0, m1, m2, b' ', a, b, b' ', h0, h1, b':', i0, i1, b':', s0, s1, b' ', year @ ..] =
        value
    else {
        return None;
    };
    is_day(&[*d0, *d1, *d2])?;
    let year: &[u8; 4] = year.try_into().ok()?;
    let day = if *a == b' ' { digits(&[*b])? } else { digits(&[*a, *b])? };
    at(digits(year)?, month(&[*m0, *m1, *m2])?, day, [&[*h0, *h1], &[*i0, *i1], &[*s0, *s1]])
}

fn is_day(name: &[u8; 3]) -> Option<()> {
    DAYS.contains(&name).then_some(())
}

fn month(name: &[u8; 3]) -> Option<u64> {
    MONTHS.iter().position(|known| *known == name).map(|at| at as u64 + 1)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().all(u8::is_ascii_digit).then_some(())?;
    Some(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Of a time of day with a leap second, the second before it.
fn at(year: u64, month: u64, day: u64, time: [&[u8]; 3]) -> Option<u64> {
    let [hour, minute, second] = time;
    let (hour, minute, second) = (digits(hour)?, digits(minute)?, digits(second)?);
    let is_valid = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60 && year >= 1;
    is_valid.then_some(())?;
    let days = days_from_civil(year, month, day)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second.min(59))
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`. What was before 1970 is
/// its first day: nothing is kept for so long that it would matter.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era).saturating_sub(719_468))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_700_000_000 * 1_000_000_000);

    #[test]
    fn the_three_forms_are_the_same_moment() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes(), NOW), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        for seconds in (0..4_200_000_000u64).step_by(97_777_777) {
            let text = WallTime(seconds * 1_000_000_000).http_date();
            assert_eq!(parse(text.as_bytes(), NOW), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "0",
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text}");
        }
    }
}
