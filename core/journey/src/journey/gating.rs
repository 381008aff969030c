//! A journey's way through the gate: the checks of its chain and its rule, one after another.
//!
//! They stand between the rule and everything that the rule says: whoever is refused here costs no limit and no
//! endpoint. [`Journey::begin`] asks for [`Action::Check`] where there are any, and whoever drives it calls
//! [`Journey::on_check`], which needs the head once more, as checks may change it. A check that must know something from
//! somebody has the journey ask [`Action::Ask`]; [`Journey::on_answer`] goes on with what was said, and with
//! [`Answer::Nobody`] when the time for it is over. What that means is the check's to say.
//!
//! What a check finds out or changes may have another rule take the request ([`Memory::reroutes`]): the rule is found
//! again at once, and what that one asks for and was not asked yet is asked, be it that it stands before. So nobody
//! comes to a rule past its checks. Envoy asks only the filters that are left.

use std::sync::Arc;

use http::{HeaderMap, Method};
use naru_base::{Instant, Reason};
use naru_content::given::Given;
use naru_identity::{Token, external};
use naru_route::{Subject, Verdict};

use super::{Journey, State};
use crate::gate::bodies::Bodies;
use crate::gate::{self, Answer, CompiledCheck, Head, Memory, Question, Refusal, Step, Way};
use crate::observe::CheckSaid;
use crate::{Action, Observer, Snapshot, View, Worker};

/// Where a request stands at its gate, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Gating {
    /// The check that is asked next.
    at: usize,
    asked: Option<(Question, Instant)>,
    answer: Option<Answer>,
    refusal: Option<Box<Refusal>>,
    memory: Memory,
    /// The numbers of those that were passed before the rule changed.
    passed: Vec<u32>,
}

