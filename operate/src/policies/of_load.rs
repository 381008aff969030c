//! Limits of load and circuit breakers: of a rule, or of where it leads.

use naru_spec::limits::LoadLimits;
use naru_spec::{
    AdaptiveConcurrency, AfterHalfOpen, BreakerState, Bulkhead, CircuitBreaker, MinRtt, RateLimit,
    WaitInOpen, Window,
};
use serde_json::json;

use super::{Policy, Sources, in_percent, ms, percent};

/// In the order in which they are asked.
pub fn of(load: &LoadLimits, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    if let Some(named) = &load.breaker {
        policies.push(breaker(&named.settings, sources));
    }
    if let Some(named) = &load.admission {
        let settings = &named.settings;
        let (window, threshold) = (settings.window, percent(settings.success_threshold));
        let quiet = match settings.rps_threshold {
            0 => String::new(),
            rps => format!(", from {rps} requests a second"),
        };
        policies.push(Policy::new(
            "admissionControl",
            format!(
                "where less than {threshold} succeeded in the last {window:?}, a part is refused, at most {}{quiet}",
                percent(settings.rejection_max)
            ),
            json!({
                "window_ms": ms(window),
                "success_threshold_percent": in_percent(settings.success_threshold),
                "aggression": f64::from(settings.aggression_milli) / 1_000.0,
                "rps_threshold": settings.rps_threshold,
                "max_rejection_percent": in_percent(settings.rejection_max),
                "counted_as": named.name,
            }),
            sources.policy(|spec| spec.admission_control.as_ref().map(|said| said.place)),
        ));
    }
    if let Some(named) = &load.bulkhead {
        policies.push(bulkhead(named.settings, &named.name, sources));
    }
    if let Some(named) = &load.rate {
        policies.push(rate(named.settings, &named.name, sources));
    }
    if let Some(named) = &load.adaptive {
        policies.push(adaptive(&named.settings, &named.name, sources));
    }
}

fn bulkhead(settings: Bulkhead, name: &str, sources: &Sources<'_>) -> Policy {
    let waiting = settings.waiting_max();
    let rest = match waiting {
        0 => "others are refused".to_owned(),
        waiting => format!("{waiting} more wait up to {:?}, others are refused", settings.wait_max),
    };
    Policy::new(
        "bulkhead",
        format!("at most {} requests at a time; {rest}", settings.concurrency_max),
        json!({
            "max_concurrent": settings.concurrency_max,
            "max_queue": waiting,
            "max_wait_ms": ms(settings.wait_max),
            "counted_as": name,
        }),
        sources.bulkhead(),
    )
}

fn rate(settings: RateLimit, name: &str, sources: &Sources<'_>) -> Policy {
    let rest = match settings.wait_max {
        wait if wait.is_zero() => "others are refused".to_owned(),
        wait => format!("others wait up to {wait:?} for their turn, or are refused"),
    };
    Policy::new(
        "outboundRate",
        format!("at most {} calls each {:?}; {rest}", settings.limit, settings.period),
        json!({
            "limit": settings.limit,
            "period_ms": ms(settings.period),
            "max_wait_ms": ms(settings.wait_max),
            "counted_as": name,
        }),
        sources.policy(|spec| spec.outbound_rate.as_ref().map(|said| said.place)),
    )
}

fn adaptive(settings: &AdaptiveConcurrency, name: &str, sources: &Sources<'_>) -> Policy {
    let rtt = match settings.min_rtt {
        MinRtt::Measured { interval, .. } => format!("that is measured each {interval:?}"),
        MinRtt::Fixed(latency) => format!("of {latency:?}"),
    };
    Policy::new(
        "adaptiveConcurrency",
        format!(
            "a limit of requests at a time that follows how p{} compares with the time without load, {rtt}: {} to {}",
            in_percent(settings.sample_percentile),
            settings.concurrency_min,
            settings.concurrency_max
        ),
        json!({
            "min_concurrency": settings.concurrency_min,
            "max_concurrency": settings.concurrency_max,
            "sample_percentile": in_percent(settings.sample_percentile),
            "update_interval_ms": ms(settings.update_interval),
            "buffer_percent": in_percent(settings.buffer),
            "min_rtt": match settings.min_rtt {
                MinRtt::Measured { interval, jitter, requests } => json!({
                    "interval_ms": ms(interval),
                    "jitter_percent": in_percent(jitter),
                    "requests": requests,
                }),
                MinRtt::Fixed(latency) => json!({ "fixed_ms": ms(latency) }),
            },
            "refused_status": settings.refused_status,
            "counted_as": name,
        }),
        sources.policy(|spec| spec.adaptive_concurrency.as_ref().map(|said| said.place)),
    )
}

