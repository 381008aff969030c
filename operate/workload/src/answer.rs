//! What a request is answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use naru_base::Chance;
use serde_json::{Value, json};

use crate::calls::Calls;
use crate::grpc::{self, Echo};
use crate::settings::{Errors, Latency, OnPath, WorkloadArgs};

/// A service that pretends.
pub struct Service {
    args: WorkloadArgs,
    headers: Vec<(HeaderName, HeaderValue)>,
    now: RefCell<Changeable>,
    chance: RefCell<Chance>,
    counts: RefCell<BTreeMap<String, u64>>,
    calls: Calls,
    started: Instant,
}

/// What `/-/settings` changes.
struct Changeable {
    latency: Latency,
    errors: Errors,
    status: StatusCode,
    body: Option<Bytes>,
}

impl Service {
    pub fn new(args: WorkloadArgs) -> anyhow::Result<Service> {
        let body = match &args.body {
            None => None,
            Some(text) => Some(match text.strip_prefix('@') {
                Some(file) => {
                    Bytes::from(std::fs::read(file).with_context(|| format!("'{file}' cannot be read"))?)
                }
                None => Bytes::from(text.clone()),
            }),
        };
        let headers = args.headers.iter().map(|text| {
            let (name, value) = text
                .split_once(':')
                .with_context(|| format!("'{text}' is no header: write 'name: value'"))?;
            Ok((HeaderName::from_bytes(name.trim().as_bytes())?, HeaderValue::from_str(value.trim())?))
        });
        Ok(Service {
            headers: headers.collect::<anyhow::Result<_>>()?,
            now: RefCell::new(Changeable {
                latency: args.latency,
                errors: args.errors,
                status: args.status,
                body,
            }),
            chance: RefCell::new(Chance::new(args.seed)),
            counts: RefCell::default(),
            calls: Calls::new(&args)?,
            started: Instant::now(),
            args,
        })
    }

    pub fn full_name(&self) -> String {
        self.args.full_name()
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if grpc::is_grpc(&parts.headers) {
            return self.answer_grpc(&parts, body).await;
        }
        let response = match path.as_str() {
            "/healthz" | "/readyz" => self.health(),
            "/-/settings" => self.settings(&parts.method, body).await,
            "/-/stats" => json_response(StatusCode::OK, &json!(*self.counts.borrow())),
            _ => self.work(&parts, body).await,
        };
        if self.args.log {
            let status = response.status().as_u16();
            let took = began.elapsed().as_millis();
            crate::println_line(&format!("{} {} {status} {took}ms", parts.method, parts.uri));
        }
        response
    }

    async fn work(&self, parts: &http::request::Parts, body: Incoming) -> Response<Body> {
        *self.counts.borrow_mut().entry(parts.uri.path().to_owned()).or_default() += 1;
        if drain(body).await.is_err() {
            // Nobody is there to be answered.
            return Response::new(Body::empty());
        }
        let (latency, fails) = self.draw();
        let (calls, ()) = tokio::join!(self.calls.make(&parts.headers), tokio::time::sleep(latency));
        let now = self.now.borrow();
        if fails {
            return self.stamped(
                now.errors.status,
                Bytes::from_static(b"an error, as asked for\n"),
                "text/plain",
            );
        }
        if let Some(OnPath { status, body, .. }) = self.args.on.iter().find(|on| on.path == parts.uri.path())
        {
            return self.stamped(*status, Bytes::from(body.clone()), "text/plain");
        }
        let has_failed = calls.iter().any(|call| call.has_failed);
        let status = if has_failed && self.args.strict { StatusCode::BAD_GATEWAY } else { now.status };
        if let Some(body) = &now.body {
            let kind = if body.starts_with(b"{") || body.starts_with(b"[") {
                "application/json"
            } else {
                "text/plain"
            };
            return self.stamped(status, body.clone(), kind);
        }
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let host = parts.uri.host().or_else(|| text("host"));
        let answer = json!({
            "service": self.args.name,
            "version": self.args.version,
            "method": parts.method.as_str(),
            "host": host,
            "path": parts.uri.path(),
            "headers": { "end-user": text("end-user"), "x-request-id": text("x-request-id") },
            "calls": calls.into_iter().map(|call| call.told).collect::<Vec<Value>>(),
        });
        let mut text = answer.to_string();
        text.push('\n');
        self.stamped(status, Bytes::from(text), "application/json")
    }

