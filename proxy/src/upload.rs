//! The body of a request on its way to an upstream, and what is kept of it to send it again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use naru_admit::Pace;
use naru_base::{Instant, Reason};
use naru_content::compress::Decode;
use naru_journey::Milestone;
use naru_spec::defaults::REPLAY_BYTES_MAX;
use naru_spec::{Coder, PaceLimit};

use crate::codec::{BodyBroken, InBody};
use crate::deflated::Deflated;
use crate::inflated::Inflated;
use crate::mirrors::Budget;
use crate::packed::CodingCounts;
use crate::shadow::tap::{Tap, Tapped};
use crate::worker::Worker;

/// A request body, whoever is sending it at the moment.
#[derive(Debug)]
pub struct Upload {
    /// Absent once nobody wants it any more.
    body: RefCell<Option<Source>>,
    /// Copies of the request.
    taps: RefCell<Vec<Rc<Tap>>>,
    kept: RefCell<Kept>,
    received: Cell<u64>,
    bytes_max: Cell<u64>,
    /// News that nobody has taken yet.
    news: Cell<Option<Milestone>>,
    has_moved: Cell<bool>,
    is_over: Cell<bool>,
    /// Whether its client is fast enough.
    paced: Option<Paced>,
    /// Read before anybody wanted it: by a look at how fast it comes, or for somebody who is told of it.
    ahead: RefCell<VecDeque<NextFrame>>,
    /// Who waits for more of it.
    sender: RefCell<Option<Waker>>,
    /// Who wants to hear news.
    listener: RefCell<Option<Waker>>,
}

pub type NextFrame = Option<Result<Frame<Bytes>, BodyBroken>>;

#[derive(Debug)]
struct Paced {
    worker: Rc<Worker>,
    limit: PaceLimit,
    pace: Cell<Pace>,
}

/// Where a body comes from.
#[derive(Debug)]
enum Source {
    Client(InBody),
    /// The request that this is a copy of.
    Copied(Tapped),
}

/// The frames so far, as long as they are few enough.
#[derive(Debug, Default)]
struct Kept {
    frames: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    is_overfull: bool,
}

impl Upload {
    /// Where there are limits, the client must not be slower, and send no more.
    pub fn new(
        body: InBody,
        worker: &Rc<Worker>,
        limit: Option<PaceLimit>,
        bytes_max: Option<u64>,
    ) -> Rc<Upload> {
        let worker = Rc::clone(worker);
        let paced = limit.map(|limit| Paced { worker, limit, pace: Cell::default() });
        Upload::of(Source::Client(body), paced, bytes_max.unwrap_or(u64::MAX))
    }

    pub fn of_copy(tap: Rc<Tap>) -> Rc<Upload> {
        Upload::of(Source::Copied(Tapped(tap)), None, u64::MAX)
    }

    fn of(body: Source, paced: Option<Paced>, bytes_max: u64) -> Rc<Upload> {
        Rc::new(Upload {
            paced,
            bytes_max: Cell::new(bytes_max),
            ahead: RefCell::default(),
            taps: RefCell::default(),
            body: RefCell::new(Some(body)),
            sender: RefCell::new(None),
            kept: RefCell::default(),
            received: Cell::new(0),
            news: Cell::new(None),
            has_moved: Cell::new(false),
            is_over: Cell::new(false),
            listener: RefCell::new(None),
        })
    }

    /// Whatever is read of it from now on goes into a copy as well.
    pub fn tap(&self, budget: &Rc<Budget>) -> Rc<Tap> {
        let hint = self.body.borrow().as_ref().map_or_else(SizeHint::default, Body::size_hint);
        let tap = Tap::new(&hint, budget);
        self.taps.borrow_mut().push(Rc::clone(&tap));
        tap
    }

    /// No more than so much is read of it.
    pub fn limit(&self, max: u64) {
        self.bytes_max.set(self.bytes_max.get().min(max));
    }

