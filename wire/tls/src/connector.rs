//! The side that calls an upstream: what it asks for, whom it believes, who it says it is.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use naru_spec::{Certificate, Invalid, TlsVersion, UpstreamTls};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::handshake::{self, Handshake};
use crate::material;
use crate::offered;
use crate::trust::{AnyCertificate, Tests, TrustedServers};

/// A connection to an upstream after its handshake.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;

/// Sessions remembered for one cluster, all endpoints together (Envoy remembers one). The library
/// counts in steps of eight for a server name, and a cluster has one name.
const SESSIONS_MAX: usize = 8;

/// What one cluster needs to call its endpoints by TLS. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    /// What the library calls the server; sent only where `server_name` is set.
    peer: ServerName<'static>,
    server_name: Option<String>,
}

impl Connector {
    /// Reads certificates and keys, and checks that they belong together.
    ///
    /// As in Envoy, **without `trusted_ca` any certificate is believed** (that the peer holds its
    /// key is still proved), and with it the chain is checked but the name is not, unless
    /// `subject_alt_names` asks for one. A server name that is a literal address is not sent
    /// (RFC 6066 forbids it).
    pub fn build(tls: &UpstreamTls) -> Result<Connector, Invalid> {
        let peer = tls.sni.as_deref().map(parse_server_name).transpose()?;
        let is_sent = matches!(peer, Some(ServerName::DnsName(_)));
        if tls.version_min == TlsVersion::V1_2 {
            offered::check(&tls.offered)?;
        }
        let builder = ClientConfig::builder_with_provider(offered::provider(&tls.offered, 0))
            .with_protocol_versions(handshake::versions(tls.version_min, tls.version_max)?)
            .map_err(handshake::refused)?
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(tls)?);
        let mut config = match &tls.certificate {
            Some(certificate) => {
                let key = material::certified_key(certificate)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = is_sent;
        config.alpn_protocols = handshake::alpn(&tls.alpn)?;
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Connector {
            config: Arc::new(config),
            peer: peer.unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())),
            server_name: tls.sni.clone().filter(|_| is_sent),
        })
    }

    /// Two that are built by equal settings, at times of equal stamps, hold the same.
    pub fn stamp(tls: &UpstreamTls) -> u64 {
        let own = tls.certificate.iter().flat_map(Certificate::sources);
        material::stamp(own.chain(tls.trust_sources()))
    }

    /// The same, offering these protocols instead, best first. Sessions stay shared.
    pub fn with_alpn<S: AsRef<str>>(&self, protocols: &[S]) -> Result<Connector, Invalid> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = handshake::alpn(protocols)?;
        Ok(Connector { config: Arc::new(config), ..self.clone() })
    }

    /// The whole handshake. In TLS 1.3 an upstream that refuses this side's certificate says so
    /// only after it: the first read fails.
    pub async fn connect<IO>(&self, io: IO) -> io::Result<(ClientStream<IO>, Handshake)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.peer.clone(), io).await.map_err(handshake::failed)?;
        let handshake = Handshake::of(stream.get_ref().1, self.server_name.clone());
        Ok((stream, handshake))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("server_name", &self.server_name)
            .field("alpn", &self.config.alpn_protocols)
            .finish_non_exhaustive()
    }
}

fn parse_server_name(text: &str) -> Result<ServerName<'static>, Invalid> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| Invalid::new(format!("the server name (SNI) '{text}' is not a DNS name")))
}

fn server_verifier(tls: &UpstreamTls) -> Result<Arc<dyn ServerCertVerifier>, Invalid> {
    let tests = &tls.peer;
    match &tls.trusted_ca {
        Some(source) => Ok(Arc::new(TrustedServers::read(source, tests)?)),
        // Envoy refuses this too: anyone can write any name into a certificate of their own.
        None if !tests.names.is_empty() => {
            Err(Invalid::new("the upstream's certificate names are tested but its issuer is not")
                .hint("give the trusted CA as well, or leave the names out"))
        }
        None => Ok(Arc::new(AnyCertificate { tests: Tests::compile(tests)?, is_required: true })),
    }
}
