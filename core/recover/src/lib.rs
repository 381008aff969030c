//! What after a failure?
//!
//! In come the heads and failures of a request's attempts, what the route's policy and a trusted
//! caller ask for, and how many retries the cluster bears already; out comes a [`Verdict`]: this is
//! the answer, or another attempt after so long. [`Recovery`] is the state of one request. Beside it
//! stand the things that are asked before an attempt is made: how much time is left ([`deadline`],
//! [`auto`]), and which failures and copies are made on purpose ([`fault`], [`mirror`]).
//!
//! Deliberately not here: which endpoint is taken (`balance`), whether it is fit (`guard`), who sends
//! anything or counts requests. Semantics: Envoy's router (`retry_state_impl.cc`, `router.cc`), its
//! fault filter and its mirrors, with three rules of our own: what may have acted is repeated only
//! where that is harmless ([`naru_spec::Repeats`]), no retry is begun that could not end in time, and
//! only the layer nearest to a failure retries ([`layer`]). Nothing here allocates while attempts
//! succeed.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the machine of one request and what it rests on; then time; then what is made on purpose.
mod recovery;
mod flight;
mod route;
mod policy;
mod asked;
mod condition;
mod backoff;
pub mod budget;
pub mod layer;
pub mod deadline;
pub mod auto;
pub mod fault;
pub mod mirror;

pub use asked::consume;
pub use backoff::wait;
pub use budget::RetryLoad;
pub use condition::{FailureKind, Head};
pub use policy::CompiledRetry;
pub use recovery::{Circumstances, Done, Facts, Failure, Recovery, Sent, Step, Verdict, Wait};
pub use route::RouteRecovery;

#[cfg(test)]
mod tests;
