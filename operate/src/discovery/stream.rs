//! A stream of gRPC to a control plane, on a connection of its own, plain or by TLS; and in which words its end is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use naru_grpc::{Call, Connection, Ended, Misframed, Pings};
use naru_tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Of one message. Ten thousand clusters with their settings are some ten megabytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A control plane that says nothing is asked whether it is there.
const PINGS: Pings =
    Pings { every: Duration::from_secs(30), time_max: Duration::from_secs(20), while_idle: true };

/// Where a control plane is, and how it is spoken to.
#[derive(Debug)]
pub struct Target<'a> {
    pub address: SocketAddr,
    /// Of a Unix socket.
    pub path: Option<String>,
    pub connector: Option<Connector>,
    pub connect_timeout: Duration,
    pub authority: &'a str,
    pub method: &'a str,
    pub metadata: &'a [(HeaderName, HeaderValue)],
}

/// One that stands. Dropping it ends it.
pub struct Stream(naru_grpc::Stream);

impl Stream {
    pub async fn open(target: &Target<'_>) -> Result<Stream, String> {
        let opened = tokio::time::timeout(target.connect_timeout, connect(target));
        opened.await.unwrap_or_else(|_| Err(format!("no connection within {:?}", target.connect_timeout)))
    }

    pub fn send_all(&self, messages: VecDeque<Vec<u8>>) {
        messages.iter().for_each(|message| self.0.send(message));
    }

    /// The next message. Where this is given up meanwhile, nothing is lost.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, String> {
        self.0.next().await.map_err(tell)
    }
}

async fn connect(target: &Target<'_>) -> Result<Stream, String> {
    if let Some(path) = &target.path {
        let socket = match path.strip_prefix('@') {
            Some(_) => return Err("a socket of the abstract namespace is not spoken to".to_owned()),
            None => UnixStream::connect(path).await.map_err(|error| format!("{path}: {error}"))?,
        };
        return secure(socket, target).await;
    }
    let address = target.address;
    let socket = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    socket.set_nodelay(true).map_err(|error| format!("{address}: {error}"))?;
    secure(socket, target).await
}

async fn secure<IO>(io: IO, target: &Target<'_>) -> Result<Stream, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match &target.connector {
        None => begin(io, target, "http").await,
        Some(connector) => {
            let secured = connector.connect(io).await;
            let (stream, _) = secured.map_err(|error| format!("{}: TLS: {error}", target.address))?;
            begin(stream, target, "https").await
        }
    }
}

async fn begin<IO>(io: IO, target: &Target<'_>, scheme: &str) -> Result<Stream, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::open(io, PINGS).await.map_err(tell)?;
    let call = Call {
        scheme,
        authority: target.authority,
        method: target.method,
        headers: target.metadata,
        bytes_max: MESSAGE_BYTES_MAX,
    };
    connection.call(&call).await.map(Stream).map_err(tell)
}

fn tell(ended: Ended) -> String {
    match ended {
        Ended::Over => "the stream has ended".to_owned(),
        Ended::Lost(why) => why,
        Ended::Answered(status) => format!("it answers {status}"),
        Ended::Misframed(Misframed::Compressed) => {
            "a message is compressed, and that was not agreed on".to_owned()
        }
        Ended::Misframed(Misframed::TooLarge { bytes }) => {
            format!("a message of {bytes} bytes is too large: at most {MESSAGE_BYTES_MAX} are read")
        }
        Ended::Refused { code: 12, message } if message.is_empty() => {
            "it does not know this method (gRPC status 12)".to_owned()
        }
        Ended::Refused { code, message } if message.is_empty() => format!("gRPC status {code}"),
        Ended::Refused { code, message } => format!("gRPC status {code}: {message}"),
    }
}
