//! The proxies of a scenario: those that loads come to, and those that services call through.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use naru_base::Chance;

use super::{Binder, Owners, ProxyPlan, Unit};
use crate::fleet::Fleet;
use crate::scenario::{Call, Outbound, Sharing};
use crate::upstream::ProxyId;

const PROXIES_MAX: usize = 10_000;
pub(super) const GATEWAYS_MAX: u32 = 100;
/// How the proxy that loads come to is called.
const EDGE: &str = "edge";

#[derive(Debug)]
pub(super) struct Plans {
    pub proxies: Vec<ProxyPlan>,
    /// The first is the edge.
    pub groups: Vec<String>,
    /// Where an instance calls through a proxy of its own, or of its service.
    pub of_instance: BTreeMap<SocketAddr, ProxyId>,
}

impl<'a> Unit<'a> {
    pub(super) fn calls(&self) -> &'a [Call] {
        let own = self.version.and_then(|version| version.calls.as_deref());
        own.unwrap_or(&self.service.calls)
    }
}

impl<'a> Binder<'a> {
    pub(super) fn proxies(&mut self, owners: &Owners, seed: u64) -> Plans {
        let workers = self.scenario.workers.get() as usize;
        let gateways = (0..u64::from(self.scenario.gateways().min(GATEWAYS_MAX))).map(|at| {
            let seed = if at == 0 { seed } else { Chance::split(seed, &format!("gateway {at}")).draw() };
            ProxyPlan { group: 0, snapshot: 0, fleet: self.fleet(0), workers, seed }
        });
        let mut plans = Plans {
            proxies: gateways.collect(),
            groups: vec![EDGE.to_owned()],
            of_instance: BTreeMap::new(),
        };
        let units = self.units();
        if !self.problems.is_empty() {
            // There may be more of them than any machine has room for.
            return plans;
        }
        for (service_at, service) in self.scenario.services.iter().enumerate() {
            let of_this = |unit: &usize| units[*unit].service_at == service_at;
            if !units.iter().any(|unit| unit.service_at == service_at && !unit.calls().is_empty()) {
                continue;
            }
            let standard = Outbound::default();
            let outbound = service.outbound.as_ref().unwrap_or(&standard);
            let group = plans.groups.len();
            plans.groups.push(service.name.value.clone());
            let mut shared = None;
            for (address, _) in owners.iter().filter(|(_, unit)| of_this(unit)) {
                let proxy = match (outbound.of, shared) {
                    (Sharing::Service, Some(shared)) => shared,
                    (of, _) => {
                        let name = match of {
                            Sharing::Service => service.name.value.clone(),
                            Sharing::Instance => address.to_string(),
                        };
                        let snapshot = self.compiled.outbound.get(service_at).copied().unwrap_or(0);
                        let id = ProxyId(plans.proxies.len() as u32);
                        plans.proxies.push(ProxyPlan {
                            group,
                            snapshot,
                            fleet: self.fleet(snapshot),
                            workers: outbound.workers.get() as usize,
                            seed: Chance::split(seed, &format!("proxy of {name}")).draw(),
                        });
                        shared = Some(id);
                        id
                    }
                };
                plans.of_instance.insert(*address, proxy);
            }
            if plans.proxies.len() > PROXIES_MAX {
                let what = format!("there are more proxies than {PROXIES_MAX}; let services share one");
                let path = format!("services[{service_at}].outbound");
                self.tell(&service.name, path, "invalid-value", &what);
                break;
            }
        }
        plans
    }

    fn fleet(&self, snapshot: usize) -> Fleet {
        let dns = &self.scenario.dns;
        Fleet::new(&self.compiled.snapshots[snapshot], &|name| dns.get(name).cloned())
    }
}
