//! Peak EWMA: the less expensive of two endpoints drawn, where what one costs is how long it took
//! lately times what it has in flight.
//!
//! A slower answer than is remembered is believed at once; a faster one little by little, as time goes
//! by: what was known counts `e ^ (-time / decay)`. What is known of an endpoint that is not asked
//! fades in the same way, so that it is tried again. Source: Linkerd and tower, `load::PeakEwma`. That
//! draws evenly; here draws go by weight, and what is in flight counts by weight.
//!
//! A latency is that of an answer's head. Of an attempt without one it is known that it took so long at
//! least, and what was known of its endpoint does not fade: one that hangs is not forgotten, and one that
//! refuses at once does not look quick.
//!
//! Latencies are what one worker saw: it writes nothing that others read, and decides alike for the same
//! requests. What endpoints have in flight is of all workers, and weighs as much.

use std::time::Duration;

use naru_base::{Chance, EndpointId, Instant};
use naru_spec::PeakEwma as Settings;

use crate::Loads;
use crate::endpoint::Taker;
use crate::power::{Fixed, ONE, halved};
use crate::random::Random;

/// `1 / ln 2`: how often something is halved while it decays to an e-th.
const HALVINGS: Fixed = 6_196_328_019;

#[derive(Clone, Debug)]
pub(crate) struct PeakEwma {
    random: Random,
    /// By id of the endpoint; of those that are not takers, zero.
    weights: Vec<u32>,
    /// What one request in flight counts at an endpoint of weight one.
    lightest: u32,
}

/// What is known of the endpoints of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    settings: Settings,
    estimates: Vec<Estimate>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    nanos: u64,
    at: Instant,
}

impl PeakEwma {
    pub(crate) fn new(takers: &[Taker]) -> PeakEwma {
        let len = takers.iter().map(|taker| taker.id.index() + 1).max().unwrap_or(0);
        let mut weights = vec![0; len];
        for taker in takers {
            if let Some(weight) = weights.get_mut(taker.id.index()) {
                *weight = taker.weight;
            }
        }
        let lightest = takers.iter().map(|taker| taker.weight).min().unwrap_or(1);
        PeakEwma { random: Random::new(takers), weights, lightest }
    }

    /// O(1).
    pub(crate) fn pick<L: Loads + ?Sized>(
        &self,
        now: Instant,
        latencies: &Latencies,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        let (one, other) = (self.random.pick(chance)?, self.random.pick(chance)?);
        if one == other {
            return Some(one);
        }
        let cost = |id: EndpointId| {
            let weight = u128::from(self.weights.get(id.index()).copied().unwrap_or(0).max(1));
            let in_flight = u128::from(loads.active(id)) * u128::from(self.lightest) + weight;
            u128::from(latencies.now(id, now).max(1)) * in_flight.min(u128::from(u64::MAX)) / weight
        };
        Some(if cost(other) < cost(one) { other } else { one })
    }
}

impl Latencies {
    pub(crate) fn new(settings: Settings, len: usize) -> Latencies {
        let first = Estimate { nanos: nanos(settings.first), at: Instant::ZERO };
        Latencies { settings, estimates: vec![first; len] }
    }

    /// An endpoint took this long.
    pub(crate) fn learn(&mut self, now: Instant, endpoint: EndpointId, latency: Duration) {
        let (settings, latency) = (self.settings, nanos(latency));
        let Some(estimate) = self.estimates.get_mut(endpoint.index()) else { return };
        if latency < estimate.nanos {
            let kept = kept(settings, now.since(estimate.at));
            let old = u128::from(estimate.nanos) * u128::from(kept);
            let new = u128::from(latency) * u128::from(ONE - kept);
            estimate.nanos = ((old + new) >> 32) as u64;
        } else {
            estimate.nanos = latency;
        }
        estimate.at = now;
    }

    /// An endpoint took this long at least, and gave no answer: what was known of it does not fade by that.
    pub(crate) fn learn_least(&mut self, now: Instant, endpoint: EndpointId, latency: Duration) {
        if let Some(estimate) = self.estimates.get_mut(endpoint.index()) {
            *estimate = Estimate { nanos: estimate.nanos.max(nanos(latency)), at: now };
        }
    }

    /// What is known of endpoints that stay; `places` are theirs before, by id.
    pub(crate) fn inherit(&mut self, before: &Latencies, places: &[Option<EndpointId>]) {
        for (estimate, place) in self.estimates.iter_mut().zip(places) {
            if let Some(known) = place.and_then(|id| before.estimates.get(id.index())) {
                *estimate = *known;
            }
        }
    }

