//! Rate limits of clients: what `RateLimit` documents mean.
//!
//! One is for all gateways, for one of them, for the routes of a VirtualService, or for a Service, where workloads call
//! it. All that are for a request act on it
//! together. What is counted is kept by the name of the document and of the limit, so that listeners and routes that
//! have the same one share its counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use naru_resource::rate_limit::{
    RateAlgorithm, RateKey, RateLacking, RateLimit, RateLimitKey, RateLimitLeases, RateLimitRedis,
    RateLimitRule, RateLimitSecret, RateLimitTls, RateOtherwise,
};
use naru_resource::{Gateway, Number, Resources, Seconds, Text};
use naru_spec::{
    Check, CheckKind, CountPlace, DataSource, GateChange, Lacking, Leases, Listener, Path, Quota,
    QuotaAlgorithm, QuotaKey, Quotas, Redis, RedisTls, Store, StoreUse, WithoutStore, code, defaults,
};

use crate::account::{Account, DOCUMENT, Idle, Said};
use crate::attached::{self, RouteKey, Target};
use crate::findings::Findings;
use crate::identity::Guards;
use crate::registry::{Protocol, Registry};
use crate::routes::is_gateway;
use crate::sessions;

const FIELD: &str = "rateLimit";

/// Checks by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Rates<'a> {
    of_all: Vec<Check>,
    of_gateways: Vec<(&'a Gateway, Check)>,
    of_routes: BTreeMap<RouteKey, Vec<(naru_resource::Place, Check)>>,
    /// By its host.
    of_services: BTreeMap<String, Vec<Check>>,
    stores: Vec<Store>,
}

