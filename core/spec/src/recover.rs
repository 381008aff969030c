//! When a failed attempt is repeated, how long is waited, and how many repetitions a cluster bears.
//!
//! The words are Envoy's (`route_components.proto`, `RetryPolicy` and `HedgePolicy`); Istio's and
//! Resilience4j's settings are other spellings of them. Waiting times of the classes are those of
//! Resilience4j's `IntervalFunction`. What is done by these settings stands in `naru-recover`.

use std::fmt;
use std::time::Duration;

use http::HeaderName;
use naru_base::Fraction;

use crate::{HeaderMatch, Invalid, Severity, defaults};

/// Which failures are repeated, how often, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// Beside the first attempt. See [`calls_of`] and [`retries_of`] for who counts otherwise.
    pub retries_max: u32,
    /// For [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub statuses: Vec<u16>,
    /// For [`RetryOn::RETRIABLE_HEADERS`]: one of them must match the response.
    pub response_headers: Vec<HeaderMatch>,
    /// Where there are any, one of them must match the request, or nothing is repeated.
    pub request_headers: Vec<HeaderMatch>,
    /// From the moment at which an attempt has a connection and all of the request, to the head of its response.
    pub per_try_timeout: Option<Duration>,
    /// Without a byte in either direction.
    pub per_try_idle_timeout: Option<Duration>,
    pub backoff: Backoff,
    /// Waits as long as the response says, where it does.
    pub rate_limited: Option<RateLimitedBackoff>,
    /// Picks again where an endpoint comes up that was tried before: Envoy's `previous_hosts`.
    pub avoids_tried: bool,
    /// How often it picks again: `host_selection_retry_max_attempts`.
    pub picks_max: u32,
    /// Leaves out the priorities that were tried, anew after so many attempts: Envoy's
    /// `previous_priorities` with its `update_frequency`.
    pub avoids_priorities_after: Option<u32>,
    pub repeats: Repeats,
}

/// Which requests may be sent twice where the first may have acted.
///
/// Envoy and Istio ask nothing about the request, so that a POST is repeated whenever the policy's
/// conditions hold. That is [`Repeats::Everything`] here, and has to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Repeats {
    /// Those with an idempotent method (RFC 9110, section 9.2.2) or an `Idempotency-Key`. Every other one only where
    /// no upstream can have acted on it.
    #[default]
    Idempotent,
    Everything,
}

impl RetryPolicy {
    /// Envoy's defaults around conditions. With none of them nothing is repeated.
    pub fn new(on: RetryOn) -> RetryPolicy {
        RetryPolicy {
            on,
            retries_max: defaults::RETRIES,
            statuses: Vec::new(),
            response_headers: Vec::new(),
            request_headers: Vec::new(),
            per_try_timeout: None,
            per_try_idle_timeout: None,
            backoff: Backoff::of_base(defaults::RETRY_BACKOFF),
            rate_limited: None,
            avoids_tried: false,
            picks_max: defaults::RETRY_PICKS,
            avoids_priorities_after: None,
            repeats: Repeats::Idempotent,
        }
    }

    /// What Istio does for a route that says nothing of retries. A cluster that balances by a hash
    /// is asked where the hash says, also the second time.
    pub fn istio(is_hashed: bool) -> RetryPolicy {
        RetryPolicy {
            retries_max: defaults::MESH_RETRIES,
            avoids_tried: !is_hashed,
            picks_max: defaults::MESH_RETRY_PICKS,
            ..RetryPolicy::new(RetryOn::ISTIO)
        }
    }

    /// One of the three classes of naru.
    pub fn of_class(class: RetryClass) -> RetryPolicy {
        RetryPolicy {
            retries_max: retries_of(class.calls()),
            backoff: class.backoff(),
            avoids_tried: true,
            picks_max: defaults::MESH_RETRY_PICKS,
            ..RetryPolicy::new(RetryOn::CLASSES)
        }
    }

