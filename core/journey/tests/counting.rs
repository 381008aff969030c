//! Requests that somebody counts: by what they are called, and once, whatever rule takes them in the end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use common::{Asked as Request, begin, facts};
use http::{HeaderMap, HeaderValue, Method, Version};
use naru_admit::described::{Described, ServiceAnswer};
use naru_admit::local_rate::{LocalSaid, LocalTold};
use naru_base::{ClusterId, EndpointId, Fraction, Instant, Reason};
use naru_identity::external::{Changes, Edit, How, Judgement};
use naru_journey::edge::{Client, Peer};
use naru_journey::gate::local_rate::{LocalRateCount, LocalRateId};
use naru_journey::gate::{Answer, CheckCount, Head, Question};
use naru_journey::outgoing::Stamp;
use naru_journey::record::RequestLine;
use naru_journey::{Action, Journey, Snapshot, View, Wait, Worker, reply};
use naru_spec::{
    Check, CheckKind, Descriptor, DescriptorPart, DirectResponse, Domain, External, ExternalGrpc,
    ExternalService, Forward, GateChange, HeaderMatch, HeaderTest, HostRates, LocalDescriptor, LocalRate,
    Match, RateService, RateServiceChange, Rule, RuleRates, Scheme, StringMatch, TokenBucket, VirtualHost,
};

/// What was asked and counted.
#[derive(Default)]
struct Counter {
    refuses: bool,
    asked: RefCell<Vec<(u32, Vec<Described>)>>,
    local: RefCell<Vec<LocalRateCount>>,
    checks: RefCell<Vec<CheckCount>>,
}

impl View for Counter {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn count_check(&self, what: CheckCount) {
        self.checks.borrow_mut().push(what);
    }

    fn local_rate(&self, _: Instant, rate: LocalRateId, asked: &[Described]) -> LocalSaid {
        self.asked.borrow_mut().push((rate.0, asked.to_vec()));
        let told =
            LocalTold { tokens_max: 7, remaining: 0, reset: Duration::from_millis(1_500), tells: None };
        LocalSaid { is_refused: self.refuses, is_shadowed: false, told: Some(told) }
    }

