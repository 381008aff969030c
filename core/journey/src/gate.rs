//! What requests pass before they go anywhere, ready to be asked.
//!
//! A check looks at a request ([`Head`]) and says whether it goes on ([`Step`]). What it cannot know by itself it asks
//! for ([`Question`]): whoever drives the journey gets the [`Answer`], or [`Answer::Nobody`] when nobody gives one in
//! time. In which order checks are asked, and when, is in [`crate::journey`]'s `gating`; each kind of check has a file
//! of its own here.

pub mod bodies;
pub mod cors;
pub mod credentials;
mod csrf;
mod descriptors;
pub mod external;
pub mod files;
pub mod local_rate;
pub mod policies;
pub mod quotas;
pub mod rate_service;
mod responses;
pub mod shed;
pub mod tokens;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_admit::described::ServiceAnswer;
use naru_base::{Instant, Json, Reason, WallTime};
use naru_content::given::Given;
use naru_identity::external::{Beginning, Edit, Judgement};
use naru_identity::{Asker, Identified, Names, Networks, Token};
use naru_route::{CompiledAction, CompiledForward, RuleId, Subject, Table};
use naru_spec::{
    Action, Check, CheckKind, Compressor, Credentials, Decompressor, Gate, GateChange, Invalid, JwtKeys,
    RouteTable, Scheme, SecurityHeaders, StaticFiles,
};

use crate::View;
use crate::edge::{Client, Peer};
use crate::record::RequestLine;
use bodies::Bodies;
use cors::{Asks, CompiledCors, Page};
use credentials::{CompiledKeys, CompiledPasswords, Shown, Who};
use csrf::CompiledCsrf;
use external::{Asking, CompiledExternal};
use files::{FileAsked, FileSaid};
use local_rate::{CompiledLocalRate, ConnectionRates, KnownLocalRate};
use policies::CompiledPolicies;
use quotas::{Asked, CompiledQuotas, Known, Told};
use rate_service::{CompiledRateService, RateAsking};
use shed::CompiledShed;
use tokens::{CompiledTokens, Read, Reading};

/// The checks of a chain.
#[derive(Debug)]
pub struct CompiledGate {
    /// The first is that of requests without a rule.
    lists: Vec<Box<[CompiledCheck]>>,
    /// By rule.
    of_rules: Box<[u32]>,
    /// Of the rules that say something of one of their clusters, by the number of the rule: the list of each cluster.
    of_clusters: Box<[(u32, Box<[u32]>)]>,
    /// Beside the lists: what is the same check in several of them has one number.
    numbers: Vec<Box<[u32]>>,
}

/// A check, ready to be asked.
#[derive(Debug)]
pub enum CompiledCheck {
    Shed(CompiledShed),
    SecurityHeaders(SecurityHeaders),
    Addresses(Networks),
    Cors(CompiledCors),
    Csrf(CompiledCsrf),
    Keys(CompiledKeys),
    Passwords(CompiledPasswords),
    Tokens(CompiledTokens),
    External(Box<CompiledExternal>),
    Policies(CompiledPolicies),
    LocalRate(CompiledLocalRate),
    RateService(CompiledRateService),
    Quotas(CompiledQuotas),
    Compress(Arc<Compressor>),
    Decompress(Arc<Decompressor>),
    BodyLimit(u64),
    Files(Arc<StaticFiles>),
}

/// A request as checks see it, and change it.
#[derive(Debug)]
pub struct Head<'a> {
    pub line: &'a mut RequestLine,
    pub client: &'a Client,
    pub headers: &'a mut HeaderMap,
    pub peer: &'a Peer,
    /// What the client asked for by TLS.
    pub server_name: Option<&'a str>,
    /// Of the certificate that the client has shown.
    pub names: Option<&'a Names>,
    /// What its connection has used up by itself; nothing is known of it where there is none.
    pub rates: Option<&'a ConnectionRates>,
}

/// What is decided of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub draw: u64,
    pub table: &'a Table,
    pub rule: Option<RuleId>,
}

