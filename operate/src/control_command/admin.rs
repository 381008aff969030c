//! The admin interface of a control plane.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Method, Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_discovery::ControlPlane;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::admin::{Whole, json, text};

const PAGES: &str = "\
/ready           LIVE
/proxies         proxies that are connected, what each has, what it lacks, how old that is
/quitquitquit    POST: end; proxies keep what they have
";

pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the runtime ends. `source` says how it stands where documents come from.
pub async fn serve(
    listener: TcpListener,
    plane: Rc<ControlPlane>,
    source: Rc<dyn Fn() -> Value>,
    quit: Rc<Notify>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (plane, source, quit) = (Rc::clone(&plane), Rc::clone(&source), Rc::clone(&quit));
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let response = answer(&plane, &*source, &quit, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client of the admin interface that goes away is nobody's concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(
    plane: &ControlPlane,
    source: &dyn Fn() -> Value,
    quit: &Notify,
    request: &Request<hyper::body::Incoming>,
) -> Response<Whole> {
    match (request.uri().path(), request.method()) {
        ("/quitquitquit", &Method::POST) => {
            quit.notify_one();
            text(StatusCode::OK, "OK\n")
        }
        ("/quitquitquit", _) => text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n"),
        (_, method) if method != Method::GET && method != Method::HEAD => {
            text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use GET\n")
        }
        ("/proxies", _) => {
            let mut status = plane.status();
            let mut of = source();
            if let Some(wrong) = status["source"].as_object() {
                wrong.iter().for_each(|(name, value)| of[name] = value.clone());
            }
            status["source"] = of;
            json(&status)
        }
        ("/ready", _) => text(StatusCode::OK, "LIVE\n"),
        ("/", _) => text(StatusCode::OK, PAGES),
        _ => text(StatusCode::NOT_FOUND, "invalid path. admin commands are listed at /\n"),
    }
}
