//! A calls B, B calls C, C calls D, and D fails: how often is D called?
//!
//! A small world on virtual time, with one recovery at each hop and one count of retries for each
//! hop's cluster. The naive count, where every hop tries three times by itself, is what would be.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use naru_base::{AttemptId, Chance, EndpointId, Instant, WallTime};
use naru_recover::{
    Circumstances, CompiledRetry, Done, Facts, Head, Recovery, RetryLoad, Step, Verdict, layer,
};
use naru_spec::{RetryBudget, RetryLimit, RetryOn, RetryPolicy};

const HOPS: usize = 3;
const SERVICE_TIME: Duration = Duration::from_millis(20);

/// What every hop does.
struct Hop {
    policy: CompiledRetry,
    limit: RetryLimit,
    /// Whether it says and believes what `layer` says.
    is_coordinated: bool,
}

/// A request at one hop: the attempt that the hop before it made.
struct Call {
    hop: usize,
    recovery: Recovery,
    attempts: u16,
    /// The call that this one is an attempt of.
    parent: Option<u64>,
    was_retrying: bool,
    is_repeat: bool,
}

enum Event {
    /// D has an answer for this call of the last hop.
    Answer(u64),
    Tick(u64),
    Offer,
}

struct World<'a> {
    hop: &'a Hop,
    now: Instant,
    calls: BTreeMap<u64, Call>,
    next: u64,
    queue: BTreeMap<(Instant, u64), Event>,
    order: u64,
    active: [u32; HOPS],
    retries: [u32; HOPS],
    calls_of_d: u32,
    answered: u32,
    failed_percent: u64,
    chance: Chance,
}

impl World<'_> {
    fn schedule(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    fn call(&mut self, hop: usize, parent: Option<u64>, is_repeat: bool) {
        let id = self.next;
        self.next += 1;
        let facts = Facts { may_repeat: true, is_repeat: is_repeat && self.hop.is_coordinated };
        let recovery = Recovery::begin(&self.hop.policy, facts, &HeaderMap::new(), false);
        self.active[hop] += 1;
        self.calls.insert(id, Call { hop, recovery, attempts: 0, parent, was_retrying: false, is_repeat });
        self.attempt(id);
    }

    fn attempt(&mut self, id: u64) {
        let call = self.calls.get_mut(&id).expect("a call");
        let attempt = AttemptId(call.attempts);
        call.attempts += 1;
        assert!(call.recovery.begin_attempt(attempt, EndpointId(0), 0));
        let (hop, is_repeat) = (call.hop, call.is_repeat || call.recovery.retries() > 0);
        if hop + 1 < HOPS {
            self.call(hop + 1, Some(id), is_repeat);
        } else {
            self.calls_of_d += 1;
            self.schedule(self.now + SERVICE_TIME, Event::Answer(id));
        }
    }

    fn circumstances(&self, hop: usize) -> Circumstances {
        Circumstances {
            wall: WallTime(0),
            deadline: None,
            is_replayable: true,
            is_breaker_open: false,
            was_retried: false,
            load: RetryLoad { active: self.active[hop], pending: 0, retries: self.retries[hop], recent: 0 },
            limit: self.hop.limit,
        }
    }

    fn answer(&mut self, id: u64, status: u16, headers: &HeaderMap) {
        let around = self.circumstances(self.calls[&id].hop);
        let call = self.calls.get_mut(&id).expect("a call");
        let (hop, attempt) = (call.hop, AttemptId(call.attempts - 1));
        let head = Head { status, grpc_status: None, headers };
        let (now, policy) = (self.now, &self.hop.policy);
        let verdict = call.recovery.on_head(now, attempt, policy, &head, || around, &mut self.chance);
        let is_retrying = call.recovery.is_retrying();
        self.retries[hop] = self.retries[hop] + u32::from(is_retrying) - u32::from(call.was_retrying);
        call.was_retrying = is_retrying;
        match verdict {
            Verdict::Done(done) => self.end(id, status, done),
            Verdict::RetryAfter(wait) => self.schedule(now + wait, Event::Tick(id)),
            Verdict::Replay | Verdict::Await => panic!("{verdict:?}"),
        }
    }

    fn end(&mut self, id: u64, status: u16, done: Done) {
        let call = self.calls.remove(&id).expect("a call");
        self.active[call.hop] -= 1;
        let mut headers = HeaderMap::new();
        layer::tell_caller(&mut headers, self.hop.is_coordinated && done.is_told());
        match call.parent {
            Some(parent) => self.answer(parent, status, &headers),
            None => self.answered += 1,
        }
    }

    fn run(&mut self, requests: u32, every: Duration) {
        let mut offered = 0;
        self.schedule(self.now, Event::Offer);
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            match event {
                Event::Offer => {
                    offered += 1;
                    if offered < requests {
                        self.schedule(at + every, Event::Offer);
                    }
                    self.call(0, None, false);
                }
                Event::Tick(id) => {
                    let around = self.circumstances(self.calls[&id].hop);
                    let call = self.calls.get_mut(&id).expect("a call");
                    let step = call.recovery.tick(at, &self.hop.policy, &around, &mut self.chance);
                    assert_eq!(step, Some(Step::Try));
                    self.attempt(id);
                }
                Event::Answer(id) => {
                    let status = if self.chance.below(100) < self.failed_percent { 503 } else { 200 };
                    self.answer(id, status, &HeaderMap::new());
                }
            }
        }
        assert_eq!((self.answered, self.calls.len()), (requests, 0), "every request has its answer");
        assert_eq!((self.active, self.retries), ([0; HOPS], [0; HOPS]), "what is counted is given back");
    }
}

