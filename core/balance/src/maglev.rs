//! Maglev: a table of places, each of which belongs to one endpoint; a request goes to the place that
//! its hash is the number of.
//!
//! Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", 2016, section
//! 3.4, with weights as Envoy has them (`maglev_lb.cc`), and equal to Envoy's tables. Envoy goes around
//! all endpoints again and again, and skips those whose turn it is not; here the turns are looked up
//! in their order, which takes less time where weights differ a lot.
//!
//! One difference: Envoy builds another table where an endpoint becomes unfit. Here its places are passed
//! over, and only its own requests move.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use naru_base::EndpointId;
use naru_base::chance::mix;
use naru_spec::MaglevSize;

use crate::consistent::{LOOKS_MAX, Member};
use crate::xxhash::xxhash64;

/// Never changes, and so is shared by the copies of a balancer.
#[derive(Clone, Debug)]
pub(crate) struct Maglev {
    places: Arc<[EndpointId]>,
}

/// An endpoint's way through the table, in steps of a width of its own, which meet every place.
#[derive(Clone, Copy, Debug)]
struct Way {
    endpoint: EndpointId,
    weight: f64,
    at: u64,
    step: u64,
    /// When the next place is due: Envoy's `target_weight_`.
    target: f64,
}

impl Maglev {
    /// O(size) times the logarithms of the size and of the number of members.
    pub(crate) fn new(members: &[Member<'_>], size: MaglevSize) -> Maglev {
        let size = size.get();
        let mut members: Vec<&Member<'_>> = members.iter().filter(|member| member.share > 0.0).collect();
        // A table does not depend on the order in which endpoints are known.
        members.sort_unstable_by_key(|member| (member.key, member.endpoint));
        let heaviest = members.iter().map(|member| member.share).fold(0.0, f64::max);
        let ways = members.iter().map(|member| Way {
            endpoint: member.endpoint,
            weight: member.share,
            at: xxhash64(member.key.as_bytes(), 0) % size,
            step: xxhash64(member.key.as_bytes(), 1) % (size - 1).max(1) + 1,
            target: 0.0,
        });
        let mut ways: Vec<Way> = ways.collect();
        // In which round whose turn it is, in their order.
        let mut turns: BinaryHeap<Reverse<(u64, usize)>> =
            (0..ways.len()).map(|way| Reverse((1, way))).collect();
        let mut places: Vec<Option<EndpointId>> = vec![None; size as usize];
        let mut free = if ways.is_empty() { 0 } else { size };
        while free > 0 {
            let Some(Reverse((round, which))) = turns.pop() else { break };
            let Some(way) = ways.get_mut(which) else { break };
            way.target += heaviest;
            // The size is a prime, so a free place is met.
            while let Some(place) = places.get_mut(way.at as usize) {
                way.at = (way.at + way.step) % size;
                if place.is_none() {
                    *place = Some(way.endpoint);
                    free -= 1;
                    break;
                }
            }
            turns.push(Reverse((next_round(way, round), which)));
        }
        Maglev { places: places.into_iter().flatten().collect() }
    }

    /// O(1). A further attempt looks at another place: perhaps at the same endpoint again. Where a place belongs to one
    /// that does not take requests, `mix` says the next for the same hash; `None` after [`LOOKS_MAX`] of them.
    pub(crate) fn pick(
        &self,
        hash: u64,
        attempt: u32,
        takes: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let hash = if attempt == 0 { hash } else { hash ^ u64::from(attempt).wrapping_neg() };
        let looks = (0..u64::from(LOOKS_MAX)).map(|look| match look {
            0 => hash,
            look => mix(mix(hash).wrapping_add(look)),
        });
        for look in looks {
            let at = look.checked_rem(self.places.len() as u64)?;
            let endpoint = self.places.get(at as usize).copied()?;
            if takes(endpoint) {
                return Some(endpoint);
            }
        }
        None
    }

    pub(crate) fn check_invariants(&self, size: MaglevSize) -> Result<(), &'static str> {
        if self.places.is_empty() || self.places.len() as u64 == size.get() {
            Ok(())
        } else {
            Err("a table has places that are nobody's")
        }
    }
}

