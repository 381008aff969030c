//! Into a coding.

use std::io::Write;

use brotli::CompressorWriter;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation, OutBuffer};

/// Room that is made at a time for what comes out.
const ROOM: usize = 8 * 1_024;

/// A body on its way into a coding. What libraries refuse ends it: nothing more comes out, and [`Encoder::is_broken`].
pub struct Encoder {
    kind: Kind,
    is_broken: bool,
}

enum Kind {
    Gzip(Box<Compress>),
    /// Absent once it has ended.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Zstd(Box<Zstd<'static>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match &self.kind {
            Kind::Gzip(_) => "gzip",
            Kind::Brotli(_) => "br",
            Kind::Zstd(_) => "zstd",
        };
        f.debug_struct("Encoder").field("coding", &name).field("is_broken", &self.is_broken).finish()
    }
}

impl Encoder {
    /// `level` is 1 to 9, or none for the library's own; `window_bits` 9 to 15.
    pub fn gzip(level: Option<u32>, window_bits: u8) -> Encoder {
        let level = level.map_or_else(Compression::default, |level| Compression::new(level.min(9)));
        // A window of 256 bytes is none that deflate's libraries write.
        let compress = Compress::new_gzip(level, window_bits.clamp(9, 15));
        Encoder { kind: Kind::Gzip(Box::new(compress)), is_broken: false }
    }

    /// `quality` is 0 to 11, `window_bits` 10 to 24.
    pub fn brotli(quality: u32, window_bits: u32) -> Encoder {
        let writer = CompressorWriter::new(Vec::new(), ROOM, quality.min(11), window_bits.clamp(10, 24));
        Encoder { kind: Kind::Brotli(Some(Box::new(writer))), is_broken: false }
    }

    /// `level` is 1 to 19; nobody needs a window of more than `window_bits` to read it, which are 10 to 23 (RFC 9659).
    pub fn zstd(level: i32, window_bits: u32, has_checksum: bool) -> Encoder {
        let made = Zstd::new(level.clamp(1, 19)).and_then(|mut encoder| {
            encoder.set_parameter(CParameter::WindowLog(window_bits.clamp(10, 23)))?;
            encoder.set_parameter(CParameter::ChecksumFlag(has_checksum))?;
            Ok(encoder)
        });
        match made {
            Ok(encoder) => Encoder { kind: Kind::Zstd(Box::new(encoder)), is_broken: false },
            Err(_) => Encoder { kind: Kind::Brotli(None), is_broken: true },
        }
    }

    /// Whether the body cannot be written to its end.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Takes more of the body. What comes out is appended, and may be nothing yet.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let is_done = match &mut self.kind {
            Kind::Gzip(compress) => deflate(compress, input, FlushCompress::None, out),
            Kind::Brotli(Some(writer)) => {
                let is_done = writer.write_all(input).is_ok();
                out.append(writer.get_mut());
                is_done
            }
            Kind::Brotli(None) => false,
            Kind::Zstd(encoder) => {
                let mut input = InBuffer::around(input);
                into_room(out, |room| encoder.run(&mut input, room).map(|_| input.src.len() - input.pos()))
            }
        };
        self.is_broken |= !is_done;
    }

    /// Whatever was written can be read by the other side.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let is_done = match &mut self.kind {
            Kind::Gzip(compress) => deflate(compress, &[], FlushCompress::Sync, out),
            Kind::Brotli(Some(writer)) => {
                let is_done = writer.flush().is_ok();
                out.append(writer.get_mut());
                is_done
            }
            Kind::Brotli(None) => false,
            Kind::Zstd(encoder) => into_room(out, |room| encoder.flush(room)),
        };
        self.is_broken |= !is_done;
    }

    /// The end of the body. Nothing can be written behind it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let is_done = match &mut self.kind {
            Kind::Gzip(compress) => deflate(compress, &[], FlushCompress::Finish, out),
            Kind::Brotli(writer) => match writer.take() {
                Some(writer) => {
                    out.append(&mut writer.into_inner());
                    true
                }
                None => false,
            },
            Kind::Zstd(encoder) => into_room(out, |room| encoder.finish(room, true)),
        };
        self.is_broken |= !is_done;
    }
}

fn deflate(compress: &mut Compress, mut input: &[u8], how: FlushCompress, out: &mut Vec<u8>) -> bool {
    loop {
        out.reserve(ROOM);
        let before = compress.total_in();
        let Ok(status) = compress.compress_vec(input, out, how) else { return false };
        let taken = usize::try_from(compress.total_in() - before).unwrap_or(input.len());
        input = input.get(taken..).unwrap_or_default();
        let has_room = out.len() < out.capacity();
        let is_done = match how {
            FlushCompress::Finish => status == Status::StreamEnd,
            // Where room is left, nothing waits for any.
            _ => input.is_empty() && has_room,
        };
        if is_done {
            return true;
        }
        if has_room && taken == 0 && status == Status::BufError {
            return false;
        }
    }
}

/// Calls until nothing is left; `step` says how much that is.
fn into_room(
    out: &mut Vec<u8>,
    mut step: impl FnMut(&mut OutBuffer<'_, [u8]>) -> std::io::Result<usize>,
) -> bool {
    let mut room = [0; ROOM];
    loop {
        let mut piece = OutBuffer::around(&mut room[..]);
        let Ok(left) = step(&mut piece) else { return false };
        out.extend_from_slice(piece.as_slice());
        if left == 0 {
            return true;
        }
    }
}
