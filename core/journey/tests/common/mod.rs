//! One route to one cluster, and requests for it.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method};
use naru_base::{ClusterId, Instant, Weight};
use naru_journey::{ChainId, EndpointFacts, Journey, RequestFacts, Snapshot, View, Worker};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::{
    Address, Cluster, Config, Discovery, Endpoint, FilterChain, Forward, Http, Listener, Match, PathMatch,
    RouteTable, Rule, Scheme, VirtualHost,
};

pub fn snapshot(change: impl FnOnce(&mut Http, &mut Forward, &mut Cluster)) -> Snapshot {
    let mut forward = Forward::to("service");
    let mut http = Http::new("test", RouteTable::default());
    let endpoint = Endpoint::new(Address::Socket(([127, 0, 0, 1], 1).into()));
    let mut cluster = Cluster::new("service", Discovery::Static, vec![endpoint]);
    change(&mut http, &mut forward, &mut cluster);
    http.routes.virtual_hosts.push(VirtualHost {
        name: "all".into(),
        domains: vec![naru_spec::Domain::Any],
        rules: vec![Rule {
            gate: Vec::new(),
            name: "rule".into(),
            origin: String::new(),
            matches: vec![Match::default(), Match { path: PathMatch::Connect, ..Match::default() }],
            action: naru_spec::Action::Forward(Box::new(forward)),
            request_headers: Default::default(),
            response_headers: Default::default(),
        }],
        tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
    });
    let chain = FilterChain::of(http);
    let listener = Listener::new("l", ([127, 0, 0, 1], 0).into(), vec![chain]);
    Snapshot::compile(Config { listeners: vec![listener], clusters: vec![cluster], ..Config::default() })
        .unwrap()
}

pub fn worker(snapshot: &Snapshot, endpoints: usize, seed: u64) -> Worker {
    let mut worker = Worker::new(snapshot, seed);
    worker.set_endpoints(snapshot, ClusterId(0), &vec![EndpointFacts::of_weight(Weight(1)); endpoints]);
    worker
}

/// What a test says of a request.
pub struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub facts: RequestFacts,
}

pub fn facts(method: &Method, has_ended: bool) -> RequestFacts {
    RequestFacts { repeats: Facts::of(method, &HeaderMap::new(), false), has_ended, ..RequestFacts::NONE }
}

pub fn begin(
    now: Instant,
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    worker: &mut Worker,
    view: &impl View,
) -> Journey {
    begin_for("a", now, snapshot, asked, worker, view)
}

pub fn begin_for(
    authority: &str,
    now: Instant,
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    worker: &mut Worker,
    view: &impl View,
) -> Journey {
    let subject = Subject {
        method: asked.method,
        authority,
        path: "/",
        query: None,
        scheme: Scheme::Http,
        headers: asked.headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: worker.draw_request(),
        claims: None,
    };
    Journey::begin(now, snapshot, ChainId(0), &subject, asked.facts, worker, view, &mut ())
}
