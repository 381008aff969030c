//! Listeners and their filter chains.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use naru_spec::{
    ConnectionLimit, ConnectionLimits, Domain, FilterChain, Http, Invalid, Listener, Pipe, ProxyProtocol,
    RouteTable, Transport, VirtualHost,
};

use super::{http, ours, quic, tcp, tls, udp, value};
use crate::findings::{Findings, code};
use crate::proto::{
    connection_limit, core, hcm, listener as proto, proxy_protocol, tcp_proxy, tls_inspector, udp_proxy,
};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

pub(crate) fn read(said: &proto::Listener, path: &Path<'_>, findings: &mut Findings<'_>) -> Listener {
    read_with(said, &Ready::new(), path, findings)
}

/// Virtual hosts that were read before, by the name of their table.
pub(crate) type Ready<'a> = BTreeMap<String, Vec<Cow<'a, VirtualHost>>>;

/// Tables have virtual hosts beside those that they say themselves.
pub(crate) fn read_with(
    said: &proto::Listener,
    ready: &Ready<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Listener {
    match ours::shell(said, path, findings) {
        Some((rest, shell)) => ours::with_shell(words(&rest, ready, path, findings), shell, path, findings),
        None => words(said, ready, path, findings),
    }
}

/// What Envoy's words say.
fn words(
    said: &proto::Listener,
    ready: &Ready<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Listener {
    if let Some(address) = of_datagrams(said) {
        if let Some(settings) = quic::settings(said, path, findings) {
            let address = value::literal_address(&address, &path.field("address"), findings);
            let chains = chains(said, (Side::Quic, ready), path, findings);
            let listener = Listener::of_quic(said.name.clone(), address, settings, chains);
            return Listener { connections: connections(said), ..listener };
        }
        return datagrams(said, &address, path, findings);
    }
    if said.udp_listener_config.as_ref().is_some_and(|said| said.quic_options.is_some()) {
        let path = path.field("udp_listener_config.quic_options");
        findings.unsupported(&path, "QUIC goes by datagrams", "protocol: UDP in address.socket_address");
    }
    let of_address = path.field("address");
    let pipe = said.address.as_ref().and_then(|address| value::pipe(address, &of_address, findings));
    let address = match &said.address {
        Some(_) if pipe.is_some() => pipe.as_ref().map_or_else(any, |pipe| Pipe::identity(&pipe.path)),
        Some(address) => value::literal_address(address, &path.field("address"), findings),
        None => {
            findings.missing(&path.field("address"), "a listener needs an address");
            any()
        }
    };
    let filters = path.field("listener_filters");
    let mut protocol = None;
    for (at, filter) in said.listener_filters.iter().enumerate() {
        protocol = listener_filter(filter, &filters.at(at), findings).or(protocol);
    }
    let chains = chains(said, (Side::Streams, ready), path, findings);
    let listener = Listener::new(said.name.clone(), address, chains);
    Listener { pipe, proxy_protocol: protocol, connections: connections(said), ..listener }
}

fn connections(said: &proto::Listener) -> ConnectionLimits {
    ConnectionLimits { ignores_global: said.ignore_global_conn_limit, ..ConnectionLimits::default() }
}

/// What the chains of a listener stand on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Streams,
    Quic,
}

fn chains(
    said: &proto::Listener,
    with: (Side, &Ready<'_>),
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    let mut taken = Taken::default();
    let listed = path.field("filter_chains");
    for (at, said) in said.filter_chains.iter().enumerate() {
        let path = listed.at(at);
        let chain = chain(said, with, &path, findings);
        taken.take(&chain, &path, findings);
        chains.push(chain);
    }
    if let Some(said) = &said.default_filter_chain {
        let path = path.field("default_filter_chain");
        if said.filter_chain_match.is_some() {
            let text = "the default filter chain takes what no other takes, and has no conditions of its own";
            findings.unsupported(&path.field("filter_chain_match"), text, "");
        }
        let said = proto::FilterChain { filter_chain_match: None, ..said.clone() };
        let chain = chain(&said, with, &path, findings);
        taken.take(&chain, &path, findings);
        chains.push(chain);
    }
    if chains.is_empty() {
        findings.missing(&path.field("filter_chains"), "a listener needs a filter chain");
    }
    chains
}

/// The address of a listener of datagrams, as if it were none.
fn of_datagrams(said: &proto::Listener) -> Option<core::Address> {
    use core::socket_address::Protocol;
    let Some(core::address::Address::SocketAddress(address)) = &said.address.as_ref()?.address else {
        return None;
    };
    let plain = core::SocketAddress { protocol: Protocol::Tcp.into(), ..address.clone() };
    let plain = core::Address { address: Some(core::address::Address::SocketAddress(plain)) };
    (address.protocol() == Protocol::Udp).then_some(plain)
}

/// Its one filter is the UDP proxy.
fn datagrams(
    said: &proto::Listener,
    address: &core::Address,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Listener {
    let address = value::literal_address(address, &path.field("address"), findings);
    for (field, is_said) in [
        ("filter_chains", !said.filter_chains.is_empty()),
        ("default_filter_chain", said.default_filter_chain.is_some()),
    ] {
        if is_said {
            let text = "a listener of datagrams has no filter chains, unless they are of QUIC";
            let hint = "say udp_proxy in listener_filters, or udp_listener_config.quic_options";
            findings.unsupported(&path.field(field), text, hint);
        }
    }
    let filters = path.field("listener_filters");
    for at in 1..said.listener_filters.len() {
        findings.unsupported_value(&filters.at(at), "a listener of datagrams has one filter, udp_proxy", "");
    }
    let mut chains = Vec::new();
    match said.listener_filters.first().and_then(|filter| filter.config_type.as_ref()) {
        Some(proto::listener_filter::ConfigType::TypedConfig(any)) => {
            let path = filters.at(0);
            let path = path.field("typed_config");
            match unpack::<udp_proxy::UdpProxyConfig>(any) {
                Some(said) => chains.push(FilterChain::of_tcp(udp::read(&said, &path, findings))),
                None => {
                    let text = format!("the listener filter '{}' is not supported", type_name(&any.type_url));
                    let hint = "for datagrams only udp_proxy is";
                    findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
                }
            }
        }
        _ => findings.missing(&filters, "a listener of datagrams needs a filter: udp_proxy"),
    }
    Listener { is_udp: true, ..Listener::new(said.name.clone(), address, chains) }
}

fn any() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([0, 0, 0, 0], 0))
}

/// Where there is TLS, naru always reads the server name, and always behind the header of the PROXY protocol.
fn listener_filter(
    said: &proto::ListenerFilter,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ProxyProtocol> {
    let path = path.field("typed_config");
    let Some(proto::listener_filter::ConfigType::TypedConfig(any)) = &said.config_type else {
        findings.missing(&path, "a listener filter needs a typed_config");
        return None;
    };
    if let Some(said) = unpack::<proxy_protocol::ProxyProtocol>(any) {
        return Some(tcp::proxy_protocol(&said));
    }
    if unpack::<tls_inspector::TlsInspector>(any).is_none() {
        let text = format!("the listener filter '{}' is not supported", type_name(&any.type_url));
        let hint = "tls_inspector and proxy_protocol are";
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
    }
    None
}

/// What the chains before take: at addresses, of what begins so, a name or everything.
#[derive(Default)]
struct Taken(BTreeSet<(Vec<IpNet>, Transport, Option<Domain>)>);

impl Taken {
    fn take(&mut self, chain: &FilterChain, path: &Path<'_>, findings: &mut Findings<'_>) {
        let of = |name| (chain.networks.clone(), chain.transport, name);
        if chain.server_names.is_empty() && !self.0.insert(of(None)) {
            let text = "another filter chain takes every connection already";
            findings.error(path, code::DUPLICATE, text, "tell them apart by filter_chain_match.server_names");
        }
        let names = path.field("filter_chain_match.server_names");
        for (at, name) in chain.server_names.iter().enumerate() {
            if !self.0.insert(of(Some(name.clone()))) {
                let text = format!("another filter chain takes the server name '{name}' already");
                findings.error(&names.at(at), code::DUPLICATE, text, "");
            }
        }
    }
}

fn chain(
    said: &proto::FilterChain,
    (side, ready): (Side, &Ready<'_>),
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> FilterChain {
    let socket = said.transport_socket.as_ref();
    let of_socket = path.field("transport_socket");
    let tls = match side {
        Side::Streams => socket.and_then(|s| tls::downstream(s, &of_socket, findings)),
        Side::Quic => tls::quic(socket, &of_socket, findings),
    };
    let conditions = said.filter_chain_match.clone().unwrap_or_default();
    let conditions_path = path.field("filter_chain_match");
    let protocol = conditions.transport_protocol.as_str();
    let is_tls = tls.is_some();
    let connection_limit = connection_limit(said, path, findings);
    let served = served(said, ready, path, findings);
    quic::check(&served, side, path, findings);
    let handshake = path.field("transport_socket_connect_timeout");
    let handshake_timeout = said.transport_socket_connect_timeout.as_ref();
    let handshake_timeout = handshake_timeout.map(|said| value::duration(said, &handshake, findings));
    // Envoy's none is our most.
    let handshake_timeout = handshake_timeout.filter(|timeout| !timeout.is_zero());
    let is_tcp = matches!(served, Served::Tcp(_));
    let transport = match (protocol, is_tls) {
        ("", _) => Transport::Any,
        ("tls", true) => Transport::Tls,
        ("raw_buffer", false) => Transport::Plain,
        // TLS is passed through.
        ("tls", false) if is_tcp => Transport::Tls,
        _ => {
            let text = match (is_tls, is_tcp) {
                (true, _) => {
                    format!("a filter chain with TLS takes only the transport protocol tls, not '{protocol}'")
                }
                (false, true) => format!("'{protocol}' is not a transport protocol: tls and raw_buffer are"),
                (false, false) => {
                    format!("a filter chain without TLS takes only raw_buffer, not '{protocol}'")
                }
            };
            findings.unsupported_value(&conditions_path.field("transport_protocol"), text, "");
            Transport::Any
        }
    };
    let mut networks = Vec::new();
    let ranges = conditions_path.field("prefix_ranges");
    for (at, range) in conditions.prefix_ranges.iter().enumerate() {
        let length = range.prefix_len.map_or(0, |v| v.value);
        networks.extend(value::network(&range.address_prefix, length, &ranges.at(at), findings));
    }
    let mut server_names = Vec::new();
    let names = conditions_path.field("server_names");
    for (at, text) in conditions.server_names.iter().enumerate() {
        match server_name(text) {
            Ok(name) => server_names.push(name),
            Err(invalid) => {
                findings.invalid(&names.at(at), invalid);
                // Keeps its seat, so that the paths of the others stay true.
                server_names.push(Domain::Exact(text.clone()));
            }
        }
    }
    let is_read = is_tls || is_tcp || socket.is_some_and(|s| s.config_type.is_none());
    if !server_names.is_empty() && !is_read {
        let text = "only a filter chain with TLS can be chosen by the server name";
        findings.unsupported(&names, text, "add a transport_socket, or choose by virtual_hosts[].domains");
    }
    if !server_names.is_empty() && transport == Transport::Plain {
        let text = "only TLS has a server name, and this filter chain takes raw_buffer";
        findings.unsupported(&names, text, "transport_protocol: tls");
    }
    let (http, tcp) = match served {
        Served::Http(http) => (*http, None),
        Served::Tcp(tcp) => (Http::new("", RouteTable::default()), Some(*tcp)),
    };
    FilterChain {
        name: said.name.clone(),
        server_names,
        networks,
        transport,
        tls,
        http,
        tcp,
        connection_limit,
        handshake_timeout,
    }
}

/// A whole name, or `*.` and whole labels.
fn server_name(text: &str) -> Result<Domain, Invalid> {
    match Domain::parse(text)? {
        Domain::Suffix(suffix) if suffix.starts_with('.') => Ok(Domain::Suffix(suffix)),
        Domain::Exact(name) => Ok(Domain::Exact(name)),
        _ => Err(Invalid::new(format!("'{text}' cannot be a server name"))
            .hint("write 'name' or '*.suffix'; leave server_names out to take every name")),
    }
}

/// What becomes of the bytes of a chain's clients.
pub(super) enum Served {
    Http(Box<Http>),
    Tcp(Box<naru_spec::TcpProxy>),
}

/// The filter that may stand before the one that serves.
fn connection_limit(
    said: &proto::FilterChain,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ConnectionLimit> {
    let limit = limit_of(said)?;
    let path = path.field("filters");
    let path = path.at(0);
    let path = path.field("typed_config");
    let delay = limit.delay.as_ref().map(|said| value::duration(said, &path.field("delay"), findings));
    if limit.max_connections.is_none() {
        findings.missing(&path.field("max_connections"), "a limit of connections needs a number");
    }
    Some(ConnectionLimit {
        stat_prefix: limit.stat_prefix,
        max: limit.max_connections.map_or(u64::MAX, |max| max.value),
        delay: delay.unwrap_or_default(),
    })
}

fn limit_of(said: &proto::FilterChain) -> Option<connection_limit::ConnectionLimit> {
    match said.filters.first()?.config_type.as_ref()? {
        proto::filter::ConfigType::TypedConfig(any) => unpack(any),
        proto::filter::ConfigType::ConfigDiscovery(_) => None,
    }
}

/// Which of a chain's filters is the one that serves.
pub(super) fn place_of_service(said: &proto::FilterChain) -> usize {
    usize::from(limit_of(said).is_some())
}

/// The one filter of a chain that serves.
fn served(
    said: &proto::FilterChain,
    ready: &Ready<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Served {
    let none = Served::Http(Box::new(Http::new("", RouteTable::default())));
    let path = path.field("filters");
    let served = place_of_service(said);
    for at in served + 1..said.filters.len() {
        let text = "a filter chain has one filter, the HTTP connection manager or the TCP proxy, and connection_limit \
                    before it";
        findings.unsupported_value(&path.at(at), text, "");
    }
    let Some(filter) = said.filters.get(served) else {
        let text = "a filter chain needs a filter: the HTTP connection manager, or the TCP proxy";
        findings.missing(&path, text);
        return none;
    };
    let path = path.at(served);
    let path = path.field("typed_config");
    let Some(proto::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        findings.missing(&path, "a filter needs a typed_config");
        return none;
    };
    if let Some(manager) = unpack::<hcm::HttpConnectionManager>(any) {
        return Served::Http(Box::new(http::read(&manager, ready, &path, findings)));
    }
    if let Some(proxy) = unpack::<tcp_proxy::TcpProxy>(any) {
        return Served::Tcp(Box::new(tcp::read(&proxy, &path, findings)));
    }
    let text = format!("the filter '{}' is not supported", type_name(&any.type_url));
    let hint = "the HTTP connection manager and the TCP proxy are, and connection_limit before them";
    findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
    none
}
