//! What a request passes before it goes anywhere.

use naru_spec::{
    Check, CheckKind, Gate, GateChange, LocalDescriptor, LocalRate, Quota, QuotaAlgorithm, QuotaKey,
    RateService, ShedRule, StoreUse, TokenBucket, WithoutStore,
};
use serde_json::json;

use super::{Policy, counted, in_percent, ms, of_content, of_edge, of_identity, percent};
use crate::policies::Documents;

/// In the order in which they are asked: those of the listener, as the rule changes them.
pub fn of(gate: &Gate, changes: &[GateChange], documents: &Documents) -> Vec<Policy> {
    gate.of_rule(changes).iter().flat_map(|check| of_check(check, documents)).collect()
}

fn of_check(check: &Check, documents: &Documents) -> Vec<Policy> {
    let origin = documents.of_check(&check.name);
    match &check.kind {
        CheckKind::Shed(settings) => settings.rules.iter().map(|rule| shed(rule, origin.clone())).collect(),
        CheckKind::SecurityHeaders(said) => vec![of_edge::headers(said)],
        CheckKind::Addresses(said) => vec![of_edge::addresses(said)],
        CheckKind::Cors(said) => of_edge::cors(said).into_iter().collect(),
        CheckKind::Csrf(said) => of_edge::csrf(said).into_iter().collect(),
        CheckKind::ApiKeys(said) => vec![of_edge::keys(said)],
        CheckKind::BasicAuth(said) => vec![of_edge::passwords(said)],
        CheckKind::Jwt(settings) => of_identity::tokens(settings),
        CheckKind::External(settings) => vec![of_identity::external(settings)],
        CheckKind::Rbac(settings) => of_identity::policies(settings),
        CheckKind::LocalRate(settings) => local_rate(settings),
        CheckKind::RateService(settings) => rate_service(settings).into_iter().collect(),
        CheckKind::Quotas(settings) => {
            let limits = settings.limits.iter();
            limits.map(|quota| rate_limit(quota, settings.store.as_ref(), origin.clone())).collect()
        }
        CheckKind::Compress(settings) => of_content::compressed(settings).into_iter().collect(),
        CheckKind::Decompress(settings) => of_content::decompressed(settings).into_iter().collect(),
        CheckKind::BodyLimit(max) => of_content::limited(*max).into_iter().collect(),
        CheckKind::Files(settings) => vec![of_content::files(settings, origin)],
    }
}

fn shed(rule: &ShedRule, origin: Option<String>) -> Policy {
    let share = match rule.share {
        naru_base::Fraction::ALL => String::new(),
        share => format!("{} of the ", percent(share)),
    };
    let text = format!(
        "from level {} of the Surge on, {share}requests that match are answered 503, to come again after {:?}",
        rule.from_level, rule.retry_after
    );
    let values = json!({
        "from_level": rule.from_level,
        "share_percent": in_percent(rule.share),
        "retry_after_ms": ms(rule.retry_after),
    });
    Policy::new("surgeShed", text, values, origin)
}

fn local_rate(settings: &LocalRate) -> Vec<Policy> {
    if settings.enabled.is_none() {
        return Vec::new();
    }
    let of_all = settings.bucket.iter().map(|bucket| (bucket, None));
    let of_some = settings.descriptors.iter().map(|said| (&said.bucket, Some(said)));
    of_all.chain(of_some).map(|(bucket, said)| of_bucket(settings, *bucket, said)).collect()
}

fn of_bucket(settings: &LocalRate, bucket: TokenBucket, said: Option<&LocalDescriptor>) -> Policy {
    let (enabled, enforced) = (percent(settings.enabled), percent(settings.enforced));
    let whose = match said {
        None => String::new(),
        Some(said) => {
            let entry = |(key, value): &(String, String)| match value.as_str() {
                "" => format!("each {key}"),
                value => format!("{key} '{value}'"),
            };
            let entries: Vec<String> = said.entries.iter().map(entry).collect();
            format!("of requests with {}: ", entries.join(" and "))
        }
    };
    let of_connection = if settings.is_of_connection { ", for each connection" } else { "" };
    let answered = match said {
        Some(said) if said.is_shadow => "are not refused".to_owned(),
        _ => format!("are answered {}", settings.status),
    };
    let text = format!(
        "{whose}{} come every {:?}, at most {} at once{of_connection}; {enabled} of the requests take one, and {enforced} \
         of those that find none {answered}",
        counted(bucket.tokens_per_fill, "token", "tokens"),
        bucket.fill_interval,
        bucket.tokens_max,
    );
    let mut values = json!({
        "max_tokens": bucket.tokens_max,
        "tokens_per_fill": bucket.tokens_per_fill,
        "fill_interval_ms": ms(bucket.fill_interval),
        "enabled_percent": in_percent(settings.enabled),
        "enforced_percent": in_percent(settings.enforced),
        "status": settings.status,
    });
    if let Some(said) = said {
        values["entries"] = said.entries.iter().map(|(key, value)| json!([key, value])).collect();
        values["shadow"] = json!(said.is_shadow);
    }
    Policy::new("localRateLimit", text, values, None)
}

