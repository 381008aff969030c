//! How do responses become bytes, no faster than they are taken?
//!
//! One response waits at a time. Its pieces are handed to the connection one by one, when there is room for more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use naru_xds::discovery::{Said, delta, world};
use tokio::sync::mpsc;

use crate::stream::{Mode, Response};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How a stream ends (gRPC's codes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub code: u8,
    pub message: String,
}

impl End {
    pub fn new(code: Code, message: impl Into<String>) -> End {
        End { code: code as u8, message: message.into() }
    }

    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(STATUS, HeaderValue::from(u16::from(self.code)));
        // Percent-encoding, as gRPC's HTTP/2 protocol has it.
        let mut text = String::new();
        for byte in self.message.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(MESSAGE, text);
        }
        headers
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
}

#[derive(Debug)]
pub(crate) enum Out {
    Pieces(Vec<Bytes>),
    End(End),
}

/// A response as it is sent.
pub(crate) fn pieces(response: &Response) -> Vec<Bytes> {
    let (version, nonce) = (hex(response.version), response.nonce.to_string());
    let said = Said {
        type_url: response.kind.type_url(),
        version: &version,
        nonce: &nonce,
        control_plane: concat!("naru ", env!("CARGO_PKG_VERSION")),
    };
    match response.mode {
        Mode::StateOfTheWorld => world(&said, response.resources.iter().map(|(_, item)| &item.any)),
        Mode::Delta => {
            let resources = response.resources.iter();
            let resources = resources.map(|(name, item)| (&**name, hex(item.version), &item.any));
            delta(&said, resources, response.removed.iter().map(|name| &**name))
        }
    }
}

pub(crate) fn hex(version: u64) -> String {
    format!("{version:016x}")
}

#[derive(Debug)]
pub(crate) struct Responses {
    rx: mpsc::Receiver<Out>,
    pieces: VecDeque<Bytes>,
}

impl Responses {
    pub fn new() -> (mpsc::Sender<Out>, Responses) {
        let (tx, rx) = mpsc::channel(1);
        (tx, Responses { rx, pieces: VecDeque::new() })
    }

    /// Nothing but an end.
    pub fn none() -> Responses {
        Responses::new().1
    }
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::task::ready!(self.rx.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Out::Pieces(pieces)) => self.pieces = pieces.into(),
                Some(Out::End(end)) => return Poll::Ready(Some(Ok(Frame::trailers(end.headers())))),
            }
        }
    }
}
