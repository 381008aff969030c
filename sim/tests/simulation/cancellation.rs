//! The cancellation walk: at every step of a request something breaks, for 256 requests.
//!
//! What should come of it is said by [`Plan::expected`], which knows only the timetable of the
//! undisturbed request. That all counts return to zero is checked by the judge whenever nothing is
//! under way, and once more here.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use naru_base::{Chance, Instant, Reason};
use naru_journey::Snapshot;
use naru_sim::{Active, Answer, Body, BodyEnd, Dial, Fleet, Script, Settled, Turn, World};
use naru_spec::{
    Action, AdaptiveConcurrency, Backoff, Bulkhead, CircuitBreaker, Config, Forward, Named, OutlierDetection,
    RetryPolicy, UpstreamProtocol,
};

use crate::support::{ADDRESS, compile, forward, get, plain, rule, seeds};

const SEEDS: u64 = 256;
const STATUS: u16 = 207;

/// A request that nothing disturbs.
#[derive(Clone, Copy, Debug)]
struct Plan {
    protocol: UpstreamProtocol,
    dial: Duration,
    upload: Body,
    /// The answer begins with the head of the request.
    is_early: bool,
    /// From there to the head of the response.
    answer: Duration,
    response: Body,
    /// The first connection is refused, and the route allows a retry: at no moment does that change anything.
    is_retried: bool,
    /// It passes guards and limits that have room for just this one.
    is_guarded: bool,
}

/// What happens, and when.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Nothing,
    ClientLeaves(Instant),
    /// Every connection to the upstream breaks.
    UpstreamResets(Instant),
    /// The response breaks off where its end should be.
    EndFails,
    /// The route's timeout passes.
    ResponseDeadline(Instant),
    /// The time for the whole request passes.
    RequestDeadline(Instant),
    /// The client breaks its body off after so many parts.
    UploadBreaks(u32),
    Refused,
    TlsFails,
    /// The connection is not there in time.
    ConnectDeadline(Duration),
}

impl Plan {
    fn draw(seed: u64) -> Plan {
        let mut chance = Chance::split(seed, "plan");
        // Odd numbers of nanoseconds, so that no two things fall on one moment.
        let mut span = |max_ms: u64| Duration::from_nanos(1 + 2 * chance.below(max_ms * 500_000));
        let (dial, over, answer, response_over) = (span(40), span(60), span(40), span(60));
        let (upload_end, response_end) = (span(20), span(20));
        let upload = match chance.below(4) {
            0 => Body::EMPTY,
            1 => Body::new(1 + chance.below(5_000), Duration::ZERO),
            _ => Body::new(1 + chance.below(200_000), over).in_parts(1 + chance.below(4) as u32),
        };
        let response = match chance.below(4) {
            0 => Body::EMPTY,
            _ => Body::new(1 + chance.below(200_000), response_over).in_parts(1 + chance.below(4) as u32),
        };
        let mut end = |body: Body, after: Duration| match chance.below(3) {
            0 => body.ending_after(BodyEnd::Trailers { grpc_status: None }, after),
            _ => body,
        };
        let upload = if upload.is_empty() { upload } else { end(upload, upload_end) };
        let response = end(response, response_end);
        Plan {
            protocol: if chance.below(2) == 0 { UpstreamProtocol::Http1 } else { UpstreamProtocol::Http2 },
            dial,
            upload,
            is_early: chance.below(2) == 0,
            answer,
            response,
            is_retried: Chance::split(seed, "retry").below(2) == 0,
            is_guarded: chance.below(2) == 0,
        }
    }

    fn connected(&self) -> Instant {
        Instant::ZERO + self.dial
    }

    /// When the proxy has read so many parts of the request: no sooner than there is a connection.
    fn read(&self, parts: u32) -> Instant {
        (Instant::ZERO + self.upload.at(parts)).max(self.connected())
    }

    /// When the proxy knows that the request is whole.
    fn whole(&self) -> Instant {
        let end = Instant::ZERO + self.upload.over + self.upload.end_after;
        if self.upload.is_empty() { Instant::ZERO } else { end.max(self.connected()) }
    }

    fn head(&self) -> Instant {
        let from = if self.is_early { self.connected() } else { self.whole().max(self.connected()) };
        from + self.answer
    }

