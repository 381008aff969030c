//! The attempts of one request, and what comes after each of them.
//!
//! | state         | event                                          | next          | verdict          |
//! |---------------|------------------------------------------------|---------------|------------------|
//! | trying        | head, and no condition holds                   | settled       | Done             |
//! | trying        | head or failure, and a retry is allowed        | waiting       | RetryAfter       |
//! | trying        | failure on a connection that had waited        | trying        | Replay           |
//! | trying        | head or failure that may not be retried        | settled       | Done             |
//! | trying        | the same, while others are under way           | trying        | Await            |
//! | trying        | a try's timeout, and a retry is allowed        | waiting       | RetryAfter       |
//! | trying        | a try's timeout where hedges are made          | both          | RetryAfter       |
//! | trying        | the same, and no retry is allowed              | trying        | Await            |
//! | waiting, both | the wait is over ([`Step::Try`])               | trying        |                  |
//! | any           | news of an attempt that is not under way       | as before     | Await            |
//!
//! Whoever drives it takes [`Recovery::deadline`] among its own deadlines and calls
//! [`Recovery::tick`] then.

use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, Chance, EndpointId, Instant, RetryEnd, WallTime};
use naru_spec::{Repeats, RetryLimit, RetryOn, defaults};

use crate::asked::Asked;
use crate::condition::{self, FailureKind, Head};
use crate::flight::Flight;
use crate::{CompiledRetry, RetryLoad, backoff, budget, layer};

/// What is done about an answer or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the outcome. Other attempts that are under way are to be given up.
    Done(Done),
    /// Another attempt is made after this long. The one that this is about is given up, unless
    /// [`Recovery::is_under_way`] says that it goes on beside the other.
    RetryAfter(Duration),
    /// Once more to the same endpoint at once, on a connection that no request was sent on yet.
    Replay,
    /// Other attempts decide; the one that this is about is given up, unless it is still under way.
    Await,
}

/// Why no other attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// No condition of the policy holds.
    NotRetriable,
    /// All retries that are allowed were made. Envoy's flag `URX`.
    LimitReached,
    /// The cluster bears no more of them. Envoy's flag `UO`.
    BudgetExhausted,
    /// The upstream may have acted, and doing so twice might harm.
    Unsafe,
    /// The request is no longer there as a whole.
    NotReplayable,
    /// The next attempt would begin after the end of the request.
    DeadlineWouldPass,
    BreakerOpen,
    /// The answer comes from one that has retried already.
    DeeperLayerRetried,
    /// The request is a retry of the caller's.
    CallerRetries,
    /// Another attempt was made beside this one already.
    AlreadyHedged,
}

impl Done {
    /// Whether callers are told not to retry either: see [`layer`].
    pub fn is_told(self) -> bool {
        match self {
            Done::LimitReached | Done::BudgetExhausted | Done::BreakerOpen | Done::DeeperLayerRetried => true,
            Done::NotRetriable
            | Done::Unsafe
            | Done::NotReplayable
            | Done::DeadlineWouldPass
            | Done::CallerRetries
            | Done::AlreadyHedged => false,
        }
    }

    /// For `explain` and transcripts.
    pub fn words(self) -> &'static str {
        match self {
            Done::NotRetriable => "no condition of the retry policy holds",
            Done::LimitReached => "all retries were made",
            Done::BudgetExhausted => "the retry budget of the cluster is used up",
            Done::Unsafe => "the upstream may have acted on it, and the request is not idempotent",
            Done::NotReplayable => "the request was too large to be kept",
            Done::DeadlineWouldPass => "a retry could not end in time",
            Done::BreakerOpen => "the circuit breaker is open",
            Done::DeeperLayerRetried => "the answer was retried nearer to the failure already",
            Done::CallerRetries => "the caller is retrying the request itself",
            Done::AlreadyHedged => "another attempt was made in its place already",
        }
    }
}

/// How far a request got on an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte left.
    No,
    /// Some of it may have been seen.
    Maybe,
    /// The upstream answered, so it was.
    Yes,
}

