//! What is asked and answered, what breaks at which step, and what should come of it.
//!
//! The words are those of the walk on virtual time (`sim/tests/simulation/cancellation.rs`): a plan
//! is a request that nothing disturbs, a disturbance happens at one of its steps, and what is
//! expected follows from the plan alone.

use std::fmt;

use naru_base::{Chance, Reason};

/// What upstreams answer with, so that it is told from the answers of the proxy.
pub const STATUS: u16 = 207;
/// The status that the client saw (0 where it saw none) and why it ended; `None` where there never
/// was a request.
pub type Ending = Option<(u16, Reason)>;
pub const FINE: Ending = Some((STATUS, Reason::Forwarded));

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http1,
    Http2,
}

/// How a message is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// All head. Only requests.
    Bare,
    Length,
    Chunked,
    Trailers,
    /// A request that waits for 100, a response before which one comes.
    Interim,
    /// More than all buffers on the way take.
    Large,
    /// Ends with its connection. Only responses, over HTTP/1.
    UntilClose,
}

/// How much of the request comes before the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Early {
    /// All of it.
    No,
    /// Half; the rest comes before the end of the response.
    Half,
    /// Half; the rest never comes.
    Whole,
}

/// A step that both ends have taken: whatever one sends, the other has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Connect,
    HeadBegun,
    Head,
    BodyBegun,
    Body,
    RequestEnd,
    Interim,
    ResponseHeadBegun,
    ResponseHead,
    ResponseBegun,
    ResponseBody,
    ResponseEnd,
}

/// What happens instead of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    ClientCloses,
    ClientResets,
    /// It sends nothing more, and reads on.
    ClientHalfCloses,
    /// RST_STREAM.
    ClientCancels(Code),
    ClientTalksGarbage,
    RequestTrailers(Flaw),
    UpstreamCloses,
    UpstreamResets,
    UpstreamHalfCloses,
    /// RST_STREAM.
    UpstreamCancels(Code),
    UpstreamTalksGarbage,
    /// GOAWAY; `true` where the request is not among those that are still served.
    UpstreamGoesAway(bool),
    ResponseTrailers(Flaw),
    /// The route's timeout passes.
    RouteDeadline,
    /// Nothing moves for too long.
    IdleDeadline,
    /// The time for the whole request passes.
    RequestDeadline,
    /// There is no connection in time.
    ConnectDeadline,
    Refusal,
    Drain,
}

/// What is wrong with trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// They break off in the middle.
    Broken,
    Invalid,
    Oversized,
}

/// Why a stream is reset. None of them says that it was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    NoError,
    Cancel,
    Internal,
}

impl Code {
    const ALL: [Code; 3] = [Code::NoError, Code::Cancel, Code::Internal];

    pub fn reason(self) -> h2::Reason {
        match self {
            Code::NoError => h2::Reason::NO_ERROR,
            Code::Cancel => h2::Reason::CANCEL,
            Code::Internal => h2::Reason::INTERNAL_ERROR,
        }
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Up,
    /// Refuses connections.
    Refusing,
    /// Takes no notice of them.
    Silent,
}

/// Which of the limits holds for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    None,
    Route,
    Idle,
    Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub down: Protocol,
    pub up: Protocol,
    pub method: &'static str,
    pub request: Shape,
    pub response: Shape,
    pub early: Early,
    /// The upstream's connection has served a request before.
    pub is_warm: bool,
    pub target: Target,
    /// So many steps are taken before anything happens.
    pub at: usize,
    pub disturbances: Vec<Disturbance>,
    /// In HTTP/2 it happens in the middle of a HEADERS frame.
    pub is_in_frame: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps();
        write!(f, "{:?} after {:?} of {steps:?}\n{self:?}", self.disturbances, &steps[..self.at])
    }
}

