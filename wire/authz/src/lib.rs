//! How is another asked by gRPC whether a request may pass, and what does it answer?
//!
//! `envoy.service.auth.v3.Authorization/Check`: [`question`] writes a `CheckRequest`, [`answer`] reads a
//! `CheckResponse`, both in the frame of gRPC. Few messages of plain fields, written by hand; a foreign server, which
//! has them from Envoy's descriptors, reads and answers them in `tests/tests/data_plane/beside_envoy/external.rs`.
//!
//! Deliberately not here: what is told, and what an answer means (`naru_identity::external`).
#![forbid(unsafe_code)]

mod answer;
mod proto;
mod question;

pub use answer::{NotOurs, answer, fuzz};
pub use question::{Party, Question, question};

/// Where it is asked.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
