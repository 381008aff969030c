//! What a workload sees of the mesh: Istio's `Sidecar`.
//!
//! Comes in: Sidecars, and who calls. Goes out: which hosts a caller knows, at which ports, and what becomes of calls to
//! all others. One that selects the workload holds, or else that of its namespace, or else that of the root namespace.
//! Source: istiod's `sidecar.go`: `convertToSidecarScope`. Deliberately not here: what comes in to a workload, which is
//! `inbound`'s.

use naru_resource::sidecar::{OutboundMode, OutboundTrafficPolicy};
use naru_resource::virtual_service::Destination;
use naru_resource::{Resources, Sidecar, Text};
use naru_spec::{Path, code};

use crate::Client;
use crate::findings::Findings;
use crate::inbound;
use crate::mesh::Mesh;
use crate::names::{fits, fqdn};
use crate::registry::{Registry, has_all};

/// All of them, and what holds where none does.
#[derive(Debug)]
pub(crate) struct Sidecars<'a> {
    resources: &'a Resources,
    root: &'a str,
    mode: OutboundMode,
}

/// What one caller sees.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// Without any it sees all.
    seen: Option<Vec<Seen>>,
    pub mode: OutboundMode,
    pub egress_proxy: Option<&'a Destination>,
    /// Of who says so.
    pub namespace: &'a str,
}

/// Hosts of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// `None` is any.
    namespace: Option<String>,
    host: String,
    port: Option<u16>,
    /// They are not seen, whatever else is said.
    is_excluded: bool,
}

impl<'a> Sidecars<'a> {
    pub fn of(
        resources: &'a Resources,
        mesh: &Mesh<'a>,
        registry: &Registry,
        findings: &mut Findings<'_>,
    ) -> Sidecars<'a> {
        let all = &resources.sidecars;
        for (at, sidecar) in all.iter().enumerate() {
            check(sidecar, registry, mesh.root_namespace, findings);
            inbound::check(sidecar, resources, findings);
            let Some(before) = all.iter().take(at).find(|before| is_same(before, sidecar)) else { continue };
            let message = match &sidecar.spec.workload_selector {
                Some(_) => "two Sidecars select the same workloads, and the first has them",
                None => "two Sidecars are for all of a namespace, and the first has it",
            };
            let hint = format!("join them: the other is at {}", findings.locate(before.meta.name.place));
            let path = Path::ROOT.field("spec");
            findings.error(code::CONFLICT, sidecar.meta.name.place, &path, message, hint);
        }
        Sidecars { resources, root: mesh.root_namespace, mode: mesh.outbound }
    }

    /// The one that is for a workload.
    pub fn of_workload(&self, client: &Client) -> Option<&'a Sidecar> {
        find(self.resources, self.root, &client.namespace, &client.labels)
    }

    /// What a caller sees.
    pub fn scope(&self, client: &Client) -> Scope<'a> {
        let Some(sidecar) = self.of_workload(client) else {
            return Scope { seen: None, mode: self.mode, egress_proxy: None, namespace: self.root };
        };
        let egress = &sidecar.spec.egress;
        let seen = egress.iter().flat_map(|listener| {
            let port = listener.port.as_ref().and_then(|port| u16::try_from(port.number.value).ok());
            listener.hosts.iter().filter_map(move |host| Seen::of(host, &client.namespace, port))
        });
        let policy = sidecar.spec.outbound_traffic_policy.as_ref();
        let mode = policy.map_or(self.mode, mode_of);
        Scope {
            seen: (!egress.is_empty()).then(|| seen.collect()),
            mode,
            egress_proxy: policy.and_then(|policy| policy.egress_proxy.as_ref()),
            namespace: sidecar.meta.namespace(),
        }
    }
}