    fn count_local_rate(&self, _: LocalRateId, what: LocalRateCount) {
        self.local.borrow_mut().push(what);
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn literal(value: &str) -> Descriptor {
    let part = DescriptorPart::Literal { key: "generic_key".into(), value: value.into() };
    Descriptor { parts: vec![part], ..Descriptor::default() }
}

fn bucket() -> TokenBucket {
    TokenBucket { tokens_max: 7, tokens_per_fill: 1, fill_interval: Duration::from_secs(1) }
}

fn local(change: impl FnOnce(&mut LocalRate)) -> Check {
    let entries = vec![("generic_key".to_owned(), "own".to_owned())];
    let mut rate = LocalRate {
        descriptors: vec![LocalDescriptor { entries, bucket: bucket(), is_shadow: false }],
        enabled: Fraction::ALL,
        enforced: Fraction::ALL,
        tells: true,
        ..LocalRate::new("s", Some(bucket()))
    };
    change(&mut rate);
    Check { name: "local".into(), kind: CheckKind::LocalRate(Box::new(rate)) }
}

fn service(change: impl FnOnce(&mut RateService)) -> Check {
    let grpc = ExternalGrpc { cluster: "service".into(), ..ExternalGrpc::default() };
    let mut service = RateService::new(grpc, "shop");
    change(&mut service);
    Check { name: "service".into(), kind: CheckKind::RateService(Box::new(service)) }
}

/// Whoever is asked may have another rule take the request.
fn asks() -> Check {
    let grpc = ExternalGrpc { cluster: "service".into(), ..ExternalGrpc::default() };
    let mut external = External::new(ExternalService::Grpc(grpc));
    external.reroutes = true;
    Check { name: "ask".into(), kind: CheckKind::External(Box::new(external)) }
}

/// Requests without `x-rule` are sent on, `direct` ones answered; all rules of the host have descriptors.
fn snapshot(checks: Vec<Check>, changes: Vec<GateChange>) -> Snapshot {
    let describes = |own: Vec<Descriptor>| {
        GateChange::Describe(Box::new(RuleRates {
            own,
            of_host: vec![literal("host")],
            includes_host: false,
        }))
    };
    let rule = |name: &str, action: naru_spec::Action, gate: Vec<GateChange>| {
        let test = HeaderTest::Value(StringMatch::exact(name));
        let header =
            HeaderMatch { name: "x-rule".parse().unwrap(), test, invert: false, missing_as_empty: false };
        let headers = if name == "else" { Vec::new() } else { vec![header] };
        Rule {
            gate,
            name: name.into(),
            origin: String::new(),
            matches: vec![Match { headers, ..Match::default() }],
            action,
            request_headers: Default::default(),
            response_headers: Default::default(),
        }
    };
    let forward = |name: &str| naru_spec::Action::Forward(Box::new(Forward::to(name)));
    let direct = naru_spec::Action::Direct(Box::new(DirectResponse {
        status: http::StatusCode::OK,
        body: Vec::new(),
    }));
    let rules = vec![
        rule("own", forward("service"), [changes, vec![describes(vec![literal("own")])]].concat()),
        rule("direct", direct, Vec::new()),
        rule("else", forward("service"), vec![describes(Vec::new())]),
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

struct Driven<'a> {
    view: &'a Counter,
    snapshot: Snapshot,
    worker: Worker,
    line: RequestLine,
    client: Client,
    headers: HeaderMap,
    peer: Peer,
    journey: Journey,
}

impl<'a> Driven<'a> {
    fn begin(snapshot: Snapshot, rule: &'static str, view: &'a Counter) -> Driven<'a> {
        let mut worker = common::worker(&snapshot, 1, 1);
        let peer = Peer {
            remote: ([10, 0, 0, 1], 5).into(),
            local: ([10, 0, 0, 2], 80).into(),
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        };
        let headers: HeaderMap =
            [("x-rule".parse().unwrap(), HeaderValue::from_static(rule))].into_iter().collect();
        let line = RequestLine {
            method: Method::GET,
            path: "/p".parse().unwrap(),
            authority: Some(HeaderValue::from_static("a")),
            scheme: Scheme::Http,
            version: Version::HTTP_11,
        };
        let request = Request { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
        let journey = begin(at(0), &snapshot, &request, &mut worker, view);
        Driven { view, snapshot, worker, line, client: Client::unknown(&peer), headers, peer, journey }
    }

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
        self.journey.on_check(now, &self.snapshot, &mut head, &mut self.worker, self.view, &mut ());
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

    /// What the service is asked about, by the values of the first entries.
    fn asked(&self) -> Vec<String> {
        let Some(Question::Limit(asking)) = self.journey.question() else { panic!() };
        asking.descriptors.iter().map(|said| said.entries[0].1.to_string()).collect()
    }
}

fn is_sent(action: Option<Action>) -> bool {
    matches!(action, Some(Action::Send { .. }))
}

#[test]
fn a_refusal_says_what_is_left_and_is_counted() {
    let view = Counter { refuses: true, ..Counter::default() };
    let mut driven = Driven::begin(snapshot(vec![local(|_| {})], Vec::new()), "own", &view);
    assert_eq!(driven.check(at(0)), Some(Action::Reply(Reason::RateLimited)));
    let reply = driven.reply(Reason::RateLimited);
    let said = |name: &str| reply.headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        [said("x-ratelimit-limit"), said("x-ratelimit-remaining"), said("x-ratelimit-reset")],
        ["7", "0", "2"]
    );
    use LocalRateCount::{Enabled, Enforced, RateLimited};
    assert_eq!(*view.local.borrow(), [Enabled, RateLimited, Enforced]);
    let asked = view.asked.borrow();
    assert_eq!(asked[0].1[0].entries, [("generic_key".into(), "own".into())]);
}

#[test]
fn another_rule_does_not_count_a_request_again() {
    let view = Counter::default();
    let mut driven = Driven::begin(snapshot(vec![local(|_| {}), asks()], Vec::new()), "own", &view);
    assert_eq!(driven.check(at(0)), Some(Action::Ask));
    let edit = Edit { name: "x-rule".into(), value: Bytes::from_static(b"none"), how: How::Set };
    let changes = Changes { request: vec![edit], ..Changes::default() };
    assert!(is_sent(driven.answer(Answer::Judged(Box::new(Judgement::Pass(Box::new(changes)))))));
    assert_eq!(view.asked.borrow().len(), 1, "the other rule has the same buckets");
    // One that has buckets of its own is asked for them.
    let view = Counter::default();
    let own = GateChange::Instead(local(|_| {}));
    let mut driven = Driven::begin(snapshot(vec![local(|_| {}), asks()], vec![own]), "none", &view);
    assert_eq!(driven.check(at(0)), Some(Action::Ask));
    let edit = Edit { name: "x-rule".into(), value: Bytes::from_static(b"own"), how: How::Set };
    let changes = Changes { request: vec![edit], ..Changes::default() };
    assert!(is_sent(driven.answer(Answer::Judged(Box::new(Judgement::Pass(Box::new(changes)))))));
    let asked = view.asked.borrow();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].0, asked[1].0);
}

