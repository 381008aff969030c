//! How is an etcd asked? gRPC over HTTP/2, plain or by TLS, on a connection of its own.
//!
//! Sources: "gRPC over HTTP2" of gRPC; etcd's API guide: `token` and `hasleader` among the headers.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use naru_etcd::proto::{AuthenticateRequest, AuthenticateResponse, RangeResponse};
use naru_etcd::{Keys, Misframed, TooMuch, Unframer, VALUE_BYTES_MAX, framed, method, name_of};
use naru_spec::{Certificate, DataSource, PeerTests, SanKind, SanMatch, StringMatch, UpstreamTls};
use naru_tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Endpoint, Settings};

/// A connection, TLS and a login.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer. Etcd itself gives up after 7 s where the cluster has no majority.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// One that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIME_MAX: Duration = Duration::from_secs(10);
/// What is not read yet of a stream.
const WINDOW: u32 = 1 << 20;
/// Of one message: the largest value, with what is around it.
const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX + (1 << 20);
/// Keys of one page; fewer where they are large.
const PAGE_KEYS: i64 = 512;
/// Of what an etcd says of a failure.
const REASON_CHARS_MAX: usize = 500;

/// Why something cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// What is to be read on this side cannot be: a certificate, a password.
    Ours(String),
    /// Nobody is reached, or not any more.
    Lost(String),
    /// It refuses, with a code of gRPC.
    Refused {
        code: u32,
        why: String,
    },
    /// A message has more bytes than are taken.
    TooLarge,
    TooMuch(TooMuch),
    /// It is no etcd.
    Foreign(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Ours(why) | Trouble::Lost(why) | Trouble::Foreign(why) => f.write_str(why),
            Trouble::Refused { code, why } if why.is_empty() => write!(f, "it refuses (gRPC status {code})"),
            Trouble::Refused { why, .. } => f.write_str(why),
            Trouble::TooLarge => write!(f, "a message has more than {MESSAGE_BYTES_MAX} bytes"),
            Trouble::TooMuch(much) => much.fmt(f),
        }
    }
}

/// A connection. Dropping it, and all streams on it, ends it.
pub struct Session {
    sender: http2::SendRequest<Messages>,
    base: Base,
}

/// What all requests have.
struct Base {
    scheme: &'static str,
    authority: String,
    token: Option<HeaderValue>,
    endpoint: Endpoint,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("endpoint", &self.base.endpoint).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, and logs in where there is a user.
    pub async fn open(settings: &Settings, endpoint: &Endpoint) -> Result<Session, Trouble> {
        let opened = tokio::time::timeout(OPEN_TIME_MAX, open(settings, endpoint));
        let late = || Err(Trouble::Lost(format!("{endpoint}: no connection within {OPEN_TIME_MAX:?}")));
        opened.await.unwrap_or_else(|_| late())
    }

    /// All that is below a prefix, at a revision; 0 is the newest.
    pub async fn read(&self, prefix: &str, revision: i64) -> Result<Keys, Trouble> {
        let (mut keys, mut limit) = (Keys::new(prefix), PAGE_KEYS);
        loop {
            let asked = naru_etcd::write(&keys.next_page(revision, limit));
            let answer = match self.call(method::RANGE, &asked).await {
                Err(Trouble::TooLarge) if limit > 1 => {
                    limit = (limit / 8).max(1);
                    continue;
                }
                Err(Trouble::TooLarge) => return Err(self.too_large(&keys, revision).await),
                answer => answer?,
            };
            let page: RangeResponse = naru_etcd::read(&answer).ok_or_else(|| self.foreign())?;
            if !keys.page(revision, page).map_err(Trouble::TooMuch)? {
                return Ok(keys);
            }
        }
    }

