//! The limits with a name of one proxy: the counterpart of `proxy/src/shared_limits.rs`, on virtual time.
//!
//! What is an atomic there is a cell here, and what has a lock has none. All workers of a proxy share a limit, but for
//! admission control, which is each worker's own. Who waits in line is woken by the world: see [`NamedHere::next_woken`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use naru_admit::admission::is_success;
use naru_admit::rate::REFUSED;
use naru_admit::{Admission, Claim, Entry, Gradient, Queue, RateLimiter, Waiter, adaptive, bulkhead};
use naru_base::{Chance, Instant};
use naru_journey::Admission as Admitted;
use naru_journey::limits::{Leaving, Limit, LimitId, NamedLimits, Pass, Queued};
use naru_spec::{AdmissionControl, Bulkhead, GuardSettings};

use crate::guarded::Guarded;
use crate::passage::Key;

/// The limits of a snapshot, by [`LimitId`].
#[derive(Debug, Default)]
pub struct NamedHere {
    all: Vec<LimitHere>,
    woken: RefCell<VecDeque<Key>>,
    /// Somebody is to be woken, or a deadline is another one.
    has_news: Cell<bool>,
}

#[derive(Debug)]
enum LimitHere {
    Breaker(Box<RefCell<Guarded>>),
    Admission { own: Vec<RefCell<Admission>>, settings: AdmissionControl },
    Bulkhead(BulkheadHere),
    Rate { limiter: RateLimiter, word: Cell<u64> },
    Adaptive(AdaptiveHere),
}

#[derive(Debug)]
struct BulkheadHere {
    word: Cell<u64>,
    settings: Bulkhead,
    queue: RefCell<Queue>,
    /// Those who stand in line, by waiter.
    waiters: RefCell<BTreeMap<u64, Standing>>,
    next_waiter: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// Once the request that waits is known.
    Listening(Option<Key>),
    Woken,
}

#[derive(Debug)]
struct AdaptiveHere {
    word: Cell<u64>,
    gradient: RefCell<Gradient>,
    /// When it will be told that time passed.
    tick_at: Cell<Option<Instant>>,
}

impl NamedHere {
    pub fn new(now: Instant, limits: &NamedLimits, workers: usize, seed: u64) -> NamedHere {
        let all = limits.all.iter().map(|named| match &named.limit {
            Limit::Breaker(settings) => {
                let settings =
                    GuardSettings { circuit_breaker: Some(settings.clone()), ..GuardSettings::default() };
                LimitHere::Breaker(Box::new(RefCell::new(Guarded::always(now, &settings, &[], seed))))
            }
            Limit::Admission(settings) => LimitHere::Admission {
                own: (0..workers).map(|_| RefCell::new(Admission::new(settings.clone()))).collect(),
                settings: settings.clone(),
            },
            Limit::Bulkhead(settings) => LimitHere::Bulkhead(BulkheadHere {
                word: Cell::new(0),
                settings: *settings,
                queue: RefCell::new(Queue::new(*settings)),
                waiters: RefCell::default(),
                next_waiter: Cell::new(0),
            }),
            Limit::Rate(settings) => {
                LimitHere::Rate { limiter: RateLimiter::new(*settings), word: Cell::new(0) }
            }
            Limit::Adaptive(settings) => {
                let chance = Chance::split(seed, &format!("gradient of {}", named.name));
                let here = AdaptiveHere {
                    word: Cell::new(0),
                    gradient: RefCell::new(Gradient::new(now, *settings, chance)),
                    tick_at: Cell::new(None),
                };
                here.publish();
                LimitHere::Adaptive(here)
            }
        });
        let all: Vec<LimitHere> = all.collect();
        let has_news = Cell::new(!all.is_empty());
        NamedHere { all, woken: RefCell::default(), has_news }
    }

    pub fn pass(&self, now: Instant, worker: usize, limit: LimitId, chance: &mut Chance) -> Pass {
        match self.all.get(limit.index()) {
            None => Pass::Admitted,
            Some(LimitHere::Breaker(here)) => {
                let mut here = here.borrow_mut();
                let admission = here.enter(now, chance);
                if here.hear_callers() {
                    self.has_news.set(true);
                }
                match admission {
                    Admitted::Unguarded | Admitted::Admitted(None) => Pass::Admitted,
                    Admitted::Admitted(Some(ticket)) => Pass::Ticketed(ticket),
                    Admitted::Refused { retry_after, .. } => Pass::CutOff { retry_after },
                }
            }
            Some(LimitHere::Admission { own, .. }) => match own[worker].borrow_mut().admit(now, chance) {
                Ok(()) => Pass::Admitted,
                Err(reason) => Pass::Refused(reason),
            },
            Some(LimitHere::Bulkhead(here)) => here.pass(now),
            Some(LimitHere::Rate { limiter, word }) => match limiter.reserve(now, word.get()) {
                Ok(turn) => {
                    word.set(turn.word);
                    if turn.wait.is_zero() { Pass::Admitted } else { Pass::Until(now + turn.wait) }
                }
                Err(_) => Pass::Refused(REFUSED),
            },
            Some(LimitHere::Adaptive(here)) => match adaptive::take(here.word.get()) {
                Ok(word) => {
                    here.word.set(word);
                    Pass::Admitted
                }
                Err(reason) => Pass::Refused(reason),
            },
        }
    }

