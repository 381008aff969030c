//! A stream that is read: bytes come in, frames go out.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use quinn::RecvStream;
use tokio::io::AsyncReadExt as _;

use super::frame::{Code, FrameHead, Kind};
use super::server::Link;
use crate::codec::http2::guard::Abuse;

/// So much is read at once.
const READ_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub struct Source {
    recv: RecvStream,
    link: Rc<Link>,
    input: BytesMut,
    /// Of the frame that is read: what is still to come of it, and whether it is passed over.
    left: u64,
    is_skipped: bool,
    has_ended: bool,
}

/// Nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client has reset the stream, or is gone.
    Gone,
    /// The connection is closed for what stands here.
    Closed,
}

impl Source {
    pub fn new(recv: RecvStream, link: &Rc<Link>) -> Source {
        Source {
            recv,
            link: Rc::clone(link),
            input: BytesMut::new(),
            left: 0,
            is_skipped: false,
            has_ended: false,
        }
    }

    pub fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// Whether all of it was read.
    pub fn has_ended(&self) -> bool {
        self.has_ended && self.input.is_empty() && self.left == 0
    }

    /// Looks whether it ends here; what comes instead is kept.
    pub fn peek_end(&mut self, cx: &mut Context<'_>) -> bool {
        if self.input.is_empty() && !self.has_ended {
            // Whatever is wrong is found by whoever reads on.
            let _ = self.poll_fill(cx);
        }
        self.has_ended()
    }

    /// Reads more. `false` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        if self.has_ended {
            return Poll::Ready(Ok(false));
        }
        self.input.reserve(READ_BYTES);
        let read = ready!(pin!(self.recv.read_buf(&mut self.input)).poll(cx));
        Poll::Ready(match read {
            Ok(0) => {
                self.has_ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(_) => Err(Broken::Gone),
        })
    }

    /// The next frame that is not passed over. `None` at the end of the stream.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FrameHead, Broken>>> {
        loop {
            if self.is_skipped {
                ready!(self.poll_skip(cx))?;
            }
            if let Some(head) = FrameHead::take(&mut self.input) {
                self.left = head.length;
                if head.kind == Kind::Unknown {
                    self.link.guard(Abuse::UnknownFrames).map_err(|()| Broken::Closed)?;
                    self.is_skipped = true;
                    continue;
                }
                return Poll::Ready(Some(Ok(head)));
            }
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(match self.input.is_empty() {
                    true => None,
                    false => Some(Err(self.fail(Code::FRAME_ERROR))),
                });
            }
        }
    }

    fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while ready!(self.poll_piece(cx))?.is_some() {}
        self.is_skipped = false;
        Poll::Ready(Ok(()))
    }

    /// Some of the frame's payload. `None` once all of it was read.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        if self.input.is_empty() && !ready!(self.poll_fill(cx))? {
            return Poll::Ready(Err(self.fail(Code::FRAME_ERROR)));
        }
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.input.len());
        self.left -= taken as u64;
        Poll::Ready(Ok(Some(self.input.split_to(taken).freeze())))
    }

    /// All of the frame's payload, which whoever asks has found to be small enough.
    pub fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX);
        while self.input.len() < length {
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Err(self.fail(Code::FRAME_ERROR)));
            }
        }
        self.left = 0;
        Poll::Ready(Ok(self.input.split_to(length).freeze()))
    }

    /// Bytes of a stream that has no frames. `None` at its end.
    pub fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let has_more = ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(has_more.then(|| self.input.split().freeze())))
    }

    /// Closes the connection.
    pub fn fail(&self, code: Code) -> Broken {
        self.link.fail(code);
        Broken::Closed
    }

    /// The client need not send the rest.
    pub fn stop(&mut self, code: Code) {
        // One that has ended needs none.
        let _ = self.recv.stop(code.number());
        self.has_ended = true;
        self.input = BytesMut::new();
        self.left = 0;
        self.is_skipped = false;
    }
}
