//! One end of what was asked for by an upgrade or a CONNECT: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};

use crate::http2::{H2Client, H2Server};
use crate::wire::{End, WireListener};
use crate::{Wire, within};

#[derive(Debug)]
pub enum Side {
    Connection(Wire),
    Stream(Stream),
}

#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    buffer: Vec<u8>,
    _life: Life,
}

/// Its connection, which ends with it.
#[derive(Debug)]
enum Life {
    Client {
        _connection: H2Client,
    },
    Server {
        _connection: H2Server,
    },
    /// Somebody else's.
    Shared,
}

/// A request that an upstream was asked by HTTP/2.
#[derive(Debug)]
pub struct Asked {
    connection: H2Server,
    pub request: Request<()>,
    receive: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Stream {
    /// A stream of a client whose connection others have, too.
    pub fn shared(send: SendStream<Bytes>, receive: RecvStream) -> Stream {
        Stream { send, receive, buffer: Vec::new(), _life: Life::Shared }
    }

    async fn more(&mut self) -> Result<(), End> {
        match within("data", self.receive.data()).await {
            None => Err(End::Closed),
            Some(Err(_)) => Err(End::Reset),
            Some(Ok(data)) => {
                let _ = self.receive.flow_control().release_capacity(data.len());
                self.buffer.extend_from_slice(&data);
                Ok(())
            }
        }
    }

    async fn send(&mut self, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            self.send.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| self.send.poll_capacity(cx));
            let Some(Ok(room)) = within("room in a stream", room).await else { return false };
            let (now, later) = rest.split_at(room.min(rest.len()));
            if self.send.send_data(Bytes::copy_from_slice(now), false).is_err() {
                return false;
            }
            rest = later;
        }
        true
    }
}

impl Side {
    /// Asks by an extended CONNECT, with these headers, on a connection of its own.
    pub async fn ask_by_http2(
        address: SocketAddr,
        protocol: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(Response<()>, Side), h2::Error> {
        let client = H2Client::connect(address).await;
        client.takes_extended().await;
        let mut request =
            Request::builder().method(Method::CONNECT).uri(format!("http://{address}/chat?room=1"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(Protocol::from(protocol));
        Side::request(client, request).await
    }

    /// Makes a request on a connection of its own, and keeps its stream open.
    pub async fn request(
        mut client: H2Client,
        request: Request<()>,
    ) -> Result<(Response<()>, Side), h2::Error> {
        let (response, send) = client.request(request, false).await;
        let (head, receive) = crate::http2::response(response).await?.into_parts();
        let life = Life::Client { _connection: client };
        let stream = Stream { send, receive, buffer: Vec::new(), _life: life };
        Ok((Response::from_parts(head, ()), Side::Stream(stream)))
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await);
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        match self {
            Side::Connection(wire) => wire.try_send(bytes).await,
            Side::Stream(stream) => stream.send(bytes.as_ref()).await,
        }
    }

    pub async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        match self {
            Side::Connection(wire) => wire.exactly(count).await,
            Side::Stream(stream) => {
                while stream.buffer.len() < count {
                    stream.more().await?;
                }
                Ok(stream.buffer.drain(..count).collect())
            }
        }
    }

    /// Exactly these bytes come next.
    pub async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let found = self.exactly(bytes.len()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(bytes));
    }

    /// Says no more.
    pub async fn finish(&mut self) {
        match self {
            Side::Connection(wire) => wire.finish().await,
            Side::Stream(stream) => stream.send.send_data(Bytes::new(), true).unwrap(),
        }
    }

    /// All that comes, and how it ended.
    pub async fn end(&mut self) -> (Vec<u8>, End) {
        match self {
            Side::Connection(wire) => wire.end().await,
            Side::Stream(stream) => loop {
                if let Err(end) = stream.more().await {
                    return (std::mem::take(&mut stream.buffer), end);
                }
            },
        }
    }

    pub fn reset(self) {
        match self {
            Side::Connection(wire) => wire.reset(),
            Side::Stream(mut stream) => {
                stream.send.send_reset(h2::Reason::CANCEL);
                // The frame is to go out before the connection is closed.
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    drop(stream);
                });
            }
        }
    }
}

impl Asked {
    /// The next request of a connection that comes in.
    pub async fn accept(up: &WireListener) -> Asked {
        let mut connection = H2Server::accept_extended(up.accept_stream().await).await;
        let (request, respond) = connection.request().await.unwrap();
        let (head, receive) = request.into_parts();
        Asked { connection, request: Request::from_parts(head, ()), receive, respond }
    }

    pub fn protocol(&self) -> Option<&str> {
        self.request.extensions().get::<Protocol>().map(Protocol::as_str)
    }

    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Answers, and keeps the stream open.
    pub fn answer(mut self, response: Response<()>) -> Side {
        let send = self.respond.send_response(response, false).unwrap();
        let life = Life::Server { _connection: self.connection };
        Side::Stream(Stream { send, receive: self.receive, buffer: Vec::new(), _life: life })
    }
}
