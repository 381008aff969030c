//! Who stands behind which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use naru_spec::suggest::did_you_mean;
use naru_spec::{ClusterName, Discovery, Surge, SurgeSignal, SurgeStep, defaults};
use serde_saphyr::Spanned;

use super::{Binder, Owners, ProxyPlan, Unit};
use crate::fleet::Fleet;
use crate::service::Instance;

/// What a unit says that it serves.
struct Served<'a> {
    unit: usize,
    /// Where that is not made but written.
    entry: Option<&'a Spanned<String>>,
}

impl<'a> Binder<'a> {
    /// Which unit stands behind each address, of all configurations.
    pub(super) fn owners(&mut self, units: &[Unit<'a>]) -> Owners {
        let fleets = self.fleets();
        let by_name = self.served(units, &fleets);
        let mut owners = Owners::new();
        for (snapshot, fleet) in self.compiled.snapshots.iter().zip(&fleets) {
            for (what, hint) in unsimulated(snapshot.surge.as_ref()) {
                let problem = self.problem((0, 0), "config".to_owned(), "not-served", what, hint);
                self.problems.push(problem);
            }
            let asks =
                |chain: &naru_journey::Chain| chain.gate.as_ref().is_some_and(|gate| gate.asks_to_count());
            let counts = |chain: &naru_journey::Chain| {
                chain.gate.as_ref().is_some_and(|gate| gate.counts_connections())
            };
            let unknown = [
                (snapshot.chains().iter().any(asks), "a rate limit service is asked", "the filter ratelimit"),
                (
                    snapshot.chains().iter().any(counts),
                    "connections of clients have rate limits of their own",
                    "local_rate_limit_per_downstream_connection",
                ),
            ];
            for (_, what, left_out) in unknown.into_iter().filter(|(is_there, ..)| *is_there) {
                let problem = self.problem(
                    (0, 0),
                    "config".to_owned(),
                    "not-served",
                    format!("{what}, which is not simulated"),
                    format!("leave {left_out} out"),
                );
                self.problems.push(problem);
            }
            for (id, endpoints) in fleet.clusters() {
                let cluster = &snapshot.cluster(id).name;
                let is_on_demand = matches!(snapshot.cluster(id).discovery, Discovery::OnDemand(_));
                if is_on_demand && cluster != defaults::ADDRESSES_CLUSTER {
                    let problem = self.problem(
                        (0, 0),
                        "services".to_owned(),
                        "not-served",
                        format!(
                            "the endpoints of cluster '{cluster}' come with requests, which is not simulated"
                        ),
                        "write its endpoints: resolution: STATIC, or type: STATIC".to_owned(),
                    );
                    self.problems.push(problem);
                }
                for here in endpoints {
                    let by_address =
                        by_name.iter().find(|(name, _)| here.is_called(name)).map(|(_, found)| found);
                    let by_cluster = || by_name.get(cluster.as_str());
                    let by_host = || host_of(cluster).and_then(|host| find_host(&by_name, host));
                    let Some(served) = by_address.or_else(by_cluster).or_else(by_host) else {
                        let problem = self.problem(
                            (0, 0),
                            "services".to_owned(),
                            "not-served",
                            format!("no service stands behind {} of cluster '{cluster}'", here.address),
                            format!("add '{cluster}' or '{}' to the 'serves' of a service", here.address),
                        );
                        if !self.problems.contains(&problem) {
                            self.problems.push(problem);
                        }
                        continue;
                    };
                    let before = owners.insert(here.address, served.unit);
                    if let (Some(other), Some(entry)) =
                        (before.filter(|other| *other != served.unit), served.entry)
                    {
                        let what = format!(
                            "{} is served by '{}' already, in another cluster",
                            here.address,
                            units[other].name()
                        );
                        let path = format!("{}.serves", units[served.unit].path());
                        self.tell(entry, path, "served-twice", &what);
                    }
                }
            }
        }
        owners
    }

    fn fleets(&self) -> Vec<Fleet> {
        let dns = &self.scenario.dns;
        let fleet = |snapshot| Fleet::new(snapshot, &|name| dns.get(name).cloned());
        self.compiled.snapshots.iter().map(fleet).collect()
    }

    /// Clusters and addresses by name, with those who serve them.
    fn served(&mut self, units: &[Unit<'a>], fleets: &[Fleet]) -> BTreeMap<String, Served<'a>> {
        let mut by_name: BTreeMap<String, Served<'a>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (unit_at, unit) in units.iter().enumerate() {
            let service_path = format!("services[{}]", unit.service_at);
            if unit.version_at == 0 && !names.insert(unit.service.name.value.as_str()) {
                let what = "two services have this name";
                self.tell(&unit.service.name, format!("{service_path}.name"), "defined-twice", what);
            }
            if let Some(version) = unit.version {
                let earlier = &unit.service.versions[..unit.version_at];
                if earlier.iter().any(|other| other.name.value == version.name.value) {
                    let what = "two versions of this service have this name";
                    self.tell(&version.name, format!("{}.name", unit.path()), "defined-twice", what);
                }
            }
            if let (Some(_), Some(entry)) = (unit.version, unit.service.serves.first()) {
                let what = "a service with versions serves nothing itself: each version says what it serves";
                self.tell(entry, format!("{service_path}.serves"), "contradiction", what);
            }
            if let Some(made) = &self.compiled.made {
                if let Some(entry) = unit.serves().first() {
                    let what =
                        "there is no configuration whose clusters it could serve: the scenario names none";
                    self.tell(entry, format!("{}.serves", unit.path()), "contradiction", what);
                }
                let mine = made.get(unit.service_at).and_then(|of| of.get(unit.version_at));
                by_name.extend(mine.map(|name| (name.clone(), Served { unit: unit_at, entry: None })));
                continue;
            }
            self.check_not_made(unit);
            for (entry_at, entry) in unit.serves().iter().enumerate() {
                let path = format!("{}.serves[{entry_at}]", unit.path());
                if !self.is_known(&entry.value, fleets) {
                    self.tell_unknown(entry, path);
                } else if let Some(other) = by_name.get(&entry.value) {
                    let what =
                        format!("'{}' is served by '{}' already", entry.value, units[other.unit].name());
                    self.tell(entry, path, "served-twice", &what);
                } else {
                    by_name.insert(entry.value.clone(), Served { unit: unit_at, entry: Some(entry) });
                }
            }
        }
        by_name
    }

    /// What is said only where a mesh is made of the services.
    fn check_not_made(&mut self, unit: &Unit<'a>) {
        let what = "instances and their weights come from the configuration that the scenario names";
        let replicas = unit.version.map_or(&unit.service.replicas, |version| &version.replicas);
        if let Some(replicas) = replicas {
            self.tell(replicas, format!("{}.replicas", unit.path()), "contradiction", what);
        }
        if let Some(weight) = unit.version.and_then(|version| version.weight.as_ref()) {
            self.tell(weight, format!("{}.weight", unit.path()), "contradiction", what);
        }
    }

    fn is_known(&self, name: &str, fleets: &[Fleet]) -> bool {
        let is_endpoint = |fleet: &Fleet| {
            fleet.clusters().any(|(_, endpoints)| endpoints.iter().any(|here| here.is_called(name)))
        };
        self.clusters()
            .any(|cluster| cluster == name || host_of(cluster).is_some_and(|host| is_host(host, name)))
            || fleets.iter().any(is_endpoint)
            || self.is_written(name)
    }

    fn clusters(&self) -> impl Iterator<Item = &'a str> {
        let snapshots = self.compiled.snapshots.iter();
        snapshots.flat_map(|snapshot| snapshot.clusters.iter().map(|cluster| cluster.name.as_str()))
    }

    /// Whether a configuration has an endpoint of this address or name, answered by DNS or not.
    fn is_written(&self, name: &str) -> bool {
        let clusters = self.compiled.snapshots.iter().flat_map(|snapshot| &snapshot.clusters);
        clusters.flat_map(|cluster| &cluster.endpoints).any(|endpoint| endpoint.address.to_string() == name)
    }

    fn tell_unknown(&mut self, entry: &Spanned<String>, path: String) {
        let known: BTreeSet<&str> = self.clusters().collect();
        let near = did_you_mean(&entry.value, known.iter().copied());
        let hint = match near.as_str() {
            "" => {
                let known: Vec<&str> = known.into_iter().collect();
                format!("its clusters are {}", known.join(", "))
            }
            _ => near,
        };
        let what = format!("'{}' is no cluster and no endpoint of the configuration", entry.value);
        self.tell_with_hint(entry, path, "unknown-name", what, hint);
    }
}

/// The host of a cluster that is called as Istio calls them.
fn host_of(cluster: &str) -> Option<&str> {
    ClusterName::read(cluster).map(|name| name.host)
}

/// A host, or the first word of its name.
fn is_host(host: &str, name: &str) -> bool {
    host == name || host.split('.').next() == Some(name)
}

fn find_host<'b, 'a>(by_name: &'b BTreeMap<String, Served<'a>>, host: &str) -> Option<&'b Served<'a>> {
    by_name.get(host).or_else(|| by_name.get(host.split('.').next()?))
}

/// All that the configurations call an address.
pub(super) fn written_names(proxies: &[ProxyPlan]) -> BTreeMap<SocketAddr, BTreeSet<String>> {
    let mut names: BTreeMap<SocketAddr, BTreeSet<String>> = BTreeMap::new();
    for here in proxies.iter().flat_map(|proxy| proxy.fleet.clusters().flat_map(|(_, all)| all)) {
        names.entry(here.address).or_default().extend([here.written.clone(), here.address.to_string()]);
    }
    names
}

/// Which instance each endpoint leads to, by proxy and cluster. One that leads nowhere is a problem
/// that was told.
pub(super) fn places(proxies: &[ProxyPlan], instances: &[Instance]) -> Vec<Vec<Vec<usize>>> {
    let indexes: BTreeMap<SocketAddr, usize> =
        instances.iter().enumerate().map(|(at, instance)| (instance.address, at)).collect();
    let of_proxy = |proxy: &ProxyPlan| {
        let of_cluster = |(_, endpoints): (_, &[crate::fleet::EndpointHere])| {
            let at = |address| indexes.get(address).copied().unwrap_or(usize::MAX);
            endpoints.iter().map(|here| at(&here.address)).collect()
        };
        proxy.fleet.clusters().map(of_cluster).collect()
    };
    proxies.iter().map(of_proxy).collect()
}

/// What a `Surge` asks for that is not simulated, and what to do about it.
fn unsimulated(surge: Option<&Surge>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for level in surge.iter().flat_map(|surge| &surge.levels) {
        for threshold in &level.enter {
            if matches!(threshold.signal, SurgeSignal::Cpu | SurgeSignal::Memory) {
                let signal = threshold.signal.name();
                let what = format!(
                    "level '{}' of the Surge is entered for {signal}, which is not simulated",
                    level.name
                );
                found.push((
                    what,
                    "enter it for requestsPercent, p95, p99, errorsPercent, queued or cacheMissPercent"
                        .to_owned(),
                ));
            }
        }
        for step in &level.steps {
            let what = match step {
                SurgeStep::CacheLifetime { .. } | SurgeStep::RateLimit { .. } | SurgeStep::Shed { .. } => {
                    continue;
                }
                SurgeStep::Pause { workload } => format!("pauses '{workload}'"),
                SurgeStep::Replicas { workload, .. } => format!("asks for more of '{workload}'"),
            };
            let what = format!("level '{}' of the Surge {what}, and workloads are not simulated", level.name);
            found.push((what, "leave the step out".to_owned()));
        }
    }
    found
}
