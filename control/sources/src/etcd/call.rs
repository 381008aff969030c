//! How is an etcd asked? gRPC over HTTP/2, plain or by TLS, on a connection of its own.
//!
//! Sources: "gRPC over HTTP2" of gRPC; etcd's API guide: `token` and `hasleader` among the headers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use naru_etcd::proto::{AuthenticateRequest, AuthenticateResponse, RangeResponse};
use naru_etcd::{Keys, TooMuch, VALUE_BYTES_MAX, method, name_of};
use naru_grpc::{Call, Connection, Ended, Misframed, Pings};
use naru_spec::{Certificate, DataSource, PeerTests, SanKind, SanMatch, StringMatch, UpstreamTls};
use naru_tls::Connector;
use tokio::net::TcpStream;

use super::{Endpoint, Settings};

/// A connection, TLS and a login.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer. Etcd itself gives up after 7 s where the cluster has no majority.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// With streams only: without, etcd takes pings for a flood.
const PINGS: Pings =
    Pings { every: Duration::from_secs(10), time_max: Duration::from_secs(10), while_idle: false };
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
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// Of all requests.
    headers: Vec<(HeaderName, HeaderValue)>,
    endpoint: Endpoint,
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
            stream.inner.close();
            stream.next().await
        };
        let answered = tokio::time::timeout(CALL_TIME_MAX, asked).await;
        let endpoint = &self.endpoint;
        answered
            .unwrap_or_else(|_| Err(Trouble::Lost(format!("{endpoint}: no answer within {CALL_TIME_MAX:?}"))))
    }

    /// A stream that begins with a message.
    pub async fn stream(&self, method: &str, message: &[u8]) -> Result<Stream, Trouble> {
        let authority = self.endpoint.authority();
        let call = Call {
            scheme: if self.endpoint.is_tls { "https" } else { "http" },
            authority: &authority,
            method,
            headers: &self.headers,
            bytes_max: MESSAGE_BYTES_MAX,
        };
        let begun = self.connection.call(&call).await;
        let inner = begun.map_err(|ended| trouble(ended, &self.endpoint))?;
        inner.send(message);
        Ok(Stream { inner, endpoint: self.endpoint.clone() })
    }

    pub(super) fn foreign(&self) -> Trouble {
        Trouble::Foreign(format!("{}: it answers, and not as etcd does", self.endpoint))
    }
}

async fn open(settings: &Settings, endpoint: &Endpoint) -> Result<Session, Trouble> {
    let lost = |error: &dyn fmt::Display| Trouble::Lost(format!("{endpoint}: {error}"));
    let address = (endpoint.host.as_str(), endpoint.port);
    let socket = TcpStream::connect(address).await.map_err(|error| lost(&error))?;
    socket.set_nodelay(true).map_err(|error| lost(&error))?;
    let connection = if endpoint.is_tls {
        let secured = connector(settings, endpoint)?.connect(socket).await;
        let (stream, _) = secured.map_err(|error| lost(&format!("TLS: {error}")))?;
        Connection::open(stream, PINGS).await
    } else {
        Connection::open(socket, PINGS).await
    };
    let mut session = Session {
        connection: connection.map_err(|ended| trouble(ended, endpoint))?,
        // A member that nobody leads knows nothing new, and says so only if it is asked to.
        headers: vec![(HeaderName::from_static("hasleader"), HeaderValue::from_static("true"))],
        endpoint: endpoint.clone(),
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
        session.headers.push((HeaderName::from_static("token"), token));
    }
    Ok(session)
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

/// Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    inner: naru_grpc::Stream,
    endpoint: Endpoint,
}

impl Stream {
    /// The next message. Where this is given up meanwhile, nothing is lost.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, Trouble> {
        self.inner.next().await.map_err(|ended| trouble(ended, &self.endpoint))
    }
}

/// What an end means of an etcd.
fn trouble(ended: Ended, endpoint: &Endpoint) -> Trouble {
    match ended {
        Ended::Over => Trouble::Lost(format!("{endpoint}: the stream has ended")),
        Ended::Lost(why) => Trouble::Lost(format!("{endpoint}: {why}")),
        Ended::Answered(status) => {
            Trouble::Foreign(format!("{endpoint}: it answers {status}: this is no etcd"))
        }
        Ended::Misframed(Misframed::TooLarge { .. }) => Trouble::TooLarge,
        Ended::Misframed(Misframed::Compressed) => {
            let why = "a message is compressed, and that was not agreed on";
            Trouble::Foreign(format!("{endpoint}: {why}"))
        }
        Ended::Refused { code, message } => {
            let said: String = message.chars().take(REASON_CHARS_MAX).collect();
            let why = if said.is_empty() { said } else { format!("{endpoint}: {said}") };
            Trouble::Refused { code, why }
        }
    }
}
