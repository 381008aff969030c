//! The named limits of routes and clusters, as all workers share them.
//!
//! What `naru_admit` counts in a word is an atomic here. What is more than a word has an owner: of a bulkhead's line
//! it is whoever has the lock, which nobody takes as long as nobody has to wait; of an adaptive limit it is whoever
//! finds the lock free, while the others leave their latencies in a queue. Admission control is each worker's own.
//!
//! A breaker is one for all workers, with the owner that breakers of clusters have ([`Guarded`]).
//!
//! All of it goes on under its name when the configuration changes: a bulkhead and a breaker with other settings from
//! then on, the others as long as their settings are the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use naru_admit::admission::is_success;
use naru_admit::rate::REFUSED;
use naru_admit::{Admission as Shedding, Claim, Gradient, RateLimiter, Word, adaptive};
use naru_base::{Chance, Instant};
use naru_journey::Admission;
use naru_journey::limits::{Ending, Leaving, Limit, LimitId, NamedLimit, NamedLimits, Pass, Queued};
use naru_spec::{AdaptiveConcurrency, AdmissionControl, Bulkhead, CircuitBreaker, GuardSettings, RateLimit};
use tokio::sync::Notify;

use crate::bulkhead::SharedBulkhead;
use crate::clock::{self, Origin};
use crate::combined::Combined;
use crate::guarded::{BreakerStatus, Guarded};
use crate::word::SharedWord;

/// Latencies that may wait while somebody else is the owner. One that finds no room is a sample less.
const SAMPLES_MAX: usize = 1_024;

/// A limit, as all workers share it.
#[derive(Clone, Debug)]
pub enum SharedLimit {
    Breaker {
        shared: Arc<Guarded>,
        settings: Box<GuardSettings>,
    },
    /// What is shared is how many it has left out.
    Admission {
        refused: Arc<AtomicU64>,
        settings: AdmissionControl,
    },
    Bulkhead {
        shared: Arc<SharedBulkhead>,
        settings: Bulkhead,
    },
    Rate(Arc<SharedRate>),
    Adaptive(Arc<SharedAdaptive>),
}

/// How a limit is seen from outside.
#[derive(Clone, Debug)]
pub struct NamedLimitStatus {
    pub kind: &'static str,
    pub name: String,
    /// Requests that have passed and are not over; only where they are counted.
    pub active: u64,
    pub waiting: u64,
    /// How many there may be now.
    pub limit: Option<u64>,
    pub refused_total: u64,
    /// Where it is one.
    pub breaker: Option<BreakerStatus>,
}

/// Those of a snapshot; what was there before under the same name goes on.
pub fn share(
    limits: &NamedLimits,
    older: Option<(&NamedLimits, &[SharedLimit])>,
    origin: Origin,
) -> Vec<SharedLimit> {
    let mut known = BTreeMap::new();
    if let Some((limits, shared)) = older {
        let all = limits.all.iter().zip(shared);
        known.extend(all.map(|(named, shared)| ((named.limit.kind(), named.name.as_str()), (named, shared))));
    }
    let all = limits.all.iter().map(|named| {
        let before = known.get(&(named.limit.kind(), named.name.as_str()));
        match (before, &named.limit) {
            (Some((_, SharedLimit::Breaker { shared, .. })), Limit::Breaker(settings)) => {
                SharedLimit::Breaker { shared: Arc::clone(shared), settings: guard_of(settings) }
            }
            (Some((_, SharedLimit::Bulkhead { shared, .. })), Limit::Bulkhead(settings)) => {
                SharedLimit::Bulkhead { shared: Arc::clone(shared), settings: *settings }
            }
            (Some((old, shared)), limit) if old.limit == *limit => (*shared).clone(),
            (_, limit) => SharedLimit::new(limit, origin),
        }
    });
    all.collect()
}

fn guard_of(breaker: &CircuitBreaker) -> Box<GuardSettings> {
    Box::new(GuardSettings { circuit_breaker: Some(breaker.clone()), ..GuardSettings::default() })
}

