//! A body that is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use naru_base::Reason;

use super::http1::link::Http1Body;
use super::http2::Http2Body;
#[cfg(feature = "http3")]
use super::http3::Http3Body;
use crate::deflated::Deflated;
use crate::grpc_web::TextBody;
use crate::inflated::Inflated;

/// The body of a message that a peer sends.
#[derive(Debug)]
pub enum InBody {
    Empty,
    Http1(Http1Body),
    Http2(Http2Body),
    /// One of them, as base64.
    Text(Box<TextBody>),
    /// One of them, out of its coding.
    Inflated(Box<Inflated>),
    /// One of them, in a coding.
    Deflated(Box<Deflated>),
    /// It is boxed, so that the others are no larger for it.
    #[cfg(feature = "http3")]
    Http3(Box<Http3Body>),
}

impl InBody {
    /// Whether it broke because it is not framed as it said.
    pub fn is_malformed(&self) -> bool {
        match self {
            InBody::Http1(body) => body.is_malformed(),
            InBody::Text(body) => body.is_malformed,
            InBody::Deflated(body) => body.is_malformed(),
            #[cfg(feature = "http3")]
            InBody::Http3(body) => body.is_malformed(),
            InBody::Empty | InBody::Http2(_) | InBody::Inflated(_) => false,
        }
    }

    /// Why what came out of its coding is not passed on.
    pub fn refused(&self) -> Option<Reason> {
        match self {
            InBody::Inflated(body) => body.refused(),
            InBody::Deflated(body) => body.refused(),
            _ => None,
        }
    }

    pub(super) fn http2(body: Http2Body) -> InBody {
        InBody::Http2(body)
    }
}

/// A body that hyper reads.
#[derive(Debug)]
pub struct HyperBody {
    incoming: Incoming,
    is_http2: bool,
}

impl HyperBody {
    pub(super) fn http1(incoming: Incoming) -> HyperBody {
        HyperBody { incoming, is_http2: false }
    }

    pub(super) fn http2(incoming: Incoming) -> HyperBody {
        HyperBody { incoming, is_http2: true }
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
            InBody::Empty => Poll::Ready(None),
            InBody::Http1(body) => Pin::new(body).poll_frame(cx),
            InBody::Http2(body) => Pin::new(body).poll_frame(cx),
            InBody::Text(body) => body.poll_frame(cx),
            InBody::Inflated(body) => body.poll_frame(cx),
            InBody::Deflated(body) => body.poll_frame(cx),
            #[cfg(feature = "http3")]
            InBody::Http3(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            InBody::Empty => true,
            InBody::Http1(body) => body.is_end_stream(),
            InBody::Http2(body) => body.is_end_stream(),
            InBody::Text(body) => body.is_end_stream(),
            InBody::Inflated(body) => body.is_end_stream(),
            InBody::Deflated(body) => body.is_end_stream(),
            #[cfg(feature = "http3")]
            InBody::Http3(body) => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            InBody::Empty => SizeHint::with_exact(0),
            InBody::Http1(body) => body.size_hint(),
            InBody::Http2(body) => body.size_hint(),
            InBody::Text(_) | InBody::Inflated(_) | InBody::Deflated(_) => SizeHint::default(),
            #[cfg(feature = "http3")]
            InBody::Http3(body) => body.size_hint(),
        }
    }
}

impl Body for HyperBody {
    type Data = Bytes;
    type Error = BodyBroken;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        // hyper takes a stream that was reset without an error, or a connection that was left so, for the
        // end of the body; only the END_STREAM flag is one (RFC 9113, section 8.1).
        if frame.is_none() && self.is_http2 && !self.incoming.is_end_stream() {
            return Poll::Ready(Some(Err(BodyBroken)));
        }
        Poll::Ready(frame.map(|result| result.map_err(|_| BodyBroken)))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
