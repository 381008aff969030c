//! The gradient by hand, against the formula, and in front of a small service.

use std::cell::Cell;
use std::collections::BTreeSet;

use naru_base::Fraction;
use naru_base::share::Denominator;

use super::*;
use crate::Word;

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn settings(requests: u32, interval_ms: u64, jitter: u32) -> AdaptiveConcurrency {
    let min_rtt = MinRtt::Measured {
        interval: Duration::from_millis(interval_ms),
        jitter: Fraction::new(jitter, Denominator::Hundred),
        requests,
    };
    AdaptiveConcurrency { min_rtt, ..AdaptiveConcurrency::default() }
}

fn sample(gradient: &mut Gradient, now: Instant, latency_ms: u64) {
    gradient.on_sample(now, now - Duration::from_millis(latency_ms));
    gradient.check_invariants().unwrap();
}

#[test]
fn the_limit_is_the_least_until_the_latency_without_load_is_known() {
    let mut gradient = Gradient::new(at(0), settings(3, 60_000, 0), Chance::new(1));
    assert_eq!((gradient.limit(), gradient.is_measuring()), (3, true));
    gradient.tick(at(100));
    assert_eq!(gradient.deadline(), None, "nothing to do before there are samples");
    sample(&mut gradient, at(110), 10);
    sample(&mut gradient, at(120), 10);
    assert!(gradient.is_measuring());
    sample(&mut gradient, at(130), 10);
    assert!(!gradient.is_measuring());
    // Half into the bin from 10.0 to 11.0 ms.
    assert_eq!(gradient.min_rtt(), Duration::from_micros(10_500));
    assert_eq!(gradient.deadline(), Some(at(230)));
}

#[test]
fn the_limit_follows_the_formula() {
    let mut gradient = Gradient::new(at(0), settings(1, 60_000, 0), Chance::new(1));
    sample(&mut gradient, at(10), 10);
    let mut now = at(10);
    let mut limit = 3;
    for latency in [10, 10, 10, 10, 12, 13, 15, 20, 40, 80, 200, 10, 5] {
        now = now + Duration::from_millis(100);
        sample(&mut gradient, now, latency);
        gradient.tick(now);
        gradient.check_invariants().unwrap();
        let sampled = match latency {
            latency @ 0..10 => 1_000.0 * latency as f64 + 50.0,
            latency @ 10..100 => 1_000.0 * latency as f64 + 500.0,
            latency => 1_000.0 * latency as f64 + 5_000.0,
        };
        let gradient_now = (10_500.0 * 1.25_f64 / sampled).clamp(0.5, 2.0);
        let raised: f64 = f64::from(limit) * gradient_now;
        limit = ((raised + raised.sqrt()) as u32).clamp(3, 1_000);
        assert_eq!(gradient.limit(), limit, "after {latency} ms");
    }
    assert!(limit > 3);
}

#[test]
fn an_interval_without_responses_changes_nothing() {
    let mut gradient = Gradient::new(at(0), settings(1, 60_000, 0), Chance::new(1));
    sample(&mut gradient, at(10), 10);
    sample(&mut gradient, at(110), 10);
    gradient.tick(at(110));
    let limit = gradient.limit();
    gradient.tick(at(210));
    gradient.tick(at(310));
    assert_eq!(gradient.limit(), limit);
}

#[test]
fn what_was_sent_before_a_measurement_says_nothing_about_it() {
    let mut gradient = Gradient::new(at(1_000), settings(1, 60_000, 0), Chance::new(1));
    gradient.on_sample(at(1_010), at(999));
    assert!(gradient.is_measuring());
    gradient.on_sample(at(1_010), at(1_000));
    assert!(!gradient.is_measuring());
}

#[test]
fn measurements_come_after_the_interval_and_up_to_its_jitter() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut gradient = Gradient::new(at(0), settings(1, 10_000, 15), Chance::new(seed));
        sample(&mut gradient, at(0), 0);
        let next = gradient.next_measurement.unwrap();
        assert!((at(10_000)..at(11_500)).contains(&next), "{next}");
        seen.insert(next);
    }
    assert!(seen.len() > 100, "{}", seen.len());
}

