//! What all connected proxies share: what there is for each kind of them, and the list of who is there.
//!
//! One thread makes views, each once for all nodes of one [`Role`], and only for roles that somebody has. Streams hear
//! of another view by a number that changes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use naru_base::Instant;
use naru_plan::{Change, Known, MeshIdentity, Surroundings};
use naru_xds::discovery::Kind;
use naru_xds::encode::Unsaid;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::identities::Identities;
use crate::joining::Joining;
use crate::node::{Identity, Role};
use crate::parts::{Before, patch};
use crate::set::{Shelf, View};
use crate::stream::Stream;
use crate::views::{Documents, Led, around, make_of};

/// Kinds of nodes at a time. More are told to come again.
const ROLES_MAX: usize = 10_000;
/// Of those who are gone again.
const GONE_MAX: usize = 64;
/// Between two looks at certificates, however soon or late one is due: the calendar of a machine may be set.
const RENEWS_EVERY_MIN: Duration = Duration::from_secs(1);
const RENEWS_EVERY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Hub {
    pub clock: Clock,
    /// Those who join groups.
    pub joining: Joining,
    orders: mpsc::Sender<Order>,
    changed: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    roles: BTreeMap<Role, Given>,
    proxies: BTreeMap<u64, Arc<Proxy>>,
    gone: VecDeque<Gone>,
    next_id: u64,
    puts: u64,
    put_at: Option<Instant>,
    wrong: Option<Wrong>,
    plans: Plans,
}

/// How configurations of roles were planned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plans {
    pub wholes: u64,
    /// Only what a change reaches.
    pub parts: u64,
    /// VirtualServices that the last part was planned of.
    pub reached: usize,
}

/// What nodes of one role have.
#[derive(Clone, Debug, Default)]
pub struct Given {
    followers: usize,
    pub view: Option<Arc<View>>,
    pub lost: Arc<[Unsaid]>,
    /// Why there is none, or none newer.
    pub refused: Option<String>,
}

/// What was to be put and cannot be.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Where it comes from.
    pub name: String,
    pub why: String,
    pub at: Instant,
}

/// Nodes that are given nothing newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// `gateways of default (envoy)`
    pub whom: String,
    pub why: String,
}

/// A stream that is open.
#[derive(Debug)]
pub struct Proxy {
    pub identity: Identity,
    pub role: Role,
    pub peer: SocketAddr,
    /// URIs and DNS names of its certificate.
    pub shown: Vec<String>,
    pub connected_at: Instant,
    pub stream: Mutex<Stream>,
    pub bytes_sent: AtomicU64,
}

/// A stream that is over, or never began.
#[derive(Clone, Debug)]
pub struct Gone {
    pub id: String,
    pub agent: String,
    pub peer: SocketAddr,
    pub at: Instant,
    pub why: String,
}

#[derive(Debug)]
pub(crate) enum Order {
    /// Says of whom it is held back, once everybody's is made.
    Put(Box<Documents>, oneshot::Sender<Vec<HeldBack>>),
    Make(Role),
    /// Others have joined groups.
    Members,
    /// Certificates that proxies show to each other.
    Renew,
}

