//! A question of naru's own to an endpoint of a cluster, over the connections that requests go by.
//!
//! As Envoy's `AsyncClient` has it: the balancer picks, limits and breaker of the cluster hold, and what becomes of it is
//! told to whoever guards the cluster; that is [`Shadow`]'s to decide, as it does of copies. The answer is read whole. Who
//! asks bounds the time: an exchange that is dropped gives all back.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use naru_base::ClusterId;
use naru_journey::{Sent, Shadow, ShadowFacts, Stage};
use naru_spec::defaults::EXTERNAL_ANSWER_BYTES_MAX;

use crate::cluster::{EndpointHere, EndpointShared, add};
use crate::codec::{InBody, SendFailure};
use crate::dial::{self, Connected, Want};
use crate::loaded::Loaded;
use crate::settle::{Carrier, grpc_status, poll_body};
use crate::timer::Timer;
use crate::upload::UploadBody;
use crate::worker::Worker;

/// What is asked: a head for the version of HTTP that is spoken, and a body.
#[derive(Debug)]
pub struct Inquiry {
    /// Its target is absolute; of HTTP/1 what stands before the path becomes `Host`.
    pub head: Request<()>,
    pub body: Bytes,
    pub is_grpc: bool,
    pub timeout: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub struct Heard {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// A question on its way, counted as requests are.
#[derive(Debug)]
struct Courier {
    worker: Rc<Worker>,
    loaded: Rc<Loaded>,
    shadow: Shadow,
    endpoint: Rc<EndpointHere>,
    shared: Arc<EndpointShared>,
    /// It is one of the requests that the cluster limits.
    is_counted: bool,
}

/// `None` where there is no answer, or one that is too large.
pub async fn exchange(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    cluster: ClusterId,
    inquiry: &Inquiry,
) -> Option<Heard> {
    // Who waits for it gives up at the same time: it is to be told of the endpoint before that.
    let timeout = inquiry.timeout.saturating_sub(Duration::from_millis(1));
    let facts = ShadowFacts {
        response_timeout: Some(timeout),
        idle_timeout: None,
        is_grpc: inquiry.is_grpc,
        has_ended: true,
    };
    let shadow = {
        let mut core = loaded.core.borrow_mut();
        let now = worker.clock.now();
        Shadow::begin(now, &loaded.snapshot, cluster, &facts, &mut core, &loaded.clusters).ok()?
    };
    let Some(endpoint) = loaded.clusters.get(cluster).endpoint(shadow.endpoint()) else {
        let mut shadow = shadow;
        shadow.leave(worker.clock.now(), &loaded.snapshot, &loaded.clusters);
        return None;
    };
    let mut courier = Courier::new(worker, loaded, shadow, endpoint);
    if let Some(at) = courier.shadow.not_before() {
        let mut turn = Timer::new(&worker.timers);
        turn.set(at);
        poll_fn(|cx| turn.poll(cx)).await;
    }
    match courier.attempt(inquiry, false).await {
        Ok((response, carrier)) => courier.read(response, carrier).await,
        Err(Unanswered::Over) => None,
        Err(Unanswered::Stale) => {
            let (response, carrier) = courier.attempt(inquiry, true).await.ok()?;
            courier.read(response, carrier).await
        }
    }
}

/// Why an attempt has no answer.
enum Unanswered {
    Over,
    /// The connection had been closed while it waited: once more, on a fresh one.
    Stale,
}

impl Courier {
    fn new(worker: &Rc<Worker>, loaded: &Rc<Loaded>, shadow: Shadow, endpoint: Rc<EndpointHere>) -> Courier {
        let shared = endpoint.shared();
        shared.counts.active.fetch_add(1, Ordering::Relaxed);
        shared.counts.requests_total.fetch_add(1, Ordering::Relaxed);
        let stats = &loaded.clusters.get(shadow.cluster()).stats;
        add(&stats.requests_active, 1);
        add(&stats.requests_total, 1);
        let (worker, loaded) = (Rc::clone(worker), Rc::clone(loaded));
        Courier { worker, loaded, shadow, endpoint, shared, is_counted: false }
    }

    fn fail(&mut self, stage: Stage, reason: naru_base::Reason) -> Unanswered {
        self.shadow.on_failure(self.worker.clock.now(), stage, reason);
        Unanswered::Over
    }

    async fn attempt(
        &mut self,
        inquiry: &Inquiry,
        is_fresh: bool,
    ) -> Result<(Response<InBody>, Carrier), Unanswered> {
        let (worker, loaded) = (Rc::clone(&self.worker), Rc::clone(&self.loaded));
        let endpoint = Rc::clone(&self.endpoint);
        let cluster = self.shadow.cluster();
        let settings = loaded.snapshot.cluster(cluster);
        let want = if inquiry.is_grpc { Want::Http2 } else { Want::of(settings.protocol, false) };
        let waiting = if is_fresh { None } else { dial::take_from_pool(&worker, &endpoint, want, settings) };
        let (connected, is_reused) = match waiting {
            Some(connected) => (connected, true),
            None => match dial::dial(&worker, &loaded, cluster, &endpoint, want, is_fresh, None).await {
                Ok(connected) => connected,
                Err(failure) => return Err(self.fail(failure.stage, failure.reason)),
            },
        };
        if !self.is_counted {
            match loaded.clusters.get(cluster).limited.send(&settings.limits) {
                Ok(is_counted) => self.is_counted = is_counted,
                Err(reason) => {
                    if let Connected::Http1(connection) = connected {
                        endpoint.pool.put_http1(connection, worker.clock.now(), settings);
                        worker.look_after_pools();
                    }
                    return Err(self.fail(Stage::Connect, reason));
                }
            }
            loaded.count_recent(worker.clock.now(), cluster);
        }
        self.shadow.on_connected(worker.clock.now(), settings.limits.stream_duration_max);
        let result = match connected {
            Connected::Http1(mut connection) => {
                connection.requests += 1;
                let result = connection.client.send(inquiry.for_http1(), None, |_| Poll::<()>::Pending).await;
                result.map(|response| (response, Carrier::Http1 { connection, endpoint, cluster }))
            }
            Connected::Http2(stream) => {
                let mut client = stream.client();
                let result = client.send(inquiry.for_http2(), None, |_| Poll::<()>::Pending).await;
                result.map(|response| (response, Carrier::Http2 { _stream: stream }))
            }
        };
        let SendFailure { reason, sent, .. } = match result {
            Ok(answer) => return Ok(answer),
            Err(Some(failure)) => failure,
            Err(None) => return Err(Unanswered::Over),
        };
        let was_closed = reason == naru_base::Reason::UpstreamClosed && inquiry.head.method().is_idempotent();
        let may_repeat = sent == Sent::No || was_closed;
        if is_reused && may_repeat {
            return Err(Unanswered::Stale);
        }
        Err(self.fail(Stage::Exchange, reason))
    }

    /// Reads an answer to its end.
    async fn read(&mut self, response: Response<InBody>, mut carrier: Carrier) -> Option<Heard> {
        let (head, mut body) = response.into_parts();
        let has_ended = body.is_end_stream();
        let grpc = if has_ended { grpc_status(&head.headers) } else { None };
        self.shadow.on_head(self.worker.clock.now(), head.status.as_u16(), has_ended, grpc);
        let mut heard =
            Heard { status: head.status, headers: head.headers, body: Bytes::new(), trailers: None };
        let mut whole = Vec::new();
        while !body.is_end_stream() {
            match poll_fn(|cx| poll_body(&mut body, &mut carrier, cx)).await {
                None => break,
                Some(Err(_)) => {
                    self.fail(Stage::Exchange, naru_base::Reason::UpstreamAborted);
                    return None;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if whole.len() + data.len() > EXTERNAL_ANSWER_BYTES_MAX => return None,
                    Ok(data) => whole.extend_from_slice(&data),
                    Err(frame) => heard.trailers = frame.into_trailers().ok(),
                },
            }
        }
        self.shadow.on_end(self.worker.clock.now(), heard.trailers.as_ref().and_then(grpc_status));
        carrier.give_back(body, true, &self.worker, &self.loaded);
        heard.body = whole.into();
        Some(heard)
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let now = self.worker.clock.now();
        self.shadow.tick(now);
        self.shadow.on_abandoned(now);
        let cluster = self.loaded.clusters.get(self.shadow.cluster());
        if let (Some(report), Some(guarded)) = (self.shadow.take_report(), &cluster.guarded) {
            guarded.report(now, &self.shared, report);
        }
        self.shadow.leave(now, &self.loaded.snapshot, &self.loaded.clusters);
        if self.is_counted {
            cluster.limited.give_request_back();
        }
        if self.shadow.status() >= 500 || self.shadow.status() == 0 {
            self.shared.counts.errors_total.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.counts.active.fetch_sub(1, Ordering::Relaxed);
        add(&cluster.stats.requests_active, -1);
    }
}

impl Inquiry {
    fn for_http1(&self) -> Request<UploadBody> {
        let mut request = self.copied();
        let authority = self.head.uri().authority().map(|authority| authority.as_str());
        if let Some(host) = authority.and_then(|text| http::HeaderValue::from_str(text).ok()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let path = self.head.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")).into();
        request
    }

    fn for_http2(&self) -> Request<UploadBody> {
        let mut request = self.copied();
        *request.uri_mut() = self.head.uri().clone();
        *request.version_mut() = http::Version::HTTP_2;
        request
    }

    fn copied(&self) -> Request<UploadBody> {
        let mut request = Request::new(UploadBody::Whole(Some(self.body.clone())));
        *request.method_mut() = Method::clone(self.head.method());
        *request.headers_mut() = self.head.headers().clone();
        request
    }
}
