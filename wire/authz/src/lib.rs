//! How is another asked by gRPC whether a request may pass, or how often, and what does it answer?
//!
//! `envoy.service.auth.v3.Authorization/Check`: [`question`] writes a `CheckRequest`, [`answer`] reads a
//! `CheckResponse`. `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`: [`limits`] writes a
//! `RateLimitRequest`, [`limited`] reads a `RateLimitResponse`. All in the frame of gRPC. Few messages of plain fields,
//! written by hand; foreign servers, which have them from Envoy's descriptors, read and answer them in
//! `tests/tests/data_plane/beside_envoy/external.rs` and `rate_service.rs` beside it.
//!
//! Deliberately not here: what is told, and what an answer means (`naru_identity::external`, `naru_admit::described`).
#![forbid(unsafe_code)]

mod answer;
mod limits;
mod proto;
mod question;

pub use answer::{NotOurs, answer, fuzz};
pub use limits::{fuzz_limited, limited, limits};
pub use question::{Party, Question, question};

/// Where it is asked.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Where it is asked how often somebody may come.
pub const LIMITS_PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
