//! Certificates that are issued to naru itself: who issues them, for which names, and what is answered while it is
//! proved that the names lead here.
//!
//! In come `AcmeIssuer`s and what a shell has got of their servers; out go [`AcmeOrder`]s for the shell, certificates
//! for servers of gateways, and the answers to challenges, which are part of the configuration: rules before all
//! others, and certificates for `acme-tls/1`. So all workers have them, and no request pays for them.

use std::collections::BTreeMap;

use naru_resource::acme::{AcmeChallenge, AcmeIssuer};
use naru_resource::gateway::ServerTlsMode;
use naru_resource::{Gateway, Resources};
use naru_spec::{
    Action, AlpnChallenge, Certificate, DataSource, DirectResponse, Domain, Listener, Match, Path, PathMatch,
    Redirect, RouteTable, Rule, Scheme, TlsRequirement, VirtualHost, code,
};

use crate::Surroundings;
use crate::findings::Findings;
use crate::identity;

/// Where nothing is said.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// RFC 8555, section 8.3.
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// A certificate to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOrder {
    /// `name.namespace`; an issuer has one certificate.
    pub issuer: String,
    /// The URL of the directory.
    pub server: String,
    pub email: Option<String>,
    pub challenge: AcmeChallenge,
    pub names: Vec<String>,
    /// A file.
    pub trusted_ca: Option<String>,
}

/// What there is of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeIssued {
    pub issuer: String,
    pub certificate: Certificate,
}

/// Something that a server of ACME looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct AcmeAnswer {
    pub name: String,
    pub says: AcmeSays,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AcmeSays {
    /// HTTP-01: the text at the place of the token.
    Text { token: String, text: String },
    /// TLS-ALPN-01.
    Certificate(Certificate),
}

/// Who issues the certificate of a gateway.
pub(crate) fn issuer_of<'r>(gateway: &Gateway, resources: &'r Resources) -> Option<&'r AcmeIssuer> {
    resources.acme_issuers.iter().find(|issuer| is_for(issuer, gateway))
}

/// The certificate of an issuer, or one that serves nobody, where it has none yet.
pub(crate) fn certificate(issuer: &AcmeIssuer, surroundings: &Surroundings) -> Certificate {
    let name = issuer.meta.full_name();
    match surroundings.issued.iter().find(|issued| issued.issuer == name) {
        Some(issued) => issued.certificate.clone(),
        None => Certificate::new(DataSource::Inline(Vec::new()), DataSource::Inline(Vec::new())),
    }
}

/// All that are asked for, in the order of documents.
pub fn acme_orders(resources: &Resources) -> Vec<AcmeOrder> {
    let expanded = crate::gateway_api::expand(resources, &mut Findings::new(&resources.files));
    let resources: &Resources = &expanded;
    let orders = resources.acme_issuers.iter().filter_map(|issuer| {
        let gateway = gateway_of(issuer, resources)?;
        let spec = &issuer.spec;
        let names = names(issuer, gateway);
        (!names.is_empty()).then(|| AcmeOrder {
            issuer: issuer.meta.full_name(),
            server: spec.server.as_ref().map_or(LETS_ENCRYPT, |server| server.value.as_str()).to_owned(),
            email: spec.email.as_ref().map(|email| email.value.clone()),
            challenge: spec.challenge.map_or(AcmeChallenge::Http01, |challenge| challenge.value),
            names,
            trusted_ca: spec.ca_certificates.as_ref().map(|file| file.value.clone()),
        })
    });
    orders.collect()
}

/// Whether a Gateway has an issuer, so that its servers need no certificate of their own.
pub(crate) fn has_issuer(gateway: &naru_resource::Meta, resources: &Resources) -> bool {
    resources.acme_issuers.iter().any(|issuer| {
        let target = &issuer.spec.target_ref;
        target.kind.value == "Gateway"
            && target.name.value == gateway.name.value
            && issuer.meta.namespace() == gateway.namespace()
    })
}

fn gateway_of<'r>(issuer: &AcmeIssuer, resources: &'r Resources) -> Option<&'r Gateway> {
    resources.gateways.iter().find(|gateway| is_for(issuer, gateway))
}

fn is_for(issuer: &AcmeIssuer, gateway: &Gateway) -> bool {
    let target = &issuer.spec.target_ref;
    target.kind.value == "Gateway"
        && target.name.value == gateway.meta.name.value
        && issuer.meta.namespace() == gateway.meta.namespace()
}

