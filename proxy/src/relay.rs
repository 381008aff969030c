//! Bytes both ways between two streams, as fast as the slower of the two takes them.
//!
//! One side may end while the other goes on: each way is closed by itself. Nothing is kept of a way on
//! which nothing waits, so that a quiet tunnel costs no buffers.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use naru_base::Side;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conduit::Conduit;

/// So much is read at a time.
const READ_BYTES: usize = 32 * 1024;

thread_local! {
    /// What is read goes through here and out again at once; only what is not taken is kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Two streams that are joined.
#[derive(Debug)]
pub struct Relay {
    client: Conduit,
    upstream: Conduit,
    up: Way,
    down: Way,
    /// What has come before one of them broke is passed on.
    is_gentle: bool,
    broken: Option<Side>,
}

/// From one of them to the other.
#[derive(Debug, Default)]
struct Way {
    /// What was read and is not written yet.
    waiting: Bytes,
    /// Something was written that may stand in a buffer of the stream.
    is_unflushed: bool,
    has_ended: bool,
    is_closed: bool,
}

/// Where it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Reading,
    Writing,
}

impl Relay {
    pub fn new(client: Conduit, upstream: Conduit) -> Relay {
        let (up, down) = (Way::default(), Way::default());
        Relay { client, upstream, up, down, is_gentle: false, broken: None }
    }

    /// Of a protocol that says by itself that it is over, and whose ends may then close with something unread, which
    /// looks as if they had broken: what came before is passed on, and the end as one in good order.
    pub fn gently(self) -> Relay {
        Relay { is_gentle: true, ..self }
    }

    /// Ready when both ways have come to their ends.
    ///
    /// # Errors
    /// Who broke it off.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Side>> {
        match self.up.poll(cx, &mut self.client, &mut self.upstream) {
            Poll::Ready(Err(Broken::Reading)) => return self.poll_broken(cx, Side::Client),
            // It reads no more, but may still have something to say.
            Poll::Ready(Err(Broken::Writing)) => self.up.is_closed = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match self.down.poll(cx, &mut self.upstream, &mut self.client) {
            Poll::Ready(Err(Broken::Reading)) => return self.poll_broken(cx, Side::Upstream),
            Poll::Ready(Err(Broken::Writing)) => return Poll::Ready(Err(Side::Client)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match self.broken {
            Some(Side::Client) if self.up.is_closed => return Poll::Ready(Err(Side::Client)),
            Some(_) if self.down.is_closed => return Poll::Ready(Err(Side::Upstream)),
            _ => {}
        }
        if self.up.is_closed && self.down.is_closed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// One of them can be read no more: that is the end of its way.
    #[cold]
    fn poll_broken(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<Result<(), Side>> {
        if !self.is_gentle {
            return Poll::Ready(Err(side));
        }
        let way = if side == Side::Client { &mut self.up } else { &mut self.down };
        way.has_ended = true;
        self.broken = Some(side);
        self.poll(cx)
    }

    pub fn is_gentle(&self) -> bool {
        self.is_gentle
    }

    /// Both sides shall see that this was no end in good order, unless they say that by themselves.
    pub fn abort(self) {
        if !self.is_gentle {
            self.client.abort();
            self.upstream.abort();
        }
    }

    /// The client of an upstream that has broken it off.
    pub fn into_client(self) -> Conduit {
        self.client
    }

    /// The client, where it may still send what nobody takes any more: if it were closed now, it might lose what it was
    /// sent and has not read.
    pub fn into_unread_client(self) -> Option<Conduit> {
        (!self.up.has_ended && self.down.is_closed).then_some(self.client)
    }
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conduit,
        to: &mut Conduit,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.is_closed {
                return Poll::Ready(Ok(()));
            }
            while self.waiting.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting));
                match written {
                    Ok(written) if written > 0 => self.waiting.advance(written),
                    _ => return Poll::Ready(Err(Broken::Writing)),
                }
                self.is_unflushed = true;
            }
            if self.has_ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Broken::Writing)?;
                self.is_closed = true;
                continue;
            }
            match self.poll_move(cx, from, to) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.is_unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Broken::Writing)?;
                        self.is_unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads once, and writes what it can of it.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conduit,
        to: &mut Conduit,
    ) -> Poll<Result<(), Broken>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(|_| Broken::Reading)?;
            let read = read.filled();
            if read.is_empty() {
                self.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(to).poll_write(cx, read) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Writing)),
                Poll::Pending => 0,
            };
            self.is_unflushed |= written > 0;
            self.waiting = Bytes::copy_from_slice(read.get(written..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }
}
