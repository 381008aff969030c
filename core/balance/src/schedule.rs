//! Whose turn is it, when some are due more often than others?
//!
//! Earliest deadline first: an endpoint is due `cost / weight` after it was picked last, in a time
//! of its own that only picks move on. Envoy computes this in floating point. Here an endpoint's
//! deadline is kept as the whole number `due` of the fraction `due / weight`: a picked endpoint's
//! next deadline counts from the one it had, so the denominator stays and nothing is ever rounded.
//! Two deadlines compare by multiplying crosswise (64 by 32 bits, in 128).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use naru_base::EndpointId;
use naru_base::chance::within;

use crate::Taker;

/// Beyond this all deadlines are moved back by the same whole number, which changes no order.
/// A cost is at most 2^32, so there is room to add one.
const DUE_MAX: u64 = 1 << 62;

/// Endpoints by deadline. Each pick is O(log n).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The earliest deadline on top; equal deadlines by id.
    heap: BinaryHeap<Reverse<Turn>>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    due: u64,
    /// Above zero.
    weight: u32,
    id: EndpointId,
}

impl Schedule {
    /// In the state after a number of picks at a cost of one, which `seed_draw` chooses from a whole
    /// round: as many picks as all weights together.
    pub(crate) fn new(takers: &[Taker], seed_draw: u64) -> Schedule {
        let round: u64 = takers.iter().map(|taker| u64::from(taker.weight)).sum();
        Schedule::after(takers, round, within(seed_draw, round))
    }

    /// At the time `picks / round` an endpoint has had `floor(picks * weight / round)` turns. What
    /// that leaves are fewer picks than endpoints, and they are made. So the start costs
    /// O(n log n), however large the weights are.
    fn after(takers: &[Taker], round: u64, picks: u64) -> Schedule {
        let mut left = picks;
        let turns: Vec<Reverse<Turn>> = takers
            .iter()
            .map(|taker| {
                let had = u128::from(picks) * u128::from(taker.weight) / u128::from(round.max(1));
                left -= had as u64;
                Reverse(Turn { due: had as u64 + 1, weight: taker.weight, id: taker.id })
            })
            .collect();
        let mut schedule = Schedule { heap: BinaryHeap::from(turns) };
        for _ in 0..left {
            schedule.pick(|_| 1);
        }
        schedule
    }

    /// The endpoint whose turn it is. `cost`, of 1 to 2^32, says how long it then waits: twice the
    /// cost, twice as long.
    #[inline]
    pub(crate) fn pick(&mut self, cost: impl FnOnce(EndpointId) -> u64) -> Option<EndpointId> {
        let mut top = self.heap.peek_mut()?;
        let Reverse(turn) = &mut *top;
        let id = turn.id;
        turn.due += cost(id);
        let is_far = turn.due > DUE_MAX;
        // Dropping it puts it in its new place.
        drop(top);
        if is_far {
            self.move_back();
        }
        Some(id)
    }

