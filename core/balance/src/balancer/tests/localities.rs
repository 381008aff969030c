//! Localities by weight.

use naru_spec::{ConsistentHash, HashTable, MaglevSize, RingSize};

use super::fitness::{counts, every_policy};
use super::*;

fn zone(zone: &str) -> Locality {
    Locality { region: "eu".into(), zone: zone.into(), sub_zone: String::new() }
}

/// Endpoints by zone: its name, its weight, and the weights of endpoints.
fn zoned(policy: BalancingPolicy, zones: &[(&str, u32, &[u32])]) -> Balancer {
    let mut settings = LoadBalancing::from(policy);
    settings.weighs_localities = true;
    let places: Vec<(Locality, u32, u32)> = zones
        .iter()
        .flat_map(|(name, weight, endpoints)| endpoints.iter().map(|one| (zone(name), *weight, *one)))
        .collect();
    let keys: Vec<String> = (90..).take(places.len()).map(|port| format!("127.0.0.1:{port}")).collect();
    let facts: Vec<_> = places
        .iter()
        .zip(&keys)
        .map(|((locality, locality_weight, weight), key)| EndpointFacts {
            weight: Weight(*weight),
            priority: 0,
            locality,
            locality_weight: Weight(*locality_weight),
            key,
        })
        .collect();
    Balancer::new(&settings, &facts, 3)
}

#[test]
fn localities_share_by_their_weights_and_endpoints_within_them() {
    for policy in every_policy() {
        let mut balancer = zoned(policy, &[("a", 3, &[1]), ("b", 1, &[1, 1, 1]), ("c", 0, &[1])]);
        let counts = counts(&mut balancer, &ANY, 40_000);
        let in_b: usize = counts[1..4].iter().sum();
        assert!((28_500..31_500).contains(&counts[0]), "{policy:?}: {counts:?}");
        assert!((8_500..11_500).contains(&in_b), "{policy:?}: {counts:?}");
        assert!(counts[1..4].iter().all(|count| (2_200..4_500).contains(count)), "{policy:?}: {counts:?}");
        assert_eq!(counts[4], 0);
    }
}

#[test]
fn a_localitys_weight_shrinks_with_its_fit_endpoints() {
    // The table of Envoy's "Locality weighted load balancing": X weighs 1, Y 2.
    let rows = [(100, 33.3), (72, 33.3), (70, 32.9), (69, 32.6), (50, 25.9), (25, 14.9), (0, 0.0)];
    for (fit, expected) in rows {
        let mut balancer = zoned(BalancingPolicy::RoundRobin, &[("x", 1, &[1; 100]), ("y", 2, &[1; 100])]);
        let fitness: Vec<Fitness> =
            (0..100).map(|at| if at < fit { Fitness::FIT } else { Fitness::Unfit }).collect();
        // Without panic: of less than half it is seen otherwise.
        balancer.set_fitness(Instant(1), 50, &fitness);
        let counts = counts(&mut balancer, &ANY, 60_000);
        let to_x = counts[..100].iter().sum::<usize>() as f64 / 600.0;
        assert!((to_x - expected).abs() < 0.1, "{fit} fit: {to_x} %, not {expected}");
        assert_eq!(counts[fit..100].iter().sum::<usize>(), 0);
    }
}

#[test]
fn in_panic_weights_of_localities_do_not_count_except_in_a_hash() {
    for policy in every_policy() {
        let mut balancer = zoned(policy, &[("a", 9, &[1]), ("b", 1, &[1])]);
        balancer.set_fitness(Instant(1), 50, &[Fitness::Unfit; 2]);
        let counts = counts(&mut balancer, &ANY, 10_000);
        let expected = if matches!(policy, BalancingPolicy::ConsistentHash(_)) { 9_000 } else { 5_000 };
        assert!(counts[0].abs_diff(expected) < 400, "{policy:?}: {counts:?}");
    }
}

#[test]
fn localities_that_all_weigh_nothing_are_as_one_except_in_a_hash() {
    for policy in every_policy() {
        let mut balancer = zoned(policy, &[("a", 0, &[1]), ("b", 0, &[1])]);
        let picked = balancer.pick(&ANY, NO_LOAD, &mut Chance::new(1));
        // Envoy's `ZeroLocalityWeights`.
        assert_eq!(picked.is_some(), !matches!(policy, BalancingPolicy::ConsistentHash(_)), "{policy:?}");
    }
}

