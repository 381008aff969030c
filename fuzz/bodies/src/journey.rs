//! Events at the machine of one request.
//!
//! The first line says, by a letter each, what request it is and where it may go; a digit after a
//! letter is its number. Every letter that follows is an event, and time passes by the digits:
//!
//! ```text
//! p n2 t3 r5 i7 c1    a POST, two endpoints, timeouts of route, request and idleness, one more to connect to
//! 1F9kHbe             time, the first attempt fails, time, it is safe to repeat..
//! ```
//!
//! With `T` it is a tunnel; `P` says that what is in it is passed through.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason, Weight};
use naru_journey::{
    Action, AttemptEvent, Cause, ChainId, EndpointFacts, Failure, Journey, Milestone, RequestFacts, Sent,
    Snapshot, Stage, View, Worker,
};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::{
    Address, BalancingPolicy, Cluster, Config, Discovery, Domain, Endpoint, FilterChain, Forward, Http,
    LeastRequest, Listener, LoadBalancing, Match, RetryOn, RetryPolicy, RouteTable, Rule, VirtualHost,
};

/// Events after these say nothing new.
const EVENTS_MAX: usize = 400;

/// After every event the invariants hold; the client is answered once at most; every attempt that was
/// begun is over when the request is, so that what it held is given back.
pub fn journey(bytes: &[u8]) {
    let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, events) = bytes.split_at(line_end);
    let settings = Settings::read(first);
    let snapshot = settings.snapshot();
    let mut walk = Walk::begin(&settings, &snapshot);
    for event in events.iter().take(EVENTS_MAX) {
        walk.event(*event);
    }
    walk.finish();
}

#[derive(Debug, Default)]
struct Settings {
    is_post: bool,
    has_body: bool,
    endpoints: usize,
    is_lost: bool,
    route: Option<Duration>,
    request: Option<Duration>,
    idle: Option<Duration>,
    asked_ms: Option<u64>,
    balancing: usize,
    connect_retries: u32,
    retries_errors: bool,
    is_tunnel: bool,
}

impl Settings {
    fn read(line: &[u8]) -> Settings {
        let mut settings = Settings::default();
        for (at, letter) in line.iter().enumerate() {
            let number =
                line.get(at + 1).filter(|digit| digit.is_ascii_digit()).map_or(0, |digit| digit - b'0');
            let span = Some(Duration::from_millis(u64::from(number)));
            match letter {
                b'p' => settings.is_post = true,
                b'b' => settings.has_body = true,
                b'n' => settings.endpoints = usize::from(number),
                b'l' => settings.is_lost = true,
                b't' => settings.route = span,
                b'r' => settings.request = span,
                b'i' => settings.idle = span,
                b'a' => settings.asked_ms = Some(u64::from(number)),
                b'w' => settings.balancing = usize::from(number),
                b'T' => settings.is_tunnel = true,
                b'c' => settings.connect_retries = u32::from(number),
                b'5' => settings.retries_errors = true,
                _ => {}
            }
        }
        settings
    }

    fn snapshot(&self) -> Snapshot {
        let mut forward = Forward::to("service");
        forward.timeout = self.route;
        forward.retry = Some(if self.retries_errors {
            RetryPolicy {
                retries_max: self.connect_retries,
                per_try_timeout: Some(Duration::from_millis(3)),
                ..RetryPolicy::new(RetryOn::SERVER_ERROR)
            }
        } else {
            RetryPolicy::connects(self.connect_retries)
        });
        let mut http = Http::new("fuzz", RouteTable::default());
        http.request_timeout = self.request;
        http.stream_idle_timeout = self.idle;
        http.routes.virtual_hosts.push(VirtualHost {
            name: "all".into(),
            domains: vec![Domain::Any],
            rules: vec![Rule {
                gate: Vec::new(),
                name: "rule".into(),
                origin: String::new(),
                matches: vec![Match::default()],
                action: naru_spec::Action::Forward(Box::new(forward)),
                request_headers: Default::default(),
                response_headers: Default::default(),
            }],
            tls: Default::default(),
            request_headers: Default::default(),
            response_headers: Default::default(),
        });
        let endpoint = Endpoint::new(Address::Socket(([127, 0, 0, 1], 1).into()));
        let mut cluster = Cluster::new("service", Discovery::Static, vec![endpoint]);
        cluster.load_balancing = match self.balancing {
            0 => LoadBalancing::round_robin(),
            1 => LoadBalancing::random(),
            choices => {
                let choices = choices as u32;
                BalancingPolicy::LeastRequest(LeastRequest { choices, ..LeastRequest::default() }).into()
            }
        };
        let chain = FilterChain::of(http);
        let address = ([127, 0, 0, 1], 0).into();
        Snapshot::compile(Config {
            admin: None,
            listeners: vec![Listener::new("main", address, vec![chain])],
            clusters: vec![cluster],
            overload: None,
            cache: None,
            stores: Vec::new(),
            surge: None,
        })
        .expect("it compiles")
    }
}

