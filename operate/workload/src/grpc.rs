//! gRPC without a schema: every method gives back what it is sent.
//!
//! A message is a flag, a length of four bytes and its bytes; that is all that has to be known to
//! serve all four shapes (gRPC over HTTP/2, `Length-Prefixed-Message`).
//!
//! | metadata       | what it does                                          |
//! |----------------|-------------------------------------------------------|
//! | `x-repeat: N`  | the first message is given back N times               |
//! | `x-limit: N`   | no more than N messages are given back: 1 where the method's answer is no stream |
//! | `x-status: N`  | the call ends with this status, after its messages    |
//! | `grpc-timeout` | the call ends with DEADLINE_EXCEEDED when it is over  |

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::answer::Service;
use crate::body::{Body, drain};

/// A message that is larger is not given back.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// The codes that are used here (grpc/statuscodes).
mod code {
    pub const OK: u16 = 0;
    pub const CANCELLED: u16 = 1;
    pub const DEADLINE_EXCEEDED: u16 = 4;
    pub const RESOURCE_EXHAUSTED: u16 = 8;
    pub const UNIMPLEMENTED: u16 = 12;
    pub const INTERNAL: u16 = 13;
    pub const UNAVAILABLE: u16 = 14;
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// An error waits so long for the end of a request.
const REQUEST_END_MAX: Duration = Duration::from_millis(100);

pub async fn answer(service: &Service, parts: &Parts, mut body: Incoming) -> Response<Body> {
    let number = |name: &str| parts.headers.get(name)?.to_str().ok()?.parse::<u16>().ok();
    let timeout = parts.headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
    let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    if let Some(method) = parts.uri.path().strip_prefix("/grpc.health.v1.Health/") {
        return health(service, method, body, deadline).await;
    }
    service.count(parts.uri.path());
    let over = async {
        match &mut deadline {
            Some(deadline) => deadline.await,
            None => std::future::pending().await,
        }
    };
    let work = tokio::select! {
        biased;
        work = service.pretend(&parts.headers) => work,
        () = over => return only(code::DEADLINE_EXCEEDED, "the deadline is over"),
    };
    if work.fails || work.has_failed {
        let why = if work.fails { "an error, as asked for" } else { "a call has failed" };
        // A stream that ends before its request is reset behind the answer, which some clients then lose.
        let _ = tokio::time::timeout(REQUEST_END_MAX, drain(&mut body)).await;
        return only(code::UNAVAILABLE, why);
    }
    let echo = Echo {
        incoming: body,
        partial: BytesMut::new(),
        again: None,
        repeat: Some(number("x-repeat").unwrap_or(1)),
        limit: number("x-limit").unwrap_or(u16::MAX),
        has_read_all: false,
        status: number("x-status").unwrap_or(code::OK),
    };
    let mut response = reply(Source::Echo(echo), deadline);
    // Messages may be compressed, and go back as they came.
    if let Some(encoding) = parts.headers.get("grpc-encoding") {
        response.headers_mut().insert("grpc-encoding", encoding.clone());
    }
    response
}

/// The service `grpc.health.v1.Health`, whatever service is asked for.
async fn health(
    service: &Service,
    method: &str,
    mut body: Incoming,
    deadline: Option<Pin<Box<Sleep>>>,
) -> Response<Body> {
    let is_watch = match method {
        "Check" => false,
        "Watch" => true,
        _ => return only(code::UNIMPLEMENTED, "Check and Watch are there"),
    };
    if drain(&mut body).await.is_err() {
        return only(code::CANCELLED, "the request broke off");
    }
    let ready_in = service.ready_in();
    let health = Health {
        is_ready: ready_in.is_none(),
        is_said: false,
        changes: ready_in.filter(|_| is_watch).map(|time| Box::pin(tokio::time::sleep(time))),
        draining: is_watch.then(|| Box::pin(service.draining()) as Pin<Box<dyn Future<Output = ()>>>),
    };
    reply(Source::Health(health), deadline)
}

/// An answer that is all status.
fn only(status: u16, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

fn reply(source: Source, deadline: Option<Pin<Box<Sleep>>>) -> Response<Body> {
    let reply = Reply { source, deadline, has_ended: false };
    let mut response = Response::new(Body::Grpc(Box::new(reply)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Messages, and then a status.
pub struct Reply {
    source: Source,
    deadline: Option<Pin<Box<Sleep>>>,
    has_ended: bool,
}

/// Where messages come from.
enum Source {
    Echo(Echo),
    Health(Health),
}

enum Step {
    Message(Bytes),
    End(u16),
}

impl Reply {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let is_late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        let step = match &mut self.source {
            _ if is_late => Step::End(code::DEADLINE_EXCEEDED),
            Source::Echo(echo) => ready!(echo.poll_step(cx)),
            Source::Health(health) => ready!(health.poll_step(cx)),
        };
        Poll::Ready(Some(match step {
            Step::Message(message) => Frame::data(message),
            Step::End(status) => {
                self.has_ended = true;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(status));
                Frame::trailers(trailers)
            }
        }))
    }
}

/// Gives each message back before it reads the next.
struct Echo {
    incoming: Incoming,
    /// What of the next message has come in.
    partial: BytesMut,
    /// A message that is given back so many times more.
    again: Option<(Bytes, u16)>,
    /// How often the first message is given back, until it has come.
    repeat: Option<u16>,
    /// How many messages more may be given back; [`u16::MAX`] is no limit.
    limit: u16,
    has_read_all: bool,
    status: u16,
}

impl Echo {
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some((message, times)) = &mut self.again
                && *times > 0
                && self.limit > 0
            {
                *times -= 1;
                self.limit -= u16::from(self.limit < u16::MAX);
                return Poll::Ready(Step::Message(message.clone()));
            }
            self.again = None;
            match self.take_message() {
                Ok(Some(message)) => self.again = Some((message, self.repeat.take().unwrap_or(1))),
                Ok(None) if self.has_read_all => {
                    let is_whole = self.partial.is_empty();
                    return Poll::Ready(Step::End(if is_whole { self.status } else { code::INTERNAL }));
                }
                Ok(None) => match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            self.partial.extend_from_slice(data);
                        }
                    }
                    Some(Err(_)) => return Poll::Ready(Step::End(code::CANCELLED)),
                    None => self.has_read_all = true,
                },
                Err(TooLarge) => return Poll::Ready(Step::End(code::RESOURCE_EXHAUSTED)),
            }
        }
    }

    /// The next message, where all of it has come in.
    fn take_message(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let Some(prefix) = self.partial.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [_, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(TooLarge);
        }
        let is_whole = self.partial.len() >= PREFIX_BYTES + length;
        Ok(is_whole.then(|| self.partial.split_to(PREFIX_BYTES + length).freeze()))
    }
}

