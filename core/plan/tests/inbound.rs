//! What comes in to a workload: to its processes, or to the proxy that stands before it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use std::time::Duration;

use naru_plan::{Client, Instance, InstancePort, Surroundings};
use naru_spec::{Config, Listener, UpstreamProtocol};
use shown::planned_for;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: web}, {name: http-b, port: 81, targetPort: 9000}, {name: http-c, port: 82, targetPort: 7070}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [shop.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9000}]
  workloadSelector: {labels: {app: shop}}
";

fn sidecar(spec: &str) -> String {
    format!(
        "{SERVICE}---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n\
         metadata: {{name: shop, namespace: shop}}\nspec: {spec}\n"
    )
}

fn labels() -> Vec<(String, String)> {
    vec![("app".to_owned(), "shop".to_owned())]
}

/// A process that names two ports: where it was told to listen, and where it says.
fn process(ports: &[(Option<&str>, u16, u16)]) -> Surroundings {
    let ports = ports.iter().map(|&(name, container_port, port)| InstancePort {
        name: name.map(str::to_owned),
        container_port,
        port,
    });
    let instance = Instance {
        namespace: "shop".to_owned(),
        labels: labels(),
        address: [127, 0, 0, 1].into(),
        ports: ports.collect(),
    };
    Surroundings { instances: vec![instance], ..Surroundings::default() }
}

/// Where each port of the service is reached.
fn reached(documents: &str, surroundings: &Surroundings) -> Vec<String> {
    let (config, told) = planned_for(documents, surroundings);
    assert_eq!(told, [""; 0]);
    let mut found = Vec::new();
    for name in [
        "80||shop.shop.svc.cluster.local",
        "81||shop.shop.svc.cluster.local",
        "82||shop.shop.svc.cluster.local",
        "80||shop.test",
    ] {
        let cluster = config.clusters.iter().find(|cluster| cluster.name == format!("outbound|{name}"));
        let endpoints = &cluster.unwrap_or_else(|| panic!("no {name}")).endpoints;
        let all: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        found.push(all.join(" "));
    }
    found
}

#[test]
fn processes_without_a_proxy_before_them_are_reached_where_it_would_lead() {
    let usual = process(&[(Some("web"), 8080, 20_001), (None, 9000, 9000)]);
    let plain = ["127.0.0.1:20001", "127.0.0.1:9000", "", "127.0.0.1:9000"];
    assert_eq!(reached(SERVICE, &usual), plain);
    let ingress = |port: u16, to: &str| {
        sidecar(&format!(
            "{{workloadSelector: {{labels: {{app: shop}}}}, \
             ingress: [{{port: {{number: {port}, name: http, protocol: HTTP}}, defaultEndpoint: '{to}'}}]}}"
        ))
    };
    // A port that the process names is where that really is; another one is where it says.
    let to_web = ["127.0.0.1:20001", "127.0.0.1:20001", "", "127.0.0.1:20001"];
    assert_eq!(reached(&ingress(9000, "127.0.0.1:8080"), &usual), to_web);
    assert_eq!(reached(&ingress(9000, "0.0.0.0:8080"), &usual), to_web);
    let to_other = ["127.0.0.1:7000", "127.0.0.1:9000", "", "127.0.0.1:9000"];
    assert_eq!(reached(&ingress(8080, "[::1]:7000"), &usual), to_other);
    // One that nobody has named is one more.
    let more = ["127.0.0.1:20001", "127.0.0.1:9000", "127.0.0.1:20001", "127.0.0.1:9000"];
    assert_eq!(reached(&ingress(7070, "127.0.0.1:8080"), &usual), more);
    let to_socket = ["127.0.0.1:20001", "/run/shop.sock", "", "/run/shop.sock"];
    assert_eq!(reached(&ingress(9000, "unix:///run/shop.sock"), &usual), to_socket);
    // A process that names no ports has one, but for what is led to a socket.
    let unnamed = process(&[(None, 0, 20_001)]);
    let same = ["", "127.0.0.1:20001", "127.0.0.1:20001", "127.0.0.1:20001"];
    assert_eq!(reached(&ingress(9000, "127.0.0.1:8080"), &unnamed), same);
    let one = ["", "/run/shop.sock", "127.0.0.1:20001", "/run/shop.sock"];
    assert_eq!(reached(&ingress(9000, "unix:///run/shop.sock"), &unnamed), one);
    // Of another workload, or without an endpoint, it says nothing.
    let other = ingress(9000, "127.0.0.1:8080")
        .replace("labels: {app: shop}}, ingress", "labels: {app: x}}, ingress");
    assert_eq!(reached(&other, &usual), plain);
    let without = ingress(9000, "X").replace(", defaultEndpoint: 'X'", "");
    assert_eq!(reached(&without, &usual), plain);
}

fn before(documents: &str) -> (Config, Vec<String>) {
    let client = Client {
        name: "shop-v1".to_owned(),
        namespace: "shop".to_owned(),
        labels: labels(),
        inbound: Some([10, 0, 0, 5].into()),
        ..Client::unnamed()
    };
    planned_for(documents, &Surroundings { clients: vec![client], ..Surroundings::default() })
}

