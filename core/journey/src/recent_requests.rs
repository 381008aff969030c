//! How many requests were sent to a cluster lately?
//!
//! A budget of retries may be a share of the requests of some time until now (`budget_interval`). As in Envoy
//! (`RetryBudgetImpl::expireRequests` of `resource_manager_impl.h`) that time is ten slots, of which the one that runs is
//! the last: a request counts for nine to ten tenths of the interval. Each attempt that has its connection is one.
//!
//! One word for each slot, which all workers change: which slot it is, and how many there were in it. A word of a slot
//! that is over for too long, or of other lengths of slots than these, counts for nothing, and is begun anew by whoever
//! counts next; so nobody has to wake up for it. A slot is not shorter than a millisecond, and slots are counted from the
//! start of the process, in Envoy from that of the cluster.

use naru_admit::Word;
use naru_base::Instant;
use naru_spec::RetryLimit;

const SLOTS: u64 = 10;
const SLOT_MIN: u64 = 1_000_000;
/// Of a word, the lower bits are how many; the upper ones say of which slot.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

#[derive(Debug, Default)]
pub struct RecentRequests<W> {
    slots: [W; SLOTS as usize],
}

impl<W: Word> RecentRequests<W> {
    /// A request is sent, which is counted where somebody will ask.
    #[inline]
    pub fn count(&self, now: Instant, limit: RetryLimit) {
        if let Some(slot) = slot(now, limit) {
            self.count_in(slot);
        }
    }

    #[cold]
    fn count_in(&self, slot: u64) {
        if let Some(word) = self.slots.get((slot % SLOTS) as usize) {
            // A step that is always taken.
            let _ = word.change(|word| Some(counted(word, slot)));
        }
    }

    pub fn within(&self, now: Instant, limit: RetryLimit) -> u32 {
        let Some(slot) = slot(now, limit) else { return 0 };
        let counts = self.slots.iter().map(Word::read).map(|word| {
            let age = tag(slot).wrapping_sub(word & !COUNT_MAX) >> COUNT_BITS;
            if age < SLOTS { (word & COUNT_MAX) as u32 } else { 0 }
        });
        counts.sum()
    }
}

fn slot(now: Instant, limit: RetryLimit) -> Option<u64> {
    let interval = u64::try_from(limit.interval()?.as_nanos()).unwrap_or(u64::MAX);
    Some(now.0 / (interval / SLOTS).max(SLOT_MIN))
}

/// Of the shortest slots there are other ones with it after 34 years.
fn tag(slot: u64) -> u64 {
    slot << COUNT_BITS
}

fn counted(word: u64, slot: u64) -> u64 {
    match word & !COUNT_MAX == tag(slot) {
        true if word & COUNT_MAX < COUNT_MAX => word + 1,
        true => word,
        false => tag(slot) | 1,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::time::Duration;

    use naru_base::Chance;
    use naru_spec::RetryBudget;

    use super::*;

    fn limit(interval: Duration) -> RetryLimit {
        RetryLimit::Budget(RetryBudget { interval, ..RetryBudget::default() })
    }

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// As Envoy does it: a timer ends each slot.
    #[derive(Default)]
    struct RefRecent {
        in_interval: u64,
        to_expire: u64,
        amounts: VecDeque<u64>,
        slots_ended: u64,
    }

    impl RefRecent {
        fn tick(&mut self, now: Instant, slot: Duration) {
            while u128::from(self.slots_ended + 1) * slot.as_nanos() <= u128::from(now.0) {
                self.slots_ended += 1;
                self.amounts.push_back(std::mem::take(&mut self.to_expire));
                if self.amounts.len() >= 10 {
                    self.in_interval -= self.amounts.pop_front().unwrap();
                }
            }
        }

        fn count(&mut self) {
            self.in_interval += 1;
            self.to_expire += 1;
        }
    }

    #[test]
    fn counts_what_envoys_timers_count() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let interval = [100, 250, 1_000, 10_000][seed as usize % 4];
            let limit = limit(Duration::from_millis(interval));
            let (recent, mut reference) = (RecentRequests::<Cell<u64>>::default(), RefRecent::default());
            let mut now = ms(chance.below(50));
            for _ in 0..400 {
                now = now + Duration::from_millis(chance.below(interval / 8));
                if chance.below(20) == 0 {
                    now = now + Duration::from_millis(chance.below(3 * interval));
                }
                reference.tick(now, Duration::from_millis(interval) / 10);
                for _ in 0..chance.below(4) {
                    recent.count(now, limit);
                    reference.count();
                }
                assert_eq!(u64::from(recent.within(now, limit)), reference.in_interval, "seed {seed}");
            }
        }
    }

    #[test]
    fn nothing_is_counted_where_nobody_asks() {
        let recent = RecentRequests::<Cell<u64>>::default();
        for limit in [RetryLimit::Concurrent(3), limit(Duration::ZERO)] {
            recent.count(ms(5), limit);
            assert_eq!(recent.within(ms(5), limit), 0);
        }
        assert!(recent.slots.iter().all(|slot| slot.get() == 0));
    }

    #[test]
    fn another_interval_begins_anew() {
        let recent = RecentRequests::<Cell<u64>>::default();
        let (short, long) = (limit(Duration::from_secs(1)), limit(Duration::from_secs(100)));
        recent.count(ms(5_000), short);
        assert_eq!([short, long].map(|limit| recent.within(ms(5_000), limit)), [1, 0]);
        recent.count(ms(5_000), long);
        assert_eq!([short, long].map(|limit| recent.within(ms(5_000), limit)), [0, 1]);
    }

    #[test]
    fn no_time_and_no_number_is_too_large() {
        for interval in [Duration::from_nanos(1), Duration::MAX] {
            let recent = RecentRequests::<Cell<u64>>::default();
            for now in [Instant::ZERO, Instant(u64::MAX)] {
                recent.count(now, limit(interval));
                assert!(recent.within(now, limit(interval)) >= 1);
            }
        }
        let full = 7 << COUNT_BITS | COUNT_MAX;
        assert_eq!(counted(full, 7), full);
        assert_eq!(counted(full, 17), 17 << COUNT_BITS | 1);
    }
}
