//! How backends are called: `BackendTLSPolicy`.
//!
//! Comes in: policies and ConfigMaps. Goes out: for the host and the port of a Service the TLS with which it is called,
//! whatever a DestinationRule says of it. Of two policies for the same the more specific holds, then the older one.
//! Source: `apis/v1/backendtlspolicy_types.go` of sigs.k8s.io/gateway-api.

use std::collections::BTreeMap;

use naru_resource::config::Hidden;
use naru_resource::gateway_api::{BackendName, ObjectRef, PolicyTarget};
use naru_resource::{BackendTlsPolicy, Meta, Place, Resources, Secret, Text};
use naru_spec::{
    Cluster, DataSource, Path, PeerTests, SanMatch, StringMatch, UpstreamProtocol, UpstreamTls, code,
};

use super::attach::{is_config_map, precedence};
use super::status::{Condition, Failed, ParentName, ParentStatus, Status};
use crate::findings::Findings;
use crate::names::DOMAIN;
use crate::tls::SYSTEM_AUTHORITIES;

/// By host and port; without a port for all of a Service.
#[derive(Debug, Default)]
pub(crate) struct BackendTls(BTreeMap<(String, Option<u16>), UpstreamTls>);

impl BackendTls {
    pub fn of(resources: &Resources, findings: &mut Findings<'_>) -> BackendTls {
        let mut known = BackendTls::default();
        for judged in judge(resources) {
            judged.tell(findings);
            for target in &judged.targets {
                if let (Ok(keys), Some(tls)) = (&target.outcome, &judged.tls) {
                    for key in keys {
                        known.0.insert(key.clone(), tls.clone());
                    }
                }
            }
        }
        known
    }

    pub fn apply(&self, cluster: &mut Cluster, host: &str, port: u16) {
        if self.0.is_empty() {
            return;
        }
        let found =
            self.0.get(&(host.to_owned(), Some(port))).or_else(|| self.0.get(&(host.to_owned(), None)));
        if let Some(tls) = found {
            cluster.tls = Some(tls.clone());
            if cluster.protocol == UpstreamProtocol::Downstream {
                cluster.protocol = UpstreamProtocol::Alpn;
            }
        }
    }
}

/// A policy, and what becomes of each of its targets.
struct Judged<'a> {
    policy: &'a BackendTlsPolicy,
    tls: Option<UpstreamTls>,
    unresolved: Option<Failed>,
    targets: Vec<Targeted<'a>>,
}

struct Targeted<'a> {
    target: &'a PolicyTarget,
    outcome: Result<Vec<(String, Option<u16>)>, Failed>,
}

impl Judged<'_> {
    fn tell(&self, findings: &mut Findings<'_>) {
        let spec = Path::ROOT.field("spec");
        if let Some(failed) = &self.unresolved {
            let message = format!("{} ({})", failed.message, failed.reason);
            findings.error(code::UNKNOWN_REFERENCE, failed.place, &spec.field("validation"), message, "");
        }
        let targets = spec.field("targetRefs");
        for (at, targeted) in self.targets.iter().enumerate() {
            let Err(failed) = &targeted.outcome else { continue };
            let message = format!("{} ({})", failed.message, failed.reason);
            let code = if failed.reason == "Conflicted" { code::CONFLICT } else { code::UNKNOWN_REFERENCE };
            findings.error(code, failed.place, &targets.at(at), message, "");
        }
        for (key, _) in &self.policy.spec.options {
            let message = format!("naru does not know the option '{}' of TLS", key.value);
            findings.error(code::UNSUPPORTED_FIELD, key.place, &spec.field("options"), message, "");
        }
    }
}

