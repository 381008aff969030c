//! What is asked of TLS on either side. Bytes are named here and read by `wire/tls`.

use std::fmt;

use crate::StringMatch;

/// Where bytes come from.
#[derive(Clone, PartialEq, Eq)]
pub enum DataSource {
    File(String),
    Inline(Vec<u8>),
    Environment(String),
}

/// Without the bytes themselves, which may be a key.
impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSource::File(path) => f.debug_tuple("File").field(path).finish(),
            DataSource::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            DataSource::Environment(name) => f.debug_tuple("Environment").field(name).finish(),
        }
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub chain: DataSource,
    pub key: DataSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DownstreamTls {
    /// The first whose names fit the server name asked for, else the first. Never empty.
    pub certificates: Vec<Certificate>,
    /// Protocols offered, best first: `h2`, `http/1.1`. Empty offers none.
    pub alpn: Vec<String>,
    pub version_min: TlsVersion,
    pub version_max: TlsVersion,
    /// Certificates that client certificates are checked against.
    pub trusted_ca: Option<DataSource>,
    pub require_client_certificate: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// The server name sent; `None` sends none.
    pub sni: Option<String>,
    /// Presented where the upstream asks for one.
    pub certificate: Option<Certificate>,
    pub alpn: Vec<String>,
    pub version_min: TlsVersion,
    pub version_max: TlsVersion,
    /// Without it **the upstream's certificate is not verified**, as in Envoy.
    pub trusted_ca: Option<DataSource>,
    /// One of the certificate's DNS names, URIs or addresses must match one of these; empty asks nothing.
    pub subject_alt_names: Vec<StringMatch>,
}

impl UpstreamTls {
    pub fn is_verified(&self) -> bool {
        self.trusted_ca.is_some()
    }
}
