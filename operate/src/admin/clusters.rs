//! `/clusters`: every endpoint and what is known of it, in Envoy's lines.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use naru_proxy::{ClusterStatus, EndpointStatus};
use naru_spec::Discovery;

use super::{Admin, Query, Whole, guards, json, text};

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let clusters = admin.proxy.clusters();
    if query.get("format") == Some("json") {
        let statuses: Vec<_> = clusters.iter().map(|cluster| cluster_json(admin, cluster)).collect();
        return json(&serde_json::json!({ "cluster_statuses": statuses }));
    }
    let mut out = String::new();
    for cluster in &clusters {
        let name = &cluster.name;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name}::observability_name::{name}");
        if let Some(breaker) = guards::breaker(cluster) {
            let state = breaker.states.iter().find(|(_, is_it)| *is_it == 1).map_or("", |(state, _)| state);
            let _ = writeln!(out, "{name}::circuit_breaker::state::{state}");
            for (kind, calls) in breaker.calls {
                let _ = writeln!(out, "{name}::circuit_breaker::calls_{kind}::{calls}");
            }
        }
        for endpoint in &cluster.endpoints {
            let address = endpoint.path.clone().unwrap_or_else(|| endpoint.address.to_string());
            for (stat, value) in counts(endpoint) {
                let _ = writeln!(out, "{name}::{address}::{stat}::{value}");
            }
            let _ = writeln!(out, "{name}::{address}::hostname::{}", endpoint.host_name);
            let flags = guards::health_flags(endpoint.fitness);
            let _ = writeln!(out, "{name}::{address}::health_flags::{flags}");
            let _ = writeln!(out, "{name}::{address}::weight::{}", endpoint.weight);
        }
    }
    text(StatusCode::OK, out)
}

/// Envoy's names of the counts of an endpoint.
fn counts(endpoint: &EndpointStatus) -> [(&'static str, u64); 6] {
    [
        ("cx_active", u64::from(endpoint.connections)),
        ("cx_connect_fail", endpoint.connect_failures_total),
        ("cx_total", endpoint.connections_total),
        ("rq_active", u64::from(endpoint.active)),
        ("rq_error", endpoint.errors_total),
        ("rq_total", endpoint.requests_total),
    ]
}

/// As Envoy writes it.
pub fn address_json(address: std::net::SocketAddr, path: Option<&str>) -> serde_json::Value {
    match path {
        Some(path) => serde_json::json!({ "pipe": { "path": path } }),
        None => {
            serde_json::json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
        }
    }
}

fn cluster_json(admin: &Admin, cluster: &ClusterStatus) -> serde_json::Value {
    let hosts: Vec<_> = cluster
        .endpoints
        .iter()
        .map(|endpoint| {
            let stats: Vec<_> = counts(endpoint)
                .iter()
                .map(|(name, value)| serde_json::json!({ "name": name, "value": value.to_string() }))
                .collect();
            serde_json::json!({
                "address": address_json(endpoint.address, endpoint.path.as_deref()),
                "hostname": endpoint.host_name,
                "weight": endpoint.weight,
                "health_status": guards::health_status(endpoint.fitness),
                "stats": stats,
            })
        })
        .collect();
    let snapshot = admin.proxy.snapshot();
    let settings = snapshot.clusters.iter().find(|known| known.name == cluster.name);
    let kind = match settings.map(|settings| &settings.discovery) {
        Some(Discovery::StrictDns(_)) => "STRICT_DNS",
        Some(Discovery::LogicalDns(_)) => "LOGICAL_DNS",
        Some(Discovery::OnDemand(_)) => "ORIGINAL_DST",
        Some(Discovery::Static) | None => "STATIC",
    };
    serde_json::json!({ "name": cluster.name, "discovery_type": kind, "host_statuses": hosts })
}

/// How the endpoints of a cluster are now, for who asks where a request may go.
pub fn guards_of(cluster: &ClusterStatus) -> (String, serde_json::Value) {
    let mut out = format!("\n   now at {}\n", cluster.name);
    let mut values = Vec::new();
    if cluster.endpoints.is_empty() {
        out.push_str("   no endpoint\n");
    }
    for endpoint in &cluster.endpoints {
        let address = endpoint.path.clone().unwrap_or_else(|| endpoint.address.to_string());
        let state = guards::health_flags(endpoint.fitness);
        let state = state.trim_start_matches('/');
        let EndpointStatus { weight, active, .. } = endpoint;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "   {address}  weight {weight}, {state}, {active} requests");
        values.push(serde_json::json!({
            "address": address,
            "weight": weight,
            "state": state,
            "is_fit": endpoint.fitness.is_fit(),
            "requests_active": active,
            "requests_total": endpoint.requests_total,
            "errors_total": endpoint.errors_total,
        }));
    }
    let breaker = guards::breaker(cluster);
    let state = breaker.as_ref().and_then(|breaker| breaker.states.iter().find(|(_, is_it)| *is_it == 1));
    if let Some((state, _)) = state {
        let _ = writeln!(out, "   circuit breaker {state}");
    }
    let breaker = state.map(|(state, _)| state.to_string());
    (out, serde_json::json!({ "endpoints": values, "breaker": breaker }))
}
