//! What a peer may have us do for nothing.
//!
//! Each frame costs something, whatever it says. Those that carry requests, bodies and answers pay for a few of
//! the others; a peer that sends more of the others than that is not one that wants an answer.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::{Allowance, Http2Limits};

/// For what a connection is closed that breaks no rule of the protocol, or breaks one too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abuse {
    /// Requests that are begun to be cancelled (CVE-2023-44487).
    Resets,
    /// Streams that we have to reset: malformed, or made so after they were fine (CVE-2025-8671).
    Mistakes,
    Pings,
    Settings,
    Priorities,
    WindowUpdates,
    /// DATA without data.
    EmptyFrames,
    /// A header block in more frames than it needs (VU#421644).
    Continuations,
    /// A list that is many times what it may be, once it is uncompressed.
    HeaderBomb,
    /// Types that nobody knows.
    UnknownFrames,
    /// A header block, a frame or the beginning of the connection that does not come to its end.
    SlowHeaders,
    /// Nothing is taken of what waits.
    SlowReader,
}

impl Abuse {
    pub const ALL: [Abuse; 12] = [
        Abuse::Resets,
        Abuse::Mistakes,
        Abuse::Pings,
        Abuse::Settings,
        Abuse::Priorities,
        Abuse::WindowUpdates,
        Abuse::EmptyFrames,
        Abuse::Continuations,
        Abuse::HeaderBomb,
        Abuse::UnknownFrames,
        Abuse::SlowHeaders,
        Abuse::SlowReader,
    ];

    /// As metrics say it.
    pub fn name(self) -> &'static str {
        match self {
            Abuse::Resets => "resets",
            Abuse::Mistakes => "mistakes",
            Abuse::Pings => "pings",
            Abuse::Settings => "settings",
            Abuse::Priorities => "priorities",
            Abuse::WindowUpdates => "window_updates",
            Abuse::EmptyFrames => "empty_frames",
            Abuse::Continuations => "continuations",
            Abuse::HeaderBomb => "header_bomb",
            Abuse::UnknownFrames => "unknown_frames",
            Abuse::SlowHeaders => "slow_headers",
            Abuse::SlowReader => "slow_reader",
        }
    }
}

/// So much at once, and so much each second.
#[derive(Clone, Copy, Debug)]
struct Left {
    left: u32,
    max: u32,
    per_second: u32,
    filled: Instant,
}

impl Left {
    fn new(now: Instant, allowed: Allowance) -> Left {
        let Allowance { burst, per_second } = allowed;
        Left { left: burst, max: burst, per_second, filled: now }
    }

    fn take(&mut self, now: Instant, cost: u32) -> bool {
        if self.left < cost {
            let passed = now.since(self.filled).min(Duration::from_secs(3_600));
            let grown = passed.as_millis() * u128::from(self.per_second) / 1_000;
            if grown > 0 {
                self.give(u32::try_from(grown).unwrap_or(u32::MAX));
                self.filled = now;
            }
        }
        let is_there = self.left >= cost;
        self.left = self.left.saturating_sub(cost);
        is_there
    }

    fn give(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.max);
    }
}

#[derive(Debug)]
pub struct Guard {
    frames: Left,
    frames_per_useful: u32,
    resets: Left,
    mistakes: Left,
}

impl Guard {
    pub fn new(now: Instant, limits: &Http2Limits) -> Guard {
        Guard {
            frames: Left::new(now, limits.frames),
            frames_per_useful: limits.frames_per_useful,
            resets: Left::new(now, limits.resets),
            mistakes: Left::new(now, limits.mistakes),
        }
    }

    /// A frame that carried something, either way.
    #[inline]
    pub fn on_useful(&mut self) {
        self.frames.give(self.frames_per_useful);
    }

    /// A stream came to its end.
    #[inline]
    pub fn on_answered(&mut self) {
        self.resets.give(1);
    }

    /// # Errors
    /// It is one too many.
    #[inline]
    pub fn on(&mut self, now: Instant, what: Abuse) -> Result<(), Abuse> {
        let is_allowed = match what {
            Abuse::Resets => self.resets.take(now, 1),
            Abuse::Mistakes => self.mistakes.take(now, 1),
            // Each is answered, and changes something.
            Abuse::Settings | Abuse::EmptyFrames => self.frames.take(now, 10),
            _ => self.frames.take(now, 1),
        };
        if is_allowed { Ok(()) } else { Err(what) }
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::defaults::{
        HTTP2_FRAMES_BURST, HTTP2_FRAMES_PER_SECOND, HTTP2_FRAMES_PER_USEFUL, HTTP2_MISTAKES_BURST,
        HTTP2_RESETS_BURST,
    };

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// How many in a row are let through.
    fn taken(guard: &mut Guard, now: Instant, what: Abuse) -> u32 {
        (0..).find(|_| guard.on(now, what).is_err()).unwrap()
    }

    #[test]
    fn what_is_more_than_a_burst_is_told_by_its_name() {
        let mut guard = Guard::new(at(0), &Http2Limits::default());
        assert_eq!(taken(&mut guard, at(0), Abuse::Pings), HTTP2_FRAMES_BURST);
        assert_eq!(guard.on(at(0), Abuse::Priorities), Err(Abuse::Priorities));
        assert_eq!(taken(&mut guard, at(0), Abuse::Resets), HTTP2_RESETS_BURST);
        assert_eq!(taken(&mut guard, at(0), Abuse::Mistakes), HTTP2_MISTAKES_BURST);
    }

    #[test]
    fn an_allowance_grows_with_time_and_never_over_its_burst() {
        let mut guard = Guard::new(at(0), &Http2Limits::default());
        taken(&mut guard, at(0), Abuse::Pings);
        assert_eq!(taken(&mut guard, at(1_000), Abuse::Pings), HTTP2_FRAMES_PER_SECOND);
        assert_eq!(taken(&mut guard, at(10_000_000), Abuse::Pings), HTTP2_FRAMES_BURST);
        // A rate that is allowed goes on for ever.
        let step = 1_000 / u64::from(HTTP2_FRAMES_PER_SECOND);
        for turn in 0..100_000 {
            assert_eq!(guard.on(at(10_001_000 + turn * step), Abuse::Pings), Ok(()), "{turn}");
        }
    }

    #[test]
    fn what_carries_something_pays_for_others() {
        let mut guard = Guard::new(at(0), &Http2Limits::default());
        for _ in 0..100_000 {
            guard.on_useful();
            for _ in 0..HTTP2_FRAMES_PER_USEFUL {
                assert_eq!(guard.on(at(0), Abuse::WindowUpdates), Ok(()));
            }
            guard.on_answered();
            assert_eq!(guard.on(at(0), Abuse::Resets), Ok(()));
        }
    }
}
