//! Who is there: services by their names, workloads by their labels, namespaces.

use std::collections::{BTreeMap, BTreeSet};

use naru_resource::meta::selects;
use naru_resource::{DestinationRule, Resources, Service, ServiceEntry, Text};

/// What can be called by a name.
pub(crate) struct Known<'a> {
    /// In full; may begin with `*.`.
    pub host: String,
    pub namespace: &'a str,
    pub ports: Vec<i64>,
    pub source: Source<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Service(&'a Service),
    Entry(&'a ServiceEntry),
}

/// Labels of processes that run, or that are said to.
pub(crate) struct Workload<'a> {
    pub namespace: &'a str,
    pub labels: &'a [(Text, Text)],
}

pub(crate) struct World<'a> {
    pub resources: &'a Resources,
    pub known: Vec<Known<'a>>,
    /// Which of them have exactly this name.
    by_host: BTreeMap<String, Vec<usize>>,
    /// Which of them begin with `*`.
    wide: Vec<usize>,
    /// Of hosts in full; those with a wildcard stand in a list of their own.
    rules: BTreeMap<String, Vec<&'a DestinationRule>>,
    wide_rules: Vec<(String, &'a DestinationRule)>,
    pub workloads: Vec<Workload<'a>>,
    /// Those that anything is in, or that have a document of their own.
    pub namespaces: BTreeSet<&'a str>,
}

const CLUSTER_DOMAIN: &str = ".svc.cluster.local";

impl<'a> World<'a> {
    pub fn of(resources: &'a Resources) -> World<'a> {
        let services = resources.services.iter().map(|service| {
            let namespace = service.meta.namespace();
            Known {
                host: format!("{}.{namespace}{CLUSTER_DOMAIN}", service.meta.name.value),
                namespace,
                ports: service.spec.ports.iter().map(|port| port.port.value).collect(),
                source: Source::Service(service),
            }
        });
        let entries = resources.service_entries.iter().flat_map(|entry| {
            entry.spec.hosts.iter().map(|host| Known {
                host: host.value.to_ascii_lowercase(),
                namespace: entry.meta.namespace(),
                ports: entry.spec.ports.iter().map(|port| port.number.value).collect(),
                source: Source::Entry(entry),
            })
        });
        let deployments = resources.deployments.iter().filter_map(|deployment| {
            let labels = &deployment.spec.template.meta.as_ref()?.labels;
            Some(Workload { namespace: deployment.meta.namespace(), labels })
        });
        let machines = resources
            .workload_entries
            .iter()
            .map(|entry| Workload { namespace: entry.meta.namespace(), labels: &entry.spec.labels });
        // A cluster may have those that no Deployment has made.
        let pods = resources
            .pods
            .iter()
            .map(|pod| Workload { namespace: pod.meta.namespace(), labels: &pod.meta.labels });
        let mut namespaces: BTreeSet<&str> =
            resources.namespaces.iter().map(|namespace| namespace.meta.name.value.as_str()).collect();
        namespaces.extend(resources.services.iter().map(|service| service.meta.namespace()));
        namespaces.extend(resources.deployments.iter().map(|deployment| deployment.meta.namespace()));
        namespaces.extend(resources.workload_entries.iter().map(|entry| entry.meta.namespace()));
        namespaces.extend(resources.service_entries.iter().map(|entry| entry.meta.namespace()));
        let mut world = World {
            resources,
            known: services.chain(entries).collect(),
            by_host: BTreeMap::new(),
            wide: Vec::new(),
            rules: BTreeMap::new(),
            wide_rules: Vec::new(),
            workloads: deployments.chain(machines).chain(pods).collect(),
            namespaces,
        };
        for (at, known) in world.known.iter().enumerate() {
            world.by_host.entry(known.host.clone()).or_default().push(at);
            if known.host.starts_with('*') {
                world.wide.push(at);
            }
        }
        for rule in &resources.destination_rules {
            let host = world.full(&rule.spec.host, rule.meta.namespace());
            match host.starts_with('*') {
                true => world.wide_rules.push((host, rule)),
                false => world.rules.entry(host).or_default().push(rule),
            }
        }
        world
    }

    /// The DestinationRules that are for a host, named in full.
    pub fn rules_for(&self, full: &str) -> impl Iterator<Item = &'a DestinationRule> {
        let exact = self.rules.get(full).into_iter().flatten().copied();
        let wide = self.wide_rules.iter().filter(move |(host, _)| covers(host, full));
        exact.chain(wide.map(|(_, rule)| *rule))
    }

    /// Whether anybody has a host, named in full, or a part of it.
    pub fn has(&self, full: &str) -> bool {
        self.by_host.contains_key(full)
            || self.wide.iter().any(|at| self.known.get(*at).is_some_and(|known| covers(&known.host, full)))
            || (full.starts_with('*') && self.known.iter().any(|known| covers(full, &known.host)))
    }

    /// A host as it is meant in a namespace.
    pub fn full(&self, host: &str, namespace: &str) -> String {
        let host = host.to_ascii_lowercase();
        if host.contains('*') || host.ends_with(CLUSTER_DOMAIN) {
            return host;
        }
        let short = host.strip_suffix(".svc").unwrap_or(&host);
        match short.split_once('.') {
            None => format!("{host}.{namespace}{CLUSTER_DOMAIN}"),
            Some(_) => {
                let full = format!("{short}{CLUSTER_DOMAIN}");
                if self.by_host.contains_key(&full) { full } else { host }
            }
        }
    }

    /// Who is called by a host from a namespace: first those of exactly this name.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&Known<'a>> {
        let full = self.full(host, namespace);
        let exact = self.by_host.get(&full).into_iter().flatten();
        let wide = self
            .wide
            .iter()
            .filter(|at| self.known.get(**at).is_some_and(|known| covers(&known.host, &full)));
        let mut all = exact.chain(wide).filter_map(|at| self.known.get(*at));
        all.find(|known| known.is_visible(namespace))
    }

    /// Whether any process has these labels; where no process is known at all, nobody can say.
    pub fn selects_any(&self, namespace: Option<&str>, labels: &[(Text, Text)]) -> bool {
        self.workloads.is_empty()
            || self.workloads.iter().any(|workload| {
                namespace.is_none_or(|namespace| namespace == workload.namespace)
                    && selects(labels, workload.labels)
            })
    }
}

impl Known<'_> {
    pub fn is_visible(&self, from: &str) -> bool {
        match self.source {
            Source::Service(_) => true,
            Source::Entry(entry) => is_exported(&entry.spec.export_to, self.namespace, from),
        }
    }
}

/// Whether what a namespace exports is there for another.
pub(crate) fn is_exported(export_to: &[Text], owner: &str, to: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|target| match target.value.as_str() {
            "*" => true,
            "." => owner == to,
            name => name == to,
        })
}

/// Whether a host with a wildcard has another.
pub(crate) fn covers(wide: &str, host: &str) -> bool {
    match wide.strip_prefix('*') {
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
        None => wide == host,
    }
}

/// Whether any host could be meant by both.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

pub(crate) fn said(labels: &[(Text, Text)]) -> String {
    let labels: Vec<String> =
        labels.iter().map(|(key, value)| format!("{}={}", key.value, value.value)).collect();
    labels.join(",")
}