    /// Repeats what cannot have reached an upstream, so that it is safe for every request.
    pub fn connects(retries_max: u32) -> RetryPolicy {
        RetryPolicy {
            retries_max,
            avoids_tried: true,
            picks_max: defaults::MESH_RETRY_PICKS,
            ..RetryPolicy::new(RetryOn::CONNECT_FAILURE)
        }
    }

    /// How often it repeats an attempt for which no connection could be made.
    pub fn connect_retries(&self) -> u32 {
        const COVER: RetryOn = RetryOn::CONNECT_FAILURE
            .and(RetryOn::SERVER_ERROR)
            .and(RetryOn::GATEWAY_ERROR)
            .and(RetryOn::RESET)
            .and(RetryOn::RESET_BEFORE_REQUEST);
        if self.on.intersects(COVER) { self.retries_max } else { 0 }
    }

    /// How many times an upstream is called at most, the first time included.
    pub fn calls_max(&self) -> u32 {
        if self.on.is_empty() { 1 } else { calls_of(self.retries_max) }
    }

    /// How often at most, in words for people who count calls and for those who count retries.
    pub fn calls_text(&self) -> String {
        match self.calls_max() {
            1 => "at most 1 call, no retry".to_owned(),
            2 => "at most 2 calls (1 retry)".to_owned(),
            calls => format!("at most {calls} calls ({} retries)", calls - 1),
        }
    }

    /// Whatever is wrong with it on a route with this timeout: the field, how bad it is, and why.
    pub fn problems(&self, timeout: Option<Duration>) -> Vec<(Field, Severity, Invalid)> {
        let mut found = Vec::new();
        let mut tell = |field, severity, invalid| found.push((field, severity, invalid));
        if self.retries_max > defaults::RETRIES_MAX {
            let invalid = Invalid::new(format!("{} retries are too many", self.retries_max))
                .hint(format!("at most {} are possible", defaults::RETRIES_MAX));
            tell(Field::Retries, Severity::Error, invalid);
        }
        for status in &self.statuses {
            if !(100..=599).contains(status) {
                let invalid = Invalid::new(format!("{status} is not a status")).hint("100 to 599");
                tell(Field::Statuses, Severity::Error, invalid);
            }
        }
        if self.on.contains(RetryOn::RETRIABLE_HEADERS) && self.response_headers.is_empty() {
            let invalid = Invalid::new("'retriable-headers' retries nothing where no header is listed");
            tell(Field::On, Severity::Warning, invalid);
        }
        if !self.statuses.is_empty() && !self.on.contains(RetryOn::RETRIABLE_STATUS_CODES) {
            let invalid = Invalid::new("the statuses are not retried without 'retriable-status-codes'");
            tell(Field::Statuses, Severity::Warning, invalid);
        }
        if let Err(invalid) = self.backoff.check() {
            tell(Field::Backoff, Severity::Error, invalid);
        }
        if self.rate_limited.as_ref().is_some_and(|said| said.headers.is_empty()) {
            let invalid = Invalid::new("no header is named that says how long to wait");
            tell(Field::RateLimited, Severity::Error, invalid);
        }
        if self.per_try_timeout.is_some_and(|per_try| per_try.is_zero()) {
            let invalid = Invalid::new("an attempt cannot end before it begins").hint("leave it out instead");
            tell(Field::PerTryTimeout, Severity::Error, invalid);
        }
        if let (Some(per_try), Some(total)) = (self.per_try_timeout, timeout) {
            if per_try >= total {
                let text = format!(
                    "the timeout of one try, {per_try:?}, does not act: the whole request ends after {total:?}"
                );
                let invalid = Invalid::new(text).hint("make it shorter than the timeout of the route");
                tell(Field::PerTryTimeout, Severity::Warning, invalid);
            } else if per_try.saturating_mul(self.calls_max()) > total {
                let text = format!(
                    "{} of {per_try:?} do not fit into {total:?}: the last of them are cut short",
                    self.calls_text()
                );
                tell(Field::PerTryTimeout, Severity::Note, Invalid::new(text));
            }
        }
        if let Some(total) = timeout.filter(|total| self.retries_max > 0 && self.backoff.first() >= *total) {
            let how = if matches!(self.backoff, Backoff::Jittered { .. }) { "up to " } else { "" };
            let wait = self.backoff.first();
            let text =
                format!("the first retry waits {how}{wait:?}, and the whole request ends after {total:?}");
            let invalid = Invalid::new(text).hint("let it wait for less than the route lasts");
            tell(Field::Backoff, Severity::Warning, invalid);
        }
        if self.repeats == Repeats::Everything && self.on.may_follow_an_effect() {
            let text = "requests that change something may be carried out twice";
            let hint = "leave POST and PATCH out, or let clients send an Idempotency-Key";
            tell(Field::Repeats, Severity::Warning, Invalid::new(text).hint(hint));
        }
        found
    }
}

