//! What is tried next, where the answer is missing or bad?
//!
//! A chain of [`FallbackStep`]s in order, as Traefik's `failover` and Spring Cloud Gateway's
//! `fallbackUri` have one step of. Who carries a step out says what became of it, and asks again.

use naru_spec::{Fallback, FallbackStep};

/// What became of the request itself, or of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The breaker let it not through.
    CutOff,
    NoEndpoint,
    /// No answer came.
    NoAnswer,
    /// A limit had no room for it.
    Limited,
    Answered {
        status: u16,
    },
    /// There is nothing in the cache.
    NotCached,
}

/// The step to try after the one at `after` (`None`: after the request itself), and its place in
/// the chain. `None` where the chain ends, or where this is no failure: of the request itself what
/// the chain says, of a step whatever is no answer. A request that cannot be sent (again) is not
/// given to another cluster.
pub fn next(
    chain: &Fallback,
    after: Option<usize>,
    failed: Failed,
    may_send: bool,
) -> Option<(usize, &FallbackStep)> {
    let is_failure = match failed {
        Failed::Answered { status } => chain.on.statuses.iter().any(|range| range.has(status)),
        _ if after.is_some() => true,
        Failed::CutOff => chain.on.is_cut_off,
        Failed::NoEndpoint => chain.on.has_no_endpoint,
        Failed::NoAnswer => chain.on.is_failed,
        Failed::Limited => chain.on.is_limited,
        Failed::NotCached => true,
    };
    if !is_failure {
        return None;
    }
    let first = after.map_or(0, |after| after.saturating_add(1));
    let steps = chain.steps.iter().enumerate().skip(first);
    steps.into_iter().find(|(_, step)| may_send || !matches!(step, FallbackStep::Cluster(_)))
}

#[cfg(test)]
mod tests {
    use naru_spec::{FallbackOn, StatusRange};

    use super::*;

    #[test]
    fn steps_follow_in_order_and_only_on_failures() {
        let chain = Fallback {
            on: FallbackOn {
                statuses: vec![StatusRange::new(500, 504).unwrap()],
                has_no_endpoint: false,
                ..FallbackOn::default()
            },
            steps: vec![
                FallbackStep::Cluster("v1".into()),
                FallbackStep::StaleResponse,
                FallbackStep::Cluster("archive".into()),
            ],
        };
        let check = |after, failed, may_send, expected: Option<usize>| {
            let found = next(&chain, after, failed, may_send).map(|(at, _)| at);
            assert_eq!(found, expected, "{after:?} {failed:?} {may_send}");
        };
        check(None, Failed::CutOff, true, Some(0));
        check(None, Failed::CutOff, false, Some(1));
        check(None, Failed::NoEndpoint, true, None);
        check(None, Failed::Limited, true, None);
        check(Some(0), Failed::NoEndpoint, true, Some(1));
        check(Some(0), Failed::Limited, true, Some(1));
        check(Some(0), Failed::Answered { status: 404 }, true, None);
        check(Some(0), Failed::Answered { status: 503 }, true, Some(1));
        check(None, Failed::Answered { status: 404 }, true, None);
        check(None, Failed::Answered { status: 503 }, true, Some(0));
        check(Some(0), Failed::NoAnswer, true, Some(1));
        check(Some(1), Failed::NotCached, true, Some(2));
        check(Some(1), Failed::NotCached, false, None);
        check(Some(2), Failed::NoAnswer, true, None);
        check(Some(usize::MAX), Failed::NoAnswer, true, None);
    }
}
