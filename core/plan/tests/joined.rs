//! Several documents for the same: what is joined, what is left out, and what is told of it. As in Istio
//! (`pilot/pkg/model/gateway.go`, `sidecar.go`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{Client, Surroundings};
use shown::{gateways, planned, planned_for};

fn gateway(name: &str, selector: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec: {{selector: {{{selector}}}, servers: [{servers}]}}
---
"
    )
}

fn routes(name: &str, hosts: &str, gateways: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{hosts}], gateways: [{gateways}], http: [{http}]}}
---
"
    )
}

const HTTP: &str = "{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}";
const ANSWER: &str = "{directResponse: {status: 200}}";

fn to(path: &str, status: u16) -> String {
    format!("{{match: [{{uri: {{prefix: {path}}}}}], directResponse: {{status: {status}}}}}")
}

#[test]
fn plain_http_of_several_gateways_is_joined_by_hosts() {
    let documents = gateway("a", "istio: one", HTTP)
        + &gateway("b", "istio: one", HTTP)
        + &routes("first", "x.test", "a", &format!("{}, {{directResponse: {{status: 404}}}}", to("/a", 201)))
        + &routes("second", "x.test, y.test", "b", &to("/b", 202))
        + &routes("both", "z.test", "a, b", ANSWER);
    let (config, told) = planned(&documents);
    assert_eq!(
        told,
        ["warning[conflict] spec.servers[0]: two servers have port 80 and host '*': their routes are joined"]
    );
    // What takes all is asked last, and what two gateways say of one document is said once.
    assert_eq!(
        gateways(&config),
        "0.0.0.0:80
  x.test
    /a* -> answer 201
    /b* -> answer 202
    /* -> answer 404
  z.test
    /* -> answer 200
  y.test
    /b* -> answer 202
"
    );
    // Of different workloads it is said that they are.
    let (_, told) = planned(&(gateway("a", "istio: one", HTTP) + &gateway("b", "istio: two", HTTP)));
    assert!(told[0].ends_with("are joined (in Istio they are of different workloads)"), "{told:?}");
    // Hosts for the documents of some namespaces are no conflict with those for others.
    let own = HTTP.replace("'*'", "'./a.test'");
    let (_, told) = planned(&(gateway("a", "", &own) + &gateway("b", "", &HTTP.replace('*', "b.test"))));
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_redirect_of_one_gateway_is_that_of_the_host() {
    let redirects = HTTP.replace("hosts", "tls: {httpsRedirect: true}, hosts");
    let documents =
        gateway("a", "", HTTP) + &gateway("b", "", &redirects) + &routes("x", "x.test", "a", ANSWER);
    let (config, _) = planned(&documents);
    let hosts = &config.listeners[0].chains[0].http.routes.virtual_hosts;
    let told: Vec<(String, bool)> =
        hosts.iter().map(|host| (host.name.clone(), host.tls == naru_spec::TlsRequirement::All)).collect();
    // Nobody has routes for the others: they are sent to TLS; the one of gateway 'a' keeps its routes.
    assert_eq!(told, [("x.test:80".to_owned(), false), ("*:80".to_owned(), true)]);
}

#[test]
fn what_cannot_be_told_apart_is_left_out() {
    let passes = |name: &str, host: &str| {
        let server =
            "{port: {number: 443, protocol: TLS, name: tls}, tls: {mode: PASSTHROUGH}, hosts: [HOST]}";
        gateway(name, "", &server.replace("HOST", host))
    };
    let tls_routes = |name: &str, gateway: &str, host: &str, to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  gateways: [{gateway}]
  tls: [{{match: [{{sniHosts: [{host}]}}], route: [{{destination: {{host: {to}.test}}}}]}}]
---
"
        )
    };
    let entries = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: all}
spec: {hosts: [one.test, two.test], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
";
    let documents = entries.to_owned()
        + &passes("a", "x.test")
        + &passes("b", "x.test")
        + &passes("c", "y.test")
        + &gateway("d", "", "{port: {number: 443, protocol: HTTP, name: http}, hosts: [z.test]}")
        + &tls_routes("a", "a", "x.test", "one")
        + &tls_routes("b", "b", "x.test", "two")
        + &tls_routes("c", "c", "y.test", "two");
    let (config, told) = planned(&documents);
    assert_eq!(
        told,
        [
            "warning[conflict] spec.servers[0]: two servers have port 443 and host 'x.test': this one is left out",
            "warning[conflict] spec.servers[0]: 0.0.0.0:443 cannot be with TLS and without: this one is left out",
        ]
    );
    assert_eq!(
        gateways(&config),
        "0.0.0.0:443\n  TLS passes x.test\n  -> one.test:443\n  TLS passes y.test\n  -> two.test:443\n"
    );
    // Within one document it is a mistake.
    let twice = format!("{HTTP}, {HTTP}");
    let (_, told) = planned(&gateway("a", "", &twice));
    assert_eq!(told, ["error[conflict] spec.servers[1]: two servers have port 80 and host '*'"]);
}

fn entry(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
---
"
    )
}

/// The endpoints of a cluster.
fn endpoints(config: &naru_spec::Config, name: &str) -> Vec<String> {
    let cluster = config.clusters.iter().find(|cluster| cluster.name == name);
    let cluster = cluster.unwrap_or_else(|| panic!("no cluster {name} in {:?}", names(config)));
    cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn names(config: &naru_spec::Config) -> Vec<&str> {
    config.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
}

const STATIC: &str = "hosts: [a.test], resolution: STATIC, ";

#[test]
fn service_entries_of_one_host_are_joined_by_ports() {
    let one = format!(
        "{STATIC}ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: 10.0.0.1}}]"
    );
    let more = one.replace("number: 80, name: http", "number: 81, name: http-more").replace("0.1", "0.2");
    let (config, told) = planned(&(entry("one", "default", &one) + &entry("two", "default", &more)));
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(endpoints(&config, "outbound|80||a.test"), ["10.0.0.1:80"]);
    assert_eq!(endpoints(&config, "outbound|81||a.test"), ["10.0.0.2:81"]);

    // The same port by the same name has the endpoints of both; by another name those of the first.
    let beside = one.replace("0.1", "0.3");
    let (config, told) = planned(&(entry("one", "default", &one) + &entry("two", "default", &beside)));
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(endpoints(&config, "outbound|80||a.test"), ["10.0.0.1:80", "10.0.0.3:80"]);
    let other = beside.replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP");
    let (config, told) = planned(&(entry("one", "default", &one) + &entry("two", "default", &other)));
    assert_eq!(
        told,
        ["warning[conflict] spec.ports: port 80 of a.test is 'tcp' here and 'http' elsewhere, which holds"]
    );
    assert_eq!(endpoints(&config, "outbound|80||a.test"), ["10.0.0.1:80"]);

    let dns = more.replace("STATIC", "DNS");
    let (config, told) = planned(&(entry("one", "default", &one) + &entry("two", "default", &dns)));
    assert_eq!(
        told,
        [
            "warning[conflict] metadata: the service a.test is defined twice, with another resolution: this one is left out"
        ]
    );
    assert!(!names(&config).contains(&"outbound|81||a.test"));
}

#[test]
fn each_namespace_calls_its_own_service_of_a_host() {
    let of = |address: &str| {
        format!("{STATIC}ports: [{{number: 80, name: http}}], endpoints: [{{address: {address}}}]")
    };
    let both = entry("one", "shop", &of("10.0.0.1")) + &entry("two", "other", &of("10.0.0.2"));
    for (namespace, address) in [("shop", "10.0.0.1:80"), ("other", "10.0.0.2:80"), ("third", "10.0.0.1:80")]
    {
        let client = Client { namespace: namespace.to_owned(), ..Client::unnamed() };
        let (config, told) =
            planned_for(&both, &Surroundings { clients: vec![client], ..Surroundings::default() });
        assert!(told[0].contains("each namespace calls its own, others the first"), "{told:?}");
        let table = &config.listeners[0].chains[0].http.routes;
        let hosts: Vec<_> = table.virtual_hosts.iter().filter(|host| host.name == "a.test:80").collect();
        assert_eq!(hosts.len(), 1, "{namespace}");
        let naru_spec::Action::Forward(forward) = &hosts[0].rules[0].action else { panic!() };
        let naru_spec::ClusterChoice::One(name) = &forward.clusters else { panic!() };
        assert_eq!(endpoints(&config, name), [address], "{namespace}");
    }
}

#[test]
fn a_destination_below_a_star_is_reached_as_the_star_says() {
    let route = "{route: [{destination: {host: deep.a.test, port: {number: 80}}}]}";
    let of = |resolution: &str| {
        entry("star", "default", &format!("hosts: ['*.a.test'], resolution: {resolution}"))
            + &gateway("gate", "", HTTP)
            + &routes("x", "x.test", "gate", route)
    };
    let ports = ", ports: [{number: 80, name: http, protocol: HTTP}]";
    for resolution in [format!("NONE{ports}"), format!("DNS{ports}"), format!("DYNAMIC_DNS{ports}")] {
        let (config, told) = planned(&of(&resolution));
        assert!(told.is_empty(), "{resolution}: {told:?}");
        assert_eq!(endpoints(&config, "outbound|80||deep.a.test"), ["deep.a.test:80"], "{resolution}");
    }
    let (config, _) = planned(&of(&format!("STATIC{ports}, endpoints: [{{address: 10.0.0.9}}]")));
    assert_eq!(endpoints(&config, "outbound|80||deep.a.test"), ["10.0.0.9:80"]);
    // One that no star has is nobody's.
    let (_, told) = planned(&of(&format!("NONE{ports}")).replace("deep.a.test", "a.test"));
    assert!(told[0].contains("no Service and no ServiceEntry is called 'a.test'"), "{told:?}");
}

#[test]
fn a_policy_for_no_gateway_is_an_error_only_where_it_would_keep_somebody_out() {
    let policy = |more: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p{more}}}
spec: {{selector: {{matchLabels: {{app: x}}}}, {spec}}}
"
        )
    };
    let dry = ", annotations: {istio.io/dry-run: 'true'}";
    for (more, spec, severity) in [
        ("", "action: DENY, rules: [{}]", "error"),
        ("", "rules: [{to: [{operation: {methods: [GET]}}]}]", "error"),
        ("", "action: ALLOW", "error"),
        ("", "rules: [{}]", "warning"),
        ("", "action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]", "warning"),
        (dry, "action: DENY, rules: [{}]", "warning"),
    ] {
        let (_, told) = planned(&policy(more, spec));
        let expected =
            format!("{severity}[no-effect] spec: it is for no Gateway, and nobody is kept out by it");
        assert!(told.contains(&expected), "{spec}: {told:?}");
    }
}
