//! Bodies on their way into a content coding.
//!
//! A body is compressed as it comes. What was taken in is given out as soon as nothing more comes at once, so that an
//! answer that is sent piece by piece (`text/event-stream`) arrives piece by piece. After so many bytes others have
//! their turn: who compresses much delays nobody for longer than that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use naru_coding::Encoder;
use naru_spec::defaults::ZSTD_WINDOW_BITS;
use naru_spec::{Coder, ContentCoding};

use crate::settle::{Broken, Passage};
use crate::shaped::{Below, Polled};

/// So much is compressed in one turn.
const TURN: usize = 32 * 1_024;

/// Takes a body in piece by piece, and gives out what it becomes in its coding.
#[derive(Debug)]
pub struct Pump {
    encoder: Encoder,
    /// Something was taken in that may not have come out yet.
    is_held_back: bool,
    /// Taken in since others had their turn.
    turn: usize,
    source_has_ended: bool,
    trailers: Option<Frame<Bytes>>,
    has_finished: bool,
}

/// A piece of a body, and whether it is known to be the last.
pub type Piece = (Frame<Bytes>, bool);

/// Why nothing more comes out.
#[derive(Debug)]
pub enum Halt<E> {
    Source(E),
    Coding,
}

impl Pump {
    pub fn new(coder: &Coder) -> Pump {
        Pump {
            encoder: encoder(coder),
            is_held_back: false,
            turn: 0,
            source_has_ended: false,
            trailers: None,
            has_finished: false,
        }
    }

    /// Whether all has come out.
    pub fn is_done(&self) -> bool {
        self.has_finished && self.trailers.is_none()
    }

    /// Nothing more comes out.
    pub fn end(&mut self) {
        self.has_finished = true;
        self.trailers = None;
    }

    /// `next` gives a piece of the body.
    pub fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        count: &CodingCount,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Piece, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, Halt<E>>>> {
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
                match next(cx) {
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
                    Poll::Ready(Some(Ok((frame, is_last)))) => {
                        self.source_has_ended = is_last;
                        match frame.into_data() {
                            Ok(data) => {
                                self.turn += data.len();
                                self.is_held_back = true;
                                count.taken.fetch_add(data.len() as u64, Ordering::Relaxed);
                                self.encoder.write(&data, &mut out);
                            }
                            Err(trailers) => {
                                self.source_has_ended = true;
                                self.trailers = Some(trailers);
                            }
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Halt::Source(error)))),
                    Poll::Ready(None) => self.source_has_ended = true,
                }
            }
            if self.encoder.is_broken() {
                self.end();
                return Poll::Ready(Some(Err(Halt::Coding)));
            }
            if !out.is_empty() {
                count.given.fetch_add(out.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct Packed {
    pump: Pump,
    coding: ContentCoding,
    counts: Arc<CodingCounts>,
    given: u64,
}

fn encoder(coder: &Coder) -> Encoder {
    match *coder {
        Coder::Gzip { level, window_bits } => Encoder::gzip(level, window_bits),
        Coder::Brotli { quality, window_bits } => Encoder::brotli(quality, window_bits),
        Coder::Zstd { level, has_checksum } => {
            Encoder::zstd(i32::try_from(level).unwrap_or(i32::MAX), ZSTD_WINDOW_BITS, has_checksum)
        }
    }
}

impl Packed {
    pub fn new(coder: &Coder, counts: &Arc<CodingCounts>) -> Packed {
        let coding = coder.coding();
        counts.answers(coding).bodies.fetch_add(1, Ordering::Relaxed);
        Packed { pump: Pump::new(coder), coding, counts: Arc::clone(counts), given: 0 }
    }

    /// Whether all has come out.
    pub fn is_done(&self) -> bool {
        self.pump.is_done()
    }

    pub fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>, mut below: Below<'_>) -> Polled {
        let polled = self.pump.poll(cx, self.counts.answers(self.coding), |cx| {
            below.poll(passage, cx).map_ok(|frame| (frame, below.has_ended(passage)))
        });
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        // What it has sent is what its client is sent.
        passage.bytes_sent = self.given;
        polled.map_err(|halt| match halt {
            Halt::Source(broken) => broken,
            Halt::Coding => Broken,
        })
    }
}

/// What came into codings and out of them, of all workers.
#[derive(Debug, Default)]
pub struct CodingCounts {
    answers: [CodingCount; 3],
    requests: [CodingCount; 3],
    unpacked: [CodingCount; 3],
}

#[derive(Debug, Default)]
pub struct CodingCount {
    pub bodies: AtomicU64,
    pub taken: AtomicU64,
    pub given: AtomicU64,
}

/// What was done in one coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingStatus {
    pub coding: &'static str,
    /// Answers that were compressed.
    pub answers: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Requests that were compressed.
    pub requests: Coded,
    /// Answers that were read out of it.
    pub unpacked: Coded,
}

/// So many bodies, with so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded {
    pub bodies: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl CodingCount {
    fn status(&self) -> Coded {
        Coded {
            bodies: self.bodies.load(Ordering::Relaxed),
            bytes_before: self.taken.load(Ordering::Relaxed),
            bytes_after: self.given.load(Ordering::Relaxed),
        }
    }
}

fn of(counts: &[CodingCount; 3], coding: ContentCoding) -> &CodingCount {
    let [gzip, brotli, zstd] = counts;
    match coding {
        ContentCoding::Gzip => gzip,
        ContentCoding::Brotli => brotli,
        ContentCoding::Zstd => zstd,
    }
}

impl CodingCounts {
    fn answers(&self, coding: ContentCoding) -> &CodingCount {
        of(&self.answers, coding)
    }

    pub fn requests(&self, coding: ContentCoding) -> &CodingCount {
        of(&self.requests, coding)
    }

    pub fn unpacked(&self, coding: ContentCoding) -> &CodingCount {
        of(&self.unpacked, coding)
    }

    pub fn status(&self) -> Vec<CodingStatus> {
        let all = ContentCoding::ALL.into_iter().map(|coding| {
            let answers = self.answers(coding).status();
            CodingStatus {
                coding: coding.name(),
                answers: answers.bodies,
                bytes_before: answers.bytes_before,
                bytes_after: answers.bytes_after,
                requests: self.requests(coding).status(),
                unpacked: self.unpacked(coding).status(),
            }
        });
        all.collect()
    }
}
