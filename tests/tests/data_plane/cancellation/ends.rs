//! What both ends of a plan have in common.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use naru_tests::wire::End;

pub const HALF: &str = "five!";
pub const WHOLE: &str = "five!five!";
/// More than the buffers of four sockets and of a proxy take. Those of the kernel keep their size: with
/// small ones, smaller than a segment of the loopback, what is carried to its end takes seconds.
pub const LARGE: usize = 12 << 20;
/// What takes nothing for so long is full.
pub const PAUSE: Duration = Duration::from_millis(20);

/// The exchange is over, before the plan said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl From<End> for Gone {
    fn from(_: End) -> Gone {
        Gone
    }
}

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Gone {
        Gone
    }
}

/// Writes past the library that owns the connection. Where its end is gone nothing is written.
pub fn raw(socket: &TcpStream, bytes: &[u8]) {
    let mut socket = socket;
    let _ = socket.write_all(bytes);
}

/// Frames of HTTP/2 that no library would write (RFC 9113, section 6).
pub mod raw {
    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;
    const END_STREAM_AND_HEADERS: u8 = 0x5;

    fn frame(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// A head that breaks off.
    pub fn half_of_headers(stream: u32) -> Vec<u8> {
        frame(40, HEADERS, END_STREAM_AND_HEADERS, stream, b"\0\x05x-")
    }

    /// A name in capitals, which is malformed (section 8.2.1).
    pub fn invalid_trailers(stream: u32) -> Vec<u8> {
        let block = b"\0\x05X-SUM\x0217";
        frame(block.len(), HEADERS, END_STREAM_AND_HEADERS, stream, block)
    }

    /// Streams up to `last` are still served.
    pub fn go_away(last: u32) -> Vec<u8> {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(0_u32.to_be_bytes());
        frame(8, GOAWAY, 0, 0, &payload)
    }
}
