//! Which `DestinationRule` is for a host, and is it one that makes sense?

use std::collections::BTreeMap;

use naru_resource::destination_rule::{ConnectionPool, OutlierDetection, RetryBudget, Subset, TrafficPolicy};
use naru_resource::{DestinationRule, Number, Place, Resources, Seconds};
use naru_spec::suggest::did_you_mean;
use naru_spec::{Path, Severity, code};

use crate::balancing;
use crate::credentials::Credentials;
use crate::findings::Findings;
use crate::gateway_api::BackendTls;
use crate::guards;
use crate::mesh::{self, Mesh, OfClusters};
use crate::names::{fits, is_exported};
use crate::registry::{Registry, has_all, port_number};
use crate::tls;

/// All rules, each with the host that it is for.
#[derive(Debug, Default)]
pub(crate) struct Policies<'a> {
    rules: Vec<(String, &'a DestinationRule)>,
    pub credentials: Credentials,
    /// What Services say of their own TLS by the Gateway API.
    pub backend_tls: BackendTls,
    pub mesh: Mesh<'a>,
}

/// What the rules for one host say together.
#[derive(Debug, Default)]
pub(crate) struct Effective<'a> {
    pub policy: Option<&'a TrafficPolicy>,
    pub subsets: Vec<&'a Subset>,
    /// What holds where they say nothing.
    pub mesh: OfClusters<'a>,
    /// Of the first rule.
    pub place: Option<Place>,
}

impl<'a> Effective<'a> {
    pub fn subset(&self, name: &str) -> Option<&'a Subset> {
        self.subsets.iter().copied().find(|subset| subset.name.value == name)
    }
}

impl<'a> Policies<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        mesh: Mesh<'a>,
        is_strict: bool,
        findings: &mut Findings<'_>,
    ) -> Policies<'a> {
        let credentials = Credentials::of(resources, findings);
        let backend_tls = BackendTls::of(resources, findings);
        let mut policies = Policies { credentials, backend_tls, mesh, ..Policies::default() };
        for rule in &resources.destination_rules {
            check(rule, registry, is_strict, findings);
            policies.rules.push((registry.full_name(&rule.spec.host, rule.meta.namespace()), rule));
        }
        policies.check_overlap(findings);
        policies
    }

    /// What the namespace of who calls says, or else that of who is called, or else the root namespace; the closest host
    /// of a namespace wins. A rule of the root namespace is for all, so that for who calls from there the service's own
    /// goes before it, unless it is for that namespace alone. One that selects who calls goes before those for anybody.
    /// Source: istiod's `push_context.go`: `destinationRule`, `sidecar.go`: `DestinationRule`.
    pub fn find(
        &self,
        host: &str,
        service_namespace: &str,
        client_namespace: &str,
        client_labels: &[(String, String)],
    ) -> Effective<'a> {
        let fitting = self.rules.iter().filter_map(|(pattern, rule)| {
            let closeness = fits(pattern, host)?;
            let owner = rule.meta.namespace();
            let is_selected = |selector: &naru_resource::destination_rule::WorkloadSelector| {
                owner == client_namespace && has_all(client_labels, &selector.match_labels)
            };
            let exports = mesh::or(&rule.spec.export_to, self.mesh.exports.destination_rules);
            let is_seen = is_exported(exports, owner, client_namespace)
                && rule.spec.workload_selector.as_ref().is_none_or(is_selected);
            let root = self.mesh.root_namespace;
            let is_own_alone = || matches!(exports, [only] if only.value == "." || only.value == owner);
            let rank = match owner {
                _ if owner == client_namespace && (owner != root || is_own_alone()) => 2,
                _ if owner == service_namespace => 1,
                _ if owner == root => 0,
                _ => return None,
            };
            is_seen.then_some(((rank, closeness), pattern, *rule))
        });
        let fitting: Vec<_> = fitting.collect();
        let mut effective = Effective { mesh: self.mesh.clusters, ..Effective::default() };
        let Some(best) = fitting.iter().map(|(rank, ..)| *rank).max() else { return effective };
        let mut held: Vec<&DestinationRule> =
            fitting.iter().filter(|(rank, ..)| *rank == best).map(|(.., rule)| *rule).collect();
        held.sort_by_key(|rule| rule.spec.workload_selector.is_none());
        for rule in held {
            effective.place.get_or_insert(rule.meta.name.place);
            if effective.policy.is_none() {
                effective.policy = rule.spec.traffic_policy.as_ref();
            }
            for subset in &rule.spec.subsets {
                if effective.subset(&subset.name).is_none() {
                    effective.subsets.push(subset);
                }
            }
        }
        effective
    }

    /// Kiali's KIA0201: a second rule for a host adds subsets, and nothing else.
    fn check_overlap(&self, findings: &mut Findings<'_>) {
        let mut first: BTreeMap<(&str, &str), &DestinationRule> = BTreeMap::new();
        for (host, rule) in &self.rules {
            if rule.spec.workload_selector.is_some() {
                continue;
            }
            let Some(before) = first.get(&(host.as_str(), rule.meta.namespace())) else {
                first.insert((host.as_str(), rule.meta.namespace()), rule);
                continue;
            };
            let spec = Path::ROOT.field("spec");
            let hint = format!("the first rule for it is at {}", findings.locate(before.spec.host.place));
            for (at, subset) in rule.spec.subsets.iter().enumerate() {
                if before.spec.subsets.iter().any(|known| known.name.value == subset.name.value) {
                    let path = spec.field("subsets");
                    let message = format!("subset '{}' of {host} is defined twice", subset.name.value);
                    findings.warning(code::DUPLICATE, subset.name.place, &path.at(at), message, &hint);
                }
            }
            if let (Some(policy), Some(_)) = (&rule.spec.traffic_policy, &before.spec.traffic_policy) {
                let message = format!("a second trafficPolicy for {host} has no effect");
                let path = spec.field("trafficPolicy");
                findings.warning(code::DUPLICATE, policy.place, &path, message, &hint);
            }
        }
    }
}

