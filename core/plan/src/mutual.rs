//! Who is who between proxies: mutual TLS with certificates of the mesh, Istio's `ISTIO_MUTUAL`.
//!
//! Comes in: what this proxy was issued, who stands for the others, and what the mesh is called. Goes out: TLS of calls,
//! and of servers that are called so. A name is a SPIFFE id, `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. Processes that
//! this proxy leads to without another one before them are called as they are: nobody would be there to show anything.
//! Sources: Istio's `ClientTLSSettings` and `ServerTLSSettings`; the SPIFFE ID standard. Deliberately not here: issuing,
//! which needs keys and a clock.

use std::borrow::Cow;

use naru_resource::destination_rule::{ClientTls, ClientTlsMode};
use naru_resource::gateway::{ServerTls, ServerTlsMode};
use naru_resource::{DestinationRule, Place, Resources, Secret, Text, Texts};
use naru_spec::{
    Certificate, ClusterName, DataSource, DownstreamTls, Path, PeerTests, SanKind, SanMatch, Severity,
    StringMatch, UpstreamTls, ValueTest, code,
};

use crate::credentials::blocks;
use crate::findings::Findings;
use crate::mesh::{Mesh, ROOT_NAMESPACE};
use crate::registry::Known;
use crate::tls::entry;

/// Istio's.
const TRUST_DOMAIN: &str = "cluster.local";
/// Where an authority of somebody's own stands, as in Istio.
const AUTHORITY: &str = "cacerts";

/// What a proxy shows to others of the mesh, and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshIdentity {
    pub certificate: Certificate,
    pub authorities: DataSource,
}

/// Who issues certificates of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshAuthority {
    pub trust_domain: String,
    /// Somebody's own; else one is made.
    pub given: Option<GivenAuthority>,
}

/// What stands in the Secret `cacerts`; all of it PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenAuthority {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// From its certificate to the root, which may be left out.
    pub chain: Vec<u8>,
    pub roots: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for GivenAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GivenAuthority")
    }
}

/// Who is to issue certificates, where documents ask for any: some call, or server, is `ISTIO_MUTUAL`.
pub fn mesh_authority(resources: &Resources) -> Option<MeshAuthority> {
    if !is_asked_for(resources) {
        return None;
    }
    let mesh = Mesh::of(resources, None, &mut Findings::new(&resources.files));
    let trust_domain = mesh.clusters.mutual.domain.to_owned();
    Some(MeshAuthority { trust_domain, given: authority_secret(resources).and_then(given) })
}

fn authority_secret(resources: &Resources) -> Option<&Secret> {
    let is_it =
        |secret: &&Secret| secret.meta.name.value == AUTHORITY && secret.meta.namespace() == ROOT_NAMESPACE;
    resources.secrets.iter().find(is_it)
}

/// Where the one stands that somebody brings.
pub fn mesh_authority_place(resources: &Resources) -> Option<Place> {
    authority_secret(resources).map(|secret| secret.meta.name.place)
}

fn given(secret: &Secret) -> Option<GivenAuthority> {
    let of = |name: &str| match entry(secret, &[name]) {
        Some(DataSource::Inline(bytes)) => Some(bytes),
        _ => None,
    };
    // Of the kind that cert-manager writes, whose chain begins with the authority's own.
    if let (Some(chain), Some(key)) = (of("tls.crt"), of("tls.key")) {
        let roots = of("ca.crt").unwrap_or_else(|| chain.clone());
        return Some(GivenAuthority { certificate: chain.clone(), key, chain, roots });
    }
    let certificate = of("ca-cert.pem")?;
    let roots = of("root-cert.pem").unwrap_or_else(|| certificate.clone());
    let chain = of("cert-chain.pem").unwrap_or_default();
    Some(GivenAuthority { key: of("ca-key.pem")?, certificate, chain, roots })
}

fn is_asked_for(resources: &Resources) -> bool {
    let is_server =
        |tls: &ServerTls| tls.mode.as_ref().is_some_and(|mode| mode.value == ServerTlsMode::IstioMutual);
    let mut servers = resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
    servers.any(|server| server.tls.as_ref().is_some_and(is_server)) || is_called_for(resources)
}

/// Whether some DestinationRule asks for calls of this kind: what comes in to a workload may then be one.
pub(crate) fn is_called_for(resources: &Resources) -> bool {
    resources.destination_rules.iter().any(|rule| blocks(rule).iter().any(|(tls, _)| is_mutual(tls)))
}

/// Whether a call is to be one between proxies.
pub(crate) fn is_mutual(tls: &ClientTls) -> bool {
    tls.mode.as_ref().is_some_and(|mode| mode.value == ClientTlsMode::IstioMutual)
}

