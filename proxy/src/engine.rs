//! Carries out what a journey asks for.
//!
//! No decision is made here: every branch below answers an [`Action`] or reports an event.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use naru_base::{AttemptId, ClusterId, Instant, Reason};
use naru_journey::arrival::{Arrival, Wish, receive};
use naru_journey::door::CompiledDoor;
use naru_journey::edge::{Client, Upgrade};
use naru_journey::outgoing::Stamp;
use naru_journey::proxied::Ends;
use naru_journey::record::{Facts, RequestLine, fill_header};
use naru_journey::{
    Action, AttemptEvent, Cause, ChainId, Failure, Journey, Milestone, RequestFacts, Sent, Stage, edge,
    grpc_web, outgoing, reply, upgrade,
};
use naru_spec::{Format, Scheme, Terminate};

use crate::accept::Connection;
use crate::cluster::{EndpointHere, add};
use crate::codec::{ExtendedConnect, InBody, Interim, SendFailure};
use crate::dial::{self, Connected, Want};
use crate::grpc_web::{self as web, TextBody, Web};
use crate::loaded::Loaded;
use crate::sessions::{Met, Whose};
use crate::settle::{Broken, Carrier, OutBody, Passage, Received, grpc_status};
use crate::upgraded::{self, Opening};
use crate::upload::{Upload, UploadBody};
use crate::worker::Worker;
use crate::{cached, hedged, sessions, shadow, shaped, tunnel};

/// Answers one request.
pub async fn serve(
    connection: Rc<Connection>,
    request: Request<InBody>,
) -> Result<Response<OutBody>, Broken> {
    let (mut parts, body) = request.into_parts();
    if connection.loaded().renews {
        Box::pin(renew(&connection, &mut parts)).await;
    }
    let (mut passage, mut parts, scheme) = begin(&connection, parts, body);
    let first = passage.journey.next_action();
    match first {
        Some(Action::Reply(mut reason)) => {
            if passage.session.as_ref().is_some_and(|note| note.is_pending()) {
                reason = Box::pin(settle_session(&mut passage)).await;
            }
            let record = &passage.loaded.snapshot.chain(passage.journey.chain()).record;
            passage.kept_request = record.keep_request(&parts.headers);
            return Ok(answer(passage, reason, Some(&parts.headers)));
        }
        Some(Action::Open) => return tunnel::open(&connection, passage, parts),
        _ => {}
    }
    let mut outgoing = Outgoing {
        method: parts.method,
        target: passage.line.path.clone(),
        headers: Some(std::mem::take(&mut parts.headers)),
        copy: Vec::new(),
        scheme,
        upgrade: passage.client.upgrade,
        terminate: None,
        is_prepared: false,
    };
    if outgoing.upgrade == Upgrade::Connect {
        outgoing.terminate = passage.journey.terminate(&passage.loaded.snapshot);
    }
    forward(passage, outgoing, first).await
}

/// Answers a request that the codec could not read. `text` says what is wrong with it.
pub fn refuse(connection: &Rc<Connection>, reason: Reason, text: &'static str) -> Response<OutBody> {
    answer_saying(unreadable(connection, reason), reason, None, Some(text))
}

/// Counts and logs a request that the codec could not read, and has answered by itself.
pub fn record_unreadable(connection: &Rc<Connection>, reason: Reason) {
    let now = connection.worker.clock.now();
    let passage = unreadable(connection, reason);
    end_unanswered(passage, now, reason);
}

/// Counts and logs a connection of which nothing was read.
pub fn record_turned_away(connection: &Rc<Connection>, reason: Reason) {
    let now = connection.worker.clock.now();
    end_unanswered(without_request(connection, reason), now, reason);
}

fn end_unanswered(mut passage: Box<Passage>, now: Instant, reason: Reason) {
    passage.journey.on_reply(now, reason.status(), None);
    passage.journey.on_response_body(now, Milestone::End);
}

fn unreadable(connection: &Rc<Connection>, reason: Reason) -> Box<Passage> {
    add(&connection.worker.metrics.downstream.protocol_errors, 1);
    without_request(connection, reason)
}

