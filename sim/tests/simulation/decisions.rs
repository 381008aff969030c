//! What one request after the other is decided, and by how much chance.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use naru_base::{ClusterId, EndpointId, Reason, Weight};
use naru_journey::{EndpointFacts, Observer, Worker};
use naru_route::Verdict;
use naru_sim::{Answer, Body, BodyEnd, Break, Decision, Dial, Driver, Script};
use naru_spec::{
    Action, ClusterChoice, DirectResponse, Forward, HeaderOps, LoadBalancing, Redirect, WeightedCluster,
};

use crate::support::{ADDRESS, cluster, compile, config, forward, get, plain, rule};

const MS: Duration = Duration::from_millis(1);

fn weighted(shares: &[(&str, u32)]) -> Forward {
    let clusters = shares.iter().map(|(name, weight)| WeightedCluster {
        name: (*name).to_owned(),
        weight: Weight(*weight),
        host: None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    });
    Forward { clusters: ClusterChoice::weighted(clusters.collect()).unwrap(), ..forward("none") }
}

#[test]
fn a_decision_says_what_the_access_log_says() {
    let direct = Action::Direct(Box::new(DirectResponse { status: StatusCode::OK, body: b"ok\n".to_vec() }));
    let redirect =
        Action::Redirect(Box::new(Redirect { host: Some("b.example".to_owned()), ..Redirect::default() }));
    let limited = Forward { timeout: Some(20 * MS), ..forward("one") };
    let snapshot = compile(config(
        vec![
            rule("/health", direct),
            rule("/old", redirect),
            rule("/empty", Action::Forward(Box::new(forward("empty")))),
            rule("/one", Action::Forward(Box::new(limited))),
        ],
        vec![cluster("one", &[ADDRESS]), cluster("empty", &[])],
    ));
    let mut driver = Driver::new(&snapshot, 1);
    let mut check = |path: &'static str, script: Script, expected: (&str, Option<&str>, u16, u16, Reason)| {
        let found = driver.drive_one(&get(path), script).unwrap();
        let (route, cluster, attempts, status, reason) = expected;
        let endpoint = (attempts > 0).then(|| ADDRESS.parse::<SocketAddr>().unwrap());
        let flag = reason.flag();
        let expected =
            Decision { route, virtual_host: "all", cluster, endpoint, attempts, status, reason, flag };
        assert_eq!(found, expected, "{path}");
    };
    let one = Some("one");
    let answer = |after: Duration, status: u16, body: Body| {
        Script::answering(Answer::Response { after, status, grpc_status: None, body })
    };
    let broken = |how: Break| Script::answering(Answer::Broken { after: MS, how });
    let dial = |dial: Dial| Script { dials: [dial].into(), ..Script::default() };
    check("/health", Script::default(), ("health", None, 0, 200, Reason::DirectResponse));
    check("/old", Script::default(), ("old", None, 0, 301, Reason::Redirect));
    check("/nowhere", Script::default(), ("", None, 0, 404, Reason::NoRoute));
    check("/empty", Script::default(), ("empty", Some("empty"), 0, 503, Reason::NoHealthyUpstream));
    check("/one", dial(Dial::Refused { after: MS }), ("one", one, 1, 503, Reason::ConnectFailure));
    check("/one", dial(Dial::TlsFailed { after: MS }), ("one", one, 1, 503, Reason::UpstreamTls));
    check("/one", dial(Dial::Silent), ("one", one, 1, 504, Reason::RouteTimeout));
    check("/one", answer(30 * MS, 200, Body::EMPTY), ("one", one, 1, 504, Reason::RouteTimeout));
    check("/one", answer(MS, 200, Body::new(9, 30 * MS)), ("one", one, 1, 200, Reason::RouteTimeout));
    check("/one", broken(Break::Closed), ("one", one, 1, 503, Reason::UpstreamClosed));
    check("/one", broken(Break::Garbage), ("one", one, 1, 502, Reason::UpstreamProtocol));
    check("/one", Script::status(404), ("one", one, 1, 404, Reason::Forwarded));
    let cut = Body::new(9, MS).cut(1, BodyEnd::Broken);
    check("/one", answer(MS, 200, cut), ("one", one, 1, 200, Reason::UpstreamAborted));
}