    fn end(&self) -> Instant {
        self.head() + self.response.over + self.response.end_after
    }

    /// What may happen at this moment.
    fn steps(&self) -> Vec<Instant> {
        let mut steps = vec![Instant::ZERO, self.connected(), self.whole(), self.head(), self.end()];
        steps.extend((1..=self.upload.parts).map(|part| self.read(part)));
        steps.extend((1..=self.response.parts).map(|part| self.head() + self.response.at(part)));
        steps.retain(|at| *at <= self.end());
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Everything that may break, at a moment inside of every step.
    fn disturbances(&self, seed: u64) -> Vec<Disturbance> {
        let mut chance = Chance::split(seed, "moments");
        let steps = self.steps();
        let mut found = vec![
            Disturbance::Nothing,
            Disturbance::EndFails,
            Disturbance::Refused,
            Disturbance::TlsFails,
            Disturbance::ConnectDeadline(Duration::from_nanos(chance.below(self.dial.as_nanos() as u64))),
        ];
        for pair in steps.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let mut moment = || Instant(from.0 + 1 + chance.below(to.0 - from.0 - 1));
            found.push(Disturbance::ClientLeaves(moment()));
            found.push(Disturbance::UpstreamResets(moment()));
            found.push(Disturbance::ResponseDeadline(moment()));
            found.push(Disturbance::RequestDeadline(moment()));
        }
        found.extend((0..self.upload.parts).map(Disturbance::UploadBreaks));
        // After its end nothing can disturb it.
        let after = self.end() + Duration::from_millis(1);
        found.extend([Disturbance::ClientLeaves(after), Disturbance::UpstreamResets(after)]);
        found
    }

    /// The reason, and the status that the client sees.
    fn expected(&self, disturbance: Disturbance) -> (Reason, u16) {
        let fine = (Reason::Forwarded, STATUS);
        // An answer of the proxy's own, or the status that the client has seen before.
        let broken = |at: Instant, reason: Reason| match at {
            at if at >= self.end() => fine,
            at if at >= self.head() => (reason, STATUS),
            _ => (reason, reason.status()),
        };
        match disturbance {
            Disturbance::Nothing => fine,
            Disturbance::ClientLeaves(at) => broken(at, Reason::ClientGone),
            Disturbance::UpstreamResets(at) if at < self.connected() => fine,
            Disturbance::UpstreamResets(at) if at < self.head() => broken(at, Reason::UpstreamClosed),
            Disturbance::UpstreamResets(at) => broken(at, Reason::UpstreamAborted),
            Disturbance::EndFails => (Reason::UpstreamAborted, STATUS),
            // It counts from the end of the request.
            Disturbance::ResponseDeadline(at) if at <= self.whole() => fine,
            Disturbance::ResponseDeadline(at) => broken(at, Reason::RouteTimeout),
            Disturbance::RequestDeadline(at) if at >= self.whole() => fine,
            Disturbance::RequestDeadline(at) => broken(at, Reason::RequestTimeout),
            Disturbance::UploadBreaks(parts) => broken(self.read(parts), Reason::ClientAborted),
            Disturbance::Refused => (Reason::ConnectFailure, 503),
            Disturbance::TlsFails => (Reason::UpstreamTls, 503),
            Disturbance::ConnectDeadline(_) => (Reason::ConnectTimeout, 503),
        }
    }

