//! What comes in: each frame is held against the state of its stream and of the connection.

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use naru_base::{Instant, Reason};
use naru_spec::defaults::HTTP2_HEADER_BOMB_FACTOR;

use super::super::fields::{Message, Reading};
use super::super::frame::{
    ACK, Code, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, FrameHead, HEAD_BYTES, Kind, PADDED, PREFACE,
    PRIORITY, WINDOW_MAX, number, put_ping, put_reset, put_settings_ack, without_padding,
};
use super::super::guard::Abuse;
use super::stream::Over;
use super::{Connection, Failure, LEAVING_PING, Leaving, Role, WINDOW};

/// So many interim responses may come before the final one, as in HTTP/1.
const INTERIMS_MAX: u8 = 32;

/// A header block whose last frame has not come.
#[derive(Debug)]
pub struct Block {
    stream: u32,
    ends_stream: bool,
    depends_on_itself: bool,
    frames: u32,
    fragments: BytesMut,
    pub since: Instant,
}

/// What a frame leads to, where it is not in order.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Connection(Code),
    Stream(u32, Code),
    Abuse(Abuse),
}

impl From<Abuse> for Wrong {
    fn from(abuse: Abuse) -> Wrong {
        Wrong::Abuse(abuse)
    }
}

const PROTOCOL: Wrong = Wrong::Connection(Code::PROTOCOL_ERROR);
const FRAME_SIZE: Wrong = Wrong::Connection(Code::FRAME_SIZE_ERROR);