fn without_request(connection: &Rc<Connection>, reason: Reason) -> Box<Passage> {
    let journey = Journey::refuse(connection.worker.clock.now(), connection.chain(), reason);
    let line = RequestLine::unreadable(&connection.peer);
    let client = Client::unknown(&connection.peer);
    Passage::new(connection, &connection.loaded(), journey, line, &client, None)
}

/// Takes a request in and asks the core about it.
#[inline]
fn begin(connection: &Rc<Connection>, mut parts: Parts, body: InBody) -> (Box<Passage>, Parts, Scheme) {
    let (loaded, chain) = (connection.loaded(), connection.chain());
    let http = &loaded.snapshot.chain(chain).http;
    let now = connection.worker.clock.now();
    if let Some(certified) = &connection.certified {
        certified.tell(http, &mut parts.headers);
    }
    let mut core = loaded.core.borrow_mut();
    let Arrival { line, mut client, wish } = receive(&mut parts, http, &connection.peer, &mut core);
    let call = if http.grpc_web { grpc_web::Call::of(&parts.headers) } else { None };
    client.is_grpc |= call.is_some();
    // What follows in a stream is no body of the request.
    let is_stream = client.upgrade != Upgrade::None && parts.version >= Version::HTTP_2;
    let has_ended = is_stream || body.is_end_stream();
    let facts = RequestFacts::of(&parts.method, &parts.headers, &client, has_ended);
    let draw = core.draw_request();
    let wish = match http.body_bytes_max {
        // It says itself that it is too large.
        Some(max) if body.size_hint().lower() > max && matches!(wish, Wish::Route | Wish::Upgrade) => {
            Wish::Refuse(Reason::BodyTooLarge)
        }
        _ => wish,
    };
    let wish = if connection.worker.strain.is_called_for() {
        relieved(connection, &loaded, &line, wish, draw)
    } else {
        wish
    };
    let wish = match &loaded.snapshot.chain(chain).door {
        None => wish,
        Some(door) => stopped(door, &loaded, &client, &mut parts.headers, wish),
    };
    let Met { wish, note, token } = match http.sessions.as_slice() {
        [] => Met { wish, note: None, token: None },
        _ => meet(&loaded, chain, now, connection, &line, &mut parts, wish),
    };
    let journey = match wish {
        Wish::Refuse(reason) => Journey::refuse(now, chain, reason),
        // A request for a tunnel has no body (RFC 9110, section 9.3.6).
        Wish::Tunnel | Wish::Upgrade if !facts.has_ended && parts.method == Method::CONNECT => {
            Journey::refuse(now, chain, Reason::ClientProtocol)
        }
        Wish::Tunnel => Journey::tunnel(now, chain),
        Wish::Route | Wish::Upgrade => Journey::begin(
            now,
            &loaded.snapshot,
            chain,
            &line.subject(&parts.headers, &client, draw),
            facts,
            &mut core,
            &loaded.clusters,
            &mut (),
        ),
    };
    if client.asks && !journey.is_at_gate() {
        naru_recover::consume(&mut parts.headers);
    }
    // Rules see what the client has said.
    let web = call.map(|call| Web::begin(call, &mut parts.headers));
    let body = if call.is_some_and(|call| call.is_text) { InBody::Text(TextBody::new(body)) } else { body };
    let mut opening = None;
    let upload = if is_stream {
        opening = Some(Opening::new(body, &parts.headers));
        None
    } else {
        (!facts.has_ended)
            .then(|| Upload::new(body, &connection.worker, http.request_pace, http.body_bytes_max))
    };
    let mut passage = Passage::new(connection, &loaded, journey, line, &client, upload);
    passage.opening = opening;
    passage.web = web;
    passage.session = note;
    if let Some(token) = token {
        passage.is_identified = true;
        passage.journey.know_session(token);
    }
    if http.always_set_request_id_in_response {
        passage.request_id = parts.headers.get(edge::X_REQUEST_ID).cloned();
    }
    (passage, parts, client.scheme)
}

/// What becomes of a request at the door.
#[cold]
fn stopped(
    door: &CompiledDoor,
    loaded: &Loaded,
    client: &Client,
    headers: &mut HeaderMap,
    wish: Wish,
) -> Wish {
    match wish {
        Wish::Refuse(_) => wish,
        Wish::Route | Wish::Upgrade | Wish::Tunnel => {
            let refused = door.meet(client.address.ip(), headers, &loaded.clusters);
            refused.map_or(wish, Wish::Refuse)
        }
    }
}

