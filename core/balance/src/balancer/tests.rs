//! The kinds as a caller sees them.

use naru_base::Weight;
use naru_spec::{LeastRequest, Locality, Thousandths};

use super::*;

mod fitness;
mod followed;
mod localities;
mod walk;

const NO_LOAD: &[u32] = &[];
const ANY: PickContext = PickContext { now: Instant::ZERO, hash: None, bound: Bound::Free, tried: Tried(0) };

fn balancer(policy: BalancingPolicy, weights: &[u32], seed_draw: u64) -> Balancer {
    let facts: Vec<_> = weights.iter().map(|&weight| EndpointFacts::of_weight(Weight(weight))).collect();
    Balancer::new(&policy.into(), &facts, seed_draw)
}

fn picks(policy: BalancingPolicy, weights: &[u32], loads: &[u32], count: usize) -> Vec<usize> {
    let mut balancer = balancer(policy, weights, 0);
    let mut chance = Chance::new(1);
    (0..count).map(|_| balancer.pick(&ANY, loads, &mut chance).unwrap().index()).collect()
}

fn shares(policy: BalancingPolicy, weights: &[u32], loads: &[u32], count: usize) -> Vec<f64> {
    let mut shares = vec![0.0; weights.len()];
    for picked in picks(policy, weights, loads, count) {
        shares[picked] += 1.0 / count as f64;
    }
    shares
}

fn assert_near(shares: &[f64], expected: &[f64], within: f64) {
    let is_near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < within);
    assert!(is_near && shares.len() == expected.len(), "{shares:?} is not near {expected:?}");
}

const fn choices(choices: u32) -> BalancingPolicy {
    BalancingPolicy::LeastRequest(LeastRequest { choices, bias: Thousandths::ONE })
}

const TWO: BalancingPolicy = choices(2);
const POLICIES: [BalancingPolicy; 3] = [BalancingPolicy::RoundRobin, TWO, BalancingPolicy::Random];

#[test]
fn round_robin_goes_around_by_id_and_by_weight() {
    fn check(weights: &[u32], expected: &[usize]) {
        let rounds = [expected, expected].concat();
        assert_eq!(picks(BalancingPolicy::RoundRobin, weights, NO_LOAD, rounds.len()), rounds, "{weights:?}");
    }
    check(&[1, 1, 1], &[0, 1, 2]);
    check(&[9, 9, 9], &[0, 1, 2]);
    check(&[5], &[0]);
    // Deadlines 2/2 and 1/1 are the same moment: by id.
    check(&[1, 2], &[1, 0, 1]);
    check(&[2, 1], &[0, 0, 1]);
    check(&[1, 2, 3], &[2, 1, 2, 0, 1, 2]);
    check(&[5, 1, 1], &[0, 0, 0, 0, 0, 1, 2]);
    check(&[3, 5], &[1, 0, 1, 1, 0, 1, 0, 1]);
    check(&[0, 1, 0, 1], &[1, 3]);
    check(&[0, 2, 0, 1], &[1, 1, 3]);
}

#[test]
fn round_robin_keeps_to_the_shares_at_every_moment() {
    // After n picks an endpoint has had at most one turn less than its share, and at most as many
    // more as its share of one turn of each endpoint.
    let mut chance = Chance::new(31);
    for _ in 0..200 {
        let weights: Vec<u32> = (0..1 + chance.below(10)).map(|_| 1 + chance.below(100) as u32).collect();
        let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut balancer = balancer(BalancingPolicy::RoundRobin, &weights, 0);
        let mut turns = vec![0_i64; weights.len()];
        for picked in 1..=500 {
            turns[balancer.pick(&ANY, NO_LOAD, &mut chance).unwrap().index()] += 1;
            for (&had, &weight) in turns.iter().zip(&weights) {
                let ahead = had * total - picked * i64::from(weight);
                let most = i64::from(weight) * weights.len() as i64;
                assert!((-total..=most).contains(&ahead), "{turns:?} of {weights:?}");
            }
        }
    }
}

#[test]
fn a_rotation_starts_where_the_draw_says() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 3]] {
        let mut first = vec![0_usize; weights.len()];
        let mut chance = Chance::new(6);
        for _ in 0..6_000 {
            let mut balancer = balancer(BalancingPolicy::RoundRobin, weights, chance.draw());
            first[balancer.pick(&ANY, NO_LOAD, &mut Chance::new(0)).unwrap().index()] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (&count, &weight) in first.iter().zip(weights) {
            let expected = 6_000 * weight as usize / total as usize;
            assert!(count.abs_diff(expected) < 250, "{first:?} of {weights:?}");
        }
    }
}

#[test]
fn least_request_prefers_the_less_loaded_of_those_drawn() {
    // Endpoint i of n has i in flight. It is picked if it is drawn and none below it is.
    for drawn in 1..=4 {
        let loads = [0, 1, 2, 3, 4];
        let expected: Vec<f64> = (0..5_i32)
            .map(|at| {
                let part = |count: i32| (f64::from(count) / 5.0).powi(drawn as i32);
                part(5 - at) - part(4 - at)
            })
            .collect();
        let policy = choices(drawn);
        assert_near(&shares(policy, &[1; 5], &loads, 100_000), &expected, 0.01);
    }
}

