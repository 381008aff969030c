//! What is said about unfit endpoints and services: Istio's `outlierDetection`, and our own
//! `CircuitBreaker` and `healthCheck`; and what else is attached to services, `loadBalancing` and
//! `stickySession`.
//!
//! Source: istiod's `cluster_traffic_policy.go`, `applyOutlierDetection`.

mod balancing;
pub(crate) mod breaker;
mod health;

use naru_resource::circuit_breaker::CircuitBreaker as CircuitBreakerSaid;
use naru_resource::traffic_policy::TargetRef;
use naru_resource::{Meta, Number, Place, Resources, Text, destination_rule as rule};
use naru_spec::{
    CircuitBreaker, Cluster, HealthCheck, OutlierDetection, Path, StatusRange, Sticky, code, defaults,
};

use crate::account::{Account, DOCUMENT, Idle, Said};
use crate::by_host::{ByHost, Part};
use crate::findings::Findings;
use crate::guards::balancing::Balancing;
use crate::reach::Cell;
use crate::registry::{Known, Protocol, Registry};

/// What is attached to services and their subsets.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    breakers: ByHost<Attached<CircuitBreaker>>,
    checks: ByHost<Attached<HealthCheck>>,
    balancing: ByHost<Attached<Balancing>>,
    sessions: ByHost<Attached<Sticky>>,
}

/// Settings, and where they are said.
#[derive(Clone, Debug)]
struct Attached<T> {
    settings: T,
    place: Place,
}

/// Whether it is for endpoints, and not for routes.
pub(crate) fn is_of_services(kind: &str) -> bool {
    matches!(kind, "Service" | "DestinationRule")
}

