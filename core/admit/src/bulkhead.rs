//! May one more request be at a service or route, and who is next?
//!
//! A word holds how many are in and how many wait; it is shared by all workers. While nobody waits, [`enter`] and
//! [`release`] are one step each on the word, and that is all there is. Where they say [`Entry::Ask`] or `false`, the
//! [`Queue`] decides: it has one owner at a time, and only its owner changes how many wait. As long as somebody does,
//! the two short ways are closed: nobody overtakes, and every permit that comes back goes to the one who waited
//! longest.
//!
//! | who waits  | event                       | next                | the permit                        |
//! |------------|-----------------------------|---------------------|-----------------------------------|
//! | (new)      | enter, there is room        | in                  | taken                             |
//! | (new)      | enter, there is none        | Waiting, or refused |                                   |
//! | Waiting    | another one released        | Admitted            | goes over                         |
//! | Waiting    | tick or claim, deadline     | Expired             |                                   |
//! | Waiting    | left                        | (gone)              |                                   |
//! | Admitted   | claim                       | in                  | taken                             |
//! | Admitted   | left                        | (gone)              | goes to the next, or back         |
//! | Expired    | claim, left                 | (gone)              |                                   |
//! | in         | released                    | (gone)              | goes to the next, or back         |
//!
//! To wake a waiter only says: look. Whoever is woken, or whose deadline passed, calls [`Queue::claim`]; who goes away
//! calls [`Queue::on_left`]. A wake that is lost, late or needless does no harm: what is true stands here, and a permit
//! comes back once whatever the order of events. Beyond Resilience4j's `SemaphoreBulkhead`, whose waiters it resembles,
//! it is first come, first served, and the queue has an end.

use naru_base::{Instant, Reason};
use naru_spec::Bulkhead;

use crate::Word;
use crate::word::Pair;

/// What becomes of a request that wants in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a permit, and gives it back by [`release`].
    Admitted,
    /// It is not known without the queue: call [`Queue::enter`]. Never said by the queue itself.
    Ask,
    /// It waits; call [`Queue::claim`] when woken, and at the deadline.
    Queued {
        ticket: Ticket,
        deadline: Instant,
    },
    Refused(Reason),
}

/// The short way in.
#[inline]
pub fn enter(word: &impl Word, settings: &Bulkhead) -> Entry {
    match word.change(|counts| with_one_more(counts, settings)) {
        Ok(_) => Entry::Admitted,
        Err(counts) if waiting(counts) < settings.waiting_max() => Entry::Ask,
        Err(_) => Entry::Refused(Reason::BulkheadFull),
    }
}

/// The short way out. `false`: call [`Queue::on_released`] instead, the permit is not given back yet.
#[inline]
#[must_use]
pub fn release(word: &impl Word) -> bool {
    word.change(with_one_less).is_ok()
}

/// The word with one more in, where there is room and nobody waits.
#[inline]
pub fn with_one_more(word: u64, settings: &Bulkhead) -> Option<u64> {
    let Pair { low: active, high: waiting } = Pair::of(word);
    let is_in = waiting == 0 && active < settings.concurrency_max;
    is_in.then(|| Pair { low: active.saturating_add(1), high: 0 }.word())
}

/// The word with one less in, where nobody waits for the permit.
#[inline]
pub fn with_one_less(word: u64) -> Option<u64> {
    let Pair { low: active, high: waiting } = Pair::of(word);
    (waiting == 0).then(|| Pair { low: active.saturating_sub(1), high: 0 }.word())
}

/// How many are in, for statistics.
#[inline]
pub fn active(word: u64) -> u32 {
    Pair::of(word).low
}

/// How many wait, for statistics.
#[inline]
pub fn waiting(word: u64) -> u32 {
    Pair::of(word).high
}

/// Whom to wake: a name that the shell gives, and gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// A place in a queue. It ends with a claim that is not [`Claim::Waiting`], or by leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u32,
    /// How often the slot was given away before.
    turn: u32,
}

/// What a waiter learns of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has a permit, and gives it back by [`release`].
    Admitted,
    Waiting,
    /// It waited as long as it may, or its ticket had ended before.
    Refused(Reason),
}

/// Those who wait at one bulkhead, of all workers.
#[derive(Debug)]
pub struct Queue {
    settings: Bulkhead,
    slots: Vec<Slot>,
    free: Option<u32>,
    first: Option<u32>,
    last: Option<u32>,
    waiting: u32,
}

