//! How short naru itself runs, and what it gives up for it, under Envoy's names.

use std::collections::BTreeMap;

use naru_proxy::metrics::TurnedAway;
use naru_proxy::{Report, StrainStatus};

const SATURATED: u64 = 1_000_000;

/// For `/stats`.
pub fn add_stats(report: &Report, strain: &StrainStatus, stats: &mut BTreeMap<String, u64>) {
    for (kind, count) in TurnedAway::ALL.iter().zip(report.downstream.turned_away) {
        stats.insert(format!("listener.{}", kind.name()), count);
    }
    let keepalives_ended = report.downstream.keepalives_ended;
    stats.insert("http.downstream_cx_overload_disable_keepalive".to_owned(), keepalives_ended);
    for (name, value) in numbers(strain) {
        stats.insert(format!("overload.{name}"), value);
    }
}

/// Each with its name behind `overload.`, whole numbers of percent as Envoy's.
pub fn numbers(strain: &StrainStatus) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for resource in &strain.resources {
        all.push((format!("{}.pressure", resource.name), percent(resource.pressure)));
        all.push((format!("{}.failed_updates", resource.name), resource.failed_updates));
    }
    for relief in &strain.reliefs {
        let strength = u64::from(relief.strength);
        all.push((format!("{}.scale_percent", relief.name), percent(relief.strength)));
        if relief.is_shed_point {
            all.push((format!("{}.shed_load_count", relief.name), relief.given_up));
        } else {
            all.push((format!("{}.active", relief.name), u64::from(strength >= SATURATED)));
        }
    }
    all
}

fn percent(millionths: u32) -> u64 {
    u64::from(millionths) * 100 / SATURATED
}
