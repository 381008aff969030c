//! Policies of who may do what: `naru-identity` holds them against who asks.

use naru_base::Reason;
use naru_identity::{Asker, Authorization};
use naru_spec::{Invalid, Rbac};

use super::{CheckCount, Head, Memory, Refusal, Step};
use crate::View;

/// Policies, ready to be asked.
#[derive(Debug)]
pub struct CompiledPolicies {
    authorization: Authorization,
    names: Box<[String]>,
}

impl CompiledPolicies {
    pub(crate) fn new(said: &Rbac) -> Result<CompiledPolicies, Vec<Invalid>> {
        let rules = said.rules.iter().chain(&said.shadow).flat_map(|rules| &rules.policies);
        let names = rules.map(|policy| policy.name.clone()).collect();
        Authorization::compile(said).map(|authorization| CompiledPolicies { authorization, names })
    }

    /// Of its policies, in the order in which they are asked; those behind that only try are dry.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn decide(&self, head: &Head<'_>, memory: &Memory, view: &impl View) -> Step {
        let subject = head.subject(0);
        let session = memory.session.as_ref().map(|token| &token.claims);
        let asker = Asker { session, ..head.asker(&subject, &memory.identified, view.wall()) };
        if let Some(shadow) = self.authorization.decide_in_shadow(&asker) {
            let count = if shadow.is_allowed { CheckCount::ShadowAllowed } else { CheckCount::ShadowDenied };
            view.count_check(count);
            count_failed(shadow.failed, view);
        }
        let Some(decision) = self.authorization.decide(&asker) else { return Step::Pass };
        count_failed(decision.failed, view);
        if self.authorization.only_watches() {
            if decision.policy.is_some() {
                view.count_check(CheckCount::AuditMatched);
            }
            return Step::Pass;
        }
        view.count_check(if decision.is_allowed {
            CheckCount::PolicyAllowed
        } else {
            CheckCount::PolicyDenied
        });
        if decision.is_allowed {
            return Step::Pass;
        }
        Step::Refuse(Box::new(Refusal {
            details: Some(decision.details().into()),
            ..Refusal::of(Reason::PolicyDenied)
        }))
    }
}

fn count_failed(failed: u32, view: &impl View) {
    (0..failed).for_each(|_| view.count_check(CheckCount::ConditionFailed));
}
