//! What always holds of a connection, whatever its peer sends.

use super::super::frame::PREFACE;
use super::*;

fn terms() -> Terms {
    Terms {
        stream_window: 65_536,
        connection_window: 1 << 20,
        streams_max: 10,
        header_bytes_max: 4 * 1024,
        headers_timeout: None,
        takes_extended: true,
        pace: None,
        limits: Http2Limits::default(),
    }
}

/// Frames of a peer mean the same in pieces of any size. The first byte says of how many bytes these are, and whether it is
/// an upstream that sends them.
pub fn connection(bytes: &[u8]) {
    let (first, frames) = bytes.split_first().unwrap_or((&0, &[]));
    let role = if first & 0x80 == 0 { Role::Server } else { Role::Client };
    let step = usize::from(first % 32) + 1;
    let whole = heard(role, frames, usize::MAX);
    assert_eq!(whole, heard(role, frames, step), "in steps of {step}");
}

/// Why it ended; what came of its streams; what is to be written.
type Heard = (Option<Failure>, Vec<String>, Vec<Vec<u8>>, Vec<u8>);

fn heard(role: Role, frames: &[u8], step: usize) -> Heard {
    let mut connection = Connection::new(role, terms(), Instant(0));
    let mut input = BytesMut::new();
    let (mut heads, mut bodies, mut places) = (Vec::new(), Vec::new(), Vec::new());
    match role {
        // What a client begins with is not what is looked at.
        Role::Server => {
            input.extend_from_slice(PREFACE);
            frame::put_settings(&mut input, &[]);
        }
        Role::Client => {
            frame::put_settings(&mut input, &[]);
            for ends in [true, false] {
                let place = connection.open(&Request::new(()), ends);
                if let Some(stream) = connection.stream(place) {
                    stream.handles += 1;
                }
                places.push(place);
            }
        }
    }
    connection.receive(&mut input, Instant(0));
    for piece in frames.chunks(step.min(frames.len().max(1))) {
        input.extend_from_slice(piece);
        connection.receive(&mut input, Instant(0));
        connection.check_invariants();
    }
    while let Some(place) = connection.accept() {
        if let Some(stream) = connection.stream(place) {
            stream.handles += 1;
        }
        places.push(place);
    }
    for place in places {
        let Some(stream) = connection.stream(place) else { continue };
        heads.push(format!("{:?} {:?} {:?}", stream.request, stream.response, stream.trailers));
        let mut body = Vec::new();
        while let Some(data) = connection.stream(place).and_then(|stream| stream.inbox.take()) {
            connection.consume(place, data.len());
            body.extend_from_slice(&data);
        }
        bodies.push(body);
        connection.check_invariants();
        connection.leave_unread(place);
        connection.let_go(place);
        connection.check_invariants();
    }
    connection.take_mistakes();
    connection.pump();
    let out = connection.out.to_vec();
    (connection.failure, heads, bodies, out)
}

impl Connection {
    /// Held against by whoever moves one in a test.
    pub(super) fn check_invariants(&self) {
        assert!(self.index.is_sorted_by(|a, b| a.0 < b.0), "numbers grow");
        for (id, place) in &self.index {
            let stream = &self.streams[*place];
            assert_eq!((stream.id, stream.over), (*id, None));
            assert_eq!(stream.outbox_bytes, stream.outbox.iter().map(Bytes::len).sum::<usize>());
        }
        for (_, stream) in &self.streams {
            assert!(stream.over.is_none() || stream.handles > 0, "nobody frees {}", stream.id);
            assert!(stream.inbox.len() <= self.terms.stream_window.max(WINDOW) as usize);
        }
        assert!(self.index.len() <= self.terms.streams_max as usize);
        assert!(self.receive_window <= i64::from(self.terms.connection_window.max(WINDOW)));
        let held: usize = self.streams.iter().map(|(_, stream)| stream.inbox.len()).sum();
        assert!(held <= self.terms.connection_window.max(WINDOW) as usize, "{held}");
        assert!(self.recent.ended.len() <= Recent::ENDED_MAX && self.recent.reset.len() <= Recent::RESET_MAX);
        assert!(self.failure.is_none() || self.index.is_empty());
    }
}
