//! What is given up while more comes than there is room for: the level that all workers see.
//!
//! One thread looks at the load (`surge/watch.rs`), `naru_surge::Controller` says the level, and one word tells it to all
//! workers. Nobody else is told anything: the cache, the rate limits and the gateways read the word where a `Surge` says
//! something of them, so that a level is left as fast as it is entered, and leaves nothing behind. Whoever runs
//! workloads waits for changes of it.

mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use naru_base::Instant;
use naru_journey::Snapshot;
use naru_spec::{Quota, QuotaAlgorithm, Surge, SurgeSignal};
use naru_surge::{Controller, Hold};

pub use watch::Watch;

/// The word, and who waits for another one.
#[derive(Debug, Default)]
pub struct Level {
    word: AtomicU32,
    changed_tx: tokio::sync::watch::Sender<u32>,
}

impl Level {
    fn publish(&self, level: u32) {
        self.word.store(level, Ordering::Relaxed);
        self.changed_tx.send_if_modified(|known| std::mem::replace(known, level) != level);
    }

    /// Says the level now, and each one after it.
    pub fn follow(&self) -> tokio::sync::watch::Receiver<u32> {
        self.changed_tx.subscribe()
    }
}

/// What a snapshot says of levels, and at which one the process is. All snapshots have the same level.
#[derive(Clone, Debug, Default)]
pub struct Surged {
    settings: Option<Arc<Surge>>,
    level: Arc<Level>,
}

impl Surged {
    pub fn of(snapshot: &Snapshot, older: Option<&Surged>) -> Surged {
        let level = older.map(|older| Arc::clone(&older.level)).unwrap_or_default();
        Surged { settings: snapshot.surge.clone().map(Arc::new), level }
    }

    pub fn settings(&self) -> Option<&Surge> {
        self.settings.as_deref()
    }

    pub fn shared(&self) -> &Arc<Level> {
        &self.level
    }

    /// 0 where all is as it is else.
    #[inline]
    pub fn level(&self) -> u32 {
        if self.settings.is_some() { self.level.word.load(Ordering::Relaxed) } else { 0 }
    }

    /// By how much of itself the lifetime of a class is another one now.
    pub fn cache_percent(&self, class: &str) -> u32 {
        match (&self.settings, self.level()) {
            (None, _) | (Some(_), 0) => 100,
            (Some(surge), level) => surge.cache_percent(class, level),
        }
    }

    /// What a limit is now.
    pub fn algorithm(&self, quota: &Quota) -> QuotaAlgorithm {
        match (&self.settings, self.level()) {
            (None, _) | (Some(_), 0) => quota.algorithm,
            (Some(surge), level) => {
                quota.algorithm.tightened(surge.quota_percent(&quota.name, level), quota.cost)
            }
        }
    }
}

/// How a `Surge` is seen from outside.
#[derive(Clone, Debug)]
pub struct SurgeStatus {
    pub level: u32,
    /// From the ordinary one up.
    pub names: Vec<String>,
    pub hold: Hold,
    /// How long it has been at its level.
    pub for_so_long: Duration,
    pub signals: Vec<(SurgeSignal, u64)>,
    pub transitions_total: u64,
    /// The oldest first.
    pub recent: Vec<SurgeTransition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurgeTransition {
    pub ago: Duration,
    pub from: u32,
    pub to: u32,
    pub why: String,
}

impl SurgeStatus {
    fn of(controller: &Controller, now: Instant) -> SurgeStatus {
        let levels = controller.surge().levels.len() as u32;
        SurgeStatus {
            level: controller.level(),
            names: (0..=levels).map(|level| controller.name_of(level).to_owned()).collect(),
            hold: controller.hold(),
            for_so_long: now.since(controller.since()),
            signals: controller.signals().known().collect(),
            transitions_total: controller.transitions_total(),
            recent: controller
                .recent()
                .map(|transition| SurgeTransition {
                    ago: now.since(transition.at),
                    from: transition.from,
                    to: transition.to,
                    why: transition.phrase(),
                })
                .collect(),
        }
    }
}

/// What an operator wants of the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurgeOrder {
    /// Stay where it is.
    Freeze,
    /// Go there and stay.
    Force(u32),
    /// Follow the signals again.
    Release,
}
