//! Policies of the rule that takes a request.

use http::{HeaderMap, Method};
use naru_recover::deadline;
use naru_spec::fault::GRPC_STATUSES;
use naru_spec::{
    Abort, AbortBy, AutoTimeout, Backoff, CachePolicy, Comparison, Delay, DelayBy, Fault, FaultScope,
    Forward, Mirror, MirrorWrites, Repeats, RetryPolicy,
};
use serde_json::json;

use super::{Policy, Sources, counted, in_percent, ms, of_load, percent};

/// `fault` is what the listener says of rules that say nothing of it. The timeout itself, how often a request is sent
/// at most and after what, and fallbacks are told elsewhere.
pub fn of(
    forward: &Forward,
    fault: Option<&Fault>,
    method: &Method,
    headers: &HeaderMap,
    sources: &Sources<'_>,
) -> Vec<Policy> {
    let mut policies = Vec::new();
    if let Some(fault) = forward.fault.as_ref().or(fault) {
        of_fault(fault, sources, &mut policies);
    }
    policies.extend(forward.cache.as_ref().map(|policy| of_cache(policy, method, sources)));
    of_load::of(&forward.load, sources, &mut policies);
    of_time(forward, headers, sources, &mut policies);
    if let Some(retry) = forward.retry.as_ref().filter(|retry| retry.calls_max() > 1) {
        of_retries(retry, method, headers, sources, &mut policies);
    }
    of_hedge(forward, sources, &mut policies);
    for mirror in forward.mirrors.iter().filter(|mirror| !mirror.share.is_none()) {
        policies.push(of_mirror(mirror, method, sources));
    }
    policies
}

fn of_fault(fault: &Fault, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    let (whose, scope) = match fault.scope {
        FaultScope::Client => ("requests", "Client"),
        FaultScope::Upstream => ("attempts", "Upstream"),
    };
    let origin = sources.route(|route| route.fault.as_ref().map(|fault| fault.place));
    let mut limits = String::new();
    if !fault.headers.is_empty() || fault.cluster.is_some() || !fault.nodes.is_empty() {
        limits.push_str(", of those that it is for");
    }
    if let Some(most) = fault.active_max {
        limits.push_str(&format!(", at most {most} at a time"));
    }
    if let Some(Delay { by, share }) = fault.delay.filter(|delay| !delay.share.is_none()) {
        let (how, fixed) = match by {
            DelayBy::Fixed(wait) => (format!("by {wait:?}"), Some(ms(wait))),
            DelayBy::Header => ("as long as x-envoy-fault-delay-request says".to_owned(), None),
        };
        policies.push(Policy::new(
            "fault.delay",
            format!("a fault delays {} of the {whose} {how}{limits}", percent(share)),
            json!({ "percent": in_percent(share), "fixed_ms": fixed, "scope": scope }),
            origin.clone(),
        ));
    }
    if let Some(Abort { by, share }) = fault.abort.filter(|abort| !abort.share.is_none()) {
        let (how, status, grpc) = match by {
            AbortBy::Status(status) => (format!("with {}", status.as_u16()), Some(status.as_u16()), None),
            AbortBy::Grpc(code) => {
                let name = GRPC_STATUSES.get(usize::from(code)).copied().unwrap_or("an unknown status");
                (format!("with {name} of gRPC"), None, Some(code))
            }
            AbortBy::Header => ("with what x-envoy-fault-abort-request says".to_owned(), None, None),
        };
        policies.push(Policy::new(
            "fault.abort",
            format!("a fault answers {} of the {whose} {how}{limits}", percent(share)),
            json!({ "percent": in_percent(share), "status": status, "grpc_status": grpc, "scope": scope }),
            origin,
        ));
    }
}

fn of_cache(policy: &CachePolicy, method: &Method, sources: &Sources<'_>) -> Policy {
    let mut text = match (policy.lifetime, policy.overrides) {
        _ if !matches!(*method, Method::GET | Method::HEAD) => {
            "its answer is not kept; what is kept of its URL goes where it is done".to_owned()
        }
        (None, _) => "its answer is kept for as long as it says itself".to_owned(),
        (Some(lifetime), false) => {
            format!("its answer is kept for {lifetime:?} where it does not say for how long")
        }
        (Some(lifetime), true) => format!("its answer is kept for {lifetime:?}, whatever it says"),
    };
    text.push_str(&format!(" (class {})", policy.class));
    if let Some(wait) = policy.coalesce {
        text.push_str(&format!("; who wants the same waits up to {wait:?} for one that fetches it"));
    }
    for (how, time) in [
        ("while another is fetched", policy.stale_while_revalidate),
        ("in place of a failure", policy.stale_if_error),
    ] {
        if let Some(time) = time {
            text.push_str(&format!("; given stale for {time:?} {how}"));
        }
    }
    let values = json!({
        "class": policy.class,
        "ttl_ms": policy.lifetime.map(ms),
        "overrides": policy.overrides,
        "coalesce_ms": policy.coalesce.map(ms),
        "stale_while_revalidate_ms": policy.stale_while_revalidate.map(ms),
        "stale_if_error_ms": policy.stale_if_error.map(ms),
    });
    Policy::new("cache", text, values, sources.cache())
}

