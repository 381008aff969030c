//! Is this one of the requests that are left out because too many fail?
//!
//! Envoy's admission control, which is client-side throttling of the SRE book ("Handling Overload"): of the requests
//! of the last seconds, `n` in all and `s` of them successes, a new one is refused with the chance
//! `((n - s / threshold) / (n + 1)) ^ (1 / aggression)`. What is refused is not counted. Each worker has its own, as
//! each of Envoy's has, so nothing is shared.
//!
//! Seconds are gathered as `thread_local_controller.cc` does: one begins with the first response after the one before
//! is a second old. The root is made of square roots, so that it is the same on every machine.

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::{Chance, Instant, Reason};
use naru_spec::limits::millionths;
use naru_spec::{AdmissionControl, SuccessCriteria};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Admission {
    settings: AdmissionControl,
    /// The oldest first.
    seconds: VecDeque<Second>,
    total: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    successes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    began: Instant,
    counts: Counts,
}

impl Admission {
    pub fn new(settings: AdmissionControl) -> Admission {
        let seconds = settings.window.as_secs().min(naru_spec::defaults::ADMISSION_WINDOW_BOUND.as_secs());
        Admission {
            settings,
            seconds: VecDeque::with_capacity(seconds as usize + 1),
            total: Counts::default(),
        }
    }

