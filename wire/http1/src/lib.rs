//! What does a message of HTTP/1 say, and how is one said?
//!
//! Comes in: bytes, in pieces of any size. Goes out: heads, pieces of bodies, trailers; or the one rule that the
//! bytes break. The other way round, the bytes that say a head or a body.
//!
//! RFC 9110 and RFC 9112, and never more than they allow: what two readers might read in two ways is not read at all.
//! Nobody behind naru sees bytes of somebody else's framing, as every message is said anew.
//!
//! Deliberately not here: sockets, time, which messages a connection carries (`proxy/src/codec/http1`), and what heads
//! mean (`core/journey`).
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// In the order of a message: its head is found, read, says how long the body is; the body; the way back.
mod scan;
mod read;
mod plain;
mod framing;
mod body;
mod write;
mod malformed;

pub use body::{Decoder, Piece};
pub use framing::Framing;
pub use malformed::Malformed;
pub use plain::{PLAIN_FIELDS_MAX, PlainField, PlainHead, PlainRoom, read_plain};
pub use read::{Limits, RequestHead, ResponseHead, read_request, read_response};
pub use scan::Scan;
pub use write::{
    CONTINUE, LAST_CHUNK, write_chunk_size, write_last_chunk, write_request_head, write_response_head,
    write_status_line,
};