impl<'a> Rates<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Rates<'a> {
        let mut rates = Rates::default();
        for document in &resources.rate_limits {
            let check = rates.check(document, findings);
            let namespace = document.meta.namespace();
            let path = Path::ROOT.field("spec.targetRef");
            match &document.spec.target_ref {
                None => rates.of_all.push(check),
                Some(target) if target.kind.value == "Gateway" => {
                    if let Some(section) = &target.section_name {
                        let message = "a Gateway has no sections that a limit could be for";
                        let path = path.field("sectionName");
                        findings.error(code::UNSUPPORTED_FIELD, section.place, &path, message, "remove it");
                    }
                    let gateway = resources.gateways.iter().find(|gateway| {
                        gateway.meta.name.value == target.name.value && gateway.meta.namespace() == namespace
                    });
                    let Some(gateway) = gateway else {
                        let message = format!("there is no Gateway '{}' in {namespace}", target.name.value);
                        let (place, path) = (target.name.place, path.field("name"));
                        findings.error(code::UNKNOWN_REFERENCE, place, &path, message, "");
                        continue;
                    };
                    rates.of_gateways.push((gateway, check));
                }
                Some(target) if attached::is_of_routes(&target.kind) => {
                    attached::check_group(target, findings);
                    let target = Target::of(target, "RateLimit", namespace, resources, registry, findings);
                    let Some(Target::Route(key)) = target else { continue };
                    let place = document.meta.name.place;
                    let (path, route) = (DOCUMENT.to_owned(), Some(key.clone()));
                    account.expect(Said { place, field: FIELD, path, route, otherwise: Idle::NoHttp });
                    rates.of_routes.entry(key).or_default().push((place, check));
                }
                Some(target) if target.kind.value == "Service" => {
                    attached::check_group(target, findings);
                    let said = Target::of(target, "RateLimit", namespace, resources, registry, findings);
                    let Some(Target::Service(host)) = said else { continue };
                    let known = registry.services().find(|known| known.host == host);
                    let is_http = |known: &crate::registry::Known| {
                        known.ports.iter().any(|port| port.protocol != Protocol::Tcp)
                    };
                    if !known.is_some_and(is_http) {
                        let message = "it has no effect: no port that it is for speaks HTTP";
                        let path = path.field("name");
                        findings.warning(code::NO_EFFECT, target.name.place, &path, message, "leave it out");
                    }
                    rates.of_services.entry(host).or_default().push(check);
                }
                Some(target) => {
                    let message = format!("a RateLimit cannot be attached to a {}", target.kind.value);
                    let hint = "it can be attached to a Gateway, to a VirtualService, to one of its routes by \
                                sectionName, to a Service, or to all gateways without a targetRef";
                    let path = path.field("kind");
                    findings.error(code::UNKNOWN_VALUE, target.kind.place, &path, message, hint);
                }
            }
        }
        rates
    }

    /// Changes a listener of these gateways.
    pub fn change(&self, gateways: &[&Gateway], listener: &mut Listener) {
        let of_gateways = self.of_gateways.iter();
        let own = of_gateways.filter(|(own, _)| gateways.iter().any(|gateway| std::ptr::eq(*own, *gateway)));
        let checks: Vec<&Check> = self.of_all.iter().chain(own.map(|(_, check)| check)).collect();
        for chain in listener.chains.iter_mut().filter(|chain| chain.tcp.is_none()) {
            for check in &checks {
                chain.http.gate.insert((*check).clone());
            }
        }
    }

    /// What a route says beside its listener: all that is said of it by any of its names.
    pub fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> Vec<GateChange> {
        let own = keys.iter().rev().filter_map(|key| self.of_routes.get(key)).flatten();
        own.map(|(place, check)| {
            account.take(*place, FIELD);
            GateChange::Also(check.clone())
        })
        .collect()
    }

    /// What is said of a service where workloads call it.
    pub fn of_service(&self, host: &str) -> Vec<GateChange> {
        let checks = self.of_services.get(host).into_iter().flatten();
        checks.map(|check| GateChange::Also(check.clone())).collect()
    }

    pub fn stores(&self) -> Vec<Store> {
        self.stores.clone()
    }

    fn check(&mut self, document: &RateLimit, findings: &mut Findings<'_>) -> Check {
        let name = format!("RateLimit/{}/{}", document.meta.namespace(), document.meta.name.value);
        let path = Path::ROOT.field("spec.limits");
        if document.spec.limits.is_empty() {
            let message = "it has no limits";
            findings.error(code::MISSING_FIELD, document.spec.place, &path, message, "say at least one");
        }
        let mut limits: Vec<Quota> = Vec::new();
        for (at, said) in document.spec.limits.iter().enumerate() {
            let path = path.at(at);
            let Some(quota) = quota(said, &name, &path, findings) else { continue };
            if limits.iter().any(|known| known.name == quota.name) {
                let message = format!("there is a limit named '{}' already", said.name.value);
                findings.error(code::DUPLICATE, said.name.place, &path.field("name"), message, "");
                continue;
            }
            limits.push(quota);
        }
        if limits.len() > defaults::QUOTAS_AT_ONCE_MAX {
            let message = format!("more than {} limits", defaults::QUOTAS_AT_ONCE_MAX);
            let hint = "use a second document";
            findings.error(code::INVALID_VALUE, document.spec.place, &path, message, hint);
        }
        let store = match (&document.spec.redis, &document.spec.leases) {
            (Some(_), Some(leases)) => {
                let path = Path::ROOT.field("spec.leases");
                let message = "a limit is counted in one place";
                findings.error(
                    code::CONFLICTING_FIELDS,
                    leases.place,
                    &path,
                    message,
                    "remove redis or leases",
                );
                None
            }
            (Some(said), None) => Some(self.store(said, findings)),
            (None, Some(said)) => Some(self.leases(said, findings)),
            (None, None) => None,
        };
        Check { name, kind: CheckKind::Quotas(Box::new(Quotas { limits, store })) }
    }

    /// A store is known by where it is.
    fn store(&mut self, said: &RateLimitRedis, findings: &mut Findings<'_>) -> StoreUse {
        let path = Path::ROOT.field("spec.redis");
        let nodes: Vec<String> = said.addresses.iter().map(|address| address.value.clone()).collect();
        if nodes.is_empty() {
            let message = "the field 'addresses' is missing";
            findings.error(code::MISSING_FIELD, said.place, &path, message, "host:port");
        }
        for (at, address) in said.addresses.iter().enumerate() {
            let is_one = address.value.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_one {
                let message = format!("'{}' is no address", address.value);
                let path = path.field("addresses");
                findings.error(code::INVALID_VALUE, address.place, &path.at(at), message, "host:port");
            }
        }
        let is_cluster = said.cluster.as_ref().is_some_and(|flag| flag.value);
        if let Some(second) = said.addresses.get(1).filter(|_| !is_cluster) {
            let message = "a single Redis has one address";
            let path = path.field("addresses");
            findings.error(
                code::INVALID_VALUE,
                second.place,
                &path.at(1),
                message,
                "say cluster: true, or one",
            );
        }
        let login = (said.tls.as_ref(), said.user.as_ref(), said.password.as_ref());
        let RedisLogin { tls, user, password } = redis_login(login, &path, findings);
        let login = user.as_ref().map_or(String::new(), |user| format!("{user}@"));
        let name = format!(
            "redis{}{}:{login}{}",
            if tls.is_some() { "s" } else { "" },
            if is_cluster { "-cluster" } else { "" },
            nodes.join(",")
        );
        let timeout = timeout(said.timeout.as_ref(), &path, findings);
        let otherwise = otherwise(said.otherwise.as_ref().map(|said| said.value));
        let proxies = said.proxies.as_ref().map_or(Some(1), |said| u32::try_from(said.value).ok());
        if let (None | Some(0), Some(said)) = (proxies, &said.proxies) {
            let message = format!("{} is out of range: 1 to {}", said.value, u32::MAX);
            findings.error(code::INVALID_VALUE, said.place, &path.field("proxies"), message, "");
        }
        if let Some(proxies) = said.proxies.as_ref().filter(|_| otherwise != WithoutStore::Local) {
            let message = "only what is counted without Redis is shared out";
            let hint = "remove it, or say otherwise: local";
            findings.warning(code::NO_EFFECT, proxies.place, &path.field("proxies"), message, hint);
        }
        let redis = CountPlace::Redis(Redis { nodes, is_cluster, tls, user, password });
        self.know(&name, redis, said.place, &path, findings);
        StoreUse { name, timeout, otherwise, proxies: proxies.unwrap_or(1).max(1) }
    }

    fn leases(&mut self, said: &RateLimitLeases, findings: &mut Findings<'_>) -> StoreUse {
        let path = Path::ROOT.field("spec.leases");
        let mut members: Vec<SocketAddr> = Vec::new();
        for (at, text) in said.members.iter().enumerate() {
            let known = text.value.parse::<SocketAddr>().ok();
            let known = known.filter(|address| address.port() > 0 && !address.ip().is_unspecified());
            let (code, message) = match known {
                None => (code::INVALID_VALUE, format!("'{}' is no address and port of a proxy", text.value)),
                Some(known) if members.contains(&known) => {
                    (code::DUPLICATE, format!("{known} is a member already"))
                }
                Some(known) => {
                    members.push(known);
                    continue;
                }
            };
            let path = path.field("members");
            findings.error(code, text.place, &path.at(at), message, "of each proxy one, as 10.0.0.5:7400");
        }
        if !(1..=defaults::LEASE_MEMBERS_MAX).contains(&said.members.len()) {
            let message = format!("between 1 and {} proxies share a limit", defaults::LEASE_MEMBERS_MAX);
            findings.error(code::INVALID_VALUE, said.place, &path.field("members"), message, "");
        }
        let lease = said.lease.as_ref().map_or(defaults::LEASE, |said| said.value);
        if let Some(short) = said.lease.as_ref().filter(|_| lease < defaults::LEASE_MIN) {
            let message = format!("a lease is {} ms or more", defaults::LEASE_MIN.as_millis());
            findings.error(code::INVALID_VALUE, short.place, &path.field("lease"), message, "");
        }
        let secret = secret(&said.secret, &path.field("secret"), findings);
        // All members have them in one order, whatever each says.
        members.sort();
        let names: Vec<String> = members.iter().map(ToString::to_string).collect();
        let name = format!("leases:{}", names.join(","));
        let timeout = timeout(said.timeout.as_ref(), &path, findings);
        let otherwise = otherwise(said.otherwise.as_ref().map(|said| said.value));
        let proxies = members.len() as u32;
        if let Some(secret) = secret {
            let leases = CountPlace::Leases(Leases { members, secret, lease });
            self.know(&name, leases, said.place, &path, findings);
        }
        StoreUse { name, timeout, otherwise, proxies: proxies.max(1) }
    }

    /// Who asks at the same place asks in the same way.
    fn know(
        &mut self,
        name: &str,
        place: CountPlace,
        at: naru_resource::Place,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) {
        match self.stores.iter().find(|store| store.name == name) {
            Some(known) if known.place == place => {}
            Some(_) => {
                let message = format!("another RateLimit describes {name} otherwise");
                let hint = "say the same of it everywhere";
                findings.error(code::CONFLICTING_FIELDS, at, path, message, hint);
            }
            None => self.stores.push(Store { name: name.to_owned(), place }),
        }
    }
}

