//! Requests that bring the address of their endpoint with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use common::{Asked, begin_for, facts};
use http::{HeaderMap, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_journey::{Action, AttemptEvent, Cause, Failure, Journey, Sent, Snapshot, Stage, View, Worker};
use naru_spec::{BalancingPolicy, Discovery, OnDemand, RetryOn, RetryPolicy};

const CLUSTER: ClusterId = ClusterId(0);

/// Whoever owns the cluster: it has so much room.
#[derive(Default)]
struct Owner {
    room: usize,
    made: RefCell<Vec<SocketAddr>>,
}

impl Owner {
    fn with_room(room: usize) -> Owner {
        Owner { room, ..Owner::default() }
    }
}

impl View for Owner {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn endpoint_at(&self, cluster: ClusterId, address: SocketAddr) -> Option<EndpointId> {
        assert_eq!(cluster, CLUSTER);
        let mut made = self.made.borrow_mut();
        if let Some(known) = made.iter().position(|known| *known == address) {
            return Some(EndpointId(known as u32));
        }
        let has_room = made.len() < self.room;
        has_room.then(|| {
            made.push(address);
            EndpointId(made.len() as u32 - 1)
        })
    }
}

fn snapshot() -> Snapshot {
    common::snapshot(|_, forward, cluster| {
        forward.timeout = Some(Duration::from_millis(100));
        forward.retry = Some(RetryPolicy { retries_max: 1, ..RetryPolicy::new(RetryOn::CONNECT_FAILURE) });
        cluster.endpoints.clear();
        cluster.load_balancing = BalancingPolicy::Passthrough.into();
        cluster.discovery = Discovery::OnDemand(OnDemand { authority_port: Some(80), ..OnDemand::default() });
    })
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn begin(authority: &str, snapshot: &Snapshot, worker: &mut Worker, view: &Owner) -> Journey {
    let headers = HeaderMap::new();
    let asked = Asked { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
    begin_for(authority, at(0), snapshot, &asked, worker, view)
}

fn send(attempt: u16, endpoint: u32, cause: Cause) -> Option<Action> {
    let (attempt, endpoint) = (AttemptId(attempt), EndpointId(endpoint));
    Some(Action::Send { attempt, cluster: CLUSTER, endpoint, cause })
}

#[test]
fn an_address_is_where_the_request_goes_and_a_retry_goes_there_again() {
    let (snapshot, view) = (snapshot(), Owner::with_room(2));
    let mut worker = Worker::new(&snapshot, 1);
    let mut other = begin("10.0.0.9", &snapshot, &mut worker, &view);
    assert_eq!(other.next_action(), send(0, 0, Cause::First));
    let mut journey = begin("10.0.0.5:81", &snapshot, &mut worker, &view);
    assert_eq!(journey.next_action(), send(0, 1, Cause::First));
    assert_eq!(view.made.borrow()[1], "10.0.0.5:81".parse().unwrap());
    let failure = Failure {
        stage: Stage::Connect,
        reason: Reason::ConnectFailure,
        sent: Sent::No,
        is_reused: false,
        is_replayable: true,
    };
    journey.on_attempt(at(1), &snapshot, AttemptId(0), AttemptEvent::Failed(failure), &mut worker, &view);
    assert_eq!(journey.next_action(), None);
    let (due, _) = journey.deadline().unwrap();
    journey.tick(due);
    assert_eq!(journey.next_action(), Some(Action::Due));
    journey.on_due(due, &snapshot, true, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), send(1, 1, Cause::Retry));
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn a_name_is_looked_up_once() {
    let (snapshot, view) = (snapshot(), Owner::with_room(1));
    let mut worker = Worker::new(&snapshot, 1);
    let mut journey = begin("a.example:81", &snapshot, &mut worker, &view);
    assert_eq!(journey.next_action(), Some(Action::Locate { cluster: CLUSTER }));
    assert_eq!(journey.next_action(), None);
    assert_eq!(journey.sought(), Some(("a.example", 81)));
    assert!(journey.is_between_attempts());
    let found = Some("10.0.0.7:81".parse().unwrap());
    journey.on_located(at(5), &snapshot, found, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), send(0, 0, Cause::First));
    // That a second answer comes is no news.
    journey.on_located(at(6), &snapshot, found, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), None);
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn who_cannot_be_found_is_not_asked() {
    let check = |authority: &str, room: usize, found: Option<SocketAddr>, expected: Reason| {
        let (snapshot, view) = (snapshot(), Owner::with_room(room));
        let mut worker = Worker::new(&snapshot, 1);
        let mut journey = begin(authority, &snapshot, &mut worker, &view);
        if journey.peek_action() == Some(Action::Locate { cluster: CLUSTER }) {
            journey.next_action();
            journey.on_located(at(5), &snapshot, found, &mut worker, &view, &mut ());
        }
        assert_eq!(journey.next_action(), Some(Action::Reply(expected)), "{authority}");
        assert_eq!(journey.check_invariants(), Ok(()));
    };
    check("a.example", 1, None, Reason::NameNotFound);
    check("a.example", 0, Some(([10, 0, 0, 7], 80).into()), Reason::Overflow);
    check("10.0.0.5", 0, None, Reason::Overflow);
    check("nothing:at:all", 1, None, Reason::NoHealthyUpstream);
}

#[test]
fn a_request_does_not_wait_for_a_name_longer_than_for_an_answer() {
    let (snapshot, view) = (snapshot(), Owner::with_room(1));
    let mut worker = Worker::new(&snapshot, 1);
    let mut journey = begin("a.example", &snapshot, &mut worker, &view);
    journey.next_action();
    let (deadline, _) = journey.deadline().unwrap();
    assert_eq!(deadline, at(100));
    journey.tick(deadline);
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::RouteTimeout)));
    let found = Some("10.0.0.7:80".parse().unwrap());
    journey.on_located(at(101), &snapshot, found, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), None, "it comes too late");
    assert_eq!(journey.check_invariants(), Ok(()));
}