    /// Every deadline is at or after the earliest, and at most one cost after it: what stays of
    /// `due` is below the weight plus a cost.
    #[cold]
    fn move_back(&mut self) {
        let Some(&Reverse(first)) = self.heap.peek() else { return };
        let whole = first.due / u64::from(first.weight);
        let mut turns = std::mem::take(&mut self.heap).into_vec();
        for Reverse(turn) in &mut turns {
            turn.due -= whole * u64::from(turn.weight);
        }
        self.heap = BinaryHeap::from(turns);
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Turn) -> Ordering {
        let crosswise = |due: u64, weight: u32| u128::from(due) * u128::from(weight);
        crosswise(self.due, other.weight)
            .cmp(&crosswise(other.due, self.weight))
            .then_with(|| self.id.cmp(&other.id))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use naru_base::{Chance, Weight};

    use super::*;
    use crate::takers;

    /// The textbook: a clock, deadlines in units of which every weight has a whole number in one
    /// round, and a look at all of them for each pick.
    struct RefSchedule {
        unit: u128,
        /// Deadline, id, weight.
        turns: Vec<(u128, usize, u128)>,
    }

    impl RefSchedule {
        fn new(weights: &[u32]) -> RefSchedule {
            let unit = weights.iter().fold(1, |unit, &weight| lcm(unit, u128::from(weight)));
            let turns =
                (0..).zip(weights).map(|(id, &weight)| (unit / u128::from(weight), id, u128::from(weight)));
            RefSchedule { unit, turns: turns.collect() }
        }

        fn pick(&mut self, cost: impl FnOnce(EndpointId) -> u64) -> usize {
            let (now, id, _) = self.turns.iter().copied().min().unwrap();
            let turn = self.turns.iter_mut().find(|turn| turn.1 == id).unwrap();
            turn.0 = now + u128::from(cost(EndpointId(id as u32))) * self.unit / turn.2;
            id
        }
    }

    fn lcm(a: u128, b: u128) -> u128 {
        let (mut x, mut y) = (a, b);
        while y != 0 {
            (x, y) = (y, x % y);
        }
        a / x * b
    }

    fn all(weights: &[u32]) -> Vec<Taker> {
        takers(&weights.iter().map(|&weight| Weight(weight)).collect::<Vec<_>>())
    }

    fn random_weights(chance: &mut Chance) -> Vec<u32> {
        (0..1 + chance.below(12)).map(|_| 1 + chance.below(20) as u32).collect()
    }

    #[test]
    fn picks_as_the_reference_does_whatever_the_costs() {
        let mut chance = Chance::new(21);
        for seed in 0..256 {
            let weights = random_weights(&mut chance);
            let mut schedule = Schedule::new(&all(&weights), 0);
            let mut reference = RefSchedule::new(&weights);
            for at in 0..400 {
                let cost = if seed % 2 == 0 { 1 } else { 1 + chance.below(9) };
                let picked = schedule.pick(|_| cost).unwrap().index();
                assert_eq!(picked, reference.pick(|_| cost), "{weights:?}, pick {at}");
            }
        }
    }

    #[test]
    fn a_start_is_the_state_after_that_many_picks() {
        let mut chance = Chance::new(22);
        for _ in 0..64 {
            let weights = random_weights(&mut chance);
            let takers = all(&weights);
            let round = weights.iter().map(|&weight| u64::from(weight)).sum();
            for picks in 0..round {
                let mut started = Schedule::after(&takers, round, picks);
                let mut walked = Schedule::after(&takers, round, 0);
                for _ in 0..picks {
                    walked.pick(|_| 1);
                }
                for _ in 0..round {
                    assert_eq!(started.pick(|_| 1), walked.pick(|_| 1), "{weights:?} after {picks}");
                }
            }
        }
    }

    #[test]
    fn moving_deadlines_back_changes_no_pick() {
        let mut chance = Chance::new(23);
        for _ in 0..64 {
            let weights = random_weights(&mut chance);
            let mut near = Schedule::new(&all(&weights), 0);
            let heaviest = u64::from(*weights.iter().max().unwrap());
            // The heaviest endpoint has the highest `due`, and will be the first to go beyond.
            let shift = DUE_MAX / heaviest - 2;
            let far = near.heap.iter().map(|&Reverse(turn)| {
                Reverse(Turn { due: turn.due + shift * u64::from(turn.weight), ..turn })
            });
            let mut far = Schedule { heap: far.collect() };
            for _ in 0..500 {
                let cost = 1 + chance.below(50);
                assert_eq!(far.pick(|_| cost), near.pick(|_| cost), "{weights:?}");
            }
            assert!(far.heap.iter().all(|Reverse(turn)| turn.due < DUE_MAX / 2), "never moved");
        }
    }

    #[test]
    fn the_largest_weights_and_costs_do_not_overflow() {
        let weights = [u32::MAX, 1, u32::MAX - 1, 7];
        let mut schedule = Schedule::new(&all(&weights), u64::MAX);
        let mut seen = [0_u32; 4];
        for _ in 0..10_000 {
            seen[schedule.pick(|_| 1 << 32).unwrap().index()] += 1;
        }
        assert!(seen[0] >= 4_999 && seen[2] >= 4_998, "{seen:?}");
        let mut schedule = Schedule { heap: BinaryHeap::new() };
        assert_eq!(schedule.pick(|_| 1), None);
        schedule.move_back();
    }

    #[test]
    fn picking_does_not_grow_the_heap() {
        let mut schedule = Schedule::new(&all(&[1, 2, 3]), 0);
        let before = schedule.heap.capacity();
        for _ in 0..1_000 {
            schedule.pick(|_| 5);
        }
        schedule.move_back();
        assert_eq!(schedule.heap.capacity(), before);
    }
}
