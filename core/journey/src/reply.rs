//! The proxy's own answers.

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use naru_base::Reason;
use naru_base::reason::grpc_status_of;
use naru_route::{CompiledAction, CompiledRule, Fill, Subject, Verdict};
use naru_spec::FallbackAnswer;

use crate::gate::Refusal;
use crate::grpc_web::Call;
use crate::limits::Limit;
use crate::outgoing::Stamp;
use crate::{Journey, Snapshot};

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub grpc_status: Option<u8>,
}

impl Reply {
    /// Makes it one to a call of gRPC-Web: its status, and what it says, are those of the call. One that leads elsewhere
    /// is for whoever makes calls.
    pub fn to_web(&mut self, call: Call) {
        if self.status.is_redirection() {
            return call.answer(&mut self.headers);
        }
        let said = std::mem::take(&mut self.body);
        self.grpc_status = Some(call.answer_without(self.status.as_u16(), &said, &mut self.headers));
    }
}

/// Composes the answer that a journey asks for by [`crate::Action::Reply`]. `subject` is the request;
/// it is not needed, and may be gone, where the journey got as far as an attempt.
pub fn compose(
    snapshot: &Snapshot,
    journey: &Journey,
    reason: Reason,
    subject: Option<&Subject<'_>>,
    is_grpc: bool,
    stamp: Stamp<'_>,
    fill: &mut Fill<'_>,
) -> Reply {
    let chain = snapshot.chain(journey.chain());
    let rule = journey.rule().map(|(id, matched)| (chain.table.rule(id), matched));
    let fallback = journey.fallback_answer(snapshot);
    let mut reply = match (reason, rule) {
        _ if let Some(answer) = fallback => instead(answer, is_grpc),
        _ if let Some(refusal) = journey.refusal() => refused(refusal, is_grpc),
        (Reason::DirectResponse, Some((CompiledRule { action: CompiledAction::Direct(direct), .. }, _))) => {
            local(direct.status, Bytes::from(direct.body.clone()), is_grpc)
        }
        (Reason::Redirect, rule) => redirect(journey, rule, subject),
        (Reason::PathRedirected, _) => to_normal_path(subject, is_grpc),
        (Reason::NoCluster, Some((CompiledRule { action: CompiledAction::Forward(forward), .. }, _))) => {
            local(forward.cluster_not_found, Bytes::new(), is_grpc)
        }
        (Reason::FaultInjected, _) => {
            let injected = journey.injected();
            let status = injected.and_then(|injected| StatusCode::from_u16(injected.status).ok());
            let body = Bytes::from(reason.body(false));
            let mut reply = local(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), body, is_grpc);
            if is_grpc && let Some(grpc_status) = injected.and_then(|injected| injected.grpc_status) {
                reply.headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_status)));
                reply.grpc_status = Some(grpc_status);
            }
            reply
        }
        (Reason::ConcurrencyLimit, _) => {
            let named = journey.refused_by().and_then(|id| snapshot.limits.get(id));
            let own = named.and_then(|named| match &named.limit {
                Limit::Adaptive(settings) => StatusCode::from_u16(settings.refused_status).ok(),
                Limit::Breaker(_) | Limit::Admission(_) | Limit::Bulkhead(_) | Limit::Rate(_) => None,
            });
            let status = own.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            local(status, Bytes::from(reason.body(false)), is_grpc)
        }
        (Reason::StreamIdle, _) if !journey.has_whole_request() => {
            local(StatusCode::REQUEST_TIMEOUT, Bytes::from(reason.body(false)), is_grpc)
        }
        _ => {
            let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            local(status, Bytes::from(reason.body(journey.retries() > 0)), is_grpc)
        }
    };
    journey.tell_fallback(snapshot, &mut reply.headers);
    journey.tell_gate(snapshot, subject, &mut reply.headers);
    if let Some(name) = reason.overload_header().filter(|_| fallback.is_none()) {
        reply.headers.insert(name, HeaderValue::from_static("true"));
    }
    if let Some(after) = journey.retry_after().filter(|_| reason.status() == 503 && fallback.is_none()) {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        // Who comes at once comes too early.
        reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some((rule, _)) = rule {
        let edits = &rule.edits(journey.choice()).response;
        if !edits.is_empty() {
            edits.apply(&mut reply.headers, fill);
        }
    }
    journey.tell_caller(&mut reply.headers);
    crate::outgoing::finish_response(&chain.http, &mut reply.headers, stamp);
    reply
}