/// The Sidecar for a workload of a namespace that has these labels.
pub(crate) fn find<'a>(
    resources: &'a Resources,
    root: &str,
    namespace: &str,
    labels: &[(String, String)],
) -> Option<&'a Sidecar> {
    let all = &resources.sidecars;
    let of = |namespace: &str, sidecar: &Sidecar| sidecar.meta.namespace() == namespace;
    let selector = |sidecar: &'a Sidecar| {
        sidecar.spec.workload_selector.as_ref().map_or(&[][..], |selector| selector.labels.as_slice())
    };
    let selected = all.iter().find(|sidecar| {
        let asked = selector(sidecar);
        of(namespace, sidecar) && !asked.is_empty() && has_all(labels, asked)
    });
    let whole =
        |namespace: &str| all.iter().find(|sidecar| of(namespace, sidecar) && selector(sidecar).is_empty());
    selected.or_else(|| whole(namespace)).or_else(|| whole(root))
}

/// A policy that says no mode is the first of the enum, as protobuf has it.
pub(crate) fn mode_of(policy: &OutboundTrafficPolicy) -> OutboundMode {
    policy.mode.map_or(OutboundMode::RegistryOnly, |mode| mode.value)
}

impl Scope<'_> {
    /// Whether it knows a host that a namespace has, at a port.
    pub fn sees(&self, namespace: &str, host: &str, port: u16) -> bool {
        self.is_imported(namespace, host, Some(port))
    }

    /// Whether what a namespace says of a host is for it.
    pub fn hears(&self, namespace: &str, host: &str) -> bool {
        self.is_imported(namespace, host, None)
    }

    fn is_imported(&self, namespace: &str, host: &str, port: Option<u16>) -> bool {
        let Some(seen) = &self.seen else { return true };
        let is_meant = |seen: &&Seen| {
            seen.namespace.as_deref().is_none_or(|of| of == namespace)
                && (fits(&seen.host, host).is_some() || fits(host, &seen.host).is_some())
                && port.is_none_or(|port| seen.port.is_none_or(|of| of == port))
        };
        let mut is_seen = false;
        for seen in seen.iter().filter(is_meant) {
            if seen.is_excluded {
                return false;
            }
            is_seen = true;
        }
        is_seen
    }
}

impl Seen {
    /// `NAMESPACE/HOST`; `~NAMESPACE/HOST` leaves them out. `None` for `~/*`, which is nothing.
    fn of(said: &Text, own: &str, port: Option<u16>) -> Option<Seen> {
        let (namespace, host) = said.split_once('/').unwrap_or((".", said));
        let (is_excluded, namespace) = match namespace.strip_prefix('~') {
            Some("") => return None,
            Some(namespace) => (true, namespace),
            None => (false, namespace),
        };
        let namespace = match namespace {
            "*" => None,
            "." => Some(own.to_owned()),
            other => Some(other.to_owned()),
        };
        // Istio takes whole names only; a short one is what its author means in his namespace.
        let host = fqdn(host, namespace.as_deref().unwrap_or(own));
        Some(Seen { namespace, host, port, is_excluded })
    }
}

/// Whether two are for the same workloads, as far as it can be seen from what they select.
fn is_same(one: &Sidecar, other: &Sidecar) -> bool {
    let labels = |sidecar: &Sidecar| {
        let selector = sidecar.spec.workload_selector.as_ref();
        let mut labels: Vec<(String, String)> = selector
            .iter()
            .flat_map(|selector| &selector.labels)
            .map(|(key, value)| (key.value.clone(), value.value.clone()))
            .collect();
        labels.sort();
        labels
    };
    one.meta.namespace() == other.meta.namespace() && labels(one) == labels(other)
}

