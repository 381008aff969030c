//! Our own `AcmeIssuer`: who issues the certificates of a `Gateway` (RFC 8555).

use crate::traffic_policy::TargetRef;
use crate::{Meta, Place, Placed, Text, Texts};

objects! {
    AcmeIssuer {
        meta: Meta,
        spec: AcmeIssuerSpec,
    }

    AcmeIssuerSpec {
        /// A Gateway.
        target_ref: TargetRef,
        /// The URL of the server's directory; Let's Encrypt where nothing is said.
        server: Option<Text>,
        /// Who is told of what concerns the account.
        email: Option<Text>,
        challenge: Option<Placed<AcmeChallenge>>,
        /// Names of the certificate; those of the Gateway's servers where nothing is said.
        hosts: Texts,
        /// A file of authorities that the server's own certificate is checked against.
        ca_certificates: Option<Text>,
    }
}

/// How it is proved that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By an answer on port 80 (RFC 8555, section 8.3).
    Http01,
    /// By a certificate on port 443 (RFC 8737).
    TlsAlpn01,
}
