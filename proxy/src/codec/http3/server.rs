//! The client's side of HTTP/3: requests in, responses out.
//!
//! A connection is one task with all of its requests in it, as one of HTTP/2 is. Beside it quinn has a task of its own, which
//! moves packets.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use naru_admit::Pace;
use naru_base::Reason;
use naru_spec::PaceLimit;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};

use super::super::http2::crowd::Crowd;
use super::super::http2::guard::{Abuse, Guard};
use super::super::{Answers, InBody, Interim, Leave, ServeError, Terms, Told};
use super::body::Http3Body;
use super::control;
use super::frame::{self, Code, DATA, Kind};
use super::message::{Limits, Wrong, read_request, write_response, write_trailers};
use super::source::{Broken as Unread, Source};
use super::tunnel::Http3Tunnel;
use crate::conduit::Conduit;
use crate::settle::{Broken, OutBody};
use crate::stall::{Stall, Turns};
use crate::timer::Timer;
use crate::tunnel::{self, Changed};
use crate::worker::Worker;

/// So often a connection goes on before it gives way to others.
const TURNS_MAX: u32 = 8;
/// What is on its way when a client is told to send no more is there after so many round trips, and this at least.
const LAST_ROUND_TRIPS: u32 = 2;
const LAST_REQUESTS_TIME: Duration = Duration::from_millis(100);
/// So much of what stands before a response may wait for its client.
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// All streams that a client can open (RFC 9114, section 5.2).
const ANY_STREAM: u64 = (1 << 62) - 4;

/// What the streams of a connection know of it.
#[derive(Debug)]
pub struct Link {
    quic: quinn::Connection,
    worker: Rc<Worker>,
    terms: Terms,
    pub(super) limits: Limits,
    guard: RefCell<Guard>,
    failure: Cell<Option<Failure>>,
    critical: Cell<[bool; 3]>,
    /// Requests that are not over.
    active: Cell<usize>,
    /// The stream after the last that was taken.
    next: Cell<u64>,
    /// No stream from here on is taken.
    last: Cell<u64>,
    /// What the request that has its turn is to be told before its response.
    early: RefCell<BytesMut>,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Protocol,
    Abuse(Abuse),
}

impl Link {
    /// Closes the connection.
    pub(super) fn fail(&self, code: Code) {
        self.end(code, Failure::Protocol);
    }

    #[cold]
    fn end(&self, code: Code, failure: Failure) {
        if self.failure.get().is_none() {
            self.failure.set(Some(failure));
            self.quic.close(code.number(), b"");
        }
    }

    /// # Errors
    /// It is one too many, and the connection is closed for it.
    pub(super) fn guard(&self, what: Abuse) -> Result<(), ()> {
        let now = self.worker.clock.now();
        let allowed = self.guard.borrow_mut().on(now, what);
        allowed.map_err(|abuse| self.end(Code::EXCESSIVE_LOAD, Failure::Abuse(abuse)))
    }

    /// Something that the request that has its turn is to be told before its response. One that takes nothing is told no more.
    pub(in crate::codec) fn say_early(&self, status: StatusCode, fields: &HeaderMap) {
        let mut early = self.early.borrow_mut();
        if early.len() < EARLY_BYTES_MAX {
            early.extend_from_slice(&write_response(status, fields));
        }
    }

    pub(super) fn on_useful(&self) {
        self.guard.borrow_mut().on_useful();
    }

    /// Whether there was none of its kind yet.
    pub(super) fn begin_critical(&self, at: usize) -> bool {
        let mut critical = self.critical.get();
        let is_first = critical.get_mut(at).is_some_and(|known| !std::mem::replace(known, true));
        self.critical.set(critical);
        is_first
    }
}

/// A stream that the client has opened.
enum Opened {
    Request(SendStream, RecvStream),
    OneWay(RecvStream),
}

