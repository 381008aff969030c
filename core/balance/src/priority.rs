//! How much of the load does each priority get, and who of it takes that?
//!
//! A priority is worth `overprovisioning * fit / all` percent, at most 100. The first gets its worth,
//! the next the rest up to its own, and so on; then what is left goes to the degraded in the same way.
//! Where all of it together is worth less than 100, shares are scaled up, and a priority of which less
//! than the panic threshold is available disregards fitness. Source: Envoy, `load_balancer_impl.cc`:
//! `recalculatePerPriorityState`, `recalculatePerPriorityPanic`, `recalculateLoadInTotalPanic`; the
//! documents "Priority levels", "Degraded endpoints" and "Panic threshold".
//!
//! One difference: where panic is off and the little that is available is worth nothing (one of a
//! thousand), Envoy sends all to the first priority, though nobody may be there. Here all goes to the
//! first that has somebody.

/// When a priority is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spill {
    pub(crate) overprovisioning_percent: u32,
    /// Zero never panics; more than 100 is 100.
    pub(crate) panic_percent: u32,
}

/// How many endpoints of a priority there are of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Census {
    pub(crate) all: u64,
    pub(crate) fit: u64,
    pub(crate) degraded: u64,
}

/// What one priority gets, in percent of the load of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) fit: u32,
    pub(crate) degraded: u32,
    /// All of its endpoints take its share, whatever their fitness.
    pub(crate) is_panicking: bool,
}

/// The shares of priorities in order. They sum to 100, except where there is no priority at all.
pub(crate) fn shares(priorities: &[Census], spill: Spill) -> Vec<Share> {
    let worth = |part: u64, all: u64| {
        let worth = (u64::from(spill.overprovisioning_percent) * part).checked_div(all).unwrap_or(0);
        worth.min(100) as u32
    };
    let fit: Vec<u32> = priorities.iter().map(|census| worth(census.fit, census.all)).collect();
    let degraded: Vec<u32> = priorities.iter().map(|census| worth(census.degraded, census.all)).collect();
    let available = fit.iter().chain(&degraded).fold(0_u32, |sum, worth| sum.saturating_add(*worth)).min(100);

    let mut shares = vec![Share::default(); priorities.len()];
    let mut left = 100;
    for (share, worth) in shares.iter_mut().zip(&fit) {
        share.fit = (worth * 100).checked_div(available).unwrap_or(0).min(left);
        left -= share.fit;
    }
    for (share, worth) in shares.iter_mut().zip(&degraded) {
        share.degraded = (worth * 100).checked_div(available).unwrap_or(0).min(left);
        left -= share.degraded;
    }
    // What is left are rounding errors, or all, where nothing is worth anything.
    if available > 0 {
        give_to_first(&mut shares, &fit, &degraded, left);
    } else {
        let fit: Vec<u32> = priorities.iter().map(|census| u32::from(census.fit > 0)).collect();
        let degraded: Vec<u32> = priorities.iter().map(|census| u32::from(census.degraded > 0)).collect();
        give_to_first(&mut shares, &fit, &degraded, left);
    }

    let panics = |census: &Census| {
        available < 100
            && (census.all == 0
                || (census.fit + census.degraded) * 100
                    < u64::from(spill.panic_percent.min(100)) * census.all)
    };
    if spill.panic_percent == 0 {
        return shares;
    }
    for (share, census) in shares.iter_mut().zip(priorities) {
        share.is_panicking = panics(census);
    }
    if shares.iter().all(|share| share.is_panicking) {
        share_by_number(&mut shares, priorities);
    }
    shares
}

/// To the first that has somebody fit; else somebody degraded; else the first.
fn give_to_first(shares: &mut [Share], fit: &[u32], degraded: &[u32], load: u32) {
    if let Some((share, _)) = shares.iter_mut().zip(fit).find(|(_, worth)| **worth > 0) {
        share.fit += load;
    } else if let Some((share, _)) = shares.iter_mut().zip(degraded).find(|(_, worth)| **worth > 0) {
        share.degraded += load;
    } else if let Some(share) = shares.first_mut() {
        share.fit += load;
    }
}

