//! Which date is it? A scenario begins on 1 January 2026 at 00:00 UTC, whenever it is played.

use std::time::Duration;

use naru_base::{Instant, WallTime};

const BEGINS: WallTime = WallTime(1_767_225_600_000_000_000);

/// The date at a moment of virtual time.
pub fn wall(now: Instant) -> WallTime {
    BEGINS + Duration::from_nanos(now.0)
}

/// In seconds since 1970, as claims of tokens have it.
pub fn seconds(now: Instant) -> i64 {
    i64::try_from(wall(now).0 / 1_000_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_begins_with_a_year() {
        assert_eq!(wall(Instant::ZERO).http_date(), "Thu, 01 Jan 2026 00:00:00 GMT");
        assert_eq!(seconds(Instant(1_500_000_000)), 1_767_225_601);
    }
}
