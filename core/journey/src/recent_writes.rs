//! Which sessions have written lately?
//!
//! A table of fixed size. A session has two places in it, by its number; a write raises both to the moment until
//! which the session reads from the group for writes, and a read looks whether both are ahead of now. So a session
//! that has written is never missed; sessions that share both places are taken for one another, and then a read goes
//! to the group for writes that could have gone to the other. Of reads of sessions that have not written, that is one
//! in 180 where 5,000 sessions have written within the time, one in 4,000 where 1,000 have. Nothing is forgotten but
//! by time passing, nothing is allocated, nobody waits.
//!
//! In the proxy the words are atomics that all workers of a process share, and which outlive a configuration.
//! Source: Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970; with moments instead of bits.

use naru_admit::Word;
use naru_base::Instant;
use naru_route::SessionId;

/// A power of two: an index is some bits of a session. With words of eight bytes, a mebibyte.
pub const PLACES: usize = 1 << 17;

#[derive(Debug)]
pub struct RecentWrites<W> {
    places: Box<[W]>,
}

impl<W: Word + Default> Default for RecentWrites<W> {
    fn default() -> RecentWrites<W> {
        RecentWrites { places: (0..PLACES).map(|_| W::default()).collect() }
    }
}

impl<W: Word> RecentWrites<W> {
    /// A write of the session is done: what it reads before `until` it reads from the group for writes.
    pub fn wrote(&self, until: Instant, session: SessionId) {
        for place in self.places(session) {
            // A place that is ahead of this already is as good.
            let _ = place.change(|known| (known < until.0).then_some(until.0));
        }
    }

    pub fn has_written(&self, now: Instant, session: SessionId) -> bool {
        self.places(session).all(|place| now.0 < place.read())
    }

    fn places(&self, session: SessionId) -> impl Iterator<Item = &W> {
        let last = PLACES as u64 - 1;
        let (low, high) = (session.0 & last, session.0 >> 32 & last);
        [low, high].into_iter().filter_map(|at| self.places.get(at as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use naru_base::Chance;

    use super::*;

    type Table = RecentWrites<Cell<u64>>;

    #[test]
    fn a_write_counts_up_to_its_moment_and_never_shortens_another() {
        let table = Table::default();
        let (one, other) = (SessionId(0x0000_0001_0000_0002), SessionId(0x0000_0003_0000_0004));
        assert!(!table.has_written(Instant(0), one), "nobody has written");
        table.wrote(Instant(100), one);
        assert!(table.has_written(Instant(0), one) && table.has_written(Instant(99), one));
        assert!(!table.has_written(Instant(100), one));
        assert!(!table.has_written(Instant(0), other));
        table.wrote(Instant(50), one);
        assert!(table.has_written(Instant(99), one), "an earlier moment does not take time away");
        // One place in common is not enough.
        assert!(!table.has_written(Instant(0), SessionId(0x0000_0001_0000_0004)));
    }

    /// The same, and nothing is ever taken for something else.
    #[derive(Default)]
    struct RefTable(BTreeMap<SessionId, Instant>);

    impl RefTable {
        fn wrote(&mut self, until: Instant, session: SessionId) {
            let known = self.0.entry(session).or_insert(until);
            *known = until.max(*known);
        }

        fn has_written(&self, now: Instant, session: SessionId) -> bool {
            self.0.get(&session).is_some_and(|until| now < *until)
        }
    }

    #[test]
    fn no_session_that_has_written_is_missed_and_few_are_taken_for_one_that_has() {
        let (mut asked, mut mistaken) = (0_u32, 0_u32);
        for seed in 0..8 {
            let mut chance = Chance::split(seed, "recent writes");
            let (table, mut reference) = (Table::default(), RefTable::default());
            let sessions: Vec<SessionId> = (0..50_000).map(|_| SessionId(chance.draw())).collect();
            let mut now = Instant::ZERO;
            for _ in 0..50_000 {
                // About a thousand writes in each second, which count for one to five.
                now = now + Duration::from_micros(chance.below(2_000));
                let session = sessions[chance.below(sessions.len() as u64) as usize];
                if chance.below(2) == 0 {
                    let until = now + Duration::from_millis(1_000 + chance.below(4_000));
                    table.wrote(until, session);
                    reference.wrote(until, session);
                }
                let session = sessions[chance.below(sessions.len() as u64) as usize];
                let (says, is) = (table.has_written(now, session), reference.has_written(now, session));
                assert!(says || !is, "seed {seed}: {session:?} is missed");
                asked += u32::from(!is);
                mistaken += u32::from(says && !is);
            }
        }
        assert!(mistaken * 300 < asked, "{mistaken} of {asked}");
    }
}
