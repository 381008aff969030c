//! What `RequestAuthentication` and `AuthorizationPolicy` documents ask of the requests of gateways.
//!
//! Istio asks them where a workload is called, gateways among them. Here they are asked at gateways, and where a proxy
//! of a workload's own takes what comes in; one that is for no Gateway is an error, as most workloads have no such proxy
//! and nobody would be kept out by it, and a warning where it would keep nobody out anyway. Which documents are for a
//! Gateway is [`Guards::of`]'s to say, and what they become are the checks that Istio makes filters
//! of: whoever else is asked, tokens, then policies that audit, deny, allow.

mod authorization;
mod condition;
mod external;

use std::net::SocketAddr;

use http::HeaderName;
use naru_resource::deployment::LabelSelector;
use naru_resource::gateway::{Server, ServerTlsMode};
use naru_resource::security::{AuthorizationPolicy, JwtRule, RequestAuthentication};
use naru_resource::traffic_policy::TargetRef;
use naru_resource::{Gateway, Meta, Place, Resources, Text, meta};
use naru_spec::{
    Address, Check, CheckKind, ClaimHeader, Cluster, DataSource, Discovery, DnsSettings, Endpoint, Gate,
    GateChange, Jwt, JwtHeader, JwtKeys, JwtProvider, JwtRequirement, Match, Path, PeerTests, RemoteKeys,
    SanMatch, Severity, StringMatch, UpstreamTls, code, defaults,
};

use crate::Client;
use crate::findings::Findings;
use crate::registry::has_all;
use crate::routes::Routes;
use crate::sessions;
use crate::tls::SYSTEM_AUTHORITIES;

/// What policies know the claims of tokens by, as in Istio.
pub(crate) const CLAIMS: &str = "payload";
/// As Istio's filters are called.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const RBAC_FILTER: &str = "envoy.filters.http.rbac";

/// The documents, and the clusters that keys are fetched from.
#[derive(Debug, Default)]
pub(crate) struct Guards<'a> {
    /// What is written there holds for all namespaces.
    root: &'a str,
    authentications: Vec<&'a RequestAuthentication>,
    policies: Vec<&'a AuthorizationPolicy>,
    clusters: Vec<Cluster>,
    /// Who else is asked, by name.
    providers: external::Providers,
}

