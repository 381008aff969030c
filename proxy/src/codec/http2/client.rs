//! The upstream's side of HTTP/2: requests out, responses in.
//!
//! A connection is moved along by a task of its own, as nobody knows which of its requests lives longest. The body
//! of a request is sent by whoever waits for the answer, and by another task where the answer comes first.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body;
use naru_base::Reason;
use naru_journey::Sent;
use naru_spec::{Http2Keepalive, Http2Settings};
use tokio::time::{Sleep, sleep};

use super::super::client::SendFailure;
use super::super::{InBody, Interim};
use super::body::Http2Body;
use super::connection::stream::{End, Over};
use super::connection::{Connection, Failure, Role, Terms};
use super::frame::Code;
use super::server::{TURNS_MAX, Wire, begin_turn, poll_send};
use super::shared::{Handle, Shared};
use crate::conduit::Conduit;
use crate::upload::UploadBody;
use crate::worker::Worker;

/// The head of an answer, and its trailers, may have so many bytes.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// A connection that carries many requests at a time. Cloning shares it.
#[derive(Debug)]
pub struct Http2Client {
    connection: Shared,
}

impl Clone for Http2Client {
    fn clone(&self) -> Http2Client {
        Http2Client::of(&self.connection)
    }
}

impl Drop for Http2Client {
    fn drop(&mut self) {
        let mut connection = self.connection.borrow_mut();
        connection.openers -= 1;
        if connection.openers == 0 {
            connection.touch();
        }
    }
}

impl Http2Client {
    /// The connection lives in a task of its own and holds `life` for as long.
    pub fn start<L: 'static>(
        conduit: Conduit,
        worker: &Rc<Worker>,
        settings: Http2Settings,
        keepalive: Option<Http2Keepalive>,
        life: L,
    ) -> Http2Client {
        let terms = Terms {
            stream_window: settings.stream_window,
            connection_window: settings.connection_window,
            streams_max: settings.max_concurrent_streams,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_timeout: None,
            takes_extended: false,
            pace: None,
            limits: Default::default(),
        };
        let connection: Shared =
            Rc::new(RefCell::new(Connection::new(Role::Client, terms, worker.clock.now())));
        let client = Http2Client::of(&connection);
        let keepalive = keepalive.map(Keepalive::new);
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            let standing = Standing(connection);
            run(conduit, &worker, &standing.0, keepalive).await;
            drop(life);
        });
        client
    }

    fn of(connection: &Shared) -> Http2Client {
        connection.borrow_mut().openers += 1;
        Http2Client { connection: Rc::clone(connection) }
    }

    pub fn is_closed(&self) -> bool {
        self.connection.borrow().is_closed()
    }

    /// How many requests it may carry at a time.
    pub fn streams_max(&self) -> usize {
        self.connection.borrow().streams_max()
    }

    /// Whether the upstream takes an extended CONNECT, which it says with the first that it says. `None` where `watch`
    /// is ready before that.
    pub async fn takes_extended(&self, mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Option<bool> {
        let mut waiting = Waiting::new(&self.connection);
        poll_fn(|cx| {
            let mut connection = self.connection.borrow_mut();
            if let Some(takes) = connection.takes_extended() {
                return Poll::Ready(Some(takes));
            }
            if connection.is_closed() {
                // That it is gone is seen when it is used.
                return Poll::Ready(Some(true));
            }
            connection.wait_to_open(&mut waiting.number, cx);
            drop(connection);
            watch(cx).map(|()| None)
        })
        .await
    }

    /// As [`super::super::Http1Client::send`]. The stream of a CONNECT stays open for what is granted.
    pub async fn send(
        &mut self,
        request: Request<UploadBody>,
        interim: Option<Interim>,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<Response<InBody>, Option<SendFailure>> {
        let (head, body) = request.into_parts();
        let mut head = Request::from_parts(head, ());
        let mut waiting = Waiting::new(&self.connection);
        let can_open = poll_fn(|cx| {
            let mut connection = self.connection.borrow_mut();
            if connection.is_closed() {
                return Poll::Ready(Some(false));
            }
            if connection.can_open() {
                return Poll::Ready(Some(true));
            }
            connection.wait_to_open(&mut waiting.number, cx);
            drop(connection);
            watch(cx).map(|()| None)
        });
        let can_open = can_open.await;
        drop(waiting);
        if !can_open.ok_or(None)? {
            return Err(Some(unsent(Reason::UpstreamClosed, head)));
        }
        let is_connect = *head.method() == Method::CONNECT;
        let ends = body.is_end_stream() && !is_connect;
        let means_body = matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH);
        if let Some(length) = body.size_hint().exact()
            && (length > 0 || means_body)
        {
            let length = HeaderValue::from(length);
            head.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length);
        }
        let place = self.connection.borrow_mut().open(&head, ends);
        let stream = Handle::new(&self.connection, place);
        let answer = Http2Body::new(stream.another());
        let mut sending =
            (!ends && !is_connect).then(|| Sending { stream: stream.another(), body, is_broken: false });
        let answered = poll_fn(|cx| {
            if let Some(pump) = &mut sending
                && pump.poll(cx).is_ready()
                && !pump.is_broken
            {
                sending = None;
            }
            loop {
                return match stream.poll_response(cx) {
                    Poll::Ready(Ok(early)) if early.status().is_informational() => {
                        if let Some(interim) = &interim {
                            interim.pass_on(early.status(), early.into_parts().0.headers);
                        }
                        continue;
                    }
                    Poll::Ready(answered) => Poll::Ready(Some(answered)),
                    Poll::Pending => watch(cx).map(|()| None),
                };
            }
        });
        match answered.await {
            Some(Ok(response)) => {
                if is_connect && !response.status().is_success() {
                    stream.send_data(Bytes::new(), Some(End::Plain));
                }
                if let Some(mut rest) = sending {
                    tokio::task::spawn_local(async move { poll_fn(|cx| rest.poll(cx)).await });
                }
                Ok(response.map(|()| InBody::http2(answer)))
            }
            Some(Err(over)) => {
                let is_broken = sending.is_some_and(|sending| sending.is_broken);
                Err(Some(self.failure(over, is_broken, &stream, head)))
            }
            None => Err(None),
        }
    }

    fn failure(&self, over: Over, is_broken: bool, stream: &Handle, head: Request<()>) -> SendFailure {
        let is_unsent = stream.is_unsent();
        let reason = match over {
            // Only a client can have done that.
            _ if is_broken => Reason::ClientAborted,
            // It goes away, and named the last request that it looks at: one before this (RFC 9113, section 6.8).
            Over::LeftOut => return unsent(Reason::UpstreamRefused, head),
            Over::ResetByPeer(Code::REFUSED_STREAM) => Reason::UpstreamRefused,
            Over::ResetByPeer(_) => Reason::UpstreamReset,
            Over::ResetByUs(_) => Reason::UpstreamProtocol,
            Over::Whole | Over::Lost => match self.connection.borrow().failure {
                Some(Failure::Protocol(_) | Failure::Abuse(_)) => Reason::UpstreamProtocol,
                Some(Failure::Lost) | None => Reason::UpstreamClosed,
            },
        };
        if over == Over::Lost && is_unsent {
            return unsent(reason, head);
        }
        SendFailure { reason, sent: Sent::Maybe, request: None }
    }
}

