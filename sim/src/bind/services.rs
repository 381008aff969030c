//! How instances behave, and when they behave differently.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Instant;
use naru_spec::suggest::did_you_mean;
use serde_saphyr::Spanned;

use super::owners::written_names;
use super::proxies::Plans;
use super::{Binder, Change, Owners, Unit, moment};
use crate::change::StateChange;
use crate::scenario::{Fault, FaultShare, Service, State, Window};
use crate::service::{Behaviour, Different, Faults, Group, Instance};
use crate::upstream::{IdleClose, ProxyId};

/// What a window may mean an instance by.
struct Standing<'a> {
    service_at: usize,
    service: &'a str,
    version: Option<&'a str>,
    /// Counted from 1.
    replica: u32,
    zone: Option<&'a str>,
    names: &'a BTreeSet<String>,
}

impl<'a> Binder<'a> {
    pub(super) fn instances(
        &mut self,
        units: &[Unit<'a>],
        owners: &Owners,
        plans: &Plans,
        seed: u64,
        changes: &mut Vec<Change>,
    ) -> (Vec<Instance>, Vec<Group>) {
        let behaviours: Vec<Behaviour> = units.iter().map(|unit| self.behaviour(unit)).collect();
        let groups = units.iter().map(|unit| self.group(unit)).collect();
        let names = written_names(&plans.proxies);
        let standing = standing(units, owners, &names);
        let windows = self.windows(&standing);
        let mut instances = Vec::new();
        for (address, unit) in owners {
            let mut behaviour = behaviours[*unit].clone();
            for (window, different) in &windows {
                let is_meant = standing.get(address).is_some_and(|here| is_meant(window, here));
                if is_meant {
                    let instance = instances.len();
                    tell_changes(window, different, instance, changes);
                    behaviour.windows.push(different.clone());
                }
            }
            let outbound = plans.of_instance.get(address).copied().unwrap_or(ProxyId(0));
            instances.push(Instance::new(*address, *unit, behaviour, outbound, seed));
        }
        (instances, groups)
    }

    fn group(&mut self, unit: &Unit<'a>) -> Group {
        Group {
            service_at: unit.service_at,
            service: unit.service.name.value.clone(),
            version: unit.version.map_or_else(String::new, |version| version.name.value.clone()),
            calls: self.callees(unit).into(),
        }
    }

    fn behaviour(&mut self, unit: &Unit<'a>) -> Behaviour {
        let (service, version, path) = (unit.service, unit.version, unit.path());
        let mut status = |written: Option<&Spanned<u16>>, standard: u16, path: String| match written {
            Some(status) => {
                self.check_status(status, status.value, &path);
                status.value
            }
            None => standard,
        };
        let of_service = |field: &str| format!("services[{}].{field}", unit.service_at);
        let answer = match version.and_then(|version| version.status.as_ref()) {
            Some(own) => status(Some(own), 200, format!("{path}.status")),
            None => status(service.status.as_ref(), 200, of_service("status")),
        };
        let fails_with = status(service.fails_with.as_ref(), 503, of_service("fails_with"));
        let faults = version.and_then(|version| version.faults.as_ref()).unwrap_or(&service.faults);
        Behaviour {
            connect: service.connect.clone(),
            latency: version.and_then(|version| version.latency.clone()).unwrap_or(service.latency.clone()),
            servers: version
                .and_then(|version| version.servers)
                .or(service.servers)
                .map(|servers| servers.get() as usize),
            queue_max: version
                .and_then(|version| version.queue_max)
                .or(service.queue_max)
                .map(|max| max as usize),
            status: answer,
            fails_with,
            body: service.body.clone(),
            headers: self.headers_of(service, unit.service_at),
            etag_for: self.etag_for(service, unit.service_at),
            grpc_status: service.grpc_status,
            faults: self.faults(faults, &format!("{path}.faults")),
            idle_close: service
                .idle_close
                .map(|after| IdleClose { after: after.0, notice: service.close_notice.0 }),
            holds_server: service.holds_server,
            deadline: service.deadline,
            abandoned: service.abandoned,
            retry_hints: service.retry_hints,
            windows: Vec::new(),
        }
    }

    fn headers_of(&mut self, service: &Service, service_at: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &service.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value.value)) {
                (Ok(name), Ok(value)) => drop(headers.append(name, value)),
                _ => {
                    let what = format!("'{name}: {}' is no header", value.value);
                    let path = format!("services[{service_at}].headers.{name}");
                    self.tell(value, path, "invalid-value", &what);
                }
            }
        }
        headers
    }

    fn etag_for(&mut self, service: &Service, service_at: usize) -> Option<Duration> {
        let lasts = service.etag_for.as_ref()?;
        if lasts.value.0.is_zero() {
            let path = format!("services[{service_at}].etag_for");
            self.tell(lasts, path, "invalid-value", "what is given stays the same for some time");
        }
        Some(lasts.value.0)
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

    /// All windows, those of services first; the later goes first where they overlap.
    fn windows(&mut self, standing: &BTreeMap<SocketAddr, Standing<'_>>) -> Vec<(Meant<'a>, Different)> {
        let scenario = self.scenario;
        let mut windows = Vec::new();
        for (service_at, service) in scenario.services.iter().enumerate() {
            for (at, window) in service.during.iter().enumerate() {
                let path = format!("services[{service_at}].during[{at}]");
                if let Some(place) = window.services.first() {
                    let what = "the services are named where a window does not stand in one already";
                    self.tell(place, format!("{path}.services"), "contradiction", what);
                }
                windows.push(self.window(Meant { window, service: Some(service_at) }, &path, standing));
            }
        }
        for (at, window) in scenario.events.iter().enumerate() {
            windows.push(self.window(Meant { window, service: None }, &format!("events[{at}]"), standing));
        }
        windows
    }

    fn window(
        &mut self,
        meant: Meant<'a>,
        path: &str,
        standing: &BTreeMap<SocketAddr, Standing<'_>>,
    ) -> (Meant<'a>, Different) {
        let Meant { window, service } = meant;
        if window.to.is_some_and(|to| to <= window.from.value) {
            self.tell(&window.from, path.to_owned(), "invalid-value", "it ends before it begins");
        }
        if window.slow_start.is_some() && window.to.is_none() {
            let what = "a slow start has an end";
            self.tell(&window.from, format!("{path}.slow_start"), "invalid-value", what);
        }
        let around: Vec<&Standing<'_>> =
            standing.values().filter(|here| service.is_none_or(|at| here.service_at == at)).collect();
        for entry in &window.endpoints {
            if !around.iter().any(|here| here.names.contains(&entry.value)) {
                let of = if service.is_some() { "this service" } else { "any service" };
                let what = format!("'{}' is no endpoint of {of}", entry.value);
                self.tell(entry, format!("{path}.endpoints"), "unknown-name", &what);
            }
        }
        let mut check = |entries: &'a [Spanned<String>], what: &str, known: BTreeSet<&str>| {
            for entry in entries.iter().filter(|entry| !known.contains(entry.value.as_str())) {
                let hint = did_you_mean(&entry.value, known.iter().copied());
                let what = format!("'{}' is no {what}", entry.value);
                self.tell_with_hint(entry, path.to_owned(), "unknown-name", what, hint);
            }
        };
        if service.is_none() {
            check(
                &window.services,
                "service of the scenario",
                around.iter().map(|here| here.service).collect(),
            );
        }
        check(&window.versions, "version here", around.iter().filter_map(|here| here.version).collect());
        check(&window.zones, "zone here", around.iter().filter_map(|here| here.zone).collect());
        let replica_max = around.iter().map(|here| here.replica).max().unwrap_or(0);
        for replica in &window.replicas {
            if replica.value.get() > replica_max {
                let what = format!("there is no replica {}, only {replica_max}", replica.value);
                self.tell(replica, format!("{path}.replicas"), "unknown-name", &what);
            }
        }
        let different = Different {
            from: moment(window.from.value.0),
            to: window.to.map_or(Instant(u64::MAX), |to| moment(to.0)),
            state: window.state,
            latency: window.latency.clone(),
            extra_latency: window.extra_latency.clone(),
            slower: window.slower,
            slow_start: window.slow_start,
            faults: window.faults.as_ref().map(|faults| self.faults(faults, &format!("{path}.faults"))),
            servers: window.servers.map(|servers| servers.get() as usize),
            queue_max: window.queue_max.map(|max| max as usize),
        };
        (meant, different)
    }
}

