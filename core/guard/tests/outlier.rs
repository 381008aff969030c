//! Ejection, rule by rule. Envoy's, and Istio's settings of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_guard::{AttemptResult, Cause, Change, Detector, EndpointKey, Grpc};
use naru_spec::{OutlierDetection, StatusRange};

const A: EndpointKey = EndpointKey(0);

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Istio's defaults, for two endpoints of which one may go.
fn settings() -> OutlierDetection {
    let mut settings = OutlierDetection { max_ejection_percent: 50, ..OutlierDetection::default() };
    settings.enforcing.success_rate = 0;
    settings
}

struct World {
    detector: Detector,
    changes: Vec<Change>,
}

impl World {
    fn new(settings: OutlierDetection, endpoints: u64) -> World {
        let endpoints = (0..endpoints).map(EndpointKey);
        World { detector: Detector::new(at(0), settings, endpoints, Chance::new(3)), changes: Vec::new() }
    }

    fn tell(&mut self, now: Instant, endpoint: EndpointKey, result: AttemptResult, times: u32) {
        for _ in 0..times {
            self.detector.on_outcome(now, endpoint, result, &mut self.changes);
        }
        self.detector.check_invariants().unwrap();
    }

    fn answers(&mut self, now: Instant, endpoint: EndpointKey, status: u16, times: u32) {
        self.tell(now, endpoint, AttemptResult::answered(status), times);
    }

    fn sweep(&mut self, now: Instant) {
        self.detector.tick(now, &mut self.changes);
        self.detector.check_invariants().unwrap();
    }

    fn ejected(&self) -> Vec<u64> {
        (0..100).filter(|key| self.detector.is_ejected(EndpointKey(*key))).collect()
    }
}

#[test]
fn five_errors_in_a_row_eject_and_a_success_between_them_begins_anew() {
    let mut world = World::new(settings(), 2);
    world.answers(at(1), A, 500, 4);
    world.answers(at(1), A, 404, 1);
    world.answers(at(1), A, 500, 4);
    assert_eq!(world.changes, []);
    world.answers(at(1), A, 599, 1);
    let ejected = Change::Ejected { endpoint: A, cause: Cause::Consecutive5xx, until: at(31), times: 1 };
    assert_eq!(world.changes, [ejected]);
    let stats = world.detector.stats();
    assert_eq!((stats.ejections_active, stats.ejections_enforced_total), (1, 1));
    assert_eq!((stats.enforced(Cause::Consecutive5xx), stats.detected(Cause::Consecutive5xx)), (1, 1));
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_after_a_success() {
    let mut world = World::new(OutlierDetection { consecutive_5xx: 2, ..settings() }, 2);
    for _ in 0..3 {
        world.answers(at(1), A, 200, 1);
        world.tell(at(1), A, AttemptResult::Aborted, 1);
    }
    assert_eq!(world.changes, []);
    world.answers(at(1), A, 503, 1);
    assert_eq!(world.ejected(), [0]);
}

#[test]
fn an_ejection_ends_at_a_sweep_and_each_further_one_lasts_longer() {
    let mut world = World::new(settings(), 2);
    let mut now = 0;
    for (times, lasts) in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300].into_iter().enumerate() {
        world.changes.clear();
        world.answers(at(now + 1), A, 500, 5);
        let [Change::Ejected { until, times: told, .. }] = world.changes[..] else { panic!() };
        assert_eq!((until, told), (at(now + 1 + lasts), times as u32 + 1));
        // The sweep before the end, and the one after it.
        world.sweep(at(now + lasts));
        assert_eq!(world.ejected(), [0]);
        now += lasts + 10;
        world.sweep(at(now));
        assert_eq!(world.ejected(), [0; 0]);
    }
    // Eleven ejections are remembered, one more than the longest has: nine quiet sweeps leave two.
    for sweep in 1..=9 {
        world.sweep(at(now + 10 * sweep));
    }
    world.changes.clear();
    world.answers(at(now + 91), A, 500, 5);
    let [Change::Ejected { until, .. }] = world.changes[..] else { panic!() };
    assert_eq!(until, at(now + 91 + 90));
}

#[test]
fn what_is_remembered_fades_by_one_at_each_sweep_since_the_return() {
    let mut world = World::new(settings(), 2);
    for _ in 0..2 {
        world.answers(at(1), A, 500, 5);
        world.detector.on_healthy(at(2), A, &mut world.changes);
    }
    // Two are remembered. 8 s after the return nothing fades, 18 s after it one does.
    world.sweep(at(10));
    world.sweep(at(20));
    world.changes.clear();
    world.answers(at(21), A, 500, 5);
    let [Change::Ejected { until, times: 3, .. }] = world.changes[..] else { panic!() };
    assert_eq!(until, at(21 + 60));
}