/// What of a [`RetryPolicy`] a problem is about; each dialect has its own name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    On,
    Retries,
    Statuses,
    PerTryTimeout,
    Backoff,
    RateLimited,
    Repeats,
}

/// How many calls are so many retries: Istio and Envoy count retries.
pub fn calls_of(retries: u32) -> u32 {
    retries.saturating_add(1)
}

/// How many retries are so many calls: Resilience4j, Spring and Traefik count calls.
pub fn retries_of(calls: u32) -> u32 {
    calls.saturating_sub(1)
}

/// A set of conditions under which an attempt is repeated. Envoy's `x-envoy-retry-on` and
/// `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct RetryOn(u16);

macro_rules! conditions {
    ($( $(#[$doc:meta])* $name:ident = $bit:literal, $word:literal; )*) => {
        impl RetryOn {
            $( $(#[$doc])* pub const $name: RetryOn = RetryOn(1 << $bit); )*

            /// Every condition with its word.
            pub const WORDS: &'static [(&'static str, RetryOn)] = &[ $( ($word, RetryOn::$name) ),* ];
        }
    };
}

conditions! {
    /// Any 5xx, and an attempt that ended without an answer.
    SERVER_ERROR = 0, "5xx";
    /// 502, 503, 504, and an attempt that ended without an answer.
    GATEWAY_ERROR = 1, "gateway-error";
    /// An attempt that ended without an answer.
    RESET = 2, "reset";
    /// The same, where not a byte of the request had been sent to any upstream.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    CONNECT_FAILURE = 4, "connect-failure";
    /// `x-envoy-ratelimited` stands in the response.
    ENVOY_RATELIMITED = 5, "envoy-ratelimited";
    /// 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// HTTP/2's REFUSED_STREAM: the upstream has not looked at the request.
    REFUSED_STREAM = 7, "refused-stream";
    RETRIABLE_STATUS_CODES = 8, "retriable-status-codes";
    RETRIABLE_HEADERS = 9, "retriable-headers";
    /// Read and without effect: there is no HTTP/3.
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure";
    CANCELLED = 11, "cancelled";
    DEADLINE_EXCEEDED = 12, "deadline-exceeded";
    INTERNAL = 13, "internal";
    RESOURCE_EXHAUSTED = 14, "resource-exhausted";
    UNAVAILABLE = 15, "unavailable";
}

impl RetryOn {
    pub const NONE: RetryOn = RetryOn(0);

    /// Those of gRPC.
    pub const GRPC: RetryOn = RetryOn(0b1_1111 << 11);

    /// Istio's, where a route says nothing. 503 is no longer among its status codes.
    pub const ISTIO: RetryOn = RetryOn::CONNECT_FAILURE
        .and(RetryOn::REFUSED_STREAM)
        .and(RetryOn::UNAVAILABLE)
        .and(RetryOn::CANCELLED)
        .and(RetryOn::RETRIABLE_STATUS_CODES);

    /// Of the classes: networks and gateways that fail, and never a 4xx.
    pub const CLASSES: RetryOn = RetryOn::CONNECT_FAILURE
        .and(RetryOn::REFUSED_STREAM)
        .and(RetryOn::RESET)
        .and(RetryOn::GATEWAY_ERROR)
        .and(RetryOn::UNAVAILABLE);

    pub const fn and(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    #[inline]
    pub const fn contains(self, other: RetryOn) -> bool {
        self.0 & other.0 == other.0
    }

    #[inline]
    pub const fn intersects(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Only those that the header `x-envoy-retry-on` can ask for.
    pub const fn of_http(self) -> RetryOn {
        RetryOn(self.0 & !RetryOn::GRPC.0)
    }

    /// Only those that the header `x-envoy-retry-grpc-on` can ask for.
    pub const fn of_grpc(self) -> RetryOn {
        RetryOn(self.0 & RetryOn::GRPC.0)
    }

    /// Whether an upstream may have acted before one of these holds.
    pub const fn may_follow_an_effect(self) -> bool {
        const WITHOUT_EFFECT: u16 = RetryOn::CONNECT_FAILURE.0
            | RetryOn::REFUSED_STREAM.0
            | RetryOn::RESET_BEFORE_REQUEST.0
            | RetryOn::HTTP3_POST_CONNECT_FAILURE.0;
        self.0 & !WITHOUT_EFFECT != 0
    }

    /// The condition of one word.
    pub fn word(word: &str) -> Option<RetryOn> {
        RetryOn::WORDS.iter().find(|(known, _)| *known == word).map(|(_, on)| *on)
    }

    /// The words of a list that is parted by commas; those that are no condition go to `unknown`.
    pub fn parse<'a>(list: &'a str, mut unknown: impl FnMut(&'a str)) -> RetryOn {
        let mut on = RetryOn::NONE;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match RetryOn::word(word) {
                Some(known) => on = on.and(known),
                None => unknown(word),
            }
        }
        on
    }
}

/// As Envoy writes it: words with commas between them.
impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (word, on) in RetryOn::WORDS {
            if self.contains(*on) {
                write!(f, "{comma}{word}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

/// How long is waited before the n-th retry, n from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Envoy's: uniform in `0..min((2^n - 1) * base, max)`.
    Jittered { base: Duration, max: Duration },
    /// Always the same.
    Fixed { wait: Duration, jitter_percent: u8 },
    /// `n * step`: 100, 200, 300, 400.
    Linear { step: Duration, max: Duration, jitter_percent: u8 },
    /// `first * factor^(n - 1)`, the factor in hundredths: 100, 200, 400, 800 with 200.
    Exponential { first: Duration, factor_percent: u32, max: Duration, jitter_percent: u8 },
}

impl Backoff {
    /// Envoy's, up to ten times the base.
    pub fn of_base(base: Duration) -> Backoff {
        Backoff::Jittered { base, max: base.saturating_mul(defaults::RETRY_BACKOFF_MAX_FACTOR) }
    }

    /// The longest wait that there can be.
    pub fn longest(&self) -> Duration {
        match *self {
            Backoff::Jittered { max, .. } => max,
            Backoff::Fixed { wait, jitter_percent } => jittered_most(wait, jitter_percent),
            Backoff::Linear { max, jitter_percent, .. }
            | Backoff::Exponential { max, jitter_percent, .. } => jittered_most(max, jitter_percent),
        }
    }

    /// The longest that the first wait can be.
    pub fn first(&self) -> Duration {
        match *self {
            Backoff::Jittered { base, max } => base.min(max),
            Backoff::Fixed { wait, .. } => wait,
            Backoff::Linear { step, max, .. } => step.min(max),
            Backoff::Exponential { first, max, .. } => first.min(max),
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        let (least, max, jitter) = match *self {
            Backoff::Jittered { base, max } => (base, max, 0),
            Backoff::Fixed { wait, jitter_percent } => (wait, wait, jitter_percent),
            Backoff::Linear { step, max, jitter_percent } => (step, max, jitter_percent),
            Backoff::Exponential { first, factor_percent, max, jitter_percent } => {
                if factor_percent < 100 {
                    return Err(Invalid::new("the factor of a wait that grows is at least 1"));
                }
                (first, max, jitter_percent)
            }
        };
        if jitter > 100 {
            return Err(Invalid::new(format!("{jitter}% is not a jitter")).hint("0 to 100"));
        }
        match self {
            Backoff::Fixed { .. } => Ok(()),
            _ if least.is_zero() => Err(Invalid::new("a wait that grows cannot begin at 0")),
            _ if least > max => {
                Err(Invalid::new(format!("the longest wait, {max:?}, is shorter than the first, {least:?}")))
            }
            _ => Ok(()),
        }
    }
}

fn jittered_most(wait: Duration, jitter_percent: u8) -> Duration {
    wait.saturating_mul(100 + u32::from(jitter_percent)) / 100
}

/// Response headers that say how long to wait. Envoy's `rate_limited_retry_back_off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitedBackoff {
    /// The first that says so, and not more than `max`, is obeyed.
    pub headers: Vec<ResetHeader>,
    pub max: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    pub name: HeaderName,
    pub format: ResetFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// From now: `Retry-After: 3`.
    Seconds,
    /// Since 1970: `X-RateLimit-Reset: 1700000000`.
    UnixTimestamp,
}

/// Settings that go by a name. The names and the numbers of `default` are those of the users who
/// asked for them; the others are our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// 3 calls, 500 ms between them.
    Default,
    /// 3 calls, 50 ms and 100 ms between them: for reads that people wait for.
    Fast,
    /// 2 calls, 1 s between them: for what is costly.
    Conservative,
}

impl RetryClass {
    pub const ALL: [(&'static str, RetryClass); 3] = [
        ("default", RetryClass::Default),
        ("fast", RetryClass::Fast),
        ("conservative", RetryClass::Conservative),
    ];

    pub fn named(name: &str) -> Option<RetryClass> {
        RetryClass::ALL.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
    }

    fn calls(self) -> u32 {
        match self {
            RetryClass::Default | RetryClass::Fast => defaults::RETRY_CLASS_CALLS,
            RetryClass::Conservative => defaults::RETRY_CONSERVATIVE_CALLS,
        }
    }

    fn backoff(self) -> Backoff {
        match self {
            RetryClass::Default => Backoff::Fixed { wait: defaults::RETRY_CLASS_WAIT, jitter_percent: 0 },
            RetryClass::Fast => Backoff::Exponential {
                first: defaults::RETRY_FAST_WAIT,
                factor_percent: 200,
                max: defaults::RETRY_CLASS_WAIT,
                jitter_percent: 50,
            },
            RetryClass::Conservative => {
                Backoff::Fixed { wait: defaults::RETRY_CONSERVATIVE_WAIT, jitter_percent: 0 }
            }
        }
    }
}

/// How many retries a cluster bears at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryLimit {
    /// Envoy's circuit breaker `max_retries`.
    Concurrent(u32),
    Budget(RetryBudget),
}

impl RetryLimit {
    /// Where the requests of a time are counted: how long it is.
    #[inline]
    pub fn interval(&self) -> Option<Duration> {
        match self {
            RetryLimit::Budget(budget) => Some(budget.interval).filter(|interval| !interval.is_zero()),
            RetryLimit::Concurrent(_) => None,
        }
    }
}

impl Default for RetryLimit {
    fn default() -> RetryLimit {
        RetryLimit::Concurrent(defaults::RETRIES_AT_ONCE)
    }
}

/// Retries in flight are at most this share of requests, or `concurrency_min` where that is more. Envoy's
/// `retry_budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// In millionths: 200,000 is 20 %.
    pub share_ppm: u32,
    pub concurrency_min: u32,
    /// The share is of all requests that were sent in so much time until now, retries too; zero is of those in flight.
    pub interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget {
            share_ppm: defaults::RETRY_BUDGET_PPM,
            concurrency_min: defaults::RETRY_BUDGET_CONCURRENCY_MIN,
            interval: defaults::RETRY_BUDGET_INTERVAL,
        }
    }
}

impl RetryBudget {
    /// A share of 0 to 100 percent, of the requests in flight.
    pub fn of_percent(percent: f64, concurrency_min: u32) -> Result<RetryBudget, Invalid> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(Invalid::new(format!("{percent} is not a percentage")).hint("0 to 100"));
        }
        let interval = defaults::RETRY_BUDGET_INTERVAL;
        Ok(RetryBudget { share_ppm: (percent * 10_000.0).round() as u32, concurrency_min, interval })
    }

    pub fn percent(&self) -> f64 {
        f64::from(self.share_ppm) / 10_000.0
    }
}

