//! What naru says to naru in words of its own: where it stands, that nothing else is said beside it, and that it can be.
//!
//! What Envoy's API would refuse by its own rules is asked here. What only a whole configuration can tell is told by
//! [`naru_spec::Config::problems`], as of everything else.

use naru_spec::limits::Fault as LoadFault;
use naru_spec::{
    Action, Cluster, ClusterChoice, Config, Discovery, FilterChain, Forward, Http, Http2Settings, Invalid,
    Listener, LoadBalancing, LoadLimits, RouteTable, Rule, Severity, defaults, fault,
};

use super::clusters;
use super::listener::Ready;
use crate::encode;
use crate::findings::{Findings, code};
use crate::ours::{NAME, Part, Process, Shell, carry, pack, unpack};
use crate::proto::{Any, cluster as cluster_proto, hcm, listener as proto, route};
use naru_spec::Path;
use prost::Message as _;

/// Nothing where no part stands there; nothing and an error where it is wrong.
fn heard<T: Part>(
    any: Option<&Any>,
    check: fn(&T) -> Vec<Invalid>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Option<T>> {
    let part = match unpack::<T>(any?)? {
        Ok(part) => part,
        Err(text) => {
            findings
                .invalid(path, Invalid::new(text).hint("the control plane may be another version of naru"));
            return Some(None);
        }
    };
    let problems = check(&part);
    let is_fine = problems.is_empty();
    problems.into_iter().for_each(|invalid| findings.invalid(path, invalid));
    Some(Some(part).filter(|_| is_fine))
}

fn says_more(path: &Path<'_>, findings: &mut Findings<'_>) {
    let text = "what is said in naru's own words is not said in Envoy's, too";
    findings.error(path, code::CONFLICTING_FIELDS, text, "");
}

/// How requests are read, without their routes. Nothing where Envoy's words say it.
pub(super) fn http(
    said: &hcm::HttpConnectionManager,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Http> {
    use hcm::http_connection_manager::RouteSpecifier;
    let any = said.http_filters.iter().find_map(|filter| match &filter.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(any)) if filter.name == NAME => Some(any),
        _ => None,
    })?;
    let filters = path.field("http_filters");
    let http = heard(Some(any), valid_http, &filters, findings)?.unwrap_or_else(nothing);
    // Its routes may be ten thousand: they are not copied for that.
    let bare = encode::bare_manager(any.clone());
    let of_routes = said.route_specifier.as_ref().map_or(0, RouteSpecifier::encoded_len);
    let is_bare = said.stat_prefix == bare.stat_prefix && said.http_filters == bare.http_filters;
    if !is_bare || said.encoded_len() != bare.encoded_len() + of_routes {
        says_more(path, findings);
    }
    Some(http)
}

fn nothing() -> Http {
    Http::new(NAME, RouteTable::default())
}

