//! TLS of Istio's documents: what servers of a `Gateway` and the policy of a `DestinationRule` say of it.

use naru_resource::destination_rule::{ClientTls, ClientTlsMode};
use naru_resource::gateway::{ServerTls, ServerTlsMode, TlsProtocol};
use naru_resource::{Place, Placed, Resources, Secret, Text};
use naru_spec::{
    Certificate, DataSource, DownstreamTls, Fingerprint, Offered, Path, PeerTests, SanMatch, StringMatch,
    TlsVersion, UpstreamTls, code,
};

use crate::findings::Findings;
use crate::mesh::ROOT_NAMESPACE;
use crate::mutual::{self, Mutual};
use crate::registry::Known;

/// Where the system keeps the authorities that it trusts; Istio's `system` too.
pub(crate) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a server of a namespace shows and asks for; `issued` is shown where it names nothing of its own.
pub(crate) fn downstream(
    tls: &ServerTls,
    namespace: &str,
    issued: Option<Certificate>,
    mutual: Mutual<'_>,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DownstreamTls> {
    let mode = tls.mode.as_ref().map_or(ServerTlsMode::Passthrough, |mode| mode.value);
    let mode_place = tls.mode.as_ref().map_or(tls.place, |mode| mode.place);
    match mode {
        ServerTlsMode::Simple
        | ServerTlsMode::Mutual
        | ServerTlsMode::OptionalMutual
        | ServerTlsMode::IstioMutual => {}
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            let message = "TLS that ends here has mode SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL";
            findings.error(code::INVALID_VALUE, mode_place, &path.field("mode"), message, "");
            return None;
        }
    }
    let Shown { mut certificates, trusted_ca, crl } = match mode {
        ServerTlsMode::IstioMutual => {
            mutual::check_server(tls, path, findings);
            let (certificate, authorities) = mutual.identity();
            Shown { certificates: vec![certificate], trusted_ca: Some(authorities), crl: None }
        }
        _ => shown(tls, namespace, resources, path, findings),
    };
    let has_own = tls.credential_name.is_some() || !tls.credential_names.is_empty();
    if certificates.is_empty() && !has_own {
        certificates.extend(issued);
    }
    if certificates.is_empty() {
        let hint = "say credentialName, or serverCertificate and privateKey, or attach an AcmeIssuer";
        findings.error(code::MISSING_FIELD, tls.place, path, "the server has no certificate", hint);
        return None;
    }
    let is_checked = mode != ServerTlsMode::Simple;
    let mut peer = peer(tls, crl, is_checked, path, findings);
    if mode == ServerTlsMode::IstioMutual && peer.names.is_empty() {
        peer.names = mutual.anybody();
    }
    if is_checked && trusted_ca.is_none() && !peer.is_pinned() {
        let hint = "say caCertificates, or ca.crt in the Secret";
        let message = "clients cannot be checked without authorities";
        findings.error(code::MISSING_FIELD, mode_place, path, message, hint);
    }
    if is_checked && trusted_ca.is_none() && !peer.names.is_empty() {
        let place = tls.subject_alt_names.first().map_or(tls.place, |name| name.place);
        let message = "names in certificates can only be checked where authorities are";
        let hint = "say caCertificates, or ca.crt in the Secret";
        findings.error(code::MISSING_FIELD, place, &path.field("subjectAltNames"), message, hint);
    }
    let version_min =
        version(&tls.min_protocol_version, TlsVersion::V1_2, path, "minProtocolVersion", findings);
    let version_max =
        version(&tls.max_protocol_version, TlsVersion::V1_3, path, "maxProtocolVersion", findings);
    if let Some(said) = tls.min_protocol_version.filter(|_| version_min > version_max) {
        let message = "the minimum TLS version is above the maximum";
        findings.error(code::INVALID_VALUE, said.place, &path.field("minProtocolVersion"), message, "");
    }
    Some(DownstreamTls {
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        version_min,
        version_max,
        offered: offered(&tls.cipher_suites, version_min, path, findings),
        trusted_ca: trusted_ca.filter(|_| is_checked),
        require_client_certificate: matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual),
        peer,
        ..DownstreamTls::new(certificates)
    })
}

/// What a server shows of itself, and what clients are checked against.
struct Shown {
    certificates: Vec<Certificate>,
    trusted_ca: Option<DataSource>,
    crl: Option<DataSource>,
}