fn check(rule: &DestinationRule, registry: &Registry, is_strict: bool, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    let host = &rule.spec.host;
    let known = registry.find(host, rule.meta.namespace());
    let severity = if is_strict || !registry.is_empty() { Severity::Warning } else { Severity::Note };
    if host.starts_with('*') {
        // Where nothing is defined, anything may fit.
        if !registry.is_empty() && registry.fitting(host, rule.meta.namespace()).is_empty() {
            let message = format!("no Service and no ServiceEntry fits '{}'", host.value);
            findings.tell(severity, code::UNKNOWN_HOST, host.place, &spec.field("host"), message, "");
        }
    } else if known.is_none() {
        let message = format!("no Service and no ServiceEntry is called '{}'", host.value);
        let hint = naru_suggestion(host, registry);
        findings.tell(severity, code::UNKNOWN_HOST, host.place, &spec.field("host"), message, hint);
    }
    let meant = known.map(|known| registry.meant(known, rule.meta.namespace()));
    if let (Some(known), Some(meant)) = (known, meant)
        && known.host != meant.host
    {
        let message = format!("'{}' is a name of {}, whose DestinationRule holds", host.value, meant.host);
        findings.warning(code::NO_EFFECT, host.place, &spec.field("host"), message, "name that one");
    }
    let is_entry = known.is_some_and(|known| known.name.is_none());
    if let Some(policy) = &rule.spec.traffic_policy {
        check_policy(policy, false, is_entry, &spec.field("trafficPolicy"), findings);
    }
    let subsets = spec.field("subsets");
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        let path = subsets.at(at);
        let is_twice = rule.spec.subsets.iter().take(at).any(|before| before.name.value == subset.name.value);
        if is_twice {
            let message = format!("subset '{}' is defined twice", subset.name.value);
            findings.error(code::DUPLICATE, subset.name.place, &path.field("name"), message, "");
        }
        if let Some(policy) = &subset.traffic_policy {
            let whole = rule.spec.traffic_policy.as_ref();
            let ejects = whole.is_some_and(|policy| policy.outlier_detection.is_some());
            check_policy(policy, ejects, is_entry, &path.field("trafficPolicy"), findings);
        }
        // IST0173: nothing that the service leads to has these labels.
        let selects_nothing = known.is_some_and(|known| {
            let has = |labels: &Vec<(String, String)>| has_all(labels, &subset.labels);
            let is_known = !known.selected.is_empty() || known.endpoints.iter().any(|e| !e.labels.is_empty());
            is_known
                && !known.is_joined
                && !known.selected.iter().any(has)
                && !known.endpoints.iter().any(|endpoint| has(&endpoint.labels))
        });
        if selects_nothing {
            let message = format!("nothing has the labels of subset '{}'", subset.name.value);
            let hint =
                "requests for it would be answered 503: correct the labels, or add a Deployment with them";
            let path = path.field("labels");
            findings.warning(code::EMPTY_SUBSET, subset.name.place, &path, message, hint);
        }
    }
}

