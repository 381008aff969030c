//! Connections: HTTP/1.1 and HTTP/2 by what they begin with.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::answer::Service;

/// What an HTTP/2 client says first begins so (RFC 9113, section 3.4); no method of HTTP/1 does.
const HTTP2_START: &[u8] = b"PRI ";
/// Descriptors are used up: others may be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Server {
    service: Rc<Service>,
    open: Rc<Open>,
}

#[derive(Default)]
struct Open {
    count: Cell<usize>,
    closed: Notify,
}

impl Server {
    pub fn new(service: Rc<Service>) -> Server {
        Server { service, open: Rc::default() }
    }

    /// Takes connections in until `end`; those that wait to be accepted then are still taken.
    pub async fn accept(&self, listener: TcpListener, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                () = end.as_mut() => break,
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) {
            self.take(stream);
        }
    }

    fn take(&self, stream: TcpStream) {
        // Small answers should not wait for each other; without it they only come later.
        let _ = stream.set_nodelay(true);
        let (service, open) = (Rc::clone(&self.service), Rc::clone(&self.open));
        open.count.set(open.count.get() + 1);
        tokio::task::spawn_local(async move {
            serve(stream, service).await;
            open.count.set(open.count.get() - 1);
            open.closed.notify_waiters();
        });
    }

    /// Ends every connection after the requests that it carries.
    pub async fn drained(&self) {
        self.service.drain();
        while self.open.count.get() > 0 {
            self.open.closed.notified().await;
        }
    }
}

async fn serve(stream: TcpStream, service: Rc<Service>) {
    let draining = service.draining();
    let mut asked_to_end = pin!(draining);
    let is_http2 = tokio::select! {
        biased;
        is_http2 = begins_as_http2(&stream) => is_http2,
        () = asked_to_end.as_mut() => return,
    };
    let Ok(is_http2) = is_http2 else { return };
    let answer = service_fn(move |request| {
        let service = Rc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ended is its client's business.
    if is_http2 {
        let mut connection = pin!(http2::Builder::new(Local).serve_connection(io, answer));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = asked_to_end => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut connection = pin!(http1::Builder::new().serve_connection(io, answer));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = asked_to_end => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Looks at the first bytes, and leaves them where they are.
async fn begins_as_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; HTTP2_START.len()];
    let mut has_ended = false;
    loop {
        let count = stream.peek(&mut start).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count == start.len() || start[..count] != HTTP2_START[..count] || has_ended {
            return Ok(start == HTTP2_START);
        }
        // The first letters of it. The stream counts as readable until a read says that it would
        // wait, so that is said for it.
        let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        has_ended = stream.ready(Interest::READABLE).await?.is_read_closed();
    }
}

/// Spawns streams onto this thread.
#[derive(Clone, Copy)]
pub struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