fn of_time(forward: &Forward, headers: &HeaderMap, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    if let Some(auto) = forward.auto_timeout {
        let AutoTimeout { quantile_permille, factor_percent, min, max } = auto;
        let (quantile, factor) = (f64::from(quantile_permille) / 10.0, f64::from(factor_percent) / 100.0);
        policies.push(Policy::new(
            "timeout.auto",
            format!(
                "its timeout is p{quantile} of what is observed, times {factor}, from {min:?} to {max:?}"
            ),
            json!({ "quantile": quantile, "factor": factor, "min_ms": ms(min), "max_ms": ms(max) }),
            sources.policy(|spec| {
                spec.timeout.as_ref().and_then(|timeout| timeout.auto.as_ref()).map(|auto| auto.place)
            }),
        ));
    }
    if let Some(idle) = forward.idle_timeout {
        let text = match idle {
            Some(idle) => format!("it ends where nothing moves for {idle:?}"),
            None => "nothing need ever move".to_owned(),
        };
        let origin = sources.policy(|spec| spec.idle_timeout.map(|said| said.place));
        policies.push(Policy::new("idleTimeout", text, json!({ "ms": idle.map(ms) }), origin));
    }
    let of_caller = deadline::of_caller(headers);
    if let Some(left) = of_caller {
        let text = format!("its client waits for {left:?}, and no hop takes longer");
        policies.push(Policy::new("deadline", text, json!({ "caller_ms": ms(left) }), None));
    } else if forward.timeout.is_some() || forward.auto_timeout.is_some() {
        let text = "what is left of its time goes with it, and no hop takes longer";
        policies.push(Policy::new("deadline", text, json!({ "caller_ms": null }), None));
    }
}

fn of_retries(
    retry: &RetryPolicy,
    method: &Method,
    headers: &HeaderMap,
    sources: &Sources<'_>,
    policies: &mut Vec<Policy>,
) {
    // A class takes the place of what the route says.
    let class = || sources.policy(|spec| spec.retry.as_ref()?.class.as_ref().map(|class| class.place));
    let of_route = || sources.route(|route| route.retries.as_ref().map(|retries| retries.place));
    let origin = class().or_else(of_route);
    if let Some(each) = retry.per_try_timeout {
        let text = format!("one try takes at most {each:?}");
        policies.push(Policy::new("perTryTimeout", text, json!({ "ms": ms(each) }), origin.clone()));
    }
    if let Some(each) = retry.per_try_idle_timeout {
        let text = format!("one try ends where nothing moves for {each:?}");
        policies.push(Policy::new("perTryIdleTimeout", text, json!({ "ms": ms(each) }), origin.clone()));
    }
    if !retry.statuses.is_empty() {
        let listed: Vec<String> = retry.statuses.iter().map(u16::to_string).collect();
        let text = format!("the status codes that are retried are {}", listed.join(", "));
        policies.push(Policy::new("retryOn", text, json!({ "statuses": retry.statuses }), origin.clone()));
    }
    policies.push(of_backoff(&retry.backoff, origin.clone()));
    if let Some(said) = &retry.rate_limited {
        let names: Vec<&str> = said.headers.iter().map(|header| header.name.as_str()).collect();
        policies.push(Policy::new(
            "retryAfter",
            format!("or as long as the answer says in {}, up to {:?}", names.join(", "), said.max),
            json!({ "headers": names, "max_ms": ms(said.max) }),
            origin.clone(),
        ));
    }
    if retry.avoids_tried {
        let text = "a retry goes to an endpoint that was not tried, where there is one";
        policies.push(Policy::new("retryHosts", text, json!({ "picks_max": retry.picks_max }), origin));
    }
    let is_safe = method.is_idempotent() || headers.contains_key("idempotency-key");
    if !is_safe && retry.on.may_follow_an_effect() {
        let origin = sources.policy(|spec| spec.retry.as_ref()?.unsafe_requests.map(|said| said.place));
        let (text, is_allowed) = match retry.repeats {
            Repeats::Everything => (format!("a {method} is sent again also where it may have acted"), true),
            Repeats::Idempotent => {
                let text = format!(
                    "a {method} is sent again only where it cannot have acted, or with an Idempotency-Key"
                );
                (text, false)
            }
        };
        policies.push(Policy::new("unsafeRequests", text, json!({ "allowed": is_allowed }), origin));
    }
}

