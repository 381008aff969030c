//! One cluster's endpoints, and whose turn it is.
//!
//! | event                          | what changes                                              |
//! |--------------------------------|-----------------------------------------------------------|
//! | `follow`                       | the endpoints; what is known of those that stay is kept    |
//! | `set_fitness`                  | priorities, localities and pools, where fitness is another |
//! | `tick`, at or after `deadline` | everybody is warm: pools become the simple ones again       |
//! | `on_latency`, `on_no_answer`   | what is known of an endpoint (peak EWMA)                   |
//! | `pick`                         | rotations go on                                            |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::chance::mix;
use naru_base::{Chance, EndpointId, Instant};
use naru_spec::{BalancingPolicy, LoadBalancing, defaults};

use crate::endpoint::{EndpointFacts, Fitness, Loads};
use crate::peak_ewma::Latencies;
use crate::pool::{Asked, Pool};
use crate::roster::{Moment, Roster, Source, Spread};
use crate::sticky::Bound;
use crate::warm_up::Ramps;

/// Picks endpoints of one cluster. Its large tables are in its [`Roster`], which others share.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Everybody who is picked, where there is no spread.
    pool: Pool,
    spread: Option<Box<Spread>>,
    latencies: Option<Box<Latencies>>,
    roster: Arc<Roster>,
    /// By id.
    fitness: Vec<Fitness>,
    panic_percent: u32,
    /// When all are warm, where some are not.
    warm_at: Option<Instant>,
    seed_draw: u64,
    /// How often the tables were built.
    generation: u64,
}

/// What one pick is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext {
    pub now: Instant,
    /// Of the request, for a consistent hash; without one it is chance.
    pub hash: Option<u64>,
    pub bound: Bound,
    pub tried: Tried,
}

/// Endpoints that were tried for a request, and should not be again: a bit for each, by the lowest
/// digits of its id. Endpoints that share a bit are taken for one, which costs no more than another pick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u32);

impl Tried {
    /// A bit for each, by the lowest digits of its id.
    pub fn of_bits(bits: u32) -> Tried {
        Tried(bits)
    }

    pub fn insert(&mut self, endpoint: EndpointId) {
        self.0 |= 1 << (endpoint.0 % u32::BITS);
    }