impl<'a> Guards<'a> {
    /// What is wrong with them is told.
    pub fn of(resources: &'a Resources, root: &'a str, findings: &mut Findings<'_>) -> Guards<'a> {
        let mut guards = Guards { root, ..Guards::default() };
        for document in &resources.request_authentications {
            let spec = &document.spec;
            let chosen = Chosen::of(document, root);
            chosen.check(document.place, false, resources, findings);
            for (at, rule) in spec.jwt_rules.iter().enumerate() {
                let path = Path::ROOT.field("spec.jwtRules");
                provider(at, rule, &path.at(at), findings);
                guards.clusters.extend(cluster_of(rule));
            }
            guards.authentications.push(document);
        }
        for document in &resources.authorization_policies {
            let chosen = Chosen::of_policy(document, root);
            chosen.check(document.place, authorization::keeps_nobody_out(document), resources, findings);
            authorization::check(document, findings);
            let at: Vec<&Gateway> =
                resources.gateways.iter().filter(|gateway| chosen.is_for(gateway)).collect();
            let has_tokens =
                at.iter().any(|gateway| guards.reads_tokens(gateway) || sessions::are_at(gateway, resources));
            authorization::check_at(document, &at, has_tokens, findings);
            guards.policies.push(document);
        }
        guards.clusters.sort_by(|one, other| one.name.cmp(&other.name));
        guards.clusters.dedup();
        guards
    }

    /// Whether a RequestAuthentication verifies tokens at a Gateway.
    pub fn reads_tokens(&self, gateway: &Gateway) -> bool {
        self.authentications.iter().any(|document| {
            !document.spec.jwt_rules.is_empty() && Chosen::of(document, self.root).is_for(gateway)
        })
    }

    /// Finds who else is asked by policies, and where.
    pub fn find_providers(
        &mut self,
        resources: &Resources,
        routes: &mut Routes<'_>,
        findings: &mut Findings<'_>,
    ) {
        self.providers = external::providers(&self.policies, resources, routes, findings);
    }

    /// Those that keys are fetched from.
    pub fn into_clusters(self) -> Vec<Cluster> {
        self.clusters
    }

    /// What the requests of a chain pass that these gateways share.
    pub fn gate(&self, gateways: &[&Gateway], findings: &Findings<'_>) -> Gate {
        self.gate_where(&|chosen| gateways.iter().any(|gateway| chosen.is_for(gateway)), findings)
    }

    /// What the requests pass that come in to a workload by a proxy of its own.
    pub fn gate_before(&self, workload: &Client, findings: &Findings<'_>) -> Gate {
        self.gate_where(&|chosen| chosen.is_for_workload(&workload.namespace, &workload.labels), findings)
    }

    fn gate_where(&self, is_for: &dyn Fn(&Chosen<'_>) -> bool, findings: &Findings<'_>) -> Gate {
        let mut gate = Gate::default();
        let mut rules: Vec<&JwtRule> = Vec::new();
        for document in &self.authentications {
            let chosen = Chosen::of(document, self.root);
            if is_for(&chosen) {
                rules.extend(&document.spec.jwt_rules);
            }
        }
        let mut jwt_check = None;
        if !rules.is_empty() {
            jwt_check = Some(Check { name: JWT_FILTER.into(), kind: CheckKind::Jwt(Box::new(jwt(&rules))) });
        }
        let policies = self.policies.iter().copied();
        let policies = policies.filter(|document| is_for(&Chosen::of_policy(document, self.root)));
        let policies: Vec<_> = policies.collect();
        gate.checks.extend(external::checks(&policies, &self.providers, findings));
        gate.checks.extend(jwt_check);
        for rbac in authorization::checks(&policies, findings) {
            gate.checks.push(Check { name: RBAC_FILTER.into(), kind: CheckKind::Rbac(Box::new(rbac)) });
        }
        gate
    }
}

/// For a rule whose requests are asked neither for tokens nor by policies.
pub(crate) fn nothing() -> Vec<GateChange> {
    [JWT_FILTER, RBAC_FILTER, external::FILTER].map(|name| GateChange::Without(name.to_owned())).to_vec()
}

/// Which gateways a document is for.
struct Chosen<'a> {
    root: &'a str,
    meta: &'a Meta,
    selector: Option<&'a LabelSelector>,
    targets: Vec<&'a TargetRef>,
}

impl<'a> Chosen<'a> {
    fn of(document: &'a RequestAuthentication, root: &'a str) -> Chosen<'a> {
        let spec = &document.spec;
        let targets = spec.target_ref.iter().chain(&spec.target_refs).collect();
        Chosen { root, meta: &document.meta, selector: spec.selector.as_ref(), targets }
    }

    fn of_policy(document: &'a AuthorizationPolicy, root: &'a str) -> Chosen<'a> {
        let spec = document.spec.as_ref();
        let targets = spec.iter().flat_map(|spec| spec.target_ref.iter().chain(&spec.target_refs));
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        Chosen { root, meta: &document.meta, selector, targets: targets.collect() }
    }

    /// By its labels, or by namespace.
    fn is_for_workload(&self, namespace: &str, labels: &[(String, String)]) -> bool {
        let own = self.meta.namespace();
        let is_near = own == self.root || own == namespace;
        let selects = |selector: &LabelSelector| has_all(labels, &selector.match_labels);
        self.targets.is_empty() && is_near && self.selector.is_none_or(selects)
    }

    /// By name; by labels of the workload that the Gateway says it is; by namespace.
    fn is_for(&self, gateway: &Gateway) -> bool {
        let namespace = self.meta.namespace();
        let is_near = namespace == self.root || namespace == gateway.meta.namespace();
        if !self.targets.is_empty() {
            let is_it = |target: &&TargetRef| {
                target.kind.value == "Gateway"
                    && target.name.value == gateway.meta.name.value
                    && namespace == gateway.meta.namespace()
            };
            return self.targets.iter().any(is_it);
        }
        match self.selector {
            Some(selector) => is_near && meta::selects(&selector.match_labels, &gateway.spec.selector),
            None => is_near,
        }
    }

    /// One that is for no Gateway is an error, unless it would keep nobody out anywhere.
    fn check(
        &self,
        place: Place,
        keeps_nobody_out: bool,
        resources: &Resources,
        findings: &mut Findings<'_>,
    ) {
        let spec = Path::ROOT.field("spec");
        for target in &self.targets {
            if target.kind.value != "Gateway" {
                let message = format!("it cannot be asked at a {}", target.kind.value);
                let hint = "naru asks it at a Gateway";
                findings.error(
                    code::UNSUPPORTED_FIELD,
                    target.kind.place,
                    &spec.field("targetRefs"),
                    message,
                    hint,
                );
            }
        }
        let passes = |gateway: &&Gateway| gateway.spec.servers.iter().any(passes_through);
        let mut chosen = resources.gateways.iter().filter(|gateway| self.is_for(gateway));
        if let Some(gateway) = chosen.find(passes) {
            let message = format!(
                "connections that the Gateway '{}' passes through are not asked",
                gateway.meta.name.value
            );
            let hint = "a Gateway of its own for what is not HTTP";
            findings.error(code::UNSUPPORTED_FIELD, place, &spec, message, hint);
        }
        if !resources.gateways.iter().any(|gateway| self.is_for(gateway)) {
            let message = "it is for no Gateway, and nobody is kept out by it";
            let hint = "naru asks it at gateways: by selector.matchLabels of the Gateway's own selector, by targetRefs, \
                        or in istio-system for all";
            let severity = if keeps_nobody_out { Severity::Warning } else { Severity::Error };
            findings.tell(severity, code::NO_EFFECT, place, &spec, message, hint);
        }
    }
}

