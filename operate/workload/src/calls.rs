//! Calls to others, made for every request.

mod grpc;
mod http;

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::http::Uri;
use ::http::header::{HeaderMap, HeaderName};
use anyhow::bail;
use serde_json::{Map, Value};

use crate::environment::Proxies;
use crate::settings::{GrpcMethod, WorkloadArgs};

/// Headers that go on with every call: who asks, and what traces need (as Istio's Bookinfo has them).
const FORWARDED: [&str; 18] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

pub struct Calls {
    urls: Vec<Uri>,
    methods: Vec<GrpcMethod>,
    timeout: Duration,
    forwarded: Vec<HeaderName>,
    http: http::Pool,
    grpc: grpc::Channels,
}

/// One call that was made.
pub struct Call {
    pub told: Value,
    pub has_failed: bool,
}

impl Calls {
    pub fn new(args: &WorkloadArgs) -> anyhow::Result<Calls> {
        let has_calls = !args.calls.is_empty() || !args.grpc_calls.is_empty();
        let proxies = if has_calls { Proxies::of_environment()? } else { Proxies::default() };
        let known = FORWARDED.iter().map(|name| HeaderName::from_static(name));
        Ok(Calls {
            urls: args.calls.clone(),
            methods: args.grpc_calls.clone(),
            timeout: args.call_timeout.0,
            forwarded: known.chain(args.forward_headers.iter().cloned()).collect(),
            http: http::Pool::new(proxies.clone()),
            grpc: grpc::Channels::new(proxies, args.call_timeout.0),
        })
    }

    /// Makes all calls at once, in the name of a request with these headers.
    pub async fn make(&self, headers: &HeaderMap) -> Vec<Call> {
        if self.urls.is_empty() && self.methods.is_empty() {
            return Vec::new();
        }
        let mut forwarded = HeaderMap::new();
        for name in &self.forwarded {
            for value in headers.get_all(name) {
                forwarded.append(name, value.clone());
            }
        }
        let http = self.urls.iter().map(|url| Box::pin(self.call(url, &forwarded)) as Making<'_>);
        let grpc =
            self.methods.iter().map(|method| Box::pin(self.call_grpc(method, &forwarded)) as Making<'_>);
        join(http.chain(grpc).collect()).await
    }

    async fn call(&self, url: &Uri, headers: &HeaderMap) -> Call {
        let told = self.timed(self.http.get(url, headers)).await;
        told_as("url", url.to_string(), told, |(status, body), told| {
            told.insert("status".into(), status.into());
            told.insert("body".into(), body);
            status >= 400
        })
    }

    async fn call_grpc(&self, method: &GrpcMethod, headers: &HeaderMap) -> Call {
        let told = self.timed(self.grpc.call(method, headers)).await;
        told_as("grpc", format!("{}{}", method.authority, method.path), told, |status, told| {
            told.insert("grpc_status".into(), status.into());
            status != 0
        })
    }

    async fn timed<T>(&self, call: impl Future<Output = anyhow::Result<T>>) -> (anyhow::Result<T>, Duration) {
        let began = Instant::now();
        let result = match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => result,
            Err(_) => (|| bail!("no answer within {:?}", self.timeout))(),
        };
        (result, began.elapsed())
    }
}

/// `tell` adds what was answered, and says whether that is a failure.
fn told_as<T>(
    kind: &str,
    name: String,
    (result, took): (anyhow::Result<T>, Duration),
    tell: impl FnOnce(T, &mut Map<String, Value>) -> bool,
) -> Call {
    let mut told = Map::new();
    told.insert(kind.into(), name.into());
    told.insert("ms".into(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into());
    let has_failed = match result {
        Ok(answer) => tell(answer, &mut told),
        Err(error) => {
            told.insert("error".into(), format!("{error:#}").into());
            true
        }
    };
    Call { told: told.into(), has_failed }
}

type Making<'a> = Pin<Box<dyn Future<Output = Call> + 'a>>;

/// All of them at once, in their order.
async fn join(mut futures: Vec<Making<'_>>) -> Vec<Call> {
    let mut done: Vec<Option<Call>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut is_pending = false;
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(call) => *done = Some(call),
                Poll::Pending => is_pending = true,
            }
        }
        if is_pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
