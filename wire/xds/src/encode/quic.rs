//! Listeners of QUIC.

use naru_spec::{Listener, Quic};

use super::{listener, tls, value};
use crate::proto::{core, listener as proto};

pub(super) fn write(said: &Listener, quic: &Quic) -> proto::Listener {
    let default = Quic::default();
    let number = |value: u32, default: u32| (value != default).then(|| value::number(value));
    let time = |value, default| (value != default).then(|| value::duration(value));
    let transport = core::QuicProtocolOptions {
        max_concurrent_streams: number(quic.max_concurrent_streams, default.max_concurrent_streams),
        initial_stream_window_size: number(quic.stream_window, default.stream_window),
        initial_connection_window_size: number(quic.connection_window, default.connection_window),
        ..Default::default()
    };
    let options = proto::QuicProtocolOptions {
        quic_protocol_options: (transport != core::QuicProtocolOptions::default()).then_some(transport),
        idle_timeout: time(quic.idle_timeout, default.idle_timeout),
        crypto_handshake_timeout: time(quic.handshake_timeout, default.handshake_timeout),
        ..Default::default()
    };
    let chains = said.chains.iter().map(|chain| proto::FilterChain {
        transport_socket: chain.tls.as_ref().map(tls::quic),
        ..listener::chain(chain)
    });
    proto::Listener {
        name: said.name.clone(),
        address: Some(listener::of_datagrams(said)),
        filter_chains: chains.collect(),
        udp_listener_config: Some(proto::UdpListenerConfig {
            quic_options: Some(options),
            ..Default::default()
        }),
        ..Default::default()
    }
}
