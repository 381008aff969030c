//! All that guards one cluster: its endpoints by ejection and health checks, itself by a breaker.
//!
//! Its owner tells it what happened, in order, then takes [`Guard::next_action`] and
//! [`Guard::next_change`] until there are none, and calls [`Guard::tick`] no later than
//! [`Guard::deadline`]. After an `Ejected`, `Returned` or `Health` it publishes
//! [`Guard::fitness`] of that endpoint; after a `Breaker`, the gate or the trial that it names.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::{BreakerState, GuardSettings};

use crate::{
    Action, AttemptOutcome, Breaker, BreakerChange, Change, Checks, Detector, EndpointKey, Fitness, Gate,
    Health, HealthStats, Metrics, OutlierStats, ProbeResult, is_in_panic,
};

#[derive(Debug)]
pub struct Guard {
    endpoints: BTreeSet<EndpointKey>,
    detector: Option<Detector>,
    checks: Option<Checks>,
    breaker: Option<Breaker>,
    panic_percent: u32,
    seed: u64,
    /// Goes up with each change of a fitness.
    generation: u64,
    actions: VecDeque<Action>,
    changes: VecDeque<Change>,
    // Emptied after each event; kept for their memory.
    new_actions: Vec<Action>,
    new_changes: Vec<Change>,
    of_breaker: Vec<BreakerChange>,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Of outlier detection.
    Sweep,
    /// A health check is to begin, or takes too long.
    Probe,
    Breaker,
}

impl Guard {
    /// All chance of a guard comes from `seed`: the same events are then decided alike.
    pub fn new(
        now: Instant,
        settings: &GuardSettings,
        endpoints: impl IntoIterator<Item = EndpointKey>,
        seed: u64,
    ) -> Guard {
        let mut guard = Guard {
            endpoints: endpoints.into_iter().collect(),
            detector: None,
            checks: None,
            breaker: None,
            panic_percent: settings.panic_percent,
            seed,
            generation: 0,
            actions: VecDeque::new(),
            changes: VecDeque::new(),
            new_actions: Vec::new(),
            new_changes: Vec::new(),
            of_breaker: Vec::new(),
        };
        guard.set_settings(now, settings);
        guard
    }

    /// The settings are these now. What both know of keeps its state: what is ejected stays
    /// ejected, what is open stays open. Publish [`Guard::gate`] afterwards: a breaker may have come
    /// or gone.
    pub fn set_settings(&mut self, now: Instant, settings: &GuardSettings) {
        self.panic_percent = settings.panic_percent;
        self.set_detection(now, settings);
        self.set_checks(now, settings);
        self.set_breaker(now, settings);
        self.settle();
    }

    fn set_detection(&mut self, now: Instant, settings: &GuardSettings) {
        match (&mut self.detector, &settings.outlier_detection) {
            (Some(detector), Some(detection)) => detector.set_settings(now, detection.clone()),
            (None, Some(detection)) => {
                let chance = Chance::split(self.seed, "outlier");
                let endpoints = self.endpoints.iter().copied();
                self.detector = Some(Detector::new(now, detection.clone(), endpoints, chance));
            }
            (Some(detector), None) => {
                let ejected = self.endpoints.iter().filter(|endpoint| detector.is_ejected(**endpoint));
                let returned = ejected.map(|endpoint| Change::Returned { endpoint: *endpoint });
                self.new_changes.extend(returned);
                self.detector = None;
            }
            (None, None) => {}
        }
    }

    fn set_checks(&mut self, now: Instant, settings: &GuardSettings) {
        let before: Vec<(EndpointKey, Health)> =
            self.endpoints.iter().map(|endpoint| (*endpoint, self.health(*endpoint))).collect();
        match (&mut self.checks, &settings.health_check) {
            (Some(checks), Some(check)) => {
                checks.set_settings(now, check.clone(), &mut self.new_actions);
            }
            (None, Some(check)) => {
                let chance = Chance::split(self.seed, "health");
                let endpoints = self.endpoints.iter().copied();
                self.checks = Some(Checks::new(now, check.clone(), endpoints, chance));
            }
            (Some(checks), None) => {
                checks.set_endpoints(now, [], &mut self.new_actions);
                self.checks = None;
            }
            (None, None) => {}
        }
        for (endpoint, health) in before {
            let after = self.health(endpoint);
            if after != health {
                self.new_changes.push(Change::Health { endpoint, health: after });
            }
        }
    }

    fn set_breaker(&mut self, now: Instant, settings: &GuardSettings) {
        match (&mut self.breaker, &settings.circuit_breaker) {
            (Some(breaker), Some(settings)) => {
                breaker.set_settings(now, settings.clone(), &mut self.of_breaker);
            }
            (before, settings) => {
                let chance = Chance::split(self.seed, "breaker");
                let breaker = settings.clone().map(|settings| Breaker::new(now, settings, chance));
                *before = breaker;
            }
        }
    }

    /// The endpoints are these now. One that stays keeps its state; of one that is new,
    /// [`Guard::fitness`] is to be published.
    pub fn set_endpoints(&mut self, now: Instant, endpoints: &[EndpointKey]) {
        self.endpoints = endpoints.iter().copied().collect();
        let endpoints = || self.endpoints.iter().copied();
        if let Some(detector) = &mut self.detector {
            detector.set_endpoints(endpoints());
        }
        if let Some(checks) = &mut self.checks {
            checks.set_endpoints(now, endpoints(), &mut self.new_actions);
        }
        self.generation = self.generation.wrapping_add(1);
        self.settle();
    }

