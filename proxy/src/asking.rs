//! Requests that naru makes by itself of an endpoint of a cluster: for the keys of an issuer, of a provider that says who
//! logs in.
//!
//! Each has a connection of its own, with the cluster's TLS. Nobody bounds its time but the caller.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Body as _;
use tokio::net::TcpStream;

use crate::codec::{Inquirer, WholeBody};
use crate::loaded::Loaded;
use crate::socket::Socket;

/// A request for JSON. `None` where the address is none.
pub fn request(method: Method, address: &str, body: Bytes) -> Option<Request<WholeBody>> {
    let uri: Uri = address.parse().ok()?;
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let has_body = method == Method::POST;
    let length = body.len();
    let mut request = Request::new(WholeBody::of(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(uri.authority()?.as_str()).ok()?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("naru"));
    if has_body {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(request)
}

/// The answer, as long as it has no more than `bytes_max`. `nth` has another endpoint asked each time.
///
/// # Errors
/// There is none, and why.
pub async fn ask(
    loaded: &Loaded,
    cluster: &str,
    nth: u64,
    request: Request<WholeBody>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), &'static str> {
    let id = loaded.cluster_ids().find(|id| loaded.snapshot.cluster(*id).name == cluster);
    let id = id.ok_or("there is no cluster for it")?;
    let endpoints = loaded.clusters.get(id).endpoints();
    let at = usize::try_from(nth).ok().and_then(|nth| nth.checked_rem(endpoints.len()));
    let endpoint = at.and_then(|at| endpoints.get(at)).ok_or("its name has no address")?.shared();
    drop(endpoints);
    let refused = "it takes no connection";
    let stream = match endpoint.path() {
        Some(path) => Socket::connect_unix(path).await.map_err(|_| refused)?,
        None => Socket::Tcp(TcpStream::connect(endpoint.address).await.map_err(|_| refused)?),
    };
    let line = match loaded.prepared.connectors(id) {
        Some(connectors) => {
            let (stream, _) = connectors.http1.connect(stream).await.map_err(|_| "TLS with it fails")?;
            Inquirer::http1(stream).await
        }
        None => Inquirer::http1(stream).await,
    };
    let mut line = line.ok_or(refused)?;
    let (head, mut body) = line.ask(request).await.map_err(|_| "it gives no answer")?.into_parts();
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| "its answer breaks off")?;
        whole.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        if whole.len() > bytes_max {
            return Err("its answer is too long");
        }
    }
    Ok((head.status, whole.into()))
}
