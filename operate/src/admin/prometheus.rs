//! `/metrics`: the Prometheus text format (version 0.0.4), under Istio's names for requests and
//! Envoy's for the rest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode};
use naru_journey::LearnedTimeout;
use naru_proxy::metrics::{Abuse, BUCKETS, Histogram, Numbers, Protocol, Series, TurnedAway};
use naru_proxy::{
    CacheStatus, ClusterStatus, CodingStatus, FileStatus, LocalRateStatus, MirrorReport, NamedLimitStatus,
    QuotaStatus, Report, SessionStatus, StoreStatus, StrainStatus, SurgeStatus,
};

use super::guards::{BreakerStats, Stat};
use super::{
    Admin, Whole, cache, control_plane, guards, limits, mirrors, page as whole_page, sessions, strain, tcp,
};

pub async fn page(admin: &Admin) -> Response<Whole> {
    let report = admin.proxy.report().await;
    let mut text = write(&report, admin.proxy.snapshots_in_use());
    text.push_str(&of_sessions(&admin.proxy.sessions()));
    text.push_str(&guarded(
        &admin.proxy.clusters(),
        &admin.proxy.named_limits(),
        &admin.proxy.quotas(),
        &admin.proxy.local_rates(),
        &admin.proxy.stores(),
        &report.mirrors,
    ));
    text.push_str(&checked(&admin.proxy.checks()));
    text.push_str(&surged(admin.proxy.surge().as_ref()));
    text.push_str(&control_plane::exposed(admin.discovery.as_deref()));
    text.push_str(&watched(&admin.proxy.files()));
    text.push_str(&coded(&admin.proxy.codings()));
    text.push_str(&strained(&admin.proxy.strain()));
    text.push_str(&kept(admin.proxy.cache().as_ref()));
    whole_page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(text))
}

/// What is kept of answers.
fn kept(status: Option<&CacheStatus>) -> String {
    let mut out = Exposition::default();
    let mut last = String::new();
    let mut all = cache::numbers(status);
    // A family stands in one place.
    all.sort_by_key(|(name, ..)| *name);
    for (name, labelled, is_gauge, value) in all {
        let name = if is_gauge { format!("naru_cache_{name}") } else { format!("naru_cache_{name}_total") };
        if name != last {
            let kind = if is_gauge { "gauge" } else { "counter" };
            out.family(
                &name,
                kind,
                "Answers that are kept, or requests for them, by class and by what came of them.",
            );
            last.clone_from(&name);
        }
        let mut labels = String::new();
        if let Some((class, result)) = labelled {
            label(&mut labels, "class", class);
            if let Some(result) = result {
                label(&mut labels, "result", result);
            }
        }
        out.sample(&name, &labels, value);
    }
    of_tiers(status, &mut out);
    out.text
}

/// What is behind the memory of answers.
fn of_tiers(status: Option<&CacheStatus>, out: &mut Exposition) {
    let mut last = String::new();
    let mut all = cache::tier_numbers(status);
    all.sort_by_key(|(name, ..)| *name);
    for (name, tier, result, is_gauge, value) in all {
        let end = if is_gauge { "" } else { "_total" };
        let name = format!("naru_cache_tier_{name}{end}");
        if name != last {
            let kind = if is_gauge { "gauge" } else { "counter" };
            out.family(&name, kind, "Tiers behind the memory of answers, and what they said.");
            last.clone_from(&name);
        }
        let mut labels = String::new();
        label(&mut labels, "tier", tier);
        if let Some(result) = result {
            label(&mut labels, "result", result);
        }
        out.sample(&name, &labels, value);
    }
}

/// Login sessions.
fn of_sessions(all: &[SessionStatus]) -> String {
    let mut out = Exposition::default();
    let mut by_name: BTreeMap<String, Vec<(String, guards::Stat)>> = BTreeMap::new();
    for status in all {
        for stat in sessions::stats(status) {
            let name = format!("naru_session_{}", stat.name);
            by_name.entry(name).or_default().push((format!("sessions=\"{}\"", status.name), stat));
        }
    }
    for (name, samples) in &by_name {
        if let Some((_, stat)) = samples.first() {
            out.family(name, if stat.is_gauge { "gauge" } else { "counter" }, stat.help);
        }
        for (labels, stat) in samples {
            out.sample(name, labels, stat.value);
        }
    }
    out.text
}

