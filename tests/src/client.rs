//! A client that behaves well, over any protocol that naru listens for.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_tls::Connector;
use tokio::net::TcpStream;

use crate::message::collect;
use crate::{Answer, Authority, Outbound, Speaks, Wire, within};

/// One connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    is_tls: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Outbound>),
    Http2(http2::SendRequest<Outbound>),
}

impl Client {
    /// Without TLS.
    pub async fn plain(address: SocketAddr, speaks: Speaks) -> Client {
        assert!(!speaks.is_tls());
        Client::over(TokioIo::new(dial(address).await), speaks).await
    }

    /// `authority` is who the proxy's certificate is from.
    pub async fn connect(address: SocketAddr, speaks: Speaks, authority: &Authority) -> Client {
        if !speaks.is_tls() {
            return Client::plain(address, speaks).await;
        }
        let connector = authority.connector(&[speaks.alpn()]);
        let (client, alpn) = Client::secured(address, speaks, &connector).await.unwrap();
        assert_eq!(alpn.as_deref(), Some(speaks.alpn().as_bytes()));
        client
    }

    /// With TLS of its own making; tells the protocol that was agreed on.
    ///
    /// # Errors
    /// The handshake failed. In TLS 1.3 a server refuses a client only after that.
    pub async fn secured(
        address: SocketAddr,
        speaks: Speaks,
        connector: &Connector,
    ) -> std::io::Result<(Client, Option<Vec<u8>>)> {
        let stream = dial(address).await;
        let (stream, handshake) = within("a TLS handshake", connector.connect(stream)).await?;
        Ok((Client::over(TokioIo::new(stream), speaks).await, handshake.alpn))
    }

    /// Through a tunnel to `destination`, which it asks for at `proxy`. `connector` is for whoever is at its end.
    pub async fn through(
        proxy: SocketAddr,
        destination: &str,
        speaks: Speaks,
        connector: Option<&Connector>,
    ) -> Client {
        let mut wire = Wire::connect(proxy).await;
        assert_eq!(wire.ask_for_tunnel(destination).await.status(), 200);
        let stream = wire.into_stream();
        let Some(connector) = connector else { return Client::over(TokioIo::new(stream), speaks).await };
        let (stream, _) = within("a TLS handshake", connector.connect(stream)).await.unwrap();
        Client::over(TokioIo::new(stream), speaks).await
    }

    async fn over<I>(io: I, speaks: Speaks) -> Client
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let sender = if speaks.is_http2() {
            let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io);
            let (sender, connection) = within("an HTTP/2 handshake", handshake).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = within("a client", http1::handshake(io)).await.unwrap();
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Client { sender, is_tls: speaks.is_tls() }
    }

    /// Sends a request to a path, and returns once there is the head of a response.
    pub async fn send(&mut self, mut request: Request<Outbound>) -> Result<Response<Incoming>, hyper::Error> {
        let host = request.headers_mut().remove(http::header::HOST);
        let host = host.unwrap_or_else(|| HeaderValue::from_static("naru.test"));
        match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(http::header::HOST, host);
                within("a connection that is free", sender.ready()).await?;
                within("a response", sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                let scheme = if self.is_tls { "https" } else { "http" };
                let path = request.uri().path_and_query().unwrap().as_str();
                *request.uri_mut() = Uri::builder()
                    .scheme(scheme)
                    .authority(host.as_bytes())
                    .path_and_query(path)
                    .build()
                    .unwrap();
                *request.version_mut() = Version::HTTP_2;
                within("a connection that is free", sender.ready()).await?;
                within("a response", sender.send_request(request)).await
            }
        }
    }

    /// Another on the same connection, over HTTP/2.
    pub fn beside(&self) -> Client {
        match &self.sender {
            Sender::Http1(_) => panic!("HTTP/1 has one request at a time"),
            Sender::Http2(sender) => Client { sender: Sender::Http2(sender.clone()), is_tls: self.is_tls },
        }
    }

    /// A whole exchange.
    pub async fn exchange(&mut self, request: Request<Outbound>) -> Answer {
        let response = self.send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let (body, trailers) = within("the end of a body", collect(body)).await.unwrap();
        Answer { status: parts.status, version: parts.version, headers: parts.headers, body, trailers }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.exchange(request(Method::GET, path, Outbound::empty())).await
    }
}

async fn dial(address: SocketAddr) -> TcpStream {
    let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn request(method: Method, path: &str, body: Outbound) -> Request<Outbound> {
    Request::builder().method(method).uri(path).body(body).unwrap()
}

/// One GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    Client::plain(address, Speaks::Http1).await.get(path).await
}
