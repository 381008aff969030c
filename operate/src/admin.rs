//! The admin interface: what the data plane is doing, in Envoy's words.
//!
//! Read only but for what is asked for by POST. It listens where the configuration says and nowhere else, and
//! lives on a thread that carries no requests.

mod cache;
mod clusters;
mod control_plane;
mod guards;
mod limits;
mod mirrors;
mod prometheus;
mod sessions;
mod stats;
mod strain;
mod surge;
mod gateway_api;
mod tcp;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_discovery::ControlPlane;
use naru_proxy::Proxy;
use naru_spec::Config;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::asking::{self, Desk, What};
use crate::discovery::Discovery;
use crate::takeover::Predecessors;
pub use clusters::guards_of;

/// What the pages are made of.
pub struct Admin {
    pub proxy: Rc<Proxy>,
    /// Where the configuration came from.
    pub file: String,
    /// Says the configuration in force once more; to be replaced with it.
    pub recall: RefCell<Recall>,
    pub workers: usize,
    /// Processes that this one has taken over from, and that are not done yet.
    pub predecessors: Predecessors,
    /// Who tells other proxies what there is.
    pub control: Option<Rc<ControlPlane>>,
    /// Where some of what holds comes from a control plane.
    pub discovery: Option<Rc<Discovery>>,
    /// Of documents of the Gateway API that are in force.
    pub statuses: Statuses,
    /// Told when somebody asks the process to end.
    pub quit: Notify,
    /// Who knows the documents of what is in force, where there are any.
    pub desk: Option<Desk>,
}

impl Admin {
    /// Whether requests are served: names are looked up, endpoints probed, and a control plane has said what holds, or is
    /// waited for no longer.
    fn is_ready(&self) -> bool {
        self.proxy.is_ready() && self.discovery.as_ref().is_none_or(|discovery| discovery.is_initialized())
    }
}

/// What becomes of documents of the Gateway API.
pub type Statuses = Rc<RefCell<Vec<naru_plan::Status>>>;

/// A configuration is asked for seldom, and would take more memory than the tables that it became: so it is made
/// again from what it came from. `None` where that cannot be read any more.
pub type Recall = Box<dyn Fn() -> Option<Config>>;

/// Claims the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Goes on where another process listened.
pub fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, admin: Rc<Admin>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let admin = Rc::clone(&admin);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let admin = Rc::clone(&admin);
                async move { Ok::<_, Infallible>(respond(&admin, request).await) }
            });
            // A client of the admin interface that goes away is nobody's concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The pages, for people who look at `/`.
const PAGES: &[(&str, &str)] = &[
    ("/ready", "LIVE once every cluster was looked up, else INITIALIZING with 503"),
    ("/stats", "counters and gauges, a line each; ?filter=REGEX, ?usedonly, ?format=json or prometheus"),
    ("/metrics", "the same and Istio's request metrics, for Prometheus"),
    ("/clusters", "endpoints and their counts; ?format=json"),
    ("/mirrors", "copies of requests, and what their answers differ in; ?format=json"),
    ("/cache", "what is kept of answers, and how often it was given; ?format=json"),
    ("/cache/purge", "POST: forget answers; ?url=, ?prefix=, ?tag= or ?all"),
    ("/sessions", "login sessions: keys by their ids, and what was asked for; ?format=json"),
    (
        "/sessions/revoke",
        "POST: end a token or a session, ?id=, the jti or the sid; or all of somebody, ?user=, the sub; ?name= where \
         there are several",
    ),
    ("/gateway-api", "what becomes of documents of the Gateway API; ?format=json"),
    ("/surge", "how hard the load is, and what is given up for it; ?format=json"),
    ("/surge/hold", "POST: ?level=N, ?freeze or ?release: who says the level, you or the load"),
    ("/proxies", "of a control plane: proxies that are connected, and what each has"),
    ("/listeners", "listeners and their addresses; ?format=json"),
    ("/config_dump", "the configuration in force"),
    (
        "/status",
        "how it stands with the control plane: what it said last, what was refused, what is waited for; ?format=json",
    ),
    ("/explain", "why a request goes where it goes; ?method=&url=&header=&from=, or ?id=X-REQUEST-ID"),
    ("/config/history", "versions of the documents that were in force"),
    ("/config/show", "the documents of ?version=N"),
    ("/config/rollback", "POST: put ?version=N in force again"),
    (
        "/config/apply",
        "POST: put the documents of a batch in force, all of them or none; ?dry-run says what that would do",
    ),
    ("/server_info", "version and state, and the processes that this one took over from, until they end"),
    ("/quitquitquit", "POST: finish what has begun and end"),
];

/// A batch is not larger: it is in memory whole.
const BATCH_BYTES_MAX: usize = 64 << 20;

async fn respond(admin: &Admin, mut request: Request<hyper::body::Incoming>) -> Response<Whole> {
    if !request.uri().path().starts_with("/config/") || request.method() != Method::POST {
        return answer(admin, &request).await;
    }
    // A page that somebody looks at in a browser may not change what is in force.
    if request.headers().contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "not from a browser\n");
    }
    if request.uri().path() != "/config/apply" {
        return answer(admin, &request).await;
    }
    let is_dry = Query::of(request.uri().query().unwrap_or("")).get("dry-run").is_some();
    let mut body = Vec::new();
    let incoming = request.body_mut();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *incoming).poll_frame(cx)).await
    {
        let Ok(frame) = frame else { return text(StatusCode::BAD_REQUEST, "the batch broke off\n") };
        body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if body.len() > BATCH_BYTES_MAX {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the batch is too large\n");
        }
    }
    match asking::of_batch(&body) {
        Some(files) => {
            let what = if is_dry { What::Try(files) } else { What::Apply(files) };
            asking::put(admin.desk.as_ref(), what).await
        }
        None => text(StatusCode::BAD_REQUEST, "a batch is {\"files\": [{\"name\": .., \"text\": ..}]}\n"),
    }
}

