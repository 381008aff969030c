//! What streams are made of: RFC 9114, section 7, and the numbers of RFC 9000, section 16.

use bytes::{BufMut, BytesMut};
use quinn::VarInt;

/// RFC 9114, section 8.1, and RFC 9204, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Code = Code(0x100);
    pub const INTERNAL_ERROR: Code = Code(0x102);
    pub const STREAM_CREATION_ERROR: Code = Code(0x103);
    pub const CLOSED_CRITICAL_STREAM: Code = Code(0x104);
    pub const FRAME_UNEXPECTED: Code = Code(0x105);
    pub const FRAME_ERROR: Code = Code(0x106);
    pub const EXCESSIVE_LOAD: Code = Code(0x107);
    pub const ID_ERROR: Code = Code(0x108);
    pub const SETTINGS_ERROR: Code = Code(0x109);
    pub const MISSING_SETTINGS: Code = Code(0x10a);
    pub const REQUEST_REJECTED: Code = Code(0x10b);
    pub const REQUEST_CANCELLED: Code = Code(0x10c);
    pub const REQUEST_INCOMPLETE: Code = Code(0x10d);
    pub const MESSAGE_ERROR: Code = Code(0x10e);
    pub const CONNECT_ERROR: Code = Code(0x10f);
    pub const QPACK_DECOMPRESSION_FAILED: Code = Code(0x200);
    pub const QPACK_ENCODER_STREAM_ERROR: Code = Code(0x201);
    pub const QPACK_DECODER_STREAM_ERROR: Code = Code(0x202);

    pub fn number(self) -> VarInt {
        VarInt::from_u32(self.0)
    }
}

/// What a frame is (section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    CancelPush,
    Settings,
    PushPromise,
    GoAway,
    MaxPushId,
    /// Of HTTP/2, and of nothing here (section 7.2.8).
    Reserved,
    /// To be passed over.
    Unknown,
}

impl Kind {
    fn of(number: u64) -> Kind {
        match number {
            0x00 => Kind::Data,
            0x01 => Kind::Headers,
            0x03 => Kind::CancelPush,
            0x04 => Kind::Settings,
            0x05 => Kind::PushPromise,
            0x07 => Kind::GoAway,
            0x0d => Kind::MaxPushId,
            0x02 | 0x06 | 0x08 | 0x09 => Kind::Reserved,
            _ => Kind::Unknown,
        }
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub kind: Kind,
    pub length: u64,
}

impl FrameHead {
    /// Takes one off the front. `None` while it is not whole.
    pub fn take(input: &mut BytesMut) -> Option<FrameHead> {
        let mut rest = &input[..];
        let kind = Kind::of(number(&mut rest)?);
        let length = number(&mut rest)?;
        let taken = input.len() - rest.len();
        let _ = input.split_to(taken);
        Some(FrameHead { kind, length })
    }
}

/// A number of RFC 9000, section 16. `None` while it is not whole.
pub fn number(rest: &mut &[u8]) -> Option<u64> {
    let first = *rest.first()?;
    let (bytes, others) = rest.split_at_checked(1 << (first >> 6))?;
    *rest = others;
    Some(bytes.iter().skip(1).fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

/// `value` is below 2^62.
pub fn put_number(out: &mut BytesMut, value: u64) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

pub const DATA: u64 = 0x00;
pub const HEADERS: u64 = 0x01;

pub fn put_head(out: &mut BytesMut, kind: u64, length: usize) {
    put_number(out, kind);
    put_number(out, length as u64);
}

/// The type of a stream of one direction, and its first frame (section 6.2.1).
pub fn put_control(out: &mut BytesMut, field_section_bytes_max: u64, takes_extended: bool) {
    const CONTROL: u64 = 0x00;
    const SETTINGS: u64 = 0x04;
    const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
    let mut settings = BytesMut::new();
    put_number(&mut settings, MAX_FIELD_SECTION_SIZE);
    put_number(&mut settings, field_section_bytes_max);
    if takes_extended {
        // RFC 9220, section 5.
        const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
        put_number(&mut settings, ENABLE_CONNECT_PROTOCOL);
        put_number(&mut settings, 1);
    }
    put_number(out, CONTROL);
    put_head(out, SETTINGS, settings.len());
    out.extend_from_slice(&settings);
}

/// No request from this stream on is taken.
pub fn put_go_away(out: &mut BytesMut, stream: u64) {
    const GOAWAY: u64 = 0x07;
    let mut payload = BytesMut::new();
    put_number(&mut payload, stream);
    put_head(out, GOAWAY, payload.len());
    out.extend_from_slice(&payload);
}

/// Reads settings. Nothing that a client may say there changes what we do; but they must be settings (section 7.2.4).
pub fn check_settings(payload: &[u8]) -> Result<(), Code> {
    let mut rest = payload;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let both = number(&mut rest).and_then(|id| number(&mut rest).map(|_| id));
        let id = both.ok_or(Code::FRAME_ERROR)?;
        // Those of HTTP/2 that have no meaning here.
        if matches!(id, 0x00 | 0x02..=0x05) || seen.contains(&id) {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        // RFC 9000, appendix A.1.
        let check = |bytes: &[u8], value: u64| {
            let mut rest = bytes;
            assert_eq!((number(&mut rest), rest), (Some(value), &[][..]));
            let mut out = BytesMut::new();
            put_number(&mut out, value);
            assert_eq!(out, bytes);
        };
        check(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652);
        check(&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333);
        check(&[0x7b, 0xbd], 15_293);
        check(&[0x25], 37);
        assert_eq!(number(&mut &[0x40, 0x25][..]), Some(37), "longer than it must be");
        for broken in [&[][..], &[0x40], &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8]] {
            assert_eq!(number(&mut &*broken), None);
        }
    }

    #[test]
    fn a_frame_is_taken_when_its_head_is_whole() {
        let mut input = BytesMut::from(&[0x01, 0x40][..]);
        assert_eq!(FrameHead::take(&mut input), None);
        assert_eq!(input.len(), 2);
        input.extend_from_slice(&[0x64, b'a']);
        assert_eq!(FrameHead::take(&mut input), Some(FrameHead { kind: Kind::Headers, length: 100 }));
        assert_eq!(input, &b"a"[..]);
    }

    #[test]
    fn settings_are_checked() {
        let check = |payload: &[u8], expected| assert_eq!(check_settings(payload), expected, "{payload:x?}");
        check(&[], Ok(()));
        check(&[0x01, 0x40, 0x64, 0x07, 0x10, 0x21, 0x05], Ok(()));
        check(&[0x01, 0x00, 0x01, 0x00], Err(Code::SETTINGS_ERROR));
        check(&[0x02, 0x00], Err(Code::SETTINGS_ERROR));
        check(&[0x01], Err(Code::FRAME_ERROR));
        let mut out = BytesMut::new();
        put_control(&mut out, 61_440, false);
        assert_eq!(out, &[0x00, 0x04, 0x05, 0x06, 0x80, 0x00, 0xf0, 0x00][..]);
        assert_eq!(check_settings(&out[3..]), Ok(()));
        out.clear();
        put_control(&mut out, 0, true);
        assert_eq!(out, &[0x00, 0x04, 0x04, 0x06, 0x00, 0x08, 0x01][..]);
    }
}
