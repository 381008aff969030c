//! Route tables: virtual hosts, routes and what they do.

use std::collections::HashMap;

use http::StatusCode;
use naru_spec::{
    Action, Check, CheckKind, ClusterChoice, DirectResponse, Format, Forward, GateChange, HostRewrite, Match,
    PathRewrite, Pattern, QueryOps, Redirect, RedirectPath, RouteTable, Rule, RuleRates, Scheme, Terminate,
    TlsRequirement, VirtualHost,
};

use super::recovery::FAULT_FILTER;
use super::{
    balancing, content, edge, external, identity, local_rate, matching, rates, recovery, tcp, value,
};
use crate::extension::{ROUTE_METADATA, Recovery, RouteExtension};
use crate::proto::http_rbac::RbacPerRoute;
use crate::proto::jwt_authn::{PerRouteConfig, per_route_config::RequirementSpecifier};
use crate::proto::{Any, core, matcher, route};
use crate::schema::pack;

/// Envoy's own limit where none is said.
const BODY_BYTES_MAX: usize = 4_096;

pub(super) fn write(table: &RouteTable) -> route::RouteConfiguration {
    let rules = table.virtual_hosts.iter().flat_map(|host| &host.rules);
    let longest = rules.map(|rule| match &rule.action {
        Action::Direct(direct) => direct.body.len(),
        _ => 0,
    });
    let longest = longest.max().unwrap_or(0);
    route::RouteConfiguration {
        name: table.name.clone(),
        virtual_hosts: table.virtual_hosts.iter().map(virtual_host).collect(),
        request_headers_to_add: value::additions(&table.request_headers),
        request_headers_to_remove: value::removals(&table.request_headers),
        response_headers_to_add: value::additions(&table.response_headers),
        response_headers_to_remove: value::removals(&table.response_headers),
        ignore_port_in_host_matching: table.ignores_port,
        max_direct_response_body_size_bytes: (longest > BODY_BYTES_MAX)
            .then(|| value::number(u32::try_from(longest).unwrap_or(u32::MAX))),
        ..Default::default()
    }
}

fn virtual_host(host: &VirtualHost) -> route::VirtualHost {
    use route::virtual_host::TlsRequirementType;
    let rates = host.rules.iter().find_map(rates_of).map_or(&[][..], |said| &said.of_host);
    let routes = host.rules.iter().flat_map(|rule| rule.matches.iter().map(|block| route(rule, block)));
    route::VirtualHost {
        name: host.name.clone(),
        domains: host.domains.iter().map(ToString::to_string).collect(),
        routes: routes.collect(),
        require_tls: match host.tls {
            TlsRequirement::None => TlsRequirementType::None,
            TlsRequirement::ExternalOnly => TlsRequirementType::ExternalOnly,
            TlsRequirement::All => TlsRequirementType::All,
        }
        .into(),
        request_headers_to_add: value::additions(&host.request_headers),
        request_headers_to_remove: value::removals(&host.request_headers),
        response_headers_to_add: value::additions(&host.response_headers),
        response_headers_to_remove: value::removals(&host.response_headers),
        rate_limits: rates::descriptors(rates),
        typed_per_filter_config: of_host(host),
        ..Default::default()
    }
}

/// One block of a rule.
pub(super) fn route(rule: &Rule, block: &Match) -> route::Route {
    use route::route::Action as Said;
    let extension = RouteExtension {
        query: match &rule.action {
            Action::Forward(forward) => forward.query.clone(),
            _ => QueryOps::default(),
        },
        recovery: match &rule.action {
            Action::Forward(forward) => Recovery::of(forward),
            _ => Recovery::default(),
        },
        groups: match &rule.action {
            Action::Forward(forward) => forward.groups.as_deref().cloned(),
            _ => None,
        },
        query_not: block.query.iter().filter(|q| matching::is_beyond_words(q)).cloned().collect(),
    };
    route::Route {
        name: rule.name.clone(),
        r#match: Some(matching::write(block)),
        action: Some(match &rule.action {
            Action::Forward(forward) => Said::Route(described(rule, route_action(forward))),
            Action::Redirect(redirect) => Said::Redirect(redirect_action(redirect)),
            Action::Direct(direct) => Said::DirectResponse(direct_response(direct)),
        }),
        typed_per_filter_config: of_filters(rule),
        metadata: extension.write().map(|fields| core::Metadata {
            filter_metadata: [(ROUTE_METADATA.to_owned(), fields)].into(),
            ..Default::default()
        }),
        request_headers_to_add: value::additions(&rule.request_headers),
        request_headers_to_remove: value::removals(&rule.request_headers),
        response_headers_to_add: value::additions(&rule.response_headers),
        response_headers_to_remove: value::removals(&rule.response_headers),
        ..Default::default()
    }
}

