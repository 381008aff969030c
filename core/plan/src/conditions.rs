//! What the conditions of an `EdgePolicy` become: policies as those of Istio, with an expression of CEL each.
//!
//! Whoever one of `deny` holds for is refused; where there are any in `allow`, whoever none of them holds for is, too. A
//! text that is no condition, or can never come to a yes or a no, is told where it stands.

use naru_condition::{Condition, check, parse};
use naru_resource::edge_policy::{EdgeCondition, EdgeConditions};
use naru_spec::{AuthTest, Cel, Check, CheckKind, Path, Rbac, RbacAction, RbacPolicy, RbacRules, code};

use crate::findings::Findings;

/// What they are called by in the gate.
pub(crate) const CONDITIONS: &str = "conditions";

/// Those that refuse, then those that allow.
pub(crate) fn read(said: &EdgeConditions, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<Check> {
    if said.allow.is_empty() && said.deny.is_empty() {
        let message = "it allows everybody, and denies nobody";
        findings.error(code::MISSING_FIELD, said.place, path, message, "say allow, deny or both");
    }
    let is_shadow = said.shadow.as_ref().is_some_and(|flag| flag.value);
    let mut checks = Vec::new();
    let lists = [("deny", &said.deny, RbacAction::Deny), ("allow", &said.allow, RbacAction::Allow)];
    for (field, list, action) in lists {
        let path = path.field(field);
        let mut policies: Vec<RbacPolicy> = Vec::new();
        for (at, one) in list.iter().enumerate() {
            let path = path.at(at);
            let name = format!("{CONDITIONS}[{}]", one.name.value);
            if policies.iter().any(|known| known.name == name) {
                let message = format!("another one is called '{}'", one.name.value);
                findings.error(code::DUPLICATE, one.name.place, &path.field("name"), message, "");
            }
            let Some(condition) = condition(one, &path.field("when"), findings) else { continue };
            policies.push(RbacPolicy {
                name,
                origin: findings.locate(one.place),
                permissions: vec![AuthTest::Always],
                principals: vec![AuthTest::Always],
                condition: Some(condition),
            });
        }
        if list.is_empty() {
            continue;
        }
        let rules = Some(RbacRules { action, policies });
        let rbac = if is_shadow {
            Rbac { shadow: rules, ..Rbac::default() }
        } else {
            Rbac { rules, ..Rbac::default() }
        };
        checks.push(Check { name: format!("{CONDITIONS}/{field}"), kind: CheckKind::Rbac(Box::new(rbac)) });
    }
    checks
}

/// Nothing where it is told what is wrong.
fn condition(said: &EdgeCondition, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Cel> {
    let tree = match parse(&said.when) {
        Ok(tree) => tree,
        Err(wrong) => {
            let hint = "CEL: request.method == 'GET' && request.url_path.startsWith('/shop/')";
            findings.error(code::INVALID_VALUE, said.when.place, path, wrong.to_string(), hint);
            return None;
        }
    };
    let mut problems = Condition::compile(&tree).err().unwrap_or_default();
    if problems.is_empty() {
        problems = check(&tree);
    }
    let is_sound = problems.is_empty();
    for problem in problems {
        findings.error(code::INVALID_VALUE, said.when.place, path, problem.message, &problem.hint);
    }
    is_sound.then_some(tree)
}
