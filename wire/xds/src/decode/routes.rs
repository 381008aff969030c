//! Route tables: virtual hosts, routes and what they do.

use std::collections::HashMap;

use http::StatusCode;
use naru_base::Weight;
use naru_spec::{
    Action, ClusterChoice, Descriptor, DirectResponse, Domain, Format, Forward, GateChange, HostRewrite,
    Invalid, PathRewrite, Redirect, RedirectPath, RouteTable, Rule, RuleRates, Scheme, TlsRequirement,
    VirtualHost, WeightedCluster, defaults,
};

use super::per_filter::{self, Above};
use super::rates::{self, Said};
use super::{balancing, connect, headers, matching, ours, recovery, value};
use crate::extension::{ROUTE_METADATA, Recovery, RouteExtension};
use crate::findings::{Findings, code};
use crate::proto::{Any, core, matcher, route};
use naru_spec::Path;

/// Where a table says nothing of it, naru takes more; Envoy would not.
const DIRECT_BODY_BYTES_USUAL: usize = 4_096;

pub(crate) fn read(
    said: &route::RouteConfiguration,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> RouteTable {
    let body_bytes_max = bodies_of(said);
    if body_bytes_max != usize::MAX && body_bytes_max > defaults::DIRECT_BODY_BYTES_MAX {
        let text = format!("at most {} bytes are supported", defaults::DIRECT_BODY_BYTES_MAX);
        findings.unsupported_value(&path.field("max_direct_response_body_size_bytes"), text, "");
    }
    let body_bytes_max = body_bytes_max.min(defaults::DIRECT_BODY_BYTES_MAX);
    let mut table = RouteTable {
        name: said.name.clone(),
        ignores_port: said.ignore_port_in_host_matching,
        ..RouteTable::default()
    };
    if said.vhds.is_some() {
        let text = "virtual hosts by themselves come from a control plane, with routes by RDS";
        findings.unsupported(&path.field("vhds"), text, "virtual_hosts");
    }
    let hosts = path.field("virtual_hosts");
    let mut names = std::collections::BTreeSet::new();
    let of_table = &said.typed_per_filter_config;
    per_filter::check(of_table, "route table", &path.field("typed_per_filter_config"), findings);
    for (at, said) in said.virtual_hosts.iter().enumerate() {
        let path = hosts.at(at);
        if !said.name.is_empty() && !names.insert(said.name.as_str()) {
            let text = format!("another virtual host has the name '{}'", said.name);
            findings.error(&path.field("name"), code::DUPLICATE, text, "");
        }
        table.virtual_hosts.push(virtual_host(said, of_table, body_bytes_max, &path, findings));
    }
    let (request, response) = (headers::REQUEST, headers::RESPONSE);
    table.request_headers =
        headers::ops(&said.request_headers_to_add, &said.request_headers_to_remove, request, path, findings);
    table.response_headers = headers::ops(
        &said.response_headers_to_add,
        &said.response_headers_to_remove,
        response,
        path,
        findings,
    );
    table
}

/// A rule that neither its virtual host nor its table says anything about.
pub(super) fn alone(said: &route::Route, findings: &mut Findings<'_>) -> Rule {
    let nothing = HashMap::new();
    let above = Above { host: &nothing, table: &nothing };
    rule(said, (above, &[]), DIRECT_BODY_BYTES_USUAL, &Path::ROOT, findings)
}

/// A virtual host that comes by itself, as its table would have it.
pub(crate) fn read_host(
    said: &route::VirtualHost,
    table: &route::RouteConfiguration,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> VirtualHost {
    let body_bytes_max = bodies_of(table).min(defaults::DIRECT_BODY_BYTES_MAX);
    virtual_host(said, &table.typed_per_filter_config, body_bytes_max, path, findings)
}

/// How large the body of a direct response may be.
fn bodies_of(table: &route::RouteConfiguration) -> usize {
    table.max_direct_response_body_size_bytes.map_or(usize::MAX, |v| v.value as usize)
}

fn virtual_host(
    said: &route::VirtualHost,
    of_table: &HashMap<String, Any>,
    body_bytes_max: usize,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> VirtualHost {
    use route::virtual_host::TlsRequirementType;
    let mut domains = Vec::new();
    let listed = path.field("domains");
    for (at, text) in said.domains.iter().enumerate() {
        match Domain::parse(text) {
            Ok(domain) => domains.push(domain),
            Err(invalid) => {
                findings.invalid(&listed.at(at), invalid);
                // Keeps its seat, so that the paths of the others stay true.
                domains.push(Domain::Exact(text.clone()));
            }
        }
    }
    let routes = path.field("routes");
    let rules = said.routes.iter().enumerate();
    let of_host = &said.typed_per_filter_config;
    let rates = path.field("rate_limits");
    let rates = rates::descriptors(&said.rate_limits, Said::AtRoutes, &rates, findings);
    per_filter::check(of_host, "virtual host", &path.field("typed_per_filter_config"), findings);
    let above = Above { host: of_host, table: of_table };
    let (request, response) = (headers::REQUEST, headers::RESPONSE);
    VirtualHost {
        name: said.name.clone(),
        domains,
        rules: rules
            .map(|(at, said)| rule(said, (above, &rates), body_bytes_max, &routes.at(at), findings))
            .collect(),
        tls: match said.require_tls() {
            TlsRequirementType::None => TlsRequirement::None,
            TlsRequirementType::ExternalOnly => TlsRequirement::ExternalOnly,
            TlsRequirementType::All => TlsRequirement::All,
        },
        request_headers: headers::ops(
            &said.request_headers_to_add,
            &said.request_headers_to_remove,
            request,
            path,
            findings,
        ),
        response_headers: headers::ops(
            &said.response_headers_to_add,
            &said.response_headers_to_remove,
            response,
            path,
            findings,
        ),
    }
}

fn rule(
    said: &route::Route,
    (above, rates_of_host): (Above<'_>, &[Descriptor]),
    body_bytes_max: usize,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Rule {
    use route::route::Action as Acts;
    if let Some(rule) = ours::rule(said, path, findings) {
        return rule;
    }
    let extension = extension(said.metadata.as_ref(), &path.field("metadata"), findings);
    let filters = path.field("typed_per_filter_config");
    let of_route = &said.typed_per_filter_config;
    let (fault, mut gate) = per_filter::of_route(of_route, above, &filters, findings);
    let mut block = matching::read(
        said.r#match.as_ref().unwrap_or(&route::RouteMatch::default()),
        &path.field("match"),
        findings,
    );
    block.query.extend(extension.query_not);
    let action = match &said.action {
        Some(Acts::Route(said)) => {
            gate.extend(described(said, rates_of_host, &path.field("route"), findings));
            let mut forward = forward(said, &path.field("route"), findings);
            forward.cluster_gates = of_clusters(said, of_route, above, &gate, &path.field("route"), findings);
            forward.query = extension.query;
            forward.fault = fault;
            forward.groups = extension.groups.map(Box::new);
            if let Err(text) = extension.recovery.apply(&mut forward) {
                findings.invalid(&path.field("metadata"), Invalid::new(text));
            }
            Action::Forward(Box::new(forward))
        }
        other => {
            let is_idle = extension.query.is_empty()
                && extension.recovery == Recovery::default()
                && extension.groups.is_none();
            if !is_idle || fault.is_some() {
                let text = "operations on the query, faults, retries and groups have no effect where the request is not forwarded";
                findings.error(&path.field("metadata"), code::INVALID_VALUE, text, "");
            }
            match other {
                Some(Acts::Redirect(said)) => redirect(said, &path.field("redirect"), findings),
                Some(Acts::DirectResponse(said)) => {
                    direct(said, body_bytes_max, &path.field("direct_response"), findings)
                }
                _ => Action::Direct(Box::new(DirectResponse {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    body: Vec::new(),
                })),
            }
        }
    };
    let (request, response) = (headers::REQUEST, headers::RESPONSE);
    Rule {
        gate,
        name: said.name.clone(),
        origin: String::new(),
        matches: vec![block],
        action,
        request_headers: headers::ops(
            &said.request_headers_to_add,
            &said.request_headers_to_remove,
            request,
            path,
            findings,
        ),
        response_headers: headers::ops(
            &said.response_headers_to_add,
            &said.response_headers_to_remove,
            response,
            path,
            findings,
        ),
    }
}

/// What requests for one of several clusters pass in place of what their route says.
fn of_clusters(
    said: &route::RouteAction,
    of_route: &HashMap<String, Any>,
    above: Above<'_>,
    gate: &[GateChange],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Option<Vec<GateChange>>> {
    use route::route_action::ClusterSpecifier;
    let Some(ClusterSpecifier::WeightedClusters(said)) = &said.cluster_specifier else { return Vec::new() };
    // What requests are called is the route's to say.
    let called = || gate.iter().filter(|change| matches!(change, GateChange::Describe(_))).cloned();
    let path = path.field("weighted_clusters.clusters");
    let own = said.clusters.iter().enumerate().map(|(at, cluster)| {
        let path = path.at(at);
        let filters = path.field("typed_per_filter_config");
        let own = &cluster.typed_per_filter_config;
        let changes = per_filter::of_cluster(own, of_route, above, &filters, findings)?;
        let changes: Vec<GateChange> = changes.into_iter().chain(called()).collect();
        (changes != gate).then_some(changes)
    });
    let own: Vec<Option<Vec<GateChange>>> = own.collect();
    if own.iter().all(Option::is_none) { Vec::new() } else { own }
}

/// What requests of a route are called.
#[expect(deprecated, reason = "the older spelling is still read")]
fn described(
    said: &route::RouteAction,
    of_host: &[Descriptor],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<GateChange> {
    let rates = RuleRates {
        own: rates::descriptors(&said.rate_limits, Said::AtRoutes, &path.field("rate_limits"), findings),
        of_host: of_host.to_vec(),
        includes_host: said.include_vh_rate_limits.is_some_and(|said| said.value),
    };
    (rates != RuleRates::default()).then(|| GateChange::Describe(Box::new(rates)))
}

/// Metadata that is not naru's own would have no effect.
fn extension(said: Option<&core::Metadata>, path: &Path<'_>, findings: &mut Findings<'_>) -> RouteExtension {
    let mut extension = RouteExtension::default();
    let Some(said) = said else { return extension };
    let path = path.field("filter_metadata");
    let mut keys: Vec<&String> = said.filter_metadata.keys().collect();
    keys.sort();
    for key in keys {
        let path = path.key(key);
        let fields = said.filter_metadata.get(key).filter(|_| key == ROUTE_METADATA);
        match fields.map(RouteExtension::read) {
            Some(Ok(found)) => extension = found,
            Some(Err(text)) => findings.invalid(&path, Invalid::new(text)),
            None => {
                let text = format!("naru does not act on the metadata '{key}'");
                findings.unsupported(&path, text, format!("only '{ROUTE_METADATA}' is known"));
            }
        }
    }
    extension
}

fn forward(said: &route::RouteAction, path: &Path<'_>, findings: &mut Findings<'_>) -> Forward {
    use route::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};
    let clusters = match &said.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::One(name.clone()),
        Some(ClusterSpecifier::WeightedClusters(said)) => {
            weighted(said, &path.field("weighted_clusters"), findings)
        }
        _ => ClusterChoice::Weighted(Vec::new()),
    };
    let timeout =
        value::limit(&said.timeout, Some(defaults::ROUTE_TIMEOUT), &path.field("timeout"), findings);
    let idle = said.idle_timeout.as_ref();
    let mut forward = Forward {
        clusters,
        timeout,
        idle_timeout: idle.map(|said| {
            Some(value::duration(said, &path.field("idle_timeout"), findings)).filter(|d| !d.is_zero())
        }),
        path: path_rewrite(said, path, findings),
        host: host_rewrite(said, path, findings),
        append_x_forwarded_host: said.append_x_forwarded_host,
        upgrades: value::upgrades(
            said.upgrade_configs
                .iter()
                .map(|said| (said.upgrade_type.as_str(), said.enabled.map(|v| v.value))),
            &path.field("upgrade_configs"),
            findings,
        ),
        terminate: connect::terminate(&said.upgrade_configs, &path.field("upgrade_configs"), findings),
        query: Default::default(),
        cluster_not_found: match said.cluster_not_found_response_code() {
            ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
            ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        },
        hash: balancing::hash_policies(&said.hash_policy, path, findings),
        ..Forward::to("")
    };
    recovery::read(said, &mut forward, path, findings);
    forward
}

fn weighted(said: &route::WeightedCluster, path: &Path<'_>, findings: &mut Findings<'_>) -> ClusterChoice {
    use route::weighted_cluster::cluster_weight::HostRewriteSpecifier as HostOfCluster;
    let listed = path.field("clusters");
    let mut clusters = Vec::new();
    for (at, said) in said.clusters.iter().enumerate() {
        let path = listed.at(at);
        if said.name.is_empty() && said.cluster_header.is_empty() {
            findings.missing(&path.field("name"), "a weighted cluster needs a name");
        }
        if said.weight.is_none() {
            findings.missing(&path.field("weight"), "a weighted cluster needs a weight");
        }
        let (request, response) = (headers::REQUEST, headers::RESPONSE);
        clusters.push(WeightedCluster {
            name: said.name.clone(),
            weight: Weight(said.weight.map_or(0, |v| v.value)),
            host: said.host_rewrite_specifier.as_ref().and_then(|said| match said {
                HostOfCluster::HostRewriteLiteral(host) => (!host.is_empty()).then(|| host.clone()),
            }),
            request_headers: headers::ops(
                &said.request_headers_to_add,
                &said.request_headers_to_remove,
                request,
                &path,
                findings,
            ),
            response_headers: headers::ops(
                &said.response_headers_to_add,
                &said.response_headers_to_remove,
                response,
                &path,
                findings,
            ),
        });
    }
    // Weights that are missing are told already, and so is an empty list.
    let is_complete = !said.clusters.is_empty() && said.clusters.iter().all(|c| c.weight.is_some());
    match ClusterChoice::weighted(clusters.clone()) {
        Ok(choice) => choice,
        Err(invalid) => {
            if is_complete {
                findings.invalid(&listed, invalid);
            }
            ClusterChoice::Weighted(clusters)
        }
    }
}

fn path_rewrite(
    said: &route::RouteAction,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<PathRewrite> {
    let mut found: Vec<(&str, PathRewrite)> = Vec::new();
    if !said.prefix_rewrite.is_empty() {
        found.push(("prefix_rewrite", PathRewrite::Prefix(said.prefix_rewrite.clone())));
    }
    if let Some(said) = &said.regex_rewrite {
        let (pattern, substitution) = regex_rewrite(said, &path.field("regex_rewrite"), findings);
        found.push(("regex_rewrite", PathRewrite::Regex { pattern, substitution }));
    }
    if !said.path_rewrite.is_empty() {
        let path = path.field("path_rewrite");
        match Format::parse(&said.path_rewrite) {
            Ok(format) => match format.as_literal() {
                Some(text) => found.push(("path_rewrite", PathRewrite::Full(text.to_owned()))),
                None => {
                    let text = "a rewritten path with operators in it is not supported";
                    findings.unsupported_value(&path, text, "write '%%' for a percent sign");
                }
            },
            Err(invalid) => findings.invalid(&path, invalid),
        }
    }
    if let [(first, _), (second, _), ..] = found.as_slice() {
        let text = format!("only one of {first} and {second} can be said");
        findings.error(&path.field(second), code::CONFLICTING_FIELDS, text, "remove one of them");
    }
    found.into_iter().next().map(|(_, rewrite)| rewrite)
}

fn regex_rewrite(
    said: &matcher::RegexMatchAndSubstitute,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> (naru_spec::Pattern, String) {
    (value::pattern(said.pattern.as_ref(), &path.field("pattern"), findings), said.substitution.clone())
}

fn host_rewrite(
    said: &route::RouteAction,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HostRewrite> {
    use route::route_action::HostRewriteSpecifier as Said;
    match said.host_rewrite_specifier.as_ref()? {
        Said::HostRewriteLiteral(host) => (!host.is_empty()).then(|| HostRewrite::Literal(host.clone())),
        Said::AutoHostRewrite(auto) => auto.value.then_some(HostRewrite::Auto),
        Said::HostRewriteHeader(name) => {
            headers::name(name, &path.field("host_rewrite_header"), findings).map(HostRewrite::Header)
        }
        // Told as not supported.
        Said::HostRewritePathRegex(_) | Said::HostRewrite(_) => None,
    }
}

fn redirect(said: &route::RedirectAction, path: &Path<'_>, findings: &mut Findings<'_>) -> Action {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let scheme = match &said.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(Scheme::Https),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => match scheme.as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                let invalid =
                    Invalid::new(format!("'{other}' is not a scheme of HTTP")).hint("http or https");
                findings.invalid(&path.field("scheme_redirect"), invalid);
                None
            }
        },
        _ => None,
    };
    let port = u16::try_from(said.port_redirect).unwrap_or_else(|_| {
        let text = format!("{} is not a port", said.port_redirect);
        findings.invalid(&path.field("port_redirect"), Invalid::new(text).hint("1 to 65535"));
        0
    });
    let rewrite = match &said.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(full)) if !full.is_empty() => {
            Some(RedirectPath::Full(full.clone()))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if !prefix.is_empty() => {
            Some(RedirectPath::Prefix(prefix.clone()))
        }
        Some(PathRewriteSpecifier::RegexRewrite(said)) => {
            let (pattern, substitution) = regex_rewrite(said, &path.field("regex_rewrite"), findings);
            Some(RedirectPath::Regex { pattern, substitution })
        }
        _ => None,
    };
    Action::Redirect(Box::new(Redirect {
        scheme,
        host: Some(said.host_redirect.clone()).filter(|host| !host.is_empty()),
        port: Some(port).filter(|port| *port != 0),
        path: rewrite,
        status: match said.response_code() {
            RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            RedirectResponseCode::Found => StatusCode::FOUND,
            RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
            RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        },
        strip_query: said.strip_query,
    }))
}

fn direct(
    said: &route::DirectResponseAction,
    body_bytes_max: usize,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Action {
    use core::data_source::Specifier;
    // Another status is told by the API's own rules.
    let status = u16::try_from(said.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let path = path.field("body");
    let body = match said.body.as_ref().and_then(|b| b.specifier.as_ref()) {
        None => Vec::new(),
        Some(Specifier::InlineString(text)) => text.clone().into_bytes(),
        Some(Specifier::InlineBytes(bytes)) => bytes.clone(),
        Some(Specifier::Filename(_)) => {
            findings.unsupported(
                &path.field("filename"),
                "a body must stand in the document",
                "use inline_string",
            );
            Vec::new()
        }
        Some(Specifier::EnvironmentVariable(_)) => {
            let path = path.field("environment_variable");
            findings.unsupported(&path, "a body must stand in the document", "use inline_string");
            Vec::new()
        }
    };
    if body.len() > body_bytes_max {
        let invalid = Invalid::new(format!("the body is {} bytes long", body.len()))
            .hint(format!("at most {body_bytes_max} are allowed"));
        findings.invalid(&path, invalid);
    }
    Action::Direct(Box::new(DirectResponse {
        status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body,
    }))
}
