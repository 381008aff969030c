//! Keys, fetched from an endpoint of their cluster by a request of naru's own.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Request, StatusCode};
use http_body::Body as _;
use naru_jose::JWKS_BYTES_MAX;
use naru_spec::RemoteKeys;
use tokio::net::TcpStream;

use crate::codec::{Inquirer, WholeBody};
use crate::loaded::Loaded;
use crate::socket::Socket;

/// The text of keys. `None` where there is no answer, not a good one, or one that is too large. The caller bounds its
/// time. `nth` has another endpoint asked each time.
pub(super) async fn fetch(loaded: &Loaded, remote: &RemoteKeys, nth: u64) -> Option<Bytes> {
    let id = loaded.cluster_ids().find(|id| loaded.snapshot.cluster(*id).name == remote.cluster)?;
    let endpoints = loaded.clusters.get(id).endpoints();
    let at = usize::try_from(nth).ok()?.checked_rem(endpoints.len())?;
    let endpoint = endpoints.get(at)?.shared();
    let stream = match endpoint.path() {
        Some(path) => Socket::connect_unix(path).await.ok()?,
        None => Socket::Tcp(TcpStream::connect(endpoint.address).await.ok()?),
    };
    let mut line = match loaded.prepared.connectors(id) {
        Some(connectors) => {
            let (stream, _) = connectors.http1.connect(stream).await.ok()?;
            Inquirer::http1(stream).await?
        }
        None => Inquirer::http1(stream).await?,
    };
    let uri: Uri = remote.uri.parse().ok()?;
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut request = Request::new(WholeBody::of(Bytes::new()));
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(uri.authority()?.as_str()).ok()?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("naru"));
    let (head, mut body) = line.ask(request).await.ok()?.into_parts();
    if head.status != StatusCode::OK {
        return None;
    }
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.ok()?;
        whole.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        if whole.len() > JWKS_BYTES_MAX {
            return None;
        }
    }
    Some(whole.into())
}
