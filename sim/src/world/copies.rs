//! Copies of requests: the counterpart of `proxy/src/shadow.rs`.
//!
//! A copy is a passage of its own whose machine is [`Shadow`] in place of the journey: it dials, waits for connections,
//! is counted and audited like all others. Its body comes as its request's upstream takes it. Nobody waits for it, and
//! it ends by itself.

use std::cell::RefCell;
use std::rc::Rc;

use naru_base::{AttemptId, ClusterId, Reason};
use naru_journey::shadow::ShadowEnd;
use naru_journey::{Failure, Journey, Sent, Shadow, ShadowFacts, Stage, Wait};
use naru_recover::mirror::is_safe;
use naru_spec::defaults::{COPIES_MAX, COPY_ANSWER_BYTES_MAX, COPY_BYTES_MAX};

use super::{Event, News, World};
use crate::body::{Body, BodyEnd};
use crate::judge::{self, Violation};
use crate::mirrors::{Copied, Copies, Hearing, Role, Said, Trial};
use crate::passage::{Passage, Upload};
use crate::upstream::{ProxyId, Upstreams};

impl<'a, U: Upstreams, T: Copy> World<'a, U, T> {
    /// Copies under way, of all proxies.
    pub fn copies(&self) -> usize {
        self.proxies.iter().flat_map(|proxy| &proxy.workers).map(|worker| worker.copies).sum()
    }

    /// Makes the copies of a request that is about to be sent.
    #[cold]
    pub(super) fn copy(&mut self, passage: &mut Passage<T>) {
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        let Some(copies) = passage.journey.copies(here.snapshot, &passage.method, core) else { return };
        let of_rule = here.mirrors.get(&(passage.journey.chain(), copies.rule)).cloned().unwrap_or_default();
        let shared = Rc::clone(&here.fleet.shared);
        // A request with a body is not sent to its own cluster twice, nor one that may do something there.
        let may_learn = passage.upload.is_none() && is_safe(&passage.method);
        let mut is_learning = false;
        let mut compared = Vec::new();
        for (at, mirror, _) in copies.iter() {
            let mut mirrors = shared.mirrors.borrow_mut();
            if let (Some(settings), Some(place)) = (&mirror.comparison, of_rule.get(at)) {
                is_learning |= may_learn && mirrors.on_comparison(*place);
                compared.push((*place, settings.clone()));
            }
        }
        let trial = (!compared.is_empty()).then(|| Rc::new(RefCell::new(Trial::new(compared, is_learning))));
        let now = self.now;
        let hear = |role| trial.as_ref().map(|trial| Hearing { trial: Rc::clone(trial), role, sent: now });
        passage.copies = Some(Box::new(Copies { fed: Vec::new(), hearing: hear(Role::Primary) }));
        let mut candidates = 0;
        for (at, mirror, cluster) in copies.iter() {
            let hearing = if mirror.comparison.is_some() {
                candidates += 1;
                hear(Role::Candidate(candidates - 1))
            } else {
                None
            };
            let place = of_rule.get(at).copied();
            place.into_iter().for_each(|place| shared.mirrors.borrow_mut().on_copy(place));
            self.begin_copy(passage, cluster, &copies.facts, place, hearing);
        }
        if is_learning {
            self.begin_copy(passage, copies.cluster, &copies.facts, None, hear(Role::Twin));
        }
    }

    fn begin_copy(
        &mut self,
        passage: &mut Passage<T>,
        cluster: ClusterId,
        facts: &ShadowFacts,
        mirror: Option<usize>,
        hearing: Option<Hearing>,
    ) {
        let (now, proxy) = (self.now, passage.proxy);
        let here = &mut self.proxies[proxy.index()];
        let worker = &mut here.workers[passage.worker];
        let begun = if worker.copies < COPIES_MAX {
            let view = here.fleet.seen_by(passage.worker);
            Shadow::begin(now, here.snapshot, cluster, facts, &mut worker.core, &view)
        } else {
            Err(Reason::Overloaded)
        };
        let shadow = match begun {
            Ok(shadow) => shadow,
            Err(reason) => {
                let mut mirrors = here.fleet.shared.mirrors.borrow_mut();
                mirror.into_iter().for_each(|at| mirrors.on_end(at, ShadowEnd::Refused(reason), 0));
                drop(mirrors);
                return self.say(proxy, hearing, None);
            }
        };
        worker.copies += 1;
        let key = self.passages.reserve();
        if passage.upload.is_some()
            && let Some(copies) = &mut passage.copies
        {
            copies.fed.push(key);
        }
        let told = passage.journey.deadline().filter(|(_, wait)| *wait == Wait::Response);
        let begins = shadow.not_before().unwrap_or(now).max(now);
        let chain = passage.journey.chain();
        let copy = Box::new(Passage {
            deadline: [passage.deadline, told.map(|(at, _)| at)].into_iter().flatten().min(),
            upload: passage.upload.as_ref().map(|upload| Upload::new(upload.body)),
            copied: Some(Box::new(Copied {
                shadow,
                mirror,
                hearing,
                asked_for: None,
                grpc_status: None,
                said: None,
                took: std::time::Duration::ZERO,
            })),
            ..passage.another(key, Journey::refuse(now, chain, Reason::Overloaded))
        });
        // The request itself goes first.
        self.queue.push(begins, Event::Request(key, News::Turn));
        self.await_copy(copy);
    }