    /// It is read out of a coding from here on. Nobody has sent any of it yet.
    pub fn inflate(&self, decode: Decode) {
        let mut body = self.body.borrow_mut();
        *body = match body.take() {
            Some(Source::Client(inner)) => {
                let inflated = Inflated::new(inner, self.ahead.take(), decode);
                Some(Source::Client(InBody::Inflated(Box::new(inflated))))
            }
            other => other,
        };
    }

    /// It comes into a coding from here on, where its client sends no more than so much. Nobody has sent any of it yet.
    pub fn deflate(&self, coder: &Coder, bytes_max: u64, counts: &Arc<CodingCounts>) {
        // What is read of it is that of its coding.
        let bytes_max = bytes_max.min(self.bytes_max.replace(u64::MAX));
        let mut body = self.body.borrow_mut();
        *body = match body.take() {
            Some(Source::Client(inner)) => {
                let deflated = Deflated::new(inner, self.ahead.take(), coder, bytes_max, counts);
                Some(Source::Client(InBody::Deflated(Box::new(deflated))))
            }
            other => other,
        };
    }

    /// Whether all that was read so far is still here.
    pub fn is_replayable(&self) -> bool {
        !self.kept.borrow().is_overfull
    }

    /// Nothing will be sent again: what was kept may go.
    pub fn forget(&self) {
        let mut kept = self.kept.borrow_mut();
        *kept = Kept { is_overfull: true, ..Kept::default() };
    }

    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether it was read to its end, or broke off.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// What happened to the body since this was asked last.
    #[inline]
    pub fn take_news(&self) -> Option<Milestone> {
        self.news.take()
    }

    /// Whether bytes came in since this was asked last.
    #[inline]
    pub fn take_moved(&self) -> bool {
        self.has_moved.replace(false)
    }

    /// Wakes `cx` when there is news.
    pub fn listen(&self, cx: &Context<'_>) {
        let mut listener = self.listener.borrow_mut();
        match &*listener {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *listener = Some(cx.waker().clone()),
        }
    }

    /// The request is over. Whoever still sends its body breaks off: a stream that is kept open for it
    /// would stay until its client has sent all.
    pub fn end(&self) {
        *self.body.borrow_mut() = None;
        self.taps.take().iter().for_each(|tap| tap.break_off());
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// When its client is too slow, if nothing comes.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        let Paced { limit, pace, .. } = self.paced.as_ref().filter(|_| !self.is_over.get())?;
        pace.get().deadline(limit)
    }

    /// Whether its client is too slow. What has come and was not taken is not its fault.
    #[cold]
    pub fn look_at_pace(&self, now: Instant) {
        let Some(Paced { limit, pace, .. }) = &self.paced else { return };
        if self.is_over.get() || !pace.get().is_too_slow(now, limit) {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let next = match &mut *self.body.borrow_mut() {
            Some(body) => Pin::new(body).poll_frame(&mut cx),
            None => return,
        };
        match next {
            Poll::Ready(frame) => {
                pace.set(Pace::default());
                self.ahead.borrow_mut().push_back(frame);
                if let Some(sender) = self.sender.take() {
                    sender.wake();
                }
            }
            Poll::Pending => self.tell(Milestone::TooSlow),
        }
    }

    /// Reads the beginning of the body, which stays there for whoever sends it: up to so many bytes, and the rest of the
    /// frame in which these end. What is longer is too long, unless a part will do.
    pub fn poll_gather(&self, cx: &mut Context<'_>, bytes_max: u64, allows_partial: bool) -> Poll<Gathered> {
        let mut gathered = self.bytes_ahead() as u64;
        let mut is_whole = self.is_read_ahead();
        while !is_whole && gathered <= bytes_max && !(allows_partial && gathered == bytes_max) {
            let mut body = self.body.borrow_mut();
            let Some(source) = &mut *body else { return Poll::Ready(Gathered::Broken) };
            let next = Pin::new(&mut *source).poll_frame(cx);
            self.keep_pace(&next);
            let frame = ready!(next);
            self.has_moved.set(true);
            match &frame {
                Some(Err(_)) => {
                    let is_malformed = source.is_malformed();
                    self.tell(if is_malformed { Milestone::Malformed } else { Milestone::Aborted });
                    return Poll::Ready(Gathered::Broken);
                }
                Some(Ok(frame)) => gathered += frame.data_ref().map_or(0, |data| data.len() as u64),
                None => {}
            }
            is_whole = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers))
                || source.is_end_stream();
            drop(body);
            self.ahead.borrow_mut().push_back(frame);
        }
        if gathered > bytes_max && !allows_partial {
            return Poll::Ready(Gathered::TooLong);
        }
        let mut bytes = BytesMut::new();
        for next in &*self.ahead.borrow() {
            if let Some(Ok(frame)) = next
                && let Some(data) = frame.data_ref()
            {
                bytes.extend_from_slice(data);
            }
        }
        bytes.truncate(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        Poll::Ready(Gathered::Beginning { bytes: bytes.freeze(), read: gathered })
    }