pub fn breaker(settings: &CircuitBreaker, sources: &Sources<'_>) -> Policy {
    let hundredths = |percent: naru_spec::Percent| f64::from(percent.hundredths()) / 100.0;
    let (failures, slow) = (hundredths(settings.failure_rate), hundredths(settings.slow_call_rate));
    let window = match settings.window.bounded() {
        Window::Count(calls) => format!("the last {calls} calls"),
        Window::Seconds(seconds) => format!("the calls of the last {seconds}s"),
    };
    let wait = match settings.wait_in_open {
        WaitInOpen::Fixed(wait) => format!("for {wait:?}"),
        WaitInOpen::Exponential { initial, multiplier, max, .. } => {
            let times = f64::from(multiplier) / 1_000.0;
            format!("for {initial:?}, each time in a row {times} times as long, at most {max:?}")
        }
    };
    let least = settings.effective_minimum();
    let opens = format!(
        "opens where {failures}% of {window} fail or {slow}% take over {:?} (of at least {least})",
        settings.slow_call_duration
    );
    let text = match settings.initial_state {
        BreakerState::ForcedOpen => "its breaker is FORCED_OPEN: no call passes".to_owned(),
        BreakerState::Disabled => "its breaker is DISABLED: all calls pass, and none is counted".to_owned(),
        BreakerState::MetricsOnly => {
            format!("its breaker is METRICS_ONLY: all calls pass, and it is only told when it {opens}")
        }
        BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => {
            let mut text = format!("its breaker {opens}, {wait}; then {} calls try", settings.trials());
            if settings.automatic_half_open {
                text.push_str(", by a timer");
            }
            if let Some(longest) = settings.max_wait_in_half_open {
                let after = match settings.after_half_open {
                    AfterHalfOpen::Open => "opens again",
                    AfterHalfOpen::Closed => "closes",
                };
                text.push_str(&format!(", and it {after} after {longest:?} of trying"));
            }
            if !settings.ramp.is_zero() {
                text.push_str(&format!(
                    "; after that the part that passes grows for {:?} until it is all",
                    settings.ramp
                ));
            }
            text
        }
    };
    let values = json!({
        "initial_state": settings.initial_state.name(),
        "window": match settings.window.bounded() {
            Window::Count(calls) => json!({ "calls": calls }),
            Window::Seconds(seconds) => json!({ "seconds": seconds }),
        },
        "minimum_calls": least,
        "failure_rate_percent": failures,
        "slow_call_rate_percent": slow,
        "slow_call_ms": ms(settings.slow_call_duration),
        "wait_in_open": match settings.wait_in_open {
            WaitInOpen::Fixed(wait) => json!({ "fixed_ms": ms(wait) }),
            WaitInOpen::Exponential { initial, multiplier, max, randomization } => json!({
                "initial_ms": ms(initial),
                "multiplier": f64::from(multiplier) / 1_000.0,
                "max_ms": ms(max),
                "randomization": f64::from(randomization) / 1_000.0,
            }),
        },
        "trial_calls": settings.trials(),
        "automatic_half_open": settings.automatic_half_open,
        "max_wait_in_half_open_ms": settings.max_wait_in_half_open.map(ms),
        "gradual_recovery_ms": ms(settings.ramp),
    });
    Policy::new("circuitBreaker", text, values, sources.breaker())
}
