//! Is a request a read or a write, and which of its rule's two groups takes it?
//!
//! In goes the request, and whether its session has written lately, which somebody else knows where a header tells
//! sessions apart ([`Grouped`] says whom to tell of a write). Out goes a [`Group`], and why. A read whose session has
//! written is for the group for writes; a write is never for the group for reads.
//!
//! Deliberately not here: which sessions have written (`naru-journey`), and when a write counts as done.

use std::time::Duration;

use http::header::HeaderValue;
use http::{HeaderMap, HeaderName, Method};
use naru_base::chance::mix;
use naru_spec::{Invalid, ReadWriteGroups, ReadYourWrites, SessionKey, StringMatch};

use crate::Subject;
use crate::condition::{Text, cookie_value};
use crate::forward::Destination;
use crate::re2::Expressions;

/// The groups of a rule, compiled.
#[derive(Clone, Debug)]
pub struct CompiledGroups {
    /// By [`Group`]; `None` is the rule's own clusters.
    destinations: [Option<Destination>; 2],
    /// `None`: all that are not safe.
    write_methods: Option<Box<[Method]>>,
    write_paths: Box<[Text]>,
    read_paths: Box<[Text]>,
    read_your_writes: Option<CompiledReadYourWrites>,
}

#[derive(Clone, Debug)]
pub struct CompiledReadYourWrites {
    pub lasts: Duration,
    key: Key,
}

#[derive(Clone, Debug)]
enum Key {
    Cookie { name: Box<str>, set: HeaderValue },
    Header { name: HeaderName, seed: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Read = 0,
    Write = 1,
}

impl Group {
    pub(crate) const ALL: [Group; 2] = [Group::Read, Group::Write];
}

/// A session, as far as one number tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Why a request is for its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    ReadByMethod,
    ReadByPath,
    WriteByMethod,
    WriteByPath,
    /// A read of a session that has written.
    ReadAfterWrite,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouped {
    pub why: Why,
    /// Where a header tells it, and something hangs on it.
    pub session: Option<SessionId>,
}

impl Grouped {
    #[inline]
    pub fn group(self) -> Group {
        match self.why {
            Why::ReadByMethod | Why::ReadByPath => Group::Read,
            Why::WriteByMethod | Why::WriteByPath | Why::ReadAfterWrite => Group::Write,
        }
    }

    /// Whether it changes something itself.
    #[inline]
    pub fn is_write(self) -> bool {
        matches!(self.why, Why::WriteByMethod | Why::WriteByPath)
    }
}

impl CompiledGroups {
    /// `destinations` are by [`Group`].
    pub(crate) fn compile(
        spec: &ReadWriteGroups,
        destinations: [Option<Destination>; 2],
        expressions: &mut Expressions,
        problems: &mut Vec<Invalid>,
    ) -> CompiledGroups {
        let mut texts = |spec: &[StringMatch]| -> Box<[Text]> {
            let compiled = spec.iter().filter_map(|test| match Text::compile(test, expressions) {
                Ok(text) => Some(*text),
                Err(invalid) => {
                    problems.push(invalid);
                    None
                }
            });
            compiled.collect()
        };
        CompiledGroups {
            destinations,
            write_methods: spec.write_methods.as_deref().map(Into::into),
            write_paths: texts(&spec.write_paths),
            read_paths: texts(&spec.read_paths),
            read_your_writes: spec.read_your_writes.as_ref().map(CompiledReadYourWrites::compile),
        }
    }

    #[inline]
    pub(crate) fn destination(&self, group: Group) -> Option<&Destination> {
        self.destinations[group as usize].as_ref()
    }

    pub fn read_your_writes(&self) -> Option<&CompiledReadYourWrites> {
        self.read_your_writes.as_ref()
    }

    /// `has_written` is asked of a session only where something hangs on it.
    pub fn group(&self, subject: &Subject<'_>, has_written: impl FnOnce(SessionId) -> bool) -> Grouped {
        let why = self.what(subject);
        let Some(sessions) = &self.read_your_writes else { return Grouped { why, session: None } };
        let session = sessions.session(subject.headers);
        let is_write = Grouped { why, session }.is_write();
        let is_behind = match &sessions.key {
            _ if is_write => false,
            Key::Cookie { name, .. } => cookie_value(subject.headers, name.as_bytes()).is_some(),
            Key::Header { .. } => session.is_some_and(has_written),
        };
        Grouped { why: if is_behind { Why::ReadAfterWrite } else { why }, session }
    }

    /// By itself. What is said of both reads and writes is a write: the group for writes can do either.
    fn what(&self, subject: &Subject<'_>) -> Why {
        let is_one_of = |paths: &[Text]| paths.iter().any(|path| path.holds(subject.path.as_bytes()));
        if is_one_of(&self.write_paths) {
            return Why::WriteByPath;
        }
        if is_one_of(&self.read_paths) {
            return Why::ReadByPath;
        }
        let is_write = match &self.write_methods {
            Some(methods) => methods.contains(subject.method),
            None => !subject.method.is_safe(),
        };
        if is_write { Why::WriteByMethod } else { Why::ReadByMethod }
    }
}

impl CompiledReadYourWrites {
    fn compile(spec: &ReadYourWrites) -> CompiledReadYourWrites {
        let key = match spec.session() {
            SessionKey::Header { name, scope } => {
                Key::Header { name: name.clone(), seed: fingerprint(0, scope.as_bytes()) }
            }
            SessionKey::Cookie(cookie) => {
                let seconds = cookie.ttl().map_or(0, |ttl| ttl.as_secs());
                let text =
                    format!("{}=1; Max-Age={seconds}; Path={}; HttpOnly", cookie.name(), cookie.path());
                // The parts of a cookie are checked where it is made: they can stand in a header.
                let set = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
                Key::Cookie { name: cookie.name().into(), set }
            }
        };
        CompiledReadYourWrites { lasts: spec.lasts(), key }
    }

    /// The `Set-Cookie` of the answer to a write; `None` where a header tells sessions.
    pub fn cookie(&self) -> Option<&HeaderValue> {
        match &self.key {
            Key::Cookie { set, .. } => Some(set),
            Key::Header { .. } => None,
        }
    }

    /// What tells sessions, in words.
    pub fn carrier(&self) -> String {
        match &self.key {
            Key::Cookie { name, .. } => format!("cookie '{name}'"),
            Key::Header { name, .. } => format!("header '{name}'"),
        }
    }

    /// A request without the header, or with nothing in it, has none.
    fn session(&self, headers: &HeaderMap) -> Option<SessionId> {
        let Key::Header { name, seed } = &self.key else { return None };
        let mut values = headers.get_all(name).iter().filter(|value| !value.is_empty()).peekable();
        values.peek()?;
        Some(SessionId(values.fold(*seed, |hash, value| fingerprint(hash, value.as_bytes()))))
    }
}

/// Not for secrets: who finds two texts of one number reads from the group for writes.
fn fingerprint(seed: u64, text: &[u8]) -> u64 {
    let words = text.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    words.fold(mix(seed ^ text.len() as u64), |hash, word| mix(hash.rotate_left(1) ^ word))
}
