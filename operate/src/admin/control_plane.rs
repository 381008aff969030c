//! `/status`: how it stands with the control plane; its numbers, and the versions in `/config_dump`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{Response, StatusCode};
use naru_xds::discovery::{ClientStatus, Kind, KindStatus};
use serde_json::{Value, json};

use super::{Admin, Query, Whole, json as json_page, text};
use crate::discovery::{Discovery, Told};

const NONE: &str = "there is no control plane: all of the configuration stands in the bootstrap file\n";

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let Some(discovery) = &admin.discovery else {
        return match query.get("format") {
            Some("json") => json_page(&json!({ "control_plane": null })),
            _ => text(StatusCode::OK, NONE),
        };
    };
    let (status, told) = discovery.status();
    if query.get("format") == Some("json") {
        return json_page(&described(discovery, &status, &told));
    }
    text(StatusCode::OK, in_words(discovery, &status, &told))
}

fn in_words(discovery: &Discovery, status: &ClientStatus, told: &Told) -> String {
    let name = discovery.cluster().unwrap_or_default();
    let connected = if status.is_connected { "connected" } else { "away" };
    let mut out = format!("control plane '{name}': {connected}\n");
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    if let (false, Some(why)) = (status.is_connected, &told.failure) {
        line(format!("why: {why}"));
    }
    if told.is_from_disk {
        line("in effect is what it said last to a process before this one, kept on disk".to_owned());
    }
    if let Some(why) = &told.not_in_force {
        line(format!("not in effect: {why}"));
    }
    if let Some(why) = &told.not_kept {
        line(format!("not kept on disk: {why}"));
    }
    for kind in &status.kinds {
        let KindStatus { resources, accepted, rejected, .. } = kind;
        let of = kind.asked.map(|asked| format!(" of {asked}")).unwrap_or_default();
        let since = kind.updated.map(|at| format!(" since {at}")).unwrap_or_default();
        let version = &kind.version;
        let counts = format!("accepted {accepted}, refused {rejected}");
        line(format!("{}: {resources}{of}, version '{version}'{since}; {counts}", kind.kind));
        if let Some(why) = &kind.refusal {
            line(format!("  refused last: {why}"));
        }
    }
    for one in &status.waiting {
        let what = if one.name.is_empty() { "the first".to_owned() } else { format!("'{}'", one.name) };
        let how = if one.is_over { "did not come" } else { "is waited for" };
        line(format!("{} {what}: {how}", one.kind));
    }
    out
}

fn described(discovery: &Discovery, status: &ClientStatus, told: &Told) -> Value {
    let kinds = status.kinds.iter().map(|kind| {
        json!({
            "kind": kind.kind.name(),
            "type_url": kind.kind.type_url(),
            "version": kind.version,
            "resources": kind.resources,
            "asked": kind.asked,
            "accepted": kind.accepted,
            "rejected": kind.rejected,
            "updated": kind.updated.map(|at| at.to_string()),
            "refusal": kind.refusal,
        })
    });
    let waiting = status.waiting.iter();
    let waiting =
        waiting.map(|one| json!({ "kind": one.kind.name(), "name": one.name, "is_over": one.is_over }));
    json!({ "control_plane": {
        "cluster": discovery.cluster(),
        "connected": status.is_connected,
        "failure": told.failure,
        "from_disk": told.is_from_disk,
        "not_in_force": told.not_in_force,
        "kept_at": discovery.kept_at(),
        "not_kept": told.not_kept,
        "initialized": discovery.is_initialized(),
        "kinds": kinds.collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
    } })
}

/// Under Envoy's names.
pub fn add_stats(discovery: Option<&Discovery>, stats: &mut BTreeMap<String, u64>) {
    let Some(discovery) = discovery else { return };
    let (status, _) = discovery.status();
    stats.insert("control_plane.connected_state".to_owned(), u64::from(status.is_connected));
    for kind in &status.kinds {
        let prefix = match kind.kind {
            Kind::Cluster => "cluster_manager.cds",
            Kind::Listener => "listener_manager.lds",
            // Envoy counts these for each resource.
            _ => continue,
        };
        for (name, value) in [
            ("update_attempt", kind.attempts + 1),
            ("update_success", kind.accepted),
            ("update_rejected", kind.rejected),
            ("update_failure", status.failures),
            ("version", naru_balance::xxhash64(kind.version.as_bytes(), 0)),
        ] {
            stats.insert(format!("{prefix}.{name}"), value);
        }
    }
}

