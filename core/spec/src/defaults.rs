//! Every default and bound that a user can see. Sources: Envoy v3 API protos, unless a line says otherwise.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;

use crate::Percent;
use crate::limits::{PaceLimit, RateLimit};

// Listeners and their HTTP.
/// Envoy says "envoy"; a proxy that is not Envoy does not.
pub const SERVER_NAME: &str = "naru";
pub const HEADER_BYTES_MAX: u32 = 60 * 1024;
pub const HEADER_COUNT_MAX: u32 = 100;
/// Of an upstream's response over HTTP/1: Envoy's `max_response_headers_kb`; and ten times its `max_headers_count`.
pub const UPSTREAM_HEADER_BYTES_MAX: u32 = 60 * 1024;
pub const UPSTREAM_HEADER_COUNT_MAX: u32 = 1_000;
/// From the first byte of a head to its last: that of Envoy, "Configuring Envoy as an edge proxy". Envoy itself has none.
pub const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Kestrel's `MinRequestBodyDataRate` of 240 bytes a second, over ten seconds. Envoy has none.
pub const REQUEST_PACE: PaceLimit = PaceLimit { bytes: 2_400, window: Duration::from_secs(10) };
/// Kestrel's `MinResponseDataRate` of 240 bytes a second. The window is longer, as progress is seen in steps of
/// [`UNSENT_BYTES_MAX`] / 2.
pub const RESPONSE_PACE: PaceLimit = PaceLimit { bytes: 3_600, window: Duration::from_secs(15) };
/// So much may wait in the kernel to be sent to a client (`TCP_NOTSENT_LOWAT`): more would only be held back.
pub const UNSENT_BYTES_MAX: u32 = 64 * 1024;
/// Of a client's TLS, and of what comes before it. Envoy's example of an edge has 10 s; Envoy itself none.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

// TCP proxies: `TCP_IDLE_TIMEOUT` stands with the limits of clusters.
pub const TCP_ATTEMPTS: u32 = 1;
/// Of a session of datagrams.
pub const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two of them. Our own: Envoy waits for nothing.
pub const TCP_ATTEMPTS_WAIT: Duration = Duration::from_millis(1);

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
/// Of a compiled regular expression in a condition. Our own.
pub const PATTERN_PROGRAM_BYTES_MAX: usize = 1 << 20;
/// Of the text of a condition in CEL, and of its tree. Our own, as are those below.
pub const CONDITION_BYTES_MAX: usize = 4_096;
pub const CONDITION_NODES_MAX: usize = 1_000;
pub const CONDITION_DEPTH_MAX: usize = 64;
/// Steps that one answer may cost: some hundred microseconds.
pub const CONDITION_COST_MAX: usize = 20_000;
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
/// Those in flight.
pub const RETRY_BUDGET_INTERVAL: Duration = Duration::ZERO;
/// Envoy's `cleanup_interval`.
pub const ON_DEMAND_CLEANUP: Duration = Duration::from_secs(5);
/// Endpoints that came with requests, of one cluster on one worker. Our own.
pub const ON_DEMAND_ENDPOINTS_MAX: usize = 1_024;
/// Where requests go whose host is an address that no document names. Istio's name.
pub const ADDRESSES_CLUSTER: &str = "PassthroughCluster";
/// The virtual host that leads there.
pub const ADDRESSES_HOST: &str = "addresses";
/// Of the header that brings an address.
pub const ON_DEMAND_HEADER: &str = "x-envoy-original-dst-host";
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

