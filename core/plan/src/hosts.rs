//! What only shows when all VirtualServices are seen together.

use std::collections::BTreeMap;

use naru_resource::{Text, VirtualService};
use naru_spec::{Path, Severity, code};

use crate::findings::Findings;
use crate::gateway_api::is_made;
use crate::mesh;
use crate::names::{Audience, audience, common, fits, fqdn};
use crate::routes::{MESH, Routes, is_bound};

/// A VirtualService that speaks of a host to workloads.
struct Speaker<'a> {
    service: &'a VirtualService,
    host: &'a Text,
    /// Which of its hosts.
    at: usize,
}

/// Who goes before whom, and to workloads of which namespace where it is not all of them.
type Outdone<'a> = Option<(usize, Option<&'a str>)>;

/// The host that two hosts of one document have in common.
fn overlap(one: &Text, other: &Text) -> Option<String> {
    common(&one.to_ascii_lowercase(), &other.to_ascii_lowercase()).map(str::to_owned)
}

impl Routes<'_> {
    /// What only shows when all VirtualServices are seen together.
    pub fn check_hosts(&self, findings: &mut Findings<'_>) {
        let mut in_mesh: BTreeMap<String, Vec<Speaker<'_>>> = BTreeMap::new();
        for service in self.resources.virtual_services.iter().filter(|service| service.bound.is_none()) {
            let owner = service.meta.namespace();
            let spec = Path::ROOT.field("spec");
            let said = &service.spec;
            if said.http.is_empty() && said.tls.is_empty() && said.tcp.is_empty() {
                let message = "it has no routes, and takes no request";
                findings.warning(code::NO_EFFECT, said.place, &spec, message, "one of http, tls and tcp");
            }
            if !is_made(service) {
                self.check_unmet(service, findings);
            }
            if service.spec.hosts.is_empty() {
                self.check_delegate(service, findings);
                continue;
            }
            let hosts = spec.field("hosts");
            for (at, host) in service.spec.hosts.iter().enumerate() {
                let path = hosts.at(at);
                if service.spec.hosts.iter().take(at).any(|before| before.value == host.value) {
                    let message = format!("the host '{}' is there twice", host.value);
                    findings.error(code::DUPLICATE, host.place, &path, message, "");
                    continue;
                }
                let others = service.spec.hosts.iter().take(at);
                let mut others = others.filter_map(|other| Some((other, overlap(host, other)?)));
                if let Some((other, narrow)) = others.next() {
                    let message =
                        format!("'{narrow}' is a host twice: by '{}' and by '{}'", other.value, host.value);
                    let hint = "Istio refuses it: one of the two is enough";
                    findings.warning(code::DUPLICATE, host.place, &path, message, hint);
                }
                if !is_bound(service, MESH) {
                    continue;
                }
                if host.value == "*" {
                    let message = "the host '*' can only be used with a gateway";
                    let hint = "name hosts, or say gateways";
                    findings.error(code::INVALID_VALUE, host.place, &path, message, hint);
                    continue;
                }
                let known = self.registry.find(host, owner);
                let full = known.map_or_else(|| fqdn(host, owner), |known| known.host.clone());
                let all = in_mesh.entry(full).or_default();
                if all.last().is_none_or(|last| !std::ptr::eq(last.service, service)) {
                    all.push(Speaker { service, host, at });
                }
            }
            if service.spec.http.iter().all(|route| route.beyond.is_none()) {
                self.check_elsewhere(service, findings);
            }
            let gateways = spec.field("gateways");
            for (at, name) in service.spec.gateways.iter().enumerate() {
                self.check_gateway(name, owner, &gateways.at(at), findings);
            }
        }
        in_mesh.values().filter(|all| all.len() > 1).for_each(|all| self.check_speakers(all, findings));
    }

    /// IST0109: in the mesh one VirtualService speaks for a host. The others, though somebody sees them, are told.
    fn check_speakers(&self, all: &[Speaker<'_>], findings: &mut Findings<'_>) {
        let exports = self.mesh().exports.virtual_services;
        for (speaker, outdone) in all.iter().zip(outdone(all, exports)) {
            let Some((first, namespace)) = outdone else { continue };
            let Some(first) = all.get(first) else { continue };
            let both = match (is_made(speaker.service), is_made(first.service)) {
                (false, false) => "two VirtualServices speak",
                // That of the caller's namespace goes first, as the API says.
                (true, true) => continue,
                _ => "a VirtualService and a route of the Gateway API speak",
            };
            let to = namespace.map(|name| format!("to workloads of namespace '{name}' ")).unwrap_or_default();
            let message = format!(
                "{both} of the host '{}': {to}the other goes first, and this one is asked only where that has no route \
                 for a caller and a port",
                speaker.host.value
            );
            let hint = format!("join them: the other is at {}", findings.locate(first.host.place));
            let spec = Path::ROOT.field("spec");
            let hosts = spec.field("hosts");
            let path = if is_made(speaker.service) { spec.field("parentRefs") } else { hosts.at(speaker.at) };
            findings.warning(code::CONFLICT, speaker.host.place, &path, message, hint);
        }
    }

    /// T5: legal, and often a mistake.
    fn check_elsewhere(&self, service: &VirtualService, findings: &mut Findings<'_>) {
        let owner = service.meta.namespace();
        let hosts: Vec<String> = service.spec.hosts.iter().map(|host| fqdn(host, owner)).collect();
        let mut destinations = service.spec.http.iter().flat_map(|route| &route.route).peekable();
        let is_elsewhere = destinations.peek().is_some()
            && destinations.all(|to| {
                let host = fqdn(&to.destination.host, owner);
                !hosts.iter().any(|name| fits(name, &host).is_some())
            });
        if is_elsewhere
            && is_bound(service, MESH)
            && let Some(host) = service.spec.hosts.first()
        {
            let message = format!("requests for '{}' all go to other hosts", host.value);
            let hint = "hosts is whom clients address, destination.host is where requests go";
            let path = Path::ROOT.field("spec.hosts");
            findings.tell(Severity::Note, code::ELSEWHERE, host.place, &path, message, hint);
        }
    }

    /// A VirtualService without hosts is there for one that delegates to it.
    fn check_delegate(&self, service: &VirtualService, findings: &mut Findings<'_>) {
        let is_used = self.resources.virtual_services.iter().any(|other| {
            other.spec.http.iter().filter_map(|route| route.delegate.as_ref()).any(|delegate| {
                let namespace = delegate.namespace.as_ref().map_or(other.meta.namespace(), |name| name);
                delegate.name.value == service.meta.name.value && namespace == service.meta.namespace()
            })
        });
        if !is_used {
            let message = "it has no hosts, and nobody delegates to it";
            let hint = "say spec.hosts, or delegate to it";
            let path = Path::ROOT.field("spec.hosts");
            findings.error(code::MISSING_FIELD, service.meta.name.place, &path, message, hint);
        }
    }
}

