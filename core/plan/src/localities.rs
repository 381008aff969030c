//! Which endpoints come first for a caller, by where both stand?
//!
//! Comes in: what a DestinationRule says of localities, the labels of the caller and of the endpoints. Goes
//! out: the priority and the weight of each endpoint's locality; endpoints that get nothing are left out.
//! Source: istiod's `loadbalancer.go`: `applyLocalityWeights`, `applyFailoverPriorities`,
//! `applyLocalityFailover`. As there, others come first only where endpoints are watched
//! (`outlierDetection`): otherwise nobody would ever go to the second. A Service's `trafficDistribution` needs none.

use std::collections::BTreeMap;

use naru_base::Weight;
use naru_resource::destination_rule::{Distribute, Failover, LocalityLoadBalancer};
use naru_resource::service::TrafficDistribution;
use naru_resource::{Place, Placed};
use naru_spec::{Endpoint, Locality, Path, code};

use crate::findings::Findings;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUB_ZONE: &str = "topology.istio.io/subzone";
const NODE: &str = "kubernetes.io/hostname";
/// Of Istio's own, for where nodes say nothing: `region.zone.subzone`.
const WHOLE: &str = "istio-locality";

type Labels = [(String, String)];

/// An endpoint, and the labels of what it leads to.
pub(crate) type Labelled<'a> = (Endpoint, &'a Labels);

fn label<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Where something with these labels stands.
pub(crate) fn of_labels(labels: &Labels) -> Locality {
    if let Some(whole) = label(labels, WHOLE) {
        return read(whole, if whole.contains('/') { '/' } else { '.' });
    }
    let part = |name| label(labels, name).unwrap_or_default().to_owned();
    Locality { region: part(REGION), zone: part(ZONE), sub_zone: part(SUB_ZONE) }
}

/// `region/zone/sub_zone`, or less of it.
pub(crate) fn read(text: &str, separator: char) -> Locality {
    let mut parts = text.splitn(3, separator).map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), sub_zone: next() }
}

/// What `trafficDistribution` of a Service means for a caller, who must stand somewhere. It acts without
/// `outlierDetection`, too: who is close is there, or is not.
/// Source: istiod's `GetLocalityLbSetting`.
pub(crate) fn of_distribution(said: TrafficDistribution, caller: &Labels) -> Option<LocalityLoadBalancer> {
    let by_zone = [REGION, ZONE, SUB_ZONE];
    let labels = match said {
        TrafficDistribution::PreferClose | TrafficDistribution::PreferSameZone => by_zone.to_vec(),
        TrafficDistribution::PreferSameNode => [&by_zone[..], &[NODE]].concat(),
    };
    let place = Place::default();
    let text = |label: &str| Placed { value: label.to_owned(), place };
    let failover_priority = labels.into_iter().map(text).collect();
    let setting = LocalityLoadBalancer {
        place,
        enabled: None,
        distribute: Vec::new(),
        failover: Vec::new(),
        failover_priority,
    };
    (!of_labels(caller).is_empty()).then_some(setting)
}

/// Gives endpoints their priorities and weights. Says whether localities are weighed.
pub(crate) fn apply(
    endpoints: &mut Vec<Labelled<'_>>,
    said: Option<&LocalityLoadBalancer>,
    caller: &Labels,
    ejects: bool,
) -> bool {
    let is_off = said.is_some_and(|said| said.enabled.as_ref().is_some_and(|flag| !flag.value));
    if is_off {
        return false;
    }
    let here = of_labels(caller);
    let mut is_weighed = endpoints.iter().any(|(endpoint, _)| !endpoint.locality.is_empty());
    match said {
        Some(said) if !said.distribute.is_empty() => {
            is_weighed |= distribute(endpoints, &said.distribute, &here);
            return is_weighed;
        }
        Some(said) if !said.failover_priority.is_empty() && ejects => {
            let labels: Vec<&str> = said.failover_priority.iter().map(|label| label.as_str()).collect();
            for (endpoint, own) in endpoints.iter_mut() {
                endpoint.priority = by_labels(&labels, caller, &here, own, &endpoint.locality);
            }
        }
        _ if ejects && !here.is_empty() => {
            let failover = said.map_or(&[][..], |said| said.failover.as_slice());
            for (endpoint, _) in endpoints.iter_mut() {
                endpoint.priority = by_distance(failover, &here, &endpoint.locality);
            }
        }
        _ => {}
    }
    close_gaps(endpoints);
    let weights = weights(endpoints);
    for (endpoint, _) in endpoints.iter_mut() {
        let weight = weights.get(&(endpoint.priority, endpoint.locality.clone())).copied().unwrap_or(0);
        endpoint.locality_weight = Weight(u32::try_from(weight).unwrap_or(u32::MAX));
    }
    if !is_weighed {
        for (endpoint, _) in endpoints.iter_mut() {
            endpoint.locality_weight = Weight(1);
        }
    }
    is_weighed
}

