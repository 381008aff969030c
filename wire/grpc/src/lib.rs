//! How is somebody called by gRPC, and how do messages stand on a stream?
//!
//! Comes in: a connection that stands, plain or secured, and messages as bytes. Goes out: what is answered, each message
//! as bytes, and how a stream has ended. For those who call somebody of their own: an etcd, a control plane. Source:
//! "gRPC over HTTP2", `PROTOCOL-HTTP2.md` of gRPC.
//!
//! Deliberately not here: who is called, TLS and time (`control/sources`, `operate`), what messages say; whom a request is
//! asked about on its way, which goes by the proxy's own clusters (`proxy`).
#![forbid(unsafe_code)]

mod call;
mod frame;

pub use call::{Call, Connection, Ended, Pings, Stream};
pub use frame::{Misframed, Unframer, framed};
