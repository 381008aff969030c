//! How hard is the load, and what is given up for it?
//!
//! In come numbers of what has happened ([`Counts`]) and what is now ([`Gauges`]), at moments; they become [`Signals`],
//! and a [`Controller`] says at which level the process is, and why. What a level means is said by the settings
//! ([`naru_spec::Surge`]) to whoever asks: the cache, the rate limits, the gateways, the workloads. They ask for the
//! level as they go, so that leaving one undoes all of it.
//!
//! Deliberately not here: how anything is measured, and what a step does.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what is known of the load, what comes of it.
mod signals;
mod controller;

pub use controller::{Controller, Crossing, Hold, Transition, Why};
pub use signals::{BOUNDS_US, Counts, Gauges, Meter, Signals};