    /// Whether a request may pass. One that does ends with [`Admission::on_outcome`].
    ///
    /// # Errors
    /// [`Reason::AdmissionDenied`] where it is left out.
    pub fn admit(&mut self, now: Instant, chance: &mut Chance) -> Result<(), Reason> {
        // Envoy looks at the rate first, before it forgets what is old.
        if self.requests_per_second(now) < u64::from(self.settings.rps_threshold) {
            return Ok(());
        }
        let probability = self.rejection_probability(now);
        // The 53 bits that are exact in a double.
        let draw = (chance.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        if draw < probability { Err(Reason::AdmissionDenied) } else { Ok(()) }
    }

    /// A request that passed is over. One without a response is no success.
    pub fn on_outcome(&mut self, now: Instant, is_success: bool) {
        self.forget(now);
        let one = Counts { requests: 1, successes: u64::from(is_success) };
        if let Some(second) = self.seconds.back_mut() {
            add(&mut second.counts, one);
            add(&mut self.total, one);
        }
    }

    /// The chance of the next request to be left out, from 0 to 1.
    pub fn rejection_probability(&mut self, now: Instant) -> f64 {
        self.forget(now);
        let (requests, successes) = (self.total.requests as f64, self.total.successes as f64);
        // A threshold of nothing refuses nothing.
        let threshold = f64::from(millionths(self.settings.success_threshold)) / 1e6;
        if threshold == 0.0 {
            return 0.0;
        }
        let failed = (requests - successes / threshold) / (requests + 1.0);
        if failed <= 0.0 {
            return 0.0;
        }
        let most = f64::from(millionths(self.settings.rejection_max)) / 1e6;
        root(failed, self.settings.aggression_milli).min(most)
    }

    /// Over the window, or longer where its oldest second was not forgotten yet.
    fn requests_per_second(&self, now: Instant) -> u64 {
        let Some(oldest) = self.seconds.front() else { return 0 };
        let age = now.since(oldest.began).as_secs().max(self.settings.window.as_secs());
        self.total.requests.checked_div(age).unwrap_or(0)
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.seconds.front()
            && now.since(oldest.began) >= self.settings.window
        {
            self.total.requests = self.total.requests.saturating_sub(oldest.counts.requests);
            self.total.successes = self.total.successes.saturating_sub(oldest.counts.successes);
            self.seconds.pop_front();
        }
        if self.seconds.back().is_none_or(|newest| now.since(newest.began) >= SECOND) {
            self.seconds.push_back(Second { began: now, counts: Counts::default() });
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let mut sum = Counts::default();
        self.seconds.iter().for_each(|second| add(&mut sum, second.counts));
        if sum != self.total {
            return Err("the sum of the seconds is not the total");
        }
        if self.total.successes > self.total.requests {
            return Err("more successes than requests");
        }
        if self.seconds.len() as u64 > self.settings.window.as_secs().max(1) {
            return Err("more seconds than the window has");
        }
        Ok(())
    }
}

/// Whether a response counts as a success.
pub fn is_success(criteria: &SuccessCriteria, http_status: u16, grpc_status: Option<u8>) -> bool {
    match grpc_status {
        Some(status) => criteria.grpc.checked_shr(u32::from(status)).is_some_and(|bits| bits & 1 == 1),
        None => criteria.http.iter().any(|range| (range.from..range.to).contains(&http_status)),
    }
}

fn add(to: &mut Counts, counts: Counts) {
    to.requests = to.requests.saturating_add(counts.requests);
    to.successes = to.successes.saturating_add(counts.successes);
}

/// `base ^ (1000 / degree_milli)`, for a base from 0 to 1; a degree below 1000 is 1000.
fn root(base: f64, degree_milli: u32) -> f64 {
    const BITS: u32 = 40;
    if degree_milli <= 1_000 {
        return base;
    }
    // The exponent as a binary fraction, and a square root for each of its bits.
    let exponent = (1_000_u64 << BITS) / u64::from(degree_milli);
    let (mut power, mut product) = (base, 1.0);
    for bit in (0..BITS).rev() {
        power = power.sqrt();
        if exponent >> bit & 1 == 1 {
            product *= power;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use naru_base::Fraction;
    use naru_base::share::Denominator;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn percent(part: u32) -> Fraction {
        Fraction::new(part, Denominator::Hundred)
    }

    /// After so many requests at once.
    fn after(settings: AdmissionControl, requests: u64, successes: u64) -> Admission {
        let mut admission = Admission::new(settings);
        (0..requests).for_each(|request| admission.on_outcome(at(0), request < successes));
        admission
    }

    #[test]
    fn the_chance_is_that_of_the_formula() {
        for (threshold, aggression, requests, successes) in [
            (95, 1_000, 100, 95),
            (95, 1_000, 100, 94),
            (95, 1_000, 100, 0),
            (50, 1_500, 1_000, 100),
            (80, 4_000, 7, 3),
        ] {
            let settings = AdmissionControl {
                success_threshold: percent(threshold),
                aggression_milli: aggression,
                rejection_max: percent(100),
                ..AdmissionControl::default()
            };
            let told = after(settings, requests, successes).rejection_probability(at(0));
            let threshold = f64::from(threshold) / 100.0;
            let failed = (requests as f64 - successes as f64 / threshold) / (requests as f64 + 1.0);
            let expected = failed.max(0.0).powf(1_000.0 / f64::from(aggression));
            assert!((told - expected).abs() < 1e-9, "{told}, not {expected}");
        }
    }

    #[test]
    fn a_root_is_the_root() {
        let mut chance = Chance::new(3);
        for _ in 0..10_000 {
            let base = chance.below(1_000_000) as f64 / 1e6;
            let degree = 1_000 + chance.below(20_000) as u32;
            let expected = base.powf(1_000.0 / f64::from(degree));
            assert!((root(base, degree) - expected).abs() < 1e-9, "{base} {degree}");
        }
        assert_eq!((root(0.25, 2_000), root(0.3, 1_000), root(0.3, 0)), (0.5, 0.3, 0.3));
    }

    #[test]
    fn nothing_is_refused_without_a_past_or_above_the_threshold() {
        let mut chance = Chance::new(1);
        let mut fresh = Admission::new(AdmissionControl::default());
        assert!((0..1_000).all(|_| fresh.admit(at(0), &mut chance).is_ok()));
        let mut fine = after(AdmissionControl::default(), 1_000, 950);
        assert!((0..1_000).all(|_| fine.admit(at(0), &mut chance).is_ok()));
    }

    #[test]
    fn a_part_always_passes_to_see_whether_it_is_over() {
        let mut chance = Chance::new(2);
        let mut down = after(AdmissionControl::default(), 1_000, 0);
        let refused = (0..10_000).filter(|_| down.admit(at(0), &mut chance).is_err()).count();
        assert!((7_800..8_200).contains(&refused), "{refused} of 80 %");
        assert_eq!(down.admit(at(30_000), &mut chance), Ok(()), "the window has passed");
    }

    #[test]
    fn few_requests_are_not_looked_at() {
        let settings = AdmissionControl { rps_threshold: 5, ..AdmissionControl::default() };
        let mut chance = Chance::new(3);
        // 149 / 30 is 4.
        let mut few = after(settings.clone(), 149, 0);
        assert!((0..100).all(|_| few.admit(at(0), &mut chance).is_ok()));
        let mut many = after(settings, 150, 0);
        assert!((0..100).any(|_| many.admit(at(0), &mut chance).is_err()));
    }

    #[test]
    fn success_is_what_the_criteria_say() {
        let all = SuccessCriteria::default();
        let http: Vec<u16> = (0..700).filter(|status| is_success(&all, *status, None)).collect();
        assert_eq!(http, (100..500).collect::<Vec<u16>>());
        let grpc: Vec<u8> =
            (0..=255).filter(|status| !is_success(&all, 200, Some(*status))).take(6).collect();
        // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        assert_eq!(grpc, [4, 8, 10, 13, 14, 15]);
        assert!(!is_success(&all, 200, Some(40)));
    }

    /// Every response with its moment, and the seconds that they began.
    #[test]
    fn a_walk_does_as_the_list_of_all_responses_does() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let window = 1 + chance.below(5);
            let settings = AdmissionControl {
                window: Duration::from_secs(window),
                success_threshold: percent(1 + chance.below(100) as u32),
                rejection_max: percent(chance.below(101) as u32),
                ..AdmissionControl::default()
            };
            let most = f64::from(settings.rejection_max.numerator()) / 100.0;
            let threshold = f64::from(settings.success_threshold.numerator()) / 100.0;
            let mut admission = Admission::new(settings);
            // When its second began, whether it succeeded.
            let mut all: Vec<(Instant, bool)> = Vec::new();
            let (mut now, mut newest) = (at(0), None::<Instant>);
            for _ in 0..400 {
                let pause = if chance.below(50) == 0 { 9_000 } else { 300 };
                now = now + Duration::from_millis(chance.below(pause));
                if newest.is_none_or(|newest| now.since(newest) >= SECOND.min(Duration::from_secs(window))) {
                    newest = Some(now);
                }
                if chance.below(3) > 0 {
                    let is_success = chance.below(2) == 0;
                    admission.on_outcome(now, is_success);
                    all.push((newest.unwrap(), is_success));
                }
                let told = admission.rejection_probability(now);
                let seen = all.iter().filter(|(second, _)| now.since(*second).as_secs() < window);
                let (mut requests, mut successes) = (0.0, 0.0);
                seen.for_each(|(_, is_success)| {
                    requests += 1.0;
                    successes += f64::from(u8::from(*is_success));
                });
                let expected = ((requests - successes / threshold) / (requests + 1.0)).max(0.0).min(most);
                assert!((told - expected).abs() < 1e-9, "{told}, not {expected}; seed {seed}");
                let _ = admission.admit(now, &mut chance);
                admission.check_invariants().unwrap();
            }
        }
    }
}
