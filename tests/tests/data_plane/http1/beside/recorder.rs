//! An upstream that notes what it is sent, byte for byte, and reads it as RFC 9112 says and no other way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: String,
}

/// What came, by the number of the message that it came of.
#[derive(Debug, Default)]
pub struct Notes {
    pub requests: BTreeMap<u64, Vec<Request>>,
    /// The same, as it came.
    pub bytes: BTreeMap<u64, Vec<u8>>,
    /// Whatever cannot be read, or has no number.
    pub strange: Vec<String>,
}

pub struct Recorder {
    pub address: SocketAddr,
    notes: Arc<Mutex<Notes>>,
}

impl Recorder {
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let recorder = Recorder { address: listener.local_addr().unwrap(), notes: Arc::default() };
        let notes = Arc::clone(&recorder.notes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&notes)));
            }
        });
        recorder
    }

    /// Takes what has come so far.
    pub fn notes(&self) -> Notes {
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Notes {
    pub fn add(&mut self, request: Request, bytes: &[u8]) {
        match number(&request.target) {
            Some(number) => {
                self.requests.entry(number).or_default().push(request);
                self.bytes.entry(number).or_default().extend(bytes);
            }
            None => self.strange.push(format!("{request:?}")),
        }
    }
}

/// The one that stands in a target.
fn number(target: &str) -> Option<u64> {
    let (_, rest) = target.split_once("/m")?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

async fn serve(mut stream: TcpStream, notes: Arc<Mutex<Notes>>) {
    let mut buffer = Vec::new();
    loop {
        match parse(&buffer) {
            Ok(Some((request, length))) => {
                notes.lock().unwrap().add(request, &buffer[..length]);
                buffer.drain(..length);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read_buf(&mut buffer).await {
                // A request that its sender did not have whole ends anywhere.
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Err(why) => {
                let text = String::from_utf8_lossy(&buffer).into_owned();
                return notes.lock().unwrap().strange.push(format!("{why}: {text:?}"));
            }
        }
    }
}

/// The first request, and how long it is; `None` where there is more to come.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, &'static str> {
    let Some(head) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).ok();
    let text =
        text.map_or_else(|| bytes[..head].iter().map(|byte| char::from(*byte)).collect(), str::to_owned);
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or("").split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else { return Err("a request line") };
    let (mut length, mut is_chunked) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a field")?;
        if name.is_empty() || name.contains([' ', '\t', '\n', '\r']) || value.contains(['\n', '\r', '\0']) {
            return Err("a field");
        }
        if name.eq_ignore_ascii_case("content-length") {
            let digits = value.trim_matches([' ', '\t']);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || length.is_some() {
                return Err("a length");
            }
            length = Some(digits.parse::<usize>().map_err(|_| "a length")?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.trim().eq_ignore_ascii_case("chunked") || is_chunked {
                return Err("a coding");
            }
            is_chunked = true;
        }
    }
    let start = head + 4;
    let found = match (length, is_chunked) {
        (Some(_), true) => return Err("two framings"),
        (None, true) => chunks(bytes, start)?,
        (length, false) => {
            let end = start + length.unwrap_or(0);
            bytes.get(start..end).map(|body| (body.to_vec(), end))
        }
    };
    Ok(found.map(|(body, end)| {
        // As Node.js tells it: a character for each byte.
        let body = body.into_iter().map(char::from).collect();
        (Request { method: method.to_owned(), target: target.to_owned(), body }, end)
    }))
}

/// The body and where it ends.
fn chunks(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + end]).map_err(|_| "a chunk size")?;
        let size = size.split(';').next().unwrap_or("");
        if !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a chunk size");
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk size")?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("the end of a chunk");
        }
        body.extend(&data[..size]);
        at += size + 2;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        at += end + 2;
        if end == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