/// What checks have said. One that was never asked has no line.
fn checked(counts: &[(&str, &str, u64)]) -> String {
    let mut out = Exposition::default();
    let asked: Vec<_> = counts.iter().filter(|(_, _, count)| *count > 0).collect();
    if !asked.is_empty() {
        out.family("naru_checks_total", "counter", "What checks have said of requests.");
    }
    for (check, said, count) in asked {
        let mut labels = String::new();
        label(&mut labels, "check", check);
        label(&mut labels, "result", said);
        out.sample("naru_checks_total", &labels, *count);
    }
    out.text
}

/// How hard the load is, and what is given up for it.
fn surged(status: Option<&SurgeStatus>) -> String {
    let mut out = Exposition::default();
    let Some(status) = status else { return out.text };
    out.family(
        "naru_surge_level",
        "gauge",
        "At which level of its Surge the process is; 0 is the ordinary one.",
    );
    out.sample("naru_surge_level", "", u64::from(status.level));
    let held = u64::from(status.hold != naru_surge::Hold::None);
    out.family("naru_surge_held", "gauge", "1 where an operator holds the level.");
    out.sample("naru_surge_held", "", held);
    let name = "naru_surge_transitions_total";
    out.family(name, "counter", "How often the process came to another level of its Surge.");
    out.sample(name, "", status.transitions_total);
    out.text
}

/// Files that are read again when they change.
fn watched(files: &[FileStatus]) -> String {
    let mut out = Exposition::default();
    let labels = |file: &FileStatus| {
        let mut labels = String::new();
        label(&mut labels, "file", &file.path);
        labels
    };
    if !files.is_empty() {
        out.family("naru_file_up", "gauge", "Whether a file is as it was read last.");
        for file in files {
            out.sample("naru_file_up", &labels(file), u64::from(file.is_well));
        }
        out.family("naru_file_reads_total", "counter", "How often a file was read.");
        for file in files {
            out.sample("naru_file_reads_total", &labels(file), file.reads);
        }
    }
    out.text
}

/// What was compressed. A coding that nothing was compressed in has no line.
fn coded(codings: &[CodingStatus]) -> String {
    let mut out = Exposition::default();
    type Of = fn(&CodingStatus) -> [u64; 3];
    let kinds: [(&str, &str, Of); 3] = [
        ("compressed", "Answers that were compressed.", |status| {
            [status.answers, status.bytes_before, status.bytes_after]
        }),
        ("compressed_requests", "Requests that were compressed.", |status| {
            [status.requests.bodies, status.requests.bytes_before, status.requests.bytes_after]
        }),
        ("decompressed_answers", "Answers that were read out of their coding.", |status| {
            [status.unpacked.bodies, status.unpacked.bytes_before, status.unpacked.bytes_after]
        }),
    ];
    for (kind, help, of) in kinds {
        let used: Vec<(&str, [u64; 3])> = codings
            .iter()
            .map(|status| (status.coding, of(status)))
            .filter(|(_, [bodies, ..])| *bodies > 0)
            .collect();
        if used.is_empty() {
            continue;
        }
        let families = [
            ("", help),
            ("_bytes_before", "Bytes of them before."),
            ("_bytes_after", "Bytes of them after."),
        ];
        for (at, (ending, help)) in families.into_iter().enumerate() {
            let name = format!("naru_{kind}{ending}_total");
            out.family(&name, "counter", help);
            for (coding, counts) in &used {
                let mut labels = String::new();
                label(&mut labels, "coding", coding);
                out.sample(&name, &labels, counts.get(at).copied().unwrap_or(0));
            }
        }
    }
    out.text
}

/// How short naru runs itself. Envoy's names have no labels.
fn strained(status: &StrainStatus) -> String {
    let mut out = Exposition::default();
    for (name, value) in strain::numbers(status) {
        let is_count = name.ends_with("_count") || name.ends_with("_updates");
        let name: String =
            name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
        let name = format!("envoy_overload_{name}");
        let kind = if is_count { "counter" } else { "gauge" };
        out.family(&name, kind, "How short naru runs, or what it gives up for it.");
        out.sample(&name, "", value);
    }
    out.text
}

