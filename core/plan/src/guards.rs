//! What Istio's words about unfit endpoints mean.
//!
//! Source: istiod's `cluster_traffic_policy.go`, `applyOutlierDetection`.

use naru_resource::{DestinationRule, Number, destination_rule as rule};
use naru_spec::{OutlierDetection, Path, code, defaults};

use crate::findings::Findings;
use crate::registry::{Known, has_all};

/// A block turns the comparison of success rates off, and Envoy's five 5xx in a row on; a number of
/// zero turns its own test off.
pub(crate) fn detection(said: &rule::OutlierDetection) -> OutlierDetection {
    let mut settings = OutlierDetection::default();
    let enforcing = &mut settings.enforcing;
    enforcing.success_rate = 0;
    enforcing.local_origin_success_rate = 0;
    if let Some(count) = number(&said.consecutive_5xx_errors) {
        settings.consecutive_5xx = count;
        enforcing.consecutive_5xx = if count > 0 { 100 } else { 0 };
    }
    if let Some(count) = number(&said.consecutive_gateway_errors) {
        settings.consecutive_gateway_failure = count;
        enforcing.consecutive_gateway_failure = if count > 0 { 100 } else { 0 };
    }
    settings.split_external_local_origin_errors =
        said.split_external_local_origin_errors.as_ref().is_some_and(|flag| flag.value);
    if let Some(count) = number(&said.consecutive_local_origin_failures).filter(|count| *count > 0) {
        settings.consecutive_local_origin_failure = count;
    }
    if let Some(interval) = &said.interval {
        settings.interval = interval.value;
    }
    if let Some(time) = &said.base_ejection_time {
        settings.base_ejection_time = time.value;
        settings.max_ejection_time = time.value.max(defaults::MAX_EJECTION_TIME);
    }
    // Zero cannot be said: istiod takes it for nothing.
    if let Some(percent) = number(&said.max_ejection_percent).filter(|percent| *percent > 0) {
        settings.max_ejection_percent = percent;
    }
    settings
}

/// Where there is a block, all endpoints are asked in panic only if it says when.
pub(crate) fn panic_percent(said: &rule::OutlierDetection) -> u32 {
    number(&said.min_health_percent).unwrap_or(0)
}

fn number(said: &Option<Number>) -> Option<u32> {
    said.as_ref().map(|number| u32::try_from(number.value).unwrap_or(0))
}

/// Says where a rule would never eject anything: of all endpoints, or else of those of a subset.
pub(crate) fn check_ejections(rule: &DestinationRule, known: &Known, findings: &mut Findings<'_>) {
    let of = |policy: &Option<rule::TrafficPolicy>| -> Option<rule::OutlierDetection> {
        policy.as_ref()?.outlier_detection.clone()
    };
    let spec = Path::ROOT.field("spec");
    let whole = of(&rule.spec.traffic_policy);
    if let Some(said) = &whole {
        let path = spec.field("trafficPolicy.outlierDetection");
        if let Some(found) = detection(said).diagnosis(known.endpoints.len() as u32) {
            findings.warning(code::NO_EFFECT, said.place, &path, found.message, &found.hint);
            return;
        }
    }
    for (at, subset) in rule.spec.subsets.iter().enumerate() {
        let own = of(&subset.traffic_policy);
        let Some(said) = own.as_ref().or(whole.as_ref()) else { continue };
        let is_in = |endpoint: &&crate::registry::KnownEndpoint| has_all(&endpoint.labels, &subset.labels);
        let count = known.endpoints.iter().filter(is_in).count();
        if let Some(found) = detection(said).diagnosis(count as u32) {
            let subsets = spec.field("subsets");
            let subset_path = subsets.at(at);
            let own_path = subset_path.field("trafficPolicy.outlierDetection");
            let path = if own.is_some() { own_path } else { spec.field("trafficPolicy.outlierDetection") };
            let message = format!("in subset '{}', {}", subset.name.value, found.message);
            findings.warning(code::NO_EFFECT, said.place, &path, message, &found.hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(block: &str) -> (OutlierDetection, u32) {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\n\
             spec:\n  host: a\n  trafficPolicy:\n    outlierDetection: {block}\n"
        );
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", &text, &mut loaded);
        let policy = loaded.resources.destination_rules[0].spec.traffic_policy.as_ref().unwrap();
        let said = policy.outlier_detection.as_ref().unwrap();
        (detection(said), panic_percent(said))
    }

    #[test]
    fn an_empty_block_ejects_after_five_errors_at_ten_percent_and_never_panics() {
        let (settings, panic) = read("{}");
        assert_eq!((settings.consecutive_5xx, settings.enforcing.consecutive_5xx), (5, 100));
        assert_eq!(settings.enforcing.consecutive_gateway_failure, 0);
        assert_eq!((settings.enforcing.success_rate, settings.max_ejection_percent, panic), (0, 10, 0));
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn numbers_mean_what_istiod_makes_of_them() {
        let (settings, panic) = read(
            "{consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, baseEjectionTime: 400s, interval: 5s,\
             maxEjectionPercent: 0, minHealthPercent: 30, splitExternalLocalOriginErrors: true,\
             consecutiveLocalOriginFailures: 7}",
        );
        assert_eq!((settings.consecutive_5xx, settings.enforcing.consecutive_5xx), (0, 0));
        let gateway = (settings.consecutive_gateway_failure, settings.enforcing.consecutive_gateway_failure);
        assert_eq!(gateway, (3, 100));
        assert_eq!(settings.max_ejection_time, Duration::from_secs(400));
        assert_eq!((settings.interval, panic), (Duration::from_secs(5), 30));
        assert_eq!(settings.max_ejection_percent, 10, "zero is as if nothing were said");
        assert!(settings.split_external_local_origin_errors);
        assert_eq!(settings.consecutive_local_origin_failure, 7);
    }
}
