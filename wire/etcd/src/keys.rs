//! What is below a prefix? Read at one revision, page by page, then followed revision by revision.
//!
//! | what comes | what becomes of it |
//! |---|---|
//! | a page of a range | the first says the revision that all of them are read at |
//! | events of a watch | keys as they are after the last of these revisions; what is older than what is known is passed by |
//! | a word without events | the revision goes on |
//! | `canceled`, with `compact_revision` | what was asked for is not there any more: read everything anew |
//! | `canceled` | the watch is over: begin anew |
//!
//! Etcd sends what one revision has changed in one response, unless it is asked for fragments, which it is not: so what
//! is here after a response is what was there at one revision.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::proto::{EventKind, KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchResponse};

/// Keys below a prefix.
pub const KEYS_MAX: usize = 20_000;
/// Of one value. Etcd itself takes 1.5 MiB, unless it is told otherwise.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Of all keys and values together.
pub const BYTES_MAX: usize = 128 << 20;

/// The files below a prefix at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: Bytes,
    revision: i64,
    cluster: u64,
    kept: BTreeMap<Bytes, Kept>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub value: Bytes,
    pub mod_revision: i64,
}

/// What a response of a watch meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing is another than before.
    Nothing,
    Changed,
    /// What was asked for was compacted away, up to this revision.
    Compacted(i64),
    /// The watch is over, and why.
    Over(String),
}

/// What is there is more than is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TooMuch {
    Keys(usize),
    /// The name of a key whose value is too large.
    Value(String),
    Bytes,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooMuch::Keys(count) => write!(f, "there are {count} keys; at most {KEYS_MAX} are read"),
            TooMuch::Value(key) => write!(f, "{key} has more than {VALUE_BYTES_MAX} bytes"),
            TooMuch::Bytes => write!(f, "all keys together have more than {BYTES_MAX} bytes"),
        }
    }
}

impl Keys {
    /// Nothing yet.
    pub fn new(prefix: &str) -> Keys {
        Keys {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            revision: 0,
            cluster: 0,
            kept: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// All that is here was there at this revision; 0 before anything was read.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The number of the cluster that was read.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    pub fn kept(&self) -> &BTreeMap<Bytes, Kept> {
        &self.kept
    }

    /// The question for the next page, of so many keys; at the revision of the first one, or, for the first, at
    /// `revision`, 0 being the newest.
    pub fn next_page(&self, revision: i64, limit: i64) -> RangeRequest {
        // The smallest key after the last.
        let after = self.kept.keys().next_back().map(|last| {
            let mut key = last.to_vec();
            key.push(0);
            Bytes::from(key)
        });
        RangeRequest {
            key: after.unwrap_or_else(|| first_of(&self.prefix)),
            range_end: end_of(&self.prefix),
            limit,
            revision: if self.revision > 0 { self.revision } else { revision },
            ..RangeRequest::default()
        }
    }

    /// Its answer; says whether there are more. `revision` is what the first page was asked at.
    pub fn page(&mut self, revision: i64, response: RangeResponse) -> Result<bool, TooMuch> {
        let is_first = self.revision == 0;
        let count = usize::try_from(response.count).unwrap_or(usize::MAX);
        if is_first {
            let header = response.header.unwrap_or_default();
            self.revision = if revision > 0 { revision } else { header.revision };
            self.cluster = header.cluster_id;
            if count > KEYS_MAX {
                return Err(TooMuch::Keys(count));
            }
        }
        let before = self.kept.len();
        for kv in response.kvs {
            if kv.key.starts_with(&self.prefix) {
                self.put(kv)?;
            }
        }
        // A page without new keys would be followed by the same.
        Ok(response.more && self.kept.len() > before)
    }

    /// From the next revision on.
    pub fn watch(&self) -> WatchCreateRequest {
        WatchCreateRequest {
            key: first_of(&self.prefix),
            range_end: end_of(&self.prefix),
            start_revision: self.revision.saturating_add(1),
            progress_notify: true,
        }
    }

    /// A response of the watch. After an error what is here is not to be relied on.
    pub fn hear(&mut self, response: WatchResponse) -> Result<Heard, TooMuch> {
        if response.canceled {
            return Ok(match response.compact_revision {
                0 if response.cancel_reason.is_empty() => Heard::Over("the watch was ended".to_owned()),
                0 => Heard::Over(response.cancel_reason),
                revision => Heard::Compacted(revision),
            });
        }
        if response.events.is_empty() {
            // Of a response with events, the header may be ahead of them.
            if !response.created {
                self.revision = self.revision.max(response.header.map_or(0, |header| header.revision));
            }
            return Ok(Heard::Nothing);
        }
        let (before, mut has_changed) = (self.revision, false);
        for event in response.events {
            let is_gone = event.kind == EventKind::Delete as i32;
            let Some(kv) = event.kv.filter(|kv| kv.mod_revision > before) else { continue };
            self.revision = self.revision.max(kv.mod_revision);
            if !kv.key.starts_with(&self.prefix) {
                continue;
            }
            has_changed = true;
            if is_gone {
                self.remove(&kv.key);
            } else {
                self.put(kv)?;
            }
        }
        Ok(if has_changed { Heard::Changed } else { Heard::Nothing })
    }

    /// Each file: its name as people are told it, and what it says. In the order of keys; what begins with a dot, or is
    /// below something that does, is none, as in directories.
    pub fn files(&self) -> impl Iterator<Item = (String, &Bytes)> {
        let of_files = self.kept.iter().filter(|(key, _)| self.is_file(key));
        of_files.map(|(key, kept)| (name_of(key), &kept.value))
    }

    /// Whether a key is one of these.
    pub fn is_file(&self, key: &[u8]) -> bool {
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or_default();
        !rest.is_empty() && !rest.split(|byte| *byte == b'/').any(|part| part.starts_with(b"."))
    }

    fn put(&mut self, kv: KeyValue) -> Result<(), TooMuch> {
        if kv.value.len() > VALUE_BYTES_MAX {
            return Err(TooMuch::Value(name_of(&kv.key)));
        }
        self.remove(&kv.key);
        self.bytes += kv.key.len() + kv.value.len();
        // What came in one message is held as a whole for as long as a part of it is.
        let value = Bytes::copy_from_slice(&kv.value);
        let key = Bytes::copy_from_slice(&kv.key);
        self.kept.insert(key, Kept { value, mod_revision: kv.mod_revision });
        if self.kept.len() > KEYS_MAX {
            return Err(TooMuch::Keys(self.kept.len()));
        }
        if self.bytes > BYTES_MAX { Err(TooMuch::Bytes) } else { Ok(()) }
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(gone) = self.kept.remove(key) {
            self.bytes -= key.len() + gone.value.len();
        }
    }
}

/// What people are told of a key: where a file would be named.
pub fn name_of(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => format!("etcd:{text}"),
        _ => format!("etcd:{}", key.escape_ascii()),
    }
}

/// The first key that has this prefix. No key is empty.
fn first_of(prefix: &Bytes) -> Bytes {
    if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix.clone() }
}

/// The first key after all that have this prefix; a byte of 0 means all to the end.
pub fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests;
