//! What does the path of a request become before anybody looks at it?
//!
//! In comes the target of a request and what the listener says of paths; out comes the same, another one, or that there
//! is none. Queries are not touched. Source: Envoy 1.40, `ConnectionManagerUtility::maybeNormalizePath` (the order of the
//! steps) and `path_utility.cc` (each step), where dots, backslashes and percent signs are the business of GURL
//! (`url_canon_path.cc` as Envoy has it, which unescapes what RFC 3986 calls unreserved). As there, `//` alone is not
//! merged, and `..;x` is two dots (CVE-2026-73551); here it is so too where the dots are escaped or follow a backslash,
//! as who looks at the path next would see nothing else.

use http::uri::PathAndQuery;
use naru_spec::{EscapedSlashes, Paths};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalized {
    /// As it was.
    Same,
    Changed(PathAndQuery),
    /// Its client is to ask for this instead.
    Elsewhere(PathAndQuery),
    Refused,
}

/// Nothing is allocated for a path that is normal.
#[inline]
pub fn normalize(target: &PathAndQuery, rules: &Paths) -> Normalized {
    if !rules.is_active() || is_plain(target.path().as_bytes()) {
        return Normalized::Same;
    }
    steps(target, rules)
}

/// Nothing that any step would change: no percent sign, no backslash, no two slashes, no dot after a slash, nothing
/// that is to be escaped.
pub(crate) fn is_plain(path: &[u8]) -> bool {
    let mut before = b'a';
    for byte in path {
        let is_odd = match byte {
            b'/' => before == b'/',
            b'.' => before == b'/',
            b'%' => true,
            byte => is_escaped(*byte),
        };
        if is_odd {
            return false;
        }
        before = *byte;
    }
    path.first() == Some(&b'/')
}

#[cold]
fn steps(target: &PathAndQuery, rules: &Paths) -> Normalized {
    // The asterisk of OPTIONS is no path.
    if !target.path().starts_with('/') {
        return Normalized::Same;
    }
    let mut path = target.path().as_bytes().to_vec();
    let mut is_elsewhere = false;
    if rules.escaped_slashes != EscapedSlashes::Keep && unescape_slashes(&mut path) {
        match rules.escaped_slashes {
            EscapedSlashes::Keep | EscapedSlashes::Forward => {}
            EscapedSlashes::Reject => return Normalized::Refused,
            EscapedSlashes::Redirect => is_elsewhere = true,
        }
    }
    if rules.normalize {
        match canonical(&path) {
            Some(canonical) => path = canonical,
            None => return Normalized::Refused,
        }
    }
    if rules.merge_slashes {
        path = merged(&path);
    }
    if path == target.path().as_bytes() {
        return Normalized::Same;
    }
    if let Some(query) = target.query() {
        path.push(b'?');
        path.extend_from_slice(query.as_bytes());
    }
    match PathAndQuery::try_from(path) {
        Ok(target) if is_elsewhere => Normalized::Elsewhere(target),
        Ok(target) => Normalized::Changed(target),
        Err(_) => Normalized::Refused,
    }
}

/// Says whether there were any.
fn unescape_slashes(path: &mut Vec<u8>) -> bool {
    let before = path.len();
    let mut unescaped = Vec::with_capacity(before);
    let mut rest = path.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'f' | b'F', after @ ..] => (b'/', after),
            [b'%', b'5', b'c' | b'C', after @ ..] => (b'\\', after),
            _ => (*first, after),
        };
        unescaped.push(byte);
        rest = after;
    }
    *path = unescaped;
    path.len() < before
}

fn merged(path: &[u8]) -> Vec<u8> {
    if !path.windows(2).any(|two| two == b"//") {
        return path.to_vec();
    }
    let mut merged = Vec::with_capacity(path.len());
    merged.extend(path.first().filter(|first| **first == b'/'));
    let mut segments = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty());
    if let Some(first) = segments.next() {
        merged.extend_from_slice(first);
    }
    for segment in segments {
        merged.push(b'/');
        merged.extend_from_slice(segment);
    }
    merged.extend(path.last().filter(|last| **last == b'/'));
    merged
}

/// GURL's canonical path; `None` where there is none.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    // Where a percent sign was written that begins nothing.
    let mut stray = None;
    let mut at = 0;
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        let dot = dot(rest);
        if dot > 0 {
            at += dot
                + if out.last() == Some(&b'/') { relative(rest, dot, &mut out) } else { plain_dot(&mut out) };
            continue;
        }
        let first = *rest.first()?;
        at += 1;
        match (first, escaped(rest)) {
            (b'\\', _) => out.push(b'/'),
            (b'%', None) => {
                stray = Some(out.len());
                out.push(b'%');
            }
            (b'%', Some(0)) => return None,
            (b'%', Some(byte)) => {
                at += 2;
                if is_unreserved(byte) {
                    out.push(byte);
                    at += guard_stray(stray, byte, path.get(at), &mut out);
                } else {
                    out.extend_from_slice(rest.get(..3)?);
                }
            }
            (0, _) => return None,
            (byte, _) if is_escaped(byte) => push_escaped(byte, &mut out),
            (byte, _) => out.push(byte),
        }
    }
    Some(out)
}

