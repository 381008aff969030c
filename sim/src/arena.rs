//! Things that come and go by the million: in one vector, whose places are used again.

/// Something that is or was in an arena. The turn tells it from its successors in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    slot: u32,
    turn: u32,
}

#[derive(Debug)]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    turn: u32,
    value: Option<T>,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    #[inline]
    pub fn insert(&mut self, value: T) -> Ticket {
        match self.free.pop() {
            Some(slot) => {
                let here = &mut self.slots[slot as usize];
                here.value = Some(value);
                Ticket { slot, turn: here.turn }
            }
            None => {
                self.slots.push(Slot { turn: 0, value: Some(value) });
                Ticket { slot: self.slots.len() as u32 - 1, turn: 0 }
            }
        }
    }

    #[inline]
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let slot = self.slots.get_mut(ticket.slot as usize).filter(|slot| slot.turn == ticket.turn)?;
        slot.value.as_mut()
    }

    #[inline]
    pub fn get(&self, ticket: Ticket) -> Option<&T> {
        let slot = self.slots.get(ticket.slot as usize).filter(|slot| slot.turn == ticket.turn)?;
        slot.value.as_ref()
    }

    /// `None` where it is gone already.
    #[inline]
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slots.get_mut(ticket.slot as usize).filter(|slot| slot.turn == ticket.turn)?;
        let value = slot.value.take()?;
        slot.turn = slot.turn.wrapping_add(1);
        self.free.push(ticket.slot);
        Some(value)
    }

    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        (0..).zip(&self.slots).filter_map(|(slot, here)| {
            here.value.as_ref().map(|value| (Ticket { slot, turn: here.turn }, value))
        })
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_does_not_open_its_successor() {
        let mut arena = Arena::default();
        let (a, b) = (arena.insert("a"), arena.insert("b"));
        assert_eq!(arena.remove(a), Some("a"));
        assert_eq!(arena.remove(a), None);
        let c = arena.insert("c");
        assert_eq!((arena.get(a), arena.get(b), arena.get(c)), (None, Some(&"b"), Some(&"c")));
        assert_eq!(arena.iter().map(|(_, value)| *value).collect::<Vec<_>>(), ["c", "b"]);
        arena.remove(b);
        arena.remove(c);
        assert!(arena.is_empty());
    }
}
