//! Listeners and their filter chains.

use naru_spec::{FilterChain, Listener};

use super::{http, tls, value};
use crate::proto::{listener as proto, tls_inspector};
use crate::schema::pack;

pub(super) fn write(listener: &Listener) -> proto::Listener {
    // Envoy reads the server name only where it is told to.
    let inspects = listener.chains.iter().any(|chain| !chain.server_names.is_empty());
    let inspector = proto::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(proto::listener_filter::ConfigType::TypedConfig(pack(
            &tls_inspector::TlsInspector::default(),
        ))),
        ..Default::default()
    };
    proto::Listener {
        name: listener.name.clone(),
        address: Some(value::socket_address(&listener.address)),
        filter_chains: listener.chains.iter().map(chain).collect(),
        listener_filters: if inspects { vec![inspector] } else { Vec::new() },
        ..Default::default()
    }
}

fn chain(chain: &FilterChain) -> proto::FilterChain {
    let names: Vec<String> = chain.server_names.iter().map(ToString::to_string).collect();
    let filter = proto::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(proto::filter::ConfigType::TypedConfig(pack(&http::write(&chain.http)))),
    };
    proto::FilterChain {
        name: chain.name.clone(),
        filter_chain_match: (!names.is_empty())
            .then(|| proto::FilterChainMatch { server_names: names, ..Default::default() }),
        filters: vec![filter],
        transport_socket: chain.tls.as_ref().map(tls::downstream),
        ..Default::default()
    }
}