/// How many bytes a dot has here, written plainly or escaped.
fn dot(rest: &[u8]) -> usize {
    match rest {
        [b'.', ..] => 1,
        [b'%', b'2', b'e' | b'E', ..] => 3,
        _ => 0,
    }
}

fn plain_dot(out: &mut Vec<u8>) -> usize {
    out.push(b'.');
    0
}

/// A dot behind a slash: this directory, the one above, or a part of a name. Says how much follows that belongs to it.
fn relative(rest: &[u8], first: usize, out: &mut Vec<u8>) -> usize {
    let after = rest.get(first..).unwrap_or_default();
    // What a segment of dots has for parameters goes with it.
    let ends = |rest: &[u8]| match rest {
        [] => Some(0),
        [b'/' | b'\\', ..] => Some(1),
        [b';', ..] => Some(rest.iter().position(|byte| *byte == b'/').map_or(rest.len(), |slash| slash + 1)),
        _ => None,
    };
    if let Some(slash) = ends(after) {
        return slash;
    }
    let second = dot(after);
    match ends(after.get(second..).unwrap_or_default()).filter(|_| second > 0) {
        Some(slash) => {
            // Up to the slash before, but not above the first.
            out.pop();
            let kept = out.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            out.truncate(kept);
            if out.is_empty() {
                out.push(b'/');
            }
            second + slash
        }
        None => plain_dot(out),
    }
}

/// What was unescaped must not make an escape of a stray percent sign before it: that sign is then escaped itself. Says
/// how many bytes of what follows were written with it.
fn guard_stray(stray: Option<usize>, unescaped: u8, next: Option<&u8>, out: &mut Vec<u8>) -> usize {
    let Some(stray) = stray.filter(|stray| stray + 3 >= out.len()) else { return 0 };
    let is_next = out.len() == stray + 2;
    let candidate = if is_next {
        [out.get(stray + 1).copied(), next.copied()]
    } else {
        [out.get(stray + 1).copied(), out.get(stray + 2).copied()]
    };
    let [Some(one), Some(other)] = candidate else { return 0 };
    if !one.is_ascii_hexdigit() || !other.is_ascii_hexdigit() {
        return 0;
    }
    out.truncate(stray + 1);
    out.extend_from_slice(b"25");
    if !is_next {
        out.push(one);
    }
    out.push(unescaped);
    0
}

