//! Documents of one kind, namespace and name: there is one object of it, whatever the version of its group.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_plan::{Surroundings, plan};
use naru_resource::Resources;
use naru_spec::{Problem, code};

/// Of each kind: its group, two of its versions, and a document in few words.
const KINDS: &[(&str, [&str; 2], &str, &str)] = &[
    (
        "networking.istio.io/",
        ["v1", "v1beta1"],
        "VirtualService",
        "spec: {hosts: [a.test], http: [{directResponse: {status: 200}}]}",
    ),
    ("networking.istio.io/", ["v1", "v1beta1"], "DestinationRule", "spec: {host: a.test}"),
    (
        "networking.istio.io/",
        ["v1", "v1alpha3"],
        "Gateway",
        "spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
    ),
    (
        "networking.istio.io/",
        ["v1", "v1beta1"],
        "ServiceEntry",
        "spec: {hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
    ),
    ("networking.istio.io/", ["v1", "v1beta1"], "WorkloadEntry", "spec: {address: 10.0.0.1}"),
    ("networking.istio.io/", ["v1", "v1beta1"], "WorkloadGroup", "spec: {template: {serviceAccount: a}}"),
    ("networking.istio.io/", ["v1", "v1beta1"], "Sidecar", "spec: {egress: [{hosts: ['./*']}]}"),
    (
        "gateway.networking.k8s.io/",
        ["v1", "v1beta1"],
        "GatewayClass",
        "spec: {controllerName: naru.dev/gateway}",
    ),
    (
        "gateway.networking.k8s.io/",
        ["v1", "v1beta1"],
        "Gateway",
        "spec: {gatewayClassName: naru, listeners: [{name: a, port: 80, protocol: HTTP}]}",
    ),
    ("gateway.networking.k8s.io/", ["v1", "v1beta1"], "HTTPRoute", "spec: {parentRefs: [{name: a}]}"),
    ("gateway.networking.k8s.io/", ["v1", "v1"], "GRPCRoute", "spec: {parentRefs: [{name: a}]}"),
    (
        "gateway.networking.k8s.io/",
        ["v1beta1", "v1beta1"],
        "ReferenceGrant",
        "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: b}], to: [{group: '', kind: Service}]}",
    ),
    ("", ["v1", "v1"], "Service", "spec: {ports: [{name: http, port: 80}]}"),
    ("", ["v1", "v1"], "Endpoints", "subsets: []"),
    ("discovery.k8s.io/", ["v1", "v1"], "EndpointSlice", "endpoints: []"),
    (
        "apps/",
        ["v1", "v1"],
        "Deployment",
        "spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c}]}}}",
    ),
    ("", ["v1", "v1"], "Secret", "data: {}"),
    ("", ["v1", "v1"], "ConfigMap", "data: {}"),
    ("", ["v1", "v1"], "Namespace", ""),
    ("", ["v1", "v1"], "Pod", "spec: {containers: [{name: c}]}"),
    (
        "naru.dev/",
        ["v1alpha1", "v1alpha1"],
        "TrafficPolicy",
        "spec: {targetRef: {kind: Service, name: a}, maxRequestBytes: 1}",
    ),
    (
        "naru.dev/",
        ["v1alpha1", "v1alpha1"],
        "SessionAuth",
        "spec: {targetRef: {kind: Gateway, name: a}, login: {paths: [/login]}, store: {directory: /d}}",
    ),
    (
        "naru.dev/",
        ["v1alpha1", "v1alpha1"],
        "RateLimit",
        "spec: {limits: [{name: a, requests: 1, window: 1s}]}",
    ),
    ("naru.dev/", ["v1alpha1", "v1alpha1"], "Retry", "spec: {maxAttempts: 2}"),
    ("naru.dev/", ["v1alpha1", "v1alpha1"], "EdgePolicy", "spec: {}"),
    (
        "naru.dev/",
        ["v1alpha1", "v1alpha1"],
        "Surge",
        "spec: {levels: [{name: a, enter: {cpuPercent: 80}, steps: []}]}",
    ),
    (
        "security.istio.io/",
        ["v1", "v1beta1"],
        "RequestAuthentication",
        "spec: {jwtRules: [{issuer: i, jwks: '{}'}]}",
    ),
    ("security.istio.io/", ["v1", "v1beta1"], "AuthorizationPolicy", "spec: {rules: [{}]}"),
];

