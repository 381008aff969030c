//! Our own words for what is done after a failure: classes of retries, and what a `TrafficPolicy` adds to a route.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, header};
use naru_resource::traffic_policy::{
    PolicyAutoTimeout, PolicyComparison, PolicyFaultScope, PolicyHedge, PolicyMirror, PolicyMirrorWrites,
    PolicyRetry, Retry, RetryAfter, UnsafeRequests,
};
use naru_resource::virtual_service::HttpRoute;
use naru_resource::{Place, Placed, Resources, Text, TrafficPolicy};
use naru_spec::recover::{Field, retries_of};
use naru_spec::{
    AutoTimeout, Backoff, Comparison, FaultScope, Forward, Hedge, Mirror, MirrorWrites, Path,
    RateLimitedBackoff, Repeats, ResetFormat, ResetHeader, RetryClass, RetryOn, RetryPolicy, Severity, code,
    defaults,
};

use crate::account::{Account, Idle};
use crate::attached::Additions;
use crate::findings::Findings;
use crate::recovery::{conditions, percent_of};

/// `Retry` documents by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Classes(BTreeMap<(String, String), RetryPolicy>);

impl Classes {
    pub fn of(resources: &Resources, findings: &mut Findings<'_>) -> Classes {
        let mut classes = Classes::default();
        for retry in &resources.retries {
            let key = (retry.meta.namespace().to_owned(), retry.meta.name.value.clone());
            classes.0.insert(key, class_of(retry, findings));
        }
        classes
    }

    /// A document of that name, or one of naru's own classes.
    fn find(&self, namespace: &str, name: &str) -> Option<RetryPolicy> {
        let own = self.0.get(&(namespace.to_owned(), name.to_owned())).cloned();
        own.or_else(|| RetryClass::named(name).map(RetryPolicy::of_class))
    }

    fn hint(&self, namespace: &str) -> String {
        let own = self.0.keys().filter(|(of, _)| of == namespace).map(|(_, name)| name.as_str());
        let names: Vec<&str> = RetryClass::ALL.iter().map(|(name, _)| *name).chain(own).collect();
        format!("one of {}", names.join(", "))
    }
}

fn class_of(retry: &Retry, findings: &mut Findings<'_>) -> RetryPolicy {
    let spec = &retry.spec;
    let path = Path::ROOT.field("spec");
    let mut policy = RetryPolicy::of_class(RetryClass::Default);
    if let Some(said) = &spec.max_attempts {
        match u32::try_from(said.value) {
            Ok(calls) if calls > 0 => policy.retries_max = retries_of(calls),
            _ => {
                let message = format!("{} cannot be a number of calls", said.value);
                let hint = "the first call counts, too: 1 retries nothing";
                findings.error(code::INVALID_VALUE, said.place, &path.field("maxAttempts"), message, hint);
            }
        }
    }
    if let Some(backoff) = backoff_of(retry, &path, findings) {
        policy.backoff = backoff;
    }
    if let Some(said) = &spec.retry_on {
        (policy.on, policy.statuses) = conditions(said, &path.field("retryOn"), findings);
        if policy.on.contains(RetryOn::RETRIABLE_HEADERS) {
            let message = "no header is named that could be retried for";
            findings.error(code::INVALID_VALUE, said.place, &path.field("retryOn"), message, "");
        }
    }
    policy.per_try_timeout = spec.per_try_timeout.map(|timeout| timeout.value);
    policy.rate_limited = spec.retry_after.as_ref().map(|said| retry_after(said, &path, findings));
    for (field, severity, invalid) in policy.problems(None) {
        let (place, name) = match field {
            Field::Retries => (place_of(&spec.max_attempts), "maxAttempts"),
            Field::PerTryTimeout => (place_of(&spec.per_try_timeout), "perTryTimeout"),
            Field::Statuses => (place_of(&spec.retry_on), "retryOn"),
            Field::Backoff => (None, ""),
            Field::On | Field::RateLimited | Field::Repeats => continue,
        };
        let code = if severity == Severity::Error { code::INVALID_VALUE } else { code::NO_EFFECT };
        let path = if name.is_empty() { path } else { path.field(name) };
        findings.tell(severity, code, place.unwrap_or(spec.place), &path, invalid.message, invalid.hint);
    }
    policy
}

