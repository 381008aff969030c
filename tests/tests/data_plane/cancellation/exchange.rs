//! One plan, carried out.

use std::time::Duration;

use naru_tests::wire::End;
use naru_tests::{Naru, until};

use super::callee::{Callee, Line};
use super::caller::{Caller, Seen};
use super::ends::{Gone, HALF, LARGE};
use super::plan::{Disturbance, Early, Ending, Limit, Plan, Protocol, STATUS, Shape, Step, Target};
use super::stand::{REQUEST_TIMEOUT, ROUTE_TIMEOUT, Stand, path};

/// A request that comes after the drain has begun may find nobody.
const DRAINED_FOR: Duration = Duration::from_millis(300);

pub struct Exchange<'a> {
    plan: &'a Plan,
    stand: &'a Stand,
    id: &'a str,
    pub caller: Option<Caller>,
    callee: Option<Callee>,
    line: Option<Line>,
    /// How many requests naru had seen before this one.
    requests_before: u64,
    is_draining: bool,
    /// All steps were taken.
    is_complete: bool,
    /// What the client saw, where it has read to the end already.
    seen: Option<Seen>,
    /// The upstream has sent all that it has to.
    is_answered: bool,
}

impl<'a> Exchange<'a> {
    pub fn new(plan: &'a Plan, stand: &'a Stand, id: &'a str) -> Exchange<'a> {
        Exchange {
            plan,
            stand,
            id,
            caller: None,
            callee: None,
            line: None,
            requests_before: 0,
            is_draining: false,
            is_complete: false,
            seen: None,
            is_answered: false,
        }
    }

    fn naru(&self) -> &'a Naru {
        &self.stand.naru
    }

    /// Sends a request through, so that its connection waits for the next one.
    pub async fn warm_up(&mut self, id: &str) {
        let line = async {
            let mut line = Line::accept(self.stand.listener(self.plan.up), self.plan.up).await;
            line.answer_one().await;
            line
        };
        let (status, line) = tokio::join!(self.stand.get(self.plan.up, id), line);
        assert_eq!(status, STATUS);
        self.line = Some(line);
    }

    /// Takes the steps before the disturbance, disturbs, and takes those after it where there are any.
    pub async fn run(&mut self) {
        let steps = self.plan.steps();
        for step in &steps[..self.plan.at] {
            if self.take(*step).await.is_err() {
                // A limit may pass before its moment, on a machine that has other things to do.
                assert_ne!(self.plan.limit(), Limit::None, "{step:?} failed, and nothing had happened");
                return;
            }
        }
        self.is_complete = self.plan.is_over();
        for disturbance in &self.plan.disturbances {
            self.disturb(*disturbance).await;
        }
        if !self.plan.goes_on() {
            return;
        }
        for step in &steps[self.plan.at..] {
            if self.take(*step).await.is_err() {
                return;
            }
        }
        self.is_complete = self.plan.target == Target::Up;
    }

