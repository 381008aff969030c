//! A request under way, and its end.
//!
//! The service that answers a request is done when the head of the response is, but the request is
//! not: its deadline, its byte counts, its trailers, its line in the log and its permits last as long
//! as the body. So all that belongs to it is in one [`Passage`], which moves into the body of the
//! response. Dropping the passage is the only sign of cancellation there is, and the only place where
//! a permit is released.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason, RetryEnd};
use naru_journey::edge::Client;
use naru_journey::limits::{LimitId, Queued};
use naru_journey::proxied::Ends;
use naru_journey::record::{Facts, Kept, RequestLine};
use naru_journey::{Action, AttemptEvent, Cause, ChainId, Journey, Milestone, Outcome};
use naru_route::{CompiledAction, Verdict};

use crate::accept::Connection;
use crate::cached::Cached;
use crate::cluster::{EndpointHere, add};
use crate::codec::InBody;
use crate::contain;
use crate::dial::Wire;
use crate::files::Opened;
use crate::grpc_web::{self, Web};
use crate::loaded::Loaded;
use crate::metrics::{Labels, Protocol};
use crate::permit::Permit;
use crate::pool::Http1Connection;
use crate::prober::X_ENVOY_IMMEDIATE_FAIL;
use crate::sessions::Note;
use crate::shadow::trial::Hearing;
use crate::shaped::{self, Shaped};
use crate::timer::Timer;
use crate::tunnel::{Changed, Ledger};
use crate::upgraded::Opening;
use crate::upload::Upload;
use crate::worker::Worker;

/// The response was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the response was broken off")
    }
}

impl std::error::Error for Broken {}

/// All that belongs to one request.
#[derive(Debug)]
pub struct Passage {
    pub worker: Rc<Worker>,
    pub loaded: Rc<Loaded>,
    pub connection: Rc<Connection>,
    pub journey: Journey,
    pub line: RequestLine,
    pub client: Client,
    pub request_id: Option<HeaderValue>,
    pub kept_request: Kept,
    pub kept_response: Kept,
    pub kept_trailers: Kept,
    pub upload: Option<Rc<Upload>>,
    pub upstream_failure: Option<String>,
    pub upstream_local: Option<SocketAddr>,
    pub stream: u64,
    pub bytes_sent: u64,
    /// When the request was first sent to an upstream.
    pub sent_at: Option<Instant>,
    /// The response, once its head is here.
    pub response: Option<Received>,
    /// Where the response is compared with those of copies.
    pub hearing: Option<Box<Hearing>>,
    /// Where its answer may be kept.
    pub cached: Option<Box<Cached>>,
    /// What passed, where the request asked for a tunnel.
    pub tunnel: Option<Rc<Ledger>>,
    /// What a client of HTTP/2 has asked for another protocol by.
    pub opening: Option<Box<Opening>>,
    /// It is a call of gRPC-Web.
    pub web: Option<Box<Web>>,
    /// A file that stands in the answer.
    pub file: Option<Box<Opened>>,
    /// Its answer is not what an upstream sends, as it sends it.
    pub shaped: Option<Box<Shaped>>,
    /// What sessions have to say to it.
    pub session: Option<Box<Note>>,
    /// Sessions have found its token to be good.
    pub is_identified: bool,
    /// Of the attempt that the last news was about.
    pub permit: Option<Permit>,
    /// Where it counts as a retry.
    retrying: Option<ClusterId>,
    /// It counts among those that are in a fault.
    is_in_fault: bool,
    timer: Timer,
}

/// What an upstream answers, and what it comes by.
#[derive(Debug)]
pub struct Received {
    pub head: Option<http::response::Parts>,
    pub body: InBody,
    pub carrier: Carrier,
}

