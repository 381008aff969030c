//! How a request comes to a connection: the counterpart of `proxy/src/dial.rs` and of the lines of
//! `proxy/src/limited.rs`.
//!
//! A request that finds no connection in the pool of its worker counts as one that needs one, and makes one where that
//! is allowed. Else it stands in line for the next that its worker is given back, the first come first. A line moves
//! by an event of the same moment, so that nothing happens within something else.

use naru_base::{AttemptId, Instant, Reason};
use naru_journey::{Failure, Sent, Stage};
use naru_spec::UpstreamProtocol;

use super::{Event, News, SharedDial, World};
use crate::passage::{Flight, Passage, Phase};
use crate::pool::{Bounds, Carrier, Http1, Pool, Taken};
use crate::upstream::{Dial, Place, Upstreams};

/// Connections that do not stand any more are looked for so often, as the proxy does.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// HTTP/2 is spoken where it is agreed on beforehand. By ALPN an upstream has no opinion here.
    pub(super) fn wants_http2(&self, passage: &Passage<T>, place: Place) -> bool {
        match self.settings(place.proxy, place.cluster).protocol {
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => passage.client_is_http2,
            UpstreamProtocol::Http1 | UpstreamProtocol::Alpn => false,
        }
    }

    pub(super) fn pool(&mut self, worker: usize, place: Place) -> (&mut Pool, Bounds) {
        let settings = self.settings(place.proxy, place.cluster);
        let bounds = Bounds {
            // A connection that may carry nothing would be dialed for ever.
            requests_max: settings.max_requests_per_connection.map(|max| max.max(1)),
            streams_max: settings.http2.max_concurrent_streams.max(1),
            age_max: settings.limits.connection_duration_max,
            idle_timeout: settings.idle_timeout,
            idle_close: self.upstreams.idle_close(place),
        };
        let worker = &mut self.proxies[place.proxy.index()].workers[worker];
        (&mut worker.pools[place.cluster.index()][place.endpoint.index()], bounds)
    }

    /// A connection that the pool has, where nobody has waited for one longer.
    #[inline]
    pub(super) fn take_from_pool(&mut self, worker: usize, place: Place, wants_http2: bool) -> Option<Taken> {
        self.take(worker, place, wants_http2, false)
    }

    #[inline]
    fn take(&mut self, worker: usize, place: Place, wants_http2: bool, is_first: bool) -> Option<Taken> {
        let now = self.now;
        let (pool, bounds) = self.pool(worker, place);
        if !is_first && pool.has_line() {
            return None;
        }
        let taken = if wants_http2 { pool.take_http2(now, &bounds) } else { pool.take_http1(now, &bounds) };
        let closed = pool.take_closed();
        self.count_closed(place, closed);
        self.connections_in_use += u64::from(taken.is_some() && !wants_http2);
        taken
    }

    /// There is no connection for it yet.
    pub(super) fn need_connection(&mut self, passage: &mut Passage<T>) {
        let Some(Flight { attempt, place, .. }) = passage.flight else { return };
        let here = &mut self.proxies[place.proxy.index()];
        let limits = &here.snapshot.cluster(place.cluster).limits;
        let Some(cluster) = here.fleet.cluster_mut(place.cluster) else { return };
        match cluster.limited.wait(limits) {
            Ok(()) => {
                if let Some(flight) = &mut passage.flight {
                    flight.is_pending = true;
                }
                self.find_connection(passage);
            }
            Err(reason) => self.fail(passage, attempt, not_connected(reason, true)),
        }
    }

    fn find_connection(&mut self, passage: &mut Passage<T>) {
        let Some(Flight { attempt, place, .. }) = passage.flight else { return };
        let wants_http2 = self.wants_http2(passage, place);
        let (worker, key) = (passage.worker, passage.key);
        let (pool, _) = self.pool(worker, place);
        let has_line = pool.has_line();
        // Those who stand in line came before.
        if wants_http2 && pool.is_dialling() && !has_line {
            pool.join_dial(key, attempt);
            return;
        }
        if has_line || !self.look(passage) {
            self.pool(worker, place).0.stand_in_line(key, attempt);
            if let Some(flight) = &mut passage.flight {
                flight.phase = Phase::InLine;
            }
        }
    }

    /// Takes a connection that is free, or makes one. `false` where there is neither.
    fn look(&mut self, passage: &mut Passage<T>) -> bool {
        let Some(Flight { attempt, place, is_fresh, .. }) = passage.flight else { return false };
        let (worker, key) = (passage.worker, passage.key);
        let wants_http2 = self.wants_http2(passage, place);
        if !is_fresh && let Some(taken) = self.take(worker, place, wants_http2, true) {
            if let Some(flight) = &mut passage.flight {
                flight.is_reused = true;
            }
            self.exchange(passage, taken);
            return true;
        }
        // Of those that wait, one that has served others must not be used: it makes room for another.
        while !self.may_connect(worker, place) {
            let (pool, _) = self.pool(worker, place);
            if !is_fresh || !pool.close_one() {
                return false;
            }
            let closed = pool.take_closed();
            self.count_closed(place, closed);
        }
        let Some(flight) = &mut passage.flight else { return false };
        flight.phase = Phase::Dialing;
        if !wants_http2 {
            flight.has_slot = true;
            let (at, result) = self.dial(place);
            self.push(at, passage, News::Dialed(attempt, result));
            return true;
        }
        match self.pool(worker, place).0.join_dial(key, attempt) {
            Some(serial) => {
                let (at, result) = self.dial(place);
                let Place { proxy, cluster, endpoint, .. } = place;
                let worker = worker as u32;
                let dial = SharedDial { proxy, worker, cluster, endpoint, serial, result };
                self.queue.push(at, Event::SharedDial(dial));
            }
            None => self.give_slot_back(worker, place),
        }
        true
    }

    /// Leave to make one more connection: it is counted from here on.
    fn may_connect(&mut self, worker: usize, place: Place) -> bool {
        if self.take_slot(worker, place) {
            return true;
        }
        let now = self.now;
        let here = &mut self.proxies[place.proxy.index()];
        let Some(cluster) = here.fleet.cluster_mut(place.cluster) else { return false };
        if now.since(cluster.limited.swept) < SWEEP_EVERY {
            return false;
        }
        cluster.limited.swept = now;
        self.sweep(place);
        self.take_slot(worker, place)
    }

    fn take_slot(&mut self, worker: usize, place: Place) -> bool {
        let here = &mut self.proxies[place.proxy.index()];
        let limits = &here.snapshot.cluster(place.cluster).limits;
        let pool = &mut here.workers[worker].pools[place.cluster.index()][place.endpoint.index()];
        let Some(cluster) = here.fleet.cluster_mut(place.cluster) else { return false };
        let Some(endpoint) = cluster.endpoints.get_mut(place.endpoint.index()) else { return false };
        let is_granted = cluster.limited.connect(limits, endpoint.connections, pool.connections == 0);
        endpoint.connections += u32::from(is_granted);
        pool.connections += u32::from(is_granted);
        is_granted
    }

    /// Lets go of all connections of a cluster that do not stand any more.
    fn sweep(&mut self, place: Place) {
        let now = self.now;
        let endpoints: Vec<Place> = {
            let fleet = self.fleet_of(place.proxy);
            let ids = (0..fleet.endpoints(place.cluster).len() as u32).map(naru_base::EndpointId);
            ids.filter_map(|endpoint| fleet.place(place.cluster, endpoint)).collect()
        };
        for worker in 0..self.workers(place.proxy) {
            for place in &endpoints {
                let (pool, bounds) = self.pool(worker, *place);
                pool.sweep(now, &bounds);
                let closed = pool.take_closed();
                self.count_closed(*place, closed);
            }
        }
    }

    /// So many connections of a pool do not stand any more; the pool knows it already.
    #[inline]
    pub(super) fn count_closed(&mut self, place: Place, closed: u32) {
        if closed > 0
            && let Some(cluster) = self.proxies[place.proxy.index()].fleet.cluster_mut(place.cluster)
            && let Some(endpoint) = cluster.endpoints.get_mut(place.endpoint.index())
        {
            match endpoint.connections.checked_sub(closed) {
                Some(left) => endpoint.connections = left,
                None => self.miscount = Some("the connections to an endpoint"),
            }
            cluster.limited.give_connections_back(closed);
        }
    }

    /// A connection is closed, or was not made: somebody else may make one.
    pub(super) fn give_slot_back(&mut self, worker: usize, place: Place) {
        let (pool, _) = self.pool(worker, place);
        match pool.connections.checked_sub(1) {
            Some(left) => pool.connections = left,
            None => self.miscount = Some("the connections of a worker"),
        }
        self.count_closed(place, 1);
        self.move_up(worker, place);
    }

    /// Something is there for the first of the line, perhaps: it will look.
    pub(super) fn move_up(&mut self, worker: usize, place: Place) {
        let pools = &self.proxies[place.proxy.index()].workers[worker].pools;
        let first = pools[place.cluster.index()][place.endpoint.index()].first_in_line();
        if let Some((key, attempt)) = first {
            self.queue.push(self.now, Event::Request(key, News::First(attempt)));
        }
    }

    pub(super) fn on_first(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        let Some(place) = in_phase(passage, attempt, Phase::InLine).map(|flight| flight.place) else {
            return;
        };
        let (worker, key) = (passage.worker, passage.key);
        let is_first = self.pool(worker, place).0.first_in_line() == Some((key, attempt));
        if is_first && self.look(passage) {
            self.leave_line(passage, place);
        }
    }

    pub(super) fn leave_line(&mut self, passage: &Passage<T>, place: Place) {
        if self.pool(passage.worker, place).0.leave_line(passage.key) {
            self.move_up(passage.worker, place);
        }
    }

    /// A connection could not be made: who waits hears of it, as in Envoy.
    fn fail_line(&mut self, worker: usize, place: Place, reason: Reason) {
        let line = self.pool(worker, place).0.empty_line();
        for (key, attempt) in line {
            self.queue.push(self.now, Event::Request(key, News::NotFirst(attempt, reason)));
        }
    }

    pub(super) fn on_not_first(&mut self, passage: &mut Passage<T>, attempt: AttemptId, reason: Reason) {
        if in_phase(passage, attempt, Phase::InLine).is_some() {
            self.fail(passage, attempt, not_connected(reason, true));
        }
    }

    /// How connecting will go, and when that is known.
    fn dial(&mut self, place: Place) -> (Instant, Result<(), Reason>) {
        let limit = self.settings(place.proxy, place.cluster).connect_timeout;
        let (after, result) = match self.upstreams.dial(self.now, place) {
            Dial::Accepted { after } => (after, Ok(())),
            Dial::Refused { after } => (after, Err(Reason::ConnectFailure)),
            Dial::TlsFailed { after } => (after, Err(Reason::UpstreamTls)),
            Dial::Silent => return (self.now + limit, Err(Reason::ConnectTimeout)),
        };
        if after > limit {
            (self.now + limit, Err(Reason::ConnectTimeout))
        } else {
            (self.now + after, result)
        }
    }

    pub(super) fn end_shared_dial(&mut self, dial: &SharedDial) {
        let SharedDial { proxy, worker, cluster, endpoint, serial, result } = *dial;
        let Some(place) = self.fleet_of(proxy).place(cluster, endpoint) else { return };
        self.count_dial(place, result);
        let (now, worker) = (self.now, worker as usize);
        let (pool, _) = self.pool(worker, place);
        let waiting = pool.end_dial(serial);
        if result.is_ok() {
            pool.add_http2(now);
        }
        for (key, attempt) in waiting {
            self.queue.push(now, Event::Request(key, News::Dialed(attempt, result)));
        }
        match result {
            Ok(()) => self.move_up(worker, place),
            Err(reason) => {
                self.give_slot_back(worker, place);
                self.fail_line(worker, place, reason);
            }
        }
    }

    fn count_dial(&mut self, place: Place, result: Result<(), Reason>) {
        let fleet = &mut self.proxies[place.proxy.index()].fleet;
        if let Some(here) = fleet.get_mut(place.cluster, place.endpoint) {
            match result {
                Ok(()) => here.connections_total += 1,
                Err(_) => here.connect_failures_total += 1,
            }
        }
    }

    pub(super) fn on_dialed(
        &mut self,
        passage: &mut Passage<T>,
        attempt: AttemptId,
        result: Result<(), Reason>,
    ) {
        let Some(flight) = in_phase(passage, attempt, Phase::Dialing) else { return };
        let (place, had_slot) = (flight.place, std::mem::take(&mut flight.has_slot));
        if had_slot {
            self.count_dial(place, result);
        }
        match result {
            Ok(()) if had_slot => {
                self.connections_in_use += 1;
                let taken = Taken { carrier: Carrier::Http1(Http1::new(self.now)), breaks_at: None };
                self.exchange(passage, taken);
            }
            Ok(()) => match self.take(passage.worker, place, true, true) {
                Some(taken) => self.exchange(passage, taken),
                // Others were faster, and filled it.
                None => self.find_connection(passage),
            },
            Err(reason) => {
                if had_slot {
                    self.give_slot_back(passage.worker, place);
                    self.fail_line(passage.worker, place, reason);
                }
                self.fail(passage, attempt, not_connected(reason, true));
            }
        }
    }

    /// It has its connection: it needs none any more, and may be sent where not too many are on their way.
    #[inline]
    pub(super) fn count_sent(&mut self, passage: &mut Passage<T>) -> Result<(), Reason> {
        let Some(flight) = &mut passage.flight else { return Ok(()) };
        let Place { proxy, cluster, .. } = flight.place;
        let was_pending = std::mem::take(&mut flight.is_pending);
        let here = &mut self.proxies[proxy.index()];
        let limits = &here.snapshot.cluster(cluster).limits;
        let is_limited = limits.normal.requests_max < u32::MAX;
        if (was_pending || is_limited)
            && let Some(counted) = here.fleet.cluster_mut(cluster)
        {
            if was_pending {
                counted.limited.give_wait_back();
            }
            if let Some(permit) = passage.permit.as_mut().filter(|_| is_limited) {
                permit.is_sent = counted.limited.send(limits)?;
            }
        }
        if let Some(counted) = here.fleet.cluster(cluster) {
            counted.recent.count(self.now, limits.normal.retries);
        }
        if let Some(copied) = &mut passage.copied {
            copied.shadow.on_connected(self.now, limits.stream_duration_max);
            return Ok(());
        }
        passage.journey.on_connected(self.now, flight.attempt);
        if let Some(max) = limits.stream_duration_max {
            passage.journey.limit_stream(self.now, max);
        }
        Ok(())
    }

    /// What an attempt holds on its way to a connection.
    pub(super) fn give_up_connection(&mut self, passage: &Passage<T>, flight: &Flight) {
        let place = flight.place;
        if flight.is_pending
            && let Some(cluster) = self.proxies[place.proxy.index()].fleet.cluster_mut(place.cluster)
        {
            cluster.limited.give_wait_back();
        }
        if flight.has_slot {
            self.give_slot_back(passage.worker, place);
        }
        if flight.phase == Phase::InLine {
            self.leave_line(passage, place);
        }
    }
}

/// It was not sent.
pub(super) fn not_connected(reason: Reason, is_replayable: bool) -> Failure {
    let stage = if reason == Reason::UpstreamTls { Stage::Secure } else { Stage::Connect };
    Failure { stage, reason, sent: Sent::No, is_reused: false, is_replayable }
}

pub(super) fn in_phase<T>(passage: &mut Passage<T>, attempt: AttemptId, phase: Phase) -> Option<&mut Flight> {
    passage.flight.as_mut().filter(|flight| flight.attempt == attempt && flight.phase == phase)
}
