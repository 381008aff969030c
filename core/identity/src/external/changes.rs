//! What somebody else changes of a request and of the answer to it.
//!
//! Never what frames a message or says whom it is for: a `Host`, a length, a header of one hop. Envoy takes some of
//! these; who is asked would be able to have two requests read from one.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// As many as one answer may have of each kind.
pub const CHANGES_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the request, in their order.
    pub request: Vec<Edit>,
    /// Names of its headers.
    pub remove: Vec<String>,
    /// Of the answer, whoever gives it.
    pub response: Vec<Edit>,
    pub set_query: Vec<(String, String)>,
    pub remove_query: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub name: Box<str>,
    pub value: Bytes,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// Beside what is there.
    Add,
    /// Behind what is there, in one line; where nothing is, nothing is done. Envoy's `appendCopy` of these.
    Join,
    AddIfAbsent,
    /// In the place of what is there.
    Set,
    SetIfPresent,
    /// Nobody knows.
    Unknown,
}

impl Changes {
    /// Whether nothing of the request changes.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty()
            && self.remove.is_empty()
            && self.set_query.is_empty()
            && self.remove_query.is_empty()
    }

    /// More than anybody needs.
    pub fn is_too_much(&self) -> bool {
        let lengths = [
            self.request.len(),
            self.remove.len(),
            self.response.len(),
            self.set_query.len(),
            self.remove_query.len(),
        ];
        lengths.iter().any(|length| *length > CHANGES_MAX)
    }

    /// Whether all of it could be done.
    pub(super) fn apply(&self, headers: &mut HeaderMap, query: &mut Option<String>) -> bool {
        let mut is_whole = apply(&self.request, headers, &[header::HOST]);
        // That they can be said is known before anybody says them.
        is_whole &= self.response.iter().all(|edit| edit.read().is_some());
        for name in &self.remove {
            if let Ok(name) = HeaderName::try_from(name.as_str())
                && name != header::HOST
                && name != header::CONTENT_LENGTH
                && !is_of_connection(&name)
            {
                headers.remove(name);
            }
        }
        for (name, value) in &self.set_query {
            is_whole &= is_encoded(name) && is_encoded(value);
            if is_encoded(name) && is_encoded(value) {
                set_parameter(query, name, Some(value));
            }
        }
        for name in &self.remove_query {
            set_parameter(query, name, None);
        }
        is_whole
    }
}

impl Edit {
    /// `None` of what cannot be a header.
    fn read(&self) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::try_from(&*self.name).ok()?;
        Some((name, HeaderValue::from_maybe_shared(self.value.clone()).ok()?))
    }
}

/// Changes headers, but for what frames a message, and for these. Says whether all could be read.
pub fn apply(edits: &[Edit], headers: &mut HeaderMap, but: &[HeaderName]) -> bool {
    let mut is_whole = true;
    for edit in edits {
        let Some((name, value)) = edit.read().filter(|_| edit.how != How::Unknown) else {
            is_whole = false;
            continue;
        };
        if is_of_connection(&name) || name == header::CONTENT_LENGTH || but.contains(&name) {
            continue;
        }
        let is_there = headers.contains_key(&name);
        match edit.how {
            How::Add => {
                headers.append(name, value);
            }
            How::AddIfAbsent if is_there => {}
            How::SetIfPresent | How::Join if !is_there => {}
            How::Join => {
                let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
                let joined = [lines.join(&b","[..]).as_slice(), value.as_bytes()].join(&b","[..]);
                if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                    headers.insert(name, joined);
                }
            }
            How::AddIfAbsent | How::Set | How::SetIfPresent | How::Unknown => {
                headers.insert(name, value);
            }
        }
    }
    is_whole
}

/// Of one hop (RFC 9110, section 7.6.1), or of how a message is framed.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    let all = [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    all.contains(name)
}

/// Unreserved letters and escapes (RFC 3986, section 2), as Envoy's `queryParameterIsUrlEncoded` has it.
fn is_encoded(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return true,
            [b'%', one, other, rest @ ..] if one.is_ascii_hexdigit() && other.is_ascii_hexdigit() => rest,
            [b'-' | b'.' | b'_' | b'~' | b'+', rest @ ..] => rest,
            [letter, rest @ ..] if letter.is_ascii_alphanumeric() => rest,
            _ => return false,
        };
    }
}

