//! Who issues certificates of a mesh, and to whom? An authority with a key of its own, and names that are SPIFFE ids.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_spec::{Certificate, DataSource, DownstreamTls, Invalid};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::der::X509;
use crate::issue::refused;
use crate::terminator::Terminator;

/// Of an authority that is made here; Istio's.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks of two machines may differ by as much; Istio's.
const SKEW: Duration = Duration::from_secs(120);

/// An authority, as it is kept.
pub struct AuthorityPem {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityPem")
    }
}

/// Makes an authority that stands for itself, from `now` on, in seconds since 1970.
///
/// # Errors
/// The name cannot stand in a certificate.
pub fn authority(trust_domain: &str, now: u64) -> Result<AuthorityPem, Invalid> {
    let mut params = params(now, now.saturating_add(AUTHORITY_LIFE.as_secs()))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, "authority of a mesh");
    let made =
        CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(refused)?).map_err(refused)?;
    Ok(AuthorityPem { certificate: made.pem().into_bytes(), key: made.key().serialize_pem().into_bytes() })
}

fn params(from: u64, until: u64) -> Result<CertificateParams, Invalid> {
    let mut params = CertificateParams::new(Vec::new()).map_err(refused)?;
    params.distinguished_name = DistinguishedName::new();
    params.not_before = moment(from.saturating_sub(SKEW.as_secs()));
    params.not_after = moment(until);
    Ok(params)
}

fn moment(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// An authority that issues.
pub struct MeshIssuer {
    issuer: Issuer<'static, KeyPair>,
    /// Shown after a certificate: from the authority's own to the root.
    chain: Vec<u8>,
    roots: Vec<u8>,
    /// When its certificate is over, in seconds since 1970.
    until: u64,
}

impl fmt::Debug for MeshIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshIssuer").field("until", &self.until).finish_non_exhaustive()
    }
}

impl MeshIssuer {
    /// All of it is PEM, of which certificates, or the key, are taken. `chain` goes from the authority's certificate to a
    /// root; both may be left out of it.
    ///
    /// # Errors
    /// Something is missing, or is no authority's, or the key is another one's.
    pub fn read(certificate: &[u8], key: &[u8], chain: &[u8], roots: &[u8]) -> Result<MeshIssuer, Invalid> {
        let wrong = |what: &str| Invalid::new(format!("the authority of the mesh: {what}"));
        let own = certificates(certificate)?;
        let own = own.first().ok_or_else(|| wrong("there is no certificate"))?;
        let trusted = certificates(roots)?;
        if trusted.is_empty() {
            return Err(wrong("there is no root certificate"));
        }
        let pair = Certificate::new(inline(&pem(std::iter::once(own))), inline(key));
        Terminator::build(&DownstreamTls::new(vec![pair])).map_err(|invalid| wrong(&invalid.message))?;
        let read = X509::read(own).ok_or_else(|| wrong("its certificate cannot be read"))?;
        if !read.is_authority() {
            return Err(wrong(
                "its certificate is no authority's (basicConstraints, CA:TRUE): nobody would believe what it issues",
            ));
        }
        let until = read.validity().map_or(0, |(_, until)| until);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| wrong("there is no key"))?;
        let key = KeyPair::try_from(&key).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(refused)?;
        // A root is known to whoever is to believe it; all others are shown.
        let mut shown = certificates(chain)?;
        if !shown.contains(own) {
            shown.insert(0, own.clone());
        }
        shown.retain(|one| !trusted.contains(one));
        Ok(MeshIssuer { issuer, chain: pem(&shown), roots: pem(&trusted), until })
    }

    /// One for a SPIFFE id, with a new key (ECDSA, P-256), that holds for as long, or for as long as the authority does.
    ///
    /// # Errors
    /// The id cannot stand in a certificate.
    pub fn issue(&self, id: &str, now: u64, life: Duration) -> Result<Certificate, Invalid> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = params(now, now.saturating_add(life.as_secs()).min(self.until))?;
        params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(refused)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let mut pem = params.signed_by(&key, &self.issuer).map_err(refused)?.pem().into_bytes();
        pem.extend_from_slice(&self.chain);
        Ok(Certificate::new(DataSource::Inline(pem), inline(key.serialize_pem().as_bytes())))
    }

    /// When nobody believes it any more, in seconds since 1970.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// What is to be believed, PEM.
    pub fn roots(&self) -> &[u8] {
        &self.roots
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let read: Result<_, _> = CertificateDer::pem_slice_iter(text).collect();
    read.map_err(|error| Invalid::new(format!("the authority of the mesh: a certificate is no PEM: {error}")))
}

