//! What is tried instead of an answer that is missing or bad: the chains of rules and of clusters, with the clusters
//! that they lead to.
//!
//! That of a rule goes before that of the cluster that a request was sent to. A cluster that is asked in place of
//! another has no say: a chain is never followed by another one.

use std::collections::BTreeMap;

use naru_base::ClusterId;
use naru_route::RuleId;
use naru_spec::{Action, Cluster, Fallback, FallbackAnswer, FallbackStep, RouteTable};

use crate::ChainId;

/// An index into [`Fallbacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackId(u32);

#[derive(Debug)]
pub struct CompiledFallback {
    pub chain: Fallback,
    /// By step.
    clusters: Vec<Option<ClusterId>>,
}

impl CompiledFallback {
    fn new(chain: &Fallback, ids: &BTreeMap<&str, ClusterId>) -> CompiledFallback {
        let clusters = chain.steps.iter().map(|step| match step {
            FallbackStep::Cluster(name) => ids.get(name.as_str()).copied(),
            FallbackStep::StaleResponse | FallbackStep::Answer(_) => None,
        });
        CompiledFallback { clusters: clusters.collect(), chain: chain.clone() }
    }

    pub(crate) fn cluster(&self, step: usize) -> Option<ClusterId> {
        self.clusters.get(step).copied().flatten()
    }

    /// How many steps behind this one ask somebody.
    pub(crate) fn clusters_after(&self, step: Option<usize>) -> usize {
        let first = step.map_or(0, |step| step + 1);
        self.clusters.iter().skip(first).flatten().count()
    }

    pub(crate) fn has_cluster_after(&self, step: Option<usize>) -> bool {
        self.clusters_after(step) > 0
    }

    /// The first step that cannot fail.
    pub(crate) fn sure_step(&self) -> Option<usize> {
        self.chain.steps.iter().position(|step| matches!(step, FallbackStep::Answer(_)))
    }

    /// The first step that gives what is kept.
    pub(crate) fn stale_step(&self) -> Option<usize> {
        self.chain.steps.iter().position(|step| matches!(step, FallbackStep::StaleResponse))
    }

    pub(crate) fn answer(&self, step: usize) -> Option<&FallbackAnswer> {
        match self.chain.steps.get(step)? {
            FallbackStep::Answer(answer) => Some(answer),
            FallbackStep::Cluster(_) | FallbackStep::StaleResponse => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Fallbacks {
    all: Vec<CompiledFallback>,
    by_cluster: Vec<Option<FallbackId>>,
    /// By chain and rule; empty for a chain none of whose rules has any.
    by_rule: Vec<Vec<Option<FallbackId>>>,
}

impl Fallbacks {
    pub(crate) fn add_rules(&mut self, routes: &RouteTable, ids: &BTreeMap<&str, ClusterId>) {
        let rules = routes.virtual_hosts.iter().flat_map(|host| &host.rules);
        let of_rules = rules.map(|rule| match &rule.action {
            Action::Forward(forward) => self.add(forward.fallback.as_ref(), ids),
            Action::Redirect(_) | Action::Direct(_) => None,
        });
        let of_rules: Vec<_> = of_rules.collect();
        let is_any = of_rules.iter().any(Option::is_some);
        self.by_rule.push(if is_any { of_rules } else { Vec::new() });
    }

    pub(crate) fn add_clusters(&mut self, clusters: &[Cluster], ids: &BTreeMap<&str, ClusterId>) {
        self.by_cluster = clusters.iter().map(|cluster| self.add(cluster.fallback.as_ref(), ids)).collect();
    }

    fn add(&mut self, chain: Option<&Fallback>, ids: &BTreeMap<&str, ClusterId>) -> Option<FallbackId> {
        let chain = chain?;
        // The rules of one VirtualService mostly have the same.
        if self.all.last().is_none_or(|last| last.chain != *chain) {
            self.all.push(CompiledFallback::new(chain, ids));
        }
        Some(FallbackId(self.all.len() as u32 - 1))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// That of a request that a rule sends to a cluster.
    pub fn of(&self, chain: ChainId, rule: RuleId, cluster: ClusterId) -> Option<FallbackId> {
        let of_rule = self.by_rule.get(chain.0 as usize).and_then(|rules| rules.get(rule.index()).copied());
        of_rule.flatten().or_else(|| self.by_cluster.get(cluster.index()).copied().flatten())
    }

    pub fn get(&self, id: FallbackId) -> Option<&CompiledFallback> {
        self.all.get(id.0 as usize)
    }
}
