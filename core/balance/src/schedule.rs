//! Whose turn is it, when some are due more often than others?
//!
//! Earliest deadline first: an endpoint is due `cost / weight` after it was picked last, in a time
//! of its own that only picks move on. Envoy computes this in floating point. Here an endpoint's
//! deadline is kept as the whole number `due` of the fraction `due / weight`: a picked endpoint's
//! next deadline counts from the one it had, so the denominator stays and nothing is ever rounded.
//! Two deadlines compare by multiplying crosswise (64 by 32 bits, in 128).
//!
//! What a turn costs is told at each pick, in units of the caller's own.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use naru_base::EndpointId;
use naru_base::chance::within;

use crate::endpoint::Taker;

/// Beyond this all deadlines are moved back by the same whole number, which changes no order.
/// A cost is at most [`COST_MAX`], so there is room to add one.
const DUE_MAX: u64 = 1 << 62;

/// The highest cost of a turn; it is above [`UNIT`] as often as a request can be in flight, and then as
/// often again as a warm-up makes an endpoint wait.
pub(crate) const COST_MAX: u64 = 1 << 60;

/// What a turn costs where parts of a cost count.
pub(crate) const UNIT: u64 = 1 << 12;

/// Endpoints by deadline. Each pick is O(log n).
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The earliest deadline on top; equal deadlines by id.
    heap: BinaryHeap<Reverse<Turn>>,
}

/// An endpoint before the first pick.
#[derive(Clone, Copy, Debug)]
struct Start {
    id: EndpointId,
    weight: u32,
    cost: u64,
    /// Of a round.
    share: u64,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    due: u64,
    /// Above zero.
    weight: u32,
    id: EndpointId,
}

impl Schedule {
    /// In the state after a number of picks at these costs, which `seed_draw` chooses from a whole
    /// round: as many picks as all weights together, each over its cost in `unit`s.
    pub(crate) fn new(
        takers: &[Taker],
        unit: u64,
        cost: impl Fn(EndpointId) -> u64,
        seed_draw: u64,
    ) -> Schedule {
        let all = takers.iter().map(|taker| {
            let cost = cost(taker.id).clamp(1, COST_MAX);
            let share = (u64::from(taker.weight) * unit / cost).max(1);
            Start { id: taker.id, weight: taker.weight, cost, share }
        });
        let starts: Vec<Start> = all.collect();
        let round: u64 = starts.iter().map(|start| start.share).sum();
        Schedule::after(&starts, round, within(seed_draw, round))
    }

    /// At the time `picks / round` an endpoint has had `floor(picks * share / round)` turns. What that
    /// leaves are fewer picks than endpoints, and they are made. So the start costs O(n log n), however
    /// large the weights are.
    fn after(starts: &[Start], round: u64, picks: u64) -> Schedule {
        let mut left = picks;
        let turns: Vec<Reverse<Turn>> = starts
            .iter()
            .map(|start| {
                let had = u128::from(picks) * u128::from(start.share) / u128::from(round.max(1));
                left -= had as u64;
                Reverse(Turn { due: (had as u64 + 1) * start.cost, weight: start.weight, id: start.id })
            })
            .collect();
        let mut schedule = Schedule { heap: BinaryHeap::from(turns) };
        // An id is looked up, as the order of the heap is another than that of the starts.
        let cost = |id| starts.binary_search_by_key(&id, |start| start.id).map_or(1, |at| starts[at].cost);
        for _ in 0..left {
            schedule.pick(cost);
        }
        schedule
    }

    /// The endpoint whose turn it is. `cost`, of 1 to [`COST_MAX`], says how long it then waits: twice
    /// the cost, twice as long.
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

    /// What [`Schedule::move_back`] rests on.
    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        let Some(Reverse(first)) = self.heap.peek() else { return Ok(()) };
        let crosswise = |due: u64, weight: u32| u128::from(due) * u128::from(weight);
        for Reverse(turn) in &self.heap {
            if turn.weight == 0 {
                return Err("an endpoint without a weight has a turn");
            }
            if turn.due > DUE_MAX {
                return Err("a deadline that should have been moved back");
            }
            // A cost after the earliest, as a whole number of its own.
            let latest = crosswise(first.due, turn.weight) + crosswise(COST_MAX, first.weight);
            if crosswise(turn.due, first.weight) > latest {
                return Err("a deadline is more than a cost after the earliest");
            }
        }
        Ok(())
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
    use naru_base::Chance;

