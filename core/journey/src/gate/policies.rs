//! Policies of who may do what: `naru-identity` holds them against who asks.

use naru_base::Reason;
use naru_identity::Authorization;
use naru_spec::{Invalid, Rbac};

use super::{CheckCount, Head, Memory, Refusal, Step};
use crate::View;

/// Policies, ready to be asked.
#[derive(Debug)]
pub struct CompiledPolicies {
    authorization: Authorization,
}

impl CompiledPolicies {
    pub(crate) fn new(said: &Rbac) -> Result<CompiledPolicies, Vec<Invalid>> {
        Authorization::compile(said).map(|authorization| CompiledPolicies { authorization })
    }

    pub(crate) fn decide(&self, head: &Head<'_>, memory: &Memory, view: &impl View) -> Step {
        let subject = head.subject(0);
        let asker = head.asker(&subject, &memory.identified);
        if let Some(shadow) = self.authorization.decide_in_shadow(&asker) {
            let count = if shadow.is_allowed { CheckCount::ShadowAllowed } else { CheckCount::ShadowDenied };
            view.count_check(count);
        }
        let Some(decision) = self.authorization.decide(&asker) else { return Step::Pass };
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
