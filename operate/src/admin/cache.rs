//! `/cache`: what is kept of answers, and how often it was given; and `POST /cache/purge`, which forgets some of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{Method, Response, StatusCode};
use naru_cache::Purge;
use naru_proxy::{CacheStatus, Purged};
use serde_json::json;

use super::{Admin, Query, Whole, json as json_page, text};

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let Some(status) = admin.proxy.cache() else { return text(StatusCode::OK, "no route keeps answers\n") };
    if query.get("format") == Some("json") {
        return json_page(&described(&status));
    }
    let counts = status.counts;
    let mut out = format!(
        "{} answers in {} of {} bytes, {} let go for others, {} being fetched\n",
        counts.objects, counts.bytes, counts.bytes_max, counts.evicted, counts.flights
    );
    for class in &status.classes {
        let results: Vec<String> =
            class.results.iter().map(|(result, count)| format!("{result} {count}")).collect();
        let _ = writeln!(
            out,
            "{}: {}% from what is kept; {}; {} of the hits the short way; {} waited for another; {} kept, {} not",
            class.class,
            percent_kept(&class.results),
            results.join(", "),
            class.short,
            class.collapsed,
            class.stored,
            class.unstored
        );
    }
    for tier in &status.tiers {
        let said: Vec<String> =
            tier.requests.iter().map(|(result, count)| format!("{result} {count}")).collect();
        let written: Vec<String> =
            tier.writes.iter().map(|(result, count)| format!("{result} {count}")).collect();
        let state = if tier.is_up { "up" } else { "gives no answer" };
        let _ = write!(out, "{}: {state}; {}; written: {}", tier.tier, said.join(", "), written.join(", "));
        if let Some((objects, bytes)) = tier.held {
            let _ = write!(out, "; {objects} answers in {bytes} bytes");
        }
        if let Some(untold) = tier.untold {
            let _ = write!(out, "; {untold} to be told to others");
        }
        out.push('\n');
    }
    text(StatusCode::OK, out)
}

fn described(status: &CacheStatus) -> serde_json::Value {
    let counts = status.counts;
    let classes = status.classes.iter().map(|class| {
        let results: BTreeMap<_, _> = class.results.into_iter().collect();
        json!({
            "class": class.class,
            "percent_from_what_is_kept": percent_kept(&class.results),
            "results": results,
            "short": class.short,
            "collapsed": class.collapsed,
            "stored": class.stored,
            "not_stored": class.unstored,
        })
    });
    let tiers = status.tiers.iter().map(|tier| {
        let requests: BTreeMap<_, _> = tier.requests.into_iter().collect();
        let writes: BTreeMap<_, _> = tier.writes.into_iter().collect();
        json!({
            "tier": tier.tier,
            "up": tier.is_up,
            "requests": requests,
            "writes": writes,
            "objects": tier.held.map(|(objects, _)| objects),
            "bytes": tier.held.map(|(_, bytes)| bytes),
            "untold": tier.untold,
        })
    });
    json!({
        "tiers": tiers.collect::<Vec<_>>(),
        "objects": counts.objects,
        "bytes": counts.bytes,
        "bytes_max": counts.bytes_max,
        "evicted": counts.evicted,
        "fetches": counts.flights,
        "classes": classes.collect::<Vec<_>>(),
    })
}