/// An attempt that ended without a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub sent: Sent,
    /// The connection had served another request before: it may have been closed by an upstream that
    /// was tired of waiting, which says nothing about this request.
    pub is_reused: bool,
}

/// What is known of a request before its first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Sending it twice does what sending it once does.
    pub may_repeat: bool,
    /// A trusted caller sent it before.
    pub is_repeat: bool,
}

impl Facts {
    /// `is_trusted` says whether the caller is one of our own.
    pub fn of(method: &Method, headers: &HeaderMap, is_trusted: bool) -> Facts {
        Facts {
            may_repeat: is_idempotent(method) || headers.contains_key(layer::IDEMPOTENCY_KEY),
            is_repeat: is_trusted && layer::is_repeat(headers),
        }
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// What stands around a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// For waits until a date that a response says.
    pub wall: WallTime,
    /// When the whole request ends.
    pub deadline: Option<Instant>,
    /// All of the request is still there.
    pub is_replayable: bool,
    pub is_breaker_open: bool,
    /// The same request was tried again nearer to the failure, which [`layer::RETRIES`] could not say: a service that
    /// stands between carries no headers of an answer on.
    pub was_retried: bool,
    /// Of the cluster, and what it bears.
    pub load: RetryLoad,
    pub limit: RetryLimit,
}

/// What a deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next attempt.
    Backoff,
    /// The head of an attempt's response.
    PerTry,
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another attempt is to be made: see [`Recovery::choose`] and [`Recovery::begin_attempt`].
    Try,
    /// An attempt took too long.
    TimedOut { attempt: AttemptId, verdict: Verdict },
}

/// The state of one request. 48 bytes, one of which is a pointer that only a caller fills who asks
/// for what the policy does not say.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What [`PENDING`] says: the end of the wait, or of an attempt.
    wake: Instant,
    asked: Option<Box<Asked>>,
    flight: Flight,
    /// A bit for each endpoint that an attempt was made at, by the lowest digits of its id. Endpoints
    /// that share a bit are taken for one, which costs no more than another pick.
    tried: u32,
    on: RetryOn,
    left: u8,
    flags: u8,
}

/// No moment.
const NEVER: Instant = Instant(u64::MAX);

const MAY_REPEAT: u8 = 1 << 0;
const IS_REPEAT: u8 = 1 << 1;
/// Some attempt has sent something.
const HAS_STARTED: u8 = 1 << 2;
/// An attempt is to be made at [`Recovery::wake`].
const PENDING: u8 = 1 << 3;
const HEDGES: u8 = 1 << 4;
const LIMIT_REACHED: u8 = 1 << 5;
const BUDGET_EXHAUSTED: u8 = 1 << 6;
/// A retry is counted at the cluster.
const RETRYING: u8 = 1 << 7;

impl Recovery {
    /// `asks` are the headers of a trusted caller that may ask for something; see [`crate::consume`].
    #[inline]
    pub fn begin(policy: &CompiledRetry, facts: Facts, headers: &HeaderMap, asks: bool) -> Recovery {
        let mut recovery = Recovery {
            wake: NEVER,
            asked: None,
            flight: Flight::default(),
            tried: 0,
            on: policy.on,
            left: policy.retries_max,
            flags: 0,
        };
        for (is_so, flag) in [
            (facts.may_repeat, MAY_REPEAT),
            (facts.is_repeat, IS_REPEAT),
            (policy.hedge.on_per_try_timeout, HEDGES),
        ] {
            recovery.flags |= if is_so { flag } else { 0 };
        }
        if asks {
            recovery.obey(policy, headers);
        } else if !policy.may_retry(headers) {
            recovery.on = RetryOn::NONE;
        }
        recovery
    }

