//! A scenario beside its configurations: which service stands behind which endpoint, whom it calls
//! and through which proxy, what loads send where, what is measured. Every problem is found before
//! any is returned.

// In reading order: who stands where, what happens to them, who asks them, what is measured.
mod owners;
mod services;
mod proxies;
mod clients;
mod askers;
mod between;
mod expectations;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use naru_base::Instant;
use naru_journey::Snapshot;
use naru_spec::{Problem, Severity};
use serde_saphyr::Spanned;

use crate::change::StateChange;
use crate::expect::{Expected, Meter};
use crate::fleet::Fleet;
use crate::leases::Between;
use crate::ledger::Ledger;
use crate::load::Source;
use crate::scenario::{Arrivals, Herd, Scenario, Service, Version};
use crate::service::Services;
use crate::stores::Around;
use crate::transcript::INTERVALS_MAX;

const INTERVAL_MIN: Duration = Duration::from_millis(1);
const WORKERS_MAX: u32 = 1_024;
const USERS_MAX: u32 = 1_000_000;

/// Everything that a run needs beside the snapshots.
#[derive(Debug)]
pub struct Bound {
    /// The first is the one that loads come to.
    pub proxies: Vec<ProxyPlan>,
    /// Proxies that are counted together: the first one, and those of each service that calls.
    pub proxy_groups: Vec<String>,
    pub services: Services,
    pub sources: Vec<Source>,
    pub around: Around,
    pub between: Between,
    /// In order of time.
    pub changes: Vec<Change>,
    /// Names that DNS has no answer for, with their clusters.
    pub unanswered: Vec<(String, String)>,
    pub expected: Vec<Expected>,
    /// Of loads: all, or one.
    pub load_meters: Vec<(Meter, Option<usize>)>,
}

#[derive(Debug)]
pub struct ProxyPlan {
    pub group: usize,
    pub snapshot: usize,
    pub fleet: Fleet,
    pub workers: usize,
    pub seed: u64,
}

/// An instance begins or ceases to be different.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Instant,
    /// Its place.
    pub instance: usize,
    pub change: StateChange,
    /// What it was before.
    pub ended: Option<StateChange>,
    /// As the scenario calls it.
    pub name: Option<String>,
}

/// The snapshots of a scenario, and which of them the calls of each service go by.
#[derive(Debug)]
pub struct Compiled {
    /// The first is that of the proxy that loads come to.
    pub snapshots: Vec<Snapshot>,
    /// By the place of the service in the scenario.
    pub outbound: Vec<usize>,
    /// What each version serves, where that is not written: by service and version.
    pub made: Option<Vec<Vec<String>>>,
}

pub fn bind(compiled: &Compiled, scenario: &Scenario, seed: u64) -> Result<Bound, Vec<Problem>> {
    let mut binder = Binder { compiled, scenario, problems: Vec::new() };
    let bound = binder.bind(seed);
    match bound {
        Some(bound) if binder.problems.is_empty() => Ok(bound),
        _ => Err(binder.problems),
    }
}

struct Binder<'a> {
    compiled: &'a Compiled,
    scenario: &'a Scenario,
    problems: Vec<Problem>,
}

/// A version of a service, or the service where it has no versions.
#[derive(Clone, Copy)]
struct Unit<'a> {
    service_at: usize,
    service: &'a Service,
    version_at: usize,
    version: Option<&'a Version>,
}

impl<'a> Unit<'a> {
    fn path(&self) -> String {
        match self.version {
            Some(_) => format!("services[{}].versions[{}]", self.service_at, self.version_at),
            None => format!("services[{}]", self.service_at),
        }
    }

    fn serves(&self) -> &'a [Spanned<String>] {
        self.version.map_or(&self.service.serves, |version| &version.serves)
    }

    /// `orders`, or `orders v2`.
    fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{} {}", self.service.name.value, version.name.value),
            None => self.service.name.value.clone(),
        }
    }
}

impl<'a> Binder<'a> {
    fn bind(&mut self, seed: u64) -> Option<Bound> {
        self.check_bounds();
        self.problems.extend(crate::processes::play(self.scenario).err().unwrap_or_default());
        let units = self.units();
        let owners = self.owners(&units);
        let plans = self.proxies(&owners, seed);
        let mut changes = Vec::new();
        let (instances, groups) = self.instances(&units, &owners, &plans, seed, &mut changes);
        changes.sort_by_key(|change| change.at);
        let places = owners::places(&plans.proxies, &instances);
        let sources = self.sources(seed);
        let around = self.around(seed);
        let between = self.between(seed);
        let unanswered = self.unanswered();
        let measured = self.expectations(&units, &instances);
        let services_of = units.iter().map(|unit| unit.service_at).collect();
        let interval_ns = u64::try_from(self.scenario.transcript.interval.0.as_nanos()).unwrap_or(u64::MAX);
        let ledger = Ledger::new(services_of, interval_ns, measured.service_meters);
        if !self.problems.is_empty() {
            return None;
        }
        Some(Bound {
            proxies: plans.proxies,
            proxy_groups: plans.groups,
            services: Services::new(instances, groups, places, ledger),
            sources,
            around,
            between,
            changes,
            unanswered,
            expected: measured.expected,
            load_meters: measured.load_meters,
        })
    }