// Caches. Our own, unless a line says otherwise.
/// Of a process.
pub const CACHE_BYTES_MAX: u64 = 64 << 20;
pub const CACHE_BYTES_MIN: u64 = 1 << 20;
/// Of a body.
pub const CACHE_OBJECT_BYTES_MAX: u64 = 1 << 20;
pub const CACHE_VARIANTS_MAX: u32 = 16;
/// nginx's `proxy_cache_lock_timeout`.
pub const CACHE_COALESCE: Duration = Duration::from_secs(5);
/// The longest that an answer is taken for fresh for because of when it was last changed. Squid's is three days.
pub const CACHE_HEURISTIC_MAX: Duration = Duration::from_secs(86_400);
/// The longest that can be said (RFC 9111, section 1.2.2).
pub const CACHE_LIFETIME_MAX: Duration = Duration::from_secs(2_147_483_648);
/// How long it is remembered that an answer cannot be shared, so that nobody waits for it. Varnish's hit-for-miss.
pub const CACHE_UNSHARED: Duration = Duration::from_secs(120);
/// Of a disk: room for what is of the largest size by default, and more.
pub const CACHE_DISK_BYTES_MIN: u64 = 16 << 20;
/// For one answer of a disk. Longer than a seek, shorter than what anybody notices.
pub const CACHE_DISK_TIMEOUT: Duration = Duration::from_millis(50);
/// Answers that wait to be written to a Redis.
pub const CACHE_QUEUE: u32 = 1_024;
/// And how much they may hold.
pub const CACHE_QUEUE_BYTES: u64 = 64 << 20;
/// How often gateways hear what others have made worthless.
pub const CACHE_POLL: Duration = Duration::from_millis(200);
pub const CACHE_POLL_MIN: Duration = Duration::from_millis(10);
pub const CACHE_PREFIX: &str = "naru";
/// How long a Redis keeps what is stale: to be asked about, and to be given where nothing better comes.
pub const CACHE_STALE_KEPT: Duration = Duration::from_secs(3_600);
/// Of answers of no class.
pub const CACHE_CLASS: &str = "default";
/// Names of classes, and how long what is in them is fresh: the MSA guide's.
pub const CACHE_CLASSES: [(&str, Duration); 3] = [
    ("static", Duration::from_secs(3_600)),
    ("hot", Duration::from_secs(300)),
    ("realtime", Duration::from_secs(60)),
];

// Faults and mirrors.
/// Istio's.
pub const FAULT_DELAY_MIN: Duration = Duration::from_millis(1);
/// Of one route. Our own.
pub const MIRRORS_MAX: usize = 32;
/// Of an answer that is compared. Our own.
pub const COMPARED_BODY_BYTES_MAX: usize = 64 * 1024;
// Which requests are sent to their own cluster a second time to learn noise: so many at first, then one of so many.
// Our own.
pub const NOISE_LEARNED_FIRST: u64 = 8;
pub const NOISE_LEARNED_EVERY: u64 = 32;
/// Copies under way at one worker. Our own.
pub const COPIES_MAX: usize = 1_024;
/// Of a request's body that its copy has not sent yet: Envoy's limit of a buffer for shadows.
pub const COPY_BYTES_MAX: usize = 1 << 20;
/// Of all such bodies at one worker, and of the answers that wait to be compared. Our own.
pub const COPIES_BYTES_MAX: usize = 16 << 20;
/// Of the answer to a copy; the rest of a larger one is not read. Our own.
pub const COPY_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How long a session may read what it wrote from the group for writes. Our own: no copy of data that is in use is
/// that far behind.
pub const READ_YOUR_WRITES_MAX: Duration = Duration::from_secs(3_600);

// Clusters.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Istio's, for what its documents name.
pub const MESH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Before another address of the same endpoint is tried beside the first: Envoy's. RFC 8305 recommends 250 ms.
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(300);
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
pub const DNS_REFRESH: Duration = Duration::from_secs(5);
pub const LEAST_REQUEST_CHOICES: u32 = 2;
pub const RING_SIZE_MIN: u64 = 1_024;
pub const RING_SIZE_MAX: u64 = 8 << 20;
pub const MAGLEV_SIZE: u64 = 65_537;
pub const MAGLEV_SIZE_MAX: u64 = 5_000_011;
pub const OVERPROVISIONING_PERCENT: u32 = 140;
pub const WARM_UP_MIN_PERCENT: u32 = 10;
/// Our own: a request notes in one word which of them made a cookie.
pub const HASH_POLICIES_MAX: usize = 64;
/// Linkerd's `DEFAULT_RTT` and `DECAY`.
pub const PEAK_EWMA_FIRST: Duration = Duration::from_millis(30);
pub const PEAK_EWMA_DECAY: Duration = Duration::from_secs(10);