    #[cold]
    fn obey(&mut self, policy: &CompiledRetry, headers: &HeaderMap) {
        let wishes = crate::asked::read(headers);
        self.on = self.on.and(wishes.on);
        if !policy.may_retry(headers) {
            self.on = RetryOn::NONE;
        }
        if let Some(retries) = wishes.retries.filter(|_| !self.on.is_empty()) {
            self.left = retries;
        }
        match wishes.hedges {
            Some(true) => self.flags |= HEDGES,
            Some(false) => self.flags &= !HEDGES,
            None => {}
        }
        self.asked = wishes.rest.map(Box::new);
    }

    /// With how many attempts the request begins: more than one only where it may be sent twice.
    pub fn initial_attempts(&self, policy: &CompiledRetry, chance: &mut Chance) -> u32 {
        let hedge = &policy.hedge;
        let wanted = hedge.initial.max(1) + u32::from(hedge.additional.takes(chance.draw()));
        if self.is_repeatable(policy) { wanted.min(defaults::ATTEMPTS_AT_ONCE_MAX) } else { 1 }
    }

    /// An attempt begins. Ids are those of the journey; one of more than 255 has no place. `false`
    /// where too many are under way.
    pub fn begin_attempt(&mut self, id: AttemptId, endpoint: EndpointId, priority: u8) -> bool {
        if self.flags & PENDING != 0 {
            self.flags &= !PENDING;
            self.wake = NEVER;
            self.flight.count_retry();
        }
        self.tried |= bit(endpoint);
        self.flight.begin(id, endpoint, priority)
    }

    /// The attempt has a connection, and the request has arrived as a whole: its time runs.
    #[inline]
    pub fn start_clock(&mut self, now: Instant, per_try: Option<Duration>) {
        if let Some(per_try) = per_try
            && self.flags & PENDING == 0
            && self.flight.newest_waiting().is_some()
        {
            self.wake = now + per_try;
        }
    }

    /// The head of an attempt's response. What the circumstances are is asked only where it matters.
    #[inline]
    pub fn on_head(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        policy: &CompiledRetry,
        head: &Head<'_>,
        circumstances: impl FnOnce() -> Circumstances,
        chance: &mut Chance,
    ) -> Verdict {
        if self.is_settled_by(attempt, policy, head) {
            return Verdict::Done(Done::NotRetriable);
        }
        self.on_bad_head(now, attempt, policy, head, &circumstances(), chance)
    }

    /// Whether this head is one that no condition holds for: it is the answer, and nothing more is decided here. Most
    /// are, and whoever asks this first spares the rest of [`Recovery::on_head`].
    #[inline]
    pub fn is_settled_by(&mut self, attempt: AttemptId, policy: &CompiledRetry, head: &Head<'_>) -> bool {
        let is_bad = condition::holds_for_head(self.on, policy, self.asked.as_deref(), head);
        if is_bad || self.flight.endpoint(attempt).is_none() {
            return false;
        }
        self.settle();
        true
    }

    #[cold]
    fn on_bad_head(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        policy: &CompiledRetry,
        head: &Head<'_>,
        circumstances: &Circumstances,
        chance: &mut Chance,
    ) -> Verdict {
        if self.flight.endpoint(attempt).is_none() {
            return Verdict::Await;
        }
        self.flags |= HAS_STARTED;
        if self.has_alternative(attempt) {
            return self.leave(attempt);
        }
        let verdict = if self.flight.is_hedged(attempt) {
            Err(Done::AlreadyHedged)
        } else if circumstances.was_retried || layer::is_exhausted(head.headers) {
            Err(Done::DeeperLayerRetried)
        } else {
            let said = policy.said_wait(head.headers, circumstances.wall, chance);
            let is_safe = self.is_repeatable(policy) || condition::has_not_acted(head);
            self.decide(now, policy, is_safe, true, said, circumstances, chance)
        };
        self.conclude(now, attempt, verdict)
    }

