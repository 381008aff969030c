//! How much may be under way, and how fast: limits of connections, of concurrency, of rates.
//!
//! Plain data. What a limit says to one request is `admit`'s question; who counts is the shell's. A setting that
//! cannot be met is told by `problems`, all of them at once, each with the field as documents spell it. Sources:
//! Envoy's `circuit_breakers`, `adaptive_concurrency`, `admission_control`; Istio's `connectionPool`;
//! Resilience4j's `Bulkhead` and `RateLimiter`.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;

use crate::{CircuitBreaker, Invalid, RetryLimit, defaults};

/// A field as documents spell it, and what is wrong with it.
pub type Fault = (&'static str, Invalid);

/// What one proxy may have under way towards a cluster: all workers together, not each endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLimits {
    /// For requests of the default priority.
    pub normal: Thresholds,
    /// For those of the high one; it is counted apart.
    pub high: Thresholds,
    /// To one endpoint. Envoy's `per_host_thresholds`.
    pub endpoint_connections_max: Option<u32>,
    /// Of connections that carry no HTTP; `None` never ends them.
    pub tcp_idle_timeout: Option<Duration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    pub http2_keepalive: Option<Http2Keepalive>,
    /// A connection takes no more requests once it is this old, and is closed with its last one.
    pub connection_duration_max: Option<Duration>,
    /// A request and its response may take this long from the first byte that is sent to the last that comes.
    pub stream_duration_max: Option<Duration>,
}

impl ClusterLimits {
    /// Where nothing is said in Envoy's words.
    pub fn envoy() -> ClusterLimits {
        ClusterLimits::of(Thresholds::envoy())
    }

    /// Where nothing is said in Istio's words: istiod writes limits that nobody reaches.
    pub fn istio() -> ClusterLimits {
        ClusterLimits::of(Thresholds::istio())
    }

    fn of(thresholds: Thresholds) -> ClusterLimits {
        ClusterLimits {
            normal: thresholds,
            // Istio leaves the high priority to Envoy's defaults, and sends no request with it.
            high: Thresholds::envoy(),
            endpoint_connections_max: None,
            tcp_idle_timeout: Some(defaults::TCP_IDLE_TIMEOUT),
            tcp_keepalive: None,
            http2_keepalive: None,
            connection_duration_max: None,
            stream_duration_max: None,
        }
    }

    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        for (field, duration) in [
            ("maxConnectionDuration", self.connection_duration_max),
            ("maxStreamDuration", self.stream_duration_max),
            ("http2KeepAlive.interval", self.http2_keepalive.map(|keepalive| keepalive.interval)),
            ("http2KeepAlive.timeout", self.http2_keepalive.map(|keepalive| keepalive.timeout)),
        ] {
            if let Some(duration) = duration {
                some_time(&mut found, field, duration);
            }
        }
        if let Some(keepalive) = self.tcp_keepalive {
            some(&mut found, "tcpKeepalive.probes", keepalive.probes);
            for (field, duration) in
                [("tcpKeepalive.time", keepalive.time), ("tcpKeepalive.interval", keepalive.interval)]
            {
                if duration < Duration::from_secs(1) {
                    let text = "the operating system counts keep-alives in whole seconds";
                    found.push((field, Invalid::new(text).hint("1s or more")));
                }
            }
        }
        found
    }
}

/// The numbers of one priority. `u32::MAX` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests on their way, in HTTP/1 as in HTTP/2.
    pub requests_max: u32,
    /// Retries on their way. `recover` decides by it.
    pub retries: RetryLimit,
    pub connection_pools_max: u32,
    /// Whether what is left of each is shown among the statistics.
    pub track_remaining: bool,
}

impl Thresholds {
    pub fn envoy() -> Thresholds {
        Thresholds {
            connections_max: defaults::CONNECTIONS_MAX,
            pending_max: defaults::PENDING_MAX,
            requests_max: defaults::REQUESTS_MAX,
            retries: RetryLimit::default(),
            connection_pools_max: u32::MAX,
            track_remaining: false,
        }
    }

    pub fn istio() -> Thresholds {
        Thresholds {
            connections_max: u32::MAX,
            pending_max: u32::MAX,
            requests_max: u32::MAX,
            retries: RetryLimit::Concurrent(u32::MAX),
            connection_pools_max: u32::MAX,
            track_remaining: true,
        }
    }
}

/// Probes of the operating system on a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered, before the connection is given up.
    pub probes: u32,
    /// Of silence before the first.
    pub time: Duration,
    /// Between two.
    pub interval: Duration,
}