    /// Which key it is that no page has room for.
    async fn too_large(&self, keys: &Keys, revision: i64) -> Trouble {
        let mut asked = keys.next_page(revision, 1);
        asked.keys_only = true;
        let answer = self.call(method::RANGE, &naru_etcd::write(&asked)).await;
        let page: Option<RangeResponse> = answer.ok().and_then(|answer| naru_etcd::read(&answer));
        let key = page.and_then(|page| page.kvs.into_iter().next());
        key.map_or(Trouble::TooLarge, |kv| Trouble::TooMuch(TooMuch::Value(name_of(&kv.key))))
    }

    /// The answer to one message.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<Bytes, Trouble> {
        let asked = async {
            let mut stream = self.stream(method, message).await?;
            // Nothing more is said.
            stream.out_tx = None;
            stream.next().await
        };
        let answered = tokio::time::timeout(CALL_TIME_MAX, asked).await;
        let endpoint = &self.base.endpoint;
        answered
            .unwrap_or_else(|_| Err(Trouble::Lost(format!("{endpoint}: no answer within {CALL_TIME_MAX:?}"))))
    }

    /// A stream that begins with a message.
    pub async fn stream(&self, method: &str, message: &[u8]) -> Result<Stream, Trouble> {
        let (out_tx, out_rx) = mpsc::unbounded_channel();
        let Base { scheme, authority, token, endpoint } = &self.base;
        let lost = |error: &dyn fmt::Display| Trouble::Lost(format!("{endpoint}: {error}"));
        let uri = Uri::builder().scheme(*scheme).authority(authority.as_str()).path_and_query(method).build();
        let mut request = Request::post(uri.map_err(|error| lost(&error))?)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("naru/", env!("CARGO_PKG_VERSION")))
            // A member that nobody leads knows nothing new, and says so only if it is asked to.
            .header("hasleader", "true")
            .body(Messages(out_rx))
            .map_err(|error| lost(&error))?;
        if let Some(token) = token {
            request.headers_mut().insert("token", token.clone());
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| lost(&cause(&error)))?;
        // One that is ended by the other side is found out by whoever reads from it.
        let _ = out_tx.send(framed(message));
        let answer: Answer = Box::pin(async move { sender.send_request(request).await });
        Ok(Stream {
            out_tx: Some(out_tx),
            answer: Some(answer),
            body: None,
            unframer: Unframer::new(MESSAGE_BYTES_MAX),
            endpoint: endpoint.clone(),
        })
    }

    pub(super) fn foreign(&self) -> Trouble {
        Trouble::Foreign(format!("{}: it answers, and not as etcd does", self.base.endpoint))
    }
}

