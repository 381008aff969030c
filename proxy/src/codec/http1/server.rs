//! The client's side: requests in, one after the other, responses out in the same order.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{self, HeaderMap};
use http::response;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use naru_admit::Pace;
use naru_base::Reason;
use naru_http1::{Framing, Limits, Malformed, RequestHead, Scan, read_request};
use naru_http1::{write_last_chunk, write_response_head};
use tokio::io::AsyncWrite as _;

use super::Share;
use super::link::{Link, NoHead, give_map, take_map};
use super::output::Output;
use crate::codec::server::{Leave, ServeError, Terms};
use crate::codec::{InBody, Interim, Told};
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::settle::{Broken, OutBody};
use crate::stall::{Stall, Turns};
use crate::timer::Timer;
use crate::worker::Worker;

/// Who answers what comes in.
pub trait Answers {
    fn answer(&self, request: Request<InBody>) -> impl Future<Output = Result<Response<OutBody>, Broken>>;

    /// Answers a whole head of at most so many fields, by a response whose connection goes on: where that needs nobody
    /// else and is said at once. `false`: it was not, and is to be read and answered as any other.
    fn answer_at_once(&self, head: &[u8], fields_max: usize, out: &mut Output) -> bool;

    /// The connection is open. Interim responses to its requests go where is said.
    fn open(&self, interim: Interim);

    /// What a connection of HTTP/2 has settled by itself.
    fn hear(&self, told: Told);

    /// A request that could not be read.
    fn refuse(&self, reason: Reason, text: &'static str) -> Response<OutBody>;
}

/// Serves a connection until it ends, as [`crate::codec::serve`] says.
pub async fn serve(
    conduit: Conduit,
    worker: &Rc<Worker>,
    terms: Terms,
    answers: &impl Answers,
    mut leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<Option<Conduit>, ServeError> {
    let link = Link::new(conduit);
    answers.open(Interim::on_http1(&link));
    let leaving = Cell::new(None);
    let ended = {
        let server = Server { link: &link, worker, terms, answers, leaving: &leaving };
        let mut running = pin!(server.run());
        let mut turns = Turns::of(stall);
        poll_fn(|cx| {
            match leave(cx) {
                Poll::Ready(Leave::AtOnce) => return Poll::Ready(Err(ServeError::Broken)),
                Poll::Ready(how) => leaving.set(Some(how)),
                Poll::Pending => {}
            }
            turns.begin();
            match running.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended),
                Poll::Pending => turns.poll_stalled(cx).map(|()| Err(ServeError::Broken)),
            }
        })
        .await
    };
    // Whoever still has a body of it has the link as well.
    let conduit = link.take_conduit();
    match ended? {
        End::Changed => Ok(conduit),
        End::Closed => Ok(None),
        End::Aborted => {
            if let Some(conduit) = conduit {
                conduit.abort();
            }
            Err(ServeError::Broken)
        }
    }
}

/// How HTTP ends on a connection.
enum End {
    /// In good order.
    Closed,
    /// The client must see that its response is not whole.
    Aborted,
    /// By something else.
    Changed,
}

struct Server<'a, A> {
    link: &'a Rc<Link>,
    worker: &'a Rc<Worker>,
    terms: Terms,
    answers: &'a A,
    /// It takes no more requests, or one more at most.
    leaving: &'a Cell<Option<Leave>>,
}

/// What is known of a request while it is answered.
#[derive(Clone, Copy)]
struct Asked {
    is_http10: bool,
    is_head: bool,
    is_connect: bool,
    takes_trailers: bool,
    persists: bool,
}

impl Asked {
    /// Nothing is known of one that could not be read.
    const UNREADABLE: Asked =
        Asked { is_http10: false, is_head: false, is_connect: false, takes_trailers: false, persists: false };

    fn of(head: &RequestHead) -> Asked {
        Asked {
            is_http10: head.version == Version::HTTP_10,
            is_head: head.method == Method::HEAD,
            is_connect: head.method == Method::CONNECT,
            takes_trailers: head.takes_trailers,
            persists: head.persists,
        }
    }
}

