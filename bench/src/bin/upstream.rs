//! bench-upstream
//! What do the proxies forward to?
//!
//! One thread that answers every request with the same small body, or `/bytes/N` with N bytes, or `/echo` (HTTP/1.1
//! only) with the request's own head, which shows what a proxy made of it, or `/messages/N` (HTTP/2 only) with N small
//! messages of gRPC. HTTP/1.1 is read and written by hand,
//! because the upstream shares its core with the load generator and must never be the limit; HTTP/2 with prior
//! knowledge goes through hyper. Not here: TLS, trailers, chunked request bodies (answered 411).

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::ensure;
use bytes::{Buf, Bytes, BytesMut};
use clap::Parser;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use naru_bench::worker::{listen, run_local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMALL_BODY: &[u8] = b"The ferry landing: where everything that travels crosses over.\r\n";
/// Of gRPC: uncompressed, eleven bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x0bhello again";
const CHUNK: &[u8] = &[b'.'; 64 * 1024];
const HEADERS_MAX: usize = 64;
const READ_BUFFER: usize = 16 * 1024;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    listen: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    run_local(async move {
        let listener = listen(options.listen)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A client that leaves in the middle is its own business.
            spawn_local(async move { drop(serve(stream).await) });
        }
    })
}

async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    let mut start = [0; 3];
    stream.peek(&mut start).await?;
    if start == *b"PRI" {
        let service = service_fn(|request: Request<Incoming>| async move {
            let path = request.uri().path();
            if let Some(Ok(left)) = path.strip_prefix("/messages/").map(str::parse) {
                // A server of gRPC reads its call, too.
                let mut call = request.into_body();
                while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut call).poll_frame(context)).await {}
                let mut answer = Response::new(Filler { left, is_grpc: true });
                let kind = HeaderValue::from_static("application/grpc");
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                return Ok(answer);
            }
            let left = match Answer::to(path) {
                Answer::Bytes(length) => length,
                Answer::Small | Answer::Echo | Answer::LengthRequired => SMALL_BODY.len(),
            };
            Ok::<_, Infallible>(Response::new(Filler { left, is_grpc: false }))
        });
        return Ok(http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await?);
    }
    serve_http1(stream).await
}

async fn serve_http1(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut received = BytesMut::with_capacity(READ_BUFFER);
    let mut out = Vec::with_capacity(1024);
    loop {
        let Some(asked) = read_request(&received)? else {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = received.split_to(asked.head_length);
        skip(&mut stream, &mut received, asked.body_length).await?;
        received.reserve(READ_BUFFER);

        let (status, beginning, filler) = match asked.answer {
            Answer::Small => ("200 OK", SMALL_BODY, 0),
            Answer::Echo => ("200 OK", &head[..], 0),
            Answer::Bytes(length) => ("200 OK", &[][..], length),
            Answer::LengthRequired => ("411 Length Required", &[][..], 0),
        };
        out.clear();
        let length = beginning.len() + filler;
        write!(out, "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n")?;
        out.extend_from_slice(if asked.close { b"connection: close\r\n\r\n" } else { b"\r\n" });
        if !asked.head_only {
            out.extend_from_slice(beginning);
        }
        stream.write_all(&out).await?;
        let mut left = if asked.head_only { 0 } else { filler };
        while left > 0 {
            let part = left.min(CHUNK.len());
            stream.write_all(&CHUNK[..part]).await?;
            left -= part;
        }
        if asked.close {
            return Ok(());
        }
    }
}

async fn skip(stream: &mut TcpStream, received: &mut BytesMut, mut length: usize) -> anyhow::Result<()> {
    while length > received.len() {
        length -= received.len();
        received.clear();
        ensure!(stream.read_buf(received).await? > 0, "the client left in the middle of its body");
    }
    received.advance(length);
    Ok(())
}

struct Asked {
    head_length: usize,
    body_length: usize,
    answer: Answer,
    head_only: bool,
    close: bool,
}

enum Answer {
    Small,
    Bytes(usize),
    Echo,
    LengthRequired,
}

impl Answer {
    fn to(path: &str) -> Answer {
        match path.strip_prefix("/bytes/").map(str::parse) {
            Some(Ok(length)) => Answer::Bytes(length),
            _ if path == "/echo" => Answer::Echo,
            _ => Answer::Small,
        }
    }
}

/// The first request in `received`, once its head is whole.
fn read_request(received: &[u8]) -> anyhow::Result<Option<Asked>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_length) = request.parse(received)? else { return Ok(None) };
    let mut asked = Asked {
        head_length,
        body_length: 0,
        answer: Answer::to(request.path.unwrap_or_default()),
        head_only: request.method == Some("HEAD"),
        close: request.version == Some(0),
    };
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            asked.body_length = std::str::from_utf8(header.value)?.parse()?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            asked.answer = Answer::LengthRequired;
            asked.close = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            asked.close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(asked))
}

/// A body of so many bytes, for HTTP/2; or of so many messages, and the end of a call.
struct Filler {
    left: usize,
    is_grpc: bool,
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            if std::mem::take(&mut self.is_grpc) {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            return Poll::Ready(None);
        }
        if self.is_grpc {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(MESSAGE)))));
        }
        let source: &'static [u8] = if self.left == SMALL_BODY.len() { SMALL_BODY } else { CHUNK };
        let part = self.left.min(source.len());
        self.left -= part;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&source[..part])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && !self.is_grpc
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_grpc { SizeHint::default() } else { SizeHint::with_exact(self.left as u64) }
    }
}
