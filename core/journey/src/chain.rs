//! Which filter chain takes a connection, by the address that it came to, by the server name (SNI) that the client
//! asks for and by what it begins with? And which one does it belong to when the configuration changes under it?
//!
//! As in Envoy, but where a chain fits better by one condition and not at all by another, another chain is looked for.

use std::cmp::Ordering;
use std::net::IpAddr;

use naru_spec::{Codec, Domain, DownstreamTls, FilterChain, Transport};

use crate::{ChainId, Snapshot};

/// What is known of a client before anything is decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arriving<'a> {
    /// The address of this machine that it came to.
    pub local: IpAddr,
    pub server_name: Option<&'a str>,
    /// It begins with TLS. Only known where a chain asks for it: see [`Snapshot::must_inspect`].
    pub is_tls: bool,
}

impl Snapshot {
    /// The chain of a listener that takes a client.
    pub fn chain_for(&self, listener: usize, client: &Arriving<'_>) -> Option<ChainId> {
        let at = choose(&self.listeners.get(listener)?.chains, client)?;
        self.chain_id(listener, at)
    }

    /// Whether a chain of the listener takes nothing but TLS: then it must be known what a client begins with.
    pub fn must_inspect(&self, listener: usize) -> bool {
        let takes_tls_only = |chain: &FilterChain| !chain.takes_plain();
        self.listeners.get(listener).is_some_and(|listener| listener.chains.iter().any(takes_tls_only))
    }

