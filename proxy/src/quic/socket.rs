//! The socket that quinn reads and writes: a worker's own, and what other workers hand over.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::crossing::{Datagram, Place};
use super::steer::place_of;

/// So often datagrams are looked at that are all somebody else's, before others have their turn.
const LOOKS_MAX: usize = 16;

#[derive(Debug)]
pub struct Wire {
    socket: Arc<UdpSocket>,
    state: UdpSocketState,
    place: Place,
    /// Somebody else reads from it now.
    is_left: AtomicBool,
}

impl Wire {
    pub fn new(socket: Arc<UdpSocket>, place: Place) -> io::Result<Wire> {
        let state = UdpSocketState::new((&*socket).into())?;
        Ok(Wire { socket, state, place, is_left: AtomicBool::new(false) })
    }

    /// Reads no more.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    fn poll_handed_over(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut waiting = self.place.waiting();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Poll::Ready(Some(datagram)) = waiting.poll_recv(cx) else { break };
            let length = datagram.bytes.len();
            // As large as what can be read from a socket.
            let Some(room) = buf.get_mut(..length) else { continue };
            room.copy_from_slice(&datagram.bytes);
            *meta = RecvMeta {
                addr: datagram.from,
                len: length,
                stride: length,
                ecn: datagram.ecn,
                dst_ip: datagram.to,
            };
            count += 1;
        }
        count
    }

    /// Hands over what is somebody else's, and moves what is left together.
    fn sort(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let is_own = |datagram: &[u8]| place_of(datagram).is_none_or(|place| place == self.place.number);
        if buf.get(..meta.len).is_none_or(|all| all.chunks(stride).all(is_own)) {
            return;
        }
        let (mut kept, mut at) = (0, 0);
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            let datagram = buf.get(at..end).unwrap_or_default();
            let place = place_of(datagram).filter(|place| *place != self.place.number);
            let (from, to, ecn) = (meta.addr, meta.dst_ip, meta.ecn);
            let copy = || Datagram { bytes: Bytes::copy_from_slice(datagram), from, to, ecn };
            if !place.is_some_and(|place| self.place.crossing().hand_over(place, copy)) {
                buf.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Wire {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: Arc::clone(&self.socket), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.state.send((&*self.socket).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_left.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let count = self.poll_handed_over(cx, bufs, meta);
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        for _ in 0..LOOKS_MAX {
            ready!(self.socket.poll_recv_ready(cx))?;
            let read = self
                .socket
                .try_io(Interest::READABLE, || self.state.recv((&*self.socket).into(), bufs, meta));
            let Ok(count) = read else { continue };
            let mut kept = 0;
            for at in 0..count {
                let (Some(buf), Some(of)) = (bufs.get_mut(at), meta.get_mut(at)) else { break };
                self.sort(buf, of);
                if of.len > 0 {
                    bufs.swap(kept, at);
                    meta.swap(kept, at);
                    kept += 1;
                }
            }
            if kept > 0 {
                return Poll::Ready(Ok(kept));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until a socket can be written to; several may.
struct Writable {
    socket: Arc<UdpSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}
