//! Which values of an open descriptor came last, and what each has taken.
//!
//! As in Envoy whoever came longest ago gives way, and finds his bucket full when he comes again: `max_dynamic_descriptors`
//! is to be above the number of values that come within the time in which a bucket fills.

use std::collections::BTreeMap;

use naru_spec::defaults;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recent {
    /// The word of a value, and when it came last.
    words: BTreeMap<Box<[u8]>, (u64, u64)>,
    by_turn: BTreeMap<u64, Box<[u8]>>,
    turn: u64,
}

impl Recent {
    /// The word of a value that has come now; a new one takes the place of who came longest ago.
    pub fn come(&mut self, value: &[u8], values_max: usize) -> u64 {
        self.turn += 1;
        let word = match self.words.get_mut(value) {
            Some((word, turn)) => {
                self.by_turn.remove(turn);
                *turn = self.turn;
                *word
            }
            None => {
                while self.words.len() >= values_max.max(1) {
                    let Some((_, oldest)) = self.by_turn.pop_first() else { break };
                    self.words.remove(&oldest);
                }
                self.words.insert(value.into(), (0, self.turn));
                0
            }
        };
        self.by_turn.insert(self.turn, value.into());
        word
    }

    /// Of a value that is remembered.
    pub fn word(&self, value: &[u8]) -> Option<u64> {
        self.words.get(value).map(|(word, _)| *word)
    }

    /// Of a value that has come; nothing of one that has given way since.
    pub fn keep(&mut self, value: &[u8], word: u64) {
        if let Some((known, _)) = self.words.get_mut(value) {
            *known = word;
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.words.len(), self.by_turn.len());
        self.words.len()
    }
}

/// What values are remembered by: each behind its length, and no more of one than of a key of a rate limit.
pub fn key(entries: &[(Box<str>, Box<str>)]) -> Box<[u8]> {
    let mut key = Vec::new();
    for (_, value) in entries {
        let value = value.as_bytes();
        let value = value.get(..defaults::QUOTA_KEY_BYTES_MAX).unwrap_or(value);
        key.extend((value.len() as u32).to_be_bytes());
        key.extend(value);
    }
    key.into_boxed_slice()
}
