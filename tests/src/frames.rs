//! HTTP/2, frame for frame: a peer that sends exactly what a test says, also what no client would.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use crate::{Authority, within};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PUSH_PROMISE: u8 = 0x5;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITIZED: u8 = 0x20;

pub const NO_ERROR: u32 = 0x0;
pub const PROTOCOL_ERROR: u32 = 0x1;
pub const FLOW_CONTROL_ERROR: u32 = 0x3;
pub const STREAM_CLOSED: u32 = 0x5;
pub const FRAME_SIZE_ERROR: u32 = 0x6;
pub const REFUSED_STREAM: u32 = 0x7;
pub const CANCEL: u32 = 0x8;
pub const COMPRESSION_ERROR: u32 = 0x9;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that stands at `at` of the payload.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = Vec::with_capacity(9 + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A list of fields, each as a literal that nobody is to keep.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for string in [name.as_ref(), value.as_ref()] {
            integer(&mut out, string.len());
            out.extend_from_slice(string);
        }
    }
    out
}

fn integer(out: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The fields of a request to a path.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "naru.test:80")]
}

pub fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block(fields))
}

pub fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = all
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Peer {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    buffer: Vec<u8>,
    /// The code of the GOAWAY that came.
    gone: Option<u32>,
    /// The settings that came first.
    pub settings: Vec<(u16, u32)>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("buffer", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Peer {
    /// Nothing is sent yet. With TLS where there is an authority.
    pub async fn connect(address: SocketAddr, authority: Option<&Authority>) -> Peer {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Stream> = match authority {
            None => Box::new(stream),
            Some(authority) => {
                let connector = authority.connector(&["h2"]);
                let (stream, _) = within("a TLS handshake", connector.connect(stream)).await.unwrap();
                Box::new(stream)
            }
        };
        let (reader, writer) = tokio::io::split(stream);
        Peer { reader, writer, buffer: Vec::new(), gone: None, settings: Vec::new() }
    }

    /// An upstream's. Nothing is sent yet, and the preface is still to be read.
    pub fn accepted(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Stream> = Box::new(stream);
        let (reader, writer) = tokio::io::split(stream);
        Peer { reader, writer, buffer: Vec::new(), gone: None, settings: Vec::new() }
    }

    /// The preface of a client.
    pub async fn preface(&mut self) {
        while self.buffer.len() < PREFACE.len() {
            assert!(within("a preface", self.reader.read_buf(&mut self.buffer)).await.unwrap() > 0);
        }
        assert_eq!(&self.buffer[..PREFACE.len()], PREFACE);
        self.buffer.drain(..PREFACE.len());
    }

    /// One that has exchanged settings: ours are these.
    pub async fn start(address: SocketAddr, authority: Option<&Authority>, ours: &[(u16, u32)]) -> Peer {
        let mut peer = Peer::connect(address, authority).await;
        peer.send([PREFACE, &settings(ours)].concat()).await;
        peer.shake_hands().await;
        peer
    }

    /// Waits for the settings of the other side, and its word on ours.
    pub async fn shake_hands(&mut self) {
        let mut has_theirs = false;
        let mut is_told = false;
        while !has_theirs || !is_told {
            let frame = self.next().await.unwrap();
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => {
                    let pairs = frame.payload.chunks(6);
                    self.settings = pairs
                        .map(|pair| {
                            (
                                u16::from_be_bytes([pair[0], pair[1]]),
                                u32::from_be_bytes(pair[2..].try_into().unwrap()),
                            )
                        })
                        .collect();
                    has_theirs = true;
                    self.send(frame_of_ack()).await;
                }
                (SETTINGS, _) => is_told = true,
                (WINDOW_UPDATE, _) => {}
                _ => panic!("{frame:?}"),
            }
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever is at the other end may have closed already, for what came before.
        self.try_send(bytes).await;
    }

    /// Whether it was taken.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = async {
            self.writer.write_all(bytes.as_ref()).await?;
            self.writer.flush().await
        };
        within("bytes to be sent", sent).await.is_ok()
    }

    /// Sends what `chunk` makes, one after the other, until the other side goes away, and says with which code.
    /// `None` where it closed without one.
    pub async fn flood(&mut self, mut chunk: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
        let flooded = async {
            for number in 0.. {
                let bytes = chunk(number);
                let mut sent = 0;
                while sent < bytes.len() {
                    tokio::select! {
                        biased;
                        read = self.reader.read_buf(&mut self.buffer) => {
                            let is_open = read.is_ok_and(|read| read > 0);
                            while self.parse().is_some() {}
                            if !is_open || self.gone.is_some() {
                                return self.gone;
                            }
                        }
                        written = self.writer.write(&bytes[sent..]) => match written {
                            Ok(written) => sent += written,
                            // What it has said may still be there to be read.
                            Err(_) => return self.goes_away().await,
                        },
                    }
                }
            }
            None
        };
        within("an end of a flood", flooded).await
    }

    /// The next frame; `None` where the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let read = within("a frame", self.reader.read_buf(&mut self.buffer)).await;
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head = self.buffer.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if self.buffer.len() < 9 + length {
            return None;
        }
        let payload = self.buffer[9..9 + length].to_vec();
        self.buffer.drain(..9 + length);
        let frame = Frame { kind, flags, stream, payload };
        if kind == GOAWAY {
            self.gone = Some(frame.number(4));
        }
        Some(frame)
    }

    /// The next frame that `is_wanted`; others are passed over. `None` where the connection is closed.
    pub async fn find(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if is_wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The code of the GOAWAY that comes, if there is one before the connection is closed.
    pub async fn goes_away(&mut self) -> Option<u32> {
        while self.next().await.is_some() {}
        self.gone
    }

    /// The rest of a stream: its first header block, and its data. `None` where it is reset, or the connection closed.
    pub async fn answer(&mut self, stream: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut head, mut data) = (None, Vec::new());
        loop {
            let frame = self.find(|frame| frame.stream == stream).await?;
            match frame.kind {
                HEADERS => drop(head.get_or_insert_with(|| frame.payload.clone())),
                DATA => data.extend_from_slice(&frame.payload),
                RST_STREAM if frame.number(0) == NO_ERROR && head.is_some() => return Some((head?, data)),
                RST_STREAM => return None,
                _ => {}
            }
            if frame.ends_stream() {
                return Some((head?, data));
            }
        }
    }

    /// Whether the connection is alive: a PING is answered.
    pub async fn is_alive(&mut self) -> bool {
        let opaque = *b"alive???";
        self.send(frame(PING, 0, 0, opaque)).await;
        self.find(|frame| frame.kind == PING && frame.flags & ACK != 0 && frame.payload == opaque)
            .await
            .is_some()
    }
}

fn frame_of_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, [])
}

/// The status of a header block that naru has written: its first field, of the static table or a literal.
pub fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x08, 3, code @ ..] => std::str::from_utf8(&code[..3]).unwrap().parse().unwrap(),
        [0x20, rest @ ..] => status(rest),
        _ => panic!("{block:x?}"),
    }
}
