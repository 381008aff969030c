//! What is done after a failure, which failures are made, and which requests are copied.

use http::StatusCode;
use naru_base::Fraction;
use naru_spec::recover::Field;
use naru_spec::suggest::did_you_mean;
use naru_spec::{
    Abort, AbortBy, Backoff, Delay, DelayBy, Fault, Forward, Hedge, Invalid, Mirror, MirrorHost, Path,
    RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy, Severity, defaults,
};

use super::{headers, matching, value};
use crate::findings::{Findings, code};
use crate::proto::{self, Any, fault, previous_hosts, previous_priorities, route};
use crate::schema::{type_name, unpack};

const NEVER: Fraction = Fraction::NONE;

/// Everything of a route's action that is about failures and copies.
pub(super) fn read(
    said: &route::RouteAction,
    forward: &mut Forward,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let Some(said) = &said.retry_policy {
        let path = path.field("retry_policy");
        let policy = retry(said, &path, findings);
        tell_problems(&policy, forward.timeout, &path, findings);
        forward.retry = Some(policy);
    }
    if let Some(said) = &said.hedge_policy {
        let path = path.field("hedge_policy");
        let hedge = hedge(said);
        for invalid in hedge.problems(forward.retry.as_ref()) {
            findings.invalid(&path, invalid);
        }
        forward.hedge = Some(hedge);
    }
    let listed = path.field("request_mirror_policies");
    for (at, said) in said.request_mirror_policies.iter().enumerate() {
        forward.mirrors.push(mirror(said, &listed.at(at), findings));
    }
    for invalid in naru_spec::fault::mirror_problems(&forward.mirrors) {
        findings.invalid(&listed, invalid);
    }
}

fn retry(said: &route::RetryPolicy, path: &Path<'_>, findings: &mut Findings<'_>) -> RetryPolicy {
    let on = RetryOn::parse(&said.retry_on, |word| {
        let words = RetryOn::WORDS.iter().map(|(word, _)| *word);
        let invalid =
            Invalid::new(format!("'{word}' is no condition to retry on")).hint(did_you_mean(word, words));
        findings.error(&path.field("retry_on"), code::UNKNOWN_VALUE, invalid.message, invalid.hint);
    });
    let mut policy = RetryPolicy::new(on);
    policy.retries_max = said.num_retries.map_or(defaults::RETRIES, |said| said.value);
    policy.statuses =
        said.retriable_status_codes.iter().map(|code| u16::try_from(*code).unwrap_or(u16::MAX)).collect();
    let mut limit = |said, field| value::limit(said, None, &path.field(field), findings);
    policy.per_try_timeout = limit(&said.per_try_timeout, "per_try_timeout");
    policy.per_try_idle_timeout = limit(&said.per_try_idle_timeout, "per_try_idle_timeout");
    let tests = |said: &[route::HeaderMatcher], field, findings: &mut Findings<'_>| {
        let listed = path.field(field);
        let tests = said.iter().enumerate();
        tests.filter_map(|(at, said)| matching::header(said, &listed.at(at), findings)).collect()
    };
    policy.response_headers = tests(&said.retriable_headers, "retriable_headers", findings);
    policy.request_headers = tests(&said.retriable_request_headers, "retriable_request_headers", findings);
    if let Some(said) = &said.retry_back_off {
        policy.backoff = backoff(said, &path.field("retry_back_off"), findings);
    }
    policy.rate_limited = said
        .rate_limited_retry_back_off
        .as_ref()
        .map(|said| rate_limited(said, &path.field("rate_limited_retry_back_off"), findings));
    let listed = path.field("retry_host_predicate");
    for (at, said) in said.retry_host_predicate.iter().enumerate() {
        use route::retry_policy::retry_host_predicate::ConfigType;
        let path = listed.at(at);
        let any = said.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
        let known =
            extension::<previous_hosts::PreviousHostsPredicate>(any, "previous_hosts", &path, findings);
        policy.avoids_tried |= known.is_some();
    }
    if let Some(said) = &said.retry_priority {
        use route::retry_policy::retry_priority::ConfigType;
        let path = path.field("retry_priority");
        let any = said.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
        let known = extension::<previous_priorities::PreviousPrioritiesConfig>(
            any,
            "previous_priorities",
            &path,
            findings,
        );
        policy.avoids_priorities_after =
            known.map(|known| u32::try_from(known.update_frequency).unwrap_or(1));
    }
    match u32::try_from(said.host_selection_retry_max_attempts) {
        Ok(0) => {}
        Ok(picks) => policy.picks_max = picks,
        Err(_) => {
            let text = format!("{} is no number of attempts", said.host_selection_retry_max_attempts);
            findings.invalid(&path.field("host_selection_retry_max_attempts"), Invalid::new(text));
        }
    }
    policy
}

/// An extension of the one kind that there is in its place.
fn extension<M: prost::Message + prost::Name + Default>(
    any: Option<&Any>,
    name: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<M> {
    let path = path.field("typed_config");
    let Some(any) = any else {
        findings.missing(&path, "it needs a typed_config");
        return None;
    };
    let known = unpack::<M>(any);
    if known.is_none() {
        let text = format!("the extension '{}' is not supported here", type_name(&any.type_url));
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, format!("only {name} is"));
    }
    known
}