/// What sessions make of a request.
#[cold]
fn meet(
    loaded: &Loaded,
    chain: ChainId,
    now: Instant,
    connection: &Connection,
    line: &RequestLine,
    parts: &mut Parts,
    wish: Wish,
) -> Met {
    let here = match sessions::of(loaded, chain, line.authority.as_ref()) {
        Whose::These(here) => here,
        Whose::Nobodys => return Met { wish, note: None, token: None },
        // Nobody passes because nobody looks.
        Whose::Missing => {
            return Met { wish: Wish::Refuse(Reason::SessionStoreAway), note: None, token: None };
        }
    };
    let wall = connection.worker.clock.wall(now);
    let Parts { headers, extensions, .. } = parts;
    let (path, query) = (line.path.path(), line.path.query());
    let mut head = sessions::Head { method: &line.method, path, query, headers, extensions };
    here.meet(wall, &mut head, wish)
}

/// Has the token of a request refreshed before anybody looks at it, where that is asked for and needed.
async fn renew(connection: &Connection, parts: &mut Parts) {
    let loaded = connection.loaded();
    let Some(here) = sessions::renewing(&loaded, connection.chain(), parts) else { return };
    let wall = connection.worker.clock.wall(connection.worker.clock.now());
    here.renew(wall, parts).await;
}

/// Asks the store what is needed to answer.
async fn settle_session(passage: &mut Passage) -> Reason {
    let (worker, loaded) = (Rc::clone(&passage.worker), Rc::clone(&passage.loaded));
    let Some(note) = &mut passage.session else { return Reason::SessionAnswered };
    let reason = sessions::carry_out(note, &worker, &loaded).await;
    passage.journey.answer_for(reason);
    reason
}

/// What becomes of a request while the proxy itself runs short.
#[cold]
fn relieved(connection: &Connection, loaded: &Loaded, line: &RequestLine, wish: Wish, draw: u64) -> Wish {
    let strain = &connection.worker.strain;
    if strain.ends_connection(line.version == Version::HTTP_2, draw) {
        connection.give_up();
    }
    strain.weigh(wish, loaded.snapshot.overload.as_ref(), line.path.path(), draw)
}

/// The head of the request that goes to an upstream.
#[derive(Debug)]
pub struct Outgoing {
    pub method: Method,
    target: PathAndQuery,
    /// Absent while an attempt has them.
    pub headers: Option<HeaderMap>,
    /// The headers of an attempt that may have to be repeated; less than a map, as it is seldom needed.
    copy: Vec<(HeaderName, HeaderValue)>,
    scheme: Scheme,
    /// It asks for another protocol.
    pub upgrade: Upgrade,
    /// The tunnel that it asks for ends here.
    terminate: Option<Terminate>,
    is_prepared: bool,
}