    /// An attempt ended without a head.
    #[cold]
    pub fn on_failure(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        policy: &CompiledRetry,
        failure: Failure,
        circumstances: &Circumstances,
        chance: &mut Chance,
    ) -> Verdict {
        if self.flight.endpoint(attempt).is_none() {
            return Verdict::Await;
        }
        if failure.sent != Sent::No {
            self.flags |= HAS_STARTED;
        }
        let is_unseen = failure.sent == Sent::No || failure.kind == FailureKind::RefusedStream;
        let is_safe = is_unseen || self.is_repeatable(policy);
        let is_hedged = self.flight.is_hedged(attempt);
        let is_closed = match failure.kind {
            FailureKind::Reset => failure.sent != Sent::Yes,
            // One that goes away, and will not look at it.
            FailureKind::RefusedStream => failure.sent == Sent::No,
            FailureKind::Connect | FailureKind::Overflow | FailureKind::PerTryTimeout => false,
        };
        let is_stale = is_closed && failure.is_reused;
        // By the method alone: what the policy allows is for failures that say something.
        let is_replay_safe = failure.sent == Sent::No || self.flags & MAY_REPEAT != 0;
        if is_stale && is_replay_safe && circumstances.is_replayable && !is_hedged {
            self.end_attempt(attempt);
            return Verdict::Replay;
        }
        if self.has_alternative(attempt) {
            return self.leave(attempt);
        }
        let has_started = self.flags & HAS_STARTED != 0;
        let verdict = if !condition::holds_for_failure(self.on, failure.kind, has_started) {
            Err(Done::NotRetriable)
        } else if is_hedged {
            Err(Done::AlreadyHedged)
        } else {
            self.decide(now, policy, is_safe, !is_unseen, None, circumstances, chance)
        };
        self.conclude(now, attempt, verdict)
    }

    /// An attempt took longer than one may, or nothing moved on it for longer than may be. The next
    /// one is made beside it where hedges are made, else in its place.
    #[cold]
    pub fn on_per_try_timeout(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        policy: &CompiledRetry,
        circumstances: &Circumstances,
        chance: &mut Chance,
    ) -> Verdict {
        if self.flight.endpoint(attempt).is_none() {
            return Verdict::Await;
        }
        if self.flags & PENDING == 0 {
            self.wake = NEVER;
        }
        self.flags |= HAS_STARTED;
        let is_safe = self.is_repeatable(policy);
        if self.flags & HEDGES == 0 {
            if self.has_alternative(attempt) {
                return self.leave(attempt);
            }
            let verdict = if condition::holds_for_failure(self.on, FailureKind::PerTryTimeout, true) {
                self.decide(now, policy, is_safe, true, None, circumstances, chance)
            } else {
                Err(Done::NotRetriable)
            };
            return self.conclude(now, attempt, verdict);
        }
        // Whatever the conditions: nothing has failed yet. It is waited for on.
        if self.flags & PENDING != 0 || self.flight.is_hedged(attempt) || self.flight.is_full() {
            return Verdict::Await;
        }
        match self.decide(now, policy, is_safe, true, None, circumstances, chance) {
            Ok(wait) => {
                self.flight.hedge(attempt);
                self.schedule(now, wait);
                Verdict::RetryAfter(wait)
            }
            Err(_) => Verdict::Await,
        }
    }

    /// Whether one more attempt is allowed, and after how long. It is known that a condition holds.
    #[expect(clippy::too_many_arguments, reason = "this is all that a retry is decided by")]
    fn decide(
        &mut self,
        now: Instant,
        policy: &CompiledRetry,
        is_safe: bool,
        may_have_arrived: bool,
        said: Option<Duration>,
        circumstances: &Circumstances,
        chance: &mut Chance,
    ) -> Result<Duration, Done> {
        // The one that was made before is over, and stands in the way of nobody.
        let own = u32::from(self.flags & RETRYING != 0);
        self.flags &= !RETRYING;
        let load =
            RetryLoad { retries: circumstances.load.retries.saturating_sub(own), ..circumstances.load };
        if self.flags & IS_REPEAT != 0 && may_have_arrived {
            return Err(Done::CallerRetries);
        }
        if !is_safe {
            return Err(Done::Unsafe);
        }
        // Before whether the request is there: nobody keeps one for an attempt that is not allowed.
        if self.left == 0 {
            self.flags |= LIMIT_REACHED;
            return Err(Done::LimitReached);
        }
        if !circumstances.is_replayable {
            return Err(Done::NotReplayable);
        }
        if circumstances.is_breaker_open {
            return Err(Done::BreakerOpen);
        }
        if !budget::allows(circumstances.limit, load) {
            self.flags |= BUDGET_EXHAUSTED;
            return Err(Done::BudgetExhausted);
        }
        let nth = u32::from(self.flight.retries()) + 1;
        let wait = said.unwrap_or_else(|| backoff::wait(&policy.backoff, nth, chance));
        if circumstances.deadline.is_some_and(|deadline| now + wait >= deadline) {
            return Err(Done::DeadlineWouldPass);
        }
        self.left -= 1;
        Ok(wait)
    }