/// What the endpoints of each locality weigh together.
fn weights(endpoints: &[Labelled<'_>]) -> BTreeMap<(u32, Locality), u64> {
    let mut weights = BTreeMap::new();
    for (endpoint, _) in endpoints {
        *weights.entry((endpoint.priority, endpoint.locality.clone())).or_insert(0) +=
            u64::from(endpoint.weight.0);
    }
    weights
}

/// The first rule that is for the caller's locality holds. A pattern that means several shares its part among
/// them by what they weigh.
fn distribute(endpoints: &mut Vec<Labelled<'_>>, rules: &[Distribute], here: &Locality) -> bool {
    let Some(rule) = rules.iter().find(|rule| is_meant(&rule.from, here)) else { return false };
    let mut left = weights(endpoints);
    let mut shares: BTreeMap<Locality, u32> = BTreeMap::new();
    for (pattern, part) in &rule.to {
        let meant: Vec<((u32, Locality), u64)> = left
            .iter()
            .filter(|((_, there), _)| is_meant(pattern, there))
            .map(|(k, v)| (k.clone(), *v))
            .collect();
        let total: u64 = meant.iter().map(|(_, weight)| *weight).sum();
        for (key, weight) in meant {
            left.remove(&key);
            let part = u64::try_from(part.value).unwrap_or(0);
            let share = (weight * part).div_ceil(total.max(1));
            shares.insert(key.1, u32::try_from(share).unwrap_or(u32::MAX));
        }
    }
    endpoints.retain_mut(|(endpoint, _)| {
        let share = shares.get(&endpoint.locality).copied().unwrap_or(0);
        endpoint.locality_weight = Weight(share);
        share > 0
    });
    true
}

/// Whether a pattern of Istio's means a locality: `*`, `region/*`, `region/zone`.
fn is_meant(pattern: &str, locality: &Locality) -> bool {
    let pattern = read(pattern, '/');
    let fits = |pattern: &str, part: &str| pattern.is_empty() || pattern == "*" || pattern == part;
    (pattern.region == "*" || pattern.region == locality.region)
        && fits(&pattern.zone, &locality.zone)
        && fits(&pattern.sub_zone, &locality.sub_zone)
}

/// How many of the labels, from the last one on, do not have to be looked at: all that follow the first that
/// differs.
fn by_labels(labels: &[&str], caller: &Labels, here: &Locality, own: &Labels, there: &Locality) -> u32 {
    let of = |labels: &Labels, locality: &Locality, name: &str| -> String {
        let of_locality = match name {
            REGION => locality.region.as_str(),
            ZONE => locality.zone.as_str(),
            SUB_ZONE => locality.sub_zone.as_str(),
            _ => "",
        };
        label(labels, name).unwrap_or(of_locality).to_owned()
    };
    let equal = labels.iter().take_while(|said| {
        let (name, wanted) = match said.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (**said, of(caller, here, said)),
        };
        wanted == of(own, there, name)
    });
    (labels.len() - equal.count()) as u32
}

/// Zero in the same sub-zone, then zone, region; then the region to fail over to, then others.
fn by_distance(failover: &[Failover], here: &Locality, there: &Locality) -> u32 {
    if here.region != there.region {
        let own = failover.iter().find(|rule| rule.from.value == here.region);
        return if own.is_some_and(|rule| rule.to.value != there.region) { 4 } else { 3 };
    }
    if here.zone != there.zone {
        return 2;
    }
    u32::from(here.sub_zone != there.sub_zone)
}

/// Priorities are counted without gaps.
fn close_gaps(endpoints: &mut [Labelled<'_>]) {
    let mut all: Vec<u32> = endpoints.iter().map(|(endpoint, _)| endpoint.priority).collect();
    all.sort_unstable();
    all.dedup();
    for (endpoint, _) in endpoints.iter_mut() {
        endpoint.priority = all.partition_point(|priority| *priority < endpoint.priority) as u32;
    }
}

pub(crate) fn check(said: &LocalityLoadBalancer, ejects: bool, path: &Path<'_>, findings: &mut Findings<'_>) {
    let are_said =
        [!said.distribute.is_empty(), !said.failover.is_empty(), !said.failover_priority.is_empty()];
    if are_said.iter().filter(|is_said| **is_said).count() > 1 {
        let message = "only one of distribute, failover and failoverPriority can be said";
        findings.error(code::CONFLICTING_FIELDS, said.place, path, message, "leave the others out");
    }
    for (at, rule) in said.distribute.iter().enumerate() {
        let path = path.field("distribute");
        let path = path.at(at);
        let sum: i64 = rule.to.iter().map(|(_, weight)| weight.value).sum();
        if sum != 100 {
            let message = format!("the weights of 'to' sum to {sum}, and must sum to 100");
            let hint = "a weight is a percentage of all requests from there";
            findings.error(code::INVALID_VALUE, rule.place, &path, message, hint);
        }
        for (_, weight) in rule.to.iter().filter(|(_, weight)| !(1..=100).contains(&weight.value)) {
            let message = format!("{} is out of range: 1 to 100", weight.value);
            let hint = "leave a locality out that gets nothing";
            findings.error(code::INVALID_VALUE, weight.place, &path.field("to"), message, hint);
        }
    }
    for (at, rule) in said.failover.iter().enumerate() {
        let path = path.field("failover");
        let path = path.at(at);
        for name in [&rule.from, &rule.to].into_iter().filter(|name| name.contains(['/', '*'])) {
            let message = format!("'{}' is no region: failover is from a region to a region", name.value);
            let hint = "failoverPriority has words for zones";
            findings.error(code::INVALID_VALUE, name.place, &path, message, hint);
        }
        if rule.from.value == rule.to.value {
            let message = format!("a failover from '{}' to itself", rule.from.value);
            findings.error(code::INVALID_VALUE, rule.from.place, &path, message, "name another region");
        }
    }
    let field = if said.failover.is_empty() { "failoverPriority" } else { "failover" };
    if (!said.failover.is_empty() || !said.failover_priority.is_empty()) && !ejects {
        let message = format!("'{field}' has no effect without outlierDetection");
        let hint = "add outlierDetection: without it no endpoint is ever unfit";
        findings.warning(code::NO_EFFECT, said.place, &path.field(field), message, hint);
    }
}

#[cfg(test)]
mod tests;
