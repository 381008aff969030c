//! The client's side of HTTP/2: requests in, responses out.
//!
//! A connection is one task, whatever number of requests it carries.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http::header::{self, HeaderValue};
use http_body::Body;
use naru_base::{Instant, Reason};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::super::{Answers, InBody, Interim, Leave, ServeError};
use super::body::Http2Body;
use super::connection::stream::{End, Over};
use super::connection::{Connection, Failure, Role, Terms};
use super::crowd::Crowd;
use super::frame::Code;
use super::guard::Abuse;
use super::shared::{Handle, Shared};
use super::tunnel::Http2Tunnel;
use crate::conduit::Conduit;
use crate::linger::Lingering;
use crate::settle::{Broken, OutBody};
use crate::stall::{Stall, Turns};
use crate::timer::Timer;
use crate::tunnel::{self, Changed};
use crate::worker::Worker;

/// So much is read before what it asks for has its turn.
const READ_BYTES: usize = 32 * 1024;
/// So often a connection goes on before it gives way to others.
pub(super) const TURNS_MAX: u32 = 8;
/// How long a peer may take to hear the last words: any, and one that means no good.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LAST_WORDS_TO_ABUSERS: Duration = Duration::from_secs(1);

/// What happens on a connection that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A request was refused before anybody saw it.
    Refused(Reason),
    /// What is no HTTP has ended the connection, after requests that have lines of their own.
    Malformed,
    /// The connection is closed for it.
    Abuse(Abuse),
}

/// Serves one connection until it ends; as [`super::super::serve`].
pub async fn serve(
    client: Lingering,
    worker: &Rc<Worker>,
    http: super::super::Terms,
    answers: impl Answers + 'static,
    mut leave: impl FnMut(&mut Context<'_>) -> Poll<Leave>,
    stall: &Rc<Stall>,
) -> Result<(), ServeError> {
    let terms = Terms {
        stream_window: http.http2.stream_window,
        connection_window: http.http2.connection_window,
        streams_max: http.http2.max_concurrent_streams,
        header_bytes_max: http.header_bytes_max as usize,
        headers_timeout: http.request_headers_timeout,
        takes_extended: http.takes_extended,
        pace: http.response_pace,
        limits: http.http2_limits,
    };
    let answers = Rc::new(answers);
    let connection: Shared = Rc::new(RefCell::new(Connection::new(Role::Server, terms, worker.clock.now())));
    answers.open(Interim::on_http2(&connection));
    let mut crowd = Crowd::new();
    let mut io = Wire::new(client, worker);
    let failure = poll_fn(|cx| {
        crowd.begin_turn(cx);
        begin_turn(&connection, cx);
        let mut polled = Poll::Pending;
        for turn in 0..=TURNS_MAX {
            match leave(cx) {
                Poll::Ready(Leave::AtOnce) => return Poll::Ready(None),
                Poll::Ready(Leave::Gently | Leave::Patiently) => connection.borrow_mut().leave(),
                Poll::Pending => {}
            }
            let has_read = io.read(&connection, cx);
            loop {
                let Some(place) = connection.borrow_mut().accept() else { break };
                let stream = Handle::new(&connection, place);
                if let Some(request) = stream.take_request() {
                    let body = Http2Body::of_request(stream.another(), &request);
                    let request = request.map(|()| InBody::http2(body));
                    let answers = Rc::clone(&answers);
                    let service = async move { answers.answer(request).await };
                    crowd.push(answer(stream, service, Rc::clone(stall)));
                }
            }
            connection
                .borrow_mut()
                .take_mistakes()
                .into_iter()
                .for_each(|reason| answers.hear(Told::Refused(reason)));
            crowd.poll();
            polled = io.write(&connection, cx);
            if polled.is_ready() || !has_read && !crowd.is_rung() && !io.is_behind(&connection) {
                break;
            }
            if turn == TURNS_MAX {
                cx.waker().wake_by_ref();
            }
        }
        connection.borrow_mut().is_in_turn = false;
        if crowd.end_turn() && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        if !connection.borrow().has_streams() {
            crowd.shrink();
        }
        polled.map(|()| connection.borrow().failure)
    })
    .await;
    // Requests are over before their connection is: what they were told is in their lines.
    drop(crowd);
    io.end(&connection, failure).await;
    match failure {
        None => Ok(()),
        Some(Failure::Lost) => Err(ServeError::Broken),
        Some(Failure::Protocol(_)) if connection.borrow().has_served() => {
            answers.hear(Told::Malformed);
            Err(ServeError::Broken)
        }
        Some(Failure::Protocol(_)) => Err(ServeError::Protocol(Reason::ClientProtocol)),
        Some(Failure::Abuse(abuse)) => {
            answers.hear(Told::Abuse(abuse));
            Err(ServeError::Protocol(Reason::ClientAbuse))
        }
    }
}

pub(super) fn begin_turn(connection: &Shared, cx: &Context<'_>) {
    let mut connection = connection.borrow_mut();
    connection.is_in_turn = true;
    match &connection.task {
        Some(task) if task.will_wake(cx.waker()) => {}
        _ => connection.task = Some(cx.waker().clone()),
    }
}

/// Answers one request.
async fn answer<F>(stream: Handle, service: F, stall: Rc<Stall>)
where
    F: Future<Output = Result<Response<OutBody>, Broken>>,
{
    let mut turns = Turns::of(&stall);
    let answered = {
        let mut service = pin!(service);
        poll_fn(|cx| {
            if stream.begin_turn().is_some() {
                return Poll::Ready(None);
            }
            turns.begin();
            match service.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => {
                    stream.watch(cx);
                    turns.poll_stalled(cx).map(|()| None)
                }
            }
        })
        .await
    };
    let (mut head, mut body) = match answered {
        Some(Ok(response)) => response.into_parts(),
        Some(Err(Broken)) => return stream.reset(Code::INTERNAL_ERROR),
        None => return stream.reset(Code::CANCEL),
    };
    if let OutBody::Changed(changed) = body {
        stream.send_response(head.status, &head.headers, false);
        // It is boxed so that those without one need no room for it.
        return Box::pin(change(stream, *changed)).await;
    }
    let ends = body.is_end_stream();
    if !ends && let Some(length) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    stream.send_response(head.status, &head.headers, ends);
    drop(head);
    if ends {
        return;
    }
    let ended = poll_fn(|cx| {
        turns.begin();
        match poll_send(&stream, &mut body, cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                stream.watch(cx);
                turns.poll_stalled(cx).map(|()| Err(Code::CANCEL))
            }
        }
    })
    .await;
    if let Err(code) = ended {
        stream.reset(code);
    }
}

