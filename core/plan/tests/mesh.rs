//! What holds for all of a mesh, what a workload sees of it, and what becomes of calls that go anywhere else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{Client, Surroundings};
use naru_spec::{
    Action, Config, EscapedSlashes, ForwardClientCert, LogFormat, LogSink, RouteTable, UpstreamProtocol,
};
use shown::planned_for;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: own, namespace: other, annotations: {networking.istio.io/exportTo: '.'}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: shop}
spec:
  hosts: [ext.example.com]
  addresses: [240.0.0.7, 240.1.0.0/16]
  exportTo: [shop]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
";
const RANGE: &str =
    "warning[not-yet] spec.addresses[1]: naru knows services by single addresses: a range has no effect";

fn surroundings(namespace: &str, labels: &[(&str, &str)]) -> Surroundings {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let client =
        Client { namespace: namespace.to_owned(), name: "w".to_owned(), labels, ..Client::unnamed() };
    Surroundings { clients: vec![client], ..Surroundings::default() }
}

fn planned(documents: &str, namespace: &str) -> (Config, Vec<String>) {
    planned_for(&format!("{SERVICES}---\n{documents}"), &surroundings(namespace, &[("app", "w")]))
}

fn table(config: &Config) -> &RouteTable {
    let mut listeners = config.listeners.iter();
    &listeners.find(|listener| listener.name.starts_with("outbound/")).unwrap().chains[0].http.routes
}

/// The names of the hosts that a caller knows, with their ports.
fn known(config: &Config) -> Vec<String> {
    let hosts = table(config).virtual_hosts.iter();
    hosts.map(|host| host.name.replace(".svc.cluster.local", "")).collect()
}

fn others(config: &Config) -> &Action {
    &table(config).virtual_hosts.iter().find(|host| host.name == "addresses").unwrap().rules[0].action
}

fn sidecar(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n"
    )
}

#[test]
fn who_sees_a_service_is_said_by_its_own_document() {
    let (config, told) = planned("", "shop");
    assert_eq!(told, [RANGE]);
    assert_eq!(known(&config), ["a.shop:80", "a.shop:81", "b.other:80", "ext.example.com:80", "addresses"]);
    let (config, _) = planned("", "other");
    assert_eq!(known(&config), ["a.shop:80", "a.shop:81", "b.other:80", "own.other:80", "addresses"]);
}

#[test]
fn two_namespaces_may_have_a_service_of_one_host_each_for_itself() {
    let entry = |namespace: &str, address: &str, exports: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e, namespace: {namespace}}}
spec:
  hosts: [twice.test]
  exportTo: ['{exports}']
  ports: [{{number: 80, name: http}}]
  resolution: STATIC
  endpoints: [{{address: {address}}}]
---
"
        )
    };
    let both = entry("shop", "10.0.0.1", ".") + &entry("other", "10.0.0.2", ".");
    for (namespace, address) in [("shop", "10.0.0.1:80"), ("other", "10.0.0.2:80")] {
        let (config, told) = planned(&both, namespace);
        assert_eq!(told, [RANGE]);
        let cluster = config.clusters.iter().find(|cluster| cluster.name.ends_with("twice.test")).unwrap();
        assert_eq!(cluster.endpoints[0].address.to_string(), address, "{namespace}");
    }
    let (_, told) = planned(&(entry("shop", "10.0.0.1", ".") + &entry("other", "10.0.0.2", "*")), "shop");
    assert!(told.iter().any(|line| line.contains("the service twice.test is defined twice")), "{told:?}");
}

