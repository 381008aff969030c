//! What happens to this request?
//!
//! One request as a machine: events in, actions out. [`Journey`] asks the other questions of the
//! core in their order (which rule takes it, which endpoint, what after a failure), keeps the
//! request's own clock, and ends with one [`Outcome`] that says why. The proxy carries its actions
//! out with sockets, the simulator on virtual time, `explain` for one hypothetical request; the
//! machine cannot tell them apart.
//!
//! It sees heads, attempt outcomes, milestones of the bodies and ticks; never body bytes, sockets
//! or clocks.
//!
//! State has three homes. What belongs to one request is in [`Journey`]. What belongs to one worker
//! (its chance, its place in each rotation) is in [`Worker`]. What belongs to a cluster (how busy
//! its endpoints are, which of them are fit, whether it may be called) has one owner outside, who is
//! told by [`Report`]s, and is read through [`View`].
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the tables, what is made of a head, the machine, what it leaves behind.
pub mod snapshot;
pub mod chain;
pub mod path;
pub mod arrival;
pub mod tunnel;
pub mod brought;
pub mod tcp;
pub mod proxied;
pub mod race;
pub mod upgrade;
pub mod websocket;
mod base64;
pub mod grpc_web;
pub mod edge;
pub mod client_cert;
pub mod limits;
pub mod door;
pub mod gate;
pub mod fallbacks;
pub mod caches;
pub mod worker;
mod timeouts;
pub mod recent_writes;
pub mod retried;
pub mod recent_requests;
pub mod event;
pub mod journey;
pub mod shadow;
pub mod mirrored;
pub mod outgoing;
pub mod short;
pub mod reply;
pub mod record;
pub mod observe;
pub mod explain;
pub mod replay;

pub use chain::Arriving;
pub use naru_balance::EndpointFacts;

pub use event::{Action, AttemptEvent, Cause, Failure, Milestone, Report, RequestFacts, Sent, Stage, Wait};
pub use journey::{Copies, Journey, Looked, Outcome, Stale};
pub use limits::{Ending, Leaving, Limit, LimitId, NamedLimit, NamedLimits, Pass, Queued};
pub use mirrored::{MirrorCounts, MirrorName};
pub use naru_route::SessionId;
pub use observe::{CheckSaid, Observer};
pub use recent_requests::RecentRequests;
pub use recent_writes::RecentWrites;
pub use retried::Retried;
pub use shadow::{Shadow, ShadowEnd, ShadowFacts};
pub use snapshot::{Chain, ChainId, Snapshot};
pub use timeouts::LearnedTimeout;
pub use worker::{Admission, View, Worker};