/// Serves one connection until it ends. `leave` is asked at every turn. A request that `stall` tells of is broken off.
pub async fn serve(
    quic: quinn::Connection,
    worker: &Rc<Worker>,
    terms: Terms,
    answers: impl Answers + 'static,
    mut leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<(), ServeError> {
    let limits = Limits {
        bytes_max: terms.header_bytes_max as usize,
        count_max: terms.header_count_max as usize,
        takes_extended: terms.takes_extended,
    };
    let link = Rc::new(Link {
        quic: quic.clone(),
        worker: Rc::clone(worker),
        terms,
        limits,
        guard: RefCell::new(Guard::new(worker.clock.now(), &terms.http2_limits)),
        failure: Cell::new(None),
        critical: Cell::new([false; 3]),
        active: Cell::new(0),
        next: Cell::new(0),
        last: Cell::new(ANY_STREAM),
        early: RefCell::default(),
    });
    let answers = Rc::new(answers);
    answers.open(Interim::on_http3(&link));
    let mut crowd = Crowd::new();
    let mut requests = pin!(Next::of(|| {
        let quic = quic.clone();
        async move { quic.accept_bi().await.map(|(send, recv)| Opened::Request(send, recv)) }
    }));
    let mut others = pin!(Next::of(|| {
        let quic = quic.clone();
        async move { quic.accept_uni().await.map(Opened::OneWay) }
    }));
    let mut voice = Voice::new(&link);
    let lost = poll_fn(|cx| {
        crowd.begin_turn(cx);
        let mut polled = Poll::Pending;
        for turn in 0..=TURNS_MAX {
            match leave(cx) {
                Poll::Ready(Leave::AtOnce) => return Poll::Ready(None),
                Poll::Ready(Leave::Gently | Leave::Patiently) => voice.leave(),
                Poll::Pending => {}
            }
            let mut has_new = false;
            for opened in [others.as_mut().poll_next(cx), requests.as_mut().poll_next(cx)] {
                match opened {
                    Poll::Ready(Ok(opened)) => {
                        has_new = true;
                        let (link, stall) = (Rc::clone(&link), Rc::clone(stall));
                        crowd.push(carry(opened, link, Rc::clone(&answers), stall));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                    Poll::Pending => {}
                }
            }
            crowd.poll();
            polled = voice.poll(cx);
            if polled.is_ready() || !has_new && !crowd.is_rung() {
                break;
            }
            if turn == TURNS_MAX {
                cx.waker().wake_by_ref();
            }
        }
        if crowd.end_turn() && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        if link.active.get() == 0 {
            crowd.shrink();
        }
        polled.map(|()| None)
    })
    .await;
    // Requests are over before their connection is: what they were told is in their lines.
    drop(crowd);
    quic.close(Code::NO_ERROR.number(), b"");
    match (link.failure.get(), lost) {
        (Some(Failure::Abuse(abuse)), _) => {
            answers.hear(Told::Abuse(abuse));
            Err(ServeError::Protocol(Reason::ClientAbuse))
        }
        (Some(Failure::Protocol), _) | (None, Some(ConnectionError::TransportError(_))) => {
            if link.next.get() == 0 {
                return Err(ServeError::Protocol(Reason::ClientProtocol));
            }
            answers.hear(Told::Malformed);
            Err(ServeError::Broken)
        }
        (None, None | Some(ConnectionError::ApplicationClosed(_))) => Ok(()),
        (None, Some(_)) => Err(ServeError::Broken),
    }
}

/// Waits for one thing after the other.
struct Next<B, F> {
    begin: B,
    waiting: Option<Pin<Box<F>>>,
}

impl<B, F, T> Next<B, F>
where
    B: Fn() -> F + Unpin,
    F: Future<Output = T>,
{
    fn of(begin: B) -> Next<B, F> {
        Next { begin, waiting: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let waiting = self.waiting.get_or_insert_with(|| Box::pin((self.begin)()));
        let there = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(there)
    }
}

/// What naru itself says on a connection: its settings, and that it takes no more requests.
struct Voice {
    link: Rc<Link>,
    opening: Option<Pin<Box<dyn Future<Output = Option<SendStream>>>>>,
    stream: Option<SendStream>,
    out: BytesMut,
    leaving: Leaving,
    timer: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// What was on its way is still taken.
    Told,
    /// Those that have begun are finished.
    After,
}

impl Voice {
    fn new(link: &Rc<Link>) -> Voice {
        let mut out = BytesMut::new();
        frame::put_control(&mut out, link.limits.bytes_max as u64, link.limits.takes_extended);
        let quic = link.quic.clone();
        Voice {
            link: Rc::clone(link),
            opening: Some(Box::pin(async move { quic.open_uni().await.ok() })),
            stream: None,
            out,
            leaving: Leaving::No,
            timer: Timer::new(&link.worker.timers),
        }
    }

    /// Takes no more streams, in two steps: what a client sends before it knows is still taken (section 5.2).
    fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Told;
            frame::put_go_away(&mut self.out, ANY_STREAM);
            let time = (self.link.quic.rtt() * LAST_ROUND_TRIPS).max(LAST_REQUESTS_TIME);
            self.timer.set(self.link.worker.clock.now() + time);
        }
    }

    /// Ready once the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.leaving == Leaving::Told && self.timer.poll(cx).is_ready() {
            self.leaving = Leaving::After;
            self.link.last.set(self.link.next.get());
            frame::put_go_away(&mut self.out, self.link.next.get());
        }
        // Where it cannot be said the connection is lost, which others hear.
        if let Some(opening) = &mut self.opening
            && let Poll::Ready(stream) = opening.as_mut().poll(cx)
        {
            (self.stream, self.opening) = (stream, None);
        }
        if let Some(stream) = &mut self.stream {
            while !self.out.is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, &self.out) {
                    Poll::Ready(Ok(written)) => drop(self.out.split_to(written)),
                    Poll::Ready(Err(_)) => self.out.clear(),
                    Poll::Pending => break,
                }
            }
        }
        let is_left = self.leaving == Leaving::After && self.link.active.get() == 0 && self.out.is_empty();
        if is_left || self.link.failure.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }
}

