//! Certificates and authorities of calls that stand in a Secret: `tls.credentialName` of a DestinationRule.
//!
//! As with gateways, the Secret is of the document's own namespace, with `tls.crt`, `tls.key`, `ca.crt` and
//! perhaps `ca.crl`, or with Istio's older names. Authorities may stand in a second one, `NAME-cacert`. In Istio the Secret is that of the
//! caller's namespace, where gateways are; here callers have none of their own.

use std::collections::BTreeMap;

use naru_resource::destination_rule::{ClientTls, ClientTlsMode, TrafficPolicy};
use naru_resource::{DestinationRule, Place, Resources};
use naru_spec::{Certificate, Cluster, DataSource, Path, code};

use crate::findings::Findings;
use crate::tls::{AUTHORITIES, REVOKED, entry, secret};

/// By where the block of TLS stands that names them.
#[derive(Debug, Default)]
pub(crate) struct Credentials(BTreeMap<Place, Credential>);

#[derive(Clone, Debug)]
struct Credential {
    certificate: Option<Certificate>,
    trusted_ca: Option<DataSource>,
    crl: Option<DataSource>,
}

impl Credentials {
    /// What Secrets have for every block that names one. What is missing is told.
    pub fn of(resources: &Resources, findings: &mut Findings<'_>) -> Credentials {
        let mut credentials = Credentials::default();
        for rule in &resources.destination_rules {
            for (tls, path) in blocks(rule) {
                let path = Path::ROOT.field(&path);
                if let Some(credential) = read(tls, rule.meta.namespace(), resources, &path, findings) {
                    credentials.0.insert(tls.place, credential);
                }
            }
        }
        credentials
    }

    /// Puts what a Secret has into the TLS of a cluster that has this block.
    pub fn apply(&self, cluster: &mut Cluster, block: Option<&ClientTls>) {
        let Some(credential) = block.and_then(|block| self.0.get(&block.place)) else { return };
        let Some(tls) = &mut cluster.tls else { return };
        tls.certificate = credential.certificate.clone();
        // Where nothing is verified nobody is trusted, either.
        if tls.trusted_ca.is_some() {
            tls.trusted_ca = credential.trusted_ca.clone();
            tls.peer.crl = credential.crl.clone();
        }
    }
}

/// The blocks of TLS of a rule, each with its path.
pub(crate) fn blocks(rule: &DestinationRule) -> Vec<(&ClientTls, String)> {
    let whole = rule.spec.traffic_policy.iter().map(|policy| (policy, "spec.trafficPolicy".to_owned()));
    let subsets = rule.spec.subsets.iter().enumerate().filter_map(|(at, subset)| {
        Some((subset.traffic_policy.as_ref()?, format!("spec.subsets[{at}].trafficPolicy")))
    });
    whole.chain(subsets).flat_map(|(policy, path)| of_policy(policy, &path)).collect()
}

fn of_policy<'a>(policy: &'a TrafficPolicy, path: &str) -> Vec<(&'a ClientTls, String)> {
    let whole = policy.tls.iter().map(|tls| (tls, format!("{path}.tls")));
    let ports = policy.port_level_settings.iter().enumerate();
    let ports = ports
        .filter_map(|(at, port)| Some((port.tls.as_ref()?, format!("{path}.portLevelSettings[{at}].tls"))));
    whole.chain(ports).collect()
}

/// `None` where no Secret is named, or something is wrong with it.
fn read(
    tls: &ClientTls,
    namespace: &str,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Credential> {
    let name = tls.credential_name.as_ref()?;
    let of_name = path.field("credentialName");
    let mode = tls.mode.as_ref().map_or(ClientTlsMode::Disable, |mode| mode.value);
    if !matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        let message = "'credentialName' has no effect with this mode";
        findings.warning(code::NO_EFFECT, name.place, &of_name, message, "mode: SIMPLE, or MUTUAL");
        return None;
    }
    for (other, field) in [
        (&tls.client_certificate, "clientCertificate"),
        (&tls.private_key, "privateKey"),
        (&tls.ca_certificates, "caCertificates"),
        (&tls.ca_crl, "caCrl"),
    ] {
        if let Some(other) = other {
            let message = format!("only one of credentialName and {field} can be said");
            findings.error(code::CONFLICTING_FIELDS, other.place, &path.field(field), message, "");
        }
    }
    let found = secret(name, namespace, resources);
    let of_authorities = secret(&format!("{}-cacert", name.value), namespace, resources);
    let mut missing = |message: String, hint: &str| {
        findings.error(code::UNKNOWN_REFERENCE, name.place, &of_name, message, hint);
        None
    };
    if found.is_none() && of_authorities.is_none() {
        let hint = format!("a Secret of namespace {namespace}, with tls.crt, tls.key and ca.crt");
        return missing(format!("there is no Secret '{}'", name.value), &hint);
    }
    let pair =
        found.and_then(|found| entry(found, &["tls.crt", "cert"]).zip(entry(found, &["tls.key", "key"])));
    let certificate = match (mode, pair) {
        (ClientTlsMode::Mutual, None) => {
            let message = format!("the Secret '{}' has no tls.crt and tls.key", name.value);
            return missing(message, "mode MUTUAL shows a certificate; SIMPLE shows none");
        }
        (ClientTlsMode::Mutual, Some((chain, key))) => Some(Certificate::new(chain, key)),
        _ => None,
    };
    let trusted_ca = found.and_then(|found| entry(found, AUTHORITIES));
    let trusted_ca = trusted_ca.or_else(|| of_authorities.and_then(|found| entry(found, AUTHORITIES)));
    let is_verified = !tls.insecure_skip_verify.is_some_and(|skip| skip.value);
    if trusted_ca.is_none() && is_verified {
        let message = format!("the Secret '{}' has no ca.crt: nobody would be trusted", name.value);
        return missing(message, "add ca.crt, or the Secret NAME-cacert");
    }
    let crl = found.and_then(|found| entry(found, REVOKED));
    let crl = crl.or_else(|| of_authorities.and_then(|found| entry(found, REVOKED)));
    Some(Credential { certificate, trusted_ca, crl })
}
