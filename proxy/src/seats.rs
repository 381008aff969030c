//! How many connections of clients are there: at a listener, in a chain, of an address?
//!
//! Counted by all workers together in atomics that nobody waits for. Of addresses there is no list, which could grow:
//! each counts in four of a fixed number of cells, by four hashes with secrets of their own, and the lowest of them is
//! how many it has at most (a count-min sketch). Addresses that share some cells are told apart by the others; one that
//! shares each of its four with somebody reaches its limit too soon. Of 5,000 addresses that may have one connection
//! each, that is one. Nobody passes the limit.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Of each row; all have 512 KiB together.
const CELLS: usize = 1 << 15;
const ROWS: usize = 4;

/// Connections that are there, and how many were turned away.
#[derive(Debug, Default)]
pub struct Tally {
    active: AtomicU64,
    limited: AtomicU64,
}

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<Tally>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// Nothing where as many are there as may be.
    pub fn take(self: &Arc<Self>, max: u64) -> Option<Counted> {
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(self));
        if before >= max {
            self.limited.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(counted)
    }

    /// Those that are there, and those that were turned away.
    pub fn counts(&self) -> (u64, u64) {
        (self.active.load(Ordering::Relaxed), self.limited.load(Ordering::Relaxed))
    }
}

/// Connections by the addresses that they come from.
#[derive(Debug)]
pub struct Sources<const N: usize = CELLS> {
    rows: [Box<[AtomicU32]>; ROWS],
    secrets: [RandomState; ROWS],
}

impl<const N: usize> Default for Sources<N> {
    fn default() -> Sources<N> {
        let row = |_| (0..N).map(|_| AtomicU32::new(0)).collect();
        Sources { rows: std::array::from_fn(row), secrets: std::array::from_fn(|_| RandomState::new()) }
    }
}

/// Counts one connection of an address until it is dropped.
#[derive(Debug)]
pub struct OfSource<const N: usize = CELLS> {
    sources: Arc<Sources<N>>,
    cells: [usize; ROWS],
}

impl<const N: usize> Drop for OfSource<N> {
    fn drop(&mut self) {
        for cell in self.sources.cells(self.cells) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Sources<N> {
    /// Nothing where the address has as many as it may.
    pub fn take(self: &Arc<Self>, address: IpAddr, max: u32) -> Option<OfSource<N>> {
        let source = source(address);
        let cells = self.secrets.each_ref().map(|secret| secret.hash_one(source) as usize % N);
        let before = self.cells(cells).map(|cell| cell.fetch_add(1, Ordering::Relaxed)).min();
        let counted = OfSource { sources: Arc::clone(self), cells };
        before.is_some_and(|before| before < max).then_some(counted)
    }

    fn cells(&self, at: [usize; ROWS]) -> impl Iterator<Item = &AtomicU32> {
        self.rows.iter().zip(at).filter_map(|(row, at)| row.get(at))
    }
}

/// Whoever has an address of IPv6 has all of its /64.
fn source(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::alone;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_tally_holds_its_limit_and_gives_back() {
        alone(|| {
            let tally = Arc::<Tally>::default();
            let held: Vec<_> = (0..3).map(|_| tally.take(3).unwrap()).collect();
            assert!(tally.take(3).is_none());
            assert_eq!(tally.counts(), (3, 1));
            drop(held);
            assert!(tally.take(1).is_some());
            assert_eq!(tally.counts(), (0, 1));
        });
    }

    #[test]
    fn an_address_has_what_it_may_and_a_network_of_ipv6_is_one() {
        alone(|| {
            let sources = Arc::<Sources>::default();
            let held: Vec<_> = (0..2).map(|_| sources.take(ip("10.0.0.1"), 2).unwrap()).collect();
            assert!(sources.take(ip("10.0.0.1"), 2).is_none());
            assert!(sources.take(ip("::ffff:10.0.0.1"), 2).is_none());
            assert!(sources.take(ip("10.0.0.2"), 2).is_some());
            let _v6 = sources.take(ip("2001:db8::1"), 1).unwrap();
            assert!(sources.take(ip("2001:db8::2"), 1).is_none());
            assert!(sources.take(ip("2001:db8:0:1::1"), 1).is_some());
            drop(held);
            assert!(sources.take(ip("10.0.0.1"), 2).is_some());
        });
    }

    /// Who has few is not refused for those who have many.
    #[test]
    fn crowds_are_told_apart_and_all_is_given_back() {
        alone(|| {
            let sources = Arc::<Sources>::default();
            let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            let mut held: Vec<_> = (0..20_000).map(|n| sources.take(address(n % 200), 100)).collect();
            assert!(held.iter().all(Option::is_some));
            held.extend((1_000..6_000).map(|n| sources.take(address(n), 1)));
            let refused = held.iter().filter(|held| held.is_none()).count();
            assert!(refused < 20, "{refused} of 5,000");
            drop(held);
            let is_empty = |row: &[AtomicU32]| row.iter().all(|cell| cell.load(Ordering::Relaxed) == 0);
            assert!(sources.rows.iter().all(|row| is_empty(row)));
        });
    }
}
