//! Whom DestinationRules are for, which parts of it they name, and how its TLS is verified.

use std::collections::BTreeMap;

use naru_resource::destination_rule::{ClientTls, ClientTlsMode};
use naru_resource::meta::selects;
use naru_resource::{DestinationRule, Text};

use crate::virtual_services::exports;
use crate::world::{Source, World, is_exported, said};
use crate::{About, Found};

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for rule in &world.resources.destination_rules {
        let about = About { kind: "DestinationRule", meta: &rule.meta };
        host(world, rule, about, found);
        subsets(world, rule, about, found);
        tls(rule, about, found);
        exports(world, &rule.spec.export_to, about, found);
    }
    several(world, found);
}

/// IST0174.
fn host(world: &World<'_>, rule: &DestinationRule, about: About<'_>, found: &mut Found) {
    let host = &rule.spec.host;
    let full = world.full(host, rule.meta.namespace());
    let is_known = world.has(&full);
    // Where nobody is defined, services are elsewhere.
    if !is_known && !world.known.is_empty() {
        let message = format!("no Service and no ServiceEntry defines the host '{}'", host.value);
        let hint = "nothing of this rule acts; define it, or correct the name";
        found.tell("IST0174", about, host.place, "spec.host", message, hint);
    }
}

/// IST0173, KIA0209.
fn subsets(world: &World<'_>, rule: &DestinationRule, about: About<'_>, found: &mut Found) {
    let known = world.find(&rule.spec.host, rule.meta.namespace());
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{at}]");
        if subset.labels.is_empty() {
            let message =
                format!("the subset '{}' has no labels: it is the whole service", subset.name.value);
            found.tell("KIA0209", about, subset.name.place, path, message, "say its labels");
            continue;
        }
        // Where something stands its Node says, which is not among the documents.
        let stands = |name: &str| {
            name.starts_with("topology.kubernetes.io/") || name.starts_with("topology.istio.io/")
        };
        let labels: Vec<(Text, Text)> =
            subset.labels.iter().filter(|(name, _)| !stands(name)).cloned().collect();
        let has_any = match known.map(|known| (known.source, known.namespace)) {
            Some((Source::Service(service), namespace)) => {
                let both: Vec<(Text, Text)> = service.spec.selector.iter().chain(&labels).cloned().collect();
                // One without a selector is defined by its Endpoints, which have no labels here.
                service.spec.selector.is_empty() || world.selects_any(Some(namespace), &both)
            }
            Some((Source::Entry(entry), namespace)) => match &entry.spec.workload_selector {
                Some(selector) => {
                    let both: Vec<(Text, Text)> = selector.labels.iter().chain(&labels).cloned().collect();
                    world.selects_any(Some(namespace), &both)
                }
                None => entry.spec.endpoints.iter().any(|endpoint| selects(&subset.labels, &endpoint.labels)),
            },
            None => true,
        };
        if !has_any {
            let message =
                format!("nothing of '{}' has the labels {}", rule.spec.host.value, said(&subset.labels));
            let hint = "requests for this subset are answered 503 (UH)";
            found.tell("IST0173", about, subset.name.place, path, message, hint);
        }
    }
}

/// IST0128, IST0129.
fn tls(rule: &DestinationRule, about: About<'_>, found: &mut Found) {
    let Some(policy) = &rule.spec.traffic_policy else { return };
    let is_unverified = |tls: &ClientTls| {
        let mode = tls.mode.as_ref().map(|mode| mode.value);
        let is_tls = matches!(mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
        // A named credential may bring its own, where it is looked for at all.
        let is_brought = tls.credential_name.is_some() && rule.spec.workload_selector.is_some();
        is_tls && tls.ca_certificates.is_none() && !is_brought
    };
    let hint = "say caCertificates, so that the server has to show who it is";
    if let Some(tls) = policy.tls.as_ref().filter(|tls| is_unverified(tls)) {
        let message = format!("caCertificates are not said for '{}'", rule.spec.host.value);
        found.tell("IST0128", about, tls.place, "spec.trafficPolicy.tls", message, hint);
    }
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        if let Some(tls) = port.tls.as_ref().filter(|tls| is_unverified(tls)) {
            let number =
                port.port.as_ref().map_or_else(String::new, |port| format!(" port {}", port.number.value));
            let message = format!("caCertificates are not said for '{}'{number}", rule.spec.host.value);
            let path = format!("spec.trafficPolicy.portLevelSettings[{at}].tls");
            found.tell("IST0129", about, tls.place, path, message, hint);
        }
    }
}

/// KIA0201: one host, and one subset or none at all, said by two.
fn several(world: &World<'_>, found: &mut Found) {
    let mut seen: BTreeMap<(String, Option<&str>), &DestinationRule> = BTreeMap::new();
    for rule in &world.resources.destination_rules {
        let about = About { kind: "DestinationRule", meta: &rule.meta };
        let full = world.full(&rule.spec.host, rule.meta.namespace());
        let subsets = rule.spec.subsets.iter().map(|subset| Some(subset.name.value.as_str()));
        let whole = rule.spec.subsets.is_empty().then_some(None);
        for subset in subsets.chain(whole) {
            let before = seen.insert((full.clone(), subset), rule);
            let Some(before) = before.filter(|before| !std::ptr::eq(*before, rule)) else { continue };
            let is_seen = is_exported(&before.spec.export_to, before.meta.namespace(), rule.meta.namespace())
                || is_exported(&rule.spec.export_to, rule.meta.namespace(), before.meta.namespace());
            if !is_seen || rule.spec.workload_selector.is_some() || before.spec.workload_selector.is_some() {
                continue;
            }
            let what = subset.map_or_else(String::new, |subset| format!(" subset '{subset}'"));
            let message = format!(
                "DestinationRule '{}' is for '{}'{what}, too",
                before.meta.full_name(),
                rule.spec.host.value
            );
            let at = world.resources.files.locate(before.meta.name.place);
            let place = rule.spec.host.place;
            found.tell(
                "KIA0201",
                about,
                place,
                "spec.host",
                message,
                format!("join them; the other is at {at}"),
            );
        }
    }
}
