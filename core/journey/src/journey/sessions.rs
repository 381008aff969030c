//! An answer that is there and cannot be passed on.

use naru_base::Reason;

use super::{Actions, Journey, State};

impl Journey {
    /// Nothing of the upstream's answer was passed on, nor will be: naru answers. For who has logged in at the
    /// application and has no session, as nobody could write it down.
    #[cold]
    pub fn answer_instead(&mut self, reason: Reason) {
        if self.state != State::Streaming {
            return;
        }
        (self.actions, self.status, self.clock.head) = (Actions::default(), 0, None);
        self.grpc_status = None;
        self.answer(reason);
    }

    /// The answer that was asked for by [`Action::Reply`](crate::Action::Reply) is given for another reason: somebody
    /// else had to be asked.
    #[cold]
    pub fn answer_for(&mut self, reason: Reason) {
        if self.state == State::Answering {
            self.reason = reason;
        }
    }
}