fn check(sidecar: &Sidecar, registry: &Registry, root: &str, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    if let Some(selector) =
        sidecar.spec.workload_selector.as_ref().filter(|_| sidecar.meta.namespace() == root)
    {
        let message = "one of the root namespace selects nobody elsewhere: it is no default then";
        let path = spec.field("workloadSelector");
        findings.warning(code::NO_EFFECT, selector.place, &path, message, "leave workloadSelector out");
    }
    let egress = spec.field("egress");
    for (at, listener) in sidecar.spec.egress.iter().enumerate() {
        let path = egress.at(at);
        if listener.hosts.is_empty() {
            findings.error(
                code::MISSING_FIELD,
                listener.place,
                &path.field("hosts"),
                "it needs hosts",
                "./* is all of the namespace",
            );
        }
        for (said, field) in [(&listener.bind, "bind"), (&listener.capture_mode, "captureMode")] {
            if let Some(said) = said {
                let message =
                    format!("naru does not act on '{field}': calls come in at the workload's own listener");
                findings.warning(code::NOT_YET, said.place, &path.field(field), message, "");
            }
        }
        let hosts = path.field("hosts");
        for (at, host) in listener.hosts.iter().enumerate() {
            check_host(host, sidecar, registry, &hosts.at(at), findings);
        }
    }
    if let Some(policy) = &sidecar.spec.outbound_traffic_policy
        && let Some(proxy) = &policy.egress_proxy
        && mode_of(policy) == OutboundMode::RegistryOnly
    {
        let path = spec.field("outboundTrafficPolicy.egressProxy");
        let message = "nothing goes through it: calls to others are refused with REGISTRY_ONLY";
        findings.warning(code::NO_EFFECT, proxy.place, &path, message, "say mode: ALLOW_ANY");
    }
}

/// Kiali's KIA1004: a host that nobody defines.
fn check_host(
    host: &Text,
    sidecar: &Sidecar,
    registry: &Registry,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let Some((_, name)) = host.split_once('/') else {
        let message = format!("'{}' names no namespace", host.value);
        let hint = format!("write ./{0}, or */{0}", host.value);
        findings.error(code::INVALID_VALUE, host.place, path, message, hint);
        return;
    };
    let Some(seen) = Seen::of(host, sidecar.meta.namespace(), None) else { return };
    if name == "*" || registry.is_empty() {
        return;
    }
    let is_there = registry.services().any(|known| {
        seen.namespace.as_deref().is_none_or(|of| of == known.namespace)
            && (fits(&seen.host, &known.host).is_some() || fits(&known.host, &seen.host).is_some())
    });
    if !is_there {
        let message = format!("no Service and no ServiceEntry fits '{}'", host.value);
        findings.warning(code::UNKNOWN_HOST, host.place, path, message, "");
    }
}

#[cfg(test)]
mod tests {
    use naru_resource::Place;

    use super::*;

    fn seen(said: &str) -> Option<Seen> {
        Seen::of(&Text { value: said.to_owned(), place: Place::default() }, "shop", None)
    }

    #[test]
    fn hosts_are_of_a_namespace_of_all_or_of_none() {
        let of = |namespace: Option<&str>, host: &str, is_excluded| {
            Some(Seen {
                namespace: namespace.map(str::to_owned),
                host: host.to_owned(),
                port: None,
                is_excluded,
            })
        };
        assert_eq!(seen("./*"), of(Some("shop"), "*", false));
        assert_eq!(seen("*/*.example.com"), of(None, "*.example.com", false));
        assert_eq!(seen("db/pg.db.svc.cluster.local"), of(Some("db"), "pg.db.svc.cluster.local", false));
        assert_eq!(seen("./pg"), of(Some("shop"), "pg.shop.svc.cluster.local", false));
        assert_eq!(seen("~db/*"), of(Some("db"), "*", true));
        assert_eq!(seen("~/*"), None);
    }

    #[test]
    fn what_is_left_out_is_not_seen_whatever_else_is_said() {
        let scope = Scope {
            seen: Some([seen("*/*"), seen("~db/*")].into_iter().flatten().collect()),
            mode: OutboundMode::AllowAny,
            egress_proxy: None,
            namespace: "shop",
        };
        assert!(scope.sees("shop", "a.shop.svc.cluster.local", 80));
        assert!(!scope.sees("db", "pg.db.svc.cluster.local", 80));
        let nothing = Scope { seen: Some(Vec::new()), ..scope };
        assert!(!nothing.sees("shop", "a.shop.svc.cluster.local", 80));
    }
}
