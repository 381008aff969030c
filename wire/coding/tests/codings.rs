//! Bodies through each coding and back, in pieces of any size; and what is none.

use naru_coding::{Coding, Decoder, Encoder, Malformed};

const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

fn encoder(coding: Coding) -> Encoder {
    match coding {
        Coding::Gzip => Encoder::gzip(None, 15),
        Coding::Brotli => Encoder::brotli(4, 18),
        Coding::Zstd => Encoder::zstd(3, 19, true),
    }
}

/// A small generator: `xorshift64*`.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }
}

/// Words that come again, as those of texts do.
fn text(draw: &mut Draw, bytes: usize) -> Vec<u8> {
    let words = ["naru ", "<div class=\"place\">", "</div>\n", "Seoul ", "0123456789", "{\"id\": ", "}, "];
    let mut text = Vec::new();
    while text.len() < bytes {
        match draw.below(8) {
            7 => text.push(draw.below(256) as u8),
            word => text.extend_from_slice(words[word].as_bytes()),
        }
    }
    text.truncate(bytes);
    text
}

fn encode(coding: Coding, body: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (encoder(coding), Vec::new());
    encoder.write(body, &mut out);
    encoder.finish(&mut out);
    assert!(!encoder.is_broken());
    out
}

/// All of it, by pieces of the input and room of the given sizes.
fn decode(coding: Coding, bytes: &[u8], piece: usize, room: usize) -> Result<Vec<u8>, Malformed> {
    let mut decoder = Decoder::new(coding);
    let (mut all, mut room) = (Vec::new(), vec![0; room]);
    for mut piece in bytes.chunks(piece) {
        loop {
            let filled = decoder.read(&mut piece, &mut room)?;
            all.extend_from_slice(&room[..filled]);
            if filled < room.len() {
                assert!(piece.is_empty(), "it wants more, and leaves what it has");
                break;
            }
        }
    }
    decoder.is_whole().then_some(all).ok_or(Malformed)
}

#[test]
fn a_body_comes_back_as_it_was() {
    for seed in 1..40 {
        let mut draw = Draw(seed * 77_777);
        let bytes = [0, 1, 30, 1_000, 70_000, 300_000][draw.below(6)];
        let body = text(&mut draw, bytes);
        for coding in CODINGS {
            let (mut encoder, mut coded, mut rest) = (encoder(coding), Vec::new(), &body[..]);
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(1 + draw.below(rest.len()));
                encoder.write(piece, &mut coded);
                if draw.below(3) == 0 {
                    encoder.flush(&mut coded);
                }
                rest = next;
            }
            encoder.finish(&mut coded);
            let (piece, room) = (1 + draw.below(5_000), 1 + draw.below(5_000));
            assert!(!encoder.is_broken());
            let back = decode(coding, &coded, piece, room);
            assert!(back.as_ref() == Ok(&body), "seed {seed}, {coding:?}, {} bytes", body.len());
        }
    }
}

#[test]
fn what_is_flushed_can_be_read() {
    for coding in CODINGS {
        let (mut encoder, mut decoder) = (encoder(coding), Decoder::new(coding));
        for number in 0..20 {
            let (said, mut coded) = (format!("data: {number}\n\n"), Vec::new());
            encoder.write(said.as_bytes(), &mut coded);
            encoder.flush(&mut coded);
            let (mut room, mut coded) = ([0; 64], &coded[..]);
            let filled = decoder.read(&mut coded, &mut room).unwrap();
            assert_eq!(&room[..filled], said.as_bytes(), "{coding:?}");
        }
    }
}

#[test]
fn what_was_cut_off_or_changed_is_malformed() {
    let body = text(&mut Draw(9), 5_000);
    for coding in CODINGS {
        let whole = encode(coding, &body);
        for cut in [0, 1, 3, whole.len() / 2, whole.len() - 1] {
            assert_eq!(decode(coding, &whole[..cut], 100, 100), Err(Malformed), "{coding:?} {cut}");
        }
        let longer = [&whole[..], b"and more"].concat();
        assert_eq!(decode(coding, &longer, 100, 100), Err(Malformed), "{coding:?}");
        assert_eq!(decode(coding, b"plain text, in no coding", 7, 100), Err(Malformed), "{coding:?}");
        for at in 0..whole.len().min(200) {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            // It may be another body; it is no longer one than it could be, and nobody panics.
            let _ = decode(coding, &changed, 1_000, 1_000);
        }
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let two = [encode(coding, b"one, "), encode(coding, b"two")].concat();
        for piece in [1, 7, 1_000] {
            assert_eq!(decode(coding, &two, piece, 3), Ok(b"one, two".to_vec()), "{coding:?}");
        }
    }
    let many = encode(Coding::Gzip, b"").repeat(100);
    assert_eq!(decode(Coding::Gzip, &many, 1_000, 100), Err(Malformed), "each costs its reader a window");
}

#[test]
fn a_bomb_fills_no_more_than_its_room() {
    let zeros = vec![0; 64 * 1_024];
    for coding in CODINGS {
        let (mut encoder, mut bomb) = (encoder(coding), Vec::new());
        for _ in 0..512 {
            encoder.write(&zeros, &mut bomb);
        }
        encoder.finish(&mut bomb);
        assert!(bomb.len() < 64 * 1_024, "{coding:?}: {}", bomb.len());
        let (mut decoder, mut input, mut room) = (Decoder::new(coding), &bomb[..], [1; 1_000]);
        let filled = decoder.read(&mut input, &mut room).unwrap();
        assert_eq!(filled, 1_000);
        assert!(room.iter().all(|byte| *byte == 0));
    }
}
