//! How are documents written so that two who write do not overwrite each other?
//!
//! One transaction: it asks whether anything below the prefix is newer than what was read, and writes only where nothing
//! is. What is gone meanwhile is no newer key, so keys are asked for one by one, too, as many as etcd takes in one
//! transaction; and everybody who writes by this leaves a [mark](MARK), which is always newer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::keys::{Keys, end_of, name_of};
use crate::proto::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, Relation, Request, RequestOp, Target, TxnRequest,
    TxnResponse,
};

/// Below the prefix: who has written last. It begins with a dot, so that it is no document.
pub const MARK: &str = ".naru";
/// Etcd takes 128 in one transaction, unless it is told otherwise (`--max-txn-ops`).
pub const COMPARES_MAX: usize = 120;
/// Of those who were faster, so many are named.
const NAMED_MAX: i64 = 3;

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub request: TxnRequest,
    /// Names of keys that are written, and that are removed.
    pub puts: Vec<String>,
    pub removes: Vec<String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    At(i64),
    /// Nothing is written: these are newer than what was read; none where something is gone.
    Behind(Vec<String>),
}

/// `wanted` becomes all that there is below the prefix: keys and values. `known` is what was read. `None` where it is so
/// already.
pub fn change(known: &Keys, wanted: &BTreeMap<Bytes, Bytes>, mark: &[u8]) -> Option<Change> {
    let prefix = known.prefix();
    let mark_key = Bytes::from([prefix, MARK.as_bytes()].concat());
    let kept = known.kept();
    let is_other = |(key, value): &(&Bytes, &Bytes)| {
        kept.get(*key).is_none_or(|kept| kept.value != **value) && **key != mark_key
    };
    let puts: Vec<_> = wanted.iter().filter(is_other).collect();
    // What is no file is somebody else's.
    let files = kept.keys().filter(|key| known.is_file(key));
    let removes: Vec<_> = files.filter(|key| !wanted.contains_key(*key)).collect();
    if puts.is_empty() && removes.is_empty() {
        return None;
    }
    let mut compare = vec![Compare {
        relation: Relation::Less as i32,
        target: Target::Mod as i32,
        key: prefix.clone(),
        mod_revision: Some(known.revision().saturating_add(1)),
        range_end: end_of(prefix),
    }];
    let changed = puts.iter().map(|(key, _)| *key).chain(removes.iter().copied());
    let changed: BTreeSet<&Bytes> = changed.filter(|key| kept.contains_key(*key)).collect();
    let others = kept.keys().filter(|key| !changed.contains(key));
    for key in changed.iter().copied().chain(others).take(COMPARES_MAX) {
        let mod_revision = kept.get(key).map_or(0, |kept| kept.mod_revision);
        compare.push(Compare {
            relation: Relation::Equal as i32,
            target: Target::Mod as i32,
            key: key.clone(),
            mod_revision: Some(mod_revision),
            range_end: Bytes::new(),
        });
    }
    let put = |key: &Bytes, value: &[u8]| {
        Request::Put(PutRequest { key: key.clone(), value: Bytes::copy_from_slice(value), lease: 0 })
    };
    let success =
        puts.iter()
            .map(|(key, value)| put(key, value))
            .chain(removes.iter().map(|key| {
                Request::Delete(DeleteRangeRequest { key: (*key).clone(), range_end: Bytes::new() })
            }))
            .chain([put(&mark_key, mark)]);
    let newer = RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: NAMED_MAX,
        keys_only: true,
        min_mod_revision: known.revision().saturating_add(1),
        ..RangeRequest::default()
    };
    let request = TxnRequest {
        compare,
        success: success.map(|request| RequestOp { request: Some(request) }).collect(),
        failure: vec![RequestOp { request: Some(Request::Range(newer)) }],
    };
    let named = |keys: &[&Bytes]| keys.iter().map(|key| name_of(key)).collect();
    let put_keys: Vec<&Bytes> = puts.iter().map(|(key, _)| *key).collect();
    Some(Change { request, puts: named(&put_keys), removes: named(&removes) })
}

