//! Calls to others, made for every request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer::{Body, collect};
use crate::environment::Proxies;
use crate::serve::Local;
use crate::settings::WorkloadArgs;

/// More of an answer is not told.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections that wait, for each place.
const IDLE_MAX: usize = 32;
/// A proxy's answer to CONNECT has no more.
const CONNECT_BYTES_MAX: usize = 8 * 1024;

/// Headers that go on with every call: who asks, and what traces need (as Istio's Bookinfo has them).
const FORWARDED: [&str; 17] = [
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
    proxies: Proxies,
    /// Connections that wait, by the address that they lead to.
    idle: RefCell<BTreeMap<String, Vec<http1::SendRequest<Body>>>>,
}

struct GrpcMethod {
    authority: String,
    path: String,
}

/// One call that was made.
pub struct Call {
    pub told: Value,
    pub has_failed: bool,
}

impl Calls {
    pub fn new(args: &WorkloadArgs) -> anyhow::Result<Calls> {
        for url in &args.calls {
            if url.scheme_str() != Some("http") || url.authority().is_none() {
                bail!("'{url}' cannot be called: write http://host:port/path");
            }
        }
        let methods = args.grpc_calls.iter().map(|text| {
            let (authority, method) = text.split_once('/').with_context(|| {
                format!("'{text}' is no gRPC method: write host:port/package.Service/Method")
            })?;
            Ok(GrpcMethod { authority: authority.to_owned(), path: format!("/{method}") })
        });
        let known = FORWARDED.iter().map(|name| HeaderName::from_static(name));
        Ok(Calls {
            urls: args.calls.clone(),
            methods: methods.collect::<anyhow::Result<_>>()?,
            timeout: args.call_timeout.0,
            forwarded: known.chain(args.forward_headers.iter().cloned()).collect(),
            proxies: Proxies::of_environment(),
            idle: RefCell::default(),
        })
    }

    /// Makes all calls at once, in the name of a request with these headers.
    pub async fn make(&self, headers: &HeaderMap) -> Vec<Call> {
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
        let began = Instant::now();
        let result = tokio::time::timeout(self.timeout, self.exchange(url, headers)).await;
        let ms = began.elapsed().as_millis() as u64;
        let url = url.to_string();
        match result.unwrap_or_else(|_| Err(anyhow!("no answer within {:?}", self.timeout))) {
            Ok((status, body)) => Call {
                told: json!({ "url": url, "status": status, "ms": ms, "body": body }),
                has_failed: status >= 500,
            },
            Err(error) => Call {
                told: json!({ "url": url, "error": format!("{error:#}"), "ms": ms }),
                has_failed: true,
            },
        }
    }

    async fn exchange(&self, url: &Uri, headers: &HeaderMap) -> anyhow::Result<(u16, Value)> {
        let authority = url.authority().context("no host")?;
        let proxy = self.proxies.http.as_ref().filter(|_| !self.proxies.is_exempt(authority.as_str()));
        let port = url.port_u16().unwrap_or(80);
        let direct = format!("{}:{port}", authority.host());
        let address = proxy.cloned().unwrap_or(direct);
        let mut client = self.connection(&address).await?;
        let mut request = Request::new(Body::empty());
        // A proxy is told the whole place, a server only the path.
        *request.uri_mut() = match (proxy, url.path_and_query()) {
            (Some(_), _) | (None, None) => url.clone(),
            (None, Some(path)) => path.clone().into(),
        };
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        let response = client.send_request(request).await?;
        let status = response.status().as_u16();
        let body = collect(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|why| anyhow!(why))?;
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(address).or_default();
        if waiting.len() < IDLE_MAX && !client.is_closed() {
            waiting.push(client);
        }
        let text = String::from_utf8_lossy(&body);
        Ok((status, serde_json::from_str(&text).unwrap_or_else(|_| json!(text.trim_end()))))
    }

    async fn connection(&self, address: &str) -> anyhow::Result<http1::SendRequest<Body>> {
        let taken = |idle: &RefCell<BTreeMap<String, Vec<http1::SendRequest<Body>>>>| {
            idle.borrow_mut().get_mut(address).and_then(Vec::pop)
        };
        while let Some(mut client) = taken(&self.idle) {
            if client.ready().await.is_ok() {
                return Ok(client);
            }
        }
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // A connection that breaks is seen by the request on it.
            let _ = connection.await;
        });
        Ok(client)
    }

    async fn call_grpc(&self, method: &GrpcMethod, headers: &HeaderMap) -> Call {
        let began = Instant::now();
        let result = tokio::time::timeout(self.timeout, self.exchange_grpc(method, headers)).await;
        let ms = began.elapsed().as_millis() as u64;
        let name = format!("{}{}", method.authority, method.path);
        match result.unwrap_or_else(|_| Err(anyhow!("no answer within {:?}", self.timeout))) {
            Ok(status) => Call {
                told: json!({ "grpc": name, "grpc_status": status, "ms": ms }),
                has_failed: status != 0,
            },
            Err(error) => Call {
                told: json!({ "grpc": name, "error": format!("{error:#}"), "ms": ms }),
                has_failed: true,
            },
        }
    }

    /// One unary call with an empty message; its status.
    async fn exchange_grpc(&self, method: &GrpcMethod, headers: &HeaderMap) -> anyhow::Result<u16> {
        let proxy = self.proxies.grpc.as_ref().filter(|_| !self.proxies.is_exempt(&method.authority));
        let stream = match proxy {
            None => TcpStream::connect(&method.authority).await?,
            Some(proxy) => tunnel(proxy, &method.authority).await?,
        };
        let (mut client, connection) = http2::handshake(Local, TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let mut request = Request::new(Body::whole(Bytes::from_static(&[0, 0, 0, 0, 0])));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://{}{}", method.authority, method.path).parse()?;
        *request.headers_mut() = headers.clone();
        let own = request.headers_mut();
        own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        own.insert(header::TE, HeaderValue::from_static("trailers"));
        let (parts, mut body) = client.send_request(request).await?.into_parts();
        let mut status = grpc_status(&parts.headers);
        use http_body::Body as _;
        while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
        {
            if let Some(trailers) = frame?.trailers_ref() {
                status = status.or(grpc_status(trailers));
            }
        }
        status.context("the answer has no grpc-status")
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A tunnel through a proxy (RFC 9110, section 9.3.6), as gRPC libraries ask for it.
async fn tunnel(proxy: &str, authority: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await.with_context(|| format!("cannot connect to {proxy}"))?;
    stream.set_nodelay(true)?;
    let head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to whoever is at the other end.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= CONNECT_BYTES_MAX {
            bail!("the proxy {proxy} answers CONNECT with too much");
        }
        answer.push(stream.read_u8().await.with_context(|| format!("the proxy {proxy} hung up"))?);
    }
    let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or(b"");
    if status.first() != Some(&b'2') {
        bail!("the proxy {proxy} answers CONNECT with {}", String::from_utf8_lossy(status));
    }
    Ok(stream)
}

type Making<'a> = std::pin::Pin<Box<dyn Future<Output = Call> + 'a>>;

/// All of them at once, in their order.
async fn join(mut futures: Vec<Making<'_>>) -> Vec<Call> {
    let mut done: Vec<Option<Call>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut is_pending = false;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(call) => *done = Some(call),
                    std::task::Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
