//! The upstream of a plan: takes its steps and sees what becomes of the request.

use std::net::Shutdown;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use naru_tests::http2::{self, H2Server};
use naru_tests::wire::{Head, WireListener};
use naru_tests::{Wire, within};

use super::ends::{Gone, HALF, LARGE, PAUSE, WHOLE, raw};
use super::plan::{Code, Flaw, Plan, Protocol, STATUS, Shape};

/// The upstream's end of a connection on which nothing is asked yet.
pub enum Line {
    Http1(Wire),
    Http2(H2Server),
}

impl Line {
    pub async fn accept(listener: &WireListener, protocol: Protocol) -> Line {
        match protocol {
            Protocol::Http1 => Line::Http1(listener.accept().await),
            Protocol::Http2 => Line::Http2(H2Server::accept(listener.accept_stream().await).await),
        }
    }

    /// Answers one request with an empty response.
    pub async fn answer_one(&mut self) {
        match self {
            Line::Http1(wire) => {
                wire.request().await;
                wire.send(format!("HTTP/1.1 {STATUS} Fine\r\ncontent-length: 0\r\n\r\n")).await;
            }
            Line::Http2(server) => {
                let (_, mut respond) = server.request().await.unwrap();
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_u16(STATUS).unwrap();
                respond.send_response(response, true).unwrap();
            }
        }
    }
}

pub struct Callee {
    shape: Shape,
    /// Of a large body.
    sent: usize,
    end: Wired,
}

enum Wired {
    Http1 { wire: Wire, head: Head, read: usize },
    Http2(Box<Streamed>),
}

struct Streamed {
    server: H2Server,
    incoming: RecvStream,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
}

impl Callee {
    /// Waits for the head of the request.
    pub async fn receive(plan: &Plan, line: Line) -> Result<Callee, Gone> {
        let end = match line {
            Line::Http1(mut wire) => {
                let head = wire.try_head().await?;
                Wired::Http1 { wire, head, read: 0 }
            }
            Line::Http2(mut server) => {
                let (request, respond) = server.request().await.ok_or(Gone)?;
                let incoming = request.into_body();
                Wired::Http2(Box::new(Streamed { server, incoming, respond, send: None }))
            }
        };
        Ok(Callee { shape: plan.response, sent: 0, end })
    }

