//! A stream of gRPC to a control plane: messages go out and come in, each whole.
//!
//! A connection of its own, by HTTP/2, plain or by TLS. Source: "gRPC over HTTP2", `PROTOCOL-HTTP2.md` of gRPC.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use naru_tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

/// Of one message. Ten thousand clusters with their settings are some ten megabytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A control plane that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIME_MAX: Duration = Duration::from_secs(20);
/// What is not read yet of a stream.
const WINDOW: u32 = 1 << 20;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Where a control plane is, and how it is spoken to.
#[derive(Debug)]
pub struct Target<'a> {
    pub address: SocketAddr,
    /// Of a Unix socket.
    pub path: Option<String>,
    pub connector: Option<Connector>,
    pub connect_timeout: Duration,
    pub authority: &'a str,
    pub method: &'a str,
    pub metadata: &'a [(HeaderName, HeaderValue)],
}

type Answer = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>>>>;

/// One that stands. Dropping it ends it.
pub struct Stream {
    out_tx: mpsc::UnboundedSender<Bytes>,
    /// The head comes with the first message, and perhaps not before.
    answer: Option<Answer>,
    body: Option<Incoming>,
    buffer: BytesMut,
}

impl Stream {
    pub async fn open(target: &Target<'_>) -> Result<Stream, String> {
        let opened = tokio::time::timeout(target.connect_timeout, connect(target));
        opened.await.unwrap_or_else(|_| Err(format!("no connection within {:?}", target.connect_timeout)))
    }

    /// Says a message.
    pub fn send(&self, message: &[u8]) {
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.extend_from_slice(&[0]);
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend_from_slice(message);
        // A stream that has ended is found out by whoever reads from it.
        let _ = self.out_tx.send(framed.freeze());
    }

    pub fn send_all(&self, messages: VecDeque<Vec<u8>>) {
        messages.iter().for_each(|message| self.send(message));
    }

    /// The next message. Where this is given up meanwhile, nothing is lost.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, String> {
        if let Some(answer) = &mut self.answer {
            let answered = answer.await;
            self.answer = None;
            let (head, body) = answered.map_err(|error| tell(&error))?.into_parts();
            if head.status != StatusCode::OK {
                return Err(format!("it answers {}", head.status));
            }
            if let Some(ended) = grpc_status(&head.headers) {
                return Err(ended);
            }
            self.body = Some(body);
        }
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let Some(body) = &mut self.body else { return Err("the stream has ended".to_owned()) };
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
            match frame {
                None => return Err("the stream has ended".to_owned()),
                Some(Err(error)) => return Err(tell(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Err(
                            grpc_status(&trailers).unwrap_or_else(|| "the stream has ended".to_owned())
                        );
                    }
                },
            }
        }
    }

    /// A message that is there whole.
    fn take(&mut self) -> Result<Option<Bytes>, String> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            return Err("a message is compressed, and that was not agreed on".to_owned());
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(format!(
                "a message of {length} bytes is too large: at most {MESSAGE_BYTES_MAX} are read"
            ));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

async fn connect(target: &Target<'_>) -> Result<Stream, String> {
    if let Some(path) = &target.path {
        let socket = match path.strip_prefix('@') {
            Some(_) => return Err("a socket of the abstract namespace is not spoken to".to_owned()),
            None => UnixStream::connect(path).await.map_err(|error| format!("{path}: {error}"))?,
        };
        return secure(socket, target).await;
    }
    let address = target.address;
    let socket = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    socket.set_nodelay(true).map_err(|error| format!("{address}: {error}"))?;
    secure(socket, target).await
}

async fn secure<IO>(io: IO, target: &Target<'_>) -> Result<Stream, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match &target.connector {
        None => begin(io, target, "http").await,
        Some(connector) => {
            let secured = connector.connect(io).await;
            let (stream, _) = secured.map_err(|error| format!("{}: TLS: {error}", target.address))?;
            begin(stream, target, "https").await
        }
    }
}

async fn begin<IO>(io: IO, target: &Target<'_>, scheme: &str) -> Result<Stream, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|error| tell(&error))?;
    // How it ends is seen by whoever reads.
    tokio::spawn(async move { drop(connection.await) });
    let (out_tx, out_rx) = mpsc::unbounded_channel();
    let uri = Uri::builder().scheme(scheme).authority(target.authority).path_and_query(target.method).build();
    let uri = uri.map_err(|error| format!("'{}': {error}", target.authority))?;
    let mut request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("naru/", env!("CARGO_PKG_VERSION")))
        .body(Messages(out_rx))
        .map_err(|error| error.to_string())?;
    for (name, value) in target.metadata {
        request.headers_mut().append(name, value.clone());
    }
    let answer: Answer = Box::pin(async move {
        let answered = sender.send_request(request).await;
        // The connection ends with the last of its senders.
        drop(sender);
        answered
    });
    Ok(Stream { out_tx, answer: Some(answer), body: None, buffer: BytesMut::new() })
}

/// What an error is caused by says more than the error.
fn tell(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// How a stream ended, where it says so.
fn grpc_status(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status")?;
    let message = text("grpc-message").unwrap_or_default();
    Some(match (status, message) {
        ("0", _) => "the stream has ended".to_owned(),
        ("12", "") => "it does not know this method (gRPC status 12)".to_owned(),
        (status, "") => format!("gRPC status {status}"),
        (status, message) => format!("gRPC status {status}: {message}"),
    })
}

/// What is said, as a body that has no end.
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
