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
}

/// What is done where a store gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutStore {
    Allow,
    Refuse,
    /// As this proxy counts by itself.
    Local,
}

/// A store of counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub name: String,
    pub redis: Redis,
}

/// A Redis, or a cluster of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    /// `host:port`; of a cluster those that are asked first.
    pub nodes: Vec<String>,
    pub is_cluster: bool,
    pub user: Option<String>,
    pub password: Option<String>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Redis { nodes, is_cluster, user, password } = self;
        f.debug_struct("Redis")
            .field("nodes", nodes)
            .field("is_cluster", is_cluster)
            .field("user", user)
            .field("has_password", &password.is_some())
            .finish()
    }
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
