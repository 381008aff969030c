//! Counts of quotas, as all workers of this process share them.
//!
//! A limit has a ledger for each shard of its keys, behind a lock that is held for as long as a few numbers are looked
//! at: about a tenth of a microsecond. A request locks one shard of each of its limits, always in the order of their
//! numbers, looks at all, takes from all or none, and lets go. No worker waits for anything else while it holds them.
//! Counts go on under their name when the configuration changes, as long as the limit is the same.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use naru_admit::quota::{Bid, Ledger, Meter, Room, Spent, meter_at, meters_at, spend};
use naru_base::Instant;
use naru_journey::gate::quotas::{Claim, Told};
use naru_spec::Quota;

use crate::surge::Surged;

const SHARDS: usize = 64;

/// One limit.
#[derive(Debug)]
pub struct SharedQuota {
    /// In whose order limits are locked.
    number: u64,
    meter: Meter,
    shards: Box<[Mutex<Ledger>]>,
    allowed: AtomicU64,
    refused: AtomicU64,
    shadowed: AtomicU64,
}

/// How a limit is seen from outside.
#[derive(Clone, Debug)]
pub struct QuotaStatus {
    pub name: String,
    pub allowed_total: u64,
    pub refused_total: u64,
    /// That it would have refused.
    pub shadowed_total: u64,
    pub keys: u64,
    pub evicted_total: u64,
}

/// Those of a snapshot, by their ids.
#[derive(Clone, Debug)]
pub struct SharedQuotas {
    all: Arc<[Arc<SharedQuota>]>,
    /// What they are at the levels of a `Surge`.
    by_level: Arc<[Box<[Meter]>]>,
    surged: Surged,
    /// Makes hashes that nobody outside can foresee.
    hasher: RandomState,
    next_number: u64,
}

impl SharedQuotas {
    /// What was there before under the same name goes on.
    pub fn share(
        quotas: &[Quota],
        surged: &Surged,
        older: Option<(&[Quota], &SharedQuotas)>,
    ) -> SharedQuotas {
        let mut known = BTreeMap::new();
        let (mut next_number, hasher) = older.map_or_else(Default::default, |(quotas, shared)| {
            known.extend(
                quotas.iter().zip(&*shared.all).map(|(quota, shared)| (quota.name.as_str(), (quota, shared))),
            );
            (shared.next_number, shared.hasher.clone())
        });
        let all = quotas.iter().map(|quota| match known.get(quota.name.as_str()) {
            Some((before, shared)) if is_counted_alike(before, quota) => Arc::clone(shared),
            _ => {
                next_number += 1;
                Arc::new(SharedQuota::new(quota, next_number))
            }
        });
        let all = all.collect();
        let by_level = quotas.iter().map(|quota| meters_at(surged.settings(), quota)).collect();
        SharedQuotas { all, by_level, surged: surged.clone(), hasher, next_number }
    }

    /// Takes from the limits of a request: from all, or from none.
    pub fn spend(&self, now: Instant, claims: &[Claim]) -> Told {
        let mut rooms = vec![Room::default(); claims.len()];
        let mut order: Vec<(&Claim, &SharedQuota, u64)> = Vec::with_capacity(claims.len());
        for claim in claims {
            let shared = self.all.get(claim.quota.index());
            // Each is here, and each is asked once: `Quotas::problems`. To lock one twice would wait for ever.
            let Some(shared) =
                shared.filter(|it| order.iter().all(|(_, other, _)| other.number != it.number))
            else {
                return Told { spent: Spent::default(), rooms };
            };
            order.push((claim, shared, self.hasher.hash_one(&claim.key)));
        }
        let mut locked: Vec<usize> = (0..order.len()).collect();
        locked.sort_unstable_by_key(|at| order.get(*at).map(|(_, shared, _)| shared.number));
        let mut guards: Vec<(usize, MutexGuard<'_, Ledger>)> = Vec::with_capacity(order.len());
        for at in locked {
            let Some((_, shared, key)) = order.get(at) else { continue };
            guards.extend(shared.lock(*key).map(|guard| (at, guard)));
        }
        guards.sort_unstable_by_key(|(at, _)| *at);
        let level = self.surged.level();
        let meter = |claim: &Claim, usual| {
            let levels = self.by_level.get(claim.quota.index());
            levels.map_or(usual, |levels| meter_at(usual, levels, level))
        };
        let bids = order.iter().zip(&mut guards).map(|((claim, shared, key), (_, guard))| Bid {
            meter: meter(claim, &shared.meter),
            ledger: guard,
            key: *key,
            cost: claim.cost,
            is_shadow: claim.is_shadow,
        });
        let spent = spend(now, &mut bids.collect::<Vec<_>>(), &mut rooms);
        drop(guards);
        self.count(claims, spent);
        Told { spent, rooms }
    }

    /// Counts what was said to claims, here or elsewhere.
    pub fn count(&self, claims: &[Claim], spent: Spent) {
        for (at, claim) in claims.iter().enumerate() {
            let Some(shared) = self.all.get(claim.quota.index()) else { continue };
            let is_shadowed = spent.shadowed & 1 << at != 0;
            let count = match spent.refused_by {
                Some(by) if by == at => &shared.refused,
                Some(_) => continue,
                None if is_shadowed => &shared.shadowed,
                None => &shared.allowed,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn status(&self, now: Instant, quotas: &[Quota]) -> Vec<QuotaStatus> {
        quotas.iter().zip(&*self.all).map(|(quota, shared)| shared.status(now, &quota.name)).collect()
    }
}

/// Who refuses and who only tells does not change what is counted.
fn is_counted_alike(one: &Quota, other: &Quota) -> bool {
    one.algorithm == other.algorithm && one.key == other.key && one.keys_max == other.keys_max
}

impl SharedQuota {
    fn new(quota: &Quota, number: u64) -> SharedQuota {
        // One key is in one shard.
        let shards = if quota.key.is_empty() { 1 } else { SHARDS };
        let keys = if quota.key.is_empty() { 1 } else { quota.keys_max.div_ceil(SHARDS as u32) };
        SharedQuota {
            number,
            meter: Meter::new(quota.algorithm),
            shards: (0..shards).map(|_| Mutex::new(Ledger::new(keys))).collect(),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            shadowed: AtomicU64::new(0),
        }
    }

    /// Whoever panicked while he held it has left a table as good as any.
    fn lock(&self, key: u64) -> Option<MutexGuard<'_, Ledger>> {
        let shard = self.shards.get(key as usize % self.shards.len())?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn status(&self, now: Instant, name: &str) -> QuotaStatus {
        let (mut keys, mut evicted) = (0, 0);
        for shard in &self.shards {
            let ledger = shard.lock().unwrap_or_else(PoisonError::into_inner);
            keys += ledger.keys(now, &self.meter) as u64;
            evicted += ledger.evicted();
        }
        QuotaStatus {
            name: name.to_owned(),
            allowed_total: self.allowed.load(Ordering::Relaxed),
            refused_total: self.refused.load(Ordering::Relaxed),
            shadowed_total: self.shadowed.load(Ordering::Relaxed),
            keys,
            evicted_total: evicted,
        }
    }
}
