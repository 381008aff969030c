//! What Istio's words mean where two documents, two namespaces or two levels of one document meet. As istiod reads them:
//! `virtualservice.go`, `push_context.go`, `route.go`, `validation.go`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{Client, Surroundings};
use naru_spec::{
    Action, BalancingPolicy, Cluster, Config, Forward, HostRewrite, PathMatch, PathRewrite, Rule,
};
use shown::{gateways, planned, planned_for};

fn service(name: &str, namespace: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{more}ports: [{{name: http, port: 80}}]}}
---
"
    )
}

fn istio(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
---
"
    )
}

/// The rules of the virtual host that begins so.
fn rules<'a>(config: &'a Config, name: &str) -> &'a [Rule] {
    let chains = config.listeners.iter().flat_map(|listener| &listener.chains);
    let mut hosts = chains.flat_map(|chain| &chain.http.routes.virtual_hosts);
    &hosts.find(|host| host.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}")).rules
}

fn forward(rule: &Rule) -> &Forward {
    match &rule.action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn shown_rules(config: &Config, name: &str) -> Vec<String> {
    rules(config, name).iter().map(shown::rule).collect()
}

fn cluster<'a>(config: &'a Config, name: &str) -> &'a Cluster {
    config.clusters.iter().find(|cluster| cluster.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn called_by(namespace: &str, labels: &[(&str, &str)]) -> Surroundings {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let client =
        Client { namespace: namespace.to_owned(), name: "w".to_owned(), labels, ..Client::unnamed() };
    Surroundings { clients: vec![client], ..Surroundings::default() }
}

#[test]
fn a_delegate_speaks_of_the_services_of_its_own_namespace() {
    let documents = service("shop", "front", "")
        + &service("cart", "back", "")
        + &service("copy", "back", "")
        + &istio(
            "VirtualService",
            "root",
            "front",
            "hosts: [shop], http: [{name: r, match: [{name: m, uri: {prefix: /a}}], \
             delegate: {name: leaf, namespace: back}}]",
        )
        + &istio(
            "VirtualService",
            "leaf",
            "back",
            "http: [{name: l, match: [{name: n, uri: {prefix: /a/b}}], mirror: {host: copy}, \
             route: [{destination: {host: cart}}]}]",
        );
    let (config, told) = planned_for(&documents, &called_by("front", &[]));
    assert_eq!(told, [""; 0]);
    let rules = rules(&config, "shop.front");
    assert_eq!(shown::rule(&rules[0]), "/a/b* -> cart.back:80");
    assert_eq!(rules[0].name, "r-l.m-n");
    assert_eq!(forward(&rules[0]).mirrors[0].cluster, "outbound|80||copy.back.svc.cluster.local");
    // One that is for its own namespace only is nobody else's.
    let (_, told) = planned(&documents.replace("spec: {http:", "spec: {exportTo: ['.'], http:"));
    assert_eq!(
        told,
        [
            "error[unknown-reference] spec.http[0].delegate.name: VirtualService 'leaf' in back is not exported to front"
        ]
    );
}

#[test]
fn what_a_delegate_matches_is_within_what_its_root_does() {
    let planned_with = |root: &str, leaf: &str| {
        let documents = service("s", "default", "")
            + &istio(
                "VirtualService",
                "root",
                "default",
                &format!("hosts: [s], http: [{{match: [{root}], delegate: {{name: leaf}}}}]"),
            )
            + &istio(
                "VirtualService",
                "leaf",
                "default",
                &format!("http: [{{match: [{leaf}], route: [{{destination: {{host: s}}}}]}}]"),
            );
        planned(&documents)
    };
    for (root, leaf) in [
        // Each block of a leaf needs one of the root's.
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}, {uri: {prefix: /c}}"),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}, ignoreUriCase: true}"),
        ("{uri: {prefix: /a}, gateways: [mesh]}", "{gateways: [other]}"),
        ("{sourceLabels: {app: a}}", "{sourceLabels: {app: b}}"),
        ("{uri: {regex: /a.*}}", "{uri: {prefix: /a}}"),
        ("{uri: {exact: /a}}", "{uri: {prefix: /a}}"),
        ("{headers: {x: {exact: a}}}", "{headers: {x: {exact: b}}}"),
        ("{port: 80}", "{port: 81}"),
    ] {
        let (_, told) = planned_with(root, leaf);
        let message = "error[conflict] spec.http: no request that the delegating route takes can match this";
        assert!(told.contains(&message.to_owned()), "{root} {leaf}: {told:?}");
    }
    for (root, leaf, becomes) in [
        ("{uri: {prefix: /a}}, {uri: {prefix: /b}}", "{uri: {exact: /b/c}}", "=/b/c -> s.default:80"),
        ("{uri: {regex: /a.*}}", "{method: {exact: GET}}", "~/a.* GET -> s.default:80"),
        ("{headers: {x: {exact: a}}}", "{queryParams: {q: {exact: v}}}", "/* x:a ?q=v -> s.default:80"),
        (
            "{sourceLabels: {app: a}, uri: {prefix: /a}}",
            "{sourceLabels: {app: a}}, {uri: {prefix: /a/b}}",
            // All of it is for other workloads, so that nobody speaks of the host to this one.
            "/* -> s.default:80",
        ),
    ] {
        let (config, told) = planned_with(root, leaf);
        assert_eq!(told, [""; 0], "{root} {leaf}");
        assert_eq!(shown_rules(&config, "s.default").join(""), becomes, "{root} {leaf}");
    }
}

