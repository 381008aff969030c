//! What is there for one kind of node? Documents become the configuration of one proxy, and that resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use naru_plan::{Client, Surroundings, is_of_workload, led_to, plan};
use naru_resource::{Gateway, Resources};
use naru_spec::{ClusterName, Config, VirtualHost};
use naru_xds::discovery::Kind;
use naru_xds::encode::{Unsaid, resources, resources_by_host, unsaid};

use crate::identities::Identities;
use crate::node::{Part, Role};

/// Documents without errors, and what is around them.
#[derive(Clone, Debug)]
pub struct Documents {
    pub resources: Resources,
    /// Whom it is for is said by each node.
    pub surroundings: Surroundings,
    /// Who issues what proxies show to each other, where anybody asks for that.
    pub identities: Option<Arc<Identities>>,
}

/// What a node is given.
#[derive(Debug)]
pub struct Made {
    pub resources: Vec<(Kind, String, Vec<u8>)>,
    /// What it lacks of what documents say.
    pub lost: Vec<Unsaid>,
    /// From how many virtual hosts a cluster is led to.
    pub(crate) led: Led,
}

pub(crate) type Led = BTreeMap<String, u32>;

/// `Err` says why it is given nothing: what it would not know of guards something.
pub fn make(documents: &Documents, role: &Role) -> Result<Made, String> {
    let Documents { resources, surroundings, identities } = documents;
    make_of(&mut resources.clone(), &around(surroundings, identities.as_deref(), role)?, role)
}

/// The same, of what is [`around`] the role; the resources are as before when it is done.
pub(crate) fn make_of(
    resources: &mut Resources,
    surroundings: &Surroundings,
    role: &Role,
) -> Result<Made, String> {
    if surroundings.identity.is_none() && naru_plan::mesh_authority(resources).is_some() {
        return Err("documents ask for ISTIO_MUTUAL, and nobody issues certificates".to_owned());
    }
    let mut config = configuration_of(resources, surroundings, role);
    let mut led = Led::new();
    if role.is_by_host {
        // Also from listeners that are others': their clusters are there all the same.
        hosts(&config).for_each(|host| count(host, &mut led, 1));
    }
    only_its(&mut config, role);
    let lost = unsaid(&config, role.dialect);
    if let Some(guard) = lost.iter().find(|lost| lost.is_guard) {
        return Err(format!(
            "{}: {} cannot be said to it, and without it too much would pass",
            guard.at, guard.what
        ));
    }
    Ok(Made { resources: said(&config, role), lost, led })
}

/// As the resources that a node of a role reads.
pub(crate) fn said(config: &Config, role: &Role) -> Vec<(Kind, String, Vec<u8>)> {
    let said = match role.is_by_host {
        true => resources_by_host(config),
        false => resources(config, role.dialect),
    };
    said.into_iter().map(|said| (said.kind, said.name, said.any)).collect()
}

fn hosts(config: &Config) -> impl Iterator<Item = &VirtualHost> {
    let chains = config.listeners.iter().flat_map(|listener| &listener.chains);
    chains.flat_map(|chain| &chain.http.routes.virtual_hosts)
}

/// Counts a host for each cluster that it leads to, once more or once less.
pub(crate) fn count(host: &VirtualHost, led: &mut Led, by: i32) {
    let mut names: Vec<&str> = led_to(host).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        match led.get_mut(name) {
            Some(count) => *count = count.saturating_add_signed(by),
            None => {
                led.insert(name.to_owned(), u32::try_from(by).unwrap_or(0));
            }
        }
    }
}

/// What it would be if nothing had to be said in words of others.
pub fn configuration(documents: &Documents, role: &Role) -> Config {
    let Documents { resources, surroundings, identities } = documents;
    // Without a certificate it is the same.
    let around = around(surroundings, identities.as_deref(), role).unwrap_or_else(|_| surroundings.clone());
    let mut config = configuration_of(&mut resources.clone(), &around, role);
    only_its(&mut config, role);
    config
}

/// With the listeners of everybody.
fn configuration_of(resources: &mut Resources, surroundings: &Surroundings, role: &Role) -> Config {
    // Those of others are set aside for as long as this takes.
    let all = std::mem::take(&mut resources.gateways);
    resources.gateways = all.iter().filter(|gateway| is_its(gateway, role)).cloned().collect();
    // What is wrong with the documents has been told, and is nothing that would matter.
    let config = plan(resources, surroundings).config;
    resources.gateways = all;
    config
}

