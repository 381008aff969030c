//! An attempt: a connection, the exchange on it, the body of the response.

use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_journey::{AttemptEvent, Cause, Failure, Milestone, Sent, Stage, Wait};
use naru_spec::{Cluster, UpstreamProtocol};

use super::{Event, News, ProxyHere, SharedDial, World};
use crate::body::{Body, BodyEnd};
use crate::passage::{Flight, Passage, Phase, Upload};
use crate::pool::{Bounds, Carrier, Http1, Pool, Taken};
use crate::upstream::{Answer, Break, Caller, Dial, Place, ProxyId, Upstreams};

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// Sends the request to an endpoint: on a connection that waits, or on a new one.
    pub(super) fn send(
        &mut self,
        passage: &mut Passage<T>,
        attempt: AttemptId,
        cluster: ClusterId,
        endpoint: EndpointId,
        cause: Cause,
    ) {
        self.drop_flight(passage);
        self.hold(passage, cluster, endpoint);
        let Some(place) = self.fleet_of(passage.proxy).place(cluster, endpoint) else { return };
        let wants_http2 = self.wants_http2(passage, cluster);
        let waiting =
            if cause == Cause::Replay { None } else { self.take(passage.worker, place, wants_http2) };
        passage.flight = Some(Flight {
            attempt,
            place,
            is_reused: waiting.is_some(),
            phase: Phase::Dialing,
            carrier: None,
            answer: None,
            parts: 0,
        });
        match waiting {
            Some(taken) => self.exchange(passage, taken),
            None if wants_http2 => self.join_dial(passage, attempt, place),
            None => {
                let (at, result) = self.dial(place);
                self.push(at, passage, News::Dialed(attempt, result));
            }
        }
    }

    /// HTTP/2 is spoken where it is agreed on beforehand. By ALPN an upstream has no opinion here.
    fn wants_http2(&self, passage: &Passage<T>, cluster: ClusterId) -> bool {
        match self.settings(passage.proxy, cluster).protocol {
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => passage.client_is_http2,
            UpstreamProtocol::Http1 | UpstreamProtocol::Alpn => false,
        }
    }

    fn settings(&self, proxy: ProxyId, cluster: ClusterId) -> &Cluster {
        self.proxies[proxy.index()].snapshot.cluster(cluster)
    }

    fn pool(&mut self, worker: usize, place: Place) -> (&mut Pool, Bounds) {
        let settings = self.settings(place.proxy, place.cluster);
        let bounds = Bounds {
            // A connection that may carry nothing would be dialed for ever.
            requests_max: settings.max_requests_per_connection.map(|max| max.max(1)),
            streams_max: settings.http2.max_concurrent_streams.max(1),
            idle_timeout: settings.idle_timeout,
            idle_close: self.upstreams.idle_close(place),
        };
        let worker = &mut self.proxies[place.proxy.index()].workers[worker];
        (&mut worker.pools[place.cluster.index()][place.endpoint.index()], bounds)
    }

    fn take(&mut self, worker: usize, place: Place, wants_http2: bool) -> Option<Taken> {
        let now = self.now;
        let (pool, bounds) = self.pool(worker, place);
        if wants_http2 {
            return pool.take_http2(now, &bounds);
        }
        let taken = pool.take_http1(now, &bounds);
        self.connections_in_use += u64::from(taken.is_some());
        taken
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

    fn join_dial(&mut self, passage: &Passage<T>, attempt: AttemptId, place: Place) {
        let (worker, key) = (passage.worker, passage.key);
        let (pool, _) = self.pool(worker, place);
        if let Some(serial) = pool.join_dial(key, attempt) {
            let (at, result) = self.dial(place);
            let Place { proxy, cluster, endpoint, .. } = place;
            let worker = worker as u32;
            let dial = SharedDial { proxy, worker, cluster, endpoint, serial, result };
            self.queue.push(at, Event::SharedDial(dial));
        }
    }

    pub(super) fn end_shared_dial(&mut self, dial: &SharedDial) {
        let SharedDial { proxy, worker, cluster, endpoint, serial, result } = *dial;
        let Some(place) = self.fleet_of(proxy).place(cluster, endpoint) else { return };
        self.count_dial(place, result);
        let now = self.now;
        let (pool, _) = self.pool(worker as usize, place);
        if result.is_ok() {
            pool.add_http2(now);
        }
        for (key, attempt) in pool.end_dial(serial) {
            self.queue.push(now, Event::Request(key, News::Dialed(attempt, result)));
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
        let Some(place) = in_phase(passage, attempt, Phase::Dialing).map(|flight| flight.place) else {
            return;
        };
        let is_shared = self.wants_http2(passage, place.cluster);
        if !is_shared {
            self.count_dial(place, result);
        }
        match result {
            Ok(()) if is_shared => match self.take(passage.worker, place, true) {
                Some(taken) => self.exchange(passage, taken),
                // Others were faster, and filled it.
                None => self.join_dial(passage, attempt, place),
            },
            Ok(()) => {
                self.connections_in_use += 1;
                let taken = Taken { carrier: Carrier::Http1(Http1::new(self.now)), breaks_at: None };
                self.exchange(passage, taken);
            }
            Err(reason) => {
                let stage = if reason == Reason::UpstreamTls { Stage::Secure } else { Stage::Connect };
                let failure =
                    Failure { stage, reason, sent: Sent::No, is_reused: false, is_replayable: true };
                self.fail(passage, attempt, failure);
            }
        }
    }

    /// There is a connection: the request goes out.
    fn exchange(&mut self, passage: &mut Passage<T>, taken: Taken) {
        let Some(flight) = &mut passage.flight else { return };
        flight.phase = Phase::Exchanging;
        flight.carrier = Some(taken.carrier);
        if let Some(Carrier::Http1(connection)) = &mut flight.carrier {
            connection.requests += 1;
        }
        let (attempt, place) = (flight.attempt, flight.place);
        if let Some(at) = taken.breaks_at {
            // It was closed already and carries nothing any more.
            flight.answer = Some(Answer::Silent);
            self.push(at, passage, News::Broken(attempt, Reason::UpstreamClosed));
        } else if passage.upload.is_none() || self.upstreams.is_early(place) || is_whole(passage) {
            self.ask(passage);
        }
        self.read_upload(passage);
    }

    /// The request is there, as far as its upstream waits for it.
    pub(super) fn ask(&mut self, passage: &mut Passage<T>) {
        let Some(Flight { attempt, place, .. }) = passage.flight else { return };
        let timeout = passage.journey.deadline().filter(|(_, wait)| *wait == Wait::Response);
        let deadline = [passage.deadline, timeout.map(|(at, _)| at)].into_iter().flatten().min();
        let caller = Caller { key: passage.key, attempt, deadline, origin: passage.origin };
        let answer = self.upstreams.answer(self.now, place, caller);
        if let Some(flight) = &mut passage.flight {
            flight.answer = Some(answer);
        }
        self.expect_answer(passage, attempt, answer);
    }

    /// What was answered later.
    pub(super) fn on_answer(&mut self, passage: &mut Passage<T>, attempt: AttemptId, answer: Answer) {
        let Some(flight) = in_phase(passage, attempt, Phase::Exchanging) else { return };
        if !matches!(flight.answer, Some(Answer::Later(_))) {
            return;
        }
        flight.answer = Some(answer);
        match answer {
            Answer::Response { after, .. } if after.is_zero() => self.on_head(passage, attempt),
            _ => self.expect_answer(passage, attempt, answer),
        }
    }

    fn expect_answer(&mut self, passage: &Passage<T>, attempt: AttemptId, answer: Answer) {
        match answer {
            Answer::Response { after, .. } => self.push(self.now + after, passage, News::Head(attempt)),
            Answer::Broken { after, how } => {
                let is_http2 = passage
                    .flight
                    .as_ref()
                    .is_some_and(|flight| matches!(flight.carrier, Some(Carrier::Http2(_))));
                let reason = match how {
                    Break::Garbage => Reason::UpstreamProtocol,
                    Break::Reset if is_http2 => Reason::UpstreamReset,
                    Break::Reset | Break::Closed => Reason::UpstreamClosed,
                };
                self.push(self.now + after, passage, News::Broken(attempt, reason));
            }
            Answer::Silent | Answer::Later(_) => {}
        }
    }

    pub(super) fn on_head(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        let Some(flight) = in_phase(passage, attempt, Phase::Exchanging) else { return };
        let Some(Answer::Response { status, grpc_status, body, .. }) = flight.answer else { return };
        flight.phase = Phase::Receiving;
        let has_ended = body.is_empty();
        if let Some(status) = grpc_status.filter(|_| has_ended) {
            passage.journey.on_grpc_status(status);
        }
        let is_replayable = self.can_be_repeated(passage);
        self.tell_attempt(
            passage,
            attempt,
            AttemptEvent::Head { status, has_ended, headers: None, is_replayable },
        );
    }

    /// The head goes to the client; the body follows as it comes.
    pub(super) fn pass_on(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        if let Some(upload) = &mut passage.upload {
            upload.is_forgotten = true;
        }
        if passage.journey.has_ended() {
            return self.finish_flight(passage);
        }
        self.expect_part(passage, attempt);
    }

    fn expect_part(&mut self, passage: &Passage<T>, attempt: AttemptId) {
        let Some((body, parts)) = receiving(passage) else { return };
        if parts < body.parts {
            self.push(self.now + body.gap_before(parts + 1), passage, News::Part(attempt));
        } else if !matches!(body.end, BodyEnd::Plain | BodyEnd::Silent) {
            self.push(self.now + body.end_after, passage, News::BodyEnded(attempt));
        }
    }

    pub(super) fn on_part(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        let Some(flight) = in_phase(passage, attempt, Phase::Receiving) else { return };
        flight.parts += 1;
        let Some((body, parts)) = receiving(passage) else { return };
        passage.bytes_sent = body.bytes_upto(parts);
        if parts == body.parts && body.end == BodyEnd::Plain {
            passage.journey.on_response_body(self.now, Milestone::End);
            self.finish_flight(passage);
        } else {
            passage.journey.on_progress(self.now);
            self.expect_part(passage, attempt);
        }
    }

    pub(super) fn on_body_ended(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        if in_phase(passage, attempt, Phase::Receiving).is_none() {
            return;
        }
        let Some((body, _)) = receiving(passage) else { return };
        match body.end {
            BodyEnd::Plain | BodyEnd::Silent => {}
            BodyEnd::Trailers { grpc_status } => {
                passage.journey.on_response_body(self.now, Milestone::Trailers { grpc_status });
                self.finish_flight(passage);
            }
            BodyEnd::Broken => passage.journey.on_response_body(self.now, Milestone::Aborted),
        }
    }

    pub(super) fn on_broken(&mut self, passage: &mut Passage<T>, attempt: AttemptId, reason: Reason) {
        let Some(flight) = passage.flight.as_ref().filter(|flight| flight.attempt == attempt) else { return };
        match flight.phase {
            Phase::Dialing => {}
            Phase::Receiving => passage.journey.on_response_body(self.now, Milestone::Aborted),
            Phase::Exchanging => {
                let is_reused = flight.is_reused;
                let is_replayable = self.can_be_repeated(passage);
                let failure =
                    Failure { stage: Stage::Exchange, reason, sent: Sent::Maybe, is_reused, is_replayable };
                self.fail(passage, attempt, failure);
            }
        }
    }

    /// Whether all of the request is still there. A copy of the head is kept only where it could be used.
    fn can_be_repeated(&self, passage: &Passage<T>) -> bool {
        let is_reused = passage.flight.as_ref().is_some_and(|flight| flight.is_reused);
        let has_head = is_reused && passage.is_idempotent || passage.journey.may_retry();
        has_head && passage.upload.as_ref().is_none_or(Upload::is_replayable)
    }

    pub(super) fn hear_due(&mut self, passage: &mut Passage<T>) {
        let is_replayable = passage.upload.as_ref().is_none_or(Upload::is_replayable);
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        passage.journey.on_due(self.now, here.snapshot, is_replayable, core, &here.fleet, &mut ());
        self.report(passage);
    }

    /// Who picked the endpoint learns what became of an attempt.
    pub(super) fn report(&mut self, passage: &mut Passage<T>) {
        if let Some(report) = passage.journey.take_report() {
            let here = &mut self.proxies[passage.proxy.index()];
            here.workers[passage.worker].core.on_report(self.now, &report);
        }
    }

    fn fail(&mut self, passage: &mut Passage<T>, attempt: AttemptId, failure: Failure) {
        self.drop_flight(passage);
        self.tell_attempt(passage, attempt, AttemptEvent::Failed(failure));
    }

    fn tell_attempt(&mut self, passage: &mut Passage<T>, attempt: AttemptId, event: AttemptEvent<'_>) {
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        passage.journey.on_attempt(self.now, here.snapshot, attempt, event, core, &here.fleet);
        self.report(passage);
        if matches!(event, AttemptEvent::Failed(_)) {
            self.rest(passage);
        }
    }

    /// The response was read to its end: its connection may serve another request.
    fn finish_flight(&mut self, passage: &mut Passage<T>) {
        let is_http1 = matches!(passage.flight, Some(Flight { carrier: Some(Carrier::Http1(_)), .. }));
        // A request that is still being sent would run into the next one.
        if is_http1
            && passage.journey.has_whole_request()
            && let Some(Flight { place, carrier: Some(Carrier::Http1(connection)), .. }) =
                passage.flight.take()
        {
            let now = self.now;
            let (pool, bounds) = self.pool(passage.worker, place);
            pool.put_http1(connection, now, &bounds);
            self.leave_connection();
        }
        self.drop_flight(passage);
    }

    /// The attempt is over. An HTTP/1 connection that it was on is closed.
    pub(super) fn drop_flight(&mut self, passage: &mut Passage<T>) {
        let Some(Flight { place, carrier, answer, .. }) = passage.flight.take() else { return };
        if let Some(Answer::Later(ticket)) = answer {
            self.upstreams.on_abandoned(self.now, ticket);
        }
        match carrier {
            None => {}
            Some(Carrier::Http1(_)) => self.leave_connection(),
            Some(Carrier::Http2(serial)) => {
                let now = self.now;
                let (pool, bounds) = self.pool(passage.worker, place);
                if !pool.put_http2(serial, now, &bounds) {
                    self.miscount = Some("the requests of a connection");
                }
            }
        }
    }

    fn leave_connection(&mut self) {
        match self.connections_in_use.checked_sub(1) {
            Some(left) => self.connections_in_use = left,
            None => self.miscount = Some("the connections that carry requests"),
        }
    }

    /// Everything that stood to an address breaks now: the connections that wait, and those in use.
    pub fn reset_connections(&mut self, address: std::net::SocketAddr) {
        let now = self.now;
        for ProxyHere { fleet, workers, .. } in &mut self.proxies {
            for (cluster, endpoints) in fleet.clusters() {
                for (at, _) in endpoints.iter().enumerate().filter(|(_, here)| here.address == address) {
                    for worker in workers.iter_mut() {
                        worker.pools[cluster.index()][at].close_all(now);
                    }
                }
            }
        }
        for passage in self.passages.iter() {
            if let Some(flight) = passage.flight.as_ref().filter(|flight| flight.place.address == address) {
                let news = News::Broken(flight.attempt, Reason::UpstreamClosed);
                self.queue.push(now, Event::Request(passage.key, news));
            }
        }
    }
}

fn in_phase<T>(passage: &mut Passage<T>, attempt: AttemptId, phase: Phase) -> Option<&mut Flight> {
    passage.flight.as_mut().filter(|flight| flight.attempt == attempt && flight.phase == phase)
}

/// The body that is being received, and how many of its parts have come.
fn receiving<T>(passage: &Passage<T>) -> Option<(Body, u32)> {
    match passage.flight.as_ref()? {
        Flight { phase: Phase::Receiving, answer: Some(Answer::Response { body, .. }), parts, .. } => {
            Some((*body, *parts))
        }
        _ => None,
    }
}

/// Whether the whole request had been read before this attempt.
fn is_whole<T>(passage: &Passage<T>) -> bool {
    passage.journey.has_whole_request()
}
