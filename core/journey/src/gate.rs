//! What requests pass before they go anywhere, ready to be asked.
//!
//! A check looks at a request ([`Head`]) and says whether it goes on ([`Step`]). What it cannot know by itself it asks
//! for ([`Question`]): whoever drives the journey gets the [`Answer`], or [`Answer::Nobody`] when nobody gives one in
//! time. In which order checks are asked, and when, is in [`crate::journey`]'s `gating`; each kind of check has a file
//! of its own here.

pub mod external;
pub mod local_rate;
pub mod policies;
pub mod quotas;
pub mod tokens;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::{Instant, Reason};
use naru_identity::external::{Beginning, Edit, Judgement};
use naru_identity::{Asker, Identified, Names};
use naru_route::{RuleId, Subject};
use naru_spec::{Check, CheckKind, Gate, GateChange, Invalid, RouteTable};

use crate::View;
use crate::edge::{Client, Peer};
use crate::record::RequestLine;
use external::{Asking, CompiledExternal};
use local_rate::CompiledLocalRate;
use policies::CompiledPolicies;
use quotas::{Asked, CompiledQuotas, Known, Told};
use tokens::{CompiledTokens, KeysKnown, Read, Reading};

/// The checks of a chain.
#[derive(Debug)]
pub struct CompiledGate {
    /// The first is that of requests without a rule.
    lists: Vec<Box<[CompiledCheck]>>,
    /// By rule.
    of_rules: Box<[u32]>,
    /// Beside the lists: what is the same check in several of them has one number.
    numbers: Vec<Box<[u32]>>,
}

/// A check, ready to be asked.
#[derive(Debug)]
pub enum CompiledCheck {
    Tokens(CompiledTokens),
    External(Box<CompiledExternal>),
    Policies(CompiledPolicies),
    LocalRate(CompiledLocalRate),
    Quotas(CompiledQuotas),
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
}

impl Head<'_> {
    pub(crate) fn subject(&self, draw: u64) -> Subject<'_> {
        self.line.subject(self.headers, self.client, draw)
    }

    /// Who asks, as policies see it.
    pub(crate) fn asker<'a>(&'a self, subject: &'a Subject<'a>, identified: &'a Identified) -> Asker<'a> {
        Asker {
            request: Some(subject),
            peer: self.peer.remote.ip(),
            remote: self.client.address.ip(),
            local: self.peer.local,
            is_tls: self.peer.is_tls,
            server_name: self.server_name,
            names: self.names,
            identified,
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
    /// A policy that nobody is refused by is for a request.
    AuditMatched,
    ExternalAllowed,
    ExternalDenied,
    /// Whoever is asked gives no answer, or none that can be done.
    ExternalFailed,
    /// The same, and the request passes all the same.
    ExternalFailureAllowed,
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
    /// The beginning of the request's body, up to so many bytes; of a longer one only where it may be in part.
    Gather { bytes_max: u32, allows_partial: bool },
    /// Whether somebody else lets it pass.
    Judge(Box<Asking>),
}

/// What somebody says to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nobody has answered in time, or what was answered says nothing.
    Nobody,
    Spent(Told),
    Read(Read),
    /// Nothing where there is no body.
    Gathered(Option<Beginning>),
    /// The body is longer than may be.
    TooLong,
    Judged(Box<Judgement>),
}

