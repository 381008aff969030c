//! How are bytes put into a content coding, and taken out of one?
//!
//! Comes in: bytes, in pieces of any size. Goes out: the same in gzip (RFC 1952), brotli (RFC 7932) or zstd (RFC 8878),
//! or what was in them before. An [`Encoder`] can be told to hold nothing back. A [`Decoder`] writes into room that it is
//! given, and no further: a few bytes that become gigabytes cost their reader no more than that room and a window.
//!
//! The only crate that names the libraries. Deliberately not here: which coding a message has, how much may come out of
//! one, sockets and time.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod encode;
mod decode;

pub use decode::{Decoder, Malformed};
pub use encode::Encoder;

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}
