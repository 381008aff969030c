//! Datagrams that are passed through: a session for each address of a client, with a socket of its own.
//!
//! What becomes of a session is decided as of a connection of TCP (`crate::tcp`): its endpoint, whether there is room for
//! it, how long it may be silent. Nothing is kept of a datagram that cannot be handed on at once; UDP promises no more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use naru_base::{Instant, Reason};
use naru_journey::edge::Peer;
use naru_journey::{Action, Arriving, AttemptEvent, Failure, Sent, Stage};
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::accept::{Connection, ListenerHere};
use crate::conduit::Traffic;
use crate::pool::Life;
use crate::settle::Passage;
use crate::tcp;
use crate::tunnel::Tether;
use crate::worker::{Open, Worker};

/// The largest that there is.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// So many are handed on before others have their turn.
const DATAGRAMS_AT_ONCE: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_BYTES_MAX]);
}

type Sessions = Rc<RefCell<HashMap<SocketAddr, Rc<Session>>>>;

/// A client, and the endpoint that its datagrams go to.
#[derive(Debug)]
struct Session {
    upstream: UdpSocket,
    /// When a datagram last went either way.
    moved: Cell<Instant>,
    traffic: Rc<Traffic>,
}

/// Takes datagrams in until the listener is closed. Sessions go on until they end.
pub async fn serve(worker: Rc<Worker>, socket: Arc<UdpSocket>, listener: Rc<ListenerHere>) {
    let sessions = Sessions::default();
    loop {
        let readable = tokio::select! {
            biased;
            () = listener.closed() => return,
            readable = socket.readable() => readable,
        };
        if readable.is_err() {
            return;
        }
        for _ in 0..DATAGRAMS_AT_ONCE {
            let has_more = SCRATCH.with_borrow_mut(|scratch| match socket.try_recv_from(scratch) {
                Ok((length, client)) => {
                    let datagram = scratch.get(..length).unwrap_or_default();
                    take(&worker, &listener, &socket, &sessions, client, datagram);
                    true
                }
                // An answer of before that could not be delivered is told of here as well.
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            });
            if !has_more {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerHere>,
    socket: &Arc<UdpSocket>,
    sessions: &Sessions,
    client: SocketAddr,
    datagram: &[u8],
) {
    let known = sessions.borrow().get(&client).map(Rc::clone);
    let session = match known {
        Some(session) => session,
        None => match begin(worker, listener, socket, sessions, client) {
            Some(session) => session,
            None => return,
        },
    };
    session.moved.set(worker.clock.now());
    // The runtime does not know of a new socket that it may be written to; the kernel does.
    if SockRef::from(&session.upstream).send(datagram).is_ok() {
        session.traffic.read.set(session.traffic.read.get() + datagram.len() as u64);
    }
}

fn begin(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerHere>,
    socket: &Arc<UdpSocket>,
    sessions: &Sessions,
    client: SocketAddr,
) -> Option<Rc<Session>> {
    let (loaded, at) = listener.now();
    let local = socket.local_addr().ok()?;
    let arriving = Arriving { local: local.ip(), server_name: None, is_tls: false };
    let chain = loaded.snapshot.chain_for(at, &arriving)?;
    let peer = Peer { remote: client, local, is_tls: false, is_certified: false, is_in_tunnel: false };
    let connection = Rc::new(Connection::begin(worker, listener, loaded, chain, peer));
    let open = worker.opened();
    open.tell(&connection);
    let mut passage = tcp::begin(&connection);
    let (upstream, life) = reach(&mut passage)?;
    let traffic = Rc::clone(&passage.tunnel.as_ref()?.traffic);
    let session = Rc::new(Session { upstream, moved: Cell::new(worker.clock.now()), traffic });
    sessions.borrow_mut().insert(client, Rc::clone(&session));
    let carried = Carried {
        tether: Tether::new(&connection),
        passage,
        session: Rc::clone(&session),
        socket: Arc::clone(socket),
        client,
        sessions: Rc::clone(sessions),
        _open: open,
        _life: life,
    };
    tokio::task::spawn_local(carried.carry());
    Some(session)
}

/// A socket to the endpoint that the journey chooses. Nobody is waited for: whether somebody is there shows when he
/// answers.
fn reach(passage: &mut Passage) -> Option<(UdpSocket, Life)> {
    let mut reached = None;
    loop {
        match passage.journey.next_action()? {
            Action::Send { attempt, cluster, endpoint, cause } => {
                let loaded = Rc::clone(&passage.loaded);
                let here = loaded.clusters.get(cluster);
                let endpoint_here = here.endpoint(endpoint)?;
                passage.hold(cause, cluster, endpoint, &endpoint_here);
                let shared = endpoint_here.shared();
                let limits = &loaded.snapshot.cluster(cluster).limits;
                let slot = here.limited.connect_alone(limits, &shared.counts).ok_or(Reason::Overflow);
                let connected = slot.and_then(|slot| {
                    let socket = connect(shared.address).map_err(|_| Reason::ConnectFailure)?;
                    Ok((socket, Life::begin(&here.stats, slot)))
                });
                let event = match connected {
                    Ok((socket, life)) => {
                        passage.upstream_local = socket.local_addr().ok();
                        reached = Some((socket, life));
                        AttemptEvent::Head {
                            status: 200,
                            has_ended: false,
                            headers: None,
                            is_replayable: false,
                        }
                    }
                    Err(reason) => AttemptEvent::Failed(Failure {
                        stage: Stage::Connect,
                        reason,
                        sent: Sent::No,
                        is_reused: false,
                        is_replayable: false,
                    }),
                };
                passage.hear_attempt(attempt, event);
            }
            Action::Forward { .. } => return reached,
            _ => return None,
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    UdpSocket::from_std(socket)
}

/// A session under way.
struct Carried {
    passage: Box<Passage>,
    session: Rc<Session>,
    tether: Tether,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    sessions: Sessions,
    _open: Open,
    _life: Life,
}

impl Carried {
    async fn carry(mut self) {
        poll_fn(|cx| self.poll_over(cx)).await;
        let is_it = |known: &Rc<Session>| Rc::ptr_eq(known, &self.session);
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(&self.client).is_some_and(is_it) {
            sessions.remove(&self.client);
        }
    }

    /// Hands answers on, and is ready once the session is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_answers(cx);
        let journey = &mut self.passage.journey;
        journey.on_progress(self.session.moved.get());
        if self.tether.poll(journey.last_progress(), cx).is_ready() {
            journey.on_drained(self.passage.worker.clock.now());
            return Poll::Ready(());
        }
        self.passage.poll_watch(cx).map(|_| ())
    }

    fn poll_answers(&self, cx: &mut Context<'_>) {
        let traffic = &self.session.traffic;
        SCRATCH.with_borrow_mut(|scratch| {
            for _ in 0..DATAGRAMS_AT_ONCE {
                let mut read = ReadBuf::new(scratch);
                match self.session.upstream.poll_recv(cx, &mut read) {
                    Poll::Ready(Ok(())) => {
                        self.session.moved.set(self.passage.worker.clock.now());
                        let client = self.client.into();
                        if SockRef::from(&*self.socket).send_to(read.filled(), &client).is_ok() {
                            traffic.written.set(traffic.written.get() + read.filled().len() as u64);
                        }
                    }
                    // Nobody is there; perhaps somebody will be.
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => return,
                }
            }
            cx.waker().wake_by_ref();
        });
    }
}
