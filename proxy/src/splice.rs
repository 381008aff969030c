//! Bytes of one socket of TCP that become another's without a copy: splice(2), through a pipe.
//!
//! A pipe is a worker's. A way between two sockets has one for a moment, and keeps it only while there is something in it that is
//! not taken; so quiet connections have none, and what the kernel holds is bounded by [`PIPES_MAX`].

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Of a pipe; and so much is moved at once.
const PIPE_BYTES: usize = 256 * 1024;
/// Of a worker: two descriptors each, and 16 MiB of the kernel's memory together.
const PIPES_MAX: usize = 64;
/// So many are kept for the next.
const IDLE_MAX: usize = 8;

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// What was read and is not written yet.
#[derive(Debug)]
pub struct Pipe {
    end: OwnedFd,
    begin: OwnedFd,
    held: usize,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A thread that ends counts no more.
        let _ = COUNT.try_with(|count| count.set(count.get() - 1));
    }
}

impl Pipe {
    /// `None` where there are too many, or no descriptors left: then bytes are copied.
    pub fn take() -> Option<Pipe> {
        if let Some(pipe) = IDLE.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        if COUNT.get() >= PIPES_MAX {
            return None;
        }
        let (end, begin) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        COUNT.set(COUNT.get() + 1);
        // One that stays smaller moves less at once.
        let _ = fcntl_setpipe_size(&begin, PIPE_BYTES);
        Some(Pipe { end, begin, held: 0 })
    }

    /// For the next, where nothing is in it.
    pub fn give_back(self) {
        IDLE.with_borrow_mut(|idle| {
            if self.held == 0 && idle.len() < IDLE_MAX {
                idle.push(self);
            }
        });
    }

    /// How much is in it.
    pub fn bytes(&self) -> usize {
        self.held
    }

    /// How many wait to be used again.
    #[cfg(test)]
    pub fn idle() -> usize {
        IDLE.with_borrow(Vec::len)
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Reads into a pipe that is empty. Says how much; nothing is the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || pass(from, &self.begin, PIPE_BYTES));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    self.held += bytes;
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes some of what is in it. Says how much.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pass(&self.end, to, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    self.held = self.held.saturating_sub(bytes);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn pass(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, bytes: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, bytes, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}
