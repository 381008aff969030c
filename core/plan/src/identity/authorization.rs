//! Policies of who may do what, as Istio makes `rbac` of them (`pilot/pkg/security/authz`).
//!
//! Of a rule each source is a principal, each operation a permission; what it asks `when` stands in all of them. Policies
//! that deny are asked before those that allow. Where there is any that allows, who none of them is for is refused.

use std::collections::BTreeSet;

use naru_resource::security::{AuthorizationPolicy, PolicyAction, PolicyRule};
use naru_resource::{Gateway, Place, Text};
use naru_spec::{AuthTest, Path, Rbac, RbacAction, RbacPolicy, RbacRules, code};

use super::condition::{Part, Side, part};
use super::external;
use crate::findings::Findings;

/// Tells what is wrong with a document.
pub(super) fn check(document: &AuthorizationPolicy, findings: &mut Findings<'_>) {
    let Some(spec) = &document.spec else { return };
    let path = Path::ROOT.field("spec");
    let action = spec.action.map(|said| said.value);
    if action == Some(PolicyAction::Custom) {
        external::check(document, findings);
    } else if let Some(provider) = &spec.provider {
        let message = "only CUSTOM has a provider";
        findings.error(code::NO_EFFECT, provider.place, &path.field("provider"), message, "remove it");
    }
    if spec.rules.is_empty() && matches!(action, Some(PolicyAction::Deny | PolicyAction::Audit)) {
        let message = "without rules it is for no request at all";
        findings.warning(
            code::NO_EFFECT,
            spec.place,
            &path.field("rules"),
            message,
            "rules: [{}] is for all",
        );
    }
    let listed = path.field("rules");
    for (at, rule) in spec.rules.iter().enumerate() {
        let namespace = document.meta.namespace();
        rule_of(rule, namespace, &mut |place, field, message, hint| {
            findings.error(code::INVALID_VALUE, place, &listed.at(at).field(field), message, hint);
        });
    }
}

/// Tells what no request has at the gateways that a document is for.
pub(super) fn check_at(
    document: &AuthorizationPolicy,
    gateways: &[&Gateway],
    has_tokens: bool,
    findings: &mut Findings<'_>,
) {
    let Some(spec) = &document.spec else { return };
    let ports: BTreeSet<i64> = gateways
        .iter()
        .flat_map(|gateway| &gateway.spec.servers)
        .map(|server| server.port.number.value)
        .collect();
    let listed = Path::ROOT.field("spec.rules");
    for (at, rule) in spec.rules.iter().enumerate() {
        let path = listed.at(at);
        let operations = rule.to.iter().filter_map(|to| to.operation.as_ref());
        let of_ports = rule.when.iter().filter(|condition| condition.key.value == "destination.port");
        let asked = operations.clone().flat_map(|operation| &operation.ports).map(|port| (port, "to"));
        let asked = asked.chain(of_ports.flat_map(|condition| &condition.values).map(|port| (port, "when")));
        for (port, field) in asked {
            // What is no port at all was told.
            let is_there = port.parse::<u16>().map_or(true, |port| ports.contains(&port.into()));
            if !is_there && !ports.is_empty() {
                let message =
                    format!("no server of its Gateways has port {}: it fits no request", port.value);
                let known: Vec<String> = ports.iter().map(ToString::to_string).collect();
                let hint = format!("their ports are {}", known.join(", "));
                findings.warning(code::NO_EFFECT, port.place, &path.field(field), message, hint);
            }
        }
        for said in operations.flat_map(|operation| operation.paths.iter().chain(&operation.not_paths)) {
            let (why, hint) = match said.as_str() {
                "" => continue,
                text if !text.starts_with(['/', '*', '{']) => {
                    ("begins with /", "write / before it, or * for what ends so")
                }
                text if text.contains('?') => {
                    ("has no query: it ends before ?", "leave out ? and what follows")
                }
                _ => continue,
            };
            let message = format!("'{}' fits no request: a path {why}", said.value);
            findings.warning(code::NO_EFFECT, said.place, &path.field("to"), message, hint);
        }
        let is_custom = spec.action.is_some_and(|said| said.value == PolicyAction::Custom);
        if !has_tokens && !gateways.is_empty() && !is_custom {
            check_tokens(rule, spec.action.map(|said| said.value), &path, findings);
        }
    }
}

