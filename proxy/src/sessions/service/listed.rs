//! What workers have of the list of what is revoked: a large part that is seldom copied, and a small one of what came
//! since.

use std::sync::Arc;

use naru_base::WallTime;
use naru_session::{Id, Revoked};

/// So many are added to a small list before a large one is made of both.
const RECENT_MAX: usize = 1_024;

#[derive(Debug)]
pub struct Listed {
    all: Arc<Revoked>,
    recent: Revoked,
    changes: u64,
}

impl Listed {
    pub fn new(revoked_max: usize) -> Listed {
        Listed { all: Arc::new(Revoked::new(revoked_max)), recent: fresh(), changes: 0 }
    }

    /// These have come; they are in the `whole` list already.
    pub fn note(&mut self, whole: &Revoked, news: &[(Id, WallTime)]) {
        for (id, until) in news {
            if self.recent.len() >= RECENT_MAX {
                self.all = Arc::new(whole.clone());
                self.recent = fresh();
            }
            self.recent.add(*id, *until);
            self.changes += 1;
        }
    }

    /// Counted up with each that has come. How many there are tells nothing: what is over goes when the rest is copied.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn parts(&self) -> (Arc<Revoked>, Arc<Revoked>) {
        (Arc::clone(&self.all), Arc::new(self.recent.clone()))
    }
}

fn fresh() -> Revoked {
    Revoked::new(RECENT_MAX * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_when_two_are_over_is_a_change_though_there_are_as_many() {
        let mut whole = Revoked::new(10_000);
        let mut listed = Listed::new(10_000);
        let mut end = |id: u128, until: u64, now: u64| {
            whole.add(Id(id), WallTime(until));
            whole.sweep(WallTime(now));
            listed.note(&whole, &[(Id(id), WallTime(until))]);
            let (all, recent) = listed.parts();
            assert!(all.has(Id(id)) || recent.has(Id(id)));
            (listed.changes(), all.len() + recent.len())
        };
        let mut last = (0, 0);
        for id in 0..RECENT_MAX as u128 {
            last = end(id, if id < 2 { 10 } else { 100 }, 0);
        }
        assert_eq!(last, (1_024, 1_024));
        assert_eq!(end(2_000, 100, 50), (1_025, 1_024), "two are over, and one is in both parts");
    }
}
