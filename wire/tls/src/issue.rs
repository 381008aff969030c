//! Certificates of naru's own: asking for one, one for the time before there is any, one that answers a challenge, and
//! what stands in one.

use naru_spec::{Certificate, DataSource, DownstreamTls, Invalid};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::der::X509;
use crate::subject::{self, Name};
use crate::terminator::Terminator;

/// The protocol by which a server of ACME asks (RFC 8737).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// What an authority is asked to sign.
pub struct SigningRequest {
    pub der: Vec<u8>,
    /// PEM.
    pub key: String,
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningRequest")
    }
}

/// With a new key (ECDSA, P-256).
///
/// # Errors
/// One of the names cannot stand in a certificate.
pub fn signing_request(names: &[String]) -> Result<SigningRequest, Invalid> {
    let key = KeyPair::generate().map_err(refused)?;
    let der = params(names)?.serialize_request(&key).map_err(refused)?.der().to_vec();
    Ok(SigningRequest { der, key: key.serialize_pem() })
}

/// One that nobody believes, so that a listener can be opened before there is another one.
///
/// # Errors
/// One of the names cannot stand in a certificate.
pub fn placeholder(names: &[String]) -> Result<Certificate, Invalid> {
    let mut params = params(names)?;
    params.distinguished_name.push(DnType::CommonName, "naru waits for a certificate");
    self_signed(&params)
}

/// What a server of ACME looks for, `digest` being of the key authorization (RFC 8737, section 3).
///
/// # Errors
/// The name cannot stand in a certificate.
pub fn challenge(name: &str, digest: &[u8; 32]) -> Result<Certificate, Invalid> {
    let mut params = params(&[name.to_owned()])?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    self_signed(&params)
}

fn params(names: &[String]) -> Result<CertificateParams, Invalid> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(refused)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn self_signed(params: &CertificateParams) -> Result<Certificate, Invalid> {
    let key = KeyPair::generate().map_err(refused)?;
    let pem = params.self_signed(&key).map_err(refused)?.pem();
    let inline = |text: String| DataSource::Inline(text.into_bytes());
    Ok(Certificate::new(inline(pem), inline(key.serialize_pem())))
}

pub(crate) fn refused(error: rcgen::Error) -> Invalid {
    Invalid::new(format!("a certificate cannot be made: {error}"))
}

/// What stands in a certificate of naru's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inscription {
    /// DNS names, in the order of the alphabet.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub from: u64,
    pub until: u64,
}

/// Of the first certificate of a chain, if it can be served with its key.
pub fn inscription(certificate: &Certificate) -> Option<Inscription> {
    let DataSource::Inline(chain) = &certificate.chain else { return None };
    Terminator::build(&DownstreamTls::new(vec![certificate.clone()])).ok()?;
    let leaf = CertificateDer::from_pem_slice(chain).ok()?;
    let (from, until) = X509::read(&leaf)?.validity()?;
    let names = subject::names(&leaf).into_iter();
    let names =
        names.filter_map(|name| if let Name::Dns(name) = name { Some(name.to_owned()) } else { None });
    let mut names: Vec<String> = names.collect();
    names.sort();
    Some(Inscription { names, from, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_can_be_served_and_read() {
        let names = ["b.test".to_owned(), "a.test".to_owned()];
        let read = inscription(&placeholder(&names).unwrap()).unwrap();
        assert_eq!(read.names, ["a.test", "b.test"]);
        assert!(read.from < read.until);
        let key = DataSource::Inline(signing_request(&names).unwrap().key.into_bytes());
        let mixed = Certificate { key, ..placeholder(&names).unwrap() };
        assert_eq!(inscription(&mixed), None, "the key is another one's");
        assert!(placeholder(&["\u{ad}".to_owned()]).is_err());
    }
}
