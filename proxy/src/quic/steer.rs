//! Which socket does a datagram of QUIC belong to?
//!
//! The kernel leads datagrams to one of the sockets of an address by where they come from. A client's address may change
//! under its connection (RFC 9000, section 9), be it only that of a translator of addresses; then its datagrams come to
//! another socket. So each connection id that a socket gives away says which one it is, by its first byte.

use quinn::ConnectionId;
use quinn_proto::{ConnectionIdGenerator, RandomConnectionIdGenerator};

/// Of ids that are ours. Clients begin with ids of their own, most of 8, 16, 18 or 20 bytes; one of 11 is led as if it were
/// ours, and all of its connection alike.
const ID_BYTES: usize = 11;

/// As many sockets of one address can be told apart.
pub const PLACES_MAX: usize = 256;

/// The place of the socket whose connection a datagram is for. `None` where it begins one, or is nothing.
pub fn place_of(datagram: &[u8]) -> Option<u8> {
    const LONG: u8 = 0x80;
    // RFC 8999, section 5.
    match datagram.first()? & LONG {
        0 => datagram.get(1..=ID_BYTES)?.first().copied(),
        _ => {
            let is_ours = usize::from(*datagram.get(5)?) == ID_BYTES;
            datagram.get(6..6 + ID_BYTES)?.first().copied().filter(|_| is_ours)
        }
    }
}

/// Makes ids of one socket.
#[derive(Debug)]
pub struct Ids {
    place: u8,
    random: RandomConnectionIdGenerator,
}

impl Ids {
    pub fn of(place: u8) -> Ids {
        Ids { place, random: RandomConnectionIdGenerator::new(ID_BYTES) }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; ID_BYTES];
        for (byte, random) in bytes.iter_mut().zip(self.random.generate_cid().iter()) {
            *byte = *random;
        }
        if let Some(first) = bytes.first_mut() {
            *first = self.place;
        }
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_whose_it_is() {
        for place in [0, 1, 7, 255] {
            let id = Ids::of(place).generate_cid();
            let short = [&[0x40][..], &id, &[0; 20]].concat();
            assert_eq!(place_of(&short), Some(place));
            let long = [&[0xc0, 0, 0, 0, 1, ID_BYTES as u8][..], &id, &[0; 20]].concat();
            assert_eq!(place_of(&long), Some(place));
        }
        let begins = [&[0xc0, 0, 0, 0, 1, 8][..], &[9; 30]].concat();
        assert_eq!(place_of(&begins), None);
        for broken in [&[][..], &[0x40], &[0x40, 1, 2], &[0xc0, 0, 0, 0, 1], &[0xc0, 0, 0, 0, 1, 11, 5]] {
            assert_eq!(place_of(broken), None, "{broken:x?}");
        }
    }

    #[test]
    fn ids_are_not_the_same_twice() {
        let mut ids = Ids::of(3);
        assert_ne!(ids.generate_cid(), ids.generate_cid());
    }
}
