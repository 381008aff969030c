//! Listeners of QUIC: `udp_listener_config.quic_options`.

use naru_spec::{Codec, Path, Quic};

use super::listener::{Served, Side};
use super::value;
use crate::findings::Findings;
use crate::proto::listener as proto;

/// `None` where a listener of datagrams is of something else.
pub(super) fn settings(said: &proto::Listener, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Quic> {
    let options = said.udp_listener_config.as_ref()?.quic_options.as_ref()?;
    if !said.listener_filters.is_empty() {
        let text = "a listener of QUIC has no listener filters";
        findings.unsupported(&path.field("listener_filters"), text, "");
    }
    let path = path.field("udp_listener_config.quic_options");
    let mut quic = Quic::default();
    for (field, place, said) in [
        ("idle_timeout", &mut quic.idle_timeout, &options.idle_timeout),
        ("crypto_handshake_timeout", &mut quic.handshake_timeout, &options.crypto_handshake_timeout),
    ] {
        if let Some(said) = said {
            *place = value::duration(said, &path.field(field), findings);
        }
    }
    if let Some(said) = &options.quic_protocol_options {
        for (place, said) in [
            (&mut quic.max_concurrent_streams, &said.max_concurrent_streams),
            (&mut quic.stream_window, &said.initial_stream_window_size),
            (&mut quic.connection_window, &said.initial_connection_window_size),
        ] {
            if let Some(said) = said {
                *place = said.value;
            }
        }
    }
    Some(quic)
}

/// Whether what a chain speaks is what can be spoken there.
pub(super) fn check(served: &Served, side: Side, path: &Path<'_>, findings: &mut Findings<'_>) {
    let filters = path.field("filters");
    let filter = filters.at(0);
    let filter = filter.field("typed_config");
    match (served, side) {
        (Served::Tcp(_), Side::Quic) => {
            let text = "a filter chain of QUIC has the HTTP connection manager and no other filter";
            findings.unsupported_value(&filter, text, "");
        }
        (Served::Http(http), Side::Quic) if http.codec != Codec::Http3 => {
            let text = "a filter chain of QUIC speaks HTTP/3 and nothing else";
            findings.unsupported_value(&filter.field("codec_type"), text, "codec_type: HTTP3");
        }
        (Served::Http(http), Side::Streams) if http.codec == Codec::Http3 => {
            let text = "HTTP/3 is spoken by listeners of QUIC only";
            let hint = "protocol: UDP, udp_listener_config.quic_options and a transport socket of QUIC";
            findings.unsupported_value(&filter.field("codec_type"), text, hint);
        }
        _ => {}
    }
}
