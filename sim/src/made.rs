//! A mesh for a scenario that names no configuration: every service by its own name, every version a
//! cluster, every default as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use naru_base::Weight;
use naru_spec::{
    Action, Address, Cluster, ClusterChoice, ClusterLimits, Config, Discovery, Domain, Endpoint, FilterChain,
    Forward, HeaderOps, Http, Listener, Match, PathMatch, Problem, RetryBudget, RetryLimit, RouteTable, Rule,
    Severity, TlsRequirement, VirtualHost, WeightedCluster,
};
use serde_saphyr::Spanned;

use crate::scenario::{Scenario, Service};

const PORT: u16 = 8_080;
const REPLICAS_MAX: u32 = 1_000;
/// Of all versions together.
const INSTANCES_MAX: usize = 100_000;
/// Versions in all, so that their addresses have room.
const VERSIONS_MAX: usize = 10_000;

/// A configuration, and the clusters of each service by version.
pub fn mesh(scenario: &Scenario) -> Result<(Config, Vec<Vec<String>>), Vec<Problem>> {
    let mut maker = Maker { scenario, problems: Vec::new(), clusters: Vec::new() };
    let mut virtual_hosts = Vec::new();
    let mut names = Vec::new();
    for (at, service) in scenario.services.iter().enumerate() {
        let first = maker.clusters.len();
        virtual_hosts.extend(maker.host(at, service));
        names.push(maker.clusters.iter().skip(first).map(|cluster| cluster.name.clone()).collect());
    }
    let instances: usize = maker.clusters.iter().map(|cluster| cluster.endpoints.len()).sum();
    if let (true, Some(last)) = (instances > INSTANCES_MAX, scenario.services.last()) {
        let what = format!("there are {instances} instances in all, at most {INSTANCES_MAX} are possible");
        maker.tell(&last.name, "services".to_owned(), &what);
    }
    if !maker.problems.is_empty() {
        return Err(maker.problems);
    }
    let routes = RouteTable { virtual_hosts, ..RouteTable::default() };
    let chain = FilterChain { name: "main".to_owned(), ..FilterChain::of(Http::new("mesh", routes)) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = Listener::new("mesh", address, vec![chain]);
    Ok((
        Config { admin: None, listeners: vec![listener], clusters: maker.clusters, ..Config::default() },
        names,
    ))
}

/// As where documents say nothing of limits: none, but a budget for retries.
fn limits() -> ClusterLimits {
    let retries = RetryLimit::Budget(RetryBudget::default());
    let mut limits = ClusterLimits::istio();
    limits.normal.retries = retries;
    limits
}

struct Maker<'a> {
    scenario: &'a Scenario,
    problems: Vec<Problem>,
    clusters: Vec<Cluster>,
}

impl Maker<'_> {
    fn host(&mut self, at: usize, service: &Service) -> Option<VirtualHost> {
        let name = &service.name.value;
        let mut weighted = Vec::new();
        if service.versions.is_empty() {
            weighted.push((
                self.cluster(&service.name, name.clone(), &service.replicas, &format!("services[{at}]")),
                1,
            ));
        }
        for (version_at, version) in service.versions.iter().enumerate() {
            let path = format!("services[{at}].versions[{version_at}]");
            let replicas = if version.replicas.is_some() { &version.replicas } else { &service.replicas };
            let cluster =
                self.cluster(&version.name, format!("{name}-{}", version.name.value), replicas, &path);
            weighted.push((cluster, version.weight.as_ref().map_or(1, |weight| weight.value)));
        }
        let clusters = match weighted.as_slice() {
            [(only, _)] => ClusterChoice::One(only.clone()),
            _ => {
                let clusters = weighted.into_iter().map(|(name, weight)| WeightedCluster {
                    name,
                    weight: Weight(weight),
                    host: None,
                    request_headers: HeaderOps::default(),
                    response_headers: HeaderOps::default(),
                });
                match ClusterChoice::weighted(clusters.collect()) {
                    Ok(clusters) => clusters,
                    Err(invalid) => {
                        self.tell(&service.name, format!("services[{at}].versions"), &invalid.to_string());
                        return None;
                    }
                }
            }
        };
        let rule = Rule {
            gate: Vec::new(),
            name: name.clone(),
            origin: String::new(),
            matches: vec![Match { path: PathMatch::Prefix("/".to_owned()), ..Match::default() }],
            action: Action::Forward(Box::new(Forward { clusters, ..Forward::to("") })),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        };
        Some(VirtualHost {
            name: name.clone(),
            domains: vec![Domain::Exact(name.to_ascii_lowercase())],
            rules: vec![rule],
            tls: TlsRequirement::None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        })
    }

    /// Its endpoints are `10.N.N.M:8080`; its name is returned.
    fn cluster(
        &mut self,
        service: &Spanned<String>,
        name: String,
        replicas: &Option<Spanned<NonZeroU32>>,
        path: &str,
    ) -> String {
        let number = self.clusters.len();
        if self.clusters.iter().any(|cluster| cluster.name == name) {
            let what = format!("two services or versions are called '{name}'");
            self.tell(service, path.to_owned(), &what);
        }
        let count = replicas.as_ref().map_or(1, |replicas| replicas.value.get());
        if let Some(replicas) = replicas.as_ref().filter(|_| count > REPLICAS_MAX || number >= VERSIONS_MAX) {
            let what = format!("there are {count} replicas, at most {REPLICAS_MAX} are possible");
            self.tell(replicas, format!("{path}.replicas"), &what);
        }
        // Each version has 2^10 addresses of 10.0.0.0/8.
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + ((number as u32 % VERSIONS_MAX as u32 + 1) << 10);
        let endpoint = |replica: u32| {
            Endpoint::new(Address::Socket(SocketAddr::from((Ipv4Addr::from(first + 1 + replica), PORT))))
        };
        let endpoints = (0..count.min(REPLICAS_MAX)).map(endpoint).collect();
        let mut cluster = Cluster::new(name.clone(), Discovery::Static, endpoints);
        cluster.limits = limits();
        self.clusters.push(cluster);
        name
    }

    fn tell<T>(&mut self, place: &Spanned<T>, path: String, what: &str) {
        self.problems.push(Problem {
            severity: Severity::Error,
            code: "invalid-value",
            message: what.to_owned(),
            hint: String::new(),
            file: self.scenario.file.clone(),
            line: u32::try_from(place.referenced.line()).unwrap_or(u32::MAX),
            column: u32::try_from(place.referenced.column()).unwrap_or(u32::MAX),
            path,
        });
    }
}
