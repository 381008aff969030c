//! Who stays: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), in bytes.
//!
//! What comes goes into a small queue, a tenth of all; what was wanted again before it reached its end goes on into the
//! main one, and so does what was let go a short while ago and comes again. A scan passes through the small queue only.
//! Each entry is one place in both; queues are lists through the places, so that any entry can be taken out.

use crate::ghost::Ghost;

/// A place.
pub type Slot = u32;

const NONE: Slot = Slot::MAX;
/// Beyond this it does not matter how often something is wanted.
const USES_MAX: u8 = 3;
/// The small queue is one of so many parts of the whole.
const SMALL_PART: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Free,
    Small,
    Main,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Where,
    uses: u8,
    cost: u32,
    hash: u64,
    /// Towards the end that comes in.
    newer: Slot,
    older: Slot,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: Slot,
    oldest: Slot,
    bytes: u64,
}

const EMPTY: List = List { newest: NONE, oldest: NONE, bytes: 0 };

#[derive(Debug)]
pub struct Queue {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    small: List,
    main: List,
    ghost: Ghost,
    bytes_max: u64,
}

impl Queue {
    pub fn new(bytes_max: u64) -> Queue {
        let ghost = Ghost::new(bytes_max);
        let bytes_max = bytes_max.saturating_sub(ghost.bytes());
        Queue { entries: Vec::new(), free: Vec::new(), small: EMPTY, main: EMPTY, ghost, bytes_max }
    }

    pub fn bytes(&self) -> u64 {
        self.small.bytes + self.main.bytes
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes something in; then [`Queue::evict`] says who has to go for it.
    pub fn insert(&mut self, hash: u64, cost: u32) -> Slot {
        let place = if self.ghost.take(hash) { Where::Main } else { Where::Small };
        let entry = Entry { place: Where::Free, uses: 0, cost, hash, newer: NONE, older: NONE };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(free) = self.entries.get_mut(slot as usize) {
                    *free = entry;
                }
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as Slot - 1
            }
        };
        self.push(slot, place);
        slot
    }

    /// It was wanted.
    #[inline]
    pub fn touch(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.uses = (entry.uses + 1).min(USES_MAX);
        }
    }

    /// It takes another cost, and stays where it is.
    pub fn resize(&mut self, slot: Slot, cost: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let before = std::mem::replace(&mut entry.cost, cost);
        let list = match entry.place {
            Where::Small => &mut self.small,
            Where::Main => &mut self.main,
            Where::Free => return,
        };
        list.bytes = list.bytes - u64::from(before) + u64::from(cost);
    }

    /// Takes somebody out.
    pub fn remove(&mut self, slot: Slot) {
        if self.unlink(slot).is_some() {
            self.free.push(slot);
        }
    }

    /// The next who has to go; `None` once there is room for all.
    pub fn evict(&mut self) -> Option<Slot> {
        // Each turn takes one use away, moves one from the small queue to the main one, or ends.
        while self.bytes() > self.bytes_max {
            let is_small = self.small.bytes > self.bytes_max / SMALL_PART || self.main.oldest == NONE;
            let slot = if is_small { self.small.oldest } else { self.main.oldest };
            let entry = self.unlink(slot)?;
            match entry.place {
                Where::Small if entry.uses > 1 => {
                    self.set_uses(slot, 0);
                    self.push(slot, Where::Main);
                }
                Where::Main if entry.uses > 0 => {
                    self.set_uses(slot, entry.uses - 1);
                    self.push(slot, Where::Main);
                }
                Where::Small => {
                    self.ghost.put(entry.hash);
                    self.free.push(slot);
                    return Some(slot);
                }
                Where::Main | Where::Free => {
                    self.free.push(slot);
                    return Some(slot);
                }
            }
        }
        None
    }

    fn set_uses(&mut self, slot: Slot, uses: u8) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.uses = uses;
        }
    }

    fn list(&mut self, place: Where) -> Option<&mut List> {
        match place {
            Where::Small => Some(&mut self.small),
            Where::Main => Some(&mut self.main),
            Where::Free => None,
        }
    }

    fn push(&mut self, slot: Slot, place: Where) {
        let Some(cost) = self.entries.get(slot as usize).map(|entry| entry.cost) else { return };
        let Some(list) = self.list(place) else { return };
        let before = std::mem::replace(&mut list.newest, slot);
        if list.oldest == NONE {
            list.oldest = slot;
        }
        list.bytes += u64::from(cost);
        if let Some(before) = self.entries.get_mut(before as usize) {
            before.newer = slot;
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = Entry { place, newer: NONE, older: before, ..*entry };
        }
    }

    /// What it was.
    fn unlink(&mut self, slot: Slot) -> Option<Entry> {
        let entry = *self.entries.get(slot as usize)?;
        let list = self.list(entry.place)?;
        if list.newest == slot {
            list.newest = entry.older;
        }
        if list.oldest == slot {
            list.oldest = entry.newer;
        }
        list.bytes -= u64::from(entry.cost);
        if let Some(newer) = self.entries.get_mut(entry.newer as usize) {
            newer.older = entry.older;
        }
        if let Some(older) = self.entries.get_mut(entry.older as usize) {
            older.newer = entry.newer;
        }
        if let Some(own) = self.entries.get_mut(slot as usize) {
            own.place = Where::Free;
        }
        Some(entry)
    }

    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let mut seen = 0;
        for (list, place) in [(&self.small, Where::Small), (&self.main, Where::Main)] {
            let (mut slot, mut newer, mut bytes) = (list.newest, NONE, 0u64);
            while let Some(entry) = self.entries.get(slot as usize) {
                if entry.place != place || entry.newer != newer {
                    return Err("a list that is not linked as it should be");
                }
                seen += 1;
                if seen > self.entries.len() {
                    return Err("a list without an end");
                }
                bytes += u64::from(entry.cost);
                (newer, slot) = (slot, entry.older);
            }
            if list.oldest != newer || list.bytes != bytes {
                return Err("a list whose end or whose bytes are not what it says");
            }
        }
        if seen + self.free.len() != self.entries.len() {
            return Err("an entry that is in no list and not free");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
