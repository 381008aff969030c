//! Messages of clients and servers that behave well.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// What one end of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
    /// Behind TLS.
    Http1Tls,
    Http2Tls,
}

impl Speaks {
    pub fn is_http2(self) -> bool {
        matches!(self, Speaks::Http2 | Speaks::Http2Tls)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Speaks::Http1Tls | Speaks::Http2Tls)
    }

    pub fn alpn(self) -> &'static str {
        if self.is_http2() { "h2" } else { "http/1.1" }
    }
}

/// The body of a message to be sent.
#[derive(Debug)]
pub enum Outbound {
    /// Frames that are there already.
    Frames { frames: VecDeque<Frame<Bytes>>, has_length: bool },
    /// As long as this, made up on the way.
    Filler { left: u64, has_length: bool },
    /// Frames as they come; the sender's end is the body's.
    Live(mpsc::Receiver<Result<Frame<Bytes>, Abort>>),
}

/// The body is broken off.
#[derive(Clone, Copy, Debug)]
pub struct Abort;

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off by the test")
    }
}

impl std::error::Error for Abort {}

pub type LiveSender = mpsc::Sender<Result<Frame<Bytes>, Abort>>;

impl Outbound {
    pub fn empty() -> Outbound {
        Outbound::Frames { frames: VecDeque::new(), has_length: true }
    }

    /// With a length that is said beforehand.
    pub fn sized(bytes: impl Into<Bytes>) -> Outbound {
        Outbound::Frames { frames: VecDeque::from([Frame::data(bytes.into())]), has_length: true }
    }

    /// Without a length: chunks, in HTTP/1.
    pub fn chunks(chunks: &[&'static str]) -> Outbound {
        let frames = chunks.iter().map(|chunk| Frame::data(Bytes::from_static(chunk.as_bytes()))).collect();
        Outbound::Frames { frames, has_length: false }
    }

    pub fn with_trailers(self, trailers: HeaderMap) -> Outbound {
        let Outbound::Frames { mut frames, .. } = self else { panic!("only frames take trailers") };
        frames.push_back(Frame::trailers(trailers));
        Outbound::Frames { frames, has_length: false }
    }

    pub fn filler(bytes: u64, has_length: bool) -> Outbound {
        Outbound::Filler { left: bytes, has_length }
    }

    pub fn live() -> (LiveSender, Outbound) {
        let (frames_tx, frames_rx) = mpsc::channel(1);
        (frames_tx, Outbound::Live(frames_rx))
    }
}

static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

impl Body for Outbound {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        match &mut *self {
            Outbound::Frames { frames, .. } => Poll::Ready(frames.pop_front().map(Ok)),
            Outbound::Filler { left: 0, .. } => Poll::Ready(None),
            Outbound::Filler { left, .. } => {
                let taken = (*left).min(FILLER.len() as u64);
                *left -= taken;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILLER[..taken as usize])))))
            }
            Outbound::Live(frames_rx) => frames_rx.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Frames { frames, .. } => frames.is_empty(),
            Outbound::Filler { left, .. } => *left == 0,
            Outbound::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Frames { frames, has_length: true } => SizeHint::with_exact(
                frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum(),
            ),
            Outbound::Filler { left, has_length: true } => SizeHint::with_exact(*left),
            _ => SizeHint::default(),
        }
    }
}

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The only value of a header, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next().map(|value| value.to_str().unwrap());
        assert!(all.next().is_none(), "{name} stands more than once: {:?}", self.headers);
        first
    }
}

/// Reads a body to its end.
pub async fn collect<B>(body: B) -> Result<(Bytes, Option<HeaderMap>), B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = body;
    let mut data = Vec::new();
    let mut trailers = None;
    while let Some(frame) = next_frame(&mut body).await {
        match frame?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((data.into(), trailers))
}

pub async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
