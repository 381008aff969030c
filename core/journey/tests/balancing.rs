//! What a worker's balancers are told, and when: endpoints that come, fitness, warm-ups, latencies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_balance::Roster;
use naru_base::{ClusterId, EndpointId, Instant, Reason, Weight};
use naru_guard::{Fitness, Health};
use naru_journey::{
    Action, AttemptEvent, ChainId, EndpointFacts, Failure, Journey, RequestFacts, Sent, Snapshot, Stage,
    View, Worker,
};
use naru_route::Subject;
use naru_spec::{
    BalancingPolicy, Cluster, Config, ConsistentHash, Discovery, FilterChain, Forward, HashTable, Http,
    Listener, LoadBalancing, MaglevSize, Match, PeakEwma, RouteTable, Rule, Scheme, VirtualHost, WarmUp,
};

const UP: ClusterId = ClusterId(0);

/// What endpoints are now, as a shell would know; and how often that was asked.
#[derive(Default)]
struct Here {
    generation: Cell<u64>,
    /// A bit for each that is ejected.
    ejected: Cell<u32>,
    looks: Cell<u32>,
}

impl Here {
    fn eject(&self, bits: u32) {
        self.ejected.set(bits);
        self.generation.set(self.generation.get() + 1);
    }

    fn look(&self, endpoint: EndpointId) -> Fitness {
        self.looks.set(self.looks.get() + 1);
        Fitness::new(self.ejected.get() >> endpoint.0 & 1 == 1, Health::Unchecked)
    }
}

/// A shell in which somebody waits for a pick.
struct Live<'a>(&'a Here);

impl View for Live<'_> {
    const PICKS_REFRESH: bool = false;

    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
    fn generation(&self, _: ClusterId) -> u64 {
        self.0.generation.get()
    }
    fn fitness(&self, _: ClusterId, endpoint: EndpointId) -> Fitness {
        self.0.look(endpoint)
    }
}

/// One whose time stands still meanwhile.
struct Virtual<'a>(&'a Here);

impl View for Virtual<'_> {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
    fn generation(&self, _: ClusterId) -> u64 {
        self.0.generation.get()
    }
    fn fitness(&self, _: ClusterId, endpoint: EndpointId) -> Fitness {
        self.0.look(endpoint)
    }
}

