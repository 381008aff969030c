//! Whose certificate is believed?
//!
//! Three answers: a certificate that a trusted one has issued (of a server, of a client), or any
//! certificate at all. In each of them the peer proves that it holds the certificate's key.

use std::fmt;
use std::sync::Arc;

use naru_spec::Invalid;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::handshake::{provider, refused};
use crate::subject::{self, Name, NameTest};

/// Names of a refused certificate that an error repeats.
const NAMES_TOLD_MAX: usize = 5;

/// Servers with a chain to a trusted certificate and, where names are asked for, one of them.
#[derive(Debug)]
pub(crate) struct TrustedServers {
    roots: Arc<RootCertStore>,
    /// One must fit; empty asks nothing.
    names: Vec<NameTest>,
}

impl TrustedServers {
    pub(crate) fn new(roots: Arc<RootCertStore>, names: Vec<NameTest>) -> TrustedServers {
        TrustedServers { roots, names }
    }
}

impl ServerCertVerifier for TrustedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = algorithms().all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
            .or_else(|error| unless_trusted_itself(error, &parsed, &self.roots))?;
        // Read only now: these bytes are someone's whom we trust.
        let carried = subject::names(end_entity);
        let is_named = self.names.is_empty()
            || self.names.iter().any(|test| carried.iter().any(|name| test.takes(name)));
        if is_named { Ok(ServerCertVerified::assertion()) } else { Err(WrongName::error(&carried)) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Clients with a chain to a trusted certificate; without any certificate too, unless one is required.
#[derive(Debug)]
pub(crate) struct TrustedClients {
    roots: Arc<RootCertStore>,
    chains: Arc<dyn ClientCertVerifier>,
}

impl TrustedClients {
    pub(crate) fn new(roots: Arc<RootCertStore>, is_required: bool) -> Result<TrustedClients, Invalid> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        let chains = builder.build().map_err(|error| refused(Error::General(error.to_string())))?;
        Ok(TrustedClients { roots, chains })
    }
}

impl ClientCertVerifier for TrustedClients {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.chains.verify_client_cert(end_entity, intermediates, now).or_else(|error| {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            unless_trusted_itself(error, &parsed, &self.roots).map(|()| ClientCertVerified::assertion())
        })
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Anyone who has some certificate and holds its key. Safe from listeners, not from impostors.
#[derive(Debug)]
pub(crate) struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Takes a certificate whose own key is trusted, although it is marked as an issuer's.
///
/// `openssl req -x509` makes such certificates, people give them as the server's certificate and
/// as the trusted one, and Envoy takes them; webpki does not (`CaUsedAsEndEntity`, which arrives
/// here as `Other`). It is sound: the handshake proves that the peer holds a key which may sign
/// anything in this name anyway. The period of validity was looked at before that error came up.
fn unless_trusted_itself(
    error: Error,
    parsed: &ParsedCertificate<'_>,
    roots: &RootCertStore,
) -> Result<(), Error> {
    let key = parsed.subject_public_key_info();
    let key = subject::content(key.as_ref());
    let is_trusted = roots.roots.iter().any(|root| key == Some(root.subject_public_key_info.as_ref()));
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) if is_trusted => Ok(()),
        error => Err(error),
    }
}

/// The chain is good, but the certificate is somebody else's.
#[derive(Debug)]
struct WrongName {
    carried: Vec<String>,
}

impl WrongName {
    fn error(carried: &[Name<'_>]) -> Error {
        let carried = carried.iter().take(NAMES_TOLD_MAX).map(ToString::to_string).collect();
        CertificateError::Other(OtherError(Arc::new(WrongName { carried }))).into()
    }
}

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carried.as_slice() {
            [] => f.write_str("it carries no name, and some are asked for"),
            names => write!(f, "none of its names ({}) is asked for", names.join(", ")),
        }
    }
}

impl std::error::Error for WrongName {}
