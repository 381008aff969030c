//! One connection of HTTP/2: frames in, frames out. RFC 9113.
//!
//! It knows no socket and no task: whoever has the socket hands over what was read ([`Connection::receive`]) and
//! writes what stands in [`Connection::out`]. Either role is played: a client's connection is one that opens
//! streams. Whoever has a stream works on it through `shared.rs`.
//!
//! | a stream is | when | what may still come in |
//! |---|---|---|
//! | idle | its number was not used | HEADERS from the side that opens |
//! | open | its head is here | DATA, trailers |
//! | half closed | one side has said all | nothing from that side but WINDOW_UPDATE, PRIORITY, RST_STREAM |
//! | closed | both have, or one reset it | as above, for as long as the peer may not know; see [`Recent`] |
//!
//! A mistake in a stream ends the stream (RST_STREAM), one in the connection, or too many, end that (GOAWAY).

pub mod fuzz;
mod receive;
pub mod stream;

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use naru_base::{Instant, Reason};
use naru_spec::defaults::HTTP2_WAITING_BYTES_MAX;
use naru_spec::{Http2Limits, PaceLimit};
use slab::Slab;

use super::fields::Writing;
use super::frame::{self, Code, FRAME_BYTES_MAX, Kind, PREFACE, WINDOW};
use super::guard::{Abuse, Guard};
use super::hpack::Decoder;
use receive::Block;
use stream::{End, Over, Stream};

/// So much may wait to be written before no more of bodies is framed.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// And so much before nothing more is read, as what is read asks for answers. It is more than bodies may fill: a peer
/// that takes a body slowly is heard all the while.
const UNREAD_BYTES_MIN: usize = 128 * 1024;
/// So much of one stream may wait before its writer waits, too.
const OUTBOX_BYTES_MAX: usize = HTTP2_WAITING_BYTES_MAX / 2;
/// How often it is looked at whether a peer is slow.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// What we tell the peer, and hold it to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub stream_window: u32,
    pub connection_window: u32,
    pub streams_max: u32,
    pub header_bytes_max: usize,
    pub headers_timeout: Option<Duration>,
    /// Clients may ask for other protocols (RFC 8441).
    pub takes_extended: bool,
    /// So fast at least an answer must be taken.
    pub pace: Option<PaceLimit>,
    pub limits: Http2Limits,
}

/// Why a connection ends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer broke a rule.
    Protocol(Code),
    Abuse(Abuse),
    /// Its socket broke, or came to its end with streams open.
    Lost,
}

#[derive(Debug)]
pub struct Connection {
    role: Role,
    terms: Terms,
    /// What is still to come of the preface, and whether the first SETTINGS is.
    preface_left: usize,
    awaits_settings: bool,
    /// Whether ours are known to the peer.
    is_acknowledged: bool,
    decoder: Decoder,
    /// A place that is free is a small one: there may have been many for a short time, and one of them stays.
    streams: Slab<Box<Stream>>,
    /// Those that are not closed, by their numbers, which only grow: and their places.
    index: Vec<(u32, usize)>,
    recent: Recent,
    /// The highest number that the peer has used, and the next one of ours.
    last_of_peer: u32,
    next_of_ours: u32,
    block: Option<Block>,
    receive_window: i64,
    to_return: u32,
    send_window: i64,
    their_window: i64,
    their_frame_max: usize,
    their_streams_max: usize,
    tells_table: bool,
    /// The peer takes extended CONNECT (RFC 8441, section 3).
    takes_extended: bool,
    /// Streams with something to send and room for it.
    sendable: VecDeque<usize>,
    pub out: BytesMut,
    /// All that was ever put there, and all that was taken from it.
    pub written: u64,
    /// Of bodies.
    moved: u64,
    /// A server's new requests; and what was wrong with others.
    opened: VecDeque<usize>,
    mistakes: Vec<Reason>,
    guard: Guard,
    now: Instant,
    began: Instant,
    /// A frame has begun, and not come to its end.
    partial_since: Option<Instant>,
    /// Since when, and at how much, the pace of a reader is measured.
    pace: Option<(Instant, u64)>,
    looked: Instant,
    leaving: Leaving,
    /// The last of our streams that the peer looks at.
    goes_away: Option<u32>,
    pub pongs: u64,
    pub failure: Option<Failure>,
    /// Handles through which streams may be opened.
    pub openers: usize,
    pub task: Option<Waker>,
    pub is_in_turn: bool,
    /// Who waits until a stream may be opened, by the number that each has got.
    waiting_to_open: Vec<(u64, Waker)>,
    waited: u64,
    /// The stream whose request is being looked at.
    pub answering: usize,
}