    fn draw(&self) -> (Duration, bool) {
        let now = self.now.borrow();
        let mut chance = self.chance.borrow_mut();
        (now.latency.draw(&mut chance), now.errors.strikes(&mut chance))
    }

    fn stamped(&self, status: StatusCode, body: Bytes, content_type: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.stamp(headers);
        response
    }

    fn stamp(&self, headers: &mut HeaderMap) {
        let name = self.full_name().replace(' ', "/");
        if let Ok(name) = HeaderValue::from_str(&name) {
            headers.insert("x-workload", name);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
    }

    fn is_ready(&self) -> bool {
        self.args.start_after.is_none_or(|after| self.started.elapsed() >= after.0)
    }

    fn health(&self) -> Response<Body> {
        let (status, text) = if self.is_ready() {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not yet\n")
        };
        self.stamped(status, Bytes::from_static(text.as_bytes()), "text/plain")
    }

    async fn settings(&self, method: &Method, body: Incoming) -> Response<Body> {
        if *method != Method::GET {
            let bytes = match collect(body, 64 * 1024).await {
                Ok(bytes) => bytes,
                Err(why) => return json_response(StatusCode::BAD_REQUEST, &json!({ "error": why })),
            };
            if let Err(why) = self.change(&bytes) {
                return json_response(StatusCode::BAD_REQUEST, &json!({ "error": why }));
            }
        }
        let now = self.now.borrow();
        let body = now.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
        let told = json!({
            "latency": now.latency.to_string(),
            "errors": now.errors.to_string(),
            "status": now.status.as_u16(),
            "body": body,
        });
        json_response(StatusCode::OK, &told)
    }

    /// All of it, or nothing.
    fn change(&self, bytes: &[u8]) -> Result<(), String> {
        let asked: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let fields = asked.as_object().ok_or("an object is expected")?;
        let mut now = self.now.borrow_mut();
        let mut next = Changeable {
            latency: now.latency,
            errors: now.errors,
            status: now.status,
            body: now.body.clone(),
        };
        for (name, value) in fields {
            let text = || value.as_str().ok_or_else(|| format!("'{name}' must be a text"));
            match name.as_str() {
                "latency" => next.latency = text()?.parse()?,
                "errors" => next.errors = text()?.parse()?,
                "status" => {
                    let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
                    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
                    next.status = status.ok_or("'status' must be a status")?;
                }
                "body" if value.is_null() => next.body = None,
                "body" => next.body = Some(Bytes::from(text()?.to_owned())),
                other => return Err(format!("there is no setting '{other}': latency, errors, status, body")),
            }
        }
        *now = next;
        Ok(())
    }

    async fn answer_grpc(&self, parts: &http::request::Parts, body: Incoming) -> Response<Body> {
        let path = parts.uri.path();
        if let Some(method) = path.strip_prefix("/grpc.health.v1.Health/") {
            let is_watch = method == "Watch";
            return grpc::health(body, self.is_ready(), is_watch).await;
        }
        *self.counts.borrow_mut().entry(path.to_owned()).or_default() += 1;
        let (latency, fails) = self.draw();
        tokio::time::sleep(latency).await;
        if fails {
            return grpc::status_only(14, "an error, as asked for");
        }
        let mut response = Response::new(Body::echo(Echo::new(body, &parts.headers)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.stamp(headers);
        response
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a body to its end and keeps nothing.
async fn drain(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

/// A whole body of at most `max` bytes.
pub async fn collect(mut body: Incoming, max: usize) -> Result<Bytes, String> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > max {
                return Err(format!("more than {max} bytes"));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(Bytes::from(all))
}

/// The body of an answer.
pub enum Body {
    Whole(Option<Bytes>),
    Echo(Box<Echo>),
}

impl Body {
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    pub fn whole(bytes: Bytes) -> Body {
        Body::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub fn echo(echo: Echo) -> Body {
        Body::Echo(Box::new(echo))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Echo(echo) => echo.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Echo(_) => SizeHint::default(),
        }
    }
}