/// Carries what a stream has become, until it ends.
async fn change(stream: Handle, changed: Changed) {
    let InBody::Http2(body) = changed.client else { return stream.reset(Code::INTERNAL_ERROR) };
    let conduit = Conduit::http2(Http2Tunnel::new(body));
    let mut served = pin!(tunnel::serve(conduit, changed.waiting));
    poll_fn(|cx| match served.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        // One way may have ended when the stream is reset, and nobody looks at it any more.
        Poll::Pending if stream.over().is_some_and(|over| over != Over::Whole) => Poll::Ready(()),
        Poll::Pending => {
            stream.watch(cx);
            Poll::Pending
        }
    })
    .await;
}

/// Sends a body. Ready once all of it is given to the stream, or nobody wants it.
///
/// # Errors
/// It broke off.
pub(super) fn poll_send<B>(stream: &Handle, body: &mut B, cx: &mut Context<'_>) -> Poll<Result<(), Code>>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        if stream.over().is_some() {
            return Poll::Ready(Ok(()));
        }
        if stream.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Poll::Pending };
        let (data, end) = match frame {
            None => (Bytes::new(), Some(End::Plain)),
            Some(Err(_)) => return Poll::Ready(Err(Code::INTERNAL_ERROR)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => (data, body.is_end_stream().then_some(End::Plain)),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => (Bytes::new(), Some(End::Trailers(trailers))),
                    Err(_) => continue,
                },
            },
        };
        let has_ended = end.is_some();
        stream.send_data(data, end);
        if has_ended {
            return Poll::Ready(Ok(()));
        }
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Wire<T> {
    io: T,
    input: BytesMut,
    /// The socket has nothing to read and wakes the task when it has, or will never have more.
    is_read_out: bool,
    has_ended: bool,
    is_unflushed: bool,
    /// Only where there is something to wait for: a connection that rests has none.
    timer: Option<Timer>,
    worker: Rc<Worker>,
}

