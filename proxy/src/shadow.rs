//! Copies of requests: made when a request is first sent, each carried by a task of its own that nobody waits for.
//!
//! What is decided about a copy is decided by [`Shadow`]; here it is carried out: a connection of the mirror's cluster,
//! the body as its request's upstream takes it ([`tap`]), an answer that is dropped or compared ([`trial`]). All that a
//! copy holds is given back when its [`Courier`] is dropped, also where the worker ends. A request whose rule has no
//! mirrors pays for one look at an empty list.

pub mod tap;
pub mod trial;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, Version};
use http_body::{Body as _, Frame};
use naru_base::{AttemptId, ClusterId, Instant, Reason};
use naru_journey::shadow::copy_headers;
use naru_journey::{Milestone, Sent, Shadow, ShadowEnd, ShadowFacts, Stage};
use naru_recover::mirror::is_safe;
use naru_spec::defaults::COPY_ANSWER_BYTES_MAX;

use crate::cluster::{EndpointHere, EndpointShared, add};
use crate::codec::{BodyBroken, InBody, SendFailure};
use crate::dial::{self, Connected, Want};
use crate::engine::Outgoing;
use crate::loaded::Loaded;
use crate::mirrors::MirrorHere;
use crate::prober::X_ENVOY_IMMEDIATE_FAIL;
use crate::settle::{Carrier, Passage, grpc_status, poll_body};
use crate::timer::Timer;
use crate::upload::Upload;
use crate::worker::Worker;
use tap::Tap;
use trial::{Hearing, Role, Trial};

/// Makes the copies of a request that is about to be sent.
#[inline]
pub fn copy(passage: &mut Passage, outgoing: &Outgoing, attempt: AttemptId) {
    if passage.journey.is_mirrored(&passage.loaded.snapshot, attempt) {
        copy_to_mirrors(passage, outgoing);
    }
}

#[cold]
fn copy_to_mirrors(passage: &mut Passage, outgoing: &Outgoing) {
    let loaded = Rc::clone(&passage.loaded);
    let copies = {
        let mut core = loaded.core.borrow_mut();
        passage.journey.copies(&loaded.snapshot, &outgoing.method, &mut core)
    };
    let (Some(copies), Some(headers)) = (copies, &outgoing.headers) else { return };
    let mirrors = loaded.mirrors(passage.journey.chain(), copies.rule);
    // A request with a body is not sent to its own cluster twice, nor one that may do something there.
    let may_learn = passage.upload.is_none() && is_safe(&outgoing.method);
    let mut is_learning = false;
    let mut compared = Vec::new();
    for (at, mirror, _) in copies.iter() {
        if let (Some(settings), Some(here)) = (&mirror.comparison, mirrors.get(at)) {
            is_learning |= may_learn && here.on_comparison();
            compared.push((Rc::clone(here), settings.clone()));
        }
    }
    let budget = &passage.worker.metrics.mirrors.budget;
    let trial = (!compared.is_empty()).then(|| Trial::new(compared, is_learning, budget));
    let mut candidates = 0;
    let mut twin = None;
    for (at, mirror, cluster) in copies.iter() {
        let Some(here) = mirrors.get(at) else { continue };
        let hearing = trial.as_ref().filter(|_| mirror.comparison.is_some()).map(|trial| {
            candidates += 1;
            trial.hear(Role::Candidate(candidates - 1))
        });
        let mut headers = headers.clone();
        copy_headers(mirror, &outgoing.method, &mut headers, &passage.connection.peer);
        here.on_copy();
        if is_learning && hearing.is_some() {
            // Sent to the same version as it is to the other one: what comes of being a copy is noise, too.
            twin.get_or_insert_with(|| headers.clone());
        }
        let plan = Plan { cluster, facts: copies.facts, mirror: Some(Rc::clone(here)), hearing };
        start(passage, plan, outgoing.with_headers(headers));
    }
    if let (Some(trial), Some(headers)) = (&trial, twin) {
        let hearing = Some(trial.hear(Role::Twin));
        let plan = Plan { cluster: copies.cluster, facts: copies.facts, mirror: None, hearing };
        start(passage, plan, outgoing.with_headers(headers));
    }
    passage.hearing = trial.map(|trial| Box::new(trial.hear(Role::Primary)));
}

/// A copy that is to be sent.
struct Plan {
    cluster: ClusterId,
    facts: ShadowFacts,
    /// Absent of one that goes to the request's own cluster.
    mirror: Option<Rc<MirrorHere>>,
    hearing: Option<Hearing>,
}

