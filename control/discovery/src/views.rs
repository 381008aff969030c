//! What is there for one kind of node? Documents become the configuration of one proxy, and that resources.

use std::borrow::Cow;

use naru_plan::{Client, Surroundings, outbound_name, plan};
use naru_resource::Resources;
use naru_spec::Config;
use naru_xds::discovery::Kind;
use naru_xds::encode::{Unsaid, resources, unsaid};

use crate::node::{Part, Role};

/// Documents without errors, and what is around them.
#[derive(Clone, Debug)]
pub struct Documents {
    pub resources: Resources,
    /// Whom it is for is said by each node.
    pub surroundings: Surroundings,
}

/// What a node is given.
#[derive(Debug)]
pub struct Made {
    pub resources: Vec<(Kind, String, Vec<u8>)>,
    /// What it lacks of what documents say.
    pub lost: Vec<Unsaid>,
}

/// `Err` says why it is given nothing: what it would not know of guards something.
pub fn make(documents: &Documents, role: &Role) -> Result<Made, String> {
    let config = configuration(documents, role);
    let lost = unsaid(&config, role.dialect);
    if let Some(guard) = lost.iter().find(|lost| lost.is_guard) {
        return Err(format!(
            "{}: {} cannot be said to it, and without it too much would pass",
            guard.at, guard.what
        ));
    }
    let resources = resources(&config, role.dialect);
    let resources = resources.into_iter().map(|said| (said.kind, said.name, said.any)).collect();
    Ok(Made { resources, lost })
}

fn configuration(documents: &Documents, role: &Role) -> Config {
    let mut surroundings = documents.surroundings.clone();
    let client = |address| Client {
        name: role.workload.clone(),
        namespace: role.namespace.clone(),
        labels: role.labels.clone(),
        address,
    };
    let mut resources = Cow::Borrowed(&documents.resources);
    let only = match &role.part {
        Part::Gateway { address } => {
            surroundings.clients = Vec::new();
            surroundings.gateway_address = *address;
            resources = with_gateways_of(resources, role);
            None
        }
        Part::Sidecar { address } => {
            let client = client(*address);
            let name = outbound_name(&client);
            surroundings.clients = vec![client];
            Some(name)
        }
        Part::Client => {
            let client = client(Client::unnamed().address);
            let name = outbound_name(&client);
            surroundings.clients = vec![client];
            Some(name)
        }
    };
    // What is wrong with the documents has been told, and is nothing that would matter.
    let mut config = plan(&resources, &surroundings).config;
    if let Some(name) = only {
        config.listeners.retain(|listener| listener.name == name);
    }
    config
}

/// A node without labels has all gateways.
fn with_gateways_of<'a>(resources: Cow<'a, Resources>, role: &Role) -> Cow<'a, Resources> {
    let is_its = |gateway: &naru_resource::Gateway| {
        let selector = &gateway.spec.selector;
        role.labels.is_empty()
            || selector.iter().all(|(name, value)| {
                role.labels.iter().any(|(known, has)| *known == name.value && *has == value.value)
            })
    };
    if resources.gateways.iter().all(is_its) {
        return resources;
    }
    let mut resources = resources.into_owned();
    resources.gateways.retain(is_its);
    Cow::Owned(resources)
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
        let documents = Documents { resources, surroundings: Surroundings::default() };
        let rules = |labels: &[(&str, &str)]| -> Vec<String> {
            let role = Role {
                dialect: Dialect::Envoy,
                part: Part::Gateway { address: [0, 0, 0, 0].into() },
                namespace: "default".to_owned(),
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
