//! Who is given which configuration, and has it?
//!
//! Comes in: documents and what is around them, again whenever they change; proxies that connect by gRPC and say what
//! they are. Goes out: to each the resources that it needs, by xDS; and for each, what it has, what it lacks, and why.
//!
//! Deliberately not here: what documents mean (`core/plan`), how a resource is written (`wire/xds`), what a proxy makes
//! of it.
#![forbid(unsafe_code)]

// In the order of a configuration's way: who asks, what there is for him, when it is sent, how it gets there.
mod door;
mod node;
mod set;
mod identities;
mod views;
mod parts;
mod stream;
mod members;
mod joining;
mod hub;
mod requests;
mod body;
mod serve;
mod status;
mod clock;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::{io, thread};

pub use door::Keys;
pub use hub::HeldBack;
pub use identities::Identities;
pub use members::Connected;
pub use node::{Part, Role};
pub use set::{Item, Set, Shelf, View};
pub use stream::{Asked, Mode, PATIENCE, Refusal, Response, Standing, Stream, TooMuch, Wish};
pub use views::{Documents, configuration, make};

use naru_plan::Member;

use door::Door;
use hub::{Hub, Maker};

/// A control plane that runs, on two threads of its own: one makes what is sent, one speaks with proxies.
#[derive(Debug)]
pub struct ControlPlane {
    hub: Arc<Hub>,
    address: SocketAddr,
    /// With TLS.
    door: Option<Arc<Door>>,
    /// Nobody is answered any more once this is gone.
    _ends: tokio::sync::oneshot::Sender<()>,
}

impl ControlPlane {
    /// Listens, with keys by TLS. Proxies are answered once documents have been [put](ControlPlane::put).
    pub fn start(address: SocketAddr, keys: Option<Keys>) -> io::Result<ControlPlane> {
        let door = keys.map(|keys| Arc::new(Door::new(keys)));
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (hub, orders) = Hub::new();
        let hub = Arc::new(hub);
        let maker = Maker::new(Arc::clone(&hub));
        thread::Builder::new().name("xds-views".to_owned()).spawn(move || maker.run(&orders))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ends_tx, ends_rx) = tokio::sync::oneshot::channel();
        let served = (Arc::clone(&hub), door.clone());
        thread::Builder::new().name("xds".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = joining::run(Arc::clone(&served.0)) => {}
                    () = serve::serve(listener, served.0, served.1) => {}
                    _ = ends_rx => {}
                }
            });
        })?;
        Ok(ControlPlane { hub, address, door, _ends: ends_tx })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who connects from now on is shown another certificate, and checked by what goes with it.
    pub fn renew(&self, terminator: naru_tls::Terminator) {
        if let Some(door) = &self.door {
            door.renew(terminator);
        }
    }

    /// From now on this is what there is. It has been found to be without errors. The answer says to which of the nodes
    /// that are connected it is not told; it does not come where something else is put before that is known.
    pub fn put(&self, documents: Documents) -> tokio::sync::oneshot::Receiver<Vec<HeldBack>> {
        self.hub.put(documents)
    }

    /// What was to be put, from where, and why it cannot be: it is told until something is put.
    pub fn is_wrong(&self, name: &str, why: &str) {
        self.hub.is_wrong(name, why);
    }

    /// Who has joined a WorkloadGroup and may be called: each time that it is another, a moment later.
    pub fn members(&self) -> tokio::sync::watch::Receiver<Arc<[Member]>> {
        self.hub.joining.watch()
    }

    /// How many WorkloadGroups there are; `None` before any documents were put.
    pub fn groups(&self) -> tokio::sync::watch::Receiver<Option<usize>> {
        self.hub.joining.watch_groups()
    }

    /// Who is connected here and has joined a WorkloadGroup, ready or not: for other control planes.
    pub fn connected(&self) -> tokio::sync::watch::Receiver<Arc<[Connected]>> {
        self.hub.joining.watch_connected()
    }

    /// Who is connected to other control planes now, by their names.
    pub fn others(&self, others: BTreeMap<String, Vec<Connected>>) {
        self.hub.joining.others(self.hub.clock.now(), others);
    }

    /// Those who were called in a process before this one: for as long as somebody may be away, they are called.
    pub fn restore(&self, members: Vec<Member>) {
        self.hub.joining.restore(self.hub.clock.now(), members);
    }

    /// Who is connected, and what he has: see `docs/control-plane.md`.
    pub fn status(&self) -> serde_json::Value {
        status::of(&self.hub)
    }
}
