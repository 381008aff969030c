//! A request that asks for another protocol, or by CONNECT for a tunnel: whether it may, and what holds once its upstream has granted it.
//!
//! Until then it is a request like others, with its retries and its timeouts. From the 101 (or 2xx) on nobody waits for a
//! response: there is no more timeout of the route, as in Envoy (`disableRouteTimeoutForWebsocketUpgrade`), and no other
//! attempt; only the timeout of what does not move, and what its cluster allows a stream, still hold. What ends first on
//! either side is told as the end of a response: [`Journey::on_response_body`].

use naru_base::{AttemptId, Instant, Reason};
use naru_guard::AttemptResult;
use naru_recover::Sent;
use naru_route::{CompiledAction, Subject};
use naru_spec::Terminate;

use super::{Journey, State};
use crate::{Action, AttemptEvent, Failure, Snapshot, Stage, View, Worker, upgrade};

const SWITCHING_PROTOCOLS: u16 = 101;

impl Journey {
    #[cold]
    pub(super) fn may_upgrade(&self, snapshot: &Snapshot, subject: &Subject<'_>) -> bool {
        let chain = snapshot.chain(self.chain);
        let action = self.rule().map(|(id, _)| &chain.table.rule(id).action);
        let name = upgrade::name(self.request.is_connect, subject.headers);
        name.is_some_and(|name| upgrade::may_be(&chain.http, action, name))
    }

    /// Its upstream speaks the other protocol from here on, or says so unasked, which is no answer.
    #[cold]
    pub(super) fn on_switched(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        id: AttemptId,
        status: u16,
        worker: &mut Worker,
        view: &impl View,
    ) {
        if !self.request.is_upgrade || self.request.is_connect == (status == SWITCHING_PROTOCOLS) {
            let failure = Failure {
                stage: Stage::Exchange,
                reason: Reason::UpstreamProtocol,
                sent: Sent::Maybe,
                is_reused: false,
                is_replayable: false,
            };
            let event = AttemptEvent::Failed(failure);
            return self.on_attempt(now, snapshot, id, event, worker, view);
        }
        self.state = State::Streaming;
        self.status = status;
        self.reason = Reason::Forwarded;
        self.clock.head.get_or_insert(now);
        self.clock.response_timeout = None;
        self.clock.caller_end = None;
        self.conclude(now, |_| AttemptResult::answered(status));
        self.tell_breakers(now, snapshot, view);
        if self.rare.is_some() {
            self.leave_others(now);
        }
        self.actions.push(Action::Forward { attempt: id });
    }

    /// Whether its connections carry another protocol now.
    #[inline]
    pub fn is_upgraded(&self) -> bool {
        self.request.is_upgrade
            && match self.request.is_connect {
                false => self.status == SWITCHING_PROTOCOLS,
                true => self.state != State::Answering && matches!(self.status, 200..=299),
            }
    }

    /// What its rule says of the end of a tunnel.
    #[cold]
    pub fn terminate(&self, snapshot: &Snapshot) -> Option<Terminate> {
        let table = &snapshot.chain(self.chain).table;
        match self.rule().map(|(id, _)| &table.rule(id).action) {
            Some(CompiledAction::Forward(forward)) => forward.terminate,
            Some(CompiledAction::Redirect(_) | CompiledAction::Direct(_)) | None => None,
        }
    }
}
