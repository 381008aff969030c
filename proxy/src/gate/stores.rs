//! Stores of counts, as a worker talks to them, and what becomes of questions when one gives no answer.
//!
//! | state      | what happens                          | next       | who asks meanwhile          |
//! |------------|---------------------------------------|------------|-----------------------------|
//! | Idle       | somebody asks                         | Connecting | waits for it                |
//! | Connecting | there is a connection, or none        | Up, Away   |                             |
//! | Up         | the connection is lost                | Away       | gets no answer              |
//! | Up         | so many in a row get none in time     | Away       | gets no answer              |
//! | Away       | somebody asks, and it was long enough | Trying     | gets no answer, and at once |
//! | Trying     | there is a connection, or none        | Up, Away   | gets no answer, and at once |
//!
//! So who asks a store that is away waits for nobody, and the store is found again by who asks. That a store gives no
//! answer, and that it does again, is said once for all workers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use naru_base::Instant;
use naru_journey::Snapshot;
use naru_journey::gate::quotas::{Asked, Told};
use naru_redis::{Counts, NoAnswer, Take};
use naru_spec::defaults::{STORE_AGAIN_AFTER, STORE_CONNECT_TIMEOUT, STORE_SILENT_MAX};
use naru_spec::{CountPlace, Store};
use tokio::sync::Notify;

use super::{CircleStatus, Circled};
use crate::clock::Origin;
use crate::surge::Surged;

/// What all workers know of a store.
#[derive(Debug, Default)]
pub struct SharedStore {
    asked: AtomicU64,
    unanswered: AtomicU64,
    /// Workers that do without it.
    without: AtomicU64,
    /// Where it is the proxies themselves.
    circled: Option<Arc<Circled>>,
}

/// How a store is seen from outside.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    pub name: String,
    pub asked_total: u64,
    pub unanswered_total: u64,
    /// No worker does without it; of proxies that share limits, this one has its share.
    pub is_up: bool,
    /// Of proxies that share limits.
    pub circle: Option<CircleStatus>,
}

impl SharedStore {
    /// Of proxies that share limits.
    pub fn of_circle(circled: Arc<Circled>) -> SharedStore {
        SharedStore { circled: Some(circled), ..SharedStore::default() }
    }

    pub fn circled(&self) -> Option<&Arc<Circled>> {
        self.circled.as_ref()
    }

    pub fn status(&self, name: &str) -> StoreStatus {
        let circle = self.circled.as_ref().map(|circled| circled.status());
        let is_up =
            circle.map_or_else(|| self.without.load(Ordering::Relaxed) == 0, |circle| circle.is_active);
        StoreStatus {
            name: name.to_owned(),
            asked_total: self.asked.load(Ordering::Relaxed),
            unanswered_total: self.unanswered.load(Ordering::Relaxed),
            is_up,
            circle,
        }
    }
}

/// A store, of one worker.
#[derive(Debug)]
pub struct StoreHere {
    store: Store,
    origin: Origin,
    shared: Arc<SharedStore>,
    state: RefCell<State>,
    silent: Cell<u32>,
    is_missed: Cell<bool>,
}

enum State {
    Idle,
    Connecting(Rc<Notify>),
    Up(Counts),
    Away { again: Instant },
    Trying,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Idle => "Idle",
            State::Connecting(_) => "Connecting",
            State::Up(_) => "Up",
            State::Away { .. } => "Away",
            State::Trying => "Trying",
        })
    }
}

/// What somebody who asks finds.
enum Look {
    Up(Counts),
    Soon(Rc<Notify>),
    Away,
}

/// A question that waits: dropped without an answer, it was in vain.
struct Pending<'a> {
    store: &'a StoreHere,
    is_answered: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.store.on_silence();
        }
    }
}

impl StoreHere {
    pub fn new(store: &Store, shared: &Arc<SharedStore>, origin: Origin) -> Rc<StoreHere> {
        Rc::new(StoreHere {
            store: store.clone(),
            origin,
            shared: Arc::clone(shared),
            state: RefCell::new(State::Idle),
            silent: Cell::new(0),
            is_missed: Cell::new(false),
        })
    }

    /// Whether it is the store of these settings.
    pub fn is_of(&self, store: &Store) -> bool {
        self.store == *store
    }

