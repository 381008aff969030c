//! Listening sockets: one for each worker and listener.
//!
//! Workers share an address through `SO_REUSEPORT`, and so could a second proxy by accident: half of
//! the clients would silently land at the wrong one. So the address is first claimed alone.
//!
//! Sockets belong to an address. As long as a listener asks for it they stay open, whatever else changes: no client
//! finds the port closed. Sockets that listen already, because another process or systemd has opened them, are used as
//! they are, however many there are: [`spread`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use naru_spec::Listener;
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

use crate::proxy::StartError;
use crate::socket::{Bound, StreamListener, THIS_MACHINE};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Sockets that listen, whatever snapshot asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerKey(u64);

impl ListenerKey {
    /// Of one process, this number means the same for as long as the sockets are open.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A listener that listens.
#[derive(Clone, Debug)]
pub struct Listening {
    pub key: ListenerKey,
    pub name: String,
    /// What was asked for: perhaps any free port.
    pub wanted: SocketAddr,
    is_udp: bool,
    pub address: SocketAddr,
    /// Somebody else keeps the sockets open for whoever comes next: what waits in their queues is not ours to end.
    pub is_kept: bool,
}

/// Sockets that workers do not accept from yet.
#[derive(Debug)]
pub struct Opened {
    pub key: ListenerKey,
    /// By worker.
    pub sockets: Vec<Vec<Bound>>,
}

/// Sockets at one address that listen already, and came from elsewhere.
#[derive(Debug)]
pub struct Inherited {
    /// What the listener is called that they are for, if that was said.
    name: Option<String>,
    /// What was asked for where they were opened, if that was said.
    wanted: Option<SocketAddr>,
    address: SocketAddr,
    sockets: Vec<Bound>,
    /// Of a Unix socket.
    path: Option<String>,
    is_udp: bool,
    is_kept: bool,
}

impl Inherited {
    /// # Errors
    /// One of them does not listen, or they are at several addresses.
    pub fn new(name: Option<String>, wanted: Option<SocketAddr>, fds: Vec<OwnedFd>) -> io::Result<Inherited> {
        let mut sockets = Vec::with_capacity(fds.len());
        let mut common = None;
        for fd in fds {
            let socket = Socket::from(fd);
            let address = socket.local_addr()?;
            let is_udp = socket.r#type()? == Type::DGRAM && !address.is_unix();
            if !is_udp
                && (socket.r#type()? != Type::STREAM || !rustix::net::sockopt::socket_acceptconn(&socket)?)
            {
                return Err(io::Error::other("it is no socket that listens for connections"));
            }
            socket.set_nonblocking(true)?;
            socket.set_cloexec(true)?;
            let path = path_of(&address);
            let at = (address.as_socket(), path, is_udp);
            if *common.get_or_insert_with(|| at.clone()) != at {
                return Err(io::Error::other("sockets of one listener are at several addresses"));
            }
            sockets.push(match address.as_socket() {
                None => Bound::Unix(socket.into()),
                Some(_) if is_udp => Bound::Udp(socket.into()),
                Some(_) => Bound::Tcp(socket.into()),
            });
        }
        let (address, path, is_udp) = common.ok_or_else(|| io::Error::other("a listener without sockets"))?;
        let address = address.unwrap_or(THIS_MACHINE);
        Ok(Inherited { name, wanted, address, sockets, path, is_udp, is_kept: false })
    }

    /// Whether a listener asks for what these are.
    fn is_of_kind(&self, listener: &Listener) -> bool {
        let path = listener.pipe.as_ref().map(|pipe| &pipe.path);
        path == self.path.as_ref() && listener.is_udp == self.is_udp
    }

    /// Somebody else keeps them open, too, as systemd does.
    #[must_use]
    pub fn kept(self, is_kept: bool) -> Inherited {
        Inherited { is_kept, ..self }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// What listens where.
#[derive(Debug)]
pub struct Sites {
    /// By listener.
    pub listening: Vec<Listening>,
    /// Of those that are new.
    pub opened: Vec<Opened>,
    /// Sockets that no listener asks for.
    pub left: Vec<Inherited>,
}

/// Finds sockets for all of these listeners: those that listen there already, or new ones. All of them, or none.
pub fn open(
    listeners: &[Listener],
    known: &[Listening],
    inherited: Vec<Inherited>,
    count: usize,
) -> Result<Sites, StartError> {
    let (kept, gone) = keep(listeners, known);
    let (mut given, left) = bequeath(listeners, &kept, inherited);
    let gone = gone.iter().map(|gone| gone.address).chain(left.iter().map(|left| left.address));
    let gone: Vec<SocketAddr> = gone.collect();
    let mut next_key = known.iter().map(|known| known.key.0 + 1).max().unwrap_or(0);
    let (mut all, mut opened) = (Vec::new(), Vec::new());
    for ((listener, kept), given) in listeners.iter().zip(kept).zip(&mut given) {
        let (name, wanted, is_udp) = (listener.name.clone(), listener.address, listener.is_udp);
        if let Some(kept) = kept {
            all.push(Listening { name, wanted, is_udp, ..kept });
            continue;
        }
        let given = given.take();
        let is_kept = given.as_ref().is_some_and(|given| given.is_kept);
        let each = |sockets: Vec<Bound>| sockets.into_iter().map(|socket| vec![socket]).collect();
        let bound = match (given, &listener.pipe) {
            (Some(given), _) => spread(given.sockets, count).map(|sockets| (given.address, sockets)),
            (None, Some(pipe)) => Bound::unix(pipe, count).map(|sockets| (wanted, each(sockets))),
            (None, None) if is_udp => {
                bind_udp(wanted, count).map(|(address, sockets)| (address, each(sockets)))
            }
            (None, None) => bind_beside(wanted, count, &gone).and_then(|sockets| {
                let address = local_address(SockRef::from(sockets.first().ok_or_else(none)?))?;
                Ok((address, each(sockets.into_iter().map(Bound::Tcp).collect())))
            }),
        };
        let path = listener.pipe.as_ref().map(|pipe| pipe.path.clone());
        let failed = |error| match path {
            Some(path) => StartError::Pipe { listener: name.clone(), path, error },
            None => StartError::Listen { listener: name.clone(), address: wanted, error },
        };
        let (address, sockets) = bound.map_err(failed)?;
        let key = ListenerKey(next_key);
        next_key += 1;
        all.push(Listening { key, name, wanted, is_udp, address, is_kept });
        opened.push(Opened { key, sockets });
    }
    Ok(Sites { listening: all, opened, left })
}

/// For each listener the sockets that are its own: first those that it asked for in the same words, as only these
/// tell whose a free port is; then those at its address. And those that are nobody's.
fn keep(listeners: &[Listener], known: &[Listening]) -> (Vec<Option<Listening>>, Vec<Listening>) {
    let is_same = |listener: &Listener, known: &Listening| {
        listener.name == known.name && listener.address == known.wanted && listener.is_udp == known.is_udp
    };
    let is_at = |listener: &Listener, known: &Listening| {
        listener.address == known.address && listener.is_udp == known.is_udp
    };
    let listeners: Vec<&Listener> = listeners.iter().collect();
    let mut kept = vec![None; listeners.len()];
    let mut left = known.to_vec();
    assign(&listeners, &mut kept, &mut left, &is_same);
    assign(&listeners, &mut kept, &mut left, &is_at);
    (kept, left)
}

/// The same for sockets that came from elsewhere; a name that came without words of an address is enough.
fn bequeath(
    listeners: &[Listener],
    kept: &[Option<Listening>],
    mut left: Vec<Inherited>,
) -> (Vec<Option<Inherited>>, Vec<Inherited>) {
    let is_named = |listener: &Listener, given: &Inherited| given.name.as_ref() == Some(&listener.name);
    let is_same = |listener: &Listener, given: &Inherited| {
        let is_meant = given.wanted.is_none_or(|wanted| wanted == listener.address);
        given.is_of_kind(listener) && is_named(listener, given) && is_meant
    };
    let is_at = |listener: &Listener, given: &Inherited| {
        given.is_of_kind(listener) && listener.address == given.address
    };
    // Who listens already needs none.
    let homeless: Vec<&Listener> =
        listeners.iter().zip(kept).filter(|(_, kept)| kept.is_none()).map(|(listener, _)| listener).collect();
    let mut given: Vec<Option<Inherited>> = homeless.iter().map(|_| None).collect();
    assign(&homeless, &mut given, &mut left, &is_same);
    assign(&homeless, &mut given, &mut left, &is_at);
    let mut given = given.into_iter();
    let all = kept.iter().map(|kept| if kept.is_none() { given.next().flatten() } else { None });
    (all.collect(), left)
}

fn assign<T>(
    listeners: &[&Listener],
    places: &mut [Option<T>],
    left: &mut Vec<T>,
    fits: &dyn Fn(&Listener, &T) -> bool,
) {
    for (listener, place) in listeners.iter().zip(places) {
        if place.is_none()
            && let Some(at) = left.iter().position(|candidate| fits(listener, candidate))
        {
            *place = Some(left.remove(at));
        }
    }
}

/// Gives each worker sockets to accept from. Where there are fewer sockets than workers, several workers share one;
/// where there are more, a worker has several. None is closed, and none is added: what waits in the queue of a
/// socket would be reset with it.
fn spread(sockets: Vec<Bound>, count: usize) -> io::Result<Vec<Vec<Bound>>> {
    let mut by_worker: Vec<Vec<Bound>> = (0..count).map(|_| Vec::new()).collect();
    for at in sockets.len()..count {
        let shared = sockets.get(at % sockets.len().max(1)).ok_or_else(none)?;
        // Datagrams of one client must go to one worker.
        if !matches!(shared, Bound::Udp(_)) {
            by_worker.get_mut(at).ok_or_else(none)?.push(shared.try_clone()?);
        }
    }
    for (at, socket) in sockets.into_iter().enumerate() {
        by_worker.get_mut(at % count.max(1)).ok_or_else(none)?.push(socket);
    }
    Ok(by_worker)
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
    let first = socket(address)?;
    first.bind(&address.into())?;
    // A socket that only binds would let another process bind beside it.
    first.listen(BACKLOG)?;
    let address = local_address(SockRef::from(&first))?;
    // Shared from now on, and it stays: whoever has come to it meanwhile would be thrown out with it.
    first.set_reuse_port(true)?;
    let others = (1..count).map(|_| shared(address));
    std::iter::once(Ok(first.into())).chain(others).collect()
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As [`bind`], for datagrams: the kernel leads those of one client to the same socket.
fn bind_udp(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<Bound>)> {
    let socket = || Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP));
    let alone = socket()?;
    alone.bind(&address.into())?;
    let address = local_address(SockRef::from(&alone))?;
    drop(alone);
    let shared = || {
        let socket = socket()?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Bound::Udp(socket.into()))
    };
    let all: io::Result<Vec<Bound>> = (0..count).map(|_| shared()).collect();
    Ok((address, all?))
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

/// Lets no client begin to connect any more: what it sends to do so is passed by, until the socket is closed and it is
/// refused. Who has begun is let in, or closing the socket would throw out a client that believes itself connected.
pub fn begin_no_more(socket: &StreamListener) -> io::Result<()> {
    /// Of a TCP segment: where its flags are, SYN and ACK of them, and what it has that begins a connection.
    const FLAGS: (u32, u32, u32) = (13, 0x12, 0x02);
    let (load, mask, is_equal, answer): (u16, u16, u16, u16) = (0x30, 0x54, 0x15, 0x06);
    let StreamListener::Tcp(socket) = socket else { return Ok(()) };
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(load, 0, 0, FLAGS.0),
        SockFilter::new(mask, 0, 0, FLAGS.1),
        SockFilter::new(is_equal, 0, 1, FLAGS.2),
        SockFilter::new(answer, 0, 0, 0),
        SockFilter::new(answer, 0, 0, u32::MAX),
    ])
}

/// As documents say it: `@` for the abstract namespace.
fn path_of(address: &SockAddr) -> Option<String> {
    let path = address.as_pathname().map(|path| path.to_string_lossy().into_owned());
    let name = || address.as_abstract_namespace().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    path.or_else(name)
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

    /// Clients come to all of them, the first as well, which listened before it was shared.
    #[test]
    fn clients_come_to_every_socket_of_an_address() {
        let ours = bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        let address = ours[0].local_addr().unwrap();
        let clients: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let met: Vec<usize> =
            ours.iter().map(|one| std::iter::from_fn(|| one.accept().ok()).count()).collect();
        assert_eq!(met.iter().sum::<usize>(), clients.len());
        assert!(met.iter().all(|count| *count > 30), "{met:?}");
    }

    fn listener(name: &str, address: SocketAddr) -> Listener {
        Listener::new(name, address, Vec::new())
    }

    #[test]
    fn sockets_stay_with_their_address() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let open = |listeners: &[Listener], known: &[Listening], count| {
            super::open(listeners, known, Vec::new(), count).map(|sites| (sites.listening, sites.opened))
        };
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

    fn inherited(name: Option<&str>, wanted: Option<SocketAddr>, count: usize) -> Inherited {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let sockets = bind(any, count).unwrap().into_iter().map(OwnedFd::from).collect();
        Inherited::new(name.map(str::to_owned), wanted, sockets).unwrap()
    }

    #[test]
    fn sockets_that_came_from_elsewhere_go_to_their_listener() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let (same, named, there, foreign) = (
            inherited(Some("a"), Some(any), 1),
            inherited(Some("b"), None, 1),
            inherited(Some("old"), None, 1),
            inherited(Some("x"), None, 1),
        );
        let addresses = [same.address, named.address, there.address];
        let listeners = [listener("c", there.address), listener("a", any), listener("b", foreign.address)];
        let foreign_at = foreign.address;
        let sites = open(&listeners, &[], vec![foreign, there, named, same], 1).unwrap();
        let found: Vec<SocketAddr> = sites.listening.iter().map(|listening| listening.address).collect();
        assert_eq!(found, [addresses[2], addresses[0], addresses[1]]);
        let left: Vec<SocketAddr> = sites.left.iter().map(Inherited::address).collect();
        assert_eq!(left, [foreign_at]);
        // A free port that was asked for under another name is another one.
        let sites = open(&[listener("z", any)], &[], vec![inherited(Some("a"), Some(any), 1)], 1).unwrap();
        assert_eq!(sites.left.len(), 1);
        // What listens already needs nothing from elsewhere.
        let known = sites.listening;
        let sites = open(&[listener("z", any)], &known, vec![inherited(Some("z"), Some(any), 1)], 1).unwrap();
        assert_eq!((sites.opened.len(), sites.left.len()), (0, 1));
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for sockets in 1..=5 {
            for workers in 1..=5 {
                let given = inherited(None, None, sockets);
                let address = given.address;
                let spread = spread(given.sockets, workers).unwrap();
                assert_eq!(spread.len(), workers);
                assert!(spread.iter().all(|of_worker| !of_worker.is_empty()), "{sockets} {workers}");
                let count: usize = spread.iter().map(Vec::len).sum();
                assert_eq!(count, sockets.max(workers));
                let most = spread.iter().map(Vec::len).max().unwrap();
                let least = spread.iter().map(Vec::len).min().unwrap();
                assert!(most - least <= 1, "{sockets} {workers}");
                for socket in spread.iter().flatten() {
                    let Bound::Tcp(socket) = socket else { panic!("{socket:?}") };
                    assert_eq!(socket.local_addr().unwrap(), address);
                }
            }
        }
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (pair, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(Inherited::new(None, None, vec![pair.into()]).is_err());
        let bound = socket(([127, 0, 0, 1], 0).into()).unwrap();
        assert!(Inherited::new(None, None, vec![bound.into()]).is_err());
        assert!(Inherited::new(None, None, Vec::new()).is_err());
        let two =
            [bind(([127, 0, 0, 1], 0).into(), 1).unwrap(), bind(([127, 0, 0, 1], 0).into(), 1).unwrap()];
        let two = two.into_iter().flatten().map(OwnedFd::from).collect();
        assert!(Inherited::new(None, None, two).is_err(), "at two addresses");
    }
}
