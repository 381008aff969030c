//! Where VirtualServices lead, and through which gateways.

use naru_resource::virtual_service::{Destination, HttpRoute};
use naru_resource::{Gateway, Text, VirtualService};

use crate::world::{Known, World, is_exported, overlap};
use crate::{About, Found};

const MESH: &str = "mesh";
/// How a claim is asked for in a rule.
const CLAIMS: &str = "@request.auth.claims";

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for service in &world.resources.virtual_services {
        let about = About { kind: "VirtualService", meta: &service.meta };
        destinations(world, service, about, found);
        through_gateways(world, service, about, found);
        claims(world, service, about, found);
        deprecated(service, about, found);
        weights(service, about, found);
        exports(world, &service.spec.export_to, about, found);
    }
    in_mesh(world, found);
}

/// Every destination with the path to it.
pub(crate) fn destinations_of(service: &VirtualService) -> Vec<(&Destination, String)> {
    let mut all = Vec::new();
    for (at, route) in service.spec.http.iter().enumerate() {
        for (to, destination) in route.route.iter().enumerate() {
            all.push((&destination.destination, format!("spec.http[{at}].route[{to}].destination")));
        }
        all.extend(route.mirror.iter().map(|mirror| (mirror, format!("spec.http[{at}].mirror"))));
        for (to, mirror) in route.mirrors.iter().enumerate() {
            all.push((&mirror.destination, format!("spec.http[{at}].mirrors[{to}].destination")));
        }
    }
    for (at, route) in service.spec.tcp.iter().enumerate() {
        for (to, destination) in route.route.iter().enumerate() {
            all.push((&destination.destination, format!("spec.tcp[{at}].route[{to}].destination")));
        }
    }
    for (at, route) in service.spec.tls.iter().enumerate() {
        for (to, destination) in route.route.iter().enumerate() {
            all.push((&destination.destination, format!("spec.tls[{at}].route[{to}].destination")));
        }
    }
    all
}

/// IST0101, IST0112.
fn destinations(world: &World<'_>, service: &VirtualService, about: About<'_>, found: &mut Found) {
    let namespace = service.meta.namespace();
    for (destination, path) in destinations_of(service) {
        let host = &destination.host;
        match world.find(host, namespace) {
            Some(known) => port(known, destination, &path, about, found),
            // Where nobody is defined, services are elsewhere.
            None if world.known.is_empty() => {}
            None => {
                let message = format!("no Service and no ServiceEntry defines the host '{}'", host.value);
                let hint = "requests that are sent there are answered 503; define it, or correct the name";
                found.tell("IST0101", about, host.place, format!("{path}.host"), message, hint);
            }
        }
        let Some(subset) = &destination.subset else { continue };
        let full = world.full(host, namespace);
        let mut rules = world
            .rules_for(&full)
            .filter(|rule| is_exported(&rule.spec.export_to, rule.meta.namespace(), namespace));
        if !rules.any(|rule| rule.spec.subsets.iter().any(|named| named.name.value == subset.value)) {
            let message = format!("no DestinationRule of '{}' has a subset '{}'", host.value, subset.value);
            let hint = "define it, or leave the subset out";
            found.tell("IST0101", about, subset.place, format!("{path}.subset"), message, hint);
        }
    }
}

fn port(known: &Known<'_>, destination: &Destination, path: &str, about: About<'_>, found: &mut Found) {
    match &destination.port {
        Some(port) if !known.ports.is_empty() && !known.ports.contains(&port.number.value) => {
            let message = format!("'{}' has no port {}", known.host, port.number.value);
            let hint = format!("it has {}", listed(&known.ports));
            let path = format!("{path}.port.number");
            found.tell("IST0101", about, port.number.place, path, message, hint);
        }
        None if known.ports.len() > 1 => {
            let message = format!("'{}' has several ports, and none is chosen", known.host);
            let hint = format!("say port.number: one of {}", listed(&known.ports));
            let place = destination.host.place;
            found.tell("IST0112", about, place, format!("{path}.port"), message, hint);
        }
        _ => {}
    }
}