/// What the author of an unknown host may have meant.
pub(crate) fn naru_suggestion(host: &str, registry: &Registry) -> String {
    // A name in another namespace: `reviews.shop` instead of `reviews.shop.svc.cluster.local`.
    let longer = format!("{host}.{}", crate::names::DOMAIN);
    let meant = registry.hosts().find(|known| *known == longer || known.split('.').next() == Some(host));
    match meant {
        Some(known) => format!("did you mean '{known}'?"),
        None if registry.is_empty() => String::new(),
        None => match did_you_mean(host, registry.hosts().filter_map(|known| known.split('.').next())) {
            suggestion if suggestion.is_empty() => "define it by a Service or a ServiceEntry".to_owned(),
            suggestion => suggestion,
        },
    }
}

/// A number within bounds.
fn within(
    value: &Option<Number>,
    low: i64,
    high: i64,
    path: &Path<'_>,
    name: &str,
    findings: &mut Findings<'_>,
) {
    if let Some(value) = value
        && !(low..=high).contains(&value.value)
    {
        let message = format!("{} is out of range: {low} to {high}", value.value);
        let hint = if high == 100 { "a share of all endpoints, in percent" } else { "" };
        findings.error(code::INVALID_VALUE, value.place, &path.field(name), message, hint);
    }
}

/// Istio takes a limit of zero for none that was said, which surprises.
fn without_limit(value: &Option<Number>, path: &Path<'_>, name: &str, findings: &mut Findings<'_>) {
    if let Some(value) = value.as_ref().filter(|value| value.value == 0) {
        let message = format!("'{name}: 0' is without limit, as in Istio");
        findings.warning(
            code::NO_EFFECT,
            value.place,
            &path.field(name),
            message,
            "1 or more, or leave it out",
        );
    }
}

/// A time of at least a millisecond, as Istio asks for.
fn lasting(value: &Option<Seconds>, path: &Path<'_>, name: &str, findings: &mut Findings<'_>) {
    if let Some(value) = value
        && value.value.as_millis() == 0
    {
        let message = format!("'{name}' must be at least a millisecond");
        findings.error(code::INVALID_VALUE, value.place, &path.field(name), message, "");
    }
}

