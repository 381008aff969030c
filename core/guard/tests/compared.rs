//! The machines and their obvious models are told the same, and say the same. `NARU_SEED` replays
//! one seed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses some of the models")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod reference;

use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_guard::{AttemptResult, Breaker, BreakerChange, Detector, EndpointKey, Entry, Gate, Ticket};
use naru_spec::{AfterHalfOpen, CircuitBreaker, Enforcing, OutlierDetection, Percent, WaitInOpen, Window};

use reference::breaker::{RefBreaker, RefTicket};
use reference::outlier::RefDetector;
use reference::seeds;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn breaker_settings(chance: &mut Chance) -> CircuitBreaker {
    let is_automatic = chance.below(4) == 0;
    CircuitBreaker {
        window: match chance.below(2) {
            0 => Window::Count(1 + chance.below(12) as u32),
            _ => Window::Seconds(1 + chance.below(5) as u32),
        },
        minimum_calls: 1 + chance.below(15) as u32,
        failure_rate: Percent::of_hundredths(1 + chance.below(10_000) as u32).unwrap(),
        slow_call_rate: Percent::of_hundredths(5_000 + chance.below(5_001) as u32).unwrap(),
        slow_call_duration: millis(100),
        wait_in_open: match chance.below(2) {
            0 => WaitInOpen::Fixed(Duration::from_micros(1 + chance.below(3_000_000))),
            _ => WaitInOpen::Exponential {
                initial: millis(1 + chance.below(1_000)),
                multiplier: 1_000 + chance.below(2_000) as u32,
                max: millis(1_000 + chance.below(3_000)),
                randomization: 0,
            },
        },
        trial_calls: 1 + chance.below(6) as u32,
        max_wait_in_half_open: (chance.below(3) == 0).then(|| millis(1 + chance.below(2_000))),
        after_half_open: [AfterHalfOpen::Open, AfterHalfOpen::Closed][chance.below(2) as usize],
        automatic_half_open: is_automatic,
        ignores_late_calls: chance.below(3) == 0,
        ..CircuitBreaker::default()
    }
}

#[test]
fn a_breaker_does_what_the_list_of_all_outcomes_says() {
    let mut states = 0;
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let settings = breaker_settings(&mut chance);
        let mut model = RefBreaker::new(settings.clone());
        let mut breaker = Breaker::new(Instant::ZERO, settings.clone(), Chance::new(seed));
        let mut word = breaker.gate();
        let mut flying: Vec<(Ticket, RefTicket)> = Vec::new();
        let mut changes = Vec::new();
        let mut now = Instant::ZERO;
        // Bad times and good ones.
        let mut failing = 5;
        for step in 0..600 {
            let told = format!("NARU_SEED={seed}, step {step}, {settings:?}");
            now = now + Duration::from_micros(chance.below(60_000));
            if chance.below(40) == 0 {
                now = now + millis(chance.below(4_000));
                failing = chance.below(11);
            }
            breaker.tick(now, &mut changes);
            model.tick(now);
            publish(&mut word, &mut changes);
            assert_eq!(word.state(), model.state, "{told}");
            if chance.below(2) == 0 || flying.is_empty() {
                let entered = enter(&mut word, &mut breaker, now, &mut changes);
                let expected = model.enter(now);
                assert_eq!(entered.is_some(), expected.is_some(), "{told}");
                flying.extend(entered.zip(expected));
            } else {
                let at = chance.below(flying.len() as u64) as usize;
                let (ticket, of_model) = flying.swap_remove(at);
                let (result, is_failed) = match chance.below(11) {
                    10 => (AttemptResult::Abandoned, None),
                    roll if roll < failing => (AttemptResult::answered(503), Some(true)),
                    _ => (AttemptResult::answered(200), Some(false)),
                };
                let took = millis(chance.below(160));
                breaker.on_outcome(now, ticket, result, took, &mut changes);
                model.end(now, of_model, is_failed, took);
                publish(&mut word, &mut changes);
            }
            assert_eq!(word.state(), model.state, "{told}");
            assert_eq!(breaker.state(), model.state, "{told}");
            if let Some(left) = word.trials_left() {
                assert_eq!(left, model.left, "{told}");
            }
            breaker.check_invariants().unwrap_or_else(|what| panic!("{told}: {what}"));
        }
        states += model.nth;
    }
    let least = if seeds().len() > 1 { 2_000 } else { 0 };
    assert!(states >= least, "{states}: the walk must have something to compare");
}