/// Of a rule that is asked where nobody verifies tokens.
fn check_tokens(
    rule: &PolicyRule,
    action: Option<PolicyAction>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let of_token = |key: &str| {
        let part = Part::of_key(key);
        matches!(part, Some(Part::RequestPrincipal | Part::Audience | Part::Presenter | Part::Claim(_)))
    };
    let sources = rule.from.iter().filter_map(|from| from.source.as_ref());
    let of_sources =
        sources.map(|source| ("from", &source.request_principals, &source.not_request_principals));
    let conditions = rule.when.iter().filter(|condition| of_token(&condition.key));
    let of_conditions = conditions.map(|condition| ("when", &condition.values, &condition.not_values));
    let hint = "a RequestAuthentication or a SessionAuth for the Gateway verifies tokens";
    for (field, wanted, unwanted) in of_sources.chain(of_conditions) {
        let so = match action {
            None | Some(PolicyAction::Allow) => "nobody is allowed by it",
            _ => "it fits no request",
        };
        for (first, so) in [(wanted.first(), so), (unwanted.first(), "it fits every request")] {
            if let Some(first) = first {
                let message = format!("no token is verified here: {so}");
                findings.warning(code::NO_EFFECT, first.place, &path.field(field), message, hint);
            }
        }
    }
}

/// Whether no request is refused for it, wherever it is asked: it is dry, only audits, denies nothing, or allows all.
pub(super) fn keeps_nobody_out(document: &AuthorizationPolicy) -> bool {
    let Some(spec) = &document.spec else { return false };
    let allows_all = |rule: &PolicyRule| rule.from.is_empty() && rule.to.is_empty() && rule.when.is_empty();
    document.dry_run.is_some_and(|flag| flag.value)
        || match spec.action.map_or(PolicyAction::Allow, |said| said.value) {
            PolicyAction::Audit => true,
            PolicyAction::Deny => spec.rules.is_empty(),
            PolicyAction::Allow => spec.rules.iter().any(allows_all),
            PolicyAction::Custom => false,
        }
}

/// The checks of these policies, in the order in which they are asked.
pub(super) fn checks(policies: &[&AuthorizationPolicy], findings: &Findings<'_>) -> Vec<Rbac> {
    let of = |action: PolicyAction, says: RbacAction, is_dry: bool| -> Option<RbacRules> {
        let is_it = |document: &&&AuthorizationPolicy| {
            let said = document.spec.as_ref().and_then(|spec| spec.action);
            said.map_or(PolicyAction::Allow, |said| said.value) == action
                && document.dry_run.is_some_and(|flag| flag.value) == is_dry
        };
        let documents: Vec<_> = policies.iter().filter(is_it).collect();
        let rules = documents.iter().flat_map(|document| rules_of(document, findings));
        (!documents.is_empty()).then(|| RbacRules { action: says, policies: rules.collect() })
    };
    let both = |action, says, prefix: &str| {
        let (rules, shadow) = (of(action, says, false), of(action, says, true));
        let shadow_prefix = if shadow.is_some() { prefix.to_owned() } else { String::new() };
        (rules.is_some() || shadow.is_some()).then_some(Rbac { rules, shadow, shadow_prefix })
    };
    let audit = of(PolicyAction::Audit, RbacAction::Log, false);
    let audit = audit.map(|rules| Rbac { rules: Some(rules), ..Rbac::default() });
    let deny = both(PolicyAction::Deny, RbacAction::Deny, "istio_dry_run_deny_");
    let allow = both(PolicyAction::Allow, RbacAction::Allow, "istio_dry_run_allow_");
    audit.into_iter().chain(deny).chain(allow).collect()
}

pub(super) fn rules_of(document: &AuthorizationPolicy, findings: &Findings<'_>) -> Vec<RbacPolicy> {
    let (namespace, name) = (document.meta.namespace(), &document.meta.name.value);
    let rules = document.spec.iter().flat_map(|spec| spec.rules.iter().enumerate());
    let policies = rules.map(|(at, rule)| {
        let (permissions, principals) = rule_of(rule, namespace, &mut |_, _, _, _| {});
        RbacPolicy {
            name: format!("ns[{namespace}]-policy[{name}]-rule[{at}]"),
            origin: findings.locate(rule.place),
            permissions,
            principals,
            condition: None,
        }
    });
    policies.collect()
}

/// Told with place and field, what is wrong, and what would be right.
pub(super) type Tell<'t> = dyn FnMut(Place, &str, &str, &str) + 't;

