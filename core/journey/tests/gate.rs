//! Requests that pass checks before they go anywhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use common::{Asked as Request, begin, facts};
use http::{HeaderMap, HeaderValue, Method, Version};
use naru_admit::quota::{Room, Spent};
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Fraction, Instant, Reason};
use naru_journey::edge::{Client, Peer};
use naru_journey::gate::quotas::{Asked, Claim, Told};
use naru_journey::gate::{Answer, CheckCount, Head, Question};
use naru_journey::outgoing::Stamp;
use naru_journey::record::RequestLine;
use naru_journey::{Action, Cause, Journey, Snapshot, View, Wait, Worker, reply};
use naru_spec::{
    Check, CheckKind, Gate, HeaderMatch, HeaderTest, Lacking, Match, Quota, QuotaAlgorithm, QuotaKey, Quotas,
    Scheme, Shed, ShedRule, StoreUse, WithoutStore,
};

/// Whoever counts: so many may pass.
#[derive(Default)]
struct Counter {
    left: Cell<u32>,
    asked: RefCell<Vec<Claim>>,
    level: Cell<u32>,
    checks: RefCell<Vec<CheckCount>>,
}

impl View for Counter {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn surge_level(&self) -> u32 {
        self.level.get()
    }

    fn count_check(&self, what: CheckCount) {
        self.checks.borrow_mut().push(what);
    }

    fn spend(&self, _: Instant, claims: &[Claim]) -> Told {
        self.asked.borrow_mut().extend(claims.iter().cloned());
        let mut rooms = vec![Room { limit: 2, ..Room::default() }; claims.len()];
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                rooms[0].remaining = left;
                Told { spent: Spent::default(), rooms }
            }
            None => {
                rooms[0].retry_after = Some(Duration::from_millis(1_200));
                Told { spent: Spent { refused_by: Some(0), shadowed: 0 }, rooms }
            }
        }
    }
}

