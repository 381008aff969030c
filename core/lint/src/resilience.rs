//! What of timeouts, retries, failover and CORS says less than its author means.

use std::time::Duration;

use naru_resource::destination_rule::{LoadBalancer, OutlierDetection};
use naru_resource::virtual_service::HttpRoute;
use naru_resource::{DestinationRule, Test};

use crate::world::World;
use crate::{About, Found};

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for service in &world.resources.virtual_services {
        let about = About { kind: "VirtualService", meta: &service.meta };
        for (at, route) in service.spec.http.iter().enumerate() {
            tries(route, at, about, found);
            cors(route, at, about, found);
        }
    }
    for rule in &world.resources.destination_rules {
        failover(rule, found);
    }
}

/// tries-longer-than-timeout.
fn tries(route: &HttpRoute, at: usize, about: About<'_>, found: &mut Found) {
    let (Some(timeout), Some(retries)) = (&route.timeout, &route.retries) else { return };
    let (Some(each), attempts) = (&retries.per_try_timeout, retries.attempts.as_ref()) else { return };
    let calls = attempts.map_or(2, |attempts| attempts.value).clamp(0, 1_000) + 1;
    let all = each.value.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX));
    if timeout.value == Duration::ZERO || timeout.value >= all || calls < 2 {
        return;
    }
    let message = format!(
        "{calls} tries of {:?} each take {all:?}, and the timeout of the whole is {:?}",
        each.value, timeout.value
    );
    let hint = "the last of them never end; make the timeout longer, or the tries fewer or shorter";
    found.tell(
        "tries-longer-than-timeout",
        about,
        timeout.place,
        format!("spec.http[{at}].timeout"),
        message,
        hint,
    );
}

/// cors-any-origin.
fn cors(route: &HttpRoute, at: usize, about: About<'_>, found: &mut Found) {
    let Some(cors) = &route.cors_policy else { return };
    if !cors.allow_credentials.is_some_and(|flag| flag.value) {
        return;
    }
    let any = cors.allow_origins.iter().find(|origin| match &origin.test {
        Test::Exact(text) => text == "*",
        Test::Prefix(text) => matches!(text.as_str(), "" | "http" | "https" | "http://" | "https://"),
        Test::Regex(text) => {
            let text = text.trim_start_matches('^').trim_end_matches('$');
            matches!(text, ".*" | ".+" | "https?://.*" | "https?://.+" | "https://.*" | "http://.*")
        }
        Test::Present => true,
        // Of paths only.
        Test::Segments(_) => false,
    });
    if let Some(any) = any {
        let message = "any site may ask with the user's cookies, and read the answer";
        let path = format!("spec.http[{at}].corsPolicy.allowOrigins");
        found.tell("cors-any-origin", about, any.place, path, message, "name the origins");
    }
}

/// failover-without-detection.
fn failover(rule: &DestinationRule, found: &mut Found) {
    let about = About { kind: "DestinationRule", meta: &rule.meta };
    let Some(policy) = &rule.spec.traffic_policy else { return };
    let ports = policy.port_level_settings.iter().enumerate().map(|(at, port)| {
        let path = format!("spec.trafficPolicy.portLevelSettings[{at}].loadBalancer.localityLbSetting");
        (path, port.load_balancer.as_ref(), port.outlier_detection.as_ref())
    });
    let whole = (
        "spec.trafficPolicy.loadBalancer.localityLbSetting".to_owned(),
        policy.load_balancer.as_ref(),
        policy.outlier_detection.as_ref(),
    );
    let subsets = rule.spec.subsets.iter().enumerate().filter_map(|(at, subset)| {
        let own = subset.traffic_policy.as_ref()?;
        let path = format!("spec.subsets[{at}].trafficPolicy.loadBalancer.localityLbSetting");
        let detection = own.outlier_detection.as_ref().or(policy.outlier_detection.as_ref());
        Some((path, own.load_balancer.as_ref(), detection))
    });
    for (path, balancer, detection) in std::iter::once(whole).chain(ports).chain(subsets) {
        one(path, balancer, detection, about, found);
    }
}

fn one(
    path: String,
    balancer: Option<&LoadBalancer>,
    detection: Option<&OutlierDetection>,
    about: About<'_>,
    found: &mut Found,
) {
    let Some(setting) = balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref()) else { return };
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if fails_over && detection.is_none() {
        let message = "failover is said, and nobody finds out that a locality fails";
        let hint = "say outlierDetection beside it: in Istio nothing fails over without it";
        found.tell("failover-without-detection", about, setting.place, path, message, hint);
    }
}