/// A poisoned lock is one whose holder has panicked; what it held is whole all the same.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new() -> (Hub, mpsc::Receiver<Order>) {
        let (orders, orders_rx) = mpsc::channel();
        let (changed, _) = watch::channel(0);
        let inner = Mutex::new(Inner::default());
        (Hub { clock: Clock::new(), joining: Joining::new(), orders, changed, inner }, orders_rx)
    }

    /// The answer does not come where other documents are put before these were looked at.
    pub fn put(&self, documents: Documents) -> oneshot::Receiver<Vec<HeldBack>> {
        let (told, answer) = oneshot::channel();
        // Here and not when its turn comes: what is wrong from now on is told after it.
        lock(&self.inner).wrong = None;
        self.joining.put(self.clock.now(), naru_plan::groups(&documents.resources));
        // The thread that makes views ends with the process only.
        let _ = self.orders.send(Order::Put(Box::new(documents), told));
        answer
    }

    /// Has all made anew, of those who have joined groups by now.
    pub fn remake(&self) {
        let _ = self.orders.send(Order::Members);
    }

    /// Another one each time, and more than those before.
    pub fn number(&self) -> u64 {
        let mut inner = lock(&self.inner);
        inner.next_id += 1;
        inner.next_id
    }

    /// Says when some view is another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Has views made for this role, for as long as the answer is held. `None` where there are too many.
    pub fn follow(self: &Arc<Hub>, role: &Role) -> Option<Following> {
        let mut inner = lock(&self.inner);
        if inner.roles.len() >= ROLES_MAX && !inner.roles.contains_key(role) {
            return None;
        }
        let given = inner.roles.entry(role.clone()).or_default();
        given.followers += 1;
        if given.followers == 1 {
            let _ = self.orders.send(Order::Make(role.clone()));
        }
        Some(Following { hub: Arc::clone(self), role: role.clone() })
    }

    pub fn list(self: &Arc<Hub>, proxy: Arc<Proxy>) -> Listed {
        let id = self.number();
        lock(&self.inner).proxies.insert(id, proxy);
        Listed { hub: Arc::clone(self), id }
    }

    pub fn tell_gone(&self, gone: Gone) {
        let mut inner = lock(&self.inner);
        if inner.gone.len() == GONE_MAX {
            inner.gone.pop_front();
        }
        inner.gone.push_back(gone);
    }

    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        lock(&self.inner).proxies.values().cloned().collect()
    }

    pub fn gone(&self) -> Vec<Gone> {
        lock(&self.inner).gone.iter().cloned().collect()
    }

    pub fn given(&self, role: &Role) -> Given {
        lock(&self.inner).roles.get(role).cloned().unwrap_or_default()
    }

    pub fn roles(&self) -> usize {
        lock(&self.inner).roles.len()
    }

    /// Until something is put.
    pub fn is_wrong(&self, name: &str, why: &str) {
        let (name, why) = (name.to_owned(), why.to_owned());
        lock(&self.inner).wrong = Some(Wrong { name, why, at: self.clock.now() });
    }

    pub fn wrong(&self) -> Option<Wrong> {
        lock(&self.inner).wrong.clone()
    }

    pub fn held_back(&self) -> Vec<HeldBack> {
        let inner = lock(&self.inner);
        let held = inner.roles.iter().filter_map(|(role, given)| {
            let whom = format!("{}s of {} ({})", role.part.name(), role.namespace, role.dialect.name());
            Some(HeldBack { whom, why: given.refused.clone()? })
        });
        held.collect()
    }

    /// How often documents were put, and when last.
    pub fn puts(&self) -> (u64, Option<Instant>) {
        let inner = lock(&self.inner);
        (inner.puts, inner.put_at)
    }

    pub fn plans(&self) -> Plans {
        lock(&self.inner).plans
    }

    fn count(&self, count: impl FnOnce(&mut Plans)) {
        count(&mut lock(&self.inner).plans);
    }

    fn give(&self, role: &Role, made: Result<(Arc<View>, Arc<[Unsaid]>), String>) {
        let mut inner = lock(&self.inner);
        // Nobody may want it any more.
        let Some(given) = inner.roles.get_mut(role) else { return };
        match made {
            Ok((view, lost)) => {
                (given.view, given.lost, given.refused) = (Some(view), lost, None);
            }
            // What it had stays.
            Err(why) => given.refused = Some(why),
        }
    }
}

/// Somebody is given what there is for a role.
#[derive(Debug)]
pub struct Following {
    hub: Arc<Hub>,
    role: Role,
}

impl Following {
    pub fn given(&self) -> Given {
        self.hub.given(&self.role)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut inner = lock(&self.hub.inner);
        if let Some(given) = inner.roles.get_mut(&self.role) {
            given.followers -= 1;
            if given.followers == 0 {
                inner.roles.remove(&self.role);
            }
        }
    }
}

/// A stream is on the list.
#[derive(Debug)]
pub struct Listed {
    hub: Arc<Hub>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.hub.inner).proxies.remove(&self.id);
    }
}

/// Makes views, one after another.
#[derive(Debug)]
pub(crate) struct Maker {
    hub: Arc<Hub>,
    shelf: Shelf,
    known: Option<Known>,
    surroundings: Surroundings,
    identities: Option<Arc<Identities>>,
    /// What is in the views of roles.
    shown: BTreeMap<Role, MeshIdentity>,
    /// Of roles whose views are of the documents that are known, and can be changed in part: from how many virtual hosts
    /// their clusters are led to.
    led: BTreeMap<Role, Led>,
}

impl Maker {
    pub fn new(hub: Arc<Hub>) -> Maker {
        let (shelf, surroundings) = (Shelf::default(), Surroundings::default());
        let (shown, led) = Default::default();
        Maker { hub, shelf, known: None, surroundings, identities: None, shown, led }
    }

    /// Until nobody can order anything any more.
    pub fn run(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(first) = self.next(orders) {
            let (mut put, mut wanted, mut joins) = (None, Vec::new(), false);
            // What was put meanwhile counts, and not what was put before it.
            for order in std::iter::once(first).chain(orders.try_iter()) {
                match order {
                    Order::Put(documents, told) => put = Some((documents, told)),
                    Order::Make(role) => wanted.push(role),
                    Order::Members => joins = true,
                    Order::Renew => {
                        self.identities.iter().for_each(|identities| identities.forget_due());
                        wanted.extend(self.shows_old());
                    }
                }
            }
            let mut hears = None;
            if let Some((documents, told)) = put {
                hears = Some(told);
                let mut inner = lock(&self.hub.inner);
                inner.puts += 1;
                inner.put_at = Some(self.hub.clock.now());
                drop(inner);
                wanted = self.all();
                wanted = self.put(*documents, wanted);
            } else if joins && self.joined() {
                wanted = self.all();
            }
            for role in wanted {
                self.make(&role);
            }
            if let Some(hears) = hears {
                // Nobody has to hear.
                let _ = hears.send(self.hub.held_back());
            }
            self.shelf.sweep();
        }
    }

