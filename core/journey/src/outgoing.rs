//! What an upstream is sent, and what of its answer a client is given.
//!
//! The rewrites and header operations of the rule that took the request, and the headers that Envoy
//! adds of its own. All of it is precompiled; here it is only applied.

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use naru_base::Instant;
use naru_recover::deadline;
use naru_route::{CompiledAction, CompiledForward, CompiledHost, CompiledRule, Edits, Fill};
use naru_spec::{Http, ServerHeader};

use crate::edge::{self, X_FORWARDED_HOST, X_REQUEST_ID};
use crate::{Journey, Snapshot, upgrade};

const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const X_ENVOY_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// The rule that forwards a journey's request, with its action.
fn forwarding<'a>(
    snapshot: &'a Snapshot,
    journey: &Journey,
) -> Option<(&'a CompiledRule, &'a CompiledForward, u32)> {
    let (rule, matched) = journey.rule()?;
    let rule = snapshot.chain(journey.chain()).table.rule(rule);
    match &rule.action {
        CompiledAction::Forward(forward) => Some((rule, forward, matched)),
        CompiledAction::Redirect(_) | CompiledAction::Direct(_) => None,
    }
}

/// Tells an upstream how long it may take for an attempt that begins now.
#[inline]
pub fn tell_time(now: Instant, snapshot: &Snapshot, journey: &Journey, headers: &mut HeaderMap) {
    if let Some(time) = journey.time_for_upstream(now) {
        let says_envoy = !snapshot.chain(journey.chain()).http.suppress_envoy_headers;
        deadline::tell_upstream(headers, time, journey.is_grpc(), says_envoy);
    }
}

/// Brings a request that was received by [`edge::receive`] into the form for its upstream.
///
/// `endpoint_name` is the host name that the endpoint was found by, if it was. `fill` writes a
/// format's value for this request; see [`crate::record::fill_header`]. Returns whether the host or
/// the target may be another now.
#[inline]
pub fn request(
    now: Instant,
    snapshot: &Snapshot,
    journey: &Journey,
    headers: &mut HeaderMap,
    target: &mut PathAndQuery,
    endpoint_name: Option<&str>,
    fill: &mut Fill<'_>,
) -> bool {
    let Some((rule, forward, matched)) = forwarding(snapshot, journey) else { return false };
    let http = &snapshot.chain(journey.chain()).http;
    tell_time(now, snapshot, journey, headers);
    apply(&rule.edits(journey.choice()).request, headers, fill);
    let of_destination = forward.host_of(journey.choice());
    if let Some(host) = of_destination {
        headers.insert(header::HOST, host.clone());
    }
    if let Some(rewrite) = forward.host() {
        rewrite_host(rewrite, forward.append_x_forwarded_host, headers, endpoint_name, http);
    }
    if forward.has_target_rewrite() {
        rewrite_target(forward, headers, target, matched, http);
    }
    of_destination.is_some() || forward.host().is_some() || forward.has_target_rewrite()
}

/// Another endpoint is tried for a request that [`request`] was called for: where the rule puts the endpoint's name
/// into the host, it is this one now. Says whether it is.
pub fn rename(snapshot: &Snapshot, journey: &Journey, headers: &mut HeaderMap, endpoint_name: &str) -> bool {
    let forward = forwarding(snapshot, journey).map(|(_, forward, _)| forward);
    let Some(CompiledHost::Auto) = forward.and_then(CompiledForward::host) else { return false };
    match HeaderValue::from_str(endpoint_name) {
        Ok(name) if !name.is_empty() => {
            headers.insert(header::HOST, name) != headers.get(header::HOST).cloned()
        }
        _ => false,
    }
}

#[inline]
fn apply(edits: &Edits, headers: &mut HeaderMap, fill: &mut Fill<'_>) {
    if !edits.is_empty() {
        edits.apply(headers, fill);
    }
}

fn rewrite_target(
    forward: &CompiledForward,
    headers: &mut HeaderMap,
    target: &mut PathAndQuery,
    matched: u32,
    http: &Http,
) {
    let Some(rewritten) = forward.rewrite_target(target.path(), target.query(), matched) else { return };
    // A substitution may make what is no path; the request then goes on as it came.
    let Ok(rewritten) = PathAndQuery::try_from(rewritten) else { return };
    if !http.suppress_envoy_headers
        && let Ok(original) = HeaderValue::from_str(target.as_str())
    {
        headers.insert(X_ENVOY_ORIGINAL_PATH, original);
    }
    *target = rewritten;
}

