//! Transport sockets: TLS towards clients and towards upstreams.

use naru_spec::{
    Certificate, ClientCertDetails, Curve, DownstreamTls, Fingerprint, ForwardClientCert, Offered, PeerTests,
    SanKind, SanMatch, StaplePolicy, SuiteProblem, TlsVersion, UpstreamTls,
};

use super::{matching, value};
use crate::findings::{Findings, code};
use crate::proto::{core, hcm, quic, raw_buffer, tls};
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
    let staple_policy = match context.ocsp_staple_policy() {
        tls::downstream_tls_context::OcspStaplePolicy::LenientStapling => StaplePolicy::Lenient,
        tls::downstream_tls_context::OcspStaplePolicy::StrictStapling => StaplePolicy::Strict,
        tls::downstream_tls_context::OcspStaplePolicy::MustStaple => StaplePolicy::Must,
    };
    let common = context.common_tls_context.unwrap_or_default();
    let (version_min, version_max) = versions(&common, &path, findings);
    let certificates = certificates(&common, &path, findings);
    if certificates.is_empty() {
        findings.missing(&path.field("tls_certificates"), "a TLS listener needs a certificate");
    }
    let offered = offered(&common, version_min, &path, findings);
    let validation = validation(&common);
    let peer = peer(validation, &path.field("validation_context"), findings);
    let require_client_certificate = context.require_client_certificate.is_some_and(|v| v.value);
    let trusted_ca = validation.and_then(|v| v.trusted_ca.as_ref()).map(value::data_source);
    if trusted_ca.is_none() {
        let path = path.field("validation_context.trusted_ca");
        if !peer.names.is_empty() {
            findings.missing(&path, "names in certificates can only be checked against a trusted_ca");
        } else if require_client_certificate && !peer.is_pinned() {
            findings.missing(
                &path,
                "require_client_certificate needs a trusted_ca to check client certificates against",
            );
        }
    }
    if staple_policy == StaplePolicy::Must {
        for (at, certificate) in certificates.iter().enumerate() {
            if certificate.staple.is_none() {
                let path = path.field("tls_certificates");
                findings.missing(&path.at(at).field("ocsp_staple"), "MUST_STAPLE needs an ocsp_staple");
            }
        }
    }
    DownstreamTls {
        certificates,
        alpn: common.alpn_protocols.clone(),
        version_min,
        version_max,
        offered,
        trusted_ca,
        require_client_certificate,
        peer,
        staple_policy,
        challenges: Vec::new(),
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
    let offered = offered(&common, version_min, &common_path, findings);
    let peer = peer(validation, &common_path.field("validation_context"), findings);
    if trusted_ca.is_none() {
        if peer.names.is_empty() && peer.is_pinned() {
            // Nobody else has its key.
        } else if peer.names.is_empty() {
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
        offered,
        trusted_ca,
        peer,
    })
}

