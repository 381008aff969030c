//! Who is picked when some are not fit, or not warm, or were tried, or are asked for.

use naru_spec::{
    ConsistentHash, Cookie, HashTable, MaglevSize, PeakEwma, RingSize, Sticky, StickyCarrier, WarmUp,
};

use super::*;
use crate::least_request::LeastRequest as LeastRequestPool;
use crate::round_robin::RoundRobin;

/// Endpoints of priorities, of equal weight.
pub(super) fn prioritized(settings: &LoadBalancing, priorities: &[u32]) -> Balancer {
    let keys: Vec<String> = (0..priorities.len()).map(|at| format!("10.0.0.{at}:80")).collect();
    let facts: Vec<_> = priorities
        .iter()
        .zip(&keys)
        .map(|(&priority, key)| EndpointFacts { priority, key, ..EndpointFacts::of_weight(Weight(1)) })
        .collect();
    Balancer::new(settings, &facts, 7)
}

pub(super) fn ring() -> BalancingPolicy {
    BalancingPolicy::ConsistentHash(ConsistentHash::new(HashTable::Ring(RingSize::default())))
}

pub(super) fn maglev() -> BalancingPolicy {
    let size = MaglevSize::new(1_009).unwrap();
    BalancingPolicy::ConsistentHash(ConsistentHash::new(HashTable::Maglev(size)))
}

fn ewma() -> BalancingPolicy {
    BalancingPolicy::PeakEwma(PeakEwma::default())
}

pub(super) fn every_policy() -> [BalancingPolicy; 6] {
    [BalancingPolicy::RoundRobin, TWO, BalancingPolicy::Random, ring(), maglev(), ewma()]
}

/// How often each endpoint is picked of so many times.
pub(super) fn counts(balancer: &mut Balancer, context: &PickContext, count: usize) -> Vec<usize> {
    let mut counts = vec![0; balancer.len()];
    let mut chance = Chance::new(17);
    for _ in 0..count {
        if let Some(picked) = balancer.pick(context, NO_LOAD, &mut chance) {
            counts[picked.index()] += 1;
        }
    }
    balancer.check_invariants().unwrap();
    counts
}

#[test]
fn the_unfit_are_left_out_by_every_policy() {
    for policy in every_policy() {
        let mut balancer = prioritized(&policy.into(), &[0; 6]);
        let fitness = [Fitness::FIT, Fitness::Unfit, Fitness::FIT, Fitness::FIT, Fitness::Unfit];
        balancer.set_fitness(Instant(1), 50, &fitness);
        let counts = counts(&mut balancer, &ANY, 4_000);
        assert_eq!((counts[1], counts[4]), (0, 0), "{policy:?}");
        assert!([0, 2, 3, 5].iter().all(|&at| (700..1_300).contains(&counts[at])), "{policy:?}: {counts:?}");
    }
}

#[test]
fn load_goes_to_the_next_priority_as_far_as_the_first_is_not_fit() {
    for policy in every_policy() {
        let mut balancer = prioritized(&policy.into(), &[5, 5, 9, 9]);
        assert_eq!(counts(&mut balancer, &ANY, 1_000)[2..], [0, 0], "{policy:?}");
        // Half of the first: 70 to 30.
        balancer.set_fitness(Instant(1), 50, &[Fitness::Unfit]);
        let half = counts(&mut balancer, &ANY, 10_000);
        assert_eq!(half[0], 0);
        assert!((6_800..7_200).contains(&half[1]), "{policy:?}: {half:?}");
        balancer.set_fitness(Instant(2), 50, &[Fitness::Unfit, Fitness::Unfit]);
        assert_eq!(counts(&mut balancer, &ANY, 1_000)[..2], [0, 0]);
        // And back.
        balancer.set_fitness(Instant(3), 50, &[]);
        assert_eq!(counts(&mut balancer, &ANY, 1_000)[2..], [0, 0]);
    }
}

