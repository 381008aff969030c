//! The life of one process, decided.
//!
//! | state | what is going on | leaves it by |
//! |---|---|---|
//! | `Starting` | it is to be started | `on_started`, `on_exit` |
//! | `Unready` | it runs, and may not be called | a readiness probe; `on_ended`, `on_exit` |
//! | `Ready` | it may be called | a readiness probe; `on_ended`, `on_exit` |
//! | `BackingOff` | it ended, and will be started again | `tick` |
//! | `Leaving` | it may not be called any more, and will be told to end | `tick`, `on_ended`, `on_exit` |
//! | `Stopping` | it was told to end, or has ended and what it left behind is cleared away | `on_exit`; `tick` kills it |
//! | `Gone` | nothing is left of it | |
//!
//! `now` is an argument everywhere. After each event the driver takes [`Life::next_action`] until
//! there is none, and calls [`Life::tick`] no later than [`Life::deadline`].
//!
//! Rests are the kubelet's (`pkg/kubelet/kuberuntime`, `doBackOff`), and so are probes
//! (`pkg/kubelet/prober/worker.go`) but for one thing: one that was not ready yet is asked at least
//! every [`EAGER_PERIOD`]. Failures mean nothing then, and nobody waits ten seconds for a process that
//! took one.

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::Instant;

use crate::{Probe, Workload};

#[cfg(test)]
mod tests;

/// How often one that has not been ready is asked for it, at least.
pub const EAGER_PERIOD: Duration = Duration::from_millis(250);

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
    was_ready: bool,
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
    /// When it was asked last, while an answer is awaited: no probe overlaps itself.
    asked: Option<Instant>,
    successes: u32,
    failures: u32,
}

impl Life {
    pub fn new(now: Instant, workload: &Workload, lame_duck: Duration, backoff: Backoff) -> Life {
        let probe = |role, probe: &Option<Probe>| {
            let settings = probe.clone()?;
            Some(Asked { role, settings, due: None, asked: None, successes: 0, failures: 0 })
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
            was_ready: false,
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
        self.was_ready = false;
        self.has_started_up = !self.probes.iter().any(|probe| probe.role == Role::Startup);
        self.state = State::Unready;
        for probe in &mut self.probes {
            (probe.successes, probe.failures, probe.asked) = (0, 0, None);
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
            self.become_ready();
        }
    }

    fn become_ready(&mut self) {
        self.state = State::Ready;
        self.was_ready = true;
    }

    /// The process ended; others that it started may be there still.
    pub fn on_ended(&mut self) {
        if matches!(self.state, State::Starting | State::Unready | State::Ready | State::Leaving) {
            self.state = State::Stopping;
            self.deadline = None;
            self.ask_no_more();
        }
    }

    fn ask_no_more(&mut self) {
        for probe in &mut self.probes {
            (probe.due, probe.asked) = (None, None);
        }
    }

    /// Nothing is left of the process, or it could not be started.
    pub fn on_exit(&mut self, now: Instant) {
        self.is_running = false;
        self.ask_no_more();
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
        self.rest = if self.rest.is_zero() { self.backoff.first } else { self.rest.saturating_mul(2) }
            .min(self.backoff.max);
        self.tick(now);
    }

    /// A probe was answered.
    pub fn on_answer(&mut self, now: Instant, role: Role, is_well: bool) {
        if !matches!(self.state, State::Unready | State::Ready) {
            return;
        }
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.role == role) else { return };
        // Nobody awaits an answer about a process before this one.
        let Some(asked) = probe.asked.take() else { return };
        if is_well {
            (probe.successes, probe.failures) = (probe.successes.saturating_add(1), 0);
        } else {
            (probe.successes, probe.failures) = (0, probe.failures.saturating_add(1));
        }
        let is_proven = probe.successes >= probe.settings.success_threshold;
        let is_refuted = probe.failures >= probe.settings.failure_threshold;
        let is_eager = role == Role::Readiness && !self.was_ready && !is_proven;
        let period = probe.settings.period;
        let period = if is_eager { period.min(EAGER_PERIOD) } else { period };
        probe.due = Some((asked + period).max(now));
        match role {
            Role::Startup if is_proven => self.has_begun(now),
            Role::Readiness if is_proven => self.become_ready(),
            Role::Readiness if is_refuted => self.state = State::Unready,
            Role::Startup | Role::Liveness if is_refuted => {
                self.actions.push_back(Action::TellUnwell(role));
                self.leave(now);
            }
            _ => {}
        }
    }

    /// It has started up: the other probes begin.
    fn has_begun(&mut self, now: Instant) {
        self.has_started_up = true;
        for probe in &mut self.probes {
            let due = (self.started + probe.settings.initial_delay).max(now);
            probe.due = (probe.role != Role::Startup).then_some(due);
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
            State::Unready | State::Ready => self.leave(now),
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

    /// Nobody calls it from now on; those who are about to still may.
    fn leave(&mut self, now: Instant) {
        let is_called = self.state == State::Ready;
        self.state = State::Leaving;
        self.ask_no_more();
        self.deadline = Some(if is_called { now + self.lame_duck } else { now });
        self.tick(now);
    }

    fn end(&mut self, now: Instant) {
        self.state = State::Stopping;
        self.ask_no_more();
        self.actions.push_back(Action::Terminate);
        self.deadline = Some(now + self.grace);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            match self.state {
                State::BackingOff => {
                    self.restarts = self.restarts.saturating_add(1);
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
                (probe.due, probe.asked) = (None, Some(now));
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