fn write(report: &Report, snapshots_in_use: usize) -> String {
    let mut out = Exposition::default();
    // Chains differ by nothing that Istio has a label for, and a line may stand only once.
    let labelled = by_labels(report.series.iter().filter(|series| !tcp::is_tcp(series)));
    out.family("istio_requests_total", "counter", "Requests, by how they ended.");
    for (labels, numbers) in &labelled {
        out.sample("istio_requests_total", labels, numbers.durations.count());
    }
    type Pick = fn(&Numbers) -> &Histogram;
    let histograms: [(&str, &str, Pick); 3] = [
        (
            "istio_request_duration_milliseconds",
            "Time from the first byte of a request to the last of its response.",
            |n| &n.durations,
        ),
        ("istio_request_bytes", "Bytes of request bodies.", |n| &n.request_bytes),
        ("istio_response_bytes", "Bytes of response bodies.", |n| &n.response_bytes),
    ];
    for (name, help, pick) in histograms {
        out.family(name, "histogram", help);
        for (labels, numbers) in &labelled {
            out.histogram(name, labels, pick(numbers));
        }
    }
    let of_tcp = by_labels(report.series.iter().filter(tcp::is_tcp));
    for (name, help, pick) in tcp::FAMILIES {
        out.family(name, "counter", help);
        for (labels, numbers) in &of_tcp {
            out.sample(name, labels, pick(numbers));
        }
    }
    let downstream = report.downstream;
    for (name, kind, help, value) in [
        (
            "envoy_http_downstream_cx_active",
            "gauge",
            "Connections of clients.",
            downstream.connections_active,
        ),
        (
            "envoy_http_downstream_cx_total",
            "counter",
            "Connections of clients, ever.",
            downstream.connections_total,
        ),
        ("envoy_http_downstream_rq_active", "gauge", "Requests under way.", downstream.requests_active),
        ("envoy_http_downstream_rq_total", "counter", "Requests, ever.", downstream.requests_total),
        (
            "envoy_tcp_downstream_cx_active",
            "gauge",
            "Connections whose bytes are passed through.",
            downstream.tcp_active,
        ),
        (
            "envoy_tcp_downstream_cx_total",
            "counter",
            "Connections whose bytes are or were passed through, ever.",
            downstream.tcp_total,
        ),
        (
            "envoy_http_downstream_cx_protocol_error",
            "counter",
            "Connections that were no HTTP.",
            downstream.protocol_errors,
        ),
        (
            "envoy_http_downstream_cx_ssl_error",
            "counter",
            "TLS handshakes that failed.",
            downstream.tls_errors,
        ),
        (
            "naru_panics_total",
            "counter",
            "Bugs of naru, each of which has broken one connection or stream off.",
            downstream.panics,
        ),
        (
            "naru_access_log_lines_dropped",
            "counter",
            "Lines that the log could not take.",
            downstream.log_lines_dropped,
        ),
        (
            "naru_snapshots_in_use",
            "gauge",
            "The configuration in force, and older ones that requests from before still use.",
            snapshots_in_use as u64,
        ),
        ("naru_mirror_copies_active", "gauge", "Copies of requests under way.", report.copies_active),
        ("naru_timers_active", "gauge", "Timers of requests and connections under way.", report.timers),
    ] {
        out.family(name, kind, help);
        out.sample(name, "", value);
    }
    let name = "naru_http2_abuse_total";
    out.family(name, "counter", "Connections of HTTP/2 that were closed for what they had the proxy do.");
    for (abuse, count) in Abuse::ALL.iter().zip(downstream.abuses) {
        out.sample(name, &format!("what=\"{}\"", abuse.name()), count);
    }
    let name = "naru_connections_turned_away_total";
    out.family(name, "counter", "Connections of clients that were closed at once.");
    for (kind, count) in TurnedAway::ALL.iter().zip(downstream.turned_away) {
        out.sample(name, &format!("why=\"{}\"", kind.name()), count);
    }
    type Count = fn(&naru_proxy::metrics::ClusterReport) -> u64;
    let clusters: [(&str, &str, &str, Count); 11] = [
        ("envoy_cluster_upstream_cx_active", "gauge", "Connections to upstreams.", |c| c.connections_active),
        ("envoy_cluster_upstream_cx_total", "counter", "Connections to upstreams, ever.", |c| {
            c.connections_total
        }),
        ("envoy_cluster_upstream_cx_connect_fail", "counter", "Connections that could not be made.", |c| {
            c.connect_failures
        }),
        ("envoy_cluster_upstream_cx_connect_timeout", "counter", "Connections that took too long.", |c| {
            c.connect_timeouts
        }),
        ("envoy_cluster_upstream_rq_active", "gauge", "Requests at upstreams.", |c| c.requests_active),
        ("envoy_cluster_upstream_rq_total", "counter", "Requests sent to upstreams, ever.", |c| {
            c.requests_total
        }),
        (
            "naru_cluster_upstream_rq_replay",
            "counter",
            "Requests sent again because an idle connection was closed.",
            |c| c.replays,
        ),
        (
            "envoy_cluster_upstream_rq_retry",
            "counter",
            "Requests sent to another endpoint because no connection could be made.",
            |c| c.retries,
        ),
        (
            "envoy_cluster_upstream_rq_retry_limit_exceeded",
            "counter",
            "Requests that failed after the last of their retries.",
            |c| c.retries_exceeded,
        ),
        (
            "naru_cluster_upstream_rq_fallback",
            "counter",
            "Requests that it was sent in place of another cluster.",
            |c| c.fallbacks,
        ),
        (
            "envoy_cluster_upstream_rq_retry_overflow",
            "counter",
            "Requests that were not retried because the cluster bore no more retries.",
            |c| c.retries_overflow,
        ),
    ];
    for (name, kind, help, pick) in clusters {
        out.family(name, kind, help);
        for counts in &report.clusters {
            let mut labels = String::new();
            label(&mut labels, "envoy_cluster_name", &counts.name);
            out.sample(name, &labels, pick(counts));
        }
    }
    type Learned = fn(&LearnedTimeout) -> u64;
    let learned: [(&str, &str, Learned); 2] = [
        (
            "naru_route_auto_timeout_milliseconds",
            "What an automatic timeout is now, at the worker where it is longest.",
            |it| it.timeout.as_millis() as u64,
        ),
        ("naru_route_auto_timeout_responses", "Responses that it follows.", |it| it.responses),
    ];
    for (name, help, pick) in learned.into_iter().filter(|_| !report.timeouts.is_empty()) {
        out.family(name, "gauge", help);
        for timeout in &report.timeouts {
            let mut labels = String::new();
            label(&mut labels, "virtual_host", &timeout.virtual_host);
            label(&mut labels, "route", &timeout.route);
            out.sample(name, &labels, pick(timeout));
        }
    }
    out.text
}

