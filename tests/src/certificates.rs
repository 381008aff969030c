//! Certificates made on the spot.

use naru_spec::{Certificate, DataSource, DownstreamTls, TlsVersion, UpstreamTls};
use naru_tls::{Connector, Terminator};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The name that every certificate here is for.
pub const NAME: &str = "naru.test";

/// A certificate authority of a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose subject is its issuer counts as self-signed, for BoringSSL for one.
        params.distinguished_name.push(DnType::CommonName, "authority of naru's tests");
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self) -> Issued {
        self.issue_for(NAME)
    }

    pub fn issue_for(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Issued { chain: leaf.pem(), key: key.serialize_pem() }
    }

    /// The serving side of a connection.
    pub fn terminator(&self, alpn: &[&str]) -> Terminator {
        self.terminator_for(NAME, alpn)
    }

    /// That of another name.
    pub fn terminator_for(&self, name: &str, alpn: &[&str]) -> Terminator {
        Terminator::build(&DownstreamTls {
            certificates: vec![self.issue_for(name).certificate()],
            alpn: owned(alpn),
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
            trusted_ca: None,
            require_client_certificate: false,
        })
        .unwrap()
    }

    /// The calling side of a connection, which trusts this authority and no other.
    pub fn connector(&self, alpn: &[&str]) -> Connector {
        Connector::build(&self.caller(alpn)).unwrap()
    }

    /// What makes [`Authority::connector`], to be changed before it does.
    pub fn caller(&self, alpn: &[&str]) -> UpstreamTls {
        UpstreamTls {
            sni: Some(NAME.to_owned()),
            certificate: None,
            alpn: owned(alpn),
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
            trusted_ca: Some(inline(self.pem())),
            subject_alt_names: Vec::new(),
        }
    }
}

impl Issued {
    pub fn certificate(self) -> Certificate {
        Certificate { chain: inline(self.chain), key: inline(self.key) }
    }
}

fn inline(text: String) -> DataSource {
    DataSource::Inline(text.into_bytes())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
