//! Where counts are kept that several proxies share.

use std::time::Duration;

use crate::Invalid;

/// How a check uses a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUse {
    /// Of a [`Store`].
    pub name: String,
    /// For one answer.
    pub timeout: Duration,
    pub otherwise: WithoutStore,
    /// So many proxies share it: without it each has its part.
    pub proxies: u32,
}

/// What is done where a store gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutStore {
    Allow,
    Refuse,
    /// As this proxy counts by itself, by its part of the limit.
    Local,
}

/// A store of counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub name: String,
    pub redis: Redis,
}

/// A Redis, or a cluster of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `host:port`; of a cluster those that are asked first.
    pub nodes: Vec<String>,
    pub is_cluster: bool,
}

impl Store {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.redis.nodes.is_empty() {
            found.push(Invalid::new(format!("the store '{}' has no address", self.name)));
        }
        found
    }
}
