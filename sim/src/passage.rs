//! A request under way, as the simulated proxy holds it: the counterpart of
//! `proxy/src/settle.rs`, `proxy/src/upload.rs` and the futures of `proxy/src/engine.rs`.

use std::net::SocketAddr;
use std::rc::Rc;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant};
use naru_journey::Journey;
use naru_journey::edge::{Client, Peer};
use naru_journey::record::RequestLine;
use naru_spec::defaults::REPLAY_BYTES_MAX;

use crate::arena::Ticket;
use crate::asker::Asker;
use crate::body::{Body, BodyEnd};
use crate::kept::Cached;
use crate::mirrors::{Copied, Copies};
use crate::pool::Carrier;
use crate::queue::Handle;
use crate::upstream::{Answer, Place, ProxyId};

/// A request, by its place and its number: the number makes sure that news of one that is over is
/// not taken for news of its successor in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    slot: u32,
    number: u64,
}

/// The head of a request, as long as its checks may ask for it.
#[derive(Debug)]
pub struct KeptHead {
    pub line: RequestLine,
    pub client: Client,
    pub headers: HeaderMap,
    pub peer: Peer,
}

/// All that belongs to one request.
#[derive(Debug)]
pub struct Passage<T> {
    pub key: Key,
    pub tag: T,
    pub proxy: ProxyId,
    pub worker: usize,
    /// What the client said of when it will leave.
    pub deadline: Option<Instant>,
    /// On whose behalf it asks.
    pub origin: Option<Ticket>,
    pub journey: Journey,
    /// Of one that had a gate to pass, or whose answer may be kept.
    pub head: Option<Box<KeptHead>>,
    pub asker: Option<Rc<Asker>>,
    /// It came with a login session that is good.
    pub has_session: bool,
    /// What it has to do with the memory.
    pub cached: Option<Box<Cached>>,
    /// A check has somebody asked, or waits for its body.
    pub asking: Option<Asking>,
    pub is_grpc: bool,
    pub is_head: bool,
    pub is_idempotent: bool,
    pub method: Method,
    pub client_is_http2: bool,
    /// A trusted client says that it has sent it before.
    pub is_repeat: bool,
    /// What it is known by on all of its way.
    pub trace: u64,
    /// It counts among those that are in a fault.
    pub is_in_fault: bool,
    pub upload: Option<Upload>,
    /// It is a copy, and the journey has nothing to say.
    pub copied: Option<Box<Copied>>,
    /// Copies are made of it.
    pub copies: Option<Box<Copies>>,
    pub permit: Option<Permit>,
    pub flight: Option<Flight>,
    /// Attempts that go on while the last news was about another one.
    pub beside: Vec<Beside>,
    /// It counts as a retry of its cluster.
    pub is_retrying: bool,
    /// It waits at a limit with a name.
    pub is_at_limit: bool,
    /// The client was told that it is of no use to ask again.
    pub says_exhausted: bool,
    /// When the journey will be told that time passed.
    pub tick: Option<(Instant, Handle)>,
    /// When its client will not wait any longer.
    pub leaves: Option<Handle>,
    pub bytes_sent: u64,
    /// How often a head went to the client, and an attempt out.
    pub heads: u32,
    pub sends: u16,
    /// How often an attempt may go out.
    pub sends_max: u32,
}

impl<T> Passage<T> {
    /// Where it is counted, if anywhere.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.permit.map(|permit| permit.cluster)
    }

    /// Whether all of the request was read.
    pub fn has_whole_request(&self) -> bool {
        match self.copied {
            Some(_) => self.upload.as_ref().is_none_or(|upload| upload.is_over),
            None => self.journey.has_whole_request(),
        }
    }
}

impl<T: Copy> Passage<T> {
    /// Another request of the same proxy, on behalf of this one: it is known by the same, and nothing has become of it.
    pub fn another(&self, key: Key, journey: Journey) -> Passage<T> {
        Passage {
            key,
            journey,
            method: self.method.clone(),
            head: None,
            asker: None,
            cached: None,
            asking: None,
            upload: None,
            copied: None,
            copies: None,
            permit: None,
            flight: None,
            beside: Vec::new(),
            is_in_fault: false,
            is_retrying: false,
            is_at_limit: false,
            says_exhausted: false,
            tick: None,
            leaves: None,
            bytes_sent: 0,
            heads: 0,
            sends: 0,
            sends_max: 0,
            ..*self
        }
    }
}

