//! gRPC without a schema: every method gives back what it is sent.
//!
//! A message is a flag, a length of four bytes and its bytes; that is all that has to be known to
//! serve all four shapes (gRPC over HTTP/2, `Length-Prefixed-Message`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::answer::Body;

/// A message that is larger is not echoed.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web")
    })
}

/// An answer that is all status.
pub fn status_only(status: u16, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

/// `grpc.health.v1`: SERVING is 1, NOT_SERVING 2. A watch goes on for as long as its client does.
pub async fn health(body: Incoming, is_ready: bool, is_watch: bool) -> Response<Body> {
    let status = if is_ready { 1 } else { 2 };
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]);
    let mut echo = Echo::ending(body);
    echo.out.push_back(message);
    echo.is_silent = true;
    echo.goes_on = is_watch;
    let mut response = Response::new(Body::echo(echo));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Gives messages back, and then a status.
pub struct Echo {
    incoming: Incoming,
    /// The start of a message.
    partial: BytesMut,
    out: VecDeque<Bytes>,
    /// How often the first message is sent.
    repeat: usize,
    status: u16,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Messages are read and not given back.
    is_silent: bool,
    /// The end of the request is not the end of the answer.
    goes_on: bool,
    has_read_all: bool,
    has_ended: bool,
}

impl Echo {
    /// `x-repeat: N` sends the first message N times, `x-status: N` ends with that status, and
    /// `grpc-timeout` ends the call when it is over.
    pub fn new(incoming: Incoming, headers: &HeaderMap) -> Echo {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u16>().ok();
        let timeout = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
        Echo {
            repeat: usize::from(number("x-repeat").unwrap_or(1)),
            status: number("x-status").unwrap_or(0),
            deadline: timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))),
            ..Echo::ending(incoming)
        }
    }

    fn ending(incoming: Incoming) -> Echo {
        Echo {
            incoming,
            partial: BytesMut::new(),
            out: VecDeque::new(),
            repeat: 1,
            status: 0,
            deadline: None,
            is_silent: false,
            goes_on: false,
            has_read_all: false,
            has_ended: false,
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(self.end(4));
        }
        loop {
            if let Some(message) = self.out.pop_front() {
                return Poll::Ready(Some(Frame::data(message)));
            }
            if self.has_read_all {
                if self.goes_on {
                    return Poll::Pending;
                }
                return Poll::Ready(self.end(self.status));
            }
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.partial.put(data);
                        if !self.take_messages() {
                            return Poll::Ready(self.end(8));
                        }
                    }
                }
                Some(Err(_)) => return Poll::Ready(self.end(1)),
                None => self.has_read_all = true,
            }
        }
    }

    /// Whether all is well with the messages.
    fn take_messages(&mut self) -> bool {
        while self.partial.len() >= 5 {
            let length = self.partial[1..5].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if length > MESSAGE_BYTES_MAX {
                return false;
            }
            if self.partial.len() < 5 + length {
                break;
            }
            let message = self.partial.split_to(5 + length).freeze();
            let times = std::mem::replace(&mut self.repeat, 1);
            if !self.is_silent {
                self.out.extend(std::iter::repeat_n(message, times));
            }
        }
        true
    }

    fn end(&mut self, status: u16) -> Option<Frame<Bytes>> {
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        Some(Frame::trailers(trailers))
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
