//! Copies of requests: which are made, and the machine of one, event by event and by a seeded walk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_admit::{Claim, Entry, Queue, Waiter};
use naru_base::share::Denominator;
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Fraction, Instant, Reason, Weight};
use naru_guard::{AttemptResult, Gate, Grpc, RefusedBy};
use naru_journey::edge::{Peer, X_FORWARDED_FOR};
use naru_journey::shadow::copy_headers;
use naru_journey::{
    Admission, ChainId, EndpointFacts, Journey, Leaving, LimitId, Pass, Queued, RequestFacts, Shadow,
    ShadowEnd, ShadowFacts, Snapshot, Stage, View, Worker,
};
use naru_route::Subject;
use naru_spec::{
    Action, Bulkhead, Cluster, Config, Discovery, Domain, FilterChain, Forward, Http, Listener, Match,
    Mirror, MirrorWrites, Named, RateLimit, RouteTable, Rule, Scheme, VirtualHost, defaults,
};

const MIRROR: ClusterId = ClusterId(1);
const FACTS: ShadowFacts = ShadowFacts {
    response_timeout: Some(Duration::from_secs(2)),
    idle_timeout: None,
    is_grpc: false,
    has_ended: true,
};

/// What a cluster says, and what is held of it.
#[derive(Default)]
struct Door {
    pass: Cell<Option<Pass>>,
    is_open: Cell<bool>,
    is_guarded: Cell<bool>,
    /// Limits and tickets that were not given back.
    held: Cell<i64>,
}

impl View for Door {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn enter(&self, _: Instant, _: ClusterId, _: &mut Chance) -> Admission {
        if self.is_open.get() {
            Admission::Refused { by: RefusedBy::Open, retry_after: None }
        } else if self.is_guarded.get() {
            self.held.set(self.held.get() + 1);
            Admission::Admitted(Some(Gate::CLOSED.ticket()))
        } else {
            Admission::Unguarded
        }
    }

    fn pass(&self, _: Instant, _: LimitId, _: &mut Chance) -> Pass {
        let pass = self.pass.get().unwrap_or(Pass::Admitted);
        if !matches!(pass, Pass::Refused(_)) {
            self.held.set(self.held.get() + 1);
        }
        pass
    }

    fn claim(&self, _: Instant, _: LimitId, _: Queued) -> Claim {
        Claim::Waiting
    }

    fn leave(&self, _: Instant, _: LimitId, _: Leaving) {
        self.held.set(self.held.get() - 1);
    }
}

/// A place in a line.
fn queued() -> Queued {
    let settings = Bulkhead { concurrency_max: 1, queue_max: 1, wait_max: Duration::from_secs(1) };
    let (word, mut queue) = (Cell::new(0), Queue::new(settings));
    queue.enter(at(0), Waiter(1), &word);
    match queue.enter(at(0), Waiter(2), &word) {
        Entry::Queued { ticket, .. } => Queued { ticket, waiter: Waiter(2) },
        other => panic!("{other:?}"),
    }
}

