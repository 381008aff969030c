//! A bulkhead as its callers see it, and walks of four workers against the obvious queue.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use naru_base::Chance;

use super::*;

fn settings(concurrency_max: u32, queue_max: u32, wait_ms: u64) -> Bulkhead {
    Bulkhead { concurrency_max, queue_max, wait_max: Duration::from_millis(wait_ms) }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// A queue, its word, and the short ways first, as a shell has them.
struct Stand {
    word: Cell<u64>,
    queue: Queue,
}

impl Stand {
    fn new(concurrency_max: u32, queue_max: u32, wait_ms: u64) -> Stand {
        Stand { word: Cell::new(0), queue: Queue::new(settings(concurrency_max, queue_max, wait_ms)) }
    }

    fn enter(&mut self, now: Instant, waiter: u64) -> Entry {
        let entry = match enter(&self.word, &self.queue.settings()) {
            Entry::Ask => self.queue.enter(now, Waiter(waiter), &self.word),
            known => known,
        };
        self.queue.check_invariants(self.word.get()).unwrap();
        entry
    }

    fn wait(&mut self, now: Instant, waiter: u64) -> Ticket {
        match self.enter(now, waiter) {
            Entry::Queued { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, now: Instant) -> Option<u64> {
        let next = if release(&self.word) { None } else { self.queue.on_released(now, &self.word) };
        self.queue.check_invariants(self.word.get()).unwrap();
        next.map(|waiter| waiter.0)
    }

    fn claim(&mut self, now: Instant, ticket: Ticket) -> Claim {
        let claim = self.queue.claim(now, ticket, &self.word);
        self.queue.check_invariants(self.word.get()).unwrap();
        claim
    }

    fn leave(&mut self, now: Instant, ticket: Ticket) -> Option<u64> {
        let next = self.queue.on_left(now, ticket, &self.word);
        self.queue.check_invariants(self.word.get()).unwrap();
        next.map(|waiter| waiter.0)
    }

    fn counts(&self) -> (u32, u32) {
        (active(self.word.get()), waiting(self.word.get()))
    }
}

const FULL: Entry = Entry::Refused(Reason::BulkheadFull);
const LATE: Claim = Claim::Refused(Reason::BulkheadTimeout);

#[test]
fn without_a_queue_the_word_is_all_there_is() {
    // The throttling of the traffic guide: user 50, place 100, recommendation 30, community 50.
    for max in [50, 100, 30, 50] {
        let bulkhead = settings(max, 100, 0);
        let word = Cell::new(0);
        for _ in 0..max {
            assert_eq!(enter(&word, &bulkhead), Entry::Admitted);
        }
        assert_eq!(enter(&word, &bulkhead), FULL);
        assert!(release(&word));
        assert_eq!(enter(&word, &bulkhead), Entry::Admitted);
        for _ in 0..max {
            assert!(release(&word));
        }
        assert_eq!(word.get(), 0);
    }
}

#[test]
fn who_waited_longest_is_next_and_nobody_overtakes() {
    let mut stand = Stand::new(1, 2, 100);
    assert_eq!(stand.enter(at(0), 1), Entry::Admitted);
    let second = stand.wait(at(1), 2);
    let third = stand.wait(at(2), 3);
    assert_eq!(stand.enter(at(3), 4), FULL);
    assert_eq!(stand.release(at(4)), Some(2));
    let fifth = stand.wait(at(5), 5);
    assert_eq!(stand.claim(at(5), third), Claim::Waiting);
    assert_eq!(stand.claim(at(6), second), Claim::Admitted);
    assert_eq!(stand.release(at(7)), Some(3));
    assert_eq!(stand.claim(at(7), third), Claim::Admitted);
    assert_eq!(stand.release(at(8)), Some(5));
    assert_eq!(stand.claim(at(8), fifth), Claim::Admitted);
    assert_eq!(stand.release(at(9)), None);
    assert_eq!(stand.counts(), (0, 0));
}

#[test]
fn a_waiter_is_refused_at_its_deadline_and_not_before() {
    let mut stand = Stand::new(1, 2, 100);
    stand.enter(at(0), 1);
    let ticket = stand.wait(at(10), 2);
    assert_eq!(stand.queue.deadline(), Some(at(110)));
    assert_eq!(stand.queue.tick(at(109), &stand.word), None);
    assert_eq!(stand.claim(at(109), ticket), Claim::Waiting);
    assert_eq!(stand.claim(at(110), ticket), LATE);
    assert_eq!(stand.counts(), (1, 0));
    let ticket = stand.wait(at(200), 3);
    assert_eq!(stand.queue.tick(at(300), &stand.word), Some(Waiter(3)));
    assert_eq!(stand.claim(at(300), ticket), LATE);
    assert_eq!(stand.claim(at(300), ticket), LATE, "a ticket ends once");
    assert_eq!((stand.release(at(301)), stand.counts()), (None, (0, 0)));
}

#[test]
fn those_whose_deadline_passed_give_way() {
    let mut stand = Stand::new(1, 5, 100);
    stand.enter(at(0), 1);
    let early = stand.wait(at(0), 2);
    let late = stand.wait(at(50), 3);
    assert_eq!(stand.release(at(100)), Some(3));
    assert_eq!((stand.claim(at(100), late), stand.claim(at(100), early)), (Claim::Admitted, LATE));
    assert_eq!(stand.counts(), (1, 0));
}

#[test]
fn who_goes_away_from_anywhere_in_the_queue_is_not_missed() {
    let mut stand = Stand::new(1, 5, 100);
    stand.enter(at(0), 1);
    let tickets: Vec<Ticket> = (2..=6).map(|waiter| stand.wait(at(0), waiter)).collect();
    for gone in [2, 0, 4] {
        assert_eq!(stand.leave(at(1), tickets[gone]), None);
        assert_eq!(stand.leave(at(1), tickets[gone]), None, "twice is once");
    }
    assert_eq!(stand.counts(), (1, 2));
    assert_eq!(stand.release(at(2)), Some(3));
    // Woken, but gone before it looked: the permit goes on.
    assert_eq!(stand.leave(at(3), tickets[1]), Some(5));
    assert_eq!(stand.leave(at(3), tickets[3]), None);
    assert_eq!(stand.counts(), (0, 0));
}

#[test]
fn a_lost_wake_loses_nothing() {
    let mut stand = Stand::new(1, 5, 100);
    stand.enter(at(0), 1);
    let ticket = stand.wait(at(0), 2);
    let _lost = stand.release(at(1));
    assert_eq!(stand.claim(at(500), ticket), Claim::Admitted);
}

#[test]
fn other_settings_hold_for_those_who_come_and_those_who_wait() {
    let mut stand = Stand::new(3, 5, 100);
    for waiter in 0..3 {
        stand.enter(at(0), waiter);
    }
    let tickets: Vec<Ticket> = (3..6).map(|waiter| stand.wait(at(0), waiter)).collect();
    stand.queue.set(settings(1, 5, 100));
    assert_eq!((stand.release(at(1)), stand.counts()), (None, (2, 3)), "too many are in");
    assert_eq!((stand.release(at(1)), stand.counts()), (None, (1, 3)));
    assert_eq!((stand.release(at(1)), stand.counts()), (Some(3), (1, 2)));
    stand.queue.set(settings(4, 5, 100));
    // Not yet those who wait, but nobody new either.
    let settings_now = stand.queue.settings();
    assert_eq!(enter(&stand.word, &settings_now), Entry::Ask);
    stand.queue.set(settings(4, 0, 100));
    assert_eq!(stand.queue.fill(at(2), &stand.word), Some(Waiter(4)));
    assert_eq!(stand.queue.fill(at(2), &stand.word), Some(Waiter(5)));
    assert_eq!(stand.queue.fill(at(2), &stand.word), None);
    stand.queue.check_invariants(stand.word.get()).unwrap();
    assert!(tickets.iter().all(|ticket| stand.claim(at(3), *ticket) == Claim::Admitted));
    assert_eq!(stand.enter(at(4), 9), Entry::Admitted);
    assert_eq!(stand.enter(at(4), 9), FULL);
}

#[test]
fn a_place_is_used_again_but_never_by_an_old_ticket() {
    let mut stand = Stand::new(1, 1, 100);
    stand.enter(at(0), 1);
    let old = stand.wait(at(0), 2);
    assert_eq!(stand.leave(at(0), old), None);
    let new = stand.wait(at(0), 3);
    assert_eq!((old.slot, stand.leave(at(0), old)), (new.slot, None));
    assert_eq!((stand.claim(at(1), old), stand.claim(at(1), new)), (LATE, Claim::Waiting));
    assert_eq!(stand.queue.slots.len(), 1);
}

#[test]
fn clocks_that_differ_between_workers_do_not_disturb_the_order() {
    let mut stand = Stand::new(1, 5, 100);
    stand.enter(at(0), 1);
    stand.wait(at(20), 2);
    let ticket = stand.wait(at(10), 3);
    assert_eq!(stand.claim(at(119), ticket), Claim::Waiting);
    assert_eq!(stand.claim(at(120), ticket), LATE);
}

// The walk.

/// The obvious bulkhead: everything happens at once, in one place.
#[derive(Default)]
struct RefBulkhead {
    active: u32,
    waiting: VecDeque<(u64, Instant)>,
    /// Those that were in the queue and have not looked since: whether they were admitted.
    told: BTreeMap<u64, bool>,
}

impl RefBulkhead {
    fn enter(&mut self, now: Instant, id: u64, settings: &Bulkhead) -> Result<bool, ()> {
        if self.waiting.is_empty() && self.active < settings.concurrency_max {
            self.active += 1;
            return Ok(true);
        }
        if settings.wait_max.is_zero() || self.waiting.len() >= settings.queue_max as usize {
            return Err(());
        }
        self.waiting.push_back((id, now + settings.wait_max));
        Ok(false)
    }

    fn expire(&mut self, now: Instant) -> Option<u64> {
        let (id, _) = *self.waiting.front().filter(|(_, deadline)| *deadline <= now)?;
        self.waiting.pop_front();
        self.told.insert(id, false);
        Some(id)
    }

    fn release(&mut self, now: Instant, settings: &Bulkhead) -> Option<u64> {
        self.active -= 1;
        self.fill(now, settings)
    }

    fn fill(&mut self, now: Instant, settings: &Bulkhead) -> Option<u64> {
        if self.active >= settings.concurrency_max {
            return None;
        }
        while self.expire(now).is_some() {}
        let (id, _) = self.waiting.pop_front()?;
        self.active += 1;
        self.told.insert(id, true);
        Some(id)
    }

    /// Whether it was admitted; `None` where it still waits.
    fn claim(&mut self, now: Instant, id: u64) -> Option<bool> {
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == id);
        match place {
            Some(place) if self.waiting[place].1 <= now => {
                self.waiting.remove(place);
                Some(false)
            }
            Some(_) => None,
            None => Some(self.told.remove(&id).unwrap()),
        }
    }

    fn leave(&mut self, now: Instant, id: u64, settings: &Bulkhead) -> Option<u64> {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if self.told.remove(&id) == Some(true) { self.release(now, settings) } else { None }
    }
}

/// What another worker does between the look at the word and the swap.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    Enters,
    Releases,
}

/// A word that another worker changes in the middle of a step, once.
struct Racy<'a> {
    word: &'a Cell<u64>,
    settings: &'a Bulkhead,
    meanwhile: RefCell<Meanwhile>,
    happened: Cell<Meanwhile>,
}

