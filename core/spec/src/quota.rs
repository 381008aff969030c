//! How often may somebody ask? Settings of rate limits.
//!
//! So many requests in a window, for whom a key says. What is counted is kept by name.

use std::time::Duration;

use http::HeaderName;

use crate::{Invalid, StoreUse, defaults};

/// Limits that a request passes together: where one refuses, none has counted it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quotas {
    /// In the order in which they are asked; at most [`defaults::QUOTAS_AT_ONCE_MAX`].
    pub limits: Vec<Quota>,
    /// Where they are counted, if not in this process.
    pub store: Option<StoreUse>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// What counts are kept by.
    pub name: String,
    pub algorithm: QuotaAlgorithm,
    /// What of a request says who it is counted for. Empty: all are counted together.
    pub key: Vec<QuotaKey>,
    /// What becomes of a request that lacks a part.
    pub lacking: Lacking,
    /// What one request takes.
    pub cost: u32,
    /// It refuses nothing, and tells what it would have refused.
    pub is_shadow: bool,
    /// So many keys are remembered.
    pub keys_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaAlgorithm {
    /// Steadily filled. So much at once, and `requests` in each window.
    TokenBucket { requests: u32, window: Duration, burst: u32 },
    /// So many in each window; all windows begin together.
    FixedWindow { requests: u32, window: Duration },
    /// So many in any window: what is left of the last one counts by its share.
    SlidingWindow { requests: u32, window: Duration },
}

impl QuotaAlgorithm {
    /// What it says: so many in so long.
    pub fn policy(self) -> (u32, Duration) {
        match self {
            QuotaAlgorithm::TokenBucket { requests, window, .. }
            | QuotaAlgorithm::FixedWindow { requests, window }
            | QuotaAlgorithm::SlidingWindow { requests, window } => (requests, window),
        }
    }

    /// One of so many parts of it, of which each lets pass at least so much at once.
    pub fn part(self, of: u32, at_least: u32) -> QuotaAlgorithm {
        let part = |whole: u32| whole.div_ceil(of.max(1)).max(at_least);
        match self {
            QuotaAlgorithm::TokenBucket { requests, window, burst } => {
                let requests = requests.div_ceil(of.max(1));
                QuotaAlgorithm::TokenBucket { requests, window, burst: part(burst) }
            }
            QuotaAlgorithm::FixedWindow { requests, window } => {
                QuotaAlgorithm::FixedWindow { requests: part(requests), window }
            }
            QuotaAlgorithm::SlidingWindow { requests, window } => {
                QuotaAlgorithm::SlidingWindow { requests: part(requests), window }
            }
        }
    }

    /// The most that one request may take.
    pub fn capacity(self) -> u32 {
        match self {
            QuotaAlgorithm::TokenBucket { burst, .. } => burst,
            QuotaAlgorithm::FixedWindow { requests, .. } | QuotaAlgorithm::SlidingWindow { requests, .. } => {
                requests
            }
        }
    }
}

/// What becomes of a request that lacks a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Lacking {
    /// It is not counted.
    #[default]
    Uncounted,
    /// It is counted with all others that lack the same.
    Together,
}

/// What of a request says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaKey {
    /// The trusted address of the client; of IPv6 its first so many bits.
    Address {
        ipv6_bits: u8,
    },
    Header(HeaderName),
    Cookie(String),
    Path,
    Method,
    /// Of a token that was verified: names within each other.
    Claim(Vec<String>),
    /// The login session.
    Session,
}

impl Quotas {
    /// Whether nothing but addresses says who is counted, each for himself: nobody can use up what is another's, and no
    /// token has to be read for it.
    pub fn is_of_addresses(&self) -> bool {
        let of_address = |limit: &Quota| {
            let is_known = |part: &QuotaKey| match part {
                QuotaKey::Address { .. } | QuotaKey::Path | QuotaKey::Method => true,
                QuotaKey::Header(_) | QuotaKey::Cookie(_) | QuotaKey::Claim(_) | QuotaKey::Session => false,
            };
            limit.key.iter().all(is_known)
                && limit.key.iter().any(|part| matches!(part, QuotaKey::Address { .. }))
        };
        self.limits.iter().all(of_address)
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.limits.len() > defaults::QUOTAS_AT_ONCE_MAX {
            let text = format!("a request passes at most {} rate limits", defaults::QUOTAS_AT_ONCE_MAX);
            found.push(Invalid::new(text));
        }
        let mut names = std::collections::BTreeSet::new();
        for quota in &self.limits {
            if !names.insert(&quota.name) {
                found.push(Invalid::new(format!("'{}' is asked twice", quota.name)));
            }
            let (requests, window) = quota.algorithm.policy();
            if requests == 0 || window.is_zero() {
                found.push(Invalid::new(format!(
                    "'{}' lets nobody pass: requests and window are above zero",
                    quota.name
                )));
            }
            if quota.cost == 0 || quota.cost > quota.algorithm.capacity() {
                let text = format!("the cost of '{}' is between 1 and what it allows at once", quota.name);
                found.push(Invalid::new(text));
            }
            if quota.key.iter().any(|part| matches!(part, QuotaKey::Claim(path) if path.is_empty())) {
                found.push(Invalid::new(format!("a claim of '{}' has no name", quota.name)));
            }
            if quota.keys_max == 0 {
                found.push(Invalid::new(format!("'{}' can remember no key", quota.name)));
            }
            if quota
                .key
                .iter()
                .any(|part| matches!(part, QuotaKey::Address { ipv6_bits } if *ipv6_bits > 128))
            {
                found.push(Invalid::new("an address of IPv6 has 128 bits"));
            }
        }
        found
    }
}
