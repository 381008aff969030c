//! Which filter chain takes a connection, by the server name (SNI) that the client asks for? And which one does
//! it belong to when the configuration changes under it?

use std::cmp::Ordering;

use naru_spec::{Codec, Domain, DownstreamTls, FilterChain};

use crate::{ChainId, Snapshot};

impl Snapshot {
    /// The chain of a listener that takes a client asking for `server_name`.
    pub fn chain_for(&self, listener: usize, server_name: Option<&str>) -> Option<ChainId> {
        let chains = &self.listeners.get(listener)?.chains;
        let at = choose(chains.iter().map(|chain| chain.server_names.as_slice()), server_name)?;
        self.chain_id(listener, at)
    }

    /// Where a connection goes on that came in by the chain `before` of an older snapshot and now belongs to
    /// the `listener`-th listener: the chain that would take it today, if that is the same one by the names of
    /// both listener and chain, and would have asked no more of the client than was asked. `None`: the
    /// connection may not stay.
    pub fn chain_after(
        &self,
        listener: usize,
        server_name: Option<&str>,
        older: &Snapshot,
        before: ChainId,
    ) -> Option<ChainId> {
        let (old_listener, old_chain) = older.place_of(before)?;
        let id = self.chain_for(listener, server_name)?;
        let (_, new_chain) = self.place_of(id)?;
        let is_same = self.listeners.get(listener)?.name == old_listener.name
            && new_chain.name == old_chain.name
            && is_let_in_alike(old_chain.tls.as_ref(), new_chain.tls.as_ref())
            && (new_chain.http.codec == old_chain.http.codec || new_chain.http.codec == Codec::Auto);
        is_same.then_some(id)
    }

    pub(crate) fn place_of(&self, id: ChainId) -> Option<(&naru_spec::Listener, &FilterChain)> {
        let at = self.first_chains.partition_point(|first| *first <= id.0).checked_sub(1)?;
        let listener = self.listeners.get(at)?;
        Some((listener, listener.chains.get((id.0 - self.first_chains.get(at)?) as usize)?))
    }
}

/// Whether two chains ask the same of a client before they let it in. Certificates of the chain's own and the
/// protocols on offer may change: a handshake that is over was about the ones of then.
fn is_let_in_alike(old: Option<&DownstreamTls>, new: Option<&DownstreamTls>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            old.trusted_ca == new.trusted_ca
                && old.require_client_certificate == new.require_client_certificate
                && old.version_min == new.version_min
                && old.version_max == new.version_max
        }
        (Some(_), None) | (None, Some(_)) => false,
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
    use naru_spec::{Certificate, Config, DataSource, Http, Listener, RouteTable, TlsVersion};

    use super::*;

    fn certificate(name: &str) -> Certificate {
        Certificate { chain: DataSource::File(name.to_owned()), key: DataSource::File(name.to_owned()) }
    }

    fn tls() -> DownstreamTls {
        DownstreamTls {
            certificates: vec![certificate("a.pem")],
            alpn: Vec::new(),
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
            trusted_ca: None,
            require_client_certificate: false,
        }
    }

    fn filter_chain(name: &str, server_names: &[&str], tls: Option<DownstreamTls>) -> FilterChain {
        FilterChain {
            name: name.to_owned(),
            server_names: server_names.iter().map(|name| Domain::parse(name).unwrap()).collect(),
            tls,
            http: Http::new("test", RouteTable::default()),
        }
    }

    fn snapshot(listeners: Vec<(&str, Vec<FilterChain>)>) -> Snapshot {
        let listeners = listeners.into_iter().map(|(name, chains)| Listener {
            name: name.to_owned(),
            address: ([127, 0, 0, 1], 0).into(),
            chains,
        });
        Snapshot::compile(Config { listeners: listeners.collect(), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_connection_stays_where_its_chain_would_take_it_again() {
        let named = |tls: Option<DownstreamTls>| filter_chain("named", &["a.com"], tls);
        let other = || filter_chain("other", &[], Some(tls()));
        let old = snapshot(vec![("first", vec![other()]), ("main", vec![other(), named(Some(tls()))])]);
        let came_by = old.chain_for(1, Some("a.com")).unwrap();
        let check = |what: &str, listener: &str, chains: Vec<FilterChain>, expected: Option<u32>| {
            let new = snapshot(vec![(listener, chains)]);
            let found = new.chain_after(0, Some("a.com"), &old, came_by);
            assert_eq!(found, expected.map(ChainId), "{what}");
        };
        check("as it was, at another place", "main", vec![named(Some(tls())), other()], Some(0));
        check("another listener", "edge", vec![named(Some(tls())), other()], None);
        check("the chain is gone, and another one takes its clients", "main", vec![other()], None);
        check("nobody takes its clients", "main", vec![filter_chain("named", &["b.com"], Some(tls()))], None);
        check("no TLS any more", "main", vec![named(None)], None);
        let with = |change: fn(&mut DownstreamTls)| {
            let mut tls = tls();
            change(&mut tls);
            vec![named(Some(tls))]
        };
        check("another certificate", "main", with(|tls| tls.certificates = vec![certificate("b")]), Some(0));
        check("another offer", "main", with(|tls| tls.alpn = vec!["h2".to_owned()]), Some(0));
        check("clients show who they are", "main", with(|tls| tls.require_client_certificate = true), None);
        check("others are believed", "main", with(|tls| tls.trusted_ca = Some(certificate("c").chain)), None);
        check("old versions are not spoken", "main", with(|tls| tls.version_min = TlsVersion::V1_3), None);
        let speaking = |codec| {
            let mut chain = named(Some(tls()));
            chain.http.codec = codec;
            vec![chain]
        };
        check("only one protocol", "main", speaking(Codec::Http2), None);
        let strict = snapshot(vec![("main", speaking(Codec::Http2))]);
        let opened = snapshot(vec![("main", speaking(Codec::Auto))]);
        let came_by = strict.chain_for(0, Some("a.com")).unwrap();
        assert_eq!(opened.chain_after(0, Some("a.com"), &strict, came_by), Some(ChainId(0)));
    }

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
