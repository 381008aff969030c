//! The upstream's side over HTTP/2: requests out, responses in.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use naru_base::Reason;
use naru_journey::Sent;
use naru_spec::{Http2Keepalive, Http2Settings};

use super::{InBody, OnThisWorker};
use crate::conduit::Conduit;
use crate::upload::UploadBody;

/// Why no response head came.
#[derive(Debug)]
pub struct SendFailure {
    pub reason: Reason,
    pub sent: Sent,
    /// The request, where it can be sent again as it is.
    pub request: Option<Box<Request<UploadBody>>>,
}

/// A connection that carries many requests at a time. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Http2Client {
    sender: http2::SendRequest<UploadBody>,
    /// What both ends allow.
    streams_max: Rc<Cell<usize>>,
}

impl Http2Client {
    /// The connection lives in a task of its own and holds `life` for as long.
    ///
    /// # Errors
    /// The reason for which the connection cannot be used.
    pub async fn start<L: 'static>(
        conduit: Conduit,
        settings: Http2Settings,
        keepalive: Option<Http2Keepalive>,
        life: Rc<L>,
    ) -> Result<Http2Client, Reason> {
        let mut builder = http2::Builder::new(OnThisWorker);
        builder
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_header_list_size(1 << 20);
        if let Some(keepalive) = keepalive {
            builder
                .timer(hyper_util::rt::TokioTimer::new())
                .keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                // Envoy asks at every interval, whatever moves.
                .keep_alive_while_idle(true);
        }
        let (sender, connection) =
            builder.handshake(TokioIo::new(conduit)).await.map_err(|_| Reason::ConnectFailure)?;
        let ours = settings.max_concurrent_streams as usize;
        let streams_max = Rc::new(Cell::new(ours));
        let agreed = Rc::clone(&streams_max);
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            // How a connection ends is seen by the requests that it carries.
            let _ = poll_fn(|cx| {
                let result = connection.as_mut().poll(cx);
                if result.is_pending() {
                    agreed.set(ours.min(connection.current_max_send_streams()));
                }
                result
            })
            .await;
            drop(life);
        });
        Ok(Http2Client { sender, streams_max })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// How many requests it may carry at a time.
    pub fn streams_max(&self) -> usize {
        self.streams_max.get()
    }

    /// As [`super::Http1Client::send`].
    pub async fn send(
        &mut self,
        request: Request<UploadBody>,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<Response<InBody>, Option<SendFailure>> {
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response.map(InBody::http2))),
            Poll::Ready(Err(mut error)) => {
                let request = error.take_message();
                Poll::Ready(Err(Some(failure(error.error(), request))))
            }
            Poll::Pending => watch(cx).map(|()| Err(None)),
        })
        .await
    }
}

fn failure(error: &hyper::Error, request: Option<Request<UploadBody>>) -> SendFailure {
    let sent = if request.is_some() || is_left_out(error) { Sent::No } else { Sent::Maybe };
    SendFailure { reason: reason_of(error), sent, request: request.map(Box::new) }
}

fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    use std::error::Error as _;
    error.source().and_then(|source| source.downcast_ref::<h2::Error>())
}

/// The upstream goes away, and named the last request that it looks at: one before this (RFC 9113, section 6.8). The
/// library says so of no other stream.
fn is_left_out(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(|error| error.is_go_away() && error.is_remote())
}

fn reason_of(error: &hyper::Error) -> Reason {
    if error.is_user() {
        // The body that we sent broke off, and only a client can have done that.
        return Reason::ClientAborted;
    }
    if error.is_parse() {
        return Reason::UpstreamProtocol;
    }
    match of_http2(error) {
        Some(_) if is_left_out(error) => Reason::UpstreamRefused,
        Some(h2) if h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Reason::UpstreamRefused
        }
        Some(h2) if h2.is_reset() && h2.is_remote() => Reason::UpstreamReset,
        Some(h2) if h2.is_library() => Reason::UpstreamProtocol,
        _ => Reason::UpstreamClosed,
    }
}
