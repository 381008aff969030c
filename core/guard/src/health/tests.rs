//! Health checks on virtual time: what an endpoint is after which answers, and when it is asked next.

use naru_spec::{HttpCheck, Probe, StatusRange};

use super::*;

const ONE: EndpointKey = EndpointKey(1);
const GOOD: ProbeResult = ProbeResult::Http { status: 200, is_degraded: false, has_immediate_fail: false };
const DEGRADED: ProbeResult = ProbeResult::Http { status: 200, is_degraded: true, has_immediate_fail: false };
const BUSY: ProbeResult = ProbeResult::Http { status: 503, is_degraded: false, has_immediate_fail: false };
const BAD: ProbeResult = ProbeResult::Http { status: 500, is_degraded: false, has_immediate_fail: false };
const LAST: ProbeResult = ProbeResult::Http { status: 500, is_degraded: false, has_immediate_fail: true };

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Intervals that are told apart: 10 s, 20 s unhealthy, 2 s and 3 s at the edges.
fn settings() -> HealthCheck {
    HealthCheck {
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        unhealthy_interval: Some(seconds(20)),
        unhealthy_edge_interval: Some(seconds(2)),
        healthy_edge_interval: Some(seconds(3)),
        ..HealthCheck::new(
            seconds(1),
            seconds(10),
            Probe::Http(HttpCheck {
                retriable_statuses: vec![StatusRange::new(503, 504).unwrap()],
                ..HttpCheck::new("/healthz")
            }),
        )
    }
}

/// A shell that answers each probe as the test says.
struct World {
    checks: Checks,
    now: Instant,
    actions: Vec<Action>,
    changes: Vec<Change>,
}

impl World {
    fn new(settings: HealthCheck) -> World {
        let mut checks = Checks::new(at(0), settings, [ONE], Chance::new(1));
        checks.on_traffic();
        World { checks, now: at(0), actions: Vec::new(), changes: Vec::new() }
    }

    /// Waits for the next probe; how long that took.
    fn begin(&mut self) -> (Duration, u32) {
        let due = self.checks.deadline().unwrap();
        let waited = due.since(self.now);
        self.now = due;
        self.actions.clear();
        self.checks.tick(due, &mut self.actions, &mut self.changes);
        let [Action::Probe { endpoint: ONE, number }] = self.actions[..] else {
            panic!("{:?}", self.actions)
        };
        (waited, number)
    }

    /// The next probe is answered so: how long it was waited for, and what the endpoint is then.
    fn answer(&mut self, result: ProbeResult) -> (u64, Health) {
        let (waited, number) = self.begin();
        self.checks.on_probe(self.now, ONE, number, result, &mut self.changes);
        self.checks.check_invariants().unwrap();
        (waited.as_secs(), self.checks.health(ONE))
    }
}

#[test]
fn one_pass_is_enough_at_first_and_later_the_thresholds_hold() {
    let mut world = World::new(settings());
    assert_eq!(world.checks.health(ONE), Health::Pending);
    assert_eq!(world.answer(GOOD), (0, Health::Healthy));
    assert_eq!(world.answer(ProbeResult::Broken), (10, Health::Healthy));
    assert_eq!(world.answer(BUSY), (2, Health::Healthy), "the edge: failures are counted");
    assert_eq!(world.answer(GOOD), (2, Health::Healthy), "a pass between them begins anew");
    assert_eq!(world.answer(BUSY), (10, Health::Healthy));
    assert_eq!(world.answer(BUSY), (2, Health::Healthy));
    assert_eq!(world.answer(ProbeResult::Broken), (2, Health::Failed));
    assert_eq!(world.answer(ProbeResult::Broken), (20, Health::Failed));
    assert_eq!(world.answer(GOOD), (20, Health::Failed));
    assert_eq!(world.answer(BUSY), (3, Health::Failed), "the other edge");
    assert_eq!(world.answer(GOOD), (20, Health::Failed));
    assert_eq!(world.answer(GOOD), (3, Health::Healthy));
    assert_eq!(world.answer(GOOD), (10, Health::Healthy));
    let stats = world.checks.stats();
    assert_eq!((stats.attempt, stats.success, stats.failure, stats.network_failure), (13, 6, 7, 3));
}

