//! Does anything that foreign bytes can say break us?
//!
//! For each reader of foreign bytes a function that takes any bytes and panics where something does
//! not hold that always should. `fuzz/fuzz_targets` gives them the bytes of a fuzzer; the test here
//! gives them, in the ordinary test run, every file of `fuzz/corpus`: seeds that people wrote, and
//! whatever once broke something. `cargo xtask fuzz` runs the fuzzer.
//!
//! Inputs are texts where the reader's are, and small texts of our own where it takes structures
//! ([`route`], [`journey`]), so that a file of a corpus can be read and written by hand.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a body tells what does not hold by panicking")]

// Configuration, then what is in it, then what clients and upstreams send.
mod bootstrap;
mod discovery;
mod format;
mod regex;
mod condition;
mod route;
mod certificate;
mod scenario;
mod documents;
mod import;
mod hello;
mod token;
mod authz;
mod known;
mod login;
mod http1;
mod wires;
mod tunnel;
mod proxied;
mod path;
mod edge;
mod asked;
mod grpc_web;
mod compared;
mod kept;
mod packed;
mod inflated;
mod sought;
mod journey;
mod exchange;
// What another process of ours says.
mod takeover;
mod leased;
mod told;
mod etcd;
mod ours;
// What they share.
mod place;
mod quiet;

pub use asked::asked;
pub use authz::authz;
pub use bootstrap::bootstrap;
pub use certificate::{certificate, revoked};
pub use compared::compared;
pub use condition::condition;
pub use discovery::discovery;
pub use documents::documents;
pub use edge::edge;
pub use etcd::etcd;
pub use exchange::{downstream, upstream};
pub use format::format;
pub use grpc_web::grpc_web;
pub use hello::hello;
pub use http1::http1;
pub use import::{compose, nginx};
pub use inflated::inflated;
pub use journey::journey;
pub use kept::kept;
pub use known::known;
pub use leased::leased;
pub use login::login;
pub use ours::ours;
pub use packed::packed;
pub use path::path;
pub use proxied::proxied;
pub use regex::regex;
pub use route::route;
pub use scenario::scenario;
pub use sought::sought;
pub use takeover::takeover;
pub use token::token;
pub use told::told;
pub use tunnel::tunnel;
pub use wires::{hpack, http2, http3, measured, probed, qpack};

/// A function that takes any bytes.
pub type Body = fn(&[u8]);

/// Every body by the name of its target and of its corpus.
pub const BODIES: &[(&str, Body)] = &[
    ("asked", asked),
    ("authz", authz),
    ("bootstrap", bootstrap),
    ("certificate", certificate),
    ("compared", compared),
    ("compose", compose),
    ("condition", condition),
    ("discovery", discovery),
    ("documents", documents),
    ("downstream", downstream),
    ("edge", edge),
    ("etcd", etcd),
    ("format", format),
    ("grpc_web", grpc_web),
    ("hello", hello),
    ("hpack", hpack),
    ("http1", http1),
    ("http2", http2),
    ("http3", http3),
    ("inflated", inflated),
    ("journey", journey),
    ("kept", kept),
    ("packed", packed),
    ("login", login),
    ("measured", measured),
    ("leased", leased),
    ("nginx", nginx),
    ("ours", ours),
    ("path", path),
    ("probed", probed),
    ("proxied", proxied),
    ("qpack", qpack),
    ("regex", regex),
    ("revoked", revoked),
    ("route", route),
    ("scenario", scenario),
    ("sought", sought),
    ("takeover", takeover),
    ("token", token),
    ("told", told),
    ("known", known),
    ("tunnel", tunnel),
    ("upstream", upstream),
];
