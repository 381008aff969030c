//! Connections: HTTP/1.1 and HTTP/2 by what they begin with.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::answer::Service;

/// What an HTTP/2 client says first begins so (RFC 9113, section 3.4); no method of HTTP/1 does.
const HTTP2_START: &[u8] = b"PRI ";
/// Descriptors are used up: others may be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Server {
    service: Rc<Service>,
    open: Rc<Open>,
    drain_tx: watch::Sender<bool>,
}

#[derive(Default)]
struct Open {
    count: Cell<usize>,
    closed: Notify,
}

impl Server {
    pub fn new(service: Rc<Service>) -> Server {
        Server { service, open: Rc::default(), drain_tx: watch::Sender::new(false) }
    }

    /// Takes connections in for ever.
    pub async fn accept(&self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Small answers should not wait for each other; without it they only come later.
            let _ = stream.set_nodelay(true);
            let (service, open) = (Rc::clone(&self.service), Rc::clone(&self.open));
            let draining = self.drain_tx.subscribe();
            open.count.set(open.count.get() + 1);
            tokio::task::spawn_local(async move {
                serve(stream, service, draining).await;
                open.count.set(open.count.get() - 1);
                open.closed.notify_waiters();
            });
        }
    }

    /// Ends every connection after the requests that it carries.
    pub async fn drained(&self) {
        self.drain_tx.send_replace(true);
        while self.open.count.get() > 0 {
            self.open.closed.notified().await;
        }
    }
}

async fn serve(stream: TcpStream, service: Rc<Service>, mut draining: watch::Receiver<bool>) {
    let Some(is_http2) = begins_as_http2(&stream).await else { return };
    let answer = service_fn(move |request| {
        let service = Rc::clone(&service);
        async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    let asked_to_end = async move {
        // The sender lives as long as the server.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    };
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

/// `None` where the client says nothing and leaves.
async fn begins_as_http2(stream: &TcpStream) -> Option<bool> {
    let mut start = [0; HTTP2_START.len()];
    loop {
        let count = stream.peek(&mut start).await.ok().filter(|count| *count > 0)?;
        if start[..count] != HTTP2_START[..count] {
            return Some(false);
        }
        if count == start.len() {
            return Some(true);
        }
        // The first letters of it; the rest is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
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