    pub(crate) fn check_invariants(&self, endpoints: usize) -> Result<(), &'static str> {
        if self.estimates.len() == endpoints {
            Ok(())
        } else {
            Err("what is known is of more or fewer endpoints than there are")
        }
    }

    fn now(&self, endpoint: EndpointId, now: Instant) -> u64 {
        let Some(estimate) = self.estimates.get(endpoint.index()) else { return nanos(self.settings.first) };
        let kept = kept(self.settings, now.since(estimate.at));
        ((u128::from(estimate.nanos) * u128::from(kept)) >> 32) as u64
    }
}

/// The part of what was known that still counts.
fn kept(settings: Settings, since: Duration) -> Fixed {
    let halvings = (since.as_nanos() * u128::from(HALVINGS)).checked_div(settings.decay.as_nanos());
    halvings.map_or(0, |halvings| halved(u64::try_from(halvings).unwrap_or(u64::MAX)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { first: Duration::from_millis(30), decay: Duration::from_secs(10) };

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peak_is_believed_at_once_and_fades() {
        let mut latencies = Latencies::new(SETTINGS, 1);
        let mut check = |latency: Option<u64>, now: u64, expected_ms: f64| {
            if let Some(latency) = latency {
                latencies.learn(at(now), EndpointId(0), ms(latency));
            }
            let found = latencies.now(EndpointId(0), at(now)) as f64 / 1e6;
            assert!((found - expected_ms).abs() < 1e-5, "{found}, not {expected_ms}");
        };
        let e = std::f64::consts::E;
        check(None, 0, 30.0);
        check(None, 10_000, 30.0 / e);
        check(Some(1_000), 10_000, 1_000.0);
        check(Some(100), 10_000, 1_000.0);
        check(Some(100), 20_000, 1_000.0 / e + 100.0 * (1.0 - 1.0 / e));
        check(Some(2_000), 20_001, 2_000.0);
        check(None, 30_001, 2_000.0 / e);
        check(None, u64::MAX / 2_000_000, 0.0);
    }

    #[test]
    fn an_endpoint_that_does_not_answer_is_slow_and_one_that_refuses_is_not_quick() {
        let mut latencies = Latencies::new(SETTINGS, 1);
        latencies.learn(at(0), EndpointId(0), ms(50));
        latencies.learn_least(at(0), EndpointId(0), ms(1));
        assert_eq!(latencies.now(EndpointId(0), at(0)), 50_000_000);
        // However often it refuses, it gets no better.
        for second in 1..100 {
            latencies.learn_least(at(second * 1_000), EndpointId(0), ms(0));
        }
        assert_eq!(latencies.now(EndpointId(0), at(99_000)), 50_000_000);
        latencies.learn_least(at(100_000), EndpointId(0), ms(5_000));
        assert_eq!(latencies.now(EndpointId(0), at(100_000)), 5_000_000_000);
        // Where it is left in peace it is forgotten.
        assert!(latencies.now(EndpointId(0), at(130_000)) < 300_000_000);
    }

    /// The formula as it is written down, in floating point.
    struct RefLatency {
        nanos: f64,
        at: Instant,
    }

    impl RefLatency {
        fn now(&self, now: Instant) -> f64 {
            self.nanos * (-(now.since(self.at).as_secs_f64() / SETTINGS.decay.as_secs_f64())).exp()
        }

        fn learn(&mut self, now: Instant, nanos: f64) {
            let kept = (-(now.since(self.at).as_secs_f64() / SETTINGS.decay.as_secs_f64())).exp();
            let faded = self.nanos * kept + nanos * (1.0 - kept);
            *self = RefLatency { nanos: if nanos < self.nanos { faded } else { nanos }, at: now };
        }
    }

    #[test]
    fn a_walk_remembers_what_the_formula_does_and_picks_who_costs_less() {
        const ENDPOINTS: usize = 4;
        let (mut dear, mut all) = (0, 0);
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut latencies = Latencies::new(SETTINGS, ENDPOINTS);
            let mut reference: Vec<RefLatency> =
                (0..ENDPOINTS).map(|_| RefLatency { nanos: 30e6, at: Instant::ZERO }).collect();
            let takers = [0, 1, 2, 3].map(|id| Taker { id: EndpointId(id), weight: 1 });
            let (ewma, mut now) = (PeakEwma::new(&takers), Instant::ZERO);
            for _ in 0..200 {
                now = now + ms(chance.below(3_000));
                let endpoint = EndpointId(chance.below(ENDPOINTS as u64) as u32);
                let latency = ms(chance.below(2_000));
                let known = &mut reference[endpoint.index()];
                match chance.below(4) {
                    0 => {
                        latencies.learn_least(now, endpoint, latency);
                        let nanos = known.nanos.max(latency.as_nanos() as f64);
                        *known = RefLatency { nanos, at: now };
                    }
                    _ => {
                        latencies.learn(now, endpoint, latency);
                        known.learn(now, latency.as_nanos() as f64);
                    }
                }
                let later = now + ms(chance.below(1_000));
                for (id, known) in (0..).map(EndpointId).zip(&reference) {
                    let (found, expected) = (latencies.now(id, later) as f64, known.now(later));
                    assert!(
                        (found - expected).abs() <= 1e3 + expected * 1e-6,
                        "seed {seed}: {found}, {expected}"
                    );
                }
                let loads: Vec<u32> = (0..ENDPOINTS).map(|_| chance.below(5) as u32).collect();
                let cost = |id: usize| reference[id].now(later).max(1.0) * f64::from(loads[id] + 1);
                let dearest = (0..ENDPOINTS).map(cost).fold(0.0, f64::max);
                let picked = ewma.pick(later, &latencies, &loads[..], &mut chance).unwrap().index();
                // The dearest is picked only where it is drawn twice.
                let others = (0..ENDPOINTS).filter(|id| *id != picked).map(cost).fold(0.0, f64::max);
                let is_dearest = cost(picked) == dearest && others < dearest * (1.0 - 1e-6);
                (dear, all) = (dear + u32::from(is_dearest), all + 1);
                assert_eq!(latencies.check_invariants(ENDPOINTS), Ok(()));
            }
        }
        assert!((all / 20..all / 13).contains(&dear), "one in sixteen is drawn twice: {dear} of {all}");
        assert!(Latencies::new(SETTINGS, 2).check_invariants(3).is_err());
    }

    #[test]
    fn a_slow_endpoint_gets_little_until_it_is_forgotten() {
        let takers = [0, 1, 2].map(|id| Taker { id: EndpointId(id), weight: 1 });
        let ewma = PeakEwma::new(&takers);
        let mut latencies = Latencies::new(SETTINGS, 3);
        for endpoint in [0, 1, 2] {
            let latency = if endpoint == 1 { 900 } else { 10 };
            latencies.learn(at(60_000), EndpointId(endpoint), ms(latency));
        }
        let mut chance = Chance::new(5);
        let mut picks_of_slow = |now, loads: &[u32]| {
            let picks = (0..9_000).filter_map(|_| ewma.pick(now, &latencies, loads, &mut chance));
            picks.filter(|picked| *picked == EndpointId(1)).count()
        };
        // Only where it is drawn twice.
        let slow = picks_of_slow(at(60_000), &[]);
        assert!((900..1_100).contains(&slow), "{slow}");
        // 90 times as slow is like 89 more in flight.
        let busy = picks_of_slow(at(60_000), &[100, 0, 100]);
        assert!((4_800..5_200).contains(&busy), "{busy}");
    }

    #[test]
    fn without_news_it_is_weighted_chance() {
        let takers = [(0, 1), (1, 2), (2, 5)].map(|(id, weight)| Taker { id: EndpointId(id), weight });
        let ewma = PeakEwma::new(&takers);
        let latencies = Latencies::new(SETTINGS, 3);
        let (mut counts, mut chance) = ([0_i32; 3], Chance::new(5));
        for _ in 0..8_000 {
            counts[ewma.pick(at(1), &latencies, &[][..], &mut chance).unwrap().index()] += 1;
        }
        for (count, expected) in counts.iter().zip([1_000, 2_000, 5_000]) {
            assert!((count - expected).abs() < 150, "{counts:?}");
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let takers = [(0, u32::MAX), (3, 1)].map(|(id, weight)| Taker { id: EndpointId(id), weight });
        let ewma = PeakEwma::new(&takers);
        let settings = Settings { first: Duration::MAX, decay: Duration::ZERO };
        let mut latencies = Latencies::new(settings, 4);
        latencies.learn(Instant(u64::MAX), EndpointId(0), Duration::MAX);
        latencies.learn(Instant(0), EndpointId(99), Duration::MAX);
        latencies.settings.decay = Duration::MAX;
        let mut chance = Chance::new(5);
        for _ in 0..100 {
            assert!(ewma.pick(Instant(7), &latencies, &[u32::MAX; 4][..], &mut chance).is_some());
        }
        assert_eq!(PeakEwma::new(&[]).pick(at(0), &latencies, &[][..], &mut chance), None);
    }
}