#[test]
fn five_intervals_at_the_least_limit_cast_doubt_on_the_measurement() {
    let mut gradient = Gradient::new(at(0), settings(1, 3_600_000, 0), Chance::new(1));
    sample(&mut gradient, at(1), 1);
    // The service has become ten times slower: 3 is as low as it gets.
    for interval in 1..=5 {
        assert!(!gradient.is_measuring(), "interval {interval}");
        let now = at(1 + 100 * interval);
        sample(&mut gradient, now, 10);
        gradient.tick(now);
    }
    assert!(gradient.is_measuring());
    sample(&mut gradient, at(600), 10);
    assert_eq!((gradient.is_measuring(), gradient.min_rtt()), (false, Duration::from_micros(10_500)));
}

#[test]
fn the_first_interval_at_the_least_limit_does_not_count_and_a_measurement_ends_where_it_began() {
    let mut gradient = Gradient::new(at(0), settings(1, 5_000, 0), Chance::new(1));
    sample(&mut gradient, at(10), 10);
    let mut now = at(10);
    let mut interval = |gradient: &mut Gradient, latency| {
        now = now + Duration::from_millis(100);
        sample(gradient, now, latency);
        gradient.tick(now);
        (gradient.limit(), gradient.is_measuring())
    };
    for (latency, limit) in [(10, 5), (10, 8), (500, 6), (500, 4), (500, 3)] {
        assert_eq!(interval(&mut gradient, latency), (limit, false));
    }
    for _ in 0..4 {
        assert_eq!(interval(&mut gradient, 500), (3, false));
    }
    assert_eq!(interval(&mut gradient, 500), (3, true));
    sample(&mut gradient, at(1_100), 10);
    while gradient.next_measurement.unwrap() > gradient.deadline().unwrap() {
        let due = gradient.deadline().unwrap();
        sample(&mut gradient, due, 10);
        gradient.tick(due);
    }
    let before = gradient.limit();
    assert!(before > 3);
    let due = gradient.deadline().unwrap();
    gradient.tick(due);
    assert_eq!((gradient.limit(), gradient.is_measuring()), (3, true));
    sample(&mut gradient, due + Duration::from_millis(10), 10);
    assert_eq!((gradient.limit(), gradient.is_measuring()), (before, false));
}

#[test]
fn a_latency_that_is_given_is_not_measured() {
    let settings = AdaptiveConcurrency {
        min_rtt: MinRtt::Fixed(Duration::from_millis(5)),
        ..AdaptiveConcurrency::default()
    };
    let mut gradient = Gradient::new(at(0), settings, Chance::new(1));
    for interval in 1..100 {
        assert_eq!((gradient.is_measuring(), gradient.min_rtt()), (false, Duration::from_millis(5)));
        sample(&mut gradient, at(100 * interval), 50);
        gradient.tick(at(100 * interval));
    }
    assert_eq!(gradient.limit(), 3);
}

#[test]
fn a_word_counts_up_to_its_limit_and_never_below_zero() {
    let mut word = with_limit(0, 2);
    word = take(take(word).unwrap()).unwrap();
    assert_eq!((take(word), active(word)), (Err(Reason::ConcurrencyLimit), 2));
    word = with_limit(word, 1);
    assert_eq!(take(give_back(word)), Err(Reason::ConcurrencyLimit));
    word = give_back(give_back(give_back(word)));
    assert_eq!((active(word), take(word).is_ok()), (0, true));
    assert!(take(with_limit(u64::from(u32::MAX) - 1, u32::MAX)).is_ok());
}

/// A service that works on `parallel` requests at a time, each for about `work`; the rest wait in line. Clients send
/// whenever they may, a millisecond apart.
struct Service {
    now: Instant,
    word: Cell<u64>,
    gradient: Gradient,
    chance: Chance,
    /// When they will be done, and when they were sent.
    under_way: BTreeSet<(Instant, u64, Instant)>,
    slots: Vec<Instant>,
    work: Duration,
    sent: u64,
    done: u64,
}