impl Plan {
    /// Three plans: one that the client disturbs, one for the upstream, one for time and the proxy.
    pub fn draw(seed: u64) -> Vec<Plan> {
        let mut chance = Chance::split(seed, "plan");
        let mut plans = Vec::new();
        for by in [Plan::by_client, Plan::by_upstream, Plan::by_time] {
            let mut plan = Plan::undisturbed(&mut chance);
            if by(&plan, &mut chance).is_empty() {
                plan.target = Target::Up;
            }
            let all = by(&plan, &mut chance);
            let (at, first) = all[chance.below(all.len() as u64) as usize];
            plan.at = at;
            plan.disturbances = vec![first];
            // Sometimes the other side has had enough at the same moment.
            if chance.below(4) == 0 && plan.target == Target::Up && first != Disturbance::RequestDeadline {
                let mut others = plan.by_client(&mut chance);
                others.extend(plan.by_upstream(&mut chance));
                others.retain(|(other, second)| *other == at && *second != first && second.goes_with(first));
                if !others.is_empty() {
                    let (_, second) = others[chance.below(others.len() as u64) as usize];
                    plan.disturbances.push(second);
                }
            }
            plans.push(plan);
        }
        plans
    }

    fn undisturbed(chance: &mut Chance) -> Plan {
        let mut protocol = || if chance.below(2) == 0 { Protocol::Http1 } else { Protocol::Http2 };
        let (down, up) = (protocol(), protocol());
        let request = match chance.below(8) {
            0 | 1 => Shape::Bare,
            2 => Shape::Length,
            3 => Shape::Chunked,
            4 | 5 => Shape::Trailers,
            6 => Shape::Interim,
            _ => Shape::Large,
        };
        let response = match chance.below(8) {
            0 | 1 => Shape::Length,
            2 => Shape::Chunked,
            3 | 4 => Shape::Trailers,
            5 => Shape::Interim,
            6 if up == Protocol::Http1 => Shape::UntilClose,
            _ => Shape::Large,
        };
        let early = match chance.below(8) {
            _ if matches!(request, Shape::Bare | Shape::Large) => Early::No,
            // Over HTTP/1 a request is sent on only while its response is taken: docs/gaps.md.
            _ if response == Shape::Large && up == Protocol::Http1 => Early::No,
            0 | 1 => Early::Half,
            2 => Early::Whole,
            _ => Early::No,
        };
        let target = match chance.below(6) {
            0 => Target::Refusing,
            1 => Target::Silent,
            _ => Target::Up,
        };
        let method = match (request, chance.below(2)) {
            (Shape::Bare, 0) => "GET",
            (_, 0) => "PUT",
            _ => "POST",
        };
        Plan {
            down,
            up,
            method,
            request,
            response,
            early,
            is_warm: chance.below(4) == 0,
            target,
            at: 0,
            disturbances: Vec::new(),
            is_in_frame: chance.below(2) == 0,
        }
    }

