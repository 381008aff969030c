//! What a breaker can do beside opening after a count of calls and trying again: windows of time, a timer that tries, a
//! ramp after it has closed, and states that somebody has said.

use std::time::Duration;

use naru_spec::{BreakerState, CircuitBreaker, WaitInOpen, Window};
use naru_tests::until;

use super::{Cut, breaker, cluster};

impl Cut {
    async fn opens(&self) {
        until("it to open", async || {
            self.ask("/status/500").await;
            (self.state() == BreakerState::Open).then_some(())
        })
        .await;
    }

    /// How many of so many calls reach the service.
    async fn pass(&self, calls: usize) -> usize {
        let mut passed = 0;
        for _ in 0..calls {
            passed += usize::from(self.ask("/status/200").await == 200);
        }
        passed
    }

    fn refused(&self) -> u64 {
        cluster(&self.naru).guard.unwrap().breaker.unwrap().refused_total
    }
}

#[tokio::test]
async fn a_timer_half_opens_it_without_a_call_and_else_a_call_does() {
    let by_timer = Cut::start(CircuitBreaker { automatic_half_open: true, ..breaker() }, 1).await;
    let by_call = Cut::start(breaker(), 1).await;
    by_call.opens().await;
    by_timer.opens().await;
    let asked = by_timer.upstream.requests();
    until("the timer", async || (by_timer.state() == BreakerState::HalfOpen).then_some(())).await;
    assert_eq!(by_timer.upstream.requests(), asked, "nobody has called");
    // It was opened before the other, and waits no longer.
    assert_eq!(by_call.state(), BreakerState::Open);
    assert_eq!(by_call.ask("/status/200").await, 200);
    assert_eq!(by_call.state(), BreakerState::HalfOpen);
}

#[tokio::test]
async fn what_is_older_than_a_window_of_time_does_not_count() {
    let window = Window::Seconds(2);
    let cut = Cut::start(CircuitBreaker { window, ..breaker() }, 2).await;
    for _ in 0..5 {
        assert_eq!(cut.ask("/status/500").await, 500);
    }
    // Ten failures decide, and five of them will be out of the window.
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    for _ in 0..5 {
        assert_eq!(cut.ask("/status/500").await, 500);
    }
    assert_eq!(cut.state(), BreakerState::Closed);
    cut.opens().await;
    assert_eq!(cut.ask("/status/200").await, 503);
}

#[tokio::test]
async fn after_it_has_closed_a_growing_part_passes() {
    let slowly = Cut::start(CircuitBreaker { ramp: Duration::from_secs(600), ..breaker() }, 2).await;
    let at_once = Cut::start(breaker(), 2).await;
    for cut in [&slowly, &at_once] {
        cut.opens().await;
        until("it to close", async || {
            cut.ask("/status/200").await;
            (cut.state() == BreakerState::Closed).then_some(())
        })
        .await;
    }
    assert_eq!(at_once.pass(50).await, 50);
    let refused = slowly.refused();
    let passed = slowly.pass(50).await;
    assert!(passed < 25, "{passed} of 50 passed, and it would take ten minutes until all do");
    assert_eq!(slowly.refused() - refused, 50 - passed as u64);
    assert_eq!(slowly.state(), BreakerState::Closed);
    let quickly = Cut::start(CircuitBreaker { ramp: Duration::from_millis(200), ..breaker() }, 2).await;
    quickly.opens().await;
    until("all to pass", async || (quickly.pass(20).await == 20).then_some(())).await;
}

#[tokio::test]
async fn a_state_that_was_said_stays_whatever_becomes_of_calls() {
    for (state, passes, is_counted) in [
        (BreakerState::Disabled, true, false),
        (BreakerState::MetricsOnly, true, true),
        (BreakerState::ForcedOpen, false, false),
    ] {
        let wait_in_open = WaitInOpen::Fixed(Duration::from_millis(10));
        let cut = Cut::start(CircuitBreaker { initial_state: state, wait_in_open, ..breaker() }, 2).await;
        for _ in 0..30 {
            let expected = if passes { 500 } else { 503 };
            assert_eq!(cut.ask("/status/500").await, expected, "{}", state.name());
        }
        assert_eq!(cut.state(), state);
        assert_eq!(cut.upstream.requests(), if passes { 30 } else { 0 }, "{}", state.name());
        let metrics = cluster(&cut.naru).guard.unwrap().breaker.unwrap().metrics;
        let expected = if is_counted { Some(10_000) } else { None };
        assert_eq!(metrics.failure_rate, expected, "{}: {metrics:?}", state.name());
    }
}