    async fn take(&mut self, step: Step) -> Result<(), Gone> {
        let plan = self.plan;
        if step == Step::Connect {
            let path = path(plan);
            self.requests_before = self.naru().report().await.downstream.requests_total;
            self.caller = Some(Caller::connect(plan, self.naru().address, &path, self.id).await);
            return Ok(());
        }
        if step == Step::Head {
            return self.take_head().await;
        }
        let caller = self.caller.as_mut().ok_or(Gone)?;
        if step == Step::HeadBegun {
            return caller.begin_head().await;
        }
        let callee = self.callee.as_mut().ok_or(Gone)?;
        let both = |sent: Result<(), Gone>, read: Result<(), Gone>| sent.and(read);
        match step {
            Step::Connect | Step::Head | Step::HeadBegun => Ok(()),
            Step::BodyBegun if plan.request == Shape::Large => caller.begin_body().await,
            Step::BodyBegun => {
                let (sent, read) = tokio::join!(caller.begin_body(), callee.read(HALF.len()));
                both(sent, read)
            }
            Step::Body => {
                let count = if plan.request == Shape::Large { LARGE } else { HALF.len() };
                let (sent, read) = tokio::join!(caller.body(), callee.read(count));
                both(sent, read)
            }
            Step::RequestEnd => {
                let (sent, read) = tokio::join!(caller.end_request(), callee.read_end());
                both(sent, read)
            }
            Step::Interim => callee.interim().await,
            Step::ResponseHeadBegun => callee.begin_head().await,
            Step::ResponseHead => {
                let (sent, read) = tokio::join!(callee.head(), caller.read_head());
                both(sent, read)
            }
            Step::ResponseBegun if plan.response == Shape::Large => {
                // The windows of naru take it all.
                self.is_answered = plan.up == Protocol::Http2;
                callee.begin_body().await
            }
            Step::ResponseBegun => {
                let (sent, read) = tokio::join!(callee.begin_body(), caller.read(HALF.len()));
                both(sent, read)
            }
            Step::ResponseBody => {
                let count = if plan.response == Shape::Large { LARGE } else { HALF.len() };
                let (sent, read) = tokio::join!(callee.body(), caller.read(count));
                both(sent, read)
            }
            Step::ResponseEnd => {
                let (sent, seen) = tokio::join!(callee.end_response(), caller.finish());
                let read = if seen.is_whole { Ok(()) } else { Err(Gone) };
                self.seen = Some(seen);
                both(sent, read)
            }
        }
    }

    async fn take_head(&mut self) -> Result<(), Gone> {
        let caller = self.caller.as_mut().ok_or(Gone)?;
        caller.head().await?;
        if self.plan.target != Target::Up {
            if !self.is_draining {
                // A head that a client leaves behind may be lost with its connection.
                until("naru to have the head", async || {
                    let seen = self.stand.naru.report().await.downstream.requests_total;
                    (seen > self.requests_before).then_some(())
                })
                .await;
            }
            // What follows waits with it, or is too late; but a client that waits itself sends nothing.
            if !matches!(self.plan.request, Shape::Bare | Shape::Interim) {
                let _ = caller.begin_body().await;
            }
            return Ok(());
        }
        let line = match self.line.take() {
            Some(line) => line,
            None => {
                let accept = Line::accept(self.stand.listener(self.plan.up), self.plan.up);
                if self.is_draining {
                    tokio::time::timeout(DRAINED_FOR, accept).await.map_err(|_| Gone)?
                } else {
                    accept.await
                }
            }
        };
        self.callee = Some(Callee::receive(self.plan, line).await?);
        Ok(())
    }

    async fn disturb(&mut self, disturbance: Disturbance) {
        let plan = self.plan;
        let is_alone = plan.disturbances.len() == 1;
        let is_in_frame = |before: Step| plan.is_in_frame && plan.next() == Some(before);
        match disturbance {
            Disturbance::Drain => {
                self.is_draining = true;
                self.naru().drain();
            }
            // They come by themselves. Where one has no effect, it must have had the time for it.
            Disturbance::RouteDeadline if plan.goes_on() && is_alone => {
                tokio::time::sleep(ROUTE_TIMEOUT * 3 / 2).await;
            }
            Disturbance::RequestDeadline if plan.goes_on() && is_alone => {
                tokio::time::sleep(REQUEST_TIMEOUT * 3 / 2).await;
            }
            Disturbance::RouteDeadline
            | Disturbance::IdleDeadline
            | Disturbance::RequestDeadline
            | Disturbance::ConnectDeadline
            | Disturbance::Refusal => {}
            ours if ours.is_clients() => {
                let Some(mut caller) = self.caller.take() else { return };
                let is_in_frame = is_in_frame(Step::Head);
                self.caller = match ours {
                    Disturbance::ClientCloses => {
                        caller.close(is_in_frame).await;
                        None
                    }
                    Disturbance::ClientResets => {
                        caller.reset(is_in_frame).await;
                        None
                    }
                    Disturbance::RequestTrailers(flaw) => caller.spoil_trailers(flaw).await,
                    Disturbance::ClientHalfCloses => {
                        caller.half_close().await;
                        Some(caller)
                    }
                    Disturbance::ClientCancels(code) => {
                        caller.cancel(code);
                        Some(caller)
                    }
                    _ => {
                        caller.talk_garbage().await;
                        Some(caller)
                    }
                };
            }
            theirs => {
                let Some(mut callee) = self.callee.take() else { return };
                let is_in_frame = is_in_frame(Step::ResponseHead);
                self.callee = match theirs {
                    Disturbance::UpstreamCloses => {
                        callee.close(is_in_frame).await;
                        None
                    }
                    Disturbance::UpstreamResets => {
                        callee.reset(is_in_frame).await;
                        None
                    }
                    Disturbance::ResponseTrailers(flaw) => callee.spoil_trailers(flaw).await,
                    Disturbance::UpstreamHalfCloses => {
                        callee.half_close().await;
                        Some(callee)
                    }
                    Disturbance::UpstreamCancels(code) => {
                        callee.cancel(code);
                        Some(callee)
                    }
                    Disturbance::UpstreamGoesAway(refuses) => {
                        callee.go_away(refuses);
                        Some(callee)
                    }
                    _ => {
                        callee.talk_garbage().await;
                        Some(callee)
                    }
                };
            }
        }
    }