// Ejection. Envoy's `outlier_detection.proto`; Istio's are the same where it has them.
pub const CONSECUTIVE_FAILURES: u32 = 5;
pub const OUTLIER_INTERVAL: Duration = Duration::from_secs(10);
pub const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
/// Or the base time, where that is longer.
pub const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);
pub const MAX_EJECTION_PERCENT: u32 = 10;
pub const SUCCESS_RATE_MINIMUM_HOSTS: u32 = 5;
pub const SUCCESS_RATE_REQUEST_VOLUME: u32 = 100;
pub const SUCCESS_RATE_STDEV_FACTOR: u32 = 1_900;
pub const FAILURE_PERCENTAGE_THRESHOLD: u32 = 85;
pub const FAILURE_PERCENTAGE_MINIMUM_HOSTS: u32 = 5;
pub const FAILURE_PERCENTAGE_REQUEST_VOLUME: u32 = 50;
/// Of Envoy's `healthy_panic_threshold`. Istio says 0 where it ejects.
pub const PANIC_PERCENT: u32 = 50;

// Health checks.
pub const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);
// Istio's and Kubernetes' of a probe.
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(10);
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
pub const UNHEALTHY_THRESHOLD: u32 = 3;
pub const HEALTHY_THRESHOLD: u32 = 1;

// Circuit breakers. Resilience4j's `CircuitBreakerConfig`.
pub const BREAKER_WINDOW: u32 = 100;
pub const BREAKER_MINIMUM_CALLS: u32 = 100;
pub const BREAKER_FAILURE_RATE: Percent = Percent::whole(50);
pub const SLOW_CALL_DURATION: Duration = Duration::from_secs(60);
pub const BREAKER_WAIT_IN_OPEN: Duration = Duration::from_secs(60);
/// Thousandths: `IntervalFunction.DEFAULT_MULTIPLIER`.
pub const BREAKER_WAIT_MULTIPLIER: u32 = 1_500;
pub const BREAKER_TRIAL_CALLS: u32 = 10;
// Bounds of our own, for memory and for what one word can hold.
pub const BREAKER_WINDOW_CALLS_MAX: u32 = 100_000;
pub const BREAKER_WINDOW_SECONDS_MAX: u32 = 3_600;
pub const BREAKER_TRIAL_CALLS_MAX: u32 = 4_095;
pub const BREAKER_RAMP_MAX: Duration = Duration::from_secs(600);
pub const FALLBACK_STEPS_MAX: usize = 8;
/// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: Envoy's server errors.
pub const GRPC_FAILURES: [u8; 6] = [2, 4, 12, 13, 14, 15];

// HTTP/2 with upstreams, and with the clients of a mesh. Envoy's streams and windows since 1.35.
pub const HTTP2_STREAMS_MAX: u32 = 1_024;
pub const HTTP2_STREAM_WINDOW: u32 = 16 << 20;
pub const HTTP2_CONNECTION_WINDOW: u32 = 24 << 20;
// With clients that are anybody. Envoy's "Configuring Envoy as an edge proxy"; its defaults are those above.
pub const HTTP2_EDGE_STREAMS_MAX: u32 = 100;
pub const HTTP2_EDGE_STREAM_WINDOW: u32 = 64 << 10;
pub const HTTP2_EDGE_CONNECTION_WINDOW: u32 = 1 << 20;