#[derive(Debug)]
struct Slot {
    state: State,
    turn: u32,
    waiter: Waiter,
    deadline: Instant,
    before: Option<u32>,
    /// The one behind; of a free slot the next free one.
    after: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Admitted,
    Expired,
}

impl Queue {
    pub fn new(settings: Bulkhead) -> Queue {
        let capacity = settings.waiting_max() as usize;
        Queue {
            settings,
            slots: Vec::with_capacity(capacity),
            free: None,
            first: None,
            last: None,
            waiting: 0,
        }
    }

    /// Where the short way said [`Entry::Ask`].
    pub fn enter(&mut self, now: Instant, waiter: Waiter, word: &impl Word) -> Entry {
        if self.waiting == 0 {
            // From now on, unless there is room again, nobody takes or gives without the queue.
            let settings = &self.settings;
            let closed = |counts| (settings.waiting_max() > 0).then(|| Pair { high: 1, ..counts }.word());
            let taken =
                word.change(|counts| with_one_more(counts, settings).or_else(|| closed(Pair::of(counts))));
            match taken {
                Ok(before) if with_one_more(before, settings).is_some() => return Entry::Admitted,
                Ok(_) => {}
                Err(_) => return Entry::Refused(Reason::BulkheadFull),
            }
        } else if self.waiting >= self.settings.waiting_max() {
            return Entry::Refused(Reason::BulkheadFull);
        }
        let ticket = self.push(now, waiter);
        self.settle(word, |active| active);
        let deadline = self.slot(ticket.slot).map_or(now, |slot| slot.deadline);
        Entry::Queued { ticket, deadline }
    }

    /// Where the short way out said `false`. The permit goes to the one returned, who is to be woken.
    #[must_use]
    pub fn on_released(&mut self, now: Instant, word: &impl Word) -> Option<Waiter> {
        let max = self.settings.concurrency_max;
        // The limit may have become lower while it was out.
        let is_over = active(word.read()) > max;
        let next = if is_over { None } else { self.admit_next(now) };
        self.settle(word, |active| if next.is_some() { active } else { active.saturating_sub(1) });
        next
    }

    /// A waiter was woken, or its deadline passed.
    #[must_use]
    pub fn claim(&mut self, now: Instant, ticket: Ticket, word: &impl Word) -> Claim {
        let Some((state, deadline)) = self.held(ticket) else {
            return Claim::Refused(Reason::BulkheadTimeout);
        };
        match state {
            State::Waiting if now < deadline => return Claim::Waiting,
            State::Waiting => {
                self.unlink(ticket.slot);
                self.settle(word, |active| active);
            }
            State::Admitted | State::Expired | State::Free => {}
        }
        self.set_free(ticket.slot);
        if state == State::Admitted { Claim::Admitted } else { Claim::Refused(Reason::BulkheadTimeout) }
    }

    /// A waiter goes away, whatever it has. A permit that it had not claimed goes to the one returned, who is to be
    /// woken. A ticket that has ended is nothing.
    #[must_use]
    pub fn on_left(&mut self, now: Instant, ticket: Ticket, word: &impl Word) -> Option<Waiter> {
        let (state, _) = self.held(ticket)?;
        if state == State::Waiting {
            self.unlink(ticket.slot);
            self.settle(word, |active| active);
        }
        self.set_free(ticket.slot);
        if state == State::Admitted { self.on_released(now, word) } else { None }
    }

    /// One whose deadline passed, and who is to be woken. Call it until there is none.
    #[must_use]
    pub fn tick(&mut self, now: Instant, word: &impl Word) -> Option<Waiter> {
        let waiter = self.expire_first(now)?;
        self.settle(word, |active| active);
        Some(waiter)
    }