#[test]
fn a_wrong_status_makes_unhealthy_at_once() {
    let mut world = World::new(settings());
    assert_eq!(world.answer(GOOD).1, Health::Healthy);
    assert_eq!(world.answer(BAD).1, Health::Failed);
}

#[test]
fn the_first_probe_that_fails_leaves_the_endpoint_unhealthy() {
    let mut world = World::new(settings());
    assert_eq!(world.answer(ProbeResult::Broken), (0, Health::Failed));
    assert_eq!(world.answer(GOOD), (20, Health::Failed), "then one pass is not enough");
    assert_eq!(world.answer(GOOD), (3, Health::Healthy));
}

#[test]
fn a_timeout_is_a_failure_that_counts_and_its_late_answer_is_none() {
    let mut world = World::new(settings());
    world.answer(GOOD);
    for expected in [Health::Healthy, Health::Healthy, Health::Failed] {
        let (_, number) = world.begin();
        assert_eq!(world.checks.deadline(), Some(world.now + seconds(1)));
        world.now = world.now + seconds(1);
        world.actions.clear();
        world.checks.tick(world.now, &mut world.actions, &mut world.changes);
        assert_eq!(world.actions, [Action::CancelProbe { endpoint: ONE, number }]);
        assert!(!world.checks.on_probe(world.now, ONE, number, GOOD, &mut world.changes));
        assert_eq!(world.checks.health(ONE), expected);
    }
}

#[test]
fn an_answer_that_comes_after_the_next_probe_began_is_none() {
    let mut world = World::new(settings());
    let (_, first) = world.begin();
    world.now = world.now + seconds(1);
    world.checks.tick(world.now, &mut world.actions, &mut world.changes);
    let (_, second) = world.begin();
    world.checks.on_probe(world.now, ONE, first, GOOD, &mut world.changes);
    world.checks.on_probe(world.now, ONE, second, ProbeResult::Broken, &mut world.changes);
    let stats = world.checks.stats();
    assert_eq!((stats.success, stats.failure), (0, 2));
}

#[test]
fn an_endpoint_says_that_it_is_degraded_or_not_to_be_asked() {
    let mut world = World::new(settings());
    assert_eq!(world.answer(DEGRADED), (0, Health::Degraded));
    assert_eq!(world.answer(GOOD), (10, Health::Healthy));
    assert_eq!(world.answer(LAST), (10, Health::Excluded));
    assert_eq!(world.answer(GOOD), (20, Health::Excluded));
    assert_eq!(world.answer(DEGRADED), (3, Health::Degraded));
    world.changes.clear();
    let due = world.checks.deadline();
    world.checks.on_immediate_fail(ONE, &mut world.changes);
    assert_eq!(world.changes, [Change::Health { endpoint: ONE, health: Health::Excluded }]);
    assert_eq!(world.checks.deadline(), due, "the next probe is due as it was");
    assert_eq!(world.checks.stats().passive_failure, 1);
    world.checks.check_invariants().unwrap();
}

#[test]
fn without_traffic_other_intervals_hold() {
    let mut world = World::new(HealthCheck { no_traffic_healthy_interval: Some(seconds(90)), ..settings() });
    world.checks.has_traffic = false;
    assert_eq!(world.answer(ProbeResult::Broken).0, 0);
    assert_eq!(world.answer(GOOD), (60, Health::Failed));
    assert_eq!(world.answer(GOOD), (60, Health::Healthy), "a change is still counted up to");
    world.checks.on_traffic();
    assert_eq!(world.answer(GOOD).0, 90, "this one was waited for before");
    assert_eq!(world.answer(GOOD).0, 10);
}

