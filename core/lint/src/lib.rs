//! What is legal, and most often a mistake?
//!
//! Comes in: resources as people wrote them. Goes out: findings, each with a code that people know (those of Istio's
//! analyzers and of Kiali where they say the same), and its place. Each check is a function of the resources alone.
//!
//! Deliberately not here: what cannot take effect. That is told by whoever makes a configuration of resources
//! (`core/plan`), and is an error; what is found here is at most a warning.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what can be found, who is there, then the checks by what they are about.
mod catalog;
mod world;
mod virtual_services;
mod matches;
mod destination_rules;
mod gateways;
mod services;
mod service_entries;
mod access;
mod sidecars;
mod resilience;

use naru_resource::{Meta, Place, Resources};
use naru_spec::{Problem, Severity};

pub use catalog::{CATALOG, Rule, rule};

use crate::world::World;

/// One thing that was found.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static Rule,
    /// Whose document it is: `VirtualService default/reviews`.
    pub about: String,
    pub place: Place,
    /// The way to the value in its document.
    pub path: String,
    pub message: String,
    pub hint: String,
}

/// Everything that is found, in the order of files and lines.
pub fn check(resources: &Resources) -> Vec<Finding> {
    let mut found = Found { findings: Vec::new() };
    // That a document is there twice is an error; what follows from it is no mistake of its own.
    let once = resources.without(&resources.repeated());
    let world = World::of(&once);
    virtual_services::check(&world, &mut found);
    matches::check(&world, &mut found);
    destination_rules::check(&world, &mut found);
    gateways::check(&world, &mut found);
    services::check(&world, &mut found);
    service_entries::check(&world, &mut found);
    access::check(&world, &mut found);
    sidecars::check(&world, &mut found);
    resilience::check(&world, &mut found);
    let mut findings = found.findings;
    findings.sort_by(|a, b| (a.place, a.rule.code, &a.message).cmp(&(b.place, b.rule.code, &b.message)));
    findings.dedup_by(|a, b| a.place == b.place && a.rule.code == b.rule.code && a.message == b.message);
    findings
}

impl Finding {
    pub fn to_problem(&self, resources: &Resources) -> Problem {
        Problem {
            severity: self.rule.severity,
            code: self.rule.code,
            message: self.message.clone(),
            hint: self.hint.clone(),
            file: resources.files.name(self.place.file).to_owned(),
            line: self.place.line,
            column: self.place.column,
            path: self.path.clone(),
        }
    }

    pub fn is_note(&self) -> bool {
        self.rule.severity == Severity::Note
    }
}

/// Collects findings.
pub(crate) struct Found {
    findings: Vec<Finding>,
}

/// The document that is looked at.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub kind: &'static str,
    pub meta: &'a Meta,
}

impl Found {
    pub fn tell(
        &mut self,
        code: &'static str,
        about: About<'_>,
        place: Place,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let Some(rule) = rule(code) else { return };
        let About { kind, meta } = about;
        self.findings.push(Finding {
            rule,
            about: format!("{kind} {}/{}", meta.namespace(), meta.name.value),
            place,
            path: path.into(),
            message: message.into(),
            hint: hint.into(),
        });
    }
}