    pub fn claim(&self, now: Instant, limit: LimitId, queued: Queued) -> Claim {
        match self.all.get(limit.index()) {
            Some(LimitHere::Bulkhead(here)) => here.claim(now, queued),
            _ => Claim::Admitted,
        }
    }

    pub fn leave(&self, now: Instant, worker: usize, limit: LimitId, leaving: Leaving) {
        match self.all.get(limit.index()) {
            Some(LimitHere::Breaker(here)) => {
                if let Leaving::Done(ending) = leaving {
                    here.borrow_mut().record(now, &ending);
                    self.has_news.set(true);
                }
            }
            Some(LimitHere::Admission { own, settings }) => {
                if let Leaving::Done(ending) = leaving
                    && !(ending.is_cancelled && ending.status == 0)
                {
                    let is_success = is_success(&settings.success, ending.status, ending.grpc_status);
                    own[worker].borrow_mut().on_outcome(now, is_success);
                }
            }
            Some(LimitHere::Bulkhead(here)) => {
                if let Some(waiter) = here.leave(now, leaving) {
                    self.wake(here, waiter);
                }
            }
            Some(LimitHere::Rate { .. }) | None => {}
            Some(LimitHere::Adaptive(here)) => {
                if here.leave(now, leaving) {
                    self.has_news.set(true);
                }
            }
        }
    }

    fn wake(&self, here: &BulkheadHere, waiter: Waiter) {
        let before = here.waiters.borrow_mut().get_mut(&waiter.0).map(|standing| {
            let before = *standing;
            *standing = Standing::Woken;
            before
        });
        if let Some(Standing::Listening(Some(key))) = before {
            self.woken.borrow_mut().push_back(key);
            self.has_news.set(true);
        }
    }

    /// A request waits in line. Whether it was woken already; if not, it will be.
    pub fn listen(&self, limit: LimitId, queued: Queued, key: Key) -> bool {
        let Some(LimitHere::Bulkhead(here)) = self.all.get(limit.index()) else { return true };
        match here.waiters.borrow_mut().get_mut(&queued.waiter.0) {
            Some(Standing::Listening(known)) => {
                *known = Some(key);
                false
            }
            Some(Standing::Woken) | None => true,
        }
    }