fn percent_kept(results: &[(&'static str, u64)]) -> u64 {
    let all: u64 = results.iter().map(|(_, count)| count).sum();
    let missed: u64 = results.iter().filter(|(result, _)| *result == "miss").map(|(_, count)| count).sum();
    (all - missed) * 100 / all.max(1)
}

/// For `/stats`.
pub fn add_stats(status: Option<&CacheStatus>, stats: &mut BTreeMap<String, u64>) {
    for (name, labels, _, value) in numbers(status) {
        let class = labels.map_or(String::new(), |(class, _)| format!("{class}."));
        let result =
            labels.and_then(|(_, result)| result).map_or(String::new(), |result| format!(".{result}"));
        stats.insert(format!("cache.{class}{name}{result}"), value);
    }
    for (name, tier, result, _, value) in tier_numbers(status) {
        let result = result.map_or(String::new(), |result| format!(".{result}"));
        stats.insert(format!("cache.tier.{tier}.{name}{result}"), value);
    }
}

/// A number of a tier: its name, whose it is, its result where it is of one, and whether it is a gauge.
type TierNumber = (&'static str, &'static str, Option<&'static str>, bool, u64);

pub fn tier_numbers(status: Option<&CacheStatus>) -> Vec<TierNumber> {
    let mut all = Vec::new();
    for tier in status.iter().flat_map(|status| &status.tiers) {
        let name = tier.tier;
        all.push(("up", name, None, true, u64::from(tier.is_up)));
        all.extend(
            tier.requests.iter().map(|(result, count)| ("requests", name, Some(*result), false, *count)),
        );
        all.extend(tier.writes.iter().map(|(result, count)| ("writes", name, Some(*result), false, *count)));
        all.extend(tier.untold.map(|untold| ("untold", name, None, true, untold)));
        if let Some((objects, bytes)) = tier.held {
            all.push(("objects", name, None, true, objects));
            all.push(("bytes", name, None, true, bytes));
        }
    }
    all
}

/// A number: its name, its class and result where it is of one, and whether it is a gauge.
type Number<'a> = (&'static str, Option<(&'a str, Option<&'static str>)>, bool, u64);

pub fn numbers(status: Option<&CacheStatus>) -> Vec<Number<'_>> {
    let Some(status) = status else { return Vec::new() };
    let counts = status.counts;
    let mut all: Vec<Number<'_>> = vec![
        ("objects", None, true, counts.objects),
        ("bytes", None, true, counts.bytes),
        ("bytes_max", None, true, counts.bytes_max),
        ("fetches", None, true, counts.flights),
        ("evicted", None, false, counts.evicted),
    ];
    for class in &status.classes {
        let name = class.class.as_str();
        all.extend(
            class
                .results
                .iter()
                .map(|(result, count)| ("requests", Some((name, Some(*result))), false, *count)),
        );
        all.push(("short", Some((name, None)), false, class.short));
        all.push(("collapsed", Some((name, None)), false, class.collapsed));
        all.push(("stored", Some((name, None)), false, class.stored));
        all.push(("not_stored", Some((name, None)), false, class.unstored));
    }
    all
}

/// What is meant is said by one of `url`, `prefix` and `tag`, or by `all`.
pub async fn purge(admin: &Admin, method: &Method, query: &Query<'_>) -> Response<Whole> {
    if *method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n");
    }
    let said = ["url", "prefix", "tag", "all"].map(|name| query.get(name).map(|value| (name, value)));
    let mut said = said.into_iter().flatten();
    let (Some((name, value)), None) = (said.next(), said.next()) else {
        return text(StatusCode::BAD_REQUEST, "say one of ?url=, ?prefix=, ?tag= and ?all\n");
    };
    let Some(value) = decoded(value) else {
        return text(StatusCode::BAD_REQUEST, "the value is not percent-encoded text\n");
    };
    let purge = match name {
        "all" => Purge::All,
        "tag" if !value.is_empty() => Purge::Tag(value),
        "url" | "prefix" if value.starts_with("http://") || value.starts_with("https://") => match name {
            "url" => Purge::Url(value),
            _ => Purge::Prefix(value),
        },
        _ => return text(StatusCode::BAD_REQUEST, "write http://host/path, or a tag\n"),
    };
    match admin.proxy.purge(&purge).await {
        Some(Purged { forgotten, is_told: None }) => json_page(&json!({ "purged": forgotten })),
        Some(Purged { forgotten, is_told: Some(is_told) }) => {
            json_page(&json!({ "purged": forgotten, "others": if is_told { "told" } else { "told later" } }))
        }
        None => text(StatusCode::NOT_FOUND, "no route keeps answers\n"),
    }
}

fn decoded(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut half = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(half()? * 16 + half()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read() {
        assert_eq!(decoded("http://a/b%3Fc%20d").as_deref(), Some("http://a/b?c d"));
        assert_eq!(decoded("%4"), None);
        assert_eq!(decoded("%zz"), None);
        assert_eq!(decoded("%ff"), None);
    }

    #[test]
    fn a_rate_of_nothing_is_none() {
        assert_eq!(percent_kept(&[]), 0);
        assert_eq!(percent_kept(&[("hit", 3), ("miss", 1)]), 75);
    }
}
