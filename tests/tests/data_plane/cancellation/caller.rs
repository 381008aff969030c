//! The client of a plan: takes its steps and reads what comes of them.

use std::net::{Shutdown, SocketAddr};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use naru_tests::http2::{self, H2Client};
use naru_tests::wire::{End, Head};
use naru_tests::{Wire, within};

use super::ends::{Gone, HALF, LARGE, PAUSE, WHOLE, raw};
use super::plan::{Code, Flaw, Plan, Protocol, STATUS, Shape};

/// What a client has seen when nothing more came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: Option<u16>,
    pub is_whole: bool,
    pub end: Option<End>,
}

pub struct Caller {
    head: String,
    request: Request<()>,
    shape: Shape,
    is_expecting: bool,
    /// Of a large body.
    sent: usize,
    end: Wired,
}

enum Wired {
    Http1 { wire: Wire, head: Option<Head>, read: usize },
    Http2(Box<Streamed>),
}

struct Streamed {
    client: H2Client,
    response: Option<ResponseFuture>,
    body: Option<SendStream<Bytes>>,
    incoming: Option<RecvStream>,
    status: Option<u16>,
}

fn garbage() -> &'static [u8] {
    b"\0no chunk, no frame, and no header either\0\r\n\r\n"
}

impl Caller {
    pub async fn connect(plan: &Plan, address: SocketAddr, path: &str, id: &str) -> Caller {
        let shape = plan.request;
        let method = plan.method;
        let mut request = Request::builder().method(method).uri(format!("http://naru.test{path}"));
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: naru.test\r\nx-walk: {id}\r\nte: trailers\r\n");
        request = request.header("x-walk", id).header("te", "trailers");
        match shape {
            Shape::Bare | Shape::UntilClose => {}
            Shape::Length | Shape::Interim | Shape::Large => {
                let length = if shape == Shape::Large { LARGE } else { WHOLE.len() };
                head.push_str(&format!("content-length: {length}\r\n"));
                request = request.header("content-length", length);
            }
            Shape::Chunked | Shape::Trailers => head.push_str("transfer-encoding: chunked\r\n"),
        }
        if shape == Shape::Interim {
            head.push_str("expect: 100-continue\r\n");
            request = request.header("expect", "100-continue");
        }
        if shape == Shape::Trailers {
            head.push_str("trailer: x-sum\r\n");
            request = request.header("trailer", "x-sum");
        }
        head.push_str("\r\n");
        let end = match plan.down {
            Protocol::Http1 => Wired::Http1 { wire: Wire::connect(address).await, head: None, read: 0 },
            Protocol::Http2 => Wired::Http2(Box::new(Streamed {
                client: H2Client::connect(address).await,
                response: None,
                body: None,
                incoming: None,
                status: None,
            })),
        };
        let is_expecting = shape == Shape::Interim && plan.down == Protocol::Http1;
        Caller { head, request: request.body(()).unwrap(), shape, is_expecting, sent: 0, end }
    }

    pub async fn begin_head(&mut self) -> Result<(), Gone> {
        let half = self.head.len() / 2;
        match &mut self.end {
            Wired::Http1 { wire, .. } => sent(wire.try_send(&self.head[..half]).await),
            Wired::Http2(_) => Ok(()),
        }
    }

    pub async fn head(&mut self) -> Result<(), Gone> {
        let half = self.head.len() / 2;
        match &mut self.end {
            Wired::Http1 { wire, .. } => sent(wire.try_send(&self.head[half..]).await),
            Wired::Http2(h2) => {
                let request = self.request.clone();
                let (response, body) = h2.client.try_request(request, self.shape == Shape::Bare).await?;
                h2.response = Some(response);
                h2.body = (self.shape != Shape::Bare).then_some(body);
                Ok(())
            }
        }
    }

