//! The end of a client's connection.
//!
//! Where naru answers before a request has come in whole, and closes, what the client still sends
//! makes the kernel reset the connection, and the client may lose an answer that it has not read. So
//! a connection ends in two steps (RFC 9112, section 9.6): nothing more is sent, and what still comes
//! is thrown away until the client has closed, too.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use naru_base::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conduit::Conduit;
use crate::timer::Timer;
use crate::worker::Worker;

/// A client that sends nothing for this long is not waited for.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Nor one that never stops.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Between two looks at whether everything is sent.
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Waits until a client that is to be torn down was sent what was written to it, as far as it takes that.
pub async fn sent(client: &mut Conduit) {
    let delivered = async {
        // One that is broken takes nothing.
        let _ = poll_fn(|cx| Pin::new(&mut *client).poll_flush(cx)).await;
        let mut pause = Duration::from_millis(1);
        while !client.has_sent() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    };
    // It is not waited for any longer.
    let _ = tokio::time::timeout(LINGER_MAX, delivered).await;
}

#[derive(Debug)]
pub struct Lingering {
    conduit: Conduit,
    worker: Rc<Worker>,
    /// Since all was sent.
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Closing {
    since: Instant,
    heard: Instant,
    timer: Timer,
}

impl Lingering {
    pub fn new(conduit: Conduit, worker: &Rc<Worker>) -> Lingering {
        Lingering { conduit, worker: Rc::clone(worker), closing: None }
    }
}

impl AsyncRead for Lingering {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conduit).poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().conduit).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().conduit).poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.conduit.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conduit).poll_flush(cx)
    }

    /// Ready once the client has closed as well, or is not waited for any longer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closing = match &mut this.closing {
            Some(closing) => closing,
            None => {
                ready!(Pin::new(&mut this.conduit).poll_shutdown(cx))?;
                let now = this.worker.clock.now();
                let timer = Timer::new(&this.worker.timers);
                this.closing.insert(Closing { since: now, heard: now, timer })
            }
        };
        let mut waste = [0; 4_096];
        loop {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut this.conduit).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => closing.heard = this.worker.clock.now(),
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        let deadline = (closing.heard + SILENCE_MAX).min(closing.since + LINGER_MAX);
        loop {
            closing.timer.set(deadline);
            ready!(closing.timer.poll(cx));
            if this.worker.clock.now() >= deadline {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