impl<T: tokio::io::AsyncRead + AsyncWrite + Unpin> Wire<T> {
    pub fn new(io: T, worker: &Rc<Worker>) -> Wire<T> {
        Wire {
            io,
            input: BytesMut::new(),
            is_read_out: false,
            has_ended: false,
            is_unflushed: false,
            timer: None,
            worker: Rc::clone(worker),
        }
    }

    /// Reads what there is, but not too much at once. Says whether there may be more.
    pub fn read(&mut self, connection: &Shared, cx: &mut Context<'_>) -> bool {
        let mut connection = connection.borrow_mut();
        let mut now = None;
        let mut bytes = 0;
        self.is_read_out = self.has_ended;
        while !self.is_read_out && connection.wants_more() && bytes < READ_BYTES {
            self.input.reserve(READ_BYTES / 2);
            let Poll::Ready(read) = pin!(self.io.read_buf(&mut self.input)).poll(cx) else {
                self.is_read_out = true;
                break;
            };
            let now = *now.get_or_insert_with(|| self.worker.clock.now());
            match read {
                Ok(read) if read > 0 => {
                    bytes += read;
                    connection.receive(&mut self.input, now);
                }
                _ => {
                    (self.has_ended, self.is_read_out) = (true, true);
                    connection.receive_end();
                }
            }
        }
        if self.input.is_empty() && !connection.has_streams() {
            self.input = BytesMut::new();
        }
        bytes > 0
    }

    /// Whether it stopped reading for what was to be written, and may go on: nobody wakes its task for that.
    pub fn is_behind(&self, connection: &Shared) -> bool {
        !self.is_read_out && connection.borrow().wants_more()
    }

    /// Writes what there is. Ready once the connection has nothing more to say, or nobody to say it to.
    pub fn write(&mut self, connection: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        let mut connection = connection.borrow_mut();
        loop {
            connection.pump();
            if connection.out.is_empty() {
                break;
            }
            match Pin::new(&mut self.io).poll_write(cx, &connection.out) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    connection.wrote(written, || self.worker.clock.now());
                    self.is_unflushed = true;
                }
                Poll::Ready(_) => {
                    connection.out.clear();
                    connection.fail(Failure::Lost);
                    connection.out.clear();
                    return Poll::Ready(());
                }
                Poll::Pending => break,
            }
        }
        if self.is_unflushed && Pin::new(&mut self.io).poll_flush(cx).is_ready() {
            self.is_unflushed = false;
        }
        if connection.out.is_empty() && !connection.has_streams() {
            connection.rest();
        }
        while let Some(deadline) = connection.deadline() {
            if self.poll_timer(deadline, cx).is_pending() {
                break;
            }
            connection.tick(self.worker.clock.now());
        }
        // Last words are said by `end`, which does not wait for ever.
        let is_said = connection.out.is_empty() || connection.failure.is_some();
        if connection.is_over() && is_said { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Timer::new(&self.worker.timers));
        timer.set(deadline);
        timer.poll(cx)
    }

    /// Says the last words and closes.
    pub async fn end(&mut self, connection: &Shared, failure: Option<Failure>) {
        let now = self.worker.clock.now();
        let deadline = match failure {
            Some(Failure::Lost) => return,
            Some(Failure::Abuse(_)) => now + LAST_WORDS_TO_ABUSERS,
            Some(Failure::Protocol(_)) | None => now + LAST_WORDS,
        };
        poll_fn(|cx| {
            while self.poll_timer(deadline, cx).is_ready() {
                if self.worker.clock.now() >= deadline {
                    return Poll::Ready(());
                }
            }
            let mut connection = connection.borrow_mut();
            while !connection.out.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, &connection.out) {
                    Poll::Ready(Ok(written)) if written > 0 => connection.out.advance(written),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ())
        })
        .await;
    }
}
