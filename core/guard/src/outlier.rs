//! Which endpoints answer so badly that they are not asked for a while?
//!
//! Between sweeps, failures in a row eject at once. A sweep, every `interval`, first lets those
//! return whose time is over, then compares the success rates and failure percentages of the last
//! interval, then lets what is remembered of ejections fade. An ejection lasts `base_ejection_time`
//! times the ejections that are remembered.
//!
//! Source: Envoy's `outlier_detection_impl.cc`. Different from there: endpoints are gone through in
//! the order of their keys, and one that both a success rate and a failure percentage eject in the
//! same sweep is ejected once. With split errors an answer keeps its status (Envoy takes every
//! failed one for a 503 then).

mod meter;

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::OutlierDetection;

use crate::{AttemptResult, Change, EndpointKey};
use meter::{Meter, Rated};

/// Why an endpoint is ejected. Envoy's `OutlierEjectionType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
}

impl Cause {
    pub const ALL: [Cause; 7] = [
        Cause::Consecutive5xx,
        Cause::ConsecutiveGatewayFailure,
        Cause::ConsecutiveLocalOriginFailure,
        Cause::SuccessRate,
        Cause::LocalOriginSuccessRate,
        Cause::FailurePercentage,
        Cause::LocalOriginFailurePercentage,
    ];

    /// As in Envoy's statistics: `ejections_enforced_<name>`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Consecutive5xx => "consecutive_5xx",
            Cause::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Cause::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Cause::SuccessRate => "success_rate",
            Cause::LocalOriginSuccessRate => "local_origin_success_rate",
            Cause::FailurePercentage => "failure_percentage",
            Cause::LocalOriginFailurePercentage => "local_origin_failure_percentage",
        }
    }

    fn enforcing(self, settings: &OutlierDetection) -> u32 {
        let enforcing = &settings.enforcing;
        match self {
            Cause::Consecutive5xx => enforcing.consecutive_5xx,
            Cause::ConsecutiveGatewayFailure => enforcing.consecutive_gateway_failure,
            Cause::ConsecutiveLocalOriginFailure => enforcing.consecutive_local_origin_failure,
            Cause::SuccessRate => enforcing.success_rate,
            Cause::LocalOriginSuccessRate => enforcing.local_origin_success_rate,
            Cause::FailurePercentage => enforcing.failure_percentage,
            Cause::LocalOriginFailurePercentage => enforcing.local_origin_failure_percentage,
        }
    }
}

/// Envoy's `cluster.<name>.outlier_detection.*`, without those that it has deprecated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutlierStats {
    pub ejections_active: u32,
    pub ejections_enforced_total: u64,
    /// What was detected, and could not be acted on: too many are ejected.
    pub ejections_overflow: u64,
    enforced: [u64; Cause::ALL.len()],
    detected: [u64; Cause::ALL.len()],
}

impl OutlierStats {
    pub fn enforced(&self, cause: Cause) -> u64 {
        self.enforced.get(cause as usize).copied().unwrap_or(0)
    }

    pub fn detected(&self, cause: Cause) -> u64 {
        self.detected.get(cause as usize).copied().unwrap_or(0)
    }
}

fn count(counts: &mut [u64], cause: Cause) {
    if let Some(count) = counts.get_mut(cause as usize) {
        *count = count.saturating_add(1);
    }
}

#[derive(Clone, Debug)]
pub struct Detector {
    settings: OutlierDetection,
    hosts: BTreeMap<EndpointKey, Host>,
    sweep: Instant,
    stats: OutlierStats,
    chance: Chance,
    /// At the last ejection: how many were ejected with it, of how many.
    last_share: Option<(u32, u32)>,
}

#[derive(Clone, Debug, Default)]
struct Host {
    consecutive_5xx: u32,
    consecutive_gateway: u32,
    consecutive_local: u32,
    external: Meter,
    local: Meter,
    ejection: Option<Ejection>,
    last_return: Option<Instant>,
    /// How many ejections are remembered.
    backoff: u32,
    times: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    since: Instant,
    jitter: Duration,
}

/// Which of an endpoint's two sides is looked at.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// What it answered.
    External,
    /// What the proxy saw of its connections.
    Local,
}

