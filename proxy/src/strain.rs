//! How short does the proxy itself run, and what is given up for it?
//!
//! One thread measures (`strain/watch.rs`, `strain/measure.rs`), `naru_admit::Pressures` says what that calls for, and
//! all workers are told by words that they read as they need them: a request looks at one, which is 0 for as long as all
//! is well. What is not done to one request or connection is done by a worker when it is told
//! ([`Worker::relieve`](crate::worker::Worker::relieve)).
//!
//! Deliberately not here: limits that hold whatever the pressure is.

mod measure;
mod watch;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use naru_admit::overload::{SATURATED, Strength, is_due, reduced};
use naru_base::Reason;
use naru_journey::arrival::Wish;
use naru_spec::Overload;
use naru_spec::overload::{Relief, Timer};

pub use measure::{Machine, fuzz};
pub use watch::Watch;

/// What all workers know of it.
#[derive(Debug, Default)]
pub struct Strain {
    /// A bit for each kind of relief that is called for.
    called: AtomicU32,
    strengths: [AtomicU32; Relief::COUNT],
    /// How often each was given up.
    given_up: [AtomicU64; Relief::COUNT],
    /// Of clients, at all listeners.
    connections: AtomicU64,
    /// As many as may be; 0 is no limit.
    connections_max: AtomicU64,
    measured: Mutex<Vec<ResourceStatus>>,
    /// Gives memory that a thread has freed back to the system.
    give_back: OnceLock<fn()>,
}

/// What was measured of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    pub name: String,
    /// In millionths of what there is.
    pub pressure: u32,
    /// How often it could not be measured.
    pub failed_updates: u64,
}

/// What is called for of one action, or load shed point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReliefStatus {
    pub name: &'static str,
    pub is_shed_point: bool,
    /// In millionths; all of them are saturation.
    pub strength: u32,
    /// Requests or connections that were given up for it.
    pub given_up: u64,
}

/// What is known of it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrainStatus {
    pub resources: Vec<ResourceStatus>,
    pub reliefs: Vec<ReliefStatus>,
    /// Connections of clients.
    pub connections: u64,
}

/// A connection of a client, counted for as long as it stands.
#[derive(Debug)]
pub struct Seat(std::sync::Arc<Strain>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Strain {
    /// Whether anything at all is given up. All that a request asks where nothing is.
    #[inline]
    pub fn is_called_for(&self) -> bool {
        self.called.load(Ordering::Relaxed) != 0
    }

    fn strength(&self, relief: &Relief) -> Strength {
        self.strengths.get(relief.index()).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    pub fn is_saturated(&self, relief: &Relief) -> bool {
        self.strength(relief) >= SATURATED
    }

    /// Whether it is done this time; what is done is counted.
    pub fn gives_up(&self, relief: &Relief, draw: u64) -> bool {
        let is_due = is_due(relief, self.strength(relief), draw);
        if is_due {
            self.count(relief);
        }
        is_due
    }

    fn count(&self, relief: &Relief) {
        if let Some(word) = self.given_up.get(relief.index()) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What becomes of a request that wishes so.
    #[cold]
    pub fn weigh(&self, wish: Wish, overload: Option<&Overload>, path: &str, draw: u64) -> Wish {
        let spared = overload.map_or(&[][..], |overload| &overload.spared);
        if matches!(wish, Wish::Refuse(_)) || spared.iter().any(|spared| spared == path) {
            return wish;
        }
        // One draw decides both, so that a request is not shed for two reasons at once.
        let is_shed =
            self.gives_up(&Relief::StopAcceptingRequests, draw) || self.gives_up(&Relief::ShedRequest, draw);
        if is_shed { Wish::Refuse(Reason::Overloaded) } else { wish }
    }

    /// Whether the connection of a request is to end with those that it carries.
    #[cold]
    pub fn ends_connection(&self, is_http2: bool, draw: u64) -> bool {
        // Not the bits that decide whether the request is shed.
        let draw = draw.rotate_left(32);
        self.gives_up(&Relief::DisableKeepalive, draw)
            || is_http2 && self.gives_up(&Relief::ShedByGoAway, draw)
    }

    /// Whether a connection that has come is closed at once.
    pub fn rejects(&self, draw: u64) -> bool {
        self.is_called_for()
            && (self.gives_up(&Relief::RejectConnections, draw)
                || self.gives_up(&Relief::ShedConnection, draw))
    }

    /// Counts a connection; not where there are as many as may be, and it is no exception.
    pub fn seat(self: &std::sync::Arc<Self>, is_exempt: bool) -> Option<Seat> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(std::sync::Arc::clone(self));
        let max = self.connections_max.load(Ordering::Relaxed);
        (is_exempt || max == 0 || before < max).then_some(seat)
    }

    /// What a timeout is now.
    pub fn reduced(&self, timer: Timer, usual: Duration, overload: Option<&Overload>) -> Duration {
        let any = Relief::ReduceTimeouts(Vec::new());
        let strength = self.strength(&any);
        if strength == 0 {
            return usual;
        }
        let actions = overload.into_iter().flat_map(|overload| &overload.actions);
        let mut timeouts = actions.filter_map(|action| match &action.relief {
            Relief::ReduceTimeouts(timeouts) => timeouts.iter().find(|scaled| scaled.timer == timer),
            _ => None,
        });
        timeouts.next().map_or(usual, |scaled| reduced(usual, scaled.least, strength))
    }

    pub fn give_back_by(&self, give_back: fn()) {
        // Whoever comes second says the same.
        let _ = self.give_back.set(give_back);
    }

    pub fn give_back(&self) {
        if let Some(give_back) = self.give_back.get() {
            give_back();
        }
    }

    fn publish(&self, relief: &Relief, strength: Strength) {
        let bit = 1 << relief.index();
        if let Some(word) = self.strengths.get(relief.index()) {
            word.store(strength, Ordering::Relaxed);
        }
        if strength == 0 {
            self.called.fetch_and(!bit, Ordering::Relaxed);
        } else {
            self.called.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn publish_nothing(&self) {
        self.called.store(0, Ordering::Relaxed);
        self.strengths.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    pub fn status(&self, overload: Option<&Overload>) -> StrainStatus {
        let actions = overload.into_iter().flat_map(|overload| &overload.actions);
        let reliefs = actions.map(|action| ReliefStatus {
            name: action.relief.name(),
            is_shed_point: action.relief.is_shed_point(),
            strength: self.strength(&action.relief),
            given_up: self.given_up.get(action.relief.index()).map_or(0, |word| word.load(Ordering::Relaxed)),
        });
        StrainStatus {
            resources: self.measured().clone(),
            reliefs: reliefs.collect(),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }

    // Nobody panics while holding it, and a list of numbers is whole at any time.
    fn measured(&self) -> std::sync::MutexGuard<'_, Vec<ResourceStatus>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