/// `ejects` says whether it inherits an outlierDetection.
fn check_policy(
    policy: &TrafficPolicy,
    ejects: bool,
    is_entry: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let Some(balancer) = &policy.load_balancer {
        let ejects = ejects || policy.outlier_detection.is_some();
        balancing::check(balancer, ejects, is_entry, &path.field("loadBalancer"), findings);
    }
    if let Some(pool) = &policy.connection_pool {
        check_pool(pool, &path.field("connectionPool"), findings);
    }
    if let Some(detection) = &policy.outlier_detection {
        check_detection(detection, path, findings);
    }
    if let Some(tls) = &policy.tls {
        tls::check_upstream(tls, &path.field("tls"), findings);
    }
    let ports = path.field("portLevelSettings");
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        let path = ports.at(at);
        match &port.port {
            Some(selector) => {
                port_number(*selector.number, selector.number.place, &path.field("port.number"), findings);
            }
            None => findings.error(code::MISSING_FIELD, port.place, &path, "the field 'port' is missing", ""),
        }
        if let Some(balancer) = &port.load_balancer {
            let ejects = port.outlier_detection.is_some();
            balancing::check(balancer, ejects, is_entry, &path.field("loadBalancer"), findings);
        }
        if let Some(pool) = &port.connection_pool {
            check_pool(pool, &path.field("connectionPool"), findings);
        }
        if let Some(detection) = &port.outlier_detection {
            check_detection(detection, &path, findings);
        }
        if let Some(tls) = &port.tls {
            tls::check_upstream(tls, &path.field("tls"), findings);
        }
    }
    if let Some(tunnel) = &policy.tunnel {
        // To connect to somebody else than is meant would be worse than not to.
        let message = "naru does not act on 'tunnel' yet";
        findings.error(code::UNSUPPORTED_FIELD, tunnel.place, &path.field("tunnel"), message, "");
    }
    if let Some(version) = policy.proxy_protocol.as_ref().and_then(|said| said.version.as_ref())
        && !matches!(version.as_str(), "V1" | "V2")
    {
        let message = format!("'{}' is not a version of the PROXY protocol", version.value);
        let path = path.field("proxyProtocol.version");
        findings.error(code::UNKNOWN_VALUE, version.place, &path, message, "one of V1, V2");
    }
    if let Some(budget) = &policy.retry_budget {
        check_budget(budget, &path.field("retryBudget"), findings);
    }
}

fn check_budget(budget: &RetryBudget, path: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(percent) = &budget.percent
        && let Err(invalid) = naru_spec::RetryBudget::of_percent(percent.value, 0)
    {
        let path = path.field("percent");
        findings.error(code::INVALID_VALUE, percent.place, &path, invalid.message, invalid.hint);
    }
    const MOST: i64 = u32::MAX as i64;
    within(&budget.min_retry_concurrency, 0, MOST, path, "minRetryConcurrency", findings);
}

/// A connection that carries no more than this costs more than it is worth.
const FEW_REQUESTS: i64 = 9;