impl Detector {
    pub fn new(
        now: Instant,
        settings: OutlierDetection,
        endpoints: impl IntoIterator<Item = EndpointKey>,
        chance: Chance,
    ) -> Detector {
        let hosts = endpoints.into_iter().map(|endpoint| (endpoint, Host::default())).collect();
        Detector {
            sweep: now + interval(&settings),
            hosts,
            stats: OutlierStats::default(),
            chance,
            last_share: None,
            settings,
        }
    }

    pub fn settings(&self) -> &OutlierDetection {
        &self.settings
    }

    /// What is ejected stays so, by the new settings from the next sweep on.
    pub fn set_settings(&mut self, now: Instant, settings: OutlierDetection) {
        if settings != self.settings {
            self.sweep = self.sweep.min(now + interval(&settings));
            self.settings = settings;
            self.last_share = None;
        }
    }

    /// The endpoints are these now. One that stays keeps its state; one that goes gives its place
    /// among the ejected back.
    pub fn set_endpoints(&mut self, endpoints: impl IntoIterator<Item = EndpointKey>) {
        let mut before = std::mem::take(&mut self.hosts);
        for endpoint in endpoints {
            let host = before.remove(&endpoint).unwrap_or_default();
            self.hosts.entry(endpoint).or_insert(host);
        }
        let gone = before.values().filter(|host| host.ejection.is_some()).count();
        self.stats.ejections_active = self.stats.ejections_active.saturating_sub(gone as u32);
    }

    pub fn is_ejected(&self, endpoint: EndpointKey) -> bool {
        self.hosts.get(&endpoint).is_some_and(|host| host.ejection.is_some())
    }

    pub fn stats(&self) -> OutlierStats {
        self.stats
    }

    /// The success rate in percent of the last whole interval; `None` without requests.
    pub fn success_rate(&self, endpoint: EndpointKey) -> Option<f64> {
        self.hosts.get(&endpoint)?.external.rated().map(|rated| rated.success_rate)
    }

    /// An attempt is over. That of an endpoint which is no longer there is not counted.
    pub fn on_outcome(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        result: AttemptResult,
        changes: &mut Vec<Change>,
    ) {
        let is_split = self.settings.split_external_local_origin_errors;
        match result {
            AttemptResult::Answered { .. } => {
                if is_split {
                    self.on_connected(endpoint);
                }
                if let Some(status) = result.status_of_answer() {
                    self.on_status(now, endpoint, self.counted_status(status), changes);
                }
            }
            AttemptResult::ConnectFailed | AttemptResult::Aborted if is_split => {
                self.on_local_failure(now, endpoint, changes)
            }
            // The connection was made, which is a success, before it failed.
            AttemptResult::Reset | AttemptResult::TimedOut { is_connected: true } if is_split => {
                self.on_connected(endpoint);
                self.on_local_failure(now, endpoint, changes);
            }
            AttemptResult::ConnectFailed | AttemptResult::Reset | AttemptResult::Aborted => {
                self.on_status(now, endpoint, 503, changes);
            }
            AttemptResult::TimedOut { is_connected: true } => {
                self.on_status(now, endpoint, 504, changes);
            }
            // Without a connection Envoy's router knows of no endpoint to blame.
            AttemptResult::TimedOut { is_connected: false } | AttemptResult::Abandoned => {}
        }
    }

    /// What an answer counts as where somebody says which are errors. Source: Envoy's router with
    /// an `error_matcher`.
    fn counted_status(&self, status: u16) -> u16 {
        let Some(errors) = &self.settings.error_statuses else { return status };
        match errors.iter().any(|range| range.has(status)) {
            true if is_server_error(status) => status,
            true => 500,
            false => 200,
        }
    }

