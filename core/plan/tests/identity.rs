//! What `RequestAuthentication` and `AuthorizationPolicy` documents become.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_plan::{Planned, Surroundings, plan};
use naru_spec::{AuthTest, Check, CheckKind, Discovery, JwtKeys, JwtRequirement, Rbac, RbacAction};

const GATES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: other, namespace: far }
spec:
  selector: { istio: egressgateway }
  servers: [{ port: { number: 81, name: http, protocol: HTTP }, hosts: ['*'] }]
";

fn planned(documents: &str) -> Planned {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{GATES}{documents}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(!planned.has_errors(), "{:?}", planned.problems);
    planned
}

/// The checks of a gateway's listener.
fn checks(planned: &Planned, port: u16) -> &[Check] {
    let listener = planned.config.listeners.iter().find(|listener| listener.address.port() == port);
    &listener.unwrap().chains[0].http.gate.checks
}

fn policy(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{ name: {name}{metadata} }}\nspec: {spec}\n"
    )
}

fn rbacs(checks: &[Check]) -> Vec<&Rbac> {
    let found = checks.iter().filter_map(|check| match &check.kind {
        CheckKind::Rbac(rbac) => Some(&**rbac),
        _ => None,
    });
    found.collect()
}

#[test]
fn a_document_is_for_gateways_by_labels_name_or_namespace() {
    for (metadata, spec, at_80, at_81) in [
        ("", "{ selector: { matchLabels: { istio: ingressgateway } } }", 1, 0),
        (", namespace: istio-system", "{ selector: { matchLabels: { istio: ingressgateway } } }", 1, 0),
        ("", "{}", 1, 0),
        (", namespace: far", "{}", 0, 1),
        (", namespace: istio-system", "{}", 1, 1),
        ("", "{ targetRefs: [{ kind: Gateway, group: gateway.networking.k8s.io, name: gate }] }", 1, 0),
        (", namespace: far", "{ targetRef: { kind: Gateway, name: other } }", 0, 1),
    ] {
        let planned = planned(&policy("p", metadata, spec));
        let counts = (checks(&planned, 80).len(), checks(&planned, 81).len());
        assert_eq!(counts, (at_80, at_81), "{metadata} {spec}");
    }
}

#[test]
fn policies_are_asked_in_the_order_of_istio() {
    let rule = "rules: [{ to: [{ operation: { methods: [GET] } }] }]";
    let documents = [
        policy("allow", "", &format!("{{ {rule} }}")),
        policy("deny", "", &format!("{{ action: DENY, {rule} }}")),
        policy("audit", "", &format!("{{ action: AUDIT, {rule} }}")),
        policy("dry", ", annotations: { istio.io/dry-run: 'true' }", &format!("{{ action: DENY, {rule} }}")),
    ];
    let planned = planned(&documents.concat());
    let rbacs = rbacs(checks(&planned, 80));
    let actions: Vec<_> = rbacs.iter().map(|rbac| rbac.rules.as_ref().unwrap().action).collect();
    assert_eq!(actions, [RbacAction::Log, RbacAction::Deny, RbacAction::Allow]);
    let shadow = rbacs[1].shadow.as_ref().unwrap();
    assert_eq!(shadow.policies[0].name, "ns[default]-policy[dry]-rule[0]");
    assert_eq!(rbacs[1].rules.as_ref().unwrap().policies.len(), 1);
    assert!(shadow.policies[0].origin.starts_with("case.yaml:"), "{}", shadow.policies[0].origin);
}

#[test]
fn no_rules_allow_nobody_and_an_empty_rule_everybody() {
    let nobody = planned(&policy("p", "", "{}"));
    assert_eq!(rbacs(checks(&nobody, 80))[0].rules.as_ref().unwrap().policies, []);
    let everybody = planned(&policy("p", "", "{ rules: [{}] }"));
    let rules = rbacs(checks(&everybody, 80))[0].rules.clone().unwrap();
    assert_eq!(rules.policies[0].permissions, [AuthTest::Always]);
    assert_eq!(rules.policies[0].principals, [AuthTest::Always]);
}

