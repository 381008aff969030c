//! Which failures are made on purpose?
//!
//! Source: Envoy's `fault_filter.cc` and `fault_config.cc`: the settings are asked in its order, and
//! the delay and the end are rolled apart. Both are rolled at once; who carries them out ends the
//! request after the delay. `active` is how many requests are in a fault, which includes those that were ended
//! and are still there.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use naru_base::{Chance, Fraction};
use naru_route::HeaderTests;
use naru_spec::{AbortBy, DelayBy, Fault, FaultScope, Invalid};

const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
const NODE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-node");

/// What is done to a request or, by [`FaultScope::Upstream`], to an attempt. Nothing where both are
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Injection {
    /// Envoy's flag `DI`.
    pub delay: Option<Duration>,
    /// After the delay. Envoy's flag `FI`.
    pub abort: Option<Injected>,
}

/// The answer that is given, or that an upstream is said to have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    pub status: u16,
    pub grpc_status: Option<u8>,
}

impl Injection {
    pub fn is_none(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

#[derive(Clone, Debug)]
pub struct CompiledFault {
    spec: Fault,
    headers: HeaderTests,
}

impl CompiledFault {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &Fault) -> Result<CompiledFault, Vec<Invalid>> {
        let mut problems = spec.problems();
        let headers = HeaderTests::compile(&spec.headers).unwrap_or_else(|found| {
            problems.extend(found);
            HeaderTests::default()
        });
        if problems.is_empty() { Ok(CompiledFault { spec: spec.clone(), headers }) } else { Err(problems) }
    }

    pub fn scope(&self) -> FaultScope {
        self.spec.scope
    }

    /// What may be done to this request, and how often; `None` where the fault is not for it at all.
    pub fn odds(&self, headers: &HeaderMap, cluster: &str, active: u32) -> Option<Odds> {
        self.is_for(headers, cluster, active)
            .then(|| Odds { delay: self.delay(headers), abort: self.abort(headers) })
    }

    fn is_for(&self, headers: &HeaderMap, cluster: &str, active: u32) -> bool {
        let Fault { active_max, cluster: only, nodes, .. } = &self.spec;
        let is_of_node = || {
            let node = headers.get(NODE).and_then(|value| value.to_str().ok());
            node.is_some_and(|node| nodes.iter().any(|known| known == node))
        };
        active_max.is_none_or(|most| active < most)
            && only.as_ref().is_none_or(|only| only == cluster)
            && (nodes.is_empty() || is_of_node())
            && self.headers.all(headers)
    }

    fn delay(&self, headers: &HeaderMap) -> Option<(Duration, Fraction)> {
        let delay = self.spec.delay?;
        let (wait, share) = match delay.by {
            DelayBy::Fixed(wait) => (wait, delay.share),
            DelayBy::Header => {
                let wait = number(headers, DELAY).map(Duration::from_millis)?;
                (wait, share(delay.share, headers, DELAY_SHARE))
            }
        };
        (!wait.is_zero()).then_some((wait, share))
    }

    fn abort(&self, headers: &HeaderMap) -> Option<(Injected, Fraction)> {
        let abort = self.spec.abort?;
        let http = |status| Injected { status, grpc_status: None };
        let grpc = |status| Injected { status: 200, grpc_status: Some(status) };
        match abort.by {
            AbortBy::Status(status) => Some((http(status.as_u16()), abort.share)),
            AbortBy::Grpc(status) => Some((grpc(status), abort.share)),
            AbortBy::Header => {
                let status = number(headers, ABORT).filter(|status| (200..600).contains(status));
                let status = status.and_then(|status| u16::try_from(status).ok());
                let grpc_status = || number(headers, ABORT_GRPC).and_then(|n| u8::try_from(n).ok());
                let injected = status.map(http).or_else(|| grpc_status().map(grpc))?;
                Some((injected, share(abort.share, headers, ABORT_SHARE)))
            }
        }
    }
}

/// What a fault does to a request of those that it is for, each in its share of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odds {
    delay: Option<(Duration, Fraction)>,
    abort: Option<(Injected, Fraction)>,
}

impl Odds {
    /// Two draws are taken of `chance`.
    pub fn roll(&self, chance: &mut Chance) -> Injection {
        let (delay_draw, abort_draw) = (chance.draw(), chance.draw());
        Injection {
            delay: self.delay.and_then(|(wait, share)| share.takes(delay_draw).then_some(wait)),
            abort: self.abort.and_then(|(injected, share)| share.takes(abort_draw).then_some(injected)),
        }
    }
}

