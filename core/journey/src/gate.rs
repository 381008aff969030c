//! What requests pass before they go anywhere, ready to be asked.
//!
//! A check looks at a request ([`Head`]) and says whether it goes on ([`Step`]). What it cannot know by itself it asks
//! for ([`Question`]): whoever drives the journey gets the [`Answer`], or [`Answer::Nobody`] when nobody gives one in
//! time. In which order checks are asked, and when, is in [`crate::journey`]'s `gating`; each kind of check has a file
//! of its own here.

pub mod policies;
pub mod quotas;
pub mod tokens;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::{Instant, Reason};
use naru_identity::{Identified, Names};
use naru_route::{RuleId, Subject};
use naru_spec::{Check, CheckKind, Gate, Invalid, RouteTable};

use crate::View;
use crate::edge::{Client, Peer};
use crate::record::RequestLine;
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
}

/// A check, ready to be asked.
#[derive(Debug)]
pub enum CompiledCheck {
    Tokens(CompiledTokens),
    Policies(CompiledPolicies),
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
    /// What is known of its tokens.
    pub tokens: naru_identity::Known,
    /// Who it is from.
    pub identified: Identified,
}

impl Head<'_> {
    pub(crate) fn subject(&self, draw: u64) -> Subject<'_> {
        self.line.subject(self.headers, self.client, draw)
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
}

/// What somebody says to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nobody has answered in time, or what was answered says nothing.
    Nobody,
    Spent(Told),
    Read(Read),
}

impl CompiledGate {
    /// `None` where no request passes anything.
    pub(crate) fn compile(
        gate: &Gate,
        routes: &RouteTable,
        known: &mut Known,
        keys: &mut KeysKnown,
        problems: &mut Vec<Invalid>,
    ) -> Option<Box<CompiledGate>> {
        let rules = || routes.virtual_hosts.iter().flat_map(|host| &host.rules);
        if gate.is_empty() && rules().all(|rule| rule.gate.is_empty()) {
            return None;
        }
        let mut compile = |checks: &[Check]| -> Box<[CompiledCheck]> {
            checks.iter().filter_map(|check| CompiledCheck::new(check, known, keys, problems)).collect()
        };
        let mut lists = vec![compile(&gate.checks)];
        let mut of_rules = Vec::new();
        // Rules one after another mostly say the same.
        let mut last: Option<(&[naru_spec::GateChange], u32)> = None;
        for rule in rules() {
            let at = match last {
                _ if rule.gate.is_empty() => 0,
                Some((changes, at)) if changes == rule.gate.as_slice() => at,
                _ => {
                    lists.push(compile(&gate.of_rule(&rule.gate)));
                    lists.len() as u32 - 1
                }
            };
            last = Some((&rule.gate, at));
            of_rules.push(at);
        }
        Some(Box::new(CompiledGate { lists, of_rules: of_rules.into_boxed_slice() }))
    }

    /// What the requests of a rule pass, or those without one.
    pub fn checks(&self, rule: Option<RuleId>) -> &[CompiledCheck] {
        let at = rule.and_then(|rule| self.of_rules.get(rule.index())).copied().unwrap_or(0);
        self.lists.get(at as usize).map_or(&[], |list| list)
    }
}

impl CompiledCheck {
    /// Nothing where it cannot be compiled, which is told.
    fn new(
        check: &Check,
        known: &mut Known,
        keys: &mut KeysKnown,
        problems: &mut Vec<Invalid>,
    ) -> Option<CompiledCheck> {
        let compiled = match &check.kind {
            CheckKind::Jwt(settings) => CompiledTokens::new(settings, keys).map(CompiledCheck::Tokens),
            CheckKind::Rbac(settings) => CompiledPolicies::new(settings).map(CompiledCheck::Policies),
            CheckKind::Quotas(settings) => Ok(CompiledCheck::Quotas(CompiledQuotas::new(settings, known))),
        };
        compiled.map_err(|found| problems.extend(found)).ok()
    }

    /// Asks it about a request; once more with the answer to what it has asked.
    pub(crate) fn decide(
        &self,
        now: Instant,
        head: &mut Head<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        match self {
            CompiledCheck::Tokens(tokens) => tokens.decide(head, answer, memory, view),
            CompiledCheck::Policies(policies) => policies.decide(head, memory, view),
            CompiledCheck::Quotas(quotas) => quotas.decide(now, head, answer, &mut memory.told, view),
        }
    }
}