async fn carry<A: Answers>(opened: Opened, link: Rc<Link>, answers: Rc<A>, stall: Rc<Stall>) {
    match opened {
        Opened::OneWay(recv) => control::read(recv, link).await,
        Opened::Request(send, recv) => {
            let id = VarInt::from(send.id()).into_inner();
            let mut reply = Reply::new(send, &link);
            if id >= link.last.get() {
                let mut recv = recv;
                // One that is gone needs no telling.
                let _ = recv.stop(Code::REQUEST_REJECTED.number());
                return reply.reset(Code::REQUEST_REJECTED);
            }
            link.next.set(link.next.get().max(id + 4));
            let mut source = Source::new(recv, &link);
            match read_head(&mut source, &link).await {
                Ok((request, length)) => request_of(request, length, source, reply, &*answers, &stall).await,
                Err(refused) => {
                    if let Some(reason) = refused.reason {
                        answers.hear(Told::Refused(reason));
                        // One too many closes the connection.
                        let _ = link.guard(Abuse::Mistakes);
                    }
                    source.stop(refused.code);
                    match refused.status {
                        Some(status) => {
                            // Whether the client takes it is its own affair.
                            let _ = reply.write(write_response(status, &HeaderMap::new())).await;
                            reply.finish().await;
                        }
                        None => reply.reset(refused.code),
                    }
                }
            }
        }
    }
}

/// Why there is no request.
struct Refused {
    reason: Option<Reason>,
    /// Answered with it, or else only reset.
    status: Option<StatusCode>,
    code: Code,
}

impl Refused {
    fn with(reason: Reason, code: Code) -> Refused {
        Refused { reason: Some(reason), status: None, code }
    }

