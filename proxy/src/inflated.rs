//! The body of a request, read out of its content coding.
//!
//! What comes out is as much as whoever reads it has room for, piece by piece; more than is allowed, and the request is
//! refused. A bomb costs a piece and a window of memory, and the time for as much as is allowed to come out of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body as _, Frame};
use naru_base::Reason;
use naru_content::compress::Decode;

use crate::codec::{BodyBroken, InBody};
use crate::unpacked::{Unpacker, Wrong};
use crate::upload::NextFrame;

#[derive(Debug)]
pub struct Inflated {
    inner: InBody,
    /// Read before it was known that it is in a coding.
    ahead: VecDeque<NextFrame>,
    unpacker: Unpacker,
    refused: Option<Reason>,
}

impl Inflated {
    pub fn new(inner: InBody, ahead: VecDeque<NextFrame>, decode: Decode) -> Inflated {
        Inflated { inner, ahead, unpacker: Unpacker::new(decode), refused: None }
    }

    /// Why it broke off, where that is not for its sender.
    pub fn refused(&self) -> Option<Reason> {
        // Its framing goes first.
        self.refused.filter(|_| !self.inner.is_malformed())
    }

    pub fn is_end_stream(&self) -> bool {
        let is_out = !self.unpacker.goes_on() && self.ahead.is_empty();
        is_out && self.inner.is_end_stream() && self.unpacker.is_whole()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        loop {
            if self.unpacker.goes_on() {
                if self.unpacker.rests() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.unpacker.piece() {
                    Ok(None) => continue,
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    Err(wrong) => return self.refuse(wrong),
                }
            }
            self.unpacker.wait();
            let next = match self.ahead.pop_front() {
                Some(next) => next,
                None => ready!(Pin::new(&mut self.inner).poll_frame(cx)),
            };
            let is_whole = self.unpacker.is_whole();
            let frame = match next.transpose()? {
                Some(frame) => frame,
                None if is_whole => return Poll::Ready(None),
                None => return self.refuse(Wrong::Malformed),
            };
            match frame.into_data() {
                Ok(data) => self.unpacker.take(data),
                Err(trailers) if is_whole => return Poll::Ready(Some(Ok(trailers))),
                Err(_) => return self.refuse(Wrong::Malformed),
            }
        }
    }

    fn refuse(&mut self, wrong: Wrong) -> Poll<NextFrame> {
        self.refused = Some(match wrong {
            Wrong::TooMuch => Reason::InflatedTooLarge,
            Wrong::Malformed => Reason::BodyCoding,
        });
        self.unpacker.drop_rest();
        Poll::Ready(Some(Err(BodyBroken)))
    }
}
