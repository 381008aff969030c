//! What a journey waits for, and until when.

use std::time::Duration;

use naru_base::Instant;
use naru_recover::Recovery;
use naru_recover::deadline::Span;

use super::{Clock, Journey, State, rare};
use crate::Wait;

impl Journey {
    /// The next moment at which [`Journey::tick`] would do something, and what is waited for.
    #[inline]
    pub fn deadline(&self) -> Option<(Instant, Wait)> {
        if self.state == State::Ended {
            return None;
        }
        let clock = &self.clock;
        let mut next: Option<(Instant, Wait)> = None;
        let mut consider = |at: Instant, wait: Wait| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, wait));
            }
        };
        if self.state != State::Answering {
            if let Some(end) = self.span().end() {
                consider(end, Wait::Response);
            }
            if let (None, Some(timeout)) = (clock.request_ended, clock.request_timeout) {
                consider(clock.began + timeout, Wait::Request);
            }
        }
        if matches!(self.state, State::Gated | State::Waiting) {
            if let Some(at) = self.question_end() {
                consider(at, Wait::Question);
            }
            if let Some(at) = self.passing().deadline() {
                consider(at, Wait::Turn);
            }
        }
        if let Some(end) = clock.stream_end.filter(|_| self.state != State::Answering) {
            consider(end, Wait::Stream);
        }
        if let Some(timeout) = clock.idle_timeout {
            consider(clock.progress + timeout, Wait::Progress);
        }
        if self.state == State::Trying
            && let Some((at, wait)) = self.recovery.as_ref().and_then(Recovery::deadline)
        {
            consider(at, if wait == naru_recover::Wait::PerTry { Wait::PerTry } else { Wait::Backoff });
        }
        if let Some(rare) = &self.rare {
            if let Some(until) = rare.held_until() {
                consider(until, Wait::Fault);
            }
            if let Some(end) = self.idle_try_end(rare) {
                consider(end, Wait::PerTryIdle);
            }
        }
        next
    }

    #[inline]
    pub(super) fn span(&self) -> Span {
        let Clock { request_ended, response_timeout, caller_end, .. } = self.clock;
        let began = match (self.state, &self.rare) {
            (State::Held, _) => None,
            (_, None) => request_ended,
            // What a fault has held it for does not count.
            (_, Some(rare)) => request_ended.max(rare.released().filter(|_| request_ended.is_some())),
        };
        Span { began, total: response_timeout, caller_end }
    }

    pub(super) fn idle_try_end(&self, rare: &rare::Rare) -> Option<Instant> {
        let is_connected = self.attempt.is_some_and(|it| it.is_connected && it.is_under_way);
        let is_timed = matches!(self.state, State::Trying | State::Streaming) && is_connected;
        rare.idle_per_try.filter(|_| is_timed).map(|idle| self.clock.progress + idle)
    }

    /// How long an upstream is told that it may take for an attempt that begins now; `None` is without limit.
    #[inline]
    pub fn time_for_upstream(&self, now: Instant) -> Option<Duration> {
        let of_try =
            self.clock.per_try_timeout.filter(|_| !self.recovery.as_ref().is_some_and(Recovery::hedges));
        self.span().for_upstream(now, of_try)
    }
}