fn listed(ports: &[i64]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The gateways that a VirtualService names; `mesh` where it names none.
pub(crate) fn is_in_mesh(service: &VirtualService) -> bool {
    service.spec.gateways.is_empty() || service.spec.gateways.iter().any(|name| name.value == MESH)
}

pub(crate) fn gateway<'a>(world: &World<'a>, name: &str, namespace: &str) -> Option<&'a Gateway> {
    let (owner, short) = match name.split_once('/') {
        Some((".", short)) => (namespace, short),
        Some(named) => named,
        None => match name.split_once('.') {
            Some((short, rest)) => (rest.split('.').next().unwrap_or(rest), short),
            None => (namespace, name),
        },
    };
    let is_it = |gateway: &&Gateway| gateway.meta.name.value == short && gateway.meta.namespace() == owner;
    world.resources.gateways.iter().find(is_it)
}

/// IST0101 of gateways, IST0132, IST0140, KIA1108.
fn through_gateways(world: &World<'_>, service: &VirtualService, about: About<'_>, found: &mut Found) {
    let namespace = service.meta.namespace();
    for (at, name) in service.spec.gateways.iter().enumerate() {
        if name.value == MESH {
            continue;
        }
        let path = format!("spec.gateways[{at}]");
        if !name.value.contains('/') && name.value.contains('.') {
            let message = format!("'{}' names a Gateway in the old way", name.value);
            found.tell("KIA1108", about, name.place, &path, message, "write NAMESPACE/NAME");
        }
        let gateway = gateway(world, name, namespace);
        let Some(gateway) = gateway else {
            let message = format!("there is no Gateway '{}'", name.value);
            // That it has none of the hosts is nothing more to know.
            found.tell("IST0101", about, name.place, &path, message, "define it, or correct the name");
            continue;
        };
        let servers = gateway.spec.servers.iter().flat_map(|server| &server.hosts);
        let hosts: Vec<&str> = servers
            .filter_map(|host| {
                let (scope, host) = host.value.split_once('/').unwrap_or(("*", &host.value));
                let is_there = match scope {
                    "*" => true,
                    "." => gateway.meta.namespace() == namespace,
                    other => other == namespace,
                };
                is_there.then_some(host)
            })
            .collect();
        missing_hosts(service, &hosts, name, about, found);
    }
    for (name, path) in gateways_of_blocks(service) {
        if name.value != MESH && gateway(world, name, namespace).is_none() {
            let message = format!("there is no Gateway '{}'", name.value);
            found.tell("IST0101", about, name.place, &path, message, "define it, or correct the name");
        }
    }
    unaffected(world, service, about, found);
}

/// Those that blocks of rules are for, with the path to each.
fn gateways_of_blocks(service: &VirtualService) -> Vec<(&Text, String)> {
    let spec = &service.spec;
    let mut blocks: Vec<(&[Text], String)> = Vec::new();
    for (at, route) in spec.http.iter().enumerate() {
        let of = route.matches.iter().enumerate();
        blocks.extend(
            of.map(|(of, block)| (block.gateways.as_slice(), format!("spec.http[{at}].match[{of}]"))),
        );
    }
    for (at, route) in spec.tls.iter().enumerate() {
        let of = route.matches.iter().enumerate();
        blocks
            .extend(of.map(|(of, block)| (block.gateways.as_slice(), format!("spec.tls[{at}].match[{of}]"))));
    }
    for (at, route) in spec.tcp.iter().enumerate() {
        let of = route.matches.iter().enumerate();
        blocks
            .extend(of.map(|(of, block)| (block.gateways.as_slice(), format!("spec.tcp[{at}].match[{of}]"))));
    }
    let named = blocks.into_iter().flat_map(|(names, path)| {
        let names = names.iter().enumerate();
        names.map(move |(at, name)| (name, format!("{path}.gateways[{at}]"))).collect::<Vec<_>>()
    });
    named.collect()
}

/// One that none of its hosts can come in at.
fn missing_hosts(
    service: &VirtualService,
    of_gateway: &[&str],
    name: &Text,
    about: About<'_>,
    found: &mut Found,
) {
    let hosts = &service.spec.hosts;
    let is_there = hosts.iter().any(|host| of_gateway.iter().any(|server| overlap(server, &host.value)));
    if let Some(first) = hosts.first()
        && !is_there
    {
        let all: Vec<&str> = hosts.iter().map(|host| host.value.as_str()).collect();
        let message = format!("the Gateway '{}' has none of the hosts {}", name.value, all.join(", "));
        let hint = "no request for them comes in there; add them to a server's hosts";
        found.tell("IST0132", about, first.place, "spec.hosts", message, hint);
    }
}

