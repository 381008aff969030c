//! The life of one process, decided.
//!
//! | state | what is going on | leaves it by |
//! |---|---|---|
//! | `Starting` | it is to be started | `on_started`, `on_exit` |
//! | `Unready` | it runs, and may not be called | a readiness probe; `on_exit` |
//! | `Ready` | it may be called | a readiness probe; `on_exit` |
//! | `BackingOff` | it ended, and will be started again | `tick` |
//! | `Leaving` | it may not be called any more, and will be told to end | `tick` |
//! | `Stopping` | it was told to end | `on_exit`; `tick` kills it |
//! | `Gone` | nothing is left of it | |
//!
//! `now` is an argument everywhere. After each event the driver takes [`Life::next_action`] until
//! there is none, and calls [`Life::tick`] no later than [`Life::deadline`].

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::Instant;

use crate::{Probe, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Unready,
    Ready,
    BackingOff,
    Leaving,
    Stopping,
    Gone,
}

/// Which of its probes a process is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Startup,
    Readiness,
    Liveness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Ask(Role),
    /// SIGTERM.
    Terminate,
    /// SIGKILL, for it and all that it started.
    Kill,
    /// It failed its liveness or startup probe.
    TellUnwell(Role),
}

/// How long a process that ends is let rest: the kubelet's CrashLoopBackOff. The first time not at all,
/// then twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
    /// One that ran for so long begins anew.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
        }
    }
}

/// One process, from its first start to its last end.
#[derive(Debug)]
pub struct Life {
    probes: Vec<Asked>,
    grace: Duration,
    lame_duck: Duration,
    backoff: Backoff,
    state: State,
    is_running: bool,
    has_started_up: bool,
    started: Instant,
    /// How long it rests next; zero at first.
    rest: Duration,
    deadline: Option<Instant>,
    restarts: u32,
    is_wanted: bool,
    actions: VecDeque<Action>,
}

/// A probe, and how its answers have been.
#[derive(Debug)]
struct Asked {
    role: Role,
    settings: Probe,
    /// When it is asked next; nothing while an answer is awaited or nobody asks.
    due: Option<Instant>,
    successes: u32,
    failures: u32,
}

impl Life {
    pub fn new(now: Instant, workload: &Workload, lame_duck: Duration, backoff: Backoff) -> Life {
        let probe = |role, probe: &Option<Probe>| {
            let settings = probe.clone()?;
            Some(Asked { role, settings, due: None, successes: 0, failures: 0 })
        };
        let probes = [
            probe(Role::Startup, &workload.startup),
            probe(Role::Readiness, &workload.readiness),
            probe(Role::Liveness, &workload.liveness),
        ];
        let mut life = Life {
            probes: probes.into_iter().flatten().collect(),
            grace: workload.grace,
            lame_duck,
            backoff,
            state: State::Starting,
            is_running: false,
            has_started_up: false,
            started: now,
            rest: Duration::ZERO,
            deadline: None,
            restarts: 0,
            is_wanted: true,
            actions: VecDeque::new(),
        };
        life.actions.push_back(Action::Start);
        life
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The process runs.
    pub fn on_started(&mut self, now: Instant) {
        self.is_running = true;
        if self.state != State::Starting {
            return;
        }
        self.started = now;
        self.has_started_up = !self.probes.iter().any(|probe| probe.role == Role::Startup);
        self.state = State::Unready;
        for probe in &mut self.probes {
            (probe.successes, probe.failures) = (0, 0);
            let is_asked = self.has_started_up || probe.role == Role::Startup;
            probe.due = is_asked.then_some(now + probe.settings.initial_delay);
        }
        if self.has_started_up {
            self.ready_without_probe();
        }
    }

    /// One that nobody asks is ready as soon as it runs.
    fn ready_without_probe(&mut self) {
        if !self.probes.iter().any(|probe| probe.role == Role::Readiness) {
            self.state = State::Ready;
        }
    }

    /// The process ended, or could not be started.
    pub fn on_exit(&mut self, now: Instant) {
        self.is_running = false;
        self.probes.iter_mut().for_each(|probe| probe.due = None);
        if !self.is_wanted || self.state == State::Gone {
            self.state = State::Gone;
            self.deadline = None;
            return;
        }
        if now.since(self.started) >= self.backoff.reset_after {
            self.rest = Duration::ZERO;
        }
        self.state = State::BackingOff;
        self.deadline = Some(now + self.rest);
        self.rest =
            if self.rest.is_zero() { self.backoff.first } else { self.rest * 2 }.min(self.backoff.max);
        self.tick(now);
    }

    /// A probe was answered.
    pub fn on_answer(&mut self, now: Instant, role: Role, is_well: bool) {
        if !matches!(self.state, State::Unready | State::Ready) {
            return;
        }
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.role == role) else { return };
        if probe.due.is_some() {
            // Of a process before this one.
            return;
        }
        probe.due = Some(now + probe.settings.period);
        if is_well {
            (probe.successes, probe.failures) = (probe.successes.saturating_add(1), 0);
        } else {
            (probe.successes, probe.failures) = (0, probe.failures.saturating_add(1));
        }
        let is_proven = probe.successes >= probe.settings.success_threshold;
        let is_refuted = probe.failures >= probe.settings.failure_threshold;
        match role {
            Role::Startup if is_proven => self.has_begun(now),
            Role::Readiness if is_proven => self.state = State::Ready,
            Role::Readiness if is_refuted => self.state = State::Unready,
            Role::Startup | Role::Liveness if is_refuted => {
                self.actions.push_back(Action::TellUnwell(role));
                self.end(now);
            }
            _ => {}
        }
    }

