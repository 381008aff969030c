//! What a route does after a failure, and which failures it makes: Istio's `retries` and `fault`.

use http::StatusCode;
use naru_resource::virtual_service::{FaultAbort, FaultDelay, HttpFault, HttpRetry, Percent};
use naru_resource::{Number, Place, Text};
use naru_spec::recover::Field;
use naru_spec::{
    Abort, AbortBy, Backoff, Delay, DelayBy, Fault, Path, Repeats, RetryOn, RetryPolicy, Severity, code,
    defaults, fault,
};

use crate::findings::Findings;

/// What `retries` means; Istio's default where nothing is said. `None` retries nothing.
pub(crate) fn retry_of(
    written: Option<&HttpRetry>,
    is_hashed: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy::istio(is_hashed);
    let Some(written) = written else { return Some(policy) };
    let path = path.field("retries");
    let attempts = match &written.attempts {
        Some(said) if said.value < 0 => {
            let message = format!("{} cannot be a number of retries", said.value);
            findings.error(code::INVALID_VALUE, said.place, &path.field("attempts"), message, "");
            0
        }
        Some(said) => u32::try_from(said.value).unwrap_or(u32::MAX),
        None => {
            let message = "nothing is retried without 'attempts', as in Istio";
            let hint = "say how many retries there may be; leave 'retries' out for 2";
            findings.warning(code::NO_EFFECT, written.place, &path, message, hint);
            0
        }
    };
    policy.retries_max = attempts;
    if let Some(said) = &written.retry_on {
        (policy.on, policy.statuses) = conditions(said, &path.field("retryOn"), findings);
    }
    policy.per_try_timeout = written.per_try_timeout.map(|timeout| timeout.value);
    if let Some(base) = &written.backoff {
        policy.backoff = Backoff::of_base(base.value);
    }
    if let Some(ignores) = &written.retry_ignore_previous_hosts {
        policy.avoids_tried = ignores.value;
    }
    if written.retry_remote_localities.is_some_and(|is_said| is_said.value) {
        policy.avoids_priorities_after = Some(defaults::MESH_RETRY_PRIORITIES_AFTER);
    }
    (attempts > 0).then_some(policy)
}

