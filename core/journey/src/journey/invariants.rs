//! What holds of a journey between any two events.

use super::{Journey, State};

impl Journey {
    fn waits_for_something(&self) -> bool {
        let is_under_way = self.attempt.is_some_and(|attempt| attempt.is_under_way);
        is_under_way || self.recovery.as_ref().is_some_and(|recovery| recovery.deadline().is_some())
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let has_head = self.clock.head.is_some();
        match self.state {
            State::Held if self.attempt.is_some() || has_head => Err("is held after an attempt"),
            State::Gated if !self.is_asking() => Err("is at its gate and asks nothing"),
            State::Gated if self.attempt.is_some() || has_head => Err("is at its gate after an attempt"),
            State::Waiting if !self.passing().is_waiting() => Err("waits for nothing"),
            State::Waiting if self.attempt.is_some() || has_head => Err("waits after an attempt"),
            State::Trying if self.attempt.is_none() => Err("tries without an attempt"),
            State::Trying if !self.waits_for_something() => Err("tries, and waits for nothing"),
            State::Open if !self.is_tunnel || self.attempt.is_some() => Err("stands open and is no tunnel"),
            State::Trying if !self.is_tunnel && (has_head || self.status != 0) => Err("tries after a head"),
            State::Answering if self.is_tunnel => Err("answers in a tunnel"),
            State::Streaming if !has_head => Err("streams without a head"),
            State::Ended if self.clock.ended.is_none() => Err("ended without a moment"),
            State::Ended if self.deadline().is_some() => Err("ended and still waits"),
            State::Open
            | State::Held
            | State::Gated
            | State::Waiting
            | State::Trying
            | State::Streaming
            | State::Answering
                if self.clock.ended.is_some() =>
            {
                Err("has an end and goes on")
            }
            State::Answering | State::Ended if self.watch.is_some() => {
                Err("an attempt is over, and nobody is told")
            }
            State::Streaming | State::Answering | State::Ended if self.beside().next().is_some() => {
                Err("an attempt is under way beside an answer")
            }
            _ if self.attempt.is_some_and(|attempt| attempt.id.0 >= self.next_attempt) => {
                Err("an attempt that was never begun")
            }
            _ => Ok(()),
        }
    }
}
