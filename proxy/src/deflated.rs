//! The body of a request, on its way into a content coding.
//!
//! As with answers, what was taken in is given out as soon as nothing more comes at once, and after so many bytes others
//! have their turn. How large the body may be is asked of what its client sends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http_body::Body as _;
use naru_base::Reason;
use naru_spec::{Coder, ContentCoding};

use crate::codec::{BodyBroken, InBody};
use crate::packed::{CodingCounts, Halt, Pump};
use crate::upload::NextFrame;

#[derive(Debug)]
pub struct Deflated {
    inner: InBody,
    /// Read before it was known that it comes into a coding.
    ahead: VecDeque<NextFrame>,
    pump: Pump,
    coding: ContentCoding,
    counts: Arc<CodingCounts>,
    /// So much more may its client send.
    left: u64,
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
            pump: Pump::new(coder),
            coding,
            counts: Arc::clone(counts),
            left: bytes_max,
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
        self.pump.is_done()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let Deflated { inner, ahead, left, .. } = self;
        let polled = self.pump.poll(cx, self.counts.requests(self.coding), |cx| {
            let next = match ahead.pop_front() {
                Some(next) => Poll::Ready(next),
                None => Pin::new(&mut *inner).poll_frame(cx),
            };
            next.map(|next| {
                next.map(|read| {
                    let frame = read.map_err(|_| None)?;
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    *left = left.checked_sub(length).ok_or(Some(Reason::BodyTooLarge))?;
                    Ok((frame, false))
                })
            })
        });
        polled.map_err(|halt| {
            let reason = match halt {
                Halt::Source(reason) => reason,
                Halt::Coding => Some(Reason::BodyCoding),
            };
            if let Some(reason) = reason {
                self.refused = Some(reason);
                self.pump.end();
            }
            BodyBroken
        })
    }
}