/// Tells what no request has where nobody verifies tokens, or where nobody logs in.
pub(crate) fn check_keys(resources: &Resources, guards: &Guards<'_>, findings: &mut Findings<'_>) {
    for document in &resources.rate_limits {
        let at = gateways_of(document, resources);
        // One of all gateways where there is none does nothing at all.
        if at.is_empty() && document.spec.target_ref.is_none() {
            continue;
        }
        let has_sessions = at.iter().any(|gateway| sessions::are_at(gateway, resources));
        let has_tokens = has_sessions || at.iter().any(|gateway| guards.reads_tokens(gateway));
        let limits = Path::ROOT.field("spec.limits");
        for (at, limit) in document.spec.limits.iter().enumerate() {
            let path = limits.at(at);
            let keys = path.field("key");
            let together = limit.lacking.is_some_and(|said| said.value == RateLacking::Together);
            let so = if together { "all requests are counted as one" } else { "no request is counted" };
            for (at, part) in limit.key.iter().enumerate() {
                let (message, hint) = match part.from.value {
                    RateKey::Claim if !has_tokens => (
                        format!("no token is verified where this limit is asked: {so}"),
                        "a RequestAuthentication or a SessionAuth for the Gateway verifies tokens",
                    ),
                    RateKey::Session if !has_sessions => (
                        format!("nobody logs in where this limit is asked: {so}"),
                        "a SessionAuth for the Gateway has sessions",
                    ),
                    _ => continue,
                };
                findings.warning(code::NO_EFFECT, part.from.place, &keys.at(at), message, hint);
            }
        }
    }
}

