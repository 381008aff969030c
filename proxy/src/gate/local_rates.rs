//! Buckets of local rate limits, as all workers of this process share them.
//!
//! One lock for each filter, held while a few numbers are looked at. What is there goes on under its name when the
//! configuration changes, as long as the buckets are the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use naru_admit::described::Described;
use naru_admit::local_rate::{LocalLimiter, LocalSaid, LocalState};
use naru_base::Instant;
use naru_journey::gate::local_rate::{KnownLocalRate, LocalRateCount, LocalRateId};

#[derive(Debug)]
struct SharedLocalRate {
    limiter: Arc<LocalLimiter>,
    state: Mutex<LocalState>,
    counts: [AtomicU64; 5],
}

/// Those of a snapshot, by their ids.
#[derive(Clone, Debug)]
pub struct SharedLocalRates(Arc<[Arc<SharedLocalRate>]>);

/// How filters of one prefix are seen from outside.
#[derive(Clone, Debug, Default)]
pub struct LocalRateStatus {
    pub stat_prefix: String,
    /// In the order of [`LocalRateCount`].
    pub counts: [u64; 5],
}

impl SharedLocalRates {
    /// What was there before under the same name goes on.
    pub fn share(
        known: &[KnownLocalRate],
        older: Option<(&[KnownLocalRate], &SharedLocalRates)>,
    ) -> SharedLocalRates {
        let before: BTreeMap<&str, &Arc<SharedLocalRate>> = older
            .map(|(known, shared)| known.iter().map(|known| known.name.as_str()).zip(&*shared.0).collect())
            .unwrap_or_default();
        let all = known.iter().map(|known| match before.get(known.name.as_str()) {
            Some(shared) if *shared.limiter == *known.limiter => Arc::clone(shared),
            _ => Arc::new(SharedLocalRate {
                limiter: Arc::clone(&known.limiter),
                state: Mutex::new(known.limiter.full()),
                counts: Default::default(),
            }),
        });
        SharedLocalRates(all.collect())
    }

    pub fn ask(&self, now: Instant, id: LocalRateId, asked: &[Described]) -> LocalSaid {
        let Some(shared) = self.0.get(id.index()) else { return LocalSaid::PASSES };
        // Whoever panicked while he held it has left a state as good as any.
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        shared.limiter.ask(now, &mut state, asked)
    }

    pub fn count(&self, id: LocalRateId, what: LocalRateCount) {
        let count = self.0.get(id.index()).and_then(|shared| shared.counts.get(what as usize));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Filters with the same prefix count together.
    pub fn status(&self, known: &[KnownLocalRate]) -> Vec<LocalRateStatus> {
        let mut all: BTreeMap<&str, [u64; 5]> = BTreeMap::new();
        for (known, shared) in known.iter().zip(&*self.0) {
            let sums = all.entry(known.stat_prefix.as_str()).or_default();
            for (sum, count) in sums.iter_mut().zip(&shared.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        let status =
            |(prefix, counts): (&str, [u64; 5])| LocalRateStatus { stat_prefix: prefix.to_owned(), counts };
        all.into_iter().map(status).collect()
    }
}
