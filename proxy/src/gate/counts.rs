//! What checks have said, of all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use naru_journey::gate::CheckCount;

/// By what is counted.
#[derive(Debug, Default)]
pub struct CheckCounts([AtomicU64; 27]);

impl CheckCounts {
    pub fn add(&self, what: CheckCount) {
        if let Some(count) = self.0.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The check, what it said, and how often.
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        const WORDS: [(&str, &str); 27] = [
            ("token", "allowed"),
            ("token", "denied"),
            ("policy", "allowed"),
            ("policy", "denied"),
            ("shadow", "allowed"),
            ("shadow", "denied"),
            ("surge", "denied"),
            ("address", "allowed"),
            ("address", "denied"),
            ("cors", "allowed"),
            ("cors", "denied"),
            ("csrf", "allowed"),
            ("csrf", "denied"),
            ("key", "allowed"),
            ("key", "denied"),
            ("password", "allowed"),
            ("password", "denied"),
            ("audit", "matched"),
            ("external", "allowed"),
            ("external", "denied"),
            ("external", "failed"),
            ("external", "failure_allowed"),
            ("rate_service", "allowed"),
            ("rate_service", "over_limit"),
            ("rate_service", "failed"),
            ("rate_service", "failure_allowed"),
            ("condition", "failed"),
        ];
        let counts = WORDS.iter().zip(&self.0);
        counts.map(|((check, said), count)| (*check, *said, count.load(Ordering::Relaxed))).collect()
    }
}