/// More attempts than one at a time. Envoy's `HedgePolicy`; Envoy itself only acts on the last field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How many attempts a request begins with, at least 1.
    pub initial: u32,
    /// The chance that there is one more.
    pub additional: Fraction,
    /// When an attempt's timeout passes, another is made beside it.
    pub on_per_try_timeout: bool,
}

impl Default for Hedge {
    fn default() -> Hedge {
        Hedge { initial: 1, additional: Fraction::NONE, on_per_try_timeout: false }
    }
}

impl Hedge {
    pub fn problems(&self, retry: Option<&RetryPolicy>) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.initial == 0 {
            found.push(Invalid::new("a request begins with at least one attempt"));
        }
        if self.initial > defaults::ATTEMPTS_AT_ONCE_MAX {
            let text = format!("{} attempts at a time are too many", self.initial);
            let hint = format!("at most {} are possible", defaults::ATTEMPTS_AT_ONCE_MAX);
            found.push(Invalid::new(text).hint(hint));
        }
        if self.on_per_try_timeout && retry.is_none_or(|retry| retry.per_try_timeout.is_none()) {
            let text = "there is no timeout of a try after which another could be made beside it";
            found.push(Invalid::new(text).hint("say a per-try timeout"));
        }
        found
    }
}

/// A timeout that follows what is observed: `quantile` of the response times, times `factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoTimeout {
    /// In thousandths: 990 is p99.
    pub quantile_permille: u32,
    /// In hundredths: 300 is three times.
    pub factor_percent: u32,
    pub min: Duration,
    /// Also what holds until enough is known.
    pub max: Duration,
}

