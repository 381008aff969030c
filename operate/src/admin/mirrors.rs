//! `/mirrors`: how copies of requests fared, and what their answers differ in; for people, and as JSON.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use naru_proxy::MirrorReport;
use naru_proxy::metrics::{BUCKETS, Histogram};
use naru_proxy::mirrors::{ComparisonReport, MirrorCounts};
use serde_json::{Value, json};

use super::guards::Stat;
use super::{Admin, Query, Whole, json as json_page, text};

pub async fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let mirrors = admin.proxy.report().await.mirrors;
    if query.get("format") == Some("json") {
        return json_page(&json!({ "mirrors": mirrors.iter().map(described).collect::<Vec<_>>() }));
    }
    if mirrors.is_empty() {
        return text(StatusCode::OK, "no route has a mirror\n");
    }
    text(StatusCode::OK, mirrors.iter().map(written).collect::<String>())
}

/// How copies ended, under names that are the same on every page.
fn ends(counts: &MirrorCounts) -> [(&'static str, u64); 7] {
    [
        ("copies", counts.copies),
        ("answered", counts.answered),
        ("refused", counts.refused.values().sum()),
        ("failed", counts.failed),
        ("timed_out", counts.timed_out),
        ("too_slow", counts.overrun),
        ("abandoned", counts.abandoned),
    ]
}

fn is_compared(comparison: &ComparisonReport) -> bool {
    comparison.report.compared + comparison.unpaired > 0
}

fn written(mirror: &MirrorReport) -> String {
    let MirrorReport { name, counts, comparison } = mirror;
    let mut out = format!("{} {} -> {}\n", name.virtual_host, name.route, name.cluster);
    let ends: Vec<String> = ends(counts).iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(out, "  {}", ends.join(", ").replace('_', " "));
    for (reason, count) in &counts.refused {
        let _ = writeln!(out, "  refused by {}: {count}", reason.name());
    }
    if is_compared(comparison) {
        write_comparison(comparison, &mut out);
    }
    out
}

fn write_comparison(comparison: &ComparisonReport, out: &mut String) {
    let ComparisonReport { report, noise, learned, unpaired, slower, primary, candidate } = comparison;
    let ppm = report.different_ppm();
    let _ = writeln!(
        out,
        "  compared {}, different {} ({}.{:04} %), one answer missing {unpaired}, bodies left out {}",
        report.compared,
        report.different,
        ppm / 10_000,
        ppm % 10_000,
        report.bodies_left_out
    );
    let _ =
        writeln!(out, "  slower than the original {slower}: {} against {}", paces(candidate), paces(primary));
    for (place, count) in &report.places {
        // Names come from answers.
        let later = if noise.contains(place) { " (noise, as was learned later)" } else { "" };
        let _ = writeln!(out, "  differs {count}: {}{later}", shown(place));
    }
    for example in &report.examples {
        let [place, was, is] = [&example.place, &example.primary, &example.candidate].map(|text| shown(text));
        let _ = writeln!(out, "  example {place}: {was} -> {is}");
    }
    let places: Vec<String> = noise.places().map(shown).collect();
    let places = if places.is_empty() { "none".to_owned() } else { places.join(", ") };
    let more = if noise.is_full() { " and more" } else { "" };
    let _ = writeln!(out, "  noise, learned {learned} times: {places}{more}");
}

/// On one line, whatever a service has said.
fn shown(text: &str) -> String {
    let shown =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    text.chars().map(shown).collect()
}

fn paces(histogram: &Histogram) -> String {
    let mean = histogram.sum / histogram.count().max(1) as f64;
    format!("mean {mean:.1} ms, p50 {}, p99 {}", bound(histogram, 50), bound(histogram, 99))
}

/// So many in a hundred took no longer.
fn bound(histogram: &Histogram, percent: u64) -> String {
    quantile(histogram, percent).map_or_else(|| "longer".to_owned(), |ms| format!("up to {ms} ms"))
}

fn quantile(histogram: &Histogram, percent: u64) -> Option<f64> {
    let rank = (histogram.count() * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (count, bound) in histogram.counts.iter().zip(BUCKETS) {
        seen += count;
        if seen >= rank {
            return Some(bound);
        }
    }
    None
}

fn described(mirror: &MirrorReport) -> Value {
    let MirrorReport { name, counts, comparison } = mirror;
    let mut out = json!({
        "virtual_host": &*name.virtual_host,
        "route": &*name.route,
        "cluster": &*name.cluster,
        "statuses": counts.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "refused_by": counts.refused.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
    });
    for (name, count) in ends(counts) {
        out[name] = count.into();
    }
    if is_compared(comparison) {
        out["comparison"] = compared(comparison);
    }
    out
}

fn compared(comparison: &ComparisonReport) -> Value {
    let ComparisonReport { report, noise, learned, unpaired, slower, primary, candidate } = comparison;
    let pace = |histogram: &Histogram| {
        json!({
            "mean": histogram.sum / histogram.count().max(1) as f64,
            "p50_at_most": quantile(histogram, 50),
            "p99_at_most": quantile(histogram, 99),
        })
    };
    let examples = report.examples.iter().map(
        |example| json!({ "place": example.place, "original": example.primary, "copy": example.candidate }),
    );
    json!({
        "compared": report.compared,
        "different": report.different,
        "different_ppm": report.different_ppm(),
        "unpaired": unpaired,
        "bodies_left_out": report.bodies_left_out,
        "places": report.places,
        "examples": examples.collect::<Vec<_>>(),
        "noise": { "learned": learned, "places": noise.places().collect::<Vec<_>>(), "is_full": noise.is_full() },
        "slower": slower,
        "milliseconds_to_head": { "original": pace(primary), "copy": pace(candidate) },
    })
}

/// What copies add to the numbers of their cluster, under Envoy's names. One without an answer counts as what its
/// client would have been answered.
pub fn of_cluster(mirror: &MirrorReport) -> Vec<(String, u64)> {
    let counts = &mirror.counts;
    let unanswered = [(503, counts.failed), (504, counts.timed_out)];
    let answered = counts.statuses.iter().map(|(status, count)| (*status, *count));
    let mut all = vec![("upstream_rq_timeout".to_owned(), counts.timed_out)];
    for (status, count) in answered.chain(unanswered).filter(|(_, count)| *count > 0) {
        all.push((format!("upstream_rq_{status}"), count));
        all.push((format!("upstream_rq_{}xx", status / 100), count));
    }
    all
}

/// Our own.
pub fn stats(mirror: &MirrorReport) -> Vec<Stat> {
    let counter = |name: &str, help, value| Stat { name: name.to_owned(), is_gauge: false, help, value };
    let mut all: Vec<Stat> = ends(&mirror.counts)
        .into_iter()
        .map(|(name, value)| counter(name, "Copies of requests.", value))
        .collect();
    let comparison = &mirror.comparison;
    if is_compared(comparison) {
        all.push(counter(
            "compared",
            "Answers that were compared with those to copies.",
            comparison.report.compared,
        ));
        all.push(counter(
            "different",
            "Answers to copies that say something else.",
            comparison.report.different,
        ));
        for (name, help, part) in [
            ("different_status", "Answers to copies with another status.", "status"),
            ("different_headers", "Headers that differ, in all answers.", "header."),
            ("different_body", "Places of bodies that differ, in all answers.", "body"),
        ] {
            let places = comparison.report.places.iter().filter(|(place, _)| place.starts_with(part));
            all.push(counter(name, help, places.map(|(_, count)| count).sum()));
        }
        all.push(counter(
            "unpaired",
            "Answers that were not compared for want of the other.",
            comparison.unpaired,
        ));
        all.push(counter("slower", "Answers to copies that took longer to begin.", comparison.slower));
    }
    all
}