#[test]
fn a_hash_says_its_priority_as_envoys_does() {
    // `RingHashFailoverTest.BasicFailover`: 70 percent go to the first, and these are the hashes of 0 to 69.
    for policy in [ring(), maglev()] {
        let mut balancer = prioritized(&policy.into(), &[0, 0, 1]);
        balancer.set_fitness(Instant(1), 50, &[Fitness::FIT, Fitness::Unfit]);
        for (hash, expected) in [(0, 0), (69, 0), (70, 2), (71, 2), (99, 2), (100, 0), (169, 0), (170, 2)] {
            let context = PickContext { hash: Some(hash), ..ANY };
            let picked = balancer.pick(&context, NO_LOAD, &mut Chance::new(0));
            assert_eq!(picked, Some(EndpointId(expected)), "{hash}");
        }
    }
}

#[test]
fn the_degraded_take_what_is_left_also_by_hash() {
    for policy in every_policy() {
        let mut balancer = prioritized(&policy.into(), &[0, 0, 0, 0]);
        let fitness = [Fitness::FIT, Fitness::Degraded, Fitness::Degraded, Fitness::Degraded];
        balancer.set_fitness(Instant(1), 50, &fitness);
        // A quarter is worth 35.
        let counts = counts(&mut balancer, &ANY, 10_000);
        assert!((3_300..3_700).contains(&counts[0]), "{policy:?}: {counts:?}");
        assert!(counts[1..].iter().all(|count| *count > 1_500), "{policy:?}: {counts:?}");
    }
}

#[test]
fn in_panic_everybody_is_picked_and_without_it_nobody() {
    for policy in every_policy() {
        let settings = LoadBalancing::from(policy);
        let mut panics = prioritized(&settings, &[0; 4]);
        panics.set_fitness(Instant(1), 50, &[Fitness::Unfit; 4]);
        assert!(counts(&mut panics, &ANY, 1_000).iter().all(|count| *count > 150), "{policy:?}");
        let mut calm = prioritized(&settings, &[0; 4]);
        calm.set_fitness(Instant(1), 0, &[Fitness::Unfit; 4]);
        assert_eq!(counts(&mut calm, &ANY, 100), [0; 4], "{policy:?}");
        calm.set_fitness(Instant(2), 0, &[Fitness::Unfit, Fitness::FIT, Fitness::Unfit, Fitness::Unfit]);
        assert_eq!(counts(&mut calm, &ANY, 100), [0, 100, 0, 0], "{policy:?}");
    }
}

#[test]
fn the_excluded_are_not_picked_in_panic_and_do_not_count() {
    for policy in every_policy() {
        let mut balancer = prioritized(&policy.into(), &[0, 0, 0, 1]);
        let fitness = [Fitness::Excluded, Fitness::Excluded, Fitness::FIT, Fitness::FIT];
        balancer.set_fitness(Instant(1), 50, &fitness);
        // One of one is fit: nothing spills.
        assert_eq!(counts(&mut balancer, &ANY, 100), [0, 0, 100, 0], "{policy:?}");
        balancer.set_fitness(
            Instant(2),
            50,
            &[Fitness::Excluded, Fitness::Unfit, Fitness::Excluded, Fitness::Unfit],
        );
        let counts = counts(&mut balancer, &ANY, 1_000);
        assert!(counts[1] > 300 && counts[3] > 300 && counts[0] + counts[2] == 0, "{policy:?}: {counts:?}");
    }
}

#[test]
fn equal_hashes_are_equal_endpoints_whatever_chance_says() {
    for policy in [ring(), maglev()] {
        let mut all = prioritized(&policy.into(), &[0; 10]);
        let mut fewer = all.clone();
        fewer.set_fitness(Instant(2), 50, &[Fitness::Unfit]);
        let mut chance = Chance::new(2);
        let mut moved = 0;
        for hash in (0..1_000).map(mix) {
            let context = PickContext { hash: Some(hash), ..ANY };
            let picked = all.pick(&context, NO_LOAD, &mut chance);
            assert_eq!(picked, all.pick(&context, NO_LOAD, &mut chance));
            let after = fewer.pick(&context, NO_LOAD, &mut chance);
            assert_eq!(after, fewer.pick(&context, NO_LOAD, &mut chance));
            moved += usize::from(picked != after && picked != Some(EndpointId(0)));
        }
        assert_eq!(moved, 0, "{policy:?}: those of others stay");
    }
}