impl<'a> Way<'a> {
    fn forward(&self) -> Option<&'a CompiledForward> {
        match &self.table.rule(self.rule?).action {
            CompiledAction::Forward(forward) => Some(forward),
            CompiledAction::Redirect(_) | CompiledAction::Direct(_) => None,
        }
    }

    /// What its cluster is called.
    pub fn cluster(&self) -> Option<&'a str> {
        let forward = self.forward()?;
        Some(forward.cluster_name(forward.choose(self.draw)))
    }

    /// Whether there is such a cluster.
    pub fn goes_somewhere(&self) -> bool {
        self.forward().is_some_and(|forward| forward.choose(self.draw).cluster.is_some())
    }
}

/// What the checks of one request have found out.
#[derive(Debug, Default)]
pub struct Memory {
    /// What its response is to say, whoever gives it.
    pub told: Vec<(HeaderName, HeaderValue)>,
    /// What somebody else wants it to say.
    pub dressed: Vec<Edit>,
    /// The request is not what it was when its rule was found.
    pub reroutes: bool,
    /// What is known of its tokens.
    pub tokens: naru_identity::Known,
    /// Who it is from.
    pub identified: Identified,
    /// What its login session claims.
    pub session: Option<Arc<Token>>,
    /// The page that it comes of, where a policy says which may read its response.
    pub page: Option<Page>,
    /// It came over TLS, as far as anybody has asked.
    pub is_secure: bool,
    /// What becomes of bodies, where something does.
    pub bodies: Option<Box<Bodies>>,
    /// What of a file is given.
    pub given: Option<Box<Given>>,
}

impl Memory {
    /// A claim of a verified token: of those that a check has asked for, or else of the login session.
    pub fn claim(&self, path: &[String]) -> Option<&Json> {
        let of_session = || self.session.as_ref()?.claims.at(path.iter().map(String::as_str));
        self.identified.claim(path).or_else(of_session)
    }
}

impl Head<'_> {
    pub(crate) fn subject(&self, draw: u64) -> Subject<'_> {
        self.line.subject(self.headers, self.client, draw)
    }

    /// Who asks, as policies see it.
    pub(crate) fn asker<'a>(
        &'a self,
        subject: &'a Subject<'a>,
        identified: &'a Identified,
        now: WallTime,
    ) -> Asker<'a> {
        Asker {
            request: Some(subject),
            peer: self.peer.remote.ip(),
            remote: self.client.address,
            local: self.peer.local,
            is_tls: self.peer.is_tls,
            is_certified: self.peer.is_certified,
            protocol: crate::record::protocol(self.line.version),
            server_name: self.server_name,
            names: self.names,
            identified,
            session: None,
            now,
        }
    }
}

/// What is counted of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckCount {
    TokenAllowed,
    TokenDenied,
    PolicyAllowed,
    PolicyDenied,
    /// What policies would have said that nobody is refused by.
    ShadowAllowed,
    ShadowDenied,
    /// Given up while more comes than there is room for.
    Shed,
    AddressAllowed,
    AddressDenied,
    /// A page of another origin that may read the response, or may not.
    OriginAllowed,
    OriginDenied,
    CsrfAllowed,
    CsrfDenied,
    KeyAllowed,
    KeyDenied,
    PasswordAllowed,
    PasswordDenied,
    /// A policy that nobody is refused by is for a request.
    AuditMatched,
    ExternalAllowed,
    ExternalDenied,
    /// Whoever is asked gives no answer, or none that can be done.
    ExternalFailed,
    /// The same, and the request passes all the same.
    ExternalFailureAllowed,
    /// A rate limit service lets it pass, or says that it is beyond a limit.
    RateServiceOk,
    RateServiceOver,
    /// It gives no answer, and the request is refused, or passes all the same.
    RateServiceFailed,
    RateServiceFailureAllowed,
    /// It cannot be told whether the condition of a policy holds.
    ConditionFailed,
}

/// What a check says.
#[derive(Debug)]
pub enum Step {
    Pass,
    Refuse(Box<Refusal>),
    /// It knows when this is answered; no later than after so long.
    Ask(Question, Duration),
}

/// An answer in the proxy's own name, in an upstream's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// To a call of gRPC; else what the status stands for.
    pub grpc_status: Option<u8>,
    /// `%RESPONSE_CODE_DETAILS%`; else those of the reason.
    pub details: Option<Box<str>>,
}

