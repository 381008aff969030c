//! Our own kind `RateLimit`: how often somebody may ask.

use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    RateLimit {
        meta: Meta,
        spec: RateLimitSpec,
    }

    RateLimitSpec {
        /// All gateways where nothing is said.
        target_ref: Option<TargetRef>,
        limits: Vec<RateLimitRule>,
        /// Where they are counted, if not in each proxy.
        redis: Option<RateLimitRedis>,
        leases: Option<RateLimitLeases>,
    }

    RateLimitRule {
        name: Text,
        requests: Number,
        window: Seconds,
        algorithm: Option<Placed<RateAlgorithm>>,
        burst: Option<Number>,
        cost: Option<Number>,
        key: Vec<RateLimitKey>,
        lacking: Option<Placed<RateLacking>>,
        shadow: Option<Flag>,
        max_keys: Option<Number>,
    }

    /// A part of a key.
    RateLimitKey {
        from: Placed<RateKey>,
        /// Of a header, a cookie, a claim.
        name: Option<Text>,
        ipv6_bits: Option<Number>,
    }

    RateLimitRedis {
        /// `host:port`; of a cluster those that are asked first.
        addresses: Texts,
        cluster: Option<Flag>,
        tls: Option<RateLimitTls>,
        user: Option<Text>,
        password: Option<RateLimitSecret>,
        timeout: Option<Seconds>,
        otherwise: Option<Placed<RateOtherwise>>,
        /// How many proxies share it.
        proxies: Option<Number>,
    }

    RateLimitTls {
        /// Who vouches for the Redis: a file.
        ca: Text,
    }

    /// One of both.
    RateLimitSecret {
        file: Option<Text>,
        environment: Option<Text>,
    }

    /// In the proxies themselves, which hand shares to each other.
    RateLimitLeases {
        /// `address:port` of each, this one too.
        members: Texts,
        secret: RateLimitSecret,
        lease: Option<Seconds>,
        timeout: Option<Seconds>,
        otherwise: Option<Placed<RateOtherwise>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateAlgorithm {
    TokenBucket,
    FixedWindow,
    SlidingWindow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateKey {
    Address,
    Header,
    Cookie,
    Path,
    Method,
    Claim,
    Session,
}

/// What becomes of a request that lacks a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLacking {
    Uncounted,
    Together,
}

/// What is done where nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOtherwise {
    Allow,
    Refuse,
    Local,
}