/// Where all panic, by how many endpoints there are.
fn share_by_number(shares: &mut [Share], priorities: &[Census]) {
    let all: u64 = priorities.iter().map(|census| census.all).sum();
    let mut left = 100;
    for (share, census) in shares.iter_mut().zip(priorities) {
        share.fit = (100 * census.all).checked_div(all).unwrap_or(0) as u32;
        share.degraded = 0;
        left -= share.fit;
    }
    let first = priorities.iter().position(|census| census.all > 0).unwrap_or(0);
    if let Some(share) = shares.get_mut(first) {
        share.fit += left;
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    const SPILL: Spill = Spill { overprovisioning_percent: 140, panic_percent: 50 };

    /// Priorities of a hundred endpoints, so many of them fit and degraded.
    fn hundreds(parts: &[(u64, u64)]) -> Vec<Census> {
        parts.iter().map(|&(fit, degraded)| Census { all: 100, fit, degraded }).collect()
    }

    fn loads(priorities: &[Census], spill: Spill) -> Vec<(u32, u32, bool)> {
        let shares = shares(priorities, spill);
        shares.iter().map(|share| (share.fit, share.degraded, share.is_panicking)).collect()
    }

    #[test]
    fn load_spills_as_envoys_documents_say() {
        fn check(fit: &[u64], expected: &[u32]) {
            let parts: Vec<(u64, u64)> = fit.iter().map(|&fit| (fit, 0)).collect();
            // These tables leave panic out.
            let calm = Spill { panic_percent: 0, ..SPILL };
            let found: Vec<u32> = loads(&hundreds(&parts), calm).iter().map(|load| load.0).collect();
            assert_eq!(found, expected, "{fit:?}");
        }
        // "Priority levels", first table: the second is all fit.
        check(&[100, 100], &[100, 0]);
        check(&[72, 100], &[100, 0]);
        check(&[71, 100], &[99, 1]);
        check(&[50, 100], &[70, 30]);
        check(&[25, 100], &[35, 65]);
        check(&[0, 100], &[0, 100]);
        // The second: both fail.
        check(&[72, 72], &[100, 0]);
        check(&[71, 71], &[99, 1]);
        check(&[50, 50], &[70, 30]);
        check(&[25, 25], &[50, 50]);
        // The third: three priorities.
        check(&[100, 100, 100], &[100, 0, 0]);
        check(&[72, 72, 100], &[100, 0, 0]);
        check(&[71, 71, 100], &[99, 1, 0]);
        check(&[50, 50, 100], &[70, 30, 0]);
        check(&[25, 100, 100], &[35, 65, 0]);
        check(&[25, 25, 100], &[35, 35, 30]);
        // 35/98 and 28/98, and what rounding leaves goes to the first.
        check(&[25, 25, 20], &[37, 35, 28]);
    }

    #[test]
    fn the_degraded_take_what_the_fit_cannot() {
        fn check(part: (u64, u64), fit: u32, degraded: u32) {
            let [load] = loads(&hundreds(&[part]), SPILL)[..] else { unreachable!() };
            assert_eq!((load.0, load.1), (fit, degraded), "{part:?}");
        }
        // "Degraded endpoints".
        check((100, 0), 100, 0);
        check((71, 0), 100, 0);
        check((71, 29), 99, 1);
        check((25, 65), 35, 65);
        check((5, 0), 100, 0);
        check((0, 100), 0, 100);
        // The comment in `recalculatePerPriorityState`: worths of 10, 20, 10 and 20, 10, 0.
        let plain = Spill { overprovisioning_percent: 100, panic_percent: 0 };
        let found = loads(&hundreds(&[(10, 20), (20, 10), (10, 0)]), plain);
        assert_eq!(found, [(16, 28, false), (28, 14, false), (14, 0, false)]);
    }

    #[test]
    fn a_priority_panics_only_where_the_others_cannot_help() {
        fn check(fit: [u64; 2], expected: [(u32, bool); 2]) {
            let found = loads(&hundreds(&[(fit[0], 0), (fit[1], 0)]), SPILL);
            let found = [(found[0].0, found[0].2), (found[1].0, found[1].2)];
            assert_eq!(found, expected, "{fit:?}");
        }
        // "Panic threshold". Two rows of its second table (50/60 and 25/100) contradict the algorithm
        // beside it and the tables of "Priority levels"; these are what the algorithm gives.
        check([72, 100], [(100, false), (0, false)]);
        check([0, 100], [(0, false), (100, false)]);
        check([72, 72], [(100, false), (0, false)]);
        check([71, 71], [(99, false), (1, false)]);
        check([50, 60], [(70, false), (30, false)]);
        check([25, 100], [(35, false), (65, false)]);
        check([25, 25], [(50, true), (50, true)]);
        // 7 and 91 of 98.
        check([5, 65], [(8, true), (92, false)]);
        // Nobody is fit: by number, and both panic.
        check([0, 0], [(50, true), (50, true)]);
    }

    #[test]
    fn in_total_panic_load_goes_by_numbers() {
        let priorities = [(0, 0), (3, 0), (6, 1)].map(|(all, fit)| Census { all, fit, degraded: 0 });
        assert_eq!(loads(&priorities, SPILL), [(0, 0, true), (34, 0, true), (66, 0, true)]);
        assert_eq!(loads(&[Census::default()], SPILL), [(100, 0, true)]);
        assert_eq!(loads(&[], SPILL), []);
    }

    #[test]
    fn without_panic_whoever_is_fit_takes_all() {
        let calm = Spill { panic_percent: 0, ..SPILL };
        let one_in_a_thousand = Census { all: 1_000, fit: 1, degraded: 0 };
        let none = Census { all: 1_000, fit: 0, degraded: 0 };
        let tired = Census { all: 1_000, fit: 0, degraded: 1 };
        assert_eq!(loads(&[none, none], calm), [(100, 0, false), (0, 0, false)]);
        assert_eq!(loads(&[none, one_in_a_thousand], calm), [(0, 0, false), (100, 0, false)]);
        assert_eq!(loads(&[none, tired], calm), [(0, 0, false), (0, 100, false)]);
        assert_eq!(loads(&[tired, one_in_a_thousand], calm), [(0, 0, false), (100, 0, false)]);
    }

    #[test]
    fn whatever_the_numbers_all_of_the_load_is_given_and_only_to_whom_there_is() {
        let mut chance = Chance::new(13);
        for _ in 0..20_000 {
            let priorities: Vec<Census> = (0..1 + chance.below(5))
                .map(|_| {
                    let bound = [2, 5, 2_000][chance.below(3) as usize];
                    let all = chance.below(bound);
                    let fit = chance.below(all + 1);
                    Census { all, fit, degraded: chance.below(all - fit + 1) }
                })
                .collect();
            let spill = Spill {
                overprovisioning_percent: (chance.draw() >> (32 + chance.below(32))) as u32,
                panic_percent: [0, 50, 100, u32::MAX][chance.below(4) as usize],
            };
            let shares = shares(&priorities, spill);
            let total: u32 = shares.iter().map(|share| share.fit + share.degraded).sum();
            assert_eq!(total, 100, "{priorities:?} {spill:?}");
            let anybody = priorities.iter().any(|census| census.fit + census.degraded > 0);
            for (share, census) in shares.iter().zip(&priorities) {
                let takes = if share.is_panicking { census.all } else { census.fit };
                let is_idle_or_there = share.fit == 0 || takes > 0 || !anybody;
                assert!(is_idle_or_there, "{priorities:?} {spill:?}: {shares:?}");
                assert!(share.degraded == 0 || census.degraded > 0);
            }
        }
    }
}
