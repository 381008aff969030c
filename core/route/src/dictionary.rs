//! A frozen hash table from bytes to numbers: one allocation for all keys.
//!
//! Many small dictionaries share one, told apart by a scope. The keys come from the configuration,
//! so the hash need not withstand an adversary: a request can only ask.

/// A frozen map from (scope, bytes) to a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    scope: u32,
    start: u32,
    length: u32,
    value: u32,
}

/// No value is this large.
const EMPTY: u32 = u32::MAX;

impl Dictionary {
    /// Of entries with keys that differ.
    pub(crate) fn build(entries: &[(u32, Vec<u8>, u32)]) -> Dictionary {
        if entries.is_empty() {
            return Dictionary::default();
        }
        // Between one and two thirds of the slots are taken.
        let size = (entries.len() + entries.len() / 2 + 1).next_power_of_two();
        let mut slots = vec![Slot { hash: 0, scope: 0, start: 0, length: 0, value: EMPTY }; size];
        let mut bytes = Vec::with_capacity(entries.iter().map(|(_, key, _)| key.len()).sum());
        for (scope, key, value) in entries {
            let hash = hash(*scope, key);
            let mut at = hash as usize & (size - 1);
            while slots[at].value != EMPTY {
                at = (at + 1) & (size - 1);
            }
            slots[at] = Slot {
                hash,
                scope: *scope,
                start: bytes.len() as u32,
                length: key.len() as u32,
                value: *value,
            };
            bytes.extend_from_slice(key);
        }
        Dictionary { slots: slots.into(), bytes: bytes.into() }
    }

    #[inline]
    pub(crate) fn get(&self, scope: u32, key: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = hash(scope, key);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.value == EMPTY {
                return None;
            }
            if slot.hash == hash && slot.scope == scope && self.key(slot) == key {
                return Some(slot.value);
            }
            at = (at + 1) & mask;
        }
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        &self.bytes[slot.start as usize..][..slot.length as usize]
    }
}

/// Eight bytes at a time, each folded in by a 128-bit product (the idea of wyhash).
#[inline]
fn hash(scope: u32, key: &[u8]) -> u32 {
    const FIRST: u64 = 0x2d35_8dcc_aa6c_78a5;
    const SECOND: u64 = 0x8bb8_4b93_962e_acc9;
    #[inline]
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    }
    let mut state = FIRST ^ u64::from(scope) ^ ((key.len() as u64) << 32);
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), SECOND);
    }
    let mut last = 0;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    state = fold(state ^ last, SECOND);
    fold(state ^ SECOND, FIRST) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        let entries: Vec<(u32, Vec<u8>, u32)> = (0..5_000)
            .map(|n| (n % 3, format!("key-{}{}", n / 3, "x".repeat(n as usize % 17)).into_bytes(), n))
            .collect();
        let dictionary = Dictionary::build(&entries);
        for (scope, key, value) in &entries {
            assert_eq!(dictionary.get(*scope, key), Some(*value));
            assert_eq!(dictionary.get(scope + 3, key), None);
            let mut longer = key.clone();
            longer.push(b'!');
            assert_eq!(dictionary.get(*scope, &longer), None);
        }
        assert_eq!(Dictionary::build(&[]).get(0, b""), None);
        assert_eq!(Dictionary::build(&[(0, Vec::new(), 7)]).get(0, b""), Some(7));
    }
}