#[test]
fn a_service_is_called_by_its_addresses_too() {
    let (config, _) = planned("", "shop");
    let of = |name: &str| {
        let host = table(&config).virtual_hosts.iter().find(|host| host.name.starts_with(name)).unwrap();
        host.domains.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(of("ext.").contains(&"240.0.0.7".to_owned()) && of("ext.").contains(&"240.0.0.7:80".to_owned()));
    assert!(of("a.shop").contains(&"10.96.0.10:80".to_owned()));
}

#[test]
fn the_closest_sidecar_says_what_a_workload_sees() {
    let of_root = sidecar("root", "istio-system", "{egress: [{hosts: ['*/b.other.svc.cluster.local']}]}");
    let of_namespace = sidecar("whole", "shop", "{egress: [{hosts: ['./*']}]}");
    let of_workload = sidecar(
        "w",
        "shop",
        "{workloadSelector: {labels: {app: w}}, egress: [{port: {number: 81, protocol: HTTP}, hosts: ['*/*']}]}",
    );
    let sees = |documents: &str| {
        let (config, told) = planned(documents, "shop");
        assert_eq!(told, [RANGE], "{documents}");
        let mut known = known(&config);
        known.pop();
        known
    };
    assert_eq!(sees(&of_root), ["b.other:80"]);
    assert_eq!(sees(&format!("{of_root}{of_namespace}")), ["a.shop:80", "a.shop:81", "ext.example.com:80"]);
    assert_eq!(sees(&format!("{of_workload}{of_namespace}{of_root}")), ["a.shop:81"]);
    assert_eq!(sees(&sidecar("none", "shop", "{egress: [{hosts: ['~/*']}]}")), [""; 0]);
    assert_eq!(sees(&sidecar("but", "shop", "{egress: [{hosts: ['*/*', '~other/*']}]}")).len(), 3);
}

#[test]
fn calls_to_nobody_go_where_they_say_through_a_way_out_or_nowhere() {
    let (config, _) = planned("", "shop");
    let Action::Forward(forward) = others(&config) else { panic!() };
    assert_eq!(shown::clusters(&forward.clusters), "PassthroughCluster");
    let blocked = |action: &Action| matches!(action, Action::Direct(direct) if direct.status.as_u16() == 502);
    let mesh = "apiVersion: naru.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
";
    let (config, told) = planned(mesh, "shop");
    assert_eq!(told, [RANGE]);
    assert!(blocked(others(&config)));
    let allowed = sidecar("s", "shop", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}");
    let (config, _) = planned(&format!("{mesh}{allowed}"), "shop");
    assert!(!blocked(others(&config)), "the Sidecar's own goes first");
    // As protobuf has it, the first of the enum is what nothing said means.
    let (config, _) = planned(&sidecar("s", "shop", "{outboundTrafficPolicy: {}}"), "shop");
    assert!(blocked(others(&config)));
    let proxy = "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: b.other.svc.cluster.local, port: {number: 80}}}}";
    let (config, told) = planned(&sidecar("s", "shop", proxy), "shop");
    assert_eq!(told, [RANGE]);
    let Action::Forward(forward) = others(&config) else { panic!() };
    assert_eq!(shown::clusters(&forward.clusters), "b.other:80");
}

#[test]
fn two_sidecars_for_the_same_workloads_are_told_with_both_places() {
    let two = sidecar("one", "shop", "{}") + &sidecar("two", "shop", "{}");
    let (_, told) = planned(&two, "shop");
    assert_eq!(
        told,
        [RANGE, "error[conflict] spec: two Sidecars are for all of a namespace, and the first has it"]
    );
    let unused = sidecar("s", "shop", "{egress: [{bind: 127.0.0.1, hosts: [a, ./nobody]}]}");
    let (_, told) = planned(&unused, "shop");
    assert_eq!(
        told[1..],
        [
            "warning[not-yet] spec.egress[0].bind: naru does not act on 'bind': calls come in at the workload's own listener",
            "error[invalid-value] spec.egress[0].hosts[0]: 'a' names no namespace",
            "warning[unknown-host] spec.egress[0].hosts[1]: no Service and no ServiceEntry fits './nobody'",
        ]
    );
}

/// As Istio has it in a cluster.
const OPERATOR: &str = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec:
  meshConfig:
    accessLogFile: /dev/stdout
    accessLogEncoding: JSON
    pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
    defaultHttpRetryPolicy: {attempts: 5, retryOn: connect-failure}
    connectTimeout: 3s
    tcpKeepalive: {time: 60s}
    h2UpgradePolicy: UPGRADE
    defaultVirtualServiceExportTo: ['.']
    defaultConfig:
      drainDuration: 9s
      concurrency: 2
      gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: SANITIZE_SET}
    trustDomain: cluster.local
";

