//! What rules of an HTTPRoute or a GRPCRoute are in Istio's words: one route for each match, with its rank among others.
//!
//! Comes in: a rule. Goes out: routes that are read as those of a VirtualService are, so that everything that can be
//! attached to them acts. What cannot be is told with its line. Source: `apis/v1/httproute_types.go` and
//! `grpcroute_types.go` of sigs.k8s.io/gateway-api; Istio's own translation for what the API leaves open.

use std::time::Duration;

use naru_resource::gateway_api::{
    ApiGrpcMatch, ApiGrpcRule, ApiHttpMatch, ApiHttpRule, BackendRef, Filter, FilterKind, HeaderModifier,
    NamedTest, PathKind, PathModifier, PathModifierKind, SessionPersistence, TestKind,
};
use naru_resource::virtual_service::{
    Beyond, CorsPolicy, Destination, HeaderOperations, Headers, HttpDestination, HttpDirectResponse,
    HttpMatch, HttpMirror, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, PathChange, Percent, Persistence,
    PortSelector,
};
use naru_resource::{Number, Place, Placed, Resources, StringMatch, Test, Text};
use naru_spec::{Path, defaults};

use super::attach::{Route, backend_of};
use super::tell::Tell;

/// Of two matches the one with the greater rank is asked first: the kind of its path, its length, whether it names a
/// method, how many headers and parameters it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    path: u8,
    length: usize,
    /// Of a GRPCRoute.
    method_length: usize,
    has_method: bool,
    headers: usize,
    params: usize,
}

/// A route for one match, or for several of one rank that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub rank: Rank,
    pub route: HttpRoute,
}

fn text(value: impl Into<String>, place: Place) -> Text {
    Placed { value: value.into(), place }
}

fn number(value: i64, place: Place) -> Number {
    Placed { value, place }
}

/// What a rule says beside its matches.
struct Said<'a> {
    name: Option<&'a Text>,
    filters: &'a [Filter],
    backends: &'a [BackendRef],
    persistence: Option<&'a SessionPersistence>,
    place: Place,
}

/// The routes of a route's rules. `tell` hears what is wrong with them.
pub(super) fn routes(
    route: Route<'_>,
    resources: &Resources,
    tell: &mut Tell<'_, '_>,
) -> Vec<(usize, Ranked)> {
    let mut found = Vec::new();
    match route {
        Route::Http(document) => {
            // The API's own default: all paths, and nobody to send to.
            let default = [ApiHttpRule {
                place: document.spec.place,
                name: None,
                matches: Vec::new(),
                filters: Vec::new(),
                backend_refs: Vec::new(),
                timeouts: None,
                retry: None,
                session_persistence: None,
            }];
            let said = document.spec.rules.as_slice();
            let rules = if said.is_empty() { default.as_slice() } else { said };
            for (at, rule) in rules.iter().enumerate() {
                let of_rules = Path::ROOT.field("spec.rules");
                let path = of_rules.at(at);
                let all = http_rule(route, rule, resources, &path, tell);
                found.extend(all.into_iter().map(|ranked| (at, ranked)));
            }
        }
        Route::Grpc(document) => {
            for (at, rule) in document.spec.rules.iter().enumerate() {
                let of_rules = Path::ROOT.field("spec.rules");
                let path = of_rules.at(at);
                let all = grpc_rule(route, rule, resources, &path, tell);
                found.extend(all.into_iter().map(|ranked| (at, ranked)));
            }
        }
        Route::Tls(_) | Route::Tcp(_) => {}
    }
    found
}

