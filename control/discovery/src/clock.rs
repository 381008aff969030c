//! The control plane's clock: the only file here that reads one.

use std::time::{Instant as StdInstant, SystemTime};

use naru_base::{Instant, WallTime};

/// What the calendar says.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { origin: StdInstant::now() }
    }

    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Waits until then; for ever where there is no such moment.
    pub async fn until(&self, moment: Option<Instant>) {
        match moment {
            Some(moment) => tokio::time::sleep(moment.since(self.now())).await,
            None => std::future::pending().await,
        }
    }
}