fn balanced(name: &str, namespace: &str, more: &str, by: &str) -> String {
    let spec =
        format!("host: s.shop.svc.cluster.local, trafficPolicy: {{loadBalancer: {{simple: {by}}}}}{more}");
    istio("DestinationRule", name, namespace, &spec)
}

/// By what a caller's requests to the one service are balanced.
fn balances(documents: &str, namespace: &str, labels: &[(&str, &str)]) -> String {
    let documents = service("s", "shop", "") + documents;
    let (config, told) = planned_for(&documents, &called_by(namespace, labels));
    assert_eq!(told, [""; 0]);
    match cluster(&config, "outbound|80||s.shop.svc.cluster.local").load_balancing.policy {
        BalancingPolicy::RoundRobin => "ROUND_ROBIN".to_owned(),
        BalancingPolicy::Random => "RANDOM".to_owned(),
        BalancingPolicy::LeastRequest(_) => "LEAST_REQUEST".to_owned(),
        ref other => format!("{other:?}"),
    }
}

#[test]
fn who_calls_from_the_root_namespace_is_ruled_by_the_service_before_the_root() {
    let of_service = balanced("own", "shop", "", "RANDOM");
    let of_root = balanced("root", "istio-system", "", "ROUND_ROBIN");
    let both = format!("{of_service}{of_root}");
    for namespace in ["istio-system", "shop", "third"] {
        assert_eq!(balances(&both, namespace, &[]), "RANDOM", "{namespace}");
        assert_eq!(balances(&of_root, namespace, &[]), "ROUND_ROBIN", "{namespace}");
    }
    // One that is for the root namespace alone is for who calls from there.
    let alone = balanced("root", "istio-system", ", exportTo: ['.']", "ROUND_ROBIN");
    assert_eq!(balances(&format!("{of_service}{alone}"), "istio-system", &[]), "ROUND_ROBIN");
    assert_eq!(balances(&format!("{of_service}{alone}"), "third", &[]), "RANDOM");
}

#[test]
fn a_rule_that_selects_who_calls_goes_before_one_for_all() {
    let selector = ", workloadSelector: {matchLabels: {app: a}}";
    let documents =
        balanced("all", "shop", "", "RANDOM") + &balanced("some", "shop", selector, "ROUND_ROBIN");
    assert_eq!(balances(&documents, "shop", &[("app", "a")]), "ROUND_ROBIN");
    assert_eq!(balances(&documents, "shop", &[("app", "b")]), "RANDOM");
    // In another namespace it selects nobody.
    assert_eq!(balances(&documents, "third", &[("app", "a")]), "RANDOM");
}

#[test]
fn a_subset_that_a_caller_does_not_see_leads_nowhere() {
    let documents =
        service("s", "shop", "selector: {app: s}, ")
            + "apiVersion: v1
kind: Endpoints
metadata: {name: s, namespace: shop}
subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{name: http, port: 80}]}]
---
" + &istio("DestinationRule", "s", "shop", "host: s, exportTo: ['.'], subsets: [{name: v1}]")
            + &istio(
                "VirtualService",
                "s",
                "shop",
                "hosts: [s], http: [{route: [{destination: {host: s, subset: v1}}]}]",
            );
    let name = "outbound|80|v1|s.shop.svc.cluster.local";
    for (namespace, endpoints) in [("shop", 1), ("other", 0)] {
        let (config, told) = planned_for(&documents, &called_by(namespace, &[]));
        assert_eq!(told, [""; 0]);
        assert_eq!(cluster(&config, name).endpoints.len(), endpoints, "{namespace}");
    }
}

