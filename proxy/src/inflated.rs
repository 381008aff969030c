//! The body of a request, read out of its content coding.
//!
//! What comes out is as much as whoever reads it has room for, piece by piece; more than is allowed, and the request is
//! refused. A bomb costs a piece and a window of memory, and the time for as much as is allowed to come out of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame};
use naru_base::Reason;
use naru_coding::{Coding, Decoder};
use naru_journey::gate::bodies::Decode;
use naru_spec::ContentCoding;
use naru_spec::defaults::INFLATED_BYTES_FREE;

use crate::codec::{BodyBroken, InBody};
use crate::upload::NextFrame;

/// So much comes out at a time.
const PIECE: usize = 16 * 1_024;
/// After so many pieces others have their turn.
const PIECES: u32 = 4;

#[derive(Debug)]
pub struct Inflated {
    inner: InBody,
    /// Read before it was known that it is in a coding.
    ahead: VecDeque<NextFrame>,
    decoder: Decoder,
    decode: Decode,
    input: Bytes,
    /// More may come out of what was taken in.
    has_more: bool,
    taken: u64,
    made: u64,
    pieces: u32,
    refused: Option<Reason>,
}

impl Inflated {
    pub fn new(inner: InBody, ahead: VecDeque<NextFrame>, decode: Decode) -> Inflated {
        let coding = match decode.coding {
            ContentCoding::Gzip => Coding::Gzip,
            ContentCoding::Brotli => Coding::Brotli,
            ContentCoding::Zstd => Coding::Zstd,
        };
        Inflated {
            inner,
            ahead,
            decoder: Decoder::new(coding),
            decode,
            input: Bytes::new(),
            has_more: false,
            taken: 0,
            made: 0,
            pieces: 0,
            refused: None,
        }
    }

    /// Why it broke off, where that is not for its sender.
    pub fn refused(&self) -> Option<Reason> {
        // Its framing goes first.
        self.refused.filter(|_| !self.inner.is_malformed())
    }

    pub fn is_end_stream(&self) -> bool {
        let is_out = self.input.is_empty() && !self.has_more && self.ahead.is_empty();
        is_out && self.inner.is_end_stream() && (self.decoder.is_whole() || self.taken == 0)
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        loop {
            if self.has_more || !self.input.is_empty() {
                if self.pieces == PIECES {
                    self.pieces = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.piece() {
                    Ok(None) => continue,
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    Err(reason) => return self.refuse(reason),
                }
            }
            self.pieces = 0;
            let next = match self.ahead.pop_front() {
                Some(next) => next,
                None => ready!(Pin::new(&mut self.inner).poll_frame(cx)),
            };
            // A body of nothing at all is one in any coding.
            let is_whole = self.decoder.is_whole() || self.taken == 0;
            let frame = match next.transpose()? {
                Some(frame) => frame,
                None if is_whole => return Poll::Ready(None),
                None => return self.refuse(Reason::BodyCoding),
            };
            match frame.into_data() {
                Ok(data) => {
                    self.taken += data.len() as u64;
                    self.input = data;
                }
                Err(trailers) if is_whole => return Poll::Ready(Some(Ok(trailers))),
                Err(_) => return self.refuse(Reason::BodyCoding),
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Bytes>, Reason> {
        let mut room = vec![0; PIECE];
        let mut rest = &self.input[..];
        let filled = self.decoder.read(&mut rest, &mut room).map_err(|_| Reason::BodyCoding)?;
        let taken = self.input.len() - rest.len();
        self.input.advance(taken);
        self.has_more = filled == PIECE;
        self.made += filled as u64;
        self.pieces += 1;
        let by_ratio = self.taken.saturating_mul(u64::from(self.decode.ratio_max)).max(INFLATED_BYTES_FREE);
        if self.made > self.decode.bytes_max || self.made > by_ratio {
            return Err(Reason::InflatedTooLarge);
        }
        room.truncate(filled);
        Ok((filled > 0).then(|| Bytes::from(room)))
    }

    fn refuse(&mut self, reason: Reason) -> Poll<NextFrame> {
        self.refused = Some(reason);
        self.input = Bytes::new();
        self.has_more = false;
        Poll::Ready(Some(Err(BodyBroken)))
    }
}
