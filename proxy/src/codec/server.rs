//! The client's side: requests in, responses out.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_base::Reason;
use naru_spec::{Http, Http2Settings};

use super::http2::server::{Limits, Told};
use super::{InBody, http2};
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::settle::{Broken, OutBody};
use crate::stall::{Stall, Turns};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Why a connection ended otherwise than in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// What the client sent is not HTTP, or more than is allowed. It was answered where it could be.
    Protocol(Reason),
    /// The connection broke, or was broken off.
    Broken,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The requests that have begun are finished, and no more are taken.
    Gently,
    AtOnce,
}

/// What a connection begins with and keeps, whatever the configuration becomes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    header_bytes_max: u32,
    header_count_max: u32,
    request_headers_timeout: Option<Duration>,
    http2: Http2Settings,
}

impl Terms {
    pub fn of(http: &Http) -> Terms {
        Terms {
            header_bytes_max: http.header_bytes_max,
            header_count_max: http.header_count_max,
            request_headers_timeout: http.request_headers_timeout,
            http2: http.http2,
        }
    }
}

/// Serves one connection until it ends. `leave` is asked at every turn. A request that `stall` tells of is broken
/// off, and with it the connection (HTTP/1) or its stream (HTTP/2).
///
/// What is left of a connection of HTTP/1 is returned: it goes on where a CONNECT was answered by 200, which hyper
/// takes for the end of HTTP on it.
pub async fn serve<S, F>(
    client: Lingering,
    protocol: Protocol,
    http: Terms,
    service: S,
    mut leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
    tell: impl FnMut(Told),
) -> Result<Option<Conduit>, ServeError>
where
    S: Fn(Request<InBody>) -> F,
    F: Future<Output = Result<Response<OutBody>, Broken>> + 'static,
{
    if protocol == Protocol::Http2 {
        let Terms { header_bytes_max, request_headers_timeout: headers_timeout, http2: settings, .. } = http;
        let limits = Limits { settings, header_bytes_max, headers_timeout };
        // It is boxed so that those of HTTP/1 need no room for it.
        let served = Box::pin(http2::server::serve(client, limits, service, leave, stall, tell));
        return served.await.map(|()| None);
    }
    let io = TokioIo::new(client);
    let service = service_fn(move |request: Request<Incoming>| service(request.map(InBody::http1)));
    let header_bytes_max = http.header_bytes_max as usize;
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .max_headers(http.header_count_max as usize)
        .max_header_size(header_bytes_max)
        .max_buf_size(header_bytes_max.max(8 * 1024) + 64 * 1024)
        .header_read_timeout(http.request_headers_timeout);
    if http.request_headers_timeout.is_some() {
        builder.timer(hyper_util::rt::TokioTimer::new());
    }
    let mut connection = builder.serve_connection(io, service);
    let mut is_down = false;
    let mut turns = Turns::of(stall);
    poll_fn(|cx| {
        match leave(cx) {
            Poll::Ready(Leave::AtOnce) => return Poll::Ready(None),
            Poll::Ready(Leave::Gently) if !is_down => {
                is_down = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            _ => {}
        }
        turns.begin();
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => turns.poll_stalled(cx).map(|()| None),
        }
    })
    .await
    .transpose()
    .map(|ended| {
        ended?;
        let left = connection.into_parts();
        let mut conduit = left.io.into_inner().into_conduit();
        conduit.unread(left.read_buf);
        Some(conduit)
    })
    .map_err(|error| {
        if error.is_parse_too_large() {
            ServeError::Protocol(Reason::HeadTooLarge)
        } else if error.is_parse() {
            ServeError::Protocol(Reason::ClientProtocol)
        } else {
            ServeError::Broken
        }
    })
}
