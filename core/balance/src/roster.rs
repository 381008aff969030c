//! The endpoints of a cluster and its settings, and the tables that they make.
//!
//! First the load is shared among priorities, and in each among fit and degraded ([`priority`]); then
//! among localities, where they are weighed; then among endpoints ([`Pool`]). A consistent hash weighs
//! localities in its table instead. Sources: Envoy, `hostSourceToUse` and `normalizeWeights` in
//! `load_balancer_impl.cc` and `thread_aware_lb_impl.cc`; for the weights of localities
//! `HostSetImpl::effectiveLocalityWeight` in `upstream_impl.cc`.
//!
//! One difference: Envoy's consistent hashes know no degraded endpoints, and refuse what should go to
//! them. Here they have a table of their own.

use std::sync::Arc;

use naru_base::chance::mix;
use naru_base::{EndpointId, Instant};
use naru_spec::{BalancingPolicy, LoadBalancing, Locality};

use crate::consistent::{Consistent, Member, Table};
use crate::endpoint::{EndpointFacts, Fitness, Taker};
use crate::pool::{Plan, Pool};
use crate::priority::{self, Census, Spill};
use crate::schedule::Schedule;
use crate::sticky::Sessions;
use crate::warm_up::Ramps;

/// The endpoints of a cluster, and what is built of them whatever their fitness. Never changes, and so is shared by all
/// balancers of the cluster: the tables of a consistent hash, which take time to build, are in it.
#[derive(Debug)]
pub struct Roster {
    pub(crate) settings: LoadBalancing,
    pub(crate) sessions: Option<Sessions>,
    /// By id.
    entries: Vec<Entry>,
    priorities: usize,
    /// In order: for each priority and locality the weight of the locality there.
    localities: Vec<LocalityThere>,
    /// By priority, where the policy hashes.
    tables: Vec<Arc<Table>>,
}

#[derive(Clone, Debug)]
struct Entry {
    weight: u32,
    /// Counted without gaps.
    priority: usize,
    /// An index into the localities of the roster, which is in order.
    locality: usize,
    key: Box<str>,
}

#[derive(Clone, Debug)]
struct LocalityThere {
    priority: usize,
    locality: usize,
    weight: u32,
}

/// Where requests go that do not all go to one pool.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) portions: Vec<Portion>,
}

#[derive(Clone, Debug)]
pub(crate) struct Portion {
    /// It takes the percents from the portion before up to this one; that of the last is 100.
    pub(crate) until: u32,
    pub(crate) source: Source,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Pool(Pool),
    /// In turn by weight. A locality's id in the schedule is the index of its pool.
    Localities {
        turns: Schedule,
        pools: Vec<Pool>,
    },
}

/// Who of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Fit,
    Degraded,
    /// In panic.
    All,
}

impl Who {
    fn has(self, fitness: Fitness) -> bool {
        match (self, fitness) {
            (_, Fitness::Excluded) => false,
            (Who::All, _) | (Who::Fit, Fitness::Fit { .. }) | (Who::Degraded, Fitness::Degraded) => true,
            (Who::Fit | Who::Degraded, _) => false,
        }
    }
}

/// What a table is built by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// By id, as many as there are endpoints.
    pub(crate) fitness: &'a [Fitness],
    pub(crate) panic_percent: u32,
    pub(crate) ramps: Option<&'a Arc<Ramps>>,
    pub(crate) now: Instant,
    pub(crate) seed_draw: u64,
}