    /// Reads so many bytes of the request's body.
    pub async fn read(&mut self, count: usize) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, head, read } => {
                let is_chunked = head.get("transfer-encoding") == Some("chunked");
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
                let mut left = count;
                while left > 0 {
                    let data = within("data", h2.incoming.data()).await.ok_or(Gone)??;
                    let _ = h2.incoming.flow_control().release_capacity(data.len());
                    left = left.saturating_sub(data.len());
                }
                Ok(())
            }
        }
    }

    /// Reads the end of a request that says so apart from its last byte.
    pub async fn read_end(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => {
                if !wire.chunk().await?.is_empty() {
                    return Err(Gone);
                }
                wire.trailers().await?;
            }
            Wired::Http2(h2) => {
                while let Some(data) = within("data", h2.incoming.data()).await {
                    if !data?.is_empty() {
                        return Err(Gone);
                    }
                }
                within("trailers", h2.incoming.trailers()).await?;
            }
        }
        Ok(())
    }

    pub async fn interim(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => sent(wire.try_send("HTTP/1.1 100 Continue\r\n\r\n").await),
            Wired::Http2(h2) => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::CONTINUE;
                Ok(h2.respond.send_informational(response)?)
            }
        }
    }

    fn head_text(&self) -> String {
        let framing = match self.shape {
            Shape::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
            Shape::Trailers => "transfer-encoding: chunked\r\ntrailer: x-sum\r\n".to_owned(),
            Shape::UntilClose => String::new(),
            Shape::Large => format!("content-length: {LARGE}\r\n"),
            _ => format!("content-length: {}\r\n", WHOLE.len()),
        };
        format!("HTTP/1.1 {STATUS} Fine\r\n{framing}\r\n")
    }

    pub async fn begin_head(&mut self) -> Result<(), Gone> {
        let text = self.head_text();
        match &mut self.end {
            Wired::Http1 { wire, .. } => sent(wire.try_send(&text[..text.len() / 2]).await),
            Wired::Http2(_) => Ok(()),
        }
    }

    pub async fn head(&mut self) -> Result<(), Gone> {
        let text = self.head_text();
        match &mut self.end {
            Wired::Http1 { wire, .. } => sent(wire.try_send(&text[text.len() / 2..]).await),
            Wired::Http2(h2) => {
                let mut response = Response::builder().status(STATUS);
                response = match self.shape {
                    Shape::Chunked => response,
                    Shape::Trailers => response.header("trailer", "x-sum"),
                    Shape::Large => response.header("content-length", LARGE),
                    _ => response.header("content-length", WHOLE.len()),
                };
                h2.send = Some(h2.respond.send_response(response.body(()).unwrap(), false)?);
                Ok(())
            }
        }
    }

    /// Half of the body; of a large one as much as is taken.
    pub async fn begin_body(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => match self.shape {
                Shape::Large => {
                    self.sent = wire.try_flood(LARGE, PAUSE).await?.unwrap_or(LARGE);
                    Ok(())
                }
                Shape::Chunked | Shape::Trailers => {
                    sent(wire.try_send(format!("{:x}\r\n{HALF}\r\n", HALF.len())).await)
                }
                _ => sent(wire.try_send(HALF).await),
            },
            Wired::Http2(h2) => {
                let Some(send) = &mut h2.send else { return Err(Gone) };
                match self.shape {
                    Shape::Large => Ok(send.send_data(vec![b'x'; LARGE].into(), true)?),
                    _ => Ok(send.send_data(Bytes::from_static(HALF.as_bytes()), false)?),
                }
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
                let Some(send) = &mut h2.send else { return Err(Gone) };
                let is_end = !matches!(self.shape, Shape::Chunked | Shape::Trailers);
                Ok(send.send_data(Bytes::from_static(HALF.as_bytes()), is_end)?)
            }
        }
    }

    /// What follows the last byte.
    pub async fn end_response(&mut self) -> Result<(), Gone> {
        match &mut self.end {
            Wired::Http1 { wire, .. } => match self.shape {
                Shape::UntilClose => {
                    wire.finish().await;
                    Ok(())
                }
                Shape::Trailers => sent(wire.try_send("0\r\nx-sum: 17\r\n\r\n").await),
                _ => sent(wire.try_send("0\r\n\r\n").await),
            },
            Wired::Http2(h2) => {
                let Some(send) = &mut h2.send else { return Err(Gone) };
                match self.shape {
                    Shape::Trailers => {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("x-sum", HeaderValue::from_static("17"));
                        Ok(send.send_trailers(trailers)?)
                    }
                    _ => Ok(send.send_data(Bytes::new(), true)?),
                }
            }
        }
    }

    /// Waits until the proxy gives the request up: nobody waits for its response any more. Says whether
    /// the request could be taken for whole then.
    pub async fn is_left(&mut self) -> bool {
        match &mut self.end {
            Wired::Http1 { wire, head, .. } => {
                let is_chunked = head.get("transfer-encoding") == Some("chunked");
                let (rest, _) = wire.end().await;
                // No data here looks like the last chunk.
                is_chunked && rest.windows(3).any(|bytes| bytes == b"0\r\n")
            }
            Wired::Http2(h2) => {
                // An error says that the whole connection is gone.
                let reset = std::future::poll_fn(|cx| match &mut h2.send {
                    Some(send) => send.poll_reset(cx),
                    None => h2.respond.poll_reset(cx),
                });
                let _ = within("the reset of a request that was given up", reset).await;
                http2::read(&mut h2.incoming).await.is_ok()
            }
        }
    }

    pub async fn close(self, is_in_frame: bool) {
        match self.end {
            Wired::Http1 { wire, .. } => drop(wire),
            Wired::Http2(h2) => {
                if is_in_frame {
                    raw(h2.server.socket(), &raw::half_of_headers(h2.respond.stream_id().as_u32()));
                }
                let Streamed { server, incoming, respond, send } = *h2;
                server.close().await;
                drop((incoming, respond, send));
            }
        }
    }

    pub async fn reset(self, is_in_frame: bool) {
        match self.end {
            Wired::Http1 { wire, .. } => wire.reset(),
            Wired::Http2(h2) => {
                if is_in_frame {
                    raw(h2.server.socket(), &raw::half_of_headers(h2.respond.stream_id().as_u32()));
                }
                let Streamed { server, incoming, respond, send } = *h2;
                server.reset().await;
                drop((incoming, respond, send));
            }
        }
    }

    pub async fn half_close(&mut self) {
        match &mut self.end {
            Wired::Http1 { wire, .. } => wire.finish().await,
            Wired::Http2(h2) => drop(h2.server.socket().shutdown(Shutdown::Write)),
        }
    }

    pub fn cancel(&mut self, code: Code) {
        let Wired::Http2(h2) = &mut self.end else { return };
        match &mut h2.send {
            Some(send) => send.send_reset(code.reason()),
            None => h2.respond.send_reset(code.reason()),
        }
    }

    pub async fn talk_garbage(&mut self) {
        const GARBAGE: &[u8] = b"\0no status line, no chunk and no frame\0\r\n\r\n";
        match &mut self.end {
            Wired::Http1 { wire, .. } => drop(wire.try_send(GARBAGE).await),
            Wired::Http2(h2) => raw(h2.server.socket(), GARBAGE),
        }
    }

    pub fn go_away(&mut self, refuses: bool) {
        let Wired::Http2(h2) = &mut self.end else { return };
        let stream = h2.respond.stream_id().as_u32();
        raw(h2.server.socket(), &raw::go_away(if refuses { stream - 1 } else { stream }));
    }

    /// Trailers that are none. A connection on which they break off is closed.
    pub async fn spoil_trailers(mut self, flaw: Flaw) -> Option<Callee> {
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
                let stream = h2.respond.stream_id().as_u32();
                match flaw {
                    Flaw::Broken => {
                        raw(h2.server.socket(), &raw::half_of_headers(stream));
                        self.close(false).await;
                        return None;
                    }
                    Flaw::Invalid => raw(h2.server.socket(), &raw::invalid_trailers(stream)),
                    Flaw::Oversized => {
                        let mut trailers = HeaderMap::new();
                        let value = HeaderValue::from_str(&"1".repeat(2 << 20)).unwrap();
                        trailers.insert("x-sum", value);
                        if let Some(send) = &mut h2.send {
                            let _ = send.send_trailers(trailers);
                        }
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
