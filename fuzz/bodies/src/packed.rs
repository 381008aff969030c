//! What a disk or a store says that an answer is.
//!
//! The bytes as they are, and the same with a right sum: what stands behind the sum is what a fuzzer is to find.

use bytes::Bytes;
use http::HeaderMap;
use naru_base::{Instant, WallTime};
use naru_cache::{Key, Packed, Place, choose, judge, seal};
use naru_spec::CacheKeyParts;

/// A Sunday in 1994.
const WALL: WallTime = WallTime(784_111_777 * 1_000_000_000);
const NOW: Instant = Instant(1_000_000_000);

/// What is read is what would be kept, and is the same when it is written again.
pub fn packed(bytes: &[u8]) {
    read(Bytes::copy_from_slice(bytes));
    let mut sealed = [b"nca1".as_slice(), &[0; 8], bytes].concat();
    seal(&mut sealed);
    read(Bytes::from(sealed));
}

fn read(bytes: Bytes) {
    let mut request = HeaderMap::new();
    request.insert("accept-language", http::HeaderValue::from_static("de"));
    match Packed::read(&bytes, NOW, WALL) {
        Some(Packed::Choice(names)) => {
            let place = Place { is_tls: false, authority: "a", target: "/" };
            let key = Key::new(place, &CacheKeyParts::default(), &request, &["rule", "cluster"]);
            if let Some(field) = choose(&key, &names, &request) {
                assert!(field.starts_with(key.beside().as_bytes()) && field.contains(&0));
            }
        }
        Some(Packed::Object(object, purges)) => {
            assert!(!object.key.url().is_empty() && object.key.url().len() <= object.key.len());
            let head = object.head.unpack();
            assert!(!head.contains_key("connection") && !head.contains_key("age"));
            assert!(object.cost() >= object.body.len() && object.body.len() <= bytes.len());
            judge(&object.terms, &naru_cache::Asked::of(&request, true), NOW);
            let again = Bytes::from(object.pack(purges, NOW, WALL));
            let Some(Packed::Object(same, known)) = Packed::read(&again, NOW, WALL) else {
                panic!("what was read is not read again");
            };
            assert_eq!((known, same.status, same.terms), (purges, object.status, object.terms));
            assert!(same.key == object.key && same.head == object.head && same.body == object.body);
            assert_eq!(same.field(), object.field());
        }
        None => {}
    }
}
