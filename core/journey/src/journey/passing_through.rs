//! Bytes that are none of ours to read: tunnels that a client asked for, and connections of TCP.
//!
//! Both are decided like a request, by the rules of a chain: where they go, whether another endpoint is tried where no
//! connection can be made, how long nothing may move. What differs is that a tunnel has had its answer before anybody
//! knows where it leads, and that a connection of TCP has no status at all.

use naru_base::{EndpointId, Instant, Reason};
use naru_route::{CompiledAction, CompiledForward, Subject};
use naru_spec::OnDemand;
use naru_spec::defaults::ADDRESSES_CLUSTER;

use super::{Journey, State};
use crate::brought::Brought;
use crate::{Action, ChainId, Observer, Snapshot, View, Wait, Worker};

/// Whether it leads to whom no document knows, by a name: all addresses of that are tried.
fn is_to_a_stranger(forward: &CompiledForward, subject: &Subject<'_>) -> bool {
    let settings = OnDemand { authority_port: Some(80), ..OnDemand::default() };
    forward.cluster_name(forward.choose(subject.draw)) == ADDRESSES_CLUSTER
        && matches!(Brought::of(&settings, subject), Brought::Name { .. })
}

impl Journey {
    /// A client asks for a tunnel, and gets one. HTTP that is in it makes requests of its own; for all else see
    /// [`Journey::pass_through`].
    pub fn tunnel(now: Instant, chain: ChainId) -> Journey {
        let mut journey = Journey::unrouted(now, chain, State::Open);
        journey.is_tunnel = true;
        journey.status = 200;
        journey.clock.head = Some(now);
        journey.reason = Reason::TunnelServed;
        journey.actions.push(Action::Open);
        journey
    }

    /// A client has come to a chain of TCP. Of the subject only the client's address and the draw mean anything.
    pub fn tcp(
        now: Instant,
        snapshot: &Snapshot,
        chain: ChainId,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) -> Journey {
        let mut journey = Journey::unrouted(now, chain, State::Open);
        journey.is_tunnel = true;
        journey.is_tcp = true;
        // Of all that the client sends: its end is the end of the connection.
        journey.clock.request_timeout = snapshot.chain(chain).http.request_timeout;
        journey.pass_through(now, snapshot, subject, worker, view, observer);
        journey
    }

    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.is_tcp
    }

    /// When something last moved.
    pub fn last_progress(&self) -> Instant {
        self.clock.progress
    }

    /// An open tunnel, of which a snapshot says nothing but the chain, goes on by that of another one. `false` where
    /// there is more to it.
    pub fn go_on(&mut self, chain: ChainId) -> bool {
        let is_open = self.state == State::Open;
        if is_open {
            self.chain = chain;
        }
        is_open
    }

    /// What is in a tunnel is not HTTP: it goes to the endpoint that the rules choose for `subject`, or, where no rule
    /// forwards it, to where the tunnel says. A rule that answers by itself holds here too: nothing goes past it.
    #[cold]
    pub fn pass_through(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        if self.state != State::Open {
            return;
        }
        let chain = snapshot.chain(self.chain);
        self.state = State::Trying;
        self.clock.progress = now;
        self.clock.idle_timeout = chain.http.stream_idle_timeout;
        self.draw = subject.draw;
        self.verdict = chain.table.find(subject, observer);
        observer.routed(self.verdict);
        match self.rule().map(|(id, _)| &chain.table.rule(id).action) {
            Some(CompiledAction::Forward(forward)) if !self.is_tcp && is_to_a_stranger(forward, subject) => {
                let attempt = self.next_attempt(EndpointId(0));
                self.actions.push(Action::Reach { attempt });
            }
            Some(CompiledAction::Forward(forward)) => {
                let of_route = self.of_route(snapshot);
                self.forward(now, snapshot, forward, of_route, subject, worker, view, observer);
                // They are for a response, and a tunnel has none.
                self.clock.response_timeout = None;
                self.clock.caller_end = None;
                if self.is_tcp {
                    return;
                }
                let of_cluster = self.cluster.and_then(|id| snapshot.cluster(id).limits.tcp_idle_timeout);
                self.clock.idle_timeout = match (self.clock.idle_timeout, of_cluster) {
                    (Some(timeout), Some(of_cluster)) => Some(timeout.min(of_cluster)),
                    (timeout, of_cluster) => timeout.or(of_cluster),
                };
            }
            Some(CompiledAction::Direct(_)) => self.answer(Reason::DirectResponse),
            // It names no place that it could be led to.
            _ if self.is_tcp => self.answer(Reason::NoRoute),
            Some(CompiledAction::Redirect(_)) | None => {
                let attempt = self.next_attempt(EndpointId(0));
                self.actions.push(Action::Reach { attempt });
            }
        }
    }

    /// The proxy ends, and a tunnel, or what a connection was upgraded to, was given its time to end by itself.
    pub fn on_drained(&mut self, now: Instant) {
        if self.is_tunnel || self.is_upgraded() {
            self.give_up(now, Reason::Drained);
        }
    }

    /// Why it ends when this wait is over.
    #[cold]
    pub(super) fn reason_of(&self, wait: Wait) -> Reason {
        match wait {
            Wait::Progress if self.is_tcp => Reason::TcpIdle,
            Wait::Request if self.is_tcp => Reason::ConnectionDuration,
            wait => wait.reason(),
        }
    }
}
