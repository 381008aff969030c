//! What is offered in a handshake: suites of TLS 1.2, groups of key exchange.
//!
//! Names are those that OpenSSL and BoringSSL give them, which Envoy and Istio take; IANA's are read too, as BoringSSL
//! does. Suites of TLS 1.3 cannot be chosen, there nor here. Deliberately not here: what has no forward secrecy or is
//! no AEAD. Such names are known, so that whoever lists them learns that they are not spoken.

use std::fmt;

/// A suite of TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CipherSuite {
    EcdsaAes128,
    EcdsaAes256,
    EcdsaChacha,
    RsaAes128,
    RsaAes256,
    RsaChacha,
}

/// What a name of a suite stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedSuite {
    Spoken(CipherSuite),
    /// One of TLS 1.2 or older that is not spoken.
    NotSpoken,
    /// Of TLS 1.3: always offered.
    AlwaysSpoken,
    Unknown,
}

impl CipherSuite {
    pub const ALL: [CipherSuite; 6] = [
        CipherSuite::EcdsaAes128,
        CipherSuite::EcdsaAes256,
        CipherSuite::EcdsaChacha,
        CipherSuite::RsaAes128,
        CipherSuite::RsaAes256,
        CipherSuite::RsaChacha,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CipherSuite::EcdsaAes128 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            CipherSuite::EcdsaAes256 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            CipherSuite::EcdsaChacha => "ECDHE-ECDSA-CHACHA20-POLY1305",
            CipherSuite::RsaAes128 => "ECDHE-RSA-AES128-GCM-SHA256",
            CipherSuite::RsaAes256 => "ECDHE-RSA-AES256-GCM-SHA384",
            CipherSuite::RsaChacha => "ECDHE-RSA-CHACHA20-POLY1305",
        }
    }

    fn iana(self) -> &'static str {
        match self {
            CipherSuite::EcdsaAes128 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::EcdsaAes256 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::EcdsaChacha => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            CipherSuite::RsaAes128 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::RsaAes256 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::RsaChacha => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        }
    }

    pub fn parse(name: &str) -> NamedSuite {
        let spoken = CipherSuite::ALL.into_iter().find(|suite| suite.name() == name || suite.iana() == name);
        match spoken {
            Some(suite) => NamedSuite::Spoken(suite),
            None if NOT_SPOKEN.contains(&name) => NamedSuite::NotSpoken,
            None if TLS_1_3.contains(&name) => NamedSuite::AlwaysSpoken,
            None => NamedSuite::Unknown,
        }
    }
}

/// BoringSSL's table (`ssl_cipher.cc`) without what is spoken.
const NOT_SPOKEN: &[&str] = &[
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES128-SHA256",
    "AES256-SHA",
    "AES256-SHA256",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
];

const TLS_1_3: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// A group of key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Curve {
    X25519,
    P256,
    P384,
    /// X25519 and ML-KEM-768 together, against those who record today.
    X25519MlKem768,
}

impl Curve {
    pub const ALL: [Curve; 4] = [Curve::X25519, Curve::P256, Curve::P384, Curve::X25519MlKem768];

    pub fn name(self) -> &'static str {
        match self {
            Curve::X25519 => "X25519",
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::X25519MlKem768 => "X25519MLKEM768",
        }
    }

    /// BoringSSL takes OpenSSL's names as well.
    pub fn parse(name: &str) -> Option<Curve> {
        match name {
            "x25519" => Some(Curve::X25519),
            "prime256v1" => Some(Curve::P256),
            "secp384r1" => Some(Curve::P384),
            _ => Curve::ALL.into_iter().find(|curve| curve.name() == name),
        }
    }
}

/// What one side offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Best first. Of those that stand together the client's first is taken. Empty offers all.
    pub suites: Vec<Vec<CipherSuite>>,
    /// Best first. Empty offers all.
    pub curves: Vec<Curve>,
}

/// Something that stands in a list of suites and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteProblem {
    /// Which entry of the list it stands in.
    pub at: usize,
    pub name: String,
    pub named: NamedSuite,
}