/// The kind in labels of metrics.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "cds",
        Kind::Endpoints => "eds",
        Kind::Secret => "sds",
        Kind::Listener => "lds",
        Kind::Routes => "rds",
        Kind::VirtualHost => "vhds",
    }
}

/// One number of a kind.
type Number = fn(&KindStatus) -> u64;

/// For Prometheus.
pub fn exposed(discovery: Option<&Discovery>) -> String {
    let Some(discovery) = discovery else { return String::new() };
    let (status, told) = discovery.status();
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let plain = |value: u64| vec![(String::new(), value)];
    let is_connected = u64::from(status.is_connected);
    family(
        "naru_xds_connected",
        "gauge",
        "1 while a stream of the control plane stands.",
        plain(is_connected),
    );
    let is_from_disk = u64::from(told.is_from_disk);
    let help = "1 while what was kept on disk is in force, and the control plane has said nothing.";
    family("naru_xds_from_disk", "gauge", help, plain(is_from_disk));
    let help = "Streams that stood.";
    family("naru_xds_streams_total", "counter", help, plain(status.connects));
    let help = "Streams that ended, and those that could not be had.";
    family("naru_xds_failures_total", "counter", help, plain(status.failures));
    let waiting = status.waiting.iter().filter(|one| !one.is_over).count() as u64;
    family("naru_xds_waiting", "gauge", "What has been asked for and has not come.", plain(waiting));
    let numbers: [(&str, &str, &str, Number); 3] = [
        ("naru_xds_resources", "gauge", "Resources that are known.", |kind| kind.resources as u64),
        ("naru_xds_accepted_total", "counter", "Responses that were accepted.", |kind| kind.accepted),
        ("naru_xds_rejected_total", "counter", "Responses that were refused.", |kind| kind.rejected),
    ];
    for (name, kind_of, help, number) in numbers {
        let samples =
            status.kinds.iter().map(|kind| (format!("{{type=\"{}\"}}", word(kind.kind)), number(kind)));
        family(name, kind_of, help, samples.collect());
    }
    out
}

/// Puts what comes from the control plane where Envoy has it in `/config_dump`, with versions.
pub fn tell_versions(discovery: &Discovery, dump: &mut Value) {
    let versions = |kind| -> BTreeMap<String, String> { discovery.versions(kind).into_iter().collect() };
    for (page, from, to, object, kind) in [
        ("ClustersConfigDump", "static_clusters", "dynamic_active_clusters", "cluster", Kind::Cluster),
        ("ListenersConfigDump", "static_listeners", "dynamic_listeners", "listener", Kind::Listener),
        ("RoutesConfigDump", "static_route_configs", "dynamic_route_configs", "route_config", Kind::Routes),
    ] {
        let known = versions(kind);
        let pages = dump["configs"].as_array_mut().into_iter().flatten();
        let is_it = |one: &&mut Value| one["@type"].as_str().is_some_and(|name| name.ends_with(page));
        let Some(whole) = pages.into_iter().find(is_it) else { continue };
        let all = whole[from].as_array_mut().map(std::mem::take).unwrap_or_default();
        let (mut fixed, mut moved) = (Vec::new(), Vec::new());
        for mut one in all {
            let name = one[object]["name"].as_str().unwrap_or_default().to_owned();
            let Some(version) = known.get(&name) else {
                fixed.push(one);
                continue;
            };
            one["version_info"] = json!(version);
            moved.push(match kind {
                Kind::Listener => json!({ "name": name, "active_state": one }),
                _ => one,
            });
        }
        whole[from] = Value::Array(fixed);
        whole[to] = Value::Array(moved);
    }
    // The bootstrap of the file is not what is in force, which is what is printed; it has its own pages.
    let secrets = versions(Kind::Secret).into_iter();
    let secrets: Vec<Value> =
        secrets.map(|(name, version)| json!({ "name": name, "version_info": version })).collect();
    if let (false, Some(pages)) = (secrets.is_empty(), dump["configs"].as_array_mut()) {
        let name = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump";
        pages.push(json!({ "@type": name, "dynamic_active_secrets": secrets }));
    }
}