    use super::*;

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
        (0..).zip(weights).map(|(id, &weight)| Taker { id: EndpointId(id), weight }).collect()
    }

    fn plain(weights: &[u32], seed_draw: u64) -> Schedule {
        Schedule::new(&all(weights), 1, |_| 1, seed_draw)
    }

    fn random_weights(chance: &mut Chance) -> Vec<u32> {
        (0..1 + chance.below(12)).map(|_| 1 + chance.below(20) as u32).collect()
    }

    #[test]
    fn picks_as_the_reference_does_whatever_the_costs() {
        let mut chance = Chance::new(21);
        for seed in 0..256 {
            let weights = random_weights(&mut chance);
            let mut schedule = plain(&weights, 0);
            let mut reference = RefSchedule::new(&weights);
            for at in 0..400 {
                let cost = if seed % 2 == 0 { 1 } else { 1 + chance.below(9) };
                let picked = schedule.pick(|_| cost).unwrap().index();
                assert_eq!(picked, reference.pick(|_| cost), "{weights:?}, pick {at}");
                assert_eq!(schedule.check_invariants(), Ok(()), "{weights:?}, pick {at}");
            }
        }
    }

    #[test]
    fn a_start_is_the_state_after_that_many_picks() {
        let mut chance = Chance::new(22);
        for _ in 0..64 {
            let weights = random_weights(&mut chance);
            let costs: Vec<u64> = weights.iter().map(|_| [1, 2, 4][chance.below(3) as usize]).collect();
            let cost = |id: EndpointId| costs[id.index()];
            let starts: Vec<Start> = all(&weights)
                .iter()
                .map(|&Taker { id, weight }| Start {
                    id,
                    weight,
                    cost: cost(id),
                    share: u64::from(weight) * 4 / cost(id),
                })
                .collect();
            let round = starts.iter().map(|start| start.share).sum();
            for picks in 0..round {
                let mut started = Schedule::after(&starts, round, picks);
                let mut walked = Schedule::after(&starts, round, 0);
                for _ in 0..picks {
                    walked.pick(cost);
                }
                for _ in 0..round {
                    assert_eq!(started.pick(cost), walked.pick(cost), "{weights:?} after {picks}");
                }
            }
        }
    }

    #[test]
    fn whoever_waits_longer_has_its_share_from_the_start() {
        let mut chance = Chance::new(24);
        let cost = |id: EndpointId| if id.0 == 0 { 10 * UNIT } else { UNIT };
        for _ in 0..100 {
            let mut schedule = Schedule::new(&all(&[1_000, 1_000]), UNIT, cost, chance.draw());
            let turns = (0..110).filter(|_| schedule.pick(cost) == Some(EndpointId(0))).count();
            assert!((9..=11).contains(&turns), "{turns}");
        }
    }

    #[test]
    fn moving_deadlines_back_changes_no_pick() {
        let mut chance = Chance::new(23);
        for _ in 0..64 {
            let weights = random_weights(&mut chance);
            let mut near = plain(&weights, 0);
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
        let mut schedule = plain(&weights, u64::MAX);
        let mut seen = [0_u32; 4];
        for _ in 0..10_000 {
            seen[schedule.pick(|_| COST_MAX).unwrap().index()] += 1;
        }
        assert!(seen[0] >= 4_998 && seen[2] >= 4_998, "{seen:?}");
        let mut dear = Schedule::new(&all(&weights), UNIT, |_| u64::MAX, 3);
        for _ in 0..10_000 {
            assert!(dear.pick(|_| COST_MAX).is_some());
            assert_eq!(dear.check_invariants(), Ok(()));
        }
        let mut schedule = Schedule { heap: BinaryHeap::new() };
        assert_eq!(schedule.pick(|_| 1), None);
        schedule.move_back();
    }

    #[test]
    fn what_cannot_be_is_told() {
        let turn = |due, weight, id| Reverse(Turn { due, weight, id: EndpointId(id) });
        let check = |turns: Vec<Reverse<Turn>>| Schedule { heap: turns.into() }.check_invariants();
        assert_eq!(check(vec![turn(1, 1, 0), turn(COST_MAX + 1, 1, 1)]), Ok(()));
        assert!(check(vec![turn(1, 1, 0), turn(COST_MAX + 2, 1, 1)]).is_err());
        assert!(check(vec![turn(DUE_MAX + 1, 1, 0)]).is_err());
        assert!(check(vec![turn(1, 1, 0), turn(7, 0, 1)]).is_err());
    }

    #[test]
    fn picking_does_not_grow_the_heap() {
        let mut schedule = plain(&[1, 2, 3], 0);
        let before = schedule.heap.capacity();
        for _ in 0..1_000 {
            schedule.pick(|_| 5);
        }
        schedule.move_back();
        assert_eq!(schedule.heap.capacity(), before);
    }
}