    fn too_large() -> Refused {
        let status = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        Refused { reason: Some(Reason::HeadTooLarge), status, code: Code::NO_ERROR }
    }
}

/// Reads the head of a request, which may take as long as its chain allows.
async fn read_head(source: &mut Source, link: &Link) -> Result<(Request<()>, Option<u64>), Refused> {
    let mut reading = pin!(read_section(source, link));
    let mut timer: Option<Timer> = None;
    let section = poll_fn(|cx| {
        if let Poll::Ready(read) = reading.as_mut().poll(cx) {
            return Poll::Ready(read);
        }
        let Some(allowed) = link.terms.request_headers_timeout else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| {
            let mut timer = Timer::new(&link.worker.timers);
            timer.set(link.worker.clock.now() + allowed);
            timer
        });
        ready!(timer.poll(cx));
        let status = Some(StatusCode::REQUEST_TIMEOUT);
        Poll::Ready(Err(Refused { reason: Some(Reason::HeadTimeout), status, code: Code::NO_ERROR }))
    })
    .await?;
    match read_request(&section, link.limits) {
        Ok(read) => Ok(read),
        Err(Wrong::Message(Reason::HeadTooLarge)) => Err(Refused::too_large()),
        Err(Wrong::Message(reason)) => Err(Refused::with(reason, Code::MESSAGE_ERROR)),
        Err(Wrong::Connection(code)) => {
            link.fail(code);
            Err(Refused { reason: None, status: None, code })
        }
    }
}

async fn read_section(source: &mut Source, link: &Link) -> Result<Bytes, Refused> {
    let gone = |_: Unread| Refused { reason: None, status: None, code: Code::REQUEST_CANCELLED };
    let head = poll_fn(|cx| source.poll_frame(cx)).await;
    let Some(head) = head.transpose().map_err(gone)? else {
        return Err(Refused::with(Reason::ClientProtocol, Code::REQUEST_INCOMPLETE));
    };
    if head.kind != Kind::Headers {
        return Err(gone(source.fail(Code::FRAME_UNEXPECTED)));
    }
    // What is longer than it may be when it is read is too long, however it is coded.
    if head.length > link.limits.bytes_max as u64 {
        return Err(Refused::too_large());
    }
    poll_fn(|cx| source.poll_whole(cx)).await.map_err(gone)
}

/// Answers one request.
async fn request_of<A: Answers>(
    head: Request<()>,
    length: Option<u64>,
    mut source: Source,
    mut reply: Reply,
    answers: &A,
    stall: &Rc<Stall>,
) {
    let is_whole = poll_fn(|cx| Poll::Ready(source.peek_end(cx))).await;
    if is_whole && length.is_some_and(|length| length > 0) {
        answers.hear(Told::Refused(Reason::ClientProtocol));
        // One too many closes the connection.
        let _ = reply.link.guard(Abuse::Mistakes);
        return reply.reset(Code::MESSAGE_ERROR);
    }
    let asks_for_more = Rc::new(Cell::new(false));
    // Only what asks for another protocol has this field; what follows is that protocol's, and its end, too.
    let is_body = !is_whole || head.headers().contains_key(header::UPGRADE);
    let body = match !is_body {
        true => InBody::Empty,
        false => InBody::Http3(Box::new(Http3Body::new(source, &head, length, &asks_for_more))),
    };
    let mut turns = Turns::of(stall);
    // Resolved when the client wants no answer, and when it has one.
    let mut stopped = pin!(reply.send.stopped());
    let answered = {
        let mut service = Box::pin(answers.answer(head.map(|()| body)));
        poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            turns.begin();
            let answered = service.as_mut().poll(cx);
            if asks_for_more.take() {
                reply.link.say_early(StatusCode::CONTINUE, &HeaderMap::new());
            }
            reply.hear_early();
            match answered {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => {
                    // Whoever does not take it is noticed by others.
                    let _ = reply.poll_early(cx);
                    turns.poll_stalled(cx).map(|()| None)
                }
            }
        })
        .await
    };
    let response = match answered {
        Some(Ok(response)) => response,
        Some(Err(Broken)) => return reply.reset(Code::INTERNAL_ERROR),
        None => return reply.cancelled(),
    };
    let response = match response.into_parts() {
        (head, OutBody::Changed(changed)) => {
            // It is boxed so that those without one need no room for it.
            return Box::pin(change(reply, &head, *changed)).await;
        }
        (head, body) => Response::from_parts(head, body),
    };
    let sent = {
        let pacing = Rc::clone(&reply.pacing);
        // Who reads a stream of messages may stop for as long as it likes.
        let is_grpc = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let mut slow = Slow::new(&pacing, &reply.link, is_grpc);
        let mut sending = pin!(respond(&mut reply, response));
        poll_fn(|cx| {
            turns.begin();
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            if stopped.as_mut().poll(cx).is_ready() || slow.poll(cx).is_ready() {
                return Poll::Ready(Err(Code::REQUEST_CANCELLED));
            }
            turns.poll_stalled(cx).map(|()| Err(Code::REQUEST_CANCELLED))
        })
        .await
    };
    match sent {
        Ok(()) => {
            reply.link.guard.borrow_mut().on_answered();
            reply.finish().await;
        }
        Err(Code::REQUEST_CANCELLED) => reply.cancelled(),
        Err(code) => reply.reset(code),
    }
}