// QUIC with clients. Envoy's `quic_options`.
pub const QUIC_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
pub const QUIC_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Handshakes of one socket whose clients have not shown that they are where they say: one more is asked to (RFC 9000,
/// section 8.1.2). Our own.
pub const QUIC_UNPROVEN_MAX: usize = 64;
/// Handshakes of one socket at all: one more is refused. Our own.
pub const QUIC_HANDSHAKES_MAX: usize = 1_024;
/// What waits in a connection to be taken by its client. Our own.
pub const QUIC_WAITING_BYTES_MAX: u64 = 1 << 20;

// What a peer of HTTP/2 may have us do for nothing. Our own, but for what a line says; `docs/limits.md`.
/// Frames that carry nothing of a request or an answer, at once and each second: PING, SETTINGS (which counts ten
/// times, like DATA without data), PRIORITY, WINDOW_UPDATE and types that nobody knows.
pub const HTTP2_FRAMES_BURST: u32 = 1_000;
pub const HTTP2_FRAMES_PER_SECOND: u32 = 100;
/// And so many for each frame that carries something. Envoy's `max_inbound_window_update_frames_per_data_frame_sent`.
pub const HTTP2_FRAMES_PER_USEFUL: u32 = 10;
/// Streams that a client cancels, beside as many as it has had answered.
pub const HTTP2_RESETS_BURST: u32 = 200;
pub const HTTP2_RESETS_PER_SECOND: u32 = 20;
/// Streams that a peer has us reset.
pub const HTTP2_MISTAKES_BURST: u32 = 100;
pub const HTTP2_MISTAKES_PER_SECOND: u32 = 1;
/// Frames of one header block, which needs four at our limit of bytes.
pub const HTTP2_BLOCK_FRAMES_MAX: u32 = 32;
/// A list of so many times the bytes that are allowed is no mistake.
pub const HTTP2_HEADER_BOMB_FACTOR: usize = 4;
/// Of any frame.
pub const HTTP2_FRAME_TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer that waits in a connection for its client.
pub const HTTP2_WAITING_BYTES_MAX: usize = 64 * 1024;

// Limits of clusters: Envoy's `circuit_breakers`, beside `RETRIES_AT_ONCE`. Istio writes 2^32-1 for each.
pub const CONNECTIONS_MAX: u32 = 1_024;
pub const PENDING_MAX: u32 = 1_024;
pub const REQUESTS_MAX: u32 = 1_024;
/// Envoy's for TCP proxies, and Istio's.
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Linux': what holds of a `tcpKeepalive` that leaves something out.
pub const TCP_KEEPALIVE_PROBES: u32 = 9;
pub const TCP_KEEPALIVE_TIME: Duration = Duration::from_secs(7_200);
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);

// Bulkheads: Resilience4j's `BulkheadConfig`, and the queue of its `ThreadPoolBulkheadConfig`.
pub const BULKHEAD_CONCURRENCY_MAX: u32 = 25;
pub const BULKHEAD_QUEUE_MAX: u32 = 100;
/// Our own: more than this waits for nothing that it could still use.
pub const BULKHEAD_QUEUE_BOUND: u32 = 65_536;

// Adaptive concurrency. The intervals are those of the example in Envoy's documentation: it has no defaults for them.
pub const ADAPTIVE_PERCENTILE: Fraction = Fraction::new(50, Denominator::Hundred);
pub const ADAPTIVE_CONCURRENCY_MAX: u32 = 1_000;
pub const ADAPTIVE_CONCURRENCY_MIN: u32 = 3;
pub const ADAPTIVE_UPDATE_INTERVAL: Duration = Duration::from_millis(100);
pub const ADAPTIVE_MIN_RTT_INTERVAL: Duration = Duration::from_secs(60);
pub const ADAPTIVE_JITTER: Fraction = Fraction::new(15, Denominator::Hundred);
pub const ADAPTIVE_BUFFER: Fraction = Fraction::new(25, Denominator::Hundred);
pub const ADAPTIVE_REQUESTS: u32 = 50;

// Admission control.
pub const ADMISSION_WINDOW: Duration = Duration::from_secs(30);
/// Our own: a second of the past costs a few bytes in each worker.
pub const ADMISSION_WINDOW_BOUND: Duration = Duration::from_secs(3_600);
pub const ADMISSION_SUCCESS_THRESHOLD: Fraction = Fraction::new(95, Denominator::Hundred);
pub const ADMISSION_AGGRESSION_MILLI: u32 = 1_000;
pub const ADMISSION_RPS_THRESHOLD: u32 = 0;
pub const ADMISSION_REJECTION_MAX: Fraction = Fraction::new(80, Denominator::Hundred);
/// OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION,
/// OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED: Envoy's `success_criteria_evaluator.cc`.
pub const ADMISSION_GRPC_SUCCESSES: &[u32] = &[0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16];

// Rates of calls to others. The classes are those of the dailyfeed services, the numbers our own.
pub const RATE_CRITICAL: RateLimit =
    RateLimit { limit: 200, period: Duration::from_secs(1), wait_max: Duration::from_secs(1) };
