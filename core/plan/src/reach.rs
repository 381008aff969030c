//! Which settings of endpoints act? Every port of every service, whole and by subsets, is looked at once, whoever calls.
//!
//! Comes in: DestinationRules and what is attached to hosts. Goes out: a note in the account for each block that holds
//! for some cluster, and what is wrong with ports and ejections. Deliberately not here: who may see a rule; a block
//! that holds for nobody because of that is not told.

use std::collections::BTreeSet;

use naru_resource::destination_rule::{ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy};
use naru_resource::{DestinationRule, Place};
use naru_spec::{Path, code};

use crate::account::{Account, Idle, Said};
use crate::balancing::is_passthrough;
use crate::clusters::Blocks;
use crate::findings::Findings;
use crate::guards;
use crate::mutual;
use crate::policies::Effective;
use crate::registry::{Known, has_all};
use crate::routes::Routes;

/// One cluster that there could be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub known: &'a Known,
    pub port: u16,
    pub subset: Option<&'a str>,
    pub is_on_demand: bool,
    pub has_tls: bool,
}

impl Routes<'_> {
    /// Tells which settings of endpoints no cluster can have.
    pub fn check_reach(&mut self, findings: &mut Findings<'_>) {
        let (registry, resources) = (self.registry, self.resources);
        let mut ruled: BTreeSet<&str> = BTreeSet::new();
        for rule in &resources.destination_rules {
            let mut fitting = registry.fitting(&rule.spec.host, rule.meta.namespace());
            fitting.retain(|known| !known.ports.is_empty());
            if !fitting.is_empty() {
                self.check_rule(rule, &fitting, findings);
            }
            ruled.extend(fitting.iter().map(|known| known.host.as_str()));
        }
        for known in registry.services().filter(|known| !ruled.contains(known.host.as_str())) {
            for port in &known.ports {
                let is_on_demand = known.brings_endpoints(false);
                let cell = Cell { known, port: port.number, subset: None, is_on_demand, has_tls: false };
                self.note_cell(&cell, findings);
            }
        }
    }

    fn note_cell(&mut self, cell: &Cell<'_>, findings: &mut Findings<'_>) {
        self.guards.note(cell, &mut self.account, findings);
        self.note_chain(&cell.known.host, cell.subset);
    }

    fn check_rule(&mut self, rule: &DestinationRule, fitting: &[&Known], findings: &mut Findings<'_>) {
        let spec = &rule.spec;
        mutual::note_processes(rule, fitting, findings);
        let whole = spec.traffic_policy.as_ref();
        let mut detections = Detections::default();
        if let Some(policy) = whole {
            expect(policy, "spec.trafficPolicy", fitting, &mut self.account, &mut detections, findings);
        }
        for (at, subset) in spec.subsets.iter().enumerate() {
            if let Some(policy) = &subset.traffic_policy {
                let path = format!("spec.subsets[{at}].trafficPolicy");
                expect(policy, &path, fitting, &mut self.account, &mut detections, findings);
            }
        }
        let effective =
            Effective { policy: whole, subsets: spec.subsets.iter().collect(), ..Effective::default() };
        // Whole first: what never happens there is not told of each subset again.
        for subset in [None].into_iter().chain(spec.subsets.iter().map(Some)) {
            for known in fitting {
                for port in &known.ports {
                    let blocks = Blocks::effective(&effective, subset, port.number);
                    let is_on_demand = known.brings_endpoints(is_passthrough(blocks.balancer));
                    note(&blocks, is_on_demand, &mut self.account);
                    let subset_name = subset.map(|subset| subset.name.as_str());
                    let between = blocks.between(known, subset, port.number);
                    let has_tls = between.tls.is_some_and(crate::tls::is_of_upstream);
                    let port = port.number;
                    let cell = Cell { known, port, subset: subset_name, is_on_demand, has_tls };
                    self.note_cell(&cell, findings);
                    if let Some(said) = blocks.detection.filter(|_| !is_on_demand) {
                        let is_in = |endpoint: &&crate::registry::KnownEndpoint| {
                            endpoint.addresses.iter().any(|(number, _)| *number == port)
                                && subset.is_none_or(|subset| has_all(&endpoint.labels, &subset.labels))
                        };
                        let count = known.endpoints.iter().filter(is_in).count();
                        let host = (fitting.len() > 1).then_some(known.host.as_str());
                        detections.check(said, count, host, subset_name, findings);
                    }
                }
            }
        }
    }
}

/// The blocks of outlier detection of a rule, and what was said of them.
#[derive(Debug, Default)]
struct Detections {
    paths: Vec<(Place, String)>,
    told: BTreeSet<Place>,
}

