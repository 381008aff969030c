//! What keeps naru from starting with documents that are right, and where do they say it? Files that cannot be read or hold
//! nothing of use, addresses that cannot be had.
//!
//! The proxy knows listeners and clusters, and names the file. Documents are found by that name, or by the port or the host.

use std::io::ErrorKind::NotFound;

use naru_journey::Snapshot;
use naru_plan::fqdn;
use naru_proxy::StartError;
use naru_resource::destination_rule::ClientTls;
use naru_resource::gateway::Server;
use naru_resource::gateway_api::ApiListener;
use naru_resource::{DestinationRule, Place as Written, Resources, Text};
use naru_spec::config::Place;
use naru_spec::{Config, FilterChain, Invalid, Problem, Severity, code};

/// What `naru up` would refuse to start for, as far as it can be known without opening an address. A file that is not on
/// this machine may be where naru will run: that is a warning.
pub fn of_files(config: &Config, snapshot: &Snapshot, resources: &Resources) -> Vec<Problem> {
    let Err(error) = naru_proxy::check(snapshot) else { return Vec::new() };
    let told = found(&error, config, resources).into_iter().map(|(mut problem, is_elsewhere)| {
        if is_elsewhere {
            problem.severity = Severity::Warning;
            problem.hint = "where it is not there, naru does not start".to_owned();
        }
        problem
    });
    told.collect()
}

/// With the places of what it is about; nothing of an error that is about no document.
pub fn of_error(error: &StartError, config: &Config, resources: &Resources) -> Vec<Problem> {
    found(error, config, resources).into_iter().map(|(problem, _)| problem).collect()
}

/// And whether it is about a file that is not there.
fn found(error: &StartError, config: &Config, resources: &Resources) -> Vec<(Problem, bool)> {
    let mut all: Vec<(Problem, bool)> = match error {
        StartError::Config(found) => {
            let all = found.iter().map(|(place, invalid)| {
                let said = said_by(place, invalid, config, resources);
                let is_elsewhere = said.as_ref().is_some_and(|said| said.is_elsewhere());
                (problem(&invalid.message, &invalid.hint, said, resources), is_elsewhere)
            });
            all.collect()
        }
        StartError::Listen { address, .. } => {
            let Some(said) = of_port(address.port(), resources) else { return Vec::new() };
            vec![(problem(&error.message(), error.hint(), Some(said), resources), false)]
        }
        _ => Vec::new(),
    };
    // What one document says may be said of several chains.
    all.sort_by(|(a, _), (b, _)| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    all.dedup();
    all
}

/// Where something is said, and what it is.
struct Said<'a> {
    place: Written,
    path: &'static str,
    /// The file, or the variable of the environment, that a message names.
    value: Option<&'a str>,
}

impl Said<'_> {
    fn is_elsewhere(&self) -> bool {
        self.value.is_some_and(|value| std::fs::metadata(value).is_err_and(|error| error.kind() == NotFound))
    }
}

fn problem(message: &str, hint: &str, said: Option<Said<'_>>, resources: &Resources) -> Problem {
    let place = said.as_ref().map(|said| said.place);
    Problem {
        severity: Severity::Error,
        code: code::INVALID_VALUE,
        message: message.to_owned(),
        hint: hint.to_owned(),
        file: place.map_or(String::new(), |place| resources.files.name(place.file).to_owned()),
        line: place.map_or(0, |place| place.line),
        column: place.map_or(0, |place| place.column),
        path: said.map_or("", |said| said.path).to_owned(),
    }
}

fn said_by<'a>(
    place: &Place,
    invalid: &Invalid,
    config: &Config,
    resources: &'a Resources,
) -> Option<Said<'a>> {
    let (servers, rules) = match place {
        Place::ChainTls { listener, chain } => {
            let listener = config.listeners.get(*listener)?;
            (servers_of(resources, listener.address.port(), listener.chains.get(*chain)?), Vec::new())
        }
        Place::ClusterTls(at) => (Vec::new(), rules_of(resources, &config.clusters.get(*at)?.name)),
        _ => (Vec::new(), Vec::new()),
    };
    let values: Vec<(&Text, &'static str)> = match place {
        Place::ChainTls { .. } => servers.iter().flat_map(|server| of_server(server)).collect(),
        Place::ClusterTls(_) => rules.iter().flat_map(|rule| of_rule(rule)).collect(),
        _ => others(resources),
    };
    let named =
        values.iter().find(|(said, _)| !said.value.is_empty() && names(&invalid.message, &said.value));
    if let Some((said, path)) = named {
        return Some(Said { place: said.place, path, value: Some(&said.value) });
    }
    // What stands in a Secret has no name in the message.
    let of_server = servers.iter().find_map(|server| server.tls.as_ref()).map(|tls| {
        match tls.credential_name.as_ref().or(tls.credential_names.first()) {
            Some(name) => (name.place, "spec.servers[].tls.credentialName"),
            None => (tls.place, "spec.servers[].tls"),
        }
    });
    let of_rule = rules.iter().copied().flat_map(client_sides).next();
    let of_rule = of_rule.map(|tls| (tls.place, "spec.trafficPolicy.tls"));
    let (place, path) = of_server.or(of_rule).or_else(|| match place {
        Place::ChainTls { listener, .. } => {
            let port = config.listeners.get(*listener)?.address.port();
            let mut listeners = api_listeners(resources, port);
            Some((listeners.find_map(|listener| listener.tls.as_ref())?.place, "spec.listeners[].tls"))
        }
        _ => None,
    })?;
    Some(Said { place, path, value: None })
}

