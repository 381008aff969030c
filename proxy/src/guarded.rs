//! The one owner of what guards a cluster, shared by all workers.
//!
//! A worker that has news of an attempt puts it into a bounded queue, and then becomes the owner for a moment if
//! nobody else is: whoever has the lock tells the guard everything that waits, in order, and publishes what
//! changed. Nobody ever waits for the lock on the way of a request. What workers read are single words: a number
//! that says whether the fitness of any endpoint is another one, the fitness of each, and the gate of the breaker.
//! When fitness is another one they are told ([`Message::Fitness`]), and build what they pick by between two requests.
//!
//! One task keeps the time and has the cluster's probes ([`Prober`]), on the runtime that the guard was made on, which
//! is no worker's. It ends with the guard, and the probes with it.
//!
//! The breaker of a route is a guard without endpoints.
//!
//! A guard outlives a change of the configuration for as long as its cluster has its name and is guarded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_guard::{
    Action, AttemptOutcome, AttemptResult, BreakerChange, Change, EndpointKey, Entry, Fitness, Gate, Guard,
    Health, HealthStats, Metrics, OutlierStats, Ticket,
};
use naru_journey::{Admission, Report};
use naru_spec::{BreakerState, GuardSettings};
use tokio::sync::{Notify, mpsc};

use crate::clock::Origin;
use crate::cluster::{EndpointCounts, EndpointSet, EndpointShared};
use crate::combined::Combined;
use crate::prober::{Answer, ProbeSettings, Prober, Target};
use crate::worker::Message;

/// News that may wait while somebody else is the owner.
const NEWS_MAX: usize = 4_096;

#[derive(Debug)]
pub struct Guarded {
    origin: Origin,
    owned: Combined<Owned, News>,
    /// News for which there was no room.
    lost: AtomicU64,
    /// What workers read.
    generation: AtomicU64,
    has_breaker: AtomicBool,
    has_checks: AtomicBool,
    gate: AtomicU64,
    refused_total: AtomicU64,
    /// For whoever keeps the time: the next deadline is an earlier one, or something is to be done.
    wake: Arc<Notify>,
    /// For whoever waits for first verdicts.
    has_changed: Notify,
    /// Who is told when fitness is another one, once they are there.
    workers: OnceLock<Vec<mpsc::UnboundedSender<Message>>>,
    itself: Weak<Guarded>,
}

#[derive(Debug)]
enum News {
    Outcome(Instant, AttemptOutcome),
    HalfOpen(Instant, Gate),
    /// An answer said that its endpoint is not well.
    ImmediateFail(EndpointKey),
}

#[derive(Debug)]
struct Owned {
    guard: Guard,
    endpoints: BTreeMap<EndpointKey, Arc<EndpointShared>>,
    /// Where endpoints are probed, how.
    probing: Option<Arc<ProbeSettings>>,
    /// The prober is to be told of endpoints and settings.
    is_prober_behind: bool,
    /// Only then workers are told what the guard thinks of endpoints: until it is in force, others may say so.
    is_in_force: bool,
    /// Workers' clocks are not quite the same: time never goes back here.
    last: Instant,
    /// What whoever keeps the time knows of.
    deadline: Option<Instant>,
}

/// What the guard of a cluster has done so far.
#[derive(Clone, Debug)]
pub struct GuardStatus {
    pub outlier: Option<OutlierStats>,
    pub health: Option<HealthStats>,
    pub breaker: Option<BreakerStatus>,
    /// Outcomes that were not looked at because too many came at once.
    pub lost_total: u64,
}

#[derive(Clone, Debug)]
pub struct BreakerStatus {
    pub metrics: Metrics,
    pub refused_total: u64,
}

impl Guarded {
    pub fn new(origin: Origin, settings: &GuardSettings, seed: u64) -> Arc<Guarded> {
        let now = origin.elapsed();
        let guard = Guard::new(now, settings, [], seed);
        let gate = guard.gate();
        let owned = Owned {
            guard,
            endpoints: BTreeMap::new(),
            probing: None,
            is_prober_behind: false,
            is_in_force: false,
            last: now,
            deadline: None,
        };
        let wake = Arc::<Notify>::default();
        let guarded = Arc::new_cyclic(|itself| Guarded {
            origin,
            owned: Combined::new(owned, NEWS_MAX),
            lost: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            has_breaker: AtomicBool::new(gate.is_some()),
            has_checks: AtomicBool::new(settings.health_check.is_some()),
            gate: AtomicU64::new(gate.unwrap_or(Gate::CLOSED).0),
            refused_total: AtomicU64::new(0),
            wake: Arc::clone(&wake),
            has_changed: Notify::new(),
            workers: OnceLock::new(),
            itself: Weak::clone(itself),
        });
        tokio::spawn(keep_time(Arc::downgrade(&guarded), wake));
        guarded
    }

