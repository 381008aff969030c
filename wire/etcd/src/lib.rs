//! What is etcd asked, what does it answer, and which documents are there then?
//!
//! Comes in: messages of etcd's API, version 3, as bytes. Goes out: messages as bytes; what is below a prefix at one
//! revision, kept up to date; transactions by which two who write do not overwrite each other.
//!
//! Deliberately not here: connections and time (`control/sources`), what stands in a document (`wire/doc`).
#![forbid(unsafe_code)]

// In the order of their use: what is said, what is known, what is written.
pub mod proto;
mod keys;
mod change;
mod past;

pub use change::{COMPARES_MAX, Change, MARK, Written, change};
pub use keys::{BYTES_MAX, Heard, KEYS_MAX, Kept, Keys, TooMuch, VALUE_BYTES_MAX, end_of, name_of};
pub use past::{Past, Revision};

/// Methods of gRPC.
pub mod method {
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
}

/// A message as bytes.
pub fn write(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Bytes as a message; `None` where they are none.
pub fn read<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}