/// Carries out actions until there is a response.
async fn forward(
    mut passage: Box<Passage>,
    mut outgoing: Outgoing,
    first: Option<Action>,
) -> Result<Response<OutBody>, Broken> {
    let mut next = first;
    loop {
        let action = match next.take().or_else(|| passage.journey.next_action()) {
            Some(action) => action,
            // It waits before the next attempt.
            None => poll_fn(|cx| passage.poll_watch(cx)).await,
        };
        match action {
            Action::Send { attempt, cluster, endpoint, cause } => {
                let Some(here) = passage.loaded.clusters.get(cluster).endpoint(endpoint) else {
                    return Err(Broken);
                };
                if passage.journey.may_hedge() && passage.session.is_none() {
                    return Box::pin(hedged::forward(passage, outgoing, action)).await;
                }
                passage.hold(cause, cluster, endpoint, &here);
                prepare(&mut passage, &mut outgoing, &here);
                shadow::copy(&mut passage, &outgoing, attempt);
                let is_fresh = cause == Cause::Replay;
                let (worker, loaded) = (Rc::clone(&passage.worker), Rc::clone(&passage.loaded));
                let ends = passage.ends();
                let place =
                    Place { worker: &worker, loaded: &loaded, cluster, endpoint: &here, is_fresh, ends };
                let mut alone = Alone { passage: &mut passage, attempt };
                match exchange(&mut alone, &mut outgoing, &place).await {
                    Ok((response, carrier)) => {
                        passage.receive(attempt, response, carrier, outgoing.can_be_repeated());
                    }
                    Err(Interrupted::Failed(failure)) => {
                        // A body that breaks off takes its attempt with it: the cause goes first.
                        passage.hear_upload();
                        passage.hear_attempt(attempt, AttemptEvent::Failed(failure));
                    }
                    Err(Interrupted::Asked(action)) => next = Some(action),
                }
            }
            Action::Check => {
                passage.hear_check(outgoing.headers.as_mut());
                // A token may have stood in it.
                outgoing.target = passage.line.path.clone();
            }
            Action::Ask => next = Box::pin(passage.ask()).await,
            Action::Wait { limit, queued } => match passage.wait_at(limit, queued).await {
                Some(action) => next = Some(action),
                None => passage.hear_turn(),
            },
            Action::Look => passage.hear_turn(),
            Action::Lookup if passage.cached.is_some() => {
                next = Box::pin(cached::go_on(&mut passage, &mut outgoing)).await;
            }
            Action::Lookup => next = Box::pin(cached::look_up(&mut passage, &mut outgoing)).await,
            Action::Locate { cluster } => next = passage.locate(cluster).await,
            Action::Forward { .. } if passage.web.is_some() => {
                return Box::pin(web::pass_on(passage)).await;
            }
            Action::Forward { .. } if passage.session.is_some() => {
                return Box::pin(sessions::pass_on(passage)).await;
            }
            Action::Forward { .. } => return pass_on(passage),
            // An attempt lives in the call that waits for it, and ends with it; a response may be there.
            Action::Cancel { .. } => passage.leave_response(),
            Action::Due => passage.hear_due(outgoing.can_be_repeated()),
            // What a tunnel asks for is done in `tunnel.rs`.
            Action::Open | Action::Reach { .. } => return Err(Broken),
            Action::Reply(reason) => {
                // It waited, and went nowhere.
                let unsent = outgoing.headers.as_ref().filter(|_| !outgoing.is_prepared);
                if let Some(headers) = unsent {
                    let record = &passage.loaded.snapshot.chain(passage.journey.chain()).record;
                    passage.kept_request = record.keep_request(headers);
                }
                return Ok(answer(passage, reason, unsent));
            }
            Action::Break(_) => return Err(Broken),
        }
    }
}

/// Applies the rule to the head of the request: once, but for the name of an endpoint, which is another one for
/// another endpoint.
pub fn prepare(passage: &mut Passage, outgoing: &mut Outgoing, endpoint: &EndpointHere) {
    if std::mem::replace(&mut outgoing.is_prepared, true) {
        return prepare_again(passage, outgoing, endpoint);
    }
    let Some(headers) = &mut outgoing.headers else { return };
    let snapshot = &passage.loaded.snapshot;
    let shared = endpoint.shared();
    let known = &*passage;
    let mut fill_in = |request: &HeaderMap, format: &Format, out: &mut Vec<u8>| {
        fill_header(format, &Facts { request, upstream: None, ..known.facts(None) }, out);
    };
    let now = passage.worker.clock.now();
    let is_rewritten = outgoing::request(
        now,
        snapshot,
        &passage.journey,
        headers,
        &mut outgoing.target,
        Some(&*shared.host_name).filter(|name| !name.is_empty()),
        &mut fill_in,
    );
    let kept = snapshot.chain(passage.journey.chain()).record.keep_request(headers);
    passage.sent_at = Some(now);
    passage.kept_request = kept;
    if is_rewritten {
        passage.line.path = outgoing.target.clone();
        passage.line.authority = headers.get(header::HOST).cloned();
    }
}

#[cold]
fn prepare_again(passage: &mut Passage, outgoing: &mut Outgoing, endpoint: &EndpointHere) {
    let shared = endpoint.shared();
    if outgoing.headers.is_none() && !outgoing.copy.is_empty() {
        outgoing.headers = Some(outgoing.copy.drain(..).collect());
    }
    if let Some(headers) = &mut outgoing.headers {
        naru_recover::layer::tell_upstream(headers, passage.journey.retries());
        let now = passage.worker.clock.now();
        outgoing::tell_time(now, &passage.loaded.snapshot, &passage.journey, headers);
    }
    if let Some(headers) = &mut outgoing.headers
        && outgoing::rename(&passage.loaded.snapshot, &passage.journey, headers, &shared.host_name)
    {
        passage.line.authority = headers.get(header::HOST).cloned();
    }
}

