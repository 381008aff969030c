//! Requests of the proxy's own, off the way of any other: one at a time, with a body that is there
//! whole.
//!
//! Unlike the connections of a worker, one of these lives in tasks of its own on whichever runtime
//! made it, and ends with them when it is dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use naru_spec::Http2Settings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::body::HyperBody;

/// A body that is there whole.
#[derive(Clone, Debug, Default)]
pub struct WholeBody(Option<Bytes>);

impl WholeBody {
    pub fn of(bytes: Bytes) -> WholeBody {
        WholeBody(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Why there is no head of a response.
#[derive(Debug)]
pub enum Unanswered {
    /// The connection had ended before: the request can go by another one.
    Unsent(Box<Request<WholeBody>>),
    Broken,
}

/// A connection, and the tasks that move it along.
#[derive(Debug)]
pub struct Inquirer {
    sender: Sender,
    _tasks: Tasks,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<WholeBody>),
    Http2(http2::SendRequest<WholeBody>),
}

impl Inquirer {
    /// `None` where the connection cannot be used.
    pub async fn http1<S>(stream: S) -> Option<Inquirer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tasks = Tasks::default();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tasks.spawner().spawn(async move {
            // How a connection ends is seen by its request.
            let _ = connection.await;
        });
        Some(Inquirer { sender: Sender::Http1(sender), _tasks: tasks })
    }

    /// As [`Inquirer::http1`].
    pub async fn http2<S>(stream: S, settings: Http2Settings) -> Option<Inquirer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.spawner());
        builder
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        tasks.spawner().spawn(async move {
            let _ = connection.await;
        });
        Some(Inquirer { sender: Sender::Http2(sender), _tasks: tasks })
    }

    /// Whether it may carry another request, as far as it is known.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends a request, and waits for the head of its response.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&mut self, request: Request<WholeBody>) -> Result<Response<HyperBody>, Unanswered> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unanswered::Unsent(Box::new(request)));
                }
                sender.try_send_request(request).await.map(|answer| answer.map(HyperBody::http1))
            }
            Sender::Http2(sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unanswered::Unsent(Box::new(request)));
                }
                sender.try_send_request(request).await.map(|answer| answer.map(HyperBody::http2))
            }
        }
        .map_err(unanswered)
    }
}

fn unanswered(mut error: TrySendError<Request<WholeBody>>) -> Unanswered {
    error.take_message().map_or(Unanswered::Broken, |request| Unanswered::Unsent(Box::new(request)))
}

/// The tasks of a connection: they end when this is dropped.
#[derive(Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }
}

/// Adds tasks, as long as there is anybody to end them.
#[derive(Clone, Debug)]
struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Spawner {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(future);
    }
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            future.await;
        });
    }
}
