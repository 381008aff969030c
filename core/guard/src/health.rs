//! Is an endpoint well, when asked?
//!
//! | state   | event                                          | next                              |
//! |---------|------------------------------------------------|-----------------------------------|
//! | Waiting | the interval is over                           | Probing; the shell asks           |
//! | Probing | an answer, or the connection broke             | Waiting, for the interval of what it means |
//! | Probing | the timeout                                    | Waiting; the shell stops waiting  |
//! | any     | an answer to a request says `x-envoy-immediate-health-check-fail` | the same; unhealthy, excluded |
//!
//! An endpoint begins pending: not asked, until its first probe says how it is, for which one
//! answer is enough. Later an endpoint changes after as many equal verdicts as the thresholds say,
//! but for a verdict that is none of the network's: a wrong status makes it unhealthy at once.
//!
//! Source: Envoy's `health_checker_base_impl.cc`, and the `health_checker_impl.cc` of http, tcp and
//! grpc. Not here: the bytes of probes, and connections kept for them.

mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::HealthCheck;

use crate::{Action, Change, EndpointKey, Health};
pub use verdict::{ProbeResult, bytes_match};
use verdict::{Verdict, judge};

/// Envoy's `cluster.<name>.health_check.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HealthStats {
    pub attempt: u64,
    pub success: u64,
    pub failure: u64,
    /// Of these: connections that broke, and timeouts.
    pub network_failure: u64,
    /// Of these: said in the answer to a request.
    pub passive_failure: u64,
}

/// The health checks of all endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct Checks {
    settings: HealthCheck,
    endpoints: BTreeMap<EndpointKey, Check>,
    /// When each is due; one entry for each endpoint.
    due: BTreeSet<(Instant, EndpointKey)>,
    has_traffic: bool,
    chance: Chance,
    stats: HealthStats,
}

/// The health check of one endpoint.
#[derive(Clone, Debug)]
struct Check {
    due: Instant,
    is_probing: bool,
    /// Of the last probe.
    number: u32,
    is_pending: bool,
    is_failed: bool,
    is_degraded: bool,
    is_excluded: bool,
    passes: u32,
    failures: u32,
}

impl Check {
    fn health(&self) -> Health {
        match (self.is_excluded, self.is_pending, self.is_failed, self.is_degraded) {
            (true, ..) => Health::Excluded,
            (_, true, ..) => Health::Pending,
            (_, _, true, _) => Health::Failed,
            (.., true) => Health::Degraded,
            _ => Health::Healthy,
        }
    }
}

/// What a verdict did. Envoy's `HealthTransition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    /// More of the same will change the endpoint.
    Pending,
    Changed,
}

impl Checks {
    pub fn new(
        now: Instant,
        settings: HealthCheck,
        endpoints: impl IntoIterator<Item = EndpointKey>,
        chance: Chance,
    ) -> Checks {
        let mut checks = Checks {
            settings,
            endpoints: BTreeMap::new(),
            due: BTreeSet::new(),
            has_traffic: false,
            chance,
            stats: HealthStats::default(),
        };
        for endpoint in endpoints {
            checks.begin(now, endpoint);
        }
        checks
    }

    pub fn settings(&self) -> &HealthCheck {
        &self.settings
    }

