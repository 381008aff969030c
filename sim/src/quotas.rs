//! Rate limits of clients of one proxy: the counterpart of `proxy/src/gate/quotas.rs`, on virtual time.
//!
//! All workers of a proxy share them. Nobody foresees anything here, so that keys are hashed without a secret.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};

use naru_admit::quota::{Bid, Ledger, Meter, Room, Spent, spend};
use naru_base::Instant;
use naru_journey::gate::quotas::{Claim, Told};
use naru_spec::Quota;

/// Those of a snapshot, by their ids.
#[derive(Debug, Default)]
pub struct QuotasHere {
    all: RefCell<Vec<(Meter, Ledger)>>,
}

impl QuotasHere {
    pub fn new(quotas: &[Quota]) -> QuotasHere {
        let all = quotas.iter().map(|quota| {
            let keys = if quota.key.is_empty() { 1 } else { quota.keys_max };
            (Meter::new(quota.algorithm), Ledger::new(keys))
        });
        QuotasHere { all: RefCell::new(all.collect()) }
    }

    pub fn spend(&self, now: Instant, claims: &[Claim]) -> Told {
        let mut all = self.all.borrow_mut();
        let mut rooms = vec![Room::default(); claims.len()];
        let mut order: Vec<(usize, Bid<'_>)> = Vec::new();
        for (id, (meter, ledger)) in all.iter_mut().enumerate() {
            let Some(at) = claims.iter().position(|claim| claim.quota.index() == id) else { continue };
            let Some(Claim { key, cost, is_shadow, .. }) = claims.get(at) else { continue };
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let key = hasher.finish();
            order.push((at, Bid { meter, ledger, key, cost: *cost, is_shadow: *is_shadow }));
        }
        order.sort_by_key(|(at, _)| *at);
        let mut bids: Vec<Bid<'_>> = order.into_iter().map(|(_, bid)| bid).collect();
        let spent =
            if bids.len() == claims.len() { spend(now, &mut bids, &mut rooms) } else { Spent::default() };
        Told { spent, rooms }
    }
}
