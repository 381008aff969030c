//! What any worker has, by its name: whoever else wants it has the same one, for as long as somebody has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Known<K, V>(Mutex<BTreeMap<K, Weak<V>>>);

impl<K: Ord, V> Default for Known<K, V> {
    fn default() -> Known<K, V> {
        Known(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord, V> Known<K, V> {
    fn all(&self) -> MutexGuard<'_, BTreeMap<K, Weak<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one of this name; made where nobody has it.
    pub fn share(&self, name: K, make: impl FnOnce(&K) -> Arc<V>) -> Arc<V> {
        let mut all = self.all();
        if let Some(known) = all.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let new = make(&name);
        all.insert(name, Arc::downgrade(&new));
        new
    }

    /// By name.
    pub fn in_use(&self) -> Vec<Arc<V>> {
        self.all().values().filter_map(Weak::upgrade).collect()
    }

    /// How many names are remembered, of whoever is gone, too.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.all().len()
    }
}
