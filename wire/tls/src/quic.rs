//! The handshakes of QUIC (RFC 9001): the same certificates, the same trust, chosen by the same name as over TCP.
//!
//! QUIC has a session made before the client has said anything, and which chain takes a client is known by what it says
//! first. So a session begins without a side: what comes is kept until the name asked for is known, and is then given to the
//! session of the side that is chosen.

use std::any::Any;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use quinn_proto::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::pki_types::CertificateDer;
use rustls::server::{Accepted, Acceptor, ResolvesServerCertUsingSni};

use crate::handshake::{self, Handshake};
use crate::opening::OPENING_BYTES_MAX;
use crate::shown::Shown;
use crate::terminator::Terminator;

/// HTTP/3, as ALPN says it (RFC 9114, section 3.1).
const HTTP3: &[u8] = b"h3";
/// What a record of TLS begins with, and what it holds at most (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Alerts (RFC 8446, section 6.2).
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

type Choose = dyn Fn(Option<&str>) -> Option<Terminator> + Send + Sync;

/// What a connection of QUIC asks of TLS. `choose` is asked once for each, with the name that the client asks for; where it
/// knows no side the client is refused.
pub fn quic(
    choose: impl Fn(Option<&str>) -> Option<Terminator> + Send + Sync + 'static,
) -> Arc<dyn ServerConfig> {
    Arc::new(Chooser(Box::new(choose)))
}

/// What a handshake that is over has agreed on, and what the client has shown of itself where it was asked to; of what a
/// connection of QUIC knows of both.
pub fn agreed(
    handshake_data: Box<dyn Any>,
    peer_identity: Option<Box<dyn Any>>,
) -> Option<(Handshake, Option<Box<Shown>>)> {
    let agreed = handshake_data.downcast::<Agreed>().ok()?;
    let known = agreed.data.downcast::<HandshakeData>().ok()?;
    let version = "TLSv1.3";
    let handshake =
        Handshake { alpn: known.protocol, server_name: known.server_name, version, resumed: false };
    let chain = peer_identity.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let shown = agreed.to.and_then(|to| Shown::of(chain.as_deref().map(Vec::as_slice), &to));
    Some((handshake, shown))
}

/// The library's own words, and the URIs of the certificate that a client's was shown to.
struct Agreed {
    data: Box<dyn Any>,
    to: Option<Arc<[String]>>,
}

/// Its keys for what is said before keys are agreed on are everybody's (RFC 9001, section 5.2); nobody is served by it.
static NOBODY: LazyLock<Arc<QuicServerConfig>> = LazyLock::new(|| {
    let config = rustls::ServerConfig::builder_with_provider(handshake::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    Arc::new(QuicServerConfig::try_from(Arc::new(config)).expect("the provider has AES-128-GCM"))
});

struct Chooser(Box<Choose>);

impl ServerConfig for Chooser {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        NOBODY.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        NOBODY.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let session = Arc::clone(&NOBODY).start_session(version, params);
        let undecided = Some((self, version, *params));
        Box::new(Undecided { session, undecided, said: Vec::new(), to: None })
    }
}

/// A session whose side is chosen by what the client says first.
struct Undecided {
    /// Nobody's, until it is chosen.
    session: Box<dyn Session>,
    undecided: Option<(Arc<Chooser>, u32, TransportParameters)>,
    /// What came until then.
    said: Vec<u8>,
    to: Option<Arc<[String]>>,
}

impl Undecided {
    /// Chooses the session once all of the first message is there.
    fn decide(&mut self) -> Result<(), TransportError> {
        let Some((chooser, version, params)) = &self.undecided else { return Ok(()) };
        let Some(accepted) = accepted(&self.said)? else { return Ok(()) };
        let hello = accepted.client_hello();
        let chosen = (chooser.0)(hello.server_name());
        let terminator = chosen.ok_or_else(|| alert(UNRECOGNIZED_NAME, "nobody here has this name"))?;
        let mut config = rustls::ServerConfig::clone(terminator.config());
        self.to = terminator.asks_for_certificates.then(|| terminator.offers.uris(&hello));
        config.alpn_protocols = vec![HTTP3.to_vec()];
        let config = QuicServerConfig::try_from(Arc::new(config))
            .map_err(|_| alert(INTERNAL_ERROR, "no cipher suite of QUIC"))?;
        self.session = Arc::new(config).start_session(*version, params);
        self.undecided = None;
        Ok(())
    }
}

impl Session for Undecided {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let data = self.session.handshake_data()?;
        Some(Box::new(Agreed { data, to: self.to.clone() }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        if self.undecided.is_none() {
            return self.session.read_handshake(buf);
        }
        if self.said.len() + buf.len() > OPENING_BYTES_MAX {
            return Err(alert(DECODE_ERROR, "the first message is too long"));
        }
        self.said.extend_from_slice(buf);
        self.decide()?;
        if self.undecided.is_some() {
            return Ok(false);
        }
        self.session.read_handshake(&std::mem::take(&mut self.said))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    // Servers send Retry; they are never sent one.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

/// What a client says in its first message. `None` while more of it is to come.
fn accepted(said: &[u8]) -> Result<Option<Accepted>, TransportError> {
    let mut records = Vec::with_capacity(said.len() + 16);
    for piece in said.chunks(RECORD_BYTES_MAX) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        records.extend([HANDSHAKE, 3, 3]);
        records.extend(length.to_be_bytes());
        records.extend_from_slice(piece);
    }
    let mut acceptor = Acceptor::default();
    let mut rest = records.as_slice();
    let malformed = || alert(DECODE_ERROR, "the first message cannot be read");
    while !rest.is_empty() {
        // The library takes what it has room for.
        if acceptor.read_tls(&mut rest.by_ref()).map_err(|_| malformed())? == 0 {
            return Err(malformed());
        }
        if let Some(accepted) = acceptor.accept().map_err(|_| malformed())? {
            return Ok(Some(accepted));
        }
    }
    Ok(None)
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.to_owned() }
}