/// The gateways at which a document may be asked. Where workloads call out nobody verifies tokens.
fn gateways_of<'a>(document: &RateLimit, resources: &'a Resources) -> Vec<&'a Gateway> {
    let namespace = document.meta.namespace();
    let all = || resources.gateways.iter();
    let Some(target) = &document.spec.target_ref else { return all().collect() };
    let is_it =
        |meta: &naru_resource::Meta| meta.name.value == target.name.value && meta.namespace() == namespace;
    match target.kind.value.as_str() {
        "Gateway" => all().filter(|gateway| is_it(&gateway.meta)).collect(),
        "Service" => Vec::new(),
        "VirtualService" => match resources.virtual_services.iter().find(|service| is_it(&service.meta)) {
            // One without hosts is asked wherever somebody delegates to it.
            Some(service) if !service.spec.hosts.is_empty() => {
                let is_named = |gateway: &&Gateway| {
                    let full = (gateway.meta.namespace(), gateway.meta.name.value.as_str());
                    service.spec.gateways.iter().any(|said| is_gateway(said, namespace, full))
                };
                all().filter(is_named).collect()
            }
            _ => all().collect(),
        },
        _ => all().collect(),
    }
}

fn timeout(said: Option<&Seconds>, path: &Path<'_>, findings: &mut Findings<'_>) -> Duration {
    let timeout = said.map_or(defaults::STORE_TIMEOUT, |said| said.value);
    if let Some(zero) = said.filter(|_| timeout.is_zero()) {
        let message = "nobody answers in no time";
        findings.error(code::INVALID_VALUE, zero.place, &path.field("timeout"), message, "");
    }
    timeout
}