/// How far a connection has got with its end (section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The peer was told, and what it has sent before it knew is still on its way.
    Told,
    /// After this stream of the peer nothing more is looked at.
    After(u32),
}

/// The opaque bytes of the PING by which it is known that a GOAWAY was read.
const LEAVING_PING: &[u8; 8] = b"leaving!";

/// Streams that were closed not long ago. Those that we have reset are remembered for longer: what is on its way to
/// them is no mistake.
#[derive(Debug, Default)]
struct Recent {
    ended: VecDeque<(u32, Over)>,
    reset: VecDeque<(u32, Over)>,
}

impl Recent {
    const ENDED_MAX: usize = 64;
    const RESET_MAX: usize = 256;

    fn put(&mut self, id: u32, over: Over) {
        let (list, max) = match over {
            Over::ResetByUs(_) | Over::LeftOut => (&mut self.reset, Recent::RESET_MAX),
            Over::Whole | Over::ResetByPeer(_) | Over::Lost => (&mut self.ended, Recent::ENDED_MAX),
        };
        if list.len() == max {
            list.pop_front();
        }
        list.push_back((id, over));
    }

    fn find(&self, id: u32) -> Option<Over> {
        let mut both = self.ended.iter().chain(&self.reset);
        both.find(|(known, _)| *known == id).map(|(_, over)| *over)
    }
}

impl Connection {
    /// With what it says first in [`Connection::out`].
    pub fn new(role: Role, terms: Terms, now: Instant) -> Connection {
        let mut out = BytesMut::with_capacity(128);
        let header_bytes = u32::try_from(terms.header_bytes_max).unwrap_or(u32::MAX);
        match role {
            Role::Server => {
                let mut settings =
                    vec![(0x3, terms.streams_max), (0x4, terms.stream_window), (0x6, header_bytes)];
                settings.extend(terms.takes_extended.then_some((0x8, 1)));
                frame::put_settings(&mut out, &settings);
            }
            Role::Client => {
                out.extend_from_slice(PREFACE);
                frame::put_settings(&mut out, &[(0x2, 0), (0x4, terms.stream_window), (0x6, header_bytes)]);
            }
        }
        let more = terms.connection_window.saturating_sub(WINDOW);
        if more > 0 {
            frame::put_window_update(&mut out, 0, more);
        }
        Connection {
            role,
            terms,
            preface_left: if role == Role::Server { PREFACE.len() } else { 0 },
            awaits_settings: true,
            is_acknowledged: false,
            decoder: Decoder::new(),
            streams: Slab::new(),
            index: Vec::new(),
            recent: Recent::default(),
            last_of_peer: 0,
            next_of_ours: 1,
            block: None,
            receive_window: i64::from(terms.connection_window.max(WINDOW)),
            to_return: 0,
            send_window: i64::from(WINDOW),
            their_window: i64::from(WINDOW),
            their_frame_max: FRAME_BYTES_MAX,
            // Until it says how many it takes, as many as most do.
            their_streams_max: 100,
            tells_table: false,
            takes_extended: false,
            sendable: VecDeque::new(),
            out,
            written: 0,
            moved: 0,
            opened: VecDeque::new(),
            mistakes: Vec::new(),
            guard: Guard::new(now, &terms.limits),
            now,
            began: now,
            partial_since: None,
            pace: None,
            looked: now,
            leaving: Leaving::No,
            goes_away: None,
            pongs: 0,
            failure: None,
            openers: 0,
            task: None,
            is_in_turn: false,
            waiting_to_open: Vec::new(),
            waited: 0,
            answering: 0,
        }
    }