/// Those that are said, or those of servers that end TLS and have no certificate of their own.
fn names(issuer: &AcmeIssuer, gateway: &Gateway) -> Vec<String> {
    let mut names: Vec<String> = issuer.spec.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if names.is_empty() {
        let servers = gateway.spec.servers.iter().filter(|server| {
            let tls = server.tls.as_ref();
            tls.is_some_and(|tls| {
                tls.mode.is_some_and(|mode| mode.value != ServerTlsMode::Passthrough)
                    && tls.server_certificate.is_none()
                    && tls.credential_name.is_none()
                    && tls.credential_names.is_empty()
                    && tls.tls_certificates.is_empty()
            })
        });
        let hosts = servers.flat_map(|server| server.hosts.iter());
        names = hosts.map(|host| host.rsplit('/').next().unwrap_or("").to_ascii_lowercase()).collect();
    }
    names.retain(|name| is_provable(name));
    names.sort();
    names.dedup();
    names
}

/// A star cannot be proved by either challenge, nor an address.
fn is_provable(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label) && name.parse::<std::net::Ipv4Addr>().is_err()
}

pub(crate) fn check(resources: &Resources, findings: &mut Findings<'_>) {
    let mut known: Vec<&AcmeIssuer> = Vec::new();
    let spec_path = Path::ROOT.field("spec");
    for issuer in &resources.acme_issuers {
        let spec = &issuer.spec;
        let target = &spec.target_ref;
        let of_target = spec_path.field("targetRef");
        if target.kind.value != "Gateway" {
            let message = format!("an AcmeIssuer is for a Gateway, not for a {}", target.kind.value);
            findings.error(
                code::INVALID_VALUE,
                target.kind.place,
                &of_target.field("kind"),
                message,
                "kind: Gateway",
            );
            continue;
        }
        if let Some(section) = &target.section_name {
            let message =
                "an AcmeIssuer is for all servers of a Gateway that have no certificate of their own";
            findings.error(
                code::UNSUPPORTED_FIELD,
                section.place,
                &of_target.field("sectionName"),
                message,
                "say hosts",
            );
        }
        let Some(gateway) = gateway_of(issuer, resources) else {
            let message = format!(
                "there is no Gateway '{}' in namespace {}",
                target.name.value,
                issuer.meta.namespace()
            );
            findings.error(code::UNKNOWN_REFERENCE, target.name.place, &of_target.field("name"), message, "");
            continue;
        };
        if let Some(before) = known.iter().find(|before| is_for(before, gateway)) {
            let message = format!(
                "the Gateway has an issuer already: it is at {}",
                findings.locate(before.meta.name.place)
            );
            findings.error(
                code::CONFLICT,
                issuer.meta.name.place,
                &Path::ROOT.field("metadata.name"),
                message,
                "join them",
            );
        }
        known.push(issuer);
        let challenge = spec.challenge.map_or(AcmeChallenge::Http01, |challenge| challenge.value);
        let mut servers = resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
        let is_plain = |protocol: &str| matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB");
        if challenge == AcmeChallenge::Http01
            && !servers.any(|server| is_plain(&server.port.protocol.to_ascii_uppercase()))
        {
            let place = spec.challenge.map_or(spec.place, |challenge| challenge.place);
            let message = "HTTP-01 is asked for without TLS, and no Gateway has a server with protocol HTTP";
            let hint = "a server on port 80, or challenge: TLS-ALPN-01";
            findings.error(code::MISSING_FIELD, place, &spec_path.field("challenge"), message, hint);
        }
        if let Some(server) = spec.server.as_ref().filter(|server| !server.starts_with("https://")) {
            let message = format!("'{}' is no URL of a server of ACME", server.value);
            let hint = format!("the URL of its directory, as {LETS_ENCRYPT}");
            findings.error(code::INVALID_VALUE, server.place, &spec_path.field("server"), message, hint);
        }
        if let Some(email) = spec.email.as_ref().filter(|email| !email.contains('@') || email.contains(' ')) {
            let message = format!("'{}' is no address", email.value);
            findings.error(code::INVALID_VALUE, email.place, &spec_path.field("email"), message, "");
        }
        for (at, host) in spec.hosts.iter().enumerate() {
            if !is_provable(&host.to_ascii_lowercase()) {
                let message = format!(
                    "a certificate for '{}' cannot be had by {}",
                    host.value, "HTTP-01 or TLS-ALPN-01"
                );
                let hint = "a name without a star";
                findings.error(
                    code::INVALID_VALUE,
                    host.place,
                    &spec_path.field("hosts").at(at),
                    message,
                    hint,
                );
            }
        }
        if spec.hosts.is_empty() && names(issuer, gateway).is_empty() {
            let message = "no server of the Gateway has a host that a certificate could be had for";
            let hint = "say hosts, without stars";
            findings.error(code::MISSING_FIELD, spec.place, &spec_path, message, hint);
        }
    }
}

