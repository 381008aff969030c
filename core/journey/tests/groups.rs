//! Where reads and writes go, and what a session reads after a write.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Instant, Reason, Weight};
use naru_journey::{
    Action, AttemptEvent, ChainId, EndpointFacts, Failure, Journey, RecentWrites, RequestFacts, Sent,
    SessionId, Snapshot, Stage, View, Wait, Worker,
};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::{
    Address, Cluster, Config, Discovery, Endpoint, FilterChain, Forward, Http, Listener, Match,
    ReadWriteGroups, ReadYourWrites, RetryPolicy, RouteTable, Rule, Scheme, VirtualHost,
};

/// What the proxy shares among its workers.
#[derive(Default)]
struct Shared(RecentWrites<Cell<u64>>);

impl View for Shared {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn has_written(&self, now: Instant, session: SessionId) -> bool {
        self.0.has_written(now, session)
    }

    fn wrote(&self, until: Instant, session: SessionId) {
        self.0.wrote(until, session);
    }
}

const OWN: ClusterId = ClusterId(0);
const READS: ClusterId = ClusterId(1);
const WRITES: ClusterId = ClusterId(2);

fn snapshot(groups: ReadWriteGroups, retry: Option<RetryPolicy>) -> Snapshot {
    let forward = Forward { groups: Some(Box::new(groups)), retry, ..Forward::to("own") };
    let mut http = Http::new("test", RouteTable::default());
    http.routes.virtual_hosts.push(VirtualHost {
        name: "all".into(),
        domains: vec![naru_spec::Domain::Any],
        rules: vec![Rule {
            gate: Vec::new(),
            name: "rule".into(),
            origin: String::new(),
            matches: vec![Match::default()],
            action: naru_spec::Action::Forward(Box::new(forward)),
            request_headers: Default::default(),
            response_headers: Default::default(),
        }],
        tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
    });
    let endpoint = || Endpoint::new(Address::Socket(([127, 0, 0, 1], 1).into()));
    let cluster = |name| Cluster::new(name, Discovery::Static, vec![endpoint()]);
    Snapshot::compile(Config {
        admin: None,
        listeners: vec![Listener::new("l", ([127, 0, 0, 1], 0).into(), vec![FilterChain::of(http)])],
        clusters: ["own", "reads", "writes"].map(cluster).into(),
        overload: None,
        cache: None,
        stores: Vec::new(),
        surge: None,
    })
    .unwrap()
}

fn groups(read_your_writes: Option<ReadYourWrites>) -> ReadWriteGroups {
    ReadWriteGroups {
        read: Some("reads".into()),
        write: Some("writes".into()),
        read_your_writes,
        ..ReadWriteGroups::default()
    }
}

const LASTS: Duration = Duration::from_secs(5);

fn by_header() -> Option<ReadYourWrites> {
    Some(ReadYourWrites::by_header(LASTS, HeaderName::from_static("x-user"), "here").unwrap())
}

fn by_cookie() -> Option<ReadYourWrites> {
    Some(ReadYourWrites::by_cookie(LASTS, "wrote").unwrap())
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

fn subject<'a>(method: &'a Method, headers: &'a HeaderMap, draw: u64) -> Subject<'a> {
    Subject {
        method,
        authority: "a",
        path: "/",
        query: None,
        scheme: Scheme::Http,
        headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw,
        claims: None,
    }
}

/// Requests of one worker.
struct Asking<'a> {
    snapshot: &'a Snapshot,
    worker: Worker,
    shared: &'a Shared,
}

impl<'a> Asking<'a> {
    fn new(snapshot: &'a Snapshot, shared: &'a Shared, seed: u64) -> Asking<'a> {
        let mut worker = Worker::new(snapshot, seed);
        for id in [OWN, READS, WRITES] {
            worker.set_endpoints(snapshot, id, &[EndpointFacts::of_weight(Weight(1)); 2]);
        }
        Asking { snapshot, worker, shared }
    }

    fn begin(&mut self, now: Instant, method: &Method, headers: &HeaderMap) -> (Journey, ClusterId) {
        let subject = subject(method, headers, self.worker.draw_request());
        let repeats = Facts::of(method, headers, false);
        let facts = RequestFacts { repeats, ..RequestFacts::NONE };
        let (snapshot, shared) = (self.snapshot, self.shared);
        let mut journey =
            Journey::begin(now, snapshot, ChainId(0), &subject, facts, &mut self.worker, shared, &mut ());
        let Some(Action::Send { cluster, .. }) = journey.next_action() else { panic!("it is not sent") };
        (journey, cluster)
    }

    fn hear(&mut self, journey: &mut Journey, now: Instant, attempt: u16, event: AttemptEvent<'_>) {
        journey.on_attempt(now, self.snapshot, AttemptId(attempt), event, &mut self.worker, self.shared);
        journey.check_invariants().unwrap();
    }

    fn answer(&mut self, journey: &mut Journey, now: Instant, status: u16) {
        self.hear(journey, now, 0, head(status));
    }

    /// Where a read goes.
    fn reads_from(&mut self, now: Instant, headers: &HeaderMap) -> ClusterId {
        let (mut journey, cluster) = self.begin(now, &Method::GET, headers);
        self.answer(&mut journey, now, 200);
        cluster
    }

    /// What the client is given with the answer.
    fn given(&self, journey: &Journey) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        if journey.binds_client(self.snapshot) {
            journey.bind_client(self.snapshot, &self.worker, &mut headers);
        }
        headers.remove(SET_COOKIE)
    }
}