    /// The attempt is over. Another is made, or others go on, or what it brought is the outcome.
    fn conclude(&mut self, now: Instant, attempt: AttemptId, verdict: Result<Duration, Done>) -> Verdict {
        match verdict {
            Ok(wait) => {
                self.end_attempt(attempt);
                self.schedule(now, wait);
                Verdict::RetryAfter(wait)
            }
            Err(_) if self.flight.count() > 1 || self.flags & PENDING != 0 => self.leave(attempt),
            Err(done) => {
                self.settle();
                Verdict::Done(done)
            }
        }
    }

    /// Whether there is another attempt already, or soon, that has all of its time before it. One beside which
    /// another was made has had its time, though it may still answer.
    fn has_alternative(&self, attempt: AttemptId) -> bool {
        self.flags & PENDING != 0 || self.flight.has_waiting_beside(attempt)
    }

    fn leave(&mut self, attempt: AttemptId) -> Verdict {
        self.end_attempt(attempt);
        Verdict::Await
    }

    fn end_attempt(&mut self, attempt: AttemptId) {
        self.flight.end(attempt);
        if self.flags & PENDING == 0 && self.flight.newest_waiting().is_none() {
            self.wake = NEVER;
        }
    }

    fn schedule(&mut self, now: Instant, wait: Duration) {
        self.flags |= PENDING | RETRYING;
        self.wake = now + wait;
    }

    /// The attempt that was to be made cannot be, and others go on.
    pub fn withdraw(&mut self) {
        if self.flags & PENDING != 0 {
            self.settle();
        }
    }

    /// Nothing more is waited for here.
    #[inline]
    fn settle(&mut self) {
        self.wake = NEVER;
        self.flags &= !(PENDING | RETRYING);
    }

    /// Time passed. Does nothing before [`Recovery::deadline`].
    pub fn tick(
        &mut self,
        now: Instant,
        policy: &CompiledRetry,
        circumstances: &Circumstances,
        chance: &mut Chance,
    ) -> Option<Step> {
        let (deadline, wait) = self.deadline()?;
        if now < deadline {
            return None;
        }
        match wait {
            Wait::Backoff => Some(Step::Try),
            Wait::PerTry => {
                let Some(attempt) = self.flight.newest_waiting() else {
                    self.wake = NEVER;
                    return None;
                };
                let verdict = self.on_per_try_timeout(now, attempt, policy, circumstances, chance);
                Some(Step::TimedOut { attempt, verdict })
            }
        }
    }

    /// The next moment at which [`Recovery::tick`] would do something, and what is waited for.
    #[inline]
    pub fn deadline(&self) -> Option<(Instant, Wait)> {
        let wait = if self.flags & PENDING != 0 { Wait::Backoff } else { Wait::PerTry };
        (self.wake != NEVER).then_some((self.wake, wait))
    }

    /// Picks again, a few times, where an endpoint comes up that was tried before and the policy
    /// avoids those; takes the last that came up then.
    pub fn choose(
        &self,
        policy: &CompiledRetry,
        mut pick: impl FnMut() -> Option<EndpointId>,
    ) -> Option<EndpointId> {
        let mut picked = pick();
        if policy.avoids_tried {
            for _ in 0..policy.picks_max {
                if picked.is_none_or(|endpoint| self.tried & bit(endpoint) == 0) {
                    break;
                }
                picked = pick();
            }
        }
        picked
    }

