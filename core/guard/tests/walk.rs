//! A cluster in bad weather: workers that read old words, outcomes that come late or twice or
//! never, probes that nobody answers, endpoints and settings that change. `NARU_SEED` replays one
//! seed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses some of the models")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod reference;

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_guard::{
    Action, AttemptOutcome, AttemptResult, BreakerChange, Change, EndpointKey, Entry, Fitness, Gate, Grpc,
    Guard, Health, ProbeResult, RefusedBy, Ticket,
};
use naru_spec::{
    BreakerState, CircuitBreaker, GuardSettings, HealthCheck, HttpCheck, OutlierDetection, Percent, Probe,
    WaitInOpen, Window,
};

use reference::seeds;

const STATES: [BreakerState; 6] = [
    BreakerState::Closed,
    BreakerState::Open,
    BreakerState::HalfOpen,
    BreakerState::Disabled,
    BreakerState::MetricsOnly,
    BreakerState::ForcedOpen,
];

/// Of any sense or none.
fn settings(chance: &mut Chance) -> GuardSettings {
    let mut some = |most: u64| Duration::from_nanos(chance.below(most * 1_000_000));
    let outlier_detection = OutlierDetection {
        interval: some(3_000),
        base_ejection_time: some(3_000),
        max_ejection_time: some(9_000),
        max_ejection_time_jitter: some(100),
        ..OutlierDetection::default()
    };
    let mut health_check = HealthCheck::new(some(500), some(3_000), Probe::Http(HttpCheck::new("/")));
    let mut circuit_breaker = CircuitBreaker {
        wait_in_open: WaitInOpen::Exponential {
            initial: some(2_000),
            multiplier: 1_500,
            max: some(5_000),
            randomization: 500,
        },
        ramp: some(3_000),
        max_wait_in_half_open: Some(some(3_000)),
        slow_call_duration: some(1_000),
        ..CircuitBreaker::default()
    };
    health_check.unhealthy_threshold = chance.below(4) as u32;
    circuit_breaker.window = match chance.below(2) {
        0 => Window::Count(chance.below(20) as u32),
        _ => Window::Seconds(chance.below(5) as u32),
    };
    circuit_breaker.failure_rate = Percent::whole(chance.below(101) as u32);
    circuit_breaker.trial_calls = chance.below(6) as u32;
    circuit_breaker.automatic_half_open = chance.below(3) == 0;
    circuit_breaker.ignores_late_calls = chance.below(3) == 0;
    let mut outlier_detection = outlier_detection;
    outlier_detection.max_ejection_percent = chance.below(120) as u32;
    outlier_detection.always_eject_one_host = chance.below(2) == 0;
    outlier_detection.consecutive_5xx = chance.below(4) as u32;
    outlier_detection.split_external_local_origin_errors = chance.below(2) == 0;
    outlier_detection.success_rate.minimum_hosts = chance.below(4) as u32;
    outlier_detection.success_rate.request_volume = chance.below(10) as u32;
    outlier_detection.enforcing.success_rate = chance.below(101) as u32;
    GuardSettings {
        outlier_detection: (chance.below(4) > 0).then_some(outlier_detection),
        health_check: (chance.below(4) > 0).then_some(health_check),
        circuit_breaker: (chance.below(4) > 0).then_some(circuit_breaker),
        panic_percent: chance.below(101) as u32,
    }
}

fn endpoints(chance: &mut Chance) -> Vec<EndpointKey> {
    (0..8).filter(|_| chance.below(3) > 0).map(EndpointKey).collect()
}

