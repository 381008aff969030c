//! Listening sockets: one for each worker and listener.
//!
//! Workers share an address through `SO_REUSEPORT`, and so could a second proxy by accident: half of
//! the clients would silently land at the wrong one. So the address is first claimed alone.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Claims an address for this process and binds `count` sockets to it. Port 0 becomes a free port,
/// the same for all.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let alone = socket(address)?;
    alone.bind(&address.into())?;
    // A socket that only binds would let another process bind beside it.
    alone.listen(1)?;
    let address = local_address(&alone)?;
    drop(alone);
    (0..count).map(|_| shared(address)).collect()
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}

/// Settings of an accepted connection.
pub fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_shared_with_somebody_else() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let ours = bind(any, 2).unwrap();
        let taken = ours[0].local_addr().unwrap();
        assert_eq!(ours[1].local_addr().unwrap(), taken);
        assert_eq!(bind(taken, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(ours);
        assert_eq!(bind(taken, 1).unwrap().len(), 1);
    }
}