/// IST0140: the mesh chooses subsets of a service, and requests that come in at a gateway do not see that choice.
fn unaffected(world: &World<'_>, service: &VirtualService, about: About<'_>, found: &mut Found) {
    if is_in_mesh(service) {
        return;
    }
    let chooses = |host: &str| {
        world.resources.virtual_services.iter().find(|other| {
            let owner = other.meta.namespace();
            is_in_mesh(other)
                && other.spec.hosts.iter().any(|name| world.full(name, owner) == host)
                && destinations_of(other).iter().any(|(to, _)| to.subset.is_some())
        })
    };
    for (destination, path) in destinations_of(service).iter().filter(|(to, _)| to.subset.is_none()) {
        let host = world.full(&destination.host, service.meta.namespace());
        if let Some(other) = chooses(&host) {
            let message = format!(
                "the subsets that VirtualService '{}' chooses for '{}' have no effect on requests that come in here",
                other.meta.full_name(),
                destination.host.value
            );
            let place = destination.host.place;
            let hint = "say a subset here, too, or bind that VirtualService to the gateway";
            found.tell("IST0140", about, place, format!("{path}.subset"), message, hint);
        }
    }
}

/// IST0149.
fn claims(world: &World<'_>, service: &VirtualService, about: About<'_>, found: &mut Found) {
    if is_in_mesh(service) || !world.resources.request_authentications.is_empty() {
        return;
    }
    for (at, route) in service.spec.http.iter().enumerate() {
        for (of, block) in route.matches.iter().enumerate() {
            let asked = block.headers.iter().chain(&block.without_headers);
            for (name, _) in asked.filter(|(name, _)| name.value.starts_with(CLAIMS)) {
                let message =
                    format!("'{}' is asked for, and no RequestAuthentication reads tokens", name.value);
                let path = format!("spec.http[{at}].match[{of}].headers");
                let hint = "define a RequestAuthentication for the gateway";
                found.tell("IST0149", about, name.place, path, message, hint);
            }
        }
    }
}

/// IST0002.
fn deprecated(service: &VirtualService, about: About<'_>, found: &mut Found) {
    let mut tell = |place, path: String, old: &str, new: &str| {
        let message = format!("'{old}' is an old way to say it");
        found.tell("IST0002", about, place, path, message, format!("say {new}"));
    };
    for (at, route) in service.spec.http.iter().enumerate() {
        let path = |field: &str| format!("spec.http[{at}].{field}");
        let fault = route.fault.as_ref();
        if let Some(percent) = fault.and_then(|fault| fault.delay.as_ref()?.percent.as_ref()) {
            tell(percent.place, path("fault.delay.percent"), "percent", "percentage: {value: ..}");
        }
        if let Some(percent) = fault.and_then(|fault| fault.abort.as_ref()?.percent.as_ref()) {
            tell(percent.place, path("fault.abort.percent"), "percent", "percentage: {value: ..}");
        }
        if let Some(percent) = &route.mirror_percent {
            tell(percent.place, path("mirrorPercent"), "mirrorPercent", "mirrorPercentage: {value: ..}");
        }
        if let Some(origin) = route.cors_policy.as_ref().and_then(|cors| cors.allow_origin.first()) {
            tell(origin.place, path("corsPolicy.allowOrigin"), "allowOrigin", "allowOrigins: [{exact: ..}]");
        }
    }
}

/// KIA1104, KIA1105, weights-not-100.
fn weights(service: &VirtualService, about: About<'_>, found: &mut Found) {
    for (at, route) in service.spec.http.iter().enumerate() {
        let path = format!("spec.http[{at}].route");
        if let [only] = route.route.as_slice()
            && let Some(weight) = &only.weight
            && weight.value != 100
        {
            let message =
                format!("the only destination takes all requests, whatever its weight {}", weight.value);
            found.tell("KIA1104", about, weight.place, format!("{path}[0].weight"), message, "leave it out");
        }
        let sum: i64 =
            route.route.iter().filter_map(|to| to.weight.as_ref()).map(|weight| weight.value).sum();
        if route.route.len() > 1 && sum != 100 && sum > 0 {
            let message = format!("the weights sum up to {sum}: each is a share of that, not of 100");
            found.tell("weights-not-100", about, route.place, &path, message, "");
        }
        twice(route, &path, about, found);
    }
}

