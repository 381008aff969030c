//! What stays where the endpoints become others.

use naru_spec::{Cookie, PeakEwma, Sticky, StickyCarrier, WarmUp};

use super::fitness::{counts, every_policy};
use super::*;

/// Endpoints of equal weight, by their keys.
fn roster(settings: &LoadBalancing, keys: &[&str]) -> Arc<Roster> {
    let facts: Vec<_> =
        keys.iter().map(|key| EndpointFacts { key, ..EndpointFacts::of_weight(Weight(1)) }).collect();
    Arc::new(Roster::new(settings, &facts))
}

fn nobody(settings: &LoadBalancing) -> Balancer {
    Balancer::new(settings, &[], 0)
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

#[test]
fn an_endpoint_that_comes_later_warms_up_and_those_that_were_there_do_not_again() {
    for policy in [BalancingPolicy::RoundRobin, TWO] {
        let mut settings = LoadBalancing::from(policy);
        settings.warm_up = Some(WarmUp::over(Duration::from_secs(10)));
        let first = Balancer::follow(&nobody(&settings), at(5), roster(&settings, &["a", "b"]), 1);
        // All are new, and so all are alike.
        assert_eq!(first.deadline(), Some(at(15)));
        let shares = |balancer: &mut Balancer, now: Instant| -> Vec<f64> {
            let counts = counts(balancer, &PickContext { now, ..ANY }, 20_000);
            counts.iter().map(|count| *count as f64 / counts[0] as f64).collect()
        };
        assert_near(&shares(&mut first.clone(), at(5)), &[1.0, 1.0], 0.02);
        // One more, in another place: the others are at half of their way.
        let mut more = Balancer::follow(&first, at(10), roster(&settings, &["b", "a", "new"]), 1);
        assert_eq!(more.deadline(), Some(at(20)));
        assert_near(&shares(&mut more.clone(), at(10)), &[1.0, 1.0, 0.2], 0.02);
        assert_near(&shares(&mut more, at(17)), &[1.0, 1.0, 0.7], 0.03);
        more.tick(at(20));
        assert_eq!(more.deadline(), None);
        // It is gone and comes again.
        let less = Balancer::follow(&more, at(30), roster(&settings, &["b", "a"]), 1);
        assert_eq!(less.deadline(), None);
        let mut again = Balancer::follow(&less, at(40), roster(&settings, &["new", "b", "a"]), 1);
        let shares = shares(&mut again, at(43));
        assert_near(&[shares[0] / shares[1]], &[0.3], 0.03);
    }
}

#[test]
fn fitness_stays_with_its_endpoint() {
    for policy in every_policy() {
        let settings = LoadBalancing::from(policy);
        let mut before = Balancer::follow(&nobody(&settings), at(0), roster(&settings, &["a", "b", "c"]), 1);
        before.set_fitness(at(1), 50, &[Fitness::FIT, Fitness::Unfit, Fitness::FIT]);
        let mut after = Balancer::follow(&before, at(2), roster(&settings, &["b", "new", "a"]), 1);
        let counts = counts(&mut after, &ANY, 3_000);
        assert!(counts[0] == 0 && counts[1] > 800 && counts[2] > 800, "{policy:?}: {counts:?}");
    }
}

#[test]
fn latencies_stay_with_their_endpoint() {
    let settings = LoadBalancing::from(BalancingPolicy::PeakEwma(PeakEwma::default()));
    let mut before = Balancer::follow(&nobody(&settings), at(0), roster(&settings, &["a", "b"]), 1);
    before.on_latency(at(1), EndpointId(0), Duration::from_millis(5));
    before.on_no_answer(at(1), EndpointId(1), Duration::from_millis(500));
    let mut after = Balancer::follow(&before, at(1), roster(&settings, &["b", "a"]), 1);
    let counts = counts(&mut after, &PickContext { now: at(1), ..ANY }, 4_000);
    // Only where it is drawn twice.
    assert!((850..1_150).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_sticky_session_finds_its_endpoint_among_others() {
    let mut settings = LoadBalancing::round_robin();
    let carrier = StickyCarrier::Cookie(Cookie::new("at", None, "/", Vec::new()).unwrap());
    settings.sticky = Some(Sticky { carrier, is_strict: false });
    let before = Balancer::follow(&nobody(&settings), at(0), roster(&settings, &["a", "b"]), 1);
    let (_, given) = before.session(EndpointId(1), Bound::Free).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("cookie", given.to_str().unwrap().split(';').next().unwrap().parse().unwrap());
    let after = Balancer::follow(&before, at(1), roster(&settings, &["new", "x", "b"]), 1);
    assert_eq!(after.bound(&headers), Bound::Preferring(EndpointId(2)));
}

#[test]
fn what_is_followed_by_the_same_is_as_if_it_were_new() {
    // Whatever the path, and whatever the order of endpoints: a walk of changes, compared with one that began there.
    let all = ["a", "b", "c", "d", "e", "f"];
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let policies = every_policy();
        let settings = LoadBalancing::from(policies[chance.below(6) as usize]);
        let mut balancer = nobody(&settings);
        let mut unfit: Vec<&str> = Vec::new();
        for step in 0..8 {
            let now = at(step);
            let there: Vec<&str> = all.into_iter().filter(|_| chance.below(3) > 0).collect();
            unfit.retain(|key| there.contains(key));
            balancer = Balancer::follow(&balancer, now, roster(&settings, &there), 9);
            if chance.below(2) == 0 {
                unfit = there.iter().copied().filter(|_| chance.below(4) == 0).collect();
            }
            let fitness: Vec<Fitness> = there
                .iter()
                .map(|key| if unfit.contains(key) { Fitness::Unfit } else { Fitness::FIT })
                .collect();
            let told: Vec<Fitness> = (0..there.len() as u32)
                .map(|id| match (fitness[id as usize], balancer.fitness(EndpointId(id))) {
                    (Fitness::FIT, Some(known @ Fitness::Fit { .. })) => known,
                    (fitness, _) => fitness,
                })
                .collect();
            balancer.set_fitness(now, 0, &told);
            balancer.check_invariants().unwrap();
            let mut new = Balancer::new(&settings, &[], 9);
            new = Balancer::follow(&new, now, roster(&settings, &there), 9);
            new.set_fitness(now, 0, &fitness);
            let of = |balancer: &mut Balancer| counts(balancer, &PickContext { now, ..ANY }, 200);
            let (found, expected) = (of(&mut balancer), of(&mut new));
            let are_near = found.iter().zip(&expected).all(|(one, other)| one.abs_diff(*other) <= 3);
            assert!(are_near, "seed {seed}, step {step}, {settings:?}: {found:?}, not {expected:?}");
        }
    }
}
