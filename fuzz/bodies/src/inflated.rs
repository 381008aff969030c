//! Bodies in content codings: whatever they are, what comes out fits its room, and is the same however it comes in.

use naru_coding::{Coding, Decoder};

/// Of what comes out, looked at.
const BYTES_MAX: usize = 1 << 20;

/// The first byte says the coding, the second the size of pieces, the third that of the room.
pub fn inflated(bytes: &[u8]) {
    let [coding, piece, room, bytes @ ..] = bytes else { return };
    let coding = match coding % 3 {
        0 => Coding::Gzip,
        1 => Coding::Brotli,
        _ => Coding::Zstd,
    };
    let whole = read(coding, bytes, bytes.len().max(1), 4_096);
    let pieces = read(coding, bytes, usize::from(*piece) + 1, usize::from(*room) + 1);
    let same = whole.0.len().min(pieces.0.len());
    assert_eq!(whole.0.get(..same), pieces.0.get(..same), "the same bytes say two things");
    if whole.1 && pieces.1 {
        assert_eq!(whole.0.len(), pieces.0.len(), "the same body has two ends");
    }
}

/// What comes out, and whether it is whole.
fn read(coding: Coding, bytes: &[u8], piece: usize, room: usize) -> (Vec<u8>, bool) {
    let (mut decoder, mut all, mut room) = (Decoder::new(coding), Vec::new(), vec![0; room]);
    for mut piece in bytes.chunks(piece) {
        loop {
            let before = piece.len();
            let Ok(filled) = decoder.read(&mut piece, &mut room) else { return (all, false) };
            assert!(filled <= room.len() && piece.len() <= before);
            all.extend_from_slice(room.get(..filled).unwrap_or_default());
            if all.len() > BYTES_MAX {
                return (all, false);
            }
            if filled < room.len() {
                assert!(piece.is_empty(), "it wants more, and leaves what it has");
                break;
            }
        }
    }
    (all, decoder.is_whole())
}
