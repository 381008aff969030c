//! When an endpoint, or a whole service, is no longer asked: ejection, health checks, circuit
//! breaker, and what is answered instead.
//!
//! Sources: Envoy's `cluster/v3/outlier_detection.proto`, `core/v3/health_check.proto` and
//! `common_lb_config.healthy_panic_threshold`; Resilience4j's `CircuitBreakerConfig`. Fields keep
//! their names where these have a good one. What they do stands in `naru-guard`.

mod breaker;
mod fallback;
mod health;
mod limit;
mod outlier;

pub use breaker::{AfterHalfOpen, BreakerState, CallFailures, CircuitBreaker, Recorded, WaitInOpen, Window};
pub use fallback::{Fallback, FallbackAnswer, FallbackOn, FallbackStep};
pub use health::{GrpcCheck, HealthCheck, HttpCheck, Probe, TcpCheck};
pub use outlier::{Enforcing, FailurePercentage, OutlierDetection, SuccessRate};

use crate::limits::Fault;
use crate::{Invalid, defaults};

/// All that guards one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardSettings {
    pub outlier_detection: Option<OutlierDetection>,
    pub health_check: Option<HealthCheck>,
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Where less than this percentage of the endpoints is fit, all are asked as if all were; 0
    /// never does so.
    pub panic_percent: u32,
}

impl Default for GuardSettings {
    /// Envoy's: nothing is watched, and half must be fit.
    fn default() -> GuardSettings {
        GuardSettings {
            outlier_detection: None,
            health_check: None,
            circuit_breaker: None,
            panic_percent: defaults::PANIC_PERCENT,
        }
    }
}

/// Which part of the settings a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuardPart {
    Panic,
    OutlierDetection,
    HealthCheck,
    CircuitBreaker,
}

impl GuardSettings {
    /// Whether anything is to be told what becomes of attempts.
    pub fn is_active(&self) -> bool {
        self.outlier_detection.is_some() || self.health_check.is_some() || self.circuit_breaker.is_some()
    }

    /// What contradicts itself or cannot be.
    pub fn problems(&self) -> Vec<(GuardPart, Invalid)> {
        let mut of_panic = Vec::new();
        percentage("the panic threshold", self.panic_percent, &mut of_panic);
        let of_detection = self.outlier_detection.as_ref().map(OutlierDetection::problems);
        let told = |faults: Vec<Fault>| faults.into_iter().map(|(_, invalid)| invalid).collect::<Vec<_>>();
        let of_check = self.health_check.as_ref().map(|check| told(check.problems()));
        let of_breaker = self.circuit_breaker.as_ref().map(|breaker| told(breaker.problems()));
        let parts = [
            (GuardPart::Panic, of_panic),
            (GuardPart::OutlierDetection, of_detection.unwrap_or_default()),
            (GuardPart::HealthCheck, of_check.unwrap_or_default()),
            (GuardPart::CircuitBreaker, of_breaker.unwrap_or_default()),
        ];
        let told =
            parts.into_iter().map(|(part, found)| found.into_iter().map(move |invalid| (part, invalid)));
        told.flatten().collect()
    }
}

/// Statuses from `start` up to, but without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusRange {
    start: u16,
    end: u16,
}

impl StatusRange {
    /// Within 100 to 600, and not empty.
    pub fn new(start: u16, end: u16) -> Result<StatusRange, Invalid> {
        if start < 100 || end > 600 || start >= end {
            let message = format!("{start} to {end} is no range of statuses");
            return Err(Invalid::new(message)
                .hint("a range begins at 100 or above, ends at 600 or below, and ends after it begins"));
        }
        Ok(StatusRange { start, end })
    }

    pub const SERVER_ERRORS: StatusRange = StatusRange { start: 500, end: 600 };
    pub const OK: StatusRange = StatusRange { start: 200, end: 201 };

    pub fn start(self) -> u16 {
        self.start
    }

    /// The first status that is not in it.
    pub fn end(self) -> u16 {
        self.end
    }

    pub fn has(self, status: u16) -> bool {
        (self.start..self.end).contains(&status)
    }
}

/// A percentage to a hundredth, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    hundredths: u32,
}

impl Percent {
    pub const ALL: Percent = Percent { hundredths: 10_000 };

    pub fn of_hundredths(hundredths: u32) -> Result<Percent, Invalid> {
        if hundredths > Percent::ALL.hundredths {
            return Err(Invalid::new("more than 100 percent"));
        }
        Ok(Percent { hundredths })
    }

    /// More than 100 is 100.
    pub const fn whole(percent: u32) -> Percent {
        Percent { hundredths: if percent > 100 { 10_000 } else { percent * 100 } }
    }

    pub fn hundredths(self) -> u32 {
        self.hundredths
    }

    /// Whether `part` of `all` is this much or more. Exact.
    pub fn is_reached_by(self, part: u32, all: u32) -> bool {
        u64::from(part) * 10_000 >= u64::from(self.hundredths) * u64::from(all)
    }
}

fn percentage(name: &str, value: u32, found: &mut Vec<Invalid>) {
    if value > 100 {
        found.push(Invalid::new(format!("{name} is {value} percent")).hint("at most 100 are allowed"));
    }
}

/// The same of a field.
fn lasts(field: &'static str, name: &str, value: std::time::Duration, found: &mut Vec<Fault>) {
    let mut of_field = Vec::new();
    lasting(name, value, &mut of_field);
    found.extend(of_field.into_iter().map(|invalid| (field, invalid)));
}

fn lasting(name: &str, value: std::time::Duration, found: &mut Vec<Invalid>) {
    if value.is_zero() {
        found.push(Invalid::new(format!("{name} is zero")).hint("it must last"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_percentage_is_reached_exactly() {
        let half = Percent::whole(50);
        assert!(half.is_reached_by(5, 10) && !half.is_reached_by(4, 9) && half.is_reached_by(0, 0));
        assert!(!Percent::of_hundredths(3_334).unwrap().is_reached_by(1, 3));
        assert!(Percent::of_hundredths(3_333).unwrap().is_reached_by(1, 3));
        assert!(Percent::of_hundredths(10_001).is_err());
    }

    #[test]
    fn ranges_of_statuses_are_half_open() {
        let range = StatusRange::new(200, 202).unwrap();
        assert!(range.has(200) && range.has(201) && !range.has(202) && !range.has(199));
        for (start, end) in [(99, 200), (200, 200), (300, 200), (500, 601)] {
            assert!(StatusRange::new(start, end).is_err(), "{start} {end}");
        }
    }

    #[test]
    fn defaults_are_valid_and_all_problems_are_told_at_once() {
        let mut settings = GuardSettings {
            outlier_detection: Some(OutlierDetection::default()),
            health_check: Some(HealthCheck::new(
                Duration::from_secs(1),
                Duration::from_secs(5),
                Probe::Tcp(TcpCheck::default()),
            )),
            circuit_breaker: Some(CircuitBreaker::default()),
            ..GuardSettings::default()
        };
        assert_eq!(settings.problems(), Vec::new());
        settings.panic_percent = 101;
        let detection = settings.outlier_detection.as_mut().unwrap();
        detection.base_ejection_time = Duration::from_secs(301);
        detection.max_ejection_percent = 200;
        settings.health_check.as_mut().unwrap().unhealthy_threshold = 0;
        settings.circuit_breaker.as_mut().unwrap().trial_calls = 0;
        let said: Vec<String> = settings.problems().into_iter().map(|(_, invalid)| invalid.message).collect();
        assert_eq!(said.len(), 5, "{said:#?}");
    }
}