impl Passage {
    pub fn new(
        connection: &Rc<Connection>,
        loaded: &Rc<Loaded>,
        journey: Journey,
        line: RequestLine,
        client: &Client,
        upload: Option<Rc<Upload>>,
    ) -> Box<Passage> {
        let worker = Rc::clone(&connection.worker);
        let downstream = &worker.metrics.downstream;
        let (total, active) = downstream.counts_of(journey.is_tcp());
        add(total, 1);
        add(active, 1);
        connection.on_request();
        let timer = Timer::new(&worker.timers);
        let is_in_fault = journey.is_in_fault();
        if is_in_fault {
            loaded.prepared.faults.fetch_add(1, Ordering::Relaxed);
        }
        Box::new(Passage {
            loaded: Rc::clone(loaded),
            connection: Rc::clone(connection),
            journey,
            line,
            client: *client,
            request_id: None,
            kept_request: Kept::default(),
            kept_response: Kept::default(),
            kept_trailers: Kept::default(),
            upload,
            upstream_failure: None,
            upstream_local: None,
            stream: connection.next_stream(),
            bytes_sent: 0,
            sent_at: None,
            response: None,
            hearing: None,
            cached: None,
            tunnel: None,
            opening: None,
            web: None,
            file: None,
            shaped: None,
            session: None,
            is_identified: false,
            permit: None,
            retrying: None,
            is_in_fault,
            timer,
            worker,
        })
    }

    /// Counts the request at an endpoint. A permit that it had for another attempt is returned.
    pub fn hold(&mut self, cause: Cause, cluster: ClusterId, id: EndpointId, endpoint: &EndpointHere) {
        if matches!(cause, Cause::Retry | Cause::Fallback)
            && let Some(permit) = &self.permit
        {
            permit.endpoint.counts.errors_total.fetch_add(1, Ordering::Relaxed);
        }
        self.permit = None;
        self.permit = Some(Permit::new(&self.loaded, cause, cluster, id, endpoint));
    }

    /// A request that is held has its connection.
    ///
    /// # Errors
    /// As many are on their way to the cluster as may be.
    #[inline]
    pub fn count_sent(&mut self) -> Result<(), Reason> {
        self.permit.as_mut().map_or(Ok(()), Permit::count_sent)
    }

