//! What became of a request, as whoever called sees it after all attempts: for the limits that it leaves.
//!
//! The breaker of a route records this, where that of a cluster records attempts. An answer is one once its head is
//! there (at its end where gRPC says only then how the call went); what naru answers by itself for want of one is a
//! failure of its kind. What other limits refuse, and what the client gave up, says nothing of the service.

use naru_base::{Instant, Reason, Side};
use naru_guard::{AttemptResult, Grpc, Ticket};

use super::Journey;
use crate::limits::Ending;

impl Journey {
    pub(super) fn ending(&self, now: Instant, ticket: Option<Ticket>) -> Ending {
        Ending {
            sent: self.passing().passed.filter(|_| self.next_attempt > 0),
            status: if self.status == 0 { self.reason.status() } else { self.status },
            grpc_status: self.grpc_status,
            is_cancelled: self.reason.side() == Side::Client,
            result: self.result(),
            duration: now.since(self.clock.began),
            ticket,
        }
    }

    fn result(&self) -> AttemptResult {
        let is_connected = self.attempt.is_some_and(|attempt| attempt.is_connected);
        match self.reason {
            Reason::Forwarded => AttemptResult::Answered {
                status: self.status,
                grpc: self.grpc_status.map_or(Grpc::None, Grpc::Trailers),
            },
            Reason::NoHealthyUpstream | Reason::ConnectFailure | Reason::UpstreamTls => {
                AttemptResult::ConnectFailed
            }
            Reason::ConnectTimeout => AttemptResult::TimedOut { is_connected: false },
            Reason::UpstreamClosed
            | Reason::UpstreamReset
            | Reason::UpstreamRefused
            | Reason::UpstreamProtocol
            | Reason::UpstreamAborted => AttemptResult::Reset,
            Reason::RouteTimeout | Reason::PerTryTimeout | Reason::PerTryIdle | Reason::StreamDuration => {
                AttemptResult::TimedOut { is_connected }
            }
            // Of a request that has come whole, and is not answered: its client is not what is waited for.
            Reason::StreamIdle if self.clock.request_ended.is_some() && self.clock.head.is_none() => {
                AttemptResult::TimedOut { is_connected }
            }
            // In the place of an upstream: one in the client's place is asked before any limit.
            Reason::FaultInjected => self.injected().map_or(AttemptResult::Abandoned, |injected| {
                let grpc = injected.grpc_status.map_or(Grpc::None, Grpc::Head);
                AttemptResult::Answered { status: injected.status, grpc }
            }),
            _ => AttemptResult::Abandoned,
        }
    }
}
