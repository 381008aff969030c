//! HTTP/2 with prior knowledge: a number of streams in flight on one connection (RFC 9113, RFC 7541).
//!
//! The first request puts its header fields into the peer's dynamic table; every later one is the same few bytes of
//! indices, which is what a browser or gRPC client comes to as well. Of an answer only the status and the end are
//! looked at. A call of gRPC sends one message and takes as many as come.

use anyhow::{bail, ensure};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::closed::Tickets;
use super::{ACCEPT, Asked, Stream, USER_AGENT};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const READ_BUFFER: usize = 64 * 1024;
const WINDOW_MAX: u32 = i32::MAX as u32;
const WINDOW_DEFAULT: u32 = 65_535;
/// The connection window is given back in pieces of this size.
const WINDOW_STEP: u32 = 1 << 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

const METHOD_GET: u8 = 0x82;
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const STATUS_200: u8 = 0x88;
/// The first index of HPACK's dynamic table, where the field added last stands.
const DYNAMIC: u8 = 62;
/// "Literal with incremental indexing", to be or'ed with the static index of the name.
const ADD: u8 = 0x40;
const INDEXED: u8 = 0x80;

#[derive(Debug)]
pub struct Http2 {
    stream: Box<dyn Stream>,
    streams_max: u32,
    first_request: Option<Vec<u8>>,
    later_request: Vec<u8>,
    /// The frame behind the head, for a call of gRPC.
    message: Option<Vec<u8>>,
    next_stream: u32,
    received: BytesMut,
    to_send: BytesMut,
    unreturned: u32,
}

impl Http2 {
    pub fn new(stream: Box<dyn Stream>, asked: &Asked, is_grpc: bool, streams_max: u32) -> Http2 {
        let mut to_send = BytesMut::from(PREFACE);
        put_frame_head(&mut to_send, 6, SETTINGS, 0, 0);
        to_send.put_u16(SETTINGS_INITIAL_WINDOW_SIZE);
        to_send.put_u32(WINDOW_MAX);
        put_window_update(&mut to_send, WINDOW_MAX - WINDOW_DEFAULT);

        let method = if is_grpc { METHOD_POST } else { METHOD_GET };
        // The names' places in HPACK's static table: :path, :authority, user-agent, accept or content-type.
        let last = if is_grpc { (31, "application/grpc") } else { (19, ACCEPT) };
        let mut fields = vec![(4, &*asked.path), (1, &asked.authority), (58, USER_AGENT), last];
        // "te" has no place there.
        fields.extend(is_grpc.then_some((0, "trailers")));
        let mut first_request = vec![method, SCHEME_HTTP];
        for &(name, value) in &fields {
            first_request.push(ADD | name);
            if name == 0 {
                first_request.extend_from_slice(b"\x02te");
            }
            // A literal's length is one byte up to 126; all of ours are short.
            first_request.push(value.len() as u8);
            first_request.extend_from_slice(value.as_bytes());
        }
        let indices = (DYNAMIC..DYNAMIC + fields.len() as u8).rev().map(|index| INDEXED | index);
        let later_request = [method, SCHEME_HTTP].into_iter().chain(indices).collect();
        let message = is_grpc.then(|| {
            // Uncompressed, and its length.
            let mut message = vec![0];
            message.put_u32(asked.upload as u32);
            message.resize(message.len() + asked.upload, b'.');
            message
        });
        Http2 {
            message,
            stream,
            streams_max,
            first_request: Some(first_request),
            later_request,
            next_stream: 1,
            received: BytesMut::with_capacity(READ_BUFFER),
            to_send,
            unreturned: 0,
        }
    }

    pub async fn run(&mut self, tickets: &Tickets) -> anyhow::Result<()> {
        let mut in_flight = 0;
        loop {
            while in_flight < self.streams_max && tickets.take() {
                self.put_request();
                in_flight += 1;
            }
            if in_flight == 0 {
                return Ok(());
            }
            self.stream.write_all_buf(&mut self.to_send).await?;
            self.received.reserve(READ_BUFFER / 2);
            ensure!(
                self.stream.read_buf(&mut self.received).await? > 0,
                "the connection ended before the answer"
            );
            while let Some(ended) = self.take_frame()? {
                in_flight -= u32::from(ended);
            }
        }
    }

    fn put_request(&mut self) {
        let first = self.first_request.take();
        let block = first.as_ref().unwrap_or(&self.later_request);
        let end = if self.message.is_none() { END_STREAM } else { 0 };
        put_frame_head(&mut self.to_send, block.len(), HEADERS, end | END_HEADERS, self.next_stream);
        self.to_send.extend_from_slice(block);
        if let Some(message) = &self.message {
            put_frame_head(&mut self.to_send, message.len(), DATA, END_STREAM, self.next_stream);
            self.to_send.extend_from_slice(message);
        }
        self.next_stream += 2;
    }

    /// Takes one frame, if one is whole; says whether it ended an answer.
    fn take_frame(&mut self) -> anyhow::Result<Option<bool>> {
        let Some(mut head) = self.received.get(..FRAME_HEAD) else { return Ok(None) };
        let length = head.get_uint(3) as usize;
        let (kind, flags) = (head.get_u8(), head.get_u8());
        if self.received.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        self.received.advance(FRAME_HEAD);
        let payload = self.received.split_to(length);
        match kind {
            DATA => {
                self.unreturned += length as u32;
                if self.unreturned > WINDOW_STEP {
                    put_window_update(&mut self.to_send, self.unreturned);
                    self.unreturned = 0;
                }
                Ok(Some(flags & END_STREAM != 0))
            }
            HEADERS => {
                let is_end = flags & END_STREAM != 0;
                if self.message.is_none() || !is_end {
                    check_status(flags, &payload)?;
                } else {
                    ensure!(check_status(flags, &payload).is_err(), "a call ended without an answer");
                }
                Ok(Some(is_end))
            }
            SETTINGS if flags & ACK == 0 => {
                check_settings(&payload)?;
                put_frame_head(&mut self.to_send, 0, SETTINGS, ACK, 0);
                Ok(Some(false))
            }
            PING if flags & ACK == 0 => {
                put_frame_head(&mut self.to_send, length, PING, ACK, 0);
                self.to_send.extend_from_slice(&payload);
                Ok(Some(false))
            }
            RST_STREAM => bail!("a stream was reset: {payload:?}"),
            GOAWAY => bail!("the connection was given up: {payload:?}"),
            _ => Ok(Some(false)),
        }
    }
}

fn put_frame_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

fn put_window_update(out: &mut BytesMut, increment: u32) {
    put_frame_head(out, 4, WINDOW_UPDATE, 0, 0);
    out.put_u32(increment);
}

/// A block begins with `:status 200`, perhaps after the new size of the dynamic table.
fn check_status(flags: u8, block: &[u8]) -> anyhow::Result<()> {
    ensure!(flags & (PADDED | PRIORITY) == 0, "an answer's head is padded or has a priority");
    let mut at = 0;
    if block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        at = if block[0] & 0x1f == 0x1f {
            block[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 2
        } else {
            1
        };
    }
    ensure!(block.get(at) == Some(&STATUS_200), "an answer is no 200");
    Ok(())
}

/// Our requests rest on the four fields that they put into the dynamic table.
fn check_settings(mut payload: &[u8]) -> anyhow::Result<()> {
    while payload.remaining() >= 6 {
        let (name, value) = (payload.get_u16(), payload.get_u32());
        ensure!(
            name != SETTINGS_HEADER_TABLE_SIZE || value >= 4096,
            "the dynamic table is only {value} bytes"
        );
    }
    Ok(())
}
