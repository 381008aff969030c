//! What is tried instead, where a request is not answered, or badly, and no other attempt is made.
//!
//! `naru_guard::next` says which step of the chain is next. One that leads to another cluster begins as a request of its
//! own would: at the limits of that cluster, but without waiting at any, and without those of the route, which the
//! request has left; at an endpoint, at the breaker. It is tried once, but for a connection that turns out closed, and
//! must end with the route's timeout. Where that has passed, there is only time for an answer that stands in the
//! configuration.
//!
//! A request that may have acted goes to nobody else, unless sending it twice does no harm: the rule of retries.

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::{ClusterId, EndpointId, Instant, Reason};
use naru_guard::Failed;
use naru_recover::{Done, Recovery};
use naru_spec::FallbackAnswer;

use super::{Journey, State, Watch};
use crate::fallbacks::FallbackId;
use crate::worker::Chosen;
use crate::{Admission, Cause, Snapshot, View, Worker};

/// A list of RFC 9651: one member for each proxy that something else was tried by.
const X_NARU_FALLBACK: HeaderName = HeaderName::from_static("x-naru-fallback");

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Falling {
    chain: Option<FallbackId>,
    /// The step that is under way, or has answered.
    at: Option<u8>,
    /// What happened first.
    first: Option<What>,
    /// A step behind this one asks somebody.
    has_cluster: bool,
    /// The step that answers when there is no more time, and whether it is for a request that has come to no other.
    sure: Option<u8>,
    is_sure_first: bool,
    /// The step that gives what is kept.
    stale: Option<u8>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Reason(Reason),
    Status(u16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// The step asks somebody, or there is none.
    #[default]
    Open,
    /// The step stands in the configuration.
    Answered,
    /// The step is what is kept.
    Cached,
    /// No step is left.
    Exhausted,
}

impl Falling {
    /// Whether the request may be sent once more.
    #[inline]
    pub fn may_send(&self) -> bool {
        self.has_cluster
    }

    pub fn has_begun(&self) -> bool {
        self.at.is_some()
    }
}

impl Journey {
    /// What there is to fall back on, for a request that is forwarded.
    #[cold]
    pub(super) fn find_fallback(&mut self, snapshot: &Snapshot) {
        let Some(((rule, _), cluster)) = self.rule().zip(self.cluster).filter(|_| !self.is_tunnel) else {
            return;
        };
        let chain = snapshot.fallbacks.of(self.chain, rule, cluster);
        let Some(fallback) = chain.and_then(|id| snapshot.fallbacks.get(id)) else { return };
        *self.falling_mut() = Falling {
            chain,
            has_cluster: fallback.has_cluster_after(None),
            sure: fallback.sure_step().map(|step| step as u8),
            is_sure_first: fallback.chain.on.is_failed,
            stale: fallback.stale_step().map(|step| step as u8),
            ..Falling::default()
        };
    }

    /// There is no answer: tries the next step, or answers. `may_send` says whether the request is there, and may go to
    /// somebody else.
    pub(super) fn answer_failed(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        reason: Reason,
        may_send: bool,
        worker: &mut Worker,
        view: &impl View,
    ) {
        if self.policed.is_some()
            && failed_by(reason).is_some()
            && let Some(cached) = self.stale_reason(now)
        {
            return self.answer(cached);
        }
        if self.falling().chain.is_some() {
            self.reason = reason;
            let of_breaker = (self.done == Some(Done::BreakerOpen)).then_some(Failed::CutOff);
            for failed in failed_by(reason).into_iter().chain(of_breaker) {
                if self.fall_back(now, snapshot, What::Reason(reason), failed, may_send, worker, view) {
                    return;
                }
            }
        }
        self.answer(reason);
    }

    /// As [`Journey::answer_failed`], where all time has passed.
    pub(super) fn answer_late(&mut self, reason: Reason) {
        let Falling { at, sure, is_sure_first, stale, .. } = self.falling();
        let is_failure = failed_by(reason) == Some(Failed::NoAnswer) && self.clock.request_ended.is_some();
        if is_failure && let Some(cached) = self.stale_reason(self.clock.progress) {
            return self.answer(cached);
        }
        if let Some(stale) = stale.filter(|stale| sure.is_none_or(|sure| *stale < sure))
            && is_failure
            && (is_sure_first || at.is_some())
            && self.has_stale()
        {
            self.falling_mut().first.get_or_insert(What::Reason(reason));
            self.falling_mut().at = Some(stale);
            self.falling_mut().end = End::Cached;
            return self.answer(Reason::CacheStale);
        }
        if let Some(sure) = sure.filter(|_| is_failure && (is_sure_first || at.is_some())) {
            self.falling_mut().first.get_or_insert(What::Reason(reason));
            self.falling_mut().at = Some(sure);
            self.falling_mut().end = End::Answered;
        }
        self.answer(reason);
    }

    /// Whether the next step takes the place of this answer.
    #[inline]
    pub(super) fn is_replaced(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        status: u16,
        is_replayable: bool,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        self.falling().chain.is_some() && self.replace(now, snapshot, status, is_replayable, worker, view)
    }

    #[cold]
    fn replace(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        status: u16,
        is_replayable: bool,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        let failed = Failed::Answered { status };
        let may_send = is_replayable && self.is_repeatable(snapshot);
        let fallback = self.falling().chain.and_then(|id| snapshot.fallbacks.get(id));
        let at = self.falling().at.map(usize::from);
        if fallback.is_none_or(|known| naru_guard::next(&known.chain, at, failed, may_send).is_none()) {
            return false;
        }
        self.conclude_answered(now, status);
        // What the limits that are left now are told of it.
        (self.status, self.reason) = (status, Reason::Forwarded);
        let is_replaced = self.fall_back(now, snapshot, What::Status(status), failed, may_send, worker, view);
        self.status = 0;
        is_replaced
    }

    /// `false` where no step is left. The attempt before is given up once one is there.
    #[expect(clippy::too_many_arguments, reason = "this is all that a step is chosen and begun by")]
    fn fall_back(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        what: What,
        failed: Failed,
        may_send: bool,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        let Some(fallback) = self.falling().chain.and_then(|id| snapshot.fallbacks.get(id)) else {
            return false;
        };
        let (mut at, mut failed) = (self.falling().at.map(usize::from), failed);
        while let Some((step, _)) = naru_guard::next(&fallback.chain, at, failed, may_send) {
            self.falling_mut().first.get_or_insert(what);
            self.falling_mut().at = Some(step as u8);
            self.falling_mut().has_cluster = fallback.has_cluster_after(Some(step));
            at = Some(step);
            if fallback.answer(step).is_some() {
                self.falling_mut().end = End::Answered;
                self.give_all_up(now);
                self.answer(match what {
                    What::Reason(reason) => reason,
                    What::Status(_) => Reason::AnswerReplaced,
                });
                return true;
            }
            failed = match fallback.cluster(step) {
                Some(cluster) => match self.send_instead(now, snapshot, cluster, worker, view) {
                    Ok(()) => return true,
                    Err(failed) => failed,
                },
                None if self.has_stale() => {
                    self.falling_mut().end = End::Cached;
                    self.give_all_up(now);
                    self.answer(Reason::CacheStale);
                    return true;
                }
                None => Failed::NotCached,
            };
        }
        if at.is_some() {
            self.falling_mut().end = End::Exhausted;
        }
        false
    }

    /// The request goes to another cluster than its own.
    fn send_instead(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        worker: &mut Worker,
        view: &impl View,
    ) -> Result<(), Failed> {
        self.leave(now, snapshot, view);
        let before = self.cluster.replace(cluster);
        let entered = self.enter_instead(now, snapshot, cluster, worker, view);
        let (endpoint, watch) = entered.inspect_err(|_| {
            self.leave(now, snapshot, view);
            self.cluster = before;
        })?;
        self.give_all_up(now);
        // Nobody is told not to retry what goes on.
        self.done = None;
        self.retry_after = None;
        self.chosen = Chosen::default();
        self.bring_nothing();
        self.clock.per_try_timeout = None;
        // With nothing but replays.
        let facts = self.request.repeats;
        self.recovery = Some(Recovery::begin(snapshot.no_retry(), facts, &HeaderMap::new(), false));
        self.watch = watch;
        self.state = State::Trying;
        self.send(now, cluster, endpoint, Cause::Fallback, worker);
        Ok(())
    }

    fn give_all_up(&mut self, now: Instant) {
        if self.rare.is_some() {
            self.leave_others(now);
        }
        self.give_attempt_up();
    }

    fn enter_instead(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        worker: &mut Worker,
        view: &impl View,
    ) -> Result<(EndpointId, Option<Watch>), Failed> {
        self.pass_at_once(now, snapshot, worker, view)?;
        let endpoint = worker.pick(now, snapshot, cluster, &Chosen::default(), view);
        let endpoint = endpoint.ok_or(Failed::NoEndpoint)?;
        match worker.enter(now, cluster, view) {
            Admission::Unguarded => Ok((endpoint, None)),
            Admission::Admitted(ticket) => Ok((endpoint, Some(Watch { began: now, ticket, is_told: false }))),
            Admission::Refused { retry_after, .. } => {
                self.retry_after = retry_after;
                Err(Failed::CutOff)
            }
        }
    }

    /// Whether the request may be sent to somebody else though it may have acted.
    pub(super) fn is_repeatable(&self, snapshot: &Snapshot) -> bool {
        let chain = snapshot.chain(self.chain);
        let policy = self.rule().map(|(rule, _)| &chain.recovery(rule).retry);
        self.recovery.as_ref().zip(policy).is_some_and(|(recovery, policy)| recovery.is_repeatable(policy))
    }

    /// How many more clusters may be asked in place of its own.
    pub fn fallbacks_left(&self, snapshot: &Snapshot) -> usize {
        let fallback = self.falling().chain.and_then(|id| snapshot.fallbacks.get(id));
        fallback.map_or(0, |known| known.clusters_after(self.falling().at.map(usize::from)))
    }

    /// The answer of the configuration that stands in the place of all others.
    pub fn fallback_answer<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a FallbackAnswer> {
        let step = self.falling().at.filter(|_| self.falling().end == End::Answered)?;
        snapshot.fallbacks.get(self.falling().chain?)?.answer(usize::from(step))
    }

    /// The cluster that was asked in place of the one that the rule leads to.
    pub fn instead<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a str> {
        let step = self.falling().at.filter(|_| self.falling().end == End::Open)?;
        let cluster = snapshot.fallbacks.get(self.falling().chain?)?.cluster(usize::from(step))?;
        Some(&snapshot.cluster(cluster).name)
    }

    /// Says in the headers of a response what happened first, and who answers.
    #[inline]
    pub(crate) fn tell_fallback(&self, snapshot: &Snapshot, headers: &mut HeaderMap) {
        if let Some((what, at)) = self.falling().first.zip(self.falling().at) {
            self.write_fallback(snapshot, what, at, headers);
        }
    }

    #[cold]
    fn write_fallback(&self, snapshot: &Snapshot, what: What, at: u8, headers: &mut HeaderMap) {
        let mut said = match what {
            What::Reason(reason) => token(reason.name()),
            What::Status(status) => format!("status; code={status}"),
        };
        match self.falling().end {
            End::Exhausted => said.push_str("; exhausted"),
            End::Answered => said.push_str(&format!("; step={}; to=response", at + 1)),
            End::Cached => said.push_str(&format!("; step={}; to=cache", at + 1)),
            End::Open => {
                said.push_str(&format!("; step={}", at + 1));
                let name = self.instead(snapshot).unwrap_or_default();
                // A string holds nothing else.
                if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
                    said.push_str(&format!("; to=\"{name}\""));
                }
            }
        }
        if let Ok(value) = HeaderValue::try_from(said) {
            headers.append(X_NARU_FALLBACK, value);
        }
    }
}

/// What a failure without an answer is to a chain; `None` where it is not the upstream's, and nobody else would do
/// better.
fn failed_by(reason: Reason) -> Option<Failed> {
    match reason {
        Reason::BreakerOpen => Some(Failed::CutOff),
        Reason::NoHealthyUpstream => Some(Failed::NoEndpoint),
        Reason::ConnectFailure
        | Reason::ConnectTimeout
        | Reason::UpstreamTls
        | Reason::UpstreamClosed
        | Reason::UpstreamReset
        | Reason::UpstreamRefused
        | Reason::UpstreamProtocol
        | Reason::RouteTimeout
        | Reason::PerTryTimeout
        | Reason::PerTryIdle
        | Reason::StreamDuration
        | Reason::StreamIdle => Some(Failed::NoAnswer),
        Reason::Overflow
        | Reason::BulkheadFull
        | Reason::BulkheadTimeout
        | Reason::ConcurrencyLimit
        | Reason::AdmissionDenied
        | Reason::RateLimited => Some(Failed::Limited),
        _ => None,
    }
}

/// `BreakerOpen` becomes `breaker-open`.
fn token(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