/// What is around the documents for a node of a role.
pub(crate) fn around(
    surroundings: &Surroundings,
    identities: Option<&Identities>,
    role: &Role,
) -> Result<Surroundings, String> {
    if identities.is_some() && role.account.is_empty() {
        return Err(
            "documents ask for ISTIO_MUTUAL, and its certificate does not say which service account it is \
                    (spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT), which --check-nodes asks for"
                .to_owned(),
        );
    }
    let mut surroundings = surroundings.clone();
    let identity = identities.map(|identities| identities.of(&role.namespace, &role.account)).transpose();
    surroundings.identity = identity.map_err(|invalid| invalid.to_string())?;
    match &role.part {
        Part::Gateway { address } => {
            surroundings.clients = Vec::new();
            surroundings.gateway_address = *address;
        }
        Part::Sidecar { .. } | Part::Client => surroundings.clients = vec![client(role)],
    }
    Ok(surroundings)
}

fn client(role: &Role) -> Client {
    let unnamed = Client::unnamed();
    let (address, inbound) = match &role.part {
        Part::Sidecar { address, inbound } => (*address, Some(*inbound)),
        Part::Gateway { .. } | Part::Client => (unnamed.address, unnamed.inbound),
    };
    Client {
        name: role.workload.clone(),
        namespace: role.namespace.clone(),
        labels: role.labels.clone(),
        address,
        inbound,
    }
}

/// A gateway has all listeners.
pub(crate) fn only_its(config: &mut Config, role: &Role) {
    if matches!(role.part, Part::Sidecar { .. } | Part::Client) {
        let client = client(role);
        config.listeners.retain(|listener| is_of_workload(&listener.name, &client));
        // Nobody but gateways leads to these.
        config
            .clusters
            .retain(|cluster| !ClusterName::read(&cluster.name).is_some_and(|name| name.is_passed));
    }
}

/// A node without labels has all gateways; what is no gateway looks at all of them.
pub(crate) fn is_its(gateway: &Gateway, role: &Role) -> bool {
    let selector = &gateway.spec.selector;
    !matches!(role.part, Part::Gateway { .. })
        || role.labels.is_empty()
        || selector.iter().all(|(name, value)| {
            role.labels.iter().any(|(known, has)| *known == name.value && *has == value.value)
        })
}

#[cfg(test)]
mod tests {
    use naru_plan::Surroundings;
    use naru_sources::Texts;
    use naru_xds::discovery::Dialect;

    use super::{Documents, configuration};
    use crate::node::{Part, Role};

    /// Two gateways on one port, with a host in common, for workloads of their own.
    const DOCUMENTS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: inner}
spec: {selector: {istio: inner}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: outer}
spec: {selector: {istio: outer}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inner}
spec: {hosts: [a.test], gateways: [inner], http: [{name: inner, directResponse: {status: 200}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outer}
spec: {hosts: [a.test], gateways: [outer], http: [{name: outer, match: [{uri: {prefix: /a}}], directResponse: {status: 200}}]}
";

    #[test]
    fn a_gateway_is_given_what_its_labels_have_and_one_without_labels_all_of_it_joined() {
        let texts = Texts { files: vec![("a.yaml".to_owned(), DOCUMENTS.to_owned())] };
        let resources = texts.load().resources;
        let documents = Documents { resources, surroundings: Surroundings::default(), identities: None };
        let rules = |labels: &[(&str, &str)]| -> Vec<String> {
            let role = Role {
                is_by_host: false,
                dialect: Dialect::Envoy,
                part: Part::Gateway { address: [0, 0, 0, 0].into() },
                namespace: "default".to_owned(),
                account: "default".to_owned(),
                labels: labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                workload: String::new(),
            };
            let config = configuration(&documents, &role);
            let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
            assert_eq!((config.listeners.len(), hosts.len()), (1, 1));
            hosts[0].rules.iter().map(|rule| rule.name.clone()).collect()
        };
        assert_eq!(rules(&[("istio", "inner"), ("app", "x")]), ["inner"]);
        assert_eq!(rules(&[("istio", "outer")]), ["outer"]);
        assert_eq!(rules(&[]), ["outer", "inner"]);
    }
}
