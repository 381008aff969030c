//! A scenario that real processes play, too: how much faster, and how near both come to each other.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::one;
use crate::quantity::Share;

/// The mark. What processes can do is in [`crate::processes`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// Every length of time, of the scenario and of its documents, is divided by this.
    #[serde(default = "unhurried")]
    pub faster: Spanned<NonZeroU32>,
    #[serde(default)]
    pub bounds: Bounds,
}

/// How far processes may be from virtual time. Sequences of states are equal.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Between the shares of errors.
    #[serde(default = "share")]
    pub share: Share,
    /// Between counts of requests, and between amplifications, of what virtual time says.
    #[serde(default = "counts")]
    pub counts: Share,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { share: share(), counts: counts() }
    }
}

fn unhurried() -> Spanned<NonZeroU32> {
    Spanned::new(one(), serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN)
}

fn share() -> Share {
    Share::of_percent(3)
}

fn counts() -> Share {
    Share::of_percent(10)
}
