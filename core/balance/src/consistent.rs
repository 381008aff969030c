//! Consistent hash: equal hashes go to one endpoint, and few of them move when endpoints come or go.
//!
//! Which endpoint a hash belongs to is said by a [ring](crate::ring) or a [table](crate::maglev) of all
//! endpoints of a priority, which is built when the endpoints change. Where one of them takes no requests,
//! the table stays and its places are passed over: no other request moves, and nothing is built while
//! requests wait. (Envoy builds another table, of those that are left.) With a bound on loads an endpoint that has more in flight than its part of the mean passes a request on to
//! another, the same for the same hash: Mirrokni and others, "Consistent Hashing with Bounded Loads",
//! 2016; Chen and others, "Revisiting Consistent Hashing with Bounded Loads", 2019. Source of the
//! bound: Envoy, `BoundedLoadHashingLoadBalancer`. Envoy shuffles all endpoints for each request that
//! is passed on; here they are gone through in steps of a width that the hash says, which needs no
//! memory, and so goes to others than Envoy's does.

use std::sync::Arc;

use naru_base::chance::{mix, within};
use naru_base::{Chance, EndpointId};
use naru_spec::{ConsistentHash, HashTable};

use crate::Loads;
use crate::endpoint::Taker;
use crate::maglev::Maglev;
use crate::random::Random;
use crate::ring::Ring;

/// An endpoint, its key, and its part of the whole; the parts of all sum to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) endpoint: EndpointId,
    pub(crate) key: &'a str,
    pub(crate) share: f64,
}

/// Which endpoint a hash belongs to, of all that are there, fit or not. Never changes, and so is shared.
#[derive(Debug)]
pub(crate) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// So many places of a table are looked at for one whose endpoint takes requests. Where nine of ten do not, one in a
/// million hashes finds none; it goes to any of the others then, the same for the same hash.
pub(crate) const LOOKS_MAX: u32 = 128;

#[derive(Clone, Debug)]
pub(crate) struct Consistent {
    table: Arc<Table>,
    /// By id; `None` where all that have places take requests.
    takes: Option<Arc<[bool]>>,
    /// Those who take requests, for hashes that find none of them in the table.
    others: Random,
    bound: Option<Bound>,
}

/// How much each endpoint takes.
#[derive(Clone, Debug)]
struct Bound {
    percent: u32,
    /// How many endpoints the cluster has, whether they are members or not.
    cluster_len: usize,
    /// By id. Parts of the whole are in 2^-32.
    parts: Arc<[(EndpointId, u64)]>,
}

impl Table {
    /// The time that it takes grows with its size, and is nothing for the path of a request.
    pub(crate) fn new(settings: HashTable, members: &[Member<'_>]) -> Table {
        match settings {
            HashTable::Ring(size) => Table::Ring(Ring::new(members, size)),
            HashTable::Maglev(size) => Table::Maglev(Maglev::new(members, size)),
        }
    }

    pub(crate) fn check_invariants(&self, settings: HashTable) -> Result<(), &'static str> {
        match (self, settings) {
            (Table::Ring(ring), _) => ring.check_invariants(),
            (Table::Maglev(table), HashTable::Maglev(size)) => table.check_invariants(size),
            (Table::Maglev(_), HashTable::Ring(_)) => Err("a table where a ring was asked for"),
        }
    }
}

impl Consistent {
    /// `taking` are those members of the table who take requests, of `cluster_len` endpoints; their shares sum to one,
    /// and so are others than in the table where that has more members. O(n), whatever the size of the table.
    pub(crate) fn new(
        settings: ConsistentHash,
        table: Arc<Table>,
        taking: &[Member<'_>],
        is_everybody: bool,
        cluster_len: usize,
    ) -> Consistent {
        let mut parts: Vec<(EndpointId, u64)> = taking
            .iter()
            .map(|member| (member.endpoint, (member.share * (1_u64 << 32) as f64) as u64))
            .collect();
        parts.sort_unstable();
        let weighed = parts.iter().map(|&(id, part)| Taker { id, weight: ((part >> 1) as u32).max(1) });
        let others = Random::new(&weighed.collect::<Vec<_>>());
        let takes = (!is_everybody).then(|| {
            let mut takes = vec![false; cluster_len];
            for (id, _) in &parts {
                if let Some(takes) = takes.get_mut(id.index()) {
                    *takes = true;
                }
            }
            takes.into()
        });
        let bound = settings.load_max_percent.map(|percent| Bound {
            percent: percent.max(100),
            cluster_len,
            parts: parts.into(),
        });
        Consistent { table, takes, others, bound }
    }

    /// O(log n) for a ring, O(1) for Maglev, and a look at so many places that one of those who take requests is among
    /// them: at [`LOOKS_MAX`] at most. A bound asks for the load of the whole cluster, and of a few endpoints where one
    /// is full.
    pub(crate) fn pick<L: Loads + ?Sized>(&self, hash: u64, attempt: u32, loads: &L) -> Option<EndpointId> {
        let takes = |endpoint: EndpointId| match &self.takes {
            None => true,
            Some(takes) => takes.get(endpoint.index()).copied().unwrap_or(false),
        };
        let found = match &*self.table {
            Table::Ring(ring) => ring.pick(hash, attempt, takes),
            Table::Maglev(table) => table.pick(hash, attempt, takes),
        };
        let first = match found {
            Some(first) => first,
            None => self.others.pick(&mut Chance::new(mix(hash) ^ u64::from(attempt)))?,
        };
        match &self.bound {
            None => Some(first),
            Some(bound) => Some(bound.pass_on(first, hash, loads)),
        }
    }
}

impl Bound {
    /// To the first that has room on the way that the hash says; where none has, to the least full.
    fn pass_on<L: Loads + ?Sized>(&self, first: EndpointId, hash: u64, loads: &L) -> EndpointId {
        let slots = {
            let total = u128::from(loads.total(self.cluster_len)) + 1;
            (total * u128::from(self.percent)).div_ceil(100)
        };
        let room_of = |part: u64| (slots * u128::from(part)).div_ceil(1 << 32).max(1);
        let part = self.parts.binary_search_by_key(&first, |(id, _)| *id);
        let part = part.ok().and_then(|at| self.parts.get(at)).map_or(0, |(_, part)| *part);
        let (mut least, mut load, mut room) = (first, u128::from(loads.active(first)), room_of(part));
        if load <= room {
            return first;
        }
        let count = self.parts.len() as u64;
        // A step without a common divisor meets each once.
        let start = within(mix(hash), count);
        let mut step = 1 + within(mix(!hash), count.saturating_sub(1));
        while has_common_divisor(step, count) {
            step = step % count + 1;
        }
        let mut at = start;
        for _ in 0..count {
            let Some(&(other, part)) = self.parts.get(at as usize) else { break };
            at = (at + step) % count;
            let (other_load, other_room) = (u128::from(loads.active(other)), room_of(part));
            if other_load <= other_room {
                return other;
            }
            if other_load * room < load * other_room {
                (least, load, room) = (other, other_load, other_room);
            }
        }
        least
    }
}

fn has_common_divisor(a: u64, b: u64) -> bool {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    x > 1
}

#[cfg(test)]
pub(crate) mod tests;