/// All policies, whoever comes first before the others.
fn judge(resources: &Resources) -> Vec<Judged<'_>> {
    let mut policies: Vec<&BackendTlsPolicy> = resources.backend_tls_policies.iter().collect();
    policies.sort_by(|a, b| precedence(&a.meta).cmp(&precedence(&b.meta)));
    let mut taken: BTreeMap<(String, Option<u16>), &BackendTlsPolicy> = BTreeMap::new();
    let mut all = Vec::new();
    for policy in policies {
        let (tls, unresolved) = match tls_of(policy, resources) {
            Ok(tls) => (Some(tls), None),
            Err(failed) => (None, Some(failed)),
        };
        let mut targets = Vec::new();
        for target in &policy.spec.target_refs {
            let mut outcome = resolve(policy, target, resources);
            if let Ok(keys) = &outcome
                && let Some(before) = keys.iter().find_map(|key| taken.get(key))
            {
                let message =
                    format!("the BackendTLSPolicy '{}' is for the same Service", before.meta.name.value);
                outcome = Err(Failed { reason: "Conflicted", message, place: target.name.place });
            }
            if let Ok(keys) = &outcome {
                taken.extend(keys.iter().map(|key| (key.clone(), policy)));
            }
            targets.push(Targeted { target, outcome });
        }
        all.push(Judged { policy, tls, unresolved, targets });
    }
    all
}

fn resolve(
    policy: &BackendTlsPolicy,
    target: &PolicyTarget,
    resources: &Resources,
) -> Result<Vec<(String, Option<u16>)>, Failed> {
    let failed = |reason, message: String| Failed { reason, message, place: target.name.place };
    let namespace = policy.meta.namespace();
    if target.kind.value != "Service" || !target.group.value.is_empty() {
        return Err(failed("Invalid", format!("it cannot be attached to a {}", target.kind.value)));
    }
    let host = format!("{}.{namespace}.{DOMAIN}", target.name.value);
    let known = resources.services.iter().find(|service| {
        service.meta.name.value == target.name.value && service.meta.namespace() == namespace
    });
    let Some(known) = known else {
        return Err(failed(
            "TargetNotFound",
            format!("there is no Service '{}' in {namespace}", target.name.value),
        ));
    };
    let Some(section) = &target.section_name else { return Ok(vec![(host, None)]) };
    let ports =
        known.spec.ports.iter().filter(|port| port.name.as_ref().is_some_and(|n| n.value == section.value));
    let keys: Vec<_> =
        ports.filter_map(|port| Some((host.clone(), Some(u16::try_from(port.port.value).ok()?)))).collect();
    if keys.is_empty() {
        let message = format!("the Service '{}' has no port '{}'", target.name.value, section.value);
        return Err(failed("TargetNotFound", message));
    }
    Ok(keys)
}

fn tls_of(policy: &BackendTlsPolicy, resources: &Resources) -> Result<UpstreamTls, Failed> {
    let said = &policy.spec.validation;
    let failed = |reason, message: &str, place| Failed { reason, message: message.to_owned(), place };
    let trusted_ca = match (said.ca_certificate_refs.as_slice(), &said.well_known_ca_certificates) {
        ([], None) => {
            let message = "one of caCertificateRefs and wellKnownCACertificates has to be said";
            return Err(failed("NoValidCACertificate", message, said.place));
        }
        ([], Some(known)) if known.value == "System" => DataSource::File(SYSTEM_AUTHORITIES.to_owned()),
        ([], Some(known)) => {
            return Err(failed("NoValidCACertificate", "'System' is all that is known here", known.place));
        }
        (_, Some(known)) => {
            let message = "only one of caCertificateRefs and wellKnownCACertificates can be said";
            return Err(failed("Invalid", message, known.place));
        }
        (refs, None) => DataSource::Inline(bundle(refs, policy.meta.namespace(), resources)?),
    };
    let hostname = said.hostname.value.clone();
    let names = match said.subject_alt_names.as_slice() {
        [] => vec![SanMatch::any_kind(StringMatch::exact(hostname.clone()))],
        several => several.iter().map(name).collect::<Result<Vec<_>, _>>()?,
    };
    Ok(UpstreamTls {
        sni: Some(hostname),
        trusted_ca: Some(trusted_ca),
        peer: PeerTests { names, ..PeerTests::default() },
        ..UpstreamTls::default()
    })
}

