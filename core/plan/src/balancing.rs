//! What Istio's words about load balancing mean, and which of them make no sense.
//!
//! Source: istiod's `cluster_traffic_policy.go`, `applyLoadBalancer`; `route.go`, `consistentHashToHashPolicy`;
//! `validation.go`, `validateLoadBalancer`. In Istio the hash policy of a destination goes to the routes that
//! lead to it; here it stays with its cluster.

use http::HeaderName;
use naru_resource::destination_rule::{self as rule, LoadBalancer, SimpleLoadBalancer};
use naru_resource::{Number, Place, Placed};
use naru_spec::{
    BalancingPolicy, ConsistentHash, Cookie, HashPolicy, HashSource, HashTable, Invalid, LoadBalancing,
    MaglevSize, Path, RingSize, Thousandths, WarmUp, code, defaults,
};

use crate::findings::Findings;
use crate::localities;

/// Without a block, or where it says nothing of it, requests go to the least loaded.
pub(crate) fn settings(said: Option<&LoadBalancer>) -> LoadBalancing {
    let Some(said) = said else { return LoadBalancing::least_request() };
    let mut settings = match &said.consistent_hash {
        Some(hash) => of_hash(hash),
        None => match said.simple.as_ref().map(|simple| simple.value) {
            Some(SimpleLoadBalancer::RoundRobin) => LoadBalancing::round_robin(),
            Some(SimpleLoadBalancer::Random) => LoadBalancing::random(),
            // Of a Service, whose clients name it and no address, which is told; of others see `clusters::build`.
            Some(SimpleLoadBalancer::Passthrough)
            | Some(SimpleLoadBalancer::Unspecified | SimpleLoadBalancer::LeastRequest)
            | None => LoadBalancing::least_request(),
        },
    };
    settings.warm_up = warm_up(said).filter(|_| takes_warm_up(said));
    settings
}

fn takes_warm_up(said: &LoadBalancer) -> bool {
    let simple = said.simple.as_ref().map_or(SimpleLoadBalancer::Unspecified, |simple| simple.value);
    said.consistent_hash.is_none() && simple != SimpleLoadBalancer::Random
}

fn of_hash(said: &rule::ConsistentHash) -> LoadBalancing {
    let table = table(said).unwrap_or_else(|_| HashTable::Ring(RingSize::default()));
    let mut settings = LoadBalancing::from(BalancingPolicy::ConsistentHash(ConsistentHash::new(table)));
    settings.hash.extend(source(said).ok().flatten().map(HashPolicy::of));
    settings
}

/// A value that cannot be, its field and its place.
type Wrong = (&'static str, Place, Invalid);

/// A size of zero is one that is not said.
fn table(said: &rule::ConsistentHash) -> Result<HashTable, Wrong> {
    let size = |number: &Number| u64::try_from(number.value).unwrap_or(u64::MAX);
    if let Some(size_said) = said.maglev.as_ref().and_then(|maglev| maglev.table_size.as_ref())
        && size_said.value != 0
    {
        return MaglevSize::new(size(size_said))
            .map(HashTable::Maglev)
            .map_err(|invalid| ("maglev.tableSize", size_said.place, invalid));
    }
    if said.maglev.is_some() {
        return Ok(HashTable::Maglev(MaglevSize::default()));
    }
    match ring_size(said).filter(|(_, size_said)| size_said.value != 0) {
        Some((field, size_said)) => RingSize::new(size(size_said), defaults::RING_SIZE_MAX)
            .map(HashTable::Ring)
            .map_err(|invalid| (field, size_said.place, invalid)),
        None => Ok(HashTable::Ring(RingSize::default())),
    }
}

/// In its block, or where it stood before there was one.
fn ring_size(said: &rule::ConsistentHash) -> Option<(&'static str, &Number)> {
    let own = said.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size.as_ref());
    own.map(|size| ("ringHash.minimumRingSize", size))
        .or(said.minimum_ring_size.as_ref().map(|size| ("minimumRingSize", size)))
}

