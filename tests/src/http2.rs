//! HTTP/2, stream for stream: each step when a test says so.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::within;

/// A client's connection.
#[derive(Debug)]
pub struct H2Client {
    send: h2::client::SendRequest<Bytes>,
    life: Life,
}

/// An upstream's connection.
#[derive(Debug)]
pub struct H2Server {
    requests_rx: mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    life: Life,
}

/// Who moves the connection along.
#[derive(Debug)]
struct Life {
    task: JoinHandle<()>,
    socket: std::net::TcpStream,
}

impl Life {
    /// Another handle to the same connection, and the connection itself.
    fn split(stream: TcpStream) -> (std::net::TcpStream, TcpStream) {
        stream.set_nodelay(true).unwrap();
        let stream = stream.into_std().unwrap();
        (stream.try_clone().unwrap(), TcpStream::from_std(stream).unwrap())
    }

    async fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
        self.close().await;
    }

    async fn close(mut self) {
        self.task.abort();
        // Aborted, or ended by itself: the connection's own handle is gone afterwards.
        let _ = (&mut self.task).await;
    }
}

/// Whoever lets go of a connection closes it.
impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl H2Client {
    pub async fn connect(address: SocketAddr) -> H2Client {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        H2Client::over(stream).await.unwrap()
    }

    /// On a connection that may end before anything is said.
    ///
    /// # Errors
    /// It did.
    pub async fn over(stream: TcpStream) -> Result<H2Client, h2::Error> {
        let (socket, stream) = Life::split(stream);
        let (send, connection) = within("an HTTP/2 handshake", h2::client::handshake(stream)).await?;
        let task = tokio::spawn(async move {
            // How it ends is seen by its streams.
            let _ = connection.await;
        });
        Ok(H2Client { send, life: Life { task, socket } })
    }

    /// Opens a stream; `has_ended` where the head is the whole request.
    pub async fn request(
        &mut self,
        request: Request<()>,
        has_ended: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_request(request, has_ended).await.unwrap()
    }

    /// As [`H2Client::request`], on a connection that may take no more streams.
    ///
    /// # Errors
    /// Why it takes none.
    pub async fn try_request(
        &mut self,
        request: Request<()>,
        has_ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut ready = within("a stream", self.send.clone().ready()).await?;
        ready.send_request(request, has_ended)
    }

    /// Waits until the other side has said that it takes extended CONNECT.
    pub async fn takes_extended(&self) {
        let takes = async || self.send.is_extended_connect_protocol_enabled().then_some(());
        crate::until("extended CONNECT to be taken", takes).await;
    }

    /// How many streams the other side allows, as far as it has said so.
    pub fn streams_max(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// The connection below the frames, for bytes that are none.
    pub fn socket(&self) -> &std::net::TcpStream {
        &self.life.socket
    }

    /// Closes the connection as a client does that is killed.
    pub async fn close(self) {
        let H2Client { send, life } = self;
        drop(send);
        life.close().await;
    }

    pub async fn reset(self) {
        self.life.reset().await;
    }
}

impl H2Server {
    pub async fn accept(stream: TcpStream) -> H2Server {
        H2Server::accept_by(stream, &h2::server::Builder::new()).await
    }

    /// One that takes extended CONNECT.
    pub async fn accept_extended(stream: TcpStream) -> H2Server {
        H2Server::accept_by(
            stream,
            h2::server::Builder::new().enable_connect_protocol().initial_connection_window_size(1 << 20),
        )
        .await
    }

    async fn accept_by(stream: TcpStream, builder: &h2::server::Builder) -> H2Server {
        let (socket, stream) = Life::split(stream);
        let mut connection = within("an HTTP/2 handshake", builder.handshake(stream)).await.unwrap();
        let (requests_tx, requests_rx) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(Ok(request)) = connection.accept().await {
                if requests_tx.send(request).is_err() {
                    break;
                }
            }
        });
        H2Server { requests_rx, life: Life { task, socket } }
    }

    /// The next request. `None` once the connection is over.
    pub async fn request(&mut self) -> Option<(Request<RecvStream>, SendResponse<Bytes>)> {
        within("a request", self.requests_rx.recv()).await
    }

    /// The connection below the frames, for bytes that are none.
    pub fn socket(&self) -> &std::net::TcpStream {
        &self.life.socket
    }

    pub async fn close(self) {
        self.life.close().await;
    }

    pub async fn reset(self) {
        self.life.reset().await;
    }
}

/// What remains of a stream, and whether it ended well.
pub async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within("data", body.data()).await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    let trailers = within("trailers", body.trailers()).await?;
    Ok((all, trailers))
}

/// Waits for the head of a response.
pub async fn response(future: ResponseFuture) -> Result<Response<RecvStream>, h2::Error> {
    within("a response", future).await
}

pub fn get(address: SocketAddr, path: &str) -> Request<()> {
    Request::builder().uri(format!("http://{address}{path}")).body(()).unwrap()
}

pub fn post(address: SocketAddr, path: &str) -> Request<()> {
    Request::builder().method("POST").uri(format!("http://{address}{path}")).body(()).unwrap()
}
