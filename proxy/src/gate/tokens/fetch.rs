//! Keys, fetched from an endpoint of their cluster by a request of naru's own.

use bytes::Bytes;
use http::{Method, StatusCode};
use naru_jose::JWKS_BYTES_MAX;
use naru_spec::RemoteKeys;

use crate::asking;
use crate::loaded::Loaded;

/// The text of keys. `None` where there is no answer, not a good one, or one that is too large. The caller bounds its
/// time. `nth` has another endpoint asked each time.
pub(super) async fn fetch(loaded: &Loaded, remote: &RemoteKeys, nth: u64) -> Option<Bytes> {
    let request = asking::request(Method::GET, &remote.uri, Bytes::new())?;
    let (status, text) = asking::ask(loaded, &remote.cluster, nth, request, JWKS_BYTES_MAX).await.ok()?;
    (status == StatusCode::OK).then_some(text)
}
