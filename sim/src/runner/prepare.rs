//! What is compiled before a run, and what a run begins with.

use std::collections::BTreeMap;
use std::rc::Rc;

use naru_base::Chance;
use naru_journey::Snapshot;
use naru_spec::{Config, Problem, Severity};

use super::{Bound, Compiled, Options, RunError, Runner};
use crate::arena::Arena;
use crate::made;
use crate::scenario::Scenario;
use crate::service::Circle;
use crate::transcript::Recorder;
use crate::world::World;

/// Configurations by the names that scenarios call them by; see [`Scenario::configs`].
pub type Configs = BTreeMap<String, Config>;

impl Compiled {
    /// All proxies have this configuration.
    pub(super) fn alike(config: Config, scenario: &Scenario) -> Result<Compiled, RunError> {
        let name = scenario.config.clone().unwrap_or_default();
        let snapshots = vec![compile(&name, config)?];
        Ok(Compiled { snapshots, outbound: vec![0; scenario.services.len()], made: None })
    }

    /// Each proxy has the configuration that the scenario names.
    pub(super) fn each(configs: &Configs, scenario: &Scenario) -> Result<Compiled, RunError> {
        let mut snapshots = Vec::new();
        let mut made = None;
        match &scenario.config {
            Some(name) => snapshots.push(find(configs, scenario, name)?),
            None => {
                let (config, names) = made::mesh(scenario).map_err(RunError::Scenario)?;
                snapshots.push(compile("", config)?);
                made = Some(names);
            }
        }
        let mut known: BTreeMap<&str, usize> =
            scenario.config.as_deref().map(|name| (name, 0)).into_iter().collect();
        let mut outbound = Vec::new();
        for service in &scenario.services {
            let name = service.outbound.as_ref().and_then(|outbound| outbound.config.as_ref());
            let Some(name) = name.map(|name| name.value.as_str()) else {
                outbound.push(0);
                continue;
            };
            let at = match known.get(name) {
                Some(at) => *at,
                None => {
                    snapshots.push(find(configs, scenario, name)?);
                    known.insert(name, snapshots.len() - 1);
                    snapshots.len() - 1
                }
            };
            outbound.push(at);
        }
        Ok(Compiled { snapshots, outbound, made })
    }
}

fn find(configs: &Configs, scenario: &Scenario, name: &str) -> Result<Snapshot, RunError> {
    match configs.get(name) {
        Some(config) => compile(name, config.clone()),
        None => Err(RunError::Scenario(vec![Problem {
            severity: Severity::Error,
            code: "unknown-name",
            message: format!("there is no configuration '{name}'"),
            hint: String::new(),
            file: scenario.file.clone(),
            line: 0,
            column: 0,
            path: "config".to_owned(),
        }])),
    }
}

/// A circle, where its service stands in the scenario.
pub(super) fn problem_of(scenario: &Scenario, circle: &Circle) -> Problem {
    let place = scenario.services.get(circle.service_at).map(|service| service.name.referenced);
    let number = |of: Option<u64>| of.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Problem {
        severity: Severity::Error,
        code: "circle",
        message: format!("a request that a service makes comes back to it: {}", circle.path),
        hint: "let another service stand for the part of it that is asked then".to_owned(),
        file: scenario.file.clone(),
        line: number(place.map(|place| place.line())),
        column: number(place.map(|place| place.column())),
        path: format!("services[{}].calls", circle.service_at),
    }
}

fn compile(name: &str, config: Config) -> Result<Snapshot, RunError> {
    Snapshot::compile(config).map_err(|problems| RunError::Config { name: name.to_owned(), problems })
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        compiled: &'a Compiled,
        bound: Bound,
        scenario: &Scenario,
        options: Options,
    ) -> Runner<'a> {
        let Bound {
            proxies,
            proxy_groups,
            services,
            sources,
            around,
            between,
            changes,
            unanswered,
            expected,
            load_meters,
        } = bound;
        let seed = options.seed;
        let groups: Vec<usize> = proxies.iter().map(|proxy| proxy.group).collect();
        let mut shown = Vec::new();
        for (at, name) in proxy_groups.iter().enumerate() {
            if let Some(proxy) = proxies.iter().find(|proxy| proxy.group == at) {
                shown.push((name.as_str(), &compiled.snapshots[proxy.snapshot], &proxy.fleet));
            }
        }
        let detail = scenario.transcript;
        let mut recorder =
            Recorder::new(&shown, detail.interval.0, detail.sample_every, sources.len(), load_meters);
        drop(shown);
        let callees = services
            .groups
            .iter()
            .map(|group| {
                let label = format!("calls of {} {}", group.service, group.version);
                (Rc::clone(&group.calls), Chance::split(seed, &label))
            })
            .collect();
        let mut world = World::empty(services);
        world.put_around(around);
        for proxy in proxies {
            let snapshot = &compiled.snapshots[proxy.snapshot];
            world.add_proxy(snapshot, proxy.workers, proxy.seed, proxy.fleet);
        }
        world.start_leases(scenario.gateways(), between);
        for (name, cluster) in unanswered {
            let what = format!("'{name}' of {cluster} has no answer; 'dns' of the scenario can give one");
            recorder.on_note(world.now(), "dns", what);
        }
        Runner {
            world,
            sources,
            changes,
            expected,
            recorder,
            calls: Arena::default(),
            callees,
            workers: Chance::split(seed, "workers"),
            gateways: scenario.gateways(),
            gateway: Chance::split(seed, "gateways"),
            groups,
            group_names: proxy_groups,
            calls_of_loads: 0,
            calls_of_services: 0,
            next_calls: Vec::new(),
            trace: options.is_traced.then(Vec::new),
            is_trace_cut: false,
            ends: naru_base::Instant::ZERO + scenario.duration.0,
            is_over: false,
        }
    }
}