#[test]
fn where_one_locality_takes_all_the_others_take_nothing() {
    for policy in every_policy() {
        let mut balancer = zoned(policy, &[("a", 0, &[1, 1]), ("b", 7, &[1, 1]), ("c", 0, &[1])]);
        let counts = counts(&mut balancer, &ANY, 1_000);
        assert!(counts[2] > 350 && counts[3] > 350, "{policy:?}: {counts:?}");
        assert_eq!((counts[0], counts[1], counts[4]), (0, 0, 0), "{policy:?}");
    }
}

#[test]
fn the_first_endpoint_of_a_locality_says_its_weight() {
    let zones = [zone("a"), zone("b")];
    let facts: Vec<_> = [(0, 1), (1, 1), (0, 99), (1, 0)]
        .iter()
        .map(|&(at, weight)| EndpointFacts {
            locality: &zones[at],
            locality_weight: Weight(weight),
            ..EndpointFacts::of_weight(Weight(1))
        })
        .collect();
    let mut settings = LoadBalancing::round_robin();
    settings.weighs_localities = true;
    let mut balancer = Balancer::new(&settings, &facts, 0);
    assert_eq!(counts(&mut balancer, &ANY, 400), [100; 4]);
}

#[test]
fn without_being_asked_to_nobody_weighs_localities() {
    let locality = [zone("a"), zone("b")];
    let facts: Vec<_> = [(0, 9), (1, 1), (1, 1)]
        .iter()
        .map(|&(at, weight)| EndpointFacts {
            locality: &locality[at],
            locality_weight: Weight(weight),
            ..EndpointFacts::of_weight(Weight(1))
        })
        .collect();
    let mut balancer = Balancer::new(&LoadBalancing::round_robin(), &facts, 0);
    assert_eq!(counts(&mut balancer, &ANY, 300), [100; 3]);
}

#[test]
fn the_tables_of_localities_are_envoys() {
    let hash = |size| BalancingPolicy::ConsistentHash(ConsistentHash::new(size));
    let picked = |balancer: &mut Balancer, hash| {
        let context = PickContext { hash: Some(hash), ..ANY };
        balancer.pick(&context, NO_LOAD, &mut Chance::new(1)).unwrap().0
    };
    // `LocalityWeightedTinyRing`.
    let tiny = hash(HashTable::Ring(RingSize::new(6, 6).unwrap()));
    let mut balancer = zoned(tiny, &[("A", 1, &[1]), ("B", 2, &[1]), ("C", 3, &[1]), ("D", 0, &[1])]);
    for (point, expected) in [
        (928_266_305_478_181_108, 2),
        (4_443_673_547_860_492_590, 2),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (13_444_792_449_719_432_967, 2),
        (16_117_243_373_044_804_889, 0),
    ] {
        assert_eq!(picked(&mut balancer, point), expected);
    }
    // `HostAndLocalityWeightedTinyRing`.
    let nine = hash(HashTable::Ring(RingSize::new(9, 9).unwrap()));
    let mut balancer = zoned(nine, &[("A", 1, &[1, 2]), ("B", 2, &[1, 2])]);
    for (point, expected) in [
        (928_266_305_478_181_108, 2),
        (3_851_675_632_748_031_481, 3),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (7_700_377_290_971_790_572, 3),
        (12_559_126_875_973_811_811, 3),
        (13_444_792_449_719_432_967, 2),
    ] {
        assert_eq!(picked(&mut balancer, point), expected);
    }
    // `LocalityWeightedDifferentLocalityWeights` of Maglev: :91 is in C.
    let table = hash(HashTable::Maglev(MaglevSize::new(17).unwrap()));
    let mut balancer = zoned(table, &[("A", 8, &[1]), ("C", 2, &[2]), ("B", 0, &[3])]);
    let places: Vec<u32> = (0..17).map(|hash| picked(&mut balancer, hash)).collect();
    assert_eq!(places, [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
}