/// Calls of D for each request, in hundredths.
fn amplification(is_coordinated: bool, limit: RetryLimit, failed_percent: u64, seed: u64) -> u32 {
    let policy = RetryPolicy { retries_max: 2, ..RetryPolicy::new(RetryOn::SERVER_ERROR) };
    let policy = CompiledRetry::compile(&policy, None).expect("a policy");
    let hop = Hop { policy, limit, is_coordinated };
    let mut world = World {
        hop: &hop,
        now: Instant::ZERO,
        calls: BTreeMap::new(),
        next: 0,
        queue: BTreeMap::new(),
        order: 0,
        active: [0; HOPS],
        retries: [0; HOPS],
        calls_of_d: 0,
        answered: 0,
        failed_percent,
        chance: Chance::new(seed),
    };
    const REQUESTS: u32 = 5_000;
    world.run(REQUESTS, Duration::from_micros(200));
    world.calls_of_d * 100 / REQUESTS
}

const WITHOUT_END: RetryLimit = RetryLimit::Concurrent(u32::MAX);
const BUDGET: RetryLimit =
    RetryLimit::Budget(RetryBudget { share_ppm: 200_000, concurrency_min: 3, interval: Duration::ZERO });

#[test]
fn every_hop_by_itself_would_call_the_last_27_times() {
    assert_eq!(amplification(false, WITHOUT_END, 100, 1), 2_700);
}

#[test]
fn the_nearest_hop_alone_calls_it_three_times() {
    assert_eq!(amplification(true, WITHOUT_END, 100, 1), 300);
}

#[test]
fn the_nearest_hop_within_its_budget_calls_it_less_than_a_third_more() {
    for seed in 0..2 {
        for failed_percent in [100, 80, 50, 20] {
            let calls = amplification(true, BUDGET, failed_percent, seed);
            assert!((100..=130).contains(&calls), "{failed_percent}% failed: {calls}");
        }
    }
}

#[test]
fn few_failures_are_all_retried_within_the_budget() {
    let calls = amplification(true, BUDGET, 5, 1);
    assert!((104..=107).contains(&calls), "{calls}");
}
