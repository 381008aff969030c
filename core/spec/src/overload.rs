//! What is given up when the proxy itself runs short: what is measured, what is done about it, and when.
//!
//! Envoy's overload manager, its actions and its load shed points; where Envoy has no hysteresis,
//! [`TriggerAt::Latched`] is our own. Deliberately not here: measuring (the shell's), and what comes of a pressure
//! (`naru-admit`).

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;

use crate::limits::{millionths, whole};
use crate::{Invalid, defaults};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overload {
    /// Between two measurements.
    pub refresh: Duration,
    pub monitors: Vec<Monitor>,
    pub actions: Vec<OverloadAction>,
    /// Requests for these paths are answered however short the proxy runs: probes of who decides whether it lives.
    pub spared: Vec<String>,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload {
            refresh: defaults::OVERLOAD_REFRESH,
            monitors: Vec::new(),
            actions: Vec::new(),
            spared: Vec::new(),
        }
    }
}

impl Overload {
    /// What `naru up` gives up: for memory, which would end it, before it is all gone and until some is free again; for
    /// processors a part of the requests, once its own work needs all that it has. Our own.
    pub fn edge() -> Overload {
        let percent = |part| Fraction::new(part, Denominator::Hundred);
        let trigger = |resource: &str, at| Trigger { resource: resource.to_owned(), at };
        let memory =
            |at, until| trigger("memory", TriggerAt::Latched { at: percent(at), until: percent(until) });
        let idle = ScaledTimeout { timer: Timer::ConnectionIdle, least: LeastTimeout::Scale(percent(1)) };
        let busy = TriggerAt::Scaled { from: percent(96), to: percent(100) };
        let actions = [
            (Relief::ShrinkHeap { every: defaults::SHRINK_HEAP_EVERY }, vec![memory(80, 75)]),
            (
                Relief::ReduceTimeouts(vec![idle]),
                vec![trigger("memory", TriggerAt::Scaled { from: percent(80), to: percent(95) })],
            ),
            (Relief::DisableKeepalive, vec![memory(92, 85)]),
            (Relief::StopAcceptingRequests, vec![memory(95, 90), trigger("cpu", busy)]),
        ];
        let monitor = |name: &str, resource| Monitor { name: name.to_owned(), resource };
        Overload {
            monitors: vec![
                monitor("memory", Resource::Memory { bytes_max: None }),
                monitor("cpu", Resource::Cpu(CpuScope::Process)),
            ],
            actions: actions.map(|(relief, triggers)| OverloadAction { relief, triggers }).into(),
            spared: defaults::SPARED_PATHS.iter().map(|path| (*path).to_owned()).collect(),
            ..Overload::default()
        }
    }

    /// Changes what refuses requests for a resource.
    pub fn shed_by(&mut self, resource: &str, mut change: impl FnMut(&mut TriggerAt)) {
        let shedding =
            self.actions.iter_mut().filter(|action| action.relief == Relief::StopAcceptingRequests);
        let triggers = shedding.flat_map(|action| &mut action.triggers);
        triggers.filter(|trigger| trigger.resource == resource).for_each(|trigger| change(&mut trigger.at));
    }

    /// It is not measured, and nothing is given up for it.
    pub fn leave_out(&mut self, resource: &str) {
        self.monitors.retain(|monitor| monitor.name != resource);
        for action in &mut self.actions {
            action.triggers.retain(|trigger| trigger.resource != resource);
        }
        self.actions.retain(|action| !action.triggers.is_empty());
    }
}

/// A resource that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// What triggers and numbers call it.
    pub name: String,
    pub resource: Resource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Memory that the process has for itself, of so many bytes; where none are said, of what its control group or
    /// the machine allows.
    Memory {
        bytes_max: Option<u64>,
    },
    /// Memory of the whole control group, of what it allows, or of fewer bytes that are said. Without a limit there is
    /// no pressure.
    CgroupMemory {
        bytes_max: Option<u64>,
    },
    Cpu(CpuScope),
    /// Connections of clients, at all listeners. One more is turned away.
    Connections {
        max: u64,
    },
    /// What a file says, from 0 to 1; for tests.
    Injected {
        file: String,
    },
}

/// Whose use of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuScope {
    /// Everybody's on this machine.
    Host,
    /// The control group's, of what it is allowed.
    Container,
    /// The process's own, of what it could use.
    Process,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverloadAction {
    pub relief: Relief,
    /// The strongest decides.
    pub triggers: Vec<Trigger>,
}

