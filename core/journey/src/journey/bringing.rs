//! Requests that bring the address of their endpoint with them: see [`crate::brought`].
//!
//! An address is made an endpoint by whoever owns the cluster ([`View::endpoint_at`]), and each attempt asks for it
//! anew. A name is looked up by the shell ([`Action::Locate`]) while the request waits without an attempt; what it is
//! told then is the address for all attempts.

use std::net::SocketAddr;

use naru_base::{ClusterId, EndpointId, Instant, Reason};
use naru_route::{CompiledForward, Subject};
use naru_spec::{Discovery, OnDemand};

use super::{Journey, State};
use crate::brought::{Brought, is_own};
use crate::worker::Chosen;
use crate::{Action, Observer, Snapshot, View, Worker};

/// Why there is no endpoint.
enum Nowhere {
    /// It is to be looked up first.
    Yet,
    For(Reason),
}

impl Journey {
    /// What the request says of where it goes, and where it may go instead.
    #[inline(never)]
    pub(super) fn look_around(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        forward: &CompiledForward,
        subject: &Subject<'_>,
        worker: &mut Worker,
    ) {
        if let Discovery::OnDemand(settings) = &snapshot.cluster(cluster).discovery {
            self.bring(settings, subject);
        }
        self.find_instead(snapshot, subject);
        if let Some(chosen) = worker.choose(snapshot, cluster, &forward.hash, subject) {
            self.chosen = chosen;
        }
    }

    #[cold]
    pub(super) fn bring(&mut self, settings: &OnDemand, subject: &Subject<'_>) {
        self.policed().brought = Some(Brought::of(settings, subject));
    }

    fn brought(&self) -> Option<&Brought> {
        self.policed.as_ref()?.brought.as_ref()
    }

    #[inline]
    pub(super) fn brings_address(&self) -> bool {
        self.policed.is_some() && self.brought().is_some()
    }

    /// To whom its cluster leads by itself.
    pub(super) fn bring_nothing(&mut self) {
        if let Some(policed) = &mut self.policed {
            policed.brought = None;
        }
    }

    /// An endpoint for the next attempt.
    #[inline]
    pub(super) fn pick(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        chosen: &Chosen,
        worker: &mut Worker,
        view: &impl View,
    ) -> Option<EndpointId> {
        match self.brings_address() {
            true => self.endpoint_brought(snapshot, cluster, view).ok(),
            false => worker.pick(now, snapshot, cluster, chosen, view),
        }
    }

    #[cold]
    fn endpoint_brought(
        &self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        view: &impl View,
    ) -> Result<EndpointId, Nowhere> {
        match self.brought() {
            Some(Brought::Address(address)) if is_own(*address, &snapshot.listeners) => {
                Err(Nowhere::For(Reason::NoRoute))
            }
            Some(Brought::Address(address)) => {
                view.endpoint_at(cluster, *address).ok_or(Nowhere::For(Reason::Overflow))
            }
            Some(Brought::Name { .. }) => Err(Nowhere::Yet),
            Some(Brought::Nothing) | None => Err(Nowhere::For(Reason::NoHealthyUpstream)),
        }
    }

    /// To the endpoint that it brought, once that is known.
    #[cold]
    pub(super) fn dispatch_brought(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        match self.endpoint_brought(snapshot, cluster, view) {
            Ok(endpoint) => self.dispatch_to(now, snapshot, cluster, Some(endpoint), worker, view, observer),
            Err(Nowhere::Yet) => self.actions.push(Action::Locate { cluster }),
            Err(Nowhere::For(Reason::NoRoute)) => self.answer(Reason::NoRoute),
            Err(Nowhere::For(reason)) => self.answer_failed(now, snapshot, reason, true, worker, view),
        }
    }

    /// What is to be looked up: see [`Action::Locate`].
    pub fn sought(&self) -> Option<(&str, u16)> {
        match self.brought()? {
            Brought::Name { host, port } => Some((host, *port)),
            Brought::Address(_) | Brought::Nothing => None,
        }
    }

    /// After [`Action::Locate`]: the address that was found, if any was.
    #[cold]
    pub fn on_located(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        found: Option<SocketAddr>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let is_waiting = self.state == State::Trying && self.attempt.is_none() && self.sought().is_some();
        let Some(cluster) = self.cluster.filter(|_| is_waiting) else { return };
        self.clock.progress = now;
        let Some(address) = found else {
            return self.answer_failed(now, snapshot, Reason::NameNotFound, true, worker, view);
        };
        self.policed().brought = Some(Brought::Address(address));
        self.dispatch_brought(now, snapshot, cluster, worker, view, observer);
    }
}