    /// Something is to be written, or framed: the task of the connection has to have a turn.
    pub fn touch(&mut self) {
        if !self.is_in_turn
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }

    pub fn stream(&mut self, place: usize) -> Option<&mut Stream> {
        self.streams.get_mut(place).map(|stream| &mut **stream)
    }

    fn find(&self, id: u32) -> Option<usize> {
        let at = self.index.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.index.get(at).map(|(_, place)| *place)
    }

    pub fn has_streams(&self) -> bool {
        !self.index.is_empty()
    }

    /// Whether more should be read: a peer that takes nothing is not given more to answer.
    pub fn wants_more(&self) -> bool {
        self.failure.is_none() && self.out.len() < UNREAD_BYTES_MIN
    }

    /// So much of [`Connection::out`] was written. What could not be read until now was not late.
    pub fn wrote(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        let was_deaf = !self.wants_more();
        self.out.advance(bytes);
        self.written += bytes as u64;
        if was_deaf && self.wants_more() {
            let now = now();
            self.partial_since = self.partial_since.map(|_| now);
            if let Some(block) = &mut self.block {
                block.since = now;
            }
        }
    }

    /// Nothing is under way: what is held only for speed is given back.
    pub fn rest(&mut self) {
        self.out = BytesMut::new();
        self.decoder.rest();
        if self.streams.is_empty() {
            self.streams = Slab::new();
        }
    }

    /// A server's next request.
    pub fn accept(&mut self) -> Option<usize> {
        self.opened.pop_front()
    }

    /// Why requests were refused before anybody saw them.
    pub fn take_mistakes(&mut self) -> Vec<Reason> {
        std::mem::take(&mut self.mistakes)
    }

    // The way out.

    /// Sends the head of an answer.
    pub fn send_response(&mut self, place: usize, status: StatusCode, headers: &HeaderMap, ends: bool) {
        let Some(stream) = self.streams.get_mut(place).filter(|stream| stream.over.is_none()) else { return };
        let id = stream.id;
        if !status.is_informational() {
            stream.has_sent_head = true;
            let content_type = headers.get(http::header::CONTENT_TYPE);
            stream.is_patient =
                content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        }
        self.writing(id, ends).response(status, headers);
        if ends {
            self.sent_all(place);
        }
        self.touch();
    }

