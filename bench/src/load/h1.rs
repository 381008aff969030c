//! HTTP/1.1: one request at a time on a connection that is kept alive, or on one of its own.

use anyhow::{bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::closed::Tickets;
use super::{ACCEPT, Asked, Dial, Stream, USER_AGENT};

const HEADERS_MAX: usize = 64;
const READ_BUFFER: usize = 16 * 1024;
const CHUNK: &[u8] = &[b'.'; 64 * 1024];

#[derive(Debug)]
pub struct Http1 {
    stream: Box<dyn Stream>,
    head: Vec<u8>,
    /// Bytes of the body.
    upload: usize,
    received: BytesMut,
}

impl Http1 {
    pub fn new(stream: Box<dyn Stream>, asked: &Asked) -> Http1 {
        let Asked { authority, path, upload } = asked;
        let (method, length) = match upload {
            0 => ("GET", String::new()),
            _ => ("POST", format!("Content-Length: {upload}\r\n")),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\nAccept: {ACCEPT}\r\n{length}\r\n"
        );
        let received = BytesMut::with_capacity(READ_BUFFER);
        Http1 { stream, head: head.into(), upload: *upload, received }
    }

    pub async fn run(&mut self, tickets: &Tickets) -> anyhow::Result<()> {
        while tickets.take() {
            self.exchange().await?;
        }
        Ok(())
    }

    /// Sends the request and reads the whole answer.
    pub async fn exchange(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.head).await?;
        let mut upload = self.upload;
        while upload > 0 {
            let part = upload.min(CHUNK.len());
            self.stream.write_all(&CHUNK[..part]).await?;
            upload -= part;
        }
        self.stream.flush().await?;
        let mut left = loop {
            self.read().await?;
            if let Some(length) = answer_length(&self.received)? {
                break length;
            }
        };
        while left > self.received.len() {
            left -= self.received.len();
            self.received.clear();
            self.read().await?;
        }
        self.received.advance(left);
        ensure!(self.received.is_empty(), "bytes follow the answer");
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        self.received.reserve(READ_BUFFER / 2);
        ensure!(
            self.stream.read_buf(&mut self.received).await? > 0,
            "the connection ended before the answer"
        );
        Ok(())
    }
}

/// Makes a connection for every request.
#[derive(Debug)]
pub struct Fresh {
    pub dial: Dial,
    pub asked: Asked,
}

impl Fresh {
    pub async fn run(&mut self, tickets: &Tickets) -> anyhow::Result<()> {
        while tickets.take() {
            Http1::new(self.dial.connect().await?, &self.asked).exchange().await?;
        }
        Ok(())
    }
}

/// How long head and body are together, once the head is whole.
fn answer_length(received: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = answer.parse(received)? else { return Ok(None) };
    ensure!(answer.code == Some(200), "answered {:?}", answer.code);
    for header in answer.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            return Ok(Some(head_length + std::str::from_utf8(header.value)?.parse::<usize>()?));
        }
    }
    bail!("the answer has no content-length")
}
