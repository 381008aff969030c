//! `loadBalancing` and `stickySession` of a TrafficPolicy: what a service's `loadBalancer` has no words for.

use http::HeaderName;
use naru_resource::destination_rule::{self as rule, LoadBalancer, SimpleLoadBalancer};
use naru_resource::traffic_policy as said;
use naru_resource::{DestinationRule, Number, Place, Resources, Seconds};
use naru_spec::{
    BalancingPolicy, Cluster, LeastRequest, Path, PeakEwma, Sticky, StickyCarrier, Thousandths, code,
};

use crate::balancing::cookie;
use crate::by_host::Part;
use crate::findings::Findings;
use crate::names::fits;
use crate::registry::Registry;

/// What a policy changes of how a cluster's endpoints share its requests.
#[derive(Clone, Debug)]
pub(super) struct Balancing {
    policy: Option<BalancingPolicy>,
    load_max_percent: Option<u32>,
    overprovisioning_percent: Option<u32>,
    panic_percent: Option<u32>,
}

impl Balancing {
    pub(super) fn apply(&self, cluster: &mut Cluster) {
        let settings = &mut cluster.load_balancing;
        if let Some(policy) = self.policy {
            settings.policy = policy;
            if settings.ignores_warm_up() {
                settings.warm_up = None;
            }
        }
        if let BalancingPolicy::ConsistentHash(hash) = &mut settings.policy {
            hash.load_max_percent = self.load_max_percent;
        }
        if let Some(percent) = self.overprovisioning_percent {
            settings.overprovisioning_percent = percent;
        }
        if let Some(percent) = self.panic_percent {
            cluster.guard.panic_percent = percent;
        }
    }
}

/// The traffic policies of Istio that are for the same, with their blocks.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    balancers: Vec<&'a LoadBalancer>,
    detections: Vec<&'a rule::OutlierDetection>,
}

pub(super) fn rules_for<'a>(part: &Part, resources: &'a Resources, registry: &Registry) -> Rules<'a> {
    let section = &part.subset;
    let mut rules = Rules::default();
    // Of a host those that are closest to it; of a pattern those that are for the same.
    let closeness = |rule: &DestinationRule| {
        let host = registry.full_name(&rule.spec.host, rule.meta.namespace());
        if part.is_pattern { (host == part.host).then_some(0) } else { fits(&host, &part.host) }
    };
    let closest = resources.destination_rules.iter().filter_map(&closeness).max();
    let is_for = |rule: &&DestinationRule| closest.is_some() && closeness(rule) == closest;
    for rule in resources.destination_rules.iter().filter(is_for) {
        let own = rule.spec.subsets.iter();
        let own = own.filter(|subset| section.as_ref().is_none_or(|section| *section == subset.name.value));
        let own = own.filter_map(|subset| subset.traffic_policy.as_ref());
        let own: Vec<&rule::TrafficPolicy> = own.collect();
        // What a subset says goes before what is said of all.
        let replaces =
            |has: fn(&rule::TrafficPolicy) -> bool| section.is_some() && own.iter().any(|own| has(own));
        let whole = || rule.spec.traffic_policy.iter();
        if !replaces(|own| own.load_balancer.is_some()) {
            rules.balancers.extend(whole().flat_map(balancers));
        }
        if !replaces(|own| own.outlier_detection.is_some()) {
            rules.detections.extend(whole().filter_map(|policy| policy.outlier_detection.as_ref()));
        }
        rules.balancers.extend(own.iter().copied().flat_map(balancers));
        rules.detections.extend(own.iter().filter_map(|policy| policy.outlier_detection.as_ref()));
    }
    rules
}

fn balancers(policy: &rule::TrafficPolicy) -> impl Iterator<Item = &LoadBalancer> {
    let of_ports = policy.port_level_settings.iter().filter_map(|port| port.load_balancer.as_ref());
    policy.load_balancer.iter().chain(of_ports)
}

