//! What was below a prefix before? As far back as etcd still knows.
//!
//! Events of a watch that begins at the oldest revision that is left, one revision after another, until what they lead
//! to is what is there now.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::change::MARK;
use crate::keys::{Heard, Keys, TooMuch, name_of};
use crate::proto::{EventKind, WatchResponse};

/// The last of them are kept.
const REVISIONS_MAX: usize = 10_000;

/// One that has changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub number: i64,
    /// Documents that were there then.
    pub files: usize,
    /// Names of keys.
    pub written: Vec<String>,
    pub removed: Vec<String>,
    /// What whoever wrote has said of himself, where he did.
    pub mark: Option<Bytes>,
}

/// The revisions so far.
#[derive(Clone, Debug)]
pub struct Past {
    keys: Keys,
    revisions: VecDeque<Revision>,
}

impl Past {
    /// Begins with what was there at the oldest revision.
    pub fn new(oldest: Keys) -> Past {
        let mark_key = [oldest.prefix(), MARK.as_bytes()].concat();
        let newest = oldest.kept().values().map(|kept| kept.mod_revision).max();
        let revisions = newest.map(|number| {
            let of_then = oldest.kept().iter().filter(|(_, kept)| kept.mod_revision == number);
            let mark = oldest.kept().get(&mark_key[..]).filter(|mark| mark.mod_revision == number);
            Revision {
                number,
                files: oldest.files().count(),
                written: of_then
                    .map(|(key, _)| key)
                    .filter(|key| **key != mark_key)
                    .map(|key| name_of(key))
                    .collect(),
                removed: Vec::new(),
                mark: mark.map(|mark| mark.value.clone()),
            }
        });
        Past { revisions: revisions.into_iter().collect(), keys: oldest }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The oldest first.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.iter()
    }

    /// Whether what the events lead to is what is there now.
    pub fn is_at(&self, now: &Keys) -> bool {
        self.keys.kept() == now.kept()
    }

    /// A response of the watch.
    pub fn hear(&mut self, response: WatchResponse) -> Result<Heard, TooMuch> {
        let numbers: BTreeSet<i64> =
            response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).collect();
        if response.canceled || numbers.is_empty() {
            return self.keys.hear(response);
        }
        let mark_key = [self.keys.prefix(), MARK.as_bytes()].concat();
        let mut heard = Heard::Nothing;
        for number in numbers {
            let of_it = response
                .events
                .iter()
                .filter(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision == number));
            let events: Vec<_> = of_it.cloned().collect();
            let mut revision =
                Revision { number, files: 0, written: Vec::new(), removed: Vec::new(), mark: None };
            for event in &events {
                let Some(kv) = &event.kv else { continue };
                let is_gone = event.kind == EventKind::Delete as i32;
                if kv.key == mark_key {
                    revision.mark = (!is_gone).then(|| kv.value.clone());
                } else if is_gone {
                    revision.removed.push(name_of(&kv.key));
                } else {
                    revision.written.push(name_of(&kv.key));
                }
            }
            let one = WatchResponse { header: response.header, events, ..WatchResponse::default() };
            if self.keys.hear(one)? == Heard::Changed {
                heard = Heard::Changed;
                revision.files = self.keys.files().count();
                self.revisions.push_back(revision);
                if self.revisions.len() > REVISIONS_MAX {
                    self.revisions.pop_front();
                }
            }
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;

    use super::Past;
    use crate::keys::Keys;
    use crate::proto::{Event, EventKind, Header, KeyValue, RangeResponse, WatchResponse};

    fn event(kind: EventKind, key: &str, value: &str, mod_revision: i64) -> Event {
        let kv = KeyValue {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(value.to_owned()),
            mod_revision,
            create_revision: 0,
        };
        Event { kind: kind as i32, kv: Some(kv) }
    }

    #[test]
    fn each_revision_says_what_it_has_changed_and_who_did() {
        let mut oldest = Keys::new("/n/");
        let kv = event(EventKind::Put, "/n/a", "1", 4).kv.unwrap();
        let header = Some(Header { cluster_id: 1, revision: 5 });
        oldest.page(5, RangeResponse { header, kvs: vec![kv], ..RangeResponse::default() }).unwrap();
        let mut past = Past::new(oldest.clone());
        assert!(past.is_at(&oldest));
        let events = vec![
            event(EventKind::Put, "/n/b", "1", 6),
            event(EventKind::Put, "/n/.naru", "me", 6),
            event(EventKind::Delete, "/n/a", "", 7),
        ];
        past.hear(WatchResponse { events, ..WatchResponse::default() }).unwrap();
        let told: Vec<_> = past
            .revisions()
            .map(|one| {
                (one.number, one.files, one.written.join(","), one.removed.join(","), one.mark.is_some())
            })
            .collect();
        let text = str::to_owned;
        assert_eq!(
            told,
            [
                (4, 1, text("etcd:/n/a"), text(""), false),
                (6, 2, text("etcd:/n/b"), text(""), true),
                (7, 1, text(""), text("etcd:/n/a"), false),
            ]
        );
        assert!(!past.is_at(&oldest));
    }
}