/// Whether a message speaks of a file, and of no other one whose name only begins or ends like it.
fn names(message: &str, file: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || "/._-".contains(letter);
    message.match_indices(file).any(|(at, _)| {
        let before = message[..at].chars().next_back();
        let after = message[at + file.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn servers(resources: &Resources, port: u16) -> impl Iterator<Item = &Server> {
    let all = resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
    all.filter(move |server| server.port.number.value == i64::from(port))
}

fn api_listeners(resources: &Resources, port: u16) -> impl Iterator<Item = &ApiListener> {
    let all = resources.api_gateways.iter().flat_map(|gateway| &gateway.spec.listeners);
    all.filter(move |listener| listener.port.value == i64::from(port))
}

/// Of all on a port those that have a host of the chain, where there are some.
fn servers_of<'a>(resources: &'a Resources, port: u16, chain: &FilterChain) -> Vec<&'a Server> {
    let has_host = |server: &&Server| {
        let hosts = server.hosts.iter().map(|host| host.value.rsplit('/').next().unwrap_or(&host.value));
        let names: Vec<String> = chain.server_names.iter().map(ToString::to_string).collect();
        hosts.into_iter().any(|host| names.iter().any(|name| name == host))
    };
    let closest: Vec<&Server> = servers(resources, port).filter(has_host).collect();
    if closest.is_empty() { servers(resources, port).collect() } else { closest }
}

fn of_server(server: &Server) -> Vec<(&Text, &'static str)> {
    let Some(tls) = &server.tls else { return Vec::new() };
    let own = [
        (&tls.server_certificate, "spec.servers[].tls.serverCertificate"),
        (&tls.private_key, "spec.servers[].tls.privateKey"),
        (&tls.ca_certificates, "spec.servers[].tls.caCertificates"),
        (&tls.ca_crl, "spec.servers[].tls.caCrl"),
    ];
    let more = tls.tls_certificates.iter().flat_map(|certificate| {
        [
            (&certificate.server_certificate, "spec.servers[].tls.tlsCertificates[].serverCertificate"),
            (&certificate.private_key, "spec.servers[].tls.tlsCertificates[].privateKey"),
            (&certificate.ca_certificates, "spec.servers[].tls.tlsCertificates[].caCertificates"),
        ]
    });
    own.into_iter().chain(more).filter_map(|(said, path)| Some((said.as_ref()?, path))).collect()
}

/// The DestinationRules of `outbound|80|v1|orders.default.svc.cluster.local`.
fn rules_of<'a>(resources: &'a Resources, cluster: &str) -> Vec<&'a DestinationRule> {
    let host = cluster.rsplit('|').next().unwrap_or(cluster);
    let is_for = |rule: &&DestinationRule| {
        let said = fqdn(&rule.spec.host.value, rule.meta.namespace());
        said == host || said.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix))
    };
    resources.destination_rules.iter().filter(is_for).collect()
}

fn client_sides(rule: &DestinationRule) -> impl Iterator<Item = &ClientTls> {
    let of_subsets = rule.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
    rule.spec.traffic_policy.iter().chain(of_subsets).flat_map(|policy| {
        let of_ports = policy.port_level_settings.iter().filter_map(|port| port.tls.as_ref());
        policy.tls.iter().chain(of_ports)
    })
}