struct TooLarge;

/// SERVING, or NOT_SERVING. A watch also tells the change, and goes on until one side ends.
struct Health {
    is_ready: bool,
    is_said: bool,
    changes: Option<Pin<Box<Sleep>>>,
    /// Of a watch.
    draining: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Health {
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(changes) = &mut self.changes
            && changes.as_mut().poll(cx).is_ready()
        {
            self.changes = None;
            (self.is_ready, self.is_said) = (true, false);
        }
        if !self.is_said {
            self.is_said = true;
            // `status` is field 1 of HealthCheckResponse; SERVING is 1 and NOT_SERVING 2.
            let message: &[u8] = if self.is_ready { &[0, 0, 0, 0, 2, 8, 1] } else { &[0, 0, 0, 0, 2, 8, 2] };
            return Poll::Ready(Step::Message(Bytes::from_static(message)));
        }
        match &mut self.draining {
            None => Poll::Ready(Step::End(code::OK)),
            Some(draining) => draining.as_mut().poll(cx).map(|()| Step::End(code::UNAVAILABLE)),
        }
    }
}

/// gRPC's `Timeout`: digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.checked_mul(3_600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_a_unit() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(timeout(text), expected, "{text}");
        check("1H", Some(Duration::from_secs(3_600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("250m", Some(Duration::from_millis(250)));
        check("250u", Some(Duration::from_micros(250)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "m", "5", "5s", "-5m", "5é", "18446744073709551615H"] {
            check(wrong, None);
        }
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let check = |kind: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc; charset=x", true);
        check("application/grpc-web", false);
        check("application/json", false);
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
