//! What requests pass before they go anywhere: a short list of checks.
//!
//! A listener has a list, in the order in which it is passed (Envoy's order of filters), and a rule may say otherwise.
//! Each kind of check has its settings in a file of its own; this one knows how lists are joined.

use crate::{External, ExternalChange, Invalid, Jwt, LocalRate, Quotas, Rbac};

/// The checks of a listener, in order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Gate {
    pub checks: Vec<Check>,
}

/// One check. Its name is what rules know it by: of Envoy's filters it is that of the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    pub kind: CheckKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// Tokens that are to be shown.
    Jwt(Box<Jwt>),
    /// Whom else is asked.
    External(Box<External>),
    /// Who may do what.
    Rbac(Box<Rbac>),
    /// Envoy's `local_ratelimit`.
    LocalRate(Box<LocalRate>),
    /// A `RateLimit` of naru.dev.
    Quotas(Box<Quotas>),
}

/// What a rule says otherwise than its listener.
#[derive(Clone, Debug, PartialEq)]
pub enum GateChange {
    /// In the place of the check with this name, if the listener has it.
    Instead(Check),
    Without(String),
    /// Beside those of the listener.
    Also(Check),
    /// To whoever else is asked by the check with this name.
    Ask(String, Box<ExternalChange>),
}

impl CheckKind {
    /// Where a check stands among others that nobody gave an order: who is it, may it, how often.
    fn rank(&self) -> u8 {
        match self {
            // What others set may be a token.
            CheckKind::External(_) => 10,
            CheckKind::Jwt(_) => 20,
            CheckKind::Rbac(_) => 40,
            CheckKind::LocalRate(_) => 60,
            CheckKind::Quotas(_) => 70,
        }
    }

    fn problems(&self) -> Vec<Invalid> {
        match self {
            CheckKind::Jwt(settings) => settings.problems(),
            CheckKind::External(settings) => settings.problems(),
            // What is wrong with an expression is told where it is compiled.
            CheckKind::Rbac(_) => Vec::new(),
            CheckKind::LocalRate(settings) => settings.problems(),
            CheckKind::Quotas(settings) => settings.problems(),
        }
    }
}

impl Gate {
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Adds a check where its kind stands, behind others of its kind.
    pub fn insert(&mut self, check: Check) {
        insert(&mut self.checks, check);
    }

    /// What the requests of a rule pass.
    pub fn of_rule(&self, changes: &[GateChange]) -> Vec<Check> {
        let mut checks = self.checks.clone();
        for change in changes {
            match change {
                GateChange::Instead(check) => {
                    for own in checks.iter_mut().filter(|own| own.name == check.name) {
                        *own = check.clone();
                    }
                }
                GateChange::Without(name) => checks.retain(|own| !is_called(&own.name, name)),
                GateChange::Also(check) => insert(&mut checks, check.clone()),
                GateChange::Ask(name, change) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::External(settings) = &mut own.kind {
                            **settings = settings.changed(change);
                        }
                    }
                }
            }
        }
        checks
    }

    /// What cannot be.
    pub fn problems(&self) -> Vec<Invalid> {
        self.checks.iter().flat_map(|check| check.kind.problems()).collect()
    }
}

impl GateChange {
    pub fn problems(&self) -> Vec<Invalid> {
        match self {
            GateChange::Instead(check) | GateChange::Also(check) => check.kind.problems(),
            GateChange::Without(_) | GateChange::Ask(..) => Vec::new(),
        }
    }
}

/// Of a name with a slash what stands before it means all of its kind.
fn is_called(own: &str, name: &str) -> bool {
    own.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn insert(checks: &mut Vec<Check>, check: Check) {
    let at = checks.iter().position(|other| other.kind.rank() > check.kind.rank());
    checks.insert(at.unwrap_or(checks.len()), check);
}
