//! What a client sends.

use std::net::SocketAddr;
use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use naru_journey::ChainId;
use naru_journey::edge::Peer;

use crate::asker::Asker;
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
    /// Who asks, where the scenario says it.
    pub asker: Option<Rc<Asker>>,
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
            is_certified: false,
            is_in_tunnel: false,
        };
        Request { chain, peer, head, body: Body::EMPTY, asker: None }
    }
}