    /// Takes from counts that are kept there. `None` where nobody says anything.
    pub async fn spend(self: &Rc<Self>, snapshot: &Snapshot, surged: &Surged, asked: &Asked) -> Option<Told> {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(circled) = &self.shared.circled {
            let told = circled.spend(&snapshot.quotas, asked).await;
            if told.is_none() {
                self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
            }
            return told;
        }
        let takes: Vec<Take> = asked
            .claims
            .iter()
            .filter_map(|claim| {
                let quota = snapshot.quotas.get(claim.quota.index())?;
                let (group, limit) = quota.name.rsplit_once('/').unwrap_or(("", &quota.name));
                let algorithm = surged.algorithm(quota);
                Some(Take::new(group, limit, &claim.key, algorithm, claim.cost, claim.is_shadow))
            })
            .collect();
        let mut pending = Pending { store: self, is_answered: false };
        let counts = self.connection().await;
        let said = match counts {
            Some(mut counts) => counts.spend(&takes).await,
            None => {
                pending.is_answered = true;
                self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        pending.is_answered = true;
        match said {
            Ok((spent, rooms)) => {
                self.silent.set(0);
                self.found();
                Some(Told { spent, rooms })
            }
            Err(error) => {
                self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
                self.miss(&error.text);
                if error.is_lost {
                    self.go_away();
                }
                None
            }
        }
    }

    async fn connection(self: &Rc<Self>) -> Option<Counts> {
        loop {
            match self.look() {
                Look::Up(counts) => return Some(counts),
                Look::Away => return None,
                Look::Soon(notify) => notify.notified().await,
            }
        }
    }

    fn look(self: &Rc<Self>) -> Look {
        let mut state = self.state.borrow_mut();
        match &*state {
            State::Up(counts) => Look::Up(counts.clone()),
            State::Connecting(notify) => Look::Soon(Rc::clone(notify)),
            State::Idle => {
                let notify = Rc::new(Notify::new());
                *state = State::Connecting(Rc::clone(&notify));
                self.begin_to_connect();
                Look::Soon(notify)
            }
            State::Away { again } if self.origin.elapsed() >= *again => {
                *state = State::Trying;
                self.begin_to_connect();
                Look::Away
            }
            State::Away { .. } | State::Trying => Look::Away,
        }
    }

    /// A task of its own, so that it goes on whoever leaves.
    fn begin_to_connect(self: &Rc<Self>) {
        let store = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let failed = |text: &str| Err(NoAnswer { text: text.to_owned(), is_lost: true });
            let connected = match &store.store.place {
                CountPlace::Redis(redis) => {
                    let connected = Counts::connect(redis, STORE_CONNECT_TIMEOUT);
                    let connected = tokio::time::timeout(STORE_CONNECT_TIMEOUT, connected).await;
                    connected.unwrap_or_else(|_| failed("nobody answers in time"))
                }
                CountPlace::Leases(_) => failed("the proxies have it"),
            };
            let state = match connected {
                Ok(counts) => {
                    store.silent.set(0);
                    State::Up(counts)
                }
                Err(error) => {
                    store.miss(&error.text);
                    store.away()
                }
            };
            if let State::Connecting(notify) = store.state.replace(state) {
                notify.notify_waiters();
            }
        });
    }

    fn away(&self) -> State {
        State::Away { again: self.origin.elapsed() + STORE_AGAIN_AFTER }
    }

    fn go_away(&self) {
        if matches!(&*self.state.borrow(), State::Up(_)) {
            self.state.replace(self.away());
        }
    }

    /// Somebody waits no longer: for an answer that takes too long, or because he has left.
    fn on_silence(&self) {
        self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
        self.silent.set(self.silent.get() + 1);
        if self.silent.get() >= STORE_SILENT_MAX {
            self.miss("it takes too long");
            self.go_away();
        }
    }

    fn miss(&self, why: &str) {
        if !self.is_missed.replace(true) && self.shared.without.fetch_add(1, Ordering::Relaxed) == 0 {
            naru_say::say!(
                "naru: {} gives no answer ({why}): limits that are counted there do as they say for that",
                self.store.name
            );
        }
    }

    fn found(&self) {
        if self.is_missed.replace(false) && self.shared.without.fetch_sub(1, Ordering::Relaxed) == 1 {
            naru_say::say!("naru: {} answers again", self.store.name);
        }
    }
}

impl Drop for StoreHere {
    fn drop(&mut self) {
        if self.is_missed.get() {
            self.shared.without.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