#[test]
fn no_more_go_than_may() {
    for (percent, always, endpoints, expected) in [
        (50, false, 1, 0),
        (50, false, 2, 1),
        (50, false, 3, 1),
        (10, false, 9, 0),
        (10, true, 1, 1),
        (100, false, 3, 3),
    ] {
        let detection =
            OutlierDetection { max_ejection_percent: percent, always_eject_one_host: always, ..settings() };
        let mut world = World::new(detection, endpoints);
        for endpoint in 0..endpoints {
            world.answers(at(1), EndpointKey(endpoint), 500, 5);
        }
        assert_eq!(world.ejected().len(), expected, "{percent} % of {endpoints}");
        let overflow = world.detector.stats().ejections_overflow;
        assert_eq!(overflow, endpoints - expected as u64);
    }
}

#[test]
fn a_run_that_could_not_eject_begins_anew() {
    let mut world = World::new(OutlierDetection { max_ejection_percent: 0, ..settings() }, 2);
    world.answers(at(1), A, 500, 14);
    assert_eq!(world.detector.stats().ejections_overflow, 2);
}

#[test]
fn gateway_errors_are_detected_and_only_acted_on_where_somebody_says_so() {
    let mut world = World::new(OutlierDetection { consecutive_5xx: 0, ..settings() }, 2);
    world.answers(at(1), A, 502, 2);
    world.answers(at(1), A, 504, 3);
    let spared = Change::Spared { endpoint: A, cause: Cause::ConsecutiveGatewayFailure };
    assert_eq!(world.changes, [spared]);
    let mut detection = OutlierDetection { consecutive_gateway_failure: 3, ..settings() };
    detection.enforcing.consecutive_gateway_failure = 100;
    let mut world = World::new(detection, 2);
    world.answers(at(1), A, 503, 2);
    world.answers(at(1), A, 500, 1);
    world.answers(at(1), A, 503, 1);
    assert_eq!(world.ejected(), [0; 0], "a 500 is none of a gateway");
    // Five 5xx in a row come before the next three of a gateway.
    world.answers(at(1), A, 503, 1);
    let stats = world.detector.stats();
    assert_eq!((stats.enforced(Cause::Consecutive5xx), world.ejected()), (1, vec![0]));
}

#[test]
fn failures_that_the_proxy_saw_are_errors_or_counted_apart() {
    let reset = AttemptResult::Reset;
    let mut world = World::new(settings(), 2);
    world.tell(at(1), A, AttemptResult::ConnectFailed, 2);
    world.tell(at(1), A, reset, 2);
    world.tell(at(1), A, AttemptResult::TimedOut { is_connected: false }, 9);
    world.tell(at(1), A, AttemptResult::Abandoned, 9);
    assert_eq!(world.ejected(), [0; 0]);
    world.tell(at(1), A, AttemptResult::TimedOut { is_connected: true }, 1);
    assert_eq!(world.ejected(), [0]);

    let split = OutlierDetection { split_external_local_origin_errors: true, ..settings() };
    let mut world = World::new(split, 2);
    world.tell(at(1), A, reset, 20);
    assert_eq!(world.ejected(), [0; 0], "each was connected before it broke");
    world.tell(at(1), A, AttemptResult::ConnectFailed, 3);
    world.answers(at(1), A, 500, 4);
    world.tell(at(1), A, AttemptResult::ConnectFailed, 4);
    assert_eq!(world.ejected(), [0; 0]);
    world.tell(at(1), A, AttemptResult::ConnectFailed, 1);
    assert_eq!(world.detector.stats().enforced(Cause::ConsecutiveLocalOriginFailure), 1);
}

#[test]
fn a_status_of_grpc_in_the_head_stands_for_that_of_http() {
    let mut world = World::new(settings(), 2);
    let answer = |grpc| AttemptResult::Answered { status: 200, grpc };
    world.tell(at(1), A, answer(Grpc::Trailers(14)), 9);
    world.tell(at(1), A, answer(Grpc::Head(14)), 4);
    world.tell(at(1), A, answer(Grpc::Head(5)), 1);
    world.tell(at(1), A, answer(Grpc::Head(14)), 4);
    assert_eq!(world.ejected(), [0; 0]);
    world.tell(at(1), A, answer(Grpc::Head(14)), 1);
    assert_eq!(world.ejected(), [0]);
}

#[test]
fn statuses_that_are_said_to_be_errors_are_the_only_ones() {
    let error_statuses = Some(vec![StatusRange::new(429, 430).unwrap(), StatusRange::new(503, 504).unwrap()]);
    let mut world = World::new(OutlierDetection { error_statuses, ..settings() }, 2);
    world.answers(at(1), A, 500, 9);
    world.answers(at(1), A, 429, 4);
    assert_eq!(world.ejected(), [0; 0]);
    world.answers(at(1), A, 503, 1);
    assert_eq!(world.ejected(), [0]);
}

