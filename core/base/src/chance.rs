//! Seeded chance: the only source of randomness in the core.
//!
//! xoshiro256++ (Blackman and Vigna, 2019), seeded through SplitMix64. Not for secrets. A generator
//! is [split](Chance::split) by label, so that a new consumer does not shift the numbers of the others.

/// A deterministic generator of uniform numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chance {
    state: [u64; 4],
}

impl Chance {
    pub fn new(seed: u64) -> Chance {
        let mut s = seed;
        let mut next = || {
            s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(s)
        };
        Chance { state: [next(), next(), next(), next()] }
    }

    /// An independent generator for one purpose: the same parent and label give the same child,
    /// whatever the parent was used for since it was made from its seed.
    pub fn split(seed: u64, label: &str) -> Chance {
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Chance::new(mix(seed ^ mix(hash)))
    }

    /// A uniform 64-bit number.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A uniform number in `0..bound`; 0 where `bound` is 0. Lemire's multiply-shift: the bias is
    /// below `bound / 2^64`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        within(self.draw(), bound)
    }
}

/// Scales one uniform draw to `0..bound`.
#[inline]
pub fn within(draw: u64, bound: u64) -> u64 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u64
}

/// The finalizer of SplitMix64: spreads every bit of the input over the output. For deriving
/// several independent draws from one.
#[inline]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_labels_part_them() {
        let mut a = Chance::split(7, "pick");
        let mut b = Chance::split(7, "pick");
        let mut c = Chance::split(7, "fraction");
        let row: Vec<u64> = (0..8).map(|_| a.draw()).collect();
        assert_eq!(row, (0..8).map(|_| b.draw()).collect::<Vec<_>>());
        assert_ne!(row, (0..8).map(|_| c.draw()).collect::<Vec<_>>());
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut chance = Chance::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..7_000 {
            seen[chance.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
    }
}