#[test]
fn intervals_are_spread_by_their_jitters() {
    let mut world = World::new(HealthCheck {
        initial_jitter: seconds(5),
        interval_jitter: seconds(1),
        interval_jitter_percent: 50,
        ..settings()
    });
    let (first, number) = world.begin();
    assert!(first < seconds(5));
    world.checks.on_probe(world.now, ONE, number, GOOD, &mut world.changes);
    let mut waits = Vec::new();
    for _ in 0..500 {
        let (waited, number) = world.begin();
        waits.push(waited);
        world.checks.on_probe(world.now, ONE, number, GOOD, &mut world.changes);
    }
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!((seconds(10)..Duration::from_millis(10_600)).contains(least), "{least:?}");
    assert!((Duration::from_millis(15_000)..seconds(16)).contains(most), "{most:?}");
}

#[test]
fn endpoints_come_and_go() {
    let mut world = World::new(settings());
    world.answer(GOOD);
    world.begin();
    let (two, mut actions) = (EndpointKey(2), Vec::new());
    world.checks.set_endpoints(world.now, [two, two], &mut actions);
    assert_eq!(actions, [Action::CancelProbe { endpoint: ONE, number: 2 }]);
    assert_eq!((world.checks.health(ONE), world.checks.health(two)), (Health::Unchecked, Health::Pending));
    assert!(!world.checks.on_probe(world.now, ONE, 2, GOOD, &mut world.changes));
    world.checks.check_invariants().unwrap();
    world.checks.set_endpoints(world.now, [], &mut actions);
    assert_eq!(world.checks.deadline(), None);
}

/// Any answers to any probes, whether there are such or not, at any time: endpoints whose state
/// lasts are known by it.
#[test]
fn a_walk_of_answers_finds_the_truth() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let some = |chance: &mut Chance| Some(Duration::from_millis(chance.below(5_000)));
        let settings = HealthCheck {
            timeout: Duration::from_millis(chance.below(2_000)),
            interval: Duration::from_millis(chance.below(5_000)),
            initial_jitter: Duration::from_millis(chance.below(2) * 500),
            interval_jitter_percent: chance.below(150) as u32,
            unhealthy_threshold: chance.below(4) as u32,
            healthy_threshold: chance.below(4) as u32,
            unhealthy_interval: some(&mut chance),
            unhealthy_edge_interval: some(&mut chance),
            ..settings()
        };
        let endpoints: Vec<EndpointKey> = (0..1 + chance.below(5)).map(EndpointKey).collect();
        let truths: Vec<bool> = endpoints.iter().map(|_| chance.below(2) == 0).collect();
        let mut checks = Checks::new(at(0), settings, endpoints.clone(), chance.clone());
        let (mut actions, mut changes) = (Vec::new(), Vec::new());
        let mut now = at(0);
        for step in 0..400 {
            let is_true_time = step >= 200;
            now = if is_true_time {
                checks.deadline().unwrap().max(now)
            } else {
                now + seconds(chance.below(3))
            };
            checks.tick(now, &mut actions, &mut changes);
            for action in std::mem::take(&mut actions) {
                let Action::Probe { endpoint, number } = action else { continue };
                let truth = if truths[endpoint.0 as usize] { GOOD } else { ProbeResult::Broken };
                let anything = [GOOD, BUSY, BAD, LAST, DEGRADED, ProbeResult::Connected];
                let told = if is_true_time { truth } else { anything[chance.below(6) as usize] };
                let is_lost = !is_true_time && chance.below(4) == 0;
                if !is_lost {
                    checks.on_probe(now, endpoint, number, told, &mut changes);
                }
                if chance.below(4) == 0 {
                    checks.on_probe(now, endpoint, number, LAST, &mut changes);
                }
            }
            if !is_true_time && chance.below(20) == 0 {
                checks.on_immediate_fail(EndpointKey(chance.below(6)), &mut changes);
            }
            checks.check_invariants().unwrap_or_else(|what| panic!("NARU_SEED={seed}: {what}"));
        }
        for (endpoint, truth) in endpoints.into_iter().zip(truths) {
            let health = checks.health(endpoint);
            assert_eq!(Health::Healthy == health, truth, "NARU_SEED={seed}: {endpoint:?} is {health:?}");
        }
    }
}
