//! The side that clients connect to: certificates, what is offered, who may come in.

use std::fmt;
use std::io;
use std::sync::Arc;

use naru_spec::{DownstreamTls, Invalid};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    Acceptor, ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache,
    danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use crate::handshake::{self, Handshake};
use crate::material;
use crate::subject::{self, Name};
use crate::trust::{AnyCertificate, TrustedClients};

/// A client's connection after its handshake.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// Sessions kept for TLS 1.2 clients that know no tickets; everyone else's session travels in a
/// ticket. About 20 KiB for a terminator.
const SESSIONS_MAX: usize = 256;

/// What one filter chain needs to serve TLS. Cheap to clone. Tickets and sessions belong to it: a
/// new one takes up none of the old one's, unless it is [built after it](Terminator::build_after).
#[derive(Clone)]
pub struct Terminator {
    config: Arc<ServerConfig>,
    /// For clients that offer only protocols which this side does not have.
    config_without_alpn: Arc<ServerConfig>,
}

impl Terminator {
    /// Reads certificates and keys, and checks that they belong together.
    ///
    /// `require_client_certificate` without `trusted_ca` asks for a certificate and takes any, as
    /// Envoy does.
    pub fn build(tls: &DownstreamTls) -> Result<Terminator, Invalid> {
        let certificates = tls
            .certificates
            .iter()
            .map(|certificate| material::certified_key(certificate).map(Offer::new))
            .collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(Invalid::new("a TLS listener needs at least one certificate"));
        }
        let mut config = ServerConfig::builder_with_provider(handshake::provider())
            .with_protocol_versions(handshake::versions(tls.version_min, tls.version_max)?)
            .map_err(handshake::refused)?
            .with_client_cert_verifier(client_verifier(tls)?)
            .with_cert_resolver(Arc::new(Offers(certificates)));
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        config.ticketer = Ticketer::new().map_err(handshake::refused)?;
        let config_without_alpn = Arc::new(config.clone());
        config.alpn_protocols = handshake::alpn(&tls.alpn)?;
        Ok(Terminator { config: Arc::new(config), config_without_alpn })
    }

    /// The same chain's with other certificates: clients that have a session with the older one resume it here. To be
    /// called only where [`Terminator::trusts_alike`] says so, or a session would let somebody in who may not come in
    /// any more.
    pub fn build_after(tls: &DownstreamTls, older: &Terminator) -> Result<Terminator, Invalid> {
        let new = Terminator::build(tls)?;
        let take_up = |config: &Arc<ServerConfig>| {
            let mut config = ServerConfig::clone(config);
            config.ticketer = Arc::clone(&older.config.ticketer);
            config.session_storage = Arc::clone(&older.config.session_storage);
            Arc::new(config)
        };
        Ok(Terminator {
            config: take_up(&new.config),
            config_without_alpn: take_up(&new.config_without_alpn),
        })
    }

    /// Whether two settings differ in nothing but in what this side shows of itself; what the sources of their trust
    /// hold is in [`Terminator::trust_stamp`].
    pub fn trusts_alike(tls: &DownstreamTls, other: &DownstreamTls) -> bool {
        let without = |tls: &DownstreamTls| DownstreamTls { certificates: Vec::new(), ..tls.clone() };
        without(tls) == without(other)
    }

    /// A number that changes with what clients are checked against.
    pub fn trust_stamp(tls: &DownstreamTls) -> u64 {
        material::stamp(&tls.trusted_ca)
    }

    /// Two that are built by equal settings, at times of equal stamps, hold the same: then the older one may
    /// serve on, and its clients resume their sessions.
    pub fn stamp(tls: &DownstreamTls) -> u64 {
        let own = tls.certificates.iter().flat_map(|certificate| [&certificate.chain, &certificate.key]);
        material::stamp(own.chain(&tls.trusted_ca))
    }

    #[cfg(feature = "quic")]
    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Both steps at once, where there is only one chain to choose.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<(ServerStream<IO>, Handshake)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        Hello::read(io).await?.finish(self).await
    }

    /// As Envoy does, a client that offers only unknown protocols is served without one, and its
    /// bytes tell what it speaks. RFC 7301 would have it refused.
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let mine = &self.config.alpn_protocols;
        let is_shared = hello
            .alpn()
            .is_none_or(|mut offered| offered.any(|protocol| mine.iter().any(|own| own == protocol)));
        Arc::clone(if is_shared { &self.config } else { &self.config_without_alpn })
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").field("alpn", &self.config.alpn_protocols).finish_non_exhaustive()
    }
}