/// A rule. Nothing where Envoy's words say it.
pub(super) fn rule(said: &route::Route, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Rule> {
    let any = said.typed_per_filter_config.get(NAME);
    let filters = path.field("typed_per_filter_config");
    let rule = heard(any, valid_rule, &filters.key(NAME), findings)?;
    if any.is_some_and(|any| *said != encode::carrier(any.clone())) {
        says_more(path, findings);
    }
    // Its place is kept, so that those of others are true.
    Some(rule.unwrap_or_else(|| Rule {
        name: String::new(),
        origin: String::new(),
        matches: Vec::new(),
        action: Action::Forward(Box::new(Forward::to(""))),
        request_headers: Default::default(),
        response_headers: Default::default(),
        gate: Vec::new(),
    }))
}

/// A cluster. Nothing where Envoy's words say it.
pub(super) fn cluster(
    said: &cluster_proto::Cluster,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Cluster> {
    let any = said.typed_extension_protocol_options.get(NAME);
    let options = path.field("typed_extension_protocol_options");
    let options = options.key(NAME);
    let ours = heard(any, valid_cluster, &options, findings)?;
    let mut rest = said.clone();
    rest.typed_extension_protocol_options.remove(NAME);
    let bare = clusters::read(&rest, path, findings);
    let Some(ours) = ours else { return Some(bare) };
    if ours.name != bare.name {
        findings.invalid(&options, Invalid::new(format!("it is for the cluster '{}'", ours.name)));
    }
    let whole = Cluster { endpoints: bare.endpoints.clone(), tls: bare.tls.clone(), ..ours };
    let weighs = bare.load_balancing.weighs_localities;
    if whole.load_balancing.weighs_localities != weighs || !is_bare(&bare) {
        says_more(path, findings);
    }
    Some(whole)
}

/// Whether nothing is said but what our own words leave to Envoy's.
fn is_bare(read: &Cluster) -> bool {
    let mut usual = Cluster::new(read.name.clone(), read.discovery.clone(), Vec::new());
    // They are said with its endpoints, which may not have come.
    usual.load_balancing = LoadBalancing {
        overprovisioning_percent: read.load_balancing.overprovisioning_percent,
        weighs_localities: read.load_balancing.weighs_localities,
        ..LoadBalancing::round_robin()
    };
    Cluster { endpoints: Vec::new(), tls: None, ..read.clone() } == usual
}

/// A listener without what naru says to it, and that.
pub(super) fn shell(
    said: &proto::Listener,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<(proto::Listener, Shell)> {
    let at = said.listener_filters.iter().position(|filter| part_of(filter).is_some())?;
    let filters = path.field("listener_filters");
    let any = said.listener_filters.get(at).and_then(part_of);
    let shell = heard(any, valid_shell, &filters.at(at), findings)?.unwrap_or_default();
    let mut rest = said.clone();
    rest.listener_filters.remove(at);
    Some((rest, shell))
}

fn part_of(filter: &proto::ListenerFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(proto::listener_filter::ConfigType::TypedConfig(any)) if filter.name == NAME => Some(any),
        _ => None,
    }
}

/// A listener as Envoy's words and ours say it together.
pub(super) fn with_shell(
    mut listener: Listener,
    shell: Shell,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Listener {
    if let Some(connections) = shell.connections {
        if connections.ignores_global != listener.connections.ignores_global {
            says_more(path, findings);
        }
        listener.connections = connections;
    }
    let is_of_chains = shell.tcp.len() == listener.chains.len();
    if !shell.tcp.is_empty() && !is_of_chains {
        let text = format!("it is for {} filter chains, and there are others", shell.tcp.len());
        findings.invalid(path, Invalid::new(text));
        return listener;
    }
    for (chain, tcp) in listener.chains.iter_mut().zip(shell.tcp) {
        let Some(tcp) = tcp else { continue };
        if chain.tcp.as_ref() != Some(&encode::bare_tcp(&tcp)) {
            says_more(path, findings);
        }
        chain.tcp = Some(tcp);
    }
    listener
}

/// What a listener says of the process that has it. What is wrong with it was told when it was read.
pub(crate) fn process(said: &proto::Listener) -> Option<Process> {
    let any = said.listener_filters.iter().find_map(part_of)?;
    Some(unpack::<Shell>(any)?.ok()?.process)
}

/// A text that a newcomer can find: the field, and what is wrong with it.
fn of_fields(what: &str, found: Vec<LoadFault>) -> Vec<Invalid> {
    let told = found.into_iter();
    told.map(|(field, invalid)| Invalid::new(format!("{what}.{field}: {}", invalid.message))).collect()
}

fn valid_http(http: &Http) -> Vec<Invalid> {
    let mut found = Vec::new();
    for session in &http.sessions {
        let told = session.problems().into_iter();
        found.extend(told.map(|(field, invalid)| {
            Invalid::new(format!("sessions '{}', {field}: {}", session.name, invalid.message))
        }));
    }
    found.extend(http.gate.problems());
    found.extend(http.fault.iter().flat_map(fault::Fault::problems));
    found.extend(valid_http2(&http.http2));
    for pace in [http.request_pace, http.response_pace].into_iter().flatten() {
        if pace.bytes == 0 || pace.window.is_zero() {
            found.push(Invalid::new("a pace is of some bytes in some time"));
        }
    }
    let header_bytes = u64::from(http.header_bytes_max);
    if header_bytes == 0 || header_bytes > 8_192 << 10 || http.header_count_max == 0 {
        found.push(Invalid::new("the headers of a request have 1 byte to 8 MiB, and one header or more"));
    }
    if http.body_bytes_max == Some(0) || http.max_requests_per_connection == Some(0) {
        found.push(Invalid::new("a limit of nothing lets nothing pass"));
    }
    found
}

fn valid_http2(said: &Http2Settings) -> Vec<Invalid> {
    const WINDOWS: std::ops::RangeInclusive<u32> = 65_535..=i32::MAX as u32;
    let has_streams = (1..=i32::MAX as u32).contains(&said.max_concurrent_streams);
    let is_fine =
        has_streams && WINDOWS.contains(&said.stream_window) && WINDOWS.contains(&said.connection_window);
    let text = "HTTP/2 has streams, and windows of 65535 to 2147483647 bytes";
    if is_fine { Vec::new() } else { vec![Invalid::new(text)] }
}

fn valid_rule(rule: &Rule) -> Vec<Invalid> {
    let mut found: Vec<Invalid> = rule.gate.iter().flat_map(|change| change.problems()).collect();
    if rule.matches.is_empty() {
        found.push(Invalid::new("a rule that nothing matches is for no request"));
    }
    for name in &rule.request_headers.remove {
        found.extend(naru_spec::HeaderOps::check_removable(name).err());
    }
    match &rule.action {
        Action::Forward(forward) => found.extend(valid_forward(forward)),
        Action::Redirect(redirect) => {
            if !matches!(redirect.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                found.push(Invalid::new(format!("{} leads nobody elsewhere", redirect.status.as_u16())));
            }
        }
        Action::Direct(direct) => {
            let most = defaults::DIRECT_BODY_BYTES_MAX;
            if direct.body.len() > most {
                found.push(Invalid::new(format!("the body of an answer has more than {most} bytes")));
            }
            if !(200..=599).contains(&direct.status.as_u16()) {
                found.push(Invalid::new(format!("{} is no status of an answer", direct.status.as_u16())));
            }
        }
    }
    found
}

fn valid_forward(forward: &Forward) -> Vec<Invalid> {
    let mut found = valid_load(&forward.load);
    if let ClusterChoice::Weighted(clusters) = &forward.clusters {
        found.extend(ClusterChoice::weighted(clusters.clone()).err());
    }
    if let Some(retry) = &forward.retry {
        let told = retry.problems(forward.timeout).into_iter();
        let errors = told.filter(|(_, severity, _)| *severity == Severity::Error);
        found.extend(errors.map(|(_, _, invalid)| invalid));
    }
    found.extend(forward.hedge.iter().flat_map(|hedge| hedge.problems(forward.retry.as_ref())));
    found.extend(forward.auto_timeout.iter().flat_map(|auto| auto.problems()));
    found.extend(forward.fault.iter().flat_map(fault::Fault::problems));
    found.extend(fault::mirror_problems(&forward.mirrors));
    if forward.hash.len() > defaults::HASH_POLICIES_MAX {
        found.push(Invalid::new("a request is hashed by at most 64 of its parts"));
    }
    found
}

fn valid_load(load: &LoadLimits) -> Vec<Invalid> {
    let LoadLimits { breaker, bulkhead, adaptive, admission, rate } = load;
    let parts = [
        ("circuitBreaker", breaker.as_ref().map(|named| named.settings.problems())),
        ("bulkhead", bulkhead.as_ref().map(|named| named.settings.problems())),
        ("adaptiveConcurrency", adaptive.as_ref().map(|named| named.settings.problems())),
        ("admissionControl", admission.as_ref().map(|named| named.settings.problems())),
        ("rateLimit", rate.as_ref().map(|named| named.settings.problems())),
    ];
    parts.into_iter().flat_map(|(what, found)| of_fields(what, found.unwrap_or_default())).collect()
}

fn valid_cluster(cluster: &Cluster) -> Vec<Invalid> {
    let mut found = valid_load(&cluster.load);
    // What is odd of the operating system's probes is taken from Envoy's words, too.
    let of_limits = cluster.limits.problems().into_iter();
    let of_limits = of_limits.filter(|(field, _)| !field.starts_with("tcpKeepalive"));
    found.extend(of_fields("limits", of_limits.collect()));
    found.extend(valid_http2(&cluster.http2));
    if cluster.connect_timeout.is_zero() {
        found.push(Invalid::new("a connection is made in some time"));
    }
    if cluster.max_requests_per_connection == Some(0) {
        found.push(Invalid::new("a connection that takes no request is of no use"));
    }
    found
}

fn valid_shell(shell: &Shell) -> Vec<Invalid> {
    let Process { cache, stores, surge, overload } = &shell.process;
    let mut found: Vec<Invalid> = cache.iter().flat_map(|cache| cache.problems()).collect();
    found.extend(stores.iter().flat_map(|store| store.problems()));
    found.extend(surge.iter().flat_map(|surge| surge.problems()));
    found.extend(overload.iter().flat_map(|said| said.problems()).map(|(_, invalid)| invalid));
    found.extend(shell.tcp.iter().flatten().flat_map(|tcp| tcp.problems()));
    found
}

/// The smallest configuration with this part.
pub(super) fn alone(part: &str, json: &str, findings: &mut Findings<'_>) -> Option<Config> {
    use hcm::http_connection_manager::RouteSpecifier;
    let (any, root) = (carry(part, json), &Path::ROOT);
    let mut config = Config::default();
    let address = ([127, 0, 0, 1], 0).into();
    let mut of_http = |http| config.listeners.push(Listener::new(NAME, address, vec![FilterChain::of(http)]));
    match part {
        Http::MESSAGE => {
            of_http(super::http::read(&encode::bare_manager(any), &Ready::new(), root, findings))
        }
        Rule::MESSAGE => {
            let host = route::VirtualHost {
                domains: vec!["*".to_owned()],
                routes: vec![encode::carrier(any)],
                ..Default::default()
            };
            let table = route::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() };
            let specifier = RouteSpecifier::RouteConfig(table);
            let http = encode::bare_manager(pack(&nothing()));
            let manager = hcm::HttpConnectionManager { route_specifier: Some(specifier), ..http };
            of_http(super::http::read(&manager, &Ready::new(), root, findings));
        }
        Cluster::MESSAGE => {
            let name = unpack::<Cluster>(&any)?.ok()?.name;
            let mut said = encode::cluster(&Cluster::new(name, Discovery::Static, Vec::new()));
            said.typed_extension_protocol_options.insert(NAME.to_owned(), any);
            config.clusters.push(clusters::read(&said, root, findings));
        }
        Shell::MESSAGE => {
            let mut said = encode::listener(&Listener::new(NAME, address, vec![FilterChain::of(nothing())]));
            said.listener_filters.push(proto::ListenerFilter {
                name: NAME.to_owned(),
                config_type: Some(proto::listener_filter::ConfigType::TypedConfig(any)),
                ..Default::default()
            });
            config.listeners.push(super::listener::read(&said, root, findings));
            super::take_process(&mut config, std::iter::once(&said));
        }
        _ => return None,
    }
    Some(config)
}
