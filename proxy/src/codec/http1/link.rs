//! A connection of HTTP/1: what was read and not taken yet, what was said and is not written yet, and where in a body it
//! is.
//!
//! Both sides share one, and bodies on their way have it as well, so that whoever wants the next piece of a body reads
//! it himself.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use naru_http1::{CONTINUE, Decoder, Framing, Limits, Malformed, Piece, Scan, write_chunk_size};
use naru_spec::defaults::HEADER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::output::Output;
use crate::codec::BodyBroken;
use crate::conduit::Conduit;

/// So much is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bodies of which this much is to come are read to where they stay; less is copied.
const BULK: u64 = 16 * 1024;
/// So much of what a client sends before it has its answer is taken from it.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// What trailers may have.
const OF_TRAILERS: Limits = Limits { head_bytes: HEADER_BYTES_MAX as usize, fields: 100 };

thread_local! {
    /// Where bytes come in that are looked at once: connections that wait have no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// Maps that wait for use.
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// As many maps wait for use at most, and none with more room than this.
const MAPS_MAX: usize = 64;
const MAP_FIELDS_MAX: usize = 64;

/// A map for fields, with room.
pub fn take_map() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives back a map that nobody needs any more.
pub fn give_map(mut map: HeaderMap) {
    if map.capacity() <= MAP_FIELDS_MAX {
        map.clear();
        MAPS.with_borrow_mut(|maps| {
            if maps.len() < MAPS_MAX {
                maps.push(map);
            }
        });
    }
}

#[derive(Debug)]
pub struct Link(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    /// Absent once the connection is something else, or over.
    conduit: Option<Conduit>,
    input: BytesMut,
    output: Output,
    decoder: Decoder,
    /// Which message is being read: a body of another one is over.
    message: u64,
    /// The body that is being read is not framed as it said.
    is_body_broken: bool,
    /// The other end says no more.
    has_ended: bool,
    /// The other end waits for leave to send its body.
    owes_continue: bool,
}

/// Why there is no head.
#[derive(Debug)]
pub enum NoHead {
    Malformed(Malformed),
    /// The connection ended; before the first byte of it, or within.
    Ended {
        has_begun: bool,
    },
    /// It took longer than it may.
    TooSlow,
    Broken,
}

impl Link {
    pub fn new(conduit: Conduit) -> Rc<Link> {
        Rc::new(Link(RefCell::new(Inner {
            conduit: Some(conduit),
            input: BytesMut::new(),
            output: Output::default(),
            decoder: Decoder::of(Framing::Empty),
            message: 0,
            is_body_broken: false,
            has_ended: false,
            owes_continue: false,
        })))
    }

    /// Reads until there is a whole head, which `read` is given, with what may be said to it at once.
    #[inline]
    pub fn poll_head<T>(
        &self,
        cx: &mut Context<'_>,
        scan: &mut Scan,
        bytes_max: usize,
        read: impl FnMut(&[u8], &mut Output) -> Result<T, Malformed>,
    ) -> Poll<Result<T, NoHead>> {
        self.0.borrow_mut().poll_head(cx, scan, bytes_max, read)
    }

    /// A body begins. Says how it is read.
    #[inline]
    pub fn begin_body(self: &Rc<Self>, framing: Framing, owes_continue: bool) -> Http1Body {
        let mut inner = self.0.borrow_mut();
        inner.decoder = Decoder::of(framing);
        inner.owes_continue = owes_continue;
        inner.message += 1;
        Http1Body { link: Rc::clone(self), message: inner.message }
    }

    /// Whether the body of the last message was read to its end.
    pub fn is_body_done(&self) -> bool {
        self.0.borrow().decoder.is_done()
    }

    /// Whether it is known that nobody can read it to its end.
    pub fn is_body_broken(&self) -> bool {
        self.0.borrow().is_body_broken
    }

    pub fn owes_continue(&self) -> bool {
        self.0.borrow().owes_continue
    }

    /// Whether bytes are there that nobody has taken.
    #[inline]
    pub fn has_input(&self) -> bool {
        !self.0.borrow().input.is_empty()
    }

    /// Whether a message has begun: empty lines before it are nobody's (RFC 9112, section 2.2).
    #[inline]
    pub fn has_begun(&self) -> bool {
        self.0.borrow().has_begun()
    }

    /// Whether the other end may still say something.
    pub fn is_open(&self) -> bool {
        let inner = self.0.borrow();
        inner.conduit.is_some() && !inner.has_ended
    }

    /// Takes what there is of a body that nobody wants. Says whether that was all of it.
    pub fn discard_body(&self) -> bool {
        let mut inner = self.0.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = AHEAD_BYTES_MAX;
        loop {
            match inner.poll_piece(&mut cx) {
                Poll::Ready(Some(Ok(Piece::Data(data)))) if data.len() <= left => left -= data.len(),
                Poll::Ready(Some(Ok(Piece::Trailers(_)))) => {}
                _ => return inner.decoder.is_done(),
            }
        }
    }

    /// Ready once the other end has gone, which it may have done while nothing is wanted of it.
    #[inline]
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        // Who reads the body sees it there.
        if !inner.decoder.is_done() {
            return Poll::Pending;
        }
        while inner.input.len() < AHEAD_BYTES_MAX {
            if inner.has_ended {
                return Poll::Ready(());
            }
            if ready!(inner.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Whether nothing has come that nobody asked for, and the other end is there.
    pub fn is_quiet(&self) -> bool {
        let mut inner = self.0.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        inner.input.is_empty() && !inner.has_ended && inner.poll_fill(&mut cx).is_pending()
    }

    /// Says something.
    #[inline]
    pub fn say(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.0.borrow_mut().output.buffer());
    }

    #[inline]
    pub fn say_data(&self, data: Bytes) {
        self.0.borrow_mut().output.add(data);
    }

    /// One of a body in chunks.
    #[inline]
    pub fn say_chunk(&self, data: Bytes) {
        // One without bytes would be the last.
        if !data.is_empty() {
            let output = &mut self.0.borrow_mut().output;
            write_chunk_size(output.buffer(), data.len());
            output.add(data);
            output.buffer().extend_from_slice(b"\r\n");
        }
    }

    /// What is said from here on is another message.
    pub fn begin_message(&self) {
        self.0.borrow_mut().output.bytes_written = 0;
    }

    /// Whether any of it was written.
    pub fn has_written(&self) -> bool {
        self.written() > 0
    }

    /// How many bytes of it were written.
    pub fn written(&self) -> u64 {
        self.0.borrow().output.bytes_written
    }

    /// Whether more may be said before some of it is written.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.0.borrow().output.has_room()
    }

    pub fn has_output(&self) -> bool {
        !self.0.borrow().output.is_empty()
    }

    /// Ready once all that was said is written.
    #[inline]
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inner { conduit, output, .. } = &mut *self.0.borrow_mut();
        match conduit {
            Some(conduit) => output.poll_flush(cx, conduit),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Takes the connection; what was read too much is read again.
    pub fn take_conduit(&self) -> Option<Conduit> {
        let mut inner = self.0.borrow_mut();
        let mut conduit = inner.conduit.take()?;
        let input = inner.input.split().freeze();
        if !input.is_empty() {
            conduit.unread(input);
        }
        Some(conduit)
    }
}

impl Inner {
    #[inline]
    fn has_begun(&self) -> bool {
        self.input.iter().any(|byte| !b"\r\n".contains(byte))
    }

    fn poll_head<T>(
        &mut self,
        cx: &mut Context<'_>,
        scan: &mut Scan,
        bytes_max: usize,
        mut read: impl FnMut(&[u8], &mut Output) -> Result<T, Malformed>,
    ) -> Poll<Result<T, NoHead>> {
        loop {
            if !self.input.is_empty()
                && let Some(end) = scan.go_on(&self.input, bytes_max).map_err(NoHead::Malformed)?
            {
                let head = self.input.split_to(end);
                self.rest();
                return Poll::Ready(read(&head, &mut self.output).map_err(NoHead::Malformed));
            }
            if self.has_ended {
                return Poll::Ready(Err(NoHead::Ended { has_begun: self.has_begun() }));
            }
            let Inner { conduit: Some(conduit), input, output, has_ended, .. } = self else {
                return Poll::Ready(Err(NoHead::Ended { has_begun: false }));
            };
            let found = SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(conduit).poll_read(cx, &mut buf)).map_err(|_| NoHead::Broken)?;
                let bytes = buf.filled();
                *has_ended = bytes.is_empty();
                // Most heads come in one piece, and are read where they came.
                if input.is_empty()
                    && let Some(end) = scan.go_on(bytes, bytes_max).map_err(NoHead::Malformed)?
                {
                    let head = read(&bytes[..end], output).map_err(NoHead::Malformed)?;
                    if bytes.len() > end {
                        input.extend_from_slice(&bytes[end..]);
                    }
                    return Poll::Ready(Ok(Some(head)));
                }
                input.extend_from_slice(bytes);
                Poll::Ready(Ok(None))
            });
            if let Some(head) = ready!(found)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// Reads once. What is there afterwards may be nothing more: then the other end has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inner { conduit: Some(conduit), input, decoder, has_ended, .. } = self else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let expected = decoder.expected();
        if expected >= BULK {
            input.reserve(usize::try_from(expected).unwrap_or(READ_BYTES).min(READ_BYTES));
            let read = ready!(pin!(conduit.read_buf(input)).poll(cx))?;
            *has_ended = read == 0;
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(conduit).poll_read(cx, &mut buf))?;
            *has_ended = buf.filled().is_empty();
            input.extend_from_slice(buf.filled());
            Poll::Ready(Ok(()))
        })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyBroken>>> {
        loop {
            match self.decoder.decode(&mut self.input, OF_TRAILERS) {
                Ok(Some(piece)) => {
                    if self.decoder.is_done() {
                        self.end_body();
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) if self.decoder.is_done() => {
                    self.end_body();
                    return Poll::Ready(None);
                }
                Ok(None) if self.has_ended => {
                    let closed = self.decoder.on_close();
                    return Poll::Ready(closed.err().map(|_| Err(BodyBroken)));
                }
                Ok(None) => {}
                Err(_) => {
                    self.is_body_broken = true;
                    return Poll::Ready(Some(Err(BodyBroken)));
                }
            }
            if self.owes_continue {
                self.let_continue(cx);
            }
            if ready!(self.poll_fill(cx)).is_err() {
                return Poll::Ready(Some(Err(BodyBroken)));
            }
        }
    }

    /// Somebody wants the body.
    #[cold]
    fn let_continue(&mut self, cx: &mut Context<'_>) {
        self.owes_continue = false;
        self.output.buffer().extend_from_slice(CONTINUE);
        if let Some(conduit) = &mut self.conduit {
            // What does not go out now goes before the answer; a connection that breaks is seen when it is read.
            let _ = self.output.poll_flush(cx, conduit);
        }
    }

    /// All of it has come: who was to be given leave has not waited for it.
    #[inline]
    fn end_body(&mut self) {
        self.owes_continue = false;
        self.rest();
    }

    /// Between messages, what is empty needs no room.
    #[inline]
    fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }
}

/// The body of a message that comes by a link.
#[derive(Debug)]
pub struct Http1Body {
    link: Rc<Link>,
    message: u64,
}

impl Http1Body {
    pub fn is_malformed(&self) -> bool {
        self.link.is_body_broken()
    }

    fn is_over(&self, inner: &Inner) -> bool {
        inner.message != self.message || inner.decoder.is_done()
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = BodyBroken;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let mut inner = self.link.0.borrow_mut();
        if self.is_over(&inner) {
            return Poll::Ready(None);
        }
        let piece = ready!(inner.poll_piece(cx));
        Poll::Ready(piece.map(|piece| {
            piece.map(|piece| match piece {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.is_over(&self.link.0.borrow())
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        let inner = self.link.0.borrow();
        if inner.message != self.message {
            return SizeHint::with_exact(0);
        }
        inner.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
