//! Who is logged in, and for how long?
//!
//! In come settings (`naru_spec::session`), what stands in tokens, what a store says, and moments; out come verdicts on
//! tokens, the next state of keys and sessions, and what is to be asked of the store. One [`Keeper`] is one gateway; any
//! number of them share a store and rotate their keys once, together.
//!
//! | situation | what is decided | where |
//! |---|---|---|
//! | a request with an access token | served, served with a hint to refresh, or refused | [`token`] |
//! | somebody logs in at a provider | what he is sent with, and what is believed of what he brings back | [`login`] |
//! | a key is old | another one signs; the next one is known beforehand | [`ring`] |
//! | a refresh token is presented | the next one, the same next one again, or the family is revoked | [`family`] |
//! | somebody logs out | his tokens are on the list until they expire | [`revoked`] |
//! | somebody is thrown out | all of his sessions of before are, by one line of that list | [`subject`] |
//! | the store is away, or has lost what it had | what is known goes on; what it lost is put back | [`keeper`] |
//!
//! Deliberately not here: signatures, seals and chance that nobody may guess (the shell brings ids and says whether a
//! signature holds), the store itself, cookies and headers as they are written (`proxy`).
//!
//! Source: the contract of the seed (keys, tokens, blacklist), RFC 7519 for claims, RFC 9700 section 4.14.2 for refresh
//! tokens that are used once.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what a request is to sessions, what its token is worth, then what tokens hang on, then who keeps it.
pub mod way;
pub mod login;
pub mod token;
pub mod ring;
pub mod family;
pub mod revoked;
pub mod subject;
pub mod keeper;
pub mod written;

pub use family::{Family, Presented, Said};
pub use keeper::{Action, Cursor, Keeper, News, Pace};
pub use revoked::Revoked;
pub use ring::{Key, Ring, Standing};
pub use subject::Subject;
pub use token::{Claims, Verdict};
pub use way::Way;

use std::time::Duration;

use naru_base::WallTime;

/// Of a key, a session or a token: drawn by the shell, from all numbers of this size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u128);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Id {
    type Err = ();

    /// What [`Id`] is displayed as, and nothing else.
    fn from_str(text: &str) -> Result<Id, ()> {
        let is_known = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_known) {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Id).map_err(|_| ())
    }
}

/// What passed between two dates; zero where `earlier` is the later one.
pub(crate) fn since(now: WallTime, earlier: WallTime) -> Duration {
    Duration::from_nanos(now.0.saturating_sub(earlier.0))
}
