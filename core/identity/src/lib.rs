//! Who asks, and may they?
//!
//! A request comes in, and with it what is known of its connection. [`Authentication`] says which tokens it
//! has to show, where they stand, and whether what they claim is accepted; who reads them and holds them
//! against keys is asked ([`Verdict::Ask`]) and answers with a [`Token`] or a [`Denial`]. What was verified
//! ([`Identified`]) is what [`Authorization`] asks its policies about.
//!
//! Deliberately not here: signatures and keys (`wire/jose`), when a request waits for keys (`journey`).
//! Semantics: Envoy's filters `jwt_authn` and `rbac`, in `source/extensions/filters`, with their texts.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: from where one may ask at all; what is asked for and why it is refused, where tokens stand, who issued them, then who
// may do what.
mod networks;
mod authentication;
mod denial;
mod identified;
mod places;
mod provider;
mod freshness;
mod authorization;
mod test;
mod template;
// Who else is asked.
pub mod external;

pub use authentication::{Authentication, Known, Verdict, Wanted};
pub use authorization::{Authorization, Decision};
pub use denial::Denial;
pub use freshness::{Freshness, Turn};
pub use identified::{Identified, Token};
pub use networks::Networks;
pub use places::Kind as TokenPlace;
pub use provider::Accepted;
pub use template::is_template;
pub use test::{Asker, Names};
