//! What a search tells whoever watches it.

use crate::RuleId;

/// Watches a search. `()` watches nothing and costs nothing.
pub trait Observer {
    /// A block of a rule was looked at. Blocks that the tables passed by are not told; what the
    /// order of all rules says is told by [`crate::reference::explain`].
    #[inline]
    fn considered(&mut self, rule: RuleId, block: usize, outcome: Outcome) {
        let _ = (rule, block, outcome);
    }
}

impl Observer for () {}

/// How a block fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Matched,
    /// The first of the block's conditions that did not hold.
    Failed(Field),
}

/// The part of a request that a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    Path,
    Scheme,
    Method,
    Authority,
    Header,
    Query,
    Cookie,
    Source,
    Grpc,
    Fraction,
    Claim,
}