/// Why an attempt has no response.
pub enum Interrupted {
    Failed(Failure),
    /// The journey wants something else.
    Asked(Action),
}

/// Who waits for an exchange.
pub trait Attendant {
    /// Ready once the exchange is to be given up.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Action>;

    /// There is a connection.
    ///
    /// # Errors
    /// The cluster has no room for the request.
    fn connected(&mut self, local: Option<SocketAddr>, stream_max: Option<Duration>) -> Result<(), Reason>;

    fn not_connected(&mut self, text: String);

    fn upload(&self) -> Option<&Rc<Upload>>;

    fn speaks_http2(&self) -> bool;

    /// Where interim responses go.
    fn interim(&self) -> Option<Interim> {
        None
    }

    /// Whether a copy of the head is kept, of a request on a connection that `is_reused` by it.
    fn keeps_copy(&self, is_reused: bool, method: &Method) -> bool;
}

/// An attempt of the one kind that most requests have: it is waited for alone.
struct Alone<'a> {
    passage: &'a mut Passage,
    attempt: AttemptId,
}

impl Attendant for Alone<'_> {
    #[inline]
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        self.passage.poll_watch(cx)
    }

    #[inline]
    fn connected(&mut self, local: Option<SocketAddr>, stream_max: Option<Duration>) -> Result<(), Reason> {
        self.passage.count_sent()?;
        self.passage.upstream_local = local;
        self.passage.hear_connected(self.attempt, stream_max);
        Ok(())
    }

    fn not_connected(&mut self, text: String) {
        self.passage.upstream_failure = Some(text).filter(|text| !text.is_empty());
    }

    #[inline]
    fn upload(&self) -> Option<&Rc<Upload>> {
        self.passage.upload.as_ref()
    }

    #[inline]
    fn speaks_http2(&self) -> bool {
        self.passage.line.version >= Version::HTTP_2
    }

    // HTTP/1.0 has none.
    #[inline]
    fn interim(&self) -> Option<Interim> {
        let is_known = self.passage.line.version != Version::HTTP_10;
        is_known.then(|| self.passage.connection.interim.borrow().clone())?
    }

    // A request on a connection that served others may have to be sent again (RFC 9112, 9.3.1).
    #[inline]
    fn keeps_copy(&self, is_reused: bool, method: &Method) -> bool {
        is_reused && method.is_idempotent() || self.passage.journey.may_retry()
    }
}

/// Where an attempt is made.
pub struct Place<'a> {
    pub worker: &'a Rc<Worker>,
    pub loaded: &'a Rc<Loaded>,
    pub cluster: ClusterId,
    pub endpoint: &'a Rc<EndpointHere>,
    /// On a connection that no request was sent on yet.
    pub is_fresh: bool,
    pub ends: Ends,
}