#[test]
fn what_is_said_of_the_mesh_holds_where_nobody_says_otherwise() {
    let documents = format!(
        "{OPERATOR}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: other}}
spec: {{hosts: [a.shop.svc.cluster.local], http: [{{route: [{{destination: {{host: b, port: {{number: 80}}}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gate, namespace: shop}}
spec: {{servers: [{{port: {{number: 8080, protocol: HTTP}}, hosts: ['*']}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: gate, namespace: shop}}
spec: {{hosts: ['*'], gateways: [gate], http: [{{route: [{{destination: {{host: a, port: {{number: 80}}}}}}]}}]}}
"
    );
    let (config, told) = planned(&documents, "shop");
    let told: Vec<&str> = told.iter().map(String::as_str).filter(|line| *line != RANGE).collect();
    assert_eq!(
        told,
        [
            "warning[not-yet] spec.meshConfig.defaultConfig.concurrency: naru does not act on 'concurrency' of proxies",
            "note[elsewhere] spec.hosts: requests for 'a.shop.svc.cluster.local' all go to other hosts",
        ]
    );
    let gateway =
        &config.listeners.iter().find(|listener| listener.name.starts_with("gateway/")).unwrap().chains[0]
            .http;
    let outbound =
        &config.listeners.iter().find(|listener| listener.name.starts_with("outbound/")).unwrap().chains[0]
            .http;
    for http in [gateway, outbound] {
        assert!(http.paths.merge_slashes && http.paths.escaped_slashes == EscapedSlashes::Forward);
        assert_eq!(http.drain_timeout.as_secs(), 9);
        let [log] = http.access_log.as_slice() else { panic!("{:?}", http.access_log) };
        assert_eq!(log.sink, LogSink::Stdout);
        assert!(matches!(&log.format, LogFormat::Json(fields) if fields.len() == 24));
    }
    assert_eq!((gateway.xff_num_trusted_hops, outbound.xff_num_trusted_hops), (2, 0));
    assert_eq!(gateway.forward_client_cert, ForwardClientCert::SanitizeSet);
    let Action::Forward(forward) = &gateway.routes.virtual_hosts[0].rules[0].action else { panic!() };
    assert_eq!(forward.retry.as_ref().unwrap().retries_max, 5);
    let cluster = config.clusters.iter().find(|cluster| cluster.name.contains("|80||a.shop")).unwrap();
    assert_eq!(cluster.connect_timeout.as_secs(), 3);
    assert_eq!(cluster.limits.tcp_keepalive.as_ref().unwrap().time.as_secs(), 60);
    assert_eq!(cluster.protocol, UpstreamProtocol::Http2);
    // The other namespace's VirtualService is seen there only.
    let a = table(&config).virtual_hosts.iter().find(|host| host.name.starts_with("a.shop")).unwrap();
    assert_eq!(shown::rule(&a.rules[0]), "/* -> a.shop:80");
    let (config, _) = planned(&documents, "other");
    let a = table(&config).virtual_hosts.iter().find(|host| host.name.starts_with("a.shop")).unwrap();
    assert_eq!(shown::rule(&a.rules[0]), "/* -> b.other:80");
}

#[test]
fn one_thing_is_said_of_a_mesh_once() {
    let ours = "apiVersion: naru.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {connectTimeout: 1s, accessLogFile: '', accessLogFormat: '%START_TIME%'}
";
    let (config, told) = planned(ours, "shop");
    assert_eq!(told, [RANGE]);
    assert!(table(&config).virtual_hosts.len() > 1);
    let (_, told) = planned(&format!("{ours}---\n{OPERATOR}"), "shop");
    for field in ["connectTimeout", "accessLogFile"] {
        let wanted = format!("error[conflict] {field}: '{field}' of the mesh is said twice");
        assert!(told.contains(&wanted), "{told:?}");
    }
}

#[test]
fn services_have_the_policy_of_the_mesh_where_no_rule_says_otherwise() {
    let mesh = "apiVersion: naru.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  defaultTrafficPolicy:
    connectionPool: {http: {http1MaxPendingRequests: 7}}
    outlierDetection: {consecutive5xxErrors: 9}
";
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}
";
    let found = |documents: &str| {
        let (config, told) = planned(documents, "shop");
        assert_eq!(told, [RANGE]);
        let of = |name: &str| {
            let cluster = config.clusters.iter().find(|cluster| cluster.name.contains(name)).unwrap();
            let (limits, detection) = (&cluster.limits.normal, cluster.guard.outlier_detection.as_ref());
            (limits.pending_max, limits.connections_max, detection.unwrap().consecutive_5xx)
        };
        (of("|80||a.shop"), of("|80||b.other"))
    };
    let most = naru_spec::ClusterLimits::istio().normal;
    let default = (7, most.connections_max, 9);
    assert_eq!(found(mesh), (default, default));
    // A block is whole.
    let own = (most.pending_max, 5, 9);
    assert_eq!(found(&format!("{mesh}{rule}")), (own, default));
    let wrong = mesh.replace("consecutive5xxErrors: 9", "maxEjectionPercent: 101");
    let (_, told) = planned(&wrong, "shop");
    let range = "defaultTrafficPolicy.outlierDetection.maxEjectionPercent: 101 is out of range";
    assert!(told.iter().any(|line| line.contains(range)), "{told:?}");
}

#[test]
fn a_rule_of_a_third_namespace_is_for_nobody_but_its_own_callers() {
    let rule = |namespace: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r, namespace: {namespace}}}
spec: {{host: a.shop.svc.cluster.local, trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: 7s}}}}}}}}
"
        )
    };
    let seconds = |namespace: &str, client: &str| {
        let (config, _) = planned(&rule(namespace), client);
        let cluster = config.clusters.iter().find(|cluster| cluster.name.contains("|80||a.shop")).unwrap();
        cluster.connect_timeout.as_secs()
    };
    assert_eq!(seconds("other", "other"), 7, "of the caller");
    assert_eq!(seconds("shop", "other"), 7, "of the service");
    assert_eq!(seconds("istio-system", "other"), 7, "of the root");
    assert_eq!(seconds("third", "other"), 10);
}

