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
use crate::shaped::Polled;

/// So much is compressed in one turn.
const TURN: usize = 32 * 1_024;

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

impl Packed {
    pub fn new(coder: &Coder, counts: &Arc<CodingCounts>) -> Packed {
        let encoder = match *coder {
            Coder::Gzip { level, window_bits } => Encoder::gzip(level, window_bits),
            Coder::Brotli { quality, window_bits } => Encoder::brotli(quality, window_bits),
            Coder::Zstd { level, has_checksum } => {
                Encoder::zstd(i32::try_from(level).unwrap_or(i32::MAX), ZSTD_WINDOW_BITS, has_checksum)
            }
        };
        let coding = coder.coding();
        counts.of(coding).answers.fetch_add(1, Ordering::Relaxed);
        Packed {
            encoder,
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

    pub fn poll(
        &mut self,
        passage: &mut Passage,
        cx: &mut Context<'_>,
        mut poll_source: impl FnMut(&mut Passage, &mut Context<'_>) -> Polled,
    ) -> Polled {
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
                match poll_source(passage, cx) {
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
                        self.source_has_ended = passage.journey.has_ended();
                        match frame.into_data() {
                            Ok(data) => {
                                self.turn += data.len();
                                self.is_held_back = true;
                                self.counts
                                    .of(self.coding)
                                    .taken
                                    .fetch_add(data.len() as u64, Ordering::Relaxed);
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
                self.counts.of(self.coding).given.fetch_add(out.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

/// What was compressed, of all workers.
#[derive(Debug, Default)]
pub struct CodingCounts([CodingCount; 3]);

#[derive(Debug, Default)]
struct CodingCount {
    answers: AtomicU64,
    taken: AtomicU64,
    given: AtomicU64,
}

/// What was compressed in one coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingStatus {
    pub coding: &'static str,
    pub answers: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl CodingCounts {
    fn of(&self, coding: ContentCoding) -> &CodingCount {
        let [gzip, brotli, zstd] = &self.0;
        match coding {
            ContentCoding::Gzip => gzip,
            ContentCoding::Brotli => brotli,
            ContentCoding::Zstd => zstd,
        }
    }

    pub fn status(&self) -> Vec<CodingStatus> {
        let all = ContentCoding::ALL.into_iter().map(|coding| {
            let count = self.of(coding);
            CodingStatus {
                coding: coding.name(),
                answers: count.answers.load(Ordering::Relaxed),
                bytes_before: count.taken.load(Ordering::Relaxed),
                bytes_after: count.given.load(Ordering::Relaxed),
            }
        });
        all.collect()
    }
}