/// One attempt, up to the head of its response.
#[inline]
pub async fn exchange<A: Attendant>(
    attendant: &mut A,
    outgoing: &mut Outgoing,
    place: &Place<'_>,
) -> Result<(Response<InBody>, Carrier), Interrupted> {
    let Place { worker, loaded, cluster, endpoint, is_fresh, ends } = *place;
    let settings = loaded.snapshot.cluster(cluster);
    let mut want = Want::of(settings.protocol, attendant.speaks_http2());
    if outgoing.upgrade != Upgrade::None {
        if let Some(terminate) = outgoing.terminate {
            // It is boxed so that those without one need no room for it.
            return Box::pin(upgraded::reach(attendant, place, terminate)).await;
        }
        // Where both may be it is the one that all upstreams know it by.
        want = if want == Want::Http2 { want } else { Want::Http1 };
    }
    let waiting = if is_fresh { None } else { dial::take_from_pool(worker, endpoint, want, settings) };
    let (connected, is_reused) = match waiting {
        Some(connected) => (connected, true),
        None => {
            let mut dial = pin!(dial::dial(worker, loaded, cluster, endpoint, want, is_fresh, Some(ends)));
            let result = poll_fn(|cx| match dial.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => attendant.poll_asked(cx).map(Err),
            })
            .await
            .map_err(Interrupted::Asked)?;
            match result {
                Ok(connected) => connected,
                Err(failure) => {
                    attendant.not_connected(failure.text);
                    return Err(Interrupted::Failed(Failure {
                        stage: failure.stage,
                        reason: failure.reason,
                        sent: Sent::No,
                        is_reused: false,
                        is_replayable: true,
                    }));
                }
            }
        }
    };
    let local = match &connected {
        Connected::Http1(connection) => connection.local,
        Connected::Http2(stream) => stream.local(),
    };
    if let Err(reason) = attendant.connected(local, settings.limits.stream_duration_max) {
        // The connection is for the next one.
        if let Connected::Http1(connection) = connected {
            endpoint.pool.put_http1(connection, worker.clock.now(), settings);
            worker.look_after_pools();
        }
        return Err(Interrupted::Failed(Failure {
            stage: Stage::Connect,
            reason,
            sent: Sent::No,
            is_reused: false,
            is_replayable: false,
        }));
    }
    let keeps_copy = attendant.keeps_copy(is_reused, &outgoing.method);
    let mut asked = None;
    let result = match connected {
        Connected::Http1(mut connection) => {
            connection.requests += 1;
            let interim = attendant.interim();
            let mut request = outgoing.take_http1(attendant.upload(), keeps_copy);
            if outgoing.upgrade != Upgrade::None {
                upgraded::complete(&mut request, outgoing.upgrade, place);
            }
            let result = connection
                .client
                .send(request, interim, |cx| attendant.poll_asked(cx).map(|action| asked = Some(action)))
                .await;
            let endpoint = Rc::clone(endpoint);
            result.map(|response| (response, Carrier::Http1 { connection, endpoint, cluster }))
        }
        Connected::Http2(stream) if outgoing.upgrade != Upgrade::None => {
            let is_tls = settings.tls.is_some();
            let asked = upgraded::ask(attendant, outgoing, &stream, keeps_copy, is_reused, is_tls);
            let response = Box::pin(asked).await?;
            return Ok((response, Carrier::Http2 { _stream: stream }));
        }
        Connected::Http2(stream) => {
            let is_tls = settings.tls.is_some();
            let request = outgoing.take_http2(attendant.upload(), keeps_copy, is_tls);
            let mut client = stream.client();
            let interim = attendant.interim();
            let result = client
                .send(request, interim, |cx| attendant.poll_asked(cx).map(|action| asked = Some(action)))
                .await;
            result.map(|response| (response, Carrier::Http2 { _stream: stream }))
        }
    };
    match (result, asked) {
        (Ok(answered), _) => Ok(answered),
        (Err(None), Some(action)) => Err(Interrupted::Asked(action)),
        (Err(failure), _) => {
            Err(Interrupted::Failed(outgoing.take_back(attendant.upload(), failure, is_reused)))
        }
    }
}

impl Outgoing {
    /// Of a GET that is made once more, without its client.
    pub fn of_refresh(passage: &Passage, headers: HeaderMap) -> Outgoing {
        Outgoing {
            method: Method::GET,
            target: passage.line.path.clone(),
            headers: Some(headers),
            copy: Vec::new(),
            scheme: passage.client.scheme,
            upgrade: Upgrade::None,
            terminate: None,
            is_prepared: false,
        }
    }

    /// The same with other headers.
    pub fn with_headers(&self, headers: HeaderMap) -> Outgoing {
        Outgoing {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: Some(headers),
            copy: Vec::new(),
            scheme: self.scheme,
            upgrade: self.upgrade,
            terminate: self.terminate,
            is_prepared: true,
        }
    }