fn inbound(config: &Config) -> Vec<&Listener> {
    config.listeners.iter().filter(|listener| listener.name.starts_with("inbound/")).collect()
}

#[test]
fn a_proxy_before_a_workload_listens_at_each_port_and_leads_to_what_is_behind() {
    let documents = sidecar(
        "
  inboundConnectionPool: {tcp: {maxConnections: 7}}
  ingress:
  - {port: {number: 9080, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:9080'}
  - {port: {number: 9081, name: grpc, protocol: GRPC}, bind: 10.0.0.6, defaultEndpoint: '0.0.0.0:8081'}
  - {port: {number: 9082, name: tcp, protocol: TCP}, defaultEndpoint: 'unix:///run/s', connectionPool: {tcp: {connectTimeout: 3s, idleTimeout: 9s}}}
  - {port: {number: 9083, name: http, protocol: HTTP}, defaultEndpoint: '0.0.0.0:9083'}
  - {port: {number: 9084, name: http, protocol: HTTP}}",
    );
    let (config, told) = before(&documents);
    let acts = "acts in a proxy of the workload's own (naru control)";
    assert_eq!(
        told,
        [
            format!("note[not-yet] spec.inboundConnectionPool: 'inboundConnectionPool' {acts}"),
            format!("note[not-yet] spec.ingress[1].bind: 'bind' {acts}"),
            format!("note[not-yet] spec.ingress[2].connectionPool: 'connectionPool' {acts}"),
        ]
    );
    let listeners = inbound(&config);
    let shown: Vec<String> =
        listeners.iter().map(|listener| format!("{} {}", listener.name, listener.address)).collect();
    // Who would call himself is left out, and so is a port with nothing else behind it.
    assert_eq!(
        shown,
        [
            "inbound/shop-v1.shop/9080 10.0.0.5:9080",
            "inbound/shop-v1.shop/9081 10.0.0.6:9081",
            "inbound/shop-v1.shop/9082 10.0.0.5:9082",
        ]
    );
    let cluster = |port: u16| {
        let name = format!("inbound|{port}||");
        config.clusters.iter().find(|cluster| cluster.name == name).unwrap()
    };
    assert_eq!(cluster(9080).endpoints[0].address.to_string(), "127.0.0.1:9080");
    assert_eq!(cluster(9080).limits.normal.connections_max, 7);
    assert_eq!(cluster(9081).endpoints[0].address.to_string(), "10.0.0.5:8081");
    assert_eq!(cluster(9081).protocol, UpstreamProtocol::Http2);
    let socket = cluster(9082);
    assert_eq!(socket.endpoints[0].address.to_string(), "/run/s");
    assert_eq!(socket.connect_timeout, Duration::from_secs(3));
    assert_eq!(socket.limits.normal.connections_max, u32::MAX, "its own pool goes before that of all");
    let tcp = listeners[2].chains[0].tcp.as_ref().unwrap();
    assert_eq!((tcp.idle_timeout, tcp.origin.as_str()), (Some(Duration::from_secs(9)), "case.yaml:26:5"));
    let table = &listeners[0].chains[0].http.routes;
    assert_eq!(table.virtual_hosts[0].name, "inbound|http|9080");
    assert_eq!(table.virtual_hosts[0].rules[0].origin, "case.yaml:24:5");
    // Nobody stands before the processes of `naru up`.
    let (config, _) = planned_for(&documents, &Surroundings::default());
    assert!(inbound(&config).is_empty());
    assert!(!config.clusters.iter().any(|cluster| cluster.name.starts_with("inbound")));
}

#[test]
fn what_cannot_come_in_is_told() {
    let documents = sidecar(
        "
  ingress:
  - {defaultEndpoint: '127.0.0.1:1'}
  - {port: {number: 0, protocol: HTTP}}
  - {port: {number: 9080}}
  - {port: {number: 9081, protocol: SPDY}}
  - {port: {number: 9082, protocol: HTTP}, defaultEndpoint: '10.0.0.1:80'}
  - {port: {number: 9083, protocol: HTTP}, bind: 'unix:///x'}
  - {port: {number: 9084, protocol: HTTP}, bind: 0.0.0.0, defaultEndpoint: '127.0.0.1:9084'}
  - {port: {number: 9085, protocol: HTTP}, captureMode: IPTABLES}
  - {port: {number: 9085, protocol: TCP}}
  - {port: {number: 9086, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:1', tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 9087, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:1', tls: {mode: SIMPLE, credentialName: none}}
  - {port: {number: 9088, protocol: HTTP, targetPort: 1}, captureMode: FOO, connectionPool: {http: {maxRetries: 3}}}
  - {port: {number: 9089, protocol: HTTP}, tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k, insecureSkipVerify: true, httpsRedirect: true}}
  - {port: {number: 9090, protocol: HTTP}, bind: 127.0.0.1, defaultEndpoint: '127.0.0.1:9091'}
  - {port: {number: 9091, protocol: HTTP}, bind: 0.0.0.0, defaultEndpoint: '127.0.0.1:9090'}",
    );
    let (config, told) = before(&documents);
    let found: Vec<&str> = told.iter().filter(|line| !line.starts_with("note")).map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "error[missing-field] spec.ingress[0].port: what comes in, comes in at a port",
            "error[invalid-value] spec.ingress[1].port.number: 0 is not a port",
            "error[unknown-value] spec.ingress[3].port.protocol: 'SPDY' is not a protocol",
            "error[invalid-value] spec.ingress[4].defaultEndpoint: '10.0.0.1:80' is nothing behind a workload's own proxy",
            "error[invalid-value] spec.ingress[5].bind: 'unix:///x' is no address to listen at",
            "warning[no-effect] spec.ingress[6].defaultEndpoint: a proxy at 0.0.0.0:9084 would call itself: it does not listen there",
            "warning[not-yet] spec.ingress[7].captureMode: naru leads no connection away: callers come to the listener itself",
            "error[conflict] spec.ingress[8].port: port 9085 comes in twice",
            "error[invalid-value] spec.ingress[9].tls.mode: what comes in to a workload has TLS of mode SIMPLE or MUTUAL",
            "error[missing-field] spec.ingress[10].tls: the server has no certificate",
            "error[unknown-reference] spec.ingress[10].tls.credentialName: there is no Secret 'none'",
            "warning[no-effect] spec.ingress[11].port.targetPort: 'targetPort' has no effect on a Sidecar, as in Istio",
            "error[unknown-value] spec.ingress[11].captureMode: 'FOO' is no way to take connections",
            "warning[no-effect] spec.ingress[11].connectionPool.http.maxRetries: 'maxRetries' has no effect: what comes in is not repeated",
            "error[conflicting-fields] spec.ingress[12].tls: a port of HTTP has no TLS",
            "warning[no-effect] spec.ingress[12].tls.insecureSkipVerify: 'insecureSkipVerify' has no effect at a workload",
            "warning[no-effect] spec.ingress[12].tls.httpsRedirect: 'httpsRedirect' has no effect at a workload",
        ]
    );
    // What has no TLS that it was to have listens not at all, nor do two that would call each other.
    assert!(inbound(&config).is_empty(), "{:?}", inbound(&config));
    let note = "note[missing-field] spec.ingress[2].port: nothing says what is spoken at this port: it is taken for HTTP";
    assert!(told.iter().any(|line| line == note), "{told:?}");
    let (_, told) = before(&sidecar("{inboundConnectionPool: {tcp: {maxConnections: 7}}}"));
    assert_eq!(
        told,
        [
            "warning[no-effect] spec.inboundConnectionPool: 'inboundConnectionPool' has no effect without ingress: no connection is led away"
        ]
    );
}

