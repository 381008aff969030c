//! A `CircuitBreaker`, made of what is written.

use naru_resource::circuit_breaker::{
    AfterWait, CircuitBreakerSpec, ExponentialBackoff, InitialState, WindowType,
};
use naru_resource::{Number, Placed};
use naru_spec::{
    AfterHalfOpen, BreakerState, CircuitBreaker, Path, Percent, WaitInOpen, Window, code, defaults,
};

use super::{count, statuses};
use crate::findings::Findings;
use crate::teller::Teller;

pub(crate) fn read(said: &CircuitBreakerSpec, findings: &mut Findings<'_>) -> CircuitBreaker {
    let path = Path::ROOT.field("spec");
    let mut read = CircuitBreaker::default();
    let is_timed = said.sliding_window_type.as_ref().is_some_and(|kind| kind.value == WindowType::TimeBased);
    let size = count(&said.sliding_window_size, &path, "slidingWindowSize", findings);
    let size = size.unwrap_or(defaults::BREAKER_WINDOW);
    read.window = if is_timed { Window::Seconds(size) } else { Window::Count(size) };
    if let Some(calls) = count(&said.minimum_number_of_calls, &path, "minimumNumberOfCalls", findings) {
        read.minimum_calls = calls;
        if !is_timed && calls > size {
            let place = said.minimum_number_of_calls.as_ref().map_or(said.place, |calls| calls.place);
            let message = format!("the window holds {size} calls, so {size} are enough to decide");
            let hint = format!("write {size}, or make the window larger");
            findings.warning(code::NO_EFFECT, place, &path.field("minimumNumberOfCalls"), message, hint);
        }
    }
    if let Some(rate) = percent(&said.failure_rate_threshold, &path, "failureRateThreshold", findings) {
        read.failure_rate = rate;
    }
    if let Some(rate) = percent(&said.slow_call_rate_threshold, &path, "slowCallRateThreshold", findings) {
        read.slow_call_rate = rate;
    }
    if let Some(duration) = &said.slow_call_duration_threshold {
        read.slow_call_duration = duration.value;
    }
    let wait = said.wait_duration_in_open_state.as_ref().map_or(defaults::BREAKER_WAIT_IN_OPEN, |w| w.value);
    read.wait_in_open = match &said.exponential_backoff {
        Some(backoff) => exponential(wait, backoff, &path.field("exponentialBackoff"), findings),
        None => WaitInOpen::Fixed(wait),
    };
    let trials = &said.permitted_number_of_calls_in_half_open_state;
    if let Some(trials) = count(trials, &path, "permittedNumberOfCallsInHalfOpenState", findings) {
        read.trial_calls = trials;
    }
    let longest = said.max_wait_duration_in_half_open_state.as_ref().map(|wait| wait.value);
    // As there, zero waits for ever.
    read.max_wait_in_half_open = longest.filter(|wait| !wait.is_zero());
    if said.transition_to_state_after_wait_duration.as_ref().is_some_and(|to| to.value == AfterWait::Closed) {
        read.after_half_open = AfterHalfOpen::Closed;
    }
    read.automatic_half_open =
        said.automatic_transition_from_open_to_half_open_enabled.as_ref().is_some_and(|flag| flag.value);
    read.initial_state = match said.initial_state.as_ref().map(|state| state.value) {
        None | Some(InitialState::Closed) => BreakerState::Closed,
        Some(InitialState::Disabled) => BreakerState::Disabled,
        Some(InitialState::MetricsOnly) => BreakerState::MetricsOnly,
        Some(InitialState::ForcedOpen) => BreakerState::ForcedOpen,
    };
    failures(said, &mut read, &path, findings);
    read.ramp = said.gradual_recovery.as_ref().map(|ramp| ramp.value).unwrap_or_default();
    read.ignores_late_calls = said.ignore_late_calls.as_ref().is_some_and(|flag| flag.value);
    teller(said, path).tell(read.problems(), findings);
    read
}

