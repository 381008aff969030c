//! A stream as bytes both ways: what it carries once another protocol was granted on it (RFC 9220).
//!
//! All of it is in frames of data (RFC 9114, section 4.4). A way that ends in good order ends the stream; what is torn down is
//! reset.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Http3Body;
use super::frame::{Code, DATA, put_head};
use super::server::Reply;

/// So much is framed at once.
const FRAME_BYTES: usize = 16 * 1024;

pub struct Http3Tunnel {
    body: Box<Http3Body>,
    reply: Reply,
    /// Taken from the stream, and not read yet.
    rest: Bytes,
    /// Framed, and not taken by the stream yet.
    out: BytesMut,
    end: End,
}

/// How far the way to the client has got with its end.
enum End {
    Open,
    /// Ready once the client has all of it.
    Said(Pin<Box<dyn Future<Output = ()>>>),
    Heard,
}

impl fmt::Debug for Http3Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http3Tunnel").finish_non_exhaustive()
    }
}

impl Http3Tunnel {
    pub(super) fn new(body: Box<Http3Body>, reply: Reply) -> Http3Tunnel {
        Http3Tunnel { body, reply, rest: Bytes::new(), out: BytesMut::new(), end: End::Open }
    }

    /// Tears a tunnel down, so that the peer sees that this was no end in good order.
    pub fn abort(mut self) {
        self.body.stop(Code::CONNECT_ERROR);
        self.reply.reset(Code::CONNECT_ERROR);
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(self.reply.poll_write(cx, &self.out));
            self.out.advance(written.map_err(|_| io::ErrorKind::BrokenPipe)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Http3Tunnel {
    fn drop(&mut self) {
        self.body.stop(Code::REQUEST_CANCELLED);
        if matches!(self.end, End::Open) {
            self.reply.reset(Code::REQUEST_CANCELLED);
        }
    }
}

impl AsyncRead for Http3Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut *this.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                // A tunnel has no trailers.
                Some(frame) => match frame.ok().and_then(|frame| frame.into_data().ok()) {
                    Some(data) => this.rest = data,
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                },
            }
        }
        let taken = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..taken).unwrap_or_default());
        this.rest.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http3Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !matches!(this.end, End::Open) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_out(cx))?;
        let piece = buf.get(..FRAME_BYTES).unwrap_or(buf);
        if !piece.is_empty() {
            put_head(&mut this.out, DATA, piece.len());
            this.out.extend_from_slice(piece);
        }
        // What is not taken now goes before the next.
        match this.poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    /// Ready once the client has all of it: a connection that is closed before would take it along.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.end {
                End::Open => {
                    ready!(this.poll_out(cx))?;
                    this.end = End::Said(Box::pin(this.reply.finished()));
                }
                End::Said(heard) => {
                    ready!(heard.as_mut().poll(cx));
                    this.end = End::Heard;
                }
                End::Heard => return Poll::Ready(Ok(())),
            }
        }
    }
}
