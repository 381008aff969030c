//! How do proxies connect, and what may they cost?
//!
//! HTTP/2, by TLS where there are keys (`door.rs`). A connection that does not answer is closed; a stream that says
//! nothing at its beginning is ended; requests beyond a rate wait, and so do new streams.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use naru_base::Instant;
use naru_xds::discovery::{DELTA, STATE_OF_THE_WORLD};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};

use crate::body::{Code, End, Out, Responses, pieces};
use crate::door::{Door, Shown};
use crate::hub::{Gone, Hub, Proxy, lock};
use crate::joining::{Joining, Wish};
use crate::node::{self, DEFAULT_ACCOUNT};
use crate::requests::{Broken, Heard, Requests};
use crate::stream::{Mode, Stream};

const CONNECTIONS_MAX: usize = 10_000;
const STREAMS_PER_CONNECTION: u32 = 100;
/// Until a stream says who it is.
const FIRST_REQUEST: Duration = Duration::from_secs(15);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests of one stream.
const REQUESTS: Rate = Rate { burst: 1_000, every: Duration::from_millis(5) };
/// New streams of all.
const STREAMS: Rate = Rate { burst: 2_000, every: Duration::from_millis(2) };

pub(crate) async fn serve(listener: std::net::TcpListener, hub: Arc<Hub>, door: Option<Arc<Door>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return naru_say::say!("error: the xDS server cannot listen: {error}"),
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let pace = Arc::new(Mutex::new(Pace::new(STREAMS)));
    loop {
        // Closed with the process only.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small and waited for.
        let _ = socket.set_nodelay(true);
        let guest = Guest { hub: Arc::clone(&hub), pace: Arc::clone(&pace), peer, shown: Arc::default() };
        let door = door.clone();
        tokio::spawn(async move {
            match door {
                None => guest.converse(socket).await,
                Some(door) => match door.open(socket).await {
                    Ok((stream, shown)) => {
                        Guest { shown: Arc::new(shown), ..guest }.converse(stream).await;
                    }
                    Err(why) => {
                        let (id, agent, at) = (String::new(), String::new(), guest.hub.clock.now());
                        guest.hub.tell_gone(Gone { id, agent, peer, at, why });
                    }
                },
            }
            drop(place);
        });
    }
}

/// Somebody who has connected.
struct Guest {
    hub: Arc<Hub>,
    pace: Arc<Mutex<Pace>>,
    peer: SocketAddr,
    shown: Arc<Shown>,
}