/// What a server passes through is no request.
pub(crate) fn passes_through(server: &Server) -> bool {
    let protocol = server.port.protocol.to_ascii_uppercase();
    let is_http = matches!(protocol.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTPS");
    // What says no mode is passed through, unless it only leads to HTTPS.
    let passes = server.tls.as_ref().is_some_and(|tls| {
        let mode = tls.mode.map_or(ServerTlsMode::Passthrough, |mode| mode.value);
        let is_passed = matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
        is_passed && tls.https_redirect.is_none()
    });
    !is_http || protocol == "HTTPS" && passes
}

/// As Istio joins them: any provider's token will do, and none at all.
fn jwt(rules: &[&JwtRule]) -> Jwt {
    let mut quiet = Quiet;
    let providers: Vec<_> =
        rules.iter().enumerate().filter_map(|(at, rule)| read(at, rule, &mut quiet)).collect();
    let named = |provider: &JwtProvider| JwtRequirement::Provider {
        name: provider.name.clone(),
        audiences: Vec::new(),
    };
    let optional = |provider| JwtRequirement::Any(vec![named(provider), JwtRequirement::AllowMissing]);
    let requires = match providers.as_slice() {
        [only] => optional(only),
        several => {
            let mut any: Vec<_> = several.iter().map(named).collect();
            any.push(JwtRequirement::All(several.iter().map(optional).collect()));
            JwtRequirement::Any(any)
        }
    };
    let rules = vec![naru_spec::JwtRule { matches: Match::default(), requires }];
    Jwt { providers, rules, named: Vec::new(), bypass_cors_preflight: true, strip_failure_response: false }
}

/// Who hears what is wrong.
trait Hears {
    fn hear(&mut self, place: Place, field: &str, message: &str, hint: &str);
}

struct Quiet;

impl Hears for Quiet {
    fn hear(&mut self, _: Place, _: &str, _: &str, _: &str) {}
}

struct Loud<'f, 'a, 'p> {
    findings: &'f mut Findings<'a>,
    path: &'p Path<'p>,
}

impl Hears for Loud<'_, '_, '_> {
    fn hear(&mut self, place: Place, field: &str, message: &str, hint: &str) {
        self.findings.error(code::INVALID_VALUE, place, &self.path.field(field), message, hint);
    }
}

fn provider(at: usize, rule: &JwtRule, path: &Path<'_>, findings: &mut Findings<'_>) {
    if rule.jwks.is_none() && rule.jwks_uri.is_none() {
        let message = "without jwks or jwksUri the keys of the issuer are not known";
        let hint = "naru does not look them up at the issuer: write jwksUri";
        findings.error(code::UNSUPPORTED_FIELD, rule.place, path, message, hint);
    }
    if let (Some(jwks), Some(_)) = (&rule.jwks, &rule.jwks_uri) {
        let message = "only one of jwks and jwksUri can be said";
        findings.error(code::CONFLICTING_FIELDS, jwks.place, &path.field("jwks"), message, "");
    }
    read(at, rule, &mut Loud { findings, path });
}