/// A request that waits for a stream: forgotten once it waits no more, be it that it is given up.
struct Waiting<'a> {
    connection: &'a Shared,
    number: Option<u64>,
}

impl Waiting<'_> {
    fn new(connection: &Shared) -> Waiting<'_> {
        Waiting { connection, number: None }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.connection.borrow_mut().wait_no_more(number);
        }
    }
}

/// When its task is over nobody takes the connection for one that stands, be it that the task has panicked.
struct Standing(Shared);

impl Drop for Standing {
    fn drop(&mut self) {
        if let Ok(mut connection) = self.0.try_borrow_mut() {
            connection.fail(Failure::Lost);
        }
    }
}

fn unsent(reason: Reason, head: Request<()>) -> SendFailure {
    SendFailure { reason, sent: Sent::No, request: Some(Box::new(head.map(|()| UploadBody::Empty))) }
}

/// The body of a request on its way.
struct Sending {
    stream: Handle,
    body: UploadBody,
    /// It broke off, and its stream with it.
    is_broken: bool,
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_broken {
            return Poll::Ready(());
        }
        match poll_send(&self.stream, &mut self.body, cx) {
            Poll::Ready(sent) => {
                if sent.is_err() {
                    self.is_broken = true;
                    self.stream.reset(Code::CANCEL);
                }
                Poll::Ready(())
            }
            Poll::Pending => {
                self.stream.watch(cx);
                Poll::Pending
            }
        }
    }
}

/// Moves a connection along until it ends.
async fn run(conduit: Conduit, worker: &Rc<Worker>, connection: &Shared, mut keepalive: Option<Keepalive>) {
    let mut io = Wire::new(conduit, worker);
    poll_fn(|cx| {
        begin_turn(connection, cx);
        let mut polled = Poll::Pending;
        for turn in 0..=TURNS_MAX {
            let has_read = io.read(connection, cx);
            if let Some(keepalive) = &mut keepalive {
                keepalive.poll(connection, cx);
            }
            if connection.borrow().openers == 0 && !connection.borrow().has_streams() {
                connection.borrow_mut().leave();
            }
            polled = io.write(connection, cx);
            if polled.is_ready() || !has_read && !io.is_behind(connection) {
                break;
            }
            if turn == TURNS_MAX {
                cx.waker().wake_by_ref();
            }
        }
        connection.borrow_mut().is_in_turn = false;
        polled
    })
    .await;
    let failure = connection.borrow().failure;
    io.end(connection, failure).await;
}

/// Asks whether the other side is still there, and ends the connection where it does not say so. As Envoy it asks at
/// every interval, whatever moves.
struct Keepalive {
    settings: Http2Keepalive,
    sleep: Pin<Box<Sleep>>,
    /// How many answers there were when it asked.
    asked: Option<u64>,
}

impl Keepalive {
    fn new(settings: Http2Keepalive) -> Keepalive {
        Keepalive { settings, sleep: Box::pin(sleep(settings.interval)), asked: None }
    }

    fn poll(&mut self, connection: &Shared, cx: &mut Context<'_>) {
        let mut connection = connection.borrow_mut();
        if self.asked.is_some_and(|asked| connection.pongs > asked) {
            self.asked = None;
            self.sleep = Box::pin(sleep(self.settings.interval));
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.asked.is_some() {
                return connection.fail(Failure::Lost);
            }
            self.asked = Some(connection.pongs);
            connection.ping();
            self.sleep = Box::pin(sleep(self.settings.timeout));
        }
    }
}