fn head(status: u16) -> AttemptEvent<'static> {
    AttemptEvent::Head { status, has_ended: true, headers: None, is_replayable: true }
}

#[test]
fn a_session_reads_what_it_wrote_from_the_head_of_the_answer_for_the_time_that_is_said() {
    let snapshot = snapshot(groups(by_header()), None);
    let shared = Shared::default();
    let mut one = Asking::new(&snapshot, &shared, 1);
    let mut other = Asking::new(&snapshot, &shared, 2);
    let (ann, bob) = (headers("x-user", "ann"), headers("x-user", "bob"));
    assert_eq!(one.reads_from(at(0), &ann), READS);
    let (mut write, cluster) = one.begin(at(0), &Method::POST, &ann);
    assert_eq!(cluster, WRITES);
    assert_eq!(one.reads_from(at(900), &ann), READS, "nobody knows of the write yet");
    one.answer(&mut write, at(1_000), 201);
    assert_eq!(one.given(&write), None);
    for worker in [&mut one, &mut other] {
        for (moment, from) in [(1_000, WRITES), (5_999, WRITES), (6_000, READS)] {
            assert_eq!(worker.reads_from(at(moment), &ann), from, "after {moment} ms");
        }
        assert_eq!(worker.reads_from(at(2_000), &bob), READS, "another session");
        assert_eq!(worker.reads_from(at(2_000), &HeaderMap::new()), READS, "of no session");
    }
    // A write of no session is for nobody.
    let (mut write, _) = one.begin(at(7_000), &Method::POST, &HeaderMap::new());
    one.answer(&mut write, at(7_000), 200);
    assert_eq!(one.reads_from(at(7_000), &HeaderMap::new()), READS);
}

#[test]
fn a_write_that_fails_begins_nothing() {
    let snapshot = snapshot(groups(by_header()), None);
    let mut user = 0;
    let mut check = |status: u16, grpc_status: Option<u8>, expected| {
        user += 1;
        let shared = Shared::default();
        let mut asking = Asking::new(&snapshot, &shared, 1);
        let user = headers("x-user", &format!("user-{user}"));
        let (mut write, _) = asking.begin(at(0), &Method::POST, &user);
        if let Some(status) = grpc_status {
            write.on_grpc_status(status);
        }
        asking.answer(&mut write, at(10), status);
        assert_eq!(asking.reads_from(at(20), &user), expected, "after {status}, {grpc_status:?}");
    };
    for status in [200, 201, 204, 302, 399] {
        check(status, None, WRITES);
    }
    for status in [400, 404, 409, 500, 503] {
        check(status, None, READS);
    }
    check(200, Some(0), WRITES);
    check(200, Some(14), READS);

    // One that is never answered.
    let shared = Shared::default();
    let mut asking = Asking::new(&snapshot, &shared, 1);
    let ann = headers("x-user", "ann");
    let (mut write, _) = asking.begin(at(0), &Method::POST, &ann);
    let failure = Failure {
        stage: Stage::Exchange,
        reason: Reason::UpstreamClosed,
        sent: Sent::Maybe,
        is_reused: false,
        is_replayable: true,
    };
    asking.hear(&mut write, at(10), 0, AttemptEvent::Failed(failure));
    assert!(matches!(write.next_action(), Some(Action::Reply(_))));
    assert_eq!(asking.reads_from(at(20), &ann), READS);
}

#[test]
fn a_write_that_is_retried_stays_in_its_group_and_counts_from_the_answer_that_is_passed_on() {
    let mut retry = RetryPolicy::istio(false);
    retry.on = naru_spec::RetryOn::SERVER_ERROR;
    let snapshot = snapshot(groups(by_header()), Some(retry));
    let shared = Shared::default();
    let mut asking = Asking::new(&snapshot, &shared, 1);
    let ann = headers("x-user", "ann");
    let (mut write, _) = asking.begin(at(0), &Method::PUT, &ann);
    asking.hear(&mut write, at(10), 0, head(503));
    assert_eq!(write.next_action(), Some(Action::Cancel { attempt: AttemptId(0) }));
    let Some((due, Wait::Backoff)) = write.deadline() else { panic!("it is not retried") };
    write.tick(due);
    assert_eq!(write.next_action(), Some(Action::Due));
    write.on_due(due, &snapshot, true, &mut asking.worker, &shared, &mut ());
    let Some(Action::Send { cluster: WRITES, .. }) = write.next_action() else { panic!("it goes elsewhere") };
    assert_eq!(asking.reads_from(due, &ann), READS);
    asking.hear(&mut write, at(2_000), 1, head(200));
    assert_eq!(asking.reads_from(at(6_999), &ann), WRITES);
    assert_eq!(asking.reads_from(at(7_000), &ann), READS);
}

