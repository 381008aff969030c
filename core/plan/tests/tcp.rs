//! Routes that are not HTTP: at gateways, and for what workloads call.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Client, Surroundings, plan};
use naru_spec::{Action, ClusterChoice, Config, FilterChain, Transport, UpstreamProtocol, defaults};

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: all }
spec:
  hosts: [db.example, old.example, api.example]
  resolution: STATIC
  ports: [{ number: 5432, name: tcp, protocol: TCP }, { number: 443, name: tls, protocol: TLS }]
  endpoints: [{ address: 10.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: db }
spec:
  host: db.example
  trafficPolicy: { connectionPool: { tcp: { idleTimeout: 7200s, connectTimeout: 3s, maxConnections: 9 } } }
---
";

fn planned(documents: &str, surroundings: &Surroundings) -> (Config, Vec<String>) {
    planned_beside(SERVICES, documents, surroundings)
}

fn planned_beside(services: &str, documents: &str, surroundings: &Surroundings) -> (Config, Vec<String>) {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{services}{documents}"), &mut loaded);
    let planned = plan(&loaded.resources, surroundings);
    assert!(!planned.has_errors(), "{:?}", planned.problems);
    let told = planned.problems.iter().map(|problem| problem.message.clone()).collect();
    (planned.config, told)
}

fn chains(documents: &str) -> Vec<FilterChain> {
    let (mut config, mut told) = planned(documents, &Surroundings::default());
    // Blocks that no connection fits are there on purpose.
    told.retain(|message| !message.ends_with(": no request fits"));
    assert_eq!(told, Vec::<String>::new());
    config.listeners.retain(|listener| listener.name != "gateway/0.0.0.0:80");
    config.listeners.remove(0).chains
}

fn clusters(chain: &FilterChain) -> Vec<(String, u32)> {
    match &chain.tcp.as_ref().unwrap().clusters {
        ClusterChoice::One(name) => vec![(name.clone(), 0)],
        ClusterChoice::Weighted(all) => all.iter().map(|one| (one.name.clone(), one.weight.0)).collect(),
    }
}

fn names(chain: &FilterChain) -> Vec<String> {
    chain.server_names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_gateway_of_tcp_leads_by_the_first_route_that_is_for_it() {
    let chains = chains(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec: { servers: [{ port: { number: 6000, protocol: TCP, name: tcp }, hosts: ['*'] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: db }
spec:
  hosts: ['*']
  gateways: [edge]
  tcp:
  - { match: [{ port: 7000 }], route: [{ destination: { host: api.example, port: { number: 443 } } }] }
  - { match: [{ port: 6000, sourceLabels: { app: a } }], route: [{ destination: { host: api.example, port: { number: 443 } } }] }
  - match: [{ port: 6000, destinationSubnets: [10.9.0.0/16, 10.8.7.6] }]
    route: [{ destination: { host: api.example, port: { number: 443 } } }]
  - match: [{ port: 6000 }]
    route:
    - { destination: { host: db.example, port: { number: 5432 } }, weight: 90 }
    - { destination: { host: old.example, port: { number: 5432 } }, weight: 10 }
  - { route: [{ destination: { host: api.example, port: { number: 443 } } }] }
",
    );
    let [some, all] = chains.as_slice() else { panic!("{chains:?}") };
    assert_eq!(some.networks, ["10.9.0.0/16".parse().unwrap(), "10.8.7.6/32".parse().unwrap()]);
    assert_eq!(clusters(some), [("outbound|443||api.example".to_owned(), 0)]);
    assert_eq!(some.tcp.as_ref().unwrap().idle_timeout, Some(defaults::TCP_IDLE_TIMEOUT));
    let shares =
        [("outbound|5432||db.example".to_owned(), 90), ("outbound|5432||old.example".to_owned(), 10)];
    assert_eq!(clusters(all), shares);
    assert_eq!((all.transport, all.networks.len()), (Transport::Any, 0));
    let tcp = all.tcp.as_ref().unwrap();
    assert_eq!(tcp.idle_timeout, Some(Duration::from_secs(7_200)), "as of the first destination");
    assert!(tcp.origin.starts_with("case.yaml:"), "{}", tcp.origin);
}

#[test]
fn server_names_are_passed_through_as_far_as_the_gateway_has_them() {
    let chains = chains(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  servers:
  - { port: { number: 443, protocol: TLS, name: tls }, hosts: ['*.example'], tls: { mode: PASSTHROUGH } }
  - { port: { number: 80, protocol: HTTP, name: http }, hosts: [db.test] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: all }
spec:
  hosts: [db.example, api.example, db.test]
  gateways: [edge]
  tls:
  - { match: [{ port: 443, sniHosts: [db.example] }], route: [{ destination: { host: db.example, port: { number: 5432 } } }] }
  - match: [{ sniHosts: [api.example, db.test] }, { port: 1, sniHosts: [api.example] }]
    route: [{ destination: { host: api.example, port: { number: 443 } } }]
  - { match: [{ sniHosts: [db.example] }], route: [{ destination: { host: old.example, port: { number: 443 } } }] }
",
    );
    let [db, api] = chains.as_slice() else { panic!("{chains:?}") };
    assert_eq!((names(db), names(api)), (vec!["db.example".to_owned()], vec!["api.example".to_owned()]));
    assert_eq!(clusters(db), [("outbound|5432||db.example".to_owned(), 0)]);
    assert!(chains.iter().all(|chain| chain.tls.is_none() && chain.transport == Transport::Tls));
    assert_ne!(db.name, api.name, "clients stay with theirs when others change");
}

#[test]
fn tls_that_ends_here_has_plain_bytes_behind_it() {
    let chains = chains(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  servers:
  - port: { number: 443, protocol: TLS, name: tls }
    hosts: [db.example]
    tls: { mode: SIMPLE, serverCertificate: /a.pem, privateKey: /a.key }
  - { port: { number: 443, protocol: HTTPS, name: api }, hosts: [api.example], tls: { mode: PASSTHROUGH } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: all }
spec:
  hosts: [db.example, api.example]
  gateways: [edge]
  tcp: [{ route: [{ destination: { host: db.example, port: { number: 5432 } } }] }]
  tls: [{ match: [{ sniHosts: [api.example] }], route: [{ destination: { host: api.example, port: { number: 443 } } }] }]
",
    );
    let [db, api] = chains.as_slice() else { panic!("{chains:?}") };
    let tls = db.tls.as_ref().unwrap();
    assert_eq!((tls.alpn.len(), names(db)), (0, vec!["db.example".to_owned()]));
    assert!(db.tcp.is_some() && api.tls.is_none() && api.tcp.is_some());
}

#[test]
fn a_server_without_routes_is_told_and_nobody_listens() {
    let (config, told) = planned(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec: { servers: [{ port: { number: 6000, protocol: MONGO, name: m }, hosts: ['*'] }] }
",
        &Surroundings::default(),
    );
    assert!(!config.listeners.iter().any(|listener| listener.name.starts_with("gateway/")));
    assert_eq!(told, ["no route leads on from this server: nobody listens for it"]);
}

#[test]
fn what_workloads_call_through_tunnels_is_shared_by_the_same_routes() {
    let surroundings = Surroundings { clients: vec![Client::unnamed()], ..Surroundings::default() };
    let (config, _) = planned(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: db }
spec:
  hosts: [db.example]
  tcp:
  - { match: [{ port: 5432, sourceLabels: { app: other } }], route: [{ destination: { host: api.example, port: { number: 443 } } }] }
  - match: [{ port: 5432 }]
    route:
    - { destination: { host: db.example, port: { number: 5432 } }, weight: 3 }
    - { destination: { host: old.example, port: { number: 5432 } }, weight: 1 }
  tls:
  - { match: [{ port: 443, sniHosts: [db.example] }], route: [{ destination: { host: old.example, port: { number: 443 } } }] }
",
        &surroundings,
    );
    let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
    let leads = |domain: &str| {
        let host =
            hosts.iter().find(|host| host.domains.iter().any(|one| one.to_string() == domain)).unwrap();
        let Action::Forward(forward) = &host.rules[0].action else { panic!("{host:?}") };
        forward.clusters.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(leads("db.example:5432"), ["outbound|5432||db.example", "outbound|5432||old.example"]);
    assert_eq!(leads("db.example:443"), ["outbound|443||old.example"]);
    assert_eq!(leads("old.example:443"), ["outbound|443||old.example"]);
}

#[test]
fn a_gateway_that_passes_by_name_has_a_chain_for_each_port_and_subset_of_its_services() {
    let documents = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: cross }
spec:
  servers:
  - { port: { number: 15443, protocol: TLS, name: tls }, hosts: ['*.example'], tls: { mode: AUTO_PASSTHROUGH } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: api }
spec:
  host: api.example
  trafficPolicy: { tls: { mode: SIMPLE }, connectionPool: { tcp: { idleTimeout: 60s } } }
  subsets: [{ name: v1, labels: { version: v1 } }]
";
    // Who asks from outside is led to nobody who is outside himself.
    let (config, told) = planned(documents, &Surroundings::default());
    assert!(told[0].contains("no route leads on from this server"), "{told:?}");
    assert!(!config.listeners.iter().any(|listener| listener.address.port() == 15443));
    let mesh = SERVICES.replace("  resolution: STATIC", "  location: MESH_INTERNAL\n  resolution: STATIC");
    let planned =
        |documents: &str, surroundings: &Surroundings| planned_beside(&mesh, documents, surroundings);
    let (config, told) = planned(documents, &Surroundings::default());
    assert_eq!(told, Vec::<String>::new());
    let listener = config.listeners.iter().find(|listener| listener.address.port() == 15443).unwrap();
    let shown = |chain: &FilterChain| {
        assert_eq!((chain.transport, chain.tls.is_some()), (Transport::Tls, false));
        (names(chain).join(" "), clusters(chain)[0].0.clone())
    };
    let found: Vec<(String, String)> = listener.chains.iter().map(shown).collect();
    let asked = |port: u16, subset: &str, host: &str| format!("outbound_.{port}_.{subset}_.{host}");
    let expected = [
        asked(5432, "", "api.example"),
        asked(5432, "v1", "api.example"),
        asked(443, "", "api.example"),
        asked(443, "v1", "api.example"),
        asked(5432, "", "db.example"),
        asked(443, "", "db.example"),
        asked(5432, "", "old.example"),
        asked(443, "", "old.example"),
    ];
    assert_eq!(found, expected.map(|name| (name.clone(), name)));
    let cluster = |name: &str| config.clusters.iter().find(|cluster| cluster.name == name).unwrap();
    let of_subset = cluster("outbound_.443_.v1_.api.example");
    assert!(of_subset.endpoints.is_empty() && of_subset.tls.is_none(), "the client's own TLS goes on");
    assert_eq!(of_subset.protocol, UpstreamProtocol::Downstream, "nobody agrees on a protocol without TLS");
    assert_eq!(cluster("outbound_.443_._.api.example").endpoints.len(), 1);
    let first = listener.chains[0].tcp.as_ref().unwrap();
    assert_eq!(first.idle_timeout, Some(Duration::from_secs(60)));
    // What its hosts do not fit is not there, and where nothing is, nobody listens.
    let twice = documents.replace(
        "spec:\n  servers:\n",
        "spec:\n  servers:\n  - { port: { number: 15443, protocol: TCP, name: t }, hosts: [api.example], tls: { mode: AUTO_PASSTHROUGH } }\n",
    );
    let (config, _) = planned(&twice, &Surroundings::default());
    let listener = config.listeners.iter().find(|listener| listener.address.port() == 15443).unwrap();
    assert_eq!(listener.chains.len(), 8, "each name once");
    let bound = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v }\n\
                 spec: { hosts: [api.example], gateways: [cross], tls: [{ match: [{ sniHosts: [api.example] }], \
                 route: [{ destination: { host: api.example, port: { number: 443 } } }] }] }\n";
    let (_, told) = planned(&format!("{documents}{bound}"), &Surroundings::default());
    assert!(told.iter().any(|told| told.contains("no route is asked at the Gateway 'cross'")), "{told:?}");
    let (config, told) = planned(&documents.replace("*.example", "./*.local"), &Surroundings::default());
    assert!(told[0].contains("no route leads on from this server"), "{told:?}");
    assert!(!config.listeners.iter().any(|listener| listener.address.port() == 15443));
}
