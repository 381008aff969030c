//! The sockets of both families that streams go by: TCP, and Unix sockets, which have paths instead of addresses.
//!
//! A path that begins with `@` is of the abstract namespace, as in Envoy. Who comes by a Unix socket is on this machine,
//! and has no address: 127.0.0.1 and port 0 stand for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use naru_spec::Pipe;
use naru_spec::defaults::UNSENT_BYTES_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};

/// Stands for whoever comes by a Unix socket.
pub const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One that listens, and that no runtime knows yet.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
    Udp(std::net::UdpSocket),
}

/// One that clients come to.
#[derive(Debug)]
pub enum Listening {
    Stream(StreamListener),
    Udp(Arc<UdpSocket>),
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Stream(StreamListener::Tcp(listener)) => listener.as_fd(),
            Listening::Stream(StreamListener::Unix(listener)) => listener.as_fd(),
            Listening::Udp(socket) => socket.as_fd(),
        }
    }
}

/// One that connections are taken from.
#[derive(Debug)]
pub enum StreamListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.local_addr(),
            Socket::Unix(_) => Ok(THIS_MACHINE),
        }
    }

    /// What is written goes out at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nodelay(true),
            Socket::Unix(_) => Ok(()),
        }
    }

    /// As of a client: what waits to be sent to it is bounded.
    pub fn prepare(&self) -> io::Result<()> {
        if let Socket::Tcp(stream) = self {
            // Where the kernel does not know it, slow clients cost more of its memory.
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        }
        self.set_nodelay()
    }

    /// Whether nothing waits in the kernel to be sent. From here on hardly anything more may.
    pub fn has_sent(&self) -> bool {
        let Socket::Tcp(stream) = self else { return true };
        // It can be written to, as the kernel says it, once less than this waits.
        let is_bounded = SockRef::from(stream).set_tcp_notsent_lowat(1).is_ok();
        let mut asked = [PollFd::new(stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        !is_bounded || poll(&mut asked, Some(&at_once)).is_ok_and(|writable| writable > 0)
    }

    pub async fn connect_unix(path: &str) -> io::Result<Socket> {
        // The library's spelling of an abstract name.
        let stream = match path.strip_prefix('@') {
            Some(name) => UnixStream::connect(format!("\0{name}")).await?,
            None => UnixStream::connect(path).await?,
        };
        Ok(Socket::Unix(stream))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! on_socket {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_socket!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Bound {
    /// A Unix socket that listens, `count` times: all take from one queue. A file that was left behind by somebody who is
    /// gone is replaced.
    pub fn unix(pipe: &Pipe, count: usize) -> io::Result<Vec<Bound>> {
        let listener = match bind_unix(&pipe.path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(&pipe.path) => {
                std::fs::remove_file(&pipe.path)?;
                bind_unix(&pipe.path)?
            }
            bound => bound?,
        };
        if pipe.mode != 0 && !pipe.is_abstract() {
            std::fs::set_permissions(&pipe.path, std::fs::Permissions::from_mode(pipe.mode))?;
        }
        listener.set_nonblocking(true)?;
        (0..count).map(|_| Ok(Bound::Unix(listener.try_clone()?))).collect()
    }

    pub fn try_clone(&self) -> io::Result<Bound> {
        match self {
            Bound::Tcp(listener) => listener.try_clone().map(Bound::Tcp),
            Bound::Unix(listener) => listener.try_clone().map(Bound::Unix),
            Bound::Udp(socket) => socket.try_clone().map(Bound::Udp),
        }
    }

    pub fn register(self) -> io::Result<Listening> {
        match self {
            Bound::Tcp(listener) => TcpListener::from_std(listener)
                .map(|listener| Listening::Stream(StreamListener::Tcp(listener))),
            Bound::Unix(listener) => UnixListener::from_std(listener)
                .map(|listener| Listening::Stream(StreamListener::Unix(listener))),
            Bound::Udp(socket) => UdpSocket::from_std(socket).map(|socket| Listening::Udp(Arc::new(socket))),
        }
    }
}

fn bind_unix(path: &str) -> io::Result<unix::UnixListener> {
    match path.strip_prefix('@') {
        Some(name) => unix::UnixListener::bind_addr(&unix::SocketAddr::from_abstract_name(name)?),
        None => unix::UnixListener::bind(path),
    }
}

/// Whether a path is a socket that nobody listens on.
fn is_left_behind(path: &str) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket
        && unix::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl StreamListener {
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        match self {
            StreamListener::Tcp(listener) => {
                let (stream, remote) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Socket::Tcp(stream), remote)))
            }
            StreamListener::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Socket::Unix(stream), THIS_MACHINE)))
            }
        }
    }
}
