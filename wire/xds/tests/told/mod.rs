//! A proxy without a network: what it makes of resources, and what is to be expected of it.

use naru_base::{Instant, WallTime};
use naru_spec::{CheckKind, Config, Descriptor, DescriptorPart, Gate, GateChange, RbacRules, Rule};
use naru_xds::discovery::{Any, Client, DiscoveryResponse, Event, KINDS, Kind, read, write};
use naru_xds::encode::Resource;
use naru_xds::{Schema, load_with};

const BOOTSTRAP: &str = "
node: { id: one, cluster: own }
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{ envoy_grpc: { cluster_name: xds } }]
  cds_config: { ads: {} }
  lds_config: { ads: {} }
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } }] }]
";

/// A proxy that has been told these; or why it has refused them.
pub fn told(schema: &Schema, resources: &[Resource]) -> Result<Config, String> {
    let loaded = load_with(schema, "f.yaml", BOOTSTRAP).unwrap();
    let mut client = Client::new(schema.clone(), *loaded.dynamic.unwrap(), 1, Instant::ZERO);
    client.connected(Instant::ZERO);
    for (nonce, kind) in KINDS.into_iter().filter(|kind| *kind != Kind::VirtualHost).chain(KINDS).enumerate()
    {
        if kind == Kind::VirtualHost {
            continue;
        }
        let of_kind = resources.iter().filter(|resource| resource.kind == kind);
        let response = DiscoveryResponse {
            version_info: nonce.to_string(),
            resources: of_kind.map(|resource| read::<Any>(&resource.any).unwrap()).collect(),
            type_url: kind.type_url().to_owned(),
            nonce: nonce.to_string(),
            ..DiscoveryResponse::default()
        };
        client.receive(Instant::ZERO, WallTime::default(), &write(&response)).unwrap();
        while client.take_plan().is_some() {
            client.settle(Instant::ZERO, WallTime::default(), Ok(()));
        }
        for event in client.take_events() {
            if let Event::Refused { why, .. } | Event::NotInForce { why } = event {
                return Err(why);
            }
        }
    }
    let waiting = client.status().waiting;
    if waiting.is_empty() { Ok(client.config()) } else { Err(format!("it waits for {waiting:?}")) }
}

/// What is not told, and in which order what has none comes back.
pub fn expected(mut config: Config) -> Config {
    for cluster in &mut config.clusters {
        let mut places: Vec<_> = Vec::new();
        for endpoint in &cluster.endpoints {
            let place = (endpoint.priority, endpoint.locality.clone());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        cluster.endpoints.sort_by_key(|endpoint| {
            places.iter().position(|(priority, locality)| {
                (*priority, locality) == (endpoint.priority, &endpoint.locality)
            })
        });
    }
    for chain in config.listeners.iter_mut().flat_map(|listener| &mut listener.chains) {
        chain.http.routes.name.clear();
        forget(&mut chain.http.gate);
        chain.http.gate.checks.iter_mut().for_each(|check| name_source(&mut check.kind));
        for rule in chain.http.routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules) {
            forget_of(rule);
        }
    }
    if config.listeners.is_empty() {
        // Nobody is there to whom any of this would happen.
        config = Config { clusters: config.clusters, ..Config::default() };
    }
    config.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    config.clusters.retain(|cluster| cluster.name != "xds");
    config.clusters.sort_by(|a, b| a.name.cmp(&b.name));
    config
}

/// A proxy knows itself what its cluster is called.
fn name_source(kind: &mut CheckKind) {
    match kind {
        CheckKind::LocalRate(said) => named(&mut said.rates),
        CheckKind::RateService(said) => {
            named(&mut said.rates);
            named(&mut said.rule_rates);
        }
        _ => {}
    }
}

fn named(descriptors: &mut [Descriptor]) {
    for part in descriptors.iter_mut().flat_map(|said| &mut said.parts) {
        if let DescriptorPart::SourceCluster(name) = part {
            "own".clone_into(name);
        }
    }
}

fn forget_of(rule: &mut Rule) {
    rule.origin.clear();
    for change in &mut rule.gate {
        match change {
            GateChange::Instead(check) | GateChange::Also(check) => name_source(&mut check.kind),
            GateChange::Describe(said) => {
                named(&mut said.own);
                named(&mut said.of_host);
            }
            GateChange::Count(_, said) => named(&mut said.rates),
            _ => {}
        }
        if let GateChange::Instead(check) | GateChange::Also(check) = change {
            let mut gate = Gate { checks: vec![check.clone()] };
            forget(&mut gate);
            *check = gate.checks.remove(0);
        }
    }
}

fn forget(gate: &mut Gate) {
    let forget_in = |rules: Option<&mut RbacRules>| {
        for policy in rules.into_iter().flat_map(|rules| &mut rules.policies) {
            policy.origin.clear();
        }
    };
    for check in &mut gate.checks {
        match &mut check.kind {
            CheckKind::Rbac(said) => {
                forget_in(said.rules.as_mut());
                forget_in(said.shadow.as_mut());
            }
            CheckKind::External(said) => forget_in(said.only_for.as_mut()),
            _ => {}
        }
    }
}

/// The first lines that differ, and what stands before them.
pub fn first_difference(told: &Config, meant: &Config) -> String {
    let (told, meant) = (format!("{told:#?}"), format!("{meant:#?}"));
    let lines: Vec<_> = told.lines().zip(meant.lines()).collect();
    let at = lines.iter().position(|(a, b)| a != b).unwrap_or(lines.len().saturating_sub(1));
    let around = at.saturating_sub(20)..(at + 5).min(lines.len());
    around.map(|n| format!("{:60} | {}\n", lines[n].0, lines[n].1)).collect()
}
