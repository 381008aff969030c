//! Lists in header fields (RFC 9110, section 5.6.1), and directives in them.

/// The members of a list, trimmed; empty ones are left out. A comma inside of quotes separates nothing.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(value, b',').filter(|member| !member.is_empty())
}

/// The parts of a value, trimmed. A separator inside of quotes separates nothing.
pub fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let mut is_quoted = false;
        let mut is_escaped = false;
        let end = value.iter().position(|byte| {
            if is_escaped {
                is_escaped = false;
                return false;
            }
            match byte {
                b'"' => is_quoted = !is_quoted,
                b'\\' if is_quoted => is_escaped = true,
                _ if *byte == separator && !is_quoted => return true,
                _ => {}
            }
            false
        });
        let (part, next) = match end {
            Some(end) => (value.get(..end), value.get(end + 1..)),
            None => (Some(value), None),
        };
        rest = next;
        part.map(trim)
    })
}

/// A directive and its argument, without its quotes. Space beside the `=` belongs to either: no directive is called so.
pub fn directive(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else { return (member, None) };
    let name = member.get(..at).unwrap_or_default();
    (name, member.get(at + 1..).map(unquoted))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

pub fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at + 1);
    value.get(start..end).unwrap_or_default()
}

/// `delta-seconds` (RFC 9111, section 1.2.2): what is larger than can be said is 2^31. `None` where it is none.
pub fn seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let all = value
        .iter()
        .fold(0u64, |sum, digit| (sum * 10 + u64::from(digit - b'0')).min(u64::from(SECONDS_MAX)));
    u32::try_from(all).ok()
}

pub const SECONDS_MAX: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_is_none() {
        let all: Vec<_> = members(br#" a , b="x, y", ,c="\", d" "#).collect();
        assert_eq!(all, [&b"a"[..], br#"b="x, y""#, br#"c="\", d""#]);
    }

    #[test]
    fn arguments_come_without_quotes_and_with_their_space() {
        assert_eq!(directive(b"max-age=\"60\""), (&b"max-age"[..], Some(&b"60"[..])));
        assert_eq!(directive(b"max-age =60"), (&b"max-age "[..], Some(&b"60"[..])));
        assert_eq!(directive(b"no-store"), (&b"no-store"[..], None));
    }

    #[test]
    fn seconds_saturate_and_are_digits() {
        assert_eq!(seconds(b"003600"), Some(3_600));
        assert_eq!(seconds(b"99999999999999999999999"), Some(SECONDS_MAX));
        for bad in [&b""[..], b"-1", b"1.0", b"a1", b"1a", b"'1'", b" 1"] {
            assert_eq!(seconds(bad), None);
        }
    }
}