#[test]
fn those_that_were_tried_are_avoided_as_long_as_there_are_others() {
    for policy in every_policy() {
        for priorities in [[0, 0, 0], [0, 0, 1]] {
            let mut balancer = prioritized(&policy.into(), &priorities);
            balancer.set_fitness(Instant(1), 50, &[Fitness::Unfit]);
            let mut context = ANY;
            context.tried.insert(EndpointId(1));
            let counts = counts(&mut balancer, &context, 2_000);
            // Six picks, each of which may be the same again. A hash keeps to its priority.
            let hashes = matches!(policy, BalancingPolicy::ConsistentHash(_));
            let least = if hashes && priorities[2] == 1 { 500 } else { 1_700 };
            assert!(counts[2] > least, "{policy:?}: {counts:?}");
        }
    }
    let mut only = prioritized(&LoadBalancing::round_robin(), &[0]);
    let mut context = ANY;
    context.tried.insert(EndpointId(0));
    assert_eq!(only.pick(&context, NO_LOAD, &mut Chance::new(0)), Some(EndpointId(0)));
}

#[test]
fn endpoints_are_told_apart_by_the_lowest_digits_of_their_ids() {
    let mut tried = Tried::default();
    assert!(tried.is_empty());
    tried.insert(EndpointId(33));
    assert!(tried.contains(EndpointId(33)) && tried.contains(EndpointId(1)) && !tried.is_empty());
    assert!(!tried.contains(EndpointId(2)));
}

#[test]
fn a_sticky_session_comes_before_the_policy_and_ends_with_its_endpoint() {
    let carrier = StickyCarrier::Cookie(Cookie::new("at", None, "/", Vec::new()).unwrap());
    for is_strict in [false, true] {
        let mut settings = LoadBalancing::round_robin();
        settings.sticky = Some(Sticky { carrier: carrier.clone(), is_strict });
        let mut balancer = prioritized(&settings, &[0, 0, 1]);
        let mut chance = Chance::new(1);
        let mut pick = |balancer: &mut Balancer, context: &PickContext| {
            balancer.pick(context, NO_LOAD, &mut chance).map(|picked| picked.0)
        };
        assert_eq!(balancer.bound(&HeaderMap::new()), Bound::Free);
        let (_, given) = balancer.session(EndpointId(2), Bound::Free).unwrap();
        let mut headers = HeaderMap::new();
        let cookie = given.to_str().unwrap().split(';').next().unwrap().to_owned();
        headers.insert("cookie", cookie.parse().unwrap());
        let bound = balancer.bound(&headers);
        assert_eq!(balancer.session(EndpointId(2), bound), None);

        let mut context = PickContext { bound, ..ANY };
        // Also of a priority that takes nothing, and degraded.
        assert_eq!(pick(&mut balancer, &context), Some(2));
        balancer.set_fitness(Instant(1), 50, &[Fitness::FIT, Fitness::FIT, Fitness::Degraded]);
        assert_eq!(pick(&mut balancer, &context), Some(2));
        // It is unfit: another, or none.
        let is_as_asked = |picked: Option<u32>| match is_strict {
            true => picked.is_none(),
            false => picked.is_some_and(|picked| picked != 2),
        };
        balancer.set_fitness(Instant(1), 50, &[Fitness::FIT, Fitness::FIT, Fitness::Unfit]);
        assert!(is_as_asked(pick(&mut balancer, &context)));
        // It failed: another, or the same.
        balancer.set_fitness(Instant(1), 50, &[]);
        context.tried.insert(EndpointId(2));
        assert_eq!(pick(&mut balancer, &context) == Some(2), is_strict);
        // It is gone.
        let mut fewer = prioritized(&settings, &[0, 0]);
        let context = PickContext { bound: fewer.bound(&headers), ..ANY };
        assert!(is_as_asked(pick(&mut fewer, &context)));
    }
}