/// With every principal of policies that is of this mesh under all of its names: in a policy, `cluster.local` is the mesh
/// whatever it is called, as in Istio.
pub(crate) fn with_domains(resources: &Resources) -> Cow<'_, Resources> {
    let mesh = Mesh::of(resources, None, &mut Findings::new(&resources.files));
    let own: Vec<&str> = mesh.clusters.mutual.domains().collect();
    if own == [TRUST_DOMAIN] || resources.authorization_policies.is_empty() {
        return Cow::Borrowed(resources);
    }
    let widen = |principals: &mut Texts| {
        let all = std::mem::take(principals);
        principals.extend(all.into_iter().flat_map(|said| {
            let rest = said
                .value
                .split_once('/')
                .filter(|(domain, _)| *domain == TRUST_DOMAIN || own.contains(domain));
            let under = |rest: &str| -> Vec<Text> {
                own.iter()
                    .map(|domain| Text { value: format!("{domain}/{rest}"), place: said.place })
                    .collect()
            };
            rest.map_or_else(|| vec![said.clone()], |(_, rest)| under(rest))
        }));
    };
    let mut widened = resources.clone();
    let rules = widened.authorization_policies.iter_mut().filter_map(|policy| policy.spec.as_mut());
    for rule in rules.flat_map(|spec| &mut spec.rules) {
        for source in rule.from.iter_mut().filter_map(|from| from.source.as_mut()) {
            widen(&mut source.principals);
            widen(&mut source.not_principals);
        }
        for condition in rule.when.iter_mut().filter(|condition| condition.key.value == "source.principal") {
            widen(&mut condition.values);
            widen(&mut condition.not_values);
        }
    }
    Cow::Owned(widened)
}

/// Tells of an authority that cannot be used.
pub(crate) fn check(resources: &Resources, findings: &mut Findings<'_>) {
    let asked = authority_secret(resources).filter(|_| is_asked_for(resources));
    if let Some(secret) = asked.filter(|secret| given(secret).is_none()) {
        let message = "an authority of the mesh has ca-cert.pem and ca-key.pem, or tls.crt and tls.key";
        let hint = "and root-cert.pem and cert-chain.pem, where it is none of its own; as in Istio";
        findings.error(code::MISSING_FIELD, secret.meta.name.place, &Path::ROOT.field("data"), message, hint);
    }
}

/// What a proxy has for this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutual<'a> {
    identity: Option<&'a MeshIdentity>,
    domain: &'a str,
    /// Others that are the same mesh.
    aliases: &'a [Text],
}

impl Default for Mutual<'_> {
    fn default() -> Self {
        Mutual { identity: None, domain: TRUST_DOMAIN, aliases: &[] }
    }
}

impl<'a> Mutual<'a> {
    pub fn new(
        identity: Option<&'a MeshIdentity>,
        domain: Option<&'a str>,
        aliases: &'a [Text],
    ) -> Mutual<'a> {
        Mutual { identity, domain: domain.unwrap_or(TRUST_DOMAIN), aliases }
    }

    /// One that serves nobody, and believes nobody, where there is none yet.
    pub fn identity(&self) -> (Certificate, DataSource) {
        let nothing = || DataSource::Inline(Vec::new());
        match self.identity {
            Some(identity) => (identity.certificate.clone(), identity.authorities.clone()),
            None => (Certificate::new(nothing(), nothing()), nothing()),
        }
    }

    fn domains(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.domain).chain(self.aliases.iter().map(|alias| alias.as_str()))
    }

    /// Anybody of the mesh.
    pub fn anybody(&self) -> Vec<SanMatch> {
        let of = |domain| ValueTest::Prefix(format!("spiffe://{domain}/"));
        self.domains().map(|domain| uri(StringMatch { test: of(domain), ignore_case: false })).collect()
    }

    /// What is shown at a workload to who calls it so.
    pub fn downstream(&self) -> DownstreamTls {
        let (certificate, authorities) = self.identity();
        DownstreamTls {
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            trusted_ca: Some(authorities),
            require_client_certificate: true,
            peer: PeerTests { names: self.anybody(), ..PeerTests::default() },
            ..DownstreamTls::new(vec![certificate])
        }
    }

    /// A call of a cluster: who answers is of the accounts of the service, where documents know them, and of the mesh in
    /// any case.
    pub fn upstream(&self, tls: &ClientTls, cluster: &str, known: &Known) -> UpstreamTls {
        let (certificate, trusted_ca) = self.identity();
        // By this name a gateway passes it on that ends no TLS.
        let called = ClusterName::read(cluster).filter(|name| !name.host.contains('*'));
        let passed = || called.map(|name| ClusterName { is_passed: true, ..name }.to_string());
        let sni = tls.sni.as_ref().map(|sni| sni.value.clone()).or_else(passed);
        let said = if tls.subject_alt_names.is_empty() { &known.names } else { &tls.subject_alt_names };
        let exact = |name: &Text| SanMatch::any_kind(StringMatch::exact(name.value.clone()));
        let mut names: Vec<SanMatch> = said.iter().map(exact).collect();
        if names.is_empty() {
            names = self.accounts(known);
        }
        if names.is_empty() {
            names = self.anybody();
        }
        UpstreamTls {
            certificate: Some(certificate),
            sni,
            trusted_ca: Some(trusted_ca),
            peer: PeerTests { names, ..PeerTests::default() },
            ..UpstreamTls::default()
        }
    }

    /// Of all endpoints, where each of them says one.
    fn accounts(&self, known: &Known) -> Vec<SanMatch> {
        // Before a process is no proxy.
        let called = known.endpoints.iter().filter(|endpoint| !endpoint.is_process);
        let accounts: Option<Vec<&str>> = called.map(|endpoint| endpoint.account.as_deref()).collect();
        let mut accounts = accounts.unwrap_or_default();
        accounts.sort_unstable();
        accounts.dedup();
        let of = |account: &str| {
            let namespace = &known.namespace;
            let id = |domain: &str| {
                uri(StringMatch::exact(format!("spiffe://{domain}/ns/{namespace}/sa/{account}")))
            };
            self.domains().map(id).collect::<Vec<_>>()
        };
        accounts.into_iter().flat_map(of).collect()
    }
}