impl Default for AutoTimeout {
    fn default() -> AutoTimeout {
        AutoTimeout {
            quantile_permille: defaults::AUTO_TIMEOUT_PERMILLE,
            factor_percent: defaults::AUTO_TIMEOUT_FACTOR_PERCENT,
            min: defaults::AUTO_TIMEOUT_MIN,
            max: defaults::AUTO_TIMEOUT_MAX,
        }
    }
}

impl AutoTimeout {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if !(1..=999).contains(&self.quantile_permille) {
            found.push(Invalid::new("a quantile lies between 0 and 100 percent"));
        }
        if self.factor_percent <= 100 {
            let text = "a timeout that is no longer than what is usual would end usual requests";
            found.push(Invalid::new(text).hint("a factor above 1, such as 3"));
        }
        if self.min.is_zero() || self.min > self.max {
            found.push(Invalid::new(format!("{:?} to {:?} is no range for a timeout", self.min, self.max)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_written_in_envoys_words() {
        let mut unknown = Vec::new();
        let on = RetryOn::parse(" 5xx ,unavailable,,no-such,connect-failure", |word| unknown.push(word));
        assert_eq!(on.to_string(), "5xx,connect-failure,unavailable");
        assert_eq!(unknown, ["no-such"]);
        assert_eq!(on.of_http().to_string(), "5xx,connect-failure");
        assert_eq!(on.of_grpc(), RetryOn::UNAVAILABLE);
        for (word, on) in RetryOn::WORDS {
            assert_eq!(RetryOn::parse(word, |word| panic!("{word}")), *on);
            assert_eq!(on.to_string(), *word);
        }
    }

    #[test]
    fn each_dialect_counts_in_its_own_way() {
        let istio = RetryPolicy { retries_max: 3, ..RetryPolicy::istio(false) };
        assert_eq!(istio.calls_text(), "at most 4 calls (3 retries)");
        assert_eq!(RetryPolicy::istio(true).calls_text(), "at most 3 calls (2 retries)");
        assert_eq!(RetryPolicy::of_class(RetryClass::Default).calls_text(), "at most 3 calls (2 retries)");
        assert_eq!(RetryPolicy::of_class(RetryClass::Conservative).calls_text(), "at most 2 calls (1 retry)");
        assert_eq!(RetryPolicy::new(RetryOn::NONE).calls_text(), "at most 1 call, no retry");
        assert_eq!(retries_of(0), 0);
    }

    #[test]
    fn istio_says_nothing_of_503_and_stays_where_a_hash_leads() {
        let policy = RetryPolicy::istio(false);
        let expected = "connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable";
        assert_eq!(policy.on.to_string(), expected);
        assert!(policy.statuses.is_empty() && policy.avoids_tried && policy.picks_max == 5);
        assert!(!RetryPolicy::istio(true).avoids_tried);
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        fn check(
            change: impl FnOnce(&mut RetryPolicy),
            timeout: Option<u64>,
            expected: &[(Field, Severity)],
        ) {
            let mut policy = RetryPolicy { repeats: Repeats::Idempotent, ..RetryPolicy::istio(false) };
            change(&mut policy);
            let found = policy.problems(timeout.map(Duration::from_millis));
            let found: Vec<_> = found.into_iter().map(|(field, severity, _)| (field, severity)).collect();
            assert_eq!(found, expected);
        }
        let ms = |ms| Some(Duration::from_millis(ms));
        check(|_| {}, None, &[]);
        check(|p| p.retries_max = 65, None, &[(Field::Retries, Severity::Error)]);
        check(|p| p.per_try_timeout = ms(100), Some(100), &[(Field::PerTryTimeout, Severity::Warning)]);
        check(|p| p.per_try_timeout = ms(40), Some(110), &[(Field::PerTryTimeout, Severity::Note)]);
        check(|p| p.per_try_timeout = ms(30), Some(90), &[]);
        let wait = |p: &mut RetryPolicy| {
            p.backoff = Backoff::Fixed { wait: Duration::from_millis(90), jitter_percent: 0 };
        };
        check(wait, Some(91), &[]);
        check(wait, Some(90), &[(Field::Backoff, Severity::Warning)]);
        check(|p| p.statuses = vec![600], None, &[(Field::Statuses, Severity::Error)]);
        check(|p| p.on = RetryOn::RETRIABLE_HEADERS, None, &[(Field::On, Severity::Warning)]);
        check(|p| p.backoff = Backoff::of_base(Duration::ZERO), None, &[(Field::Backoff, Severity::Error)]);
        check(|p| p.repeats = Repeats::Everything, None, &[(Field::Repeats, Severity::Warning)]);
        let quiet = |p: &mut RetryPolicy| (p.on, p.repeats) = (RetryOn::CONNECT_FAILURE, Repeats::Everything);
        check(quiet, None, &[]);
    }

    #[test]
    fn a_budget_is_said_in_percent() {
        assert_eq!(RetryBudget::of_percent(20.0, 3), Ok(RetryBudget::default()));
        assert_eq!(RetryBudget::of_percent(0.0001, 3).map(|b| b.share_ppm), Ok(1));
        assert!(RetryBudget::of_percent(100.1, 3).is_err() && RetryBudget::of_percent(f64::NAN, 3).is_err());
    }

    #[test]
    fn hedges_and_automatic_timeouts_are_checked() {
        assert!(Hedge::default().problems(None).is_empty());
        let hedge = Hedge { initial: 5, on_per_try_timeout: true, ..Hedge::default() };
        assert_eq!(hedge.problems(None).len(), 2);
        assert!(AutoTimeout::default().problems().is_empty());
        let none = AutoTimeout {
            quantile_permille: 1_000,
            factor_percent: 100,
            min: Duration::ZERO,
            ..AutoTimeout::default()
        };
        assert_eq!(none.problems().len(), 3);
    }
}
