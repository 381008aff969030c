//! Whether somebody may do what they ask for: policies, the first of which holds decides. Envoy's `rbac`.

use naru_condition::Condition;
use naru_spec::{Invalid, Rbac, RbacAction, RbacPolicy, RbacRules};

use crate::test::{Asker, Test};

/// Policies that are asked, and such that are only told of.
#[derive(Debug)]
pub struct Authorization {
    rules: Option<Rules>,
    shadow: Option<Rules>,
}

#[derive(Debug)]
pub(crate) struct Rules {
    action: RbacAction,
    policies: Box<[Policy]>,
}

#[derive(Debug)]
struct Policy {
    name: Box<str>,
    origin: Box<str>,
    permissions: Box<[Test]>,
    principals: Box<[Test]>,
    condition: Option<Condition>,
}

/// What rules say of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    pub is_allowed: bool,
    /// The policy that holds.
    pub policy: Option<&'a str>,
    /// Where it is written.
    pub origin: &'a str,
    /// Of so many policies it could not be told whether their condition holds.
    pub failed: u32,
}

impl Decision<'_> {
    /// `%RESPONSE_CODE_DETAILS%` of who is refused.
    pub fn details(&self) -> String {
        let policy = self.policy.unwrap_or("none");
        format!("rbac_access_denied_matched_policy[{}]", policy.replace(char::is_whitespace, "_"))
    }
}

impl Authorization {
    /// # Errors
    /// Every pattern that is none.
    pub fn compile(said: &Rbac) -> Result<Authorization, Vec<Invalid>> {
        let mut problems = Vec::new();
        let mut compile = |said: &RbacRules| Rules::compile(said, &mut problems);
        let rules = said.rules.as_ref().map(&mut compile);
        let shadow = said.shadow.as_ref().map(&mut compile);
        if problems.is_empty() { Ok(Authorization { rules, shadow }) } else { Err(problems) }
    }

    /// What the rules say; nothing without any.
    pub fn decide(&self, asker: &Asker<'_>) -> Option<Decision<'_>> {
        self.rules.as_ref().map(|rules| rules.decide(asker))
    }

    /// What the rules that nobody is refused by say.
    pub fn decide_in_shadow(&self, asker: &Asker<'_>) -> Option<Decision<'_>> {
        self.shadow.as_ref().map(|rules| rules.decide(asker))
    }

    /// Whether nobody is refused by it.
    pub fn only_watches(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.action == RbacAction::Log)
    }
}

impl Rules {
    pub(crate) fn compile(said: &RbacRules, problems: &mut Vec<Invalid>) -> Rules {
        let mut policies: Vec<&RbacPolicy> = said.policies.iter().collect();
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        let policies = policies.into_iter().map(|said| Policy {
            name: said.name.as_str().into(),
            origin: said.origin.as_str().into(),
            permissions: said.permissions.iter().map(|said| Test::compile(said, problems)).collect(),
            principals: said.principals.iter().map(|said| Test::compile(said, problems)).collect(),
            condition: said
                .condition
                .as_ref()
                .and_then(|said| Condition::compile(said).map_err(|found| problems.extend(found)).ok()),
        });
        Rules { action: said.action, policies: policies.collect() }
    }

    pub(crate) fn decide(&self, asker: &Asker<'_>) -> Decision<'_> {
        let holds = |tests: &[Test]| tests.iter().any(|test| test.holds(asker));
        let mut failed = 0;
        let mut is_met = |condition: &Condition| {
            asker.holds(condition).unwrap_or_else(|| {
                failed += 1;
                // Nobody comes in by a failure, and nobody is spared by one.
                self.action == RbacAction::Deny
            })
        };
        let found = self.policies.iter().find(|policy| {
            holds(&policy.permissions)
                && holds(&policy.principals)
                && policy.condition.as_ref().is_none_or(&mut is_met)
        });
        let is_allowed = match self.action {
            RbacAction::Allow => found.is_some(),
            RbacAction::Deny => found.is_none(),
            RbacAction::Log => true,
        };
        Decision {
            is_allowed,
            policy: found.map(|policy| &*policy.name),
            origin: found.map_or("", |policy| &policy.origin),
            failed,
        }
    }
}
