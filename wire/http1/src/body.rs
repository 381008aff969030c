//! Bodies that are read.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::read::{Limits, read_trailers};
use crate::{Framing, Malformed, Scan};

/// What extensions of chunks may cost, of one message in all: they say nothing that anybody wants to hear.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// Takes a body out of the bytes that it came in.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
}

#[derive(Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    /// In the line before a chunk: so many digits of its size were read.
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        at: Extension,
    },
    /// Behind the CR of that line.
    SizeEnd {
        size: u64,
    },
    Chunk {
        left: u64,
    },
    /// Behind the last byte of a chunk, and behind the CR after it.
    ChunkEnd,
    ChunkLineFeed,
    Trailers(Scan),
}

/// What was read of an extension of a chunk (RFC 9112, section 7.1.1).
#[derive(Clone, Copy, Debug)]
enum Extension {
    /// Nothing, but for white space.
    Begun,
    Name,
    /// White space, behind which there has to be something.
    Named,
    /// The equals sign, or that and white space.
    Equals,
    Token,
    Quoted,
    /// A backslash within quotes.
    Escaped,
    Unquoted,
    /// White space, behind which there has to be another extension.
    Valued,
}

impl Extension {
    /// Nothing where the byte cannot be the next one.
    fn go_on(self, byte: u8) -> Option<Extension> {
        use Extension::{Begun, Equals, Escaped, Name, Named, Quoted, Token, Unquoted, Valued};
        Some(match (self, byte) {
            (Name | Named | Token | Unquoted | Valued, b';') => Begun,
            (Begun | Equals, b' ' | b'\t') => self,
            (Name | Named, b' ' | b'\t') => Named,
            (Token | Unquoted | Valued, b' ' | b'\t') => Valued,
            (Name | Named, b'=') => Equals,
            (Equals, b'"') => Quoted,
            (Quoted, b'"') => Unquoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (Begun | Name, byte) if is_token_byte(byte) => Name,
            (Equals | Token, byte) if is_token_byte(byte) => Token,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::Unquoted)
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A part of a body.
#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Decoder {
    pub fn of(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { state, extension_bytes: 0 }
    }

    /// Whether the body was read to its end.
    #[inline]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How long the rest of the body is, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// How many bytes are known to follow at least.
    pub fn expected(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk { left } => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The body has not.
    pub fn on_close(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Malformed::Truncated),
        }
    }

    /// The next piece. `None` where the body is done, or needs more bytes than there are.
    ///
    /// # Errors
    /// The body is not framed as it said.
    #[inline]
    pub fn decode(&mut self, input: &mut BytesMut, limits: Limits) -> Result<Option<Piece>, Malformed> {
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Length(left) => {
                    let data = take(input, left);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(data.map(Piece::Data));
                }
                State::UntilClose => return Ok(take(input, &mut { u64::MAX }).map(Piece::Data)),
                State::Chunk { left } => {
                    let data = take(input, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                        self.look_for_end(input);
                    }
                    return Ok(data.map(Piece::Data));
                }
                State::Trailers(scan) => {
                    let Some(end) = scan.go_on(input, limits.head_bytes)? else { return Ok(None) };
                    let lines = input.split_to(end);
                    self.state = State::Done;
                    if lines.len() == 2 {
                        return Ok(None);
                    }
                    return Ok(Some(Piece::Trailers(read_trailers(&lines, limits)?)));
                }
                _ => {
                    let Some(&byte) = input.first() else { return Ok(None) };
                    self.step(byte)?;
                    input.advance(1);
                }
            }
        }
    }

    /// One byte between chunks.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match self.state {
            State::Size { size, digits } => match (byte, char::from(byte).to_digit(16)) {
                // Sixteen digits fit, whatever they are.
                (_, Some(digit)) if digits < 16 => {
                    State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                (b'\r', _) if digits > 0 => State::SizeEnd { size },
                (b';', _) if digits > 0 => State::Extension { size, at: Extension::Begun },
                _ => return Err(Malformed::ChunkSize),
            },
            State::Extension { size, at } if byte == b'\r' && at.may_end() => State::SizeEnd { size },
            State::Extension { size, at } => {
                self.extension_bytes += 1;
                let is_small = self.extension_bytes <= EXTENSION_BYTES_MAX;
                let at = at.go_on(byte).filter(|_| is_small).ok_or(Malformed::ChunkExtension)?;
                State::Extension { size, at }
            }
            State::SizeEnd { size } if byte == b'\n' => match size {
                0 => State::Trailers(Scan::default()),
                left => State::Chunk { left },
            },
            State::SizeEnd { .. } => return Err(Malformed::ChunkSize),
            State::ChunkEnd if byte == b'\r' => State::ChunkLineFeed,
            State::ChunkLineFeed if byte == b'\n' => State::Size { size: 0, digits: 0 },
            _ => return Err(Malformed::ChunkEnd),
        };
        Ok(())
    }

    /// Where the end of the body is here already, the chunk before it is known to be the last.
    fn look_for_end(&mut self, input: &mut BytesMut) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if input.starts_with(END) {
            input.advance(END.len());
            self.state = State::Done;
        }
    }
}

/// What there is, and no more than `left`.
fn take(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let there = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    if there == 0 {
        return None;
    }
    *left -= there as u64;
    Some(if there == input.len() { input.split() } else { input.split_to(there) }.freeze())
}
