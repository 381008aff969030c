//! What is asked of TLS on either side. Bytes are named here and read by `wire/tls`.

use std::fmt;

use crate::{Offered, StringMatch};

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
    /// What its authority says of it (OCSP, DER), shown to clients that ask.
    pub staple: Option<DataSource>,
}

impl Certificate {
    pub fn new(chain: DataSource, key: DataSource) -> Certificate {
        Certificate { chain, key, staple: None }
    }

    /// All that is read of it.
    pub fn sources(&self) -> impl Iterator<Item = &DataSource> {
        [&self.chain, &self.key].into_iter().chain(&self.staple)
    }
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
    pub offered: Offered,
    /// Certificates that client certificates are checked against.
    pub trusted_ca: Option<DataSource>,
    pub require_client_certificate: bool,
    /// What a client's certificate must be besides.
    pub peer: PeerTests,
    pub staple_policy: StaplePolicy,
}

impl DownstreamTls {
    /// For any client, with all that is spoken.
    pub fn new(certificates: Vec<Certificate>) -> DownstreamTls {
        DownstreamTls {
            certificates,
            alpn: Vec::new(),
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
            offered: Offered::default(),
            trusted_ca: None,
            require_client_certificate: false,
            peer: PeerTests::default(),
            staple_policy: StaplePolicy::Lenient,
        }
    }

    /// What clients are checked against.
    pub fn trust_sources(&self) -> impl Iterator<Item = &DataSource> {
        self.trusted_ca.iter().chain(&self.peer.crl)
    }
}

/// What becomes of a certificate without a staple that holds. One that says of itself that it must have one (RFC 7633)
/// is always treated by `Must`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StaplePolicy {
    /// It is used without.
    #[default]
    Lenient,
    /// It is used without where there is none, and not used once that has expired.
    Strict,
    /// It is not used.
    Must,
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
    pub offered: Offered,
    /// Without it **the upstream's certificate is not verified**, as in Envoy.
    pub trusted_ca: Option<DataSource>,
    /// What the upstream's certificate must be besides.
    pub peer: PeerTests,
}

impl Default for UpstreamTls {
    /// Believes whoever answers.
    fn default() -> UpstreamTls {
        UpstreamTls {
            sni: None,
            certificate: None,
            alpn: Vec::new(),
            version_min: TlsVersion::V1_2,
            version_max: TlsVersion::V1_3,
            offered: Offered::default(),
            trusted_ca: None,
            peer: PeerTests::default(),
        }
    }
}

impl UpstreamTls {
    pub fn is_verified(&self) -> bool {
        self.trusted_ca.is_some() || self.peer.is_pinned()
    }

    /// What the upstream is checked against.
    pub fn trust_sources(&self) -> impl Iterator<Item = &DataSource> {
        self.trusted_ca.iter().chain(&self.peer.crl)
    }
}

/// What a peer's certificate must be, beside issued by somebody who is trusted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerTests {
    /// One of its names must fit one of these; empty asks nothing.
    pub names: Vec<SanMatch>,
    /// It must be one of these, or have one of `keys`; both empty ask nothing.
    pub certificates: Vec<Fingerprint>,
    /// Of the public key (SubjectPublicKeyInfo).
    pub keys: Vec<Fingerprint>,
    /// Lists of what was revoked, PEM. With them, every issuer on the way to a trusted one needs one that holds.
    pub crl: Option<DataSource>,
    /// Only the certificate itself is looked for in the lists.
    pub crl_of_leaf_only: bool,
}

impl PeerTests {
    pub fn is_pinned(&self) -> bool {
        !self.certificates.is_empty() || !self.keys.is_empty()
    }
}

/// A name that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct SanMatch {
    /// `None` takes names of every kind.
    pub kind: Option<SanKind>,
    pub test: StringMatch,
}

impl SanMatch {
    pub fn any_kind(test: StringMatch) -> SanMatch {
        SanMatch { kind: None, test }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    Dns,
    Uri,
    Email,
    Ip,
}

/// A digest by SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Hexadecimal, as of a certificate: with colons between the octets, or none.
    pub fn from_hex(text: &str) -> Option<Fingerprint> {
        let mut octets = [0; 32];
        let digits: Vec<u8> = match text.len() {
            64 => text.bytes().collect(),
            95 => {
                let parts: Vec<&str> = text.split(':').collect();
                if parts.iter().any(|part| part.len() != 2) {
                    return None;
                }
                parts.concat().into_bytes()
            }
            _ => return None,
        };
        if digits.len() != 64 {
            return None;
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16)?;
                *octet = *octet << 4 | u8::try_from(digit).ok()?;
            }
        }
        Some(Fingerprint(octets))
    }
}

impl Fingerprint {
    /// Base64 (RFC 4648, section 4), as of a public key.
    pub fn from_base64(text: &str) -> Option<Fingerprint> {
        let digits = text.strip_suffix('=')?;
        if digits.len() != 43 {
            return None;
        }
        let (mut octets, mut at) = ([0; 32], 0);
        let (mut held, mut bits) = (0u32, 0);
        for digit in digits.bytes() {
            let value = BASE64.iter().position(|known| *known == digit)?;
            held = held << 6 | u32::try_from(value).ok()?;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                *octets.get_mut(at)? = u8::try_from(held >> bits & 0xff).ok()?;
                at += 1;
            }
        }
        // The bits that are left over say nothing.
        (held & 0b11 == 0).then_some(Fingerprint(octets))
    }

    pub fn to_base64(&self) -> String {
        let mut text = String::with_capacity(44);
        for chunk in self.0.chunks(3) {
            let held = chunk.iter().fold(0u32, |held, octet| held << 8 | u32::from(*octet))
                << (8 * (3 - chunk.len()));
            for digit in 0..=chunk.len() {
                let value = usize::try_from(held >> (18 - 6 * digit) & 0x3f).unwrap_or(0);
                text.extend(BASE64.get(value).map(|octet| char::from(*octet)));
            }
        }
        text.push('=');
        text
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Hexadecimal, in lower case and without colons.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_with_colons_or_none_and_in_either_case() {
        let plain = "0123456789abcdef".repeat(4);
        let digest = Fingerprint::from_hex(&plain).unwrap();
        assert_eq!(digest.to_string(), plain);
        assert_eq!(Fingerprint::from_hex(&plain.to_uppercase()), Some(digest));
        let pairs: Vec<String> = digest.0.iter().map(|octet| format!("{octet:02X}")).collect();
        assert_eq!(Fingerprint::from_hex(&pairs.join(":")), Some(digest));
        let shifted = format!("{}:", &pairs.join(":")[..94]);
        for wrong in
            ["", "00", &plain[1..], &plain.replace('a', "g"), &pairs.join("-"), &shifted, &"é".repeat(32)]
        {
            assert_eq!(Fingerprint::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_digest_of_a_key_is_base64() {
        // `printf '' | openssl dgst -sha256 -binary | base64`
        let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let digest = Fingerprint::from_base64(empty).unwrap();
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_base64(), empty);
        for wrong in ["", "=", &empty[..43], &empty.replace('U', "V"), &empty.replace('+', "-"), &empty[1..]]
        {
            assert_eq!(Fingerprint::from_base64(wrong), None, "{wrong}");
        }
    }
}
