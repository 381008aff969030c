//! The upstream's side: requests out, responses in.
//!
//! An HTTP/1 connection has no task of its own: whoever waits for its response, or reads its body,
//! moves it along. That saves waking a second task twice for every request.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use naru_base::Reason;
use naru_journey::Sent;

use super::InBody;
use crate::conduit::Conduit;
use crate::upload::UploadBody;

/// Why no response head came.
#[derive(Debug)]
pub struct SendFailure {
    pub reason: Reason,
    pub sent: Sent,
    /// The request, where it can be sent again as it is.
    pub request: Option<Box<Request<UploadBody>>>,
}

type Http1Connection = http1::Connection<TokioIo<Conduit>, UploadBody>;

/// A connection that carries one request at a time.
pub struct Http1Client {
    sender: http1::SendRequest<UploadBody>,
    /// Dropped once it is over: only then does a request that it never took come back.
    connection: Option<Pin<Box<Http1Connection>>>,
    nudge: Arc<Nudge>,
    /// Of `nudge`.
    waker: Waker,
}

/// How often a connection is moved along before its task gives way to others.
const TURNS_MAX: u32 = 4;

/// Wakes the task that moves a connection along, unless it is doing so at this moment: the halves of
/// a connection wake each other all the time, and each such wake would cost the task a whole turn.
#[derive(Debug, Default)]
struct Nudge {
    is_moving: AtomicBool,
    was_nudged: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Nudge {
    /// From here to [`Nudge::end`], wakes are only noted. `task` is woken by those that come later.
    fn begin(&self, task: &Context<'_>) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(waker) if waker.will_wake(task.waker()) => {}
            _ => *known = Some(task.waker().clone()),
        }
        drop(known);
        self.was_nudged.store(false, Ordering::Relaxed);
        self.is_moving.store(true, Ordering::Relaxed);
    }

    /// Whether there was a wake meanwhile: then something may have become ready.
    fn end(&self) -> bool {
        self.is_moving.store(false, Ordering::Relaxed);
        self.was_nudged.load(Ordering::Relaxed)
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_moving.load(Ordering::Relaxed) {
            self.was_nudged.store(true, Ordering::Relaxed);
        } else if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Http1Client {
    /// # Errors
    /// The reason for which the connection cannot be used.
    pub async fn start(conduit: Conduit) -> Result<Http1Client, Reason> {
        let mut builder = http1::Builder::new();
        builder.max_headers(1_000);
        let (sender, connection) =
            builder.handshake(TokioIo::new(conduit)).await.map_err(|_| Reason::ConnectFailure)?;
        let nudge = Arc::<Nudge>::default();
        let waker = Waker::from(Arc::clone(&nudge));
        Ok(Http1Client { sender, connection: Some(Box::pin(connection)), nudge, waker })
    }

    /// Moves the connection along until `ready` finds something or there is nothing to do but wait.
    #[inline]
    pub fn poll_until<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut ready: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..TURNS_MAX {
            self.nudge.begin(cx);
            let mut result = ready(&mut inner);
            if result.is_pending() {
                move_along(&mut self.connection, &mut inner);
                result = ready(&mut inner);
            }
            let was_nudged = self.nudge.end();
            if result.is_ready() || !was_nudged {
                return result;
            }
        }
        // A task that has had its share of the runtime is nudged at every turn until it yields.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nobody waits for the connection any more: what moves in it wakes no task.
    #[inline]
    pub fn rest(&self) {
        *self.nudge.task.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks at the connection once, waiting for nothing: whether it can carry another request.
    #[inline]
    pub fn check(&mut self) -> bool {
        move_along(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        self.can_send()
    }

    /// Whether it could carry another request when it was looked at last.
    #[inline]
    pub fn can_send(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its response. `watch` is asked at every turn; once it
    /// is ready, the wait is over and `Err(None)` is returned.
    #[inline]
    pub async fn send(
        &mut self,
        request: Request<UploadBody>,
        mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<Response<InBody>, Option<SendFailure>> {
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| match self.poll_until(cx, |cx| response.as_mut().poll(cx)) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response.map(InBody::http1))),
            Poll::Ready(Err(mut error)) => {
                let request = error.take_message();
                Poll::Ready(Err(Some(failure(error.error(), request))))
            }
            Poll::Pending => watch(cx).map(|()| Err(None)),
        })
        .await
    }
}

impl std::fmt::Debug for Http1Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1Client").field("is_open", &self.connection.is_some()).finish_non_exhaustive()
    }
}

/// One turn of a connection, if it is not over.
#[inline]
fn move_along<C: Future>(connection: &mut Option<Pin<Box<C>>>, cx: &mut Context<'_>) {
    if let Some(open) = connection
        && open.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}

fn failure(error: &hyper::Error, request: Option<Request<UploadBody>>) -> SendFailure {
    let sent = if request.is_some() { Sent::No } else { Sent::Maybe };
    SendFailure { reason: reason_of(error), sent, request: request.map(Box::new) }
}

fn reason_of(error: &hyper::Error) -> Reason {
    if error.is_user() {
        // The body that we sent broke off, and only a client can have done that.
        return Reason::ClientAborted;
    }
    if error.is_parse() { Reason::UpstreamProtocol } else { Reason::UpstreamClosed }
}