/// Carries what a stream has become, until it ends.
async fn change(mut reply: Reply, head: &Parts, changed: Changed) {
    let InBody::Http3(body) = changed.client else { return reply.reset(Code::INTERNAL_ERROR) };
    if reply.write(write_response(head.status, &head.headers)).await.is_err() {
        return reply.cancelled();
    }
    let mut stopped = Some(Box::pin(reply.send.stopped()));
    let conduit = Conduit::http3(Http3Tunnel::new(body, reply));
    let mut served = pin!(tunnel::serve(conduit, changed.waiting));
    poll_fn(|cx| {
        if served.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match stopped.as_mut().map(|stopped| stopped.as_mut().poll(cx)) {
            // It has all of one way; the other goes on.
            Some(Poll::Ready(Ok(None))) => stopped = None,
            // It takes no more.
            Some(Poll::Ready(_)) => return Poll::Ready(()),
            Some(Poll::Pending) | None => {}
        }
        Poll::Pending
    })
    .await;
}

/// Sends a response.
///
/// # Errors
/// It broke off.
async fn respond(reply: &mut Reply, response: Response<OutBody>) -> Result<(), Code> {
    let (mut head, mut body) = response.into_parts();
    let mut ends = body.is_end_stream();
    if !ends && let Some(length) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    reply.write(write_response(head.status, &head.headers)).await?;
    drop(head);
    while !ends {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        match frame.map_err(|_| Code::INTERNAL_ERROR)?.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                let mut head = BytesMut::with_capacity(9);
                frame::put_head(&mut head, DATA, data.len());
                reply.write(head.freeze()).await?;
                reply.write(data).await?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    reply.write(write_trailers(&trailers)).await?;
                    break;
                }
            }
        }
        ends = body.is_end_stream();
    }
    Ok(())
}

/// The side of a stream that a request is answered by. One that is dropped before its end is reset: or quinn would end it
/// as if it were whole.
#[derive(Debug)]
pub(super) struct Reply {
    send: SendStream,
    link: Rc<Link>,
    /// What stands before the response, and is not written yet.
    early: BytesMut,
    is_over: bool,
    pacing: Rc<Pacing>,
}

/// How fast a client takes what there is.
#[derive(Debug, Default)]
struct Pacing {
    written: Cell<u64>,
    is_waiting: Cell<bool>,
}