impl Roster {
    /// The endpoint at position `i` is `EndpointId(i)`. Off the request path: the time that it takes grows with the
    /// number of endpoints, and with the size of a hash's table.
    pub fn new(settings: &LoadBalancing, endpoints: &[EndpointFacts<'_>]) -> Roster {
        let mut priorities: Vec<u32> = endpoints.iter().map(|facts| facts.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let mut all: Vec<&Locality> = endpoints.iter().map(|facts| facts.locality).collect();
        all.sort_unstable();
        all.dedup();
        let mut localities: Vec<LocalityThere> = Vec::new();
        let entries = endpoints.iter().map(|facts| {
            let priority = priorities.partition_point(|priority| *priority < facts.priority);
            let locality = all.partition_point(|locality| *locality < facts.locality);
            localities.push(LocalityThere { priority, locality, weight: facts.locality_weight.0 });
            Entry { weight: facts.weight.0, priority, locality, key: facts.key.into() }
        });
        let entries = entries.collect();
        // Stable: the first endpoint of a locality says its weight.
        localities.sort_by_key(|there| (there.priority, there.locality));
        localities.dedup_by_key(|there| (there.priority, there.locality));
        let keys = endpoints.iter().map(|facts| facts.key);
        let sessions = settings.sticky.as_ref().map(|sticky| Sessions::new(sticky, keys));
        let (settings, priorities) = (settings.clone(), priorities.len());
        let mut roster = Roster { settings, sessions, entries, priorities, localities, tables: Vec::new() };
        if let BalancingPolicy::ConsistentHash(hash) = roster.settings.policy {
            let fitness = vec![Fitness::FIT; roster.len()];
            let all = (0..roster.priorities).map(|priority| roster.members(priority, Who::All, &fitness));
            roster.tables = all.map(|members| Arc::new(Table::new(hash.table, &members))).collect();
        }
        roster
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// By id.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.key)
    }

    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        let BalancingPolicy::ConsistentHash(hash) = self.settings.policy else { return Ok(()) };
        self.tables.iter().try_for_each(|table| table.check_invariants(hash.table))
    }

    pub(crate) fn weight(&self, endpoint: EndpointId) -> u32 {
        self.entries.get(endpoint.index()).map_or(0, |entry| entry.weight)
    }

    /// Everything that depends on fitness: one pool for all, or a spread.
    pub(crate) fn tables(&self, moment: Moment<'_>) -> (Pool, Option<Box<Spread>>) {
        let mut census = vec![Census::default(); self.priorities];
        for (entry, fitness) in self.entries.iter().zip(moment.fitness).filter(|(entry, _)| entry.weight > 0)
        {
            if let Some(census) = census.get_mut(entry.priority) {
                census.all += u64::from(Who::All.has(*fitness));
                census.fit += u64::from(Who::Fit.has(*fitness));
                census.degraded += u64::from(Who::Degraded.has(*fitness));
            }
        }
        let spill = Spill {
            overprovisioning_percent: self.settings.overprovisioning_percent,
            panic_percent: moment.panic_percent,
        };
        let shares = priority::shares(&census, spill);
        let mut portions: Vec<Portion> = Vec::new();
        let mut until = 0;
        // The fit of all priorities come before the degraded of any, as in Envoy: the same hash is then
        // the same percent.
        let fit = shares.iter().map(|share| (share.fit, Who::Fit, share.is_panicking));
        let degraded = shares.iter().map(|share| (share.degraded, Who::Degraded, share.is_panicking));
        for (priority, (load, who, is_panicking)) in
            (0..self.priorities).zip(fit).chain((0..self.priorities).zip(degraded))
        {
            if load > 0 {
                let who = if is_panicking { Who::All } else { who };
                until += load;
                // Each pool starts at a place of its own; the first where it was asked to.
                let seed_draw = match portions.len() as u64 {
                    0 => moment.seed_draw,
                    at => mix(moment.seed_draw.wrapping_add(at)),
                };
                let source = self.source(priority, who, Moment { seed_draw, ..moment });
                portions.push(Portion { until, source });
            }
        }
        if let [Portion { source: Source::Pool(_), .. }] = portions.as_slice()
            && let Some(Portion { source: Source::Pool(pool), .. }) = portions.pop()
        {
            return (pool, None);
        }
        if portions.is_empty() {
            return (Pool::Nobody, None);
        }
        (Pool::Nobody, Some(Box::new(Spread { portions })))
    }

    /// The endpoints of a priority, and of a locality of it, that take a share.
    fn takers(&self, priority: usize, locality: Option<usize>, who: Who, fitness: &[Fitness]) -> Vec<Taker> {
        let all = (0..).map(EndpointId).zip(self.entries.iter().zip(fitness));
        let takers = all.filter(|(_, (entry, fitness))| {
            entry.weight > 0
                && entry.priority == priority
                && locality.is_none_or(|locality| entry.locality == locality)
                && who.has(**fitness)
        });
        takers.map(|(id, (entry, _))| Taker { id, weight: entry.weight }).collect()
    }

    fn source(&self, priority: usize, who: Who, moment: Moment<'_>) -> Source {
        let plan = Plan { policy: &self.settings.policy, ramps: moment.ramps, now: moment.now };
        let hashes = matches!(self.settings.policy, BalancingPolicy::ConsistentHash(_));
        if self.settings.weighs_localities && !hashes && who != Who::All {
            let (takers, mut pools) = self.localities(priority, who, plan, moment);
            if pools.len() > 1 {
                let turns = Schedule::new(&takers, 1, |_| 1, mix(moment.seed_draw));
                return Source::Localities { turns, pools };
            }
            // One locality needs no turns.
            if let Some(pool) = pools.pop() {
                return Source::Pool(pool);
            }
        }
        let takers = self.takers(priority, None, who, moment.fitness);
        let consistent = |hash| {
            let table = Arc::clone(self.tables.get(priority)?);
            let taking = self.members(priority, who, moment.fitness);
            let there = self.entries.iter().filter(|entry| entry.priority == priority && entry.weight > 0);
            let is_everybody = takers.len() == there.count();
            Some(Consistent::new(hash, table, &taking, is_everybody, self.len()))
        };
        Source::Pool(Pool::new(plan, &takers, consistent, moment.seed_draw))
    }

    /// The localities of a priority that take anything, and their pools.
    fn localities(
        &self,
        priority: usize,
        who: Who,
        plan: Plan<'_>,
        moment: Moment<'_>,
    ) -> (Vec<Taker>, Vec<Pool>) {
        let there = self.localities.iter().filter(|there| there.priority == priority);
        let found = there.filter_map(|there| {
            let takers = self.takers(priority, Some(there.locality), who, moment.fitness);
            let all = self.takers(priority, Some(there.locality), Who::All, moment.fitness).len();
            let weight = self.available(there.weight, takers.len() as u64, all as u64);
            (weight > 0).then_some((weight, takers))
        });
        let found: Vec<(u128, Vec<Taker>)> = found.collect();
        let heaviest = found.iter().map(|(weight, _)| *weight).max().unwrap_or(0);
        // As much as fits 32 bits, and something of everybody.
        let shift = (u128::BITS - heaviest.leading_zeros()).saturating_sub(u32::BITS);
        let localities = (0..).map(EndpointId).zip(&found).map(|(id, (weight, _))| Taker {
            id,
            weight: u32::try_from(weight >> shift).unwrap_or(u32::MAX).max(1),
        });
        let localities = localities.collect();
        let pools = (1..).zip(&found).map(|(at, (_, takers))| {
            let seed_draw = mix(moment.seed_draw ^ mix(at));
            // No hash comes here.
            Pool::new(plan, takers, |_| None, seed_draw)
        });
        (localities, pools.collect())
    }

    /// `weight * min(1, overprovisioning * part / all)`, with 20 digits behind the point.
    fn available(&self, weight: u32, part: u64, all: u64) -> u128 {
        let whole = u128::from(all) * 100;
        let there = u128::from(part) * u128::from(self.settings.overprovisioning_percent);
        ((u128::from(weight) * there.min(whole)) << 20).checked_div(whole).unwrap_or(0)
    }

    /// Who has a place in a consistent hash, and how large it is. As in Envoy, a locality's share does not shrink with its fit
    /// endpoints, and is lost only where it has none.
    fn members(&self, priority: usize, who: Who, fitness: &[Fitness]) -> Vec<Member<'_>> {
        if !self.settings.weighs_localities {
            return self.shared(1.0, &self.takers(priority, None, who, fitness));
        }
        let there: Vec<_> = self.localities.iter().filter(|there| there.priority == priority).collect();
        let sum: u64 = there.iter().map(|there| u64::from(there.weight)).sum();
        let weighed = there.into_iter().filter(|there| there.weight > 0);
        let members = weighed.flat_map(|there| {
            let takers = self.takers(priority, Some(there.locality), who, fitness);
            self.shared(f64::from(there.weight) / sum as f64, &takers)
        });
        members.collect()
    }

    /// `share`, shared by weight. In the order of Envoy's operations, so that results are equal.
    fn shared(&self, share: f64, takers: &[Taker]) -> Vec<Member<'_>> {
        let sum: u64 = takers.iter().map(|taker| u64::from(taker.weight)).sum();
        let members = takers.iter().filter_map(|taker| {
            let entry = self.entries.get(taker.id.index())?;
            let share = f64::from(taker.weight) * share / sum as f64;
            Some(Member { endpoint: taker.id, key: &entry.key, share })
        });
        members.collect()
    }
}
