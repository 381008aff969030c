//! HTTP/3 beside a gateway's HTTPS: the same chains once more, on datagrams.
//!
//! Clients come by TCP first, and are told by `Alt-Svc` (RFC 7838) that the same port takes QUIC.

use std::net::SocketAddr;

use http::header::ALT_SVC;
use naru_resource::Gateway;
use naru_spec::{
    Codec, DownstreamTls, FilterChain, Format, HeaderAction, HeaderOp, Listener, Path, Quic, TlsVersion, code,
};

use crate::findings::Findings;

/// How long a client may remember it: a day, as Istio says it.
const REMEMBERED: u32 = 86_400;

/// Whether a server of HTTPS speaks HTTP/3 as well.
pub(crate) fn is_asked_for(
    gateway: &Gateway,
    tls: Option<&DownstreamTls>,
    findings: &mut Findings<'_>,
) -> bool {
    let Some(said) = gateway.http3.filter(|flag| flag.value) else { return false };
    let has_tls = tls.is_some_and(|tls| tls.version_max >= TlsVersion::V1_3);
    if !has_tls {
        let path = Path::ROOT.field("metadata.annotations");
        let message = "HTTP/3 needs TLS 1.3, which a server of this gateway does not allow";
        let hint = "leave out maxProtocolVersion, or the annotation";
        findings.error(code::CONFLICT, said.place, &path.field("naru.dev/http3"), message, hint);
    }
    has_tls
}

/// Tells where the annotation leads to nothing.
pub(crate) fn check_effect(gateway: &Gateway, has_https: bool, findings: &mut Findings<'_>) {
    if let Some(said) = gateway.http3.filter(|flag| flag.value && !has_https) {
        let path = Path::ROOT.field("metadata.annotations");
        let message = "no server of this gateway is of HTTPS, which HTTP/3 could be beside";
        let hint = "protocol: HTTPS, with tls that ends here";
        findings.warning(code::NO_EFFECT, said.place, &path.field("naru.dev/http3"), message, hint);
    }
}

/// The chain of datagrams beside one of TCP, whose answers tell of it from now on.
pub(crate) fn beside(chain: &mut FilterChain, port: u16) -> FilterChain {
    let mut other = chain.clone();
    other.http.codec = Codec::Http3;
    let value = Format::literal(format!("h3=\":{port}\"; ma={REMEMBERED}"));
    for host in &mut chain.http.routes.virtual_hosts {
        // Whoever says it himself knows better.
        let action = HeaderAction::AddIfAbsent;
        let tells = HeaderOp { name: ALT_SVC, value: value.clone(), action, keep_empty: false };
        host.response_headers.add.push(tells);
    }
    other
}

/// Beside the one of TCP at the same port.
pub(crate) fn listener(address: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    Listener::of_quic(format!("gateway/{address}/udp"), address, Quic::default(), chains)
}