#[test]
fn headers_of_a_destination_that_is_alone_come_behind_those_of_its_route() {
    let of_route = |spec: &str| {
        let documents = service("a", "default", "")
            + &service("b", "default", "")
            + &istio("VirtualService", "a", "default", &format!("hosts: [a], http: [{{{spec}}}]"));
        let (config, told) = planned(&documents);
        assert_eq!(told, [""; 0], "{spec}");
        rules(&config, "a.default")[0].clone()
    };
    let names = |rule: &Rule| -> Vec<String> {
        rule.request_headers.add.iter().map(|op| format!("{}={}", op.name, op.value)).collect()
    };
    let headers = |set: &str| format!("headers: {{request: {{set: {{{set}}}}}}}");
    let alone = of_route(&format!(
        "{}, route: [{{destination: {{host: a}}, {}}}]",
        headers("x: route"),
        headers("x: here, Host: in.test")
    ));
    assert_eq!(names(&alone), ["x=route", "x=here"]);
    assert_eq!(forward(&alone).host, Some(HostRewrite::Literal("in.test".to_owned())));
    assert_eq!(shown::rule(&alone), "/* -> a.default:80");
    // What the route says of the host holds.
    let both = of_route(&format!(
        "rewrite: {{authority: out.test}}, route: [{{destination: {{host: a}}, {}}}]",
        headers("':authority': in.test")
    ));
    assert_eq!(forward(&both).host, Some(HostRewrite::Literal("out.test".to_owned())));
    // Of several each has its own.
    let several = of_route(&format!(
        "{}, route: [{{destination: {{host: a}}, weight: 1, {}}}, {{destination: {{host: b}}, weight: 1}}]",
        headers("x: route"),
        headers("x: here, host: in.test")
    ));
    assert_eq!(names(&several), ["x=route"]);
    let naru_spec::ClusterChoice::Weighted(clusters) = &forward(&several).clusters else { panic!() };
    let hosts: Vec<Option<&str>> = clusters.iter().map(|one| one.host.as_deref()).collect();
    assert_eq!(hosts, [Some("in.test"), None]);
    assert_eq!(forward(&several).host, None);
    // `add` says a host as well where nobody sets one.
    let added = of_route("headers: {request: {add: {host: in.test}}}, route: [{destination: {host: a}}]");
    assert_eq!(forward(&added).host, Some(HostRewrite::Literal("in.test".to_owned())));
}

#[test]
fn a_star_as_an_expression_asks_whether_something_is_there() {
    let documents = service("a", "default", "")
        + &istio(
            "VirtualService",
            "a",
            "default",
            "hosts: [a], http: [{match: [{method: {regex: '*'}, headers: {x: {regex: '*'}}, \
             withoutHeaders: {y: {regex: '*'}}, queryParams: {q: {regex: '*'}}}], \
             route: [{destination: {host: a}}]}]",
        );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    assert_eq!(
        shown_rules(&config, "a.default"),
        ["/* x:Present(true) y:Present(false) ?q= -> a.default:80"]
    );
    let (_, told) = planned(&documents.replace("x: {regex: '*'}", "x: {prefix: ''}"));
    assert_eq!(
        told,
        [
            "error[invalid-value] spec.http[0].match[0].headers[\"x\"].prefix: everything begins with an empty prefix"
        ]
    );
}

const ANSWERS: &str = "hosts: ['*'], http: [{match: [{gateways: [GATEWAY]}], directResponse: {status: 201}}]";

#[test]
fn gateways_are_named_from_a_namespace_in_four_ways() {
    let server = "servers: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]";
    let gateway = istio("Gateway", "edge", "front", server) + &istio("Gateway", "edge", "back", server);
    for (name, namespace) in [
        ("edge", "front"),
        ("./edge", "front"),
        ("front/edge", "back"),
        ("edge.front", "back"),
        ("edge.front.svc.cluster.local", "back"),
    ] {
        let of_one = istio("Gateway", "edge", "front", server);
        let spec = format!("gateways: [{name}], {}", ANSWERS.replace("GATEWAY", name));
        let (config, told) = planned(&format!("{of_one}{}", istio("VirtualService", "v", namespace, &spec)));
        assert_eq!(told, [""; 0], "{name}");
        assert_eq!(gateways(&config), "0.0.0.0:80\n  *\n    /* -> answer 201\n", "{name}");
    }
    // The gateways of a match are those of its document's namespace, too: it is none of the other one.
    let spec = format!("gateways: [back/edge], {}", ANSWERS.replace("GATEWAY", "edge"));
    let (config, _) = planned(&format!("{gateway}{}", istio("VirtualService", "v", "front", &spec)));
    assert_eq!(gateways(&config), "0.0.0.0:80\n  *\n");
}

