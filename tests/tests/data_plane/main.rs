//! The data plane on real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod proxying;
mod program;
mod policies;
mod resilience;
mod scenarios;
mod groups;
mod balancing;
mod on_demand;
mod up;
mod import;
mod documents;
mod explained;
mod access_log;
mod admin;
mod grpc;
mod guards;
mod health;
mod headers;
mod http1;
mod tls;
mod limits;
mod load_limits;
mod mirrors;
mod swap;
mod life;
mod failures;
mod faults;
mod tunnels;
mod cancellation;
mod equality;
mod beside_envoy;
mod sent_once;
mod workload;