/// Has gateways answer what servers of ACME ask.
pub(crate) fn answer(listeners: &mut [Listener], answers: &[AcmeAnswer]) {
    if answers.is_empty() {
        return;
    }
    let mut rules: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    let mut certificates = Vec::new();
    for answer in answers {
        match &answer.says {
            AcmeSays::Text { token, text } => rules.entry(&answer.name).or_default().push(rule(token, text)),
            AcmeSays::Certificate(certificate) => certificates
                .push(AlpnChallenge { name: answer.name.clone(), certificate: certificate.clone() }),
        }
    }
    let gateways = listeners.iter_mut().filter(|listener| listener.name.starts_with("gateway/"));
    for chain in gateways.flat_map(|listener| &mut listener.chains) {
        match &mut chain.tls {
            Some(tls) => tls.challenges.clone_from(&certificates),
            None if chain.tcp.is_none() => {
                for (name, rules) in &rules {
                    say(&mut chain.http.routes, name, rules);
                }
            }
            None => {}
        }
    }
}

fn rule(token: &str, text: &str) -> Rule {
    Rule {
        // An issuer has no token, and no policy knows it.
        gate: identity::nothing(),
        name: "acme-challenge".to_owned(),
        origin: String::new(),
        matches: vec![Match { path: PathMatch::Exact(format!("{WELL_KNOWN}{token}")), ..Match::default() }],
        action: Action::Direct(Box::new(DirectResponse {
            status: http::StatusCode::OK,
            body: text.as_bytes().to_vec(),
        })),
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

/// The host has these rules first, and then what holds for it anyway.
fn say(table: &mut RouteTable, name: &str, rules: &[Rule]) {
    let Ok(domain) = Domain::parse(name) else { return };
    let fit = |host: &VirtualHost| host.domains.iter().filter_map(|domain| fits(domain, name)).max();
    let best = table.virtual_hosts.iter().enumerate().filter_map(|(at, host)| Some((fit(host)?, at)));
    let best = best.max_by_key(|(fit, at)| (*fit, std::cmp::Reverse(*at))).map(|(_, at)| at);
    let mut own = match best.and_then(|at| table.virtual_hosts.get_mut(at)) {
        Some(host) => {
            let own = host.clone();
            host.domains.retain(|known| *known != domain);
            own
        }
        None => VirtualHost {
            name: String::new(),
            domains: Vec::new(),
            rules: Vec::new(),
            tls: TlsRequirement::None,
            request_headers: Default::default(),
            response_headers: Default::default(),
        },
    };
    table.virtual_hosts.retain(|host| !host.domains.is_empty());
    if own.tls != TlsRequirement::None {
        // What all requests are sent to TLS by comes after the answer.
        own.tls = TlsRequirement::None;
        own.rules = vec![Rule {
            name: "https-redirect".to_owned(),
            matches: vec![Match::default()],
            action: Action::Redirect(Box::new(Redirect {
                scheme: Some(Scheme::Https),
                ..Redirect::default()
            })),
            ..rule("", "")
        }];
    }
    own.name = format!("acme/{name}");
    own.domains = vec![domain];
    own.rules.splice(0..0, rules.iter().cloned());
    table.virtual_hosts.push(own);
}

/// How well; an exact name best, then the longest that stands behind a star.
fn fits(domain: &Domain, name: &str) -> Option<usize> {
    match domain {
        Domain::Exact(own) => (own == name).then_some(usize::MAX),
        Domain::Suffix(rest) => {
            (name.len() > rest.len() && name.ends_with(rest.as_str())).then_some(rest.len() + 1)
        }
        Domain::Any => Some(0),
        Domain::Prefix(start) => (name.len() > start.len() && name.starts_with(start.as_str())).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use naru_spec::{FilterChain, Http};

    use super::*;

    fn host(domains: &[&str], tls: TlsRequirement) -> VirtualHost {
        VirtualHost {
            name: domains.concat(),
            domains: domains.iter().map(|domain| Domain::parse(domain).unwrap()).collect(),
            rules: vec![Rule { name: format!("of {}", domains.concat()), ..rule("own", "") }],
            tls,
            request_headers: Default::default(),
            response_headers: Default::default(),
        }
    }

    /// Hosts with the names of their rules, after a challenge for `name` is answered.
    fn answered(hosts: Vec<VirtualHost>, name: &str) -> Vec<(Vec<String>, Vec<String>, TlsRequirement)> {
        let mut chain = FilterChain::of(Http::new("t", RouteTable::default()));
        chain.http.routes.virtual_hosts = hosts;
        let mut listeners = [Listener::new("gateway/80", ([127, 0, 0, 1], 80).into(), vec![chain])];
        let says = AcmeSays::Text { token: "abc".to_owned(), text: "abc.def".to_owned() };
        answer(&mut listeners, &[AcmeAnswer { name: name.to_owned(), says }]);
        let [listener] = listeners;
        let hosts = listener.chains[0].http.routes.virtual_hosts.iter().map(|host| {
            let domains = host.domains.iter().map(ToString::to_string).collect();
            (domains, host.rules.iter().map(|rule| rule.name.clone()).collect(), host.tls)
        });
        hosts.collect()
    }

    #[test]
    fn an_answer_stands_before_what_holds_for_the_host_anyway() {
        let all = || {
            vec![
                host(&["*"], TlsRequirement::None),
                host(&["*.test"], TlsRequirement::All),
                host(&["*.a.test", "b.test"], TlsRequirement::None),
            ]
        };
        let of = |name: &str| answered(all(), name).pop().unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            of("x.org"),
            (names(&["x.org"]), names(&["acme-challenge", "of *"]), TlsRequirement::None)
        );
        assert_eq!(
            of("c.test"),
            (names(&["c.test"]), names(&["acme-challenge", "https-redirect"]), TlsRequirement::None),
            "everything else is still sent to TLS"
        );
        assert_eq!(of("x.a.test").1, names(&["acme-challenge", "of *.a.testb.test"]));
        let exact = answered(all(), "b.test");
        assert_eq!(exact[2].0, names(&["*.a.test"]), "it is the other's no more");
        assert_eq!(exact[3].0, names(&["b.test"]));
        let alone = answered(vec![host(&["a.test"], TlsRequirement::None)], "a.test");
        assert_eq!(alone.len(), 1, "a host without names is none");
        let nobody = answered(Vec::new(), "a.test");
        assert_eq!(nobody[0].1, names(&["acme-challenge"]));
    }

    #[test]
    fn only_plain_chains_of_gateways_answer_and_those_with_tls_show_certificates() {
        let chain = || FilterChain::of(Http::new("t", RouteTable::default()));
        let tls = || FilterChain { tls: Some(naru_spec::DownstreamTls::new(Vec::new())), ..chain() };
        let address = || ([127, 0, 0, 1], 80).into();
        let mut listeners = vec![
            Listener::new("gateway/80", address(), vec![chain(), tls()]),
            Listener::new("outbound/x", address(), vec![chain(), tls()]),
        ];
        let certificate = Certificate::new(DataSource::Inline(vec![1]), DataSource::Inline(vec![2]));
        let text = AcmeSays::Text { token: "abc".to_owned(), text: "abc.def".to_owned() };
        let says = [text, AcmeSays::Certificate(certificate)];
        let answers = says.map(|says| AcmeAnswer { name: "a.test".to_owned(), says });
        answer(&mut listeners, &answers);
        let seen: Vec<(usize, usize)> = listeners
            .iter()
            .flat_map(|listener| &listener.chains)
            .map(|chain| {
                let challenges = chain.tls.as_ref().map_or(0, |tls| tls.challenges.len());
                (chain.http.routes.virtual_hosts.len(), challenges)
            })
            .collect();
        assert_eq!(seen, [(1, 0), (0, 1), (0, 0), (0, 0)]);
    }

    #[test]
    fn names_that_can_be_proved() {
        for (name, expected) in [
            ("a.example", true),
            ("xn--9d0bz4h.kr", true),
            ("localhost", true),
            ("*.example", false),
            ("*", false),
            ("10.0.0.1", false),
            ("a..b", false),
            ("-a.b", false),
            ("a_b.c", false),
            ("", false),
        ] {
            assert_eq!(is_provable(name), expected, "{name}");
        }
    }
}
