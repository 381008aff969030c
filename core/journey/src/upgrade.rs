//! How is a change of protocol asked for and granted, in each version of HTTP?
//!
//! In HTTP/1.1 by `Connection: upgrade` and `Upgrade` (RFC 9110, section 7.8), granted by 101; in HTTP/2 by an extended
//! CONNECT (RFC 8441), granted by 200. Here the form of HTTP/1.1 is the one that everything behind works on, as in Envoy
//! (`Utility::transformUpgradeRequestFromH2toH1` and its three relatives): a codec of HTTP/2 turns a request into it
//! before [`crate::arrival::receive`], and turns what goes out back. Whether it may be is the journey's to say.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use naru_route::{CompiledAction, Table};
use naru_spec::{Http, Upgrades};

use crate::edge::remove_response_hop_by_hop;

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// A client of HTTP/2 asks by an extended CONNECT for `protocol`: the method that it stands for.
pub fn from_extended_connect(protocol: &HeaderValue, headers: &mut HeaderMap) -> Method {
    headers.insert(header::UPGRADE, protocol.clone());
    headers.insert(header::CONNECTION, UPGRADE);
    Method::GET
}

/// Its upstream speaks HTTP/2: the protocol that an extended CONNECT is sent for, in place of the method.
pub fn to_extended_connect(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.remove(header::UPGRADE)?;
    strip(headers);
    Some(protocol)
}

/// What an upstream of HTTP/2 says to an extended CONNECT for `protocol`, as HTTP/1.1 says it.
pub fn granted_by_http2(status: StatusCode, protocol: &HeaderValue, headers: &mut HeaderMap) -> StatusCode {
    if status != StatusCode::OK {
        return status;
    }
    headers.insert(header::UPGRADE, protocol.clone());
    headers.insert(header::CONNECTION, UPGRADE);
    StatusCode::SWITCHING_PROTOCOLS
}

/// The answer to an extended CONNECT of a client.
pub fn grant_by_http2(status: StatusCode, headers: &mut HeaderMap) -> StatusCode {
    headers.remove(header::UPGRADE);
    strip(headers);
    if status == StatusCode::SWITCHING_PROTOCOLS { StatusCode::OK } else { status }
}

/// A message that leads into another protocol has no length, and HTTP/2 no connection to speak of.
fn strip(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    if headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0") {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Nobody has asked.
pub(crate) fn forget(headers: &mut HeaderMap) {
    headers.remove(header::UPGRADE);
    headers.remove(header::CONNECTION);
}

/// What a request asks to change to.
pub fn name(is_connect: bool, headers: &HeaderMap) -> Option<&[u8]> {
    if is_connect { Some(b"connect") } else { headers.get(header::UPGRADE).map(HeaderValue::as_bytes) }
}

/// Whether a request may change to what has this name. What its route says goes before what its
/// listener says; the whole value counts, as in Envoy: a list is a name that nobody knows.
pub fn may_be(http: &Http, action: Option<&CompiledAction>, name: &[u8]) -> bool {
    let none = Upgrades::default();
    let of_route = match action {
        Some(CompiledAction::Forward(forward)) => forward.upgrades.as_deref().unwrap_or(&none),
        Some(CompiledAction::Redirect(_) | CompiledAction::Direct(_)) | None => &none,
    };
    Upgrades::allow(&http.upgrades, of_route, name)
}

/// Whether there is any change of protocol that some request may ask for.
pub fn has_any(http: &Http, table: &Table) -> bool {
    let allows = |upgrades: &Upgrades| upgrades.iter().any(|(_, is_allowed)| is_allowed);
    allows(&http.upgrades)
        || table.rules().any(|(_, rule)| match &rule.action {
            CompiledAction::Forward(forward) => forward.upgrades.as_deref().is_some_and(allows),
            CompiledAction::Redirect(_) | CompiledAction::Direct(_) => false,
        })
}

/// Takes the headers of one hop out of the answer that changes the protocol, but for those that say so.
#[cold]
pub(crate) fn keep_in_response(headers: &mut HeaderMap) {
    let protocol = headers.get(header::UPGRADE).cloned();
    remove_response_hop_by_hop(headers);
    keep(protocol, headers);
}

/// The headers of one hop were taken out of a message whose connection changes its protocol to this: these two stay.
pub(crate) fn keep(protocol: Option<HeaderValue>, headers: &mut HeaderMap) {
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, UPGRADE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_in_one_version_is_asked_for_in_the_other() {
        let mut headers = HeaderMap::new();
        let websocket = HeaderValue::from_static("websocket");
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        let asked = headers.clone();
        assert_eq!(from_extended_connect(&websocket, &mut headers), Method::GET);
        assert_eq!((&headers["upgrade"], &headers["connection"]), (&"websocket".parse().unwrap(), &UPGRADE));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        assert_eq!(to_extended_connect(&mut headers).unwrap(), "websocket");
        assert_eq!(headers, asked);
        assert_eq!(to_extended_connect(&mut headers), None);
    }

    #[test]
    fn what_is_granted_in_one_version_is_granted_in_the_other() {
        let websocket = HeaderValue::from_static("websocket");
        let mut headers = HeaderMap::new();
        let refused = granted_by_http2(StatusCode::FORBIDDEN, &websocket, &mut headers);
        assert_eq!((refused, headers.len()), (StatusCode::FORBIDDEN, 0));
        let granted = granted_by_http2(StatusCode::OK, &websocket, &mut headers);
        assert_eq!((granted, headers.len()), (StatusCode::SWITCHING_PROTOCOLS, 2));
        assert_eq!(grant_by_http2(granted, &mut headers), StatusCode::OK);
        assert!(headers.is_empty());
        assert_eq!(grant_by_http2(StatusCode::FORBIDDEN, &mut headers), StatusCode::FORBIDDEN);
    }
}
