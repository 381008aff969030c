//! An object as bytes, for a disk or for a store that several gateways share.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `nca1`: the version |
//! | 8 | a sum of all that follows: what is torn is not read |
//! | 1 | 0: an object; 1: names of fields |
//!
//! Names of fields, each with a line's end, stand where an object would, if it was chosen by what requests say in them
//! (`Vary`): it stands in another place then ([`Object::field`]). An object goes on:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | how many purges were known when it was fetched ([`crate::Purges`]) |
//! | 8 | when it came, in milliseconds since 1970 |
//! | 4 × 4 | its age then, its lifetime, `stale-while-revalidate`, `stale-if-error`, in seconds |
//! | 1 | bit 0: its origin is asked first; bit 1: never stale |
//! | 2 | its status |
//! | 5 × 4 | how long are its URL, its key (with the URL), what its request said, its head, its body |
//! | | the key, what its request said, the head, the body |
//!
//! Numbers have their least byte first. A reader takes nothing for granted: bytes that are not exactly this, fields that
//! would never be kept, and another key than the one that was asked for are no object.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use naru_base::{Instant, WallTime};

use crate::hash::hash;
use crate::list::SECONDS_MAX;
use crate::object::{Head, Object};
use crate::terms::{Terms, is_stored_status, is_unstored_field};
use crate::{Key, vary};

const MAGIC: &[u8; 4] = b"nca1";
/// Of the sum: all gateways have the same.
const SEED: u64 = 0x6e61_7275_2063_6163;
/// Version, sum and kind.
const OPENING: usize = 13;
/// What of an object has always as many bytes.
const NUMBERS: usize = 8 + 8 + 16 + 1 + 2 + 20;
const KIND_OBJECT: u8 = 0;
const KIND_CHOICE: u8 = 1;
const ASKS_FIRST: u8 = 1;
const IS_STRICT: u8 = 2;
const IS_BY_ROUTE: u8 = 4;

/// What bytes mean.
#[derive(Clone, Debug)]
pub enum Packed {
    /// With how many purges were known when it was fetched.
    Object(Box<Object>, u64),
    /// Objects stand elsewhere, by what requests say in these fields.
    Choice(Bytes),
}

/// What a field of a store is called where a request may find its object, if it is chosen by these fields.
pub fn choose(key: &Key, names: &[u8], request: &HeaderMap) -> Option<Vec<u8>> {
    vary::selecting_by(names, request).map(|selecting| field(key, &selecting))
}

fn field(key: &Key, selecting: &[u8]) -> Vec<u8> {
    let mut field = key.beside().as_bytes().to_vec();
    if !selecting.is_empty() {
        // No part of a key has it.
        field.push(0);
        field.extend_from_slice(selecting);
    }
    field
}

/// The bytes that lead to an object that was chosen by fields of its request; `None` where it was not.
pub fn pack_choice(object: &Object) -> Option<Vec<u8>> {
    if object.selecting.is_empty() {
        return None;
    }
    Some(close(KIND_CHOICE, |out| out.extend(vary::names_of(&object.selecting))))
}

fn close(kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(OPENING);
    out.extend_from_slice(MAGIC);
    out.put_u64_le(0);
    out.push(kind);
    write(&mut out);
    seal(&mut out);
    out
}

