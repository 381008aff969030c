//! Out of a coding.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

use crate::Coding;

/// Of a stream of zstd, as a power of two: what readers must have room for (RFC 9659), and no more.
const WINDOW_BITS_MAX: u32 = 23;
/// Of one body. Each costs as much to begin as a large piece does to read.
const MEMBERS_MAX: u32 = 64;

/// The bytes are not of the coding that they are said to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bytes are not of their content coding")
    }
}

impl std::error::Error for Malformed {}

/// A body on its way out of a coding.
pub struct Decoder {
    kind: Kind,
    /// It may end here.
    is_whole: bool,
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Kind {
    Gzip { inflate: Box<Decompress>, members: u32 },
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd<'static>>),
    Broken,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("is_whole", &self.is_whole).finish_non_exhaustive()
    }
}

impl Decoder {
    pub fn new(coding: Coding) -> Decoder {
        let kind = match coding {
            Coding::Gzip => Kind::Gzip { inflate: Box::new(Decompress::new_gzip(15)), members: 1 },
            Coding::Brotli => {
                let of = StandardAlloc::default;
                Kind::Brotli(Box::new(BrotliState::new_strict(of(), of(), of())))
            }
            Coding::Zstd => {
                let made = Zstd::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_BITS_MAX))?;
                    Ok(decoder)
                });
                made.map_or(Kind::Broken, |decoder| Kind::Zstd(Box::new(decoder)))
            }
        };
        Decoder { kind, is_whole: false }
    }

    /// Whether the body may end here: what was begun is complete.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Fills `out`, as far as it goes, and takes from `input` what it needs for that. Where `out` is not filled it wants
    /// more input. Returns how much is in `out`.
    ///
    /// # Errors
    /// What was taken is malformed, or goes on behind its end.
    pub fn read(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Malformed> {
        let result = match &mut self.kind {
            Kind::Gzip { inflate, members } => inflate_into(inflate, members, &mut self.is_whole, input, out),
            Kind::Brotli(state) => brotli_into(state, &mut self.is_whole, input, out),
            Kind::Zstd(decoder) => zstd_into(decoder, &mut self.is_whole, input, out),
            Kind::Broken => Err(Malformed),
        };
        if result.is_err() {
            self.kind = Kind::Broken;
            self.is_whole = false;
        }
        result
    }
}

fn inflate_into(
    inflate: &mut Decompress,
    members: &mut u32,
    is_whole: &mut bool,
    input: &mut &[u8],
    out: &mut [u8],
) -> Result<usize, Malformed> {
    let mut filled = 0;
    loop {
        if *is_whole {
            if input.is_empty() {
                return Ok(filled);
            }
            // Members follow each other (RFC 1952, section 2.2).
            *members += 1;
            if *members > MEMBERS_MAX {
                return Err(Malformed);
            }
            *inflate = Decompress::new_gzip(15);
            *is_whole = false;
        }
        let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) else { return Ok(filled) };
        let before = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(input, room, FlushDecompress::None).map_err(|_| Malformed)?;
        let taken = usize::try_from(inflate.total_in() - before.0).unwrap_or(input.len());
        let made = usize::try_from(inflate.total_out() - before.1).unwrap_or(0);
        *input = input.get(taken..).unwrap_or_default();
        filled += made;
        *is_whole = status == Status::StreamEnd;
        if taken == 0 && made == 0 && !*is_whole {
            return if input.is_empty() { Ok(filled) } else { Err(Malformed) };
        }
    }
}

fn brotli_into(
    state: &mut Brotli,
    is_whole: &mut bool,
    input: &mut &[u8],
    out: &mut [u8],
) -> Result<usize, Malformed> {
    if *is_whole {
        return if input.is_empty() { Ok(0) } else { Err(Malformed) };
    }
    let (mut left, mut taken) = (input.len(), 0);
    let (mut room, mut filled, mut total) = (out.len(), 0, 0);
    let result =
        BrotliDecompressStream(&mut left, &mut taken, input, &mut room, &mut filled, out, &mut total, state);
    *input = input.get(taken..).unwrap_or_default();
    match result {
        BrotliResult::ResultSuccess if input.is_empty() => *is_whole = true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        BrotliResult::ResultSuccess | BrotliResult::ResultFailure => return Err(Malformed),
    }
    Ok(filled)
}

fn zstd_into(
    decoder: &mut Zstd<'static>,
    is_whole: &mut bool,
    input: &mut &[u8],
    out: &mut [u8],
) -> Result<usize, Malformed> {
    let mut filled = 0;
    loop {
        let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) else { return Ok(filled) };
        if *is_whole && input.is_empty() {
            return Ok(filled);
        }
        let mut from = InBuffer::around(input);
        let mut into = OutBuffer::around(room);
        let hint = decoder.run(&mut from, &mut into).map_err(|_| Malformed)?;
        let (taken, made) = (from.pos(), into.pos());
        *input = input.get(taken..).unwrap_or_default();
        filled += made;
        // A frame is complete, and all that is in it is out. Another may follow (RFC 8878, section 3.1).
        *is_whole = hint == 0;
        if taken == 0 && made == 0 {
            return if input.is_empty() { Ok(filled) } else { Err(Malformed) };
        }
    }
}