/// In seconds, as naru's own limits and breakers say it; a date is not obeyed.
fn retry_after(said: &RetryAfter, path: &Path<'_>, findings: &mut Findings<'_>) -> RateLimitedBackoff {
    let max = said.max.map_or(defaults::RATE_LIMITED_BACKOFF_MAX, |max| max.value);
    if let Some(said) = said.max.filter(|max| max.value.as_secs() == 0) {
        let message = "a response asks to wait for a second at least: none would be obeyed";
        let path = path.field("retryAfter.max");
        findings.error(code::INVALID_VALUE, said.place, &path, message, "1s or more, such as 300s");
    }
    let header = ResetHeader { name: header::RETRY_AFTER, format: ResetFormat::Seconds };
    RateLimitedBackoff { headers: vec![header], max }
}

fn place_of<T>(value: &Option<Placed<T>>) -> Option<Place> {
    value.as_ref().map(|value| value.place)
}

fn backoff_of(retry: &Retry, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Backoff> {
    let spec = &retry.spec;
    let said = [
        spec.wait_duration.map(|wait| (wait.place, "waitDuration")),
        spec.linear.as_ref().map(|linear| (linear.place, "linear")),
        spec.exponential.as_ref().map(|exponential| (exponential.place, "exponential")),
    ];
    let said: Vec<(Place, &str)> = said.into_iter().flatten().collect();
    if let [(_, first), (place, second), ..] = said.as_slice() {
        let message = format!("only one of {first} and {second} can be said");
        findings.error(code::CONFLICTING_FIELDS, *place, &path.field(second), message, "");
    }
    let jitter_percent = match &spec.jitter {
        None => 0,
        Some(said) => match u8::try_from(said.value).ok().filter(|percent| *percent <= 100) {
            Some(percent) => percent,
            None => {
                let message = format!("{}% is not a jitter", said.value);
                findings.error(code::INVALID_VALUE, said.place, &path.field("jitter"), message, "0 to 100");
                0
            }
        },
    };
    let unbounded = |max: &Option<naru_resource::Seconds>| max.map_or(Duration::MAX, |max| max.value);
    if let Some(linear) = &spec.linear {
        return Some(Backoff::Linear {
            step: linear.step.value,
            max: unbounded(&linear.max),
            jitter_percent,
        });
    }
    if let Some(exponential) = &spec.exponential {
        let factor = exponential.factor.map_or(2.0, |factor| factor.value);
        let factor_percent = (factor * 100.0).round();
        if !(100.0..=100_000.0).contains(&factor_percent) {
            let place = place_of(&exponential.factor).unwrap_or(exponential.place);
            let message = format!("{factor} is no factor of a wait that grows");
            let path = path.field("exponential.factor");
            findings.error(code::INVALID_VALUE, place, &path, message, "1 to 1000, such as 2 or 1.5");
            return None;
        }
        return Some(Backoff::Exponential {
            first: exponential.first.value,
            factor_percent: factor_percent as u32,
            max: unbounded(&exponential.max),
            jitter_percent,
        });
    }
    let wait = spec.wait_duration.map_or(defaults::RETRY_CLASS_WAIT, |wait| wait.value);
    Some(Backoff::Fixed { wait, jitter_percent })
}

/// Changes what a route does as its policies say: of each field, the first that says it.
pub(crate) fn change<'a>(
    policies: &Additions<'a>,
    classes: &Classes,
    route: &HttpRoute,
    forward: &mut Forward,
    account: &mut Account,
    findings: &mut Findings<'_>,
) {
    let spec = Path::ROOT.field("spec");
    let mut retries = policies.parts.iter().filter_map(|policy| Some((*policy, policy.spec.retry.as_ref()?)));
    if let Some((policy, retry)) = retries.next() {
        change_retry(policy, retry, classes, route, forward, &spec.field("retry"), findings);
        for (field, place) in retry_parts(retry) {
            let acts = field == "retry.class" || forward.retry.is_some();
            account.take_if(acts, place, field, Idle::NoRetry);
        }
    }
    for (field, place) in retries.flat_map(|(_, retry)| retry_parts(retry)) {
        account.pass(place, field, Idle::Outdone);
    }
    let hedge = |policy: &'a TrafficPolicy| policy.spec.hedge.as_ref().map(|said| (said, said.place));
    if let Some(hedge) = policies.first("hedge", None, hedge, account) {
        change_hedge(hedge, forward, &spec.field("hedge"), findings);
    }
    let auto = |policy: &'a TrafficPolicy| {
        let auto = policy.spec.timeout.as_ref()?.auto.as_ref()?;
        Some((auto, auto.place))
    };
    if let Some(auto) = policies.first("timeout.auto", None, auto, account) {
        let path = spec.field("timeout.auto");
        if let Some(timeout) = &route.timeout {
            let message = format!("the route has a timeout already, at {}", findings.locate(timeout.place));
            findings.error(code::CONFLICT, auto.place, &path, message, "say one of them");
        }
        forward.auto_timeout = Some(auto_timeout(auto, &path, findings));
    }
    let scope = |policy: &'a TrafficPolicy| {
        let scope = policy.spec.fault.as_ref()?.scope?;
        Some((scope, scope.place))
    };
    let no_fault = route.fault.is_none().then_some(Idle::NoFault);
    let scope = policies.first("fault.scope", no_fault, scope, account);
    if let (Some(scope), Some(fault)) = (scope, &mut forward.fault) {
        fault.scope = match scope.value {
            PolicyFaultScope::Client => FaultScope::Client,
            PolicyFaultScope::Upstream => FaultScope::Upstream,
        };
    }
    let mirror = |policy: &'a TrafficPolicy| policy.spec.mirror.as_ref().map(|said| (said, said.place));
    let no_mirror = (route.mirror.is_none() && route.mirrors.is_empty()).then_some(Idle::NoMirror);
    if let Some(mirror) = policies.first("mirror", no_mirror, mirror, account) {
        change_mirrors(mirror, &mut forward.mirrors, &spec.field("mirror"), findings);
    }
}