#[test]
fn a_cookie_is_given_with_the_answer_to_a_write_that_went_well_and_needs_nobody_to_remember() {
    let snapshot = snapshot(groups(by_cookie()), None);
    let shared = Shared::default();
    let mut asking = Asking::new(&snapshot, &shared, 1);
    let cookie = "wrote=1; Max-Age=5; Path=/; HttpOnly";
    for (method, status, expected) in [
        (Method::POST, 200, Some(cookie)),
        (Method::DELETE, 303, Some(cookie)),
        (Method::POST, 422, None),
        (Method::POST, 502, None),
        (Method::GET, 200, None),
    ] {
        let (mut journey, _) = asking.begin(at(0), &method, &HeaderMap::new());
        asking.answer(&mut journey, at(1), status);
        let given = asking.given(&journey);
        assert_eq!(given.as_ref().map(|value| value.to_str().unwrap()), expected, "{method} {status}");
    }
    let returned = headers("cookie", "wrote=1");
    assert_eq!(asking.reads_from(at(2), &returned), WRITES);
    assert_eq!(asking.reads_from(at(2), &HeaderMap::new()), READS);
    // A write in a session is another write.
    let (mut write, cluster) = asking.begin(at(3), &Method::POST, &returned);
    asking.answer(&mut write, at(3), 200);
    assert_eq!((cluster, asking.given(&write).is_some()), (WRITES, true));
}

#[test]
fn without_read_your_writes_a_write_leaves_nothing() {
    let snapshot = snapshot(ReadWriteGroups { read: None, ..groups(None) }, None);
    assert!(!snapshot.has_sessions());
    let shared = Shared::default();
    let mut asking = Asking::new(&snapshot, &shared, 1);
    let ann = headers("x-user", "ann");
    let (mut write, cluster) = asking.begin(at(0), &Method::POST, &ann);
    asking.answer(&mut write, at(0), 200);
    assert_eq!((cluster, asking.given(&write)), (WRITES, None));
    assert_eq!(asking.reads_from(at(1), &ann), OWN);
}

#[test]
fn what_is_in_a_tunnel_is_no_request_and_for_no_group() {
    let snapshot = snapshot(groups(by_header()), None);
    let shared = Shared::default();
    let mut asking = Asking::new(&snapshot, &shared, 1);
    let none = HeaderMap::new();
    for method in [Method::GET, Method::CONNECT] {
        let subject = subject(&method, &none, asking.worker.draw_request());
        let mut tunnel = Journey::tunnel(at(0), ChainId(0));
        assert_eq!(tunnel.next_action(), Some(Action::Open));
        tunnel.pass_through(at(1), &snapshot, &subject, &mut asking.worker, &shared, &mut ());
        assert!(matches!(tunnel.next_action(), Some(Action::Send { cluster: OWN, .. })), "{method}");
    }
}

/// Two workers, many sessions, requests that overlap and fail; and a list of what every session may rely on.
#[test]
fn no_session_misses_its_write_whatever_happens_around_it() {
    let snapshot = snapshot(groups(by_header()), None);
    assert!(snapshot.has_sessions());
    let (mut in_session, mut outside) = (0, 0);
    for seed in 0..256 {
        let mut chance = Chance::split(seed, "sessions");
        let shared = Shared::default();
        let mut workers = [1, 2].map(|seed| Asking::new(&snapshot, &shared, seed));
        let mut now = at(0);
        let mut until: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut writing: Vec<(u64, usize, Journey)> = Vec::new();
        for _ in 0..200 {
            now = now + Duration::from_millis(chance.below(500));
            let user = chance.below(12);
            let worker = chance.below(2) as usize;
            let said = headers("x-user", &format!("user-{user}"));
            match chance.below(4) {
                0 => {
                    let (journey, cluster) = workers[worker].begin(now, &Method::PUT, &said);
                    assert_eq!(cluster, WRITES, "seed {seed}");
                    writing.push((user, worker, journey));
                }
                1 if !writing.is_empty() => {
                    let at = chance.below(writing.len() as u64) as usize;
                    let (user, worker, mut journey) = writing.swap_remove(at);
                    let status = [200, 302, 404, 503][chance.below(4) as usize];
                    workers[worker].answer(&mut journey, now, status);
                    if status < 400 {
                        let known = until.entry(user).or_insert(now);
                        *known = (*known).max(now + LASTS);
                    }
                }
                _ => {
                    let is_in_session = until.get(&user).is_some_and(|until| now < *until);
                    let from = workers[worker].reads_from(now, &said);
                    let expected = if is_in_session { WRITES } else { READS };
                    assert_eq!(from, expected, "seed {seed}: user {user} at {now:?}");
                    *(if is_in_session { &mut in_session } else { &mut outside }) += 1;
                }
            }
        }
    }
    assert!(in_session > 2_000 && outside > 2_000, "{in_session} {outside}");
}