#[test]
fn of_rules_of_several_documents_those_that_take_all_come_last_block_by_block() {
    let to =
        |status: u16, blocks: &str| format!("{{match: [{blocks}], directResponse: {{status: {status}}}}}");
    let server = "servers: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]";
    let routes = |name: &str, http: &str| {
        istio(
            "VirtualService",
            name,
            "default",
            &format!("hosts: [x.test], gateways: [edge], http: [{http}]"),
        )
    };
    let documents = istio("Gateway", "edge", "default", server)
        + &routes("a", &to(201, "{uri: {prefix: /a}}, {uri: {regex: .*}}"))
        + &routes("b", &to(202, "{uri: {prefix: /a}}, {uri: {prefix: /b}}"));
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    assert_eq!(
        gateways(&config),
        "0.0.0.0:80\n  x.test\n    /a* -> answer 201\n    /a* or /b* -> answer 202\n    ~.* -> answer 201\n"
    );
}

#[test]
fn tls_that_would_not_be_there_is_an_error() {
    let told_of = |tls: &str, protocol: &str| {
        let server = format!(
            "servers: [{{port: {{number: 80, protocol: {protocol}, name: http}}, hosts: ['*'], tls: {{{tls}}}}}]"
        );
        planned(&istio("Gateway", "edge", "default", &server)).1
    };
    for tls in ["mode: SIMPLE, credentialName: c", "credentialName: c", "httpsRedirect: true, mode: MUTUAL"] {
        assert_eq!(
            told_of(tls, "HTTP"),
            ["error[conflicting-fields] spec.servers[0].tls: a server of HTTP has no TLS"],
            "{tls}"
        );
    }
    assert_eq!(told_of("httpsRedirect: true", "HTTP"), [""; 0]);
    let told = told_of("mode: PASSTHROUGH, httpsRedirect: true", "TLS");
    let expected =
        "warning[no-effect] spec.servers[0].tls.httpsRedirect: 'httpsRedirect' is for servers of plain HTTP";
    assert!(told.iter().any(|line| line == expected), "{told:?}");
}

#[test]
fn a_service_selects_machines_as_it_does_processes() {
    let machine = |name: &str, spec: &str| {
        istio("WorkloadEntry", name, "default", &format!("{spec}, labels: {{app: a}}"))
    };
    let documents = "apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-admin, port: 81, targetPort: admin}]
---
"
    .to_owned()
        + &machine("one", "address: 10.0.0.1")
        + &machine("two", "address: 10.0.0.2, ports: {http: 9000, admin: 9001}")
        + &machine("named", "address: vm.test")
        + &istio("WorkloadEntry", "other", "elsewhere", "address: 10.0.0.3, labels: {app: a}");
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    let endpoints = |port: u16| -> Vec<String> {
        let cluster = cluster(&config, &format!("outbound|{port}||a.default.svc.cluster.local"));
        cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    assert_eq!(endpoints(80), ["10.0.0.1:8080", "10.0.0.2:9000"]);
    assert_eq!(endpoints(81), ["10.0.0.1:81", "10.0.0.2:9001"]);
}

#[test]
fn another_name_of_a_service_is_that_service() {
    let named = |name: &str, host: &str| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: ExternalName, externalName: {host}}}
