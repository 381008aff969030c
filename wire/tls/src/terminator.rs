//! The side that clients connect to: certificates, what is offered, who may come in.

use std::fmt;
use std::io;
use std::sync::Arc;

use naru_spec::{Certificate, DownstreamTls, Invalid, StaplePolicy, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    Acceptor, ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
    danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use crate::handshake::{self, Handshake};
use crate::issue::ACME_TLS;
use crate::material;
use crate::offered;
use crate::shown::Shown;
use crate::staple::{self, Staple};
use crate::subject::{self, Name};
use crate::trust::{AnyCertificate, Tests, TrustedClients};

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
    pub(crate) offers: Arc<Offers>,
    /// For those who ask by `acme-tls/1`, where anything is proved to them.
    challenged: Option<Arc<ServerConfig>>,
    /// Clients are asked for certificates.
    pub(crate) asks_for_certificates: bool,
    /// The same two for each of the other orders in which suites that stand together can be; mostly there are none.
    reordered: Arc<[[Arc<ServerConfig>; 2]]>,
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
            .map(|certificate| Offer::read(certificate, tls.staple_policy))
            .collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(Invalid::new("a TLS listener needs at least one certificate"));
        }
        if tls.version_min == TlsVersion::V1_2 {
            offered::check(&tls.offered)?;
        }
        let (verifier, offers) = (client_verifier(tls)?, Arc::new(Offers(certificates)));
        let storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        let ticketer = Ticketer::new().map_err(handshake::refused)?;
        let alpn = handshake::alpn(&tls.alpn)?;
        let build = |preference: usize| {
            let provider = offered::provider(&tls.offered, preference);
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(handshake::versions(tls.version_min, tls.version_max)?)
                .map_err(handshake::refused)?
                .with_client_cert_verifier(Arc::clone(&verifier))
                .with_cert_resolver(Arc::clone(&offers) as Arc<dyn ResolvesServerCert>);
            config.session_storage = Arc::clone(&storage) as Arc<dyn StoresServerSessions>;
            config.ticketer = Arc::clone(&ticketer);
            // As in Envoy the server's order counts, where there is one.
            config.ignore_client_order = !tls.offered.suites.is_empty();
            let without_alpn = Arc::new(config.clone());
            config.alpn_protocols.clone_from(&alpn);
            Ok([Arc::new(config), without_alpn])
        };
        let [config, config_without_alpn] = build(0)?;
        let others = if offered::has_groups(&tls.offered) { 1..offered::PREFERENCES.len() } else { 0..0 };
        let reordered = others.map(build).collect::<Result<_, Invalid>>()?;
        let asks_for_certificates = verifier.offer_client_auth();
        let challenged = challenged(tls)?;
        Ok(Terminator { config, config_without_alpn, offers, challenged, asks_for_certificates, reordered })
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
            offers: Arc::clone(&new.offers),
            challenged: new.challenged,
            asks_for_certificates: new.asks_for_certificates,
            config: take_up(&new.config),
            config_without_alpn: take_up(&new.config_without_alpn),
            reordered: new.reordered.iter().map(|pair| pair.each_ref().map(&take_up)).collect(),
        })
    }

    /// Whether two settings differ in nothing but in what this side shows of itself; what the sources of their trust
    /// hold is in [`Terminator::trust_stamp`].
    pub fn trusts_alike(tls: &DownstreamTls, other: &DownstreamTls) -> bool {
        let without = |tls: &DownstreamTls| DownstreamTls {
            certificates: Vec::new(),
            challenges: Vec::new(),
            ..tls.clone()
        };
        without(tls) == without(other)
    }

    /// A number that changes with what clients are checked against.
    pub fn trust_stamp(tls: &DownstreamTls) -> u64 {
        material::stamp(tls.trust_sources())
    }

    /// Two that are built by equal settings, at times of equal stamps, hold the same: then the older one may
    /// serve on, and its clients resume their sessions.
    pub fn stamp(tls: &DownstreamTls) -> u64 {
        let own = tls.certificates.iter().flat_map(Certificate::sources);
        material::stamp(own.chain(tls.trust_sources()))
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
        if let Some(challenged) = self.challenged.as_ref().filter(|_| !is_shared)
            && hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS))
        {
            return Arc::clone(challenged);
        }
        if !self.reordered.is_empty()
            && let Some(at) = offered::preference_of(hello.cipher_suites()).checked_sub(1)
            && let Some([config, without_alpn]) = self.reordered.get(at)
        {
            return Arc::clone(if is_shared { config } else { without_alpn });
        }
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
    if tls.trusted_ca.is_none() && !tls.peer.names.is_empty() {
        // Envoy refuses this too: anyone can write any name into a certificate of their own.
        return Err(Invalid::new("the names of client certificates are tested but their issuers are not")
            .hint("give the trusted CA as well, or leave the names out"));
    }
    Ok(match &tls.trusted_ca {
        Some(source) => Arc::new(TrustedClients::read(source, &tls.peer, is_required)?),
        None => {
            let tests = Tests::compile(&tls.peer)?;
            if is_required || !tests.is_empty() {
                Arc::new(AnyCertificate { tests, is_required })
            } else {
                Arc::new(NoClientAuth)
            }
        }
    })
}

