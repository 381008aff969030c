//! Istio's `Gateway`: where clients from outside come in.

use crate::{Flag, Meta, Number, Place, Placed, Text, Texts};

objects! {
    Gateway {
        meta: Meta,
        /// Its servers of HTTPS speak HTTP/3 as well, on the same ports.
        http3: Option<Flag>,
        /// It is one of the Gateway API: routes say which of its servers they are for.
        is_api: bool,
        spec: GatewaySpec,
    }

    GatewaySpec {
        servers: Vec<Server>,
        selector: Vec<(Text, Text)>,
    }

    Server {
        port: Port,
        bind: Option<Text>,
        hosts: Texts,
        tls: Option<ServerTls>,
        default_endpoint: Option<Text>,
        name: Option<Text>,
    }

    Port {
        number: Number,
        protocol: Text,
        name: Option<Text>,
        target_port: Option<Number>,
    }

    ServerTls {
        https_redirect: Option<Flag>,
        mode: Option<Placed<ServerTlsMode>>,
        server_certificate: Option<Text>,
        private_key: Option<Text>,
        ca_certificates: Option<Text>,
        ca_crl: Option<Text>,
        credential_name: Option<Text>,
        credential_names: Texts,
        ca_cert_credential_name: Option<Text>,
        tls_certificates: Vec<TlsCertificate>,
        subject_alt_names: Texts,
        verify_certificate_spki: Texts,
        verify_certificate_hash: Texts,
        min_protocol_version: Option<Placed<TlsProtocol>>,
        max_protocol_version: Option<Placed<TlsProtocol>>,
        cipher_suites: Texts,
        insecure_skip_verify: Option<Flag>,
    }

    TlsCertificate {
        server_certificate: Option<Text>,
        private_key: Option<Text>,
        ca_certificates: Option<Text>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTlsMode {
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProtocol {
    Auto,
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}
