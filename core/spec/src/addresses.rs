//! From which addresses requests may come.

use ipnet::IpNet;

/// Who is denied is denied, allowed or not.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Nobody else may; empty: everybody.
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

impl Addresses {
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}
