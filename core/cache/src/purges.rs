//! Purges of what is kept elsewhere: what was fetched before one, and is meant by it, is void.
//!
//! Purges are numbered. An object says how many were known when it was fetched, so nothing has to be looked for when
//! somebody purges: whoever reads an object asks. Of old purges the oldest are forgotten, and with them all that was
//! fetched before them.

use std::collections::VecDeque;

use crate::{Object, Purge};

/// So many are looked through for each object that is read.
const PURGES_MAX: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub struct Purges {
    /// By number.
    all: VecDeque<(u64, Purge)>,
    /// What was fetched when fewer were known is void.
    floor: u64,
}

impl Purges {
    /// Numbers only grow. One that was said before takes the place of the one before.
    pub fn add(&mut self, number: u64, purge: Purge) {
        if purge == Purge::All {
            self.all.clear();
            self.floor = self.floor.max(number);
            return;
        }
        self.all.retain(|(_, known)| *known != purge);
        self.all.push_back((number, purge));
        while self.all.len() > PURGES_MAX {
            if let Some((number, _)) = self.all.pop_front() {
                self.floor = self.floor.max(number);
            }
        }
    }

    /// Some are not known any more, up to this number.
    pub fn forget(&mut self, number: u64) {
        self.floor = self.floor.max(number);
        self.all.retain(|(known, _)| *known > number);
    }

    pub fn is_void(&self, known: u64, object: &Object) -> bool {
        known < self.floor
            || self.all.iter().rev().take_while(|(at, _)| *at > known).any(|(_, p)| p.means(object))
    }

    /// Those that are known, by number; and what they begin after.
    pub fn all(&self) -> (u64, impl Iterator<Item = &(u64, Purge)>) {
        (self.floor, self.all.iter())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use naru_base::Instant;
    use naru_spec::CacheKeyParts;

    use super::*;
    use crate::{Key, Place, Terms};

    fn object(path: &str, tags: &str) -> Object {
        let place = Place { is_tls: false, authority: "a", target: path };
        let key = Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &["rule"]);
        let mut head = HeaderMap::new();
        head.insert("cache-tag", HeaderValue::try_from(tags).expect("a value"));
        let terms = Terms {
            came: Instant::ZERO,
            age: 0,
            lifetime: 1,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            asks_first: false,
            is_strict: false,
            is_by_route: false,
        };
        Object::new(key, &HeaderMap::new(), 200, &head, Bytes::new(), terms).expect("no star")
    }

    #[test]
    fn what_was_fetched_before_a_purge_that_means_it_is_void() {
        let mut purges = Purges::default();
        purges.add(3, Purge::Tag("x".to_owned()));
        purges.add(4, Purge::Prefix("http://a/b".to_owned()));
        assert!(purges.is_void(2, &object("/", "x y")) && !purges.is_void(3, &object("/", "x y")));
        assert!(purges.is_void(3, &object("/b/c", "")) && !purges.is_void(4, &object("/b/c", "")));
        assert!(!purges.is_void(0, &object("/c", "y")));
        purges.add(5, Purge::All);
        assert!(purges.is_void(4, &object("/c", "y")) && !purges.is_void(5, &object("/c", "y")));
    }

    #[test]
    fn with_old_purges_goes_all_that_is_older() {
        let mut purges = Purges::default();
        for number in 1..=PURGES_MAX as u64 + 1 {
            purges.add(number, Purge::Tag(number.to_string()));
        }
        assert!(purges.is_void(0, &object("/", "")) && !purges.is_void(1, &object("/", "")));
        for number in 2_000..5_000 {
            purges.add(number, Purge::Tag("again".to_owned()));
        }
        assert!(!purges.is_void(2, &object("/", "")), "what is repeated takes one place");
        purges.forget(5_000);
        assert!(purges.is_void(4_999, &object("/", "")));
    }
}