/// Knows where each field stands.
fn teller<'a>(said: &CircuitBreakerSpec, path: Path<'a>) -> Teller<'a> {
    let mut teller = Teller::new(path, said.place);
    teller.note(&said.sliding_window_size, "slidingWindowSize");
    teller.note(&said.minimum_number_of_calls, "minimumNumberOfCalls");
    teller.note(&said.failure_rate_threshold, "failureRateThreshold");
    teller.note(&said.slow_call_rate_threshold, "slowCallRateThreshold");
    teller.note(&said.slow_call_duration_threshold, "slowCallDurationThreshold");
    teller.note(&said.wait_duration_in_open_state, "waitDurationInOpenState");
    if let Some(backoff) = &said.exponential_backoff {
        teller.note(&backoff.multiplier, "exponentialBackoff.multiplier");
        teller.note(&backoff.max_wait_duration, "exponentialBackoff.maxWaitDuration");
        teller.note(&backoff.randomized_wait_factor, "exponentialBackoff.randomizedWaitFactor");
    }
    let trials = &said.permitted_number_of_calls_in_half_open_state;
    teller.note(trials, "permittedNumberOfCallsInHalfOpenState");
    teller.note(&said.initial_state, "initialState");
    teller.note(&said.gradual_recovery, "gradualRecovery");
    let wrong = |codes: &[Number]| codes.iter().find(|code| !(0..=16).contains(&code.value)).copied();
    let recorded = said.record.as_ref().and_then(|record| wrong(&record.grpc_statuses));
    let ignored = said.ignore.as_ref().and_then(|ignore| wrong(&ignore.grpc_statuses));
    teller.note(&recorded, "record.grpcStatuses");
    teller.note(&ignored, "ignore.grpcStatuses");
    teller
}

fn failures(
    said: &CircuitBreakerSpec,
    read: &mut CircuitBreaker,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let failures = &mut read.failures;
    if let Some(record) = &said.record {
        let path = path.field("record");
        // Each list stands in the place of its own defaults.
        if !record.statuses.is_empty() {
            failures.statuses = statuses(&record.statuses, &path.field("statuses"), findings);
        }
        if !record.grpc_statuses.is_empty() {
            failures.grpc_statuses = codes(&record.grpc_statuses);
        }
        for (to, flag) in [
            (&mut failures.connect_failures, &record.connect_failures),
            (&mut failures.resets, &record.resets),
            (&mut failures.timeouts, &record.timeouts),
        ] {
            *to = flag.as_ref().is_none_or(|flag| flag.value);
        }
    }
    if let Some(ignore) = &said.ignore {
        let path = path.field("ignore");
        failures.ignored_statuses = statuses(&ignore.statuses, &path.field("statuses"), findings);
        failures.ignored_grpc_statuses = codes(&ignore.grpc_statuses);
    }
}

/// What is no status of gRPC is told with all that cannot be.
fn codes(said: &[Number]) -> Vec<u8> {
    said.iter().map(|code| u8::try_from(code.value).unwrap_or(u8::MAX)).collect()
}