    /// It has started up: the other probes begin.
    fn has_begun(&mut self, now: Instant) {
        self.has_started_up = true;
        for probe in &mut self.probes {
            probe.due = (probe.role != Role::Startup).then_some(now + probe.settings.initial_delay);
        }
        self.ready_without_probe();
    }

    /// It is not wanted any more.
    pub fn stop(&mut self, now: Instant) {
        if !self.is_wanted {
            return;
        }
        self.is_wanted = false;
        match self.state {
            State::Unready | State::Ready => {
                // Nobody calls it from now on; those who are about to still may.
                let is_called = self.state == State::Ready;
                self.state = State::Leaving;
                self.probes.iter_mut().for_each(|probe| probe.due = None);
                self.deadline = Some(if is_called { now + self.lame_duck } else { now });
                self.tick(now);
            }
            State::Starting if self.actions.contains(&Action::Start) => {
                self.actions.clear();
                self.state = State::Gone;
            }
            State::Starting => self.end(now),
            State::BackingOff => {
                self.deadline = None;
                self.state = State::Gone;
            }
            State::Leaving | State::Stopping | State::Gone => {}
        }
    }

    fn end(&mut self, now: Instant) {
        self.state = State::Stopping;
        self.probes.iter_mut().for_each(|probe| probe.due = None);
        self.actions.push_back(Action::Terminate);
        self.deadline = Some(now + self.grace);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            match self.state {
                State::BackingOff => {
                    self.restarts += 1;
                    self.state = State::Starting;
                    self.started = now;
                    self.actions.push_back(Action::Start);
                }
                State::Leaving => self.end(now),
                State::Stopping => self.actions.push_back(Action::Kill),
                State::Starting | State::Unready | State::Ready | State::Gone => {}
            }
        }
        for probe in &mut self.probes {
            if probe.due.is_some_and(|due| now >= due) {
                probe.due = None;
                self.actions.push_back(Action::Ask(probe.role));
            }
        }
    }

    /// The next moment at which [`Life::tick`] would do something.
    pub fn deadline(&self) -> Option<Instant> {
        self.probes.iter().filter_map(|probe| probe.due).chain(self.deadline).min()
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        match self.state {
            State::Ready | State::Unready if !self.is_running => Err("it may be called, and does not run"),
            State::Gone if self.is_running => Err("it is gone, and runs"),
            State::Gone if self.deadline().is_some() => Err("it is gone, and waits"),
            State::BackingOff if self.is_running => Err("it rests, and runs"),
            State::BackingOff if self.deadline.is_none() => Err("it rests for ever"),
            State::Leaving if self.deadline.is_none() => Err("it is never told to end"),
            _ if self.rest > self.backoff.max => Err("it rests too long"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;
    use crate::{Limits, ProbeKind};

    fn probe(period: u64, failure_threshold: u32) -> Probe {
        Probe {
            kind: ProbeKind::Tcp { port: None },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold,
        }
    }

    fn workload() -> Workload {
        Workload {
            name: "a".to_owned(),
            replicas: 1,
            command: vec!["a".to_owned()],
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            readiness: None,
            liveness: None,
            startup: None,
            limits: Limits::default(),
            grace: Duration::from_secs(30),
        }
    }

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn life(workload: &Workload) -> Life {
        Life::new(at(0), workload, Duration::from_millis(250), Backoff::default())
    }

    fn actions(life: &mut Life) -> Vec<Action> {
        std::iter::from_fn(|| life.next_action()).collect()
    }

    #[test]
    fn it_is_ready_when_its_probe_says_so_and_not_when_it_does_not() {
        let mut life = life(&Workload { readiness: Some(probe(1, 2)), ..workload() });
        assert_eq!(actions(&mut life), [Action::Start]);
        life.on_started(at(0));
        assert_eq!(life.state(), State::Unready);
        life.tick(at(0));
        assert_eq!(actions(&mut life), [Action::Ask(Role::Readiness)]);
        life.on_answer(at(10), Role::Readiness, true);
        assert!(life.is_ready());
        assert_eq!(life.deadline(), Some(at(1_010)));
        for (moment, is_ready) in [(1_010, true), (2_010, false)] {
            life.tick(at(moment));
            assert_eq!(actions(&mut life), [Action::Ask(Role::Readiness)]);
            life.on_answer(at(moment), Role::Readiness, false);
            assert_eq!(life.is_ready(), is_ready);
        }
    }

    #[test]
    fn it_rests_longer_each_time_it_ends() {
        let mut life = life(&workload());
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert_eq!(actions(&mut life), [Action::Start]);
            life.on_started(at(now));
            life.on_exit(at(now));
            let next = life.deadline().map_or(now, |next| next.0 / 1_000_000);
            rests.push((next - now) / 1_000);
            now = next;
            life.tick(at(now));
        }
        assert_eq!(rests, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(life.restarts(), 8);
        life.on_started(at(now));
        life.on_exit(at(now + 600_000));
        assert_eq!(life.state(), State::Starting, "it ran long: it is started at once");
    }

    #[test]
    fn it_is_told_to_end_after_nobody_calls_it_and_killed_when_it_does_not() {
        let mut life = life(&workload());
        actions(&mut life);
        life.on_started(at(0));
        assert!(life.is_ready());
        life.stop(at(100));
        assert_eq!((life.state(), life.is_ready()), (State::Leaving, false));
        assert_eq!(life.deadline(), Some(at(350)));
        life.tick(at(350));
        assert_eq!(actions(&mut life), [Action::Terminate]);
        life.tick(at(30_349));
        assert_eq!(actions(&mut life), []);
        life.tick(at(30_350));
        assert_eq!(actions(&mut life), [Action::Kill]);
        life.on_exit(at(30_351));
        assert_eq!((life.state(), life.deadline()), (State::Gone, None));
    }

    #[test]
    fn one_that_is_unwell_is_ended_and_started_again() {
        let mut life =
            life(&Workload { startup: Some(probe(1, 3)), liveness: Some(probe(1, 1)), ..workload() });
        actions(&mut life);
        life.on_started(at(0));
        life.tick(at(0));
        assert_eq!(actions(&mut life), [Action::Ask(Role::Startup)], "others wait for it");
        life.on_answer(at(0), Role::Startup, true);
        assert!(life.is_ready());
        life.tick(at(0));
        assert_eq!(actions(&mut life), [Action::Ask(Role::Liveness)]);
        life.on_answer(at(5), Role::Liveness, false);
        assert_eq!(actions(&mut life), [Action::TellUnwell(Role::Liveness), Action::Terminate]);
        life.on_exit(at(10));
        assert_eq!(actions(&mut life), [Action::Start]);
    }

    /// A process that does anything at any time, under a life that must always be right.
    #[test]
    fn whatever_happens_it_is_called_only_while_it_runs_and_ends_when_asked() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut draw = |below: u64| chance.draw() % below;
            let mut asked = Workload { grace: Duration::from_secs(5), ..workload() };
            if draw(2) == 0 {
                asked.readiness = Some(probe(1, 2));
            }
            if draw(2) == 0 {
                asked.liveness = Some(probe(2, 1));
            }
            if draw(2) == 0 {
                asked.startup = Some(probe(1, 3));
            }
            let mut life = life(&asked);
            let (mut now, mut is_running, mut waiting, mut rest) = (0_u64, false, Vec::new(), 0);
            let stop_at = 50 + draw(200);
            for step in 0..2_000 {
                if step == stop_at {
                    life.stop(at(now));
                }
                while let Some(action) = life.next_action() {
                    match action {
                        Action::Start => {
                            assert!(!is_running, "seed {seed}: a second process");
                            if draw(10) == 0 {
                                life.on_exit(at(now));
                            } else {
                                is_running = true;
                                life.on_started(at(now));
                            }
                        }
                        Action::Ask(role) => waiting.push(role),
                        Action::Kill => {
                            is_running = false;
                            life.on_exit(at(now));
                        }
                        Action::Terminate if draw(2) == 0 => {
                            is_running = false;
                            life.on_exit(at(now));
                        }
                        Action::Terminate | Action::TellUnwell(_) => {}
                    }
                }
                assert_eq!(life.check_invariants(), Ok(()), "seed {seed}, step {step}: {life:?}");
                assert!(is_running || !life.is_ready(), "seed {seed}, step {step}");
                if life.state() == State::BackingOff {
                    let wait = life.deadline().map_or(0, |next| next.0 / 1_000_000 - now);
                    assert!(wait <= 300_000, "seed {seed}: {wait}");
                    rest = rest.max(wait);
                }
                match draw(4) {
                    0 if is_running && draw(8) == 0 => {
                        is_running = false;
                        waiting.clear();
                        life.on_exit(at(now));
                    }
                    1 if !waiting.is_empty() => {
                        let role = waiting.remove(0);
                        life.on_answer(at(now), role, draw(3) > 0);
                    }
                    _ => {
                        let next = life.deadline().map_or(now + 100, |next| next.0.div_ceil(1_000_000));
                        now = if draw(3) == 0 { now + draw(500) } else { next.max(now) };
                        life.tick(at(now));
                    }
                }
            }
            assert_eq!(life.state(), State::Gone, "seed {seed}: it was stopped long ago: {life:?}");
            assert!(!is_running, "seed {seed}");
        }
    }
}
