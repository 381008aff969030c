//! What is in force, and who is told when it changes.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use naru_base::{ClusterId, WallTime};
use naru_guard::Fitness;
use naru_recover::budget::RetryLoad;
use naru_spec::{Cluster, Discovery, LoadBalancing};
use tokio::sync::{mpsc, oneshot};

use crate::bulletin::{Bulletin, Held};
use crate::cluster::{Balanced, ClusterStatus, EndpointSet, EndpointStatus};
use crate::discover::{self, FIRST_ANSWERS_MAX, Follower, Following, New};
use crate::guarded::Guarded;
use crate::listen::{ListenerKey, Listening, Opened};
use crate::names::Names;
use crate::prepare::{Prepared, clusters_of};
use crate::proxy::StartError;
use crate::shared_limits::{NamedLimitStatus, SharedLimit};
use crate::socket;
use crate::worker::{Drain, Message, Update};

/// What all workers are told, and what is known of all of them.
#[derive(Debug)]
pub struct Board {
    was_ready: AtomicBool,
    state: Bulletin<State, mpsc::UnboundedSender<Message>>,
}

#[derive(Debug)]
struct State {
    current: Arc<Prepared>,
    since: WallTime,
    /// Those before it, of which some may still be in use.
    older: Vec<Weak<Prepared>>,
    /// By listener.
    listening: Vec<Listening>,
    /// By cluster.
    endpoints: Vec<Balanced>,
    /// By cluster; where DNS is followed.
    following: Vec<Option<Arc<Following>>>,
}

/// All that is ready to take effect.
#[derive(Debug)]
pub struct Next {
    pub prepared: Arc<Prepared>,
    pub listening: Vec<Listening>,
    /// By worker.
    pub sockets: Vec<Vec<(ListenerKey, socket::Listening)>>,
    /// By cluster.
    pub found: Vec<Found>,
    /// By cluster: what [`Board::balance`] made of what was found.
    pub balanced: Vec<Balanced>,
}

/// The endpoints of a cluster, and what will keep them up to date.
#[derive(Debug)]
pub enum Found {
    Static(EndpointSet),
    Followed(Arc<Following>, EndpointSet),
    New {
        follower: Arc<Follower>,
        set: EndpointSet,
        /// How the first question was answered, if it was.
        was_found: Option<bool>,
    },
}

impl Found {
    pub fn set(&self) -> EndpointSet {
        match self {
            Found::Static(set) | Found::Followed(_, set) | Found::New { set, .. } => Arc::clone(set),
        }
    }
}

impl Board {
    /// The first snapshot is in force from the beginning.
    pub fn new(
        workers: Vec<mpsc::UnboundedSender<Message>>,
        current: Arc<Prepared>,
        since: WallTime,
        listening: Vec<Listening>,
        found: Vec<Found>,
        endpoints: Vec<Balanced>,
    ) -> Arc<Board> {
        let state = State { current, since, older: Vec::new(), listening, endpoints, following: Vec::new() };
        let board =
            Arc::new(Board { was_ready: AtomicBool::new(false), state: Bulletin::new(workers, state) });
        // A follower that is quick waits here until it is known.
        let mut state = board.state();
        state.guard(board.workers());
        state.limit();
        state.following = board.follow(found);
        drop(state);
        board
    }

