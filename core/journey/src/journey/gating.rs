//! A journey's way through the gate: the checks of its chain and its rule, one after another.
//!
//! They stand between the rule and everything that the rule says: whoever is refused here costs no limit and no
//! endpoint. [`Journey::begin`] asks for [`Action::Check`] where there are any, and whoever drives it calls
//! [`Journey::on_check`], which needs the head once more, as checks may change it. A check that must know something from
//! somebody has the journey ask [`Action::Ask`]; [`Journey::on_answer`] goes on with what was said, and with
//! [`Answer::Nobody`] when the time for it is over. What that means is the check's to say.

use http::HeaderMap;
use naru_base::Instant;
use naru_content::given::Given;

use super::{Journey, State};
use crate::gate::bodies::Bodies;
use crate::gate::{Answer, CompiledCheck, Head, Memory, Question, Refusal, Step};
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
}

impl Journey {
    /// The checks that it passes.
    fn checks<'a>(&self, snapshot: &'a Snapshot) -> &'a [CompiledCheck] {
        let gate = snapshot.chain(self.chain).gate.as_ref();
        gate.map_or(&[], |gate| gate.checks(self.rule().map(|(rule, _)| rule)))
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
        let (checks, draw) = (self.checks(snapshot), self.draw);
        loop {
            let Some(gating) = self.gating_mut() else { return };
            let Some(check) = checks.get(gating.at) else { break };
            let answer = gating.answer.take();
            match check.decide(now, head, draw, answer, &mut gating.memory, view) {
                Step::Pass => gating.at += 1,
                Step::Refuse(refusal) => {
                    let reason = refusal.reason;
                    gating.refusal = Some(refusal);
                    return self.answer(reason);
                }
                Step::Ask(question, within) => {
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

    /// Tells the client what checks have to say.
    #[inline]
    pub(crate) fn tell_gate(&self, headers: &mut HeaderMap) {
        if self.policed.is_some() {
            self.tell_of_checks(headers);
        }
    }

    #[cold]
    fn tell_of_checks(&self, headers: &mut HeaderMap) {
        let told = self.gating().map_or(&[][..], |gating| &gating.memory.told);
        for (name, value) in told {
            headers.append(name, value.clone());
        }
    }
}
