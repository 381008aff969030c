//! The control plane's clock: the only file here that reads one.

use std::time::Instant as StdInstant;

use naru_base::Instant;

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
