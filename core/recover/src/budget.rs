//! Does the cluster bear one more retry?
//!
//! Source: Envoy's `ResourceManagerImpl::RetryBudgetImpl`. Numbers are those of the whole proxy, as
//! near as its workers know them.

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
}

pub fn allows(limit: RetryLimit, load: RetryLoad) -> bool {
    load.retries < most(limit, load)
}

/// How many retries there may be at a time.
pub fn most(limit: RetryLimit, load: RetryLoad) -> u32 {
    match limit {
        RetryLimit::Concurrent(most) => most,
        RetryLimit::Budget(RetryBudget { share_ppm, concurrency_min }) => {
            let requests = u64::from(load.active) + u64::from(load.pending);
            let share = requests * u64::from(share_ppm.min(1_000_000)) / 1_000_000;
            u32::try_from(share).unwrap_or(u32::MAX).max(concurrency_min)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_share_of_all_requests_and_never_below_its_least() {
        fn check(active: u32, pending: u32, expected: u32) {
            let load = RetryLoad { active, pending, retries: 0 };
            assert_eq!(most(RetryLimit::Budget(RetryBudget::default()), load), expected);
        }
        check(0, 0, 3);
        check(15, 4, 3);
        check(15, 5, 4);
        check(100, 0, 20);
        check(80, 24, 20);
        check(u32::MAX, u32::MAX, 1_717_986_918);
        let all = RetryLimit::Budget(RetryBudget { share_ppm: u32::MAX, concurrency_min: 0 });
        assert_eq!(most(all, RetryLoad { active: u32::MAX, pending: u32::MAX, retries: 0 }), u32::MAX);
    }

    #[test]
    fn without_a_budget_three_retries_are_borne() {
        let load = |retries| RetryLoad { active: 1_000, pending: 0, retries };
        assert!(allows(RetryLimit::default(), load(2)));
        assert!(!allows(RetryLimit::default(), load(3)));
        assert!(!allows(RetryLimit::Concurrent(0), load(0)));
    }
}
