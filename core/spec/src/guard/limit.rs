//! How many endpoints may be ejected?
//!
//! Source: Envoy's `DetectorImpl::ejectHost`: with this one, no more than `max_ejection_percent` of
//! all; `always_eject_one_host` lets the first go in any case. So the default of 10 percent ejects
//! nothing of fewer than ten.

use super::OutlierDetection;
use crate::Invalid;

impl OutlierDetection {
    /// Whether one more may go, of `all`, where `active` are ejected.
    pub fn may_eject(&self, active: u32, all: u32) -> bool {
        let percent = u64::from(self.max_ejection_percent.min(100));
        let is_first = self.always_eject_one_host && active == 0;
        is_first || 100 * (u64::from(active) + 1) <= percent * u64::from(all)
    }

    /// How many of `endpoints` may be ejected at the same time.
    pub fn ejectable(&self, endpoints: u32) -> u32 {
        let percent = u64::from(self.max_ejection_percent.min(100));
        let by_percent = (percent * u64::from(endpoints) / 100) as u32;
        if self.always_eject_one_host { by_percent.max(1).min(endpoints) } else { by_percent }
    }

    /// What is to be said of these settings where there are `endpoints`: that nothing is ever
    /// ejected.
    pub fn diagnosis(&self, endpoints: u32) -> Option<Invalid> {
        if !detects_anything(self) {
            let message = "outlier detection is there, and nothing that it detects is acted on";
            let hint = "say how many consecutive 5xx errors eject an endpoint";
            return Some(Invalid::new(message).hint(hint));
        }
        if self.ejectable(endpoints) > 0 || endpoints == 0 {
            return None;
        }
        let percent = self.max_ejection_percent.min(100);
        if endpoints == 1 {
            let message = format!("the only endpoint is never ejected: one of one is more than {percent} %");
            let hint = match percent {
                0 => "raise maxEjectionPercent, and have another endpoint".to_owned(),
                _ => format!("of {} endpoints, one could be", 100_u32.div_ceil(percent)),
            };
            return Some(Invalid::new(message).hint(hint));
        }
        let message = format!(
            "no endpoint is ever ejected: one of {endpoints} is {} %, and at most {percent} % may be",
            share(endpoints)
        );
        let least = 100_u32.div_ceil(endpoints);
        Some(Invalid::new(message).hint(format!("maxEjectionPercent: {least} would allow one")))
    }
}

/// One of `endpoints` in percent, to a tenth where it is not whole.
fn share(endpoints: u32) -> String {
    let tenths = (1_000 + endpoints / 2) / endpoints.max(1);
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        rest => format!("{}.{rest}", tenths / 10),
    }
}

fn detects_anything(settings: &OutlierDetection) -> bool {
    let enforcing = &settings.enforcing;
    let is_split = settings.split_external_local_origin_errors;
    let in_a_row = [
        (settings.consecutive_5xx, enforcing.consecutive_5xx, true),
        (settings.consecutive_gateway_failure, enforcing.consecutive_gateway_failure, true),
        (settings.consecutive_local_origin_failure, enforcing.consecutive_local_origin_failure, is_split),
    ];
    let by_sweep = [
        (enforcing.success_rate, true),
        (enforcing.failure_percentage, true),
        (enforcing.local_origin_success_rate, is_split),
        (enforcing.local_origin_failure_percentage, is_split),
    ];
    in_a_row.iter().any(|(most, percent, acts)| *most > 0 && *percent > 0 && *acts)
        || by_sweep.iter().any(|(percent, acts)| *percent > 0 && *acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(max_ejection_percent: u32, always_eject_one_host: bool) -> OutlierDetection {
        OutlierDetection { max_ejection_percent, always_eject_one_host, ..OutlierDetection::default() }
    }

    #[test]
    fn so_many_may_be_ejected() {
        let check = |percent, always, endpoints, expected| {
            let settings = settings(percent, always);
            assert_eq!(settings.ejectable(endpoints), expected, "{percent} % of {endpoints}, {always}");
            // As many as one after another may go.
            let by_steps = (0..endpoints).take_while(|active| settings.may_eject(*active, endpoints));
            assert_eq!(by_steps.count() as u32, expected);
        };
        check(50, false, 1, 0);
        check(50, false, 2, 1);
        check(50, false, 3, 1);
        check(50, false, 4, 2);
        check(10, false, 9, 0);
        check(10, false, 10, 1);
        check(10, false, 19, 1);
        check(10, true, 1, 1);
        check(10, true, 3, 1);
        check(0, false, 100, 0);
        check(0, true, 100, 1);
        check(100, false, 3, 3);
        check(500, false, 3, 3);
        check(33, false, 3, 0);
        check(34, false, 3, 1);
        check(100, true, 0, 0);
    }

    #[test]
    fn a_small_cluster_is_told_that_nothing_is_ever_ejected() {
        let said = |percent, endpoints| settings(percent, false).diagnosis(endpoints);
        let invalid = said(10, 3).unwrap();
        assert_eq!(
            invalid.message,
            "no endpoint is ever ejected: one of 3 is 33.3 %, and at most 10 % may be"
        );
        assert_eq!(invalid.hint, "maxEjectionPercent: 34 would allow one");
        assert_eq!(
            said(50, 1).unwrap().message,
            "the only endpoint is never ejected: one of one is more than 50 %"
        );
        assert_eq!(said(50, 1).unwrap().hint, "of 2 endpoints, one could be");
        assert_eq!((said(34, 3), said(10, 10), said(10, 0)), (None, None, None));
        assert_eq!(settings(10, true).diagnosis(1), None);
        let mut blind = settings(100, false);
        blind.enforcing.success_rate = 0;
        blind.consecutive_5xx = 0;
        assert!(blind.diagnosis(3).unwrap().message.contains("nothing that it detects"));
    }
}