    /// News of a copy, and what comes of it.
    pub(super) fn hear_copy(&mut self, mut passage: Box<Passage<T>>, news: News) -> Result<(), Violation> {
        let now = self.now;
        match news {
            News::Turn => self.start_copy(&mut passage, false),
            News::Tick => {
                passage.tick = None;
                shadow(&mut passage, |shadow| shadow.tick(now));
            }
            News::ClientLeaves => shadow(&mut passage, |shadow| shadow.on_abandoned(now)),
            News::Fed { parts, has_end } => self.feed(&mut passage, parts, has_end),
            News::Starved => {
                if passage.upload.as_ref().is_some_and(|upload| !upload.has_end) {
                    shadow(&mut passage, |shadow| shadow.on_abandoned(now));
                }
            }
            News::First(attempt) => self.on_first(&mut passage, attempt),
            News::NotFirst(attempt, reason) => self.on_not_first(&mut passage, attempt, reason),
            News::Dialed(attempt, result) => self.on_dialed(&mut passage, attempt, result),
            News::Head(attempt) => self.on_head(&mut passage, attempt),
            News::Part(attempt) => self.on_part(&mut passage, attempt),
            News::BodyEnded(attempt) => self.on_body_ended(&mut passage, attempt),
            News::Broken(attempt, reason) => self.on_broken(&mut passage, attempt, reason),
            News::Uploaded | News::UploadEnded | News::ReplyRead | News::Looked => {}
            // Nothing of it is kept, and no check asks about it.
            News::Sought(_) | News::Leased | News::Answered(_) => {}
        }
        self.conclude_copy(passage)
    }

    fn start_copy(&mut self, passage: &mut Passage<T>, is_fresh: bool) {
        let Some(copied) = passage.copied.as_ref().filter(|copied| copied.shadow.end().is_none()) else {
            return;
        };
        let (cluster, endpoint) = (copied.shadow.cluster(), copied.shadow.endpoint());
        if !is_fresh {
            self.hold(passage, cluster, endpoint);
        }
        if let Some(place) = self.fleet_of(passage.proxy).place(cluster, endpoint) {
            self.fly(passage, AttemptId(u16::from(is_fresh)), place, is_fresh);
        }
    }

    /// What its request's upstream has taken of the body.
    fn feed(&mut self, passage: &mut Passage<T>, parts: u32, has_end: bool) {
        let now = self.now;
        if let Some(upload) = &mut passage.upload {
            upload.arrived = upload.arrived.max(parts);
            upload.has_end |= has_end;
        }
        self.read_upload(passage);
        let waiting = passage.upload.as_ref().map_or(0, |it| it.body.bytes_upto(it.arrived) - it.received());
        if waiting > COPY_BYTES_MAX as u64 {
            shadow(passage, |shadow| shadow.on_overrun(now));
        }
    }

    /// A request has read of its body, or is over: its copies hear of it.
    #[cold]
    pub(super) fn feed_copies(&mut self, passage: &Passage<T>, is_over: bool) {
        let (Some(copies), Some(upload)) = (&passage.copies, &passage.upload) else { return };
        let is_broken = upload.body.end == BodyEnd::Broken;
        let news = match is_over || upload.is_over && is_broken {
            true => News::Starved,
            false => News::Fed { parts: upload.read, has_end: upload.is_over },
        };
        for key in &copies.fed {
            self.queue.push(self.now, Event::Request(*key, news));
        }
    }

    /// The head of an answer to a copy; says whether more is to be read.
    pub(super) fn on_copy_head(
        &mut self,
        passage: &mut Passage<T>,
        status: u16,
        grpc_status: Option<u8>,
        has_ended: bool,
    ) {
        let now = self.now;
        if let Some(copied) = &mut passage.copied {
            copied.grpc_status = grpc_status.filter(|_| has_ended);
            copied.took = now.since(copied.shadow.began());
            copied.said = passage.flight.as_mut().and_then(|flight| flight.said.take());
            copied.shadow.on_head(now, status, has_ended, copied.grpc_status);
        }
        if has_ended {
            self.finish_flight(passage);
        }
    }

    /// A part of it. Says whether it was the last that is read.
    pub(super) fn on_copy_part(&mut self, passage: &mut Passage<T>, body: &Body, parts: u32) -> bool {
        let now = self.now;
        let is_last = parts == body.parts && body.end == BodyEnd::Plain;
        let is_enough = is_last || passage.bytes_sent >= COPY_ANSWER_BYTES_MAX;
        shadow(passage, |shadow| match is_enough {
            true => shadow.on_end(now, None),
            false => shadow.on_progress(now),
        });
        if is_last {
            self.finish_flight(passage);
        }
        is_enough
    }