/// Certificates by the name that is asked for, and nothing else.
fn challenged(tls: &DownstreamTls) -> Result<Option<Arc<ServerConfig>>, Invalid> {
    if tls.challenges.is_empty() {
        return Ok(None);
    }
    let by_name = tls.challenges.iter().map(|challenge| {
        // It has an extension that is critical, and that nobody else has to understand.
        let key = material::any_certified_key(&challenge.certificate)?;
        Ok((challenge.name.clone(), Arc::new(key)))
    });
    let by_name = ByName(by_name.collect::<Result<_, Invalid>>()?);
    let mut config = ServerConfig::builder_with_provider(handshake::provider())
        .with_protocol_versions(handshake::versions(TlsVersion::V1_2, TlsVersion::V1_3)?)
        .map_err(handshake::refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(Some(Arc::new(config)))
}

#[derive(Debug)]
struct ByName(Vec<(String, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name()?;
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked)).map(|(_, key)| Arc::clone(key))
    }
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
        let (stream, handshake, _) = self.finish_shown(terminator).await?;
        Ok((stream, handshake))
    }

    /// As [`Hello::finish`]; with what the client has shown of itself, where it is asked to.
    pub async fn finish_shown(
        self,
        terminator: &Terminator,
    ) -> io::Result<(ServerStream<IO>, Handshake, Option<Box<Shown>>)> {
        let hello = self.start.client_hello();
        let config = terminator.config_for(&hello);
        let to = terminator.asks_for_certificates.then(|| terminator.offers.uris(&hello));
        let stream = self.start.into_stream(config).await.map_err(handshake::failed)?;
        let connection = stream.get_ref().1;
        let shown = to.and_then(|to| Shown::of(connection.peer_certificates(), &to));
        let handshake = Handshake::of(connection, self.server_name);
        Ok((stream, handshake, shown))
    }
}

impl<IO> fmt::Debug for Hello<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The certificates of a chain. The first that fits the name asked for, and whose key the client
/// can check, is sent; else the first that the client can check; else the first.
pub(crate) struct Offers(Vec<Offer>);

struct Offer {
    key: Arc<CertifiedKey>,
    /// The same with what its authority says of it, and how long that holds.
    stapled: Option<(Arc<CertifiedKey>, Staple)>,
    policy: StaplePolicy,
    /// The DNS names of the certificate; a common name is not one (RFC 9525).
    names: Vec<String>,
    uris: Arc<[String]>,
}

impl Offer {
    fn read(certificate: &Certificate, policy: StaplePolicy) -> Result<Offer, Invalid> {
        let key = material::certified_key(certificate)?;
        let leaf = key.cert.first().map(AsRef::as_ref).unwrap_or_default();
        let policy = if staple::is_needed_by(leaf) { StaplePolicy::Must } else { policy };
        let staple = certificate.staple.as_ref().map(|source| Staple::read(source, leaf)).transpose()?;
        if policy == StaplePolicy::Must && staple.is_none() {
            return Err(Invalid::new("a certificate must have an OCSP response, and has none").hint(
                "give one by ocsp_staple, or another certificate where it says itself that it must have one",
            ));
        }
        let (mut names, mut uris) = (Vec::new(), Vec::new());
        for name in subject::names(leaf) {
            match name {
                Name::Dns(name) => names.push(name.to_owned()),
                Name::Uri(uri) => uris.push(uri.to_owned()),
                Name::Email(_) | Name::Ip(_) => {}
            }
        }
        let stapled = staple.map(|staple| {
            let mut key = CertifiedKey::clone(&key);
            key.ocsp = Some(staple.bytes.clone());
            (Arc::new(key), staple)
        });
        Ok(Offer { key: Arc::new(key), stapled, policy, names, uris: uris.into() })
    }

    /// What is shown; `None` where it may not be used any more.
    fn shown(&self) -> Option<&Arc<CertifiedKey>> {
        let Some((stapled, staple)) = &self.stapled else { return Some(&self.key) };
        // Asked by those only who have an answer that could have expired.
        if staple.holds(UnixTime::now().as_secs()) {
            return Some(stapled);
        }
        (self.policy == StaplePolicy::Lenient).then_some(&self.key)
    }
}

impl Offers {
    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Offer> {
        let Offers(offers) = self;
        let first = offers.first()?;
        if offers.len() == 1 {
            return Some(first);
        }
        let is_usable = |offer: &&Offer| {
            offer.key.key.choose_scheme(hello.signature_schemes()).is_some() && offer.shown().is_some()
        };
        let is_named = |offer: &&Offer| {
            hello.server_name().is_some_and(|asked| {
                offer.names.iter().any(|pattern| subject::is_dns_name_covered(asked, pattern))
            })
        };
        let chosen = offers.iter().filter(is_named).find(is_usable);
        Some(chosen.or_else(|| offers.iter().find(is_usable)).unwrap_or(first))
    }

    /// Of the certificate that a client is shown.
    pub(crate) fn uris(&self, hello: &ClientHello<'_>) -> Arc<[String]> {
        self.choose(hello).map(|offer| Arc::clone(&offer.uris)).unwrap_or_default()
    }
}

impl ResolvesServerCert for Offers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello)?.shown().cloned()
    }
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|offer| &offer.names)).finish()
    }
}
