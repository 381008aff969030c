//! The body of a request, by a stream: frames of data, perhaps trailers, and the end of the stream.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};

use super::super::BodyBroken;
use super::frame::{Code, Kind};
use super::message::{Wrong, read_trailers};
use super::source::{Broken, Source};
use crate::codec::http2::guard::Abuse;

#[derive(Debug)]
pub struct Http3Body {
    source: Source,
    /// Of what the head says that there is.
    left: Option<u64>,
    state: State,
    trailers: Option<HeaderMap>,
    is_malformed: bool,
    /// Whoever sends it waits to be told that it is wanted.
    is_awaited: bool,
    asks_for_more: Rc<Cell<bool>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    InData,
    InTrailers,
    /// Nothing but the end may follow.
    Behind,
    Done,
    Broken,
}

impl Http3Body {
    /// Of a request with this head. `asks_for_more` is set when its client is to be told to send it.
    pub(super) fn new(
        source: Source,
        head: &Request<()>,
        length: Option<u64>,
        asks_for_more: &Rc<Cell<bool>>,
    ) -> Http3Body {
        let is_awaited = head
            .headers()
            .get(header::EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Http3Body {
            source,
            left: length,
            state: State::Between,
            trailers: None,
            is_malformed: false,
            is_awaited,
            asks_for_more: Rc::clone(asks_for_more),
        }
    }

    /// Whether it broke because it is not what its head says, or its trailers are none.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Nobody reads it any more.
    pub(super) fn stop(&mut self, code: Code) {
        self.source.stop(code);
    }

    fn malformed(&mut self) -> Broken {
        self.is_malformed = true;
        self.source.stop(Code::MESSAGE_ERROR);
        // A mistake too many closes the connection.
        let _ = self.source.link().guard(Abuse::Mistakes);
        Broken::Gone
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        loop {
            match self.state {
                State::Between | State::Behind => match ready!(self.source.poll_frame(cx)).transpose()? {
                    None if self.left.is_some_and(|left| left > 0) => {
                        return Poll::Ready(Err(self.malformed()));
                    }
                    None => {
                        self.state = State::Done;
                        return Poll::Ready(Ok(self.trailers.take().map(Frame::trailers)));
                    }
                    Some(head) => match head.kind {
                        Kind::Data if self.state == State::Between => {
                            if head.length == 0 {
                                let allowed = self.source.link().guard(Abuse::EmptyFrames);
                                allowed.map_err(|()| Broken::Closed)?;
                            }
                            self.state = State::InData;
                        }
                        Kind::Headers if self.state == State::Between => {
                            if head.length > self.source.link().limits.bytes_max as u64 {
                                return Poll::Ready(Err(self.malformed()));
                            }
                            self.state = State::InTrailers;
                        }
                        // Whatever else is known has no place in a message (RFC 9114, sections 4.1 and 7.2).
                        _ => return Poll::Ready(Err(self.source.fail(Code::FRAME_UNEXPECTED))),
                    },
                },
                State::InData => match ready!(self.source.poll_piece(cx))? {
                    None => self.state = State::Between,
                    Some(data) => {
                        if let Some(left) = &mut self.left {
                            match left.checked_sub(data.len() as u64) {
                                Some(rest) => *left = rest,
                                None => return Poll::Ready(Err(self.malformed())),
                            }
                        }
                        self.source.link().on_useful();
                        return Poll::Ready(Ok(Some(Frame::data(data))));
                    }
                },
                State::InTrailers => {
                    let section = ready!(self.source.poll_whole(cx))?;
                    self.state = State::Behind;
                    match read_trailers(&section, self.source.link().limits) {
                        Ok(trailers) => self.trailers = Some(trailers),
                        Err(Wrong::Connection(code)) => return Poll::Ready(Err(self.source.fail(code))),
                        Err(Wrong::Message(_)) => return Poll::Ready(Err(self.malformed())),
                    }
                }
                State::Done => return Poll::Ready(Ok(None)),
                State::Broken => return Poll::Ready(Err(Broken::Gone)),
            }
        }
    }
}

impl Body for Http3Body {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if std::mem::take(&mut self.is_awaited) {
            self.asks_for_more.set(true);
        }
        let polled = ready!(self.poll(cx));
        if polled.is_err() {
            self.state = State::Broken;
        }
        Poll::Ready(polled.map_err(|_| BodyBroken).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Http3Body {
    fn drop(&mut self) {
        if self.state != State::Done && !self.source.has_ended() {
            self.source.stop(Code::NO_ERROR);
        }
    }
}
