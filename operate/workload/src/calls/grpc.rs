//! Calls over gRPC, through a tunnel where there is a proxy, on channels that are kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::body::{Body, next_frame};
use crate::environment::Proxies;
use crate::serve::Local;
use crate::settings::GrpcMethod;

/// A message without fields, in its frame.
const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];
/// A proxy's answer to CONNECT has no more.
const CONNECT_BYTES_MAX: usize = 8 * 1024;

pub struct Channels {
    proxies: Proxies,
    timeout: HeaderValue,
    /// A connection for each place.
    open: RefCell<BTreeMap<String, SendRequest<Body>>>,
}

impl Channels {
    pub fn new(proxies: Proxies, timeout: Duration) -> Channels {
        // Digits and a unit; eight digits at most (gRPC over HTTP/2, `Timeout`).
        let millis = timeout.as_millis();
        let timeout = if millis < 100_000_000 { format!("{millis}m") } else { "99999999S".to_owned() };
        let timeout = HeaderValue::from_str(&timeout).unwrap_or(HeaderValue::from_static("5S"));
        Channels { proxies, timeout, open: RefCell::default() }
    }

    /// One unary call with an empty message; its status.
    pub async fn call(&self, method: &GrpcMethod, headers: &HeaderMap) -> anyhow::Result<u16> {
        let (parts, mut body) = self.exchange(method, headers).await?.into_parts();
        let mut status = grpc_status(&parts.headers);
        while let Some(frame) = next_frame(&mut body).await {
            if let Some(trailers) = frame?.trailers_ref() {
                status = status.or(grpc_status(trailers));
            }
        }
        status.with_context(|| format!("the answer has status {} and no grpc-status", parts.status.as_u16()))
    }

    async fn exchange(&self, method: &GrpcMethod, headers: &HeaderMap) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::new(Body::whole(Bytes::from_static(EMPTY_MESSAGE)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://{}{}", method.authority, method.path).parse()?;
        *request.headers_mut() = headers.clone();
        let own = request.headers_mut();
        own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        own.insert(header::TE, HeaderValue::from_static("trailers"));
        own.insert("grpc-timeout", self.timeout.clone());
        loop {
            let known = self.open.borrow().get(method.authority.as_str()).cloned();
            let known = known.filter(|channel| !channel.is_closed());
            let was_open = known.is_some();
            let mut channel = match known {
                Some(channel) => channel,
                None => self.open(&method.authority).await?,
            };
            let mut error = match channel.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            self.open.borrow_mut().remove(method.authority.as_str());
            match error.take_message() {
                // It was never sent: the channel had ended meanwhile.
                Some(unsent) if was_open => request = unsent,
                _ => {
                    return Err(error.into_error())
                        .with_context(|| format!("no answer from {}", method.authority));
                }
            }
        }
    }

    async fn open(&self, authority: &Authority) -> anyhow::Result<SendRequest<Body>> {
        let stream = match self.proxies.for_grpc(authority.host(), authority.port_u16().unwrap_or(80)) {
            Some(proxy) => tunnel(proxy, authority).await?,
            None => connect(authority.as_str()).await?,
        };
        let (channel, connection) = handshake(Local, TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // A channel that breaks is seen by the calls on it.
            let _ = connection.await;
        });
        self.open.borrow_mut().insert(authority.to_string(), channel.clone());
        Ok(channel)
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A tunnel through a proxy (RFC 9110, section 9.3.6), as gRPC libraries ask for it.
async fn tunnel(proxy: &str, authority: &Authority) -> anyhow::Result<TcpStream> {
    let mut stream = connect(proxy).await?;
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
    let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status.len() != 3 || status.first() != Some(&b'2') {
        bail!("the proxy {proxy} answers CONNECT with {}", String::from_utf8_lossy(status));
    }
    Ok(stream)
}
