//! Which of several addresses of one place is connected to first, and when is the next one tried beside it?
//!
//! "Happy eyeballs": RFC 8305, sections 4 and 5. In come addresses and what became of each try; out goes which is tried
//! when. Addresses of both families take turns, so that one that leads nowhere costs a moment and not a timeout. Not
//! here: section 3, as names are answered whole before anything is tried, and section 5's history of round trips.

use std::net::SocketAddr;
use std::time::Duration;

use naru_base::Instant;
use naru_spec::defaults::CONNECTION_ATTEMPT_DELAY;

/// A race for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    /// How many addresses there are, and how many of them were tried.
    count: usize,
    tried: usize,
    under_way: usize,
    next_at: Instant,
    delay: Duration,
}

/// Of addresses in the order in which they are preferred: the families take turns, and the first stays the first.
pub fn take_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut own, mut other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    own.reverse();
    other.reverse();
    let mut all = Vec::with_capacity(addresses.len());
    while !(own.is_empty() && other.is_empty()) {
        all.extend(own.pop());
        all.extend(other.pop());
    }
    all
}

impl Race {
    pub fn begin(now: Instant, count: usize) -> Race {
        Race { count, tried: 0, under_way: 0, next_at: now, delay: CONNECTION_ATTEMPT_DELAY }
    }

    /// A try has come to nothing: the next need not wait for its turn.
    pub fn on_failure(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.next_at = now;
    }

    /// The address to be tried now, by its place; `None` where it is nobody's turn yet.
    pub fn next_try(&mut self, now: Instant) -> Option<usize> {
        if self.tried >= self.count || now < self.next_at {
            return None;
        }
        let at = self.tried;
        self.tried += 1;
        self.under_way += 1;
        self.next_at = now + self.delay;
        Some(at)
    }

    /// When the next one is tried, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        (self.tried < self.count).then_some(self.next_at)
    }

    /// All were tried, and none is left that could still be won.
    pub fn is_lost(&self) -> bool {
        self.tried >= self.count && self.under_way == 0
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.tried > self.count {
            return Err("tries more than there are");
        }
        if self.under_way > self.tried {
            return Err("more are under way than were tried");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    fn addresses(said: &[&str]) -> Vec<SocketAddr> {
        said.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_stays_the_first() {
        let check = |said: &[&str], expected: &[&str]| {
            assert_eq!(take_turns(&addresses(said)), addresses(expected));
        };
        check(&[], &[]);
        check(&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]);
        check(
            &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"],
            &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"],
        );
        check(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]);
    }

    #[test]
    fn one_that_is_silent_gets_company_and_one_that_refuses_a_successor() {
        let at = |millis: u64| Instant::ZERO + Duration::from_millis(millis);
        let mut race = Race::begin(at(0), 3);
        assert_eq!((race.next_try(at(0)), race.next_try(at(0))), (Some(0), None));
        assert_eq!(race.deadline(), Some(at(300)));
        assert_eq!(race.next_try(at(299)), None);
        assert_eq!(race.next_try(at(300)), Some(1));
        race.on_failure(at(310));
        assert_eq!(race.next_try(at(310)), Some(2), "at once");
        assert_eq!((race.deadline(), race.is_lost()), (None, false));
        race.on_failure(at(320));
        race.on_failure(at(330));
        assert!(race.is_lost());
        assert!(Race::begin(at(0), 0).is_lost());
    }

    #[test]
    fn whatever_happens_each_is_tried_once_and_in_order() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "race");
            let count = chance.below(6) as usize;
            let mut now = Instant::ZERO;
            let mut race = Race::begin(now, count);
            let (mut tried, mut failed) = (Vec::new(), 0);
            for _ in 0..200 {
                now = now + Duration::from_millis(chance.below(200));
                if failed < tried.len() && chance.below(2) == 0 {
                    race.on_failure(now);
                    failed += 1;
                }
                tried.extend(race.next_try(now));
                race.check_invariants().unwrap();
                assert_eq!(race.is_lost(), tried.len() == count && failed == count, "seed {seed}");
            }
            assert_eq!(tried, (0..count).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