impl Refusal {
    /// One with the status and the words of its reason.
    pub fn of(reason: Reason) -> Refusal {
        let body = Bytes::from(reason.body(false));
        Refusal {
            reason,
            status: reason.status(),
            headers: Vec::new(),
            body,
            grpc_status: None,
            details: None,
        }
    }
}

/// What a check wants to know of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether counts that are kept elsewhere have room.
    Spend(Asked),
    /// What a token claims, and whether it is signed.
    Read(Reading),
    /// Whose a key is, or whether a password is right.
    Who(Shown),
    /// The beginning of the request's body, up to so many bytes; of a longer one only where it may be in part.
    Gather { bytes_max: u32, allows_partial: bool },
    /// Whether somebody else lets it pass.
    Judge(Box<Asking>),
    /// Whether a rate limit service has room for it.
    Limit(Box<RateAsking>),
    /// Which of some files is there.
    File(Box<FileAsked>),
}

/// What somebody says to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nobody has answered in time, or what was answered says nothing.
    Nobody,
    Spent(Told),
    Read(Read),
    Who(Who),
    /// Nothing where there is no body.
    Gathered(Option<Beginning>),
    /// The body is longer than may be.
    TooLong,
    Judged(Box<Judgement>),
    Limited(Box<ServiceAnswer>),
    File(FileSaid),
}

/// What checks of a snapshot need from elsewhere, by number: what is said alike is one.
#[derive(Debug)]
pub(crate) struct Distinct<T> {
    pub all: Vec<T>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Distinct<T> {
        Distinct { all: Vec::new() }
    }
}

impl<T: Clone + PartialEq> Distinct<T> {
    pub fn id(&mut self, said: &T) -> u32 {
        let at = self.all.iter().position(|known| known == said).unwrap_or_else(|| {
            self.all.push(said.clone());
            self.all.len() - 1
        });
        at as u32
    }
}

/// What the gates of a snapshot share, and what is wrong with them.
pub(crate) struct Found<'a> {
    pub quotas: &'a mut Known,
    pub local_rates: &'a mut Vec<KnownLocalRate>,
    pub keys: &'a mut Distinct<JwtKeys>,
    pub credentials: &'a mut Distinct<Credentials>,
    pub problems: &'a mut Vec<Invalid>,
}