/// `useSourceIp: false` is said, and hashes nothing.
fn source(said: &rule::ConsistentHash) -> Result<Option<HashSource>, Wrong> {
    if let Some(name) = &said.http_header_name {
        let invalid = |_| Invalid::new(format!("'{}' cannot be the name of a header", name.value));
        let header = name.value.parse::<HeaderName>().map_err(invalid);
        return header
            .map(|header| Some(HashSource::Header(header)))
            .map_err(|invalid| ("httpHeaderName", name.place, invalid));
    }
    if let Some(said) = &said.http_cookie {
        return cookie(said, "")
            .map(|cookie| Some(HashSource::Cookie(cookie)))
            .map_err(|invalid| ("httpCookie", said.name.place, invalid));
    }
    if let Some(name) = &said.http_query_parameter_name {
        return Ok(Some(HashSource::Query(name.value.clone())));
    }
    Ok(said.use_source_ip.as_ref().filter(|flag| flag.value).map(|_| HashSource::SourceIp))
}

pub(crate) fn cookie(said: &rule::HttpCookie, default_path: &str) -> Result<Cookie, Invalid> {
    let text = |text: &Option<naru_resource::Text>, or: &str| {
        text.as_ref().map_or(or, |text| text.as_str()).to_owned()
    };
    let attributes = said.attributes.iter();
    let attributes = attributes.map(|one| (one.name.value.clone(), text(&one.value, ""))).collect();
    let ttl = said.ttl.as_ref().map(|ttl| ttl.value);
    Cookie::new(said.name.value.clone(), ttl, text(&said.path, default_path), attributes)
}

fn warm_up(said: &LoadBalancer) -> Option<WarmUp> {
    let Some(warmup) = &said.warmup else {
        return said.warmup_duration_secs.as_ref().map(|duration| WarmUp::over(duration.value));
    };
    let mut settings = WarmUp::over(warmup.duration.value);
    if let Some(percent) = &warmup.minimum_percent {
        settings.min_percent = percent.value.clamp(0.0, 100.0).round() as u32;
    }
    if let Some(aggression) = &warmup.aggression {
        settings.aggression = Thousandths((aggression.value * 1_000.0).round() as u32);
    }
    Some(settings)
}

/// Requests go where their clients meant to connect to.
pub(crate) fn is_passthrough(said: Option<&LoadBalancer>) -> bool {
    let simple = said.and_then(|said| said.simple.as_ref());
    simple.is_some_and(|simple| simple.value == SimpleLoadBalancer::Passthrough)
}

/// `ejects` says whether the endpoints are watched as well, `is_entry` that clients know the host by their own resolver.
pub(crate) fn check(
    said: &LoadBalancer,
    ejects: bool,
    is_entry: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let (Some(simple), Some(_)) = (&said.simple, &said.consistent_hash) {
        let message = "only one of simple and consistentHash can be said";
        let hint = "leave one of them out: a hash is a policy of its own";
        findings.error(code::CONFLICTING_FIELDS, simple.place, &path.field("simple"), message, hint);
    }
    if let Some(simple) = &said.simple
        && simple.value == SimpleLoadBalancer::Passthrough
        && !is_entry
    {
        let message = "clients name this host and no address: endpoints are chosen by LEAST_REQUEST";
        findings.warning(code::NO_EFFECT, simple.place, &path.field("simple"), message, "");
    }
    if let Some(hash) = &said.consistent_hash {
        check_hash(hash, &path.field("consistentHash"), findings);
    }
    if let Some(locality) = &said.locality_lb_setting {
        localities::check(locality, ejects, &path.field("localityLbSetting"), findings);
    }
    check_warm_up(said, path, findings);
}

