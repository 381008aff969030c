//! Whether ServiceEntries can be told from each other, and traffic for them from other traffic.

use std::collections::BTreeMap;

use naru_resource::{ServiceEntry, Text};

use crate::virtual_services::exports;
use crate::world::World;
use crate::{About, Found};

/// Who says of which host which protocol.
type Spoken<'a> = (&'a ServiceEntry, &'a Text, String);

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    let mut by_port: BTreeMap<(String, i64), Vec<Spoken<'_>>> = BTreeMap::new();
    let mut by_host: BTreeMap<String, Vec<(&ServiceEntry, &Text)>> = BTreeMap::new();
    for entry in &world.resources.service_entries {
        let about = About { kind: "ServiceEntry", meta: &entry.meta };
        addresses(entry, about, found);
        exports(world, &entry.spec.export_to, about, found);
        for host in &entry.spec.hosts {
            by_host.entry(host.value.to_ascii_lowercase()).or_default().push((entry, host));
            for port in &entry.spec.ports {
                let protocol = port.protocol.as_ref().map_or("", |protocol| protocol);
                let key = (host.value.to_ascii_lowercase(), port.number.value);
                by_port.entry(key).or_default().push((entry, host, protocol.to_ascii_uppercase()));
            }
        }
    }
    let mut told = Vec::new();
    for ((_, port), of) in &by_port {
        for (at, (entry, host, protocol)) in of.iter().enumerate() {
            let differs = |(other, (theirs, _, spoken)): (usize, &Spoken<'_>)| {
                other != at && spoken != protocol && are_seen_together(entry, theirs)
            };
            if !of.iter().enumerate().any(differs) {
                continue;
            }
            told.push(*host as *const Text);
            let about = About { kind: "ServiceEntry", meta: &entry.meta };
            let word = if protocol.is_empty() { "nothing that is said" } else { protocol.as_str() };
            let message =
                format!("port {port} of '{}' is {word} here, and another one elsewhere", host.value);
            found.tell("IST0177", about, host.place, "spec.ports", message, "say one protocol");
        }
    }
    for of in by_host.values().filter(|of| of.len() > 1) {
        for (at, (entry, host)) in of.iter().enumerate().skip(1) {
            let Some((before, place)) = of.get(at - 1) else { continue };
            if before.meta.namespace() != entry.meta.namespace() || told.contains(&(*host as *const Text)) {
                continue;
            }
            let about = About { kind: "ServiceEntry", meta: &entry.meta };
            let message = format!("ServiceEntry '{}' defines '{}', too", before.meta.full_name(), host.value);
            let hint = format!("join them; the other is at {}", world.resources.files.locate(place.place));
            found.tell("KIA1211", about, host.place, "spec.hosts", message, hint);
        }
    }
}

/// Whether some namespace sees both, as `exportTo` says.
fn are_seen_together(one: &ServiceEntry, other: &ServiceEntry) -> bool {
    let scopes = |entry: &ServiceEntry| -> Vec<String> {
        let said = entry.spec.export_to.iter();
        said.map(|to| if to.value == "." { entry.meta.namespace().to_owned() } else { to.value.clone() })
            .collect()
    };
    let is_for_all = |scopes: &[String]| scopes.is_empty() || scopes.iter().any(|scope| scope == "*");
    let (of_one, of_other) = (scopes(one), scopes(other));
    is_for_all(&of_one) || is_for_all(&of_other) || of_one.iter().any(|scope| of_other.contains(scope))
}

/// IST0134.
fn addresses(entry: &ServiceEntry, about: About<'_>, found: &mut Found) {
    if !entry.spec.addresses.is_empty() {
        return;
    }
    for (at, port) in entry.spec.ports.iter().enumerate() {
        let protocol = port.protocol.as_ref().map_or("", |protocol| protocol);
        if protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP") {
            let message = format!("port {} is TCP, and the ServiceEntry has no addresses", port.number.value);
            let hint = "bytes of TCP name no host: only an address tells whom they are for";
            let path = format!("spec.ports[{at}].protocol");
            found.tell("IST0134", about, port.number.place, path, message, hint);
        }
    }
}
