//! Against an etcd that is as simple as can be: a list of what each revision has changed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Heard, KEYS_MAX, Keys, TooMuch, VALUE_BYTES_MAX, end_of, name_of};
use crate::proto::{
    Event, EventKind, Header, KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchResponse,
};

/// Small, for walks that are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a revision did to keys: a value, or nothing more.
type Writes = Vec<(String, Option<String>)>;

#[derive(Default)]
struct RefEtcd {
    /// Of revision 1 on.
    log: Vec<Writes>,
    compacted: i64,
}

impl RefEtcd {
    fn revision(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap()
    }

    fn at(&self, revision: i64) -> BTreeMap<String, (String, i64)> {
        let mut state = BTreeMap::new();
        for (at, writes) in (1..).zip(&self.log).take_while(|(at, _)| *at <= revision) {
            for (key, value) in writes {
                match value {
                    Some(value) => state.insert(key.clone(), (value.clone(), at)),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    fn range(&self, asked: &RangeRequest) -> RangeResponse {
        let at = if asked.revision == 0 { self.revision() } else { asked.revision };
        let is_in = |key: &str| {
            let key = key.as_bytes();
            key >= &asked.key[..] && (asked.range_end == [0][..] || key < &asked.range_end[..])
        };
        let found: Vec<_> = self.at(at).into_iter().filter(|(key, _)| is_in(key)).collect();
        let limit = usize::try_from(asked.limit).unwrap();
        RangeResponse {
            header: Some(Header { cluster_id: 7, revision: self.revision() }),
            more: found.len() > limit,
            count: i64::try_from(found.len()).unwrap(),
            kvs: found.into_iter().take(limit).map(|(key, (value, at))| kv(&key, &value, at)).collect(),
        }
    }

    /// What is sent on a watch, in responses of several revisions, as it likes.
    fn watch(&self, asked: &WatchCreateRequest, chance: &mut Chance) -> Vec<WatchResponse> {
        if asked.start_revision < self.compacted {
            return vec![WatchResponse {
                canceled: true,
                compact_revision: self.compacted,
                ..WatchResponse::default()
            }];
        }
        let header = Some(Header { cluster_id: 7, revision: self.revision() });
        let mut said = vec![WatchResponse { header, created: true, ..WatchResponse::default() }];
        let mut events = Vec::new();
        for (at, writes) in (1..).zip(&self.log).filter(|(at, _)| *at >= asked.start_revision) {
            for (key, value) in writes.iter().filter(|(key, _)| key.as_bytes() >= &asked.key[..]) {
                if asked.range_end != [0][..] && key.as_bytes() >= &asked.range_end[..] {
                    continue;
                }
                let kind = if value.is_some() { EventKind::Put } else { EventKind::Delete };
                let kv = kv(key, value.as_deref().unwrap_or(""), at);
                events.push(Event { kind: kind as i32, kv: Some(kv) });
            }
            if chance.below(3) == 0 && !events.is_empty() {
                // The header is that of the store, not that of the events.
                let events = std::mem::take(&mut events);
                said.push(WatchResponse { header, events, ..WatchResponse::default() });
            }
        }
        said.push(WatchResponse { header, events, ..WatchResponse::default() });
        said.push(WatchResponse { header, ..WatchResponse::default() });
        said
    }
}

fn kv(key: &str, value: &str, mod_revision: i64) -> KeyValue {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    KeyValue { key, value, mod_revision, create_revision: 0 }
}

fn read(etcd: &RefEtcd, keys: &mut Keys, limit: i64) {
    while keys.page(0, etcd.range(&keys.next_page(0, limit))).unwrap() {}
}

fn is_as(keys: &Keys, etcd: &RefEtcd, prefix: &str, revision: i64) {
    let found: BTreeMap<String, (String, i64)> = keys
        .kept()
        .iter()
        .map(|(key, kept)| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            (text(key), (text(&kept.value), kept.mod_revision))
        })
        .collect();
    let mut expected = etcd.at(revision);
    expected.retain(|key, _| key.starts_with(prefix));
    assert_eq!(found, expected);
    let bytes: usize = found.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
    assert_eq!(keys.bytes, bytes);
}

#[test]
fn what_is_read_and_followed_is_what_is_there() {
    for seed in 1..200 {
        let mut chance = Chance(seed * 0x9e37_79b9);
        let mut etcd = RefEtcd::default();
        let prefix = ["/naru/", "/", "", "zz"][chance.below(4) as usize];
        let names = ["/naru/a", "/naru/b/c", "/narv", "/nar", "/naru/", "a", "zz", "zz\u{7f}", "~"];
        let write = |etcd: &mut RefEtcd, chance: &mut Chance| {
            for _ in 0..chance.below(8) {
                let mut writes: BTreeMap<String, Option<String>> = BTreeMap::new();
                for _ in 0..=chance.below(3) {
                    let name = names[chance.below(9) as usize].to_owned();
                    let value = (chance.below(3) > 0).then(|| chance.below(1_000).to_string());
                    // Etcd tells nothing of a key that is removed and was not there.
                    if value.is_some() || etcd.at(etcd.revision()).contains_key(&name) {
                        writes.insert(name, value);
                    }
                }
                if !writes.is_empty() {
                    etcd.log.push(writes.into_iter().collect());
                }
            }
        };
        write(&mut etcd, &mut chance);
        // An etcd that nobody has written to is at revision 1, not 0.
        etcd.log.insert(0, Writes::new());
        let mut keys = Keys::new(prefix);
        let limit = 1 + chance.below(4) as i64;
        let first = etcd.revision();
        let mut more = true;
        while more {
            more = keys.page(0, etcd.range(&keys.next_page(0, limit))).unwrap();
            // Others write while it is read.
            write(&mut etcd, &mut chance);
        }
        assert_eq!((keys.revision(), keys.cluster()), (first, 7));
        is_as(&keys, &etcd, prefix, first);
        for _ in 0..5 {
            for response in etcd.watch(&keys.watch(), &mut chance) {
                let before = keys.clone();
                let heard = keys.hear(response).unwrap();
                // One that comes and goes within a response leaves nothing.
                assert!(heard == Heard::Changed || before.kept == keys.kept, "seed {seed}");
                is_as(&keys, &etcd, prefix, keys.revision());
            }
            assert_eq!(keys.revision(), etcd.revision());
            write(&mut etcd, &mut chance);
        }
        etcd.compacted = etcd.revision() + 1;
        write(&mut etcd, &mut chance);
        let responses = etcd.watch(&keys.watch(), &mut chance);
        if keys.revision() + 1 < etcd.compacted {
            let heard: Vec<_> = responses.into_iter().map(|response| keys.hear(response)).collect();
            assert_eq!(heard, [Ok(Heard::Compacted(etcd.compacted))]);
        }
    }
}

#[test]
fn a_watch_that_is_over_says_why() {
    let check = |reason: &str, expected: &str| {
        let response =
            WatchResponse { canceled: true, cancel_reason: reason.to_owned(), ..WatchResponse::default() };
        assert_eq!(Keys::new("/").hear(response), Ok(Heard::Over(expected.to_owned())));
    };
    check("etcdserver: no leader", "etcdserver: no leader");
    check("", "the watch was ended");
}

#[test]
fn files_are_what_does_not_begin_with_a_dot() {
    let mut etcd = RefEtcd::default();
    let names =
        ["/naru/", "/naru/.naru", "/naru/.git/a.yaml", "/naru/b/.c", "/naru/b/c.yaml", "/naru/a", "/narub"];
    etcd.log.push(names.iter().map(|name| ((*name).to_owned(), Some("x".to_owned()))).collect());
    let mut keys = Keys::new("/naru/");
    read(&etcd, &mut keys, 100);
    let files: Vec<String> = keys.files().map(|(name, _)| name).collect();
    assert_eq!(files, ["etcd:/naru/a", "etcd:/naru/b/c.yaml"]);
}

#[test]
fn more_than_is_taken_is_told() {
    let mut keys = Keys::new("/");
    let large = Bytes::from(vec![b'x'; VALUE_BYTES_MAX + 1]);
    let response = RangeResponse {
        kvs: vec![KeyValue { value: large, ..kv("/a", "", 1) }],
        count: 1,
        ..RangeResponse::default()
    };
    let error = keys.page(0, response).unwrap_err();
    assert_eq!(error.to_string(), "etcd:/a has more than 16777216 bytes");
    let count = i64::try_from(KEYS_MAX + 1).unwrap();
    let response = RangeResponse { count, ..RangeResponse::default() };
    assert_eq!(Keys::new("/").page(0, response), Err(TooMuch::Keys(KEYS_MAX + 1)));
    // Also where they come one after another, whatever was counted.
    let mut keys = Keys::new("/");
    let kvs = (0..=KEYS_MAX).map(|at| kv(&format!("/{at:06}"), "", 1)).collect();
    assert_eq!(
        keys.page(0, RangeResponse { kvs, ..RangeResponse::default() }),
        Err(TooMuch::Keys(KEYS_MAX + 1))
    );
    let mut keys = Keys::new("/");
    let value = Bytes::from(vec![b'x'; VALUE_BYTES_MAX]);
    let mut put = |at: u32| {
        let event = Event {
            kind: 0,
            kv: Some(KeyValue { value: value.clone(), ..kv(&format!("/{at}"), "", i64::from(at) + 1) }),
        };
        keys.hear(WatchResponse { events: vec![event], ..WatchResponse::default() })
    };
    let first = (0..20).find_map(|at| put(at).err()).unwrap();
    assert_eq!(first, TooMuch::Bytes);
}

#[test]
fn the_end_of_a_prefix_is_the_first_key_behind_it() {
    let check = |prefix: &[u8], expected: &[u8]| assert_eq!(&end_of(prefix)[..], expected);
    check(b"/naru/", b"/naru0");
    check(b"a\xff\xff", b"b");
    check(b"\xff", &[0]);
    check(b"", &[0]);
}

#[test]
fn names_are_shown_and_not_obeyed() {
    assert_eq!(name_of(b"/naru/shop.yaml"), "etcd:/naru/shop.yaml");
    assert_eq!(name_of("/나루".as_bytes()), "etcd:/나루");
    assert_eq!(name_of(b"/a\x1b[2J"), "etcd:/a\\x1b[2J");
    assert_eq!(name_of(b"/\xff"), "etcd:/\\xff");
}