/// Which attempts hold a place at an endpoint, as a shell counts them.
#[derive(Debug, Default)]
struct Held(RefCell<Vec<(AttemptId, EndpointId)>>);

impl View for Held {
    fn active(&self, _cluster: ClusterId, endpoint: EndpointId) -> u32 {
        self.0.borrow().iter().filter(|(_, at)| *at == endpoint).count() as u32
    }
}

impl Held {
    fn release(&self, attempt: AttemptId) -> bool {
        let mut held = self.0.borrow_mut();
        let before = held.len();
        held.retain(|(id, _)| *id != attempt);
        held.len() < before
    }
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    journey: Journey,
    worker: Worker,
    held: Held,
    now: Instant,
    answers: u32,
    breaks: u32,
    last: Option<AttemptId>,
    has_forwarded: bool,
    endpoints: usize,
    retries_left: u32,
}

impl<'a> Walk<'a> {
    fn begin(settings: &'a Settings, snapshot: &'a Snapshot) -> Walk<'a> {
        let mut worker = Worker::new(snapshot, 1);
        worker.set_endpoints(
            snapshot,
            ClusterId(0),
            &vec![EndpointFacts::of_weight(Weight(1)); settings.endpoints],
        );
        let method = if settings.is_post { Method::POST } else { Method::GET };
        let headers = HeaderMap::new();
        let subject = Subject {
            method: &method,
            authority: "a",
            path: if settings.is_lost { "lost" } else { "/" },
            query: None,
            scheme: naru_spec::Scheme::Http,
            headers: &headers,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_internal: false,
            draw: worker.draw_request(),
            claims: None,
        };
        let facts = RequestFacts {
            repeats: Facts::of(&method, &headers, false),
            has_ended: !settings.has_body,
            timeout_ms: settings.asked_ms,
            ..RequestFacts::NONE
        };
        let held = Held::default();
        let now = Instant(1_000_000);
        let chain = ChainId(0);
        let journey = if settings.is_tunnel {
            Journey::tunnel(now, chain)
        } else {
            Journey::begin(now, snapshot, chain, &subject, facts, &mut worker, &held, &mut ())
        };
        let endpoints = settings.endpoints;
        let mut walk = Walk {
            snapshot,
            settings,
            journey,
            worker,
            held,
            now,
            answers: 0,
            breaks: 0,
            last: None,
            has_forwarded: false,
            endpoints,
            retries_left: settings.connect_retries,
        };
        walk.settle();
        let is_sent = endpoints > 0 && !settings.is_lost && !settings.is_tunnel;
        assert_eq!(walk.last.is_some(), is_sent);
        walk
    }

    fn event(&mut self, event: u8) {
        let had_ended = self.journey.has_ended();
        let deadline = self.journey.deadline();
        let attempt = self.last.unwrap_or(AttemptId(0));
        let earlier = AttemptId(attempt.0.wrapping_sub(1));
        let now = self.now;
        match event {
            b'0'..=b'9' => {
                self.now = Instant(now.0 + u64::from(event - b'0') * 1_000_000);
                self.journey.tick(self.now);
            }
            b'h' => self.attempt(
                attempt,
                AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
            ),
            b'H' => self.attempt(
                attempt,
                AttemptEvent::Head { status: 503, has_ended: true, headers: None, is_replayable: true },
            ),
            b'x' => self.attempt(
                earlier,
                AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
            ),
            b'k' => self.fail(attempt, Stage::Connect, Sent::No, false),
            b's' => self.fail(attempt, Stage::Secure, Sent::No, false),
            b'f' => self.fail(attempt, Stage::Exchange, Sent::No, true),
            b'm' => self.fail(attempt, Stage::Exchange, Sent::Maybe, true),
            b'y' => self.fail(attempt, Stage::Exchange, Sent::Yes, true),
            b'o' => self.fail(earlier, Stage::Exchange, Sent::No, true),
            b'u' => self.journey.on_request_body(now, Milestone::FirstByte),
            b'e' => self.journey.on_request_body(now, Milestone::End),
            b'E' => self.journey.on_request_body(now, Milestone::Trailers { grpc_status: None }),
            b'a' => self.journey.on_request_body(now, Milestone::Aborted),
            // A body has a head before it.
            b'b' | b'd' | b'D' | b'B' if self.answers == 0 || self.is_connecting() => return,
            b'P' => self.pass_through(),
            b'Z' => self.journey.on_drained(now),
            b'b' => self.journey.on_response_body(now, Milestone::FirstByte),
            b'd' => self.journey.on_response_body(now, Milestone::End),
            b'D' => self.journey.on_response_body(now, Milestone::Trailers { grpc_status: Some(3) }),
            b'B' => self.journey.on_response_body(now, Milestone::Aborted),
            b'g' => self.journey.on_grpc_status(7),
            b'+' => self.journey.on_progress(now),
            // On time: a shell's timer fires no earlier than it was set for.
            b't' => {
                if let Some((at, _)) = deadline {
                    self.now = now.max(at);
                }
                self.journey.tick(self.now);
                self.settle();
                let is_late = self.journey.deadline().is_some_and(|(at, _)| at <= self.now);
                assert!(!is_late || self.answers > 0, "a deadline that passed is a deadline still");
            }
            b'!' => self.abandon(),
            _ => return,
        }
        self.settle();
        assert!(!had_ended || self.journey.has_ended(), "it came back to life");
    }

    /// Of a tunnel there is a head from the beginning.
    fn is_connecting(&self) -> bool {
        self.settings.is_tunnel && self.last.is_some() && !self.has_forwarded
    }

    fn pass_through(&mut self) {
        let headers = HeaderMap::new();
        let subject = Subject {
            method: &Method::CONNECT,
            authority: "a:1",
            path: if self.settings.is_lost { "lost" } else { "/" },
            query: None,
            scheme: naru_spec::Scheme::Http,
            headers: &headers,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_internal: false,
            draw: 7,
            claims: None,
        };
        let (now, worker) = (self.now, &mut self.worker);
        self.journey.pass_through(now, self.snapshot, &subject, worker, &self.held, &mut ());
    }

    /// The client leaves: the shell drops everything that the request holds.
    fn abandon(&mut self) {
        self.held.0.borrow_mut().clear();
        self.journey.on_abandoned(self.now);
    }

    /// An attempt that fails before its head is over; after it, its body tells how it goes.
    fn attempt(&mut self, attempt: AttemptId, event: AttemptEvent<'_>) {
        if matches!(event, AttemptEvent::Failed(_)) && !self.has_forwarded {
            self.held.release(attempt);
        }
        self.journey.on_attempt(self.now, self.snapshot, attempt, event, &mut self.worker, &self.held);
    }

    fn fail(&mut self, attempt: AttemptId, stage: Stage, sent: Sent, is_reused: bool) {
        let failure = Failure { stage, reason: Reason::UpstreamClosed, sent, is_reused, is_replayable: true };
        self.attempt(attempt, AttemptEvent::Failed(failure));
    }

    /// Carries out what the machine asks for.
    fn settle(&mut self) {
        while let Some(action) = self.journey.next_action() {
            match action {
                Action::Send { attempt, endpoint, cause, .. } => {
                    assert!(endpoint.index() < self.endpoints, "an endpoint that is not there");
                    if cause == Cause::Retry {
                        let left = self.retries_left.checked_sub(1);
                        self.retries_left = left.unwrap_or_else(|| panic!("one retry too many"));
                    }
                    assert_eq!(cause == Cause::First, self.last.is_none(), "{cause:?}");
                    assert!(self.last.is_none_or(|last| last < attempt), "an attempt is begun twice");
                    assert_eq!(
                        self.answers,
                        u32::from(self.settings.is_tunnel),
                        "an attempt after the answer"
                    );
                    let held = self.held.0.borrow().len();
                    assert_eq!(held, 0, "two attempts at a time");
                    self.held.0.borrow_mut().push((attempt, endpoint));
                    self.last = Some(attempt);
                }
                Action::Forward { attempt } => {
                    assert_eq!(Some(attempt), self.last, "a response of an attempt that was given up");
                    self.answers += u32::from(!self.settings.is_tunnel);
                    self.has_forwarded = true;
                }
                Action::Open => self.answers += 1,
                Action::Locate { .. } => panic!("its clusters have endpoints of their own"),
                Action::Reach { attempt } => {
                    assert!(self.settings.is_tunnel && self.settings.is_lost && self.last.is_none());
                    self.held.0.borrow_mut().push((attempt, EndpointId(0)));
                    self.last = Some(attempt);
                }
                Action::Cancel { attempt } => {
                    assert!(self.held.release(attempt), "an attempt is given up that is over");
                }
                Action::Check | Action::Ask => panic!("it has no gate"),
                Action::Wait { .. } | Action::Look | Action::Lookup => panic!("nothing limits it"),
                Action::Due => {
                    let (now, worker) = (self.now, &mut self.worker);
                    self.journey.on_due(now, self.snapshot, true, worker, &self.held, &mut ());
                }
                Action::Reply(reason) => {
                    self.answers += 1;
                    self.journey.on_reply(self.now, reason.status(), None);
                }
                Action::Break(_) => {
                    self.breaks += 1;
                    assert_eq!(self.answers, 1, "there is nothing to break off");
                }
            }
            assert!(self.answers <= 1, "answered twice");
            assert!(self.breaks <= 1, "broken off twice");
        }
        self.journey.check_invariants().unwrap_or_else(|what| panic!("{what}: {:#?}", self.journey));
        let Some(outcome) = self.journey.outcome() else { return };
        // A response that went through gives its attempt back with its last byte, and so does one
        // that broke; all others were cancelled, or said themselves that they failed.
        if self.has_forwarded {
            self.held.0.borrow_mut().clear();
        }
        assert!(outcome.began <= outcome.ended, "it ended before it began");
        assert!(outcome.head.is_none_or(|head| head <= outcome.ended), "a head after the end");
        assert_eq!(u32::from(outcome.attempts), self.last.map_or(0, |last| u32::from(last.0) + 1));
        if outcome.reason == Reason::Forwarded {
            assert!(self.has_forwarded && outcome.status > 0, "{outcome:?}");
        }
    }

    /// Whatever is under way now, the client leaves.
    fn finish(mut self) {
        self.settle();
        let was_over = self.journey.has_ended();
        if was_over {
            // Its own ending gave everything back.
            let left = self.held.0.borrow();
            assert!(left.is_empty(), "still held: {left:?}");
        }
        self.abandon();
        assert_eq!(self.journey.next_action(), None, "it asks for something when nobody is there");
        self.journey.check_invariants().unwrap_or_else(|what| panic!("{what}"));
        let outcome = self.journey.outcome().unwrap_or_else(|| panic!("it has no end"));
        assert!(was_over || outcome.reason == Reason::ClientGone, "{outcome:?}");
        assert_eq!(self.journey.deadline(), None);
    }
}