impl Default for TcpKeepalive {
    fn default() -> TcpKeepalive {
        TcpKeepalive {
            probes: defaults::TCP_KEEPALIVE_PROBES,
            time: defaults::TCP_KEEPALIVE_TIME,
            interval: defaults::TCP_KEEPALIVE_INTERVAL,
        }
    }
}

/// How slow a client may be while it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimit {
    /// So many bytes must move, at least,
    pub bytes: u64,
    /// in so much time of waiting.
    pub window: Duration,
}

/// PING frames on a connection of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    pub interval: Duration,
    /// For the answer; then the connection is closed.
    pub timeout: Duration,
}

/// What limits the requests to one service, or by one route.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoadLimits {
    /// Of a route. What cuts a whole cluster off is in its [`GuardSettings`](crate::GuardSettings).
    pub breaker: Option<Named<CircuitBreaker>>,
    pub bulkhead: Option<Named<Bulkhead>>,
    pub adaptive: Option<Named<AdaptiveConcurrency>>,
    pub admission: Option<Named<AdmissionControl>>,
    pub rate: Option<Named<RateLimit>>,
}

/// A limit, and what its counts are kept by: all that have the same name share them, and they outlive a change of the
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    pub name: String,
    pub settings: T,
}

/// How many requests may be at a service or a route at once, and what becomes of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    pub concurrency_max: u32,
    /// How many may wait, first come, first served.
    pub queue_max: u32,
    /// How long one may wait. Zero refuses at once.
    pub wait_max: Duration,
}

impl Default for Bulkhead {
    fn default() -> Bulkhead {
        Bulkhead {
            concurrency_max: defaults::BULKHEAD_CONCURRENCY_MAX,
            queue_max: defaults::BULKHEAD_QUEUE_MAX,
            wait_max: Duration::ZERO,
        }
    }
}

impl Bulkhead {
    /// How many may wait, where any may.
    pub fn waiting_max(&self) -> u32 {
        if self.wait_max.is_zero() { 0 } else { self.queue_max.min(defaults::BULKHEAD_QUEUE_BOUND) }
    }

    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        some(&mut found, "maxConcurrent", self.concurrency_max);
        if self.queue_max > defaults::BULKHEAD_QUEUE_BOUND {
            let text = format!("a queue holds at most {} requests", defaults::BULKHEAD_QUEUE_BOUND);
            found.push(("maxQueue", Invalid::new(text)));
        }
        if self.queue_max == 0 && !self.wait_max.is_zero() {
            let text = "maxWait has no effect where no request may wait";
            found.push(("maxWait", Invalid::new(text).hint("set maxQueue above 0, or leave maxWait out")));
        }
        found
    }
}

/// A limit of concurrency that finds itself. Envoy's gradient controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// Which of the latencies of one interval stands for all.
    pub sample_percentile: Fraction,
    pub concurrency_max: u32,
    /// The limit while the latency without load is measured, and the least that there ever is.
    pub concurrency_min: u32,
    /// Between two changes of the limit.
    pub update_interval: Duration,
    pub min_rtt: MinRtt,
    /// Added to the latency without load, for its own ups and downs.
    pub buffer: Fraction,
    /// Of the answer to a request that is refused.
    pub refused_status: u16,
}

/// The latency without load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinRtt {
    Measured {
        /// From the end of one measurement to the beginning of the next.
        interval: Duration,
        /// A share of the interval, up to which it is drawn out at random.
        jitter: Fraction,
        /// How many latencies make a measurement.
        requests: u32,
    },
    Fixed(Duration),
}

impl Default for AdaptiveConcurrency {
    fn default() -> AdaptiveConcurrency {
        AdaptiveConcurrency {
            sample_percentile: defaults::ADAPTIVE_PERCENTILE,
            concurrency_max: defaults::ADAPTIVE_CONCURRENCY_MAX,
            concurrency_min: defaults::ADAPTIVE_CONCURRENCY_MIN,
            update_interval: defaults::ADAPTIVE_UPDATE_INTERVAL,
            min_rtt: MinRtt::Measured {
                interval: defaults::ADAPTIVE_MIN_RTT_INTERVAL,
                jitter: defaults::ADAPTIVE_JITTER,
                requests: defaults::ADAPTIVE_REQUESTS,
            },
            buffer: defaults::ADAPTIVE_BUFFER,
            refused_status: 503,
        }
    }
}