/// Permissions and principals of a rule.
fn rule_of(rule: &PolicyRule, namespace: &str, tell: &mut Tell<'_>) -> (Vec<AuthTest>, Vec<AuthTest>) {
    let (mut of_all, mut of_askers) = (Vec::new(), Vec::new());
    for condition in &rule.when {
        if condition.values.is_empty() && condition.not_values.is_empty() {
            tell(condition.place, "when", "a condition needs values or notValues", "");
        }
        match Part::of_key(&condition.key) {
            Some(said) => {
                let tests = join(&said, &condition.values, &condition.not_values, namespace, "when", tell);
                if said.side() == Side::What { of_all.extend(tests) } else { of_askers.extend(tests) }
            }
            None => tell(
                condition.key.place,
                "when",
                &format!("there is no key '{}'", condition.key.value),
                "request.headers[name], request.auth.claims[name], source.ip, remote.ip, source.namespace, \
                 source.principal, source.serviceAccount, source.trustDomain, request.auth.principal, \
                 request.auth.audiences, request.auth.presenter, destination.ip, destination.port or connection.sni",
            ),
        }
    }
    let mut principals = Vec::new();
    for from in &rule.from {
        let Some(said) = &from.source else {
            tell(from.place, "from", "it names no source", "leave out from, or write a source");
            continue;
        };
        let parts = [
            (Part::Principal, &said.principals, &said.not_principals),
            (Part::RequestPrincipal, &said.request_principals, &said.not_request_principals),
            (Part::Namespace, &said.namespaces, &said.not_namespaces),
            (Part::ServiceAccount, &said.service_accounts, &said.not_service_accounts),
            (Part::TrustDomain, &said.trust_domains, &said.not_trust_domains),
            (Part::RemoteIp, &said.remote_ip_blocks, &said.not_remote_ip_blocks),
            (Part::PeerIp, &said.ip_blocks, &said.not_ip_blocks),
        ];
        if parts.iter().all(|(_, values, others)| values.is_empty() && others.is_empty()) {
            tell(said.place, "from", "the source says nothing", "leave out from to take all");
        }
        let tests = parts
            .iter()
            .flat_map(|(said, values, others)| join(said, values, others, namespace, "from", tell));
        let tests: Vec<_> = tests.collect();
        principals.push(all(tests.into_iter().chain(of_askers.iter().cloned())));
    }
    if rule.from.is_empty() {
        principals.push(all(of_askers));
    }
    let mut permissions = Vec::new();
    for to in &rule.to {
        let Some(said) = &to.operation else {
            tell(to.place, "to", "it names no operation", "leave out to, or write an operation");
            continue;
        };
        let parts = [
            (Part::Host, &said.hosts, &said.not_hosts),
            (Part::Method, &said.methods, &said.not_methods),
            (Part::Path, &said.paths, &said.not_paths),
            (Part::Port, &said.ports, &said.not_ports),
        ];
        if parts.iter().all(|(_, values, others)| values.is_empty() && others.is_empty()) {
            tell(said.place, "to", "the operation says nothing", "leave out to to take all");
        }
        let tests =
            parts.iter().flat_map(|(said, values, others)| join(said, values, others, namespace, "to", tell));
        let tests: Vec<_> = tests.collect();
        permissions.push(all(tests.into_iter().chain(of_all.iter().cloned())));
    }
    if rule.to.is_empty() {
        permissions.push(all(of_all));
    }
    (permissions, principals)
}

/// One of the values, and none of the others.
fn join(
    said: &Part,
    values: &[Text],
    others: &[Text],
    namespace: &str,
    field: &str,
    tell: &mut Tell<'_>,
) -> Vec<AuthTest> {
    let mut any = |values: &[Text]| {
        let tests = values.iter().filter_map(|value| match part(said, &value.value, namespace) {
            Ok(test) => Some(test),
            Err((message, hint)) => {
                tell(value.place, field, &message, hint);
                None
            }
        });
        let tests: Vec<_> = tests.collect();
        (!values.is_empty()).then_some(AuthTest::Any(tests))
    };
    let (wanted, unwanted) = (any(values), any(others));
    wanted.into_iter().chain(unwanted.map(|test| AuthTest::Not(Box::new(test)))).collect()
}

fn all(tests: impl IntoIterator<Item = AuthTest>) -> AuthTest {
    let tests: Vec<_> = tests.into_iter().collect();
    if tests.is_empty() { AuthTest::Always } else { AuthTest::All(tests) }
}