    fn writing(&mut self, stream: u32, ends_stream: bool) -> Writing<'_> {
        let tells_table = std::mem::take(&mut self.tells_table);
        Writing { out: &mut self.out, stream, frame_max: self.their_frame_max, ends_stream, tells_table }
    }

    /// Whether more of a body may be given to a stream.
    pub fn has_room(&self, place: usize) -> bool {
        self.streams.get(place).is_none_or(|stream| stream.outbox_bytes < OUTBOX_BYTES_MAX)
    }

    /// Sends a piece of a body, and its end where it is the last one.
    pub fn send_data(&mut self, place: usize, data: Bytes, end: Option<End>) {
        let Some(stream) = self.streams.get_mut(place).filter(|stream| stream.over.is_none()) else { return };
        stream.outbox_bytes += data.len();
        if !data.is_empty() {
            stream.outbox.push_back(data);
        }
        stream.end = end;
        if stream.outbox_bytes == 0 && stream.end.is_some() {
            // No window is needed for it, and so it waits for no other stream's.
            self.send_frame(place);
        } else {
            self.enqueue(place);
        }
        self.touch();
    }

    fn enqueue(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        let can_send = stream.outbox_bytes > 0 && stream.send_window > 0;
        if can_send && !stream.is_queued && stream.over.is_none() {
            stream.is_queued = true;
            self.sendable.push_back(place);
        }
    }

    /// Frames what may be sent. A frame of each stream in turn.
    pub fn pump(&mut self) {
        self.return_window();
        while self.out.len() < OUT_BYTES_MAX
            && let Some(place) = self.sendable.pop_front()
        {
            let Some(stream) = self.streams.get_mut(place) else { continue };
            stream.is_queued = false;
            if stream.over.is_some() || stream.outbox_bytes == 0 {
                continue;
            }
            if self.send_window <= 0 {
                // Its turn comes when there is room for anybody.
                stream.is_queued = true;
                self.sendable.push_front(place);
                break;
            }
            self.send_frame(place);
            self.enqueue(place);
        }
    }

    fn send_frame(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        let (id, mut has_ended) = (stream.id, false);
        let room = stream.send_window.min(self.send_window).max(0) as usize;
        let length = stream.outbox_bytes.min(room).min(self.their_frame_max.min(FRAME_BYTES_MAX));
        let is_last = length == stream.outbox_bytes;
        if length > 0 || is_last && matches!(stream.end, Some(End::Plain)) {
            has_ended = is_last && matches!(stream.end, Some(End::Plain));
            let flags = if has_ended { frame::END_STREAM } else { 0 };
            frame::put_head(&mut self.out, length, Kind::Data, flags, id);
            let mut rest = length;
            while rest > 0
                && let Some(chunk) = stream.outbox.front_mut()
            {
                let part = chunk.len().min(rest);
                self.out.extend_from_slice(&chunk[..part]);
                chunk.advance(part);
                rest -= part;
                if chunk.is_empty() {
                    stream.outbox.pop_front();
                }
            }
            stream.outbox_bytes -= length;
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            self.moved += length as u64;
            self.guard.on_useful();
        }
        if stream.outbox_bytes < OUTBOX_BYTES_MAX
            && let Some(writer) = stream.writer.take()
        {
            writer.wake();
        }
        if is_last && let Some(End::Trailers(trailers)) = stream.end.take_if(|end| !matches!(end, End::Plain))
        {
            self.writing(id, true).trailers(&trailers);
            has_ended = true;
        }
        if has_ended {
            self.sent_all(place);
        }
    }

    fn sent_all(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        stream.end = None;
        stream.has_sent_all = true;
        if stream.has_received_all {
            self.close(place, Over::Whole);
        } else if stream.is_unwanted && self.role == Role::Server {
            // An answer that needs no more of its request (RFC 9113, section 8.1).
            self.reset(place, Code::NO_ERROR);
        }
    }

    // The way in, from the side of whoever reads.

    /// So much of a stream's data was taken.
    pub fn consume(&mut self, place: usize, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(place)
            && stream.over.is_none()
            && !stream.has_received_all
        {
            stream.to_return = stream.to_return.saturating_add(bytes as u32);
            let half = (self.terms.stream_window / 2).max(1);
            if stream.to_return >= half {
                let increment = std::mem::take(&mut stream.to_return);
                stream.receive_window += i64::from(increment);
                let id = stream.id;
                frame::put_window_update(&mut self.out, id, increment);
                self.touch();
            }
        }
        self.give_back(bytes);
    }

    /// So much of the connection's window is free again.
    fn give_back(&mut self, bytes: usize) {
        self.to_return = self.to_return.saturating_add(bytes as u32);
        if self.to_return >= self.window_step() {
            self.touch();
        }
    }

    fn window_step(&self) -> u32 {
        (self.terms.connection_window / 2).max(1)
    }

    fn return_window(&mut self) {
        if self.to_return >= self.window_step() {
            let increment = std::mem::take(&mut self.to_return);
            self.receive_window += i64::from(increment);
            frame::put_window_update(&mut self.out, 0, increment);
        }
    }

    /// Nobody reads the stream any more.
    pub fn leave_unread(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        stream.is_unwanted = true;
        stream.reader = None;
        let thrown_away = stream.inbox.clear();
        stream.trailers = None;
        self.give_back(thrown_away);
        let Some(stream) = self.streams.get(place).filter(|stream| stream.over.is_none()) else { return };
        if stream.has_received_all {
            return;
        }
        match self.role {
            Role::Client => self.reset(place, Code::CANCEL),
            Role::Server if stream.has_sent_all => self.reset(place, Code::NO_ERROR),
            Role::Server => {}
        }
    }

    // Beginnings and ends.

    /// Whether a client may open a stream now.
    pub fn can_open(&self) -> bool {
        self.index.len() < self.streams_max()
    }

    /// Wakes `cx` once a stream may be opened, or nobody may any more. Who does not wait for it any longer says so by
    /// [`Connection::wait_no_more`].
    pub fn wait_to_open(&mut self, number: &mut Option<u64>, cx: &Context<'_>) {
        let number = *number.get_or_insert_with(|| {
            self.waited += 1;
            self.waited
        });
        match self.waiting_to_open.iter_mut().find(|(known, _)| *known == number) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => self.waiting_to_open.push((number, cx.waker().clone())),
        }
    }

    pub fn wait_no_more(&mut self, number: u64) {
        self.waiting_to_open.retain(|(known, _)| *known != number);
    }

    pub(super) fn wake_waiting(&mut self) {
        self.waiting_to_open.drain(..).for_each(|(_, waker)| waker.wake());
    }

    pub fn streams_max(&self) -> usize {
        self.their_streams_max.min(self.terms.streams_max as usize)
    }

    /// Whether the peer takes an extended CONNECT; `None` as long as it has said nothing at all.
    pub fn takes_extended(&self) -> Option<bool> {
        (!self.awaits_settings).then_some(self.takes_extended)
    }

    /// It takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.failure.is_some()
            || self.goes_away.is_some()
            || self.leaving != Leaving::No
            || self.next_of_ours > 0x7fff_fffd
    }

    /// A client's request: its head is sent.
    pub fn open(&mut self, request: &Request<()>, ends: bool) -> usize {
        let id = self.next_of_ours;
        self.next_of_ours += 2;
        let mut stream = self.new_stream(id);
        stream.is_head = request.method() == http::Method::HEAD;
        stream.has_sent_head = true;
        stream.has_sent_all = ends;
        stream.head_at = self.written + self.out.len() as u64;
        let place = self.streams.insert(Box::new(stream));
        self.index.push((id, place));
        self.writing(id, ends).request(request);
        self.touch();
        place
    }

    /// Until it knows our settings a peer may send as much as everybody may (section 6.9.2).
    fn new_stream(&self, id: u32) -> Stream {
        let ours = self.terms.stream_window;
        let window = if self.is_acknowledged { ours } else { ours.max(WINDOW) };
        Stream::new(id, window, self.their_window)
    }

    /// Somebody lets go of a stream.
    pub fn let_go(&mut self, place: usize) {
        if let Some(stream) = self.streams.get_mut(place) {
            stream.handles -= 1;
            self.free(place);
        }
    }

    fn free(&mut self, place: usize) {
        if self.streams.get(place).is_some_and(|stream| stream.handles == 0 && stream.over.is_some()) {
            let stream = self.streams.remove(place);
            self.give_back(stream.inbox.len());
        }
    }

    /// Ends a stream, and tells the peer.
    pub fn reset(&mut self, place: usize, code: Code) {
        let Some(stream) = self.streams.get(place).filter(|stream| stream.over.is_none()) else { return };
        frame::put_reset(&mut self.out, stream.id, code);
        self.close(place, Over::ResetByUs(code));
        self.touch();
    }

    fn close(&mut self, place: usize, over: Over) {
        let Some(stream) = self.streams.get_mut(place).filter(|stream| stream.over.is_none()) else { return };
        stream.over = Some(over);
        stream.outbox.clear();
        stream.outbox_bytes = 0;
        stream.end = None;
        if over == Over::Whole {
            self.guard.on_answered();
        } else if !stream.has_received_all && !stream.keeps_inbox {
            let thrown_away = stream.inbox.clear();
            stream.trailers = None;
            self.give_back(thrown_away);
        }
        let Some(stream) = self.streams.get_mut(place) else { return };
        stream.wake();
        let id = stream.id;
        self.opened.retain(|opened| *opened != place);
        if let Ok(at) = self.index.binary_search_by_key(&id, |(id, _)| *id) {
            self.index.remove(at);
        }
        if over != Over::Lost {
            self.recent.put(id, over);
        }
        self.free(place);
        if self.role == Role::Client {
            self.wake_waiting();
        }
    }

    /// Ends the connection, and tells the peer.
    pub fn fail(&mut self, failure: Failure) {
        if self.failure.is_some() {
            return;
        }
        let code = match failure {
            Failure::Protocol(code) => Some(code),
            Failure::Abuse(_) => Some(Code::ENHANCE_YOUR_CALM),
            Failure::Lost => None,
        };
        if let Some(code) = code {
            frame::put_go_away(&mut self.out, self.last_of_peer, code);
        }
        self.failure = Some(failure);
        while let Some((_, place)) = self.index.last().copied() {
            self.close(place, Over::Lost);
        }
        self.opened.clear();
        self.wake_waiting();
        self.touch();
    }

    /// Takes no more streams of the peer, in two steps: what it sends before it knows is still taken.
    pub fn leave(&mut self) {
        if self.leaving != Leaving::No || self.failure.is_some() {
            return;
        }
        self.leaving = Leaving::Told;
        if self.role == Role::Client {
            frame::put_go_away(&mut self.out, 0, Code::NO_ERROR);
            self.leaving = Leaving::After(0);
        } else {
            // A request may be on its way, be it the first.
            frame::put_go_away(&mut self.out, 0x7fff_ffff, Code::NO_ERROR);
            frame::put_ping(&mut self.out, 0, LEAVING_PING);
        }
        self.touch();
    }

    fn leave_after(&mut self, last: u32) {
        self.leaving = Leaving::After(last);
        frame::put_go_away(&mut self.out, last, Code::NO_ERROR);
    }

    /// Whether the peer has ever opened a stream.
    pub fn has_served(&self) -> bool {
        self.last_of_peer > 0
    }

    /// Whether all is said.
    pub fn is_over(&self) -> bool {
        let leaves = match self.role {
            Role::Server => matches!(self.leaving, Leaving::After(_)) || self.goes_away.is_some(),
            Role::Client => self.leaving != Leaving::No || self.goes_away.is_some(),
        };
        self.failure.is_some() || leaves && self.index.is_empty()
    }

    pub fn ping(&mut self) {
        frame::put_ping(&mut self.out, 0, b"are you?");
        self.touch();
    }

    // Time.

    /// When [`Connection::tick`] is to be called at the latest. Clients are watched; upstreams have their timeouts.
    pub fn deadline(&self) -> Option<Instant> {
        if self.role == Role::Client || self.failure.is_some() {
            return None;
        }
        let headers = self.terms.headers_timeout;
        let start = headers.filter(|_| self.awaits_settings).map(|timeout| self.began + timeout);
        let block = self.block.as_ref().zip(headers).map(|(block, timeout)| block.since + timeout);
        let partial = self.partial_since.map(|since| since + self.terms.limits.frame_timeout);
        let is_used = self.pace.is_some() || !self.index.is_empty() || !self.out.is_empty();
        let pace = is_used.then(|| self.looked + LOOK);
        [start, block, partial, pace].into_iter().flatten().min()
    }

    fn waits_for_taking(&self) -> bool {
        let mut open = self.index.iter().filter_map(|(_, place)| self.streams.get(*place));
        !self.out.is_empty() || open.any(|stream| stream.has_more_to_send() && !stream.is_patient)
    }

    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        let over = |since: Option<Instant>, max: Option<Duration>| {
            since.zip(max).is_some_and(|(since, max)| now >= since + max)
        };
        let headers = self.terms.headers_timeout;
        if over(self.awaits_settings.then_some(self.began), headers)
            || over(self.block.as_ref().map(|block| block.since), headers)
            || over(self.partial_since, Some(self.terms.limits.frame_timeout))
        {
            return self.fail(Failure::Abuse(Abuse::SlowHeaders));
        }
        if now >= self.looked + LOOK {
            self.looked = now;
            self.look(now);
        }
    }

    /// Whether what waits is taken as fast as it must be. Bodies of requests are measured by those who read them.
    fn look(&mut self, now: Instant) {
        let Some(PaceLimit { bytes, window }) = self.terms.pace.filter(|_| self.waits_for_taking()) else {
            self.pace = None;
            return;
        };
        match self.pace {
            Some((since, _)) if now < since + window => {}
            Some((_, moved)) if self.moved - moved < bytes => self.fail(Failure::Abuse(Abuse::SlowReader)),
            _ => self.pace = Some((now, self.moved)),
        }
    }
}

#[cfg(test)]
mod tests;