fn enter(
    word: &mut Gate,
    breaker: &mut Breaker,
    now: Instant,
    changes: &mut Vec<BreakerChange>,
) -> Option<Ticket> {
    match word.enter(now, 0) {
        Entry::Pass => Some(word.ticket()),
        Entry::Take(next) => {
            let is_new = next.epoch() != word.epoch();
            *word = next;
            if is_new {
                breaker.on_half_open(now, next, changes);
                publish(word, changes);
            }
            Some(next.ticket())
        }
        Entry::Refuse { .. } => None,
    }
}

fn publish(word: &mut Gate, changes: &mut Vec<BreakerChange>) {
    for change in changes.drain(..) {
        match change {
            BreakerChange::Transition(transition) => *word = transition.gate.unwrap_or(*word),
            BreakerChange::GiveBack(ticket) => *word = word.give_back(ticket).unwrap_or(*word),
            BreakerChange::WouldOpen { .. } => {}
        }
    }
}

fn detection(chance: &mut Chance) -> OutlierDetection {
    let mut enforced = || if chance.below(3) > 0 { 100 } else { 0 };
    let enforcing = Enforcing {
        consecutive_5xx: enforced(),
        consecutive_gateway_failure: enforced(),
        consecutive_local_origin_failure: enforced(),
        success_rate: enforced(),
        local_origin_success_rate: enforced(),
        failure_percentage: enforced(),
        local_origin_failure_percentage: enforced(),
    };
    let mut settings = OutlierDetection {
        consecutive_5xx: chance.below(6) as u32,
        consecutive_gateway_failure: chance.below(6) as u32,
        consecutive_local_origin_failure: chance.below(6) as u32,
        split_external_local_origin_errors: chance.below(2) == 0,
        interval: millis(500 + chance.below(2_000)),
        base_ejection_time: millis(1 + chance.below(3_000)),
        max_ejection_percent: chance.below(101) as u32,
        always_eject_one_host: chance.below(3) == 0,
        enforcing,
        ..OutlierDetection::default()
    };
    settings.max_ejection_time = settings.base_ejection_time + millis(chance.below(6_000));
    settings.success_rate.minimum_hosts = 1 + chance.below(4) as u32;
    settings.success_rate.request_volume = chance.below(12) as u32;
    settings.success_rate.stdev_factor = 500 + chance.below(1_500) as u32;
    settings.failure_percentage.threshold = 40 + chance.below(61) as u32;
    settings.failure_percentage.minimum_hosts = 1 + chance.below(4) as u32;
    settings.failure_percentage.request_volume = chance.below(12) as u32;
    settings
}

#[test]
fn a_detector_ejects_what_the_list_of_all_outcomes_says() {
    let mut ejections = 0;
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let settings = detection(&mut chance);
        let mut endpoints: Vec<u64> = (0..1 + chance.below(8)).collect();
        let keys = |endpoints: &[u64]| endpoints.iter().copied().map(EndpointKey).collect::<Vec<_>>();
        let mut model = RefDetector::new(settings.clone(), &endpoints);
        let mut detector =
            Detector::new(Instant::ZERO, settings.clone(), keys(&endpoints), Chance::new(seed));
        let mut changes = Vec::new();
        let mut now = Instant::ZERO;
        for step in 0..500 {
            now = now + Duration::from_micros(chance.below(40_000));
            if chance.below(50) == 0 {
                now = now + model.interval() * chance.below(3) as u32;
            }
            match chance.below(60) {
                0 => {
                    endpoints = (0..12).filter(|_| chance.below(2) == 0).collect();
                    model.set_endpoints(&endpoints);
                    detector.set_endpoints(keys(&endpoints));
                }
                1..=5 => {
                    model.tick(now);
                    detector.tick(now, &mut changes);
                }
                _ => {
                    let endpoint = chance.below(12);
                    // The lower the key, the worse.
                    let is_bad = chance.below(12) >= endpoint + 3;
                    let status = match (is_bad, chance.below(4)) {
                        (true, 0) => None,
                        (true, 1) => Some(500),
                        (true, _) => Some(502 + chance.below(3) as u16),
                        (false, _) => Some(200),
                    };
                    let result = status.map_or(AttemptResult::ConnectFailed, AttemptResult::answered);
                    model.on_outcome(now, endpoint, status);
                    detector.on_outcome(now, EndpointKey(endpoint), result, &mut changes);
                }
            }
            let ejected: Vec<u64> =
                (0..12).filter(|endpoint| detector.is_ejected(EndpointKey(*endpoint))).collect();
            assert_eq!(ejected, model.ejected(), "NARU_SEED={seed}, step {step}, {settings:?}");
            detector
                .check_invariants()
                .unwrap_or_else(|what| panic!("NARU_SEED={seed}, step {step}: {what}"));
        }
        ejections += detector.stats().ejections_enforced_total;
    }
    let least = if seeds().len() > 1 { 1_000 } else { 0 };
    assert!(ejections >= least, "{ejections}: the walk must have something to compare");
}
