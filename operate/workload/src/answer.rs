//! What a request is answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use naru_base::Chance;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::body::{Body, drain};
use crate::calls::{Call, Calls};
use crate::grpc;
use crate::pages::{self, Changeable};
use crate::settings::WorkloadArgs;

/// Paths that are counted one by one; those that come later are counted together.
const PATHS_MAX: usize = 1_000;
const OTHER_PATHS: &str = "(others)";
/// Headers of the request that an answer tells, beside those of --forward-header.
static TOLD: [HeaderName; 2] = [HeaderName::from_static("end-user"), HeaderName::from_static("x-request-id")];

/// A service that pretends.
pub struct Service {
    args: WorkloadArgs,
    /// `reviews/v2`, in every answer.
    stamp: HeaderValue,
    pub now: RefCell<Changeable>,
    chance: RefCell<Chance>,
    /// Requests so far, by path.
    pub counts: RefCell<BTreeMap<String, u64>>,
    calls: Calls,
    ready_at: Instant,
    drain_tx: watch::Sender<bool>,
}

impl Service {
    pub fn new(args: WorkloadArgs) -> anyhow::Result<Service> {
        let body = match args.body.as_deref().map(|body| body.strip_prefix('@').ok_or(body)) {
            None => None,
            Some(Err(text)) => Some(Bytes::from(text.to_owned())),
            Some(Ok(file)) => {
                let read = std::fs::read(file).with_context(|| format!("the body '{file}' cannot be read"));
                Some(Bytes::from(read?))
            }
        };
        let name = args.full_name('/');
        Ok(Service {
            stamp: HeaderValue::from_str(&name).with_context(|| format!("'{name}' cannot be a header"))?,
            now: RefCell::new(Changeable {
                latency: args.latency,
                errors: args.errors,
                status: args.status,
                body,
            }),
            chance: RefCell::new(Chance::new(args.seed)),
            counts: RefCell::default(),
            calls: Calls::new(&args)?,
            ready_at: Instant::now() + args.start_after.map_or(Duration::ZERO, |after| after.0),
            drain_tx: watch::Sender::new(false),
            args,
        })
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let mut response = if parts.version == Version::HTTP_2 && grpc::is_grpc(&parts.headers) {
            grpc::answer(self, &parts, body).await
        } else {
            let response = match parts.uri.path() {
                "/healthz" | "/readyz" => self.health(),
                "/-/settings" => pages::settings(self, &parts.method, body).await,
                "/-/stats" => pages::stats(self),
                _ => self.work(&parts, body).await,
            };
            suited(response, &parts.method)
        };
        response.headers_mut().entry("x-workload").or_insert_with(|| self.stamp.clone());
        if self.args.log {
            self.log(&parts, &response, began.elapsed());
        }
        response
    }

    async fn work(&self, parts: &Parts, mut body: Incoming) -> Response<Body> {
        self.count(parts.uri.path());
        if drain(&mut body).await.is_err() {
            // Nobody is there to be answered.
            return Response::new(Body::empty());
        }
        let work = self.pretend(&parts.headers).await;
        let now = self.now.borrow();
        if work.fails {
            return self.outcome(now.errors.status, Bytes::from_static(b"an error, as asked for\n"));
        }
        if work.has_failed {
            return self.outcome(StatusCode::BAD_GATEWAY, self.tell(parts, work.calls));
        }
        if let Some(on) = self.args.on.iter().find(|on| on.path == parts.uri.path()) {
            return self.outcome(on.status, Bytes::from(on.body.clone()));
        }
        let body = now.body.clone();
        self.outcome(now.status, body.unwrap_or_else(|| self.tell(parts, work.calls)))
    }

    /// Takes its time, and makes the calls meanwhile.
    pub async fn pretend(&self, headers: &HeaderMap) -> Work {
        let (latency, fails) = {
            let (now, mut chance) = (self.now.borrow(), self.chance.borrow_mut());
            (now.latency.draw(&mut chance), now.errors.strikes(&mut chance))
        };
        let sleep = async {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
        };
        let (calls, ()) = tokio::join!(self.calls.make(headers), sleep);
        let has_failed = self.args.strict && calls.iter().any(|call| call.has_failed);
        Work { fails, has_failed, calls }
    }

    /// What is answered where nothing else was said.
    fn tell(&self, parts: &Parts, calls: Vec<Call>) -> Bytes {
        let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let named = TOLD.iter().chain(&self.args.forward_headers);
        let headers: Map<String, Value> =
            named.filter_map(|name| Some((name.to_string(), text(name)?.into()))).collect();
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let told = json!({
            "service": self.args.name,
            "version": self.args.version,
            "host": host.or_else(|| text(&header::HOST)),
            "path": parts.uri.path(),
            "method": parts.method.as_str(),
            "headers": headers,
            "calls": calls.into_iter().map(|call| call.told).collect::<Vec<Value>>(),
        });
        Bytes::from(format!("{told}\n"))
    }

    fn outcome(&self, status: StatusCode, body: Bytes) -> Response<Body> {
        let looks_like_json = matches!(body.first(), Some(b'{' | b'['));
        let kind = if looks_like_json { "application/json" } else { "text/plain; charset=UTF-8" };
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        for name in self.args.headers.iter().map(|(name, _)| name) {
            headers.remove(name);
        }
        for (name, value) in &self.args.headers {
            headers.append(name, value.clone());
        }
        response
    }

    fn health(&self) -> Response<Body> {
        let (status, text) = match self.ready_in() {
            None => (StatusCode::OK, "ok\n"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not yet\n"),
        };
        pages::text(status, text)
    }

    /// `None` where it is ready.
    pub fn ready_in(&self) -> Option<Duration> {
        Some(self.ready_at.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
    }

    pub fn count(&self, path: &str) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(path) {
            *count += 1;
        } else {
            let path = if counts.len() < PATHS_MAX { path } else { OTHER_PATHS };
            *counts.entry(path.to_owned()).or_default() += 1;
        }
    }

    pub fn drain(&self) {
        self.drain_tx.send_replace(true);
    }

    /// Ready once it is asked to end.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        let mut draining = self.drain_tx.subscribe();
        async move {
            if draining.wait_for(|is_draining| *is_draining).await.is_err() {
                // Nobody will ask any more.
                std::future::pending().await
            }
        }
    }

    fn log(&self, parts: &Parts, response: &Response<Body>, took: Duration) {
        let grpc = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
        let grpc = grpc.map(|status| format!(" grpc-status={status}")).unwrap_or_default();
        let (method, target) =
            (&parts.method, parts.uri.path_and_query().map_or("*", |target| target.as_str()));
        let status = response.status().as_u16();
        crate::print_line(&format!("{method} {target} {status}{grpc} {}ms", took.as_millis()));
    }
}

/// What came of pretending.
pub struct Work {
    /// This one is to fail.
    pub fails: bool,
    /// A call has failed, and that matters.
    pub has_failed: bool,
    pub calls: Vec<Call>,
}

/// Some answers have no body, whatever they would say.
fn suited(mut response: Response<Body>, method: &Method) -> Response<Body> {
    use http_body::Body as _;
    let length = response.body().size_hint().exact();
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = Body::empty();
    } else if *method == Method::HEAD
        && let Some(length) = length
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = Body::empty();
    }
    response
}
