//! A body that is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2::Http2Body;

/// The body of a message that a peer sends.
#[derive(Debug)]
pub enum InBody {
    Http1(Incoming),
    Http2(Http2Body),
}

impl InBody {
    pub(super) fn http1(incoming: Incoming) -> InBody {
        InBody::Http1(incoming)
    }

    pub(super) fn http2(body: Http2Body) -> InBody {
        InBody::Http2(body)
    }
}

/// The body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBroken;

impl std::fmt::Display for BodyBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for BodyBroken {}

impl Body for InBody {
    type Data = Bytes;
    type Error = BodyBroken;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        match self.get_mut() {
            InBody::Http1(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|result| result.map_err(|_| BodyBroken)))
            }
            InBody::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            InBody::Http1(incoming) => incoming.is_end_stream(),
            InBody::Http2(body) => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            InBody::Http1(incoming) => incoming.size_hint(),
            InBody::Http2(body) => body.size_hint(),
        }
    }
}