impl SharedLimit {
    fn new(limit: &Limit, origin: Origin) -> SharedLimit {
        match limit {
            Limit::Breaker(settings) => {
                let settings = guard_of(settings);
                SharedLimit::Breaker { shared: Guarded::new(origin, &settings, clock::seed()), settings }
            }
            Limit::Admission(settings) => {
                SharedLimit::Admission { refused: Arc::default(), settings: settings.clone() }
            }
            Limit::Bulkhead(settings) => {
                SharedLimit::Bulkhead { shared: SharedBulkhead::new(*settings), settings: *settings }
            }
            Limit::Rate(settings) => SharedLimit::Rate(Arc::new(SharedRate::new(*settings))),
            Limit::Adaptive(settings) => SharedLimit::Adaptive(SharedAdaptive::new(origin, settings)),
        }
    }

    /// The settings of a bulkhead or a breaker are these now.
    pub fn set(&self, now: Instant) {
        match self {
            SharedLimit::Breaker { shared, settings } => shared.set_settings(settings, None),
            SharedLimit::Bulkhead { shared, settings } => shared.set(now, *settings),
            SharedLimit::Admission { .. } | SharedLimit::Rate(_) | SharedLimit::Adaptive(_) => {}
        }
    }

    /// How many requests wait for their turn.
    pub fn waiting(&self) -> u64 {
        match self {
            SharedLimit::Bulkhead { shared, .. } => shared.counts().1,
            SharedLimit::Breaker { .. }
            | SharedLimit::Admission { .. }
            | SharedLimit::Rate(_)
            | SharedLimit::Adaptive(_) => 0,
        }
    }

    pub fn status(&self, named: &NamedLimit) -> NamedLimitStatus {
        let mut breaker = None;
        let (active, waiting, limit, refused_total) = match self {
            SharedLimit::Breaker { shared, .. } => {
                breaker = shared.status().breaker;
                let refused = breaker.as_ref().map_or(0, |breaker| breaker.refused_total);
                (0, 0, None, refused)
            }
            SharedLimit::Admission { refused, .. } => (0, 0, None, refused.load(Ordering::Relaxed)),
            SharedLimit::Bulkhead { shared, settings } => {
                let (active, waiting) = shared.counts();
                (active, waiting, Some(settings.concurrency_max.into()), shared.refused_total())
            }
            SharedLimit::Rate(shared) => (0, 0, None, shared.refused.load(Ordering::Relaxed)),
            SharedLimit::Adaptive(shared) => {
                let limit = shared.limit().into();
                let active = adaptive::active(shared.word.read()).into();
                (active, 0, Some(limit), shared.refused.load(Ordering::Relaxed))
            }
        };
        NamedLimitStatus {
            kind: named.limit.kind(),
            name: named.name.clone(),
            active,
            waiting,
            limit,
            refused_total,
            breaker,
        }
    }
}

#[derive(Debug)]
pub struct SharedRate {
    limiter: RateLimiter,
    word: SharedWord,
    refused: AtomicU64,
}

impl SharedRate {
    fn new(settings: RateLimit) -> SharedRate {
        let limiter = RateLimiter::new(settings);
        SharedRate { limiter, word: SharedWord::default(), refused: AtomicU64::new(0) }
    }

    fn pass(&self, now: Instant) -> Pass {
        let mut wait = Duration::ZERO;
        let taken = self.word.change(|word| {
            let turn = self.limiter.reserve(now, word).ok()?;
            wait = turn.wait;
            Some(turn.word)
        });
        match taken {
            Ok(_) if wait.is_zero() => Pass::Admitted,
            Ok(_) => Pass::Until(now + wait),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Pass::Refused(REFUSED)
            }
        }
    }
}

#[derive(Debug)]
pub struct SharedAdaptive {
    origin: Origin,
    word: SharedWord,
    owned: Combined<Owned, Sample>,
    refused: AtomicU64,
    /// The next deadline is another one.
    wake: Notify,
}