    /// It is at no endpoint for a while.
    fn rest(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.rest();
        }
    }

    /// Tells the journey what came of an attempt; a head by [`Passage::hear_head`].
    #[cold]
    pub fn hear_attempt(&mut self, attempt: AttemptId, event: AttemptEvent<'_>) {
        let now = self.worker.clock.now();
        let mut core = self.loaded.core.borrow_mut();
        let loaded = &*self.loaded;
        self.journey.on_attempt(now, &loaded.snapshot, attempt, event, &mut core, &loaded.clusters);
        drop(core);
        self.report(now);
        if self.retrying.is_some() || self.journey.is_retrying() {
            self.count_retry();
        }
        if matches!(event, AttemptEvent::Failed(_)) {
            self.rest();
        }
    }

    /// Tells the journey of the head that has come. `can_be_repeated` says it of the head of the request.
    #[inline]
    pub fn hear_head(&mut self, attempt: AttemptId, status: u16, has_ended: bool, can_be_repeated: bool) {
        let is_replayable = can_be_repeated && self.has_whole_upload();
        let now = self.worker.clock.now();
        let mut core = self.loaded.core.borrow_mut();
        let loaded = &*self.loaded;
        // What says something about retries is looked at while the journey decides.
        let head = self.response.as_ref().and_then(|received| received.head.as_ref());
        let headers = head.map(|head| &head.headers);
        let event = AttemptEvent::Head { status, has_ended, headers, is_replayable };
        self.journey.on_attempt(now, &loaded.snapshot, attempt, event, &mut core, &loaded.clusters);
        drop(core);
        self.report(now);
        if self.retrying.is_some() || self.journey.is_retrying() {
            self.count_retry();
        }
    }

    /// Tells the journey that a wait is over.
    #[cold]
    pub fn hear_due(&mut self, can_be_repeated: bool) {
        let now = self.worker.clock.now();
        let is_replayable = can_be_repeated && self.has_whole_upload();
        let mut core = self.loaded.core.borrow_mut();
        let loaded = &*self.loaded;
        self.journey.on_due(now, &loaded.snapshot, is_replayable, &mut core, &loaded.clusters, &mut ());
        drop(core);
        self.report(now);
        self.count_retry();
    }

    /// Tells the journey that an attempt has its connection.
    #[inline]
    pub fn hear_connected(&mut self, attempt: AttemptId, stream_max: Option<Duration>) {
        let now = self.worker.clock.now();
        self.journey.on_connected(now, attempt);
        if let Some(cluster) = self.journey.cluster() {
            self.loaded.count_recent(now, cluster);
        }
        if let Some(max) = stream_max {
            self.journey.limit_stream(now, max);
        }
    }

    /// Whether all of the request's body that was read so far is still here.
    pub fn has_whole_upload(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_replayable())
    }

    /// The response is not passed on. Its connection stays where nothing is to be read any more.
    #[cold]
    pub fn leave_response(&mut self) {
        if self.response.as_ref().is_some_and(|received| received.body.is_end_stream()) {
            self.give_back();
        }
        self.response = None;
        self.rest();
    }

    /// Whether a retry of the request is under way is known for all of its cluster.
    fn count_retry(&mut self) {
        let retrying = self.journey.retrying_at();
        if retrying == self.retrying {
            return;
        }
        if let Some(before) = std::mem::replace(&mut self.retrying, retrying) {
            self.loaded.clusters.get(before).retrying.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(cluster) = retrying {
            self.loaded.clusters.get(cluster).retrying.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells whoever guards the cluster, and whoever picked the endpoint, what became of an attempt.
    #[inline]
    fn report(&mut self, now: Instant) {
        while let Some(report) = self.journey.take_report() {
            self.loaded.core.borrow_mut().on_report(now, &report);
            let here = self.loaded.clusters.get(report.cluster);
            let Some(guarded) = &here.guarded else { continue };
            match &self.permit {
                Some(permit) if permit.cluster == report.cluster && permit.id == report.endpoint => {
                    guarded.report(now, &permit.endpoint, report);
                }
                // It was given up, or never sent.
                _ => {
                    if let Some(endpoint) = here.endpoint(report.endpoint) {
                        guarded.report(now, &endpoint.shared(), report);
                    }
                }
            }
        }
    }

    /// Tells whoever guards the cluster where an answer says that its endpoint is not well. As in Envoy, the header is
    /// passed on.
    #[inline]
    pub fn hear_health(&self, headers: &http::HeaderMap) {
        if let Some(permit) = &self.permit
            && let Some(guarded) = &self.loaded.clusters.get(permit.cluster).guarded
            && guarded.has_checks()
            && headers.contains_key(X_ENVOY_IMMEDIATE_FAIL)
        {
            guarded.report_immediate_fail(&permit.endpoint);
        }
    }

    /// Gives back what the request holds of limits with a name.
    #[inline]
    pub fn leave(&mut self, now: Instant) {
        self.journey.leave(now, &self.loaded.snapshot, &self.loaded.clusters);
    }

    /// Asks whether its turn at a limit has come.
    pub fn hear_turn(&mut self) {
        let now = self.worker.clock.now();
        let mut core = self.loaded.core.borrow_mut();
        let loaded = &*self.loaded;
        self.journey.on_turn(now, &loaded.snapshot, &mut core, &loaded.clusters, &mut ());
    }

    /// Waits at a limit. Returns what the journey asks for meanwhile, or `None` once it is to look.
    pub async fn wait_at(&mut self, limit: LimitId, queued: Option<Queued>) -> Option<Action> {
        poll_fn(|cx| {
            if let Some(queued) = queued
                && self.loaded.clusters.limits.listen(limit, queued, cx.waker())
            {
                return Poll::Ready(None);
            }
            self.poll_watch(cx).map(Some)
        })
        .await
    }

    /// Looks at the request's body and at the clock. Ready once the journey asks for something.
    #[inline]
    pub fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        self.connection.stall.look(None);
        if let Some(upload) = &self.upload {
            upload.listen(cx);
            if self.hear_upload()
                && let Some(action) = self.journey.next_action()
            {
                return Poll::Ready(action);
            }
        }
        while let Some(deadline) = self.deadline() {
            self.timer.set(deadline);
            self.connection.stall.look(Some(deadline));
            if self.timer.poll(cx).is_pending() {
                break;
            }
            let now = self.worker.clock.now();
            self.journey.tick(now);
            if let Some(upload) = &self.upload {
                upload.look_at_pace(now);
                self.hear_upload();
            }
            if let Some(action) = self.journey.next_action() {
                return Poll::Ready(action);
            }
        }
        Poll::Pending
    }

    /// When it is to be looked at again: for its own sake, or for its client's.
    #[inline]
    fn deadline(&self) -> Option<Instant> {
        let own = self.journey.deadline().map(|(deadline, _)| deadline);
        match self.upload.as_ref().and_then(|upload| upload.deadline()) {
            Some(of_client) => Some(own.map_or(of_client, |own| own.min(of_client))),
            None => own,
        }
    }

    /// Tells the journey what happened to the request's body, if anything did.
    pub fn hear_upload(&mut self) -> bool {
        let Some(upload) = &self.upload else { return false };
        let news = upload.take_news();
        let has_moved = upload.take_moved();
        if !has_moved && news.is_none() {
            return false;
        }
        let now = self.worker.clock.now();
        match news {
            Some(milestone) => self.journey.on_request_body(now, milestone),
            None => self.journey.on_progress(now),
        }
        true
    }

    /// The newest snapshot is that of a tunnel with HTTP in it, too: no rule of an older one was asked about it.
    pub fn go_on(&mut self, loaded: &Rc<Loaded>, chain: ChainId) {
        if self.journey.go_on(chain) {
            self.loaded = Rc::clone(loaded);
        }
    }

    /// Whom it is made for, and where that one came to.
    #[inline]
    pub fn ends(&self) -> Ends {
        Ends { source: self.client.address, destination: self.connection.peer.local }
    }

    fn bytes_received(&self) -> u64 {
        match (&self.upload, &self.tunnel) {
            (Some(upload), _) => upload.received(),
            (None, Some(tunnel)) => tunnel.traffic.read.get(),
            (None, None) => 0,
        }
    }

    fn bytes_sent(&self) -> u64 {
        self.tunnel.as_ref().map_or(self.bytes_sent, |tunnel| tunnel.traffic.written.get())
    }

    /// What can be said of the request now.
    pub fn facts<'a>(&'a self, outcome: Option<&'a Outcome>) -> Facts<'a> {
        let table = &self.loaded.snapshot.chain(self.journey.chain()).table;
        let rule = self.journey.rule().map(|(id, _)| table.rule(id));
        let virtual_host = match self.journey.verdict() {
            Verdict::NoRule { virtual_host }
            | Verdict::ServerOptions { virtual_host }
            | Verdict::RequiresTls { virtual_host } => Some(virtual_host),
            Verdict::Rule { .. } => rule.map(|rule| rule.virtual_host),
            Verdict::NoVirtualHost => None,
        };
        let cluster = match (rule.map(|rule| &rule.action), self.journey.choice()) {
            (Some(CompiledAction::Forward(forward)), Some(choice)) => Some(forward.cluster_name(choice)),
            _ => None,
        };
        let cluster = self.journey.instead(&self.loaded.snapshot).or(cluster);
        Facts {
            line: self.line.view(),
            request: &self.kept_request,
            response: &self.kept_response,
            trailers: &self.kept_trailers,
            began: self.worker.clock.wall(self.journey.began()),
            times: &self.worker.clock.times,
            outcome,
            bytes_received: self.bytes_received(),
            bytes_sent: self.bytes_sent(),
            peer: &self.connection.peer,
            addresses: Some(self.connection.addresses()),
            direct: self.connection.direct,
            client: self.client.address,
            server_name: self.connection.server_name.as_deref(),
            tls_version: self.connection.tls_version,
            route: rule.map_or("", |rule| &rule.name),
            route_origin: rule.map_or("", |rule| &rule.origin),
            virtual_host: virtual_host.map_or("", |host| table.virtual_host_name(host)),
            cluster,
            upstream: match (&self.permit, &self.tunnel) {
                (Some(permit), _) => Some(permit.endpoint.address),
                (None, Some(tunnel)) => tunnel.reached.get(),
                (None, None) => None,
            },
            upstream_path: self.permit.as_ref().and_then(|permit| permit.endpoint.path()),
            upstream_local: self.upstream_local,
            upstream_failure: self.upstream_failure.as_deref(),
            details: self.journey.details(),
            connection: self.connection.id,
            stream: self.stream,
            host_name: &self.worker.host_name,
        }
    }

    /// The request is over: counts it and writes its line.
    fn record(&self, outcome: &Outcome) {
        let chain = self.journey.chain();
        let logs = self.loaded.logs(chain);
        if !logs.is_empty() {
            let facts = self.facts(Some(outcome));
            for log in logs {
                self.worker.logs.write(&log.buffer, |buffer| log.form.write(&facts, buffer));
            }
        }
        if outcome.retry_end != RetryEnd::Open
            && let Some(permit) = &self.permit
        {
            let stats = &self.loaded.clusters.get(permit.cluster).stats;
            let is_exceeded = outcome.retry_end == RetryEnd::LimitReached;
            add(if is_exceeded { &stats.retries_exceeded } else { &stats.retries_overflow }, 1);
        }
        let labels = Labels {
            reason: outcome.reason,
            retry_end: outcome.retry_end,
            is_delayed: outcome.is_delayed,
            status: outcome.status,
            protocol: Protocol::of(self.journey.is_tcp(), self.client.is_grpc),
            grpc_status: outcome.grpc_status,
            is_tls: self.connection.peer.is_tls,
        };
        let duration = outcome.ended.since(outcome.began);
        let prepared = &self.loaded.prepared;
        let cluster = outcome.cluster.map(|id| prepared.cluster_name(id));
        let bytes = (self.bytes_received(), self.bytes_sent());
        self.worker.metrics.record(prepared.stat_prefix(chain), cluster, labels, duration, bytes);
        if let Some(permit) = &self.permit
            && outcome.reason != Reason::Overflow
            && (outcome.status >= 500 || (!outcome.reason.is_success() && outcome.status == 0))
        {
            permit.endpoint.counts.errors_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let ending = Ending(self);
        // A second panic on the way out of one would end the process.
        if !std::thread::panicking() {
            ending.0.end();
        } else {
            contain::attempt(|| ending.0.end());
        }
    }
}

/// What is counted of a passage is given back whatever becomes of its end.
struct Ending<'a>(&'a mut Passage);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let passage = &mut *self.0;
        if !std::thread::panicking() {
            return passage.uncount();
        }
        contain::attempt(|| passage.leave(passage.worker.clock.now()));
        contain::attempt(|| passage.uncount());
    }
}

