//! A byte stream, plain or TLS, with what was already read of it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use naru_tls::{ClientStream, ServerStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::Http2Tunnel;
use crate::socket::Socket;

#[derive(Debug)]
pub struct Conduit {
    /// Read before the protocol was known; read again first.
    prefix: Bytes,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Plain(Socket),
    /// Whatever is put around one.
    Layered(Box<dyn Layer>),
}

trait Layer: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug {
    /// As [`Conduit::abort`].
    fn abort(self: Box<Self>) {}

    /// As [`Conduit::has_sent`].
    fn has_sent(&self) -> bool {
        true
    }
}

// A peer of TLS sees by the missing end of its stream that it was no end in good order.
impl Layer for ServerStream<Socket> {
    fn has_sent(&self) -> bool {
        self.get_ref().0.has_sent()
    }
}

impl Layer for ClientStream<Socket> {
    fn has_sent(&self) -> bool {
        self.get_ref().0.has_sent()
    }
}

impl Layer for Http2Tunnel {
    fn abort(self: Box<Self>) {
        (*self).abort();
    }

    fn has_sent(&self) -> bool {
        Http2Tunnel::has_sent(self)
    }
}

impl Layer for Counted {
    fn abort(self: Box<Self>) {
        self.conduit.abort();
    }

    fn has_sent(&self) -> bool {
        self.conduit.has_sent()
    }
}

/// What is read and written of a stream is counted.
#[derive(Debug)]
struct Counted {
    conduit: Conduit,
    bytes: Rc<Traffic>,
}

/// Bytes that came in and that went out.
#[derive(Debug, Default)]
pub struct Traffic {
    pub read: Cell<u64>,
    pub written: Cell<u64>,
}

impl Conduit {
    pub fn plain(stream: Socket) -> Conduit {
        Conduit { prefix: Bytes::new(), stream: Stream::Plain(stream) }
    }

    pub fn server(stream: ServerStream<Socket>) -> Conduit {
        Conduit { prefix: Bytes::new(), stream: Stream::Layered(Box::new(stream)) }
    }

    pub fn client(stream: ClientStream<Socket>) -> Conduit {
        Conduit { prefix: Bytes::new(), stream: Stream::Layered(Box::new(stream)) }
    }

    pub fn http2(stream: Http2Tunnel) -> Conduit {
        Conduit { prefix: Bytes::new(), stream: Stream::Layered(Box::new(stream)) }
    }

    /// Counts from here on: what was read before and given back counts when it is read again.
    pub fn counting(self, bytes: &Rc<Traffic>) -> Conduit {
        let counted = Counted { conduit: self, bytes: Rc::clone(bytes) };
        Conduit { prefix: Bytes::new(), stream: Stream::Layered(Box::new(counted)) }
    }

    /// Tears the connection down, so that its peer sees that this was no end in good order.
    pub fn abort(self) {
        match self.stream {
            Stream::Plain(stream) => {
                // Where it cannot be said, it ends as it would have.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            Stream::Layered(stream) => stream.abort(),
        }
    }

    /// Whether all that was written and flushed is on its way: tearing the connection down takes back what is not.
    pub fn has_sent(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.has_sent(),
            Stream::Layered(stream) => stream.has_sent(),
        }
    }

    /// Gives back what was read; the next read sees it first.
    pub fn unread(&mut self, bytes: Bytes) {
        self.prefix =
            if self.prefix.is_empty() { bytes } else { [bytes, self.prefix.clone()].concat().into() };
    }
}

macro_rules! on_stream {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Plain($stream) => $call,
            Stream::Layered($stream) => $call,
        }
    };
}

impl AsyncRead for Conduit {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let taken = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..taken]);
            self.prefix.advance(taken);
            return Poll::Ready(Ok(()));
        }
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Conduit {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Layered(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Counted {
    fn wrote(&self, written: usize) {
        self.bytes.written.set(self.bytes.written.get() + written as u64);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.conduit).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.bytes.read.set(self.bytes.read.get() + read as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.conduit).poll_write(cx, buf))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.conduit).poll_write_vectored(cx, bufs))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.conduit.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conduit).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conduit).poll_shutdown(cx)
    }
}
