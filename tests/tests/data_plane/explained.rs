//! What `naru explain` says of a request is what the proxy does with it: random documents, random requests.
//!
//! Every rule adds a header to its response that names the rule, the place it is written at and the cluster;
//! `explain` is asked about the same request, and must name the same. A failure prints its seed:
//! `NARU_SEED=n` replays that one.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request};
use naru_base::Chance;
use naru_journey::edge::Peer;
use naru_journey::explain::Explainer;
use naru_journey::{ChainId, Snapshot};
use naru_plan::{Surroundings, plan};
use naru_proxy::Options;
use naru_spec::{Config, Rule};
use naru_tests::client::request;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream};

const SETS: u64 = 250;
/// Of each set, by as many clients at a time.
const REQUESTS: usize = 400;
pub const CLIENTS: usize = 8;

const HOSTS: &[&str] = &["a.test", "b.test", "x.b.test", "x.y.b.test", "c.test", "nobody.test"];
const DOMAINS: &[&str] = &["a.test", "b.test", "'*.b.test'", "'*.y.b.test'", "c.test", "'*'"];
const PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/v1/users", "/v1/users/7", "/v2/users/7"];
const REGEXES: &[&str] = &["/a/.*", "/v[0-9]+/users/[0-9]+", "/.b", ".*", "/v1/.*"];
const VALUES: &[&str] = &["one", "two", "onetwo", ""];
const NAMES: &[&str] = &["x-a", "x-b", "end-user"];
const METHODS: &[Method] = &[Method::GET, Method::POST, Method::DELETE];
const SERVICES: &[&str] = &["s0", "s1", "s2"];

fn any<T: Clone>(chance: &mut Chance, all: &[T]) -> T {
    all[chance.below(all.len() as u64) as usize].clone()
}

fn one_in(chance: &mut Chance, count: u64) -> bool {
    chance.below(count) == 0
}

/// Documents for a gateway at `port`, with services that are all at `upstream`.
pub fn documents(chance: &mut Chance, port: u16, upstream: SocketAddr) -> String {
    let mut out = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
"
    );
    for service in SERVICES {
        let (ip, port) = (upstream.ip(), upstream.port());
        let _ = write!(
            out,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {service} }}
spec:
  hosts: [{service}.internal]
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints: [{{ address: {ip}, ports: {{ http: {port} }} }}]
"
        );
    }
    let mut free: Vec<&str> = DOMAINS.to_vec();
    let mut number = 0;
    while !free.is_empty() && number < 4 {
        let mut hosts = Vec::new();
        while !free.is_empty() && (hosts.is_empty() || one_in(chance, 3)) {
            hosts.push(free.swap_remove(chance.below(free.len() as u64) as usize));
        }
        let _ = write!(
            out,
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: vs{number} }}
spec:
  hosts: [{}]
  gateways: [gate]
  http:
",
            hosts.join(", ")
        );
        for rule in 0..=chance.below(8) {
            let _ = writeln!(out, "  - name: vs{number}-r{rule}");
            if !one_in(chance, 8) {
                let _ = writeln!(out, "    match:");
                for _ in 0..=chance.below(3) {
                    let _ = writeln!(out, "    - {}", block(chance));
                }
            }
            let _ = writeln!(out, "    {}", action(chance));
            let _ = writeln!(
                out,
                "    headers: {{ response: {{ set: {{ x-decision: '%ROUTE_NAME%|%ROUTE_ORIGIN%|%UPSTREAM_CLUSTER%' }} }} }}"
            );
        }
        if one_in(chance, 2) {
            out.push_str(&groups(chance, number));
        }
        number += 1;
    }
    out
}

