//! One range of bytes (RFC 9110, section 14.2). Who asks for several is given all.

use crate::conditional::Given;
use crate::list::trim;

/// The end is the first byte that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub end: u64,
}

pub fn part_of(range: &[u8], length: u64) -> Given {
    match read(range) {
        None => Given::Whole,
        Some(Asked::Last(0)) => Given::NoPart,
        Some(Asked::Last(_)) if length == 0 => Given::NoPart,
        Some(Asked::Last(last)) => Given::Part(Part { start: length.saturating_sub(last), end: length }),
        Some(Asked::From(start, _)) if start >= length => Given::NoPart,
        Some(Asked::From(start, end)) => {
            let end = end.map_or(length, |end| end.saturating_add(1).min(length));
            Given::Part(Part { start, end })
        }
    }
}

enum Asked {
    From(u64, Option<u64>),
    Last(u64),
}

fn read(range: &[u8]) -> Option<Asked> {
    let at = range.iter().position(|byte| *byte == b'=')?;
    let (unit, rest) = range.split_at_checked(at)?;
    let rest = trim(rest.get(1..)?);
    if !unit.eq_ignore_ascii_case(b"bytes") || rest.contains(&b',') {
        return None;
    }
    let dash = rest.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (number(rest.get(..dash)?), number(rest.get(dash + 1..)?));
    match (first?, last?) {
        (None, None) => None,
        (None, Some(last)) => Some(Asked::Last(last)),
        (Some(first), Some(last)) if last < first => None,
        (Some(first), last) => Some(Asked::From(first, last)),
    }
}

/// `Some(None)` where nothing is written.
fn number(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    if text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Some(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let check = |range: &str, start, end| {
            assert_eq!(part_of(range.as_bytes(), 10), Given::Part(Part { start, end }), "{range}");
        };
        check("bytes=0-0", 0, 1);
        check("bytes=2-", 2, 10);
        check("bytes=2-100", 2, 10);
        check("bytes=-3", 7, 10);
        check("bytes=-100", 0, 10);
        check("Bytes= 1-2 ", 1, 3);
    }

    #[test]
    fn what_is_no_range_asks_for_all() {
        for range in
            ["", "bytes", "bytes=", "bytes=-", "bytes=3-2", "lines=0-1", "bytes=0-1,3-4", "bytes=a-b"]
        {
            assert_eq!(part_of(range.as_bytes(), 10), Given::Whole, "{range}");
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(part_of(range.as_bytes(), 10), Given::NoPart, "{range}");
        }
        assert_eq!(part_of(b"bytes=-1", 0), Given::NoPart);
    }
}