/// What the gates of a snapshot share, and what is wrong with them.
pub(crate) struct Found<'a> {
    pub quotas: &'a mut Known,
    pub keys: &'a mut KeysKnown,
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
        if gate.is_empty() && rules().all(|(_, rule)| rule.gate.is_empty()) {
            return None;
        }
        // What each number stands for.
        let mut numbered: Vec<Vec<(String, Check)>> = Vec::new();
        let mut numbers: Vec<Box<[u32]>> = Vec::new();
        let mut compile = |checks: &[Check], own: &str, changes: &[GateChange]| -> Box<[CompiledCheck]> {
            let of_check = |check: &Check| {
                let is_own = changes.iter().any(|change| match change {
                    GateChange::Instead(other) | GateChange::Also(other) => other == check,
                    GateChange::Without(_) | GateChange::Ask(..) => false,
                });
                if is_own { format!("{of}/{own}") } else { of.to_owned() }
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
        let mut lists = vec![compile(&gate.checks, "", &[])];
        let mut of_rules = Vec::new();
        // Rules one after another mostly say the same, and share what they say where it is shared anyway.
        let mut last: Option<(&[GateChange], u32)> = None;
        for (at, (host, rule)) in rules().enumerate() {
            let list = match last {
                _ if rule.gate.is_empty() => 0,
                Some((changes, list)) if changes == rule.gate.as_slice() && is_shared(changes) => list,
                _ => {
                    let own = format!("{}/{at}.{}", host.name, rule.name);
                    lists.push(compile(&gate.of_rule(&rule.gate), &own, &rule.gate));
                    lists.len() as u32 - 1
                }
            };
            last = Some((&rule.gate, list));
            of_rules.push(list);
        }
        Some(Box::new(CompiledGate { lists, of_rules: of_rules.into_boxed_slice(), numbers }))
    }

    fn list(&self, rule: Option<RuleId>) -> usize {
        rule.and_then(|rule| self.of_rules.get(rule.index())).copied().unwrap_or(0) as usize
    }

    /// What the requests of a rule pass, or those without one.
    pub fn checks(&self, rule: Option<RuleId>) -> &[CompiledCheck] {
        self.lists.get(self.list(rule)).map_or(&[], |list| list)
    }

    /// Whether there is anybody else who is asked.
    pub fn asks_others(&self) -> bool {
        self.lists.iter().flatten().any(|check| matches!(check, CompiledCheck::External(_)))
    }

    /// The numbers of these, in their order: a check of another rule with the same number is the same.
    pub(crate) fn numbers(&self, rule: Option<RuleId>) -> &[u32] {
        self.numbers.get(self.list(rule)).map_or(&[], |list| list)
    }
}

/// Whoever else is asked is so once for each filter, whatever rules say to it.
fn is_same(one: &[(String, Check)], other: &[(String, Check)]) -> bool {
    match (one, other) {
        ([(_, one)], [(_, other)])
            if matches!((&one.kind, &other.kind), (CheckKind::External(_), CheckKind::External(_))) =>
        {
            one.name == other.name
        }
        _ => one == other,
    }
}

/// Whether rules that say this share what it counts.
fn is_shared(changes: &[GateChange]) -> bool {
    changes.iter().all(|change| match change {
        GateChange::Instead(check) | GateChange::Also(check) => matches!(check.kind, CheckKind::Quotas(_)),
        GateChange::Without(_) | GateChange::Ask(..) => true,
    })
}

impl CompiledCheck {
    /// Nothing where it cannot be compiled, which is told.
    fn new(check: &Check, of: &str, found: &mut Found<'_>) -> Option<CompiledCheck> {
        let known = &mut *found.quotas;
        let compiled = match &check.kind {
            CheckKind::Jwt(settings) => CompiledTokens::new(settings, found.keys).map(CompiledCheck::Tokens),
            CheckKind::External(settings) => {
                CompiledExternal::new(settings).map(|external| CompiledCheck::External(Box::new(external)))
            }
            CheckKind::Rbac(settings) => CompiledPolicies::new(settings).map(CompiledCheck::Policies),
            CheckKind::LocalRate(settings) => {
                Ok(CompiledCheck::LocalRate(CompiledLocalRate::new(settings, of, known)))
            }
            CheckKind::Quotas(settings) => Ok(CompiledCheck::Quotas(CompiledQuotas::new(settings, known))),
        };
        compiled.map_err(|problems| found.problems.extend(problems)).ok()
    }

    /// Asks it about a request; once more with the answer to what it has asked.
    pub(crate) fn decide(
        &self,
        now: Instant,
        head: &mut Head<'_>,
        draw: u64,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        match self {
            CompiledCheck::Tokens(tokens) => tokens.decide(head, answer, memory, view),
            CompiledCheck::External(external) => external.decide(head, draw, answer, memory, view),
            CompiledCheck::Policies(policies) => policies.decide(head, memory, view),
            CompiledCheck::LocalRate(rate) => rate.decide(now, draw, &mut memory.told, view),
            CompiledCheck::Quotas(quotas) => quotas.decide(now, head, answer, &mut memory.told, view),
        }
    }
}
