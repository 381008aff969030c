//! Endpoints that come with requests: made when a request first brings their address, forgotten when none has for a
//! while.
//!
//! A worker has a table of its own for each such cluster, which goes on over changes of the configuration for as long as
//! connections would be made alike. What is counted of an address is shared by all workers ([`Known`]), who ask for it
//! once each. As Envoy's `OriginalDstCluster`, which sweeps every `cleanup_interval`; other than there, the number of
//! endpoints has a bound.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use naru_base::{ClusterId, EndpointId};
use naru_journey::Action;
use naru_spec::defaults::ON_DEMAND_ENDPOINTS_MAX;
use naru_spec::{Address, Endpoint};

use crate::cluster::{EndpointHere, EndpointShared};
use crate::settle::Passage;
use crate::worker::Worker;

/// A cluster's endpoints on one worker.
#[derive(Debug)]
pub struct OnDemandHere {
    known: Arc<Known>,
    cleanup_interval: Cell<Duration>,
    table: RefCell<Table>,
    is_sweeping: Cell<bool>,
    itself: Weak<OnDemandHere>,
}

#[derive(Debug, Default)]
struct Table {
    /// Numbers are not given a second time: who holds one may come late.
    by_id: BTreeMap<u32, Entry>,
    ids: BTreeMap<SocketAddr, u32>,
    next: u32,
}

#[derive(Debug)]
struct Entry {
    here: Rc<EndpointHere>,
    /// Since the last sweep.
    was_used: bool,
}

/// All that any worker has of a cluster.
pub type Known = crate::known::Known<SocketAddr, EndpointShared>;

fn share(known: &Known, address: SocketAddr) -> Arc<EndpointShared> {
    known.share(address, |address| {
        EndpointShared::new(*address, &[], "", &Endpoint::new(Address::Socket(*address)), &[])
    })
}

impl OnDemandHere {
    pub fn new(known: Arc<Known>, cleanup_interval: Duration) -> Rc<OnDemandHere> {
        Rc::new_cyclic(|itself| OnDemandHere {
            known,
            cleanup_interval: Cell::new(cleanup_interval),
            table: RefCell::default(),
            is_sweeping: Cell::new(false),
            itself: Weak::clone(itself),
        })
    }

    pub fn set_cleanup_interval(&self, interval: Duration) {
        self.cleanup_interval.set(interval);
    }

    /// `None` where there are too many that are in use.
    pub fn at(&self, address: SocketAddr) -> Option<EndpointId> {
        if let Some(id) = self.table.borrow_mut().used(address) {
            return Some(EndpointId(id));
        }
        if self.table.borrow().by_id.len() >= ON_DEMAND_ENDPOINTS_MAX {
            self.sweep();
        }
        let mut table = self.table.borrow_mut();
        if table.by_id.len() >= ON_DEMAND_ENDPOINTS_MAX {
            return None;
        }
        let id = table.add(EndpointHere::new(share(&self.known, address)));
        drop(table);
        self.sweep_later();
        Some(EndpointId(id))
    }

    pub fn get(&self, id: EndpointId) -> Option<Rc<EndpointHere>> {
        self.table.borrow().by_id.get(&id.0).map(|entry| Rc::clone(&entry.here))
    }

    pub fn all(&self) -> Vec<Rc<EndpointHere>> {
        self.table.borrow().by_id.values().map(|entry| Rc::clone(&entry.here)).collect()
    }

    /// One task for as long as there are any.
    fn sweep_later(&self) {
        if self.is_sweeping.replace(true) {
            return;
        }
        let itself = Weak::clone(&self.itself);
        tokio::task::spawn_local(async move {
            loop {
                let Some(interval) = itself.upgrade().map(|here| here.cleanup_interval.get()) else { return };
                // Zero would be all the time.
                tokio::time::sleep(interval.max(Duration::from_millis(1))).await;
                let Some(here) = itself.upgrade() else { return };
                here.sweep();
                if here.table.borrow().by_id.is_empty() {
                    here.is_sweeping.set(false);
                    return;
                }
            }
        });
    }

    fn sweep(&self) {
        let gone = self.table.borrow_mut().sweep();
        for endpoint in gone {
            endpoint.pool.retire();
        }
    }
}

