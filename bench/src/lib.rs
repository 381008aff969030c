//! naru-bench
//! What does a request cost, here and at the peers?
//!
//! The three programs that every measurement needs beside the proxy: an upstream that is never the limit, a load
//! generator, and a bare forwarder as the floor. `cargo xtask bench` starts them, pins them and does the arithmetic;
//! nothing here measures a proxy by itself. Only the forwarder is written for comparison: it has the shape of
//! naru's data plane and none of its work.

// In reading order: how a program here listens, then how load is made.
pub mod worker;
pub mod tls;
pub mod load;
