//! Certificates made on the spot.

use naru_spec::{Certificate, DataSource, DownstreamTls, UpstreamTls};
use naru_tls::{Connector, Terminator};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};

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

    /// With what is asked of it here.
    pub fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Issued { chain: leaf.pem(), key: key.serialize_pem() }
    }

    /// A list that says that the certificates with these numbers are revoked, and holds or does not any more.
    pub fn revokes(&self, numbers: &[u64], holds: bool) -> String {
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: (*number).into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(if holds { 4_000 } else { 2_021 }, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// The key of the authority itself, PEM.
    pub fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// The serving side of a connection.
    pub fn terminator(&self, alpn: &[&str]) -> Terminator {
        self.terminator_for(NAME, alpn)
    }

    /// That of another name.
    pub fn terminator_for(&self, name: &str, alpn: &[&str]) -> Terminator {
        Terminator::build(&DownstreamTls {
            alpn: owned(alpn),
            ..DownstreamTls::new(vec![self.issue_for(name).certificate()])
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
            alpn: owned(alpn),
            trusted_ca: Some(inline(self.pem())),
            ..UpstreamTls::default()
        }
    }
}

impl Issued {
    pub fn certificate(self) -> Certificate {
        Certificate::new(inline(self.chain), inline(self.key))
    }
}

fn inline(text: String) -> DataSource {
    DataSource::Inline(text.into_bytes())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
