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
    let table = Arc::new(Table::new(settings.table, &all));
    Consistent::new(settings, table, &all, true, keys.len())
}

/// One of them takes no requests.
fn without(settings: ConsistentHash, table: &Arc<Table>, keys: &[String], gone: usize) -> Consistent {
    let mut taking = shared_by(keys, &vec![1; keys.len()]);
    taking.remove(gone);
    taking.iter_mut().for_each(|member| member.share = 1.0 / (keys.len() - 1) as f64);
    Consistent::new(settings, Arc::clone(table), &taking, false, keys.len())
}

/// How many of the hashes go elsewhere when one of ten endpoints is gone, whichever it is; and how many of them were not
/// its own.
fn moved(table: HashTable, is_only_unfit: bool) -> Vec<(f64, f64)> {
    let keys = locals(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let settings = ConsistentHash::new(table);
    let all = Arc::new(Table::new(table, &shared_by(&keys, &[1; 10])));
    let before = consistent(settings, &keys, &[1; 10]);
    let parts = (0..10).map(|gone| {
        let after = if is_only_unfit {
            without(settings, &all, &keys, gone)
        } else {
            let mut fewer = shared_by(&keys, &[1; 10]);
            fewer.remove(gone);
            fewer.iter_mut().for_each(|member| member.share = 1.0 / 9.0);
            Consistent::new(settings, Arc::new(Table::new(table, &fewer)), &fewer, true, 10)
        };
        let mut chance = Chance::new(9);
        let (mut moved, mut of_others) = (0.0, 0.0);
        for _ in 0..5_000 {
            let hash = chance.draw();
            let (was, is) = (before.pick(hash, 0, IDLE), after.pick(hash, 0, IDLE));
            assert!(is.is_some_and(|is| is.index() != gone));
            moved += f64::from(was != is) / 5_000.0;
            of_others += f64::from(was != is && was != Some(EndpointId(gone as u32))) / 5_000.0;
        }
        (moved, of_others)
    });
    parts.collect()
}

#[test]
fn only_the_hashes_of_an_endpoint_move_when_it_is_unfit() {
    for (table, most) in [(ring(1_024), 0.14), (ring(16_384), 0.12), (maglev(), 0.12)] {
        let parts = moved(table, true);
        assert!(parts.iter().all(|part| (0.07..=most).contains(&part.0) && part.1 == 0.0), "{parts:?}");
    }
}

/// The bounds are those of `docs/gaps.md`. A ring has as many points as before, and so each of those that stay has more.
#[test]
fn more_hashes_move_where_a_table_is_made_for_fewer_endpoints_as_envoys_is() {
    for (table, most) in [(ring(1_024), 0.19), (ring(16_384), 0.19), (maglev(), 0.12)] {
        let parts = moved(table, false);
        assert!(parts.iter().all(|part| part.0 <= most && part.1 > 0.0), "{table:?}: {parts:?}");
    }
}

/// What passing over comes to: of a ring, one without the points of those who take nothing.
#[test]
fn a_ring_whose_points_are_passed_over_is_one_without_them() {
    let keys = locals(&(1..=40).collect::<Vec<_>>());
    let members = shared_by(&keys, &[1; 40]);
    let ring = Ring::new(&members, RingSize::new(1_024, 8 << 20).unwrap());
    let mut chance = Chance::new(12);
    for _ in 0..50 {
        let bits = chance.draw() | 1;
        let takes = |endpoint: EndpointId| bits & 1 << endpoint.0 != 0;
        for _ in 0..100 {
            let (hash, attempt) = (chance.draw(), chance.below(6) as u32);
            let picked = ring.pick(hash, attempt, takes);
            assert_eq!(picked, ring.reference(hash, attempt, takes));
        }
    }
}

#[test]
fn hashes_that_find_nobody_in_the_table_go_to_the_others_by_their_parts() {
    let keys = locals(&(1..=2_000).collect::<Vec<_>>());
    for table in [ring(16_384), maglev()] {
        let settings = ConsistentHash::new(table);
        let all = shared_by(&keys, &vec![1; 2_000]);
        let table = Arc::new(Table::new(table, &all));
        // Two of two thousand.
        let mut taking = vec![all[3], all[1_999]];
        (taking[0].share, taking[1].share) = (0.25, 0.75);
        let few = Consistent::new(settings, table, &taking, false, 2_000);
        let (mut counts, mut chance) = ([0; 2], Chance::new(3));
        for _ in 0..10_000 {
            let hash = chance.draw();
            let picked = few.pick(hash, 0, IDLE).unwrap();
            assert_eq!(few.pick(hash, 0, IDLE), Some(picked), "equal hashes, equal picks");
            counts[usize::from(picked == EndpointId(1_999))] += 1;
        }
        assert!((2_000..3_600).contains(&counts[0]) && counts[0] + counts[1] == 10_000, "{counts:?}");
    }
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
