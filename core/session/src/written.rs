//! How rings and families are written for a store: a version, then lengths and bytes. What is written is sealed by the
//! shell before anybody else sees it; what is read may be anything all the same.

use std::sync::Arc;

use naru_base::{Json, WallTime};

use crate::{Family, Id, Key, Ring, Said};

const RING: u8 = 1;
const FAMILY: u8 = 2;
/// One whose claims are not all texts.
const FAMILY_OF_VALUES: u8 = 3;
pub(crate) const ATTEMPT: u8 = 4;
/// Values may stand in each other so deep.
const DEPTH_MAX: u32 = 32;
/// Of keys, claims and texts. More is written by nobody.
const COUNT_MAX: u32 = 4_096;
const BYTES_MAX: u32 = 65_536;

pub fn ring(ring: &Ring) -> Vec<u8> {
    let mut out = vec![RING];
    put(&mut out, ring.version());
    let keys: Vec<&Key> = ring.keys().collect();
    put_count(&mut out, keys.len());
    for key in keys {
        out.extend_from_slice(&key.id.0.to_be_bytes());
        put(&mut out, key.began.0);
        put(&mut out, key.ended.map_or(u64::MAX, |ended| ended.0.min(u64::MAX - 1)));
        put_bytes(&mut out, &key.material);
    }
    out
}

/// # Errors
/// It is no ring.
pub fn read_ring(bytes: &[u8]) -> Result<Ring, &'static str> {
    let mut reader = Reader::of(bytes, RING)?;
    let version = reader.number()?;
    let mut keys = Vec::new();
    for _ in 0..reader.count()? {
        let id = Id(u128::from_be_bytes(reader.array()?));
        let began = WallTime(reader.number()?);
        let ended = Some(reader.number()?).filter(|ended| *ended != u64::MAX).map(WallTime);
        keys.push(Key { id, began, ended, material: Arc::from(reader.bytes()?) });
    }
    reader.end()?;
    Ring::of(version, keys)
}

pub fn family(family: &Family) -> Vec<u8> {
    // Whoever knows only texts goes on reading those that have no others.
    let are_texts = family.claims.iter().all(|(_, said)| matches!(said, Said::Text(_)));
    let kind = if are_texts { FAMILY } else { FAMILY_OF_VALUES };
    let mut out = vec![kind, u8::from(family.is_revoked)];
    for number in [family.began.0, family.expires.0, family.generation, family.rotated.0] {
        put(&mut out, number);
    }
    put_bytes(&mut out, family.subject.as_bytes());
    put_count(&mut out, family.claims.len());
    for (name, value) in &family.claims {
        put_bytes(&mut out, name.as_bytes());
        match value {
            Said::Text(text) if are_texts => put_bytes(&mut out, text.as_bytes()),
            Said::Text(text) => put_value(&mut out, &Json::Text(text.clone())),
            Said::Value(value) => put_value(&mut out, value),
        }
    }
    out
}

fn put_value(out: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => out.push(0),
        Json::Bool(is_true) => out.extend_from_slice(&[1, u8::from(*is_true)]),
        Json::Whole(whole) => {
            out.push(2);
            out.extend_from_slice(&whole.to_be_bytes());
        }
        Json::Real(real) => {
            out.push(3);
            put(out, real.to_bits());
        }
        Json::Text(text) => {
            out.push(4);
            put_bytes(out, text.as_bytes());
        }
        Json::List(values) => {
            out.push(5);
            put_count(out, values.len());
            values.iter().for_each(|value| put_value(out, value));
        }
        Json::Map(members) => {
            out.push(6);
            put_count(out, members.len());
            for (name, value) in members {
                put_bytes(out, name.as_bytes());
                put_value(out, value);
            }
        }
    }
}

/// # Errors
/// It is no family.
pub fn read_family(bytes: &[u8]) -> Result<Family, &'static str> {
    let are_texts = bytes.first() == Some(&FAMILY);
    let mut reader = Reader::of(bytes, if are_texts { FAMILY } else { FAMILY_OF_VALUES })?;
    let [is_revoked] = reader.array()?;
    let began = WallTime(reader.number()?);
    let expires = WallTime(reader.number()?);
    let generation = reader.number()?;
    let rotated = WallTime(reader.number()?);
    let subject = reader.text()?;
    let mut claims = Vec::new();
    for _ in 0..reader.count()? {
        let name = reader.text()?;
        let value = if are_texts { Json::Text(reader.text()?) } else { reader.value(DEPTH_MAX)? };
        let said = match value {
            Json::Text(text) => Said::Text(text),
            value => Said::Value(value),
        };
        claims.push((name, said));
    }
    reader.end()?;
    let family = Family { subject, claims, began, expires, generation, rotated, is_revoked: is_revoked != 0 };
    family.check_invariants().map(|()| family)
}

