//! Identities inside one snapshot, and of the attempts of one request.
//!
//! An id of a snapshot is an index into its tables and means nothing in another snapshot. State
//! that outlives a snapshot is keyed by names, not by these.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A cluster of the snapshot.
    ClusterId(u32)
);
id!(
    /// An endpoint of a cluster's current set.
    EndpointId(u32)
);
id!(
    /// One try at an upstream, numbered from 0 within its request. Several may be in flight.
    AttemptId(u16)
);