    pub(super) fn on_copy_trailers(&mut self, passage: &mut Passage<T>, grpc_status: Option<u8>) {
        let now = self.now;
        if let Some(copied) = &mut passage.copied {
            copied.grpc_status = grpc_status;
            copied.shadow.on_end(now, grpc_status);
        }
        self.finish_flight(passage);
    }

    /// There is no connection for it, or that broke. One that had been closed while it waited says nothing: once more,
    /// on a fresh one.
    pub(super) fn fail_copy(&mut self, passage: &mut Passage<T>, failure: &Failure) {
        let was_fresh = passage.flight.as_ref().is_none_or(|flight| flight.is_fresh);
        let may_repeat = failure.sent == Sent::No || passage.is_idempotent;
        let is_stale = failure.stage == Stage::Exchange
            && failure.is_reused
            && may_repeat
            && failure.is_replayable
            && !was_fresh;
        self.drop_flight(passage);
        if is_stale && passage.copied.as_ref().is_some_and(|copied| copied.shadow.end().is_none()) {
            self.give_sent_back(passage);
            return self.start_copy(passage, true);
        }
        let now = self.now;
        shadow(passage, |shadow| shadow.on_failure(now, failure.stage, failure.reason));
    }

    pub(super) fn break_copy(&mut self, passage: &mut Passage<T>) {
        let now = self.now;
        shadow(passage, |shadow| shadow.on_failure(now, Stage::Exchange, Reason::UpstreamAborted));
    }

    pub(super) fn conclude_copy(&mut self, passage: Box<Passage<T>>) -> Result<(), Violation> {
        let Some(copied) = &passage.copied else { return Ok(()) };
        if let Err(what) = copied.shadow.check_invariants() {
            return Err(judge::violation(self.now, &passage, what));
        }
        let (proxy, cluster) = (passage.proxy, passage.cluster());
        if copied.shadow.end().is_some() {
            self.settle_copy(passage);
        } else {
            self.await_copy(passage);
        }
        self.hear_shared(proxy);
        self.audit(proxy, cluster)?;
        self.check_pause()
    }

    /// It goes on, until its deadline at the latest.
    pub(super) fn await_copy(&mut self, mut passage: Box<Passage<T>>) {
        let deadline = passage.copied.as_ref().and_then(|copied| copied.shadow.deadline());
        if let Some(deadline) = deadline {
            self.expect_tick(&mut passage, deadline);
        }
        self.passages.put(passage);
    }

    /// The end of a copy, whatever it was.
    fn settle_copy(&mut self, mut passage: Box<Passage<T>>) {
        let now = self.now;
        let Some(mut copied) = passage.copied.take() else { return };
        self.drop_flight(&mut passage);
        self.rest(&mut passage);
        let here = &mut self.proxies[passage.proxy.index()];
        copied.shadow.leave(now, here.snapshot, &here.fleet.seen_by(passage.worker));
        here.workers[passage.worker].copies -= 1;
        let (end, status) = (copied.shadow.end(), copied.shadow.status());
        if let (Some(mirror), Some(end)) = (copied.mirror, end) {
            here.fleet.shared.mirrors.borrow_mut().on_end(mirror, end, status);
        }
        if let Some(report) = copied.shadow.take_report() {
            self.report_to_guard(passage.proxy, &report);
        }
        let said =
            Said { status, grpc_status: copied.grpc_status, bytes: passage.bytes_sent, took: copied.took };
        let is_answered = end == Some(ShadowEnd::Answered);
        if let Some(key) = copied.asked_for {
            self.on_judged(key, is_answered.then_some((status, copied.said)));
            return self.forget(&passage);
        }
        self.say(passage.proxy, copied.hearing, is_answered.then_some(said));
        self.forget(&passage);
    }

    /// A request that has copies is over: what was it answered?
    #[cold]
    pub(super) fn leave_copies(&mut self, passage: &mut Passage<T>) {
        self.feed_copies(passage, true);
        let Some(copies) = passage.copies.take() else { return };
        let outcome = passage.journey.outcome().filter(|outcome| outcome.reason == Reason::Forwarded);
        let sent = copies.hearing.as_ref().map(|hearing| hearing.sent);
        let said = outcome.and_then(|outcome| {
            let took = outcome.head?.since(sent?);
            let (status, grpc_status) = (outcome.status, outcome.grpc_status);
            Some(Said { status, grpc_status, bytes: passage.bytes_sent, took })
        });
        self.say(passage.proxy, copies.hearing, said);
    }

    fn say(&mut self, proxy: ProxyId, hearing: Option<Hearing>, said: Option<Said>) {
        if let Some(Hearing { trial, role, .. }) = hearing {
            let shared = &self.proxies[proxy.index()].fleet.shared;
            trial.borrow_mut().tell(role, said, &mut shared.mirrors.borrow_mut());
        }
    }
}

fn shadow<T>(passage: &mut Passage<T>, tell: impl FnOnce(&mut Shadow)) {
    if let Some(copied) = &mut passage.copied {
        tell(&mut copied.shadow);
    }
}
