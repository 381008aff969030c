//! What gateways show, and whether two of them want the same.

use naru_resource::gateway::ServerTlsMode;
use naru_resource::{Gateway, Text};

use crate::world::{World, overlap};
use crate::{About, Found};

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    let gateways = &world.resources.gateways;
    for gateway in gateways {
        let about = About { kind: "Gateway", meta: &gateway.meta };
        credentials(world, gateway, about, found);
        for other in gateways.iter().filter(|other| !std::ptr::eq(*other, gateway)) {
            conflict(world, gateway, other, about, found);
        }
        shared(gateway, gateways, about, found);
    }
}

/// Whether every label of the one is one of the other.
fn is_within(selector: &[(Text, Text)], other: &[(Text, Text)]) -> bool {
    naru_resource::meta::selects(selector, other)
}

/// IST0145: on one port, for hosts that overlap, for workloads that overlap.
fn conflict(world: &World<'_>, gateway: &Gateway, other: &Gateway, about: About<'_>, found: &mut Found) {
    let are_alike = is_within(&gateway.spec.selector, &other.spec.selector)
        || is_within(&other.spec.selector, &gateway.spec.selector);
    if !are_alike {
        return;
    }
    for (at, server) in gateway.spec.servers.iter().enumerate() {
        let same = other.spec.servers.iter().filter(|theirs| {
            let bind =
                |server: &naru_resource::gateway::Server| server.bind.as_ref().map(|bind| bind.value.clone());
            theirs.port.number.value == server.port.number.value && bind(theirs) == bind(server)
        });
        for theirs in same {
            let pair = server.hosts.iter().find_map(|host| {
                let theirs = theirs.hosts.iter().find(|theirs| is_same(host, gateway, theirs, other))?;
                Some((host, theirs))
            });
            let Some((host, place)) = pair else { continue };
            let message = format!(
                "Gateway '{}' has '{}' on port {}, too",
                other.meta.full_name(),
                place.value,
                server.port.number.value
            );
            let hint = format!(
                "give one of them another host; the other is at {}",
                world.resources.files.locate(place.place)
            );
            found.tell("IST0145", about, host.place, format!("spec.servers[{at}].hosts"), message, hint);
        }
    }
}

fn is_same(host: &Text, gateway: &Gateway, theirs: &Text, other: &Gateway) -> bool {
    let split = |host: &Text, gateway: &Gateway| -> (String, String) {
        match host.value.split_once('/') {
            Some((".", name)) => (gateway.meta.namespace().to_owned(), name.to_owned()),
            Some((scope, name)) => (scope.to_owned(), name.to_owned()),
            None => ("*".to_owned(), host.value.clone()),
        }
    };
    let ((scope, name), (scope_theirs, name_theirs)) = (split(host, gateway), split(theirs, other));
    let is_scope = scope == "*" || scope_theirs == "*" || scope == scope_theirs;
    // A host with a wildcard beside one that it has is no conflict: the narrower one takes its own.
    is_scope && name == name_theirs
}

/// IST0101 of credentials, IST0161.
fn credentials(world: &World<'_>, gateway: &Gateway, about: About<'_>, found: &mut Found) {
    for (at, server) in gateway.spec.servers.iter().enumerate() {
        let Some(tls) = &server.tls else { continue };
        for name in tls.credential_name.iter().chain(&tls.credential_names) {
            let path = format!("spec.servers[{at}].tls.credentialName");
            let (namespace, short) =
                name.split_once('/').unwrap_or((gateway.meta.namespace(), name.value.as_str()));
            let secret = world.resources.secrets.iter().find(|secret| {
                let own = secret.meta.namespace();
                secret.meta.name.value == short && (own == namespace || own == "istio-system")
            });
            let is_issued = !world.resources.acme_issuers.is_empty();
            let Some(secret) = secret else {
                // One that an issuer writes is not there before it has been had.
                if !is_issued {
                    let message =
                        format!("there is no Secret '{}' in the namespace of the Gateway", name.value);
                    found.tell("IST0101", about, name.place, path, message, "define it, or correct the name");
                }
                continue;
            };
            let has =
                |key: &str| secret.data.iter().any(|(name, value)| name.value == key && !value.0.is_empty());
            let is_whole = (has("tls.crt") && has("tls.key")) || (has("cert") && has("key"));
            let is_mutual = tls.mode.as_ref().is_some_and(|mode| mode.value == ServerTlsMode::Mutual);
            if !is_whole {
                let message = format!("the Secret '{}' has no certificate with its key", name.value);
                let hint = if is_mutual { "tls.crt, tls.key and ca.crt" } else { "tls.crt and tls.key" };
                found.tell("IST0161", about, name.place, path, message, format!("it needs {hint}"));
            }
        }
    }
}

/// IST0138.
fn shared(gateway: &Gateway, all: &[Gateway], about: About<'_>, found: &mut Found) {
    let names = |gateway: &Gateway| -> Vec<Text> {
        let of_server = |server: &naru_resource::gateway::Server| {
            server.tls.as_ref().and_then(|tls| tls.credential_name.clone())
        };
        gateway.spec.servers.iter().filter_map(of_server).collect()
    };
    for name in names(gateway) {
        let other = all.iter().find(|other| {
            !std::ptr::eq(*other, gateway)
                && is_within(&gateway.spec.selector, &other.spec.selector)
                && names(other).iter().any(|theirs| theirs.value == name.value)
                && !are_hosts_shared(gateway, other)
        });
        if let Some(other) = other {
            let message =
                format!("Gateway '{}' shows the certificate '{}', too", other.meta.full_name(), name.value);
            let hint = "a client that keeps an HTTP/2 connection for both hosts may be answered 404; use one Gateway";
            found.tell("IST0138", about, name.place, "spec.servers.tls.credentialName", message, hint);
        }
    }
}

fn are_hosts_shared(a: &Gateway, b: &Gateway) -> bool {
    let hosts = |gateway: &Gateway| -> Vec<String> {
        gateway.spec.servers.iter().flat_map(|server| &server.hosts).map(|host| host.value.clone()).collect()
    };
    let theirs = hosts(b);
    hosts(a).iter().all(|host| theirs.iter().any(|other| overlap(other, host)))
}
