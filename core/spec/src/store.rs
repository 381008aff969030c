//! Where counts are kept that several proxies share.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{DataSource, Invalid, defaults};

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
    pub place: CountPlace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountPlace {
    Redis(Redis),
    /// In the proxies themselves.
    Leases(Leases),
}

/// Proxies that hand shares of limits to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    /// All of them, this one too, each by the address at which it hears the others.
    pub members: Vec<SocketAddr>,
    /// What all of them know and nobody else does.
    pub secret: DataSource,
    /// Who is not heard for so long leaves its share to the others.
    pub lease: Duration,
}

/// A Redis, or a cluster of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `host:port`; of a cluster those that are asked first.
    pub nodes: Vec<String>,
    pub is_cluster: bool,
    pub tls: Option<RedisTls>,
    /// Of an access list; without one the password is for everybody.
    pub user: Option<String>,
    pub password: Option<DataSource>,
}

impl Redis {
    /// One without a password, in the clear.
    pub fn plain(nodes: Vec<String>, is_cluster: bool) -> Redis {
        Redis { nodes, is_cluster, tls: None, user: None, password: None }
    }
}

/// A Redis that speaks TLS, under the name or the address that it is asked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// Who vouches for it.
    pub authority: DataSource,
}

impl Store {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut complain = |what: &str| found.push(Invalid::new(format!("the store '{}' {what}", self.name)));
        match &self.place {
            CountPlace::Redis(redis) if redis.nodes.is_empty() => complain("has no address"),
            CountPlace::Redis(_) => {}
            CountPlace::Leases(leases) => {
                if leases.members.is_empty() || leases.members.len() > defaults::LEASE_MEMBERS_MAX {
                    complain("has between 1 and 32 members");
                }
                let known: std::collections::BTreeSet<_> = leases.members.iter().collect();
                if known.len() < leases.members.len() {
                    complain("has a member twice");
                }
                if leases.lease < defaults::LEASE_MIN {
                    complain("has a lease of less than 200 ms");
                }
            }
        }
        found
    }
}
