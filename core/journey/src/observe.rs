//! Watching a decision as it is made.

use naru_base::{ClusterId, EndpointId};
use naru_route::Verdict;

use crate::gate::{CompiledCheck, Question, Refusal};

/// Told of every decision of a journey. `()` is told too, and compiles to nothing: the live path
/// pays for no explanation.
pub trait Observer: naru_route::Observer {
    fn routed(&mut self, _verdict: Verdict) {}
    /// A check of the gate was asked, and says this.
    fn checked(&mut self, _check: &CompiledCheck, _said: CheckSaid<'_>) {}
    fn picked(&mut self, _cluster: ClusterId, _endpoint: Option<EndpointId>) {}
}

/// What a check has said.
#[derive(Clone, Copy, Debug)]
pub enum CheckSaid<'a> {
    Passed,
    Refused(&'a Refusal),
    Asks(&'a Question),
}

impl Observer for () {}
