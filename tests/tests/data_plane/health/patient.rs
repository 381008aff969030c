//! An upstream that is as well as a test says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_tests::{Authority, Outbound, Speaks};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The path that probes ask for; all others are answered 200, with the headers of [`Patient::say`].
pub const PATH: &str = "/healthz?deep=1";

pub struct Patient {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// `None` answers no probe.
    status: watch::Sender<Option<u16>>,
    headers: Mutex<Vec<(&'static str, &'static str)>>,
    seen: Mutex<Seen>,
}

/// What has come so far.
#[derive(Clone, Default)]
pub struct Seen {
    pub connections: u32,
    /// That have not ended.
    pub standing: u32,
    /// Heads of probes, and what they were answered.
    pub probes: Vec<(Parts, Option<u16>)>,
    pub requests: u32,
}

impl Seen {
    /// Probes with this answer.
    pub fn answered(&self, status: u16) -> usize {
        self.probes.iter().filter(|(_, answer)| *answer == Some(status)).count()
    }
}

impl Patient {
    pub async fn plain(status: Option<u16>) -> Patient {
        Patient::serve(status, Speaks::Http1, &Authority::new()).await
    }

    pub async fn serve(status: Option<u16>, speaks: Speaks, authority: &Authority) -> Patient {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            status: watch::Sender::new(status),
            headers: Mutex::default(),
            seen: Mutex::default(),
        });
        let terminator = speaks.is_tls().then(|| authority.terminator(&[speaks.alpn()]));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, terminator) = (Arc::clone(&shared), terminator.clone());
                tokio::spawn(async move {
                    state.seen.lock().unwrap().connections += 1;
                    state.seen.lock().unwrap().standing += 1;
                    match terminator {
                        None => serve_over(TokioIo::new(stream), speaks, &state).await,
                        Some(terminator) => {
                            if let Ok((stream, _)) = terminator.accept(stream).await {
                                serve_over(TokioIo::new(stream), speaks, &state).await;
                            }
                        }
                    }
                    state.seen.lock().unwrap().standing -= 1;
                });
            }
        });
        Patient { address, state }
    }

    /// Probes are answered with this from now on, also those that wait already.
    pub fn is(&self, status: Option<u16>) {
        self.state.status.send_replace(status);
    }

    /// Every answer has these headers from now on.
    pub fn say(&self, headers: &[(&'static str, &'static str)]) {
        *self.state.headers.lock().unwrap() = headers.to_vec();
    }

    pub fn seen(&self) -> Seen {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many probes came within this time.
    pub async fn probes_within(&self, time: Duration) -> usize {
        let before = self.seen().probes.len();
        tokio::time::sleep(time).await;
        self.seen().probes.len() - before
    }
}

async fn serve_over<I>(io: I, speaks: Speaks, state: &Arc<State>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let state = Arc::clone(state);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    // How a connection ends is for the other side to look at.
    if speaks.is_http2() {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

async fn answer<B>(state: &State, request: Request<B>) -> Response<Outbound> {
    let (parts, _) = request.into_parts();
    let mut response = Response::new(Outbound::sized("as told"));
    if parts.uri.path() == "/healthz" {
        let at = {
            let mut seen = state.seen.lock().unwrap();
            seen.probes.push((parts, None));
            seen.probes.len() - 1
        };
        let status = state.status.subscribe().wait_for(Option::is_some).await.unwrap().unwrap();
        state.seen.lock().unwrap().probes[at].1 = Some(status);
        *response.status_mut() = status.try_into().unwrap();
    } else {
        state.seen.lock().unwrap().requests += 1;
    }
    for (name, value) in state.headers.lock().unwrap().iter() {
        let header = (HeaderName::from_static(name), HeaderValue::from_static(value));
        response.headers_mut().append(header.0, header.1);
    }
    response
}