impl CompiledGate {
    /// `None` where no request passes anything. `of` is what the chain is called.
    pub(crate) fn compile(
        gate: &Gate,
        routes: &RouteTable,
        of: &str,
        found: &mut Found<'_>,
    ) -> Option<Box<CompiledGate>> {
        let rules =
            || routes.virtual_hosts.iter().flat_map(|host| host.rules.iter().map(move |rule| (host, rule)));
        if gate.is_empty() && rules().all(|(_, rule)| rule.changes().next().is_none()) {
            return None;
        }
        // What each number stands for.
        let mut numbered: Vec<Vec<(String, Check)>> = Vec::new();
        let mut numbers: Vec<Box<[u32]>> = Vec::new();
        let mut compile =
            |checks: &[Check], host: &str, own: &str, changes: &[GateChange]| -> Box<[CompiledCheck]> {
                let of_check = |check: &Check| {
                    let is_own = changes.iter().any(|change| match change {
                        // What requests are called is added to it.
                        GateChange::Instead(other) if counts_here(&other.kind) => other.name == check.name,
                        GateChange::Instead(other) | GateChange::Also(other) => other == check,
                        _ => false,
                    });
                    match &check.kind {
                        CheckKind::LocalRate(rate) if is_own && rate.is_of_host => format!("{of}/{host}"),
                        _ if is_own => format!("{of}/{host}/{own}"),
                        _ => of.to_owned(),
                    }
                };
                let mut compiled: Vec<CompiledCheck> = Vec::new();
                let mut sources: Vec<Vec<(String, Check)>> = Vec::new();
                for check in checks {
                    let Some(next) = CompiledCheck::new(check, &of_check(check), found) else { continue };
                    let source = (of_check(check), check.clone());
                    // Limits that stand beside each other are asked together: all of them, or none.
                    if let CompiledCheck::Quotas(quotas) = next {
                        match compiled.last_mut() {
                            Some(CompiledCheck::Quotas(before)) if before.can_join(&quotas) => {
                                before.join(quotas);
                                if let Some(joined) = sources.last_mut() {
                                    joined.push(source);
                                }
                            }
                            _ => {
                                compiled.push(CompiledCheck::Quotas(quotas));
                                sources.push(vec![source]);
                            }
                        }
                    } else {
                        compiled.push(next);
                        sources.push(vec![source]);
                    }
                }
                let number = |source: Vec<(String, Check)>| {
                    let known = numbered.iter().position(|known| is_same(known, &source));
                    known.unwrap_or_else(|| {
                        numbered.push(source);
                        numbered.len() - 1
                    }) as u32
                };
                numbers.push(sources.into_iter().map(number).collect());
                compiled.into_boxed_slice()
            };
        let mut lists = vec![compile(&gate.checks, "", "", &[])];
        let mut of_rules = Vec::new();
        let mut of_clusters = Vec::new();
        // Rules one after another mostly say the same, and share what they say where it is shared anyway.
        let mut last: Option<(&[GateChange], u32)> = None;
        for (at, (host, rule)) in rules().enumerate() {
            let list = match last {
                _ if rule.gate.is_empty() => 0,
                Some((changes, list)) if changes == rule.gate.as_slice() && is_shared(changes) => list,
                _ => {
                    let own = format!("{at}.{}", rule.name);
                    lists.push(compile(&gate.of_rule(&rule.gate), &host.name, &own, &rule.gate));
                    lists.len() as u32 - 1
                }
            };
            last = Some((&rule.gate, list));
            of_rules.push(list);
            let Action::Forward(forward) = &rule.action else { continue };
            let of_cluster = |(cluster, own): (usize, &Option<Vec<GateChange>>)| match own {
                None => list,
                Some(changes) => {
                    let own = format!("{at}.{}.{cluster}", rule.name);
                    lists.push(compile(&gate.of_rule(changes), &host.name, &own, changes));
                    lists.len() as u32 - 1
                }
            };
            if !forward.cluster_gates.is_empty() {
                let own = forward.cluster_gates.iter().enumerate().map(of_cluster).collect();
                of_clusters.push((at as u32, own));
            }
        }
        let (of_rules, of_clusters) = (of_rules.into_boxed_slice(), of_clusters.into_boxed_slice());
        Some(Box::new(CompiledGate { lists, of_rules, of_clusters, numbers }))
    }

    /// A request's cluster is known by its draw.
    fn list(&self, rule: Option<RuleId>, table: &Table, draw: u64) -> usize {
        let Some(rule) = rule else { return 0 };
        let own = self.of_cluster(rule, table, draw);
        own.or_else(|| self.of_rules.get(rule.index()).copied()).unwrap_or(0) as usize
    }

    fn of_cluster(&self, rule: RuleId, table: &Table, draw: u64) -> Option<u32> {
        if self.of_clusters.is_empty() {
            return None;
        }
        let at = self.of_clusters.binary_search_by_key(&(rule.index() as u32), |(rule, _)| *rule).ok()?;
        let CompiledAction::Forward(forward) = &table.rule(rule).action else { return None };
        self.of_clusters.get(at)?.1.get(usize::from(forward.choose(draw).index)).copied()
    }

    /// Whether something becomes of bodies, or files are given.
    pub(crate) fn has_bodies(&self) -> bool {
        self.lists.iter().flatten().any(|check| {
            matches!(
                check,
                CompiledCheck::Compress(_)
                    | CompiledCheck::Decompress(_)
                    | CompiledCheck::BodyLimit(_)
                    | CompiledCheck::Files(_)
            )
        })
    }

    /// What the requests of a rule pass, or those without one.
    pub fn checks(&self, rule: Option<RuleId>, table: &Table, draw: u64) -> &[CompiledCheck] {
        self.lists.get(self.list(rule, table, draw)).map_or(&[], |list| list)
    }

