//! What is still to happen, in order.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987) before a small heap: what comes soon is in
//! the heap, in order; what comes later waits unsorted in a slot of a wheel, and is brought nearer
//! when its time comes. Most of what is put in are deadlines that never matter: they are taken out
//! again, so that what is left fits into a cache.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use naru_base::Instant;

/// A slot of the lowest wheel lasts 2^17 ns, 131 µs.
const SLOT_BITS: u32 = 17;
const WHEEL_BITS: u32 = 8;
const SLOTS: usize = 1 << WHEEL_BITS;
/// So many that every moment has its slot.
const WHEELS: usize = (u64::BITS - SLOT_BITS).div_ceil(WHEEL_BITS) as usize;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Events by time; those of one moment in the order in which they were put in.
#[derive(Debug)]
pub struct Queue<E> {
    entries: Vec<Entry<E>>,
    /// The first of the entries that hold nothing.
    free: u32,
    /// All events up to the end of slot `base`, and some that were taken out; the first is none of those.
    /// Not empty while there is any event.
    near: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    /// The slot of the lowest wheel that is in `near`, counted from the beginning of time.
    base: u64,
    /// A wheel turns once while the next higher one moves by a slot.
    wheels: Vec<Wheel>,
    events: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Wheel {
    /// The first entry of each slot.
    slots: [u32; SLOTS],
    /// A bit for each slot that holds something.
    taken: [u64; SLOTS / 64],
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    /// The neighbours in the list of its slot, or the next one that holds nothing.
    previous: u32,
    next: u32,
    /// In the list of a slot; in `near` otherwise.
    is_later: bool,
    event: Option<E>,
}

/// An event that may be taken out of the queue again.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    entry: u32,
    sequence: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Queue<E> {
        let wheel = || Wheel { slots: [NONE; SLOTS], taken: [0; SLOTS / 64] };
        Queue {
            entries: Vec::new(),
            free: NONE,
            near: BinaryHeap::new(),
            base: 0,
            wheels: (0..WHEELS).map(|_| wheel()).collect(),
            events: 0,
            sequence: 0,
        }
    }

    #[inline]
    pub fn push(&mut self, at: Instant, event: E) -> Handle {
        let sequence = self.sequence;
        self.sequence += 1;
        self.events += 1;
        let entry = Entry { at, sequence, previous: NONE, next: NONE, is_later: false, event: Some(event) };
        let index = self.free;
        let index = if let Some(place) = self.entries.get_mut(index as usize) {
            self.free = place.next;
            *place = entry;
            index
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        self.place(index);
        if self.near.is_empty() {
            self.advance();
        }
        Handle { entry: index, sequence }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        let Reverse((at, _, index)) = self.near.pop()?;
        let event = self.entries[index as usize].event.take()?;
        self.give_back(index);
        self.events -= 1;
        self.clear_front();
        Some((at, event))
    }

    /// Takes an event out; one that has come is not there any more.
    #[inline]
    pub fn cancel(&mut self, handle: Handle) {
        let entry = &mut self.entries[handle.entry as usize];
        if entry.sequence != handle.sequence || entry.event.take().is_none() {
            return;
        }
        self.events -= 1;
        if entry.is_later {
            self.unlink(handle.entry);
            self.give_back(handle.entry);
        } else {
            self.clear_front();
        }
    }

    /// How many events there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.events
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time of the next event.
    pub fn next_at(&self) -> Option<Instant> {
        self.near.peek().map(|Reverse((at, ..))| *at)
    }

    /// What was taken out does not stand in front.
    #[inline]
    fn clear_front(&mut self) {
        while let Some(Reverse((.., index))) = self.near.peek()
            && self.entries[*index as usize].event.is_none()
        {
            let index = *index;
            self.near.pop();
            self.give_back(index);
        }
        if self.near.is_empty() && self.events > 0 {
            self.advance();
        }
    }

    #[inline]
    fn give_back(&mut self, index: u32) {
        self.entries[index as usize].next = self.free;
        self.free = index;
    }

    /// The wheel and the slot of it that is the first to tell a moment from `base`.
    #[inline]
    fn slot_of(&self, at: Instant) -> Option<(usize, usize)> {
        let slot = at.0 >> SLOT_BITS;
        if slot <= self.base {
            return None;
        }
        let level = (slot ^ self.base).ilog2() / WHEEL_BITS;
        Some((level as usize, (slot >> (level * WHEEL_BITS)) as usize % SLOTS))
    }

    #[inline]
    fn place(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let Some((level, at)) = self.slot_of(entry.at) else {
            self.near.push(Reverse((entry.at, entry.sequence, index)));
            self.entries[index as usize].is_later = false;
            return;
        };
        let wheel = &mut self.wheels[level];
        let next = std::mem::replace(&mut wheel.slots[at], index);
        wheel.taken[at / 64] |= 1 << (at % 64);
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.is_later) = (NONE, next, true);
    }

    /// Takes an entry out of the list of its slot.
    #[inline]
    fn unlink(&mut self, index: u32) {
        let Entry { at, previous, next, .. } = self.entries[index as usize];
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        if let Some(previous) = self.entries.get_mut(previous as usize) {
            previous.next = next;
        } else if let Some((level, at)) = self.slot_of(at) {
            let wheel = &mut self.wheels[level];
            wheel.slots[at] = next;
            if next == NONE {
                wheel.taken[at / 64] &= !(1 << (at % 64));
            }
        }
    }

    /// Moves on to the next slot that holds something; there must be one.
    fn advance(&mut self) {
        while self.near.is_empty() {
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
            let mut index = std::mem::replace(&mut wheel.slots[at], NONE);
            while index != NONE {
                let next = self.entries[index as usize].next;
                self.place(index);
                index = next;
            }
        }
    }
}

impl Wheel {
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

    /// The reference is one sorted set of all events. Of what is taken out, some has come already.
    #[test]
    fn whatever_is_put_in_comes_out_as_from_a_sorted_set() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "queue");
            let (mut queue, mut reference) = (Queue::new(), BTreeSet::new());
            let mut handles = Vec::new();
            let (mut now, mut sequence) = (0_u64, 0_u64);
            for _ in 0..600 {
                let what = chance.below(8);
                if what < 4 {
                    // From the same nanosecond to a day away, each magnitude as likely.
                    let magnitude = chance.below(47);
                    let at = now + chance.below(1 << magnitude);
                    handles.push((queue.push(Instant(at), sequence), at));
                    reference.insert((at, sequence));
                    sequence += 1;
                } else if what < 6 && sequence > 0 {
                    let which = chance.below(sequence);
                    let (handle, at) = handles[which as usize];
                    queue.cancel(handle);
                    reference.remove(&(at, which));
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
