//! A connection, as its streams have it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};

use super::connection::Connection;
use super::connection::stream::{End, Over, Stream};
use super::frame::Code;

/// A connection that its task and its streams share.
pub type Shared = Rc<RefCell<Connection>>;

/// A place in a connection, for whoever writes to the stream or reads from it.
#[derive(Debug)]
pub struct Handle {
    connection: Shared,
    place: usize,
}

impl Handle {
    pub fn new(connection: &Shared, place: usize) -> Handle {
        if let Some(stream) = connection.borrow_mut().stream(place) {
            stream.handles += 1;
        }
        Handle { connection: Rc::clone(connection), place }
    }

    /// Another one for the same stream.
    pub fn another(&self) -> Handle {
        Handle::new(&self.connection, self.place)
    }

    fn with<T>(&self, default: T, ask: impl FnOnce(&mut Stream) -> T) -> T {
        self.connection.borrow_mut().stream(self.place).map_or(default, ask)
    }

    pub fn take_request(&self) -> Option<Request<()>> {
        self.with(None, |stream| stream.request.take())
    }

    /// As [`Handle::over`], at the beginning of a turn of whoever answers it: interim responses are its own until the
    /// next one's.
    pub fn begin_turn(&self) -> Option<Over> {
        let mut connection = self.connection.borrow_mut();
        connection.answering = self.place;
        connection.stream(self.place).map_or(Some(Over::Lost), |stream| stream.over)
    }

    /// How it ended, if it did.
    pub fn over(&self) -> Option<Over> {
        self.with(Some(Over::Lost), |stream| stream.over)
    }

    /// Whether what it began with was ever given to the socket.
    pub fn is_unsent(&self) -> bool {
        let mut connection = self.connection.borrow_mut();
        let written = connection.written;
        connection.stream(self.place).is_none_or(|stream| written <= stream.head_at)
    }

    /// Nothing more is to come, and all of it was read.
    pub fn has_read_all(&self) -> bool {
        self.with(true, |stream| {
            stream.has_received_all && stream.inbox.is_empty() && stream.trailers.is_none()
        })
    }

    /// How much is still to be read, where that was said.
    pub fn left(&self) -> Option<u64> {
        self.with(None, |stream| stream.left.map(|left| left + stream.inbox.len() as u64))
    }

    /// Ready with a head: that of the answer, or an informational one that comes before it.
    pub fn poll_response(&self, cx: &Context<'_>) -> Poll<Result<Response<()>, Over>> {
        self.with(Poll::Ready(Err(Over::Lost)), |stream| {
            if let Some(interim) = stream.interims.pop_front() {
                return Poll::Ready(Ok(interim));
            }
            if let Some(response) = stream.response.take() {
                return Poll::Ready(Ok(response));
            }
            if let Some(over) = stream.over {
                return Poll::Ready(Err(over));
            }
            remember(&mut stream.reader, cx);
            Poll::Pending
        })
    }

    /// Says 100 (Continue), unless something has come, or was answered.
    pub fn ask_for_more(&self) {
        let mut connection = self.connection.borrow_mut();
        let Some(stream) = connection.stream(self.place) else { return };
        if stream.received == 0 && !stream.has_received_all && !stream.has_sent_head {
            connection.send_response(self.place, StatusCode::CONTINUE, &HeaderMap::new(), false);
        }
    }

    /// Ready with data; with nothing where there is no more.
    pub fn poll_data(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Over>>> {
        let mut connection = self.connection.borrow_mut();
        let Some(stream) = connection.stream(self.place) else { return Poll::Ready(None) };
        if let Some(data) = stream.inbox.take() {
            connection.consume(self.place, data.len());
            return Poll::Ready(Some(Ok(data)));
        }
        // A stream may be reset once all of it has come, and that changes nothing of it.
        if stream.has_received_all {
            return Poll::Ready(None);
        }
        if let Some(over) = stream.over {
            return Poll::Ready(Some(Err(over)));
        }
        remember(&mut stream.reader, cx);
        Poll::Pending
    }

    pub fn take_trailers(&self) -> Option<HeaderMap> {
        self.with(None, |stream| stream.trailers.take())
    }

    /// Ready once there is room for more, or nobody wants it.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut connection = self.connection.borrow_mut();
        if connection.has_room(self.place) {
            return Poll::Ready(());
        }
        if let Some(stream) = connection.stream(self.place) {
            remember(&mut stream.writer, cx);
        }
        Poll::Pending
    }

    /// Wakes `cx` when the stream ends otherwise than by itself.
    pub fn watch(&self, cx: &Context<'_>) {
        self.with((), |stream| remember(&mut stream.writer, cx));
    }

    /// It carries bytes: whoever is at the other end may take as long as it likes, and what has come is read to its end.
    pub fn be_tunnel(&self) {
        self.with((), |stream| (stream.is_patient, stream.keeps_inbox) = (true, true));
    }

    /// Whether all that was given to the stream is on its way, or nobody wants it.
    pub fn has_sent(&self) -> bool {
        self.with(true, |stream| stream.outbox_bytes == 0 || stream.over.is_some())
    }

    /// Ready once all that was given to the stream is on its way, its end as well; with `false` where nobody wants it.
    pub fn poll_sent(&self, cx: &Context<'_>) -> Poll<bool> {
        self.with(Poll::Ready(false), |stream| match stream.over {
            _ if stream.has_sent_all => Poll::Ready(true),
            Some(_) => Poll::Ready(false),
            None => {
                remember(&mut stream.writer, cx);
                Poll::Pending
            }
        })
    }

    pub fn send_response(&self, status: StatusCode, headers: &HeaderMap, ends: bool) {
        self.connection.borrow_mut().send_response(self.place, status, headers, ends);
    }

    pub fn send_data(&self, data: Bytes, end: Option<End>) {
        self.connection.borrow_mut().send_data(self.place, data, end);
    }

    pub fn reset(&self, code: Code) {
        self.connection.borrow_mut().reset(self.place, code);
    }

    /// Nobody reads it any more.
    pub fn leave_unread(&self) {
        self.connection.borrow_mut().leave_unread(self.place);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.borrow_mut().let_go(self.place);
    }
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
