//! What both ends agreed on, and the settings that both sides share.

use std::io;
use std::sync::{Arc, LazyLock};

use naru_spec::{Invalid, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, CommonState, HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

/// What a finished handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The protocol chosen by ALPN, as in the registry: `h2`, `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
    /// As Envoy's `%DOWNSTREAM_TLS_VERSION%` says it: `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// An earlier session was taken up again, so no certificate was sent.
    pub resumed: bool,
}

impl Handshake {
    pub(crate) fn of(connection: &CommonState, server_name: Option<String>) -> Handshake {
        Handshake {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// The one source of cryptography, passed explicitly everywhere: a process that happens to have two
/// compiled in must not have to guess.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

pub(crate) fn versions(
    min: TlsVersion,
    max: TlsVersion,
) -> Result<&'static [&'static SupportedProtocolVersion], Invalid> {
    static ALL: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    let at = |version| match version {
        TlsVersion::V1_2 => 0,
        TlsVersion::V1_3 => 1,
    };
    ALL.get(at(min)..=at(max))
        .filter(|versions| !versions.is_empty())
        .ok_or_else(|| Invalid::new("the lowest TLS version, 1.3, is above the highest, 1.2"))
}

/// Protocol names as they go on the wire.
pub(crate) fn alpn<S: AsRef<str>>(protocols: &[S]) -> Result<Vec<Vec<u8>>, Invalid> {
    protocols
        .iter()
        .map(|protocol| match protocol.as_ref().len() {
            1..=255 => Ok(protocol.as_ref().as_bytes().to_vec()),
            length => Err(Invalid::new(format!("an ALPN protocol is {length} bytes long"))
                .hint("1 to 255 bytes are allowed, as in 'h2' and 'http/1.1'")),
        })
        .collect()
}

/// For settings that the TLS library itself refuses.
pub(crate) fn refused(error: rustls::Error) -> Invalid {
    Invalid::new(format!("these TLS settings cannot be used: {error}"))
}

/// A failed handshake in words. The library prints refusals of our own verifiers as their `Debug`.
pub(crate) fn failed(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(refusal))) => {
            io::Error::new(error.kind(), format!("invalid peer certificate: {}", refusal.0))
        }
        _ => error,
    }
}