    fn take_headers(&mut self, keep_copy: bool) -> HeaderMap {
        let headers = self.headers.take().unwrap_or_else(|| self.copy.drain(..).collect());
        if keep_copy {
            self.copy.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        headers
    }

    pub fn take_http1(&mut self, upload: Option<&Rc<Upload>>, keep_copy: bool) -> Request<UploadBody> {
        let mut request = Request::new(UploadBody::of(upload));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.take_headers(keep_copy);
        request
    }

    pub fn take_http2(
        &mut self,
        upload: Option<&Rc<Upload>>,
        keep_copy: bool,
        is_tls: bool,
    ) -> Request<UploadBody> {
        let mut request = Request::new(UploadBody::of(upload));
        let mut headers = self.take_headers(keep_copy);
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target.clone());
        // A host that is no authority stays a header, which HTTP/2 allows.
        let authority = headers
            .get(header::HOST)
            .and_then(|host| Authority::from_maybe_shared(Bytes::copy_from_slice(host.as_bytes())).ok());
        if authority.is_some() {
            headers.remove(header::HOST);
            let scheme = if is_tls { Scheme::Https } else { self.scheme };
            uri.scheme = http::uri::Scheme::try_from(scheme.as_str()).ok();
            uri.authority = authority;
        }
        *request.method_mut() = self.method.clone();
        // Parts that were each read as such make a whole.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| Uri::from(self.target.clone()));
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        request
    }

    /// One for an attempt beside others.
    pub fn copy(&self) -> Outgoing {
        self.with_headers(self.headers.clone().unwrap_or_default())
    }

    /// Whether the head is here, or a copy of it.
    pub fn can_be_repeated(&self) -> bool {
        self.headers.is_some() || !self.copy.is_empty()
    }

    /// Takes the head back from an attempt that did not send it, and says what the journey is to know.
    pub fn take_back(
        &mut self,
        upload: Option<&Rc<Upload>>,
        failure: Option<SendFailure>,
        is_reused: bool,
    ) -> Failure {
        let (reason, sent) = match failure {
            Some(SendFailure { reason, sent, request }) => {
                if let Some(request) = request
                    && self.headers.is_none()
                {
                    let (parts, _) = request.into_parts();
                    let mut headers = parts.headers;
                    if let Some(authority) = parts.uri.authority()
                        && let Ok(host) = HeaderValue::from_str(authority.as_str())
                    {
                        headers.insert(header::HOST, host);
                    }
                    if let Some(ExtendedConnect(protocol)) = parts.extensions.get() {
                        upgrade::from_extended_connect(protocol, &mut headers);
                    }
                    self.headers = Some(headers);
                }
                (reason, sent)
            }
            None => (Reason::UpstreamClosed, Sent::Maybe),
        };
        let has_whole_body = upload.is_none_or(|upload| upload.is_replayable());
        let is_replayable = self.can_be_repeated() && has_whole_body;
        Failure { stage: Stage::Exchange, reason, sent, is_reused, is_replayable }
    }
}

impl Passage {
    /// Keeps a response until it is passed on, or left, and tells the journey of it.
    #[inline]
    pub fn receive(
        &mut self,
        attempt: AttemptId,
        response: Response<InBody>,
        carrier: Carrier,
        can_be_repeated: bool,
    ) {
        let (head, body) = response.into_parts();
        self.hear_health(&head.headers);
        if let Some(cached) = &mut self.cached {
            cached.hear_answer(head.status.as_u16(), &head.headers);
        }
        let (status, has_ended) = (head.status.as_u16(), body.is_end_stream());
        if has_ended && let Some(status) = grpc_status(&head.headers) {
            self.journey.on_grpc_status(status);
        }
        self.response = Some(Received { head: Some(head), body, carrier });
        self.hear_head(attempt, status, has_ended, can_be_repeated);
    }
}

/// Passes an upstream's response on.
pub fn pass_on(mut passage: Box<Passage>) -> Result<Response<OutBody>, Broken> {
    let head = passage.response.as_mut().and_then(|received| received.head.take());
    pass_head_on(passage, head.ok_or(Broken)?)
}