fn twice(route: &HttpRoute, path: &str, about: About<'_>, found: &mut Found) {
    let key = |to: &Destination| {
        let subset = to.subset.as_ref().map(|subset| subset.value.clone());
        (to.host.value.clone(), subset, to.port.as_ref().map(|port| port.number.value))
    };
    for (at, to) in route.route.iter().enumerate() {
        let before = route.route.iter().take(at).any(|other| key(&other.destination) == key(&to.destination));
        if before {
            let message = format!("'{}' is there twice in one route", to.destination.host.value);
            let place = to.destination.host.place;
            let hint = "join the two, with the sum of their weights";
            found.tell("KIA1105", about, place, format!("{path}[{at}].destination"), message, hint);
        }
    }
}

/// KIA1601.
pub(crate) fn exports(world: &World<'_>, to: &[Text], about: About<'_>, found: &mut Found) {
    // Where no Namespace is written down, nobody says which there are.
    if world.resources.namespaces.is_empty() {
        return;
    }
    for (at, name) in to.iter().enumerate() {
        let is_there =
            matches!(name.value.as_str(), "*" | "." | "~") || world.namespaces.contains(name.value.as_str());
        if !is_there {
            let message = format!("there is no namespace '{}'", name.value);
            let hint = "nobody there sees it; correct the name, or define the Namespace";
            found.tell("KIA1601", about, name.place, format!("spec.exportTo[{at}]"), message, hint);
        }
    }
}

/// IST0109: within the mesh, two speak of one host and both are seen from some namespace.
fn in_mesh(world: &World<'_>, found: &mut Found) {
    let all: Vec<(&VirtualService, &Text, usize, String)> = world
        .resources
        .virtual_services
        .iter()
        .filter(|service| is_in_mesh(service))
        .flat_map(|service| {
            let namespace = service.meta.namespace();
            let hosts = service.spec.hosts.iter().enumerate();
            hosts.map(move |(at, host)| (service, host, at, world.full(host, namespace)))
        })
        .collect();
    let mut by_host: std::collections::BTreeMap<&str, Vec<usize>> = std::collections::BTreeMap::new();
    for (at, (.., full)) in all.iter().enumerate() {
        by_host.entry(full).or_default().push(at);
    }
    for same in by_host.values() {
        for at in same {
            let Some((service, host, of, _)) = all.get(*at) else { continue };
            let other = same
                .iter()
                .filter_map(|other| all.get(*other))
                .find(|(other, ..)| !std::ptr::eq(*other, *service) && are_seen_together(service, other));
            let Some((other, place, ..)) = other else { continue };
            let about = About { kind: "VirtualService", meta: &service.meta };
            let message = format!("'{}' speaks of the host '{}', too", other.meta.full_name(), host.value);
            let hint = format!("join them; the other is at {}", world.resources.files.locate(place.place));
            found.tell("IST0109", about, host.place, format!("spec.hosts[{of}]"), message, hint);
        }
    }
}

fn are_seen_together(a: &VirtualService, b: &VirtualService) -> bool {
    let is_seen = |service: &VirtualService, from: &str| {
        is_exported(&service.spec.export_to, service.meta.namespace(), from)
    };
    let targets = |service: &VirtualService| -> Vec<String> {
        let owner = service.meta.namespace().to_owned();
        let named = service.spec.export_to.iter().map(|to| to.value.clone());
        named.filter(|to| !matches!(to.as_str(), "*" | ".")).chain([owner]).collect()
    };
    let is_everywhere = |service: &VirtualService| {
        service.spec.export_to.is_empty() || service.spec.export_to.iter().any(|to| to.value == "*")
    };
    (is_everywhere(a) && is_everywhere(b))
        || targets(a).iter().chain(&targets(b)).any(|from| is_seen(a, from) && is_seen(b, from))
}
