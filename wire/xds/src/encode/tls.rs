//! Transport sockets.

use naru_spec::{
    Certificate, ClientCertDetails, DataSource, DownstreamTls, Fingerprint, ForwardClientCert, Offered,
    PeerTests, SanKind, StaplePolicy, TlsVersion, UpstreamTls,
};

use super::{matching, value};
use crate::proto::{Any, core, hcm, quic, tls};
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
    use tls::downstream_tls_context::OcspStaplePolicy;
    let policy = match said.staple_policy {
        StaplePolicy::Lenient => OcspStaplePolicy::LenientStapling,
        StaplePolicy::Strict => OcspStaplePolicy::StrictStapling,
        StaplePolicy::Must => OcspStaplePolicy::MustStaple,
    };
    tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: parameters(said.version_min, said.version_max, &said.offered),
            tls_certificates: said.certificates.iter().map(certificate).collect(),
            alpn_protocols: said.alpn.clone(),
            validation_context_type: validation(said.trusted_ca.as_ref(), &said.peer),
            ..Default::default()
        }),
        require_client_certificate: said.require_client_certificate.then(|| value::flag(true)),
        ocsp_staple_policy: policy.into(),
        ..Default::default()
    }
}

pub(super) fn upstream(said: &UpstreamTls) -> core::TransportSocket {
    let context = pack(&tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: parameters(said.version_min, said.version_max, &said.offered),
            tls_certificates: said.certificate.iter().map(certificate).collect(),
            alpn_protocols: said.alpn.clone(),
            validation_context_type: validation(said.trusted_ca.as_ref(), &said.peer),
            ..Default::default()
        }),
        sni: said.sni.clone().unwrap_or_default(),
        ..Default::default()
    });
    socket("envoy.transport_sockets.tls", context)
}

#[expect(deprecated, reason = "the newer spelling wants to know the kind of each name")]
fn validation(
    trusted_ca: Option<&DataSource>,
    peer: &PeerTests,
) -> Option<tls::common_tls_context::ValidationContextType> {
    use tls::subject_alt_name_matcher::SanType;
    if trusted_ca.is_none() && *peer == PeerTests::default() {
        return None;
    }
    let (mut typed, mut of_any_kind) = (Vec::new(), Vec::new());
    for name in &peer.names {
        let matcher = matching::string_match(&name.test);
        let kind = match name.kind {
            None => {
                of_any_kind.push(matcher);
                continue;
            }
            Some(SanKind::Dns) => SanType::Dns,
            Some(SanKind::Uri) => SanType::Uri,
            Some(SanKind::Email) => SanType::Email,
            Some(SanKind::Ip) => SanType::IpAddress,
        };
        let mut name = tls::SubjectAltNameMatcher { matcher: Some(matcher), ..Default::default() };
        name.set_san_type(kind);
        typed.push(name);
    }
    let said = tls::CertificateValidationContext {
        trusted_ca: trusted_ca.map(value::data_source),
        match_subject_alt_names: of_any_kind,
        match_typed_subject_alt_names: typed,
        verify_certificate_hash: peer.certificates.iter().map(ToString::to_string).collect(),
        verify_certificate_spki: peer.keys.iter().map(Fingerprint::to_base64).collect(),
        crl: peer.crl.as_ref().map(value::data_source),
        only_verify_leaf_cert_crl: peer.crl_of_leaf_only,
        ..Default::default()
    };
    Some(tls::common_tls_context::ValidationContextType::ValidationContext(said))
}

/// What upstreams are told of a client's certificate.
pub(super) fn forwarding(mode: ForwardClientCert) -> i32 {
    use hcm::http_connection_manager::ForwardClientCertDetails as Said;
    let said = match mode {
        ForwardClientCert::Sanitize => Said::Sanitize,
        ForwardClientCert::ForwardOnly => Said::ForwardOnly,
        ForwardClientCert::AppendForward => Said::AppendForward,
        ForwardClientCert::SanitizeSet => Said::SanitizeSet,
        ForwardClientCert::AlwaysForwardOnly => Said::AlwaysForwardOnly,
    };
    said.into()
}

pub(super) fn details(
    details: ClientCertDetails,
) -> Option<hcm::http_connection_manager::SetCurrentClientCertDetails> {
    (details != ClientCertDetails::default()).then(|| {
        hcm::http_connection_manager::SetCurrentClientCertDetails {
            subject: details.subject.then(|| value::flag(true)),
            cert: details.cert,
            chain: details.chain,
            dns: details.dns,
            uri: details.uri,
            ..Default::default()
        }
    })
}

fn socket(name: &str, context: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn parameters(min: TlsVersion, max: TlsVersion, offered: &Offered) -> Option<tls::TlsParameters> {
    use tls::tls_parameters::TlsProtocol;
    let version = |version| match version {
        TlsVersion::V1_2 => TlsProtocol::TlSv12.into(),
        TlsVersion::V1_3 => TlsProtocol::TlSv13.into(),
    };
    Some(tls::TlsParameters {
        tls_minimum_protocol_version: version(min),
        tls_maximum_protocol_version: version(max),
        cipher_suites: offered.write_suites(),
        ecdh_curves: offered.curves.iter().map(|curve| curve.name().to_owned()).collect(),
        ..Default::default()
    })
}

fn certificate(said: &Certificate) -> tls::TlsCertificate {
    tls::TlsCertificate {
        certificate_chain: Some(value::data_source(&said.chain)),
        private_key: Some(value::data_source(&said.key)),
        ocsp_staple: said.staple.as_ref().map(value::data_source),
        ..Default::default()
    }
}
