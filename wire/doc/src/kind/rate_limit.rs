//! How often somebody may ask.

use naru_resource::rate_limit::{self as rate, RateAlgorithm, RateKey, RateLacking, RateOtherwise};

use crate::kind::document;
use crate::read::{record, words};

document!(rate::RateLimit { spec: "spec" });
record!(rate::RateLimitSpec { target_ref: "targetRef", limits: "limits", redis: "redis", leases: "leases" });
record!(rate::RateLimitRule {
    name: "name",
    requests: "requests",
    window: "window",
    algorithm: "algorithm",
    burst: "burst",
    cost: "cost",
    key: "key",
    lacking: "lacking",
    shadow: "shadow",
    max_keys: "maxKeys",
});
record!(rate::RateLimitKey { from: "from", name: "name", ipv6_bits: "ipv6Bits" });
record!(rate::RateLimitRedis {
    addresses: "addresses",
    cluster: "cluster",
    tls: "tls",
    user: "user",
    password: "password",
    timeout: "timeout",
    otherwise: "otherwise",
    proxies: "proxies",
});
record!(rate::RateLimitTls { ca: "ca" });
record!(rate::RateLimitSecret { file: "file", environment: "environment" });
record!(rate::RateLimitLeases {
    members: "members",
    secret: "secret",
    lease: "lease",
    timeout: "timeout",
    otherwise: "otherwise",
});
words!(RateAlgorithm {
    "tokenBucket" => RateAlgorithm::TokenBucket,
    "fixedWindow" => RateAlgorithm::FixedWindow,
    "slidingWindow" => RateAlgorithm::SlidingWindow,
});
words!(RateKey {
    "address" => RateKey::Address,
    "header" => RateKey::Header,
    "cookie" => RateKey::Cookie,
    "path" => RateKey::Path,
    "method" => RateKey::Method,
    "claim" => RateKey::Claim,
    "session" => RateKey::Session,
});
words!(RateLacking {
    "uncounted" => RateLacking::Uncounted,
    "together" => RateLacking::Together,
});
words!(RateOtherwise {
    "allow" => RateOtherwise::Allow,
    "refuse" => RateOtherwise::Refuse,
    "local" => RateOtherwise::Local,
});