---
"
        )
    };
    let documents = service("s", "shop", "")
        + &named("name", "s.shop.svc.cluster.local")
        + &named("again", "name.default.svc.cluster.local")
        + &named("circle", "circle.default.svc.cluster.local")
        + &service("a", "default", "")
        + &istio(
            "VirtualService",
            "a",
            "default",
            "hosts: [a], http: [{route: [{destination: {host: again}}]}]",
        )
        + &istio(
            "VirtualService",
            "s",
            "shop",
            "hosts: [s], http: [{match: [{uri: {prefix: /x}}], directResponse: {status: 299}}, \
             {route: [{destination: {host: s}}]}]",
        );
    let (config, told) = planned(&documents);
    let elsewhere = "note[elsewhere] spec.hosts: requests for 'a' all go to other hosts";
    assert_eq!(told, [elsewhere]);
    assert_eq!(shown_rules(&config, "a.default"), ["/* -> s.shop:80"]);
    let of_name = ["/x* -> answer 299", "/* -> s.shop:80"];
    assert_eq!(shown_rules(&config, "name.default"), of_name);
    assert_eq!(shown_rules(&config, "again.default"), of_name);
    // What is said of the name alone would not hold.
    let (_, told) =
        planned(&format!("{documents}{}", istio("DestinationRule", "n", "default", "host: name")));
    let expected = "warning[no-effect] spec.host: 'name' is a name of s.shop.svc.cluster.local, whose DestinationRule holds";
    assert_eq!(told, [elsewhere, expected]);
}

#[test]
fn one_block_of_a_tcp_route_without_addresses_takes_all() {
    let server = "servers: [{port: {number: 5432, protocol: TCP, name: tcp}, hosts: ['*']}]";
    let documents = "apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{name: tcp, port: 5432}]}
---
"
    .to_owned()
        + &istio("Gateway", "edge", "default", server)
        + &istio(
            "VirtualService",
            "v",
            "default",
            "hosts: ['*'], gateways: [edge], tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}, {port: 5432}], \
             route: [{destination: {host: db}}]}]",
        );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    let listener = config.listeners.iter().find(|listener| listener.name.starts_with("gateway/")).unwrap();
    assert_eq!(listener.chains.len(), 1);
    assert!(listener.chains[0].networks.is_empty());
}

/// Each with the code that is told of it and the end of the path.
const WRONG: [(&str, &str, &str, &str); 27] = [
    ("VirtualService", "hosts: [a]", "warning[no-effect]", "spec"),
    ("WorkloadEntry", "address: ''", "error[missing-field]", "spec"),
    (
        "ServiceEntry",
        "hosts: [a.test], workloadSelector: {labels: {app: '*'}}, ports: [{number: 1, name: a}]",
        "error[invalid-value]",
        "spec.workloadSelector.labels[\"app\"]",
    ),
    (
        "ServiceEntry",
        "hosts: ['*'], ports: [{number: 80, name: http}]",
        "error[invalid-value]",
        "spec.hosts[0]",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], ports: [{number: 1, name: a}, {number: 2, name: a}]",
        "error[duplicate]",
        "spec.ports[1].name",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], ports: [{number: 1, name: a}, {number: 1, name: b}]",
        "error[duplicate]",
        "spec.ports[1].number",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], ports: [{number: 1, name: a, targetPort: 99999}]",
        "error[invalid-value]",
        "spec.ports[0].targetPort",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], ports: [{number: 1, name: a, protocol: HTPP}]",
        "error[unknown-value]",
        "spec.ports[0].protocol",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], resolution: DNS_ROUND_ROBIN, ports: [{number: 1, name: a}], \
         endpoints: [{address: a.test}, {address: b.test}]",
        "error[conflicting-fields]",
        "spec.endpoints[1]",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test], resolution: STATIC, ports: [{number: 1, name: a}], \
         endpoints: [{address: 10.0.0.1, ports: {b: 2}}]",
        "error[unknown-port]",
        "spec.endpoints[0].ports",
    ),
    (
        "WorkloadEntry",
        "address: 10.0.0.1, ports: {http: 99999}",
        "error[invalid-value]",
        "spec.ports[\"http\"]",
    ),
    ("WorkloadEntry", "address: 'unix:///dir/'", "error[invalid-value]", "spec.address"),
    ("WorkloadEntry", "address: 'unix://@a', ports: {http: 80}", "error[conflicting-fields]", "spec.ports"),
    (
        "VirtualService",
        "hosts: ['*.a.test', b.a.test], http: [{directResponse: {status: 200}}]",
        "warning[duplicate]",
        "spec.hosts[1]",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{rewrite: {}, route: [{destination: {host: a}}]}]",
        "error[missing-field]",
        "spec.http[0].rewrite",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{rewrite: {uri: '', authority: ''}, route: [{destination: {host: a}}]}]",
        "error[missing-field]",
        "spec.http[0].rewrite",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{redirect: {redirectCode: 302}}]",
        "error[missing-field]",
        "spec.http[0].redirect",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{mirrorPercentage: {value: 5}, route: [{destination: {host: a}}]}]",
        "warning[no-effect]",
        "spec.http[0].mirrorPercentage",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{retries: {attempts: 0, retryOn: 5xx}, route: [{destination: {host: a}}]}]",
        "warning[no-effect]",
        "spec.http[0].retries",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{headers: {request: {set: {host: a.test}, add: {host: b.test}}}, \
         route: [{destination: {host: a}}]}]",
        "error[conflicting-fields]",
        "spec.http[0].headers.request.add[\"host\"]",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{headers: {response: {set: {Host: a.test}}}, route: [{destination: {host: a}}]}]",
        "error[invalid-value]",
        "spec.http[0].headers.response.set[\"Host\"]",
    ),
    (
        "ServiceEntry",
        "hosts: [a.test, b.test], addresses: [240.0.0.1], ports: [{number: 1, name: a}]",
        "warning[no-effect]",
        "spec.addresses",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{match: [{method: {prefix: ''}}], route: [{destination: {host: a}}]}]",
        "error[invalid-value]",
        "spec.http[0].match[0].method.prefix",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{match: [{method: {regex: ''}}], route: [{destination: {host: a}}]}]",
        "error[invalid-value]",
        "spec.http[0].match[0].method.regex",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]}]",
        "error[invalid-value]",
        "spec.http[0].route",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 80, name: http, protocol: HTTP, targetPort: 8080}, hosts: ['*']}]",
        "warning[no-effect]",
        "spec.servers[0].port.targetPort",
    ),
    (
        "VirtualService",
        "hosts: [a], http: [{fault: {abort: {httpStatus: 500, grpcStatus: OK}}, route: [{destination: {host: a}}]}]",
        "error[conflicting-fields]",
        "spec.http[0].fault.abort",
    ),
];