/// A gateway, so that policies are for somebody, and a Sidecar of HTTP and of bytes.
fn guarded(more: &str) -> String {
    let ingress = sidecar(
        "
  ingress:
  - {port: {number: 9080, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}
  - {port: {number: 9081, protocol: TCP}, defaultEndpoint: '127.0.0.1:8081'}",
    );
    format!(
        "{ingress}---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: shop}}\n\
         spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n{more}"
    )
}

#[test]
fn policies_of_the_namespace_are_asked_where_a_workload_has_a_proxy_of_its_own() {
    let policy = |namespace: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p, namespace: {namespace}}}\nspec: {{}}\n"
        )
    };
    for (namespace, is_asked) in [("shop", true), ("istio-system", true), ("other", false)] {
        let (config, _) = before(&guarded(&policy(namespace)));
        let listeners = inbound(&config);
        let asked: Vec<usize> =
            listeners.iter().map(|listener| listener.chains[0].http.gate.checks.len()).collect();
        // Of bytes nobody could ask: where somebody has to, they do not come in.
        assert_eq!(asked, if is_asked { vec![1] } else { vec![0, 0] }, "{namespace}");
    }
}

#[test]
fn the_pool_of_the_service_holds_where_the_sidecar_says_none() {
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: shop}
spec:
  host: shop
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 3}}
    portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 4}}}]
";
    let own = sidecar(
        "
  ingress:
  - {port: {number: 9000, protocol: HTTP}, defaultEndpoint: '127.0.0.1:1'}
  - {port: {number: 7070, protocol: HTTP}, defaultEndpoint: '127.0.0.1:2'}
  - {port: {number: 7071, protocol: HTTP}, defaultEndpoint: '127.0.0.1:3'}",
    );
    let (config, told) = before(&format!("{own}{rule}"));
    assert_eq!(told, [""; 0]);
    let most = |port: u16| {
        let name = format!("inbound|{port}||");
        config.clusters.iter().find(|cluster| cluster.name == name).unwrap().limits.normal.connections_max
    };
    assert_eq!((most(9000), most(7070), most(7071)), (4, 3, u32::MAX));
}
