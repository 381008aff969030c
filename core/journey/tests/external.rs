//! Requests of which somebody else is asked, and rules that are found again behind checks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Asked as Request, begin, facts};
use http::{HeaderMap, HeaderValue, Method, Version};
use naru_base::{Chance, ClusterId, EndpointId, Instant, Reason};
use naru_identity::external::{Beginning, Changes, Denied, Edit, How, Judgement};
use naru_journey::edge::{Client, Peer};
use naru_journey::gate::{Answer, Head, Question};
use naru_journey::outgoing::Stamp;
use naru_journey::record::RequestLine;
use naru_journey::{Action, Journey, Snapshot, View, Wait, Worker, reply};
use naru_spec::{
    AuthTest, Check, CheckKind, DirectResponse, Domain, External, ExternalBody, ExternalGrpc,
    ExternalService, GateChange, HeaderMatch, HeaderTest, Match, Rbac, RbacAction, RbacPolicy, RbacRules,
    Rule, Scheme, StringMatch, VirtualHost,
};

struct Nothing;

impl View for Nothing {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn external(change: impl FnOnce(&mut External)) -> Check {
    let grpc = ExternalGrpc { cluster: "service".into(), ..ExternalGrpc::default() };
    let mut external = External::new(ExternalService::Grpc(grpc));
    change(&mut external);
    Check { name: "ask".into(), kind: CheckKind::External(Box::new(external)) }
}

fn has(name: &'static str, test: HeaderTest) -> HeaderMatch {
    HeaderMatch { name: name.parse().unwrap(), test, invert: false, missing_as_empty: false }
}

/// Refuses who has this header.
fn policy(header: &'static str) -> Check {
    let policy = RbacPolicy {
        name: header.to_owned(),
        origin: String::new(),
        permissions: vec![AuthTest::Always],
        principals: vec![AuthTest::Header(has(header, HeaderTest::Present(true)))],
        condition: None,
    };
    let rules = Some(RbacRules { action: RbacAction::Deny, policies: vec![policy] });
    Check { name: "policy".into(), kind: CheckKind::Rbac(Box::new(Rbac { rules, ..Rbac::default() })) }
}

/// The tenant `b` has a policy of its own, which stands before whoever is asked.
fn snapshot(checks: Vec<Check>) -> Snapshot {
    let rule = |name: &str, matches: Match, gate: Vec<GateChange>| Rule {
        gate,
        name: name.into(),
        origin: String::new(),
        matches: vec![matches],
        action: naru_spec::Action::Direct(Box::new(DirectResponse {
            status: http::StatusCode::OK,
            body: name.as_bytes().to_vec(),
        })),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let tenant = |name: &str| Match {
        headers: vec![has("x-tenant", HeaderTest::Value(StringMatch::exact(name)))],
        ..Match::default()
    };
    let rules = vec![
        rule("a", tenant("a"), Vec::new()),
        rule("b", tenant("b"), vec![GateChange::Instead(policy("x-bad-at-b"))]),
        rule("c", tenant("c"), vec![GateChange::Without("ask".into())]),
        rule("else", Match::default(), Vec::new()),
    ];
    common::snapshot(|http, _, _| {
        http.gate.checks = checks;
        http.routes.virtual_hosts.push(VirtualHost {
            name: "a".into(),
            domains: vec![Domain::parse("a").unwrap()],
            rules,
            tls: Default::default(),
            request_headers: Default::default(),
            response_headers: Default::default(),
        });
    })
}

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
    fn begin(snapshot: Snapshot, headers: &[(&'static str, &'static str)]) -> Driven {
        let mut worker = common::worker(&snapshot, 1, 1);
        let peer = Peer {
            remote: ([10, 0, 0, 1], 5).into(),
            local: ([10, 0, 0, 2], 80).into(),
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        };
        let own =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let headers: HeaderMap = own.collect();
        let line = RequestLine {
            method: Method::GET,
            path: "/p?q=1".parse().unwrap(),
            authority: Some(HeaderValue::from_static("a")),
            scheme: Scheme::Http,
            version: Version::HTTP_11,
        };
        let request = Request { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
        let journey = begin(at(0), &snapshot, &request, &mut worker, &Nothing);
        Driven { snapshot, worker, line, client: Client::unknown(&peer), headers, peer, journey }
    }

    /// Asks its checks on, and says what it wants then.
    fn check(&mut self, now: Instant) -> Option<Action> {
        assert_eq!(self.journey.next_action(), Some(Action::Check));
        let mut head = Head {
            line: &mut self.line,
            client: &self.client,
            headers: &mut self.headers,
            peer: &self.peer,
            server_name: None,
            names: None,
            rates: None,
        };
        self.journey.on_check(now, &self.snapshot, &mut head, &mut self.worker, &Nothing, &mut ());
        assert_eq!(self.journey.check_invariants(), Ok(()));
        self.journey.next_action()
    }

    fn answer(&mut self, answer: Answer) -> Option<Action> {
        self.journey.on_answer(at(1), answer);
        self.check(at(1))
    }

    fn reply(&self, reason: Reason) -> reply::Reply {
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        let stamp = Stamp { request_id: None, date: &date };
        reply::compose(&self.snapshot, &self.journey, reason, None, false, stamp, &mut |_, _, _| {})
    }
}

fn edit(name: &str, value: &str, how: How) -> Edit {
    Edit { name: name.into(), value: Bytes::copy_from_slice(value.as_bytes()), how }
}

fn pass(changes: Changes) -> Answer {
    Answer::Judged(Box::new(Judgement::Pass(Box::new(changes))))
}

const ASKS: Option<Action> = Some(Action::Ask);
const DIRECT: Option<Action> = Some(Action::Reply(Reason::DirectResponse));

#[test]
fn what_they_say_is_done() {
    let mut driven =
        Driven::begin(snapshot(vec![external(|_| {})]), &[("x-user", "forged"), ("x-gone", "1")]);
    assert_eq!(driven.check(at(0)), ASKS);
    let Some(Question::Judge(asking)) = driven.journey.question() else { panic!() };
    assert_eq!((&*asking.path, &*asking.authority), ("/p?q=1", "a"));
    assert_eq!(driven.journey.deadline(), Some((at(200), Wait::Question)));
    let changes = Changes {
        request: vec![edit("x-user", "me", How::Set)],
        remove: vec!["x-gone".into()],
        response: vec![edit("x-told", "1", How::Add)],
        set_query: vec![("q".into(), "2".into())],
        remove_query: Vec::new(),
    };
    assert_eq!(driven.answer(pass(changes)), DIRECT);
    assert_eq!(
        (&driven.headers["x-user"], driven.headers.get("x-gone")),
        (&HeaderValue::from_static("me"), None)
    );
    assert_eq!(driven.line.path.as_str(), "/p?q=2");
    assert_eq!(driven.reply(Reason::DirectResponse).headers["x-told"], "1");
}

#[test]
fn a_refusal_is_theirs() {
    let mut driven =
        Driven::begin(snapshot(vec![external(|said| said.denied_body_bytes_max = Some(3))]), &[]);
    assert_eq!(driven.check(at(0)), ASKS);
    let headers = vec![edit("x-why", "1", How::Add), edit("content-length", "99", How::Add)];
    let denied = Denied { status: 401, headers, body: Bytes::from_static(b"not you") };
    let judged = Answer::Judged(Box::new(Judgement::Deny(Box::new(denied))));
    assert_eq!(driven.answer(judged), Some(Action::Reply(Reason::ExternalDenied)));
    let reply = driven.reply(Reason::ExternalDenied);
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (401, &b"not"[..]));
    assert_eq!((reply.headers["x-why"].as_bytes(), reply.headers.get("content-length")), (&b"1"[..], None));
}

#[test]
fn what_nobody_says_is_a_refusal_unless_it_is_said_otherwise() {
    let failed = Some(Action::Reply(Reason::ExternalFailed));
    let too_much = Changes { remove: vec!["a".into(); 257], ..Changes::default() };
    let bad = Changes { request: vec![edit("x-a", "1\r\n", How::Set)], ..Changes::default() };
    for (allows, answer, expected, status) in [
        (false, Answer::Nobody, failed, 503),
        (true, Answer::Nobody, DIRECT, 0),
        (false, Answer::Judged(Box::new(Judgement::Fail(None))), failed, 503),
        (true, Answer::Judged(Box::new(Judgement::Fail(None))), DIRECT, 0),
        // What cannot be done is no failure that may be let through.
        (true, pass(bad), failed, 500),
        (true, pass(too_much), failed, 500),
    ] {
        let check = external(|said| {
            said.failure_allows = allows;
            said.tells_failure = true;
            said.status_on_error = 503;
        });
        let mut driven =
            Driven::begin(snapshot(vec![check]), &[("x-envoy-auth-failure-mode-allowed", "forged")]);
        assert_eq!(driven.check(at(0)), ASKS);
        assert_eq!(driven.answer(answer), expected);
        let told = driven.headers.get("x-envoy-auth-failure-mode-allowed").map(HeaderValue::as_bytes);
        if expected == DIRECT {
            assert_eq!(told, Some(&b"true"[..]));
        } else {
            assert_eq!((told, driven.reply(Reason::ExternalFailed).status.as_u16()), (None, status));
        }
    }
}

#[test]
fn a_body_is_gathered_before_anybody_is_asked() {
    let body = ExternalBody { bytes_max: 4, allows_partial: false, is_raw: false };
    for too_long in [false, true] {
        let mut driven = Driven::begin(snapshot(vec![external(|said| said.body = Some(body))]), &[]);
        assert_eq!(driven.check(at(0)), ASKS);
        let gather = Question::Gather { bytes_max: 4, allows_partial: false };
        assert_eq!(driven.journey.question(), Some(&gather));
        if too_long {
            assert_eq!(driven.answer(Answer::TooLong), Some(Action::Reply(Reason::BodyTooLarge)));
            continue;
        }
        let beginning = Beginning { bytes: Bytes::from_static(b"a\xffb"), read: 3 };
        assert_eq!(driven.answer(Answer::Gathered(Some(beginning))), ASKS);
        let Some(Question::Judge(asking)) = driven.journey.question() else { panic!() };
        assert_eq!(asking.shown.body.as_deref(), Some(&b"a!b"[..]), "a text");
        assert_eq!(driven.answer(pass(Changes::default())), DIRECT);
    }
}

/// Whatever the tenant is that they set: nobody gets to a rule past its checks, and nobody is asked twice.
#[test]
fn nobody_comes_to_another_rule_past_its_checks() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let tenants = ["a", "b", "c", "d"];
        let mut tenant = tenants[chance.below(4) as usize];
        let is_bad = chance.below(2) == 1;
        let is_bad_at_b = chance.below(2) == 1;
        let mut headers = vec![("x-tenant", tenant)];
        headers.extend(is_bad.then_some(("x-bad", "1")));
        headers.extend(is_bad_at_b.then_some(("x-bad-at-b", "1")));
        let checks = vec![policy("x-bad"), external(|said| said.reroutes = true)];
        let mut driven = Driven::begin(snapshot(checks), &headers);
        let mut action = driven.check(at(0));
        let mut passed_first = false;
        let mut asked = 0;
        // As the rules stand: the first policy is asked of whoever is not b's.
        let refused = |tenant: &str| if tenant == "b" { is_bad_at_b } else { is_bad };
        let mut is_refused = refused(tenant);
        while action == ASKS {
            asked += 1;
            passed_first = true;
            tenant = tenants[chance.below(4) as usize];
            is_refused |= refused(tenant);
            let request = vec![edit("x-tenant", tenant, How::Set)];
            action = driven.answer(pass(Changes { request, ..Changes::default() }));
        }
        let expected = if is_refused { Some(Action::Reply(Reason::PolicyDenied)) } else { DIRECT };
        assert_eq!(action, expected, "seed {seed}: {headers:?}, then {tenant}");
        assert!(asked <= 1, "seed {seed}");
        if !is_refused {
            let expected = if tenant == "d" { "else" } else { tenant };
            let body = driven.reply(Reason::DirectResponse).body;
            assert_eq!(&body[..], expected.as_bytes(), "seed {seed}: passed first: {passed_first}");
        }
    }
}

#[test]
fn who_is_asked_is_no_longer_waited_for_than_is_said() {
    let check = external(|said| said.timeout = Duration::from_millis(7));
    let mut driven = Driven::begin(snapshot(vec![check]), &[]);
    assert_eq!(driven.check(at(0)), ASKS);
    driven.journey.tick(at(6));
    assert_eq!(driven.journey.next_action(), None);
    driven.journey.tick(at(7));
    assert_eq!(driven.check(at(7)), Some(Action::Reply(Reason::ExternalFailed)));
}
