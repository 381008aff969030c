//! What is remembered of keys, in a bounded room.
//!
//! A table of sets, each with places for a few keys; a key belongs to one set. A place whose count is used up by time
//! is free. Where a set has none, the key that has taken least gives way. Whoever comes into a set then begins with the
//! most that anybody who gave way had taken ([`Set::floor`]), until time has used that up, too: so a key that comes
//! back finds at least its own count, and nobody is ever allowed more than his limit says. What is lost under too many
//! keys is generosity: a newcomer may be allowed less.

use naru_base::Instant;

use super::{Cell, Meter};

/// Keys of a set.
const WAYS: usize = 7;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: u64,
    cell: Cell,
}

#[derive(Clone, Copy, Debug, Default)]
struct Set {
    places: [Place; WAYS],
    /// What newcomers begin with.
    floor: Cell,
}

#[derive(Debug)]
pub struct Ledger {
    /// None until the first key is kept.
    sets: Vec<Set>,
    sets_max: usize,
    /// What newcomers begin with, as long as there is no set.
    floor: Cell,
    /// How often a key that still counted had to give way.
    evicted: u64,
}

impl Ledger {
    /// One with room for so many keys at least.
    pub fn new(keys_max: u32) -> Ledger {
        let sets_max = (keys_max as usize).div_ceil(WAYS).max(1);
        Ledger { sets: Vec::new(), sets_max, floor: Cell::default(), evicted: 0 }
    }

    /// How often a key that still counted had to give way.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keys that still count.
    pub fn keys(&self, now: Instant, meter: &Meter) -> usize {
        let places = self.sets.iter().flat_map(|set| &set.places);
        places.filter(|place| !meter.is_blank(now, place.cell)).count()
    }

    fn set(&self, key: u64) -> Option<&Set> {
        self.sets.get(self.at(key))
    }

    /// The upper half says the set: the lower one may choose among ledgers.
    fn at(&self, key: u64) -> usize {
        (((key >> 32) * self.sets_max as u64) >> 32) as usize
    }

    /// What is known of a key.
    pub fn look(&self, now: Instant, meter: &Meter, key: u64) -> Cell {
        let Some(set) = self.set(key) else { return self.floor };
        let known = set.places.iter().find(|place| place.key == key && !meter.is_blank(now, place.cell));
        match known {
            Some(place) => place.cell,
            None => set.floor,
        }
    }

    /// Changes what is known of all keys, those of newcomers too.
    pub fn change(&mut self, now: Instant, meter: &Meter, change: impl Fn(Cell) -> Cell) {
        self.floor = change(self.floor);
        for set in &mut self.sets {
            set.floor = change(set.floor);
            for place in set.places.iter_mut().filter(|place| !meter.is_blank(now, place.cell)) {
                place.cell = change(place.cell);
            }
        }
    }

    /// Remembers it.
    pub fn keep(&mut self, now: Instant, meter: &Meter, key: u64, cell: Cell) {
        if self.sets.is_empty() {
            self.sets.resize(self.sets_max, Set { floor: self.floor, ..Set::default() });
        }
        let at = self.at(key);
        let Some(set) = self.sets.get_mut(at) else { return };
        let own = set.places.iter().position(|place| place.key == key && place.cell != Cell::default());
        let free = || set.places.iter().position(|place| meter.is_blank(now, place.cell));
        if let Some(place) = own.or_else(free).and_then(|at| set.places.get_mut(at)) {
            *place = Place { key, cell };
            return;
        }
        let least = set.places.iter_mut().min_by_key(|place| meter.weight(now, place.cell));
        if let Some(place) = least {
            set.floor = meter.join(now, set.floor, place.cell);
            *place = Place { key, cell };
            self.evicted = self.evicted.saturating_add(1);
        }
    }
}