fn client_verifier(tls: &DownstreamTls) -> Result<Arc<dyn ClientCertVerifier>, Invalid> {
    let is_required = tls.require_client_certificate;
    Ok(match &tls.trusted_ca {
        Some(source) => Arc::new(TrustedClients::new(material::roots(source)?, is_required)?),
        None if is_required => Arc::new(AnyCertificate),
        None => Arc::new(NoClientAuth),
    })
}

/// A client that has said what it wants and waits for an answer. Dropping it closes the connection.
pub struct Hello<IO> {
    start: StartHandshake<IO>,
    server_name: Option<String>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Hello<IO> {
    /// Reads the first message of the handshake. A peer that sends anything else is told so by an
    /// alert, and the error is of kind `InvalidData`.
    pub async fn read(io: IO) -> io::Result<Hello<IO>> {
        Ok(Hello::of(LazyConfigAcceptor::new(Acceptor::default(), io).await?))
    }

    pub(crate) fn of(start: StartHandshake<IO>) -> Hello<IO> {
        let server_name = start.client_hello().server_name().map(str::to_owned);
        Hello { start, server_name }
    }

    /// The client is left to somebody else: nothing was said to it.
    pub fn into_io(self) -> IO {
        self.start.io
    }

    /// The server name that the client asks for. Literal addresses and malformed names count as none.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The rest of the handshake, with the certificates of the chain chosen.
    pub async fn finish(self, terminator: &Terminator) -> io::Result<(ServerStream<IO>, Handshake)> {
        let config = terminator.config_for(&self.start.client_hello());
        let stream = self.start.into_stream(config).await.map_err(handshake::failed)?;
        let handshake = Handshake::of(stream.get_ref().1, self.server_name);
        Ok((stream, handshake))
    }
}

impl<IO> fmt::Debug for Hello<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The certificates of a chain. The first that fits the name asked for, and whose key the client
/// can check, is sent; else the first that the client can check; else the first.
struct Offers(Vec<Offer>);

struct Offer {
    key: Arc<CertifiedKey>,
    /// The DNS names of the certificate; a common name is not one (RFC 9525).
    names: Vec<String>,
}

impl Offer {
    fn new(key: CertifiedKey) -> Offer {
        let names = key.cert.first().map(|leaf| subject::names(leaf)).unwrap_or_default();
        let names = names
            .into_iter()
            .filter_map(|name| if let Name::Dns(name) = name { Some(name.to_owned()) } else { None })
            .collect();
        Offer { key: Arc::new(key), names }
    }
}

impl ResolvesServerCert for Offers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Offers(offers) = self;
        let first = offers.first()?;
        if offers.len() == 1 {
            return Some(Arc::clone(&first.key));
        }
        let is_usable = |offer: &&Offer| offer.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let is_named = |offer: &&Offer| {
            hello.server_name().is_some_and(|asked| {
                offer.names.iter().any(|pattern| subject::is_dns_name_covered(asked, pattern))
            })
        };
        let chosen = offers.iter().filter(is_named).find(is_usable);
        let chosen = chosen.or_else(|| offers.iter().find(is_usable)).unwrap_or(first);
        Some(Arc::clone(&chosen.key))
    }
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|offer| &offer.names)).finish()
    }
}
