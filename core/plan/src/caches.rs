//! What is kept of answers: what `ResponseCache` documents mean.
//!
//! One with a target is for a VirtualService or one of its routes, and the more specific wins. One without is for the
//! process: how much memory there is, and how long what is in a class is fresh.

mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::HeaderName;
use naru_resource::response_cache::{CacheKey, ResponseCache, ResponseCacheSpec};
use naru_resource::{Flag, Number, Place, Resources, Text};
use naru_spec::{CacheKeyParts, CacheKeyQuery, CachePolicy, CacheStore, Path, StatusRange, code, defaults};

use crate::account::{Account, DOCUMENT, Idle, Said};
use crate::attached::{self, RouteKey, Target};
use crate::findings::Findings;
use crate::guards;
use crate::registry::Registry;

const FIELD: &str = "responseCache";

#[derive(Debug, Default)]
pub(crate) struct Caches {
    store: Option<CacheStore>,
    of_routes: BTreeMap<RouteKey, (CachePolicy, Place)>,
}

impl Caches {
    pub fn of(
        resources: &Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Caches {
        let mut caches = Caches::default();
        let mut classes: BTreeMap<String, Duration> =
            defaults::CACHE_CLASSES.iter().map(|(name, ttl)| ((*name).to_owned(), *ttl)).collect();
        let (of_process, of_routes): (Vec<_>, Vec<_>) =
            resources.response_caches.iter().partition(|document| document.spec.target_ref.is_none());
        for (at, document) in of_process.iter().enumerate() {
            if let Some(before) = at.checked_sub(1).and_then(|before| of_process.get(before)) {
                let other = findings.locate(before.meta.name.place);
                let message = format!("two documents are for the cache of the process: the other is {other}");
                let spec = Path::ROOT.field("spec");
                findings.error(code::CONFLICT, document.meta.name.place, &spec, message, "join them");
            }
            caches.process(&document.spec, &mut classes, findings);
        }
        for document in of_routes {
            caches.route(document, &classes, resources, registry, account, findings);
        }
        caches
    }

    fn process(
        &mut self,
        spec: &ResponseCacheSpec,
        classes: &mut BTreeMap<String, Duration>,
        findings: &mut Findings<'_>,
    ) {
        let path = Path::ROOT.field("spec");
        for (field, place) in fields_of_routes(spec) {
            let message = format!("'{field}' is for routes");
            let hint = "say it in a ResponseCache with a targetRef";
            findings.error(code::NO_EFFECT, place, &path.field(field), message, hint);
        }
        if let Some(bytes) = &spec.max_bytes {
            let most = u64::try_from(bytes.value).ok();
            let most = most.map(|bytes_max| CacheStore { bytes_max, ..CacheStore::default() });
            match most.filter(|store| store.problems().is_empty()) {
                Some(store) => self.store = Some(store),
                None => {
                    let message = format!("{} bytes are too few for a cache", bytes.value);
                    let hint = format!("{} or more", defaults::CACHE_BYTES_MIN);
                    findings.error(code::INVALID_VALUE, bytes.place, &path.field("maxBytes"), message, hint);
                }
            }
        }
        for (name, class) in &spec.classes {
            classes.insert(name.value.clone(), class.ttl.value);
        }
        if let Some(said) = &spec.tiers {
            let mut store = self.store.take().unwrap_or_default();
            (store.disk, store.redis) = tiers::of(said, findings);
            self.store = Some(store);
        }
    }

    fn route(
        &mut self,
        document: &ResponseCache,
        classes: &BTreeMap<String, Duration>,
        resources: &Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) {
        let (spec, meta) = (&document.spec, &document.meta);
        let path = Path::ROOT.field("spec");
        let of_process = [
            ("maxBytes", spec.max_bytes.map(|bytes| bytes.place)),
            ("classes", spec.classes.first().map(|(name, _)| name.place)),
            ("tiers", spec.tiers.as_ref().map(|tiers| tiers.place)),
        ];
        for (field, place) in of_process.into_iter().filter_map(|(field, place)| Some((field, place?))) {
            let message = format!("'{field}' is for the process as a whole");
            let hint = "say it in a ResponseCache without a targetRef";
            findings.error(code::NO_EFFECT, place, &path.field(field), message, hint);
        }
        let policy = policy(spec, classes, findings);
        let Some(reference) = &spec.target_ref else { return };
        attached::check_group(reference, findings);
        if !attached::is_of_routes(&reference.kind) {
            let message = format!("a ResponseCache cannot be attached to a {}", reference.kind.value);
            let hint = "attach it to a VirtualService, to one of its routes by sectionName, or to nothing for the process";
            let path = path.field("targetRef.kind");
            return findings.error(code::UNKNOWN_VALUE, reference.kind.place, &path, message, hint);
        }
        let namespace = meta.namespace();
        let target = Target::of(reference, "ResponseCache", namespace, resources, registry, findings);
        let Some(Target::Route(key)) = target else { return };
        let place = meta.name.place;
        if let Some((_, before)) = self.of_routes.get(&key) {
            let other = findings.locate(*before);
            let message = format!("two documents are for the same routes: the other is {other}");
            return findings.error(code::CONFLICT, place, &path, message, "join them");
        }
        let said = Said {
            place,
            field: FIELD,
            path: DOCUMENT.to_owned(),
            route: Some(key.clone()),
            otherwise: Idle::SendsNothing,
        };
        account.expect(said);
        self.of_routes.insert(key, (policy, place));
    }

    /// How much is kept, if it is said.
    pub fn store(&self) -> Option<CacheStore> {
        self.store.clone()
    }

    /// Those that routes are in.
    pub fn classes(&self) -> BTreeSet<&str> {
        self.of_routes.values().map(|(policy, _)| policy.class.as_str()).collect()
    }

    /// Of one route: that of the most specific that has one.
    pub fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> Option<Box<CachePolicy>> {
        let mut found = keys.iter().filter_map(|key| self.of_routes.get(key));
        let (policy, place) = found.next()?;
        account.take(*place, FIELD);
        found.for_each(|(_, other)| account.pass(*other, FIELD, Idle::Outdone));
        Some(Box::new(policy.clone()))
    }
}

fn policy(
    spec: &ResponseCacheSpec,
    classes: &BTreeMap<String, Duration>,
    findings: &mut Findings<'_>,
) -> CachePolicy {
    let path = Path::ROOT.field("spec");
    let usual = CachePolicy::default();
    let is_on = |flag: &Option<Flag>| flag.as_ref().is_some_and(|flag| flag.value);
    let mut lifetime = spec.ttl.map(|ttl| ttl.value);
    let class = match &spec.class {
        None => usual.class.clone(),
        Some(name) => {
            match classes.get(&name.value) {
                Some(of_class) => lifetime = lifetime.or(Some(*of_class)),
                None => {
                    let known: Vec<&str> = classes.keys().map(String::as_str).collect();
                    let message = format!("there is no class '{}'", name.value);
                    let hint = format!(
                        "one of {}; classes stand in a ResponseCache without a targetRef",
                        known.join(", ")
                    );
                    findings.error(code::UNKNOWN_REFERENCE, name.place, &path.field("class"), message, hint);
                }
            }
            name.value.clone()
        }
    };
    if let Some(flag) = spec.override_headers.filter(|flag| flag.value && lifetime.is_none()) {
        let message = "there is nothing that could take the place of what answers say";
        let path = path.field("overrideHeaders");
        findings.error(code::NO_EFFECT, flag.place, &path, message, "say a ttl or a class");
    }
    let mut negative = Vec::new();
    for (at, said) in spec.negative.iter().enumerate() {
        let of_statuses = path.field("negative");
        let of_statuses = of_statuses.at(at);
        let of_statuses = of_statuses.field("statuses");
        let ranges = said.statuses.iter().enumerate();
        let ranges: Vec<StatusRange> =
            ranges.filter_map(|(at, text)| guards::range(text, &of_statuses.at(at), findings)).collect();
        negative.extend(ranges.into_iter().map(|range| (range, said.ttl.value)));
    }
    let coalesce = match &spec.coalesce {
        None => usual.coalesce,
        Some(said) if is_on(&said.disabled) => None,
        Some(said) => said.max_wait.map(|wait| wait.value).or(usual.coalesce),
    };
    let bytes = count(&spec.max_object_bytes, u64::MAX, &path.field("maxObjectBytes"), findings);
    let variants = count(&spec.max_variants, u64::from(u32::MAX), &path.field("maxVariants"), findings);
    CachePolicy {
        class,
        overrides: is_on(&spec.override_headers) && lifetime.is_some(),
        lifetime,
        negative,
        stale_while_revalidate: spec.stale_while_revalidate.map(|time| time.value),
        stale_if_error: spec.stale_if_error.map(|time| time.value),
        key: spec.key.as_ref().map(|key| key_of(key, findings)).unwrap_or_default(),
        coalesce,
        object_bytes_max: bytes.unwrap_or(usual.object_bytes_max),
        variants_max: variants.and_then(|most| u32::try_from(most).ok()).unwrap_or(usual.variants_max),
        obeys_requests: !is_on(&spec.ignore_client_directives),
        tells: !is_on(&spec.hide_status),
    }
}

fn key_of(said: &CacheKey, findings: &mut Findings<'_>) -> CacheKeyParts {
    let path = Path::ROOT.field("spec.key");
    let of_headers = path.field("headers");
    let headers = said.headers.iter().enumerate().filter_map(|(at, text)| {
        let name = HeaderName::from_bytes(text.to_ascii_lowercase().as_bytes());
        if name.is_err() {
            let message = format!("'{}' cannot be the name of a header", text.value);
            findings.error(code::INVALID_VALUE, text.place, &of_headers.at(at), message, "");
        }
        name.ok()
    });
    let headers = headers.collect();
    let all = |texts: &[Text]| texts.iter().map(|text| text.value.clone()).collect();
    let query = match &said.query {
        Some(query) if !query.only.is_empty() && !query.without.is_empty() => {
            let message = "only one of only and without can be said";
            findings.error(code::CONFLICTING_FIELDS, query.place, &path.field("query"), message, "");
            CacheKeyQuery::All
        }
        Some(query) if !query.without.is_empty() => CacheKeyQuery::Without(all(&query.without)),
        Some(query) => CacheKeyQuery::Only(all(&query.only)),
        None => CacheKeyQuery::All,
    };
    CacheKeyParts { headers, cookies: all(&said.cookies), query }
}

/// At least one.
fn count(said: &Option<Number>, most: u64, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<u64> {
    let said = said.as_ref()?;
    let count = u64::try_from(said.value).ok().filter(|count| *count > 0 && *count <= most);
    if count.is_none() {
        let message = format!("{} is out of range", said.value);
        findings.error(code::INVALID_VALUE, said.place, path, message, "1 or more");
    }
    count
}

fn fields_of_routes(spec: &ResponseCacheSpec) -> Vec<(&'static str, Place)> {
    let said = [
        ("class", spec.class.as_ref().map(|said| said.place)),
        ("ttl", spec.ttl.map(|said| said.place)),
        ("overrideHeaders", spec.override_headers.map(|said| said.place)),
        ("negative", spec.negative.first().map(|said| said.place)),
        ("staleWhileRevalidate", spec.stale_while_revalidate.map(|said| said.place)),
        ("staleIfError", spec.stale_if_error.map(|said| said.place)),
        ("key", spec.key.as_ref().map(|said| said.place)),
        ("coalesce", spec.coalesce.as_ref().map(|said| said.place)),
        ("maxObjectBytes", spec.max_object_bytes.map(|said| said.place)),
        ("maxVariants", spec.max_variants.map(|said| said.place)),
        ("ignoreClientDirectives", spec.ignore_client_directives.map(|said| said.place)),
        ("hideStatus", spec.hide_status.map(|said| said.place)),
    ];
    said.into_iter().filter_map(|(field, place)| Some((field, place?))).collect()
}