fn rewrite_host(
    rewrite: &CompiledHost,
    append_forwarded: bool,
    headers: &mut HeaderMap,
    endpoint_name: Option<&str>,
    http: &Http,
) {
    let new = match rewrite {
        CompiledHost::Literal { value, .. } => Some(value.clone()),
        CompiledHost::Auto => endpoint_name.and_then(|name| HeaderValue::from_str(name).ok()),
        CompiledHost::Header(name) => headers.get(name).filter(|value| !value.is_empty()).cloned(),
    };
    let Some(new) = new else { return };
    let Some(old) = headers.insert(header::HOST, new) else { return };
    if append_forwarded {
        headers.append(X_FORWARDED_HOST, old.clone());
    }
    if !http.suppress_envoy_headers {
        headers.insert(X_ENVOY_ORIGINAL_HOST, old);
    }
}

/// Brings the head of an upstream's response into the form for the client. `sent` is when the
/// request was first sent.
#[inline]
pub fn response(
    snapshot: &Snapshot,
    journey: &Journey,
    headers: &mut HeaderMap,
    sent: Instant,
    now: Instant,
    stamp: Stamp<'_>,
    fill: &mut Fill<'_>,
) {
    let http = &snapshot.chain(journey.chain()).http;
    if journey.is_upgraded() {
        upgrade::keep_in_response(headers);
    } else {
        edge::remove_response_hop_by_hop(headers);
    }
    if !http.suppress_envoy_headers {
        headers.insert(X_ENVOY_SERVICE_TIME, HeaderValue::from(now.since(sent).as_millis() as u64));
    }
    journey.tell_fallback(snapshot, headers);
    journey.tell_gate(snapshot, None, headers);
    if let Some((rule, _, _)) = forwarding(snapshot, journey) {
        apply(&rule.edits(journey.choice()).response, headers, fill);
    }
    journey.tell_caller(headers);
    finish_response(http, headers, stamp);
}

/// Brings the head of an answer that was kept into the form for the client.
pub fn kept(
    snapshot: &Snapshot,
    journey: &Journey,
    headers: &mut HeaderMap,
    stamp: Stamp<'_>,
    fill: &mut Fill<'_>,
) {
    journey.tell_fallback(snapshot, headers);
    journey.tell_gate(snapshot, None, headers);
    if let Some((rule, _, _)) = forwarding(snapshot, journey) {
        apply(&rule.edits(journey.choice()).response, headers, fill);
    }
    journey.tell_caller(headers);
    finish_response(&snapshot.chain(journey.chain()).http, headers, stamp);
}

/// What a response is given on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Where responses must carry it.
    pub request_id: Option<&'a HeaderValue>,
    /// For responses without one (RFC 9110, section 6.6.1).
    pub date: &'a HeaderValue,
}

/// What every response carries, an upstream's or the proxy's own.
#[inline]
pub fn finish_response(http: &Http, headers: &mut HeaderMap, stamp: Stamp<'_>) {
    if let Entry::Vacant(vacant) = headers.entry(header::DATE) {
        vacant.insert(stamp.date.clone());
    }
    match http.server_header {
        ServerHeader::Overwrite => insert_server(http, headers),
        ServerHeader::AppendIfAbsent if !headers.contains_key(header::SERVER) => insert_server(http, headers),
        ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
    }
    if http.always_set_request_id_in_response
        && let Some(id) = stamp.request_id
    {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    if !http.via.is_empty() {
        edge::append_via(headers, &http.via);
    }
}

#[inline]
fn insert_server(http: &Http, headers: &mut HeaderMap) {
    // The default is a static value; only a name of the user's own is copied.
    let value = if http.server_name == naru_spec::defaults::SERVER_NAME {
        HeaderValue::from_static(naru_spec::defaults::SERVER_NAME)
    } else {
        match HeaderValue::from_str(&http.server_name) {
            Ok(value) => value,
            Err(_) => return,
        }
    };
    headers.insert(header::SERVER, value);
}