/// A header may make a share smaller, never larger.
fn share(most: Fraction, headers: &HeaderMap, name: HeaderName) -> Fraction {
    let asked = number(headers, name).and_then(|asked| u32::try_from(asked).ok());
    asked.map_or(most, |asked| Fraction::new(asked.min(most.numerator()), most.denominator()))
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use naru_base::share::Denominator;
    use naru_spec::{Abort, Delay, HeaderMatch, HeaderTest};

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const ALL: Fraction = Fraction::ALL;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn fixed(delay: Fraction, abort: Fraction) -> Fault {
        let status = AbortBy::Status(StatusCode::IM_A_TEAPOT);
        Fault::new(
            Some(Delay { by: DelayBy::Fixed(MS(5)), share: delay }),
            Some(Abort { by: status, share: abort }),
        )
    }

    fn roll(fault: &Fault, request: &[(&'static str, &str)], active: u32) -> Injection {
        let compiled = CompiledFault::compile(fault).unwrap();
        let odds = compiled.odds(&headers(request), "cluster", active);
        odds.map_or(Injection::default(), |odds| odds.roll(&mut Chance::new(1)))
    }

    #[test]
    fn delays_and_ends_are_rolled_apart() {
        let fault = CompiledFault::compile(&fixed(
            Fraction::new(300_000, Denominator::Million),
            Fraction::new(200_000, Denominator::Million),
        ));
        let fault = fault.unwrap();
        let mut chance = Chance::new(7);
        let (mut delays, mut ends, mut both) = (0, 0, 0);
        for _ in 0..100_000 {
            let injection = fault.odds(&HeaderMap::new(), "any", 0).unwrap().roll(&mut chance);
            delays += u32::from(injection.delay.is_some());
            ends += u32::from(injection.abort.is_some());
            both += u32::from(injection.delay.is_some() && injection.abort.is_some());
        }
        assert!((29_500..30_500).contains(&delays), "{delays}");
        assert!((19_500..20_500).contains(&ends), "{ends}");
        assert!((5_700..6_300).contains(&both), "{both}: not the product of the two");
    }

    #[test]
    fn one_in_a_million_is_one_in_a_million() {
        let rare = Fraction::new(1, Denominator::Million);
        let mut fault = fixed(rare, rare);
        fault.abort = None;
        let fault = CompiledFault::compile(&fault).unwrap();
        let mut chance = Chance::new(3);
        let odds = fault.odds(&HeaderMap::new(), "", 0).unwrap();
        let delays = (0..3_000_000).filter(|_| odds.roll(&mut chance).delay.is_some()).count();
        assert!((1..=9).contains(&delays), "{delays}");
    }

    #[test]
    fn a_fault_is_only_for_whom_it_is_for() {
        let all = fixed(ALL, ALL);
        assert!(!roll(&all, &[], 0).is_none());
        assert!(roll(&Fault { active_max: Some(2), ..all.clone() }, &[], 2).is_none());
        assert!(!roll(&Fault { active_max: Some(2), ..all.clone() }, &[], 1).is_none());
        assert!(roll(&Fault { active_max: Some(0), ..all.clone() }, &[], 0).is_none());
        assert!(roll(&Fault { cluster: Some("other".into()), ..all.clone() }, &[], 0).is_none());
        assert!(!roll(&Fault { cluster: Some("cluster".into()), ..all.clone() }, &[], 0).is_none());
        let node = Fault { nodes: vec!["a".into(), "b".into()], ..all.clone() };
        assert!(roll(&node, &[], 0).is_none());
        assert!(roll(&node, &[("x-envoy-downstream-service-node", "c")], 0).is_none());
        assert!(!roll(&node, &[("x-envoy-downstream-service-node", "b")], 0).is_none());
        let present = |name: &'static str| HeaderMatch {
            name: name.parse().unwrap(),
            test: HeaderTest::Present(true),
            invert: false,
            missing_as_empty: false,
        };
        let both = Fault { headers: vec![present("x-a"), present("x-b")], ..all };
        assert!(roll(&both, &[("x-a", "")], 0).is_none());
        assert!(!roll(&both, &[("x-a", ""), ("x-b", "")], 0).is_none());
    }

    #[test]
    fn headers_say_what_a_fault_does_within_what_is_set() {
        let half = Fraction::new(50, Denominator::Hundred);
        let fault = Fault::new(
            Some(Delay { by: DelayBy::Header, share: Fraction::ALL }),
            Some(Abort { by: AbortBy::Header, share: Fraction::ALL }),
        );
        let check = |request: &[(&'static str, &str)],
                     delay: Option<u64>,
                     abort: Option<(u16, Option<u8>)>| {
            let abort = abort.map(|(status, grpc_status)| Injected { status, grpc_status });
            assert_eq!(roll(&fault, request, 0), Injection { delay: delay.map(MS), abort }, "{request:?}");
        };
        check(&[], None, None);
        check(&[("x-envoy-fault-delay-request", "17")], Some(17), None);
        check(&[("x-envoy-fault-delay-request", "0")], None, None);
        check(&[("x-envoy-fault-delay-request", "-1")], None, None);
        check(
            &[("x-envoy-fault-delay-request", "17"), ("x-envoy-fault-delay-request-percentage", "0")],
            None,
            None,
        );
        check(&[("x-envoy-fault-abort-request", "503")], None, Some((503, None)));
        check(&[("x-envoy-fault-abort-request", "600")], None, None);
        check(&[("x-envoy-fault-abort-grpc-request", "14")], None, Some((200, Some(14))));
        check(
            &[("x-envoy-fault-abort-request", "429"), ("x-envoy-fault-abort-grpc-request", "14")],
            None,
            Some((429, None)),
        );
        let most =
            |asked| share(half, &headers(&[("x-envoy-fault-abort-request-percentage", asked)]), ABORT_SHARE);
        assert_eq!(most("100").numerator(), 50, "never more than is set");
        assert_eq!(most("7").numerator(), 7);
        assert_eq!(most("x").numerator(), 50);
    }
}