impl Written {
    pub fn of(response: TxnResponse) -> Written {
        if response.succeeded {
            return Written::At(response.header.map_or(0, |header| header.revision));
        }
        let found = response.responses.into_iter().filter_map(|part| part.range);
        Written::Behind(found.flat_map(|range| range.kvs).map(|kv| name_of(&kv.key)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::{COMPARES_MAX, Written, change};
    use crate::keys::Keys;
    use crate::proto::{Header, KeyValue, RangeResponse, Relation, Request, ResponseOp, TxnResponse};

    fn known(files: &[(&str, &str, i64)]) -> Keys {
        let mut keys = Keys::new("/naru/");
        let kvs = files.iter().map(|(key, value, mod_revision)| KeyValue {
            key: Bytes::from((*key).to_owned()),
            value: Bytes::from((*value).to_owned()),
            mod_revision: *mod_revision,
            create_revision: 1,
        });
        let header = Some(Header { cluster_id: 1, revision: 9 });
        let response = RangeResponse { header, kvs: kvs.collect(), ..RangeResponse::default() };
        assert!(!keys.page(0, response).unwrap());
        keys
    }

    fn wanted(files: &[(&str, &str)]) -> BTreeMap<Bytes, Bytes> {
        let bytes = |text: &str| Bytes::from(text.to_owned());
        files.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
    }

    #[test]
    fn only_what_is_another_is_written_and_everything_is_asked_for() {
        let files = [("/naru/.naru", "m", 8), ("/naru/a", "1", 3), ("/naru/b", "2", 4), ("/naru/c", "3", 5)];
        let known = known(&files);
        let change =
            change(&known, &wanted(&[("/naru/a", "1"), ("/naru/b", "x"), ("/naru/d", "4")]), b"me").unwrap();
        assert_eq!(change.puts, ["etcd:/naru/b", "etcd:/naru/d"]);
        assert_eq!(change.removes, ["etcd:/naru/c"]);
        let written: Vec<String> = change
            .request
            .success
            .iter()
            .map(|part| match part.request.as_ref().unwrap() {
                Request::Put(put) => format!("{:?}={:?}", put.key, put.value),
                Request::Delete(gone) => format!("-{:?}", gone.key),
                Request::Range(_) => "?".to_owned(),
            })
            .collect();
        assert_eq!(
            written,
            ["b\"/naru/b\"=b\"x\"", "b\"/naru/d\"=b\"4\"", "-b\"/naru/c\"", "b\"/naru/.naru\"=b\"me\""]
        );
        let mut compared: Vec<_> = change
            .request
            .compare
            .iter()
            .map(|compare| (&compare.key[..], compare.relation, compare.mod_revision.unwrap()))
            .collect();
        assert_eq!(compared.remove(0), (&b"/naru/"[..], Relation::Less as i32, 10));
        assert_eq!(&change.request.compare[0].range_end[..], b"/naru0");
        compared.sort();
        let equal = Relation::Equal as i32;
        assert_eq!(
            compared,
            [
                (&b"/naru/.naru"[..], equal, 8),
                (b"/naru/a", equal, 3),
                (b"/naru/b", equal, 4),
                (b"/naru/c", equal, 5)
            ]
        );
    }

    #[test]
    fn nothing_is_written_where_nothing_is_another() {
        let known = known(&[("/naru/.naru", "m", 8), ("/naru/a", "1", 3)]);
        assert_eq!(change(&known, &wanted(&[("/naru/a", "1")]), b"me"), None);
    }

    #[test]
    fn of_many_keys_those_that_change_are_asked_for_first() {
        let names: Vec<String> = (0..500).map(|at| format!("/naru/{at:03}")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), "1", 3)).collect();
        let mut all: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        all.remove(499);
        all[400].1 = "2";
        let change = change(&known(&files), &wanted(&all), b"me").unwrap();
        assert_eq!(change.request.compare.len(), 1 + COMPARES_MAX);
        assert_eq!(&change.request.compare[1].key[..], b"/naru/400");
        assert_eq!(&change.request.compare[2].key[..], b"/naru/499");
    }

    #[test]
    fn who_was_faster_is_named() {
        let kv = KeyValue { key: Bytes::from_static(b"/naru/a"), ..KeyValue::default() };
        let range = RangeResponse { kvs: vec![kv], ..RangeResponse::default() };
        let response =
            TxnResponse { responses: vec![ResponseOp { range: Some(range) }], ..TxnResponse::default() };
        assert_eq!(Written::of(response), Written::Behind(vec!["etcd:/naru/a".to_owned()]));
        let header = Some(Header { cluster_id: 1, revision: 12 });
        let response = TxnResponse { header, succeeded: true, ..TxnResponse::default() };
        assert_eq!(Written::of(response), Written::At(12));
    }
}