/// What upstreams are told of a client's certificate.
pub(super) fn forwarding(said: &hcm::HttpConnectionManager) -> (ForwardClientCert, ClientCertDetails) {
    use hcm::http_connection_manager::ForwardClientCertDetails as Said;
    let mode = match said.forward_client_cert_details() {
        Said::Sanitize => ForwardClientCert::Sanitize,
        Said::ForwardOnly => ForwardClientCert::ForwardOnly,
        Said::AppendForward => ForwardClientCert::AppendForward,
        Said::SanitizeSet => ForwardClientCert::SanitizeSet,
        Said::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    };
    let details = said.set_current_client_cert_details.map(|said| ClientCertDetails {
        subject: said.subject.is_some_and(|v| v.value),
        cert: said.cert,
        chain: said.chain,
        dns: said.dns,
        uri: said.uri,
    });
    (mode, details.unwrap_or_default())
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

/// Suites and groups of key exchange.
fn offered(
    common: &tls::CommonTlsContext,
    version_min: TlsVersion,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Offered {
    let Some(said) = &common.tls_params else { return Offered::default() };
    let of_params = path.field("tls_params");
    let of_suites = of_params.field("cipher_suites");
    let (suites, problems) = Offered::read_suites(said.cipher_suites.iter().map(String::as_str));
    for problem in &problems {
        let path = of_suites.at(problem.at);
        if problem.is_error() {
            findings.error(
                &path,
                code::UNKNOWN_VALUE,
                problem,
                "a name of OpenSSL's, as ECDHE-RSA-AES128-GCM-SHA256",
            );
        } else {
            findings.warning(&path, code::NO_EFFECT, problem, "");
        }
    }
    let has_errors = problems.iter().any(SuiteProblem::is_error);
    if !said.cipher_suites.is_empty() && suites.is_empty() && !has_errors && version_min == TlsVersion::V1_2 {
        let hint = "add ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256";
        findings.unsupported_value(&of_suites, "naru speaks none of these cipher suites", hint);
    }
    let of_curves = of_params.field("ecdh_curves");
    let mut curves = Vec::new();
    for (at, name) in said.ecdh_curves.iter().enumerate() {
        match Curve::parse(name) {
            Some(curve) if !curves.contains(&curve) => curves.push(curve),
            Some(_) => {}
            None => {
                let known: Vec<&str> = Curve::ALL.iter().map(|curve| curve.name()).collect();
                let text = format!("'{name}' is no group of key exchange that naru speaks");
                let hint = format!("one of {}", known.join(", "));
                findings.error(&of_curves.at(at), code::UNKNOWN_VALUE, text, hint);
            }
        }
    }
    Offered { suites, curves }
}

/// What a peer's certificate must be besides.
fn peer(
    said: Option<&tls::CertificateValidationContext>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> PeerTests {
    let Some(said) = said else { return PeerTests::default() };
    let mut fingerprints = |said: &[String], field, read: fn(&str) -> Option<Fingerprint>, hint| {
        let path = path.field(field);
        let mut found = Vec::new();
        for (at, text) in said.iter().enumerate() {
            match read(text) {
                Some(fingerprint) => found.push(fingerprint),
                None => {
                    let text = format!("'{text}' is no SHA-256 digest");
                    findings.error(&path.at(at), code::INVALID_VALUE, text, hint);
                }
            }
        }
        found
    };
    let of_key = "base64: openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 \
                  -binary | openssl enc -base64";
    let of_certificate = "hexadecimal, with colons or without: openssl x509 -noout -fingerprint -sha256";
    let keys = fingerprints(
        &said.verify_certificate_spki,
        "verify_certificate_spki",
        Fingerprint::from_base64,
        of_key,
    );
    let certificates = fingerprints(
        &said.verify_certificate_hash,
        "verify_certificate_hash",
        Fingerprint::from_hex,
        of_certificate,
    );
    if said.crl.is_some() && said.trusted_ca.is_none() {
        let text = "a revocation list is only looked at where a trusted_ca has issued the certificate";
        findings.missing(&path.field("trusted_ca"), text);
    }
    PeerTests {
        names: subject_alt_names(said, path, findings),
        certificates,
        keys,
        crl: said.crl.as_ref().map(value::data_source),
        crl_of_leaf_only: said.only_verify_leaf_cert_crl,
    }
}

fn certificates(
    common: &tls::CommonTlsContext,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Certificate> {
    use tls::common_tls_context::ValidationContextType as Kind;
    let validation = match &common.validation_context_type {
        Some(Kind::ValidationContextSdsSecretConfig(_)) => Some("validation_context_sds_secret_config"),
        Some(Kind::CombinedValidationContext(_)) => Some("combined_validation_context"),
        _ => None,
    };
    let certificates = (!common.tls_certificate_sds_secret_configs.is_empty())
        .then_some("tls_certificate_sds_secret_configs");
    for field in validation.into_iter().chain(certificates) {
        findings.unsupported(&path.field(field), "secrets by SDS come from a control plane", "");
    }
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
            staple: said.ocsp_staple.as_ref().map(value::data_source),
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
fn subject_alt_names(
    said: &tls::CertificateValidationContext,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<SanMatch> {
    use tls::subject_alt_name_matcher::SanType;
    let mut names = Vec::new();
    let plain = path.field("match_subject_alt_names");
    for (at, name) in said.match_subject_alt_names.iter().enumerate() {
        names.push(SanMatch::any_kind(matching::string_match(name, &plain.at(at), findings)));
    }
    let typed = path.field("match_typed_subject_alt_names");
    for (at, name) in said.match_typed_subject_alt_names.iter().enumerate() {
        let path = typed.at(at);
        let kind = match name.san_type() {
            SanType::Email => Some(SanKind::Email),
            SanType::Dns => Some(SanKind::Dns),
            SanType::Uri => Some(SanKind::Uri),
            SanType::IpAddress => Some(SanKind::Ip),
            // The API's own rules want one.
            SanType::Unspecified => None,
            SanType::OtherName => {
                let text = "names of the type OTHER_NAME are not checked";
                findings.unsupported_value(&path.field("san_type"), text, "");
                None
            }
        };
        if let Some(matcher) = &name.matcher {
            let test = matching::string_match(matcher, &path.field("matcher"), findings);
            names.push(SanMatch { kind, test });
        }
    }
    names
}