    /// When [`Queue::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.first.and_then(|slot| self.slot(slot)).map(|slot| slot.deadline)
    }

    /// Other settings hold from now on. Those who wait stay, with the deadlines that they have; call
    /// [`Queue::fill`] until there is nobody.
    pub fn set(&mut self, settings: Bulkhead) {
        self.settings = settings;
    }

    /// One who waits although there is room, which is only after a limit became higher; who is to be woken.
    #[must_use]
    pub fn fill(&mut self, now: Instant, word: &impl Word) -> Option<Waiter> {
        if active(word.read()) >= self.settings.concurrency_max {
            return None;
        }
        let next = self.admit_next(now);
        self.settle(word, |active| active.saturating_add(u32::from(next.is_some())));
        next
    }

    pub fn settings(&self) -> Bulkhead {
        self.settings
    }

    /// The first whose deadline has not passed gets the permit.
    fn admit_next(&mut self, now: Instant) -> Option<Waiter> {
        // They find out by themselves: their deadline has passed.
        while self.expire_first(now).is_some() {}
        let first = self.first?;
        self.unlink(first);
        let slot = self.slots.get_mut(first as usize)?;
        slot.state = State::Admitted;
        Some(slot.waiter)
    }

    fn expire_first(&mut self, now: Instant) -> Option<Waiter> {
        let first = self.first.filter(|first| self.slot(*first).is_some_and(|slot| slot.deadline <= now))?;
        self.unlink(first);
        let slot = self.slots.get_mut(first as usize)?;
        slot.state = State::Expired;
        Some(slot.waiter)
    }

    /// Writes how many wait, and what becomes of how many are in.
    fn settle(&self, word: &impl Word, mut active: impl FnMut(u32) -> u32) {
        let written = word.change(|counts| {
            let active = active(Pair::of(counts).low);
            Some(Pair { low: active, high: self.waiting }.word())
        });
        debug_assert!(written.is_ok(), "a step that is always taken");
    }

    fn push(&mut self, now: Instant, waiter: Waiter) -> Ticket {
        let last = self.last.and_then(|last| self.slot(last)).map(|slot| slot.deadline);
        // Workers read their clocks before they get here: the order of the queue is the order of its deadlines.
        let deadline = (now + self.settings.wait_max).max(last.unwrap_or(now));
        let new = Slot { state: State::Waiting, turn: 0, waiter, deadline, before: self.last, after: None };
        let at = match self.free {
            Some(at) => at,
            None => {
                self.slots.push(Slot { state: State::Free, after: None, ..new });
                self.slots.len() as u32 - 1
            }
        };
        let mut turn = 0;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            self.free = slot.after;
            turn = slot.turn;
            *slot = Slot { turn, ..new };
        }
        match self.last.and_then(|last| self.slots.get_mut(last as usize)) {
            Some(last) => last.after = Some(at),
            None => self.first = Some(at),
        }
        self.last = Some(at);
        self.waiting = self.waiting.saturating_add(1);
        Ticket { slot: at, turn }
    }

    fn unlink(&mut self, at: u32) {
        let Some((before, after)) = self.slot(at).map(|slot| (slot.before, slot.after)) else { return };
        match before.and_then(|before| self.slots.get_mut(before as usize)) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        match after.and_then(|after| self.slots.get_mut(after as usize)) {
            Some(after) => after.before = before,
            None => self.last = before,
        }
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// A slot that is not linked.
    fn set_free(&mut self, at: u32) {
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.state = State::Free;
            slot.turn = slot.turn.wrapping_add(1);
            slot.before = None;
            slot.after = self.free.replace(at);
        }
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    fn held(&self, ticket: Ticket) -> Option<(State, Instant)> {
        let slot = self.slot(ticket.slot)?;
        (slot.turn == ticket.turn && slot.state != State::Free).then_some((slot.state, slot.deadline))
    }

    /// What holds between any two events, once [`Queue::fill`] has nobody after [`Queue::set`]. Says what does not.
    pub fn check_invariants(&self, word: u64) -> Result<(), &'static str> {
        let mut linked = 0;
        let (mut at, mut before, mut deadline) = (self.first, None, Instant::ZERO);
        while let Some(slot) = at.and_then(|at| self.slot(at)) {
            linked += 1;
            if slot.state != State::Waiting || slot.before != before || slot.deadline < deadline {
                return Err("the queue is not in order");
            }
            if linked > self.slots.len() {
                return Err("the queue goes in a circle");
            }
            (before, deadline, at) = (at, slot.deadline, slot.after);
        }
        let in_state = |state| self.slots.iter().filter(|slot| slot.state == state).count();
        if self.last != before || linked != self.waiting as usize || linked != in_state(State::Waiting) {
            return Err("somebody waits outside of the queue");
        }
        if waiting(word) != self.waiting {
            return Err("the word says something else than the queue");
        }
        if self.waiting > 0 && active(word) < self.settings.concurrency_max {
            return Err("somebody waits although there is room");
        }
        if in_state(State::Admitted) > active(word) as usize {
            return Err("somebody was admitted without a permit");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
