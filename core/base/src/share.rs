//! Weights and fractions as integers, so that equal inputs decide equally on every machine.

use std::fmt;

use crate::chance::within;

/// A share of the sum of its siblings. Zero takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u32);

/// A part of all: `numerator / denominator`, as Envoy's `FractionalPercent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fraction {
    numerator: u32,
    denominator: Denominator,
}

/// The denominators that Envoy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denominator {
    Hundred,
    TenThousand,
    Million,
}

impl Denominator {
    pub fn value(self) -> u32 {
        match self {
            Denominator::Hundred => 100,
            Denominator::TenThousand => 10_000,
            Denominator::Million => 1_000_000,
        }
    }
}

impl Fraction {
    pub const ALL: Fraction = Fraction { numerator: 100, denominator: Denominator::Hundred };

    pub const NONE: Fraction = Fraction { numerator: 0, denominator: Denominator::Hundred };

    /// More than the whole means the whole, as in Envoy.
    pub const fn new(numerator: u32, denominator: Denominator) -> Fraction {
        Fraction { numerator, denominator }
    }

    pub fn is_none(self) -> bool {
        self.numerator == 0
    }

    pub fn numerator(self) -> u32 {
        self.numerator
    }

    pub fn denominator(self) -> Denominator {
        self.denominator
    }

    /// Whether a uniform draw falls into this fraction.
    #[inline]
    pub fn takes(self, draw: u64) -> bool {
        within(draw, u64::from(self.denominator.value())) < u64::from(self.numerator)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chance;

    #[test]
    fn a_fraction_takes_its_share_of_draws() {
        let mut chance = Chance::new(3);
        let tenth = Fraction::new(1_000, Denominator::TenThousand);
        let taken = (0..100_000).filter(|_| tenth.takes(chance.draw())).count();
        assert!((9_700..10_300).contains(&taken), "{taken}");
        assert!(!Fraction::new(0, Denominator::Hundred).takes(0));
        assert!(Fraction::ALL.takes(u64::MAX));
    }
}
