//! A connection of HTTP/2, and streams on it: messages go out and come in, each whole.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::{Misframed, Unframer, framed};

/// What is not read yet of a stream.
const WINDOW: u32 = 1 << 20;
/// `UNKNOWN` of gRPC.
const UNKNOWN: u32 = 2;

/// A side that says nothing is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    pub every: Duration,
    /// For an answer.
    pub time_max: Duration,
    /// Also while there is no stream. Some take that for a flood.
    pub while_idle: bool,
}

/// One that stands. Dropping it, and all streams on it, ends it.
pub struct Connection {
    sender: http2::SendRequest<Messages>,
}

/// What is called, and with which headers.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub scheme: &'a str,
    pub authority: &'a str,
    /// `/PACKAGE.SERVICE/METHOD`.
    pub method: &'a str,
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// Of one message of the answer.
    pub bytes_max: usize,
}

/// How a stream, or a connection, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All was well, and there is nothing more.
    Over,
    /// With a code of gRPC that is not 0.
    Refused {
        code: u32,
        message: String,
    },
    /// It is no server of gRPC.
    Answered(StatusCode),
    Misframed(Misframed),
    /// Why nobody is there any more.
    Lost(String),
}

impl Connection {
    /// Shakes hands on a connection whose other side speaks HTTP/2.
    pub async fn open<IO>(io: IO, pings: Pings) -> Result<Connection, Ended>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(pings.every)
            .keep_alive_timeout(pings.time_max)
            .keep_alive_while_idle(pings.while_idle)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|error| lost(&error))?;
        // How it ends is seen by whoever reads.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender })
    }

    /// Begins a call. It goes out when its answer is waited for, whose head may come with the first message and not before.
    pub async fn call(&self, call: &Call<'_>) -> Result<Stream, Ended> {
        let Call { scheme, authority, method, headers, bytes_max } = *call;
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(method).build();
        let uri = uri.map_err(|error| Ended::Lost(format!("'{authority}': {error}")))?;
        let (out_tx, out_rx) = mpsc::unbounded_channel();
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("naru/", env!("CARGO_PKG_VERSION")))
            .body(Messages(out_rx))
            .map_err(|error| Ended::Lost(error.to_string()))?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| lost(&error))?;
        let answer: Answer = Box::pin(async move {
            let answered = sender.send_request(request).await;
            // The connection ends with the last of its senders.
            drop(sender);
            answered
        });
        let unframer = Unframer::new(bytes_max);
        Ok(Stream { out_tx: Some(out_tx), answer: Some(answer), body: None, unframer })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

type Answer = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A call. Dropping it ends it.
pub struct Stream {
    /// Held for as long as this side may say something.
    out_tx: Option<mpsc::UnboundedSender<Bytes>>,
    answer: Option<Answer>,
    body: Option<Incoming>,
    unframer: Unframer,
}

impl Stream {
    /// Says a message.
    pub fn send(&self, message: &[u8]) {
        if let Some(out_tx) = &self.out_tx {
            // A stream that has ended is found out by whoever reads from it.
            let _ = out_tx.send(framed(message));
        }
    }

    /// Nothing more is said.
    pub fn close(&mut self) {
        self.out_tx = None;
    }

    /// The next message. Where this is given up meanwhile, nothing is lost.
    ///
    /// # Errors
    /// How the stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, Ended> {
        if let Some(answer) = &mut self.answer {
            let answered = answer.await;
            self.answer = None;
            let (head, body) = answered.map_err(|error| lost(&error))?.into_parts();
            if head.status != StatusCode::OK {
                return Err(Ended::Answered(head.status));
            }
            if let Some(ended) = status(&head.headers) {
                return Err(ended);
            }
            self.body = Some(body);
        }
        loop {
            if let Some(message) = self.unframer.message().map_err(Ended::Misframed)? {
                return Ok(message);
            }
            let Some(body) = &mut self.body else { return Err(Ended::Over) };
            match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => return Err(Ended::Over),
                Some(Err(error)) => return Err(lost(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.unframer.push(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Err(status(&trailers).unwrap_or(Ended::Over));
                    }
                },
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// What an error is caused by says more than the error.
fn lost(error: &hyper::Error) -> Ended {
    let cause = std::error::Error::source(error);
    Ended::Lost(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
}

/// How a stream ended, where these headers say so.
fn status(headers: &HeaderMap) -> Option<Ended> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Some(match text("grpc-status")?.parse().unwrap_or(UNKNOWN) {
        0 => Ended::Over,
        code => Ended::Refused { code, message: text("grpc-message").unwrap_or_default().to_owned() },
    })
}

/// What is said, as a body that ends when its sender is gone.
struct Messages(mpsc::UnboundedReceiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