fn snapshot(mirrors: Vec<Mirror>) -> Snapshot {
    let forward = Forward { mirrors, ..Forward::to("service") };
    let rule = Rule {
        gate: Vec::new(),
        name: "rule".into(),
        origin: String::new(),
        matches: vec![Match::default()],
        action: Action::Forward(Box::new(forward)),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let host = VirtualHost {
        name: "all".into(),
        domains: vec![Domain::Any],
        rules: vec![rule],
        tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let http = Http::new("test", RouteTable { virtual_hosts: vec![host], ..RouteTable::default() });
    let chain = FilterChain::of(http);
    let listener = Listener::new("l", ([127, 0, 0, 1], 0).into(), vec![chain]);
    let mut mirror = Cluster::new("mirror", Discovery::Static, Vec::new());
    let bulkhead = Bulkhead { concurrency_max: 1, queue_max: 1, wait_max: Duration::from_secs(1) };
    mirror.load.bulkhead = Some(Named { name: "b".into(), settings: bulkhead });
    let rate = RateLimit { limit: 1, period: Duration::from_secs(1), wait_max: Duration::from_secs(1) };
    mirror.load.rate = Some(Named { name: "r".into(), settings: rate });
    let clusters = vec![Cluster::new("service", Discovery::Static, Vec::new()), mirror];
    Snapshot::compile(Config { listeners: vec![listener], clusters, ..Config::default() }).unwrap()
}

fn worker(snapshot: &Snapshot) -> Worker {
    let mut worker = Worker::new(snapshot, 1);
    for cluster in [ClusterId(0), MIRROR] {
        worker.set_endpoints(snapshot, cluster, &[EndpointFacts::of_weight(Weight(1)); 2]);
    }
    worker
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

struct Stand {
    snapshot: Snapshot,
    worker: Worker,
    door: Door,
}

impl Stand {
    fn new() -> Stand {
        let snapshot = snapshot(vec![Mirror::to("mirror")]);
        Stand { worker: worker(&snapshot), snapshot, door: Door::default() }
    }

    fn guarded() -> Stand {
        let stand = Stand::new();
        stand.door.is_guarded.set(true);
        stand
    }

    fn begin(&mut self, facts: &ShadowFacts) -> Result<Shadow, Reason> {
        Shadow::begin(at(0), &self.snapshot, MIRROR, facts, &mut self.worker, &self.door)
    }

    /// What whoever guards the cluster is told.
    fn told(&self, shadow: &mut Shadow) -> Option<AttemptResult> {
        let report = shadow.take_report()?;
        assert!(report.ticket.is_some() && report.cluster == MIRROR);
        self.door.held.set(self.door.held.get() - 1);
        Some(report.result)
    }

    fn leaves_nothing(&self, shadow: &mut Shadow) {
        shadow.check_invariants().unwrap();
        shadow.leave(at(9), &self.snapshot, &self.door);
        shadow.leave(at(9), &self.snapshot, &self.door);
        assert_eq!(self.door.held.get(), 0);
    }
}

#[test]
fn a_copy_that_may_not_be_sent_holds_nothing() {
    let mut stand = Stand::guarded();
    stand.door.pass.set(Some(Pass::InLine { queued: queued(), deadline: at(1) }));
    assert_eq!(stand.begin(&FACTS).unwrap_err(), Reason::BulkheadFull);
    stand.door.pass.set(Some(Pass::Refused(Reason::RateLimited)));
    assert_eq!(stand.begin(&FACTS).unwrap_err(), Reason::RateLimited);
    stand.door.pass.set(None);
    stand.door.is_open.set(true);
    assert_eq!(stand.begin(&FACTS).unwrap_err(), Reason::BreakerOpen);
    stand.door.is_open.set(false);
    stand.worker.set_endpoints(&stand.snapshot, MIRROR, &[]);
    assert_eq!(stand.begin(&FACTS).unwrap_err(), Reason::NoHealthyUpstream);
    assert_eq!(stand.door.held.get(), 0);
}

#[test]
fn a_limit_says_when_a_copy_may_be_sent() {
    let mut stand = Stand::new();
    assert_eq!(
        stand.begin(&FACTS).map(|mut shadow| (shadow.not_before(), stand.leaves_nothing(&mut shadow)).0),
        Ok(None)
    );
    stand.door.pass.set(Some(Pass::Until(at(70))));
    let mut shadow = stand.begin(&FACTS).unwrap();
    assert_eq!(shadow.not_before(), Some(at(70)));
    stand.leaves_nothing(&mut shadow);
}

#[test]
fn what_became_of_a_copy_is_told_as_of_a_request() {
    type Event = fn(&mut Shadow);
    let answered = |status, grpc| AttemptResult::Answered { status, grpc };
    let cases: [(&str, Event, ShadowEnd, AttemptResult); 9] = [
        ("all", |s| s.on_head(at(1), 500, true, None), ShadowEnd::Answered, answered(500, Grpc::None)),
        (
            "in two",
            |s| {
                s.on_head(at(1), 200, false, None);
                s.on_end(at(2), None);
            },
            ShadowEnd::Answered,
            answered(200, Grpc::None),
        ),
        (
            "head",
            |s| s.on_head(at(1), 200, true, Some(14)),
            ShadowEnd::Answered,
            answered(200, Grpc::Head(14)),
        ),
        (
            "refused",
            |s| s.on_failure(at(1), Stage::Connect, Reason::ConnectFailure),
            ShadowEnd::Failed(Reason::ConnectFailure),
            AttemptResult::ConnectFailed,
        ),
        (
            "overflow",
            |s| s.on_failure(at(1), Stage::Connect, Reason::Overflow),
            ShadowEnd::Refused(Reason::Overflow),
            AttemptResult::Abandoned,
        ),
        (
            "reset",
            |s| s.on_failure(at(1), Stage::Exchange, Reason::UpstreamReset),
            ShadowEnd::Failed(Reason::UpstreamReset),
            AttemptResult::Reset,
        ),
        (
            "late",
            |s| {
                s.on_connected(at(1), None);
                s.tick(at(1_999));
                assert_eq!(s.end(), None);
                s.tick(at(2_000));
            },
            ShadowEnd::TimedOut,
            AttemptResult::TimedOut { is_connected: true },
        ),
        ("overrun", |s| s.on_overrun(at(1)), ShadowEnd::Overrun, AttemptResult::Abandoned),
        ("left", |s| s.on_abandoned(at(1)), ShadowEnd::Abandoned, AttemptResult::Abandoned),
    ];
    for (what, event, end, result) in cases {
        let mut stand = Stand::guarded();
        let mut shadow = stand.begin(&FACTS).unwrap();
        event(&mut shadow);
        assert_eq!(shadow.end(), Some(end), "{what}");
        assert_eq!(stand.told(&mut shadow), Some(result), "{what}");
        // What comes later is no news.
        shadow.on_head(at(3), 200, true, None);
        shadow.on_failure(at(3), Stage::Exchange, Reason::UpstreamReset);
        assert_eq!((shadow.end(), stand.told(&mut shadow)), (Some(end), None), "{what}");
        stand.leaves_nothing(&mut shadow);
    }
}

#[test]
fn a_call_of_grpc_is_told_when_it_has_said_how_it_went() {
    let mut stand = Stand::guarded();
    let mut shadow = stand.begin(&ShadowFacts { is_grpc: true, ..FACTS }).unwrap();
    shadow.on_head(at(1), 200, false, None);
    assert_eq!(stand.told(&mut shadow), None);
    shadow.on_end(at(2), Some(13));
    let expected = AttemptResult::Answered { status: 200, grpc: Grpc::Trailers(13) };
    assert_eq!(stand.told(&mut shadow), Some(expected));
    stand.leaves_nothing(&mut shadow);
}

#[test]
fn the_time_of_a_copy_runs_from_the_end_of_its_request_and_none_lasts_for_ever() {
    let mut stand = Stand::guarded();
    let mut shadow = stand.begin(&ShadowFacts { has_ended: false, ..FACTS }).unwrap();
    let idle = defaults::STREAM_IDLE_TIMEOUT;
    assert_eq!(shadow.deadline(), Some(at(0) + idle));
    shadow.on_progress(at(5));
    assert_eq!(shadow.deadline(), Some(at(5) + idle));
    shadow.on_request_end(at(7));
    assert_eq!(shadow.deadline(), Some(at(2_007)));
    shadow.on_connected(at(8), Some(Duration::from_millis(10)));
    assert_eq!(shadow.deadline(), Some(at(18)));
    // A request that stands still says nothing about the mirror.
    let mut stand = Stand::guarded();
    let mut shadow = stand.begin(&ShadowFacts { has_ended: false, ..FACTS }).unwrap();
    shadow.tick(at(0) + idle);
    assert_eq!(shadow.end(), Some(ShadowEnd::TimedOut));
    assert_eq!(stand.told(&mut shadow), Some(AttemptResult::Abandoned));
}

fn journey(snapshot: &Snapshot, worker: &mut Worker) -> Journey {
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
    let facts = RequestFacts::NONE;
    Journey::begin(at(0), snapshot, ChainId(0), &subject, facts, worker, &Door::default(), &mut ())
}

#[test]
fn copies_are_made_when_a_request_is_sent_first_and_cost_others_no_chance() {
    let half = Mirror { share: Fraction::new(50, Denominator::Hundred), ..Mirror::to("mirror") };
    let reads = Mirror { writes: MirrorWrites::NotSent, ..Mirror::to("service") };
    let with = snapshot(vec![half, reads]);
    let without = snapshot(Vec::new());
    let (mut one, mut other) = (worker(&with), worker(&without));
    let mut halves = 0;
    for _ in 0..1_000 {
        let asked = journey(&with, &mut one);
        assert!(asked.is_mirrored(&with, AttemptId(0)) && !asked.is_mirrored(&with, AttemptId(1)));
        let all: Vec<_> =
            asked.copies(&with, &Method::GET, &mut one).unwrap().iter().map(|(at, _, to)| (at, to)).collect();
        assert_eq!(all.last(), Some(&(1, ClusterId(0))), "named later in the file, known by its id");
        halves += u32::from(all.first() == Some(&(0, MIRROR)));
        let of_post = asked.copies(&with, &Method::POST, &mut one);
        assert!(of_post.is_none_or(|copies| copies.iter().all(|(at, ..)| at == 0)));
        assert!(!journey(&without, &mut other).is_mirrored(&without, AttemptId(0)));
        assert_eq!(one.draw_request(), other.draw_request());
    }
    assert!((420..580).contains(&halves), "{halves}");
}

#[test]
fn the_headers_of_a_copy_say_that_it_comes_from_here() {
    let peer = Peer {
        remote: ([10, 0, 0, 1], 1).into(),
        local: ([10, 0, 0, 2], 2).into(),
        is_tls: false,
        is_certified: false,
        is_in_tunnel: false,
    };
    let mut headers = HeaderMap::new();
    headers.insert("host", "a:1".parse().unwrap());
    copy_headers(&Mirror::to("m"), &Method::GET, &mut headers, &peer);
    for (name, expected) in
        [("host", "a-shadow:1"), (X_FORWARDED_FOR.as_str(), "10.0.0.2"), ("x-envoy-internal", "true")]
    {
        assert_eq!(headers.get(name).unwrap(), expected);
    }
}

#[test]
fn whatever_happens_a_copy_ends_once_and_gives_all_back() {
    let one = std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut ends = std::collections::BTreeSet::new();
    for seed in one.map_or(0..256, |seed| seed..seed + 1) {
        let mut chance = Chance::new(seed);
        let mut stand = Stand::new();
        stand.door.is_guarded.set(chance.below(2) == 0);
        stand.door.is_open.set(chance.below(8) == 0);
        if chance.below(8) == 0 {
            stand.door.pass.set(Some(Pass::Refused(Reason::RateLimited)));
        }
        let facts = ShadowFacts { is_grpc: chance.below(2) == 0, has_ended: chance.below(2) == 0, ..FACTS };
        let Ok(mut shadow) = stand.begin(&facts) else {
            assert_eq!(stand.door.held.get(), 0, "seed {seed}");
            continue;
        };
        let (mut now, mut end, mut told) = (0, None, 0);
        for _ in 0..40 {
            now += chance.below(400);
            match chance.below(12) {
                0 => {
                    shadow.on_connected(at(now), (chance.below(4) == 0).then_some(Duration::from_millis(300)))
                }
                1 => shadow.on_request_end(at(now)),
                2 => shadow.on_progress(at(now)),
                3 => shadow.on_head(at(now), 200, chance.below(3) == 0, None),
                4 if chance.below(2) == 0 => shadow.on_end(at(now), Some(0)),
                5 if chance.below(3) == 0 => {
                    shadow.on_failure(at(now), Stage::Exchange, Reason::UpstreamClosed)
                }
                6 if chance.below(4) == 0 => shadow.on_overrun(at(now)),
                7 if chance.below(4) == 0 => shadow.on_abandoned(at(now)),
                8 if chance.below(3) == 0 => shadow.on_failure(at(now), Stage::Connect, Reason::Overflow),
                _ => {
                    let deadline = shadow.deadline();
                    shadow.tick(at(now));
                    assert!(
                        shadow.end() == end || deadline.is_some_and(|at_last| at_last <= at(now)),
                        "seed {seed}"
                    );
                }
            }
            shadow.check_invariants().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            assert!(end.is_none() || shadow.end() == end, "seed {seed}: it ended twice");
            end = shadow.end();
            told += u32::from(stand.told(&mut shadow).is_some());
        }
        shadow.on_abandoned(at(now));
        told += u32::from(stand.told(&mut shadow).is_some());
        assert_eq!(told, u32::from(stand.door.is_guarded.get()), "seed {seed}");
        ends.extend(shadow.end());
        stand.leaves_nothing(&mut shadow);
    }
    assert!(one.is_some() || ends.len() == 6, "{ends:?}");
}
