//! Transport sockets.

use naru_spec::{Certificate, DownstreamTls, TlsVersion, UpstreamTls};

use super::{matching, value};
use crate::proto::{Any, core, quic, tls};
use crate::schema::pack;

pub(super) fn downstream(said: &DownstreamTls) -> core::TransportSocket {
    socket("envoy.transport_sockets.tls", pack(&ended(said)))
}

/// Of QUIC.
pub(super) fn quic(said: &DownstreamTls) -> core::TransportSocket {
    let transport =
        quic::QuicDownstreamTransport { downstream_tls_context: Some(ended(said)), ..Default::default() };
    socket("envoy.transport_sockets.quic", pack(&transport))
}

fn ended(said: &DownstreamTls) -> tls::DownstreamTlsContext {
    let validation = said.trusted_ca.as_ref().map(|ca| tls::CertificateValidationContext {
        trusted_ca: Some(value::data_source(ca)),
        ..Default::default()
    });
    tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: versions(said.version_min, said.version_max),
            tls_certificates: said.certificates.iter().map(certificate).collect(),
            alpn_protocols: said.alpn.clone(),
            validation_context_type: validation
                .map(tls::common_tls_context::ValidationContextType::ValidationContext),
            ..Default::default()
        }),
        require_client_certificate: said.require_client_certificate.then(|| value::flag(true)),
        ..Default::default()
    }
}

#[expect(deprecated, reason = "the newer spelling wants to know the kind of each name")]
pub(super) fn upstream(said: &UpstreamTls) -> core::TransportSocket {
    let validation = said.trusted_ca.as_ref().map(|ca| tls::CertificateValidationContext {
        trusted_ca: Some(value::data_source(ca)),
        match_subject_alt_names: said.subject_alt_names.iter().map(matching::string_match).collect(),
        ..Default::default()
    });
    socket(
        "envoy.transport_sockets.tls",
        pack(&tls::UpstreamTlsContext {
            common_tls_context: Some(tls::CommonTlsContext {
                tls_params: versions(said.version_min, said.version_max),
                tls_certificates: said.certificate.iter().map(certificate).collect(),
                alpn_protocols: said.alpn.clone(),
                validation_context_type: validation
                    .map(tls::common_tls_context::ValidationContextType::ValidationContext),
                ..Default::default()
            }),
            sni: said.sni.clone().unwrap_or_default(),
            ..Default::default()
        }),
    )
}

fn socket(name: &str, context: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn versions(min: TlsVersion, max: TlsVersion) -> Option<tls::TlsParameters> {
    use tls::tls_parameters::TlsProtocol;
    let version = |version| match version {
        TlsVersion::V1_2 => TlsProtocol::TlSv12.into(),
        TlsVersion::V1_3 => TlsProtocol::TlSv13.into(),
    };
    Some(tls::TlsParameters {
        tls_minimum_protocol_version: version(min),
        tls_maximum_protocol_version: version(max),
        ..Default::default()
    })
}

fn certificate(said: &Certificate) -> tls::TlsCertificate {
    tls::TlsCertificate {
        certificate_chain: Some(value::data_source(&said.chain)),
        private_key: Some(value::data_source(&said.key)),
        ..Default::default()
    }
}
