//! Where sockets of one address hand datagrams to each other, across workers.
//!
//! Few do: those of clients whose address has changed. What waits is bounded, and what does not fit is lost, as datagrams
//! may be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use quinn::udp::EcnCodepoint;
use tokio::sync::mpsc;

use super::steer::PLACES_MAX;
use crate::listen::ListenerKey;

const WAITING_MAX: usize = 256;

/// One that came to another socket.
#[derive(Debug)]
pub struct Datagram {
    pub bytes: Bytes,
    pub from: SocketAddr,
    pub to: Option<IpAddr>,
    pub ecn: Option<EcnCodepoint>,
}

/// By address.
#[derive(Debug, Default)]
pub struct Crossings(Mutex<HashMap<u64, Weak<Crossing>>>);

impl Crossings {
    pub fn of(&self, key: ListenerKey) -> Arc<Crossing> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, crossing| crossing.strong_count() > 0);
        if let Some(known) = all.get(&key.number()).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::<Crossing>::default();
        all.insert(key.number(), Arc::downgrade(&new));
        new
    }
}

/// Of one address.
#[derive(Debug, Default)]
pub struct Crossing(Mutex<Vec<Option<mpsc::Sender<Datagram>>>>);

impl Crossing {
    fn places(&self) -> MutexGuard<'_, Vec<Option<mpsc::Sender<Datagram>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where there are more sockets than can be told apart.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let (waiting_tx, waiting_rx) = mpsc::channel(WAITING_MAX);
        let mut places = self.places();
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        let number = u8::try_from(free).ok().filter(|_| free < PLACES_MAX)?;
        match places.get_mut(free) {
            Some(place) => *place = Some(waiting_tx),
            None => places.push(Some(waiting_tx)),
        }
        Some(Place { crossing: Arc::clone(self), number, waiting_rx: Mutex::new(waiting_rx) })
    }

    /// Whether there is one who would take it.
    pub fn hand_over(&self, place: u8, datagram: impl FnOnce() -> Datagram) -> bool {
        let Some(waiting_tx) = self.places().get(usize::from(place)).cloned().flatten() else { return false };
        // One that has no room for it loses it.
        let _ = waiting_tx.try_send(datagram());
        true
    }
}

/// One socket of several.
#[derive(Debug)]
pub struct Place {
    crossing: Arc<Crossing>,
    pub number: u8,
    /// Only the socket's own worker looks.
    waiting_rx: Mutex<mpsc::Receiver<Datagram>>,
}

impl Place {
    pub fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    pub fn waiting(&self) -> MutexGuard<'_, mpsc::Receiver<Datagram>> {
        self.waiting_rx.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.crossing.places().get_mut(usize::from(self.number)) {
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram() -> Datagram {
        Datagram { bytes: Bytes::new(), from: ([127, 0, 0, 1], 1).into(), to: None, ecn: None }
    }

    #[test]
    fn a_place_is_given_back_and_given_again() {
        let crossing = Arc::<Crossing>::default();
        let places: Vec<Place> = (0..3).filter_map(|_| crossing.enter()).collect();
        assert_eq!(places.iter().map(|place| place.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(crossing.hand_over(1, datagram));
        assert!(places[1].waiting().try_recv().is_ok());
        assert!(!crossing.hand_over(3, datagram));
        let [first, second, third]: [Place; 3] = places.try_into().unwrap();
        drop(second);
        assert!(!crossing.hand_over(1, datagram));
        assert_eq!(crossing.enter().unwrap().number, 1);
        drop((first, third));
    }

    #[test]
    fn what_does_not_fit_is_lost_and_there_are_no_more_places_than_numbers() {
        let crossing = Arc::<Crossing>::default();
        let places: Vec<Place> = (0..PLACES_MAX + 5).map_while(|_| crossing.enter()).collect();
        assert_eq!(places.len(), PLACES_MAX);
        for _ in 0..2 * WAITING_MAX {
            assert!(crossing.hand_over(255, datagram));
        }
        let mut waiting = places[255].waiting();
        assert_eq!(std::iter::from_fn(|| waiting.try_recv().ok()).count(), WAITING_MAX);
    }
}