fn exponential(
    initial: std::time::Duration,
    said: &ExponentialBackoff,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> WaitInOpen {
    let thousandths = |said: &Option<Placed<f64>>, default: u32| {
        said.as_ref().map_or(default, |said| (said.value.clamp(0.0, 1_000_000.0) * 1_000.0).round() as u32)
    };
    let max = said.max_wait_duration.as_ref().map(|max| max.value);
    if max.is_none() {
        let message = "a wait that grows needs a longest one";
        findings.error(code::MISSING_FIELD, said.place, &path.field("maxWaitDuration"), message, "");
    }
    WaitInOpen::Exponential {
        initial,
        multiplier: thousandths(&said.multiplier, defaults::BREAKER_WAIT_MULTIPLIER),
        max: max.unwrap_or(initial),
        randomization: thousandths(&said.randomized_wait_factor, 0),
    }
}

fn percent(
    said: &Option<Placed<f64>>,
    path: &Path<'_>,
    name: &str,
    findings: &mut Findings<'_>,
) -> Option<Percent> {
    let said = said.as_ref()?;
    if !(said.value > 0.0 && said.value <= 100.0) {
        let message = format!("{} is no percentage: above 0, up to 100", said.value);
        findings.error(code::INVALID_VALUE, said.place, &path.field(name), message, "");
        return None;
    }
    Percent::of_hundredths((said.value * 100.0).round() as u32).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_spec::StatusRange;

    use super::*;

    fn read_from(fields: &str) -> (CircuitBreaker, Vec<String>) {
        let text = format!(
            "apiVersion: naru.dev/v1alpha1\nkind: CircuitBreaker\nmetadata: {{name: a}}\nspec:\n  \
             targetRef: {{kind: Service, name: a}}\n{fields}"
        );
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", &text, &mut loaded);
        let mut findings = Findings::new(&loaded.resources.files);
        let settings = read(&loaded.resources.circuit_breakers[0].spec, &mut findings);
        let told = loaded.problems.into_iter().chain(findings.into_problems());
        (settings, told.map(|problem| problem.message).collect())
    }

    #[test]
    fn the_breaker_of_the_seed_is_said_in_resilience4js_words() {
        let (settings, told) = read_from(
            "  slidingWindowSize: 10\n  failureRateThreshold: 50\n  waitDurationInOpenState: 30s\n  \
             permittedNumberOfCallsInHalfOpenState: 5\n  slowCallDurationThreshold: 3s\n",
        );
        assert_eq!(told, [""; 0]);
        let expected = CircuitBreaker {
            window: Window::Count(10),
            wait_in_open: WaitInOpen::Fixed(Duration::from_secs(30)),
            trial_calls: 5,
            slow_call_duration: Duration::from_secs(3),
            ..CircuitBreaker::default()
        };
        assert_eq!(settings, expected);
        assert_eq!((settings.effective_minimum(), settings.effective_trials()), (10, 5));
    }

    #[test]
    fn everything_else_can_be_said() {
        let (settings, told) = read_from(
            "  slidingWindowType: TIME_BASED\n  slidingWindowSize: 30\n  minimumNumberOfCalls: 20\n  \
             failureRateThreshold: 33.5\n  slowCallRateThreshold: 80\n  waitDurationInOpenState: 2s\n  \
             exponentialBackoff: {multiplier: 2, maxWaitDuration: 5m, randomizedWaitFactor: 0.25}\n  \
             maxWaitDurationInHalfOpenState: 10s\n  transitionToStateAfterWaitDuration: CLOSED\n  \
             automaticTransitionFromOpenToHalfOpenEnabled: true\n  initialState: METRICS_ONLY\n  \
             record: {statuses: [500-599, \"429\"], resets: false}\n  ignore: {grpcStatuses: [1]}\n  \
             gradualRecovery: 10s\n  ignoreLateCalls: true\n",
        );
        assert_eq!(told, [""; 0]);
        assert_eq!((settings.window, settings.minimum_calls), (Window::Seconds(30), 20));
        assert_eq!(settings.failure_rate.hundredths(), 3_350);
        assert_eq!(
            settings.wait_in_open,
            WaitInOpen::Exponential {
                initial: Duration::from_secs(2),
                multiplier: 2_000,
                max: Duration::from_secs(300),
                randomization: 250,
            }
        );
        assert_eq!(settings.initial_state, BreakerState::MetricsOnly);
        assert_eq!(settings.after_half_open, AfterHalfOpen::Closed);
        let failures = &settings.failures;
        assert_eq!(failures.statuses, [StatusRange::SERVER_ERRORS, StatusRange::new(429, 430).unwrap()]);
        assert_eq!((failures.resets, failures.timeouts), (false, true));
        // Nothing was said of those of gRPC.
        assert_eq!(failures.grpc_statuses, defaults::GRPC_FAILURES);
        assert_eq!(failures.ignored_grpc_statuses, [1]);
        assert!(settings.automatic_half_open && settings.ignores_late_calls);
    }
}
