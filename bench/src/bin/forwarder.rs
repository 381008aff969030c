//! bench-forwarder
//! What does forwarding alone cost, in the shape that naru has?
//!
//! hyper on both sides, a thread per core, a pool of upstream connections per worker; a head and a body go through
//! as they are. No routes, no logs, no metrics, no header work, no timeouts: what naru costs above this is what its
//! decisions cost. Change it only when the shape of naru's data plane changes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::Parser;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn as client;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_bench::worker::{listen, run_workers};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Where HTTP/1.1 is served.
    #[arg(long)]
    h1: SocketAddr,
    /// Where HTTP/2 with prior knowledge is served.
    #[arg(long)]
    h2: SocketAddr,
    /// Where HTTP/1.1 over TLS is served, with --certificate and --key.
    #[arg(long, requires_all = ["certificate", "key"])]
    tls: Option<SocketAddr>,
    #[arg(long)]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    #[arg(long)]
    upstream: SocketAddr,
    /// Speak HTTP/2 to the upstream.
    #[arg(long)]
    upstream_h2: bool,
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let acceptor = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some(naru_bench::tls::acceptor(certificate, key)?),
        _ => None,
    };
    run_workers(options.workers, || serve(&options, acceptor.clone()))
}

async fn serve(options: &Options, acceptor: Option<TlsAcceptor>) -> anyhow::Result<()> {
    let pool = Rc::new(Pool {
        address: options.upstream,
        speaks_http2: options.upstream_h2,
        idle: RefCell::default(),
        shared: RefCell::default(),
    });
    let h1 = listen(options.h1)?;
    let h2 = listen(options.h2)?;
    if let (Some(address), Some(acceptor)) = (options.tls, acceptor) {
        spawn_local(accept_tls(listen(address)?, acceptor, pool.clone()));
    }
    spawn_local(accept_http2(h2, pool.clone()));
    accept_http1(h1, pool).await
}

async fn accept_http1(listener: TcpListener, pool: Rc<Pool>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(serve_http1(stream, pool.clone()));
    }
}

async fn accept_tls(listener: TcpListener, acceptor: TlsAcceptor, pool: Rc<Pool>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, pool) = (acceptor.clone(), pool.clone());
        spawn_local(async move {
            if let Ok(secured) = acceptor.accept(stream).await {
                serve_http1(secured, pool).await;
            }
        });
    }
}

async fn accept_http2(listener: TcpListener, pool: Rc<Pool>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = pool.clone();
        let service = service_fn(move |request| forward(request, pool.clone()));
        let connection = http2::Builder::new(OnThisThread).serve_connection(TokioIo::new(stream), service);
        spawn_local(async move { drop(connection.await) });
    }
}

async fn serve_http1(stream: impl AsyncRead + AsyncWrite + Unpin, pool: Rc<Pool>) {
    let service = service_fn(move |request| forward(request, pool.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How a connection ended interests nobody here: a failed request shows at the load generator.
    drop(connection.await);
}

async fn forward(mut request: Request<Incoming>, pool: Rc<Pool>) -> anyhow::Result<Response<Forwarded>> {
    if pool.speaks_http2 {
        let (head, body) = pool.share().await?.send_request(request).await?.into_parts();
        return Ok(Response::from_parts(head, Forwarded { body, sender: None, pool }));
    }
    if request.version() == Version::HTTP_2 {
        speak_http1(&mut request)?;
    }
    let mut sender = pool.checkout().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, Forwarded { body, sender: Some(sender), pool }))
}

/// What HTTP/1.1 cannot do without: the authority in a Host header, the path alone in the request line.
fn speak_http1(request: &mut Request<Incoming>) -> anyhow::Result<()> {
    *request.version_mut() = Version::HTTP_11;
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority {
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    *request.uri_mut() = parts.path_and_query.map(Uri::from).unwrap_or_default();
    Ok(())
}

/// One worker's connections to the upstream.
struct Pool {
    address: SocketAddr,
    speaks_http2: bool,
    /// HTTP/1.1, the one used last on top.
    idle: RefCell<Vec<client::http1::SendRequest<Incoming>>>,
    /// HTTP/2: one for all.
    shared: RefCell<Option<client::http2::SendRequest<Incoming>>>,
}

impl Pool {
    async fn checkout(&self) -> anyhow::Result<client::http1::SendRequest<Incoming>> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let (sender, connection) = client::http1::handshake(self.connect().await?).await?;
        spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn share(&self) -> anyhow::Result<client::http2::SendRequest<Incoming>> {
        if let Some(sender) = self.shared.borrow().as_ref()
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let (sender, connection) = client::http2::handshake(OnThisThread, self.connect().await?).await?;
        spawn_local(async move { drop(connection.await) });
        *self.shared.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> anyhow::Result<TokioIo<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

/// The upstream's body on its way down; an HTTP/1.1 connection goes back to the pool when it has ended.
struct Forwarded {
    body: Incoming,
    sender: Option<client::http1::SendRequest<Incoming>>,
    pool: Rc<Pool>,
}

impl Body for Forwarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        if self.body.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.pool.idle.borrow_mut().push(sender);
        }
    }
}

#[derive(Clone)]
struct OnThisThread;

impl<Work: Future<Output: 'static> + 'static> Executor<Work> for OnThisThread {
    fn execute(&self, work: Work) {
        spawn_local(work);
    }
}