/// An answer of a check.
fn refused(refusal: &Refusal, is_grpc: bool) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut reply = local(status, refusal.body.clone(), is_grpc);
    if is_grpc && let Some(grpc_status) = refusal.grpc_status {
        reply.headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_status)));
        reply.grpc_status = Some(grpc_status);
    }
    // A client of gRPC is told what came of its call.
    let is_own = |name: &header::HeaderName| {
        is_grpc && (*name == header::CONTENT_TYPE || name.as_str().starts_with("grpc-"))
    };
    let headers = refusal.headers.iter().filter(|(name, _)| !is_own(name));
    // They take the place of what is said else.
    for (name, _) in headers.clone() {
        reply.headers.remove(name);
    }
    for (name, value) in headers {
        reply.headers.append(name, value.clone());
    }
    reply
}

/// An answer of a fallback.
fn instead(answer: &FallbackAnswer, is_grpc: bool) -> Reply {
    let mut reply = local(answer.status, Bytes::from(answer.body.clone()), is_grpc);
    if is_grpc {
        return reply;
    }
    for (name, value) in &answer.headers {
        reply.headers.insert(name, value.clone());
    }
    reply
}

/// A gRPC client reads the status from `grpc-status`, whatever the HTTP status says.
fn local(status: StatusCode, body: Bytes, is_grpc: bool) -> Reply {
    let mut headers = HeaderMap::new();
    if !is_grpc {
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        return Reply { status, headers, body, grpc_status: None };
    }
    let grpc_status = grpc_status_of(status.as_u16());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_status)));
    if !body.is_empty()
        && let Ok(message) = HeaderValue::from_maybe_shared(percent_encoded(&body))
    {
        headers.insert("grpc-message", message);
    }
    Reply { status: StatusCode::OK, headers, body: Bytes::new(), grpc_status: Some(grpc_status) }
}

/// gRPC over HTTP/2, `Percent-Encoded`: everything but printable ASCII, and the percent sign.
pub(crate) fn percent_encoded(message: &[u8]) -> Bytes {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(message.len());
    for &byte in message {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]),
        }
    }
    Bytes::from(out)
}

/// A client of gRPC follows nowhere, and is refused.
fn to_normal_path(subject: Option<&Subject<'_>>, is_grpc: bool) -> Reply {
    if is_grpc {
        return local(StatusCode::BAD_REQUEST, Bytes::new(), true);
    }
    let mut reply = local(StatusCode::TEMPORARY_REDIRECT, Bytes::new(), false);
    let location = subject.map(|subject| match subject.query {
        Some(query) => format!("{}?{query}", subject.path),
        None => subject.path.to_owned(),
    });
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        reply.headers.insert(header::LOCATION, location);
    }
    reply
}

fn redirect(journey: &Journey, rule: Option<(&CompiledRule, u32)>, subject: Option<&Subject<'_>>) -> Reply {
    let (status, location) = match (rule, journey.verdict(), subject) {
        (
            Some((CompiledRule { action: CompiledAction::Redirect(redirect), .. }, matched)),
            _,
            Some(subject),
        ) => (redirect.status, Some(redirect.location(subject, matched))),
        (_, Verdict::RequiresTls { .. }, Some(subject)) => {
            (StatusCode::MOVED_PERMANENTLY, Some(naru_route::https_location(subject)))
        }
        _ => (StatusCode::MOVED_PERMANENTLY, None),
    };
    let mut reply = local(status, Bytes::new(), false);
    // What a client wrote into its path may be no header value; it then gets no place to go to.
    if let Some(value) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        reply.headers.insert(header::LOCATION, value);
    }
    reply
}
