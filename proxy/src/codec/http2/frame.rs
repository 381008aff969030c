//! Frames: RFC 9113, sections 4 and 6.

use bytes::{BufMut, BytesMut};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD_BYTES: usize = 9;
/// The largest payload that we take, and the smallest limit that there is (section 4.2).
pub const FRAME_BYTES_MAX: usize = 16_384;
pub const WINDOW_MAX: i64 = 0x7fff_ffff;
/// The windows of a connection and of its streams before anything is said (section 6.9.2).
pub const WINDOW: u32 = 65_535;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

/// The types that mean something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }

    fn code(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Headers => 1,
            Kind::Priority => 2,
            Kind::Reset => 3,
            Kind::Settings => 4,
            Kind::PushPromise => 5,
            Kind::Ping => 6,
            Kind::GoAway => 7,
            Kind::WindowUpdate => 8,
            Kind::Continuation => 9,
            Kind::Unknown => 0xff,
        }
    }
}

/// Why a stream or a connection ends (section 7). Others may be sent by peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Code = Code(0x0);
    pub const PROTOCOL_ERROR: Code = Code(0x1);
    pub const INTERNAL_ERROR: Code = Code(0x2);
    pub const FLOW_CONTROL_ERROR: Code = Code(0x3);
    pub const STREAM_CLOSED: Code = Code(0x5);
    pub const FRAME_SIZE_ERROR: Code = Code(0x6);
    pub const REFUSED_STREAM: Code = Code(0x7);
    pub const CANCEL: Code = Code(0x8);
    pub const COMPRESSION_ERROR: Code = Code(0x9);
    pub const CONNECT_ERROR: Code = Code(0xa);
    pub const ENHANCE_YOUR_CALM: Code = Code(0xb);
}

/// What stands before each payload.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    pub length: usize,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    pub fn read(bytes: &[u8]) -> Option<FrameHead> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(FrameHead {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// What is left of a payload without its padding. `None` where there is more padding than payload.
pub fn without_padding(payload: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

pub fn put_head(out: &mut BytesMut, length: usize, kind: Kind, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_u8(kind.code());
    out.put_u8(flags);
    out.put_u32(stream);
}

pub fn put_reset(out: &mut BytesMut, stream: u32, code: Code) {
    put_head(out, 4, Kind::Reset, 0, stream);
    out.put_u32(code.0);
}

pub fn put_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    put_head(out, 4, Kind::WindowUpdate, 0, stream);
    out.put_u32(increment);
}

pub fn put_go_away(out: &mut BytesMut, last: u32, code: Code) {
    put_head(out, 8, Kind::GoAway, 0, 0);
    out.put_u32(last);
    out.put_u32(code.0);
}

pub fn put_ping(out: &mut BytesMut, flags: u8, opaque: &[u8]) {
    put_head(out, opaque.len(), Kind::Ping, flags, 0);
    out.put_slice(opaque);
}

pub fn put_settings_ack(out: &mut BytesMut) {
    put_head(out, 0, Kind::Settings, ACK, 0);
}

pub fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, Kind::Settings, 0, 0);
    for (name, value) in settings {
        out.put_u16(*name);
        out.put_u32(*value);
    }
}

/// A block of fields, in as many frames as it takes. `begin` is where in `out` the block begins; before it is room
/// for the head of its first frame.
pub fn finish_headers(out: &mut BytesMut, begin: usize, stream: u32, ends_stream: bool, frame_max: usize) {
    let block = out.len() - begin;
    let mut flags = if ends_stream { END_STREAM } else { 0 };
    if block <= frame_max {
        flags |= END_HEADERS;
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        put_head(&mut head, block, Kind::Headers, flags, stream);
        if let Some(room) = out.get_mut(begin - HEAD_BYTES..begin) {
            room.copy_from_slice(&head);
        }
        return;
    }
    let whole = out.split_off(begin);
    out.truncate(begin - HEAD_BYTES);
    let count = whole.len().div_ceil(frame_max);
    for (at, part) in whole.chunks(frame_max).enumerate() {
        if at + 1 == count {
            flags |= END_HEADERS;
        }
        let kind = if at == 0 { Kind::Headers } else { Kind::Continuation };
        put_head(out, part.len(), kind, flags, stream);
        out.put_slice(part);
        flags = 0;
    }
}
