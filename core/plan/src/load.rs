//! Limits of load, and what they are for.
//!
//! A service's limits hold for all of its subsets and ports together; those of a VirtualService for all of its routes,
//! unless a route has its own. Documents that want different things for the same target are a conflict.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_resource::load as said;
use naru_resource::{Meta, Number, Place, Placed, Resources, Seconds};
use naru_spec::limits::{Fault, StatusRange};
use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, Bulkhead, LoadLimits, MinRtt, Named, Path, RateClass, RateLimit,
    SuccessCriteria, code, defaults,
};

use crate::account::{Account, DOCUMENT, Idle, Said};
use crate::attached::{self, RouteKey, Target};
use crate::findings::Findings;
use crate::guards::breaker;
use crate::registry::Registry;

/// Limits by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    limits: BTreeMap<Target, LoadLimits>,
    /// Who said what, to tell who contradicts.
    said: BTreeMap<(Target, &'static str), Place>,
}

/// How long a request may wait at each of some limits.
pub(crate) fn waits(load: &LoadLimits) -> impl Iterator<Item = (&str, Duration)> {
    let bulkhead = load.bulkhead.as_ref().filter(|bulkhead| bulkhead.settings.waiting_max() > 0);
    let bulkhead = bulkhead.map(|bulkhead| (bulkhead.name.as_str(), bulkhead.settings.wait_max));
    let rate = load.rate.as_ref().map(|rate| (rate.name.as_str(), rate.settings.wait_max));
    bulkhead.into_iter().chain(rate)
}

impl Loads {
    pub fn of(
        resources: &Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Loads {
        let mut loads = Loads::default();
        for document in &resources.bulkheads {
            let (spec, meta) = (&document.spec, &document.meta);
            let reference = &spec.target_ref;
            attached::check_group(reference, findings);
            let target = Target::of(reference, "Bulkhead", meta.namespace(), resources, registry, findings);
            let settings = bulkhead(spec, findings);
            let Some(target) = target else { continue };
            expect(&target, "bulkhead", meta, account);
            if let Some(limits) = loads.claim(&target, "bulkhead", meta.name.place, findings) {
                limits.bulkhead = Some(Named { name: name(&target), settings });
            }
        }
        for document in &resources.circuit_breakers {
            let (spec, meta) = (&document.spec, &document.meta);
            attached::check_group(&spec.target_ref, findings);
            if spec.target_ref.kind.value != "VirtualService" {
                continue;
            }
            let settings = breaker::read(spec, findings);
            let (reference, namespace) = (&spec.target_ref, meta.namespace());
            let target = Target::of(reference, "CircuitBreaker", namespace, resources, registry, findings);
            let Some(target) = target else { continue };
            expect(&target, "circuitBreaker", meta, account);
            if let Some(limits) = loads.claim(&target, "circuitBreaker", meta.name.place, findings) {
                limits.breaker = Some(Named { name: name(&target), settings });
            }
        }
        for document in &resources.traffic_policies {
            let (spec, meta) = (&document.spec, &document.meta);
            // What is wrong with its reference has been told with its other fields.
            let mut quiet = Findings::new(&resources.files);
            let reference = &spec.target_ref;
            let target =
                Target::of(reference, "TrafficPolicy", meta.namespace(), resources, registry, &mut quiet);
            let place = |said: Option<Place>| said.unwrap_or(meta.name.place);
            let of_adaptive = place(spec.adaptive_concurrency.as_ref().map(|said| said.place));
            let of_admission = place(spec.admission_control.as_ref().map(|said| said.place));
            let of_rate = place(spec.outbound_rate.as_ref().map(|said| said.place));
            let adaptive = spec.adaptive_concurrency.as_ref().map(|said| adaptive(said, findings));
            let admission = spec.admission_control.as_ref().map(|said| admission(said, findings));
            let rate = spec.outbound_rate.as_ref().map(|said| rate(said, findings));
            let Some(target) = target else { continue };
            let name = name(&target);
            if let Some(settings) = adaptive
                && let Some(limits) = loads.claim(&target, "adaptiveConcurrency", of_adaptive, findings)
            {
                limits.adaptive = Some(Named { name: name.clone(), settings });
            }
            if let Some(settings) = admission
                && let Some(limits) = loads.claim(&target, "admissionControl", of_admission, findings)
            {
                limits.admission = Some(Named { name: name.clone(), settings });
            }
            if let Some(settings) = rate
                && let Some(limits) = loads.claim(&target, "outboundRate", of_rate, findings)
            {
                limits.rate = Some(Named { name, settings });
            }
        }
        loads
    }

    /// The limits of a target, unless somebody else said this of it already.
    fn claim(
        &mut self,
        target: &Target,
        field: &'static str,
        place: Place,
        findings: &mut Findings<'_>,
    ) -> Option<&mut LoadLimits> {
        if let Some(before) = self.said.get(&(target.clone(), field)) {
            let other = findings.locate(*before);
            let message = format!("two documents say '{field}' of {}: the other is {other}", name(target));
            findings.error(code::CONFLICT, place, &Path::ROOT.field("spec"), message, "join them");
            return None;
        }
        self.said.insert((target.clone(), field), place);
        Some(self.limits.entry(target.clone()).or_default())
    }

    pub fn of_service(&self, host: &str) -> LoadLimits {
        self.limits.get(&Target::Service(host.to_owned())).cloned().unwrap_or_default()
    }

    /// Of one route: each limit of the most specific that has it.
    pub fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> LoadLimits {
        let mut all = LoadLimits::default();
        for key in keys {
            let target = Target::Route(key.clone());
            let Some(own) = self.limits.get(&target) else { continue };
            let mut note = |field: &'static str, is_said: bool, is_free: bool| {
                if let Some(place) = self.said.get(&(target.clone(), field)).filter(|_| is_said) {
                    account.take_if(is_free, *place, field, Idle::Outdone);
                }
            };
            note("circuitBreaker", own.breaker.is_some(), all.breaker.is_none());
            note("bulkhead", own.bulkhead.is_some(), all.bulkhead.is_none());
            note("adaptiveConcurrency", own.adaptive.is_some(), all.adaptive.is_none());
            note("admissionControl", own.admission.is_some(), all.admission.is_none());
            note("outboundRate", own.rate.is_some(), all.rate.is_none());
            all = LoadLimits {
                breaker: all.breaker.or_else(|| own.breaker.clone()),
                bulkhead: all.bulkhead.or_else(|| own.bulkhead.clone()),
                adaptive: all.adaptive.or_else(|| own.adaptive.clone()),
                admission: all.admission.or_else(|| own.admission.clone()),
                rate: all.rate.or_else(|| own.rate.clone()),
            };
        }
        all
    }
}

