//! The named limits of a snapshot, and by which of them a request has to pass.
//!
//! A route and the cluster that it leads to may both have some. A request passes them kind by kind, those of the
//! route before those of the cluster: whether it is cut off by a breaker, whether it is left out by chance, whether
//! there is room, when its turn is, whether the latency allows for it. What is limited by the same name is one limit. Counts are the shell's, and kept
//! by name over changes of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{ClusterId, Instant, Reason};
use naru_guard::AttemptResult;
use naru_route::RuleId;
use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, Bulkhead, CircuitBreaker, LoadLimits, Named, RateLimit,
};

use crate::ChainId;

/// An index into [`NamedLimits::all`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u32);

impl LimitId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A limit with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLimit {
    pub name: String,
    pub limit: Limit,
}

/// In the order in which a request passes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    Breaker(CircuitBreaker),
    Admission(AdmissionControl),
    Bulkhead(Bulkhead),
    Rate(RateLimit),
    Adaptive(AdaptiveConcurrency),
}

impl Limit {
    pub fn kind(&self) -> &'static str {
        match self {
            Limit::Breaker(_) => "circuit_breaker",
            Limit::Admission(_) => "admission_control",
            Limit::Bulkhead(_) => "bulkhead",
            Limit::Rate(_) => "rate_limit",
            Limit::Adaptive(_) => "adaptive_concurrency",
        }
    }
}

/// What a limit says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Admitted,
    /// By a breaker, that wants this back with the outcome.
    Ticketed(naru_guard::Ticket),
    /// It waits in a line: for its turn, but no longer than to the deadline.
    InLine {
        queued: Queued,
        deadline: Instant,
    },
    /// It may pass then.
    Until(Instant),
    Refused(Reason),
    /// By a breaker, which may let it through after this long, where it knows.
    CutOff {
        retry_after: Option<Duration>,
    },
}

/// A place in the line of a limit, and what whoever waits is woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub ticket: naru_admit::Ticket,
    pub waiter: naru_admit::Waiter,
}

/// How a request that was at a limit goes away from it: once for each that admitted it or had it wait in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Without having passed, or without knowing that it may.
    Line(Queued),
    Done(Ending),
}

/// What became of a request that had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When it passed its last limit, if it passed all of them and there was an endpoint to try.
    pub sent: Option<Instant>,
    /// Of its response; 0 where there was none.
    pub status: u16,
    pub grpc_status: Option<u8>,
    /// The client has not waited for it.
    pub is_cancelled: bool,
    /// To whoever called, after all attempts.
    pub result: AttemptResult,
    /// From when the request began to its answer.
    pub duration: Duration,
    /// What a breaker let it through with.
    pub ticket: Option<naru_guard::Ticket>,
}

/// By kind.
pub(crate) type Row = [Option<LimitId>; KINDS];
pub(crate) const KINDS: usize = 5;

#[derive(Debug, Default)]
pub struct NamedLimits {
    pub all: Vec<NamedLimit>,
    by_cluster: Vec<Row>,
    /// By chain and rule.
    by_rule: Vec<Vec<Row>>,
}

impl NamedLimits {
    pub(crate) fn of<'a>(
        clusters: impl Iterator<Item = &'a LoadLimits>,
        chains: impl Iterator<Item = Vec<Option<&'a LoadLimits>>>,
    ) -> NamedLimits {
        let mut all = Vec::new();
        let mut known = BTreeMap::new();
        let mut row = |load: &LoadLimits| {
            let mut id = |named: NamedLimit| {
                let next = LimitId(all.len() as u32);
                let key = (named.limit.kind(), named.name.clone());
                *known.entry(key).or_insert_with(|| {
                    all.push(named);
                    next
                })
            };
            let LoadLimits { breaker, bulkhead, adaptive, admission, rate } = load;
            [
                breaker.as_ref().map(|named| id(with_name(named, Limit::Breaker))),
                admission.as_ref().map(|named| id(with_name(named, Limit::Admission))),
                bulkhead.as_ref().map(|named| id(with_name(named, Limit::Bulkhead))),
                rate.as_ref().map(|named| id(with_name(named, Limit::Rate))),
                adaptive.as_ref().map(|named| id(with_name(named, Limit::Adaptive))),
            ]
        };
        let by_cluster = clusters.map(&mut row).collect();
        let rules = |rules: Vec<Option<&LoadLimits>>| {
            rules.into_iter().map(|load| load.map_or([None; KINDS], &mut row)).collect()
        };
        let by_rule = chains.map(rules).collect();
        NamedLimits { all, by_cluster, by_rule }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, id: LimitId) -> Option<&NamedLimit> {
        self.all.get(id.index())
    }

    pub(crate) fn of_cluster(&self, cluster: ClusterId, kind: usize) -> Option<LimitId> {
        *self.by_cluster.get(cluster.index())?.get(kind)?
    }

    /// The limits in their order: the even steps are the route's, the odd ones the cluster's.
    pub(crate) fn at(
        &self,
        chain: ChainId,
        rule: RuleId,
        cluster: ClusterId,
        step: usize,
    ) -> Option<LimitId> {
        let row = if step.is_multiple_of(2) {
            self.by_rule.get(chain.0 as usize)?.get(rule.0 as usize)?
        } else {
            self.by_cluster.get(cluster.index())?
        };
        *row.get(step / 2)?
    }
}

fn with_name<T: Clone>(named: &Named<T>, limit: impl FnOnce(T) -> Limit) -> NamedLimit {
    NamedLimit { name: named.name.clone(), limit: limit(named.settings.clone()) }
}
