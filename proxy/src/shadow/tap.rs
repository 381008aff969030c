//! The body of a request on its way to a copy: what the request's own upstream has taken and the mirror has not.
//!
//! The request never waits for a mirror. Where one is so slow that more waits than may, the copy is given up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use naru_spec::defaults::COPY_BYTES_MAX;

use crate::codec::BodyBroken;
use crate::mirrors::Budget;

#[derive(Debug)]
pub struct Tap {
    frames: RefCell<VecDeque<Frame<Bytes>>>,
    waiting: Cell<usize>,
    state: Cell<State>,
    /// How much more will pass, and how much more will be read: where that is known.
    to_come: Cell<Option<u64>>,
    left: Cell<Option<u64>>,
    /// Who sends it on.
    sender: RefCell<Option<Waker>>,
    /// Who wants to hear that it is given up.
    carrier: RefCell<Option<Waker>>,
    budget: Rc<Budget>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    /// The request broke off.
    Broken,
    Overrun,
}

impl Tap {
    pub fn new(hint: &SizeHint, budget: &Rc<Budget>) -> Rc<Tap> {
        Rc::new(Tap {
            frames: RefCell::default(),
            waiting: Cell::new(0),
            state: Cell::new(State::Open),
            to_come: Cell::new(hint.exact()),
            left: Cell::new(hint.exact()),
            sender: RefCell::default(),
            carrier: RefCell::default(),
            budget: Rc::clone(budget),
        })
    }

    /// A frame has passed; `is_last` where the body ends with it.
    pub fn offer(&self, frame: &Frame<Bytes>, is_last: bool) {
        if self.state.get() != State::Open {
            return;
        }
        if let Some(data) = frame.data_ref() {
            let waiting = self.waiting.get() + data.len();
            if waiting > COPY_BYTES_MAX || !self.budget.take(data.len()) {
                return self.stop(State::Overrun);
            }
            self.waiting.set(waiting);
            self.to_come.set(less(self.to_come.get(), data.len()));
            self.frames.borrow_mut().push_back(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.borrow_mut().push_back(Frame::trailers(trailers.clone()));
        }
        // Whoever knows how long a body is does not look for its end.
        if is_last || self.to_come.get() == Some(0) {
            self.state.set(State::Ended);
        }
        wake(&self.sender);
    }

    pub fn end(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Ended);
            wake(&self.sender);
        }
    }

    /// Unless it had come to its end.
    pub fn break_off(&self) {
        if self.state.get() == State::Open {
            self.stop(State::Broken);
        }
    }

    /// Nobody sends it on any more.
    pub fn close(&self) {
        self.stop(State::Broken);
    }

    fn stop(&self, state: State) {
        self.state.set(state);
        self.frames.borrow_mut().clear();
        self.budget.give_back(self.waiting.take());
        wake(&self.sender);
        wake(&self.carrier);
    }

    pub fn is_overrun(&self) -> bool {
        self.state.get() == State::Overrun
    }

    pub fn is_broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    /// Wakes `cx` when it is given up.
    pub fn listen(&self, cx: &Context<'_>) {
        *self.carrier.borrow_mut() = Some(cx.waker().clone());
    }
}

fn less(left: Option<u64>, bytes: usize) -> Option<u64> {
    left.map(|left| left.saturating_sub(bytes as u64))
}

fn wake(who: &RefCell<Option<Waker>>) {
    if let Some(waker) = who.take() {
        waker.wake();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.budget.give_back(self.waiting.get());
    }
}

/// What is read of a tap.
#[derive(Debug)]
pub struct Tapped(pub Rc<Tap>);

impl Body for Tapped {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let tap = &self.0;
        if let Some(frame) = tap.frames.borrow_mut().pop_front() {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            tap.waiting.set(tap.waiting.get() - bytes);
            tap.budget.give_back(bytes);
            tap.left.set(less(tap.left.get(), bytes));
            return Poll::Ready(Some(Ok(frame)));
        }
        match tap.state.get() {
            State::Open => {
                *tap.sender.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ended => Poll::Ready(None),
            State::Broken | State::Overrun => Poll::Ready(Some(Err(BodyBroken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.state.get() == State::Ended && self.0.frames.borrow().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.left.get().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn tap() -> (Rc<Tap>, Rc<Budget>) {
        let budget = Rc::<Budget>::default();
        (Tap::new(&SizeHint::default(), &budget), budget)
    }

    fn next(tap: &Rc<Tap>) -> Poll<Option<Result<usize, BodyBroken>>> {
        let polled =
            Pin::new(&mut Tapped(Rc::clone(tap))).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.data_ref().map_or(0, Bytes::len))))
    }

    fn data(len: usize) -> Frame<Bytes> {
        Frame::data(vec![0; len].into())
    }

    #[test]
    fn what_has_passed_comes_out_in_its_order() {
        let (tap, budget) = tap();
        assert_eq!(next(&tap), Poll::Pending);
        tap.offer(&data(3), false);
        tap.offer(&data(4), false);
        tap.offer(&Frame::trailers(HeaderMap::new()), true);
        assert!(!budget.take(naru_spec::defaults::COPIES_BYTES_MAX - 6), "seven bytes are held");
        let expected = [Poll::Ready(Some(Ok(3))), Poll::Ready(Some(Ok(4))), Poll::Ready(Some(Ok(0)))];
        assert_eq!([(); 3].map(|()| next(&tap)), expected);
        assert!(Tapped(Rc::clone(&tap)).is_end_stream());
        assert_eq!(next(&tap), Poll::Ready(None));
        tap.break_off();
        assert!(!tap.is_broken(), "it was whole");
        assert!(budget.take(naru_spec::defaults::COPIES_BYTES_MAX), "all is given back");
    }

    #[test]
    fn a_body_of_known_length_ends_with_its_last_byte() {
        let tap = Tap::new(&SizeHint::with_exact(7), &Rc::default());
        tap.offer(&data(3), false);
        assert_eq!(next(&tap), Poll::Ready(Some(Ok(3))));
        assert_eq!(Tapped(Rc::clone(&tap)).size_hint().exact(), Some(4));
        tap.offer(&data(4), false);
        tap.break_off();
        assert_eq!([(); 2].map(|()| next(&tap)), [Poll::Ready(Some(Ok(4))), Poll::Ready(None)]);
    }

    #[test]
    fn more_than_may_wait_is_given_up() {
        let (tap, budget) = tap();
        tap.offer(&data(COPY_BYTES_MAX), false);
        assert!(!tap.is_overrun());
        tap.offer(&data(1), false);
        assert!(tap.is_overrun());
        tap.offer(&data(1), true);
        assert_eq!(next(&tap), Poll::Ready(Some(Err(BodyBroken))));
        assert!(budget.take(naru_spec::defaults::COPIES_BYTES_MAX));
        let other = Tap::new(&SizeHint::default(), &budget);
        other.offer(&data(1), true);
        assert!(other.is_overrun(), "others hold all that may be held");
    }

    #[test]
    fn a_request_that_breaks_off_breaks_its_copy_off() {
        let (tap, budget) = tap();
        tap.offer(&data(5), false);
        tap.break_off();
        assert!(tap.is_broken() && !tap.is_overrun());
        assert_eq!(next(&tap), Poll::Ready(Some(Err(BodyBroken))));
        drop(tap);
        assert!(budget.take(naru_spec::defaults::COPIES_BYTES_MAX));
    }
}
