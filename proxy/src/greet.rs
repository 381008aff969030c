//! What a client says before anything else: who it is (the PROXY protocol), whether it speaks TLS and for which name.
//! Then its chain is known, and a handshake that the chain ends is ended.
//!
//! Where no chain asks for it, nothing is read at all: the server may be the one who speaks first.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use naru_journey::proxied::{Beginning, Ends, HEADER_BYTES_MAX};
use naru_journey::{Arriving, ChainId};
use naru_spec::{FilterChain, ProxyProtocol};
use naru_tls::{Opening, Shown};
use tokio::io::AsyncReadExt;

use crate::accept::{ListenerHere, seat_of_source};
use crate::conduit::Conduit;
use crate::loaded::Loaded;
use crate::metrics::TurnedAway;
use crate::seats::{Counted, OfSource};
use crate::socket::Socket;

/// A connection whose chain is known.
#[derive(Debug)]
pub struct Greeted {
    pub conduit: Conduit,
    pub loaded: Rc<Loaded>,
    pub chain: ChainId,
    pub alpn: Option<Vec<u8>>,
    pub server_name: Option<String>,
    /// Of TLS that ends here.
    pub version: Option<&'static str>,
    pub shown: Option<Box<Shown>>,
    /// It began with TLS, wherever that ends; told only where a chain asks for it.
    pub is_tls: bool,
    /// Both ends as the client sees them.
    pub ends: Ends,
    pub in_chain: Option<Counted>,
    pub of_source: Option<OfSource>,
}

/// Why a client is not let in.
#[derive(Debug)]
pub enum Refused {
    /// No chain takes it.
    NoChain,
    /// It does not say who it is as it should.
    Header,
    Tls,
    /// As many are there as may be.
    Full(Box<Full>),
}

/// A connection for which there is no place.
#[derive(Debug)]
pub struct Full {
    pub stream: Socket,
    pub loaded: Rc<Loaded>,
    pub chain: ChainId,
    /// It is kept waiting for so long.
    pub delay: Duration,
    pub why: TurnedAway,
    /// Who it is, or speaks for.
    pub source: SocketAddr,
}

/// A chain that has a place for a connection.
struct Found {
    loaded: Rc<Loaded>,
    chain: ChainId,
    in_chain: Option<Counted>,
    of_source: Option<OfSource>,
}

impl Found {
    fn of(loaded: Rc<Loaded>, at: usize, arriving: &Arriving<'_>, ends: Ends) -> Result<Found, Lost> {
        let chain = loaded.snapshot.chain_for(at, arriving).ok_or(Lost::NoChain)?;
        let is_spoken_for =
            loaded.snapshot.listeners.get(at).is_some_and(|listener| listener.proxy_protocol.is_some());
        let of_source = match is_spoken_for {
            true => seat_of_source(&loaded, at, ends.source),
            // It was counted when it came.
            false => Ok(None),
        };
        let in_chain = loaded.prepared.count_in_chain(at, chain);
        match (of_source, in_chain) {
            (Ok(of_source), Ok(in_chain)) => Ok(Found { loaded, chain, in_chain, of_source }),
            (Err(why), _) => Err(Lost::Full { loaded, chain, delay: Duration::ZERO, why }),
            (Ok(_), Err(delay)) => Err(Lost::Full { loaded, chain, delay, why: TurnedAway::Listener }),
        }
    }
}

/// There is none.
enum Lost {
    NoChain,
    Full { loaded: Rc<Loaded>, chain: ChainId, delay: Duration, why: TurnedAway },
}

impl Lost {
    fn with(self, stream: Socket, ends: Ends) -> Refused {
        match self {
            Lost::NoChain => Refused::NoChain,
            Lost::Full { loaded, chain, delay, why } => {
                Refused::Full(Box::new(Full { stream, loaded, chain, delay, why, source: ends.source }))
            }
        }
    }
}