/// What comes of a whole head.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Next {
    Head(RequestHead),
    /// All of its response was said.
    Answered,
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Close,
    Abort,
    Change,
}

impl<A: Answers> Server<'_, A> {
    async fn run(&self) -> Result<End, ServeError> {
        loop {
            let head = match self.read_head().await {
                Ok(Some(Next::Head(head))) => head,
                Ok(Some(Next::Answered)) => match self.send(Outgoing::SAID).await? {
                    Then::Next => {
                        self.look_anew().await;
                        continue;
                    }
                    _ => break,
                },
                Ok(None) => break,
                Err(refusal) => {
                    let (reason, text) = refusal.ok_or(ServeError::Broken)?;
                    let response = self.answers.refuse(reason, text);
                    Box::pin(self.respond(response, Asked::UNREADABLE)).await?;
                    break;
                }
            };
            let asked = Asked::of(&head);
            let request = self.request(head);
            // It is large, and a connection that waits shall not have room for it.
            let mut answer = Box::pin(self.answers.answer(request));
            let response = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(answered.ok()),
                Poll::Pending => self.link.poll_gone(cx).map(|()| None),
            })
            .await;
            drop(answer);
            match self.respond(response.ok_or(ServeError::Broken)?, asked).await? {
                Then::Next => self.look_anew().await,
                Then::Close => break,
                Then::Abort => return Ok(End::Aborted),
                Then::Change => return Ok(End::Changed),
            }
        }
        self.close().await;
        Ok(End::Closed)
    }

    /// Whoever said how to leave while a request was carried is asked again, now that there is none: its response may have
    /// said that the connection goes on.
    #[inline]
    async fn look_anew(&self) {
        if self.leaving.get() == Some(Leave::Gently) {
            self.leaving.set(None);
            tokio::task::yield_now().await;
        }
    }

    /// The next head. `Ok(None)` where there is no next one; the error says what to answer, if anything.
    async fn read_head(&self) -> Result<Option<Next>, Option<(Reason, &'static str)>> {
        let terms = &self.terms;
        let limits = Limits {
            head_bytes: terms.header_bytes_max as usize,
            // A map has one for each, and says itself when there are too many.
            fields: terms.header_count_max as usize,
        };
        let mut scan = Scan::of_request();
        let mut timer: Option<Timer> = None;
        let read = poll_fn(|cx| {
            loop {
                // Who is to leave is told so by an answer.
                let read = |head: &[u8], output: &mut Output| match self.leaving.get() {
                    None if self.answers.answer_at_once(head, limits.fields, output) => Ok(Next::Answered),
                    _ => read_request(head, limits, take_map()).map(Next::Head),
                };
                match self.link.poll_head(cx, &mut scan, limits.head_bytes, read) {
                    Poll::Ready(Ok(Next::Answered)) => match self.link.poll_flush(cx) {
                        // Most are written at once, and the next head is all there is to wait for.
                        Poll::Ready(Ok(())) => (scan, timer) = (Scan::of_request(), None),
                        Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(NoHead::Broken))),
                        Poll::Pending => return Poll::Ready(Some(Ok(Next::Answered))),
                    },
                    Poll::Ready(read) => return Poll::Ready(Some(read)),
                    Poll::Pending if !self.link.has_begun() => {
                        let is_over = self.leaving.get() == Some(Leave::Gently);
                        return if is_over { Poll::Ready(None) } else { Poll::Pending };
                    }
                    Poll::Pending => break,
                }
            }
            let Some(allowed) = terms.request_headers_timeout else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| {
                let mut timer = Timer::new(&self.worker.timers);
                timer.set(self.worker.clock.now() + allowed);
                timer
            });
            ready!(timer.poll(cx));
            Poll::Ready(Some(Err(NoHead::TooSlow)))
        })
        .await;
        match read {
            None | Some(Err(NoHead::Ended { has_begun: false })) => Ok(None),
            Some(Ok(head)) => Ok(Some(head)),
            Some(Err(NoHead::Malformed(malformed))) => Err(Some((reason_of(malformed), malformed.text()))),
            Some(Err(NoHead::TooSlow)) => Err(Some((Reason::HeadTimeout, "request header timeout"))),
            Some(Err(NoHead::Ended { has_begun: true } | NoHead::Broken)) => Err(None),
        }
    }

    #[inline]
    fn request(&self, head: RequestHead) -> Request<InBody> {
        let body = match head.framing {
            Framing::Empty => InBody::Empty,
            framing => InBody::Http1(self.link.begin_body(framing, head.expects_continue)),
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.target;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.fields;
        request
    }

    async fn respond(&self, response: Response<OutBody>, asked: Asked) -> Result<Then, ServeError> {
        let (parts, body) = response.into_parts();
        self.send(self.begin(parts, body, asked)).await
    }

    async fn send(&self, mut outgoing: Outgoing) -> Result<Then, ServeError> {
        let mut slow = None;
        let sent = poll_fn(|cx| match self.poll_send(cx, &mut outgoing) {
            Poll::Pending if self.link.has_output() || slow.is_some() => self.poll_too_slow(cx, &mut slow),
            polled => polled,
        })
        .await;
        let Outgoing { encoding, mut then, .. } = outgoing;
        if sent.is_err() {
            // What ends with the connection must not look as if it had ended.
            return if encoding == Encoding::UntilClose { Ok(Then::Abort) } else { Err(ServeError::Broken) };
        }
        if then == Then::Next
            && (!self.link.is_body_done() && !self.link.discard_body() || !self.link.is_open())
        {
            then = Then::Close;
        }
        Ok(then)
    }

    /// Says the head.
    fn begin(&self, parts: response::Parts, body: OutBody, asked: Asked) -> Outgoing {
        let status = parts.status;
        let is_changed = status == StatusCode::SWITCHING_PROTOCOLS || asked.is_connect && status.is_success();
        let has_none = asked.is_head
            || is_changed
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || status.is_informational();
        // Who waits for leave to send a body may send it or not, once there is an answer.
        let mut persists = asked.persists
            && self.leaving.get().is_none()
            && !self.link.owes_continue()
            && !self.link.is_body_broken()
            && parts.headers.get(header::CONNECTION).is_none_or(|value| value != "close");
        let (framing, encoding) = match body.size_hint().exact() {
            // Without a body, a length says what there would have been; these two have none.
            _ if has_none && (is_changed || status == StatusCode::NO_CONTENT) => {
                (Some(Framing::UntilClose), Encoding::Nothing)
            }
            _ if has_none => (None, Encoding::Nothing),
            Some(0) => (Some(Framing::Empty), Encoding::Length(0)),
            Some(length) => (Some(Framing::Length(length)), Encoding::Length(length)),
            None if asked.is_http10 => {
                persists = false;
                (Some(Framing::UntilClose), Encoding::UntilClose)
            }
            None => {
                let takes_trailers = asked.takes_trailers;
                (Some(Framing::Chunked), Encoding::Chunked { takes_trailers })
            }
        };
        let connection = match persists {
            _ if is_changed => None,
            false => Some("close"),
            true => asked.is_http10.then_some("keep-alive"),
        };
        self.link.say(|out| write_response_head(out, status, &parts.headers, framing, connection));
        give_map(parts.headers);
        let then = match persists {
            _ if is_changed => Then::Change,
            true => Then::Next,
            false => Then::Close,
        };
        Outgoing { body, encoding, is_said: false, then }
    }

    /// Ready once the response is written.
    #[inline]
    fn poll_send(&self, cx: &mut Context<'_>, outgoing: &mut Outgoing) -> Poll<Result<(), Broken>> {
        let mut share = Share::default();
        loop {
            if outgoing.is_said || !self.link.has_room() {
                match self.link.poll_flush(cx) {
                    Poll::Ready(Ok(())) if outgoing.is_said => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) => ready!(share.poll_left(cx)),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken)),
                    Poll::Pending => return self.link.poll_gone(cx).map(|()| Err(Broken)),
                }
            }
            let polled = Pin::new(&mut outgoing.body).poll_frame(cx);
            if let Poll::Ready(frame) = &polled {
                share.take(frame.as_ref());
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => outgoing.say_data(self.link, data)?,
                    Err(frame) => outgoing.say_end(self.link, frame.into_trailers().ok().as_ref())?,
                },
                Poll::Ready(Some(Err(Broken))) => return Poll::Ready(Err(Broken)),
                Poll::Ready(None) => outgoing.say_end(self.link, None)?,
                Poll::Pending => {
                    // What there is goes out; more is asked for when it comes, not when this is gone.
                    return match self.link.poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(Broken)),
                        _ => self.link.poll_gone(cx).map(|()| Err(Broken)),
                    };
                }
            }
        }
    }

    /// Ready once a client has taken too little for too long.
    #[cold]
    fn poll_too_slow(&self, cx: &mut Context<'_>, slow: &mut Option<Slow>) -> Poll<Result<(), Broken>> {
        let Some(limit) = &self.terms.response_pace else { return Poll::Pending };
        let now = self.worker.clock.now();
        let written = self.link.written();
        let slow = slow.get_or_insert_with(|| Slow {
            pace: Pace::default(),
            written,
            timer: Timer::new(&self.worker.timers),
        });
        let moved = written - std::mem::replace(&mut slow.written, written);
        if moved > 0 || !self.link.has_output() {
            slow.pace.on_progress(now, limit, moved);
        }
        if self.link.has_output() {
            slow.pace.on_wait(now);
        }
        while let Some(deadline) = slow.pace.deadline(limit) {
            if now >= deadline {
                return Poll::Ready(Err(Broken));
            }
            slow.timer.set(deadline);
            ready!(slow.timer.poll(cx));
            if self.worker.clock.now() >= deadline {
                return Poll::Ready(Err(Broken));
            }
        }
        Poll::Pending
    }

    /// Ends the connection so that what was said is read.
    async fn close(&self) {
        let Some(conduit) = self.link.take_conduit() else { return };
        let mut lingering = Lingering::new(conduit, self.worker);
        // It ends either way.
        let _ = poll_fn(|cx| Pin::new(&mut lingering).poll_shutdown(cx)).await;
    }
}

