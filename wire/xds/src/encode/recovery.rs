//! What is done after a failure, which failures are made, and which requests are copied.

use std::time::Duration;

use naru_spec::{
    AbortBy, Backoff, DelayBy, Fault, Forward, Hedge, Mirror, MirrorHost, RateLimitedBackoff, ResetFormat,
    RetryPolicy,
};

use super::{matching, value};
use crate::proto::{common_fault, fault, previous_hosts, previous_priorities, route};
use crate::schema::pack;

pub(crate) const FAULT_FILTER: &str = "envoy.filters.http.fault";

/// For Envoy: it has no bounds beyond this.
const LONGEST: Duration = Duration::from_secs(3_600);

pub(super) fn write(forward: &Forward, action: &mut route::RouteAction) {
    action.retry_policy = forward.retry.as_ref().map(retry);
    action.hedge_policy = forward.hedge.as_ref().map(hedge);
    action.request_mirror_policies = forward.mirrors.iter().map(mirror).collect();
}

fn retry(policy: &RetryPolicy) -> route::RetryPolicy {
    use route::retry_policy::{RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority};
    let hosts = policy.avoids_tried.then(|| RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(
            &previous_hosts::PreviousHostsPredicate {},
        ))),
    });
    route::RetryPolicy {
        retry_on: policy.on.to_string(),
        num_retries: Some(value::number(policy.retries_max)),
        per_try_timeout: policy.per_try_timeout.map(value::duration),
        per_try_idle_timeout: policy.per_try_idle_timeout.map(value::duration),
        retry_priority: policy.avoids_priorities_after.map(|after| RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(pack(
                &previous_priorities::PreviousPrioritiesConfig {
                    update_frequency: i32::try_from(after).unwrap_or(i32::MAX),
                },
            ))),
        }),
        retry_host_predicate: hosts.into_iter().collect(),
        host_selection_retry_max_attempts: policy.picks_max.into(),
        retriable_status_codes: policy.statuses.iter().map(|status| u32::from(*status)).collect(),
        retry_back_off: Some(backoff(&policy.backoff)),
        rate_limited_retry_back_off: policy.rate_limited.as_ref().map(rate_limited),
        retriable_headers: policy.response_headers.iter().map(matching::header).collect(),
        retriable_request_headers: policy.request_headers.iter().map(matching::header).collect(),
        ..Default::default()
    }
}

/// One that is not Envoy's is as near as Envoy comes; what it is stands among the metadata.
fn backoff(backoff: &Backoff) -> route::retry_policy::RetryBackOff {
    let (base, max) = match *backoff {
        Backoff::Jittered { base, max } => (base, max),
        Backoff::Fixed { wait, .. } => (wait.max(Duration::from_millis(1)).min(LONGEST), wait.min(LONGEST)),
        Backoff::Linear { step, max, .. } => (step.min(LONGEST), max.min(LONGEST)),
        Backoff::Exponential { first, max, .. } => (first.min(LONGEST), max.min(LONGEST)),
    };
    route::retry_policy::RetryBackOff {
        base_interval: Some(value::duration(base)),
        max_interval: Some(value::duration(max.max(base))),
    }
}

fn rate_limited(said: &RateLimitedBackoff) -> route::retry_policy::RateLimitedRetryBackOff {
    use route::retry_policy::{RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat};
    let headers = said.headers.iter().map(|header| ResetHeader {
        name: header.name.as_str().to_owned(),
        format: match header.format {
            ResetFormat::Seconds => ResetHeaderFormat::Seconds,
            ResetFormat::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
        }
        .into(),
    });
    RateLimitedRetryBackOff {
        reset_headers: headers.collect(),
        max_interval: Some(value::duration(said.max)),
    }
}

fn hedge(hedge: &Hedge) -> route::HedgePolicy {
    route::HedgePolicy {
        initial_requests: Some(value::number(hedge.initial)),
        additional_request_chance: Some(matching::percent(hedge.additional)),
        hedge_on_per_try_timeout: hedge.on_per_try_timeout,
    }
}

fn mirror(mirror: &Mirror) -> route::route_action::RequestMirrorPolicy {
    route::route_action::RequestMirrorPolicy {
        cluster: mirror.cluster.clone(),
        runtime_fraction: Some(matching::fraction(mirror.share)),
        trace_sampled: Some(value::flag(false)),
        disable_shadow_host_suffix_append: mirror.host != MirrorHost::Shadow,
        host_rewrite_literal: match &mirror.host {
            MirrorHost::Literal(host) => host.clone(),
            MirrorHost::Shadow | MirrorHost::Same => String::new(),
        },
        ..Default::default()
    }
}

pub(super) fn fault(said: &Fault) -> fault::HttpFault {
    use common_fault::fault_delay::{FaultDelaySecifier, HeaderDelay};
    use fault::fault_abort::{ErrorType, HeaderAbort};
    fault::HttpFault {
        delay: said.delay.map(|delay| common_fault::FaultDelay {
            fault_delay_secifier: Some(match delay.by {
                DelayBy::Fixed(wait) => FaultDelaySecifier::FixedDelay(value::duration(wait)),
                DelayBy::Header => FaultDelaySecifier::HeaderDelay(HeaderDelay {}),
            }),
            percentage: Some(matching::percent(delay.share)),
        }),
        abort: said.abort.map(|abort| fault::FaultAbort {
            error_type: Some(match abort.by {
                AbortBy::Status(status) => ErrorType::HttpStatus(status.as_u16().into()),
                AbortBy::Grpc(status) => ErrorType::GrpcStatus(status.into()),
                AbortBy::Header => ErrorType::HeaderAbort(HeaderAbort {}),
            }),
            percentage: Some(matching::percent(abort.share)),
            ..Default::default()
        }),
        upstream_cluster: said.cluster.clone().unwrap_or_default(),
        headers: said.headers.iter().map(matching::header).collect(),
        downstream_nodes: said.nodes.clone(),
        max_active_faults: said.active_max.map(value::number),
        ..Default::default()
    }
}
