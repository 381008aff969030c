//! How few requests move, how they are shared, and how loads are bounded.

use naru_base::Chance;
use naru_spec::{MaglevSize, RingSize};

use super::*;

/// The keys of endpoints on these ports.
pub(crate) fn locals(ports: &[u16]) -> Vec<String> {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
}

pub(crate) fn shared_by<'a>(keys: &'a [String], weights: &[u32]) -> Vec<Member<'a>> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let all = (0..).map(EndpointId).zip(keys.iter().zip(weights));
    all.map(|(endpoint, (key, weight))| Member { endpoint, key, share: f64::from(*weight) / sum as f64 })
        .collect()
}

fn ring(points: u64) -> HashTable {
    HashTable::Ring(RingSize::new(points, 8 << 20).unwrap())
}

fn maglev() -> HashTable {
    HashTable::Maglev(MaglevSize::default())
}

const IDLE: &[u32] = &[];

fn consistent(settings: ConsistentHash, keys: &[String], weights: &[u32]) -> Consistent {
    let all = shared_by(keys, weights);
    Consistent::new(settings, &Members { taking: all.clone(), all }, keys.len())
}

/// The part of all hashes that go elsewhere when one of ten endpoints is gone, whichever it is.
fn moved(table: HashTable, is_only_unfit: bool) -> Vec<f64> {
    let keys = locals(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let settings = ConsistentHash::new(table);
    let before = consistent(settings, &keys, &[1; 10]);
    let parts = (0..10).map(|gone| {
        let all = shared_by(&keys, &[1; 10]);
        let mut taking = all.clone();
        taking.remove(gone);
        for member in &mut taking {
            member.share = 1.0 / 9.0;
        }
        let all = if is_only_unfit { all } else { taking.clone() };
        let after = Consistent::new(settings, &Members { all, taking }, 10);
        let mut chance = Chance::new(9);
        let moved = (0..5_000).filter(|_| {
            let hash = chance.draw();
            before.pick(hash, 0, IDLE) != after.pick(hash, 0, IDLE)
        });
        moved.count() as f64 / 5_000.0
    });
    parts.collect()
}

#[test]
fn few_hashes_move_when_one_of_ten_endpoints_is_unfit() {
    for (table, most) in [(ring(1_024), 0.14), (ring(16_384), 0.12), (maglev(), 0.12)] {
        let parts = moved(table, true);
        // Those of the endpoint that is gone must.
        assert!(parts.iter().all(|part| (0.07..=most).contains(part)), "{table:?}: {parts:?}");
    }
}

#[test]
fn more_hashes_move_where_a_ring_is_made_for_fewer_endpoints_as_envoys_is() {
    let parts = moved(ring(1_024), false);
    assert!(parts.iter().all(|part| (0.12..=0.20).contains(part)), "{parts:?}");
}

#[test]
fn hashes_are_shared_by_weight() {
    let keys = locals(&[1, 2, 3, 4]);
    for (table, within) in [(ring(1_024), 0.2), (ring(65_536), 0.05), (maglev(), 0.05)] {
        let consistent = consistent(ConsistentHash::new(table), &keys, &[1, 2, 3, 4]);
        let (mut counts, mut chance) = ([0.0; 4], Chance::new(4));
        for _ in 0..50_000 {
            counts[consistent.pick(chance.draw(), 0, IDLE).unwrap().index()] += 1.0 / 50_000.0;
        }
        for (count, share) in counts.iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!((count / share - 1.0_f64).abs() < within, "{table:?}: {counts:?}");
        }
    }
}

#[test]
fn a_full_endpoint_passes_requests_on_and_no_endpoint_takes_more_than_its_bound() {
    let keys = locals(&[1, 2, 3, 4, 5, 6, 7]);
    for table in [ring(1_024), maglev()] {
        for percent in [100, 125, 200] {
            let settings = ConsistentHash { load_max_percent: Some(percent), ..ConsistentHash::new(table) };
            let weights = [1, 1, 1, 1, 2, 2, 2];
            let bounded = consistent(settings, &keys, &weights);
            let free = consistent(ConsistentHash::new(table), &keys, &weights);
            let (mut loads, mut chance) = ([0_u32; 7], Chance::new(6));
            let mut passed_on = 0;
            for total in 0..1_000_u32 {
                // All clients have the same few hashes.
                let hash = mix(chance.below(3));
                let picked = bounded.pick(hash, 0, &loads[..]).unwrap();
                assert_eq!(bounded.pick(hash, 0, &loads[..]), Some(picked));
                passed_on += u32::from(free.pick(hash, 0, &loads[..]) != Some(picked));
                loads[picked.index()] += 1;
                let slots = ((total + 1) * percent).div_ceil(100);
                let most = (slots * weights[picked.index()]).div_ceil(10).max(1) + 1;
                assert!(loads[picked.index()] <= most, "{loads:?} of {slots}");
            }
            assert!(passed_on > 100, "{passed_on}");
        }
    }
}

/// Loads that do not add up: the mean is said apart.
struct Said<'a>(&'a [u32], u64);

impl Loads for Said<'_> {
    fn active(&self, endpoint: EndpointId) -> u32 {
        self.0[endpoint.index()]
    }
    fn total(&self, _: usize) -> u64 {
        self.1
    }
}

#[test]
fn the_one_that_has_room_is_found_wherever_it_is() {
    // Of a number that has divisors.
    let keys = locals(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let settings = ConsistentHash { load_max_percent: Some(100), ..ConsistentHash::new(maglev()) };
    let bounded = consistent(settings, &keys, &[1; 12]);
    let mut chance = Chance::new(2);
    for free in 0..12 {
        // Room for two each.
        let mut loads = [3; 12];
        loads[free] = 2;
        for _ in 0..100 {
            let picked = bounded.pick(chance.draw(), 0, &Said(&loads, 23));
            assert_eq!(picked, Some(EndpointId(free as u32)));
        }
    }
    // One that has as much as it takes at most takes one more, also where another has less.
    let (mut counts, loads) = ([0; 12], [3, 2, 0, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    for _ in 0..1_000 {
        counts[bounded.pick(chance.draw(), 0, &Said(&loads, 23)).unwrap().index()] += 1;
    }
    assert!(counts[1] > 300 && counts[2] > 300 && counts[1] + counts[2] == 1_000, "{counts:?}");
}

#[test]
fn where_all_are_full_the_least_full_takes_it() {
    let keys = locals(&[1, 2, 3]);
    let settings = ConsistentHash { load_max_percent: Some(100), ..ConsistentHash::new(maglev()) };
    let bounded = consistent(settings, &keys, &[1, 1, 2]);
    let mut chance = Chance::new(1);
    for _ in 0..100 {
        // With one slot each at least, 80 of 1 is the least.
        assert_eq!(bounded.pick(chance.draw(), 0, &Said(&[90, 80, 100], 0)), Some(EndpointId(1)));
    }
}