impl AdaptiveConcurrency {
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        whole(&mut found, "samplePercentile", self.sample_percentile);
        whole(&mut found, "bufferPercent", self.buffer);
        some(&mut found, "maxConcurrency", self.concurrency_max);
        some(&mut found, "minConcurrency", self.concurrency_min);
        if self.concurrency_min > self.concurrency_max {
            let text = "minConcurrency is above maxConcurrency: the limit would never move";
            found.push(("minConcurrency", Invalid::new(text)));
        }
        some_time(&mut found, "updateInterval", self.update_interval);
        match self.min_rtt {
            MinRtt::Measured { interval, jitter, requests } => {
                whole(&mut found, "minRtt.jitterPercent", jitter);
                some(&mut found, "minRtt.requests", requests);
                if interval < Duration::from_millis(1) {
                    let text = "the time between two measurements is at least a millisecond";
                    found.push(("minRtt.interval", Invalid::new(text)));
                }
            }
            MinRtt::Fixed(latency) => {
                if latency < Duration::from_micros(1) {
                    let text = "a latency below a microsecond cannot be measured";
                    found.push(("minRtt.fixed", Invalid::new(text)));
                }
            }
        }
        if !(400..=599).contains(&self.refused_status) {
            found.push(("refusedStatus", Invalid::new("the status of a refusal is one of 400 to 599")));
        }
        found
    }
}

/// Sheds load by chance, the more of it the fewer requests succeed. Envoy's `admission_control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionControl {
    /// What is remembered of the past. Whole seconds.
    pub window: Duration,
    /// The lowest share of successes at which nothing is refused.
    pub success_threshold: Fraction,
    /// In thousandths, 1000 or more: at 1000 the share refused grows as the share of successes falls.
    pub aggression_milli: u32,
    /// Requests a second, below which nothing is refused.
    pub rps_threshold: u32,
    /// The largest share that is refused.
    pub rejection_max: Fraction,
    pub success: SuccessCriteria,
}

impl Default for AdmissionControl {
    fn default() -> AdmissionControl {
        AdmissionControl {
            window: defaults::ADMISSION_WINDOW,
            success_threshold: defaults::ADMISSION_SUCCESS_THRESHOLD,
            aggression_milli: defaults::ADMISSION_AGGRESSION_MILLI,
            rps_threshold: defaults::ADMISSION_RPS_THRESHOLD,
            rejection_max: defaults::ADMISSION_REJECTION_MAX,
            success: SuccessCriteria::default(),
        }
    }
}

impl AdmissionControl {
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let (window, bound) = (self.window, defaults::ADMISSION_WINDOW_BOUND);
        if window < Duration::from_secs(1) || window.subsec_nanos() != 0 || window > bound {
            let text = format!("a window is of whole seconds, 1 to {}", bound.as_secs());
            found.push(("window", Invalid::new(text)));
        }
        whole(&mut found, "successThresholdPercent", self.success_threshold);
        some(&mut found, "successThresholdPercent", self.success_threshold.numerator());
        if self.aggression_milli < 1_000 {
            found.push(("aggression", Invalid::new("an aggression is 1.0 or more")));
        }
        whole(&mut found, "maxRejectionPercent", self.rejection_max);
        for range in &self.success.http {
            if range.from >= range.to || range.from < 100 || range.to > 600 {
                let text = format!("{} to {} is no range of statuses", range.from, range.to);
                let hint = "from 100 to 600; the end is not part of it";
                found.push(("success.http", Invalid::new(text).hint(hint)));
            }
        }
        if self.success.grpc >> 17 != 0 {
            found.push(("success.grpc", Invalid::new("a gRPC status is one of 0 to 16")));
        }
        found
    }
}

/// Which responses count as successes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessCriteria {
    pub http: Vec<StatusRange>,
    /// A bit for each gRPC status, the lowest for `OK`.
    pub grpc: u32,
}

impl Default for SuccessCriteria {
    fn default() -> SuccessCriteria {
        let statuses = defaults::ADMISSION_GRPC_SUCCESSES.iter();
        SuccessCriteria {
            http: vec![StatusRange { from: 100, to: 500 }],
            grpc: statuses.fold(0, |bits, status| bits | 1 << status),
        }
    }
}

/// `from <= status < to`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    pub from: u16,
    pub to: u16,
}

/// How often a service may be called, and how long a call may wait for its turn. Resilience4j's `RateLimiter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many calls in each period.
    pub limit: u32,
    pub period: Duration,
    /// A call that would have to wait longer is refused.
    pub wait_max: Duration,
}

impl RateLimit {
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        some(&mut found, "limitForPeriod", self.limit);
        some_time(&mut found, "limitRefreshPeriod", self.period);
        if self.period.as_nanos() < u128::from(self.limit) && !self.period.is_zero() {
            let text = "more than a thousand million calls a second cannot be told apart";
            found.push(("limitForPeriod", Invalid::new(text)));
        }
        found
    }
}

/// Limits with a name, for those who do not want to choose numbers. Source: the dailyfeed services, which name them;
/// the numbers are our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateClass {
    /// What others cannot do without: many calls, and a longer wait.
    Critical,
    Default,
    /// What is slow or may be left out: few calls, and no wait.
    Conservative,
}