fn http_rule(
    route: Route<'_>,
    rule: &ApiHttpRule,
    resources: &Resources,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Vec<Ranked> {
    let said = Said {
        name: rule.name.as_ref(),
        filters: &rule.filters,
        backends: &rule.backend_refs,
        persistence: rule.session_persistence.as_ref(),
        place: rule.place,
    };
    let mut base = base(route, &said, resources, path, tell);
    if !base.route.is_empty() {
        let timeouts = rule.timeouts.as_ref();
        base.timeout = timeouts.and_then(|timeouts| timeouts.request);
        base.retries = retries(rule, path, tell);
    }
    let mut matches: Vec<(Rank, HttpMatch, Option<String>)> = Vec::new();
    let of_matches = path.field("matches");
    for (at, said) in rule.matches.iter().enumerate() {
        matches.extend(http_match(said, &of_matches.at(at), tell));
    }
    if rule.matches.is_empty() {
        matches.push(anything(rule.place));
    }
    finish(base, &said, matches, path, tell)
}

fn grpc_rule(
    route: Route<'_>,
    rule: &ApiGrpcRule,
    resources: &Resources,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Vec<Ranked> {
    let said = Said {
        name: rule.name.as_ref(),
        filters: &rule.filters,
        backends: &rule.backend_refs,
        persistence: rule.session_persistence.as_ref(),
        place: rule.place,
    };
    for (at, filter) in rule.filters.iter().enumerate() {
        if matches!(
            filter.kind.value,
            FilterKind::RequestRedirect | FilterKind::UrlRewrite | FilterKind::Cors
        ) {
            let filters = path.field("filters");
            let message = "a GRPCRoute has no such filter";
            tell.error(filter.kind.place, &filters.at(at).field("type"), message, "");
        }
    }
    let base = base(route, &said, resources, path, tell);
    let mut matches: Vec<(Rank, HttpMatch, Option<String>)> = Vec::new();
    let of_matches = path.field("matches");
    for (at, said) in rule.matches.iter().enumerate() {
        matches.extend(grpc_match(said, &of_matches.at(at), tell));
    }
    if rule.matches.is_empty() {
        matches.push(anything(rule.place));
    }
    finish(base, &said, matches, path, tell)
}

/// Gives each match its route, and to neighbours of one rank one together, where the path that is matched has no part in
/// what is done.
fn finish(
    base: HttpRoute,
    said: &Said<'_>,
    matches: Vec<(Rank, HttpMatch, Option<String>)>,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Vec<Ranked> {
    let rewrite = change_of(said.filters, FilterKind::UrlRewrite);
    let redirect = change_of(said.filters, FilterKind::RequestRedirect);
    let is_by_prefix =
        |change: Option<&PathModifier>| change.is_some_and(|c| c.kind.value == PathModifierKind::Prefix);
    let needs_prefix = is_by_prefix(rewrite) || is_by_prefix(redirect);
    let mut found: Vec<Ranked> = Vec::new();
    for (rank, block, prefix) in matches {
        if let Some(last) = found.last_mut()
            && last.rank == rank
            && !needs_prefix
        {
            last.route.matches.push(block);
            continue;
        }
        let mut route = base.clone();
        if let Some(beyond) = &mut route.beyond {
            beyond.rewrite = rewrite.and_then(|change| path_change(change, prefix.as_deref(), path, tell));
            beyond.redirect = redirect.and_then(|change| path_change(change, prefix.as_deref(), path, tell));
        }
        route.matches = vec![block];
        found.push(Ranked { rank, route });
    }
    found
}

fn change_of(filters: &[Filter], kind: FilterKind) -> Option<&PathModifier> {
    let mut filters = filters.iter().filter(|filter| filter.kind.value == kind);
    filters.find_map(|filter| {
        let of_rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        let of_redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        of_rewrite.or(of_redirect)
    })
}

fn path_change(
    said: &PathModifier,
    matched: Option<&str>,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Option<PathChange> {
    let path = path.field("filters");
    match said.kind.value {
        PathModifierKind::Full => match &said.replace_full_path {
            Some(full) => Some(PathChange::Full(full.value.clone())),
            None => {
                tell.error(said.place, &path, "ReplaceFullPath needs 'replaceFullPath'", "");
                None
            }
        },
        PathModifierKind::Prefix => match (&said.replace_prefix_match, matched) {
            (Some(by), Some(matched)) => {
                let by = by.value.trim_end_matches('/').to_owned();
                Some(PathChange::Prefix { matched: matched.to_owned(), by })
            }
            (None, _) => {
                tell.error(said.place, &path, "ReplacePrefixMatch needs 'replacePrefixMatch'", "");
                None
            }
            (Some(_), None) => {
                let message =
                    "there is no prefix to be replaced: a match of the rule has another kind of path";
                tell.error(said.place, &path, message, "every match of the rule needs path.type: PathPrefix");
                None
            }
        },
    }
}

fn anything(place: Place) -> (Rank, HttpMatch, Option<String>) {
    let rank = Rank { path: 0, length: 1, method_length: 0, has_method: false, headers: 0, params: 0 };
    (rank, empty_match(place), Some(String::new()))
}

fn empty_match(place: Place) -> HttpMatch {
    HttpMatch {
        place,
        name: None,
        uri: None,
        ignore_uri_case: None,
        scheme: None,
        method: None,
        authority: None,
        headers: Vec::new(),
        without_headers: Vec::new(),
        query_params: Vec::new(),
        port: None,
        source_labels: Vec::new(),
        source_namespace: None,
        gateways: Vec::new(),
        stat_prefix: None,
    }
}

/// Those that the API knows (`HTTPMethod`).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

fn http_match(
    said: &ApiHttpMatch,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Option<(Rank, HttpMatch, Option<String>)> {
    let mut block = empty_match(said.place);
    let kind = said.path.as_ref().and_then(|path| path.kind).map_or(PathKind::Prefix, |kind| kind.value);
    let value = said.path.as_ref().and_then(|path| path.value.as_ref());
    let (value, place) = value.map_or(("/", said.place), |value| (value.as_str(), value.place));
    if kind != PathKind::Regex && !value.starts_with('/') {
        let message = format!("the path '{value}' does not begin with a slash");
        tell.error(place, &path.field("path.value"), &message, "");
        return None;
    }
    let prefix = value.trim_end_matches('/');
    let (rank, test, replaceable) = match kind {
        PathKind::Exact => (3, Test::Exact(value.to_owned()), None),
        // One slash at the end means the same as none.
        PathKind::Prefix => (2, Test::Segments(prefix.to_owned()), Some(prefix.to_owned())),
        PathKind::Regex => (1, Test::Regex(value.to_owned()), None),
    };
    let length = if kind == PathKind::Prefix { prefix.len().max(1) } else { value.len() };
    // All paths: less than any expression.
    let rank = if kind == PathKind::Prefix && prefix.is_empty() { 0 } else { rank };
    block.uri = Some(StringMatch { place, test });
    if let Some(method) = said.method.as_ref().filter(|method| !METHODS.contains(&method.as_str())) {
        let message = format!("'{}' is not a method that a route can ask for", method.value);
        tell.error(method.place, &path.field("method"), &message, &format!("one of {}", METHODS.join(", ")));
        return None;
    }
    block.method = said
        .method
        .as_ref()
        .map(|method| StringMatch { place: method.place, test: Test::Exact(method.value.clone()) });
    block.headers = headers(&said.headers);
    // Of several for one parameter the first counts, as of headers.
    for param in &said.query_params {
        if !block.query_params.iter().any(|(name, _)| name.value == param.name.value) {
            block.query_params.push((param.name.clone(), test_of(param)));
        }
    }
    let rank = Rank {
        path: rank,
        length,
        method_length: 0,
        has_method: block.method.is_some(),
        headers: block.headers.len(),
        params: block.query_params.len(),
    };
    Some((rank, block, replaceable))
}

fn test_of(said: &NamedTest) -> StringMatch {
    let value = said.value.value.clone();
    let test = match said.kind.map_or(TestKind::Exact, |kind| kind.value) {
        TestKind::Exact => Test::Exact(value),
        TestKind::Regex => Test::Regex(value),
    };
    StringMatch { place: said.value.place, test }
}

/// Names of headers are the same in any case, and the first of several tests of one counts.
fn headers(said: &[NamedTest]) -> Vec<(Text, StringMatch)> {
    let mut found: Vec<(Text, StringMatch)> = Vec::new();
    for header in said {
        let name = text(header.name.to_ascii_lowercase(), header.name.place);
        if !found.iter().any(|(known, _)| known.value == name.value) {
            found.push((name, test_of(header)));
        }
    }
    found
}

fn grpc_match(
    said: &ApiGrpcMatch,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Option<(Rank, HttpMatch, Option<String>)> {
    let (mut rank, mut block, _) = anything(said.place);
    if let Some(method) = &said.method {
        let kind = method.kind.map_or(TestKind::Exact, |kind| kind.value);
        let of = |said: &Option<Text>| {
            said.as_ref().map(|said| said.value.clone()).filter(|said| !said.is_empty())
        };
        let (service, name) = (of(&method.service), of(&method.method));
        let lengths = (service.as_ref().map_or(0, String::len), name.as_ref().map_or(0, String::len));
        let test = match (kind, service, name) {
            (_, None, None) => {
                let message = "a method is matched by its service, its own name, or both";
                tell.error(method.place, &path.field("method"), message, "");
                return None;
            }
            (TestKind::Exact, Some(service), Some(name)) => Test::Exact(format!("/{service}/{name}")),
            (TestKind::Exact, Some(service), None) => Test::Prefix(format!("/{service}/")),
            (TestKind::Exact, None, Some(name)) => Test::Regex(format!("/[^/]+/{}", escaped(&name))),
            (TestKind::Regex, service, name) => {
                let any = || "[^/]+".to_owned();
                let group = |said: Option<String>| said.map_or_else(any, |said| format!("(?:{said})"));
                Test::Regex(format!("/{}/{}", group(service), group(name)))
            }
        };
        rank.path = if kind == TestKind::Exact { 3 } else { 2 };
        (rank.length, rank.method_length) = lengths;
        block.uri = Some(StringMatch { place: method.place, test });
    }
    block.headers = headers(&said.headers);
    rank.headers = block.headers.len();
    Some((rank, block, None))
}

/// A text as an expression for it.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && c.is_ascii() && c != '_' && c != '/' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// All of a rule but its matches.
fn base(
    route: Route<'_>,
    said: &Said<'_>,
    resources: &Resources,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> HttpRoute {
    let meta = route.meta();
    let place = said.place;
    let mut built = HttpRoute {
        place,
        name: said.name.cloned(),
        matches: Vec::new(),
        route: Vec::new(),
        redirect: None,
        direct_response: None,
        delegate: None,
        rewrite: None,
        timeout: None,
        retries: None,
        fault: None,
        mirror: None,
        mirrors: Vec::new(),
        mirror_percent: None,
        mirror_percentage: None,
        cors_policy: None,
        headers: None,
        beyond: None,
    };
    let mut beyond = Beyond {
        place,
        kind: route.kind(),
        namespace: meta.namespace().to_owned(),
        name: meta.name.value.clone(),
        path: path.to_string(),
        rewrite: None,
        redirect: None,
        persistence: None,
    };
    filters(route, said.filters, resources, &mut built, &path.field("filters"), tell);
    if let Some(said) = said.persistence {
        beyond.persistence = persistence(said, &beyond, &path.field("sessionPersistence"), tell);
    }
    if built.redirect.is_none() {
        built.route = destinations(route, said, resources, path, tell);
        if built.route.is_empty() {
            // The API: 500 where nobody is there to be sent to.
            built.direct_response =
                Some(HttpDirectResponse { place, status: number(500, place), body: None });
            built.rewrite = None;
            built.mirrors.clear();
            beyond.persistence = None;
        }
    } else if let Some(first) = said.backends.first() {
        let message = "a rule that redirects sends nothing on";
        tell.error(first.place, &path.field("backendRefs"), message, "leave them out");
    }
    built.beyond = Some(Box::new(beyond));
    built
}

fn destination(host: String, port: Option<u16>, backend: &BackendRef) -> Destination {
    let place = backend.name.place;
    Destination {
        place,
        host: text(host, place),
        subset: None,
        port: port.map(|port| {
            let place = backend.port.map_or(place, |said| said.place);
            PortSelector { place, number: number(i64::from(port), place) }
        }),
    }
}

/// Who takes what share. Whoever is not there was told of.
fn destinations(
    route: Route<'_>,
    said: &Said<'_>,
    resources: &Resources,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Vec<HttpDestination> {
    let weight = |backend: &BackendRef| backend.weight.map_or(1, |said| said.value);
    if said.backends.iter().all(|backend| weight(backend) == 0) {
        return Vec::new();
    }
    let refs = path.field("backendRefs");
    let mut found = Vec::new();
    for (at, backend) in said.backends.iter().enumerate() {
        let found_at = backend_of(route.kind(), route.meta().namespace(), backend, resources);
        let Ok((host, port)) = found_at else { continue };
        let path = refs.at(at);
        let place = backend.weight.map_or(backend.place, |said| said.place);
        found.push(HttpDestination {
            place: backend.place,
            destination: destination(host, port, backend),
            weight: Some(number(weight(backend), place)),
            headers: backend_headers(&backend.filters, &path.field("filters"), tell),
        });
    }
    found
}

fn operations(said: &HeaderModifier) -> HeaderOperations {
    // A value of the API is what it says: Envoy's operators are none there.
    let pairs = |list: &[naru_resource::gateway_api::HeaderValue]| {
        let pairs = list
            .iter()
            .map(|header| (header.name.clone(), text(header.value.replace('%', "%%"), header.value.place)));
        pairs.collect()
    };
    HeaderOperations {
        place: said.place,
        set: pairs(&said.set),
        add: pairs(&said.add),
        remove: said.remove.clone(),
    }
}

fn headers_of(headers: &mut Option<Headers>, place: Place) -> &mut Headers {
    headers.get_or_insert(Headers { place, request: None, response: None })
}

fn backend_headers(filters: &[Filter], path: &Path<'_>, tell: &mut Tell<'_, '_>) -> Option<Headers> {
    let mut headers = None;
    for (at, filter) in filters.iter().enumerate() {
        let place = filter.place;
        match filter.kind.value {
            FilterKind::RequestHeaderModifier => {
                let said = filter.request_header_modifier.as_ref().map(operations);
                headers_of(&mut headers, place).request = said;
            }
            FilterKind::ResponseHeaderModifier => {
                let said = filter.response_header_modifier.as_ref().map(operations);
                headers_of(&mut headers, place).response = said;
            }
            _ => {
                let message = "naru does not act on this filter for one backend of a rule";
                tell.error(filter.kind.place, &path.at(at), message, "say it for the whole rule");
            }
        }
    }
    headers
}

fn filters(
    route: Route<'_>,
    said: &[Filter],
    resources: &Resources,
    built: &mut HttpRoute,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) {
    for (at, filter) in said.iter().enumerate() {
        let path = path.at(at);
        let kind = filter.kind.value;
        let is_twice = said.iter().take(at).any(|before| before.kind.value == kind);
        if is_twice && kind != FilterKind::RequestMirror {
            tell.error(filter.kind.place, &path, "this filter is there twice", "join them");
        }
        let is_said = match kind {
            FilterKind::RequestHeaderModifier => filter.request_header_modifier.is_some(),
            FilterKind::ResponseHeaderModifier => filter.response_header_modifier.is_some(),
            FilterKind::RequestMirror => filter.request_mirror.is_some(),
            FilterKind::RequestRedirect => filter.request_redirect.is_some(),
            FilterKind::UrlRewrite => filter.url_rewrite.is_some(),
            FilterKind::Cors => filter.cors.is_some(),
            FilterKind::ExtensionRef => {
                let message = "naru has no filters of its own in the Gateway API";
                tell.error(
                    filter.kind.place,
                    &path,
                    message,
                    "attach its policies to the Gateway or the route",
                );
                continue;
            }
        };
        if !is_said {
            tell.error(filter.place, &path, "the filter does not say what its type asks for", "");
            continue;
        }
        match kind {
            FilterKind::RequestHeaderModifier => {
                let said = filter.request_header_modifier.as_ref().map(operations);
                headers_of(&mut built.headers, filter.place).request = said;
            }
            FilterKind::ResponseHeaderModifier => {
                let said = filter.response_header_modifier.as_ref().map(operations);
                headers_of(&mut built.headers, filter.place).response = said;
            }
            FilterKind::RequestMirror => {
                built.mirrors.extend(mirror(route, filter, resources, &path, tell));
            }
            FilterKind::RequestRedirect => built.redirect = redirect(filter),
            FilterKind::UrlRewrite => {
                let hostname = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.hostname.clone());
                built.rewrite = Some(HttpRewrite {
                    place: filter.place,
                    uri: None,
                    authority: hostname,
                    uri_regex_rewrite: None,
                });
            }
            FilterKind::Cors => built.cors_policy = filter.cors.as_ref().map(cors),
            FilterKind::ExtensionRef => {}
        }
    }
    if let (Some(_), Some(rewrite)) = (&built.redirect, &built.rewrite) {
        tell.error(rewrite.place, path, "a rule redirects or rewrites, and not both", "");
        built.rewrite = None;
    }
    if built.redirect.is_some() {
        built.mirrors.clear();
    }
}

fn mirror(
    route: Route<'_>,
    filter: &Filter,
    resources: &Resources,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Option<HttpMirror> {
    let said = filter.request_mirror.as_ref()?;
    let (host, port) =
        backend_of(route.kind(), route.meta().namespace(), &said.backend_ref, resources).ok()?;
    let share = match (&said.percent, &said.fraction) {
        (Some(percent), Some(_)) => {
            tell.error(percent.place, path, "only one of percent and fraction can be said", "");
            return None;
        }
        (Some(percent), None) => Some((percent.value as f64, percent.place)),
        (None, Some(fraction)) => {
            let of = fraction.denominator.map_or(100, |said| said.value);
            if of <= 0 || fraction.numerator.value < 0 || fraction.numerator.value > of {
                tell.error(
                    fraction.place,
                    &path.field("requestMirror.fraction"),
                    "it is no part of a whole",
                    "",
                );
                return None;
            }
            Some((fraction.numerator.value as f64 * 100.0 / of as f64, fraction.place))
        }
        (None, None) => None,
    };
    Some(HttpMirror {
        place: said.place,
        destination: destination(host, port, &said.backend_ref),
        percentage: share.map(|(value, place)| Percent { place, value: Some(Placed { value, place }) }),
    })
}

fn redirect(filter: &Filter) -> Option<HttpRedirect> {
    use naru_resource::virtual_service::DerivePort;
    let said = filter.request_redirect.as_ref()?;
    // Without a port: that of the scheme that is said, or else the listener's.
    let derive = match (&said.port, &said.scheme) {
        (None, None) => Some(Placed { value: DerivePort::FromRequestPort, place: said.place }),
        _ => None,
    };
    Some(HttpRedirect {
        place: said.place,
        uri: None,
        authority: said.hostname.clone(),
        port: said.port,
        derive_port: derive,
        scheme: said.scheme.clone(),
        redirect_code: Some(said.status_code.unwrap_or(number(302, said.place))),
    })
}

fn cors(said: &naru_resource::gateway_api::CorsFilter) -> CorsPolicy {
    let origin = |origin: &Text| {
        let test = match origin.value.contains('*') {
            false => Test::Exact(origin.value.clone()),
            true if origin.value == "*" => Test::Regex(".*".to_owned()),
            true => {
                let parts: Vec<String> = origin.value.split('*').map(escaped).collect();
                Test::Regex(parts.join("[^/]*"))
            }
        };
        StringMatch { place: origin.place, test }
    };
    let age = said.max_age.map_or((5, said.place), |age| (u64::try_from(age.value).unwrap_or(5), age.place));
    CorsPolicy {
        place: said.place,
        allow_origin: Vec::new(),
        allow_origins: said.allow_origins.iter().map(origin).collect(),
        allow_methods: said.allow_methods.clone(),
        allow_headers: said.allow_headers.clone(),
        expose_headers: said.expose_headers.clone(),
        max_age: Some(Placed { value: Duration::from_secs(age.0), place: age.1 }),
        allow_credentials: said.allow_credentials,
        unmatched_preflights: None,
    }
}

/// Retries as they are said; how long one attempt may take holds for those of the mesh's default, too.
fn retries(rule: &ApiHttpRule, path: &Path<'_>, tell: &mut Tell<'_, '_>) -> Option<HttpRetry> {
    let timeouts = rule.timeouts.as_ref();
    let per_try = timeouts.and_then(|timeouts| timeouts.backend_request);
    let request = timeouts.and_then(|timeouts| timeouts.request);
    if let (Some(per_try), Some(request)) = (per_try, request)
        && per_try.value > request.value
        && !request.value.is_zero()
    {
        let message = "backendRequest cannot be longer than request";
        tell.error(per_try.place, &path.field("timeouts.backendRequest"), message, "");
    }
    let per_try = per_try.filter(|per_try| !per_try.value.is_zero());
    let place = rule.retry.as_ref().map_or(rule.place, |retry| retry.place);
    if rule.retry.is_none() && per_try.is_none() {
        return None;
    }
    let said = rule.retry.as_ref();
    let attempts = said.and_then(|said| said.attempts);
    let codes: Vec<String> =
        said.iter().flat_map(|said| &said.codes).map(|code| code.value.to_string()).collect();
    let on = (!codes.is_empty()).then(|| {
        let list = format!("connect-failure,refused-stream,unavailable,cancelled,{}", codes.join(","));
        text(list, place)
    });
    Some(HttpRetry {
        place,
        attempts: Some(attempts.unwrap_or(number(i64::from(defaults::MESH_RETRIES), place))),
        per_try_timeout: per_try,
        retry_on: on,
        retry_remote_localities: None,
        retry_ignore_previous_hosts: None,
        backoff: said.and_then(|said| said.backoff),
    })
}

fn persistence(
    said: &SessionPersistence,
    beyond: &Beyond,
    path: &Path<'_>,
    tell: &mut Tell<'_, '_>,
) -> Option<Persistence> {
    let is_header = match said.kind.as_ref().map(|kind| (kind.as_str(), kind.place)) {
        None | Some(("Cookie", _)) => false,
        Some(("Header", _)) => true,
        Some((other, place)) => {
            let message = format!("'{other}' is no kind of session");
            tell.error(place, &path.field("type"), &message, "Cookie or Header");
            return None;
        }
    };
    if let Some(idle) = &said.idle_timeout {
        let message = "naru does not act on 'idleTimeout' of a session";
        tell.error(idle.place, &path.field("idleTimeout"), message, "absoluteTimeout");
    }
    let lifetime_type = said.cookie_config.as_ref().and_then(|cookie| cookie.lifetime_type.as_ref());
    let is_permanent = match lifetime_type.map(|kind| (kind.as_str(), kind.place)) {
        None | Some(("Session", _)) => false,
        Some(("Permanent", place)) => {
            if said.absolute_timeout.is_none() {
                tell.error(
                    place,
                    &path.field("absoluteTimeout"),
                    "a permanent cookie needs 'absoluteTimeout'",
                    "",
                );
            }
            true
        }
        Some((other, place)) => {
            let message = format!("'{other}' is no lifetime of a cookie");
            tell.error(place, &path.field("cookieConfig.lifetimeType"), &message, "Session or Permanent");
            return None;
        }
    };
    if let Some(timeout) = said.absolute_timeout.filter(|_| !is_permanent) {
        let message = "naru does not end a session by itself: a cookie of the browser's session has no end";
        let hint = "cookieConfig: {lifetimeType: Permanent}";
        tell.error(timeout.place, &path.field("absoluteTimeout"), message, hint);
    }
    let name = match &said.session_name {
        Some(name) => name.value.clone(),
        None => format!("naru-{}-{}", beyond.namespace, beyond.name),
    };
    let is_possible = match is_header {
        true => ::http::HeaderName::from_bytes(name.as_bytes()).is_ok(),
        false => naru_spec::Cookie::new(name.as_str(), None, "/", Vec::new()).is_ok(),
    };
    if !is_possible {
        let message = format!("'{name}' cannot be the name of a header or a cookie");
        let place = said.session_name.as_ref().map_or(said.place, |name| name.place);
        tell.error(place, &path.field("sessionName"), &message, "");
        return None;
    }
    Some(Persistence {
        place: said.place,
        is_header,
        name,
        lifetime: said.absolute_timeout.map(|timeout| timeout.value).filter(|_| is_permanent && !is_header),
    })
}