#[derive(Debug)]
struct Owned {
    gradient: Gradient,
    last: Instant,
}

/// When a request was sent, and when it was over.
#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: Instant,
    over: Instant,
}

impl SharedAdaptive {
    fn new(origin: Origin, settings: &AdaptiveConcurrency) -> Arc<SharedAdaptive> {
        let now = origin.elapsed();
        let gradient = Gradient::new(now, *settings, Chance::split(clock::seed(), "gradient"));
        let shared = Arc::new(SharedAdaptive {
            origin,
            word: SharedWord::default(),
            owned: Combined::new(Owned { gradient, last: now }, SAMPLES_MAX),
            refused: AtomicU64::new(0),
            wake: Notify::new(),
        });
        shared.publish(&shared.owned.lock());
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        shared
    }

    fn limit(&self) -> u32 {
        let limit = self.owned.lock().gradient.limit();
        self.hear_waiting();
        limit
    }

    fn pass(&self) -> Pass {
        let mut refusal = None;
        let taken = self.word.change(|word| adaptive::take(word).map_err(|r| refusal = Some(r)).ok());
        match (taken, refusal) {
            (Err(_), Some(reason)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Pass::Refused(reason)
            }
            _ => Pass::Admitted,
        }
    }

    fn leave(&self, now: Instant, leaving: Leaving) {
        let Leaving::Done(ending) = leaving else { return };
        // A step that is always taken.
        let _ = self.word.change(|word| Some(adaptive::give_back(word)));
        // One that was given up says nothing about latency.
        if let Some(sent) = ending.sent.filter(|_| !ending.is_cancelled)
            && self.owned.put(Sample { sent, over: now })
        {
            self.hear_waiting();
        }
    }

    fn hear_waiting(&self) {
        self.owned.hear_waiting(|owned| {
            let before = owned.gradient.deadline();
            self.hear(owned);
            if owned.gradient.deadline() != before {
                self.wake.notify_one();
            }
        });
    }

    fn hear(&self, owned: &mut Owned) {
        while let Some(Sample { sent, over }) = self.owned.next() {
            owned.last = owned.last.max(over);
            owned.gradient.on_sample(owned.last, sent);
        }
        self.publish(owned);
    }

    /// Workers read the limit where they count.
    fn publish(&self, owned: &Owned) {
        let limit = owned.gradient.limit();
        // A step that is always taken.
        let _ = self.word.change(|word| Some(adaptive::with_limit(word, limit)));
    }

    /// Lets the gradient know what time it is; says when to do so next.
    fn tick(&self) -> Option<Instant> {
        let mut owned = self.owned.lock();
        self.hear(&mut owned);
        owned.last = owned.last.max(self.origin.elapsed());
        let now = owned.last;
        owned.gradient.tick(now);
        self.publish(&owned);
        let deadline = owned.gradient.deadline();
        drop(owned);
        self.hear_waiting();
        deadline
    }
}

/// Keeps the time of one adaptive limit, until nobody needs it.
async fn keep_time(shared: Weak<SharedAdaptive>) {
    loop {
        let Some(here) = shared.upgrade() else { return };
        let deadline = here.tick();
        // Without a deadline it looks from time to time whether it is still needed.
        const REST: Duration = Duration::from_secs(1);
        let wait = deadline.map_or(REST, |deadline| deadline.since(here.origin.elapsed())).min(REST);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = here.wake.notified() => {}
        }
    }
}

/// A limit, as one worker has it.
#[derive(Clone, Debug)]
pub enum LimitHere {
    Breaker(Arc<Guarded>),
    Admission { own: Rc<RefCell<Shedding>>, settings: Rc<AdmissionControl>, refused: Arc<AtomicU64> },
    Bulkhead { shared: Arc<SharedBulkhead>, settings: Bulkhead },
    Rate(Arc<SharedRate>),
    Adaptive(Arc<SharedAdaptive>),
}

/// Those of a snapshot, by [`LimitId`].
#[derive(Debug, Default)]
pub struct LimitsHere(Vec<LimitHere>);

