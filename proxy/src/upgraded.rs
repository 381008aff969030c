//! Requests that ask for another protocol, or for a tunnel where the rules say what becomes of it: how they are sent to an upstream, and what is made of what it grants.
//!
//! What asks, and what grants, is in the form of HTTP/1.1 wherever something is decided (`naru_journey::upgrade`). Once
//! it is granted each side is a [`Conduit`], a connection of HTTP/1 or a stream of HTTP/2, and `crate::tunnel` moves
//! what they carry.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::header::{self, HeaderMap};
use http::{Method, Request, Response, Uri, response};
use naru_base::Reason;
use naru_journey::edge::Upgrade;
use naru_journey::{Failure, Sent, Stage, upgrade, websocket};
use naru_spec::Terminate;

use crate::codec::{ExtendedConnect, Http2Tunnel, InBody};
use crate::conduit::Conduit;
use crate::dial::{self, DialFailure};
use crate::engine::{Attendant, Interrupted, Outgoing, Place};
use crate::pool::{Http1Connection, Http2Stream, Life};
use crate::settle::{Broken, Carrier, OutBody, Passage, Received};
use crate::tunnel::{Changed, Waiting};
use crate::upload::UploadBody;

/// What a client of HTTP/2 has asked by: its stream is what it is answered on.
#[derive(Debug)]
pub struct Opening {
    body: InBody,
    /// It knows the handshake of WebSocket over HTTP/1.1, and wants to see its answer.
    has_key: bool,
}

/// What counts a connection, or a place in one, for as long as its bytes are passed on.
#[derive(Debug)]
pub enum Held {
    Connection { _connection: Box<Http1Connection> },
    Stream { _stream: Http2Stream },
    Life { _life: Option<Life> },
}

impl Opening {
    #[cold]
    pub fn new(body: InBody, headers: &HeaderMap) -> Box<Opening> {
        Box::new(Opening { body, has_key: headers.contains_key(websocket::KEY) })
    }
}

/// A request to an upstream of HTTP/1.1 needs what clients of HTTP/2 leave out (RFC 8441, section 5); and a CONNECT a
/// target that is none but its authority (RFC 9112, section 3.2.3).
#[cold]
pub fn complete(request: &mut Request<UploadBody>, upgrade: Upgrade, place: &Place<'_>) {
    if upgrade != Upgrade::Connect {
        return websocket::complete(request.headers_mut(), &mut place.loaded.core.borrow_mut());
    }
    let host = request.headers().get(header::HOST);
    if let Some(target) = host.and_then(|host| Uri::try_from(host.as_bytes()).ok()) {
        *request.uri_mut() = target;
    }
}

/// The end of a tunnel: a connection to an endpoint for what is in it.
pub async fn reach<A: Attendant>(
    attendant: &mut A,
    place: &Place<'_>,
    terminate: Terminate,
) -> Result<(Response<InBody>, Carrier), Interrupted> {
    let Place { loaded, cluster, endpoint, ends, .. } = *place;
    let failed = |stage, reason, is_replayable| {
        let (sent, is_reused) = (Sent::No, false);
        Interrupted::Failed(Failure { stage, reason, sent, is_reused, is_replayable })
    };
    let dialed = {
        let mut dialed = pin!(async {
            let mut wire = dial::dial_wire(loaded, cluster, endpoint, false, ends).await?;
            dial::introduce(&mut wire.conduit, terminate.proxy_protocol, Some(ends)).await?;
            Ok(wire)
        });
        poll_fn(|cx| match dialed.as_mut().poll(cx) {
            Poll::Ready(dialed) => Poll::Ready(Ok(dialed)),
            Poll::Pending => attendant.poll_asked(cx).map(Err),
        })
        .await
        .map_err(Interrupted::Asked)?
    };
    match dialed {
        Ok(wire) => {
            let stream_max = loaded.snapshot.cluster(cluster).limits.stream_duration_max;
            let connected = attendant.connected(wire.local, stream_max);
            connected.map_err(|reason| failed(Stage::Connect, reason, false))?;
            Ok((Response::new(InBody::Empty), Carrier::Raw(Box::new(wire))))
        }
        Err(DialFailure { stage, reason, text }) => {
            attendant.not_connected(text);
            Err(failed(stage, reason, true))
        }
    }
}