#[test]
fn a_condition_stands_in_each_source_and_operation() {
    let spec = "
  rules:
  - from: [{ source: { ipBlocks: [10.0.0.1] } }, { source: { notNamespaces: [a] } }]
    to: [{ operation: { paths: ['/a/{*}'] } }, { operation: { hosts: [b.example], notPorts: ['81'] } }]
    when: [{ key: 'request.headers[x]', values: [y] }, { key: connection.sni, notValues: [z] }]
";
    let planned = planned(&policy("p", "", spec));
    let rules = rbacs(checks(&planned, 80))[0].rules.clone().unwrap();
    let lengths = |tests: &[AuthTest]| -> Vec<usize> {
        let of = |test: &AuthTest| if let AuthTest::All(tests) = test { tests.len() } else { 0 };
        tests.iter().map(of).collect()
    };
    assert_eq!(lengths(&rules.policies[0].principals), [2, 2]);
    assert_eq!(lengths(&rules.policies[0].permissions), [2, 3]);
    let AuthTest::All(first) = &rules.policies[0].permissions[0] else { panic!() };
    assert_eq!(first[0], AuthTest::Any(vec![AuthTest::PathTemplate("/a/*".into())]));
}

fn authentication(rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: t }}\n\
         spec:\n  jwtRules: {rules}\n"
    )
}

#[test]
fn a_token_may_be_missing_but_not_bad() {
    let planned = planned(&authentication("[{ issuer: a, jwks: '{}' }]"));
    let [Check { kind: CheckKind::Jwt(jwt), .. }] = checks(&planned, 80) else { panic!() };
    let named = |at: u32| JwtRequirement::Provider { name: format!("origins-{at}"), audiences: Vec::new() };
    let optional = |at| JwtRequirement::Any(vec![named(at), JwtRequirement::AllowMissing]);
    assert_eq!(jwt.rules[0].requires, optional(0));
    assert_eq!((jwt.providers[0].issuer.as_deref(), jwt.providers[0].forward), (Some("a"), false));
    let planned = self::planned(&authentication("[{ issuer: a, jwks: '{}' }, { issuer: b, jwks: '{}' }]"));
    let [Check { kind: CheckKind::Jwt(jwt), .. }] = checks(&planned, 80) else { panic!() };
    let all = JwtRequirement::All(vec![optional(0), optional(1)]);
    assert_eq!(jwt.rules[0].requires, JwtRequirement::Any(vec![named(0), named(1), all]));
    assert_eq!(checks(&planned, 81), []);
}

#[test]
fn keys_may_stand_in_a_file() {
    let planned = planned(&authentication("[{ issuer: a, jwksUri: 'file:///etc/keys/a.json' }]"));
    let [Check { kind: CheckKind::Jwt(jwt), .. }] = checks(&planned, 80) else { panic!() };
    let file = naru_spec::DataSource::File("/etc/keys/a.json".to_owned());
    assert_eq!(jwt.providers[0].keys, JwtKeys::Local(file));
    assert!(!planned.config.clusters.iter().any(|cluster| cluster.name.starts_with("jwks|")));
    for wrong in ["file://keys.json", "file:///", "ftp://a/b"] {
        let mut loaded = naru_doc::Loaded::default();
        let document = authentication(&format!("[{{ issuer: a, jwksUri: '{wrong}' }}]"));
        naru_doc::load("case.yaml", &format!("{GATES}{document}"), &mut loaded);
        let planned = plan(&loaded.resources, &Surroundings::default());
        let told = planned.problems.iter().any(|problem| problem.message == "it is no address of keys");
        assert!(told, "{wrong}: {:?}", planned.problems);
    }
}

#[test]
fn keys_are_fetched_from_a_cluster_of_their_own() {
    let planned = planned(&authentication(
        "[{ issuer: a, jwksUri: 'https://a.example/keys' }, { issuer: b, jwksUri: 'http://127.0.0.1:8080/k' }, \
         { issuer: c, jwksUri: 'https://a.example/other' }]",
    ));
    let clusters: Vec<_> =
        planned.config.clusters.iter().filter(|cluster| cluster.name.starts_with("jwks|")).collect();
    let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["jwks|https|a.example|443", "jwks|http|127.0.0.1|8080"]);
    assert!(clusters[1].tls.is_none() && clusters[1].discovery == Discovery::Static);
    let tls = clusters[0].tls.as_ref().unwrap();
    assert_eq!((tls.sni.as_deref(), tls.peer.names.len()), (Some("a.example"), 1));
    assert!(tls.trusted_ca.is_some());
    let [Check { kind: CheckKind::Jwt(jwt), .. }] = checks(&planned, 80) else { panic!() };
    let JwtKeys::Remote(remote) = &jwt.providers[1].keys else { panic!() };
    assert_eq!((remote.cluster.as_str(), remote.uri.as_str()), (names[1], "http://127.0.0.1:8080/k"));
}
