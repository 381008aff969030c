//! What would happen?
//!
//! The same core on virtual time. Comes in: a [`Scenario`] of loads, services and events, the
//! [`naru_spec::Config`]s of its proxies (the caller reads them from the files that the scenario
//! names; where it names none, one is made of its services), a seed. Goes out: a [`Transcript`] of
//! what happened and of what was expected, equal byte for byte for equal arguments on every machine;
//! or the invariant that did not hold, with the seed that shows it again.
//!
//! ```text
//!   load ──call──> proxy ──hop──> instance ──calls──> proxy of the instance ──hop──> ...
//!    Source         World          Services                World
//!      └──────────────── Runner: begins calls, runs errands ────────────────┘
//! ```
//!
//! [`World`] drives [`naru_journey::Journey`] with the events that the proxy drives it with, in the
//! same order: where the proxy waits for a socket or a timer, here an event waits in a queue. So
//! what is found out here holds for the proxy, and [`Driver`] lets a test ask one request after the
//! other and compare.
//!
//! # What is simulated, and what is not
//!
//! Simulated are connections with their pools (reused or fresh, closed by the upstream meanwhile,
//! shared in HTTP/2), bodies by their milestones, deadlines, clients that leave or ask again, workers,
//! instances with queues that call others; what guards a cluster ([`guarded`]) with probes of its
//! endpoints, what limits it ([`limited`]), limits with a name ([`named_limits`]), the levels of a
//! surge; the checks of a gate, with who asks said instead of found out ([`asker`]), where addresses are ([`places`]),
//! with stores of counts ([`stores`]) and limits that gateways share among themselves ([`leases`]); what is kept of answers
//! ([`kept`]) and behind their memory ([`tiers`]); and of headers those that a scenario writes, that caches need, and that proxies tell
//! each other of retries by. Deliberately not here: bytes, TLS beside its
//! failure, flow control, what rewriting does to headers, the time that the proxy itself takes, ALPN
//! (an upstream without an opinion speaks HTTP/1.1), the choice of a filter chain by server name (a
//! load names its chain).
//!
//! # Determinism
//!
//! No clock, no thread, no order of a hash map. Chance is [`naru_base::Chance`], split by label: by
//! load, by service address and purpose, so that what one service does shifts nothing of another.
//! Logarithms come from `libm`. Transcripts print whole numbers.
#![forbid(unsafe_code)]
// What clippy.toml bans for the core is banned here: virtual time has no clock to read.
#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::iter_over_hash_type
)]

// In reading order: what people write and how it is understood, a run of it, the simulated proxy,
// what stands around it, what is said about it.
pub mod scenario;
pub mod quantity;
pub mod distribution;
pub mod change;
pub mod processes;
pub mod made;
pub mod bind;
pub mod runner;
pub mod load;
pub mod calls;
pub mod world;
pub mod queue;
pub mod request;
pub mod passage;
pub mod pool;
pub mod fleet;
pub mod guarded;
pub mod limited;
pub mod named_limits;
pub mod quotas;
pub mod leases;
pub mod kept;
pub mod tiers;
pub mod asker;
pub mod stores;
pub mod places;
pub mod wall;
pub mod mirrors;
pub mod upstream;
pub mod body;
pub mod service;
pub mod arena;
pub mod script;
pub mod judge;
pub mod decision;
pub mod latencies;
pub mod ledger;
pub mod expect;
pub mod transcript;

pub use asker::Asker;
pub use body::{Body, BodyEnd};
pub use decision::Decision;
pub use fleet::{Fleet, Seen};
pub use judge::{Active, Violation};
pub use request::Request;
pub use runner::{Configs, Options, RunError, run, simulate};
pub use scenario::Scenario;
pub use script::{Driver, Script};
pub use transcript::Transcript;
pub use upstream::{Answer, Break, Caller, Dial, IdleClose, Place, Probed, ProxyId, Upstreams};
pub use world::{Noted, Settled, Turn, Waits, World};
