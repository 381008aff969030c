//! Long walks: fitness changes, time passes, requests come and go, and every pick is one that the
//! documents allow.

use naru_spec::{PeakEwma, WarmUp};

use super::fitness::{maglev, ring};
use super::*;
use crate::priority::Spill;

/// What Envoy's documents say of priorities, in their words, one endpoint after the other.
struct RefPriorities<'a> {
    /// Weights and priorities.
    endpoints: &'a [(u32, u32)],
    fitness: &'a [Fitness],
    spill: Spill,
}

impl RefPriorities<'_> {
    fn count(&self, priority: u32, test: impl Fn(Fitness) -> bool) -> u64 {
        let all = self.endpoints.iter().zip(self.fitness);
        let counted = all.filter(|((weight, of), fitness)| *weight > 0 && *of == priority && test(**fitness));
        counted.filter(|(_, fitness)| **fitness != Fitness::Excluded).count() as u64
    }

    fn health(&self, priority: u32, test: impl Fn(Fitness) -> bool) -> u64 {
        let factor = u64::from(self.spill.overprovisioning_percent);
        (factor * self.count(priority, test))
            .checked_div(self.count(priority, |_| true))
            .unwrap_or(0)
            .min(100)
    }

    fn may_be_picked(&self, endpoint: usize) -> bool {
        let (weight, priority) = self.endpoints[endpoint];
        let fitness = self.fitness[endpoint];
        if weight == 0 || fitness == Fitness::Excluded {
            return false;
        }
        let mut priorities: Vec<u32> = self.endpoints.iter().map(|(_, priority)| *priority).collect();
        priorities.sort();
        priorities.dedup();
        let healths = |test: fn(Fitness) -> bool| -> Vec<u64> {
            priorities.iter().map(|priority| self.health(*priority, test)).collect()
        };
        let (fit, degraded) = (healths(is_fit), healths(is_degraded));
        let total = (fit.iter().sum::<u64>() + degraded.iter().sum::<u64>()).min(100);
        let panics = |priority: u32| {
            let available = self.count(priority, is_fit) + self.count(priority, is_degraded);
            let all = self.count(priority, |_| true);
            let threshold = u64::from(self.spill.panic_percent);
            total < 100 && threshold > 0 && (all == 0 || available * 100 < threshold * all)
        };
        if priorities.iter().all(|priority| panics(*priority)) {
            return true;
        }
        if total == 0 {
            // Nobody is worth anything: whoever there is, or nobody.
            return is_fit(fitness) || is_degraded(fitness) || panics(priority);
        }
        let mut before = 0;
        let mut load = |health: &u64| {
            let load = (health * 100 / total).min(100 - before);
            before += load;
            load
        };
        let fit_loads: Vec<u64> = fit.iter().map(&mut load).collect();
        let degraded_loads: Vec<u64> = degraded.iter().map(&mut load).collect();
        let at = priorities.iter().position(|one| *one == priority).unwrap();
        let first_fit = fit.iter().position(|health| *health > 0);
        let first_degraded = degraded.iter().position(|health| *health > 0);
        let is_rest = before < 100;
        let has_fit = fit_loads[at] > 0 || is_rest && first_fit == Some(at);
        let has_degraded =
            degraded_loads[at] > 0 || is_rest && first_fit.is_none() && first_degraded == Some(at);
        if panics(priority) {
            return has_fit || has_degraded;
        }
        is_fit(fitness) && has_fit || is_degraded(fitness) && has_degraded
    }
}

fn is_fit(fitness: Fitness) -> bool {
    matches!(fitness, Fitness::Fit { .. })
}

fn is_degraded(fitness: Fitness) -> bool {
    fitness == Fitness::Degraded
}

fn random_settings(chance: &mut Chance) -> (LoadBalancing, Spill) {
    let policies = [
        BalancingPolicy::RoundRobin,
        TWO,
        BalancingPolicy::LeastRequest(LeastRequest { choices: 3, bias: Thousandths(1_300) }),
        BalancingPolicy::Random,
        BalancingPolicy::PeakEwma(PeakEwma::default()),
        ring(),
        maglev(),
    ];
    let mut policy = policies[chance.below(7) as usize];
    if let BalancingPolicy::ConsistentHash(settings) = &mut policy {
        settings.load_max_percent = (chance.below(2) == 0).then(|| 100 + chance.below(100) as u32);
    }
    let mut settings = LoadBalancing::from(policy);
    settings.warm_up = (chance.below(2) == 0).then(|| WarmUp {
        aggression: Thousandths(1 + chance.below(3_000) as u32),
        min_percent: chance.below(101) as u32,
        ..WarmUp::over(Duration::from_millis(1 + chance.below(1_000)))
    });
    let spill = Spill {
        overprovisioning_percent: [100, 140, 1, 1_000][chance.below(4) as usize],
        panic_percent: [0, 50, 100, 20][chance.below(4) as usize],
    };
    settings.overprovisioning_percent = spill.overprovisioning_percent;
    settings.weighs_localities = chance.below(2) == 0;
    (settings, spill)
}