    /// Each check, of whichever rule.
    pub fn all(&self) -> impl Iterator<Item = &CompiledCheck> {
        self.lists.iter().flatten()
    }

    /// Where counts of limits are kept that are not here, by name.
    pub fn stores(&self) -> impl Iterator<Item = &str> {
        self.all().filter_map(|check| match check {
            CompiledCheck::Quotas(quotas) => quotas.store(),
            _ => None,
        })
    }

    /// Whether somebody else is asked how much there was.
    pub fn asks_to_count(&self) -> bool {
        self.lists.iter().flatten().any(|check| matches!(check, CompiledCheck::RateService(_)))
    }

    /// Whether connections have limits of their own.
    pub fn counts_connections(&self) -> bool {
        let counts = |check: &CompiledCheck| matches!(check, CompiledCheck::LocalRate(rate) if rate.is_of_connection());
        self.lists.iter().flatten().any(counts)
    }

    /// The numbers of these, in their order: a check of another rule with the same number is the same.
    pub(crate) fn numbers(&self, rule: Option<RuleId>, table: &Table, draw: u64) -> &[u32] {
        self.numbers.get(self.list(rule, table, draw)).map_or(&[], |list| list)
    }
}

/// Whoever else is asked is so once for each filter, whatever rules say to it.
fn is_same(one: &[(String, Check)], other: &[(String, Check)]) -> bool {
    match (one, other) {
        ([(_, one)], [(_, other)])
            if matches!(
                (&one.kind, &other.kind),
                (CheckKind::External(_), CheckKind::External(_))
                    | (CheckKind::RateService(_), CheckKind::RateService(_))
            ) =>
        {
            one.name == other.name
        }
        // Whatever requests are called, they take of the same buckets.
        ([(place, one)], [(other_place, other)]) if counts_here(&one.kind) && counts_here(&other.kind) => {
            place == other_place && one.name == other.name
        }
        _ => one == other,
    }
}

fn counts_here(kind: &CheckKind) -> bool {
    matches!(kind, CheckKind::LocalRate(_))
}

/// Whether rules that say this share what it counts, if it counts anything.
fn is_shared(changes: &[GateChange]) -> bool {
    changes.iter().all(|change| match change {
        GateChange::Instead(check) | GateChange::Also(check) => {
            !matches!(check.kind, CheckKind::LocalRate(_) | CheckKind::External(_))
        }
        _ => true,
    })
}

impl CompiledCheck {
    /// Nothing where it cannot be compiled, which is told.
    fn new(check: &Check, of: &str, found: &mut Found<'_>) -> Option<CompiledCheck> {
        let known = &mut *found.quotas;
        let compiled = match &check.kind {
            CheckKind::Shed(settings) => CompiledShed::new(settings).map(CompiledCheck::Shed),
            CheckKind::SecurityHeaders(said) => Ok(CompiledCheck::SecurityHeaders((**said).clone())),
            CheckKind::Addresses(said) => Ok(CompiledCheck::Addresses(Networks::compile(said))),
            CheckKind::Cors(said) => CompiledCors::new(said).map(CompiledCheck::Cors),
            CheckKind::Csrf(said) => CompiledCsrf::new(said).map(CompiledCheck::Csrf),
            CheckKind::ApiKeys(said) => Ok(CompiledCheck::Keys(CompiledKeys::new(said, found.credentials))),
            CheckKind::BasicAuth(said) => {
                Ok(CompiledCheck::Passwords(CompiledPasswords::new(said, found.credentials)))
            }
            CheckKind::Jwt(settings) => CompiledTokens::new(settings, found.keys).map(CompiledCheck::Tokens),
            CheckKind::External(settings) => {
                CompiledExternal::new(settings).map(|external| CompiledCheck::External(Box::new(external)))
            }
            CheckKind::Rbac(settings) => CompiledPolicies::new(settings).map(CompiledCheck::Policies),
            CheckKind::LocalRate(settings) => {
                let name = format!("{of}/{}/{}", check.name, settings.stat_prefix);
                CompiledLocalRate::new(settings, name, found.local_rates).map(CompiledCheck::LocalRate)
            }
            CheckKind::RateService(settings) => {
                CompiledRateService::new(settings).map(CompiledCheck::RateService)
            }
            CheckKind::Quotas(settings) => Ok(CompiledCheck::Quotas(CompiledQuotas::new(settings, known))),
            CheckKind::Compress(settings) => Ok(CompiledCheck::Compress(Arc::new((**settings).clone()))),
            CheckKind::Decompress(settings) => Ok(CompiledCheck::Decompress(Arc::new((**settings).clone()))),
            CheckKind::BodyLimit(max) => Ok(CompiledCheck::BodyLimit(*max)),
            CheckKind::Files(settings) => Ok(CompiledCheck::Files(Arc::new((**settings).clone()))),
        };
        compiled.map_err(|problems| found.problems.extend(problems)).ok()
    }