    /// What is to be done, in order, if nothing disturbs it.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Connect];
        // Half a HEADERS frame cannot be written by a library.
        steps.extend((self.down == Protocol::Http1).then_some(Step::HeadBegun));
        steps.push(Step::Head);
        if self.target != Target::Up {
            return steps;
        }
        let has_end = |shape: Shape| {
            matches!(shape, Shape::Chunked | Shape::Trailers | Shape::UntilClose).then_some(())
        };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if self.request != Shape::Bare {
            before.push(Step::BodyBegun);
            let rest = match self.early {
                Early::No => Some(&mut before),
                Early::Half => Some(&mut after),
                Early::Whole => None,
            };
            if let Some(rest) = rest {
                rest.push(Step::Body);
                rest.extend(has_end(self.request).map(|()| Step::RequestEnd));
            }
        }
        steps.extend(before);
        steps.extend((self.response == Shape::Interim).then_some(Step::Interim));
        steps.extend((self.up == Protocol::Http1).then_some(Step::ResponseHeadBegun));
        steps.extend([Step::ResponseHead, Step::ResponseBegun]);
        steps.extend(after);
        steps.push(Step::ResponseBody);
        steps.extend(has_end(self.response).map(|()| Step::ResponseEnd));
        steps
    }

    fn has_taken(&self, step: Step) -> bool {
        self.steps()[..self.at].contains(&step)
    }

    /// The upstream has the head of the request.
    pub fn is_routed(&self) -> bool {
        self.has_taken(Step::Head)
    }

    /// The request has arrived to its end.
    pub fn is_whole(&self) -> bool {
        let last = match self.request {
            Shape::Bare => Step::Head,
            Shape::Chunked | Shape::Trailers => Step::RequestEnd,
            _ => Step::Body,
        };
        self.has_taken(last)
    }

    /// The client has the head of the response.
    fn has_head(&self) -> bool {
        self.has_taken(Step::ResponseHead)
    }

    pub fn is_over(&self) -> bool {
        self.target == Target::Up && self.at == self.steps().len()
    }

    /// The upstream has sent everything: the windows of naru over HTTP/2 take also what is large.
    pub fn is_answered(&self) -> bool {
        let is_large = self.response == Shape::Large && self.up == Protocol::Http2;
        self.is_over() || is_large && self.has_taken(Step::ResponseBegun)
    }

    pub fn next(&self) -> Option<Step> {
        self.steps().get(self.at).copied()
    }

    pub fn limit(&self) -> Limit {
        let has = |disturbance| self.disturbances.contains(&disturbance);
        match () {
            () if has(Disturbance::RouteDeadline) => Limit::Route,
            () if has(Disturbance::IdleDeadline) => Limit::Idle,
            () if has(Disturbance::RequestDeadline) => Limit::Request,
            () => Limit::None,
        }
    }

    /// At every step, the plan as it would be there.
    fn moments(&self, from: usize) -> impl Iterator<Item = Plan> {
        (from..=self.steps().len()).map(|at| Plan { at, ..self.clone() })
    }

    fn by_client(&self, _: &mut Chance) -> Vec<(usize, Disturbance)> {
        use Disturbance::*;
        let mut all = Vec::new();
        if self.target == Target::Refusing {
            return all;
        }
        for plan in self.moments(1) {
            let mut add = |disturbance| all.push((plan.at, disturbance));
            add(ClientCloses);
            add(ClientResets);
            let is_sending = plan.has_taken(Step::BodyBegun) && !plan.is_whole();
            match self.down {
                Protocol::Http1 => {
                    add(ClientHalfCloses);
                    let is_in_chunks = matches!(self.request, Shape::Chunked | Shape::Trailers) && is_sending;
                    if is_in_chunks || plan.next() == Some(Step::Head) {
                        add(ClientTalksGarbage);
                    }
                }
                Protocol::Http2 => {
                    add(ClientTalksGarbage);
                    if plan.is_routed() {
                        Code::ALL.into_iter().for_each(|code| add(ClientCancels(code)));
                    }
                }
            }
            if self.request == Shape::Trailers && plan.next() == Some(Step::RequestEnd) {
                // As likely as all others together.
                for flaw in [Flaw::Broken, Flaw::Invalid, Flaw::Oversized] {
                    (0..8).for_each(|_| add(RequestTrailers(flaw)));
                }
            }
        }
        all
    }

    fn by_upstream(&self, _: &mut Chance) -> Vec<(usize, Disturbance)> {
        use Disturbance::*;
        let mut all = Vec::new();
        match self.target {
            Target::Refusing => return vec![(self.steps().len(), Refusal)],
            Target::Silent => return vec![(self.steps().len(), ConnectDeadline)],
            Target::Up => {}
        }
        for plan in self.moments(1).filter(Plan::is_routed) {
            // The end of such a response is that it is closed.
            if plan.is_over() && self.response == Shape::UntilClose {
                continue;
            }
            let mut add = |disturbance| all.push((plan.at, disturbance));
            add(UpstreamCloses);
            add(UpstreamResets);
            add(UpstreamHalfCloses);
            match self.up {
                Protocol::Http1 => {
                    let is_in_chunks = matches!(self.response, Shape::Chunked | Shape::Trailers);
                    if !plan.has_head() || is_in_chunks || plan.is_over() {
                        add(UpstreamTalksGarbage);
                    }
                }
                // Raw frames would fall into the middle of those that wait to be sent.
                Protocol::Http2 if self.response == Shape::Large && plan.has_head() => {
                    Code::ALL.into_iter().for_each(|code| add(UpstreamCancels(code)));
                }
                Protocol::Http2 => {
                    add(UpstreamTalksGarbage);
                    Code::ALL.into_iter().for_each(|code| add(UpstreamCancels(code)));
                    add(UpstreamGoesAway(false));
                    add(UpstreamGoesAway(true));
                }
            }
            if self.response == Shape::Trailers && plan.next() == Some(Step::ResponseEnd) {
                for flaw in [Flaw::Broken, Flaw::Invalid, Flaw::Oversized] {
                    (0..8).for_each(|_| add(ResponseTrailers(flaw)));
                }
            }
        }
        all
    }

    fn by_time(&self, _: &mut Chance) -> Vec<(usize, Disturbance)> {
        use Disturbance::*;
        let mut all = Vec::new();
        for plan in self.moments(1) {
            all.push((plan.at, Drain));
            if !plan.is_routed() || self.target == Target::Refusing {
                continue;
            }
            all.extend([RouteDeadline, IdleDeadline, RequestDeadline].map(|deadline| (plan.at, deadline)));
        }
        all
    }

    /// Whether the steps go on after what has happened.
    pub fn goes_on(&self) -> bool {
        use Disturbance::*;
        self.disturbances.iter().all(|disturbance| match disturbance {
            Drain | UpstreamGoesAway(false) => true,
            // It counts from the end of the request.
            RouteDeadline => !self.is_whole(),
            RequestDeadline => self.is_whole(),
            _ => false,
        })
    }

    /// How it may end: one of these.
    pub fn expected(&self) -> Vec<Ending> {
        let mut all = Vec::new();
        for disturbance in &self.disturbances {
            self.expect(*disturbance, &mut all);
        }
        if self.disturbances.iter().any(|one| one.is_clients()) {
            // The client may leave before it has read why something else has ended its request.
            let left: Vec<_> =
                all.iter().flatten().map(|(status, _)| Some((*status, Reason::ClientGone))).collect();
            all.extend(left);
        }
        all
    }

    fn expect(&self, disturbance: Disturbance, all: &mut Vec<Ending>) {
        use Disturbance::*;
        let seen = if self.has_head() { STATUS } else { 0 };
        // An answer of the proxy's own, or the status that the client has seen before.
        let broken = |reason: Reason| Some((if self.has_head() { STATUS } else { reason.status() }, reason));
        let may_be_sent_again = self.is_warm && !self.has_head();
        match disturbance {
            ClientTalksGarbage if !self.is_routed() => {
                all.push(Some((400, Reason::ClientProtocol)));
            }
            ClientCloses | ClientResets | ClientHalfCloses | ClientCancels(_) | ClientTalksGarbage
            | RequestTrailers(_)
                if !self.is_routed() =>
            {
                all.push(None);
            }
            _ if self.is_over() && !matches!(disturbance, RouteDeadline | IdleDeadline | RequestDeadline) => {
                all.push(FINE);
            }
            ClientCloses | ClientResets | ClientHalfCloses | ClientCancels(_) | ClientTalksGarbage
            | RequestTrailers(_) => {
                all.push(Some((seen, Reason::ClientGone)));
                if !self.is_whole() {
                    all.extend([Some((seen, Reason::ClientAborted)), broken(Reason::ClientAborted)]);
                    // What is no body over HTTP/1 is told as what it is.
                    all.extend([Some((seen, Reason::ClientProtocol)), broken(Reason::ClientProtocol)]);
                }
                // A response that has come whole waits for its client, who may take it before anybody looks at the request.
                let may_be_here = self.up == Protocol::Http2 && self.has_head();
                if matches!(disturbance, RequestTrailers(_)) && may_be_here {
                    all.push(FINE);
                }
                if self.target == Target::Silent && self.request != Shape::Bare {
                    // Nobody reads on behind a body that waits.
                    all.push(broken(Reason::ConnectTimeout));
                }
            }
            UpstreamCloses | UpstreamHalfCloses if self.response == Shape::UntilClose && self.has_head() => {
                all.push(FINE);
            }
            UpstreamCloses
            | UpstreamResets
            | UpstreamHalfCloses
            | UpstreamCancels(_)
            | UpstreamTalksGarbage
            | UpstreamGoesAway(true)
            | ResponseTrailers(_)
                if self.has_head() =>
            {
                all.push(broken(Reason::UpstreamAborted));
            }
            UpstreamCloses | UpstreamResets | UpstreamHalfCloses => {
                all.push(broken(Reason::UpstreamClosed));
                all.extend(may_be_sent_again.then_some(FINE));
            }
            UpstreamGoesAway(true) => {
                all.push(broken(Reason::UpstreamRefused));
                all.extend(may_be_sent_again.then_some(FINE));
            }
            UpstreamCancels(_) => all.push(broken(Reason::UpstreamReset)),
            UpstreamTalksGarbage | ResponseTrailers(_) => {
                all.push(broken(Reason::UpstreamProtocol));
                all.extend(may_be_sent_again.then_some(FINE));
            }
            UpstreamGoesAway(false) => all.push(FINE),
            RouteDeadline => {
                all.extend([Some((504, Reason::RouteTimeout)), Some((STATUS, Reason::RouteTimeout))]);
                all.extend((!self.is_whole() || self.is_answered()).then_some(FINE));
                if self.target == Target::Silent && self.request != Shape::Bare {
                    all.push(broken(Reason::ConnectTimeout));
                }
            }
            IdleDeadline => {
                all.extend([504, 408, STATUS].map(|status| Some((status, Reason::StreamIdle))));
                all.extend(self.is_answered().then_some(FINE));
            }
            RequestDeadline => {
                all.extend([408, STATUS].map(|status| Some((status, Reason::RequestTimeout))));
                all.extend((self.is_whole() || self.is_answered()).then_some(FINE));
                if self.target == Target::Silent {
                    all.push(broken(Reason::ConnectTimeout));
                }
            }
            ConnectDeadline => all.push(broken(Reason::ConnectTimeout)),
            Refusal => all.push(broken(Reason::ConnectFailure)),
            Drain => {
                all.push(match self.target {
                    Target::Up => FINE,
                    Target::Refusing => broken(Reason::ConnectFailure),
                    Target::Silent => broken(Reason::ConnectTimeout),
                });
                // Without its head it has not begun.
                all.extend((!self.is_routed()).then_some(None));
            }
        }
    }
}

impl Disturbance {
    pub fn is_clients(self) -> bool {
        use Disturbance::*;
        matches!(
            self,
            ClientCloses
                | ClientResets
                | ClientHalfCloses
                | ClientCancels(_)
                | ClientTalksGarbage
                | RequestTrailers(_)
        )
    }

    /// Two things that one connection cannot do at a time do not go together.
    fn goes_with(self, first: Disturbance) -> bool {
        let is_trailers =
            |one| matches!(one, Disturbance::RequestTrailers(_) | Disturbance::ResponseTrailers(_));
        self.is_clients() != first.is_clients() && !is_trailers(self) && !is_trailers(first)
            || matches!(first, Disturbance::Drain | Disturbance::RouteDeadline | Disturbance::IdleDeadline)
    }
}
