//! Whose certificate is believed?
//!
//! Three answers: a certificate that a trusted one has issued (of a server, of a client), or any
//! certificate at all. In each of them the peer proves that it holds the certificate's key, and [`Tests`] say what the
//! certificate must be besides.

use std::fmt;
use std::sync::Arc;

use naru_spec::{DataSource, Fingerprint, Invalid, PeerTests};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};

use crate::der::{self, X509};
use crate::handshake::{provider, refused};
use crate::material::{self, Trust};
use crate::subject::{self, Name, NameTest};

/// Names of a refused certificate that an error repeats.
const NAMES_TOLD_MAX: usize = 5;

/// What a certificate must be, whoever issued it.
#[derive(Debug)]
pub(crate) struct Tests {
    /// One must fit; empty asks nothing.
    names: Vec<NameTest>,
    /// It must be one of these, or have one of these keys; both empty ask nothing.
    certificates: Vec<Fingerprint>,
    keys: Vec<Fingerprint>,
}

impl Tests {
    pub(crate) fn compile(wanted: &PeerTests) -> Result<Tests, Invalid> {
        Ok(Tests {
            names: wanted.names.iter().map(NameTest::compile).collect::<Result<_, _>>()?,
            certificates: wanted.certificates.clone(),
            keys: wanted.keys.clone(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.is_pinned()
    }

    fn is_pinned(&self) -> bool {
        !self.certificates.is_empty() || !self.keys.is_empty()
    }

    /// To be asked only of certificates whose issuer was checked, where that is asked for at all.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if !self.names.is_empty() {
            let carried = subject::names(certificate);
            if !self.names.iter().any(|test| carried.iter().any(|name| test.takes(name))) {
                return Err(WrongName::error(&carried));
            }
        }
        if self.is_pinned() {
            let has_key = || {
                let key = X509::read(certificate).map(|read| sha256(read.key));
                key.is_some_and(|key| self.keys.contains(&key))
            };
            if !self.certificates.contains(&sha256(certificate)) && !has_key() {
                return Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into());
            }
        }
        Ok(())
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Fingerprint {
    let mut digest = [0; 32];
    if let Some(suite) = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13() {
        let made = suite.common.hash_provider.hash(bytes);
        digest.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
    }
    Fingerprint(digest)
}

/// Lists of what was revoked.
#[derive(Debug)]
pub(crate) struct Revoked {
    lists: Vec<CertificateRevocationListDer<'static>>,
    of_leaf_only: bool,
}

impl Revoked {
    /// `None` where nobody has given any.
    pub(crate) fn read(trust: &mut Trust, asked: &PeerTests) -> Result<Option<Revoked>, Invalid> {
        let mut lists = std::mem::take(&mut trust.lists);
        if let Some(source) = &asked.crl {
            lists.extend(material::revocation_lists(source)?);
        }
        Ok((!lists.is_empty()).then_some(Revoked { lists, of_leaf_only: asked.crl_of_leaf_only }))
    }
}

/// Servers with a chain to a trusted certificate.
#[derive(Debug)]
pub(crate) struct TrustedServers {
    roots: Arc<RootCertStore>,
    /// Where revocation is looked for. It looks at names too, which is not asked for.
    unrevoked: Option<Arc<WebPkiServerVerifier>>,
    tests: Tests,
}

impl TrustedServers {
    pub(crate) fn read(source: &DataSource, asked: &PeerTests) -> Result<TrustedServers, Invalid> {
        let mut trust = material::trust(source)?;
        let revoked = Revoked::read(&mut trust, asked)?;
        let unrevoked = revoked.map(|revoked| {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&trust.roots), provider());
            let builder = builder.with_crls(revoked.lists).enforce_revocation_expiration();
            let builder =
                if revoked.of_leaf_only { builder.only_check_end_entity_revocation() } else { builder };
            builder.build().map_err(unusable)
        });
        Ok(TrustedServers {
            roots: trust.roots,
            unrevoked: unrevoked.transpose()?,
            tests: Tests::compile(asked)?,
        })
    }

    fn check_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(verifier) = &self.unrevoked {
            // The name is the last that it looks at: all else is in order then.
            return match verifier.verify_server_cert(end_entity, intermediates, server_name, &[], now) {
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = algorithms().all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
            .or_else(|error| unless_trusted_itself(error, &parsed, &self.roots))
    }
}

impl ServerCertVerifier for TrustedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_chain(end_entity, intermediates, server_name, now)?;
        // Read only now: these bytes are someone's whom we trust.
        self.tests.check(end_entity)?;
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

/// Clients with a chain to a trusted certificate; without any certificate too, unless one is required.
#[derive(Debug)]
pub(crate) struct TrustedClients {
    roots: Arc<RootCertStore>,
    chains: Arc<dyn ClientCertVerifier>,
    looks_for_revoked: bool,
    tests: Tests,
}

impl TrustedClients {
    pub(crate) fn read(
        source: &DataSource,
        asked: &PeerTests,
        is_required: bool,
    ) -> Result<TrustedClients, Invalid> {
        let mut trust = material::trust(source)?;
        let revoked = Revoked::read(&mut trust, asked)?;
        let looks_for_revoked = revoked.is_some();
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.roots), provider());
        if let Some(revoked) = revoked {
            builder = builder.with_crls(revoked.lists).enforce_revocation_expiration();
            if revoked.of_leaf_only {
                builder = builder.only_check_end_entity_revocation();
            }
        }
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        let chains = builder.build().map_err(unusable)?;
        Ok(TrustedClients { roots: trust.roots, chains, looks_for_revoked, tests: Tests::compile(asked)? })
    }
}

impl ClientCertVerifier for TrustedClients {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify_client_cert(end_entity, intermediates, now);
        let verified = match verified {
            // Nobody could have looked whether it was revoked.
            Err(error) if !self.looks_for_revoked => {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                unless_trusted_itself(error, &parsed, &self.roots).map(|()| ClientCertVerified::assertion())
            }
            verified => verified,
        }?;
        self.tests.check(end_entity)?;
        Ok(verified)
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

/// Anyone who has some certificate and holds its key. Safe from listeners, not from impostors, unless the tests say
/// whose it must be.
#[derive(Debug)]
pub(crate) struct AnyCertificate {
    pub tests: Tests,
    /// Of a client, which may have none otherwise.
    pub is_required: bool,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.tests.check(end_entity)?;
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
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.tests.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.is_required
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

fn unusable(error: VerifierBuilderError) -> Invalid {
    match error {
        VerifierBuilderError::InvalidCrl(error) => {
            Invalid::new(format!("a revocation list cannot be used: {error:?}"))
                .hint("version 2 of RFC 5280 is needed")
        }
        error => refused(Error::General(error.to_string())),
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
    let key = der::content(key.as_ref());
    let is_trusted = roots.roots.iter().any(|root| key == Some(root.subject_public_key_info.as_ref()));
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) if is_trusted => Ok(()),
        error => Err(error),
    }
}

/// It is none of those that are asked for.
#[derive(Debug)]
struct NotPinned;

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither it nor its key has one of the hashes that are asked for")
    }
}

impl std::error::Error for NotPinned {}

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
