//! What a `VirtualService` means for one listener: rules, in order.

use std::collections::{BTreeMap, BTreeSet};

use naru_base::Weight;
use naru_resource::destination_rule::Subset;
use naru_resource::virtual_service::{Destination, HttpDestination, HttpMatch, HttpRetry, HttpRoute};
use naru_resource::{Place, Resources, Test, Text, VirtualService};
use naru_spec::{
    Action, Cluster, ClusterChoice, Discovery, Fallback, Forward, HeaderOps, HostRewrite, Match, Path,
    PathMatch, PathRewrite, Pattern, RetryPolicy, Rule, Severity, WeightedCluster, code,
};

use crate::account::Account;
use crate::actions::{self, check_kind, direct_of, redirect_of};
use crate::attached::Attached;
use crate::caches::Caches;
use crate::clusters::{self, Clusters};
use crate::contents::Contents;
use crate::delegates::Expanded;
use crate::doors::{self, Doors};
use crate::fallbacks::Fallbacks;
use crate::findings::Findings;
use crate::groups::Groups;
use crate::guards::Guards;
use crate::load::{self, Loads};
use crate::mesh::{self, Mesh};
use crate::names::{Audience, audience, fits, fqdn, gateway_name};
use crate::policies::{Effective, Policies, naru_suggestion};
use crate::rates::Rates;
use crate::recovery::{check_retry, fault_of, retry_of};
use crate::registry::{Known, Registry, has_all};
use crate::sidecars::Scope;
use crate::speakers::Speakers;
use crate::{Client, delegates, headers, matching};

/// The gateway that stands for the listeners of workloads.
pub(crate) const MESH: &str = "mesh";

/// For whom a VirtualService is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Context<'a> {
    /// For anybody: to find what is wrong with it.
    Any,
    Gateway {
        namespace: &'a str,
        name: &'a str,
        /// Of the workload that it is.
        labels: &'a [(String, String)],
        port: u16,
        is_tls: bool,
    },
    Mesh {
        client: &'a Client,
        port: u16,
    },
}

impl Context<'_> {
    pub fn port(&self) -> Option<u16> {
        match self {
            Context::Any => None,
            Context::Gateway { port, .. } | Context::Mesh { port, .. } => Some(*port),
        }
    }

    /// For the same callers, whichever port they call.
    pub fn anywhere(&self) -> Context<'_> {
        match *self {
            Context::Any => Context::Any,
            Context::Gateway { namespace, name, labels, is_tls, .. } => {
                Context::Gateway { namespace, name, labels, port: 0, is_tls }
            }
            Context::Mesh { client, .. } => Context::Mesh { client, port: 0 },
        }
    }
}

/// Who says where requests go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// Where its names are looked for.
    pub namespace: &'a str,
    /// It is read for no gateway.
    pub is_mesh_only: bool,
}

impl<'a> Owner<'a> {
    pub fn of(service: &'a VirtualService) -> Owner<'a> {
        let is_mesh_only = service.spec.gateways.iter().all(|name| name.value == MESH);
        Owner { namespace: service.meta.namespace(), is_mesh_only }
    }
}

/// All routes of all documents, and the clusters that they lead to.
#[derive(Debug)]
pub(crate) struct Routes<'a> {
    pub resources: &'a Resources,
    pub registry: &'a Registry,
    pub(crate) policies: &'a Policies<'a>,
    /// Which policies act.
    pub account: Account,
    attached: Attached<'a>,
    loads: Loads,
    pub(crate) rates: Rates<'a>,
    pub(crate) contents: Contents<'a>,
    pub(crate) doors: Doors<'a>,
    pub groups: Groups<'a>,
    pub guards: Guards,
    pub(crate) fallbacks: Fallbacks<'a>,
    pub(crate) caches: Caches,
    pub is_strict: bool,
    clusters: Clusters,
    /// What is tried instead of a cluster, by its name.
    pub(crate) chained: BTreeMap<String, Option<Fallback>>,
    /// Hosts that nobody defines, where nothing defines any.
    unknown: BTreeSet<String>,
    /// Clusters that balance by a hash of the request.
    hashed: BTreeSet<String>,
    /// Clusters whose endpoints come with requests.
    on_demand: BTreeSet<String>,
    speakers: Speakers,
}