fn loaded(text: &str) -> Resources {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", text, &mut loaded);
    let errors: Vec<&Problem> = loaded.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{text}");
    loaded.resources
}

fn duplicates(text: &str) -> Vec<Problem> {
    let problems = plan(&loaded(text), &Surroundings::default()).problems;
    problems.into_iter().filter(|problem| problem.code == code::DUPLICATE).collect()
}

#[test]
fn a_name_is_that_of_one_document_of_its_kind() {
    for (group, [one, other], kind, rest) in KINDS {
        let document = |version: &str, metadata: &str| {
            format!(
                "apiVersion: {group}{version}\nkind: {kind}\nmetadata: {{name: a{metadata}}}\n{rest}\n---\n"
            )
        };
        let twice = document(one, "") + &document(other, ", namespace: default");
        let said = match *kind {
            "Gateway" if group.starts_with("gateway") => "Gateway (Gateway API) 'a.default'".to_owned(),
            "Namespace" | "GatewayClass" => format!("{kind} 'a'"),
            kind => format!("{kind} 'a.default'"),
        };
        let told = duplicates(&twice);
        let [problem] = told.as_slice() else { panic!("{told:#?}\n{twice}") };
        assert_eq!(problem.message, format!("{said} is defined twice"));
        let second = twice.lines().count() as u32 / 2 + 3;
        assert_eq!(
            (problem.line, problem.column, problem.path.as_str()),
            (second, 18, "metadata.name"),
            "{kind}"
        );
        assert_eq!(problem.hint, "the first is at case.yaml:3:18");
        assert!(problem.is_error(), "{kind}");
        let apart = document(one, "") + &document(other, "-second");
        assert_eq!(duplicates(&apart), [], "{kind}");
        if !matches!(*kind, "Namespace" | "GatewayClass") {
            let elsewhere = document(one, "") + &document(other, ", namespace: elsewhere");
            assert_eq!(duplicates(&elsewhere), [], "{kind}");
        }
    }
}

#[test]
fn of_two_the_older_is_the_first_and_the_only_one_that_is_looked_at() {
    let gateway = |created: &str, port: u16| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
             metadata: {{name: a, creationTimestamp: '{created}'}}\n\
             spec: {{servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n"
        )
    };
    let text = gateway("2026-01-02T00:00:00Z", 81) + &gateway("2026-01-01T00:00:00Z", 80);
    let planned = plan(&loaded(&text), &Surroundings::default());
    let told: Vec<_> = planned.problems.iter().map(|problem| (problem.line, problem.code)).collect();
    assert_eq!(told, [(3, code::DUPLICATE)]);
    let ports: Vec<u16> = planned
        .config
        .listeners
        .iter()
        .map(|listener| listener.address.port())
        .filter(|port| *port > 0)
        .collect();
    assert_eq!(ports, [80]);
}

#[test]
fn an_empty_list_of_what_is_protected_protects_everything() {
    let documents = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\n\
             spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n\
             apiVersion: naru.dev/v1alpha1\nkind: SessionAuth\nmetadata: {{name: a}}\n\
             spec: {{targetRef: {{kind: Gateway, name: a}}, login: {{paths: [/login]}}, store: {{directory: /d}}{rest}}}\n"
        )
    };
    for rest in ["", ", protect: []", ", protect: ['/']"] {
        let planned = plan(&loaded(&documents(rest)), &Surroundings::default());
        assert_eq!(planned.problems, [], "{rest}");
        let gateway = planned.config.listeners.iter().find(|listener| listener.address.port() == 80).unwrap();
        assert_eq!(gateway.chains[0].http.sessions[0].protected, ["/"], "{rest}");
    }
}