async fn answer(admin: &Admin, request: &Request<hyper::body::Incoming>) -> Response<Whole> {
    let query = Query::of(request.uri().query().unwrap_or(""));
    match (request.uri().path(), request.method()) {
        ("/quitquitquit", &Method::POST) => {
            admin.quit.notify_one();
            text(StatusCode::OK, "OK\n")
        }
        ("/quitquitquit", _) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            response
        }
        ("/surge/hold", method) => surge::hold(admin, method, &query),
        ("/cache/purge", method) => cache::purge(admin, method, &query).await,
        ("/sessions/revoke", method) => sessions::revoke(admin, method, &query).await,
        ("/config/rollback" | "/config/apply", method) if method != Method::POST => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            response
        }
        (path @ "/config/rollback", _) => match asking::question(path, &query) {
            Ok(what) => asking::put(admin.desk.as_ref(), what).await,
            Err(why) => text(StatusCode::BAD_REQUEST, why),
        },
        (_, method) if method != Method::GET && method != Method::HEAD => {
            text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use GET\n")
        }
        ("/status", _) => control_plane::page(admin, &query),
        ("/ready", _) if admin.is_ready() => text(StatusCode::OK, "LIVE\n"),
        ("/ready", _) => text(StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n"),
        ("/stats", _) => stats::page(admin, &query).await,
        ("/metrics" | "/stats/prometheus", _) => prometheus::page(admin).await,
        ("/clusters", _) => clusters::page(admin, &query),
        ("/mirrors", _) => mirrors::page(admin, &query).await,
        ("/cache", _) => cache::page(admin, &query),
        ("/surge", _) => surge::page(admin, &query),
        ("/gateway-api", _) => gateway_api::page(admin, &query),
        ("/sessions", _) => sessions::page(admin, &query),
        ("/proxies", _) => match &admin.control {
            Some(control) => json(&control.status()),
            None => {
                text(StatusCode::NOT_FOUND, "this is no control plane: 'naru up --xds', 'naru control'\n")
            }
        },
        ("/listeners", _) => listeners(admin, &query),
        ("/config_dump", _) => config_dump(admin),
        (path @ ("/config/history" | "/config/show" | "/explain"), _) => match asking::question(path, &query)
        {
            Ok(what) => asking::put(admin.desk.as_ref(), what).await,
            Err(why) => text(StatusCode::BAD_REQUEST, why),
        },
        ("/server_info", _) => server_info(admin),
        ("/", _) => index(admin),
        _ => text(StatusCode::NOT_FOUND, "invalid path. admin commands are listed at /\n"),
    }
}

/// Those that there are in this process.
fn index(admin: &Admin) -> Response<Whole> {
    let is_there = |path: &str| match path {
        "/proxies" => admin.control.is_some(),
        "/explain" => admin.desk.is_some(),
        path => !path.starts_with("/config/") || admin.desk.is_some(),
    };
    let pages = PAGES.iter().filter(|(path, _)| is_there(path));
    let lines: String = pages.map(|(path, what)| format!("{path:<16} {what}\n")).collect();
    text(StatusCode::OK, lines)
}

/// Where a listener listens, in words.
pub fn place_of(listener: &naru_spec::Listener, address: SocketAddr) -> String {
    path_of(listener).map_or_else(|| address.to_string(), str::to_owned)
}

fn path_of(listener: &naru_spec::Listener) -> Option<&str> {
    listener.pipe.as_ref().map(|pipe| pipe.path.as_str())
}

fn listeners(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let (snapshot, addresses) = (admin.proxy.snapshot(), admin.proxy.addresses());
    let listeners = snapshot.listeners.iter().zip(addresses);
    if query.get("format") == Some("json") {
        let statuses: Vec<_> = listeners
            .map(|(listener, address)| {
                serde_json::json!({
                    "name": listener.name,
                    "local_address": clusters::address_json(address, path_of(listener)),
                })
            })
            .collect();
        return json(&serde_json::json!({ "listener_statuses": statuses }));
    }
    text(
        StatusCode::OK,
        listeners
            .map(|(listener, address)| format!("{}::{}\n", listener.name, place_of(listener, address)))
            .collect::<String>(),
    )
}

fn config_dump(admin: &Admin) -> Response<Whole> {
    match (admin.recall.borrow())() {
        Some(config) => {
            let mut dump = naru_xds::config_dump(&config, admin.proxy.started());
            if let Some(discovery) = &admin.discovery {
                control_plane::tell_versions(discovery, &mut dump);
            }
            json(&dump)
        }
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "the configuration cannot be read again\n"),
    }
}

fn server_info(admin: &Admin) -> Response<Whole> {
    json(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": if admin.is_ready() { "LIVE" } else { "INITIALIZING" },
        "uptime_current_epoch": format!("{}s", admin.proxy.uptime().as_secs()),
        "predecessors": admin.predecessors.to_json(),
        "command_line_options": { "config_path": admin.file, "concurrency": admin.workers },
    }))
}

/// The parameters of a page.
pub struct Query<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    fn of(text: &'a str) -> Query<'a> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query { pairs: pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect() }
    }

    /// Each of those that stand there several times.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Whole> {
    page(status, "text/plain; charset=UTF-8", body.into())
}

pub fn json(value: &serde_json::Value) -> Response<Whole> {
    page(StatusCode::OK, "application/json", Bytes::from(format!("{value:#}\n")))
}

pub fn page(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Whole> {
    let mut response = Response::new(Whole(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A body that is all there.
pub struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