/// The same, where this is its head.
#[inline]
pub fn pass_head_on(
    mut passage: Box<Passage>,
    mut parts: http::response::Parts,
) -> Result<Response<OutBody>, Broken> {
    // Nothing of the request will be sent again.
    if let Some(upload) = &passage.upload {
        upload.forget();
    }
    let now = passage.worker.clock.now();
    let sent = passage.sent_at.unwrap_or(now);
    if let Some(hearing) = &mut passage.hearing {
        let has_ended = passage.response.as_ref().is_some_and(|received| received.body.is_end_stream());
        hearing.hear_head(parts.status.as_u16(), &parts.headers, now.since(sent), has_ended);
    }
    if passage.cached.is_some() {
        let told = cached::on_head(&mut passage, &parts);
        cached::tell(&mut parts.headers, told);
    }
    let date = passage.worker.clock.date();
    if let Some(note) = &passage.session {
        note.dress(&mut parts.headers);
    }
    let mut fill_in = |response: &HeaderMap, format: &Format, out: &mut Vec<u8>| {
        let so_far = passage.journey.so_far(now);
        fill_header(format, &Facts { response, ..passage.facts(Some(&so_far)) }, out);
    };
    outgoing::response(
        &passage.loaded.snapshot,
        &passage.journey,
        &mut parts.headers,
        sent,
        now,
        Stamp { request_id: passage.request_id.as_ref(), date: &date },
        &mut fill_in,
    );
    if let Some(note) = &passage.session {
        note.expose(&mut parts.headers);
    }
    if passage.journey.binds_client(&passage.loaded.snapshot) {
        let core = passage.loaded.core.borrow();
        passage.journey.bind_client(&passage.loaded.snapshot, &core, &mut parts.headers);
    }
    if passage.journey.bodies().is_some() {
        shaped::pass_on(&mut passage, &mut parts);
    }
    let kept = passage.loaded.snapshot.chain(passage.journey.chain()).record.keep_response(&parts.headers);
    passage.kept_response = kept;
    parts.version = Version::HTTP_11;
    if passage.journey.is_upgraded() {
        return upgraded::change(passage, parts);
    }
    Ok(Response::from_parts(parts, OutBody::passing(passage)))
}

/// Answers in the proxy's own name. The headers of the request are given where they are still there.
pub fn answer(passage: Box<Passage>, reason: Reason, headers: Option<&HeaderMap>) -> Response<OutBody> {
    if reason.is_cached() {
        return cached::answer(passage, reason)
            .unwrap_or_else(|passage| answer_saying(passage, Reason::NoHealthyUpstream, None, None));
    }
    answer_saying(passage, reason, headers, None)
}

/// Carries out a request that nobody waits for but the cache.
pub async fn refresh(passage: Box<Passage>, outgoing: Outgoing) {
    let Ok(response) = forward(passage, outgoing, None).await else { return };
    let mut body = pin!(response.into_body());
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
}

fn answer_saying(
    mut passage: Box<Passage>,
    reason: Reason,
    headers: Option<&HeaderMap>,
    text: Option<&'static str>,
) -> Response<OutBody> {
    // Its answer needs nothing that is limited.
    passage.leave(passage.worker.clock.now());
    let date = passage.worker.clock.date();
    let subject = headers.map(|headers| passage.line.subject(headers, &passage.client, 0));
    let now = passage.worker.clock.now();
    let mut fill_in = |response: &HeaderMap, format: &Format, out: &mut Vec<u8>| {
        let so_far = passage.journey.so_far(now);
        fill_header(format, &Facts { response, ..passage.facts(Some(&so_far)) }, out);
    };
    let mut reply = reply::compose(
        &passage.loaded.snapshot,
        &passage.journey,
        reason,
        subject.as_ref(),
        passage.client.is_grpc && passage.web.is_none(),
        Stamp { request_id: passage.request_id.as_ref(), date: &date },
        &mut fill_in,
    );
    if let Some(note) = &mut passage.session {
        note.dress_reply(&mut reply);
    }
    if let Some(web) = &passage.web {
        reply.to_web(web.call);
    }
    passage.journey.on_reply(now, reply.status.as_u16(), reply.grpc_status);
    passage.kept_response =
        passage.loaded.snapshot.chain(passage.journey.chain()).record.keep_response(&reply.headers);
    let mut headers = reply.headers;
    let said = match text {
        Some(text) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Bytes::from_static(text.as_bytes())
        }
        None => reply.body,
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(said.len()));
    // Who says what is no request may mean something else by what follows.
    if matches!(reason, Reason::BadHost | Reason::ClientProtocol | Reason::HeadTooLarge)
        && passage.line.version < Version::HTTP_2
    {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if passage.file.is_some() || passage.journey.bodies().is_some() {
        return shaped::answer(passage, reply.status, headers, said);
    }
    let is_head = passage.line.method == Method::HEAD;
    let body = if is_head { Bytes::new() } else { said };
    let mut response = Response::new(OutBody::whole(body, passage));
    *response.status_mut() = reply.status;
    *response.headers_mut() = headers;
    response
}
