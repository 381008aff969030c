//! Tells what cannot be, each fault at the value that it is about.

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_resource::{Number, Place, Placed, Seconds};
use naru_spec::limits::Fault;
use naru_spec::{Path, code};

use crate::findings::Findings;

/// Tells faults, each at the value that it is about.
pub(crate) struct Teller<'a> {
    pub path: Path<'a>,
    /// Of the whole.
    place: Place,
    pub places: Vec<(&'static str, Place)>,
}

impl<'a> Teller<'a> {
    pub fn new(path: Path<'a>, place: Place) -> Teller<'a> {
        Teller { path, place, places: Vec::new() }
    }

    pub fn tell(&self, faults: Vec<Fault>, findings: &mut Findings<'_>) {
        for (field, fault) in faults {
            let place = self.places.iter().find(|(known, _)| *known == field).map(|(_, place)| *place);
            let place = place.unwrap_or(self.place);
            findings.error(code::INVALID_VALUE, place, &self.path.field(field), fault.message, fault.hint);
        }
    }

    pub fn note<T>(&mut self, said: &Option<Placed<T>>, field: &'static str) {
        self.places.extend(said.as_ref().map(|said| (field, said.place)));
    }

    /// A count; one that is none is told.
    pub fn count(
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

    pub fn time(&mut self, said: &Option<Seconds>, field: &'static str, default: Duration) -> Duration {
        self.note(said, field);
        said.as_ref().map_or(default, |said| said.value)
    }

    pub fn percent(
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