    fn on_status(&mut self, now: Instant, endpoint: EndpointKey, status: u16, changes: &mut Vec<Change>) {
        let (most_5xx, most_gateway) =
            (self.settings.consecutive_5xx, self.settings.consecutive_gateway_failure);
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        host.external.record(!is_server_error(status));
        if !is_server_error(status) {
            host.consecutive_5xx = 0;
            host.consecutive_gateway = 0;
            return;
        }
        if matches!(status, 502..=504) {
            host.consecutive_gateway = host.consecutive_gateway.saturating_add(1);
            if host.consecutive_gateway == most_gateway {
                self.on_consecutive(now, endpoint, Cause::ConsecutiveGatewayFailure, changes);
            }
        } else {
            host.consecutive_gateway = 0;
        }
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        host.consecutive_5xx = host.consecutive_5xx.saturating_add(1);
        if host.consecutive_5xx == most_5xx {
            self.on_consecutive(now, endpoint, Cause::Consecutive5xx, changes);
        }
    }

    fn on_connected(&mut self, endpoint: EndpointKey) {
        if let Some(host) = self.hosts.get_mut(&endpoint) {
            host.local.record(true);
            host.consecutive_local = 0;
        }
    }

    fn on_local_failure(&mut self, now: Instant, endpoint: EndpointKey, changes: &mut Vec<Change>) {
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        host.local.record(false);
        host.consecutive_local = host.consecutive_local.saturating_add(1);
        if host.consecutive_local == self.settings.consecutive_local_origin_failure {
            self.on_consecutive(now, endpoint, Cause::ConsecutiveLocalOriginFailure, changes);
        }
    }

    /// The run ends here, whether or not it led to an ejection. It goes on where the endpoint is
    /// ejected already: then it is beyond its threshold until something succeeds.
    fn on_consecutive(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        cause: Cause,
        changes: &mut Vec<Change>,
    ) {
        if self.is_ejected(endpoint) {
            return;
        }
        self.detect(now, endpoint, cause, changes);
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        match cause {
            Cause::ConsecutiveGatewayFailure => host.consecutive_gateway = 0,
            Cause::ConsecutiveLocalOriginFailure => host.consecutive_local = 0,
            Cause::Consecutive5xx
            | Cause::SuccessRate
            | Cause::LocalOriginSuccessRate
            | Cause::FailurePercentage
            | Cause::LocalOriginFailurePercentage => host.consecutive_5xx = 0,
        }
    }

