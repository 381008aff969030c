//! The data plane: how bytes come in, are decided about, and go out.
//!
//! Thread per core. Each worker is one thread with one current-thread runtime, its own listening
//! sockets, its own upstream connections and its own numbers; nothing of a request ever leaves its
//! worker. What is decided about a request is decided by `naru-journey`; here its actions are
//! carried out.
#![forbid(unsafe_code)]

// In the order of a request's way: in, decided, out, written down.
pub mod proxy;
mod board;
mod prepare;
pub mod listen;
mod worker;
mod loaded;
mod accept;
mod greet;
mod certified;
mod conduit;
mod socket;
mod codec;
mod short;
mod engine;
mod cached;
mod hedged;
mod shadow;
mod tunnel;
mod upgraded;
mod grpc_web;
mod asking;
mod shaped;
mod packed;
mod unpacked;
mod inflated;
mod deflated;
mod files;
mod sessions;
mod gate;
mod geo;
mod watched;
mod tcp;
mod udp;
#[cfg(feature = "http3")]
mod quic;
mod relay;
mod splice;
mod lookup;
mod on_demand;
mod upload;
mod pool;
mod dial;
mod eyeballs;
mod stall;
mod seats;
mod strain;
mod surge;
mod linger;
mod settle;
mod permit;
mod contain;
pub mod metrics;
pub mod mirrors;
mod log;
mod names;
// What they all stand on.
mod sync;
mod word;
mod combined;
mod bulkhead;
mod bulletin;
mod known;
mod guarded;
mod prober;
mod ask;
mod limited;
mod shared_limits;
mod shared_cache;
mod tiers;
mod cluster;
mod discover;
mod clock;
mod timer;
pub mod fuzz;

pub use ask::{NoAnswer, ask};
pub use clock::{seed, wall_now};
pub use cluster::{ClusterStatus, EndpointStatus};
pub use gate::{LocalRateStatus, QuotaStatus, StoreStatus, check_keys};
pub use guarded::{BreakerStatus, GuardStatus};
pub use limited::LimitsStatus;
pub use listen::{Inherited, ListenerKey};
pub use metrics::Report;
pub use mirrors::MirrorReport;
pub use packed::CodingStatus;
pub use prepare::SnapshotRef;
pub use proxy::{Lent, Options, Proxy, StartError, Starting, check};
pub use sessions::{SessionStatus, SessionsEnded};
pub use shared_cache::{CacheStatus, ClassStatus, Purged};
pub use shared_limits::NamedLimitStatus;
pub use strain::{ReliefStatus, ResourceStatus, StrainStatus};
pub use surge::{SurgeOrder, SurgeStatus, SurgeTransition};
pub use tiers::TierStatus;
pub use watched::FileStatus;
