//! Every default and bound that a user can see. Sources: Envoy v3 API protos, unless a line says otherwise.

use std::time::Duration;

// Listeners and their HTTP.
/// Envoy says "envoy"; a proxy that is not Envoy does not.
pub const SERVER_NAME: &str = "naru";
pub const HEADER_BYTES_MAX: u32 = 60 * 1024;
pub const HEADER_COUNT_MAX: u32 = 100;
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

// Tunnels. Our own.
/// A client that says nothing for this long waits for the server to speak first.
pub const TUNNEL_SILENCE: Duration = Duration::from_millis(300);
/// And one that has begun a line, but not ended it by then, speaks no HTTP.
pub const TUNNEL_FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// So much of it is looked at.
pub const TUNNEL_FIRST_BYTES_MAX: usize = 8 * 1024;

// Routes.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Istio's bound for a regular expression.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// Envoy's `max_direct_response_body_size_bytes` is 4 KiB; Istio allows 1 MiB, and so do we.
pub const DIRECT_BODY_BYTES_MAX: usize = 1 << 20;
/// A request body up to this size can be sent again. Our own: Envoy keeps up to 1 MiB.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;

// Retries. Envoy's, unless a line says otherwise.
pub const RETRIES: u32 = 1;
/// Our own, for a state of one byte; Envoy has no limit.
pub const RETRIES_MAX: u32 = 64;
pub const RETRY_BACKOFF: Duration = Duration::from_millis(25);
/// The longest wait is so many times the base.
pub const RETRY_BACKOFF_MAX_FACTOR: u32 = 10;
pub const RATE_LIMITED_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How often another endpoint is picked where the one picked was tried before.
pub const RETRY_PICKS: u32 = 1;
/// Istio's.
pub const MESH_RETRY_PICKS: u32 = 5;
/// Istio's, where a route says nothing.
pub const MESH_RETRIES: u32 = 2;
/// Istio's `previous_priorities`.
pub const MESH_RETRY_PRIORITIES_AFTER: u32 = 2;
/// At a time, to one cluster.
pub const RETRIES_AT_ONCE: u32 = 3;
/// 20 %.
pub const RETRY_BUDGET_PPM: u32 = 200_000;
pub const RETRY_BUDGET_CONCURRENCY_MIN: u32 = 3;
/// Attempts of one request that are under way together. Our own.
pub const ATTEMPTS_AT_ONCE_MAX: u32 = 4;
/// Of the class `default`: Resilience4j's, which counts calls.
pub const RETRY_CLASS_CALLS: u32 = 3;
pub const RETRY_CLASS_WAIT: Duration = Duration::from_millis(500);
/// Of the classes `fast` and `conservative`. Our own.
pub const RETRY_FAST_WAIT: Duration = Duration::from_millis(50);
pub const RETRY_CONSERVATIVE_CALLS: u32 = 2;
pub const RETRY_CONSERVATIVE_WAIT: Duration = Duration::from_secs(1);

// Timeouts that follow what is observed. Our own.
/// p99.
pub const AUTO_TIMEOUT_PERMILLE: u32 = 990;
pub const AUTO_TIMEOUT_FACTOR_PERCENT: u32 = 300;
pub const AUTO_TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub const AUTO_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Less than this says nothing about a p99.
pub const AUTO_TIMEOUT_SAMPLES_MIN: u32 = 100;
/// After so long an observation counts half.
pub const AUTO_TIMEOUT_HALF_LIFE: Duration = Duration::from_secs(60);
pub const AUTO_TIMEOUT_REFRESH: Duration = Duration::from_secs(1);

// Faults and mirrors.
/// Istio's.
pub const FAULT_DELAY_MIN: Duration = Duration::from_millis(1);
/// Of one route. Our own.
pub const MIRRORS_MAX: usize = 32;
/// Of an answer that is compared. Our own.
pub const COMPARED_BODY_BYTES_MAX: usize = 64 * 1024;

// Clusters.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Istio's, for what its documents name.
pub const MESH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
pub const DNS_REFRESH: Duration = Duration::from_secs(5);
pub const LEAST_REQUEST_CHOICES: u32 = 2;

// HTTP/2. Envoy's streams and windows since 1.35; `docs/gaps.md` has the edge values.
pub const HTTP2_STREAMS_MAX: u32 = 1_024;
pub const HTTP2_STREAM_WINDOW: u32 = 16 << 20;
pub const HTTP2_CONNECTION_WINDOW: u32 = 24 << 20;

/// Envoy's default access log line.
pub const ACCESS_LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";
