//! An attempt: a connection, the exchange on it, the body of the response.

use http::HeaderMap;
use naru_base::{AttemptId, ClusterId, EndpointId, Reason};
use naru_journey::{AttemptEvent, Cause, Failure, Milestone, Sent, Stage, Wait};
use naru_recover::{Done, layer};
use naru_spec::Cluster;

use super::connection::{in_phase, not_connected};
use super::{Event, News, ProxyHere, World};
use crate::body::{Body, BodyEnd};
use crate::passage::{Flight, Passage, Phase, Upload};
use crate::pool::{Carrier, Taken};
use crate::upstream::{Answer, Break, Caller, Place, ProxyId, Upstreams};
use crate::wall::wall;

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
        let goes_on = |id: AttemptId| passage.journey.beside().any(|(other, _)| other == id);
        if passage.flight.as_ref().is_some_and(|flight| goes_on(flight.attempt)) {
            self.set_beside(passage);
        } else {
            self.drop_flight(passage);
        }
        if cause == Cause::Fallback {
            self.drop_beside(passage);
        }
        self.hold(passage, cluster, endpoint);
        let Some(place) = self.fleet_of(passage.proxy).place(cluster, endpoint) else { return };
        self.fly(passage, attempt, place, cause == Cause::Replay);
    }

    pub(super) fn fly(&mut self, passage: &mut Passage<T>, attempt: AttemptId, place: Place, is_fresh: bool) {
        let wants_http2 = self.wants_http2(passage, place);
        let waiting = if is_fresh { None } else { self.take_from_pool(passage.worker, place, wants_http2) };
        passage.flight = Some(Flight {
            attempt,
            place,
            is_fresh,
            is_reused: waiting.is_some(),
            phase: Phase::Dialing,
            is_pending: false,
            has_slot: false,
            carrier: None,
            answer: None,
            says_exhausted: false,
            said: None,
            parts: 0,
        });
        match waiting {
            Some(taken) => self.exchange(passage, taken),
            None => self.need_connection(passage),
        }
    }

    #[inline]
    pub(super) fn settings(&self, proxy: ProxyId, cluster: ClusterId) -> &Cluster {
        self.proxies[proxy.index()].snapshot.cluster(cluster)
    }

    /// There is a connection: the request goes out, unless too many are on their way.
    pub(super) fn exchange(&mut self, passage: &mut Passage<T>, taken: Taken) {
        let sent = self.count_sent(passage);
        let Some(flight) = &mut passage.flight else { return };
        flight.phase = Phase::Exchanging;
        if let Err(reason) = sent {
            let (attempt, place) = (flight.attempt, flight.place);
            self.give_back(passage.worker, place, taken.carrier);
            return self.fail(passage, attempt, not_connected(reason, false));
        }
        flight.carrier = Some(taken.carrier);
        if let Some(Carrier::Http1(connection)) = &mut flight.carrier {
            connection.requests += 1;
        }
        let (attempt, place) = (flight.attempt, flight.place);
        if let Some(at) = taken.breaks_at {
            // It was closed already and carries nothing any more.
            flight.answer = Some(Answer::Silent);
            self.push(at, passage, News::Broken(attempt, Reason::UpstreamClosed));
        } else if passage.upload.is_none() || self.upstreams.is_early(place) || passage.has_whole_request() {
            self.ask(passage);
        }
        self.read_upload(passage);
    }

    /// The request is there, as far as its upstream waits for it.
    pub(super) fn ask(&mut self, passage: &mut Passage<T>) {
        let Some(Flight { attempt, place, .. }) = passage.flight else { return };
        let timeout = passage.journey.deadline().filter(|(_, wait)| *wait == Wait::Response);
        let deadline = [passage.deadline, timeout.map(|(at, _)| at)].into_iter().flatten().min();
        let is_repeat = passage.is_repeat || passage.journey.retries() > 0;
        let known = Self::note_sent(passage, self.now);
        let Passage { key, origin, trace, .. } = *passage;
        let caller = Caller { key, attempt, deadline, origin, is_repeat, trace, known };
        let answer = self.upstreams.answer(self.now, place, caller);
        if let Some(flight) = &mut passage.flight {
            flight.answer = Some(answer);
        }
        self.expect_answer(passage, attempt, answer);
    }

    /// What was answered later.
    pub(super) fn on_answer(
        &mut self,
        passage: &mut Passage<T>,
        attempt: AttemptId,
        answer: Answer,
        says_exhausted: bool,
    ) {
        let Some(flight) = in_phase(passage, attempt, Phase::Exchanging) else { return };
        if !matches!(flight.answer, Some(Answer::Later(_))) {
            return;
        }
        flight.answer = Some(answer);
        flight.says_exhausted = says_exhausted;
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
        let mut headers = flight.says_exhausted.then(exhausted);
        if self.says_anything
            && let Some(said) = self.upstreams.head(self.now, flight.place, status)
        {
            headers.get_or_insert_default().extend(said.clone());
            self.proxies[flight.place.proxy.index()].fleet.wall.set(wall(self.now));
            flight.said = Some(Box::new(said));
        }
        if passage.copied.is_some() {
            self.on_copy_head(passage, status, grpc_status, has_ended);
            return self.expect_part(passage, attempt);
        }
        if let Some(cached) = &mut passage.cached
            && status == 304
            && cached.stale.is_some()
        {
            cached.news = Some(headers.clone().unwrap_or_default());
        }
        if let Some(status) = grpc_status.filter(|_| has_ended) {
            passage.journey.on_grpc_status(status);
        }
        let is_replayable = self.can_be_repeated(passage);
        let headers = headers.as_ref();
        self.tell_attempt(passage, attempt, AttemptEvent::Head { status, has_ended, headers, is_replayable });
    }

    /// The head goes to the client; the body follows as it comes.
    pub(super) fn pass_on(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        if let Some(upload) = &mut passage.upload {
            upload.is_forgotten = true;
        }
        self.tell_client(passage);
        let has_ended = passage.journey.has_ended();
        if passage.cached.is_some()
            && let Some(Answer::Response { status, body, .. }) =
                passage.flight.as_ref().and_then(|flight| flight.answer)
        {
            self.keep_head(passage, status, body.bytes);
            if has_ended {
                self.keep(passage);
            }
        }
        if has_ended {
            return self.finish_flight(passage);
        }
        self.expect_part(passage, attempt);
    }

    /// Whether the client is told that its request was retried already.
    #[inline]
    fn tell_client(&mut self, passage: &mut Passage<T>) {
        let is_heard = passage.flight.as_ref().is_some_and(|flight| flight.says_exhausted);
        if is_heard || passage.journey.done().is_some_and(Done::is_told) {
            let mut headers = if is_heard { exhausted() } else { HeaderMap::new() };
            passage.journey.tell_caller(&mut headers);
            passage.says_exhausted = layer::is_exhausted(&headers);
        }
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
        if passage.copied.is_some() {
            if !self.on_copy_part(passage, &body, parts) {
                self.expect_part(passage, attempt);
            }
            return;
        }
        if parts == body.parts && body.end == BodyEnd::Plain {
            passage.journey.on_response_body(self.now, Milestone::End);
            if passage.cached.is_some() {
                self.keep(passage);
            }
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
            BodyEnd::Trailers { grpc_status } if passage.copied.is_some() => {
                self.on_copy_trailers(passage, grpc_status);
            }
            BodyEnd::Broken if passage.copied.is_some() => self.break_copy(passage),
            BodyEnd::Trailers { grpc_status } => {
                passage.journey.on_response_body(self.now, Milestone::Trailers { grpc_status });
                if passage.cached.is_some() {
                    self.keep(passage);
                }
                self.finish_flight(passage);
            }
            BodyEnd::Broken => passage.journey.on_response_body(self.now, Milestone::Aborted),
        }
    }

    pub(super) fn on_broken(&mut self, passage: &mut Passage<T>, attempt: AttemptId, reason: Reason) {
        let Some(flight) = passage.flight.as_ref().filter(|flight| flight.attempt == attempt) else { return };
        match flight.phase {
            Phase::InLine | Phase::Dialing => {}
            Phase::Receiving if passage.copied.is_some() => self.break_copy(passage),
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
        let view = here.fleet.seen_by(passage.worker);
        passage.journey.on_due(self.now, here.snapshot, is_replayable, core, &view, &mut ());
        self.report(passage);
        self.count_retry(passage);
    }

    pub(super) fn fail(&mut self, passage: &mut Passage<T>, attempt: AttemptId, failure: Failure) {
        if passage.copied.is_some() {
            return self.fail_copy(passage, &failure);
        }
        self.drop_flight(passage);
        self.tell_attempt(passage, attempt, AttemptEvent::Failed(failure));
    }

    fn tell_attempt(&mut self, passage: &mut Passage<T>, attempt: AttemptId, event: AttemptEvent<'_>) {
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        let view = here.fleet.seen_by(passage.worker);
        passage.journey.on_attempt(self.now, here.snapshot, attempt, event, core, &view);
        self.report(passage);
        if passage.is_retrying || passage.journey.is_retrying() {
            self.count_retry(passage);
        }
        if matches!(event, AttemptEvent::Failed(_)) {
            self.rest(passage);
        }
    }

    /// Whether a retry of the request is under way is known for all of its cluster.
    pub(super) fn count_retry(&mut self, passage: &mut Passage<T>) {
        let is_retrying = passage.journey.is_retrying();
        if is_retrying != passage.is_retrying
            && let Some(permit) = passage.permit
            && let Some(cluster) = self.proxies[passage.proxy.index()].fleet.cluster_mut(permit.cluster)
        {
            if is_retrying {
                cluster.retrying += 1;
            } else {
                match cluster.retrying.checked_sub(1) {
                    Some(left) => cluster.retrying = left,
                    None => self.miscount = Some("the retries of a cluster"),
                }
            }
            passage.is_retrying = is_retrying;
        }
    }

    /// The response is not passed on. Its connection stays where nothing is to be read any more.
    pub(super) fn leave_response(&mut self, passage: &mut Passage<T>) {
        match receiving(passage) {
            Some((body, _)) if body.is_empty() => self.finish_flight(passage),
            _ => self.drop_flight(passage),
        }
        self.rest(passage);
    }

    /// The response was read to its end: its connection may serve another request.
    pub(super) fn finish_flight(&mut self, passage: &mut Passage<T>) {
        let is_http1 = matches!(passage.flight, Some(Flight { carrier: Some(Carrier::Http1(_)), .. }));
        // A request that is still being sent would run into the next one.
        if is_http1
            && passage.has_whole_request()
            && let Some(Flight { place, carrier: Some(Carrier::Http1(connection)), .. }) =
                passage.flight.take()
        {
            let now = self.now;
            let (pool, bounds) = self.pool(passage.worker, place);
            let (is_kept, has_line) = (pool.put_http1(connection, now, &bounds), pool.has_line());
            if !is_kept {
                self.give_slot_back(passage.worker, place);
            } else if has_line {
                self.move_up(passage.worker, place);
            }
            self.leave_connection();
        }
        self.drop_flight(passage);
    }

    /// The attempt is over. An HTTP/1 connection that it was on is closed.
    pub(super) fn drop_flight(&mut self, passage: &mut Passage<T>) {
        let Some(flight) = passage.flight.take() else { return };
        if let Some(Answer::Later(ticket)) = flight.answer {
            self.upstreams.on_abandoned(self.now, ticket);
        }
        match flight.carrier {
            None => self.give_up_connection(passage, &flight),
            Some(Carrier::Http1(_)) => {
                self.give_slot_back(passage.worker, flight.place);
                self.leave_connection();
            }
            Some(Carrier::Http2(serial)) => self.leave_stream(passage.worker, flight.place, serial),
        }
    }

    /// The connection is for the next one.
    fn give_back(&mut self, worker: usize, place: Place, carrier: Carrier) {
        match carrier {
            Carrier::Http1(connection) => {
                self.pool(worker, place).0.put_back(connection);
                self.leave_connection();
                self.move_up(worker, place);
            }
            Carrier::Http2(serial) => self.leave_stream(worker, place, serial),
        }
    }

    fn leave_stream(&mut self, worker: usize, place: Place, serial: u32) {
        let now = self.now;
        let (pool, bounds) = self.pool(worker, place);
        let is_counted = pool.put_http2(serial, now, &bounds);
        let closed = pool.take_closed();
        if !is_counted {
            self.miscount = Some("the requests of a connection");
        }
        self.count_closed(place, closed);
        self.move_up(worker, place);
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
            fleet.on_connections_lost(address);
        }
        for passage in self.passages.iter() {
            let all = passage.flight.iter().chain(passage.beside.iter().map(|other| &other.flight));
            for flight in all.filter(|flight| flight.place.address == address) {
                let news = News::Broken(flight.attempt, Reason::UpstreamClosed);
                self.queue.push(now, Event::Request(passage.key, news));
            }
        }
    }
}

/// What an answer says that was retried already.
fn exhausted() -> HeaderMap {
    HeaderMap::from_iter([(layer::RETRIES, layer::EXHAUSTED)])
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