fn read(at: usize, rule: &JwtRule, hears: &mut dyn Hears) -> Option<JwtProvider> {
    let keys = match (&rule.jwks, &rule.jwks_uri) {
        (Some(jwks), _) => JwtKeys::Local(DataSource::Inline(jwks.value.clone().into_bytes())),
        (None, Some(uri)) => match (file_of(&uri.value), Site::of(uri)) {
            (Some(file), _) => JwtKeys::Local(DataSource::File(file.to_owned())),
            (None, Some(site)) => JwtKeys::Remote(RemoteKeys {
                uri: uri.value.clone(),
                cluster: site.cluster_name(),
                timeout: rule.timeout.map_or(defaults::JWKS_TIMEOUT, |said| said.value),
                cache: defaults::JWKS_CACHE,
            }),
            (None, None) => {
                let hint =
                    "http:// or https://, a host, and perhaps a port; or file:/// and the path of a file";
                hears.hear(uri.place, "jwksUri", "it is no address of keys", hint);
                return None;
            }
        },
        (None, None) => return None,
    };
    if rule.timeout.is_some_and(|said| said.value.is_zero()) {
        hears.hear(rule.place, "timeout", "a timeout of 0 leaves no time to fetch keys", "");
        return None;
    }
    let mut name = |text: &Text, field: &str| {
        let name = HeaderName::try_from(text.value.as_str()).ok();
        if name.is_none() {
            hears.hear(text.place, field, "it cannot be the name of a header", "");
        }
        name
    };
    let mut from_headers = Vec::new();
    for header in &rule.from_headers {
        let prefix = header.prefix.as_ref().map(|prefix| prefix.value.clone()).unwrap_or_default();
        from_headers.extend(name(&header.name, "fromHeaders").map(|name| JwtHeader { name, prefix }));
    }
    let payload_header =
        rule.output_payload_to_header.as_ref().and_then(|text| name(text, "outputPayloadToHeader"));
    let mut claim_headers = Vec::new();
    for said in &rule.output_claim_to_headers {
        let header = name(&said.header, "outputClaimToHeaders");
        claim_headers.extend(header.map(|header| ClaimHeader { header, claim: said.claim.value.clone() }));
    }
    let texts = |list: &[Text]| list.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
    // What Istio takes for lists of words.
    let mut spaced_claims = vec!["scope".to_owned(), "permission".to_owned()];
    spaced_claims.extend(texts(&rule.space_delimited_claims));
    Some(JwtProvider {
        audiences: texts(&rule.audiences),
        forward: rule.forward_original_token.is_some_and(|flag| flag.value),
        from_headers,
        from_params: texts(&rule.from_params),
        from_cookies: texts(&rule.from_cookies),
        payload_header,
        claim_headers,
        claims_name: CLAIMS.to_owned(),
        reroutes: true,
        spaced_claims,
        ..JwtProvider::new(format!("origins-{at}"), rule.issuer.value.clone(), keys)
    })
}

/// The file that an address names, which is of this machine and begins at its root.
pub fn file_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("file://").filter(|path| path.starts_with('/') && path.len() > 1)
}

/// Where keys are fetched, or somebody else is asked by naru itself.
pub(crate) struct Site {
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
}

impl Site {
    fn of(uri: &Text) -> Option<Site> {
        let uri: http::Uri = uri.value.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        (!host.is_empty()).then_some(Site { host, port, is_tls })
    }

    fn cluster_name(&self) -> String {
        format!("jwks|{}|{}|{}", if self.is_tls { "https" } else { "http" }, self.host, self.port)
    }

    /// Over TLS it is believed where one of these authorities says that it is this host.
    pub fn cluster(&self, name: String, authorities: DataSource) -> Cluster {
        let (discovery, address) = match self.host.parse() {
            Ok(ip) => (Discovery::Static, Address::Socket(SocketAddr::new(ip, self.port))),
            Err(_) => {
                let address = Address::Name { host: self.host.clone(), port: self.port };
                (Discovery::StrictDns(DnsSettings::default()), address)
            }
        };
        let mut cluster = Cluster::new(name, discovery, vec![Endpoint::new(address)]);
        cluster.tls = self.is_tls.then(|| UpstreamTls {
            sni: Some(self.host.clone()),
            trusted_ca: Some(authorities),
            peer: PeerTests {
                names: vec![SanMatch::any_kind(StringMatch::exact(self.host.clone()))],
                ..PeerTests::default()
            },
            ..UpstreamTls::default()
        });
        cluster
    }
}

fn cluster_of(rule: &JwtRule) -> Option<Cluster> {
    let site = Site::of(rule.jwks_uri.as_ref().filter(|_| rule.jwks.is_none())?)?;
    let name = site.cluster_name();
    Some(site.cluster(name, DataSource::File(SYSTEM_AUTHORITIES.to_owned())))
}