fn start(passage: &Passage, plan: Plan, outgoing: Outgoing) {
    let (worker, loaded) = (&passage.worker, &passage.loaded);
    let Plan { cluster, facts, mirror, hearing } = plan;
    let begun = if worker.metrics.mirrors.begin() {
        let mut core = loaded.core.borrow_mut();
        let now = worker.clock.now();
        let begun = Shadow::begin(now, &loaded.snapshot, cluster, &facts, &mut core, &loaded.clusters);
        if begun.is_err() {
            worker.metrics.mirrors.end();
        }
        begun
    } else {
        Err(Reason::Overloaded)
    };
    let shadow = match begun {
        Ok(shadow) => shadow,
        Err(reason) => {
            if let Some(mirror) = mirror {
                mirror.on_end(ShadowEnd::Refused(reason), 0);
            }
            return;
        }
    };
    let tap = passage.upload.as_ref().map(|upload| upload.tap(&worker.metrics.mirrors.budget));
    let courier = Courier {
        endpoint: loaded.clusters.get(cluster).endpoint(shadow.endpoint()),
        shadow,
        mirror,
        hearing,
        upload: tap.as_ref().map(|tap| Upload::of_copy(Rc::clone(tap))),
        tap,
        permit: None,
        timer: Timer::new(&worker.timers),
        is_from_http2: passage.line.version >= Version::HTTP_2,
        worker: Rc::clone(worker),
        loaded: Rc::clone(loaded),
    };
    tokio::task::spawn_local(carry(courier, outgoing));
}

/// Who carries one copy.
#[derive(Debug)]
struct Courier {
    worker: Rc<Worker>,
    loaded: Rc<Loaded>,
    shadow: Shadow,
    endpoint: Option<Rc<EndpointHere>>,
    mirror: Option<Rc<MirrorHere>>,
    hearing: Option<Hearing>,
    tap: Option<Rc<Tap>>,
    upload: Option<Rc<Upload>>,
    permit: Option<Permit>,
    timer: Timer,
    /// Whether the client of its request spoke HTTP/2.
    is_from_http2: bool,
}

/// A copy counted at an endpoint and its cluster.
#[derive(Debug)]
struct Permit {
    loaded: Rc<Loaded>,
    cluster: ClusterId,
    endpoint: Arc<EndpointShared>,
    /// It is one of the requests that the cluster limits.
    is_counted: bool,
}

/// Why an attempt has no answer.
enum Unanswered {
    /// The shadow knows why.
    Over,
    /// The connection had been closed while it waited: once more, on a fresh one.
    Stale,
}

type Answer = (Response<InBody>, Carrier);

async fn carry(mut courier: Courier, mut outgoing: Outgoing) {
    let Some(endpoint) = courier.endpoint.clone() else { return };
    if let Some(at) = courier.shadow.not_before() {
        courier.wait_until(at).await;
    }
    if courier.shadow.end().is_some() {
        return;
    }
    courier.hold(&endpoint);
    let answer = match courier.attempt(&mut outgoing, &endpoint, false).await {
        Err(Unanswered::Stale) => courier.attempt(&mut outgoing, &endpoint, true).await,
        answer => answer,
    };
    if let Ok((response, carrier)) = answer {
        courier.read(response, carrier).await;
    }
}

impl Courier {
    fn now(&self) -> Instant {
        self.worker.clock.now()
    }

    async fn wait_until(&mut self, at: Instant) {
        let mut turn = Timer::new(&self.worker.timers);
        poll_fn(|cx| {
            turn.set(at);
            if turn.poll(cx).is_ready() { Poll::Ready(()) } else { self.poll_watch(cx) }
        })
        .await;
    }

    fn hold(&mut self, endpoint: &EndpointHere) {
        let (cluster, endpoint) = (self.shadow.cluster(), endpoint.shared());
        endpoint.counts.active.fetch_add(1, Ordering::Relaxed);
        endpoint.counts.requests_total.fetch_add(1, Ordering::Relaxed);
        let stats = &self.loaded.clusters.get(cluster).stats;
        add(&stats.requests_active, 1);
        add(&stats.requests_total, 1);
        self.permit = Some(Permit { loaded: Rc::clone(&self.loaded), cluster, endpoint, is_counted: false });
    }