pub const RATE_DEFAULT: RateLimit =
    RateLimit { limit: 100, period: Duration::from_secs(1), wait_max: Duration::from_millis(500) };
pub const RATE_CONSERVATIVE: RateLimit =
    RateLimit { limit: 20, period: Duration::from_secs(1), wait_max: Duration::ZERO };
/// Resilience4j's `timeoutDuration`, where a limit is written out.
pub const RATE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Envoy's bound.
pub const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);

// Quotas of clients; our own.
/// Limits that one request passes together.
pub const QUOTAS_AT_ONCE_MAX: usize = 8;
/// Keys that one limit remembers: about 3 MB of them.
pub const QUOTA_KEYS_MAX: u32 = 100_000;
/// Of an address of IPv6: what one customer is given (RFC 6177).
pub const QUOTA_IPV6_BITS: u8 = 64;
/// For one answer of a store of counts: a round trip in a data centre, and room for a pause.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(50);
/// For a connection to a store of counts: longer than a question may take.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks for a store of counts that is away.
pub const STORE_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// So many questions in a row without an answer, and a store of counts is away.
pub const STORE_SILENT_MAX: u32 = 3;
/// Who shares limits is taken for gone when he was not heard for so long.
pub const LEASE: Duration = Duration::from_secs(2);
/// An eighth of it is between two words of a member.
pub const LEASE_MIN: Duration = Duration::from_millis(200);
/// Each tells each other of all.
pub const LEASE_MEMBERS_MAX: usize = 32;
/// A key that is longer is cut: what somebody sends is not kept whole.
pub const QUOTA_KEY_BYTES_MAX: usize = 1_024;

// What is given up while more comes than there is room for.

/// Between two looks.
pub const SURGE_EVERY: Duration = Duration::from_secs(1);
/// A worker is asked for its numbers each time.
pub const SURGE_EVERY_MIN: Duration = Duration::from_millis(50);
pub const SURGE_LEVELS_MAX: usize = 8;
/// How long what a level is entered for has to last.
pub const SURGE_ENTER_AFTER: Duration = Duration::from_secs(5);
/// How long it has to be over before it is left.
pub const SURGE_LEAVE_AFTER: Duration = Duration::from_secs(60);
/// A level is left below this part of what it is entered for, in percent.
pub const SURGE_LEAVE_PERCENT: u64 = 75;
/// A hundred times as long.
pub const SURGE_LIFETIME_PERCENT_MAX: u32 = 10_000;
/// When those who are shed may come again.
pub const SURGE_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A share of fewer requests in one look than this says nothing.
pub const SURGE_REQUESTS_MIN: u64 = 10;
/// What the numbers of workloads that call each other stand under.
pub const MESH_STAT_PREFIX: &str = "outbound";
/// What a limit is counted as while its store gives no answer.
pub const QUOTA_LOCAL_SUFFIX: &str = "@local";

// The overload manager. Envoy's, unless a line says otherwise.
pub const OVERLOAD_REFRESH: Duration = Duration::from_secs(1);
/// Our own: what is measured oftener says nothing new.
pub const OVERLOAD_REFRESH_MIN: Duration = Duration::from_millis(10);
pub const SHRINK_HEAP_EVERY: Duration = Duration::from_secs(10);
/// Where orchestrators ask how a service is: Kubernetes' names, and the one before them. Our own.
pub const SPARED_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];
/// So much of a new measurement of processors goes into the pressure: Envoy's, and our own of the process itself.
pub const CPU_SMOOTHING: Fraction = Fraction::new(5, Denominator::Hundred);
pub const CPU_SMOOTHING_OF_PROCESS: Fraction = Fraction::new(20, Denominator::Hundred);

/// Envoy's default access log line.
pub const ACCESS_LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