impl Service {
    fn new(seed: u64, settings: AdaptiveConcurrency, parallel: usize, work_ms: u64) -> Service {
        let gradient = Gradient::new(at(0), settings, Chance::split(seed, "gradient"));
        Service {
            now: at(0),
            word: Cell::new(with_limit(0, gradient.limit())),
            gradient,
            chance: Chance::split(seed, "service"),
            under_way: BTreeSet::new(),
            slots: vec![at(0); parallel],
            work: Duration::from_millis(work_ms),
            sent: 0,
            done: 0,
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            while let Some(&first) = self.under_way.first().filter(|(done, ..)| *done <= self.now) {
                self.under_way.remove(&first);
                self.word.change(|word| Some(give_back(word))).unwrap();
                // One in twenty gets lost on its way to the owner.
                if self.chance.below(20) > 0 {
                    self.gradient.on_sample(first.0, first.2);
                }
                self.done += 1;
            }
            if self.gradient.deadline().is_some_and(|deadline| deadline <= self.now) {
                self.gradient.tick(self.now);
            }
            self.gradient.check_invariants().unwrap();
            let limit = self.gradient.limit();
            self.word.change(|word| Some(with_limit(word, limit))).unwrap();
            while self.word.change(|word| take(word).ok()).is_ok() {
                // Ten per cent more or less.
                let work = self.work * (90 + self.chance.below(21) as u32) / 100;
                let slot = self.slots.iter_mut().min().unwrap();
                *slot = self.now.max(*slot) + work;
                self.under_way.insert((*slot, self.sent, self.now));
                self.sent += 1;
                assert!(active(self.word.get()) <= self.gradient.limit());
            }
            assert_eq!(active(self.word.get()) as usize, self.under_way.len());
        }
    }

    /// Without the windows in which it measures.
    fn mean_limit(&mut self, ms: u64) -> u64 {
        let (mut sum, mut count) = (0, 0);
        for _ in 0..ms / 10 {
            self.run(10);
            if !self.gradient.is_measuring() {
                sum += u64::from(self.gradient.limit());
                count += 1;
            }
        }
        sum / count
    }
}

#[test]
fn it_finds_what_a_service_can_do_and_follows_when_that_changes() {
    for seed in 0..8 {
        // Ten at a time: more than about 16 only wait longer (12.5 for the buffer, and a root for bursts).
        let mut service = Service::new(seed, settings(50, 5_000, 15), 10, 10);
        service.run(3_000);
        let limit = service.mean_limit(10_000);
        assert!((13..=20).contains(&limit), "{limit}, seed {seed}");
        let before = service.done;
        service.run(5_000);
        assert!(service.done - before > 4_400, "nearly all of its 5,000: {}", service.done - before);
        service.slots.truncate(4);
        service.run(3_000);
        let limit = service.mean_limit(10_000);
        assert!((5..=11).contains(&limit), "{limit} of four, seed {seed}");
        service.slots.resize(40, service.now);
        service.run(3_000);
        let limit = service.mean_limit(10_000);
        assert!((40..=70).contains(&limit), "{limit} of forty, seed {seed}");
    }
}

#[test]
fn a_walk_stays_within_its_bounds_whatever_happens() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let mut any = |most: u64| chance.below(most) as u32;
        let min_rtt = match any(4) {
            0 => MinRtt::Fixed(Duration::from_micros(u64::from(any(5_000)))),
            _ => MinRtt::Measured {
                interval: Duration::from_millis(u64::from(any(2_000))),
                jitter: Fraction::new(any(150), Denominator::Hundred),
                requests: any(20),
            },
        };
        let settings = AdaptiveConcurrency {
            sample_percentile: Fraction::new(any(120), Denominator::Hundred),
            concurrency_min: any(10),
            concurrency_max: any(100),
            update_interval: Duration::from_micros(u64::from(any(200_000))),
            min_rtt,
            buffer: Fraction::new(any(200), Denominator::Hundred),
            ..AdaptiveConcurrency::default()
        };
        let mut gradient = Gradient::new(at(0), settings, Chance::new(seed));
        let mut now = at(0);
        for _ in 0..1_000 {
            now = now + Duration::from_micros(chance.below(30_000));
            match chance.below(4) {
                0 => gradient.tick(now),
                1 => gradient.on_sample(now, Instant(chance.draw() >> chance.below(64))),
                _ => gradient.on_sample(now, now - Duration::from_micros(chance.below(50_000))),
            }
            gradient.check_invariants().unwrap();
            if let Some(deadline) = gradient.deadline().filter(|deadline| *deadline <= now) {
                gradient.tick(deadline.max(now));
            }
        }
    }
}