impl Word for Racy<'_> {
    fn change(&self, mut step: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        let seen = self.word.get();
        let made = step(seen);
        let meanwhile = self.meanwhile.replace(Meanwhile::Nothing);
        let other = match meanwhile {
            Meanwhile::Nothing => None,
            Meanwhile::Enters => with_one_more(seen, self.settings),
            Meanwhile::Releases => with_one_less(seen),
        };
        if let Some(other) = other {
            self.happened.set(meanwhile);
            self.word.set(other);
            return Word::change(self.word, step);
        }
        let made = made.ok_or(seen)?;
        self.word.set(made);
        Ok(seen)
    }

    fn read(&self) -> u64 {
        self.word.get()
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// The short way in was closed.
    Asking,
    Waiting(Ticket),
    In,
    /// The short way out was closed.
    Releasing,
}

struct Walk {
    chance: Chance,
    now: Instant,
    word: Cell<u64>,
    queue: Queue,
    reference: RefBulkhead,
    requests: Vec<(u64, Phase)>,
    next: u64,
    has_shrunk: bool,
}

impl Walk {
    fn any(&mut self, is_wanted: impl Fn(Phase) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.requests.len()).filter(|at| is_wanted(self.requests[*at].1)).collect();
        fitting.get(self.chance.below(fitting.len() as u64) as usize).copied()
    }

    /// Does something with the queue while another worker may take or give a permit by the short way.
    fn with<T>(&mut self, act: impl FnOnce(&mut Queue, Instant, &Racy<'_>) -> T) -> T {
        let inside = self.any(|phase| phase == Phase::In);
        let meanwhile = match self.chance.below(3) {
            0 => Meanwhile::Enters,
            1 if inside.is_some() => Meanwhile::Releases,
            _ => Meanwhile::Nothing,
        };
        let settings = self.queue.settings();
        let racy = Racy {
            word: &self.word,
            settings: &settings,
            meanwhile: RefCell::new(meanwhile),
            happened: Cell::new(Meanwhile::Nothing),
        };
        let result = act(&mut self.queue, self.now, &racy);
        match racy.happened.get() {
            Meanwhile::Nothing => {}
            Meanwhile::Enters => {
                assert_eq!(self.reference.enter(self.now, self.next, &settings), Ok(true));
                self.requests.push((self.next, Phase::In));
                self.next += 1;
            }
            Meanwhile::Releases => {
                assert_eq!(self.reference.release(self.now, &settings), None);
                // Not taken out here: places of others would move.
                self.requests[inside.unwrap()].0 = u64::MAX;
            }
        }
        result
    }

    fn step(&mut self) {
        let (now, settings) = (self.now, self.queue.settings());
        match self.chance.below(12) {
            0..=2 => {
                let id = self.next;
                self.next += 1;
                match enter(&self.word, &settings) {
                    Entry::Admitted => {
                        assert_eq!(self.reference.enter(now, id, &settings), Ok(true));
                        self.requests.push((id, Phase::In));
                    }
                    Entry::Ask => self.requests.push((id, Phase::Asking)),
                    Entry::Refused(reason) => {
                        assert_eq!(reason, Reason::BulkheadFull);
                        assert_eq!(self.reference.enter(now, id, &settings), Err(()));
                    }
                    Entry::Queued { .. } => panic!("the short way has no places"),
                }
            }
            3 | 4 => {
                let Some(at) = self.any(|phase| phase == Phase::Asking) else { return };
                let id = self.requests[at].0;
                let entry = self.with(|queue, now, word| queue.enter(now, Waiter(id), word));
                match (entry, self.reference.enter(now, id, &settings)) {
                    (Entry::Admitted, Ok(true)) => self.requests[at].1 = Phase::In,
                    (Entry::Queued { ticket, deadline }, Ok(false)) => {
                        assert_eq!(deadline, now + settings.wait_max);
                        self.requests[at].1 = Phase::Waiting(ticket);
                    }
                    (FULL, Err(())) => self.requests[at].0 = u64::MAX,
                    other => panic!("{other:?}"),
                }
            }
            5 | 6 => {
                let Some(at) = self.any(|phase| phase == Phase::In) else { return };
                if release(&self.word) {
                    assert_eq!(self.reference.release(now, &settings), None);
                    self.requests[at].0 = u64::MAX;
                } else {
                    self.requests[at].1 = Phase::Releasing;
                }
            }
            7 => {
                let Some(at) = self.any(|phase| phase == Phase::Releasing) else { return };
                let next = self.with(|queue, now, word| queue.on_released(now, word));
                assert_eq!(next.map(|waiter| waiter.0), self.reference.release(now, &settings));
                self.requests[at].0 = u64::MAX;
            }
            8 => {
                let Some(at) = self.any(|phase| matches!(phase, Phase::Asking | Phase::Waiting(_))) else {
                    return;
                };
                if let (id, Phase::Waiting(ticket)) = self.requests[at] {
                    let next = self.with(|queue, now, word| queue.on_left(now, ticket, word));
                    assert_eq!(next.map(|waiter| waiter.0), self.reference.leave(now, id, &settings));
                }
                self.requests[at].0 = u64::MAX;
            }
            9 => {
                let Some(at) = self.any(|phase| matches!(phase, Phase::Waiting(_))) else { return };
                let (id, Phase::Waiting(ticket)) = self.requests[at] else { return };
                let claim = self.with(|queue, now, word| queue.claim(now, ticket, word));
                match (claim, self.reference.claim(now, id)) {
                    (Claim::Admitted, Some(true)) => self.requests[at].1 = Phase::In,
                    (Claim::Waiting, None) => {}
                    (LATE, Some(false)) => self.requests[at].0 = u64::MAX,
                    other => panic!("{other:?}"),
                }
            }
            10 => {
                self.now = now + Duration::from_millis(self.chance.below(12));
                if self.chance.below(2) == 0 {
                    return;
                }
                loop {
                    let told = self.with(|queue, now, word| queue.tick(now, word)).map(|waiter| waiter.0);
                    assert_eq!(told, self.reference.expire(self.now));
                    if told.is_none() {
                        break;
                    }
                }
                assert!(self.queue.deadline().is_none_or(|deadline| deadline > self.now));
            }
            _ if self.chance.below(20) == 0 => self.change(),
            _ => {}
        }
    }

    fn change(&mut self) {
        let max = 1 + self.chance.below(5) as u32;
        self.has_shrunk |= max < self.queue.settings().concurrency_max;
        let other = Bulkhead { concurrency_max: max, ..self.queue.settings() };
        self.queue.set(other);
        loop {
            let next = self.queue.fill(self.now, &self.word).map(|waiter| waiter.0);
            assert_eq!(next, self.reference.fill(self.now, &other));
            if next.is_none() {
                break;
            }
        }
    }

    fn check(&mut self) {
        self.requests.retain(|(id, _)| *id != u64::MAX);
        self.queue.check_invariants(self.word.get()).unwrap();
        let counts = (active(self.word.get()), waiting(self.word.get()) as usize);
        assert_eq!(counts, (self.reference.active, self.reference.waiting.len()));
        let max = self.queue.settings().concurrency_max;
        assert!(counts.0 <= max || self.has_shrunk, "{} are in", counts.0);
    }

    /// Everybody goes away.
    fn end(mut self) {
        while let Some((_, phase)) = self.requests.pop() {
            match phase {
                Phase::Asking => {}
                Phase::Waiting(ticket) => {
                    let _woken = self.queue.on_left(self.now, ticket, &self.word);
                }
                Phase::In | Phase::Releasing => {
                    if !release(&self.word) {
                        let _woken = self.queue.on_released(self.now, &self.word);
                    }
                }
            }
            self.queue.check_invariants(self.word.get()).unwrap();
        }
        assert_eq!(self.word.get(), 0, "every permit came back");
    }
}

#[test]
fn four_workers_in_any_order_do_as_the_obvious_queue_does() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        let queue_max = chance.below(6) as u32;
        let wait_ms = if chance.below(8) == 0 { 0 } else { 1 + chance.below(60) };
        let settings = settings(1 + chance.below(4) as u32, queue_max, wait_ms);
        let mut walk = Walk {
            chance,
            now: at(1),
            word: Cell::new(0),
            queue: Queue::new(settings),
            reference: RefBulkhead::default(),
            requests: Vec::new(),
            next: 0,
            has_shrunk: false,
        };
        for _ in 0..1_500 {
            walk.step();
            walk.check();
        }
        walk.end();
    }
}