/// For each of those who speak of one host, in their order, who goes before him to somebody who sees both.
fn outdone<'a>(all: &'a [Speaker<'_>], exports: &'a [Text]) -> Vec<Outdone<'a>> {
    let mut for_all: Option<usize> = None;
    let mut apart: BTreeMap<&str, Vec<(Audience, usize)>> = BTreeMap::new();
    let mut outdone: Vec<Outdone<'a>> = Vec::with_capacity(all.len());
    for (at, speaker) in all.iter().enumerate() {
        let owner = speaker.service.meta.namespace();
        let said = mesh::or(&speaker.service.spec.export_to, exports);
        // No namespace is called so: it stands for all that nobody names.
        if audience(said, owner, "").is_some() {
            // To whoever sees the first of these, he goes before all others.
            outdone.push(for_all.map(|first| (first, None)));
            for_all = for_all.or(Some(at));
            continue;
        }
        outdone.push(None);
        let named = said.iter().map(|name| if name.value == "." { owner } else { name.as_str() });
        for namespace in named {
            let Some(audience) = audience(said, owner, namespace) else { continue };
            let here = apart.entry(namespace).or_default();
            if here.last().is_none_or(|(_, last)| *last != at) {
                here.push((audience, at));
            }
        }
    }
    for (namespace, here) in apart {
        let Some((_, first)) = here.iter().min() else { continue };
        let others = here.iter().map(|(_, at)| *at).chain(for_all).filter(|at| at != first);
        for other in others {
            if let Some(known) = outdone.get_mut(other) {
                *known = known.or(Some((*first, Some(namespace))));
            }
        }
    }
    outdone
}
