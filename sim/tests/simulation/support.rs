//! A configuration to begin with, and the seeds of a walk.

use std::net::SocketAddr;
use std::ops::Range;

use http::HeaderValue;
use naru_journey::{ChainId, Snapshot};
use naru_sim::Request;
use naru_spec::{
    Action, Address, Cluster, Config, Discovery, Domain, Endpoint, FilterChain, Forward, HeaderOps, Http,
    Listener, Match, PathMatch, RouteTable, Rule, TlsRequirement, VirtualHost,
};

pub const ADDRESS: &str = "10.0.0.1:80";

/// `NARU_SEED`, or all up to `count`.
pub fn seeds(count: u64) -> Range<u64> {
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    only.map_or(0..count, |seed| seed..seed + 1)
}

pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

pub fn cluster(name: &str, addresses: &[&str]) -> Cluster {
    let endpoint = |address: &&str| Endpoint::new(Address::Socket(address.parse().unwrap()));
    Cluster::new(name, Discovery::Static, addresses.iter().map(endpoint).collect())
}

pub fn rule(prefix: &str, action: Action) -> Rule {
    Rule {
        gate: Vec::new(),
        name: prefix.trim_matches('/').to_owned(),
        origin: String::new(),
        matches: vec![Match { path: PathMatch::Prefix(prefix.to_owned()), ..Match::default() }],
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

pub fn forward(cluster: &str) -> Forward {
    Forward::to(cluster)
}

/// One listener whose only virtual host `all` has these rules.
pub fn config(rules: Vec<Rule>, clusters: Vec<Cluster>) -> Config {
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec![Domain::Any],
        rules,
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let routes = RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
    let chain = FilterChain { name: "main".to_owned(), ..FilterChain::of(Http::new("edge", routes)) };
    let listener = Listener::new("edge", SocketAddr::from(([127, 0, 0, 1], 8_080)), vec![chain]);
    Config { admin: None, listeners: vec![listener], clusters, ..Config::default() }
}

/// Everything goes to one endpoint, without any time limit of a route.
pub fn plain() -> Config {
    let action = Action::Forward(Box::new(Forward { timeout: None, ..forward("one") }));
    config(vec![rule("/", action)], vec![cluster("one", &[ADDRESS])])
}

pub fn compile(config: Config) -> Snapshot {
    Snapshot::compile(config).unwrap()
}

pub fn get(path: &'static str) -> Request {
    Request::get(ChainId(0), &HeaderValue::from_static("a.example"), path.parse().unwrap())
}
