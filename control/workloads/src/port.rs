//! Ports that processes are given.
//!
//! They are taken from below those that the kernel gives to whoever connects somewhere, so that one
//! stays free while its process is started again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use naru_base::Chance;

const FIRST: u16 = 20_000;
/// Where the kernel's own begin if it does not say: Linux' default.
const EPHEMERAL_FIRST: u16 = 32_768;
/// Below this there is little to choose from.
const CHOICE_MIN: u16 = 1_000;
const TRIES_MAX: usize = 256;

/// Whose port is whose.
#[derive(Debug)]
pub struct Ports {
    end: u16,
    given: Mutex<(Chance, BTreeSet<u16>)>,
}

/// A port that nobody else is given until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    ports: Arc<Ports>,
}

impl Ports {
    /// Those of equal seeds are asked for in equal order.
    pub fn new(seed: u64) -> Arc<Ports> {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
        let end = first.unwrap_or(EPHEMERAL_FIRST);
        Arc::new(Ports { end, given: Mutex::new((Chance::split(seed, "ports"), BTreeSet::new())) })
    }

    /// One that nobody listens on now.
    ///
    /// # Errors
    /// There is none.
    pub fn take(self: &Arc<Ports>) -> io::Result<Port> {
        let choice = self.end.saturating_sub(FIRST);
        let mut given = self.lock();
        for _ in 0..TRIES_MAX {
            let number = if choice < CHOICE_MIN {
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()
            } else {
                FIRST + given.0.below(u64::from(choice)) as u16
            };
            if !given.1.contains(&number) && is_free(number) {
                given.1.insert(number);
                return Ok(Port { number, ports: Arc::clone(self) });
            }
        }
        Err(io::Error::other("no port is free"))
    }

    fn lock(&self) -> MutexGuard<'_, (Chance, BTreeSet<u16>)> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    /// Whether nobody listens on it.
    pub fn is_free(&self) -> bool {
        is_free(self.number)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.lock().1.remove(&self.number);
    }
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_a_port_that_another_has() {
        let ports = Ports::new(7);
        let taken: Vec<Port> = (0..64).map(|_| ports.take().unwrap()).collect();
        let numbers: BTreeSet<u16> = taken.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 64);
        let listener = TcpListener::bind(taken[0].address()).unwrap();
        assert!(!taken[0].is_free());
        drop(taken);
        // The first of the same order again, but that somebody else listens there.
        let again = Ports::new(7).take().unwrap();
        assert_ne!(again.address(), listener.local_addr().unwrap());
    }
}
