//! A rate limit service is asked by gRPC, over a connection of its cluster.
//!
//! An answer that is no 200, has another status than 0 or is no message of its kind is none.

use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::{Method, Request};
use naru_admit::described::ServiceAnswer;
use naru_journey::gate::rate_service::RateAsking;

use super::exchange::{Inquiry, exchange};
use super::external::{find, said_by_grpc, target};
use crate::loaded::Loaded;
use crate::worker::Worker;

/// What it says. `None` where it says nothing.
pub async fn ask(worker: &Rc<Worker>, loaded: &Rc<Loaded>, asking: &RateAsking) -> Option<ServiceAnswer> {
    let settings = &asking.of;
    let cluster = find(loaded, &settings.service.cluster)?;
    let is_tls = loaded.snapshot.cluster(cluster).tls.is_some();
    let inquiry = inquiry(asking, is_tls)?;
    let heard = exchange(worker, loaded, cluster, &inquiry).await?;
    naru_authz::limited(&said_by_grpc(&heard)?).ok()
}

fn inquiry(asking: &RateAsking, is_tls: bool) -> Option<Inquiry> {
    let service = &asking.of.service;
    let authority = if service.authority.is_empty() { &service.cluster } else { &service.authority };
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    // A cluster may be called what no host is.
    let uri = target(authority, naru_authz::LIMITS_PATH, is_tls);
    *head.uri_mut() = uri.or_else(|| target("rate-limits", naru_authz::LIMITS_PATH, is_tls))?;
    let headers = head.headers_mut();
    for (name, value) in &service.metadata {
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if asking.of.timeout.is_some() {
        // gRPC over HTTP/2, `Timeout`: at most eight digits.
        let timeout = asking.timeout.as_millis().min(99_999_999);
        headers.insert("grpc-timeout", HeaderValue::from_str(&format!("{timeout}m")).ok()?);
    }
    let body = naru_authz::limits(&asking.of.domain, &asking.descriptors);
    Some(Inquiry { head, body, is_grpc: true, timeout: asking.timeout })
}
