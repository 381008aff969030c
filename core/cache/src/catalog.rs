//! Which answers there are on a disk: their names and what they take up, and who goes for another.
//!
//! Names are numbers, as the files are called by: of the URL, and of the object among those of its URL. They are hashes
//! that a seed of the directory makes: two that meet take each other's place, and a file says what is in it.

use std::collections::BTreeMap;

use crate::queue::{Queue, Slot};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub url: u64,
    pub object: u64,
}

#[derive(Debug)]
pub struct Catalog {
    queue: Queue,
    index: BTreeMap<Name, Slot>,
    /// By slot; of one that is free, whoever had it last.
    names: Vec<Name>,
}

impl Catalog {
    pub fn new(bytes_max: u64) -> Catalog {
        Catalog { queue: Queue::new(bytes_max), index: BTreeMap::new(), names: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.queue.bytes()
    }

    pub fn bytes_max(&self) -> u64 {
        self.queue.bytes_max()
    }

    /// A file is there, in the place of the one with its name. Who has to go for it is returned, be it itself.
    pub fn put(&mut self, name: Name, bytes: u32) -> Vec<Name> {
        match self.index.get(&name) {
            Some(slot) => self.queue.resize(*slot, bytes),
            None => {
                let slot = self.queue.insert(crate::hash::hash(name.url, &name.object.to_le_bytes()), bytes);
                self.index.insert(name, slot);
                let at = slot as usize;
                if self.names.len() <= at {
                    self.names.resize(at + 1, name);
                }
                if let Some(place) = self.names.get_mut(at) {
                    *place = name;
                }
            }
        }
        let mut gone = Vec::new();
        while let Some(slot) = self.queue.evict() {
            if let Some(name) = self.names.get(slot as usize) {
                self.index.remove(name);
                gone.push(*name);
            }
        }
        gone
    }

    /// Whether it is there; then it was wanted.
    pub fn touch(&mut self, name: Name) -> bool {
        let found = self.index.get(&name).copied();
        if let Some(slot) = found {
            self.queue.touch(slot);
        }
        found.is_some()
    }

    pub fn remove(&mut self, name: Name) -> bool {
        let found = self.index.remove(&name);
        if let Some(slot) = found {
            self.queue.remove(slot);
        }
        found.is_some()
    }

    /// All of a URL.
    pub fn of_url(&self, url: u64) -> Vec<Name> {
        let (first, last) = (Name { url, object: 0 }, Name { url, object: u64::MAX });
        self.index.range(first..=last).map(|(name, _)| *name).collect()
    }

    /// What holds between any two calls.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.queue.check_invariants()?;
        if self.queue.bytes() > self.queue.bytes_max() {
            return Err("more bytes are there than may be");
        }
        let is_named = |(name, slot): (&Name, &Slot)| self.names.get(*slot as usize) == Some(name);
        if !self.index.iter().all(is_named) {
            return Err("a name that leads to another's place");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    #[test]
    fn beside_the_obvious_model_on_256_walks() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut catalog = Catalog::new(10_000);
            let mut model: BTreeMap<Name, u32> = BTreeMap::new();
            for _ in 0..400 {
                let name = Name { url: chance.below(12), object: chance.below(4) };
                match chance.below(8) {
                    0..=3 => {
                        let bytes = 1 + chance.below(1_500) as u32;
                        model.insert(name, bytes);
                        for gone in catalog.put(name, bytes) {
                            assert!(model.remove(&gone).is_some(), "{gone:?} went and was not there");
                        }
                    }
                    4..=5 => assert_eq!(catalog.touch(name), model.contains_key(&name)),
                    6 => assert_eq!(catalog.remove(name), model.remove(&name).is_some()),
                    _ => {
                        let known: Vec<Name> =
                            model.keys().filter(|known| known.url == name.url).copied().collect();
                        assert_eq!(catalog.of_url(name.url), known);
                    }
                }
                catalog.check_invariants().expect("invariants");
                let bytes: u64 = model.values().map(|bytes| u64::from(*bytes)).sum();
                assert_eq!((catalog.len(), catalog.bytes()), (model.len(), bytes));
            }
        }
    }
}
