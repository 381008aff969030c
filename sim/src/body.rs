//! A body as it comes over time, a client's or an upstream's. Only its milestones are simulated.

use std::time::Duration;

/// A part for each so many bytes, where a body does not say how many it has.
const PART_BYTES: u64 = 16 * 1024;
const PARTS_MAX: u32 = 16;

/// A body in equal parts at equal distances, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// What is sent of it; less than was meant to be where it breaks off.
    pub bytes: u64,
    /// From the head to the last part.
    pub over: Duration,
    pub parts: u32,
    pub end: BodyEnd,
    /// From the last part to what follows it.
    pub end_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The last part says that it is the last.
    Plain,
    /// Trailers follow the last part; `grpc_status` where they hold one.
    Trailers { grpc_status: Option<u8> },
    /// It breaks off after the last part.
    Broken,
    /// Nothing follows, not even an end.
    Silent,
}

impl Body {
    pub const EMPTY: Body =
        Body { bytes: 0, over: Duration::ZERO, parts: 0, end: BodyEnd::Plain, end_after: Duration::ZERO };

    /// All at once where `over` is zero.
    pub fn new(bytes: u64, over: Duration) -> Body {
        let parts = if bytes == 0 {
            0
        } else if over.is_zero() {
            1
        } else {
            u32::try_from(bytes / PART_BYTES).unwrap_or(PARTS_MAX).clamp(1, PARTS_MAX)
        };
        Body { bytes, over, parts, ..Body::EMPTY }
    }

    pub fn ending(self, end: BodyEnd) -> Body {
        Body { end, ..self }
    }

    /// What follows the last part comes so much later.
    pub fn ending_after(self, end: BodyEnd, end_after: Duration) -> Body {
        Body { end, end_after, ..self }
    }

    /// In this many parts, if there are bytes at all.
    pub fn in_parts(self, parts: u32) -> Body {
        Body { parts: if self.bytes == 0 { 0 } else { parts.max(1) }, ..self }
    }

    /// As much of it as `parts` make up, then `end`.
    pub fn cut(self, parts: u32, end: BodyEnd) -> Body {
        let parts = parts.min(self.parts);
        Body { bytes: self.bytes_upto(parts), over: self.at(parts), parts, end, end_after: Duration::ZERO }
    }

    /// Whether the head is already the whole message.
    pub fn is_empty(&self) -> bool {
        self.parts == 0 && self.end == BodyEnd::Plain
    }

    /// When part `number`, counted from 1, is there.
    pub fn at(&self, number: u32) -> Duration {
        if self.parts == 0 {
            return Duration::ZERO;
        }
        let nanos = self.over.as_nanos() * u128::from(number) / u128::from(self.parts);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// From part `number - 1` to part `number`.
    pub fn gap_before(&self, number: u32) -> Duration {
        self.at(number) - self.at(number.saturating_sub(1))
    }

    /// All bytes up to and with part `number`.
    pub fn bytes_upto(&self, number: u32) -> u64 {
        if self.parts == 0 {
            return 0;
        }
        let bytes = u128::from(self.bytes) * u128::from(number) / u128::from(self.parts);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let body = Body::new(100, Duration::from_nanos(10)).in_parts(3);
        assert_eq!([1, 2, 3].map(|part| body.bytes_upto(part)), [33, 66, 100]);
        assert_eq!((1..=3).map(|part| body.gap_before(part)).sum::<Duration>(), body.over);
        assert_eq!(body.cut(2, BodyEnd::Broken).bytes, 66);
        assert!(Body::new(0, Duration::ZERO).is_empty());
        assert!(!Body::new(0, Duration::ZERO).ending(BodyEnd::Silent).is_empty());
        assert_eq!(Body::new(100_000, Duration::from_secs(1)).parts, 6);
    }
}