#[test]
fn passthrough_picks_nobody() {
    let mut balancer = prioritized(&BalancingPolicy::Passthrough.into(), &[0, 0]);
    assert_eq!(counts(&mut balancer, &ANY, 100), [0, 0]);
}

#[test]
fn an_endpoint_that_became_fit_takes_a_growing_part_of_its_share() {
    for policy in [BalancingPolicy::RoundRobin, TWO] {
        let mut settings = LoadBalancing::from(policy);
        settings.warm_up = Some(WarmUp::over(Duration::from_secs(10)));
        let mut balancer = prioritized(&settings, &[0; 3]);
        assert_eq!(balancer.deadline(), None);
        let begin = Instant(60_000_000_000);
        balancer.set_fitness(begin, 50, &[Fitness::Fit { since: begin }]);
        let end = begin + Duration::from_secs(10);
        assert_eq!(balancer.deadline(), Some(end));
        let part = |balancer: &mut Balancer, now: Instant| {
            let counts = counts(balancer, &PickContext { now, ..ANY }, 21_000);
            assert!(counts[1].abs_diff(counts[2]) < 700, "{counts:?}");
            counts[0] as f64 / counts[1] as f64
        };
        for (percent, expected) in [(0, 0.1), (5, 0.1), (30, 0.3), (75, 0.75), (100, 1.0)] {
            let now = begin + Duration::from_millis(percent * 100);
            balancer.tick(now - Duration::from_nanos(1));
            let found = part(&mut balancer, now);
            assert!((found - expected).abs() < 0.02, "{policy:?} at {percent} %: {found}");
        }
        // At its end the simple pools are back.
        assert_eq!(balancer.deadline(), Some(end));
        balancer.tick(end);
        assert_eq!(balancer.deadline(), None);
        assert!((part(&mut balancer, end) - 1.0).abs() < 0.05);
        assert!(matches!(
            balancer.pool,
            Pool::RoundRobin(RoundRobin::Even { .. }) | Pool::LeastRequest(LeastRequestPool::Even { .. })
        ));
    }
}

#[test]
fn equal_news_do_not_disturb_a_rotation() {
    let mut balancer = prioritized(&LoadBalancing::round_robin(), &[0; 5]);
    let mut chance = Chance::new(0);
    let first = balancer.pick(&ANY, NO_LOAD, &mut chance).unwrap();
    for step in 1..10 {
        balancer.set_fitness(Instant(step), 50, &[Fitness::FIT; 9]);
        let next = balancer.pick(&ANY, NO_LOAD, &mut chance).unwrap();
        assert_eq!(next.0, (first.0 + step as u32) % 5);
    }
}

#[test]
fn a_bias_says_how_much_a_load_counts() {
    let shares_of = |bias| {
        let policy = BalancingPolicy::LeastRequest(LeastRequest { choices: 2, bias: Thousandths(bias) });
        shares(policy, &[1, 2], &[0, 3], 30_000)
    };
    assert_near(&shares_of(0), &[1.0 / 3.0, 2.0 / 3.0], 0.001);
    assert_near(&shares_of(1_000), &[2.0 / 3.0, 1.0 / 3.0], 0.001);
    assert_near(&shares_of(500), &[0.5, 0.5], 0.001);
    assert_near(&shares_of(2_000), &[8.0 / 9.0, 1.0 / 9.0], 0.001);
}

#[test]
fn the_slow_are_avoided_by_peak_ewma() {
    let mut balancer = prioritized(&ewma().into(), &[0; 4]);
    for endpoint in (0..4).map(EndpointId) {
        let latency = if endpoint.0 == 2 { 500 } else { 5 };
        balancer.on_latency(Instant(1), endpoint, Duration::from_millis(latency));
    }
    let counts = counts(&mut balancer, &PickContext { now: Instant(1), ..ANY }, 16_000);
    // Drawn twice, once in sixteen.
    assert!((850..1_150).contains(&counts[2]), "{counts:?}");
}
