//! What is measured, and by which meters.

use std::net::SocketAddr;

use naru_base::Instant;
use naru_spec::suggest::did_you_mean;
use serde_saphyr::Spanned;

use super::{Binder, Unit, moment};
use crate::expect::{Bound, Expected, Meter, MeterAt};
use crate::quantity::{Rate, Share, Span, scaled};
use crate::scenario::{Expectation, Measure};
use crate::service::Instance;

#[derive(Debug, Default)]
pub(super) struct Measured {
    pub expected: Vec<Expected>,
    /// Of all loads, or of one.
    pub load_meters: Vec<(Meter, Option<usize>)>,
    /// Of these groups.
    pub service_meters: Vec<(Meter, Vec<usize>)>,
}

impl Measured {
    fn of_load(&mut self, meter: Meter, load: Option<usize>) -> MeterAt {
        self.load_meters.push((meter, load));
        MeterAt::Loads(self.load_meters.len() - 1)
    }

    fn of_groups(&mut self, meter: Meter, groups: Vec<usize>) -> MeterAt {
        self.service_meters.push((meter, groups));
        MeterAt::Services(self.service_meters.len() - 1)
    }
}

impl<'a> Binder<'a> {
    pub(super) fn expectations(&mut self, units: &[Unit<'a>], instances: &[Instance]) -> Measured {
        let mut measured = Measured::default();
        for (at, expectation) in self.scenario.expect.iter().enumerate() {
            self.expectation(&format!("expect[{at}]"), expectation, units, instances, &mut measured);
        }
        measured
    }

    fn expectation(
        &mut self,
        path: &str,
        written: &Expectation,
        units: &[Unit<'a>],
        instances: &[Instance],
        measured: &mut Measured,
    ) {
        let before = self.problems.len();
        let measure = written.measure.value;
        let end = moment(self.scenario.duration.0);
        let (from, to) = (moment(written.from.0), written.to.map(|to| moment(to.0)));
        if to.is_some_and(|to| to <= from) || from >= end {
            let what = "the window of this expectation ends before it begins";
            self.tell(&written.measure, path.to_owned(), "invalid-value", what);
        }
        let load = written.load.as_ref().and_then(|name| self.find_load(name, path));
        let groups = self.find_groups(written, units, path);
        self.check_words(written, path);
        let at_least = self.bound(written.at_least.as_ref(), measure, &format!("{path}.at_least"));
        let at_most = self.bound(written.at_most.as_ref(), measure, &format!("{path}.at_most"));
        if written.at_least.is_none() && written.at_most.is_none() {
            let what = "an expectation says 'at_least', 'at_most' or both";
            self.tell(&written.measure, path.to_owned(), "missing-value", what);
        }
        if self.problems.len() > before {
            return;
        }
        let reason = written.reason.as_ref().map(|reason| reason.value.0);
        let meter = Meter::new(from, to.unwrap_or(Instant(u64::MAX))).of_reason(reason);
        let (own, whole) = match (groups.clone(), measure) {
            (Some(groups), Measure::Share) => {
                let service = groups.first().map(|group| units[*group].service_at);
                let all = units.iter().enumerate().filter(|(_, unit)| Some(unit.service_at) == service);
                let all = all.map(|(group, _)| group).collect();
                (measured.of_groups(meter.clone(), groups), Some(measured.of_groups(meter, all)))
            }
            (Some(groups), Measure::Amplification) => {
                (measured.of_groups(meter.clone(), groups), Some(measured.of_load(meter, load)))
            }
            (Some(groups), _) => (measured.of_groups(meter, groups), None),
            (None, _) => (measured.of_load(meter, load), None),
        };
        let addresses: Vec<SocketAddr> = match &groups {
            Some(groups) => {
                let own = instances.iter().filter(|instance| groups.contains(&instance.group));
                own.map(|instance| instance.address).collect()
            }
            None => Vec::new(),
        };
        measured.expected.push(Expected {
            measure,
            of: of(written),
            meter: own,
            of_meter: whole,
            change: written.change.as_ref().map(|change| change.value.0),
            reason,
            addresses,
            from,
            to: match measure {
                Measure::Rate => to.unwrap_or(end).min(end),
                _ => to.unwrap_or(Instant(u64::MAX)),
            },
            at_least,
            at_most,
        });
    }

    /// Which of the words of an expectation go together.
    fn check_words(&mut self, written: &Expectation, path: &str) {
        let measure = written.measure.value;
        let mut check = |is_fine: bool, field: &str, what: &str| {
            if !is_fine {
                self.tell(&written.measure, format!("{path}.{field}"), "contradiction", what);
            }
        };
        let is_relative = measure == Measure::Amplification;
        let has_both = written.load.is_some() && written.service.is_some();
        check(!has_both || is_relative, "load", "what reaches a service is measured from whomever it comes");
        check(
            written.version.is_none() || written.service.is_some(),
            "version",
            "a version is one of a service, which is to be named",
        );
        check(
            !is_relative || written.service.is_some(),
            "service",
            "an amplification is that of a service, which is to be named",
        );
        check(
            measure != Measure::Share || written.version.is_some(),
            "version",
            "a share is that of a version, which is to be named with its service",
        );
        check(
            (measure == Measure::Changes) == written.change.is_some(),
            "change",
            "changes of one kind are counted: 'measure: changes' goes with 'change'",
        );
        check(
            (measure == Measure::Reasons) == written.reason.is_some(),
            "reason",
            "ends of one kind are counted: 'measure: reasons' goes with 'reason'",
        );
        check(
            written.service.is_none() || !matches!(measure, Measure::Reasons | Measure::Kept),
            "service",
            "what is kept, and why requests end, is known of loads",
        );
    }

    fn find_load(&mut self, name: &Spanned<String>, path: &str) -> Option<usize> {
        let loads = &self.scenario.load;
        let found = loads.iter().position(|load| load.name.value == name.value);
        if found.is_none() {
            let hint = did_you_mean(&name.value, loads.iter().map(|load| load.name.value.as_str()));
            let what = format!("'{}' is no load of the scenario", name.value);
            self.tell_with_hint(name, format!("{path}.load"), "unknown-name", what, hint);
        }
        found
    }

    /// `None` where no service is named.
    fn find_groups(&mut self, written: &Expectation, units: &[Unit<'a>], path: &str) -> Option<Vec<usize>> {
        let service = written.service.as_ref()?;
        let of_service: Vec<usize> =
            (0..units.len()).filter(|at| units[*at].service.name.value == service.value).collect();
        if of_service.is_empty() {
            let names = units.iter().map(|unit| unit.service.name.value.as_str());
            let hint = did_you_mean(&service.value, names);
            let what = format!("'{}' is no service of the scenario", service.value);
            self.tell_with_hint(service, format!("{path}.service"), "unknown-name", what, hint);
        }
        let Some(version) = &written.version else { return Some(of_service) };
        let name_of = |at: usize| units[at].version.map_or("", |version| version.name.value.as_str());
        let found: Vec<usize> =
            of_service.iter().copied().filter(|at| name_of(*at) == version.value).collect();
        if found.is_empty() {
            let hint = did_you_mean(&version.value, of_service.iter().map(|at| name_of(*at)));
            let what = format!("'{}' is no version of '{}'", version.value, service.value);
            self.tell_with_hint(version, format!("{path}.version"), "unknown-name", what, hint);
        }
        Some(found)
    }

    /// In the unit of what is measured.
    fn bound(&mut self, written: Option<&Spanned<String>>, measure: Measure, path: &str) -> Option<Bound> {
        let written = written?;
        let text = written.value.clone();
        let value = match measure {
            Measure::Quantile(_) | Measure::Mean | Measure::Max => {
                Span::try_from(text).map(|span| span.0.as_nanos() / 1_000)
            }
            Measure::Errors | Measure::Share | Measure::Kept => {
                Share::try_from(text).map(|share| u128::from(share.millionths()))
            }
            Measure::Rate => Rate::try_from(text).map(|rate| u128::from(rate.hourly())),
            Measure::Requests | Measure::Changes | Measure::Reasons => text
                .parse::<u64>()
                .map(u128::from)
                .map_err(|_| naru_spec::Invalid::new(format!("'{}' is no count", written.value))),
            Measure::Amplification => {
                text.strip_suffix('x').and_then(|number| scaled(number, 1_000)).map(u128::from).ok_or_else(
                    || {
                        naru_spec::Invalid::new(format!(
                            "'{}' is no factor, which looks like '3x' or '0.5x'",
                            written.value
                        ))
                    },
                )
            }
        };
        match value {
            Ok(value) => Some(Bound { value, written: written.value.clone() }),
            Err(invalid) => {
                self.tell(written, path.to_owned(), "invalid-value", &invalid.to_string());
                None
            }
        }
    }
}

/// Whose it is, and when.
fn of(written: &Expectation) -> String {
    let mut text = match (&written.service, &written.version, &written.load) {
        (Some(service), Some(version), _) => format!("{} {}", service.value, version.value),
        (Some(service), None, _) => service.value.clone(),
        (None, _, Some(load)) => format!("load {}", load.value),
        (None, _, None) => "all loads".to_owned(),
    };
    if let (Some(_), Some(load)) = (&written.service, &written.load) {
        text.push_str(&format!(" by load {}", load.value));
    }
    let words = |span: Span| moment(span.0).to_string();
    match (written.from.0.is_zero(), written.to) {
        (true, None) => {}
        (true, Some(to)) => text.push_str(&format!(" to {}", words(to))),
        (false, None) => text.push_str(&format!(" from {}", words(written.from))),
        (false, Some(to)) => text.push_str(&format!(" from {} to {}", words(written.from), words(to))),
    }
    text
}
