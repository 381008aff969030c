//! A scenario beside a configuration: which service stands behind which endpoint, and what its
//! loads send where. Every problem is found before any is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri, Version, header};
use naru_base::Instant;
use naru_journey::edge::Peer;
use naru_journey::{ChainId, Snapshot};
use naru_spec::{Problem, Severity};
use serde_saphyr::Spanned;

use crate::body::Body;
use crate::distribution::Distribution;
use crate::fleet::Fleet;
use crate::load::{Kind, Source};
use crate::quantity::Share;
use crate::request::Request;
use crate::scenario::{
    Arrivals, Fault, FaultShare, Load, Protocol, RequestKind, Scenario, Service, State, Window,
};
use crate::service::{Behaviour, Different, Faults, Instance, Services};
use crate::transcript::INTERVALS_MAX;
use crate::upstream::IdleClose;

/// The port of every simulated client.
const CLIENT_PORT: u16 = 40_000;

const INTERVAL_MIN: Duration = Duration::from_millis(1);
const WORKERS_MAX: u32 = 1_024;
const USERS_MAX: u32 = 1_000_000;

/// Everything that a run needs beside the snapshot.
#[derive(Debug)]
pub struct Bound {
    pub fleet: Fleet,
    pub services: Services,
    pub sources: Vec<Source>,
    /// In order of time.
    pub changes: Vec<Change>,
    /// Names that DNS has no answer for, with their clusters.
    pub unanswered: Vec<(String, String)>,
}

/// A service begins or ceases to be different.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Instant,
    pub service: String,
    pub address: SocketAddr,
    pub state: State,
    /// Not the state, but how long it takes or how often it fails.
    pub is_gradual: bool,
    pub is_end: bool,
}

pub fn bind(snapshot: &Snapshot, scenario: &Scenario, seed: u64) -> Result<Bound, Vec<Problem>> {
    let mut binder = Binder { snapshot, scenario, problems: Vec::new() };
    let bound = binder.bind(seed);
    if binder.problems.is_empty() { Ok(bound) } else { Err(binder.problems) }
}

struct Binder<'a> {
    snapshot: &'a Snapshot,
    scenario: &'a Scenario,
    problems: Vec<Problem>,
}