// Login sessions. The seed's, unless a line says otherwise.
pub const SESSION_KEY_ROTATION: Duration = Duration::from_secs(3_600);
/// To the letter: a token of the key before is refused.
pub const SESSION_KEY_GRACE: Duration = Duration::ZERO;
pub const SESSION_REFRESH_PATH: &str = "/api/key/refresh";
pub const SESSION_COOKIE: &str = "refreshToken";
/// Our own.
pub const SESSION_LOGOUT_PATH: &str = "/api/auth/logout";
/// RFC 8615 has no name for it; that of OpenID providers.
pub const SESSION_JWKS_PATH: &str = "/.well-known/jwks.json";
/// Our own.
pub const SESSION_ISSUER: &str = "naru";
/// Our own.
pub const SESSION_SUBJECT_HEADER: &str = "x-session-subject";
/// Our own, within the "minutes" of RFC 9700's access tokens.
pub const SESSION_ACCESS_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Envoy's `clock_skew_seconds`.
pub const SESSION_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Our own.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 86_400);
/// Okta's "grace period for token rotation".
pub const SESSION_REUSE_INTERVAL: Duration = Duration::from_secs(30);
/// Our own.
pub const SESSION_STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// Our own: a logout is known everywhere within a second.
pub const SESSION_POLL: Duration = Duration::from_millis(200);
/// Where nobody else writes.
pub const SESSION_POLL_ALONE: Duration = Duration::from_secs(10);
/// Our own: 64 bytes or so each, on each worker.
pub const SESSION_REVOKED_MAX: usize = 100_000;
pub const SESSION_REVOKED_BOUND: usize = 10_000_000;
/// Beyond, dates cannot be added up.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Our own have 70.
pub const SESSION_REFRESH_BYTES_MAX: usize = 256;

/// Of a login at a provider of OpenID Connect.
pub const OIDC_SCOPE: &str = "openid";
pub const OIDC_CALLBACK_PATH: &str = "/oidc/callback";
/// Of each question to the provider.
pub const OIDC_TIMEOUT: Duration = Duration::from_secs(5);
/// What the provider says of itself is asked again.
pub const OIDC_METADATA_CACHE: Duration = Duration::from_secs(3_600);
/// So long may somebody be at the provider.
pub const OIDC_ATTEMPT: Duration = Duration::from_secs(600);
/// What a browser keeps of it; cookies have no more.
pub const OIDC_ATTEMPT_BYTES_MAX: usize = 4_096;
/// The access token of who has logged in there, as a cookie: browsers take it from this host only, over TLS only.
pub const OIDC_ACCESS_COOKIE: &str = "__Host-accessToken";

// Tokens. Envoy's, unless a line says otherwise.
pub const JWT_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How long keys that were fetched are good.
pub const JWKS_CACHE: Duration = Duration::from_secs(600);
/// For fetching them. Istio's.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer of who is asked whether a request may pass. Envoy's `ext_authz`.
pub const EXTERNAL_TIMEOUT: Duration = Duration::from_millis(200);
/// For an answer of a rate limit service. Envoy's `ratelimit`.
pub const RATE_SERVICE_TIMEOUT: Duration = Duration::from_millis(20);
/// Values of an open descriptor that are remembered. Envoy's `max_dynamic_descriptors`.
pub const LOCAL_RATE_VALUES_MAX: u32 = 20;
/// What one request takes at most of what a descriptor is for. Envoy's.
pub const DESCRIPTOR_HITS_MAX: u64 = 1_000_000_000;
/// The same of a provider of Istio's that says nothing.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(600);
/// Our own: more than this is no answer.
pub const EXTERNAL_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Our own: a token with a key that is not known has them fetched again no oftener than this.
pub const JWKS_REFETCH_MIN: Duration = Duration::from_secs(10);
/// After keys could not be fetched. Envoy's `failed_refetch_duration`.
pub const JWKS_FAILED_REFETCH: Duration = Duration::from_secs(1);
/// Our own: keys that are no longer published verify for so long after they were last.
pub const JWKS_PREVIOUS: Duration = Duration::from_secs(600);
/// Of each provider, at each worker: so many verified tokens are remembered. Envoy's `jwt_cache_size` is 100.
pub const JWT_CACHE: usize = 1_000;
/// Our own: no longer token is remembered. Envoy's `jwt_max_token_size`.
pub const JWT_CACHED_BYTES_MAX: usize = 4_096;

