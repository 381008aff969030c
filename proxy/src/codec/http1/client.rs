//! The upstream's side: one request out, its response in, the next.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HeaderMap;
use http::request;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use naru_base::Reason;
use naru_http1::{Framing, Limits, ResponseHead, Scan, read_response};
use naru_http1::{write_last_chunk, write_request_head};
use naru_journey::Sent;
use naru_spec::defaults::{UPSTREAM_HEADER_BYTES_MAX, UPSTREAM_HEADER_COUNT_MAX};

use super::Share;
use super::link::{Link, NoHead, give_map, take_map};
use super::output::Output;
use crate::codec::{BodyBroken, InBody, Interim, SendFailure};
use crate::conduit::Conduit;
use crate::upload::UploadBody;

const LIMITS: Limits =
    Limits { head_bytes: UPSTREAM_HEADER_BYTES_MAX as usize, fields: UPSTREAM_HEADER_COUNT_MAX as usize };

/// So many interim responses may come before the final one (RFC 9110, section 15.2, sets no limit).
const INTERIMS_MAX: u32 = 32;

/// A connection that carries one request at a time.
#[derive(Debug)]
pub struct Http1Client {
    link: Rc<Link>,
    /// The body of the request, as long as there is more of it.
    sending: Option<Sending>,
    /// It will carry another request once this one is over.
    persists: bool,
    /// It has carried a request.
    is_used: bool,
    /// Nothing can be written any more.
    is_broken: bool,
}

#[derive(Debug)]
struct Sending {
    body: UploadBody,
    /// How much is to come, where it is not in chunks.
    left: Option<u64>,
}

/// How much of a body was said.
enum Said {
    More,
    All,
}

impl Sending {
    /// What the body has come to next.
    ///
    /// # Errors
    /// It broke off, or is not as long as it said.
    fn say(
        &mut self,
        link: &Link,
        frame: Option<Result<Frame<Bytes>, BodyBroken>>,
    ) -> Result<Said, BodyBroken> {
        let Some(frame) = frame else { return self.say_end(link, None) };
        match frame?.into_data() {
            Err(frame) => self.say_end(link, frame.into_trailers().ok().as_ref()),
            Ok(data) => {
                match &mut self.left {
                    Some(left) => {
                        *left = left.checked_sub(data.len() as u64).ok_or(BodyBroken)?;
                        link.say_data(data);
                    }
                    None => link.say_chunk(data),
                }
                if self.body.is_end_stream() { self.say_end(link, None) } else { Ok(Said::More) }
            }
        }
    }

    fn say_end(&self, link: &Link, trailers: Option<&HeaderMap>) -> Result<Said, BodyBroken> {
        match self.left {
            Some(1..) => return Err(BodyBroken),
            Some(0) => {}
            None => link.say(|out| write_last_chunk(out, trailers)),
        }
        Ok(Said::All)
    }
}

/// Why no more of a request is sent.
enum Unsent {
    /// The body broke off, and only a client can have done that.
    Body,
    Connection,
}

impl Http1Client {
    pub fn start(conduit: Conduit) -> Http1Client {
        Http1Client {
            link: Link::new(conduit),
            sending: None,
            persists: true,
            is_used: false,
            is_broken: false,
        }
    }

    /// Whether it could carry another request when it was looked at last.
    #[inline]
    pub fn can_send(&self) -> bool {
        self.persists
            && !self.is_broken
            && self.sending.is_none()
            && self.link.is_open()
            && self.link.is_body_done()
            && !self.link.has_input()
            && !self.link.has_output()
    }

    /// Looks whether it can carry another request: the other end has not gone, and has said nothing unasked.
    #[inline]
    pub fn check(&self) -> bool {
        self.can_send() && self.link.is_quiet()
    }

    /// What is left of the connection once it speaks another protocol.
    pub fn take_conduit(&self) -> Option<Conduit> {
        self.link.take_conduit()
    }

    /// Sends what there is of the request's body.
    #[inline]
    pub fn poll_send(&mut self, cx: &mut Context<'_>) {
        if self.sending.is_some() || self.link.has_output() {
            // How it ended is seen by the response, which an upstream may give before it has all.
            let _ = self.poll_unsent(cx);
        }
    }

