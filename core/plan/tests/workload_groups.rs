//! Machines that have joined a WorkloadGroup by themselves: what they are endpoints of, and what of a group is wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shown;

use naru_plan::{GroupProbe, GroupProbeKind, Member, Surroundings, groups};
use naru_spec::{Cluster, Config};
use shown::{planned, planned_for};

const DOCUMENTS: &str = "apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: vm, namespace: shop}
spec:
  metadata: {labels: {app: shop, track: group}}
  template:
    ports: {http: 8080}
    labels: {app: template, version: v1, track: template}
    locality: r/z
    weight: 3
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry, namespace: shop}
spec:
  hosts: [entry.test]
  ports: [{number: 99, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {labels: {version: v1}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: shop}
spec:
  host: shop
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: bank}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: shop}
spec:
  hosts: [shop]
  http:
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /v2}}]
    route: [{destination: {host: shop, subset: v2}}]
  - match: [{uri: {prefix: /bank}}]
    route: [{destination: {host: shop.bank.svc.cluster.local}}]
  - match: [{uri: {prefix: /entry}}]
    route: [{destination: {host: entry.test}}]
  - route: [{destination: {host: shop}}]
";

fn member(address: &str, labels: &[(&str, &str)]) -> Member {
    Member {
        namespace: "shop".to_owned(),
        group: "vm".to_owned(),
        address: address.parse().unwrap(),
        network: String::new(),
        locality: String::new(),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

fn with(documents: &str, members: Vec<Member>) -> Config {
    let (config, told) = planned_for(documents, &Surroundings { members, ..Surroundings::default() });
    assert_eq!(told, [""; 0]);
    config
}

fn endpoints(config: &Config, cluster: &str) -> Vec<String> {
    let found = config.clusters.iter().find(|known: &&Cluster| known.name == cluster);
    let found = found.unwrap_or_else(|| panic!("no {cluster}"));
    found.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn a_member_is_an_endpoint_of_all_that_selects_it() {
    let own = [("version", "v2"), ("track", "own")];
    let members = vec![member("10.0.0.1", &[]), member("10.0.0.2", &own), member("fd00::7", &[])];
    let config = with(DOCUMENTS, members);
    let of = |cluster: &str| endpoints(&config, cluster);
    let host = "shop.shop.svc.cluster.local";
    assert_eq!(of(&format!("outbound|80||{host}")), ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::7]:8080"]);
    assert_eq!(of(&format!("outbound|80|v1|{host}")), ["10.0.0.1:8080", "[fd00::7]:8080"]);
    assert_eq!(of(&format!("outbound|80|v2|{host}")), ["10.0.0.2:8080"]);
    assert_eq!(of("outbound|99||entry.test"), ["10.0.0.1:8080", "[fd00::7]:8080"]);
    // In its own namespace only.
    assert_eq!(of("outbound|80||shop.bank.svc.cluster.local"), [""; 0]);
    let known =
        config.clusters.iter().find(|cluster| cluster.name == format!("outbound|80||{host}")).unwrap();
    let first = &known.endpoints[0];
    assert_eq!((first.weight.0, first.locality.region.as_str(), first.locality.zone.as_str()), (3, "r", "z"));
}

#[test]
fn what_a_member_says_is_laid_over_its_group_and_what_stands_in_a_document_over_both() {
    let mut moved = member("10.0.0.1", &[]);
    (moved.locality, moved.network) = ("s/y".to_owned(), "n".to_owned());
    assert_eq!(moved.name(), "vm-10.0.0.1-n");
    assert_eq!(member("fd00::7", &[]).name(), "vm-fd00--7");
    let long = Member { group: "g".repeat(300), ..member("10.0.0.1", &[]) };
    assert_eq!((long.name().len(), long.name().ends_with("g-10.0.0.1")), (253, true));
    moved.network = String::new();
    let config = with(DOCUMENTS, vec![moved]);
    let cluster = "outbound|80||shop.shop.svc.cluster.local";
    let known = config.clusters.iter().find(|known| known.name == cluster).unwrap();
    assert_eq!(known.endpoints[0].locality.region, "s");
    // One that somebody has written.
    let written = "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-10.0.0.1, namespace: shop}
spec: {address: 10.9.9.9, labels: {app: shop}}
";
    let config = with(&format!("{DOCUMENTS}{written}"), vec![member("10.0.0.1", &[])]);
    assert_eq!(endpoints(&config, cluster), ["10.9.9.9:80"]);
}

#[test]
fn a_member_of_a_group_that_is_not_there_is_nobody() {
    let members = vec![
        Member { group: "other".to_owned(), ..member("10.0.0.1", &[]) },
        Member { namespace: "bank".to_owned(), ..member("10.0.0.1", &[]) },
    ];
    assert_eq!(with(DOCUMENTS, members), with(DOCUMENTS, Vec::new()));
}

#[test]
fn groups_are_told_with_all_defaults() {
    let mut loaded = naru_doc::Loaded::default();
    let probe = "  probe: {httpGet: {port: 80}}\n";
    naru_doc::load("case.yaml", &DOCUMENTS.replacen("---\n", &format!("{probe}---\n"), 1), &mut loaded);
    let groups = groups(&loaded.resources);
    let seconds = std::time::Duration::from_secs;
    assert_eq!(
        groups[0].probe,
        Some(GroupProbe {
            kind: GroupProbeKind::Http { path: "/".to_owned(), headers: Vec::new(), is_tls: false },
            host: None,
            port: 80,
            initial_delay: seconds(0),
            period: seconds(10),
            timeout: seconds(1),
            success_threshold: 1,
            failure_threshold: 3,
        })
    );
    let own = [("version".to_owned(), "v2".to_owned())];
    let labels = groups[0].labels_of(&own);
    let text: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(text, ["app=shop", "track=group", "version=v2"]);
}

#[test]
fn what_of_a_group_cannot_be_is_told_at_its_line() {
    let check = |spec: &str, expected: &[&str]| {
        let document = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {{name: g}}\nspec: {spec}\n"
        );
        assert_eq!(planned(&document).1, expected, "{spec}");
    };
    check("{template: {}}", &[]);
    check(
        "{metadata: {labels: {a: b}}}",
        &[
            "error[missing-field] spec: a WorkloadGroup needs a template: what those who join it have in common",
        ],
    );
    check(
        "{template: {address: 10.0.0.1, weight: 0, ports: {http: 0}}}",
        &[
            "warning[no-effect] spec.template.address: 'address' of a template has no effect: each who joins has one of his own",
            "error[invalid-value] spec.template.weight: a weight is above zero",
            "error[invalid-value] spec.template.ports[\"http\"]: 0 is not a port",
        ],
    );
    let probe =
        |probe: &str, expected: &[&str]| check(&format!("{{template: {{}}, probe: {probe}}}"), expected);
    probe("{tcpSocket: {port: 80, host: localhost}}", &[]);
    probe("{grpc: {port: 80, service: a}}", &[]);
    probe("{periodSeconds: 0, httpGet: {port: 80, scheme: https, path: ''}}", &[]);
    probe(
        "{exec: {command: [ls]}}",
        &[
            "error[not-yet] spec.probe.exec: 'exec' cannot be asked: naru asks from its control plane, where the command is not",
        ],
    );
    let one = "error[conflicting-fields] spec.probe: exactly one of httpGet, tcpSocket and grpc is needed";
    probe("{periodSeconds: 1}", &[one]);
    probe("{httpGet: {port: 80}, tcpSocket: {port: 80}}", &[one]);
    probe("{grpc: {}}", &["error[missing-field] spec.probe.grpc: a probe by gRPC needs a port"]);
    probe(
        "{httpGet: {port: 70000, path: '/a b', scheme: FTP}}",
        &["error[unknown-value] spec.probe.httpGet.scheme: 'FTP' is no scheme of a probe"],
    );
    probe(
        "{failureThreshold: -1, httpGet: {port: 70000, path: '/a b', httpHeaders: [{name: 'a b', value: c}]}}",
        &[
            "error[invalid-value] spec.probe.httpGet.port: 70000 is not a port",
            "error[invalid-value] spec.probe.httpGet.path: '/a b' is no path: it has spaces",
            "error[invalid-value] spec.probe.httpGet.httpHeaders[0].name: 'a b' is no name of a header",
        ],
    );
    probe(
        "{failureThreshold: -1, tcpSocket: {port: 80}}",
        &["error[invalid-value] spec.probe.failureThreshold: -1 is out of range: 0 to 1000000"],
    );
}