async fn open(settings: &Settings, endpoint: &Endpoint) -> Result<Session, Trouble> {
    let lost = |error: &dyn fmt::Display| Trouble::Lost(format!("{endpoint}: {error}"));
    let address = (endpoint.host.as_str(), endpoint.port);
    let socket = TcpStream::connect(address).await.map_err(|error| lost(&error))?;
    socket.set_nodelay(true).map_err(|error| lost(&error))?;
    let sender = if endpoint.is_tls {
        let secured = connector(settings, endpoint)?.connect(socket).await;
        let (stream, _) = secured.map_err(|error| lost(&format!("TLS: {error}")))?;
        shake_hands(stream).await
    } else {
        shake_hands(socket).await
    };
    let mut session = Session {
        sender: sender.map_err(|error| lost(&cause(&error)))?,
        base: Base {
            scheme: if endpoint.is_tls { "https" } else { "http" },
            authority: endpoint.authority(),
            token: None,
            endpoint: endpoint.clone(),
        },
    };
    if let Some((name, file)) = &settings.user {
        let password = std::fs::read_to_string(file);
        let password = password
            .map_err(|error| Trouble::Ours(format!("the password in '{}': {error}", file.display())))?;
        let asked = AuthenticateRequest {
            name: name.clone(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
        };
        let answer = session.call(method::AUTHENTICATE, &naru_etcd::write(&asked)).await?;
        let answer: AuthenticateResponse = naru_etcd::read(&answer).ok_or_else(|| session.foreign())?;
        let mut token = HeaderValue::try_from(answer.token).map_err(|_| session.foreign())?;
        token.set_sensitive(true);
        session.base.token = Some(token);
    }
    Ok(session)
}

async fn shake_hands<IO>(io: IO) -> hyper::Result<http2::SendRequest<Messages>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        // With streams only: without, etcd takes pings for a flood.
        .keep_alive_timeout(PING_TIME_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    // How it ends is seen by whoever reads.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Its certificate has to be for the name, or the address, by which it is called.
fn connector(settings: &Settings, endpoint: &Endpoint) -> Result<Connector, Trouble> {
    let file = |path: &std::path::Path| DataSource::File(path.display().to_string());
    let is_address = endpoint.host.parse::<IpAddr>().is_ok();
    let kind = Some(if is_address { SanKind::Ip } else { SanKind::Dns });
    let tls = UpstreamTls {
        sni: (!is_address).then(|| endpoint.host.clone()),
        certificate: settings
            .certificate
            .as_ref()
            .map(|(certificate, key)| Certificate::new(file(certificate), file(key))),
        alpn: vec!["h2".to_owned()],
        trusted_ca: settings.ca.as_deref().map(file),
        peer: PeerTests {
            names: vec![SanMatch { kind, test: StringMatch::exact(endpoint.host.clone()) }],
            ..PeerTests::default()
        },
        ..UpstreamTls::default()
    };
    Connector::build(&tls).map_err(|invalid| Trouble::Ours(invalid.to_string()))
}

type Answer = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// Dropping it ends it.
pub struct Stream {
    /// Held for as long as this side may say something.
    out_tx: Option<mpsc::UnboundedSender<Bytes>>,
    answer: Option<Answer>,
    body: Option<Incoming>,
    unframer: Unframer,
    endpoint: Endpoint,
}

impl Stream {
    /// The next message. Where this is given up meanwhile, nothing is lost.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, Trouble> {
        let ended = |endpoint: &Endpoint| Trouble::Lost(format!("{endpoint}: the stream has ended"));
        if let Some(answer) = &mut self.answer {
            let answered = answer.await;
            self.answer = None;
            let lost = |error: hyper::Error| Trouble::Lost(format!("{}: {}", self.endpoint, cause(&error)));
            let (head, body) = answered.map_err(lost)?.into_parts();
            if head.status != StatusCode::OK {
                let why = format!("{}: it answers {}: this is no etcd", self.endpoint, head.status);
                return Err(Trouble::Foreign(why));
            }
            if let Some(refused) = refused(&head.headers, &self.endpoint) {
                return Err(refused);
            }
            self.body = Some(body);
        }
        loop {
            match self.unframer.message() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(Misframed::TooLarge { .. }) => return Err(Trouble::TooLarge),
                Err(Misframed::Compressed) => {
                    let why =
                        format!("{}: a message is compressed, and that was not agreed on", self.endpoint);
                    return Err(Trouble::Foreign(why));
                }
            }
            let Some(body) = &mut self.body else { return Err(ended(&self.endpoint)) };
            match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => return Err(ended(&self.endpoint)),
                Some(Err(error)) => {
                    return Err(Trouble::Lost(format!("{}: {}", self.endpoint, cause(&error))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.unframer.push(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Err(
                            refused(&trailers, &self.endpoint).unwrap_or_else(|| ended(&self.endpoint))
                        );
                    }
                },
            }
        }
    }
}

/// What an error is caused by says more than the error.
fn cause(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// How a stream ended, where it says so; `None` where all was well.
fn refused(headers: &HeaderMap, endpoint: &Endpoint) -> Option<Trouble> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(2);
    if code == 0 {
        return None;
    }
    let said: String = text("grpc-message").unwrap_or_default().chars().take(REASON_CHARS_MAX).collect();
    let why = if said.is_empty() { said } else { format!("{endpoint}: {said}") };
    Some(Trouble::Refused { code, why })
}

/// What is said, as a body that ends when its sender is gone.
struct Messages(mpsc::UnboundedReceiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
