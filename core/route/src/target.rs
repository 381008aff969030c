//! What becomes of the path and the query of a request.

use naru_spec::{Invalid, PathRewrite, QueryOps, RedirectPath};

use crate::re2::{self, Rewrite};

/// A compiled rewrite of a path.
#[derive(Clone, Debug)]
pub(crate) enum PathEdit {
    /// Stands in the place of what was matched. With `joins`, a slash at its end and a slash after
    /// what was matched become one.
    Prefix {
        replacement: Box<str>,
        joins: bool,
    },
    Regex(Rewrite),
    Full(Box<str>),
}

impl PathEdit {
    /// `is_segmented`: the rule matches whole segments, so that its replacement is one, too.
    pub(crate) fn of_rewrite(spec: &PathRewrite, is_segmented: bool) -> Result<PathEdit, Invalid> {
        Ok(match spec {
            PathRewrite::Prefix(text) => {
                PathEdit::Prefix { replacement: text.as_str().into(), joins: is_segmented }
            }
            PathRewrite::Regex { pattern, substitution } => {
                PathEdit::Regex(re2::rewrite(pattern, substitution)?)
            }
            PathRewrite::Full(text) => PathEdit::Full(text.as_str().into()),
        })
    }

    pub(crate) fn of_redirect(spec: &RedirectPath, is_segmented: bool) -> Result<PathEdit, Invalid> {
        Ok(match spec {
            RedirectPath::Prefix(text) => {
                PathEdit::Prefix { replacement: text.as_str().into(), joins: is_segmented }
            }
            RedirectPath::Regex { pattern, substitution } => {
                PathEdit::Regex(re2::rewrite(pattern, substitution)?)
            }
            RedirectPath::Full(text) => PathEdit::Full(text.as_str().into()),
        })
    }

    /// Appends the new path to `out`; it always begins with a slash, because a request target must.
    pub(crate) fn write(&self, path: &str, matched: u32, out: &mut String) {
        let begin = out.len();
        match self {
            PathEdit::Prefix { replacement, joins } => {
                let rest = path.get(matched as usize..).unwrap_or("");
                let head = match replacement.strip_suffix('/') {
                    Some(head) if *joins && rest.starts_with('/') => head,
                    _ => replacement,
                };
                out.push_str(head);
                out.push_str(rest);
            }
            PathEdit::Regex(rewrite) => rewrite.write(path, out),
            PathEdit::Full(text) => out.push_str(text),
        }
        if !out[begin..].starts_with('/') {
            out.insert(begin, '/');
        }
    }
}

/// Compiled operations on a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryEdit {
    /// Decoded.
    remove: Box<[Box<str>]>,
    /// The decoded name, and the whole parameter as it is written.
    set: Box<[(Box<str>, Box<str>)]>,
    add: Box<[Box<str>]>,
}

impl QueryEdit {
    pub(crate) fn compile(ops: &QueryOps) -> QueryEdit {
        let parameter = |name: &str, value: &str| -> Box<str> {
            let mut text = String::new();
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
            text.into()
        };
        QueryEdit {
            remove: ops.remove.iter().map(|name| name.as_str().into()).collect(),
            set: ops.set.iter().map(|(name, value)| (name.as_str().into(), parameter(name, value))).collect(),
            add: ops.add.iter().map(|(name, value)| parameter(name, value)).collect(),
        }
    }

    /// Appends the new query with its `?` to `out`, or nothing where no parameter is left.
    /// Parameters that no operation names stay as they were sent. One that is set stands where the
    /// first of its name stood.
    pub(crate) fn write(&self, query: Option<&str>, out: &mut String) {
        let mut separator = '?';
        let mut push = |text: &str, out: &mut String| {
            out.push(separator);
            out.push_str(text);
            separator = '&';
        };
        let mut done = vec![false; self.set.len()];
        for sent in query.unwrap_or("").split('&').filter(|sent| !sent.is_empty()) {
            let name = sent.split_once('=').map_or(sent, |(name, _)| name);
            if self.remove.iter().any(|removed| is_encoding_of(name, removed)) {
                continue;
            }
            match self.set.iter().position(|(set, _)| is_encoding_of(name, set)) {
                None => push(sent, out),
                Some(at) if !done[at] => {
                    done[at] = true;
                    push(&self.set[at].1, out);
                }
                Some(_) => {}
            }
        }
        for ((_, text), done) in self.set.iter().zip(&done) {
            if !done {
                push(text, out);
            }
        }
        for text in &self.add {
            push(text, out);
        }
    }
}

/// Whether a name as sent (percent-encoding, `+` for a space) says this decoded name.
fn is_encoding_of(sent: &str, name: &str) -> bool {
    let mut sent = sent.as_bytes();
    for &byte in name.as_bytes() {
        let (decoded, rest) = match *sent {
            [b'%', high, low, ref rest @ ..] => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (b'%', &sent[1..]),
            },
            [b'+', ref rest @ ..] => (b' ', rest),
            [byte, ref rest @ ..] => (byte, rest),
            [] => return false,
        };
        if decoded != byte {
            return false;
        }
        sent = rest;
    }
    sent.is_empty()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Percent-encodes what may not stand in a parameter: everything but RFC 3986's unreserved
/// characters and those that a query may hold and no reader of parameters gives a meaning.
fn encode(text: &str, out: &mut String) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$'()*,?".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}
