//! The owner of what guards a cluster of one proxy: the counterpart of `proxy/src/guarded.rs`, on virtual time.
//!
//! All workers of a proxy share one. It is told what became of attempts and probes, in order, and publishes what its
//! [`Guard`] thinks to where workers read it. A probe that the guard wants is carried out by the world, which asks
//! whoever stands behind the endpoint; what the world is to tell of comes out of [`Guarded::next_note`].

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use naru_base::{Chance, EndpointId, Instant};
use naru_guard::{
    Action, AttemptOutcome, BreakerChange, Change, EndpointKey, Entry, Fitness, Gate, Guard, Health,
    ProbeResult,
};
use naru_journey::limits::Ending;
use naru_journey::{Admission, Report};
use naru_spec::{BreakerState, GuardSettings, Probe};

use crate::change::StateChange;
use crate::fleet::EndpointHere;

#[derive(Debug)]
pub struct Guarded {
    guard: Guard,
    /// By endpoint.
    keys: Vec<EndpointKey>,
    published: Vec<Published>,
    /// Whose fitness is published.
    generation: u64,
    /// The word of the breaker, where there is one. Callers change it.
    gate: Option<Cell<Gate>>,
    /// A caller has turned OPEN into HALF_OPEN, and the guard does not know yet.
    half_opened: Cell<Option<(Instant, Gate)>>,
    probe: Option<Probe>,
    keeps_connections: bool,
    /// Probes under way, by their numbers.
    probing: BTreeMap<EndpointKey, u32>,
    /// Where a connection waits for the next probe.
    connected: BTreeSet<EndpointKey>,
    notes: VecDeque<(Option<EndpointId>, StateChange)>,
    /// When the guard will be told that time passed.
    pub tick_at: Option<Instant>,
}

/// What workers read of an endpoint.
#[derive(Clone, Copy, Debug)]
struct Published {
    fitness: Fitness,
    is_well: bool,
}

impl Guarded {
    /// `None` where nothing guards the cluster.
    pub fn new(
        now: Instant,
        settings: &GuardSettings,
        endpoints: &[EndpointHere],
        seed: u64,
    ) -> Option<Guarded> {
        settings.is_active().then(|| Guarded::always(now, settings, endpoints, seed))
    }

    pub fn always(now: Instant, settings: &GuardSettings, endpoints: &[EndpointHere], seed: u64) -> Guarded {
        let keys: Vec<EndpointKey> = endpoints.iter().map(|here| EndpointKey::of(here.address)).collect();
        let mut guard = Guard::new(now, settings, [], seed);
        guard.set_endpoints(now, &keys);
        let check = settings.health_check.as_ref();
        let published = keys.iter().map(|key| Published { fitness: guard.fitness(*key), is_well: true });
        let mut guarded = Guarded {
            published: published.collect(),
            generation: guard.generation(),
            gate: guard.gate().map(Cell::new),
            half_opened: Cell::new(None),
            probe: check.map(|check| check.probe.clone()),
            keeps_connections: check.is_some_and(|check| check.reuse_connection),
            probing: BTreeMap::new(),
            connected: BTreeSet::new(),
            notes: VecDeque::new(),
            tick_at: None,
            guard,
            keys,
        };
        guarded.publish();
        guarded
    }

    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn fitness(&self, endpoint: EndpointId) -> Fitness {
        self.published.get(endpoint.index()).map_or(Fitness::FIT, |here| here.fitness)
    }

    /// May a call go to the cluster?
    pub fn enter(&self, now: Instant, chance: &mut Chance) -> Admission {
        let Some(word) = &self.gate else { return Admission::Admitted(None) };
        let gate = word.get();
        match gate.enter(now, chance.draw()) {
            Entry::Pass => Admission::Admitted(Some(gate.ticket())),
            Entry::Take(next) => {
                word.set(next);
                if gate.state() == BreakerState::Open {
                    self.half_opened.set(Some((now, next)));
                }
                Admission::Admitted(Some(next.ticket()))
            }
            Entry::Refuse { by, retry_after } => Admission::Refused { by, retry_after },
        }
    }

    /// Whether a caller did what the guard is to know of.
    #[inline]
    pub fn is_half_opened(&self) -> bool {
        self.half_opened.get().is_some()
    }

    /// What a caller did goes to the guard. Says whether there was anything.
    pub fn hear_callers(&mut self) -> bool {
        let Some((at, gate)) = self.half_opened.take() else { return false };
        self.guard.on_half_open(at, gate);
        self.publish();
        true
    }

    /// An attempt is over.
    pub fn on_report(&mut self, now: Instant, report: &Report) {
        self.hear_callers();
        let Report { endpoint, result, duration, ticket, .. } = *report;
        let Some(endpoint) = self.keys.get(endpoint.index()).copied() else { return };
        self.guard.on_outcome(now, &AttemptOutcome { endpoint, result, duration, ticket });
        self.publish();
    }

    /// What became of a request that the breaker of a route had let through.
    pub fn record(&mut self, now: Instant, ending: &Ending) {
        self.hear_callers();
        if let Some(ticket) = ending.ticket {
            let (endpoint, ticket) = (EndpointKey(0), Some(ticket));
            let outcome =
                AttemptOutcome { endpoint, result: ending.result, duration: ending.duration, ticket };
            self.guard.on_outcome(now, &outcome);
            self.publish();
        }
    }