/// What a question of a check waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// The beginning of its body.
    Body { bytes_max: u32, allows_partial: bool },
    /// A question of naru's own to a service.
    Service(Key),
    /// What is on its way, where anything is.
    Answer(Option<Ticket>),
    /// What other gateways lend, until then.
    Leased { until: Instant },
}

/// A request counted at an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    pub address: SocketAddr,
    /// Between two attempts it is not.
    pub is_counted: bool,
    /// It is one of the requests that the cluster limits.
    pub is_sent: bool,
}

/// An attempt under way with its permit, while another one is worked on.
#[derive(Debug)]
pub struct Beside {
    pub flight: Flight,
    pub permit: Option<Permit>,
}

/// The attempt that is under way.
#[derive(Debug)]
pub struct Flight {
    pub attempt: AttemptId,
    pub place: Place,
    /// It must be sent on a connection that served nobody before.
    pub is_fresh: bool,
    pub is_reused: bool,
    pub phase: Phase,
    /// It counts among those that need a connection.
    pub is_pending: bool,
    /// The connection that is made for it alone is counted.
    pub has_slot: bool,
    pub carrier: Option<Carrier>,
    pub answer: Option<Answer>,
    /// The answer says that it was retried nearer to the failure.
    pub says_exhausted: bool,
    /// What its head says, where its service says anything.
    pub said: Option<Box<HeaderMap>>,
    /// Of the response's body.
    pub parts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There are as many connections as there may be.
    InLine,
    Dialing,
    /// The request goes out, a head is awaited.
    Exchanging,
    Receiving,
}

/// A request body on its way through.
#[derive(Debug)]
pub struct Upload {
    pub body: Body,
    /// Parts that have come in from the client.
    pub arrived: u32,
    /// Parts that were read on behalf of an attempt.
    pub read: u32,
    /// What follows the last part has come in.
    pub has_end: bool,
    /// The journey knows of the end.
    pub is_over: bool,
    /// Its beginning is no longer kept.
    pub is_forgotten: bool,
}

impl Upload {
    pub fn new(body: Body) -> Upload {
        Upload { body, arrived: 0, read: 0, has_end: false, is_over: false, is_forgotten: false }
    }

    /// Whether all that was read so far is still here.
    pub fn is_replayable(&self) -> bool {
        !self.is_forgotten && self.received() <= REPLAY_BYTES_MAX as u64
    }

    pub fn received(&self) -> u64 {
        self.body.bytes_upto(self.read)
    }

    /// Whether the last part that came in was the end as well.
    pub fn ends_plainly(&self) -> bool {
        self.arrived == self.body.parts && self.body.end == BodyEnd::Plain
    }
}

/// Requests under way. Places are used again.
#[derive(Debug)]
pub struct Passages<T> {
    slots: Vec<Option<Box<Passage<T>>>>,
    free: Vec<u32>,
    count: u64,
    begun: u64,
}

impl<T> Default for Passages<T> {
    fn default() -> Passages<T> {
        Passages { slots: Vec::new(), free: Vec::new(), count: 0, begun: 0 }
    }
}

impl<T> Passages<T> {
    /// A key for the next request. Its place is held until [`Passages::remove`].
    pub fn reserve(&mut self) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let key = Key { slot, number: self.begun };
        self.begun += 1;
        self.count += 1;
        key
    }

    /// Takes a request out to work on it; `None` where it is over.
    pub fn take(&mut self, key: Key) -> Option<Box<Passage<T>>> {
        self.slots.get_mut(key.slot as usize)?.take_if(|passage| passage.key == key)
    }

    pub fn put(&mut self, passage: Box<Passage<T>>) {
        if let Some(slot) = self.slots.get_mut(passage.key.slot as usize) {
            *slot = Some(passage);
        }
    }

    /// The request is over; it must have been taken out.
    pub fn remove(&mut self, key: Key) {
        self.free.push(key.slot);
        self.count -= 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = &Passage<T>> {
        self.slots.iter().flatten().map(|passage| &**passage)
    }

    pub fn under_way(&self) -> u64 {
        self.count
    }
}

impl Key {
    /// The request's number, from 0.
    pub fn number(self) -> u64 {
        self.number
    }
}