/// Of `%41`: 0x41.
fn escaped(rest: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = rest else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// RFC 3986, section 2.3. A dot is looked at before.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

/// What may not stand in a path, and the backslash.
const fn is_escaped(byte: u8) -> bool {
    matches!(
        byte,
        0..=b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f..=0xff
    )
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    const BASE: Paths = Paths::BASE;
    const ALL: Paths =
        Paths { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Forward };

    fn becomes(target: &str, rules: &Paths) -> Normalized {
        normalize(&target.parse().unwrap(), rules)
    }

    fn check(rules: &Paths, cases: &[(&str, &str)]) {
        for (target, expected) in cases {
            let expected = match *expected {
                "" => Normalized::Refused,
                same if same == *target => Normalized::Same,
                other => Normalized::Changed(other.parse().unwrap()),
            };
            assert_eq!(becomes(target, rules), expected, "{target}");
        }
    }

    /// What the real Envoy 1.40 said.
    #[test]
    fn dots_backslashes_and_escapes_become_what_they_become_in_envoy() {
        check(
            &BASE,
            &[
                ("/a/../b", "/b"),
                ("/%41", "/A"),
                ("/%2e%2E/x", "/x"),
                ("/a/%2e./b", "/b"),
                ("/a\\b\\..\\c", "/a/c"),
                ("/a//b/../c", "/a//c"),
                ("/a/./b/.", "/a/b/"),
                ("/a/..", "/"),
                ("/..", "/"),
                ("/%00", ""),
                ("/a%2Fb", "/a%2Fb"),
                ("/a%7eb", "/a~b"),
                ("/a%b", "/a%b"),
                ("/a%zz", "/a%zz"),
                ("/a\"b", "/a%22b"),
                ("/%c3%a9", "/%c3%a9"),
                ("/a/b/../../../c?x=/../y", "/c?x=/../y"),
                ("//..//a", "//a"),
                ("/a;x/../b", "/b"),
                ("/...", "/..."),
                ("/..a/.b/%2e", "/..a/.b/"),
                ("/a/%2E%2e", "/"),
                ("/%5C..%5c", "/%5C..%5c"),
                ("/a'()*!~$&,;=:@+-_.", "/a'()*!~$&,;=:@+-_."),
                ("/a%2eb", "/a.b"),
                ("/a/..;x/b", "/b"),
                ("/a/.;x/b", "/a/b"),
                ("/a/..;", "/"),
                ("/a/..;x\\b", "/"),
                ("/a/b/..;%00/c", "/a/c"),
                ("/a/..;..", "/"),
                ("/a/...;x/b", "/a/...;x/b"),
                ("/a/..%3bx/b", "/a/..%3bx/b"),
                ("/a/;x/b", "/a/;x/b"),
                ("/..;/..;/a", "/a"),
                ("*", "*"),
            ],
        );
    }

    /// Envoy leaves these to whoever comes next.
    #[test]
    fn dots_with_parameters_are_dots_however_they_are_written() {
        check(
            &BASE,
            &[("/a/%2e%2e;x/b", "/b"), ("/a/.%2E;/b", "/b"), ("/a\\..;x/b", "/b"), ("/a/%2e;x", "/a/")],
        );
    }

    #[test]
    fn slashes_are_merged_after_everything_else() {
        let merge = Paths { merge_slashes: true, ..Paths::NONE };
        check(
            &merge,
            &[("//a///b//?c=//", "/a/b/?c=//"), ("//", "//"), ("///", "//"), ("/a/../b", "/a/../b")],
        );
        check(
            &ALL,
            &[("/a%2f%2Fb", "/a/b"), ("/a%5c..%5Cb", "/b"), ("/a//../b", "/a/b"), ("/%252f", "/%252f")],
        );
    }

    #[test]
    fn an_escaped_slash_is_kept_refused_led_elsewhere_or_unescaped() {
        let rules = |escaped_slashes| Paths { escaped_slashes, ..Paths::BASE };
        let elsewhere = Normalized::Elsewhere("/a/b?c=%2f".parse().unwrap());
        for (what, expected) in [
            (EscapedSlashes::Keep, Normalized::Same),
            (EscapedSlashes::Reject, Normalized::Refused),
            (EscapedSlashes::Redirect, elsewhere),
            (EscapedSlashes::Forward, Normalized::Changed("/a/b?c=%2f".parse().unwrap())),
        ] {
            assert_eq!(becomes("/a%2fb?c=%2f", &rules(what)), expected, "{what:?}");
            assert_eq!(becomes("/a?c=%2f", &rules(what)), Normalized::Same, "{what:?}");
        }
    }

    #[test]
    fn nothing_becomes_an_escape_that_was_none() {
        check(&BASE, &[("/%%300", "/%2500"), ("/%%30%30", "/%2500"), ("/%%41", "/%A"), ("/%4%31", "/%2541")]);
    }

    #[test]
    fn nothing_is_done_where_nothing_is_said() {
        check(&Paths::NONE, &[("/a/../b//%41", "/a/../b//%41")]);
    }

    /// Segment by segment, as RFC 3986, section 5.2.4, says it.
    fn without_dots(path: &str) -> String {
        let mut kept: Vec<&str> = Vec::new();
        let segments: Vec<&str> = path[1..].split('/').collect();
        for (at, segment) in segments.iter().enumerate() {
            let is_last = at + 1 == segments.len();
            match *segment {
                "." | ".." => {
                    if *segment == ".." {
                        kept.pop();
                    }
                    if is_last {
                        kept.push("");
                    }
                }
                other => kept.push(other),
            }
        }
        format!("/{}", kept.join("/"))
    }

    fn drawn(chance: &mut Chance, parts: &[&str]) -> String {
        let count = chance.below(12);
        let parts = (0..count).map(|_| parts[chance.below(parts.len() as u64) as usize]);
        std::iter::once("/").chain(parts).collect()
    }

    #[test]
    fn dots_are_removed_as_the_rfc_removes_them() {
        let mut chance = Chance::new(1);
        for _ in 0..20_000 {
            let path = drawn(&mut chance, &["/", "/", ".", "..", "a", "bc"]);
            let expected = without_dots(&path);
            let found = match becomes(&path, &BASE) {
                Normalized::Same => path.clone(),
                Normalized::Changed(target) => target.as_str().to_owned(),
                other => panic!("{path}: {other:?}"),
            };
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn what_is_normal_stays_so_and_never_leads_above_the_root() {
        let parts = [
            "/", "..", ".", "%2e", "%2E", "\\", "%2f", "%5C", "%", "%25", "%41", "%30", "3", "0", "a", "%7e",
            "%c3", "\"", "%4", "{", ";", ";x",
        ];
        let mut chance = Chance::new(2);
        for _ in 0..50_000 {
            let path = drawn(&mut chance, &parts);
            for rules in [BASE, ALL, Paths { merge_slashes: true, ..Paths::BASE }] {
                let Normalized::Changed(once) = becomes(&path, &rules) else { continue };
                let text = once.path();
                assert!(
                    text.starts_with('/') && !text.contains("/../") && !text.ends_with("/.."),
                    "{path} {text}"
                );
                // What is unescaped once may be unescaped again, but by nobody who looks at the same rules.
                let again = normalize(&once, &Paths { escaped_slashes: EscapedSlashes::Keep, ..rules });
                assert_eq!(again, Normalized::Same, "{path} became {text}");
            }
        }
    }
}