    fn config(&self, disturbance: Disturbance) -> Config {
        let mut config = plain();
        config.clusters[0].protocol = self.protocol;
        if self.is_guarded {
            let cluster = &mut config.clusters[0];
            cluster.guard.outlier_detection = Some(OutlierDetection::default());
            cluster.guard.circuit_breaker = Some(CircuitBreaker::default());
            let normal = &mut cluster.limits.normal;
            (normal.connections_max, normal.pending_max, normal.requests_max) = (1, 1, 1);
            let bulkhead = Bulkhead { concurrency_max: 1, ..Bulkhead::default() };
            cluster.load.bulkhead = Some(Named { name: "one".to_owned(), settings: bulkhead });
            let adaptive = AdaptiveConcurrency { concurrency_min: 1, ..AdaptiveConcurrency::default() };
            cluster.load.adaptive = Some(Named { name: "one".to_owned(), settings: adaptive });
        }
        match disturbance {
            Disturbance::ResponseDeadline(at) => {
                let timeout = Some(at.since(self.whole()).max(Duration::from_nanos(1)));
                // A deadline before the end of the request cannot be; such a one is not set.
                let timeout = timeout.filter(|_| at > self.whole());
                let action = Action::Forward(Box::new(Forward { timeout, ..forward("one") }));
                config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules = vec![rule("/", action)];
            }
            Disturbance::RequestDeadline(at) => {
                config.listeners[0].chains[0].http.request_timeout = Some(at.since(Instant::ZERO));
            }
            Disturbance::ConnectDeadline(timeout) => config.clusters[0].connect_timeout = timeout,
            _ => {}
        }
        let rules = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
        if let Action::Forward(forward) = &mut rules[0].action {
            // At once: the plan has no time for it.
            let backoff = Backoff::Fixed { wait: Duration::ZERO, jitter_percent: 0 };
            forward.retry =
                Some(RetryPolicy { backoff, ..RetryPolicy::connects(u32::from(self.is_retried)) });
        }
        config
    }

    fn script(&self, disturbance: Disturbance) -> Script {
        let dial = match disturbance {
            Disturbance::Refused => Dial::Refused { after: self.dial },
            Disturbance::TlsFails => Dial::TlsFailed { after: self.dial },
            _ => Dial::Accepted { after: self.dial },
        };
        let body = match disturbance {
            Disturbance::EndFails => self.response.ending_after(BodyEnd::Broken, self.response.end_after),
            _ => self.response,
        };
        let answer = Answer::Response { after: self.answer, status: STATUS, grpc_status: None, body };
        let refused = self.is_retried.then_some(Dial::Refused { after: Duration::ZERO });
        let dials = refused.into_iter().chain([dial]).collect();
        Script { dials, answers: [answer].into(), is_early: self.is_early, ..Script::default() }
    }

    fn drive<'a>(&self, snapshot: &'a Snapshot, disturbance: Disturbance) -> (Settled<'a, ()>, Active) {
        let fleet = Fleet::new(snapshot, &|_| None);
        let mut world = World::new(snapshot, 1, 1, fleet, self.script(disturbance));
        let mut request = get("/");
        request.head.method = Method::PUT;
        request.body = match disturbance {
            Disturbance::UploadBreaks(parts) => self.upload.cut(parts, BodyEnd::Broken),
            _ => self.upload,
        };
        let patience = match disturbance {
            Disturbance::ClientLeaves(at) => Some(at.since(Instant::ZERO)),
            _ => None,
        };
        if let Disturbance::UpstreamResets(at) = disturbance {
            world.call_at(at, ());
        }
        let mut settled = None;
        let mut turn = Some(world.begin(0, &request, patience, (), &mut ()).unwrap());
        // To the very last event: what comes after the end of the request must do nothing.
        while let Some(taken) = turn {
            match taken {
                Turn::Settled(over) => assert!(settled.replace(over).is_none(), "it was settled twice"),
                Turn::Called(()) => world.reset_connections(ADDRESS.parse::<SocketAddr>().unwrap()),
                Turn::Moved => {}
            }
            turn = world.step().unwrap();
        }
        (settled.unwrap(), world.active())
    }
}

#[test]
fn whatever_breaks_at_whatever_step_is_counted_back_to_zero_and_has_its_reason() {
    let mut driven = 0;
    let mut reasons = std::collections::BTreeMap::new();
    for seed in seeds(SEEDS) {
        let plan = Plan::draw(seed);
        for disturbance in plan.disturbances(seed) {
            let snapshot = compile(plan.config(disturbance));
            let (settled, active) = plan.drive(&snapshot, disturbance);
            let found = (settled.outcome.reason, settled.outcome.status);
            let told = format!("NARU_SEED={seed}: {disturbance:?}\n{plan:#?}\n{:#?}", settled.outcome);
            assert_eq!(found, plan.expected(disturbance), "{told}");
            assert_eq!(active, Active::default(), "{told}");
            driven += 1;
            *reasons.entry(found.0).or_insert(0) += 1;
        }
    }
    if seeds(SEEDS) == (0..SEEDS) {
        assert!(driven > 20 * SEEDS, "{driven}");
        assert!(reasons.len() == 10 && reasons.values().all(|&count| count > SEEDS / 4), "{reasons:?}");
    }
}