fn otherwise(said: Option<RateOtherwise>) -> WithoutStore {
    match said {
        Some(RateOtherwise::Allow) => WithoutStore::Allow,
        Some(RateOtherwise::Refuse) => WithoutStore::Refuse,
        Some(RateOtherwise::Local) | None => WithoutStore::Local,
    }
}

/// How a Redis is spoken to, and as whom.
pub(crate) struct RedisLogin {
    pub tls: Option<RedisTls>,
    pub user: Option<String>,
    pub password: Option<DataSource>,
}

pub(crate) fn redis_login(
    (tls, user, password): (Option<&RateLimitTls>, Option<&Text>, Option<&RateLimitSecret>),
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> RedisLogin {
    if let Some(user) = user.filter(|_| password.is_none()) {
        let (message, hint) = ("a user needs a password", "password: {file: ...}");
        findings.error(code::MISSING_FIELD, user.place, &path.field("user"), message, hint);
    }
    RedisLogin {
        tls: tls.map(|tls| RedisTls { authority: DataSource::File(tls.ca.value.clone()) }),
        user: user.map(|user| user.value.clone()),
        password: password.and_then(|said| secret(said, &path.field("password"), findings)),
    }
}

fn secret(said: &RateLimitSecret, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<DataSource> {
    match (&said.file, &said.environment) {
        (Some(file), None) => Some(DataSource::File(file.value.clone())),
        (None, Some(name)) => Some(DataSource::Environment(name.value.clone())),
        _ => {
            let message = "exactly one of file and environment is needed";
            findings.error(code::CONFLICTING_FIELDS, said.place, path, message, "");
            None
        }
    }
}

fn quota(said: &RateLimitRule, of: &str, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Quota> {
    let mut count = |number: &Number, field: &'static str| {
        let count = u32::try_from(number.value).ok().filter(|count| *count > 0);
        if count.is_none() {
            let message = format!("{} is out of range: 1 to {}", number.value, u32::MAX);
            findings.error(code::INVALID_VALUE, number.place, &path.field(field), message, "");
        }
        count
    };
    let requests = count(&said.requests, "requests");
    let burst = said.burst.as_ref().map(|burst| count(burst, "burst"));
    let cost = said.cost.as_ref().map_or(Some(1), |cost| count(cost, "cost"));
    let keys_max = said.max_keys.as_ref().map_or(Some(defaults::QUOTA_KEYS_MAX), |max| count(max, "maxKeys"));
    let window = said.window.value;
    if window < Duration::from_millis(1) {
        let message = "a window is 1 ms or more";
        findings.error(code::INVALID_VALUE, said.window.place, &path.field("window"), message, "");
        return None;
    }
    let keys = path.field("key");
    let parts = said.key.iter().enumerate().map(|(at, part)| key(part, &keys.at(at), findings));
    let key: Option<Vec<QuotaKey>> = parts.collect::<Vec<_>>().into_iter().collect();
    if let (true, Some(max)) = (said.key.is_empty(), &said.max_keys) {
        let message = "maxKeys means nothing without a key";
        findings.warning(code::NO_EFFECT, max.place, &path.field("maxKeys"), message, "remove it");
    }
    if let (true, Some(lacking)) = (said.key.is_empty(), &said.lacking) {
        let message = "without a key nothing can be lacking";
        findings.warning(code::NO_EFFECT, lacking.place, &path.field("lacking"), message, "remove it");
    }
    let requests = requests?;
    let algorithm = match said.algorithm.as_ref().map(|said| said.value) {
        Some(RateAlgorithm::TokenBucket) | None => {
            let burst = match burst {
                Some(burst) => burst?,
                None => requests,
            };
            QuotaAlgorithm::TokenBucket { requests, window, burst }
        }
        Some(other) => {
            if let Some(burst) = &said.burst {
                let message = "a window has no burst";
                let hint = "remove it, or use a tokenBucket";
                findings.error(code::CONFLICTING_FIELDS, burst.place, &path.field("burst"), message, hint);
            }
            match other {
                RateAlgorithm::SlidingWindow => QuotaAlgorithm::SlidingWindow { requests, window },
                RateAlgorithm::FixedWindow | RateAlgorithm::TokenBucket => {
                    QuotaAlgorithm::FixedWindow { requests, window }
                }
            }
        }
    };
    let cost = cost?;
    if let Some(said) = said.cost.as_ref().filter(|_| cost > algorithm.capacity()) {
        let message = format!("no request ever passes: at most {} are there at once", algorithm.capacity());
        findings.error(code::INVALID_VALUE, said.place, &path.field("cost"), message, "");
        return None;
    }
    Some(Quota {
        name: format!("{of}/{}", said.name.value),
        algorithm,
        key: key?,
        lacking: match said.lacking.as_ref().map(|said| said.value) {
            Some(RateLacking::Together) => Lacking::Together,
            Some(RateLacking::Uncounted) | None => Lacking::Uncounted,
        },
        cost,
        is_shadow: said.shadow.as_ref().is_some_and(|flag| flag.value),
        keys_max: keys_max?,
    })
}

/// A name, or `[a][b]` for one within another, as conditions of Istio write it.
fn claim(name: &str) -> Option<Vec<String>> {
    let Some(inner) = name.strip_prefix('[') else {
        return Some(vec![name.to_owned()]).filter(|_| !name.is_empty());
    };
    let names: Vec<String> = inner.strip_suffix(']')?.split("][").map(str::to_owned).collect();
    let is_one = |name: &String| !name.is_empty() && !name.contains(['[', ']']);
    Some(names).filter(|names| names.iter().all(is_one))
}

fn key(said: &RateLimitKey, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<QuotaKey> {
    let source = said.from.value;
    let has_name = matches!(source, RateKey::Header | RateKey::Cookie | RateKey::Claim);
    if let Some(name) = said.name.as_ref().filter(|_| !has_name) {
        let message = "this part of a key has no name";
        findings.error(code::NO_EFFECT, name.place, &path.field("name"), message, "remove it");
    }
    if let Some(bits) = said.ipv6_bits.as_ref().filter(|_| source != RateKey::Address) {
        let message = "only addresses have bits";
        findings.error(code::NO_EFFECT, bits.place, &path.field("ipv6Bits"), message, "remove it");
    }
    let mut name = || {
        if said.name.is_none() {
            let message = "the field 'name' is missing";
            findings.error(code::MISSING_FIELD, said.place, path, message, "");
        }
        said.name.as_ref()
    };
    match source {
        RateKey::Address => {
            let bits = said.ipv6_bits.as_ref();
            let ipv6_bits = bits.map_or(Some(defaults::QUOTA_IPV6_BITS), |bits| {
                u8::try_from(bits.value).ok().filter(|bits| (1..=128).contains(bits))
            });
            if let (None, Some(bits)) = (ipv6_bits, bits) {
                let message = format!("{} is out of range: 1 to 128", bits.value);
                findings.error(code::INVALID_VALUE, bits.place, &path.field("ipv6Bits"), message, "");
            }
            Some(QuotaKey::Address { ipv6_bits: ipv6_bits? })
        }
        RateKey::Header => {
            let name = name()?;
            let header = name.value.parse::<HeaderName>().ok();
            if header.is_none() {
                let message = format!("'{}' is no name of a header", name.value);
                findings.error(code::INVALID_VALUE, name.place, &path.field("name"), message, "");
            }
            header.map(QuotaKey::Header)
        }
        RateKey::Cookie => name().map(|name| QuotaKey::Cookie(name.value.clone())),
        RateKey::Path => Some(QuotaKey::Path),
        RateKey::Method => Some(QuotaKey::Method),
        RateKey::Session => Some(QuotaKey::Session),
        RateKey::Claim => {
            let name = name()?;
            let claim = claim(&name.value);
            if claim.is_none() {
                let message = format!("'{}' is no name of a claim", name.value);
                let hint = "a name, or [a][b] for a claim within another";
                findings.error(code::INVALID_VALUE, name.place, &path.field("name"), message, hint);
            }
            claim.map(QuotaKey::Claim)
        }
    }
}