pub(crate) fn check_pool(pool: &ConnectionPool, path: &Path<'_>, findings: &mut Findings<'_>) {
    const MOST: i64 = u32::MAX as i64;
    if let Some(tcp) = &pool.tcp {
        let path = path.field("tcp");
        within(&tcp.max_connections, 0, MOST, &path, "maxConnections", findings);
        lasting(&tcp.connect_timeout, &path, "connectTimeout", findings);
        without_limit(&tcp.max_connections, &path, "maxConnections", findings);
        lasting(&tcp.max_connection_duration, &path, "maxConnectionDuration", findings);
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let path = path.field("tcpKeepalive");
            within(&keepalive.probes, 1, MOST, &path, "probes", findings);
            for (value, name) in [(&keepalive.time, "time"), (&keepalive.interval, "interval")] {
                if let Some(value) = value
                    && (value.as_secs() == 0 || value.subsec_nanos() != 0)
                {
                    let message = format!("'{name}' is of whole seconds, 1s or more");
                    findings.error(code::INVALID_VALUE, value.place, &path.field(name), message, "");
                }
            }
        }
    }
    if let Some(http) = &pool.http {
        let path = path.field("http");
        for (value, name) in [
            (&http.http1_max_pending_requests, "http1MaxPendingRequests"),
            (&http.http2_max_requests, "http2MaxRequests"),
            (&http.max_retries, "maxRetries"),
            (&http.max_concurrent_streams, "maxConcurrentStreams"),
        ] {
            within(value, 0, MOST, &path, name, findings);
            without_limit(value, &path, name, findings);
        }
        let per_connection = &http.max_requests_per_connection;
        within(per_connection, 0, MOST, &path, "maxRequestsPerConnection", findings);
        // One is how keep-alive is turned off on purpose.
        if let Some(count) = per_connection
            && (2..=FEW_REQUESTS).contains(&count.value)
        {
            let message = format!("a connection is made for every {} requests", count.value);
            let hint =
                "each costs a round trip, and with TLS a handshake: leave it out, or set it to thousands";
            let path = path.field("maxRequestsPerConnection");
            findings.tell(Severity::Note, code::COSTLY, count.place, &path, message, hint);
        }
        if let Some(keepalive) = &http.http2_keep_alive {
            let path = path.field("http2KeepAlive");
            lasting(&keepalive.interval, &path, "interval", findings);
            lasting(&keepalive.timeout, &path, "timeout", findings);
            if keepalive.interval.is_none() {
                let message = "without an interval no PING is sent";
                findings.warning(code::NO_EFFECT, keepalive.place, &path, message, "set interval");
            }
        }
        if let (Some(policy), Some(client)) = (&http.h2_upgrade_policy, &http.use_client_protocol)
            && client.value
            && policy.value == naru_resource::destination_rule::H2Upgrade::Upgrade
        {
            let message = "only one of h2UpgradePolicy: UPGRADE and useClientProtocol can be said";
            findings.error(code::CONFLICTING_FIELDS, client.place, &path, message, "");
        }
    }
}

pub(crate) fn check_detection(detection: &OutlierDetection, path: &Path<'_>, findings: &mut Findings<'_>) {
    const MOST: i64 = u32::MAX as i64;
    let of = path.field("outlierDetection");
    within(&detection.max_ejection_percent, 0, 100, &of, "maxEjectionPercent", findings);
    within(&detection.min_health_percent, 0, 100, &of, "minHealthPercent", findings);
    within(&detection.consecutive_5xx_errors, 0, MOST, &of, "consecutive5xxErrors", findings);
    within(&detection.consecutive_gateway_errors, 0, MOST, &of, "consecutiveGatewayErrors", findings);
    let local = &detection.consecutive_local_origin_failures;
    within(local, 0, MOST, &of, "consecutiveLocalOriginFailures", findings);
    lasting(&detection.interval, &of, "interval", findings);
    lasting(&detection.base_ejection_time, &of, "baseEjectionTime", findings);
    let codes = &detection.outlier_detection_http_error_codes;
    for (at, status) in codes.iter().enumerate().filter(|(_, said)| !(100..=599).contains(&said.value)) {
        let message = format!("{} is not a status", status.value);
        let path = of.field("outlierDetectionHttpErrorCodes");
        findings.error(code::INVALID_VALUE, status.place, &path.at(at), message, "100 to 599");
    }
    let splits = detection.split_external_local_origin_errors.is_some_and(|flag| flag.value);
    if let Some(said) = local.filter(|_| !splits) {
        let message = "it counts only what is split off";
        let path = of.field("consecutiveLocalOriginFailures");
        let hint = "say splitExternalLocalOriginErrors: true, or leave it out";
        findings.warning(code::NO_EFFECT, said.place, &path, message, hint);
    }
    let settings = guards::detection(detection);
    let (all, gateway) = (settings.consecutive_5xx, settings.consecutive_gateway_failure);
    if let Some(said) = detection.consecutive_gateway_errors.filter(|said| said.value > 0)
        && all > 0
        && gateway >= all
    {
        let message =
            format!("{gateway} gateway errors in a row are {all} errors in a row first, which eject");
        let hint = format!("say less than {all}, or consecutive5xxErrors: 0");
        let path = of.field("consecutiveGatewayErrors");
        findings.warning(code::NO_EFFECT, said.place, &path, message, hint);
    }
}