impl LimitsHere {
    pub fn new(
        limits: &NamedLimits,
        shared: &[SharedLimit],
        older: Option<(&NamedLimits, &LimitsHere)>,
    ) -> LimitsHere {
        let known = |limit: &NamedLimit| {
            let (limits, here) = older?;
            let at = limits.all.iter().position(|known| known == limit)?;
            here.0.get(at).cloned()
        };
        let all = limits.all.iter().zip(shared).map(|(limit, shared)| match shared {
            SharedLimit::Breaker { shared, .. } => LimitHere::Breaker(Arc::clone(shared)),
            SharedLimit::Admission { refused, settings } => {
                known(limit).unwrap_or_else(|| LimitHere::Admission {
                    own: Rc::new(RefCell::new(Shedding::new(settings.clone()))),
                    settings: Rc::new(settings.clone()),
                    refused: Arc::clone(refused),
                })
            }
            SharedLimit::Bulkhead { shared, settings } => {
                LimitHere::Bulkhead { shared: Arc::clone(shared), settings: *settings }
            }
            SharedLimit::Rate(shared) => LimitHere::Rate(Arc::clone(shared)),
            SharedLimit::Adaptive(shared) => LimitHere::Adaptive(Arc::clone(shared)),
        });
        LimitsHere(all.collect())
    }

    pub fn pass(&self, now: Instant, limit: LimitId, chance: &mut Chance) -> Pass {
        match &self.0[limit.index()] {
            LimitHere::Breaker(shared) => match shared.enter(now, chance) {
                Admission::Unguarded | Admission::Admitted(None) => Pass::Admitted,
                Admission::Admitted(Some(ticket)) => Pass::Ticketed(ticket),
                Admission::Refused { retry_after, .. } => Pass::CutOff { retry_after },
            },
            LimitHere::Admission { own, refused, .. } => match own.borrow_mut().admit(now, chance) {
                Ok(()) => Pass::Admitted,
                Err(reason) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    Pass::Refused(reason)
                }
            },
            LimitHere::Bulkhead { shared, settings } => shared.pass(now, settings),
            LimitHere::Rate(shared) => shared.pass(now),
            LimitHere::Adaptive(shared) => shared.pass(),
        }
    }

    pub fn claim(&self, now: Instant, limit: LimitId, queued: Queued) -> Claim {
        match &self.0[limit.index()] {
            LimitHere::Bulkhead { shared, .. } => shared.claim(now, queued),
            LimitHere::Breaker(_)
            | LimitHere::Admission { .. }
            | LimitHere::Rate(_)
            | LimitHere::Adaptive(_) => Claim::Admitted,
        }
    }

    pub fn leave(&self, now: Instant, limit: LimitId, leaving: Leaving) {
        match &self.0[limit.index()] {
            LimitHere::Breaker(shared) => {
                if let Leaving::Done(Ending { ticket: Some(ticket), result, duration, .. }) = leaving {
                    shared.record(now, ticket, result, duration);
                }
            }
            LimitHere::Admission { own, settings, .. } => {
                if let Leaving::Done(ending) = leaving
                    && !(ending.is_cancelled && ending.status == 0)
                {
                    let is_success = is_success(&settings.success, ending.status, ending.grpc_status);
                    own.borrow_mut().on_outcome(now, is_success);
                }
            }
            LimitHere::Bulkhead { shared, .. } => shared.leave(now, leaving),
            LimitHere::Rate(_) => {}
            LimitHere::Adaptive(shared) => shared.leave(now, leaving),
        }
    }

    /// Whether one that waits in line was woken; if not, `waker` will be.
    pub fn listen(&self, limit: LimitId, queued: Queued, waker: &Waker) -> bool {
        match &self.0[limit.index()] {
            LimitHere::Bulkhead { shared, .. } => shared.listen(queued, waker),
            LimitHere::Breaker(_)
            | LimitHere::Admission { .. }
            | LimitHere::Rate(_)
            | LimitHere::Adaptive(_) => true,
        }
    }
}