    fn state(&self) -> Held<'_, State, mpsc::UnboundedSender<Message>> {
        self.state.hold()
    }

    fn follow(self: &Arc<Self>, found: Vec<Found>) -> Vec<Option<Arc<Following>>> {
        let all = found.into_iter().map(|found| match found {
            Found::Static(_) => None,
            Found::Followed(following, _) => Some(following),
            Found::New { follower, was_found, .. } => {
                Some(Arc::new(Following::begin(self, follower, was_found)))
            }
        });
        all.collect()
    }

    pub fn workers(&self) -> &[mpsc::UnboundedSender<Message>] {
        self.state.ears()
    }

    /// The snapshot in force and its listeners, for whoever wants to change them.
    pub fn before_change(&self) -> Result<(Arc<Prepared>, Vec<Listening>), StartError> {
        let state = self.state.change().ok_or(StartError::Draining)?;
        Ok((Arc::clone(&state.current), state.listening.clone()))
    }

    /// Lets the workers take new sockets in hand. They do not accept from them yet.
    pub async fn register(
        &self,
        opened: Vec<Opened>,
    ) -> io::Result<Vec<Vec<(ListenerKey, socket::Listening)>>> {
        let mut by_worker: Vec<Vec<_>> = self.workers().iter().map(|_| Vec::new()).collect();
        for Opened { key, sockets } in opened {
            for (of_worker, sockets) in by_worker.iter_mut().zip(sockets) {
                of_worker.extend(sockets.into_iter().map(|socket| (key, socket)));
            }
        }
        let ended = || io::Error::other("a worker has ended");
        let mut answers = Vec::new();
        for (worker, sockets) in self.workers().iter().zip(by_worker) {
            let (ready_tx, ready_rx) = oneshot::channel();
            worker.send(Message::Listen(sockets, ready_tx)).map_err(|_| ended())?;
            answers.push(ready_rx);
        }
        let mut ready = Vec::new();
        for answer in answers {
            ready.push(answer.await.map_err(|_| ended())??);
        }
        Ok(ready)
    }

    /// Finds the endpoints of every cluster. What is known stays; names that are new are asked for.
    pub async fn discover(&self, prepared: &Prepared) -> Vec<Found> {
        let (mut found, new) = self.known(prepared);
        for (id, answer) in discover::first_answers(new).await {
            if let Some(Found::New { set, was_found, .. }) = found.get_mut(id.index()) {
                *was_found = Some(answer.is_some());
                *set = answer.unwrap_or_else(|| Arc::clone(set));
            }
        }
        found
    }

    /// Lets endpoints be probed that are not in force yet, so that they may be asked when requests come. Who does not
    /// answer in time is waited for by nobody.
    pub async fn warm(&self, prepared: &Prepared, older: &Prepared, found: &[Found]) {
        let guards = prepared.guards.iter().flatten();
        for ((id, guarded), found) in (0u32..).map(ClusterId).zip(&prepared.guards).zip(found) {
            let Some(guarded) = guarded else { continue };
            let is_known = older.guards.iter().flatten().any(|known| Arc::ptr_eq(known, guarded));
            if is_known {
                guarded.add_endpoints(&found.set(), prepared.probing(id));
            } else {
                prepared.tell_guard(id, guarded);
                guarded.prepare_endpoints(&found.set());
            }
        }
        let _ = tokio::time::timeout(FIRST_ANSWERS_MAX, async {
            for guarded in guards {
                guarded.first_verdicts().await;
            }
        })
        .await;
    }

    /// What balancers look into, built before it is in force, and only where it is another one.
    pub async fn balance(&self, prepared: &Prepared, found: &[Found]) -> Vec<Balanced> {
        let (current, endpoints) = {
            let state = self.state();
            (Arc::clone(&state.current), state.endpoints.clone())
        };
        let known = clusters_of(&current.snapshot);
        let mut balanced = Vec::with_capacity(found.len());
        for (cluster, found) in prepared.snapshot.clusters.iter().zip(found) {
            let before = known.get(cluster.name.as_str()).and_then(|id| {
                let settings = current.snapshot.cluster(*id).load_balancing.clone();
                Some((endpoints.get(id.index())?.clone(), settings))
            });
            balanced.push(Balanced::begin(before, cluster.load_balancing.clone(), found.set()).await);
        }
        balanced
    }

    /// What is found without asking; and who is to be asked for the rest.
    fn known(&self, prepared: &Prepared) -> (Vec<Found>, Vec<New>) {
        let state = self.state();
        let clusters = clusters_of(&state.current.snapshot);
        let mut new = Vec::new();
        let found = (0u32..).zip(&prepared.snapshot.clusters).map(|(id, cluster)| {
            let before = clusters.get(cluster.name.as_str()).copied();
            let known =
                before.and_then(|id| state.endpoints.get(id.index()).map(|known| Arc::clone(&known.set)));
            let known = known.unwrap_or_default();
            let Some(follower) = Follower::of(cluster) else {
                return Found::Static(discover::static_endpoints(cluster, &known));
            };
            if let Some(following) = before.and_then(|id| state.following.get(id.index())?.as_ref())
                && following.follower.is_for(cluster)
            {
                return Found::Followed(Arc::clone(following), known);
            }
            new.push(New { id: ClusterId(id), follower: Arc::clone(&follower), known: Arc::clone(&known) });
            // What was found for other names is no answer.
            let has_same_names =
                before.is_some_and(|id| state.current.snapshot.cluster(id).endpoints == cluster.endpoints);
            let set = if has_same_names { known } else { EndpointSet::default() };
            Found::New { follower, set, was_found: None }
        });
        let found = found.collect();
        (found, new)
    }

    /// All of it takes effect; a worker answers when it has taken it over.
    pub fn commit(
        self: &Arc<Self>,
        next: Next,
        names: &mut Names,
        now: WallTime,
    ) -> Result<Vec<oneshot::Receiver<()>>, StartError> {
        let Next { prepared, listening, sockets, found, balanced } = next;
        let mut state = self.state.change().ok_or(StartError::Draining)?;
        // A cluster that is followed may have had an answer meanwhile.
        let sets = found.iter().map(|found| match found {
            Found::Followed(following, _) => {
                state.followed(&following.follower).unwrap_or_else(|| found.set())
            }
            Found::Static(_) | Found::New { .. } => found.set(),
        });
        let built = sets.zip(&balanced).zip(&prepared.snapshot.clusters);
        let endpoints = built.map(|((set, built), cluster)| {
            let settings = &cluster.load_balancing;
            Balanced::after(Some((built, settings)), settings, set)
        });
        let endpoints = endpoints.collect();
        let older = std::mem::replace(&mut state.current, prepared);
        // Before the others are told: an endpoint may be guarded by somebody else now, or by nobody.
        let is_gone = |guarded: &&Arc<Guarded>| {
            !state.current.guards.iter().flatten().any(|current| Arc::ptr_eq(current, guarded))
        };
        older.guards.iter().flatten().filter(is_gone).for_each(|guarded| guarded.retire());
        state.older.push(Arc::downgrade(&older));
        state.older.retain(|older| older.strong_count() > 0);
        state.since = now;
        state.listening = listening;
        state.endpoints = endpoints;
        state.guard(self.workers());
        state.limit();
        state.following = self.follow(found);
        let in_use = state.older.iter().filter_map(Weak::upgrade);
        let used = in_use.flat_map(|older| older.names_used()).chain(state.current.names_used());
        let forgotten = names.forget_gone(&used.collect());
        let (mut answers, mut sockets) = (Vec::new(), sockets.into_iter());
        state.tell(|worker| {
            let (done_tx, done_rx) = oneshot::channel();
            let update = Update {
                prepared: Arc::clone(&state.current),
                endpoints: state.endpoints.clone(),
                listeners: state.listening.iter().map(|listening| listening.key).collect(),
                sockets: sockets.next().unwrap_or_default(),
                forgotten: forgotten.clone(),
                done_tx,
            };
            if worker.send(Message::Update(Box::new(update))).is_ok() {
                answers.push(done_rx);
            }
        });
        Ok(answers)
    }

    /// What a follower has found so far.
    pub fn followed(&self, follower: &Arc<Follower>) -> EndpointSet {
        self.state().followed(follower).unwrap_or_default()
    }

    /// Tells all workers, where anything changed, and the follower is still asked for.
    pub async fn set_followed(&self, follower: &Arc<Follower>, set: EndpointSet) {
        let Some((known, settings)) = self.before(follower) else { return };
        let is_same = known.set.len() == set.len();
        if is_same && known.set.iter().zip(set.iter()).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return;
        }
        let known = Some((known, settings.clone()));
        let built = Balanced::begin(known, settings.clone(), Arc::clone(&set)).await;
        // Meanwhile another configuration may have come into force.
        let state = self.state();
        let Some(id) = state.place_of(follower) else { return };
        put(state, id, &built, &settings, &set);
    }

    /// A cluster that is not followed, and is in force with the same settings, has these endpoints from now on. Nothing
    /// else changes, here or at any other cluster.
    pub async fn set_endpoints(&self, cluster: &Cluster) {
        let Some((known, settings)) =
            self.static_one(&cluster.name).map(|(_, known, settings)| (known, settings))
        else {
            return;
        };
        let set = discover::static_endpoints(cluster, &known.set);
        let built =
            Balanced::begin(Some((known, settings.clone())), settings.clone(), Arc::clone(&set)).await;
        let Some((id, ..)) = self.static_one(&cluster.name) else { return };
        put(self.state(), id, &built, &settings, &set);
    }

    fn static_one(&self, name: &str) -> Option<(ClusterId, Balanced, LoadBalancing)> {
        let state = self.state();
        let clusters = &state.current.snapshot.clusters;
        let at = clusters.iter().position(|known| known.name == name)?;
        let cluster = clusters.get(at).filter(|cluster| cluster.discovery == Discovery::Static)?;
        Some((ClusterId(at as u32), state.endpoints.get(at)?.clone(), cluster.load_balancing.clone()))
    }

    /// What a follower has found so far, and how it is balanced.
    fn before(&self, follower: &Arc<Follower>) -> Option<(Balanced, LoadBalancing)> {
        let state = self.state();
        let id = state.place_of(follower)?;
        let settings = state.current.snapshot.cluster(id).load_balancing.clone();
        Some((state.endpoints.get(id.index())?.clone(), settings))
    }

    pub fn current(&self) -> Arc<Prepared> {
        Arc::clone(&self.state().current)
    }

    pub fn since(&self) -> WallTime {
        self.state().since
    }

    /// By listener.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.state().listening.iter().map(|listening| listening.address).collect()
    }

    pub fn snapshots_in_use(&self) -> usize {
        1 + self.state().older.iter().filter(|older| older.strong_count() > 0).count()
    }

    /// Whether every cluster was looked up at least once, and every endpoint probed that is to be. A proxy that was
    /// ready stays so.
    pub fn is_ready(&self) -> bool {
        if self.was_ready.load(Ordering::Relaxed) {
            return true;
        }
        let state = self.state();
        let is_found = state.following.iter().flatten().all(|following| following.follower.was_answered());
        let is_ready = is_found && !state.current.guards.iter().flatten().any(|guarded| guarded.is_pending());
        drop(state);
        if is_ready {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        is_ready
    }

    pub fn clusters(&self) -> Vec<ClusterStatus> {
        let state = self.state();
        let now = state.current.origin.elapsed();
        let clusters = state.current.snapshot.clusters.iter().zip(&state.current.guards);
        let all = clusters.zip(&state.current.limits).zip(&state.current.retrying).zip(&state.endpoints);
        all.map(|((((cluster, guarded), limited), retrying), balanced)| {
            let all = balanced.set.iter().map(|endpoint| endpoint.status());
            let brought = limited.on_demand.in_use();
            let endpoints: Vec<EndpointStatus> =
                all.chain(brought.iter().map(|endpoint| endpoint.status())).collect();
            let active = endpoints.iter().map(|endpoint| endpoint.active).fold(0, u32::saturating_add);
            let retries = retrying.load(Ordering::Relaxed);
            let load = RetryLoad { active, retries, ..RetryLoad::default() };
            ClusterStatus {
                name: cluster.name.clone(),
                endpoints,
                guard: guarded.as_ref().map(|guarded| guarded.status()),
                limits: limited.status(now, &cluster.limits, load),
            }
        })
        .collect()
    }

    pub fn named_limits(&self) -> Vec<NamedLimitStatus> {
        let current = &self.state().current;
        let all = current.snapshot.limits.all.iter().zip(&current.named_limits);
        all.map(|(limit, shared)| shared.status(limit)).collect()
    }

    /// Requests that wait at limits.
    pub fn waiting(&self) -> u64 {
        let current = &self.state().current;
        let of_limits = current.named_limits.iter().map(SharedLimit::waiting);
        let of_clusters = current.limits.iter().map(|limited| limited.pending());
        of_limits.chain(of_clusters).sum()
    }

    pub fn drain(&self) {
        self.state.end(|worker| {
            // One that has ended has nothing to drain.
            let _ = worker.send(Message::Drain(Drain::default()));
        });
    }

    /// As [`Board::drain`], but what waits to be accepted from these sockets is another process's. A worker answers
    /// when it accepts no more.
    pub fn hand_over(&self, keys: &Arc<[ListenerKey]>) -> Vec<oneshot::Receiver<()>> {
        let mut answers = Vec::new();
        self.state.end(|worker| {
            let (done_tx, done_rx) = oneshot::channel();
            let drain = Drain { handed_over: Arc::clone(keys), done_tx: Some(done_tx) };
            if worker.send(Message::Drain(drain)).is_ok() {
                answers.push(done_rx);
            }
        });
        answers
    }

    pub fn stop(&self) {
        for worker in self.workers() {
            // One that has ended has nothing to stop.
            let _ = worker.send(Message::Stop);
        }
    }

    pub fn provoke(&self) {
        for worker in self.workers() {
            // One that has ended has no connections.
            let _ = worker.send(Message::Provoke);
        }
    }

    /// Where listeners listen.
    pub fn listening(&self) -> Vec<Listening> {
        self.state().listening.clone()
    }

    /// Nobody asks for names any more.
    pub fn stop_following(&self) {
        self.state().following.clear();
    }
}

