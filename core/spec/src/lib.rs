//! What is a valid listener, route, cluster, policy?
//!
//! The one meaning of a configuration. Istio YAML, Envoy bootstrap files and xDS messages are
//! spellings of it; [`Config`] is what they all become before anything acts. Values here are valid
//! by construction where a single value can be wrong on its own (private fields, a fallible
//! constructor); what only the whole can tell is told by [`Config::problems`]. Every default that a
//! user can see stands in [`defaults`].
//!
//! Deliberately not here: how a document is written (`wire`), how a rule is found (`route`), any
//! state that changes.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the whole, then a listener from outside in, then what it leads to.
pub mod config;
pub mod listener;
pub mod quic;
pub mod tcp;
pub mod http;
pub mod client_cert;
pub mod upgrade;
pub mod identity;
pub mod authorization;
pub mod condition;
pub mod gate;
pub mod addresses;
pub mod cors;
pub mod csrf;
pub mod credentials;
pub mod security_headers;
pub mod geo;
pub mod external;
pub mod quota;
pub mod local_rate;
pub mod descriptor;
pub mod rate_service;
pub mod content;
pub mod store;
pub mod route;
pub mod recover;
pub mod fault;
pub mod groups;
pub mod matching;
pub mod header;
pub mod format;
pub mod cluster;
mod cluster_name;
pub mod balancing;
pub mod guard;
pub mod limits;
pub mod cache;
pub mod session;
pub mod login;
pub mod overload;
pub mod surge;
pub mod tls;
pub mod ciphers;
pub mod access_log;
pub mod defaults;
pub mod problem;
pub mod suggest;
pub mod path;

pub use access_log::{AccessLog, JsonField, LogFormat, LogSink};
pub use addresses::Addresses;
pub use authorization::{AuthTest, ClaimMatch, Rbac, RbacAction, RbacPolicy, RbacRules, ValueMatch};
pub use balancing::{
    BalancingPolicy, ConsistentHash, Cookie, HashPolicy, HashSource, HashTable, LeastRequest, LoadBalancing,
    Locality, MaglevSize, PeakEwma, RingSize, Sticky, StickyCarrier, Thousandths, WarmUp,
};
pub use cache::{CacheDisk, CacheKeyParts, CacheKeyQuery, CachePolicy, CacheRedis, CacheStore, CacheWrite};
pub use ciphers::{CipherSuite, Curve, NamedSuite, Offered, SuiteProblem};
pub use client_cert::{ClientCertDetails, ForwardClientCert};
pub use cluster::{
    Address, Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, Http2Settings, OnDemand, Reported,
    UpstreamProtocol,
};
pub use cluster_name::ClusterName;
pub use condition::{Cel, CelCall, CelFold, CelSelect};
pub use config::{Admin, Config};
pub use content::{
    Coder, CompressedRequests, Compressor, CompressorChange, ContentCoding, DecompressedAnswers,
    Decompressor, Lifetime, Links, OnEtag, StaticFiles,
};
pub use cors::Cors;
pub use credentials::{
    ApiKeys, ApiKeysChange, BasicAuth, Credentials, Hashes, KeyForwarding, KeyPlace, KeySource,
};
pub use csrf::Csrf;
pub use descriptor::{
    DescribedHeader, Descriptor, DescriptorPart, HitCount, Hits, HostRates, PseudoHeader, RateOverride,
    RuleRates,
};
pub use external::{
    BodyChange, External, ExternalBody, ExternalChange, ExternalGrpc, ExternalHttp, ExternalService,
};
pub use fault::{
    Abort, AbortBy, Comparison, Delay, DelayBy, Fault, FaultScope, Mirror, MirrorHost, MirrorWrites,
};
pub use format::{Format, Operator, Piece};
pub use gate::{Check, CheckKind, Gate, GateChange};
pub use geo::{Geo, GeoFact};
pub use groups::{ReadWriteGroups, ReadYourWrites, SessionKey};
pub use guard::{
    AfterHalfOpen, BreakerState, CallFailures, CircuitBreaker, Enforcing, FailurePercentage, Fallback,
    FallbackAnswer, FallbackOn, FallbackStep, GrpcCheck, GuardPart, GuardSettings, HealthCheck, HttpCheck,
    OutlierDetection, Percent, Probe, Recorded, StatusRange, SuccessRate, TcpCheck, WaitInOpen, Window,
};
pub use header::{HeaderAction, HeaderOp, HeaderOps};
pub use http::{
    Allowance, Codec, Door, EscapedSlashes, HostPort, Http, Http2Limits, Paths, Scheme, ServerHeader,
};
pub use identity::{ClaimHeader, Jwt, JwtHeader, JwtKeys, JwtProvider, JwtRequirement, JwtRule, RemoteKeys};
pub use limits::{
    AdaptiveConcurrency, AdmissionControl, Bulkhead, ClusterLimits, Http2Keepalive, LoadLimits, MinRtt,
    Named, PaceLimit, RateClass, RateLimit, SuccessCriteria, TcpKeepalive, Thresholds, TokenBucket,
};
pub use listener::{
    ConnectionLimit, ConnectionLimits, FilterChain, Listener, Pipe, ProxyProtocol, ProxyVersion, Transport,
};
pub use local_rate::{LocalDescriptor, LocalRate};
pub use login::{ClientAuthentication, OidcClaim, OidcEndpoints, OidcLogin, OidcSite};
pub use matching::{
    Domain, HeaderMatch, HeaderTest, Match, NameMatch, PathMatch, Pattern, StringMatch, ValueTest,
};
pub use overload::Overload;
pub use path::Path;
pub use problem::{Invalid, Problem, Severity, code};
pub use quic::Quic;
pub use quota::{Lacking, Quota, QuotaAlgorithm, QuotaKey, Quotas};
pub use rate_service::{RateRequests, RateService, RateServiceChange};
pub use recover::{
    AutoTimeout, Backoff, Hedge, RateLimitedBackoff, Repeats, ResetFormat, ResetHeader, RetryBudget,
    RetryClass, RetryLimit, RetryOn, RetryPolicy,
};
pub use route::{
    Action, ClusterChoice, DirectResponse, Forward, HostRewrite, PathRewrite, QueryOps, Redirect,
    RedirectPath, RouteTable, Rule, Terminate, TlsRequirement, VirtualHost, WeightedCluster,
};
pub use security_headers::SecurityHeaders;
pub use session::{
    AccessTokens, RefreshTokens, SESSION_BEGAN, Seal, SessionAlgorithm, SessionAuth, SessionClaim,
    SessionKeys, SessionStore, StorePlace,
};
pub use store::{CountPlace, Leases, Redis, RedisTls, Store, StoreUse, WithoutStore};
pub use surge::{Shed, ShedRule, Surge, SurgeLevel, SurgeSignal, SurgeStep, SurgeThreshold};
pub use tcp::TcpProxy;
pub use tls::{
    AlpnChallenge, Certificate, DataSource, DownstreamTls, Fingerprint, PeerTests, SanKind, SanMatch,
    StaplePolicy, TlsVersion, UpstreamTls,
};
pub use upgrade::Upgrades;