/// IST0109, where somebody sees both.
#[test]
fn what_two_namespaces_say_of_one_host_to_themselves_is_no_conflict() {
    let of = |namespace: &str, export_to: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: {namespace}}}
spec:
  hosts: [api.example.com]
  exportTo: [{export_to}]
  http: [{{route: [{{destination: {{host: a.shop.svc.cluster.local, port: {{number: 80}}}}}}]}}]
"
        )
    };
    let conflicts = |one: &str, other: &str| {
        let (_, told) = planned(&format!("{}{}", of("one", one), of("two", other)), "shop");
        told.iter().filter(|line| line.contains("two VirtualServices speak of")).count()
    };
    assert_eq!(conflicts("'.'", "'.'"), 0);
    assert_eq!(conflicts("'.'", "three"), 0);
    assert_eq!(conflicts("'~'", "'*'"), 0);
    assert_eq!(conflicts("'.'", "one"), 1);
    assert_eq!(conflicts("'*'", "'.'"), 1);
    assert_eq!(conflicts("'*'", "'*'"), 1);
}

/// A VirtualService of whose rules the first is called what the document is.
fn speaker(name: &str, hosts: &str, more: &str) -> String {
    let (name, namespace) = name.split_once('.').unwrap();
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}{more}
  hosts: [{hosts}]
  http: [{{route: [{{destination: {{host: b.other.svc.cluster.local}}}}]}}]
"
    )
}

/// By host, who is asked.
fn asked(config: &Config) -> Vec<String> {
    let hosts = table(config).virtual_hosts.iter().filter(|host| host.name.ends_with(":80"));
    let named = hosts.map(|host| {
        let rule = host.rules[0].name.split('/').next().unwrap();
        format!("{} {rule}", host.name.replace(".svc.cluster.local:80", "").replace(":80", ""))
    });
    named.collect()
}

#[test]
fn of_two_that_speak_of_one_host_the_older_is_asked_and_the_other_for_its_other_hosts() {
    let documents = [
        speaker("a.shop", "c.test, a, d.test", "}\nspec:"),
        speaker(
            "z.shop",
            "a.shop.svc.cluster.local, c.test, e.test",
            ", creationTimestamp: '2026-01-01T00:00:00Z'}\nspec:",
        ),
        speaker("b.shop", "C.test", "}\nspec:"),
    ];
    let (config, told) = planned(&documents.concat(), "shop");
    let expected = [
        "a.shop z.shop",
        "b.other b.other.svc.cluster.local:80",
        "ext.example.com ext.example.com:80",
        "c.test z.shop",
        "d.test a.shop",
        "e.test z.shop",
    ];
    assert_eq!(asked(&config), expected);
    let goes_first = |host: &str, at: usize| {
        format!(
            "warning[conflict] spec.hosts[{at}]: two VirtualServices speak of the host '{host}': the other goes first, \
             and this one is asked only where that has no route for a caller and a port"
        )
    };
    let told: Vec<&String> = told.iter().filter(|line| line.contains("conflict")).collect();
    assert_eq!(told, [&goes_first("c.test", 0), &goes_first("a", 1), &goes_first("C.test", 0)]);
    // Whatever the order of the documents.
    let turned: String = documents.iter().rev().map(String::as_str).collect();
    assert_eq!(planned(&turned, "shop").0.clusters, config.clusters);
    assert_eq!(asked(&planned(&turned, "shop").0), expected);
}

