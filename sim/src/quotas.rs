//! Rate limits of clients of one proxy: the counterpart of `proxy/src/gate/quotas.rs` and `local_rates.rs`, on virtual
//! time.
//!
//! All workers of a proxy share them. Nobody foresees anything here, so that keys are hashed without a secret.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use naru_admit::described::Described;
use naru_admit::local_rate::{LocalLimiter, LocalSaid, LocalState};
use naru_admit::quota::{Bid, Ledger, Meter, Room, Spent, meter_at, meters_at, spend};
use naru_base::Instant;
use naru_journey::gate::local_rate::{KnownLocalRate, LocalRateId};
use naru_journey::gate::quotas::{Claim, Told};
use naru_spec::{Quota, Surge};

/// Those of a snapshot, by their ids.
#[derive(Debug, Default)]
pub struct QuotasHere {
    all: RefCell<Vec<QuotaHere>>,
}

#[derive(Debug)]
struct QuotaHere {
    meter: Meter,
    /// What it is at the levels of a `Surge`.
    by_level: Box<[Meter]>,
    ledger: Ledger,
}

impl QuotasHere {
    pub fn new(quotas: &[Quota], surge: Option<&Surge>) -> QuotasHere {
        let all = quotas.iter().map(|quota| {
            let keys = if quota.key.is_empty() { 1 } else { quota.keys_max };
            let (meter, by_level) = (Meter::new(quota.algorithm), meters_at(surge, quota));
            QuotaHere { meter, by_level, ledger: Ledger::new(keys) }
        });
        QuotasHere { all: RefCell::new(all.collect()) }
    }

    /// At a level of a `Surge`.
    pub fn spend(&self, now: Instant, level: u32, claims: &[Claim]) -> Told {
        let mut all = self.all.borrow_mut();
        let mut rooms = vec![Room::default(); claims.len()];
        let mut order: Vec<(usize, Bid<'_>)> = Vec::new();
        for (id, QuotaHere { meter, by_level, ledger }) in all.iter_mut().enumerate() {
            let Some(at) = claims.iter().position(|claim| claim.quota.index() == id) else { continue };
            let Some(Claim { key, cost, is_shadow, .. }) = claims.get(at) else { continue };
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let key = hasher.finish();
            let meter = meter_at(meter, by_level, level);
            order.push((at, Bid { meter, ledger, key, cost: *cost, is_shadow: *is_shadow }));
        }
        order.sort_by_key(|(at, _)| *at);
        let mut bids: Vec<Bid<'_>> = order.into_iter().map(|(_, bid)| bid).collect();
        let spent =
            if bids.len() == claims.len() { spend(now, &mut bids, &mut rooms) } else { Spent::default() };
        Told { spent, rooms }
    }
}

/// Local rate limits of a snapshot, by their ids.
#[derive(Debug, Default)]
pub struct LocalRatesHere {
    all: RefCell<Vec<(Arc<LocalLimiter>, LocalState)>>,
}

impl LocalRatesHere {
    pub fn new(known: &[KnownLocalRate]) -> LocalRatesHere {
        let all = known.iter().map(|known| (Arc::clone(&known.limiter), known.limiter.full()));
        LocalRatesHere { all: RefCell::new(all.collect()) }
    }

    pub fn ask(&self, now: Instant, rate: LocalRateId, asked: &[Described]) -> LocalSaid {
        let mut all = self.all.borrow_mut();
        match all.get_mut(rate.index()) {
            Some((limiter, state)) => limiter.ask(now, state, asked),
            None => LocalSaid::PASSES,
        }
    }
}