/// The first of this name is another one, and there is no second; the others stay as they are.
fn set_parameter(query: &mut Option<String>, name: &str, value: Option<&str>) {
    let mut value = value;
    let said = query.take().unwrap_or_default();
    let mut parts: Vec<String> = Vec::new();
    for part in said.split('&').filter(|part| !part.is_empty()) {
        let own = part.split_once('=').map_or(part, |(own, _)| own);
        if own != name {
            parts.push(part.to_owned());
        } else if let Some(value) = value.take() {
            parts.push(format!("{name}={value}"));
        }
    }
    parts.extend(value.map(|value| format!("{name}={value}")));
    *query = (!parts.is_empty()).then(|| parts.join("&"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(name: &str, value: &str, how: How) -> Edit {
        Edit { name: name.into(), value: Bytes::copy_from_slice(value.as_bytes()), how }
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))).collect()
    }

    #[test]
    fn a_header_is_changed_as_is_said() {
        let check = |how, before: &[&'static str], after: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in before {
                headers.append("x-a", HeaderValue::from_static(value));
            }
            assert!(apply(&[edit("X-A", "new", how)], &mut headers, &[]), "{how:?}");
            let values: Vec<_> = headers.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values, after, "{how:?} {before:?}");
        };
        check(How::Add, &[], &["new"]);
        check(How::Add, &["1", "2"], &["1", "2", "new"]);
        check(How::Join, &[], &[]);
        check(How::Join, &["1", "2"], &["1,2,new"]);
        check(How::AddIfAbsent, &[], &["new"]);
        check(How::AddIfAbsent, &["1"], &["1"]);
        check(How::Set, &[], &["new"]);
        check(How::Set, &["1", "2"], &["new"]);
        check(How::SetIfPresent, &[], &[]);
        check(How::SetIfPresent, &["1", "2"], &["new"]);
    }

    #[test]
    fn what_frames_a_message_and_whom_it_is_for_stays() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        headers.insert("content-length", HeaderValue::from_static("3"));
        let names = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];
        let changes = Changes {
            request: names.iter().map(|name| edit(name, "7", How::Set)).collect(),
            remove: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Changes::default()
        };
        assert!(changes.apply(&mut headers, &mut None));
        assert_eq!(lines(&headers), ["host: a", "content-length: 3"]);
    }

    #[test]
    fn what_cannot_be_a_header_is_left_out_and_told() {
        let check = |name: &str, value: &str, how| {
            let mut headers = HeaderMap::new();
            assert!(
                !apply(&[edit(name, value, how), edit("x-b", "2", How::Set)], &mut headers, &[]),
                "{name}"
            );
            assert_eq!(lines(&headers), ["x-b: 2"]);
        };
        check("x a", "1", How::Set);
        check(":path", "/", How::Set);
        check("x-a", "1\r\nx-c: 2", How::Add);
        check("x-a", "1", How::Unknown);
    }

    #[test]
    fn parameters_are_set_and_removed() {
        let check = |query: Option<&str>, name: &str, value: Option<&str>, expected: Option<&str>| {
            let mut changed = query.map(str::to_owned);
            set_parameter(&mut changed, name, value);
            assert_eq!(changed.as_deref(), expected, "{query:?} {name} {value:?}");
        };
        check(None, "a", Some("1"), Some("a=1"));
        check(None, "a", None, None);
        check(Some("a=0&b=2&a=3"), "a", Some("1"), Some("a=1&b=2"));
        check(Some("b=2&a"), "a", None, Some("b=2"));
        check(Some("a=1"), "a", None, None);
        check(Some("ab=1"), "a", Some("2"), Some("ab=1&a=2"));
        for text in ["a b", "%", "%2", "a&b", "a#"] {
            assert!(!is_encoded(text), "{text}");
        }
        assert!(is_encoded("a%20b-._~+9"));
    }
}
