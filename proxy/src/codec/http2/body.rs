//! A body that comes in by a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};

use super::super::BodyBroken;
use super::shared::Handle;

/// Read until its end: that of the stream, and nothing else, is one (RFC 9113, section 8.1).
#[derive(Debug)]
pub struct Http2Body {
    stream: Handle,
    /// Whoever sends it waits to be told that it is wanted.
    is_awaited: bool,
}

impl Http2Body {
    pub(super) fn new(stream: Handle) -> Http2Body {
        Http2Body { stream, is_awaited: false }
    }

    /// What it comes by.
    pub(super) fn stream(&self) -> Handle {
        self.stream.another()
    }

    /// Of a request with this head.
    pub(super) fn of_request(stream: Handle, head: &Request<()>) -> Http2Body {
        let is_awaited = head
            .headers()
            .get(header::EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Http2Body { stream, is_awaited }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if std::mem::take(&mut self.is_awaited) {
            self.stream.ask_for_more();
        }
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Err(_)) => Poll::Ready(Some(Err(BodyBroken))),
            None => Poll::Ready(self.stream.take_trailers().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.has_read_all()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.stream.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.stream.leave_unread();
    }
}
