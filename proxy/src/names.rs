//! Names that outlive a snapshot.
//!
//! What is counted for a cluster goes on when the configuration changes, but the ids of a snapshot mean nothing in
//! the next one. So names that are counted for have numbers of their own, given when a configuration is taken
//! over: counting a request stays a look into a row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many names that no snapshot has any more are remembered: one that comes back then counts on.
const GONE_MAX: usize = 1_000;

/// The number of a name. It means the same in all snapshots that know the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

impl NameId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All numbers that are given.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By number.
    all: Vec<Arc<str>>,
    ids: BTreeMap<Arc<str>, NameId>,
    /// Numbers that nobody has.
    free: Vec<NameId>,
}

impl Names {
    /// The number of a name, a new one where it has none.
    pub fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.all.push(Arc::default());
                NameId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if let Some(place) = self.all.get_mut(id.index()) {
            *place = Arc::clone(&name);
        }
        self.ids.insert(name, id);
        id
    }

    /// Forgets the names that are not `used`, if they have become many, and says which: what was counted for
    /// them must be forgotten, too, before their numbers are given again.
    pub fn forget_gone(&mut self, used: &BTreeSet<NameId>) -> Vec<NameId> {
        if self.ids.len() <= used.len() + GONE_MAX {
            return Vec::new();
        }
        let mut gone = Vec::new();
        self.ids.retain(|_, id| {
            let is_used = used.contains(id);
            if !is_used {
                gone.push(*id);
            }
            is_used
        });
        self.free.extend(&gone);
        gone
    }

    /// By number.
    pub fn all(&self) -> Arc<[Arc<str>]> {
        self.all.as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_until_too_many_are_gone() {
        let mut names = Names::default();
        let kept = names.id("kept");
        let mut forgotten = Vec::new();
        for at in 0..=GONE_MAX {
            assert_eq!(names.forget_gone(&[kept].into()), [], "{at}");
            forgotten.push(names.id(&format!("gone {at}")));
        }
        assert_eq!(names.id("kept"), kept);
        assert_eq!(names.id("gone 7"), forgotten[7], "it came back");
        let mut found = names.forget_gone(&[kept].into());
        found.sort();
        assert_eq!(found, forgotten);
        let new = names.id("new");
        assert!(forgotten.contains(&new) && &*names.all()[new.index()] == "new");
        assert_eq!(names.id("kept"), kept);
        assert_eq!(&*names.all()[kept.index()], "kept");
        assert_eq!(names.all().len(), GONE_MAX + 2);
    }
}
