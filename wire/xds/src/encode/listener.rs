//! Listeners and their filter chains.

use naru_spec::{Domain, FilterChain, Listener, Transport};

use super::{http, quic, tcp, tls, udp, value};
use crate::proto::{Any, UInt64Value, connection_limit, core, listener as proto, tls_inspector};
use crate::schema::pack;

pub(super) fn write(listener: &Listener) -> proto::Listener {
    if let Some(quic) = &listener.quic {
        return quic::write(listener, quic);
    }
    if listener.is_udp {
        return datagrams(listener);
    }
    // Envoy reads the server name only where it is told to.
    let says = |chain: &FilterChain| !names(chain).is_empty() || chain.transport != Transport::Any;
    let inspects = listener.chains.iter().any(says);
    let inspector =
        || filter("envoy.filters.listener.tls_inspector", pack(&tls_inspector::TlsInspector::default()));
    // It comes before everything else of a connection.
    let proxied = listener.proxy_protocol.map(|protocol| {
        filter("envoy.filters.listener.proxy_protocol", pack(&tcp::proxy_protocol(protocol)))
    });
    proto::Listener {
        name: listener.name.clone(),
        address: Some(match &listener.pipe {
            Some(pipe) => value::pipe(pipe),
            None => value::socket_address(&listener.address),
        }),
        filter_chains: listener.chains.iter().map(chain).collect(),
        listener_filters: proxied.into_iter().chain(inspects.then(inspector)).collect(),
        ignore_global_conn_limit: listener.connections.ignores_global,
        ..Default::default()
    }
}

/// The proxy is a filter of the listener itself.
fn datagrams(listener: &Listener) -> proto::Listener {
    let proxies = listener.chains.iter().filter_map(|chain| chain.tcp.as_ref());
    let proxies = proxies.map(|udp| filter("envoy.filters.udp_listener.udp_proxy", pack(&udp::write(udp))));
    proto::Listener {
        name: listener.name.clone(),
        address: Some(of_datagrams(listener)),
        listener_filters: proxies.collect(),
        ..Default::default()
    }
}

pub(super) fn of_datagrams(listener: &Listener) -> core::Address {
    let mut address = value::socket_address(&listener.address);
    if let Some(core::address::Address::SocketAddress(said)) = &mut address.address {
        said.protocol = core::socket_address::Protocol::Udp.into();
    }
    address
}

fn filter(name: &str, config: Any) -> proto::ListenerFilter {
    proto::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(proto::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// None where one of them is any: what no other chain names, is its.
fn names(chain: &FilterChain) -> &[Domain] {
    if chain.server_names.contains(&Domain::Any) { &[] } else { &chain.server_names }
}

pub(super) fn chain(chain: &FilterChain) -> proto::FilterChain {
    let ranges = chain.networks.iter().map(|network| core::CidrRange {
        address_prefix: network.addr().to_string(),
        prefix_len: Some(value::number(network.prefix_len().into())),
    });
    let conditions = proto::FilterChainMatch {
        server_names: names(chain).iter().map(ToString::to_string).collect(),
        prefix_ranges: ranges.collect(),
        transport_protocol: match chain.transport {
            Transport::Any => "",
            Transport::Tls => "tls",
            Transport::Plain => "raw_buffer",
        }
        .to_owned(),
        ..Default::default()
    };
    let (name, config) = match &chain.tcp {
        Some(tcp) => ("envoy.filters.network.tcp_proxy", pack(&tcp::write(tcp))),
        None => ("envoy.filters.network.http_connection_manager", pack(&http::write(&chain.http))),
    };
    let filter = |name: &str, config| proto::Filter {
        name: name.to_owned(),
        config_type: Some(proto::filter::ConfigType::TypedConfig(config)),
    };
    let limit = chain.connection_limit.as_ref().map(|limit| {
        let said = connection_limit::ConnectionLimit {
            stat_prefix: limit.stat_prefix.clone(),
            max_connections: Some(UInt64Value { value: limit.max }),
            delay: (!limit.delay.is_zero()).then(|| value::duration(limit.delay)),
            runtime_enabled: None,
        };
        filter("envoy.filters.network.connection_limit", pack(&said))
    });
    proto::FilterChain {
        name: chain.name.clone(),
        filter_chain_match: (conditions != proto::FilterChainMatch::default()).then_some(conditions),
        filters: limit.into_iter().chain([filter(name, config)]).collect(),
        transport_socket_connect_timeout: chain.handshake_timeout.map(value::duration),
        transport_socket: chain.tls.as_ref().map(tls::downstream),
        ..Default::default()
    }
}
