//! HTTP/1 on both sides, over `naru-http1`'s messages.
//!
//! A connection has no task and no buffer of its own: whoever waits for something moves it along, and what rests holds
//! no memory but its socket. ADR 18 says why it is ours.

pub mod link;
pub mod output;
pub mod client;
pub mod server;

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

/// So much of a body is passed on before others have their turn.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// What one turn of a connection has passed on.
#[derive(Debug, Default)]
struct Share(usize);

impl Share {
    #[inline]
    fn take<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>) {
        if let Some(Ok(frame)) = frame {
            self.0 += frame.data_ref().map_or(0, Bytes::len);
        }
    }

    /// Pending where others come first; the task is woken for its next turn.
    #[inline]
    fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0 < TURN_BYTES_MAX {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