#[test]
fn a_request_that_no_edge_lets_in_is_refused_and_uses_its_draw() {
    let snapshot = compile(plain());
    let mut driver = Driver::new(&snapshot, 1);
    let mut bare = get("/");
    bare.head.headers.clear();
    let decision = driver.drive_one(&bare, Script::default()).unwrap();
    assert_eq!((decision.status, decision.reason), (400, Reason::BadHost));
    let mut tunnel = get("/");
    tunnel.head.method = Method::CONNECT;
    let decision = driver.drive_one(&tunnel, Script::default()).unwrap();
    assert_eq!((decision.status, decision.reason), (403, Reason::UpgradeRefused));
}

/// The proxy asks chance in this order: two draws of names for a request id where the request has
/// none, one draw of requests, the draws of the pick.
#[test]
fn chance_is_used_as_the_proxy_uses_it() {
    let mut balanced = cluster("one", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    balanced.load_balancing = LoadBalancing::random();
    let action = Action::Forward(Box::new(weighted(&[("one", 3), ("two", 1)])));
    let snapshot = compile(config(vec![rule("/", action)], vec![balanced, cluster("two", &["10.0.1.1:80"])]));
    let mut driver = Driver::new(&snapshot, 77);
    let found: Vec<_> = (0..200)
        .map(|number| {
            let mut request = get("/");
            if number % 3 == 0 {
                request.head.headers.insert("x-request-id", HeaderValue::from_static("known"));
            }
            let decision = driver.drive_one(&request, Script::default()).unwrap();
            (decision.cluster.map(str::to_owned), decision.endpoint)
        })
        .collect();
    // The machine alone, driven by hand.
    struct Idle;
    impl naru_journey::View for Idle {
        fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
            0
        }
    }
    let mut worker = Worker::new(&snapshot, 77);
    worker.set_endpoints(&snapshot, ClusterId(0), &[EndpointFacts::of_weight(Weight(1)); 3]);
    worker.set_endpoints(&snapshot, ClusterId(1), &[EndpointFacts::of_weight(Weight(1))]);
    let headers = http::HeaderMap::new();
    for (number, found) in found.iter().enumerate() {
        let subject = naru_route::Subject {
            method: &Method::GET,
            authority: "a.example",
            path: "/",
            query: None,
            scheme: naru_spec::Scheme::Http,
            headers: &headers,
            source: [192, 0, 2, 1].into(),
            is_internal: false,
            draw: worker.draw_request(),
            claims: None,
        };
        let facts = naru_journey::RequestFacts::NONE;
        let chain = naru_journey::ChainId(0);
        let mut journey = naru_journey::Journey::begin(
            naru_base::Instant::ZERO,
            &snapshot,
            chain,
            &subject,
            facts,
            &mut worker,
            &Idle,
            &mut (),
        );
        let Some(naru_journey::Action::Send { cluster, endpoint, .. }) = journey.next_action() else {
            panic!("request {number} goes nowhere");
        };
        let cluster = snapshot.cluster(cluster);
        let naru_spec::Address::Socket(address) = cluster.endpoints[endpoint.index()].address else {
            panic!()
        };
        assert_eq!(*found, (Some(cluster.name.clone()), Some(address)), "request {number}");
    }
}

/// Notes the decisions that it is told.
#[derive(Default)]
struct Notes {
    verdicts: u32,
    picked: Option<(ClusterId, Option<EndpointId>)>,
}

impl naru_route::Observer for Notes {}

impl Observer for Notes {
    fn routed(&mut self, _verdict: Verdict) {
        self.verdicts += 1;
    }