fn of_backoff(backoff: &Backoff, origin: Option<String>) -> Policy {
    let spread = |percent: u8| match percent {
        0 => String::new(),
        percent => format!(", {percent}% more or less"),
    };
    let bound = |max: std::time::Duration| match max {
        std::time::Duration::MAX => String::new(),
        max => format!(", at most {max:?}"),
    };
    let (text, values) = match *backoff {
        Backoff::Jittered { base, max } => (
            format!("before a retry it waits up to {base:?}, each time longer, at most {max:?}"),
            json!({ "kind": "jittered", "base_ms": ms(base), "max_ms": ms(max) }),
        ),
        Backoff::Fixed { wait, jitter_percent } => (
            format!("before a retry it waits {wait:?}{}", spread(jitter_percent)),
            json!({ "kind": "fixed", "wait_ms": ms(wait), "jitter_percent": jitter_percent }),
        ),
        Backoff::Linear { step, max, jitter_percent } => (
            format!(
                "before a retry it waits {step:?}, each time as much longer{}{}",
                bound(max),
                spread(jitter_percent)
            ),
            json!({ "kind": "linear", "step_ms": ms(step), "max_ms": bounded(max), "jitter_percent": jitter_percent }),
        ),
        Backoff::Exponential { first, factor_percent, max, jitter_percent } => {
            let factor = f64::from(factor_percent) / 100.0;
            (
                format!(
                    "before a retry it waits {first:?}, each time {factor} times as long{}{}",
                    bound(max),
                    spread(jitter_percent)
                ),
                json!({
                    "kind": "exponential",
                    "first_ms": ms(first),
                    "factor": factor,
                    "max_ms": bounded(max),
                    "jitter_percent": jitter_percent,
                }),
            )
        }
    };
    Policy::new("backoff", text, values, origin)
}

fn bounded(max: std::time::Duration) -> Option<f64> {
    (max != std::time::Duration::MAX).then(|| ms(max))
}

fn of_hedge(forward: &Forward, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    let Some(hedge) = forward.hedge else { return };
    let origin = sources.policy(|spec| spec.hedge.as_ref().map(|hedge| hedge.place));
    let mut say = |text: String, values| policies.push(Policy::new("hedge", text, values, origin.clone()));
    if hedge.initial > 1 {
        let values = json!({ "initial_requests": hedge.initial });
        say(format!("it begins with {} at a time", counted(hedge.initial, "attempt", "attempts")), values);
    }
    if !hedge.additional.is_none() {
        let values = json!({ "additional_request_percent": in_percent(hedge.additional) });
        say(format!("{} of the requests begin with one attempt more", percent(hedge.additional)), values);
    }
    if hedge.on_per_try_timeout {
        let values = json!({ "on_per_try_timeout": true });
        say("a try that takes too long goes on beside the next".to_owned(), values);
    }
}

fn of_mirror(mirror: &Mirror, method: &Method, sources: &Sources<'_>) -> Policy {
    let mut text = format!("{} of the requests are copied to {}", percent(mirror.share), mirror.cluster);
    let writes = match &mirror.writes {
        MirrorWrites::Sent => "Send",
        MirrorWrites::NotSent => {
            let rest = if method.is_safe() { "" } else { " (not this one)" };
            text.push_str(&format!(", but none that may change something{rest}"));
            "Skip"
        }
        MirrorWrites::Marked(header) => {
            text.push_str(&format!(", marked by {header} where they may change something"));
            "Mark"
        }
    };
    if let Some(Comparison { ignored_headers, .. }) = &mirror.comparison {
        text.push_str(", and the answers are compared");
        if !ignored_headers.is_empty() {
            let count = counted(ignored_headers.len() as u64, "header", "headers");
            text.push_str(&format!(" without {count}"));
        }
    }
    let values = json!({
        "cluster": mirror.cluster,
        "percent": in_percent(mirror.share),
        "writes": writes,
        "compares": mirror.comparison.is_some(),
    });
    let of_route = |route: &naru_resource::virtual_service::HttpRoute| {
        let listed = route.mirrors.first().map(|mirror| mirror.place);
        listed.or_else(|| route.mirror.as_ref().map(|mirror| mirror.place))
    };
    Policy::new("mirror", text, values, sources.route(of_route))
}