/// With what its requests are called.
#[expect(deprecated, reason = "it has no other spelling for all filters")]
fn described(rule: &Rule, mut action: route::RouteAction) -> route::RouteAction {
    if let Some(said) = rates_of(rule) {
        action.rate_limits = rates::descriptors(&said.own);
        action.include_vh_rate_limits = said.includes_host.then(|| value::flag(true));
    }
    let Action::Forward(forward) = &rule.action else { return action };
    if let Some(route::route_action::ClusterSpecifier::WeightedClusters(said)) = &mut action.cluster_specifier
    {
        for (cluster, changes) in said.clusters.iter_mut().zip(&forward.cluster_gates) {
            // What the route says holds where its clusters say nothing.
            let own = changes.iter().flatten().filter(|change| !rule.gate.contains(change));
            cluster.typed_per_filter_config = own.filter_map(of_change).collect();
        }
    }
    action
}

fn rates_of(rule: &Rule) -> Option<&RuleRates> {
    rule.gate.iter().find_map(|change| match change {
        GateChange::Describe(said) => Some(&**said),
        _ => None,
    })
}

/// What a virtual host says to filters whose buckets its rules share.
fn of_host(host: &VirtualHost) -> HashMap<String, Any> {
    let changes = host.rules.iter().flat_map(|rule| &rule.gate);
    let said = changes.filter_map(|change| match change {
        GateChange::Instead(Check { name, kind: CheckKind::LocalRate(rate) }) if rate.is_of_host => {
            Some((name.clone(), pack(&local_rate::write(rate))))
        }
        _ => None,
    });
    said.collect()
}

fn of_filters(rule: &Rule) -> HashMap<String, Any> {
    let fault = match &rule.action {
        Action::Forward(forward) => forward.fault.as_ref().map(recovery::fault),
        Action::Redirect(_) | Action::Direct(_) => None,
    };
    let fault = fault.map(|fault| (FAULT_FILTER.to_owned(), pack(&fault)));
    let gate = rule.gate.iter().filter_map(of_change);
    fault.into_iter().chain(gate).collect()
}

/// What is ours alone has no spelling.
fn of_change(change: &GateChange) -> Option<(String, Any)> {
    match change {
        // Its virtual host says it.
        GateChange::Instead(Check { kind: CheckKind::LocalRate(rate), .. }) if rate.is_of_host => None,
        GateChange::Instead(Check { name, kind: CheckKind::LocalRate(rate) }) => {
            Some((name.clone(), pack(&local_rate::write(rate))))
        }
        GateChange::Count(name, change) => Some((name.clone(), rates::service_of_rule(change))),
        GateChange::Ask(name, change) => Some((name.clone(), external::of_rule(change))),
        // Of the others Envoy has no word for that.
        GateChange::Without(name) if name.contains("ext_authz") => Some((name.clone(), external::disabled())),
        GateChange::Without(name) if name.starts_with("envoy.filters.http.") => {
            Some((name.clone(), pack(&route::FilterConfig { disabled: true, ..Default::default() })))
        }
        GateChange::Instead(Check { name, kind: CheckKind::Rbac(said) }) => {
            Some((name.clone(), pack(&RbacPerRoute { rbac: Some(identity::policies(said)) })))
        }
        GateChange::Require(name, requirement) => {
            let said = RequirementSpecifier::RequirementName(requirement.clone());
            Some((name.clone(), pack(&PerRouteConfig { requirement_specifier: Some(said) })))
        }
        GateChange::Compress(name, change) => Some((name.clone(), content::change(change))),
        GateChange::Keys(name, change) => Some((name.clone(), pack(&edge::keys_of_route(change)?))),
        GateChange::Passwords(name, said) => Some((name.clone(), pack(&edge::users_of_route(said)?))),
        GateChange::Instead(Check { name, kind }) => {
            Some((name.clone(), edge::of_route(kind).or_else(|| content::of_route(kind))?))
        }
        GateChange::Without(_) | GateChange::Also(_) | GateChange::Describe(_) => None,
    }
}

/// Whether there is a spelling of it: at its route, or at its virtual host.
pub(super) fn is_said(change: &GateChange) -> bool {
    let is_of_host = match change {
        GateChange::Describe(_) => true,
        GateChange::Instead(Check { kind: CheckKind::LocalRate(rate), .. }) => rate.is_of_host,
        _ => false,
    };
    is_of_host || of_change(change).is_some()
}

