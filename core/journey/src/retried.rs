//! Which requests were tried again, for all that could be, a moment ago?
//!
//! A service that is called calls others through us: when its answer is an error because theirs was, and theirs was
//! tried again already, nobody further away tries again ([`naru_recover::layer`]). All that share this memory know of
//! each other. It has one word for each of a few thousand places; a newer request takes the place of an older one, which
//! is then forgotten: it may be retried once too often.

use naru_admit::Word;
use naru_base::Instant;

const PLACES: usize = 4_096;
/// Of a word, the lower half is when it was, in milliseconds; the upper half says who.
const MILLISECONDS: u64 = 0xffff_ffff;

#[derive(Debug)]
pub struct Retried<W> {
    places: Box<[W]>,
}

impl<W: Word + Default> Default for Retried<W> {
    fn default() -> Retried<W> {
        Retried { places: (0..PLACES).map(|_| W::default()).collect() }
    }
}

impl<W: Word> Retried<W> {
    pub fn tell(&self, now: Instant, trace: u64) {
        if let Some(place) = self.place(trace) {
            let _ = place.change(|_| Some(word(now, trace)));
        }
    }

    pub fn was(&self, trace: u64, since: Instant) -> bool {
        let found = self.place(trace).map_or(0, Word::read);
        let earliest = word(since, trace);
        // They are the same who, and the time has not run round: it does so every seven weeks.
        found & !MILLISECONDS == earliest & !MILLISECONDS && found >= earliest
    }

    fn place(&self, trace: u64) -> Option<&W> {
        self.places.get(trace as usize % PLACES)
    }
}

fn word(at: Instant, trace: u64) -> u64 {
    (trace & !MILLISECONDS) | ((at.0 / 1_000_000) & MILLISECONDS)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_was_told_since_then_is_known() {
        let retried = Retried::<Cell<u64>>::default();
        let at = |ms: u64| Instant(ms * 1_000_000);
        let (one, same_place) = (0xabcd_ef01_0000_0007, 0x1234_5678_0000_0007);
        assert!(!retried.was(one, at(0)));
        retried.tell(at(50), one);
        assert!(retried.was(one, at(50)) && retried.was(one, at(10)));
        assert!(!retried.was(one, at(51)), "that was before the request began");
        assert!(!retried.was(same_place, at(10)));
        retried.tell(at(60), same_place);
        assert!(!retried.was(one, at(10)), "forgotten");
    }
}