impl<'a> Routes<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &'a Registry,
        policies: &'a Policies<'a>,
        is_strict: bool,
        findings: &mut Findings<'_>,
    ) -> Routes<'a> {
        let mut account = Account::default();
        let attached = Attached::of(resources, registry, &mut account, findings);
        let loads = Loads::of(resources, registry, &mut account, findings);
        let rates = Rates::of(resources, registry, &mut account, findings);
        let contents = Contents::of(resources, registry, &mut account, findings);
        let doors = Doors::of(resources, registry, &mut account, findings);
        let groups = Groups::of(resources, registry, findings);
        let guards = Guards::of(resources, registry, &mut account, findings);
        let fallbacks = Fallbacks::of(resources, registry, &mut account, findings);
        let caches = Caches::of(resources, registry, &mut account, findings);
        Routes {
            resources,
            registry,
            policies,
            account,
            attached,
            loads,
            rates,
            contents,
            doors,
            groups,
            guards,
            fallbacks,
            caches,
            is_strict,
            clusters: Clusters::new(),
            chained: BTreeMap::new(),
            unknown: BTreeSet::new(),
            hashed: BTreeSet::new(),
            on_demand: BTreeSet::new(),
            speakers: Speakers::of_all(resources, registry),
        }
    }

    pub fn into_clusters(mut self) -> Vec<Cluster> {
        let clusters = self.clusters.into_iter().map(|(name, cluster)| {
            let fallback = self.chained.remove(&name).flatten();
            Cluster { fallback, ..cluster }
        });
        clusters.collect()
    }

    /// A cluster that somebody goes to.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// Whether it balances by a hash of the request.
    pub fn is_hashed(&self, name: &str) -> bool {
        self.hashed.contains(name)
    }

    /// Findings that nobody wants to hear again.
    pub fn quiet(&self) -> Findings<'a> {
        Findings::new(&self.resources.files)
    }

    /// The rules of a VirtualService, in order.
    pub fn rules(
        &mut self,
        service: &VirtualService,
        context: &Context<'_>,
        findings: &mut Findings<'_>,
    ) -> Vec<Rule> {
        let http = Path::ROOT.field("spec.http");
        let mut rules = Vec::new();
        let mut catches_all: Option<Place> = None;
        for (at, route) in service.spec.http.iter().enumerate() {
            let path = http.at(at);
            if let (Context::Any, Some(before)) = (context, catches_all) {
                let message = "no request gets to this route: one before it takes all";
                let hint = format!("the route that takes all is at {}", findings.locate(before));
                findings.warning(code::UNREACHABLE_RULE, route.place, &path, message, hint);
            }
            if takes_all(route) {
                catches_all.get_or_insert(route.place);
            }
            check_kind(route, &path, findings);
            if route.delegate.is_some() {
                let known = (self.resources, self.registry);
                let exports = self.policies.mesh.exports.virtual_services;
                for expanded in delegates::expand(service, route, known, exports, &path, findings) {
                    rules.extend(self.rule(service, &expanded, at, context, &path, findings));
                }
            } else {
                let route = Expanded::of(service, route);
                rules.extend(self.rule(service, &route, at, context, &path, findings));
            }
        }
        rules
    }

    fn rule(
        &mut self,
        service: &VirtualService,
        expanded: &Expanded,
        at: usize,
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Rule> {
        let Expanded { route, keys } = expanded;
        let blocks = path.field("match");
        let mut matches: Vec<Match> = Vec::new();
        let mut names: Vec<&Text> = Vec::new();
        for (at, block) in route.matches.iter().enumerate() {
            if matches!(context, Context::Any) {
                self.check_claims(service, block, &blocks.at(at), findings);
            }
            if is_for(block, service.meta.namespace(), context) {
                matches.push(matching::block(block, &blocks.at(at), findings));
                names.extend(&block.name);
            }
        }
        if route.matches.is_empty() {
            matches.push(Match::default());
        }
        if matches.is_empty() {
            return None;
        }
        let own_name = route.name.as_ref().map(|name| name.value.as_str());
        let additions = self.attached.of_route(keys);
        additions.narrow(&mut matches, &mut self.account, findings);
        let mut name = match own_name {
            Some(name) => name.to_owned(),
            None => format!("{}/http[{at}]", service.meta.full_name()),
        };
        if let ([only], 1) = (names.as_slice(), matches.len()) {
            name = format!("{name}.{}", only.value);
        }
        let written = route.headers.as_ref();
        let of_headers = path.field("headers");
        let (request_headers, host) = headers::operations(
            written.and_then(|headers| headers.request.as_ref()),
            true,
            &of_headers.field("request"),
            findings,
        );
        let (response_headers, _) = headers::operations(
            written.and_then(|headers| headers.response.as_ref()),
            false,
            &of_headers.field("response"),
            findings,
        );
        let mut headers = (request_headers, response_headers);
        let action = if let Some(redirect) = &route.redirect {
            let path = path.field("redirect");
            let said = redirect;
            let mut redirect = redirect_of(said, context, &path, findings)?;
            if let Some(beyond) = &route.beyond {
                redirect.port = actions::port_of_api(said).or(redirect.port);
                if let Some(change) = &beyond.redirect {
                    redirect.path = actions::redirect_path_of(change);
                }
            }
            Action::Redirect(Box::new(redirect))
        } else if let Some(direct) = &route.direct_response {
            let path = path.field("directResponse");
            Action::Direct(Box::new(direct_of(direct, &path, findings)?))
        } else {
            let forward = self.forward(service, expanded, host, &mut headers, context, path, findings);
            let Some(mut forward) = forward else {
                self.account.forgive(keys);
                return None;
            };
            let account = &mut self.account;
            additions.change(&self.attached.classes, route, &mut forward, account, findings);
            if let (Some(written), Some(policy)) = (&route.retries, &forward.retry) {
                check_retry(written, policy, forward.timeout, path, findings);
            }
            forward.load = self.loads.of_route(keys, &mut self.account);
            let own: Vec<String> = forward.cluster_names().map(str::to_owned).collect();
            forward.fallback = self.fallback_of(keys, &own, context, findings);
            forward.cache = self.caches.of_route(keys, &mut self.account);
            self.check_waits(&forward, route, path, findings);
            Action::Forward(Box::new(forward))
        };
        let mut gate = self.rates.of_route(keys, &mut self.account);
        gate.extend(additions.body_limit(&mut self.account, findings));
        gate.extend(self.contents.of_route(keys, &mut self.account));
        gate.extend(self.doors.of_route(keys, &mut self.account));
        let cors = route.cors_policy.as_ref();
        gate.extend(cors.and_then(|cors| doors::cors(cors, &path.field("corsPolicy"), findings)));
        let origin = findings.locate(route.place);
        let (request_headers, response_headers) = headers;
        Some(Rule { name, origin, matches, action, request_headers, response_headers, gate })
    }

    /// Claims are known where tokens are verified.
    fn check_claims(
        &self,
        service: &VirtualService,
        block: &HttpMatch,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) {
        let names = block.headers.iter().chain(&block.without_headers).map(|(name, _)| name);
        for name in names.filter(|name| matching::is_claim(name)) {
            let path = path.field("headers");
            if Owner::of(service).is_mesh_only {
                let message = "claims of tokens are known at gateways only: no request is taken by this";
                let hint = "name a Gateway in spec.gateways";
                findings.error(code::NO_EFFECT, name.place, &path, message, hint);
            } else if self.resources.request_authentications.is_empty() {
                let message = "nobody verifies tokens: there is no claim that could be as this says";
                let hint = "a RequestAuthentication for the Gateway";
                findings.warning(code::NO_EFFECT, name.place, &path, message, hint);
            }
        }
    }

    /// `headers` are the rule's, of requests and of answers; those of its only destination come behind them.
    #[expect(clippy::too_many_arguments, reason = "what a route says, for whom, and who hears of it")]
    fn forward(
        &mut self,
        service: &VirtualService,
        expanded: &Expanded,
        host: Option<Text>,
        headers: &mut (HeaderOps, HeaderOps),
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Forward> {
        let route = &expanded.route;
        let destinations = &route.route;
        let mut clusters =
            self.destinations(service, destinations, context, &path.field("route"), findings)?;
        if let Some(persistence) = route.beyond.as_ref().and_then(|beyond| beyond.persistence.as_ref()) {
            self.stick(&mut clusters, persistence, context);
        }
        let groups = self.groups_of(service, expanded, context, path, findings)?;
        // What the only destination says of headers is the route's, unless groups of requests go elsewhere.
        let host_there = groups.is_none().then(|| headers::of_only(&mut clusters, headers)).flatten();
        let mut forward = Forward { clusters, groups, ..Forward::to("") };
        forward.timeout = route.timeout.map(|timeout| timeout.value).filter(|timeout| !timeout.is_zero());
        if let Some(rewrite) = &route.rewrite {
            let path = path.field("rewrite");
            if let Some(uri) = rewrite.uri.as_ref().filter(|uri| !uri.is_empty()) {
                forward.path = Some(PathRewrite::Prefix(uri.value.clone()));
            }
            if let Some(regex) = &rewrite.uri_regex_rewrite {
                if rewrite.uri.is_some() {
                    let message = "only one of uri and uriRegexRewrite can be said";
                    let path = path.field("uriRegexRewrite");
                    findings.error(code::CONFLICTING_FIELDS, regex.place, &path, message, "");
                }
                match Pattern::new(regex.pattern.value.clone()) {
                    Ok(pattern) => {
                        let substitution = regex.rewrite.value.clone();
                        forward.path = Some(PathRewrite::Regex { pattern, substitution });
                    }
                    Err(invalid) => {
                        let place = regex.pattern.place;
                        let path = path.field("uriRegexRewrite.match");
                        findings.error(code::INVALID_VALUE, place, &path, invalid.message, invalid.hint);
                    }
                }
            }
            if let Some(authority) = rewrite.authority.as_ref().filter(|authority| !authority.is_empty()) {
                if let Some(host) = &host {
                    let message = "the host is rewritten twice: here and by rewrite.authority";
                    findings.error(code::CONFLICTING_FIELDS, host.place, &path, message, "say it once");
                }
                forward.host = Some(HostRewrite::Literal(authority.value.clone()));
            }
        }
        if let (Some(host), None) = (host.map(|host| host.value).or(host_there), &forward.host) {
            forward.host = Some(HostRewrite::Literal(host));
        }
        if let Some(change) = route.beyond.as_ref().and_then(|beyond| beyond.rewrite.as_ref()) {
            forward.path = actions::rewrite_of(change);
        }
        let is_hashed = forward.cluster_names().any(|name| self.hashed.contains(name));
        forward.retry = self.retry(route.retries.as_ref(), is_hashed, path, findings);
        forward.fault = route.fault.as_ref().and_then(|fault| fault_of(fault, path, findings));
        forward.mirrors = self.mirrors(service, route, context, path, findings);
        Some(forward)
    }

    /// A limit that makes a request wait longer than its route lasts only makes it fail later.
    fn check_waits(
        &self,
        forward: &Forward,
        route: &HttpRoute,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) {
        let (Some(timeout), Some(said)) = (forward.timeout, &route.timeout) else { return };
        let clusters = forward.cluster_names().filter_map(|name| self.clusters.get(name));
        let limits = clusters.map(|cluster| &cluster.load).chain([&forward.load]);
        let longest = limits.flat_map(load::waits).max_by_key(|(_, wait)| *wait);
        if let Some((name, wait)) = longest.filter(|(_, wait)| *wait >= timeout) {
            let message = format!("a request may wait {wait:?} at {name}, and its route lasts {timeout:?}");
            let path = path.field("timeout");
            findings.warning(code::NO_EFFECT, said.place, &path, message, "let it wait for less");
        }
    }

    fn destinations(
        &mut self,
        service: &VirtualService,
        route: &[HttpDestination],
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<ClusterChoice> {
        let weight = |destination: &HttpDestination| destination.weight.as_ref().map_or(0, |w| w.value);
        let sum: i64 = route.iter().map(weight).sum();
        let owner = Owner::of(service);
        let mut weighted = Vec::new();
        for (at, written) in route.iter().enumerate() {
            let path = path.at(at);
            let share = match (route.len(), sum) {
                (1, _) => "every request".to_owned(),
                (_, 0) => "part of the requests".to_owned(),
                (_, sum) => format!("{}% of the requests", percent(weight(written), sum)),
            };
            if let Some(said) = &written.weight
                && u32::try_from(said.value).is_err()
            {
                let message = format!("{} cannot be a weight", said.value);
                findings.error(code::INVALID_VALUE, said.place, &path.field("weight"), message, "");
            }
            let path_to = path.field("destination");
            let name = self.destination(owner, &written.destination, context, &share, &path_to, findings);
            let of_headers = path.field("headers");
            let said = written.headers.as_ref();
            let (request_headers, host) = headers::operations(
                said.and_then(|headers| headers.request.as_ref()),
                true,
                &of_headers.field("request"),
                findings,
            );
            let (response_headers, _) = headers::operations(
                said.and_then(|headers| headers.response.as_ref()),
                false,
                &of_headers.field("response"),
                findings,
            );
            let host = host.map(|host| host.value);
            let of_all = if route.len() == 1 { 1 } else { u32::try_from(weight(written)).unwrap_or(0) };
            let weight = Weight(of_all);
            weighted.push(WeightedCluster { name: name?, weight, host, request_headers, response_headers });
        }
        for (at, written) in route.iter().enumerate() {
            let same = |other: &HttpDestination| {
                other.destination.host.value == written.destination.host.value
                    && other.destination.subset.as_ref().map(|s| &s.value)
                        == written.destination.subset.as_ref().map(|s| &s.value)
                    && other.destination.port.as_ref().map(|p| p.number.value)
                        == written.destination.port.as_ref().map(|p| p.number.value)
            };
            if route.iter().take(at).any(same) {
                let message = "the route leads to this destination twice";
                let path = path.at(at);
                findings.warning(
                    code::DUPLICATE,
                    written.destination.place,
                    &path,
                    message,
                    "join their weights",
                );
            }
        }
        match weighted.as_slice() {
            [] => None,
            [only]
                if only.host.is_none()
                    && only.request_headers.is_empty()
                    && only.response_headers.is_empty() =>
            {
                Some(ClusterChoice::One(only.name.clone()))
            }
            _ => match ClusterChoice::weighted(weighted) {
                Ok(choice) => Some(choice),
                Err(invalid) => {
                    let place = route.first().map_or(Place::default(), |route| route.place);
                    findings.error(code::INVALID_VALUE, place, path, invalid.message, invalid.hint);
                    None
                }
            },
        }
    }

    /// The cluster of a destination, which is built if it is new. Whatever is wrong is told; there is
    /// a cluster all the same.
    pub fn destination(
        &mut self,
        owner: Owner<'_>,
        destination: &Destination,
        context: &Context<'_>,
        share: &str,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<String> {
        let namespace = owner.namespace;
        let host = &destination.host;
        let registry = self.registry;
        let known = registry.find(host, namespace).map(|known| registry.meant(known, namespace));
        if known.is_none() {
            let is_error = self.is_strict || !registry.is_empty();
            let message = format!("no Service and no ServiceEntry is called '{}'", host.value);
            let hint = naru_suggestion(host, registry);
            let path = path.field("host");
            if is_error {
                let message = format!("{message}: {share} would fail");
                findings.error(code::UNKNOWN_HOST, host.place, &path, message, hint);
            } else if self.unknown.insert(fqdn(host, namespace)) {
                // Documents that speak of routes only: said once for each host.
                findings.tell(Severity::Note, code::UNKNOWN_HOST, host.place, &path, message, hint);
            }
        }
        let full = known.map_or_else(|| fqdn(host, namespace), |known| known.host.clone());
        let (client_namespace, labels) = match context {
            Context::Any => (namespace, &[][..]),
            Context::Gateway { namespace, labels, .. } => (*namespace, *labels),
            Context::Mesh { client, .. } => (client.namespace.as_str(), client.labels.as_slice()),
        };
        let service_namespace = known.map_or(namespace, |known| known.namespace.as_str());
        let effective = self.policies.find(&full, service_namespace, client_namespace, labels);
        let subset = match &destination.subset {
            None => None,
            Some(name) => {
                let found = effective.subset(name);
                if found.is_none() {
                    let message =
                        format!("subset '{}' of {full} is not defined: {share} would fail", name.value);
                    let hint = match effective.place {
                        Some(place) => format!(
                            "define it in the DestinationRule at {}, which has {}",
                            findings.locate(place),
                            listed(effective.subsets.iter().map(|subset| subset.name.as_str()))
                        ),
                        None => format!("define it in a DestinationRule for {full}"),
                    };
                    findings.error(code::UNKNOWN_SUBSET, name.place, &path.field("subset"), message, hint);
                }
                found
            }
        };
        let port = port_of(owner, destination, known, context, path, findings)?;
        let subset_name = destination.subset.as_ref().map(|subset| subset.value.as_str());
        // Who sees no such subset has nobody there, and not all of the service.
        let is_whole = destination.subset.is_none() || subset.is_some();
        let cluster = match known.filter(|_| is_whole) {
            Some(known) => self.build(known, port, subset, &effective, labels),
            None => clusters::empty(&full, port, subset_name),
        };
        let is_hashed = clusters::is_hashed(&effective, subset, port);
        let is_on_demand = matches!(cluster.discovery, Discovery::OnDemand(_));
        let name = match context {
            // Nobody goes there yet, and whoever will has perhaps other endpoints first.
            Context::Any => cluster.name,
            Context::Gateway { .. } | Context::Mesh { .. } => {
                let name = self.keep(cluster, client_namespace);
                self.note_fallback(&name, &full, subset_name, context);
                name
            }
        };
        for (is_so, names) in [(is_hashed, &mut self.hashed), (is_on_demand, &mut self.on_demand)] {
            if is_so {
                names.insert(name.clone());
            } else {
                names.remove(&name);
            }
        }
        Some(name)
    }

    /// The cluster of a destination that is sent to by naru's own choice, with an authority that is not its own: it must
    /// have endpoints.
    pub fn own_destination(
        &mut self,
        owner: Owner<'_>,
        destination: &Destination,
        context: &Context<'_>,
        share: &str,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<String> {
        let name = self.destination(owner, destination, context, share, path, findings)?;
        if !self.on_demand.contains(&name) {
            return Some(name);
        }
        let host = &destination.host;
        let message =
            format!("requests to '{}' bring their endpoints with them, and {share} brings none", host.value);
        let hint = "say resolution: STATIC or DNS in its ServiceEntry";
        findings.error(code::UNSUPPORTED_FIELD, host.place, &path.field("host"), message, hint);
        None
    }

    pub(crate) fn build(
        &self,
        known: &Known,
        port: u16,
        subset: Option<&Subset>,
        effective: &Effective<'_>,
        caller: &[(String, String)],
    ) -> Cluster {
        let credentials = &self.policies.credentials;
        let load = self.loads.of_service(&known.host);
        let mut cluster = clusters::build(known, port, subset, effective, caller, &self.guards, credentials);
        self.policies.backend_tls.apply(&mut cluster, &known.host, port);
        Cluster { load, ..cluster }
    }

    /// Keeps a cluster. One of the same name that says something else belongs to other callers.
    pub fn keep(&mut self, mut cluster: Cluster, client: &str) -> String {
        let name = cluster.name.clone();
        for number in 0_u32.. {
            if number > 0 {
                cluster.name = format!("{name}~{client}.{number}");
            }
            match self.clusters.get(&cluster.name) {
                Some(known) if *known != cluster => {}
                Some(_) => break,
                None => {
                    self.clusters.insert(cluster.name.clone(), cluster.clone());
                    break;
                }
            }
        }
        cluster.name
    }

    /// The rule of a service that no VirtualService speaks of: to its port, whole.
    pub fn plain_rule(&mut self, known: &Known, port: u16, client: &Client) -> Rule {
        let effective = self.policies.find(&known.host, &known.namespace, &client.namespace, &client.labels);
        let cluster = self.build(known, port, None, &effective, &client.labels);
        let name = self.keep(cluster, &client.namespace);
        let context = Context::Mesh { client, port };
        self.note_fallback(&name, &known.host, None, &context);
        let mut forward = Forward::to(name);
        let mut quiet = self.quiet();
        forward.groups = self.groups_of_service(known, port, &context, &mut quiet);
        forward.timeout = None;
        forward.retry =
            self.retry(None, clusters::is_hashed(&effective, None, port), &Path::ROOT, &mut quiet);
        Rule {
            gate: Vec::new(),
            name: format!("{}:{port}", known.host),
            origin: self.resources.files.locate(known.place),
            matches: vec![Match::default()],
            action: Action::Forward(Box::new(forward)),
            request_headers: Default::default(),
            response_headers: Default::default(),
        }
    }

    /// What is done after a failure: what a route says, or else what the mesh says.
    pub fn retry(
        &self,
        said: Option<&HttpRetry>,
        is_hashed: bool,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<RetryPolicy> {
        match (said, self.policies.mesh.retry) {
            (None, Some(of_mesh)) => retry_of(Some(of_mesh), is_hashed, path, &mut self.quiet()),
            (said, _) => retry_of(said, is_hashed, path, findings),
        }
    }

    pub fn mesh(&self) -> &'a Mesh<'a> {
        &self.policies.mesh
    }

    /// The VirtualServices that speak of a host to a workload, those with the closest host: the first that has a route for
    /// it is asked. That for the smaller audience goes first, then the older.
    pub fn for_host(&self, host: &str, client_namespace: &str, scope: &Scope<'_>) -> Vec<&'a VirtualService> {
        let mut found: Vec<(usize, Audience, &'a VirtualService)> = Vec::new();
        for at in self.speakers.of(host) {
            let Some(service) = self.resources.virtual_services.get(at) else { continue };
            let owner = service.meta.namespace();
            let exports = mesh::or(&service.spec.export_to, self.policies.mesh.exports.virtual_services);
            let audience = audience(exports, owner, client_namespace);
            let Some(audience) = audience.filter(|_| scope.hears(owner, host)) else { continue };
            let fit = service.spec.hosts.iter().filter_map(|name| self.fit(name, owner, host)).max();
            found.extend(fit.map(|fit| (fit, audience, service)));
        }
        let closest = found.iter().map(|(fit, ..)| *fit).max();
        found.retain(|(fit, ..)| Some(*fit) == closest);
        found.sort_by_key(|(_, audience, _)| *audience);
        found.into_iter().map(|(.., service)| service).collect()
    }

    fn fit(&self, name: &str, owner: &str, host: &str) -> Option<usize> {
        let known = self.registry.find(name, owner).map(|known| known.host.as_str());
        fits(known.unwrap_or(&fqdn(name, owner)), host)
    }

    /// The Gateway that a name means in a document of `owner`.
    pub fn gateway(&self, name: &str, owner: &str) -> Option<&'a naru_resource::Gateway> {
        let full = gateway_name(name, owner);
        let (namespace, name) = full.split_once('/')?;
        self.resources.gateways.iter().find(|gateway| {
            !gateway.is_api && gateway.meta.name.value == name && gateway.meta.namespace() == namespace
        })
    }
}

/// A share of the sum, with one digit behind the point where it needs one.
pub(crate) fn percent(part: i64, sum: i64) -> String {
    let tenths = (i128::from(part) * 1_000 / i128::from(sum.max(1))).clamp(0, 1_000);
    if tenths % 10 == 0 { format!("{}", tenths / 10) } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn port_of(
    owner: Owner<'_>,
    destination: &Destination,
    known: Option<&Known>,
    context: &Context<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<u16> {
    let said = destination.port.as_ref().map(|port| port.number);
    let Some(known) = known else {
        let said = said.and_then(|number| u16::try_from(number.value).ok());
        return Some(said.or(context.port().filter(|port| *port > 0)).unwrap_or(80));
    };
    let ports = || {
        listed(
            known
                .ports
                .iter()
                .map(|port| port.number.to_string())
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str),
        )
    };
    if let Some(said) = said {
        let port = u16::try_from(said.value).ok().filter(|port| known.port(*port).is_some());
        if port.is_none() {
            let message = format!("{} has no port {}", known.host, said.value);
            let hint = format!("it has {}", ports());
            findings.error(code::UNKNOWN_PORT, said.place, &path.field("port.number"), message, hint);
        }
        return port;
    }
    if let [only] = known.ports.as_slice() {
        return Some(only.number);
    }
    if let Some(port) = context.port().filter(|port| known.port(*port).is_some()) {
        return Some(port);
    }
    if matches!(context, Context::Any) && owner.is_mesh_only && !known.ports.is_empty() {
        return known.ports.first().map(|port| port.number);
    }
    let (message, hint) = match known.ports.is_empty() {
        true => (format!("{} has no ports", known.host), String::new()),
        false => (
            format!("{} has several ports, and none is said", known.host),
            format!("say port.number, one of {}", ports()),
        ),
    };
    findings.error(code::UNKNOWN_PORT, destination.host.place, path, message, hint);
    None
}

/// Whether a VirtualService is for a gateway of this name; for [`MESH`] where it names none.
pub(crate) fn is_bound(service: &VirtualService, gateway: &str) -> bool {
    if service.spec.gateways.is_empty() {
        return gateway == MESH && !service.spec.hosts.is_empty();
    }
    service.spec.gateways.iter().any(|name| name.value == gateway)
}

/// Whether a block of a document of `owner` is asked in a context at all.
fn is_for(block: &HttpMatch, owner: &str, context: &Context<'_>) -> bool {
    let is_port = |port: u16| block.port.is_none_or(|asked| [0, i64::from(port)].contains(&asked.value));
    let is_namespace =
        |namespace: &str| block.source_namespace.as_ref().is_none_or(|asked| asked.value == namespace);
    match context {
        Context::Any => true,
        Context::Gateway { namespace, name, port, .. } => {
            let is_named = |asked: &Text| is_gateway(asked, owner, (namespace, name));
            (block.gateways.is_empty() || block.gateways.iter().any(is_named))
                && is_port(*port)
                && block.source_labels.is_empty()
                && is_namespace(namespace)
        }
        Context::Mesh { client, port } => {
            (block.gateways.is_empty() || block.gateways.iter().any(|asked| asked.value == MESH))
                && is_port(*port)
                && has_all(&client.labels, &block.source_labels)
                && is_namespace(&client.namespace)
        }
    }
}

/// Whether a name in a document of `owner` is that of a Gateway.
pub(crate) fn is_gateway(said: &str, owner: &str, (namespace, name): (&str, &str)) -> bool {
    gateway_name(said, owner).split_once('/') == Some((namespace, name))
}

/// Whether no request gets past a route.
fn takes_all(route: &HttpRoute) -> bool {
    let is_all = |block: &HttpMatch| {
        let is_any_path = block.uri.as_ref().is_none_or(|uri| match &uri.test {
            Test::Present => true,
            Test::Prefix(text) => matches!(text.as_str(), "" | "/"),
            Test::Segments(text) => text.is_empty(),
            Test::Regex(text) => text == ".*",
            Test::Exact(_) => false,
        });
        is_any_path
            && block.scheme.is_none()
            && block.method.is_none()
            && block.authority.is_none()
            && block.headers.is_empty()
            && block.without_headers.is_empty()
            && block.query_params.is_empty()
            && block.port.is_none()
            && block.source_labels.is_empty()
            && block.source_namespace.is_none()
            && block.gateways.is_empty()
    };
    route.matches.is_empty() || route.matches.iter().any(is_all)
}

/// Whether a rule takes every request that gets to it.
pub(crate) fn catches_all(rule: &Rule) -> bool {
    rule.matches.iter().any(is_for_all)
}

/// Istio's `IsCatchAllRoute`.
pub(crate) fn is_for_all(block: &Match) -> bool {
    let is_any_path = match &block.path {
        PathMatch::Regex(pattern) => pattern.as_str() == ".*",
        path => *path == PathMatch::default(),
    };
    let (path, ignore_path_case) = (block.path.clone(), block.ignore_path_case);
    is_any_path && *block == Match { path, ignore_path_case, ..Match::default() }
}