fn uri(test: StringMatch) -> SanMatch {
    SanMatch { kind: Some(SanKind::Uri), test }
}

/// What cannot be said beside it, at a server: all of it is the mesh's own. As in Istio.
pub(crate) fn check_server(tls: &ServerTls, path: &Path<'_>, findings: &mut Findings<'_>) {
    let named = [
        (&tls.server_certificate, "serverCertificate"),
        (&tls.private_key, "privateKey"),
        (&tls.ca_certificates, "caCertificates"),
        (&tls.credential_name, "credentialName"),
        (&tls.ca_cert_credential_name, "caCertCredentialName"),
        (&tls.ca_crl, "caCrl"),
    ];
    if let Some(pair) = tls.tls_certificates.first() {
        let message = "'tlsCertificates' cannot be said with ISTIO_MUTUAL: certificates are the mesh's own";
        let hint = "leave it out, or say mode: MUTUAL";
        findings.error(code::CONFLICTING_FIELDS, pair.place, &path.field("tlsCertificates"), message, hint);
    }
    let lists = [(&tls.credential_names, "credentialNames")];
    let named = named.into_iter().filter_map(|(said, field)| Some((said.as_ref()?, field)));
    let lists = lists.into_iter().filter_map(|(said, field)| Some((said.first()?, field)));
    for (said, field) in named.chain(lists) {
        let message = format!("'{field}' cannot be said with ISTIO_MUTUAL: certificates are the mesh's own");
        let hint = "leave it out, or say mode: MUTUAL";
        findings.error(code::CONFLICTING_FIELDS, said.place, &path.field(field), message, hint);
    }
}

/// The same of calls.
pub(crate) fn check_call(tls: &ClientTls, path: &Path<'_>, findings: &mut Findings<'_>) {
    for (said, field) in [
        (&tls.client_certificate, "clientCertificate"),
        (&tls.private_key, "privateKey"),
        (&tls.ca_certificates, "caCertificates"),
        (&tls.ca_crl, "caCrl"),
    ] {
        if let Some(said) = said {
            let message =
                format!("'{field}' has no effect with ISTIO_MUTUAL: certificates are the mesh's own");
            let hint = "leave it out, or say mode: MUTUAL";
            findings.warning(code::NO_EFFECT, said.place, &path.field(field), message, hint);
        }
    }
    if let Some(skip) = tls.insecure_skip_verify.as_ref().filter(|skip| skip.value) {
        let message = "'insecureSkipVerify' has no effect with ISTIO_MUTUAL: who answers is verified";
        findings.warning(
            code::NO_EFFECT,
            skip.place,
            &path.field("insecureSkipVerify"),
            message,
            "leave it out",
        );
    }
}

/// Tells where nobody is who could be called so: `naru up` stands before no process.
pub(crate) fn note_processes(rule: &DestinationRule, called: &[&Known], findings: &mut Findings<'_>) {
    let runs = |known: &&Known| {
        !known.selected.is_empty() || known.endpoints.iter().any(|endpoint| endpoint.is_process)
    };
    if !called.iter().any(runs) {
        return;
    }
    for (tls, path) in blocks(rule) {
        let Some(mode) = tls.mode.filter(|_| is_mutual(tls)) else { continue };
        let message = "processes that naru runs are called without TLS: no other proxy stands before them";
        let hint = "whoever has a proxy, or is a gateway, is called by mutual TLS";
        let path = Path::ROOT.field(&path);
        findings.tell(Severity::Note, code::NOT_YET, mode.place, &path.field("mode"), message, hint);
    }
}