/// Envoy's: ten times the base where no longest wait is said.
fn backoff(
    said: &route::retry_policy::RetryBackOff,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Backoff {
    let base = said.base_interval.as_ref().map_or(defaults::RETRY_BACKOFF, |said| {
        value::duration(said, &path.field("base_interval"), findings)
    });
    let Backoff::Jittered { base, max } = Backoff::of_base(base) else { return Backoff::of_base(base) };
    let max = said
        .max_interval
        .as_ref()
        .map_or(max, |said| value::duration(said, &path.field("max_interval"), findings));
    Backoff::Jittered { base, max }
}

fn rate_limited(
    said: &route::retry_policy::RateLimitedRetryBackOff,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> RateLimitedBackoff {
    use route::retry_policy::ResetHeaderFormat;
    let listed = path.field("reset_headers");
    let mut headers = Vec::new();
    for (at, said) in said.reset_headers.iter().enumerate() {
        let path = listed.at(at);
        let format = match said.format() {
            ResetHeaderFormat::Seconds => ResetFormat::Seconds,
            ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
        };
        let name = headers::name(&said.name, &path.field("name"), findings);
        headers.extend(name.map(|name| ResetHeader { name, format }));
    }
    let max = said.max_interval.as_ref().map_or(defaults::RATE_LIMITED_BACKOFF_MAX, |said| {
        value::duration(said, &path.field("max_interval"), findings)
    });
    RateLimitedBackoff { headers, max }
}

fn tell_problems(
    policy: &RetryPolicy,
    timeout: Option<std::time::Duration>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    for (field, severity, invalid) in policy.problems(timeout) {
        let path = path.field(match field {
            Field::On | Field::Repeats => "retry_on",
            Field::Retries => "num_retries",
            Field::Statuses => "retriable_status_codes",
            Field::PerTryTimeout => "per_try_timeout",
            Field::Backoff => "retry_back_off",
            Field::RateLimited => "rate_limited_retry_back_off",
        });
        match severity {
            Severity::Error => findings.invalid(&path, invalid),
            Severity::Warning => findings.warning(&path, code::NO_EFFECT, invalid.message, invalid.hint),
            Severity::Note => {}
        }
    }
}

fn hedge(said: &route::HedgePolicy) -> Hedge {
    let mut hedge = Hedge { on_per_try_timeout: said.hedge_on_per_try_timeout, ..Hedge::default() };
    if let Some(initial) = &said.initial_requests {
        hedge.initial = initial.value;
    }
    if let Some(chance) = &said.additional_request_chance {
        hedge.additional = matching::percent(chance);
    }
    hedge
}

fn mirror(
    said: &route::route_action::RequestMirrorPolicy,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Mirror {
    if said.cluster.is_empty() {
        findings.missing(&path.field("cluster"), "a mirror needs a cluster");
    }
    let mut mirror = Mirror::to(said.cluster.clone());
    if let Some(share) = said.runtime_fraction.as_ref().and_then(matching::fraction) {
        mirror.share = share;
    }
    mirror.host = match (said.host_rewrite_literal.as_str(), said.disable_shadow_host_suffix_append) {
        ("", false) => MirrorHost::Shadow,
        ("", true) => MirrorHost::Same,
        (host, true) => MirrorHost::Literal(host.to_owned()),
        (host, false) => MirrorHost::Literal(naru_spec::fault::shadow_host(host)),
    };
    mirror
}

/// Of the filter, or of a route.
pub(super) fn fault(said: &fault::HttpFault, path: &Path<'_>, findings: &mut Findings<'_>) -> Fault {
    let delay = said.delay.as_ref().and_then(|said| delay(said, &path.field("delay"), findings));
    let abort = said.abort.as_ref().and_then(|said| abort(said, &path.field("abort"), findings));
    let listed = path.field("headers");
    let headers = said.headers.iter().enumerate();
    let headers = headers.filter_map(|(at, said)| matching::header(said, &listed.at(at), findings)).collect();
    let fault = Fault {
        headers,
        cluster: (!said.upstream_cluster.is_empty()).then(|| said.upstream_cluster.clone()),
        nodes: said.downstream_nodes.clone(),
        active_max: said.max_active_faults.map(|said| said.value),
        ..Fault::new(delay, abort)
    };
    for invalid in fault.problems() {
        findings.invalid(path, invalid);
    }
    fault
}

fn delay(
    said: &proto::common_fault::FaultDelay,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Delay> {
    use proto::common_fault::fault_delay::FaultDelaySecifier as Said;
    let by = match said.fault_delay_secifier.as_ref()? {
        Said::FixedDelay(wait) => DelayBy::Fixed(value::duration(wait, &path.field("fixed_delay"), findings)),
        Said::HeaderDelay(_) => DelayBy::Header,
    };
    Some(Delay { by, share: said.percentage.as_ref().map_or(NEVER, matching::percent) })
}

fn abort(said: &fault::FaultAbort, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Abort> {
    use fault::fault_abort::ErrorType as Said;
    let by = match said.error_type.as_ref()? {
        Said::HttpStatus(status) => {
            // What is beyond 200 to 599 is told by the API's own rules.
            let status = u16::try_from(*status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            AbortBy::Status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Said::GrpcStatus(status) => AbortBy::Grpc(u8::try_from(*status).unwrap_or_else(|_| {
            let invalid = Invalid::new(format!("{status} is not a status of gRPC")).hint("0 to 16");
            findings.invalid(&path.field("grpc_status"), invalid);
            0
        })),
        Said::HeaderAbort(_) => AbortBy::Header,
    };
    Some(Abort { by, share: said.percentage.as_ref().map_or(NEVER, matching::percent) })
}
