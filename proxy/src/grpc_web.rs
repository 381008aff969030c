//! Calls of gRPC-Web on their way: what `naru_journey::grpc_web` says, done to bodies as they come.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use naru_journey::grpc_web::{self, Call, Decoder, Encoder, MESSAGE_BYTES_MAX};

use crate::codec::{BodyBroken, InBody};
use crate::engine;
use crate::settle::{Broken, OutBody, Passage};

/// A call, as its answer needs it.
#[derive(Debug)]
pub struct Web {
    pub call: Call,
    encoder: Encoder,
}

impl Web {
    /// Makes a call of gRPC of a request.
    #[cold]
    pub fn begin(call: Call, headers: &mut HeaderMap) -> Box<Web> {
        grpc_web::ask(headers);
        Box::new(Web { call, encoder: Encoder::default() })
    }

    /// What a client is sent for a frame of an answer; trailers are its last.
    fn encode(&mut self, frame: Frame<Bytes>) -> Bytes {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => grpc_web::trailers(&frame.into_trailers().unwrap_or_default()),
        };
        if !self.call.wants_text {
            return data;
        }
        let mut text = BytesMut::new();
        self.encoder.encode(&data, &mut text);
        text.freeze()
    }
}

/// The next frame of an answer, as a client of gRPC-Web reads it.
#[cold]
pub fn poll_frame(passage: &mut Passage, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
    loop {
        let frame = ready!(passage.poll_frame(cx));
        let Some(web) = &mut passage.web else { return Poll::Ready(frame) };
        let data = match frame {
            Some(Ok(frame)) => web.encode(frame),
            Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
            None => {
                let mut rest = BytesMut::new();
                web.encoder.finish(&mut rest);
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                rest.freeze()
            }
        };
        // An empty piece would be the end of a body in chunks.
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if passage.journey.has_ended() {
            return Poll::Ready(None);
        }
    }
}

/// Passes an upstream's answer on. One that is no gRPC is read first: what it says is the message of a status.
pub async fn pass_on(mut passage: Box<Passage>) -> Result<Response<OutBody>, Broken> {
    let received = passage.response.as_mut().ok_or(Broken)?;
    let mut head = received.head.take().ok_or(Broken)?;
    let call = passage.web.as_ref().ok_or(Broken)?.call;
    if grpc_web::is_answer(&head.headers) {
        call.answer(&mut head.headers);
        return engine::pass_head_on(passage, head);
    }
    let mut said = Vec::new();
    while !passage.journey.has_ended() {
        match poll_fn(|cx| passage.poll_frame(cx)).await {
            Some(Ok(frame)) => {
                let room = MESSAGE_BYTES_MAX.saturating_sub(said.len());
                let data = frame.into_data().unwrap_or_default();
                said.extend_from_slice(data.get(..room).unwrap_or(&data));
            }
            Some(Err(broken)) => return Err(broken),
            None => break,
        }
    }
    call.answer_without(head.status.as_u16(), &said, &mut head.headers);
    engine::pass_head_on(passage, head)
}

/// The body of a call that comes as base64.
#[derive(Debug)]
pub struct TextBody {
    inner: InBody,
    decoder: Decoder,
    pub is_malformed: bool,
}

impl TextBody {
    #[cold]
    pub fn new(inner: InBody) -> Box<TextBody> {
        Box::new(TextBody { inner, decoder: Decoder::default(), is_malformed: false })
    }

    pub fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.decoder.is_whole()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()? {
                None if self.decoder.is_whole() => return Poll::Ready(None),
                None => return self.refuse(),
                Some(frame) => frame,
            };
            let text = match frame.into_data() {
                Ok(text) => text,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let mut data = BytesMut::new();
            if self.decoder.decode(&text, &mut data).is_err() {
                return self.refuse();
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data.freeze()))));
            }
        }
    }

    fn refuse(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        self.is_malformed = true;
        Poll::Ready(Some(Err(BodyBroken)))
    }
}