    /// A probe was answered. Whether its connection stands for the next one is in `stays`.
    pub fn on_probe(
        &mut self,
        now: Instant,
        key: EndpointKey,
        number: u32,
        result: ProbeResult,
        stays: bool,
    ) {
        // One that was given up while it was answered is no answer.
        if self.probing.get(&key) != Some(&number) {
            return;
        }
        self.probing.remove(&key);
        if stays && self.keeps_connections {
            self.connected.insert(key);
        }
        self.guard.on_probe(now, key, number, result);
        self.publish();
    }

    /// What is being probed, or was, is gone: connections that stood to it do not any more.
    pub fn on_connections_lost(&mut self, endpoint: EndpointId) {
        if let Some(key) = self.keys.get(endpoint.index()) {
            self.connected.remove(key);
        }
    }

    pub fn tick(&mut self, now: Instant) {
        self.hear_callers();
        self.guard.tick(now);
        self.publish();
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.guard.deadline().map(|(at, _)| at)
    }

    /// A probe that is to be made, and whether there is a connection to make it by.
    pub fn next_probe(&mut self) -> Option<(EndpointId, EndpointKey, u32, bool)> {
        loop {
            match self.guard.next_action()? {
                Action::Probe { endpoint, number } => {
                    self.probing.insert(endpoint, number);
                    let Some(at) = self.keys.iter().position(|key| *key == endpoint) else { continue };
                    let is_connected = self.connected.remove(&endpoint);
                    return Some((EndpointId(at as u32), endpoint, number, is_connected));
                }
                Action::CancelProbe { endpoint, number } => {
                    if self.probing.get(&endpoint) == Some(&number) {
                        self.probing.remove(&endpoint);
                    }
                }
            }
        }
    }

    /// How endpoints are asked, where they are.
    pub fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// A change of state that nobody was told of yet, the oldest first.
    pub fn next_note(&mut self) -> Option<(Option<EndpointId>, StateChange)> {
        self.notes.pop_front()
    }

    /// What changed goes to where workers read it.
    fn publish(&mut self) {
        while let Some(change) = self.guard.next_change() {
            match change {
                Change::Ejected { endpoint, .. } => {
                    self.publish_endpoint(endpoint, Some(StateChange::Ejected))
                }
                Change::Returned { endpoint } => self.publish_endpoint(endpoint, Some(StateChange::Returned)),
                Change::Health { endpoint, .. } => self.publish_endpoint(endpoint, None),
                Change::Breaker(BreakerChange::Transition(transition)) => {
                    if let (Some(word), Some(gate)) = (&self.gate, transition.gate) {
                        word.set(gate);
                    }
                    self.notes.push_back((None, state_of(transition.to)));
                }
                Change::Breaker(BreakerChange::GiveBack(ticket)) => {
                    if let Some(word) = &self.gate
                        && let Some(gate) = word.get().give_back(ticket)
                    {
                        word.set(gate);
                    }
                }
                Change::Breaker(BreakerChange::WouldOpen { .. }) | Change::Spared { .. } => {}
            }
        }
        self.generation = self.guard.generation();
    }

    fn publish_endpoint(&mut self, endpoint: EndpointKey, change: Option<StateChange>) {
        let fitness = self.guard.fitness(endpoint);
        for ((id, key), here) in (0..).map(EndpointId).zip(&self.keys).zip(&mut self.published) {
            if *key != endpoint {
                continue;
            }
            here.fitness = fitness;
            // Everything begins well, as far as a transcript tells.
            let is_well = match fitness.health() {
                Health::Failed | Health::Excluded => false,
                Health::Unchecked | Health::Pending | Health::Healthy | Health::Degraded => true,
            };
            let of_health = (is_well != here.is_well).then_some(match is_well {
                true => StateChange::Healthy,
                false => StateChange::Unhealthy,
            });
            here.is_well = is_well;
            self.notes.extend(change.into_iter().chain(of_health).map(|change| (Some(id), change)));
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.guard.check_invariants()?;
        let is_known = |(key, here): (&EndpointKey, &Published)| self.guard.fitness(*key) == here.fitness;
        if !self.keys.iter().zip(&self.published).all(is_known) || self.generation != self.guard.generation()
        {
            return Err("an endpoint is fitter, or less so, than its guard thinks");
        }
        if let (Some(word), Some(gate)) = (&self.gate, self.guard.gate())
            && self.half_opened.get().is_none()
            && (word.get().state(), word.get().epoch()) != (gate.state(), gate.epoch())
        {
            return Err("callers see another state of a breaker than its owner");
        }
        match (&self.probe, self.probing.is_empty()) {
            (None, false) => Err("a probe is under way that nobody asked for"),
            _ => Ok(()),
        }
    }
}

/// What a transcript tells of a breaker that came into this state.
fn state_of(state: BreakerState) -> StateChange {
    match state {
        BreakerState::Open | BreakerState::ForcedOpen => StateChange::Opened,
        BreakerState::HalfOpen => StateChange::HalfOpened,
        BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly => StateChange::Closed,
    }
}