/// Tells all workers what the endpoints of a cluster are now.
fn put(
    mut state: Held<'_, State, mpsc::UnboundedSender<Message>>,
    id: ClusterId,
    built: &Balanced,
    settings: &LoadBalancing,
    set: &EndpointSet,
) {
    let now = &state.current.snapshot.cluster(id).load_balancing;
    let balanced = Balanced::after(Some((built, settings)), now, Arc::clone(set));
    if let Some(known) = state.endpoints.get_mut(id.index()) {
        *known = balanced.clone();
    }
    if let Some(guarded) = state.current.guards.get(id.index()).and_then(Option::as_ref) {
        guarded.set_endpoints(set);
    }
    state.tell(|worker| {
        // A worker that has ended needs no endpoints.
        let _ = worker.send(Message::Endpoints(id, balanced.clone()));
    });
}

impl State {
    /// Whoever guards a cluster is told what it is now, and whom to tell.
    fn guard(&self, workers: &[mpsc::UnboundedSender<Message>]) {
        const FIT: u8 = Fitness::FIT.bits();
        let clusters = self.current.guards.iter().zip(&self.endpoints);
        for (id, (guarded, Balanced { set, .. })) in (0u32..).zip(clusters) {
            match guarded {
                Some(guarded) => {
                    guarded.tell_workers(workers);
                    self.current.tell_guard(ClusterId(id), guarded);
                    guarded.set_endpoints(set);
                }
                // Of one that was guarded before, nobody would let an endpoint return.
                None => set.iter().for_each(|endpoint| endpoint.counts.fitness.store(FIT, Ordering::Release)),
            }
        }
    }

    /// The settings of limits that were there before are these now.
    fn limit(&self) {
        let now = self.current.origin.elapsed();
        self.current.named_limits.iter().for_each(|limit| limit.set(now));
    }

    fn place_of(&self, follower: &Arc<Follower>) -> Option<ClusterId> {
        let is_it = |following: &Option<Arc<Following>>| {
            following.as_ref().is_some_and(|following| Arc::ptr_eq(&following.follower, follower))
        };
        self.following.iter().position(is_it).map(|at| ClusterId(at as u32))
    }

    fn followed(&self, follower: &Arc<Follower>) -> Option<EndpointSet> {
        self.endpoints.get(self.place_of(follower)?.index()).map(|known| Arc::clone(&known.set))
    }
}