    /// Looks at the request that is copied and at the clock. Ready once it is over.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (Some(upload), Some(tap)) = (&self.upload, &self.tap) {
            upload.listen(cx);
            tap.listen(cx);
            self.hear_request();
        }
        while let Some(deadline) = self.shadow.deadline() {
            self.timer.set(deadline);
            if self.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.shadow.tick(self.now());
        }
        Poll::Ready(())
    }

    fn hear_request(&mut self) {
        let (Some(upload), Some(tap)) = (&self.upload, &self.tap) else { return };
        let now = self.worker.clock.now();
        if tap.is_overrun() {
            self.shadow.on_overrun(now);
        } else if tap.is_broken() {
            self.shadow.on_abandoned(now);
        }
        if upload.take_moved() {
            self.shadow.on_progress(now);
        }
        match upload.take_news() {
            Some(Milestone::End | Milestone::Trailers { .. }) => self.shadow.on_request_end(now),
            // That it broke off is known already.
            Some(
                Milestone::FirstByte
                | Milestone::Aborted
                | Milestone::Malformed
                | Milestone::TooSlow
                | Milestone::TooLarge
                | Milestone::Refused(_),
            )
            | None => {}
        }
    }

    async fn attempt(
        &mut self,
        outgoing: &mut Outgoing,
        endpoint: &Rc<EndpointHere>,
        is_fresh: bool,
    ) -> Result<Answer, Unanswered> {
        let (worker, loaded) = (Rc::clone(&self.worker), Rc::clone(&self.loaded));
        let cluster = self.shadow.cluster();
        let settings = loaded.snapshot.cluster(cluster);
        let want = Want::of(settings.protocol, self.is_from_http2);
        let waiting = if is_fresh { None } else { dial::take_from_pool(&worker, endpoint, want, settings) };
        let (connected, is_reused) = match waiting {
            Some(connected) => (connected, true),
            None => {
                let mut dial = pin!(dial::dial(&worker, &loaded, cluster, endpoint, want, is_fresh, None));
                let result = poll_fn(|cx| match dial.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => self.poll_watch(cx).map(|()| None),
                });
                match result.await {
                    Some(Ok(connected)) => connected,
                    Some(Err(failure)) => return Err(self.fail(failure.stage, failure.reason)),
                    None => return Err(Unanswered::Over),
                }
            }
        };
        if let Err(reason) = self.count_sent() {
            if let Connected::Http1(connection) = connected {
                endpoint.pool.put_http1(connection, worker.clock.now(), settings);
                worker.look_after_pools();
            }
            return Err(self.fail(Stage::Connect, reason));
        }
        self.shadow.on_connected(worker.clock.now(), settings.limits.stream_duration_max);
        // Only what is sent on a connection that was used before may have to be sent again.
        if let Some(upload) = self.upload.as_ref().filter(|_| !is_reused && !is_fresh) {
            upload.forget();
        }
        let result = match connected {
            Connected::Http1(mut connection) => {
                connection.requests += 1;
                let request = outgoing.take_http1(self.upload.as_ref(), is_reused);
                let result = connection.client.send(request, None, |cx| self.poll_watch(cx)).await;
                let endpoint = Rc::clone(endpoint);
                result.map(|response| (response, Carrier::Http1 { connection, endpoint, cluster }))
            }
            Connected::Http2(stream) => {
                let request = outgoing.take_http2(self.upload.as_ref(), is_reused, settings.tls.is_some());
                let mut client = stream.client();
                let result = client.send(request, None, |cx| self.poll_watch(cx)).await;
                result.map(|response| (response, Carrier::Http2 { _stream: stream }))
            }
        };
        let (reason, sent) = match result {
            Ok(answer) => return Ok(answer),
            Err(None) => return Err(Unanswered::Over),
            Err(Some(SendFailure { reason, sent, .. })) => (reason, sent),
        };
        // A body that breaks off takes its exchange with it.
        self.hear_request();
        let is_replayable = self.upload.as_ref().is_none_or(|upload| upload.is_replayable());
        let may_repeat = sent == Sent::No || outgoing.method.is_idempotent();
        if is_reused && may_repeat && is_replayable && self.shadow.end().is_none() {
            if let Some(permit) = &mut self.permit {
                permit.give_back();
            }
            return Err(Unanswered::Stale);
        }
        Err(self.fail(Stage::Exchange, reason))
    }

    fn count_sent(&mut self) -> Result<(), Reason> {
        if let Some(permit) = &mut self.permit {
            let limits = &permit.loaded.snapshot.cluster(permit.cluster).limits;
            permit.is_counted = permit.loaded.clusters.get(permit.cluster).limited.send(limits)?;
            permit.loaded.count_recent(self.worker.clock.now(), permit.cluster);
        }
        Ok(())
    }

    fn fail(&mut self, stage: Stage, reason: Reason) -> Unanswered {
        self.shadow.on_failure(self.now(), stage, reason);
        Unanswered::Over
    }

    /// Reads an answer to its end, but not without one.
    async fn read(&mut self, response: Response<InBody>, mut carrier: Carrier) {
        let (head, mut body) = response.into_parts();
        self.hear_health(&head.headers);
        let now = self.now();
        let status = head.status.as_u16();
        let has_ended = body.is_end_stream();
        if let Some(hearing) = &mut self.hearing {
            hearing.hear_head(status, &head.headers, now.since(self.shadow.began()), has_ended);
        }
        let grpc = if has_ended { grpc_status(&head.headers) } else { None };
        self.shadow.on_head(now, status, has_ended, grpc);
        let mut left = COPY_ANSWER_BYTES_MAX;
        while self.shadow.end().is_none() {
            let frame = poll_fn(|cx| match poll_body(&mut body, &mut carrier, cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending => self.poll_watch(cx).map(|()| None),
            });
            let Some(frame) = frame.await else { return };
            left = left.saturating_sub(bytes_of(frame.as_ref()));
            self.hear(frame, body.is_end_stream());
            if left == 0 && self.shadow.end().is_none() {
                if let Some(hearing) = &mut self.hearing {
                    hearing.cut_short();
                }
                self.shadow.on_end(self.now(), None);
                return;
            }
        }
        let is_whole = self.upload.as_ref().is_none_or(|upload| upload.is_over());
        if self.shadow.end() == Some(ShadowEnd::Answered) {
            carrier.give_back(body, is_whole, &self.worker, &self.loaded);
        }
    }

    fn hear(&mut self, frame: Option<Result<Frame<Bytes>, BodyBroken>>, is_last: bool) {
        if let Some(hearing) = &mut self.hearing {
            hearing.hear(frame.as_ref(), is_last);
        }
        self.hear_request();
        let now = self.now();
        match frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => self.shadow.on_end(now, grpc_status(trailers)),
                None if is_last => self.shadow.on_end(now, None),
                None => self.shadow.on_progress(now),
            },
            Some(Err(_)) => self.shadow.on_failure(now, Stage::Exchange, Reason::UpstreamAborted),
            None => self.shadow.on_end(now, None),
        }
    }

    /// As [`Passage::hear_health`].
    fn hear_health(&self, headers: &HeaderMap) {
        let guarded = self.loaded.clusters.get(self.shadow.cluster()).guarded.as_ref();
        if let (Some(guarded), Some(permit)) = (guarded, &self.permit)
            && guarded.has_checks()
            && headers.contains_key(X_ENVOY_IMMEDIATE_FAIL)
        {
            guarded.report_immediate_fail(&permit.endpoint);
        }
    }
}