/// Groups for reads and writes: of a VirtualService, or of its first route.
fn groups(chance: &mut Chance, number: usize) -> String {
    let section = if one_in(chance, 2) { format!(", sectionName: vs{number}-r0") } else { String::new() };
    let mut out = format!(
        "---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{ name: groups{number} }}
spec:
  targetRef: {{ kind: VirtualService, name: vs{number}{section} }}
  readWrite:
    write: {{ host: s2.internal }}
"
    );
    for (one, line) in [
        (3, "read: { host: s1.internal }"),
        (4, "writeMethods: [DELETE]"),
        (3, "readPaths: [{ prefix: /a }]"),
        (3, "writePaths: [{ regex: '/v[0-9]/.*' }]"),
        (2, "readYourWrites: { for: 5s, session: { cookie: wrote } }"),
    ] {
        if one_in(chance, one) {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// One block of a match.
fn block(chance: &mut Chance) -> String {
    let mut fields = Vec::new();
    if !one_in(chance, 4) {
        let test = match chance.below(4) {
            0 => format!("exact: {}", any(chance, PATHS)),
            1 => format!("regex: '{}'", any(chance, REGEXES)),
            _ => format!("prefix: {}", any(chance, PATHS)),
        };
        fields.push(format!("uri: {{ {test} }}"));
        if one_in(chance, 6) {
            fields.push("ignoreUriCase: true".to_owned());
        }
    }
    if one_in(chance, 4) {
        fields.push(format!("method: {{ exact: {} }}", any(chance, METHODS)));
    }
    if one_in(chance, 3) {
        fields.push(format!("headers: {{ {}: {} }}", any(chance, NAMES), value(chance)));
    }
    if one_in(chance, 6) {
        fields.push(format!("withoutHeaders: {{ {}: {} }}", any(chance, NAMES), value(chance)));
    }
    if one_in(chance, 6) {
        fields.push(format!("queryParams: {{ q: {} }}", value(chance)));
    }
    if one_in(chance, 8) {
        fields.push(format!("authority: {{ prefix: {} }}", any(chance, &["a.", "b", "x."])));
    }
    if fields.is_empty() {
        fields.push("uri: { prefix: / }".to_owned());
    }
    format!("{{ {} }}", fields.join(", "))
}

fn value(chance: &mut Chance) -> String {
    match chance.below(4) {
        0 => "{ prefix: on }".to_owned(),
        1 => "{ regex: 't?.o.*' }".to_owned(),
        2 => "{ exact: two }".to_owned(),
        _ => "{ exact: one }".to_owned(),
    }
}

fn action(chance: &mut Chance) -> String {
    match chance.below(4) {
        0 => "redirect: { uri: /elsewhere, redirectCode: 307 }".to_owned(),
        1 => {
            format!("directResponse: {{ status: {}, body: {{ string: no }} }}", any(chance, &[200, 403, 503]))
        }
        2 => format!("route: [{{ destination: {{ host: {}.internal }} }}]", any(chance, SERVICES)),
        _ => {
            let first = chance.below(101);
            format!(
                "route: [{{ destination: {{ host: s0.internal }}, weight: {first} }}, \
                 {{ destination: {{ host: s1.internal }}, weight: {} }}]",
                100 - first
            )
        }
    }
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub host: &'static str,
    pub target: String,
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Asked {
    pub fn draw(chance: &mut Chance) -> Asked {
        let mut target = any(chance, PATHS).to_owned();
        if one_in(chance, 8) {
            target = target.to_uppercase();
        }
        if one_in(chance, 3) {
            let _ = write!(target, "?q={}", any(chance, VALUES));
        }
        let mut headers = Vec::new();
        for name in NAMES {
            if one_in(chance, 2) {
                headers.push((*name, any(chance, VALUES)));
            }
        }
        if one_in(chance, 4) {
            headers.push(("cookie", any(chance, &["wrote=1", "a=b; wrote=1", "a=wrote"])));
        }
        Asked { method: any(chance, METHODS), host: any(chance, HOSTS), target, headers }
    }

    fn request(&self) -> Request<Outbound> {
        let mut request = request(self.method.clone(), &self.target, Outbound::empty());
        for (name, value) in &self.headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static(self.host));
        request
    }
}

/// What the proxy did: the status, and what the header says.
#[derive(Debug, PartialEq)]
pub struct Done {
    pub status: u16,
    pub decision: Option<String>,
}

/// The configuration that documents mean, which must be right.
pub fn planned(text: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("drawn.yaml", text, &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let problems: Vec<_> =
        loaded.problems.iter().chain(&planned.problems).filter(|problem| problem.is_error()).collect();
    assert!(problems.is_empty(), "{problems:#?}\n{text}");
    planned.config
}

/// Whether it is what `explain` says; what that is, where it is not.
fn agrees(
    asked: &Asked,
    done: &Done,
    explainer: &Explainer<'_>,
    rules: &[&Rule],
    local: SocketAddr,
) -> Result<(), String> {
    let peer = Peer {
        remote: ([127, 0, 0, 1], 40_000).into(),
        local,
        is_tls: false,
        is_certified: false,
        is_in_tunnel: false,
    };
    let mut parts = asked.request().into_parts().0;
    let explained = explainer.explain(&mut parts, &peer, 1).unwrap();
    let naru_route::Verdict::Rule { rule, .. } = explained.verdict else {
        let is_same = *done == Done { status: 404, decision: None };
        return if is_same { Ok(()) } else { Err(format!("{:?}", explained.verdict)) };
    };
    let rule = rules[rule.index()];
    let decision = done.decision.as_deref().unwrap_or_default();
    let mut clusters =
        explained.destinations.iter().filter(|(_, weight)| weight.0 > 0).map(|(name, _)| name.as_str());
    let is_same = match decision.strip_prefix(&format!("{}|{}|", rule.name, rule.origin)) {
        None => false,
        Some("") | Some("-") => explained.destinations.is_empty(),
        Some(cluster) => clusters.any(|name| name == cluster),
    };
    if is_same {
        Ok(())
    } else {
        Err(format!("{} at {}, {:?}", rule.name, rule.origin, explained.destinations))
    }
}

pub async fn ask(address: SocketAddr, asked: Arc<Vec<Asked>>, first: usize) -> Vec<(usize, Done)> {
    let mut client = Client::plain(address, Speaks::Http1).await;
    let mut all = Vec::new();
    for at in (first..asked.len()).step_by(CLIENTS) {
        let answer = client.exchange(asked[at].request()).await;
        let decision = answer.headers.get("x-decision").map(|value| value.to_str().unwrap().to_owned());
        all.push((at, Done { status: answer.status.as_u16(), decision }));
    }
    all
}

/// `NARU_CASES=n` asks for as many requests, all in all.
fn sets() -> u64 {
    let cases = std::env::var("NARU_CASES").ok().map(|cases| cases.parse::<u64>().unwrap());
    cases.map_or(SETS, |cases| cases.div_ceil(REQUESTS as u64))
}

#[tokio::test]
async fn explain_names_the_decision_of_the_proxy() {
    let seeds = match std::env::var("NARU_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..sets(),
    };
    let upstream = Upstream::plain(Speaks::Http1).await;
    let mut naru: Option<Naru> = None;
    let (mut ruled, mut unruled, mut forwarded) = (0, 0, 0);
    for seed in seeds.clone() {
        let mut chance = Chance::split(seed, "explained");
        let text = documents(&mut chance, 80, upstream.address);
        // The first one finds a port that is free, and the others stay there.
        let port = naru.as_ref().map_or(0, |naru| naru.address.port());
        let config = || {
            let mut config = planned(&text);
            config.listeners[0].address.set_port(port);
            config
        };
        match &naru {
            None => naru = Some(Naru::start_on(config(), &Options { workers: 1, seed: Some(seed) })),
            Some(naru) => naru.update_to(config()).await,
        }
        let address = naru.as_ref().unwrap().address;
        let asked: Arc<Vec<Asked>> = Arc::new((0..REQUESTS).map(|_| Asked::draw(&mut chance)).collect());
        let clients: Vec<_> =
            (0..CLIENTS).map(|first| tokio::spawn(ask(address, Arc::clone(&asked), first))).collect();
        let snapshot = Snapshot::compile(config()).unwrap();
        let config = config();
        let routes = &config.listeners[0].chains[0].http.routes;
        let rules: Vec<&Rule> = routes.virtual_hosts.iter().flat_map(|host| &host.rules).collect();
        let explainer = Explainer::new(&snapshot, ChainId(0), routes);
        for client in clients {
            for (at, done) in client.await.unwrap() {
                if let Err(explained) = agrees(&asked[at], &done, &explainer, &rules, address) {
                    panic!("NARU_SEED={seed}: {:?}\ndone {done:?}\nexplained {explained}\n{text}", asked[at]);
                }
                match &done.decision {
                    None => unruled += 1,
                    Some(decision) if decision.contains("outbound|") => forwarded += 1,
                    Some(_) => ruled += 1,
                }
            }
        }
    }
    if seeds.end - seeds.start >= SETS {
        assert!(ruled > 20_000 && unruled > 5_000 && forwarded > 20_000, "{ruled} {unruled} {forwarded}");
    }
}