impl Connection {
    /// Takes the frames that are whole from what was read.
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant) {
        self.now = now;
        let mut has_moved = false;
        while self.failure.is_none() && !input.is_empty() {
            if self.preface_left > 0 {
                let length = self.preface_left.min(input.len());
                let expected = PREFACE.get(PREFACE.len() - self.preface_left..).unwrap_or_default();
                if input.get(..length) != expected.get(..length) {
                    return self.fail(Failure::Protocol(Code::PROTOCOL_ERROR));
                }
                input.advance(length);
                self.preface_left -= length;
                continue;
            }
            let Some(head) = FrameHead::read(input) else { break };
            if head.length > FRAME_BYTES_MAX {
                return self.fail(Failure::Protocol(Code::FRAME_SIZE_ERROR));
            }
            let Some(payload) = input.get(HEAD_BYTES..HEAD_BYTES + head.length) else { break };
            let taken = self.take_frame(head, payload);
            input.advance(HEAD_BYTES + head.length);
            has_moved = true;
            if let Err(wrong) = taken {
                self.on_wrong(wrong);
            }
        }
        let is_partial = !input.is_empty() && self.preface_left == 0;
        match self.partial_since {
            _ if !is_partial => self.partial_since = None,
            Some(_) if !has_moved => {}
            _ => self.partial_since = Some(now),
        }
    }

    /// No more will come.
    pub fn receive_end(&mut self) {
        self.fail(Failure::Lost);
    }

    fn on_wrong(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Connection(code) => self.fail(Failure::Protocol(code)),
            Wrong::Abuse(abuse) => self.fail(Failure::Abuse(abuse)),
            Wrong::Stream(id, code) => {
                match self.find(id) {
                    Some(place) => {
                        // One that was taken has a line of its own.
                        if self.streams.get(place).is_some_and(|stream| stream.request.is_some()) {
                            self.mistakes.push(Reason::ClientProtocol);
                        }
                        self.reset(place, code);
                    }
                    None => put_reset(&mut self.out, id, code),
                }
                if let Err(abuse) = self.guard.on(self.now, Abuse::Mistakes) {
                    self.fail(Failure::Abuse(abuse));
                }
            }
        }
    }

    fn take_frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        // Nothing may stand between the frames of a block (section 4.3).
        if let Some(block) = &self.block
            && (head.kind != Kind::Continuation || head.stream != block.stream)
        {
            return Err(PROTOCOL);
        }
        if self.awaits_settings {
            if head.kind != Kind::Settings || head.has(ACK) {
                return Err(PROTOCOL);
            }
            self.awaits_settings = false;
            // As many as one likes, where it says nothing (section 6.5.2).
            self.their_streams_max = usize::MAX;
        }
        match head.kind {
            Kind::Data => self.take_data(head, payload),
            Kind::Headers => self.take_headers(head, payload),
            Kind::Continuation => self.take_continuation(head, payload),
            Kind::Reset => self.take_reset(head, payload),
            Kind::WindowUpdate => self.take_window_update(head, payload),
            Kind::Settings => self.take_settings(head, payload),
            Kind::Ping => self.take_ping(head, payload),
            Kind::GoAway => self.take_go_away(head, payload),
            Kind::Priority => self.take_priority(head, payload),
            // Clients must not, and servers were told that we take none (section 8.4).
            Kind::PushPromise => Err(PROTOCOL),
            Kind::Unknown => Ok(self.guard.on(self.now, Abuse::UnknownFrames)?),
        }
    }

    /// Whether a stream of this number was never used.
    fn is_idle(&self, id: u32) -> bool {
        let is_of_client = id % 2 == 1;
        match self.role {
            Role::Server => !is_of_client || id > self.last_of_peer,
            Role::Client => !is_of_client || id >= self.next_of_ours,
        }
    }

    /// Whether we have said that we shall not look at it (section 6.8).
    fn is_left_out(&self, id: u32) -> bool {
        matches!(self.leaving, Leaving::After(last) if id > last) && id % 2 == 1
    }

    fn take_data(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream == 0 || self.is_idle(head.stream) && !self.is_left_out(head.stream) {
            return Err(PROTOCOL);
        }
        let data = if head.has(PADDED) { without_padding(payload).ok_or(PROTOCOL)? } else { payload };
        // All of it counts (section 6.1), whatever becomes of its stream.
        let all = payload.len();
        self.receive_window -= all as i64;
        if self.receive_window < 0 {
            return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
        }
        let ends_stream = head.has(END_STREAM);
        if data.is_empty() && !ends_stream {
            self.guard.on(self.now, Abuse::EmptyFrames)?;
        } else {
            self.guard.on_useful();
        }
        let Some(place) = self.find(head.stream) else {
            self.to_return += all as u32;
            self.touch();
            return self.on_closed(head.stream);
        };
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        if stream.has_received_all {
            self.to_return += all as u32;
            return Err(Wrong::Stream(head.stream, Code::STREAM_CLOSED));
        }
        let is_early = self.role == Role::Client && !stream.has_head;
        let length = data.len() as u64;
        // The length that was said is the length (section 8.1.1).
        let fits = match &mut stream.left {
            Some(left) if *left < length || ends_stream && *left != length => false,
            Some(left) => {
                *left -= length;
                true
            }
            None => true,
        };
        stream.receive_window -= all as i64;
        let overflows = stream.receive_window < 0;
        if is_early || !fits || overflows {
            self.to_return += all as u32;
            let code = if overflows { Code::FLOW_CONTROL_ERROR } else { Code::PROTOCOL_ERROR };
            return Err(Wrong::Stream(head.stream, code));
        }
        stream.received += length;
        let padding = all - data.len();
        let is_unwanted = stream.is_unwanted;
        if !is_unwanted {
            stream.inbox.put(data);
        }
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
        if is_unwanted {
            self.to_return += all as u32;
        } else if padding > 0 {
            self.consume(place, padding);
        }
        if ends_stream {
            self.received_all(place);
        }
        Ok(())
    }

    fn received_all(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        stream.has_received_all = true;
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
        if stream.has_sent_all {
            self.close(place, Over::Whole);
        }
    }

    /// Something came for a stream that is closed.
    fn on_closed(&mut self, id: u32) -> Result<(), Wrong> {
        match self.recent.find(id) {
            // The peer may not know it yet (section 5.1).
            Some(Over::ResetByUs(_) | Over::LeftOut) => Ok(()),
            Some(Over::Whole | Over::Lost) => Err(Wrong::Connection(Code::STREAM_CLOSED)),
            Some(Over::ResetByPeer(_)) => Err(Wrong::Stream(id, Code::STREAM_CLOSED)),
            // It was told long ago, or will not be looked at.
            None if self.role == Role::Client || matches!(self.leaving, Leaving::After(_)) => Ok(()),
            None => Err(Wrong::Stream(id, Code::STREAM_CLOSED)),
        }
    }

    fn take_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        let mut fragment = if head.has(PADDED) { without_padding(payload).ok_or(PROTOCOL)? } else { payload };
        let mut depends_on_itself = false;
        if head.has(PRIORITY) {
            let on = number(fragment).ok_or(FRAME_SIZE)?;
            depends_on_itself = on & 0x7fff_ffff == head.stream;
            fragment = fragment.get(5..).ok_or(FRAME_SIZE)?;
        }
        let is_new = self.role == Role::Server && self.is_idle(head.stream);
        if is_new && head.stream.is_multiple_of(2) || self.role == Role::Client && self.is_idle(head.stream) {
            return Err(PROTOCOL);
        }
        if self.role == Role::Server && !is_new && self.find(head.stream).is_none() {
            // Closed, or passed over by one with a higher number (section 5.1.1).
            self.on_old_headers(head.stream)?;
        }
        let ends_stream = head.has(END_STREAM);
        if head.has(END_HEADERS) {
            return self.take_list(head.stream, ends_stream, depends_on_itself, fragment);
        }
        self.block = Some(Block {
            stream: head.stream,
            ends_stream,
            depends_on_itself,
            frames: 1,
            fragments: BytesMut::from(fragment),
            since: self.now,
        });
        Ok(())
    }

    fn on_old_headers(&mut self, id: u32) -> Result<(), Wrong> {
        match self.recent.find(id) {
            // The list is read all the same, as it may change our table.
            Some(Over::ResetByUs(_) | Over::LeftOut | Over::ResetByPeer(_)) => Ok(()),
            Some(Over::Whole | Over::Lost) => Err(Wrong::Connection(Code::STREAM_CLOSED)),
            None if matches!(self.leaving, Leaving::After(_)) => Ok(()),
            None => Err(PROTOCOL),
        }
    }

    fn take_continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        let Some(mut block) = self.block.take() else { return Err(PROTOCOL) };
        block.frames += 1;
        block.fragments.extend_from_slice(payload);
        let bytes_max = self.terms.header_bytes_max;
        // A list that is a little too long is still read, to be answered.
        let is_long = block.fragments.len() > bytes_max * HTTP2_HEADER_BOMB_FACTOR;
        let frames_max = (self.terms.limits.block_frames_max as usize).max(bytes_max / 4_096);
        if block.frames as usize > frames_max || is_long {
            return Err(Wrong::Abuse(Abuse::Continuations));
        }
        if head.has(END_HEADERS) {
            let fragments = block.fragments;
            return self.take_list(block.stream, block.ends_stream, block.depends_on_itself, &fragments);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A list is whole.
    fn take_list(
        &mut self,
        id: u32,
        ends_stream: bool,
        depends_on_itself: bool,
        block: &[u8],
    ) -> Result<(), Wrong> {
        let place = self.find(id);
        let message = match (self.role, place.and_then(|place| self.streams.get(place))) {
            (Role::Server, None) => Message::Request,
            (Role::Client, Some(stream)) if !stream.has_head => Message::Response,
            (Role::Client, None) => Message::Response,
            (_, Some(_)) => Message::Trailers,
        };
        let bytes_max = self.terms.header_bytes_max;
        let mut reading = Reading::new(message, bytes_max, self.terms.takes_extended);
        if self.decoder.decode(block, |field| reading.take(field)).is_err() {
            return Err(Wrong::Connection(Code::COMPRESSION_ERROR));
        }
        if reading.bytes() > bytes_max * HTTP2_HEADER_BOMB_FACTOR {
            return Err(Wrong::Abuse(Abuse::HeaderBomb));
        }
        self.guard.on_useful();
        match (message, place) {
            (Message::Request, _) if self.is_idle(id) => {
                self.take_request(id, ends_stream, depends_on_itself, reading)
            }
            (_, None) => match self.recent.find(id) {
                Some(Over::ResetByPeer(_)) => Err(Wrong::Stream(id, Code::STREAM_CLOSED)),
                _ => Ok(()),
            },
            (Message::Trailers, Some(place)) => self.take_trailers(id, place, ends_stream, reading),
            (Message::Response | Message::Request, Some(place)) => {
                self.take_response(id, place, ends_stream, reading)
            }
        }
    }

    fn take_request(
        &mut self,
        id: u32,
        ends_stream: bool,
        depends_on_itself: bool,
        reading: Reading,
    ) -> Result<(), Wrong> {
        if let Leaving::After(last) = self.leaving
            && id > last
        {
            return Ok(());
        }
        self.last_of_peer = id;
        if self.index.len() >= self.terms.streams_max as usize {
            put_reset(&mut self.out, id, Code::REFUSED_STREAM);
            self.recent.put(id, Over::ResetByUs(Code::REFUSED_STREAM));
            return Ok(self.guard.on(self.now, Abuse::Resets)?);
        }
        let length = reading.length();
        let is_short = ends_stream && length.is_some_and(|length| length > 0);
        let request = reading.into_request();
        let mut stream = self.new_stream(id);
        stream.left = length;
        stream.has_received_all = ends_stream;
        let place = self.streams.insert(Box::new(stream));
        self.index.push((id, place));
        match request {
            Ok(request) if !is_short && !depends_on_itself => {
                if let Some(stream) = self.streams.get_mut(place) {
                    stream.request = Some(request);
                }
                self.opened.push_back(place);
                Ok(())
            }
            Err(Reason::HeadTooLarge) => {
                self.mistakes.push(Reason::HeadTooLarge);
                let status = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                if let Some(stream) = self.streams.get_mut(place) {
                    stream.is_unwanted = true;
                }
                self.send_response(place, status, &HeaderMap::new(), true);
                Ok(self.guard.on(self.now, Abuse::Mistakes)?)
            }
            Ok(_) | Err(_) => {
                self.mistakes.push(Reason::ClientProtocol);
                Err(Wrong::Stream(id, Code::PROTOCOL_ERROR))
            }
        }
    }

    fn take_response(
        &mut self,
        id: u32,
        place: usize,
        ends_stream: bool,
        reading: Reading,
    ) -> Result<(), Wrong> {
        const MALFORMED: Code = Code::PROTOCOL_ERROR;
        let length = reading.length();
        let response = reading.into_response().map_err(|_| Wrong::Stream(id, MALFORMED))?;
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        let status = response.status();
        if status.is_informational() {
            // There is no change of protocol in HTTP/2, and no end before the answer.
            stream.interims_count += 1;
            if ends_stream || status.as_u16() == 101 || stream.interims_count > INTERIMS_MAX {
                return Err(Wrong::Stream(id, MALFORMED));
            }
            // Leave to send a body is given by naru itself, when it reads it.
            if status != http::StatusCode::CONTINUE {
                stream.interims.push_back(response);
            }
        } else {
            let has_no_body = stream.is_head || matches!(status.as_u16(), 204 | 304);
            stream.left = if has_no_body { Some(0) } else { length };
            if ends_stream && stream.left.is_some_and(|left| left > 0) {
                return Err(Wrong::Stream(id, MALFORMED));
            }
            stream.has_head = true;
            stream.response = Some(response);
        }
        if let Some(reader) = stream.reader.take() {
            reader.wake();
        }
        if ends_stream {
            self.received_all(place);
        }
        Ok(())
    }

    fn take_trailers(
        &mut self,
        id: u32,
        place: usize,
        ends_stream: bool,
        reading: Reading,
    ) -> Result<(), Wrong> {
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        if stream.has_received_all {
            return Err(Wrong::Stream(id, Code::STREAM_CLOSED));
        }
        let is_short = stream.left.is_some_and(|left| left > 0);
        match reading.into_trailers() {
            Ok(trailers) if ends_stream && !is_short => {
                if !stream.is_unwanted && !trailers.is_empty() {
                    stream.trailers = Some(trailers);
                }
                self.received_all(place);
                Ok(())
            }
            Ok(_) | Err(_) => Err(Wrong::Stream(id, Code::PROTOCOL_ERROR)),
        }
    }

    fn take_reset(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if payload.len() != 4 {
            return Err(FRAME_SIZE);
        }
        if head.stream == 0 || self.is_idle(head.stream) && !self.is_left_out(head.stream) {
            return Err(PROTOCOL);
        }
        let code = Code(number(payload).unwrap_or_default());
        if self.role == Role::Server {
            self.guard.on(self.now, Abuse::Resets)?;
        }
        if let Some(place) = self.find(head.stream) {
            self.close(place, Over::ResetByPeer(code));
        }
        Ok(())
    }

    fn take_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        let increment = number(payload).filter(|_| payload.len() == 4).ok_or(FRAME_SIZE)?;
        let increment = i64::from(increment & 0x7fff_ffff);
        self.guard.on(self.now, Abuse::WindowUpdates)?;
        if head.stream == 0 {
            if increment == 0 {
                return Err(PROTOCOL);
            }
            self.send_window += increment;
            if self.send_window > WINDOW_MAX {
                return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
            }
            return Ok(());
        }
        if self.is_idle(head.stream) && !self.is_left_out(head.stream) {
            return Err(PROTOCOL);
        }
        let Some(place) = self.find(head.stream) else { return Ok(()) };
        if increment == 0 {
            return Err(Wrong::Stream(head.stream, Code::PROTOCOL_ERROR));
        }
        if let Some(stream) = self.streams.get_mut(place) {
            stream.send_window += increment;
            if stream.send_window > WINDOW_MAX {
                return Err(Wrong::Stream(head.stream, Code::FLOW_CONTROL_ERROR));
            }
        }
        self.enqueue(place);
        Ok(())
    }

    fn take_settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        if head.has(ACK) {
            if !payload.is_empty() {
                return Err(FRAME_SIZE);
            }
            if self.is_acknowledged {
                self.guard.on(self.now, Abuse::Settings)?;
            }
            self.on_acknowledged();
            return Ok(());
        }
        self.guard.on(self.now, Abuse::Settings)?;
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(FRAME_SIZE);
        }
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                0x1 => self.tells_table = true,
                // No server may push, nor say that it would take a push.
                0x2 if value > 1 || value == 1 && self.role == Role::Client => return Err(PROTOCOL),
                0x3 => self.their_streams_max = value as usize,
                0x4 => self.change_window(i64::from(value))?,
                0x5 => {
                    let value = value as usize;
                    if !(FRAME_BYTES_MAX..1 << 24).contains(&value) {
                        return Err(PROTOCOL);
                    }
                    self.their_frame_max = value;
                }
                // What was said once holds (RFC 8441, section 3).
                0x8 if value > 1 || value == 0 && self.takes_extended => return Err(PROTOCOL),
                0x8 => self.takes_extended = value == 1,
                _ => {}
            }
        }
        put_settings_ack(&mut self.out);
        self.wake_waiting();
        Ok(())
    }

    /// Windows that were larger than ours until now are as large as we have said.
    fn on_acknowledged(&mut self) {
        if std::mem::replace(&mut self.is_acknowledged, true) {
            return;
        }
        let less = i64::from(WINDOW.saturating_sub(self.terms.stream_window));
        for (_, place) in &self.index {
            if let Some(stream) = self.streams.get_mut(*place) {
                stream.receive_window -= less;
            }
        }
    }

    /// The windows of all streams change by the difference, and may be less than nothing (section 6.9.2).
    fn change_window(&mut self, window: i64) -> Result<(), Wrong> {
        if window > WINDOW_MAX {
            return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
        }
        let more = window - std::mem::replace(&mut self.their_window, window);
        let places: Vec<usize> = self.index.iter().map(|(_, place)| *place).collect();
        for place in places {
            if let Some(stream) = self.streams.get_mut(place) {
                stream.send_window += more;
                if stream.send_window > WINDOW_MAX {
                    return Err(Wrong::Connection(Code::FLOW_CONTROL_ERROR));
                }
            }
            self.enqueue(place);
        }
        Ok(())
    }

    fn take_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        if payload.len() != 8 {
            return Err(FRAME_SIZE);
        }
        self.guard.on(self.now, Abuse::Pings)?;
        if !head.has(ACK) {
            put_ping(&mut self.out, ACK, payload);
        } else if payload == LEAVING_PING && self.leaving == Leaving::Told {
            self.leave_after(self.last_of_peer);
        } else {
            self.pongs += 1;
        }
        Ok(())
    }

    fn take_go_away(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        let last = number(payload).filter(|_| payload.len() >= 8).ok_or(FRAME_SIZE)? & 0x7fff_ffff;
        self.guard.on(self.now, Abuse::UnknownFrames)?;
        // It may only be lowered.
        let last = self.goes_away.map_or(last, |before| before.min(last));
        self.goes_away = Some(last);
        if self.role == Role::Client {
            while let Some((_, place)) = self.index.last().copied().filter(|(id, _)| *id > last) {
                self.close(place, Over::LeftOut);
            }
            self.wake_waiting();
        }
        Ok(())
    }

    fn take_priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Wrong> {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        if payload.len() != 5 {
            // In a stream that is idle there is nothing to reset.
            let is_open = self.find(head.stream).is_some();
            return Err(if is_open {
                Wrong::Stream(head.stream, Code::FRAME_SIZE_ERROR)
            } else {
                FRAME_SIZE
            });
        }
        self.guard.on(self.now, Abuse::Priorities)?;
        if number(payload).unwrap_or_default() & 0x7fff_ffff == head.stream {
            return Err(if self.find(head.stream).is_some() {
                Wrong::Stream(head.stream, Code::PROTOCOL_ERROR)
            } else {
                PROTOCOL
            });
        }
        Ok(())
    }
}
