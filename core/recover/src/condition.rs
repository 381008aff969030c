//! Which answers and failures a policy repeats.
//!
//! Source: Envoy's `RetryStateImpl::wouldRetryFromHeaders` and `wouldRetryFromReset`.

use http::{HeaderMap, HeaderName};
use naru_spec::RetryOn;

use crate::CompiledRetry;
use crate::asked::Asked;

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// What the head of a response says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub status: u16,
    /// Where the head is the whole answer of a gRPC call.
    pub grpc_status: Option<u8>,
    pub headers: &'a HeaderMap,
}

/// How an attempt ended that brought no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be made: refused, unreachable, too slow, or TLS failed.
    Connect,
    /// The connection or the stream broke, or what came was no HTTP.
    Reset,
    /// The stream was refused before anything was done about it (RFC 9113, section 8.7).
    RefusedStream,
    /// A limit of the proxy's own: it is never retried, or there would be more of the same.
    Overflow,
    PerTryTimeout,
}

#[inline]
pub(crate) fn holds_for_head(
    on: RetryOn,
    policy: &CompiledRetry,
    asked: Option<&Asked>,
    head: &Head<'_>,
) -> bool {
    const BEYOND_STATUS: RetryOn = RetryOn::ENVOY_RATELIMITED.and(RetryOn::RETRIABLE_HEADERS);
    let holds = holds_for_status(on, policy, asked, head.status) || holds_for_grpc(on, head.grpc_status);
    // Nearly every answer ends here: without a look at its headers.
    if !holds && !on.intersects(BEYOND_STATUS) {
        return false;
    }
    if head.headers.contains_key(RATE_LIMITED) {
        return on.contains(RetryOn::ENVOY_RATELIMITED);
    }
    holds || on.contains(RetryOn::RETRIABLE_HEADERS) && has_retriable_header(policy, asked, head.headers)
}

#[inline]
fn holds_for_status(on: RetryOn, policy: &CompiledRetry, asked: Option<&Asked>, status: u16) -> bool {
    let by_class = match status {
        502..=504 => on.intersects(RetryOn::SERVER_ERROR.and(RetryOn::GATEWAY_ERROR)),
        500..=599 => on.contains(RetryOn::SERVER_ERROR),
        409 => on.contains(RetryOn::RETRIABLE_4XX),
        _ => false,
    };
    by_class
        || on.contains(RetryOn::RETRIABLE_STATUS_CODES)
            && (policy.statuses.contains(status)
                || asked.is_some_and(|asked| asked.statuses.contains(&status)))
}

#[inline]
fn holds_for_grpc(on: RetryOn, status: Option<u8>) -> bool {
    match status {
        Some(1) => on.contains(RetryOn::CANCELLED),
        Some(4) => on.contains(RetryOn::DEADLINE_EXCEEDED),
        Some(8) => on.contains(RetryOn::RESOURCE_EXHAUSTED),
        Some(13) => on.contains(RetryOn::INTERNAL),
        Some(14) => on.contains(RetryOn::UNAVAILABLE),
        _ => false,
    }
}

fn has_retriable_header(policy: &CompiledRetry, asked: Option<&Asked>, headers: &HeaderMap) -> bool {
    policy.response_headers.any(headers)
        || asked.is_some_and(|asked| asked.headers.iter().any(|name| headers.contains_key(name)))
}

/// An answer that says that nothing was done: 425 (RFC 8470, section 5.2).
pub(crate) fn has_not_acted(head: &Head<'_>) -> bool {
    head.status == 425
}

/// `has_started` says whether any attempt so far has sent anything.
pub(crate) fn holds_for_failure(on: RetryOn, kind: FailureKind, has_started: bool) -> bool {
    // An end without an answer is as good as a 5xx: it would become one.
    const ANY_RESET: RetryOn = RetryOn::RESET.and(RetryOn::SERVER_ERROR).and(RetryOn::GATEWAY_ERROR);
    let of_kind = match kind {
        FailureKind::Overflow => return false,
        FailureKind::Connect => on.contains(RetryOn::CONNECT_FAILURE),
        FailureKind::RefusedStream => on.contains(RetryOn::REFUSED_STREAM),
        FailureKind::Reset | FailureKind::PerTryTimeout => false,
    };
    of_kind || on.intersects(ANY_RESET) || !has_started && on.contains(RetryOn::RESET_BEFORE_REQUEST)
}