fn shown(
    tls: &ServerTls,
    namespace: &str,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Shown {
    let mut certificates = Vec::new();
    let mut trusted_ca = tls.ca_certificates.as_ref().map(file);
    let mut crl = tls.ca_crl.as_ref().map(file);
    let pairs =
        tls.tls_certificates.iter().map(|pair| (&pair.server_certificate, &pair.private_key, pair.place));
    let own = (&tls.server_certificate, &tls.private_key, tls.place);
    for (chain, key, place) in std::iter::once(own).chain(pairs) {
        match (chain, key) {
            (Some(chain), Some(key)) => certificates.push(Certificate::new(file(chain), file(key))),
            (None, None) => {}
            _ => {
                let message = "serverCertificate and privateKey belong together";
                findings.error(code::MISSING_FIELD, place, path, message, "");
            }
        }
    }
    for name in tls.credential_name.iter().chain(&tls.credential_names) {
        // In Istio it is one of the namespace that the gateway's process runs in, which is mostly this.
        let found = secret(name, namespace, resources);
        let Some(secret) = found.or_else(|| secret(name, ROOT_NAMESPACE, resources)) else {
            let message = format!("there is no Secret '{}'", name.value);
            let hint = format!("a TLS Secret of namespace {namespace}, with tls.crt and tls.key");
            findings.error(code::UNKNOWN_REFERENCE, name.place, &path.field("credentialName"), message, hint);
            continue;
        };
        match (entry(secret, &["tls.crt", "cert"]), entry(secret, &["tls.key", "key"])) {
            (Some(chain), Some(key)) => {
                let staple = entry(secret, &["tls.ocsp-staple"]);
                certificates.push(Certificate { staple, ..Certificate::new(chain, key) });
            }
            _ => {
                let message = format!("the Secret '{}' has no tls.crt and tls.key", name.value);
                findings.error(code::MISSING_FIELD, name.place, &path.field("credentialName"), message, "");
            }
        }
        trusted_ca = trusted_ca.or_else(|| entry(secret, AUTHORITIES));
        crl = crl.or_else(|| entry(secret, REVOKED));
    }
    if let Some(name) = &tls.ca_cert_credential_name {
        let secret = secret(name, namespace, resources);
        trusted_ca = secret.and_then(|secret| entry(secret, AUTHORITIES));
        crl = secret.and_then(|secret| entry(secret, REVOKED)).or(crl);
        if trusted_ca.is_none() {
            let message = format!("there is no Secret '{}' with ca.crt", name.value);
            findings.error(code::UNKNOWN_REFERENCE, name.place, path, message, "");
        }
    }
    Shown { certificates, trusted_ca, crl }
}

/// Entries of a Secret: of Kubernetes' kind, and of Istio's older one.
pub(crate) const AUTHORITIES: &[&str] = &["ca.crt", "cacert"];
pub(crate) const REVOKED: &[&str] = &["ca.crl", "crl"];

/// What a client's certificate must be besides. Where none is looked at, that is told.
fn peer(
    tls: &ServerTls,
    crl: Option<DataSource>,
    is_checked: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> PeerTests {
    let mut fingerprints = |said: &[Text], field, read: fn(&str) -> Option<Fingerprint>, hint| {
        let path = path.field(field);
        let mut found = Vec::new();
        for (at, text) in said.iter().enumerate() {
            match read(text) {
                Some(fingerprint) => found.push(fingerprint),
                None => {
                    let message = format!("'{}' is no SHA-256 digest", text.value);
                    findings.error(code::INVALID_VALUE, text.place, &path.at(at), message, hint);
                }
            }
        }
        found
    };
    let peer = PeerTests {
        names: named(&tls.subject_alt_names),
        keys: fingerprints(
            &tls.verify_certificate_spki,
            "verifyCertificateSpki",
            Fingerprint::from_base64,
            "base64 of the digest of the public key (SubjectPublicKeyInfo)",
        ),
        certificates: fingerprints(
            &tls.verify_certificate_hash,
            "verifyCertificateHash",
            Fingerprint::from_hex,
            "hexadecimal, with colons or without",
        ),
        crl,
        crl_of_leaf_only: false,
    };
    if is_checked {
        return peer;
    }
    for (place, field) in [
        (tls.ca_crl.as_ref().map(|text| text.place), "caCrl"),
        (tls.subject_alt_names.first().map(|text| text.place), "subjectAltNames"),
        (tls.verify_certificate_spki.first().map(|text| text.place), "verifyCertificateSpki"),
        (tls.verify_certificate_hash.first().map(|text| text.place), "verifyCertificateHash"),
    ] {
        if let Some(place) = place {
            let message = "no client is asked for a certificate with mode SIMPLE";
            findings.warning(
                code::NO_EFFECT,
                place,
                &path.field(field),
                message,
                "mode MUTUAL, or OPTIONAL_MUTUAL",
            );
        }
    }
    PeerTests::default()
}

fn named(names: &[Text]) -> Vec<SanMatch> {
    names.iter().map(|name| SanMatch::any_kind(StringMatch::exact(name.value.clone()))).collect()
}

fn offered(said: &[Text], version_min: TlsVersion, path: &Path<'_>, findings: &mut Findings<'_>) -> Offered {
    let of_suites = path.field("cipherSuites");
    let (suites, problems) = Offered::read_suites(said.iter().map(|text| text.value.as_str()));
    let place = |at: usize| said.get(at).map_or(Place::default(), |text| text.place);
    let mut has_errors = false;
    for problem in problems {
        let path = of_suites.at(problem.at);
        if problem.is_error() {
            has_errors = true;
            let hint = "a name of OpenSSL's, as ECDHE-RSA-AES128-GCM-SHA256";
            findings.error(code::UNKNOWN_VALUE, place(problem.at), &path, &problem, hint);
        } else {
            findings.warning(code::NO_EFFECT, place(problem.at), &path, &problem, "");
        }
    }
    if !said.is_empty() && suites.is_empty() && !has_errors && version_min == TlsVersion::V1_2 {
        let hint = "add ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256";
        let message = "naru speaks none of these cipher suites";
        findings.error(code::UNSUPPORTED_FIELD, place(0), &of_suites, message, hint);
    }
    Offered { suites, curves: Vec::new() }
}

fn version(
    said: &Option<Placed<TlsProtocol>>,
    default: TlsVersion,
    path: &Path<'_>,
    field: &str,
    findings: &mut Findings<'_>,
) -> TlsVersion {
    let Some(said) = said else { return default };
    match said.value {
        TlsProtocol::Auto => default,
        TlsProtocol::V1_2 => TlsVersion::V1_2,
        TlsProtocol::V1_3 => TlsVersion::V1_3,
        TlsProtocol::V1_0 | TlsProtocol::V1_1 => {
            let message = "TLS below 1.2 is not supported";
            findings.error(
                code::UNSUPPORTED_FIELD,
                said.place,
                &path.field(field),
                message,
                "TLSV1_2 or TLSV1_3",
            );
            default
        }
    }
}

/// Whether a DestinationRule asks for TLS that naru speaks.
pub(crate) fn is_of_upstream(tls: &ClientTls) -> bool {
    tls.mode.as_ref().is_some_and(|mode| mode.value != ClientTlsMode::Disable)
}

/// Of a DestinationRule, with certificates of somebody's own. Where it does not say what those of the service say, the
/// service does, or what it is called.
pub(crate) fn upstream(tls: &ClientTls, known: &Known) -> UpstreamTls {
    let Known { host, names: of_service, .. } = known;
    let is_verified = !tls.insecure_skip_verify.as_ref().is_some_and(|skip| skip.value);
    let sni = tls.sni.as_ref().map_or_else(|| host.clone(), |sni| sni.value.clone());
    let trusted_ca = is_verified.then(|| {
        let own = tls.ca_certificates.as_ref().filter(|path| path.value != "system");
        own.map_or_else(|| DataSource::File(SYSTEM_AUTHORITIES.to_owned()), file)
    });
    let said = if tls.subject_alt_names.is_empty() { of_service } else { &tls.subject_alt_names };
    let mut names = named(said);
    if names.is_empty() {
        names.push(SanMatch::any_kind(StringMatch::exact(sni.clone())));
    }
    let peer = PeerTests { names, crl: tls.ca_crl.as_ref().map(file), ..PeerTests::default() };
    UpstreamTls {
        certificate: match (&tls.client_certificate, &tls.private_key) {
            (Some(chain), Some(key)) => Some(Certificate::new(file(chain), file(key))),
            _ => None,
        },
        sni: Some(sni),
        trusted_ca,
        peer: if is_verified { peer } else { PeerTests::default() },
        ..UpstreamTls::default()
    }
}

/// What such a policy says that cannot be.
pub(crate) fn check_upstream(tls: &ClientTls, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mode = tls.mode.as_ref().map_or(ClientTlsMode::Disable, |mode| mode.value);
    if mode == ClientTlsMode::IstioMutual {
        return mutual::check_call(tls, path, findings);
    }
    if mode == ClientTlsMode::Mutual && tls.credential_name.is_none() {
        for (value, name) in
            [(&tls.client_certificate, "clientCertificate"), (&tls.private_key, "privateKey")]
        {
            if value.is_none() {
                let message = format!("mode MUTUAL needs '{name}'");
                findings.error(code::MISSING_FIELD, tls.place, path, message, "");
            }
        }
    }
    let skips = tls.insecure_skip_verify.as_ref().is_some_and(|skip| skip.value);
    for (place, field) in [
        (tls.ca_crl.as_ref().map(|text| text.place), "caCrl"),
        (tls.subject_alt_names.first().map(|text| text.place), "subjectAltNames"),
    ] {
        if let Some(place) = place.filter(|_| skips) {
            let message = "nothing is verified with 'insecureSkipVerify'";
            findings.warning(code::NO_EFFECT, place, &path.field(field), message, "");
        }
    }
}

fn file(path: &Text) -> DataSource {
    DataSource::File(path.value.clone())
}

/// The Secret that a document of a namespace names: of its own namespace, or `namespace/name`.
pub(crate) fn secret<'a>(name: &str, namespace: &str, resources: &'a Resources) -> Option<&'a Secret> {
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    resources
        .secrets
        .iter()
        .find(|secret| secret.meta.name.value == name && secret.meta.namespace() == namespace)
}

pub(crate) fn entry(secret: &Secret, names: &[&str]) -> Option<DataSource> {
    let found = secret.data.iter().find(|(key, _)| names.contains(&key.as_str()));
    found.map(|(_, value)| DataSource::Inline(value.0.clone()))
}
