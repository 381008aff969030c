//! Answers whose body is not an upstream's as it comes: files, and whatever is compressed.
//!
//! A body has a source, and may come out of a coding ([`crate::unpacked`]) and into one ([`crate::packed`]) on its way. All
//! of it belongs to the passage, which is
//! the body that the codec asks for frames; its client's back-pressure is that of all others.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, response};
use http_body::{Body as _, Frame, SizeHint};
use naru_base::Reason;
use naru_content::compress::Layer;
use naru_journey::Milestone;

use crate::files::FileBody;
use crate::grpc_web;
use crate::packed::Packed;
use crate::settle::{Broken, OutBody, Passage};
use crate::unpacked::Unpacked;

/// So much of what is in memory goes out at a time.
const PIECE: usize = 16 * 1_024;

#[derive(Debug)]
pub struct Shaped {
    source: Source,
    /// The first is next to the source.
    codings: Vec<Coded>,
}

#[derive(Debug)]
enum Coded {
    Packed(Packed),
    Unpacked(Unpacked),
}

#[derive(Debug)]
enum Source {
    Upstream,
    Whole(Bytes),
    File(FileBody),
}

pub type Polled = Poll<Option<Result<Frame<Bytes>, Broken>>>;

impl Shaped {
    /// How much comes is known of what is not packed.
    pub fn size_hint(&self) -> SizeHint {
        match (&self.source, &self.codings[..]) {
            (Source::Whole(rest), []) => SizeHint::with_exact(rest.len() as u64),
            (Source::File(body), []) => SizeHint::with_exact(body.length()),
            _ => SizeHint::default(),
        }
    }

    /// Whether there is more than its source has given.
    pub fn goes_on(&self) -> bool {
        self.codings.last().is_some_and(|coded| !coded.is_done())
    }
}

impl Coded {
    fn is_done(&self) -> bool {
        match self {
            Coded::Packed(packed) => packed.is_done(),
            Coded::Unpacked(unpacked) => unpacked.is_done(),
        }
    }
}

/// What a body in a coding is made of: its source, and the codings before.
pub struct Below<'a> {
    source: &'a mut Source,
    codings: &'a mut [Coded],
}

impl Below<'_> {
    pub fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>) -> Polled {
        let Some((last, codings)) = self.codings.split_last_mut() else {
            return self.source.poll(passage, cx);
        };
        let below = Below { source: self.source, codings };
        match last {
            Coded::Packed(packed) => packed.poll(passage, cx, below),
            Coded::Unpacked(unpacked) => unpacked.poll(passage, cx, below),
        }
    }

    /// Whether nothing more comes of it.
    pub fn has_ended(&self, passage: &Passage) -> bool {
        self.codings.last().map_or_else(|| passage.journey.has_ended(), Coded::is_done)
    }
}

/// An upstream's answer is passed on: out of its coding and into another, where that is called for.
#[cold]
pub fn pass_on(passage: &mut Passage, parts: &mut response::Parts) {
    let has_ended = passage.line.method == Method::HEAD
        || passage.journey.has_ended()
        || passage.journey.is_upgraded()
        || passage.response.as_ref().is_none_or(|received| received.body.is_end_stream());
    let codings = code(passage, parts.status, &mut parts.headers, has_ended);
    if !codings.is_empty() {
        passage.shaped = Some(Box::new(Shaped { source: Source::Upstream, codings }));
    }
}

fn code(passage: &Passage, status: StatusCode, headers: &mut HeaderMap, has_ended: bool) -> Vec<Coded> {
    let Some(bodies) = passage.journey.bodies() else { return Vec::new() };
    let counts = &passage.loaded.prepared.codings;
    let layers = bodies.on_answer(status.as_u16(), headers, has_ended).into_iter();
    let codings = layers.map(|layer| match layer {
        Layer::Decode(decode) => Coded::Unpacked(Unpacked::new(decode, counts)),
        Layer::Encode(coder) => Coded::Packed(Packed::new(&coder, counts)),
    });
    codings.collect()
}

/// An answer of naru's own, or a file.
#[cold]
pub fn answer(
    mut passage: Box<Passage>,
    status: StatusCode,
    mut headers: HeaderMap,
    whole: Bytes,
) -> Response<OutBody> {
    let file = passage.file.take().zip(passage.journey.given());
    let source = match file {
        Some((opened, given)) => Source::File(FileBody::new(*opened, given.pieces.clone())),
        None => Source::Whole(whole),
    };
    let length = match &source {
        Source::File(body) => body.length(),
        Source::Whole(whole) => whole.len() as u64,
        Source::Upstream => 0,
    };
    let has_body = !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    if has_body && !headers.contains_key(header::TRANSFER_ENCODING) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(header::CONTENT_LENGTH);
    }
    let has_ended = passage.line.method == Method::HEAD || length == 0;
    let codings = code(&passage, status, &mut headers, has_ended);
    passage.kept_response =
        passage.loaded.snapshot.chain(passage.journey.chain()).record.keep_response(&headers);
    let body = match (source, codings) {
        _ if has_ended => OutBody::whole(Bytes::new(), passage),
        (Source::Whole(whole), codings) if codings.is_empty() => OutBody::whole(whole, passage),
        (source, codings) => {
            passage.shaped = Some(Box::new(Shaped { source, codings }));
            OutBody::passing(passage)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The next frame.
#[cold]
pub fn poll_frame(passage: &mut Passage, cx: &mut Context<'_>) -> Polled {
    let Some(mut shaped) = passage.shaped.take() else { return Poll::Ready(None) };
    let Shaped { source, codings } = &mut *shaped;
    let polled = Below { source, codings }.poll(passage, cx);
    passage.shaped = Some(shaped);
    polled
}

impl Source {
    fn poll(&mut self, passage: &mut Passage, cx: &mut Context<'_>) -> Polled {
        match self {
            Source::Upstream if passage.web.is_some() => grpc_web::poll_frame(passage, cx),
            Source::Upstream => passage.poll_frame(cx),
            Source::Whole(rest) => {
                let piece = rest.split_to(rest.len().min(PIECE));
                let has_more = !rest.is_empty();
                Poll::Ready(Some(Ok(passage.give(piece, has_more))))
            }
            Source::File(body) => {
                let Poll::Ready(piece) = Pin::new(&mut *body).poll_piece(cx) else {
                    // After a head there is nothing that a journey could ask for but to break off.
                    return passage.poll_watch(cx).map(|_| Some(Err(Broken)));
                };
                match piece {
                    Ok(piece) => Poll::Ready(Some(Ok(passage.give(piece, body.length() > 0)))),
                    Err(_) => {
                        passage.journey.answer_for(Reason::FileUnreadable);
                        passage.journey.on_response_body(passage.worker.clock.now(), Milestone::End);
                        Poll::Ready(Some(Err(Broken)))
                    }
                }
            }
        }
    }
}

impl Passage {
    /// A piece of naru's own goes out.
    fn give(&mut self, piece: Bytes, has_more: bool) -> Frame<Bytes> {
        let now = self.worker.clock.now();
        self.bytes_sent += piece.len() as u64;
        if has_more {
            self.journey.on_progress(now);
            self.connection.stall.look(self.journey.deadline().map(|(at, _)| at));
        } else {
            self.journey.on_response_body(now, Milestone::End);
        }
        Frame::data(piece)
    }
}