    /// Whether there is somebody to wake, or another deadline to keep.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.has_news.get()
    }

    pub fn forget_news(&self) {
        self.has_news.set(false);
    }

    /// One who waits, and is to look whether it may pass.
    pub fn next_woken(&self) -> Option<Key> {
        self.woken.borrow_mut().pop_front()
    }

    /// Limits that are to be told that time passed, and when; once for each moment.
    pub fn next_ticks(&self) -> impl Iterator<Item = (LimitId, Instant)> {
        (0..).map(LimitId).zip(&self.all).filter_map(|(id, here)| {
            let deadline = match here {
                LimitHere::Breaker(here) => {
                    let mut here = here.borrow_mut();
                    let deadline = here.deadline()?;
                    let is_known = here.tick_at.is_some_and(|at| at <= deadline);
                    here.tick_at = if is_known { here.tick_at } else { Some(deadline) };
                    (!is_known).then_some(deadline)?
                }
                LimitHere::Adaptive(here) => {
                    let deadline = here.gradient.borrow().deadline()?;
                    let is_known = here.tick_at.get().is_some_and(|at| at <= deadline);
                    (!is_known).then(|| here.tick_at.set(Some(deadline)))?;
                    deadline
                }
                LimitHere::Admission { .. } | LimitHere::Bulkhead(_) | LimitHere::Rate { .. } => return None,
            };
            Some((id, deadline))
        })
    }

    /// The moment that [`NamedHere::next_ticks`] said.
    pub fn tick(&self, now: Instant, limit: LimitId) {
        match self.all.get(limit.index()) {
            Some(LimitHere::Breaker(here)) if here.borrow().tick_at == Some(now) => {
                let mut here = here.borrow_mut();
                here.tick_at = None;
                here.tick(now);
            }
            Some(LimitHere::Adaptive(here)) if here.tick_at.get() == Some(now) => {
                here.tick_at.set(None);
                here.gradient.borrow_mut().tick(now);
                here.publish();
            }
            _ => return,
        }
        self.has_news.set(true);
    }

    /// How many requests are counted at a limit: those that passed, and those that wait in line. `None` where it
    /// counts none.
    pub fn counted(&self, limit: LimitId) -> Option<(u64, u64)> {
        match self.all.get(limit.index())? {
            LimitHere::Bulkhead(here) => {
                let word = here.word.get();
                Some((bulkhead::active(word).into(), bulkhead::waiting(word).into()))
            }
            LimitHere::Adaptive(here) => Some((adaptive::active(here.word.get()).into(), 0)),
            LimitHere::Breaker(_) | LimitHere::Admission { .. } | LimitHere::Rate { .. } => None,
        }
    }

    /// How many requests are counted at all limits.
    pub fn active(&self) -> u64 {
        let ids = (0..self.all.len() as u32).map(LimitId);
        ids.filter_map(|id| self.counted(id)).map(|(active, waiting)| active + waiting).sum()
    }

    /// How many requests wait in line at all limits.
    pub fn waiting(&self) -> u64 {
        let ids = (0..self.all.len() as u32).map(LimitId);
        ids.filter_map(|id| self.counted(id)).map(|(_, waiting)| waiting).sum()
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.all.iter().try_for_each(|here| match here {
            LimitHere::Breaker(here) => here.borrow().check_invariants(),
            LimitHere::Admission { own, .. } => {
                own.iter().try_for_each(|admission| admission.borrow().check_invariants())
            }
            LimitHere::Bulkhead(here) => here.queue.borrow().check_invariants(here.word.get()),
            LimitHere::Rate { .. } => Ok(()),
            LimitHere::Adaptive(here) => here.gradient.borrow().check_invariants(),
        })
    }
}

impl BulkheadHere {
    fn pass(&self, now: Instant) -> Pass {
        match bulkhead::enter(&self.word, &self.settings) {
            Entry::Admitted => return Pass::Admitted,
            Entry::Refused(reason) => return Pass::Refused(reason),
            Entry::Ask | Entry::Queued { .. } => {}
        }
        let waiter = Waiter(self.next_waiter.get());
        match self.queue.borrow_mut().enter(now, waiter, &self.word) {
            Entry::Queued { ticket, deadline } => {
                self.next_waiter.set(waiter.0 + 1);
                self.waiters.borrow_mut().insert(waiter.0, Standing::Listening(None));
                Pass::InLine { queued: Queued { ticket, waiter }, deadline }
            }
            Entry::Refused(reason) => Pass::Refused(reason),
            Entry::Admitted | Entry::Ask => Pass::Admitted,
        }
    }

    fn claim(&self, now: Instant, queued: Queued) -> Claim {
        let claim = self.queue.borrow_mut().claim(now, queued.ticket, &self.word);
        let mut waiters = self.waiters.borrow_mut();
        match claim {
            Claim::Waiting => {
                waiters.insert(queued.waiter.0, Standing::Listening(None));
            }
            Claim::Admitted | Claim::Refused(_) => {
                waiters.remove(&queued.waiter.0);
            }
        }
        claim
    }

    /// Who is to be woken.
    fn leave(&self, now: Instant, leaving: Leaving) -> Option<Waiter> {
        match leaving {
            Leaving::Done(_) if bulkhead::release(&self.word) => None,
            Leaving::Done(_) => self.queue.borrow_mut().on_released(now, &self.word),
            Leaving::Line(queued) => {
                self.waiters.borrow_mut().remove(&queued.waiter.0);
                self.queue.borrow_mut().on_left(now, queued.ticket, &self.word)
            }
        }
    }
}

impl AdaptiveHere {
    /// Whether there is another deadline now.
    fn leave(&self, now: Instant, leaving: Leaving) -> bool {
        let Leaving::Done(ending) = leaving else { return false };
        self.word.set(adaptive::give_back(self.word.get()));
        // One that was given up says nothing about latency.
        let Some(sent) = ending.sent.filter(|_| !ending.is_cancelled) else { return false };
        let mut gradient = self.gradient.borrow_mut();
        let before = gradient.deadline();
        gradient.on_sample(now, sent);
        let is_other = gradient.deadline() != before;
        drop(gradient);
        self.publish();
        is_other
    }

    /// Workers read the limit where they count.
    fn publish(&self) {
        let limit = self.gradient.borrow().limit();
        self.word.set(adaptive::with_limit(self.word.get(), limit));
    }
}