pub(crate) fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn of(bytes: &'a [u8], kind: u8) -> Result<Reader<'a>, &'static str> {
        let mut reader = Reader { rest: bytes };
        let [own] = reader.array()?;
        if own == kind { Ok(reader) } else { Err("of another kind") }
    }

    fn value(&mut self, depth: u32) -> Result<Json, &'static str> {
        let depth = depth.checked_sub(1).ok_or("too deep")?;
        let [kind] = self.array()?;
        Ok(match kind {
            0 => Json::Null,
            1 => {
                let [is_true] = self.array()?;
                Json::Bool(is_true != 0)
            }
            2 => Json::Whole(self.array().map(i64::from_be_bytes)?),
            3 => Json::Real(f64::from_bits(self.number()?)),
            4 => Json::Text(self.text()?),
            5 => {
                let mut values = Vec::new();
                for _ in 0..self.count()? {
                    values.push(self.value(depth)?);
                }
                Json::List(values)
            }
            6 => {
                let mut members = Vec::new();
                for _ in 0..self.count()? {
                    members.push((self.text()?, self.value(depth)?));
                }
                Json::Map(members)
            }
            _ => return Err("of an unknown kind"),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| "it ends too early")
    }

    pub fn number(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_be_bytes)
    }

    fn count(&mut self) -> Result<u32, &'static str> {
        let count = self.array().map(u32::from_be_bytes)?;
        if count <= COUNT_MAX { Ok(count) } else { Err("too many") }
    }

    fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let count = self.array().map(u32::from_be_bytes)?;
        if count > BYTES_MAX {
            return Err("too long");
        }
        self.take(count as usize)
    }

    pub fn text(&mut self) -> Result<String, &'static str> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| "no text")
    }

    pub fn end(&self) -> Result<(), &'static str> {
        if self.rest.is_empty() { Ok(()) } else { Err("something follows") }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_base::Chance;

    use super::*;

    fn examples() -> (Ring, Family) {
        let made = |id: u128| (Id(id), Arc::from(id.to_be_bytes()));
        let ring = Ring::first(WallTime(5), made(1), made(2)).rotated(WallTime(9), made(3), Duration::MAX);
        let claims = vec![("roles".to_owned(), Said::Text("writer, 편집".to_owned()))];
        let family = Family::begin(WallTime(7), "한".to_owned(), claims, Duration::from_secs(9)).revoked();
        (ring, family)
    }

    #[test]
    fn what_is_written_is_read() {
        let (own_ring, own_family) = examples();
        assert_eq!(read_ring(&ring(&own_ring)), Ok(own_ring));
        assert_eq!(read_family(&family(&own_family)), Ok(own_family));
    }

    fn of_values() -> Family {
        let (_, mut family) = examples();
        let numbers = vec![Json::Whole(-7), Json::Real(0.5), Json::Null, Json::Bool(true), "x".into()];
        let map = Json::Map(vec![("a".to_owned(), Json::List(numbers))]);
        family.claims.push(("groups".to_owned(), Said::Value(map)));
        family
    }

    #[test]
    fn values_that_are_no_texts_are_kept_as_they_are() {
        let own = of_values();
        assert_eq!(read_family(&family(&own)), Ok(own.clone()));
        let (_, texts) = examples();
        assert_eq!((family(&texts)[0], family(&own)[0]), (FAMILY, FAMILY_OF_VALUES));
        let mut deep = Json::Null;
        for _ in 0..DEPTH_MAX {
            deep = Json::List(vec![deep]);
        }
        let mut deeper = own;
        deeper.claims.push(("deep".to_owned(), Said::Value(deep)));
        assert_eq!(read_family(&family(&deeper)), Err("too deep"));
    }

    #[test]
    fn anything_else_is_refused_and_never_panics() {
        let (own_ring, own_family) = examples();
        let written = [ring(&own_ring), family(&own_family), family(&of_values())];
        for bytes in &written {
            for end in 0..bytes.len() {
                assert!(read_ring(&bytes[..end]).is_err() && read_family(&bytes[..end]).is_err());
            }
            let longer = [bytes.as_slice(), b"x"].concat();
            assert!(read_ring(&longer).is_err() && read_family(&longer).is_err());
        }
        let mut chance = Chance::new(11);
        for _ in 0..20_000 {
            let mut bytes = written[chance.below(3) as usize].clone();
            for _ in 0..=chance.below(4) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.draw() as u8;
            }
            if let Ok(read) = read_ring(&bytes) {
                read.check_invariants().unwrap();
                assert_eq!(ring(&read), bytes);
            }
            if let Ok(read) = read_family(&bytes) {
                read.check_invariants().unwrap();
            }
        }
    }
}