fn random_fitness(chance: &mut Chance, now: Instant, len: usize) -> Vec<Fitness> {
    let unfit = 1 + chance.below(4);
    (0..len)
        .map(|_| match chance.below(7) {
            draw if draw < unfit => Fitness::Unfit,
            6 => Fitness::Excluded,
            4 => Fitness::Degraded,
            _ => Fitness::Fit { since: now - Duration::from_millis(chance.below(2_000)) },
        })
        .collect()
}

fn walk(seed: u64) {
    let mut chance = Chance::new(seed);
    let (settings, spill) = random_settings(&mut chance);
    let len = 1 + chance.below(12) as usize;
    let zones = ["a", "b", "c"].map(|zone| Locality { zone: zone.into(), ..Locality::default() });
    let keys: Vec<String> = (0..len).map(|at| format!("10.0.0.{at}:80")).collect();
    let endpoints: Vec<(u32, u32)> =
        (0..len).map(|_| (chance.below(4) as u32, 3 * chance.below(3) as u32)).collect();
    let facts: Vec<EndpointFacts<'_>> = endpoints
        .iter()
        .zip(&keys)
        .map(|(&(weight, priority), key)| EndpointFacts {
            weight: Weight(weight),
            priority,
            locality: &zones[chance.below(3) as usize],
            locality_weight: Weight(1 + chance.below(5) as u32),
            key,
        })
        .collect();
    let mut balancer = Balancer::new(&settings, &facts, chance.draw());
    let mut fitness = vec![Fitness::FIT; len];
    let mut loads = vec![0_u32; len];
    let mut now = Instant(5_000_000_000);
    let mut picks = Chance::new(seed ^ 1);
    for step in 0..400 {
        let place = || format!("seed {seed}, step {step}");
        match chance.below(20) {
            0 => {
                fitness = random_fitness(&mut chance, now, len);
                balancer.set_fitness(now, spill.panic_percent, &fitness);
                balancer.check_invariants().unwrap();
            }
            1 => {
                now = now + Duration::from_millis(chance.below(300));
                balancer.tick(now);
                assert!(balancer.deadline().is_none_or(|at| at > now), "{}", place());
            }
            2 => {
                let endpoint = EndpointId(chance.below(14) as u32);
                balancer.on_latency(now, endpoint, Duration::from_nanos(chance.draw() >> chance.below(64)));
            }
            3 => loads[chance.below(len as u64) as usize] = (chance.draw() >> chance.below(64)) as u32,
            _ => {
                let mut asked = PickContext { now, ..PickContext::default() };
                asked.hash = (chance.below(2) == 0).then(|| chance.draw());
                if chance.below(3) == 0 {
                    asked.tried.insert(EndpointId(chance.below(14) as u32));
                }
                let (mut twin, mut same) = (balancer.clone(), picks.clone());
                let picked = balancer.pick(&asked, &loads[..], &mut picks);
                assert_eq!(picked, twin.pick(&asked, &loads[..], &mut same), "equal calls, equal picks");
                let reference = RefPriorities { endpoints: &endpoints, fitness: &fitness, spill };
                let is_allowed = match picked {
                    Some(picked) => reference.may_be_picked(picked.index()),
                    None => !(0..len).any(|at| reference.may_be_picked(at)),
                };
                assert!(
                    is_allowed,
                    "{picked:?}, {}: {settings:?}\n{endpoints:?}\n{fitness:?}\n{balancer:?}",
                    place()
                );
                if let Some(load) = picked.and_then(|picked| loads.get_mut(picked.index())) {
                    *load = load.saturating_add(1);
                }
            }
        }
    }
}

#[test]
fn every_pick_is_one_that_the_documents_allow() {
    for seed in 0..256 {
        walk(seed);
    }
}