#[test]
fn what_cannot_be_is_told_where_it_stands() {
    for (kind, spec, code, path) in WRONG {
        let documents =
            service("a", "default", "") + &service("b", "default", "") + &istio(kind, "x", "default", spec);
        let (_, told) = planned(&documents);
        let expected = format!("{code} {path}: ");
        assert!(told.iter().any(|line| line.starts_with(&expected)), "{spec}: {told:?}");
    }
}

#[test]
fn an_empty_rewrite_beside_another_is_none() {
    let documents = service("a", "default", "")
        + &istio(
            "VirtualService",
            "a",
            "default",
            "hosts: [a], http: [{match: [{uri: {prefix: /a}}], rewrite: {uri: '', authority: in.test}, \
             route: [{destination: {host: a}}]}]",
        );
    let (config, _) = planned(&documents);
    let rule = &rules(&config, "a.default")[0];
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/a".to_owned()));
    assert_eq!(forward(rule).path, None::<PathRewrite>);
}

#[test]
fn an_empty_text_says_as_much_as_none() {
    let with = |said: &str| {
        let documents = service("a", "default", "")
            + &istio(
                "DestinationRule",
                "a",
                "default",
                "host: a, trafficPolicy: {tls: {mode: SIMPLE, sni: NONE, caCertificates: NONE, credentialName: NONE}}",
            )
            + &istio(
                "Gateway",
                "edge",
                "default",
                "servers: [{bind: NONE, name: NONE, port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]",
            )
            + &istio(
                "VirtualService",
                "a",
                "default",
                "hosts: [a.test], gateways: [edge, mesh], http: [{name: NONE, \
                 match: [{name: NONE, sourceNamespace: NONE, uri: {prefix: /x}}], \
                 retries: {attempts: 1, retryOn: NONE}, redirect: null, \
                 route: [{destination: {host: a, subset: NONE}}]}]",
            );
        planned(&documents.replace("NONE", said))
    };
    let ((empty, told), (none, told_of_none)) = (with("''"), with("null"));
    assert_eq!((&told, &told_of_none), (&told_of_none, &told));
    assert!(told.iter().all(|line| !line.starts_with("error")), "{told:?}");
    assert_eq!(empty, none);
    assert_eq!(shown_rules(&empty, "a.test:80"), ["/x* -> a.default:80"]);
}

#[test]
fn a_match_for_port_0_is_for_all_ports() {
    let documents = service("a", "default", "")
        + &istio(
            "VirtualService",
            "a",
            "default",
            "hosts: [a], http: [{match: [{port: 0}], route: [{destination: {host: a}}]}]",
        );
    let (config, told) = planned(&documents);
    assert_eq!(told, [""; 0]);
    assert_eq!(shown_rules(&config, "a.default"), ["/* -> a.default:80"]);
}