    fn snapshot(&self) -> &'a Snapshot {
        &self.compiled.snapshots[0]
    }

    fn units(&self) -> Vec<Unit<'a>> {
        let mut units = Vec::new();
        for (service_at, service) in self.scenario.services.iter().enumerate() {
            if service.versions.is_empty() {
                units.push(Unit { service_at, service, version_at: 0, version: None });
            }
            for (version_at, version) in service.versions.iter().enumerate() {
                units.push(Unit { service_at, service, version_at, version: Some(version) });
            }
        }
        units
    }

    /// What would make a run endless, or larger than any machine.
    fn check_bounds(&mut self) {
        let scenario = self.scenario;
        self.check_workers(scenario.workers.get(), None, "workers");
        if let Some(gateways) =
            scenario.gateways.as_ref().filter(|said| said.value.get() > proxies::GATEWAYS_MAX)
        {
            let what = format!(
                "there are {} gateways, at most {} are possible",
                gateways.value,
                proxies::GATEWAYS_MAX
            );
            self.tell(gateways, "gateways".to_owned(), "invalid-value", &what);
        }
        let intervals = scenario.duration.0.as_nanos() / scenario.transcript.interval.0.as_nanos().max(1);
        if scenario.transcript.interval.0 < INTERVAL_MIN || intervals >= INTERVALS_MAX as u128 {
            let what =
                format!("an interval lasts a millisecond at least, and there are at most {INTERVALS_MAX}");
            self.tell_of_nothing("transcript.interval", what);
        }
        for (at, service) in scenario.services.iter().enumerate() {
            let workers = service.outbound.as_ref().map_or(1, |outbound| outbound.workers.get());
            self.check_workers(workers, Some(&service.name), &format!("services[{at}].outbound.workers"));
        }
        for (at, load) in scenario.load.iter().enumerate() {
            let path = format!("load[{at}].arrivals");
            let mut check = |is_fine: bool, field: &str, what: &str| {
                if !is_fine {
                    self.tell(&load.name, format!("{path}.{field}"), "invalid-value", what);
                }
            };
            match &load.arrivals {
                Arrivals::Users { count, .. } => check(
                    count.get() <= USERS_MAX,
                    "users.count",
                    &format!("there are {count} users, at most {USERS_MAX} are possible"),
                ),
                Arrivals::Herd(Herd { count, over, every }) => {
                    check(
                        count.get() <= USERS_MAX,
                        "herd.count",
                        &format!("{count} come at once, at most {USERS_MAX} are possible"),
                    );
                    check(
                        every.is_none_or(|every| every.0 >= over.0.max(INTERVAL_MIN)),
                        "herd.every",
                        "the next herd comes before this one is there, or within a millisecond",
                    );
                }
                Arrivals::Profile(steps) => {
                    let rises = steps.windows(2).all(|two| two[0].at < two[1].at);
                    check(
                        rises && !steps.is_empty(),
                        "profile",
                        "the steps of a profile stand in the order of their times",
                    );
                }
                Arrivals::Poisson(_) | Arrivals::Constant(_) | Arrivals::Ramp { .. } => {}
            }
        }
    }

    fn check_workers(&mut self, workers: u32, place: Option<&Spanned<String>>, path: &str) {
        if workers <= WORKERS_MAX {
            return;
        }
        let what = format!("there are {workers} workers, at most {WORKERS_MAX} are possible");
        match place {
            Some(place) => self.tell(place, path.to_owned(), "invalid-value", &what),
            None => self.tell_of_nothing(path, what),
        }
    }

    /// A problem of what stands nowhere, as it may have been left out.
    fn tell_of_nothing(&mut self, path: &str, what: String) {
        let problem = self.problem((0, 0), path.to_owned(), "invalid-value", what, String::new());
        self.problems.push(problem);
    }

    fn unanswered(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for snapshot in &self.compiled.snapshots {
            for cluster in &snapshot.clusters {
                for endpoint in &cluster.endpoints {
                    if let naru_spec::Address::Name { host, .. } = &endpoint.address
                        && !self.scenario.dns.contains_key(host)
                    {
                        found.push((host.clone(), cluster.name.clone()));
                    }
                }
            }
        }
        found.dedup();
        found
    }

    fn tell<T>(&mut self, place: &Spanned<T>, path: String, code: &'static str, what: &str) {
        self.tell_with_hint(place, path, code, what.to_owned(), String::new());
    }

    fn tell_with_hint<T>(
        &mut self,
        place: &Spanned<T>,
        path: String,
        code: &'static str,
        message: String,
        hint: String,
    ) {
        let at = (place.referenced.line(), place.referenced.column());
        let problem = self.problem(at, path, code, message, hint);
        // What a service says once may be looked at for each of its endpoints.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn problem(
        &self,
        at: (u64, u64),
        path: String,
        code: &'static str,
        message: String,
        hint: String,
    ) -> Problem {
        Problem {
            severity: Severity::Error,
            code,
            message,
            hint,
            file: self.scenario.file.clone(),
            line: u32::try_from(at.0).unwrap_or(u32::MAX),
            column: u32::try_from(at.1).unwrap_or(u32::MAX),
            path,
        }
    }
}

/// A moment of the scenario.
fn moment(time: Duration) -> Instant {
    Instant::ZERO + time
}

/// The unit behind each address, by its place among all.
type Owners = BTreeMap<SocketAddr, usize>;
