//! Does the cluster bear one more retry?
//!
//! Source: Envoy's `ResourceManagerImpl::RetryBudgetImpl`; its `budget_interval` is there since 1.40. Numbers are those
//! of the whole proxy, as near as its workers know them.

use naru_spec::{RetryBudget, RetryLimit};

/// What a cluster has to do right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetryLoad {
    /// Requests on their way.
    pub active: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests of either kind, and some that wait for their next attempt, that are retries: those of
    /// which [`crate::Recovery::is_retrying`] says so.
    pub retries: u32,
    /// Requests that were sent in the interval of its budget, where that has one.
    pub recent: u32,
}

pub fn allows(limit: RetryLimit, load: RetryLoad) -> bool {
    load.retries < most(limit, load)
}

/// How many retries there may be at a time.
pub fn most(limit: RetryLimit, load: RetryLoad) -> u32 {
    match limit {
        RetryLimit::Concurrent(most) => most,
        RetryLimit::Budget(RetryBudget { share_ppm, concurrency_min, interval }) => {
            let requests = match interval.is_zero() {
                true => u64::from(load.active) + u64::from(load.pending),
                false => u64::from(load.recent),
            };
            let share = requests * u64::from(share_ppm.min(1_000_000)) / 1_000_000;
            u32::try_from(share).unwrap_or(u32::MAX).max(concurrency_min)
        }
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    /// Requests come, fail, are retried and end, in any order: there are never more retries than the limit says, and
    /// where it would bear one more, one more is borne.
    #[test]
    fn a_walk_of_retries_is_never_above_its_limit_and_always_up_to_it() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let share_ppm = chance.below(1_200_000) as u32;
            let concurrency_min = chance.below(5) as u32;
            let budget = RetryBudget { share_ppm, concurrency_min, ..RetryBudget::default() };
            let limit = match chance.below(3) {
                0 => RetryLimit::Concurrent(concurrency_min),
                _ => RetryLimit::Budget(budget),
            };
            let mut load = RetryLoad::default();
            for _ in 0..500 {
                match chance.below(5) {
                    0 | 1 => load.active += 1,
                    2 => load.active = load.active.saturating_sub(1),
                    3 => load.retries = load.retries.saturating_sub(1),
                    _ => {
                        // The obvious: one by one, until a part of all is reached.
                        let reference = match limit {
                            RetryLimit::Concurrent(most) => most,
                            RetryLimit::Budget(_) => {
                                let share = u128::from(share_ppm.min(1_000_000));
                                let all = u128::from(load.active) * share;
                                let fits = (0..=load.active)
                                    .take_while(|count| u128::from(*count) * 1_000_000 <= all);
                                fits.last().unwrap_or(0).max(concurrency_min)
                            }
                        };
                        assert_eq!(allows(limit, load), load.retries < reference, "seed {seed}: {load:?}");
                        load.retries += u32::from(allows(limit, load));
                    }
                }
            }
        }
    }

    #[test]
    fn a_budget_is_a_share_of_all_requests_and_never_below_its_least() {
        fn check(active: u32, pending: u32, expected: u32) {
            let load = RetryLoad { active, pending, ..RetryLoad::default() };
            assert_eq!(most(RetryLimit::Budget(RetryBudget::default()), load), expected);
        }
        check(0, 0, 3);
        check(15, 4, 3);
        check(15, 5, 4);
        check(100, 0, 20);
        check(80, 24, 20);
        check(u32::MAX, u32::MAX, 1_717_986_918);
        let all = RetryLimit::Budget(RetryBudget {
            share_ppm: u32::MAX,
            concurrency_min: 0,
            ..RetryBudget::default()
        });
        assert_eq!(
            most(all, RetryLoad { active: u32::MAX, pending: u32::MAX, ..RetryLoad::default() }),
            u32::MAX
        );
    }

    #[test]
    fn a_budget_with_an_interval_is_a_share_of_the_requests_in_it_whatever_is_in_flight() {
        let interval = std::time::Duration::from_secs(10);
        let limit = RetryLimit::Budget(RetryBudget { interval, ..RetryBudget::default() });
        let load = |recent| RetryLoad { active: 5_000, pending: 5_000, retries: 0, recent };
        assert_eq!([0, 19, 20, 1_000].map(|recent| most(limit, load(recent))), [3, 3, 4, 200]);
    }

    #[test]
    fn without_a_budget_three_retries_are_borne() {
        let load = |retries| RetryLoad { active: 1_000, retries, ..RetryLoad::default() };
        assert!(allows(RetryLimit::default(), load(2)));
        assert!(!allows(RetryLimit::default(), load(3)));
        assert!(!allows(RetryLimit::Concurrent(0), load(0)));
    }
}