impl Binder<'_> {
    fn bind(&mut self, seed: u64) -> Bound {
        self.check_bounds();
        let dns = &self.scenario.dns;
        let fleet = Fleet::new(self.snapshot, &|name| dns.get(name).cloned());
        let owners = self.owners(&fleet);
        let mut changes = Vec::new();
        let services = self.services(&fleet, &owners, seed, &mut changes);
        changes.sort_by_key(|change| change.at);
        let sources = self.sources(seed);
        let unanswered = self.unanswered();
        Bound { fleet, services, sources, changes, unanswered }
    }

    /// What would make a run endless, or larger than any machine.
    fn check_bounds(&mut self) {
        let scenario = self.scenario;
        let mut check = |is_fine: bool, path: &str, what: String| {
            if !is_fine {
                self.problems.push(self.problem(
                    (0, 0),
                    path.to_owned(),
                    "invalid-value",
                    what,
                    String::new(),
                ));
            }
        };
        check(
            scenario.workers.get() <= WORKERS_MAX,
            "workers",
            format!("there are {} workers, at most {WORKERS_MAX} are possible", scenario.workers),
        );
        let intervals = scenario.duration.0.as_nanos() / scenario.transcript.interval.0.as_nanos().max(1);
        check(
            scenario.transcript.interval.0 >= INTERVAL_MIN && intervals < INTERVALS_MAX as u128,
            "transcript.interval",
            format!("an interval lasts a millisecond at least, and there are at most {INTERVALS_MAX}"),
        );
        for (at, load) in scenario.load.iter().enumerate() {
            if let Arrivals::Users { count, .. } = load.arrivals {
                check(
                    count.get() <= USERS_MAX,
                    &format!("load[{at}].arrivals.users.count"),
                    format!("there are {count} users, at most {USERS_MAX} are possible"),
                );
            }
        }
    }

    /// Which service, by its place in the scenario, stands behind each address.
    fn owners(&mut self, fleet: &Fleet) -> BTreeMap<SocketAddr, usize> {
        let scenario = self.scenario;
        let clusters: BTreeMap<&str, usize> = self
            .snapshot
            .clusters
            .iter()
            .enumerate()
            .map(|(at, cluster)| (cluster.name.as_str(), at))
            .collect();
        let mut by_name: BTreeMap<&str, (usize, &Spanned<String>)> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (at, service) in scenario.services.iter().enumerate() {
            if !names.insert(service.name.value.as_str()) {
                self.tell(
                    &service.name,
                    format!("services[{at}].name"),
                    "defined-twice",
                    "two services have this name",
                );
            }
            for (entry_at, entry) in service.serves.iter().enumerate() {
                let path = format!("services[{at}].serves[{entry_at}]");
                let is_known = clusters.contains_key(entry.value.as_str())
                    || fleet.clusters().any(|(_, all)| all.iter().any(|here| here.is_called(&entry.value)))
                    || self.is_written(&entry.value);
                if !is_known {
                    let known: Vec<&str> = clusters.keys().copied().collect();
                    self.tell_with_hint(
                        entry,
                        path,
                        "unknown-name",
                        format!("'{}' is no cluster and no endpoint of the configuration", entry.value),
                        format!("its clusters are {}", known.join(", ")),
                    );
                } else if let Some((other, _)) = by_name.insert(&entry.value, (at, entry)) {
                    let other = &scenario.services[other].name.value;
                    self.tell(
                        entry,
                        path,
                        "served-twice",
                        &format!("'{}' is served by '{other}' already", entry.value),
                    );
                }
            }
        }
        let mut owners: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (id, endpoints) in fleet.clusters() {
            let cluster = &self.snapshot.cluster(id).name;
            for here in endpoints {
                let by_address =
                    by_name.iter().find(|(name, _)| here.is_called(name)).map(|(_, found)| *found);
                let Some((service, entry)) = by_address.or_else(|| by_name.get(cluster.as_str()).copied())
                else {
                    self.problems.push(self.problem(
                        (0, 0),
                        "services".to_owned(),
                        "not-served",
                        format!("no service stands behind {} of cluster '{cluster}'", here.address),
                        format!("add '{cluster}' or '{}' to the 'serves' of a service", here.address),
                    ));
                    continue;
                };
                if let Some(other) = owners.insert(here.address, service).filter(|other| *other != service) {
                    let other = &scenario.services[other].name.value;
                    let what = format!("{} is served by '{other}' already, in another cluster", here.address);
                    self.tell(entry, format!("services[{service}].serves"), "served-twice", &what);
                }
            }
        }
        owners
    }

    /// Whether the configuration has an endpoint of this address or name, answered by DNS or not.
    fn is_written(&self, name: &str) -> bool {
        let mut endpoints = self.snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        endpoints.any(|endpoint| endpoint.address.to_string() == name)
    }

    fn services(
        &mut self,
        fleet: &Fleet,
        owners: &BTreeMap<SocketAddr, usize>,
        seed: u64,
        changes: &mut Vec<Change>,
    ) -> Services {
        let scenario = self.scenario;
        let behaviours: Vec<Behaviour> =
            scenario.services.iter().enumerate().map(|(at, service)| self.behaviour(at, service)).collect();
        let names = written_names(fleet);
        self.check_windows(owners, &names);
        let mut instances = Vec::new();
        let mut indexes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (address, owner) in owners {
            let service = &scenario.services[*owner];
            let mut behaviour = behaviours[*owner].clone();
            for (at, window) in service.during.iter().enumerate() {
                if !is_meant(window, names.get(address)) {
                    continue;
                }
                let different = self.different(*owner, at, window);
                let state = different.state;
                for (at, is_end) in [(different.from, false), (different.to, true)] {
                    changes.push(Change {
                        at,
                        service: service.name.value.clone(),
                        address: *address,
                        state,
                        is_gradual: state == State::Up,
                        is_end,
                    });
                }
                behaviour.windows.push(different);
            }
            indexes.insert(*address, instances.len());
            instances.push(Instance::new(*address, behaviour, seed));
        }
        // A place without an instance is a problem that was told already.
        let places = fleet.clusters().map(|(_, all)| {
            all.iter().map(|here| indexes.get(&here.address).copied().unwrap_or(usize::MAX)).collect()
        });
        Services { places: places.collect(), instances }
    }

    fn behaviour(&mut self, at: usize, service: &Service) -> Behaviour {
        let status = service.status.as_ref().map_or(200, |status| {
            self.check_status(status, status.value, &format!("services[{at}].status"));
            status.value
        });
        Behaviour {
            connect: service.connect,
            latency: service.latency,
            servers: service.servers.map(|servers| servers.get() as usize),
            queue_max: service.queue_max.map(|max| max as usize),
            status,
            body: service.body,
            grpc_status: service.grpc_status,
            faults: self.faults(&service.faults, &format!("services[{at}].faults")),
            idle_close: service
                .idle_close
                .map(|after| IdleClose { after: after.0, notice: service.close_notice.0 }),
            windows: Vec::new(),
        }
    }

    fn check_status<T>(&mut self, place: &Spanned<T>, status: u16, path: &str) {
        if !(200..600).contains(&status) {
            let what = format!("{status} is no status of a response, which is 200 to 599");
            self.tell(place, path.to_owned(), "invalid-value", &what);
        }
    }

    fn faults(&mut self, faults: &[FaultShare], path: &str) -> Faults {
        let mut sum = 0;
        for (at, fault) in faults.iter().enumerate() {
            sum += u64::from(fault.share.value.millionths());
            if sum > 1_000_000 {
                let what = "the shares of the faults add up to more than all requests";
                self.tell(&fault.share, format!("{path}[{at}].share"), "invalid-value", what);
            }
            if let Fault::Status(status) = fault.fault {
                self.check_status(&fault.share, status, &format!("{path}[{at}].fault"));
            }
        }
        Faults(faults.iter().map(|fault| (fault.share.value.millionths(), fault.fault)).collect())
    }

    fn different(&mut self, service: usize, at: usize, window: &Window) -> Different {
        let path = format!("services[{service}].during[{at}].faults");
        Different {
            from: Instant::ZERO + window.from.value.0,
            to: Instant::ZERO + window.to.0,
            state: window.state,
            latency: window.latency,
            faults: window.faults.as_ref().map(|faults| self.faults(faults, &path)),
        }
    }

    fn check_windows(
        &mut self,
        owners: &BTreeMap<SocketAddr, usize>,
        names: &BTreeMap<SocketAddr, BTreeSet<String>>,
    ) {
        let scenario = self.scenario;
        for (service_at, service) in scenario.services.iter().enumerate() {
            for (at, window) in service.during.iter().enumerate() {
                let path = format!("services[{service_at}].during[{at}]");
                if window.to <= window.from.value {
                    self.tell(&window.from, path.clone(), "invalid-value", "it ends before it begins");
                }
                for entry in &window.endpoints {
                    let is_own = owners.iter().any(|(address, owner)| {
                        *owner == service_at
                            && names.get(address).is_some_and(|names| names.contains(&entry.value))
                    });
                    if !is_own {
                        let what = format!("'{}' is no endpoint of this service", entry.value);
                        self.tell(entry, format!("{path}.endpoints"), "unknown-name", &what);
                    }
                }
            }
        }
    }

    fn sources(&mut self, seed: u64) -> Vec<Source> {
        let scenario = self.scenario;
        let mut names = BTreeSet::new();
        let mut sources = Vec::new();
        for (at, load) in scenario.load.iter().enumerate() {
            if !names.insert(load.name.value.as_str()) {
                self.tell(
                    &load.name,
                    format!("load[{at}].name"),
                    "defined-twice",
                    "two loads have this name",
                );
            }
            let from = Instant::ZERO + load.from.0;
            let to = Instant::ZERO + load.to.unwrap_or(scenario.duration).0.min(scenario.duration.0);
            if to <= from {
                self.tell(
                    &load.name,
                    format!("load[{at}]"),
                    "invalid-value",
                    "this load ends before it begins",
                );
            }
            if load.requests.is_empty() {
                self.tell(
                    &load.name,
                    format!("load[{at}].requests"),
                    "invalid-value",
                    "this load sends nothing",
                );
            }
            let Some((chain, peer)) = self.entrance(at, load) else { continue };
            let kinds: Vec<Kind> = (load.requests.iter().enumerate())
                .filter_map(|(kind_at, kind)| {
                    self.kind(&format!("load[{at}].requests[{kind_at}]"), load, kind, chain, peer)
                })
                .collect();
            let name = load.name.value.clone();
            sources.push(Source::new(name, (from, to), load.arrivals, load.patience, kinds, seed));
        }
        sources
    }

    /// The chain that a load's connections come in through.
    fn entrance(&mut self, at: usize, load: &Load) -> Option<(ChainId, Peer)> {
        let listeners = &self.snapshot.listeners;
        let listener_at = match &load.listener {
            Some(name) => match listeners.iter().position(|listener| listener.name == name.value) {
                Some(found) => found,
                None => {
                    let what = format!("'{}' is no listener of the configuration", name.value);
                    self.tell(name, format!("load[{at}].listener"), "unknown-name", &what);
                    return None;
                }
            },
            None => 0,
        };
        let chains = listeners.get(listener_at).map_or(&[][..], |listener| &listener.chains);
        let chain_at = match &load.chain {
            Some(name) => chains.iter().position(|chain| chain.name == name.value),
            None => chains.iter().position(|chain| chain.server_names.is_empty()),
        };
        let found = chain_at.and_then(|at| Some((chains.get(at)?, self.snapshot.chain_id(listener_at, at)?)));
        let Some((chain, id)) = found else {
            let place = load.chain.as_ref().unwrap_or(&load.name);
            self.tell(
                place,
                format!("load[{at}].chain"),
                "unknown-name",
                "the configuration has no such chain",
            );
            return None;
        };
        let peer = Peer {
            remote: SocketAddr::new(load.client, CLIENT_PORT),
            local: listeners.get(listener_at)?.address,
            is_tls: chain.tls.is_some(),
            is_in_tunnel: false,
        };
        Some((id, peer))
    }

    fn kind(
        &mut self,
        path: &str,
        load: &Load,
        kind: &RequestKind,
        chain: ChainId,
        peer: Peer,
    ) -> Option<Kind> {
        let before = self.problems.len();
        let method = kind.method.as_ref().map_or("GET", |method| method.value.as_str());
        let parsed_method = Method::from_bytes(method.as_bytes());
        if let (Err(_), Some(place)) = (&parsed_method, &kind.method) {
            self.tell(place, format!("{path}.method"), "invalid-value", &format!("'{method}' is no method"));
        }
        let target = PathAndQuery::try_from(kind.path.value.as_str())
            .ok()
            .filter(|_| kind.path.value.starts_with('/'));
        if target.is_none() {
            let what = format!("'{}' is no path, which begins with '/'", kind.path.value);
            self.tell(&kind.path, format!("{path}.path"), "invalid-value", &what);
        }
        let authority: Option<Authority> = kind.host.value.parse().ok();
        if authority.is_none() {
            self.tell(
                &kind.host,
                format!("{path}.host"),
                "invalid-value",
                &format!("'{}' is no host", kind.host.value),
            );
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in &kind.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value.value)) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                }
                _ => {
                    let what = format!("'{name}: {}' is no header", value.value);
                    self.tell(value, format!("{path}.headers.{name}"), "invalid-value", &what);
                }
            }
        }
        let (Ok(method), Some(target), Some(authority), true) =
            (parsed_method, target, authority, self.problems.len() == before)
        else {
            return None;
        };
        let line = format!("{method} {authority}{target}");
        let mut head = http::Request::new(()).into_parts().0;
        head.method = method;
        head.headers = headers;
        match load.protocol {
            Protocol::Http1 => {
                head.version = Version::HTTP_11;
                head.uri = Uri::from(target);
                head.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
            }
            Protocol::Http2 => {
                head.version = Version::HTTP_2;
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(if peer.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
                uri.authority = Some(authority);
                uri.path_and_query = Some(target);
                head.uri = Uri::from_parts(uri).ok()?;
            }
        }
        let body = kind.body.as_ref().map_or(Body::EMPTY, |body| Body::new(body.bytes, Duration::ZERO));
        Some(Kind {
            request: Request { chain, peer, head, body },
            line,
            weight: kind.weight.get(),
            body_over: kind.body.as_ref().map_or(Distribution::constant(Duration::ZERO), |body| body.over),
            body_broken: kind.body.as_ref().map_or(Share::NONE, |body| body.broken),
        })
    }

    fn unanswered(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for cluster in &self.snapshot.clusters {
            for endpoint in &cluster.endpoints {
                if let naru_spec::Address::Name { host, .. } = &endpoint.address
                    && !self.scenario.dns.contains_key(host)
                {
                    found.push((host.clone(), cluster.name.clone()));
                }
            }
        }
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

/// All that the configuration calls an address.
fn written_names(fleet: &Fleet) -> BTreeMap<SocketAddr, BTreeSet<String>> {
    let mut names: BTreeMap<SocketAddr, BTreeSet<String>> = BTreeMap::new();
    for here in fleet.clusters().flat_map(|(_, all)| all) {
        names.entry(here.address).or_default().extend([here.written.clone(), here.address.to_string()]);
    }
    names
}

fn is_meant(window: &Window, names: Option<&BTreeSet<String>>) -> bool {
    window.endpoints.is_empty()
        || names.is_some_and(|names| window.endpoints.iter().any(|entry| names.contains(&entry.value)))
}
