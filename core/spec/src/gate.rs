//! What requests pass before they go anywhere: a short list of checks.
//!
//! A listener has a list, in the order in which it is passed (Envoy's order of filters), and a rule may say otherwise.
//! Each kind of check has its settings in a file of its own; this one knows how lists are joined.

use crate::{
    Addresses, ApiKeys, ApiKeysChange, BasicAuth, Compressor, CompressorChange, Cors, Credentials, Csrf,
    Decompressor, Descriptor, External, ExternalChange, Invalid, Jwt, LocalRate, Quotas, RateService,
    RateServiceChange, Rbac, RuleRates, SecurityHeaders, Shed, StaticFiles,
};

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
    /// What a `Surge` refuses while it is called for.
    Shed(Box<Shed>),
    /// What browsers are told in every answer. It refuses nobody.
    SecurityHeaders(Box<SecurityHeaders>),
    /// Where requests may come from.
    Addresses(Box<Addresses>),
    /// Pages of other origins that may read answers; it answers those that ask whether they may.
    Cors(Box<Cors>),
    /// Pages of other origins that change something.
    Csrf(Box<Csrf>),
    /// Keys that are to be shown.
    ApiKeys(Box<ApiKeys>),
    /// Names and passwords that are to be shown.
    BasicAuth(Box<BasicAuth>),
    /// Tokens that are to be shown.
    Jwt(Box<Jwt>),
    /// Whom else is asked.
    External(Box<External>),
    /// Who may do what.
    Rbac(Box<Rbac>),
    /// Envoy's `local_ratelimit`.
    LocalRate(Box<LocalRate>),
    /// Somebody else counts: Envoy's `ratelimit`.
    RateService(Box<RateService>),
    /// A `RateLimit` of naru.dev.
    Quotas(Box<Quotas>),
    /// Answers are compressed on their way back: Envoy's `compressor`.
    Compress(Box<Compressor>),
    /// Bodies of requests are read out of their coding: Envoy's `decompressor`.
    Decompress(Box<Decompressor>),
    /// So many bytes of a request's body: Envoy's `buffer`.
    BodyLimit(u64),
    /// Files in an upstream's place.
    Files(Box<StaticFiles>),
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
    /// To whoever counts by the check with this name.
    Count(String, Box<RateServiceChange>),
    /// What its requests are called for all who count.
    Describe(Box<RuleRates>),
    /// To whoever asks for keys by that name.
    Keys(String, Box<ApiKeysChange>),
    /// Other passwords than those of the check with this name.
    Passwords(String, Credentials),
    /// To who compresses by that name.
    Compress(String, Box<CompressorChange>),
    /// Of the check for tokens with this name, one requirement for all requests of the rule.
    Require(String, String),
}

impl CheckKind {
    /// Where a check stands among others that nobody gave an order: is it from where it may be, how often does it come,
    /// may its page ask, who is it, may it. What costs least comes first; a preflight, which shows nothing of who asks,
    /// is answered before anybody asks for that, and limits by address alone come before tokens, so that a flood costs no
    /// signatures.
    fn rank(&self) -> u8 {
        match self {
            CheckKind::SecurityHeaders(_) => 0,
            CheckKind::Addresses(_) => 4,
            CheckKind::Shed(_) => 5,
            CheckKind::Quotas(quotas) if quotas.is_of_addresses() => 6,
            CheckKind::Cors(_) => 8,
            CheckKind::Csrf(_) => 10,
            CheckKind::ApiKeys(_) => 12,
            CheckKind::BasicAuth(_) => 14,
            // What others set may be a token.
            CheckKind::External(_) => 16,
            CheckKind::Jwt(_) => 20,
            CheckKind::Rbac(_) => 40,
            CheckKind::LocalRate(_) => 60,
            CheckKind::RateService(_) => 65,
            CheckKind::Quotas(_) => 70,
            CheckKind::Compress(_) => 80,
            CheckKind::Decompress(_) => 82,
            CheckKind::BodyLimit(_) => 84,
            // Whoever is refused is told of no file.
            CheckKind::Files(_) => 200,
        }
    }

    fn problems(&self) -> Vec<Invalid> {
        match self {
            CheckKind::Jwt(settings) => settings.problems(),
            CheckKind::External(settings) => settings.problems(),
            // What is wrong with an expression is told where it is compiled.
            CheckKind::Rbac(_) | CheckKind::Shed(_) | CheckKind::Cors(_) | CheckKind::Csrf(_) => Vec::new(),
            CheckKind::SecurityHeaders(_) | CheckKind::Addresses(_) | CheckKind::BasicAuth(_) => Vec::new(),
            CheckKind::ApiKeys(_) => Vec::new(),
            CheckKind::LocalRate(settings) => settings.problems(),
            CheckKind::RateService(settings) => settings.problems(),
            CheckKind::Quotas(settings) => settings.problems(),
            CheckKind::Compress(settings) => settings.problems(),
            CheckKind::Decompress(settings) => settings.problems(),
            CheckKind::BodyLimit(_) => Vec::new(),
            CheckKind::Files(settings) => settings.problems(),
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
                GateChange::Count(name, change) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::RateService(settings) = &mut own.kind {
                            **settings = settings.changed(change);
                        }
                    }
                }
                GateChange::Keys(name, change) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::ApiKeys(settings) = &mut own.kind {
                            **settings = settings.changed(change);
                        }
                    }
                }
                GateChange::Describe(_) => {}
                GateChange::Passwords(name, passwords) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::BasicAuth(settings) = &mut own.kind {
                            settings.passwords = passwords.clone();
                        }
                    }
                }
                GateChange::Compress(name, change) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::Compress(settings) = &mut own.kind {
                            **settings = settings.changed(change);
                        }
                    }
                }
                GateChange::Require(name, requirement) => {
                    for own in checks.iter_mut().filter(|own| own.name == *name) {
                        if let CheckKind::Jwt(settings) = &mut own.kind {
                            **settings = settings.requiring(requirement);
                        }
                    }
                }
            }
        }
        // Whoever counts sees them, also who was put there by the rule.
        for said in changes {
            let GateChange::Describe(said) = said else { continue };
            checks.iter_mut().for_each(|check| describe(check, said));
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
            GateChange::Without(_)
            | GateChange::Ask(..)
            | GateChange::Keys(..)
            | GateChange::Passwords(..)
            | GateChange::Require(..) => Vec::new(),
            GateChange::Compress(_, change) => change.problems(),
            GateChange::Count(_, change) => change.rates.iter().flat_map(Descriptor::problems).collect(),
            GateChange::Describe(said) => {
                said.own.iter().chain(&said.of_host).flat_map(Descriptor::problems).collect()
            }
        }
    }
}

/// What a filter says of descriptors itself goes before what rules say.
fn describe(check: &mut Check, said: &RuleRates) {
    match &mut check.kind {
        CheckKind::LocalRate(settings) if settings.rates.is_empty() => {
            settings.rates = said.seen(settings.stage, settings.host_rates);
        }
        CheckKind::RateService(settings) if settings.rates.is_empty() => {
            settings.rates = said.seen(settings.stage, settings.host_rates);
        }
        _ => {}
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
