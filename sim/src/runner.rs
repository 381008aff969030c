//! A scenario from its beginning to its end: loads and services around the proxies.

mod prepare;

use std::fmt;
use std::rc::Rc;

use naru_base::{Chance, Instant};
use naru_spec::config::Place;
use naru_spec::{Config, Invalid, Problem};

use crate::arena::{Arena, Ticket};
use crate::bind::{Bound, Change, Compiled};
use crate::calls::{Call, Callee, Origin};
use crate::change::StateChange;
use crate::expect::Expected;
use crate::judge::{self, Active, Violation};
use crate::load::Source;
use crate::scenario::Scenario;
use crate::service::{Circle, Errand, Services};
use crate::tiers::TierTold;
use crate::transcript::{CacheTold, Ended, Hop, Recorder, Transcript};
use crate::upstream::ProxyId;
use crate::world::{Noted, Parts, Settled, Turn, Waits, World};

pub use prepare::Configs;

/// A trace keeps so many requests; it is for small runs.
pub const TRACE_MAX: usize = 100_000;

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Keep every request.
    pub is_traced: bool,
}

/// Why there is no transcript.
#[derive(Debug)]
pub enum RunError {
    /// A configuration cannot be compiled. It is called as the scenario calls it; nothing where it was
    /// made of the scenario.
    Config { name: String, problems: Vec<(Place, Invalid)> },
    /// The scenario does not fit the configuration.
    Scenario(Vec<Problem>),
    /// An invariant did not hold. The same seed shows it again.
    Violated { seed: u64, violation: Violation },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config { problems, .. } => problems
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
    Arrival(u32),
    /// A user of a source does.
    User { source: u32, user: u32 },
    /// An instance changes.
    Change(u32),
    /// The own work of an instance on a request is done.
    Work(Ticket),
    /// A client asks again.
    Again(Ticket),
    /// The scenario is over.
    End,
    /// A request, by its call.
    Hop(Ticket),
}

/// Runs a scenario whose proxies all have this configuration. Equal arguments give equal transcripts,
/// byte for byte.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, scenario: &Scenario, seed: u64) -> Result<Transcript, RunError> {
    let compiled = Compiled::alike(config, scenario)?;
    run_compiled(&compiled, scenario, Options { seed, is_traced: false })
}

/// Runs a scenario whose proxies have the configurations that it names. Where it names none, they
/// have one that is made of its services.
///
/// # Errors
/// See [`RunError`].
pub fn simulate(configs: &Configs, scenario: &Scenario, options: Options) -> Result<Transcript, RunError> {
    run_compiled(&Compiled::each(configs, scenario)?, scenario, options)
}

fn run_compiled(compiled: &Compiled, scenario: &Scenario, options: Options) -> Result<Transcript, RunError> {
    let bound = crate::bind::bind(compiled, scenario, options.seed).map_err(RunError::Scenario)?;
    let seed = options.seed;
    Runner::new(compiled, bound, scenario, options).run(seed).map_err(|stopped| match stopped {
        Stopped::Violated(violation) => RunError::Violated { seed, violation },
        Stopped::Circle(circle) => RunError::Scenario(vec![prepare::problem_of(scenario, &circle)]),
    })
}

/// Why a run did not come to its end.
enum Stopped {
    Violated(Violation),
    Circle(Circle),
}

impl From<Violation> for Stopped {
    fn from(violation: Violation) -> Stopped {
        Stopped::Violated(violation)
    }
}

struct Runner<'a> {
    world: World<'a, Services, Token>,
    sources: Vec<Source>,
    changes: Vec<Change>,
    expected: Vec<Expected>,
    recorder: Recorder,
    calls: Arena<Call>,
    /// What each version calls, and the chance of its bodies and waits.
    callees: Vec<(Rc<[Callee]>, Chance)>,
    /// Which worker a connection comes to.
    workers: Chance,
    /// To how many proxies loads come, and to which the next request does.
    gateways: u32,
    gateway: Chance,
    /// The group of each proxy.
    groups: Vec<usize>,
    group_names: Vec<String>,
    calls_of_loads: u64,
    calls_of_services: u64,
    /// Kept for its memory.
    next_calls: Vec<usize>,
    trace: Option<Vec<Hop>>,
    is_trace_cut: bool,
    /// When no more requests come.
    ends: Instant,
    /// That moment was told, as what guards do is told only until the last request is over.
    is_over: bool,
}