pub(super) fn read(
    said: &said::PolicyLoadBalancing,
    rules: &Rules<'_>,
    findings: &mut Findings<'_>,
) -> Option<Balancing> {
    let spec = Path::ROOT.field("spec");
    let path = spec.field("loadBalancing");
    let policy = policy(said, rules, &path, findings);
    let load_max_percent = within(&said.hash_balance_factor, 100, &path, "hashBalanceFactor", findings);
    if let Some(factor) = &said.hash_balance_factor
        && !rules.balancers.iter().any(|balancer| balancer.consistent_hash.is_some())
    {
        let message = "'hashBalanceFactor' has no effect without a consistentHash";
        let hint = "say loadBalancer.consistentHash in a DestinationRule for the same";
        findings.warning(code::NO_EFFECT, factor.place, &path.field("hashBalanceFactor"), message, hint);
    }
    let overprovisioning_percent =
        within(&said.overprovisioning_factor, 1, &path, "overprovisioningFactor", findings);
    let panic_percent = panic(said, rules, &path, findings);
    let is_empty = policy.is_none()
        && said.hash_balance_factor.is_none()
        && said.overprovisioning_factor.is_none()
        && said.healthy_panic_threshold.is_none();
    if is_empty && said.least_request.is_none() && said.peak_ewma.is_none() {
        let message = "'loadBalancing' says nothing";
        findings.warning(code::NO_EFFECT, said.place, &path, message, "leave it out");
    }
    (!is_empty).then_some(Balancing { policy, load_max_percent, overprovisioning_percent, panic_percent })
}

