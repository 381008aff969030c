//! Which virtual host answers to an authority?
//!
//! The exact name, or the longest `*.suffix`, or the longest `prefix.*`, or `*`. ASCII case does
//! not matter; a port is a part of the authority like any other, unless the table ignores it.

use std::collections::BTreeMap;

use naru_spec::{Domain, VirtualHost};

use crate::dictionary::Dictionary;
use crate::radix::{NONE, Radix};

/// Domains, each with the index of its virtual host.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    any: Option<u32>,
    /// There is nothing but [`Domain::Any`].
    is_any_only: bool,
    ignores_port: bool,
    exact: Dictionary,
    trees: Radix,
    /// A tree of suffixes, written backwards.
    suffixes: u32,
    prefixes: u32,
}

impl Hosts {
    /// Of two virtual hosts with the same domain the first has it.
    pub(crate) fn compile(virtual_hosts: &[VirtualHost], ignores_port: bool) -> Hosts {
        let mut any = None;
        let mut exact = BTreeMap::new();
        let mut suffixes = BTreeMap::new();
        let mut prefixes = BTreeMap::new();
        for (host, at) in virtual_hosts.iter().zip(0_u32..) {
            for domain in &host.domains {
                match domain {
                    Domain::Any => {
                        any.get_or_insert(at);
                    }
                    Domain::Exact(name) => {
                        exact.entry(name.to_ascii_lowercase().into_bytes()).or_insert(at);
                    }
                    Domain::Suffix(suffix) => {
                        let mut bytes = suffix.to_ascii_lowercase().into_bytes();
                        bytes.reverse();
                        suffixes.entry(bytes).or_insert(at);
                    }
                    Domain::Prefix(prefix) => {
                        prefixes.entry(prefix.to_ascii_lowercase().into_bytes()).or_insert(at);
                    }
                }
            }
        }
        let is_any_only = exact.is_empty() && suffixes.is_empty() && prefixes.is_empty();
        let exact: Vec<_> = exact.into_iter().map(|(name, at)| (0, name, at)).collect();
        let mut trees = Radix::default();
        let suffixes = trees.add(&suffixes.into_iter().collect::<Vec<_>>());
        let prefixes = trees.add(&prefixes.into_iter().collect::<Vec<_>>());
        trees.shrink();
        Hosts { any, is_any_only, ignores_port, exact: Dictionary::build(&exact), trees, suffixes, prefixes }
    }

    #[inline]
    pub(crate) fn find(&self, authority: &str) -> Option<u32> {
        if self.is_any_only {
            return self.any;
        }
        let authority = if self.ignores_port { without_port(authority) } else { authority };
        if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            let mut buffer = Buffer::new();
            return self.find_lower(buffer.fill(authority.bytes().map(|b| b.to_ascii_lowercase())));
        }
        self.find_lower(authority.as_bytes())
    }

    fn find_lower(&self, name: &[u8]) -> Option<u32> {
        if let Some(found) = self.exact.get(0, name) {
            return Some(found);
        }
        if self.suffixes != NONE {
            let mut buffer = Buffer::new();
            let backwards = buffer.fill(name.iter().rev().copied());
            if let Some(found) = self.longest(self.suffixes, backwards) {
                return Some(found);
            }
        }
        if self.prefixes != NONE
            && let Some(found) = self.longest(self.prefixes, name)
        {
            return Some(found);
        }
        self.any
    }

    /// At least one byte must be left for the star.
    fn longest(&self, tree: u32, name: &[u8]) -> Option<u32> {
        let mut longest = None;
        self.trees.walk(tree, name, |value, depth| {
            if depth < name.len() {
                longest = Some(value);
            }
        });
        longest
    }
}

/// The host of an authority. A colon inside an IPv6 literal begins no port.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Room for a changed copy of a name or a path; on the heap only where it is unusually long.
pub(crate) struct Buffer {
    short: [u8; Buffer::SHORT],
    long: Vec<u8>,
}

impl Buffer {
    const SHORT: usize = 256;

    #[inline]
    pub(crate) fn new() -> Buffer {
        Buffer { short: [0; Buffer::SHORT], long: Vec::new() }
    }

    #[inline]
    pub(crate) fn fill(&mut self, bytes: impl ExactSizeIterator<Item = u8>) -> &[u8] {
        let length = bytes.len();
        if length > Buffer::SHORT {
            self.long.extend(bytes);
            return &self.long;
        }
        for (slot, byte) in self.short.iter_mut().zip(bytes) {
            *slot = byte;
        }
        &self.short[..length]
    }
}