    /// Whether all of it was read before anybody wanted it.
    fn is_read_ahead(&self) -> bool {
        let is_end = |next: &NextFrame| {
            next.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers))
        };
        self.ahead.borrow().back().is_some_and(is_end)
            || self.body.borrow().as_ref().is_some_and(Body::is_end_stream)
    }

    fn take_ahead(&self) -> Option<NextFrame> {
        self.ahead.borrow_mut().pop_front()
    }

    fn bytes_ahead(&self) -> usize {
        let ahead = self.ahead.borrow();
        let frames = ahead.iter().filter_map(|next| next.as_ref()?.as_ref().ok()?.data_ref());
        frames.map(Bytes::len).sum()
    }

    /// The client is waited for, or is no longer.
    #[inline]
    fn keep_pace(&self, next: &Poll<NextFrame>) {
        let Some(Paced { worker, limit, pace }) = &self.paced else { return };
        let mut kept = pace.get();
        match next {
            Poll::Pending => kept.on_wait(worker.clock.now()),
            Poll::Ready(_) if kept == Pace::default() => return,
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                kept.on_progress(worker.clock.now(), limit, data.map_or(0, Bytes::len) as u64);
            }
        }
        pace.set(kept);
    }

    fn tell(&self, milestone: Milestone) {
        self.is_over.set(true);
        self.news.set(Some(milestone));
        if let Some(listener) = self.listener.borrow_mut().take() {
            listener.wake();
        }
    }

    fn poll_fresh(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let mut body = self.body.borrow_mut();
        let Some(body) = &mut *body else { return Poll::Ready(Some(Err(BodyBroken))) };
        let next = match self.take_ahead() {
            Some(frame) => Poll::Ready(frame),
            None => Pin::new(&mut *body).poll_frame(cx),
        };
        self.keep_pace(&next);
        let Poll::Ready(frame) = next else {
            *self.sender.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(broken)) => {
                self.taps.borrow().iter().for_each(|tap| tap.break_off());
                self.tell(match body.refused() {
                    Some(reason) => Milestone::Refused(reason),
                    None if body.is_malformed() => Milestone::Malformed,
                    None => Milestone::Aborted,
                });
                return Poll::Ready(Some(Err(broken)));
            }
            None => {
                self.taps.borrow().iter().for_each(|tap| tap.end());
                if !self.is_over.get() {
                    self.tell(Milestone::End);
                }
                return Poll::Ready(None);
            }
        };
        let received = self.received.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
        if received > self.bytes_max.get() {
            self.taps.borrow().iter().for_each(|tap| tap.break_off());
            self.tell(Milestone::TooLarge);
            return Poll::Ready(Some(Err(BodyBroken)));
        }
        self.has_moved.set(true);
        for tap in self.taps.borrow().iter() {
            tap.offer(&frame, body.is_end_stream() || frame.is_trailers());
        }
        if let Some(data) = frame.data_ref() {
            self.received.set(received);
            self.kept.borrow_mut().keep(data);
            if body.is_end_stream() {
                self.tell(Milestone::End);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.borrow_mut().keep_trailers(trailers);
            self.tell(Milestone::Trailers { grpc_status: None });
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Source {
    fn refused(&self) -> Option<Reason> {
        match self {
            Source::Client(body) => body.refused(),
            Source::Copied(_) => None,
        }
    }

    fn is_malformed(&self) -> bool {
        matches!(self, Source::Client(body) if body.is_malformed())
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyBroken;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        match self.get_mut() {
            Source::Client(body) => Pin::new(body).poll_frame(cx),
            Source::Copied(tapped) => Pin::new(tapped).poll_frame(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Source::Client(body) => body.is_end_stream(),
            Source::Copied(tapped) => tapped.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Client(body) => body.size_hint(),
            Source::Copied(tapped) => tapped.size_hint(),
        }
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes) {
        if self.is_overfull {
            return;
        }
        self.bytes += data.len();
        if self.bytes > REPLAY_BYTES_MAX {
            *self = Kept { is_overfull: true, ..Kept::default() };
        } else {
            self.frames.push(data.clone());
        }
    }

    fn keep_trailers(&mut self, trailers: &HeaderMap) {
        if !self.is_overfull {
            self.trailers = Some(trailers.clone());
        }
    }
}

/// What came of reading ahead.
#[derive(Debug)]
pub enum Gathered {
    Beginning {
        bytes: Bytes,
        /// All that was read; there may be more.
        read: u64,
    },
    TooLong,
    Broken,
}

/// What an upstream connection is given to send.
#[derive(Debug)]
pub enum UploadBody {
    Empty,
    /// Of a request of naru's own.
    Whole(Option<Bytes>),
    Upload {
        upload: Rc<Upload>,
        /// How many of the kept frames this attempt has sent.
        sent: usize,
        trailers_sent: bool,
    },
}

impl UploadBody {
    /// The body from its beginning.
    pub fn of(upload: Option<&Rc<Upload>>) -> UploadBody {
        match upload {
            None => UploadBody::Empty,
            Some(upload) => UploadBody::Upload { upload: Rc::clone(upload), sent: 0, trailers_sent: false },
        }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let (upload, sent, trailers_sent) = match self.get_mut() {
            UploadBody::Upload { upload, sent, trailers_sent } => (upload, sent, trailers_sent),
            UploadBody::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            UploadBody::Empty => return Poll::Ready(None),
        };
        let kept = upload.kept.borrow();
        if let Some(frame) = kept.frames.get(*sent) {
            *sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame.clone()))));
        }
        if let (Some(trailers), false) = (&kept.trailers, *trailers_sent) {
            *trailers_sent = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        drop(kept);
        let frame = ready!(upload.poll_fresh(cx));
        *sent = upload.kept.borrow().frames.len();
        *trailers_sent = upload.kept.borrow().trailers.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UploadBody::Empty => true,
            UploadBody::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            UploadBody::Upload { upload, sent, trailers_sent } => {
                let kept = upload.kept.borrow();
                let has_more = kept.frames.len() > *sent
                    || (kept.trailers.is_some() && !trailers_sent)
                    || !upload.ahead.borrow().is_empty();
                !has_more && upload.body.borrow().as_ref().is_some_and(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UploadBody::Empty => SizeHint::with_exact(0),
            UploadBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            UploadBody::Upload { upload, sent, .. } => {
                let kept = upload.kept.borrow();
                let again: usize = kept.frames.iter().skip(*sent).map(Bytes::len).sum();
                let again = again + upload.bytes_ahead();
                let mut hint = upload.body.borrow().as_ref().map_or_else(SizeHint::default, Body::size_hint);
                if let Some(exact) = hint.exact() {
                    hint.set_exact(exact + again as u64);
                }
                hint
            }
        }
    }
}