fn snapshot(load_balancing: LoadBalancing, panic_percent: u32) -> Snapshot {
    let mut forward = Forward::to("up");
    forward.timeout = Some(Duration::from_secs(15));
    let rule = Rule {
        gate: Vec::new(),
        name: "rule".into(),
        origin: String::new(),
        matches: vec![Match::default()],
        action: naru_spec::Action::Forward(Box::new(forward)),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let mut http = Http::new("test", RouteTable::default());
    http.routes.virtual_hosts.push(VirtualHost {
        name: "all".into(),
        domains: vec![naru_spec::Domain::Any],
        rules: vec![rule],
        tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
    });
    let mut cluster = Cluster { load_balancing, ..Cluster::new("up", Discovery::Static, Vec::new()) };
    cluster.guard.panic_percent = panic_percent;
    let chain = FilterChain::of(http);
    let listener = Listener::new("l", ([127, 0, 0, 1], 0).into(), vec![chain]);
    Snapshot::compile(Config { listeners: vec![listener], clusters: vec![cluster], ..Config::default() })
        .unwrap()
}

fn roster(snapshot: &Snapshot, keys: &[&str]) -> Arc<Roster> {
    let facts: Vec<_> =
        keys.iter().map(|key| EndpointFacts { key, ..EndpointFacts::of_weight(Weight(1)) }).collect();
    Arc::new(Roster::new(&snapshot.cluster(UP).load_balancing, &facts))
}

fn begin(now: Instant, snapshot: &Snapshot, worker: &mut Worker, view: &impl View) -> Journey {
    let headers = HeaderMap::new();
    let subject = Subject {
        method: &Method::GET,
        authority: "a",
        path: "/",
        query: None,
        scheme: Scheme::Http,
        headers: &headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: worker.draw_request(),
        claims: None,
    };
    Journey::begin(now, snapshot, ChainId(0), &subject, RequestFacts::NONE, worker, view, &mut ())
}

/// Where a request goes, if anywhere.
fn picked(now: Instant, snapshot: &Snapshot, worker: &mut Worker, view: &impl View) -> Option<u32> {
    match begin(now, snapshot, worker, view).next_action() {
        Some(Action::Send { endpoint, .. }) => Some(endpoint.0),
        other => {
            assert_eq!(other, Some(Action::Reply(Reason::NoHealthyUpstream)));
            None
        }
    }
}

/// How often each of so many endpoints is picked.
fn counts(now: Instant, snapshot: &Snapshot, worker: &mut Worker, view: &impl View) -> [u32; 4] {
    let mut counts = [0; 4];
    for _ in 0..400 {
        if let Some(picked) = picked(now, snapshot, worker, view) {
            counts[picked as usize] += 1;
        }
    }
    counts
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

#[test]
fn a_pick_looks_at_nobodys_fitness_and_builds_nothing_where_somebody_waits_for_it() {
    let size = MaglevSize::new(65_537).unwrap();
    let maglev = BalancingPolicy::ConsistentHash(ConsistentHash::new(HashTable::Maglev(size)));
    for policy in [maglev, BalancingPolicy::RoundRobin] {
        let snapshot = snapshot(policy.into(), 0);
        let here = Here::default();
        let mut worker = Worker::new(&snapshot, 1);
        let all = roster(&snapshot, &["a", "b", "c", "d"]);
        worker.set_roster(at(0), &snapshot, UP, &all, &Live(&here));
        here.eject(0b0011);
        let looks = here.looks.get();
        let counts_before = counts(at(1), &snapshot, &mut worker, &Live(&here));
        assert!(counts_before.iter().all(|count| *count > 0), "it was told nothing yet: {counts_before:?}");
        assert_eq!(here.looks.get(), looks);
        worker.refresh(at(2), &snapshot, UP, &Live(&here));
        let after = counts(at(3), &snapshot, &mut worker, &Live(&here));
        assert!(after[..2] == [0, 0] && after[2] > 100 && after[3] > 100, "{after:?}");
        // Where time stands still a pick may look, and sees the same.
        here.eject(0b1001);
        let after = counts(at(4), &snapshot, &mut worker, &Virtual(&here));
        assert!(after[0] == 0 && after[3] == 0 && after[1] > 100 && after[2] > 100, "{after:?}");
    }
}

#[test]
fn workers_share_what_is_built_of_endpoints() {
    let ring = BalancingPolicy::ConsistentHash(ConsistentHash::new(HashTable::Ring(Default::default())));
    let snapshot = snapshot(ring.into(), 0);
    let here = Here::default();
    let all = roster(&snapshot, &["a", "b"]);
    let mut workers: Vec<Worker> = (0..3).map(|seed| Worker::new(&snapshot, seed)).collect();
    for worker in &mut workers {
        worker.set_roster(at(0), &snapshot, UP, &all, &Live(&here));
    }
    assert_eq!(Arc::strong_count(&all), 4);
}

#[test]
fn a_changed_panic_threshold_acts_at_once_on_a_rotation_that_goes_on() {
    let (calm, panics) =
        (snapshot(LoadBalancing::round_robin(), 0), snapshot(LoadBalancing::round_robin(), 50));
    let here = Here::default();
    here.eject(0b1111);
    let all = roster(&calm, &["a", "b", "c", "d"]);
    let mut first = Worker::new(&calm, 1);
    first.set_roster(at(0), &calm, UP, &all, &Live(&here));
    assert_eq!(picked(at(1), &calm, &mut first, &Live(&here)), None);
    let mut live = first.succeed(&calm, &panics);
    live.set_roster(at(2), &panics, UP, &all, &Live(&here));
    assert!(picked(at(2), &panics, &mut live, &Live(&here)).is_some());
    let mut again = live.succeed(&panics, &calm);
    again.set_roster(at(3), &calm, UP, &all, &Live(&here));
    assert_eq!(picked(at(3), &calm, &mut again, &Live(&here)), None);
    // Where picks look for themselves, the first of them does.
    let mut lazy = first.succeed(&calm, &panics);
    assert!(picked(at(2), &panics, &mut lazy, &Virtual(&here)).is_some());
}

#[test]
fn an_endpoint_that_comes_warms_up_also_where_the_policy_becomes_another() {
    let warm = |mut settings: LoadBalancing| {
        settings.warm_up = Some(WarmUp::over(Duration::from_secs(10)));
        snapshot(settings, 0)
    };
    let (old, new) = (warm(LoadBalancing::round_robin()), warm(LoadBalancing::least_request()));
    let here = Here::default();
    let mut first = Worker::new(&old, 1);
    first.set_endpoints(&old, UP, &[]);
    let three = roster(&old, &["a", "b", "c"]);
    assert_eq!(first.set_roster(at(0), &old, UP, &three, &Live(&here)), Some(at(10_000)));
    assert_eq!(first.refresh(at(10_000), &old, UP, &Live(&here)), None);
    let mut second = first.succeed(&old, &new);
    let four = roster(&new, &["a", "b", "c", "d"]);
    assert_eq!(second.set_roster(at(20_000), &new, UP, &four, &Live(&here)), Some(at(30_000)));
    let cold = counts(at(20_500), &new, &mut second, &Live(&here));
    assert!((8..20).contains(&cold[3]) && cold[0] > 110, "a tenth of a share: {cold:?}");
    let half = counts(at(25_000), &new, &mut second, &Live(&here));
    assert!((50..65).contains(&half[3]), "half a share: {half:?}");
    assert_eq!(second.refresh(at(30_000), &new, UP, &Live(&here)), None);
}

#[test]
fn answers_and_waits_without_one_teach_peak_ewma() {
    let snapshot = snapshot(BalancingPolicy::PeakEwma(PeakEwma::default()).into(), 0);
    let here = Here::default();
    let mut worker = Worker::new(&snapshot, 1);
    let all = roster(&snapshot, &["a", "b", "c", "d"]);
    worker.set_roster(at(0), &snapshot, UP, &all, &Live(&here));
    let mut now = 1_000;
    for _ in 0..200 {
        let view = Live(&here);
        let mut journey = begin(at(now), &snapshot, &mut worker, &view);
        let Some(Action::Send { attempt, endpoint, .. }) = journey.next_action() else { panic!() };
        match endpoint.0 {
            // It hangs, and its client leaves.
            1 => {
                now += 900;
                journey.on_abandoned(at(now));
            }
            // It refuses at once.
            2 => {
                let failure = Failure {
                    stage: Stage::Connect,
                    reason: Reason::ConnectFailure,
                    sent: Sent::No,
                    is_reused: false,
                    is_replayable: false,
                };
                let event = AttemptEvent::Failed(failure);
                journey.on_attempt(at(now), &snapshot, attempt, event, &mut worker, &view);
            }
            _ => {
                now += 10;
                let event =
                    AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: false };
                journey.on_attempt(at(now), &snapshot, attempt, event, &mut worker, &view);
                // Its body takes its time, which is not the endpoint's answer.
                now += 1;
            }
        }
        let report = journey.take_report().unwrap();
        assert_eq!(report.endpoint, endpoint);
        worker.on_report(at(now), &report);
    }
    let counts = counts(at(now), &snapshot, &mut worker, &Live(&here));
    assert!(counts[1] < 50, "only where it is drawn twice: {counts:?}");
    assert!(counts[0] > 100 && counts[3] > 100, "{counts:?}");
}
