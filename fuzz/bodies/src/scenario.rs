//! A scenario of the simulator.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use naru_sim::runner::RunError;
use naru_sim::scenario::Arrivals;
use naru_sim::{Configs, Options, Scenario, Transcript, run, simulate};
use naru_spec::Config;

use crate::place;

const FILE: &str = "fuzz.yaml";

/// What is simulated: the example's.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = include_str!("../../../examples/simulation/envoy.yaml");
    naru_xds::load("envoy.yaml", text).expect("the example is valid").config
});

/// However long a scenario is, a thousand requests of it say enough.
const REQUESTS_MAX: u128 = 1_000;
const USERS_MAX: NonZeroU32 = NonZeroU32::new(8).expect("above zero");
const TRIES_MAX: NonZeroU32 = NonZeroU32::new(2).expect("above zero");
/// A service that is asked by itself is asked by each request as often as it calls.
const CALLS_MAX: usize = 2;
const SERVICES_MAX: usize = 4;
const DURATION_OF_USERS_MAX: Duration = Duration::from_micros(200);

/// A problem has its place; what parses runs, cut to a bearable size, without breaking an invariant,
/// and twice alike.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut scenario = match Scenario::parse(FILE, text) {
        Ok(scenario) => scenario,
        Err(problems) => {
            assert!(problems.iter().all(|problem| problem.is_error()) && !problems.is_empty());
            return place::check(FILE, text, &problems);
        }
    };
    cut(&mut scenario);
    let play = || play(&scenario);
    let first = play();
    match &first {
        Ok(transcript) => {
            let again = play().expect("it ran before");
            assert_eq!(transcript.to_string(), again.to_string(), "one seed, two transcripts");
            assert_eq!(transcript.to_svg(), again.to_svg(), "one seed, two pictures");
        }
        Err(RunError::Scenario(problems)) => place::check(FILE, text, problems),
        Err(error) => panic!("{error}"),
    }
}

/// Where a scenario names a configuration, the example's stands for it.
fn play(scenario: &Scenario) -> Result<Transcript, RunError> {
    match scenario.config {
        Some(_) => run(CONFIG.clone(), scenario, 1),
        None => simulate(&Configs::new(), scenario, Options { seed: 1, is_traced: true }),
    }
}

/// A run of what is left has a bounded number of events.
fn cut(scenario: &mut Scenario) {
    scenario.workers = scenario.workers.min(USERS_MAX);
    scenario.services.truncate(SERVICES_MAX);
    for service in &mut scenario.services {
        service.versions.truncate(SERVICES_MAX);
        let versions = service.versions.iter_mut().filter_map(|version| version.calls.as_mut());
        for calls in versions.chain([&mut service.calls]) {
            calls.truncate(CALLS_MAX);
            for retry in calls.iter_mut().filter_map(|call| call.retry.as_mut()) {
                retry.attempts = retry.attempts.min(TRIES_MAX);
            }
        }
        if let Some(outbound) = &mut service.outbound {
            outbound.workers = outbound.workers.min(USERS_MAX);
        }
        let versions = service.versions.iter_mut().filter_map(|version| version.replicas.as_mut());
        for replicas in versions.chain(&mut service.replicas) {
            replicas.value = replicas.value.min(USERS_MAX);
        }
    }
    for load in &mut scenario.load {
        if let Some(retry) = &mut load.retry {
            retry.attempts = retry.attempts.min(TRIES_MAX);
        }
        let rate = match &mut load.arrivals {
            Arrivals::Poisson(rate) | Arrivals::Constant(rate) => rate.hourly(),
            Arrivals::Ramp { from, to } => from.hourly().max(to.hourly()),
            Arrivals::Profile(steps) => steps.iter().map(|step| step.rate.hourly()).max().unwrap_or(0),
            Arrivals::Herd(herd) => {
                herd.count = herd.count.min(USERS_MAX);
                if let Some(every) = herd.every {
                    let waves = u32::try_from(REQUESTS_MAX).unwrap_or(u32::MAX) / USERS_MAX.get();
                    scenario.duration.0 = scenario.duration.0.min(every.0.saturating_mul(waves));
                }
                continue;
            }
            Arrivals::Users { count, .. } => {
                // They may ask again as soon as they are answered, a microsecond later.
                *count = (*count).min(USERS_MAX);
                scenario.duration.0 = scenario.duration.0.min(DURATION_OF_USERS_MAX);
                continue;
            }
        };
        let thousandths_per_hour = u128::from(rate).max(1);
        let longest = REQUESTS_MAX * 1_000 * 3_600_000_000_000 / thousandths_per_hour;
        let longest = Duration::from_nanos(u64::try_from(longest).unwrap_or(u64::MAX));
        scenario.duration.0 = scenario.duration.0.min(longest);
    }
}