#[test]
fn what_a_namespace_is_told_by_itself_goes_before_what_it_is_named_for_and_that_before_what_all_are_told() {
    let documents = [
        speaker(
            "all.one",
            "a.shop.svc.cluster.local, x.test",
            ", creationTimestamp: '2026-01-01T00:00:00Z'}\nspec:",
        ),
        speaker("named.two", "a.shop.svc.cluster.local, x.test", "}\nspec:\n  exportTo: [shop, three]"),
        speaker("own.shop", "a, x.test", "}\nspec:\n  exportTo: ['.']"),
    ];
    let by = |namespace: &str| -> Vec<String> {
        let (config, _) = planned(&documents.concat(), namespace);
        let asked = asked(&config).into_iter();
        asked.filter(|line| line.starts_with("a.shop ") || line.starts_with("x.test ")).collect()
    };
    assert_eq!(by("shop"), ["a.shop own.shop", "x.test own.shop"]);
    assert_eq!(by("three"), ["a.shop named.two", "x.test named.two"]);
    assert_eq!(by("two"), ["a.shop all.one", "x.test all.one"]);
    let (_, told) = planned(&documents.concat(), "shop");
    let told: Vec<&String> =
        told.iter().filter(|line| line.contains("to workloads of namespace 'shop'")).collect();
    assert_eq!(told.len(), 4, "of the one for all and of the one that names it, for each host: {told:?}");
}

#[test]
fn where_none_of_its_routes_is_for_a_caller_and_a_port_it_leaves_a_host_as_it_is() {
    let of = |name: &str, host: &str, at: &str, more: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{host}]
  http: [{{match: [{{{at}}}], route: [{{destination: {{host: b.other.svc.cluster.local}}}}]}}]{more}
"
        )
    };
    let rules = |documents: &str, host: &str| -> Option<Vec<String>> {
        let (config, _) = planned(documents, "shop");
        let host = table(&config).virtual_hosts.iter().find(|found| found.name == host)?.clone();
        Some(host.rules.iter().map(|rule| rule.name.clone()).collect())
    };
    let check = |documents: &[String], expected: &[(&str, &str)]| {
        for (host, rule) in expected {
            let found = rules(&documents.concat(), host);
            assert_eq!(
                found,
                (!rule.is_empty()).then(|| vec![(*rule).to_owned()]),
                "{host} of {documents:#?}"
            );
        }
    };
    let (http, admin) = ("a.shop.svc.cluster.local:80", "a.shop.svc.cluster.local:81");
    // Its caller is of another app, or it is for another port.
    check(&[of("v", "a", "sourceLabels: {app: other}", "")], &[(http, http), (admin, admin)]);
    check(&[of("v", "a", "port: 81", "")], &[(http, http), (admin, "v.shop/http[0]")]);
    check(&[of("v", "c.test", "port: 81", "")], &[("c.test:80", ""), ("c.test:81", "v.shop/http[0]")]);
    // The next one of the same host is asked, and none that is further away.
    let two = [of("v", "a", "port: 81", ""), of("w", "a", "uri: {prefix: /}", "")];
    check(&two, &[(http, "w.shop/http[0]"), (admin, "v.shop/http[0]")]);
    let wide = [of("v", "a", "port: 81", ""), of("w", "'*.shop.svc.cluster.local'", "uri: {prefix: /}", "")];
    check(&wide, &[(http, http), (admin, "v.shop/http[0]")]);
    // One that speaks of bytes only says nothing of requests.
    let bytes = "\n  tcp: [{route: [{destination: {host: b.other.svc.cluster.local}}]}]";
    let bytes = of("v", "a", "port: 9", bytes);
    check(&[bytes], &[(http, http)]);
}
