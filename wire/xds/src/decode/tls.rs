//! Transport sockets: TLS towards clients and towards upstreams.

use naru_spec::{Certificate, DownstreamTls, StringMatch, TlsVersion, UpstreamTls};

use super::{matching, value};
use crate::findings::{Findings, code};
use crate::proto::{core, quic, raw_buffer, tls};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

/// `None` where the connection is plain.
pub(super) fn downstream(
    socket: &core::TransportSocket,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DownstreamTls> {
    let said: tls::DownstreamTlsContext = context(socket, path, findings)?;
    Some(ended(said, &path.field("typed_config"), findings))
}

/// Of QUIC, which has no other.
pub(super) fn quic(
    socket: Option<&core::TransportSocket>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DownstreamTls> {
    let said = socket.map(|socket| context::<quic::QuicDownstreamTransport>(socket, path, findings));
    let Some(transport) = said.unwrap_or_default() else {
        if socket.is_none_or(|socket| socket.config_type.is_none()) {
            let text = "a filter chain of QUIC needs a transport socket: envoy.transport_sockets.quic";
            findings.missing(path, text);
        }
        return None;
    };
    let path = path.field("typed_config.downstream_tls_context");
    let Some(said) = transport.downstream_tls_context else {
        findings.missing(&path, "QUIC needs a TLS context");
        return None;
    };
    let tls = ended(said, &path, findings);
    if tls.version_max < TlsVersion::V1_3 {
        let path = path.field("common_tls_context.tls_params.tls_maximum_protocol_version");
        findings.unsupported_value(&path, "QUIC has no other TLS than 1.3", "leave it out");
    }
    Some(tls)
}

fn ended(context: tls::DownstreamTlsContext, path: &Path<'_>, findings: &mut Findings<'_>) -> DownstreamTls {
    let path = path.field("common_tls_context");
    let common = context.common_tls_context.unwrap_or_default();
    let (version_min, version_max) = versions(&common, &path, findings);
    let certificates = certificates(&common, &path, findings);
    if certificates.is_empty() {
        findings.missing(&path.field("tls_certificates"), "a TLS listener needs a certificate");
    }
    let validation = validation(&common);
    if let Some(said) = validation.filter(|v| has_subject_alt_names(v)) {
        let field = match said.match_typed_subject_alt_names.is_empty() {
            true => "validation_context.match_subject_alt_names",
            false => "validation_context.match_typed_subject_alt_names",
        };
        findings.unsupported(&path.field(field), "names in client certificates are not checked", "");
    }
    let require_client_certificate = context.require_client_certificate.is_some_and(|v| v.value);
    let trusted_ca = validation.and_then(|v| v.trusted_ca.as_ref()).map(value::data_source);
    if require_client_certificate && trusted_ca.is_none() {
        findings.missing(
            &path.field("validation_context.trusted_ca"),
            "require_client_certificate needs a trusted_ca to check client certificates against",
        );
    }
    DownstreamTls {
        certificates,
        alpn: common.alpn_protocols.clone(),
        version_min,
        version_max,
        trusted_ca,
        require_client_certificate,
    }
}

/// `None` where the connection is plain.
pub(super) fn upstream(
    socket: &core::TransportSocket,
    cluster: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<UpstreamTls> {
    let context: tls::UpstreamTlsContext = context(socket, path, findings)?;
    let common = context.common_tls_context.unwrap_or_default();
    let common_path = path.field("typed_config.common_tls_context");
    let (version_min, version_max) = versions(&common, &common_path, findings);
    let certificates = certificates(&common, &common_path, findings);
    if certificates.len() > 1 {
        let path = common_path.field("tls_certificates");
        findings.unsupported_value(&path.at(1), "only one client certificate can be presented", "");
    }
    let validation = validation(&common);
    let trusted_ca = validation.and_then(|v| v.trusted_ca.as_ref()).map(value::data_source);
    let subject_alt_names = validation.map_or_else(Vec::new, |validation| {
        subject_alt_names(validation, &common_path.field("validation_context"), findings)
    });
    if trusted_ca.is_none() {
        if subject_alt_names.is_empty() {
            findings.warning(
                path,
                code::CERTIFICATE_NOT_VERIFIED,
                format!(
                    "the certificate of cluster '{cluster}' is not verified: whoever answers is believed"
                ),
                "set common_tls_context.validation_context.trusted_ca",
            );
        } else {
            findings.missing(
                &common_path.field("validation_context.trusted_ca"),
                "names in certificates can only be checked against a trusted_ca",
            );
        }
    }
    Some(UpstreamTls {
        sni: Some(context.sni).filter(|sni| !sni.is_empty()),
        certificate: certificates.into_iter().next(),
        alpn: common.alpn_protocols.clone(),
        version_min,
        version_max,
        trusted_ca,
        subject_alt_names,
    })
}

fn context<M: prost::Message + prost::Name + Default>(
    socket: &core::TransportSocket,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<M> {
    let path = path.field("typed_config");
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        findings.missing(&path, "a transport socket needs a typed_config");
        return None;
    };
    if unpack::<raw_buffer::RawBuffer>(any).is_some() {
        return None;
    }
    let context = unpack(any);
    if context.is_none() {
        let text = format!("the transport socket '{}' is not supported here", type_name(&any.type_url));
        let hint = format!("use type.googleapis.com/{}", M::full_name());
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
    }
    context
}

/// Envoy lets clients speak at most 1.2 unless told otherwise; both ends agree on the best they have.
fn versions(
    common: &tls::CommonTlsContext,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> (TlsVersion, TlsVersion) {
    use tls::tls_parameters::TlsProtocol;
    let Some(said) = &common.tls_params else { return (TlsVersion::V1_2, TlsVersion::V1_3) };
    let mut version = |said: TlsProtocol, default, field| match said {
        TlsProtocol::TlsAuto => default,
        TlsProtocol::TlSv12 => TlsVersion::V1_2,
        TlsProtocol::TlSv13 => TlsVersion::V1_3,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            let path = path.field("tls_params");
            let text = "TLS below 1.2 is not supported";
            findings.unsupported_value(&path.field(field), text, "use TLSv1_2 or TLSv1_3");
            default
        }
    };
    let min = version(said.tls_minimum_protocol_version(), TlsVersion::V1_2, "tls_minimum_protocol_version");
    let max = version(said.tls_maximum_protocol_version(), TlsVersion::V1_3, "tls_maximum_protocol_version");
    if min > max {
        findings.invalid(
            &path.field("tls_params"),
            naru_spec::Invalid::new("the minimum TLS version is above the maximum"),
        );
    }
    (min, max)
}

fn certificates(
    common: &tls::CommonTlsContext,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Certificate> {
    let path = path.field("tls_certificates");
    let mut found = Vec::new();
    for (at, said) in common.tls_certificates.iter().enumerate() {
        let path = path.at(at);
        for (field, is_there) in [
            ("certificate_chain", said.certificate_chain.is_some()),
            ("private_key", said.private_key.is_some()),
        ] {
            if !is_there {
                findings.missing(&path.field(field), format!("a certificate needs a {field}"));
            }
        }
        found.push(Certificate {
            chain: value::data_source(&said.certificate_chain.clone().unwrap_or_default()),
            key: value::data_source(&said.private_key.clone().unwrap_or_default()),
        });
    }
    found
}

fn validation(common: &tls::CommonTlsContext) -> Option<&tls::CertificateValidationContext> {
    match &common.validation_context_type {
        Some(tls::common_tls_context::ValidationContextType::ValidationContext(said)) => Some(said),
        _ => None,
    }
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn has_subject_alt_names(said: &tls::CertificateValidationContext) -> bool {
    !said.match_subject_alt_names.is_empty() || !said.match_typed_subject_alt_names.is_empty()
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn subject_alt_names(
    said: &tls::CertificateValidationContext,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<StringMatch> {
    use tls::subject_alt_name_matcher::SanType;
    let mut names = Vec::new();
    let plain = path.field("match_subject_alt_names");
    for (at, name) in said.match_subject_alt_names.iter().enumerate() {
        names.push(matching::string_match(name, &plain.at(at), findings));
    }
    let typed = path.field("match_typed_subject_alt_names");
    for (at, name) in said.match_typed_subject_alt_names.iter().enumerate() {
        let path = typed.at(at);
        // Which of the three it is shows in the name itself.
        if matches!(name.san_type(), SanType::Email | SanType::OtherName) {
            let text = "only names of the types DNS, URI and IP_ADDRESS are checked";
            findings.unsupported_value(&path.field("san_type"), text, "");
        }
        if let Some(matcher) = &name.matcher {
            names.push(matching::string_match(matcher, &path.field("matcher"), findings));
        }
    }
    names
}