/// The shell: what is published, and what is on its way.
struct World {
    chance: Chance,
    guard: Guard,
    settings: GuardSettings,
    endpoints: Vec<EndpointKey>,
    now: Instant,
    word: Gate,
    fitness: BTreeMap<EndpointKey, Fitness>,
    /// What workers have read a while ago.
    read: Vec<Gate>,
    flying: Vec<(EndpointKey, Ticket)>,
    /// Trials of an epoch that are not given back, and how many there may be.
    trials: (u16, u32, u32),
    transcript: Vec<Change>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let settings = settings(&mut chance);
        let endpoints = endpoints(&mut chance);
        let guard = Guard::new(Instant::ZERO, &settings, endpoints.iter().copied(), seed);
        let mut world = World {
            chance,
            word: guard.gate().unwrap_or(Gate::CLOSED),
            guard,
            settings,
            endpoints,
            now: Instant::ZERO,
            fitness: BTreeMap::new(),
            read: Vec::new(),
            flying: Vec::new(),
            trials: (0, 0, 0),
            transcript: Vec::new(),
        };
        world.publish_all();
        world
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_micros(self.chance.below(80_000));
        match self.chance.below(40) {
            0 => self.now = self.now + Duration::from_secs(self.chance.below(20)),
            1 => {
                self.endpoints = endpoints(&mut self.chance);
                self.guard.set_endpoints(self.now, &self.endpoints);
                self.publish_all();
            }
            2 if self.chance.below(3) == 0 => {
                self.settings = settings(&mut self.chance);
                self.guard.set_settings(self.now, &self.settings);
                self.word = self.guard.gate().unwrap_or(Gate::CLOSED);
                // Calls of a breaker that is no longer there.
                self.flying.retain(|_| self.settings.circuit_breaker.is_some());
                self.publish_all();
            }
            3 if self.chance.below(3) == 0 => {
                let state = STATES[self.chance.below(6) as usize];
                self.guard.force_breaker(self.now, state);
            }
            4 => {
                let endpoint = self.endpoint();
                self.guard.on_immediate_fail(endpoint);
            }
            5 => {
                let (endpoint, number) = (self.endpoint(), self.chance.below(5) as u32);
                self.guard.on_probe(self.now, endpoint, number, ProbeResult::Connected);
            }
            6..=12 => self.guard.tick(self.now),
            13..=17 => self.read.push(self.word),
            18..=28 => self.enter(),
            _ => self.end(),
        }
        self.settle();
    }

    fn endpoint(&mut self) -> EndpointKey {
        EndpointKey(self.chance.below(9))
    }

    /// A worker decides by a word that it may have read long ago, and swaps.
    fn enter(&mut self) {
        let is_old = !self.read.is_empty() && self.chance.below(2) == 0;
        let read = if is_old {
            let at = self.chance.below(self.read.len() as u64) as usize;
            self.read.swap_remove(at)
        } else {
            self.word
        };
        let endpoint = self.endpoint();
        match read.enter(self.now, self.chance.draw()) {
            Entry::Pass => self.flying.push((endpoint, read.ticket())),
            // Compare and swap.
            Entry::Take(next) if read == self.word => {
                self.word = next;
                if next.epoch() != read.epoch() && self.chance.below(8) > 0 {
                    self.guard.on_half_open(self.now, next);
                }
                if self.trials.0 != next.epoch() {
                    self.trials = (next.epoch(), 0, next.trials_left().unwrap() + 1);
                }
                self.trials.1 += 1;
                self.flying.push((endpoint, next.ticket()));
            }
            Entry::Take(_) => {}
            Entry::Refuse { by, .. } => {
                let state = read.state();
                assert_eq!(by == RefusedBy::Ramp, state == BreakerState::Closed);
            }
        }
    }

    /// An attempt ends, or is never heard of again.
    fn end(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.chance.below(self.flying.len() as u64) as usize;
        let (endpoint, ticket) = self.flying.swap_remove(at);
        let result = match self.chance.below(12) {
            0 => AttemptResult::ConnectFailed,
            1 => AttemptResult::Reset,
            2 => AttemptResult::TimedOut { is_connected: self.chance.below(2) == 0 },
            3 => AttemptResult::Abandoned,
            4 => AttemptResult::Answered { status: 200, grpc: Grpc::Head(self.chance.below(40) as u8) },
            5..=8 => AttemptResult::answered(503),
            _ => AttemptResult::answered(200),
        };
        if self.chance.below(30) == 0 {
            return;
        }
        let duration = Duration::from_millis(self.chance.below(2_000));
        let ticket = (self.chance.below(10) > 0).then_some(ticket);
        self.guard.on_outcome(self.now, &AttemptOutcome { endpoint, result, duration, ticket });
    }

    fn settle(&mut self) {
        while let Some(action) = self.guard.next_action() {
            if let Action::Probe { endpoint, number } = action {
                assert!(self.endpoints.contains(&endpoint), "asks one that is not there");
                let status = [200, 200, 200, 503][self.chance.below(4) as usize];
                let has_immediate_fail = self.chance.below(9) == 0;
                let answer = ProbeResult::Http { status, is_degraded: status == 503, has_immediate_fail };
                if self.chance.below(5) > 0 {
                    self.guard.on_probe(self.now, endpoint, number, answer);
                }
            }
        }
        while let Some(change) = self.guard.next_change() {
            match change {
                Change::Ejected { endpoint, .. }
                | Change::Returned { endpoint }
                | Change::Health { endpoint, .. } => {
                    self.fitness.insert(endpoint, self.guard.fitness(endpoint));
                }
                Change::Breaker(BreakerChange::Transition(transition)) => {
                    self.word = transition.gate.unwrap_or(self.word);
                    if transition.gate.is_some() {
                        self.trials = (self.word.epoch(), 0, self.word.trials_left().unwrap_or(0));
                    }
                }
                Change::Breaker(BreakerChange::GiveBack(ticket)) => {
                    if let Some(word) = self.word.give_back(ticket) {
                        self.word = word;
                        self.trials.1 -= u32::from(self.trials.0 == ticket.epoch);
                    }
                }
                Change::Breaker(BreakerChange::WouldOpen { .. }) | Change::Spared { .. } => {}
            }
            self.transcript.push(change);
        }
    }

    fn publish_all(&mut self) {
        self.settle();
        let fitness = |endpoint: &EndpointKey| (*endpoint, self.guard.fitness(*endpoint));
        self.fitness = self.endpoints.iter().map(fitness).collect();
    }

    fn check(&mut self) -> Result<(), &'static str> {
        self.guard.check_invariants()?;
        let is_right = |endpoint: &EndpointKey| {
            self.fitness.get(endpoint).is_some_and(|published| *published == self.guard.fitness(*endpoint))
        };
        if !self.endpoints.iter().all(is_right) {
            return Err("what is published of an endpoint is not what is so");
        }
        let (_, taken, granted) = self.trials;
        if self.word.state() == BreakerState::HalfOpen && taken > granted {
            return Err("more try than may");
        }
        if let Some((due, _)) = self.guard.deadline() {
            self.guard.tick(self.now);
            self.settle();
            let next = self.guard.deadline().map(|(due, _)| due);
            if next.is_some_and(|next| next <= self.now) && due <= self.now {
                return Err("still due after its tick");
            }
        }
        let _ = (self.guard.is_in_panic(), self.guard.breaker_metrics(self.now));
        Ok(())
    }
}

