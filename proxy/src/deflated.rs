//! The body of a request, on its way into a content coding.
//!
//! As with answers, what was taken in is given out as soon as nothing more comes at once, and after so many bytes others
//! have their turn. How large the body may be is asked of what its client sends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use naru_base::Reason;
use naru_coding::Encoder;
use naru_spec::{Coder, ContentCoding};

use crate::codec::{BodyBroken, InBody};
use crate::packed::{CodingCounts, TURN, encoder};
use crate::upload::NextFrame;

#[derive(Debug)]
pub struct Deflated {
    inner: InBody,
    /// Read before it was known that it comes into a coding.
    ahead: VecDeque<NextFrame>,
    encoder: Encoder,
    coding: ContentCoding,
    counts: Arc<CodingCounts>,
    /// So much more may its client send.
    left: u64,
    /// Something was taken in that may not have come out yet.
    is_held_back: bool,
    /// Taken in since others had their turn.
    turn: usize,
    source_has_ended: bool,
    trailers: Option<Frame<Bytes>>,
    has_finished: bool,
    refused: Option<Reason>,
}

impl Deflated {
    pub fn new(
        inner: InBody,
        ahead: VecDeque<NextFrame>,
        coder: &Coder,
        bytes_max: u64,
        counts: &Arc<CodingCounts>,
    ) -> Deflated {
        let coding = coder.coding();
        counts.requests(coding).bodies.fetch_add(1, Ordering::Relaxed);
        Deflated {
            inner,
            ahead,
            encoder: encoder(coder),
            coding,
            counts: Arc::clone(counts),
            left: bytes_max,
            is_held_back: false,
            turn: 0,
            source_has_ended: false,
            trailers: None,
            has_finished: false,
            refused: None,
        }
    }

    /// Why it broke off, where that is not for its sender.
    pub fn refused(&self) -> Option<Reason> {
        self.refused.or_else(|| self.inner.refused())
    }

    pub fn is_malformed(&self) -> bool {
        self.inner.is_malformed()
    }

    pub fn is_end_stream(&self) -> bool {
        self.has_finished && self.trailers.is_none()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        loop {
            if self.has_finished {
                return Poll::Ready(self.trailers.take().map(Ok));
            }
            let mut out = Vec::new();
            if self.source_has_ended {
                self.encoder.finish(&mut out);
                self.has_finished = true;
            } else if self.turn >= TURN {
                self.turn = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            } else {
                let next = match self.ahead.pop_front() {
                    Some(next) => Poll::Ready(next),
                    None => Pin::new(&mut self.inner).poll_frame(cx),
                };
                match next {
                    Poll::Pending if std::mem::take(&mut self.is_held_back) => {
                        self.encoder.flush(&mut out);
                        if out.is_empty() && !self.encoder.is_broken() {
                            self.turn = 0;
                            return Poll::Pending;
                        }
                    }
                    Poll::Pending => {
                        self.turn = 0;
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            let length = data.len() as u64;
                            let Some(left) = self.left.checked_sub(length) else {
                                return self.refuse(Reason::BodyTooLarge);
                            };
                            self.left = left;
                            self.turn += data.len();
                            self.is_held_back = true;
                            self.counts.requests(self.coding).taken.fetch_add(length, Ordering::Relaxed);
                            self.encoder.write(&data, &mut out);
                        }
                        Err(trailers) => {
                            self.source_has_ended = true;
                            self.trailers = Some(trailers);
                        }
                    },
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                    Poll::Ready(None) => self.source_has_ended = true,
                }
            }
            if self.encoder.is_broken() {
                return self.refuse(Reason::BodyCoding);
            }
            if !out.is_empty() {
                let given = &self.counts.requests(self.coding).given;
                given.fetch_add(out.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }

    fn refuse(&mut self, reason: Reason) -> Poll<NextFrame> {
        self.refused = Some(reason);
        self.trailers = None;
        self.has_finished = true;
        Poll::Ready(Some(Err(BodyBroken)))
    }
}
