//! Which VirtualServices speak of a host to workloads? Of ten thousand each host asks a few.

use std::collections::BTreeMap;

use naru_resource::Resources;

use crate::registry::Registry;
use crate::routes::{MESH, is_bound};

/// VirtualServices of workloads, by their places.
#[derive(Debug, Default)]
pub(crate) struct Speakers {
    by_name: BTreeMap<String, Vec<usize>>,
    /// Those with patterns.
    wide: Vec<usize>,
}

impl Speakers {
    pub fn of_all(resources: &Resources, registry: &Registry) -> Speakers {
        let mut speakers = Speakers::default();
        for (at, service) in resources.virtual_services.iter().enumerate() {
            if !is_bound(service, MESH) {
                continue;
            }
            for name in &service.spec.hosts {
                let full = registry.full_name(name, service.meta.namespace());
                let all = if full.starts_with('*') {
                    &mut speakers.wide
                } else {
                    speakers.by_name.entry(full).or_default()
                };
                if all.last() != Some(&at) {
                    all.push(at);
                }
            }
        }
        speakers
    }

    /// In their order.
    pub fn of(&self, host: &str) -> Vec<usize> {
        let named = self.by_name.get(host).into_iter().flatten();
        let mut all: Vec<usize> = named.chain(&self.wide).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