    /// An outlier was found: it is ejected, where the share of the ejected and chance allow it.
    fn detect(&mut self, now: Instant, endpoint: EndpointKey, cause: Cause, changes: &mut Vec<Change>) {
        count(&mut self.stats.detected, cause);
        let (active, all) = (self.stats.ejections_active, self.hosts.len() as u32);
        let Some(host) = self.hosts.get_mut(&endpoint).filter(|host| host.ejection.is_none()) else {
            return;
        };
        if !self.settings.may_eject(active, all) {
            self.stats.ejections_overflow = self.stats.ejections_overflow.saturating_add(1);
            return;
        }
        if self.chance.below(100) >= u64::from(cause.enforcing(&self.settings)) {
            changes.push(Change::Spared { endpoint, cause });
            return;
        }
        count(&mut self.stats.enforced, cause);
        self.stats.ejections_enforced_total = self.stats.ejections_enforced_total.saturating_add(1);
        self.stats.ejections_active = active.saturating_add(1);
        self.last_share = Some((self.stats.ejections_active, all));
        let most_jitter = self.settings.max_ejection_time_jitter.as_millis();
        let most_jitter = u64::try_from(most_jitter).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.chance.below(most_jitter.saturating_add(1)));
        host.times = host.times.saturating_add(1);
        let (base, max) = (self.settings.base_ejection_time, self.settings.max_ejection_time);
        if base.saturating_mul(host.backoff) < max.saturating_add(base) {
            host.backoff = host.backoff.saturating_add(1);
        }
        host.ejection = Some(Ejection { since: now, jitter });
        let until = now + ejection_time(&self.settings, host.backoff, jitter);
        changes.push(Change::Ejected { endpoint, cause, until, times: host.times });
    }

    /// An active health check passed, and the endpoint is healthy by it.
    pub fn on_healthy(&mut self, now: Instant, endpoint: EndpointKey, changes: &mut Vec<Change>) {
        if self.settings.successful_active_health_check_uneject_host && self.is_ejected(endpoint) {
            self.let_return(now, endpoint, changes);
        }
    }

    fn let_return(&mut self, now: Instant, endpoint: EndpointKey, changes: &mut Vec<Change>) {
        let Some(host) = self.hosts.get_mut(&endpoint) else { return };
        self.stats.ejections_active = self.stats.ejections_active.saturating_sub(1);
        host.ejection = None;
        host.last_return = Some(now);
        host.consecutive_5xx = 0;
        host.consecutive_gateway = 0;
        host.consecutive_local = 0;
        changes.push(Change::Returned { endpoint });
    }

    /// When to [`Detector::tick`] at the latest.
    pub fn deadline(&self) -> Instant {
        self.sweep
    }

    /// Sweeps, where it is time.
    pub fn tick(&mut self, now: Instant, changes: &mut Vec<Change>) {
        if now < self.sweep {
            return;
        }
        self.sweep = now + interval(&self.settings);
        let is_over = |host: &Host| {
            host.ejection.is_some_and(|ejection| {
                now.since(ejection.since) >= ejection_time(&self.settings, host.backoff, ejection.jitter)
            })
        };
        let over: Vec<EndpointKey> =
            self.hosts.iter().filter(|(_, host)| is_over(host)).map(|(endpoint, _)| *endpoint).collect();
        for endpoint in over {
            self.let_return(now, endpoint, changes);
        }
        for host in self.hosts.values_mut() {
            host.external.end_interval();
            host.local.end_interval();
        }
        self.compare(now, Origin::External, changes);
        self.compare(now, Origin::Local, changes);
        let interval = self.settings.interval;
        for host in self.hosts.values_mut().filter(|host| host.ejection.is_none()) {
            if host.last_return.is_some_and(|returned| now.since(returned) >= interval) {
                host.backoff = host.backoff.saturating_sub(1);
            }
        }
    }

    /// Success rates and failure percentages of what is not ejected.
    fn compare(&mut self, now: Instant, origin: Origin, changes: &mut Vec<Change>) {
        let (by_rate, by_percentage) = (self.settings.success_rate, self.settings.failure_percentage);
        let all = self.hosts.len() as u64;
        if all < u64::from(by_rate.minimum_hosts) && all < u64::from(by_percentage.minimum_hosts) {
            return;
        }
        let rated: Vec<(EndpointKey, Rated)> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.ejection.is_none())
            .filter_map(|(endpoint, host)| Some((*endpoint, host.meter(origin).rated()?)))
            .collect();
        let (rate_cause, percentage_cause) = match origin {
            Origin::External => (Cause::SuccessRate, Cause::FailurePercentage),
            Origin::Local => (Cause::LocalOriginSuccessRate, Cause::LocalOriginFailurePercentage),
        };
        let outliers = meter::below_deviation(&rated, by_rate);
        for endpoint in outliers {
            self.detect(now, endpoint, rate_cause, changes);
        }
        let outliers = meter::above_percentage(&rated, by_percentage);
        for endpoint in outliers {
            self.detect(now, endpoint, percentage_cause, changes);
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let ejected = self.hosts.values().filter(|host| host.ejection.is_some()).count();
        if ejected != self.stats.ejections_active as usize {
            return Err("the count of the ejected is not their number");
        }
        if self.hosts.values().any(|host| host.ejection.is_some() && host.backoff == 0) {
            return Err("ejected, and nothing is remembered of it");
        }
        let is_allowed = |(active, all): (u32, u32)| self.settings.may_eject(active.saturating_sub(1), all);
        if !self.last_share.is_none_or(is_allowed) {
            return Err("more were ejected than may be");
        }
        Ok(())
    }
}

impl Host {
    fn meter(&self, origin: Origin) -> &Meter {
        match origin {
            Origin::External => &self.external,
            Origin::Local => &self.local,
        }
    }
}

fn is_server_error(status: u16) -> bool {
    (500..600).contains(&status)
}

fn ejection_time(settings: &OutlierDetection, backoff: u32, jitter: Duration) -> Duration {
    let time = settings.base_ejection_time.saturating_mul(backoff).min(settings.max_ejection_time);
    time.saturating_add(jitter)
}

/// Sweeps without a pause would never end.
fn interval(settings: &OutlierDetection) -> Duration {
    settings.interval.max(Duration::from_millis(1))
}