fn route_action(forward: &Forward) -> route::RouteAction {
    use route::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier};
    let mut action = route::RouteAction {
        cluster_specifier: Some(match &forward.clusters {
            ClusterChoice::One(name) => ClusterSpecifier::Cluster(name.clone()),
            ClusterChoice::Weighted(_) => ClusterSpecifier::WeightedClusters(weighted(&forward.clusters)),
        }),
        cluster_not_found_response_code: match forward.cluster_not_found {
            StatusCode::NOT_FOUND => ClusterNotFoundResponseCode::NotFound,
            StatusCode::INTERNAL_SERVER_ERROR => ClusterNotFoundResponseCode::InternalServerError,
            _ => ClusterNotFoundResponseCode::ServiceUnavailable,
        }
        .into(),
        host_rewrite_specifier: forward.host.as_ref().map(|host| match host {
            HostRewrite::Literal(host) => HostRewriteSpecifier::HostRewriteLiteral(host.clone()),
            HostRewrite::Auto => HostRewriteSpecifier::AutoHostRewrite(value::flag(true)),
            HostRewrite::Header(name) => HostRewriteSpecifier::HostRewriteHeader(name.as_str().to_owned()),
        }),
        append_x_forwarded_host: forward.append_x_forwarded_host,
        timeout: Some(value::limit(forward.timeout)),
        idle_timeout: forward.idle_timeout.map(value::limit),
        upgrade_configs: forward
            .upgrades
            .iter()
            .map(|(name, is_allowed)| route::route_action::UpgradeConfig {
                upgrade_type: name.to_owned(),
                enabled: Some(value::flag(is_allowed)),
                connect_config: forward.terminate.filter(|_| name == "connect").map(connect_config),
            })
            .collect(),
        hash_policy: forward.hash.iter().map(balancing::hash_policy).collect(),
        ..Default::default()
    };
    recovery::write(forward, &mut action);
    match &forward.path {
        None => {}
        Some(PathRewrite::Prefix(prefix)) => action.prefix_rewrite = prefix.clone(),
        Some(PathRewrite::Regex { pattern, substitution }) => {
            action.regex_rewrite = Some(regex_rewrite(pattern, substitution));
        }
        Some(PathRewrite::Full(path)) => action.path_rewrite = Format::literal(path.clone()).to_string(),
    }
    action
}

fn weighted(choice: &ClusterChoice) -> route::WeightedCluster {
    use route::weighted_cluster::cluster_weight::HostRewriteSpecifier as HostOfCluster;
    let clusters = match choice {
        ClusterChoice::One(_) => &[][..],
        ClusterChoice::Weighted(clusters) => clusters,
    };
    let clusters = clusters.iter().map(|cluster| route::weighted_cluster::ClusterWeight {
        name: cluster.name.clone(),
        weight: Some(value::number(cluster.weight.0)),
        host_rewrite_specifier: cluster.host.clone().map(HostOfCluster::HostRewriteLiteral),
        request_headers_to_add: value::additions(&cluster.request_headers),
        request_headers_to_remove: value::removals(&cluster.request_headers),
        response_headers_to_add: value::additions(&cluster.response_headers),
        response_headers_to_remove: value::removals(&cluster.response_headers),
        ..Default::default()
    });
    route::WeightedCluster { clusters: clusters.collect(), ..Default::default() }
}

fn regex_rewrite(pattern: &Pattern, substitution: &str) -> matcher::RegexMatchAndSubstitute {
    matcher::RegexMatchAndSubstitute {
        pattern: Some(value::pattern(pattern)),
        substitution: substitution.to_owned(),
    }
}

fn redirect_action(redirect: &Redirect) -> route::RedirectAction {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    route::RedirectAction {
        scheme_rewrite_specifier: redirect.scheme.map(|scheme| match scheme {
            Scheme::Https => SchemeRewriteSpecifier::HttpsRedirect(true),
            Scheme::Http => SchemeRewriteSpecifier::SchemeRedirect("http".to_owned()),
        }),
        host_redirect: redirect.host.clone().unwrap_or_default(),
        port_redirect: redirect.port.map_or(0, u32::from),
        path_rewrite_specifier: redirect.path.as_ref().map(|path| match path {
            RedirectPath::Full(path) => PathRewriteSpecifier::PathRedirect(path.clone()),
            RedirectPath::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.clone()),
            RedirectPath::Regex { pattern, substitution } => {
                PathRewriteSpecifier::RegexRewrite(regex_rewrite(pattern, substitution))
            }
        }),
        response_code: match redirect.status {
            StatusCode::FOUND => RedirectResponseCode::Found,
            StatusCode::SEE_OTHER => RedirectResponseCode::SeeOther,
            StatusCode::TEMPORARY_REDIRECT => RedirectResponseCode::TemporaryRedirect,
            StatusCode::PERMANENT_REDIRECT => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::MovedPermanently,
        }
        .into(),
        strip_query: redirect.strip_query,
    }
}

fn direct_response(direct: &DirectResponse) -> route::DirectResponseAction {
    route::DirectResponseAction {
        status: direct.status.as_u16().into(),
        body: (!direct.body.is_empty())
            .then(|| core::DataSource { specifier: Some(value::inline(&direct.body)), ..Default::default() }),
        ..Default::default()
    }
}

fn connect_config(terminate: Terminate) -> route::route_action::upgrade_config::ConnectConfig {
    let proxy_protocol_config = terminate.proxy_protocol.map(tcp::proxy_config);
    route::route_action::upgrade_config::ConnectConfig { proxy_protocol_config, ..Default::default() }
}