fn name(said: &BackendName) -> Result<SanMatch, Failed> {
    let value = match said.kind.as_str() {
        "Hostname" => said.hostname.as_ref(),
        "URI" => said.uri.as_ref(),
        _ => None,
    };
    let value = value.ok_or_else(|| Failed {
        reason: "Invalid",
        message: "a name in a certificate is a Hostname or a URI".to_owned(),
        place: said.place,
    })?;
    Ok(SanMatch::any_kind(StringMatch::exact(value.value.clone())))
}

/// The authorities of ConfigMaps, one after the other.
fn bundle(refs: &[ObjectRef], namespace: &str, resources: &Resources) -> Result<Vec<u8>, Failed> {
    let mut all = Vec::new();
    for said in refs {
        let failed =
            |message: String| Failed { reason: "InvalidCACertificateRef", message, place: said.place };
        if !is_config_map(said) {
            return Err(failed("authorities stand in a ConfigMap".to_owned()));
        }
        let found = resources
            .config_maps
            .iter()
            .find(|map| map.meta.name.value == said.name.value && map.meta.namespace() == namespace);
        let value = found.and_then(|map| map.data.iter().find(|(key, _)| key.value == "ca.crt"));
        let Some((_, value)) = value else {
            return Err(failed(format!(
                "there is no ConfigMap '{}' with ca.crt in {namespace}",
                said.name.value
            )));
        };
        all.extend_from_slice(value.value.as_bytes());
        all.push(b'\n');
    }
    Ok(all)
}

/// A Secret that has these authorities, where there are any: gateways take theirs from one. Its name cannot be that of a
/// document.
pub(super) fn authorities(
    refs: &[ObjectRef],
    namespace: &str,
    resources: &Resources,
    secrets: &mut Vec<Secret>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    match bundle(refs, namespace, resources) {
        Ok(bytes) => {
            let place = refs.first().map_or(Place::default(), |first| first.place);
            let text = |value: String| Text { value, place };
            let name = format!("authorities~{}", secrets.len());
            secrets.push(Secret {
                place,
                meta: Meta {
                    place,
                    name: text(name.clone()),
                    namespace: Some(text(namespace.to_owned())),
                    labels: Vec::new(),
                    created: None,
                    generation: None,
                    export_to: None,
                },
                kind: None,
                data: vec![(text("ca.crt".to_owned()), Hidden(bytes))],
            });
            Some(name)
        }
        Err(failed) => {
            findings.error(code::UNKNOWN_REFERENCE, failed.place, path, failed.message, "");
            None
        }
    }
}

pub(super) fn statuses(resources: &Resources) -> Vec<Status> {
    let all = judge(resources).into_iter().map(|judged| {
        let resolved = match &judged.unresolved {
            None => Condition::yes("ResolvedRefs", "ResolvedRefs"),
            Some(failed) => Condition::no("ResolvedRefs", failed),
        };
        let parents = judged.targets.iter().map(|targeted| {
            let accepted = match (&targeted.outcome, &judged.unresolved) {
                (Ok(_), None) => Condition::yes("Accepted", "Accepted"),
                (Ok(_), Some(failed)) => {
                    Condition { reason: "NoValidCACertificate", ..Condition::no("Accepted", failed) }
                }
                (Err(failed), _) => Condition::no("Accepted", failed),
            };
            ParentStatus {
                parent: ParentName {
                    group: String::new(),
                    kind: "Service".to_owned(),
                    namespace: judged.policy.meta.namespace().to_owned(),
                    name: targeted.target.name.value.clone(),
                    section: None,
                    port: None,
                },
                conditions: vec![accepted, resolved.clone()],
            }
        });
        let parents = parents.collect();
        let meta = &judged.policy.meta;
        Status {
            kind: "BackendTLSPolicy",
            namespace: meta.namespace().to_owned(),
            name: meta.name.value.clone(),
            place: judged.policy.place,
            generation: meta.generation.map(|said| said.value),
            conditions: Vec::new(),
            listeners: Vec::new(),
            parents,
        }
    });
    all.collect()
}
