//! Which parts of a content does a client want? RFC 9110, section 14.

use naru_spec::defaults::FILES_PARTS_MAX;

/// The end is the first byte that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is no range that is known, or more than is given in parts: all of it.
    Whole,
    Parts(Vec<Range>),
    /// Nothing of what it asks for is there: 416.
    Nothing,
}

/// `said` is the value of `Range`. As nginx does, a client that asks for more bytes in parts than there are is given all.
pub fn parts(said: &[u8], length: u64) -> Asked {
    let Some(parts) = read(said, length) else { return Asked::Whole };
    let sum = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.end - part.start));
    match parts.len() {
        0 => Asked::Nothing,
        count if count > FILES_PARTS_MAX || (count > 1 && sum > length) => Asked::Whole,
        _ => Asked::Parts(parts),
    }
}

/// Those of the parts that are there. `None` where it cannot be read: then the field is as if it were not there.
fn read(said: &[u8], length: u64) -> Option<Vec<Range>> {
    let said = std::str::from_utf8(said).ok()?;
    let (unit, list) = said.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut found = Vec::new();
    let mut is_any = false;
    for member in list.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        is_any = true;
        let (first, last) = member.split_once('-')?;
        let range = match (number(first)?, number(last)?) {
            (None, None) => return None,
            (None, Some(last)) => Range { start: length.saturating_sub(last), end: length },
            (Some(first), Some(last)) if last < first => return None,
            (Some(first), last) => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                Range { start: first, end }
            }
        };
        if range.start < range.end {
            found.push(range);
        }
        if found.len() > FILES_PARTS_MAX {
            break;
        }
    }
    is_any.then_some(found)
}

/// `Some(None)` where nothing is written. What is larger than can be said is behind all ends.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_to_what_is_there() {
        let check = |said: &str, expected: &[(u64, u64)]| {
            let expected = expected.iter().map(|(start, end)| Range { start: *start, end: *end });
            assert_eq!(parts(said.as_bytes(), 10), Asked::Parts(expected.collect()), "{said}");
        };
        check("bytes=0-0", &[(0, 1)]);
        check("bytes=2-", &[(2, 10)]);
        check("bytes=2-100", &[(2, 10)]);
        check("bytes=-3", &[(7, 10)]);
        check("bytes=-100", &[(0, 10)]);
        check("Bytes = 1-2 ", &[(1, 3)]);
        check("bytes=0-1,4-5", &[(0, 2), (4, 6)]);
        check("bytes=0-1, ,10-,8-9", &[(0, 2), (8, 10)]);
        check("bytes=-1,0-0", &[(9, 10), (0, 1)]);
        check("bytes=0-99999999999999999999999", &[(0, 10)]);
    }

    #[test]
    fn what_is_no_range_asks_for_all() {
        for said in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=3-2",
            "lines=0-1",
            "bytes=a-b",
            "bytes=0-1,x",
            "bytes=1",
        ] {
            assert_eq!(parts(said.as_bytes(), 10), Asked::Whole, "{said}");
        }
        let many: Vec<String> = (0..17).map(|at| format!("{at}-{at}")).collect();
        assert_eq!(parts(format!("bytes={}", many.join(",")).as_bytes(), 100), Asked::Whole);
        assert_eq!(parts(b"bytes=0-8,0-8", 10), Asked::Whole);
        assert_eq!(parts(&[b'b', 0xff], 10), Asked::Whole);
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        for said in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,-0"] {
            assert_eq!(parts(said.as_bytes(), 10), Asked::Nothing, "{said}");
        }
        assert_eq!(parts(b"bytes=-1", 0), Asked::Nothing);
        assert_eq!(parts(b"bytes=0-", 0), Asked::Nothing);
    }
}
