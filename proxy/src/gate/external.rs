//! Somebody else is asked whether a request may pass, by HTTP or by gRPC.
//!
//! What they are told and what they mean is decided in `naru_identity::external`; here it is carried over a connection
//! of their cluster. gRPC that says no 200, no status 0 or no message of its kind has said nothing.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode};
use naru_authz::{Party, Question};
use naru_base::{ClusterId, Instant};
use naru_identity::external::Judgement;
use naru_journey::edge;
use naru_journey::gate::external::Asking;
use naru_spec::{ExternalGrpc, ExternalService};

use super::exchange::{Heard, Inquiry, exchange};
use crate::accept::Connection;
use crate::loaded::Loaded;
use crate::settle::grpc_status;
use crate::worker::Worker;

const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Where a request stands of which somebody is asked.
#[derive(Debug)]
pub struct About {
    pub connection: Rc<Connection>,
    pub began: Instant,
}

/// What they say. `None` where they say nothing.
pub async fn judge(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    about: &About,
    asking: Box<Asking>,
) -> Option<Judgement> {
    let settings = asking.of.settings();
    let cluster = find(loaded, settings.cluster())?;
    let is_tls = loaded.snapshot.cluster(cluster).tls.is_some();
    let inquiry = match &settings.service {
        ExternalService::Http(_) => by_http(&asking, is_tls)?,
        ExternalService::Grpc(grpc) => by_grpc(worker, about, &asking, grpc, is_tls)?,
    };
    let heard = exchange(worker, loaded, cluster, &inquiry).await?;
    if inquiry.is_grpc {
        let said = naru_authz::answer(&said_by_grpc(&heard)?).ok()?;
        return Some(asking.of.judge_grpc(said));
    }
    Some(asking.of.judge_http(heard.status.as_u16(), &heard.headers, heard.body))
}

pub(super) fn find(loaded: &Loaded, name: &str) -> Option<ClusterId> {
    loaded.cluster_ids().find(|id| loaded.snapshot.cluster(*id).name == name)
}

/// The message of a call that went well.
pub(super) fn said_by_grpc(heard: &Heard) -> Option<Bytes> {
    let status = heard.trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&heard.headers));
    (heard.status == StatusCode::OK && status == Some(0)).then(|| heard.body.clone())
}

pub(super) fn target(authority: &str, path: &str, is_tls: bool) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(authority).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// With the method, the path and the authority of the request itself.
fn by_http(asking: &Asking, is_tls: bool) -> Option<Inquiry> {
    let settings = asking.of.settings();
    let mut head = Request::new(());
    *head.method_mut() = asking.method.clone();
    *head.uri_mut() = target(&asking.authority, &asking.asked_path, is_tls)?;
    let headers = head.headers_mut();
    put(headers, &asking.shown.headers);
    let body = asking.shown.body.clone().unwrap_or_default();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    // As of whatever naru asks by itself.
    headers.insert(edge::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    let timeout = u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX);
    headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(timeout));
    Some(Inquiry { head, body, is_grpc: false, timeout: settings.timeout })
}

fn put(headers: &mut HeaderMap, told: &[(Box<str>, Bytes)]) {
    for (name, value) in told {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(&**name), HeaderValue::from_maybe_shared(value.clone()))
        {
            headers.append(name, value);
        }
    }
}

fn by_grpc(
    worker: &Worker,
    about: &About,
    asking: &Asking,
    grpc: &ExternalGrpc,
    is_tls: bool,
) -> Option<Inquiry> {
    let settings = asking.of.settings();
    let connection = &about.connection;
    let peer = &connection.peer;
    let certificate = connection.certified.as_ref().filter(|_| settings.tells_certificate);
    let certificate = certificate.map(|certified| certified.certificate()).unwrap_or_default();
    let id = asking.id.to_string();
    let question = Question {
        source: Party {
            address: peer.remote,
            service: asking.service.as_deref().unwrap_or(""),
            principal: asking.principal.as_deref().unwrap_or(""),
            certificate: &certificate,
        },
        destination: Party { address: peer.local, service: "", principal: "", certificate: "" },
        time_ns: worker.clock.wall(about.began).0,
        id: &id,
        method: asking.method.as_str(),
        path: &asking.path,
        host: &asking.authority,
        scheme: asking.scheme,
        protocol: asking.protocol,
        size: asking.size,
        headers: &asking.shown.headers,
        is_raw: settings.raw_headers,
        body: asking.shown.body.as_deref(),
        is_raw_body: settings.body.is_some_and(|body| body.is_raw),
        context: &settings.context,
        server_name: asking.server_name.as_deref(),
        claims: &asking.claims,
    };
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    let authority = if grpc.authority.is_empty() { &grpc.cluster } else { &grpc.authority };
    // A cluster may be called what no host is.
    let uri = target(authority, naru_authz::PATH, is_tls);
    *head.uri_mut() = uri.or_else(|| target("ext-authz", naru_authz::PATH, is_tls))?;
    let headers = head.headers_mut();
    for (name, value) in &grpc.metadata {
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    // gRPC over HTTP/2, `Timeout`: at most eight digits.
    let timeout = settings.timeout.as_millis().min(99_999_999);
    headers.insert("grpc-timeout", HeaderValue::from_str(&format!("{timeout}m")).ok()?);
    let body = naru_authz::question(&question);
    Some(Inquiry { head, body, is_grpc: true, timeout: settings.timeout })
}
