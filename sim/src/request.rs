//! What a client sends, and the form in which the journey is asked about it.

use std::net::SocketAddr;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::Reason;
use naru_journey::edge::{self, Client, Peer, Upgrade};
use naru_journey::{ChainId, Worker};
use naru_spec::{HostPort, Http, Scheme};

use crate::body::Body;

/// A request as a client sends it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The filter chain that its connection came in through.
    pub chain: ChainId,
    pub peer: Peer,
    /// As a codec reads it: the authority in the target (HTTP/2) or in Host (HTTP/1).
    pub head: Parts,
    pub body: Body,
}

impl Request {
    /// A GET without a body from somewhere, over HTTP/1.1.
    pub fn get(chain: ChainId, host: &HeaderValue, target: PathAndQuery) -> Request {
        let mut head = http::Request::new(()).into_parts().0;
        head.uri = target.into();
        head.headers.insert(header::HOST, host.clone());
        let peer = Peer {
            remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            local: SocketAddr::from(([192, 0, 2, 2], 80)),
            is_tls: false,
        };
        Request { chain, peer, head, body: Body::EMPTY }
    }
}

/// A request that has crossed the edge, as `proxy/src/ingress.rs` makes it.
#[derive(Debug)]
pub struct Arrival {
    pub authority: String,
    pub target: PathAndQuery,
    pub client: Client,
    /// Why it must be refused before any rule is asked.
    pub refusal: Option<Reason>,
}

/// Brings a head into the one form that everything behind works on. Chance is taken from `core` in
/// the same order as the proxy takes it.
pub fn receive(head: &mut Parts, http: &Http, peer: &Peer, core: &mut Worker) -> Arrival {
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut refusal = put_authority(head, http, peer).err();
    let client = match edge::receive(&mut head.headers, http, peer, core) {
        Ok(client) => client,
        Err(reason) => {
            refusal = Some(reason);
            Client {
                address: peer.remote,
                scheme: if peer.is_tls { Scheme::Https } else { Scheme::Http },
                timeout_ms: None,
                is_grpc: false,
                upgrade: Upgrade::None,
            }
        }
    };
    if client.upgrade == Upgrade::Refused || head.method == Method::CONNECT {
        refusal = refusal.or(Some(Reason::UpgradeRefused));
    }
    let authority =
        head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("").to_owned();
    Arrival { authority, target, client, refusal }
}

/// Sees to it that the Host header is the one authority.
fn put_authority(head: &mut Parts, http: &Http, peer: &Peer) -> Result<(), Reason> {
    if let Some(authority) = head.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Reason::BadHost);
        }
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadHost)?;
        let said = head.headers.get(header::HOST);
        if head.version == Version::HTTP_2 && said.is_some_and(|said| *said != value) {
            return Err(Reason::BadHost);
        }
        if head.headers.get_all(header::HOST).iter().count() <= 1 {
            head.headers.insert(header::HOST, value);
        }
    }
    let host = head.headers.get(header::HOST).ok_or(Reason::BadHost)?;
    let host = host.to_str().map_err(|_| Reason::BadHost)?;
    if host.is_empty() {
        return Err(Reason::BadHost);
    }
    if http.host_port != HostPort::Keep
        && let Some(stripped) = without_port(host, http.host_port, peer.local.port())
    {
        let value = HeaderValue::from_str(stripped).map_err(|_| Reason::BadHost)?;
        head.headers.insert(header::HOST, value);
    }
    Ok(())
}

/// The host without its port, where that is to be removed.
fn without_port(host: &str, what: HostPort, local: u16) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_whole = !name.contains(':') || name.ends_with(']');
    let is_meant = what == HostPort::StripAny || port.parse() == Ok(local);
    (is_port && is_whole && is_meant).then_some(name)
}