fn policy(
    said: &said::PolicyLoadBalancing,
    rules: &Rules<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<BalancingPolicy> {
    let (field, place, policy) = match (&said.least_request, &said.peak_ewma) {
        (None, None) => return None,
        (Some(_), Some(ewma)) => {
            let message = "only one of leastRequest and peakEwma can be said";
            let (path, hint) = (path.field("peakEwma"), "leave one of them out");
            findings.error(code::CONFLICTING_FIELDS, ewma.place, &path, message, hint);
            return None;
        }
        (Some(said), None) => ("leastRequest", said.place, least_request(said, path, findings)),
        (None, Some(said)) => ("peakEwma", said.place, peak_ewma(said, path, findings)),
    };
    let path = path.field(field);
    for balancer in &rules.balancers {
        let other = match (&balancer.consistent_hash, &balancer.simple) {
            (Some(hash), _) => Some(("consistentHash", hash.place)),
            (None, Some(simple)) => match simple.value {
                SimpleLoadBalancer::LeastRequest if field == "leastRequest" => None,
                SimpleLoadBalancer::Unspecified => None,
                SimpleLoadBalancer::LeastRequest
                | SimpleLoadBalancer::RoundRobin
                | SimpleLoadBalancer::Random
                | SimpleLoadBalancer::Passthrough => Some(("simple", simple.place)),
            },
            (None, None) => None,
        };
        if let Some((word, other)) = other {
            let at = findings.locate(other);
            let message = format!("the loadBalancer at {at} says '{word}', which is another policy");
            findings.error(code::CONFLICT, place, &path, message, format!("leave '{word}' out there"));
        }
        let warm_up = balancer.warmup.as_ref().map(|warmup| warmup.place);
        let warm_up = warm_up.or(balancer.warmup_duration_secs.as_ref().map(|duration| duration.place));
        if let Some(warm_up) = warm_up.filter(|_| field == "peakEwma") {
            let at = findings.locate(warm_up);
            let message = format!("peak EWMA warms nobody up: the warm-up at {at} has no effect");
            findings.warning(code::NO_EFFECT, place, &path, message, "leave the warm-up out");
        }
    }
    Some(policy)
}

fn least_request(
    said: &said::PolicyLeastRequest,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> BalancingPolicy {
    let path = path.field("leastRequest");
    let mut settings = LeastRequest::default();
    if let Some(count) = within(&said.choice_count, 2, &path, "choiceCount", findings) {
        settings.choices = count;
    }
    if let Some(bias) = &said.active_request_bias {
        if (0.0..=MOST_BIAS).contains(&bias.value) {
            settings.bias = Thousandths((bias.value * 1_000.0).round() as u32);
        } else {
            let message = format!("{} is out of range: 0 to {MOST_BIAS}", bias.value);
            let hint = "1 divides a weight by the requests in flight, 0 does not look at them";
            let path = path.field("activeRequestBias");
            findings.error(code::INVALID_VALUE, bias.place, &path, message, hint);
        }
    }
    BalancingPolicy::LeastRequest(settings)
}

/// Beyond it all but the endpoint with the fewest requests wait for as long as anybody counts.
const MOST_BIAS: f64 = 1_000.0;

fn peak_ewma(said: &said::PolicyPeakEwma, path: &Path<'_>, findings: &mut Findings<'_>) -> BalancingPolicy {
    let path = path.field("peakEwma");
    let mut settings = PeakEwma::default();
    let mut lasting = |said: &Option<Seconds>, field: &str, set: &mut std::time::Duration| {
        let Some(said) = said else { return };
        if said.value.as_millis() == 0 {
            let message = format!("'{field}' must be at least a millisecond");
            let hint = "10s of decay and 30ms of defaultRtt are what is taken where nothing is said";
            findings.error(code::INVALID_VALUE, said.place, &path.field(field), message, hint);
        } else {
            *set = said.value;
        }
    };
    lasting(&said.decay, "decay", &mut settings.decay);
    lasting(&said.default_rtt, "defaultRtt", &mut settings.first);
    BalancingPolicy::PeakEwma(settings)
}

fn panic(
    said: &said::PolicyLoadBalancing,
    rules: &Rules<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<u32> {
    let threshold = said.healthy_panic_threshold.as_ref()?;
    let path = path.field("healthyPanicThreshold");
    let own = rules.detections.iter().filter_map(|detection| detection.min_health_percent.as_ref());
    for other in own.filter(|other| other.value != threshold.value) {
        let at = findings.locate(other.place);
        let message = format!("the minHealthPercent at {at} says {}, and means the same", other.value);
        findings.error(code::CONFLICT, threshold.place, &path, message, "leave one of them out");
    }
    let percent = u32::try_from(threshold.value).ok().filter(|percent| *percent <= 100);
    if percent.is_none() {
        let message = format!("{} is out of range: 0 to 100", threshold.value);
        findings.error(code::INVALID_VALUE, threshold.place, &path, message, "a percentage; 0 never panics");
    }
    percent
}

fn within(
    said: &Option<Number>,
    low: u32,
    path: &Path<'_>,
    field: &str,
    findings: &mut Findings<'_>,
) -> Option<u32> {
    let said = said.as_ref()?;
    let number = u32::try_from(said.value).ok().filter(|number| *number >= low);
    if number.is_none() {
        let message = format!("{} is out of range: {low} to {}", said.value, u32::MAX);
        let hint = match field {
            "hashBalanceFactor" => "in percent of the mean load: 120 is a fifth more",
            "overprovisioningFactor" => "in percent: 140 is what is taken where nothing is said",
            _ => "2 is what is taken where nothing is said; simple: RANDOM is a choice of one",
        };
        findings.error(code::INVALID_VALUE, said.place, &path.field(field), message, hint);
    }
    number
}

/// A cookie without a path is for all of them.
pub(super) fn session(said: &said::StickySession, findings: &mut Findings<'_>) -> Option<Sticky> {
    let spec = Path::ROOT.field("spec");
    let path = spec.field("stickySession");
    let mut wrong = |field: &str, place: Place, message: String, hint: &str| {
        findings.error(code::INVALID_VALUE, place, &path.field(field), message, hint);
    };
    let carrier = match (&said.cookie, &said.header) {
        (Some(said), None) => match cookie(said, "/") {
            Ok(cookie) => StickyCarrier::Cookie(cookie),
            Err(invalid) => {
                wrong("cookie", said.name.place, invalid.message, &invalid.hint);
                return None;
            }
        },
        (None, Some(name)) => match name.parse::<HeaderName>() {
            Ok(header) => StickyCarrier::Header(header),
            Err(_) => {
                let message = format!("'{}' cannot be the name of a header", name.value);
                wrong("header", name.place, message, "letters, digits and hyphens: x-session");
                return None;
            }
        },
        (None, None) | (Some(_), Some(_)) => {
            let message = "exactly one of cookie and header is needed";
            findings.error(code::CONFLICTING_FIELDS, said.place, &path, message, "cookie: {name: place}");
            return None;
        }
    };
    Some(Sticky { carrier, is_strict: said.strict.as_ref().is_some_and(|flag| flag.value) })
}
