//! A scenario from its beginning to its end.

use std::fmt;

use naru_base::Chance;
use naru_journey::Snapshot;
use naru_spec::config::Place;
use naru_spec::{Config, Invalid, Problem};

use crate::bind::{self, Bound, Change};
use crate::judge::{self, Violation};
use crate::load::Source;
use crate::scenario::{Scenario, State};
use crate::service::Services;
use crate::transcript::{Recorder, Transcript};
use crate::upstream::ProxyId;
use crate::world::{Settled, Turn, World};

/// Why there is no transcript.
#[derive(Debug)]
pub enum RunError {
    /// The configuration cannot be compiled.
    Config(Vec<(Place, Invalid)>),
    /// The scenario does not fit the configuration.
    Scenario(Vec<Problem>),
    /// An invariant did not hold. The same seed shows it again.
    Violated { seed: u64, violation: Violation },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config(problems) => problems
                .iter()
                .try_for_each(|(place, invalid)| writeln!(f, "error: {invalid}\n  at {place:?}")),
            RunError::Scenario(problems) => problems.iter().try_for_each(|problem| writeln!(f, "{problem}")),
            RunError::Violated { seed, violation } => {
                write!(
                    f,
                    "an invariant does not hold {violation}\n  help: this is a defect of naru; seed {seed} shows it again"
                )
            }
        }
    }
}

impl std::error::Error for RunError {}

/// What the world calls back for, and what it marks requests with.
#[derive(Clone, Copy, Debug)]
enum Token {
    /// A source sends its next request.
    Arrival { source: usize },
    /// A user of a source does.
    User { source: usize, user: u32 },
    /// A service changes.
    Change(usize),
    /// A request.
    Request { source: usize, kind: usize, user: Option<u32> },
}

/// Runs a scenario. Equal arguments give equal transcripts, byte for byte.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, scenario: &Scenario, seed: u64) -> Result<Transcript, RunError> {
    let snapshot = Snapshot::compile(config).map_err(RunError::Config)?;
    let bound = bind::bind(&snapshot, scenario, seed).map_err(RunError::Scenario)?;
    Runner::new(&snapshot, bound, scenario, seed)
        .run(seed)
        .map_err(|violation| RunError::Violated { seed, violation })
}

struct Runner<'a> {
    world: World<'a, Services, Token>,
    sources: Vec<Source>,
    changes: Vec<Change>,
    recorder: Recorder,
    /// Which worker a connection comes to.
    workers: Chance,
}

impl<'a> Runner<'a> {
    fn new(snapshot: &'a Snapshot, bound: Bound, scenario: &Scenario, seed: u64) -> Runner<'a> {
        let Bound { fleet, services, sources, changes, unanswered } = bound;
        let detail = scenario.transcript;
        let mut recorder = Recorder::new(snapshot, &fleet, detail.interval.0, detail.sample_every);
        let world = World::new(snapshot, scenario.workers.get() as usize, seed, fleet, services);
        for (name, cluster) in unanswered {
            let what = format!("'{name}' of {cluster} has no answer; 'dns' of the scenario can give one");
            recorder.on_change(world.now(), "dns", what);
        }
        Runner { world, sources, changes, recorder, workers: Chance::split(seed, "workers") }
    }

    fn run(mut self, seed: u64) -> Result<Transcript, Violation> {
        self.plan();
        loop {
            match self.world.step()? {
                Some(Turn::Moved) => {}
                Some(Turn::Called(token)) => self.on_call(token)?,
                Some(Turn::Settled(settled)) => self.on_settled(&settled),
                None if self.world.active().requests > 0 => {
                    let what = format!("{} would wait for ever, and leave", self.world.active().requests);
                    self.recorder.on_change(self.world.now(), "clients", what);
                    self.world.abandon_all();
                }
                None => break,
            }
        }
        judge::check_end(self.world.now(), self.world.active())?;
        Ok(self.recorder.finish(seed, self.world.fleet(), self.world.active()))
    }

    /// Everything that is known from the beginning.
    fn plan(&mut self) {
        for (at, change) in self.changes.iter().enumerate() {
            self.world.call_at(change.at, Token::Change(at));
        }
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let Some(first) = source.next(source.from) {
                self.world.call_at(first, Token::Arrival { source: at });
            }
            for user in 0..source.users() {
                if let Some(first) = source.next_of_user(source.from) {
                    self.world.call_at(first, Token::User { source: at, user });
                }
            }
        }
    }

    fn on_call(&mut self, token: Token) -> Result<(), Violation> {
        match token {
            Token::Arrival { source } => {
                let next = self.sources[source].next(self.world.now());
                if let Some(next) = next {
                    self.world.call_at(next, token);
                }
                self.begin(source, None)
            }
            Token::User { source, user } => self.begin(source, Some(user)),
            Token::Change(at) => {
                self.change(at);
                Ok(())
            }
            Token::Request { .. } => Ok(()),
        }
    }

    fn begin(&mut self, source_at: usize, user: Option<u32>) -> Result<(), Violation> {
        let source = &mut self.sources[source_at];
        let kind = source.draw_kind();
        let patience = source.draw_patience();
        let drawn = source.draw_body(kind);
        let worker = match (user, self.world.workers(ProxyId(0))) {
            (_, 1) => 0,
            // A user stays on one connection.
            (Some(user), _) => user as usize,
            (None, workers) => self.workers.below(workers as u64) as usize,
        };
        self.recorder.on_begun(self.world.now());
        let request = drawn.as_ref().unwrap_or(&source.kinds[kind].request);
        let tag = Token::Request { source: source_at, kind, user };
        if let Turn::Settled(settled) = self.world.begin(worker, request, patience, tag, &mut ())? {
            self.on_settled(&settled);
        }
        Ok(())
    }

    fn on_settled(&mut self, settled: &Settled<'_, Token>) {
        let Token::Request { source: source_at, kind, user } = settled.tag else { return };
        let source = &mut self.sources[source_at];
        self.recorder.on_settled(settled, &source.name, &source.kinds[kind].line);
        if let Some(user) = user
            && let Some(next) = source.next_of_user(settled.outcome.ended)
        {
            self.world.call_at(next, Token::User { source: source_at, user });
        }
    }

    fn change(&mut self, at: usize) {
        let change = &self.changes[at];
        let what = match (change.is_gradual, change.is_end) {
            (true, false) => "behaves differently",
            (true, true) => "behaves as before",
            (false, true) => State::Up.name(),
            (false, false) => change.state.name(),
        };
        let what = format!("{} at {}: {what}", change.service, change.address);
        self.recorder.on_change(self.world.now(), "service", what);
        if change.state == State::Down && !change.is_end {
            self.world.upstreams().on_down(change.address);
            self.world.reset_connections(change.address);
        }
    }
}