    /// These are told from now on when fitness is another one.
    pub fn tell_workers(&self, workers: &[mpsc::UnboundedSender<Message>]) {
        // They are the same for as long as the process runs.
        self.workers.get_or_init(|| workers.to_vec());
    }

    /// The settings are these now. `probing` says how endpoints are asked, where they are.
    pub fn set_settings(&self, settings: &GuardSettings, probing: Option<ProbeSettings>) {
        let mut owned = self.lock();
        let now = owned.moment(self.origin.elapsed());
        owned.guard.set_settings(now, settings);
        let is_same = match (&owned.probing, &probing) {
            (None, None) => true,
            (Some(known), Some(new)) => known.is_same(new),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            owned.probing = probing.map(Arc::new);
        }
        owned.is_prober_behind = true;
        let gate = owned.guard.gate();
        self.gate.store(gate.unwrap_or(Gate::CLOSED).0, Ordering::Release);
        self.has_breaker.store(gate.is_some(), Ordering::Release);
        self.has_checks.store(settings.health_check.is_some(), Ordering::Release);
        self.publish(&mut owned);
        self.hand_back(owned);
        self.wake.notify_one();
    }

    /// The endpoints are these now. What is known of one stays with its address.
    pub fn set_endpoints(&self, set: &EndpointSet) {
        let mut owned = self.lock();
        owned.is_in_force = true;
        owned.endpoints = by_key(set);
        self.take_endpoints(owned);
    }

    /// These will be the endpoints, once the guard is in force: they are probed already.
    pub fn prepare_endpoints(&self, set: &EndpointSet) {
        let mut owned = self.lock();
        owned.endpoints = by_key(set);
        self.take_endpoints(owned);
    }

    /// As [`Guarded::prepare_endpoints`] of one that is in force: those that it has stay until then. Where they will be
    /// probed in another way, nothing can be found out now.
    pub fn add_endpoints(&self, set: &EndpointSet, probing: Option<ProbeSettings>) {
        let mut owned = self.lock();
        let is_same =
            owned.probing.as_deref().zip(probing.as_ref()).is_some_and(|(now, then)| now.is_same(then));
        let mut new = by_key(set);
        new.retain(|key, _| !owned.endpoints.contains_key(key));
        if is_same && !new.is_empty() {
            owned.endpoints.append(&mut new);
            self.take_endpoints(owned);
        } else {
            self.hand_back(owned);
        }
    }

    fn take_endpoints(&self, mut owned: MutexGuard<'_, Owned>) {
        let now = owned.moment(self.origin.elapsed());
        let keys: Vec<EndpointKey> = owned.endpoints.keys().copied().collect();
        owned.guard.set_endpoints(now, &keys);
        owned.is_prober_behind = true;
        keys.into_iter().for_each(|key| owned.publish(key));
        self.publish(&mut owned);
        self.hand_back(owned);
        self.wake.notify_one();
    }

    /// Nobody asks for the guard any more but requests that began before: it probes nobody, and says nothing of
    /// endpoints, which others may guard now.
    pub fn retire(&self) {
        self.set_settings(&GuardSettings::default(), None);
        let mut owned = self.lock();
        owned.endpoints.clear();
        self.hand_back(owned);
    }

    /// Whether there is an endpoint whose first probe was not answered yet.
    pub fn is_pending(&self) -> bool {
        let owned = self.lock();
        let is_pending =
            owned.endpoints.keys().any(|key| owned.guard.fitness(*key).health() == Health::Pending);
        self.hand_back(owned);
        is_pending
    }

    /// Waits until every endpoint was probed once.
    pub async fn first_verdicts(&self) {
        loop {
            let changed = self.has_changed.notified();
            if !self.is_pending() {
                return;
            }
            changed.await;
        }
    }

