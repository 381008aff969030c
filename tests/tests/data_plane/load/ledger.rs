//! What clients saw, request for request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{KINDS, Kind};

/// How a request ended, for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Whole, and as it should be.
    Answered,
    /// Whole, with a status that no upstream gives: it is naru's own answer.
    Refused(u16),
    /// naru said that it has not looked at it.
    Disclaimed,
    /// Not at all, or not to the end.
    Broken(String),
    /// Whole, and not what was asked for.
    Wrong(String),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    /// Of a connection of TCP, which says no number to naru: the client's port.
    pub port: Option<u16>,
    /// Somebody in the middle may break it off.
    pub is_relayed: bool,
    /// `None` while it is under way.
    pub seen: Option<Seen>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Vec<Entry>>,
    answered: [AtomicU64; KINDS.len()],
    is_over: AtomicBool,
    /// What no request is to blame for.
    faults: Mutex<Vec<String>>,
}

impl Ledger {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// A request is about to be sent; its number.
    pub fn begin(&self, kind: Kind, is_relayed: bool) -> u64 {
        let mut entries = self.entries.lock().unwrap();
        entries.push(Entry { kind, port: None, is_relayed, seen: None });
        entries.len() as u64 - 1
    }

    pub fn came_from(&self, number: u64, port: u16) {
        self.entries.lock().unwrap()[number as usize].port = Some(port);
    }

    pub fn end(&self, number: u64, seen: Seen) {
        let mut entries = self.entries.lock().unwrap();
        let entry = &mut entries[number as usize];
        assert!(entry.seen.is_none(), "{number} ended twice: {entry:?}, {seen:?}");
        if seen == Seen::Answered {
            self.moves(entry.kind);
        }
        entry.seen = Some(seen);
    }

    /// A message of a longer one was answered, or all of it.
    pub fn moves(&self, kind: Kind) {
        self.answered[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// So far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.answered[kind as usize].load(Ordering::Relaxed)
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// Those that a client may not see where nothing is broken, and faults.
    pub fn lost(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let mut lost = self.faults.lock().unwrap().clone();
        let is_fine = |seen: &Option<Seen>| matches!(seen, None | Some(Seen::Answered | Seen::Disclaimed));
        let others = entries.iter().enumerate().filter(|(_, entry)| !is_fine(&entry.seen));
        lost.extend(others.map(|(number, entry)| format!("{number}: {entry:?}")));
        lost
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }
}