/// Puts the sum where it stands, for whoever has written all else.
pub fn seal(bytes: &mut [u8]) {
    let sum = hash(SEED, bytes.get(12..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(4..12) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

impl Object {
    /// Where it stands among the objects of its URL.
    pub fn field(&self) -> Vec<u8> {
        field(&self.key, &self.selecting)
    }

    /// `purges`: how many were known when it was fetched.
    pub fn pack(&self, purges: u64, now: Instant, wall: WallTime) -> Vec<u8> {
        let Terms { came, age, lifetime, stale_while_revalidate, stale_if_error, .. } = self.terms;
        let Terms { asks_first, is_strict, is_by_route, .. } = self.terms;
        let came = wall.0.saturating_sub(now.0.saturating_sub(came.0)) / 1_000_000;
        let (key, url_len) = self.key.text();
        let head = pack_head(&self.head);
        close(KIND_OBJECT, |out| {
            let parts = [key.as_bytes(), &self.selecting, &head, &self.body];
            out.reserve(NUMBERS + parts.iter().map(|part| part.len()).sum::<usize>());
            out.put_u64_le(purges);
            out.put_u64_le(came);
            for number in [age, lifetime, stale_while_revalidate, stale_if_error] {
                out.put_u32_le(number);
            }
            let flags = [(asks_first, ASKS_FIRST), (is_strict, IS_STRICT), (is_by_route, IS_BY_ROUTE)];
            out.push(flags.into_iter().map(|(is_so, flag)| u8::from(is_so) * flag).sum());
            out.put_u16_le(self.status);
            out.put_u32_le(url_len);
            // All of it is in memory, of which an object is a small part.
            parts.iter().for_each(|part| out.put_u32_le(part.len() as u32));
            parts.iter().for_each(|part| out.extend_from_slice(part));
        })
    }
}

impl Packed {
    /// `None` where it is none of ours. Parts of an object share the memory of the bytes.
    pub fn read(bytes: &Bytes, now: Instant, wall: WallTime) -> Option<Packed> {
        let mut rest = bytes.clone();
        if rest.len() < OPENING || rest.split_to(4) != MAGIC[..] {
            return None;
        }
        let sum = rest.get_u64_le();
        if hash(SEED, &rest) != sum {
            return None;
        }
        match rest.get_u8() {
            KIND_OBJECT => read_object(rest, now, wall),
            KIND_CHOICE => Some(Packed::Choice(rest)),
            _ => None,
        }
    }

    /// The object of a key that is meant for a request.
    pub fn into_object(self, key: &Key, request: &HeaderMap) -> Option<(Object, u64)> {
        match self {
            Packed::Object(object, purges) if object.key == *key && object.is_for(request) => {
                Some((*object, purges))
            }
            Packed::Object(..) | Packed::Choice(_) => None,
        }
    }
}

fn read_object(mut rest: Bytes, now: Instant, wall: WallTime) -> Option<Packed> {
    if rest.len() < NUMBERS {
        return None;
    }
    let (purges, came) = (rest.get_u64_le(), rest.get_u64_le());
    let mut seconds = || Some(rest.get_u32_le()).filter(|seconds| *seconds <= SECONDS_MAX);
    let [age, lifetime, stale_while_revalidate, stale_if_error] =
        [seconds()?, seconds()?, seconds()?, seconds()?];
    let flags = Some(rest.get_u8()).filter(|flags| *flags <= (ASKS_FIRST | IS_STRICT | IS_BY_ROUTE))?;
    let status = Some(rest.get_u16_le()).filter(|status| is_stored_status(*status))?;
    let url_len = rest.get_u32_le();
    let lengths = [rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le()];
    if lengths.iter().map(|length| u64::from(*length)).sum::<u64>() != rest.len() as u64 {
        return None;
    }
    // A clock that is behind that of the writer takes nothing away from its age.
    let since = (wall.0 / 1_000_000).saturating_sub(came) / 1_000;
    let age = age.saturating_add(u32::try_from(since).unwrap_or(SECONDS_MAX)).min(SECONDS_MAX);
    let [key, selecting, head, body] = lengths.map(|length| rest.split_to(length as usize));
    let key = Key::of_text(std::str::from_utf8(&key).ok()?, url_len)?;
    let head = read_head(&head)?;
    let terms = Terms {
        came: now,
        age,
        lifetime,
        stale_while_revalidate,
        stale_if_error,
        asks_first: flags & ASKS_FIRST != 0,
        is_strict: flags & IS_STRICT != 0,
        is_by_route: flags & IS_BY_ROUTE != 0,
    };
    let object = Object { key, selecting: selecting.to_vec().into(), status, head, body, terms };
    Some(Packed::Object(Box::new(object), purges))
}

/// For each field the lengths of name and value, and both.
fn pack_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.bytes.len() + 64);
    for (name, start, end) in head.fields() {
        // Neither is longer than a head may be.
        out.put_u16_le(name.len() as u16);
        out.put_u32_le((end - start) as u32);
        out.extend_from_slice(name);
        out.extend_from_slice(head.bytes.get(start..end).unwrap_or_default());
    }
    out
}

/// `None` unless all of it is read, is what a field may be, and is kept of answers.
fn read_head(bytes: &[u8]) -> Option<Head> {
    let mut read = 0;
    let is_each = fields_of(bytes).all(|(name, value)| {
        read += 6 + name.len() + value.len();
        let is_name = HeaderName::from_bytes(name.as_bytes())
            .is_ok_and(|known| known.as_str() == name && !is_unstored_field(known.as_str()));
        is_name && HeaderValue::from_bytes(value).is_ok()
    });
    (is_each && read == bytes.len()).then(|| Head::of(|| fields_of(bytes)))
}

/// As [`pack_head`] has written them, as far as they are any.
fn fields_of(bytes: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let name_len = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        let value_len = u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize;
        let name = std::str::from_utf8(rest.get(6..6 + name_len)?).ok()?;
        let end = (6 + name_len).checked_add(value_len)?;
        let value = rest.get(6 + name_len..end)?;
        rest = rest.get(end..)?;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_spec::CacheKeyParts;

    use super::*;
    use crate::Place;
    use crate::headers;

    const WALL: WallTime = WallTime(784_111_777 * 1_000_000_000);
    const NOW: Instant = Instant(50_000_000_000);

    fn key() -> Key {
        let place = Place { is_tls: true, authority: "a", target: "/x?y" };
        Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &["rule", "cluster"])
    }

    fn object(vary: &'static str, request: &HeaderMap) -> Object {
        let head = headers(&[("vary", vary), ("etag", "\"e\""), ("cache-tag", "a b")]);
        let terms = Terms {
            came: Instant(20_000_000_000),
            age: 5,
            lifetime: 60,
            stale_while_revalidate: 7,
            stale_if_error: 8,
            asks_first: false,
            is_strict: true,
            is_by_route: true,
        };
        let body = Bytes::from_static(b"body");
        Object::new(key(), request, 200, &head, body, terms).expect("no star")
    }

    #[test]
    fn an_object_is_what_it_was_and_goes_on_growing_old() {
        let none = HeaderMap::new();
        let before = object(",", &none);
        assert_eq!(pack_choice(&before), None);
        let bytes = Bytes::from(before.pack(9, NOW, WALL));
        let later = WALL + Duration::from_secs(4);
        let read = Packed::read(&bytes, Instant(1), later).expect("an object");
        let (after, purges) = read.into_object(&key(), &none).expect("of this key");
        assert_eq!((purges, after.status, &after.body[..]), (9, 200, &b"body"[..]));
        assert_eq!(
            (&after.head, &after.key, &after.selecting),
            (&before.head, &before.key, &before.selecting)
        );
        let expected = Terms { came: Instant(1), age: 39, ..before.terms };
        assert_eq!(after.terms, expected);
        let early = Packed::read(&bytes, Instant(1), WallTime(0)).expect("an object");
        let (early, _) = early.into_object(&key(), &none).expect("of this key");
        assert_eq!(early.terms.age, 5, "a clock that is behind");
    }

    #[test]
    fn what_was_chosen_by_fields_is_found_by_them() {
        let request = headers(&[("accept-language", "de"), ("x", "1")]);
        let object = object("X, Accept-Language", &request);
        let choice = Bytes::from(pack_choice(&object).expect("it was chosen"));
        let Some(Packed::Choice(names)) = Packed::read(&choice, NOW, WALL) else { panic!("a choice") };
        assert_eq!(&names[..], b"accept-language\nx\n");
        assert_eq!(choose(&key(), &names, &request), Some(object.field()));
        let other = headers(&[("accept-language", "fr"), ("x", "1")]);
        assert_ne!(choose(&key(), &names, &other), Some(object.field()));
        let read = Packed::read(&Bytes::from(object.pack(0, NOW, WALL)), NOW, WALL).expect("an object");
        assert!(read.clone().into_object(&key(), &other).is_none());
        assert!(read.into_object(&key(), &request).is_some());
        for strange in [&b""[..], b"x\naccept-language\n", b"a b\n", b"x\nx\n"] {
            assert_eq!(choose(&key(), strange, &request), None, "{strange:?}");
        }
    }

    #[test]
    fn what_is_torn_or_changed_is_not_read() {
        let bytes = object(",", &HeaderMap::new()).pack(9, NOW, WALL);
        for end in 0..bytes.len() {
            assert!(Packed::read(&Bytes::copy_from_slice(&bytes[..end]), NOW, WALL).is_none(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(Packed::read(&Bytes::from(changed), NOW, WALL).is_none(), "{at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Packed::read(&Bytes::from(longer), NOW, WALL).is_none());
    }

    #[test]
    fn what_would_never_be_kept_is_no_object() {
        let check = |change: fn(&mut Object)| {
            let mut object = object(",", &HeaderMap::new());
            change(&mut object);
            Packed::read(&Bytes::from(object.pack(0, NOW, WALL)), NOW, WALL).is_none()
        };
        assert!(!check(|_| {}));
        for status in [0, 100, 206, 304, 1_000] {
            let mut of_status = object(",", &HeaderMap::new());
            of_status.status = status;
            let bytes = Bytes::from(of_status.pack(0, NOW, WALL));
            assert!(Packed::read(&bytes, NOW, WALL).is_none(), "{status}");
        }
        assert!(check(|object| object.head = Head::pack(&headers(&[("connection", "x")]))));
        assert!(check(|object| object.head = Head::pack(&headers(&[("age", "1")]))));
        assert!(read_head(b"\x01\0\x01\0\0\0a1").is_some());
        for wrong in [
            &b"\x01\0\x01\0\0\0a\n"[..],
            b"\x01\0\x01\0\0\0A1",
            b"\x01\0\x02\0\0\0a1",
            b"\x01\0\x01\0\0\0a1\x01",
            b"\x01\0\xff\xff\xff\xffa1",
            b"\x01\0\x01\0\0\0\xff1",
        ] {
            assert!(read_head(wrong).is_none(), "{wrong:?}");
        }
        assert!(check(|object| object.terms.lifetime = u32::MAX));
    }
}