    fn picked(&mut self, cluster: ClusterId, endpoint: Option<EndpointId>) {
        self.picked = Some((cluster, endpoint));
    }
}

#[test]
fn an_observer_sees_the_decision_that_is_made() {
    let action = Action::Forward(Box::new(weighted(&[("one", 1), ("two", 1)])));
    let clusters = vec![cluster("one", &["10.0.0.1:80", "10.0.0.2:80"]), cluster("two", &["10.0.1.1:80"])];
    let snapshot = compile(config(vec![rule("/", action)], clusters));
    let mut watched = Driver::new(&snapshot, 5);
    let mut alone = Driver::new(&snapshot, 5);
    for _ in 0..100 {
        let mut notes = Notes::default();
        let settled = watched.drive(&get("/"), Script::default(), None, &mut notes).unwrap();
        assert_eq!(settled.decision, alone.drive_one(&get("/"), Script::default()).unwrap());
        assert_eq!(notes.verdicts, 1);
        let seen = notes.picked.and_then(|(cluster, endpoint)| Some((cluster, endpoint?)));
        assert_eq!(seen, settled.endpoint);
    }
}

#[test]
fn a_grpc_status_comes_from_the_head_or_the_trailers() {
    let snapshot = compile(plain());
    let mut driver = Driver::new(&snapshot, 1);
    let mut check = |body: Body, expected: Option<u8>| {
        let answer = Answer::Response { after: MS, status: 200, grpc_status: Some(5), body };
        let settled = driver.drive(&get("/"), Script::answering(answer), None, &mut ()).unwrap();
        assert_eq!(settled.outcome.grpc_status, expected, "{body:?}");
    };
    check(Body::EMPTY, Some(5));
    check(Body::new(10, MS), None);
    check(Body::new(10, MS).ending(BodyEnd::Trailers { grpc_status: Some(14) }), Some(14));
    check(Body::EMPTY.ending(BodyEnd::Trailers { grpc_status: None }), None);
}

#[test]
fn a_silent_upstream_ends_with_the_idle_timeout_or_with_the_client() {
    let silent = || Script::answering(Answer::Silent);
    let snapshot = compile(plain());
    let settled = Driver::new(&snapshot, 1).drive(&get("/"), silent(), None, &mut ()).unwrap();
    assert_eq!((settled.outcome.reason, settled.outcome.status), (Reason::StreamIdle, 504));
    assert_eq!(settled.outcome.ended.since(settled.outcome.began), Duration::from_secs(300));
    let settled = Driver::new(&snapshot, 1).drive(&get("/"), silent(), Some(7 * MS), &mut ()).unwrap();
    assert_eq!((settled.outcome.reason, settled.outcome.status), (Reason::ClientGone, 0));
    // Without any limit it would wait for ever; its client is then made to leave.
    let mut config = plain();
    config.listeners[0].chains[0].http.stream_idle_timeout = None;
    let snapshot = compile(config);
    let decision = Driver::new(&snapshot, 1).drive_one(&get("/"), silent()).unwrap();
    assert_eq!(decision.reason, Reason::ClientGone);
}

#[test]
fn a_client_may_leave_before_it_has_read_the_answer_of_the_proxy() {
    let snapshot = compile(config(
        vec![rule("/", Action::Forward(Box::new(forward("empty"))))],
        vec![cluster("empty", &[])],
    ));
    let mut driver = Driver::new(&snapshot, 1);
    let settled = driver.drive(&get("/"), Script::default(), Some(Duration::ZERO), &mut ()).unwrap();
    assert_eq!((settled.outcome.reason, settled.outcome.status), (Reason::ClientGone, 503));
    let settled = driver.drive(&get("/"), Script::default(), None, &mut ()).unwrap();
    assert_eq!((settled.outcome.reason, settled.outcome.status), (Reason::NoHealthyUpstream, 503));
}
