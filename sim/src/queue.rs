//! What is still to happen, in order.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987) before a small heap: what comes soon is in
//! the heap, in order; what comes later waits unsorted in a slot of a wheel, and is brought nearer
//! when its time comes. Most of what is put in are deadlines that never matter; in one large heap
//! each of them would cost a way through memory that no cache holds.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use naru_base::Instant;

/// A slot of the lowest wheel lasts 2^17 ns, 131 µs.
const SLOT_BITS: u32 = 17;
const WHEEL_BITS: u32 = 8;
const SLOTS: usize = 1 << WHEEL_BITS;
/// So many that every moment has its slot.
const WHEELS: usize = (u64::BITS - SLOT_BITS).div_ceil(WHEEL_BITS) as usize;

/// Events by time; those of one moment in the order in which they were put in.
#[derive(Debug)]
pub struct Queue<E> {
    /// All events up to the end of slot `base`. Not empty while there is any event.
    near: BinaryHeap<Reverse<Entry<E>>>,
    /// The slot of the lowest wheel that is in `near`, counted from the beginning of time.
    base: u64,
    /// A wheel turns once while the next higher one moves by a slot.
    wheels: Vec<Wheel<E>>,
    later: usize,
    sequence: u64,
    /// Kept for its memory.
    spare: Vec<Entry<E>>,
}

#[derive(Debug)]
struct Wheel<E> {
    slots: Vec<Vec<Entry<E>>>,
    /// A bit for each slot that holds something.
    taken: [u64; SLOTS / 64],
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> Queue<E> {
    pub fn new() -> Queue<E> {
        let wheel = || Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), taken: [0; SLOTS / 64] };
        Queue {
            near: BinaryHeap::new(),
            base: 0,
            wheels: (0..WHEELS).map(|_| wheel()).collect(),
            later: 0,
            sequence: 0,
            spare: Vec::new(),
        }
    }

    #[inline]
    pub fn push(&mut self, at: Instant, event: E) {
        let entry = Entry { at, sequence: self.sequence, event };
        self.sequence += 1;
        self.place(entry);
        if self.near.is_empty() {
            self.advance();
        }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        let Reverse(entry) = self.near.pop()?;
        if self.near.is_empty() && self.later > 0 {
            self.advance();
        }
        Some((entry.at, entry.event))
    }

    /// How many events there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.near.len() + self.later
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time of the next event.
    pub fn next_at(&self) -> Option<Instant> {
        self.near.peek().map(|Reverse(entry)| entry.at)
    }

    /// Into the wheel whose slot is the first that tells the event's time from `base`.
    #[inline]
    fn place(&mut self, entry: Entry<E>) {
        let slot = entry.at.0 >> SLOT_BITS;
        if slot <= self.base {
            self.near.push(Reverse(entry));
            return;
        }
        let level = ((slot ^ self.base).ilog2() / WHEEL_BITS) as usize;
        let at = (slot >> (level as u32 * WHEEL_BITS)) as usize % SLOTS;
        let wheel = &mut self.wheels[level];
        wheel.slots[at].push(entry);
        wheel.taken[at / 64] |= 1 << (at % 64);
        self.later += 1;
    }

    /// Moves on to the next slot that holds something; there must be one.
    fn advance(&mut self) {
        while self.near.is_empty() && self.later > 0 {
            let found = (0..WHEELS).find_map(|level| {
                let here = (self.base >> (level as u32 * WHEEL_BITS)) as usize % SLOTS;
                self.wheels[level].next_after(here).map(|at| (level, at))
            });
            let Some((level, at)) = found else { return };
            let shift = level as u32 * WHEEL_BITS;
            // All lower digits are zero: nothing of this slot is left behind.
            self.base = (((self.base >> shift) & !(SLOTS as u64 - 1)) | at as u64) << shift;
            let wheel = &mut self.wheels[level];
            wheel.taken[at / 64] &= !(1 << (at % 64));
            let mut entries = std::mem::replace(&mut wheel.slots[at], std::mem::take(&mut self.spare));
            self.later -= entries.len();
            for entry in entries.drain(..) {
                self.place(entry);
            }
            self.spare = entries;
        }
    }
}

impl<E> Wheel<E> {
    /// The first slot behind `here` that holds something.
    fn next_after(&self, here: usize) -> Option<usize> {
        let first = here + 1;
        (first / 64..self.taken.len()).find_map(|word| {
            let mask = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
            let bits = self.taken[word] & mask;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue::new()
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    #[inline]
    fn cmp(&self, other: &Entry<E>) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use naru_base::Chance;

    use super::*;

    #[test]
    fn events_of_one_moment_keep_their_order() {
        let mut queue = Queue::new();
        for (at, event) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            queue.push(Instant(at), event);
        }
        assert_eq!(queue.next_at(), Some(Instant(3)));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_end_of_time_and_its_beginning_have_their_slots() {
        let mut queue = Queue::new();
        let moments = [u64::MAX, 0, 1 << 17, (1 << 17) - 1, 1 << 63, u64::MAX - 1, 1 << 25, (1 << 33) + 1];
        for at in moments {
            queue.push(Instant(at), ());
        }
        let mut sorted = moments.to_vec();
        sorted.sort_unstable();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(at, ())| at.0).collect();
        assert_eq!(order, sorted);
        assert_eq!(queue.next_at(), None);
    }

    /// The reference is one sorted set of all events.
    #[test]
    fn whatever_is_put_in_comes_out_as_from_a_sorted_set() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "queue");
            let (mut queue, mut reference) = (Queue::new(), BTreeSet::new());
            let (mut now, mut sequence) = (0_u64, 0_u64);
            for _ in 0..400 {
                if chance.below(5) < 3 {
                    // From the same nanosecond to a day away, each magnitude as likely.
                    let magnitude = chance.below(47);
                    let ahead = chance.below(1 << magnitude);
                    queue.push(Instant(now + ahead), sequence);
                    reference.insert((now + ahead, sequence));
                    sequence += 1;
                } else {
                    let expected = reference.pop_first();
                    let found = queue.pop().map(|(at, event)| (at.0, event));
                    assert_eq!(found, expected, "seed {seed}");
                    now = found.map_or(now, |(at, _)| at);
                }
                assert_eq!(queue.len(), reference.len(), "seed {seed}");
                let next = reference.first().map(|(at, _)| Instant(*at));
                assert_eq!(queue.next_at(), next, "seed {seed}");
            }
            let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(at, event)| (at.0, event)).collect();
            assert_eq!(rest, reference.into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