#[test]
fn a_service_is_asked_about_what_rules_and_filters_say() {
    let view = Counter::default();
    let check = |rule: &'static str, check: Check, changes: Vec<GateChange>, expected: &[&str]| {
        let mut driven = Driven::begin(snapshot(vec![check], changes), rule, &view);
        if expected.is_empty() {
            assert_ne!(driven.check(at(0)), Some(Action::Ask), "{rule}");
            return;
        }
        assert_eq!(driven.check(at(0)), Some(Action::Ask), "{rule}");
        assert_eq!(driven.asked(), expected, "{rule}");
        assert_eq!(driven.journey.deadline(), Some((at(20), Wait::Question)));
        assert!(is_sent(driven.answer(Answer::Limited(Box::default()))));
    };
    let plain = || service(|_| {});
    check("own", plain(), Vec::new(), &["own"]);
    check("none", plain(), Vec::new(), &["host"]);
    check("direct", plain(), Vec::new(), &[]);
    check("own", service(|said| said.stage = 1), Vec::new(), &[]);
    check("own", service(|said| said.rates = vec![literal("filter")]), Vec::new(), &["filter"]);
    let change = |host_rates, rates| {
        let change = RateServiceChange { host_rates, rates, domain: String::new() };
        vec![GateChange::Count("service".into(), Box::new(change))]
    };
    check("own", plain(), change(HostRates::Include, Vec::new()), &["own", "host"]);
    let filter = service(|said| said.rates = vec![literal("filter")]);
    check("own", filter, change(HostRates::Include, vec![literal("rule")]), &["rule"]);
}

#[test]
fn what_the_service_says_is_done_and_what_nobody_says_is_a_setting() {
    let view = Counter::default();
    let over =
        ServiceAnswer { is_over_limit: true, body: Bytes::from_static(b"no"), ..ServiceAnswer::default() };
    let mut driven = Driven::begin(snapshot(vec![service(|_| {})], Vec::new()), "own", &view);
    assert_eq!(driven.check(at(0)), Some(Action::Ask));
    let answered = driven.answer(Answer::Limited(Box::new(over.clone())));
    assert_eq!(answered, Some(Action::Reply(Reason::QuotaExceeded)));
    let reply = driven.reply(Reason::QuotaExceeded);
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (429, &b"no"[..]));
    assert_eq!(reply.headers["x-envoy-ratelimited"], "true");

    let mut driven = Driven::begin(
        snapshot(vec![service(|said| said.enforced = Fraction::NONE)], Vec::new()),
        "own",
        &view,
    );
    assert_eq!(driven.check(at(0)), Some(Action::Ask));
    let headers = |all: &[(&str, &'static [u8])]| -> Vec<(Box<str>, Bytes)> {
        all.iter().map(|(name, value)| ((*name).into(), Bytes::from_static(value))).collect()
    };
    let answer = ServiceAnswer {
        request_headers: headers(&[
            ("x-user", b"me"),
            ("host", b"evil"),
            ("content-length", b"9"),
            ("x y", b"1"),
        ]),
        ..over
    };
    assert!(is_sent(driven.answer(Answer::Limited(Box::new(answer)))));
    assert_eq!(driven.headers["x-user"], "me");
    assert!(!driven.headers.contains_key("host") && !driven.headers.contains_key("content-length"));

    for (denies, expected) in [(Fraction::NONE, None), (Fraction::ALL, Some(Reason::QuotaUnknown))] {
        let check = service(|said| {
            said.denies_failed = denies;
            said.status_on_error = 503;
        });
        let mut driven = Driven::begin(snapshot(vec![check], Vec::new()), "own", &view);
        assert_eq!(driven.check(at(0)), Some(Action::Ask));
        let answered = driven.answer(Answer::Nobody);
        match expected {
            None => assert!(is_sent(answered)),
            Some(reason) => {
                assert_eq!(answered, Some(Action::Reply(reason)));
                assert_eq!(driven.reply(reason).status.as_u16(), 503);
            }
        }
    }
    use CheckCount::{RateServiceFailed, RateServiceFailureAllowed, RateServiceOver};
    let counted = [RateServiceOver, RateServiceOver, RateServiceFailureAllowed, RateServiceFailed];
    assert_eq!(*view.checks.borrow(), counted);
}
