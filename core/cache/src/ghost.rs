//! Who was let go a short while ago: fingerprints in a table of a fixed size, where one takes the place of another.
//!
//! An approximation of S3-FIFO's ghost queue that costs four bytes for each place.

#[derive(Debug)]
pub struct Ghost {
    places: Box<[u32]>,
}

/// One place for so many bytes that are kept.
const BYTES_PER_PLACE: u64 = 4_096;

impl Ghost {
    pub fn new(bytes_max: u64) -> Ghost {
        let places = (bytes_max / BYTES_PER_PLACE).clamp(64, 1 << 20).next_power_of_two();
        Ghost { places: vec![0; places as usize].into() }
    }

    pub fn bytes(&self) -> u64 {
        self.places.len() as u64 * 4
    }

    pub fn put(&mut self, hash: u64) {
        if let Some(place) = self.place(hash) {
            *place = print(hash);
        }
    }

    /// Whether it was here; it is not any more.
    pub fn take(&mut self, hash: u64) -> bool {
        let print = print(hash);
        self.place(hash).is_some_and(|place| {
            let is_it = *place == print;
            if is_it {
                *place = 0;
            }
            is_it
        })
    }

    fn place(&mut self, hash: u64) -> Option<&mut u32> {
        let at = hash as usize & (self.places.len() - 1);
        self.places.get_mut(at)
    }
}

/// Never that of an empty place.
fn print(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}