impl Reply {
    fn new(send: SendStream, link: &Rc<Link>) -> Reply {
        link.active.set(link.active.get() + 1);
        Reply { send, link: Rc::clone(link), early: BytesMut::new(), is_over: false, pacing: Rc::default() }
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Code> {
        poll_fn(|cx| self.poll_early(cx)).await?;
        while !bytes.is_empty() {
            self.pacing.is_waiting.set(true);
            let written = self.send.write_chunks(std::slice::from_mut(&mut bytes)).await;
            self.pacing.is_waiting.set(false);
            // The client wants no more of it, or is gone.
            let written = written.map_err(|_| Code::REQUEST_CANCELLED)?;
            self.pacing.written.set(self.pacing.written.get() + written.bytes as u64);
        }
        Ok(())
    }

    /// What was said in this turn is its own.
    fn hear_early(&mut self) {
        let mut said = self.link.early.borrow_mut();
        if !said.is_empty() && self.early.len() < EARLY_BYTES_MAX {
            self.early.extend_from_slice(&said);
        }
        said.clear();
    }

    /// Writes what stands before the response. Frames are whole, whatever of them goes out now.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Code>> {
        while !self.early.is_empty() {
            let written = ready!(Pin::new(&mut self.send).poll_write(cx, &self.early));
            self.early.advance(written.map_err(|_| Code::REQUEST_CANCELLED)?);
        }
        Poll::Ready(Ok(()))
    }

    /// Of a stream that has become something else.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Code>> {
        Pin::new(&mut self.send).poll_write(cx, bytes).map_err(|_| Code::REQUEST_CANCELLED)
    }

    /// As [`Reply::finish`].
    pub(super) fn finished(&mut self) -> impl Future<Output = ()> + use<> {
        self.is_over = true;
        let is_said = self.send.finish().is_ok();
        let stopped = self.send.stopped();
        async move {
            if is_said {
                // Whoever is gone hears nothing.
                let _ = stopped.await;
            }
        }
    }

    /// All is said; ready once the client has it.
    async fn finish(&mut self) {
        self.finished().await;
    }

    pub(super) fn reset(&mut self, code: Code) {
        self.is_over = true;
        // One that was stopped is over.
        let _ = self.send.reset(code.number());
    }

    /// The client has given its request up.
    fn cancelled(&mut self) {
        // One too many closes the connection.
        let _ = self.link.guard(Abuse::Resets);
        self.reset(Code::REQUEST_CANCELLED);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_over {
            self.reset(Code::INTERNAL_ERROR);
        }
        self.link.active.set(self.link.active.get() - 1);
    }
}

/// Looks after a client that takes its response too slowly.
struct Slow<'a> {
    pacing: &'a Pacing,
    link: Rc<Link>,
    limit: Option<PaceLimit>,
    pace: Pace,
    seen: u64,
    timer: Option<Timer>,
}

impl<'a> Slow<'a> {
    fn new(pacing: &'a Pacing, link: &Rc<Link>, is_exempt: bool) -> Slow<'a> {
        let limit = link.terms.response_pace.filter(|_| !is_exempt);
        Slow { pacing, link: Rc::clone(link), limit, pace: Pace::default(), seen: 0, timer: None }
    }

    /// Ready once it has taken too little for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = &self.limit else { return Poll::Pending };
        let now = self.link.worker.clock.now();
        let written = self.pacing.written.get();
        let moved = written - std::mem::replace(&mut self.seen, written);
        let is_waiting = self.pacing.is_waiting.get();
        if moved > 0 || !is_waiting {
            self.pace.on_progress(now, limit, moved);
        }
        if is_waiting {
            self.pace.on_wait(now);
        }
        while let Some(deadline) = self.pace.deadline(limit) {
            if now >= deadline {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Timer::new(&self.link.worker.timers));
            timer.set(deadline);
            ready!(timer.poll(cx));
            if self.link.worker.clock.now() >= deadline {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