/// A window, and the service that it stands in.
#[derive(Clone, Copy)]
struct Meant<'a> {
    window: &'a Window,
    service: Option<usize>,
}

fn is_meant(meant: &Meant<'_>, here: &Standing<'_>) -> bool {
    let Meant { window, service } = meant;
    let is_in = |entries: &[Spanned<String>], name: Option<&str>| {
        entries.is_empty() || entries.iter().any(|entry| Some(entry.value.as_str()) == name)
    };
    service.is_none_or(|at| at == here.service_at)
        && is_in(&window.services, Some(here.service))
        && is_in(&window.versions, here.version)
        && is_in(&window.zones, here.zone)
        && (window.replicas.is_empty()
            || window.replicas.iter().any(|replica| replica.value.get() == here.replica))
        && (window.endpoints.is_empty()
            || window.endpoints.iter().any(|entry| here.names.contains(&entry.value)))
}

fn standing<'a>(
    units: &[Unit<'a>],
    owners: &Owners,
    names: &'a BTreeMap<SocketAddr, BTreeSet<String>>,
) -> BTreeMap<SocketAddr, Standing<'a>> {
    let mut replicas = vec![0_u32; units.len()];
    let mut standing = BTreeMap::new();
    for (address, unit_at) in owners {
        let unit = units[*unit_at];
        let at = replicas[*unit_at] as usize;
        replicas[*unit_at] += 1;
        let zones: &'a [String] = match unit.version.and_then(|version| version.zones.as_deref()) {
            Some(own) => own,
            None => &unit.service.zones,
        };
        let Some(names) = names.get(address) else { continue };
        standing.insert(
            *address,
            Standing {
                service_at: unit.service_at,
                service: &unit.service.name.value,
                version: unit.version.map(|version| version.name.value.as_str()),
                replica: replicas[*unit_at],
                zone: (!zones.is_empty()).then(|| zones[at % zones.len()].as_str()),
                names,
            },
        );
    }
    standing
}

/// What a window changes about an instance, when it begins and when it ends.
fn tell_changes(meant: &Meant<'_>, different: &Different, instance: usize, changes: &mut Vec<Change>) {
    let window = meant.window;
    let is_gradual = window.latency.is_some()
        || window.extra_latency.is_some()
        || window.slower.is_some()
        || window.slow_start.is_some()
        || window.faults.is_some()
        || window.servers.is_some()
        || window.queue_max.is_some();
    let change = match window.state {
        State::Up if is_gradual => Some(StateChange::Different),
        // As it was always told, also where nothing at all is different.
        State::Up => (!window.reset_connections).then_some(StateChange::Different),
        state => Some(state.into()),
    };
    let mut push = |at, change, ended| {
        changes.push(Change { at, instance, change, ended, name: window.name.clone() });
    };
    if window.reset_connections {
        push(different.from, StateChange::Reset, None);
    }
    if let Some(change) = change {
        push(different.from, change, None);
        if different.to < Instant(u64::MAX) {
            push(different.to, StateChange::Up, Some(change));
        }
    }
}