impl Guards {
    pub fn of(
        resources: &Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Guards {
        let mut guards = Guards::default();
        let mut keeper = Keeper { knows_services: !registry.is_empty(), account, findings };
        // One of a route is a limit of it.
        let of_services =
            |said: &&CircuitBreakerSaid| !crate::attached::is_of_routes(&said.spec.target_ref.kind);
        for said in resources.circuit_breakers.iter().filter(of_services) {
            let settings = breaker::read(&said.spec, keeper.findings);
            let (target, place) = (&said.spec.target_ref, said.meta.name.place);
            let part = resolve(target, "CircuitBreaker", &said.meta, resources, registry, keeper.findings);
            if let Some(part) = part {
                keeper.keep(&mut guards.breakers, part, settings, place, "circuitBreaker");
            }
        }
        for said in &resources.traffic_policies {
            let (target, spec) = (&said.spec.target_ref, &said.spec);
            let says_something =
                spec.health_check.is_some() || spec.load_balancing.is_some() || spec.sticky_session.is_some();
            if !says_something || !is_of_services(&target.kind) {
                continue;
            }
            let part = resolve(target, "TrafficPolicy", &said.meta, resources, registry, keeper.findings);
            let rules = part.as_ref().map(|part| balancing::rules_for(part, resources, registry));
            let rules = rules.unwrap_or_default();
            if let Some(said) = &spec.health_check
                && let Some(check) = health::read(said, keeper.findings)
                && let Some(part) = part.clone()
            {
                keeper.keep(&mut guards.checks, part, check, said.place, "healthCheck");
            }
            if let Some(said) = &spec.load_balancing
                && let Some(balancing) = balancing::read(said, &rules, keeper.findings)
                && let Some(part) = part.clone()
            {
                keeper.keep(&mut guards.balancing, part, balancing, said.place, "loadBalancing");
            }
            if let Some(said) = &spec.sticky_session
                && let Some(sticky) = balancing::session(said, keeper.findings)
                && let Some(part) = part
            {
                keeper.keep(&mut guards.sessions, part, sticky, said.place, "stickySession");
            }
        }
        guards
    }

    pub fn apply(&self, cluster: &mut Cluster, known: &Known, port: u16, subset: Option<&str>) {
        let host = known.host.as_str();
        let breakers = self.breakers.find(host, subset);
        cluster.guard.circuit_breaker = breakers.first().map(|of| of.settings.clone());
        let check = self.checks.find(host, subset).first().map(|of| &of.settings);
        let check = check.filter(|check| health::is_for(check, known, port, cluster.tls.is_some()));
        cluster.guard.health_check = check.cloned();
        if let Some(of) = self.balancing.find(host, subset).first() {
            of.settings.apply(cluster);
        }
        let sessions = self.sessions.find(host, subset);
        cluster.load_balancing.sticky = sessions.first().map(|of| of.settings.clone());
    }

    /// Notes what acts on a cluster of a port, and tells of ports that are not asked how they are.
    pub fn note(&self, cell: &Cell<'_>, account: &mut Account, findings: &mut Findings<'_>) {
        let (known, subset) = (cell.known, cell.subset);
        let on_demand = cell.is_on_demand.then_some(Idle::OnDemand);
        let is_http = known.port(cell.port).is_none_or(|port| port.protocol != Protocol::Tcp);
        let no_http = (!is_http).then_some(Idle::NoHttp);
        note(&self.breakers.find(&known.host, subset), "circuitBreaker", None, account);
        note(&self.balancing.find(&known.host, subset), "loadBalancing", on_demand, account);
        note(&self.sessions.find(&known.host, subset), "stickySession", on_demand.or(no_http), account);
        let checks = self.checks.find(&known.host, subset);
        note(&checks, "healthCheck", on_demand, account);
        if let Some(check) = checks.first()
            && !cell.is_on_demand
        {
            health::check_port(&check.settings, check.place, cell, findings);
        }
    }
}

/// The first acts, unless there is a reason why it does not.
fn note<T>(found: &[&Attached<T>], field: &'static str, idle: Option<Idle>, account: &mut Account) {
    for (at, of) in found.iter().enumerate() {
        match (at, idle) {
            (_, Some(why)) => account.pass(of.place, field, why),
            (0, None) => account.take(of.place, field),
            (_, None) => account.pass(of.place, field, Idle::Outdone),
        }
    }
}

/// Keeps what is attached, and expects it to act.
struct Keeper<'k, 'f> {
    /// Where nothing is known of any service, each may be defined elsewhere.
    knows_services: bool,
    account: &'k mut Account,
    findings: &'k mut Findings<'f>,
}

impl Keeper<'_, '_> {
    fn keep<T>(
        &mut self,
        known: &mut ByHost<Attached<T>>,
        part: Part,
        settings: T,
        place: Place,
        field: &'static str,
    ) {
        let is_document = field == "circuitBreaker";
        let path = if is_document { DOCUMENT.to_owned() } else { format!("spec.{field}") };
        if let Some(before) = known.insert(part, Attached { settings, place }) {
            let at = self.findings.locate(before.place);
            let message = format!("another one is for the same: it is at {at}");
            self.findings.error(code::CONFLICT, place, &Path::ROOT.field(&path), message, "join them");
        } else if self.knows_services {
            self.account.expect(Said { place, field, path, route: None, otherwise: Idle::NoService });
        }
    }
}

/// The host, and the subset of it, that a reference is to.
pub(crate) fn resolve(
    target: &TargetRef,
    what: &str,
    meta: &Meta,
    resources: &Resources,
    registry: &Registry,
    findings: &mut Findings<'_>,
) -> Option<Part> {
    let path = Path::ROOT.field("spec.targetRef");
    let (namespace, name) = (meta.namespace(), &target.name);
    let mut unknown = |place, field, message| {
        findings.error(code::UNKNOWN_REFERENCE, place, &path.field(field), message, "");
        None
    };
    match target.kind.value.as_str() {
        "Service" => {
            if let Some(section) = &target.section_name {
                let message = "a Service has no subsets: name its DestinationRule".to_owned();
                return unknown(section.place, "sectionName", message);
            }
            let host = registry.named(name, namespace, &path.field("name"), findings);
            host.map(|host| Part { host, subset: None, is_pattern: false })
        }
        "DestinationRule" => {
            let rule = resources
                .destination_rules
                .iter()
                .find(|rule| rule.meta.name.value == name.value && rule.meta.namespace() == namespace);
            let Some(rule) = rule else {
                let message = format!("there is no DestinationRule '{}' in {namespace}", name.value);
                return unknown(name.place, "name", message);
            };
            if let Some(section) = &target.section_name
                && !rule.spec.subsets.iter().any(|subset| subset.name.value == section.value)
            {
                let message = format!("DestinationRule '{}' has no subset '{}'", name.value, section.value);
                return unknown(section.place, "sectionName", message);
            }
            let host = registry.full_name(&rule.spec.host, namespace);
            let is_pattern = host.starts_with('*');
            let subset = target.section_name.as_ref().map(|section| section.value.clone());
            Some(Part { host, subset, is_pattern })
        }
        kind => {
            let message = format!("a {what} cannot be attached to a {kind}");
            let hint = "it can be attached to a Service, to a DestinationRule or one of its subsets, \
                        to a VirtualService or one of its routes";
            findings.error(code::UNKNOWN_VALUE, target.kind.place, &path.field("kind"), message, hint);
            None
        }
    }
}

fn statuses(said: &[Text], path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<StatusRange> {
    let read = said.iter().enumerate().filter_map(|(at, text)| range(text, &path.at(at), findings));
    read.collect()
}

/// `500-599`, with both ends; `503`.
pub(crate) fn range(text: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<StatusRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let range = number(first).zip(number(last));
    let range = range.and_then(|(first, last)| StatusRange::new(first, last.saturating_add(1)).ok());
    if range.is_none() {
        let message = format!("'{}' is no status, and no range of statuses", text.value);
        findings.error(code::INVALID_VALUE, text.place, path, message, "write \"503\" or 500-599");
    }
    range
}

/// A count; what is none is out of range, and told.
fn count(said: &Option<Number>, path: &Path<'_>, name: &str, findings: &mut Findings<'_>) -> Option<u32> {
    let said = said.as_ref()?;
    let count = u32::try_from(said.value).ok();
    if count.is_none() {
        let message = format!("{} is out of range: 0 to {}", said.value, u32::MAX);
        findings.error(code::INVALID_VALUE, said.place, &path.field(name), message, "");
    }
    count
}

/// A block turns the comparison of success rates off, and Envoy's five 5xx in a row on; a number of
/// zero turns its own test off.
pub(crate) fn detection(said: &rule::OutlierDetection) -> OutlierDetection {
    let mut settings = OutlierDetection::default();
    let enforcing = &mut settings.enforcing;
    enforcing.success_rate = 0;
    enforcing.local_origin_success_rate = 0;
    if let Some(count) = number(&said.consecutive_5xx_errors) {
        settings.consecutive_5xx = count;
        enforcing.consecutive_5xx = if count > 0 { 100 } else { 0 };
    }
    if let Some(count) = number(&said.consecutive_gateway_errors) {
        settings.consecutive_gateway_failure = count;
        enforcing.consecutive_gateway_failure = if count > 0 { 100 } else { 0 };
    }
    let statuses = said.outlier_detection_http_error_codes.iter().filter_map(|status| {
        let first = u16::try_from(status.value).ok()?;
        StatusRange::new(first, first.saturating_add(1)).ok()
    });
    let statuses: Vec<StatusRange> = statuses.collect();
    settings.error_statuses = Some(statuses).filter(|statuses| !statuses.is_empty());
    settings.split_external_local_origin_errors =
        said.split_external_local_origin_errors.as_ref().is_some_and(|flag| flag.value);
    if let Some(count) = number(&said.consecutive_local_origin_failures).filter(|count| *count > 0) {
        settings.consecutive_local_origin_failure = count;
    }
    if let Some(interval) = &said.interval {
        settings.interval = interval.value;
    }
    if let Some(time) = &said.base_ejection_time {
        settings.base_ejection_time = time.value;
        settings.max_ejection_time = time.value.max(defaults::MAX_EJECTION_TIME);
    }
    // Zero cannot be said: istiod takes it for nothing.
    if let Some(percent) = number(&said.max_ejection_percent).filter(|percent| *percent > 0) {
        settings.max_ejection_percent = percent;
    }
    settings
}

/// Where there is a block, all endpoints are asked in panic only if it says when.
pub(crate) fn panic_percent(said: &rule::OutlierDetection) -> u32 {
    number(&said.min_health_percent).unwrap_or(0)
}

fn number(said: &Option<Number>) -> Option<u32> {
    said.as_ref().map(|number| u32::try_from(number.value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_spec::GuardSettings;

    use super::*;

    fn read(block: &str) -> (OutlierDetection, u32) {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\n\
             spec:\n  host: a\n  trafficPolicy:\n    outlierDetection: {block}\n"
        );
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", &text, &mut loaded);
        let policy = loaded.resources.destination_rules[0].spec.traffic_policy.as_ref().unwrap();
        let said = policy.outlier_detection.as_ref().unwrap();
        (detection(said), panic_percent(said))
    }

    #[test]
    fn an_empty_block_ejects_after_five_errors_at_ten_percent_and_never_panics() {
        let (settings, panic) = read("{}");
        assert_eq!((settings.consecutive_5xx, settings.enforcing.consecutive_5xx), (5, 100));
        assert_eq!(settings.enforcing.consecutive_gateway_failure, 0);
        assert_eq!((settings.enforcing.success_rate, settings.max_ejection_percent, panic), (0, 10, 0));
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn numbers_mean_what_istiod_makes_of_them() {
        let (settings, panic) = read(
            "{consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, baseEjectionTime: 400s, interval: 5s,\
             maxEjectionPercent: 0, minHealthPercent: 30, splitExternalLocalOriginErrors: true,\
             consecutiveLocalOriginFailures: 7, outlierDetectionHttpErrorCodes: [429, 503]}",
        );
        assert_eq!((settings.consecutive_5xx, settings.enforcing.consecutive_5xx), (0, 0));
        let gateway = (settings.consecutive_gateway_failure, settings.enforcing.consecutive_gateway_failure);
        assert_eq!(gateway, (3, 100));
        assert_eq!(settings.max_ejection_time, Duration::from_secs(400));
        assert_eq!((settings.interval, panic), (Duration::from_secs(5), 30));
        assert_eq!(settings.max_ejection_percent, 10, "zero is as if nothing were said");
        assert!(settings.split_external_local_origin_errors);
        assert_eq!(settings.consecutive_local_origin_failure, 7);
        let one = |status| StatusRange::new(status, status + 1).unwrap();
        assert_eq!(settings.error_statuses, Some(vec![one(429), one(503)]));
    }

    #[test]
    fn clusters_have_what_is_attached_to_their_subset_or_else_to_their_service() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule}
spec:
  host: reviews
  trafficPolicy: {outlierDetection: {minHealthPercent: 20}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: reviews, subset: v1}}]
  - route: [{destination: {host: reviews, subset: v2}}]
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: of-all}
spec: {targetRef: {kind: Service, name: reviews}, slidingWindowSize: 10}
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: of-v2}
spec: {targetRef: {kind: DestinationRule, name: rule, sectionName: v2}, slidingWindowSize: 20}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: checks}
spec:
  targetRef: {kind: DestinationRule, name: rule, sectionName: v1}
  healthCheck: {grpc: {service: reviews.v1}, interval: 5s}