fn bytes_of(frame: Option<&Result<Frame<Bytes>, BodyBroken>>) -> u64 {
    let data = frame.and_then(|frame| frame.as_ref().ok()?.data_ref());
    data.map_or(0, |data| data.len() as u64)
}

impl Permit {
    /// The cluster has room for another one.
    fn give_back(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.loaded.clusters.get(self.cluster).limited.give_request_back();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back();
        self.endpoint.counts.active.fetch_sub(1, Ordering::Relaxed);
        add(&self.loaded.clusters.get(self.cluster).stats.requests_active, -1);
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let now = self.now();
        self.hear_request();
        self.shadow.tick(now);
        self.shadow.on_abandoned(now);
        let cluster = self.loaded.clusters.get(self.shadow.cluster());
        if let (Some(report), Some(endpoint), Some(guarded)) =
            (self.shadow.take_report(), &self.endpoint, &cluster.guarded)
        {
            guarded.report(now, &endpoint.shared(), report);
        }
        self.shadow.leave(now, &self.loaded.snapshot, &self.loaded.clusters);
        debug_assert_eq!(self.shadow.check_invariants(), Ok(()));
        let (end, status) = (self.shadow.end(), self.shadow.status());
        if let (Some(mirror), Some(end)) = (&self.mirror, end) {
            mirror.on_end(end, status);
        }
        let is_error = status >= 500 || matches!(end, Some(ShadowEnd::Failed(_) | ShadowEnd::TimedOut));
        if let Some(permit) = self.permit.as_ref().filter(|_| is_error) {
            permit.endpoint.counts.errors_total.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(upload) = &self.upload {
            upload.end();
        }
        // Its request goes on, and must not go on filling it.
        if let Some(tap) = &self.tap {
            tap.close();
        }
        self.worker.metrics.mirrors.end();
    }
}
