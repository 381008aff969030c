//! The client's side: requests in, responses out.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_base::Reason;
use naru_spec::{Http, Http2Settings, PaceLimit};

use super::{Answers, InBody};
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::stall::{Stall, Turns};
use crate::worker::Worker;

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
    /// The same, but a client of HTTP/1, who is told that the connection ends by a response only, may have sent a request
    /// before it could know: the next one is waited for, and is the last.
    Patiently,
    AtOnce,
}

/// What a connection begins with and keeps, whatever the configuration becomes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub(super) header_bytes_max: u32,
    pub(super) header_count_max: u32,
    pub(super) request_headers_timeout: Option<Duration>,
    pub(super) response_pace: Option<PaceLimit>,
    http2: Http2Settings,
}

impl Terms {
    pub fn of(http: &Http) -> Terms {
        Terms {
            header_bytes_max: http.header_bytes_max,
            header_count_max: http.header_count_max,
            request_headers_timeout: http.request_headers_timeout,
            response_pace: http.response_pace,
            http2: http.http2,
        }
    }
}

/// Serves one connection until it ends. `leave` is asked at every turn. A request that `stall` tells of is broken
/// off, and with it the connection (HTTP/1) or its stream (HTTP/2).
///
/// What is left of a connection of HTTP/1 is returned where it goes on as something else: a CONNECT was answered by 2xx,
/// or a request by 101.
pub async fn serve(
    client: Conduit,
    worker: &Rc<Worker>,
    protocol: Protocol,
    terms: Terms,
    answers: impl Answers + 'static,
    leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<Option<Conduit>, ServeError> {
    match protocol {
        Protocol::Http1 => super::http1::server::serve(client, worker, terms, &answers, leave, stall).await,
        Protocol::Http2 => {
            // It is large.
            Box::pin(serve_http2(Lingering::new(client, worker), terms, answers, leave, stall)).await?;
            Ok(None)
        }
    }
}

async fn serve_http2(
    client: Lingering,
    http: Terms,
    answers: impl Answers + 'static,
    mut leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<(), ServeError> {
    let io = TokioIo::new(client);
    let answers = Rc::new(answers);
    let service = service_fn(move |request: Request<Incoming>| {
        let answers = Rc::clone(&answers);
        async move { answers.answer(request.map(InBody::http2)).await }
    });
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
            Poll::Ready(Leave::Gently | Leave::Patiently) if !is_down => {
                is_down = true;
                connection.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        connection.as_mut().poll(cx)
    })
    .await
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
