//! Listening sockets: one for each worker and listener.
//!
//! Workers share an address through `SO_REUSEPORT`, and so could a second proxy by accident: half of
//! the clients would silently land at the wrong one. So the address is first claimed alone.
//!
//! Sockets belong to an address. As long as a listener asks for it they stay open, whatever else changes: no client
//! finds the port closed.

use std::io;
use std::net::{SocketAddr, TcpListener};

use naru_spec::Listener;
use naru_spec::defaults::UNSENT_BYTES_MAX;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::proxy::StartError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Sockets that listen, whatever snapshot asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerKey(u64);

/// A listener that listens.
#[derive(Clone, Debug)]
pub struct Listening {
    pub key: ListenerKey,
    name: String,
    /// What was asked for: perhaps any free port.
    wanted: SocketAddr,
    pub address: SocketAddr,
}

/// New sockets, one for each worker.
#[derive(Debug)]
pub struct Opened {
    pub key: ListenerKey,
    pub sockets: Vec<TcpListener>,
}

/// Finds sockets for all of these listeners: those that listen there already, or new ones. All of them, or none.
pub fn open(
    listeners: &[Listener],
    known: &[Listening],
    count: usize,
) -> Result<(Vec<Listening>, Vec<Opened>), StartError> {
    let kept = keep(listeners, known);
    let is_kept = |listening: &Listening| kept.iter().flatten().any(|kept| kept.key == listening.key);
    let gone: Vec<SocketAddr> =
        known.iter().filter(|known| !is_kept(known)).map(|gone| gone.address).collect();
    let mut next_key = known.iter().map(|known| known.key.0 + 1).max().unwrap_or(0);
    let (mut all, mut opened) = (Vec::new(), Vec::new());
    for (listener, kept) in listeners.iter().zip(kept) {
        let (name, wanted) = (listener.name.clone(), listener.address);
        if let Some(kept) = kept {
            all.push(Listening { name, wanted, ..kept });
            continue;
        }
        let bound = bind_beside(wanted, count, &gone).and_then(|sockets| {
            Ok((local_address(SockRef::from(sockets.first().ok_or_else(none)?))?, sockets))
        });
        let failed = |error| StartError::Listen { listener: name.clone(), address: wanted, error };
        let (address, sockets) = bound.map_err(failed)?;
        let key = ListenerKey(next_key);
        next_key += 1;
        all.push(Listening { key, name, wanted, address });
        opened.push(Opened { key, sockets });
    }
    Ok((all, opened))
}

/// For each listener the sockets that are its own: first those that it asked for in the same words, as only these
/// tell whose a free port is; then those at its address.
fn keep(listeners: &[Listener], known: &[Listening]) -> Vec<Option<Listening>> {
    let mut left: Vec<&Listening> = known.iter().collect();
    let mut kept = vec![None; listeners.len()];
    let is_same = |listener: &Listener, known: &Listening| {
        listener.name == known.name && listener.address == known.wanted
    };
    let is_at = |listener: &Listener, known: &Listening| listener.address == known.address;
    for fits in [&is_same as &dyn Fn(&Listener, &Listening) -> bool, &is_at] {
        for (listener, kept) in listeners.iter().zip(&mut kept) {
            if kept.is_none()
                && let Some(at) = left.iter().position(|known| fits(listener, known))
            {
                *kept = Some(left.remove(at).clone());
            }
        }
    }
    kept
}

/// [`bind`], where addresses of this process that are about to be left do not count as taken: one that listened
/// on all addresses of the machine may go on on a single one.
fn bind_beside(address: SocketAddr, count: usize, gone: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    match bind(address, count) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && overlaps(address, gone) => {
            (0..count).map(|_| shared(address)).collect()
        }
        result => result,
    }
}

fn overlaps(address: SocketAddr, gone: &[SocketAddr]) -> bool {
    gone.iter().any(|gone| {
        gone.port() == address.port() && (gone.ip().is_unspecified() || address.ip().is_unspecified())
    })
}

fn none() -> io::Error {
    io::Error::other("there are no workers")
}

/// Claims an address for this process and binds `count` sockets to it. Port 0 becomes a free port,
/// the same for all.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let alone = socket(address)?;
    alone.bind(&address.into())?;
    // A socket that only binds would let another process bind beside it.
    alone.listen(1)?;
    let address = local_address(SockRef::from(&alone))?;
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

fn local_address(socket: SockRef<'_>) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}

/// Settings of an accepted connection.
pub fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    // Where the kernel does not know it, slow clients cost more of its memory.
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    socket.set_tcp_nodelay(true)
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

    fn listener(name: &str, address: SocketAddr) -> Listener {
        Listener { name: name.to_owned(), address, chains: Vec::new() }
    }

    #[test]
    fn sockets_stay_with_their_address() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let (first, sockets) = open(&[listener("a", any), listener("b", any)], &[], 1).unwrap();
        assert_eq!(sockets.len(), 2);
        let (a, b) = (first[0].address, first[1].address);
        let keys = |all: &[Listening]| all.iter().map(|listening| listening.key.0).collect::<Vec<_>>();
        assert_eq!(keys(&first), [0, 1]);

        let (same, opened) = open(&[listener("b", any), listener("a", any)], &first, 1).unwrap();
        assert_eq!((keys(&same), opened.len()), (vec![1, 0], 0), "found by name where any port will do");
        let (named, opened) = open(&[listener("c", a), listener("d", b)], &first, 1).unwrap();
        assert_eq!((keys(&named), opened.len()), (vec![0, 1], 0), "found by address, whatever it is called");
        let (moved, opened) = open(&[listener("a", any), listener("c", any)], &first, 1).unwrap();
        assert_eq!((keys(&moved), opened.len()), (vec![0, 2], 1));
        assert_ne!(moved[1].address, b);

        let wide = SocketAddr::from(([0, 0, 0, 0], a.port()));
        let error = open(&[listener("a", a), listener("wide", wide)], &first, 1).unwrap_err();
        assert!(matches!(error, StartError::Listen { listener, .. } if listener == "wide"));
        let (widened, opened) = open(&[listener("a", wide)], &first, 1).unwrap();
        assert_eq!((keys(&widened), opened.len()), (vec![2], 1), "it gives the narrow one up");
    }
}