fn gate(store: Option<WithoutStore>) -> Gate {
    let quota = Quota {
        name: "RateLimit/shop/\"users".into(),
        algorithm: QuotaAlgorithm::FixedWindow { requests: 2, window: Duration::from_secs(60) },
        key: vec![QuotaKey::Header("x-user".parse().unwrap()), QuotaKey::Cookie("sid".into())],
        lacking: Lacking::Uncounted,
        cost: 1,
        is_shadow: false,
        keys_max: 10,
    };
    let store = store.map(|otherwise| StoreUse {
        name: "counts".into(),
        timeout: Duration::from_millis(20),
        otherwise,
        proxies: 2,
    });
    let kind = CheckKind::Quotas(Box::new(Quotas { limits: vec![quota], store }));
    Gate { checks: vec![Check { name: "users".into(), kind }] }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// A request, and whoever carries it.
struct Driven {
    snapshot: Snapshot,
    worker: Worker,
    line: RequestLine,
    client: Client,
    headers: HeaderMap,
    peer: Peer,
    journey: Journey,
}

impl Driven {
    fn begin(store: Option<WithoutStore>, is_known: bool, view: &Counter) -> Driven {
        Driven::at(gate(store), is_known, view)
    }

    fn at(gate: Gate, is_known: bool, view: &Counter) -> Driven {
        let snapshot = common::snapshot(|http, _, _| http.gate = gate);
        let mut worker = common::worker(&snapshot, 1, 1);
        let peer = Peer {
            remote: ([10, 0, 0, 1], 5).into(),
            local: ([10, 0, 0, 2], 80).into(),
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        };
        let mut headers = HeaderMap::new();
        if is_known {
            headers.insert("x-user", HeaderValue::from_static("ann"));
            headers.insert("cookie", HeaderValue::from_static("a=b; sid=7"));
        }
        let line = RequestLine {
            method: Method::GET,
            path: "/".parse().unwrap(),
            authority: Some(HeaderValue::from_static("a")),
            scheme: Scheme::Http,
            version: Version::HTTP_11,
        };
        let request = Request { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
        let journey = begin(at(0), &snapshot, &request, &mut worker, view);
        Driven { snapshot, worker, line, client: Client::unknown(&peer), headers, peer, journey }
    }

    fn check(&mut self, now: Instant, view: &Counter) {
        let mut head = Head {
            line: &mut self.line,
            client: &self.client,
            headers: &mut self.headers,
            peer: &self.peer,
            server_name: None,
            names: None,
            rates: None,
        };
        self.journey.on_check(now, &self.snapshot, &mut head, &mut self.worker, view, &mut ());
        assert_eq!(self.journey.check_invariants(), Ok(()));
    }

    fn reply(&self, reason: Reason) -> reply::Reply {
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        let stamp = Stamp { request_id: None, date: &date };
        reply::compose(&self.snapshot, &self.journey, reason, None, false, stamp, &mut |_, _, _| {})
    }
}

const SEND: Option<Action> = Some(Action::Send {
    attempt: AttemptId(0),
    cluster: ClusterId(0),
    endpoint: EndpointId(0),
    cause: Cause::First,
});

#[test]
fn who_has_room_goes_on_and_is_told_what_is_left() {
    let view = Counter { left: Cell::new(2), ..Counter::default() };
    let mut driven = Driven::begin(None, true, &view);
    assert!(driven.journey.is_at_gate());
    assert_eq!(driven.journey.next_action(), Some(Action::Check));
    driven.check(at(0), &view);
    assert_eq!(driven.journey.next_action(), SEND);
    let asked = view.asked.borrow();
    assert_eq!(&*asked[0].key, b"\0\0\0\x03ann\0\0\0\x017", "each part behind its length");
    let headers = driven.reply(Reason::ConnectFailure).headers;
    assert_eq!(headers["ratelimit-policy"], "\"users\";q=2;w=60");
    assert_eq!(headers["ratelimit"], "\"users\";r=1;t=0");
}

#[test]
fn what_a_surge_sheds_is_shed_at_its_level_and_above() {
    let known = HeaderMatch {
        name: "x-user".parse().unwrap(),
        test: HeaderTest::Present(true),
        invert: false,
        missing_as_empty: false,
    };
    let rule = |from_level, share, retry_after| ShedRule {
        from_level,
        blocks: vec![Match { headers: vec![known.clone()], ..Match::default() }],
        share,
        retry_after: Duration::from_secs(retry_after),
    };
    let rules = vec![rule(1, Fraction::NONE, 1), rule(2, Fraction::ALL, 30)];
    let kind = CheckKind::Shed(Box::new(Shed { rules }));
    let gate = Gate { checks: vec![Check { name: "Surge/a/b".into(), kind }] };
    for (level, is_known, is_shed) in
        [(0, true, false), (1, true, false), (2, true, true), (3, true, true), (3, false, false)]
    {
        let view = Counter { level: Cell::new(level), ..Counter::default() };
        let mut driven = Driven::at(gate.clone(), is_known, &view);
        assert_eq!(driven.journey.next_action(), Some(Action::Check));
        driven.check(at(0), &view);
        let counted = view.checks.borrow().clone();
        if !is_shed {
            assert_eq!((driven.journey.next_action(), counted), (SEND, Vec::new()), "{level}, {is_known}");
            continue;
        }
        assert_eq!(driven.journey.next_action(), Some(Action::Reply(Reason::Shed)), "{level}");
        assert_eq!(counted, [CheckCount::Shed]);
        let reply = driven.reply(Reason::Shed);
        assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (503, &"30".parse().unwrap()));
        assert_eq!(reply.headers["x-envoy-local-overloaded"], "true");
    }
}

#[test]
fn who_has_none_is_refused_and_told_when_to_come_again() {
    let view = Counter::default();
    let mut driven = Driven::begin(None, true, &view);
    assert_eq!(driven.journey.next_action(), Some(Action::Check));
    driven.check(at(0), &view);
    assert_eq!(driven.journey.next_action(), Some(Action::Reply(Reason::QuotaExceeded)));
    let reply = driven.reply(Reason::QuotaExceeded);
    assert_eq!(reply.status, 429);
    assert_eq!(reply.headers["retry-after"], "2", "rounded up");
    assert_eq!(reply.headers["ratelimit"], "\"users\";r=0;t=0");
}

#[test]
fn who_lacks_a_part_of_the_key_is_not_counted() {
    let view = Counter::default();
    let mut driven = Driven::begin(None, false, &view);
    driven.journey.next_action();
    driven.check(at(0), &view);
    assert_eq!(driven.journey.next_action(), SEND);
    assert!(view.asked.borrow().is_empty());
}

#[test]
fn a_question_waits_for_its_answer_and_not_longer_than_it_may() {
    for (otherwise, expected) in [
        (WithoutStore::Allow, SEND),
        (WithoutStore::Refuse, Some(Action::Reply(Reason::QuotaUnknown))),
        (WithoutStore::Local, Some(Action::Reply(Reason::QuotaExceeded))),
    ] {
        let view = Counter::default();
        let mut driven = Driven::begin(Some(otherwise), true, &view);
        driven.journey.next_action();
        driven.check(at(1), &view);
        assert_eq!(driven.journey.next_action(), Some(Action::Ask));
        let Some(Question::Spend(asked)) = driven.journey.question() else { panic!() };
        let Asked { store, claims, within, otherwise: said } = asked;
        assert_eq!((*within, *said), (Duration::from_millis(20), otherwise));
        assert_eq!((store.as_str(), claims.len()), ("counts", 1));
        assert_eq!(driven.journey.deadline(), Some((at(21), Wait::Question)));
        driven.journey.tick(at(20));
        assert_eq!(driven.journey.next_action(), None);
        assert_eq!(driven.journey.check_invariants(), Ok(()));
        driven.journey.tick(at(21));
        assert_eq!(driven.journey.next_action(), Some(Action::Check));
        driven.check(at(21), &view);
        assert_eq!(driven.journey.next_action(), expected);
        // Whoever answers now is too late.
        driven.journey.on_answer(at(22), Answer::Nobody);
        assert_eq!(driven.journey.next_action(), None);
    }
}

#[test]
fn an_answer_says_whether_it_goes_on() {
    let view = Counter::default();
    let mut driven = Driven::begin(Some(WithoutStore::Refuse), true, &view);
    driven.journey.next_action();
    driven.check(at(1), &view);
    driven.journey.next_action();
    let rooms = vec![Room { limit: 2, remaining: 1, ..Room::default() }];
    driven.journey.on_answer(at(2), Answer::Spent(Told { spent: Spent::default(), rooms }));
    assert_eq!(driven.journey.next_action(), Some(Action::Check));
    driven.check(at(2), &view);
    assert_eq!(driven.journey.next_action(), SEND);
    assert!(view.asked.borrow().is_empty(), "nothing is counted here");
}

/// Events come in any order, answers late, twice or for nothing: it ends once, and holds what must hold.
#[test]
fn a_walk_through_the_gate_ends_once() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let view = Counter { left: Cell::new(chance.below(2) as u32), ..Counter::default() };
        let otherwise = match chance.below(4) {
            0 => None,
            1 => Some(WithoutStore::Allow),
            2 => Some(WithoutStore::Refuse),
            _ => Some(WithoutStore::Local),
        };
        let mut driven = Driven::begin(otherwise, chance.below(4) > 0, &view);
        let (mut now, mut outs) = (at(0), 0);
        for _ in 0..40 {
            now = now + Duration::from_millis(chance.below(8));
            while let Some(action) = driven.journey.next_action() {
                match action {
                    Action::Check => driven.check(now, &view),
                    Action::Ask => {}
                    Action::Send { .. } | Action::Reply(_) => outs += 1,
                    other => assert!(matches!(other, Action::Cancel { .. }), "seed {seed}: {other:?}"),
                }
            }
            match chance.below(6) {
                0 => driven.journey.tick(now),
                1 => driven.journey.on_answer(now, Answer::Nobody),
                2 => {
                    let rooms = vec![Room::default(); chance.below(3) as usize];
                    driven.journey.on_answer(now, Answer::Spent(Told { spent: Spent::default(), rooms }));
                }
                3 if chance.below(10) == 0 => driven.journey.on_abandoned(now),
                _ => driven.journey.on_progress(now),
            }
            assert_eq!(driven.journey.check_invariants(), Ok(()), "seed {seed}");
        }
        assert!(outs <= 1 || driven.journey.has_ended(), "seed {seed}");
    }
}