impl Guest {
    /// Until the connection is over.
    async fn converse<IO>(self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let answer = answer(&self, request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // A connection that breaks is told by what breaks with it.
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .max_header_list_size(16 << 10)
            .serve_connection(TokioIo::new(io), service)
            .await;
    }
}

fn answer(guest: &Guest, request: Request<Incoming>) -> Response<Responses> {
    let mode = match request.uri().path() {
        STATE_OF_THE_WORLD => Mode::StateOfTheWorld,
        DELTA => Mode::Delta,
        other => {
            let end = End::new(Code::Unimplemented, format!("there is no method '{other}' here"));
            return only(&end);
        }
    };
    let content = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
    if request.method() != Method::POST || !is_grpc {
        let mut response = Response::new(Responses::none());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let (tx, responses) = Responses::new();
    let carried = Carried {
        hub: Arc::clone(&guest.hub),
        pace: Arc::clone(&guest.pace),
        peer: guest.peer,
        shown: Arc::clone(&guest.shown),
        mode,
        tx,
    };
    tokio::spawn(carried.run(Requests::new(mode, request.into_body())));
    let mut response = Response::new(responses);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An end, and nothing before it.
fn only(end: &End) -> Response<Responses> {
    let mut response = Response::new(Responses::none());
    *response.headers_mut() = end.headers();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// One stream.
struct Carried {
    hub: Arc<Hub>,
    pace: Arc<Mutex<Pace>>,
    peer: SocketAddr,
    shown: Arc<Shown>,
    mode: Mode,
    tx: mpsc::Sender<Out>,
}

impl Carried {
    async fn run(self, mut requests: Requests<Incoming>) {
        let mut names = (String::new(), String::new());
        let end = self.carry(&mut requests, &mut names).await;
        let (id, agent) = names;
        let why = match end {
            Ok(()) => "it has ended".to_owned(),
            Err(End { message, .. }) if message.is_empty() => "the connection is gone".to_owned(),
            Err(end) => {
                let why = end.message.clone();
                // Whoever is gone is told nothing.
                let _ = self.tx.send(Out::End(end)).await;
                why
            }
        };
        if why != "it has ended" {
            let at = self.hub.clock.now();
            self.hub.tell_gone(Gone { id, agent, peer: self.peer, at, why });
        }
    }

    /// Until the proxy ends it, which is no error.
    async fn carry(
        &self,
        requests: &mut Requests<Incoming>,
        names: &mut (String, String),
    ) -> Result<(), End> {
        let first = tokio::time::timeout(FIRST_REQUEST, requests.next());
        let Heard { node, asked } = match first.await {
            Ok(heard) => match heard.map_err(end_of)? {
                Some(heard) => heard,
                None => return Ok(()),
            },
            Err(_) => return Err(End::new(Code::DeadlineExceeded, "nothing was asked")),
        };
        let node = node.ok_or_else(|| End::new(Code::InvalidArgument, "the first request says its node"))?;
        let (identity, mut role) =
            node::read(&node).map_err(|message| End::new(Code::InvalidArgument, message))?;
        // Of a state of the world nobody would know which of them are gone.
        role.is_by_host &= self.mode == Mode::Delta;
        *names = (identity.id.clone(), identity.agent.clone());
        if role.account.is_empty() {
            role.account = self.shown.account(&role.namespace).unwrap_or_default().to_owned();
        }
        let account = if role.account.is_empty() { DEFAULT_ACCOUNT } else { &role.account };
        let checked = self.shown.check(&identity.id, &role.namespace, account);
        checked.map_err(|message| End::new(Code::PermissionDenied, message))?;
        // Many that come at once are let in one after another.
        let turn = lock(&self.pace).turn(self.hub.clock.now());
        self.hub.clock.until(Some(turn)).await;
        let wish = Wish::of(&node, &role.namespace, self.peer.ip());
        let wish = wish.map_err(|message| End::new(Code::InvalidArgument, message))?;
        let own = role.labels.clone();
        let said = role.account.clone();
        if let Some(wish) = &wish {
            // Who joins a group is a workload with its labels.
            role.labels = self.hub.joining.labels(wish, &own).await?;
            let account = self.hub.joining.account(wish, &role.account)?;
            role.account = account.unwrap_or(role.account);
        }
        if self.shown.hides_account(&role.namespace) {
            role.account.clear();
        } else if role.account.is_empty() {
            DEFAULT_ACCOUNT.clone_into(&mut role.account);
        }
        let following = self.hub.follow(&role);
        let following =
            following.ok_or_else(|| End::new(Code::ResourceExhausted, "too many kinds of nodes"))?;
        let mut changes = self.hub.changes();
        let view = loop {
            let given = following.given();
            match (given.view, given.refused) {
                (Some(view), _) => break view,
                (None, Some(why)) => return Err(End::new(Code::FailedPrecondition, why)),
                (None, None) => {}
            }
            tokio::select! {
                () = self.tx.closed() => return Err(gone()),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
        };
        let joined =
            wish.clone().map(|wish| Joining::join(&self.hub, wish, identity.id.clone(), own.clone()));
        let _joined = joined.transpose()?;
        let proxy = Arc::new(Proxy {
            identity,
            role,
            peer: self.peer,
            shown: self.shown.names.clone(),
            connected_at: self.hub.clock.now(),
            stream: Mutex::new(Stream::new(self.mode, view)),
            bytes_sent: AtomicU64::new(0),
        });
        let _listed = self.hub.list(Arc::clone(&proxy));
        let mut pace = Pace::new(REQUESTS);
        let mut next = Some(asked);
        loop {
            if let Some(asked) = next.take().flatten() {
                let now = self.hub.clock.now();
                let heard = lock(&proxy.stream).on_request(now, asked);
                heard.map_err(|_| End::new(Code::ResourceExhausted, "too many resources are asked for"))?;
                let turn = pace.turn(now);
                self.hub.clock.until(Some(turn)).await;
            }
            let deadline = self.send(&proxy).await?;
            tokio::select! {
                biased;
                () = self.tx.closed() => return Err(gone()),
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.is_labelled_so(wish.as_ref(), &own, &proxy)?;
                    self.is_called_so(wish.as_ref(), &said, &proxy)?;
                    if let Some(view) = following.given().view {
                        lock(&proxy.stream).on_view(view);
                    }
                }
                heard = requests.next() => match heard.map_err(end_of)? {
                    Some(heard) => next = Some(heard.asked),
                    None => return Ok(()),
                },
                () = self.hub.clock.until(deadline) => {}
            }
        }
    }

    /// What a node is given is decided by its labels, which may be others when those of its group are: it comes again then.
    /// Where the group is gone, it stays as it is, and is called by nobody.
    fn is_labelled_so(
        &self,
        wish: Option<&Wish>,
        own: &[(String, String)],
        proxy: &Proxy,
    ) -> Result<(), End> {
        let Some(wish) = wish else { return Ok(()) };
        match self.hub.joining.admits(wish, own) {
            Ok(Some(labels)) if labels != proxy.role.labels => Err(End::new(
                Code::Unavailable,
                "the labels of its WorkloadGroup are others: it is to come again",
            )),
            _ => Ok(()),
        }
    }

    /// The same of who it is to others.
    fn is_called_so(&self, wish: Option<&Wish>, said: &str, proxy: &Proxy) -> Result<(), End> {
        let Some(wish) = wish else { return Ok(()) };
        let of_group = self.hub.joining.account(wish, said)?;
        match of_group {
            Some(of_group) if !proxy.role.account.is_empty() && of_group != proxy.role.account => {
                Err(End::new(
                    Code::Unavailable,
                    "the service account of its WorkloadGroup is another: it is to come again",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Everything that is to be sent. Says when there may be more though nothing happens.
    async fn send(&self, proxy: &Proxy) -> Result<Option<Instant>, End> {
        loop {
            // One that takes nothing is asked nothing, and is sent one response at most.
            let Ok(room) = self.tx.reserve().await else { return Err(gone()) };
            let now = self.hub.clock.now();
            let mut stream = lock(&proxy.stream);
            let Some(response) = stream.next(now) else { return Ok(stream.deadline(now)) };
            drop(stream);
            let pieces = pieces(&response);
            let bytes: usize = pieces.iter().map(bytes::Bytes::len).sum();
            proxy.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
            room.send(Out::Pieces(pieces));
        }
    }
}

fn gone() -> End {
    End::new(Code::Ok, "")
}

fn end_of(broken: Broken) -> End {
    match broken {
        Broken::Framed(naru_xds::discovery::Framed::Compressed) => {
            End::new(Code::Unimplemented, "compressed messages are not read")
        }
        Broken::Framed(naru_xds::discovery::Framed::TooLarge) => {
            End::new(Code::ResourceExhausted, "the message is too large")
        }
        Broken::Foreign => End::new(Code::InvalidArgument, "this is no discovery request"),
        Broken::Lost => gone(),
    }
}

/// So many at once, and one more after each `every`.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Who comes when (GCRA).
#[derive(Debug)]
struct Pace {
    rate: Rate,
    /// When the last one would have come, had they all come at the rate.
    due: Instant,
}

impl Pace {
    fn new(rate: Rate) -> Pace {
        Pace { rate, due: Instant::ZERO }
    }

    /// When it is the turn of one who comes now.
    fn turn(&mut self, now: Instant) -> Instant {
        let due = self.due.max(now);
        self.due = due + self.rate.every;
        now.max(due - self.rate.every * self.rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_base::Instant;

    use super::{Pace, Rate};

    #[test]
    fn a_crowd_comes_in_at_once_as_far_as_the_burst_and_then_one_by_one() {
        let mut pace = Pace::new(Rate { burst: 3, every: Duration::from_secs(1) });
        let now = Instant::ZERO + Duration::from_secs(100);
        let turns: Vec<u64> = (0..6).map(|_| pace.turn(now).since(now).as_secs()).collect();
        assert_eq!(turns, [0, 0, 0, 0, 1, 2]);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.turn(later), later);
    }
}
