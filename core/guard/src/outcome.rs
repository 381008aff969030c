//! What became of an attempt.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use naru_spec::{CallFailures, Recorded};

use crate::Ticket;

/// An endpoint for as long as it lives: the shell gives it, and it outlives a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey(pub u64);

impl EndpointKey {
    /// An endpoint that is known by its address: that of IPv4 whole, that of IPv6 by a digest with the highest bit
    /// set.
    pub fn of(address: SocketAddr) -> EndpointKey {
        const IPV6: u64 = 1 << 63;
        let port = u64::from(address.port());
        match address.ip() {
            IpAddr::V4(ip) => EndpointKey(u64::from(ip.to_bits()) << 16 | port),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                let folded = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(23) ^ port.rotate_left(41);
                EndpointKey(folded | IPV6)
            }
        }
    }
}

/// One finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    pub endpoint: EndpointKey,
    pub result: AttemptResult,
    /// From the first byte sent to the end that `result` says.
    pub duration: Duration,
    /// What the attempt went through the breaker with; `None` without a breaker.
    pub ticket: Option<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The endpoint answered.
    Answered { status: u16, grpc: Grpc },
    /// No connection could be made in time, or it could not be secured.
    ConnectFailed,
    /// The connection or the stream broke before the answer was there.
    Reset,
    /// It broke after an answer had begun that was reported already.
    Aborted,
    /// The answer was not there in time. `is_connected`: the request had a connection by then.
    TimedOut { is_connected: bool },
    /// Given up for reasons that say nothing about the endpoint: the client went away, another
    /// attempt won.
    Abandoned,
}

/// The gRPC status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grpc {
    None,
    /// In the head: there was nothing but trailers.
    Head(u8),
    /// At the end.
    Trailers(u8),
}

impl AttemptResult {
    pub fn answered(status: u16) -> AttemptResult {
        AttemptResult::Answered { status, grpc: Grpc::None }
    }

    /// What it is to a breaker.
    pub fn recorded(self, failures: &CallFailures) -> Recorded {
        let if_failure = |is_failure| if is_failure { Recorded::Failure } else { Recorded::Success };
        match self {
            AttemptResult::Answered { status, grpc } => {
                let grpc = match grpc {
                    Grpc::None => None,
                    Grpc::Head(code) | Grpc::Trailers(code) => Some(code),
                };
                failures.of_answer(status, grpc)
            }
            AttemptResult::ConnectFailed => if_failure(failures.connect_failures),
            AttemptResult::Reset => if_failure(failures.resets),
            AttemptResult::TimedOut { .. } => if_failure(failures.timeouts),
            // The call was recorded when its answer began.
            AttemptResult::Aborted | AttemptResult::Abandoned => Recorded::Ignored,
        }
    }

    /// The status that an answer counts as. One that is known from the head of an answer of gRPC
    /// stands for that of HTTP (Envoy's router does so before it tells its detector); trailers
    /// come too late for that.
    pub(crate) fn status_of_answer(self) -> Option<u16> {
        match self {
            AttemptResult::Answered { grpc: Grpc::Head(code), .. } => Some(http_status_of_grpc(code)),
            AttemptResult::Answered { status, .. } => Some(status),
            AttemptResult::ConnectFailed
            | AttemptResult::Reset
            | AttemptResult::Aborted
            | AttemptResult::TimedOut { .. }
            | AttemptResult::Abandoned => None,
        }
    }
}

/// Envoy's `Grpc::Utility::grpcToHttpStatus`.
fn http_status_of_grpc(code: u8) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