impl Passage {
    fn end(&mut self) {
        let now = self.worker.clock.now();
        if !self.journey.has_ended() {
            // A body that a stalled client kept from being read is dropped when its time is over.
            self.journey.tick(now);
            self.journey.on_abandoned(now);
        }
        self.report(now);
        if self.retrying.is_some() {
            self.count_retry();
        }
        if self.journey.is_timed_automatically(&self.loaded.snapshot) {
            self.journey.teach(&mut self.loaded.core.borrow_mut());
        }
        self.leave(now);
        debug_assert_eq!(self.journey.check_invariants(), Ok(()));
        if let Some(outcome) = self.journey.outcome()
            && !self.cached.as_ref().is_some_and(|cached| cached.is_background())
        {
            self.record(&outcome);
        }
    }

    /// A fault does something to it, which was not known when it began.
    pub fn count_fault(&mut self) {
        if self.journey.is_in_fault() && !std::mem::replace(&mut self.is_in_fault, true) {
            self.loaded.prepared.faults.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is counted of it.
    fn uncount(&mut self) {
        // Whatever the journey says: it is over.
        if let Some(cluster) = self.retrying.take() {
            self.loaded.clusters.get(cluster).retrying.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_in_fault {
            self.loaded.prepared.faults.fetch_sub(1, Ordering::Relaxed);
        }
        self.rest();
        if let Some(upload) = &self.upload {
            upload.end();
        }
        let (_, active) = self.worker.metrics.downstream.counts_of(self.journey.is_tcp());
        add(active, -1);
        self.connection.on_request_end();
    }
}

/// The body of a response, written to a client.
#[derive(Debug)]
pub enum OutBody {
    /// Nothing, or nothing any more.
    Empty,
    /// The proxy's own.
    Whole(Bytes, Box<Passage>),
    /// An upstream's.
    Passing(Box<Passage>),
    /// None: the stream is something else from here on.
    Changed(Box<Changed>),
    /// It broke off. The client is told at the next turn: what it was sent before goes out first.
    Breaking,
}

/// The connection that a body comes from.
#[derive(Debug)]
pub enum Carrier {
    Http1 {
        connection: Box<Http1Connection>,
        endpoint: Rc<EndpointHere>,
        cluster: ClusterId,
    },
    /// It moves by itself; the place in it is held until the end.
    Http2 {
        _stream: crate::pool::Http2Stream,
    },
    /// Bytes, for what was asked for by CONNECT.
    Raw(Box<Wire>),
}

impl OutBody {
    pub fn whole(bytes: Bytes, mut passage: Box<Passage>) -> OutBody {
        if bytes.is_empty() {
            let now = passage.worker.clock.now();
            passage.journey.on_response_body(now, Milestone::End);
            return OutBody::Empty;
        }
        passage.bytes_sent = bytes.len() as u64;
        OutBody::Whole(bytes, passage)
    }

    /// The body of the response that the passage has received.
    pub fn passing(mut passage: Box<Passage>) -> OutBody {
        if passage.journey.has_ended() {
            passage.give_back();
            return OutBody::Empty;
        }
        OutBody::Passing(passage)
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            OutBody::Empty | OutBody::Changed(_) => Poll::Ready(None),
            OutBody::Passing(passage) => {
                let polled = match (&passage.shaped, &passage.web) {
                    (None, None) => passage.poll_frame(cx),
                    (None, Some(_)) => grpc_web::poll_frame(passage, cx),
                    (Some(_), _) => shaped::poll_frame(passage, cx),
                };
                if matches!(polled, Poll::Ready(Some(Err(Broken)))) {
                    let connection = Rc::clone(&passage.connection);
                    *self = OutBody::Breaking;
                    // A client that takes nothing has no next turn.
                    connection.stall.look(Some(connection.worker.clock.now()));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // What ended is settled now, and not when somebody drops an empty body.
                if passage.journey.has_ended() && !passage.shaped.as_ref().is_some_and(|it| it.goes_on()) {
                    *self = OutBody::Empty;
                }
                polled
            }
            OutBody::Breaking => {
                *self = OutBody::Empty;
                Poll::Ready(Some(Err(Broken)))
            }
            OutBody::Whole(..) => {
                let OutBody::Whole(bytes, mut passage) = std::mem::replace(&mut *self, OutBody::Empty) else {
                    return Poll::Ready(None);
                };
                passage.journey.on_response_body(passage.worker.clock.now(), Milestone::End);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            OutBody::Empty | OutBody::Changed(_) => true,
            OutBody::Whole(..) | OutBody::Passing(_) | OutBody::Breaking => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutBody::Empty | OutBody::Changed(_) => SizeHint::with_exact(0),
            OutBody::Whole(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            OutBody::Breaking => SizeHint::default(),
            // There may be more of it, or the same in other letters.
            OutBody::Passing(passage) if passage.web.is_some() => SizeHint::default(),
            OutBody::Passing(passage) if passage.shaped.is_some() => {
                passage.shaped.as_ref().map_or_else(SizeHint::default, |shaped| shaped.size_hint())
            }
            OutBody::Passing(passage) => {
                passage.response.as_ref().map_or_else(SizeHint::default, |received| received.body.size_hint())
            }
        }
    }
}

impl Passage {
    #[inline]
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(received) = &mut self.response else { return Poll::Ready(None) };
        let Poll::Ready(frame) = poll_body(&mut received.body, &mut received.carrier, cx) else {
            // After a head there is nothing that a journey could ask for but to break off.
            return self.poll_watch(cx).map(|_| self.break_off());
        };
        let now = self.worker.clock.now();
        if let Some(hearing) = &mut self.hearing {
            hearing.hear(frame.as_ref(), received.body.is_end_stream());
        }
        if let Some(cached) = &mut self.cached {
            cached.hear(now, frame.as_ref(), received.body.is_end_stream());
        }
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes_sent += data.len() as u64;
                    if received.body.is_end_stream() {
                        self.finish(now, Milestone::End);
                    } else {
                        self.journey.on_progress(now);
                        self.connection.stall.look(self.journey.deadline().map(|(at, _)| at));
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    let record = &self.loaded.snapshot.chain(self.journey.chain()).record;
                    self.kept_trailers = record.keep_trailers(trailers);
                    self.finish(now, Milestone::Trailers { grpc_status: grpc_status(trailers) });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                // A request whose body the client breaks off takes its exchange with it.
                if let Some(news) = self.upload.as_ref().and_then(|upload| upload.take_news()) {
                    self.journey.on_request_body(now, news);
                }
                self.journey.on_response_body(now, Milestone::Aborted);
                Poll::Ready(self.break_off())
            }
            None => {
                self.finish(now, Milestone::End);
                Poll::Ready(None)
            }
        }
    }

    fn break_off(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        self.response = None;
        Some(Err(Broken))
    }

    fn finish(&mut self, now: Instant, milestone: Milestone) {
        self.journey.on_response_body(now, milestone);
        self.give_back();
    }

    /// The response was read to its end: its connection may serve another request.
    fn give_back(&mut self) {
        let Some(Received { carrier, body, .. }) = self.response.take() else { return };
        carrier.give_back(body, self.journey.has_whole_request(), &self.worker, &self.loaded);
    }
}

impl Carrier {
    /// The body that came by it was read to its end.
    #[inline]
    pub fn give_back(self, body: InBody, has_whole_request: bool, worker: &Worker, loaded: &Loaded) {
        let Carrier::Http1 { connection: client, endpoint, cluster } = self else { return };
        drop(body);
        // A request that is still being sent would run into the next one.
        if client.client.can_send() && has_whole_request {
            let settings = loaded.snapshot.cluster(cluster);
            endpoint.pool.put_http1(client, worker.clock.now(), settings);
            worker.look_after_pools();
        }
    }
}

/// The next frame. An HTTP/1 connection is moved along here.
#[inline]
pub fn poll_body(
    body: &mut InBody,
    carrier: &mut Carrier,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, crate::codec::BodyBroken>>> {
    match carrier {
        Carrier::Http1 { connection, .. } => {
            connection.client.poll_send(cx);
            Pin::new(body).poll_frame(cx)
        }
        Carrier::Http2 { .. } | Carrier::Raw(_) => Pin::new(body).poll_frame(cx),
    }
}

/// What `grpc-status` says.
pub fn grpc_status(headers: &http::HeaderMap) -> Option<u8> {
    std::str::from_utf8(headers.get("grpc-status")?.as_bytes()).ok()?.parse().ok()
}

/// A number that grows by one.
pub fn count_up(cell: &Cell<u64>) -> u64 {
    let next = cell.get() + 1;
    cell.set(next);
    next
}