    /// Whether the upstream must hear that nobody waits for it any more.
    fn must_be_left(&self) -> bool {
        let has_said_so = |disturbance: &Disturbance| {
            matches!(
                disturbance,
                Disturbance::UpstreamCancels(_)
                    | Disturbance::UpstreamGoesAway(_)
                    | Disturbance::ResponseTrailers(_)
            )
        };
        if self.is_complete {
            // What is left of the request would run into the next one.
            return self.plan.early == Early::Whole && self.plan.up == Protocol::Http1;
        }
        !self.is_answered && !self.plan.disturbances.iter().any(has_said_so)
    }

    /// Everything that still comes at either end.
    pub async fn conclude(&mut self) -> Option<Seen> {
        let must_be_left = self.must_be_left();
        let (caller, callee) = (&mut self.caller, &mut self.callee);
        let left = async {
            match callee {
                Some(callee) if must_be_left => callee.is_left().await,
                _ => false,
            }
        };
        let known = self.seen.take();
        let seen = async {
            match (known, caller) {
                (Some(seen), _) => Some(seen),
                (None, Some(caller)) => Some(caller.finish().await),
                (None, None) => None,
            }
        };
        let (seen, looks_whole) = tokio::join!(seen, left);
        let is_cut = !self.plan.is_whole() && !self.plan.goes_on();
        assert!(!(is_cut && looks_whole), "the upstream takes a request for whole that was broken off");
        seen
    }
}

/// Whether what the client saw is what was recorded.
pub fn check(plan: &Plan, seen: Option<&Seen>, ending: Ending) -> Result<(), String> {
    let (Some(seen), Some((status, reason))) = (seen, ending) else { return Ok(()) };
    // Its own stream is nothing to it any more.
    if plan.disturbances.iter().any(|one| one.is_clients()) {
        return Ok(());
    }
    // An answer that overtakes the request is lost where the connection is torn down behind it.
    let is_torn_down = plan.down == Protocol::Http1 || plan.disturbances.contains(&Disturbance::Drain);
    let may_be_lost = is_torn_down && plan.request != Shape::Bare;
    match seen.status {
        None if status == 0 => Ok(()),
        None if may_be_lost && (seen.end == Some(End::Reset) || plan.down == Protocol::Http2) => Ok(()),
        Some(found) if found != status => Err(format!("the client saw {found}")),
        // The head of an upstream and then an end that is not its own.
        Some(_) if status == STATUS && !reason.is_success() && seen.is_whole => {
            Err("the client takes a response for whole that was broken off".to_owned())
        }
        Some(_) if (status != STATUS || reason.is_success()) && !seen.is_whole && !may_be_lost => {
            Err("the client did not get all of the response".to_owned())
        }
        Some(_) => Ok(()),
        None => Err("the client saw nothing".to_owned()),
    }
}
