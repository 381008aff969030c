//! What routes say of the cache: the policy of each rule that has one.

use std::sync::Arc;

use naru_route::RuleId;
use naru_spec::{Action, CacheKeyQuery, CachePolicy, RouteTable};

use crate::ChainId;

#[derive(Debug, Default)]
pub struct Caches {
    is_any: bool,
    /// By chain and rule; empty for a chain none of whose rules has any.
    by_rule: Vec<Vec<Option<Arc<CachePolicy>>>>,
    /// In which not all of the query counts, each once.
    queries: Vec<CacheKeyQuery>,
}

impl Caches {
    pub(crate) fn add_rules(&mut self, routes: &RouteTable) {
        let rules = routes.virtual_hosts.iter().flat_map(|host| &host.rules);
        let mut last: Option<Arc<CachePolicy>> = None;
        let of_rules = rules.map(|rule| match &rule.action {
            Action::Forward(forward) => {
                let policy = forward.cache.as_deref()?;
                // The rules of one VirtualService mostly have the same.
                let shared = match &last {
                    Some(last) if **last == *policy => Arc::clone(last),
                    _ => Arc::new(policy.clone()),
                };
                if shared.key.query != CacheKeyQuery::All && !self.queries.contains(&shared.key.query) {
                    self.queries.push(shared.key.query.clone());
                }
                last = Some(Arc::clone(&shared));
                Some(shared)
            }
            Action::Redirect(_) | Action::Direct(_) => None,
        });
        let of_rules: Vec<_> = of_rules.collect();
        let is_any = of_rules.iter().any(Option::is_some);
        self.is_any |= is_any;
        self.by_rule.push(if is_any { of_rules } else { Vec::new() });
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.is_any
    }

    pub fn of(&self, chain: ChainId, rule: RuleId) -> Option<&Arc<CachePolicy>> {
        self.by_rule.get(chain.0 as usize)?.get(rule.index())?.as_ref()
    }

    /// What keys have of queries, where that is not all.
    pub fn queries(&self) -> &[CacheKeyQuery] {
        &self.queries
    }

    /// Each that is there, perhaps several times.
    pub fn all(&self) -> impl Iterator<Item = &CachePolicy> {
        self.by_rule.iter().flatten().flatten().map(|policy| &**policy)
    }
}