impl fmt::Display for SuiteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.named {
            NamedSuite::Spoken(_) => write!(f, "'{name}' stands in a group with no end"),
            NamedSuite::NotSpoken => {
                write!(f, "naru does not speak '{name}': clients that know nothing else are refused")
            }
            NamedSuite::AlwaysSpoken => write!(f, "'{name}' is of TLS 1.3, whose suites are always offered"),
            NamedSuite::Unknown => write!(f, "'{name}' is no cipher suite"),
        }
    }
}

impl SuiteProblem {
    /// It stands for nothing: the list says something else than it means.
    pub fn is_error(&self) -> bool {
        matches!(self.named, NamedSuite::Unknown | NamedSuite::Spoken(_))
    }
}

impl Offered {
    /// Reads a list of suites: entries hold one suite, several with colons between, or `[A|B]`.
    pub fn read_suites<'a>(
        entries: impl IntoIterator<Item = &'a str>,
    ) -> (Vec<Vec<CipherSuite>>, Vec<SuiteProblem>) {
        let (mut suites, mut problems) = (Vec::new(), Vec::new());
        for (at, entry) in entries.into_iter().enumerate() {
            for part in entry.split(':') {
                let inner = part.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
                let mut group = Vec::new();
                for name in inner.unwrap_or(part).split('|') {
                    // Without its brackets a bar is part of a name, which there is not.
                    let named = if inner.is_none() && part.contains('|') {
                        NamedSuite::Unknown
                    } else {
                        CipherSuite::parse(name)
                    };
                    match named {
                        NamedSuite::Spoken(suite)
                            if !suites.iter().flatten().chain(&group).any(|known| *known == suite) =>
                        {
                            group.push(suite);
                        }
                        NamedSuite::Spoken(_) => {}
                        named => problems.push(SuiteProblem { at, name: name.to_owned(), named }),
                    }
                }
                if !group.is_empty() {
                    suites.push(group);
                }
            }
        }
        (suites, problems)
    }

    /// As [`Offered::read_suites`] reads them.
    pub fn write_suites(&self) -> Vec<String> {
        let written = self.suites.iter().map(|group| {
            let names: Vec<&str> = group.iter().map(|suite| suite.name()).collect();
            if names.len() == 1 { names.concat() } else { format!("[{}]", names.join("|")) }
        });
        written.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_suites_is_read_in_its_order_and_groups() {
        use CipherSuite::{EcdsaAes128, EcdsaChacha, RsaAes256};
        let said =
            ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:ECDHE-RSA-AES256-GCM-SHA384"];
        let (suites, problems) = Offered::read_suites(said);
        assert_eq!(
            (suites.as_slice(), problems.as_slice()),
            (&[vec![EcdsaAes128, EcdsaChacha], vec![RsaAes256]][..], &[][..])
        );
        let offered = Offered { suites: suites.clone(), curves: Vec::new() };
        let written = offered.write_suites();
        assert_eq!(Offered::read_suites(written.iter().map(String::as_str)).0, suites);
        let iana =
            Offered::read_suites(["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(iana.0, [vec![RsaAes256]], "the second says the same again");
    }

    #[test]
    fn what_cannot_be_had_is_told_with_its_entry() {
        let said = ["ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA", "NONSENSE", "TLS_AES_128_GCM_SHA256", "A|B"];
        let (suites, problems) = Offered::read_suites(said);
        assert_eq!(suites.len(), 1);
        let told: Vec<_> = problems.iter().map(|problem| (problem.at, problem.is_error())).collect();
        assert_eq!(told, [(1, false), (2, true), (3, false), (4, true), (4, true)]);
    }

    #[test]
    fn every_name_is_read_again() {
        for suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::parse(suite.name()), NamedSuite::Spoken(suite));
            assert_eq!(CipherSuite::parse(suite.iana()), NamedSuite::Spoken(suite));
        }
        for curve in Curve::ALL {
            assert_eq!(Curve::parse(curve.name()), Some(curve));
        }
        assert_eq!(Curve::parse("P-224"), None);
    }
}