    /// An attempt is over.
    pub fn on_outcome(&mut self, now: Instant, outcome: &AttemptOutcome) {
        if let Some(checks) = &mut self.checks {
            checks.on_traffic();
        }
        if let Some(detector) = &mut self.detector {
            detector.on_outcome(now, outcome.endpoint, outcome.result, &mut self.new_changes);
        }
        if let (Some(breaker), Some(ticket)) = (&mut self.breaker, outcome.ticket) {
            breaker.on_outcome(now, ticket, outcome.result, outcome.duration, &mut self.of_breaker);
        }
        self.settle();
    }

    /// A caller has turned OPEN into HALF_OPEN by storing this word.
    pub fn on_half_open(&mut self, now: Instant, gate: Gate) {
        if let Some(breaker) = &mut self.breaker {
            breaker.on_half_open(now, gate, &mut self.of_breaker);
        }
        self.settle();
    }

    /// A probe was answered, or could not be.
    pub fn on_probe(&mut self, now: Instant, endpoint: EndpointKey, number: u32, result: ProbeResult) {
        let Some(checks) = &mut self.checks else { return };
        let is_healthy = checks.on_probe(now, endpoint, number, result, &mut self.new_changes);
        if let Some(detector) = self.detector.as_mut().filter(|_| is_healthy) {
            detector.on_healthy(now, endpoint, &mut self.new_changes);
        }
        self.settle();
    }

    /// An answer to a request said `x-envoy-immediate-health-check-fail`. Without health checks,
    /// which would find out when that is over, it says nothing.
    pub fn on_immediate_fail(&mut self, endpoint: EndpointKey) {
        if let Some(checks) = &mut self.checks {
            checks.on_immediate_fail(endpoint, &mut self.new_changes);
        }
        self.settle();
    }

    /// Somebody says which state the breaker is in.
    pub fn force_breaker(&mut self, now: Instant, state: BreakerState) {
        if let Some(breaker) = &mut self.breaker {
            breaker.force(now, state, &mut self.of_breaker);
        }
        self.settle();
    }

    /// When to [`Guard::tick`] at the latest, and what for.
    pub fn deadline(&self) -> Option<(Instant, Due)> {
        let sweep = self.detector.as_ref().map(|detector| (detector.deadline(), Due::Sweep));
        let probe = self.checks.as_ref().and_then(Checks::deadline).map(|due| (due, Due::Probe));
        let breaker = self.breaker.as_ref().and_then(Breaker::deadline).map(|due| (due, Due::Breaker));
        [sweep, probe, breaker].into_iter().flatten().min()
    }

    pub fn tick(&mut self, now: Instant) {
        if let Some(detector) = &mut self.detector {
            detector.tick(now, &mut self.new_changes);
        }
        if let Some(checks) = &mut self.checks {
            checks.tick(now, &mut self.new_actions, &mut self.new_changes);
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.tick(now, &mut self.of_breaker);
        }
        self.settle();
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Whether an endpoint may be asked. One that is not known may be.
    pub fn fitness(&self, endpoint: EndpointKey) -> Fitness {
        let is_ejected = self.detector.as_ref().is_some_and(|detector| detector.is_ejected(endpoint));
        Fitness::new(is_ejected, self.health(endpoint))
    }

    /// Which state of all fitness this is; published with it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether so few are fit that all are to be asked, but for those that are excluded or pending.
    pub fn is_in_panic(&self) -> bool {
        let (mut fit, mut counted) = (0, 0);
        for fitness in self.endpoints.iter().map(|endpoint| self.fitness(*endpoint)) {
            fit += u32::from(fitness.is_fit());
            counted += u32::from(fitness.is_counted());
        }
        is_in_panic(self.panic_percent, fit, counted)
    }

    /// The word of the breaker, to store it at the beginning; `None` without a breaker.
    pub fn gate(&self) -> Option<Gate> {
        self.breaker.as_ref().map(Breaker::gate)
    }

    pub fn breaker_metrics(&mut self, now: Instant) -> Option<Metrics> {
        self.breaker.as_mut().map(|breaker| breaker.metrics(now))
    }

    pub fn outlier_stats(&self) -> Option<OutlierStats> {
        self.detector.as_ref().map(Detector::stats)
    }

    pub fn health_stats(&self) -> Option<HealthStats> {
        self.checks.as_ref().map(Checks::stats)
    }

    /// The timeout of a probe, for who carries it out.
    pub fn probe_timeout(&self) -> Option<Duration> {
        self.checks.as_ref().map(|checks| checks.settings().timeout)
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if let Some(detector) = &self.detector {
            detector.check_invariants()?;
        }
        if let Some(checks) = &self.checks {
            checks.check_invariants()?;
        }
        if let Some(breaker) = &self.breaker {
            breaker.check_invariants()?;
        }
        let is_left = [self.new_actions.is_empty(), self.new_changes.is_empty(), self.of_breaker.is_empty()];
        if is_left.contains(&false) { Err("something was said, and not passed on") } else { Ok(()) }
    }

    fn health(&self, endpoint: EndpointKey) -> Health {
        self.checks.as_ref().map_or(Health::Unchecked, |checks| checks.health(endpoint))
    }

    /// What the machines said goes out.
    fn settle(&mut self) {
        let is_of_fitness = |change: &Change| !matches!(change, Change::Spared { .. } | Change::Breaker(_));
        let count = self.new_changes.iter().filter(|change| is_of_fitness(change)).count();
        self.generation = self.generation.wrapping_add(count as u64);
        self.actions.extend(self.new_actions.drain(..));
        self.changes.extend(self.new_changes.drain(..));
        self.changes.extend(self.of_breaker.drain(..).map(Change::Breaker));
    }
}