/// The parts of it that may act without each other.
pub(crate) fn retry_parts(said: &PolicyRetry) -> Vec<(&'static str, Place)> {
    let class = said.class.as_ref().map(|class| ("retry.class", class.place));
    let unsafe_requests = said.unsafe_requests.map(|said| ("retry.unsafeRequests", said.place));
    class.into_iter().chain(unsafe_requests).collect()
}

fn change_retry(
    policy: &TrafficPolicy,
    said: &PolicyRetry,
    classes: &Classes,
    route: &HttpRoute,
    forward: &mut Forward,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let Some(class) = &said.class {
        let path = path.field("class");
        if let Some(written) = &route.retries {
            let message = format!("the route says its retries itself, at {}", findings.locate(written.place));
            findings.error(code::CONFLICT, class.place, &path, message, "say one of them");
        }
        match classes.find(policy.meta.namespace(), class) {
            Some(mut found) => {
                // Where a hash leads is where it leads the second time, too.
                found.avoids_tried &= forward.retry.as_ref().is_none_or(|retry| retry.avoids_tried);
                // With the time that the route has; all else is told where the class is.
                let of_times = |field| matches!(field, Field::Backoff | Field::PerTryTimeout);
                let told = found.problems(None).into_iter().map(|(.., invalid)| invalid).collect::<Vec<_>>();
                for (field, severity, invalid) in found.problems(forward.timeout) {
                    if of_times(field) && !told.contains(&invalid) {
                        let (place, message) = (class.place, invalid.message);
                        findings.tell(severity, code::NO_EFFECT, place, &path, message, invalid.hint);
                    }
                }
                forward.retry = Some(found);
            }
            None => {
                let message = format!("there is no class of retries '{}'", class.value);
                let hint = classes.hint(policy.meta.namespace());
                findings.error(code::UNKNOWN_REFERENCE, class.place, &path, message, hint);
            }
        }
    }
    if let (Some(unsafe_requests), Some(retry)) = (&said.unsafe_requests, &mut forward.retry) {
        retry.repeats = match unsafe_requests.value {
            UnsafeRequests::Refuse => Repeats::Idempotent,
            UnsafeRequests::Allow => Repeats::Everything,
        };
        for (field, severity, invalid) in retry.problems(None) {
            if field == Field::Repeats {
                let path = path.field("unsafeRequests");
                findings.tell(
                    severity,
                    code::UNSAFE_RETRY,
                    unsafe_requests.place,
                    &path,
                    invalid.message,
                    invalid.hint,
                );
            }
        }
    }
}

