//! What is counted, counted anew: each count must be that of the requests that are under way.
//!
//! In builds with debug assertions that is done after every event, for the cluster that it was about; where many
//! requests are under way, after as many events as make it cost the same. In others it is done for one cluster after the
//! other, from time to time; and in all of them for everything at the end.

use naru_base::ClusterId;
use naru_journey::limits::LimitId;

use super::World;
use crate::judge::Violation;
use crate::passage::{Flight, Permit};
use crate::pool::Carrier;
use crate::upstream::{ProxyId, Upstreams};

/// With fewer requests than this under way, it is done after every event.
const CROWD: u64 = 32;
/// Events between two audits where they are not made after each.
const AUDIT_EVERY: u32 = 1 << 12;

/// Of one cluster, all endpoints together.
#[derive(Debug, PartialEq, Eq, Default)]
struct Counts {
    pending: u64,
    requests: u64,
    connections: u64,
    retrying: u32,
}

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// After any event: `cluster` is whom it was about, where it was about one.
    #[inline]
    pub(super) fn audit(&mut self, proxy: ProxyId, cluster: Option<ClusterId>) -> Result<(), Violation> {
        if let Some(what) = self.broken {
            return Err(self.found(what.to_owned()));
        }
        if let Some(left) = self.audit_in.checked_sub(1) {
            self.audit_in = left;
            return Ok(());
        }
        if cfg!(debug_assertions) {
            self.audit_in = u32::try_from(self.passages.under_way() / CROWD).unwrap_or(u32::MAX);
            self.audit_limits(proxy)?;
            return cluster.map_or(Ok(()), |cluster| self.audit_cluster(proxy, cluster));
        }
        self.audit_in = AUDIT_EVERY;
        self.audit_next()
    }

    /// One cluster after the other.
    #[cold]
    fn audit_next(&mut self) -> Result<(), Violation> {
        let (proxy, cluster) = self.audited;
        self.audited = match self.proxies.get(proxy.index()).map(|here| here.snapshot.clusters.len()) {
            None => (ProxyId(0), ClusterId(0)),
            Some(clusters) if cluster.index() + 1 >= clusters => (ProxyId(proxy.0 + 1), ClusterId(0)),
            Some(_) => (proxy, ClusterId(cluster.0 + 1)),
        };
        if proxy.index() >= self.proxies.len() {
            return Ok(());
        }
        self.audit_limits(proxy)?;
        self.audit_cluster(proxy, cluster)
    }

    /// Everything, and what holds of guards.
    ///
    /// # Errors
    /// What does not hold.
    pub fn audit_all(&self) -> Result<(), Violation> {
        for (at, here) in self.proxies.iter().enumerate() {
            let proxy = ProxyId(at as u32);
            self.audit_limits(proxy)?;
            for (cluster, guarded) in here.fleet.guarded() {
                let broken = |what: &str| self.found(format!("{what}, of {}", self.name(proxy, cluster)));
                guarded.check_invariants().map_err(broken)?;
            }
            for (cluster, _) in here.fleet.clusters() {
                self.audit_cluster(proxy, cluster)?;
            }
        }
        Ok(())
    }

    fn audit_cluster(&self, proxy: ProxyId, cluster: ClusterId) -> Result<(), Violation> {
        let here = &self.proxies[proxy.index()];
        let Some(counted) = here.fleet.cluster(cluster) else { return Ok(()) };
        let endpoints = counted.endpoints.len();
        let mut found = Counts::default();
        let mut active = vec![0; endpoints];
        // By worker and endpoint.
        let mut connections = vec![0; endpoints * here.workers.len()];
        for passage in self.passages.iter().filter(|passage| passage.proxy == proxy) {
            let of_cluster = |permit: &&Permit| permit.cluster == cluster;
            found.retrying +=
                u32::from(passage.is_retrying && passage.permit.iter().any(|it| of_cluster(&it)));
            let beside = passage.beside.iter();
            let permits =
                passage.permit.iter().chain(beside.clone().filter_map(|other| other.permit.as_ref()));
            for permit in permits.filter(of_cluster) {
                active[permit.endpoint.index()] += u32::from(permit.is_counted);
                found.requests += u64::from(permit.is_sent);
            }
            let flights = passage.flight.iter().chain(beside.map(|other| &other.flight));
            for flight in flights.filter(|flight| flight.place.cluster == cluster) {
                found.pending += u64::from(flight.is_pending);
                connections[passage.worker * endpoints + flight.place.endpoint.index()] +=
                    connections_of(flight);
            }
        }
        let complain = |what: &str, is: u64, has: u64| {
            let name = self.name(proxy, cluster);
            Err(self.found(format!("{name} counts {is} {what}, and there are {has}")))
        };
        for (worker, of_worker) in here.workers.iter().zip(connections.chunks_mut(endpoints.max(1))) {
            for (pool, has) in worker.pools[cluster.index()].iter().zip(of_worker) {
                *has += pool.standing();
                if pool.connections != *has {
                    return complain("connections of a worker", pool.connections.into(), (*has).into());
                }
                found.connections += u64::from(*has);
            }
        }
        for (at, (endpoint, has)) in counted.endpoints.iter().zip(active).enumerate() {
            if endpoint.active != has {
                return complain("requests at an endpoint", endpoint.active.into(), has.into());
            }
            let has: u32 = connections.iter().skip(at).step_by(endpoints).sum();
            if endpoint.connections != has {
                return complain("connections to an endpoint", endpoint.connections.into(), has.into());
            }
        }
        let limited = &counted.limited;
        let counts = Counts {
            pending: limited.pending,
            requests: limited.requests,
            connections: limited.connections,
            retrying: counted.retrying,
        };
        if counts == found {
            return Ok(());
        }
        Err(self.found(format!("{} counts {counts:?}, and has {found:?}", self.name(proxy, cluster))))
    }

    /// Limits with a name. One whose turn has come and who has not looked yet is counted as one that passed.
    fn audit_limits(&self, proxy: ProxyId) -> Result<(), Violation> {
        let here = &self.proxies[proxy.index()];
        if here.snapshot.limits.is_empty() {
            return Ok(());
        }
        here.fleet.limits.check_invariants().map_err(|what| self.found(what.to_owned()))?;
        let mut held = vec![(0, 0); here.snapshot.limits.all.len()];
        for passage in self.passages.iter().filter(|passage| passage.proxy == proxy) {
            for (limit, is_in_line) in passage.journey.counted_at(here.snapshot) {
                let (inside, waiting) = &mut held[limit.index()];
                *(if is_in_line { waiting } else { inside }) += 1;
            }
            for limit in passage.copied.iter().flat_map(|copied| copied.shadow.counted_at(here.snapshot)) {
                held[limit.index()].0 += 1;
            }
        }
        for (id, (inside, in_line)) in (0..).map(LimitId).zip(held) {
            let Some((active, waiting)) = here.fleet.limits.counted(id) else { continue };
            if active < inside || active > inside + in_line || waiting > in_line {
                let name = here.snapshot.limits.get(id).map_or("", |named| named.name.as_str());
                let what = format!(
                    "{name} counts {active} and {waiting} in line, and there are {inside} and {in_line}"
                );
                return Err(self.found(what));
            }
        }
        Ok(())
    }

    fn name(&self, proxy: ProxyId, cluster: ClusterId) -> &str {
        &self.proxies[proxy.index()].snapshot.cluster(cluster).name
    }

    fn found(&self, what: String) -> Violation {
        Violation { at: self.now, request: None, what }
    }
}

/// How many connections an attempt holds alone.
fn connections_of(flight: &Flight) -> u32 {
    u32::from(flight.has_slot || matches!(flight.carrier, Some(Carrier::Http1(_))))
}
