//! Which filter chain takes a connection, by the server name (SNI) that the client asks for?

use std::cmp::Ordering;

use naru_spec::Domain;

use crate::{ChainId, Snapshot};

impl Snapshot {
    /// The chain of a listener that takes a client asking for `server_name`.
    pub fn chain_for(&self, listener: usize, server_name: Option<&str>) -> Option<ChainId> {
        let chains = &self.listeners.get(listener)?.chains;
        let at = choose(chains.iter().map(|chain| chain.server_names.as_slice()), server_name)?;
        self.chain_id(listener, at)
    }
}

/// The position of the chain that takes a client asking for `server_name`: one that names it
/// exactly, then the longest wildcard, then `*` or a chain without names; the first among equals.
/// A client that asks for no name is taken by the latter only.
///
/// One pass over all names; it runs once for a handshake, which costs far more.
fn choose<'a>(chains: impl IntoIterator<Item = &'a [Domain]>, server_name: Option<&str>) -> Option<usize> {
    let mut best: Option<(Fit, usize)> = None;
    for (at, names) in chains.into_iter().enumerate() {
        let Some(fit) = fit_of_chain(names, server_name) else { continue };
        if best.is_none_or(|(so_far, _)| fit.cmp(&so_far) == Ordering::Greater) {
            best = Some((fit, at));
        }
    }
    best.map(|(_, at)| at)
}

/// How well a chain fits; the greater is the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Anything,
    /// The length of what stands beside the star.
    Wildcard(usize),
    Exact,
}

fn fit_of_chain(names: &[Domain], server_name: Option<&str>) -> Option<Fit> {
    if names.is_empty() {
        return Some(Fit::Anything);
    }
    names.iter().filter_map(|name| fit_of_name(name, server_name)).max()
}

fn fit_of_name(name: &Domain, server_name: Option<&str>) -> Option<Fit> {
    if *name == Domain::Any {
        return Some(Fit::Anything);
    }
    let asked = server_name?.as_bytes();
    match name {
        Domain::Exact(exact) => asked.eq_ignore_ascii_case(exact.as_bytes()).then_some(Fit::Exact),
        Domain::Suffix(suffix) => {
            let end = asked.get(asked.len().checked_sub(suffix.len())?..)?;
            let is_fit = asked.len() > suffix.len() && end.eq_ignore_ascii_case(suffix.as_bytes());
            is_fit.then_some(Fit::Wildcard(suffix.len()))
        }
        Domain::Prefix(prefix) => {
            let start = asked.get(..prefix.len())?;
            let is_fit = asked.len() > prefix.len() && start.eq_ignore_ascii_case(prefix.as_bytes());
            is_fit.then_some(Fit::Wildcard(prefix.len()))
        }
        Domain::Any => Some(Fit::Anything),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chains: &[&[&str]], server_name: Option<&str>, expected: Option<usize>) {
        let chains: Vec<Vec<Domain>> = chains
            .iter()
            .map(|names| names.iter().map(|name| Domain::parse(name).unwrap()).collect())
            .collect();
        let chosen = choose(chains.iter().map(Vec::as_slice), server_name);
        assert_eq!(chosen, expected, "{chains:?} for {server_name:?}");
    }

    #[test]
    fn an_exact_name_comes_before_the_longest_wildcard_before_a_chain_without_names() {
        let chains: &[&[&str]] =
            &[&[], &["*.example.com"], &["*.a.example.com", "other.org"], &["x.a.example.com"]];
        check(chains, Some("x.a.example.com"), Some(3));
        check(chains, Some("X.A.Example.COM"), Some(3));
        check(chains, Some("y.a.example.com"), Some(2));
        check(chains, Some("y.example.com"), Some(1));
        check(chains, Some("other.org"), Some(2));
        check(chains, Some("example.com"), Some(0));
        check(chains, Some("elsewhere"), Some(0));
        check(chains, None, Some(0));
    }

    #[test]
    fn a_connection_that_no_chain_names_is_taken_by_none() {
        check(&[&["a.com"], &["*.b.com"]], Some("c.com"), None);
        check(&[&["a.com"], &["*.b.com"]], None, None);
        check(&[], Some("a.com"), None);
        check(&[], None, None);
    }

    #[test]
    fn a_star_stands_for_at_least_one_character() {
        check(&[&["*.b.com"]], Some(".b.com"), None);
        check(&[&["*.b.com"]], Some("b.com"), None);
        check(&[&["www.*"]], Some("www."), None);
        check(&[&["www.*"]], Some("www.b"), Some(0));
        check(&[&["*.b.com"]], Some(""), None);
    }

    #[test]
    fn a_lone_star_takes_everything_and_the_first_among_equals_wins() {
        check(&[&["a.com"], &["*"]], Some("c.com"), Some(1));
        check(&[&["a.com"], &["*"]], None, Some(1));
        check(&[&["*"], &[]], Some("c.com"), Some(0));
        check(&[&["*.b.com"], &["*.b.com"]], Some("a.b.com"), Some(0));
    }
}
