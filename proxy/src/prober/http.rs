//! A probe by a request: Envoy's `HttpHealthCheckerImpl`.
//!
//! Of an answer the status and two headers are looked at. `x-envoy-upstream-healthchecked-cluster`
//! says something in Envoy only where a `service_name_matcher` asks for it, which is not supported.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use naru_guard::ProbeResult;
use naru_spec::HttpCheck;

use super::{Line, ProbeSettings, Speaks, Target, USER_AGENT, dial};
use crate::codec::{HyperBody, Inquirer, Unanswered, WholeBody};

/// An answer that is longer has said all that is asked for: it is not read on, and its connection
/// not used again. Envoy reads it to its end.
const BODY_BYTES_MAX: usize = 64 * 1024;

const X_ENVOY_DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
/// In the answer to a probe, and in that to a request.
pub const X_ENVOY_IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

/// `None` where the connection or the stream broke, or could not be made.
pub async fn ask(
    settings: &ProbeSettings,
    check: &HttpCheck,
    address: &Target,
    kept: Option<Line>,
) -> Option<(ProbeResult, Option<Line>)> {
    let speaks = if check.is_http2 { Speaks::Http2 } else { Speaks::Http1 };
    let inquiry = Inquiry {
        method: &check.method,
        path: PathAndQuery::try_from(check.path.as_str()).ok()?,
        host: &check.host,
        headers: &check.headers,
        body: Bytes::new(),
    };
    let (response, line) = exchange(settings, inquiry, speaks, address, kept).await?;
    let (head, mut body) = response.into_parts();
    let mut left = BODY_BYTES_MAX;
    let is_read = loop {
        match next_frame(&mut body).await {
            None => break true,
            Some(frame) => {
                let bytes = frame.ok()?.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(bytes) {
                    Some(less) => left = less,
                    None => break false,
                }
            }
        }
    };
    let result = ProbeResult::Http {
        status: head.status.as_u16(),
        is_degraded: head.headers.contains_key(X_ENVOY_DEGRADED),
        has_immediate_fail: head.headers.contains_key(X_ENVOY_IMMEDIATE_FAIL),
    };
    Some((result, is_read.then_some(Line::Http(line))))
}

/// What is asked.
pub(super) struct Inquiry<'a> {
    pub method: &'a Method,
    pub path: PathAndQuery,
    /// Empty is the name of the cluster.
    pub host: &'a str,
    pub headers: &'a [(HeaderName, HeaderValue)],
    pub body: Bytes,
}

/// The head of an answer, and the connection that its body comes by. A kept connection that has
/// ended before the request was sent is replaced by a new one.
pub(super) async fn exchange(
    settings: &ProbeSettings,
    inquiry: Inquiry<'_>,
    speaks: Speaks,
    address: &Target,
    kept: Option<Line>,
) -> Option<(Response<HyperBody>, Inquirer)> {
    let mut request = request(settings, inquiry, speaks, address)?;
    if let Some(Line::Http(mut line)) = kept
        && line.is_open()
    {
        match line.ask(request).await {
            Ok(response) => return Some((response, line)),
            Err(Unanswered::Unsent(unsent)) => request = *unsent,
            Err(Unanswered::Broken) => return None,
        }
    }
    let stream = dial(settings, address, speaks).await.ok()?;
    let mut line = match speaks {
        Speaks::Http1 => Inquirer::http1(stream).await?,
        Speaks::Http2 => Inquirer::http2(stream, settings.http2).await?,
    };
    let response = line.ask(request).await.ok()?;
    Some((response, line))
}

fn request(
    settings: &ProbeSettings,
    inquiry: Inquiry<'_>,
    speaks: Speaks,
    address: &Target,
) -> Option<Request<WholeBody>> {
    let host = if inquiry.host.is_empty() { &settings.cluster } else { inquiry.host };
    let mut headers = HeaderMap::new();
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(inquiry.path);
    let mut request = Request::new(WholeBody::of(inquiry.body));
    match speaks {
        Speaks::Http1 => {
            headers.insert(header::HOST, HeaderValue::from_str(host).ok()?);
        }
        Speaks::Http2 => {
            // Names of clusters may have what no authority has; the endpoint's own address is one.
            let authority =
                Authority::try_from(host).or_else(|_| Authority::try_from(address.address.to_string()));
            uri.authority = Some(authority.ok()?);
            let is_tls = settings.connectors.is_some();
            uri.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
            *request.version_mut() = Version::HTTP_2;
        }
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in inquiry.headers {
        headers.append(name, value.clone());
    }
    *request.method_mut() = inquiry.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

pub(super) async fn next_frame(
    body: &mut HyperBody,
) -> Option<Result<http_body::Frame<Bytes>, crate::codec::BodyBroken>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