fn of_rule(rule: &DestinationRule) -> Vec<(&Text, &'static str)> {
    let all = client_sides(rule).flat_map(|tls| {
        [
            (&tls.client_certificate, "spec.trafficPolicy.tls.clientCertificate"),
            (&tls.private_key, "spec.trafficPolicy.tls.privateKey"),
            (&tls.ca_certificates, "spec.trafficPolicy.tls.caCertificates"),
            (&tls.ca_crl, "spec.trafficPolicy.tls.caCrl"),
        ]
    });
    all.filter_map(|(said, path)| Some((said.as_ref()?, path))).collect()
}

/// What is of no one listener or cluster.
fn others(resources: &Resources) -> Vec<(&Text, &'static str)> {
    let secrets = resources.session_auths.iter().filter_map(|auth| {
        let secret = auth.spec.login.oidc.as_ref()?.client_secret.as_ref()?;
        Some([
            (secret.file.as_ref(), "spec.login.oidc.clientSecret.file"),
            (secret.environment.as_ref(), "spec.login.oidc.clientSecret.environment"),
        ])
    });
    let policies = resources.edge_policies.iter().map(|policy| &policy.spec);
    let edges = policies.flat_map(|spec| {
        [
            (spec.geo.as_ref().map(|geo| &geo.database), "spec.geo.database"),
            (spec.api_keys.as_ref().and_then(|keys| keys.file.as_ref()), "spec.apiKeys.file"),
            (spec.basic_auth.as_ref().and_then(|basic| basic.file.as_ref()), "spec.basicAuth.file"),
        ]
    });
    secrets.flatten().chain(edges).filter_map(|(said, path)| Some((said?, path))).collect()
}

fn of_port(port: u16, resources: &Resources) -> Option<Said<'_>> {
    let server = servers(resources, port).next();
    let of_server = server.map(|server| (server.port.number.place, "spec.servers[].port.number"));
    let listener = api_listeners(resources, port).next();
    let of_listener = listener.map(|listener| (listener.port.place, "spec.listeners[].port"));
    let (place, path) = of_server.or(of_listener)?;
    Some(Said { place, path, value: None })
}

#[cfg(test)]
mod tests {
    use naru_plan::Surroundings;
    use naru_sources::Texts;

    use super::*;
    use crate::check_command::check_loaded;

    #[test]
    fn a_file_that_is_not_there_is_told_where_it_is_said() {
        let text = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec:
  servers:
  - port: { number: 8443, name: https, protocol: HTTPS }
    hosts: [shop.test]
    tls: { mode: SIMPLE, serverCertificate: /nowhere/c.pem, privateKey: /nowhere/k.pem }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: a }
spec:
  hosts: [a.test]
  ports: [{ number: 80, name: http, protocol: HTTP }]
  resolution: STATIC
  endpoints: [{ address: 127.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: a }
spec: { host: a.test, trafficPolicy: { tls: { mode: SIMPLE, caCertificates: /nowhere.pem } } }
";
        let loaded = Texts { files: vec![("a.yaml".to_owned(), text.to_owned())] }.load();
        let checked = check_loaded(&loaded, &Surroundings::default());
        let (config, snapshot) = checked.compiled.unwrap();
        let told = of_files(&config, &snapshot, &loaded.resources);
        let places: Vec<_> =
            told.iter().map(|problem| (problem.severity, problem.line, &*problem.path)).collect();
        let warned = [
            (Severity::Warning, 8, "spec.servers[].tls.serverCertificate"),
            (Severity::Warning, 22, "spec.trafficPolicy.tls.caCertificates"),
        ];
        assert_eq!(places, warned);
        // What starts here cannot do without.
        let error = naru_proxy::check(&snapshot).unwrap_err();
        assert!(of_error(&error, &config, &loaded.resources).iter().all(Problem::is_error));
        // A port that somebody has is the Gateway's.
        let taken = StartError::Listen {
            listener: "gateway/0.0.0.0:8443".to_owned(),
            address: ([0, 0, 0, 0], 8443).into(),
            error: std::io::ErrorKind::AddrInUse.into(),
        };
        let [told] = &*of_error(&taken, &config, &loaded.resources) else { panic!("one problem") };
        assert_eq!((told.line, told.column, &*told.path), (6, 21, "spec.servers[].port.number"));
        assert!(told.hint.contains("port.number"), "{}", told.hint);
    }

    #[test]
    fn a_file_is_not_taken_for_one_whose_name_is_longer() {
        assert!(names("the private key in file '/a/key.pem' cannot be read", "/a/key.pem"));
        assert!(names("the client secret cannot be read: /a/key: No such file", "/a/key"));
        for other in ["/a/key", "a/key.pem", "key.pem", "/a"] {
            assert!(!names("the private key in file '/a/key.pem' cannot be read", other), "{other}");
        }
    }
}
