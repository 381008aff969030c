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
pub const TURN: usize = 32 * 1_024;

#[derive(Debug)]
pub struct Packed {
    encoder: Encoder,
    coding: ContentCoding,
    counts: Arc<CodingCounts>,
    /// Something was taken in that may not have come out yet.
    is_held_back: bool,
    /// Taken in since others had their turn.
    turn: usize,
    source_has_ended: bool,
    trailers: Option<Frame<Bytes>>,
    has_finished: bool,
    given: u64,
}

pub fn encoder(coder: &Coder) -> Encoder {
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
        Packed {
            encoder: encoder(coder),
            coding,
            counts: Arc::clone(counts),
            is_held_back: false,
            turn: 0,
            source_has_ended: false,
            trailers: None,
            has_finished: false,
            given: 0,
        }
    }

    /// Whether all has come out.
    pub fn is_done(&self) -> bool {
        self.has_finished && self.trailers.is_none()
    }

    pub fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>, mut below: Below<'_>) -> Polled {
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
                match below.poll(passage, cx) {
                    Poll::Pending if std::mem::take(&mut self.is_held_back) => {
                        self.encoder.flush(&mut out);
                        if out.is_empty() && !self.encoder.is_broken() {
                            return Poll::Pending;
                        }
                    }
                    Poll::Pending => {
                        self.turn = 0;
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        self.source_has_ended = below.has_ended(passage);
                        match frame.into_data() {
                            Ok(data) => {
                                self.turn += data.len();
                                self.is_held_back = true;
                                let taken = &self.counts.answers(self.coding).taken;
                                taken.fetch_add(data.len() as u64, Ordering::Relaxed);
                                self.encoder.write(&data, &mut out);
                            }
                            Err(trailers) => {
                                self.source_has_ended = true;
                                self.trailers = Some(trailers);
                            }
                        }
                    }
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                    Poll::Ready(None) => self.source_has_ended = true,
                }
            }
            // What it has sent is what its client is sent.
            self.given += out.len() as u64;
            passage.bytes_sent = self.given;
            if self.encoder.is_broken() {
                self.has_finished = true;
                self.trailers = None;
                return Poll::Ready(Some(Err(Broken)));
            }
            if !out.is_empty() {
                self.counts.answers(self.coding).given.fetch_add(out.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
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
