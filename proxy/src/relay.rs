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
use crate::splice::Pipe;

/// So much is read at a time.
const READ_BYTES: usize = 32 * 1024;
/// After so many reads in a row that brought as much as they could, more is moved at once, and without a copy.
const FULL_READS_MIN: u8 = 4;
/// So many that bring less end that.
const FULL_READS_MAX: u8 = 8;
/// So much is moved in one turn before others have theirs.
const TURN_BYTES: usize = 1 << 20;

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
    /// The same, where nobody has copied it.
    spliced: Option<Pipe>,
    full_reads: u8,
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
        let mut spliced = 0;
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
            if let Some(pipe) = &self.spliced {
                spliced += pipe.bytes();
                ready!(self.poll_drain(cx, to))?;
            }
            if self.has_ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Broken::Writing)?;
                self.is_closed = true;
                continue;
            }
            if spliced >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
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

    /// Writes what was read and not copied.
    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Conduit) -> Poll<Result<(), Broken>> {
        let (Some(pipe), Some(socket)) = (&mut self.spliced, to.tcp()) else { return Poll::Ready(Ok(())) };
        while !pipe.is_empty() {
            match ready!(pipe.poll_drain(cx, socket)) {
                Ok(written) if written > 0 => to.passed(0, written),
                _ => return Poll::Ready(Err(Broken::Writing)),
            }
        }
        if let Some(pipe) = self.spliced.take() {
            pipe.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once without a copy, where that pays. `None` where it does not.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &Conduit,
        to: &Conduit,
    ) -> Option<Poll<Result<(), Broken>>> {
        if self.full_reads < FULL_READS_MIN {
            return None;
        }
        let (source, _) = from.tcp().zip(to.tcp())?;
        let mut pipe = Pipe::take()?;
        match pipe.poll_fill(cx, source) {
            Poll::Pending => {
                pipe.give_back();
                return Some(Poll::Pending);
            }
            Poll::Ready(Err(_)) => return Some(Poll::Ready(Err(Broken::Reading))),
            Poll::Ready(Ok(0)) => self.has_ended = true,
            Poll::Ready(Ok(read)) => {
                from.passed(read, 0);
                self.has_read(read);
            }
        }
        self.spliced = Some(pipe);
        Some(Poll::Ready(Ok(())))
    }

    /// Whether much comes at once is known by what came.
    fn has_read(&mut self, bytes: usize) {
        self.full_reads = match bytes >= READ_BYTES {
            true => (self.full_reads + 1).min(FULL_READS_MAX),
            false if self.full_reads < FULL_READS_MIN => 0,
            false => self.full_reads - 1,
        };
    }

    /// Reads once, and writes what it can of it.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conduit,
        to: &mut Conduit,
    ) -> Poll<Result<(), Broken>> {
        if let Some(polled) = self.poll_splice(cx, from, to) {
            return polled;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(|_| Broken::Reading)?;
            let read = read.filled();
            if read.is_empty() {
                self.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            self.has_read(read.len());
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::conduit::Traffic;
    use crate::socket::Socket;

    const BYTES: usize = 4 << 20;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, there) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (here.unwrap(), there.unwrap().0)
    }

    fn byte(at: usize) -> u8 {
        (at * 7 + at / 251) as u8
    }

    fn block(from: usize, bytes: usize) -> Vec<u8> {
        (from..from + bytes).map(byte).collect()
    }

    struct Joined {
        client: TcpStream,
        upstream: TcpStream,
        relay: Relay,
        traffic: Rc<Traffic>,
    }

    async fn joined() -> Joined {
        let ((client, ours), (theirs, upstream)) = (pair().await, pair().await);
        // Less than what is sent.
        for stream in [&client, &ours, &theirs, &upstream] {
            socket2::SockRef::from(stream).set_recv_buffer_size(256 << 10).unwrap();
            socket2::SockRef::from(stream).set_send_buffer_size(256 << 10).unwrap();
        }
        let traffic = Rc::<Traffic>::default();
        let ours = Conduit::plain(Socket::Tcp(ours)).counting(&traffic);
        let relay = Relay::new(ours, Conduit::plain(Socket::Tcp(theirs)));
        Joined { client, upstream, relay, traffic }
    }

    /// In blocks of a size, and waits for a moment after each of some.
    async fn send(stream: &mut (impl AsyncWrite + Unpin), blocks: usize, pause_after: usize) {
        let mut sent = 0;
        while sent < BYTES {
            let bytes = blocks.min(BYTES - sent);
            stream.write_all(&block(sent, bytes)).await.unwrap();
            sent += bytes;
            if pause_after > 0 && (sent / blocks).is_multiple_of(pause_after) {
                tokio::task::yield_now().await;
            }
        }
        stream.shutdown().await.unwrap();
    }

    async fn take(stream: &mut (impl AsyncRead + Unpin), at_once: usize) {
        let (mut taken, mut buffer) = (0, vec![0; at_once]);
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            assert!(buffer[..count] == block(taken, count)[..], "at {taken}");
            taken += count;
        }
        assert_eq!(taken, BYTES);
    }

    /// Much both ways, by senders and to takers that are quick and slow: all of it comes, in order, and is counted; and
    /// most of it was never copied.
    #[tokio::test]
    async fn what_one_side_sends_comes_to_the_other_copied_or_not() {
        for (blocks, pause_after, at_once) in
            [(256 << 10, 0, 64 << 10), (1_000, 3, 200_000), (40_000, 2, 3_000)]
        {
            let Joined { mut client, mut upstream, mut relay, traffic } = joined().await;
            let (mut client_reads, mut client_writes) = client.split();
            let (mut upstream_reads, mut upstream_writes) = upstream.split();
            let both = async {
                tokio::join!(
                    send(&mut client_writes, blocks, pause_after),
                    take(&mut upstream_reads, at_once),
                    send(&mut upstream_writes, blocks, pause_after),
                    take(&mut client_reads, at_once),
                )
            };
            let (ended, _) = tokio::join!(poll_fn(|cx| relay.poll(cx)), both);
            assert_eq!(ended, Ok(()));
            assert_eq!((traffic.read.get(), traffic.written.get()), (BYTES as u64, BYTES as u64));
        }
        assert!(Pipe::idle() > 0, "nothing was ever spliced");
    }

    /// One that takes nothing keeps what is on its way to it, a pipe's worth; and when it takes, all of it is there.
    #[tokio::test]
    async fn who_takes_nothing_holds_up_nobody_but_its_own_sender() {
        let Joined { mut client, mut upstream, mut relay, traffic } = joined().await;
        let mut sender = tokio::spawn(async move {
            send(&mut upstream, 256 << 10, 0).await;
            upstream
        });
        // Until nothing moves any more.
        let mut last = (u64::MAX, 0);
        while last.1 < 50 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(relay.poll(cx).is_ready())).await;
            assert!(!polled);
            let moved = traffic.written.get();
            last = if moved == last.0 { (moved, last.1 + 1) } else { (moved, 0) };
            tokio::task::yield_now().await;
        }
        assert!(!sender.is_finished(), "it was all taken");
        assert!(relay.up.spliced.is_none());
        let ended = tokio::join!(poll_fn(|cx| relay.poll(cx)), async {
            take(&mut client, 100_000).await;
            client.shutdown().await.unwrap();
        });
        assert_eq!(ended.0, Ok(()));
        (&mut sender).await.unwrap();
    }

    #[tokio::test]
    async fn who_breaks_it_off_in_the_midst_is_told() {
        for client_breaks in [true, false] {
            let Joined { client, mut upstream, mut relay, .. } = joined().await;
            let mut client = client;
            let moved = async {
                let mut buffer = vec![0; 1 << 20];
                upstream.write_all(&block(0, 1 << 20)).await.unwrap();
                client.read_exact(&mut buffer).await.unwrap();
            };
            tokio::select! {
                _ = poll_fn(|cx| relay.poll(cx)) => panic!("it ended"),
                () = moved => {}
            }
            let (gone, side) =
                if client_breaks { (&client, Side::Client) } else { (&upstream, Side::Upstream) };
            socket2::SockRef::from(gone).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            if client_breaks {
                drop(client)
            } else {
                drop(upstream)
            }
            assert_eq!(poll_fn(|cx| relay.poll(cx)).await, Err(side));
        }
    }
}