fn check_hash(hash: &rule::ConsistentHash, path: &Path<'_>, findings: &mut Findings<'_>) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|is_said| **is_said).count() != 1 {
        let message =
            "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is needed";
        findings.error(code::CONFLICTING_FIELDS, hash.place, path, message, "httpHeaderName: x-user");
    } else if hash.use_source_ip.as_ref().is_some_and(|flag| !flag.value) {
        let message = "'useSourceIp: false' hashes nothing: endpoints are chosen at random";
        let hint = "say useSourceIp: true, or simple: RANDOM";
        findings.warning(code::NO_EFFECT, hash.place, &path.field("useSourceIp"), message, hint);
    }
    if let (Some(_), Some(maglev)) = (&hash.ring_hash, &hash.maglev) {
        let message = "only one of ringHash and maglev can be said";
        let hint = "leave one of them out";
        findings.error(code::CONFLICTING_FIELDS, maglev.place, &path.field("maglev"), message, hint);
    }
    for (field, place, invalid) in [table(hash).err(), source(hash).err()].into_iter().flatten() {
        findings.error(code::INVALID_VALUE, place, &path.field(field), invalid.message, invalid.hint);
    }
    let maglev = hash.maglev.as_ref().and_then(|maglev| maglev.table_size.as_ref());
    let sizes = ring_size(hash).into_iter().chain(maglev.map(|size| ("maglev.tableSize", size)));
    for (field, size) in sizes.filter(|(_, size)| size.value == 0) {
        let message = "a size of 0 is none: the default is taken";
        let hint = format!("{} for a ring, {} for maglev", defaults::RING_SIZE_MIN, defaults::MAGLEV_SIZE);
        findings.warning(code::NO_EFFECT, size.place, &path.field(field), message, hint);
    }
    if let (Some(ring), Some(old)) = (&hash.ring_hash, &hash.minimum_ring_size) {
        let message = "'minimumRingSize' has no effect beside 'ringHash'";
        let hint = format!("say it at {}", findings.locate(ring.place));
        findings.warning(code::NO_EFFECT, old.place, &path.field("minimumRingSize"), message, hint);
    }
}

fn check_warm_up(said: &LoadBalancer, path: &Path<'_>, findings: &mut Findings<'_>) {
    let (field, duration) = match (&said.warmup, &said.warmup_duration_secs) {
        (Some(_), Some(old)) => {
            let message = "only one of warmup and warmupDurationSecs can be said";
            findings.error(
                code::CONFLICTING_FIELDS,
                old.place,
                &path.field("warmupDurationSecs"),
                message,
                "",
            );
            return;
        }
        (Some(warmup), None) => ("warmup.duration", &warmup.duration),
        (None, Some(duration)) => ("warmupDurationSecs", duration),
        (None, None) => return,
    };
    if duration.value.as_millis() == 0 {
        let message = "a warm-up takes at least a millisecond";
        findings.error(code::INVALID_VALUE, duration.place, &path.field(field), message, "");
    }
    if !takes_warm_up(said) {
        let message = "only ROUND_ROBIN and LEAST_REQUEST warm endpoints up";
        findings.warning(code::NO_EFFECT, duration.place, &path.field(field), message, "");
    }
    let Some(warmup) = &said.warmup else { return };
    let mut within = |said: &Option<Placed<f64>>, low: f64, high: f64, field: &str, hint: &str| {
        if let Some(said) = said
            && !(low..=high).contains(&said.value)
        {
            let (path, message) =
                (path.field("warmup"), format!("{} is out of range: {low} to {high}", said.value));
            findings.error(code::INVALID_VALUE, said.place, &path.field(field), message, hint);
        }
    };
    within(&warmup.aggression, 1.0, 1e6, "aggression", "1 grows evenly, more grows fast at first");
    let percentage = "a percentage of the weight; 10 is what is taken where nothing is said";
    within(&warmup.minimum_percent, 0.0, 100.0, "minimumPercent", percentage);
}
