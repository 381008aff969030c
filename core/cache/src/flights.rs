//! Which request fetches what many want.
//!
//! | flight  | event                              | next    | who waits                                  |
//! |---------|------------------------------------|---------|--------------------------------------------|
//! | (none)  | somebody wants it                  | Led     |                                            |
//! | Led     | another wants it                   | Led     | waits                                      |
//! | Led     | it is kept                         | (none)  | all look, and find it                      |
//! | Led     | it cannot be shared                | (none)  | all fetch, each by itself                  |
//! | Led     | it came to nothing, nobody waits   | (none)  |                                            |
//! | Led     | it came to nothing                 | Offered | the first is to fetch it                   |
//! | Offered | the first looks                    | Led     | the others go on waiting                   |
//! | Offered | the first leaves                   | Offered | the next is to fetch it; (none) without one |
//! | any     | what is fetched may be old         | Void    | as before; nobody new waits                |
//!
//! A fetch that nobody may wait for is a flight, too: what it brings may be old by then.

use std::collections::{BTreeMap, VecDeque};

use crate::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightId(u64);

/// A place among those who wait for a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    flight: FlightId,
    number: u64,
}

/// What came of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept, and may be given to others.
    Kept,
    /// Others must fetch it for themselves.
    Unshared,
    /// It failed, or was given up.
    Nothing,
}

/// What somebody who waits is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Wait,
    /// It is over: look again.
    Over,
    /// Fetch it, for all who still wait.
    Lead(FlightId),
}

#[derive(Debug)]
struct Flight<W> {
    key: Key,
    hash: u64,
    /// Others may wait for it.
    is_led: bool,
    is_void: bool,
    offered: Option<u64>,
    waiting: VecDeque<(u64, W)>,
}

/// `W` is whatever wakes somebody.
#[derive(Debug)]
pub struct Flights<W> {
    all: BTreeMap<FlightId, Flight<W>>,
    /// By URL.
    by_hash: BTreeMap<u64, Vec<FlightId>>,
    next: u64,
}

impl<W> Default for Flights<W> {
    fn default() -> Flights<W> {
        Flights { all: BTreeMap::new(), by_hash: BTreeMap::new(), next: 0 }
    }
}

impl<W> Flights<W> {
    /// Begins a fetch.
    pub fn begin(&mut self, hash: u64, key: &Key, is_led: bool) -> FlightId {
        let id = FlightId(self.number());
        let flight = Flight {
            key: key.clone(),
            hash,
            is_led,
            is_void: false,
            offered: None,
            waiting: VecDeque::new(),
        };
        self.all.insert(id, flight);
        self.by_hash.entry(hash).or_default().push(id);
        id
    }

    /// The fetch that somebody who wants this may wait for.
    pub fn led(&self, hash: u64, key: &Key) -> Option<FlightId> {
        let of_url = self.by_hash.get(&hash)?.iter().copied();
        let is_it = |flight: &Flight<W>| flight.is_led && !flight.is_void && flight.key == *key;
        of_url.into_iter().find(|id| self.all.get(id).is_some_and(is_it))
    }

    /// Waits; `None` where the flight is over.
    pub fn wait(&mut self, flight: FlightId, waker: W) -> Option<Ticket> {
        let number = self.number();
        self.all.get_mut(&flight)?.waiting.push_back((number, waker));
        Some(Ticket { flight, number })
    }

    /// What is to be done by somebody who waits; `waker` takes the place of the one before.
    pub fn turn(&mut self, ticket: Ticket, waker: W) -> Turn {
        let Some(flight) = self.all.get_mut(&ticket.flight) else { return Turn::Over };
        if flight.offered == Some(ticket.number) {
            flight.offered = None;
            return Turn::Lead(ticket.flight);
        }
        match flight.waiting.iter_mut().find(|(number, _)| *number == ticket.number) {
            Some((_, known)) => {
                *known = waker;
                Turn::Wait
            }
            None => Turn::Over,
        }
    }

    /// Waits no longer. Who is to be woken now is returned.
    pub fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let flight = self.all.get_mut(&ticket.flight)?;
        if flight.offered == Some(ticket.number) {
            return self.offer(ticket.flight);
        }
        flight.waiting.retain(|(number, _)| *number != ticket.number);
        None
    }

    fn offer(&mut self, id: FlightId) -> Option<W> {
        let flight = self.all.get_mut(&id)?;
        match flight.waiting.pop_front() {
            Some((number, waker)) => {
                flight.offered = Some(number);
                Some(waker)
            }
            None => {
                self.remove(id);
                None
            }
        }
    }

    /// A fetch is over. Who is to be woken is returned.
    pub fn end(&mut self, id: FlightId, outcome: Outcome) -> Vec<W> {
        if outcome == Outcome::Nothing && self.all.get(&id).is_some_and(|flight| !flight.is_void) {
            return self.offer(id).into_iter().collect();
        }
        let Some(flight) = self.remove(id) else { return Vec::new() };
        flight.waiting.into_iter().map(|(_, waker)| waker).collect()
    }

    fn remove(&mut self, id: FlightId) -> Option<Flight<W>> {
        let flight = self.all.remove(&id)?;
        if let Some(of_url) = self.by_hash.get_mut(&flight.hash) {
            of_url.retain(|known| *known != id);
            if of_url.is_empty() {
                self.by_hash.remove(&flight.hash);
            }
        }
        Some(flight)
    }

    /// Others may wait for it.
    pub fn is_led(&self, id: FlightId) -> bool {
        self.all.get(&id).is_some_and(|flight| flight.is_led)
    }

    pub fn is_void(&self, id: FlightId) -> bool {
        self.all.get(&id).is_none_or(|flight| flight.is_void)
    }

    /// What these bring may be old.
    pub fn spoil(&mut self, is_meant: impl Fn(&Key) -> bool) {
        self.all.values_mut().filter(|flight| is_meant(&flight.key)).for_each(|flight| flight.is_void = true);
    }

    /// The same of one URL.
    pub fn spoil_url(&mut self, hash: u64, url: &str) {
        let Some(of_url) = self.by_hash.get(&hash) else { return };
        for id in of_url {
            if let Some(flight) = self.all.get_mut(id).filter(|flight| flight.key.url() == url) {
                flight.is_void = true;
            }
        }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let mut led: Vec<&Key> = Vec::new();
        for (id, flight) in &self.all {
            if !self.by_hash.get(&flight.hash).is_some_and(|of_url| of_url.contains(id)) {
                return Err("a flight that is not found by its URL");
            }
            if !flight.is_led && (flight.offered.is_some() || !flight.waiting.is_empty()) {
                return Err("somebody waits for what cannot be shared");
            }
            if flight.is_led && !flight.is_void {
                if led.contains(&&flight.key) {
                    return Err("two fetch the same for others");
                }
                led.push(&flight.key);
            }
        }
        if self.by_hash.values().map(Vec::len).sum::<usize>() != self.all.len() {
            return Err("a flight that is found and is not there");
        }
        Ok(())
    }
}