    /// Asks it about a request; once more with the answer to what it has asked.
    pub(crate) fn decide(
        &self,
        now: Instant,
        head: &mut Head<'_>,
        way: &Way<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let draw = way.draw;
        match self {
            CompiledCheck::Shed(shed) => shed.decide(head, draw, view),
            CompiledCheck::SecurityHeaders(_) => {
                memory.is_secure = head.line.scheme == Scheme::Https;
                Step::Pass
            }
            CompiledCheck::Addresses(networks) => admit(networks, head, view),
            CompiledCheck::Cors(cors) => {
                let asks = Asks { method: &head.line.method, headers: head.headers, draw };
                cors.decide(asks, &mut memory.page, view)
            }
            CompiledCheck::Csrf(csrf) => csrf.decide(head, draw, view),
            CompiledCheck::Keys(keys) => keys.decide(head, answer, memory, view),
            CompiledCheck::Passwords(passwords) => passwords.decide(head, answer, memory, view),
            CompiledCheck::Tokens(tokens) => tokens.decide(head, answer, memory, view),
            CompiledCheck::External(external) => external.decide(head, draw, answer, memory, view),
            CompiledCheck::Policies(policies) => policies.decide(head, memory, view),
            CompiledCheck::LocalRate(rate) => rate.decide(now, head, way, memory, view),
            CompiledCheck::RateService(service) => service.decide(head, way, answer, memory, view),
            CompiledCheck::Quotas(quotas) => quotas.decide(now, head, answer, memory, view),
            CompiledCheck::Compress(settings) => bodies::compressed(settings, head.headers, memory),
            CompiledCheck::Decompress(settings) => bodies::decompressed(settings, head.headers, memory),
            CompiledCheck::BodyLimit(max) => bodies::bounded(*max, head.headers, memory),
            CompiledCheck::Files(settings) => files::decide(settings, head, draw, answer, memory, view),
        }
    }
}

fn admit(networks: &Networks, head: &Head<'_>, view: &impl View) -> Step {
    let is_admitted = networks.admit(head.client.address.ip());
    view.count_check(if is_admitted { CheckCount::AddressAllowed } else { CheckCount::AddressDenied });
    if is_admitted { Step::Pass } else { Step::Refuse(Box::new(Refusal::of(Reason::AddressDenied))) }
}

/// Says in a response what checks have to say to whoever reads it. `request` is one that no check has seen.
#[cold]
pub(crate) fn tell(
    checks: &[CompiledCheck],
    memory: Option<&Memory>,
    request: Option<&Subject<'_>>,
    headers: &mut HeaderMap,
) {
    for (name, value) in memory.iter().flat_map(|memory| &memory.told) {
        headers.append(name, value.clone());
    }
    for check in checks {
        match check {
            CompiledCheck::SecurityHeaders(said) => {
                let is_secure = memory.is_some_and(|memory| memory.is_secure)
                    || request.is_some_and(|request| request.scheme == Scheme::Https);
                responses::dress(said, is_secure, headers);
            }
            CompiledCheck::Cors(cors) => {
                let asks = |of: &Subject<'_>| {
                    cors.late(Asks { method: of.method, headers: of.headers, draw: of.draw })
                };
                let late = if memory.is_none() { request.and_then(asks) } else { None };
                if let Some(page) = memory.and_then(|memory| memory.page.as_ref()).or(late.as_ref()) {
                    cors.tell(page, headers);
                }
            }
            _ => {}
        }
    }
}
