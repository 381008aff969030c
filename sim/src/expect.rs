//! What was expected of a scenario, beside what was measured.
//!
//! Each expectation has meters of its own, so that a window may begin and end anywhere. A request
//! counts for the window that it began in, however long it took.

use std::net::SocketAddr;

use naru_base::{Instant, Reason};
use serde::Serialize;

use crate::change::StateChange;
use crate::latencies::Latencies;
use crate::scenario::Measure;
use crate::transcript::Change;

/// Counts what begins within a window.
#[derive(Clone, Debug)]
pub struct Meter {
    pub from: Instant,
    pub to: Instant,
    begun: u64,
    ended: u64,
    errors: u64,
    /// Which ends are counted, and how many there were.
    wanted: Option<Reason>,
    matched: u64,
    kept: u64,
    latencies: Latencies,
}

impl Meter {
    pub fn new(from: Instant, to: Instant) -> Meter {
        Meter {
            from,
            to,
            begun: 0,
            ended: 0,
            errors: 0,
            wanted: None,
            matched: 0,
            kept: 0,
            latencies: Latencies::default(),
        }
    }

    /// Counts what ends for a reason.
    pub fn of_reason(self, wanted: Option<Reason>) -> Meter {
        Meter { wanted, ..self }
    }

    /// Of a request whose end is known by its reason.
    #[inline]
    pub fn on_reason(&mut self, began: Instant, reason: Reason) {
        if self.is_meant(began) {
            self.kept += u64::from(reason.is_cached());
            self.matched += u64::from(self.wanted == Some(reason));
        }
    }

    fn is_meant(&self, began: Instant) -> bool {
        self.from <= began && began < self.to
    }

    #[inline]
    pub fn on_begun(&mut self, now: Instant) {
        self.begun += u64::from(self.is_meant(now));
    }

    #[inline]
    pub fn on_ended(&mut self, began: Instant, micros: u64, is_error: bool) {
        if self.is_meant(began) {
            self.ended += 1;
            self.errors += u64::from(is_error);
            self.latencies.record(micros);
        }
    }
}

/// Where a meter is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterAt {
    /// Among those of the loads.
    Loads(usize),
    /// Among those of the services.
    Services(usize),
}

/// An expectation that makes sense. Bounds are in the unit of what is measured: microseconds,
/// millionths of all, thousandths, thousandths an hour.
#[derive(Clone, Debug)]
pub struct Expected {
    pub measure: Measure,
    /// `load shoppers from 10.000000s`.
    pub of: String,
    pub meter: MeterAt,
    /// What it is a share or a multiple of.
    pub of_meter: Option<MeterAt>,
    pub change: Option<StateChange>,
    pub reason: Option<Reason>,
    /// Whose changes; everybody's where there are none.
    pub addresses: Vec<SocketAddr>,
    pub from: Instant,
    /// At most the end of the scenario.
    pub to: Instant,
    pub at_least: Option<Bound>,
    pub at_most: Option<Bound>,
}

#[derive(Clone, Debug)]
pub struct Bound {
    pub value: u128,
    pub written: String,
}

/// An expectation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub holds: bool,
    /// `p99 of load shoppers`.
    pub what: String,
    /// `at most 250ms`.
    pub expected: String,
    /// `312.500ms`; `nothing` where nothing was there to be measured.
    pub measured: String,
}

/// The meters of loads and services, and all changes.
#[derive(Debug)]
pub struct Measured<'a> {
    pub loads: &'a mut [Meter],
    pub services: &'a mut [Meter],
    pub changes: &'a [Change],
}

impl Expected {
    pub fn judge(&self, measured: &mut Measured<'_>) -> Judged {
        let value = self.value(measured);
        let holds = value.is_some_and(|value| {
            self.at_least.as_ref().is_none_or(|bound| value >= bound.value)
                && self.at_most.as_ref().is_none_or(|bound| value <= bound.value)
        });
        let least = self.at_least.as_ref().map(|bound| format!("at least {}", bound.written));
        let most = self.at_most.as_ref().map(|bound| format!("at most {}", bound.written));
        let bounds: Vec<String> = least.into_iter().chain(most).collect();
        let kind = self.change.map_or(String::new(), |change| format!(" to {}", change.name()));
        let kind = self.reason.map_or(kind, |reason| format!(" {}", reason.name()));
        Judged {
            holds,
            what: format!("{}{kind} of {}", self.measure.name(), self.of),
            expected: bounds.join(", "),
            measured: value.map_or_else(|| "nothing".to_owned(), |value| self.in_words(value)),
        }
    }

    fn value(&self, measured: &mut Measured<'_>) -> Option<u128> {
        let ratio = |part: u64, whole: u64, unit: u128| {
            (whole > 0).then(|| u128::from(part) * unit / u128::from(whole))
        };
        if self.measure == Measure::Changes {
            let is_meant = |change: &&Change| {
                let at = Instant(change.at_us.saturating_mul(1_000));
                let is_of = self.addresses.is_empty()
                    || change.address.is_some_and(|address| self.addresses.contains(&address));
                change.state == self.change && is_of && self.from <= at && at < self.to
            };
            return Some(measured.changes.iter().filter(is_meant).count() as u128);
        }
        let whole = self.of_meter.and_then(|at| measured.at(at)).map_or(0, |meter| meter.begun);
        let meter = measured.at(self.meter)?;
        let any = (meter.ended > 0).then_some(());
        match self.measure {
            Measure::Quantile(millionths) => any.map(|()| meter.latencies.quantile(millionths).into()),
            Measure::Mean => any.map(|()| meter.latencies.mean().into()),
            Measure::Max => any.map(|()| meter.latencies.max().into()),
            Measure::Errors => ratio(meter.errors, meter.ended, 1_000_000),
            Measure::Kept => ratio(meter.kept, meter.ended, 1_000_000),
            Measure::Reasons => Some(meter.matched.into()),
            Measure::Requests => Some(meter.begun.into()),
            Measure::Rate => {
                let nanos = u128::from(self.to.0.saturating_sub(self.from.0));
                let hour = 3_600 * 1_000_000_000;
                (nanos > 0).then(|| u128::from(meter.begun) * 1_000 * hour / nanos)
            }
            Measure::Amplification => ratio(meter.begun, whole, 1_000),
            Measure::Share => ratio(meter.begun, whole, 1_000_000),
            Measure::Changes => None,
        }
    }

    fn in_words(&self, value: u128) -> String {
        let decimal = |value: u128, unit: u128, places: usize| {
            format!("{}.{:0places$}", value / unit, value % unit * 10_u128.pow(places as u32) / unit)
        };
        match self.measure {
            Measure::Quantile(_) | Measure::Mean | Measure::Max => format!("{}ms", decimal(value, 1_000, 3)),
            Measure::Errors | Measure::Share | Measure::Kept => format!("{}%", decimal(value, 10_000, 4)),
            Measure::Requests | Measure::Changes | Measure::Reasons => value.to_string(),
            Measure::Rate => format!("{}/s", decimal(value, 3_600_000, 3)),
            Measure::Amplification => format!("{}x", decimal(value, 1_000, 3)),
        }
    }
}

impl Measured<'_> {
    fn at(&mut self, at: MeterAt) -> Option<&mut Meter> {
        match at {
            MeterAt::Loads(at) => self.loads.get_mut(at),
            MeterAt::Services(at) => self.services.get_mut(at),
        }
    }
}
