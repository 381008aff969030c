//! What a connection is still to write.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::conduit::Conduit;

/// More is not taken before some of it is written.
const WAITING_MAX: usize = 32 * 1024;
/// Data of this size goes out from where it is; less is copied, so that one call writes head and body.
const LARGE: usize = 4 * 1024;
/// Buffers that wait for use, and the room that one may keep.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 2 * WAITING_MAX;

thread_local! {
    /// Connections that have nothing to write have no buffer.
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// First what is flat, then what is large, then the tail.
#[derive(Debug, Default)]
pub struct Output {
    flat: Vec<u8>,
    written: usize,
    large: Bytes,
    tail: Vec<u8>,
    is_unflushed: bool,
    /// Of the message that was begun last.
    pub bytes_written: u64,
}

impl Output {
    /// Whether more may be added.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.large.is_empty() && self.flat.len() < WAITING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.flat.is_empty() && self.large.is_empty() && !self.is_unflushed
    }

    /// To write into.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if !self.large.is_empty() {
            return &mut self.tail;
        }
        if self.flat.capacity() == 0 {
            self.flat = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(2 * 1024));
        }
        &mut self.flat
    }

    #[inline]
    pub fn add(&mut self, data: Bytes) {
        if data.len() >= LARGE && self.large.is_empty() {
            self.large = data;
        } else {
            self.buffer().extend_from_slice(&data);
        }
    }

    /// The same, of what others have as well: it is shared where it is not copied.
    #[inline]
    pub fn add_of(&mut self, data: &Bytes) {
        if data.len() >= LARGE && self.large.is_empty() {
            self.large = Bytes::clone(data);
        } else if !data.is_empty() {
            self.buffer().extend_from_slice(data);
        }
    }

    /// Ready once all is written.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, conduit: &mut Conduit) -> Poll<io::Result<()>> {
        loop {
            let flat = &self.flat[self.written..];
            let written = if self.large.is_empty() {
                if flat.is_empty() {
                    break;
                }
                ready!(Pin::new(&mut *conduit).poll_write(cx, flat))?
            } else {
                let slices = [IoSlice::new(flat), IoSlice::new(&self.large), IoSlice::new(&self.tail)];
                let from = usize::from(flat.is_empty());
                ready!(Pin::new(&mut *conduit).poll_write_vectored(cx, &slices[from..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unflushed = true;
            self.bytes_written += written as u64;
            self.advance(written);
        }
        if self.flat.capacity() > 0 {
            self.rest();
        }
        if self.is_unflushed {
            ready!(Pin::new(conduit).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let of_flat = written.min(self.flat.len() - self.written);
        self.written += of_flat;
        written -= of_flat;
        if self.written < self.flat.len() {
            return;
        }
        let of_large = written.min(self.large.len());
        self.large.advance(of_large);
        if self.large.is_empty() {
            self.large = Bytes::new();
            self.flat.clear();
            std::mem::swap(&mut self.flat, &mut self.tail);
            self.written = written - of_large;
        }
    }

    fn rest(&mut self) {
        let mut flat = std::mem::take(&mut self.flat);
        self.written = 0;
        flat.clear();
        if flat.capacity() <= SPARE_BYTES_MAX {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARES_MAX {
                    spares.push(flat);
                }
            });
        }
        if self.tail.capacity() > 0 {
            self.tail = Vec::new();
        }
    }
}