    /// The settings are others now. What is known stays known, all are asked anew, and runs begin
    /// anew.
    pub fn set_settings(&mut self, now: Instant, settings: HealthCheck, actions: &mut Vec<Action>) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        for check in self.endpoints.values_mut() {
            check.passes = 0;
            check.failures = 0;
        }
        let all: Vec<EndpointKey> = self.endpoints.keys().copied().collect();
        for endpoint in all {
            self.stop(endpoint, actions);
            let jitter = self.jitter(self.settings.initial_jitter);
            self.wait(now, endpoint, jitter);
        }
    }

    /// The endpoints are these now. One that stays keeps its state.
    pub fn set_endpoints(
        &mut self,
        now: Instant,
        endpoints: impl IntoIterator<Item = EndpointKey>,
        actions: &mut Vec<Action>,
    ) {
        let mut gone: BTreeSet<EndpointKey> = self.endpoints.keys().copied().collect();
        for endpoint in endpoints {
            if !gone.remove(&endpoint) && !self.endpoints.contains_key(&endpoint) {
                self.begin(now, endpoint);
            }
        }
        for endpoint in gone {
            self.stop(endpoint, actions);
            if let Some(check) = self.endpoints.remove(&endpoint) {
                self.due.remove(&(check.due, endpoint));
            }
        }
    }

    pub fn health(&self, endpoint: EndpointKey) -> Health {
        self.endpoints.get(&endpoint).map_or(Health::Unchecked, Check::health)
    }

    pub fn stats(&self) -> HealthStats {
        self.stats
    }

    /// A request was sent to the cluster: intervals are those of a cluster in use.
    pub fn on_traffic(&mut self) {
        self.has_traffic = true;
    }

    /// The answer to a probe. One that is no longer waited for is not looked at. Says whether the
    /// endpoint passed, and is healthy.
    pub fn on_probe(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        number: u32,
        result: ProbeResult,
        changes: &mut Vec<Change>,
    ) -> bool {
        let is_awaited =
            self.endpoints.get(&endpoint).is_some_and(|check| check.is_probing && check.number == number);
        is_awaited && self.on_verdict(now, endpoint, judge(&self.settings.probe, result), changes)
    }

    /// An answer to a request said `x-envoy-immediate-health-check-fail`.
    pub fn on_immediate_fail(&mut self, endpoint: EndpointKey, changes: &mut Vec<Change>) {
        let Some(check) = self.endpoints.get_mut(&endpoint) else { return };
        let before = check.health();
        check.is_excluded = true;
        check.is_pending = false;
        check.is_failed = true;
        check.passes = 0;
        self.stats.failure = self.stats.failure.saturating_add(1);
        self.stats.passive_failure = self.stats.passive_failure.saturating_add(1);
        tell(endpoint, before, check.health(), changes);
    }

    /// When to [`Checks::tick`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Begins probes that are due, and ends those that took too long.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>, changes: &mut Vec<Change>) {
        // What becomes due by this lies ahead, so each endpoint comes up once.
        for _ in 0..self.endpoints.len() {
            let Some((due, endpoint)) = self.due.first().copied() else { return };
            if now < due {
                return;
            }
            let is_probing = self.endpoints.get(&endpoint).is_some_and(|check| check.is_probing);
            if is_probing {
                self.stop(endpoint, actions);
                self.on_verdict(now, endpoint, Verdict::TimedOut, changes);
            } else {
                self.probe(now, endpoint, actions);
            }
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.due.len() != self.endpoints.len() {
            return Err("not every endpoint is due once");
        }
        for (endpoint, check) in &self.endpoints {
            if !self.due.contains(&(check.due, *endpoint)) {
                return Err("an endpoint is due at another moment");
            }
            if (check.is_pending || check.is_excluded) && !check.is_failed {
                return Err("not to be asked, and healthy");
            }
            if !check.is_failed && check.failures >= self.settings.unhealthy_threshold.max(1) {
                return Err("enough failures, and healthy");
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant, endpoint: EndpointKey) {
        let jitter = self.jitter(self.settings.initial_jitter);
        let check = Check {
            due: now + jitter,
            is_probing: false,
            number: 0,
            is_pending: true,
            is_failed: true,
            is_degraded: false,
            is_excluded: false,
            passes: 0,
            failures: 0,
        };
        self.due.insert((check.due, endpoint));
        self.endpoints.insert(endpoint, check);
    }

    fn probe(&mut self, now: Instant, endpoint: EndpointKey, actions: &mut Vec<Action>) {
        // A timeout of nothing would go on at the same moment for ever.
        self.wait(now, endpoint, self.settings.timeout.max(Duration::from_millis(1)));
        let Some(check) = self.endpoints.get_mut(&endpoint) else { return };
        check.is_probing = true;
        check.number = check.number.wrapping_add(1);
        actions.push(Action::Probe { endpoint, number: check.number });
        self.stats.attempt = self.stats.attempt.saturating_add(1);
    }

    /// The answer to a probe that is under way is not waited for any longer.
    fn stop(&mut self, endpoint: EndpointKey, actions: &mut Vec<Action>) {
        if let Some(check) = self.endpoints.get_mut(&endpoint)
            && std::mem::take(&mut check.is_probing)
        {
            actions.push(Action::CancelProbe { endpoint, number: check.number });
        }
    }

    fn wait(&mut self, now: Instant, endpoint: EndpointKey, wait: Duration) {
        if let Some(check) = self.endpoints.get_mut(&endpoint) {
            self.due.remove(&(check.due, endpoint));
            check.due = now + wait;
            self.due.insert((check.due, endpoint));
        }
    }

    fn on_verdict(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        verdict: Verdict,
        changes: &mut Vec<Change>,
    ) -> bool {
        let Some(check) = self.endpoints.get_mut(&endpoint) else { return false };
        let before = check.health();
        check.is_probing = false;
        let is_first = check.is_pending;
        let effect = match verdict {
            Verdict::Passed { is_degraded } => {
                self.stats.success = self.stats.success.saturating_add(1);
                check.pass(is_degraded, self.settings.healthy_threshold)
            }
            Verdict::Failed { is_retriable, is_excluded } => {
                self.stats.failure = self.stats.failure.saturating_add(1);
                check.is_excluded |= is_excluded;
                check.fail(is_retriable, self.settings.unhealthy_threshold)
            }
            Verdict::Broken | Verdict::TimedOut => {
                self.stats.failure = self.stats.failure.saturating_add(1);
                self.stats.network_failure = self.stats.network_failure.saturating_add(1);
                check.fail(true, self.settings.unhealthy_threshold)
            }
        };
        check.is_pending = false;
        check.is_excluded &= check.is_failed;
        let effect = if is_first { Effect::Changed } else { effect };
        let (after, has_passed) = (check.health(), matches!(verdict, Verdict::Passed { .. }));
        let is_healthy = has_passed && !check.is_failed;
        let interval = self.interval(has_passed, effect);
        self.wait(now, endpoint, interval);
        tell(endpoint, before, after, changes);
        is_healthy
    }

    /// Until the next probe.
    fn interval(&mut self, has_passed: bool, effect: Effect) -> Duration {
        let settings = &self.settings;
        let unhealthy = settings.unhealthy_interval.unwrap_or(settings.interval);
        let base = match (self.has_traffic, has_passed, effect) {
            (true, true, Effect::Pending) => settings.healthy_edge_interval.unwrap_or(settings.interval),
            (true, true, _) => settings.interval,
            (true, false, Effect::Pending) => settings.unhealthy_edge_interval.unwrap_or(unhealthy),
            (true, false, _) => unhealthy,
            (false, true, Effect::None | Effect::Changed) => {
                settings.no_traffic_healthy_interval.unwrap_or(settings.no_traffic_interval)
            }
            (false, ..) => settings.no_traffic_interval,
        };
        let part = base.saturating_mul(settings.interval_jitter_percent) / 100;
        let jitter = settings.interval_jitter;
        let wait = base.saturating_add(self.jitter(part)).saturating_add(self.jitter(jitter));
        wait.max(Duration::from_millis(1))
    }

    /// A part of this, drawn.
    fn jitter(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        if most == 0 { Duration::ZERO } else { Duration::from_nanos(self.chance.below(most)) }
    }
}

impl Check {
    fn pass(&mut self, is_degraded: bool, threshold: u32) -> Effect {
        self.failures = 0;
        let mut effect = Effect::None;
        if self.is_failed {
            self.passes = self.passes.saturating_add(1);
            if self.is_pending || self.passes >= threshold {
                self.is_failed = false;
                self.passes = 0;
                effect = Effect::Changed;
            } else {
                effect = Effect::Pending;
            }
        }
        if is_degraded != self.is_degraded {
            self.is_degraded = is_degraded;
            if effect == Effect::None {
                effect = Effect::Changed;
            }
        }
        effect
    }

    /// `is_counted`: the threshold is for it.
    fn fail(&mut self, is_counted: bool, threshold: u32) -> Effect {
        self.passes = 0;
        if self.is_failed {
            return Effect::None;
        }
        self.failures = self.failures.saturating_add(1);
        if is_counted && self.failures < threshold {
            return Effect::Pending;
        }
        self.is_failed = true;
        self.failures = 0;
        Effect::Changed
    }
}

fn tell(endpoint: EndpointKey, before: Health, after: Health, changes: &mut Vec<Change>) {
    if before != after {
        changes.push(Change::Health { endpoint, health: after });
    }
}

#[cfg(test)]
mod tests;