fn walk(seed: u64) -> Vec<Change> {
    let mut world = World::new(seed);
    for step in 0..400 {
        world.step();
        world
            .check()
            .unwrap_or_else(|what| panic!("NARU_SEED={seed}, step {step}: {what}\n{:#?}", world.settings));
    }
    world.transcript
}

#[test]
fn no_weather_confuses_a_guard_and_the_same_weather_gives_the_same() {
    let mut changes = 0;
    for seed in seeds() {
        let transcript = walk(seed);
        if seed % 16 == 0 {
            assert_eq!(transcript, walk(seed), "NARU_SEED={seed}");
        }
        changes += transcript.len();
    }
    assert!(changes > seeds().len() * 10, "{changes}: the walk must have something to see");
}

/// Never the last endpoint, unless the settings say so: of one that is alone, and of two at 50 %.
#[test]
fn the_last_endpoint_is_never_ejected_by_settings_that_keep_it() {
    for count in 1..=10_u64 {
        let detection =
            OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 99, ..OutlierDetection::default() };
        let settings = GuardSettings { outlier_detection: Some(detection), ..GuardSettings::default() };
        let mut guard = Guard::new(Instant::ZERO, &settings, (0..count).map(EndpointKey), 1);
        for endpoint in (0..count).map(EndpointKey) {
            let result = AttemptResult::answered(500);
            let outcome = AttemptOutcome { endpoint, result, duration: Duration::ZERO, ticket: None };
            guard.on_outcome(Instant(1), &outcome);
        }
        let fit = (0..count).filter(|endpoint| guard.fitness(EndpointKey(*endpoint)).is_fit()).count();
        assert_eq!(fit, 1, "of {count}");
        assert_eq!(guard.is_in_panic(), count > 2, "one of {count} is fit");
    }
}

/// What one machine knows, another is told: a passed probe ends an ejection, a failed one does not.
#[test]
fn a_probe_that_passes_lets_an_ejected_endpoint_return() {
    let one = EndpointKey(1);
    let second = Duration::from_secs(1);
    let mut guard = Guard::new(
        Instant::ZERO,
        &GuardSettings {
            outlier_detection: Some(OutlierDetection {
                consecutive_5xx: 1,
                always_eject_one_host: true,
                base_ejection_time: second * 300,
                ..OutlierDetection::default()
            }),
            health_check: Some(HealthCheck::new(second, second, Probe::Http(HttpCheck::new("/")))),
            ..GuardSettings::default()
        },
        [one],
        1,
    );
    // Until one is asked, and answers so.
    let ask = |guard: &mut Guard, status| loop {
        let (due, _) = guard.deadline().unwrap();
        guard.tick(due);
        let answer = ProbeResult::Http { status, is_degraded: false, has_immediate_fail: false };
        if let Some(Action::Probe { endpoint, number }) = guard.next_action() {
            guard.on_probe(due, endpoint, number, answer);
            return guard.fitness(one);
        }
    };
    assert!(ask(&mut guard, 200).is_fit());
    let (result, duration) = (AttemptResult::answered(500), Duration::ZERO);
    let before = guard.generation();
    guard.on_outcome(Instant(1), &AttemptOutcome { endpoint: one, result, duration, ticket: None });
    assert_eq!(guard.generation(), before + 1);
    assert_eq!(ask(&mut guard, 503), Fitness::new(true, Health::Failed));
    assert_eq!(ask(&mut guard, 200), Fitness::new(false, Health::Healthy));
}
