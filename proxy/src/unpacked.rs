//! The body of an answer, read out of its content coding.
//!
//! What comes out is given on piece by piece. More than is allowed, or what is not in its coding, breaks the answer off:
//! its head has gone out by then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body::Frame;
use naru_base::Reason;
use naru_coding::{Coding, Decoder};
use naru_content::compress::Decode;
use naru_spec::ContentCoding;
use naru_spec::defaults::INFLATED_BYTES_FREE;

use crate::packed::CodingCounts;
use crate::settle::{Broken, Passage};
use crate::shaped::{Below, Polled};

/// So much comes out at a time.
const PIECE: usize = 16 * 1_024;
/// After so many pieces others have their turn.
const PIECES: u32 = 4;

/// Bytes on their way out of a coding, within bounds.
#[derive(Debug)]
pub struct Unpacker {
    decoder: Decoder,
    decode: Decode,
    input: Bytes,
    /// More may come out of what was taken in.
    has_more: bool,
    taken: u64,
    made: u64,
    /// Given since others had their turn.
    pieces: u32,
}

/// Why nothing more comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    TooMuch,
    Malformed,
}

impl Unpacker {
    pub fn new(decode: Decode) -> Unpacker {
        let coding = match decode.coding {
            ContentCoding::Gzip => Coding::Gzip,
            ContentCoding::Brotli => Coding::Brotli,
            ContentCoding::Zstd => Coding::Zstd,
        };
        Unpacker {
            decoder: Decoder::new(coding),
            decode,
            input: Bytes::new(),
            has_more: false,
            taken: 0,
            made: 0,
            pieces: 0,
        }
    }

    /// Takes what came, once nothing more comes out of what came before.
    pub fn take(&mut self, data: Bytes) {
        self.taken += data.len() as u64;
        self.input = data;
    }

    /// Whether more may come out before it takes in any more.
    pub fn goes_on(&self) -> bool {
        self.has_more || !self.input.is_empty()
    }

    /// Whether the body may end here. One of nothing at all is one in any coding.
    pub fn is_whole(&self) -> bool {
        self.decoder.is_whole() || self.taken == 0
    }

    pub fn drop_rest(&mut self) {
        self.input = Bytes::new();
        self.has_more = false;
    }

    /// Others are to have their turn first.
    pub fn rests(&mut self) -> bool {
        let rests = self.pieces == PIECES;
        if rests {
            self.pieces = 0;
        }
        rests
    }

    /// Nothing comes at the moment.
    pub fn wait(&mut self) {
        self.pieces = 0;
    }

    /// What comes out next, if anything does without more coming in.
    pub fn piece(&mut self) -> Result<Option<Bytes>, Wrong> {
        let mut room = vec![0; PIECE];
        let mut rest = &self.input[..];
        let filled = self.decoder.read(&mut rest, &mut room).map_err(|_| Wrong::Malformed)?;
        let taken = self.input.len() - rest.len();
        self.input.advance(taken);
        self.has_more = filled == PIECE;
        self.made += filled as u64;
        self.pieces += 1;
        let by_ratio = self.taken.saturating_mul(u64::from(self.decode.ratio_max)).max(INFLATED_BYTES_FREE);
        if self.made > self.decode.bytes_max || self.made > by_ratio {
            return Err(Wrong::TooMuch);
        }
        room.truncate(filled);
        Ok((filled > 0).then(|| Bytes::from(room)))
    }
}

/// The body of an answer on its way out of a coding.
#[derive(Debug)]
pub struct Unpacked {
    unpacker: Unpacker,
    coding: ContentCoding,
    counts: Arc<CodingCounts>,
    source_has_ended: bool,
    trailers: VecDeque<Frame<Bytes>>,
    has_finished: bool,
}

impl Unpacked {
    pub fn new(decode: Decode, counts: &Arc<CodingCounts>) -> Unpacked {
        counts.unpacked(decode.coding).bodies.fetch_add(1, Ordering::Relaxed);
        Unpacked {
            unpacker: Unpacker::new(decode),
            coding: decode.coding,
            counts: Arc::clone(counts),
            source_has_ended: false,
            trailers: VecDeque::new(),
            has_finished: false,
        }
    }

    /// Whether all has come out.
    pub fn is_done(&self) -> bool {
        self.has_finished && self.trailers.is_empty()
    }

    pub fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>, mut below: Below<'_>) -> Polled {
        loop {
            if self.has_finished {
                return Poll::Ready(self.trailers.pop_front().map(Ok));
            }
            if self.unpacker.goes_on() {
                if self.unpacker.rests() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.unpacker.piece() {
                    Ok(None) => continue,
                    Ok(Some(piece)) => {
                        let length = piece.len() as u64;
                        self.counts.unpacked(self.coding).given.fetch_add(length, Ordering::Relaxed);
                        // What has come out is what its client is sent.
                        passage.bytes_sent = self.unpacker.made;
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                    Err(wrong) => return self.spoil(passage, wrong),
                }
            }
            if self.source_has_ended {
                if !self.unpacker.is_whole() {
                    return self.spoil(passage, Wrong::Malformed);
                }
                self.has_finished = true;
                continue;
            }
            match below.poll(passage, cx) {
                Poll::Pending => {
                    self.unpacker.wait();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    passage.bytes_sent = self.unpacker.made;
                    self.source_has_ended = below.has_ended(passage);
                    match frame.into_data() {
                        Ok(data) => {
                            let length = data.len() as u64;
                            self.counts.unpacked(self.coding).taken.fetch_add(length, Ordering::Relaxed);
                            self.unpacker.take(data);
                        }
                        Err(trailers) => {
                            self.source_has_ended = true;
                            self.trailers.push_back(trailers);
                        }
                    }
                }
                Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                Poll::Ready(None) => self.source_has_ended = true,
            }
        }
    }

    fn spoil(&mut self, passage: &mut Passage, wrong: Wrong) -> Polled {
        let reason = match wrong {
            Wrong::TooMuch => Reason::AnswerInflatedTooLarge,
            Wrong::Malformed => Reason::AnswerCoding,
        };
        passage.journey.spoil(passage.worker.clock.now(), reason);
        // Nobody wants the rest of it.
        passage.response = None;
        self.unpacker.drop_rest();
        self.trailers.clear();
        self.has_finished = true;
        Poll::Ready(Some(Err(Broken)))
    }
}
