//! Who issues certificates.

use naru_resource::acme::{self, AcmeChallenge};

use crate::kind::document;
use crate::read::{record, words};

document!(acme::AcmeIssuer { spec: "spec" });
record!(acme::AcmeIssuerSpec {
    target_ref: "targetRef",
    server: "server",
    email: "email",
    challenge: "challenge",
    hosts: "hosts",
    ca_certificates: "caCertificates",
});
words!(AcmeChallenge {
    "HTTP-01" => AcmeChallenge::Http01,
    "TLS-ALPN-01" => AcmeChallenge::TlsAlpn01,
});