/// What is done about it. The first of them are Envoy's overload actions, the last its load shed points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Requests are answered 503.
    StopAcceptingRequests,
    /// Connections end with the requests that they carry.
    DisableKeepalive,
    /// Listeners leave connections to the kernel's queue.
    StopAcceptingConnections,
    /// Connections are accepted and closed.
    RejectConnections,
    /// Memory that is free is given back to the system, so often.
    ShrinkHeap {
        every: Duration,
    },
    CloseIdleConnections,
    ReduceTimeouts(Vec<ScaledTimeout>),
    /// At `tcp_listener_accept`.
    ShedConnection,
    /// At `http_connection_manager_decode_headers`.
    ShedRequest,
    /// At `http2_server_go_away_on_dispatch`.
    ShedByGoAway,
    /// At `connection_pool_new_connection`.
    ShedUpstreamConnection,
}

impl Relief {
    /// How many kinds there are.
    pub const COUNT: usize = 11;

    /// Each kind has its number.
    pub fn index(&self) -> usize {
        match self {
            Relief::StopAcceptingRequests => 0,
            Relief::DisableKeepalive => 1,
            Relief::StopAcceptingConnections => 2,
            Relief::RejectConnections => 3,
            Relief::ShrinkHeap { .. } => 4,
            Relief::CloseIdleConnections => 5,
            Relief::ReduceTimeouts(_) => 6,
            Relief::ShedConnection => 7,
            Relief::ShedRequest => 8,
            Relief::ShedByGoAway => 9,
            Relief::ShedUpstreamConnection => 10,
        }
    }

    /// What Envoy calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Relief::StopAcceptingRequests => "envoy.overload_actions.stop_accepting_requests",
            Relief::DisableKeepalive => "envoy.overload_actions.disable_http_keepalive",
            Relief::StopAcceptingConnections => "envoy.overload_actions.stop_accepting_connections",
            Relief::RejectConnections => "envoy.overload_actions.reject_incoming_connections",
            Relief::ShrinkHeap { .. } => "envoy.overload_actions.shrink_heap",
            Relief::CloseIdleConnections => "envoy.overload_actions.close_idle_http_connections",
            Relief::ReduceTimeouts(_) => "envoy.overload_actions.reduce_timeouts",
            Relief::ShedConnection => "envoy.load_shed_points.tcp_listener_accept",
            Relief::ShedRequest => "envoy.load_shed_points.http_connection_manager_decode_headers",
            Relief::ShedByGoAway => "envoy.load_shed_points.http2_server_go_away_on_dispatch",
            Relief::ShedUpstreamConnection => "envoy.load_shed_points.connection_pool_new_connection",
        }
    }

    /// Whether it is one of Envoy's load shed points.
    pub fn is_shed_point(&self) -> bool {
        self.index() >= Relief::ShedConnection.index()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaledTimeout {
    pub timer: Timer,
    pub least: LeastTimeout,
}

/// The timeouts that can be reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Of a connection without a request.
    ConnectionIdle,
    /// Of a client's handshake.
    TransportConnect,
}

/// What a timeout becomes at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeastTimeout {
    Time(Duration),
    /// Of what it is else.
    Scale(Fraction),
}

/// One resource, and how much of it may be in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The name of what is measured.
    pub resource: String,
    pub at: TriggerAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerAt {
    /// All at once.
    Threshold(Fraction),
    /// From nothing to all, in proportion.
    Scaled { from: Fraction, to: Fraction },
    /// All at once, and until the pressure is below another one: what is given up lowers the pressure, and would be
    /// taken up again at once.
    Latched { at: Fraction, until: Fraction },
}

/// Where it is that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Refresh,
    Monitor(usize),
    /// Its triggers.
    Action(usize),
    Trigger {
        action: usize,
        trigger: usize,
    },
}

impl Overload {
    pub fn problems(&self) -> Vec<(Part, Invalid)> {
        let mut found = Vec::new();
        if self.refresh < defaults::OVERLOAD_REFRESH_MIN {
            let text = format!("{} ms or more", defaults::OVERLOAD_REFRESH_MIN.as_millis());
            found.push((Part::Refresh, Invalid::new("it is measured too often").hint(text)));
        }
        for (at, monitor) in self.monitors.iter().enumerate() {
            if self.monitors.iter().take(at).any(|before| before.name == monitor.name) {
                let text = format!("two monitors are called '{}'", monitor.name);
                found.push((Part::Monitor(at), Invalid::new(text)));
            }
            let is_nothing = match monitor.resource {
                Resource::Memory { bytes_max } | Resource::CgroupMemory { bytes_max } => bytes_max == Some(0),
                Resource::Connections { max } => max == 0,
                Resource::Cpu(_) | Resource::Injected { .. } => false,
            };
            if is_nothing {
                found.push((
                    Part::Monitor(at),
                    Invalid::new("a limit of 0 lets nothing pass").hint("1 or more"),
                ));
            }
        }
        for (at, action) in self.actions.iter().enumerate() {
            let index = action.relief.index();
            if self.actions.iter().take(at).any(|before| before.relief.index() == index) {
                let text = format!("'{}' is said twice", action.relief.name());
                found.push((Part::Action(at), Invalid::new(text).hint("join their triggers")));
            }
            self.action_problems(at, action, &mut found);
        }
        found
    }