impl Journey {
    /// The checks that it passes.
    fn checks<'a>(&self, snapshot: &'a Snapshot) -> &'a [CompiledCheck] {
        let chain = snapshot.chain(self.chain);
        let rule = self.rule().map(|(rule, _)| rule);
        chain.gate.as_ref().map_or(&[], |gate| gate.checks(rule, &chain.table, self.draw))
    }

    /// Whether it is held by its gate: it has one, and is asked for.
    #[cold]
    pub(super) fn enter_gate(&mut self, snapshot: &Snapshot) -> bool {
        if self.checks(snapshot).is_empty() {
            return false;
        }
        self.state = State::Gated;
        self.policed().gating = Some(Box::default());
        self.actions.push(Action::Check);
        true
    }

    fn gating(&self) -> Option<&Gating> {
        self.policed.as_ref()?.gating.as_deref()
    }

    fn gating_mut(&mut self) -> Option<&mut Gating> {
        self.policed.as_mut()?.gating.as_deref_mut()
    }

    /// Asks the checks, from where it stands: what [`Action::Check`] asks for. Behind the last one it goes where its rule
    /// says.
    #[cold]
    pub fn on_check(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        head: &mut Head<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        if self.state != State::Gated {
            return;
        }
        let (mut checks, draw, chain) = (self.checks(snapshot), self.draw, self.chain);
        loop {
            let number = self.number(snapshot);
            let rule = self.rule().map(|(rule, _)| rule);
            let Some(gating) = self.gating_mut() else { return };
            let Some(check) = checks.get(gating.at) else { break };
            if !gating.passed.is_empty() && number.is_some_and(|number| gating.passed.contains(&number)) {
                gating.at += 1;
                continue;
            }
            let answer = gating.answer.take();
            let way = Way { draw, table: &snapshot.chain(chain).table, rule };
            match check.decide(now, head, &way, answer, &mut gating.memory, view) {
                Step::Pass => {
                    observer.checked(check, CheckSaid::Passed);
                    gating.at += 1;
                    if std::mem::take(&mut gating.memory.reroutes) {
                        if !self.find_again(snapshot, head, observer) {
                            return self.answer(Reason::UpgradeRefused);
                        }
                        checks = self.checks(snapshot);
                    }
                }
                Step::Refuse(refusal) => {
                    observer.checked(check, CheckSaid::Refused(&refusal));
                    let reason = refusal.reason;
                    gating.refusal = Some(refusal);
                    return self.answer(reason);
                }
                Step::Ask(question, within) => {
                    observer.checked(check, CheckSaid::Asks(&question));
                    gating.asked = Some((question, now + within));
                    self.actions.push(Action::Ask);
                    return;
                }
            }
        }
        self.state = State::Trying;
        self.clock.progress = now;
        let subject = head.subject(self.draw);
        let chain = snapshot.chain(self.chain);
        self.set_off(now, snapshot, chain, &subject, worker, view, observer);
    }

    /// Its login session was found to be good before it came to the gate.
    #[cold]
    pub fn know_session(&mut self, token: Arc<Token>) {
        if let Some(gating) = self.gating_mut() {
            gating.memory.session = Some(token);
        }
    }

    /// That of the check that is asked next.
    fn number(&self, snapshot: &Snapshot) -> Option<u32> {
        let chain = snapshot.chain(self.chain);
        let gate = chain.gate.as_ref()?;
        let rule = self.rule().map(|(rule, _)| rule);
        gate.numbers(rule, &chain.table, self.draw).get(self.gating()?.at).copied()
    }

    /// Finds the rule of a request that is another one now. `false`: it asks for a protocol that is not to be had there.
    fn find_again(&mut self, snapshot: &Snapshot, head: &Head<'_>, observer: &mut impl Observer) -> bool {
        let chain = snapshot.chain(self.chain);
        let Some(gating) = self.gating() else { return true };
        let subject = head.subject(self.draw);
        let subject = Subject { claims: Some(&gating.memory.identified), ..subject };
        let verdict = chain.table.find_for(self.request.is_connect, &subject, observer);
        observer.routed(verdict);
        if verdict == self.verdict {
            return true;
        }
        let rule = self.rule().map(|(rule, _)| rule);
        let numbers = chain.gate.as_ref().map_or(&[][..], |gate| gate.numbers(rule, &chain.table, self.draw));
        self.verdict = verdict;
        let may_be = !self.request.is_upgrade || self.may_upgrade(snapshot, &head.subject(self.draw));
        if let Some(gating) = self.gating_mut() {
            let passed = numbers.get(..gating.at).unwrap_or_default();
            gating.passed.extend_from_slice(passed);
            gating.at = 0;
        }
        may_be
    }

    /// What [`Action::Ask`] is to ask.
    pub fn question(&self) -> Option<&Question> {
        self.gating()?.asked.as_ref().map(|(question, _)| question)
    }

    /// Somebody has answered [`Journey::question`]. The next action is to check on.
    #[cold]
    pub fn on_answer(&mut self, now: Instant, answer: Answer) {
        if self.state != State::Gated {
            return;
        }
        let Some(gating) = self.gating_mut() else { return };
        if gating.asked.take().is_some() {
            gating.answer = Some(answer);
            self.clock.progress = now;
            self.actions.push(Action::Check);
        }
    }

    /// Until when a question may be answered.
    pub(super) fn question_end(&self) -> Option<Instant> {
        self.gating()?.asked.as_ref().map(|(_, end)| *end)
    }

    /// Whether something at the gate is under way.
    pub(super) fn is_asking(&self) -> bool {
        self.gating().is_some_and(|gating| gating.asked.is_some()) || self.peek_action().is_some()
    }

    /// Whether it is still to pass its gate.
    #[inline]
    pub fn is_at_gate(&self) -> bool {
        self.state == State::Gated
    }

    /// What a check answers in an upstream's place.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.gating()?.refusal.as_deref()
    }

    /// Who it is from, as far as checks have found out.
    pub fn identified(&self) -> Option<&naru_identity::Identified> {
        self.gating().map(|gating| &gating.memory.identified)
    }

    /// Whether checks know who it is from.
    pub fn is_identified(&self) -> bool {
        self.identified().is_some_and(|who| who.is_somebody)
    }

    /// `%RESPONSE_CODE_DETAILS%` of a check's own.
    #[inline]
    pub fn details(&self) -> Option<&str> {
        if self.policed.is_some() { self.refusal()?.details.as_deref() } else { None }
    }

    /// What becomes of bodies, where checks say so.
    #[inline]
    pub fn bodies(&self) -> Option<&Bodies> {
        if self.policed.is_some() { self.gating()?.memory.bodies.as_deref() } else { None }
    }

    /// What of a file is given, where one is.
    pub fn given(&self) -> Option<&Given> {
        self.gating()?.memory.given.as_deref()
    }

    /// Tells the client what checks have to say. `request` is needed only where it was refused before any check saw it.
    #[inline]
    pub(crate) fn tell_gate(
        &self,
        snapshot: &Snapshot,
        request: Option<&Subject<'_>>,
        headers: &mut HeaderMap,
    ) {
        if snapshot.chain(self.chain).gate.is_some() {
            self.tell_of_checks(snapshot, request, headers);
        }
    }

    #[cold]
    fn tell_of_checks(&self, snapshot: &Snapshot, request: Option<&Subject<'_>>, headers: &mut HeaderMap) {
        let memory = self.gating().map(|gating| &gating.memory);
        if let Some(memory) = memory {
            external::apply(&memory.dressed, headers, &[]);
        }
        if memory.is_some() || self.rule().is_some() {
            return gate::tell(self.checks(snapshot), memory, request, headers);
        }
        // Nobody has asked yet which rule it is for.
        let chain = snapshot.chain(self.chain);
        let is_connect = request.is_some_and(|request| request.method == Method::CONNECT);
        let found = request.map(|request| chain.table.find_for(is_connect, request, &mut ()));
        let rule = match found {
            Some(Verdict::Rule { rule, .. }) => Some(rule),
            _ => None,
        };
        let checks = chain.gate.as_ref().map_or(&[][..], |gate| gate.checks(rule, &chain.table, self.draw));
        gate::tell(checks, None, request, headers);
    }
}