";
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", text, &mut loaded);
        let planned = crate::plan(&loaded.resources, &crate::Surroundings::default());
        assert!(!planned.has_errors() && loaded.problems.is_empty(), "{:#?}", planned.problems);
        let guard = |subset: &str| {
            let name = format!("outbound|80|{subset}|reviews.default.svc.cluster.local");
            let cluster = planned.config.clusters.iter().find(|cluster| cluster.name == name);
            cluster.map(|cluster| cluster.guard.clone()).unwrap()
        };
        let window = |guard: &GuardSettings| guard.circuit_breaker.as_ref().unwrap().window;
        let (v1, v2) = (guard("v1"), guard("v2"));
        assert_eq!((window(&v1), window(&v2)), (naru_spec::Window::Count(10), naru_spec::Window::Count(20)));
        assert_eq!(v1.health_check.unwrap().interval, Duration::from_secs(5));
        assert_eq!((v2.health_check, v2.panic_percent), (None, 20));
        assert!(v2.outlier_detection.is_some());
    }

    #[test]
    fn where_requests_bring_their_endpoints_none_is_ejected_and_that_is_told() {
        let text = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry}
spec: {hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule}
spec:
  host: a.example
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3}
";
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", text, &mut loaded);
        let planned = crate::plan(&loaded.resources, &crate::Surroundings::default());
        let told: Vec<_> = planned.problems.iter().map(|told| (told.line, told.message.as_str())).collect();
        let is_told = told.iter().any(|(line, message)| {
            *line == 12 && message.contains("'outlierDetection' has no effect: requests to this host bring")
        });
        assert!(is_told, "{told:?}");
    }
}
