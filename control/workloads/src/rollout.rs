//! How many processes there are, and which of them give way to newer ones.
//!
//! A rolling update with `maxSurge: 1` and `maxUnavailable: 0`: one more than wanted may be there, and
//! none that is ready goes before another is. After Kubernetes' `pkg/controller/deployment/rolling.go`.

/// One process that was not told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub index: u32,
    /// It is what is wanted now.
    pub is_new: bool,
    pub is_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start one of what is wanted.
    Start,
    /// Tell the one of this index to go.
    Stop(u32),
}

/// The next step, if there is one to take now.
pub fn next_step(wanted: usize, standing: &[Standing]) -> Option<Step> {
    let (new, old): (Vec<Standing>, Vec<Standing>) = standing.iter().partition(|one| one.is_new);
    let first_to_go = |list: &[Standing]| list.iter().max_by_key(|one| (!one.is_ready, one.index)).copied();
    if new.len() > wanted {
        return first_to_go(&new).map(|one| Step::Stop(one.index));
    }
    let room = wanted + usize::from(!old.is_empty());
    if new.len() < wanted && standing.len() < room {
        return Some(Step::Start);
    }
    // One that is not well goes first, and only for one that is. One that is well is spared until
    // there are more than wanted.
    let unready = new.iter().filter(|one| !one.is_ready).count();
    let ready = standing.iter().filter(|one| one.is_ready).count();
    let leaves = first_to_go(&old)?;
    let may_leave = if leaves.is_ready { ready > wanted } else { standing.len() > wanted + unready };
    may_leave.then_some(Step::Stop(leaves.index))
}

/// The index of the next process to start, where these are taken.
pub fn free_index(taken: &[u32]) -> u32 {
    (0..u32::MAX).find(|index| !taken.contains(index)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    /// `0o+`: index 0, old, ready. `1n-`: index 1, new, not ready.
    fn standing(text: &str) -> Vec<Standing> {
        let read = |word: &str| Standing {
            index: word[..1].parse().unwrap(),
            is_new: &word[1..2] == "n",
            is_ready: &word[2..] == "+",
        };
        text.split_whitespace().map(read).collect()
    }

    #[test]
    fn one_more_may_be_there_and_none_goes_before_another_is_ready() {
        fn check(wanted: usize, now: &str, expected: Option<Step>) {
            assert_eq!(next_step(wanted, &standing(now)), expected, "{wanted}: {now}");
        }
        let (start, stop) = (Some(Step::Start), |index| Some(Step::Stop(index)));
        // Filled, kept, scaled.
        check(2, "", start);
        check(2, "0n+", start);
        check(2, "0n+ 1n-", None);
        check(1, "0n+ 1n+ 2n+", stop(2));
        check(1, "0n- 1n+", stop(0));
        check(0, "0n-", stop(0));
        check(0, "0o+ 1o-", stop(1));
        check(0, "0o+", stop(0));
        // Replaced.
        check(1, "0o+", start);
        check(1, "0o+ 1n-", None);
        check(1, "0o+ 1n+", stop(0));
        check(2, "0o+ 1o+ 2n-", None);
        check(2, "0o+ 1o+ 2n+", stop(1));
        check(2, "0o+ 2n+", start);
        // One that is not well makes no room before what is new proves to be well.
        check(2, "0o- 1o+ 2n-", None);
        check(2, "0o- 1o+ 2n+", stop(0));
        // Another change while one is on its way: what never got ready makes room.
        check(1, "0o+ 1o-", stop(1));
        // Changed and scaled at once.
        check(3, "0o+", start);
        check(1, "0o+ 1o+ 2o+", stop(2));
    }

    #[test]
    fn the_lowest_index_that_nobody_has_is_the_next() {
        fn check(taken: &[u32], expected: u32) {
            assert_eq!(free_index(taken), expected, "{taken:?}");
        }
        check(&[], 0);
        check(&[0, 1], 2);
        check(&[2, 0], 1);
        check(&[1, 1, 0, 4], 2);
        check(&[3], 0);
    }

    /// Changes, scaling and failures at any time; then quiet.
    #[test]
    fn every_rollout_ends_and_loses_none_that_is_ready() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "rollout");
            let mut wanted = 1 + chance.below(4) as usize;
            let mut all: Vec<Standing> = Vec::new();
            for turn in 0..400 {
                if turn < 300 {
                    match chance.below(40) {
                        0 => all.iter_mut().for_each(|one| one.is_new = false),
                        1 => wanted = 1 + chance.below(4) as usize,
                        2 => all.iter_mut().for_each(|one| one.is_ready &= chance.below(2) == 0),
                        _ => {}
                    }
                }
                let ready = |all: &[Standing]| all.iter().filter(|one| one.is_ready).count();
                let (ready_before, count_before) = (ready(&all), all.len());
                while let Some(step) = next_step(wanted, &all) {
                    match step {
                        Step::Start => {
                            let taken: Vec<u32> = all.iter().map(|one| one.index).collect();
                            let index = free_index(&taken);
                            all.push(Standing { index, is_new: true, is_ready: false });
                            let most = count_before.max(wanted + 1);
                            assert!(all.len() <= most, "seed {seed}, turn {turn}: {all:?}");
                        }
                        Step::Stop(index) => all.retain(|one| one.index != index),
                    }
                }
                assert!(ready(&all) >= ready_before.min(wanted), "seed {seed}, turn {turn}: {all:?}");
                all.iter_mut().for_each(|one| one.is_ready |= chance.below(3) == 0);
            }
            assert_eq!(all.len(), wanted, "seed {seed}");
            assert!(all.iter().all(|one| one.is_new), "seed {seed}: {all:?}");
        }
    }
}