fn rate_service(settings: &RateService) -> Option<Policy> {
    let rates = if settings.rule_rates.is_empty() { &settings.rates } else { &settings.rule_rates };
    if rates.is_empty() || settings.enabled.is_none() {
        return None;
    }
    let (enabled, enforced) = (percent(settings.enabled), percent(settings.enforced));
    let within = settings.timeout.map_or(String::new(), |timeout| format!(" within {timeout:?}"));
    let text = format!(
        "the rate limit service '{}' is asked{within} about {enabled} of the requests, by {}; {enforced} of those beyond a limit are answered {}, \
         and {} of those that nobody answers for are answered {}",
        settings.service.cluster,
        counted(rates.len() as u32, "descriptor", "descriptors"),
        settings.status,
        percent(settings.denies_failed),
        settings.status_on_error,
    );
    let values = json!({
        "domain": settings.domain,
        "cluster": settings.service.cluster,
        "descriptors": rates.len(),
        "timeout_ms": settings.timeout.map(ms),
        "enabled_percent": in_percent(settings.enabled),
        "enforced_percent": in_percent(settings.enforced),
        "denied_without_answer_percent": in_percent(settings.denies_failed),
        "status": settings.status,
        "status_on_error": settings.status_on_error,
    });
    Some(Policy::new("rateLimitService", text, values, None))
}

fn rate_limit(quota: &Quota, store: Option<&StoreUse>, origin: Option<String>) -> Policy {
    let (requests, window) = quota.algorithm.policy();
    let (algorithm, burst) = match quota.algorithm {
        QuotaAlgorithm::TokenBucket { burst, .. } => ("tokenBucket", Some(burst)),
        QuotaAlgorithm::FixedWindow { .. } => ("fixedWindow", None),
        QuotaAlgorithm::SlidingWindow { .. } => ("slidingWindow", None),
    };
    let parts: Vec<String> = quota.key.iter().map(part).collect();
    let whose = match parts.as_slice() {
        [] => "for all together".to_owned(),
        parts => format!("for each {}", parts.join(" and ")),
    };
    let cost = match quota.cost {
        1 => String::new(),
        cost => format!(", of which this takes {cost}"),
    };
    let at_once = burst.filter(|burst| *burst != requests).map(|burst| format!(", {burst} at once"));
    let elsewhere = store.map(|store| {
        let otherwise = match store.otherwise {
            WithoutStore::Allow => "nobody is refused",
            WithoutStore::Refuse => "all are refused",
            WithoutStore::Local => "each proxy counts by itself",
        };
        format!(", counted at {}; without it {otherwise}", store.name)
    });
    let shadow = if quota.is_shadow { "; in shadow: nobody is refused" } else { "" };
    let text = format!(
        "at most {} in {window:?} {whose}{}{cost}{}{shadow}",
        counted(requests, "request", "requests"),
        at_once.unwrap_or_default(),
        elsewhere.unwrap_or_default(),
    );
    let values = json!({
        "requests": requests,
        "window_ms": ms(window),
        "algorithm": algorithm,
        "burst": burst,
        "cost": quota.cost,
        "key": parts,
        "shadow": quota.is_shadow,
        "max_keys": quota.keys_max,
        "store": store.map(|store| &store.name),
        "counted_as": quota.name,
    });
    Policy::new("rateLimit", text, values, origin)
}

fn part(part: &QuotaKey) -> String {
    match part {
        QuotaKey::Address { .. } => "address".to_owned(),
        QuotaKey::Header(name) => format!("header {name}"),
        QuotaKey::Cookie(name) => format!("cookie {name}"),
        QuotaKey::Path => "path".to_owned(),
        QuotaKey::Method => "method".to_owned(),
        QuotaKey::Claim(path) => format!("claim {}", path.join(".")),
        QuotaKey::Session => "session".to_owned(),
    }
}