    /// Where a connection goes on that came in by the chain `before` of an older snapshot and now belongs to
    /// the `listener`-th listener: the chain that would take it today, if that is the same one by the names of
    /// both listener and chain, and would have asked no more of the client than was asked. `None`: the
    /// connection may not stay.
    pub fn chain_after(
        &self,
        listener: usize,
        client: &Arriving<'_>,
        older: &Snapshot,
        before: ChainId,
    ) -> Option<ChainId> {
        let (old_listener, old_chain) = older.place_of(before)?;
        let id = self.chain_for(listener, client)?;
        let (_, new_chain) = self.place_of(id)?;
        let is_same = self.listeners.get(listener)?.name == old_listener.name
            && self.listeners.get(listener)?.is_udp == old_listener.is_udp
            && self.listeners.get(listener)?.quic.is_some() == old_listener.quic.is_some()
            && new_chain.name == old_chain.name
            && new_chain.tcp.is_some() == old_chain.tcp.is_some()
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
                && old.peer == new.peer
                && old.offered == new.offered
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The position of the chain that takes a client: of the narrowest range of addresses; then one that names what it asks
/// for exactly, then the longest wildcard, then `*` or a chain without names; then one that says what it begins with;
/// the first among equals. A client that asks for no name is taken by chains without names only.
///
/// One pass over all names; it runs once for a connection.
fn choose(chains: &[FilterChain], client: &Arriving<'_>) -> Option<usize> {
    let mut best: Option<(Fit, usize)> = None;
    for (at, chain) in chains.iter().enumerate() {
        let Some(fit) = fit_of_chain(chain, client) else { continue };
        if best.is_none_or(|(so_far, _)| fit.cmp(&so_far) == Ordering::Greater) {
            best = Some((fit, at));
        }
    }
    best.map(|(_, at)| at)
}

/// How well a chain fits; the greater is the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// Of the range that has the address, where there is one.
    network_bits: Option<u8>,
    name: FitOfName,
    says_transport: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FitOfName {
    Anything,
    /// The length of what stands beside the star.
    Wildcard(usize),
    Exact,
}

fn fit_of_chain(chain: &FilterChain, client: &Arriving<'_>) -> Option<Fit> {
    let takes = if client.is_tls { chain.takes_tls() } else { chain.takes_plain() };
    if !takes {
        return None;
    }
    let networks = chain.networks.iter().filter(|network| network.contains(&client.local));
    let network_bits = networks.map(|network| network.prefix_len()).max();
    if network_bits.is_none() && !chain.networks.is_empty() {
        return None;
    }
    let name = if chain.server_names.is_empty() {
        FitOfName::Anything
    } else {
        chain.server_names.iter().filter_map(|name| fit_of_name(name, client.server_name)).max()?
    };
    let says_transport = chain.transport != Transport::Any || chain.tls.is_some();
    Some(Fit { network_bits, name, says_transport })
}

fn fit_of_name(name: &Domain, server_name: Option<&str>) -> Option<FitOfName> {
    if *name == Domain::Any {
        return Some(FitOfName::Anything);
    }
    let asked = server_name?.as_bytes();
    match name {
        Domain::Exact(exact) => asked.eq_ignore_ascii_case(exact.as_bytes()).then_some(FitOfName::Exact),
        Domain::Suffix(suffix) => {
            let end = asked.get(asked.len().checked_sub(suffix.len())?..)?;
            let is_fit = asked.len() > suffix.len() && end.eq_ignore_ascii_case(suffix.as_bytes());
            is_fit.then_some(FitOfName::Wildcard(suffix.len()))
        }
        Domain::Prefix(prefix) => {
            let start = asked.get(..prefix.len())?;
            let is_fit = asked.len() > prefix.len() && start.eq_ignore_ascii_case(prefix.as_bytes());
            is_fit.then_some(FitOfName::Wildcard(prefix.len()))
        }
        Domain::Any => Some(FitOfName::Anything),
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::{Certificate, Config, DataSource, Http, Listener, RouteTable, TlsVersion};

    use super::*;

    fn certificate(name: &str) -> Certificate {
        Certificate::new(DataSource::File(name.to_owned()), DataSource::File(name.to_owned()))
    }

    fn tls() -> DownstreamTls {
        DownstreamTls::new(vec![certificate("a.pem")])
    }

    fn filter_chain(name: &str, server_names: &[&str], tls: Option<DownstreamTls>) -> FilterChain {
        FilterChain {
            name: name.to_owned(),
            server_names: server_names.iter().map(|name| Domain::parse(name).unwrap()).collect(),
            tls,
            ..FilterChain::of(Http::new("test", RouteTable::default()))
        }
    }

    fn snapshot(listeners: Vec<(&str, Vec<FilterChain>)>) -> Snapshot {
        let any = ([127, 0, 0, 1], 0).into();
        let listeners = listeners.into_iter().map(|(name, chains)| Listener::new(name, any, chains));
        Snapshot::compile(Config { listeners: listeners.collect(), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_connection_stays_where_its_chain_would_take_it_again() {
        let named = |tls: Option<DownstreamTls>| filter_chain("named", &["a.com"], tls);
        let other = || filter_chain("other", &[], Some(tls()));
        let old = snapshot(vec![("first", vec![other()]), ("main", vec![other(), named(Some(tls()))])]);
        let came_by = old.chain_for(1, &asking(Some("a.com"))).unwrap();
        let check = |what: &str, listener: &str, chains: Vec<FilterChain>, expected: Option<u32>| {
            let new = snapshot(vec![(listener, chains)]);
            let found = new.chain_after(0, &asking(Some("a.com")), &old, came_by);
            assert_eq!(found, expected.map(ChainId), "{what}");
        };
        check("as it was, at another place", "main", vec![named(Some(tls())), other()], Some(0));
        check("another listener", "edge", vec![named(Some(tls())), other()], None);
        check("the chain is gone, and another one takes its clients", "main", vec![other()], None);
        check("nobody takes its clients", "main", vec![filter_chain("named", &["b.com"], Some(tls()))], None);
        check("its TLS is passed through now", "main", vec![named(None)], None);
        let tcp = naru_spec::TcpProxy::new("t", naru_spec::ClusterChoice::One("nobody".to_owned()));
        let of_tcp = FilterChain { tcp: Some(tcp), ..named(Some(tls())) };
        let listeners = vec![Listener::new("main", ([127, 0, 0, 1], 0).into(), vec![of_tcp])];
        assert!(Snapshot::compile(Config { listeners, ..Config::default() }).is_err(), "no cluster to go to");
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
        check("others are let in", "main", with(|tls| tls.peer.crl = Some(certificate("c").chain)), None);
        check("other suites", "main", with(|tls| tls.offered.curves = vec![naru_spec::Curve::P256]), None);
        let speaking = |codec| {
            let mut chain = named(Some(tls()));
            chain.http.codec = codec;
            vec![chain]
        };
        check("only one protocol", "main", speaking(Codec::Http2), None);
        let strict = snapshot(vec![("main", speaking(Codec::Http2))]);
        let opened = snapshot(vec![("main", speaking(Codec::Auto))]);
        let came_by = strict.chain_for(0, &asking(Some("a.com"))).unwrap();
        assert_eq!(opened.chain_after(0, &asking(Some("a.com")), &strict, came_by), Some(ChainId(0)));
    }

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn asking(server_name: Option<&str>) -> Arriving<'_> {
        Arriving { local: LOCAL, server_name, is_tls: true }
    }

    fn check(chains: &[&[&str]], server_name: Option<&str>, expected: Option<usize>) {
        let chains: Vec<FilterChain> =
            chains.iter().map(|names| filter_chain("", names, Some(tls()))).collect();
        let chosen = choose(&chains, &asking(server_name));
        assert_eq!(chosen, expected, "{chains:?} for {server_name:?}");
    }

    #[test]
    fn a_chain_takes_what_begins_as_it_says() {
        let plain = Arriving { is_tls: false, ..asking(None) };
        let passing = filter_chain("passing", &["a.com"], None);
        let ending = filter_chain("ending", &[], Some(tls()));
        let any = filter_chain("any", &[], None);
        let only = |transport| FilterChain { transport, ..filter_chain("only", &[], None) };
        let chains = [passing, ending, any.clone()];
        assert_eq!(choose(&chains, &asking(Some("a.com"))), Some(0));
        assert_eq!(choose(&chains, &asking(Some("b.com"))), Some(1));
        assert_eq!(choose(&chains, &asking(None)), Some(1));
        assert_eq!(choose(&chains, &plain), Some(2));
        assert_eq!(choose(&chains[..2], &plain), None);
        let chains = [any, only(Transport::Tls), only(Transport::Plain)];
        assert_eq!(choose(&chains, &asking(None)), Some(1), "who says it comes before who takes all");
        assert_eq!(choose(&chains, &plain), Some(2));
        assert_eq!(choose(&chains[1..2], &plain), None);
    }

    #[test]
    fn the_narrowest_range_of_addresses_comes_first() {
        let of = |networks: &[&str], names: &[&str]| FilterChain {
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..filter_chain("", names, None)
        };
        let chains = [of(&[], &["a.com"]), of(&["127.0.0.0/8"], &[]), of(&["127.0.0.1/32", "::1/128"], &[])];
        let at = |address: &str, server_name| {
            choose(&chains, &Arriving { local: address.parse().unwrap(), ..asking(server_name) })
        };
        assert_eq!(at("127.0.0.1", Some("a.com")), Some(2));
        assert_eq!(at("127.0.0.2", Some("a.com")), Some(1));
        assert_eq!(at("::1", None), Some(2));
        assert_eq!(at("10.0.0.1", Some("a.com")), Some(0));
        assert_eq!(at("10.0.0.1", None), None);
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