impl RateClass {
    pub const ALL: [RateClass; 3] = [RateClass::Critical, RateClass::Default, RateClass::Conservative];

    pub fn name(self) -> &'static str {
        match self {
            RateClass::Critical => "critical",
            RateClass::Default => "default",
            RateClass::Conservative => "conservative",
        }
    }

    pub fn limit(self) -> RateLimit {
        match self {
            RateClass::Critical => defaults::RATE_CRITICAL,
            RateClass::Default => defaults::RATE_DEFAULT,
            RateClass::Conservative => defaults::RATE_CONSERVATIVE,
        }
    }
}

/// Tokens that requests take, and that come back with time. Envoy's `TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    pub tokens_max: u32,
    pub tokens_per_fill: u32,
    pub fill_interval: Duration,
}

impl TokenBucket {
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        some(&mut found, "maxTokens", self.tokens_max);
        some(&mut found, "tokensPerFill", self.tokens_per_fill);
        if self.fill_interval < defaults::FILL_INTERVAL_MIN {
            let text = format!("a fill interval is {} ms or more", defaults::FILL_INTERVAL_MIN.as_millis());
            found.push(("fillInterval", Invalid::new(text)));
        }
        found
    }
}

/// A fraction in millionths, at most the whole.
pub fn millionths(fraction: Fraction) -> u32 {
    let scale = Denominator::Million.value() / fraction.denominator().value();
    fraction.numerator().saturating_mul(scale).min(Denominator::Million.value())
}

pub(crate) fn some(found: &mut Vec<Fault>, field: &'static str, value: u32) {
    if value == 0 {
        found.push((field, Invalid::new(format!("{field} is 0: nothing would ever pass")).hint("1 or more")));
    }
}

pub(crate) fn some_time(found: &mut Vec<Fault>, field: &'static str, value: Duration) {
    if value.is_zero() {
        found.push((field, Invalid::new(format!("{field} must be above zero"))));
    }
}

pub(crate) fn whole(found: &mut Vec<Fault>, field: &'static str, share: Fraction) {
    if share.numerator() > share.denominator().value() {
        found.push((field, Invalid::new(format!("{field} is more than the whole"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(found: &[Fault]) -> Vec<&'static str> {
        found.iter().map(|(field, _)| *field).collect()
    }

    #[test]
    fn what_nobody_says_is_without_problems() {
        assert!(ClusterLimits::envoy().problems().is_empty());
        assert!(ClusterLimits::istio().problems().is_empty());
        assert!(Bulkhead::default().problems().is_empty());
        assert!(AdaptiveConcurrency::default().problems().is_empty());
        assert!(AdmissionControl::default().problems().is_empty());
        for class in RateClass::ALL {
            assert!(class.limit().problems().is_empty(), "{}", class.name());
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let bulkhead = Bulkhead { concurrency_max: 0, queue_max: 0, wait_max: Duration::from_secs(1) };
        assert_eq!(fields(&bulkhead.problems()), ["maxConcurrent", "maxWait"]);
        let adaptive = AdaptiveConcurrency {
            concurrency_max: 2,
            buffer: Fraction::new(101, Denominator::Hundred),
            min_rtt: MinRtt::Fixed(Duration::ZERO),
            refused_status: 200,
            ..AdaptiveConcurrency::default()
        };
        let expected = ["bufferPercent", "minConcurrency", "minRtt.fixed", "refusedStatus"];
        assert_eq!(fields(&adaptive.problems()), expected);
        let admission = AdmissionControl {
            window: Duration::from_millis(1_500),
            aggression_milli: 999,
            success: SuccessCriteria { http: vec![StatusRange { from: 500, to: 200 }], grpc: 1 << 17 },
            ..AdmissionControl::default()
        };
        assert_eq!(fields(&admission.problems()), ["window", "aggression", "success.http", "success.grpc"]);
        let rate = RateLimit { limit: 1_001, period: Duration::from_micros(1), wait_max: Duration::ZERO };
        assert_eq!(fields(&rate.problems()), ["limitForPeriod"]);
        let bucket =
            TokenBucket { tokens_max: 0, tokens_per_fill: 0, fill_interval: Duration::from_millis(49) };
        assert_eq!(fields(&bucket.problems()), ["maxTokens", "tokensPerFill", "fillInterval"]);
    }

    #[test]
    fn fractions_of_all_denominators_compare() {
        assert_eq!(millionths(Fraction::new(50, Denominator::Hundred)), 500_000);
        assert_eq!(millionths(Fraction::new(1, Denominator::TenThousand)), 100);
        assert_eq!(millionths(Fraction::new(u32::MAX, Denominator::Hundred)), 1_000_000);
    }
}
