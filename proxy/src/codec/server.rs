//! The client's side: requests in, responses out.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_base::Reason;
use naru_spec::{Http, Http2Settings};

use super::InBody;
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
) -> Result<Option<Conduit>, ServeError>
where
    S: Fn(Request<InBody>) -> F,
    F: Future<Output = Result<Response<OutBody>, Broken>> + 'static,
{
    let io = TokioIo::new(client);
    let body = match protocol {
        Protocol::Http1 => InBody::http1,
        Protocol::Http2 => InBody::http2,
    };
    let service = service_fn(move |request: Request<Incoming>| service(request.map(body)));
    let header_bytes_max = http.header_bytes_max as usize;
    match protocol {
        Protocol::Http1 => {
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
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(Attended(Rc::clone(stall)));
            builder
                .auto_date_header(false)
                .max_concurrent_streams(http.http2.max_concurrent_streams)
                .initial_stream_window_size(http.http2.stream_window)
                .initial_connection_window_size(http.http2.connection_window)
                .max_header_list_size(http.header_bytes_max);
            let mut connection = pin!(builder.serve_connection(io, service));
            let mut is_down = false;
            poll_fn(|cx| {
                match leave(cx) {
                    Poll::Ready(Leave::AtOnce) => return Poll::Ready(Ok(())),
                    Poll::Ready(Leave::Gently) if !is_down => {
                        is_down = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    _ => {}
                }
                connection.as_mut().poll(cx)
            })
            .await
            .map(|()| None)
        }
    }
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

/// Spawns the streams of an HTTP/2 connection onto this worker, and drops those that stall: that
/// resets them.
#[derive(Clone, Debug)]
struct Attended(Rc<Stall>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Attended {
    fn execute(&self, stream: F) {
        let mut turns = Turns::of(&self.0);
        let alarm = self.0.alarm();
        tokio::task::spawn_local(async move {
            let _alarm = alarm;
            let mut stream = pin!(stream);
            poll_fn(|cx| {
                turns.begin();
                match stream.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => turns.poll_stalled(cx),
                }
            })
            .await;
        });
    }
}
