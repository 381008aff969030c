//! What upstreams have read of numbered requests: which, and how often. An upstream notes a number as soon as it has
//! read the head of its request, before it does anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The header that the number of a request stands in.
pub const HEADER: &str = "x-number";

#[derive(Debug, Default)]
pub struct Journal {
    requests: Mutex<BTreeMap<u64, Read>>,
    connections: AtomicU64,
    /// Lines that are there when the process is killed in the next moment.
    file: Option<File>,
}

/// How a request was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub times: u32,
    /// As often the upstream said that it has not looked at it.
    pub disclaimed: u32,
}

impl Journal {
    /// One whose numbers are in a file, one a line, which is appended to.
    pub fn in_file(path: &Path) -> Journal {
        let file = File::options().create(true).append(true).open(path).unwrap();
        Journal { file: Some(file), ..Journal::default() }
    }

    /// What all processes have written there.
    pub fn of_file(path: &Path) -> Journal {
        let journal = Journal::default();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().for_each(|line| journal.saw(line.parse().unwrap()));
        journal
    }

    /// The head of a request was read.
    pub fn saw(&self, number: u64) {
        if let Some(mut file) = self.file.as_ref() {
            // One write each, so that lines of several connections do not mix.
            file.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        self.requests.lock().unwrap().entry(number).or_default().times += 1;
    }

    pub fn disclaimed(&self, number: u64) {
        self.requests.lock().unwrap().entry(number).or_default().disclaimed += 1;
    }

    pub fn read(&self, number: u64) -> Read {
        self.requests.lock().unwrap().get(&number).copied().unwrap_or_default()
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.requests.lock().unwrap().keys().copied().collect()
    }

    /// Counts the connections to whoever writes here.
    pub fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}