    /// What is ordered next, or that certificates are to be renewed.
    fn next(&self, orders: &mpsc::Receiver<Order>) -> Result<Order, mpsc::RecvError> {
        let Some(due) = self.identities.as_ref().and_then(|identities| identities.due_in()) else {
            return orders.recv();
        };
        match orders.recv_timeout(due.clamp(RENEWS_EVERY_MIN, RENEWS_EVERY_MAX)) {
            Ok(order) => Ok(order),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(Order::Renew),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }

    /// Roles that are to show another certificate.
    fn shows_old(&self) -> Vec<Role> {
        let Some(identities) = &self.identities else { return Vec::new() };
        let mut roles = self.all();
        roles.retain(|role| {
            let now = || identities.of(&role.namespace, &role.account).ok();
            !role.account.is_empty() && now().as_ref() != self.shown.get(role)
        });
        roles
    }

    fn all(&self) -> Vec<Role> {
        lock(&self.hub.inner).roles.keys().cloned().collect()
    }

    /// Takes documents in. Says of which roles the views are still to be made: all but those that were changed in part.
    fn put(&mut self, documents: Documents, roles: Vec<Role>) -> Vec<Role> {
        let Documents { resources, mut surroundings, identities } = documents;
        surroundings.members = self.hub.joining.called();
        let issue_the_same =
            self.identities.as_ref().map(Arc::as_ptr) == identities.as_ref().map(Arc::as_ptr);
        let is_around_the_same = issue_the_same && self.surroundings == surroundings;
        (self.surroundings, self.identities) = (surroundings, identities);
        let mut known = match self.known.take().filter(|_| is_around_the_same) {
            Some(known) => known,
            None => {
                self.known = Some(Known::new(resources));
                self.led.clear();
                return roles;
            }
        };
        let left = match known.follow(resources) {
            Some(mut change) => roles.into_iter().filter(|role| !self.change(role, &mut change)).collect(),
            None => roles,
        };
        // Views of roles that nobody has any more are of older documents.
        let inner = lock(&self.hub.inner);
        self.led.retain(|role, _| inner.roles.contains_key(role));
        self.shown.retain(|role, _| inner.roles.contains_key(role));
        drop(inner);
        for role in &left {
            self.led.remove(role);
        }
        self.known = Some(known);
        left
    }

    /// Whether others have joined groups than those that views were made with.
    fn joined(&mut self) -> bool {
        let members = self.hub.joining.called();
        let is_other = self.surroundings.members != members;
        self.surroundings.members = members;
        is_other
    }

    /// Changes the view of a role in part; says whether that is done.
    fn change(&mut self, role: &Role, change: &mut Change<'_>) -> bool {
        let given = self.hub.given(role);
        let (Some(view), Some(led), None) = (&given.view, self.led.get(role), &given.refused) else {
            return false;
        };
        let before = Before { view, lost: &given.lost, led };
        let around = around(&self.surroundings, self.identities.as_deref(), role);
        // Another certificate is no part of a change.
        let around = around.ok().filter(|around| around.identity.as_ref() == self.shown.get(role));
        let Some(patch) = around.and_then(|around| patch(change, &around, role, &before)) else {
            return false;
        };
        let reached = change.size().1;
        self.led.insert(role.clone(), patch.led);
        self.hub.count(|plans| (plans.parts, plans.reached) = (plans.parts + 1, reached));
        let is_same = patch.there.is_empty() && patch.gone.is_empty();
        let view = match is_same {
            true => Arc::clone(view),
            false => Arc::new(self.shelf.changed(view, Kind::VirtualHost, patch.there, patch.gone)),
        };
        self.hub.give(role, Ok((view, Arc::from(patch.lost))));
        self.hub.changed.send_modify(|number| *number += 1);
        true
    }

    fn make(&mut self, role: &Role) {
        let Some(known) = &mut self.known else { return };
        let before = self.hub.given(role);
        let around = around(&self.surroundings, self.identities.as_deref(), role);
        match around.as_ref().ok().and_then(|around| around.identity.clone()) {
            Some(identity) => self.shown.insert(role.clone(), identity),
            None => self.shown.remove(role),
        };
        let made = around.and_then(|around| known.with_all(|resources| make_of(resources, &around, role)));
        self.hub.count(|plans| plans.wholes += 1);
        self.led.remove(role);
        let made = made.map(|made| {
            if role.is_by_host {
                self.led.insert(role.clone(), made.led);
            }
            let view = self.shelf.view(made.resources, before.view.as_deref());
            let is_same = before.view.as_ref().is_some_and(|before| **before == view);
            let view = before.view.filter(|_| is_same).unwrap_or_else(|| Arc::new(view));
            (view, Arc::from(made.lost))
        });
        self.hub.give(role, made);
        self.hub.changed.send_modify(|number| *number += 1);
    }
}