/// Conditions and statuses of a list that is parted by commas, as Istio takes it.
pub(crate) fn conditions(list: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> (RetryOn, Vec<u16>) {
    let mut statuses = Vec::new();
    let on = RetryOn::parse(list, |word| match word.parse::<u16>() {
        Ok(status) => statuses.push(status),
        Err(_) => {
            let message = format!("'{word}' is no condition to retry on");
            let words: Vec<&str> = RetryOn::WORDS.iter().map(|(word, _)| *word).collect();
            let hint = format!("one of {}, or a status", words.join(", "));
            findings.error(code::UNKNOWN_VALUE, list.place, path, message, hint);
        }
    });
    let on = if statuses.is_empty() { on } else { on.and(RetryOn::RETRIABLE_STATUS_CODES) };
    (on, statuses)
}

/// Tells what is wrong with the policy of a route whose timeout is known.
pub(crate) fn check_retry(
    written: &HttpRetry,
    policy: &RetryPolicy,
    timeout: Option<std::time::Duration>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let path = path.field("retries");
    let of_retry_on = written.retry_on.as_ref().map(|said| said.place);
    for (field, severity, invalid) in policy.problems(timeout) {
        let (place, name) = match field {
            // Told of the policy that says so.
            Field::Repeats => continue,
            Field::Retries => (written.attempts.map(|said| said.place), "attempts"),
            Field::On | Field::Statuses | Field::RateLimited => (of_retry_on, "retryOn"),
            Field::PerTryTimeout => (written.per_try_timeout.map(|said| said.place), "perTryTimeout"),
            Field::Backoff => (written.backoff.map(|said| said.place), "backoff"),
        };
        let code = if severity == Severity::Error { code::INVALID_VALUE } else { code::NO_EFFECT };
        let place = place.unwrap_or(written.place);
        findings.tell(severity, code, place, &path.field(name), invalid.message, invalid.hint);
    }
    if policy.repeats == Repeats::Idempotent && policy.on.may_follow_an_effect() && written.retry_on.is_some()
    {
        let message = "POST and PATCH are retried only where no upstream can have acted on them, or with an \
                       Idempotency-Key; Istio retries them always";
        let hint = "to retry them always: a TrafficPolicy with retry.unsafeRequests: Allow";
        let place = of_retry_on.unwrap_or(written.place);
        findings.tell(Severity::Note, code::DIFFERS, place, &path.field("retryOn"), message, hint);
    }
}

pub(crate) fn fault_of(written: &HttpFault, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Fault> {
    let path = path.field("fault");
    let delay = written.delay.as_ref().and_then(|delay| delay_of(delay, &path.field("delay"), findings));
    let abort = written.abort.as_ref().and_then(|abort| abort_of(abort, &path.field("abort"), findings));
    if written.delay.is_none() && written.abort.is_none() {
        let message = "a fault is a delay, an abort, or both";
        findings.error(code::MISSING_FIELD, written.place, &path, message, "");
    }
    let fault = Fault::new(delay, abort);
    for invalid in fault.problems() {
        findings.error(code::INVALID_VALUE, written.place, &path, invalid.message, invalid.hint);
    }
    (delay.is_some() || abort.is_some()).then_some(fault)
}

fn delay_of(written: &FaultDelay, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Delay> {
    let share = share_of(&written.percentage, &written.percent, written.place, path, findings);
    if let Some(said) = &written.exponential_delay {
        let message = "a delay that grows exponentially is not there, and Istio has none either";
        findings.error(
            code::UNSUPPORTED_FIELD,
            said.place,
            &path.field("exponentialDelay"),
            message,
            "fixedDelay",
        );
        return None;
    }
    let Some(wait) = written.fixed_delay else {
        findings.error(code::MISSING_FIELD, written.place, path, "a delay needs 'fixedDelay'", "");
        return None;
    };
    Some(Delay { by: DelayBy::Fixed(wait.value), share: share? })
}

fn abort_of(written: &FaultAbort, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Abort> {
    let share = share_of(&written.percentage, &written.percent, written.place, path, findings);
    let by = match (&written.http_status, &written.grpc_status, &written.http2_error) {
        (Some(said), None, None) => {
            let status = u16::try_from(said.value).ok().filter(|status| (200..=599).contains(status));
            let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok()) else {
                let message = format!("{} is not a status that can be answered", said.value);
                findings.error(code::INVALID_VALUE, said.place, path, message, "200 to 599");
                return None;
            };
            AbortBy::Status(status)
        }
        (None, Some(said), None) => {
            let Some(status) = fault::grpc_status_named(said) else {
                let message = format!("'{}' is not a status of gRPC", said.value);
                let hint = format!("one of {}", fault::GRPC_STATUSES.join(", "));
                findings.error(code::UNKNOWN_VALUE, said.place, &path.field("grpcStatus"), message, hint);
                return None;
            };
            AbortBy::Grpc(status)
        }
        (None, None, Some(said)) => {
            let message = "an error of HTTP/2 cannot be made, and Istio makes none either";
            findings.error(
                code::UNSUPPORTED_FIELD,
                said.place,
                &path.field("http2Error"),
                message,
                "httpStatus",
            );
            return None;
        }
        _ => {
            let message = "exactly one of httpStatus, grpcStatus and http2Error is needed";
            findings.error(code::CONFLICTING_FIELDS, written.place, path, message, "");
            return None;
        }
    };
    Some(Abort { by, share: share? })
}

/// Where nothing is said there is no fault: Istio's default is 0 %.
fn share_of(
    percentage: &Option<Percent>,
    percent: &Option<Number>,
    place: Place,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<naru_base::Fraction> {
    let (value, place) = match (percentage, percent) {
        (Some(percentage), _) => match &percentage.value {
            Some(said) => (said.value, said.place),
            None => (0.0, percentage.place),
        },
        (None, Some(percent)) => (percent.value as f64, percent.place),
        (None, None) => {
            let message = "without 'percentage' there is no fault: 0% of the requests";
            findings.warning(code::NO_EFFECT, place, path, message, "percentage: {value: 100}");
            (0.0, place)
        }
    };
    percent_of(value, place, &path.field("percentage"), findings)
}

/// A share in percent.
pub(crate) fn percent_of(
    value: f64,
    place: Place,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<naru_base::Fraction> {
    match fault::fraction_of_percent(value) {
        Ok(fraction) => Some(fraction),
        Err(invalid) => {
            findings.error(code::INVALID_VALUE, place, path, invalid.message, invalid.hint);
            None
        }
    }
}