fn by_labels<'a>(all: impl Iterator<Item = &'a Series>) -> BTreeMap<String, Numbers> {
    let mut labelled: BTreeMap<String, Numbers> = BTreeMap::new();
    for series in all {
        labelled.entry(labels(series)).or_default().add(&series.numbers);
    }
    labelled
}

struct Family {
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, u64)>,
}

type Families = BTreeMap<String, Family>;

/// What is known of clusters beside what workers count.
fn guarded(
    clusters: &[ClusterStatus],
    limits: &[NamedLimitStatus],
    quotas: &[QuotaStatus],
    local_rates: &[LocalRateStatus],
    stores: &[StoreStatus],
    copied: &[MirrorReport],
) -> String {
    let mut out = Exposition::default();
    let mut families = Families::new();
    for cluster in clusters {
        let mut labels = String::new();
        label(&mut labels, "envoy_cluster_name", &cluster.name);
        for stat in guards::stats(cluster).into_iter().chain(limits::stats(cluster)) {
            let name = format!("envoy_cluster_{}", stat.name.replace('.', "_"));
            let kind = if stat.is_gauge { "gauge" } else { "counter" };
            let family =
                families.entry(name).or_insert_with(|| Family { kind, help: stat.help, samples: Vec::new() });
            family.samples.push((labels.clone(), stat.value));
        }
        if let Some(breaker) = guards::breaker(cluster) {
            add_breaker(&mut families, &labels, breaker);
        }
    }
    for limit in limits {
        let mut labels = String::new();
        label(&mut labels, "kind", limit.kind);
        label(&mut labels, "name", &limit.name);
        for stat in limits::of_named(limit) {
            let name = format!("naru_load_{}", stat.name);
            let kind = if stat.is_gauge { "gauge" } else { "counter" };
            let family =
                families.entry(name).or_insert_with(|| Family { kind, help: stat.help, samples: Vec::new() });
            family.samples.push((labels.clone(), stat.value));
        }
        if let Some(breaker) = &limit.breaker {
            let mut labels = String::new();
            label(&mut labels, "name", &limit.name);
            add_breaker(&mut families, &labels, guards::of_breaker(breaker));
        }
    }
    for quota in quotas {
        add_all(&mut families, "naru_rate_limit", &quota.name, limits::of_quota(quota));
    }
    for rate in local_rates {
        let stats = limits::of_local_rate(rate);
        add_all(&mut families, "naru_local_rate_limit", &rate.stat_prefix, stats);
    }
    for store in stores {
        add_all(&mut families, "naru_store", &store.name, limits::of_store(store));
    }
    for mirror in copied {
        let mut labels = String::new();
        label(&mut labels, "virtual_host", &mirror.name.virtual_host);
        label(&mut labels, "route", &mirror.name.route);
        label(&mut labels, "envoy_cluster_name", &mirror.name.cluster);
        for stat in mirrors::stats(mirror) {
            let name = format!("naru_mirror_{}", stat.name);
            let family = families.entry(name).or_insert_with(|| Family {
                kind: "counter",
                help: stat.help,
                samples: Vec::new(),
            });
            family.samples.push((labels.clone(), stat.value));
        }
    }
    for (name, family) in &families {
        out.family(name, family.kind, family.help);
        for (labels, value) in &family.samples {
            out.sample(name, labels, *value);
        }
    }
    out.text
}