impl Detections {
    /// Says where nothing would ever be ejected of so many endpoints.
    fn check(
        &mut self,
        said: &OutlierDetection,
        count: usize,
        host: Option<&str>,
        subset: Option<&str>,
        findings: &mut Findings<'_>,
    ) {
        let Some(found) = guards::detection(said).diagnosis(u32::try_from(count).unwrap_or(u32::MAX)) else {
            return;
        };
        // Of all endpoints it is told once; what is true of all is no news of a subset.
        if self.told.contains(&said.place) {
            return;
        }
        if subset.is_none() {
            self.told.insert(said.place);
        }
        let path = self.paths.iter().find(|(place, _)| *place == said.place).map_or("", |(_, path)| path);
        let message = match (subset, host) {
            (Some(subset), _) => format!("in subset '{subset}', {}", found.message),
            (None, Some(host)) => format!("of {host}, {}", found.message),
            (None, None) => found.message,
        };
        findings.warning(code::NO_EFFECT, said.place, &Path::ROOT.field(path), message, found.hint);
    }
}

/// Expects the blocks of a policy to hold for some cluster, and checks the ports that it names.
fn expect(
    policy: &TrafficPolicy,
    path: &str,
    fitting: &[&Known],
    account: &mut Account,
    detections: &mut Detections,
    findings: &mut Findings<'_>,
) {
    let mut expect = |blocks: &Blocks<'_>, path: &str| {
        for (field, place) in parts(blocks) {
            let (path, otherwise) = (format!("{path}.{field}"), Idle::OwnPorts);
            account.expect(Said { place, field, path, route: None, otherwise });
        }
        if let Some(said) = blocks.detection {
            detections.paths.push((said.place, format!("{path}.outlierDetection")));
        }
    };
    expect(&Blocks::whole(policy), path);
    for (at, settings) in policy.port_level_settings.iter().enumerate() {
        let Some(number) = settings.port.as_ref().map(|port| port.number) else { continue };
        let path = format!("{path}.portLevelSettings[{at}]");
        let of_number = format!("{path}.port.number");
        let is_same = |other: &naru_resource::destination_rule::PortPolicy| {
            other.port.as_ref().is_some_and(|port| port.number.value == number.value)
        };
        if let Some(before) = policy.port_level_settings.iter().take(at).find(|other| is_same(other)) {
            let message = format!("port {} is there twice, and the first has it", number.value);
            let hint = format!("join them: the first is at {}", findings.locate(before.place));
            findings.warning(code::DUPLICATE, number.place, &Path::ROOT.field(&of_number), message, hint);
        } else if fitting.iter().any(|known| has_port(known, number.value)) {
            expect(&Blocks::of_port(settings), &path);
        } else if u16::try_from(number.value).is_ok_and(|number| number > 0) {
            let ports = fitting.iter().flat_map(|known| &known.ports).map(|port| port.number);
            let ports: BTreeSet<u16> = ports.collect();
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let message = format!("nothing that the rule is for has a port {}", number.value);
            let hint = format!("there is {}", ports.join(", "));
            findings.warning(code::UNKNOWN_PORT, number.place, &Path::ROOT.field(&of_number), message, hint);
        }
    }
}

fn has_port(known: &Known, number: i64) -> bool {
    u16::try_from(number).is_ok_and(|number| known.port(number).is_some())
}

/// What of some blocks is there to act, each part that may do so without the others.
fn parts(blocks: &Blocks<'_>) -> Vec<(&'static str, Place)> {
    let balancer = |part: fn(&LoadBalancer) -> Option<Place>| blocks.balancer.and_then(part);
    let pool = |part: fn(&ConnectionPool) -> Option<Place>| blocks.pool.and_then(part);
    let said = [
        ("loadBalancer.simple", balancer(|said| said.simple.as_ref().map(|simple| simple.place))),
        (
            "loadBalancer.consistentHash",
            balancer(|said| said.consistent_hash.as_ref().map(|hash| hash.place)),
        ),
        (
            "loadBalancer.localityLbSetting",
            balancer(|said| said.locality_lb_setting.as_ref().map(|said| said.place)),
        ),
        ("loadBalancer.warmup", balancer(|said| said.warmup.as_ref().map(|warmup| warmup.place))),
        (
            "loadBalancer.warmupDurationSecs",
            balancer(|said| said.warmup_duration_secs.as_ref().map(|duration| duration.place)),
        ),
        ("connectionPool.tcp", pool(|said| said.tcp.as_ref().map(|tcp| tcp.place))),
        ("connectionPool.http", pool(|said| said.http.as_ref().map(|http| http.place))),
        ("outlierDetection", blocks.detection.map(|said| said.place)),
        ("tls", blocks.tls.map(|said| said.place)),
    ];
    said.into_iter().filter_map(|(field, place)| Some((field, place?))).collect()
}

/// Notes what of some blocks a cluster has.
fn note(blocks: &Blocks<'_>, is_on_demand: bool, account: &mut Account) {
    for (field, place) in parts(blocks) {
        // Limits and TLS are for connections, whoever is at the other end.
        let is_of_endpoints = field == "outlierDetection"
            || field.starts_with("loadBalancer.")
                && !(field.ends_with("simple") && is_passthrough(blocks.balancer));
        account.take_if(!(is_on_demand && is_of_endpoints), place, field, Idle::OnDemand);
    }
}