fn reason_of(malformed: Malformed) -> Reason {
    match malformed {
        Malformed::TransferCoding => Reason::TransferCoding,
        Malformed::Version => Reason::HttpVersion,
        malformed if malformed.is_too_large() => Reason::HeadTooLarge,
        _ => Reason::ClientProtocol,
    }
}

/// A client that does not take its response at once.
struct Slow {
    pace: Pace,
    /// So much was written when it was looked at last.
    written: u64,
    timer: Timer,
}

/// A response on its way to the client.
struct Outgoing {
    body: OutBody,
    encoding: Encoding,
    /// All of it was said; it may not be written yet.
    is_said: bool,
    then: Then,
}

/// How a body is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// It is not, whatever there is.
    Nothing,
    /// So much is to come.
    Length(u64),
    Chunked {
        takes_trailers: bool,
    },
    UntilClose,
}

impl Outgoing {
    /// All of it was said at once.
    const SAID: Outgoing =
        Outgoing { body: OutBody::Empty, encoding: Encoding::Nothing, is_said: true, then: Then::Next };

    #[inline]
    fn say_data(&mut self, link: &Link, data: bytes::Bytes) -> Result<(), Broken> {
        match &mut self.encoding {
            Encoding::Nothing => {}
            Encoding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken)?;
                link.say_data(data);
                // Nothing follows that a client would have to wait for.
                self.is_said = *left == 0 && self.body.is_end_stream();
            }
            Encoding::UntilClose => link.say_data(data),
            Encoding::Chunked { .. } => {
                link.say_chunk(data);
                if self.body.is_end_stream() {
                    return self.say_end(link, None);
                }
            }
        }
        Ok(())
    }

    fn say_end(&mut self, link: &Link, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        self.is_said = true;
        match self.encoding {
            Encoding::Length(1..) => return Err(Broken),
            Encoding::Chunked { takes_trailers } => {
                link.say(|out| write_last_chunk(out, trailers.filter(|_| takes_trailers)));
            }
            Encoding::Nothing | Encoding::Length(0) | Encoding::UntilClose => {}
        }
        Ok(())
    }
}
