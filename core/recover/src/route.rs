//! What one route says of failures, ready to be asked.

use naru_spec::{AutoTimeout, Fault, Forward, Invalid, Mirror};

use crate::CompiledRetry;
use crate::fault::CompiledFault;

#[derive(Clone, Debug, Default)]
pub struct RouteRecovery {
    pub retry: CompiledRetry,
    pub fault: Option<CompiledFault>,
    pub mirrors: Box<[Mirror]>,
    /// Who observes response times keeps a [`crate::auto::Observed`] for the route.
    pub auto_timeout: Option<AutoTimeout>,
    /// It says more than how failures are retried: one look saves several.
    pub has_more: bool,
}

impl RouteRecovery {
    /// `of_listener` is the fault of routes that say nothing of faults.
    ///
    /// # Errors
    /// Everything that is wrong with any of it.
    pub fn compile(forward: &Forward, of_listener: Option<&Fault>) -> Result<RouteRecovery, Vec<Invalid>> {
        let mut problems = naru_spec::fault::mirror_problems(&forward.mirrors);
        problems.extend(forward.auto_timeout.iter().flat_map(AutoTimeout::problems));
        let mut told = |found: Vec<Invalid>| problems.extend(found);
        let retry = match &forward.retry {
            Some(policy) => CompiledRetry::compile(policy, forward.hedge),
            None => CompiledRetry::none(forward.hedge),
        };
        let retry = retry.map_err(&mut told).unwrap_or_default();
        let fault = forward.fault.as_ref().or(of_listener).filter(|fault| fault.does_something());
        let fault = fault.map(CompiledFault::compile).transpose().map_err(&mut told);
        if !problems.is_empty() {
            return Err(problems);
        }
        let fault = fault.unwrap_or_default();
        let auto_timeout = forward.auto_timeout;
        let has_more = fault.is_some()
            || auto_timeout.is_some()
            || !forward.mirrors.is_empty()
            || retry.begins_with_several()
            || retry.per_try_idle_timeout.is_some();
        Ok(RouteRecovery { retry, fault, mirrors: forward.mirrors.clone().into(), auto_timeout, has_more })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_spec::{Delay, DelayBy, Hedge, RetryOn, RetryPolicy};

    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_together() {
        assert!(RouteRecovery::compile(&Forward::to("a"), None).is_ok());
        let delay = Delay { by: DelayBy::Fixed(Duration::ZERO), share: naru_base::Fraction::ALL };
        let forward = Forward {
            retry: Some(RetryPolicy { retries_max: 65, ..RetryPolicy::new(RetryOn::RESET) }),
            fault: Some(Fault::new(Some(delay), None)),
            mirrors: vec![Mirror::to("b"); 33],
            auto_timeout: Some(AutoTimeout { factor_percent: 0, ..AutoTimeout::default() }),
            ..Forward::to("a")
        };
        assert_eq!(RouteRecovery::compile(&forward, None).unwrap_err().len(), 4);
    }

    #[test]
    fn a_fault_of_the_listener_is_for_routes_that_say_nothing() {
        let delay = Delay { by: DelayBy::Fixed(Duration::from_millis(1)), share: naru_base::Fraction::ALL };
        let of_listener = Fault::new(Some(delay), None);
        let has_fault =
            |forward: &Forward| RouteRecovery::compile(forward, Some(&of_listener)).unwrap().fault.is_some();
        let silent = Forward::to("a");
        assert!(has_fault(&silent));
        assert!(!has_fault(&Forward { fault: Some(Fault::new(None, None)), ..silent }));
    }

    #[test]
    fn a_hedge_needs_no_retry_policy() {
        let forward = Forward { hedge: Some(Hedge { initial: 2, ..Hedge::default() }), ..Forward::to("a") };
        assert_eq!(RouteRecovery::compile(&forward, None).unwrap().retry.hedge.initial, 2);
        let forward = Forward { hedge: Some(Hedge { initial: 5, ..Hedge::default() }), ..Forward::to("a") };
        assert!(RouteRecovery::compile(&forward, None).is_err());
    }
}
