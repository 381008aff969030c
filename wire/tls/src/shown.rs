//! What a client has shown of itself.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::der::X509;
use crate::distinguished;
use crate::subject::{self, Name};
use crate::trust::sha256;

/// The certificate of a client, which has been let in with it, and of whom it was shown to.
pub struct Shown {
    /// The client's own first. Never empty.
    chain: Vec<CertificateDer<'static>>,
    /// The URIs of this side's own certificate.
    to: Arc<[String]>,
}

impl Shown {
    pub(crate) fn of(chain: Option<&[CertificateDer<'static>]>, to: &Arc<[String]>) -> Option<Box<Shown>> {
        let chain = chain.filter(|chain| !chain.is_empty())?.to_vec();
        Some(Box::new(Shown { chain, to: Arc::clone(to) }))
    }

    fn leaf(&self) -> &[u8] {
        self.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// The URIs of the certificate that was shown to the client.
    pub fn to(&self) -> &[String] {
        &self.to
    }

    /// SHA-256 of the client's certificate, in hexadecimal.
    pub fn hash(&self) -> String {
        sha256(self.leaf()).to_string()
    }

    /// RFC 2253.
    pub fn subject(&self) -> String {
        X509::read(self.leaf()).map(|read| distinguished::text(read.subject)).unwrap_or_default()
    }

    pub fn uris(&self) -> Vec<String> {
        let names = subject::names(self.leaf()).into_iter();
        names.filter_map(|name| if let Name::Uri(uri) = name { Some(uri.to_owned()) } else { None }).collect()
    }

    pub fn dns_names(&self) -> Vec<String> {
        let names = subject::names(self.leaf()).into_iter();
        names
            .filter_map(|name| if let Name::Dns(name) = name { Some(name.to_owned()) } else { None })
            .collect()
    }

    /// PEM, in the form of a URL's part.
    pub fn certificate(&self) -> String {
        self.chain.iter().take(1).map(url_encoded_pem).collect()
    }

    /// As [`Shown::certificate`], with those that issued it.
    pub fn chain(&self) -> String {
        self.chain.iter().map(url_encoded_pem).collect()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("subject", &self.subject()).finish_non_exhaustive()
    }
}

/// What Envoy's `getUrlEncodedPem` replaces is replaced.
fn url_encoded_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut written = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            written.push_str("%0A");
        }
        match digit {
            '+' => written.push_str("%2B"),
            '/' => written.push_str("%2F"),
            '=' => written.push_str("%3D"),
            digit => written.push(digit),
        }
    }
    written.push_str("%0A-----END%20CERTIFICATE-----%0A");
    written
}