    /// Whether answers to requests may say something of an endpoint's health.
    #[inline]
    pub fn has_checks(&self) -> bool {
        self.has_checks.load(Ordering::Relaxed)
    }

    /// An answer said `x-envoy-immediate-health-check-fail`.
    #[cold]
    pub fn report_immediate_fail(&self, endpoint: &EndpointShared) {
        self.tell(News::ImmediateFail(EndpointKey::of(endpoint.address)));
    }

    /// Another number whenever an endpoint's fitness is another one.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// May a call go to the cluster?
    #[inline]
    pub fn enter(&self, now: Instant, chance: &mut Chance) -> Admission {
        if !self.has_breaker.load(Ordering::Acquire) {
            return Admission::Admitted(None);
        }
        let mut gate = Gate(self.gate.load(Ordering::Acquire));
        let draw = chance.draw();
        loop {
            let next = match gate.enter(now, draw) {
                Entry::Pass => return Admission::Admitted(Some(gate.ticket())),
                Entry::Take(next) => next,
                Entry::Refuse { by, retry_after } => {
                    self.refused_total.fetch_add(1, Ordering::Relaxed);
                    return Admission::Refused { by, retry_after };
                }
            };
            match self.gate.compare_exchange(gate.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if gate.state() == BreakerState::Open {
                        self.tell(News::HalfOpen(now, next));
                    }
                    return Admission::Admitted(Some(next.ticket()));
                }
                Err(other) => gate = Gate(other),
            }
        }
    }

    /// A call is over that was to no endpoint: of a guard that is nothing but a breaker.
    pub fn record(&self, now: Instant, ticket: Ticket, result: AttemptResult, duration: Duration) {
        let endpoint = EndpointKey(0);
        let outcome = AttemptOutcome { endpoint, result, duration, ticket: Some(ticket) };
        self.tell(News::Outcome(now, outcome));
    }

    /// An attempt is over.
    #[inline]
    pub fn report(&self, now: Instant, endpoint: &EndpointShared, report: Report) {
        let Report { result, duration, ticket, .. } = report;
        let outcome =
            AttemptOutcome { endpoint: EndpointKey::of(endpoint.address), result, duration, ticket };
        self.tell(News::Outcome(now, outcome));
    }

    fn tell(&self, news: News) {
        if !self.owned.put(news) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.hear_waiting();
    }

    fn hear_waiting(&self) {
        self.owned.hear_waiting(|owned| self.hear(owned));
    }

    fn hear(&self, owned: &mut Owned) {
        while let Some(news) = self.owned.next() {
            match news {
                News::Outcome(at, outcome) => {
                    let now = owned.moment(at);
                    owned.guard.on_outcome(now, &outcome);
                }
                News::HalfOpen(at, gate) => {
                    let now = owned.moment(at);
                    owned.guard.on_half_open(now, gate);
                }
                News::ImmediateFail(endpoint) => owned.guard.on_immediate_fail(endpoint),
            }
        }
        self.publish(owned);
    }

    /// What changed goes to where workers read it.
    fn publish(&self, owned: &mut Owned) {
        while let Some(change) = owned.guard.next_change() {
            match change {
                Change::Ejected { endpoint, .. }
                | Change::Returned { endpoint }
                | Change::Health { endpoint, .. } => {
                    owned.publish(endpoint);
                    self.has_changed.notify_waiters();
                }
                Change::Breaker(BreakerChange::Transition(transition)) => {
                    if let Some(gate) = transition.gate {
                        self.gate.store(gate.0, Ordering::Release);
                    }
                }
                Change::Breaker(BreakerChange::GiveBack(ticket)) => {
                    // Nobody needs the word that stood there before.
                    let _ = self.gate.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                        Gate(word).give_back(ticket).map(|gate| gate.0)
                    });
                }
                Change::Breaker(BreakerChange::WouldOpen { .. }) | Change::Spared { .. } => {}
            }
        }
        let generation = owned.guard.generation();
        if self.generation.swap(generation, Ordering::AcqRel) != generation
            && let Some(itself) = self.itself.upgrade()
        {
            for worker in self.workers.get().into_iter().flatten() {
                // One that has ended picks nobody.
                let _ = worker.send(Message::Fitness(Arc::clone(&itself)));
            }
        }
        let next = owned.guard.deadline().map(|(at, _)| at);
        if let Some(next) = next
            && owned.deadline.is_none_or(|known| next < known)
        {
            owned.deadline = Some(next);
            self.wake.notify_one();
        }
    }

    /// For those who may wait: they are not on the way of a request.
    fn lock(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock()
    }

    fn hand_back(&self, owned: MutexGuard<'_, Owned>) {
        drop(owned);
        self.hear_waiting();
    }

    /// Lets the guard know what was answered and what time it is, and the prober what is to be asked. Says when to do so
    /// next.
    fn tick(&self, prober: &mut Prober) -> Option<Instant> {
        let mut owned = self.lock();
        self.hear(&mut owned);
        let now = owned.moment(self.origin.elapsed());
        // An answer that is there is in time.
        while let Some(Answer { endpoint, number, result, .. }) = prober.next_answer() {
            owned.guard.on_probe(now, endpoint, number, result);
        }
        owned.guard.tick(now);
        owned.direct(prober);
        owned.deadline = owned.guard.deadline().map(|(at, _)| at);
        self.publish(&mut owned);
        let deadline = owned.deadline;
        self.hand_back(owned);
        deadline
    }

    pub fn status(&self) -> GuardStatus {
        let mut owned = self.lock();
        let now = owned.moment(self.origin.elapsed());
        let refused_total = self.refused_total.load(Ordering::Relaxed);
        let status = GuardStatus {
            outlier: owned.guard.outlier_stats(),
            health: owned.guard.health_stats(),
            breaker: owned.guard.breaker_metrics(now).map(|metrics| BreakerStatus { metrics, refused_total }),
            lost_total: self.lost.load(Ordering::Relaxed),
        };
        self.hand_back(owned);
        status
    }
}

