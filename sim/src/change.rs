//! What may change its state while a scenario runs, in a closed list: what transcripts tell, what
//! scenarios expect, what a timeline draws.

use crate::scenario::State;

/// Something is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateChange {
    /// An instance behaves as the scenario says it should.
    Up,
    /// It is slower, fails more often or has another capacity.
    Different,
    Down,
    Refuses,
    Unreachable,
    TlsBroken,
    Stuck,
    /// Every connection to it broke at once.
    Reset,
    /// An endpoint failed several times in a row, as a proxy sees it.
    Failing,
    /// It answers again.
    Answering,
    /// A proxy keeps requests away from an endpoint.
    Ejected,
    /// It does not any more.
    Returned,
    /// An endpoint has failed its health checks.
    Unhealthy,
    /// It has passed them again.
    Healthy,
    /// A circuit breaker lets nothing through, some, all.
    Opened,
    HalfOpened,
    Closed,
}

/// What a state is the state of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// An instance, as it is.
    Instance,
    /// An endpoint, as it looks from a proxy.
    Endpoint,
    Ejection,
    Health,
    Breaker,
}

impl StateChange {
    pub const ALL: [StateChange; 17] = [
        StateChange::Up,
        StateChange::Different,
        StateChange::Down,
        StateChange::Refuses,
        StateChange::Unreachable,
        StateChange::TlsBroken,
        StateChange::Stuck,
        StateChange::Reset,
        StateChange::Failing,
        StateChange::Answering,
        StateChange::Ejected,
        StateChange::Returned,
        StateChange::Unhealthy,
        StateChange::Healthy,
        StateChange::Opened,
        StateChange::HalfOpened,
        StateChange::Closed,
    ];

    /// As scenarios and transcripts write it.
    pub fn name(self) -> &'static str {
        match self {
            StateChange::Up => "up",
            StateChange::Different => "different",
            StateChange::Down => "down",
            StateChange::Refuses => "refuses",
            StateChange::Unreachable => "unreachable",
            StateChange::TlsBroken => "tls_broken",
            StateChange::Stuck => "stuck",
            StateChange::Reset => "reset",
            StateChange::Failing => "failing",
            StateChange::Answering => "answering",
            StateChange::Ejected => "ejected",
            StateChange::Returned => "returned",
            StateChange::Unhealthy => "unhealthy",
            StateChange::Healthy => "healthy",
            StateChange::Opened => "opened",
            StateChange::HalfOpened => "half_opened",
            StateChange::Closed => "closed",
        }
    }

    /// As a sentence ends with it.
    pub fn phrase(self) -> &'static str {
        match self {
            StateChange::Different => "behaves differently",
            StateChange::Refuses => "refuses connections",
            StateChange::TlsBroken => "TLS broken",
            StateChange::Reset => "connections broke",
            StateChange::HalfOpened => "half opened",
            StateChange::Up
            | StateChange::Down
            | StateChange::Unreachable
            | StateChange::Stuck
            | StateChange::Failing
            | StateChange::Answering
            | StateChange::Ejected
            | StateChange::Returned
            | StateChange::Unhealthy
            | StateChange::Healthy
            | StateChange::Opened
            | StateChange::Closed => self.name(),
        }
    }

    pub fn lane(self) -> Lane {
        match self {
            StateChange::Up
            | StateChange::Different
            | StateChange::Down
            | StateChange::Refuses
            | StateChange::Unreachable
            | StateChange::TlsBroken
            | StateChange::Stuck
            | StateChange::Reset => Lane::Instance,
            StateChange::Failing | StateChange::Answering => Lane::Endpoint,
            StateChange::Ejected | StateChange::Returned => Lane::Ejection,
            StateChange::Unhealthy | StateChange::Healthy => Lane::Health,
            StateChange::Opened | StateChange::HalfOpened | StateChange::Closed => Lane::Breaker,
        }
    }

    /// The state that everything begins in, and that needs no colour.
    pub fn is_ordinary(self) -> bool {
        match self {
            StateChange::Up
            | StateChange::Answering
            | StateChange::Returned
            | StateChange::Healthy
            | StateChange::Closed => true,
            StateChange::Different
            | StateChange::Down
            | StateChange::Refuses
            | StateChange::Unreachable
            | StateChange::TlsBroken
            | StateChange::Stuck
            | StateChange::Reset
            | StateChange::Failing
            | StateChange::Ejected
            | StateChange::Unhealthy
            | StateChange::Opened
            | StateChange::HalfOpened => false,
        }
    }
}

impl Lane {
    /// As transcripts name the kind of a change.
    pub fn kind(self) -> &'static str {
        match self {
            Lane::Instance => "service",
            Lane::Endpoint => "endpoint",
            Lane::Ejection => "ejection",
            Lane::Health => "health",
            Lane::Breaker => "breaker",
        }
    }
}

impl From<State> for StateChange {
    fn from(state: State) -> StateChange {
        match state {
            State::Up => StateChange::Up,
            State::Down => StateChange::Down,
            State::Refuse => StateChange::Refuses,
            State::Unreachable => StateChange::Unreachable,
            State::TlsBroken => StateChange::TlsBroken,
            State::Stuck => StateChange::Stuck,
        }
    }
}