/// Five endpoints answer a hundred times each, with so many errors.
fn interval(world: &mut World, errors: [u32; 5]) {
    for (endpoint, errors) in (0..).map(EndpointKey).zip(errors) {
        for nth in 0..100 {
            // Far apart, so that none follows on another.
            let is_error = (nth * errors) % 100 < errors;
            world.answers(at(5), endpoint, if is_error { 500 } else { 200 }, 1);
        }
    }
    world.sweep(at(10));
}

#[test]
fn a_success_rate_far_below_the_mean_ejects_at_the_sweep() {
    let mut detection = OutlierDetection { consecutive_5xx: 0, ..OutlierDetection::default() };
    detection.max_ejection_percent = 20;
    let mut world = World::new(detection.clone(), 5);
    interval(&mut world, [50, 0, 0, 0, 0]);
    assert_eq!(world.ejected(), [0]);
    assert_eq!(world.detector.stats().enforced(Cause::SuccessRate), 1);
    assert_eq!(world.detector.success_rate(A), Some(50.0));
    let mut world = World::new(detection.clone(), 5);
    interval(&mut world, [50, 50, 0, 0, 0]);
    assert_eq!(world.ejected(), [0; 0], "two of five are no outliers");
    detection.success_rate.request_volume = 101;
    let mut world = World::new(detection, 5);
    interval(&mut world, [50, 0, 0, 0, 0]);
    assert_eq!(world.ejected(), [0; 0], "too few requests");
}

#[test]
fn a_failure_percentage_ejects_where_somebody_says_so() {
    let mut detection = OutlierDetection { consecutive_5xx: 0, max_ejection_percent: 40, ..settings() };
    detection.enforcing.failure_percentage = 100;
    let mut world = World::new(detection, 5);
    interval(&mut world, [85, 84, 90, 0, 99]);
    assert_eq!(world.ejected(), [0, 2], "in the order of keys, as many as may go");
    let stats = world.detector.stats();
    assert_eq!((stats.detected(Cause::FailurePercentage), stats.ejections_overflow), (3, 1));
    world.sweep(at(20));
    assert_eq!(world.ejected(), [0, 2], "another interval began with nothing");
}

#[test]
fn enforcing_is_a_chance() {
    let mut detection = OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 100, ..settings() };
    detection.enforcing.consecutive_5xx = 30;
    let mut world = World::new(detection, 1_000);
    for endpoint in 0..1_000 {
        world.answers(at(1), EndpointKey(endpoint), 500, 1);
    }
    let enforced = world.detector.stats().enforced(Cause::Consecutive5xx);
    assert!((250..350).contains(&enforced), "{enforced}");
}

#[test]
fn jitter_spreads_the_ends() {
    let detection =
        OutlierDetection { max_ejection_time_jitter: secs(10), max_ejection_percent: 100, ..settings() };
    let mut world = World::new(detection, 500);
    for endpoint in 0..500 {
        world.answers(at(0), EndpointKey(endpoint), 500, 5);
    }
    let ends = world.changes.iter().map(|change| match change {
        Change::Ejected { until, .. } => until.since(at(30)),
        other => panic!("{other:?}"),
    });
    let ends: Vec<Duration> = ends.collect();
    assert!(ends.iter().all(|end| *end <= secs(10)));
    assert!(ends.iter().any(|end| *end < secs(1)) && ends.iter().any(|end| *end > secs(9)));
}

#[test]
fn an_endpoint_that_goes_gives_its_place_back_and_one_that_stays_keeps_its_run() {
    let mut world = World::new(settings(), 2);
    world.answers(at(1), A, 500, 5);
    world.answers(at(1), EndpointKey(1), 500, 4);
    world.detector.set_endpoints([EndpointKey(1), EndpointKey(2)]);
    world.detector.check_invariants().unwrap();
    assert_eq!(world.detector.stats().ejections_active, 0);
    world.answers(at(2), EndpointKey(1), 500, 1);
    assert_eq!(world.ejected(), [1]);
    world.answers(at(2), A, 500, 9);
    assert_eq!(world.ejected(), [1], "it is not there any longer");
}

#[test]
fn a_passed_health_check_ends_an_ejection_unless_it_is_told_not_to() {
    for successful_active_health_check_uneject_host in [true, false] {
        let detection = OutlierDetection { successful_active_health_check_uneject_host, ..settings() };
        let mut world = World::new(detection, 2);
        world.answers(at(1), A, 500, 5);
        world.changes.clear();
        world.detector.on_healthy(at(2), A, &mut world.changes);
        let returned = world.changes == [Change::Returned { endpoint: A }];
        assert_eq!(returned, successful_active_health_check_uneject_host);
    }
}