impl Owned {
    /// This one, or a later one that was heard of before.
    fn moment(&mut self, now: Instant) -> Instant {
        self.last = self.last.max(now);
        self.last
    }

    /// What the guard thinks of an endpoint goes to where workers read it.
    fn publish(&self, endpoint: EndpointKey) {
        if let Some(shared) = self.endpoints.get(&endpoint).filter(|_| self.is_in_force) {
            shared.counts.fitness.store(self.guard.fitness(endpoint).bits(), Ordering::Release);
        }
    }

    /// What the guard wants of the prober.
    fn direct(&mut self, prober: &mut Prober) {
        if std::mem::take(&mut self.is_prober_behind) {
            prober.keep(|endpoint| self.endpoints.contains_key(&endpoint), self.probing.as_ref());
        }
        while let Some(action) = self.guard.next_action() {
            match action {
                Action::Probe { endpoint, number } => {
                    // Without both, the guard would not ask; a probe that is not begun fails by its timeout.
                    if let (Some(shared), Some(settings)) = (self.endpoints.get(&endpoint), &self.probing) {
                        let path = shared.path().map(str::to_owned);
                        let target = Target { address: shared.address, path };
                        prober.begin(endpoint, number, target, settings);
                    }
                }
                Action::CancelProbe { endpoint, number } => prober.cancel(endpoint, number),
            }
        }
    }
}

/// Whoever keeps the time need not find out by himself.
impl Drop for Guarded {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Keeps the time of one guard and asks its endpoints, until nobody needs it.
async fn keep_time(guarded: Weak<Guarded>, wake: Arc<Notify>) {
    /// Without a deadline it looks from time to time.
    const REST: Duration = Duration::from_secs(1);
    let mut prober = Prober::default();
    loop {
        let wait = {
            let Some(here) = guarded.upgrade() else { return };
            let deadline = here.tick(&mut prober);
            let now = here.origin.elapsed();
            deadline.map_or(REST, |deadline| deadline.since(now)).min(REST)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified() => {}
            () = prober.wait() => {}
        }
    }
}

fn by_key(set: &EndpointSet) -> BTreeMap<EndpointKey, Arc<EndpointShared>> {
    set.iter().map(|endpoint| (EndpointKey::of(endpoint.address), Arc::clone(endpoint))).collect()
}

/// Of an endpoint, as whoever guards its cluster says.
pub fn fitness(counts: &EndpointCounts) -> Fitness {
    Fitness::of_bits(counts.fitness.load(Ordering::Acquire))
}
