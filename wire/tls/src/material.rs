//! Which certificates and keys do files, environment variables and inline bytes hold?
//!
//! All of them are PEM. An error says which one it was and what is wrong with it, and repeats
//! nothing of its content: a line of a broken file may be a key.

use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::sync::Arc;

use naru_spec::{Certificate, DataSource, Invalid};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::handshake::provider;

/// Ten times a system's bundle of public authorities. Guards against the likes of `/dev/zero`.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A chain and its key, which belong together.
pub(crate) fn certified_key(certificate: &Certificate) -> Result<CertifiedKey, Invalid> {
    let chain_place = Place { what: "the certificate chain", source: &certificate.chain };
    let key_place = Place { what: "the private key", source: &certificate.key };
    let chain = certificates(&chain_place)?;
    let key = private_key(&key_place)?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        key_place
            .wrong("is of a kind that cannot be used")
            .hint("RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) and Ed25519 can")
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(key_place
            .wrong(&format!("does not belong to the first certificate of {chain_place}"))
            .hint("a chain begins with the certificate of this side itself; those that issued it follow")),
        Err(error) => Err(chain_place
            .wrong(&format!("begins with a certificate that cannot be used: {error}"))
            .hint("version 3 is needed; 'openssl x509 -req' without '-extfile' makes version 1")),
    }
}

/// What peers' certificates are checked against.
pub(crate) struct Trust {
    pub roots: Arc<RootCertStore>,
    /// Revocation lists that stand among the certificates.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

pub(crate) fn trust(source: &DataSource) -> Result<Trust, Invalid> {
    let place = Place { what: "the trusted CA", source };
    let mut roots = RootCertStore::empty();
    let bytes = place.read()?;
    for (at, certificate) in certificates_in(&bytes, &place)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            place.wrong(&format!("holds a certificate (number {}) that cannot be used: {error}", at + 1))
        })?;
    }
    Ok(Trust { roots: Arc::new(roots), lists: lists_in(&bytes, &place)? })
}

/// What an authority has said of a certificate.
pub(crate) fn response(source: &DataSource) -> Result<Vec<u8>, Invalid> {
    response_place(source).read()
}

pub(crate) fn wrong_response(source: &DataSource, what: &str) -> Invalid {
    response_place(source).wrong(what)
}

fn response_place(source: &DataSource) -> Place<'_> {
    Place { what: "the OCSP response", source }
}

/// What was revoked. There is at least one list, or none would be looked at.
pub(crate) fn revocation_lists(
    source: &DataSource,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Invalid> {
    let place = Place { what: "the revocation list", source };
    let lists = lists_in(&place.read()?, &place)?;
    if lists.is_empty() {
        let hint = "a list begins with the line '-----BEGIN X509 CRL-----'";
        return Err(place.wrong("holds no revocation list").hint(hint));
    }
    Ok(lists)
}

fn lists_in(bytes: &[u8], place: &Place<'_>) -> Result<Vec<CertificateRevocationListDer<'static>>, Invalid> {
    CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| place.wrong(wording(&error)))
}

/// A number that changes with what these sources hold. It is no proof against somebody who means to deceive: who
/// may write the files needs no trick.
pub(crate) fn stamp<'a>(sources: impl IntoIterator<Item = &'a DataSource>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        // What cannot be read is told by whoever builds with it.
        Place { what: "", source }.read().ok().hash(&mut hasher);
    }
    hasher.finish()
}

fn certificates(place: &Place<'_>) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    certificates_in(&place.read()?, place)
}

fn certificates_in(bytes: &[u8], place: &Place<'_>) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| place.wrong(wording(&error)))?;
    if found.is_empty() {
        let invalid = place.wrong("holds no certificate");
        return Err(if bytes.first() == Some(&0x30) {
            invalid.hint("it looks like DER; make it PEM with 'openssl x509 -inform der'")
        } else {
            invalid.hint("a certificate begins with the line '-----BEGIN CERTIFICATE-----'")
        });
    }
    Ok(found)
}

fn private_key(place: &Place<'_>) -> Result<PrivateKeyDer<'static>, Invalid> {
    let bytes = place.read()?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if bytes.windows(9).any(|word| word == b"ENCRYPTED") {
            return place.wrong("is encrypted").hint("take the password off with 'openssl pkey'");
        }
        match error {
            pem::Error::NoItemsFound => place
                .wrong("holds no private key")
                .hint("a key begins with a line like '-----BEGIN PRIVATE KEY-----'"),
            error => place.wrong(wording(&error)),
        }
    })
}

/// What is wrong with a PEM text. The library's own wording repeats the line.
fn wording(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is not valid PEM: a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "is not valid PEM: a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "is not valid PEM: the base64 is broken",
        _ => "is not valid PEM",
    }
}

/// Some bytes, and what they are for: `the private key in file 'key.pem'`.
struct Place<'a> {
    what: &'static str,
    source: &'a DataSource,
}

impl Place<'_> {
    fn read(&self) -> Result<Vec<u8>, Invalid> {
        match self.source {
            DataSource::File(path) => {
                let bytes =
                    read_file(path).map_err(|error| self.wrong(&format!("cannot be read: {error}")))?;
                bytes.ok_or_else(|| self.wrong(&format!("is larger than {FILE_BYTES_MAX} bytes")))
            }
            DataSource::Inline(bytes) => Ok(bytes.clone()),
            DataSource::Environment(name) => match std::env::var(name) {
                Ok(text) => Ok(text.into_bytes()),
                Err(std::env::VarError::NotPresent) => {
                    Err(self.wrong("cannot be read: the variable is not set"))
                }
                Err(std::env::VarError::NotUnicode(_)) => Err(self.wrong("is not valid PEM")),
            },
        }
    }

    fn wrong(&self, what: &str) -> Invalid {
        Invalid::new(format!("{self} {what}"))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            DataSource::File(path) => write!(f, "{} in file '{path}'", self.what),
            DataSource::Inline(_) => write!(f, "{} given inline", self.what),
            DataSource::Environment(name) => write!(f, "{} in environment variable '{name}'", self.what),
        }
    }
}

/// `None` where the file is too large.
fn read_file(path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}