    /// Half of the body; of a large one as much as is taken.
    pub async fn begin_body(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => {
                if std::mem::take(&mut self.is_expecting) {
                    let interim = wire.try_head().await?;
                    if interim.status() != 100 {
                        return Err(Gone);
                    }
                }
                match self.shape {
                    Shape::Large => {
                        self.sent = wire.try_flood(LARGE, PAUSE).await?.unwrap_or(LARGE);
                        Ok(())
                    }
                    Shape::Chunked | Shape::Trailers => {
                        sent(wire.try_send(format!("{:x}\r\n{HALF}\r\n", HALF.len())).await)
                    }
                    _ => sent(wire.try_send(HALF).await),
                }
            }
            Wired::Http2(h2) => {
                let Some(body) = &mut h2.body else { return Err(Gone) };
                let data = if self.shape == Shape::Large {
                    Bytes::from(vec![b'x'; LARGE])
                } else {
                    Bytes::from_static(HALF.as_bytes())
                };
                Ok(body.send_data(data, self.shape == Shape::Large)?)
            }
        }
    }

    /// The other half, and the end where that is all.
    pub async fn body(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => match self.shape {
                Shape::Chunked | Shape::Trailers => {
                    sent(wire.try_send(format!("{:x}\r\n{HALF}\r\n", HALF.len())).await)
                }
                Shape::Large => sent(wire.try_send(vec![b'x'; LARGE - self.sent]).await),
                _ => sent(wire.try_send(HALF).await),
            },
            Wired::Http2(_) if self.shape == Shape::Large => Ok(()),
            Wired::Http2(h2) => {
                let Some(body) = &mut h2.body else { return Err(Gone) };
                let is_end = !matches!(self.shape, Shape::Chunked | Shape::Trailers);
                Ok(body.send_data(Bytes::from_static(HALF.as_bytes()), is_end)?)
            }
        }
    }

    pub async fn end_request(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => match self.shape {
                Shape::Trailers => sent(wire.try_send("0\r\nx-sum: 17\r\n\r\n").await),
                _ => sent(wire.try_send("0\r\n\r\n").await),
            },
            Wired::Http2(h2) => {
                let Some(body) = &mut h2.body else { return Err(Gone) };
                match self.shape {
                    Shape::Trailers => {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("x-sum", HeaderValue::from_static("17"));
                        Ok(body.send_trailers(trailers)?)
                    }
                    _ => Ok(body.send_data(Bytes::new(), true)?),
                }
            }
        }
    }

    /// Waits for the head of the response that the upstream has sent.
    pub async fn read_head(&mut self) -> Result<(), Gone> {
        let status = match &mut self.end {
            Wired::Http1 { wire, head, .. } => {
                *head = Some(final_head(wire).await?);
                head.as_ref().map(Head::status)
            }
            Wired::Http2(h2) => {
                let Some(response) = h2.response.take() else { return Err(Gone) };
                let response = http2::response(response).await?;
                h2.status = Some(response.status().as_u16());
                h2.incoming = Some(response.into_body());
                h2.status
            }
        };
        if status == Some(STATUS) { Ok(()) } else { Err(Gone) }
    }

    /// Reads so many bytes of the body.
    pub async fn read(&mut self, count: usize) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, head, read } => {
                let is_chunked = head.as_ref().is_some_and(is_chunked);
                let until = *read + count;
                while *read < until {
                    let data =
                        if is_chunked { wire.chunk().await? } else { wire.exactly(until - *read).await? };
                    if data.is_empty() {
                        return Err(Gone);
                    }
                    *read += data.len();
                }
                Ok(())
            }
            Wired::Http2(h2) => {
                let Some(body) = &mut h2.incoming else { return Err(Gone) };
                let mut left = count;
                while left > 0 {
                    let data = within("data", body.data()).await.ok_or(Gone)??;
                    let _ = body.flow_control().release_capacity(data.len());
                    left = left.saturating_sub(data.len());
                }
                Ok(())
            }
        }
    }

    /// Everything that still comes.
    pub async fn finish(&mut self) -> Seen {
        match &mut self.end {
            Wired::Http1 { wire, head, read } => {
                if head.is_none() {
                    match final_head(wire).await {
                        Ok(found) => *head = Some(found),
                        Err(end) => return Seen { status: None, is_whole: false, end: Some(end) },
                    }
                }
                let Some(head) = head else { unreachable!() };
                let result = rest(wire, head, *read).await;
                Seen { status: Some(head.status()), is_whole: result.is_ok(), end: result.err() }
            }
            Wired::Http2(h2) => {
                if let Some(response) = h2.response.take() {
                    let Ok(response) = http2::response(response).await else {
                        return Seen { status: None, is_whole: false, end: None };
                    };
                    h2.status = Some(response.status().as_u16());
                    h2.incoming = Some(response.into_body());
                }
                let Some(body) = &mut h2.incoming else {
                    return Seen { status: None, is_whole: false, end: None };
                };
                Seen { status: h2.status, is_whole: http2::read(body).await.is_ok(), end: None }
            }
        }
    }

    pub async fn close(self, is_in_frame: bool) {
        match self.end {
            Wired::Http1 { wire, .. } => drop(wire),
            Wired::Http2(h2) => {
                if is_in_frame {
                    raw(h2.client.socket(), &raw::half_of_headers(3));
                }
                let Streamed { client, response, body, incoming, .. } = *h2;
                client.close().await;
                drop((response, body, incoming));
            }
        }
    }

    pub async fn reset(self, is_in_frame: bool) {
        match self.end {
            Wired::Http1 { wire, .. } => wire.reset(),
            Wired::Http2(h2) => {
                if is_in_frame {
                    raw(h2.client.socket(), &raw::half_of_headers(3));
                }
                let Streamed { client, response, body, incoming, .. } = *h2;
                client.reset().await;
                drop((response, body, incoming));
            }
        }
    }

    pub async fn half_close(&mut self) {
        match &mut self.end {
            Wired::Http1 { wire, .. } => wire.finish().await,
            Wired::Http2(h2) => drop(h2.client.socket().shutdown(Shutdown::Write)),
        }
    }

    /// Gives its stream up, and keeps the connection.
    pub fn cancel(&mut self, code: Code) {
        let Wired::Http2(h2) = &mut self.end else { return };
        match &mut h2.body {
            Some(body) => body.send_reset(code.reason()),
            // To drop what would be read of it is to reset it.
            None => {
                h2.response = None;
                h2.incoming = None;
            }
        }
    }

    pub async fn talk_garbage(&mut self) {
        match &mut self.end {
            Wired::Http1 { wire, .. } => drop(wire.try_send(garbage()).await),
            Wired::Http2(h2) => raw(h2.client.socket(), garbage()),
        }
    }

    /// Trailers that are none. A connection on which they break off is closed.
    pub async fn spoil_trailers(mut self, flaw: Flaw) -> Option<Caller> {
        match (&mut self.end, flaw) {
            (Wired::Http1 { wire, .. }, Flaw::Broken) => {
                wire.try_send("0\r\nx-sum: 1").await;
                return None;
            }
            (Wired::Http1 { wire, .. }, Flaw::Invalid) => {
                wire.try_send("0\r\nno colon here\r\n\r\n").await;
            }
            (Wired::Http1 { wire, .. }, Flaw::Oversized) => {
                wire.try_send(format!("0\r\nx-sum: {}\r\n\r\n", "1".repeat(200_000))).await;
            }
            (Wired::Http2(h2), flaw) => {
                let Some(body) = &mut h2.body else { return Some(self) };
                let stream = body.stream_id().as_u32();
                match flaw {
                    Flaw::Broken => {
                        raw(h2.client.socket(), &raw::half_of_headers(stream));
                        self.close(false).await;
                        return None;
                    }
                    Flaw::Invalid => raw(h2.client.socket(), &raw::invalid_trailers(stream)),
                    Flaw::Oversized => {
                        let mut trailers = HeaderMap::new();
                        let value = HeaderValue::from_str(&"1".repeat(200_000)).unwrap();
                        trailers.insert("x-sum", value);
                        let _ = body.send_trailers(trailers);
                    }
                }
            }
        }
        Some(self)
    }
}

fn sent(is_sent: bool) -> Result<(), Gone> {
    if is_sent { Ok(()) } else { Err(Gone) }
}

fn is_chunked(head: &Head) -> bool {
    head.get("transfer-encoding") == Some("chunked")
}

async fn final_head(wire: &mut Wire) -> Result<Head, End> {
    loop {
        let head = wire.try_head().await?;
        if head.status() >= 200 {
            return Ok(head);
        }
    }
}

/// The rest of a body of which `read` bytes are read.
async fn rest(wire: &mut Wire, head: &Head, read: usize) -> Result<(), End> {
    if is_chunked(head) {
        while !wire.chunk().await?.is_empty() {}
        return wire.trailers().await.map(drop);
    }
    match head.get("content-length") {
        Some(length) => wire.exactly(length.parse::<usize>().unwrap() - read).await.map(drop),
        None => match wire.end().await.1 {
            End::Closed => Ok(()),
            end => Err(end),
        },
    }
}