/// Finds the chain that takes a connection, and finishes its handshake where the chain has TLS.
pub async fn greet(listener: &ListenerHere, mut stream: Socket, seen: Ends) -> Result<Greeted, Refused> {
    let mut start = Vec::new();
    let mut ends = seen;
    let (loaded, at) = listener.now();
    let settings = loaded.snapshot.listeners.get(at).ok_or(Refused::NoChain)?;
    if let Some(protocol) = settings.proxy_protocol {
        drop(loaded);
        let said = read_header(&mut stream, &mut start, protocol).await.map_err(|_| Refused::Header)?;
        ends = said.unwrap_or(seen);
    }
    let (loaded, at) = listener.now();
    let settings = loaded.snapshot.listeners.get(at).ok_or(Refused::NoChain)?;
    if !loaded.snapshot.must_inspect(at) {
        return plain(loaded, at, stream, start, ends, None, false);
    }
    let takes_other = settings.chains.iter().any(FilterChain::takes_plain);
    drop(loaded);
    let opening = Opening::read(stream, &mut start, takes_other).await.map_err(|_| Refused::Tls)?;
    // A client may take its time before it says anything.
    let (loaded, at) = listener.now();
    let hello = match opening {
        Opening::Other(stream) => return plain(loaded, at, stream, start, ends, None, false),
        Opening::Tls(hello) => hello,
    };
    let server_name = hello.server_name();
    let arriving = Arriving { local: ends.destination.ip(), server_name, is_tls: true };
    let chain = loaded.snapshot.chain_for(at, &arriving).ok_or(Refused::NoChain)?;
    if loaded.terminator(chain).is_none() {
        let server_name = server_name.map(str::to_owned);
        return plain(loaded, at, hello.into_io(), start, ends, server_name, true);
    }
    drop(start);
    let found = Found::of(loaded, at, &arriving, ends);
    let Found { loaded, chain, in_chain, of_source } = match found {
        Ok(found) => found,
        Err(lost) => return Err(lost.with(hello.into_io(), ends)),
    };
    let timeout = loaded.prepared.handshake_timeout(at, chain);
    let terminator = loaded.terminator(chain).ok_or(Refused::NoChain)?;
    let finished = tokio::time::timeout(timeout, hello.finish_shown(terminator)).await;
    let (stream, handshake, shown) = finished.map_err(|_| Refused::Tls)?.map_err(|_| Refused::Tls)?;
    Ok(Greeted {
        in_chain,
        of_source,
        conduit: Conduit::server(stream),
        loaded,
        chain,
        alpn: handshake.alpn,
        server_name: handshake.server_name,
        version: Some(handshake.version),
        shown,
        is_tls: true,
        ends,
    })
}

/// What was read is for whoever serves the connection.
fn plain(
    loaded: Rc<Loaded>,
    at: usize,
    stream: Socket,
    start: Vec<u8>,
    ends: Ends,
    server_name: Option<String>,
    is_tls: bool,
) -> Result<Greeted, Refused> {
    let arriving = Arriving { local: ends.destination.ip(), server_name: server_name.as_deref(), is_tls };
    let found = Found::of(loaded, at, &arriving, ends);
    let Found { loaded, chain, in_chain, of_source } = match found {
        Ok(found) => found,
        Err(lost) => return Err(lost.with(stream, ends)),
    };
    let mut conduit = Conduit::plain(stream);
    if !start.is_empty() {
        conduit.unread(Bytes::from(start));
    }
    Ok(Greeted {
        conduit,
        loaded,
        chain,
        alpn: None,
        server_name,
        version: None,
        shown: None,
        is_tls,
        ends,
        in_chain,
        of_source,
    })
}

/// Takes the header off, and leaves in `start` what was read behind it.
async fn read_header(
    stream: &mut Socket,
    start: &mut Vec<u8>,
    protocol: ProxyProtocol,
) -> io::Result<Option<Ends>> {
    loop {
        match Beginning::of(start) {
            Beginning::Header { length, ends } => {
                start.drain(..length.min(start.len()));
                return Ok(ends);
            }
            Beginning::None if protocol.is_optional => return Ok(None),
            Beginning::None | Beginning::Malformed => return Err(io::ErrorKind::InvalidData.into()),
            Beginning::Open => {}
        }
        // One that is not whole has less than the most that one may have.
        let known = start.len();
        start.resize(HEADER_BYTES_MAX, 0);
        let read = stream.read(start.get_mut(known..).unwrap_or_default()).await;
        start.truncate(known + read.as_ref().map_or(0, |read| *read));
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
