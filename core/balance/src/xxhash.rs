//! xxHash64: the hash that Envoy's rings, tables and hash policies are made of.
//!
//! It is fed piece by piece and keeps 32 bytes, so that a key need not be put together first. Source:
//! "xxHash fast digest algorithm", the specification in the xxHash repository, version 0.1.1.

use std::fmt;

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

const STRIPE: usize = 32;

/// The hash of some bytes.
pub fn xxhash64(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = Xxh64::new(seed);
    hash.update(bytes);
    hash.finish()
}

/// A hash that is being made. Text can be written to it.
#[derive(Clone, Debug)]
pub struct Xxh64 {
    lanes: [u64; 4],
    seed: u64,
    total: u64,
    kept: [u8; STRIPE],
    kept_len: usize,
}

impl Xxh64 {
    pub fn new(seed: u64) -> Xxh64 {
        Xxh64 {
            lanes: [
                seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
                seed.wrapping_add(PRIME_2),
                seed,
                seed.wrapping_sub(PRIME_1),
            ],
            seed,
            total: 0,
            kept: [0; STRIPE],
            kept_len: 0,
        }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        self.total = self.total.wrapping_add(bytes.len() as u64);
        if self.kept_len > 0 {
            let (taken, rest) = bytes.split_at(bytes.len().min(STRIPE - self.kept_len));
            self.keep(taken);
            bytes = rest;
            if self.kept_len < STRIPE {
                return;
            }
            let kept = self.kept;
            self.take_in(&kept);
            self.kept_len = 0;
        }
        let mut stripes = bytes.chunks_exact(STRIPE);
        for stripe in &mut stripes {
            self.take_in(stripe);
        }
        self.keep(stripes.remainder());
    }

    fn keep(&mut self, bytes: &[u8]) {
        for (kept, byte) in self.kept.iter_mut().skip(self.kept_len).zip(bytes) {
            *kept = *byte;
        }
        self.kept_len += bytes.len();
    }

    fn take_in(&mut self, stripe: &[u8]) {
        for (lane, input) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, little_endian(input));
        }
    }

    pub fn finish(&self) -> u64 {
        let mut hash = if self.total < STRIPE as u64 {
            self.seed.wrapping_add(PRIME_5)
        } else {
            let turns = self.lanes.iter().zip([1, 7, 12, 18]);
            let start = turns.fold(0_u64, |sum, (lane, turn)| sum.wrapping_add(lane.rotate_left(turn)));
            self.lanes.iter().fold(start, |hash, lane| {
                (hash ^ round(0, *lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
            })
        };
        hash = hash.wrapping_add(self.total);
        let kept = self.kept.get(..self.kept_len).unwrap_or_default();
        let mut eights = kept.chunks_exact(8);
        for input in &mut eights {
            hash ^= round(0, little_endian(input));
            hash = hash.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
        }
        let mut fours = eights.remainder().chunks_exact(4);
        for input in &mut fours {
            hash ^= little_endian(input).wrapping_mul(PRIME_1);
            hash = hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        }
        for byte in fours.remainder() {
            hash ^= u64::from(*byte).wrapping_mul(PRIME_5);
            hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
        hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
        hash ^ (hash >> 32)
    }
}

impl fmt::Write for Xxh64 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use naru_base::Chance;

    use super::*;

    #[test]
    fn hashes_are_those_that_everybody_has() {
        // Of the reference implementation.
        assert_eq!(xxhash64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxhash64(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxhash64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(xxhash64(b"The quick brown fox jumps over the lazy dog", 0), 0x0b24_2d36_1fda_71bc);
        // Of Envoy's hash_test.cc and ring_hash_lb_test.cc.
        assert_eq!(xxhash64(b"foo", 0), 3_728_699_739_546_630_719);
        assert_eq!(xxhash64(b"bar", 0), 5_234_164_152_756_840_025);
        assert_eq!(
            xxhash64(b"127.0.0.1:94_0", 0).min(xxhash64(b"127.0.0.1:94_1", 0)),
            833_437_586_790_550_860
        );
    }

    #[test]
    fn pieces_make_the_same_hash_as_the_whole() {
        let mut chance = Chance::new(5);
        for _ in 0..256 {
            let bytes: Vec<u8> = (0..chance.below(200)).map(|_| chance.draw() as u8).collect();
            let seed = chance.draw();
            let mut hash = Xxh64::new(seed);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + chance.below(rest.len() as u64) as usize);
                hash.update(piece);
                rest = after;
            }
            assert_eq!(hash.finish(), xxhash64(&bytes, seed));
        }
        let (mut written, port) = (Xxh64::new(0), 94);
        write!(written, "127.0.0.1:{port}_{}", 1).unwrap();
        assert_eq!(written.finish(), xxhash64(b"127.0.0.1:94_1", 0));
    }
}