#[test]
fn least_request_takes_the_first_drawn_among_equals() {
    assert_near(&shares(TWO, &[4; 8], &[7; 8], 100_000), &[0.125; 8], 0.01);
    // The same draws, one choice or two: between equals the second changes nothing.
    let mut one = balancer(choices(1), &[1; 8], 0);
    let mut two = balancer(TWO, &[1; 8], 0);
    let (mut chance, mut ahead) = (Chance::new(8), Chance::new(8));
    for _ in 0..1_000 {
        assert_eq!(one.pick(&ANY, NO_LOAD, &mut chance), two.pick(&ANY, NO_LOAD, &mut ahead));
        chance.draw();
    }
}

#[test]
fn least_request_keeps_loads_even() {
    // Two choices keep the fullest near the mean, where one lets it drift away.
    let fullest = |drawn| {
        let mut balancer = balancer(choices(drawn), &[1; 50], 0);
        let (mut loads, mut chance) = ([0_u32; 50], Chance::new(12));
        for _ in 0..100_000 {
            let picked = balancer.pick(&ANY, &loads[..], &mut chance).unwrap();
            loads[picked.index()] += 1;
        }
        loads.into_iter().max().unwrap()
    };
    assert!(fullest(2) <= 2_003, "{}", fullest(2));
    assert!(fullest(1) > 2_040, "{}", fullest(1));
}

#[test]
fn least_request_with_unequal_weights_divides_them_by_the_load() {
    let weights = [1, 2, 3];
    assert_eq!(
        picks(TWO, &weights, NO_LOAD, 600),
        picks(BalancingPolicy::RoundRobin, &weights, NO_LOAD, 600),
        "without load it is the weighted rotation"
    );
    // 1/1 to 2/4, and 6/2 to 1/1 to 3/3.
    assert_near(&shares(TWO, &[1, 2], &[0, 3], 30_000), &[2.0 / 3.0, 1.0 / 3.0], 0.001);
    assert_near(&shares(TWO, &[6, 1, 3], &[1, 0, 2], 30_000), &[0.6, 0.2, 0.2], 0.001);
    // The busiest possible endpoint waits its turn, and is not forgotten.
    let busy = shares(TWO, &[1, 2], &[0, 99], 30_000);
    assert_near(&busy, &[50.0 / 51.0, 1.0 / 51.0], 0.001);
}

#[test]
fn random_takes_each_as_its_weight_says() {
    let weights = [1, 2, 3, 0, 94];
    assert_near(
        &shares(BalancingPolicy::Random, &weights, NO_LOAD, 100_000),
        &[0.01, 0.02, 0.03, 0.0, 0.94],
        0.003,
    );
    assert_near(&shares(BalancingPolicy::Random, &[3; 4], NO_LOAD, 100_000), &[0.25; 4], 0.005);
}

#[test]
fn nothing_is_picked_only_where_nothing_can_be() {
    for policy in POLICIES {
        for weights in [&[][..], &[0], &[0, 0]] {
            let mut none = balancer(policy, weights, 9);
            assert_eq!(none.pick(&ANY, NO_LOAD, &mut Chance::new(0)), None);
            assert_eq!((none.len(), none.is_empty()), (weights.len(), weights.is_empty()));
        }
    }
}

#[test]
fn a_long_walk_picks_only_endpoints_with_weight_and_repeats_itself() {
    for policy in POLICIES {
        let mut chance = Chance::new(77);
        for _ in 0..100 {
            // Of every size, zeros among them.
            let weights: Vec<u32> = (0..1 + chance.below(30))
                .map(|_| (chance.draw() >> (32 + chance.below(33)).min(63)) as u32)
                .collect();
            let seed_draw = chance.draw();
            let (mut a, mut b) =
                (balancer(policy, &weights, seed_draw), balancer(policy, &weights, seed_draw));
            let (mut left, mut right) = (chance.clone(), chance.clone());
            let mut loads = vec![0_u32; weights.len()];
            for _ in 0..1_000 {
                let picked = a.pick(&ANY, &loads[..], &mut left);
                let by_closure = |id: EndpointId| loads[id.index()];
                assert_eq!(picked, b.pick(&ANY, &by_closure, &mut right), "equal calls, equal picks");
                assert_eq!(picked.is_some(), weights.iter().any(|&weight| weight > 0));
                let Some(picked) = picked else { break };
                assert!(weights[picked.index()] > 0, "{weights:?}");
                let finished = chance.below(loads.len() as u64) as usize;
                loads[finished] = loads[finished].saturating_sub(2);
                loads[picked.index()] = loads[picked.index()].saturating_add(1 << chance.below(32));
            }
        }
    }
}