fn change_hedge(said: &PolicyHedge, forward: &mut Forward, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut hedge = Hedge::default();
    if let Some(initial) = &said.initial_requests {
        hedge.initial = u32::try_from(initial.value).unwrap_or(0);
    }
    if let Some(chance) = &said.additional_request_chance {
        let path = path.field("additionalRequestChance");
        hedge.additional =
            percent_of(chance.value, chance.place, &path, findings).unwrap_or(hedge.additional);
    }
    hedge.on_per_try_timeout = said.on_per_try_timeout.is_some_and(|is_said| is_said.value);
    for invalid in hedge.problems(forward.retry.as_ref()) {
        findings.error(code::INVALID_VALUE, said.place, path, invalid.message, invalid.hint);
    }
    forward.hedge = Some(hedge);
}

fn auto_timeout(said: &PolicyAutoTimeout, path: &Path<'_>, findings: &mut Findings<'_>) -> AutoTimeout {
    let mut auto = AutoTimeout::default();
    // What does not fit is told by the check below.
    let whole = |value: f64, unit: f64| {
        let value = (value * unit).round();
        if (0.0..=f64::from(u32::MAX)).contains(&value) { value as u32 } else { 0 }
    };
    if let Some(quantile) = &said.quantile {
        auto.quantile_permille = whole(quantile.value, 10.0);
    }
    if let Some(factor) = &said.factor {
        auto.factor_percent = whole(factor.value, 100.0);
    }
    auto.min = said.min.map_or(auto.min, |min| min.value);
    auto.max = said.max.map_or(auto.max, |max| max.value);
    for invalid in auto.problems() {
        findings.error(code::INVALID_VALUE, said.place, path, invalid.message, invalid.hint);
    }
    auto
}

fn change_mirrors(said: &PolicyMirror, mirrors: &mut [Mirror], path: &Path<'_>, findings: &mut Findings<'_>) {
    let header = said.header.as_ref().and_then(|text| header_name(text, &path.field("header"), findings));
    let writes = match (said.writes.map(|writes| writes.value), header) {
        (Some(PolicyMirrorWrites::Skip), None) => Some(MirrorWrites::NotSent),
        (Some(PolicyMirrorWrites::Mark), Some(header)) => Some(MirrorWrites::Marked(header)),
        (Some(PolicyMirrorWrites::Send), None) => Some(MirrorWrites::Sent),
        (None, None) => None,
        (Some(PolicyMirrorWrites::Mark), None) => {
            let message = "a request is marked by a header, and none is said";
            findings.error(code::MISSING_FIELD, said.place, path, message, "header: x-dry-run");
            None
        }
        (_, Some(_)) => {
            let message = "'header' says nothing without 'writes: Mark'";
            let place = said.header.as_ref().map_or(said.place, |header| header.place);
            findings.error(code::CONFLICTING_FIELDS, place, &path.field("header"), message, "");
            None
        }
    };
    let compare = said.compare.as_ref().map(|said| comparison(said, &path.field("compare"), findings));
    for mirror in mirrors {
        if let Some(writes) = &writes {
            mirror.writes = writes.clone();
        }
        mirror.comparison = compare.clone().or(mirror.comparison.take());
    }
}

fn comparison(said: &PolicyComparison, path: &Path<'_>, findings: &mut Findings<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    let listed = path.field("ignoreHeaders");
    for (at, text) in said.ignore_headers.iter().enumerate() {
        comparison.ignored_headers.extend(header_name(text, &listed.at(at), findings));
    }
    if let Some(most) = &said.max_body_bytes {
        let bytes = usize::try_from(most.value).ok();
        match bytes.filter(|bytes| *bytes <= defaults::COMPARED_BODY_BYTES_MAX) {
            Some(bytes) => comparison.body_bytes_max = bytes,
            None => {
                let message = format!("{} bytes of a body cannot be compared", most.value);
                let hint = format!("at most {}", defaults::COMPARED_BODY_BYTES_MAX);
                findings.error(code::INVALID_VALUE, most.place, &path.field("maxBodyBytes"), message, hint);
            }
        }
    }
    comparison
}

pub(crate) fn header_name(text: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        let message = format!("'{}' is not the name of a header", text.value);
        findings.error(code::INVALID_VALUE, text.place, path, message, "");
    }
    name
}