/// Of nothing but these.
fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    let mut text = String::new();
    for one in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = STANDARD.encode(one);
        let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line));
        lines.for_each(|line| text.extend([&*line, "\n"]));
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource::Inline(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_is_issued_has_its_name_and_ends_with_its_authority() {
        let made = authority("a.test", NOW).unwrap();
        // As it is kept: one file. The key stays where it is.
        let kept = [made.certificate.clone(), made.key.clone()].concat();
        let issuer = MeshIssuer::read(&kept, &kept, b"", &kept).unwrap();
        assert!(text(issuer.roots()).contains("CERTIFICATE") && !text(issuer.roots()).contains("KEY"));
        let id = "spiffe://a.test/ns/shop/sa/one";
        let issued = issuer.issue(id, NOW, DAY).unwrap();
        let DataSource::Inline(chain) = &issued.chain else { panic!("{issued:?}") };
        let all = certificates(chain).unwrap();
        assert_eq!(all.len(), 1, "the root is not shown");
        let names: Vec<String> = crate::subject::names(&all[0]).iter().map(ToString::to_string).collect();
        assert_eq!(names, [id]);
        let read = X509::read(&all[0]).unwrap();
        assert_eq!(read.validity().unwrap(), (NOW - 120, NOW + 86_400));
        assert!(!read.is_authority());
        let last = issuer.issue(id, NOW + AUTHORITY_LIFE.as_secs() - 10, DAY).unwrap();
        let DataSource::Inline(chain) = &last.chain else { panic!("{last:?}") };
        let last = certificates(chain).unwrap();
        assert_eq!(X509::read(&last[0]).unwrap().validity().unwrap().1, NOW + AUTHORITY_LIFE.as_secs());
    }

    /// As with `cacerts`: the authority is issued by another one, and shown, and its root is what is believed.
    #[test]
    fn an_authority_below_a_root_is_shown_with_what_it_issues() {
        let root = authority("root", NOW).unwrap();
        let root_issuer = MeshIssuer::read(&root.certificate, &root.key, b"", &root.certificate).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut between = params(NOW, NOW + 1_000).unwrap();
        between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        between.distinguished_name.push(DnType::CommonName, "between");
        let between = between.signed_by(&key, &root_issuer.issuer).unwrap().pem().into_bytes();
        let key = key.serialize_pem().into_bytes();
        for chain in [Vec::new(), between.clone(), [between.clone(), root.certificate.clone()].concat()] {
            let issuer = MeshIssuer::read(&between, &key, &chain, &root.certificate).unwrap();
            let issued = issuer.issue("spiffe://a/ns/b/sa/c", NOW, DAY).unwrap();
            let DataSource::Inline(shown) = &issued.chain else { panic!("{issued:?}") };
            let shown = certificates(shown).unwrap();
            assert_eq!(shown.len(), 2);
            assert_eq!(shown[1], certificates(&between).unwrap()[0]);
            assert_eq!(X509::read(&shown[0]).unwrap().validity().unwrap().1, NOW + 1_000);
        }
    }

    #[test]
    fn what_is_no_authority_is_told() {
        let made = authority("a.test", NOW).unwrap();
        let other = authority("a.test", NOW).unwrap();
        let check = |certificate: &[u8], key: &[u8], roots: &[u8], expected: &str| {
            let error = MeshIssuer::read(certificate, key, b"", roots).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let (certificate, key) = (&made.certificate, &made.key);
        check(b"", key, certificate, "there is no certificate");
        check(certificate, key, b"x", "there is no root certificate");
        check(certificate, &other.key, certificate, "the authority of the mesh: ");
        check(certificate, b"", certificate, "the authority of the mesh: ");
        let issuer = MeshIssuer::read(certificate, key, b"", certificate).unwrap();
        let leaf = issuer.issue("spiffe://a/ns/b/sa/c", NOW, DAY).unwrap();
        let (DataSource::Inline(chain), DataSource::Inline(own)) = (&leaf.chain, &leaf.key) else { panic!() };
        check(chain, own, certificate, "no authority's");
    }
}
