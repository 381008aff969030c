//! The attempts of one request that are under way: usually one, at most four.

use naru_base::{AttemptId, EndpointId};

const PLACES: usize = naru_spec::defaults::ATTEMPTS_AT_ONCE_MAX as usize;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    endpoints: [EndpointId; PLACES],
    /// Lowest eight bits: a request has fewer attempts than that.
    ids: [u8; PLACES],
    /// Low four bits: the places taken. High four: those beside which another attempt was made.
    places: u8,
    /// Attempts after the first, without replays.
    retries: u8,
    /// Bits of the priorities that attempts were made at, and of those that were left out when it was
    /// last decided.
    tried_priorities: u8,
    excluded_priorities: u8,
}

impl Default for Flight {
    fn default() -> Flight {
        Flight {
            endpoints: [EndpointId(0); PLACES],
            ids: [0; PLACES],
            places: 0,
            retries: 0,
            tried_priorities: 0,
            excluded_priorities: 0,
        }
    }
}

impl Flight {
    /// `false` where there is no place, or the id has one.
    pub(crate) fn begin(&mut self, id: AttemptId, endpoint: EndpointId, priority: u8) -> bool {
        let Ok(short) = u8::try_from(id.0) else { return false };
        let is_alone = self.places & 0x0f == 0;
        if !is_alone && self.place(id).is_some() {
            return false;
        }
        let free = if is_alone { Some(0) } else { (0..PLACES).find(|place| self.places & 1 << place == 0) };
        let Some(place) = free else { return false };
        if let (Some(at), Some(known)) = (self.endpoints.get_mut(place), self.ids.get_mut(place)) {
            *at = endpoint;
            *known = short;
        }
        self.places = (self.places | 1 << place) & !(0x10 << place);
        self.tried_priorities |= 1 << priority.min(7);
        true
    }

    fn place(&self, id: AttemptId) -> Option<usize> {
        let short = u8::try_from(id.0).ok()?;
        self.taken().find(|(_, known)| *known == short).map(|(place, _)| place)
    }

    fn taken(&self) -> impl Iterator<Item = (usize, u8)> {
        let places = self.places;
        self.ids.into_iter().enumerate().filter(move |(place, _)| places & 1 << place != 0)
    }

    #[inline]
    pub(crate) fn endpoint(&self, id: AttemptId) -> Option<EndpointId> {
        self.place(id).and_then(|place| self.endpoints.get(place).copied())
    }

    pub(crate) fn end(&mut self, id: AttemptId) {
        if let Some(place) = self.place(id) {
            self.places &= !(0x11 << place);
        }
    }

    /// Another attempt is made beside this one.
    pub(crate) fn hedge(&mut self, id: AttemptId) {
        if let Some(place) = self.place(id) {
            self.places |= 0x10 << place;
        }
    }

    pub(crate) fn is_hedged(&self, id: AttemptId) -> bool {
        self.place(id).is_some_and(|place| self.places & 0x10 << place != 0)
    }

    /// The last that was begun, of those beside which no other was made.
    pub(crate) fn newest_waiting(&self) -> Option<AttemptId> {
        self.waiting().max()
    }

    pub(crate) fn has_waiting_beside(&self, id: AttemptId) -> bool {
        self.waiting().any(|other| other != id)
    }

    fn waiting(&self) -> impl Iterator<Item = AttemptId> {
        let hedged = self.places >> 4;
        let waiting = self.taken().filter(move |(place, _)| hedged & 1 << place == 0);
        waiting.map(|(_, id)| AttemptId(u16::from(id)))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = AttemptId> {
        self.taken().map(|(_, id)| AttemptId(u16::from(id)))
    }

    pub(crate) fn count(&self) -> u32 {
        (self.places & 0x0f).count_ones()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places & 0x0f == 0x0f
    }

    pub(crate) fn retries(&self) -> u8 {
        self.retries
    }

    pub(crate) fn count_retry(&mut self) {
        self.retries = self.retries.saturating_add(1);
    }

    /// Decided anew after every `after` attempts, as Envoy's `previous_priorities` does.
    pub(crate) fn excluded_priorities(&mut self, after: u32) -> u8 {
        let attempts = u32::from(self.retries) + 1;
        if attempts.is_multiple_of(after.max(1)) {
            self.excluded_priorities = self.tried_priorities;
        }
        self.excluded_priorities
    }

    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        let ids: Vec<AttemptId> = self.ids().collect();
        if (1..ids.len()).any(|at| ids.iter().take(at).any(|other| ids.get(at) == Some(other))) {
            Err("two attempts have one id")
        } else if self.places >> 4 & !self.places != 0 {
            Err("an attempt that is not under way was hedged")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_places_and_ids_find_them() {
        let mut flight = Flight::default();
        for id in 0..4 {
            assert!(flight.begin(AttemptId(id), EndpointId(10 + u32::from(id)), 0));
        }
        assert!(!flight.begin(AttemptId(4), EndpointId(0), 0), "all places are taken");
        flight.hedge(AttemptId(2));
        assert!(flight.is_hedged(AttemptId(2)) && !flight.is_hedged(AttemptId(1)));
        flight.end(AttemptId(2));
        assert_eq!(flight.endpoint(AttemptId(2)), None);
        assert!(flight.begin(AttemptId(7), EndpointId(5), 0));
        assert!(!flight.is_hedged(AttemptId(7)), "what was there before says nothing about it");
        assert_eq!(flight.newest_waiting(), Some(AttemptId(7)));
        assert!(flight.has_waiting_beside(AttemptId(7)));
        assert_eq!(flight.count(), 4);
        assert!(!flight.begin(AttemptId(7), EndpointId(1), 0) && flight.check_invariants().is_ok());
        assert!(!Flight::default().begin(AttemptId(256), EndpointId(1), 0), "ids have eight bits");
    }

    #[test]
    fn priorities_are_left_out_anew_after_every_second_attempt() {
        let mut flight = Flight::default();
        flight.begin(AttemptId(0), EndpointId(0), 0);
        assert_eq!(flight.excluded_priorities(2), 0, "one attempt");
        flight.count_retry();
        flight.begin(AttemptId(1), EndpointId(0), 0);
        assert_eq!(flight.excluded_priorities(2), 0b1);
        flight.count_retry();
        flight.begin(AttemptId(2), EndpointId(0), 1);
        assert_eq!(flight.excluded_priorities(2), 0b1, "three: as it was");
        flight.count_retry();
        assert_eq!(flight.excluded_priorities(2), 0b11);
        assert_eq!(Flight::default().excluded_priorities(0), 0, "no division by zero");
    }
}
