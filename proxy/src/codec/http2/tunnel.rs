//! A stream as bytes both ways: what it carries once another protocol was granted on it (RFC 8441, section 5), or a
//! tunnel (RFC 9113, section 8.5).
//!
//! A way that ends in good order ends with END_STREAM; what is torn down is reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Http2Body;
use super::connection::stream::End;
use super::frame::Code;
use super::shared::Handle;

#[derive(Debug)]
pub struct Http2Tunnel {
    stream: Handle,
    /// Whoever holds it reads: it tells the peer when nobody does any more.
    _body: Http2Body,
    /// Taken from the stream, and not read yet.
    rest: Bytes,
    has_finished: bool,
}

impl Http2Tunnel {
    /// Of the stream that this body comes by.
    pub fn new(body: Http2Body) -> Http2Tunnel {
        let stream = body.stream();
        stream.be_tunnel();
        Http2Tunnel { stream, _body: body, rest: Bytes::new(), has_finished: false }
    }

    /// Whether nothing waits for room in the windows of the stream.
    pub fn has_sent(&self) -> bool {
        self.stream.has_sent()
    }

    /// Tears a tunnel down, so that the peer sees that this was no end in good order (RFC 9113, section 8.5).
    pub fn abort(self) {
        self.stream.reset(Code::CONNECT_ERROR);
    }
}

impl Drop for Http2Tunnel {
    fn drop(&mut self) {
        if !self.has_finished {
            self.stream.reset(Code::CANCEL);
        }
    }
}

impl AsyncRead for Http2Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(this.stream.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => this.rest = data,
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let taken = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..taken).unwrap_or_default());
        this.rest.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_finished || self.stream.over().is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.stream.poll_room(cx));
        self.stream.send_data(Bytes::copy_from_slice(buf), None);
        Poll::Ready(Ok(buf.len()))
    }

    /// The task of the connection sends it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready once all is sent: a stream that is let go before may be reset.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_finished, true) {
            this.stream.send_data(Bytes::new(), Some(End::Plain));
        }
        this.stream
            .poll_sent(cx)
            .map(|is_sent| if is_sent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }
}
