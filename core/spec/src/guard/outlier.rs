//! Ejection of endpoints that answer worse than they should: Envoy's `OutlierDetection`.

use std::time::Duration;

use super::{StatusRange, lasting, percentage};
use crate::{Invalid, defaults};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// So many 5xx in a row; 0 never.
    pub consecutive_5xx: u32,
    /// So many 502, 503 or 504 in a row; 0 never.
    pub consecutive_gateway_failure: u32,
    /// So many connections in a row that could not be made or broke; 0 never. Counted only with
    /// `split_external_local_origin_errors`.
    pub consecutive_local_origin_failure: u32,
    /// Failures that the proxy saw are counted apart from errors that the endpoint answered.
    /// Without it, they count as 503, and a timeout as 504.
    pub split_external_local_origin_errors: bool,
    /// Which answers count as errors, instead of 5xx.
    pub error_statuses: Option<Vec<StatusRange>>,
    /// Between two sweeps.
    pub interval: Duration,
    /// Of the first ejection; each further one lasts this much longer.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer, jitter apart.
    pub max_ejection_time: Duration,
    /// Up to this much is added to each ejection.
    pub max_ejection_time_jitter: Duration,
    pub max_ejection_percent: u32,
    /// One endpoint may be ejected whatever the percentage says.
    pub always_eject_one_host: bool,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
    pub enforcing: Enforcing,
    /// An active health check that passes ends an ejection.
    pub successful_active_health_check_uneject_host: bool,
}

/// An endpoint whose success rate is far below the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// With fewer endpoints that have enough requests nothing is decided.
    pub minimum_hosts: u32,
    /// Requests in one interval that are enough.
    pub request_volume: u32,
    /// How many standard deviations are far, in thousandths.
    pub stdev_factor: u32,
}

/// An endpoint that fails at least so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// Percent.
    pub threshold: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

/// How often, in percent, what was detected is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing {
    pub consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub consecutive_local_origin_failure: u32,
    pub success_rate: u32,
    pub local_origin_success_rate: u32,
    pub failure_percentage: u32,
    pub local_origin_failure_percentage: u32,
}

impl Default for OutlierDetection {
    fn default() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: defaults::CONSECUTIVE_FAILURES,
            consecutive_gateway_failure: defaults::CONSECUTIVE_FAILURES,
            consecutive_local_origin_failure: defaults::CONSECUTIVE_FAILURES,
            split_external_local_origin_errors: false,
            error_statuses: None,
            interval: defaults::OUTLIER_INTERVAL,
            base_ejection_time: defaults::BASE_EJECTION_TIME,
            max_ejection_time: defaults::MAX_EJECTION_TIME,
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: defaults::MAX_EJECTION_PERCENT,
            always_eject_one_host: false,
            success_rate: SuccessRate {
                minimum_hosts: defaults::SUCCESS_RATE_MINIMUM_HOSTS,
                request_volume: defaults::SUCCESS_RATE_REQUEST_VOLUME,
                stdev_factor: defaults::SUCCESS_RATE_STDEV_FACTOR,
            },
            failure_percentage: FailurePercentage {
                threshold: defaults::FAILURE_PERCENTAGE_THRESHOLD,
                minimum_hosts: defaults::FAILURE_PERCENTAGE_MINIMUM_HOSTS,
                request_volume: defaults::FAILURE_PERCENTAGE_REQUEST_VOLUME,
            },
            enforcing: Enforcing {
                consecutive_5xx: 100,
                consecutive_gateway_failure: 0,
                consecutive_local_origin_failure: 100,
                success_rate: 100,
                local_origin_success_rate: 100,
                failure_percentage: 0,
                local_origin_failure_percentage: 0,
            },
            successful_active_health_check_uneject_host: true,
        }
    }
}

impl OutlierDetection {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        lasting("the interval of outlier detection", self.interval, &mut found);
        lasting("the base ejection time", self.base_ejection_time, &mut found);
        if self.max_ejection_time < self.base_ejection_time {
            found.push(
                Invalid::new("the longest ejection is shorter than the first one")
                    .hint("raise max_ejection_time, or lower base_ejection_time"),
            );
        }
        percentage("the largest part that may be ejected", self.max_ejection_percent, &mut found);
        percentage("the failure percentage", self.failure_percentage.threshold, &mut found);
        let enforcing = &self.enforcing;
        for (name, value) in [
            ("enforcing consecutive 5xx", enforcing.consecutive_5xx),
            ("enforcing consecutive gateway failures", enforcing.consecutive_gateway_failure),
            ("enforcing consecutive local origin failures", enforcing.consecutive_local_origin_failure),
            ("enforcing the success rate", enforcing.success_rate),
            ("enforcing the success rate of local origin", enforcing.local_origin_success_rate),
            ("enforcing the failure percentage", enforcing.failure_percentage),
            ("enforcing the failure percentage of local origin", enforcing.local_origin_failure_percentage),
        ] {
            percentage(name, value, &mut found);
        }
        found
    }
}