    /// The endpoints that a retry leaves out where it can: a bit for each, by the lowest digits of its id.
    pub fn avoided(&self, policy: &CompiledRetry) -> u32 {
        if policy.avoids_tried { self.tried } else { 0 }
    }

    /// The priorities that a retry leaves out, a bit for each. Where no other has endpoints, it
    /// leaves none out; who knows of endpoints sees to that.
    pub fn excluded_priorities(&mut self, policy: &CompiledRetry) -> u8 {
        match policy.avoids_priorities_after {
            Some(after) => self.flight.excluded_priorities(after),
            None => 0,
        }
    }

    /// How long one attempt may take, of a request that may take `total`. As in Envoy, one that does not end
    /// before the request does is none.
    pub fn per_try_timeout(&self, policy: &CompiledRetry, total: Option<Duration>) -> Option<Duration> {
        let asked = self.asked.as_ref().and_then(|asked| asked.per_try_timeout);
        let per_try = asked.unwrap_or(policy.per_try_timeout)?;
        total.is_none_or(|total| per_try < total).then_some(per_try)
    }

    /// One attempt at a time, whatever is said.
    pub fn go_alone(&mut self) {
        self.flags &= !HEDGES;
    }

    /// Whether a timeout of a try brings another attempt beside it.
    pub fn hedges(&self) -> bool {
        self.flags & HEDGES != 0
    }

    /// Whether a retry is counted at the cluster: from the verdict until the next, or the end.
    pub fn is_retrying(&self) -> bool {
        self.flags & RETRYING != 0
    }

    /// Whether a retry was wanted when none was left, or when the cluster bore no more.
    pub fn end(&self) -> RetryEnd {
        if self.flags & LIMIT_REACHED != 0 {
            RetryEnd::LimitReached
        } else if self.flags & BUDGET_EXHAUSTED != 0 {
            RetryEnd::Overflow
        } else {
            RetryEnd::Open
        }
    }

    /// How many attempts were made after the first, without replays.
    pub fn retries(&self) -> u32 {
        u32::from(self.flight.retries())
    }

    /// How many more may be made.
    pub fn retries_left(&self) -> u32 {
        u32::from(self.left)
    }

    /// The conditions of the policy and of the caller together.
    pub fn on(&self) -> RetryOn {
        self.on
    }

    /// Where an attempt is under way.
    #[inline]
    pub fn endpoint(&self, attempt: AttemptId) -> Option<EndpointId> {
        self.flight.endpoint(attempt)
    }

    pub fn is_under_way(&self, attempt: AttemptId) -> bool {
        self.flight.endpoint(attempt).is_some()
    }

    /// The attempts under way, at most [`defaults::ATTEMPTS_AT_ONCE_MAX`].
    pub fn under_way(&self) -> impl Iterator<Item = AttemptId> {
        self.flight.ids()
    }

    /// The same condition as `on_head` asks for, about a request: whether it may be sent twice though it may have
    /// been carried out once.
    pub fn is_repeatable(&self, policy: &CompiledRetry) -> bool {
        self.flags & MAY_REPEAT != 0 || policy.repeats == Repeats::Everything
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.flight.check_invariants()?;
        let is_pending = self.flags & PENDING != 0;
        if is_pending && self.wake == NEVER {
            Err("waits for an attempt that never begins")
        } else if is_pending && self.flags & RETRYING == 0 {
            Err("waits for a retry that is not counted")
        } else if !is_pending && self.wake != NEVER && self.flight.newest_waiting().is_none() {
            Err("waits for an answer, and asks nobody")
        } else if u32::from(self.flight.retries()) + u32::from(self.left) > defaults::RETRIES_MAX {
            Err("more retries than there can be")
        } else {
            Ok(())
        }
    }
}

fn bit(endpoint: EndpointId) -> u32 {
    1 << (endpoint.0 % u32::BITS)
}