    pub fn contains(self, endpoint: EndpointId) -> bool {
        self.0 & (1 << (endpoint.0 % u32::BITS)) != 0
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Balancer {
    /// The endpoint at position `i` is `EndpointId(i)`. All are fit and warm until
    /// [`Balancer::set_fitness`] says otherwise. `seed_draw`, a uniform number, says where a rotation
    /// starts, so that workers and restarts do not all begin with the first endpoint.
    pub fn new(settings: &LoadBalancing, endpoints: &[EndpointFacts<'_>], seed_draw: u64) -> Balancer {
        let mut balancer = Balancer::unbuilt(Arc::new(Roster::new(settings, endpoints)), seed_draw);
        balancer.build(Instant::ZERO, None);
        balancer
    }

    /// The endpoints are those of `roster` from `now` on. What is known of one that was there before, by its key, stays;
    /// the others are fit, and begin to warm up. That is how Envoy has it also where all are new: then they warm up
    /// alike, which changes nobody's share, and one that comes a little later is a little behind.
    pub fn follow(before: &Balancer, now: Instant, roster: Arc<Roster>, seed_draw: u64) -> Balancer {
        let mut balancer = Balancer::unbuilt(roster, seed_draw);
        balancer.panic_percent = before.panic_percent;
        let known: BTreeMap<&str, EndpointId> = before.roster.keys().zip((0..).map(EndpointId)).collect();
        let places = balancer.roster.keys().map(|key| known.get(key).copied());
        let places: Vec<Option<EndpointId>> = places.collect();
        let new = Fitness::Fit { since: now };
        let fitness = places.iter().map(|place| place.and_then(|id| before.fitness(id)).unwrap_or(new));
        balancer.fitness = fitness.collect();
        if let (Some(latencies), Some(known)) = (&mut balancer.latencies, &before.latencies) {
            latencies.inherit(known, &places);
        }
        let ramps = balancer.ramps(now, &balancer.fitness);
        balancer.build(now, ramps);
        balancer
    }

    fn unbuilt(roster: Arc<Roster>, seed_draw: u64) -> Balancer {
        let latencies = match roster.settings.policy {
            BalancingPolicy::PeakEwma(ewma) => Some(Box::new(Latencies::new(ewma, roster.len()))),
            _ => None,
        };
        Balancer {
            pool: Pool::Nobody,
            spread: None,
            latencies,
            fitness: vec![Fitness::FIT; roster.len()],
            roster,
            panic_percent: 0,
            warm_at: None,
            seed_draw,
            generation: 0,
        }
    }

    /// How fit the endpoints are now, by id; those that are not spoken of are fit. Where less than
    /// `panic_percent` of a priority are fit or degraded, and no other can help, fitness is disregarded;
    /// zero never does so. Off the request path:
    /// the time that it takes grows with the number of endpoints, though not with the size of a hash's table.
    pub fn set_fitness(&mut self, now: Instant, panic_percent: u32, fitness: &[Fitness]) {
        let told = fitness.iter().copied().chain(std::iter::repeat(Fitness::FIT));
        let fitness: Vec<Fitness> = told.take(self.roster.len()).collect();
        let ramps = self.ramps(now, &fitness);
        // A rotation goes on where nothing is different.
        // Where all are fit nobody panics.
        let are_fit = fitness.iter().all(|fitness| matches!(fitness, Fitness::Fit { .. }));
        let is_same = fitness == self.fitness && (are_fit || panic_percent == self.panic_percent);
        self.panic_percent = panic_percent;
        if is_same && ramps.is_some() == self.warm_at.is_some() {
            return;
        }
        self.fitness = fitness;
        self.build(now, ramps);
    }

    /// How fit an endpoint was when that was told last.
    pub fn fitness(&self, endpoint: EndpointId) -> Option<Fitness> {
        self.fitness.get(endpoint.index()).copied()
    }

    fn ramps(&self, now: Instant, fitness: &[Fitness]) -> Option<Arc<Ramps>> {
        let settings = &self.roster.settings;
        let warm_up = settings.warm_up.filter(|_| !settings.ignores_warm_up())?;
        Ramps::new(warm_up, fitness, now).map(Arc::new)
    }

    fn build(&mut self, now: Instant, ramps: Option<Arc<Ramps>>) {
        let seed_draw = match self.generation {
            0 => self.seed_draw,
            generation => mix(self.seed_draw ^ mix(generation)),
        };
        self.generation += 1;
        self.warm_at = ramps.as_ref().and_then(|ramps| ramps.end());
        let moment = Moment {
            fitness: &self.fitness,
            panic_percent: self.panic_percent,
            ramps: ramps.as_ref(),
            now,
            seed_draw,
        };
        (self.pool, self.spread) = self.roster.tables(moment);
    }

    /// When [`Balancer::tick`] would do something, and that is only to make picking cheaper again.
    pub fn deadline(&self) -> Option<Instant> {
        self.warm_at
    }

    /// Time passed. Does nothing before [`Balancer::deadline`].
    pub fn tick(&mut self, now: Instant) {
        if self.warm_at.is_some_and(|at| now >= at) {
            self.build(now, None);
        }
    }

    /// Whether [`Balancer::on_latency`] changes anything.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.latencies.is_some()
    }

    /// An endpoint answered after this time. Only peak EWMA remembers.
    pub fn on_latency(&mut self, now: Instant, endpoint: EndpointId, latency: Duration) {
        if let Some(latencies) = &mut self.latencies {
            latencies.learn(now, endpoint, latency);
        }
    }

    /// An endpoint was waited for so long, and had not answered.
    pub fn on_no_answer(&mut self, now: Instant, endpoint: EndpointId, waited: Duration) {
        if let Some(latencies) = &mut self.latencies {
            latencies.learn_least(now, endpoint, waited);
        }
    }

    /// `None` only where nobody can take the request, or where it is bound to somebody who cannot; and
    /// always for [`BalancingPolicy::Passthrough`], which picks nobody.
    // Forced: a retry calls it as well, and seldom.
    #[inline(always)]
    pub fn pick<L: Loads + ?Sized>(
        &mut self,
        context: &PickContext,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        if self.spread.is_some() || context.bound != Bound::Free || !context.tried.is_empty() {
            return self.pick_among(context, loads, chance);
        }
        let asked = Asked { now: context.now, hash: context.hash, attempt: 0 };
        self.pool.pick(asked, self.latencies.as_deref(), loads, chance)
    }

    #[inline(never)]
    fn pick_among<L: Loads + ?Sized>(
        &mut self,
        context: &PickContext,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        match context.bound {
            Bound::Only(endpoint) => return endpoint.filter(|endpoint| self.can_take(*endpoint)),
            Bound::Preferring(endpoint) if self.can_take(endpoint) && !context.tried.contains(endpoint) => {
                return Some(endpoint);
            }
            Bound::Preferring(_) | Bound::Free => {}
        }
        // One for all attempts of a consistent hash: they are steps from one place.
        let hashes = matches!(self.roster.settings.policy, BalancingPolicy::ConsistentHash(_));
        let hash = hashes.then(|| context.hash.unwrap_or_else(|| chance.draw()));
        let mut picked = None;
        for attempt in 0..=defaults::MESH_RETRY_PICKS {
            let asked = Asked { now: context.now, hash, attempt };
            picked = self.pick_one(asked, loads, chance);
            if picked.is_none_or(|endpoint| !context.tried.contains(endpoint)) {
                break;
            }
        }
        picked
    }

    fn pick_one<L: Loads + ?Sized>(
        &mut self,
        asked: Asked,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        let latencies = self.latencies.as_deref();
        let Some(spread) = &mut self.spread else { return self.pool.pick(asked, latencies, loads, chance) };
        let percent = asked.hash.unwrap_or_else(|| chance.draw()) % 100 + 1;
        let mut portions = spread.portions.iter_mut();
        let portion = portions.find(|portion| percent <= u64::from(portion.until))?;
        match &mut portion.source {
            Source::Pool(pool) => pool.pick(asked, latencies, loads, chance),
            Source::Localities { turns, pools } => {
                let locality = turns.pick(|_| 1)?;
                pools.get_mut(locality.index())?.pick(asked, latencies, loads, chance)
            }
        }
    }

    /// Whether a request that is bound to it may go there.
    fn can_take(&self, endpoint: EndpointId) -> bool {
        let is_fit =
            matches!(self.fitness.get(endpoint.index()), Some(Fitness::Fit { .. } | Fitness::Degraded));
        is_fit && self.roster.weight(endpoint) > 0
    }

    /// What a request with these headers is bound to by a sticky session.
    pub fn bound(&self, request: &HeaderMap) -> Bound {
        self.roster.sessions.as_ref().map_or(Bound::Free, |sessions| sessions.bound(request))
    }

    /// The header of a response that keeps its client at the endpoint that was picked, where it was not
    /// bound to it already.
    pub fn session(&self, picked: EndpointId, bound: Bound) -> Option<(HeaderName, HeaderValue)> {
        self.roster.sessions.as_ref()?.header(picked, bound)
    }

    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// How many endpoints it was built with.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.fitness.len() != self.roster.len() {
            return Err("fitness of more or fewer endpoints than there are");
        }
        self.roster.check_invariants()?;
        if let Some(latencies) = &self.latencies {
            latencies.check_invariants(self.roster.len())?;
        }
        self.pool.check_invariants()?;
        let Some(spread) = &self.spread else { return Ok(()) };
        let untils: Vec<u32> = spread.portions.iter().map(|portion| portion.until).collect();
        if untils.last() != Some(&100) || !untils.is_sorted_by(|one, next| one < next) {
            return Err("portions are not 100 percent together");
        }
        for portion in &spread.portions {
            match &portion.source {
                Source::Pool(pool) => pool.check_invariants()?,
                Source::Localities { pools, .. } => {
                    for pool in pools {
                        pool.check_invariants()?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
