//! Which copies of a request are made, and by what they are decided.

use http::Method;
use naru_base::{AttemptId, ClusterId};
use naru_recover::mirror::{Rolled, roll};
use naru_route::RuleId;
use naru_spec::Mirror;

use super::Journey;
use crate::shadow::ShadowFacts;
use crate::{Snapshot, Worker};

/// The copies of one request.
#[derive(Clone, Copy, Debug)]
pub struct Copies<'a> {
    pub rule: RuleId,
    /// The request's own cluster.
    pub cluster: ClusterId,
    pub facts: ShadowFacts,
    mirrors: &'a [Mirror],
    clusters: &'a [Option<ClusterId>],
    rolled: Rolled,
}

impl<'a> Copies<'a> {
    /// Each with its position among the mirrors of the rule, and where it goes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Mirror, ClusterId)> + use<'a> {
        let (mirrors, clusters) = (self.mirrors, self.clusters);
        let here = self.rolled.positions();
        here.filter_map(move |at| Some((at, mirrors.get(at)?, (*clusters.get(at)?)?)))
    }
}

impl Journey {
    /// Asked when an attempt is about to be sent: copies are made once for a request, when it is sent first, whatever
    /// becomes of it then, as in Envoy (`Filter::decodeHeaders`). A tunnel is not copied, nor what asks for another
    /// protocol.
    #[inline]
    pub fn is_mirrored(&self, snapshot: &Snapshot, attempt: AttemptId) -> bool {
        self.has_more
            && attempt == AttemptId(0)
            && !self.is_tunnel
            && !self.request.is_upgrade
            && self.rule().is_some_and(|(rule, _)| !snapshot.chain(self.chain).mirrored(rule).is_empty())
    }

    /// The copies of a request that [`Journey::is_mirrored`], where chance and its method want any.
    #[cold]
    pub fn copies<'a>(
        &self,
        snapshot: &'a Snapshot,
        method: &Method,
        worker: &mut Worker,
    ) -> Option<Copies<'a>> {
        let ((rule, _), cluster) = self.rule().zip(self.cluster)?;
        let chain = snapshot.chain(self.chain);
        let mirrors = &chain.recovery(rule).mirrors;
        let rolled = roll(mirrors, method, worker.copies.draw());
        let facts = ShadowFacts {
            response_timeout: self.clock.response_timeout,
            idle_timeout: self.clock.idle_timeout,
            is_grpc: self.request.is_grpc,
            has_ended: self.clock.request_ended.is_some(),
        };
        let clusters = chain.mirrored(rule);
        (!rolled.is_empty()).then_some(Copies { rule, cluster, facts, mirrors, clusters, rolled })
    }
}