// Edge policies. Our own, unless a line says otherwise.
/// What browsers are told where an EdgePolicy asks for security headers: they guess no types, tell others less of where
/// they come from, and put a page into none of others. OWASP, "HTTP Security Response Headers Cheat Sheet".
pub const SECURITY_HEADERS: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("x-frame-options", "SAMEORIGIN"),
    ("content-security-policy", "frame-ancestors 'self'"),
];
/// A year, of this host alone.
pub const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";
/// What upstreams are told the name of a key by.
pub const KEY_CLIENT_HEADER: &str = "x-api-client";
pub const KEY_HEADER: &str = "x-api-key";
/// What upstreams are told the name of a password by.
pub const PASSWORD_CLIENT_HEADER: &str = "x-auth-user";
pub const COUNTRY_HEADER: &str = "x-country";
/// For a password to be held against its hash, with all that wait before it.
pub const PASSWORD_TIMEOUT: Duration = Duration::from_secs(5);
/// So many passwords wait to be held against hashes, of all clients; and of one address, of IPv6 one /64.
pub const PASSWORDS_WAITING_MAX: usize = 64;
pub const PASSWORDS_WAITING_PER_ADDRESS_MAX: usize = 4;
/// So many passwords that were right are remembered, and as many that were not, until their file changes.
pub const PASSWORDS_KNOWN_MAX: usize = 4_096;
/// A hash that costs more than this is refused when it is read: 2^14 rounds of bcrypt take about a second.
pub const BCRYPT_COST_MAX: u32 = 14;
/// KiB that a hash of argon2 may take, and rounds.
pub const ARGON2_MEMORY_MAX: u32 = 128 * 1024;
pub const ARGON2_ROUNDS_MAX: u32 = 16;
/// How often files of credentials and of addresses are looked at.
pub const FILES_WATCHED_EVERY: Duration = Duration::from_secs(2);

// Codings of bodies, and files.
/// Envoy's `min_content_length`.
pub const COMPRESSED_BYTES_MIN: u32 = 30;
/// Envoy's `content_type`.
pub const COMPRESSED_TYPES: &[&str] = &[
    "application/javascript",
    "application/json",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/plain",
    "text/xml",
];
/// Of a `Compression`: beside Envoy's, what browsers ask for today.
pub const COMPRESSED_TYPES_MORE: &[&str] = &[
    "application/manifest+json",
    "application/wasm",
    "application/xml",
    "image/x-icon",
    "text/csv",
    "text/event-stream",
    "text/javascript",
    "text/markdown",
];
/// Of a `Compression`: what is less fits into a packet or two anyway. Our own.
pub const COMPRESSION_BYTES_MIN: u32 = 1_024;
/// Envoy's `window_bits` is 12; this is zlib's, and better by a few percent for 28 KiB more of each answer.
pub const GZIP_WINDOW_BITS: u8 = 15;
/// Of Envoy's filter.
pub const ENVOY_GZIP_WINDOW_BITS: u8 = 12;
/// Our own: as fast as gzip, and smaller. Envoy's is 3.
pub const BROTLI_QUALITY: u32 = 4;
pub const ENVOY_BROTLI_QUALITY: u32 = 3;
/// Envoy's.
pub const BROTLI_WINDOW_BITS: u32 = 18;
/// Envoy's, and the library's.
pub const ZSTD_LEVEL: u32 = 3;
/// Our own: 512 KiB of each answer. At most 8 MiB may be needed to read one (RFC 9659).
pub const ZSTD_WINDOW_BITS: u32 = 19;
/// Our own, of a request that is read out of its coding.
pub const INFLATED_BYTES_MAX: u64 = 10 << 20;
/// Envoy's `max_inflate_ratio` of gzip.
pub const INFLATED_RATIO_MAX: u32 = 100;
/// Our own: so much may come out whatever went in.
pub const INFLATED_BYTES_FREE: u64 = 64 << 10;
/// nginx's `index`.
pub const FILES_INDEX: &str = "index.html";
/// RFC 9110, section 8.3: of what nobody knows.
pub const FILES_TYPE: &str = "application/octet-stream";
/// Our own: so long a disk may take to find a file.
pub const FILES_TIMEOUT: Duration = Duration::from_secs(10);
/// Our own: who asks for more parts of a file is given all of it.
pub const FILES_PARTS_MAX: usize = 16;