/// Expects a document of its own that is for routes to act at one of them. A policy's fields are expected with its others.
fn expect(target: &Target, field: &'static str, meta: &Meta, account: &mut Account) {
    if let Target::Route(key) = target {
        let (place, path, route) = (meta.name.place, DOCUMENT.to_owned(), Some(key.clone()));
        account.expect(Said { place, field, path, route, otherwise: Idle::SendsNothing });
    }
}

/// What counts are kept by.
fn name(target: &Target) -> String {
    match target {
        Target::Service(host) => format!("Service/{host}"),
        Target::Route((namespace, name, None)) => format!("VirtualService/{namespace}/{name}"),
        Target::Route((namespace, name, Some(route))) => {
            format!("VirtualService/{namespace}/{name}/{route}")
        }
    }
}

/// Tells faults, each at the value that it is about.
struct Teller<'a> {
    path: Path<'a>,
    /// Of the whole.
    place: Place,
    places: Vec<(&'static str, Place)>,
}

impl<'a> Teller<'a> {
    fn new(path: Path<'a>, place: Place) -> Teller<'a> {
        Teller { path, place, places: Vec::new() }
    }

    fn tell(&self, faults: Vec<Fault>, findings: &mut Findings<'_>) {
        for (field, fault) in faults {
            let place = self.places.iter().find(|(known, _)| *known == field).map(|(_, place)| *place);
            let place = place.unwrap_or(self.place);
            findings.error(code::INVALID_VALUE, place, &self.path.field(field), fault.message, fault.hint);
        }
    }

    fn note<T>(&mut self, said: &Option<Placed<T>>, field: &'static str) {
        self.places.extend(said.as_ref().map(|said| (field, said.place)));
    }

    /// A count; one that is none is told.
    fn count(
        &mut self,
        said: &Option<Number>,
        field: &'static str,
        default: u32,
        findings: &mut Findings<'_>,
    ) -> u32 {
        self.note(said, field);
        let Some(said) = said else { return default };
        u32::try_from(said.value).unwrap_or_else(|_| {
            let message = format!("{} is out of range: 0 to {}", said.value, u32::MAX);
            findings.error(code::INVALID_VALUE, said.place, &self.path.field(field), message, "");
            default
        })
    }

    fn time(&mut self, said: &Option<Seconds>, field: &'static str, default: Duration) -> Duration {
        self.note(said, field);
        said.as_ref().map_or(default, |said| said.value)
    }

    fn percent(
        &mut self,
        said: &Option<Placed<f64>>,
        field: &'static str,
        default: Fraction,
        findings: &mut Findings<'_>,
    ) -> Fraction {
        self.note(said, field);
        let Some(said) = said else { return default };
        if !(0.0..=100.0).contains(&said.value) {
            let message = format!("{} is not a percentage", said.value);
            findings.error(code::INVALID_VALUE, said.place, &self.path.field(field), message, "0 to 100");
            return default;
        }
        Fraction::new((said.value * 10_000.0).round() as u32, Denominator::Million)
    }
}

fn bulkhead(said: &said::BulkheadSpec, findings: &mut Findings<'_>) -> Bulkhead {
    let default = Bulkhead::default();
    let mut teller = Teller::new(Path::ROOT.field("spec"), said.place);
    let wait_max = teller.time(&said.max_wait, "maxWait", default.wait_max);
    let settings = Bulkhead {
        concurrency_max: teller.count(
            &said.max_concurrent,
            "maxConcurrent",
            default.concurrency_max,
            findings,
        ),
        queue_max: teller.count(&said.max_queue, "maxQueue", default.queue_max, findings),
        wait_max,
    };
    teller.tell(settings.problems(), findings);
    if let Some(queue) = said.max_queue.as_ref().filter(|queue| queue.value > 0 && wait_max.is_zero()) {
        let message = "maxQueue has no effect where nobody may wait";
        let path = Path::ROOT.field("spec.maxQueue");
        findings.warning(code::NO_EFFECT, queue.place, &path, message, "set maxWait");
    }
    settings
}

fn adaptive(said: &said::AdaptiveConcurrency, findings: &mut Findings<'_>) -> AdaptiveConcurrency {
    let default = AdaptiveConcurrency::default();
    let mut teller = Teller::new(Path::ROOT.field("spec.adaptiveConcurrency"), said.place);
    let status = u32::from(default.refused_status);
    let settings = AdaptiveConcurrency {
        sample_percentile: teller.percent(
            &said.sample_percentile,
            "samplePercentile",
            default.sample_percentile,
            findings,
        ),
        concurrency_max: teller.count(
            &said.max_concurrency,
            "maxConcurrency",
            default.concurrency_max,
            findings,
        ),
        concurrency_min: teller.count(
            &said.min_concurrency,
            "minConcurrency",
            default.concurrency_min,
            findings,
        ),
        update_interval: teller.time(&said.update_interval, "updateInterval", default.update_interval),
        min_rtt: said.min_rtt.as_ref().map_or(default.min_rtt, |said| min_rtt(said, &mut teller, findings)),
        buffer: teller.percent(&said.buffer_percent, "bufferPercent", default.buffer, findings),
        refused_status: u16::try_from(teller.count(&said.refused_status, "refusedStatus", status, findings))
            .unwrap_or_default(),
    };
    teller.tell(settings.problems(), findings);
    settings
}

fn min_rtt(said: &said::MinRtt, teller: &mut Teller<'_>, findings: &mut Findings<'_>) -> MinRtt {
    if let Some(fixed) = &said.fixed {
        let others = [
            ("minRtt.interval", said.interval.as_ref().map(|value| value.place)),
            ("minRtt.jitterPercent", said.jitter_percent.as_ref().map(|value| value.place)),
            ("minRtt.requests", said.requests.as_ref().map(|value| value.place)),
        ];
        for (field, place) in others {
            if let Some(place) = place {
                let message = "a latency that is fixed is not measured";
                let path = teller.path.field(field);
                findings.error(code::CONFLICTING_FIELDS, place, &path, message, "remove it, or fixed");
            }
        }
        teller.note(&said.fixed, "minRtt.fixed");
        return MinRtt::Fixed(fixed.value);
    }
    let interval = defaults::ADAPTIVE_MIN_RTT_INTERVAL;
    let jitter = defaults::ADAPTIVE_JITTER;
    MinRtt::Measured {
        interval: teller.time(&said.interval, "minRtt.interval", interval),
        jitter: teller.percent(&said.jitter_percent, "minRtt.jitterPercent", jitter, findings),
        requests: teller.count(&said.requests, "minRtt.requests", defaults::ADAPTIVE_REQUESTS, findings),
    }
}

fn admission(said: &said::AdmissionControl, findings: &mut Findings<'_>) -> AdmissionControl {
    let default = AdmissionControl::default();
    let mut teller = Teller::new(Path::ROOT.field("spec.admissionControl"), said.place);
    teller.note(&said.aggression, "aggression");
    let aggression = said.aggression.as_ref().map(|said| (said.value * 1_000.0).round() as u32);
    let threshold = &said.success_threshold_percent;
    let settings = AdmissionControl {
        window: teller.time(&said.window, "window", default.window),
        success_threshold: teller.percent(
            threshold,
            "successThresholdPercent",
            default.success_threshold,
            findings,
        ),
        aggression_milli: aggression.unwrap_or(default.aggression_milli),
        rps_threshold: teller.count(&said.rps_threshold, "rpsThreshold", default.rps_threshold, findings),
        rejection_max: teller.percent(
            &said.max_rejection_percent,
            "maxRejectionPercent",
            default.rejection_max,
            findings,
        ),
        success: said.success.as_ref().map_or(default.success, |said| success(said, &mut teller)),
    };
    teller.tell(settings.problems(), findings);
    settings
}

/// What is not said of one of the two stays as it is. What cannot be is told with the rest.
fn success(said: &said::Success, teller: &mut Teller<'_>) -> SuccessCriteria {
    let mut criteria = SuccessCriteria::default();
    let status = |number: &Number| u16::try_from(number.value).unwrap_or(u16::MAX);
    if let Some(first) = said.http.first() {
        teller.places.push(("success.http", first.place));
        let ranges = said.http.iter();
        criteria.http =
            ranges.map(|range| StatusRange { from: status(&range.from), to: status(&range.to) }).collect();
    }
    if let Some(first) = said.grpc.first() {
        teller.places.push(("success.grpc", first.place));
        // A number that is no status has a bit that is none.
        let bit = |number: &Number| 1 << u32::try_from(number.value).unwrap_or(31).min(31);
        criteria.grpc = said.grpc.iter().fold(0, |bits: u32, number| bits | bit(number));
    }
    criteria
}

fn rate(said: &said::OutboundRate, findings: &mut Findings<'_>) -> RateLimit {
    let path = Path::ROOT.field("spec.outboundRate");
    let mut teller = Teller::new(path, said.place);
    if let Some(class) = &said.class {
        let others = [
            ("limitForPeriod", said.limit_for_period.as_ref().map(|value| value.place)),
            ("limitRefreshPeriod", said.limit_refresh_period.as_ref().map(|value| value.place)),
            ("timeoutDuration", said.timeout_duration.as_ref().map(|value| value.place)),
        ];
        for (field, place) in others {
            if let Some(place) = place {
                let message = "a class has its own numbers";
                findings.error(
                    code::CONFLICTING_FIELDS,
                    place,
                    &path.field(field),
                    message,
                    "remove it, or class",
                );
            }
        }
        let class = match class.value {
            said::RateClass::Critical => RateClass::Critical,
            said::RateClass::Default => RateClass::Default,
            said::RateClass::Conservative => RateClass::Conservative,
        };
        return class.limit();
    }
    for (field, is_said) in [
        ("limitForPeriod", said.limit_for_period.is_some()),
        ("limitRefreshPeriod", said.limit_refresh_period.is_some()),
    ] {
        if !is_said {
            let message = format!("the field '{field}' is missing");
            findings.error(code::MISSING_FIELD, said.place, &path, message, "or name a class");
            return RateClass::Default.limit();
        }
    }
    let settings = RateLimit {
        limit: teller.count(&said.limit_for_period, "limitForPeriod", 1, findings),
        period: teller.time(&said.limit_refresh_period, "limitRefreshPeriod", Duration::from_secs(1)),
        wait_max: teller.time(&said.timeout_duration, "timeoutDuration", defaults::RATE_WAIT_MAX),
    };
    teller.tell(settings.problems(), findings);
    settings
}