    /// Sends a request and waits for the head of its response. What comes before it goes to `interim`. `watch` is asked at every turn; once it is ready, the
    /// wait is over and `Err(None)` is returned.
    #[inline]
    pub async fn send(
        &mut self,
        request: Request<UploadBody>,
        interim: Option<Interim>,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<Response<InBody>, Option<SendFailure>> {
        // One that waited may be closed by now, or have said what nobody asked.
        if std::mem::replace(&mut self.is_used, true) && !self.link.is_quiet() {
            let failed = failure(Reason::UpstreamClosed, Sent::No);
            return Err(Some(SendFailure { request: Some(Box::new(request)), ..failed }));
        }
        let (parts, body) = request.into_parts();
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let target = match parts.uri.path_and_query() {
            Some(target) => target.as_str(),
            // Of a CONNECT (RFC 9112, section 3.2.3).
            None => parts.uri.authority().map_or("/", |target| target.as_str()),
        };
        self.link.begin_message();
        self.link.say(|out| write_request_head(out, &parts.method, target, &parts.headers, framing));
        self.sending = match framing {
            Framing::Empty | Framing::UntilClose => None,
            Framing::Length(length) => Some(Sending { body, left: Some(length) }),
            Framing::Chunked => Some(Sending { body, left: None }),
        };
        // Whatever breaks it off leaves it in the midst of something.
        self.persists = false;
        let method = parts.method.clone();
        let mut exchange = Exchange { unwritten: Some(parts), scan: Scan::default(), interim, interims: 0 };
        poll_fn(|cx| match self.poll_answer(cx, &method, &mut exchange) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Some)),
            Poll::Pending => watch(cx).map(|()| Err(None)),
        })
        .await
    }

    #[inline]
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: &http::Method,
        exchange: &mut Exchange,
    ) -> Poll<Result<Response<InBody>, SendFailure>> {
        match self.poll_unsent(cx) {
            Poll::Ready(Err(Unsent::Body)) => {
                return Poll::Ready(Err(failure(Reason::ClientAborted, Sent::Maybe)));
            }
            // The connection was over before: nobody has seen any of it.
            Poll::Ready(Err(Unsent::Connection)) if !self.link.has_written() => {
                return Poll::Ready(Err(exchange.unsent()));
            }
            Poll::Ready(_) | Poll::Pending => {}
        }
        if let Some(parts) = exchange.unwritten.take_if(|_| self.link.has_written()) {
            give_map(parts.headers);
        }
        loop {
            let read = |head: &[u8], _: &mut Output| read_response(head, LIMITS, method, take_map());
            let head = match ready!(self.link.poll_head(cx, &mut exchange.scan, LIMITS.head_bytes, read)) {
                Ok(head) => head,
                Err(NoHead::Malformed(_)) => {
                    return Poll::Ready(Err(failure(Reason::UpstreamProtocol, Sent::Maybe)));
                }
                Err(_) => return Poll::Ready(Err(failure(Reason::UpstreamClosed, Sent::Maybe))),
            };
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(self.response(head)));
            }
            exchange.scan = Scan::default();
            exchange.interims += 1;
            if exchange.interims > INTERIMS_MAX {
                return Poll::Ready(Err(failure(Reason::UpstreamProtocol, Sent::Maybe)));
            }
            // Leave to send a body is given by naru itself, when it reads it.
            if let Some(interim) = exchange.interim.as_ref().filter(|_| head.status != StatusCode::CONTINUE) {
                interim.pass_on(head.status, head.fields);
            }
        }
    }

    fn response(&mut self, head: ResponseHead) -> Response<InBody> {
        // After it there is no HTTP any more.
        self.persists = head.persists && head.status != StatusCode::SWITCHING_PROTOCOLS;
        let body = match head.framing {
            Framing::Empty => InBody::Empty,
            framing => InBody::Http1(self.link.begin_body(framing, false)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = head.fields;
        response
    }

    /// Ready once the request is written.
    #[inline]
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let mut share = Share::default();
        while let Some(sending) = &mut self.sending {
            if !self.link.has_room() {
                ready!(self.poll_written(cx))?;
                ready!(share.poll_left(cx));
                continue;
            }
            let Poll::Ready(frame) = Pin::new(&mut sending.body).poll_frame(cx) else {
                // What there is goes out; more is asked for when it comes.
                let _ = self.poll_written(cx)?;
                return Poll::Pending;
            };
            share.take(frame.as_ref());
            match sending.say(&self.link, frame) {
                Ok(Said::More) => {}
                Ok(Said::All) => self.sending = None,
                Err(BodyBroken) => {
                    self.sending = None;
                    return Poll::Ready(Err(Unsent::Body));
                }
            }
        }
        self.poll_written(cx)
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let written = ready!(self.link.poll_flush(cx));
        if written.is_err() {
            // What it has to say may still be read.
            self.sending = None;
            self.is_broken = true;
        }
        Poll::Ready(written.map_err(|_| Unsent::Connection))
    }
}

/// A request whose response has not begun.
struct Exchange {
    /// As long as nothing of it is written.
    unwritten: Option<request::Parts>,
    scan: Scan,
    interim: Option<Interim>,
    /// So many have come.
    interims: u32,
}

impl Exchange {
    #[cold]
    fn unsent(&mut self) -> SendFailure {
        let request = self.unwritten.take().map(|parts| Request::from_parts(parts, UploadBody::Empty));
        SendFailure { request: request.map(Box::new), ..failure(Reason::UpstreamClosed, Sent::No) }
    }
}

fn failure(reason: Reason, sent: Sent) -> SendFailure {
    SendFailure { reason, sent, request: None }
}
