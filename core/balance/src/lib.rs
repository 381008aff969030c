//! Which endpoint?
//!
//! In come the settings of a cluster, its endpoints and how fit they are; for each request what it is
//! bound to, how many requests each endpoint has in flight ([`Loads`]), and chance; out goes the id of
//! one endpoint. A worker has its own [`Balancer`] for each cluster, so that picking shares nothing; it
//! follows another [`Roster`] when the endpoints change, which all workers share, with the large tables of a
//! consistent hash in it. What of a request is hashed is said by [`hash`].
//!
//! Deliberately not here: why an endpoint is fit or not (`guard`), what happens when the picked one
//! fails (`recover`), who counts the requests, which priorities the localities of a mesh have (`plan`).
//! Semantics: Envoy's load balancers of the same names. Weights are integers and so are virtual times,
//! so the same calls give the same picks on every machine; endpoints that are equal otherwise go by id.
//! A pick does not allocate, and builds nothing.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what is told and asked, the whole, how its tables come about, the policies, and
// what they are built on.
mod endpoint;
mod balancer;
mod sticky;
mod hash_policy;
mod cookie;
mod roster;
mod priority;
mod pool;
mod round_robin;
mod least_request;
mod random;
mod peak_ewma;
mod consistent;
mod ring;
mod maglev;
mod warm_up;
mod schedule;
mod power;
mod xxhash;

pub use balancer::{Balancer, PickContext, Tried};
pub use endpoint::{EndpointFacts, Fitness, Loads, key};
pub use hash_policy::{Hashable, Hashed, NewCookies, hash};
pub use roster::Roster;
pub use sticky::Bound;
pub use xxhash::{Xxh64, xxhash64};