    fn action_problems(&self, at: usize, action: &OverloadAction, found: &mut Vec<(Part, Invalid)>) {
        if action.triggers.is_empty() {
            found.push((Part::Action(at), Invalid::new("an action without triggers never happens")));
        }
        let mut of_fields = Vec::new();
        for (nth, trigger) in action.triggers.iter().enumerate() {
            let part = Part::Trigger { action: at, trigger: nth };
            let mut before = action.triggers.iter().take(nth);
            if before.any(|other| other.resource == trigger.resource) {
                let text = format!("two triggers of one action are for '{}'", trigger.resource);
                found.push((part, Invalid::new(text)));
            }
            if !self.monitors.iter().any(|monitor| monitor.name == trigger.resource) {
                let text = format!("no monitor is called '{}', so that this never happens", trigger.resource);
                found.push((part, Invalid::new(text).hint("add it to the resource monitors")));
            }
            match trigger.at {
                TriggerAt::Threshold(threshold) => whole(&mut of_fields, "threshold", threshold),
                TriggerAt::Scaled { from, to } => {
                    whole(&mut of_fields, "scaled", to);
                    if millionths(from) >= millionths(to) {
                        let text = "the scaling threshold must be below the saturation threshold";
                        of_fields.push(("scaled", Invalid::new(text)));
                    }
                }
                TriggerAt::Latched { at, until } => {
                    whole(&mut of_fields, "at", at);
                    if millionths(until) > millionths(at) {
                        let text = "it would end at a higher pressure than it begins at";
                        of_fields.push(("until", Invalid::new(text)));
                    }
                }
            }
            found.extend(of_fields.drain(..).map(|(_, invalid)| (part, invalid)));
        }
        if let Relief::ReduceTimeouts(timeouts) = &action.relief {
            for timeout in timeouts {
                if let LeastTimeout::Scale(scale) = timeout.least {
                    whole(&mut of_fields, "min_scale", scale);
                }
            }
            found.extend(of_fields.drain(..).map(|(_, invalid)| (Part::Action(at), invalid)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_naru_up_gives_up_is_without_problems() {
        assert_eq!(Overload::edge().problems(), []);
        let mut without = Overload::edge();
        without.leave_out("memory");
        without.shed_by("cpu", |at| *at = TriggerAt::Threshold(Fraction::ALL));
        assert_eq!((without.problems(), without.actions.len()), (Vec::new(), 1));
    }

    #[test]
    fn triggers_that_contradict_themselves_are_told() {
        let percent = |part| Fraction::new(part, Denominator::Hundred);
        let trigger = |resource: &str, at| Trigger { resource: resource.to_owned(), at };
        let shrink = Relief::ShrinkHeap { every: Duration::from_secs(10) };
        let memory = Monitor { name: "memory".to_owned(), resource: Resource::Memory { bytes_max: Some(0) } };
        let overload = Overload {
            refresh: Duration::ZERO,
            monitors: vec![memory],
            actions: vec![
                OverloadAction { relief: shrink, triggers: Vec::new() },
                OverloadAction {
                    relief: Relief::ShedRequest,
                    triggers: vec![
                        trigger("memory", TriggerAt::Scaled { from: percent(90), to: percent(80) }),
                        trigger("memory", TriggerAt::Threshold(percent(101))),
                        trigger("disk", TriggerAt::Latched { at: percent(80), until: percent(81) }),
                    ],
                },
                OverloadAction {
                    relief: Relief::ShedRequest,
                    triggers: vec![trigger("memory", TriggerAt::Threshold(percent(100)))],
                },
            ],
            spared: Vec::new(),
        };
        let of = |trigger| Part::Trigger { action: 1, trigger };
        let expected = [
            Part::Refresh,
            Part::Monitor(0),
            Part::Action(0),
            of(0),
            of(1),
            of(1),
            of(2),
            of(2),
            Part::Action(2),
        ];
        let parts: Vec<Part> = overload.problems().into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn every_kind_of_relief_has_a_number_of_its_own() {
        let all = [
            Relief::StopAcceptingRequests,
            Relief::DisableKeepalive,
            Relief::StopAcceptingConnections,
            Relief::RejectConnections,
            Relief::ShrinkHeap { every: Duration::ZERO },
            Relief::CloseIdleConnections,
            Relief::ReduceTimeouts(Vec::new()),
            Relief::ShedConnection,
            Relief::ShedRequest,
            Relief::ShedByGoAway,
            Relief::ShedUpstreamConnection,
        ];
        assert_eq!(all.len(), Relief::COUNT);
        for (at, relief) in all.iter().enumerate() {
            assert_eq!(relief.index(), at);
            assert_eq!(relief.is_shed_point(), relief.name().starts_with("envoy.load_shed_points."));
        }
    }
}