impl Runner<'_> {
    fn run(mut self, seed: u64) -> Result<Transcript, Stopped> {
        self.plan();
        loop {
            match self.world.step()? {
                Some(Turn::Moved) => {}
                Some(Turn::Called(token)) => self.on_call(token)?,
                Some(Turn::Settled(settled)) => self.on_settled(&settled),
                None if self.world.active().requests > 0 => {
                    let what = format!("{} would wait for ever, and leave", self.world.active().requests);
                    self.recorder.on_note(self.world.now(), "clients", what);
                    self.world.abandon_all();
                }
                None => break,
            }
            self.run_errands()?;
            while let Some(noted) = self.world.next_noted() {
                self.on_noted(&noted);
            }
            while let Some(noted) = self.world.next_surged() {
                let group = self.groups[noted.proxy.index()];
                let what = match group {
                    0 => noted.what,
                    _ => format!("{} {}: {}", self.group_names[group], noted.proxy.0, noted.what),
                };
                self.recorder.on_note(noted.at, "surge", what);
            }
            while let Some((proxy, what)) = self.world.next_store_note() {
                let whose = proxy.map_or_else(String::new, |proxy| self.called(proxy));
                self.recorder.on_note(self.world.now(), "store", format!("{whose}{what}"));
            }
            if let Some(circle) = self.world.upstreams().circle() {
                return Err(Stopped::Circle(circle));
            }
            // What is left in the queue are moments that nobody waits for any more.
            if self.is_over
                && self.calls.is_empty()
                && self.world.upstreams().jobs() == 0
                && self.world.copies() == 0
                && !self.world.is_keeping()
            {
                break;
            }
        }
        let active =
            Active { work: (self.calls.len() + self.world.upstreams().jobs()) as u64, ..self.world.active() };
        self.world.audit_all()?;
        judge::check_end(self.world.now(), active)?;
        judge::check_ledger(self.world.now(), &self.world.upstreams().ledger)?;
        Ok(self.finish(seed, active))
    }

    fn finish(mut self, seed: u64, active: Active) -> Transcript {
        let Parts { upstreams, fleets, memories, tiers, around } = self.world.into_parts();
        let Services { mut ledger, groups, .. } = upstreams;
        let fleets: Vec<_> = self.groups.iter().copied().zip(&fleets).collect();
        let mut transcript =
            self.recorder.finish(seed, &fleets, &mut ledger, &groups, &self.expected, active);
        transcript.summary.by_cache = CacheTold::of(&memories);
        transcript.summary.by_tier = TierTold::of(&tiers);
        transcript.summary.by_store = around.told();
        let mut trace = self.trace.take().unwrap_or_default();
        trace.sort_by_key(|hop| hop.number);
        transcript.trace = trace;
        transcript.is_trace_cut = self.is_trace_cut;
        transcript
    }

    /// `gateway 2: `; nothing where there is no other.
    fn called(&self, proxy: ProxyId) -> String {
        match self.groups[proxy.index()] {
            0 if self.gateways == 1 => String::new(),
            0 => format!("gateway {}: ", proxy.0 + 1),
            group => format!("{} {}: ", self.group_names[group], proxy.0),
        }
    }

    /// Everything that is known from the beginning.
    fn plan(&mut self) {
        // What guards do without requests is told until then.
        if self.world.is_guarded() {
            self.world.call_at(self.ends, Token::End);
        }
        for (at, change) in self.changes.iter().enumerate() {
            self.world.call_at(change.at, Token::Change(at as u32));
        }
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let Some(first) = source.next(source.from) {
                self.world.call_at(first, Token::Arrival(at as u32));
            }
            for user in 0..source.users() {
                if let Some(first) = source.next_of_user(source.from) {
                    self.world.call_at(first, Token::User { source: at as u32, user });
                }
            }
        }
    }

    fn on_call(&mut self, token: Token) -> Result<(), Violation> {
        match token {
            Token::Arrival(source) => {
                let next = self.sources[source as usize].next(self.world.now());
                if let Some(next) = next {
                    self.world.call_at(next, token);
                }
                self.begin(source as usize, None)
            }
            Token::User { source, user } => self.begin(source as usize, Some(user)),
            Token::Change(at) => {
                self.change(at as usize);
                Ok(())
            }
            Token::Work(job) => {
                let now = self.world.now();
                self.world.upstreams().on_worked(now, job);
                Ok(())
            }
            Token::Again(call) => self.ask(call),
            Token::Hop(_) => Ok(()),
            Token::End => {
                self.is_over = true;
                Ok(())
            }
        }
    }

    /// What services want done, until they want nothing more.
    fn run_errands(&mut self) -> Result<(), Violation> {
        while let Some(errand) = self.world.upstreams().next_errand() {
            match errand {
                Errand::Wake { at, job } => self.world.call_at(at, Token::Work(job)),
                Errand::Call { job } => self.begin_calls(job)?,
                Errand::Respond { caller, answer, says_exhausted } => {
                    if let Turn::Settled(settled) = self.world.respond(caller, answer, says_exhausted)? {
                        self.on_settled(&settled);
                    }
                }
                Errand::Leave { call } => self.leave(call)?,
            }
        }
        Ok(())
    }

    /// A client of a load begins.
    fn begin(&mut self, source_at: usize, user: Option<u32>) -> Result<(), Violation> {
        let now = self.world.now();
        let source = &mut self.sources[source_at];
        let kind = source.draw_kind();
        let leaves = source.draw_patience().map(|patience| now + patience);
        let deadline = source.waits.deadline.map(|deadline| now + deadline);
        self.recorder.on_begun(now, source_at);
        let call = self.calls.insert(Call {
            origin: Origin::Load { source: source_at, kind, user },
            number: self.calls_of_loads,
            parent: None,
            began: now,
            tries: 0,
            leaves,
            deadline,
            hop: None,
        });
        self.calls_of_loads += 1;
        self.ask(call)
    }

    /// An instance begins the calls that it makes next for a request.
    fn begin_calls(&mut self, job: Ticket) -> Result<(), Violation> {
        let now = self.world.now();
        let mut next = std::mem::take(&mut self.next_calls);
        self.world.upstreams().next_calls(now, job, &mut next);
        if let Some((_, group, caller)) = self.world.upstreams().calling(job) {
            for callee in &next {
                let timeout = self.callees[group].0[*callee].timeout.map(|timeout| now + timeout);
                let call = self.calls.insert(Call {
                    origin: Origin::Job { job, group, callee: *callee },
                    number: self.calls_of_services,
                    parent: Some(caller.key.number()),
                    began: now,
                    tries: 0,
                    leaves: None,
                    deadline: [timeout, caller.deadline].into_iter().flatten().min(),
                    hop: None,
                });
                self.calls_of_services += 1;
                self.world.upstreams().on_calling(job, call);
                self.ask(call)?;
            }
        }
        self.next_calls = next;
        Ok(())
    }

    /// A client asks, for the first time or again.
    fn ask(&mut self, ticket: Ticket) -> Result<(), Violation> {
        let now = self.world.now();
        let Some(call) = self.calls.get_mut(ticket) else { return Ok(()) };
        call.tries += 1;
        let (leaves, deadline) = (call.leaves, call.deadline);
        let drawn;
        let (proxy, worker, request, timeout, (origin, is_repeat, trace)) = match call.origin {
            Origin::Load { source, kind, user } => {
                let source = &mut self.sources[source];
                drawn = source.draw_body(kind);
                let worker = match (user, self.world.workers(ProxyId(0))) {
                    (_, 1) => 0,
                    // A user stays on one connection.
                    (Some(user), _) => user as usize,
                    (None, workers) => self.workers.below(workers as u64) as usize,
                };
                let proxy = match (user, self.gateways) {
                    (_, 1) => 0,
                    (Some(user), gateways) => user % gateways,
                    (None, gateways) => self.gateway.below(u64::from(gateways)) as u32,
                };
                let proxy = self.world.instead_of(proxy, self.gateways);
                let timeout = source.waits.retry.as_ref().and_then(|again| again.timeout);
                let request = drawn.as_ref().unwrap_or(&source.kinds[kind].request);
                (ProxyId(proxy), worker, request, timeout, (None, false, 0))
            }
            Origin::Job { job, group, callee } => {
                let Some((proxy, _, caller)) = self.world.upstreams().calling(job) else { return Ok(()) };
                let (callees, chance) = &mut self.callees[group];
                let callee = &callees[callee];
                drawn = callee.kind.draw_body(chance);
                let timeout = callee.retry.as_ref().and_then(|again| again.timeout);
                let request = drawn.as_ref().unwrap_or(&callee.kind.request);
                (proxy, call.number as usize, request, timeout, (Some(job), caller.is_repeat, caller.trace))
            }
        };
        let leaves = [leaves, timeout.map(|timeout| now + timeout)].into_iter().flatten().min();
        let waits = Waits { patience: leaves.map(|at| at.since(now)), deadline, origin, is_repeat, trace };
        let (key, turn) = self.world.begin_at(proxy, worker, request, waits, Token::Hop(ticket), &mut ());
        match turn? {
            Turn::Settled(settled) => self.on_settled(&settled),
            Turn::Moved | Turn::Called(_) => {
                if let Some(call) = self.calls.get_mut(ticket) {
                    call.hop = Some(key);
                }
            }
        }
        Ok(())
    }

    /// Nobody wants the answer to a call any more.
    fn leave(&mut self, ticket: Ticket) -> Result<(), Violation> {
        let Some(call) = self.calls.get_mut(ticket) else { return Ok(()) };
        // Whoever leaves does not ask again.
        call.leaves = Some(Instant::ZERO);
        let Some(hop) = call.hop else {
            self.calls.remove(ticket);
            return Ok(());
        };
        if let Turn::Settled(settled) = self.world.abandon(hop)? {
            self.on_settled(&settled);
        }
        Ok(())
    }

    fn on_settled(&mut self, settled: &Settled<'_, Token>) {
        let Token::Hop(ticket) = settled.tag else { return };
        let group = self.groups[settled.proxy.index()];
        self.recorder.on_hop(settled, group);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        call.hop = None;
        if self.trace.is_some() {
            self.keep(settled, group, ticket);
        }
        let outcome = &settled.outcome;
        let is_failed = outcome.status == 0 || outcome.status >= 500;
        if is_failed && self.asks_again(ticket, outcome.ended) {
            return;
        }
        let Some(call) = self.calls.remove(ticket) else { return };
        match call.origin {
            Origin::Load { source: source_at, kind, user } => {
                let source = &mut self.sources[source_at];
                self.recorder.on_ended(&Ended {
                    number: call.number,
                    source: source_at,
                    load: &source.name,
                    line: &source.kinds[kind].line,
                    began: call.began,
                    decision: &settled.decision,
                    outcome,
                });
                if let Some(user) = user
                    && let Some(next) = source.next_of_user(outcome.ended)
                {
                    self.world.call_at(next, Token::User { source: source_at as u32, user });
                }
            }
            Origin::Job { job, group, callee } => {
                let is_optional = self.callees[group].0[callee].is_optional;
                let is_exhausted = settled.is_exhausted;
                self.world.upstreams().on_called(job, is_failed && !is_optional, is_exhausted);
            }
        }
    }

    /// A client that was not answered as it should be asks again, where it does and has the time.
    fn asks_again(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(call) = self.calls.get(ticket) else { return false };
        let tries_max = match call.origin {
            Origin::Load { source, .. } => self.sources[source].waits.retry.as_ref(),
            Origin::Job { group, callee, .. } => self.callees[group].0[callee].retry.as_ref(),
        }
        .map_or(1, |again| again.tries_max);
        if call.tries >= tries_max || call.is_over(now) {
            return false;
        }
        let wait = match call.origin {
            Origin::Load { source, .. } => self.sources[source].draw_wait(),
            Origin::Job { group, callee, .. } => {
                let (callees, chance) = &mut self.callees[group];
                let again = callees[callee].retry.as_ref();
                again.map_or(std::time::Duration::ZERO, |again| again.wait.sample(chance))
            }
        };
        let is_in_time = call.ends() > now + wait;
        if is_in_time {
            self.world.call_at(now + wait, Token::Again(ticket));
        }
        is_in_time
    }

    fn keep(&mut self, settled: &Settled<'_, Token>, group: usize, ticket: Ticket) {
        let (Some(trace), Some(call)) = (&mut self.trace, self.calls.get(ticket)) else { return };
        if trace.len() >= TRACE_MAX {
            self.is_trace_cut = true;
            return;
        }
        let proxy = match group {
            0 if self.gateways > 1 => format!("gateway {}", settled.proxy.0 + 1),
            group => self.group_names[group].clone(),
        };
        let line = match call.origin {
            Origin::Load { source, kind, .. } => &self.sources[source].kinds[kind].line,
            Origin::Job { group, callee, .. } => &self.callees[group].0[callee].kind.line,
        };
        trace.push(Hop {
            number: settled.number,
            parent: call.parent,
            attempt: call.tries,
            at_us: settled.outcome.began.0 / 1_000,
            ended_us: settled.outcome.ended.0 / 1_000,
            proxy,
            request: line.clone(),
            cluster: settled.decision.cluster.map(str::to_owned),
            endpoint: settled.decision.endpoint,
            attempts: settled.decision.attempts,
            status: settled.decision.status,
            reason: settled.decision.reason.name(),
        });
    }

    fn on_noted(&mut self, noted: &Noted) {
        let Noted { at, proxy, cluster, endpoint, change } = *noted;
        let name = &self.world.snapshot_of(proxy).cluster(cluster).name;
        let here = endpoint.and_then(|endpoint| self.world.fleet_of(proxy).place(cluster, endpoint));
        let address = here.map(|here| here.address);
        let mut subject = match address {
            Some(address) => format!("{address} of {name}"),
            None => name.clone(),
        };
        let group = self.groups[proxy.index()];
        // The first is the one that nobody asks about.
        if proxy.0 != 0 {
            subject = format!("{subject}, from {} {}", self.group_names[group], proxy.0);
        }
        let what = format!("{subject}: {}", change.phrase());
        self.recorder.on_change(at, change, subject, address, what);
    }

    fn change(&mut self, at: usize) {
        let now = self.world.now();
        let change = &self.changes[at];
        let services = self.world.upstreams();
        let instance = &services.instances[change.instance];
        let (address, group) = (instance.address, &services.groups[instance.group]);
        let of = match group.version.as_str() {
            "" => group.service.clone(),
            version => format!("{} {version}", group.service),
        };
        let what = match change.ended {
            Some(StateChange::Different) => "behaves as before",
            _ => change.change.phrase(),
        };
        let subject = format!("{of} at {address}");
        let name = change.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let what = format!("{name}{subject}: {what}");
        self.recorder.on_change(now, change.change, subject, Some(address), what);
        match change.change {
            StateChange::Down => {
                services.on_down(change.instance);
                self.world.reset_connections(address);
            }
            StateChange::Reset => self.world.reset_connections(address),
            // It may have more servers now.
            _ => services.begin_waiting(now, change.instance),
        }
    }
}
