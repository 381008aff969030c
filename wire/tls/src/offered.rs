//! The source of cryptography, with as much of it as a side wants to offer.

use std::sync::Arc;

use naru_spec::{CipherSuite, Curve, Invalid, Offered};
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite as Number, SupportedCipherSuite};

use crate::handshake;

/// The ways in which the suites of groups can stand: which kind of cipher a client likes best, and which next.
pub(crate) const PREFERENCES: [[Kind; 3]; 6] = {
    use Kind::{Aes128, Aes256, Chacha};
    [
        [Aes128, Aes256, Chacha],
        [Aes128, Chacha, Aes256],
        [Aes256, Aes128, Chacha],
        [Aes256, Chacha, Aes128],
        [Chacha, Aes128, Aes256],
        [Chacha, Aes256, Aes128],
    ]
};

/// What encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Aes128,
    Aes256,
    Chacha,
}

/// Whether what is taken depends on the client's own order.
pub(crate) fn has_groups(offered: &Offered) -> bool {
    offered.suites.iter().any(|group| group.len() > 1)
}

/// The one of [`PREFERENCES`] that a client's list of suites shows.
pub(crate) fn preference_of(suites: &[Number]) -> usize {
    let mut seen: Vec<Kind> = Vec::with_capacity(3);
    for kind in suites.iter().filter_map(|suite| kind_of_number(*suite)) {
        if !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    PREFERENCES.iter().position(|order| order.starts_with(&seen)).unwrap_or(0)
}

/// Of TLS 1.2, whose order it is about.
fn kind_of_number(suite: Number) -> Option<Kind> {
    match suite {
        Number::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | Number::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            Some(Kind::Aes128)
        }
        Number::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 | Number::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            Some(Kind::Aes256)
        }
        Number::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | Number::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Kind::Chacha),
        _ => None,
    }
}

fn kind(suite: CipherSuite) -> Kind {
    match suite {
        CipherSuite::EcdsaAes128 | CipherSuite::RsaAes128 => Kind::Aes128,
        CipherSuite::EcdsaAes256 | CipherSuite::RsaAes256 => Kind::Aes256,
        CipherSuite::EcdsaChacha | CipherSuite::RsaChacha => Kind::Chacha,
    }
}

/// With all suites of TLS 1.3 first, in which nothing can be chosen.
pub(crate) fn provider(offered: &Offered, preference: usize) -> Arc<CryptoProvider> {
    let all = handshake::provider();
    if *offered == Offered::default() {
        return all;
    }
    let mut own = CryptoProvider::clone(&all);
    if !offered.suites.is_empty() {
        let order = PREFERENCES.get(preference).unwrap_or(&PREFERENCES[0]);
        own.cipher_suites.retain(|suite| suite.tls13().is_some());
        for group in &offered.suites {
            let mut group = group.clone();
            if group.len() > 1 {
                group.sort_by_key(|suite| order.iter().position(|wanted| *wanted == kind(*suite)));
            }
            own.cipher_suites.extend(group.into_iter().map(supported));
        }
    }
    if !offered.curves.is_empty() {
        own.kx_groups = offered.curves.iter().map(|curve| group(*curve)).collect();
    }
    Arc::new(own)
}

/// What cannot work together. Deliberately not here: that the suites fit the certificate's key, as in Envoy.
pub(crate) fn check(offered: &Offered) -> Result<(), Invalid> {
    let is_only_post_quantum = offered.curves.iter().all(|curve| *curve == Curve::X25519MlKem768);
    if !offered.curves.is_empty() && is_only_post_quantum {
        return Err(Invalid::new("TLS 1.2 has no group that it could use: X25519MLKEM768 is of TLS 1.3")
            .hint("add X25519 or P-256, or set the lowest version to 1.3"));
    }
    Ok(())
}

fn supported(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChacha => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChacha => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519 => kx_group::X25519,
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
        Curve::X25519MlKem768 => kx_group::X25519MLKEM768,
    }
}
