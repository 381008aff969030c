//! Calls over HTTP/1.1, through the proxy where there is one, on connections that are kept.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::body::{Body, collect};
use crate::environment::Proxies;

/// More of an answer is not told.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections that wait, for each place.
const IDLE_MAX: usize = 32;

pub struct Pool {
    proxies: Proxies,
    /// Connections that wait, by the address that they lead to.
    idle: RefCell<BTreeMap<String, Vec<SendRequest<Body>>>>,
}

/// Where a request goes first, and what it asks for there.
struct Way {
    address: String,
    target: Uri,
    host: HeaderValue,
}

impl Pool {
    pub fn new(proxies: Proxies) -> Pool {
        Pool { proxies, idle: RefCell::default() }
    }

    /// The status and the body; that is JSON where it can be read as such, else a string.
    pub async fn get(&self, url: &Uri, headers: &HeaderMap) -> anyhow::Result<(u16, Value)> {
        let way = self.way(url)?;
        let (client, response) = self.exchange(&way, headers).await?;
        let (parts, mut body) = response.into_parts();
        let body = collect(&mut body, ANSWER_BYTES_MAX).await.map_err(|why| anyhow!(why))?;
        self.keep(way.address, client);
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&body).trim_end()));
        Ok((parts.status.as_u16(), body))
    }

    fn way(&self, url: &Uri) -> anyhow::Result<Way> {
        let authority = url.authority().context("it names no host")?;
        let port = url.port_u16().unwrap_or(80);
        let host = HeaderValue::from_str(authority.as_str())?;
        Ok(match self.proxies.for_http(authority.host(), port) {
            // A proxy is told the whole place (RFC 9112, section 3.2.2).
            Some(proxy) => Way { address: proxy.to_owned(), target: url.clone(), host },
            None => {
                let path = url.path_and_query().map_or("/", |path| path.as_str());
                Way { address: format!("{}:{port}", authority.host()), target: path.parse()?, host }
            }
        })
    }

    async fn exchange(
        &self,
        way: &Way,
        headers: &HeaderMap,
    ) -> anyhow::Result<(SendRequest<Body>, Response<Incoming>)> {
        loop {
            let waiting = self.waiting(&way.address).await;
            let has_waited = waiting.is_some();
            let mut client = match waiting {
                Some(client) => client,
                None => connect(&way.address).await?,
            };
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = way.target.clone();
            *request.headers_mut() = headers.clone();
            request.headers_mut().insert(header::HOST, way.host.clone());
            match client.send_request(request).await {
                Ok(response) => return Ok((client, response)),
                // The other end may close a connection that waits just when it is used, and a GET may
                // be sent again (RFC 9112, section 9.3.1).
                Err(_) if has_waited => {}
                Err(error) => return Err(error).with_context(|| format!("no answer from {}", way.address)),
            }
        }
    }

    /// A connection that has waited and still stands.
    async fn waiting(&self, address: &str) -> Option<SendRequest<Body>> {
        loop {
            let mut client = self.idle.borrow_mut().get_mut(address)?.pop()?;
            if client.ready().await.is_ok() {
                return Some(client);
            }
        }
    }

    fn keep(&self, address: String, client: SendRequest<Body>) {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(address).or_default();
        waiting.retain(|client| !client.is_closed());
        if waiting.len() < IDLE_MAX && !client.is_closed() {
            waiting.push(client);
        }
    }
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (client, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // A connection that breaks is seen by the request on it.
        let _ = connection.await;
    });
    Ok(client)
}
