//! Watching a decision as it is made.

use naru_base::{ClusterId, EndpointId};
use naru_route::Verdict;

/// Told of every decision of a journey. `()` is told too, and compiles to nothing: the live path
/// pays for no explanation.
pub trait Observer: naru_route::Observer {
    fn routed(&mut self, _verdict: Verdict) {}
    fn picked(&mut self, _cluster: ClusterId, _endpoint: Option<EndpointId>) {}
}

impl Observer for () {}