/// Of what is known by its name alone.
fn add_all(families: &mut Families, prefix: &str, name: &str, stats: impl IntoIterator<Item = Stat>) {
    let mut labels = String::new();
    label(&mut labels, "name", name);
    for stat in stats {
        let kind = if stat.is_gauge { "gauge" } else { "counter" };
        let family = families.entry(format!("{prefix}_{}", stat.name));
        let family = family.or_insert_with(|| Family { kind, help: stat.help, samples: Vec::new() });
        family.samples.push((labels.clone(), stat.value));
    }
}

/// A breaker, by the labels of what it is for.
fn add_breaker(families: &mut Families, labels: &str, breaker: BreakerStats) {
    let mut add = |name: &str, kind, help, of: Option<(&str, &str)>, value| {
        let mut labels = labels.to_owned();
        if let Some((key, value)) = of {
            label(&mut labels, key, value);
        }
        let family =
            families.entry(name.to_owned()).or_insert_with(|| Family { kind, help, samples: Vec::new() });
        family.samples.push((labels, value));
    };
    for (state, is_it) in breaker.states {
        let help = "1 for the state that the breaker is in.";
        add("naru_circuit_breaker_state", "gauge", help, Some(("state", state)), is_it);
    }
    for (kind, calls) in breaker.calls {
        add("naru_circuit_breaker_calls", "counter", "Calls by how they went.", Some(("kind", kind)), calls);
    }
    add("naru_circuit_breaker_buffered_calls", "gauge", "Calls in the window.", None, breaker.buffered);
    for (name, help, rate) in [
        ("naru_circuit_breaker_failure_rate_percent", "Of the window.", breaker.failure_rate),
        ("naru_circuit_breaker_slow_call_rate_percent", "Of the window.", breaker.slow_call_rate),
    ] {
        if let Some(hundredths) = rate {
            add(name, "gauge", help, None, u64::from(hundredths / 100));
        }
    }
}

/// Istio's labels. What a lone proxy cannot know of workloads is `unknown`, as Istio says it.
fn labels(series: &Series) -> String {
    let labels = &series.labels;
    let service = series.cluster.as_deref().unwrap_or("unknown");
    let mut out = String::new();
    label(&mut out, "reporter", "source");
    for name in [
        "source_workload",
        "source_workload_namespace",
        "source_principal",
        "source_app",
        "source_version",
        "source_canonical_service",
        "source_canonical_revision",
        "source_cluster",
        "destination_workload",
        "destination_workload_namespace",
        "destination_principal",
        "destination_app",
        "destination_version",
    ] {
        label(&mut out, name, "unknown");
    }
    label(&mut out, "destination_service", service);
    label(&mut out, "destination_service_name", service);
    for name in [
        "destination_service_namespace",
        "destination_canonical_service",
        "destination_canonical_revision",
        "destination_cluster",
    ] {
        label(&mut out, name, "unknown");
    }
    label(
        &mut out,
        "request_protocol",
        match labels.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        },
    );
    if labels.protocol != Protocol::Tcp {
        label(&mut out, "response_code", &labels.status.to_string());
        let grpc_status = labels.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        label(&mut out, "grpc_response_status", &grpc_status);
    }
    label(&mut out, "response_flags", labels.flags());
    label(&mut out, "reason", labels.reason.name());
    label(&mut out, "connection_security_policy", if labels.is_tls { "tls" } else { "none" });
    out
}

/// Appends `name="value"`, escaped, behind a comma where something stands already.
fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    // Writing to a string cannot fail.
    let _ = write!(out, "{name}=\"{value}\"");
}

#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        if labels.is_empty() {
            let _ = writeln!(self.text, "{name} {value}");
        } else {
            let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
        }
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut sum = 0;
        for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
            sum += count;
            let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let count = histogram.count();
        let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}", histogram.sum);
        let _ = writeln!(self.text, "{name}_count{{{labels}}} {count}");
    }
}