impl Table {
    fn used(&mut self, address: SocketAddr) -> Option<u32> {
        let id = *self.ids.get(&address)?;
        self.by_id.get_mut(&id)?.was_used = true;
        Some(id)
    }

    fn add(&mut self, here: Rc<EndpointHere>) -> u32 {
        while self.by_id.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.ids.insert(here.address(), id);
        self.by_id.insert(id, Entry { here, was_used: true });
        id
    }

    /// Those that were not used since the last time, and are not in use.
    fn sweep(&mut self) -> Vec<Rc<EndpointHere>> {
        let mut gone = Vec::new();
        self.by_id.retain(|_, entry| {
            let was_used = std::mem::take(&mut entry.was_used);
            let stays = was_used || Rc::strong_count(&entry.here) > 1 || entry.here.is_active();
            if !stays {
                gone.push(Rc::clone(&entry.here));
            }
            stays
        });
        for endpoint in &gone {
            self.ids.remove(&endpoint.address());
        }
        gone
    }
}

impl Passage {
    /// Looks up what the request seeks, for no longer than a connection may take; or does what the journey asks for
    /// meanwhile.
    pub async fn locate(&mut self, cluster: ClusterId) -> Option<Action> {
        let (host, port, limit) = sought(self, cluster)?;
        let worker = Rc::clone(&self.worker);
        let mut found = std::pin::pin!(find(&worker, &host, port, limit));
        let found = std::future::poll_fn(|cx| match found.as_mut().poll(cx) {
            std::task::Poll::Ready(found) => std::task::Poll::Ready(Ok(found)),
            std::task::Poll::Pending => self.poll_watch(cx).map(Err),
        });
        let found = match found.await {
            Ok(found) => found,
            Err(action) => return Some(action),
        };
        self.hear_located(found);
        None
    }

    /// Tells the journey where the name that it seeks leads.
    pub fn hear_located(&mut self, found: Option<SocketAddr>) {
        let now = self.worker.clock.now();
        let loaded = Rc::clone(&self.loaded);
        let mut core = loaded.core.borrow_mut();
        self.journey.on_located(now, &loaded.snapshot, found, &mut core, &loaded.clusters, &mut ());
    }
}

/// What a request seeks, and for how long that may take.
pub fn sought(passage: &Passage, cluster: ClusterId) -> Option<(String, u16, Duration)> {
    let (host, port) = passage.journey.sought()?;
    Some((host.to_owned(), port, passage.loaded.snapshot.cluster(cluster).connect_timeout))
}

/// The first address of a name.
pub async fn find(worker: &Worker, host: &str, port: u16, limit: Duration) -> Option<SocketAddr> {
    let found = tokio::time::timeout(limit, worker.lookup.find(host)).await.unwrap_or_default();
    found.first().map(|address| SocketAddr::new(*address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(known: &Known, addresses: &[&str]) -> (Table, Vec<u32>) {
        let mut table = Table::default();
        let add = |address: &&str| table.add(EndpointHere::new(share(known, address.parse().unwrap())));
        let ids = addresses.iter().map(add).collect();
        (table, ids)
    }

    #[test]
    fn who_is_used_stays_and_numbers_are_given_once() {
        let known = Known::default();
        let (mut table, ids) = table(&known, &["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(ids, [0, 1, 2]);
        assert!(table.sweep().is_empty(), "they have just been made");
        let address = "10.0.0.1:1".parse().unwrap();
        assert_eq!(table.used(address), Some(0));
        let held = Rc::clone(&table.by_id[&1].here);
        assert_eq!(table.sweep().len(), 1, "the third");
        assert_eq!(table.sweep().len(), 1, "the first was not used again");
        drop(held);
        assert_eq!(table.sweep().len(), 1);
        assert!(table.ids.is_empty() && table.used(address).is_none());
        assert_eq!(table.add(EndpointHere::new(share(&known, address))), 3);
    }

    #[test]
    fn workers_share_what_is_counted_until_nobody_has_it() {
        let known = Known::default();
        let address = "10.0.0.1:1".parse().unwrap();
        let (one, other) = (share(&known, address), share(&known, address));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(known.in_use().len(), 1);
        drop((one, other));
        assert!(known.in_use().is_empty());
        share(&known, "10.0.0.2:1".parse().unwrap());
        assert_eq!(known.remembered(), 1, "what nobody has goes");
    }
}