/// Asks an upstream of HTTP/2.
pub async fn ask<A: Attendant>(
    attendant: &mut A,
    outgoing: &mut Outgoing,
    stream: &Http2Stream,
    keeps_copy: bool,
    is_reused: bool,
    is_tls: bool,
) -> Result<Response<InBody>, Interrupted> {
    let mut client = stream.client();
    let mut asked = None;
    let mut watch = |cx: &mut std::task::Context<'_>| match attendant.poll_asked(cx) {
        Poll::Ready(action) => {
            asked = Some(action);
            Poll::Ready(())
        }
        Poll::Pending => Poll::Pending,
    };
    let is_extended = outgoing.upgrade == Upgrade::Asked;
    let is_taken = if is_extended { client.takes_extended(&mut watch).await } else { Some(true) };
    if let Some(action) = asked.take() {
        return Err(Interrupted::Asked(action));
    }
    if is_taken == Some(false) {
        attendant
            .not_connected("no_extended_connect: the upstream has not said that it takes any".to_owned());
        return Err(Interrupted::Failed(Failure {
            stage: Stage::Exchange,
            reason: Reason::UpstreamProtocol,
            sent: Sent::No,
            is_reused,
            is_replayable: false,
        }));
    }
    let mut request = outgoing.take_http2(None, keeps_copy, is_tls);
    let protocol = upgrade::to_extended_connect(request.headers_mut());
    let key = request.headers().get(websocket::KEY).cloned();
    *request.method_mut() = Method::CONNECT;
    if let Some(protocol) = &protocol {
        request.extensions_mut().insert(ExtendedConnect(protocol.clone()));
    }
    let interim = attendant.interim();
    let result = client
        .send(request, interim, |cx| match attendant.poll_asked(cx) {
            Poll::Ready(action) => {
                asked = Some(action);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
    match (result, asked) {
        (Ok(mut response), _) => {
            if let Some(protocol) = protocol {
                let status = response.status();
                let status = upgrade::granted_by_http2(status, &protocol, response.headers_mut());
                *response.status_mut() = status;
                websocket::accept(status, key.as_ref(), response.headers_mut());
            }
            Ok(response)
        }
        (Err(None), Some(action)) => Err(Interrupted::Asked(action)),
        (Err(failure), _) => Err(Interrupted::Failed(outgoing.take_back(None, failure, is_reused))),
    }
}

/// Tells a client that its connection, or its stream, speaks another protocol from here on, as its upstream's does.
#[cold]
pub fn change(mut passage: Box<Passage>, mut head: response::Parts) -> Result<Response<OutBody>, Broken> {
    let Some(Received { carrier, body, .. }) = passage.response.take() else { return Err(Broken) };
    let (upstream, held) = match (carrier, body) {
        (Carrier::Http1 { connection, .. }, _) => {
            (connection.client.take_conduit().ok_or(Broken)?, Held::Connection { _connection: connection })
        }
        (Carrier::Http2 { _stream }, InBody::Http2(body)) => {
            (Conduit::http2(Http2Tunnel::new(body)), Held::Stream { _stream })
        }
        (Carrier::Http2 { .. }, _) => return Err(Broken),
        (Carrier::Raw(wire), _) => (wire.conduit, Held::Life { _life: wire.life }),
    };
    // There is no more message whose length it could be.
    head.headers.remove(header::CONTENT_LENGTH);
    passage.tunnel = Some(Rc::default());
    let client = Rc::clone(&passage.connection);
    let opening = passage.opening.take();
    let waiting = Waiting::Upgraded { passage, upstream, held };
    let Some(opening) = opening else {
        client.waiting.replace(Some(Box::new(waiting)));
        return Ok(Response::from_parts(head, OutBody::Empty));
    };
    let Opening { body, has_key } = *opening;
    head.status = upgrade::grant_by_http2(head.status, &mut head.headers);
    if !has_key {
        head.headers.remove(websocket::ACCEPT);
    }
    Ok(Response::from_parts(head, OutBody::Changed(Box::new(Changed { client: body, waiting }))))
}
