//! Packets and sockets over a Unix socket.
//!
//! The socket keeps packets apart (`SOCK_SEQPACKET`), so that sockets stay with the packet that tells of them. The
//! library has no type for these; its streams wait for any kind of socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use super::packet::{BYTES_MAX, Packet, SOCKETS_MAX, Unreadable};

/// One end.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    pub fn connect(path: &Path) -> io::Result<Channel> {
        let socket = socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        UnixStream::from_std(net::UnixStream::from(socket)).map(Channel)
    }

    pub async fn send(&self, packet: &Packet, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = packet.encode();
        if bytes.len() > BYTES_MAX || sockets.len() > SOCKETS_MAX {
            return Err(io::Error::other("there are too many listeners, or their names are too long"));
        }
        let send = || -> io::Result<usize> {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
                return Err(io::Error::other("sockets do not fit beside a packet"));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(|_| ())
    }

    /// The next packet. The end of the other process is `UnexpectedEof`.
    pub async fn receive(&self) -> io::Result<(Packet, Vec<OwnedFd>)> {
        let mut bytes = vec![0; BYTES_MAX + 1];
        let receive = || -> io::Result<(usize, Vec<OwnedFd>)> {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&self.0, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let mut sockets = Vec::new();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::Error::other(
                    "not all sockets arrived: raise the limit of open files (ulimit -n, LimitNOFILE=)",
                ));
            }
            Ok((received.bytes, sockets))
        };
        let (count, sockets) = self.0.async_io(Interest::READABLE, receive).await?;
        match bytes.get(..count) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(bytes) => Ok((Packet::decode(bytes).map_err(unreadable)?, sockets)),
        }
    }
}

/// Whether the other process is not there any more.
pub fn has_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe | NotConnected)
}

/// A socket that listens, and hands connections out.
#[derive(Debug)]
pub struct Acceptor(UnixListener);

impl Acceptor {
    /// Binds to a path that is not there yet. Nobody can connect before `ready` is called.
    pub fn bind(path: &Path, ready: impl FnOnce() -> io::Result<()>) -> io::Result<Acceptor> {
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        ready()?;
        rustix::net::listen(&socket, 4)?;
        UnixListener::from_std(net::UnixListener::from(socket)).map(Acceptor)
    }

    pub async fn accept(&self) -> io::Result<Channel> {
        self.0.accept().await.map(|(socket, _)| Channel(socket))
    }
}

/// Room for the handles of a packet.
const SPACE: usize = rustix::cmsg_space!(ScmRights(SOCKETS_MAX));

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn unreadable(why: Unreadable) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