/// The first round after this one by which an endpoint has earned its next place, as Envoy reckons it:
/// `round * weight >= target`.
fn next_round(way: &Way, round: u64) -> u64 {
    let mut next = (round + 1).max((way.target / way.weight) as u64);
    // What rounding may have taken.
    if next > round + 1 && (next - 1) as f64 * way.weight >= way.target {
        next -= 1;
    }
    if (next as f64) * way.weight < way.target {
        next += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;
    use crate::consistent::tests::{locals, shared_by};

    fn size(size: u64) -> MaglevSize {
        MaglevSize::new(size).unwrap()
    }

    fn places(table: &Maglev) -> Vec<u32> {
        table.places.iter().map(|endpoint| endpoint.0).collect()
    }

    fn table(ports: &[u16], weights: &[u32], places: u64) -> Maglev {
        let keys = locals(ports);
        Maglev::new(&shared_by(&keys, weights), size(places))
    }

    /// Envoy's loop, word for word.
    fn reference(members: &[Member<'_>], size: u64) -> Vec<u32> {
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.key.to_owned());
        let heaviest = members.iter().map(|member| member.share).fold(0.0, f64::max);
        let mut found = vec![None; size as usize];
        let mut next = vec![0_u64; members.len()];
        let mut target = vec![0.0; members.len()];
        let mut filled = 0;
        let mut iteration = 1_u32;
        while filled < size {
            for (at, member) in members.iter().enumerate() {
                if filled == size || f64::from(iteration) * member.share < target[at] {
                    continue;
                }
                target[at] += heaviest;
                let key = member.key.as_bytes();
                let (offset, skip) = (xxhash64(key, 0) % size, xxhash64(key, 1) % (size - 1) + 1);
                loop {
                    let place = &mut found[((offset + skip * next[at]) % size) as usize];
                    next[at] += 1;
                    if place.is_none() {
                        *place = Some(member.endpoint.0);
                        break;
                    }
                }
                filled += 1;
            }
            iteration += 1;
        }
        found.into_iter().flatten().collect()
    }

    #[test]
    fn a_table_is_envoys_table() {
        // `Basic` in Envoy's `maglev_lb_test.cc`.
        let basic = table(&[90, 91, 92, 93, 94, 95], &[1; 6], 7);
        assert_eq!(places(&basic), [2, 4, 0, 1, 5, 0, 3]);
        // `BasicWithRetryHostPredicate`.
        let picked = |attempt| basic.pick(10, attempt, |_| true).unwrap().0;
        assert_eq!((picked(0), picked(1), picked(2)), (1, 0, 5));
        // `Weighted`.
        let weighted = table(&[90, 91], &[1, 2], 17);
        assert_eq!(places(&weighted), [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
        // `LocalityWeightedSameLocalityWeights`: the shares of the localities are what counts.
        let even = table(&[90, 91], &[1, 1], 17);
        assert_eq!(places(&even), [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]);
        // `LocalityWeightedDifferentLocalityWeights`.
        let uneven = table(&[90, 91], &[8, 2], 17);
        assert_eq!(places(&uneven), [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
        // `BasicStability`: in another order.
        let keys = locals(&[95, 92, 90, 94, 91, 93]);
        let turned = Maglev::new(&shared_by(&keys, &[1; 6]), size(7));
        assert_eq!(places(&turned), [1, 3, 2, 4, 0, 2, 5]);
    }

    #[test]
    fn a_table_is_what_envoys_loop_gives_whatever_the_weights() {
        let mut chance = Chance::new(41);
        for _ in 0..256 {
            let count = 1 + chance.below(20);
            let ports: Vec<u16> = (0..count).map(|at| 1_000 + at as u16).collect();
            let bound = [1, 3, 1_000][chance.below(3) as usize];
            let weights: Vec<u32> = ports.iter().map(|_| 1 + chance.below(bound) as u32).collect();
            let keys = locals(&ports);
            let members = shared_by(&keys, &weights);
            let places_max = [2, 3, 101, 503][chance.below(4) as usize];
            let table = Maglev::new(&members, size(places_max));
            assert_eq!(places(&table), reference(&members, places_max), "{weights:?}");
            table.check_invariants(size(places_max)).unwrap();
        }
    }

    #[test]
    fn one_heavy_endpoint_among_many_light_ones_takes_no_time() {
        let ports: Vec<u16> = (1..=1_000).collect();
        let mut weights = vec![1; 1_000];
        weights[500] = u32::MAX;
        let table = table(&ports, &weights, 65_537);
        // Each has its first turn, and the light ones never another.
        assert_eq!(places(&table).iter().filter(|place| **place == 500).count(), 65_537 - 999);
        assert_eq!(Maglev::new(&[], size(7)).pick(3, 1, |_| true), None);
    }
}
